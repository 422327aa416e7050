//! The registry of devices: who may speak for which, and what is said of them.
//!
//! A device that an agent names for the first time is registered behind it, unless the hub is configured to leave
//! that to an operator. One that is behind another agent stays there: moving it is an operator's word.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::DeviceCard;
use tideline_store::Store;

use crate::hub::Hub;
use crate::metadata::{Card, Changes, DeviceRecord, Marks, Metadata, MetadataError};
use crate::profiles;
use crate::secret::hex;
use crate::signs::is_hidden;
use crate::writes::is_writer;

/// Most registered devices; each takes a few hundred bytes of metadata.
pub const DEVICES_MAX: u64 = 100_000;
/// Most devices that register themselves behind one agent.
pub const DEVICES_PER_AGENT_MAX: usize = 10_000;

/// Why an agent may not speak for a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// It is behind another agent, or one itself.
    #[error(
        "device {device} is registered behind agent {owner}, not behind {agent}: `cloud-hub device set {device} --behind {agent}` moves it"
    )]
    Elsewhere {
        /// The device.
        device: DeviceId,
        /// Who speaks for it.
        owner: String,
        /// Who wants to.
        agent: AgentId,
    },
    /// The device is an agent of its own.
    #[error(
        "device {device} is an agent of its own, and {agent} may not write for it: give the device behind {agent} another id"
    )]
    Agent {
        /// The device.
        device: DeviceId,
        /// Who wants to write for it.
        agent: AgentId,
    },
    /// The hub registers none by itself.
    #[error(
        "device {device} is not registered behind agent {agent}: `cloud-hub device add {device} --behind {agent}` does that"
    )]
    Unknown {
        /// The device.
        device: DeviceId,
        /// Who wants to write for it.
        agent: AgentId,
    },
    /// Its id is one of those that the hub's own writers have.
    #[error(
        "device {device} has an id of those that are the hub's own: give it one that does not begin with _"
    )]
    Reserved {
        /// The device.
        device: DeviceId,
    },
    /// There are as many as there may be.
    #[error("device {device} is not registered, and {registered} are{place}, which is the limit")]
    Full {
        /// The device.
        device: DeviceId,
        /// How many there are.
        registered: u64,
        /// Where.
        place: String,
    },
}

impl Barred {
    /// Which device.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        let (Self::Elsewhere { device, .. }
        | Self::Agent { device, .. }
        | Self::Unknown { device, .. }
        | Self::Reserved { device }
        | Self::Full { device, .. }) = self;
        device
    }
}

/// What came of the cards of an agent.
#[derive(Debug, Default)]
pub struct Told {
    /// Devices that are registered since.
    pub registered: usize,
    /// Devices of which something else is known now.
    pub changed: usize,
    /// Devices that the agent may not speak for.
    pub barred: Vec<Barred>,
}

