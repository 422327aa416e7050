//! The columnar block: the readings of one or more consecutive batches, by series.
//!
//! A spool stores a block of one seq; the wire carries such a block as it is, or several re-packed
//! into one ([`repack`]). Rows of a series stand in seq order, and within a seq in the order in
//! which the source gave them, so that repeated and backward timestamps survive.
//!
//! Codec 2 is for small batches of one reading per series, see `singles`; codec 3 is one of the others with what is no plain
//! number beside it, see `boxed`; codec 1 is for all others:
//!
//! ```text
//! u8       codec, 1
//! ..       numbers of the series (see `series`)
//! u8 + ..  cells, rows of each series in each seq: 0 = all the same (varint); 1 = pco of u32
//! varint   number of time columns, then for each series its column, unless there is only one
//! chunk    all time columns one after the other: pco of i64 (ns)
//! chunks   values in groups of series (see `columns`)
//! ```
//! A chunk is a varint length and its bytes. The pco format is that of pcodec, MIT/Apache-2.0,
//! <https://github.com/pcodec/pcodec>. How many seqs there are, and the rows of each, stands in the
//! envelope; [`decode`] refuses a block that disagrees with it.

mod boxed;
mod columns;
pub mod decimals;
mod input;
mod repack;
mod series;
mod singles;
mod whole;

use std::collections::BTreeMap;

use self::boxed::Aside;
use self::columns::Times;
use self::input::{Input, varint};
pub use self::repack::repack;
pub use self::whole::{Whole, WholeColumn};
use crate::model::{RowCounts, SERIES_PER_EPOCH_MAX, Sample, Seq, SeriesNo};
use crate::ranges::RangeSet;
use crate::value::{Boxes, any_nan, is_boxed};
use crate::wire::{RUN_ROWS_MAX, RUN_SEQS_MAX};

/// The codec of columns.
const CODEC: u8 = 1;
/// A block of single readings of so many bytes is shorter than any of columns, whose header alone
/// takes more; it is written without trying.
const SINGLES_BYTES_SURE: usize = 48;
/// Most cells (series × seqs) of a block: bounds what its row matrix takes to 4 MiB.
pub const CELLS_MAX: usize = 1 << 20;

/// Why a block is not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A codec that this code does not know.
    #[error("block codec {found} is unknown; this end knows 1, 2 and 3")]
    Codec {
        /// The tag found.
        found: u8,
    },
    /// The bytes end too early or hold too much.
    #[error("block is malformed: {0}")]
    Malformed(&'static str),
    /// A number is beyond its limit.
    #[error("block has {found} {what}; allowed are {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The numeric codec refused a column.
    #[error("block column is damaged: {0}")]
    Column(String),
    /// The rows are not those of the envelope.
    #[error("block holds {found} rows for seq {seq}, its envelope says {expected}")]
    Rows {
        /// The seq.
        seq: Seq,
        /// As counted.
        found: u64,
        /// As announced.
        expected: u32,
    },
}

/// An encoded block with what its envelope must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// Rows of each seq.
    pub rows: RowCounts,
    /// One more than the highest series number.
    pub series_end: SeriesNo,
}

/// The readings of one series in a decoded block.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedColumn {
    /// Which series.
    pub series: SeriesNo,
    /// Times in ns since 1970.
    pub times: Vec<i64>,
    /// As many values, as words of the block's table.
    pub values: Vec<f64>,
    /// Rows of each seq of the block; their sum is the length of the columns.
    pub rows_per_seq: Vec<u32>,
}

/// A decoded block, series ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// One column pair per series.
    pub columns: Vec<DecodedColumn>,
    /// What the boxed words among the values stand for.
    pub boxes: Boxes,
}

