//! The bytes of the log, version 1.
//!
//! ```text
//! segment: "TLLOG001", then records
//! record:  u32 length of kind and payload, u32 CRC-32C of kind and payload, u8 kind, payload
//! kind 1 series   CBOR [agent, epoch, series]
//! kind 2 batch    u32 length of the CBOR, CBOR [agent, taken, run envelope], the block as it came
//! kind 3 gap      CBOR [agent, epoch, gap, dropped]
//! kind 4 refused  CBOR [agent, epoch, seqs, rows]
//! kind 5 lives    CBOR [agent, epoch, lives of the spool, where its first readings come from]
//! kind 6 revived  as kind 2: seqs of a dead letter that are stored after all
//! kind 7 renamed  as kind 1: other entries in the place of known ones
//! ```
//! Numbers are big-endian. The block is opaque here: nothing is decoded before the ack.

use minicbor::{Decode, Encode};
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{AgentId, Epoch, Gap};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, RunEnvelope, Series};

/// The first bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"TLLOG001";
/// Longest record: a run with its block and envelope, each within the limits of the wire.
pub const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
const HEAD_LEN: usize = 8;

/// A record to write.
#[derive(Debug)]
pub enum Record<'a> {
    /// Dictionary entries.
    Series { agent: &'a AgentId, epoch: Epoch, series: &'a Series },
    /// Entries in the place of known ones.
    Renamed { agent: &'a AgentId, epoch: Epoch, series: &'a Series },
    /// The taken seqs of a run.
    Batch { agent: &'a AgentId, taken: &'a RangeSet, run: &'a Run },
    /// Seqs of a dead letter that are stored after all.
    Revived { agent: &'a AgentId, taken: &'a RangeSet, run: &'a Run },
    /// Seqs that the agent gave up.
    Gap { agent: &'a AgentId, epoch: Epoch, gap: &'a Gap, dropped: &'a RangeSet },
    /// Stored seqs that became dead letters.
    Refused { agent: &'a AgentId, epoch: Epoch, seqs: &'a RangeSet, rows: u64 },
    /// The agent goes on with this epoch.
    Lives { agent: &'a AgentId, epoch: Epoch, lives: &'a [Life], moved: Option<Moved> },
}

/// A record as read.
#[derive(Debug)]
pub enum ReadRecord {
    /// Dictionary entries.
    Series { agent: AgentId, epoch: Epoch, series: Series },
    /// Entries in the place of known ones.
    Renamed { agent: AgentId, epoch: Epoch, series: Series },
    /// The taken seqs of a run.
    Batch { agent: AgentId, taken: RangeSet, run: Run },
    /// Seqs of a dead letter that are stored after all.
    Revived { agent: AgentId, taken: RangeSet, run: Run },
    /// Seqs that the agent gave up.
    Gap { agent: AgentId, epoch: Epoch, gap: Gap, dropped: RangeSet },
    /// Stored seqs that became dead letters.
    Refused { agent: AgentId, epoch: Epoch, seqs: RangeSet, rows: u64 },
    /// The agent goes on with this epoch.
    Lives { agent: AgentId, epoch: Epoch, lives: Vec<Life>, moved: Option<Moved> },
}

/// Why the rest of a segment is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end within a record: a write that was cut off.
    #[error("it ends within a record")]
    Torn,
    /// The bytes are not those that were written.
    #[error("{0}")]
    Damaged(&'static str),
}

fn cbor(out: &mut Vec<u8>, body: impl Encode<()>) {
    #[expect(clippy::expect_used, reason = "encoding into a Vec cannot fail")]
    minicbor::encode(body, out).expect("a Vec takes all bytes");
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

impl Record<'_> {
    /// Appends the record to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD_LEN]);
        match self {
            Self::Series { agent, epoch, series } => {
                out.push(1);
                cbor(out, (agent, epoch, series));
            }
            Self::Renamed { agent, epoch, series } => {
                out.push(7);
                cbor(out, (agent, epoch, series));
            }
            Self::Batch { agent, taken, run } => write_run(out, 2, agent, taken, run),
            Self::Revived { agent, taken, run } => write_run(out, 6, agent, taken, run),
            Self::Gap { agent, epoch, gap, dropped } => {
                out.push(3);
                cbor(out, (agent, epoch, gap, dropped));
            }
            Self::Refused { agent, epoch, seqs, rows } => {
                out.push(4);
                cbor(out, (agent, epoch, seqs, rows));
            }
            Self::Lives { agent, epoch, lives, moved } => {
                out.push(5);
                cbor(out, (agent, epoch, lives, moved));
            }
        }
        let body = out.get(start + HEAD_LEN..).unwrap_or(&[]);
        let (len, crc) = (length(body.len()), crc32c::crc32c(body).to_be_bytes());
        if let Some(head) = out.get_mut(start..start + HEAD_LEN) {
            head.copy_from_slice(&[len, crc].concat());
        }
    }
}

fn write_run(out: &mut Vec<u8>, kind: u8, agent: &AgentId, taken: &RangeSet, run: &Run) {
    out.push(kind);
    let mut envelope = Vec::new();
    cbor(&mut envelope, (agent, taken, &run.envelope));
    out.extend_from_slice(&length(envelope.len()));
    out.extend_from_slice(&envelope);
    out.extend_from_slice(&run.block);
}

/// A record, or `None` where the checksum is right but the record makes no sense to this version, and
/// the bytes after it, which can still be read.
pub type Next<'b> = (Option<ReadRecord>, &'b [u8]);

