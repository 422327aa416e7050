//! Whether a change from elsewhere does only what a twin's changes do.
//!
//! automerge takes any operation on any object. Here each one is held against the document: it writes a leaf of a
//! section that its replica may write, within the limits, and supersedes only values of that same leaf.

use std::collections::HashMap;

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::{ChangeHash, ExpandedChange, ObjType, ReadDoc as _, ScalarValue};

use crate::actor::{Actor, Side};
use crate::count;
use crate::document::{Document, EngineError, ORIGIN_KEY_BYTES, Origin, guarded};
use crate::key::{self, Part};
use crate::section::{ORIGIN, Section, object};
use crate::stamp::Signed;
use crate::value;

/// What a change does that no twin's change does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignOp {
    /// On an object that is no section, or a section that the replica may not write.
    #[error("{0} is not written by this replica")]
    Place(String),
    /// A key that is none.
    #[error("{0:?} is no key")]
    Key(String),
    /// A value that no leaf has.
    #[error("{0}: this value or action is not one of a leaf")]
    Value(String),
    /// It adds to what is no counter, or more than one holds.
    #[error("{0}: it adds to a counter that is not there, or beyond 64 bits")]
    Counter(String),
    /// It replaces what was never there.
    #[error("{0}: it replaces what is not of this leaf")]
    Predecessor(String),
    /// Its message is not a number and an author.
    #[error("its message is none")]
    Message,
    /// automerge cannot read it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Decodes a change of which the runs were counted.
pub(crate) fn decode(bytes: &[u8]) -> Result<(automerge::Change, ExpandedChange), EngineError> {
    guarded(|| {
        let change = automerge::Change::try_from(bytes).map_err(|error| EngineError(error.to_string()))?;
        let expanded = change.decode();
        Ok((change, expanded))
    })
}

pub(crate) struct Check<'a> {
    document: &'a Document,
    change: &'a ExpandedChange,
    actor: Actor,
    /// Changes that were decoded to look an operation up.
    decoded: HashMap<ChangeHash, ExpandedChange>,
    /// By section and key, the value that this change has written so far.
    written: HashMap<(u64, String), OpId>,
    /// By the operation that began it, a counter that this change adds to.
    counted: HashMap<OpId, Counted>,
}

/// What automerge knows of a counter: it adds each of these up by itself.
#[derive(Clone, Copy)]
struct Counted {
    begun: i64,
    stands: i64,
    /// Added by the change that is checked.
    here: i64,
}

impl Counted {
    /// `None` where anything of it would be beyond 64 bits: automerge adds without looking.
    fn plus(self, by: i64) -> Option<Self> {
        let (stands, here) = (self.stands.checked_add(by)?, self.here.checked_add(by)?);
        let is_whole = stands.checked_sub(self.begun).is_some() && self.begun.checked_add(here).is_some();
        is_whole.then_some(Self { stands, here, ..self })
    }
}

/// Checks all operations of a change whose dependencies the document has.
pub(crate) fn change(document: &Document, change: &ExpandedChange, actor: Actor) -> Result<(), ForeignOp> {
    let mut check = Check {
        document,
        change,
        actor,
        decoded: HashMap::new(),
        written: HashMap::new(),
        counted: HashMap::new(),
    };
    let numbered = change.message.as_deref().and_then(Signed::read).is_some();
    if !numbered || !change.extra_bytes.is_empty() {
        return Err(ForeignOp::Message);
    }
    (0..change.operations.len()).try_for_each(|at| check.operation(at))
}

enum Home {
    Section(Section),
    Origin,
    Text,
}

