//! Nodes and devices of Sparkplug B as a host sees them: births, aliases, sequences and deaths. No I/O.
//!
//! ```text
//!            NBIRTH                      NDEATH of the same bdSeq
//!  unknown ─────────▶ born ◀──────────┐ ──────────────────────────▶ dead ──▶ NBIRTH: born
//!     │                │ connection lost: what it said meanwhile is unknown
//!     │                ▼               │ NBIRTH
//!     │              doubted ──────────┘
//!     │                │ no birth for so long ──▶ dead
//!     └─ any message of it: a rebirth is asked for, now and then
//! ```
//!
//! A message out of sequence means that one is lost: what it says is taken, and a rebirth is asked for. Aliases are of
//! a node with all its devices, and last until its next birth. Who dies leaves null of bad quality, once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message as _;
use tideline_profiles::names::Names;
use tideline_profiles::{Profile, Protocol};

use super::asked::{ASKED_MAX, Asked};
use super::party::{Known, Party};
use super::payload::{NAME_BYTES_MAX, Payload};
use super::topic::{Topic, command};
use crate::config::DeviceConfig;
use crate::source::directory::{APPEARING_MAX, Message, device_id};
use crate::source::editions::Editions;
use crate::source::introduction::card;
use crate::source::mqtt::{Command, Proof, Speech};
use crate::source::sheets::Sheets;
use crate::source::{Device, Write};

/// What topics of Sparkplug B begin with (4.1.1 of the specification), where a profile says nothing else.
const USUAL_NAMESPACE: &str = "spBv1.0";
/// Most nodes, living and dead.
pub const NODES_MAX: usize = 1_000;
/// Most metrics of all nodes: the hub knows a series for each.
pub const METRICS_ALL_MAX: usize = 100_000;
/// Least time between two requests for the births of one node.
pub const REBIRTH_REST_NS: u64 = 30_000_000_000;
/// Most births that are asked for at once: the way to the broker has room for some hundred messages.
pub const REBIRTHS_MAX: usize = 64;
/// A node that does not give its birth for this long after the connection is back is dead.
pub const DOUBT_NS: u64 = 120_000_000_000;

/// Whose metric an alias stands for.
type Alias = (Option<Arc<str>>, Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It has told all since its birth.
    Born,
    /// It may have told what did not get here.
    Doubted { since_ns: u64 },
    /// It is gone, or has never told.
    Dead,
}

#[derive(Debug)]
struct Node {
    life: Life,
    bd_seq: Option<u64>,
    next_seq: u8,
    aliases: HashMap<u64, Alias>,
    // The node itself is nobody's device.
    parties: BTreeMap<Option<Arc<str>>, Party>,
    asked_ns: Option<u64>,
    wants_birth: bool,
}

impl Node {
    fn new() -> Self {
        Self {
            life: Life::Dead,
            bd_seq: None,
            next_seq: 0,
            aliases: HashMap::new(),
            parties: BTreeMap::new(),
            asked_ns: None,
            wants_birth: false,
        }
    }

    fn metrics(&self) -> usize {
        self.parties.values().map(|party| party.metrics.len()).sum()
    }
}

/// All nodes of some groups.
#[derive(Debug)]
pub struct Nodes {
    groups: Vec<String>,
    // What topics begin with, of all families.
    namespaces: BTreeSet<String>,
    told: HashMap<String, DeviceConfig>,
    family: Arc<Names>,
    nodes: BTreeMap<(String, String), Node>,
    // Ids that are taken, with whose they are.
    ids: HashMap<String, String>,
    // Devices that were not given since the connection began.
    news: Vec<Device>,
    was_begun: bool,
    // When the last message came.
    now_ns: u64,
    // What devices have told of their firmware, and the source that they are behind.
    editions: (Editions, String),
}

impl Nodes {
    /// Of groups, all where none is named. Devices that are not told appear as ones of `family`.
    ///
    /// # Errors
    /// A device has no profile.
    pub fn new(groups: Vec<String>, told: &[DeviceConfig], family: &Profile) -> Result<Self, String> {
        let by_address = told.iter().map(|config| (config.address.clone(), config.clone())).collect();
        let ids = told.iter().map(|config| (config.id.to_string(), config.address.clone())).collect();
        if let Some(config) = told.iter().find(|config| config.family.is_none()) {
            return Err(format!("{}: it has no profile", config.id));
        }
        let profiles = told.iter().filter_map(|config| config.family.as_deref());
        let namespaces = profiles.chain([family]).map(|profile| namespace(profile).to_owned()).collect();
        let family = Arc::new(Names::of(family));
        let (nodes, news) = (BTreeMap::new(), Vec::new());
        Ok(Self {
            groups,
            namespaces,
            told: by_address,
            family,
            nodes,
            ids,
            news,
            was_begun: false,
            now_ns: 0,
            editions: Default::default(),
        })
    }

