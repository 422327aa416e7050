//! What queries see: the series of the hub, the hot columns and the list of sealed files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::Clock;
use tideline_protocol::value::Boxes;
use tokio::sync::watch;

use crate::blocks::BlockCache;
use crate::cold::ColdEntry;
use crate::files::Files;
use crate::history::History;
use crate::hot::{Hot, Late, SeriesId, SeriesStats};
use crate::keeps::Keeps;
use crate::log::{Ledgers, lock};
use crate::manifest::{FileEntry, HoldingEntry, gathered};
use crate::metrics::Counters;
use crate::names::Age;
use crate::query::Tier;
use crate::registry::Registry;
use crate::retention::Retention;
use crate::revised::Revised;
use crate::sealed::Target;
pub use crate::series::{SeriesInfo, SeriesMeta, SeriesState, SeriesText};
use crate::stats::Stats;
use crate::store::Tail;

/// A device with what is known without reading its series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// How many readings can be queried.
    pub readings: u64,
    /// The latest time, ns.
    pub last_ns: Option<i64>,
    /// How many readings ever came late: when there was one of the same series of a later minute.
    pub late: u64,
}

/// What the sealed files hold of which a tier is the finest that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierUse {
    /// The tier.
    pub tier: Tier,
    /// The files.
    pub files: u64,
    /// The readings that they are of.
    pub rows: u64,
    /// Their bytes, of all tiers.
    pub bytes: u64,
    /// The earliest time in them, ns.
    pub first_ns: Option<i64>,
}

/// Readings that have just become queryable.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveBatch {
    /// Its number since the store was opened; the first is 1.
    pub id: u64,
    /// Who sent it.
    pub agent: AgentId,
    /// The readings by series.
    pub columns: Vec<LiveColumn>,
}

/// The readings of one series in a live batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveColumn {
    /// The series.
    pub id: SeriesId,
    /// What it is.
    pub meta: SeriesMeta,
    /// Times in ns since 1970, in order of arrival.
    pub times: Vec<i64>,
    /// As many values, as words of `boxes`.
    pub values: Vec<f64>,
    /// What the boxed words stand for.
    pub boxes: Boxes,
    /// Those that came late; none where they are read again by who missed them.
    pub late: Option<Late>,
}

/// The readings, in order of arrival: files, then those being sealed, then those that come in.
#[derive(Debug, Default)]
pub struct Tables {
    pub active: Hot,
    pub flushing: Option<Arc<Hot>>,
    pub files: Arc<Vec<Arc<FileEntry>>>,
    // Beside them, and seen by who asks for them alone.
    pub cold: Arc<Vec<Arc<ColdEntry>>>,
    pub sealed_stats: Stats,
    // Never a number that was used since the start: a query may still look at the older file.
    pub next_file: u64,
    // While a file is being written, the hot columns may grow only so far.
    pub sealing: bool,
    pub live_id: u64,
    // Changed under the same lock as the readings, so that who sees these sees that they have changed.
    pub history: History,
}

impl Tables {
    /// Rows in the hot columns, those being sealed included.
    #[must_use]
    pub fn hot_rows(&self) -> usize {
        self.active.rows().saturating_add(self.flushing.as_ref().map_or(0, |hot| hot.rows()))
    }

    /// As many rows as would take the memory of what is in the hot columns, those being sealed included.
    #[must_use]
    pub fn hot_weight(&self) -> usize {
        self.active.weight().saturating_add(self.flushing.as_ref().map_or(0, |hot| hot.weight()))
    }

    /// The latest time of a series.
    #[must_use]
    pub fn newest_ns(&self, id: SeriesId) -> Option<i64> {
        let sealed = self.sealed_stats.last_ns(id);
        sealed.max(self.flushing.as_ref().and_then(|hot| hot.last_ns(id))).max(self.active.last_ns(id))
    }

