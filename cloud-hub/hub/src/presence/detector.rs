//! Whether an agent is there: judged by when it said that it would be heard next.
//!
//! A core without I/O: `now` comes in. Call order: [`Detector::heard`] for each frame, then one of
//! [`Detector::left`], [`Detector::line_lost`] and [`Detector::shut_out`] at the end of its session;
//! [`Detector::tick`] a few times a second. Each gives the events that follow.
//!
//! ```text
//!            heard                 5 s after it was due          10 s later
//! offline ──────────▶ online ──────────────────────▶ suspect ──────────────▶ offline
//!                        ▲            heard              │
//!                        └───────────────────────────────┘     a goodbye: offline at once
//! ```
//! More than [`FLAP_CHANGES`] changes within [`FLAP_MS`] are one event, flapping; the next comes when
//! there was no change for so long.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How late a sign of life may be before its agent is suspect.
pub const LATE_MS: u64 = 5_000;
/// How much later than that it is taken for offline.
pub const SILENT_MS: u64 = 10_000;
/// When an agent is due that has not said it yet: the idle interval of those that do.
pub const DUE_MS: u64 = 15_000;
/// The longest interval that an agent is believed.
pub const DUE_MS_MAX: u64 = 600_000;
/// Changes within [`FLAP_MS`] that are told one by one: three short outages in a minute.
pub const FLAP_CHANGES: usize = 6;
/// See [`FLAP_CHANGES`].
pub const FLAP_MS: u64 = 60_000;

/// Whether an agent is there
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Heard from in time
    Online,
    /// Late
    Suspect,
    /// Gone
    Offline,
}

/// What an event tells
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The agent is online
    Online,
    /// It is late
    Suspect,
    /// It is offline
    Offline,
    /// It comes and goes: single changes are not told until it is steady
    Flapping,
}

impl From<State> for Change {
    fn from(state: State) -> Self {
        match state {
            State::Online => Self::Online,
            State::Suspect => Self::Suspect,
            State::Offline => Self::Offline,
        }
    }
}

/// Why it changed
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A session opened, or a frame came after all
    Heard,
    /// It was not heard from when it was due
    Late,
    /// Nor for a while after that
    Silent,
    /// Its session broke off, and no other was begun in time
    LineLost,
    /// It said goodbye
    Goodbye,
    /// It was shut out
    ShutOut,
    /// It was online before the hub was started again, and is not heard from since
    HubRestarted,
    /// It changed too often within a minute
    TooManyChanges,
    /// It has not changed for a minute
    Steady,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic ms.
    pub mono_ms: u64,
    /// Unix ms.
    pub wall_ms: i64,
}

/// What is told to people and programs
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresenceEvent {
    /// When (Unix ms)
    pub at_ms: i64,
    /// What
    pub change: Change,
    /// Why
    pub reason: Reason,
    /// Changes that this event stands for
    pub changes: u32,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Detector {
    state: State,
    due_ms: u64,
    interval_ms: u64,
    // Why it is late, if it will be.
    missing: Reason,
    // The moments of the last changes, at most one more than are told one by one.
    changed_ms: VecDeque<u64>,
    // Changes since it began to flap.
    flapping: Option<u32>,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            state: State::Offline,
            due_ms: 0,
            interval_ms: DUE_MS,
            missing: Reason::Late,
            changed_ms: VecDeque::new(),
            flapping: None,
        }
    }
}

