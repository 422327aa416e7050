//! The nodes of a simulated server: where the points of a profile stand, and what else a client looks at first.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Context as _;
use opcua_server::address_space::{
    AccessLevel, ImportedItem, ImportedReference, NodeSetImport, NodeSetNamespaceMapper, NodeType,
    ObjectBuilder, ReferenceType, Variable as VariableNode, VariableBuilder,
};
use opcua_types::{
    DataTypeId, NodeId, ObjectId, ObjectTypeId, QualifiedName, ReferenceTypeId, VariableId, VariableTypeId,
    Variant,
};
use tideline_profiles::Place;
use tideline_profiles::names::Names;
use tideline_profiles::simulate::Device;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Value, ValueKind};

use crate::source::opcua::node::{self, Name, OBJECTS, Space as Namespace};
use crate::source::opcua::values::written;

/// The namespace of OPC UA itself, and the server's own.
const STANDARD: &str = "http://opcfoundation.org/UA/";
const OWN: &str = "urn:tideline:simulated";
/// The number of the server's own namespace.
const OWN_INDEX: u16 = 1;

/// A variable that has the value of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// The point.
    pub point: PointId,
    /// Its name in the profile.
    pub name: String,
    /// Its node.
    pub node: NodeId,
    /// The built-in type of its values.
    pub data_type: u32,
    /// Whether it may be written. Also what is written only can be read, as the crate tells nobody the type of what
    /// cannot; it has no value before it is written.
    pub is_written: bool,
    parent: NodeId,
    browse_name: QualifiedName,
}

/// The nodes of a server.
#[derive(Debug, Clone)]
pub struct Space {
    // By their numbers.
    namespaces: Vec<String>,
    folders: Vec<(NodeId, NodeId, QualifiedName)>,
    variables: Vec<Variable>,
    // Maker, product, version.
    facts: [String; 3],
}

impl Space {
    /// Of a device.
    ///
    /// # Errors
    /// A point has a value that nothing stands for, two points are one node, or one is a node that servers have anyway.
    pub fn of(device: &Device) -> anyhow::Result<Self> {
        let (profile, names) = (device.profile(), Names::of(device.profile()));
        let mut wanted = BTreeMap::new();
        for (id, value) in device.values() {
            let (name, raw) = names.write(id, value)?;
            wanted.insert(id.clone(), (name, raw.kind()));
        }
        for name in names.names() {
            let Some(id) = names.point(name).filter(|id| !wanted.contains_key(id)) else { continue };
            wanted.insert(id, (name.to_owned(), None));
        }
        let mut parsed = Vec::new();
        for (id, (name, kind)) in wanted {
            let known = profile.point(id.as_str());
            let kind = kind.or_else(|| known.map(|point| point.allowed.kind())).unwrap_or_default();
            let is_written = known.is_some_and(|point| point.access.writes());
            let place = match known.map(|point| &point.place) {
                Some(Place::Name(address)) => {
                    node::parse(address).map_err(|error| anyhow::anyhow!("points.{id}.address: {error}"))?
                }
                // What no profile names is found by browsing, under names without a namespace.
                _ => Name::Path(name.split('/').map(|part| QualifiedName::new(OWN_INDEX, part)).collect()),
            };
            parsed.push((id, name, place, kind, is_written));
        }
        let namespaces = namespaces(parsed.iter().map(|(_, _, place, ..)| place));
        let (mut variables, mut folders) = (Vec::new(), BTreeMap::new());
        for (point, name, place, kind, is_written) in parsed {
            let (node, parent, browse_name) = match place {
                Name::Id { space, identifier } => {
                    let namespace = match &space {
                        Namespace::Index(index) => *index,
                        Namespace::Uri(uri) => {
                            let index = namespaces.iter().position(|known| known == uri);
                            let index = index.and_then(|index| u16::try_from(index).ok());
                            index.with_context(|| format!("points.{point}: no number is left for {uri}"))?
                        }
                    };
                    let browse_name = QualifiedName::new(OWN_INDEX, point.as_str());
                    (NodeId { namespace, identifier }, NodeId::new(0, OBJECTS), browse_name)
                }
                Name::Path(path) => {
                    let Some((last, above)) = path.split_last() else { continue };
                    for end in 1..=above.len() {
                        let folder = above.get(..end).unwrap_or_default();
                        let Some((name, below)) = folder.split_last() else { continue };
                        folders.insert(text(folder), (of_path(folder), of_path(below), name.clone()));
                    }
                    (of_path(&path), of_path(above), last.clone())
                }
            };
            let data_type = built_in(kind);
            variables.push(Variable { point, name, node, data_type, is_written, parent, browse_name });
        }
        let mut taken: HashSet<NodeId> = standard_ids().collect();
        for variable in &variables {
            anyhow::ensure!(
                taken.insert(variable.node.clone()),
                "points.{}: its node {} is another one already",
                variable.point,
                variable.name
            );
        }
        let folders = folders.into_values().filter(|(id, ..)| !taken.contains(id)).collect();
        let identity = profile.identity();
        let version = identity.firmware_point.as_ref().map_or_else(|| "1.0.0".to_owned(), |_| String::new());
        let facts = [identity.vendor.clone(), identity.model.clone(), version];
        Ok(Self { namespaces, folders, variables, facts })
    }

