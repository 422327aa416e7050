//! Re-packing: the batches of consecutive seqs become one block, by series.
//!
//! Draining a spool is little else, so nothing here is allocated per reading: the values stay as they were
//! decoded, batch behind batch, and are picked up series by series for one group of the codec at a time.

use std::collections::HashMap;
use std::ops::Range;

use super::columns::{self, Times};
use super::{
    Aside, Block, BlockBuilder, BlockError, CODEC, Cells, read, series, write_cells, write_same_cells,
};
use crate::model::{RowCounts, Sample, Seq, SeriesNo};
use crate::value::{Boxes, any_nan, is_boxed};
use crate::wire::RUN_ROWS_MAX;

/// Re-packs blocks of single consecutive seqs into one run, by series. A seq without rows is left out.
///
/// # Errors
/// A block cannot be decoded.
pub fn repack<'b>(parts: impl IntoIterator<Item = (&'b [u8], u32)>) -> Result<Block, BlockError> {
    let parts: Vec<(&[u8], u32)> = parts.into_iter().collect();
    let rows: u64 = parts.iter().map(|(_, rows)| u64::from(*rows)).sum();
    let rows = usize::try_from(rows.min(RUN_ROWS_MAX)).unwrap_or(0);
    let mut packer = Packer { values: Vec::with_capacity(rows), ..Packer::default() };
    for (bytes, rows) in parts {
        packer.push(bytes, rows)?;
    }
    Ok(packer.finish())
}

/// Decoded batches in seq order.
#[derive(Debug, Default)]
struct Packer {
    rows: RowCounts,
    parts: Vec<Part>,
    // Neighbours with the same series share a list.
    lists: Vec<Vec<SeriesNo>>,
    // Of all parts, one behind the other.
    values: Vec<f64>,
    // What the boxed words among them stand for.
    boxes: Boxes,
}

/// The batch of one seq.
#[derive(Debug)]
enum Part {
    Hole,
    Batch(Batch),
}

#[derive(Debug)]
struct Batch {
    list: usize,
    rows: Rows,
    times: Times,
    // Where its values begin.
    values_at: usize,
}

/// Rows of each series of a batch.
#[derive(Debug)]
enum Rows {
    Same(usize),
    // Those of each series and all before it.
    Through(Vec<usize>),
}

impl Batch {
    /// The values of the series at `place` of its list.
    fn range(&self, place: usize) -> Range<usize> {
        let (from, to) = match &self.rows {
            Rows::Same(count) => (place * count, (place + 1) * count),
            Rows::Through(ends) => {
                let before = place.checked_sub(1).and_then(|before| ends.get(before));
                (before.copied().unwrap_or(0), ends.get(place).copied().unwrap_or(0))
            }
        };
        self.values_at + from..self.values_at + to
    }
}

impl Packer {
    fn push(&mut self, bytes: &[u8], rows: u32) -> Result<(), BlockError> {
        self.rows.push(rows);
        if rows == 0 {
            self.parts.push(Part::Hole);
            return Ok(());
        }
        let values_at = self.values.len();
        let all = &mut self.values;
        let take = &mut |values: &[f64]| match values {
            [one] => all.push(*one),
            some => all.extend_from_slice(some),
        };
        let flat = read(bytes, &RowCounts::one(rows), Seq::FIRST, take)?;
        if let Some(added) = self.values.get_mut(values_at..)
            && any_nan(added)
        {
            self.boxes.adopt(added, &flat.boxes);
        }
        if self.lists.last() != Some(&flat.series) {
            self.lists.push(flat.series);
        }
        let rows = match flat.cells {
            Cells::Same(count) => Rows::Same(count as usize),
            Cells::All(counts) => {
                let mut through = 0;
                let ends = counts.into_iter().map(|count| {
                    through += count as usize;
                    through
                });
                Rows::Through(ends.collect())
            }
        };
        let list = self.lists.len() - 1;
        self.parts.push(Part::Batch(Batch { list, rows, times: flat.times, values_at }));
        Ok(())
    }

