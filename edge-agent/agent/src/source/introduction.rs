//! What the registry is told of a device: what its profile says of its kind, and what it says of itself; or that there is one,
//! where its source knows no more than its name.

use std::collections::HashSet;

use tideline_profiles::Profile;
use tideline_protocol::keep::KeepRule;
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::Value;
use tideline_protocol::wire::DeviceCard;

use super::Device;
use crate::cards::{CARDS_MAX, Cards};

/// What is known of a device, and whether the registry has been told.
#[derive(Debug)]
pub struct Introduction {
    card: DeviceCard,
    is_told: bool,
}

impl Introduction {
    /// Of a device that has said nothing yet; `via` is how it is reached, without secrets.
    pub fn new(device: &Device, via: &str) -> Self {
        Self { card: card(device, via), is_told: false }
    }

    /// It says this of a point, which may be what its profile has its firmware from.
    pub fn hear(&mut self, device: &Device, point: &PointId, value: &Value) {
        let profile = device.profile.as_ref();
        let of = profile.and_then(|profile| profile.identity().firmware_point.as_deref());
        if of != Some(point.as_str()) || *value == Value::Null {
            return;
        }
        // A text is shown without quotes; some devices have a number for their version.
        let firmware = value.to_string();
        self.learn(|card| card.firmware = firmware);
    }

    /// It says something of itself; what it leaves empty stays as it was.
    pub fn learn(&mut self, change: impl FnOnce(&mut DeviceCard)) {
        let mut card = self.card.clone();
        change(&mut card);
        let card = card.cut();
        self.is_told &= card == self.card;
        self.card = card;
    }

    /// What the registry is to be told now; none when it knows all.
    pub fn news(&mut self) -> Option<DeviceCard> {
        let is_told = std::mem::replace(&mut self.is_told, true);
        (!is_told).then(|| self.card.clone())
    }
}

/// The devices that a source has named, each of which is introduced once: a device without a card has no twin here.
#[derive(Debug, Default)]
pub struct Named {
    // No more than there are cards, see [`CARDS_MAX`].
    introduced: HashSet<DeviceId>,
    is_full: bool,
}

impl Named {
    /// Introduces those of these devices that nobody has told of, but for the agent's own; gives the first for which there
    /// is no room, if that has not been said before.
    pub fn name<'d>(
        &mut self,
        devices: impl Iterator<Item = &'d DeviceId>,
        own: &DeviceId,
        cards: &Cards,
    ) -> Option<&'d DeviceId> {
        let (mut last, mut beyond) = (None, None);
        for device in devices {
            // Readings come sorted by their device.
            if last.replace(device) == Some(device) || device == own || self.introduced.contains(device) {
                continue;
            }
            if cards.introduce(device) {
                self.introduced.insert(device.clone());
            } else if !std::mem::replace(&mut self.is_full, true) {
                beyond = Some(device);
            }
        }
        debug_assert!(self.introduced.len() <= CARDS_MAX, "no more than there are cards");
        beyond
    }
}

/// What a device's profile says of its kind.
pub fn card(device: &Device, via: &str) -> DeviceCard {
    let mut card = DeviceCard { via: via.into(), ..DeviceCard::new(device.id.clone()) };
    if let Some(profile) = &device.profile {
        card.profile = profile.name().to_owned();
        // A profile of any maker's devices knows none.
        let known = |text: &str| if text == "any" { String::new() } else { text.to_owned() };
        (card.vendor, card.model) = (known(&profile.identity().vendor), known(&profile.identity().model));
        card.keeps = keeps(profile);
        card.profile_digest = Some(profile.digest());
    }
    card.cut()
}

/// What a profile says of how long readings are kept, if anything.
pub fn keeps(profile: &Profile) -> Option<Vec<KeepRule>> {
    Some(profile.keeps()).filter(|rules| !rules.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tideline_protocol::keep::{Keep, Rollups};
    use tideline_protocol::model::DeviceId;

    use super::*;

    fn pump() -> Device {
        let text = "name = \"pump\"\n[identity]\nvendor = \"any\"\nmodel = \"P 7\"\nfirmware_point = \"version\"\n[points]\n\
            flow = { unit = \"l/s\", min = 0, max = 90 }\nversion = { type = \"int\", unit = \"1\", min = 0, max = 99 }\n";
        let profile = Profile::parse("pump.toml", text).unwrap();
        Device::of(DeviceId::parse("pump-1").unwrap(), Arc::new(profile))
    }

    #[test]
    fn what_a_profile_keeps_of_points_is_told_with_its_devices() {
        let told = |delivery: &str| {
            let text = format!(
                "name = \"pump\"\n[points]\nflow = {{ unit = \"l/s\", min = 0, max = 90 }}\n{delivery}"
            );
            let profile = Arc::new(Profile::parse("pump.toml", &text).unwrap());
            card(&Device::of(DeviceId::parse("pump-1").unwrap(), profile), "test").keeps
        };
        let rules = told("[delivery.raw]\npoints = [\"flow\"]\nkeep_days = 9\nrollups = []\n");
        let keep = Keep { days: Some(9), rollups: Some(Rollups::NONE) };
        assert_eq!(rules, Some(vec![KeepRule { points: vec!["flow".into()], keep }]));
        assert_eq!(told("[delivery.raw]\nclass = \"state\"\n"), None, "nothing is said of it");
    }

    #[test]
    fn which_version_of_its_profile_is_meant_is_told_with_a_device() {
        let told = card(&pump(), "test");
        assert_eq!(told.profile_digest, Some(pump().profile.unwrap().digest()));
        let none = Device { profile: None, ..pump() };
        assert_eq!(card(&none, "test").profile_digest, None);
    }

    #[test]
    fn a_device_is_told_once_and_again_with_another_firmware() {
        let (device, [flow, version]) = (pump(), ["flow", "version"].map(|id| PointId::parse(id).unwrap()));
        let mut introduction = Introduction::new(&device, "modbus 10.0.0.7:502/1");
        let first = introduction.news().unwrap();
        assert_eq!(
            (first.profile.as_str(), first.vendor.as_str(), first.model.as_str()),
            ("pump", "", "P 7")
        );
        for (point, value) in [(&flow, Value::Int(7)), (&version, Value::Null)] {
            introduction.hear(&device, point, &value);
            assert_eq!(introduction.news(), None);
        }
        introduction.hear(&device, &version, &Value::Int(12));
        assert_eq!(introduction.news().map(|card| card.firmware).as_deref(), Some("12"));
        introduction.hear(&device, &version, &Value::Int(12));
        assert_eq!(introduction.news(), None);
    }
}
