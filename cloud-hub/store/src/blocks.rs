//! Blocks of sealed files as queries read them: decoded once, and kept while they are used.
//!
//! What is kept is bounded (INV-6). A file is never changed under its number but by mending, which makes its
//! blocks forgotten.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::Boxes;

use crate::buckets::{Aggregate, Buckets};
use crate::cold::file::ColdFile;
use crate::cold::{ColdEntry, ColdGroup};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId, is_before};
use crate::log::lock;
use crate::manifest::FileEntry;
use crate::narrow::Narrow;
use crate::query::RawColumn;
use crate::sealed::SealedFormat;
use crate::segment::figures::Figure;
use crate::segment::read::ReadError;
use crate::segment::rolls::Roll;
use crate::segment::{BlockEntry, Directory, Level, SeriesEntry};
use crate::tables::{Shared, read};

/// What keeping anything costs besides its bytes.
const ENTRY_BYTES: usize = 256;
/// Rows of a block from which on it is added without its times: shorter ones are asked for again and again where a file
/// has no rollup of so few.
const TOTALED_FROM: u32 = 1024;

/// What is known of buckets, with their figures.
pub type Figured = Vec<(Aggregate, Figure)>;

/// The starts of buckets, and what is known of each.
pub type Rolls = Vec<(i64, Aggregate)>;

/// What is kept in memory of sealed files.
#[derive(Debug)]
pub struct BlockCache {
    rows: Shelf<Rows>,
    narrow: Shelf<Narrow>,
    rolls: Shelf<Rolls>,
    raw_directories: Shelf<Directory>,
    rollup_directories: Shelf<Directory>,
    cold: Shelf<Vec<RawColumn>>,
}

impl BlockCache {
    /// Keeps so many bytes: three sixteenths of readings with their times and as many of values alone, four of rollups,
    /// six of directories. What is read of the cold tier may take another one of them.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let part = bytes_max / 16;
        Self {
            rows: Shelf::new(3 * part),
            narrow: Shelf::new(3 * part),
            rolls: Shelf::new(4 * part),
            raw_directories: Shelf::new(3 * part),
            rollup_directories: Shelf::new(3 * part),
            cold: Shelf::new(part),
        }
    }

    /// Drops what was read of a file.
    pub fn forget(&self, file: u64) {
        self.rows.forget(file);
        self.narrow.forget(file);
        self.rolls.forget(file);
        self.raw_directories.forget(file);
        self.rollup_directories.forget(file);
    }
}

/// What is kept by file and number; what was used longest ago goes first. What is larger than all that may be kept is kept
/// by itself until something else is read.
#[derive(Debug)]
struct Shelf<T> {
    bytes_max: usize,
    state: Mutex<ShelfState<T>>,
}

#[derive(Debug)]
struct ShelfState<T> {
    uses: u64,
    bytes: usize,
    kept: HashMap<(u64, usize), Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    used: u64,
    bytes: usize,
    item: Arc<T>,
}

impl<T> Shelf<T> {
    fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::new(ShelfState { uses: 0, bytes: 0, kept: HashMap::new() }) }
    }

    // Two may read the same at once; nobody waits for the other's disk.
    fn get(
        &self,
        key: (u64, usize),
        read: impl FnOnce() -> Result<(T, usize), StoreError>,
    ) -> Result<Arc<T>, StoreError> {
        if let Some(item) = self.find(key) {
            return Ok(item);
        }
        let (item, bytes) = read()?;
        Ok(self.keep(key, item, bytes))
    }

    fn find(&self, key: (u64, usize)) -> Option<Arc<T>> {
        let mut state = lock(&self.state);
        state.uses += 1;
        let now = state.uses;
        let kept = state.kept.get_mut(&key)?;
        kept.used = now;
        Some(Arc::clone(&kept.item))
    }

    fn keep(&self, key: (u64, usize), item: T, bytes: usize) -> Arc<T> {
        let (item, bytes) = (Arc::new(item), bytes.saturating_add(ENTRY_BYTES));
        let mut state = lock(&self.state);
        let used = state.uses;
        if bytes > self.bytes_max {
            // The directory of a file with a million series is asked for by each of them: it stays, alone.
            state.kept.clear();
            state.kept.insert(key, Kept { used, bytes, item: Arc::clone(&item) });
            state.bytes = bytes;
            return item;
        }
        let before = state.kept.insert(key, Kept { used, bytes, item: Arc::clone(&item) });
        state.bytes = (state.bytes + bytes).saturating_sub(before.map_or(0, |before| before.bytes));
        while state.bytes > self.bytes_max {
            state.drop_oldest();
        }
        item
    }

    fn has(&self, key: (u64, usize)) -> bool {
        lock(&self.state).kept.contains_key(&key)
    }

    fn forget(&self, file: u64) {
        let mut state = lock(&self.state);
        state.kept.retain(|(number, _), _| *number != file);
        state.bytes = state.kept.values().map(|kept| kept.bytes).sum();
    }
}