impl Decoded {
    /// Rows in all.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.times.len()).sum()
    }

    /// Adds `shift_ns` to the times of `seqs`, where the block begins with `first`; saturates.
    pub fn restamp(&mut self, first: Seq, seqs: &RangeSet, shift_ns: i64) {
        for column in &mut self.columns {
            let mut times = column.times.iter_mut();
            for (rows, seq) in column.rows_per_seq.iter().zip(first.get()..) {
                let of_seq = times.by_ref().take(*rows as usize);
                if seqs.contains(seq) {
                    of_seq.for_each(|time| *time = time.saturating_add(shift_ns));
                } else {
                    of_seq.for_each(drop);
                }
            }
        }
    }

    /// Leaves only the rows of seqs in `keep`, where the block begins with `first`.
    pub fn retain(&mut self, first: Seq, keep: &RangeSet) {
        for column in &mut self.columns {
            let mut marks = Vec::with_capacity(column.times.len());
            for (rows, seq) in column.rows_per_seq.iter_mut().zip(first.get()..) {
                let kept = keep.contains(seq);
                marks.extend(std::iter::repeat_n(kept, *rows as usize));
                if !kept {
                    *rows = 0;
                }
            }
            let mut times = marks.iter();
            column.times.retain(|_| times.next().copied().unwrap_or(false));
            let mut values = marks.iter();
            column.values.retain(|_| values.next().copied().unwrap_or(false));
        }
        self.columns.retain(|column| !column.times.is_empty());
    }
}

#[derive(Debug, Default)]
struct Column {
    times: Vec<i64>,
    values: Vec<f64>,
    // Rows of each seq up to the last in which the series appears.
    counts: Vec<u32>,
}

impl Column {
    fn grow(&mut self, seqs_before: usize, rows: u32) {
        self.counts.resize(seqs_before, 0);
        self.counts.push(rows);
    }
}

/// Collects batches in seq order and encodes them.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    columns: BTreeMap<SeriesNo, Column>,
    rows: RowCounts,
    seqs: usize,
    boxes: Boxes,
}

impl BlockBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the batch of the next seq, of plain numbers. A series may come several times.
    pub fn push_batch(&mut self, items: &[(SeriesNo, &[Sample])]) {
        self.push_boxed(items, &Boxes::new());
    }

    /// Adds the batch of the next seq, whose values are words of `boxes`. A series may come several times.
    pub fn push_boxed(&mut self, items: &[(SeriesNo, &[Sample])], boxes: &Boxes) {
        self.push_each(items.iter().map(|(series, samples)| (*series, *samples, boxes)));
    }

    /// Adds the batch of the next seq, whose values are words of the table beside them. A series may come several times.
    pub fn push_each<'s>(&mut self, items: impl IntoIterator<Item = (SeriesNo, &'s [Sample], &'s Boxes)>) {
        let mut total = 0_u32;
        for (series, samples, boxes) in items {
            let rows = u32::try_from(samples.len()).unwrap_or(u32::MAX);
            let column = self.columns.entry(series).or_default();
            column.times.extend(samples.iter().map(|s| s.time_ns));
            let start = column.values.len();
            column.values.extend(samples.iter().map(|s| s.value));
            if let Some(added) = column.values.get_mut(start..)
                && any_nan(added)
            {
                self.boxes.adopt(added, boxes);
            }
            self.add_rows(series, rows);
            total = total.saturating_add(rows);
        }
        self.end_seq(total);
    }

    fn add_rows(&mut self, series: SeriesNo, rows: u32) {
        let seqs = self.seqs;
        let column = self.columns.entry(series).or_default();
        match column.counts.get_mut(seqs) {
            Some(count) => *count = count.saturating_add(rows),
            None => column.grow(seqs, rows),
        }
    }

    fn end_seq(&mut self, rows: u32) {
        self.rows.push(rows);
        self.seqs += 1;
    }

    /// Series × seqs so far; a caller stops before [`CELLS_MAX`].
    #[must_use]
    pub fn cells(&self) -> usize {
        self.columns.len().saturating_mul(self.seqs)
    }

    /// Encodes what was pushed.
    #[must_use]
    pub fn finish(mut self) -> Block {
        let seqs = self.seqs;
        self.columns.retain(|_, column| !column.times.is_empty());
        for column in self.columns.values_mut() {
            column.counts.resize(seqs, 0);
        }
        let series_end = self.columns.keys().next_back().map_or(0, |last| last.saturating_add(1));
        let mut bytes = Vec::new();
        if self.columns.values().any(|column| column.values.iter().copied().any(is_boxed)) {
            self.set_aside(&mut bytes);
        }
        let columns: Vec<(SeriesNo, &Column)> =
            self.columns.iter().map(|(no, column)| (*no, column)).collect();
        let single = singles::write(&columns, seqs);
        let inner = match single {
            Some(single) if single.len() <= SINGLES_BYTES_SURE => single,
            Some(single) => shorter(single, write_columns(&columns)),
            None => write_columns(&columns),
        };
        let bytes = if bytes.is_empty() { inner } else { [bytes, inner].concat() };
        Block { bytes, rows: self.rows, series_end }
    }

    /// Takes the boxed words out of the columns and writes them.
    fn set_aside(&mut self, out: &mut Vec<u8>) {
        let lengths: Vec<usize> = self.columns.values().map(|column| column.values.len()).collect();
        let mut all: Vec<f64> =
            self.columns.values().flat_map(|column| column.values.iter().copied()).collect();
        Aside::take(&mut all, &lengths).write(out, &self.boxes, self.seqs > 1);
        let mut all = all.into_iter();
        for column in self.columns.values_mut() {
            column.values.iter_mut().zip(all.by_ref()).for_each(|(value, number)| *value = number);
        }
    }
}

