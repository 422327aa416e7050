//! The handle of an open store, and the commands that its threads carry out.
//!
//! Four threads: the *writer* owns the log and answers when something is durable; the *decoder* takes durable runs in, in
//! log order; the *flusher* seals what is hot; the *reopener* has the writer reopen its log after a failed write. The writer
//! may wait for the decoder, and the decoder for a file being sealed; nothing waits the other way round.

mod ask;
mod classes;
mod compact;
pub(crate) mod damage;
mod definitions;
mod flush;
mod freeze;
mod health;
mod letters;
mod open;
mod reopen;
mod retain;
mod tail;
mod threads;
mod unkept;
mod unsettled;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tideline_protocol::durability::{Batch, Durable, Validated};
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{AgentId, Epoch, Gap, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::Clock;
use tideline_protocol::wire::{Digest, Report, Series, Settlement};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use crate::agreement;
use crate::buckets::Aggregate;
use crate::config::{StoreConfig, StoreError};
use crate::export::{self, ExportFormat, ExportPart};
use crate::hot::SeriesId;
use crate::log::{AgentState, EpochLedger, Opening, lock};
use crate::manifest::Manifest;
use crate::metrics::StoreMetrics;
use crate::query::{self, BucketAnswer, Figures, Parts, RawCursor, RawPage, Tier};
use crate::retention::Watch;
use crate::sealed::SealedFormat;
use crate::segment::{LEVELS, Level};
use crate::tables::{LiveBatch, SeriesMeta, Shared, TierUse, read};

use flush::Cut;
use threads::Command;

pub use freeze::ColdRows;
pub use health::{Check, CheckState, Health};
pub use letters::{DeadLetter, LetterState};
pub use tail::{LogEntry, LogPart, LogPlace, Tail};

/// Blocks that wait for the writer or for the disk, in KiB; the senders of others wait.
const QUEUE_KIB_MAX: u32 = 64 * 1024;

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Agents with a ledger.
    pub agents: usize,
    /// Series.
    pub series: usize,
    /// Sealed files that are listed and good.
    pub sealed_files: usize,
    /// Their rows.
    pub sealed_rows: u64,
    /// Log records that were read again.
    pub replayed_records: u64,
    /// Rows that they brought back into memory.
    pub replayed_rows: u64,
    /// What could not be trusted; the agents are asked for it again.
    pub quarantined: Vec<Quarantined>,
    /// How long the start took, ns.
    pub took_ns: u64,
}

/// A file, or a part of one, that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// An open store; clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    format: Arc<dyn SealedFormat>,
    manifest: Manifest,
    commands: mpsc::UnboundedSender<Command>,
    urgent: std::sync::mpsc::Sender<Command>,
    // Bounds the commands that wait; one is held from the call to its answer.
    room: Arc<Semaphore>,
    // Bounds the bytes of their blocks.
    room_kib: Semaphore,
    live: broadcast::Sender<Arc<LiveBatch>>,
    // A flush whose file could not be committed is tried again before anything else is cut.
    unfinished: Mutex<Option<Cut>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.shared.signal.state).stop = true;
        self.shared.signal.changed.notify_all();
    }
}

