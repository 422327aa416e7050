//! Compaction: files that stand beside each other in the order of arrival become one, so that there are few of
//! them however the readings came, and series stand together.
//!
//! A file is merged with others of its size only, so that a reading is written again once for each power of
//! [`FANOUT`] at most. The new file is written beside the old ones, under a number that the manifest has noted as
//! one to be removed; one commit then lists it and notes theirs. So a kill leaves files that the next start
//! removes, and nothing else. What was replaced is removed when nobody reads it any more: that is looked at after
//! each compaction and each flush.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::Inner;
use crate::batches::Batches;
use crate::blocks::SealedFile;
use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::files::FileSystem;
use crate::log::lock;
use crate::manifest::{Change, FileEntry, HoldingEntry, SeriesRows, gathered};
use crate::metrics::add;
use crate::retention::{Retention, Watch};
use crate::segment::merge::{Piece, merge};
use crate::segment::{BLOCK_ROWS, Level};
use crate::tables::{Shared, Unsettled, read, sealed_paths, write};

/// Files of one size that stay beside each other.
const FANOUT: usize = 4;
/// Rows of a file that is merged with no other.
const ROWS_MAX: u64 = 64 * 1024 * 1024;
/// Rows below which sizes do not count.
const SMALL_ROWS: u64 = 64 * BLOCK_ROWS as u64;
/// Bytes of rollups that count as one reading.
const ROLL_BYTES: u64 = 8;
/// Files of one size from which on they are merged however far apart their times are.
pub(super) const CROWD: usize = 16 * FANOUT;
/// How often retention is looked at.
const PAUSE: Duration = Duration::from_secs(20);
/// How often retention alone is looked at after a merge that failed, before that is tried again: for five minutes. A disk
/// that was full for the merge gets its room from retention meanwhile.
const RESTS: u32 = 15;

/// The size class of a file.
const fn class(rows: u64) -> u32 {
    let (mut class, mut limit) = (0, SMALL_ROWS);
    while rows >= limit {
        class += 1;
        limit = limit.saturating_mul(FANOUT as u64);
    }
    class
}

/// What a file counts for: its readings, or what takes as many bytes of rollups.
fn weight(file: &FileEntry) -> u64 {
    if file.is_whole() { file.rows } else { file.rollup.0 / ROLL_BYTES }
}

/// The next files that should become one, of all in their order: those of one size that are enough, the
/// smallest first, and smaller ones between them. Only such are merged of which the same levels are left.
pub fn plan<'a>(files: &'a [Arc<FileEntry>], retention: &Retention) -> Option<&'a [Arc<FileEntry>]> {
    let runs = (0..=class(ROWS_MAX)).flat_map(|of| {
        let alike = files.chunk_by(|a, b| a.finest == b.finest);
        let runs = alike.flat_map(move |alike| {
            alike.chunk_by(move |a, b| class(weight(a)) <= of && class(weight(b)) <= of)
        });
        runs.map(move |run| (of, run))
    });
    runs.into_iter().find_map(|(of, run)| bounded(run, of, retention))
}

/// As many of them as one file may grow to: the first that are enough.
fn bounded<'a>(run: &'a [Arc<FileEntry>], of: u32, retention: &Retention) -> Option<&'a [Arc<FileEntry>]> {
    let sized = |files: &[Arc<FileEntry>]| files.iter().filter(|file| class(weight(file)) == of).count();
    let all = sized(run);
    if all < FANOUT {
        return None;
    }
    let bounds = run.first().map(|file| retention.bounds(file.keep(), file.finest))?;
    // Where late readings stand in every file none would ever be merged.
    let span_max = if all < CROWD { bounds.span_ns } else { u64::MAX };
    (0..run.len()).find_map(|from| {
        let rest = run.get(from..)?;
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        let (mut first_ns, mut last_ns) = (i64::MAX, i64::MIN);
        let (mut len, mut full) = (0, false);
        for file in rest {
            rows = rows.saturating_add(weight(file));
            bytes = bytes.saturating_add(file.bytes());
            (first_ns, last_ns) = (first_ns.min(file.first_ns), last_ns.max(file.last_ns));
            full = rows > ROWS_MAX || bytes > bounds.bytes;
            if full || last_ns.abs_diff(first_ns) > span_max {
                break;
            }
            len += 1;
        }
        let found = rest.get(..len)?;
        let enough = sized(found) >= FANOUT || (full && from == 0);
        (found.len() > 1 && enough).then_some(found)
    })
}

