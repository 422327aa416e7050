//! The buckets of one level of a series, as they are: each whole, wherever the range cuts.

use std::sync::Arc;

use crate::blocks::SealedFile;
use crate::buckets::{Aggregate, Buckets, bucket_last, bucket_start};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId};
use crate::sealed::SealedFormat;
use crate::segment::Level;
use crate::tables::{Shared, read};

use super::figures::{FigureColumn, Figures, Source};
use super::newest::{Newest, hot_of};
use super::thinned::{touches, unknown};
use super::{Tier, add, check, column};
use crate::calendar::Grid;

/// The starts of buckets, and what is known of each.
pub type Rollups = Vec<(i64, Aggregate)>;

/// The level of a tier.
pub const fn level_of(tier: Tier) -> Level {
    match tier {
        Tier::Raw => Level::Raw,
        Tier::Minute => Level::Minute,
        Tier::Hour => Level::Hour,
        Tier::Day => Level::Day,
    }
}

/// The same, of a tier of buckets.
fn buckets_of(tier: Tier) -> Result<Level, StoreError> {
    match level_of(tier) {
        Level::Raw => Err(StoreError::Query("readings have no buckets".to_owned())),
        level => Ok(level),
    }
}

/// The buckets of a width of a series that begin in `from..to`, in order. Each is the aggregate of all its readings
/// (INV-9): one that may lack some, which only a coarser rollup knows, is left out.
pub fn rollups(
    shared: &Shared,
    format: &dyn SealedFormat,
    id: SeriesId,
    tier: Tier,
    (from_ns, to_ns): (i64, i64),
) -> Result<Rollups, StoreError> {
    check(shared, &[id])?;
    let level = buckets_of(tier)?;
    let width_ns = level.width_ns();
    // A bucket that begins in the range is in it as a whole.
    let first = |ns: i64| {
        let floor = bucket_start(ns, width_ns);
        if floor == ns { ns } else { floor.saturating_add(width_ns) }
    };
    let range = (first(from_ns), first(to_ns));
    let (mut parts, mut hot) = (Buckets::new(width_ns), Buckets::new(width_ns));
    let revised = shared.revised.has(id);
    let mut newest = Rows::default();
    let files = {
        let tables = read(&shared.tables);
        let older = tables.flushing.as_deref().into_iter().filter(|_| !revised);
        for part in older.chain(Some(&tables.active).filter(|_| !revised)) {
            part.each(id, range.0, range.1, |times, values| hot.add_rows(times, values));
        }
        if revised {
            newest = hot_of(&tables, id, range);
        }
        Arc::clone(&tables.files)
    };
    if revised {
        let newest = Newest { shared, format, id, files: &files, cold: &[], hot: newest };
        newest.add((level, level), range, &mut parts)?;
    }
    // What is left of a file is no bucket of a finer level.
    for file in files.iter().filter(|file| !revised && file.finest <= level) {
        let sealed = SealedFile { shared, format, file };
        if let Some(entry) = sealed.find(id, range)? {
            add(sealed, &entry, level, range, &mut parts)?;
        }
    }
    hot.iter().for_each(|(start, part)| parts.add(start, part));
    let unknown = unknown(shared, format, &files, (id, level), range)?;
    let known = parts.iter().filter(|(start, _)| !touches(&unknown, (*start, bucket_last(*start, width_ns))));
    Ok(known.map(|(start, part)| (start, *part)).collect())
}

/// The same, with their figures.
pub fn figured(
    shared: &Shared,
    format: &dyn SealedFormat,
    (id, tier): (SeriesId, Tier),
    (from_ns, to_ns): (i64, i64),
    figures: &Figures,
) -> Result<(Rollups, FigureColumn), StoreError> {
    let found = rollups(shared, format, id, tier, (from_ns, to_ns))?;
    let (Some((first, _)), Some((last, _)), false) = (found.first(), found.last(), figures.is_empty()) else {
        return Ok((found, FigureColumn::default()));
    };
    let width_ns = buckets_of(tier)?.width_ns();
    let grid = Grid::Fixed(width_ns);
    // Each is whole, wherever the range cuts.
    let range = (*first, last.saturating_add(width_ns));
    let mut parts = Buckets::new(width_ns);
    found.iter().for_each(|(start, part)| parts.add(*start, part));
    let source = Source { shared, format, grid: &grid, range, figures, canceled: &|| false };
    let figures = source.columns(&[column(id, tier, &parts)])?;
    Ok((found, figures.into_iter().next().unwrap_or_default()))
}
