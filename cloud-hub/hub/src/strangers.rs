//! Agents whose certificate is of this hub and that are in no registry: those that enrolled after
//! the backup that the hub was restored from.
//!
//! Nobody is let in by standing here: an administrator adopts them by name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tideline_protocol::model::AgentId;

/// Most strangers that are remembered; beyond it those who asked longest ago are forgotten. Each
/// comes again within half a minute.
const STRANGERS_MAX: usize = 4096;

/// An agent that asked to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// SHA-256 of the public key in its certificate, in hex.
    pub key_hash: String,
    /// When it last asked, Unix ms.
    pub asked_ms: i64,
}

/// Those who asked since the hub started.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<BTreeMap<AgentId, Stranger>>);

impl Strangers {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<AgentId, Stranger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent with a certificate of this hub asked.
    pub fn note(&self, agent: &AgentId, key_hash: &str, asked_ms: i64) {
        let mut known = self.locked();
        if known.len() >= STRANGERS_MAX && !known.contains_key(agent) {
            let oldest = known.iter().min_by_key(|(_, stranger)| stranger.asked_ms);
            if let Some(oldest) = oldest.map(|(agent, _)| agent.clone()) {
                known.remove(&oldest);
            }
        }
        known.insert(agent.clone(), Stranger { key_hash: key_hash.to_owned(), asked_ms });
    }

    /// What is known of one.
    #[must_use]
    pub fn find(&self, agent: &AgentId) -> Option<Stranger> {
        self.locked().get(agent).cloned()
    }

    /// It is registered now.
    pub fn forget(&self, agent: &AgentId) {
        self.locked().remove(agent);
    }

    /// All, by id.
    #[must_use]
    pub fn list(&self) -> Vec<(AgentId, Stranger)> {
        self.locked().iter().map(|(agent, stranger)| (agent.clone(), stranger.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_who_is_registered_is_forgotten() {
        let strangers = Strangers::default();
        let agent = |n: usize| AgentId::parse(&format!("a-{n}")).unwrap();
        for n in 0..=STRANGERS_MAX {
            strangers.note(&agent(n), "key", i64::try_from(n).unwrap());
        }
        assert_eq!(strangers.list().len(), STRANGERS_MAX);
        assert_eq!(strangers.find(&agent(0)), None);
        strangers.note(&agent(1), "newer key", 9_999);
        assert_eq!(strangers.find(&agent(1)).unwrap().key_hash, "newer key");
        strangers.forget(&agent(1));
        assert_eq!(strangers.find(&agent(1)), None);
    }
}
