//! When a batch is complete, and when a source is told.

use std::time::Duration;

use edge_agent::intake::{self, Batching, Chunk, QUEUE_MAX};
use edge_agent::spooler::{Loaded, SpoolHandle};
use edge_agent::status::{Board, SourceStatus};
use tideline_protocol::block;
use tideline_protocol::model::{Class, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;
use tideline_spool::{Overflow, Policy, SpoolConfig, StreamConfig};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::{readings, spool, until};

const HOUR: Duration = Duration::from_secs(3600);

fn chunk(rows: i64, position: u8) -> Chunk {
    Chunk { rows: readings(rows), position: Some(("a".into(), vec![position])), ..Chunk::default() }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_complete_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(folder.path(), &Board::default());
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: HOUR, rows_max: 1_000 });
    let task = tokio::spawn(intake::run(inbox, spool.clone(), now, Board::default()));
    let start = Instant::now();
    out.send(chunk(3, 1)).await.unwrap();
    out.send(chunk(4, 2)).await.unwrap();
    // Without a limit, as that would come first: time is virtual, the disk's is not.
    let mut state = spool.state();
    let state = *state.wait_for(|state| state.head == Seq::new(1)).await.unwrap();
    assert_eq!(state.account.produced, 7, "what came within the time is one batch");
    assert!((HOUR..HOUR * 2).contains(&start.elapsed()));
    assert_eq!(spool.cursor("a").await.unwrap(), Some(vec![2]), "the last position is durable with it");
    drop(out);
    task.await.unwrap();
}

#[tokio::test]
async fn a_batch_is_complete_by_count_and_a_change_counts_from_the_next_on() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(folder.path(), &Board::default());
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (batching, now) = watch::channel(Batching { flush_interval: HOUR, rows_max: 10 });
    let task = tokio::spawn(intake::run(inbox, spool.clone(), now, Board::default()));
    for position in 1..=4 {
        out.send(chunk(5, position)).await.unwrap();
    }
    let state = until(&spool, |state| state.head == Seq::new(2)).await;
    assert_eq!(state.account.produced, 20);
    batching.send_replace(Batching { flush_interval: HOUR, rows_max: 5 });
    out.send(chunk(5, 5)).await.unwrap();
    assert_eq!(until(&spool, |state| state.head == Seq::new(3)).await.account.produced, 25);
    drop(out);
    task.await.unwrap();
}

#[tokio::test]
async fn who_asks_is_told_once_all_before_is_durable_and_the_end_commits_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(folder.path(), &Board::default());
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: HOUR, rows_max: 1_000 });
    let task = tokio::spawn(intake::run(inbox, spool.clone(), now, Board::default()));
    out.send(chunk(5, 1)).await.unwrap();
    let (durable, told) = oneshot::channel();
    out.send(Chunk { durable: Some(durable), ..Chunk::default() }).await.unwrap();
    told.await.unwrap();
    assert_eq!(spool.state().borrow().account.produced, 5);
    out.send(chunk(2, 2)).await.unwrap();
    drop(out);
    task.await.unwrap();
    assert_eq!(spool.state().borrow().account.produced, 7);
    assert_eq!(spool.cursor("a").await.unwrap(), Some(vec![2]));
}

#[tokio::test]
async fn a_chunk_that_is_more_than_one_batch_becomes_several() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(folder.path(), &Board::default());
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: HOUR, rows_max: 500_000 });
    let task = tokio::spawn(intake::run(inbox, spool.clone(), now, Board::default()));
    out.send(chunk(1_200_000, 1)).await.unwrap();
    drop(out);
    task.await.unwrap();
    let state = *spool.state().borrow();
    assert_eq!((state.account.produced, state.head), (1_200_000, Seq::new(3)));
    assert_eq!(spool.cursor("a").await.unwrap(), Some(vec![1]));
}

