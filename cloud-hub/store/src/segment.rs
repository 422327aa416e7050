//! The container of sealed files: columns of many series in blocks, and a directory that says where each
//! block stands. Readings and rollups are kept in one of their own each.
//!
//! ```text
//! header     8   "TLSEG", two zero bytes, version
//! blocks         back to back, by (tier, series, time); what is in one is told in `rows` and `rolls`
//! directory      72 bytes for each series, ascending: number u32 | zero u32 | rows u64 | first time i64 |
//!                last time i64 | last value f64 | first block u32 and blocks u32, for each tier
//!                40 bytes for each block: offset u64 | length u32 | CRC-32C u32 | rows u32 | zero u32 |
//!                first time i64 | last time i64
//! trailer   48   file number u64 | directory's offset u64 | series u32 | blocks u32 | rows u64 |
//!                directory's CRC-32C u32 | zero u32 | CRC-32C of the trailer up to here u32 | "SEG\n"
//! ```
//! All numbers are little-endian, times are ns since 1970. In a rollup the times of a block are the starts of
//! its buckets. A file is written once, from its beginning to its end, and never changed.

pub mod merge;
pub mod read;
pub mod rolls;
pub mod rows;
pub mod write;

use std::ops::Range;

use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use crate::hot::{SeriesId, SeriesStats, is_before};
use tideline_protocol::model::Sample;

/// The first bytes of a file; the last of them is the version.
pub const HEADER: [u8; 8] = *b"TLSEG\0\0\x01";
/// The last bytes of a file.
const FOOTER: [u8; 4] = *b"SEG\n";
const SERIES_BYTES: usize = 72;
const BLOCK_BYTES: usize = 40;
const TRAILER_BYTES: usize = 48;

/// Rows of a block of readings, and of rollups, at most.
pub const BLOCK_ROWS: usize = 8 * 1024;
/// A tier is left out of a series where it would have more than one row for so many of the finer one: it
/// would take more room than it saves time.
pub const CONDENSED: u64 = 4;

/// What rows are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The readings.
    Raw,
    /// Buckets of one minute.
    Minute,
    /// Buckets of one hour.
    Hour,
    /// Buckets of one day, UTC.
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

    const fn slot(self) -> usize {
        self as usize
    }
}

/// What a file holds of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesEntry {
    /// The series.
    pub series: SeriesId,
    /// Its readings, also in a file of their rollups.
    pub rows: u64,
    /// The earliest time, ns.
    pub first_ns: i64,
    /// The latest time, ns.
    pub last_ns: i64,
    /// The value at the latest time; of equal times that which arrived last.
    pub last: f64,
    // First block and how many, by level.
    blocks: [(u32, u32); LEVELS.len()],
}

impl SeriesEntry {
    /// Whether a reading may be in `from..to`.
    #[must_use]
    pub const fn overlaps(&self, from_ns: i64, to_ns: i64) -> bool {
        is_before(self.first_ns, to_ns) && self.last_ns >= from_ns
    }

    /// What is known of its readings.
    #[must_use]
    pub const fn stats(&self) -> SeriesStats {
        let last = Sample { time_ns: self.last_ns, value: self.last };
        SeriesStats { count: self.rows, first_ns: Some(self.first_ns), last: Some(last) }
    }

    /// Whether the file has rows of this level.
    #[must_use]
    pub fn has(&self, level: Level) -> bool {
        self.blocks.get(level.slot()).is_some_and(|(_, count)| *count > 0)
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

/// What is in a file, and where.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// The number of the file.
    pub number: u64,
    /// By number, ascending.
    pub series: Vec<SeriesEntry>,
    blocks: Vec<BlockEntry>,
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

impl SeriesEntry {
    fn write(&self, out: &mut Vec<u8>) {
        let head = [
            pair(self.series, 0),
            self.rows,
            self.first_ns.cast_unsigned(),
            self.last_ns.cast_unsigned(),
            self.last.to_bits(),
        ];
        let blocks = self.blocks.map(|(first, count)| pair(first, count));
        head.iter().chain(&blocks).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [series, rows, first, last, value, blocks @ ..] = words::<9>(bytes)?;
        Some(Self {
            series: halves(series).0,
            rows,
            first_ns: first.cast_signed(),
            last_ns: last.cast_signed(),
            last: f64::from_bits(value),
            blocks: blocks.map(halves),
        })
    }
}

impl BlockEntry {
    fn write(&self, out: &mut Vec<u8>) {
        let words = [
            self.offset,
            pair(self.len, self.crc),
            pair(self.rows, 0),
            self.first_ns.cast_unsigned(),
            self.last_ns.cast_unsigned(),
        ];
        words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [offset, len_crc, rows, first, last] = words::<5>(bytes)?;
        let ((len, crc), (rows, _)) = (halves(len_crc), halves(rows));
        Some(Self { offset, len, crc, rows, first_ns: first.cast_signed(), last_ns: last.cast_signed() })
    }
}

impl Directory {
    /// What it has of a series.
    #[must_use]
    pub fn find(&self, series: SeriesId) -> Option<&SeriesEntry> {
        let at = self.series.binary_search_by_key(&series, |entry| entry.series).ok()?;
        self.series.get(at)
    }

    /// The blocks of a series, with their numbers, in order of time.
    pub fn blocks(&self, entry: &SeriesEntry, level: Level) -> (usize, &[BlockEntry]) {
        let (first, count) = entry.blocks.get(level.slot()).copied().unwrap_or_default();
        let first = first as usize;
        (first, self.blocks.get(first..first.saturating_add(count as usize)).unwrap_or(&[]))
    }

    /// The numbers of those blocks that may hold a time in `from..to`.
    #[must_use]
    pub fn blocks_within(
        &self,
        entry: &SeriesEntry,
        level: Level,
        (from_ns, to_ns): (i64, i64),
    ) -> Range<usize> {
        let (first, blocks) = self.blocks(entry, level);
        let lo = blocks.partition_point(|block| block.last_ns < from_ns);
        let hi = blocks.partition_point(|block| is_before(block.first_ns, to_ns)).max(lo);
        first + lo..first + hi
    }

    /// The block of a number.
    #[must_use]
    pub fn block(&self, number: usize) -> Option<&BlockEntry> {
        self.blocks.get(number)
    }

    /// Readings of all series.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.series.iter().map(|entry| entry.rows).sum()
    }

    /// About how much memory it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.series.len() * SERIES_BYTES + self.blocks.len() * BLOCK_BYTES
    }