    /// A number for a file.
    pub const fn number(&mut self) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        number
    }

    /// Takes the files of some numbers out and others in. What is in others only was in memory.
    pub fn replace(&mut self, added: impl IntoIterator<Item = FileEntry>, removed: &[u64]) {
        let files = Arc::make_mut(&mut self.files);
        for gone in files.iter().filter(|file| removed.contains(&file.number)) {
            self.history.note(gone.first_ns, gone.last_ns);
        }
        files.retain(|file| !removed.contains(&file.number));
        files.extend(added.into_iter().map(Arc::new));
        files.sort_by_key(|file| file.order);
    }

    /// What is known of a series.
    #[must_use]
    pub fn stats(&self, id: SeriesId) -> SeriesStats {
        let mut stats = self.sealed_stats.series(id);
        if let Some(flushing) = &self.flushing {
            stats.merge(&flushing.stats(id));
        }
        stats.merge(&self.active.stats(id));
        stats
    }
}

/// Seqs and rows by agent and epoch that are stored by the ledger, and whose readings retention has removed.
#[derive(Debug, Default)]
pub struct Expired(BTreeMap<(AgentId, Epoch), (RangeSet, u64)>);

impl Expired {
    /// As the manifest has it.
    #[must_use]
    pub fn of(entries: &[HoldingEntry]) -> Self {
        let mut out = Self::default();
        entries.iter().for_each(|entry| out.put(entry));
        out
    }

    /// What an epoch has lost to retention.
    #[must_use]
    pub fn seqs(&self, agent: &AgentId, epoch: Epoch) -> RangeSet {
        self.0.get(&(agent.clone(), epoch)).map(|(seqs, _)| seqs.clone()).unwrap_or_default()
    }

    /// The epochs that these holdings are of, with these added.
    #[must_use]
    pub fn with<'a>(&self, holdings: impl Iterator<Item = &'a HoldingEntry>) -> Vec<HoldingEntry> {
        let added = gathered(holdings);
        let all = added.iter().map(|entry| {
            let (agent, epoch, mut seqs, mut rows) = entry.parts();
            if let Some((older, older_rows)) = self.0.get(&(agent.clone(), epoch)) {
                seqs.insert_set(older);
                rows = rows.saturating_add(*older_rows);
            }
            HoldingEntry::new(agent.clone(), epoch, &seqs, rows)
        });
        all.collect()
    }

    /// Replaces what is known of an epoch.
    pub fn put(&mut self, entry: &HoldingEntry) {
        let (agent, epoch, seqs, rows) = entry.parts();
        self.0.insert((agent.clone(), epoch), (seqs, rows));
    }
}

/// Files that may have taken the place of others.
#[derive(Debug, Clone)]
pub struct Unsettled {
    pub added: Vec<FileEntry>,
    pub replaced: Vec<Arc<FileEntry>>,
    pub expired: Vec<HoldingEntry>,
    pub frozen: Vec<ColdEntry>,
}

/// What the threads of a store share.
pub struct Shared {
    pub files: Files,
    pub dir: PathBuf,
    pub hot_rows_max: usize,
    pub retention: Retention,
    pub keeps: Keeps,
    pub clock: Arc<dyn Clock>,
    // What retention has removed the readings of.
    pub expired: Mutex<Expired>,
    // Why retention waits, while it does.
    pub retention_error: Mutex<Option<String>>,
    pub ledgers: Arc<Mutex<Ledgers>>,
    pub registry: RwLock<Registry>,
    // Known before the first reading of a series is in the tables.
    pub revised: Arc<Revised>,
    pub tables: RwLock<Tables>,
    pub counters: Counters,
    // Files by number whose checksums nobody has compared since the start.
    pub unchecked: Mutex<BTreeSet<u64>>,
    // Files by number that could not be read.
    pub suspects: Mutex<BTreeSet<u64>>,
    // Why the last flush failed, until one succeeds.
    pub flush_error: Mutex<Option<String>>,
    // Why sealed files could not be merged, until they could.
    pub merge_error: Mutex<Option<String>>,
    // Files that are listed no more, and that somebody may still read.
    pub replaced: Mutex<Vec<Arc<FileEntry>>>,
    // The same of the cold tier.
    pub melted: Mutex<Vec<Arc<ColdEntry>>>,
    // The exchange of which nobody knows whether the manifest lists it, since its commit failed.
    pub unsettled: Mutex<Option<Unsettled>>,
    // The dead letters that could not be written, while there are any.
    pub unwritten: Mutex<Option<Unwritten>>,
    // How often the store took back what agents were told is stored.
    pub changes: watch::Sender<u64>,
    // Bytes that are durable and not decoded.
    pub on_the_way: Budget,
    pub load: Load,
    pub tail: Tail,
    pub blocks: BlockCache,
    pub signal: Signal,
}

