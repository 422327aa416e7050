//! Which variables of a server are read: those that profiles name, and those that are found by browsing.

use std::collections::{HashMap, HashSet};

use opcua_types::{AttributeId, DataValue, NodeId, VariableId, Variant};
use tideline_profiles::form::protocol::{OpcUaTable, Protocol};
use tideline_profiles::form::section::Collection;
use tideline_profiles::names::Names;
use tideline_protocol::model::PointId;
use tideline_protocol::pattern::matches;
use tideline_protocol::value::Value;

use super::asks::{browse, built_in, read, translate};
use super::line::Line;
use super::node::{self, Name, OBJECTS, Space};
use super::values::{Type, type_of, value, written_as};
use super::variables::{Missing, Party, Variable};
use super::walk::{NODES_MAX, Walk, Wish};
use crate::source::SourceError;

/// Most nodes that one request is about; fewer where the server says so.
const NODES_A_REQUEST: usize = 500;
/// Most points that are made of what a profile does not name, where it does not say how many.
const OTHERS_MAX: u32 = 1000;
/// A value is a scalar or may be one (Part 3, "ValueRank"); 0 and more are arrays.
const ANY_RANK: i64 = -1;

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Who made it.
    pub vendor: String,
    /// What the maker calls it.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Most nodes of one request.
    pub limits: Limits,
    spaces: HashMap<String, u16>,
}

/// Most nodes of one request of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    read: usize,
    browse: usize,
    translate: usize,
    /// Variables that are asked to be watched.
    pub monitor: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let all = NODES_A_REQUEST;
        Self { read: all, browse: all, translate: all, monitor: all }
    }
}

/// What is found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is read.
    pub variables: Vec<Variable>,
    /// What the profiles name and the server has not.
    pub missing: Vec<Missing>,
    /// What else is not read, in words.
    pub left_out: Vec<String>,
}

/// A device, and where its paths begin.
pub struct Place<'p> {
    /// The device.
    pub party: &'p Party,
    /// The node; empty for the folder Objects.
    pub address: &'p str,
}

/// A node that is to be read.
struct Pick {
    party: usize,
    node: NodeId,
    name: String,
    point: PointId,
    is_named: bool,
}

impl Facts {
    /// The names of all namespaces, by their numbers.
    pub fn namespaces(&self) -> Vec<String> {
        let mut all: Vec<(u16, &String)> = self.spaces.iter().map(|(name, number)| (*number, name)).collect();
        all.sort();
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }
}

/// Asks the server what it is.
///
/// # Errors
/// The connection is lost.
pub async fn facts(line: &Line) -> Result<Facts, SourceError> {
    use VariableId as V;
    let asked = [
        V::Server_NamespaceArray,
        V::Server_ServerStatus_BuildInfo_ManufacturerName,
        V::Server_ServerStatus_BuildInfo_ProductName,
        V::Server_ServerStatus_BuildInfo_SoftwareVersion,
        V::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        V::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        V::Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
        V::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ];
    let asked: Vec<(NodeId, AttributeId)> =
        asked.iter().map(|id| (NodeId::from(*id), AttributeId::Value)).collect();
    let told = read(line, &asked, asked.len()).await?;
    let variant = |place: usize| told.get(place).and_then(|value| value.value.as_ref());
    let text = |place| match variant(place).map(value) {
        Some(Ok(Value::Text(text))) => text.to_string(),
        _ => String::new(),
    };
    // 0 is no limit.
    let limit = |place| match variant(place).map(value) {
        Some(Ok(Value::Int(limit @ 1..))) => {
            usize::try_from(limit).unwrap_or(NODES_A_REQUEST).min(NODES_A_REQUEST)
        }
        _ => NODES_A_REQUEST,
    };
    let mut spaces = HashMap::new();
    if let Some(Variant::Array(array)) = variant(0) {
        for (index, space) in (0_u16..).zip(&array.values) {
            spaces.extend(Some((space.to_string(), index)));
        }
    }
    let limits = Limits { read: limit(4), browse: limit(5), translate: limit(6), monitor: limit(7) };
    Ok(Facts { vendor: text(1), model: text(2), version: text(3), limits, spaces })
}

