//! Templates of configuration: what all agents of a group or at a site are to have, where nobody wants something else of one.
//!
//! A template is laid into `desired/config` of each member's twin, leaf by leaf, signed with its name. So each leaf says where it
//! comes from, and one that anybody else wrote is an override, which no template touches. Of several templates the site's goes
//! before those of groups, and of these the last by name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value as Json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::limits::AUTHOR_BYTES_MAX;
use tideline_twin::{Key, Leaf, Section, Twin};

use crate::hub::{App, Hub};
use crate::layer;
use crate::metadata::{Changes, DeviceRecord, MetadataError, TemplateRecord, TemplateVersion};
use crate::twins::{self, Patch, TwinError, etag};

/// Most templates of a hub.
pub const TEMPLATES_MAX: usize = 1_000;
/// Earlier versions of a template that are kept.
pub const VERSIONS_MAX: usize = 20;
/// Longest layer of a template as JSON, in bytes: an agent takes twice as much.
pub const LAYER_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a group or site in bytes.
const NAME_BYTES_MAX: usize = 64;
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
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
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
/// The layer is none, or the disk failed. What a member cannot take is in its outcome.
pub async fn put(
    hub: &App,
    name: &Name,
    layer: Json,
    author: String,
) -> Result<(TemplateRecord, Vec<Outcome>), TemplateError> {
    check(&layer)?;
    let key = name.to_string();
    let now_ms = hub.now_ms();
    let record = hub.blocking(move |hub| {
        hub.metadata.change(|changes: &mut Changes| {
            let before = changes.find::<TemplateRecord>(&key)?;
            if before.is_none() && changes.list::<TemplateRecord>()?.len() >= TEMPLATES_MAX {
                return Err(TemplateError::Full);
            }
            let record = next(before, layer, author, now_ms);
            changes.put(&key, &record)?;
            Ok(record)
        })
    });
    let record = record.await?;
    let outcomes = apply_to(hub, members(hub, name)?).await?;
    Ok((record, outcomes))
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
    Ok(Some(apply_to(hub, members(hub, name)?).await?))
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
    Ok(())
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
        let wrong = |what: &str| Err(TemplateError::Layer(format!("{}: {what}", path.join("."))));
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
    let Some(record) = hub.metadata.find::<DeviceRecord>(id)?.filter(|record| is_agent(id, record)) else {
        return Ok(None);
    };
    let Ok(device) = DeviceId::parse(id) else { return Ok(None) };
    let (document, wanted) = (DocumentId::Device(device), wanted(hub, &record)?);
    let patches = hub.twins.look(&document, |twin| patches(twin, &wanted))?;
    let mut written = twins::Written::default();
    for (author, patch) in patches {
        let sections = vec![(Section::Desired, patch)];
        let patch = Patch { sections, of: None, author, check: layer::of_patches };
        match hub.twins.patch(hub, &document, &patch, |_| ()) {
            Ok(((), made)) => written.extend([made]),
            Err(error) => return Ok(Some((Err(error), written))),
        }
    }
    let etag = hub.twins.look(&document, etag)?;
    Ok(Some((Ok(etag), written)))
}

