//! The uplink session, both ends, without I/O: the same over every transport.
//!
//! A driver calls `handle_*` with what happened, then `poll` until it gives `None`, and carries out
//! each action. Frames go out in the order polled. A session lives as long as its connection; what
//! must survive it is in the spool and in the store.
//!
//! - Agent, [`AgentSession`]: `new` → poll (hello) → welcome → runs by lane, within credit and
//!   window → acks. Nothing is in flight beyond the session: after a reconnect the hub's ranges say
//!   what is left to send.
//! - Hub, [`HubSession`]: hello → `Open` → [`HubSession::handle_opened`] → welcome → for each run
//!   `Append` → [`HubSession::handle_durable`] with the only type that an ack is made from.

mod agent;
mod hub;
mod lanes;

pub use agent::{AgentAction, AgentSession, SpoolView, Urgent};
pub use hub::{AgentState, HubAction, HubSession};

use crate::model::Seq;
use crate::wire::{Refuse, RefuseCode};

/// Run bytes that a hub lets an agent have on the way: bounds the hub's memory per session.
pub const CREDIT_BYTES: u64 = 16 * 1024 * 1024;
/// Most backfill runs that an agent has on the way.
pub const RUNS_IN_FLIGHT_MAX: usize = 8;
/// Most other runs that an agent has on the way: beyond it fresh readings gather in larger runs.
pub const URGENT_IN_FLIGHT_MAX: usize = 32;
/// Most gaps that an agent has on the way.
pub const GAPS_IN_FLIGHT_MAX: usize = 16;
/// Backfill bytes on the way that a session begins with.
pub const BACKFILL_WINDOW_START: u64 = 64 * 1024;
/// Backfill bytes on the way, at least.
pub const BACKFILL_WINDOW_MIN: u64 = 16 * 1024;
/// Backfill bytes on the way, at most.
pub const BACKFILL_WINDOW_MAX: u64 = 8 * 1024 * 1024;
/// Longest queue that backfill may make on the link, as time: fresh readings wait behind it.
pub const QUEUE_DELAY_NS: u64 = 500_000_000;
/// Longest stretch of seqs that one run leaves out.
pub const HOLE_SEQS_MAX: u64 = 64;
/// Stored bytes that a backfill run is packed from.
pub const BACKFILL_RUN_BYTES: usize = 1024 * 1024;
/// Stored bytes that a live run is packed from.
pub const LIVE_RUN_BYTES: usize = 256 * 1024;
/// Ranges of seqs at the hub from which on only fresh readings go ahead in the order of seqs: the hub keeps
/// each range, and old alarms between old readings would make two of each.
pub const RANGES_AHEAD_MAX: usize = 8192;
/// Ranges of seqs at the hub from which on all wait but what makes no range more, and the oldest.
pub const RANGES_MAX: usize = 14_336;
/// Most ranges of seqs in one run.
pub const RUN_RANGES_MAX: usize = 1024;
/// Ranges of dropped seqs from which on an agent tells its hub up to where they may be folded.
pub const FOLDED_FROM: usize = 8;
/// Least time between two reports of the agent's account: a little less than a second, so that one
/// travels in the datagram of a live run each second instead of in its own between two of them.
pub const REPORT_INTERVAL_NS: u64 = 900_000_000;
/// Time between two pings of an agent that sends nothing.
pub const PING_IDLE_NS: u64 = 15_000_000_000;
/// Time between two pings of an agent that sends.
pub const PING_SENDING_NS: u64 = 3_000_000_000;
/// Longest silence of a hub: two answers to pings of an idle agent may be lost.
pub const SILENCE_MAX_NS: u64 = 35_000_000_000;
/// Longest wait for the hub's first answer.
pub const HELLO_TIMEOUT_NS: u64 = 10_000_000_000;

/// How much of the link old readings may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillBudget {
    /// Bytes a second; 0 sets no limit.
    pub bytes_per_s: u64,
    /// Part of the time that the link may be busy with it, 1 to 100 percent.
    pub share_percent: u8,
}

impl Default for BackfillBudget {
    fn default() -> Self {
        Self { bytes_per_s: 0, share_percent: 100 }
    }
}

/// Why a session ended. After it only a new connection helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The other end refused to go on.
    #[error("refused by the other end ({code:?}): {reason}")]
    Refused {
        /// For programs.
        code: RefuseCode,
        /// For people.
        reason: String,
        /// Least time before the next attempt, ms; 0 when the other end named none.
        retry_after_ms: u32,
    },
    /// The other end broke the protocol.
    #[error("protocol broken by the other end: {0}")]
    Protocol(String),
    /// No answer in time.
    #[error("no answer to the hello within {} s", HELLO_TIMEOUT_NS / 1_000_000_000)]
    Timeout,
    /// The line is open, but the hub says nothing, not even to a ping.
    #[error("no word from the hub for {} s", SILENCE_MAX_NS / 1_000_000_000)]
    Silent,
    /// The hub holds seqs that this spool has not given out: the spool is an older copy of itself,
    /// or somebody else has another copy. Seqs given out from here on would be taken for those.
    #[error("the hub holds seqs up to {held}, this spool has given out {head}: it is an old copy")]
    OldCopy {
        /// The newest seq at the hub.
        held: Seq,
        /// The newest seq here.
        head: Seq,
    },
}

impl From<Refuse> for SessionError {
    fn from(refuse: Refuse) -> Self {
        Self::Refused { code: refuse.code, reason: refuse.reason, retry_after_ms: refuse.retry_after_ms }
    }
}

#[cfg(test)]
mod tests;
