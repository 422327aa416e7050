//! Which edition of its profile a device takes: that of the firmware that it says itself that it has.
//!
//! A profile has overlays for versions of firmware, and what some points say hangs on them. So nothing is believed of those
//! points before the device has told its version ([`Editions::hear`]) or somebody has said it in the configuration, and
//! again whenever it may be another one by now ([`Editions::doubt`]): they are uncertain. A version that its profile is not made for
//! has its source made anew with the one that is; until then what these points seem to say is no value.
//!
//! All readings pass here on their way ([`super::Context::emit`]), whatever their protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_profiles::Profile;
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};
use tokio::sync::watch;

use super::{Device, Readings};
use crate::cards::CARDS_MAX;
use crate::config::SourceConfig;

/// What devices have told of their firmware; a clone is of the same ones.
#[derive(Debug, Clone)]
pub struct Editions {
    // By source and device; of devices alone whose profile has overlays.
    told: Arc<Mutex<BTreeMap<(String, DeviceId), Told>>>,
    // Sources with a device whose profile is of another version than it has.
    stale: watch::Sender<BTreeSet<String>>,
}

#[derive(Debug)]
struct Told {
    version: Option<String>,
    // Whether nothing has happened since that may have changed it.
    is_sure: bool,
}

/// What can be believed of the points that hang on the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// They say what its profile makes of them.
    Right,
    /// Nobody knows.
    Unknown,
    /// The device has other firmware than its profile is for.
    Wrong,
}

impl Stance {
    /// What can be believed of a value that hangs on the version.
    #[must_use]
    pub fn of(self, (value, quality): (Value, Quality)) -> (Value, Quality) {
        match self {
            Self::Right => (value, quality),
            Self::Unknown => (value, quality.max(Quality::Uncertain)),
            Self::Wrong => (Value::Null, Quality::Bad),
        }
    }
}

impl Stance {
    /// Where its revision makes a difference, too: that is said by the configuration or by nobody.
    fn with_hardware(self, profile: &Profile, point: &str) -> Self {
        if self == Self::Right && profile.lacks_hardware_of(point) { Self::Unknown } else { self }
    }
}

impl Default for Editions {
    fn default() -> Self {
        Self { told: Arc::default(), stale: watch::Sender::new(BTreeSet::new()) }
    }
}