/// The next record, or `None` at the end.
///
/// # Errors
/// What follows cannot be trusted.
pub fn read(bytes: &[u8]) -> Result<Option<Next<'_>>, RecordError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(RecordError::Torn)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(RecordError::Torn)?;
    let len = u32::from_be_bytes(*len) as usize;
    if len == 0 || len > RECORD_BYTES_MAX {
        return Err(RecordError::Damaged("a record has an impossible length"));
    }
    let (body, rest) = rest.split_at_checked(len).ok_or(RecordError::Torn)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Err(RecordError::Damaged("the checksum of a record does not match"));
    }
    Ok(Some((parse(body), rest)))
}

fn uncbor<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Option<T> {
    minicbor::decode(bytes).ok()
}

fn read_run(payload: &[u8]) -> Option<(AgentId, RangeSet, Run)> {
    let (len, rest) = payload.split_first_chunk::<4>()?;
    let (envelope, block) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    let (agent, taken, envelope): (AgentId, RangeSet, RunEnvelope) = uncbor(envelope)?;
    Some((agent, taken, Run { envelope, block: block.to_vec() }))
}

fn parse(body: &[u8]) -> Option<ReadRecord> {
    let (kind, payload) = body.split_first()?;
    match kind {
        1 => uncbor(payload).map(|(agent, epoch, series)| ReadRecord::Series { agent, epoch, series }),
        2 => read_run(payload).map(|(agent, taken, run)| ReadRecord::Batch { agent, taken, run }),
        6 => read_run(payload).map(|(agent, taken, run)| ReadRecord::Revived { agent, taken, run }),
        3 => {
            uncbor(payload).map(|(agent, epoch, gap, dropped)| ReadRecord::Gap { agent, epoch, gap, dropped })
        }
        4 => {
            uncbor(payload).map(|(agent, epoch, seqs, rows)| ReadRecord::Refused { agent, epoch, seqs, rows })
        }
        5 => uncbor(payload).map(|(agent, epoch, lives, moved)| ReadRecord::Lives {
            agent,
            epoch,
            lives,
            moved,
        }),
        7 => uncbor(payload).map(|(agent, epoch, series)| ReadRecord::Renamed { agent, epoch, series }),
        _ => None,
    }
}
