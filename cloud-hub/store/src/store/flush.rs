//! A flush: cut the log, seal what was decoded before the cut, commit, let the log go.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak, mpsc};
use std::time::Duration;

use super::Inner;
use super::threads::Command;
use crate::batches::Batches;
use crate::config::StoreError;
use crate::hot::{Hot, SeriesId};
use crate::log::{Checkpoint, lock};
use crate::manifest::{Change, FileEntry, HoldingEntry, SeriesRows, write_series};
use crate::metrics::add;
use crate::parts::{Part, holdings, parts};
use crate::retention::EARLIEST_NS;
use crate::segment::Level;
use crate::snapshot;
use crate::tables::{Shared, read, write};

/// All that the log held before a cut.
#[derive(Debug)]
pub struct Cut {
    /// Where the log goes on.
    pub checkpoint: Checkpoint,
    /// The rows of what was stored since the cut before.
    pub hot: Arc<Hot>,
    /// Whether what the decoder refused of it is in the log.
    pub settled: bool,
    /// Its files and their numbers, once it has some: an attempt after one that failed takes the same, so that one whose
    /// commit was durable all the same is overwritten and not doubled.
    pub parts: Vec<(u64, Part)>,
}

impl Inner {
    /// Returns when all that was acknowledged before is decoded, and refusals are in the log.
    pub(super) fn barrier(&self) -> Result<(), StoreError> {
        // The second round carries out the refusals that the first one brought to light.
        self.urge(|reply| Command::Barrier { reply })?;
        self.urge(|reply| Command::Barrier { reply })
    }

    /// Has the writer do something before the runs that wait for it.
    pub(super) fn urge<T>(
        &self,
        command: impl FnOnce(mpsc::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = mpsc::channel();
        self.urgent.send(command(reply)).map_err(|_| StoreError::Closed)?;
        self.commands.send(Command::Wake).map_err(|_| StoreError::Closed)?;
        answer.recv().map_err(|_| StoreError::Closed)?
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut unfinished = lock(&self.unfinished);
        if unfinished.is_none() {
            *unfinished = Some(self.urge(|reply| Command::Cut { reply })?);
        }
        // It stays there until it is committed, whatever fails or panics before.
        let Some(cut) = unfinished.as_mut() else { return Ok(()) };
        if !cut.settled {
            // A refusal of a run before the cut must be in the log after it, or else the run would
            // count as stored once its segment is gone.
            self.barrier()?;
            cut.settled = true;
            self.shared.set_sealing(true);
        }
        self.seal(cut)?;
        let oldest_segment = cut.checkpoint.oldest_segment;
        *unfinished = None;
        self.shared.set_sealing(false);
        {
            // Who waits for a flush looks at the counter under this lock.
            let _state = lock(&self.shared.signal.state);
            add(&self.shared.counters.flushes, 1);
        }
        self.shared.signal.changed.notify_all();
        let _ = self.commands.send(Command::Trim { oldest_segment });
        Ok(())
    }

    pub(super) fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        // A flush would remove the segments of the log that the manifest names.
        let _no_flush = lock(&self.unfinished);
        let end = self.urge(|reply| Command::End { reply })?;
        snapshot::take(
            (self.shared.files.as_ref(), &self.shared.dir),
            to,
            &self.manifest,
            &self.manifest.read()?,
            Some(end),
        )
    }

    fn seal(&self, cut: &mut Cut) -> Result<(), StoreError> {
        let files = if cut.hot.rows() == 0 { Vec::new() } else { self.write_files(cut)? };
        let mut ids = read(&self.shared.registry).unwritten().to_vec();
        let unwritten = ids.len();
        ids.extend(cut.hot.series());
        ids.sort_unstable();
        ids.dedup();
        // A row at a time, so that nobody waits for the registry while a million of them are written.
        let row = |id: SeriesId, out: &mut Vec<u8>| {
            let mut stats = read(&self.shared.tables).sealed_stats.series(id);
            stats.merge(&cut.hot.stats(id));
            let (registry, row) = (read(&self.shared.registry), (&stats, self.shared.revised.has(id)));
            registry.names().text(id).map_or(Ok(()), |text| write_series(&text, row, out))
        };
        self.manifest.commit(&Change {
            checkpoint: Some(&cut.checkpoint),
            series: Some(&SeriesRows { ids: &ids, write: &row }),
            added: &files,
            ..Change::default()
        })?;
        write(&self.shared.registry).written(unwritten);
        let mut tables = write(&self.shared.tables);
        tables.replace(files, &[]);
        for id in cut.hot.series() {
            tables.sealed_stats.merge(id, &cut.hot.stats(id));
        }
        tables.flushing = None;
        self.shared.weigh(&tables);
        Ok(())
    }