/// Registers what is new of the devices that an agent writes for.
///
/// # Errors
/// The registry failed; or, within, the first device that the agent may not write for, and then none is registered.
pub fn admit<'d>(
    hub: &Hub,
    agent: &AgentId,
    devices: impl IntoIterator<Item = &'d DeviceId>,
) -> Result<Result<usize, Barred>, MetadataError> {
    let cards: BTreeMap<&DeviceId, Option<Card>> = devices.into_iter().map(|device| (device, None)).collect();
    if known_already(hub, agent, &cards)? {
        return Ok(Ok(0));
    }
    let done = hub.metadata.change(|changes| {
        let told = enter(hub, changes, agent, &cards)?;
        match told.barred.into_iter().next() {
            Some(barred) => Err(Stop::Barred(barred)),
            None => Ok(told.registered),
        }
    });
    match done {
        Ok(registered) => Ok(Ok(registered)),
        Err(Stop::Barred(barred)) => Ok(Err(barred)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Registers what is new of the devices that an agent writes for, and says which it may not write for.
///
/// # Errors
/// The registry failed.
pub fn admit_each<'d>(
    hub: &Hub,
    agent: &AgentId,
    devices: impl IntoIterator<Item = &'d DeviceId>,
) -> Result<Told, MetadataError> {
    let cards: BTreeMap<&DeviceId, Option<Card>> = devices.into_iter().map(|device| (device, None)).collect();
    if known_already(hub, agent, &cards)? {
        return Ok(Told::default());
    }
    hub.metadata.change(|changes| enter(hub, changes, agent, &cards))
}

/// Which of these devices are none of the agent's. What is not registered is nobody else's.
///
/// # Errors
/// The registry failed.
pub fn elsewhere<'d>(
    hub: &Hub,
    agent: &AgentId,
    devices: impl Iterator<Item = &'d DeviceId> + Clone,
) -> Result<Vec<Barred>, MetadataError> {
    let found = hub.metadata.find_each::<DeviceRecord>(devices.clone().map(|device| device.as_str()))?;
    let others = devices.zip(found).filter_map(|(device, record)| {
        let record = record.filter(|record| record.agent != agent.as_str())?;
        Some(barred(device, record, agent))
    });
    Ok(others.collect())
}

/// Notes what an agent says of its devices, and registers those that are new.
///
/// # Errors
/// The registry failed.
pub fn tell(hub: &Hub, agent: &AgentId, cards: Vec<DeviceCard>) -> Result<Told, MetadataError> {
    let cards: Vec<(DeviceId, Option<Card>)> = cards.into_iter().map(read).collect();
    let cards = cards.iter().map(|(device, card)| (device, card.clone())).collect();
    if known_already(hub, agent, &cards)? {
        return Ok(Told::default());
    }
    let told = hub.metadata.change(|changes| enter(hub, changes, agent, &cards))?;
    let strange = profiles::strange(hub, cards.values().flatten())?.join(", ");
    if !strange.is_empty() {
        tracing::warn!(%agent, profiles = strange, "the agent has versions of profiles that the hub does not have: `cloud-hub profile add FOLDER` gives it them");
    }
    let barred: BTreeSet<&DeviceId> = told.barred.iter().map(Barred::device).collect();
    for (device, card) in cards.iter().filter(|(device, _)| !barred.contains(*device)) {
        let rules = card.as_ref().map(|card| card.keeps.as_slice()).unwrap_or_default();
        hub.store.tell_keeps(device, rules);
    }
    Ok(told)
}

/// Tells the store what the profiles of all devices say of how long readings are kept.
///
/// # Errors
/// The registry failed.
pub fn tell_keeps(metadata: &Metadata, store: &Store) -> Result<(), MetadataError> {
    for (name, record) in metadata.list::<DeviceRecord>()? {
        let rules = record.card.map(|card| card.keeps).unwrap_or_default();
        if let Ok(device) = DeviceId::parse(&name)
            && !rules.is_empty()
        {
            store.tell_keeps(&device, &rules);
        }
    }
    Ok(())
}

enum Stop {
    Barred(Barred),
    Failed(MetadataError),
}

impl From<MetadataError> for Stop {
    fn from(error: MetadataError) -> Self {
        Self::Failed(error)
    }
}

fn read(card: DeviceCard) -> (DeviceId, Option<Card>) {
    let DeviceCard { device, profile, firmware, vendor, model, via, keeps, profile_digest } = card;
    // They are shown in terminals too.
    let clean = |text: String| text.chars().filter(|c| !is_hidden(*c)).collect::<String>();
    let (profile, firmware, vendor) = (clean(profile), clean(firmware), clean(vendor));
    let (model, via, keeps) = (clean(model), clean(via), keeps.unwrap_or_default());
    let digest = profile_digest.map(|digest| hex(&digest));
    (device, Some(Card { profile, firmware, vendor, model, via, keeps, digest }))
}

/// Whether nothing is to be written, which most sessions begin with.
fn known_already(
    hub: &Hub,
    agent: &AgentId,
    cards: &BTreeMap<&DeviceId, Option<Card>>,
) -> Result<bool, MetadataError> {
    let found = hub.metadata.find_each::<DeviceRecord>(cards.keys().map(|device| device.as_str()))?;
    let known = |(record, card): (&Option<DeviceRecord>, &Option<Card>)| {
        record.as_ref().is_some_and(|record| {
            record.agent == agent.as_str() && !record.revoked && news(record, card).is_none()
        })
    };
    Ok(found.iter().zip(cards.values()).all(known))
}

/// What is known of a device with this card, if it is more or other than before. What is empty in the card is not known to
/// who wrote it: an agent that starts again has not heard yet what a device tells once a day. Of a device with another
/// profile nothing is known but what the card says.
fn news(record: &DeviceRecord, card: &Option<Card>) -> Option<Card> {
    let mut card = card.clone()?;
    if let Some(known) = record.card.as_ref().filter(|known| known.profile == card.profile) {
        let Card { profile: _, firmware, vendor, model, via, keeps: _, digest: _ } = known;
        let told = [&mut card.firmware, &mut card.vendor, &mut card.model, &mut card.via];
        for (told, known) in told.into_iter().zip([firmware, vendor, model, via]) {
            if told.is_empty() {
                told.clone_from(known);
            }
        }
    }
    (record.card.as_ref() != Some(&card)).then_some(card)
}

fn enter(
    hub: &Hub,
    changes: &mut Changes,
    agent: &AgentId,
    cards: &BTreeMap<&DeviceId, Option<Card>>,
) -> Result<Told, MetadataError> {
    let mut told = Told::default();
    // Counted when the first is new.
    let mut room = None;
    for (device, card) in cards {
        let device = *device;
        match changes.find::<DeviceRecord>(device.as_str())? {
            Some(record) if record.agent == agent.as_str() && !record.revoked => {
                if let Some(card) = news(&record, card) {
                    changes.put(device.as_str(), &DeviceRecord { card: Some(card), ..record })?;
                    told.changed += 1;
                }
            }
            Some(record) => told.barred.push(barred(device, record, agent)),
            None => {
                let room = match &mut room {
                    Some(room) => room,
                    None => room.insert(Room::of(changes, agent)?),
                };
                match room.take(hub, device, agent) {
                    Err(barred) => told.barred.push(barred),
                    Ok(()) => {
                        let new = DeviceRecord::behind(agent.as_str(), hub.now_ms());
                        changes.put(device.as_str(), &DeviceRecord { card: card.clone(), ..new })?;
                        told.registered += 1;
                    }
                }
            }
        }
    }
    Ok(told)
}

fn barred(device: &DeviceId, record: DeviceRecord, agent: &AgentId) -> Barred {
    let (device, agent) = (device.clone(), agent.clone());
    if record.agent == device.as_str() {
        Barred::Agent { device, agent }
    } else {
        Barred::Elsewhere { device, owner: record.agent, agent }
    }
}

/// How many more may be registered.
struct Room {
    all: u64,
    behind: usize,
}

impl Room {
    fn of(changes: &Changes, agent: &AgentId) -> Result<Self, MetadataError> {
        let all = changes.list::<DeviceRecord>()?;
        let behind = all.iter().filter(|(_, record)| record.agent == agent.as_str()).count();
        Ok(Self { all: all.len() as u64, behind })
    }

    fn take(&mut self, hub: &Hub, device: &DeviceId, agent: &AgentId) -> Result<(), Barred> {
        let device = device.clone();
        if !hub.config.register_devices {
            return Err(Barred::Unknown { device, agent: agent.clone() });
        }
        if is_writer(device.as_str()) {
            return Err(Barred::Reserved { device });
        }
        if self.all >= DEVICES_MAX {
            return Err(Barred::Full { device, registered: self.all, place: String::new() });
        }
        if self.behind >= DEVICES_PER_AGENT_MAX {
            let place = format!(" behind agent {agent}");
            return Err(Barred::Full { device, registered: self.behind as u64, place });
        }
        self.all += 1;
        self.behind += 1;
        Ok(())
    }
}

/// Which devices are meant, by what the registry says of them; all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The agent that speaks for them.
    pub agent: Option<String>,
    /// Where they are.
    pub site: Option<String>,
    /// A group that they are in.
    pub group: Option<String>,
    /// Their profile.
    pub profile: Option<String>,
    /// Tags that they have, with the value where one is given.
    pub tags: Vec<(String, Option<String>)>,
    /// A text that is in their id, title, maker or model, whatever its case.
    pub text: Option<String>,
}