    /// The same behind a source: devices that appear take the profile for the firmware that they have told there.
    #[must_use]
    pub fn with(mut self, editions: &Editions, source: &str) -> Self {
        self.editions = (editions.clone(), source.to_owned());
        self
    }

    /// Makes the party of a topic.
    fn party(&mut self, topic: &Topic<'_>) -> Result<Party, String> {
        let address = topic.address();
        let is_meant = |config: &&DeviceConfig| {
            config.family.as_deref().is_none_or(|profile| namespace(profile) == topic.namespace())
        };
        let config = self.told.get(&address).filter(is_meant);
        let (id, names, stream) = match config {
            Some(config) => {
                let profile = config.family.as_deref().ok_or("it has no profile")?;
                (config.id.clone(), Arc::new(Names::of(profile)), config.stream.clone())
            }
            None => {
                if self.ids.len() >= APPEARING_MAX + self.told.len() {
                    return Err(format!(
                        "{address} is one device more than the {APPEARING_MAX} that may appear"
                    ));
                }
                let id = device_id(&address.replace('/', ".")).ok_or("it makes no id")?;
                let (editions, source) = &self.editions;
                let profile = editions.edition(source, &id, &Arc::new(self.family.profile().clone()));
                (id, Arc::new(Names::of(&profile)), None)
            }
        };
        let owner = self.ids.entry(id.to_string()).or_insert_with(|| address.clone());
        if *owner != address {
            return Err(format!("{address} would be {id}, which is {owner}"));
        }
        let device = Device::of(id, Arc::new(names.profile().clone()));
        self.news.push(device.clone());
        Ok(Party { device, names, stream, metrics: HashMap::new(), asked: Asked::default(), is_born: false })
    }

    fn birth(&mut self, topic: &Topic<'_>, payload: &Payload, sheets: &mut Sheets<'_>) -> Result<(), String> {
        let key = (topic.prefix.to_owned(), topic.node.to_owned());
        let who: Option<Arc<str>> = topic.device.map(Into::into);
        let own = self.nodes.get(&key).and_then(|node| node.parties.get(&who));
        let own = own.map_or(0, |party| party.metrics.len());
        let total = self.nodes.values().map(Node::metrics).sum::<usize>() - own;
        if total + payload.metrics.len() > METRICS_ALL_MAX {
            return Err(format!("all nodes have {total} metrics; allowed are {METRICS_ALL_MAX}"));
        }
        let known = self.nodes.get_mut(&key).and_then(|node| node.parties.remove(&who));
        self.make_room(&key, true)?;
        let mut party = match known {
            Some(party) => party,
            None => self.party(topic)?,
        };
        let node = self.nodes.entry(key).or_insert_with(Node::new);
        if who.is_none() {
            (node.life, node.wants_birth, node.asked_ns) = (Life::Born, false, None);
            node.bd_seq = payload.bd_seq();
            node.aliases.clear();
            // Its devices tell their own births after this.
            node.parties.values_mut().for_each(|party| party.is_born = false);
        }
        node.aliases.retain(|_, (whose, _)| *whose != who);
        let former = std::mem::take(&mut party.metrics);
        for metric in &payload.metrics {
            let Some(name) = metric.name.as_deref().filter(|name| !name.is_empty()) else {
                sheets.reject(format!("{}: a metric without a name is in a birth", topic.address()));
                continue;
            };
            if name.len() > NAME_BYTES_MAX {
                let (address, len) = (topic.address(), name.len());
                sheets.reject(format!(
                    "{address}: the name of a metric has {len} bytes; allowed are {NAME_BYTES_MAX}"
                ));
                continue;
            }
            let name: Arc<str> = name.into();
            if let Some(alias) = metric.alias {
                node.aliases.insert(alias, (who.clone(), Arc::clone(&name)));
            }
            let said = former.get(&name).is_some_and(|known| known.said);
            let datatype = metric.datatype.unwrap_or_default();
            party.metrics.insert(name, Known { datatype, alias: metric.alias, said });
        }
        party.is_born = true;
        sheets.tell(Some(card(&party.device, &format!("sparkplug {}", topic.address()))));
        // What it no longer has is no longer told.
        for (name, known) in former {
            if known.said && !party.metrics.contains_key(&name) {
                party.forget(&name, &known, sheets);
            }
        }
        for metric in &payload.metrics {
            if let Some(name) = metric.name.as_deref() {
                party.take(name, metric, payload, sheets);
            }
        }
        node.parties.insert(who, party);
        Ok(())
    }

