//! One replica of a twin.
//!
//! Call order: [`Twin::new`] or [`Twin::load`]; then edits, and messages by a [`crate::Link`] for each peer. Each of them gives a
//! [`Record`] to write; when it is on stable storage, say so by [`Twin::handle_durable`]. Only what is durable is sent or
//! confirmed. If writing fails, drop the twin and load it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use automerge::ChangeHash;
use serde_json::Value as Json;

use crate::actor::{Actor, Generation, Side};
use crate::base;
use crate::document::{Document, EngineError, guarded, size, size_at};
use crate::edit::{Change, Edit};
use crate::history::{self, Step};
use crate::key::Key;
use crate::late::Late;
use crate::limits::{
    ACTORS_MAX, CHANGES_BYTES_MAX, CHANGES_PER_MESSAGE_MAX, DOCUMENT_BYTES_MAX, EDITED_BYTES_MAX,
    EDITS_PER_CHANGE_MAX, GENERATIONS_AHEAD_MAX, KEYS_MAX, NUMBER_MAX, REBASE_AFTER, REBASE_AFTER_BYTES,
    REBASE_AFTER_LEAST, REBASE_AFTER_OPS, UNCONFIRMED_MAX,
};
use crate::receive::{self, Door, Refusal, Taken};
use crate::replaced::Replaced;
use crate::replay::Replay;
use crate::section::Section;
use crate::stamp::Known;
use crate::store::{self, LoadError};
use crate::twice;
use crate::view::{self, Conflict, Difference, Leaf};
use crate::write::{self, EditError, Whole};

/// Names a write that is to become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Behind what is there.
    Append(Vec<u8>),
    /// In the place of all that is there, in one step.
    Replace(Vec<u8>),
}

/// A write, and what to tell the twin when it is durable. Records are written in the order that they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is not written is gone after a restart, and is never sent"]
pub struct Record {
    /// For [`Twin::handle_durable`].
    pub ticket: Ticket,
    /// The bytes.
    pub write: Write,
}

/// One replica of a twin.
#[derive(Debug, Clone)]
pub struct Twin {
    pub(crate) document: Document,
    pub(crate) actor: Actor,
    /// What this replica was called before it was restored.
    pub(crate) former: Vec<Actor>,
    /// Of each replica, the number of its last change that the base has.
    pub(crate) included: BTreeMap<Actor, u64>,
    pub(crate) replaced: Replaced,
    pub(crate) late: Late,
    pub(crate) number: u64,
    /// By peer, what is durable at both ends.
    pub(crate) shared: BTreeMap<String, Vec<ChangeHash>>,
    pub(crate) unconfirmed: u64,
    /// Peers that have told all that they have since this replica was loaded.
    pub(crate) met: BTreeSet<String>,
    /// See [`Twin::forget_stamps`].
    stampless: bool,
    /// Changes that are not durable yet; `None` stands for all.
    pending: VecDeque<(Ticket, Option<Vec<ChangeHash>>)>,
    tickets: u64,
}

/// What came of received changes.
#[derive(Debug)]
pub(crate) struct Received {
    pub record: Option<Record>,
    /// What the sender has for certain.
    pub there: Vec<ChangeHash>,
    /// Changes that build on what is not here.
    pub missing: bool,
}

impl Twin {
    /// An empty twin, the same at all ends.
    ///
    /// # Errors
    /// automerge fails.
    pub fn new(actor: Actor) -> Result<Self, EditError> {
        Ok(Self::of(Document::new(Generation::default())?, actor))
    }

    pub(crate) const fn of(document: Document, actor: Actor) -> Self {
        Self {
            document,
            actor,
            former: Vec::new(),
            included: BTreeMap::new(),
            replaced: Replaced(BTreeMap::new()),
            late: Late(BTreeMap::new()),
            number: 0,
            shared: BTreeMap::new(),
            unconfirmed: 0,
            met: BTreeSet::new(),
            stampless: false,
            pending: VecDeque::new(),
            tickets: 0,
        }
    }

    /// A twin from what was written: the last [`Write::Replace`] or [`Twin::save`], and what was appended since. A replica
    /// that was restored from a copy gives a new `actor`; others give the one they had.
    ///
    /// # Errors
    /// The bytes are damaged or of a later version.
    pub fn load(actor: Actor, saved: &[u8], appended: &[impl AsRef<[u8]>]) -> Result<Self, LoadError> {
        store::load(actor, saved, appended)
    }

    /// The whole twin as bytes; what was appended before is part of them.
    pub fn save(&mut self) -> Record {
        let bytes = store::save(self);
        self.record(Write::Replace(bytes), Some(Vec::new()))
    }