impl Filter {
    /// Whether a device fits.
    #[must_use]
    pub fn fits(&self, id: &str, record: &DeviceRecord) -> bool {
        let Marks { title, site, groups, tags, .. } = &record.marks;
        let card = record.card.clone().unwrap_or_default();
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let tagged = |(key, value): &(String, Option<String>)| {
            tags.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        let spoken = |text: &String| {
            let text = text.to_lowercase();
            [id, title, &card.vendor, &card.model].iter().any(|found| found.to_lowercase().contains(&text))
        };
        is(&self.agent, &record.agent)
            && is(&self.site, site)
            && is(&self.profile, &card.profile)
            && self.group.as_ref().is_none_or(|group| groups.contains(group))
            && self.tags.iter().all(tagged)
            && self.text.as_ref().is_none_or(spoken)
    }

    /// One selector, as `site=north` or `tag.floor=2`: for lists of devices, in which it stands behind an `@`.
    ///
    /// # Errors
    /// What is allowed.
    pub fn selector(text: &str) -> Result<Self, String> {
        let allowed = || {
            format!("@{text}: a selector is @site=…, @group=…, @agent=…, @profile=…, @tag.KEY or @tag.KEY=…")
        };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        let mut filter = Self::default();
        match (key, key.strip_prefix("tag."), &value) {
            ("site", _, Some(_)) => filter.site = value,
            ("group", _, Some(_)) => filter.group = value,
            ("agent", _, Some(_)) => filter.agent = value,
            ("profile", _, Some(_)) => filter.profile = value,
            (_, Some(tag), _) if !tag.is_empty() => filter.tags.push((tag.to_owned(), value)),
            _ => return Err(allowed()),
        }
        Ok(filter)
    }
}

/// The devices that `@` selectors stand for.
///
/// # Errors
/// The registry failed; or, within, what is wrong with a selector, or that no device fits it.
pub fn resolve(hub: &Hub, names: Vec<String>) -> Result<Result<Vec<String>, String>, MetadataError> {
    if names.is_empty() {
        return Ok(Ok(names));
    }
    let records = hub.metadata.list::<DeviceRecord>()?;
    let mut out = Vec::new();
    for name in names {
        let filter = match Filter::selector(name.strip_prefix('@').unwrap_or(&name)) {
            Ok(filter) => filter,
            Err(allowed) => return Ok(Err(allowed)),
        };
        let before = out.len();
        out.extend(records.iter().filter(|(id, record)| filter.fits(id, record)).map(|(id, _)| id.clone()));
        if out.len() == before {
            return Ok(Err(format!("{name}: no device fits")));
        }
    }
    Ok(Ok(out))
}