impl Store {
    /// Opens the store, or makes an empty one. What is damaged is put aside and reported.
    ///
    /// # Errors
    /// The folder cannot be used at all, or another process has it open.
    pub fn open(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<(Self, OpenReport), StoreError> {
        open::open_own(config, clock)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let _room = self.inner.room.acquire().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.inner.commands.send(command(reply)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// What to tell an agent that signs on.
    #[must_use]
    pub fn agent_state(&self, agent: &AgentId, epoch: Epoch) -> AgentState {
        lock(&self.inner.shared.ledgers).state(agent, epoch)
    }

    /// Adds dictionary entries durably; returns how many are known. Repeating them is harmless.
    /// A call that is cancelled may still take effect.
    ///
    /// # Errors
    /// The entries conflict or leave a hole, or the store takes no more.
    pub async fn define_series(
        &self,
        agent: AgentId,
        epoch: Epoch,
        series: Series,
    ) -> Result<u32, StoreError> {
        self.ask(|reply| Command::Define { agent, epoch, series, reply }).await
    }

    /// Says what is known of the epoch of a spool that signs on, and keeps its lives durably.
    /// A call that is cancelled may still take effect.
    ///
    /// # Errors
    /// The agent has too many epochs, or the store takes no more.
    pub async fn open_epoch(
        &self,
        agent: AgentId,
        epoch: Epoch,
        lives: Vec<Life>,
        moved: Option<Moved>,
    ) -> Result<Opening, StoreError> {
        self.ask(|reply| Command::Open { agent, epoch, lives, moved, reply }).await
    }

    /// Appends a run; returns when it is durable. Seqs that are settled already are left out.
    /// A call that is cancelled may still take effect.
    ///
    /// # Errors
    /// The store takes no more; nothing of the batch may be acknowledged.
    pub async fn append(&self, batch: Batch<Validated>) -> Result<Batch<Durable>, StoreError> {
        let kib = u32::try_from(batch.run().block.len() / 1024).unwrap_or(u32::MAX).clamp(1, QUEUE_KIB_MAX);
        let _room = self.inner.room_kib.acquire_many(kib).await.map_err(|_| StoreError::Closed)?;
        self.ask(|reply| Command::Append { batch, reply }).await
    }

    /// Records durably that the agent gave seqs up; returns what became of each of them. `life` is the newest of the
    /// spool that says so. A call that is cancelled may still take effect.
    ///
    /// # Errors
    /// Another copy of the spool signed on since, or the store takes no more.
    pub async fn record_gap(
        &self,
        agent: AgentId,
        epoch: Epoch,
        life: Option<u64>,
        gap: Gap,
    ) -> Result<Settlement, StoreError> {
        self.ask(|reply| Command::Gap { agent, epoch, life, gap, reply }).await
    }

    /// Takes the agent's own account, unless another copy of the spool than the one with this life has signed
    /// on since; it is kept with the next flush.
    pub fn report(&self, agent: &AgentId, epoch: Epoch, life: Option<u64>, report: Report) {
        let mut ledgers = lock(&self.inner.shared.ledgers);
        if !ledgers.is_replaced(agent, epoch, life) {
            ledgers.report(agent, epoch, report);
        }
    }

    /// The accounts of an agent by epoch; empty for an unknown one.
    #[must_use]
    pub fn ledger(&self, agent: &AgentId) -> Vec<EpochLedger> {
        lock(&self.inner.shared.ledgers).ledger(agent)
    }

    /// All agents that ever sent or reported something.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        lock(&self.inner.shared.ledgers).agents()
    }

    /// At most `limit` rows of `from..to` (ns), by (series as asked, time, arrival), from `after` on,
    /// which is the cursor of the page before with the same series and range. A `to` of `i64::MAX`
    /// means no end. What arrives between two pages moves none of them: a later page has it when it
    /// stands behind the cursor, and no row comes twice or is left out because of it.
    ///
    /// # Errors
    /// A series is unknown, or a file cannot be read.
    pub fn query_raw(
        &self,
        series: &[SeriesId],
        from_ns: i64,
        to_ns: i64,
        after: Option<RawCursor>,
        limit: usize,
    ) -> Result<RawPage, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        let (range, from) = ((from_ns, to_ns), (after, limit, false));
        self.inner.mending(|| query::raw(shared, format, series, range, from, &|| false))
    }

    /// At most `buckets_max` buckets of one width over `from..to` (ns), of the readings in it. A `to`
    /// of `i64::MAX` means no end. What a NaN does to a bucket is told at [`crate::Aggregate`].
    ///
    /// # Errors
    /// A series is unknown, fewer than two buckets are asked for, or a file cannot be read.
    pub fn query_buckets(
        &self,
        series: &[SeriesId],
        from_ns: i64,
        to_ns: i64,
        buckets_max: usize,
    ) -> Result<BucketAnswer, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        let parts = Parts::Most(buckets_max);
        let range = (from_ns, to_ns);
        let asked = || query::buckets(shared, format, series, range, &parts, &|| false);
        self.inner.mending(|| asked().map(|(answer, _)| answer))
    }