/// Readings that nothing packs, and of which each is one of a kind.
fn noise(chunk: i64, rows: i64) -> Chunk {
    let mut readings = readings(rows);
    for (_, samples) in &mut readings {
        for sample in samples {
            sample.time_ns += chunk * rows;
            sample.value = (sample.time_ns.wrapping_mul(2_654_435_761) as f64).sin();
        }
    }
    let position = Some(("meter".into(), chunk.to_le_bytes().to_vec()));
    Chunk { source: "meter".into(), rows: readings, position, ..Chunk::default() }
}

/// Has the hub take what is pending; gives the times of its readings.
async fn take(spool: &SpoolHandle) -> Vec<i64> {
    let (mut times, view) = (Vec::new(), spool.view().await.unwrap());
    let mut wanted = RangeSet::of(1, view.head.get().max(1));
    wanted.remove_set(&view.settled);
    while let Loaded::Run(run) = spool.load(wanted.clone(), 1 << 20).await.unwrap() {
        let decoded = block::decode(&run.block, &run.rows, run.first).unwrap();
        times.extend(decoded.columns.into_iter().flat_map(|column| column.times));
        let stored = run.rows.present(run.first);
        wanted.remove_set(&stored);
        spool.settle(Settlement { stored, ..Settlement::default() }).await.unwrap();
        if wanted.is_empty() {
            break;
        }
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_blocks_makes_its_source_wait_and_loses_nothing() {
    const CHUNKS: i64 = 100;
    const ROWS: i64 = 500;
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    board.update(|status| drop(status.sources.insert("meter".into(), SourceStatus::default())));
    let policy = Policy { overflow: Overflow::Block, quota_bytes: 64 << 10, keep_s: 0 };
    let stream = StreamConfig { name: "meter".into(), class: Class::Live, policy };
    let path = folder.path().join("spool.redb");
    let (spool, _) =
        SpoolHandle::start_streams(path, SpoolConfig::default(), vec![stream], board.clone()).unwrap();
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: HOUR, rows_max: 500 });
    let intake = intake::run_stream("meter".into(), inbox, spool.clone(), now, board.clone());
    let intake = tokio::spawn(intake);
    let queue = out.downgrade();
    let source = tokio::spawn(async move {
        for chunk in 0..CHUNKS {
            out.send(noise(chunk, ROWS)).await.unwrap();
        }
    });
    // Until its queue is full, and what is in the intake's hands was refused.
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let waits = || board.read().sources["meter"].last_error.clone();
    while waits().is_none() || queue.upgrade().unwrap().capacity() > 0 {
        looks.tick().await;
    }
    assert!(!source.is_finished());
    assert_eq!(waits().unwrap(), "stream meter has no room (quota) and gives nothing up");
    let full = spool.state().borrow().account;
    assert!(full.produced > 0 && full.pending == full.produced, "{full:?}");
    // Others do not wait.
    let other = spool.append(readings(5), Vec::new()).await.unwrap();
    let only = |seq: Seq| Settlement { stored: RangeSet::of(seq.get(), seq.get()), ..Settlement::default() };
    spool.settle(only(other.head)).await.unwrap();
    let mut times = Vec::new();
    while !intake.is_finished() {
        times.extend(take(&spool).await);
        looks.tick().await;
    }
    times.extend(take(&spool).await);
    times.sort_unstable();
    assert!(times.into_iter().eq(0..CHUNKS * ROWS), "readings are missing or doubled");
    let account = spool.state().borrow().account;
    let all = (CHUNKS * ROWS) as u64;
    assert_eq!((account.stored, account.pending, account.dropped), (all + 5, 0, 0));
    assert_eq!(spool.cursor("meter").await.unwrap(), Some((CHUNKS - 1).to_le_bytes().to_vec()));
    let shown = &board.read().sources["meter"];
    assert_eq!((shown.accepted, shown.rejected), (all, 0));
    source.await.unwrap();
    intake.await.unwrap();
}
