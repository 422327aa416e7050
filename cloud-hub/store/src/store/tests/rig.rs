//! What the tests of the store share: agents, batches, and a file format that fails when told to.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tideline_protocol::block::{Block, BlockBuilder};
use tideline_protocol::durability::{Batch, Durable, Validated};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::time::ManualClock;
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};

use crate::batches::Batches;
use crate::buckets::Aggregate;
use crate::files::{FileSystem, RealFiles};
use crate::hot::{Hot, Rows};
use crate::log::{EpochLedger, lock};
use crate::narrow::Narrow;
use crate::parts::Part;
use crate::sealed::{SealedFormat, SegmentFormat, Target};
use crate::segment::read::ReadError;
use crate::segment::write::{Print, SegmentWriter, Written};
use crate::segment::{BlockEntry, Directory, Level};
use crate::store::{OpenReport, Store, open};
use crate::{StoreConfig, StoreError};

pub const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
/// Series of each agent.
pub const SERIES: u32 = 3;

/// Series, time, value.
pub type Row = (u32, i64, f64);

pub fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

/// A store that flushes and compacts only when told to, and compares all checksums before it is open.
pub fn config(dir: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(dir);
    config.flush_interval = Duration::from_secs(3600);
    config.check_files_on_open = true;
    config.compact = false;
    config
}

pub fn open_with(config: StoreConfig, format: Arc<dyn SealedFormat>) -> (Store, OpenReport) {
    open::open(config, Arc::new(ManualClock::at(0)), format).unwrap()
}

pub fn open(config: StoreConfig) -> (Store, OpenReport) {
    try_open(config).unwrap()
}

pub fn try_open(config: StoreConfig) -> Result<(Store, OpenReport), StoreError> {
    open::open(config, Arc::new(ManualClock::at(0)), Arc::new(SegmentFormat::default()))
}

/// The series of an agent.
pub fn dictionary(agent: &AgentId) -> Series {
    let def = |no: u32| {
        SeriesDef::new(
            DeviceId::parse(agent.as_str()).unwrap(),
            PointId::parse(&format!("point-{no}")).unwrap(),
            "Cel".to_owned(),
        )
    };
    Series { first: 0, defs: (0..SERIES).map(def).collect() }
}

pub fn define(store: &Store, agent: &AgentId) {
    let known = wait(store.define_series(agent.clone(), EPOCH, dictionary(agent))).unwrap();
    assert_eq!(known, SERIES);
}

/// An open store that knows the series of agent `a`.
pub fn ready(config: StoreConfig) -> Store {
    let store = open(config).0;
    define(&store, &agent("a"));
    store
}

/// A run of one batch for each list of rows.
pub fn batch(agent: &AgentId, first: u64, seqs: &[Vec<Row>]) -> Batch<Validated> {
    let mut builder = BlockBuilder::new();
    for rows in seqs {
        let samples: Vec<(u32, [Sample; 1])> = rows
            .iter()
            .map(|(no, time_ns, value)| (*no, [Sample { time_ns: *time_ns, value: *value }]))
            .collect();
        let items: Vec<(u32, &[Sample])> = samples.iter().map(|(no, one)| (*no, &one[..])).collect();
        builder.push_batch(&items);
    }
    of_block(agent, first, builder.finish())
}

/// A run that is this block.
pub fn of_block(agent: &AgentId, first: u64, block: Block) -> Batch<Validated> {
    let (rows, series_end) = (block.rows, block.series_end);
    let (epoch, lane, first) = (EPOCH, Lane::Live, Seq::new(first));
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps: vec![] };
    Batch::received(agent.clone(), Run { envelope, block: block.bytes }).validate(SERIES).unwrap()
}

/// A batch of so many rows whose block no code can read.
pub fn undecodable(agent: &AgentId, seq: u64, rows: u32) -> Batch<Validated> {
    hostile(agent, seq, rows, vec![1, 2, 3])
}

/// A batch of so many rows, as it says, with any block.
pub fn hostile(agent: &AgentId, seq: u64, rows: u32, block: Vec<u8>) -> Batch<Validated> {
    let (first, rows) = (Seq::new(seq), RowCounts::one(rows));
    let (epoch, lane) = (EPOCH, Lane::Live);
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end: 1, restamps: vec![] };
    Batch::received(agent.clone(), Run { envelope, block }).validate(SERIES).unwrap()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Appends one run of agent `a`; gives how many seqs were new.
