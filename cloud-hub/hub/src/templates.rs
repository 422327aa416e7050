//! Templates of configuration: what all agents of a group or at a site are to have, where nobody wants something else of one.
//!
//! A template is laid into `desired/config` of each member's twin, leaf by leaf, signed with its name. So each leaf says where it
//! comes from, and one that anybody else wrote is an override, which no template touches. Of several templates the site's goes
//! before those of groups, and of these the last by name.

mod trial;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::PoisonError;

pub use self::trial::told;

use serde_json::{Map, Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::limits::AUTHOR_BYTES_MAX;
use tideline_twin::{Actor, Conflict, Key, Leaf, Section, Side, Twin, shortened};

use crate::hub::{App, Hub};
use crate::metadata::{Changes, DeviceRecord, MetadataError, TemplateRecord, TemplateVersion};
use crate::signs::is_hidden;
use crate::twins::{self, Patch, TwinError, etag};

/// Most templates of a hub.
pub const TEMPLATES_MAX: u64 = 1_000;
/// Earlier versions of a template that are kept.
pub const VERSIONS_MAX: usize = 20;
/// Longest layer of a template as JSON, in bytes: an agent takes twice as much.
pub const LAYER_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a group or site in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Looks at a twin that somebody else changes between look and write.
const LOOKS_MAX: usize = 8;
/// How deep a layer is.
const DEPTH_MAX: usize = 12;
/// What leaves of templates are signed with, before the template's name.
const SIGNED: &str = "template ";
/// Where a twin's `desired` has the configuration.
const CONFIG: &str = "config";

/// Whose template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Of a group; it comes before those of sites.
    Group(String),
    /// Of a site.
    Site(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group/{name}"),
            Self::Site(name) => write!(f, "site/{name}"),
        }
    }
}

