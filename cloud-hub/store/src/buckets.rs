//! Buckets of time: their widths, their edges, and what is known of the readings in one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::calendar::Grid;

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
/// A NaN is no number and left out: of readings that are NaN there is no aggregate, and no bucket. Infinities are
/// ordinary values; both signs in one bucket make the sum, and so the mean, NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// How many numbers.
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
    /// One reading, which is a number.
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

    /// Of readings in order of time; none where no number is among them.
    #[must_use]
    pub fn of_rows(times: &[i64], values: &[f64]) -> Option<Self> {
        let out = Self::of_numbers(times, values)?;
        // Only where a NaN is among them, or both infinities, is the sum one.
        if !out.sum.is_nan() {
            return Some(out);
        }
        let numbers = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
        let (times, values): (Vec<i64>, Vec<f64>) = numbers.unzip();
        Self::of_numbers(&times, &values)
    }

    fn of_numbers(times: &[i64], values: &[f64]) -> Option<Self> {
        let (first_ns, first) = (times.first()?, values.first()?);
        let mut out = Self::of(*first_ns, *first);
        // Four sums side by side: each addition would otherwise wait for the one before it.
        let (fours, rest) = values.as_chunks::<4>();
        let (mut min, mut max, mut sum) = ([*first; 4], [*first; 4], [0.0; 4]);
        for four in fours {
            for ((min, max), (sum, value)) in min.iter_mut().zip(&mut max).zip(sum.iter_mut().zip(four)) {
                *min = min.min(*value);
                *max = max.max(*value);
                *sum += value;
            }
        }
        let [a, b, c, d] = sum;
        out.sum = (a + b) + (c + d);
        out.min = min.into_iter().fold(*first, f64::min);
        out.max = max.into_iter().fold(*first, f64::max);
        for value in rest {
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

/// Most buckets that stand in a row whether or not something is in them: a megabyte.
const ROW_MAX: i128 = 16 * 1024;

/// Buckets of one series. What arrived earlier must be added earlier.
#[derive(Debug)]
pub struct Buckets {
    width_ns: i64,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    /// By start: however far apart they are.
    Tree(BTreeMap<i64, Aggregate>),
    /// In a row from the bucket of this number on; `used` holds all that are not empty.
    Row { base: i64, cells: Vec<Option<Aggregate>>, used: Range<usize> },
    /// From each of these times to the next; the last has no end.
    Edges { edges: Arc<[i64]>, cells: Vec<Option<Aggregate>>, at: usize },
    /// One bucket from `start_ns` on, whatever the width.
    Whole { start_ns: i64, cell: Option<Aggregate> },
}

impl Buckets {
    /// No buckets of this width.
    #[must_use]
    pub const fn new(width_ns: i64) -> Self {
        Self { width_ns, cells: Cells::Tree(BTreeMap::new()) }
    }

    /// No buckets of this width, for times of `from..=to` only: where these are few, adding to one costs no
    /// search.
    #[must_use]
    pub fn within(width_ns: i64, from_ns: i64, to_ns: i64) -> Self {
        let (base, end) = (from_ns.div_euclid(width_ns), to_ns.div_euclid(width_ns));
        let len = i128::from(end) - i128::from(base) + 1;
        match usize::try_from(len) {
            Ok(cells) if len <= ROW_MAX => {
                Self { width_ns, cells: Cells::Row { base, cells: vec![None; cells], used: 0..0 } }
            }
            _ => Self::new(width_ns),
        }
    }

    /// One bucket for all times, which is told to begin at `start_ns`.
    #[must_use]
    pub const fn whole(start_ns: i64) -> Self {
        Self { width_ns: i64::MAX, cells: Cells::Whole { start_ns, cell: None } }
    }

    /// No buckets of a grid, of which few will be used.
    #[must_use]
    pub fn sparse(grid: &Grid) -> Self {
        match grid {
            Grid::Fixed(width_ns) => Self::new(*width_ns),
            Grid::Edges(_) | Grid::Whole(_) => Self::of(grid, i64::MIN, i64::MAX),
        }
    }

    /// No buckets of a grid, for times of `from..=to` only.
    #[must_use]
    pub fn of(grid: &Grid, from_ns: i64, to_ns: i64) -> Self {
        match grid {
            Grid::Fixed(width_ns) => Self::within(*width_ns, from_ns, to_ns),
            Grid::Edges(edges) => {
                let cells = Cells::Edges { edges: Arc::clone(edges), cells: Vec::new(), at: 0 };
                Self { width_ns: i64::MAX, cells }
            }
            Grid::Whole(start_ns) => Self::whole(*start_ns),
        }
    }

    /// Whether all times of `first_ns..=last_ns` are of one bucket.
    #[must_use]
    pub fn are_one(&self, first_ns: i64, last_ns: i64) -> bool {
        match &self.cells {
            Cells::Tree(_) | Cells::Row { .. } => last_ns <= bucket_last(first_ns, self.width_ns),
            Cells::Edges { edges, at, .. } => place(edges, *at, first_ns) == place(edges, *at, last_ns),
            Cells::Whole { .. } => true,
        }
    }

    /// Empties them all.
    pub fn clear(&mut self) {
        match &mut self.cells {
            Cells::Tree(by_start) => by_start.clear(),
            Cells::Row { cells, used, .. } => {
                cells.get_mut(used.clone()).unwrap_or_default().fill(None);
                *used = 0..0;
            }
            Cells::Edges { cells, .. } => cells.fill(None),
            Cells::Whole { cell, .. } => *cell = None,
        }
    }

    /// Adds an aggregate of a span that lies within one bucket.
    pub fn add(&mut self, start_ns: i64, part: &Aggregate) {
        let cell = match &mut self.cells {
            Cells::Tree(by_start) => {
                let start = bucket_start(start_ns, self.width_ns);
                by_start.entry(start).and_modify(|bucket| bucket.merge(part)).or_insert(*part);
                return;
            }
            Cells::Row { base, cells, used } => {
                let number = start_ns.div_euclid(self.width_ns).checked_sub(*base);
                let Some(at) = number.and_then(|number| usize::try_from(number).ok()) else { return };
                *used = match used.len() {
                    0 => at..at + 1,
                    _ => used.start.min(at)..used.end.max(at + 1),
                };
                cells.get_mut(at)
            }
            Cells::Edges { edges, cells, at } => {
                if cells.is_empty() {
                    *cells = vec![None; edges.len()];
                }
                *at = place(edges, *at, start_ns);
                cells.get_mut(*at)
            }
            Cells::Whole { cell, .. } => Some(cell),
        };
        debug_assert!(cell.is_some(), "it is outside of what was to be added");
        match cell {
            Some(Some(bucket)) => bucket.merge(part),
            Some(empty) => *empty = Some(*part),
            None => {}
        }
    }

    /// Adds readings; those of one bucket that stand together and in order of time cost one look-up.
    pub fn add_rows(&mut self, times: &[i64], values: &[f64]) {
        if !times.is_sorted() {
            let numbers = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
            numbers.for_each(|(time, value)| self.add(*time, &Aggregate::of(*time, *value)));
            return;
        }
        let (mut times, mut values) = (times, values);
        while let Some(first_ns) = times.first() {
            let last_ns = match &mut self.cells {
                Cells::Whole { .. } => i64::MAX,
                Cells::Edges { edges, at, .. } => {
                    *at = place(edges, *at, *first_ns);
                    edges.get(*at + 1).map_or(i64::MAX, |end| end.saturating_sub(1))
                }
                _ => bucket_last(*first_ns, self.width_ns),
            };
            let len = run_len(times, last_ns);
            let (run, rest) = (times.split_at(len), values.split_at(len.min(values.len())));
            if let Some(part) = Aggregate::of_rows(run.0, rest.0) {
                self.add(*first_ns, &part);
            }
            (times, values) = (run.1, rest.1);
        }
    }

    /// The buckets in order of time.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Aggregate)> {
        let (tree, row, edges, whole) = match &self.cells {
            Cells::Tree(by_start) => (Some(by_start), None, None, None),
            Cells::Row { base, cells, used } => (None, Some((*base, cells, used)), None, None),
            Cells::Edges { edges, cells, .. } => (None, None, Some(edges.iter().zip(cells)), None),
            Cells::Whole { start_ns, cell } => {
                (None, None, None, cell.as_ref().map(|cell| (*start_ns, cell)))
            }
        };
        let edges = edges.into_iter().flatten();
        let edges = edges.filter_map(|(start, cell)| Some((*start, cell.as_ref()?)));
        let tree = tree.into_iter().flatten().map(|(start, part)| (*start, part));
        let width_ns = self.width_ns;
        let row = row.into_iter().flat_map(move |(base, cells, used)| {
            let used_cells = cells.get(used.clone()).unwrap_or_default().iter().enumerate();
            used_cells.filter_map(move |(at, cell)| {
                let number = base.saturating_add(i64::try_from(used.start + at).unwrap_or(i64::MAX));
                Some((number.saturating_mul(width_ns), cell.as_ref()?))
            })
        });
        tree.chain(row).chain(edges).chain(whole)
    }
}

/// Which of these, which are in order, is the last that is not after a time; `near` is tried first.
fn place(edges: &[i64], near: usize, time_ns: i64) -> usize {
    let holds = |at: usize| {
        edges.get(at).is_some_and(|edge| *edge <= time_ns)
            && edges.get(at + 1).is_none_or(|end| *end > time_ns)
    };
    if holds(near) { near } else { edges.partition_point(|edge| *edge <= time_ns).saturating_sub(1) }
}

/// How many of these times, which are in order, are not after `last_ns`; the first is not.
fn run_len(times: &[i64], last_ns: i64) -> usize {
    const NEAR: usize = 16;
    let near = times.iter().take(NEAR).take_while(|time| **time <= last_ns).count();
    if near < NEAR { near.max(1) } else { times.partition_point(|time| *time <= last_ns) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(buckets: &Buckets) -> Vec<(i64, Aggregate)> {
        buckets.iter().map(|(start, part)| (start, *part)).collect()
    }

    /// Sums of small integers are exact in any order, so that buckets can be compared as they are.
    fn added(mut buckets: Buckets, rows: &[(i64, f64)], slices: usize) -> Vec<(i64, Aggregate)> {
        // What is cleared is as new.
        buckets.add_rows(&[rows[0].0], &[9e9]);
        buckets.clear();
        for rows in rows.chunks(slices) {
            let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
            buckets.add_rows(&times, &values);
        }
        all(&buckets)
    }

    proptest! {
        #[test]
        fn all_kinds_of_buckets_hold_what_one_reading_after_the_other_makes(
            rows in prop::collection::vec((-500_i64..500, -9_i32..9), 1..200),
            nan in -9_i32..20,
            sorted: bool,
            slices in 1_usize..60,
            width in 1_i64..90,
        ) {
            let value = |n: i32| if n == nan { f64::NAN } else { f64::from(n) };
            let mut rows: Vec<(i64, f64)> = rows.iter().map(|(time, n)| (*time, value(*n))).collect();
            if sorted {
                rows.sort_by_key(|row| row.0);
            }
            let mut wanted: BTreeMap<i64, Aggregate> = BTreeMap::new();
            for (time, value) in rows.iter().filter(|(_, value)| !value.is_nan()) {
                let one = Aggregate::of(*time, *value);
                wanted.entry(bucket_start(*time, width)).and_modify(|part| part.merge(&one)).or_insert(one);
            }
            let wanted: Vec<(i64, Aggregate)> = wanted.into_iter().collect();
            prop_assert_eq!(&added(Buckets::new(width), &rows, slices), &wanted);
            prop_assert_eq!(&added(Buckets::within(width, -500, 499), &rows, slices), &wanted);
            let mut edges: Vec<i64> = (-500..500).map(|time| bucket_start(time, width)).collect();
            edges.dedup();
            let edges = Buckets::of(&Grid::Edges(edges.into()), -500, 499);
            prop_assert_eq!(&added(edges, &rows, slices), &wanted);
            let one = wanted.iter().map(|(_, part)| *part).reduce(|mut a, b| {
                a.merge(&b);
                a
            });
            let whole: Vec<_> = one.map(|one| (-7, one)).into_iter().collect();
            prop_assert_eq!(added(Buckets::whole(-7), &rows, slices), whole);
        }
    }

    #[test]
    fn buckets_at_the_ends_of_time_hold_every_reading() {
        let times = [i64::MIN, i64::MIN + 5, -1, 0, i64::MAX - 1, i64::MAX];
        for mut buckets in [
            Buckets::new(7),
            Buckets::within(i64::MAX / 4, i64::MIN, i64::MAX),
            Buckets::within(7, i64::MIN, i64::MAX),
            Buckets::whole(0),
        ] {
            buckets.add_rows(&times, &[1.0; 6]);
            assert_eq!(buckets.iter().map(|(_, part)| part.count).sum::<u64>(), 6);
            assert!(buckets.iter().map(|(start, _)| start).is_sorted());
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        const NAN: f64 = f64::NAN;
        let part = Aggregate::of_rows(&[1, 2, 3, 4, 5, 6], &[NAN, 2.0, 8.0, NAN, -1.0, NAN]).unwrap();
        assert_eq!((part.count, part.min, part.max, part.sum), (3, -1.0, 8.0, 9.0));
        assert_eq!((part.first, part.first_ns, part.last, part.last_ns), (2.0, 2, -1.0, 5));
        assert_eq!(Aggregate::of_rows(&[1, 2], &[NAN, NAN]), None);
        let both = Aggregate::of_rows(&[1, 2, 3], &[f64::INFINITY, NAN, f64::NEG_INFINITY]).unwrap();
        assert!(both.sum.is_nan() && both.count == 2);
        assert_eq!((both.min, both.max), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