impl Detector {
    /// One that was there when the hub ended. It is due as if it had just been heard.
    #[must_use]
    pub fn after_restart(now: Now) -> Self {
        Self {
            state: State::Suspect,
            due_ms: now.mono_ms.saturating_add(DUE_MS),
            missing: Reason::HubRestarted,
            ..Self::default()
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it comes and goes.
    #[must_use]
    pub const fn is_flapping(&self) -> bool {
        self.flapping.is_some()
    }

    /// Whether [`Detector::tick`] may have something to do.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.state != State::Offline || self.flapping.is_some()
    }

    /// A frame came; `next_ms` is when the agent says that the next one comes, if it does.
    pub fn heard(&mut self, now: Now, next_ms: Option<u32>) -> Option<PresenceEvent> {
        if let Some(next_ms) = next_ms {
            self.interval_ms = u64::from(next_ms).min(DUE_MS_MAX);
        }
        self.due_ms = now.mono_ms.saturating_add(self.interval_ms);
        self.missing = Reason::Late;
        self.to(now, State::Online, Reason::Heard)
    }

    /// It said goodbye.
    pub fn left(&mut self, now: Now) -> Option<PresenceEvent> {
        self.to(now, State::Offline, Reason::Goodbye)
    }

    /// It was shut out.
    pub fn shut_out(&mut self, now: Now) -> Option<PresenceEvent> {
        self.to(now, State::Offline, Reason::ShutOut)
    }

    /// Its session broke off: it is due now. Most are back before anybody needs to know.
    pub fn line_lost(&mut self, now: Now) {
        if self.state == State::Online {
            self.due_ms = self.due_ms.min(now.mono_ms);
            self.interval_ms = DUE_MS;
            self.missing = Reason::LineLost;
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> Vec<PresenceEvent> {
        let late_ms = now.mono_ms.saturating_sub(self.due_ms);
        let mut events = Vec::new();
        if self.state != State::Offline && late_ms >= LATE_MS + SILENT_MS {
            let reason = if self.missing == Reason::Late { Reason::Silent } else { self.missing };
            events.extend(self.to(now, State::Offline, reason));
        } else if self.state == State::Online && late_ms >= LATE_MS {
            events.extend(self.to(now, State::Suspect, self.missing));
        }
        let last_ms = self.changed_ms.back().copied().unwrap_or(0);
        if let Some(changes) = self.flapping
            && now.mono_ms.saturating_sub(last_ms) >= FLAP_MS
        {
            self.flapping = None;
            self.changed_ms.clear();
            events.push(event(now, self.state.into(), Reason::Steady, changes));
        }
        events
    }

    fn to(&mut self, now: Now, state: State, reason: Reason) -> Option<PresenceEvent> {
        if self.state == state {
            return None;
        }
        self.state = state;
        while self.changed_ms.front().is_some_and(|at| now.mono_ms.saturating_sub(*at) >= FLAP_MS)
            || self.changed_ms.len() > FLAP_CHANGES
        {
            self.changed_ms.pop_front();
        }
        self.changed_ms.push_back(now.mono_ms);
        if let Some(changes) = &mut self.flapping {
            *changes = changes.saturating_add(1);
            return None;
        }
        if self.changed_ms.len() > FLAP_CHANGES {
            self.flapping = Some(1);
            return Some(event(now, Change::Flapping, Reason::TooManyChanges, 1));
        }
        Some(event(now, state.into(), reason, 1))
    }
}

fn event(now: Now, change: Change, reason: Reason, changes: u32) -> PresenceEvent {
    PresenceEvent { at_ms: now.wall_ms, change, reason, changes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: i64::try_from(mono_ms).unwrap() }
    }

    fn told(events: impl IntoIterator<Item = PresenceEvent>) -> Vec<(i64, Change, Reason)> {
        events.into_iter().map(|e| (e.at_ms, e.change, e.reason)).collect()
    }

    #[test]
    fn late_is_suspect_and_silent_is_offline_by_what_the_agent_announced() {
        let mut agent = Detector::default();
        assert_eq!(told(agent.heard(at(1_000), None)), [(1_000, Change::Online, Reason::Heard)]);
        assert_eq!(agent.heard(at(2_000), Some(3_000)), None);
        assert_eq!(agent.tick(at(9_999)), []);
        assert_eq!(told(agent.tick(at(10_000))), [(10_000, Change::Suspect, Reason::Late)]);
        assert_eq!(told(agent.heard(at(11_000), None)), [(11_000, Change::Online, Reason::Heard)]);
        assert_eq!(told(agent.tick(at(19_000))), [(19_000, Change::Suspect, Reason::Late)]);
        assert_eq!(agent.tick(at(28_999)), []);
        assert_eq!(told(agent.tick(at(29_000))), [(29_000, Change::Offline, Reason::Silent)]);
    }

    #[test]
    fn a_goodbye_is_offline_at_once_and_a_lost_line_has_time_to_come_back() {
        let mut agent = Detector::default();
        agent.heard(at(0), Some(15_000));
        assert_eq!(told(agent.left(at(1))), [(1, Change::Offline, Reason::Goodbye)]);
        agent.heard(at(100), None);
        agent.line_lost(at(200));
        assert_eq!(agent.tick(at(5_199)), []);
        assert_eq!(agent.heard(at(5_199), None), None, "nobody needs to know");
        agent.line_lost(at(6_000));
        assert_eq!(told(agent.tick(at(11_000))), [(11_000, Change::Suspect, Reason::LineLost)]);
        assert_eq!(told(agent.tick(at(21_000))), [(21_000, Change::Offline, Reason::LineLost)]);
        agent.line_lost(at(30_000));
        assert_eq!(agent.tick(at(90_000)), []);
    }

    #[test]
    fn after_a_restart_of_the_hub_agents_have_time_to_come_back() {
        let mut agent = Detector::after_restart(at(0));
        assert_eq!(agent.tick(at(DUE_MS + LATE_MS + SILENT_MS - 1)), []);
        let end = agent.tick(at(DUE_MS + LATE_MS + SILENT_MS));
        assert_eq!(told(end), [(30_000, Change::Offline, Reason::HubRestarted)]);
        assert_eq!(
            told(Detector::after_restart(at(0)).heard(at(7), None)),
            [(7, Change::Online, Reason::Heard)]
        );
    }

    #[test]
    fn one_that_comes_and_goes_is_told_once_until_it_is_steady() {
        let (mut agent, mut events) = (Detector::default(), Vec::new());
        for round in 0..50 {
            events.extend(agent.heard(at(round * 1_000), Some(100)));
            events.extend(agent.left(at(round * 1_000 + 500)));
        }
        assert_eq!(events.len(), FLAP_CHANGES + 1);
        assert_eq!(events.last().map(|e| e.change), Some(Change::Flapping));
        assert!(agent.is_flapping() && agent.is_watched());
        assert_eq!(agent.tick(at(49_500 + FLAP_MS - 1)), []);
        let end = agent.tick(at(49_500 + FLAP_MS));
        assert_eq!(told(end.clone()), [(109_500, Change::Offline, Reason::Steady)]);
        assert_eq!(usize::try_from(end[0].changes).unwrap() + FLAP_CHANGES, 100);
        assert!(!agent.is_flapping() && !agent.is_watched());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Heard(Option<u32>),
        Left,
        Lost,
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => prop::option::of(0_u32..20_000).prop_map(Step::Heard),
            1 => Just(Step::Left),
            1 => Just(Step::Lost),
            4 => (1_u64..30_000).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn it_is_never_online_when_late_and_the_events_are_few_and_say_the_state(steps in steps()) {
            let (mut agent, mut now, mut events) = (Detector::default(), 0, Vec::new());
            let (mut heard, mut interval) = (None, DUE_MS);
            for step in steps {
                match step {
                    Step::Heard(next) => {
                        if let Some(next) = next {
                            interval = u64::from(next);
                        }
                        heard = Some(now);
                        events.extend(agent.heard(at(now), next));
                        prop_assert_eq!(agent.state(), State::Online);
                    }
                    Step::Left => {
                        events.extend(agent.left(at(now)));
                        prop_assert_eq!(agent.state(), State::Offline);
                    }
                    Step::Lost => {
                        agent.line_lost(at(now));
                        interval = interval.max(DUE_MS);
                    }
                    Step::Pass(ms) => now += ms,
                }
                events.extend(agent.tick(at(now)));
                let silent = heard.map_or(u64::MAX, |heard| now - heard);
                if silent >= interval.saturating_add(LATE_MS) {
                    prop_assert_ne!(agent.state(), State::Online);
                }
                if silent >= interval.saturating_add(LATE_MS + SILENT_MS) {
                    prop_assert_eq!(agent.state(), State::Offline);
                }
                // What was told last is how it is.
                let last = events.last().map(|event: &PresenceEvent| event.change);
                let wanted = if agent.is_flapping() { Change::Flapping } else { agent.state().into() };
                prop_assert_eq!(last.unwrap_or(Change::Offline), wanted);
            }
            for (n, event) in events.iter().enumerate() {
                let end = event.at_ms + i64::try_from(FLAP_MS).unwrap();
                let within = events[n..].iter().filter(|other| other.at_ms < end).count();
                prop_assert!(within <= FLAP_CHANGES + 2, "{within} events in a minute");
            }
        }
    }
}