impl<T> ShelfState<T> {
    /// A quarter at a time, so that each costs the same however many are kept.
    fn drop_oldest(&mut self) {
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        let last = uses.len() / 4;
        if uses.is_empty() {
            self.bytes = 0;
            return;
        }
        let (_, last, _) = uses.select_nth_unstable(last);
        let last = *last;
        self.kept.retain(|_, kept| kept.used > last);
        self.bytes = self.kept.values().map(|kept| kept.bytes).sum();
    }
}

impl Shared {
    /// A group of rows of a cold file, by series and time. The file is read as a whole for it, and its checksum compared.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    pub fn cold_group(&self, entry: &ColdEntry, no: usize) -> Result<Arc<Vec<RawColumn>>, StoreError> {
        self.blocks.cold.get((entry.number, no), || {
            let file = ColdFile::open((self.files.as_ref(), &self.dir), entry)?;
            let rows = |group: &ColdGroup| usize::try_from(group.rows).unwrap_or(usize::MAX);
            let begin: usize = entry.groups.iter().take(no).map(rows).sum();
            let end = begin.saturating_add(entry.groups.get(no).map_or(0, rows));
            let find = |device: &str, point: &str| {
                let (device, point) = (DeviceId::parse(device).ok()?, PointId::parse(point).ok()?);
                read(&self.registry).names().find(&device, &point)
            };
            let columns = file.columns(begin..end, (i64::MIN, i64::MAX), &find)?;
            let bytes = columns.iter().map(|column| column.times.len() * 16 + column.boxes.bytes()).sum();
            Ok((columns, bytes))
        })
    }
}

/// One file, as queries read it.
#[derive(Clone, Copy)]
pub struct SealedFile<'a> {
    pub shared: &'a Shared,
    pub format: &'a dyn SealedFormat,
    pub file: &'a FileEntry,
}

