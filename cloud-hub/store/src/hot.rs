//! The readings that are not sealed yet, in memory, as columns in order of arrival.

use std::sync::Arc;

use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::value::{Boxed, Boxes, Quality, Value, ValueKind, is_boxed};

use crate::batches::{Batches, Origins, Trail};
use crate::buckets::{MINUTE_NS, bucket_start};
use crate::parts::Part;

/// The number of a series at this hub.
pub type SeriesId = u32;

/// Whether a time is in a range that ends before `to_ns`; the greatest `to_ns` means no end, or
/// else a reading at that very time could never be asked for.
#[must_use]
pub const fn is_before(time_ns: i64, to_ns: i64) -> bool {
    time_ns < to_ns || to_ns == i64::MAX
}

/// One reading by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: i64,
    /// The value as a word; of a boxed one `boxed` is the entry.
    pub word: f64,
    /// What a boxed word stands for; without an entry it is null.
    pub boxed: Option<Arc<Boxed>>,
}

impl Reading {
    /// Of a word of a table.
    #[must_use]
    pub fn new(time_ns: i64, word: f64, boxes: &Boxes) -> Self {
        Self { time_ns, word, boxed: boxes.get(word).map(|boxed| Arc::new(boxed.clone())) }
    }

    /// The value in a series of this kind, with its quality.
    #[must_use]
    pub fn value(&self, kind: ValueKind) -> (Value, Quality) {
        match &self.boxed {
            Some(boxed) => (boxed.value(kind), boxed.quality()),
            None => Boxes::new().value(self.word, kind),
        }
    }

    /// What it is to who calculates; NaN when it is no number.
    #[must_use]
    pub fn number(&self) -> f64 {
        match &self.boxed {
            Some(boxed) => boxed.number(),
            None if is_boxed(self.word) => f64::NAN,
            None => self.word,
        }
    }
}

/// What is known of a series without reading it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesStats {
    /// How many readings.
    pub count: u64,
    /// The earliest time, ns.
    pub first_ns: Option<i64>,
    /// The reading with the greatest time; the latest to arrive among equals.
    pub last: Option<Reading>,
    /// How many came when there was one of a later minute: those by which a rollup that was complete changed.
    pub late: u64,
}

/// Readings that came when there was one of the same series of a later minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub rows: u64,
    /// The earliest time among them, ns.
    pub from_ns: i64,
    /// The latest time among them, ns.
    pub to_ns: i64,
}

/// Those of these times that lie in a minute before that of the latest one, which is `newest_ns` until they come.
fn late(newest_ns: Option<i64>, times: &[i64]) -> Option<Late> {
    let mut begins_ns = newest_ns.map_or(i64::MIN, |newest_ns| bucket_start(newest_ns, MINUTE_NS));
    if *times.first()? >= begins_ns && times.is_sorted() {
        return None;
    }
    let mut found: Option<Late> = None;
    for time in times.iter().copied() {
        if time < begins_ns {
            let late = found.get_or_insert(Late { rows: 0, from_ns: time, to_ns: time });
            late.rows += 1;
            late.from_ns = late.from_ns.min(time);
            late.to_ns = late.to_ns.max(time);
        } else {
            begins_ns = bucket_start(time, MINUTE_NS);
        }
    }
    found
}

impl SeriesStats {
    /// The latest time.
    #[must_use]
    pub fn last_ns(&self) -> Option<i64> {
        self.last.as_ref().map(|last| last.time_ns)
    }

    /// Adds what arrived later.
    pub fn merge(&mut self, later: &Self) {
        self.count += later.count;
        self.late += later.late;
        self.first_ns = match (self.first_ns, later.first_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(reading) = &later.last
            && self.last.as_ref().is_none_or(|last| reading.time_ns >= last.time_ns)
        {
            self.last = Some(reading.clone());
        }
    }
}

/// Times and values of one series; both have the same length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Times in ns since 1970.
    pub times: Vec<i64>,
    /// Values in the series' unit, as words of `boxes`.
    pub values: Vec<f64>,
    /// What the boxed words stand for.
    pub boxes: Boxes,
}

