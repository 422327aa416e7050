//! Who is connected, and how fast readings come in.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_link::identity::PeerCertificate;
use tideline_link::link::Transport;
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::{Health, RefuseCode};
use tokio::sync::oneshot;

/// Over how many seconds the rate of a device is taken.
const RATE_SECONDS: u64 = 10;

/// Why a session is to end.
pub type Cut = (RefuseCode, String);

/// How an agent came, and how its session does.
#[derive(Debug, Clone)]
pub struct Came {
    /// Name and version of its software.
    pub software: String,
    /// By what.
    pub transport: Transport,
    /// The other end's address; over a broker that one's.
    pub remote: SocketAddr,
    /// What it has shown; none when it came with a token.
    pub certificate: Option<PeerCertificate>,
    /// What moves in the session.
    pub flow: Arc<Flow>,
}

/// Readings of a session on their way to the disk.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    appends: AtomicU64,
}

impl Flow {
    /// Notes how much there is.
    pub fn note(&self, bytes: u64, appends: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.appends.store(appends, Ordering::Relaxed);
    }

    /// Bytes of runs that came and are not durable, of those that the credit allows.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Batches that the disk is asked for.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.appends.load(Ordering::Relaxed)
    }
}

/// What is known of an agent's newest session.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Whether it lives.
    pub online: bool,
    /// How it came.
    pub came: Came,
    /// Since when, Unix ms.
    pub connected_ms: i64,
    /// The last frame, Unix ms.
    pub last_seen_ms: i64,
    /// How the agent says that it fares, and when it did, Unix ms. It outlives the session, as it says
    /// what was tried last.
    pub health: Option<(i64, Health)>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    presence: Presence,
    cut: Option<oneshot::Sender<Cut>>,
}

/// All sessions and rates.
#[derive(Debug, Default)]
pub struct Fleet {
    sessions: Mutex<HashMap<AgentId, Entry>>,
    // Per device: (second of monotonic time, readings).
    rates: Mutex<HashMap<DeviceId, VecDeque<(u64, u64)>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// A session opened. An older one of the same agent is cut: it is the same device after a
    /// reconnect, and only the newer one has a living line. Gives the session's number and what
    /// tells it to end.
    pub fn enter(&self, agent: &AgentId, came: Came, now_ms: i64) -> (u64, oneshot::Receiver<Cut>) {
        let (cut, told) = oneshot::channel();
        let mut sessions = locked(&self.sessions);
        let health = sessions.get(agent).and_then(|old| old.presence.health.clone());
        let presence = Presence { online: true, came, connected_ms: now_ms, last_seen_ms: now_ms, health };
        let number = sessions.get(agent).map_or(1, |old| old.number + 1);
        if let Some(old) =
            sessions.insert(agent.clone(), Entry { number, presence, cut: Some(cut) }).and_then(|e| e.cut)
        {
            // An error means that the older session has already gone.
            let _gone =
                old.send((RefuseCode::Replaced, "a newer session of this agent took over".to_owned()));
        }
        (number, told)
    }

    /// A frame came; says whether the session of that number is the newest.
    pub fn seen(&self, agent: &AgentId, number: u64, now_ms: i64) -> bool {
        let mut sessions = locked(&self.sessions);
        let newest = sessions.get_mut(agent).filter(|e| e.number == number);
        newest.map(|entry| entry.presence.last_seen_ms = now_ms).is_some()
    }

    /// The agent of that session says how it fares.
    pub fn fares(&self, agent: &AgentId, number: u64, health: Health, now_ms: i64) {
        if let Some(entry) = locked(&self.sessions).get_mut(agent).filter(|e| e.number == number) {
            entry.presence.health = Some((now_ms, health));
        }
    }

    /// The session of that number ended; a newer one is left alone. Says whether there is none.
    pub fn leave(&self, agent: &AgentId, number: u64) -> bool {
        let mut sessions = locked(&self.sessions);
        let newest = sessions.get_mut(agent).filter(|e| e.number == number);
        newest
            .map(|entry| {
                entry.presence.online = false;
                entry.cut = None;
            })
            .is_some()
    }