    /// The variables of points.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }
}

impl Variable {
    /// What it tells when its point's raw value is this one.
    pub fn variant(&self, raw: &Value) -> Variant {
        if *raw == Value::Null { Variant::Empty } else { written(raw, self.data_type).unwrap_or_default() }
    }
}

const fn built_in(kind: ValueKind) -> u32 {
    match kind {
        ValueKind::Bool => DataTypeId::Boolean as u32,
        ValueKind::Int => DataTypeId::Int64 as u32,
        ValueKind::Float => DataTypeId::Double as u32,
        ValueKind::Text => DataTypeId::String as u32,
    }
}

/// The node of a path: the folder Objects for that without a name.
fn of_path(path: &[QualifiedName]) -> NodeId {
    if path.is_empty() {
        return NodeId::new(0, OBJECTS);
    }
    NodeId::new(OWN_INDEX, text(path))
}

fn text(path: &[QualifiedName]) -> String {
    path.iter().map(|name| format!("/{}:{}", name.namespace_index, name.name)).collect()
}

/// Names of all namespaces by their numbers. Those that are named by a URI get numbers that nobody names, so that nodes
/// of different names are different nodes.
fn namespaces<'n>(places: impl Iterator<Item = &'n Name>) -> Vec<String> {
    let (mut numbers, mut uris) = (BTreeSet::from([0, OWN_INDEX]), BTreeSet::new());
    for place in places {
        match place {
            Name::Id { space: Namespace::Index(index), .. } => drop(numbers.insert(*index)),
            Name::Id { space: Namespace::Uri(uri), .. } => drop(uris.insert(uri.clone())),
            Name::Path(path) => numbers.extend(path.iter().map(|name| name.namespace_index)),
        }
    }
    let mut all = vec![STANDARD.to_owned(), OWN.to_owned()];
    uris.retain(|uri| !all.contains(uri));
    let mut uris = uris.into_iter();
    let last = numbers.last().copied().unwrap_or_default();
    for index in OWN_INDEX + 1..=u16::MAX {
        let uri = if numbers.contains(&index) { None } else { uris.next() };
        if uri.is_none() && index > last {
            break;
        }
        all.push(uri.unwrap_or_else(|| format!("{OWN}:{index}")));
    }
    all
}

/// Reference types with what they are of, so that a client may browse along those of one kind (Part 3, "Standard
/// ReferenceTypes").
const REFERENCES: [(ReferenceTypeId, &str, ReferenceTypeId); 7] = [
    (ReferenceTypeId::HierarchicalReferences, "HierarchicalReferences", ReferenceTypeId::References),
    (ReferenceTypeId::HasChild, "HasChild", ReferenceTypeId::HierarchicalReferences),
    (ReferenceTypeId::Organizes, "Organizes", ReferenceTypeId::HierarchicalReferences),
    (ReferenceTypeId::Aggregates, "Aggregates", ReferenceTypeId::HasChild),
    (ReferenceTypeId::HasSubtype, "HasSubtype", ReferenceTypeId::HasChild),
    (ReferenceTypeId::HasComponent, "HasComponent", ReferenceTypeId::Aggregates),
    (ReferenceTypeId::HasProperty, "HasProperty", ReferenceTypeId::Aggregates),
];