impl Inner {
    /// Makes one file of several; says whether there were any to make one of.
    pub(super) fn compact(&self) -> Result<bool, StoreError> {
        self.settled()?;
        let files = Arc::clone(&read(&self.shared.tables).files);
        let Some(inputs) = self.planned(&files)? else { return Ok(false) };
        let done = self.exchange(&inputs, &[], |number| self.merge(number, &inputs))?;
        add(&self.shared.counters.compactions, u64::from(done));
        Ok(true)
    }

    /// Has one file written and listed in the place of others, whose readings are `frozen` where it has none; says
    /// whether it was. It has to have as many readings, or to be what is left of them.
    pub(super) fn exchange(
        &self,
        inputs: &[Arc<FileEntry>],
        frozen: &[ColdEntry],
        make: impl FnOnce(u64) -> Result<FileEntry, StoreError>,
    ) -> Result<bool, StoreError> {
        let number = write(&self.shared.tables).number();
        self.manifest.note_gone(&[number])?;
        let made = make(number);
        let Ok(entry) = made else {
            // What was written of it must not stay: a full disk would be fuller with each attempt.
            self.remove_files(&[number])?;
            return made.map(|_| false);
        };
        let target = self.shared.target(number);
        // No flush and no mending meanwhile: both move the manifest on.
        let _no_flush = lock(&self.unfinished);
        let (rows, held) = (entry.rows, inputs.iter().map(|file| file.rows).sum::<u64>());
        let listed = Arc::clone(&read(&self.shared.tables).files);
        let still = |input: &&Arc<FileEntry>| listed.iter().any(|file| file.number == input.number);
        if !inputs.iter().all(|input| still(&input)) {
            // One was lost meanwhile; what it held must come again, and not from here.
            self.remove_files(&[number])?;
            return Ok(false);
        }
        if rows != held {
            self.remove_files(&[number])?;
            return Err(StoreError::Sealed(format!(
                "{held} rows were merged and {rows} written; nothing was changed"
            )));
        }
        let place = || {
            target.put_in_place(self.shared.files.as_ref(), entry.finest)?;
            self.shared.files.sync_dir(&self.shared.dir.join("sealed"))?;
            self.place_cold(frozen)
        };
        if let Err(error) = place() {
            self.remove_files(&[number])?;
            return Err(StoreError::io("writing a sealed file")(error));
        }
        let gone = inputs.iter().filter(|_| !entry.is_whole()).flat_map(|file| &file.holdings);
        let expired = self.shared.with_expired(gone);
        self.list(None, (std::slice::from_ref(&entry), inputs), (&expired, frozen))?;
        Ok(true)
    }

    /// Commits that files take the place of others, which are removed when nobody reads them any more.
    pub(super) fn list(
        &self,
        series: Option<&SeriesRows<'_>>,
        (added, replaced): (&[FileEntry], &[Arc<FileEntry>]),
        (expired, frozen): (&[HoldingEntry], &[ColdEntry]),
    ) -> Result<(), StoreError> {
        let removed: Vec<u64> = replaced.iter().map(|file| file.number).collect();
        let change = Change { series, added, removed: &removed, expired, frozen, ..Change::default() };
        if let Err(error) = self.manifest.commit(&change) {
            *lock(&self.shared.unsettled) = Some(Unsettled {
                added: added.to_vec(),
                replaced: replaced.to_vec(),
                expired: expired.to_vec(),
                frozen: frozen.to_vec(),
            });
            return Err(error);
        }
        self.exchanged(added, replaced, (expired, frozen));
        Ok(())
    }