    /// Says that a record is on stable storage, and those before it.
    pub fn handle_durable(&mut self, ticket: Ticket) {
        self.pending.retain(|(pending, _)| *pending > ticket);
    }

    pub(crate) fn record(&mut self, write: Write, changes: Option<Vec<ChangeHash>>) -> Record {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.pending.push_back((ticket, changes));
        Record { ticket, write }
    }

    /// Makes a change. `None` if it changes nothing.
    ///
    /// # Errors
    /// Nothing of it is made.
    pub fn edit(&mut self, change: &Change) -> Result<Option<Record>, EditError> {
        if change.edits.len() > EDITS_PER_CHANGE_MAX {
            return Err(EditError::TooManyEdits { found: change.edits.len() });
        }
        if self.is_full() {
            return Err(EditError::TooManyUnconfirmed);
        }
        let side = self.actor.side().unwrap_or(Side::Agent);
        if let Some(edit) = change.edits.iter().find(|edit| !edit.section.is_written_by(side)) {
            return Err(EditError::NotYours { section: edit.section, side });
        }
        let origin = (self.number + 1, change.time_ms, change.author.as_str());
        let actor = self.actor;
        let mut document = self.document.clone();
        // What merging brought beyond a limit can be made less.
        let (keys_now, bytes_now) = size(&document.am);
        let mut texts = Whole::default();
        let made = guarded(|| {
            document.commit(actor, origin, |tx| {
                for edit in &change.edits {
                    texts.add(write::edit(tx, actor, edit)?);
                }
                let (keys, bytes) = size(tx);
                let fits = keys <= KEYS_MAX.max(keys_now) && bytes <= DOCUMENT_BYTES_MAX.max(bytes_now);
                if fits { Ok(()) } else { Err(EditError::TooLarge { keys, bytes }) }
            })
        })?;
        let Some(made) = made else { return Ok(None) };
        write::is_short(change.edits.len(), texts, &made)?;
        let is_shown = |edit: &Edit| matches!(edit.section, Section::Desired | Section::Reported);
        if change.edits.iter().any(is_shown) {
            self.late.note(
                &document,
                &guarded(|| Ok::<_, EngineError>(made.decode()))?.operations,
                change.time_ms,
            );
        }
        self.document = document;
        self.number += 1;
        self.unconfirmed += 1;
        let bytes = store::appended(self.document.generation, &[made.raw_bytes()], None, &[]);
        Ok(Some(self.record(Write::Append(bytes), Some(vec![made.hash()]))))
    }

    /// Takes changes of this generation, which a peer sends when they are durable there. A refusal leaves everything as it was.
    pub(crate) fn receive(
        &mut self,
        peer: &str,
        changes: &[Vec<u8>],
        now_ms: Option<i64>,
    ) -> Result<Received, Refusal> {
        let bytes = changes.iter().map(Vec::len).sum();
        if changes.len() > CHANGES_PER_MESSAGE_MAX || bytes > CHANGES_BYTES_MAX {
            let (what, found, max) = if changes.len() > CHANGES_PER_MESSAGE_MAX {
                ("changes", changes.len(), CHANGES_PER_MESSAGE_MAX)
            } else {
                ("bytes of changes", bytes, CHANGES_BYTES_MAX)
            };
            return Err(Refusal::TooMany { what, found, max });
        }
        let mut document = self.document.clone();
        let door = Door {
            own: self.actor,
            number: self.number,
            forgetful: !self.former.is_empty(),
            included: &self.included,
            now_ms,
        };
        let mut late = self.late.clone();
        let (mut new, mut hashes, mut there, mut missing) = (Vec::new(), Vec::new(), Vec::new(), false);
        for change in changes {
            match receive::take(&mut document, &mut late, change, door)? {
                Taken::New(hash) => {
                    new.push(change.as_slice());
                    hashes.push(hash);
                    there.push(hash);
                }
                Taken::Known(hash) => there.push(hash),
                Taken::Missing => missing = true,
            }
        }
        if new.is_empty() {
            return Ok(Received { record: None, there, missing });
        }
        receive::within(&document)?;
        // What own changes replaced before it came goes now.
        let replaced = self.learnt(&document, &hashes)?;
        let mut made = replaced.remove(&mut document, self.actor, self.number)?;
        if self.actor.side() == Some(Side::Hub) {
            made.extend(twice::even_out(&mut document, self.actor, self.number + made.len() as u64)?);
        }
        let number = self.number + made.len() as u64;
        for change in &made {
            let decoded = guarded(|| Ok::<_, EngineError>(change.decode()))?;
            late.note(&document, &decoded.operations, change.timestamp());
        }
        hashes.extend(made.iter().map(automerge::Change::hash));
        let all: Vec<_> = new.into_iter().chain(made.iter().map(automerge::Change::raw_bytes)).collect();
        self.document = document;
        self.late = late;
        self.replaced = replaced;
        self.unconfirmed += number - self.number;
        self.number = number;
        let shared = self.has_sent(peer, &there);
        let taken = hashes.iter().filter_map(|hash| Some((*hash, *self.document.taken.get(hash)?)));
        let taken: Vec<_> = taken.collect();
        let shared = shared.as_deref().map(|of| (peer, of));
        let bytes = store::appended(self.document.generation, &all, shared, &taken);
        let record = self.record(Write::Append(bytes), Some(hashes));
        Ok(Received { record: Some(record), there, missing })
    }

