//! What changes did: steps of leaves, for the history of a twin and for replaying them on another base.

use std::collections::{HashMap, HashSet};

use automerge::legacy::{Key as OpKey, ObjectId, OpId, OpType};
use automerge::{ChangeHash, ExpandedChange, ObjId, ReadDoc as _, ScalarValue};
use serde_json::{Value as Json, json};

use crate::actor::Actor;
use crate::check::section_of;
use crate::count::Added;
use crate::document::{Document, EngineError, guarded};
use crate::key::{self, Key, Part};
use crate::section::Section;
use crate::stamp::Signed;
use crate::value;

/// One step of a twin's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its place among all steps as they came, which those that come later do not change.
    pub place: usize,
    /// When, in milliseconds since 1970, by the clock of who wrote.
    pub time_ms: i64,
    /// When the hub took it, where that clock cannot have been right.
    pub taken_ms: Option<i64>,
    /// Who; may be empty.
    pub author: String,
    /// The replica.
    pub actor: Actor,
    /// Where.
    pub section: Section,
    /// Which leaf.
    pub key: Key,
    /// What the leaf became: null if it is gone, `{"$add": n}`, `{"$insert": e}`, `{"$remove": e}`, `{"$text": "…"}`, and
    /// `{"$set": []}` for a set that begins empty.
    pub value: Json,
}

impl Step {
    /// When it was, as far as that is known: see [`Step::taken_ms`].
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        self.taken_ms.unwrap_or(self.time_ms)
    }
}

/// What one change did to one flat key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    Put(ScalarValue),
    Delete,
    Add(i128),
    Text { before: Option<String>, after: String },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FlatStep {
    pub section: Section,
    pub flat: String,
    pub deed: Deed,
    /// The operations that it replaced: all that its author saw at the key.
    pub replaced: Vec<OpId>,
}

/// What a change of the document did, in order; a text once.
pub(crate) fn flat_steps(
    document: &Document,
    change: &ExpandedChange,
    hash: ChangeHash,
) -> Result<Vec<FlatStep>, EngineError> {
    let mut steps: Vec<FlatStep> = Vec::new();
    let mut added = Added::new(document, change);
    // A text is read whole, and has an operation for each character: once for each of them would be seconds.
    let mut texts: HashSet<&ObjectId> = HashSet::new();
    for (at, op) in (0_u64..).zip(&change.operations) {
        let Some(section) = section_of(&op.obj) else {
            if texts.insert(&op.obj) {
                steps.extend(text_step(document, change, hash, &op.obj));
            }
            continue;
        };
        let OpKey::Map(flat) = &op.key else { continue };
        let deed = match &op.action {
            OpType::Put(ScalarValue::Counter(_)) | OpType::Increment(_) => {
                Deed::Add(added.by(at, op, section, flat).unwrap_or(0))
            }
            OpType::Put(scalar) => Deed::Put(scalar.clone()),
            OpType::Delete => Deed::Delete,
            OpType::Make(_) => {
                let id = ObjId::Id(change.start_op.get().saturating_add(at), change.actor_id.clone(), 0);
                let after = document.am.text_at(&id, &[hash])?;
                Deed::Text { before: None, after }
            }
            OpType::MarkBegin(_) | OpType::MarkEnd(_) => continue,
        };
        let replaced = op.pred.iter().cloned().collect();
        steps.push(FlatStep { section, flat: flat.to_string(), deed, replaced });
    }
    Ok(steps)
}

/// What a change did to a text that was there before it.
fn text_step(
    document: &Document,
    change: &ExpandedChange,
    hash: ChangeHash,
    object: &ObjectId,
) -> Option<FlatStep> {
    let ObjectId::Id(id) = object else { return None };
    if *id.actor() == change.actor_id && id.counter() >= change.start_op.get() {
        return None;
    }
    #[cfg(test)]
    tests::TEXTS_READ.with(|read| read.set(read.get() + 1));
    let object = ObjId::Id(id.counter(), id.actor().clone(), 0);
    let (_, flat) = parent(document, &object, hash)?;
    let before = document.am.text_at(&object, &change.deps).ok();
    let after = document.am.text_at(&object, &[hash]).ok()?;
    Some(FlatStep { section: Section::Notes, flat, deed: Deed::Text { before, after }, replaced: Vec::new() })
}

fn parent(document: &Document, object: &ObjId, hash: ChangeHash) -> Option<(ObjId, String)> {
    let mut parents = document.am.parents_at(object, &[hash]).ok()?;
    let parent = parents.next()?;
    Some((parent.obj.clone(), parent.prop.as_str()?.to_owned()))
}