    /// Ends the agent's session, if there is one.
    pub fn cut(&self, agent: &AgentId, cut: Cut) {
        if let Some(sender) = locked(&self.sessions).get_mut(agent).and_then(|e| e.cut.take()) {
            let _gone = sender.send(cut);
        }
    }

    /// The newest session of the agent since this hub started.
    #[must_use]
    pub fn presence(&self, agent: &AgentId) -> Option<Presence> {
        locked(&self.sessions).get(agent).map(|e| e.presence.clone())
    }

    /// How many sessions live.
    #[must_use]
    pub fn online(&self) -> u64 {
        locked(&self.sessions).values().filter(|e| e.presence.online).count() as u64
    }

    /// Readings of a device came in at `now_ns` (monotonic).
    pub fn count(&self, device: &DeviceId, readings: u64, now_ns: u64) {
        let second = now_ns / 1_000_000_000;
        let mut rates = locked(&self.rates);
        let window = rates.entry(device.clone()).or_default();
        match window.back_mut() {
            Some((at, sum)) if *at == second => *sum = sum.saturating_add(readings),
            _ => window.push_back((second, readings)),
        }
        while window.front().is_some_and(|(at, _)| at + RATE_SECONDS < second) {
            window.pop_front();
        }
    }

    /// Readings a second of the device over the last ten whole seconds.
    #[must_use]
    pub fn rate(&self, device: &DeviceId, now_ns: u64) -> f64 {
        let second = now_ns / 1_000_000_000;
        let rates = locked(&self.rates);
        let recent = rates
            .get(device)
            .into_iter()
            .flatten()
            .filter(|(at, _)| at + RATE_SECONDS >= second && *at < second);
        let sum = recent.fold(0_u64, |sum, (_, n)| sum.saturating_add(*n));
        u32::try_from(sum).map_or(f64::from(u32::MAX), f64::from) / 10.0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn came(software: &str) -> Came {
        Came {
            software: software.to_owned(),
            transport: Transport::Quic,
            remote: (Ipv4Addr::LOCALHOST, 4433).into(),
            certificate: None,
            flow: Arc::default(),
        }
    }

    #[test]
    fn a_newer_session_replaces_the_older_and_outlives_its_end() {
        let (fleet, agent) = (Fleet::default(), AgentId::parse("a").unwrap());
        let (first, mut told) = fleet.enter(&agent, came("x 1"), 5);
        let (second, _told) = fleet.enter(&agent, came("x 2"), 6);
        assert_eq!(told.try_recv().unwrap().0, RefuseCode::Replaced);
        fleet.leave(&agent, first);
        assert!(fleet.presence(&agent).unwrap().online);
        fleet.leave(&agent, second);
        assert!(!fleet.presence(&agent).unwrap().online);
    }

    #[test]
    fn how_an_agent_fares_is_kept_of_its_newest_session_and_over_it() {
        let (fleet, agent) = (Fleet::default(), AgentId::parse("a").unwrap());
        let health = |switches| Health { ways: vec![], switches, spool_bytes: 0, spool_quota_bytes: 0 };
        let (first, _told) = fleet.enter(&agent, came("x 1"), 5);
        fleet.fares(&agent, first, health(1), 6);
        let (second, _told) = fleet.enter(&agent, came("x 1"), 7);
        assert_eq!(fleet.presence(&agent).unwrap().health, Some((6, health(1))));
        fleet.fares(&agent, first, health(2), 8);
        fleet.fares(&agent, second, health(3), 9);
        assert_eq!(fleet.presence(&agent).unwrap().health, Some((9, health(3))));
    }

    #[test]
    fn the_rate_is_taken_over_ten_seconds() {
        let (fleet, device) = (Fleet::default(), DeviceId::parse("d").unwrap());
        (0..30_u64).for_each(|s| fleet.count(&device, 7, s * 1_000_000_000));
        assert!((fleet.rate(&device, 30_000_000_000) - 7.0).abs() < 1e-9);
        assert!(fleet.rate(&device, 60_000_000_000).abs() < 1e-9);
    }
}
