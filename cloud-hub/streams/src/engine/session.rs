//! Sessions of one key.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::key::{Fired, Need, Plan};
use crate::aggregate::{Partial, Row, Span};
use crate::limits::{PAST_SESSION_READINGS, PAST_SESSIONS_MAX, READING_BYTES, WANTED_BYTES};

/// What it takes to ask for a session, in readings.
const WANTED_READINGS: u64 = WANTED_BYTES / READING_BYTES;

/// Sessions by the time of their first reading; no two are less than the gap apart.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Sessions {
    #[n(0)]
    sessions: BTreeMap<i64, Session>,
    /// Those that are no longer kept, with `update`: where they were, so that what comes late finds them. By their start.
    #[n(1)]
    past: Option<BTreeMap<i64, Past>>,
    /// Before this time it is not known any more where they were.
    #[n(2)]
    past_from_ns: Option<i64>,
    /// What is to be asked of the history, or not any more, in this order; empty between readings.
    #[cbor(skip)]
    notes: Vec<Fired>,
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
    /// A part of it is no longer kept, so that it is given from the history.
    #[n(3)]
    reach: Option<Reach>,
}

/// How far a session reaches back into what is no longer kept.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Reach {
    #[n(0)]
    start_ns: i64,
    /// Start and end of all that was given and is part of it.
    #[n(1)]
    given: Vec<(i64, i64)>,
    /// Whether it is asked for; while it is not there must be room for that.
    #[n(2)]
    asked: bool,
}

/// A session that is no longer kept, or what late readings made of it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Past {
    #[n(0)]
    end_ns: i64,
    /// Start and end of all that was given and is part of it.
    #[n(1)]
    given: Vec<(i64, i64)>,
}

impl Session {
    const fn end(&self, gap_ns: i64) -> i64 {
        self.partial.last().0.saturating_add(gap_ns)
    }

    /// Its start, also where that is no longer kept.
    fn start(&self) -> i64 {
        let own_ns = self.partial.first().0;
        self.reach.as_ref().map_or(own_ns, |reach| reach.start_ns.min(own_ns))
    }
}

impl Sessions {
    /// The starts of the sessions that a reading of this time belongs to: at most one on either side.
    fn near(&self, time_ns: i64, gap_ns: i64) -> (Option<i64>, Option<i64>) {
        let before = self.sessions.range(..=time_ns).next_back();
        let after = self.sessions.range(time_ns.saturating_add(1)..).next();
        (
            before.filter(|(_, session)| time_ns < session.end(gap_ns)).map(|(start, _)| *start),
            after
                .filter(|(_, session)| session.start() < time_ns.saturating_add(gap_ns))
                .map(|(start, _)| *start),
        )
    }

    /// What it takes to hold a reading of this time, or that its session is gone.
    pub fn need(&self, time_ns: i64, watermark_ns: i64, plan: Plan<'_>, gap_ns: i64) -> Option<Need> {
        let (before, after) = self.near(time_ns, gap_ns);
        let ends = [before, after].into_iter().flatten().filter_map(|start| self.sessions.get(&start));
        let end = ends.map(|session| session.end(gap_ns)).fold(time_ns.saturating_add(gap_ns), i64::max);
        (end.saturating_add(plan.allowed_ns) > watermark_ns).then(|| Need {
            cells: u64::from(before.is_none() && after.is_none()),
            rows: u64::from(plan.timed).saturating_add(self.reserve(time_ns, plan, gap_ns)),
        })
    }

    /// What it takes to ask for the session later, if a reading makes it reach back.
    fn reserve(&self, time_ns: i64, plan: Plan<'_>, gap_ns: i64) -> u64 {
        let reaches = plan.updates && self.past_near(time_ns, gap_ns).next().is_some();
        if reaches { WANTED_READINGS } else { 0 }
    }

