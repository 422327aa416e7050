//! When files are sealed, and what happens while one cannot be.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::rig::*;
use crate::log::lock;
use crate::store::threads::{Command, DECODE_QUEUE_MAX, GROUP_BYTES_MAX, GROUP_MAX};
use crate::tables::Budget;
use crate::{Store, StoreError};

/// Ten rows.
fn ten(seq: u64) -> Vec<Row> {
    (0..10).map(|at| (0, seq as i64 * 10 + at, at as f64)).collect()
}

fn rows(seqs: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    seqs.flat_map(ten).collect()
}

/// A store whose hot columns are full with ten batches.
fn small(dir: &tempfile::TempDir, gate: &Arc<Gate>, interval: Duration) -> Store {
    let mut config = config(dir.path());
    config.hot_rows_max = 100;
    config.flush_interval = interval;
    let store = open_with(config, Arc::clone(gate) as _).0;
    define(&store, &agent("a"));
    store
}

fn fill(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    seqs.for_each(|seq| assert_eq!(append(store, seq, &[ten(seq)]), 1));
}

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);

#[test]
fn the_timer_seals_what_is_hot() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([]));
    let store = small(&dir, &gate, SOON);
    append(&store, 1, &[ten(1)]);
    gate.wait_done(1);
    // Waits for the flush that the timer began.
    store.flush().unwrap();
    assert_eq!((store.metrics().sealed_rows, store.metrics().hot_rows), (10, 0));
    assert_eq!(all_rows(&store), expected(&ten(1)));
    store.close().unwrap();
}

#[test]
fn the_timer_seals_what_a_start_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[ten(1)]);
    store.close().unwrap();
    let gate = Gate::new([]);
    let mut config = config(dir.path());
    config.flush_interval = SOON;
    let (store, report) = open_with(config, Arc::clone(&gate) as _);
    assert_eq!(report.replayed_rows, 10);
    gate.wait_done(1);
    store.flush().unwrap();
    assert_eq!((store.metrics().sealed_rows, store.metrics().hot_rows), (10, 0));
    store.close().unwrap();
}

#[test]
fn full_hot_columns_are_sealed_before_the_timer() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([]));
    let store = small(&dir, &gate, NEVER);
    fill(&store, 1..=9);
    store.settle().unwrap();
    assert_eq!(store.metrics().flushes, 0);
    append(&store, 10, &[ten(10)]);
    gate.wait_done(1);
    store.flush().unwrap();
    assert_eq!((store.metrics().sealed_rows, store.metrics().hot_rows), (100, 0));
    store.close().unwrap();
}

#[test]
fn while_a_file_is_written_slowly_hot_rows_grow_to_twice_their_limit_and_appends_wait() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([Step::Block]));
    let store = small(&dir, &gate, NEVER);
    fill(&store, 1..=10);
    gate.wait_begun(1);
    // Ten more batches are decoded. Then one is in the decoder's hands, its queue is full, and one
    // is durable and in the writer's hands.
    let last_free = 20 + 1 + DECODE_QUEUE_MAX as u64 + 1;
    let (durable, acks) = mpsc::channel();
    let sender = store.clone();
    let thread = std::thread::spawn(move || {
        for seq in 11..=last_free + 50 {
            assert_eq!(append(&sender, seq, &[ten(seq)]), 1);
            durable.send(seq).unwrap();
        }
    });
    (11..=last_free).for_each(|seq| assert_eq!(acks.recv().unwrap(), seq));
    assert_eq!(store.metrics().hot_rows, 200);
    assert_eq!(acks.try_recv().unwrap_err(), mpsc::TryRecvError::Empty);
    // What waits is neither lost nor an error, and queries go on.
    let page = store.query_raw(&[0], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
    assert_eq!(page.series[0].times.len(), 200);
    gate.open();
    thread.join().unwrap();
    assert_eq!(all_rows(&store), expected(&rows(1..=last_free + 50)));
    store.flush().unwrap();
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!(all_rows(&store), expected(&rows(1..=last_free + 50)));
    store.close().unwrap();
}

