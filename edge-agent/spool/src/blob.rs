//! The stored form of one batch: a fixed header, then its block.
//!
//! ```text
//! offset bytes field (little-endian)
//!      0     1 version, 2
//!      1     1 stream (see `streams`)
//!      2     1 delivery class: 0 live, 1 state, 2 alarm
//!      3     1 flags: 1 = made by downsampling, 2 = the clock was believed; high half: 0, or 1 + cause of a batch that was
//!              refused room, which has rows and times but no block
//!      4     4 rows
//!      8     8 earliest time, ns
//!     16     8 latest time, ns
//!     24     8 rows of all seqs up to and with this one
//!     32     8 held cost of all seqs up to and with this one
//!     40     4 one more than the highest series number
//!     44     4 the spool's age when it was appended, s (see `age`)
//!     48     4 number of the boot whose clock gave the times; 0: they are the source's own
//!     52     8 what that clock was ahead of the monotonic one, ns
//!     60     4 CRC-32C of the block
//!     64     4 CRC-32C of the 64 bytes before
//! ```
//! The running totals make the account of any range two look-ups, without a second table.

use tideline_protocol::clocks::Stamp;
use tideline_protocol::model::{Class, DropCause};

use crate::streams::StreamNo;

/// Bytes of the header.
pub const BLOB_HEADER_LEN: usize = 68;
const VERSION: u8 = 2;
const THINNED: u8 = 1;
const BELIEVED: u8 = 2;
/// What a stored batch costs beside its bytes: key, page slack and tree, as measured in redb.
const ENTRY_OVERHEAD: u64 = 64;

/// The header of a stored batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub stream: StreamNo,
    pub class: Class,
    /// Made by downsampling: it is dropped rather than downsampled again.
    pub thinned: bool,
    /// Why it has no block: it was refused room when it came.
    pub refused: Option<DropCause>,
    pub rows: u32,
    pub t_min: i64,
    pub t_max: i64,
    pub rows_through: u64,
    pub cost_through: u64,
    pub series_end: u32,
    pub at_s: u32,
    /// The clock that gave the times; none when they are the source's own.
    pub stamp: Option<Stamp>,
    pub block_crc: u32,
}

impl Header {
    /// Stands for a seq that a run leaves out.
    pub const HOLE: Self = Self {
        stream: 0,
        class: Class::Live,
        thinned: false,
        refused: None,
        rows: 0,
        t_min: 0,
        t_max: 0,
        rows_through: 0,
        cost_through: 0,
        series_end: 0,
        at_s: 0,
        stamp: None,
        block_crc: 0,
    };
}

const CLASSES: [Class; 3] = [Class::Live, Class::State, Class::Alarm];

pub fn class_byte(class: Class) -> u8 {
    CLASSES.iter().zip(0..).find(|(one, _)| **one == class).map_or(0, |(_, byte)| byte)
}

pub fn class_of(byte: u8) -> Option<Class> {
    CLASSES.get(usize::from(byte)).copied()
}

pub fn cause_byte(cause: DropCause) -> u8 {
    DropCause::ALL.iter().zip(0..).find(|(one, _)| **one == cause).map_or(0, |(_, byte)| byte)
}

fn cause_of(byte: u8) -> Option<DropCause> {
    DropCause::ALL.get(usize::from(byte)).copied()
}

/// What a stored value of so many bytes counts against the quota.
pub fn cost(len: usize) -> u64 {
    len as u64 + ENTRY_OVERHEAD
}

impl Header {
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let refused = self.refused.map_or(0, |cause| cause_byte(cause) + 1);
        let believed = self.stamp.is_some_and(|stamp| stamp.believed);
        let flags = (u8::from(self.thinned) * THINNED) | (u8::from(believed) * BELIEVED) | (refused << 4);
        out.extend_from_slice(&[VERSION, self.stream, class_byte(self.class), flags]);
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.t_min.to_le_bytes());
        out.extend_from_slice(&self.t_max.to_le_bytes());
        out.extend_from_slice(&self.rows_through.to_le_bytes());
        out.extend_from_slice(&self.cost_through.to_le_bytes());
        out.extend_from_slice(&self.series_end.to_le_bytes());
        out.extend_from_slice(&self.at_s.to_le_bytes());
        let (boot, offset_ns) = self.stamp.map_or((0, 0), |stamp| (stamp.boot, stamp.offset_ns));
        out.extend_from_slice(&boot.to_le_bytes());
        out.extend_from_slice(&offset_ns.to_le_bytes());
        out.extend_from_slice(&self.block_crc.to_le_bytes());
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The header of a stored value, or `None` when it is damaged.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..BLOB_HEADER_LEN - 4)?;
        let crc = u32_at(bytes, BLOB_HEADER_LEN - 4)?;
        if head.first() != Some(&VERSION) || crc32c::crc32c(head) != crc {
            return None;
        }
        let (class, flags) = (*head.get(2)?, *head.get(3)?);
        let refused = match flags >> 4 {
            0 => None,
            cause => Some(cause_of(cause - 1)?),
        };
        Some(Self {
            stream: *head.get(1)?,
            class: class_of(class)?,
            thinned: flags & THINNED != 0,
            refused,
            rows: u32_at(bytes, 4)?,
            t_min: i64::from_le_bytes(array_at(bytes, 8)?),
            t_max: i64::from_le_bytes(array_at(bytes, 16)?),
            rows_through: u64::from_le_bytes(array_at(bytes, 24)?),
            cost_through: u64::from_le_bytes(array_at(bytes, 32)?),
            series_end: u32_at(bytes, 40)?,
            at_s: u32_at(bytes, 44)?,
            stamp: match u32_at(bytes, 48)? {
                0 => None,
                boot => Some(Stamp {
                    boot,
                    offset_ns: i64::from_le_bytes(array_at(bytes, 52)?),
                    believed: flags & BELIEVED != 0,
                }),
            },
            block_crc: u32_at(bytes, 60)?,
        })
    }

    /// Held cost of all seqs before this one, which is stored as `value`.
    pub fn cost_before(&self, value: &[u8]) -> u64 {
        let own = if self.refused.is_some() { 0 } else { cost(value.len()) };
        self.cost_through.saturating_sub(own)
    }

    /// Rows of all seqs before this one.
    pub const fn rows_before(&self) -> u64 {
        self.rows_through.saturating_sub(self.rows as u64)
    }
}

/// The checksum of the block of a seq: under a damaged key it is not that of another one.
pub fn block_crc(seq: u64, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&seq.to_le_bytes()), block)
}

/// Header and block of the value stored for a seq, or `None` when either is damaged, or of another seq.
pub fn split(seq: u64, bytes: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::read(bytes)?;
    let block = bytes.get(BLOB_HEADER_LEN..)?;
    (block_crc(seq, block) == header.block_crc).then_some((header, block))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let block = b"block".to_vec();
        let header = Header {
            stream: 5,
            class: Class::Alarm,
            thinned: true,
            refused: Some(DropCause::Superseded),
            rows: 3,
            t_min: -5,
            t_max: 9,
            rows_through: 30,
            cost_through: 700,
            series_end: 2,
            at_s: 77,
            stamp: Some(Stamp { boot: 3, offset_ns: -5, believed: true }),
            block_crc: block_crc(76, &block),
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        assert_eq!(bytes.len(), BLOB_HEADER_LEN);
        bytes.extend_from_slice(&block);
        assert_eq!(split(76, &bytes), Some((header, &block[..])));
        assert_eq!(split(77, &bytes), None, "it is of another seq");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(split(76, &bad), None, "byte {at}");
        }
    }
}
