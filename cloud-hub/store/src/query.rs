//! Answers from files and hot columns as one.

mod figures;
mod groups;
mod newest;
mod page;
mod rollups;
mod sources;
mod thinned;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blocks::SealedFile;
use crate::buckets::{Aggregate, Buckets, bucket_start, width_for};
use crate::calendar::{Calendar, Grid};
use crate::config::StoreError;
use crate::hot::{SeriesId, is_before};
use crate::manifest::FileEntry;
use crate::sealed::SealedFormat;
use crate::segment::{Level, SeriesEntry};
use crate::tables::{Shared, read};
use newest::{Newest, hot_of};

pub use figures::{FigureColumn, Figures, Quantile};
pub use groups::{GroupAnswer, GroupColumn, GroupQuestion, groups};
pub use page::{BadCursor, RawColumn, RawCursor, RawPage, raw};
pub use rollups::{Rollups, figured as figured_rollups, level_of, rollups};
pub use thinned::{Stand, stands, thinned_to};

/// Most buckets that one query may ask for.
const BUCKETS_MAX: usize = 100_000;
/// Most days, weeks or months of one query: 27 years of days.
const CALENDAR_MAX: usize = 10_000;

/// Where an answer was read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The readings.
    #[default]
    Raw,
    /// The rollups of one minute, and the readings of the minutes that the range cuts.
    Minute,
    /// The rollups of one hour, and finer ones of the hours that the range cuts.
    Hour,
    /// The rollups of one day, and finer ones of the days that the range cuts.
    Day,
}

impl Tier {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Day => "1d",
        }
    }

    /// The coarser of two.
    fn coarser(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Which buckets are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Parts {
    /// At most so many of one width, which begin at multiples of it since 1970.
    Most(usize),
    /// Those of a calendar.
    Calendar(Calendar),
}

/// The buckets of one series; empty ones are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketColumn {
    /// The series.
    pub id: SeriesId,
    /// The coarsest tier of which something is in it; that of the readings where there is nothing.
    pub tier: Tier,
    /// The start of each bucket, ns since 1970.
    pub t_ns: Vec<i64>,
    /// The smallest value.
    pub min: Vec<f64>,
    /// The largest value.
    pub max: Vec<f64>,
    /// The mean of the readings.
    pub mean: Vec<f64>,
    /// The value with the greatest time.
    pub last: Vec<f64>,
    /// How many readings.
    pub count: Vec<u64>,
}

/// Buckets of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketAnswer {
    /// The width of each, ns; none where a calendar has them.
    pub width_ns: Option<i64>,
    /// The last time of the range, ns, of which readings are past their retention: up to then no bucket is finer than what is
    /// known of them, and what is gone with its days is in none.
    pub thinned_to_ns: Option<i64>,
    /// One column per series asked for.
    pub series: Vec<BucketColumn>,
    /// As many, when figures were asked for.
    pub figures: Vec<FigureColumn>,
}

impl From<Level> for Tier {
    fn from(level: Level) -> Self {
        match level {
            Level::Raw => Self::Raw,
            Level::Minute => Self::Minute,
            Level::Hour => Self::Hour,
            Level::Day => Self::Day,
        }
    }
}

/// What is left of series in a range.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// The finest level that all files have of what they hold of them.
    finest: Level,
    /// The last time of the range of which readings are gone, ns.
    thinned_to_ns: Option<i64>,
}

fn left(
    shared: &Shared,
    format: &dyn SealedFormat,
    files: &[Arc<FileEntry>],
    series: impl Iterator<Item = SeriesId> + Clone,
    range: (i64, i64),
) -> Result<Left, StoreError> {
    let mut out = Left::default();
    for file in files.iter().filter(|file| !file.is_whole()) {
        let sealed = SealedFile { shared, format, file };
        for id in series.clone() {
            // All that it could say is said.
            if file.finest <= out.finest && out.thinned_to_ns >= Some(file.last_ns.min(range.1)) {
                break;
            }
            if let Some(entry) = sealed.find(id, range)? {
                out.finest = out.finest.max(file.finest);
                out.thinned_to_ns = out.thinned_to_ns.max(Some(entry.last_ns.min(range.1)));
            }
        }
    }
    Ok(out)
}

/// An error when nobody waits for the answer any more.
fn goes_on(canceled: &dyn Fn() -> bool) -> Result<(), StoreError> {
    if canceled() { Err(StoreError::Query("it was canceled".to_owned())) } else { Ok(()) }
}

