//! A document of one generation: automerge, and what we keep beside it of each replica.
//!
//! automerge is called here, in `write` and in `check` only.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::transaction::{CommitOptions, Transactable as _, Transaction};
use automerge::{
    Automerge, AutomergeError, ChangeHash, ExpandedChange, ObjId, ObjType, ReadDoc as _, ScalarValue, Value,
};
use serde_json::Value as Json;

use crate::actor::{Actor, Generation};
use crate::count;
use crate::key::{self, Key, Part};
use crate::limits::{AUTHOR_BYTES_MAX, CLOCK_BEHIND_MS_MAX};
use crate::section::{ORIGIN, Section, object};
use crate::stamp::{Known, Signed, Stamp};
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
    /// Number of its last change that it made first; it goes on from one generation to the next.
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

/// The newer of two.
pub(crate) fn newer(a: Option<Origin>, b: Option<Origin>) -> Option<Origin> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if (a.time_ms, a.actor) >= (b.time_ms, b.actor) { a } else { b }),
        (a, b) => a.or(b),
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
    /// By writer and who made them first, the number of the last change that was made again.
    pub again: BTreeMap<(Actor, Actor), u64>,
    pub op_max: u64,
    /// The number of the last operation that this generation began with.
    pub base_op_max: u64,
    /// The genesis, or what a base was made of: the heads that changes of this generation begin at.
    pub base: Vec<ChangeHash>,
    pub genesis: ChangeHash,
    pub changes: usize,
    /// Of all changes, as they stand in memory; nearly so after a load.
    pub bytes: usize,
    /// When changes were taken whose authors' clocks cannot be right, in ms.
    pub taken: BTreeMap<ChangeHash, i64>,
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
            again: BTreeMap::new(),
            op_max: 0,
            base_op_max: 0,
            base: vec![genesis],
            genesis,
            changes: 0,
            bytes: 0,
            taken: BTreeMap::new(),
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
        self.again.clear();
        self.base.clear();
        self.changes = 0;
        let mut metas: Vec<_> =
            self.am.get_changes_meta(&[]).into_iter().map(automerge::ChangeMetadata::into_owned).collect();
        for meta in metas.drain(..) {
            let actor = Actor::of(&meta.actor);
            if actor == Some(Actor::GENESIS) {
                self.changes += 1;
                self.op_max = self.op_max.max(meta.max_op);
                self.base_op_max = self.base_op_max.max(meta.max_op);
            } else {
                let signed = meta.message.as_deref().and_then(Signed::read);
                self.note(actor, (meta.seq, meta.max_op), signed, meta.hash);
            }
        }
        if self.base.is_empty() {
            self.base.push(self.genesis);
        }
    }

    /// Applies one change that was checked, or that we made ourselves. The document keeps operations and not bytes: a
    /// change that it would write in other bytes, and so with another hash, is refused.
    pub fn apply(&mut self, change: automerge::Change) -> Result<(), EngineError> {
        let hash = change.hash();
        let again = guarded(|| {
            self.am.apply_changes([change.clone()])?;
            self.change(&hash)
        })?;
        if again.raw_bytes() != change.raw_bytes() {
            return Err(EngineError("the change is not in its one form".to_owned()));
        }
        self.bytes = self.bytes.saturating_add(change.raw_bytes().len());
        let signed = change.message().and_then(Signed::read);
        self.note(Actor::of(change.actor_id()), (change.seq(), change.max_op()), signed, hash);
        Ok(())
    }

    fn note(
        &mut self,
        actor: Option<Actor>,
        (seq, op_max): (u64, u64),
        signed: Option<Signed<'_>>,
        hash: ChangeHash,
    ) {
        self.changes += 1;
        self.op_max = self.op_max.max(op_max);
        let Some(actor) = actor.filter(|actor| actor.side().is_some()) else {
            self.base.retain(|known| *known != self.genesis);
            self.base.push(hash);
            self.base_op_max = self.base_op_max.max(op_max);
            return;
        };
        let seen = self.seen.entry(actor).or_default();
        (seen.seq, seen.op_max) = (seq.max(seen.seq), op_max.max(seen.op_max));
        let (number, first) = signed.map_or((0, None), |signed| (signed.number, signed.first));
        let last = match first {
            None => &mut seen.number,
            Some(first) => self.again.entry((actor, first)).or_default(),
        };
        *last = number.max(*last);
    }

    /// All that was ever written to it in this generation.
    pub fn known(&self) -> Known {
        let mut known = Known::default();
        for (actor, seen) in &self.seen {
            known.note(Stamp { actor: *actor, number: seen.number });
        }
        for ((_, actor), number) in &self.again {
            known.note(Stamp { actor: *actor, number: *number });
        }
        known
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
        let author = clean(author);
        let signed = Signed::new(number, &author);
        let message = signed.text();
        let (hash, _) = tx.commit_with(CommitOptions::default().with_message(message).with_time(time_ms));
        let Some(hash) = hash else { return Ok(None) };
        let change = self.change(&hash)?;
        self.bytes = self.bytes.saturating_add(change.raw_bytes().len());
        self.note(Some(actor), (change.seq(), change.max_op()), Some(signed), hash);
        Ok(Some(change))
    }

    /// Makes a change of operations that replace just what they name.
    pub fn make(
        &mut self,
        actor: Actor,
        signed: &Signed<'_>,
        time_ms: i64,
        operations: Vec<Op>,
    ) -> Result<automerge::Change, EngineError> {
        let seen = self.seen.get(&actor).copied().unwrap_or_default();
        let expanded = ExpandedChange {
            operations,
            actor_id: actor.id(),
            hash: None,
            seq: seen.seq.saturating_add(1),
            start_op: NonZeroU64::MIN.saturating_add(self.op_max),
            time: time_ms,
            message: Some(signed.text()),
            deps: self.am.get_heads(),
            extra_bytes: Vec::new(),
            author: None,
        };
        let change = guarded(|| Ok::<_, EngineError>(automerge::Change::from(expanded)))?;
        self.apply(change.clone())?;
        Ok(change)
    }

    pub fn change(&self, hash: &ChangeHash) -> Result<automerge::Change, EngineError> {
        self.am.get_change_by_hash(hash).ok_or_else(|| EngineError(format!("no change {hash}")))
    }

    pub fn knows(&self, hash: &ChangeHash) -> bool {
        self.am.get_change_meta_by_hash(hash).is_some()
    }

    /// Adds to what an end certainly has. Only the last ones are kept; what they build on goes without saying.
    pub fn add_had(&self, have: &mut BTreeSet<ChangeHash>, hashes: &[ChangeHash]) {
        for hash in hashes {
            let Some(meta) = self.am.get_change_meta_by_hash(hash) else { continue };
            for dep in &meta.deps {
                have.remove(dep);
            }
            have.insert(*hash);
        }
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

    /// The flat keys of one leaf, with what they are.
    pub fn parts_of(&self, section: Section, key: &Key) -> Vec<(String, Key, Part, bool)> {
        let marked = self.am.map_range(section.object(), format!("{key}~")..format!("{key}\u{7f}"));
        let plain = self.am.map_range(section.object(), key.to_string()..=key.to_string());
        let items = plain.chain(marked).filter_map(|item| {
            let (of, part) = key::read(&item.key)?;
            (of == *key).then(|| (item.key.to_string(), of, part, item.conflict))
        });
        items.collect()
    }

    /// When a change was made: by the clock of who wrote it, unless that cannot be right.
    pub fn time_of(&self, hash: &ChangeHash, author_ms: i64) -> i64 {
        self.taken.get(hash).copied().unwrap_or(author_ms)
    }

    /// When a change was made that has come, and is here now. Where its author's clock cannot be right, as it says a time that is yet
    /// to come, or one long before what its author had read, that is when it was taken, which is kept.
    pub fn note_taken(&mut self, change: &automerge::Change, now_ms: Option<i64>) -> i64 {
        let author_ms = change.timestamp();
        let Some(now_ms) = now_ms else { return author_ms };
        let read = change.deps().iter().filter_map(|dep| {
            let meta = self.am.get_change_meta_by_hash(dep)?;
            Some(self.time_of(dep, meta.timestamp))
        });
        let read_ms = read.max().unwrap_or(i64::MIN).min(now_ms);
        if author_ms <= now_ms && author_ms.saturating_add(CLOCK_BEHIND_MS_MAX) >= read_ms {
            return author_ms;
        }
        self.taken.insert(change.hash(), now_ms);
        now_ms
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
        let signed = Signed::read(meta.message.as_deref()?)?;
        let (Stamp { actor, number }, author) = (signed.stamp(actor), signed.author.to_owned());
        Some(Origin { actor, number, time_ms: meta.timestamp, author })
    }
}

