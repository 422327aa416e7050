//! Figures of buckets of whole hours or days, from those that are stored, and from readings where none are.
//!
//! Each file has its own, and what came later may lie between: distributions are added up whatever their order, and what was
//! held is put together where the times of the parts follow each other. Where they overlap, readings are read; and where
//! these are gone, the mean is near, and says so.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::page::first_rows;
use super::super::{Grid, Level, SealedFile, Tier, read};
use super::{Figures, Newest, READINGS_MAX, numbers};
use crate::buckets::bucket_start;
use crate::config::StoreError;
use crate::held::Held;
use crate::hot::{Rows, SeriesId};
use crate::sealed::SealedFormat;
use crate::segment::SeriesEntry;
use crate::sketch::{BINS_MAX, Sketch};
use crate::tables::Shared;

/// What is known of one bucket.
#[derive(Debug, Default)]
pub struct Cell {
    /// Numbers that it is made of.
    pub count: u64,
    /// How they are distributed, where that was asked for.
    pub sketch: Sketch,
    // What was held, in order of arrival; and which of these have no readings any more.
    held: Vec<Held>,
    gone: Vec<Held>,
}

/// The buckets of a series by their starts, and the coarsest tier that they are from.
pub struct Cells {
    pub by_start: BTreeMap<i64, Cell>,
    pub tier: Tier,
}

/// What is read.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub shared: &'a Shared,
    pub format: &'a dyn SealedFormat,
    pub grid: &'a Grid,
    pub range: (i64, i64),
    pub figures: &'a Figures,
    pub canceled: &'a (dyn Fn() -> bool + Sync),
}

/// The buckets of one series as they are read.
struct Work<'a> {
    source: Source<'a>,
    cells: Cells,
    // How many were read.
    readings: u64,
    // Room for sketches to work in.
    keys: Vec<u64>,
}

impl Source<'_> {
    /// All buckets of a series; with `stored` from what is stored, where that is.
    ///
    /// # Errors
    /// A file cannot be read, too much would have to be read, or it was canceled.
    pub fn cells(&self, id: SeriesId, stored: bool) -> Result<Cells, StoreError> {
        let cells = Cells { by_start: BTreeMap::new(), tier: Tier::Raw };
        let mut work = Work { source: *self, cells, readings: 0, keys: Vec::new() };
        if self.shared.revised.has(id) {
            self.newest(id, self.range, |newest| work.newest(newest))?;
            return Ok(work.cells);
        }
        let mut hot = Rows::default();
        let files = {
            let tables = read(&self.shared.tables);
            for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
                part.copy(id, self.range.0, self.range.1, usize::MAX, &mut hot);
            }
            Arc::clone(&tables.files)
        };
        for file in files.iter() {
            if (self.canceled)() {
                return Err(StoreError::Query("it was canceled".to_owned()));
            }
            let sealed = SealedFile { shared: self.shared, format: self.format, file };
            if let Some(entry) = sealed.find(id, self.range)? {
                work.file(sealed, &entry, stored)?;
            }
        }
        hot.sort();
        let (times, values) = numbers(&hot);
        work.add_rows(&times, &values)?;
        Ok(work.cells)
    }

    /// What was held in a bucket, as near as it is known.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn held(&self, id: SeriesId, cell: &Cell) -> Result<Option<Held>, StoreError> {
        Held::all(&cell.held, |first_ns, last_ns| {
            if cell.gone.iter().any(|gone| gone.first_ns <= last_ns && gone.last_ns >= first_ns) {
                return Ok(None);
            }
            let range = (first_ns, last_ns.saturating_add(1));
            let rows = first_rows(self.shared, self.format, id, range, usize::MAX)?;
            let (times, values) = numbers(&rows);
            Ok(Held::of(&times, &values))
        })
    }
}

