//! The container of sealed files: columns of many series in blocks, and a directory that says where each
//! block stands. Readings and rollups are kept in one of their own each.
//!
//! ```text
//! header     8   "TLSEG", two zero bytes, version: 2, or 3 with figures
//! blocks         back to back, by (tier, series, time); what is in one is told in `rows`, `rolls` and `figures`
//! directory      columns as `column` has them, each with its length before it as a varint
//!                of the series, ascending: number, rows, first time, last time, last value; blocks of readings,
//!                of minutes, of hours, of days; with figures blocks of these
//!                of the blocks, in their order: length, CRC-32C, rows, first time, last time
//! trailer   56   file number u64 | directory's offset u64 | its length u64 | series u32 | blocks u32 |
//!                rows u64 | directory's CRC-32C u32 | zero u32 | CRC-32C of the trailer up to here u32 | "SEG\n"
//! ```
//! The trailer is little-endian, times are ns since 1970. In a rollup the times of a block are the starts of its
//! buckets. A file is written once, from its beginning to its end, and never changed. Readings are written as version 2
//! and rollups as version 3; rollups of version 2 are read, and have no figures.
//!
//! Figures are those of the hours, or of the days where these are the finest level that is left: from hours days are
//! made as fast as they are asked for. A series has them where an hour is of many readings ([`FIGURED`]), and always
//! where the readings are gone: what they were made of cannot be read again.

mod directory;
pub mod figures;
pub mod merge;
mod open;
pub mod read;
pub mod rolls;
pub mod rows;
pub mod write;

use minicbor::{Decode, Encode};

use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS, bucket_start};

pub use directory::{Blocks, Directory, SeriesEntry};

/// The first bytes of a file but for the last, which is the version.
const MARK: [u8; 7] = *b"TLSEG\0\0";
const HEADER_BYTES: usize = MARK.len() + 1;
/// The last bytes of a file.
const FOOTER: [u8; 4] = *b"SEG\n";
const TRAILER_BYTES: usize = 56;
/// Series and blocks of a file, at most.
const SERIES_MAX: u32 = 1 << 24;
const BLOCKS_MAX: u32 = 1 << 26;

/// Rows of a block of readings, and of rollups, at most.
pub const BLOCK_ROWS: usize = 8 * 1024;
/// A tier is left out of a series where it would have more than one row for so many of the finer one: it
/// would take more room than it saves time.
pub const CONDENSED: u64 = 4;
/// A tier is left out where the finer one has fewer rows than these: they are read as fast.
pub const FINER_ROWS_MIN: u64 = 1024;
/// Figures of a block, at most.
pub const FIGURE_ROWS: usize = 256;
/// Readings of an hour, on the average of the first block of a series, from which on the series has figures; of fewer
/// they would take more room than they save time, and less than one block is read as fast.
pub const FIGURED: usize = 256;

/// What rows are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// The readings.
    #[default]
    #[n(0)]
    Raw,
    /// Buckets of one minute.
    #[n(1)]
    Minute,
    /// Buckets of one hour.
    #[n(2)]
    Hour,
    /// Buckets of one day, UTC.
    #[n(3)]
    Day,
}

/// All levels, the finest first.
pub const LEVELS: [Level; 4] = [Level::Raw, Level::Minute, Level::Hour, Level::Day];

impl Level {
    /// The width of a bucket in ns; 1 for readings.
    #[must_use]
    pub const fn width_ns(self) -> i64 {
        match self {
            Self::Raw => 1,
            Self::Minute => MINUTE_NS,
            Self::Hour => HOUR_NS,
            Self::Day => DAY_NS,
        }
    }

    /// The next coarser one.
    #[must_use]
    pub const fn coarser(self) -> Option<Self> {
        match self {
            Self::Raw => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }

    /// The next finer one.
    #[must_use]
    pub const fn finer(self) -> Option<Self> {
        match self {
            Self::Raw => None,
            Self::Minute => Some(Self::Raw),
            Self::Hour => Some(Self::Minute),
            Self::Day => Some(Self::Hour),
        }
    }

    /// The range with the buckets that it cuts whole: of a file that has no finer level they cannot be parted.
    #[must_use]
    pub const fn widened(self, (from_ns, to_ns): (i64, i64)) -> (i64, i64) {
        let width_ns = self.width_ns();
        let to_start = bucket_start(to_ns, width_ns);
        let to_end = if to_start == to_ns { to_ns } else { to_start.saturating_add(width_ns) };
        (bucket_start(from_ns, width_ns), to_end)
    }

    const fn slot(self) -> usize {
        self as usize
    }

    /// The level of the figures of a file whose finest level is this one.
    #[must_use]
    pub const fn figured(self) -> Self {
        match self {
            Self::Day => Self::Day,
            _ => Self::Hour,
        }
    }
}

/// Where the blocks of figures stand among those of the levels.
const FIGURES: usize = LEVELS.len();
/// Kinds of blocks.
const SLOTS: usize = LEVELS.len() + 1;

/// What blocks a file may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    /// Those of the levels.
    #[default]
    Levels,
    /// Figures as well.
    Figured,
}

impl Form {
    fn of(header: [u8; HEADER_BYTES]) -> Option<Self> {
        [Self::Levels, Self::Figured].into_iter().find(|form| form.header() == header)
    }

    const fn header(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d, e, f, g] = MARK;
        let version = match self {
            Self::Levels => 2,
            Self::Figured => 3,
        };
        [a, b, c, d, e, f, g, version]
    }

    const fn slots(self) -> usize {
        match self {
            Self::Levels => LEVELS.len(),
            Self::Figured => SLOTS,
        }
    }
}

/// Where a block stands and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
    /// Their CRC-32C.
    pub crc: u32,
    /// Its rows.
    pub rows: u32,
    /// The first time.
    pub first_ns: i64,
    /// The last time.
    pub last_ns: i64,
}

/// Why a file cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut out = [0; N];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(out)
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

struct Trailer {
    number: u64,
    offset: u64,
    len: u64,
    series: u32,
    blocks: u32,
    rows: u64,
    crc: u32,
}

impl Trailer {
    /// From the last bytes of a file of `len` bytes.
    fn read(trailer: &[u8; TRAILER_BYTES], file_len: u64) -> Result<Self, Malformed> {
        let (body, footer) = trailer.split_at(TRAILER_BYTES - 8);
        let [sums] = words::<1>(footer).unwrap_or_default();
        let (crc, mark) = halves(sums);
        if mark.to_le_bytes() != FOOTER || crc32c::crc32c(body) != crc {
            return Err(Malformed("its end is damaged"));
        }
        let [number, offset, len, counts, rows, directory] = words::<6>(body).unwrap_or_default();
        let ((series, blocks), (crc, _)) = (halves(counts), halves(directory));
        let end = offset.checked_add(len).and_then(|end| end.checked_add(TRAILER_BYTES as u64));
        if end != Some(file_len) {
            return Err(Malformed("its directory is not where its end says"));
        }
        if series > SERIES_MAX || blocks > BLOCKS_MAX {
            return Err(Malformed("it has more series or blocks than a file may have"));
        }
        Ok(Self { number, offset, len, series, blocks, rows, crc })
    }
}
