//! What a twin says: a section as JSON, one leaf, conflicts, and what is wanted and not yet so.

use std::collections::BTreeMap;

use automerge::{ChangeHash, ObjId};
use serde_json::{Map, Value as Json, json};

use crate::document::{Document, Held, Origin, newer};
use crate::key::{Key, Part};
use crate::late::Late;
use crate::section::Section;
use crate::touched::Touched;
use crate::value::clamped;

/// A leaf with who wrote it last.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Its value, as it stands in the section's JSON.
    pub value: Json,
    /// Who wrote it and when. A counter has none that was added up when history was cut off.
    pub origin: Option<Origin>,
}

/// A leaf with values that exclude each other, each as its writer left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// Where.
    pub section: Section,
    /// Which leaf.
    pub key: Key,
    /// The values, the shown one first. Each is kept by writing it to the leaf as a merge patch.
    pub values: Vec<Leaf>,
}

/// A leaf of `desired` that `reported` does not have so.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which leaf.
    pub key: Key,
    /// What is wanted.
    pub desired: Json,
    /// What is; null if nothing is reported.
    pub reported: Json,
    /// When it began: what is desired was written then, or what is reported was so until then. In milliseconds since 1970.
    pub since_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Gathered {
    // The shown one last.
    plain: Vec<Leaf>,
    count: Option<(i128, Option<Origin>)>,
    set: Option<Leaf>,
}

impl Gathered {
    /// All values of kinds that exclude each other, the shown one first.
    fn values(self) -> Vec<Leaf> {
        let count =
            self.count.map(|(sum, origin)| Leaf { value: json!({ "$counter": clamped(sum) }), origin });
        self.plain.into_iter().rev().chain(count).chain(self.set).collect()
    }

    fn origins(&self) -> impl Iterator<Item = Option<Origin>> {
        let count = self.count.iter().map(|(_, origin)| origin);
        self.plain.iter().chain(&self.set).map(|leaf| &leaf.origin).chain(count).cloned()
    }
}

/// Who is told for a value.
#[derive(Clone, Copy)]
enum By<'a> {
    Nobody,
    /// Who wrote it, and of a text who made it.
    Writer,
    /// Who wrote it, and of a text who changed it last.
    Last(&'a Touched),
}

impl By<'_> {
    fn origin(
        self,
        document: &Document,
        section: Section,
        flat: &str,
        held: (&Held, &ObjId),
    ) -> Option<Origin> {
        match (self, held) {
            (Self::Nobody, _) => None,
            (Self::Last(touched), (Held::Text(_), id)) => touched.origin(document, section, flat, id),
            (Self::Writer | Self::Last(_), (_, id)) => document.origin(section, flat, id),
        }
    }
}

/// Values by path.
fn gather(
    document: &Document,
    section: Section,
    heads: Option<&[ChangeHash]>,
    by: By<'_>,
) -> BTreeMap<Key, Gathered> {
    gathered(document, section, heads, by, document.parts(section, heads))
}

/// Equal values that were written at once exclude nothing, and count as one.
fn gathered(
    document: &Document,
    section: Section,
    heads: Option<&[ChangeHash]>,
    by: By<'_>,
    parts: Vec<(String, Key, Part, bool)>,
) -> BTreeMap<Key, Gathered> {
    let mut all: BTreeMap<Key, Gathered> = BTreeMap::new();
    for (flat, key, part, _) in parts {
        let here = all.entry(key).or_default();
        for (held, id) in document.held(section, &flat, heads) {
            let origin = by.origin(document, section, &flat, (&held, &id));
            match (held, &part) {
                (Held::Leaf(value), Part::Leaf) => plain(here, Leaf { value, origin }),
                (Held::Text(text), Part::Leaf) => {
                    plain(here, Leaf { value: json!({ "$text": text }), origin });
                }
                (Held::Count(count), _) => {
                    let (sum, before) = here.count.take().unwrap_or((0, None));
                    here.count = Some((sum + i128::from(count), newer(before, origin)));
                }
                (Held::Leaf(_), part) => element(here, part, origin),
                (Held::Text(_), _) => {}
            }
        }
    }
    all
}

fn plain(here: &mut Gathered, leaf: Leaf) {
    here.plain.retain(|other| other.value != leaf.value);
    here.plain.push(leaf);
}

fn element(here: &mut Gathered, part: &Part, origin: Option<Origin>) {
    let mut set = here.set.take().unwrap_or(Leaf { value: json!({ "$set": [] }), origin: None });
    if let (Part::Element(element), Some(Json::Array(elements))) = (part, set.value.get_mut("$set"))
        && elements.last() != Some(element)
    {
        elements.push(element.clone());
    }
    set.origin = newer(set.origin, origin);
    here.set = Some(set);
}