    /// The buckets of `from..to` (ns) as [`Parts`] says, of the readings in it, as [`Store::query_buckets`], and with
    /// them the figures that only readings tell. It ends soon after `canceled` says so.
    ///
    /// # Errors
    /// A series is unknown, too few or too many buckets are asked for, or too many readings would have to be read for
    /// figures, it was canceled, or a file cannot be read.
    pub fn query_parts(
        &self,
        series: &[SeriesId],
        range: (i64, i64),
        (parts, figures): (&Parts, &Figures),
        canceled: &(dyn Fn() -> bool + Sync),
    ) -> Result<BucketAnswer, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::figured(shared, format, series, range, (parts, figures), canceled))
    }

    /// The buckets of a tier of one series that begin in `from..to` (ns), in order, each whole. One of which some readings are
    /// known by a coarser tier alone is left out, see [`Store::thinned_to`]. All of them are in memory at once: a range bounds
    /// how many.
    ///
    /// # Errors
    /// The series is unknown, the tier is that of the readings, or a file cannot be read.
    pub fn query_rollups(
        &self,
        series: SeriesId,
        tier: Tier,
        from_ns: i64,
        to_ns: i64,
    ) -> Result<Vec<(i64, Aggregate)>, StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| query::rollups(shared, format, series, tier, (from_ns, to_ns)))
    }

    /// Writes all rows of these series in `from..to` (ns) in a format that others read, see [`crate::export`]; gives
    /// how many. A `to` of `i64::MAX` means no end. Blocks the thread; it ends at the first write that fails.
    ///
    /// # Errors
    /// A series is unknown, a file cannot be read, or `out` not written.
    pub fn export(
        &self,
        format: ExportFormat,
        series: &[SeriesId],
        from_ns: i64,
        to_ns: i64,
        out: impl Write,
    ) -> Result<u64, StoreError> {
        export::export(self, format, series, (from_ns, to_ns), out)
    }

    /// As [`Self::export`], about so many rows from `after` on, which is the `next` of the part before with the same
    /// series and range. What parts are one behind the other is told at [`crate::ExportPart`].
    ///
    /// # Errors
    /// As [`Self::export`].
    pub fn export_part(
        &self,
        format: ExportFormat,
        series: &[SeriesId],
        range_ns: (i64, i64),
        after: (Option<RawCursor>, usize),
        out: impl Write,
    ) -> Result<ExportPart, StoreError> {
        export::part(self, format, series, range_ns, after, out)
    }

    /// What a series is.
    pub(crate) fn meta(&self, id: SeriesId) -> Option<SeriesMeta> {
        read(&self.inner.shared.registry).names().meta(id)
    }

    /// What became of some seqs of an agent's epoch, and a digest of the readings for each `per` of those
    /// that are stored, read from memory and files as they are now. Blocks the thread; it ends soon
    /// after `cancelled` becomes true.
    ///
    /// # Errors
    /// A file cannot be read, it was cancelled, or the store is closed.
    pub fn audit(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seqs: (&RangeSet, u64),
        cancelled: &AtomicBool,
    ) -> Result<(Settlement, Vec<Digest>), StoreError> {
        self.audit_named(agent, epoch, seqs, &[], cancelled)
    }

    /// As [`Self::audit`], with series that the agent calls otherwise: each as it is stored, and as the agent has it.
    ///
    /// # Errors
    /// As [`Self::audit`].
    pub fn audit_named(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seqs: (&RangeSet, u64),
        otherwise: &[(SeriesDef, SeriesDef)],
        cancelled: &AtomicBool,
    ) -> Result<(Settlement, Vec<Digest>), StoreError> {
        let (shared, format) = (&self.inner.shared, self.inner.format.as_ref());
        self.inner.mending(|| {
            self.inner.barrier()?;
            agreement::digest(shared, format, (agent, epoch), seqs, otherwise, cancelled)
        })
    }

    /// The batches from now on, each as soon as it can be queried.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LiveBatch>> {
        self.inner.live.subscribe()
    }

    /// Seals what is hot. Blocks the thread.
    ///
    /// # Errors
    /// The file or the manifest cannot be written; nothing is lost and the next flush tries again.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    /// Makes sealed files fewer until there is nothing more to be done, as it is done in the background
    /// after each flush. Blocks the thread.
    ///
    /// # Errors
    /// A file cannot be read or written; nothing is lost.
    pub fn compact(&self) -> Result<(), StoreError> {
        while self.inner.mending(|| self.inner.compact())? {}
        self.inner.remove_replaced()
    }

    /// Gives up what is past its retention, as it is done in the background every twenty seconds. Blocks the thread.
    ///
    /// # Errors
    /// A file cannot be read or written; nothing was changed for it.
    pub fn retain(&self) -> Result<(), StoreError> {
        let now_ns = self.inner.now(&mut Watch::default());
        let mut failing = BTreeSet::new();
        while self.inner.retain(now_ns, &mut failing)? {}
        self.inner.remove_replaced()
    }

    /// Returns when all that was acknowledged before can be queried. Blocks the thread.
    ///
    /// # Errors
    /// The store is closed.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.inner.barrier()
    }

    /// Puts the store as it is now into the new folder `to`, which is to be on the same file system:
    /// what is acknowledged before the call is in it. No flush runs meanwhile. Blocks the thread.
    ///
    /// # Errors
    /// The disk failed, or the store is closed.
    pub fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        self.inner.snapshot(to)
    }

    /// What the sealed files hold, by the finest tier that is left of each, the finest first.
    #[must_use]
    pub fn tiers(&self) -> Vec<TierUse> {
        let files = Arc::clone(&read(&self.inner.shared.tables).files);
        let of = |level: Level| {
            let mut out = TierUse { tier: level.into(), files: 0, rows: 0, bytes: 0, first_ns: None };
            for file in files.iter().filter(|file| file.finest == level) {
                out.files += 1;
                out.rows += file.rows;
                out.bytes += file.bytes();
                out.first_ns = Some(out.first_ns.map_or(file.first_ns, |first| first.min(file.first_ns)));
            }
            out
        };
        LEVELS.into_iter().map(of).collect()
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        let cold = self.cold();
        let tables = read(&self.inner.shared.tables);
        StoreMetrics {
            cold_rows: cold.rows,
            cold_bytes: cold.bytes,
            cold_files: cold.files,
            hot_rows: tables.hot_rows() as u64,
            sealed_rows: tables.files.iter().map(|file| file.rows).sum(),
            sealed_bytes: tables.files.iter().map(|file| file.bytes()).sum(),
            sealed_files: tables.files.len() as u64,
            ..self.inner.shared.counters.read()
        }
    }

    /// How often the store took back what agents were told is stored: a damaged file was lost, or a run
    /// turned out to be undecodable. Whoever keeps ranges of an agent asks again when it changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.shared.changes.subscribe()
    }

    /// Whether a write failed, so that nothing is accepted until the log is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.shared.counters.poisoned.load(Ordering::Relaxed)
    }

    /// Stops the threads; what is hot stays in the log. Other handles answer `Closed` from then on.
    /// Blocks the thread.
    ///
    /// # Errors
    /// A thread had panicked.
    pub fn close(self) -> Result<(), StoreError> {
        lock(&self.inner.shared.signal.state).stop = true;
        self.inner.shared.signal.changed.notify_all();
        self.inner.room.close();
        self.inner.room_kib.close();
        let _ = self.inner.commands.send(Command::Close);
        let threads = std::mem::take(&mut *lock(&self.inner.threads));
        let panicked = threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if panicked == 0 { Ok(()) } else { Err(StoreError::Closed) }
    }
}

#[cfg(test)]
mod tests;