    /// What is known to be replaced, by these changes too. The hub hears of all of them, and does for all what is to be done.
    fn learnt(&self, document: &Document, hashes: &[ChangeHash]) -> Result<Replaced, EngineError> {
        let mut replaced = self.replaced.clone();
        if self.actor.side() == Some(Side::Hub) {
            for hash in hashes {
                replaced.learn(&document.change(hash)?, &self.included)?;
            }
        }
        Ok(replaced)
    }

    /// As [`Twin::learnt`], of all changes of a document that was loaded.
    pub(crate) fn learn_all(&mut self) -> Result<(), EngineError> {
        let metas = self.document.am.get_changes_meta(&self.document.base).into_iter();
        let again =
            metas.filter(|meta| meta.message.as_deref().is_some_and(|message| message.contains('\n')));
        let hashes: Vec<_> = again.map(|meta| meta.hash).collect();
        self.replaced = self.learnt(&self.document, &hashes)?;
        Ok(())
    }

    /// Breaks the twin on purpose, so that a test of many histories can show that it would find it: what is made again gets another
    /// number, and says nothing of what its author knew.
    #[doc(hidden)]
    pub const fn forget_stamps(&mut self) {
        self.stampless = true;
    }

    /// Whether enough changes have gathered that history should be cut off.
    #[must_use]
    pub const fn is_rebase_due(&self) -> bool {
        let Document { changes, bytes, base, op_max, base_op_max, .. } = &self.document;
        let is_long = *changes > REBASE_AFTER
            || (*bytes > REBASE_AFTER_BYTES && *changes > REBASE_AFTER_LEAST)
            || op_max.saturating_sub(*base_op_max) > REBASE_AFTER_OPS;
        // A base that is long by itself is not cut off again and again.
        is_long || (self.is_full() && *changes > base.len() + 1)
    }