fn shorter(one: Vec<u8>, other: Vec<u8>) -> Vec<u8> {
    if other.len() < one.len() { other } else { one }
}

fn write_columns(columns: &[(SeriesNo, &Column)]) -> Vec<u8> {
    let mut out = vec![CODEC];
    series::write(&mut out, columns.iter().map(|(series, _)| *series));
    let counts = columns.iter().flat_map(|(_, column)| column.counts.iter().copied());
    write_cells(&mut out, &counts.collect::<Vec<u32>>());
    let times: Vec<&[i64]> = columns.iter().map(|(_, column)| column.times.as_slice()).collect();
    columns::write_times(&mut out, &times, &(0..times.len()).collect::<Vec<usize>>());
    let lengths: Vec<usize> = columns.iter().map(|(_, column)| column.values.len()).collect();
    columns::write_values(&mut out, &lengths, |at, values| {
        values.extend(columns.get(at).into_iter().flat_map(|(_, column)| &column.values));
    });
    out
}

fn write_cells(out: &mut Vec<u8>, cells: &[u32]) {
    let first = cells.first().copied().unwrap_or(0);
    if cells.iter().all(|count| *count == first) {
        write_same_cells(out, first);
    } else {
        out.push(1);
        columns::write_chunk(out, cells, columns::Shape::Counts);
    }
}

fn write_same_cells(out: &mut Vec<u8>, count: u32) {
    out.push(0);
    varint(out, u64::from(count));
}

/// Decodes a block whose envelope announces `rows` from seq `first` on.
///
/// # Errors
/// The bytes are damaged, beyond a limit, or not what the envelope says. Nothing is allocated
/// beyond what the limits of a run allow.
pub fn decode(bytes: &[u8], rows: &RowCounts, first: Seq) -> Result<Decoded, BlockError> {
    let whole = Whole::decode(bytes, rows, first)?;
    let columns = whole.columns().map(|column| DecodedColumn {
        series: column.series,
        times: column.times.to_vec(),
        values: column.values.to_vec(),
        rows_per_seq: column.rows_per_seq.to_vec(),
    });
    Ok(Decoded { columns: columns.collect(), boxes: whole.boxes().clone() })
}

/// A block's columns but for the values.
#[derive(Debug)]
struct Flat {
    series: Vec<SeriesNo>,
    cells: Cells,
    times: Times,
    boxes: Boxes,
}

/// Rows of each series in each seq.
#[derive(Debug)]
enum Cells {
    Same(u32),
    // Seq after seq, series after series.
    All(Vec<u32>),
}

impl Cells {
    /// Rows of each of `series` series in all of `seqs` seqs.
    fn lengths(&self, series: usize, seqs: usize) -> Vec<usize> {
        match self {
            Self::Same(count) => vec![(*count as usize).saturating_mul(seqs); series],
            Self::All(all) => {
                let counts = all.chunks(seqs.max(1));
                counts.map(|counts| counts.iter().map(|count| *count as usize).sum()).collect()
            }
        }
    }

