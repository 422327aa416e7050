//! What agent and hub say of commands. The rules are those of [`crate::commands`]; here are its messages.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{KIND_COMMAND, KIND_PROGRESS, Message, TEXT_BYTES_MAX, WireError};
use crate::model::DeviceId;

/// The ability of both ends to speak of commands, as named in hello and welcome.
pub const COMMANDS_ABILITY: &str = "commands";
/// Longest name of a kind in bytes.
pub const COMMAND_KIND_BYTES_MAX: usize = 64;
/// Longest input of a command in bytes of JSON.
pub const COMMAND_INPUT_BYTES_MAX: usize = 64 * 1024;
/// Longest result of a command in bytes of JSON.
pub const COMMAND_RESULT_BYTES_MAX: usize = 64 * 1024;
/// Longest piece of output in one message: readings do not wait long behind it.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Longest output of one attempt in bytes; what comes beyond it is left out.
pub const OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// Longest code of an error in bytes.
pub const ERROR_CODE_BYTES_MAX: usize = 64;
/// Longest text of an error in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 2 * 1024;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// One of 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = NoId;

            fn from_str(text: &str) -> Result<Self, NoId> {
                let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
                value.map(|value| Self(value.to_be_bytes())).ok_or(NoId { what: $what })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a {what} has 32 hexadecimal digits")]
pub struct NoId {
    what: &'static str,
}

id_type!(
    /// Names a command, whatever becomes of it: made by its hub, of the time and random bytes.
    CommandId,
    "command"
);

impl CommandId {
    /// One that was made at this time, in Unix ms, with these bytes being random.
    #[must_use]
    pub fn made(now_ms: i64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        let time = u64::try_from(now_ms).unwrap_or_default().to_be_bytes();
        let from = time.iter().skip(2).chain(&random);
        bytes.iter_mut().zip(from).for_each(|(byte, from)| *byte = *from);
        Self(bytes)
    }

    /// When it was made, in Unix ms by its hub's clock: what its first six bytes say.
    #[must_use]
    pub fn made_ms(&self) -> i64 {
        self.0.iter().take(6).fold(0, |ms, byte| ms << 8 | i64::from(*byte))
    }
}

id_type!(
    /// Names the journal of an agent's commands: random, made with it, so that a wiped agent has another.
    JournalId,
    "journal"
);

/// Where a command is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// At the hub alone, as far as is known.
    #[n(0)]
    Queued,
    /// Durable at the agent, and not begun.
    #[n(1)]
    Delivered,
    /// Begun.
    #[n(2)]
    Running,
    /// Done.
    #[n(3)]
    Succeeded,
    /// Not done, or not known to be; the error says which.
    #[n(4)]
    Failed,
    /// Ended on request.
    #[n(5)]
    Cancelled,
    /// Not begun within its time.
    #[n(6)]
    Expired,
}

impl CommandState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Delivered,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for CommandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command for a device, which the agent accepts once: a second one of the same id and attempt is the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Command {
    /// Its id.
    #[n(0)]
    pub id: CommandId,
    /// For which device: the agent's own or one behind it.
    #[n(1)]
    pub device: DeviceId,
    /// What is to be done. One that the agent does not know fails, and nothing else.
    #[n(2)]
    pub kind: String,
    /// With what, as JSON.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub input: Vec<u8>,
    /// Higher ones go first.
    #[n(4)]
    pub priority: u8,
    /// When it is too late to begin it, by the hub's clock in Unix ms.
    #[n(5)]
    pub deadline_ms: i64,
    /// Who wants it.
    #[n(6)]
    pub author: String,
    /// From 1 on. A higher one takes the place of one that has ended.
    #[n(7)]
    pub attempt: u32,
}

/// The command is to end, and not to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Cancel {
    /// Which.
    #[n(0)]
    pub id: CommandId,
    /// Which of its attempts.
    #[n(1)]
    pub attempt: u32,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct CommandError {
    /// For programs; see [`crate::commands::errors`].
    #[n(0)]
    pub code: String,
    /// For people.
    #[n(1)]
    pub text: String,
}

impl CommandError {
    /// One of this code; the text is cut to what a message may carry.
    #[must_use]
    pub fn new(code: &str, text: impl fmt::Display) -> Self {
        let (mut code, mut text) = (code.to_owned(), text.to_string());
        code.truncate(code.floor_char_boundary(ERROR_CODE_BYTES_MAX));
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        Self { code, text }
    }
}

