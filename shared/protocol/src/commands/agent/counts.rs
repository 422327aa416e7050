//! What became of an agent's commands since its start.

use super::AgentCommands;
use crate::wire::CommandState;

/// How many came to which end since the agent's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Done.
    pub succeeded: u64,
    /// Not done, or not known to be; what the last start broke off is among them.
    pub failed: u64,
    /// Ended on request.
    pub cancelled: u64,
    /// Not begun within their time.
    pub expired: u64,
    /// Not taken: there was no room, or they may have run before.
    pub declined: u64,
}

impl Counts {
    pub(super) const fn end(&mut self, state: CommandState) {
        match state {
            CommandState::Succeeded => self.succeeded += 1,
            CommandState::Failed => self.failed += 1,
            CommandState::Cancelled => self.cancelled += 1,
            CommandState::Expired => self.expired += 1,
            CommandState::Queued | CommandState::Delivered | CommandState::Running => {}
        }
    }
}

impl AgentCommands {
    /// What became of commands since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many were begun and have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.in_state(CommandState::Running)
    }

    /// How many wait to be begun.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_state(CommandState::Delivered)
    }

    /// How many have ended and are not noted by the hub.
    #[must_use]
    pub fn untold(&self) -> usize {
        let is_untold = |entry: &&super::Entry| entry.kept.state.is_final() && !entry.noted;
        self.entries.values().filter(is_untold).count()
    }

    fn in_state(&self, state: CommandState) -> usize {
        self.entries.values().filter(|entry| entry.kept.state == state).count()
    }
}