/// Objects that every server has, with what they are below.
const STANDING: [(ObjectId, &str, ObjectId); 2] = [
    (ObjectId::ObjectsFolder, "Objects", ObjectId::RootFolder),
    (ObjectId::Server, "Server", ObjectId::ObjectsFolder),
];

/// The variables of a server's description of itself, but for its list of namespaces.
const FACTS: [(VariableId, &str); 3] = [
    (VariableId::Server_ServerStatus_BuildInfo_ManufacturerName, "ManufacturerName"),
    (VariableId::Server_ServerStatus_BuildInfo_ProductName, "ProductName"),
    (VariableId::Server_ServerStatus_BuildInfo_SoftwareVersion, "SoftwareVersion"),
];

fn standard_ids() -> impl Iterator<Item = NodeId> {
    let objects =
        STANDING.iter().map(|(id, ..)| NodeId::from(*id)).chain([NodeId::from(ObjectId::RootFolder)]);
    let variables = FACTS.iter().map(|(id, _)| NodeId::from(*id));
    let types = REFERENCES.iter().map(|(id, ..)| NodeId::from(*id));
    objects.chain(variables).chain(types).chain([NodeId::from(VariableId::Server_NamespaceArray)])
}

fn below(parent: impl Into<NodeId>, by: ReferenceTypeId) -> ImportedReference {
    ImportedReference { target_id: parent.into(), type_id: by.into(), is_forward: false }
}

fn defined_by(definition: impl Into<NodeId>) -> ImportedReference {
    let type_id = ReferenceTypeId::HasTypeDefinition.into();
    ImportedReference { target_id: definition.into(), type_id, is_forward: true }
}

fn object(id: &NodeId, name: QualifiedName, references: Vec<ImportedReference>) -> ImportedItem {
    let shown = name.name.to_string();
    let node: NodeType = ObjectBuilder::new(id, name, shown).build().into();
    ImportedItem { node, references }
}

fn variable(node: VariableNode, references: Vec<ImportedReference>) -> ImportedItem {
    ImportedItem { node: node.into(), references }
}

impl Space {
    /// What every server has.
    fn standard(&self) -> Vec<ImportedItem> {
        let name = |text: &str| QualifiedName::new(0, text);
        let folder = || defined_by(ObjectTypeId::FolderType);
        let mut items = vec![object(&ObjectId::RootFolder.into(), name("Root"), vec![folder()])];
        for (id, text, parent) in STANDING {
            items.push(object(
                &id.into(),
                name(text),
                vec![below(parent, ReferenceTypeId::Organizes), folder()],
            ));
        }
        let fact = |id: VariableId, text: &str, value: Variant, rank: i32| {
            let node = VariableBuilder::new(&NodeId::from(id), name(text), text)
                .data_type(DataTypeId::String)
                .value_rank(rank)
                .value(value)
                .access_level(AccessLevel::CURRENT_READ)
                .user_access_level(AccessLevel::CURRENT_READ)
                .build();
            let references = vec![
                below(ObjectId::Server, ReferenceTypeId::HasProperty),
                defined_by(VariableTypeId::PropertyType),
            ];
            variable(node, references)
        };
        let array = Variant::from(self.namespaces.clone());
        items.push(fact(VariableId::Server_NamespaceArray, "NamespaceArray", array, 1));
        for ((id, text), value) in FACTS.into_iter().zip(&self.facts) {
            items.push(fact(id, text, Variant::from(value.as_str()), -1));
        }
        for (id, text, parent) in REFERENCES {
            let node: NodeType = ReferenceType::new(&NodeId::from(id), text, text, None, false, false).into();
            items.push(ImportedItem { node, references: vec![below(parent, ReferenceTypeId::HasSubtype)] });
        }
        items
    }