    /// Removes the files that were replaced and that nobody reads any more.
    pub(super) fn remove_replaced(&self) -> Result<(), StoreError> {
        self.remove_melted()?;
        let mut replaced = lock(&self.shared.replaced);
        let (unread, read): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *replaced).into_iter().partition(|file| Arc::strong_count(file) == 1);
        *replaced = read;
        drop(replaced);
        let numbers: Vec<u64> = unread.iter().map(|file| file.number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let removed = self.remove_files(&numbers);
        if removed.is_err() {
            lock(&self.shared.replaced).extend(unread);
        }
        removed
    }

    /// Removes files that the manifest notes as gone.
    pub(super) fn remove_files(&self, numbers: &[u64]) -> Result<(), StoreError> {
        for number in numbers {
            self.shared.blocks.forget(*number);
            lock(&self.shared.unchecked).remove(number);
            let removed = remove(self.shared.files.as_ref(), &self.shared.dir, *number);
            removed.map_err(StoreError::io("removing a sealed file"))?;
        }
        // What is forgotten must not come back with a power cut.
        let synced = self.shared.files.sync_dir(&self.shared.dir.join("sealed"));
        synced.map_err(StoreError::io("removing a sealed file"))?;
        self.manifest.forget_gone(numbers)
    }

    fn merge(&self, number: u64, inputs: &[Arc<FileEntry>]) -> Result<FileEntry, StoreError> {
        let order = inputs.iter().map(|file| file.order).min().unwrap_or(number);
        let sealed_ns = inputs.iter().map(|file| file.sealed_ns).max().flatten();
        let finest = inputs.iter().map(|file| file.finest).max().unwrap_or_default();
        let keep = inputs.first().map(|file| file.keep()).unwrap_or_default();
        if finest > Level::Raw {
            let written = self.thinned(number, inputs, finest)?;
            return Ok(FileEntry::thinned(number, written, order, sealed_ns, finest).keeping(keep));
        }
        let (shared, format) = (&self.shared, self.format.as_ref());
        let holdings: Vec<HoldingEntry> = gathered(inputs.iter().flat_map(|file| &file.holdings));
        let all = Batches::new(&holdings);
        let mut renumberings: Vec<_> =
            inputs.iter().map(|file| Batches::new(&file.holdings).renumbered(&all)).collect();
        let files = || inputs.iter().map(|file| SealedFile { shared, format, file: file.as_ref() });
        let directories = files().map(|file| file.directory()).collect::<Result<Vec<_>, _>>()?;
        let work = || {
            let target = self.shared.target(number);
            let mut writer = format.create(&target).map_err(StoreError::io("writing a sealed file"))?;
            merge(&directories, &mut writer, |at, block| {
                let Some(file) = inputs.get(at) else { return Err(StoreError::Closed) };
                let file = SealedFile { shared, format, file: file.as_ref() };
                let (rows, mut numbers) = file.block(block)?;
                if let Some(renumbering) = renumberings.get_mut(at) {
                    numbers.iter_mut().for_each(|number| *number = renumbering.number(*number));
                }
                self.goes_on()?;
                Ok(Piece { rows, numbers })
            })?;
            writer.finish().map_err(StoreError::io("writing a sealed file"))
        };
        let written = caught(work)?;
        Ok(FileEntry::new(number, written, order, sealed_ns, holdings).keeping(keep))
    }

    /// Whether the store is being closed.
    pub(super) fn goes_on(&self) -> Result<(), StoreError> {
        if lock(&self.shared.signal.state).stop { Err(StoreError::Closed) } else { Ok(()) }
    }
}