impl Rows {
    /// Adds what arrived later, whose values are words of `boxes`.
    pub fn extend(&mut self, times: &[i64], values: &[f64], boxes: &Boxes) {
        self.times.extend_from_slice(times);
        self.boxes.append(&mut self.values, values, boxes);
    }

    /// Times and values in `from..to` of rows that are sorted.
    #[must_use]
    pub fn within(&self, (from_ns, to_ns): (i64, i64)) -> (&[i64], &[f64]) {
        let lo = self.times.partition_point(|time| *time < from_ns);
        let hi = self.times.partition_point(|time| is_before(*time, to_ns)).max(lo);
        (self.times.get(lo..hi).unwrap_or(&[]), self.values.get(lo..hi).unwrap_or(&[]))
    }

    /// About how much memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.times.len() * 16 + self.boxes.bytes()
    }

    /// Sorts by time; what arrived earlier stays earlier among equal times.
    pub fn sort(&mut self) {
        self.sort_with(&mut Vec::new());
    }

    /// Sorts by time, and the numbers of the batches with them; what arrived earlier stays earlier among
    /// equal times.
    pub fn sort_with(&mut self, batches: &mut Vec<u32>) {
        if self.times.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|at| self.times.get(*at));
        self.times = reordered(&self.times, &order);
        self.values = reordered(&self.values, &order);
        *batches = reordered(batches, &order);
    }

    /// Leaves the first rows.
    pub fn truncate(&mut self, rows: usize) {
        self.times.truncate(rows);
        self.values.truncate(rows);
    }
}

/// The items in another order; of an empty list none.
fn reordered<T: Copy>(items: &[T], order: &[usize]) -> Vec<T> {
    order.iter().filter_map(|at| items.get(*at).copied()).collect()
}

/// One series in memory.
#[derive(Debug, Clone, Default)]
struct HotColumn {
    rows: Rows,
    trail: Trail,
    late: u64,
    // Where the earliest row stands, and the latest; of equal times the last to arrive.
    oldest: u32,
    newest: u32,
    unsorted: bool,
}

impl HotColumn {
    fn push(&mut self, times: &[i64], values: &[f64], boxes: &Boxes) {
        if self.rows.times.is_empty() {
            // A hub may have many series with a few rows each: room for more comes with the next ones.
            self.rows.times.reserve_exact(times.len());
            self.rows.values.reserve_exact(values.len());
        }
        let follows = match (self.rows.times.last(), times.first()) {
            (Some(last), Some(first)) => last <= first,
            _ => true,
        };
        self.unsorted |= !follows || !times.is_sorted();
        let before = self.rows.times.len();
        self.rows.extend(times, values, boxes);
        self.find_ends(before);
    }

    /// Among the rows from `before` on.
    fn find_ends(&mut self, before: usize) {
        let times = &self.rows.times;
        // What is hot is far from so many rows of one series.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if !self.unsorted {
            (self.oldest, self.newest) = (0, place(times.len().saturating_sub(1)));
            return;
        }
        for (at, time) in times.iter().enumerate().skip(before) {
            if times.get(self.oldest as usize).is_none_or(|oldest| time < oldest) {
                self.oldest = place(at);
            }
            if times.get(self.newest as usize).is_none_or(|newest| time >= newest) {
                self.newest = place(at);
            }
        }
    }

    fn last_ns(&self) -> Option<i64> {
        self.rows.times.get(self.newest as usize).copied()
    }

    fn stats(&self) -> SeriesStats {
        let Rows { times, values, boxes } = &self.rows;
        let last = times.get(self.newest as usize).zip(values.get(self.newest as usize));
        SeriesStats {
            count: times.len() as u64,
            first_ns: times.get(self.oldest as usize).copied(),
            last: last.map(|(time_ns, word)| Reading::new(*time_ns, *word, boxes)),
            late: self.late,
        }
    }

    /// Shows the rows of `from..to` in order of arrival, the values as words.
    fn each(&self, from_ns: i64, to_ns: i64, mut visit: impl FnMut(&[i64], &[f64])) {
        let times = &self.rows.times;
        if self.unsorted {
            for (time, value) in times.iter().zip(&self.rows.values) {
                if *time >= from_ns && is_before(*time, to_ns) {
                    visit(std::slice::from_ref(time), std::slice::from_ref(value));
                }
            }
            return;
        }
        let lo = times.partition_point(|time| *time < from_ns);
        let hi = times.partition_point(|time| is_before(*time, to_ns)).max(lo);
        visit(times.get(lo..hi).unwrap_or(&[]), self.rows.values.get(lo..hi).unwrap_or(&[]));
    }
}