/// A section as JSON. Of a leaf and leaves below it, which two ends made at once, the ones below are shown.
pub(crate) fn section(document: &Document, section: Section, heads: Option<&[ChangeHash]>) -> Json {
    let mut root = Map::new();
    for (key, gathered) in gather(document, section, heads, By::Nobody) {
        let names: Vec<_> = key.names().collect();
        if let (Some(leaf), Some((last, above))) = (gathered.values().into_iter().next(), names.split_last())
        {
            insert(&mut root, above, last, leaf.value);
        }
    }
    Json::Object(root)
}

/// Keys come sorted, so that a leaf comes before what is below it.
fn insert(root: &mut Map<String, Json>, above: &[String], last: &str, value: Json) {
    let mut here = root;
    for name in above {
        let next = here.entry(name.clone()).or_insert_with(|| Json::Object(Map::new()));
        let is_leaf = match next {
            Json::Object(members) => members.keys().any(|name| name.starts_with('$')) && members.len() == 1,
            _ => true,
        };
        if is_leaf {
            *next = Json::Object(Map::new());
        }
        let Json::Object(members) = next else { return };
        here = members;
    }
    here.insert(last.to_owned(), value);
}

/// The shown value of one leaf.
pub(crate) fn value(document: &Document, section: Section, key: &Key) -> Option<Json> {
    let parts = document.parts_of(section, key);
    gathered(document, section, None, By::Nobody, parts)
        .remove(key)?
        .values()
        .into_iter()
        .next()
        .map(|leaf| leaf.value)
}

/// One leaf with its origin.
pub(crate) fn leaf(document: &Document, section: Section, key: &Key) -> Option<Leaf> {
    let leaf = first(document, section, key, By::Writer)?;
    let is_text = section == Section::Notes && leaf.value.get("$text").is_some();
    let touched = if is_text { Touched::of(document).ok() } else { None };
    touched.map_or(Some(leaf), |touched| first(document, section, key, By::Last(&touched)))
}

fn first(document: &Document, section: Section, key: &Key, by: By<'_>) -> Option<Leaf> {
    gather(document, section, None, by).remove(key)?.values().into_iter().next()
}

/// All leaves of all sections with several values. A leaf that hides behind those below it has the object of them as one.
pub(crate) fn conflicts(document: &Document) -> Vec<Conflict> {
    let mut found = Vec::new();
    for of in Section::ALL {
        let mut here = conflicts_of(document, of, By::Writer);
        // Of texts only, as all changes are read for it.
        if of == Section::Notes && !here.is_empty() {
            let touched = Touched::of(document);
            here = touched.map_or(here, |touched| conflicts_of(document, of, By::Last(&touched)));
        }
        found.extend(here);
    }
    found
}

fn conflicts_of(document: &Document, of: Section, by: By<'_>) -> Vec<Conflict> {
    let mut found = Vec::new();
    let all = gather(document, of, None, by);
    let objects = objects(document, of, &all);
    for (key, gathered) in all {
        let mut values = gathered.values();
        if let Some(object) = objects.get(&key) {
            // That there is an object, and what is in it, exclude nothing.
            values.retain(|leaf| leaf.value != json!({}));
            values.insert(0, object.clone());
        }
        if values.len() > 1 {
            found.push(Conflict { section: of, key, values });
        }
    }
    found
}

/// What is shown in the place of leaves that others lie below, with the newest who wrote there.
fn objects(document: &Document, of: Section, all: &BTreeMap<Key, Gathered>) -> BTreeMap<Key, Leaf> {
    let hides = |key: &Key| all.range(key.below()).next().is_some();
    let hidden: Vec<_> = all.keys().filter(|key| hides(key)).collect();
    let shown = if hidden.is_empty() { Json::Null } else { section(document, of, None) };
    let object = |key: &Key| {
        let value = key.names().try_fold(&shown, |here, name| here.get(name))?.clone();
        let below = all.range(key.below()).flat_map(|(_, gathered)| gathered.origins());
        let origin = below.fold(None, newer);
        Some((key.clone(), Leaf { value, origin }))
    };
    hidden.into_iter().filter_map(object).collect()
}

/// What is wanted and not so.
pub(crate) fn delta(document: &Document, late: &Late) -> Vec<Difference> {
    let mut reported = gather(document, Section::Reported, None, By::Writer);
    let desired = gather(document, Section::Desired, None, By::Writer);
    let mut found = Vec::new();
    // A leaf that is hidden by others below it is not what is wanted.
    let hidden: Vec<_> =
        desired.keys().filter(|key| desired.range(key.below()).next().is_some()).cloned().collect();
    for (key, wanted) in desired {
        if hidden.contains(&key) {
            continue;
        }
        let Some(wanted) = wanted.values().into_iter().next() else { continue };
        let is = reported.remove(&key).and_then(|is| is.values().into_iter().next());
        if is.as_ref().is_some_and(|is| is.value == wanted.value) {
            continue;
        }
        let (value, origin) = is.map_or((Json::Null, None), |leaf| (leaf.value, leaf.origin));
        let known = late.since(&key, &wanted.value);
        let since_ms = known.or_else(|| newer(wanted.origin, origin).map(|origin| origin.time_ms));
        found.push(Difference { key, desired: wanted.value, reported: value, since_ms });
    }
    found
}
