//! The circuit breaker, as a pure state machine.
//!
//! Call order: [`Breaker::admit`] before each call; then [`Breaker::succeed`] as often as the call
//! achieves something (a session does so many times), and at its end [`Breaker::fail`] or
//! [`Breaker::release`]. The outcome of a call that began before the state changed counts for nothing:
//! it speaks of the past.

/// Failures in a row that open a breaker.
pub const OPENING_FAILURES: u32 = 5;
/// How long an open breaker lets nothing through, unless told otherwise.
pub const OPEN_NS: u64 = 60_000_000_000;
/// Successes that close a half-open breaker.
pub const CLOSING_SUCCESSES: u32 = 3;

/// What a breaker lets through, in the words that status and metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// None.
    Open,
    /// One at a time.
    HalfOpen,
}

impl BreakerState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since_ns: u64 },
    HalfOpen { probing: bool, successes: u32 },
}

/// The right to one call. Whoever holds it gives it back by its outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    // Of the state that it was given in.
    turn: u64,
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    turn: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, turn: 0 }
    }
}

impl Breaker {
    /// What it lets through.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// From when on a call may be admitted when open breakers stay so for `open_ns`; `None` while it
    /// depends on the call that is on its way.
    #[must_use]
    pub const fn ready_ns(&self, open_ns: u64) -> Option<u64> {
        match self.state {
            State::Closed { .. } | State::HalfOpen { probing: false, .. } => Some(0),
            State::Open { since_ns } => Some(since_ns.saturating_add(open_ns)),
            State::HalfOpen { probing: true, .. } => None,
        }
    }

    /// Admits a call, or not.
    pub fn admit(&mut self, now_ns: u64, open_ns: u64) -> Option<Permit> {
        if now_ns < self.ready_ns(open_ns)? {
            return None;
        }
        match &mut self.state {
            State::Closed { .. } => {}
            State::Open { .. } => self.enter(State::HalfOpen { probing: true, successes: 0 }),
            State::HalfOpen { probing, .. } => *probing = true,
        }
        Some(Permit { turn: self.turn })
    }

    /// The call has achieved something.
    pub fn succeed(&mut self, permit: &mut Permit) {
        if permit.turn != self.turn {
            return;
        }
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            State::HalfOpen { successes, .. } => {
                *successes += 1;
                if *successes >= CLOSING_SUCCESSES {
                    self.enter(State::Closed { failures: 0 });
                    // A session that closes the breaker goes on, and its end is to count.
                    permit.turn = self.turn;
                }
            }
            State::Open { .. } => {}
        }
    }

    /// The call has failed.
    pub fn fail(&mut self, permit: Permit, now_ns: u64) {
        if permit.turn != self.turn {
            return;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures >= OPENING_FAILURES {
                    self.enter(State::Open { since_ns: now_ns });
                }
            }
            State::HalfOpen { .. } => self.enter(State::Open { since_ns: now_ns }),
            State::Open { .. } => {}
        }
    }

    /// The call has ended, and it says nothing about the endpoint that was not said before.
    pub fn release(&mut self, permit: Permit) {
        match &mut self.state {
            State::HalfOpen { probing, .. } if permit.turn == self.turn => *probing = false,
            _ => {}
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.turn += 1;
    }
}
