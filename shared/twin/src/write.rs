//! What each action does to the flat keys of a section.

use std::collections::BTreeSet;

use automerge::transaction::{Transactable as _, Transaction};
use automerge::{ObjId, ObjType, ReadDoc as _, ScalarValue, Value};
use serde_json::Value as Json;

use crate::actor::{Actor, Side};
use crate::count;
use crate::document::EngineError;
use crate::edit::{Action, Edit, pointer};
use crate::key::{Key, KeyError, Part, flat};
use crate::limits::{
    DOCUMENT_BYTES_MAX, EDITED_BYTES_MAX, EDITED_CHANGE_BYTES_MAX, EDITS_PER_CHANGE_MAX, KEYS_MAX,
    OPS_PER_CHANGE_MAX, TEXT_BYTES_MAX, UNCONFIRMED_MAX,
};
use crate::section::Section;
use crate::text::{self, Splice};
use crate::value::{self, ValueError};

/// Why a local change is not made. Nothing of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The section is written by the other side.
    #[error("/{section} is not written by the {}", match side { Side::Hub => "hub", Side::Agent => "agent" })]
    NotYours {
        /// The section.
        section: Section,
        /// This side.
        side: Side,
    },
    /// A key is beyond a limit once it is marked, as history is cut off.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key is beyond a limit once it is marked, or is none that is written anew.
    #[error("{at}: {error}")]
    Marked {
        /// The leaf, as a JSON pointer into the twin.
        at: String,
        /// Why.
        error: KeyError,
    },
    /// A value cannot be kept.
    #[error("{at}: {error}")]
    Value {
        /// The leaf, as a JSON pointer into the twin.
        at: String,
        /// Why.
        error: ValueError,
    },
    /// A counter cannot hold so much.
    #[error(
        "{at}: the counter stands at {sum}, of which {own} was added at this end; {by} more brings one of them beyond whole numbers of 64 bits"
    )]
    Counter {
        /// The leaf, as a JSON pointer into the twin.
        at: String,
        /// What all have added.
        sum: i128,
        /// What this replica has added.
        own: i64,
        /// What was to be added.
        by: i128,
    },
    /// Text that merges is in notes only.
    #[error("{at}: text that merges is kept in notes alone")]
    TextElsewhere {
        /// The leaf, as a JSON pointer into the twin.
        at: String,
    },
    /// Too many edits at once.
    #[error("a change has {found} edits; allowed are {EDITS_PER_CHANGE_MAX}")]
    TooManyEdits {
        /// How many.
        found: usize,
    },
    /// The document would be too large.
    #[error(
        "the twin would have {keys} leaves with {bytes} bytes; allowed are {KEYS_MAX} leaves and {DOCUMENT_BYTES_MAX} bytes"
    )]
    TooLarge {
        /// Leaves.
        keys: usize,
        /// Bytes.
        bytes: usize,
    },
    /// The other end would not take the change.
    #[error(
        "the change would have {bytes} bytes and {operations} operations; allowed are {EDITED_CHANGE_BYTES_MAX} and {OPS_PER_CHANGE_MAX}: make it in parts"
    )]
    TooLong {
        /// Bytes, with the texts that it changes as a whole.
        bytes: usize,
        /// Operations, one for each character of those texts.
        operations: usize,
    },
    /// Nobody has confirmed the changes before, or they are too long together.
    #[error(
        "{UNCONFIRMED_MAX} changes wait for the other end to confirm them, or all since history was cut off have {EDITED_BYTES_MAX} bytes; this one is not taken before both ends have met"
    )]
    TooManyUnconfirmed,
    /// A change of a replica that was restored, too early.
    #[error("a restored replica cuts no history off before it has met another end")]
    NotMet,
    /// Only the hub cuts history off.
    #[error("only the hub cuts history off")]
    NotTheHub,
    /// More replicas wrote than are kept apart.
    #[error("more replicas wrote to the twin than can be told apart")]
    TooManyActors,
    /// automerge failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<automerge::AutomergeError> for EditError {
    fn from(error: automerge::AutomergeError) -> Self {
        Self::Engine(error.into())
    }
}

/// What a change's texts would be where they are written as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    bytes: usize,
    operations: usize,
}

