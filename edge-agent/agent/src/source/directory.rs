//! Whose a message is, and what it says: devices behind a broker, or those that post to paths. No I/O.
//!
//! Devices that the configuration tells are found by their topics, or paths. Others appear by themselves where a profile's
//! topics have a place for the device; who is told is never taken for one of those.
//!
//! A point `online` of truth values speaks of the device itself: once it is false, all that the device has said is
//! null of bad quality until it says it again.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::json::{self, Mapping};
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};

use crate::config::DeviceConfig;
use crate::source::editions::Editions;
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
    /// Its topic, or its path without the slash before it.
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
    // Of an appeared one, what it has appeared by.
    family: Option<Arc<Mapping>>,
    // What it is called in topics.
    name: String,
    is_offline: bool,
}

/// How a device is reached, for the registry.
fn via(profile: &Profile, name: &str) -> String {
    format!("{} {name}", profile.protocol().as_str())
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is a device's, and read.
    Taken,
    /// It is a device's, or would be, and cannot be read: the reason, which the sheets have too.
    Refused(String),
    /// It is nobody's.
    Nobodys,
}

/// The devices behind a source.
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
    // What devices have told of their firmware, and the source that they are behind.
    editions: (Editions, String),
}

impl Directory {
    /// Of devices that are told, and of families whose devices appear by themselves.
    ///
    /// # Errors
    /// A profile is not of messages.
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
            let via = via(&profile, &name);
            let device = Device::of(config.id.clone(), profile);
            let subject = Subject::new(device, config.stream.clone(), &via);
            let mapping = Arc::new(mapping);
            directory.members.push(Member { subject, mapping, family: None, name, is_offline: false });
        }
        for profile in families {
            let mapping = Mapping::of(profile).map_err(|error| error.to_string())?;
            directory.families.push(Arc::new(mapping));
        }
        Ok(directory)
    }

    /// The same behind a source: devices that appear take the profile for the firmware that they have told there.
    #[must_use]
    pub fn with(mut self, editions: &Editions, source: &str) -> Self {
        self.editions = (editions.clone(), source.to_owned());
        self
    }

    /// The topics of devices that are told.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        self.told.keys().map(String::as_str)
    }

    /// The profiles whose devices appear by themselves.
    pub fn families(&self) -> impl Iterator<Item = &Mapping> {
        self.families.iter().map(Arc::as_ref)
    }

    /// Whose a message of this topic is, or would be if it made a device appear.
    pub fn whose(&self, topic: &str) -> Vec<DeviceId> {
        if let Some(places) = self.told.get(topic) {
            let members = places.iter().filter_map(|place| self.members.get(*place));
            return members.map(|member| member.subject.device.id.clone()).collect();
        }
        let mut names = self.families.iter().filter_map(|mapping| device(mapping, topic));
        names.next().filter(|name| !self.is_told(name)).and_then(device_id).into_iter().collect()
    }

    /// Adds what a message says.
    pub fn hear(&mut self, message: Message<'_>, sheets: &mut Sheets<'_>) -> Heard {
        if let Some(places) = self.told.get(message.topic) {
            let mut heard = Heard::Nobodys;
            for place in places.clone() {
                if let Some(member) = self.members.get_mut(place) {
                    heard = heard.or(member.take(message, sheets));
                }
            }
            return heard;
        }
        let mut heard = Heard::Nobodys;
        for mapping in &self.families.clone() {
            let Some(name) = device(mapping, message.topic) else { continue };
            if self.is_told(name) {
                return heard;
            }
            let place = match self.appeared.get(name) {
                Some(place) => *place,
                None => match self.appear(name, mapping, message, sheets) {
                    Ok(place) => place,
                    Err(refused) => {
                        heard = heard.or(refused);
                        continue;
                    }
                },
            };
            let member = self
                .members
                .get_mut(place)
                .filter(|member| member.family.as_ref().is_some_and(|family| Arc::ptr_eq(family, mapping)));
            if let Some(member) = member {
                return member.take(message, sheets);
            }
        }
        heard
    }

    fn is_told(&self, name: &str) -> bool {
        self.addresses.iter().any(|address| address == name)
    }

    /// Devices that have appeared: the name that topics have, and the name of the family that they were read by.
    pub fn appeared(&self) -> impl Iterator<Item = (&str, &str)> {
        let family = |place: &usize| Some(self.members.get(*place)?.mapping.profile().name());
        self.appeared.iter().filter_map(move |(name, place)| Some((name.as_str(), family(place)?)))
    }

    /// All devices are news again.
    pub const fn forget_news(&mut self) {
        self.known = 0;
    }

    /// Devices that were not given before.
    pub fn take_news(&mut self) -> Vec<Device> {
        let news = self.members.iter().skip(self.known).map(|member| member.subject.device.clone()).collect();
        self.known = self.members.len();
        news
    }

    /// Topic and payload of the message that writes a value.
    ///
    /// # Errors
    /// There is none, or the device cannot get it now.
    pub fn written(&self, write: &Write) -> Result<(String, Vec<u8>), String> {
        let member = self.members.iter().find(|member| member.subject.device.id == write.device);
        let member = member.ok_or_else(|| format!("{} has not appeared", write.device))?;
        if member.is_offline {
            return Err(format!("{} is offline", write.device));
        }
        let written = json::write(member.mapping.profile(), write.point.as_str(), &write.value);
        let (topic, payload) = written.map_err(|error| error.to_string())?;
        Ok((topic.replace(json::DEVICE, &member.name), payload))
    }

    /// Makes a device of the first family that its message is understood by.
    fn appear(
        &mut self,
        name: &str,
        mapping: &Arc<Mapping>,
        message: Message<'_>,
        sheets: &mut Sheets<'_>,
    ) -> Result<usize, Heard> {
        match mapping.read(message.topic, message.payload) {
            Ok(Some(read)) if read.readings.iter().any(|decoded| decoded.outcome.is_ok()) => {}
            Ok(_) => return Err(Heard::Nobodys),
            Err(error) => return Err(refuse(format!("{}: {error}", message.topic), sheets)),
        }
        if self.appeared.len() >= APPEARING_MAX {
            let reason = format!("{name:?} is one device more than the {APPEARING_MAX} that may appear");
            return Err(refuse(reason, sheets));
        }
        let id = device_id(name).ok_or(Heard::Nobodys)?;
        if let Some(other) = self.members.iter().find(|member| member.subject.device.id == id) {
            let reason = format!("{name:?} would be {}, which is another device", other.subject.device.id);
            return Err(refuse(reason, sheets));
        }
        let place = self.members.len();
        let via = via(mapping.profile(), name);
        let (editions, source) = &self.editions;
        let profile = editions.edition(source, &id, &Arc::new(mapping.profile().clone()));
        let (family, name) = (Some(Arc::clone(mapping)), name.to_owned());
        // One whose overlays make no mapping is read as it stands; what differs is no value then.
        let mapping = Mapping::of(&profile).map_or_else(|_| Arc::clone(mapping), Arc::new);
        let subject = Subject::new(Device::of(id, Arc::new(mapping.profile().clone())), None, &via);
        self.members.push(Member { subject, mapping, family, name: name.clone(), is_offline: false });
        self.appeared.insert(name, place);
        Ok(place)
    }
}

