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

pub mod figures;
pub mod merge;
mod open;
pub mod read;
pub mod rolls;
pub mod rows;
pub mod write;

use std::ops::Range;

use minicbor::{Decode, Encode};
use tideline_protocol::value::Boxes;

use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS, bucket_start};
use crate::column::{ColumnError, put_column, read_integers, take_column, write_integers};
use crate::hot::{Reading, SeriesId, SeriesStats, is_before};

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
    /// The value at the latest time, as a word of the directory's table; of equal times that which arrived last.
    pub last: f64,
    // First block and how many, by level, and of figures.
    blocks: [(u32, u32); SLOTS],
}

impl SeriesEntry {
    /// Whether a reading may be in `from..to`.
    #[must_use]
    pub const fn overlaps(&self, from_ns: i64, to_ns: i64) -> bool {
        is_before(self.first_ns, to_ns) && self.last_ns >= from_ns
    }

    /// Whether the file has rows of this level.
    #[must_use]
    pub fn has(&self, level: Level) -> bool {
        self.blocks.get(level.slot()).is_some_and(|(_, count)| *count > 0)
    }

    /// Whether the file has figures of it.
    #[must_use]
    pub fn is_figured(&self) -> bool {
        self.blocks.get(FIGURES).is_some_and(|(_, count)| *count > 0)
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
    /// What the boxed words among the last values stand for.
    pub boxes: Boxes,
    blocks: Vec<BlockEntry>,
    form: Form,
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

impl Directory {
    /// What it has of a series.
    #[must_use]
    pub fn find(&self, series: SeriesId) -> Option<&SeriesEntry> {
        let at = self.series.binary_search_by_key(&series, |entry| entry.series).ok()?;
        self.series.get(at)
    }

    /// What is known of the readings of a series.
    #[must_use]
    pub fn stats(&self, entry: &SeriesEntry) -> SeriesStats {
        let last = Reading::new(entry.last_ns, entry.last, &self.boxes);
        SeriesStats { count: entry.rows, first_ns: Some(entry.first_ns), last: Some(last), late: 0 }
    }

    /// The blocks of a series, with their numbers, in order of time.
    pub fn blocks(&self, entry: &SeriesEntry, level: Level) -> (usize, &[BlockEntry]) {
        self.slot(entry, level.slot())
    }

    /// The blocks of figures of a series, in order of time.
    #[must_use]
    pub fn figures(&self, entry: &SeriesEntry) -> &[BlockEntry] {
        self.slot(entry, FIGURES).1
    }

    fn slot(&self, entry: &SeriesEntry, slot: usize) -> (usize, &[BlockEntry]) {
        let (first, count) = entry.blocks.get(slot).copied().unwrap_or_default();
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
        self.series.iter().fold(0, |rows, entry| rows.saturating_add(entry.rows))
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.series.len() * size_of::<SeriesEntry>()
            + self.blocks.len() * size_of::<BlockEntry>()
            + self.boxes.bytes()
    }

    /// The end of a file, when it stands at `offset`.
    fn to_bytes(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_series(&mut out);
        self.write_blocks(&mut out);
        let crc = crc32c::crc32c(&out);
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let counts = pair(count(self.series.len()), count(self.blocks.len()));
        let (len, trailer) = (out.len() as u64, out.len());
        for word in [self.number, offset, len, counts, self.rows(), pair(crc, 0)] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(out.get(trailer..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&FOOTER);
        out
    }

    fn write_series(&self, out: &mut Vec<u8>) {
        for of in [
            |entry: &SeriesEntry| i64::from(entry.series),
            |entry: &SeriesEntry| entry.rows.cast_signed(),
            |entry: &SeriesEntry| entry.first_ns,
            |entry: &SeriesEntry| entry.last_ns,
        ] {
            let column: Vec<i64> = self.series.iter().map(of).collect();
            put_column(out, |out| write_integers(out, &column));
        }
        let last: Vec<f64> = self.series.iter().map(|entry| entry.last).collect();
        put_column(out, |out| rows::write_words(out, &last, &self.boxes));
        for slot in 0..self.form.slots() {
            let count =
                |entry: &SeriesEntry| i64::from(entry.blocks.get(slot).map_or(0, |(_, count)| *count));
            let column: Vec<i64> = self.series.iter().map(count).collect();
            put_column(out, |out| write_integers(out, &column));
        }
    }

    fn write_blocks(&self, out: &mut Vec<u8>) {
        for of in [
            |entry: &BlockEntry| i64::from(entry.len),
            |entry: &BlockEntry| i64::from(entry.crc),
            |entry: &BlockEntry| i64::from(entry.rows),
            |entry: &BlockEntry| entry.first_ns,
            |entry: &BlockEntry| entry.last_ns,
        ] {
            let column: Vec<i64> = self.blocks.iter().map(of).collect();
            put_column(out, |out| write_integers(out, &column));
        }
    }

    /// Reads what [`Directory::to_bytes`] wrote.
    fn from_bytes(mut bytes: &[u8], trailer: &Trailer, form: Form) -> Result<Self, Malformed> {
        if bytes.len() as u64 != trailer.len || crc32c::crc32c(bytes) != trailer.crc {
            return Err(Malformed("its directory is damaged"));
        }
        let contradicts = |_: ColumnError| Malformed("its directory contradicts itself");
        let (series, boxes) = read_series(&mut bytes, trailer.series as usize, form).map_err(contradicts)?;
        let blocks = read_blocks(&mut bytes, trailer.blocks as usize).map_err(contradicts)?;
        let ascending = series.is_sorted_by(|a, b| a.series < b.series);
        let end = blocks.last().map_or(HEADER_BYTES as u64, |block| block.offset + u64::from(block.len));
        let small = blocks.iter().all(|block| block.rows as usize <= BLOCK_ROWS);
        let listed =
            series.iter().flat_map(|entry| &entry.blocks).map(|(_, count)| u64::from(*count)).sum::<u64>();
        let directory = Self { number: trailer.number, series, boxes, blocks, form };
        let all = listed == u64::from(trailer.blocks) && directory.rows() == trailer.rows;
        if ascending && small && all && end == trailer.offset && bytes.is_empty() {
            Ok(directory)
        } else {
            Err(Malformed("its directory contradicts itself"))
        }
    }
}

const OUT_OF_RANGE: ColumnError = ColumnError::Malformed("a number is out of range");

fn read_series(bytes: &mut &[u8], len: usize, form: Form) -> Result<(Vec<SeriesEntry>, Boxes), ColumnError> {
    let mut integers = || read_integers(take_column(bytes)?, len);
    let (numbers, rows, firsts, lasts) = (integers()?, integers()?, integers()?, integers()?);
    let (values, boxes) = rows::read_words(take_column(bytes)?, len)?;
    let mut counts = Vec::with_capacity(SLOTS);
    for _ in 0..form.slots() {
        counts.push(read_integers(take_column(bytes)?, len)?);
    }
    // The blocks of a level stand together, and before those of the next one.
    let mut next = 0_u32;
    let mut places = vec![[(0, 0); SLOTS]; len];
    for (slot, counts) in counts.iter().enumerate() {
        for (place, count) in places.iter_mut().zip(counts) {
            let count = u32::try_from(*count).map_err(|_| OUT_OF_RANGE)?;
            if let Some(place) = place.get_mut(slot) {
                *place = (next, count);
            }
            next = next.checked_add(count).ok_or(OUT_OF_RANGE)?;
        }
    }
    let numbers = numbers.into_iter().zip(rows).zip(firsts.into_iter().zip(lasts));
    let all = numbers.zip(values.into_iter().zip(places));
    let all = all.map(|(((series, rows), (first_ns, last_ns)), (last, blocks))| {
        let series = u32::try_from(series).map_err(|_| OUT_OF_RANGE)?;
        let rows = u64::try_from(rows)
            .ok()
            .filter(|rows| *rows <= u64::from(u32::MAX) * 4096)
            .ok_or(OUT_OF_RANGE)?;
        Ok(SeriesEntry { series, rows, first_ns, last_ns, last, blocks })
    });
    Ok((all.collect::<Result<_, _>>()?, boxes))
}

fn read_blocks(bytes: &mut &[u8], len: usize) -> Result<Vec<BlockEntry>, ColumnError> {
    let mut integers = || read_integers(take_column(bytes)?, len);
    let (lens, crcs, rows) = (integers()?, integers()?, integers()?);
    let (firsts, lasts) = (integers()?, integers()?);
    let mut offset = HEADER_BYTES as u64;
    let all = lens.into_iter().zip(crcs).zip(rows).zip(firsts.into_iter().zip(lasts));
    all.map(|(((len, crc), rows), (first_ns, last_ns))| {
        let small = |number: i64| u32::try_from(number).map_err(|_| OUT_OF_RANGE);
        let entry =
            BlockEntry { offset, len: small(len)?, crc: small(crc)?, rows: small(rows)?, first_ns, last_ns };
        offset += u64::from(entry.len);
        Ok(entry)
    })
    .collect()
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