impl SealedFile<'_> {
    /// What cannot be read now is told; what is damaged is noted to be mended.
    fn believe<T>(&self, read: Result<T, ReadError>) -> Result<T, StoreError> {
        read.map_err(|error| match error {
            ReadError::Damaged(reason) => self.shared.distrust(self.file.number)(reason),
            ReadError::Io(error) => StoreError::io("reading a sealed file")(error),
        })
    }

    /// Where its readings stand; of one that is left without them, what it has of each series.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn directory(&self) -> Result<Arc<Directory>, StoreError> {
        if !self.file.is_whole() {
            return self.rollup();
        }
        let number = self.file.number;
        self.shared.blocks.raw_directories.get((number, 0), || {
            let found = self.believe(self.format.directory(&self.shared.paths(number).0, number))?;
            let bytes = found.bytes();
            Ok((found, bytes))
        })
    }

    /// Where its rollups stand.
    ///
    /// # Errors
    /// The rollup cannot be read.
    pub fn rollup(&self) -> Result<Arc<Directory>, StoreError> {
        let number = self.file.number;
        self.shared.blocks.rollup_directories.get((number, 0), || {
            let found = self.believe(self.format.directory(&self.shared.paths(number).1, number))?;
            let bytes = found.bytes();
            Ok((found, bytes))
        })
    }

    fn rows(&self, no: usize, block: &BlockEntry) -> Result<Arc<Rows>, StoreError> {
        let number = self.file.number;
        self.shared.blocks.rows.get((number, no), || {
            let rows = self.believe(self.format.read_rows(&self.shared.paths(number).0, block))?;
            let bytes = rows.bytes();
            Ok((rows, bytes))
        })
    }

    fn rolls(&self, no: usize, block: &BlockEntry, level: Level) -> Result<Arc<Rolls>, StoreError> {
        let number = self.file.number;
        self.shared.blocks.rolls.get((number, no), || {
            let rolls = self.believe(self.format.read_rolls(&self.shared.paths(number).1, block, level))?;
            let bytes = rolls.len() * size_of::<(i64, Aggregate)>();
            Ok((rolls, bytes))
        })
    }

    /// What the file has of a series, when a reading may be in `from..to`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn find(
        &self,
        series: SeriesId,
        (from_ns, to_ns): (i64, i64),
    ) -> Result<Option<SeriesEntry>, StoreError> {
        if !is_before(self.file.first_ns, to_ns) || self.file.last_ns < from_ns {
            return Ok(None);
        }
        Ok(self.directory()?.find(series).filter(|entry| entry.overlaps(from_ns, to_ns)))
    }

    /// Shows the rows of a series in `from..to` in order, a block at a time, until told to stop. The values are words of
    /// the table that comes with them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each_rows(
        &self,
        entry: &SeriesEntry,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(&[i64], &[f64], &Boxes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let directory = self.directory()?;
        for no in directory.blocks_within(entry, Level::Raw, (from_ns, to_ns)) {
            let Some(block) = directory.block(no) else { continue };
            let rows = self.rows(no, &block)?;
            let (times, words) = rows.within((from_ns, to_ns));
            if visit(times, words, &rows.boxes).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Adds the rows of a series in `from..to` to buckets. Of a long block that lies within one of them the values alone are
    /// kept: what it is in all is made of them without its times, and whole rows would only drive others out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_rows(
        &self,
        entry: &SeriesEntry,
        (from_ns, to_ns): (i64, i64),
        parts: &mut Buckets,
    ) -> Result<(), StoreError> {
        let directory = self.directory()?;
        for no in directory.blocks_within(entry, Level::Raw, (from_ns, to_ns)) {
            let Some(block) = directory.block(no) else { continue };
            let is_whole = block.first_ns >= from_ns && is_before(block.last_ns, to_ns);
            if is_whole
                && block.rows >= TOTALED_FROM
                && parts.are_one(block.first_ns, block.last_ns)
                && let Some(total) = self.total(no, &block)?
            {
                parts.add(block.first_ns, &total);
                continue;
            }
            let rows = self.rows(no, &block)?;
            let (times, words) = rows.within((from_ns, to_ns));
            parts.add_rows(times, &rows.boxes.numbers(words));
        }
        Ok(())
    }

    /// What a block is in all, when it is not kept as rows anyway and its values are decimals.
    fn total(&self, no: usize, block: &BlockEntry) -> Result<Option<Aggregate>, StoreError> {
        let (number, blocks) = (self.file.number, &self.shared.blocks);
        let narrow = match blocks.narrow.find((number, no)) {
            Some(narrow) => narrow,
            None if blocks.rows.has((number, no)) => return Ok(None),
            None => {
                let read = self.format.read_narrow(&self.shared.paths(number).0, block);
                let Some(narrow) = self.believe(read)? else { return Ok(None) };
                let bytes = narrow.bytes();
                blocks.narrow.keep((number, no), narrow, bytes)
            }
        };
        let total = self.believe(narrow.total().map_err(ReadError::from))?;
        Ok(total.map(|total| Aggregate {
            count: block.rows.into(),
            min: total.min,
            max: total.max,
            sum: total.sum,
            first: total.first,
            last: total.last,
            first_ns: block.first_ns,
            last_ns: block.last_ns,
        }))
    }

    /// A block of readings as the file has it now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn block_rows(&self, block: &BlockEntry) -> Result<Rows, StoreError> {
        self.believe(self.format.read_rows(&self.shared.paths(self.file.number).0, block))
    }

    /// A block of buckets as the file has it now, with all that writing them again needs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn block_rolls(&self, block: &BlockEntry, level: Level) -> Result<Vec<Roll>, StoreError> {
        self.believe(self.format.read_rolls_again(&self.shared.paths(self.file.number).1, block, level))
    }

    /// A block as the file has it now, with the numbers of the batches of its rows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn block(&self, block: &BlockEntry) -> Result<(Rows, Vec<u32>), StoreError> {
        let raw = self.shared.paths(self.file.number).0;
        let rows = self.believe(self.format.read_rows(&raw, block))?;
        let numbers = self.believe(self.format.read_numbers(&raw, block))?;
        Ok((rows, numbers))
    }

    /// Shows all rows of a block, as the file has them now, with the numbers of their batches and what their values are
    /// told by.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each_numbered(
        &self,
        block: &BlockEntry,
        mut visit: impl FnMut(u32, i64, u64),
    ) -> Result<(), StoreError> {
        let (rows, numbers) = self.block(block)?;
        let all = numbers.iter().zip(rows.times.iter().zip(&rows.values));
        all.for_each(|(number, (time, word))| visit(*number, *time, rows.boxes.print(*word)));
        Ok(())
    }

    /// Shows the buckets of a level of a series that begin in `from..to`, in order; says whether the file has
    /// that level of the series.
    ///
    /// # Errors
    /// The rollup cannot be read.
    pub fn each_roll(
        &self,
        series: SeriesId,
        level: Level,
        (from_ns, to_ns): (i64, i64),
        mut visit: impl FnMut(i64, &Aggregate),
    ) -> Result<bool, StoreError> {
        let directory = self.rollup()?;
        let Some(entry) = directory.find(series).filter(|entry| entry.has(level)) else { return Ok(false) };
        for no in directory.blocks_within(&entry, level, (from_ns, to_ns)) {
            let Some(block) = directory.block(no) else { continue };
            let rolls = self.rolls(no, &block, level)?;
            let lo = rolls.partition_point(|(start, _)| *start < from_ns);
            let hi = rolls.partition_point(|(start, _)| *start < to_ns).max(lo);
            rolls.get(lo..hi).unwrap_or(&[]).iter().for_each(|(start, part)| visit(*start, part));
        }
        Ok(true)
    }

    /// The buckets of a series that begin in `from..to` with their figures, in order, of the level at which the file has
    /// these; those of which it has none are left out. None when it has none of the series. They are read anew each time:
    /// who asks the same again is answered from the answer.
    ///
    /// # Errors
    /// The rollup cannot be read.
    pub fn figures(
        &self,
        series: SeriesId,
        (from_ns, to_ns): (i64, i64),
        sketched: bool,
    ) -> Result<Option<Figured>, StoreError> {
        let directory = self.rollup()?;
        let Some(entry) = directory.find(series).filter(|entry| entry.is_figured()) else { return Ok(None) };
        let mut parts = Vec::new();
        let level = self.file.finest.figured();
        self.each_roll(series, level, (from_ns, to_ns), |start, part| parts.push((start, *part)))?;
        let mut parts = parts.into_iter().peekable();
        let mut out = Vec::new();
        let blocks = directory.figures(&entry);
        for block in blocks.filter(|block| block.last_ns >= from_ns && is_before(block.first_ns, to_ns)) {
            let rollup = self.shared.paths(self.file.number).1;
            for figure in self.believe(self.format.read_figures(&rollup, &block, sketched))? {
                while parts.next_if(|(start, _)| *start < figure.start_ns).is_some() {}
                if let Some((_, part)) = parts.next_if(|(start, _)| *start == figure.start_ns) {
                    out.push((part, figure));
                }
            }
        }
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_keeps_what_was_used_last_within_its_bytes() {
        let shelf = Shelf::new(2 * (10 + ENTRY_BYTES));
        let reads = std::cell::Cell::new(0);
        let ask = |no: usize| {
            let before = reads.get();
            let read = || {
                reads.set(before + 1);
                Ok((no, 10))
            };
            assert_eq!(*shelf.get((1, no), read).unwrap(), no);
            reads.get() - before
        };
        assert_eq!([1, 2, 1, 3, 1, 2].map(ask), [1, 1, 0, 1, 0, 1]);
        shelf.forget(1);
        assert_eq!(ask(1), 1);
        assert_eq!(lock(&shelf.state).bytes, 10 + ENTRY_BYTES);
        // One that is larger than all that may be kept is given and not kept.
        assert_eq!(*shelf.get((2, 0), || Ok((7, 600))).unwrap(), 7);
        assert_eq!(lock(&shelf.state).kept.len(), 1);
    }
}
