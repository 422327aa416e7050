//! When a source is started, given up and started again: a state machine without I/O.
//!
//! ```text
//!             start                    sign of life
//!  resting ──────────▶ running (starting ─────▶ running) ──▶ ended (all read, not started again)
//!     ▲                   │                 │
//!     │  fails, panics    │                 │ no sign of life for its patience
//!     └───────────────────┘                 ▼
//!     └──────────────────────────────── aborting
//! ```
//!
//! The rest is a back-off with full jitter. Who fails more often than the budget allows is degraded: it
//! is tried again at a slow, steady pace, until it has lasted.
//!
//! Call order: [`Watched::poll`] until it gives no step, after each `handle_*` and when
//! [`Watched::next_ns`] has come. All times are monotonic ns of one clock.

use std::collections::VecDeque;

use crate::resilience::Retry;
use crate::status::SourceState;

const NS_PER_S: u64 = 1_000_000_000;

/// How a source is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The rests between two attempts.
    pub retry: Retry,
    /// Failures within `within_ns` that it may have before it is degraded.
    pub failures_max: usize,
    /// See there.
    pub within_ns: u64,
    /// The rest between two attempts of one that is degraded.
    pub degraded_rest_ns: u64,
    /// An attempt that has lasted this long, with a sign of life, makes what was before forgotten.
    pub settled_ns: u64,
    /// Without a sign of life for this long it is stalled.
    pub patience_ns: u64,
    /// One that does not end this long after it was aborted is left behind.
    pub abort_ns: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            // A device that restarts is back within seconds; one that is gone costs two attempts a minute.
            retry: Retry { base_ms: 500, factor: 2, max_ms: 30_000 },
            failures_max: 8,
            within_ns: 300 * NS_PER_S,
            degraded_rest_ns: 60 * NS_PER_S,
            settled_ns: 60 * NS_PER_S,
            patience_ns: 30 * NS_PER_S,
            abort_ns: NS_PER_S,
        }
    }
}

/// What is seen of an attempt from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// None since it was started.
    None,
    /// It waits for its input, for the time of its next poll or for room: that may take as long as it wants.
    Waits,
    /// The last one was then.
    At(u64),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is read.
    Done,
    /// It failed or panicked, or was aborted.
    Failed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start it.
    Start,
    /// Abort it: it is stalled. Its end is told with [`Watched::handle_end`].
    Abort,
    /// Leave it behind: it does not even notice that it was aborted. Its end is of no interest any more.
    Abandon,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts after the first.
    pub restarts: u64,
    /// Attempts that gave no sign of life.
    pub stalls: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Resting { until_ns: u64, stalled: bool },
    Running { since_ns: u64, settled: bool },
    Aborting { since_ns: u64 },
    Ended,
}

/// A source that is looked after.
#[derive(Debug)]
pub struct Watched {
    policy: Policy,
    phase: Phase,
    // Failures since it last lasted.
    failures: u32,
    // When it failed, the oldest first.
    failed_ns: VecDeque<u64>,
    degraded: bool,
    started: bool,
    counts: Counts,
}

