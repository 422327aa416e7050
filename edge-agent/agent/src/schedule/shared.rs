//! Schedules that twins desire, `desired/schedules/<name>`, of a device itself and of the groups and the site where it is.
//!
//! This is the core: it says of what stands in the documents which schedules the agent has by that, and what each device's twin is to
//! tell of them. No clock, no disk, no tasks. What the agent's own configuration has for a device goes before its twin, this before
//! its groups in order of name, and they before its site; another document's schedule of the same name is none then.

pub(crate) mod driver;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Key, Section, Twin};

use crate::config::{self, Scheduled};

/// The member of `desired` and of `reported` with schedules.
pub const KEY: &str = "schedules";
/// Most schedules that an agent has of documents: each is looked at twice a second, and its end is a change of a twin.
pub const AGENT_MAX: usize = 256;
/// Most that a device has of its documents: each is a dozen leaves of its twin.
pub const DEVICE_MAX: usize = 32;

/// A schedule as a document has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As it stands there.
    pub json: Json,
    /// As it was read, or why it is none.
    pub read: Result<Scheduled, String>,
}

/// The schedules of a document by name.
pub type Definitions = BTreeMap<String, Wanted>;

/// What a document desires of schedules.
#[must_use]
pub fn definitions(twin: &Twin) -> Definitions {
    let desired = twin.json(Section::Desired);
    let all = desired.get(KEY).and_then(Json::as_object).into_iter().flatten();
    // Of one with such a name nothing could be told.
    let all = all.filter(|(name, _)| can_be_told(name));
    all.map(|(name, json)| (name.clone(), Wanted { json: json.clone(), read: config::schedule(name, json) }))
        .collect()
}

fn can_be_told(name: &str) -> bool {
    !name.starts_with('$') && Key::of_names([KEY, name, "last", "ended_ms"]).is_ok()
}

/// What holds for a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// What its own twin desires.
    pub own: Definitions,
    /// The documents that hold for it, in the order in which they go.
    pub documents: Vec<DocumentId>,
}

/// Whether a device has a point that a schedule writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// It has.
    There,
    /// It has not, or none that may be written.
    None,
    /// No source writes to the device now, and so nobody says.
    Unknown,
}

/// What stands for a device and a name.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// It runs, as the schedule of this name in [`Plan::runs`].
    Runs(String),
    /// It does not, and why.
    Refused(String),
    /// The agent's configuration has one of this name for the device.
    Configured,
    /// Nobody says now whether the device has the point: it does not run, and what was told of it stays.
    Away,
}

/// What a device's twin is to tell of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The document of a group or a site; none for the device's own twin.
    pub from: Option<DocumentId>,
    /// As it stands there.
    pub json: Json,
    /// What becomes of it.
    pub how: How,
}

/// The schedules that an agent has by documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Each with a name that no schedule of the configuration can have.
    pub runs: Vec<Scheduled>,
    /// What is told of them, by device and name.
    pub told: BTreeMap<DeviceId, BTreeMap<String, Told>>,
}

impl Plan {
    /// Whether some device has to be asked again whether it has a point.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.told.values().flat_map(BTreeMap::values).any(|told| told.how == How::Away)
    }
}

/// What is known of documents and of the agent.
pub struct Known<'a> {
    /// The agent's own device.
    pub agent: &'a DeviceId,
    /// The schedules of its configuration.
    pub configured: &'a [Scheduled],
    /// What holds for each device.
    pub held: &'a BTreeMap<DeviceId, Held>,
    /// The documents of groups and sites.
    pub shared: &'a BTreeMap<DocumentId, Definitions>,
}

impl Known<'_> {
    /// The schedules that the agent has by all that; `point` says whether a device has one that is written.
    #[must_use]
    pub fn plan(&self, point: impl Fn(&DeviceId, &str) -> Point) -> Plan {
        let (mut plan, mut keys) = (Plan::default(), BTreeSet::new());
        for (device, held) in self.held {
            let mut told = BTreeMap::new();
            for (from, name, wanted) in self.wanted(held) {
                if told.contains_key(name) {
                    continue;
                }
                let Some(how) = self.how(device, from, name, wanted, &point) else { continue };
                let how = match (how, &wanted.read) {
                    (How::Runs(_), _) if told.len() >= DEVICE_MAX => How::Refused(format!(
                        "the device has {DEVICE_MAX} schedules of twins and documents already, the most that it may have"
                    )),
                    (How::Runs(key), _) if keys.len() >= AGENT_MAX && !keys.contains(&key) => {
                        How::Refused(format!(
                            "the agent has {AGENT_MAX} schedules of twins and documents already, the most that it may have"
                        ))
                    }
                    (How::Runs(key), Ok(read)) => {
                        if keys.insert(key.clone()) {
                            plan.runs.push(self.run(device, key.clone(), read));
                        }
                        How::Runs(key)
                    }
                    (how, _) => how,
                };
                let from = from.cloned();
                told.insert(name.clone(), Told { from, json: wanted.json.clone(), how });
            }
            plan.told.insert(device.clone(), told);
        }
        plan
    }

    /// What a device's own twin wants, and then what the documents want that hold for it, in the order in which they go.
    fn wanted<'h>(
        &'h self,
        held: &'h Held,
    ) -> impl Iterator<Item = (Option<&'h DocumentId>, &'h String, &'h Wanted)> {
        let own = held.own.iter().map(|(name, wanted)| (None, name, wanted));
        let shared =
            held.documents.iter().filter_map(|document| Some((document, self.shared.get(document)?)));
        own.chain(
            shared.flat_map(|(document, all)| {
                all.iter().map(move |(name, wanted)| (Some(document), name, wanted))
            }),
        )
    }

    /// None where the schedule writes a point that the device has not: others may have what this one has not.
    fn how(
        &self,
        device: &DeviceId,
        from: Option<&DocumentId>,
        name: &str,
        wanted: &Wanted,
        point: impl Fn(&DeviceId, &str) -> Point,
    ) -> Option<How> {
        if self.is_configured(device, name) {
            return Some(How::Configured);
        }
        let read = match &wanted.read {
            Ok(read) => read,
            Err(why) => return Some(How::Refused(why.clone())),
        };
        if from.is_some() && read.kind == "write" {
            match point(device, &read.point().unwrap_or_default()) {
                Point::There => {}
                Point::None => return None,
                Point::Unknown => return Some(How::Away),
            }
        }
        // What the agent does is done once, however many of its devices are there.
        let key = match from.filter(|_| !is_of_device(&read.kind)) {
            Some(document) => format!("{name}@{}", document.name()),
            None => format!("{name}@{device}"),
        };
        Some(How::Runs(key))
    }

    /// The agent's own twin tells of all schedules of its configuration by their names.
    fn is_configured(&self, device: &DeviceId, name: &str) -> bool {
        let mut same = self.configured.iter().filter(|one| one.schedule.name == name);
        same.any(|one| device == self.agent || one.device.as_ref() == Some(device))
    }

    fn run(&self, device: &DeviceId, key: String, read: &Scheduled) -> Scheduled {
        let device = if is_of_device(&read.kind) { device } else { self.agent };
        let mut run = Scheduled { device: Some(device.clone()), ..read.clone() };
        run.schedule.name = key;
        run
    }
}

/// Whether a kind is done with a device, and not by its agent alone.
fn is_of_device(kind: &str) -> bool {
    matches!(kind, "write" | "read")
}

#[cfg(test)]
mod tests;
