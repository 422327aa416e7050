//! A document of one generation: automerge, and what we keep beside it of each replica.
//!
//! automerge is called here, in `write` and in `check` only.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable as _, Transaction};
use automerge::{Automerge, AutomergeError, ChangeHash, ObjId, ObjType, ReadDoc as _, ScalarValue, Value};
use serde_json::Value as Json;

use crate::actor::{Actor, Generation};
use crate::key::{self, Key, Part};
use crate::limits::AUTHOR_BYTES_MAX;
use crate::section::{ORIGIN, Section, object};
use crate::value;

/// automerge refused something, or panicked. Nothing of it stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document's engine refused: {0}")]
pub struct EngineError(pub(crate) String);

impl From<AutomergeError> for EngineError {
    fn from(error: AutomergeError) -> Self {
        Self(error.to_string())
    }
}

/// The one place where a panic of automerge ends. What it was working on must be dropped.
pub(crate) fn guarded<T, E: From<EngineError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(EngineError("it panicked".to_owned()).into()))
}

/// How far a replica has come, as far as the document shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub seq: u64,
    /// Number of its last change; it goes on from one generation to the next.
    pub number: u64,
    pub op_max: u64,
}

/// Who wrote something and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The replica.
    pub actor: Actor,
    /// The number of its change.
    pub number: u64,
    /// When, in milliseconds since 1970, by the clock there.
    pub time_ms: i64,
    /// Who; may be empty.
    pub author: String,
}

impl Origin {
    pub(crate) fn text(&self) -> String {
        format!("{} {} {} {}", self.time_ms, self.number, self.actor.hex(), self.author)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let time_ms = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        let actor = Actor::parse(words.next()?)?;
        let author = words.next()?.to_owned();
        (author == clean(&author)).then_some(Self { actor, number, time_ms, author })
    }
}

/// Without control characters, and cut to the limit.
pub(crate) fn clean(author: &str) -> String {
    let mut kept = String::new();
    for c in author.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > AUTHOR_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}

/// The message of a commit.
pub(crate) fn read_message(message: &str) -> Option<(u64, &str)> {
    let (number, author) = message.split_once(' ')?;
    let read = number.parse().ok()?;
    (format!("{read}") == number && clean(author) == author).then_some((read, author))
}

/// One of the values that a flat key has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Held {
    Leaf(Json),
    Text(String),
    Count(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub am: Automerge,
    pub generation: Generation,
    pub seen: BTreeMap<Actor, Seen>,
    pub op_max: u64,
    /// The genesis, or what a base was made of: the heads that changes of this generation begin at.
    pub base: Vec<ChangeHash>,
    pub genesis: ChangeHash,
    pub changes: usize,
    /// Of all changes, as they stand in memory; nearly so after a load.
    pub bytes: usize,
}

impl Document {
    /// The empty document of a generation: the same bytes everywhere, so that ends which never met make one document.
    pub fn new(generation: Generation) -> Result<Self, EngineError> {
        let mut am = Automerge::new().with_actor(Actor::GENESIS.id());
        let mut tx = am.transaction();
        for name in Section::ALL.map(Section::name).into_iter().chain(["origin"]) {
            tx.put_object(automerge::ROOT, name, ObjType::Map)?;
        }
        let tag: String = generation.tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let message = format!("tideline twin 1 {} {tag}", generation.number);
        let (hash, _) = tx.commit_with(CommitOptions::default().with_message(message).with_time(0));
        let genesis = hash.ok_or_else(|| EngineError("an empty genesis".to_owned()))?;
        let mut document = Self {
            am,
            generation,
            seen: BTreeMap::new(),
            op_max: 0,
            base: vec![genesis],
            genesis,
            changes: 0,
            bytes: 0,
        };
        document.recount();
        Ok(document)
    }

    pub fn load(generation: Generation, bytes: &[u8]) -> Result<Self, EngineError> {
        let fresh = Self::new(generation)?;
        // What was packed for the disk stands unpacked in memory.
        let (am, bytes) = guarded(|| {
            let am = Automerge::load(bytes)?;
            let unpacked = am.save_nocompress().len();
            Ok::<_, EngineError>((am, unpacked))
        })?;
        if am.get_change_meta_by_hash(&fresh.genesis).is_none() {
            return Err(EngineError("the document is of another generation".to_owned()));
        }
        let mut document = Self { am, bytes, ..fresh };
        document.recount();
        Ok(document)
    }

    /// Reads off the changes what is kept of them.
    fn recount(&mut self) {
        self.seen.clear();
        self.base.clear();
        self.changes = 0;
        for meta in self.am.get_changes_meta(&[]) {
            self.changes += 1;
            self.op_max = self.op_max.max(meta.max_op);
            let Some(actor) = Actor::of(&meta.actor) else { continue };
            if actor.side().is_none() {
                if actor != Actor::GENESIS {
                    self.base.push(meta.hash);
                }
                continue;
            }
            let number = meta.message.as_deref().and_then(read_message).map_or(0, |(number, _)| number);
            let seen = self.seen.entry(actor).or_default();
            seen.seq = seen.seq.max(meta.seq);
            seen.number = seen.number.max(number);
            seen.op_max = seen.op_max.max(meta.max_op);
        }
        if self.base.is_empty() {
            self.base.push(self.genesis);
        }
    }