    fn data(&mut self, topic: &Topic<'_>, payload: &Payload, sheets: &mut Sheets<'_>) -> Result<(), String> {
        let node = self.node(topic)?;
        let who: Option<Arc<str>> = topic.device.map(Into::into);
        if !node.parties.get(&who).is_some_and(|party| party.is_born) || node.life == Life::Dead {
            node.wants_birth = true;
            return Err("it tells data before its birth; a rebirth is asked for".into());
        }
        for metric in &payload.metrics {
            let (whose, name) = match (metric.name.as_deref(), metric.alias) {
                (Some(name), _) if !name.is_empty() => (who.clone(), Arc::from(name)),
                (_, Some(alias)) => match node.aliases.get(&alias) {
                    Some(found) => found.clone(),
                    None => {
                        node.wants_birth = true;
                        sheets.reject(format!("{}: no birth tells alias {alias}", topic.address()));
                        continue;
                    }
                },
                _ => {
                    sheets.reject(format!("{}: a metric has neither name nor alias", topic.address()));
                    continue;
                }
            };
            let Some(party) = node.parties.get_mut(&whose) else { continue };
            if !party.take(&name, metric, payload, sheets) {
                node.wants_birth = true;
                let name: String = name.chars().take(64).collect();
                sheets.reject(format!("{}: no birth tells {name:?}", topic.address()));
            }
        }
        Ok(())
    }

    fn death(&mut self, topic: &Topic<'_>, payload: &Payload, sheets: &mut Sheets<'_>) -> Result<(), String> {
        let node = self.node(topic)?;
        match topic.device {
            Some(device) => {
                if let Some(party) = node.parties.get_mut(&Some(device.into())) {
                    party.die(sheets);
                }
            }
            // The will of a session that a newer one has followed.
            None if node.bd_seq != payload.bd_seq() => {}
            None => node.die(sheets),
        }
        Ok(())
    }

    /// The node of a topic, which is made where there is room.
    fn node(&mut self, topic: &Topic<'_>) -> Result<&mut Node, String> {
        let key = (topic.prefix.to_owned(), topic.node.to_owned());
        self.make_room(&key, false)?;
        Ok(self.nodes.entry(key).or_insert_with(Node::new))
    }

    /// Sees to a place for a node. One that has told nothing but that it is there gives its own up: whoever makes up names
    /// must not keep out who tells a birth. To one that tells none it does so after its rest alone, or each made-up name
    /// would have a birth asked for.
    fn make_room(&mut self, key: &(String, String), tells_birth: bool) -> Result<(), String> {
        if self.nodes.contains_key(key) || self.nodes.len() < NODES_MAX {
            return Ok(());
        }
        let nameless = || self.nodes.iter().filter(|(_, node)| node.parties.is_empty());
        let rested = nameless().find(|(_, node)| !node.rests(self.now_ns));
        let found = rested.or_else(|| nameless().next().filter(|_| tells_birth)).map(|(key, _)| key.clone());
        let found =
            found.ok_or_else(|| format!("it is one node more than the {NODES_MAX} that are allowed"))?;
        self.nodes.remove(&found);
        Ok(())
    }

    /// Where the device of a write is told what to do, and what is known of it.
    fn addressed(&mut self, write: &Write) -> Result<(String, &mut Party), String> {
        let device = &write.device;
        for ((prefix, name), node) in &mut self.nodes {
            let found = node.parties.iter_mut().find(|(_, party)| party.device.id == *device);
            let Some((who, party)) = found else { continue };
            if node.life != Life::Born || !party.is_born {
                return Err(format!("{device} has told no birth, or died"));
            }
            return Ok((command(prefix, name, who.as_deref()), party));
        }
        Err(format!("{device} has told no birth"))
    }

    /// Looks whether a message is missing before this one.
    fn follow(&mut self, topic: &Topic<'_>, payload: &Payload) -> Result<(), String> {
        let seq = payload.seq.and_then(|seq| u8::try_from(seq).ok());
        let seq = seq.ok_or("it has no seq of 0 to 255")?;
        let node = self.node(topic)?;
        let is_gap = topic.verb != "NBIRTH" && node.life == Life::Born && seq != node.next_seq;
        node.next_seq = seq.wrapping_add(1);
        node.wants_birth |= is_gap;
        Ok(())
    }
}

/// What topics of a family begin with.
fn namespace(profile: &Profile) -> &str {
    match profile.protocol() {
        Protocol::Sparkplug(table) => &table.namespace,
        _ => USUAL_NAMESPACE,
    }
}

impl Node {
    /// Whether it was asked for its birth a moment ago.
    fn rests(&self, now_ns: u64) -> bool {
        self.asked_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < REBIRTH_REST_NS)
    }

    fn die(&mut self, sheets: &mut Sheets<'_>) {
        self.life = Life::Dead;
        self.aliases.clear();
        self.parties.values_mut().for_each(|party| party.die(sheets));
    }
}

