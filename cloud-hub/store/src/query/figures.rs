//! Figures of buckets that aggregates do not tell: the mean over time, and quantiles.
//!
//! **The mean over time** is that of the value that held: the last reading's, until the next one (last observation carried
//! forward). In a bucket time counts from its beginning, or from where the range begins, with the value of the last
//! reading before, however old that is, and from its first reading where there is none before; it counts up to the end of
//! the bucket or of the range. That is `interpolated_average` of `time_weight('LOCF', …)` of the TimescaleDB Toolkit, but
//! that a bucket without readings stops no value from holding, and what jobs have as `time_weighted_mean`. (Flux's
//! `timeWeightedAvg` draws lines between readings; that is another figure.)
//!
//! **A quantile** lies between the two readings beside its rank, as far as its rank does: R's type 7, which is also that of
//! `quantile_cont` in SQL and of PromQL.
//!
//! Both are exact where they are made of readings. Where these are many, or gone, and the buckets are made of whole hours,
//! they are made of what is stored of hours and days ([`stored`]); what of it is not exact is told.

mod groups;
mod stored;

use super::newest::{Newest, hot_of};
use super::page::first_rows;
use super::{BucketColumn, Level, SealedFile, Tier, add, read};
use crate::buckets::Buckets;
use crate::config::StoreError;
use crate::held::Held;
use crate::hot::{Rows, SeriesId, is_before};
use crate::sketch::Sketch;
pub(super) use stored::Source;

/// Most readings of one bucket, 64 MB of them.
const BUCKET_READINGS_MAX: u64 = 4_000_000;
/// Most readings of a question: some seconds.
const READINGS_MAX: u64 = 50_000_000;
/// Readings that are read together where buckets have fewer.
const TOGETHER: u64 = 500_000;

/// Which share of the readings lies below: from 0 to 100 % in steps of a thousandth of a percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile(u32);

impl Quantile {
    const ALL: u32 = 100_000;

    /// Of a text as `p95` or `p99.9`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let percent = text.strip_prefix('p')?;
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 3 {
            return None;
        }
        let thousandths = format!("{whole}{part:0<3}").parse().ok()?;
        (thousandths <= Self::ALL).then_some(Self(thousandths))
    }

    /// Its value among these numbers, which are in order; none of none.
    #[must_use]
    pub fn of(self, sorted: &[f64]) -> Option<f64> {
        let last = sorted.len().checked_sub(1)?;
        // No bucket has so many readings that this would overflow.
        let scaled = last as u64 * u64::from(self.0);
        let (at, rest) = (scaled / u64::from(Self::ALL), scaled % u64::from(Self::ALL));
        let below = sorted.get(usize::try_from(at).ok()?)?;
        if rest == 0 {
            return Some(*below);
        }
        let above = sorted.get(usize::try_from(at).ok()? + 1)?;
        #[expect(clippy::cast_precision_loss, reason = "less than a hundred thousand")]
        let share = rest as f64 / f64::from(Self::ALL);
        Some(between(*below, *above, share))
    }

    /// Its value by a sketch of numbers that lie between these two.
    pub(super) fn told(self, sketch: &Sketch, (min, max): (f64, f64)) -> Option<f64> {
        let last = sketch.count().checked_sub(1)?;
        let scaled = u128::from(last) * u128::from(self.0);
        let (at, rest) = (scaled / u128::from(Self::ALL), scaled % u128::from(Self::ALL));
        let at = u64::try_from(at).ok()?;
        let value = |rank: u64| match rank {
            0 => Some(min),
            rank if rank == last => Some(max),
            rank => sketch.at(rank).map(|value| value.max(min).min(max)),
        };
        if rest == 0 {
            return value(at);
        }
        #[expect(clippy::cast_precision_loss, reason = "less than a hundred thousand")]
        let share = rest as f64 / f64::from(Self::ALL);
        Some(between(value(at)?, value(at + 1)?, share))
    }
}

/// Written so that neither overflows.
fn between(below: f64, above: f64, share: f64) -> f64 {
    if below == above { below } else { below * (1.0 - share) + above * share }
}

/// Most readings of a question that are read where what is stored would do: a tenth of a second.
const READINGS_DEFAULT: u64 = 1_000_000;

