//! Sessions of one key.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::key::{Fired, Need, Plan};
use crate::aggregate::{Partial, Row, Span};

/// Sessions by the time of their first reading; no two are less than the gap apart.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Sessions {
    #[n(0)]
    sessions: BTreeMap<i64, Session>,
    /// The readings in the sessions.
    #[cbor(skip)]
    rows: u64,
    /// Start and end of what was given and is part of another now; empty between events.
    #[cbor(skip)]
    withdrawn: Vec<(i64, i64)>,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Session {
    #[n(0)]
    partial: Partial,
    /// The end with which it was last given.
    #[n(1)]
    given_end_ns: Option<i64>,
    /// It has readings that it was not given with.
    #[n(2)]
    changed: bool,
}

impl Session {
    const fn end(&self, gap_ns: i64) -> i64 {
        self.partial.last().0.saturating_add(gap_ns)
    }
}

impl Sessions {
    /// The starts of the sessions that a reading of this time belongs to: at most one on either side.
    fn near(&self, time_ns: i64, gap_ns: i64) -> (Option<i64>, Option<i64>) {
        let before = self.sessions.range(..=time_ns).next_back();
        let after = self.sessions.range(time_ns.saturating_add(1)..).next();
        (
            before.filter(|(_, session)| time_ns < session.end(gap_ns)).map(|(start, _)| *start),
            after.filter(|(start, _)| **start < time_ns.saturating_add(gap_ns)).map(|(start, _)| *start),
        )
    }

    /// What it takes to hold a reading of this time, or that its session is gone.
    pub fn need(&self, time_ns: i64, watermark_ns: i64, plan: Plan<'_>, gap_ns: i64) -> Option<Need> {
        let (before, after) = self.near(time_ns, gap_ns);
        let ends = [before, after].into_iter().flatten().filter_map(|start| self.sessions.get(&start));
        let end = ends.map(|session| session.end(gap_ns)).fold(time_ns.saturating_add(gap_ns), i64::max);
        (end.saturating_add(plan.allowed_ns) > watermark_ns).then(|| Need {
            cells: u64::from(before.is_none() && after.is_none()),
            rows: u64::from(plan.timed),
        })
    }

    pub fn insert(&mut self, row: Row, plan: Plan<'_>, gap_ns: i64) {
        let (before, after) = self.near(row.0, gap_ns);
        let before = before.and_then(|start| self.sessions.remove(&start));
        let after = after.and_then(|start| self.sessions.remove(&start));
        if let Some((after, end_ns)) = after.as_ref().and_then(|after| Some((after, after.given_end_ns?))) {
            // It has another start from now on.
            self.withdrawn.push((after.partial.first().0, end_ns));
        }
        let given_end_ns = before.as_ref().and_then(|before| before.given_end_ns);
        let partial = match (before, after) {
            (None, None) => Partial::one(row, plan.timed),
            (Some(Session { mut partial, .. }), None) | (None, Some(Session { mut partial, .. })) => {
                partial.push(row, plan.timed);
                partial
            }
            (Some(Session { mut partial, .. }), Some(after)) => {
                partial.push(row, plan.timed);
                partial.merge(&after.partial);
                partial
            }
        };
        self.rows += u64::from(plan.timed);
        self.sessions.insert(partial.first().0, Session { partial, given_end_ns, changed: true });
    }

    /// Gives what is void, then what is closed and was not given as it is, and lets go what is no longer kept.
    pub fn advance(
        &mut self,
        (from, to): (i64, i64),
        plan: Plan<'_>,
        gap_ns: i64,
        fire: &mut impl FnMut(Fired),
    ) {
        for (start_ns, end_ns) in std::mem::take(&mut self.withdrawn) {
            fire(Fired::Withdrawn { start_ns, end_ns });
        }
        let rows = &mut self.rows;
        self.sessions.retain(|start, session| {
            let (start_ns, end_ns) = (*start, session.end(gap_ns));
            if end_ns > to {
                return true;
            }
            if session.changed {
                let late = session.given_end_ns.is_some() || end_ns <= from;
                let span = Span { before: None, start_ns, end_ns: session.partial.last().0 };
                let values = session.partial.values(plan.fields, span);
                fire(Fired::Window { start_ns, end_ns, late, values });
                (session.given_end_ns, session.changed) = (Some(end_ns), false);
            }
            let is_kept = end_ns.saturating_add(plan.allowed_ns) > to;
            if !is_kept {
                *rows = rows.saturating_sub(session.partial.rows().len() as u64);
            }
            is_kept
        });
    }

    pub fn held(&self) -> Need {
        Need { cells: self.sessions.len() as u64, rows: self.rows }
    }

    /// Whether this can be a state; counts what is in it.
    pub fn check(&mut self, plan: Plan<'_>, gap_ns: i64) -> bool {
        self.rows = self.sessions.values().map(|session| session.partial.rows().len() as u64).sum();
        let mut free_from = i64::MIN;
        self.sessions.iter().all(|(start, session)| {
            let last_ns = session.partial.last().0;
            let apart = free_from <= *start && *start == session.partial.first().0;
            free_from = session.end(gap_ns);
            apart && session.partial.is_sound(*start, last_ns.saturating_add(1), plan.timed)
        })
    }
}
