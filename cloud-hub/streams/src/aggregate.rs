//! What is known of a set of readings, and how two such sets become one.

use minicbor::{Decode, Encode};

use crate::event::Field;
use crate::limits::{TIME_ABS_MAX_NS, VALUE_ABS_MAX};
use crate::spec::Aggregate;
use crate::sum::ExactSum;

/// A reading: time in ns and value.
pub type Row = (i64, f64);

/// A set of one or more readings. Nothing in it depends on the order of arrival but which of several readings
/// of one time is the first and the last.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Partial {
    #[n(0)]
    count: u64,
    #[n(1)]
    min: f64,
    #[n(2)]
    max: f64,
    #[n(3)]
    sum: ExactSum,
    #[n(4)]
    first: Row,
    #[n(5)]
    last: Row,
    /// All of them by (time, arrival), if they are needed.
    #[n(6)]
    rows: Vec<Row>,
}

impl Partial {
    /// One reading; `timed` if a mean over time will be asked for.
    pub fn one(row: Row, timed: bool) -> Self {
        let mut sum = ExactSum::default();
        sum.add(row.1);
        let rows = if timed { vec![row] } else { Vec::new() };
        Self { count: 1, min: row.1, max: row.1, sum, first: row, last: row, rows }
    }

    /// The readings, if there are any.
    pub fn of(rows: &[Row], timed: bool) -> Option<Self> {
        let (first, rest) = rows.split_first()?;
        let mut partial = Self::one(*first, timed);
        rest.iter().for_each(|row| partial.push(*row, timed));
        Some(partial)
    }

    /// Adds a reading that arrived after the others.
    pub fn push(&mut self, row: Row, timed: bool) {
        self.count = self.count.saturating_add(1);
        (self.min, self.max) = (self.min.min(row.1), self.max.max(row.1));
        self.sum.add(row.1);
        if row.0 < self.first.0 {
            self.first = row;
        }
        if row.0 >= self.last.0 {
            self.last = row;
        }
        if timed {
            insert(&mut self.rows, row);
        }
    }

    /// Adds readings of other times.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
        self.sum.merge(&other.sum);
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
        let after = self.rows.last().map(|row| row.0) < other.rows.first().map(|row| row.0);
        self.rows.extend_from_slice(&other.rows);
        if !after {
            self.rows.sort_by_key(|row| row.0);
        }
    }

    /// The first by (time, arrival).
    pub const fn first(&self) -> Row {
        self.first
    }

    /// The last by (time, arrival).
    pub const fn last(&self) -> Row {
        self.last
    }

    /// The readings that are kept, by (time, arrival).
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The values of the fields. `before` is the last reading before `start_ns`, and `end_ns` how far the last
    /// value holds: see [`time_weighted_mean`].
    pub fn values(&self, fields: &[Field], span: Span) -> Vec<(Field, f64)> {
        let value = |field: Field| match field {
            Field::Aggregate(Aggregate::Count) => self.count as f64,
            Field::Aggregate(Aggregate::Min) => self.min,
            Field::Aggregate(Aggregate::Max) => self.max,
            Field::Aggregate(Aggregate::Sum) => self.sum.value(),
            Field::Aggregate(Aggregate::First) => self.first.1,
            Field::Aggregate(Aggregate::Mean) => self.sum.value() / self.count as f64,
            Field::Aggregate(Aggregate::TimeWeightedMean) => {
                time_weighted_mean(&self.rows, span).unwrap_or(self.last.1)
            }
            Field::Aggregate(Aggregate::Last) | Field::Value | Field::Left | Field::Right => self.last.1,
        };
        fields.iter().map(|field| (*field, value(*field))).collect()
    }

    /// Whether it can be what a set of readings within these times gives.
    pub(crate) fn is_sound(&self, from_ns: i64, to_ns: i64, timed: bool) -> bool {
        let usable = |row: &Row| is_usable(*row) && (from_ns..to_ns).contains(&row.0);
        let counted = if timed { self.rows.len() as u64 == self.count } else { self.rows.is_empty() };
        let ends = self.rows.first().is_none_or(|row| *row == self.first)
            && self.rows.last().is_none_or(|row| *row == self.last);
        self.count > 0
            && counted
            && ends
            && self.sum.is_sound(self.count)
            && self.first.0 <= self.last.0
            && [self.first, self.last, (self.first.0, self.min), (self.first.0, self.max)].iter().all(usable)
            && self.rows.iter().all(usable)
            && self.rows.is_sorted_by_key(|row| row.0)
    }
}

