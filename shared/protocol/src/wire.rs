//! THE byte format between agent and hub, version 1. `wire.cddl` beside this file is its text.
//!
//! ```text
//! offset  bytes  field
//!      0      2  magic, "TL"
//!      2      1  version, 1
//!      3      1  kind
//!      4      1  flags; bit 0: a trace context follows, bit 1: a correlation id does
//!      5      3  length of what follows the header, big-endian
//!      8      4  CRC-32C of the header with this field zero, and of all that follows it
//!     12    (8)  correlation id, big-endian, not 0
//!     ..   (25)  W3C trace context: trace id, parent id, flags
//!     ..      n  CBOR of the message; for a run: its length as 4 bytes, the CBOR, the block
//! ```
//!
//! Every length is checked against a named limit before anything is allocated, and a message must
//! be in the one encoding that this module itself writes (INV-7).

mod audit;
mod body;
mod commands;
mod config;
mod devices;
mod limits;
mod twin;

use minicbor::{Decode, Encode};

pub use audit::{AUDIT_SEQS_MAX, Agreement, Audit, DIGESTS_MAX, Digest};
pub use body::{
    Ack, Breaker, Carrier, Health, Hello, Lane, Ping, Pong, Refuse, RefuseCode, Report, Restamp, Run,
    RunEnvelope, Series, Settlement, WayHealth, Welcome,
};
pub use commands::{
    COMMAND_INPUT_BYTES_MAX, COMMAND_KIND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX, COMMANDS_ABILITY, Cancel,
    Command, CommandError, CommandId, CommandState, ERROR_CODE_BYTES_MAX, ERROR_TEXT_BYTES_MAX, Journal,
    JournalId, NoId, Noted, OUTPUT_BYTES_MAX, OUTPUT_CHUNK_BYTES_MAX, OutputChunk, Progress, ToAgent, ToHub,
};
pub use config::{
    CONFIG_ABILITY, CONFIG_BYTES_MAX, CONFIG_NAME_BYTES_MAX, CONFIG_OPTIONS_MAX, CONFIG_VALUE_BYTES_MAX,
    ConfigAsked, ConfigInForce, ConfigOption, ConfigSource,
};
pub use devices::{
    CARDS_PER_MESSAGE_MAX, DEVICES_ABILITY, DeviceCard, Devices, KEEP_ABILITY, PROFILE_ABILITY,
};
pub use twin::{DocumentId, GROUPS_ABILITY, TWIN_ABILITY, TWIN_BYTES_MAX, TwinSync};

/// All that an end of this version can do beside what each can.
pub const ABILITIES: [&str; 7] = [
    DEVICES_ABILITY,
    TWIN_ABILITY,
    COMMANDS_ABILITY,
    CONFIG_ABILITY,
    GROUPS_ABILITY,
    KEEP_ABILITY,
    PROFILE_ABILITY,
];

use crate::model::Gap;

/// The version that this code writes.
pub const VERSION: u8 = 1;
/// The first bytes of every frame.
pub const MAGIC: [u8; 2] = *b"TL";
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 12;
/// Bytes of a correlation id.
pub const CORR_LEN: usize = 8;
/// Bytes of a trace context.
pub const TRACE_LEN: usize = 25;
/// Longest frame body: one run of [`RUN_BYTES_MAX`] with its envelope.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest columnar block of a run.
pub const RUN_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Longest CBOR message but one about a twin.
pub const ENVELOPE_BYTES_MAX: usize = 1024 * 1024 - 4;
/// Most readings in one run; bounds what decoding it allocates to 16 MiB a column pair.
pub const RUN_ROWS_MAX: u64 = 1 << 20;
/// Most seqs in one run.
pub const RUN_SEQS_MAX: u64 = 1 << 16;
/// Most corrections of times in one run.
pub const RESTAMPS_PER_RUN_MAX: usize = 16;
/// Most seqs in one gap: half a year of batches, one a second.
pub const GAP_SEQS_MAX: u64 = 1 << 24;
/// Most pairs of counts in one gap: bounds the work of splitting it by what the hub has.
pub const GAP_RUNS_MAX: usize = 4096;
/// Most protocol versions, and most abilities, in one message.
pub const NAMES_MAX: usize = 64;
/// Most dictionary entries in one message.
pub const SERIES_PER_MESSAGE_MAX: usize = 4096;
/// Longest free text (reasons, software names) in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Most ways to the hub that an agent tells of: its eight addresses by each carrier.
pub const WAYS_MAX: usize = 16;
/// Longest address of a way in bytes: a DNS name and a port.
pub const ADDRESS_BYTES_MAX: usize = 262;

const LEN_OFFSET: usize = 5;
const CRC_OFFSET: usize = 8;
const FLAG_TRACE: u8 = 1;
const FLAG_CORR: u8 = 2;

