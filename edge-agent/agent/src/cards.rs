//! What the agent knows of its devices, for the hub's registry.
//!
//! Sources say what they find; the uplink tells the hub in each session and when it changes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DeviceCard;
use tokio::sync::watch;

/// Most devices that an agent knows (INV-6): a topic with a wildcard may name any number.
pub const CARDS_MAX: usize = 10_000;

/// The cards of all devices; a clone is of the same ones.
#[derive(Debug, Clone)]
pub struct Cards {
    all: watch::Sender<BTreeMap<DeviceId, DeviceCard>>,
}

impl Default for Cards {
    fn default() -> Self {
        Self { all: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Cards {
    /// Notes what is known of a device now; false when there are [`CARDS_MAX`] others.
    pub fn tell(&self, card: DeviceCard) -> bool {
        let (card, mut known) = (card.cut(), true);
        self.all.send_if_modified(|all| {
            let room = all.len() < CARDS_MAX;
            match all.entry(card.device.clone()) {
                Entry::Occupied(mut entry) if *entry.get() != card => drop(entry.insert(card)),
                Entry::Occupied(_) => return false,
                Entry::Vacant(_) if !room => {
                    known = false;
                    return false;
                }
                Entry::Vacant(entry) => drop(entry.insert(card)),
            }
            true
        });
        known
    }

    /// Notes that there is a device, of which nothing more is known than was; false as for [`Self::tell`].
    pub fn introduce(&self, device: &DeviceId) -> bool {
        let mut known = true;
        self.all.send_if_modified(|all| {
            if all.contains_key(device) {
                return false;
            }
            known = all.len() < CARDS_MAX;
            if known {
                all.insert(device.clone(), DeviceCard::new(device.clone()));
            }
            known
        });
        known
    }

    /// Follows the changes; all that is known counts as the first.
    #[must_use]
    pub fn follow(&self) -> Following {
        let mut all = self.all.subscribe();
        all.mark_changed();
        Following { all, told: BTreeMap::new() }
    }
}

impl Cards {
    /// Sees what is known.
    #[must_use]
    pub fn seen(&self) -> CardsSeen {
        CardsSeen(self.all.subscribe())
    }
}

/// What is known of devices, for who is not told of each.
#[derive(Debug, Clone)]
pub struct CardsSeen(watch::Receiver<BTreeMap<DeviceId, DeviceCard>>);

impl CardsSeen {
    /// Whether anything changed since [`Self::of_profile`] was last asked.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        // Without a sender nothing changes any more.
        self.0.has_changed().unwrap_or(false)
    }

    /// Whether a device is known.
    #[must_use]
    pub fn holds(&self, device: &DeviceId) -> bool {
        self.0.borrow().contains_key(device)
    }

    /// The devices of a profile.
    pub fn of_profile(&mut self, profile: &str) -> BTreeSet<DeviceId> {
        let all = self.0.borrow_and_update();
        all.values().filter(|card| card.profile == profile).map(|card| card.device.clone()).collect()
    }
}

/// What one session has been told of.
#[derive(Debug, Clone)]
pub struct Following {
    all: watch::Receiver<BTreeMap<DeviceId, DeviceCard>>,
    told: BTreeMap<DeviceId, DeviceCard>,
}

impl Following {
    /// The cards that are new or other than they were at the last call.
    pub fn news(&mut self) -> Vec<DeviceCard> {
        // Without a sender nothing changes any more.
        if !self.all.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        let all = self.all.borrow_and_update();
        let news: Vec<DeviceCard> =
            all.values().filter(|card| self.told.get(&card.device) != Some(card)).cloned().collect();
        self.told.extend(news.iter().map(|card| (card.device.clone(), card.clone())));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(device: &str, firmware: &str) -> DeviceCard {
        DeviceCard { firmware: firmware.to_owned(), ..DeviceCard::new(DeviceId::parse(device).unwrap()) }
    }

    #[test]
    fn each_session_hears_of_all_and_then_of_what_changes() {
        let cards = Cards::default();
        assert!(cards.tell(card("a", "1")) && cards.tell(card("b", "1")));
        let mut first = cards.follow();
        assert_eq!(first.news(), [card("a", "1"), card("b", "1")]);
        assert_eq!(first.news(), []);
        assert!(cards.tell(card("b", "1")) && cards.tell(card("a", "2")));
        assert_eq!(first.news(), [card("a", "2")]);
        assert_eq!(cards.follow().news(), [card("a", "2"), card("b", "1")]);
    }

    #[test]
    fn a_device_that_is_introduced_keeps_what_is_known_of_it() {
        let (cards, id) = (Cards::default(), |device: &str| DeviceId::parse(device).unwrap());
        assert!(cards.tell(card("a", "1")));
        let mut following = cards.follow();
        assert!(cards.introduce(&id("a")) && cards.introduce(&id("b")) && cards.introduce(&id("b")));
        assert_eq!(following.news(), [card("a", "1"), card("b", "")]);
        assert!(cards.tell(card("b", "2")) && cards.introduce(&id("b")));
        assert_eq!(following.news(), [card("b", "2")]);
    }

    #[test]
    fn there_is_a_limit_and_what_is_known_may_still_change() {
        let cards = Cards::default();
        assert!((0..CARDS_MAX).all(|n| cards.tell(card(&format!("d{n}"), ""))));
        assert!(!cards.tell(card("more", "")));
        assert!(!cards.introduce(&DeviceId::parse("more").unwrap()));
        assert!(cards.tell(card("d7", "2")));
        assert_eq!(cards.follow().news().len(), CARDS_MAX);
    }
}
