//! Sliding windows of one key: its readings, each looking back.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::key::{Fired, Need, Plan};
use crate::aggregate::{Partial, Row, Span, insert, is_usable};

/// Readings by (time, arrival).
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Sliding {
    #[n(0)]
    rows: Vec<Row>,
    /// The last reading of what is no longer kept, if a mean over time needs it.
    #[n(1)]
    carry: Option<Row>,
    /// The times of readings that came after their window was closed; empty between events.
    #[cbor(skip)]
    late: BTreeSet<i64>,
    /// The first and the last of the readings that came too late, for each stretch as long as a window.
    #[n(2)]
    past: Option<BTreeMap<i64, (i64, i64)>>,
    /// The stretches of those that are to be asked for; empty between readings.
    #[cbor(skip)]
    asked: Vec<i64>,
}

/// The start of the stretch of a time: windows of any time between two readings in it, and so long after the second, have
/// one of the two.
fn stretch(time_ns: i64, length_ns: i64) -> i64 {
    let length_ns = length_ns.max(1);
    time_ns.div_euclid(length_ns).saturating_mul(length_ns)
}

impl Sliding {
    /// What it takes to hold a reading of this time, or that its window is gone.
    pub fn need(time_ns: i64, watermark_ns: i64, plan: Plan<'_>) -> Option<Need> {
        let is_kept = time_ns.saturating_add(1).saturating_add(plan.allowed_ns) > watermark_ns;
        is_kept.then_some(Need { cells: 0, rows: 1 })
    }

    pub fn insert(&mut self, row: Row, watermark_ns: i64) {
        insert(&mut self.rows, row);
        if row.0 < watermark_ns {
            self.late.insert(row.0);
        }
    }

    /// What it takes to hold that a reading came for windows that are gone, and what these are called.
    pub fn past_need(&self, time_ns: i64, watermark_ns: i64, plan: Plan<'_>, length_ns: i64) -> (Need, i64) {
        let is_held = time_ns >= kept_from(watermark_ns, plan, length_ns);
        let called_ns = stretch(time_ns, length_ns);
        let is_known = self.past.as_ref().is_some_and(|past| past.contains_key(&called_ns));
        (Need { cells: u64::from(!is_known), rows: u64::from(is_held) }, called_ns)
    }

    /// Notes that such a reading came. Windows that are not closed yet may look back on it.
    pub fn insert_past(&mut self, row: Row, watermark_ns: i64, plan: Plan<'_>, length_ns: i64) {
        if row.0 >= kept_from(watermark_ns, plan, length_ns) {
            insert(&mut self.rows, row);
        }
        let called_ns = stretch(row.0, length_ns);
        let range = self.past.get_or_insert_default().entry(called_ns).or_insert((row.0, row.0));
        *range = (range.0.min(row.0), range.1.max(row.0));
        self.asked.push(called_ns);
    }

    pub fn take_notes(&mut self) -> Vec<Fired> {
        self.asked.drain(..).map(Fired::Wanted).collect()
    }

    /// From where to where the windows look that a stretch of late readings is in.
    pub fn extent(&self, called_ns: i64, length_ns: i64) -> Option<(i64, i64)> {
        let (first, last) = self.past.as_ref()?.get(&called_ns)?;
        Some((first.saturating_sub(length_ns), last.saturating_add(length_ns).saturating_add(1)))
    }

    /// Gives the windows of a stretch that are closed; the others have its readings here.
    pub fn refill(
        &mut self,
        called_ns: i64,
        found: &[Row],
        closed_to_ns: i64,
        plan: Plan<'_>,
        length_ns: i64,
        fire: &mut impl FnMut(Fired),
    ) {
        let Some(past) = &mut self.past else { return };
        let Some((first, last)) = past.remove(&called_ns) else { return };
        if past.is_empty() {
            self.past = None;
        }
        let all = Self { rows: found.to_vec(), ..Self::default() };
        let end = last.saturating_add(length_ns).saturating_add(1).min(closed_to_ns);
        let times: BTreeSet<i64> = all.within(first, end).iter().map(|row| row.0).collect();
        times.iter().filter_map(|time| all.window(*time, true, plan, length_ns)).for_each(fire);
    }

