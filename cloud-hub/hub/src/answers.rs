//! Answers that are kept for as long as they are true, and computed once for all who ask the same at a time.
//!
//! What is asked is known by its whole question, with times as numbers. Before it is computed, the version of the readings
//! is noted; an answer, or a computation under way, is given to another asker only while no reading of its range has come
//! or gone since. A computation belongs to nobody: it goes on when one asker leaves, and ends when all have left.
//!
//! It is not *moka*: that keeps answers for a time or a number of uses, and these are to go with the readings.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tideline_store::{Store, StoreError};
use tokio::sync::{Semaphore, watch};

/// Computations at a time: each takes a core, and a hub has two; a short one is not to wait for a long one.
const TURNS: usize = 4;

/// What is asked.
pub trait Question: std::fmt::Debug + Hash + Eq + Send + Sync + 'static {
    /// What is given.
    type Answer: std::fmt::Debug + Send + Sync + 'static;

    /// The first and the last time (ns) of all readings that can matter.
    fn range(&self) -> (i64, i64);
    /// About the bytes that the question itself takes.
    fn bytes(&self) -> usize;
    /// About the bytes of an answer.
    fn answer_bytes(answer: &Self::Answer) -> usize;
}

/// The readings that answers are made of.
pub trait Readings {
    /// How often they have changed.
    fn version(&self) -> u64;
    /// Whether none of `from..=to` has changed since that version.
    fn stands(&self, version: u64, from_ns: i64, to_ns: i64) -> bool;
}

impl Readings for Store {
    fn version(&self) -> u64 {
        Self::version(self)
    }

    fn stands(&self, version: u64, from_ns: i64, to_ns: i64) -> bool {
        Self::stands(self, version, from_ns, to_ns)
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was kept.
    Kept,
    /// Another one had asked for it, and it was waited for.
    Shared,
    /// It was computed for this one.
    Computed,
}

type Result<Q> = std::result::Result<Arc<<Q as Question>::Answer>, StoreError>;

/// The answers to one kind of question; clones are handles of the same.
#[derive(Debug)]
pub struct Answers<Q: Question> {
    inner: Arc<Inner<Q>>,
}

#[derive(Debug)]
struct Inner<Q: Question> {
    bytes_max: usize,
    turns: Arc<Semaphore>,
    state: Mutex<State<Q>>,
}

#[derive(Debug)]
struct State<Q: Question> {
    // Of uses and of flights.
    count: u64,
    bytes: usize,
    kept: HashMap<Arc<Q>, Kept<Q>>,
    flights: HashMap<Arc<Q>, Flight<Q>>,
}

#[derive(Debug)]
struct Kept<Q: Question> {
    answer: Arc<Q::Answer>,
    version: u64,
    bytes: usize,
    used: u64,
}

/// A computation under way.
#[derive(Debug)]
struct Flight<Q: Question> {
    number: u64,
    version: u64,
    askers: Weak<()>,
    answer: watch::Receiver<Option<Result<Q>>>,
}

fn lock<Q: Question>(inner: &Inner<Q>) -> MutexGuard<'_, State<Q>> {
    inner.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<Q: Question> Answers<Q> {
    /// None yet; so many bytes of them are kept at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let state = State { count: 0, bytes: 0, kept: HashMap::new(), flights: HashMap::new() };
        let turns = Arc::new(Semaphore::new(TURNS));
        Self { inner: Arc::new(Inner { bytes_max, turns, state: Mutex::new(state) }) }
    }

