//! Supervision: each source has a supervisor of its own, which starts it, watches it and starts it again.
//!
//! What is to be done is decided by [`watched`], which does no I/O; here it is carried out. A supervisor
//! never waits for its source in a way that the source could hang.

pub mod notify;
pub mod watched;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use self::watched::{Ending, Policy, Signs, Step, Watched};
use crate::resilience::entropy;
use crate::source::context::{Context, Parts, next_turn};
use crate::source::pulse::Pulse;
use crate::source::sources::STOP_TIMEOUT;
use crate::source::{Make, Outlets, SourceError};
use crate::status::{Board, SourceState};

/// Gives how a source is made by what is known of its devices now.
pub type Remake = Box<dyn Fn() -> Option<Make> + Send + Sync>;

/// Longest that a source goes on when a device of it has told other firmware: others of it may tell theirs.
const GATHER: Duration = Duration::from_millis(300);
/// Least time between two times that it is made anew for that: a device that tells nonsense is not to hold up the others.
const RENEW_REST: Duration = Duration::from_secs(10);

/// A source and what its supervisor needs.
pub struct Supervised {
    /// For its context.
    pub parts: Parts,
    /// Makes it.
    pub make: Make,
    /// Makes it anew once its devices have told other firmware; none when it stays as it is.
    pub remake: Remake,
    /// How it is looked after.
    pub policy: Policy,
    /// Where its state is shown.
    pub board: Board,
    /// Kept open for it.
    pub outlets: Outlets,
}

/// An attempt that runs.
struct Attempt {
    context: Context,
    task: JoinHandle<Result<(), SourceError>>,
}

/// Looks after a source until it is told to stop.
pub async fn run(supervised: Supervised) {
    let base = Instant::now();
    let mut stop = supervised.parts.stop.clone();
    let (editions, name) = (supervised.parts.writes.editions().clone(), Arc::clone(&supervised.parts.name));
    let watched = Watched::new(supervised.policy);
    let mut supervisor =
        Supervisor { watched, supervised, base, attempt: None, renews_at: None, renewed: None };
    loop {
        supervisor.act();
        let next = supervisor.next();
        let pulse = supervisor.attempt.as_ref().map(|attempt| attempt.context.pulse().clone());
        tokio::select! {
            biased;
            // A source that was told to stop has not failed.
            _ = stop.wait_for(|stop| *stop) => break,
            ended = ended(&mut supervisor.attempt) => supervisor.handle_end(ended),
            () = first_sign(pulse) => {}
            () = editions.stale(&name), if supervisor.renews_at.is_none() => supervisor.plan_renewal(),
            () = at(supervisor.renews_at) => {}
            () = at(next) => {}
        }
        if supervisor.renews_at.is_some_and(|renews_at| renews_at <= Instant::now()) {
            supervisor.renew().await;
        }
    }
    supervisor.stop().await;
}

async fn first_sign(pulse: Option<Arc<Pulse>>) {
    match pulse {
        Some(pulse) => pulse.first().await,
        None => std::future::pending().await,
    }
}