/// All series in memory.
#[derive(Debug, Clone, Default)]
pub struct Hot {
    // By series: where its column stands.
    places: Vec<u32>,
    columns: Vec<HotColumn>,
    rows: usize,
    boxed_bytes: usize,
    origins: Origins,
}

/// Stands for no column.
const NOWHERE: u32 = u32::MAX;
/// About what a row takes in memory.
const ROW_BYTES: usize = 24;
/// About what a series takes beside its rows: its column, and what lists of times, values and batches cost at the least.
const COLUMN_BYTES: usize = size_of::<HotColumn>() + 96;
/// So many series take nothing that counts.
const COLUMNS_FREE: usize = 1_000;

/// Readings of one series that came in one run.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Times in ns since 1970.
    pub times: &'a [i64],
    /// As many values, as words of `boxes`.
    pub values: &'a [f64],
    /// What the boxed words stand for.
    pub boxes: &'a Boxes,
    /// The rows of each seq of the run, whose sum is the length of the others.
    pub rows_per_seq: &'a [u32],
}

impl Hot {
    /// The number here of an agent's epoch, for [`Hot::push`].
    pub fn origin(&mut self, agent: &AgentId, epoch: Epoch) -> u32 {
        self.origins.number(agent, epoch)
    }

    /// Adds readings of a series, from a run of `origin` that begins with `first`; `newest_ns` is the latest time that is
    /// known of the series. Tells which of them came late.
    pub fn push(
        &mut self,
        id: SeriesId,
        origin: u32,
        first: Seq,
        newest_ns: Option<i64>,
        arrival: Arrival<'_>,
    ) -> Option<Late> {
        let at = id as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        let place = self.places.get_mut(at)?;
        if *place == NOWHERE {
            *place = u32::try_from(self.columns.len()).unwrap_or(NOWHERE);
            self.columns.push(HotColumn::default());
        }
        let column = self.columns.get_mut(*place as usize)?;
        let late = late(newest_ns, arrival.times);
        column.late += late.map_or(0, |late| late.rows);
        let before = column.rows.boxes.bytes();
        column.push(arrival.times, arrival.values, arrival.boxes);
        self.boxed_bytes += column.rows.boxes.bytes() - before;
        for (rows, seq) in arrival.rows_per_seq.iter().zip(first.get()..) {
            column.trail.add(origin, seq, *rows);
        }
        self.rows += arrival.times.len();
        late
    }

    /// Shows all rows of an agent's epoch, with the series and the seq of each, and what its value is told by.
    pub fn each_of(&self, agent: &AgentId, epoch: Epoch, mut visit: impl FnMut(SeriesId, u64, i64, u64)) {
        let Some(origin) = self.origins.find(agent, epoch) else { return };
        for (id, column) in self.by_series() {
            let rows = column.rows.times.iter().zip(&column.rows.values);
            for ((time, value), (from, seq)) in rows.zip(column.trail.rows()) {
                if from == origin {
                    visit(id, seq, *time, column.rows.boxes.print(*value));
                }
            }
        }
    }

    /// Shows the batches of a series: origin, seq and rows.
    pub fn each_batch(&self, id: SeriesId, visit: impl FnMut(u32, u64, u32)) {
        if let Some(column) = self.column(id) {
            column.trail.each(visit);
        }
    }

    /// The number here of an agent's epoch that has rows.
    #[must_use]
    pub fn find_origin(&self, agent: &AgentId, epoch: Epoch) -> Option<u32> {
        self.origins.find(agent, epoch)
    }