    pub fn insert(&mut self, row: Row, plan: Plan<'_>, gap_ns: i64) {
        let (before, after) = self.near(row.0, gap_ns);
        let before = before.and_then(|start| self.sessions.remove(&start));
        let after = after.and_then(|start| self.sessions.remove(&start));
        if let Some((after, end_ns)) = after.as_ref().and_then(|after| Some((after, after.given_end_ns?))) {
            // It has another start from now on.
            self.withdrawn.push((after.partial.first().0, end_ns));
        }
        let mut given_end_ns = before.as_ref().and_then(|before| before.given_end_ns);
        let mut reach = self.reach(row.0, before.as_ref(), after.as_ref(), plan, gap_ns);
        if let (Some(reach), Some(before)) = (&mut reach, &before) {
            // All that is to be withdrawn, once the whole is given, stands in one place.
            reach.given.extend(given_end_ns.take().map(|end_ns| (before.partial.first().0, end_ns)));
        }
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
        self.sessions.insert(partial.first().0, Session { partial, given_end_ns, changed: true, reach });
    }

    /// How far back a session reaches that a reading makes of its neighbours, and of what is no longer kept.
    fn reach(
        &mut self,
        time_ns: i64,
        before: Option<&Session>,
        after: Option<&Session>,
        plan: Plan<'_>,
        gap_ns: i64,
    ) -> Option<Reach> {
        let near = [before, after].into_iter().flatten();
        let start_ns = near.clone().map(Session::start).fold(time_ns, i64::min);
        let mut parts: Vec<(i64, Vec<(i64, i64)>)> = near
            .filter_map(|session| session.reach.clone())
            .map(|reach| (reach.start_ns, reach.given))
            .collect();
        if plan.updates {
            parts
                .extend(self.take_past(time_ns, gap_ns).into_iter().map(|(start, past)| (start, past.given)));
        }
        let start_ns = parts.iter().map(|(start_ns, _)| *start_ns).min()?.min(start_ns);
        // The whole is asked for once it is closed.
        self.notes.extend(parts.iter().map(|(part_ns, _)| Fired::Unwanted(*part_ns)));
        let given = parts.into_iter().flat_map(|(_, given)| given).collect();
        Some(Reach { start_ns, given, asked: false })
    }

    /// The sessions that are no longer kept and that a reading of this time belongs to.
    fn past_near(&self, time_ns: i64, gap_ns: i64) -> impl Iterator<Item = i64> {
        let before =
            self.past.iter().flat_map(move |past| past.range(..time_ns.saturating_add(gap_ns)).rev());
        before.take_while(move |(_, past)| past.end_ns > time_ns).map(|(start, _)| *start)
    }

    fn take_past(&mut self, time_ns: i64, gap_ns: i64) -> Vec<(i64, Past)> {
        let near: Vec<i64> = self.past_near(time_ns, gap_ns).collect();
        let Some(past) = &mut self.past else { return Vec::new() };
        near.into_iter().filter_map(|start| past.remove_entry(&start)).collect()
    }

    /// What it takes to hold that a reading came for a session that is no longer kept, and what that is called; none where it
    /// is not known any more where it was.
    pub fn past_need(&self, time_ns: i64, gap_ns: i64) -> Option<(Need, i64)> {
        let start_ns = self.past_near(time_ns, gap_ns).fold(time_ns, i64::min);
        let is_known = self.past_from_ns.is_none_or(|from_ns| time_ns >= from_ns);
        is_known.then_some((Need { cells: 0, rows: PAST_SESSION_READINGS }, start_ns))
    }

    /// Notes that such a reading came.
    pub fn insert_past(&mut self, time_ns: i64, gap_ns: i64) {
        let near = self.take_past(time_ns, gap_ns);
        let start_ns = near.iter().map(|(start_ns, _)| *start_ns).fold(time_ns, i64::min);
        let end_ns = near.iter().map(|(_, past)| past.end_ns).fold(time_ns.saturating_add(gap_ns), i64::max);
        let moved = near.iter().filter(|(part_ns, _)| *part_ns != start_ns);
        self.notes.extend(moved.map(|(part_ns, _)| Fired::Unwanted(*part_ns)));
        let given = near.into_iter().flat_map(|(_, past)| past.given).collect();
        self.notes.push(Fired::Wanted(start_ns));
        self.past.get_or_insert_default().insert(start_ns, Past { end_ns, given });
    }

    pub fn take_notes(&mut self) -> Vec<Fired> {
        std::mem::take(&mut self.notes)
    }

