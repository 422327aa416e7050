//! Which devices are behind which agent, and which agents have devices at which site and in which group, kept in memory beside the
//! records: a session asks for them when it opens, and to read the whole registry for each would cost a fleet that comes back
//! minutes.

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
    #[serde(default)]
    groups: BTreeSet<String>,
}

impl Owned {
    /// Where it is; a device that was shut out is nowhere.
    fn site(&self) -> Option<&str> {
        Some(self.marks.site.as_str()).filter(|site| !site.is_empty() && !self.revoked)
    }

    /// The groups that it is in; a device that was shut out is in none.
    fn groups(&self) -> impl Iterator<Item = &str> {
        self.marks.groups.iter().filter(|_| !self.revoked).map(String::as_str)
    }
}

/// Agents by what their devices are in, with how many devices of each are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Circles(HashMap<String, BTreeMap<String, usize>>);

impl Circles {
    fn add(&mut self, name: &str, agent: &str) {
        *self.0.entry(name.to_owned()).or_default().entry(agent.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, name: &str, agent: &str) {
        let Some(agents) = self.0.get_mut(name) else { return };
        if let Some(count) = agents.get_mut(agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                agents.remove(agent);
            }
        }
        if agents.is_empty() {
            self.0.remove(name);
        }
    }

    fn agents(&self, name: &str) -> impl Iterator<Item = &String> {
        self.0.get(name).into_iter().flat_map(BTreeMap::keys)
    }

    fn holds(&self, name: &str, agent: &str) -> bool {
        self.0.get(name).is_some_and(|agents| agents.contains_key(agent))
    }
}

/// All devices by their agents, and the agents by site and by group.
#[derive(Debug, Default)]
pub struct Owners {
    by_agent: HashMap<String, BTreeSet<String>>,
    by_device: HashMap<String, Owned>,
    by_site: Circles,
    by_group: Circles,
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
            owned.site().into_iter().for_each(|site| self.by_site.add(site, &owned.agent));
            owned.groups().for_each(|group| self.by_group.add(group, &owned.agent));
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
        before.site().into_iter().for_each(|site| self.by_site.remove(site, &before.agent));
        before.groups().for_each(|group| self.by_group.remove(group, &before.agent));
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
        self.by_site.agents(site).filter(|agent| self.hears(agent)).cloned().collect()
    }

    /// The agents that have devices in a group, sorted.
    pub fn agents_in(&self, group: &str) -> Vec<String> {
        self.by_group.agents(group).filter(|agent| self.hears(agent)).cloned().collect()
    }

    /// The devices at a site, sorted.
    pub fn devices_at(&self, site: &str) -> Vec<String> {
        self.all(|owned| owned.site() == Some(site))
    }

    /// The devices in a group, sorted.
    pub fn devices_in(&self, group: &str) -> Vec<String> {
        self.all(|owned| owned.groups().any(|of| of == group))
    }

    fn all(&self, is_meant: impl Fn(&Owned) -> bool) -> Vec<String> {
        let meant = self.by_device.iter().filter(|(_, owned)| is_meant(owned));
        let mut devices: Vec<_> = meant.map(|(device, _)| device.clone()).collect();
        devices.sort_unstable();
        devices
    }

    /// The sites at which devices are, with how many.
    pub fn sites(&self) -> BTreeMap<String, usize> {
        self.by_site.0.iter().map(|(site, agents)| (site.clone(), agents.values().sum())).collect()
    }

    /// Where a device is.
    pub fn site_of(&self, device: &str) -> Option<&str> {
        self.by_device.get(device)?.site()
    }

    /// Whether an agent has a device at a site.
    pub fn is_at(&self, agent: &str, site: &str) -> bool {
        self.hears(agent) && self.by_site.holds(site, agent)
    }

    /// Whether an agent has a device in a group.
    pub fn is_in(&self, agent: &str, group: &str) -> bool {
        self.hears(agent) && self.by_group.holds(group, agent)
    }

    /// The sites of an agent's devices, sorted.
    pub fn sites_of(&self, agent: &str) -> BTreeSet<String> {
        self.all_of(agent).filter_map(Owned::site).map(str::to_owned).collect()
    }

    /// The groups of an agent's devices, sorted.
    pub fn groups_of(&self, agent: &str) -> BTreeSet<String> {
        self.all_of(agent).flat_map(Owned::groups).map(str::to_owned).collect()
    }

    /// What is known of an agent's devices, where it may hear of documents.
    fn all_of(&self, agent: &str) -> impl Iterator<Item = &Owned> {
        let devices = self.by_agent.get(agent).filter(|_| self.hears(agent)).into_iter().flatten();
        devices.filter_map(|device| self.by_device.get(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(agent: &str, site: &str) -> Option<Owned> {
        let marks = Place { site: site.into(), groups: BTreeSet::new() };
        Some(Owned { agent: agent.into(), marks, revoked: false })
    }

    fn grouped(agent: &str, groups: &[&str]) -> Option<Owned> {
        let groups = groups.iter().copied().map(str::to_owned).collect();
        let marks = Place { site: String::new(), groups };
        Some(Owned { agent: agent.into(), marks, revoked: false })
    }

    #[test]
    fn an_agent_is_in_the_groups_of_all_its_devices() {
        let mut owners = Owners::default();
        owners.set("a", grouped("a", &[]));
        owners.set("a1", grouped("a", &["pumps", "old"]));
        owners.set("a2", grouped("a", &["pumps"]));
        owners.set("b1", grouped("b", &["pumps"]));
        assert_eq!(owners.groups_of("a"), ["old".to_owned(), "pumps".to_owned()].into());
        assert_eq!(owners.agents_in("pumps"), ["a", "b"]);
        owners.set("a1", grouped("a", &[]));
        assert!(
            owners.is_in("a", "pumps") && !owners.is_in("a", "old") && owners.agents_in("old").is_empty()
        );
        owners.set("a2", grouped("a", &[]));
        assert!(!owners.is_in("a", "pumps") && owners.groups_of("a").is_empty());
        // A device that was shut out is in none, and an agent that was hears of none.
        owners.set("b1", grouped("b", &["pumps"]).map(|owned| Owned { revoked: true, ..owned }));
        assert!(owners.agents_in("pumps").is_empty());
        owners.set("b1", grouped("b", &["pumps"]));
        owners.set("b", grouped("b", &[]).map(|owned| Owned { revoked: true, ..owned }));
        assert!(owners.agents_in("pumps").is_empty() && owners.groups_of("b").is_empty());
        assert!(!owners.is_in("b", "pumps"));
        owners.set("b1", None);
        assert_eq!(owners.by_group, Circles::default());
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
        assert_eq!(owners.by_site, Circles::default());
    }
}