/// What the templates of a device want, each leaf with the template that it is of.
fn wanted(hub: &Hub, record: &DeviceRecord) -> Result<Leaves<(Json, String)>, TwinError> {
    let mut names: Vec<_> = record.marks.groups.iter().cloned().map(Name::Group).collect();
    names.extend(Some(&record.marks.site).filter(|site| !site.is_empty()).cloned().map(Name::Site));
    let mut wanted: Leaves<(Json, String)> = BTreeMap::new();
    for name in names {
        let Some(template) = hub.metadata.find::<TemplateRecord>(&name.to_string())? else { continue };
        let Ok(Json::Object(sections)) = serde_json::from_str(&template.current.layer) else { continue };
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
    let there = leaves(twin);
    let (of_templates, others): (Vec<_>, Vec<_>) =
        there.iter().partition(|(_, leaf)| template(leaf).is_some());
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
mod tests {
    use serde_json::json;
    use tideline_twin::{Actor, Change, Side, merge_patch};

    use super::*;

    fn write(twin: &mut Twin, author: &str, patch: &Json) {
        let edits = merge_patch(Section::Desired, &twin.json(Section::Desired), patch).unwrap();
        let record = twin.edit(&Change { edits, author: author.to_owned(), time_ms: 1 }).unwrap();
        record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
    }

    fn wants(of: &[(&str, Json)]) -> Leaves<(Json, String)> {
        let mut wanted = BTreeMap::new();
        for (name, layer) in of {
            let name: Name = name.parse().unwrap();
            let mut leaves = BTreeMap::new();
            gather(&mut vec![CONFIG.to_owned()], layer.as_object().unwrap(), &mut leaves).unwrap();
            wanted.extend(leaves.into_iter().map(|(path, value)| (path, (value, name.author()))));
        }
        wanted
    }

    fn lay(twin: &mut Twin, wanted: &Leaves<(Json, String)>) {
        for (author, patch) in patches(twin, wanted) {
            write(twin, &author, &patch);
        }
        assert_eq!(patches(twin, wanted), [], "it is laid once");
    }

    fn config(twin: &Twin) -> Json {
        twin.json(Section::Desired)["config"].clone()
    }

    #[test]
    fn a_template_is_laid_beside_what_others_want_and_goes_without_a_trace() {
        let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": 7 } }, "mode": "eco" }));
        let first =
            json!({ "batch": { "rows_max": 1, "flush_interval_ms": 20 }, "source": { "old": false } });
        lay(&mut twin, &wants(&[("group/pumps", first)]));
        let laid = json!({ "batch": { "rows_max": 7, "flush_interval_ms": 20 }, "source": { "old": false } });
        assert_eq!(config(&twin), laid);
        let found = leaves(&twin);
        let of = |path: &[&str]| {
            let path: Vec<String> = ["config"].iter().chain(path).map(|name| (*name).to_owned()).collect();
            found.get(&path).and_then(template).map(str::to_owned)
        };
        assert_eq!(of(&["batch", "flush_interval_ms"]).as_deref(), Some("group/pumps"));
        assert_eq!(of(&["batch", "rows_max"]), None);
        // Another version, and the site's word.
        let second = json!({ "batch": { "flush_interval_ms": 30 } });
        lay(&mut twin, &wants(&[("site/hall", second)]));
        assert_eq!(config(&twin), json!({ "batch": { "rows_max": 7, "flush_interval_ms": 30 } }));
        // An override that is taken back leaves room for the template.
        let third = wants(&[("group/pumps", json!({ "batch": { "rows_max": 9 } }))]);
        lay(&mut twin, &third);
        assert_eq!(config(&twin), json!({ "batch": { "rows_max": 7 } }));
        write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": null } } }));
        lay(&mut twin, &third);
        assert_eq!(config(&twin), json!({ "batch": { "rows_max": 9 } }));
        lay(&mut twin, &BTreeMap::new());
        assert!(leaves(&twin).is_empty());
        assert_eq!(twin.json(Section::Desired)["mode"], json!("eco"));
    }

    #[test]
    fn what_somebody_wants_above_or_below_a_leaf_is_an_override_too() {
        let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        write(&mut twin, "anna", &json!({ "config": { "source": { "meter": false } } }));
        let wanted = wants(&[("group/pumps", json!({ "source": { "meter": { "interval_ms": 5 } } }))]);
        lay(&mut twin, &wanted);
        assert_eq!(config(&twin), json!({ "source": { "meter": false } }));
    }

    #[test]
    fn names_and_layers_that_are_none_are_refused() {
        for name in ["pumps", "group/", "room/1", &format!("site/{}", "x".repeat(65))] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
        for layer in [json!([]), json!({ "batch": { "rows_max": null } }), json!({ "a": { "$set": [] } })] {
            assert!(check(&layer).is_err(), "{layer}");
        }
        assert!(check(&json!({ "a": "x".repeat(LAYER_BYTES_MAX) })).is_err());
        assert!(check(&json!({ "source": { "old": false } })).is_ok());
    }
}