    /// Gives what late readings changed, then what the watermark closes, and lets go what is no longer kept.
    pub fn advance(
        &mut self,
        (from, to): (i64, i64),
        plan: Plan<'_>,
        length_ns: i64,
        fire: &mut impl FnMut(Fired),
    ) {
        let again = self.changed(from, plan, length_ns);
        let closed: BTreeSet<i64> = self.within(from, to).iter().map(|row| row.0).collect();
        for (times, late) in [(again, true), (closed, false)] {
            times.iter().filter_map(|time| self.window(*time, late, plan, length_ns)).for_each(&mut *fire);
        }
        let kept_from = kept_from(to, plan, length_ns);
        let gone = self.rows.partition_point(|row| row.0 < kept_from);
        if let Some(last) = self.rows.drain(..gone).next_back().filter(|_| plan.timed) {
            self.carry = Some(last);
        }
    }

    /// The times of closed windows that have one of the late readings of this event in them, or just before them.
    fn changed(&mut self, closed_to: i64, plan: Plan<'_>, length_ns: i64) -> BTreeSet<i64> {
        let mut times = BTreeSet::new();
        let mut done_to = i64::MIN;
        for late_ns in std::mem::take(&mut self.late) {
            let last = if plan.timed {
                // It is now the value that holds at the start of the windows from here to the next reading.
                let after = self.rows.partition_point(|row| row.0 <= late_ns);
                self.rows.get(after).map_or(late_ns, |next| next.0)
            } else {
                late_ns
            };
            let end = last.saturating_add(length_ns).saturating_add(1).min(closed_to);
            times.extend(self.within(late_ns.max(done_to), end).iter().map(|row| row.0));
            done_to = done_to.max(end);
        }
        times
    }

    /// The readings from one time up to, and without, another.
    fn within(&self, from: i64, to: i64) -> &[Row] {
        let first = self.rows.partition_point(|row| row.0 < from);
        let end = self.rows.partition_point(|row| row.0 < to);
        self.rows.get(first..end).unwrap_or_default()
    }

    fn window(&self, time_ns: i64, late: bool, plan: Plan<'_>, length_ns: i64) -> Option<Fired> {
        let (start_ns, end_ns) = (time_ns.saturating_sub(length_ns), time_ns.saturating_add(1));
        let whole = Partial::of(self.within(start_ns, end_ns), plan.timed)?;
        let first = self.rows.partition_point(|row| row.0 < start_ns);
        let earlier = first.checked_sub(1).and_then(|at| self.rows.get(at)).copied();
        let before = earlier.or(self.carry).map(|row| row.1);
        let values = whole.values(plan.fields, Span { before, start_ns, end_ns: time_ns });
        Some(Fired::Window { start_ns, end_ns, late, values })
    }

    pub fn held(&self) -> Need {
        let cells = self.past.as_ref().map_or(0, BTreeMap::len) as u64;
        Need { cells, rows: self.rows.len() as u64 }
    }

    /// Whether this can be a state.
    pub fn check(&self, plan: Plan<'_>, length_ns: i64) -> bool {
        let carried = self.carry.is_none_or(|row| {
            plan.timed && is_usable(row) && self.rows.first().is_none_or(|first| row.0 < first.0)
        });
        let past = self.past.iter().flatten().all(|(called_ns, (first, last))| {
            first <= last && [first, last].iter().all(|time| stretch(**time, length_ns) == *called_ns)
        });
        carried && past && is_sorted(&self.rows)
    }
}

/// From where on readings are held: windows that are kept look back so far.
const fn kept_from(watermark_ns: i64, plan: Plan<'_>, length_ns: i64) -> i64 {
    watermark_ns.saturating_sub(plan.allowed_ns).saturating_sub(length_ns)
}

/// Whether these are readings by time.
pub fn is_sorted(rows: &[Row]) -> bool {
    rows.iter().all(|row| is_usable(*row)) && rows.is_sorted_by_key(|row| row.0)
}
