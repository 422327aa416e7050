//! Aggregates over groups of series by bucket of time.
//!
//! What is aggregated are readings: the mean of a group is the sum of all its readings in a bucket over their number,
//! however many each series has, and not the mean of the series' means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::figures::{FigureColumn, Figures, Source};
use super::newest::{Newest, hot_of};
use super::{Left, Tier, add, check, goes_on, left};
use crate::blocks::SealedFile;
use crate::buckets::{Aggregate, Buckets};
use crate::calendar::{Grid, Width};
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::sealed::SealedFormat;
use crate::segment::Level;
use crate::tables::{Shared, read};

/// Most buckets of all groups of an answer, 36 MB of them.
const CELLS_MAX: u64 = 500_000;
/// From so many series on two threads may share the work: less is done before a thread has begun.
const SHARED_FROM: usize = 64;
/// Most shares that the work has.
const SHARES_MAX: usize = 16;

/// What is asked of groups of series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupQuestion {
    /// The series of each group. Of readings with equal times in several of them that of the later one counts as last, and
    /// that of the earlier one as first.
    pub groups: Vec<Vec<SeriesId>>,
    /// From then on, ns.
    pub from_ns: i64,
    /// Up to then, ns; the time itself is left out, but for `i64::MAX`, which means no end.
    pub to_ns: i64,
    /// The width of the buckets; one bucket when there is none.
    pub width: Option<Width>,
    /// Whether no rollup is to be read.
    pub raw: bool,
    /// What is asked for besides aggregates.
    pub figures: Figures,
}

/// The buckets of one group; empty ones are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupColumn {
    /// The start of each bucket, ns, and what is known of the readings in it. Where there is one bucket, it begins
    /// at the beginning of the range.
    pub buckets: Vec<(i64, Aggregate)>,
    /// Figures of as many, when they were asked for.
    pub figures: Option<FigureColumn>,
}

/// An answer about groups.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAnswer {
    /// The coarsest tier of which something was read; that of the readings where there is nothing.
    pub tier: Tier,
    /// The last time of the range, ns, of which readings are past their retention: buckets that the range cuts may have more
    /// than lies in it, and what is gone with its days is in none.
    pub thinned_to_ns: Option<i64>,
    /// In the order asked for.
    pub groups: Vec<GroupColumn>,
}

impl GroupAnswer {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cells: usize = self.groups.iter().map(|group| group.buckets.len()).sum();
        let figures: usize =
            self.groups.iter().filter_map(|group| Some(group.figures.as_ref()?.bytes())).sum();
        cells * size_of::<(i64, Aggregate)>() + self.groups.len() * size_of::<GroupColumn>() + figures
    }
}

struct Work<'a> {
    shared: &'a Shared,
    format: &'a dyn SealedFormat,
    grid: Grid,
    level: Level,
    // What is read: of the range asked for the buckets that had a reading when it was asked.
    range: (i64, i64),
    canceled: &'a (dyn Fn() -> bool + Sync),
}

/// The one thread of the process that questions may have besides their own: what comes in needs the others.
struct Second;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Second {
    fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// What a share of the series is.
struct Share {
    // Which stand together by group.
    groups: Vec<(usize, Buckets)>,
    // The coarsest level of which something was read.
    coarsest: Level,
}

impl Work<'_> {
    fn none(&self) -> Buckets {
        Buckets::of(&self.grid, self.range.0, self.range.1)
    }

    /// Adds the readings of a series, each of its rows once and all as at one moment; says the coarsest level of which there
    /// was something.
    fn read(&self, id: SeriesId, parts: &mut Buckets, hot: &mut Buckets) -> Result<Level, StoreError> {
        let range = self.range;
        let Self { shared, format, level, .. } = *self;
        if shared.revised.has(id) {
            let (hot, files) = {
                let tables = read(&shared.tables);
                (hot_of(&tables, id, range), Arc::clone(&tables.files))
            };
            let newest = Newest { shared, format, id, files: &files, cold: &[], hot };
            return newest.add((level, Level::Day), range, parts);
        }
        let files = {
            let tables = read(&shared.tables);
            for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
                part.each(id, range.0, range.1, |times, values| hot.add_rows(times, values));
            }
            Arc::clone(&tables.files)
        };
        let mut coarsest = Level::Raw;
        for file in files.iter() {
            let sealed = SealedFile { shared, format, file };
            if let Some(entry) = sealed.find(id, range)? {
                coarsest = add(sealed, &entry, level, range, parts)?.max(coarsest);
            }
        }
        hot.iter().for_each(|(start, part)| parts.add(start, part));
        Ok(coarsest)
    }

    /// The groups of some series, which stand together by group.
    fn share(&self, series: &[(usize, SeriesId)]) -> Result<Share, StoreError> {
        let mut out = Share { groups: Vec::new(), coarsest: Level::Raw };
        let (mut parts, mut hot) = (self.none(), self.none());
        for (group, id) in series {
            goes_on(self.canceled)?;
            out.coarsest = self.read(*id, &mut parts, &mut hot)?.max(out.coarsest);
            if out.groups.last().is_none_or(|(last, _)| last != group) {
                out.groups.push((*group, self.none()));
            }
            if let Some((_, sum)) = out.groups.last_mut() {
                parts.iter().for_each(|(start, part)| sum.add(start, part));
            }
            parts.clear();
            hot.clear();
        }
        Ok(out)
    }

    /// All shares in their order, on a second thread too when no other question has it: each takes the next as soon as it
    /// is through with one, because two cores are seldom as fast as each other. That changes no sum: the shares are the same.
    fn shares(&self, series: &[(usize, SeriesId)], cells: u64) -> Result<Vec<Share>, StoreError> {
        // Each may have all buckets of a group.
        let most = usize::try_from(2 * CELLS_MAX / cells.max(1)).unwrap_or(SHARES_MAX).clamp(2, SHARES_MAX);
        let parts: Vec<_> = series.chunks(series.len().div_ceil(most).max(1)).collect();
        let second = if series.len() < SHARED_FROM { None } else { Second::take() };
        if second.is_none() {
            return parts.into_iter().map(|part| self.share(part)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((no, part)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|no| Some((no, *parts.get(no)?)))
            {
                // The other has no more to do either.
                let share = self.share(part).inspect_err(|_| next.store(parts.len(), Ordering::Relaxed))?;
                done.push((no, share));
            }
            Ok::<_, StoreError>(done)
        };
        let (ours, theirs) = std::thread::scope(|scope| {
            let second = scope.spawn(work);
            (work(), second.join())
        });
        let panicked = |_| StoreError::Sealed("the codec panicked".to_owned());
        let mut done = ours?;
        done.extend(theirs.map_err(panicked)??);
        done.sort_unstable_by_key(|(no, _)| *no);
        Ok(done.into_iter().map(|(_, share)| share).collect())
    }
}