/// What is wrong with received bytes. All variants are the peer's fault or the line's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no frame.
    #[error("not a tideline frame: it begins with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// A version that this code does not speak.
    #[error("frame version {found} is unknown; this end speaks version {VERSION}")]
    Version {
        /// The version of the frame.
        found: u8,
    },
    /// A kind that version 1 does not have.
    #[error("frame kind {found} is unknown in version {VERSION}")]
    Kind {
        /// The kind of the frame.
        found: u8,
    },
    /// Flags that version 1 does not have.
    #[error("frame flags {found:#04x} are not those of version {VERSION}")]
    Flags {
        /// The flags of the frame.
        found: u8,
    },
    /// A length beyond its limit.
    #[error("{what} has {found} bytes; allowed are {max}")]
    TooLong {
        /// Which length.
        what: &'static str,
        /// The announced length.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The checksum does not match.
    #[error("frame checksum is {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// As the frame says.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// The message is malformed.
    #[error("frame of kind {kind} is malformed: {reason}")]
    Malformed {
        /// The kind of the frame.
        kind: u8,
        /// What is wrong.
        reason: String,
    },
    /// The message is valid CBOR, but not in the one encoding that is allowed.
    #[error("frame of kind {kind} is not in canonical encoding")]
    NotCanonical {
        /// The kind of the frame.
        kind: u8,
    },
}

/// A W3C trace context, so that one reading can be followed from sensor to query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace id.
    pub trace_id: [u8; 16],
    /// The id of the span that sent the frame.
    pub parent_id: [u8; 8],
    /// The trace flags; bit 0 means sampled.
    pub flags: u8,
}

macro_rules! messages {
    ($($kind:literal $name:ident($body:ty)),* $(,)?) => {
        /// All messages of version 1.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each variant is documented at its body")]
        pub enum Message { $($name($body),)* Run(Run) }

        impl Message {
            /// The kind as on the wire.
            #[must_use]
            pub const fn kind(&self) -> u8 {
                match self { $(Self::$name(_) => $kind,)* Self::Run(_) => KIND_RUN }
            }

            fn envelope(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(body) => cbor(body),)*
                    Self::Run(run) => cbor(&run.envelope),
                }
            }

            fn decode(kind: u8, bytes: &[u8]) -> Result<Self, WireError> {
                match kind {
                    $($kind => Ok(Self::$name(uncbor(kind, bytes)?)),)*
                    KIND_RUN => decode_run(bytes),
                    found => Err(WireError::Kind { found }),
                }
            }
        }
    };
}

const KIND_RUN: u8 = 4;
const KIND_GAP: u8 = 6;
const KIND_DEVICES: u8 = 14;
const KIND_TWIN: u8 = 15;
const KIND_COMMAND: u8 = 16;
const KIND_PROGRESS: u8 = 18;

messages! {
    1 Hello(Hello),
    2 Welcome(Welcome),
    3 Series(Series),
    5 Ack(Ack),
    6 Gap(Gap),
    7 Report(Report),
    8 Ping(Ping),
    9 Pong(Pong),
    10 Refuse(Refuse),
    11 Health(Health),
    12 Audit(Audit),
    13 Agreement(Agreement),
    14 Devices(Devices),
    15 Twin(TwinSync),
    16 Command(Command),
    17 Cancel(Cancel),
    18 Progress(Progress),
    19 Noted(Noted),
    20 Journal(Journal),
    21 Config(ConfigInForce),
    22 ConfigAsked(ConfigAsked),
}

/// A message with what goes around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Ties an answer to its question; 0 when there is none.
    pub corr: u64,
    /// The trace that the message belongs to.
    pub trace: Option<Trace>,
    /// The message.
    pub message: Message,
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        Self { corr: 0, trace: None, message }
    }
}

#[expect(clippy::expect_used, reason = "encoding into a Vec cannot fail")]
fn cbor<T: Encode<()>>(body: &T) -> Vec<u8> {
    minicbor::to_vec(body).expect("a Vec takes all bytes")
}

fn uncbor<'b, T: Decode<'b, ()> + Encode<()>>(kind: u8, bytes: &'b [u8]) -> Result<T, WireError> {
    let max = if kind == KIND_TWIN { twin::TWIN_BODY_MAX } else { ENVELOPE_BYTES_MAX };
    if bytes.len() > max {
        return Err(WireError::TooLong { what: "message", found: bytes.len(), max });
    }
    let body: T =
        minicbor::decode(bytes).map_err(|error| WireError::Malformed { kind, reason: error.to_string() })?;
    if cbor(&body) == bytes { Ok(body) } else { Err(WireError::NotCanonical { kind }) }
}

fn decode_run(bytes: &[u8]) -> Result<Message, WireError> {
    let malformed = |reason: &str| WireError::Malformed { kind: KIND_RUN, reason: reason.to_owned() };
    let (len, rest) =
        bytes.split_first_chunk::<4>().ok_or_else(|| malformed("it ends within its first length"))?;
    let len = u32::from_be_bytes(*len) as usize;
    let (envelope, block) =
        rest.split_at_checked(len).ok_or_else(|| malformed("its envelope is cut short"))?;
    let envelope: RunEnvelope = uncbor(KIND_RUN, envelope)?;
    if block.len() > RUN_BYTES_MAX {
        return Err(WireError::TooLong { what: "block of a run", found: block.len(), max: RUN_BYTES_MAX });
    }
    Ok(Message::Run(Run { envelope, block: block.to_vec() }))
}