fn check(shared: &Shared, series: &[SeriesId]) -> Result<(), StoreError> {
    let registry = read(&shared.registry);
    match series.iter().find(|id| **id as usize >= registry.names().len()) {
        None => Ok(()),
        Some(id) => Err(StoreError::Query(format!("there is no series {id}"))),
    }
}

/// How the buckets of a question part the time; none is finer than `least`, but those of a calendar.
fn grid(parts: &Parts, (from_ns, to_ns): (i64, i64), least: Level) -> Result<Grid, StoreError> {
    match parts {
        Parts::Most(most) => {
            if !(2..=BUCKETS_MAX).contains(most) {
                return Err(StoreError::Query(format!("{most} buckets; allowed are 2 to {BUCKETS_MAX}")));
            }
            Ok(Grid::Fixed(width_for(from_ns, to_ns, *most).max(least.width_ns())))
        }
        Parts::Calendar(calendar) => {
            let edges = calendar.edges(from_ns, to_ns, CALENDAR_MAX);
            let more = || format!("the range has more than {CALENDAR_MAX} buckets; so many are allowed");
            edges.map(|edges| Grid::Edges(edges.into())).ok_or_else(|| StoreError::Query(more()))
        }
    }
}

/// The buckets of `from..to`, and the figures of these. They are read afterwards: a reading that comes meanwhile
/// may count in one and not in the other.
pub fn figured(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    range: (i64, i64),
    (asked, figures): (&Parts, &Figures),
    canceled: &(dyn Fn() -> bool + Sync),
) -> Result<BucketAnswer, StoreError> {
    let (mut answer, grid) = buckets(shared, format, series, range, asked, canceled)?;
    if !figures.is_empty() {
        let reader = figures::Source { shared, format, grid: &grid, range, figures, canceled };
        answer.figures = reader.columns(&answer.series)?;
    }
    Ok(answer)
}

/// The buckets of `from..to`, and how they part the time.
pub fn buckets(
    shared: &Shared,
    format: &dyn SealedFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    asked: &Parts,
    canceled: &dyn Fn() -> bool,
) -> Result<(BucketAnswer, Grid), StoreError> {
    check(shared, series)?;
    grid(asked, (from_ns, to_ns), Level::Raw)?;
    let mut files = Arc::clone(&read(&shared.tables).files);
    let (tables, Left { finest: least, thinned_to_ns }) = loop {
        // Files are read for it, and nobody must wait for the tables meanwhile.
        let left = left(shared, format, &files, series.iter().copied(), (from_ns, to_ns))?;
        let tables = read(&shared.tables);
        if Arc::ptr_eq(&tables.files, &files) {
            break (tables, left);
        }
        files = Arc::clone(&tables.files);
    };
    // No finer than what is left of the range.
    let grid = grid(asked, (from_ns, to_ns), least)?;
    let level = grid.level();
    let mut parts: Vec<(Buckets, Level)> =
        series.iter().map(|_| (Buckets::of(&grid, from_ns, to_ns), Level::Raw)).collect();
    let mut hot: Vec<Buckets> = series.iter().map(|_| Buckets::sparse(&grid)).collect();
    let mut revised: BTreeMap<SeriesId, Newest<'_>> = BTreeMap::new();
    for (id, hot) in series.iter().zip(&mut hot) {
        if shared.revised.has(*id) {
            let hot = hot_of(&tables, *id, (from_ns, to_ns));
            revised.insert(*id, Newest { shared, format, id: *id, files: &files, cold: &[], hot });
            continue;
        }
        let older = tables.flushing.as_deref().into_iter();
        for part in older.chain([&tables.active]) {
            part.each(*id, from_ns, to_ns, |times, values| hot.add_rows(times, values));
        }
    }
    drop(tables);
    // File by file, so that each block is decoded once for all series.
    for file in files.iter() {
        let sealed = SealedFile { shared, format, file };
        for (id, (parts, coarsest)) in series.iter().zip(&mut parts) {
            goes_on(canceled)?;
            if !revised.is_empty() && revised.contains_key(id) {
                continue;
            }
            if let Some(entry) = sealed.find(*id, (from_ns, to_ns))? {
                *coarsest = add(sealed, &entry, level, (from_ns, to_ns), parts)?.max(*coarsest);
            }
        }
    }
    for (id, (parts, coarsest)) in series.iter().zip(&mut parts) {
        if let Some(newest) = revised.get(id) {
            goes_on(canceled)?;
            *coarsest = newest.add((level, Level::Day), (from_ns, to_ns), parts)?;
        }
    }
    let width_ns = match grid {
        Grid::Fixed(width_ns) => Some(width_ns),
        Grid::Edges(_) | Grid::Whole(_) => None,
    };
    let columns = Vec::with_capacity(series.len());
    let mut out = BucketAnswer { width_ns, thinned_to_ns, series: columns, figures: Vec::new() };
    for ((id, (mut parts, coarsest)), hot) in series.iter().zip(parts).zip(hot) {
        hot.iter().for_each(|(start, part)| parts.add(start, part));
        out.series.push(column(*id, coarsest.into(), &parts));
    }
    Ok((out, grid))
}