    /// How many rows of all series.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows would take the memory that these take with their texts and the like.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.rows
            + (self.boxed_bytes + self.columns.len().saturating_sub(COLUMNS_FREE) * COLUMN_BYTES) / ROW_BYTES
    }

    fn column(&self, id: SeriesId) -> Option<&HotColumn> {
        self.places.get(id as usize).and_then(|place| self.columns.get(*place as usize))
    }

    /// Ascending.
    fn by_series(&self) -> impl Iterator<Item = (SeriesId, &HotColumn)> {
        let places = (0..).zip(&self.places);
        places.filter_map(|(id, place)| Some((id, self.columns.get(*place as usize)?)))
    }

    /// Shows the rows of a series in `from..to`, in order of arrival, as numbers: NaN where there is none.
    pub fn each(&self, id: SeriesId, from_ns: i64, to_ns: i64, mut visit: impl FnMut(&[i64], &[f64])) {
        if let Some(column) = self.column(id) {
            column.each(from_ns, to_ns, |times, words| visit(times, &column.rows.boxes.numbers(words)));
        }
    }

    /// Appends rows of a series in `from..to` to `out`, in order of arrival: at least the `most` that
    /// come first in time.
    pub fn copy(&self, id: SeriesId, from_ns: i64, to_ns: i64, most: usize, out: &mut Rows) {
        let Some(column) = self.column(id) else { return };
        column.each(from_ns, to_ns, |times, words| {
            let taken = times.len().min(most);
            let (times, words) = (times.get(..taken).unwrap_or(&[]), words.get(..taken).unwrap_or(&[]));
            out.extend(times, words, &column.rows.boxes);
        });
    }

    /// The latest time of a series here.
    #[must_use]
    pub fn last_ns(&self, id: SeriesId) -> Option<i64> {
        self.column(id).and_then(HotColumn::last_ns)
    }

    /// The series that have rows, ascending.
    pub fn series(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.by_series().filter(|(_, column)| !column.rows.times.is_empty()).map(|(id, _)| id)
    }

    /// What is known of a series here.
    #[must_use]
    pub fn stats(&self, id: SeriesId) -> SeriesStats {
        self.column(id).map(HotColumn::stats).unwrap_or_default()
    }

    /// Each series of a part that has rows, ascending, sorted by time, with the number of the batch of each row.
    pub fn sorted<'a>(
        &'a self,
        part: &'a Part,
        batches: &'a Batches,
    ) -> impl Iterator<Item = (SeriesId, Rows, Vec<u32>)> + 'a {
        let origins = batches.of(&self.origins);
        let wanted = |id: SeriesId| part.series.as_ref().is_none_or(|own| own.binary_search(&id).is_ok());
        let own = self.by_series().filter(move |(id, column)| !column.rows.times.is_empty() && wanted(*id));
        own.map(move |(id, column)| {
            let mut rows = column.rows.clone();
            let mut numbers = column.trail.numbers(&origins);
            rows.sort_with(&mut numbers);
            (id, rows, numbers)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_later_minute_is_late() {
        let quarter = MINUTE_NS / 4;
        let at = |quarters: &[i64]| quarters.iter().map(|at| at * quarter).collect::<Vec<_>>();
        for (newest, quarters, expected) in [
            (None, &[][..], None),
            (None, &[5, 6, 9], None),
            (None, &[9, 6, 5, 8, 9], Some((2, 5, 6))),
            (Some(8), &[8, 9, 10], None),
            (Some(11), &[8, 9, 10], None),
            (Some(12), &[8, 9, 10, 12, 3], Some((4, 3, 10))),
            (Some(12), &[16, 15, 16], Some((1, 15, 15))),
        ] {
            let expected =
                expected.map(|(rows, from, to)| Late { rows, from_ns: from * quarter, to_ns: to * quarter });
            assert_eq!(
                late(newest.map(|at| at * quarter), &at(quarters)),
                expected,
                "{newest:?} {quarters:?}"
            );
        }
    }
}
