//! What is in a file and where, in memory: a file may have a million series, so columns of it are kept and no entries, about
//! 40 bytes for each series and 34 for each block.

use std::ops::Range;

use tideline_protocol::value::Boxes;

use super::{
    BLOCK_ROWS, BlockEntry, FIGURES, FOOTER, Form, HEADER_BYTES, Level, Malformed, SLOTS, Trailer, pair, rows,
};
use crate::column::{ColumnError, put_column, read_integers, take_column, write_integers};
use crate::hot::{Reading, SeriesId, SeriesStats, is_before};

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

/// Blocks one behind the other in a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Blocks {
    // Where each ends, counted from where the first begins.
    ends: Vec<u64>,
    crcs: Vec<u32>,
    rows: Vec<u16>,
    firsts_ns: Vec<i64>,
    lasts_ns: Vec<i64>,
}

impl Blocks {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Adds one, which stands behind the others.
    pub fn push(&mut self, bytes: &[u8], rows: u16, (first_ns, last_ns): (i64, i64)) {
        self.ends.push(self.end() + bytes.len() as u64);
        self.crcs.push(crc32c::crc32c(bytes));
        self.rows.push(rows);
        self.firsts_ns.push(first_ns);
        self.lasts_ns.push(last_ns);
    }

    /// Adds those that stand behind these.
    fn append(&mut self, more: Self) {
        if self.ends.is_empty() {
            *self = more;
            return;
        }
        let begin = self.end();
        self.ends.extend(more.ends.into_iter().map(|end| begin + end));
        self.crcs.extend(more.crcs);
        self.rows.extend(more.rows);
        self.firsts_ns.extend(more.firsts_ns);
        self.lasts_ns.extend(more.lasts_ns);
    }

    fn get(&self, at: usize) -> Option<BlockEntry> {
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(BlockEntry {
            offset: HEADER_BYTES as u64 + begin,
            len: u32::try_from(self.ends.get(at)?.saturating_sub(begin)).unwrap_or(u32::MAX),
            crc: *self.crcs.get(at)?,
            rows: u32::from(*self.rows.get(at)?),
            first_ns: *self.firsts_ns.get(at)?,
            last_ns: *self.lasts_ns.get(at)?,
        })
    }

    const fn bytes(&self) -> usize {
        self.ends.len() * 30
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut begin = 0;
        let lens = self.ends.iter().map(|end| end.saturating_sub(std::mem::replace(&mut begin, *end)));
        put_integers(out, lens.map(u64::cast_signed));
        put_integers(out, self.crcs.iter().copied().map(i64::from));
        put_integers(out, self.rows.iter().copied().map(i64::from));
        put_column(out, |out| write_integers(out, &self.firsts_ns));
        put_column(out, |out| write_integers(out, &self.lasts_ns));
    }

    fn read(bytes: &mut &[u8], len: usize) -> Result<Self, ColumnError> {
        let mut end = 0_u64;
        let ends = narrow(bytes, len, |len| {
            end += u64::from(u32::try_from(len).ok()?);
            Some(end)
        })?;
        let crcs = narrow(bytes, len, |crc| u32::try_from(crc).ok())?;
        let small = |rows: &u16| usize::from(*rows) <= BLOCK_ROWS;
        let rows = narrow(bytes, len, |rows| u16::try_from(rows).ok().filter(small))?;
        let firsts_ns = read_integers(take_column(bytes)?, len)?;
        let lasts_ns = read_integers(take_column(bytes)?, len)?;
        Ok(Self { ends, crcs, rows, firsts_ns, lasts_ns })
    }
}

/// What is in a file, and where.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// The number of the file.
    pub number: u64,
    /// What the boxed words among the last values stand for.
    pub boxes: Boxes,
    form: Form,
    // Of each series, ascending.
    ids: Vec<SeriesId>,
    rows: Vec<u64>,
    firsts_ns: Vec<i64>,
    lasts_ns: Vec<i64>,
    lasts: Vec<f64>,
    // By kind: how many blocks each series and those before it have; nothing where there are none of the kind.
    ends: [Vec<u32>; SLOTS],
    blocks: Blocks,
}

impl Directory {
    /// Of a file that has nothing yet.
    pub(super) fn new(number: u64, form: Form) -> Self {
        Self { number, form, ..Self::default() }
    }