    /// Whether no more edits are taken before history is cut off, or a peer confirms.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.unconfirmed >= UNCONFIRMED_MAX || self.document.bytes >= EDITED_BYTES_MAX
    }

    /// As [`Twin::rebase_among`], where there is one peer.
    ///
    /// # Errors
    /// As there.
    pub fn rebase(&mut self, tag: [u8; 14]) -> Result<Record, EditError> {
        self.rebase_among(tag, &[])
    }

    /// Cuts history off: what is there becomes the base of a new generation. `tag` is random; `peers` are all that share the
    /// document.
    ///
    /// A peer that is away gets the base and makes its own changes on it again. What it cannot bring back on one is what a hub
    /// forgot that was restored, so such a hub meets all of them first.
    ///
    /// # Errors
    /// This is no hub, or one that was restored and has not met its peers yet: changes that it forgot would be lost.
    pub fn rebase_among(&mut self, tag: [u8; 14], peers: &[&str]) -> Result<Record, EditError> {
        if self.actor.side() != Some(Side::Hub) {
            return Err(EditError::NotTheHub);
        }
        if !self.has_met(peers) {
            return Err(EditError::NotMet);
        }
        let mut known = self.document.known();
        known.join(&Known(self.included.clone()));
        let included = known.0;
        if included.len() > ACTORS_MAX {
            return Err(EditError::TooManyActors);
        }
        let number = self.document.generation.number + 1;
        self.document = guarded(|| base::rebased(&self.document, Generation { number, tag }))?;
        self.included = included;
        self.replaced.forget(&self.included);
        Ok(self.begun())
    }

    /// What follows a new document: nothing of it is known to be anywhere else.
    pub(crate) fn begun(&mut self) -> Record {
        self.shared.clear();
        self.count_unconfirmed();
        let bytes = store::save(self);
        self.record(Write::Replace(bytes), None)
    }

    /// Takes the base of a newer generation, and replays own changes on it that it lacks.
    pub(crate) fn adopt(
        &mut self,
        generation: Generation,
        changes: &[Vec<u8>],
        included: &BTreeMap<Actor, u64>,
    ) -> Result<Record, Refusal> {
        if self.actor.side() == Some(Side::Hub) && self.former.is_empty() {
            return Err(Refusal::NotTheHub);
        }
        if generation.number.saturating_sub(self.document.generation.number) > GENERATIONS_AHEAD_MAX {
            return Err(Refusal::Base("its number is too far ahead"));
        }
        if included.values().any(|number| *number > NUMBER_MAX) {
            return Err(Refusal::Base("a number in it is too high"));
        }
        let mut document = base::read(generation, changes)?;
        let own = |actor| self.actor == actor || self.former.contains(&actor);
        let number = self.number.max(included.get(&self.actor).copied().unwrap_or(0));
        let mut replay = Replay::new(&self.document, &self.included, &self.replaced, self.actor);
        if self.stampless {
            replay = replay.with_new_stamps(number);
        }
        let again = replay.onto(&mut document, own, included);
        let mut replaced = again.map_err(|_| Refusal::Base("nothing can be replayed on it"))?;
        let number = number.max(replay.number());
        let made = replaced.remove(&mut document, self.actor, number)?;
        replaced.forget(included);
        self.late.settle(&document);
        self.document = document;
        self.replaced = replaced;
        self.number = number + made.len() as u64;
        self.included.clone_from(included);
        Ok(self.begun())
    }

    /// Whether all that is here is durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.pending.iter().all(|(_, changes)| changes.as_ref().is_some_and(Vec::is_empty))
    }

    /// Whether the begin of the generation is durable.
    pub(crate) fn has_durable_base(&self) -> bool {
        self.pending.iter().all(|(_, changes)| changes.is_some())
    }

    /// Durable changes that are not in what `have` leads to; `None` before a new generation is durable.
    pub(crate) fn durable_since(&self, have: &[ChangeHash]) -> Option<Vec<automerge::Change>> {
        let mut pending = Vec::new();
        for (_, changes) in &self.pending {
            pending.extend(changes.as_ref()?);
        }
        let mut changes = self.document.am.get_changes(have);
        changes.retain(|change| !pending.contains(&change.hash()));
        Some(changes)
    }

    /// Which changes it holds, by the last ones. They name a state: two twins with the same generation and heads are equal.
    #[must_use]
    pub fn heads(&self) -> Vec<[u8; 32]> {
        self.document.am.get_heads().into_iter().map(|hash| hash.0).collect()
    }

    /// Its generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.document.generation
    }

    /// Who it writes as.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.actor
    }

    /// Changes in this generation.
    #[must_use]
    pub const fn changes(&self) -> usize {
        self.document.changes
    }

    /// Bytes of all changes in this generation; values that were replaced are among them.
    #[must_use]
    pub const fn history_bytes(&self) -> usize {
        self.document.bytes
    }

    /// Leaves and bytes, as [`KEYS_MAX`] and [`DOCUMENT_BYTES_MAX`] count them.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        size(&self.document.am)
    }

    /// A section as JSON. A counter is `{"$counter": n}`, a set `{"$set": […]}`, a text that merges `{"$text": "…"}`.
    #[must_use]
    pub fn json(&self, section: Section) -> Json {
        view::section(&self.document, section, None)
    }

    /// A section as it was at a time, by the clocks of those who wrote; not before the last base.
    #[must_use]
    pub fn json_at(&self, section: Section, time_ms: i64) -> Json {
        view::section(&self.document, section, Some(&history::heads_at(&self.document, time_ms).0))
    }

    /// Leaves, bytes and changes as they were at a time, as [`Twin::json_at`] has it.
    #[must_use]
    pub fn measures_at(&self, time_ms: i64) -> (usize, usize, usize) {
        let (heads, changes) = history::heads_at(&self.document, time_ms);
        let (leaves, bytes) = size_at(&self.document.am, &heads);
        (leaves, bytes, changes)
    }

    /// One leaf, with who wrote it and when.
    #[must_use]
    pub fn leaf(&self, section: Section, key: &Key) -> Option<Leaf> {
        view::leaf(&self.document, section, key)
    }

    /// All leaves with values that exclude each other. A write resolves them.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        view::conflicts(&self.document)
    }

    /// What is desired and not reported so.
    #[must_use]
    pub fn delta(&self) -> Vec<Difference> {
        view::delta(&self.document, &self.late)
    }

    /// What was done since `heads`, in this generation; all of it if they are none of it.
    ///
    /// # Errors
    /// automerge fails.
    pub fn history(&self, heads: &[[u8; 32]]) -> Result<Vec<Step>, EditError> {
        let heads: Vec<_> =
            heads.iter().copied().map(ChangeHash).filter(|head| self.document.knows(head)).collect();
        Ok(history::since(&self.document, &heads)?)
    }
}
