//! The bytes of a received change, looked at before automerge does.
//!
//! A change is a chunk of automerge's format: a header, the meta data, and columns of operations in run lengths. A run
//! of a few bytes may stand for any number of operations, so all runs are counted here before anything makes
//! them up. Compressed chunks and columns are refused unread: changes travel plain.
//! <https://automerge.org/automerge-binary-format-spec/>

use automerge::ChangeHash;

use crate::actor::Actor;
use crate::limits::{ACTORS_MAX, BEYOND_MAX, CHANGE_BYTES_MAX, HEADS_MAX, KEY_BYTES_MAX, OPS_PER_CHANGE_MAX};

/// Why bytes are no change that we look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// They end early, or hold a number beyond its type.
    #[error("the bytes of a change are cut off or no numbers")]
    Broken,
    /// Not a change, or a compressed one.
    #[error("the bytes are no plain change")]
    Kind,
    /// A name of a replica that none has.
    #[error("a replica's name is none")]
    Actor,
    /// A column that twins do not need.
    #[error("a change holds a column of kind {0}, which twins do not have")]
    Column(u32),
    /// Beyond a limit.
    #[error("a change holds {found} {what}; allowed are {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The limit.
        max: u64,
    },
}

/// What stands before the operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub deps: Vec<ChangeHash>,
    pub actor: Actor,
    pub seq: u64,
    pub op_first: u64,
    pub ops: u64,
}

/// What a change may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub bytes: usize,
    pub ops: usize,
    pub key_bytes: usize,
}

impl Most {
    pub const CHANGE: Self =
        Self { bytes: CHANGE_BYTES_MAX, ops: OPS_PER_CHANGE_MAX, key_bytes: KEY_BYTES_MAX };
}

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const KIND_CHANGE: u8 = 1;
/// A number, an author, the name of a replica, and two lists of stamps.
const MESSAGE_BYTES_MAX: usize = 128 + (2 * BEYOND_MAX + 1) * 52;
/// Column of the numbers of predecessors; the next two have those.
const PREDECESSORS: u32 = 0x70;
const ACTION: u32 = 0x42;

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], ChunkError> {
        let count = usize::try_from(count).map_err(|_| ChunkError::Broken)?;
        let (head, tail) = self.0.split_at_checked(count).ok_or(ChunkError::Broken)?;
        self.0 = tail;
        Ok(head)
    }

    fn unsigned(&mut self) -> Result<u64, ChunkError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(ChunkError::Broken);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ChunkError::Broken)
    }

    fn signed(&mut self) -> Result<i64, ChunkError> {
        let mut value = 0_i64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let unused = 64_u32.saturating_sub(shift + 7);
                return Ok((value << unused) >> unused);
            }
        }
        Err(ChunkError::Broken)
    }

    fn byte(&mut self) -> Result<u8, ChunkError> {
        self.take(1)?.first().copied().ok_or(ChunkError::Broken)
    }

    fn count(&mut self, what: &'static str, max: usize) -> Result<u64, ChunkError> {
        let found = self.unsigned()?;
        within(what, found, max as u64)?;
        Ok(found)
    }

    fn actor(&mut self) -> Result<Actor, ChunkError> {
        let length = self.unsigned()?;
        Actor::read(self.take(length)?).ok_or(ChunkError::Actor)
    }
}

const fn within(what: &'static str, found: u64, max: u64) -> Result<(), ChunkError> {
    if found > max { Err(ChunkError::TooMany { what, found, max }) } else { Ok(()) }
}

