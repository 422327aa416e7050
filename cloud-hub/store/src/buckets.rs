//! Buckets of time: their widths, their edges, and what is known of the readings in one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Nanoseconds of a minute: the width of the finest rollup.
pub const MINUTE_NS: i64 = 60_000_000_000;
/// Nanoseconds of an hour.
pub const HOUR_NS: i64 = 60 * MINUTE_NS;
/// Nanoseconds of a day.
pub const DAY_NS: i64 = 24 * HOUR_NS;

const MS: i64 = 1_000_000;
const S: i64 = 1000 * MS;
const H: i64 = HOUR_NS;
const D: i64 = DAY_NS;

/// Widths that people can read off an axis, in ns.
const WIDTHS_NS: [i64; 30] = [
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    S,
    5 * S,
    10 * S,
    15 * S,
    30 * S,
    MINUTE_NS,
    5 * MINUTE_NS,
    10 * MINUTE_NS,
    15 * MINUTE_NS,
    30 * MINUTE_NS,
    H,
    3 * H,
    6 * H,
    12 * H,
    D,
    7 * D,
    30 * D,
    365 * D,
    3650 * D,
    36500 * D,
    100_000 * D,
];

/// The start of the bucket that holds `time_ns`; rounds down for times before 1970 too. A bucket
/// that begins before the first time there is starts at `i64::MIN`.
#[must_use]
pub const fn bucket_start(time_ns: i64, width_ns: i64) -> i64 {
    time_ns.div_euclid(width_ns).saturating_mul(width_ns)
}

/// The last time of the bucket that holds `time_ns`.
#[must_use]
pub const fn bucket_last(time_ns: i64, width_ns: i64) -> i64 {
    time_ns.saturating_add(width_ns - 1 - time_ns.rem_euclid(width_ns))
}

/// The smallest width at which `from..to` touches at most `buckets_max` buckets wherever it begins;
/// a range of more than 270 years may touch four where fewer are asked for.
#[must_use]
pub fn width_for(from_ns: i64, to_ns: i64, buckets_max: usize) -> i64 {
    let range = (i128::from(to_ns) - i128::from(from_ns)).max(0);
    let fits = |width: i64| (range + i128::from(width) - 1) / i128::from(width) < buckets_max as i128;
    WIDTHS_NS.into_iter().find(|width| fits(*width)).unwrap_or(100_000 * D)
}

/// What is known of the readings of one series in one bucket.
///
/// A NaN counts as a reading, and is first or last like any other. It makes the sum, and so the
/// mean, NaN; the smallest and the largest are those of the numbers, and NaN only where there are
/// none. Infinities are ordinary values; both signs in one bucket make the sum NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// How many.
    pub count: u64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Their sum.
    pub sum: f64,
    /// The value with the smallest time; the earliest to arrive among equals.
    pub first: f64,
    /// The value with the greatest time; the latest to arrive among equals.
    pub last: f64,
    /// The smallest time, ns.
    pub first_ns: i64,
    /// The greatest time, ns.
    pub last_ns: i64,
}

impl Aggregate {
    /// One reading.
    #[must_use]
    pub const fn of(time_ns: i64, value: f64) -> Self {
        Self {
            count: 1,
            min: value,
            max: value,
            sum: value,
            first: value,
            last: value,
            first_ns: time_ns,
            last_ns: time_ns,
        }
    }

    /// Of readings in order of time; none of none.
    #[must_use]
    pub fn of_rows(times: &[i64], values: &[f64]) -> Option<Self> {
        let (first_ns, first) = (times.first()?, values.first()?);
        let mut out = Self::of(*first_ns, *first);
        for value in values.iter().skip(1) {
            out.min = out.min.min(*value);
            out.max = out.max.max(*value);
            out.sum += value;
        }
        out.count = times.len() as u64;
        (out.last_ns, out.last) = (*times.last()?, *values.last()?);
        Some(out)
    }

    /// Adds readings that arrived later than those it holds.
    pub fn merge(&mut self, later: &Self) {
        self.count += later.count;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        if later.first_ns < self.first_ns {
            (self.first, self.first_ns) = (later.first, later.first_ns);
        }
        if later.last_ns >= self.last_ns {
            (self.last, self.last_ns) = (later.last, later.last_ns);
        }
    }
}

/// Buckets of one series. What arrived earlier must be added earlier.
#[derive(Debug)]
pub struct Buckets {
    width_ns: i64,
    by_start: BTreeMap<i64, Aggregate>,
}

impl Buckets {
    /// No buckets of this width.
    #[must_use]
    pub const fn new(width_ns: i64) -> Self {
        Self { width_ns, by_start: BTreeMap::new() }
    }

    /// Adds an aggregate of a span that lies within one bucket.
    pub fn add(&mut self, start_ns: i64, part: &Aggregate) {
        self.by_start
            .entry(bucket_start(start_ns, self.width_ns))
            .and_modify(|bucket| bucket.merge(part))
            .or_insert(*part);
    }

    /// Adds readings; those of one bucket that stand together cost one look-up.
    pub fn add_rows(&mut self, times: &[i64], values: &[f64]) {
        let mut open: Option<(RangeInclusive<i64>, Aggregate)> = None;
        for (time, value) in times.iter().zip(values) {
            let one = Aggregate::of(*time, *value);
            match &mut open {
                Some((span, part)) if span.contains(time) => part.merge(&one),
                _ => {
                    if let Some((span, part)) = open.take() {
                        self.add(*span.start(), &part);
                    }
                    let span = bucket_start(*time, self.width_ns)..=bucket_last(*time, self.width_ns);
                    open = Some((span, one));
                }
            }
        }
        if let Some((span, part)) = open {
            self.add(*span.start(), &part);
        }
    }

    /// The buckets in order of time.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Aggregate)> {
        self.by_start.iter().map(|(start, part)| (*start, part))
    }
}