/// Adds what a file has of a series in a range, and says the coarsest level of which there was something. Where it has no
/// level as fine as this one, the buckets of its finest count as what is at their beginning, and those that the range cuts
/// are taken whole.
fn add(
    file: SealedFile<'_>,
    entry: &SeriesEntry,
    level: Level,
    range: (i64, i64),
    parts: &mut Buckets,
) -> Result<Level, StoreError> {
    let finest = file.file.finest;
    if level >= finest {
        let range = finest.widened(uncut(entry, range));
        return add_within(file, entry, level, range, parts);
    }
    let from_ns = range.0;
    let mut coarsest = Level::Raw;
    let add = |start: i64, part: &Aggregate| {
        coarsest = finest;
        parts.add(start.max(from_ns), part);
    };
    file.each_roll(entry.series, finest, finest.widened(range), add)?;
    Ok(coarsest)
}

/// The range without those of its ends that cut nothing of what a file has of a series: the first and the last bucket of
/// its readings are whole then too, and need no finer level. Most questions begin before a series does, or end after it.
const fn uncut(entry: &SeriesEntry, (from_ns, to_ns): (i64, i64)) -> (i64, i64) {
    let from_ns = if entry.first_ns >= from_ns { i64::MIN } else { from_ns };
    let to_ns = if is_before(entry.last_ns, to_ns) { i64::MAX } else { to_ns };
    (from_ns, to_ns)
}

/// Whole buckets of a level come from the rollup where the file has them, the rest from the next finer one.
fn add_within(
    file: SealedFile<'_>,
    entry: &SeriesEntry,
    level: Level,
    (from_ns, to_ns): (i64, i64),
    parts: &mut Buckets,
) -> Result<Level, StoreError> {
    let Some(finer) = level.finer() else {
        file.add_rows(entry, (from_ns, to_ns), parts)?;
        return Ok(Level::Raw);
    };
    let mut coarsest = Level::Raw;
    let width_ns = level.width_ns();
    let floor = bucket_start(from_ns, width_ns);
    let whole_from = if floor == from_ns { from_ns } else { floor.saturating_add(width_ns) };
    // A range without an end has the last bucket of time whole.
    let endless = to_ns == i64::MAX && level == file.file.finest;
    let whole_to = if endless { to_ns } else { bucket_start(to_ns, width_ns) };
    let overlaps = |from: i64, to: i64| from < to && entry.overlaps(from, to);
    let head = (from_ns, whole_from.min(to_ns));
    let tail = (whole_to.max(head.1), to_ns);
    for (from, to) in [head, tail] {
        if overlaps(from, to) {
            coarsest = add_within(file, entry, finer, (from, to), parts)?.max(coarsest);
        }
    }
    let whole = (whole_from, whole_to);
    if overlaps(whole_from, whole_to) {
        let add = |start: i64, part: &Aggregate| {
            coarsest = level;
            parts.add(start, part);
        };
        if !file.each_roll(entry.series, level, whole, add)? {
            coarsest = add_within(file, entry, finer, whole, parts)?.max(coarsest);
        }
    }
    Ok(coarsest)
}

fn column(id: SeriesId, tier: Tier, parts: &Buckets) -> BucketColumn {
    let mut out = BucketColumn {
        id,
        tier,
        t_ns: Vec::new(),
        min: Vec::new(),
        max: Vec::new(),
        mean: Vec::new(),
        last: Vec::new(),
        count: Vec::new(),
    };
    for (start, part) in parts.iter() {
        out.t_ns.push(start);
        out.min.push(part.min);
        out.max.push(part.max);
        #[expect(clippy::cast_precision_loss, reason = "no bucket holds 2^53 readings")]
        out.mean.push(part.sum / part.count as f64);
        out.last.push(part.last);
        out.count.push(part.count);
    }
    out
}