/// Where the readings of these series lie.
fn extent(shared: &Shared, series: &[(usize, SeriesId)]) -> Option<(i64, i64)> {
    let tables = read(&shared.tables);
    let all = series.iter().filter_map(|(_, id)| {
        let stats = tables.stats(*id);
        Some((stats.first_ns?, stats.last?.time_ns))
    });
    all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// A range, how it is parted, and into how many buckets of all groups.
type Read = ((i64, i64), Grid, u64);

/// What is read for a question; none when nothing is in its range.
fn range(question: &GroupQuestion, (first_ns, last_ns): (i64, i64)) -> Result<Option<Read>, StoreError> {
    let GroupQuestion { groups, from_ns, to_ns, width, .. } = question;
    let Some(width) = width else {
        return Ok(Some(((*from_ns, *to_ns), Grid::Whole(*from_ns), groups.len() as u64)));
    };
    let (from_ns, to_ns) =
        (width.start(first_ns).max(*from_ns), width.last(last_ns).saturating_add(1).min(*to_ns));
    if from_ns > to_ns {
        return Ok(None);
    }
    let (buckets, grid) = match width {
        Width::Fixed(width_ns) => {
            let buckets =
                to_ns.div_euclid(*width_ns).abs_diff(from_ns.div_euclid(*width_ns)).saturating_add(1);
            (buckets, Grid::Fixed(*width_ns))
        }
        Width::Calendar(calendar) => {
            let most = usize::try_from(CELLS_MAX).unwrap_or(usize::MAX);
            let edges = calendar.edges(from_ns, to_ns, most).unwrap_or_default();
            (edges.len() as u64, Grid::Edges(edges.into()))
        }
    };
    let cells = buckets.saturating_mul(groups.len() as u64);
    if cells > CELLS_MAX {
        let asked = format!("{} groups of {buckets} buckets", groups.len());
        return Err(StoreError::Query(format!("{asked}; allowed are {CELLS_MAX} buckets of all groups")));
    }
    Ok(Some(((from_ns, to_ns), grid, cells)))
}

/// See [`crate::Store::query_groups`].
pub fn groups(
    shared: &Shared,
    format: &dyn SealedFormat,
    question: &GroupQuestion,
    canceled: &(dyn Fn() -> bool + Sync),
) -> Result<GroupAnswer, StoreError> {
    for group in &question.groups {
        check(shared, group)?;
    }
    if matches!(question.width, Some(Width::Fixed(..=0))) {
        return Err(StoreError::Query("a bucket has no width".to_owned()));
    }
    let groups = question.groups.iter().enumerate();
    let series: Vec<(usize, SeriesId)> =
        groups.flat_map(|(at, group)| group.iter().map(move |id| (at, *id))).collect();
    let mut out: Vec<GroupColumn> = question.groups.iter().map(|_| GroupColumn::default()).collect();
    let range = match extent(shared, &series) {
        Some(extent) => range(question, extent)?,
        None => None,
    };
    let Some((range, grid, cells)) = range else {
        return Ok(GroupAnswer { tier: Tier::Raw, thinned_to_ns: None, groups: out });
    };
    let level = if question.raw { Level::Raw } else { grid.level() };
    let files = Arc::clone(&read(&shared.tables).files);
    let Left { thinned_to_ns, .. } = left(shared, format, &files, series.iter().map(|(_, id)| *id), range)?;
    let work = Work { shared, format, grid, level, range, canceled };
    let shares = work.shares(&series, cells)?;
    let coarsest = shares.iter().map(|share| share.coarsest).max().unwrap_or_default();
    let mut sums: Vec<(usize, Buckets)> = Vec::new();
    for (at, part) in shares.into_iter().flat_map(|share| share.groups) {
        // One group may reach over several shares.
        match sums.last_mut().filter(|(last, _)| *last == at) {
            Some((_, sum)) => part.iter().for_each(|(start, part)| sum.add(start, part)),
            None => sums.push((at, part)),
        }
    }
    for (at, sum) in &sums {
        put(&mut out, *at, sum);
    }
    if !question.figures.is_empty() {
        let Work { grid, range, .. } = work;
        let source = Source { shared, format, grid: &grid, range, figures: &question.figures, canceled };
        source.groups((&question.groups, &mut out), question.raw)?;
    }
    Ok(GroupAnswer { tier: coarsest.into(), thinned_to_ns, groups: out })
}

fn put(out: &mut [GroupColumn], at: usize, sum: &Buckets) {
    if let Some(group) = out.get_mut(at) {
        group.buckets = sum.iter().map(|(start, part)| (start, *part)).collect();
    }
}
