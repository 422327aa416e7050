//! Who is there, and when that changed: a detector for each agent, and its last events.
//!
//! Events are kept in the registry, so that they outlive the hub; those of many agents go into one
//! write. It must never hold a session up: sessions say what happened, and a task of its own writes.

mod detector;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::model::AgentId;
use tokio::time::MissedTickBehavior;

pub use detector::{Change, Detector, Now, PresenceEvent, Reason, State};

use crate::hub::App;
use crate::metadata::{Changes, Metadata, MetadataError, PresenceRecord};

/// Events that are kept of each agent; of more the oldest go.
pub const EVENTS_MAX: usize = 100;
/// How often it is looked for who is late, and what happened is written.
const EVERY: Duration = Duration::from_millis(500);

/// Whether an agent is there, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The state.
    pub state: State,
    /// Whether it comes and goes.
    pub flapping: bool,
    /// The last event.
    pub last: Option<PresenceEvent>,
}

#[derive(Debug, Default)]
struct Entry {
    detector: Detector,
    events: VecDeque<PresenceEvent>,
    unsaved: bool,
}

impl Entry {
    fn keep(&mut self, events: impl IntoIterator<Item = PresenceEvent>) {
        for event in events {
            self.events.push_back(event);
            self.unsaved = true;
        }
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..surplus);
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The agent said goodbye.
    Goodbye,
    /// It was shut out.
    ShutOut,
    /// In any other way.
    Broken,
}

/// All agents that have ever had a session.
#[derive(Debug, Default)]
pub struct Presences {
    agents: Mutex<HashMap<AgentId, Entry>>,
}

impl Presences {
    /// What was known when the hub ended.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn load(metadata: &Metadata, now: Now) -> Result<Self, MetadataError> {
        let mut agents = HashMap::new();
        for (id, record) in metadata.list::<PresenceRecord>()? {
            let Ok(agent) = AgentId::parse(&id) else { continue };
            let events: VecDeque<PresenceEvent> = record.events.into();
            let detector = match events.back().map(|event| event.change) {
                None | Some(Change::Offline) => Detector::default(),
                Some(_) => Detector::after_restart(now),
            };
            agents.insert(agent, Entry { detector, events, unsaved: false });
        }
        Ok(Self { agents: Mutex::new(agents) })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came from an agent that has a session.
    pub fn heard(&self, agent: &AgentId, now: Now, next_ms: Option<u32>) {
        let mut agents = self.locked();
        if !agents.contains_key(agent) {
            agents.insert(agent.clone(), Entry::default());
        }
        if let Some(entry) = agents.get_mut(agent) {
            let event = entry.detector.heard(now, next_ms);
            entry.keep(event);
        }
    }

    /// The only session of an agent ended.
    pub fn ended(&self, agent: &AgentId, now: Now, end: End) {
        if let Some(entry) = self.locked().get_mut(agent) {
            let event = match end {
                End::Goodbye => entry.detector.left(now),
                End::ShutOut => entry.detector.shut_out(now),
                End::Broken => {
                    entry.detector.line_lost(now);
                    None
                }
            };
            entry.keep(event);
        }
    }

    /// Time has passed.
    pub fn tick(&self, now: Now) {
        for entry in self.locked().values_mut().filter(|entry| entry.detector.is_watched()) {
            let events = entry.detector.tick(now);
            entry.keep(events);
        }
    }

    /// Whether an agent is there; none for one that never had a session.
    #[must_use]
    pub fn shown(&self, agent: &AgentId) -> Option<Shown> {
        let agents = self.locked();
        let entry = agents.get(agent)?;
        Some(Shown {
            state: entry.detector.state(),
            flapping: entry.detector.is_flapping(),
            last: entry.events.back().cloned(),
        })
    }

    /// The last events of an agent, oldest first.
    #[must_use]
    pub fn events(&self, agent: &AgentId) -> Vec<PresenceEvent> {
        self.locked().get(agent).map(|entry| entry.events.iter().cloned().collect()).unwrap_or_default()
    }

