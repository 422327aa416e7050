//! Which devices are behind which agent, kept in memory beside the records: a session asks for them when it opens, and to
//! read the whole registry for each would cost a fleet that comes back minutes.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

/// The part of a device's record that counts here.
#[derive(Debug, Deserialize)]
pub struct Owned {
    /// Who speaks for it.
    pub agent: String,
}

/// All devices by their agents.
#[derive(Debug, Default)]
pub struct Owners {
    by_agent: HashMap<String, BTreeSet<String>>,
    by_device: HashMap<String, String>,
}

impl Owners {
    /// The device is behind the agent from now on, or gone.
    pub fn set(&mut self, device: &str, agent: Option<String>) {
        if self.by_device.get(device) == agent.as_ref() {
            return;
        }
        if let Some(before) = self.by_device.remove(device)
            && let Some(devices) = self.by_agent.get_mut(&before)
        {
            devices.remove(device);
            if devices.is_empty() {
                self.by_agent.remove(&before);
            }
        }
        if let Some(agent) = agent {
            self.by_agent.entry(agent.clone()).or_default().insert(device.to_owned());
            self.by_device.insert(device.to_owned(), agent);
        }
    }

    /// The devices of an agent, its own among them, sorted.
    pub fn devices_of(&self, agent: &str) -> Vec<String> {
        self.by_agent.get(agent).into_iter().flatten().cloned().collect()
    }
}
