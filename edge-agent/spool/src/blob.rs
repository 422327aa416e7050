//! The stored form of one batch: a fixed header, then its block.
//!
//! ```text
//! offset bytes field (little-endian)
//!      0     1 version, 1
//!      1     3 reserved, zero
//!      4     4 rows
//!      8     8 earliest time, ns
//!     16     8 latest time, ns
//!     24     8 rows of all seqs up to and with this one
//!     32     8 held cost of all seqs up to and with this one
//!     40     4 one more than the highest series number
//!     44     4 CRC-32C of the block
//!     48     4 CRC-32C of the 48 bytes before
//! ```
//! The running totals make the account of any range two look-ups, without a second table.

/// Bytes of the header.
pub const BLOB_HEADER_LEN: usize = 52;
const VERSION: u8 = 1;
/// What a stored batch costs beside its bytes: key, page slack and tree, as measured in redb.
const ENTRY_OVERHEAD: u64 = 64;

/// The header of a stored batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub rows: u32,
    pub t_min: i64,
    pub t_max: i64,
    pub rows_through: u64,
    pub cost_through: u64,
    pub series_end: u32,
    pub block_crc: u32,
}

impl Header {
    /// Stands for a seq that a run leaves out.
    pub const HOLE: Self =
        Self { rows: 0, t_min: 0, t_max: 0, rows_through: 0, cost_through: 0, series_end: 0, block_crc: 0 };
}

/// What a stored value of so many bytes counts against the quota.
pub fn cost(len: usize) -> u64 {
    len as u64 + ENTRY_OVERHEAD
}

impl Header {
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.t_min.to_le_bytes());
        out.extend_from_slice(&self.t_max.to_le_bytes());
        out.extend_from_slice(&self.rows_through.to_le_bytes());
        out.extend_from_slice(&self.cost_through.to_le_bytes());
        out.extend_from_slice(&self.series_end.to_le_bytes());
        out.extend_from_slice(&self.block_crc.to_le_bytes());
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The header of a stored value, or `None` when it is damaged.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..48)?;
        let crc = u32_at(bytes, 48)?;
        if head.first() != Some(&VERSION) || crc32c::crc32c(head) != crc {
            return None;
        }
        Some(Self {
            rows: u32_at(bytes, 4)?,
            t_min: i64::from_le_bytes(array_at(bytes, 8)?),
            t_max: i64::from_le_bytes(array_at(bytes, 16)?),
            rows_through: u64::from_le_bytes(array_at(bytes, 24)?),
            cost_through: u64::from_le_bytes(array_at(bytes, 32)?),
            series_end: u32_at(bytes, 40)?,
            block_crc: u32_at(bytes, 44)?,
        })
    }

    /// Held cost of all seqs before this one, which is stored as `value`.
    pub fn cost_before(&self, value: &[u8]) -> u64 {
        self.cost_through.saturating_sub(cost(value.len()))
    }

    /// Rows of all seqs before this one.
    pub const fn rows_before(&self) -> u64 {
        self.rows_through.saturating_sub(self.rows as u64)
    }
}

/// Header and block of a stored value, or `None` when either is damaged.
pub fn split(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::read(bytes)?;
    let block = bytes.get(BLOB_HEADER_LEN..)?;
    (crc32c::crc32c(block) == header.block_crc).then_some((header, block))
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
            rows: 3,
            t_min: -5,
            t_max: 9,
            rows_through: 30,
            cost_through: 700,
            series_end: 2,
            block_crc: crc32c::crc32c(&block),
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        assert_eq!(bytes.len(), BLOB_HEADER_LEN);
        bytes.extend_from_slice(&block);
        assert_eq!(split(&bytes), Some((header, &block[..])));
        for at in (0..bytes.len()).filter(|at| !(1..4).contains(at)) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(split(&bad), None, "byte {at}");
        }
    }
}
