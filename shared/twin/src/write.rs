//! What each action does to the flat keys of a section.

use automerge::transaction::{Transactable as _, Transaction};
use automerge::{ObjId, ObjType, ReadDoc as _, ScalarValue, Value};

use crate::actor::{Actor, Side};
use crate::document::EngineError;
use crate::edit::{Action, Change, Edit};
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
    #[error("{section} is not written by the {}", match side { Side::Hub => "hub", Side::Agent => "agent" })]
    NotYours {
        /// The section.
        section: Section,
        /// This side.
        side: Side,
    },
    /// A key is beyond a limit once it is marked.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value cannot be kept.
    #[error("{key}: {error}")]
    Value {
        /// The leaf.
        key: Key,
        /// Why.
        error: ValueError,
    },
    /// Text that merges is in notes only.
    #[error("{key}: text that merges is kept in notes, not in {section}")]
    TextElsewhere {
        /// The leaf.
        key: Key,
        /// Where.
        section: Section,
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

/// Fails where the other end would not take what was made, now or when it is made again on a base: there the texts that it
/// changes may have to be written as a whole.
pub(crate) fn is_short(change: &Change, made: &automerge::Change) -> Result<(), EditError> {
    let (mut text_bytes, mut characters) = (0, 0);
    for edit in &change.edits {
        if let Action::Text(text) = &edit.action {
            text_bytes += text.len();
            characters += text.chars().count() + 1;
        }
    }
    let bytes = made.raw_bytes().len().max(text_bytes);
    let operations = made.len().max(change.edits.len() + characters);
    let fits = bytes <= EDITED_CHANGE_BYTES_MAX && operations <= OPS_PER_CHANGE_MAX;
    if fits { Ok(()) } else { Err(EditError::TooLong { bytes, operations }) }
}

/// Carries an edit out.
pub(crate) fn edit(tx: &mut Transaction<'_>, actor: Actor, edit: &Edit) -> Result<(), EditError> {
    let Edit { section, key, action } = edit;
    let place = Place { object: section.object(), section: *section, key };
    let value = |error| EditError::Value { key: key.clone(), error };
    match action {
        Action::Put(new) => {
            let scalar = value::scalar(new).map_err(value)?;
            place.clear(tx, &Part::Leaf)?;
            put(tx, &place.object, key.as_str(), scalar)?;
        }
        Action::Delete => place.delete(tx)?,
        Action::Add(by) => {
            let part = Part::Count(actor);
            place.clear(tx, &part)?;
            add(tx, &place.object, &flat(key, &part)?, *by)?;
        }
        Action::Insert(element) => {
            let element = Part::Element(value::element(element).map_err(value)?);
            place.clear(tx, &element)?;
            let mark = flat(key, &Part::Set)?;
            if tx.get(&place.object, mark.as_str())?.is_none() {
                tx.put(&place.object, mark, true)?;
            }
            put(tx, &place.object, &flat(key, &element)?, true.into())?;
        }
        Action::Remove(element) => {
            let element = Part::Element(value::element(element).map_err(value)?);
            remove(tx, &place.object, &flat(key, &element)?)?;
        }
        Action::Text(text) => {
            if *section != Section::Notes {
                return Err(EditError::TextElsewhere { key: key.clone(), section: *section });
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(value(ValueError::TooLong { found: text.len() }));
            }
            place.clear(tx, &Part::Leaf)?;
            set_text(tx, &place.object, key.as_str(), text)?;
        }
    }
    Ok(())
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

/// Adds to what one actor has added before; only that actor writes the key, so that additions never conflict.
pub(crate) fn add(tx: &mut Transaction<'_>, object: &ObjId, flat: &str, by: i64) -> Result<(), EditError> {
    if tx.get(object, flat)?.is_some() {
        tx.increment(object, flat, by)?;
    } else {
        tx.put(object, flat, ScalarValue::counter(by))?;
    }
    Ok(())
}

pub(crate) fn remove(tx: &mut Transaction<'_>, object: &ObjId, flat: &str) -> Result<(), EditError> {
    if tx.get(object, flat)?.is_some() {
        tx.delete(object, flat)?;
    }
    Ok(())
}

/// Changes the text that is there, by its difference, or makes one.
pub(crate) fn set_text(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    flat: &str,
    text: &str,
) -> Result<(), EditError> {
    let there = tx.get_all(object, flat)?;
    if let [(Value::Object(ObjType::Text), id)] = there.as_slice() {
        let id = id.clone();
        change_text(tx, &id, text)?;
    } else {
        let id = tx.put_object(object, flat, ObjType::Text)?;
        tx.splice_text(&id, 0, 0, text)?;
    }
    Ok(())
}

/// Makes a text another, by its difference.
pub(crate) fn change_text(tx: &mut Transaction<'_>, id: &ObjId, text: &str) -> Result<(), EditError> {
    for Splice { at, deleted, inserted } in text::splices(&tx.text(id)?, text) {
        tx.splice_text(id, at, isize::try_from(deleted).unwrap_or(isize::MAX), &inserted)?;
    }
    Ok(())
}

struct Place<'a> {
    object: ObjId,
    section: Section,
    key: &'a Key,
}

impl Place<'_> {
    /// Removes what cannot stand beside `part`: leaves above it, what is below it, and values of other kinds.
    fn clear(&self, tx: &mut Transaction<'_>, part: &Part) -> Result<(), EditError> {
        for above in self.key.above() {
            remove(tx, &self.object, above)?;
            self.remove_range(tx, format!("{above}~"), format!("{above}\u{7f}"), |_| true)?;
        }
        self.remove_range(tx, format!("{}/", self.key), format!("{}0", self.key), |_| true)?;
        if !matches!(part, Part::Leaf) {
            remove(tx, &self.object, self.key.as_str())?;
        }
        let counts = matches!(part, Part::Count(_));
        let elements = matches!(part, Part::Set | Part::Element(_));
        self.remove_range(tx, format!("{}~", self.key), format!("{}\u{7f}", self.key), |mark| match mark {
            'c' => !counts,
            's' => !elements,
            _ => false,
        })
    }

    fn delete(&self, tx: &mut Transaction<'_>) -> Result<(), EditError> {
        remove(tx, &self.object, self.key.as_str())?;
        self.remove_range(tx, format!("{}/", self.key), format!("{}0", self.key), |_| true)?;
        self.remove_range(tx, format!("{}~", self.key), format!("{}\u{7f}", self.key), |mark| {
            matches!(mark, 'c' | 's')
        })
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
