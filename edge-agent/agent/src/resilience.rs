//! What every call that leaves the agent goes through: back-off, circuit breaker, time limit, and an
//! end that leaves nothing behind.
//!
//! ```text
//!            5 failures                    its time is over
//!  closed ───────────────▶ open ──────────────────────────▶ half-open: exactly 1 call at a time
//!     ▲                     ▲ ▲                                 │   │
//!     │                     │ └─────────── 1 failure ───────────┘   │
//!     └─────────────────────┴── 3 successes ────────────────────────┘
//! ```
//!
//! [`Retry`], [`Breaker`] and [`Circuit`], which is both for one endpoint, are pure: they read no
//! clock and draw no randomness. [`Caller`] is the rim around a circuit.
//!
//! How long an open circuit waits depends on what waits with it, see [`Pace`]: 60 s as such, but no
//! longer than the back-off (1 s at most) while readings wait for it, as a hub that is back is to
//! have its agents back. Only a hub's own refusal makes it longer then.

mod breaker;
mod caller;
mod circuit;
mod retry;

use std::time::Duration;

pub use breaker::{Breaker, BreakerState, CLOSING_SUCCESSES, OPEN_NS, OPENING_FAILURES, Permit};
pub use caller::{CallError, Caller};
pub use circuit::{Circuit, CircuitStatus, Held, Pace, Refusal};
pub use retry::Retry;

/// Longest wait for the answer to a request.
pub const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What jitter is drawn from.
#[must_use]
pub fn entropy() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without entropy the wait is the shortest: worse for the hub, not for the readings.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