/// What is asked for besides what aggregates tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Figures {
    /// Whether the mean over time is.
    pub time_weighted: bool,
    /// Which quantiles are.
    pub quantiles: Vec<Quantile>,
    /// With more readings than these what is stored answers, where the buckets are made of whole hours.
    pub readings_max: u64,
}

impl Default for Figures {
    fn default() -> Self {
        Self { time_weighted: false, quantiles: Vec::new(), readings_max: READINGS_DEFAULT }
    }
}

impl Figures {
    /// Whether nothing is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.time_weighted && self.quantiles.is_empty()
    }
}

/// Figures of the buckets of one series, in their order; none where they are not known, since readings are gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FigureColumn {
    /// The coarsest tier that they were read from.
    pub tier: Tier,
    /// The means over time; empty when they were not asked for.
    pub time_weighted: Vec<Option<f64>>,
    /// As many: whether each is near and not exact. It is where readings are gone that came in several files and lay between
    /// each other.
    pub near: Vec<bool>,
    /// For each quantile asked for as many values.
    pub quantiles: Vec<Vec<Option<f64>>>,
    /// By which part of itself each reading that a quantile lies at or between may differ from what is told; 0 where they
    /// are exact.
    pub errors: Vec<f64>,
}

impl FigureColumn {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let values = self.time_weighted.len() + self.quantiles.iter().map(Vec::len).sum::<usize>();
        values * size_of::<Option<f64>>() + self.near.len() + self.errors.len() * size_of::<f64>()
    }
}

/// What time of a bucket counts, and the value that held when it began.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin_ns: i64,
    end_ns: i64,
    before: Option<f64>,
}

impl Span {
    fn mean(self, held: &Held) -> f64 {
        held.mean(self.begin_ns, self.end_ns, self.before)
    }
}

