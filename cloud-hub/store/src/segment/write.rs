//! Writes a file of readings and that of their rollups, series by series, in bounded memory: what is kept
//! back are a block of readings and of each width of buckets, and the blocks of hours and days.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tideline_protocol::value::{Boxed, Boxes, any_nan};

use super::open::Figures;
use super::rolls::{self, Roll};
use super::{
    BLOCK_ROWS, Blocks, CONDENSED, Directory, FIGURES, FINER_ROWS_MIN, Form, Level, SLOTS, figures, rows,
};
use crate::buckets::{Aggregate, bucket_last, bucket_start};
use crate::files::{FileHandle, FileSystem, OpenMode};
use crate::held::Held;
use crate::hot::{Rows, SeriesId, SeriesStats};
use crate::sketch::Sketch;

/// The levels of a rollup.
const ROLLED: [Level; 3] = [Level::Minute, Level::Hour, Level::Day];
const WRITE_BYTES: usize = 256 * 1024;
/// A block is closed once its texts and the like take so much, however few rows it has.
const BOXED_BYTES: usize = 1024 * 1024;
/// Rows that are added at a time while there may be texts among them.
const BOXED_STEP: usize = 64;

/// Length and CRC-32C of a file.
pub type Print = (u64, u32);

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The file of readings; none when only their rollup was written.
    pub raw: Option<Print>,
    /// That of their rollup.
    pub rollup: Print,
    /// The readings.
    pub rows: u64,
    /// The earliest time of one, ns.
    pub first_ns: i64,
    /// The latest time of one, ns.
    pub last_ns: i64,
}

/// Blocks of one level, which wait for those of finer ones.
#[derive(Debug, Default)]
struct Section {
    bytes: Vec<u8>,
    blocks: Blocks,
}

/// One file as it grows. Its finest level goes straight to the disk.
#[derive(Debug)]
struct Container {
    out: BufWriter<Box<dyn FileHandle>>,
    at: u64,
    crc: u32,
    finest: Level,
    sections: [Section; SLOTS],
    directory: Directory,
}

