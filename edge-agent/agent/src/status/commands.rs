//! What the agent shows of the hub's commands.

use serde::{Deserialize, Serialize};
use tideline_protocol::commands::Counts;

/// State of the hub's commands. What is counted is so since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandsStatus {
    /// Those that wait to be begun.
    pub waiting: u64,
    /// Those that run.
    pub running: u64,
    /// Those that have ended, which the hub has not noted yet.
    pub untold: u64,
    /// Those that were done.
    pub succeeded: u64,
    /// Those that were not, or are not known to be.
    pub failed: u64,
    /// Those that were ended on request.
    pub cancelled: u64,
    /// Those that were not begun in time.
    pub expired: u64,
    /// Those that were not taken.
    pub declined: u64,
    /// How long those that ended have run, all together, in ms.
    pub run_ms: u64,
}

impl CommandsStatus {
    /// With these counts.
    #[must_use]
    pub const fn with(self, counts: Counts) -> Self {
        let Counts { succeeded, failed, cancelled, expired, declined } = counts;
        Self { succeeded, failed, cancelled, expired, declined, ..self }
    }

    /// Those that are open, by where they are.
    #[must_use]
    pub const fn open(&self) -> [(&'static str, u64); 3] {
        [("waiting", self.waiting), ("running", self.running), ("untold", self.untold)]
    }

    /// Those that have ended, by how.
    #[must_use]
    pub const fn ended(&self) -> [(&'static str, u64); 4] {
        [
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
            ("expired", self.expired),
        ]
    }
}