/// The steps of all changes that are not in what `since` leads to, by time, and a change before those that build on it, whatever its
/// author's clock said.
pub(crate) fn since(document: &Document, since: &[ChangeHash]) -> Result<Vec<Step>, EngineError> {
    guarded(|| {
        let mut steps: Vec<(i64, Step)> = Vec::new();
        let mut times: HashMap<ChangeHash, i64> = HashMap::new();
        for change in document.am.get_changes(since) {
            let at_ms = document.time_of(&change.hash(), change.timestamp());
            let at_ms =
                change.deps().iter().filter_map(|dep| times.get(dep)).fold(at_ms, |at, of| at.max(*of));
            times.insert(change.hash(), at_ms);
            let Some(actor) = Actor::of(change.actor_id()).filter(|actor| actor.side().is_some()) else {
                continue;
            };
            let author = change.message().and_then(Signed::read).map_or("", |signed| signed.author);
            let all = flat_steps(document, &change.decode(), change.hash())?;
            for (at, step) in all.iter().enumerate() {
                // What the change itself replaced was never so.
                let is_same = |other: &&FlatStep| other.section == step.section && other.flat == step.flat;
                let is_last = all.iter().skip(at + 1).find(is_same).is_none();
                if !is_last && !matches!(step.deed, Deed::Add(_)) {
                    continue;
                }
                let Some((key, part)) = key::read(&step.flat) else { continue };
                if leaves_a_value(document, step, change.hash()) {
                    continue;
                }
                // A set that is begun with elements is told by them.
                let of_set = |other: &FlatStep| {
                    let read = key::read(&other.flat);
                    other.section == step.section && matches!(read, Some((of, Part::Element(_))) if of == key)
                };
                if part == Part::Set && step.deed != Deed::Delete && all.iter().any(of_set) {
                    continue;
                }
                let section = step.section;
                let (time_ms, taken_ms) = (change.timestamp(), document.taken.get(&change.hash()).copied());
                for value in shown(&step.deed, &part) {
                    let (key, author, place) = (key.clone(), author.to_owned(), steps.len());
                    let step = Step { place, time_ms, taken_ms, author, actor, section, key, value };
                    steps.push((at_ms, step));
                }
            }
        }
        // Those of one time stay as they came.
        steps.sort_by_key(|(at_ms, _)| *at_ms);
        Ok(steps.into_iter().map(|(_, step)| step).collect())
    })
}

/// Whether only some of the values at a leaf were removed: those that others had replaced already, or to write one anew.
fn leaves_a_value(document: &Document, step: &FlatStep, hash: ChangeHash) -> bool {
    step.deed == Deed::Delete && !document.held(step.section, &step.flat, Some(&[hash])).is_empty()
}

/// One value; none for what no leaf holds. What was added may need several numbers.
fn shown(deed: &Deed, part: &Part) -> Vec<Json> {
    let one = match (deed, part) {
        (Deed::Put(_), Part::Element(element)) => json!({ "$insert": element }),
        (Deed::Delete, Part::Element(element)) => json!({ "$remove": element }),
        (Deed::Put(_), Part::Set) => json!({ "$set": [] }),
        (Deed::Put(scalar), _) => return value::json(scalar).into_iter().collect(),
        (Deed::Delete, _) => Json::Null,
        (Deed::Add(by), _) => return numbers(*by).map(|by| json!({ "$add": by })).collect(),
        (Deed::Text { after, .. }, _) => json!({ "$text": after }),
    };
    vec![one]
}

/// A sum as numbers of 64 bits: from one end of a counter to the other there are three.
fn numbers(sum: i128) -> impl Iterator<Item = i64> {
    let rest = |left: &i128| {
        let left = left - i128::from(value::clamped(*left));
        (left != 0).then_some(left)
    };
    std::iter::successors(Some(sum), rest).map(value::clamped)
}

/// The heads of what was there at a time, and how many changes: those of that time and before, as far as all that they build on is.
pub(crate) fn heads_at(document: &Document, time_ms: i64) -> (Vec<ChangeHash>, usize) {
    let mut taken = std::collections::HashSet::new();
    let mut heads = std::collections::BTreeSet::new();
    for meta in document.am.get_changes_meta(&[]) {
        let before = Actor::of(&meta.actor).is_some_and(|actor| actor.side().is_none());
        if (before || document.time_of(&meta.hash, meta.timestamp) <= time_ms)
            && meta.deps.iter().all(|dep| taken.contains(dep))
        {
            for dep in &meta.deps {
                heads.remove(dep);
            }
            taken.insert(meta.hash);
            heads.insert(meta.hash);
        }
    }
    (heads.into_iter().collect(), taken.len())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Action, Actor, Change, Edit, Key, Side, Twin};

    thread_local! {
        /// How often a text was read as a whole to tell what became of it.
        pub(super) static TEXTS_READ: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn a_text_is_read_once_for_a_change_and_not_for_each_of_its_characters() {
        let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        let mut write = |letter: &str| {
            let before = twin.heads();
            let text = |key: &str| Edit {
                section: Section::Notes,
                key: Key::parse(key).unwrap(),
                action: Action::Text(letter.repeat(500)),
            };
            let edits = vec![text("a"), text("b")];
            let record = twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap().unwrap();
            twin.handle_durable(record.ticket);
            let read = TEXTS_READ.replace(0);
            let steps = twin.history(&before).unwrap();
            (read, TEXTS_READ.replace(0), steps.into_iter().map(|step| step.value).collect::<Vec<_>>())
        };
        let value = |letter: &str| json!({ "$text": letter.repeat(500) });
        // A new text is told by its making.
        assert_eq!(write("x"), (0, 0, vec![value("x"); 2]));
        assert_eq!(write("y"), (0, 2, vec![value("y"); 2]));
    }
}