async fn at(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

async fn ended(attempt: &mut Option<Attempt>) -> Result<Result<(), SourceError>, JoinError> {
    match attempt {
        Some(attempt) => (&mut attempt.task).await,
        None => std::future::pending().await,
    }
}

struct Supervisor {
    supervised: Supervised,
    watched: Watched,
    base: Instant,
    attempt: Option<Attempt>,
    // When it is made anew, for the firmware that its devices have; and when it last was.
    renews_at: Option<Instant>,
    renewed: Option<Instant>,
}

impl Supervisor {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn signs(&self) -> Signs {
        self.attempt.as_ref().map_or(Signs::None, |attempt| attempt.context.pulse().signs())
    }

    fn next(&self) -> Option<Instant> {
        let next_ns = self.watched.next_ns(self.now_ns(), self.signs())?;
        self.base.checked_add(Duration::from_nanos(next_ns))
    }

    /// Does what is due, and shows what has become of it.
    fn act(&mut self) {
        while let Some(step) = self.watched.poll(self.now_ns(), self.signs(), entropy()) {
            match step {
                Step::Start => self.start(),
                Step::Abort => {
                    let patience_s = self.supervised.policy.patience_ns / 1_000_000_000;
                    self.show_error(&format!("stalled: it gave no sign of life for {patience_s} s"));
                    self.attempt.iter().for_each(|attempt| attempt.task.abort());
                }
                Step::Abandon => {
                    let name = &*self.supervised.parts.name;
                    tracing::error!(source = name, "it does not even end when aborted, and is left behind");
                    self.attempt = None;
                }
            }
        }
        self.show();
    }

    fn start(&mut self) {
        let mut context = Context::new(self.supervised.parts.clone(), self.base);
        let (make, shown) = (self.supervised.make.clone(), context.clone());
        let task = tokio::spawn(async move { make().run_boxed(&mut context).await });
        self.attempt = Some(Attempt { context: shown, task });
    }

    fn handle_end(&mut self, ended: Result<Result<(), SourceError>, JoinError>) {
        self.attempt = None;
        let ending = match ended {
            Ok(Ok(())) => Ending::Done,
            // It was told so by the core, and why is shown already.
            Err(error) if error.is_cancelled() => Ending::Failed,
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(error) => self.failed(&format!("panicked: {}", panic_text(error))),
        };
        if ending == Ending::Done {
            tracing::info!(source = &*self.supervised.parts.name, "source has come to its end");
            self.supervised.board.source(&self.supervised.parts.name, |source| source.done = true);
        }
        // A device may have got other firmware while nobody heard it.
        self.supervised.parts.writes.editions().doubt_all(&self.supervised.parts.name);
        self.watched.handle_end(self.now_ns(), ending, entropy());
    }

    /// A device of it has told other firmware than its profile is for.
    fn plan_renewal(&mut self) {
        let now = Instant::now();
        let rested = self.renewed.map(|renewed| renewed + RENEW_REST);
        self.renews_at = Some(rested.unwrap_or(now).max(now + GATHER));
    }

    /// Makes it anew, with the profiles for the firmware that its devices have told. That is no fault of it.
    async fn renew(&mut self) {
        let name = Arc::clone(&self.supervised.parts.name);
        (self.renews_at, self.renewed) = (None, Some(Instant::now()));
        // What is told from now on is of the next time.
        self.supervised.parts.writes.editions().renewed(&name);
        self.supervised.make = (self.supervised.remake)().unwrap_or_else(|| self.supervised.make.clone());
        if let Some(attempt) = self.attempt.take() {
            attempt.task.abort();
            let abort = Duration::from_nanos(self.supervised.policy.abort_ns);
            if timeout(abort, attempt.task).await.is_err() {
                tracing::error!(source = &*name, "it does not even end when aborted, and is left behind");
            }
        }
        tracing::info!(source = &*name, "begins again for the firmware of its devices");
        self.watched.handle_renewal(self.now_ns());
    }

    fn failed(&self, error: &str) -> Ending {
        self.show_error(error);
        Ending::Failed
    }

    fn show_error(&self, error: &str) {
        let name = &*self.supervised.parts.name;
        tracing::warn!(source = name, error, "source failed");
        self.supervised.board.source(name, |source| {
            source.failures += 1;
            source.last_error = Some(error.to_owned());
        });
    }

    fn show(&self) {
        let (state, counts) = (self.watched.state(self.signs()), self.watched.counts());
        self.supervised.board.source(&self.supervised.parts.name, |source| {
            (source.restarts, source.stalls) = (counts.restarts, counts.stalls);
            // That it waits for room is known to the intake.
            if !(state == SourceState::Running && source.state == SourceState::Waiting) {
                source.state = state;
            }
        });
    }

    /// It was told to stop: waits for that, but not for long.
    async fn stop(mut self) {
        let name = &*self.supervised.parts.name;
        if let Some(attempt) = &mut self.attempt
            && timeout(STOP_TIMEOUT, &mut attempt.task).await.is_err()
        {
            attempt.task.abort();
            tracing::warn!(source = name, "the source did not end in time and is left behind");
        }
        // Nothing of what was left behind is taken from now on.
        next_turn(&self.supervised.parts.turns);
    }
}

/// What a task said when it panicked.
pub(crate) fn panic_text(error: JoinError) -> String {
    let panic: Box<dyn Any + Send> = match error.try_into_panic() {
        Ok(panic) => panic,
        Err(error) => return error.to_string(),
    };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

#[cfg(test)]
mod tests;