    /// About the bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.inner).bytes
    }

    /// The answer to a question. `compute` is called at most once, off the async threads, and should end soon after its
    /// argument says that nobody waits any more. May be cancelled.
    ///
    /// # Errors
    /// Whatever `compute` says, or that it panicked.
    pub async fn ask(
        &self,
        readings: &impl Readings,
        question: Q,
        compute: impl FnOnce(&Q, &(dyn Fn() -> bool + Sync)) -> std::result::Result<Q::Answer, StoreError>
        + Send
        + 'static,
    ) -> (Result<Q>, How) {
        let (mut answer, asker, how) = match self.find(readings, question, compute) {
            Found::Answer(answer) => return (Ok(answer), How::Kept),
            Found::Flight(answer, asker, how) => (answer, asker, how),
        };
        let ended = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        drop(asker);
        // Nothing is sent by a computation that panicked.
        (ended.unwrap_or_else(|| Err(StoreError::Sealed("a query panicked".to_owned()))), how)
    }

    fn find(
        &self,
        readings: &impl Readings,
        question: Q,
        compute: impl FnOnce(&Q, &(dyn Fn() -> bool + Sync)) -> std::result::Result<Q::Answer, StoreError>
        + Send
        + 'static,
    ) -> Found<Q> {
        let (from_ns, to_ns) = question.range();
        let mut state = lock(&self.inner);
        state.count += 1;
        let now = state.count;
        if let Some(kept) = state.kept.get_mut(&question) {
            if readings.stands(kept.version, from_ns, to_ns) {
                kept.used = now;
                return Found::Answer(Arc::clone(&kept.answer));
            }
            state.forget(&question);
        }
        if let Some(flight) = state.flights.get(&question)
            && readings.stands(flight.version, from_ns, to_ns)
            && let Some(asker) = flight.askers.upgrade()
        {
            return Found::Flight(flight.answer.clone(), asker, How::Shared);
        }
        let (question, asker) = (Arc::new(question), Arc::new(()));
        let (sender, answer) = watch::channel(None);
        let flight = Flight {
            number: now,
            version: readings.version(),
            askers: Arc::downgrade(&asker),
            answer: answer.clone(),
        };
        let landing = Landing {
            inner: Arc::clone(&self.inner),
            question: Arc::clone(&question),
            number: now,
            version: flight.version,
        };
        state.flights.insert(question, flight);
        drop(state);
        let askers = Arc::downgrade(&asker);
        // A task of its own: it is nobody's.
        tokio::spawn(async move {
            let Ok(turn) = Arc::clone(&landing.inner.turns).acquire_owned().await else { return };
            let work = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let answer = compute(&landing.question, &|| askers.strong_count() == 0).map(Arc::new);
                if let Ok(answer) = &answer {
                    landing.keep(answer);
                }
                // Who comes from now on finds it kept.
                drop(landing);
                let _nobody_waits = sender.send(Some(answer));
            });
            if let Err(error) = work.await {
                tracing::error!(%error, "a query panicked");
            }
        });
        Found::Flight(answer, asker, How::Computed)
    }
}

enum Found<Q: Question> {
    Answer(Arc<Q::Answer>),
    // What it is waited on, and the mark of one who waits.
    Flight(watch::Receiver<Option<Result<Q>>>, Arc<()>, How),
}

/// Takes a flight off the list when it ends, however that is.
struct Landing<Q: Question> {
    inner: Arc<Inner<Q>>,
    question: Arc<Q>,
    number: u64,
    version: u64,
}

impl<Q: Question> Landing<Q> {
    fn keep(&self, answer: &Arc<Q::Answer>) {
        const ENTRY_BYTES: usize = 256;
        let bytes = Q::answer_bytes(answer) + self.question.bytes() + ENTRY_BYTES;
        if bytes > self.inner.bytes_max {
            return;
        }
        let mut state = lock(&self.inner);
        // A newer one of the same question may have come to its end before.
        if state.kept.get(&self.question).is_some_and(|kept| kept.version > self.version) {
            return;
        }
        state.forget(&self.question);
        let kept = Kept { answer: Arc::clone(answer), version: self.version, bytes, used: state.count };
        state.bytes += bytes;
        state.kept.insert(Arc::clone(&self.question), kept);
        while state.bytes > self.inner.bytes_max {
            state.drop_oldest();
        }
    }
}

impl<Q: Question> Drop for Landing<Q> {
    fn drop(&mut self) {
        let mut state = lock(&self.inner);
        if state.flights.get(&self.question).is_some_and(|flight| flight.number == self.number) {
            state.flights.remove(&self.question);
        }
    }
}

impl<Q: Question> State<Q> {
    fn forget(&mut self, question: &Q) {
        let gone = self.kept.remove(question).map_or(0, |kept| kept.bytes);
        self.bytes = self.bytes.saturating_sub(gone);
    }

    /// A quarter at a time, so that each costs the same however many are kept.
    fn drop_oldest(&mut self) {
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        let at = uses.len() / 4;
        if uses.is_empty() {
            self.bytes = 0;
            return;
        }
        let (_, last, _) = uses.select_nth_unstable(at);
        let last = *last;
        self.kept.retain(|_, kept| kept.used > last);
        self.bytes = self.kept.values().map(|kept| kept.bytes).sum();
    }
}

#[cfg(test)]
mod tests;
