//! Figures of buckets that only readings tell: the mean over time, and quantiles.
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
//! Both are made of all numbers of a bucket. Where some of these are past their retention there is none.

use super::page::first_rows;
use super::{BucketColumn, Grid, Level, SealedFile, add, read};
use crate::buckets::{Buckets, bucket_last};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId, is_before};
use crate::sealed::SealedFormat;
use crate::tables::Shared;

/// Most readings of one bucket, 64 MB of them.
const BUCKET_READINGS_MAX: u64 = 4_000_000;
/// Most readings of a question: some seconds.
const READINGS_MAX: u64 = 50_000_000;
/// Readings that are read together where buckets have fewer.
const TOGETHER: u64 = 500_000;

/// Which share of the readings lies below: from 0 to 100 % in steps of a thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    fn of(self, sorted: &[f64]) -> Option<f64> {
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
        // Written so that neither overflows.
        Some(if below == above { *below } else { below * (1.0 - share) + above * share })
    }
}

/// What is asked for besides what rollups tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Figures {
    /// Whether the mean over time is.
    pub time_weighted: bool,
    /// Which quantiles are.
    pub quantiles: Vec<Quantile>,
}

impl Figures {
    /// Whether nothing is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.time_weighted && self.quantiles.is_empty()
    }
}

/// Figures of the buckets of one series, in their order; none where not all readings are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FigureColumn {
    /// The means over time; empty when they were not asked for.
    pub time_weighted: Vec<Option<f64>>,
    /// For each quantile asked for as many values.
    pub quantiles: Vec<Vec<Option<f64>>>,
}

/// What time of a bucket counts, and the value that held when it began.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin_ns: i64,
    end_ns: i64,
    before: Option<f64>,
}

/// The mean over time of these numbers, of which there is one, in a bucket.
fn time_weighted(times: &[i64], values: &[f64], span: Span) -> Option<f64> {
    let (first_ns, last) = (*times.first()?, *values.last()?);
    let begin_ns = if span.before.is_some() { span.begin_ns } else { first_ns };
    #[expect(clippy::cast_precision_loss, reason = "a length of time as a part of another")]
    let length = |from: i64, to: i64| if to > from { to.abs_diff(from) as f64 } else { 0.0 };
    let all = length(begin_ns, span.end_ns);
    if all == 0.0 {
        return Some(last);
    }
    // Each as a part of the mean, so that no sum is larger than the values; what an addition loses is kept (Neumaier).
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    let mut held = (begin_ns, span.before.unwrap_or_default());
    let ends = times.iter().copied().zip(values.iter().copied()).chain([(span.end_ns, last)]);
    for (time_ns, value) in ends {
        let part = held.1 * (length(held.0, time_ns) / all);
        let next = sum + part;
        lost += if sum.abs() >= part.abs() { (sum - next) + part } else { (part - next) + sum };
        (sum, held) = (next, (time_ns, value));
    }
    Some(if sum.is_finite() { sum + lost } else { sum })
}

/// The buckets of a question, as spans of time within its range.
struct Spans<'a> {
    grid: &'a Grid,
    range: (i64, i64),
}

impl Spans<'_> {
    /// From when on a bucket counts, and up to when: the time itself is left out, but for `i64::MAX`.
    fn of(&self, start_ns: i64) -> (i64, i64) {
        let end_ns = match self.grid {
            // A bucket that begins before all times begins at the first of them.
            Grid::Fixed(width_ns) => bucket_last(start_ns, *width_ns).saturating_add(1),
            Grid::Edges(edges) => {
                edges.get(edges.partition_point(|edge| *edge <= start_ns)).copied().unwrap_or(i64::MAX)
            }
            Grid::Whole(_) => i64::MAX,
        };
        (start_ns.max(self.range.0), end_ns.min(self.range.1))
    }
}

/// What is read for figures.
pub(super) struct Reader<'a> {
    pub shared: &'a Shared,
    pub format: &'a dyn SealedFormat,
    pub grid: &'a Grid,
    pub range: (i64, i64),
    pub figures: &'a Figures,
    pub canceled: &'a (dyn Fn() -> bool + Sync),
}