impl Watched {
    /// One that is to be started at once.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            phase: Phase::Resting { until_ns: 0, stalled: false },
            failures: 0,
            failed_ns: VecDeque::new(),
            degraded: false,
            started: false,
            counts: Counts { restarts: 0, stalls: 0 },
        }
    }

    /// What is counted.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The state that is shown.
    #[must_use]
    pub fn state(&self, signs: Signs) -> SourceState {
        match self.phase {
            Phase::Ended => SourceState::Ended,
            Phase::Aborting { .. } | Phase::Resting { stalled: true, .. } => SourceState::Stalled,
            _ if self.degraded => SourceState::Degraded,
            Phase::Resting { .. } if self.started => SourceState::Retrying,
            Phase::Resting { .. } => SourceState::Starting,
            Phase::Running { .. } if signs == Signs::None => SourceState::Starting,
            Phase::Running { .. } => SourceState::Running,
        }
    }

    /// When it is to be polled next, if nothing happens before.
    #[must_use]
    pub fn next_ns(&self, now_ns: u64, signs: Signs) -> Option<u64> {
        match self.phase {
            Phase::Resting { until_ns, .. } => Some(until_ns),
            Phase::Running { since_ns, settled } => {
                let patient_ns = match signs {
                    Signs::None => since_ns,
                    Signs::Waits => now_ns,
                    Signs::At(at_ns) => at_ns.max(since_ns),
                };
                let settles_ns = since_ns.saturating_add(self.policy.settled_ns);
                let stalls_ns = patient_ns.saturating_add(self.policy.patience_ns);
                Some(if settled || settles_ns <= now_ns { stalls_ns } else { stalls_ns.min(settles_ns) })
            }
            Phase::Aborting { since_ns } => Some(since_ns.saturating_add(self.policy.abort_ns)),
            Phase::Ended => None,
        }
    }

    /// The next step, if one is due. `entropy` is for the rest after it.
    pub fn poll(&mut self, now_ns: u64, signs: Signs, entropy: u64) -> Option<Step> {
        match self.phase {
            Phase::Resting { until_ns, .. } if until_ns <= now_ns => {
                self.counts.restarts += u64::from(self.started);
                self.started = true;
                self.phase = Phase::Running { since_ns: now_ns, settled: false };
                Some(Step::Start)
            }
            Phase::Running { since_ns, .. } if self.stalls(now_ns, since_ns, signs) => {
                self.phase = Phase::Aborting { since_ns: now_ns };
                Some(Step::Abort)
            }
            Phase::Running { since_ns, settled: false }
                if signs != Signs::None && now_ns >= since_ns.saturating_add(self.policy.settled_ns) =>
            {
                self.phase = Phase::Running { since_ns, settled: true };
                (self.failures, self.degraded) = (0, false);
                self.failed_ns.clear();
                None
            }
            Phase::Aborting { since_ns } if now_ns >= since_ns.saturating_add(self.policy.abort_ns) => {
                self.rest(now_ns, entropy, true);
                Some(Step::Abandon)
            }
            _ => None,
        }
    }

    /// The attempt has ended.
    pub fn handle_end(&mut self, now_ns: u64, ending: Ending, entropy: u64) {
        match (self.phase, ending) {
            (Phase::Running { .. }, Ending::Done) => self.phase = Phase::Ended,
            (Phase::Running { .. }, Ending::Failed) => self.rest(now_ns, entropy, false),
            (Phase::Aborting { .. }, _) => self.rest(now_ns, entropy, true),
            (Phase::Resting { .. } | Phase::Ended, _) => {}
        }
    }

    /// It is to be started anew at once, for no fault of its own, and nothing of its attempt runs any more. One that rests
    /// goes on to rest.
    pub const fn handle_renewal(&mut self, now_ns: u64) {
        if matches!(self.phase, Phase::Running { .. } | Phase::Aborting { .. }) {
            self.phase = Phase::Resting { until_ns: now_ns, stalled: false };
        }
    }

    fn stalls(&self, now_ns: u64, since_ns: u64, signs: Signs) -> bool {
        let last_ns = match signs {
            Signs::None => since_ns,
            Signs::Waits => return false,
            Signs::At(at_ns) => at_ns.max(since_ns),
        };
        now_ns >= last_ns.saturating_add(self.policy.patience_ns)
    }

    fn rest(&mut self, now_ns: u64, entropy: u64, stalled: bool) {
        self.counts.stalls += u64::from(stalled);
        self.failed_ns.push_back(now_ns);
        // No more are ever needed to know that they were too many.
        while self.failed_ns.len() > self.policy.failures_max + 1 {
            self.failed_ns.pop_front();
        }
        let recent = |at_ns: &&u64| now_ns.saturating_sub(**at_ns) < self.policy.within_ns;
        self.degraded |= self.failed_ns.iter().filter(recent).count() > self.policy.failures_max;
        let rest_ns = if self.degraded {
            self.policy.degraded_rest_ns
        } else {
            self.policy.retry.wait_ms(self.failures, entropy).saturating_mul(1_000_000)
        };
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Resting { until_ns: now_ns.saturating_add(rest_ns), stalled };
    }
}

#[cfg(test)]
mod tests;