impl Heard {
    /// Of one message that several may take.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Taken, _) | (_, Self::Taken) => Self::Taken,
            (Self::Nobodys, other) => other,
            (refused, _) => refused,
        }
    }
}

fn refuse(reason: String, sheets: &mut Sheets<'_>) -> Heard {
    sheets.reject(reason.clone());
    Heard::Refused(reason)
}

impl Member {
    fn take(&mut self, message: Message<'_>, sheets: &mut Sheets<'_>) -> Heard {
        let read = match self.mapping.read(message.topic, message.payload) {
            Ok(Some(read)) => read,
            Ok(None) => return Heard::Nobodys,
            Err(error) => return self.refuse(format!("{}: {error}", message.topic), sheets),
        };
        if let Some(problem) = read.time_problem {
            self.refuse(format!("{}: {problem}", message.topic), sheets);
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
        // Who says so may be the broker.
        sheets.heard(&self.subject.device.id).is_silent = self.is_offline;
        Heard::Taken
    }

    /// What it says cannot be read.
    fn refuse(&self, reason: String, sheets: &mut Sheets<'_>) -> Heard {
        let id = &self.subject.device.id;
        sheets.heard(id).failures += 1;
        sheets.reject_of(id, reason.clone());
        Heard::Refused(reason)
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

#[cfg(test)]
mod tests;