impl Whole {
    fn of(text: &str) -> Self {
        Self { bytes: text.len(), operations: text.chars().count() + 1 }
    }

    pub const fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.operations += other.operations;
    }
}

/// Fails where the other end would not take what was made, now or when it is made again on a base: there the texts that it
/// changes may have to be written as a whole.
pub(crate) fn is_short(edits: usize, texts: Whole, made: &automerge::Change) -> Result<(), EditError> {
    let bytes = made.raw_bytes().len().max(texts.bytes);
    let operations = made.len().max(edits + texts.operations);
    let fits = bytes <= EDITED_CHANGE_BYTES_MAX && operations <= OPS_PER_CHANGE_MAX;
    if fits { Ok(()) } else { Err(EditError::TooLong { bytes, operations }) }
}

/// Carries an edit out. Returns what its text would be as a whole, where it may have to be written so.
pub(crate) fn edit(tx: &mut Transaction<'_>, actor: Actor, edit: &Edit) -> Result<Whole, EditError> {
    let Edit { section, key, action } = edit;
    let place = Place { object: section.object(), section: *section, key };
    let value = |error| EditError::Value { at: place.at(), error };
    if !matches!(action, Action::Delete | Action::Remove(_)) {
        key.is_shown().map_err(|error| EditError::Marked { at: place.at(), error })?;
    }
    match action {
        Action::Put(new) => {
            let scalar = value::scalar(new).map_err(value)?;
            place.clear(tx, &Part::Leaf)?;
            put(tx, &place.object, key.as_str(), scalar)?;
        }
        Action::Delete => place.delete(tx)?,
        Action::Add(by) => {
            place.clear(tx, &Part::Count(actor))?;
            place.add(tx, actor, i128::from(*by))?;
        }
        Action::Count(to) => {
            place.clear(tx, &Part::Count(actor))?;
            let by = i128::from(*to) - place.count(tx)?;
            // It is a counter also where nothing is to be added.
            if by != 0 || place.marked(tx, 'c').is_empty() {
                place.add(tx, actor, by)?;
            }
        }
        Action::Set(wanted) => place.set(tx, &value::elements(wanted).map_err(value)?)?,
        Action::Object => place.object(tx)?,
        Action::Insert(element) => {
            let element = Part::Element(value::element(element).map_err(value)?);
            place.clear(tx, &element)?;
            place.mark_set(tx)?;
            put(tx, &place.object, &place.flat(&element)?, true.into())?;
        }
        Action::Remove(element) => {
            let element = Part::Element(value::element(element).map_err(value)?);
            remove(tx, &place.object, &place.flat(&element)?)?;
        }
        Action::Text(text) => {
            if *section != Section::Notes {
                return Err(EditError::TextElsewhere { at: place.at() });
            }
            place.clear(tx, &Part::Leaf)?;
            return place.text(tx, text);
        }
    }
    Ok(Whole::default())
}

/// Writes a value also where it is there already: automerge would leave that out, and with it that somebody wants
/// it there while another end removes it.
pub(crate) fn put(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    flat: &str,
    scalar: ScalarValue,
) -> Result<(), EditError> {
    let there = tx.get_all(object, flat)?;
    if there.iter().any(|(value, _)| matches!(value, Value::Scalar(there) if **there == scalar)) {
        tx.delete(object, flat)?;
    }
    Ok(tx.put(object, flat, scalar)?)
}

fn counted(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Scalar(value) => match value.as_ref() {
            ScalarValue::Counter(count) => Some(i64::from(count)),
            _ => None,
        },
        Value::Object(_) => None,
    }
}

pub(crate) fn remove(tx: &mut Transaction<'_>, object: &ObjId, flat: &str) -> Result<(), EditError> {
    if tx.get(object, flat)?.is_some() {
        tx.delete(object, flat)?;
    }
    Ok(())
}

/// Changes a text, place by place.
pub(crate) fn change_text(tx: &mut Transaction<'_>, id: &ObjId, splices: &[Splice]) -> Result<(), EditError> {
    for Splice { at, deleted, inserted } in splices {
        tx.splice_text(id, *at, isize::try_from(*deleted).unwrap_or(isize::MAX), inserted)?;
    }
    Ok(())
}

struct Place<'a> {
    object: ObjId,
    section: Section,
    key: &'a Key,
}

