//! Writes of the log that fail while the store is open, threads that end, and what is told of both.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tideline_protocol::time::ManualClock;

use super::rig::*;
use crate::log::{LogDisk, RealDisk, lock};
use crate::sealed::SegmentFormat;
use crate::store::open;
use crate::{CheckState, Store, StoreConfig, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// No segment can be made: no descriptor is left.
    Create,
    /// Half of the bytes are written.
    Append,
    /// All bytes are written, and it is unknown whether they are durable.
    Sync,
    Panic,
}

struct FaultyDisk {
    disk: RealDisk,
    fault: Arc<Mutex<Fault>>,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl LogDisk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.disk.list()
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.disk.read(segment)
    }

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        self.disk.settle(segment)
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        if *lock(&self.fault) == Fault::Create {
            return Err(io::Error::other("too many open files"));
        }
        self.disk.create(segment)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fault = *lock(&self.fault);
        assert_ne!(fault, Fault::Panic, "told to");
        if fault == Fault::Append {
            self.disk.append(&bytes[..bytes.len() / 2])?;
            return Err(full());
        }
        self.disk.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()?;
        if *lock(&self.fault) == Fault::Sync { Err(full()) } else { Ok(()) }
    }

    fn truncate(&mut self, segment: u64, len: u64) -> io::Result<()> {
        self.disk.truncate(segment, len)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.disk.remove(segment)
    }
}

/// A store that reopens its log at once, and what makes its disk fail.
fn faulty(config: StoreConfig) -> (Store, Arc<Mutex<Fault>>) {
    let fault = Arc::new(Mutex::new(Fault::None));
    let shared = Arc::clone(&fault);
    let config = StoreConfig { log_retry_min: Duration::from_millis(1), ..config };
    let between = move |disk| Box::new(FaultyDisk { disk, fault: shared }) as _;
    let (store, _) =
        open::open_on(config, Arc::new(ManualClock::at(0)), Arc::new(SegmentFormat::default()), between)
            .unwrap();
    define(&store, &agent("a"));
    (store, fault)
}

fn rows_of(seq: u64) -> Vec<Row> {
    (0..6).map(|at| (at % SERIES, seq as i64 * 1_000 + i64::from(at), seq as f64)).collect()
}

fn rows(seqs: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    seqs.flat_map(rows_of).collect()
}

fn try_append(store: &Store, seq: u64) -> Result<u64, StoreError> {
    wait(store.append(batch(&agent("a"), seq, &[rows_of(seq)]))).map(|durable| taken(&durable))
}