impl Work<'_> {
    /// Of a revised series: what is stored of files that have no readings any more, and the readings.
    fn newest(&mut self, newest: &Newest<'_>) -> Result<(), StoreError> {
        let Newest { shared, format, id, files, .. } = *newest;
        for file in files.iter().filter(|file| !file.is_whole()) {
            let sealed = SealedFile { shared, format, file };
            if let Some(entry) = sealed.find(id, self.source.range)? {
                self.file(sealed, &entry, true)?;
            }
        }
        let mut done = Ok(());
        newest.each(self.source.range, |times, values| {
            let plain = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
            let (times, values): (Vec<i64>, Vec<f64>) = plain.unzip();
            done = self.add_rows(&times, &values);
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        done
    }

    fn file(&mut self, file: SealedFile<'_>, entry: &SeriesEntry, stored: bool) -> Result<(), StoreError> {
        let (range, level) = (self.source.range, file.file.finest.figured());
        let whole = file.file.is_whole();
        if (stored || !whole) && self.source.grid.level() >= level {
            // Of what has no readings the buckets that the range cuts are taken whole.
            let within = if whole { within(level, range) } else { level.widened(range) };
            let sketched = !self.source.figures.quantiles.is_empty();
            if within.0 < within.1
                && let Some(found) = file.figures(entry.series, within, sketched)?
            {
                for (part, figure) in found {
                    let cell = self.cell(figure.start_ns);
                    let held = figure.held(&part);
                    cell.count += part.count;
                    cell.held.push(held);
                    if !whole {
                        cell.gone.push(held);
                    }
                    cell.sketch.merge(&figure.sketch, BINS_MAX);
                    self.cells.tier = self.cells.tier.coarser(level.into());
                }
                if whole {
                    self.rows(file, entry, (range.0, within.0))?;
                    self.rows(file, entry, (within.1, range.1))?;
                }
                return Ok(());
            }
        }
        if whole { self.rows(file, entry, range) } else { Ok(()) }
    }

    fn rows(
        &mut self,
        file: SealedFile<'_>,
        entry: &SeriesEntry,
        (from_ns, to_ns): (i64, i64),
    ) -> Result<(), StoreError> {
        if from_ns >= to_ns || !entry.overlaps(from_ns, to_ns) {
            return Ok(());
        }
        let mut done = Ok(());
        file.each_rows(entry, (from_ns, to_ns), |times, words, boxes| {
            let values = boxes.numbers(words);
            let plain = times.iter().zip(values.iter()).filter(|(_, value)| !value.is_nan());
            let (times, values): (Vec<i64>, Vec<f64>) = plain.unzip();
            done = self.add_rows(&times, &values);
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        done
    }

    /// Adds numbers in order of time.
    fn add_rows(&mut self, times: &[i64], values: &[f64]) -> Result<(), StoreError> {
        self.readings = self.readings.saturating_add(times.len() as u64);
        if self.readings > READINGS_MAX {
            let why = format!(
                "figures of a series are made of more than {READINGS_MAX} readings here; so many are allowed"
            );
            return Err(StoreError::Query(why));
        }
        if (self.source.canceled)() {
            return Err(StoreError::Query("it was canceled".to_owned()));
        }
        let mut rows = (times, values);
        while let Some(first_ns) = rows.0.first().copied() {
            let end_ns = self.source.grid.end(first_ns);
            let len = rows.0.partition_point(|time| *time < end_ns || end_ns == i64::MAX).max(1);
            let (times, values) = (rows.0.split_at(len), rows.1.split_at(len));
            let mut keys = std::mem::take(&mut self.keys);
            let sketched = !self.source.figures.quantiles.is_empty();
            let cell = self.cell(first_ns);
            cell.count += len as u64;
            cell.held.extend(Held::of(times.0, values.0));
            if sketched {
                cell.sketch.add_fine(values.0, BINS_MAX, &mut keys);
            }
            self.keys = keys;
            rows = (times.1, values.1);
        }
        Ok(())
    }

    /// The bucket that holds a time; of one before the range, the first.
    fn cell(&mut self, time_ns: i64) -> &mut Cell {
        let start = self.source.grid.start(time_ns.max(self.source.range.0));
        self.cells.by_start.entry(start).or_default()
    }
}

/// The whole buckets of a level in a range; a range without an end has the last one whole.
fn within(level: Level, (from_ns, to_ns): (i64, i64)) -> (i64, i64) {
    let width_ns = level.width_ns();
    let floor = bucket_start(from_ns, width_ns);
    let from = if floor == from_ns { floor } else { floor.saturating_add(width_ns) };
    let to = if to_ns == i64::MAX { to_ns } else { bucket_start(to_ns, width_ns) };
    (from.min(to_ns), to.max(from.min(to_ns)))
}