impl Container {
    fn create(files: &dyn FileSystem, path: &Path, number: u64, finest: Level) -> io::Result<Self> {
        let form = if finest == Level::Raw { Form::Levels } else { Form::Figured };
        let directory = Directory::new(number, form);
        let out = BufWriter::with_capacity(WRITE_BYTES, files.open(path, OpenMode::Create)?);
        let mut container = Self { out, at: 0, crc: 0, finest, sections: Default::default(), directory };
        container.write(&form.header())?;
        Ok(container)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn block(
        &mut self,
        slot: usize,
        bytes: &[u8],
        rows: usize,
        (first_ns, last_ns): (i64, i64),
    ) -> io::Result<()> {
        let Some(section) = self.sections.get_mut(slot) else { return Ok(()) };
        let rows = u16::try_from(rows).ok().filter(|_| u32::try_from(bytes.len()).is_ok());
        let rows = rows.ok_or_else(|| io::Error::other("a block is too long"))?;
        section.blocks.push(bytes, rows, (first_ns, last_ns));
        if slot == self.finest.slot() {
            return self.write(bytes);
        }
        section.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// How many blocks of each kind there are.
    fn marks(&self) -> [u32; SLOTS] {
        std::array::from_fn(|at| {
            self.sections.get(at).map_or(0, |section| section.blocks.len().try_into().unwrap_or(u32::MAX))
        })
    }

    /// The blocks since the series before it are those of a series.
    fn close(&mut self, series: &OpenSeries) {
        let ends = self.marks();
        let OpenSeries { series, rows, first_ns, last_ns, last, ref boxed, .. } = *series;
        let last = match boxed {
            Some(boxed) => self.directory.boxes.add(boxed.clone()),
            None => last,
        };
        self.directory.push(series, (rows, first_ns, last_ns, last), ends);
    }

    /// Writes what was kept back and the directory, and syncs the file.
    fn finish(mut self) -> io::Result<Print> {
        // Of the finest level they are there, and there are none of finer ones.
        for section in std::mem::take(&mut self.sections) {
            self.write(&section.bytes)?;
            self.directory.append(section.blocks);
        }
        let end = self.directory.to_bytes(self.at);
        self.write(&end)?;
        let (at, crc) = (self.at, self.crc);
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((at, crc))
    }
}

/// The buckets of one width of the open series.
#[derive(Debug, Default)]
struct OpenLevel {
    open: Option<Roll>,
    full: Vec<Roll>,
    // Whether the file gets them, once that is known.
    kept: Option<bool>,
    rows: u64,
}

/// No buckets of any width; which of them a file is certain to get, and which not.
fn open_levels(finest: Level) -> [OpenLevel; ROLLED.len()] {
    let kept = |level: Level| match level.cmp(&finest) {
        Ordering::Less => Some(false),
        Ordering::Equal => Some(true),
        // Figures stand for nothing without it.
        Ordering::Greater if finest > Level::Raw && level == finest.figured() => Some(true),
        Ordering::Greater => None,
    };
    ROLLED.map(|level| OpenLevel { kept: kept(level), ..OpenLevel::default() })
}

/// The series that is being written.
#[derive(Debug)]
struct OpenSeries {
    series: SeriesId,
    rows: u64,
    first_ns: i64,
    last_ns: i64,
    last: f64,
    // What `last` stands for, when it is boxed.
    boxed: Option<Boxed>,
}

/// A pair of files as they are written. Nothing of them counts before [`SegmentWriter::finish`].
#[derive(Debug)]
pub struct SegmentWriter {
    // None when only the rollup is to be written.
    raw: Option<Container>,
    rollup: Container,
    // No finer level is kept, and this one of all series: it is all that is left of what was finer.
    finest: Level,
    open: Option<OpenSeries>,
    levels: [OpenLevel; ROLLED.len()],
    figures: Figures,
    rows: Rows,
    numbers: Vec<u32>,
    block: Vec<u8>,
}

impl SegmentWriter {
    /// Begins the files of a number; no file at `raw` writes the rollup alone.
    ///
    /// # Errors
    /// As the disk's.
    pub fn create(
        files: &dyn FileSystem,
        number: u64,
        raw: Option<&Path>,
        rollup: &Path,
    ) -> io::Result<Self> {
        let raw = raw.map(|path| Container::create(files, path, number, Level::Raw)).transpose()?;
        Self::begin(raw, Container::create(files, rollup, number, Level::Minute)?, Level::Raw)
    }

    /// Begins a file of rollups that stands for itself: it has the level `finest` of all series, and
    /// no finer one.
    ///
    /// # Errors
    /// As the disk's.
    pub fn thinned(files: &dyn FileSystem, number: u64, rollup: &Path, finest: Level) -> io::Result<Self> {
        let first = finest.max(Level::Minute);
        Self::begin(None, Container::create(files, rollup, number, first)?, finest)
    }

    fn begin(raw: Option<Container>, rollup: Container, finest: Level) -> io::Result<Self> {
        Ok(Self {
            raw,
            rollup,
            finest,
            open: None,
            levels: open_levels(finest),
            figures: Figures::new(finest),
            rows: Rows {
                times: Vec::with_capacity(BLOCK_ROWS),
                values: Vec::with_capacity(BLOCK_ROWS),
                boxes: Boxes::new(),
            },
            numbers: Vec::with_capacity(BLOCK_ROWS),
            block: Vec::new(),
        })
    }

    /// Adds readings of a series that are not before those that were added of it; each series comes once, with
    /// a greater number than the one before it. Times, values and numbers have the same length; values are words of
    /// `boxes`.
    ///
    /// # Errors
    /// As the disk's.
    pub fn push(
        &mut self,
        series: SeriesId,
        times: &[i64],
        values: &[f64],
        boxes: &Boxes,
        numbers: &[u32],
    ) -> io::Result<()> {
        let (Some(first_ns), Some(last_ns), Some(last)) = (times.first(), times.last(), values.last()) else {
            return Ok(());
        };
        self.open_series(series, *first_ns)?;
        if let Some(open) = &mut self.open {
            open.rows += times.len() as u64;
            (open.last_ns, open.last) = (*last_ns, *last);
            open.boxed = boxes.get(*last).cloned();
        }
        let step = if boxes.is_empty() { BLOCK_ROWS } else { BOXED_STEP };
        let mut rest = (times, values, numbers);
        while !rest.0.is_empty() {
            let room = (BLOCK_ROWS - self.rows.times.len()).min(rest.0.len()).min(step);
            let (times, values, numbers) =
                (rest.0.split_at(room), rest.1.split_at(room), rest.2.split_at(room));
            self.rows.extend(times.0, values.0, boxes);
            self.numbers.extend_from_slice(numbers.0);
            rest = (times.1, values.1, numbers.1);
            if self.rows.times.len() == BLOCK_ROWS || self.rows.boxes.bytes() >= BOXED_BYTES {
                self.close_block()?;
            }
        }
        Ok(())
    }

    /// Adds all buckets of a level of a series, by their starts; those of one start in order of arrival. `stats` is
    /// what is known of its readings, of which those that are no numbers are in no bucket; `figures` are those of the
    /// buckets of the level at which the file has them, as far as they are known. As for [`SegmentWriter::push`], but that
    /// nothing of a series may come both ways.
    ///
    /// # Errors
    /// As the disk's.
    pub fn push_rolls(
        &mut self,
        series: SeriesId,
        level: Level,
        (rolls, figures): (&[Roll], BTreeMap<i64, (Held, Sketch)>),
        stats: &SeriesStats,
    ) -> io::Result<()> {
        let (Some(first_ns), Some(last)) = (stats.first_ns, &stats.last) else { return Ok(()) };
        let Some(at) = level.slot().checked_sub(1) else { return Ok(()) };
        self.open_series(series, first_ns)?;
        if let Some(open) = &mut self.open {
            (open.rows, open.last_ns, open.last) = (stats.count, last.time_ns, last.word);
            open.boxed = last.boxed.as_deref().cloned();
        }
        self.figures.put(figures);
        rolls.iter().try_for_each(|roll| self.add(at, *roll))
    }

    /// Closes the open series when it is another one.
    fn open_series(&mut self, series: SeriesId, first_ns: i64) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.series == series) {
            return Ok(());
        }
        self.close_series()?;
        let (last_ns, last) = (first_ns, f64::NAN);
        self.open = Some(OpenSeries { series, rows: 0, first_ns, last_ns, last, boxed: None });
        Ok(())
    }