impl Source<'_> {
    /// From when on a bucket counts, and up to when: the time itself is left out, but for `i64::MAX`.
    fn span(&self, start_ns: i64) -> (i64, i64) {
        (start_ns.max(self.range.0), self.grid.end(start_ns).min(self.range.1))
    }

    /// Whether buckets are such that figures are stored of their parts.
    pub(super) fn is_stored(&self) -> bool {
        self.grid.level() >= Level::Hour
    }

    /// The figures of some series, of whose buckets the rest is known.
    pub(super) fn columns(&self, columns: &[BucketColumn]) -> Result<Vec<FigureColumn>, StoreError> {
        let counts = || columns.iter().flat_map(|column| column.count.iter().copied());
        let (all, most) = (counts().fold(0, u64::saturating_add), counts().max().unwrap_or(0));
        if !self.is_stored() && (most > BUCKET_READINGS_MAX || all > READINGS_MAX) {
            return Err(StoreError::Query(format!(
                "quantiles and means over time of buckets that are not made of whole hours are made of readings, here {all}, and {most} in one bucket; allowed are {READINGS_MAX}, and {BUCKET_READINGS_MAX}"
            )));
        }
        let exact = !self.is_stored() || (all <= self.figures.readings_max && most <= BUCKET_READINGS_MAX);
        columns.iter().map(|column| self.column(column, exact)).collect()
    }

    fn column(&self, column: &BucketColumn, exact: bool) -> Result<FigureColumn, StoreError> {
        let mut out = FigureColumn {
            quantiles: vec![Vec::with_capacity(column.t_ns.len()); self.figures.quantiles.len()],
            ..FigureColumn::default()
        };
        let first = column.t_ns.first().map(|start| self.span(*start).0);
        let before = match first.filter(|_| self.figures.time_weighted) {
            Some(begin_ns) => self.before(column.id, begin_ns)?,
            None => None,
        };
        if !exact {
            self.put_stored(&mut out, column, before, None)?;
            return Ok(out);
        }
        let missing = self.put_read(&mut out, column, before)?;
        if missing.contains(&true) && self.is_stored() {
            self.put_stored(&mut out, column, before, Some(&missing))?;
        }
        Ok(out)
    }

    /// Adds what readings tell; says of which buckets they are not all there.
    fn put_read(
        &self,
        out: &mut FigureColumn,
        column: &BucketColumn,
        mut before: Option<f64>,
    ) -> Result<Vec<bool>, StoreError> {
        let (mut at, mut missing) = (0, Vec::with_capacity(column.t_ns.len()));
        while at < column.t_ns.len() {
            if (self.canceled)() {
                return Err(StoreError::Query("it was canceled".to_owned()));
            }
            let counts = column.count.get(at..).unwrap_or_default();
            let mut sum = 0_u64;
            let more = counts.iter().skip(1).take_while(|count| {
                sum = sum.saturating_add(**count);
                sum <= TOGETHER
            });
            let len = 1 + more.count();
            let starts = column.t_ns.get(at..at + len).unwrap_or_default();
            let (Some(first), Some(last)) = (starts.first(), starts.last()) else { break };
            let range = (self.span(*first).0, self.span(*last).1);
            let (times, values) =
                numbers(&first_rows(self.shared, self.format, column.id, range, usize::MAX)?);
            for (start, no) in starts.iter().zip(at..) {
                let (begin_ns, end_ns) = self.span(*start);
                let lo = times.partition_point(|time| *time < begin_ns);
                let hi = times.partition_point(|time| is_before(*time, end_ns)).max(lo);
                let own = (times.get(lo..hi).unwrap_or(&[]), values.get(lo..hi).unwrap_or(&[]));
                let whole = column.count.get(no).is_some_and(|count| own.0.len() as u64 >= *count);
                self.put(out, whole.then_some(own), Span { begin_ns, end_ns, before });
                missing.push(!whole);
                before = column.last.get(no).copied();
            }
            at += len;
        }
        Ok(missing)
    }

    /// Adds the figures of a bucket; of none where its readings are not all there.
    fn put(&self, out: &mut FigureColumn, rows: Option<(&[i64], &[f64])>, span: Span) {
        if self.figures.time_weighted {
            let held = rows.and_then(|(times, values)| Held::of(times, values));
            out.time_weighted.push(held.map(|held| span.mean(&held)));
            out.near.push(false);
        }
        if self.figures.quantiles.is_empty() {
            return;
        }
        let sorted = rows.map(|(_, values)| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted
        });
        for (quantile, values) in self.figures.quantiles.iter().zip(&mut out.quantiles) {
            values.push(sorted.as_deref().and_then(|sorted| quantile.of(sorted)));
        }
        out.errors.push(0.0);
    }

    /// Adds what is stored of all buckets, or of those that are `missing` in what there is.
    fn put_stored(
        &self,
        out: &mut FigureColumn,
        column: &BucketColumn,
        mut before: Option<f64>,
        missing: Option<&[bool]>,
    ) -> Result<(), StoreError> {
        let rows = column.t_ns.len();
        if missing.is_none() {
            out.time_weighted = vec![None; if self.figures.time_weighted { rows } else { 0 }];
            out.near = vec![false; out.time_weighted.len()];
            out.quantiles.iter_mut().for_each(|values| *values = vec![None; rows]);
            out.errors = vec![0.0; if self.figures.quantiles.is_empty() { 0 } else { rows }];
        }
        let cells = self.cells(column.id, true)?;
        out.tier = out.tier.coarser(cells.tier);
        for (at, start) in column.t_ns.iter().enumerate() {
            let (begin_ns, end_ns) = self.span(*start);
            let span = Span { begin_ns, end_ns, before };
            before = column.last.get(at).copied();
            if missing.is_some_and(|missing| missing.get(at) == Some(&false)) {
                continue;
            }
            // What an older version left of a file has no figures.
            let cell = cells.by_start.get(start);
            let Some(cell) =
                cell.filter(|cell| column.count.get(at).is_some_and(|count| cell.count >= *count))
            else {
                continue;
            };
            if let Some(value) = out.time_weighted.get_mut(at)
                && let Some(held) = self.held(column.id, cell)?
            {
                *value = Some(span.mean(&held));
                out.near.get_mut(at).into_iter().for_each(|near| *near = held.near);
            }
            let ends = column.min.get(at).copied().zip(column.max.get(at).copied());
            for (quantile, values) in self.figures.quantiles.iter().zip(&mut out.quantiles) {
                let value = ends.and_then(|ends| quantile.told(&cell.sketch, ends));
                values.get_mut(at).into_iter().for_each(|place| *place = value);
            }
            out.errors.get_mut(at).into_iter().for_each(|error| *error = cell.sketch.error());
        }
        Ok(())
    }

    /// Reads a revised series as it is now, of which what is in memory lies in a range.
    fn newest<T>(
        &self,
        id: SeriesId,
        range: (i64, i64),
        work: impl FnOnce(&Newest<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (hot, files) = {
            let tables = read(&self.shared.tables);
            (hot_of(&tables, id, range), std::sync::Arc::clone(&tables.files))
        };
        work(&Newest { shared: self.shared, format: self.format, id, files: &files, cold: &[], hot })
    }

    /// The value of the last reading before a time; none where that cannot be told, too.
    pub(super) fn before(&self, id: SeriesId, time_ns: i64) -> Result<Option<f64>, StoreError> {
        let range = (i64::MIN, time_ns);
        if self.shared.revised.has(id) {
            let found = self.newest(id, range, |newest| newest.before(time_ns))?;
            return Ok(found.filter(|(last_ns, _)| *last_ns < time_ns).map(|(_, last)| last));
        }
        let (mut parts, mut hot) = (Buckets::whole(i64::MIN), Buckets::whole(i64::MIN));
        let files = {
            let tables = read(&self.shared.tables);
            for part in tables.flushing.as_deref().into_iter().chain([&tables.active]) {
                part.each(id, range.0, range.1, |times, values| hot.add_rows(times, values));
            }
            std::sync::Arc::clone(&tables.files)
        };
        for file in files.iter() {
            let sealed = SealedFile { shared: self.shared, format: self.format, file };
            if let Some(entry) = sealed.find(id, range)? {
                add(sealed, &entry, Level::Day, range, &mut parts)?;
            }
        }
        hot.iter().for_each(|(start, part)| parts.add(start, part));
        // Of what is left of a file the bucket that the time cuts is whole, and may end after it.
        let found = parts.iter().next().map(|(_, part)| (part.last_ns, part.last));
        Ok(found.filter(|(last_ns, _)| *last_ns < time_ns).map(|(_, last)| last))
    }
}

