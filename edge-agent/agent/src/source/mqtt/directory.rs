//! Whose a message is, and what it says: the devices behind a broker. No I/O.
//!
//! Devices that the configuration tells are found by their topics. Others appear by themselves where a profile's topics
//! have a place for the device; who is told is never taken for one of those.
//!
//! A point `online` of truth values speaks of the device itself: once it is false, all that the device has said is
//! null of bad quality until it says it again.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::json::{self, Mapping};
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};

use super::Speech;
use crate::config::DeviceConfig;
use crate::source::sheets::Sheets;
use crate::source::subject::Subject;
use crate::source::{Device, Write};

/// Most devices that appear behind one source by themselves: each has a place in what is shown.
pub const APPEARING_MAX: usize = 1_000;
/// The point that says whether its device is there.
pub const ONLINE: &str = "online";

/// A message, as it comes.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// Its topic.
    pub topic: &'m str,
    /// What it says.
    pub payload: &'m [u8],
    /// Whether the broker has kept it for a time that nobody knows.
    pub retained: bool,
}

/// A device.
#[derive(Debug)]
struct Member {
    subject: Subject,
    mapping: Arc<Mapping>,
    // What it is called in topics.
    name: String,
    is_offline: bool,
}

/// The devices behind a broker.
#[derive(Debug, Default)]
pub struct Directory {
    members: Vec<Member>,
    // By topic; several devices may share one.
    told: HashMap<String, Vec<usize>>,
    addresses: Vec<String>,
    families: Vec<Arc<Mapping>>,
    // By the name that topics have.
    appeared: HashMap<String, usize>,
    // How many of the members are no news.
    known: usize,
}

impl Directory {
    /// Of devices that are told, and of families whose devices appear by themselves.
    ///
    /// # Errors
    /// A profile is not of MQTT.
    pub fn new(told: &[DeviceConfig], families: &[Arc<Profile>]) -> Result<Self, String> {
        let mut directory = Self::default();
        for config in told {
            let profile = config.family.clone().ok_or_else(|| format!("{}: it has no profile", config.id))?;
            let mapping = Mapping::of(&profile).map_err(|error| format!("{}: {error}", config.id))?;
            let address = (!config.address.is_empty()).then_some(config.address.as_str());
            let place = directory.members.len();
            for topic in mapping.topics(Some(address.unwrap_or(config.id.as_str()))) {
                directory.told.entry(topic).or_default().push(place);
            }
            let name = address.unwrap_or(config.id.as_str()).to_owned();
            directory.addresses.push(name.clone());
            let device = Device::of(config.id.clone(), profile);
            let subject = Subject::new(device, config.stream.clone());
            let mapping = Arc::new(mapping);
            directory.members.push(Member { subject, mapping, name, is_offline: false });
        }
        for profile in families {
            let mapping = Mapping::of(profile).map_err(|error| error.to_string())?;
            directory.families.push(Arc::new(mapping));
        }
        Ok(directory)
    }
}

impl Speech for Directory {
    /// No filter is within another: a broker may send a message for each.
    fn filters(&self) -> Vec<String> {
        let wide = self.families.iter().flat_map(|mapping| mapping.topics(None));
        let mut wide: Vec<String> = wide.collect();
        wide.sort();
        wide.dedup();
        let mut filters: Vec<String> = self
            .told
            .keys()
            .filter(|topic| !wide.iter().any(|filter| covers(filter, topic)))
            .cloned()
            .collect();
        filters.extend(
            wide.iter().filter(|one| !wide.iter().any(|other| other != *one && covers(other, one))).cloned(),
        );
        filters.sort();
        filters
    }

    fn begin(&mut self, _now_ns: u64) {
        self.known = 0;
    }

    fn take(&mut self, _now_ns: u64, message: Message<'_>, sheets: &mut Sheets<'_>) {
        if let Some(places) = self.told.get(message.topic) {
            for place in places.clone() {
                if let Some(member) = self.members.get_mut(place) {
                    member.take(message, sheets);
                }
            }
            return;
        }
        let families = self.families.clone();
        for mapping in &families {
            let Some(name) = device(mapping, message.topic) else { continue };
            if self.addresses.iter().any(|address| address == name) {
                return;
            }
            let place = self.appeared.get(name).copied();
            let Some(place) = place.or_else(|| self.appear(name, mapping, message, sheets)) else { continue };
            let member = self.members.get_mut(place).filter(|member| Arc::ptr_eq(&member.mapping, mapping));
            if let Some(member) = member {
                return member.take(message, sheets);
            }
        }
    }

