//! The reference: for each leaf the values that were written and not replaced by somebody who saw them.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tideline_twin::{Key, Section, Twin};

/// What has become of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It must be there at the end.
    Kept,
    /// Its replica was wiped before it knew that the edit was at the other end.
    Unsure,
    /// It was never durable.
    Lost,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// One value that is written once only, and those it replaces.
    Put(Json, Vec<Json>),
    Delete(Vec<Json>),
    Add(i64),
    /// An element that is inserted once only.
    Insert(Json),
    Remove(Json),
}

#[derive(Debug, Clone)]
pub struct Edit {
    pub section: Section,
    pub key: String,
    pub kind: Kind,
    pub fate: Fate,
}

#[derive(Debug, Default)]
pub struct Model {
    pub edits: Vec<Edit>,
}

/// All values that a leaf shows, in conflict or not.
pub fn visible(twin: &Twin, section: Section, key: &str) -> Vec<Json> {
    let key = Key::parse(key).unwrap();
    let conflict =
        twin.conflicts().into_iter().find(|conflict| conflict.section == section && conflict.key == key);
    match conflict {
        Some(conflict) => conflict.values.into_iter().map(|leaf| leaf.value).collect(),
        None => twin.leaf(section, &key).into_iter().map(|leaf| leaf.value).collect(),
    }
}

fn sorted(mut values: Vec<Json>) -> Vec<String> {
    values.sort_by_key(Json::to_string);
    values.iter().map(Json::to_string).collect()
}

impl Model {
    pub fn add(&mut self, section: Section, key: &str, kind: Kind) -> usize {
        self.edits.push(Edit { section, key: key.to_owned(), kind, fate: Fate::Kept });
        self.edits.len() - 1
    }

    pub fn mark(&mut self, edits: impl IntoIterator<Item = usize>, fate: Fate) {
        for at in edits {
            if self.edits[at].fate != Fate::Lost {
                self.edits[at].fate = fate;
            }
        }
    }

    /// Compares a twin with what it should be.
    pub fn check(&self, twin: &Twin) -> Result<(), String> {
        let mut places: BTreeMap<(Section, &str), Vec<&Edit>> = BTreeMap::new();
        for edit in self.edits.iter().filter(|edit| edit.fate != Fate::Lost) {
            places.entry((edit.section, &edit.key)).or_default().push(edit);
        }
        for ((section, key), edits) in places {
            let shown = visible(twin, section, key);
            if let Kind::Add(_) = edits[0].kind {
                let sum = |unsure: bool| -> i64 {
                    let wanted = edits.iter().filter(|edit| unsure || edit.fate == Fate::Kept);
                    wanted.map(|edit| if let Kind::Add(by) = edit.kind { by } else { 0 }).sum()
                };
                let is = shown.first().and_then(|value| value["$counter"].as_i64()).unwrap_or(0);
                if is < sum(false) || is > sum(true) || shown.len() > 1 {
                    return Err(format!("{key} is {shown:?}, not within {}..={}", sum(false), sum(true)));
                }
                continue;
            }
            if edits.iter().any(|edit| edit.fate == Fate::Unsure) {
                continue;
            }
            let expected = match edits[0].kind {
                Kind::Insert(_) | Kind::Remove(_) => vec![set(&edits, &shown)],
                _ => values(&edits),
            };
            if sorted(shown.clone()) != sorted(expected.clone()) {
                return Err(format!("{section} {key} is {shown:?}, not {expected:?}"));
            }
        }
        Ok(())
    }
}

fn values(edits: &[&Edit]) -> Vec<Json> {
    let mut replaced = Vec::new();
    for edit in edits {
        if let Kind::Put(_, seen) | Kind::Delete(seen) = &edit.kind {
            replaced.extend(seen.clone());
        }
    }
    let put = edits.iter().filter_map(|edit| match &edit.kind {
        Kind::Put(value, _) if !replaced.contains(value) => Some(value.clone()),
        _ => None,
    });
    put.collect()
}

/// Elements in the order of the answer, which is that of their keys.
fn set(edits: &[&Edit], shown: &[Json]) -> Json {
    let removed: Vec<_> = edits
        .iter()
        .filter_map(|e| if let Kind::Remove(element) = &e.kind { Some(element) } else { None })
        .collect();
    let mut left: Vec<Json> = Vec::new();
    for edit in edits {
        if let Kind::Insert(element) = &edit.kind
            && !removed.contains(&element)
        {
            left.push(element.clone());
        }
    }
    let order = shown.first().and_then(|value| value["$set"].as_array()).cloned().unwrap_or_default();
    left.sort_by_key(|element| order.iter().position(|other| other == element));
    json!({ "$set": left })
}