/// What of rows is a number, with its times.
fn numbers(rows: &Rows) -> (Vec<i64>, Vec<f64>) {
    let values = rows.boxes.numbers(&rows.values);
    rows.times.iter().zip(values.iter()).filter(|(_, value)| !value.is_nan()).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_of_few_numbers_tells_what_they_tell() {
        let numbers: Vec<f64> = (0..40).map(|n| f64::from(n * n) / 8.0).collect();
        let mut sketch = Sketch::default();
        sketch.add(&numbers, &mut Vec::new());
        for name in ["p0", "p1", "p50", "p95", "p99.9", "p100"] {
            let quantile = Quantile::parse(name).unwrap();
            assert_eq!(quantile.told(&sketch, (0.0, numbers[39])), quantile.of(&numbers), "{name}");
        }
        assert_eq!(Quantile::parse("p50").unwrap().told(&Sketch::default(), (0.0, 1.0)), None);
    }

    #[test]
    fn quantiles_are_read_and_lie_between_readings() {
        let value = |text: &str, sorted: &[f64]| Quantile::parse(text).unwrap().of(sorted);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(
            (value("p0", &ten), value("p100", &ten), value("p50", &ten)),
            (Some(1.0), Some(10.0), Some(5.5))
        );
        assert_eq!((value("p95", &ten), value("p50", &[3.0])), (Some(9.55), Some(3.0)));
        assert_eq!(value("p99.9", &[0.0, 1000.0]), Some(999.0));
        assert_eq!(value("p50", &[]), None);
        assert_eq!(value("p50", &[-f64::MAX, f64::MAX]), Some(0.0));
        assert_eq!(value("p75", &[f64::INFINITY, f64::INFINITY]), Some(f64::INFINITY));
        for text in ["", "p", "50", "p101", "p100.001", "p-1", "p5.", "p.5", "p1.2345", "p1e1", "P50", "p+5"]
        {
            assert_eq!(Quantile::parse(text), None, "{text}");
        }
        assert_eq!(Quantile::parse("p099.90"), Quantile::parse("p99.9"));
    }
}
