//! The reference: for each leaf the values that were written and not replaced by somebody who saw them.

use std::collections::BTreeMap;

use serde_json::Value as Json;
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
    /// The whole set: an element that is inserted once only, and those that are gone by it.
    Whole(Json, Vec<Json>),
    /// A text with a letter more that is written once only, and without those that are gone. Who saw several texts puts one in
    /// their place.
    Text {
        written: char,
        gone: Vec<char>,
        seen: Vec<char>,
        resolves: bool,
    },
}

impl Kind {
    const fn written(&self) -> Option<&Json> {
        match self {
            Self::Put(value, _) | Self::Insert(value) | Self::Whole(value, _) => Some(value),
            Self::Delete(_) | Self::Add(_) | Self::Remove(_) | Self::Text { .. } => None,
        }
    }

    /// What its author saw, and it is no more.
    fn replaced(&self) -> &[Json] {
        match self {
            Self::Put(_, seen) | Self::Delete(seen) | Self::Whole(_, seen) => seen,
            Self::Remove(element) => std::slice::from_ref(element),
            Self::Add(_) | Self::Insert(_) | Self::Text { .. } => &[],
        }
    }
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
            if let Kind::Text { .. } = edits[0].kind {
                written(&edits, &shown)?;
            } else if let Kind::Insert(_) | Kind::Remove(_) | Kind::Whole(..) = edits[0].kind {
                let found = shown.first().and_then(|value| value["$set"].as_array()).cloned();
                within(section, key, &edits, &found.unwrap_or_default())?;
            } else {
                within(section, key, &edits, &shown)?;
            }
        }
        Ok(())
    }
}

/// What was written and not replaced is there, and nothing that was replaced. Of an edit that is not sure both may be so.
fn within(section: Section, key: &str, edits: &[&Edit], shown: &[Json]) -> Result<(), String> {
    let least = values(edits, Fate::Kept, Fate::Unsure);
    let most = values(edits, Fate::Unsure, Fate::Kept);
    let is_all = least.iter().all(|value| shown.contains(value));
    let is_doubled = shown.iter().enumerate().any(|(at, value)| shown[..at].contains(value));
    if is_all && !is_doubled && shown.iter().all(|value| most.contains(value)) {
        return Ok(());
    }
    Err(format!("{section} {key} is {shown:?}, not {least:?}, or at most {most:?}"))
}

/// The letters of a text.
pub fn letters(text: &Json) -> Vec<char> {
    text["$text"].as_str().unwrap_or_default().chars().collect()
}

/// What was written to a text and not removed is there, in one of those that stand beside each other, and none is twice in one. A
/// text that is replaced takes along what is written to it at once.
fn written(edits: &[&Edit], shown: &[Json]) -> Result<(), String> {
    let shown: Vec<_> = shown.iter().map(letters).collect();
    for text in &shown {
        let is_doubled = text.iter().enumerate().any(|(at, letter)| text[..at].contains(letter));
        let is_known = |letter| {
            edits.iter().any(|edit| matches!(edit.kind, Kind::Text { written, .. } if written == letter))
        };
        if is_doubled || !text.iter().all(|letter| is_known(*letter)) {
            return Err(format!("a text is {text:?}"));
        }
    }
    for edit in edits.iter().filter(|edit| edit.fate == Fate::Kept) {
        let Kind::Text { written: letter, seen: before, .. } = &edit.kind else { continue };
        let may_be_gone = edits.iter().any(|other| match &other.kind {
            Kind::Text { written, gone, seen, resolves } => {
                let at_once = !seen.contains(letter) && !before.contains(written) && letter != written;
                gone.contains(letter) || (*resolves && at_once)
            }
            _ => false,
        });
        if !may_be_gone && !shown.iter().any(|text| text.contains(letter)) {
            return Err(format!("{letter:?} is in no text of {shown:?}"));
        }
    }
    Ok(())
}

/// The values of edits that are at least as sure as `written`, without those that edits replaced that are as sure as `gone`.
fn values(edits: &[&Edit], written: Fate, gone: Fate) -> Vec<Json> {
    let is_sure = |edit: &Edit, fate| edit.fate == Fate::Kept || edit.fate == fate;
    let replaced: Vec<_> =
        edits.iter().filter(|edit| is_sure(edit, gone)).flat_map(|edit| edit.kind.replaced()).collect();
    let left = edits.iter().filter(|edit| is_sure(edit, written)).filter_map(|edit| edit.kind.written());
    left.filter(|value| !replaced.contains(value)).cloned().collect()
}
