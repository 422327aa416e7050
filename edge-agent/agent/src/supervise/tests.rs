//! Sources that fail, hang, panic and recover, under virtual time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tideline_protocol::model::DeviceId;
use tideline_spool::{DEFAULT_STREAM, SpoolConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::*;
use crate::clock::AgentClock;
use crate::intake::Chunk;
use crate::source::context::SharedTurns;
use crate::source::statistics::Statistics;
use crate::source::{AnySource, BoxFuture, Device};
use crate::spooler::SpoolHandle;
use crate::status::SourceStatus;

/// What one attempt does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Fail,
    Panic,
    /// Waits for what never comes, without saying that it waits.
    Hang,
    /// Emits its number and waits for ever.
    Emit,
    /// Emits its number and ends.
    Finish,
}

struct Acting {
    acts: Arc<Mutex<Vec<Act>>>,
    attempts: Arc<AtomicU64>,
}

impl AnySource for Acting {
    fn run_boxed<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let number = self.attempts.fetch_add(1, Ordering::SeqCst);
            let act = self.acts.lock().unwrap().pop().unwrap_or(Act::Emit);
            let mut readings = context.readings();
            readings.add(&context.own_device(), "attempt", i64::try_from(number).unwrap());
            match act {
                Act::Fail => Err(SourceError::failed("the plug is out")),
                Act::Panic => panic!("what a surprise"),
                Act::Hang => std::future::pending().await,
                Act::Emit => {
                    context.emit(readings).await?;
                    context.wait(std::future::pending()).await
                }
                Act::Finish => context.emit(readings).await,
            }
        })
    }
}

struct Bench {
    inbox: mpsc::Receiver<Chunk>,
    board: Board,
    stop: watch::Sender<bool>,
    attempts: Arc<AtomicU64>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// The attempts do as they are told, the last one first; all further ones emit.
    fn start(acts: &[Act]) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let (out, inbox) = mpsc::channel(1);
        let outlets = Outlets::new(BTreeMap::from([(DEFAULT_STREAM.to_owned(), out)]));
        let (stop, stopped) = watch::channel(false);
        let parts = Parts {
            name: "a".into(),
            position_key: "custom/a".into(),
            own_device: DeviceId::parse("pump-7").unwrap(),
            stream: DEFAULT_STREAM.into(),
            outlets: outlets.weak(),
            spool,
            cards: crate::cards::Cards::default(),
            writes: Default::default(),
            statistics: Statistics::new("a", board.clone()),
            clock: Arc::new(AgentClock::default()),
            turns: SharedTurns::default(),
            stop: stopped,
        };
        let attempts = Arc::new(AtomicU64::new(0));
        let acts = Arc::new(Mutex::new(acts.iter().rev().copied().collect()));
        let counted = Arc::clone(&attempts);
        let make: Make =
            Arc::new(move || Box::new(Acting { acts: Arc::clone(&acts), attempts: Arc::clone(&counted) }));
        let supervised = Supervised {
            parts,
            make,
            remake: Box::new(|| None),
            policy: Policy::default(),
            board: board.clone(),
            outlets,
        };
        let task = tokio::spawn(run(supervised));
        Self { inbox, board, stop, attempts, task, _folder: folder }
    }

    fn status(&self) -> SourceStatus {
        self.board.read().sources.get("a").cloned().unwrap_or_default()
    }
}