/// Keys and bytes of all that a document holds.
pub(crate) fn size(doc: &impl automerge::ReadDoc) -> (usize, usize) {
    let items = Section::ALL.into_iter().flat_map(|section| doc.map_range(section.object(), ..));
    sum(items.map(|item| bytes(&item.key, &item.value, || doc.length(item.id()))))
}

/// As [`size`], of what was there.
pub(crate) fn size_at(doc: &Automerge, heads: &[ChangeHash]) -> (usize, usize) {
    let items = Section::ALL.into_iter().flat_map(|section| doc.map_range_at(section.object(), .., heads));
    sum(items.map(|item| bytes(&item.key, &item.value, || doc.length_at(item.id(), heads))))
}

fn sum(bytes: impl Iterator<Item = usize>) -> (usize, usize) {
    bytes.fold((0, 0), |(keys, sum), bytes| (keys + 1, sum + bytes))
}

fn bytes(key: &str, value: &automerge::ValueRef<'_>, length: impl FnOnce() -> usize) -> usize {
    key.len()
        + match value {
            automerge::ValueRef::Object(_) => length(),
            automerge::ValueRef::Scalar(automerge::ScalarValueRef::Str(text)) => text.len(),
            automerge::ValueRef::Scalar(automerge::ScalarValueRef::Bytes(list)) => list.len(),
            automerge::ValueRef::Scalar(_) => 8,
        }
}

