//! Tumbling and hopping windows of one key: a partial aggregate per hop, and windows put together from these.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::key::{Fired, Need, Plan};
use crate::aggregate::{Partial, Row, Span, is_usable};

/// Slices by their start.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Fixed {
    #[n(0)]
    slices: BTreeMap<i64, Partial>,
    /// The last reading of what is no longer kept, if a mean over time needs it.
    #[n(1)]
    carry: Option<Row>,
    /// The readings in the slices.
    #[cbor(skip)]
    rows: u64,
    /// Slices that took readings after one of their windows was closed, with the latest time of these; empty
    /// between events.
    #[cbor(skip)]
    late: BTreeMap<i64, i64>,
}

/// The lengths of the windows.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub length_ns: i64,
    pub hop_ns: i64,
}

impl Lengths {
    pub const fn slice(self, time_ns: i64) -> i64 {
        time_ns.div_euclid(self.hop_ns).saturating_mul(self.hop_ns)
    }

    pub const fn end(self, start_ns: i64) -> i64 {
        start_ns.saturating_add(self.length_ns)
    }

    const fn first_start(self, slice: i64) -> i64 {
        slice.saturating_sub(self.length_ns).saturating_add(self.hop_ns)
    }

    /// The starts of the windows that hold a slice, ascending.
    pub fn starts(self, slice: i64) -> impl Iterator<Item = i64> {
        self.between(self.first_start(slice), slice)
    }

    /// From one start to another, both included.
    fn between(self, first: i64, last: i64) -> impl Iterator<Item = i64> {
        std::iter::successors(Some(first), move |start| start.checked_add(self.hop_ns))
            .take_while(move |start| *start <= last)
    }

    /// The windows of a time that are no longer kept.
    pub fn expired(self, time_ns: i64, watermark_ns: i64, allowed_ns: i64) -> impl Iterator<Item = i64> {
        self.starts(self.slice(time_ns))
            .take_while(move |start| self.end(*start).saturating_add(allowed_ns) <= watermark_ns)
    }
}

impl Fixed {
    /// What it takes to hold a reading of this time, or that all its windows are gone.
    pub fn need(&self, time_ns: i64, watermark_ns: i64, plan: Plan<'_>, of: Lengths) -> Option<Need> {
        let slice = of.slice(time_ns);
        let is_kept = of.end(slice).saturating_add(plan.allowed_ns) > watermark_ns;
        is_kept.then(|| Need {
            cells: u64::from(!self.slices.contains_key(&slice)),
            rows: u64::from(plan.timed),
        })
    }

    pub fn insert(&mut self, row: Row, watermark_ns: i64, plan: Plan<'_>, of: Lengths) {
        let slice = of.slice(row.0);
        self.slices
            .entry(slice)
            .and_modify(|partial| partial.push(row, plan.timed))
            .or_insert_with(|| Partial::one(row, plan.timed));
        self.rows += u64::from(plan.timed);
        // The first of its windows to end has its last hop in this slice.
        if slice.saturating_add(of.hop_ns) <= watermark_ns {
            let latest = self.late.entry(slice).or_insert(row.0);
            *latest = (*latest).max(row.0);
        }
    }

    /// Gives what late readings changed, then what the watermark closes, and lets go what is no longer kept.
    pub fn advance(
        &mut self,
        (from, to): (i64, i64),
        plan: Plan<'_>,
        of: Lengths,
        fire: &mut impl FnMut(Fired),
    ) {
        let again = self.changed(from, plan, of);
        let closed = self.closing(from, to, of);
        for (starts, late) in [(again, true), (closed, false)] {
            starts.iter().filter_map(|start| self.window(*start, late, plan, of)).for_each(&mut *fire);
        }
        while let Some(oldest) = self.slices.first_entry() {
            if of.end(*oldest.key()).saturating_add(plan.allowed_ns) > to {
                break;
            }
            let partial = oldest.remove();
            self.rows = self.rows.saturating_sub(partial.rows().len() as u64);
            if plan.timed {
                self.carry = Some(partial.last());
            }
        }
    }

    /// The starts of windows with readings that end after one time and at the latest at another. Most events
    /// close none, and cost nothing then, however many slices there are.
    fn closing(&self, from: i64, to: i64, of: Lengths) -> BTreeSet<i64> {
        let first = of.slice(from.saturating_sub(of.length_ns)).saturating_add(of.hop_ns);
        let last = of.slice(to.saturating_sub(of.length_ns));
        if first > last {
            return BTreeSet::new();
        }
        let slices = self.slices.range(first..last.saturating_add(of.length_ns)).map(|(slice, _)| *slice);
        let starts = |slice: i64| of.between(first.max(of.first_start(slice)), last.min(slice));
        slices.flat_map(starts).collect()
    }

    /// The starts of closed windows that the late readings of this event are part of, or before the first reading of.
    fn changed(&mut self, closed_to: i64, plan: Plan<'_>, of: Lengths) -> BTreeSet<i64> {
        let mut starts = BTreeSet::new();
        for (slice, latest) in std::mem::take(&mut self.late) {
            let kept = |start: &i64| of.end(*start).saturating_add(plan.allowed_ns) > closed_to;
            starts.extend(of.starts(slice).filter(kept));
            let is_last = self.slices.get(&slice).is_some_and(|partial| partial.last().0 == latest);
            if !plan.timed || !is_last {
                continue;
            }
            // It is now the value that holds at the start of the windows from here to the next reading.
            let Some((_, next)) = self.slices.range(slice.saturating_add(1)..).next() else { continue };
            let next_ns = next.first().0;
            let first = of.slice(latest.max(next_ns.saturating_sub(of.length_ns))).saturating_add(of.hop_ns);
            starts.extend(of.between(first, next_ns));
        }
        starts.retain(|start| of.end(*start) <= closed_to);
        starts
    }

    fn window(&self, start_ns: i64, late: bool, plan: Plan<'_>, of: Lengths) -> Option<Fired> {
        let end_ns = of.end(start_ns);
        let mut slices = self.slices.range(start_ns..end_ns).map(|(_, partial)| partial);
        let mut whole = slices.next()?.clone();
        slices.for_each(|partial| whole.merge(partial));
        let earlier = self.slices.range(..start_ns).next_back().map(|(_, partial)| partial.last());
        let before = earlier.or(self.carry).map(|row| row.1);
        let values = whole.values(plan.fields, Span { before, start_ns, end_ns });
        Some(Fired::Window { start_ns, end_ns, late, values })
    }

    pub fn held(&self) -> Need {
        Need { cells: self.slices.len() as u64, rows: self.rows }
    }

    /// Whether this can be a state; counts what is in it.
    pub fn check(&mut self, plan: Plan<'_>, of: Lengths) -> bool {
        self.rows = self.slices.values().map(|partial| partial.rows().len() as u64).sum();
        let carried = self.carry.is_none_or(|row| {
            plan.timed && is_usable(row) && self.slices.keys().next().is_none_or(|first| row.0 < *first)
        });
        carried
            && self.slices.iter().all(|(start, partial)| {
                of.slice(*start) == *start
                    && partial.is_sound(*start, start.saturating_add(of.hop_ns), plan.timed)
            })
    }
}
