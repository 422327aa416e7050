//! Which devices are behind which agent, and which agents have devices at which site, kept in memory beside the records: a session
//! asks for them when it opens, and to read the whole registry for each would cost a fleet that comes back minutes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

/// The part of a device's record that counts here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Owned {
    /// Who speaks for it.
    pub agent: String,
    /// What operators say of it.
    #[serde(default)]
    marks: Place,
    #[serde(default)]
    revoked: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Place {
    #[serde(default)]
    site: String,
}

impl Owned {
    /// Where it is; a device that was shut out is nowhere.
    fn site(&self) -> Option<&str> {
        Some(self.marks.site.as_str()).filter(|site| !site.is_empty() && !self.revoked)
    }
}

/// All devices by their agents, and the agents by site.
#[derive(Debug, Default)]
pub struct Owners {
    by_agent: HashMap<String, BTreeSet<String>>,
    by_device: HashMap<String, Owned>,
    // How many devices of each agent are there.
    by_site: HashMap<String, BTreeMap<String, usize>>,
}

impl Owners {
    /// The device is so from now on, or gone.
    pub fn set(&mut self, device: &str, owned: Option<Owned>) {
        if self.by_device.get(device) == owned.as_ref() {
            return;
        }
        if let Some(before) = self.by_device.remove(device) {
            self.remove(device, &before);
        }
        if let Some(owned) = owned {
            self.by_agent.entry(owned.agent.clone()).or_default().insert(device.to_owned());
            if let Some(site) = owned.site() {
                let agents = self.by_site.entry(site.to_owned()).or_default();
                *agents.entry(owned.agent.clone()).or_default() += 1;
            }
            self.by_device.insert(device.to_owned(), owned);
        }
    }

    fn remove(&mut self, device: &str, before: &Owned) {
        if let Some(devices) = self.by_agent.get_mut(&before.agent) {
            devices.remove(device);
            if devices.is_empty() {
                self.by_agent.remove(&before.agent);
            }
        }
        let Some(site) = before.site() else { return };
        let Some(agents) = self.by_site.get_mut(site) else { return };
        if let Some(count) = agents.get_mut(&before.agent) {
            *count = count.saturating_sub(1);
        }
        agents.retain(|_, count| *count > 0);
        if agents.is_empty() {
            self.by_site.remove(site);
        }
    }

    /// The devices of an agent, its own among them, sorted.
    pub fn devices_of(&self, agent: &str) -> Vec<String> {
        self.by_agent.get(agent).into_iter().flatten().cloned().collect()
    }

    /// Whether it may hear of documents: an agent that was shut out never does again, and what tokens and jobs write through none.
    fn hears(&self, agent: &str) -> bool {
        !agent.starts_with('_') && self.by_device.get(agent).is_none_or(|own| !own.revoked)
    }

    /// The agents that have devices at a site, sorted.
    pub fn agents_at(&self, site: &str) -> Vec<String> {
        let agents = self.by_site.get(site).into_iter().flat_map(BTreeMap::keys);
        agents.filter(|agent| self.hears(agent)).cloned().collect()
    }

    /// The sites at which devices are, with how many.
    pub fn sites(&self) -> BTreeMap<String, usize> {
        self.by_site.iter().map(|(site, agents)| (site.clone(), agents.values().sum())).collect()
    }

    /// Where a device is.
    pub fn site_of(&self, device: &str) -> Option<&str> {
        self.by_device.get(device)?.site()
    }

    /// Whether an agent has a device at a site.
    pub fn is_at(&self, agent: &str, site: &str) -> bool {
        self.hears(agent) && self.by_site.get(site).is_some_and(|agents| agents.contains_key(agent))
    }

    /// The sites of an agent's devices, sorted.
    pub fn sites_of(&self, agent: &str) -> BTreeSet<String> {
        if !self.hears(agent) {
            return BTreeSet::new();
        }
        let devices = self.by_agent.get(agent).into_iter().flatten();
        let sites = devices.filter_map(|device| self.by_device.get(device)?.site());
        sites.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(agent: &str, site: &str) -> Option<Owned> {
        Some(Owned { agent: agent.into(), marks: Place { site: site.into() }, revoked: false })
    }

    #[test]
    fn an_agent_is_at_a_site_as_long_as_a_device_of_it_is() {
        let mut owners = Owners::default();
        owners.set("a", owned("a", ""));
        owners.set("a1", owned("a", "north"));
        owners.set("a2", owned("a", "north"));
        owners.set("b1", owned("b", "north"));
        assert_eq!(owners.agents_at("north"), ["a", "b"]);
        assert_eq!(owners.sites(), [("north".to_owned(), 3)].into());
        assert_eq!(
            (owners.site_of("a1"), owners.site_of("a"), owners.site_of("x")),
            (Some("north"), None, None)
        );
        assert!(owners.is_at("a", "north") && !owners.is_at("a", ""));
        owners.set("a1", owned("a", "south"));
        assert_eq!(owners.sites_of("a"), ["north".to_owned(), "south".to_owned()].into());
        owners.set("a2", owned("b", "north"));
        assert_eq!(owners.agents_at("north"), ["b"]);
        assert_eq!(owners.devices_of("b"), ["a2", "b1"]);
        owners.set("a1", owned("a", "south").map(|owned| Owned { revoked: true, ..owned }));
        assert!(owners.agents_at("south").is_empty() && owners.devices_of("a") == ["a", "a1"]);
        // One that was shut out, and a writer, whatever devices are behind them.
        owners.set("b", owned("b", "").map(|owned| Owned { revoked: true, ..owned }));
        owners.set("w1", owned("_write.telegraf", "north"));
        assert!(owners.agents_at("north").is_empty() && owners.sites_of("b").is_empty());
        assert!(!owners.is_at("b", "north") && !owners.is_at("_write.telegraf", "north"));
        owners.set("b", owned("b", ""));
        assert_eq!(owners.agents_at("north"), ["b"]);
        owners.set("a2", None);
        owners.set("b1", None);
        owners.set("w1", None);
        assert!(owners.by_site.is_empty());
    }
}