    /// The end of the session that is asked for by its start.
    pub fn extent(&self, start_ns: i64, gap_ns: i64) -> Option<i64> {
        let past = self.past.as_ref().and_then(|past| past.get(&start_ns)).map(|past| past.end_ns);
        past.or_else(|| {
            let (_, session) = self.sessions.range(start_ns..).next()?;
            (session.reach.is_some() && session.start() == start_ns).then(|| session.end(gap_ns))
        })
    }

    /// Gives a session from the history, after what was given of its parts is withdrawn.
    pub fn refill(
        &mut self,
        start_ns: i64,
        found: &[Row],
        plan: Plan<'_>,
        gap_ns: i64,
        fire: &mut impl FnMut(Fired),
    ) {
        let Some(end_ns) = self.extent(start_ns, gap_ns) else { return };
        let past = self.past.as_mut().and_then(|past| past.get_mut(&start_ns)).map(|past| &mut past.given);
        let given = past.or_else(|| {
            let (_, session) = self.sessions.range_mut(start_ns..).next()?;
            let reach = session.reach.as_mut()?;
            reach.asked = false;
            Some(&mut reach.given)
        });
        let (Some(given), Some(partial)) = (given, Partial::of(found, false)) else { return };
        given.sort_unstable();
        for (start_ns, end_ns) in given.drain(..).filter(|(part_ns, _)| *part_ns != start_ns) {
            fire(Fired::Withdrawn { start_ns, end_ns });
        }
        let values = partial.values(plan.fields, Span { before: None, start_ns, end_ns: partial.last().0 });
        fire(Fired::Window { start_ns, end_ns, late: true, values });
        given.push((start_ns, end_ns));
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
        let mut gone = Vec::new();
        let rows = &mut self.rows;
        self.sessions.retain(|start, session| {
            let (start_ns, end_ns, from_ns) = (*start, session.end(gap_ns), session.start());
            if end_ns > to {
                return true;
            }
            if let Some(reach) = session.reach.as_mut().filter(|_| session.changed) {
                fire(Fired::Wanted(reach.start_ns));
                (reach.asked, session.changed) = (true, false);
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
                let given =
                    session.reach.take().map_or_else(|| vec![(start_ns, end_ns)], |reach| reach.given);
                gone.push((from_ns, Past { end_ns, given }));
            }
            is_kept
        });
        if plan.updates && !gone.is_empty() {
            self.remember(gone, fire);
        }
    }

    /// Remembers where sessions were that are no longer kept, of so many the newest.
    fn remember(&mut self, gone: Vec<(i64, Past)>, fire: &mut impl FnMut(Fired)) {
        let past = self.past.get_or_insert_default();
        past.extend(gone);
        while past.len() > PAST_SESSIONS_MAX {
            let Some((start_ns, oldest)) = past.pop_first() else { break };
            self.past_from_ns = self.past_from_ns.max(Some(oldest.end_ns));
            fire(Fired::Unwanted(start_ns));
        }
    }

    pub fn held(&self) -> Need {
        let Some(past) = &self.past else {
            return Need { cells: self.sessions.len() as u64, rows: self.rows };
        };
        let past = past.len() as u64;
        let asks = |session: &&Session| session.reach.as_ref().is_some_and(|reach| !reach.asked);
        let reserved = self.sessions.values().filter(asks).count() as u64;
        let rows = self.rows.saturating_add(past.saturating_mul(PAST_SESSION_READINGS));
        let rows = rows.saturating_add(reserved.saturating_mul(WANTED_READINGS));
        Need { cells: self.sessions.len() as u64, rows }
    }

    /// Whether this can be a state; counts what is in it.
    pub fn check(&mut self, plan: Plan<'_>, gap_ns: i64) -> bool {
        self.rows = self.sessions.values().map(|session| session.partial.rows().len() as u64).sum();
        let mut past_to = i64::MIN;
        let past = self.past.iter().flatten().all(|(start, past)| {
            let apart = past_to <= *start && *start < past.end_ns;
            past_to = past.end_ns;
            apart
        });
        let mut free_from = i64::MIN;
        past && self.sessions.iter().all(|(start, session)| {
            let last_ns = session.partial.last().0;
            let apart = free_from <= session.start() && *start == session.partial.first().0;
            free_from = session.end(gap_ns);
            apart && session.partial.is_sound(*start, last_ns.saturating_add(1), plan.timed)
        })
    }
}