impl Place<'_> {
    /// Where it is, for errors.
    fn at(&self) -> String {
        pointer(self.section, self.key.as_str())
    }

    fn flat(&self, part: &Part) -> Result<String, EditError> {
        flat(self.key, part).map_err(|error| EditError::Marked { at: self.at(), error })
    }

    /// Removes what cannot stand beside `part`: leaves above it, what is below it, and values of other kinds.
    fn clear(&self, tx: &mut Transaction<'_>, part: &Part) -> Result<(), EditError> {
        self.clear_above(tx)?;
        self.remove_range(tx, format!("{}/", self.key), format!("{}0", self.key), |_| true)?;
        if !matches!(part, Part::Leaf) {
            remove(tx, &self.object, self.key.as_str())?;
        }
        let counts = matches!(part, Part::Count(_));
        let elements = matches!(part, Part::Set | Part::Element(_));
        self.remove_marked(tx, |mark| match mark {
            'c' => !counts,
            's' => !elements,
            _ => false,
        })
    }

    fn clear_above(&self, tx: &mut Transaction<'_>) -> Result<(), EditError> {
        for above in self.key.above() {
            remove(tx, &self.object, above)?;
            self.remove_range(tx, format!("{above}~"), format!("{above}\u{7f}"), |_| true)?;
        }
        Ok(())
    }

    fn remove_marked(
        &self,
        tx: &mut Transaction<'_>,
        wanted: impl Fn(char) -> bool,
    ) -> Result<(), EditError> {
        self.remove_range(tx, format!("{}~", self.key), format!("{}\u{7f}", self.key), wanted)
    }

    /// The flat keys of the leaf with a mark.
    fn marked(&self, tx: &Transaction<'_>, mark: char) -> Vec<String> {
        let after = char::from_u32(u32::from(mark) + 1).unwrap_or(char::MAX);
        let range = format!("{}~{mark}", self.key)..format!("{}~{after}", self.key);
        tx.map_range(&self.object, range).map(|item| item.key.to_string()).collect()
    }

    /// Changes the text that is there, by its difference, or makes one. What merging made longer than a text may be can be kept
    /// and cut: what is shown is what keeps it.
    fn text(&self, tx: &mut Transaction<'_>, text: &str) -> Result<Whole, EditError> {
        let there = tx.get_all(&self.object, self.key.as_str())?;
        let mut texts = Vec::new();
        for (value, id) in &there {
            if *value == Value::Object(ObjType::Text) {
                texts.push((id.clone(), tx.text(id)?));
            }
        }
        let (found, longest) = (text.len(), texts.iter().map(|(_, text)| text.len()).max().unwrap_or(0));
        if found > TEXT_BYTES_MAX.max(longest) {
            let is_merged = longest > TEXT_BYTES_MAX;
            let long = ValueError::TooLong { found };
            let error = if is_merged { ValueError::Grown { found, there: longest } } else { long };
            return Err(EditError::Value { at: self.at(), error });
        }
        if let ([_], [(id, before)]) = (there.as_slice(), texts.as_slice()) {
            if before == text {
                return Ok(Whole::default());
            }
            let splices = text::splices(before, text);
            // What would be too much for one change is a new text, which takes an operation for each character that comes alone.
            if text::operations(&splices) <= OPS_PER_CHANGE_MAX {
                change_text(tx, id, &splices)?;
                // A longer one is never written as a whole: see `replay`.
                let is_long = found > TEXT_BYTES_MAX;
                return Ok(if is_long { Whole::default() } else { Whole::of(text) });
            }
        }
        let id = tx.put_object(&self.object, self.key.as_str(), ObjType::Text)?;
        tx.splice_text(&id, 0, 0, text)?;
        Ok(Whole::of(text))
    }

    /// What was added to the counter by all.
    fn count(&self, tx: &Transaction<'_>) -> Result<i128, EditError> {
        let mut sum = 0;
        for flat in self.marked(tx, 'c') {
            for (value, _) in tx.get_all(&self.object, flat)? {
                sum += counted(&value).map_or(0, i128::from);
            }
        }
        Ok(sum)
    }

    /// Adds to what one actor has added before; only that actor writes the key, so that additions never conflict. What all
    /// have added at once may be more than is shown, and is taken back from there.
    fn add(&self, tx: &mut Transaction<'_>, actor: Actor, by: i128) -> Result<(), EditError> {
        let flat = self.flat(&Part::Count(actor))?;
        let sum = self.count(tx)?;
        let there = tx.get(&self.object, flat.as_str())?.and_then(|(value, _)| counted(&value));
        let own = there.unwrap_or(0);
        let beyond = || EditError::Counter { at: self.at(), sum, own, by };
        let is_farther = i64::try_from(sum + by).is_err() && (by > 0) == (sum + by > 0);
        let stands = i64::try_from(i128::from(own) + by).ok().filter(|_| !is_farther).ok_or_else(beyond)?;
        match there.and_then(|own| count::step(own, stands)) {
            Some(by) => tx.increment(&self.object, flat, by)?,
            None => tx.put(&self.object, flat, ScalarValue::counter(stands))?,
        }
        Ok(())
    }

    /// That there is a set, be it empty.
    fn mark_set(&self, tx: &mut Transaction<'_>) -> Result<(), EditError> {
        let mark = self.flat(&Part::Set)?;
        if tx.get(&self.object, mark.as_str())?.is_none() {
            tx.put(&self.object, mark, true)?;
        }
        Ok(())
    }

    /// The set has just these elements. Those that it has stay as they were inserted.
    fn set(&self, tx: &mut Transaction<'_>, wanted: &[Json]) -> Result<(), EditError> {
        self.clear(tx, &Part::Set)?;
        self.mark_set(tx)?;
        let mark = self.flat(&Part::Set)?;
        let flats = wanted.iter().map(|element| self.flat(&Part::Element(element.clone())));
        let wanted = flats.collect::<Result<BTreeSet<_>, _>>()?;
        for there in self.marked(tx, 's') {
            if there != mark && !wanted.contains(&there) {
                tx.delete(&self.object, there)?;
            }
        }
        for new in wanted {
            if tx.get(&self.object, new.as_str())?.is_none() {
                tx.put(&self.object, new, true)?;
            }
        }
        Ok(())
    }

    /// An object that has members hides a leaf in its place, which goes; without any it is a leaf by itself.
    fn object(&self, tx: &mut Transaction<'_>) -> Result<(), EditError> {
        self.clear_above(tx)?;
        self.remove_marked(tx, |mark| matches!(mark, 'c' | 's'))?;
        let there = tx.get_all(&self.object, self.key.as_str())?;
        let is_empty =
            |value: &Value<'_>| matches!(value, Value::Scalar(value) if **value == value::empty_object());
        let has_others = there.iter().any(|(value, _)| !is_empty(value));
        let below = format!("{}/", self.key)..format!("{}0", self.key);
        if tx.map_range(&self.object, below).next().is_some() {
            if has_others {
                remove(tx, &self.object, self.key.as_str())?;
            }
        } else if has_others || there.is_empty() {
            put(tx, &self.object, self.key.as_str(), value::empty_object())?;
        }
        Ok(())
    }

    fn delete(&self, tx: &mut Transaction<'_>) -> Result<(), EditError> {
        remove(tx, &self.object, self.key.as_str())?;
        self.remove_range(tx, format!("{}/", self.key), format!("{}0", self.key), |_| true)?;
        self.remove_marked(tx, |mark| matches!(mark, 'c' | 's'))
    }

    /// Removes keys from `from` on and before `to` by the character behind `from`. `~0` and `~1` there begin the
    /// name of another leaf.
    fn remove_range(
        &self,
        tx: &mut Transaction<'_>,
        from: String,
        to: String,
        wanted: impl Fn(char) -> bool,
    ) -> Result<(), EditError> {
        debug_assert_eq!(self.object, self.section.object());
        let skip = from.len();
        let marked = from.ends_with('~');
        let keys: Vec<String> = tx
            .map_range(&self.object, from..to)
            .filter(|item| {
                let next = item.key.get(skip..).and_then(|rest| rest.chars().next());
                match next {
                    Some('0' | '1') if marked => false,
                    Some(mark) => wanted(mark),
                    None => false,
                }
            })
            .map(|item| item.key.to_string())
            .collect();
        for key in keys {
            tx.delete(&self.object, key)?;
        }
        Ok(())
    }
}
