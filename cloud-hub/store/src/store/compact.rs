//! Compaction: files that stand beside each other in the order of arrival become one, so that there are few of
//! them however the readings came, and series stand together.
//!
//! A file is merged with others of its size only, so that a reading is written again once for each power of
//! [`FANOUT`] at most. The new file is written beside the old ones, under a number that the manifest has noted as
//! one to be removed; one commit then lists it and notes theirs. So a kill leaves files that the next start
//! removes, and nothing else. What was replaced is removed when nobody reads it any more: that is looked at after
//! each compaction and each flush.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::Inner;
use crate::batches::Batches;
use crate::blocks::SealedFile;
use crate::config::StoreError;
use crate::log::lock;
use crate::manifest::{Change, FileEntry, HoldingEntry, gathered};
use crate::metrics::add;
use crate::segment::BLOCK_ROWS;
use crate::segment::merge::{Piece, merge};
use crate::tables::{Shared, read, sealed_paths, write};

/// Files of one size that stay beside each other.
const FANOUT: usize = 4;
/// Rows of a file that is merged with no other.
const ROWS_MAX: u64 = 64 * 1024 * 1024;
/// Rows below which sizes do not count.
const SMALL_ROWS: u64 = 64 * BLOCK_ROWS as u64;
/// How soon a compaction that failed is tried again.
const RETRY: Duration = Duration::from_secs(300);

/// The size class of a file.
const fn class(rows: u64) -> u32 {
    let (mut class, mut limit) = (0, SMALL_ROWS);
    while rows >= limit {
        class += 1;
        limit = limit.saturating_mul(FANOUT as u64);
    }
    class
}

/// The next files that should become one, of all in their order: those of one size that are enough, the
/// smallest first, and smaller ones between them.
pub fn plan(files: &[Arc<FileEntry>]) -> Option<&[Arc<FileEntry>]> {
    let runs = (0..=class(ROWS_MAX)).flat_map(|of| {
        let runs = files.chunk_by(move |a, b| class(a.rows) <= of && class(b.rows) <= of);
        runs.filter(move |run| run.iter().filter(|file| class(file.rows) == of).count() >= FANOUT)
    });
    runs.map(bounded).find(|run| run.len() > 1)
}

/// As many of them as one file may have rows of.
fn bounded(run: &[Arc<FileEntry>]) -> &[Arc<FileEntry>] {
    let mut rows = 0;
    let len = run.iter().take_while(|file| {
        rows += file.rows;
        rows <= ROWS_MAX
    });
    run.get(..len.count()).unwrap_or(&[])
}

impl Inner {
    /// Makes one file of several; says whether there were any to make one of.
    pub(super) fn compact(&self) -> Result<bool, StoreError> {
        if self.shared.counters.compaction_stopped.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let files = Arc::clone(&read(&self.shared.tables).files);
        let Some(inputs) = plan(&files) else { return Ok(false) };
        let number = write(&self.shared.tables).number();
        self.manifest.note_gone(&[number])?;
        let merged = self.merge(number, inputs);
        let Ok(entry) = merged else {
            // What was written of it must not stay: a full disk would be fuller with each attempt.
            self.remove_files(&[number])?;
            return merged.map(|_| false);
        };
        let target = self.shared.target(number);
        // No flush and no mending meanwhile: both move the manifest on.
        let _no_flush = lock(&self.unfinished);
        let removed: Vec<u64> = inputs.iter().map(|file| file.number).collect();
        let (rows, held) = (entry.rows, inputs.iter().map(|file| file.rows).sum::<u64>());
        let listed = Arc::clone(&read(&self.shared.tables).files);
        let still = |input: &&Arc<FileEntry>| listed.iter().any(|file| file.number == input.number);
        if !inputs.iter().all(|input| still(&input)) {
            // One was lost meanwhile; what it held must come again, and not from here.
            self.remove_files(&[number])?;
            return Ok(true);
        }
        if rows != held {
            self.remove_files(&[number])?;
            return Err(StoreError::Sealed(format!(
                "{held} rows were merged and {rows} written; nothing was changed"
            )));
        }
        let place = || {
            target.put_in_place()?;
            File::open(self.shared.dir.join("sealed"))?.sync_all()
        };
        if let Err(error) = place() {
            self.remove_files(&[number])?;
            return Err(StoreError::io("writing a sealed file")(error));
        }
        let added = [entry];
        let change = Change { checkpoint: None, series: &[], added: &added, removed: &removed };
        if let Err(error) = self.manifest.commit(&change) {
            // It may be durable all the same: another file of the same readings would then double them.
            self.shared.counters.compaction_stopped.store(true, Ordering::Relaxed);
            return Err(error);
        }
        write(&self.shared.tables).replace(added, &removed);
        add(&self.shared.counters.compactions, 1);
        lock(&self.shared.replaced).extend(inputs.iter().map(Arc::clone));
        Ok(true)
    }