/// Dead letters that could not be written.
#[derive(Debug, Clone)]
pub struct Unwritten {
    pub letters: usize,
    pub error: String,
    /// Whether they are so many that nothing more is taken in.
    pub holds: bool,
}

/// How much there is to be sealed, for who must not wait for the tables.
#[derive(Debug, Default)]
pub struct Load {
    /// As [`Tables::hot_rows`].
    pub hot_rows: AtomicUsize,
    /// Rows that are durable and not decoded.
    pub on_the_way: AtomicUsize,
    /// As in the tables.
    pub sealing: AtomicBool,
}

/// Bounds the bytes that are on their way from one thread to another.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    closed: bool,
}

impl Budget {
    /// Nothing is on its way.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, used: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits for room. What is longer than all there is waits until nothing else is on its way.
    pub fn take(&self, bytes: usize) {
        let full =
            |used: &mut Used| !used.closed && used.bytes > 0 && used.bytes.saturating_add(bytes) > self.max;
        let waited = self.freed.wait_while(lock(&self.used), full);
        waited.unwrap_or_else(PoisonError::into_inner).bytes += bytes;
    }

    /// It has arrived.
    pub fn give_back(&self, bytes: usize) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Whether nobody takes anything out any more.
    pub fn is_closed(&self) -> bool {
        lock(&self.used).closed
    }

    /// Nobody takes anything out any more: nobody waits for room from now on.
    pub fn close(&self) {
        lock(&self.used).closed = true;
        self.freed.notify_all();
    }
}

/// Wakes the flusher, and the decoder when it waits for the flusher.
#[derive(Debug, Default)]
pub struct Signal {
    pub state: Mutex<SignalState>,
    pub changed: Condvar,
}

/// What has been signalled.
#[derive(Debug, Default)]
pub struct SignalState {
    pub stop: bool,
    pub full: bool,
    pub poisoned: bool,
}

pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The tables have changed by an arrival or a flush.
    pub fn weigh(&self, tables: &Tables) {
        self.load.hot_rows.store(tables.hot_weight(), Ordering::Release);
        self.load.sealing.store(tables.sealing, Ordering::Release);
    }

    /// Says whether a file is being written.
    pub fn set_sealing(&self, sealing: bool) {
        let mut tables = write(&self.tables);
        tables.sealing = sealing;
        self.weigh(&tables);
    }

    /// Makes the dictionary of an epoch known to who decodes.
    pub fn learn(&self, agent: &AgentId, epoch: Epoch) {
        let turned = {
            let ledgers = lock(&self.ledgers);
            let Some(state) = ledgers.epoch(agent, epoch) else { return };
            write(&self.registry).learn((agent, epoch), state.dictionary(), Age::Newest)
        };
        if turned {
            // What was answered of them before is no more the answer.
            write(&self.tables).history.note(i64::MIN, i64::MAX);
        }
    }

    /// Something is not stored any more that was.
    pub fn note_change(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }

    /// The files of a number while they are being written.
    #[must_use]
    pub fn target(&self, number: u64) -> Target {
        let unfinished = |path: PathBuf| {
            let mut name = path.into_os_string();
            name.push(".tmp");
            PathBuf::from(name)
        };
        let (raw, rollup) = self.paths(number);
        Target { number, raw: unfinished(raw), rollup: unfinished(rollup) }
    }

    /// The raw file and the rollup of a number.
    #[must_use]
    pub fn paths(&self, number: u64) -> (PathBuf, PathBuf) {
        sealed_paths(&self.dir, number)
    }
}

/// The raw file and the rollup of a number in the store `dir`.
#[must_use]
pub fn sealed_paths(dir: &Path, number: u64) -> (PathBuf, PathBuf) {
    let sealed = dir.join("sealed");
    (sealed.join(format!("{number:08}.seg")), sealed.join(format!("{number:08}.roll")))
}
