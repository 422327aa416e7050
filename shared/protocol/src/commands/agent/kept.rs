//! What an agent keeps of a command.

use minicbor::{Decode, Encode};

use crate::commands::{ENDED_RESULT_BYTES_MAX, errors};
use crate::wire::{Command, CommandError, CommandState, OutputChunk, Progress};

/// What the journal holds of a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Kept {
    /// The command; without its input once it has ended.
    #[n(0)]
    pub command: Command,
    /// Delivered, running, or how it ended.
    #[n(1)]
    pub state: CommandState,
    #[n(2)]
    pub(super) number: u64,
    /// Why it failed.
    #[n(3)]
    pub error: Option<CommandError>,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(super) result: Option<Vec<u8>>,
    // Of one that has ended, until the hub has it.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub(super) output: Vec<u8>,
    #[n(6)]
    pub(super) order: u64,
    #[n(7)]
    pub(super) begun: u32,
    // When the hub was known to have its end, by the hub's clock.
    #[n(8)]
    pub(super) ended_ms: Option<i64>,
}

/// A record of the journal does not read back; a local fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the journal of commands does not read back: {0}")]
pub struct Unreadable(String);

impl Kept {
    /// One that was just accepted.
    pub(super) const fn accepted(command: Command, order: u64) -> Self {
        Self {
            command,
            state: CommandState::Delivered,
            number: 1,
            error: None,
            result: None,
            output: Vec::new(),
            order,
            begun: 0,
            ended_ms: None,
        }
    }

    /// Whether it has ended without effect, so that another attempt does nothing twice.
    pub(super) fn did_nothing(&self) -> bool {
        let failed = self.error.as_ref().filter(|_| self.state == CommandState::Failed);
        failed.is_some_and(|error| errors::may_retry(&error.code))
    }

    /// What is said of it.
    pub(super) fn progress(&self, percent: Option<u8>, output: Option<OutputChunk>) -> Progress {
        let Self { command, state, number, error, result, .. } = self;
        let (id, attempt, number, state) = (command.id, command.attempt, *number, *state);
        Progress { id, attempt, number, state, percent, output, error: error.clone(), result: result.clone() }
    }

    /// What is kept of its end once the hub has it: what came of it only where that is small.
    pub(super) fn settle(&mut self, ended_ms: i64) {
        self.ended_ms = Some(ended_ms);
        self.output = Vec::new();
        self.result.take_if(|result| result.len() > ENDED_RESULT_BYTES_MAX);
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// The bytes are not those of a record.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        minicbor::decode(bytes).map_err(|error| Unreadable(error.to_string()))
    }

    /// What is written.
    #[must_use]
    #[expect(clippy::expect_used, reason = "encoding into a Vec cannot fail")]
    pub fn bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a Vec takes all bytes")
    }
}

pub(super) fn interrupted() -> CommandError {
    CommandError::new(errors::INTERRUPTED, "the agent ended while it ran: nobody knows how far it came")
}