    /// The numbers of its series, ascending.
    #[must_use]
    pub fn ids(&self) -> &[SeriesId] {
        &self.ids
    }

    /// Its series by number.
    pub fn series(&self) -> impl Iterator<Item = SeriesEntry> + '_ {
        (0..self.ids.len()).filter_map(|at| self.entry(at))
    }

    /// What it has of a series.
    #[must_use]
    pub fn find(&self, series: SeriesId) -> Option<SeriesEntry> {
        self.ids.binary_search(&series).ok().and_then(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> Option<SeriesEntry> {
        let (mut base, mut blocks) = (0, [(0, 0); SLOTS]);
        for (place, ends) in blocks.iter_mut().zip(&self.ends) {
            let begin = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            let end = ends.get(at).copied().unwrap_or(begin);
            *place = (base + begin, end.saturating_sub(begin));
            base += ends.last().copied().unwrap_or(0);
        }
        Some(SeriesEntry {
            series: *self.ids.get(at)?,
            rows: *self.rows.get(at)?,
            first_ns: *self.firsts_ns.get(at)?,
            last_ns: *self.lasts_ns.get(at)?,
            last: *self.lasts.get(at)?,
            blocks,
        })
    }

    /// What is known of the readings of a series.
    #[must_use]
    pub fn stats(&self, entry: &SeriesEntry) -> SeriesStats {
        let last = Reading::new(entry.last_ns, entry.last, &self.boxes);
        SeriesStats { count: entry.rows, first_ns: Some(entry.first_ns), last: Some(last), late: 0 }
    }

    /// The blocks of a series, in order of time.
    pub fn blocks(&self, entry: &SeriesEntry, level: Level) -> impl Iterator<Item = BlockEntry> + '_ {
        Self::slot(entry, level.slot()).filter_map(|no| self.blocks.get(no))
    }

    /// The blocks of figures of a series, in order of time.
    pub fn figures(&self, entry: &SeriesEntry) -> impl Iterator<Item = BlockEntry> + '_ {
        Self::slot(entry, FIGURES).filter_map(|no| self.blocks.get(no))
    }

    fn slot(entry: &SeriesEntry, slot: usize) -> Range<usize> {
        let (first, count) = entry.blocks.get(slot).copied().unwrap_or_default();
        let first = first as usize;
        first..first.saturating_add(count as usize)
    }

    /// The numbers of those blocks that may hold a time in `from..to`.
    #[must_use]
    pub fn blocks_within(
        &self,
        entry: &SeriesEntry,
        level: Level,
        (from_ns, to_ns): (i64, i64),
    ) -> Range<usize> {
        let all = Self::slot(entry, level.slot());
        let lasts_ns = self.blocks.lasts_ns.get(all.clone()).unwrap_or(&[]);
        let firsts_ns = self.blocks.firsts_ns.get(all.clone()).unwrap_or(&[]);
        let lo = lasts_ns.partition_point(|last_ns| *last_ns < from_ns);
        let hi = firsts_ns.partition_point(|first_ns| is_before(*first_ns, to_ns)).max(lo);
        all.start + lo..all.start + hi
    }

    /// The block of a number.
    #[must_use]
    pub fn block(&self, number: usize) -> Option<BlockEntry> {
        self.blocks.get(number)
    }

    /// Readings of all series.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.iter().fold(0, |sum, rows| sum.saturating_add(*rows))
    }

    /// The earliest and the latest time; none without a series.
    #[must_use]
    pub fn span_ns(&self) -> Option<(i64, i64)> {
        Some((*self.firsts_ns.iter().min()?, *self.lasts_ns.iter().max()?))
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let ends: usize = self.ends.iter().map(Vec::len).sum();
        self.ids.len() * 36 + ends * 4 + self.blocks.bytes() + self.boxes.bytes()
    }

    /// Adds a series with a greater number than the others; `ends` are how many blocks of each kind they all have with its
    /// own.
    pub fn push(&mut self, series: SeriesId, stats: (u64, i64, i64, f64), ends: [u32; SLOTS]) {
        let (rows, first_ns, last_ns, last) = stats;
        for (all, end) in self.ends.iter_mut().zip(ends) {
            if end > 0 {
                // Those before it had none.
                all.resize(self.ids.len(), 0);
                all.push(end);
            }
        }
        self.ids.push(series);
        self.rows.push(rows);
        self.firsts_ns.push(first_ns);
        self.lasts_ns.push(last_ns);
        self.lasts.push(last);
    }

    /// Adds the blocks of a kind, which stand behind those of the kinds before it.
    pub fn append(&mut self, blocks: Blocks) {
        self.blocks.append(blocks);
    }

    /// The end of a file, when it stands at `offset`.
    pub(super) fn to_bytes(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_series(&mut out);
        self.blocks.write(&mut out);
        let crc = crc32c::crc32c(&out);
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let counts = pair(count(self.ids.len()), count(self.blocks.len()));
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
        put_integers(out, self.ids.iter().copied().map(i64::from));
        put_integers(out, self.rows.iter().copied().map(u64::cast_signed));
        put_column(out, |out| write_integers(out, &self.firsts_ns));
        put_column(out, |out| write_integers(out, &self.lasts_ns));
        put_column(out, |out| rows::write_words(out, &self.lasts, &self.boxes));
        for ends in self.ends.iter().take(self.form.slots()) {
            let mut begin = 0;
            let of = |at: usize| {
                let end = ends.get(at).copied().unwrap_or(begin);
                i64::from(end.saturating_sub(std::mem::replace(&mut begin, end)))
            };
            put_integers(out, (0..self.ids.len()).map(of));
        }
    }

    /// Reads what [`Directory::to_bytes`] wrote.
    pub(super) fn from_bytes(mut bytes: &[u8], trailer: &Trailer, form: Form) -> Result<Self, Malformed> {
        if bytes.len() as u64 != trailer.len || crc32c::crc32c(bytes) != trailer.crc {
            return Err(Malformed("its directory is damaged"));
        }
        let contradicts = |_: ColumnError| Malformed("its directory contradicts itself");
        let directory = Self::read(&mut bytes, trailer, form).map_err(contradicts)?;
        let listed: u64 =
            directory.ends.iter().map(|ends| u64::from(ends.last().copied().unwrap_or(0))).sum();
        let ascending = directory.ids.is_sorted_by(|a, b| a < b);
        let all = listed == u64::from(trailer.blocks) && directory.rows() == trailer.rows;
        let end = HEADER_BYTES as u64 + directory.blocks.end();
        if ascending && all && end == trailer.offset && bytes.is_empty() {
            Ok(directory)
        } else {
            Err(Malformed("its directory contradicts itself"))
        }
    }

    /// A column at a time: of a million series each is some MB as it stands in the file.
    fn read(bytes: &mut &[u8], trailer: &Trailer, form: Form) -> Result<Self, ColumnError> {
        let len = trailer.series as usize;
        let ids = narrow(bytes, len, |id| u32::try_from(id).ok())?;
        let few = |rows: &u64| *rows <= u64::from(u32::MAX) * 4096;
        let rows = narrow(bytes, len, |rows| u64::try_from(rows).ok().filter(few))?;
        let firsts_ns = read_integers(take_column(bytes)?, len)?;
        let lasts_ns = read_integers(take_column(bytes)?, len)?;
        let (lasts, boxes) = rows::read_words(take_column(bytes)?, len)?;
        let mut ends: [Vec<u32>; SLOTS] = Default::default();
        // The blocks of all kinds are numbered one behind the other.
        let mut all = 0_u32;
        for ends in ends.iter_mut().take(form.slots()) {
            let begin = all;
            let read = narrow(bytes, len, |count| {
                all = all.checked_add(u32::try_from(count).ok()?)?;
                Some(all - begin)
            })?;
            if all > begin {
                *ends = read;
            }
        }
        let blocks = Blocks::read(bytes, trailer.blocks as usize)?;
        Ok(Self { number: trailer.number, boxes, form, ids, rows, firsts_ns, lasts_ns, lasts, ends, blocks })
    }
}

fn put_integers(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let column: Vec<i64> = numbers.collect();
    put_column(out, |out| write_integers(out, &column));
}

/// The next column, as smaller numbers.
fn narrow<T>(
    bytes: &mut &[u8],
    len: usize,
    number: impl FnMut(i64) -> Option<T>,
) -> Result<Vec<T>, ColumnError> {
    let wide = read_integers(take_column(bytes)?, len)?;
    let narrow: Option<Vec<T>> = wide.into_iter().map(number).collect();
    narrow.ok_or(ColumnError::Malformed("a number is out of range"))
}
