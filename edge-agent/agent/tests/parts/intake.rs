//! When a batch is complete, and when a source is told.

use std::time::Duration;

use edge_agent::intake::{self, Batching, Chunk, QUEUE_MAX};
use edge_agent::status::Board;
use tideline_protocol::model::Seq;
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
