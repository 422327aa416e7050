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

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message as _;
use tideline_profiles::Profile;
use tideline_profiles::names::Names;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::payload::{Metric, NAME_BYTES_MAX, Payload, kind, time_ns};
use crate::config::DeviceConfig;
use crate::source::Device;
use crate::source::directory::{APPEARING_MAX, Message, device_id};
use crate::source::introduction::card;
use crate::source::mqtt::Speech;
use crate::source::sheets::Sheets;

/// Most nodes, living and dead.
pub const NODES_MAX: usize = 1_000;
/// Most metrics of all nodes: the hub knows a series for each.
pub const METRICS_ALL_MAX: usize = 100_000;
/// Least time between two requests for the births of one node.
pub const REBIRTH_REST_NS: u64 = 30_000_000_000;
/// A node that does not give its birth for this long after the connection is back is dead.
pub const DOUBT_NS: u64 = 120_000_000_000;
/// What topics begin with.
const NAMESPACE: &str = "spBv1.0";
/// Longest part of a topic that names a group, node or device.
const PART_BYTES_MAX: usize = 128;

/// What a metric is, by its birth.
#[derive(Debug, Clone)]
struct Known {
    datatype: u32,
    // Whether it has had a value since it was last null.
    said: bool,
}

/// A node, or a device behind one.
#[derive(Debug)]
struct Party {
    device: Device,
    names: Arc<Names>,
    stream: Option<String>,
    metrics: HashMap<Arc<str>, Known>,
    is_born: bool,
}

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

/// A topic, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Topic<'t> {
    group: &'t str,
    verb: &'t str,
    node: &'t str,
    device: Option<&'t str>,
}

impl<'t> Topic<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.split('/');
        let (namespace, group, verb, node) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (device, more) = (parts.next(), parts.next());
        let is_name = |part: &str| !part.is_empty() && part.len() <= PART_BYTES_MAX;
        let is_good = namespace == NAMESPACE && is_name(group) && is_name(node) && more.is_none();
        (is_good && device.is_none_or(is_name)).then_some(Self { group, verb, node, device })
    }

    /// As devices are addressed in the configuration.
    fn address(&self) -> String {
        let node = format!("{}/{}", self.group, self.node);
        self.device.map_or(node.clone(), |device| format!("{node}/{device}"))
    }
}