/// Finds the variables of all devices.
///
/// # Errors
/// The connection is lost, or a device is nowhere at this server.
pub async fn find(line: &Line, facts: &Facts, places: &[Place<'_>]) -> Result<Found, SourceError> {
    let (mut picks, mut found) = (Vec::new(), Found::default());
    for (party, place) in places.iter().enumerate() {
        let mut device = Survey { line, facts, party, names: &place.party.names, found: &mut found };
        let start = device.start(place.address).await.map_err(|error| in_device(place, error))?;
        let named = device.named(&start).await?;
        let taken: HashSet<NodeId> = named.iter().map(|pick| pick.node.clone()).collect();
        let others = device.others(&start, place, &taken).await?;
        picks.extend(named);
        picks.extend(others);
    }
    types(line, facts, places, picks, &mut found).await?;
    Ok(found)
}

fn in_device(place: &Place<'_>, error: SourceError) -> SourceError {
    match error {
        SourceError::Failed(error) => {
            SourceError::failed(format!("{}: device.address: {error}", place.party.device.id))
        }
        SourceError::Stopped => SourceError::Stopped,
    }
}

/// The search for one device's variables.
struct Survey<'s> {
    line: &'s Line,
    facts: &'s Facts,
    party: usize,
    names: &'s Names,
    found: &'s mut Found,
}

impl Survey<'_> {
    /// The node where the device begins.
    async fn start(&self, address: &str) -> Result<NodeId, SourceError> {
        let objects = NodeId::new(0, OBJECTS);
        if address.is_empty() {
            return Ok(objects);
        }
        match node::parse(address).map_err(SourceError::Failed)? {
            Name::Id { space, identifier } => {
                node::resolve(&space, &identifier, &self.facts.spaces).map_err(SourceError::Failed)
            }
            Name::Path(path) => {
                let ways = translate(self.line, self.facts.limits.translate, &[(objects, path)]).await?;
                ways.into_iter()
                    .next()
                    .flatten()
                    .ok_or_else(|| SourceError::failed("the server has no such node"))
            }
        }
    }

    /// The nodes that the profile names.
    async fn named(&mut self, start: &NodeId) -> Result<Vec<Pick>, SourceError> {
        let (mut picks, mut paths, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for name in self.names.names() {
            let Some(point) = self.names.point(name) else { continue };
            match node::parse(name) {
                Ok(Name::Id { space, identifier }) => match self.resolve(&space, &identifier) {
                    Ok(node) => picks.push(self.pick(node, name, point)),
                    Err(reason) => self.miss(point, reason),
                },
                Ok(Name::Path(path)) => {
                    paths.push((start.clone(), path));
                    waiting.push((name.to_owned(), point));
                }
                Err(reason) => self.miss(point, reason),
            }
        }
        let ways = translate(self.line, self.facts.limits.translate, &paths).await?;
        for ((name, point), way) in waiting.into_iter().zip(ways) {
            match way {
                Some(node) => picks.push(self.pick(node, &name, point)),
                None => self.miss(point, format!("the server has no node {name}")),
            }
        }
        Ok(picks)
    }

    fn resolve(&self, space: &Space, identifier: &opcua_types::Identifier) -> Result<NodeId, String> {
        node::resolve(space, identifier, &self.facts.spaces)
    }

    fn pick(&self, node: NodeId, name: &str, point: PointId) -> Pick {
        Pick { party: self.party, node, name: name.to_owned(), point, is_named: true }
    }

    fn miss(&mut self, point: PointId, reason: String) {
        self.found.missing.push(Missing { party: self.party, point, reason });
    }

    /// The nodes that are found by browsing.
    async fn others(
        &mut self,
        start: &NodeId,
        place: &Place<'_>,
        taken: &HashSet<NodeId>,
    ) -> Result<Vec<Pick>, SourceError> {
        let wish = Wanted(self.names);
        let table = table(self.names);
        if !wish.wants_any() {
            return Ok(Vec::new());
        }
        let mut starts = Vec::new();
        if place.address.is_empty() {
            for root in &table.browse {
                starts.push(self.start(root).await?);
            }
        } else {
            starts.push(start.clone());
        }
        let mut walk = Walk::new(&wish, &starts, table.depth_max);
        loop {
            let steps = walk.next(self.facts.limits.browse);
            if steps.is_empty() {
                break;
            }
            browse(self.line, &steps, &mut walk).await?;
        }
        let (found, is_cut) = walk.found();
        let id = &place.party.device.id;
        if is_cut {
            self.found.left_out.push(format!(
                "{id}: only the first {NODES_MAX} nodes are looked at; say in `browse` where to look"
            ));
        }
        Ok(self.choose(found, taken, &id.to_string()))
    }

    /// Gives each variable its point, up to the limit.
    fn choose(&mut self, found: Vec<(String, NodeId)>, taken: &HashSet<NodeId>, id: &str) -> Vec<Pick> {
        let others = self.names.profile().others();
        let max = others.and_then(|others| others.points_max).unwrap_or(OTHERS_MAX);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let mut points: HashSet<PointId> =
            self.names.names().filter_map(|name| self.names.point(name)).collect();
        let (mut picks, mut over) = (Vec::new(), 0_usize);
        for (path, node) in found {
            let Some(point) = self.names.point(&path).filter(|_| !taken.contains(&node)) else { continue };
            if picks.len() >= max {
                over += 1;
            } else if points.insert(point.clone()) {
                picks.push(Pick { party: self.party, node, name: path, point, is_named: false });
            } else {
                self.found
                    .left_out
                    .push(format!("{id}/{point}: a second variable would be this point: {path}"));
            }
        }
        if over > 0 {
            self.found.left_out.push(format!("{id}: {over} variables are more than the {max} of points_max"));
        }
        picks
    }
}

