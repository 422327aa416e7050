//! Blocks of sealed files as queries read them: decoded once, and kept while they are used.
//!
//! A block is a row group of the file. Series that stand beside each other share one, so that a query
//! of many series, or many queries of one, decode it once. What is kept is bounded (INV-6). A file is
//! never changed under its number but by mending, which makes its blocks forgotten.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use crate::buckets::Aggregate;
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId, is_before};
use crate::log::lock;
use crate::manifest::FileEntry;
use crate::sealed::{Place, ROLLUP_GROUP_ROWS, ROW_GROUP_ROWS, SealedFormat};
use crate::tables::Shared;

/// Most blocks of readings that are kept: 24 MiB.
const RAW_BLOCKS_MAX: usize = 96;
/// Most blocks of rollups that are kept: 20 MiB.
const MINUTE_BLOCKS_MAX: usize = 32;

/// Series, start of the minute, what is known of it.
pub type Minute = (SeriesId, i64, Aggregate);

/// The blocks that are kept.
#[derive(Debug)]
pub struct BlockCache {
    raw: Shelf<Rows>,
    minutes: Shelf<Vec<Minute>>,
}

impl Default for BlockCache {
    fn default() -> Self {
        Self { raw: Shelf::new(RAW_BLOCKS_MAX), minutes: Shelf::new(MINUTE_BLOCKS_MAX) }
    }
}

impl BlockCache {
    /// Drops what was decoded of a file.
    pub fn forget(&self, file: u64) {
        self.raw.forget(file);
        self.minutes.forget(file);
    }
}

/// Blocks by file and number; the one that was used longest ago goes first.
#[derive(Debug)]
struct Shelf<T> {
    max: usize,
    state: Mutex<ShelfState<T>>,
}

#[derive(Debug)]
struct ShelfState<T> {
    uses: u64,
    blocks: HashMap<(u64, u64), (u64, Arc<T>)>,
}

impl<T> Shelf<T> {
    fn new(max: usize) -> Self {
        Self { max, state: Mutex::new(ShelfState { uses: 0, blocks: HashMap::new() }) }
    }

    // Two may decode the same block at once; nobody waits for the other's disk.
    fn block(
        &self,
        key: (u64, u64),
        decode: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<Arc<T>, StoreError> {
        {
            let mut state = lock(&self.state);
            state.uses += 1;
            let now = state.uses;
            if let Some((used, block)) = state.blocks.get_mut(&key) {
                *used = now;
                return Ok(Arc::clone(block));
            }
        }
        let block = Arc::new(decode()?);
        let mut state = lock(&self.state);
        let now = state.uses;
        state.blocks.insert(key, (now, Arc::clone(&block)));
        while state.blocks.len() > self.max {
            let oldest = state.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            state.blocks.remove(&oldest);
        }
        Ok(block)
    }

    fn forget(&self, file: u64) {
        lock(&self.state).blocks.retain(|(number, _), _| *number != file);
    }
}

/// The blocks that hold rows `at..at + len` of a file, with where these stand in each.
fn parts(at: u64, len: u64, size: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = at.saturating_add(len);
    let within =
        move |row: u64, start: u64| usize::try_from(row.clamp(start, start + size) - start).unwrap_or(0);
    (at / size..end.div_ceil(size)).map(move |no| (no, within(at, no * size)..within(end, no * size)))
}

/// One file, as queries read it.
#[derive(Clone, Copy)]
pub struct SealedFile<'a> {
    pub shared: &'a Shared,
    pub format: &'a dyn SealedFormat,
    pub file: &'a FileEntry,
}