impl FromStr for Name {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let wrong = || TemplateError::Name(text.chars().take(NAME_BYTES_MAX).collect());
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(is_hidden) {
            return Err(wrong());
        }
        match kind {
            "group" => Ok(Self::Group(name.to_owned())),
            "site" => Ok(Self::Site(name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl Name {
    /// Whether a device is one of its members.
    fn has(&self, record: &DeviceRecord) -> bool {
        match self {
            Self::Group(name) => record.marks.groups.contains(name),
            Self::Site(name) => record.marks.site == *name,
        }
    }

    fn author(&self) -> String {
        format!("{SIGNED}{self}")
    }
}

/// Why a template is not kept.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its name.
    #[error(
        "{0:?} names no template; allowed are group/NAME and site/NAME, with names of up to {NAME_BYTES_MAX} bytes"
    )]
    Name(String),
    /// Its layer.
    #[error("{0}")]
    Layer(String),
    /// There are members, and what each of them says: none can take it.
    #[error("none of its {} agents can take it: {}", .0.len(), trial::first(.0))]
    NoMember(Vec<(String, TwinError)>),
    /// There are too many.
    #[error("there are {TEMPLATES_MAX} templates already, which is the limit")]
    Full,
    /// The registry.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The twins.
    #[error(transparent)]
    Twin(#[from] TwinError),
}

/// What came of a template at one device.
pub type Outcome = (String, Result<String, TwinError>);

/// Keeps a template, the next version of it if there is one, and lays it into its members' twins.
///
/// # Errors
/// The layer is none, no member can take it, or the disk failed. What a member cannot take is in its outcome.
pub async fn put(
    hub: &App,
    name: &Name,
    layer: Json,
    author: String,
) -> Result<(TemplateRecord, Vec<Outcome>), TemplateError> {
    check(&layer)?;
    let (of, tried) = (name.clone(), layer.clone());
    let refusals = hub.blocking(move |hub| trial::refusals(hub, &of, &tried)).await?;
    if !refusals.is_empty() {
        return Err(TemplateError::NoMember(refusals));
    }
    let key = name.to_string();
    let now_ms = hub.now_ms();
    let record = hub.blocking(move |hub| {
        hub.metadata.change(|changes: &mut Changes| {
            let before = changes.find::<TemplateRecord>(&key)?;
            if before.is_none() && changes.count::<TemplateRecord>()? >= TEMPLATES_MAX {
                return Err(TemplateError::Full);
            }
            let record = next(before, layer, author, now_ms);
            changes.put(&key, &record)?;
            Ok(record)
        })
    });
    let record = record.await?;
    Ok((record, apply_to_members(hub, name).await?))
}

fn next(before: Option<TemplateRecord>, layer: Json, by: String, at_ms: i64) -> TemplateRecord {
    let version = before.as_ref().map_or(1, |before| before.current.version.saturating_add(1));
    let mut earlier = Vec::new();
    if let Some(before) = before {
        earlier = before.earlier;
        earlier.push(before.current);
        earlier.drain(..earlier.len().saturating_sub(VERSIONS_MAX));
    }
    TemplateRecord { current: TemplateVersion { version, layer: layer.to_string(), by, at_ms }, earlier }
}

/// Takes a template away, and from its members' twins what came of it. None if there is none.
///
/// # Errors
/// The disk failed.
pub async fn remove(hub: &App, name: &Name) -> Result<Option<Vec<Outcome>>, TemplateError> {
    let key = name.to_string();
    let was = hub.blocking(move |hub| hub.metadata.change(|changes| changes.remove::<TemplateRecord>(&key)));
    if !was.await.map_err(|error: MetadataError| error)? {
        return Ok(None);
    }
    Ok(Some(apply_to_members(hub, name).await?))
}

async fn apply_to_members(hub: &App, name: &Name) -> Result<Vec<Outcome>, TemplateError> {
    let name = name.clone();
    let members = hub.blocking(move |hub| members(hub, &name)).await?;
    Ok(apply_to(hub, members).await?)
}

fn check(layer: &Json) -> Result<(), TemplateError> {
    let wrong = |what: String| Err(TemplateError::Layer(what));
    let bytes = layer.to_string().len();
    if bytes > LAYER_BYTES_MAX {
        return wrong(format!("the layer is {bytes} bytes long; allowed are {LAYER_BYTES_MAX}"));
    }
    let Json::Object(sections) = layer else {
        return wrong("the layer must be an object of sections".to_owned());
    };
    let mut leaves = BTreeMap::new();
    gather(&mut vec![CONFIG.to_owned()], sections, &mut leaves)?;
    if let Some((path, _)) = leaves.iter().find(|(_, value)| value.as_object().is_some()) {
        return wrong(format!("{}: an empty object sets nothing; leave it out", shortened(&path.join("."))));
    }
    // What not even an empty twin takes, none does.
    let tried = Twin::new(Actor::new(Side::Hub, [0; 15])).map_err(TwinError::from)?;
    trial::try_out(&tried, &[(SIGNED.to_owned(), json!({ CONFIG: layer }))], "")
        .map_err(|error| TemplateError::Layer(error.to_string()))
}

/// Leaves by their paths, from `config` on.
type Leaves<T> = BTreeMap<Vec<String>, T>;

fn gather(
    path: &mut Vec<String>,
    members: &Map<String, Json>,
    into: &mut Leaves<Json>,
) -> Result<(), TemplateError> {
    for (name, value) in members {
        path.push(name.clone());
        let wrong = |what: &str| Err(TemplateError::Layer(format!("{}: {what}", shortened(&path.join(".")))));
        match value {
            _ if name.is_empty() || name.starts_with('$') => return wrong("this is no name"),
            _ if path.len() > DEPTH_MAX => return wrong("this is too deep"),
            Json::Null => return wrong("null is no value; a template has what is to be set"),
            Json::Object(inner) if !inner.is_empty() => gather(path, inner, into)?,
            value => drop(into.insert(path.clone(), value.clone())),
        }
        path.pop();
    }
    Ok(())
}

/// The agents that a template is for, as devices.
///
/// # Errors
/// The registry failed.
pub fn members(hub: &Hub, name: &Name) -> Result<Vec<String>, MetadataError> {
    let all = hub.metadata.list::<DeviceRecord>()?.into_iter();
    let is_member = |(id, record): &(String, DeviceRecord)| is_agent(id, record) && name.has(record);
    Ok(all.filter(is_member).map(|(id, _)| id).collect())
}

/// All templates, without what they were before, each with its members.
///
/// # Errors
/// The registry failed, or a name is none.
pub fn list(hub: &Hub) -> Result<Vec<(String, TemplateRecord, Vec<String>)>, TemplateError> {
    let mut members: BTreeMap<Name, Vec<String>> = BTreeMap::new();
    for (id, record) in hub.metadata.list::<DeviceRecord>()? {
        if is_agent(&id, &record) {
            names(&record).for_each(|name| members.entry(name).or_default().push(id.clone()));
        }
    }
    let with_members = |(key, record): (String, TemplateRecord)| -> Result<_, TemplateError> {
        let members = members.get(&key.parse::<Name>()?).cloned().unwrap_or_default();
        Ok((key, TemplateRecord { earlier: Vec::new(), ..record }, members))
    };
    hub.metadata.list::<TemplateRecord>()?.into_iter().map(with_members).collect()
}

/// The templates that a device may have, the last the strongest.
fn names(record: &DeviceRecord) -> impl Iterator<Item = Name> {
    let site = Some(&record.marks.site).filter(|site| !site.is_empty()).cloned().map(Name::Site);
    record.marks.groups.iter().cloned().map(Name::Group).chain(site)
}

fn is_agent(id: &str, record: &DeviceRecord) -> bool {
    record.agent == id && !record.revoked
}

/// Lays the templates of each device into its twin; devices that are no agents are left out.
///
/// # Errors
/// The disk failed. What a device cannot take is in its outcome.
pub async fn apply_to(hub: &App, devices: Vec<String>) -> Result<Vec<Outcome>, TwinError> {
    let app = std::sync::Arc::clone(hub);
    // What was begun is brought to its end also when nobody waits for the answer any more.
    let made = tokio::spawn(async move {
        let mut outcomes = Vec::with_capacity(devices.len());
        for device in devices {
            let id = device.clone();
            let done = app.blocking(move |hub| apply(hub, &id)).await?;
            let Some((done, written)) = done else { continue };
            twins::settle(&app, written).await?;
            outcomes.push((device, done));
        }
        Ok(outcomes)
    });
    made.await.map_err(MetadataError::interrupted)?
}

type Applied = (Result<String, TwinError>, twins::Written);

fn apply(hub: &Hub, id: &str) -> Result<Option<Applied>, TwinError> {
    // One at a time: of two that have looked, the later word must not be laid first.
    let _turn = hub.templates.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(record) = hub.metadata.find::<DeviceRecord>(id)?.filter(|record| is_agent(id, record)) else {
        return Ok(None);
    };
    let Ok(device) = DeviceId::parse(id) else { return Ok(None) };
    let (document, wanted) = (DocumentId::Device(device), wanted(hub, &record, None)?);
    let mut written = twins::Written::default();
    for _ in 1..LOOKS_MAX {
        match lay(hub, &document, &wanted, &mut written) {
            Err(TwinError::Differs { .. }) => {}
            done => return Ok(Some((done, written))),
        }
    }
    let done = lay(hub, &document, &wanted, &mut written);
    Ok(Some((done, written)))
}

/// Lays what is wanted into a twin as it is now, if all of it can be; gives what names its state then.
fn lay(
    hub: &Hub,
    document: &DocumentId,
    wanted: &Leaves<(Json, String)>,
    written: &mut twins::Written,
) -> Result<String, TwinError> {
    let (state, patches) = hub.twins.look(document, |twin| {
        let patches = patches(twin, wanted);
        trial::try_out(twin, &patches, &document.name()).map(|()| (etag(twin), patches))
    })??;
    if patches.is_empty() {
        return Ok(state);
    }
    let patch = |(author, patch)| {
        let sections = vec![(Section::Desired, patch)];
        // What they were tried out on.
        Patch { sections, of: Some(vec![state.clone()]), author, check: |_, _| Vec::new() }
    };
    let patches: Vec<Patch> = patches.into_iter().map(patch).collect();
    let (state, made) = hub.twins.patch_all(hub, document, &patches, etag)?;
    written.extend([made]);
    Ok(state)
}

/// What the templates of a device want, each leaf with the template that it is of; of the one of this name it is this layer.
fn wanted(
    hub: &Hub,
    record: &DeviceRecord,
    instead: Option<(&Name, &Json)>,
) -> Result<Leaves<(Json, String)>, TwinError> {
    let mut wanted: Leaves<(Json, String)> = BTreeMap::new();
    for name in names(record) {
        let layer = match instead.filter(|(of, _)| **of == name) {
            Some((_, layer)) => Some(layer.clone()),
            None => hub
                .metadata
                .find::<TemplateRecord>(&name.to_string())?
                .and_then(|template| serde_json::from_str(&template.current.layer).ok()),
        };
        let Some(Json::Object(sections)) = layer else { continue };
        let mut leaves = BTreeMap::new();
        if gather(&mut vec![CONFIG.to_owned()], &sections, &mut leaves).is_err() {
            continue;
        }
        for (path, value) in leaves {
            // The later template wins, also over what is above or below the leaf.
            wanted.retain(|other, _| !touch(other, &path));
            wanted.insert(path, (value, name.author()));
        }
    }
    Ok(wanted)
}

/// Whether of two paths one is or is above the other.
fn touch(a: &[String], b: &[String]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// What to change of a twin, by author, so that it has what its templates want.
fn patches(twin: &Twin, wanted: &Leaves<(Json, String)>) -> Vec<(String, Json)> {
    let (there, disputed) = (leaves(twin), disputed(twin));
    let (of_templates, mut others): (Vec<_>, Vec<_>) =
        there.iter().partition(|(path, leaf)| template(leaf).is_some() && !disputed.contains_key(*path));
    others.extend(&disputed);
    let mut made: BTreeMap<String, Json> = BTreeMap::new();
    let mut patch = |author: &str, path: &[String], value: Json| {
        nest(made.entry(author.to_owned()).or_insert(Json::Null), path, value);
    };
    for (path, leaf) in &of_templates {
        if !wanted.contains_key(*path) {
            // First, as another one may come in its place.
            patch(SIGNED.trim_end(), path, Json::Null);
        } else if others.iter().any(|(other, _)| touch(other, path)) {
            patch(SIGNED.trim_end(), path, Json::Null);
        } else if let Some((value, author)) = wanted.get(*path)
            && (leaf.value != *value || signature(leaf) != signed(author))
        {
            patch(author, path, value.clone());
        }
    }
    for (path, (value, author)) in wanted {
        let is_there = of_templates.iter().any(|(other, _)| *other == path);
        if !is_there && !others.iter().any(|(other, _)| touch(other, path)) {
            patch(author, path, value.clone());
        }
    }
    made.into_iter().collect()
}

fn nest(into: &mut Json, path: &[String], value: Json) {
    let Some((first, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if !into.is_object() {
        *into = Json::Object(Map::new());
    }
    if let Some(members) = into.as_object_mut() {
        nest(members.entry(first.clone()).or_insert(Json::Null), rest, value);
    }
}

/// Leaves with a value that is of no template and may not be the one that is shown, as of somebody on site while the hub wrote
/// another: who writes there decides between them, and that is no template.
fn disputed(twin: &Twin) -> Leaves<Leaf> {
    let conflicts = twin.conflicts().into_iter().filter(|conflict| conflict.section == Section::Desired);
    let of = |conflict: Conflict| {
        let path: Vec<String> = conflict.key.names().collect();
        let other = conflict.values.into_iter().find(|value| template(value).is_none());
        other.filter(|_| path.first().is_some_and(|name| name == CONFIG)).map(|other| (path, other))
    };
    conflicts.filter_map(of).collect()
}

/// As much of a name as a twin keeps.
fn signed(author: &str) -> &str {
    author.get(..author.floor_char_boundary(AUTHOR_BYTES_MAX)).unwrap_or_default()
}

/// Who signed a leaf.
fn signature(leaf: &Leaf) -> String {
    leaf.origin.as_ref().map(|origin| origin.author.clone()).unwrap_or_default()
}

/// The template that a leaf is of.
#[must_use]
pub fn template(leaf: &Leaf) -> Option<&str> {
    leaf.origin.as_ref()?.author.strip_prefix(SIGNED)
}

/// The leaves of a twin's wanted configuration, by their paths from `config` on.
#[must_use]
pub fn leaves(twin: &Twin) -> Leaves<Leaf> {
    let desired = twin.json(Section::Desired);
    let mut found = BTreeMap::new();
    let mut open = vec![(vec![CONFIG.to_owned()], desired.get(CONFIG).unwrap_or(&Json::Null))];
    while let Some((path, value)) = open.pop() {
        match value {
            Json::Null => {}
            Json::Object(members)
                if !members.is_empty() && !members.keys().any(|name| name.starts_with('$')) =>
            {
                open.extend(
                    members
                        .iter()
                        .map(|(name, value)| (path.iter().chain([name]).cloned().collect::<Vec<_>>(), value)),
                );
            }
            _ => {
                let key = Key::of_names(path.iter().map(String::as_str)).ok();
                if let Some(leaf) = key.and_then(|key| twin.leaf(Section::Desired, &key)) {
                    found.insert(path, leaf);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