/// The bytes of a frame.
#[must_use]
pub fn encode(frame: &Frame) -> Vec<u8> {
    let envelope = frame.message.envelope();
    let block: &[u8] = if let Message::Run(run) = &frame.message { &run.block } else { &[] };
    let most = HEADER_LEN + CORR_LEN + TRACE_LEN + 4 + envelope.len() + block.len();
    let mut out = Vec::with_capacity(most);
    let flag = |bit, set| if set { bit } else { 0 };
    let flags = flag(FLAG_TRACE, frame.trace.is_some()) | flag(FLAG_CORR, frame.corr != 0);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, frame.message.kind(), flags]);
    out.extend_from_slice(&[0; HEADER_LEN - LEN_OFFSET]);
    if frame.corr != 0 {
        out.extend_from_slice(&frame.corr.to_be_bytes());
    }
    if let Some(trace) = &frame.trace {
        out.extend_from_slice(&trace.trace_id);
        out.extend_from_slice(&trace.parent_id);
        out.push(trace.flags);
    }
    if frame.message.kind() == KIND_RUN {
        out.extend_from_slice(&u32::try_from(envelope.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend_from_slice(&envelope);
    out.extend_from_slice(block);
    seal(&mut out);
    out
}

/// Writes length and checksum of a frame into its header, so that no more than they keeps its bytes
/// from being decoded; bytes shorter than a header stay as they are.
pub fn seal(frame: &mut [u8]) {
    let Some((head, body)) = frame.split_first_chunk_mut::<HEADER_LEN>() else { return };
    // A body is shorter than what three bytes can say, or it is not a frame's.
    let [_, len @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    head[LEN_OFFSET..CRC_OFFSET].copy_from_slice(&len);
    head[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(head), body);
    head[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Turns a stream of bytes into frames. After an error the stream is lost: close it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

struct Header {
    kind: u8,
    traced: bool,
    correlated: bool,
    len: usize,
    crc: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let [m0, m1, version, kind, flags, l0, l1, l2, c0, c1, c2, c3] = *bytes;
        if [m0, m1] != MAGIC {
            return Err(WireError::Magic { found: [m0, m1] });
        }
        if version != VERSION {
            return Err(WireError::Version { found: version });
        }
        if flags & !(FLAG_TRACE | FLAG_CORR) != 0 {
            return Err(WireError::Flags { found: flags });
        }
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { what: "frame", found: len, max: FRAME_BYTES_MAX });
        }
        Ok(Self {
            kind,
            traced: flags & FLAG_TRACE != 0,
            correlated: flags & FLAG_CORR != 0,
            len,
            crc: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), start: 0 }
    }

    /// Takes received bytes. Holds at most one frame and what came with its end.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not a frame of version 1; what follows them cannot be trusted.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let pending = self.buffer.get(self.start..).unwrap_or(&[]);
        let Some((head, rest)) = pending.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::parse(head)?;
        let Some(body) = rest.get(..header.len) else { return Ok(None) };
        let mut clean = *head;
        clean[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
        let computed = crc32c::crc32c_append(crc32c::crc32c(&clean), body);
        if computed != header.crc {
            return Err(WireError::Checksum { found: header.crc, computed });
        }
        let (corr, body) = split_corr(&header, body)?;
        let (trace, body) = split_trace(&header, body)?;
        let message = Message::decode(header.kind, body)?;
        limits::check(&message)?;
        self.start += HEADER_LEN + header.len;
        Ok(Some(Frame { corr, trace, message }))
    }
}

fn split_corr<'b>(header: &Header, body: &'b [u8]) -> Result<(u64, &'b [u8]), WireError> {
    if !header.correlated {
        return Ok((0, body));
    }
    let reason = "its correlation id is cut short".to_owned();
    let (corr, rest) =
        body.split_first_chunk::<CORR_LEN>().ok_or(WireError::Malformed { kind: header.kind, reason })?;
    match u64::from_be_bytes(*corr) {
        // None at all is written without.
        0 => Err(WireError::NotCanonical { kind: header.kind }),
        corr => Ok((corr, rest)),
    }
}

fn split_trace<'b>(header: &Header, body: &'b [u8]) -> Result<(Option<Trace>, &'b [u8]), WireError> {
    if !header.traced {
        return Ok((None, body));
    }
    let short =
        || WireError::Malformed { kind: header.kind, reason: "its trace context is cut short".into() };
    let (trace_id, rest) = body.split_first_chunk::<16>().ok_or_else(short)?;
    let (parent_id, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (flags, rest) = rest.split_first().ok_or_else(short)?;
    Ok((Some(Trace { trace_id: *trace_id, parent_id: *parent_id, flags: *flags }), rest))
}

#[cfg(test)]
mod tests;