/// A codec that panics must cost the work and not the thread.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(StoreError::Sealed("the codec panicked".to_owned())))
}

/// Removes the files of a number, whole or not.
pub(super) fn remove(files: &dyn FileSystem, dir: &Path, number: u64) -> io::Result<()> {
    let (raw, rollup) = sealed_paths(dir, number);
    for path in [raw, rollup] {
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".tmp");
        for path in [path, unfinished.into()] {
            match files.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Which turns of the compactor leave merging alone: some after one that failed.
#[derive(Debug, Default)]
struct Rest(u32);

impl Rest {
    /// Whether there is nothing to do but to wait, however many flushes there are. A flush may have written what an
    /// exchange waits for.
    const fn holds_up(&self, is_settled: bool) -> bool {
        self.0 > 0 && is_settled
    }

    /// A turn ended, which merged or left it alone.
    const fn turned(&mut self, merges: bool, failed: bool) {
        self.0 = match (merges, failed) {
            (true, false) => 0,
            (true, true) => RESTS,
            (false, _) => self.0.saturating_sub(1),
        };
    }
}

/// Compacts after each flush, until nothing is left to be made fewer, and looks at retention.
pub(super) fn run_compactor(shared: &Arc<Shared>, inner: &Weak<Inner>) {
    let mut seen = u64::MAX;
    let mut rest = Rest::default();
    let mut watch = Watch::default();
    loop {
        {
            let state = lock(&shared.signal.state);
            let held_up = rest.holds_up(lock(&shared.unsettled).is_none());
            let rests = || shared.counters.flushes.load(Ordering::Relaxed) == seen;
            let wait =
                shared.signal.changed.wait_timeout_while(state, PAUSE, |s| !s.stop && (held_up || rests()));
            let state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if state.stop {
                return;
            }
        }
        seen = shared.counters.flushes.load(Ordering::Relaxed);
        let Some(inner) = inner.upgrade() else { return };
        let stopped = || lock(&shared.signal.state).stop;
        let merges = !rest.holds_up(lock(&shared.unsettled).is_none());
        let (mut done, mut more, mut failing) = (Ok(()), true, BTreeSet::new());
        while more && !stopped() {
            let (now, before) = (inner.now(&mut watch), failing.len());
            let retained = caught(|| inner.retain(now, &mut failing));
            // A file that cannot be given up keeps no other from it.
            more = matches!(retained, Ok(true)) || failing.len() > before;
            let mut ended = retained.map(drop);
            // What is removed need not be merged before.
            if !more && merges {
                let merged = caught(|| inner.mending(|| inner.compact()));
                more = matches!(merged, Ok(true));
                ended = ended.and(merged.map(drop));
            }
            // On a full disk the next step needs the room.
            let removed = inner.remove_replaced();
            done = done.and(ended).and(removed);
        }
        if merges || done.is_err() {
            *lock(&shared.merge_error) = done.as_ref().err().map(ToString::to_string);
        }
        rest.turned(merges, done.is_err());
        match done {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => {
                add(&shared.counters.compaction_failures, 1);
                tracing::error!(%error, "sealed files could not be made fewer; it will be tried again");
            }
        }
    }
}

#[cfg(test)]
mod rest_tests {
    use super::*;

    #[test]
    fn after_a_failed_merge_retention_goes_on_alone_for_five_minutes() {
        let mut rest = Rest::default();
        assert!(!rest.holds_up(true));
        rest.turned(true, true);
        for _ in 0..RESTS {
            assert!(rest.holds_up(true) && !rest.holds_up(false));
            rest.turned(false, false);
        }
        assert!(!rest.holds_up(true));
        assert_eq!(PAUSE * RESTS, Duration::from_secs(300));
        rest.turned(true, true);
        rest.turned(true, false);
        assert!(!rest.holds_up(true), "a flush let the exchange settle");
    }
}
