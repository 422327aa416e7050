//! What an agent keeps of a command.

use minicbor::{Decode, Encode};

use crate::wire::{Command, CommandError, CommandState};

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
}

/// A record of the journal does not read back; a local fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the journal of commands does not read back: {0}")]
pub struct Unreadable(String);

impl Kept {
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