    /// Removes the files that were replaced and that nobody reads any more.
    pub(super) fn remove_replaced(&self) -> Result<(), StoreError> {
        let mut replaced = lock(&self.shared.replaced);
        let (unread, read): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *replaced).into_iter().partition(|file| Arc::strong_count(file) == 1);
        *replaced = read;
        drop(replaced);
        let numbers: Vec<u64> = unread.iter().map(|file| file.number).collect();
        if numbers.is_empty() { Ok(()) } else { self.remove_files(&numbers) }
    }

    /// Removes files that the manifest notes as gone.
    fn remove_files(&self, numbers: &[u64]) -> Result<(), StoreError> {
        for number in numbers {
            self.shared.blocks.forget(*number);
            lock(&self.shared.unchecked).remove(number);
            remove(&self.shared.dir, *number).map_err(StoreError::io("removing a sealed file"))?;
        }
        // What is forgotten must not come back with a power cut.
        let folder = File::open(self.shared.dir.join("sealed")).and_then(|folder| folder.sync_all());
        folder.map_err(StoreError::io("removing a sealed file"))?;
        self.manifest.forget_gone(numbers)
    }

    fn merge(&self, number: u64, inputs: &[Arc<FileEntry>]) -> Result<FileEntry, StoreError> {
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
                if lock(&shared.signal.state).stop {
                    return Err(StoreError::Closed);
                }
                Ok(Piece { rows, numbers })
            })?;
            writer.finish().map_err(StoreError::io("writing a sealed file"))
        };
        let written = catch_unwind(AssertUnwindSafe(work));
        let written = written.unwrap_or_else(|_| Err(StoreError::Sealed("the codec panicked".to_owned())))?;
        let order = inputs.iter().map(|file| file.order).min().unwrap_or(number);
        Ok(FileEntry::new(number, written, order, holdings))
    }
}

/// Removes the files of a number, whole or not.
pub(super) fn remove(dir: &std::path::Path, number: u64) -> std::io::Result<()> {
    let (raw, rollup) = sealed_paths(dir, number);
    for path in [raw, rollup] {
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".tmp");
        for path in [path, unfinished.into()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Compacts after each flush, until nothing is left to be made fewer.
pub(super) fn run_compactor(shared: &Arc<Shared>, inner: &Weak<Inner>) {
    let mut seen = u64::MAX;
    let mut failed = false;
    loop {
        {
            let state = lock(&shared.signal.state);
            let pause = if failed { RETRY } else { Duration::MAX };
            let rests = || shared.counters.flushes.load(Ordering::Relaxed) == seen;
            let wait =
                shared.signal.changed.wait_timeout_while(state, pause, |s| !s.stop && (failed || rests()));
            let state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if state.stop {
                return;
            }
        }
        seen = shared.counters.flushes.load(Ordering::Relaxed);
        let Some(inner) = inner.upgrade() else { return };
        let mut more = Ok(true);
        while matches!(more, Ok(true)) && !lock(&shared.signal.state).stop {
            let caught = catch_unwind(AssertUnwindSafe(|| inner.mending(|| inner.compact())));
            more = caught.unwrap_or_else(|_| Err(StoreError::Sealed("merging panicked".to_owned())));
        }
        let done = more.and_then(|_| inner.remove_replaced());
        *lock(&shared.merge_error) = done.as_ref().err().map(ToString::to_string);
        failed = match done {
            Ok(()) => false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                add(&shared.counters.compaction_failures, 1);
                tracing::error!(%error, "sealed files could not be made fewer; it will be tried again");
                true
            }
        };
    }
}