impl Check<'_> {
    fn operation(&mut self, at: usize) -> Result<(), ForeignOp> {
        let Some(op) = self.change.operations.get(at) else { return Ok(()) };
        match self.home(&op.obj, at)? {
            Home::Section(section) => self.leaf(op, section, at),
            Home::Origin => origin(op),
            Home::Text => self.character(op, at),
        }
    }

    fn home(&mut self, object: &ObjectId, at: usize) -> Result<Home, ForeignOp> {
        let ObjectId::Id(id) = object else { return Err(ForeignOp::Place("the root".to_owned())) };
        if Actor::of(id.actor()) != Some(Actor::GENESIS) {
            let maker = self.look_up(id, at);
            let notes = maker.is_some_and(|op| {
                op.action == OpType::Make(ObjType::Text) && section_of(&op.obj) == Some(Section::Notes)
            });
            return if notes { Ok(Home::Text) } else { Err(ForeignOp::Place("this object".to_owned())) };
        }
        if id.counter() == ORIGIN && self.actor.side().is_none() {
            return Ok(Home::Origin);
        }
        match (section_of(object), self.actor.side()) {
            (Some(section), None) => Ok(Home::Section(section)),
            (Some(section), Some(side)) if section.is_written_by(side) => Ok(Home::Section(section)),
            (Some(section), Some(Side::Hub | Side::Agent)) => {
                Err(ForeignOp::Place(section.name().to_owned()))
            }
            (None, _) => Err(ForeignOp::Place("this object".to_owned())),
        }
    }

    fn leaf(&mut self, op: &Op, section: Section, at: usize) -> Result<(), ForeignOp> {
        let OpKey::Map(flat) = &op.key else { return Err(ForeignOp::Key(String::new())) };
        let Some((_, part)) = key::read(flat) else {
            return Err(ForeignOp::Key(flat.chars().take(80).collect()));
        };
        let own = |of: &Actor| *of == self.actor;
        let right = match (&op.action, &part) {
            (OpType::Delete, _) => true,
            (OpType::Put(ScalarValue::Counter(_)) | OpType::Increment(_), Part::Count(of)) => own(of),
            (OpType::Put(ScalarValue::Boolean(true)), Part::Set | Part::Element(_)) => true,
            (OpType::Put(scalar), Part::Leaf) => value::is_leaf(scalar),
            (OpType::Make(ObjType::Text), Part::Leaf) => section == Section::Notes,
            _ => false,
        };
        if !right || op.insert {
            return Err(ForeignOp::Value(flat.to_string()));
        }
        // A change has one value for a leaf: thousands in conflict would be compared each with each.
        let place = (section.counter(), flat.to_string());
        if self.written.get(&place).is_some_and(|before| !op.pred.iter().any(|pred| pred == before)) {
            return Err(ForeignOp::Value(flat.to_string()));
        }
        if matches!(op.action, OpType::Put(_) | OpType::Make(_)) {
            let counter = self.change.start_op.get().saturating_add(at as u64);
            self.written.insert(place, OpId::new(counter, &self.change.actor_id));
        } else if op.action == OpType::Delete {
            self.written.remove(&place);
        }
        for pred in op.pred.iter() {
            if !self.supersedes(op, section, flat, pred, at) {
                return Err(ForeignOp::Predecessor(flat.to_string()));
            }
        }
        if self.adds(op, section, flat, at) { Ok(()) } else { Err(ForeignOp::Counter(flat.to_string())) }
    }

    /// Counts what is added on to where its writer saw the counter.
    fn adds(&mut self, op: &Op, section: Section, flat: &str, at: usize) -> bool {
        match &op.action {
            OpType::Put(ScalarValue::Counter(count)) => {
                let counter = self.change.start_op.get().saturating_add(at as u64);
                let begun = i64::from(count);
                let counted = Counted { begun, stands: begun, here: 0 };
                self.counted.insert(OpId::new(counter, &self.change.actor_id), counted);
                true
            }
            OpType::Increment(by) => op.pred.iter().all(|pred| {
                let counted =
                    self.counted.get(pred).copied().or_else(|| self.counted(section, flat, pred, at));
                let Some(counted) = counted.and_then(|counted| counted.plus(*by)) else { return false };
                self.counted.insert(pred.clone(), counted);
                true
            }),
            _ => true,
        }
    }

    /// A counter that the writer of the change has read.
    fn counted(&mut self, section: Section, flat: &str, pred: &OpId, at: usize) -> Option<Counted> {
        let stands = count::stands(self.document, self.change, section, flat, pred)?;
        match &self.look_up(pred, at)?.action {
            OpType::Put(ScalarValue::Counter(begun)) => {
                Some(Counted { begun: i64::from(begun), stands, here: 0 })
            }
            _ => None,
        }
    }

    fn supersedes(&mut self, op: &Op, section: Section, flat: &str, pred: &OpId, at: usize) -> bool {
        // What is there now is known without decoding anything.
        let there = self.document.am.get_all(section.object(), flat).unwrap_or_default();
        let is = |id: &automerge::ObjId| matches!(id, automerge::ObjId::Id(counter, actor, _) if *counter == pred.counter() && actor == pred.actor());
        there.iter().any(|(_, id)| is(id))
            || self.look_up(pred, at).is_some_and(|before| before.obj == op.obj && before.key == op.key)
    }

    fn character(&mut self, op: &Op, at: usize) -> Result<(), ForeignOp> {
        let wrong = || ForeignOp::Value("a text".to_owned());
        let OpKey::Seq(element) = &op.key else { return Err(wrong()) };
        if let Some(id) = element.as_opid() {
            let is_here = self.look_up(id, at).is_some_and(|of| of.obj == op.obj && of.insert);
            if !is_here {
                return Err(ForeignOp::Predecessor("a text".to_owned()));
            }
        }
        match (&op.action, op.insert) {
            (OpType::Put(ScalarValue::Str(text)), true)
                if op.pred.is_empty() && text.chars().count() == 1 =>
            {
                Ok(())
            }
            (OpType::Delete, false) => {
                let own = element.as_opid().is_some_and(|id| op.pred.iter().all(|pred| pred == id));
                if own { Ok(()) } else { Err(ForeignOp::Predecessor("a text".to_owned())) }
            }
            _ => Err(wrong()),
        }
    }

    /// An operation of the document, or one before this in the same change.
    fn look_up(&mut self, id: &OpId, at: usize) -> Option<&Op> {
        let first = self.change.start_op.get();
        if *id.actor() == self.change.actor_id && id.counter() >= first {
            let index = usize::try_from(id.counter().checked_sub(first)?).ok()?;
            return (index < at).then(|| self.change.operations.get(index))?;
        }
        let hash =
            self.document.am.hash_for_opid(&automerge::ObjId::Id(id.counter(), id.actor().clone(), 0))?;
        if !self.decoded.contains_key(&hash) {
            self.decoded.insert(hash, self.document.change(&hash).ok()?.decode());
        }
        let of = self.decoded.get(&hash)?;
        of.operations.get(usize::try_from(id.counter().checked_sub(of.start_op.get())?).ok()?)
    }
}

/// The section whose map an object is.
pub(crate) fn section_of(object: &ObjectId) -> Option<Section> {
    match object {
        ObjectId::Id(id) if Actor::of(id.actor()) == Some(Actor::GENESIS) => {
            Section::of_counter(id.counter())
        }
        _ => None,
    }
}

/// A base's note of who wrote a value before it.
fn origin(op: &Op) -> Result<(), ForeignOp> {
    debug_assert_eq!(object(ORIGIN), automerge::ObjId::Id(ORIGIN, Actor::GENESIS.id(), 0));
    let OpKey::Map(name) = &op.key else { return Err(ForeignOp::Key(String::new())) };
    let flat = name.get(ORIGIN_KEY_BYTES..).and_then(key::read);
    let text = match &op.action {
        OpType::Put(ScalarValue::Str(text)) => Origin::parse(text),
        _ => None,
    };
    if flat.is_none() || text.is_none() || !op.pred.is_empty() || op.insert {
        return Err(ForeignOp::Value("an origin".to_owned()));
    }
    Ok(())
}