/// A piece of a command's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct OutputChunk {
    /// Where it begins.
    #[n(0)]
    pub offset: u64,
    /// What it is; bytes of whatever kind.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// How far an attempt has come. What it says of a state is durable at the agent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Progress {
    /// Which command.
    #[n(0)]
    pub id: CommandId,
    /// Which of its attempts.
    #[n(1)]
    pub attempt: u32,
    /// Grows with all that is said of the attempt; the same number says the same.
    #[n(2)]
    pub number: u64,
    /// Where it is; never queued.
    #[n(3)]
    pub state: CommandState,
    /// How much is done, where that is known.
    #[n(4)]
    pub percent: Option<u8>,
    /// More of its output.
    #[n(5)]
    pub output: Option<OutputChunk>,
    /// Why it failed.
    #[n(6)]
    pub error: Option<CommandError>,
    /// What came of it, as JSON.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub result: Option<Vec<u8>>,
}

/// What was said of an attempt up to this number is durable at the hub, or of no use to it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Noted {
    /// Which command.
    #[n(0)]
    pub id: CommandId,
    /// Which of its attempts.
    #[n(1)]
    pub attempt: u32,
    /// Up to here.
    #[n(2)]
    pub number: u64,
}

/// All that the agent's journal holds was said in this session; only now does the hub send commands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Journal {
    /// Which journal.
    #[n(0)]
    pub journal: JournalId,
    /// Commands that were made up to here may have been forgotten, and none later: by [`CommandId::made_ms`].
    #[n(1)]
    pub forgotten_ms: i64,
}

/// What a hub says of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented at its body")]
pub enum ToAgent {
    Command(Command),
    Cancel(Cancel),
    Noted(Noted),
}

/// What an agent says of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented at its body")]
pub enum ToHub {
    Progress(Progress),
    Journal(Journal),
}

impl From<ToAgent> for Message {
    fn from(said: ToAgent) -> Self {
        match said {
            ToAgent::Command(command) => Self::Command(command),
            ToAgent::Cancel(cancel) => Self::Cancel(cancel),
            ToAgent::Noted(noted) => Self::Noted(noted),
        }
    }
}

impl From<ToHub> for Message {
    fn from(said: ToHub) -> Self {
        match said {
            ToHub::Progress(progress) => Self::Progress(progress),
            ToHub::Journal(journal) => Self::Journal(journal),
        }
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), WireError> {
    if found > max { Err(WireError::TooLong { what, found, max }) } else { Ok(()) }
}

pub(super) fn check_command(command: &Command) -> Result<(), WireError> {
    within("kind of a command", command.kind.len(), COMMAND_KIND_BYTES_MAX)?;
    within("input of a command", command.input.len(), COMMAND_INPUT_BYTES_MAX)?;
    within("author of a command", command.author.len(), TEXT_BYTES_MAX)?;
    if command.attempt == 0 {
        return Err(WireError::Malformed { kind: KIND_COMMAND, reason: "attempts begin with 1".into() });
    }
    Ok(())
}

pub(super) fn check_progress(progress: &Progress) -> Result<(), WireError> {
    let malformed = |reason: &str| WireError::Malformed { kind: KIND_PROGRESS, reason: reason.into() };
    if progress.state == CommandState::Queued {
        return Err(malformed("what an agent tells of is not queued any more"));
    }
    if progress.percent.is_some_and(|percent| percent > 100) {
        return Err(malformed("more than 100 percent"));
    }
    if let Some(chunk) = &progress.output {
        within("piece of output", chunk.bytes.len(), OUTPUT_CHUNK_BYTES_MAX)?;
        if chunk.offset.saturating_add(chunk.bytes.len() as u64) > OUTPUT_BYTES_MAX {
            return Err(malformed("more output than is allowed"));
        }
    }
    if let Some(error) = &progress.error {
        within("code of an error", error.code.len(), ERROR_CODE_BYTES_MAX)?;
        within("text of an error", error.text.len(), ERROR_TEXT_BYTES_MAX)?;
    }
    within("result of a command", progress.result.as_ref().map_or(0, Vec::len), COMMAND_RESULT_BYTES_MAX)
}