    /// What goes into which file.
    fn parts(&self, hot: &Hot) -> Vec<Part> {
        let Shared { retention, keeps, registry, .. } = self.shared.as_ref();
        if !retention.by_profile || keeps.is_empty() {
            return vec![Part::default()];
        }
        // One at a time, so that nobody waits for the registry meanwhile.
        let keep_of = |id: SeriesId| {
            let registry = read(registry);
            registry.names().text(id).map(|text| keeps.of(text.device, text.point)).unwrap_or_default()
        };
        parts(hot, keep_of)
    }

    fn write_files(&self, cut: &mut Cut) -> Result<Vec<FileEntry>, StoreError> {
        if cut.parts.is_empty() {
            let parts = self.parts(&cut.hot);
            let mut tables = write(&self.shared.tables);
            cut.parts = parts.into_iter().map(|part| (tables.number(), part)).collect();
        }
        // What was refused after the cut is in no file.
        let all: Vec<HoldingEntry> =
            lock(&self.shared.ledgers).cut_holdings().iter().map(Into::into).collect();
        let held = holdings(&cut.hot, &all, &cut.parts);
        let parts = cut.parts.iter().zip(held);
        parts.map(|((number, part), held)| self.write_file(*number, (&cut.hot, part), held)).collect()
    }

    fn write_file(
        &self,
        number: u64,
        (hot, part): (&Hot, &Part),
        holdings: Vec<HoldingEntry>,
    ) -> Result<FileEntry, StoreError> {
        let target = self.shared.target(number);
        let batches = Batches::new(&holdings);
        let write = || {
            let written = self.format.write((hot, part), &batches, &target)?;
            target.put_in_place(self.shared.files.as_ref(), Level::Raw)?;
            self.shared.files.sync_dir(&self.shared.dir.join("sealed"))?;
            Ok(written)
        };
        let written = catch_unwind(AssertUnwindSafe(write));
        let written = written.map_err(|_| StoreError::Sealed("the codec panicked".to_owned()))?;
        let written = written.map_err(StoreError::io("writing a sealed file"))?;
        let clock = &self.shared.clock;
        let sealed_ns = Some(clock.wall_ns()).filter(|now| clock.is_believed() && *now >= EARLIEST_NS);
        Ok(FileEntry::new(number, written, number, sealed_ns, holdings).keeping(part.keep))
    }
}

/// How soon a flush that failed is tried again, unless the interval is shorter.
const RETRY: Duration = Duration::from_secs(1);

/// Flushes when the hot columns are full, and after `interval` at the latest.
pub fn run_flusher(shared: &Arc<Shared>, inner: &Weak<Inner>, interval: Duration) {
    let mut flushed_at = u64::MAX;
    let mut failed = false;
    loop {
        {
            let state = lock(&shared.signal.state);
            let pause = if failed { interval.min(RETRY) } else { interval };
            let wait =
                shared.signal.changed.wait_timeout_while(state, pause, |s| !s.stop && (failed || !s.full));
            let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if state.stop {
                return;
            }
            state.full = false;
        }
        let written = shared.counters.log_bytes.load(Ordering::Relaxed);
        let Some(inner) = inner.upgrade() else { return };
        let idle = written == flushed_at && read(&shared.tables).active.rows() == 0;
        if idle || shared.counters.poisoned.load(Ordering::Relaxed) {
            continue;
        }
        let flushed = inner.flush();
        failed = flushed.is_err();
        *lock(&shared.flush_error) = flushed.as_ref().err().map(ToString::to_string);
        match flushed {
            Ok(()) => {
                flushed_at = written;
                // They may have filled up again meanwhile, and the decoder may wait for room.
                let full = read(&shared.tables).active.weight() >= shared.hot_rows_max;
                lock(&shared.signal.state).full |= full;
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                add(&shared.counters.flush_failures, 1);
                tracing::error!(%error, "a flush failed; it will be tried again");
            }
        }
    }
}