impl SealedFile<'_> {
    fn rows(&self, no: u64) -> Result<Arc<Rows>, StoreError> {
        let (number, size) = (self.file.number, ROW_GROUP_ROWS as u64);
        self.shared.blocks.raw.block((number, no), || {
            self.shared.trust(self.file)?;
            let len = size.min(self.file.rows().saturating_sub(no * size));
            let found = self.format.read_rows(&self.shared.paths(number).0, no * size, len);
            found.map_err(|reason| self.shared.distrust(number)(reason))
        })
    }

    fn minutes(&self, no: u64) -> Result<Arc<Vec<Minute>>, StoreError> {
        let (number, size) = (self.file.number, ROLLUP_GROUP_ROWS as u64);
        self.shared.blocks.minutes.block((number, no), || {
            self.shared.trust(self.file)?;
            let len = size.min(self.file.minutes().saturating_sub(no * size));
            let found = self.format.read_rollup(&self.shared.paths(number).1, no * size, len);
            found.map_err(|reason| self.shared.distrust(number)(reason))
        })
    }

    /// The first row of a place whose time is not before `from_ns`; decodes few blocks of many.
    fn first_row(&self, place: &Place, from_ns: i64) -> Result<u64, StoreError> {
        let size = ROW_GROUP_ROWS as u64;
        let (mut lo, mut hi) = (place.row, place.row + place.rows);
        if place.first_ns >= from_ns {
            return Ok(lo);
        }
        while lo < hi {
            let no = (lo + (hi - lo) / 2) / size;
            let (start, end) = (lo.max(no * size), hi.min((no + 1) * size));
            let block = self.rows(no)?;
            let part = parts(start, end - start, size).next().and_then(|(_, span)| block.times.get(span));
            let part = part.unwrap_or(&[]);
            match part.partition_point(|time| *time < from_ns) {
                0 => hi = start,
                before if before == part.len() => lo = end,
                before => return Ok(start + before as u64),
            }
        }
        Ok(lo)
    }

    /// Shows the rows of a place in `from..to` in order, a block at a time, until told to stop.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each_rows(
        &self,
        place: &Place,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(&[i64], &[f64]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let first = self.first_row(place, from_ns)?;
        for (no, span) in parts(first, place.row + place.rows - first, ROW_GROUP_ROWS as u64) {
            let block = self.rows(no)?;
            let times = block.times.get(span.clone()).unwrap_or(&[]);
            let end = times.partition_point(|time| is_before(*time, to_ns));
            let values = block.values.get(span).unwrap_or(&[]);
            let (in_range, values) = (times.get(..end).unwrap_or(&[]), values.get(..end).unwrap_or(&[]));
            if visit(in_range, values).is_break() || end < times.len() {
                break;
            }
        }
        Ok(())
    }

    /// Shows the minutes of a place that begin in `from..to`, in order.
    ///
    /// # Errors
    /// The rollup cannot be read.
    pub fn each_minute(
        &self,
        place: &Place,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(i64, &Aggregate),
    ) -> Result<(), StoreError> {
        for (no, span) in parts(place.minute, place.minutes, ROLLUP_GROUP_ROWS as u64) {
            let block = self.minutes(no)?;
            let minutes = block.get(span).unwrap_or(&[]).iter();
            for (_, start, part) in minutes.filter(|(_, start, _)| (from_ns..to_ns).contains(start)) {
                visit(*start, part);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_span_once_and_stay_within_blocks() {
        let found = |at, len| parts(at, len, 10).collect::<Vec<_>>();
        assert_eq!(found(0, 0), []);
        assert_eq!(found(20, 0), []);
        assert_eq!(found(3, 4), [(0, 3..7)]);
        assert_eq!(found(10, 10), [(1, 0..10)]);
        assert_eq!(found(8, 14), [(0, 8..10), (1, 0..10), (2, 0..2)]);
    }

    #[test]
    fn a_shelf_keeps_what_was_used_last() {
        let shelf = Shelf::new(2);
        let decoded = std::cell::Cell::new(0);
        let ask = |no| {
            let before = decoded.get();
            let decode = || {
                decoded.set(before + 1);
                Ok(no)
            };
            assert_eq!(*shelf.block((1, no), decode).unwrap(), no);
            decoded.get() - before
        };
        assert_eq!([1, 2, 1, 3, 1, 2].map(ask), [1, 1, 0, 1, 0, 1]);
        shelf.forget(1);
        assert_eq!(ask(1), 1);
    }
}