    /// Applies one change that was checked, or that we made ourselves. The document keeps operations and not bytes: a
    /// change that it would write in other bytes, and so with another hash, is refused.
    pub fn apply(&mut self, change: automerge::Change) -> Result<(), EngineError> {
        let actor = Actor::of(change.actor_id());
        let (seq, op_max, hash) = (change.seq(), change.max_op(), change.hash());
        let number = change.message().and_then(read_message).map_or(0, |(number, _)| number);
        let again = guarded(|| {
            self.am.apply_changes([change.clone()])?;
            self.change(&hash)
        })?;
        if again.raw_bytes() != change.raw_bytes() {
            return Err(EngineError("the change is not in its one form".to_owned()));
        }
        self.bytes = self.bytes.saturating_add(change.raw_bytes().len());
        self.note(actor, Seen { seq, number, op_max }, hash);
        Ok(())
    }

    fn note(&mut self, actor: Option<Actor>, seen: Seen, hash: ChangeHash) {
        self.changes += 1;
        self.op_max = self.op_max.max(seen.op_max);
        match actor {
            Some(actor) if actor.side().is_some() => {
                self.seen.insert(actor, seen);
            }
            _ => {
                self.base.retain(|known| *known != self.genesis);
                self.base.push(hash);
            }
        }
    }

    /// Makes a change. `None` if it did nothing.
    pub fn commit(
        &mut self,
        actor: Actor,
        origin: (u64, i64, &str),
        write: impl FnOnce(&mut Transaction<'_>) -> Result<(), crate::EditError>,
    ) -> Result<Option<automerge::Change>, crate::EditError> {
        let (number, time_ms, author) = origin;
        self.am.set_actor(actor.id());
        let mut tx = self.am.transaction();
        if let Err(error) = write(&mut tx) {
            tx.rollback();
            return Err(error);
        }
        let message = format!("{number} {}", clean(author));
        let (hash, _) = tx.commit_with(CommitOptions::default().with_message(message).with_time(time_ms));
        let Some(hash) = hash else { return Ok(None) };
        let change = self.change(&hash)?;
        let seen = Seen { seq: change.seq(), number, op_max: change.max_op() };
        self.bytes = self.bytes.saturating_add(change.raw_bytes().len());
        self.note(Some(actor), seen, hash);
        Ok(Some(change))
    }

    pub fn change(&self, hash: &ChangeHash) -> Result<automerge::Change, EngineError> {
        self.am.get_change_by_hash(hash).ok_or_else(|| EngineError(format!("no change {hash}")))
    }

    pub fn knows(&self, hash: &ChangeHash) -> bool {
        self.am.get_change_meta_by_hash(hash).is_some()
    }

    /// What a flat key holds, the shown value last.
    pub fn held(&self, section: Section, flat: &str, heads: Option<&[ChangeHash]>) -> Vec<(Held, ObjId)> {
        let object = section.object();
        let all = match heads {
            None => self.am.get_all(object, flat),
            Some(heads) => self.am.get_all_at(object, flat, heads),
        };
        let all = all.unwrap_or_default();
        all.into_iter().filter_map(|(value, id)| Some((self.read(&value, &id, heads)?, id))).collect()
    }

    fn read(&self, value: &Value<'_>, id: &ObjId, heads: Option<&[ChangeHash]>) -> Option<Held> {
        match value {
            Value::Object(ObjType::Text) => {
                let text = match heads {
                    None => self.am.text(id),
                    Some(heads) => self.am.text_at(id, heads),
                };
                text.ok().map(Held::Text)
            }
            Value::Object(_) => None,
            Value::Scalar(scalar) => match scalar.as_ref() {
                ScalarValue::Counter(count) => Some(Held::Count(i64::from(count))),
                leaf => value::json(leaf).map(Held::Leaf),
            },
        }
    }

    /// The flat keys of a section, sorted, with what they are.
    pub fn parts(&self, section: Section, heads: Option<&[ChangeHash]>) -> Vec<(String, Key, Part, bool)> {
        let object = section.object();
        let items = match heads {
            None => self.am.map_range(object, ..),
            Some(heads) => self.am.map_range_at(object, .., heads),
        };
        items
            .filter_map(|item| {
                let (key, part) = key::read(&item.key)?;
                Some((item.key.to_string(), key, part, item.conflict))
            })
            .collect()
    }

    /// Who wrote a value, whether in this generation or before its base.
    pub fn origin(&self, section: Section, flat: &str, id: &ObjId) -> Option<Origin> {
        let hash = self.am.hash_for_opid(id)?;
        let meta = self.am.get_change_meta_by_hash(&hash)?;
        let actor = Actor::of(&meta.actor)?;
        if let Some(rank) = actor.rank() {
            let kept = self.am.get(object(ORIGIN), origin_key(section, flat, rank)).ok()??.0;
            return Origin::parse(kept.as_str()?);
        }
        let (number, author) = read_message(meta.message.as_deref()?)?;
        Some(Origin { actor, number, time_ms: meta.timestamp, author: author.to_owned() })
    }
}

/// Keys and bytes of all that a document holds.
pub(crate) fn size(doc: &impl automerge::ReadDoc) -> (usize, usize) {
    let (mut keys, mut bytes) = (0, 0);
    for section in Section::ALL {
        for item in doc.map_range(section.object(), ..) {
            keys += 1;
            bytes += item.key.len();
            bytes += match &item.value {
                automerge::ValueRef::Object(_) => doc.length(item.id()),
                automerge::ValueRef::Scalar(automerge::ScalarValueRef::Str(text)) => text.len(),
                automerge::ValueRef::Scalar(automerge::ScalarValueRef::Bytes(list)) => list.len(),
                automerge::ValueRef::Scalar(_) => 8,
            };
        }
    }
    (keys, bytes)
}

/// Where the origin of a base's value stands.
pub(crate) fn origin_key(section: Section, flat: &str, rank: u8) -> String {
    format!("{}{rank:02x}{flat}", section.letter())
}