    fn check(&self, series: usize, rows: &RowCounts, first: Seq) -> Result<(), BlockError> {
        let seqs = usize::try_from(rows.seqs()).unwrap_or(usize::MAX);
        let sums = match self {
            Self::Same(count) => vec![u64::from(*count).saturating_mul(series as u64); seqs],
            Self::All(all) => {
                let mut sums = vec![0_u64; seqs];
                for counts in all.chunks(seqs.max(1)) {
                    for (sum, count) in sums.iter_mut().zip(counts) {
                        *sum += u64::from(*count);
                    }
                }
                sums
            }
        };
        for ((found, expected), seq) in sums.iter().zip(rows.iter()).zip(first.get()..) {
            if *found != u64::from(expected) {
                return Err(BlockError::Rows { seq: Seq::new(seq), found: *found, expected });
            }
        }
        Ok(())
    }
}

/// Reads a block; `take` gets the values of one series after the other.
fn read(
    bytes: &[u8],
    rows: &RowCounts,
    first: Seq,
    take: &mut impl FnMut(&[f64]),
) -> Result<Flat, BlockError> {
    check_limit("rows", rows.total(), RUN_ROWS_MAX)?;
    check_limit("seqs", rows.seqs(), RUN_SEQS_MAX)?;
    let mut input = Input { bytes };
    if bytes.first() != Some(&boxed::CODEC) {
        return read_plain(input, rows, first, take);
    }
    input.byte()?;
    let (aside, boxes) = Aside::read(&mut input, rows.total())?;
    let (mut scratch, mut start, mut next) = (Vec::new(), 0, 0);
    let mut flat = read_plain(input, rows, first, &mut |values: &[f64]| {
        scratch.clear();
        scratch.extend_from_slice(values);
        aside.put_back(&mut scratch, start, &mut next);
        start += values.len();
        take(&scratch);
    })?;
    flat.boxes = boxes;
    Ok(flat)
}

/// Reads a block of codec 1 or 2.
fn read_plain(
    mut input: Input<'_>,
    rows: &RowCounts,
    first: Seq,
    take: &mut impl FnMut(&[f64]),
) -> Result<Flat, BlockError> {
    let seqs = usize::try_from(rows.seqs()).unwrap_or(usize::MAX);
    match input.byte()? {
        CODEC => {}
        // Of one seq: the rows of several would all be taken for those of the first.
        singles::CODEC if seqs != 1 => {
            return Err(BlockError::Malformed("single readings are of one seq, the envelope names others"));
        }
        singles::CODEC => {
            let (series, time_ns, values) = singles::read(&mut input)?;
            let cells = Cells::Same(1);
            cells.check(series.len(), rows, first)?;
            input.end()?;
            values.iter().for_each(|value| take(std::slice::from_ref(value)));
            return Ok(Flat { series, cells, times: Times::of_all(time_ns), boxes: Boxes::new() });
        }
        found => return Err(BlockError::Codec { found }),
    }
    let series = series::read(&mut input, u64::from(SERIES_PER_EPOCH_MAX))?;
    check_limit("cells", (series.len() as u64).saturating_mul(rows.seqs()), CELLS_MAX as u64)?;
    let cells = read_cells(&mut input, series.len() * seqs)?;
    cells.check(series.len(), rows, first)?;
    let lengths = cells.lengths(series.len(), seqs);
    let times = columns::read_times(&mut input, &lengths)?;
    columns::read_values(&mut input, &lengths, take)?;
    input.end()?;
    Ok(Flat { series, cells, times, boxes: Boxes::new() })
}

fn check_limit(what: &'static str, found: u64, max: u64) -> Result<(), BlockError> {
    if found > max { Err(BlockError::TooMany { what, found, max }) } else { Ok(()) }
}

fn read_cells(input: &mut Input<'_>, cells: usize) -> Result<Cells, BlockError> {
    match input.byte()? {
        0 => {
            let each = u32::try_from(input.varint()?);
            each.map(Cells::Same).map_err(|_| BlockError::Malformed("a row count overflows"))
        }
        1 => columns::read_chunk(input, cells).map(Cells::All),
        _ => Err(BlockError::Malformed("the row matrix has an unknown form")),
    }
}

#[cfg(test)]
mod tests;