/// An operation on a leaf that replaces just these.
pub(crate) fn leaf_op(section: Section, flat: &str, action: OpType, preds: Vec<OpId>) -> Op {
    let home = OpId::new(section.counter(), &Actor::GENESIS.id());
    Op { action, obj: ObjectId::Id(home), key: OpKey::Map(flat.into()), pred: preds.into(), insert: false }
}

/// An operation that adds to what an actor has added before. It adds no more than 64 bits hold, which no other end would take.
pub(crate) fn add_op(document: &Document, section: Section, flat: &str, by: i128) -> Op {
    let there = document.held(section, flat, None);
    let preds: Vec<_> = there.iter().filter_map(|(_, id)| op_id(id)).collect();
    let mut counts =
        there.iter().filter_map(|(held, _)| if let Held::Count(count) = held { Some(*count) } else { None });
    let own = counts.next_back();
    let stands = value::clamped(i128::from(own.unwrap_or(0)) + by);
    let step = own.and_then(|own| count::step(own, stands));
    let action = step.map_or_else(|| OpType::Put(ScalarValue::counter(stands)), OpType::Increment);
    leaf_op(section, flat, action, preds)
}

pub(crate) fn op_id(id: &ObjId) -> Option<OpId> {
    match id {
        ObjId::Id(counter, actor, _) => Some(OpId::new(*counter, actor)),
        ObjId::Root => None,
    }
}

/// What stands before the flat key in [`origin_key`].
pub(crate) const ORIGIN_KEY_BYTES: usize = 3;

/// Where the origin of a base's value stands.
pub(crate) fn origin_key(section: Section, flat: &str, rank: u8) -> String {
    format!("{}{rank:02x}{flat}", section.letter())
}