impl Speech for Nodes {
    fn filters(&self) -> Vec<String> {
        let all = vec!["+".to_owned()];
        let groups = if self.groups.is_empty() { &all } else { &self.groups };
        let verbs = [
            ("NBIRTH", ""),
            ("NDATA", ""),
            ("NDEATH", ""),
            ("DBIRTH", "/+"),
            ("DDATA", "/+"),
            ("DDEATH", "/+"),
        ];
        let of = |prefix: String| verbs.map(|(verb, device)| format!("{prefix}/{verb}/+{device}"));
        let all = self.namespaces.iter();
        all.flat_map(|space| groups.iter().map(move |group| format!("{space}/{group}")))
            .flat_map(of)
            .collect()
    }

    fn begin(&mut self, now_ns: u64) {
        if !std::mem::replace(&mut self.was_begun, true) {
            return;
        }
        let parties = self.nodes.values_mut().flat_map(|node| node.parties.values_mut());
        self.news = parties
            .map(|party| {
                party.asked.give_up("the connection to the broker was lost before it told the value");
                party.device.clone()
            })
            .collect();
        for node in self.nodes.values_mut().filter(|node| node.life == Life::Born) {
            (node.life, node.wants_birth) = (Life::Doubted { since_ns: now_ns }, true);
        }
    }

    fn take(&mut self, now_ns: u64, message: Message<'_>, sheets: &mut Sheets<'_>) {
        self.now_ns = now_ns;
        let is_ours = |topic: &Topic<'_>| self.namespaces.contains(topic.namespace());
        let Some(topic) = Topic::parse(message.topic).filter(is_ours) else { return };
        let taken = Payload::read(message.payload).map_err(|error| error.to_string()).and_then(|payload| {
            let is_device = topic.device.is_some();
            match (topic.verb, is_device) {
                ("NDEATH", false) => self.death(&topic, &payload, sheets),
                ("NBIRTH", false) => {
                    self.birth(&topic, &payload, sheets)?;
                    self.follow(&topic, &payload)
                }
                ("DBIRTH", true) => {
                    self.follow(&topic, &payload)?;
                    let node = self.node(&topic)?;
                    if node.life == Life::Dead {
                        node.wants_birth = true;
                        return Err("its node has told no birth; a rebirth is asked for".into());
                    }
                    self.birth(&topic, &payload, sheets)
                }
                ("NDATA", false) | ("DDATA", true) => {
                    self.follow(&topic, &payload)?;
                    self.data(&topic, &payload, sheets)
                }
                ("DDEATH", true) => {
                    self.follow(&topic, &payload)?;
                    self.death(&topic, &payload, sheets)
                }
                _ => Ok(()),
            }
        });
        if let Err(error) = taken {
            sheets.reject(format!("{}: {error}", message.topic));
        }
    }

    fn turn(&mut self, now_ns: u64, sheets: &mut Sheets<'_>) -> Option<Vec<(String, Vec<u8>)>> {
        let now_ms = u64::try_from(sheets.now_ns() / 1_000_000).unwrap_or_default();
        let mut wanting = Vec::new();
        for ((prefix, name), node) in &mut self.nodes {
            if let Life::Doubted { since_ns } = node.life
                && now_ns.saturating_sub(since_ns) >= DOUBT_NS
            {
                node.die(sheets);
                node.wants_birth = false;
            }
            if node.wants_birth && !node.rests(now_ns) {
                wanting.push((prefix, name, node));
            }
        }
        // Those first of which anything is known.
        wanting.sort_by_key(|(.., node)| node.parties.is_empty());
        let mut said = Vec::new();
        for (prefix, name, node) in wanting.into_iter().take(REBIRTHS_MAX) {
            (node.wants_birth, node.asked_ns) = (false, Some(now_ns));
            said.push((command(prefix, name, None), Payload::rebirth(now_ms).encode_to_vec()));
        }
        Some(said)
    }

    fn news(&mut self) -> Vec<Device> {
        std::mem::take(&mut self.news)
    }

    fn command(&mut self, write: &Write, now_ms: u64) -> Result<Command, String> {
        let (topic, party) = self.addressed(write)?;
        if !party.asked.has_room() {
            return Err(format!("{ASKED_MAX} commands to {} are not answered yet", write.device));
        }
        let (_, metric) = party.written(write, now_ms)?;
        let payload = Payload { timestamp: Some(now_ms), metrics: vec![metric], seq: None };
        Ok(Command { topic, payload: payload.encode_to_vec(), proof: Proof::Device })
    }

    fn sent(&mut self, write: Write) {
        let Ok((_, party)) = self.addressed(&write) else { return };
        // What it tells has the metric's datatype, and not the value's.
        let Ok((name, metric)) = party.written(&write, 0) else { return };
        let datatype = metric.datatype.unwrap_or_default();
        if let Ok(value) = metric.read(datatype) {
            party.asked.push(name, value, write);
        }
    }
}

#[cfg(test)]
mod tests;