/// Reads the head of a change and counts what its columns stand for.
pub(crate) fn read(bytes: &[u8], most: Most) -> Result<Head, ChunkError> {
    within("bytes", bytes.len() as u64, most.bytes as u64)?;
    let mut input = Input(bytes);
    if input.take(4)? != MAGIC {
        return Err(ChunkError::Kind);
    }
    // A checksum that is wrong shows when the document writes the change again.
    input.take(4)?;
    if input.byte()? != KIND_CHANGE {
        return Err(ChunkError::Kind);
    }
    if input.unsigned()? != input.0.len() as u64 {
        return Err(ChunkError::Broken);
    }
    let mut deps = Vec::new();
    for _ in 0..input.count("dependencies", HEADS_MAX)? {
        let hash: [u8; 32] = input.take(32)?.try_into().map_err(|_| ChunkError::Broken)?;
        deps.push(ChangeHash(hash));
    }
    let actor = input.actor()?;
    let seq = input.unsigned()?;
    let op_first = input.unsigned()?;
    input.signed()?;
    let message = input.count("bytes of a message", MESSAGE_BYTES_MAX)?;
    input.take(message)?;
    for _ in 0..input.count("replicas", ACTORS_MAX)? {
        input.actor()?;
    }
    let ops = columns(&mut input, most)?;
    // What may follow the columns is for later versions of automerge.
    if !input.0.is_empty() {
        return Err(ChunkError::Kind);
    }
    Ok(Head { deps, actor, seq, op_first, ops })
}

fn columns(input: &mut Input<'_>, most: Most) -> Result<u64, ChunkError> {
    const COLUMNS_MAX: usize = 16;
    let mut found = Vec::new();
    for _ in 0..input.count("columns", COLUMNS_MAX)? {
        let kind = u32::try_from(input.unsigned()?).map_err(|_| ChunkError::Broken)?;
        found.push((kind, input.unsigned()?));
    }
    let mut ops = 0;
    for (kind, length) in found {
        let column = Input(input.take(length)?);
        let max = most.ops as u64;
        match kind {
            // Object, actor and counter; key, actor.
            0x01 | 0x02 | 0x11 | 0x71 => runs(column, max, skip_unsigned)?,
            // Counters as differences.
            0x13 | 0x73 => runs(column, max, |input| input.signed().map(|_| 0))?,
            0x15 => runs(column, max, |input| {
                let length = input.count("bytes of a key", most.key_bytes)?;
                input.take(length).map(|_| 0)
            })?,
            // Whether they insert.
            0x34 => booleans(column, max)?,
            ACTION => {
                ops = runs(column, max, skip_unsigned)?.0;
                (ops, 0)
            }
            // What values are; the values themselves are bytes.
            0x56 => runs(column, max, skip_unsigned)?,
            0x57 => (0, 0),
            PREDECESSORS => {
                let counted = runs(column, max, |input| input.unsigned())?;
                within("predecessors", counted.1, max)?;
                counted
            }
            other => return Err(ChunkError::Column(other)),
        };
    }
    Ok(ops)
}

fn skip_unsigned(input: &mut Input<'_>) -> Result<u64, ChunkError> {
    input.unsigned().map(|_| 0)
}

/// How many values the runs of a column stand for, and their sum.
fn runs(
    mut input: Input<'_>,
    max: u64,
    mut value: impl FnMut(&mut Input<'_>) -> Result<u64, ChunkError>,
) -> Result<(u64, u64), ChunkError> {
    let (mut count, mut sum) = (0_u64, 0_u64);
    while !input.0.is_empty() {
        let run = input.signed()?;
        let length = run.unsigned_abs();
        let length = if run == 0 { input.unsigned()? } else { length };
        count = count.saturating_add(length);
        within("operations", count, max)?;
        if run > 0 {
            sum = sum.saturating_add(value(&mut input)?.saturating_mul(length));
        } else if run < 0 {
            for _ in 0..length {
                sum = sum.saturating_add(value(&mut input)?);
            }
        }
    }
    Ok((count, sum))
}

fn booleans(mut input: Input<'_>, max: u64) -> Result<(u64, u64), ChunkError> {
    let mut count = 0_u64;
    while !input.0.is_empty() {
        count = count.saturating_add(input.unsigned()?);
        within("operations", count, max)?;
    }
    Ok((count, 0))
}