/// As an agent that sends again until it is acknowledged.
fn append_at_last(store: &Store, seq: u64) {
    loop {
        match try_append(store, seq) {
            Ok(taken) => return assert_eq!(taken, 1),
            Err(StoreError::Poisoned) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn check(store: &Store, name: &str) -> CheckState {
    store.health().checks.into_iter().find(|check| check.name == name).unwrap().state
}

fn is_whole(dir: &Path, last: u64, case: &str) {
    let (store, report) = open(config(dir));
    assert_eq!(report.quarantined, vec![], "{case}");
    assert_eq!((stored(&store), all_rows(&store)), (vec![(1, last)], expected(&rows(1..=last))), "{case}");
    assert!(ledger(&store).balanced && ledger(&store).stored == 6 * last, "{case}");
    store.close().unwrap();
}

#[test]
fn after_a_failed_write_the_log_is_reopened_and_nothing_is_lost_or_doubled() {
    for fault in [Fault::Append, Fault::Sync] {
        let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (store, disk) = faulty(config(dir.path()));
        append(&store, 1, &[rows_of(1)]);
        *lock(&disk) = fault;
        assert!(matches!(try_append(&store, 2), Err(StoreError::Io { .. })));
        assert!(matches!(try_append(&store, 2), Err(StoreError::Poisoned)));
        assert!(store.is_poisoned() && store.metrics().log_failures == 1 && !store.health().is_ready());
        assert!(matches!(check(&store, "log"), CheckState::Failed(_)));
        assert!(store.flush().is_err());
        // What is acknowledged can be queried all the time.
        assert_eq!((stored(&store), all_rows(&store)), (vec![(1, 1)], expected(&rows_of(1))));
        *lock(&disk) = Fault::None;
        append_at_last(&store, 2);
        assert!(store.health().is_ready() && store.metrics().log_reopenings >= 1, "{:?}", store.metrics());
        append(&store, 3, &[rows_of(3)]);
        assert_eq!((stored(&store), all_rows(&store)), (vec![(1, 3)], expected(&rows(1..=3))));
        copy(dir.path(), killed.path());
        is_whole(killed.path(), 3, &format!("{fault:?}, killed before a flush"));
        store.flush().unwrap();
        append(&store, 4, &[rows_of(4)]);
        store.close().unwrap();
        is_whole(dir.path(), 4, &format!("{fault:?}, after a flush"));
    }
}

#[test]
fn a_run_that_was_written_but_not_synced_is_there_once_when_the_hub_is_killed_before_the_log_is_reopened() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let late = StoreConfig { log_retry_min: Duration::from_secs(3600), ..config(dir.path()) };
    let (store, disk) = faulty(config(dir.path()));
    store.close().unwrap();
    let shared = Arc::clone(&disk);
    let between = move |disk| Box::new(FaultyDisk { disk, fault: shared }) as _;
    let (store, _) =
        open::open_on(late, Arc::new(ManualClock::at(0)), Arc::new(SegmentFormat::default()), between)
            .unwrap();
    append(&store, 1, &[rows_of(1)]);
    *lock(&disk) = Fault::Sync;
    assert!(try_append(&store, 2).is_err());
    copy(dir.path(), killed.path());
    is_whole(killed.path(), 2, "the bytes were durable");
    let (again, _) = open(config(killed.path()));
    assert_eq!(append(&again, 2, &[rows_of(2)]), 0);
    again.close().unwrap();
    is_whole(killed.path(), 2, "the agent sent it again");
    store.close().unwrap();
}

#[test]
fn a_segment_that_cannot_be_made_stops_nothing_but_the_flush() {
    let dir = tempfile::tempdir().unwrap();
    let small = StoreConfig { log_segment_bytes_max: 2_000, ..config(dir.path()) };
    let (store, disk) = faulty(small);
    *lock(&disk) = Fault::Create;
    (1..=8).for_each(|seq| assert_eq!(append(&store, seq, &[rows_of(seq)]), 1));
    assert!(matches!(store.flush(), Err(StoreError::Io { .. })));
    assert!(!store.is_poisoned());
    // A segment may grow to twice its size and no further.
    let refused = (9..200).find(|seq| try_append(&store, *seq).is_err()).unwrap();
    assert!(!store.is_poisoned());
    *lock(&disk) = Fault::None;
    append(&store, refused, &[rows_of(refused)]);
    store.flush().unwrap();
    assert_eq!(all_rows(&store), expected(&rows(1..=refused)));
    store.close().unwrap();
    is_whole(dir.path(), refused, "reopened");
}

#[test]
fn a_refusal_that_could_not_be_written_is_written_after_the_log_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(config(dir.path()));
    append(&store, 1, &[rows_of(1)]);
    let changes = store.changes();
    let before = *changes.borrow();
    let decoder_waits = crate::tables::write(&store.inner.shared.tables);
    wait(store.append(undecodable(&agent("a"), 2, 40))).unwrap();
    *lock(&disk) = Fault::Sync;
    drop(decoder_waits);
    while store.metrics().log_failures == 0 {
        std::thread::yield_now();
    }
    *lock(&disk) = Fault::None;
    append_at_last(&store, 3);
    store.settle().unwrap();
    let account = ledger(&store);
    assert_eq!((account.stored, account.refused, account.balanced), (12, 40, true));
    assert!(*changes.borrow() > before);
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!((ledger(&store).stored, ledger(&store).refused), (12, 40));
    store.close().unwrap();
}

#[test]
fn a_block_that_makes_the_codec_panic_is_a_dead_letter_and_costs_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    wait(store.append(hostile(&agent("a"), 1, 5, b"panic".to_vec()))).unwrap();
    assert_eq!(append(&store, 2, &[rows_of(2)]), 1);
    assert_eq!(all_rows(&store), expected(&rows_of(2)));
    store.settle().unwrap();
    assert_eq!((ledger(&store).stored, ledger(&store).refused), (6, 5));
    assert!(store.health().is_ready(), "{:?}", store.health());
    store.close().unwrap();
}

#[test]
fn health_names_a_thread_that_has_ended_and_a_flush_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new([Step::Fail, Step::Block]);
    let soon = StoreConfig { flush_interval: Duration::from_millis(5), ..config(dir.path()) };
    let (store, _) = open_with(soon, gate.clone());
    define(&store, &agent("a"));
    append(&store, 1, &[rows_of(1)]);
    gate.wait_begun(2);
    assert!(matches!(check(&store, "flush"), CheckState::Degraded(_)), "{:?}", store.health());
    assert!(store.health().is_ready());
    gate.open();
    while check(&store, "flush") != CheckState::Fine {
        std::thread::yield_now();
    }
    store.close().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(config(dir.path()));
    assert!(store.health().checks.iter().all(|check| check.state == CheckState::Fine));
    *lock(&disk) = Fault::Panic;
    assert!(matches!(try_append(&store, 1), Err(StoreError::Closed)));
    while check(&store, "writer") == CheckState::Fine {
        std::thread::yield_now();
    }
    assert!(!store.health().is_ready());
    assert!(matches!(try_append(&store, 1), Err(StoreError::Closed)));
    assert!(store.close().is_err());
}