/// Whether nothing can go wrong with it in a sum or in a sum of times.
pub fn is_usable((time_ns, value): Row) -> bool {
    value.is_finite()
        && value.abs() <= VALUE_ABS_MAX
        && (-TIME_ABS_MAX_NS..=TIME_ABS_MAX_NS).contains(&time_ns)
}

/// Puts a reading behind all of its time and before all later ones.
pub fn insert(rows: &mut Vec<Row>, row: Row) {
    let at = rows.partition_point(|other| other.0 <= row.0);
    rows.insert(at, row);
}

/// What of time a window covers.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The value that held when the window began.
    pub before: Option<f64>,
    /// The window's start in ns.
    pub start_ns: i64,
    /// How far its last value holds, in ns.
    pub end_ns: i64,
}

/// The mean over time of the value that held (last observation carried forward): the integral over the time for
/// which a value is known, divided by that time.
///
/// The value that holds at a time is that of the last reading at or before it, by (time, arrival). In tumbling
/// and hopping windows time counts from the window's start if there is a reading before it, whichever window
/// that was in, and else from the window's first reading; and up to the window's end. That is
/// `interpolated_average` of `time_weight('LOCF', …)` of the TimescaleDB Toolkit, but for empty windows in
/// between, which do not stop a value from holding. With values before and none missing it is also
/// `TimeAverage2` with stepped interpolation of OPC UA Part 13. In a sliding window time counts up to the
/// reading that it looks back from, and in a session from its first reading to its last, as `average` of the
/// same toolkit. Where no time is counted (a single reading) there is no such mean: the last value stands in.
fn time_weighted_mean(rows: &[Row], span: Span) -> Option<f64> {
    let before = span.before.map(|value| (span.start_ns, value));
    let mut held = before.into_iter().chain(rows.iter().copied());
    let (mut since_ns, mut value) = held.next()?;
    let begin_ns = since_ns;
    let mut integral = ExactSum::default();
    for (time_ns, next) in held {
        integral.add(value * time_ns.saturating_sub(since_ns) as f64);
        (since_ns, value) = (time_ns, next);
    }
    integral.add(value * span.end_ns.saturating_sub(since_ns).max(0) as f64);
    let counted_ns = span.end_ns.saturating_sub(begin_ns);
    (counted_ns > 0).then(|| integral.value() / counted_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(rows: &[Row], before: Option<f64>, start_ns: i64, end_ns: i64) -> Option<f64> {
        time_weighted_mean(rows, Span { before, start_ns, end_ns })
    }

    #[test]
    fn a_value_holds_until_the_next_reading() {
        // 10 for 2 of 10, 20 for 3, 40 for 5.
        let rows = [(0, 10.0), (2, 20.0), (5, 40.0)];
        assert_eq!(mean(&rows, None, 0, 10), Some(28.0));
        // Only from the first reading on, as nothing is known before: 20 for 3 of 8, 40 for 5.
        assert_eq!(mean(&rows[1..], None, 0, 10), Some(32.5));
        // With a value from before, all of the window counts: 100 for 2.
        assert_eq!(mean(&rows[1..], Some(100.0), 0, 10), Some(46.0));
        // A reading at the start leaves no time for what was before.
        assert_eq!(mean(&rows, Some(100.0), 0, 10), Some(28.0));
        // Of two readings of one time the later one holds.
        assert_eq!(mean(&[(0, 1.0), (0, 3.0)], None, 0, 4), Some(3.0));
        assert_eq!(mean(&[(7, 1.0)], None, 0, 7), None);
    }

    #[test]
    fn sets_of_readings_become_one() {
        let rows = [(5, 2.0), (3, -1.0), (5, 4.0), (9, 0.5)];
        let whole = Partial::of(&rows, true).unwrap();
        assert_eq!(whole.rows(), [(3, -1.0), (5, 2.0), (5, 4.0), (9, 0.5)]);
        let mut parts = Partial::of(&rows[3..], true).unwrap();
        parts.merge(&Partial::of(&rows[..3], true).unwrap());
        let fields = Aggregate::ALL.map(Field::Aggregate);
        let span = Span { before: None, start_ns: 0, end_ns: 13 };
        let wanted = [4.0, -1.0, 4.0, 5.5, -1.0, 0.5, 1.375, 1.6];
        for set in [&whole, &parts] {
            let values: Vec<f64> = set.values(&fields, span).iter().map(|(_, value)| *value).collect();
            assert_eq!(values, wanted);
            assert!(set.is_sound(3, 10, true) && !set.is_sound(4, 10, true) && !set.is_sound(3, 9, true));
        }
        assert_eq!(Partial::of(&[], false), None);
    }
}