    /// The end of a file, when it stands at `offset`.
    fn to_bytes(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes() + TRAILER_BYTES);
        self.series.iter().for_each(|entry| entry.write(&mut out));
        self.blocks.iter().for_each(|entry| entry.write(&mut out));
        let crc = crc32c::crc32c(&out);
        let counts = pair(
            self.series.len().try_into().unwrap_or(u32::MAX),
            self.blocks.len().try_into().unwrap_or(u32::MAX),
        );
        let trailer = out.len();
        for word in [self.number, offset, counts, self.rows(), pair(crc, 0)] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(out.get(trailer..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&FOOTER);
        out
    }

    /// Where the directory begins and how long it is, from the last bytes of a file of `len` bytes.
    fn place(trailer: &[u8; TRAILER_BYTES], len: u64) -> Result<Trailer, Malformed> {
        let (body, footer) = trailer.split_at(TRAILER_BYTES - 8);
        let [sums] = words::<1>(footer).unwrap_or_default();
        let (crc, mark) = halves(sums);
        if mark.to_le_bytes() != FOOTER || crc32c::crc32c(body) != crc {
            return Err(Malformed("its end is damaged"));
        }
        let [number, offset, counts, rows, directory] = words::<5>(body).unwrap_or_default();
        let ((series, blocks), (crc, _)) = (halves(counts), halves(directory));
        let trailer = Trailer { number, offset, series, blocks, rows, crc };
        if offset.checked_add(trailer.bytes()).and_then(|end| end.checked_add(TRAILER_BYTES as u64))
            != Some(len)
        {
            return Err(Malformed("its directory is not where its end says"));
        }
        Ok(trailer)
    }

    /// Reads what [`Directory::to_bytes`] wrote.
    fn from_bytes(bytes: &[u8], trailer: &Trailer) -> Result<Self, Malformed> {
        if bytes.len() as u64 != trailer.bytes() || crc32c::crc32c(bytes) != trailer.crc {
            return Err(Malformed("its directory is damaged"));
        }
        let (series, blocks) = bytes
            .split_at_checked(trailer.series as usize * SERIES_BYTES)
            .ok_or(Malformed("its directory is cut"))?;
        let series: Vec<_> = series.chunks_exact(SERIES_BYTES).filter_map(SeriesEntry::read).collect();
        let blocks: Vec<_> = blocks.chunks_exact(BLOCK_BYTES).filter_map(BlockEntry::read).collect();
        let ascending = series.is_sorted_by(|a, b| a.series < b.series);
        let within = blocks.iter().all(|block| {
            block.offset.checked_add(block.len.into()).is_some_and(|end| end <= trailer.offset)
                && block.rows as usize <= BLOCK_ROWS
        });
        let listed = series
            .iter()
            .flat_map(|entry| &entry.blocks)
            .all(|(first, count)| first.checked_add(*count).is_some_and(|end| end as usize <= blocks.len()));
        let directory = Self { number: trailer.number, series, blocks };
        if !(ascending && within && listed && directory.rows() == trailer.rows) {
            return Err(Malformed("its directory contradicts itself"));
        }
        Ok(directory)
    }
}

struct Trailer {
    number: u64,
    offset: u64,
    series: u32,
    blocks: u32,
    rows: u64,
    crc: u32,
}

impl Trailer {
    const fn bytes(&self) -> u64 {
        self.series as u64 * SERIES_BYTES as u64 + self.blocks as u64 * BLOCK_BYTES as u64
    }
}