/// All nodes of some groups.
#[derive(Debug)]
pub struct Nodes {
    groups: Vec<String>,
    told: HashMap<String, DeviceConfig>,
    family: Arc<Names>,
    nodes: BTreeMap<(String, String), Node>,
    // Ids that are taken, with whose they are.
    ids: HashMap<String, String>,
    was_begun: bool,
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
        let family = Arc::new(Names::of(family));
        Ok(Self { groups, told: by_address, family, nodes: BTreeMap::new(), ids, was_begun: false })
    }

    /// Makes the party of a topic.
    fn party(&mut self, topic: &Topic<'_>) -> Result<Party, String> {
        let address = topic.address();
        let config = self.told.get(&address);
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
                (id, Arc::clone(&self.family), None)
            }
        };
        let owner = self.ids.entry(id.to_string()).or_insert_with(|| address.clone());
        if *owner != address {
            return Err(format!("{address} would be {id}, which is {owner}"));
        }
        let device = Device::of(id, Arc::new(names.profile().clone()));
        Ok(Party { device, names, stream, metrics: HashMap::new(), is_born: false })
    }

    fn birth(&mut self, topic: &Topic<'_>, payload: &Payload, sheets: &mut Sheets<'_>) -> Result<(), String> {
        let key = (topic.group.to_owned(), topic.node.to_owned());
        let who: Option<Arc<str>> = topic.device.map(Into::into);
        let own = self.nodes.get(&key).and_then(|node| node.parties.get(&who));
        let own = own.map_or(0, |party| party.metrics.len());
        let total = self.nodes.values().map(Node::metrics).sum::<usize>() - own;
        if total + payload.metrics.len() > METRICS_ALL_MAX {
            return Err(format!("all nodes have {total} metrics; allowed are {METRICS_ALL_MAX}"));
        }
        let known = self.nodes.get_mut(&key).and_then(|node| node.parties.remove(&who));
        let mut party = match known {
            Some(party) => party,
            None => self.party(topic)?,
        };
        if !self.nodes.contains_key(&key) && self.nodes.len() >= NODES_MAX {
            return Err(format!("it is one node more than the {NODES_MAX} that are allowed"));
        }
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
            party.metrics.insert(name, Known { datatype, said });
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
        let key = (topic.group.to_owned(), topic.node.to_owned());
        if !self.nodes.contains_key(&key) && self.nodes.len() >= NODES_MAX {
            return Err(format!("it is one node more than the {NODES_MAX} that are allowed"));
        }
        Ok(self.nodes.entry(key).or_insert_with(Node::new))
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

impl Node {
    fn die(&mut self, sheets: &mut Sheets<'_>) {
        self.life = Life::Dead;
        self.aliases.clear();
        self.parties.values_mut().for_each(|party| party.die(sheets));
    }
}

impl Party {
    /// Takes what is said of a metric; false when no birth has told it.
    fn take(&mut self, name: &str, metric: &Metric, payload: &Payload, sheets: &mut Sheets<'_>) -> bool {
        let Some(known) = self.metrics.get_mut(name) else { return false };
        let datatype = metric.datatype.filter(|datatype| *datatype > 0).unwrap_or(known.datatype);
        let Some(point) = self.names.point(name) else { return true };
        let Some(kind) = kind(datatype) else {
            sheets.reject(format!("{}/{point}: datatype {datatype} makes no reading", self.device.id));
            return true;
        };
        let time_ns = metric.timestamp.or(payload.timestamp).and_then(time_ns);
        let to = (&self.device, self.stream.as_deref());
        let (value, quality) = match metric.read(datatype) {
            Ok(Value::Null) => (Value::Null, metric.quality()),
            Ok(value) => {
                let Some(decoded) = self.names.read(name, &value) else { return true };
                if let Err(bad) = &decoded.outcome {
                    sheets.reject(format!("{}/{point}: {bad}", self.device.id));
                }
                let (value, quality) = decoded.reading();
                (value, quality.max(metric.quality()))
            }
            Err(reason) => {
                sheets.reject(format!("{}/{point}: {reason}", self.device.id));
                (Value::Null, Quality::Bad)
            }
        };
        if metric.is_historical != Some(true) {
            known.said = value != Value::Null;
        }
        sheets.add(to, &point, kind, time_ns, (value, quality));
        true
    }

    fn die(&mut self, sheets: &mut Sheets<'_>) {
        self.is_born = false;
        let mut said: Vec<(Arc<str>, Known)> = Vec::new();
        for (name, known) in self.metrics.iter_mut().filter(|(_, known)| known.said) {
            said.push((Arc::clone(name), known.clone()));
            known.said = false;
        }
        said.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, known) in said {
            self.forget(&name, &known, sheets);
        }
    }

    /// A metric that has had a value has none any more.
    fn forget(&self, name: &str, known: &Known, sheets: &mut Sheets<'_>) {
        let Some(point): Option<PointId> = self.names.point(name) else { return };
        let to = (&self.device, self.stream.as_deref());
        let kind: ValueKind = kind(known.datatype).unwrap_or_default();
        sheets.add(to, &point, kind, None, (Value::Null, Quality::Bad));
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
        let of = |group: &String| verbs.map(|(verb, device)| format!("{NAMESPACE}/{group}/{verb}/+{device}"));
        groups.iter().flat_map(of).collect()
    }

    fn begin(&mut self, now_ns: u64) {
        if !std::mem::replace(&mut self.was_begun, true) {
            return;
        }
        for node in self.nodes.values_mut().filter(|node| node.life == Life::Born) {
            (node.life, node.wants_birth) = (Life::Doubted { since_ns: now_ns }, true);
        }
    }

    fn take(&mut self, _now_ns: u64, message: Message<'_>, sheets: &mut Sheets<'_>) {
        let Some(topic) = Topic::parse(message.topic) else { return };
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
        let mut said = Vec::new();
        for ((group, name), node) in &mut self.nodes {
            if let Life::Doubted { since_ns } = node.life
                && now_ns.saturating_sub(since_ns) >= DOUBT_NS
            {
                node.die(sheets);
                node.wants_birth = false;
            }
            let rests = node.asked_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < REBIRTH_REST_NS);
            if node.wants_birth && !rests {
                (node.wants_birth, node.asked_ns) = (false, Some(now_ns));
                said.push((
                    format!("{NAMESPACE}/{group}/NCMD/{name}"),
                    Payload::rebirth(now_ms).encode_to_vec(),
                ));
            }
        }
        Some(said)
    }
}

#[cfg(test)]
mod tests;