    fn turn(&mut self, _now_ns: u64, _sheets: &mut Sheets<'_>) -> Option<Vec<(String, Vec<u8>)>> {
        None
    }

    fn news(&mut self) -> Vec<Device> {
        let news = self.members.iter().skip(self.known).map(|member| member.subject.device.clone()).collect();
        self.known = self.members.len();
        news
    }

    fn message(&self, write: &Write) -> Result<(String, Vec<u8>), String> {
        let member = self.members.iter().find(|member| member.subject.device.id == write.device);
        let member = member.ok_or_else(|| format!("{} has not appeared", write.device))?;
        if member.is_offline {
            return Err(format!("{} is offline", write.device));
        }
        let written = json::write(member.mapping.profile(), write.point.as_str(), &write.value);
        let (topic, payload) = written.map_err(|error| error.to_string())?;
        Ok((topic.replace(json::DEVICE, &member.name), payload))
    }
}

impl Directory {
    /// Makes a device of the first family that its message is understood by.
    fn appear(
        &mut self,
        name: &str,
        mapping: &Arc<Mapping>,
        message: Message<'_>,
        sheets: &mut Sheets<'_>,
    ) -> Option<usize> {
        match mapping.read(message.topic, message.payload) {
            Ok(Some(read)) if read.readings.iter().any(|decoded| decoded.outcome.is_ok()) => {}
            Ok(_) => return None,
            Err(error) => {
                sheets.reject(format!("{}: {error}", message.topic));
                return None;
            }
        }
        if self.appeared.len() >= APPEARING_MAX {
            sheets.reject(format!("{name:?} is one device more than the {APPEARING_MAX} that may appear"));
            return None;
        }
        let id = device_id(name)?;
        if let Some(other) = self.members.iter().find(|member| member.subject.device.id == id) {
            sheets.reject(format!("{name:?} would be {}, which is another device", other.subject.device.id));
            return None;
        }
        let place = self.members.len();
        let subject = Subject::new(Device::of(id, Arc::new(mapping.profile().clone())), None);
        let (mapping, name) = (Arc::clone(mapping), name.to_owned());
        self.members.push(Member { subject, mapping, name: name.clone(), is_offline: false });
        self.appeared.insert(name, place);
        Some(place)
    }
}

impl Member {
    fn take(&mut self, message: Message<'_>, sheets: &mut Sheets<'_>) {
        let read = match self.mapping.read(message.topic, message.payload) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => return sheets.reject(format!("{}: {error}", message.topic)),
        };
        if let Some(problem) = read.time_problem {
            sheets.reject(format!("{}: {problem}", message.topic));
        }
        // What the broker kept may be of last year.
        let is_old = message.retained && read.time_ns.is_none();
        let quality = if is_old { Quality::Uncertain } else { Quality::Good };
        for decoded in read.readings {
            if decoded.point.as_str() == ONLINE {
                self.is_offline = decoded.reading().0 == Value::Bool(false);
                if self.is_offline {
                    self.subject.silence(|point| point.as_str() != ONLINE, sheets);
                }
            }
            self.subject.say(&decoded, read.time_ns, quality, sheets);
        }
    }
}

/// The device that a topic names by a profile's patterns: the shortest name that one of them gives.
fn device<'t>(mapping: &Mapping, topic: &'t str) -> Option<&'t str> {
    // What has levels of its own is no answer to a filter with `+`.
    mapping.device(topic).filter(|name| !name.is_empty() && !name.contains('/'))
}

/// An id made of a name in topics: what is not allowed becomes '-'.
pub fn device_id(name: &str) -> Option<DeviceId> {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = name.chars().map(clean).take(tideline_protocol::model::ID_BYTES_MAX).collect();
    DeviceId::parse(&text).ok()
}

/// Whether all that a filter or topic is of is of another filter too.
fn covers(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (None, None) => return true,
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