    /// The newest events of all agents, the newest first: those before a moment and an agent, and about so many; those of
    /// one agent at one moment stay together. Says whether there are more.
    #[must_use]
    pub fn newest(
        &self,
        before: Option<&(i64, AgentId)>,
        limit: usize,
    ) -> (Vec<(AgentId, PresenceEvent)>, bool) {
        let agents = self.locked();
        let before = before.map(|(at_ms, agent)| (*at_ms, agent));
        let all = || {
            let each =
                agents.iter().flat_map(|(agent, entry)| entry.events.iter().map(move |event| (agent, event)));
            each.filter(|(agent, event)| before.is_none_or(|before| (event.at_ms, *agent) < before))
        };
        // The last of the page, without a copy of all: agents times a hundred are many.
        let mut page = BinaryHeap::new();
        let mut more = false;
        for (agent, event) in all() {
            page.push(Reverse((event.at_ms, agent)));
            if page.len() > limit {
                page.pop();
                more = true;
            }
        }
        let Some(Reverse(last)) = page.pop() else { return (Vec::new(), false) };
        let mut events: Vec<(&AgentId, &PresenceEvent)> =
            all().filter(|(agent, event)| (event.at_ms, *agent) >= last).collect();
        // Of one moment the later stands behind in its agent's list.
        events.reverse();
        events.sort_by_key(|(agent, event)| Reverse((event.at_ms, *agent)));
        let more = more && all().any(|(agent, event)| (event.at_ms, agent) < last);
        (events.into_iter().map(|(agent, event)| (agent.clone(), event.clone())).collect(), more)
    }

    /// How many agents are suspect, and how many come and go.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let agents = self.locked();
        let suspect = agents.values().filter(|entry| entry.detector.state() == State::Suspect).count();
        let flapping = agents.values().filter(|entry| entry.detector.is_flapping()).count();
        (suspect as u64, flapping as u64)
    }

    /// What is to be written.
    fn unsaved(&self) -> Vec<(AgentId, PresenceRecord)> {
        let mut agents = self.locked();
        let unsaved = agents.iter_mut().filter_map(|(agent, entry)| {
            let events = || entry.events.iter().cloned().collect();
            std::mem::take(&mut entry.unsaved).then(|| (agent.clone(), PresenceRecord { events: events() }))
        });
        unsaved.collect()
    }

    fn save_again(&self, agents: &[AgentId]) {
        let mut known = self.locked();
        for agent in agents {
            if let Some(entry) = known.get_mut(agent) {
                entry.unsaved = true;
            }
        }
    }
}

/// Looks who is late and writes what happened, until the hub stops.
pub async fn watch(hub: App) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = hub.stopped() => return save(&hub).await,
            _ = ticks.tick() => {}
        }
        hub.presences.tick(hub.now());
        save(&hub).await;
    }
}

async fn save(hub: &App) {
    let unsaved = hub.presences.unsaved();
    if unsaved.is_empty() {
        return;
    }
    let agents: Vec<AgentId> = unsaved.iter().map(|(agent, _)| agent.clone()).collect();
    let step = move |changes: &mut Changes| {
        unsaved.iter().try_for_each(|(agent, record)| changes.put(agent.as_str(), record))
    };
    if let Err(error) = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await {
        tracing::error!(%error, "presence events could not be written; they are tried again");
        hub.presences.save_again(&agents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: i64::try_from(mono_ms).unwrap() }
    }

    #[test]
    fn pages_of_events_have_each_once_and_the_newest_first() {
        let presences = Presences::default();
        for agent in ["a", "b", "c"].map(|id| AgentId::parse(id).unwrap()) {
            for n in 0..5 {
                presences.heard(&agent, at(n * 60_000), None);
                presences.ended(&agent, at(n * 60_000 + 30_000), End::Goodbye);
            }
        }
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let (page, more) = presences.newest(before.as_ref(), 4);
            before = page.last().map(|(agent, event)| (event.at_ms, agent.clone()));
            seen.extend(page.into_iter().map(|(agent, event)| (event.at_ms, agent)));
            if !more {
                break;
            }
        }
        assert_eq!(seen.len(), 30);
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        assert_eq!(presences.newest(None, 1000).0.len(), 30);
        assert_eq!(Presences::default().newest(None, 4), (Vec::new(), false));
    }

    #[test]
    fn the_history_is_bounded_and_outlives_the_hub() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("hub.redb")).unwrap();
        let (agent, presences) = (AgentId::parse("a").unwrap(), Presences::default());
        // Slow enough to be told one by one.
        for n in 0..100 {
            presences.heard(&agent, at(n * 60_000), None);
            presences.ended(&agent, at(n * 60_000 + 30_000), End::Goodbye);
        }
        presences.heard(&agent, at(6_000_000), None);
        assert_eq!(presences.events(&agent).len(), EVENTS_MAX);
        for (agent, record) in presences.unsaved() {
            metadata.put(agent.as_str(), &record).unwrap();
        }
        assert!(presences.unsaved().is_empty());
        let again = Presences::load(&metadata, at(0)).unwrap();
        assert_eq!(again.events(&agent), presences.events(&agent));
        assert_eq!(again.shown(&agent).unwrap().state, State::Suspect, "it was online when the hub ended");
        again.tick(at(60_000));
        let shown = again.shown(&agent).unwrap();
        assert_eq!((shown.state, shown.last.unwrap().reason), (State::Offline, Reason::HubRestarted));
        assert_eq!(again.shown(&AgentId::parse("b").unwrap()), None);
    }
}