/// What a profile wants of what is browsed.
struct Wanted<'n>(&'n Names);

impl Wanted<'_> {
    fn wants_any(&self) -> bool {
        let profile = self.0.profile();
        let others = profile.others().is_some_and(|others| !others.take.is_empty());
        others || profile.points().any(|(_, point)| point.place == tideline_profiles::Place::Id)
    }
}

impl Wish for Wanted<'_> {
    fn wants(&self, path: &str) -> bool {
        self.0.point(path).is_some()
    }

    fn leaves_out(&self, path: &str) -> bool {
        let profile = self.0.profile();
        let Some(others) = profile.others() else { return false };
        let below = format!("{path}/");
        let all = |pattern: &String| pattern.strip_suffix("/*").is_some_and(|root| matches(root, path));
        others.except.iter().any(all) && !profile.points().any(|(id, _)| id.starts_with(&below))
    }
}

fn table(names: &Names) -> OpcUaTable {
    match names.profile().protocol() {
        Protocol::OpcUa(table) => table.clone(),
        _ => OpcUaTable::default(),
    }
}

/// How often a point is looked at: as its group says, or the profile for all.
fn sampling_ms(names: &Names, point: &PointId) -> u32 {
    let profile = names.profile();
    let known = profile.point(point.as_str()).filter(|known| {
        profile.collection().contains_key(&known.group) || known.interval_ms != Collection::INTERVAL_MS
    });
    known.map_or_else(|| table(names).sampling_ms, |known| known.interval_ms)
}

/// Asks what the picked nodes are, and keeps those that make readings.
async fn types(
    line: &Line,
    facts: &Facts,
    places: &[Place<'_>],
    picks: Vec<Pick>,
    found: &mut Found,
) -> Result<(), SourceError> {
    let asked: Vec<(NodeId, AttributeId)> = picks
        .iter()
        .flat_map(|pick| [AttributeId::DataType, AttributeId::ValueRank].map(|id| (pick.node.clone(), id)))
        .collect();
    let told = read(line, &asked, facts.limits.read).await?;
    let data_types: HashSet<NodeId> = told.iter().step_by(2).filter_map(data_type).collect();
    let known = built_in(line, facts.limits.browse, data_types).await?;
    for (pick, told) in picks.into_iter().zip(told.chunks(2)) {
        let [kind, rank] = told else { break };
        let data_type = data_type(kind).and_then(|id| known.get(&id).copied());
        let rank = rank.value.as_ref().and_then(|rank| value(rank).ok());
        let of = match (data_type, rank) {
            (_, Some(Value::Int(rank))) if rank > ANY_RANK => Err("it is an array".to_owned()),
            (Some(id), _) => match type_of(id) {
                Some(Type::None(what)) => Err(super::values::refused(what)),
                Some(of) => Ok(of),
                None => Ok(Type::Any),
            },
            (None, _) => match kind.status.filter(|status| !status.is_good()) {
                Some(status) => Err(format!("the server has no variable {}: {status}", pick.name)),
                None => Ok(Type::Any),
            },
        };
        let Pick { party, node, name, point, is_named } = pick;
        match of {
            Ok(of) => {
                let Some(place) = places.get(party) else { continue };
                let names = &place.party.names;
                let sampling_ms = sampling_ms(names, &point);
                let is_read = names.profile().point(point.as_str()).is_none_or(|known| known.access.reads());
                let data_type = data_type.map(written_as);
                found.variables.push(Variable {
                    party,
                    node,
                    name,
                    point,
                    of,
                    data_type,
                    sampling_ms,
                    is_read,
                });
            }
            Err(reason) if is_named => found.missing.push(Missing { party, point, reason }),
            // That a server has structures beside what is read is no news.
            Err(reason) => tracing::debug!(node = %node, path = name, reason, "makes no reading"),
        }
    }
    Ok(())
}

fn data_type(told: &DataValue) -> Option<NodeId> {
    match &told.value {
        Some(Variant::NodeId(id)) => Some((**id).clone()),
        _ => None,
    }
}