    /// Writes the rest and syncs both files; gives what they are.
    ///
    /// # Errors
    /// As the disk's.
    pub fn finish(mut self) -> io::Result<Written> {
        self.close_series()?;
        let (first_ns, last_ns) = self.rollup.directory.span_ns().unwrap_or_default();
        let written = Written { rows: self.rollup.directory.rows(), first_ns, last_ns, ..Written::default() };
        let raw = self.raw.map(Container::finish).transpose()?;
        Ok(Written { raw, rollup: self.rollup.finish()?, ..written })
    }

    fn close_block(&mut self) -> io::Result<()> {
        let times = &self.rows.times;
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
            return Ok(());
        };
        let places = match &mut self.raw {
            Some(raw) => {
                self.block.clear();
                let places = rows::write(&mut self.block, &self.rows, &self.numbers);
                raw.block(Level::Raw.slot(), &self.block, self.rows.times.len(), (first, last))?;
                let mixed = places.is_none() && any_nan(&self.rows.values);
                if mixed { rolls::places_of(&self.rows.values) } else { places }
            }
            None => rolls::places_of(&self.rows.values),
        };
        let mut rows = std::mem::take(&mut self.rows);
        // Integers that no double holds are not so many places.
        let places = places.filter(|_| !rows.boxes.are_wide());
        let numbers = rows.boxes.numbers(&rows.values);
        if self.figures.begin(&rows.times) {
            self.keep(self.figures.level());
        }
        self.figures.add_rows(&rows.times, &numbers);
        self.roll(&rows.times, &numbers, places)?;
        drop(numbers);
        rows.times.clear();
        rows.values.clear();
        rows.boxes = Boxes::new();
        self.rows = rows;
        self.numbers.clear();
        Ok(())
    }

    /// The open series gets this level, however little it condenses.
    fn keep(&mut self, level: Level) {
        let open = level.slot().checked_sub(1).and_then(|at| self.levels.get_mut(at));
        if let Some(open) = open {
            open.kept = Some(true);
        }
    }

    fn roll(&mut self, times: &[i64], values: &[f64], places: Option<u8>) -> io::Result<()> {
        let width_ns = Level::Minute.width_ns();
        let mut rows = (times, values);
        while let Some(first_ns) = rows.0.first() {
            let (start_ns, end_ns) = (bucket_start(*first_ns, width_ns), bucket_last(*first_ns, width_ns));
            let len = rows.0.partition_point(|time| *time <= end_ns);
            let (times, values) = (rows.0.split_at(len), rows.1.split_at(len));
            if let Some(part) = Aggregate::of_rows(times.0, values.0) {
                self.add(0, Roll { start_ns, part, places })?;
            }
            rows = (times.1, values.1);
        }
        Ok(())
    }

    /// Adds what is known of a part of a bucket of a level; a bucket that it is behind goes on to the next.
    fn add(&mut self, at: usize, roll: Roll) -> io::Result<()> {
        let (Some(level), Some(width_ns)) =
            (self.levels.get_mut(at), ROLLED.get(at).map(|level| level.width_ns()))
        else {
            return Ok(());
        };
        let start_ns = bucket_start(roll.part.first_ns, width_ns);
        if let Some(open) = level.open.as_mut().filter(|open| open.start_ns == start_ns) {
            open.part.merge(&roll.part);
            open.places = open.places.zip(roll.places).map(|(a, b)| a.max(b));
            return Ok(());
        }
        let done = level.open.replace(Roll { start_ns, ..roll });
        done.map_or(Ok(()), |done| self.pass_on(at, done))
    }

    /// A bucket is complete.
    fn pass_on(&mut self, at: usize, done: Roll) -> io::Result<()> {
        if ROLLED.get(at).is_some_and(|level| *level == self.figures.level()) {
            let full = self.figures.complete(&done);
            if full {
                self.close_figures()?;
            }
        }
        if let Some(level) = self.levels.get_mut(at) {
            level.rows += 1;
            if level.kept != Some(false) {
                level.full.push(done);
            }
            if level.full.len() == BLOCK_ROWS {
                self.close_rolls(at)?;
            }
        }
        self.add(at + 1, done)
    }

    fn close_rolls(&mut self, at: usize) -> io::Result<()> {
        let finer = self.levels.iter().take(at).rev().find(|level| level.kept == Some(true));
        let finer = finer.map_or_else(|| self.open.as_ref().map_or(0, |open| open.rows), |level| level.rows);
        let (Some(level), Some(of)) = (self.levels.get_mut(at), ROLLED.get(at).copied()) else {
            return Ok(());
        };
        let rows = level.rows;
        let kept = *level
            .kept
            .get_or_insert_with(|| finer >= FINER_ROWS_MIN && rows.saturating_mul(CONDENSED) <= finer);
        let full = std::mem::take(&mut level.full);
        let (Some(first), Some(last), true) = (full.first(), full.last(), kept) else { return Ok(()) };
        self.block.clear();
        rolls::write(&mut self.block, &full, of.width_ns());
        self.rollup.block(of.slot(), &self.block, full.len(), (first.start_ns, last.start_ns))
    }

    fn close_figures(&mut self) -> io::Result<()> {
        let full = self.figures.take();
        let (Some(first), Some(last)) = (full.first(), full.last()) else { return Ok(()) };
        self.block.clear();
        figures::write(&mut self.block, &full);
        self.rollup.block(FIGURES, &self.block, full.len(), (first.start_ns, last.start_ns))
    }

    fn close_series(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            return Ok(());
        }
        self.close_block()?;
        for at in 0..ROLLED.len() {
            if let Some(open) = self.levels.get_mut(at).and_then(|level| level.open.take()) {
                self.pass_on(at, open)?;
            }
            self.close_rolls(at)?;
        }
        self.close_figures()?;
        self.figures.clear();
        self.levels = open_levels(self.finest);
        if let Some(open) = self.open.take() {
            self.rollup.close(&open);
            if let Some(raw) = &mut self.raw {
                raw.close(&open);
            }
        }
        Ok(())
    }
}
