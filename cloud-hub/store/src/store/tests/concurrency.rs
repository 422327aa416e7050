//! Many agents at once, and those who listen.

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinSet;

use super::rig::*;
use crate::log::lock;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Lets each task run until it waits.
async fn settle_tasks() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn batches_that_wait_for_the_disk_become_durable_in_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let agents: Vec<_> = (0..8).map(|no| agent(&format!("agent-{no}"))).collect();
    agents.iter().for_each(|agent| define(&store, agent));
    let before = store.metrics().commits;
    let runtime = runtime();
    let mut tasks = JoinSet::new();
    for agent in &agents {
        for seq in 1..=8_u64 {
            let rows = vec![(0, seq as i64, seq as f64), (1, seq as i64, 0.5)];
            let (store, batch) = (store.clone(), batch(agent, seq, &[rows]));
            tasks.spawn_on(async move { store.append(batch).await.unwrap() }, runtime.handle());
        }
    }
    // The writer needs the ledgers before and after each commit: all but its first group wait.
    let writer_waits = lock(&store.inner.shared.ledgers);
    runtime.block_on(settle_tasks());
    drop(writer_waits);
    let durable = runtime.block_on(tasks.join_all());
    assert_eq!(durable.iter().map(taken).sum::<u64>(), 64);
    store.settle().unwrap();
    let metrics = store.metrics();
    assert_eq!((metrics.appended_batches, metrics.appended_rows, metrics.duplicate_rows), (64, 128, 0));
    assert!(metrics.commits - before <= 2, "{metrics:?}");
    assert_eq!(all_rows(&store).len(), 128);
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.replayed_rows, all_rows(&store).len()), (128, 128));
    store.close().unwrap();
}

#[test]
fn copies_of_a_batch_in_one_group_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let runtime = runtime();
    let mut tasks = JoinSet::new();
    let sent: Vec<Vec<Row>> = (1..=5).map(|at| vec![(0, at, at as f64)]).collect();
    // Runs 1-3, 2-4 and 3-5, each twice, all before the first is durable.
    for first in [1, 2, 3, 1, 2, 3] {
        let (store, batch) = (store.clone(), batch(&agent("a"), first as u64, &sent[first - 1..first + 2]));
        tasks.spawn_on(async move { store.append(batch).await.unwrap() }, runtime.handle());
    }
    let writer_waits = lock(&store.inner.shared.ledgers);
    runtime.block_on(settle_tasks());
    drop(writer_waits);
    let durable = runtime.block_on(tasks.join_all());
    assert_eq!(durable.iter().map(taken).sum::<u64>(), 5);
    assert_eq!(all_rows(&store), expected(sent.iter().flatten()));
    let ledger = ledger(&store);
    assert_eq!((ledger.stored, ledger.duplicates, ledger.balanced), (5, 13, true));
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!(all_rows(&store), expected(sent.iter().flatten()));
    store.close().unwrap();
}

#[test]
fn appends_from_many_threads_beside_flushes_and_queries_are_all_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.hot_rows_max = 200;
    let (store, _) = open(small);
    std::thread::scope(|scope| {
        for no in 0..4 {
            let store = store.clone();
            scope.spawn(move || {
                let agent = agent(&format!("agent-{no}"));
                define(&store, &agent);
                for seq in 1..=100_u64 {
                    let rows = (0..5).map(|at| (at % SERIES, seq as i64 * 5 + i64::from(at), 1.0)).collect();
                    let batch = batch(&agent, seq, &[rows]);
                    assert_eq!(taken(&wait(store.append(batch.clone())).unwrap()), 1);
                    assert_eq!(taken(&wait(store.append(batch)).unwrap()), 0);
                    assert!(store.series(None).len() >= 3);
                }
            });
        }
        scope.spawn(|| (0..5).for_each(|_| store.flush().unwrap()));
    });
    let rows = all_rows(&store);
    assert_eq!(rows.len(), 2_000);
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "a row is there twice");
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, all_rows(&store)), (vec![], rows));
    store.close().unwrap();
}

#[test]
fn a_listener_gets_every_batch_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let mut live = store.subscribe();
    for seq in 1..=50_u64 {
        append(&store, seq, &[vec![(0, seq as i64, seq as f64), (2, -1, 0.0)]]);
    }
    for seq in 1..=50_u64 {
        let batch = wait(live.recv()).unwrap();
        assert_eq!((batch.id, batch.agent.as_str(), batch.columns.len()), (seq, "a", 2));
        assert_eq!((&batch.columns[0].times, batch.columns[0].values[0]), (&vec![seq as i64], seq as f64));
        assert_eq!(batch.columns[1].meta.point.as_str(), "point-2");
    }
    assert_eq!(live.try_recv().unwrap_err(), TryRecvError::Empty);
    // What is ignored as a duplicate is no news.
    append(&store, 50, &[vec![(0, 50, 50.0), (2, -1, 0.0)]]);
    store.settle().unwrap();
    assert_eq!(live.try_recv().unwrap_err(), TryRecvError::Empty);
    store.close().unwrap();
}

#[test]
fn a_slow_listener_loses_the_oldest_and_stalls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut few = config(dir.path());
    few.live_queue_max = 4;
    let store = ready(few);
    let mut live = store.subscribe();
    (1..=300_u64).for_each(|seq| assert_eq!(append(&store, seq, &[vec![(0, seq as i64, 1.0)]]), 1));
    store.settle().unwrap();
    assert_eq!(store.metrics().decoded_rows, 300);
    assert_eq!(wait(live.recv()).unwrap_err(), RecvError::Lagged(296));
    let ids: Vec<u64> = (0..4).map(|_| wait(live.recv()).unwrap().id).collect();
    assert_eq!(ids, [297, 298, 299, 300]);
    store.close().unwrap();
    assert_eq!(wait(live.recv()).unwrap_err(), RecvError::Closed);
}
