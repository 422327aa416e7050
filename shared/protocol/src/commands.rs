//! Commands: durable at both ends, begun at most once, whatever is killed. Two cores without I/O.
//!
//! ```text
//!  hub    queued ──▶ delivered ──▶ running ──▶ succeeded | failed | cancelled | expired
//!           │  ▲         ▲            ▲                         ▲
//!     sent to  └─ failed with a       │ said again until Noted  │
//!     journal J   code that may be    │                         │
//!           ▼     retried             │                         │
//!  agent  accepted ──────────────▶ begun ──▶ ended ─────────────┘
//! ```
//!
//! A driver calls `handle_*` with what happened, then `poll` until it gives `None`, and carries out each step in its order. A
//! `Commit` is made durable before the core is told so; what rests on it comes out of `poll` afterwards, and not before.
//!
//! 1. The hub notes durably to which journal it sends a command before it sends it. It sends only after the agent has said all
//!    that its journal holds.
//! 2. The agent says of a state what is durable there. It begins what it has durably noted as begun.
//! 3. What was begun when the agent was killed is not begun again, unless its kind says that it may be: it failed, as
//!    [`errors::INTERRUPTED`].
//! 4. An agent with another journal has lost what was sent to the old one: that failed, as [`errors::FORGOTTEN`].
//! 5. The agent knows a command for [`ENDED_KEEP_MS`] after its end, so that a hub that was restored and sends it again is told
//!    what became of it. It never begins one that was made before one that it has forgotten, as [`errors::FORGOTTEN`]: ids
//!    begin with the time of their making, see [`CommandId::made_ms`](crate::wire::CommandId::made_ms).
//! 6. What the hub has noted the end of is on the agent's disk alone, and the driver looks there: it takes no room from what is open.
//! 7. What an agent says replaces what a hub has concluded by itself.
//!
//! Assumed of disks: a commit is there whole or not at all, and what was committed stays. Not proven by anything: that a hub
//! that was restored to before it sent a command, to an agent that was wiped since, does not send it twice.

mod agent;
mod barrier;
mod hub;

pub use agent::{AgentChange, AgentCommands, AgentStep, Counts, Ended, Kept, Limits, Repeat, Unreadable};
pub use hub::{HubChange, HubCommand, HubCommands, HubStep, Order};

/// Most commands that an agent has and that are open: not begun, not ended, or ended and not noted by the hub.
pub const OPEN_MAX: usize = 1024;
/// Most commands that an agent knows the end of. Of more the oldest are forgotten, and none as old as these is begun.
pub const ENDED_MAX: usize = 16_384;
/// How long an agent knows the end of a command: longer than an operator takes to restore a hub.
pub const ENDED_KEEP_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Longest result that is kept with the end of a command once the hub has it.
pub const ENDED_RESULT_BYTES_MAX: usize = 1024;
/// Most commands that wait for one agent or are with it.
pub const QUEUED_PER_AGENT_MAX: usize = 1024;
/// Most commands that are with one agent and have not ended: the others wait at the hub, where they can be cancelled
/// without it.
pub const HANDED_MAX: usize = 64;
/// The number with which an agent says how a command ended that it does not have; what it had ends with a higher one.
const NEVER_HAD: u64 = 1;
/// How long after its deadline a hub waits for word of a command before it concludes that none will come.
pub const UNANSWERED_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Most attempts of one command.
pub const ATTEMPTS_MAX: u32 = 16;
/// Wait before the second attempt, ms; it doubles with each.
pub const RETRY_MS: i64 = 2_000;
/// Longest wait between two attempts, ms.
pub const RETRY_MAX_MS: i64 = 5 * 60 * 1000;

/// The codes of errors with which commands fail.
pub mod errors {
    /// It was begun, and the agent ended before it did: nobody knows how far it came.
    pub const INTERRUPTED: &str = "interrupted";
    /// It was sent, and the agent does not know it any more: it may have run.
    pub const FORGOTTEN: &str = "forgotten";
    /// It was sent, and no word of it came: it may have run.
    pub const UNANSWERED: &str = "unanswered";
    /// It was asked for, and nobody has said whether it is done.
    pub const UNKNOWN: &str = "unknown_outcome";
    /// It took too long and was ended; it may have had effects.
    pub const TIMEOUT: &str = "timeout";
    /// The agent does not know the kind. Nothing was done.
    pub const UNKNOWN_KIND: &str = "unknown_kind";
    /// The input is not as the kind wants it. Nothing was done.
    pub const BAD_INPUT: &str = "bad_input";
    /// The agent's configuration, or the device's profile, rules it out. Nothing was done.
    pub const NOT_ALLOWED: &str = "not_allowed";
    /// It was done, and did not do what it should.
    pub const FAILED: &str = "failed";
    /// There was no room for it. Nothing was done; it may be retried.
    pub const BUSY: &str = "busy";
    /// What it needs was not there. Nothing was done; it may be retried.
    pub const UNAVAILABLE: &str = "unavailable";

    /// Whether another attempt may come to a better end, and does nothing twice.
    #[must_use]
    pub fn may_retry(code: &str) -> bool {
        [BUSY, UNAVAILABLE].contains(&code)
    }
}

#[cfg(test)]
mod tests;