impl Editions {
    fn told(&self) -> MutexGuard<'_, BTreeMap<(String, DeviceId), Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device says which firmware it has.
    pub fn hear(&self, source: &str, device: &Device, version: &str) {
        let Some(profile) = varying(device).filter(|_| !version.is_empty()) else { return };
        let told = Told { version: Some(version.to_owned()), is_sure: true };
        let former = {
            let mut all = self.told();
            let key = (source.to_owned(), device.id.clone());
            // Of one that has no place nothing is believed.
            if all.len() >= CARDS_MAX && !all.contains_key(&key) {
                return;
            }
            all.insert(key, told)
        };
        let is_news = former.is_none_or(|former| former.version.as_deref() != Some(version));
        match profile.is_for(version) {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(source, device = %device.id, firmware = version, "it takes the overlays of its profile for this firmware");
                self.stale.send_if_modified(|stale| stale.insert(source.to_owned()));
            }
            Err(error) if is_news => {
                tracing::warn!(source, device = %device.id, error = error.to_string(), "what hangs on its firmware is uncertain");
            }
            Err(_) => {}
        }
    }

    /// The device may have other firmware than it last said.
    pub fn doubt(&self, source: &str, device: &Device) {
        if varying(device).is_some()
            && let Some(told) = self.told().get_mut(&(source.to_owned(), device.id.clone()))
        {
            told.is_sure = false;
        }
    }

    /// All devices of a source may have.
    pub fn doubt_all(&self, source: &str) {
        self.told().iter_mut().filter(|((of, _), _)| of == source).for_each(|(_, told)| told.is_sure = false);
    }

    /// What can be believed of a device.
    #[must_use]
    pub fn stance(&self, source: &str, device: &DeviceId, profile: &Profile) -> Stance {
        let all = self.told();
        let told = all.get(&(source.to_owned(), device.clone()));
        match told.and_then(|told| Some((told.version.as_deref()?, told.is_sure))) {
            Some((version, true)) => match profile.is_for(version) {
                Ok(true) => Stance::Right,
                Ok(false) => Stance::Wrong,
                Err(_) => Stance::Unknown,
            },
            Some((_, false)) => Stance::Unknown,
            None if profile.has_version() => Stance::Right,
            None => Stance::Unknown,
        }
    }

    /// What can be believed of a point of a device, by its firmware and its hardware.
    #[must_use]
    pub fn stance_of(&self, source: &str, device: &DeviceId, profile: &Profile, point: &str) -> Stance {
        let hangs = profile.varying().has(point);
        let by_version = if hangs { self.stance(source, device, profile) } else { Stance::Right };
        by_version.with_hardware(profile, point)
    }

    /// The profile as it is for what a device has told.
    #[must_use]
    pub fn edition(&self, source: &str, device: &DeviceId, profile: &Arc<Profile>) -> Arc<Profile> {
        if profile.varying().is_nothing() {
            return Arc::clone(profile);
        }
        let version =
            self.told().get(&(source.to_owned(), device.clone())).and_then(|told| told.version.clone());
        // Of one that it is not for the log has told; what is uncertain is read by what is configured.
        profile.for_firmware(version.as_deref()).map_or_else(|_| Arc::clone(profile), Arc::new)
    }

    /// A source with the profiles of what its devices have told.
    #[must_use]
    pub fn of_source(&self, config: &SourceConfig) -> SourceConfig {
        let mut config = config.clone();
        for device in &mut config.devices {
            device.family =
                device.family.as_ref().map(|family| self.edition(&config.name, &device.id, family));
        }
        config
    }

    /// Resolves when a device of this source has other firmware than its profile is for.
    pub async fn stale(&self, source: &str) {
        // Its sender is here, so that it does not end.
        let _ = self.stale.subscribe().wait_for(|stale| stale.contains(source)).await;
    }

    /// The source is made anew with what is known now.
    pub fn renewed(&self, source: &str) {
        self.stale.send_if_modified(|stale| stale.remove(source));
    }

    /// Hears what readings say of firmware.
    pub fn hear_all(&self, source: &str, readings: &Readings) {
        for (id, profile) in &readings.profiles {
            let Some(point) = profile.identity().firmware_point.as_deref() else { continue };
            let device = Device { id: id.clone(), profile: Some(Arc::clone(profile)) };
            if varying(&device).is_none() {
                continue;
            }
            let said =
                readings.rows.iter().rfind(|(def, _)| def.device == *id && def.point.as_str() == point);
            let Some((value, quality)) = said.and_then(|(def, samples)| {
                samples.last().map(|last| readings.boxes.value(last.value, def.kind()))
            }) else {
                continue;
            };
            match value {
                Value::Null => self.doubt(source, &device),
                _ if quality == Quality::Bad => self.doubt(source, &device),
                value => self.hear(source, &device, &value.to_string()),
            }
        }
    }

    /// Makes of readings that hang on a version what can be believed of them.
    pub fn judge(&self, source: &str, readings: &mut Readings) {
        let hangs = |profile: &Profile| !profile.varying().is_nothing() || profile.lacks_hardware();
        let profiles = readings.profiles.iter().filter(|(_, profile)| hangs(profile));
        let stances: BTreeMap<DeviceId, (Arc<Profile>, Stance)> = profiles
            .map(|(id, profile)| (id.clone(), (Arc::clone(profile), self.stance(source, id, profile))))
            .filter(|(_, (profile, stance))| *stance != Stance::Right || profile.lacks_hardware())
            .collect();
        if stances.is_empty() {
            return;
        }
        let Readings { rows, boxes, .. } = readings;
        for (def, samples) in rows {
            let Some((profile, stance)) = stances.get(&def.device) else { continue };
            let point = def.point.as_str();
            let by_version = if profile.varying().has(point) { *stance } else { Stance::Right };
            let stance = by_version.with_hardware(profile, point);
            if stance == Stance::Right {
                continue;
            }
            for sample in samples {
                let (value, quality) = stance.of(boxes.value(sample.value, def.kind()));
                sample.value = boxes.word(value, quality);
            }
        }
    }

    /// Why nothing may be written to a point: what it takes hangs on the firmware or the hardware, which is not known.
    #[must_use]
    pub fn bars(&self, source: &str, device: &DeviceId, profile: &Profile, point: &str) -> Option<String> {
        if profile.lacks_hardware_of(point) {
            let of = format!("the hardware revision of {device}");
            return Some(format!(
                "what {point} takes hangs on {of}: device.hardware in the configuration says which"
            ));
        }
        let is_barred = profile.varying().has(point) && self.stance(source, device, profile) != Stance::Right;
        is_barred
            .then(|| format!("what {point} takes hangs on the firmware of {device}, which is not known now"))
    }
}

/// The profile of a device whose firmware makes a difference.
fn varying(device: &Device) -> Option<&Arc<Profile>> {
    device.profile.as_ref().filter(|profile| !profile.varying().is_nothing())
}