    fn items(&self) -> Vec<ImportedItem> {
        let mut items = self.standard();
        for (id, parent, name) in &self.folders {
            let references =
                vec![below(parent.clone(), ReferenceTypeId::Organizes), defined_by(ObjectTypeId::FolderType)];
            items.push(object(id, name.clone(), references));
        }
        for point in &self.variables {
            let mut access = AccessLevel::CURRENT_READ;
            access.set(AccessLevel::CURRENT_WRITE, point.is_written);
            let node = VariableBuilder::new(&point.node, point.browse_name.clone(), point.point.as_str())
                .data_type(NodeId::new(0, point.data_type))
                .value_rank(-1)
                .value(Variant::Empty)
                .access_level(access)
                .user_access_level(access)
                .build();
            let definition = defined_by(VariableTypeId::BaseDataVariableType);
            items.push(variable(
                node,
                vec![below(point.parent.clone(), ReferenceTypeId::HasComponent), definition],
            ));
        }
        items
    }
}

impl NodeSetImport for Space {
    fn register_namespaces(&self, namespaces: &mut NodeSetNamespaceMapper<'_>) {
        // In their order, so that they have at the server the numbers that they have here.
        for (index, uri) in (0..).zip(&self.namespaces) {
            namespaces.add_namespace(uri, index);
        }
    }

    fn get_own_namespaces(&self) -> Vec<String> {
        self.namespaces.clone()
    }

    fn load<'a>(&'a self, _: &'a NodeSetNamespaceMapper<'_>) -> Box<dyn Iterator<Item = ImportedItem> + 'a> {
        Box::new(self.items().into_iter())
    }
}

#[cfg(test)]
mod tests {
    use tideline_profiles::Profile;

    use super::*;

    fn space(points: &str) -> anyhow::Result<Space> {
        let text = format!("name = \"it\"\n[opcua]\n[points]\n{points}");
        Space::of(&Device::new(&Profile::parse("it.toml", &text)?, 1))
    }

    #[test]
    fn points_stand_where_the_profile_names_them_and_namespaces_have_numbers_of_their_own() {
        let of = |name: &str, address: &str| {
            format!("{name} = {{ unit = \"m\", min = 0, max = 9, address = \"{address}\" }}\n")
        };
        let points = [
            of("by-number", "ns=3;s=Flow"),
            of("by-uri", "nsu=urn:maker;s=Flow"),
            of("by-path", "/2:Pump/4:Level"),
            of("of-path", "/2:Pump/4:Level/Range"),
        ];
        let space = space(&points.concat()).unwrap();
        let maker = space.namespaces.iter().position(|uri| uri == "urn:maker").unwrap();
        assert_eq!((space.namespaces.len(), maker), (6, 5), "{:?}", space.namespaces);
        let nodes: Vec<String> = space.variables().iter().map(|variable| variable.node.to_string()).collect();
        assert_eq!(
            nodes,
            ["ns=3;s=Flow", "ns=1;s=/2:Pump/4:Level", "ns=5;s=Flow", "ns=1;s=/2:Pump/4:Level/0:Range"]
        );
        let folders: Vec<String> = space.folders.iter().map(|(id, ..)| id.to_string()).collect();
        assert_eq!(folders, ["ns=1;s=/2:Pump"], "a variable that has others below it is no folder");
    }

    #[test]
    fn two_points_of_one_node_and_nodes_of_the_server_itself_are_refused() {
        let of =
            |name: &str, address: &str| format!("{name} = {{ type = \"bool\", address = \"{address}\" }}\n");
        let refused = |points: &str| space(points).unwrap_err().to_string();
        let twice = refused(&(of("a", "/Pump") + &of("b", "/0:Pump")));
        assert!(twice.contains("points.b: its node /0:Pump is another one already"), "{twice}");
        assert!(refused(&of("a", "i=2255")).contains("points.a"));
    }
}
