//! Back-off and breaker of one endpoint, as one pure state machine.
//!
//! What counts as success is not the welcome, as a hub may welcome an agent and then refuse all that
//! it brings: a session must have settled something, or lived for a while.

use tideline_protocol::wire::RefuseCode;

use super::breaker::{Breaker, BreakerState, OPEN_NS, Permit};
use super::retry::Retry;

/// The waits towards a hub: it sees its agents within a second of being back.
const HUB: Retry = Retry { base_ms: 100, factor: 2, max_ms: 1_000 };
/// The waits after a refusal that only an operator can end: each attempt costs both ends a TLS
/// handshake and will fail alike until somebody acts, who then should not have to wait longer than this.
const REFUSED: Retry = Retry { base_ms: 1_000, factor: 2, max_ms: 30_000 };

/// Longest wait that a hub may ask for: a mistake of its must not keep its agents away for days.
const ASKED_MAX_MS: u64 = 600_000;

/// What waits for a circuit, and so how long it may stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Readings wait: the back-off alone counts.
    Urgent,
    /// Another endpoint does the work meanwhile.
    Standby {
        /// Between two probes, in ns.
        every_ns: u64,
    },
    /// Nothing waits.
    Idle,
}

impl Pace {
    const fn open_ns(self) -> u64 {
        match self {
            Self::Urgent => 0,
            Self::Standby { every_ns } => every_ns,
            Self::Idle => OPEN_NS,
        }
    }
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Not before this moment, in monotonic ns.
    Until(u64),
    /// Not before the outcome of the call that is on its way.
    Probing,
}

/// How a hub said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: RefuseCode,
    /// Least time before the next attempt, in ms, as the hub asks for; 0 when it names none.
    pub retry_after_ms: u32,
}

impl From<RefuseCode> for Refusal {
    fn from(code: RefuseCode) -> Self {
        Self { code, retry_after_ms: 0 }
    }
}

/// What is shown of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitStatus {
    /// The breaker.
    pub state: BreakerState,
    /// Failures since the last success.
    pub failures: u32,
    /// The wait that was last drawn, in ms; 0 after a success.
    pub wait_ms: u64,
}

/// Back-off and breaker of one endpoint.
#[derive(Debug, Default)]
pub struct Circuit {
    breaker: Breaker,
    failures: u32,
    achieved: bool,
    wait_ms: u64,
    not_before_ns: u64,
}

impl Circuit {
    /// What is shown of it.
    #[must_use]
    pub const fn status(&self) -> CircuitStatus {
        let (failures, wait_ms) = if self.achieved { (0, 0) } else { (self.failures, self.wait_ms) };
        CircuitStatus { state: self.breaker.state(), failures, wait_ms }
    }

    /// From when on a call may be admitted, in monotonic ns; `None` while one is on its way that has
    /// to end first.
    #[must_use]
    pub fn ready_ns(&self, pace: Pace) -> Option<u64> {
        Some(self.breaker.ready_ns(pace.open_ns())?.max(self.not_before_ns))
    }

    /// Admits a call.
    ///
    /// # Errors
    /// It may not be made now.
    pub fn admit(&mut self, now_ns: u64, pace: Pace) -> Result<Permit, Held> {
        match self.ready_ns(pace) {
            None => Err(Held::Probing),
            Some(ready_ns) if now_ns < ready_ns => Err(Held::Until(ready_ns)),
            Some(ready_ns) => self.breaker.admit(now_ns, pace.open_ns()).ok_or(Held::Until(ready_ns)),
        }
    }

    /// The call has achieved something. That is a success, unless it ends with a refusal: two agents
    /// with one identity would replace each other without end.
    pub fn succeed(&mut self, permit: &mut Permit) {
        self.achieved = true;
        self.breaker.succeed(permit);
    }

    /// The call has failed, and with this refusal if it was the hub that ended it. Gives the wait in ms:
    /// what the hub asks for, and the back-off after it, so that not all come at the first moment.
    pub fn fail(&mut self, permit: Permit, now_ns: u64, refused: Option<Refusal>, entropy: u64) -> u64 {
        self.fail_since(permit, now_ns, now_ns, refused, entropy)
    }

    /// As [`Self::fail`], for a call that was begun at `since_ns` and waited for an answer since: that
    /// time counts as waited, unless it was refused. A line that comes back between two attempts finds
    /// nobody.
    pub fn fail_since(
        &mut self,
        permit: Permit,
        since_ns: u64,
        now_ns: u64,
        refused: Option<Refusal>,
        entropy: u64,
    ) -> u64 {
        if self.achieved && refused.is_none() {
            self.failures = 0;
        }
        self.achieved = false;
        let retry = if refused.is_some_and(|refused| needs_operator(refused.code)) { REFUSED } else { HUB };
        let asked_ms = refused.map_or(0, |refused| u64::from(refused.retry_after_ms).min(ASKED_MAX_MS));
        self.wait_ms = retry.wait_ms(self.failures, entropy) + asked_ms;
        self.failures = self.failures.saturating_add(1);
        let from_ns = if refused.is_some() { now_ns } else { since_ns };
        self.not_before_ns = from_ns.saturating_add(self.wait_ms.saturating_mul(1_000_000));
        self.breaker.fail(permit, now_ns);
        self.wait_ms
    }

    /// The call ended, and nobody is to blame.
    pub fn release(&mut self, permit: Permit) {
        if self.achieved {
            (self.failures, self.wait_ms) = (0, 0);
        }
        self.breaker.release(permit);
    }

    /// Somebody asks for an attempt now: the back-off is over, the breaker stays as it is.
    pub const fn hurry(&mut self) {
        self.not_before_ns = 0;
    }
}

/// Whether trying again cannot help until somebody acts.
const fn needs_operator(code: RefuseCode) -> bool {
    match code {
        RefuseCode::Version | RefuseCode::Identity | RefuseCode::Revoked | RefuseCode::Protocol => true,
        RefuseCode::Unavailable | RefuseCode::Replaced => false,
    }
}