pub fn append(store: &Store, first: u64, seqs: &[Vec<Row>]) -> u64 {
    wait(store.append(batch(&agent("a"), first, seqs))).unwrap().taken().len()
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Every row of the store as (series name, time, bits of the value), series by series.
pub fn all_rows(store: &Store) -> Vec<(String, i64, u64)> {
    store.settle().unwrap();
    let mut series = store.series(None);
    series.sort_by_key(|info| (info.device.clone(), info.point.clone()));
    let mut out = Vec::new();
    for info in series {
        let page = store.query_raw(&[info.id], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
        assert_eq!(page.next, None);
        let name = format!("{}/{}", info.device, info.point);
        let columns = page.series.into_iter().flat_map(|column| column.times.into_iter().zip(column.values));
        let before = out.len();
        out.extend(columns.map(|(time, value)| (name.clone(), time, value.to_bits())));
        assert_eq!(info.count, (out.len() - before) as u64, "the count of {name}");
        let times = out[before..].iter().map(|row| row.1);
        assert_eq!((info.first_ns, info.last_ns), (times.clone().min(), times.max()), "the times of {name}");
        let last = info.last.map(|sample| (sample.time_ns, sample.word.to_bits()));
        assert_eq!(last, out[before..].last().map(|row| (row.1, row.2)), "the last reading of {name}");
    }
    out
}

/// What [`all_rows`] should give for rows of agent `a` in order of arrival.
pub fn expected<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<(String, i64, u64)> {
    let mut out: Vec<_> =
        rows.into_iter().map(|(no, time, value)| (format!("a/point-{no}"), *time, value.to_bits())).collect();
    out.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    out
}

pub fn ledger(store: &Store) -> EpochLedger {
    store.ledger(&agent("a")).remove(0)
}

/// The seqs that the hub says it has of agent `a`, which therefore does not send them.
pub fn stored(store: &Store) -> Vec<(u64, u64)> {
    store.agent_state(&agent("a"), EPOCH).settled.stored.iter().collect()
}

/// What a write of a sealed file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It waits until the gate is opened, and is written.
    Block,
    /// It leaves half a file and an error.
    Fail,
    /// It leaves half a file and panics.
    Panic,
}

#[derive(Debug, Default)]
struct GateState {
    steps: VecDeque<Step>,
    begun: usize,
    done: usize,
    open: bool,
    // Of readings, of rollups.
    reads: (usize, usize),
    // Of blocks of readings, what they are in all.
    narrowed: usize,
    // How many merges are to fail.
    broken: usize,
}

/// The format of the store, but each write takes the next step of a list; after its end all are written.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

impl Gate {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        let state = GateState { steps: steps.into_iter().collect(), ..GateState::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn wait_until(&self, met: impl Fn(&GateState) -> bool) {
        let state = lock(&self.state);
        drop(self.changed.wait_while(state, |state| !met(state)).unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns when this many writes have begun.
    pub fn wait_begun(&self, writes: usize) {
        self.wait_until(|state| state.begun >= writes);
    }

    /// Returns when this many writes have ended well.
    pub fn wait_done(&self, writes: usize) {
        self.wait_until(|state| state.done >= writes);
    }

    /// How often readings and rollups were read.
    pub fn reads(&self) -> (usize, usize) {
        lock(&self.state).reads
    }

    /// How often a block of readings was added without being made rows.
    pub fn narrowed(&self) -> usize {
        lock(&self.state).narrowed
    }

    /// Lets so many merges fail when they have begun to write.
    pub fn fail_merges(&self, merges: usize) {
        lock(&self.state).broken = merges;
    }

    /// Lets all writes go on.
    pub fn open(&self) {
        lock(&self.state).open = true;
        self.changed.notify_all();
    }
}

impl SealedFormat for Gate {
    fn files(&self) -> &dyn FileSystem {
        &RealFiles
    }

    fn create(&self, target: &Target) -> io::Result<SegmentWriter> {
        let writer = SegmentFormat::default().create(target)?;
        let mut state = lock(&self.state);
        if state.broken > 0 {
            state.broken -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(writer)
    }

    fn write(&self, of: (&Hot, &Part), batches: &Batches, target: &Target) -> io::Result<Written> {
        let step = {
            let mut state = lock(&self.state);
            state.begun += 1;
            state.steps.pop_front()
        };
        self.changed.notify_all();
        match step {
            Some(Step::Block) => self.wait_until(|state| state.open),
            Some(failure) => {
                std::fs::write(&target.raw, b"TLSEGhalf").unwrap();
                assert_ne!(failure, Step::Panic, "told to");
                return Err(io::Error::other("told to fail"));
            }
            None => {}
        }
        let written = SegmentFormat::default().write(of, batches, target);
        lock(&self.state).done += 1;
        self.changed.notify_all();
        written
    }

    fn roll_up(&self, number: u64, raw: &Path, rollup: &Path) -> Result<Print, ReadError> {
        SegmentFormat::default().roll_up(number, raw, rollup)
    }

    fn directory(&self, path: &Path, number: u64) -> Result<Directory, ReadError> {
        SegmentFormat::default().directory(path, number)
    }

    fn read_rows(&self, raw: &Path, block: &BlockEntry) -> Result<Rows, ReadError> {
        lock(&self.state).reads.0 += 1;
        SegmentFormat::default().read_rows(raw, block)
    }

    fn read_narrow(&self, raw: &Path, block: &BlockEntry) -> Result<Option<Narrow>, ReadError> {
        lock(&self.state).narrowed += 1;
        SegmentFormat::default().read_narrow(raw, block)
    }

    fn read_numbers(&self, raw: &Path, block: &BlockEntry) -> Result<Vec<u32>, ReadError> {
        SegmentFormat::default().read_numbers(raw, block)
    }

    fn read_rolls(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        level: Level,
    ) -> Result<Vec<(i64, Aggregate)>, ReadError> {
        lock(&self.state).reads.1 += 1;
        SegmentFormat::default().read_rolls(rollup, block, level)
    }
}

/// The seqs that a batch brought.
pub fn taken(batch: &Batch<Durable>) -> u64 {
    batch.taken().len()
}
