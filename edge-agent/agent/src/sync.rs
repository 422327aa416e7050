//! `edge-agent sync`: brings what is pending to the hub now, and tells whether it got there.
//!
//! It changes nothing of what is sent or how: it ends the uplink's wait, and watches the spool.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::spooler::SpoolHandle;
use crate::status::{Board, BreakerStatus};

/// Longest that one call may wait.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Whether the hub has settled all that was pending when it was called.
    pub reached: bool,
    /// Rows that the hub stored meanwhile.
    pub sent: u64,
    /// Rows that it refused meanwhile.
    pub refused: u64,
    /// Rows that were given up meanwhile.
    pub dropped: u64,
    /// Rows pending now, newer ones among them.
    pub pending: u64,
    /// The hub's address.
    pub hub: String,
    /// Whether the hub has welcomed the agent.
    pub connected: bool,
    /// The circuit breaker.
    pub breaker: BreakerStatus,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

impl std::fmt::Display for SyncReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows sent, {} pending", self.sent, self.pending)?;
        for (count, what) in [(self.refused, "refused by the hub"), (self.dropped, "dropped")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if self.reached {
            return Ok(());
        }
        let link = if self.connected { "connected" } else { "not connected" };
        let (state, failures) = (&self.breaker.state, self.breaker.failures);
        let error = self.last_error.as_deref().unwrap_or("none");
        write!(
            f,
            "; {link} to hub {}, breaker {state} after {failures} failures, last error: {error}",
            self.hub
        )
    }
}

/// Ends the uplink's waits. A wake is kept until the next wait, which it ends at once.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Ends the wait.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Returns when woken; cancel safe.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// What a call works with.
#[derive(Clone)]
pub struct Syncer {
    /// The spool.
    pub spool: SpoolHandle,
    /// What the others show of themselves.
    pub board: Board,
    /// Ends the uplink's wait.
    pub wake: Wake,
}

impl Syncer {
    /// Waits until all that is pending now is settled, at most `timeout`. A new epoch of the spool
    /// ends it: what was pending of the old one will not be sent.
    pub async fn run(&self, timeout: Duration) -> SyncReport {
        let mut state = self.spool.state();
        let start = *state.borrow_and_update();
        self.wake.wake();
        let settled = state.wait_for(|now| now.epoch != start.epoch || now.pending_from > start.head);
        let reached = match tokio::time::timeout(timeout.min(TIMEOUT_MAX), settled).await {
            Ok(Ok(now)) => now.epoch == start.epoch,
            Ok(Err(_)) | Err(_) => false,
        };
        let (now, status) = (*self.spool.state().borrow(), self.board.read());
        let since = |after: u64, before: u64| after.saturating_sub(before);
        SyncReport {
            reached,
            sent: since(now.account.stored, start.account.stored),
            refused: since(now.account.refused, start.account.refused),
            dropped: since(now.account.dropped, start.account.dropped),
            pending: now.account.pending,
            hub: status.hub,
            connected: status.connected,
            breaker: status.breaker,
            last_error: status.last_error,
        }
    }
}
