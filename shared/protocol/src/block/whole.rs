//! A decoded block in one piece: for who takes the readings of many series over at once.

use super::{BlockError, Cells, Flat, read};
use crate::model::{RowCounts, Seq, SeriesNo};
use crate::value::Boxes;

/// A decoded block as it is: its series lie one after the other, so that one of few rows a series costs no
/// allocation for each of them.
#[derive(Debug)]
pub struct Whole {
    flat: Flat,
    values: Vec<f64>,
    seqs: usize,
    // Rows of each seq, where they are the same for all series.
    same: Vec<u32>,
}

/// The readings of one series in a decoded block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WholeColumn<'a> {
    /// Which series.
    pub series: SeriesNo,
    /// Times in ns since 1970.
    pub times: &'a [i64],
    /// As many values, as words of the block's table.
    pub values: &'a [f64],
    /// Rows of each seq of the block; their sum is the length of the others.
    pub rows_per_seq: &'a [u32],
}

impl Whole {
    /// As [`super::decode`].
    ///
    /// # Errors
    /// As [`super::decode`].
    pub fn decode(bytes: &[u8], rows: &RowCounts, first: Seq) -> Result<Self, BlockError> {
        let mut values = Vec::new();
        let flat = read(bytes, rows, first, &mut |own| values.extend_from_slice(own))?;
        let seqs = usize::try_from(rows.seqs()).unwrap_or(usize::MAX);
        let same = match flat.cells {
            Cells::Same(count) => vec![count; seqs],
            Cells::All(_) => Vec::new(),
        };
        Ok(Self { flat, values, seqs, same })
    }

    /// The greatest number of a series in it.
    #[must_use]
    pub fn last_series(&self) -> Option<SeriesNo> {
        self.flat.series.iter().max().copied()
    }

    /// What the boxed words among the values stand for.
    #[must_use]
    pub const fn boxes(&self) -> &Boxes {
        &self.flat.boxes
    }

    /// One for each series, ascending.
    pub fn columns(&self) -> impl Iterator<Item = WholeColumn<'_>> {
        let mut values = self.values.as_slice();
        self.flat.series.iter().enumerate().map(move |(at, series)| {
            let rows_per_seq = match &self.flat.cells {
                Cells::Same(_) => self.same.as_slice(),
                Cells::All(all) => all.chunks(self.seqs.max(1)).nth(at).unwrap_or_default(),
            };
            let times = self.flat.times.of(at);
            let (own, rest) = values.split_at(times.len().min(values.len()));
            values = rest;
            WholeColumn { series: *series, times, values: own, rows_per_seq }
        })
    }
}