impl Reader<'_> {
    /// The figures of some series, of whose buckets the rest is known.
    pub(super) fn columns(&self, columns: &[BucketColumn]) -> Result<Vec<FigureColumn>, StoreError> {
        let counts = || columns.iter().flat_map(|column| column.count.iter().copied());
        let (all, most) = (counts().fold(0, u64::saturating_add), counts().max().unwrap_or(0));
        if most > BUCKET_READINGS_MAX || all > READINGS_MAX {
            return Err(StoreError::Query(format!(
                "quantiles and means over time are made of readings, here {all}, and {most} in one bucket; allowed are {READINGS_MAX}, and {BUCKET_READINGS_MAX}"
            )));
        }
        columns.iter().map(|column| self.column(column)).collect()
    }

    fn column(&self, column: &BucketColumn) -> Result<FigureColumn, StoreError> {
        let mut out = FigureColumn {
            time_weighted: Vec::new(),
            quantiles: vec![Vec::with_capacity(column.t_ns.len()); self.figures.quantiles.len()],
        };
        let spans = Spans { grid: self.grid, range: self.range };
        let first = column.t_ns.first().map(|start| spans.of(*start).0);
        let mut before = match first.filter(|_| self.figures.time_weighted) {
            Some(begin_ns) => self.before(column.id, begin_ns)?,
            None => None,
        };
        let mut at = 0;
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
            let range = (spans.of(*first).0, spans.of(*last).1);
            let (times, values) =
                numbers(&first_rows(self.shared, self.format, column.id, range, usize::MAX)?);
            for (start, no) in starts.iter().zip(at..) {
                let (begin_ns, end_ns) = spans.of(*start);
                let lo = times.partition_point(|time| *time < begin_ns);
                let hi = times.partition_point(|time| is_before(*time, end_ns)).max(lo);
                let own = (times.get(lo..hi).unwrap_or(&[]), values.get(lo..hi).unwrap_or(&[]));
                let whole = column.count.get(no).is_some_and(|count| own.0.len() as u64 >= *count);
                self.put(&mut out, whole.then_some(own), Span { begin_ns, end_ns, before });
                before = column.last.get(no).copied();
            }
            at += len;
        }
        Ok(out)
    }

    /// Adds the figures of a bucket; of none where its readings are not all there.
    fn put(&self, out: &mut FigureColumn, rows: Option<(&[i64], &[f64])>, span: Span) {
        if self.figures.time_weighted {
            out.time_weighted.push(rows.and_then(|(times, values)| time_weighted(times, values, span)));
        }
        let sorted = rows.filter(|_| !self.figures.quantiles.is_empty()).map(|(_, values)| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted
        });
        for (quantile, values) in self.figures.quantiles.iter().zip(&mut out.quantiles) {
            values.push(sorted.as_deref().and_then(|sorted| quantile.of(sorted)));
        }
    }

    /// The value of the last reading before a time; none where that cannot be told, too.
    fn before(&self, id: SeriesId, time_ns: i64) -> Result<Option<f64>, StoreError> {
        let range = (i64::MIN, time_ns);
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

    #[test]
    fn a_value_holds_until_the_next_reading() {
        let mean = |rows: &[(i64, f64)], before: Option<f64>, begin_ns: i64, end_ns: i64| {
            let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
            time_weighted(&times, &values, Span { begin_ns, end_ns, before })
        };
        // 10 for 2 of 10, 20 for 3, 40 for 5.
        let rows = [(0, 10.0), (2, 20.0), (5, 40.0)];
        assert_eq!(mean(&rows, None, 0, 10), Some(28.0));
        // Nothing is known before the first reading: 20 for 3 of 8, 40 for 5.
        assert_eq!(mean(&rows[1..], None, 0, 10), Some(32.5));
        assert_eq!(mean(&rows[1..], Some(70.0), 0, 10), Some(40.0));
        // Of readings with one time the last holds.
        assert_eq!(mean(&[(5, 1.0), (5, 3.0)], Some(1.0), 0, 10), Some(2.0));
        assert_eq!(mean(&[(7, 3.0)], None, 0, 7), Some(3.0));
        assert_eq!(mean(&[], Some(1.0), 0, 7), None);
        assert_eq!(mean(&[(0, f64::MAX), (1, f64::MAX)], None, i64::MIN, i64::MAX), Some(f64::MAX));
        assert_eq!(mean(&[(i64::MIN, 1.0), (0, 3.0)], None, i64::MIN, i64::MAX), Some(2.0));
    }
}