/// Lets so much virtual time pass, with all that happens in it.
async fn pass(time: Duration) {
    assert!(timeout(time, std::future::pending::<()>()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_or_panics_is_started_again_and_its_readings_come() {
    let mut bench = Bench::start(&[Act::Fail, Act::Panic, Act::Fail]);
    let chunk = bench.inbox.recv().await.unwrap();
    assert_eq!(chunk.rows[0].1[0].value, 3.0);
    tokio::task::yield_now().await;
    let status = bench.status();
    assert_eq!((status.restarts, status.failures, status.stalls), (3, 3, 0));
    assert_eq!(status.last_error.as_deref(), Some("the plug is out"));
    assert_eq!(status.state, SourceState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_with_its_text() {
    let bench = Bench::start(&[Act::Panic, Act::Hang]);
    while bench.status().restarts == 0 {
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(bench.status().last_error.as_deref(), Some("panicked: what a surprise"));
    assert_eq!(bench.status().state, SourceState::Starting);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_given_up_after_its_patience_and_started_again() {
    let began = Instant::now();
    let mut bench = Bench::start(&[Act::Hang]);
    let chunk = bench.inbox.recv().await.unwrap();
    assert_eq!(chunk.rows[0].1[0].value, 1.0);
    let waited = began.elapsed();
    let patience = Duration::from_nanos(Policy::default().patience_ns);
    assert!(waited >= patience && waited < patience * 2, "{waited:?}");
    let status = bench.status();
    assert_eq!((status.restarts, status.stalls), (1, 1));
    assert!(status.last_error.unwrap().contains("no sign of life for 30 s"));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_without_end_is_degraded_and_still_tried_each_minute() {
    let mut bench = Bench::start(&[Act::Fail; 20]);
    let mut was_degraded = None;
    while bench.attempts.load(Ordering::SeqCst) < 20 {
        tokio::time::advance(Duration::from_millis(100)).await;
        if bench.status().state == SourceState::Degraded && was_degraded.is_none() {
            was_degraded = Some((Instant::now(), bench.attempts.load(Ordering::SeqCst)));
        }
    }
    let (since, attempts) = was_degraded.unwrap();
    assert_eq!(attempts, 9, "the budget and one");
    let minutes = since.elapsed().as_secs() / 60;
    assert_eq!(minutes, 20 - attempts, "one a minute");
    assert!(bench.inbox.recv().await.is_some(), "at last it works");
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_is_left_alone_for_a_month_and_stops_when_it_is_told_to() {
    let mut bench = Bench::start(&[]);
    assert!(bench.inbox.recv().await.is_some());
    pass(Duration::from_secs(30 * 86_400)).await;
    assert_eq!((bench.attempts.load(Ordering::SeqCst), bench.status().state), (1, SourceState::Running));
    bench.stop.send_replace(true);
    (&mut bench.task).await.unwrap();
    assert_eq!(bench.status().last_error, None);
    assert!(bench.inbox.recv().await.is_none(), "nobody keeps the intake open");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_stop_and_hangs_is_left_behind_and_holds_up_nothing() {
    let mut bench = Bench::start(&[Act::Hang]);
    pass(Duration::from_secs(1)).await;
    let told = Instant::now();
    bench.stop.send_replace(true);
    assert!(bench.inbox.recv().await.is_none());
    assert_eq!(told.elapsed(), STOP_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn one_whose_stream_is_full_waits_and_loses_nothing() {
    let mut bench = Bench::start(&[Act::Finish]);
    pass(Duration::from_secs(600)).await;
    assert_eq!(bench.status().state, SourceState::Ended);
    assert!(bench.status().done);
    assert!(bench.inbox.recv().await.is_some());
}

#[tokio::test]
async fn readings_of_a_former_attempt_are_refused() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let path = folder.path().join("spool.redb");
    let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
    let (out, mut inbox) = mpsc::channel(9);
    let (context, _stop) = Context::alone("a", DeviceId::parse("pump-7").unwrap(), &out, board, spool);
    let readings = |position: u8| {
        let mut readings = context.readings().at(vec![position]);
        readings.add(&Device::plain(DeviceId::parse("pump-7").unwrap()), "flow", 1.5);
        readings
    };
    context.emit(readings(1)).await.unwrap();
    assert_eq!(context.position().await.unwrap(), Some(vec![1]), "it is on its way");
    let next = context.next_attempt();
    assert!(matches!(context.emit(readings(2)).await, Err(SourceError::Stopped)));
    assert_eq!(next.position().await.unwrap(), Some(vec![1]));
    next.emit(readings(3)).await.unwrap();
    let positions: Vec<_> =
        std::iter::from_fn(|| inbox.try_recv().ok()).map(|c| c.position.unwrap().1).collect();
    assert_eq!(positions, [vec![1], vec![3]]);
}

#[tokio::test]
async fn a_blocking_read_that_hangs_is_one_thread_and_no_more() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let path = folder.path().join("spool.redb");
    let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
    let (out, _inbox) = mpsc::channel(9);
    let (context, _stop) = Context::alone("a", DeviceId::parse("pump-7").unwrap(), &out, board, spool);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hangs = context.clone();
    let attempt =
        tokio::spawn(async move { hangs.blocking("a read", move || released.recv()).await.map(drop) });
    // On this one thread the attempt runs up to where it waits.
    tokio::task::yield_now().await;
    let error = context.next_attempt().blocking("a read", || 1).await.unwrap_err();
    assert_eq!(error.to_string(), "a read: the last one still hangs");
    release.send(()).unwrap();
    attempt.await.unwrap().unwrap();
    assert_eq!(context.blocking("a read", || 2).await.unwrap(), 2);
    let error = context.blocking("a read", || panic!("no")).await.unwrap_err();
    assert_eq!(error.to_string(), "a read: panicked");
}