    fn finish(self) -> Block {
        match self.parts.as_slice() {
            // One batch may have a shorter form.
            [Part::Batch(batch)] => self.one(batch),
            _ => Table::new(&self).write(),
        }
    }

    fn one(&self, batch: &Batch) -> Block {
        let list = self.lists.get(batch.list).map(Vec::as_slice).unwrap_or_default();
        let columns = list.iter().enumerate().map(|(place, series)| {
            let rows = batch.times.of(place).iter().zip(self.values(batch, place));
            (*series, rows.map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value }).collect())
        });
        let columns: Vec<(SeriesNo, Vec<Sample>)> = columns.collect();
        let mut builder = BlockBuilder::new();
        let items = columns.iter().map(|(series, samples)| (*series, samples.as_slice()));
        builder.push_boxed(&items.collect::<Vec<_>>(), &self.boxes);
        builder.finish()
    }

    fn values(&self, batch: &Batch, place: usize) -> &[f64] {
        self.values.get(batch.range(place)).unwrap_or_default()
    }
}

/// The parts by series.
struct Table<'p> {
    packer: &'p Packer,
    // All series that appear, ascending.
    series: Vec<SeriesNo>,
    // For each list the place of each series in it; none for a list of all of them.
    places: Vec<Option<Vec<Option<usize>>>>,
}

impl<'p> Table<'p> {
    fn new(packer: &'p Packer) -> Self {
        let mut series = packer.lists.concat();
        series.sort_unstable();
        series.dedup();
        let places = packer.lists.iter().map(|list| {
            (*list != series).then(|| {
                let mut places = list.iter().copied().zip(0..).peekable();
                let place = |series: &SeriesNo| places.next_if(|(own, _)| own == series).map(|(_, at)| at);
                series.iter().map(place).collect()
            })
        });
        let places = places.collect();
        Self { packer, series, places }
    }

    fn place(&self, batch: &Batch, at: usize) -> Option<usize> {
        match self.places.get(batch.list) {
            Some(Some(places)) => places.get(at).copied().flatten(),
            _ => Some(at),
        }
    }

    /// The batches that have the series at `at`, with its place in them.
    fn of(&self, at: usize) -> impl Iterator<Item = (&'p Batch, usize)> {
        self.packer.parts.iter().filter_map(move |part| match part {
            Part::Hole => None,
            Part::Batch(batch) => self.place(batch, at).map(|place| (batch, place)),
        })
    }

    /// Rows of each series in each seq, when they are all the same.
    fn same(&self) -> Option<u32> {
        let mut all = self.packer.parts.iter().map(|part| match part {
            Part::Batch(Batch { list: 0, rows: Rows::Same(count), .. }) if self.packer.lists.len() == 1 => {
                u32::try_from(*count).ok()
            }
            _ => None,
        });
        let first = all.next().flatten()?;
        all.all(|count| count == Some(first)).then_some(first)
    }

    fn counts(&self, at: usize) -> impl Iterator<Item = u32> {
        self.packer.parts.iter().map(move |part| match part {
            Part::Hole => 0,
            Part::Batch(batch) => {
                let rows = self.place(batch, at).map_or(0, |place| batch.range(place).len());
                u32::try_from(rows).unwrap_or(u32::MAX)
            }
        })
    }

    fn write(mut self) -> Block {
        let mut out = vec![CODEC];
        let seqs = self.packer.parts.len();
        let lengths = if let Some(same) = self.same() {
            series::write(&mut out, self.series.iter().copied());
            write_same_cells(&mut out, same);
            vec![seqs * same as usize; self.series.len()]
        } else {
            self.write_rows(&mut out)
        };
        self.write_times(&mut out);
        if self.packer.values.iter().copied().any(is_boxed) {
            out = self.write_boxed(&out, &lengths);
        } else {
            columns::write_values(&mut out, &lengths, |at, values| self.fill(at, values));
        }
        let series_end = self.series.last().map_or(0, |last| last.saturating_add(1));
        Block { bytes: out, rows: self.packer.rows.clone(), series_end }
    }

