//! Answers that are kept, shared, dropped and too large, with computations that wait to be let go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// Asks for something of a range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked(i64, i64);

impl Question for Asked {
    type Answer = usize;

    fn range(&self) -> (i64, i64) {
        (self.0, self.1)
    }

    fn bytes(&self) -> usize {
        0
    }

    fn answer_bytes(answer: &usize) -> usize {
        *answer
    }
}

/// Readings of which those at the time 5 change.
#[derive(Default)]
struct Times(AtomicU64);

impl Times {
    fn change(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Readings for Times {
    fn version(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn stands(&self, version: u64, from_ns: i64, to_ns: i64) -> bool {
        version == self.version() || !(from_ns..=to_ns).contains(&5)
    }
}

async fn value(answers: &Answers<Asked>, times: &Times, asked: Asked, value: usize) -> (usize, How) {
    let (answer, how) = answers.ask(times, asked, move |_, _| Ok(value)).await;
    (*answer.unwrap(), how)
}

#[tokio::test]
async fn an_answer_is_kept_while_its_readings_stand_and_computed_again_after() {
    let (answers, times) = (Answers::new(100_000), Times::default());
    assert_eq!(value(&answers, &times, Asked(0, 9), 1).await, (1, How::Computed));
    assert_eq!(value(&answers, &times, Asked(0, 9), 2).await, (1, How::Kept));
    assert_eq!(value(&answers, &times, Asked(0, 4), 3).await, (3, How::Computed));
    times.change();
    assert_eq!(value(&answers, &times, Asked(0, 9), 4).await, (4, How::Computed));
    assert_eq!(value(&answers, &times, Asked(0, 4), 5).await, (3, How::Kept));
}

/// A computation that waits until it is let go, and how many were begun.
struct Gate {
    begun: Arc<AtomicUsize>,
    open: Vec<mpsc::Sender<()>>,
}

impl Gate {
    fn compute(
        &mut self,
        value: usize,
    ) -> impl FnOnce(&Asked, &(dyn Fn() -> bool + Sync)) -> std::result::Result<usize, StoreError> + use<>
    {
        let (open, opened) = mpsc::channel();
        self.open.push(open);
        let begun = Arc::clone(&self.begun);
        move |_, left| {
            begun.fetch_add(1, Ordering::SeqCst);
            loop {
                match opened.try_recv() {
                    Ok(()) | Err(mpsc::TryRecvError::Disconnected) => return Ok(value),
                    Err(mpsc::TryRecvError::Empty) if left() => {
                        return Err(StoreError::Query("all have left".to_owned()));
                    }
                    Err(mpsc::TryRecvError::Empty) => std::thread::yield_now(),
                }
            }
        }
    }
}

fn gate() -> Gate {
    Gate { begun: Arc::default(), open: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_the_same_share_one_computation_whoever_of_them_leaves() {
    let (answers, times, mut gate) = (Answers::new(100_000), Times::default(), gate());
    let mut asking: Vec<_> =
        (0..50).map(|turn| Box::pin(answers.ask(&times, Asked(0, 9), gate.compute(turn)))).collect();
    // Each is begun; the first one, which began the computation, then leaves.
    for asking in &mut asking {
        assert!(futures_poll(asking.as_mut()).is_none());
    }
    drop(asking.remove(0));
    // Those that were not begun have nobody who listens.
    assert!(gate.open.iter().filter(|open| open.send(()).is_ok()).count() == 1);
    for asking in asking {
        let (answer, how) = asking.await;
        assert_eq!((*answer.unwrap(), how), (0, How::Shared));
    }
    assert_eq!(gate.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_after_a_change_does_not_get_what_was_begun_before() {
    let (answers, times, mut gate) = (Answers::new(100_000), Times::default(), gate());
    let mut before = Box::pin(answers.ask(&times, Asked(0, 9), gate.compute(1)));
    assert!(futures_poll(before.as_mut()).is_none());
    times.change();
    let mut after = Box::pin(answers.ask(&times, Asked(0, 9), gate.compute(2)));
    assert!(futures_poll(after.as_mut()).is_none());
    gate.open[1].send(()).unwrap();
    assert_eq!(after.await.0.map(|answer| *answer).unwrap(), 2);
    gate.open[0].send(()).unwrap();
    assert_eq!(before.await.0.map(|answer| *answer).unwrap(), 1);
    // The older one came last and does not take the place of the newer one.
    assert_eq!(value(&answers, &times, Asked(0, 9), 3).await, (2, How::Kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_ends_and_is_begun_anew() {
    let (answers, times, mut gate) = (Answers::new(100_000), Times::default(), gate());
    let mut asking = Box::pin(answers.ask(&times, Asked(0, 9), gate.compute(1)));
    assert!(futures_poll(asking.as_mut()).is_none());
    drop(asking);
    assert_eq!(value(&answers, &times, Asked(0, 9), 2).await, (2, How::Computed));
}

#[tokio::test]
async fn an_error_and_a_panic_are_told_and_not_kept() {
    let (answers, times) = (Answers::new(100_000), Times::default());
    let failed = answers.ask(&times, Asked(0, 9), |_, _| Err(StoreError::Closed)).await;
    assert!(matches!(failed.0, Err(StoreError::Closed)));
    let panicked = answers.ask(&times, Asked(0, 9), |_, _| panic!("told to")).await;
    assert!(panicked.0.unwrap_err().to_string().contains("panicked"));
    assert_eq!(value(&answers, &times, Asked(0, 9), 2).await, (2, How::Computed));
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let (answers, times) = (Answers::new(10 * (1_000 + 256)), Times::default());
    for at in 0..40 {
        assert_eq!(value(&answers, &times, Asked(at, at), 1_000).await, (1_000, How::Computed));
        assert!(answers.bytes() <= 10 * (1_000 + 256));
    }
    assert_eq!(value(&answers, &times, Asked(39, 39), 7).await, (1_000, How::Kept));
    assert_eq!(value(&answers, &times, Asked(0, 0), 7).await, (7, How::Computed));
    // One that is larger than all that may be kept is given and not kept.
    assert_eq!(value(&answers, &times, Asked(1, 2), 99_999).await, (99_999, How::Computed));
    assert_eq!(value(&answers, &times, Asked(1, 2), 8).await, (8, How::Computed));
}

/// Polls once.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}