#[test]
fn a_cut_does_not_wait_behind_the_runs_that_queue_up() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([]));
    let store = small(&dir, &gate, NEVER);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seq in 1..=900 {
        let (store, batch) = (store.clone(), batch(&agent("a"), seq, &[ten(seq)]));
        tasks.spawn_on(async move { store.append(batch).await.unwrap() }, runtime.handle());
    }
    let flushes_wait = lock(&store.inner.unfinished);
    let writer_waits = lock(&store.inner.shared.ledgers);
    runtime.block_on(async {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    });
    let (reply, answer) = mpsc::channel();
    store.inner.urgent.send(Command::Cut { reply }).unwrap();
    store.inner.commands.send(Command::Wake).unwrap();
    drop(writer_waits);
    let cut = answer.recv().unwrap().unwrap();
    assert!(cut.hot.rows() <= GROUP_MAX * 10, "{} rows were cut", cut.hot.rows());
    let mut unfinished = flushes_wait;
    *unfinished = Some(cut);
    drop(unfinished);
    runtime.block_on(tasks.join_all());
    store.flush().unwrap();
    assert_eq!(all_rows(&store), expected(&rows(1..=900)));
    store.close().unwrap();
}

#[test]
fn files_that_cannot_be_written_hold_ingest_up_and_not_the_memory() {
    let steps = [Step::Fail, Step::Fail, Step::Fail, Step::Block];
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new(steps));
    // Between two attempts there is time enough to take everything in, were it not held up.
    let store = small(&dir, &gate, Duration::from_millis(300));
    let sender = store.clone();
    let thread = std::thread::spawn(move || fill(&sender, 1..=200));
    gate.wait_begun(4);
    assert!(store.metrics().hot_rows <= 210, "{:?}", store.metrics());
    assert_eq!(store.metrics().flush_failures, 3);
    gate.open();
    thread.join().unwrap();
    assert_eq!(all_rows(&store), expected(&rows(1..=200)));
    store.flush().unwrap();
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, all_rows(&store)), (vec![], expected(&rows(1..=200))));
    store.close().unwrap();
}

#[test]
fn a_panic_while_sealing_costs_one_attempt() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([Step::Panic, Step::Fail]));
    let store = small(&dir, &gate, NEVER);
    append(&store, 1, &[ten(1)]);
    assert!(matches!(store.flush(), Err(StoreError::Sealed(_))));
    append(&store, 2, &[ten(2)]);
    assert!(matches!(store.flush(), Err(StoreError::Io { .. })));
    append(&store, 3, &[ten(3)]);
    assert_eq!(all_rows(&store), expected(&rows(1..=3)));
    store.flush().unwrap();
    assert_eq!((store.metrics().sealed_rows, store.metrics().hot_rows), (10, 20));
    store.flush().unwrap();
    assert_eq!((store.metrics().sealed_rows, store.metrics().hot_rows), (30, 0));
    assert_eq!(all_rows(&store), expected(&rows(1..=3)));
    store.close().unwrap();
}

#[test]
fn a_store_that_is_closed_while_files_cannot_be_written_loses_nothing() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Gate::new([Step::Fail; 1_000]));
    let store = small(&dir, &gate, SOON);
    fill(&store, 1..=12);
    gate.wait_begun(2);
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.replayed_rows, all_rows(&store)), (120, expected(&rows(1..=12))));
    store.close().unwrap();
}

#[test]
fn a_group_takes_no_more_runs_when_it_has_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let runs = 5 * GROUP_BYTES_MAX / (2 << 20);
    for seq in 1..=runs as u64 {
        let (store, batch) = (store.clone(), hostile(&agent("a"), seq, 1, vec![0; 1 << 20]));
        tasks.spawn_on(async move { store.append(batch).await.unwrap() }, runtime.handle());
    }
    let before = store.metrics().commits;
    let writer_waits = lock(&store.inner.shared.ledgers);
    runtime.block_on(async {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    });
    drop(writer_waits);
    runtime.block_on(tasks.join_all());
    store.settle().unwrap();
    // The first run, alone or with others, then what waited: more than one group may hold.
    assert!(store.metrics().commits - before >= 3, "{:?}", store.metrics());
    assert!(store.metrics().dead_files_removed > 0);
    assert_eq!((ledger(&store).stored, ledger(&store).refused), (0, runs as u64));
    store.close().unwrap();
}

#[test]
fn bytes_on_their_way_wait_for_room_and_never_for_nobody() {
    let budget = Arc::new(Budget::new(10));
    // Longer than all the room there is.
    budget.take(25);
    let (passed, passes) = mpsc::channel();
    let sender = Arc::clone(&budget);
    let thread = std::thread::spawn(move || {
        for bytes in [4, 6, 1] {
            sender.take(bytes);
            passed.send(bytes).unwrap();
        }
    });
    assert_eq!(passes.try_recv(), Err(mpsc::TryRecvError::Empty));
    budget.give_back(25);
    assert_eq!([passes.recv(), passes.recv()], [Ok(4), Ok(6)]);
    assert_eq!(passes.try_recv(), Err(mpsc::TryRecvError::Empty));
    budget.close();
    assert_eq!(passes.recv(), Ok(1));
    thread.join().unwrap();
}