    /// Adds the values of the series at `at`.
    fn fill(&self, at: usize, values: &mut Vec<f64>) {
        for (batch, place) in self.of(at) {
            match self.packer.values(batch, place) {
                [one] => values.push(*one),
                some => values.extend_from_slice(some),
            }
        }
    }

    /// The block whose beginning is `inner`, behind what its values cannot hold.
    fn write_boxed(&self, inner: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.packer.values.len());
        (0..self.series.len()).for_each(|at| self.fill(at, &mut all));
        let mut out = Vec::new();
        Aside::take(&mut all, lengths).write(&mut out, &self.packer.boxes, true);
        out.extend_from_slice(inner);
        let mut all = all.into_iter();
        columns::write_values(&mut out, lengths, |at, values| {
            values.extend(all.by_ref().take(lengths.get(at).copied().unwrap_or(0)));
        });
        out
    }

    /// Writes which series there are and the rows of each, and leaves those without any out.
    fn write_rows(&mut self, out: &mut Vec<u8>) -> Vec<usize> {
        let seqs = self.packer.parts.len();
        let (mut cells, mut lengths, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..self.series.len() {
            let start = cells.len();
            cells.extend(self.counts(at));
            let length: usize = cells.iter().skip(start).map(|count| *count as usize).sum();
            if length > 0 {
                lengths.push(length);
            } else {
                cells.truncate(start);
            }
            empty.push(length == 0);
        }
        self.leave_out(&empty);
        series::write(out, self.series.iter().copied());
        debug_assert_eq!(cells.len(), self.series.len() * seqs);
        write_cells(out, &cells);
        lengths
    }

    fn leave_out(&mut self, empty: &[bool]) {
        if !empty.contains(&true) {
            return;
        }
        let all = self.series.len();
        let kept: Vec<usize> = (0..all).zip(empty).filter(|(_, empty)| !**empty).map(|(at, _)| at).collect();
        for places in &mut self.places {
            let place = |at: &usize| match places {
                Some(places) => places.get(*at).copied().flatten(),
                None => Some(*at),
            };
            *places = Some(kept.iter().map(place).collect());
        }
        self.series = kept.iter().filter_map(|at| self.series.get(*at).copied()).collect();
    }

    fn write_times(&self, out: &mut Vec<u8>) {
        let batches = self.packer.parts.iter().filter_map(|part| match part {
            Part::Hole => None,
            Part::Batch(batch) => Some(batch),
        });
        if self.packer.lists.len() == 1 && batches.clone().all(|batch| batch.times.are_shared()) {
            let times: Vec<i64> = batches.flat_map(|batch| batch.times.of(0).iter().copied()).collect();
            return columns::write_times(out, &[&times], &vec![0; self.series.len()]);
        }
        let mut index: HashMap<Vec<i64>, usize> = HashMap::new();
        let mut refs = Vec::with_capacity(self.series.len());
        let mut times = Vec::new();
        for at in 0..self.series.len() {
            times.clear();
            self.of(at).for_each(|(batch, place)| times.extend_from_slice(batch.times.of(place)));
            let known = index.len();
            refs.push(match index.get(&times) {
                Some(column) => *column,
                None => *index.entry(times.clone()).or_insert(known),
            });
        }
        let mut columns: Vec<(usize, Vec<i64>)> = index.into_iter().map(|(times, at)| (at, times)).collect();
        columns.sort_unstable_by_key(|(at, _)| *at);
        let columns: Vec<&[i64]> = columns.iter().map(|(_, times)| times.as_slice()).collect();
        columns::write_times(out, &columns, &refs);
    }
}
