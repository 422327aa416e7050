//! Own changes that a base lacks, made again on it.
//!
//! Each keeps what it meant: it replaces the values that its author knew at the leaf, and no others. What somebody wrote who
//! did not know of it stands beside it as a conflict, as if history had never been cut off. And each keeps its stamp, so
//! that all others know it for what it is, whichever base they have.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::{ChangeHash, ObjType, ScalarValue};

use crate::EditError;
use crate::actor::Actor;
use crate::document::{Document, EngineError, Held, add_op, guarded, leaf_op, op_id};
use crate::history::{Deed, FlatStep, flat_steps};
use crate::key::{self, Key, Part};
use crate::limits::TEXT_BYTES_MAX;
use crate::replaced::{Replaced, Since, known};
use crate::section::Section;
use crate::stamp::{Beyond, Known, Signed, Stamp};
use crate::text;
use crate::write::change_text;

/// By what stamps changes are made again.
enum Stamps {
    /// By those that they have.
    Kept,
    /// By new ones, since another replica has made others by the old: the last number, and the old stamp of each.
    New { number: u64, old: HashMap<u64, Stamp> },
}

/// Who makes changes again, of which document.
pub(crate) struct Replay<'a> {
    old: &'a Document,
    included: &'a BTreeMap<Actor, u64>,
    replaced: &'a Replaced,
    actor: Actor,
    stamps: Stamps,
}

impl<'a> Replay<'a> {
    /// Of a document whose base includes these, and what was replaced before it.
    pub fn new(
        old: &'a Document,
        included: &'a BTreeMap<Actor, u64>,
        replaced: &'a Replaced,
        actor: Actor,
    ) -> Self {
        Self { old, included, replaced, actor, stamps: Stamps::Kept }
    }

    /// Gives what is made again stamps of the actor behind its last one. [`Self::number`] is the last at the end.
    pub fn with_new_stamps(self, number: u64) -> Self {
        Self { stamps: Stamps::New { number, old: HashMap::new() }, ..self }
    }

    /// The number of the last new stamp.
    pub const fn number(&self) -> u64 {
        match self.stamps {
            Stamps::Kept => 0,
            Stamps::New { number, .. } => number,
        }
    }

    /// Makes those changes of `own` replicas again on `base` that `included` does not cover. Returns what was replaced that
    /// `base` lacks.
    pub fn onto(
        &mut self,
        base: &mut Document,
        own: impl Fn(Actor) -> bool,
        included: &BTreeMap<Actor, u64>,
    ) -> Result<Replaced, EditError> {
        let mut replaced = self.replaced.clone();
        let past = Past::of(self.old);
        let mut authors: BTreeMap<Actor, Reader> = BTreeMap::new();
        let mut made = HashSet::new();
        for change in guarded(|| Ok::<_, EngineError>(self.old.am.get_changes(&self.old.base)))? {
            let Some(writer) = Actor::of(change.actor_id()).filter(|actor| own(*actor)) else { continue };
            let Some(signed) = change.message().and_then(Signed::read) else { continue };
            let stamp = signed.stamp(writer);
            let reader = authors.entry(writer).or_insert_with(|| Reader::new(self.included));
            reader.read(&past, change.deps());
            let is_included = included.get(&stamp.actor).is_some_and(|number| stamp.number <= *number);
            // A change of a former name may be there twice: as it was made, and made again.
            // So what evens that out is left out too.
            if is_included || signed.evens.is_some() || !made.insert(stamp) {
                continue;
            }
            let steps = guarded(|| flat_steps(self.old, &change.decode(), change.hash()))?;
            let mut known = reader.known.clone();
            known.join(&signed.beyond.known);
            let mut beyond = known.beyond(included);
            beyond.0.remove(&self.actor);
            let before = Before {
                stamp,
                hash: change.hash(),
                deps: change.deps(),
                known,
                beyond,
                kept: signed.beyond.kept,
                author: signed.author,
                time_ms: change.timestamp(),
            };
            self.again(base, &before, steps, &mut replaced)?;
        }
        Ok(replaced)
    }

    fn again(
        &mut self,
        base: &mut Document,
        before: &Before<'_>,
        steps: Vec<FlatStep>,
        replaced: &mut Replaced,
    ) -> Result<(), EditError> {
        let (texts, plain): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| matches!(step.deed, Deed::Text { .. }));
        let mut beyond = Beyond { known: before.beyond.clone(), ..Beyond::default() };
        // One change stays one: half of it could be in the next base, and pass for all of it.
        let (mut ops, texts) = self.changed_texts(base, before, texts)?;
        for step in last_of_each(plain) {
            let made = self.operation(base, before, &step)?;
            if made.is_empty() && step.deed == Deed::Delete {
                self.told(base, before, &step, &mut ops);
            }
            ops.extend(made);
            if !matches!(key::read(&step.flat), Some((_, Part::Count(_)))) {
                self.note(before, &step, &mut beyond, replaced);
            }
        }
        for step in &texts {
            self.new_text(base, before, step, &mut ops);
            if matches!(step.deed, Deed::Text { before: None, .. }) {
                self.note(before, step, &mut beyond, replaced);
            }
        }
        if ops.is_empty() { Ok(()) } else { self.make(base, before, beyond, ops) }
    }

    /// The values at a leaf of the base that the author of a change knew of, and did not leave beside the new one: what was made
    /// again before stands beside what its first author did not know.
    fn seen(&self, base: &Document, before: &Before<'_>, step: &FlatStep) -> Vec<OpId> {
        let at_leaf = self.replaced.at(step.section, &step.flat);
        let kept = OnceCell::new();
        known(base, step.section, &step.flat, |stamp| {
            let first = match &self.stamps {
                Stamps::New { old, .. } if stamp.actor == self.actor => {
                    old.get(&stamp.number).copied().unwrap_or(stamp)
                }
                _ => stamp,
            };
            let is_replaced = before.known.covers(first)
                && (first.actor == before.stamp.actor
                    || !kept.get_or_init(|| self.kept(before, step)).contains(&first));
            is_replaced || at_leaf.is_some_and(|since| since.beyond.replaces(first))
        })
    }

    /// What stands at a leaf once a change is made.
    fn kept(&self, before: &Before<'_>, step: &FlatStep) -> BTreeSet<Stamp> {
        let held = self.old.held(step.section, &step.flat, Some(&[before.hash])).into_iter();
        let origins = held.filter_map(|(_, id)| self.old.origin(step.section, &step.flat, &id));
        let held = origins.map(|origin| Stamp { actor: origin.actor, number: origin.number });
        held.chain(before.kept.iter().copied()).collect()
    }

    /// Notes what a change replaced that the base lacks, here and for the message of the change.
    fn note(&self, before: &Before<'_>, step: &FlatStep, beyond: &mut Beyond, replaced: &mut Replaced) {
        if matches!(self.stamps, Stamps::New { .. }) || before.beyond.is_empty() {
            return;
        }
        let mut kept = self.kept(before, step);
        kept.retain(|stamp| before.beyond.covers(*stamp));
        beyond.kept.extend(kept.iter().copied());
        let beyond = Beyond { known: before.beyond.clone(), kept };
        let since = Since { beyond, author: before.author.to_owned(), time_ms: before.time_ms };
        replaced.note(step.section, &step.flat, &since);
    }

    /// A removal of what the base lacks is a value that goes at once: so there is a change that says it.
    fn told(&self, base: &Document, before: &Before<'_>, step: &FlatStep, ops: &mut Vec<Op>) {
        let is_counter = matches!(key::read(&step.flat), None | Some((_, Part::Count(_))));
        if is_counter || matches!(self.stamps, Stamps::New { .. }) || before.beyond.is_empty() {
            return;
        }
        let place = base.op_max.saturating_add(1).saturating_add(ops.len() as u64);
        let value = OpType::Put(ScalarValue::Boolean(true));
        ops.push(leaf_op(step.section, &step.flat, value, Vec::new()));
        let own = OpId::new(place, &self.actor.id());
        ops.push(leaf_op(step.section, &step.flat, OpType::Delete, vec![own]));
    }

    fn operation(&self, base: &Document, before: &Before<'_>, step: &FlatStep) -> Result<Vec<Op>, EditError> {
        let Some((key, part)) = key::read(&step.flat) else { return Ok(Vec::new()) };
        let one = |flat: &str, action, preds| leaf_op(step.section, flat, action, preds);
        Ok(match &step.deed {
            Deed::Put(scalar) => {
                vec![one(&step.flat, OpType::Put(scalar.clone()), self.seen(base, before, step))]
            }
            Deed::Delete if matches!(part, Part::Count(_)) => self.reset(base, before, step.section, &key),
            Deed::Delete => {
                let seen = self.seen(base, before, step);
                if seen.is_empty() { Vec::new() } else { vec![one(&step.flat, OpType::Delete, seen)] }
            }
            Deed::Add(by) => {
                let flat = key::flat(&key, &Part::Count(self.actor))?;
                vec![add_op(base, step.section, &flat, *by)]
            }
            Deed::Text { .. } => Vec::new(),
        })
    }

    /// Removes a counter if nobody has added to it who did not know that it was to go.
    fn reset(&self, base: &Document, before: &Before<'_>, section: Section, key: &Key) -> Vec<Op> {
        let (now, flats) = count(base, section, key, None);
        let (then, _) = count(self.old, section, key, Some(before.deps));
        if now != then {
            return Vec::new();
        }
        let ops = flats.into_iter().map(|flat| {
            let ids = base.held(section, &flat, None);
            leaf_op(section, &flat, OpType::Delete, ids.iter().filter_map(|(_, id)| op_id(id)).collect())
        });
        ops.collect()
    }

    fn make(
        &mut self,
        base: &mut Document,
        before: &Before<'_>,
        beyond: Beyond,
        ops: Vec<Op>,
    ) -> Result<(), EditError> {
        let Stamp { actor, number } = before.stamp;
        let first = Some(actor).filter(|actor| *actor != self.actor);
        let author = before.author;
        let signed = match &self.stamps {
            Stamps::Kept => Signed { first, beyond, ..Signed::new(number, author) },
            Stamps::New { number, .. } => Signed::new(number.saturating_add(1), author),
        };
        base.make(self.actor, &signed, before.time_ms, ops)?;
        if let Stamps::New { number, old } = &mut self.stamps {
            *number = signed.number;
            old.insert(*number, before.stamp);
        }
        Ok(())
    }

    /// Texts that are in the base as they were before the change are changed there: these operations come first in a change.
    /// Returns the other texts as well, but for those that merging made too long to be written as a whole: what was done to
    /// them is done to what has become of them, and goes with one that is gone.
    fn changed_texts(
        &self,
        base: &Document,
        before: &Before<'_>,
        texts: Vec<FlatStep>,
    ) -> Result<(Vec<Op>, Vec<FlatStep>), EditError> {
        let (mut changed, mut others) = (Vec::new(), Vec::new());
        for step in texts {
            let Deed::Text { before: was, after } = &step.deed else { continue };
            let Some(was) = was else {
                others.push(step);
                continue;
            };
            let held = base.held(step.section, &step.flat, None).into_iter();
            let mut there: Vec<_> = held
                .filter_map(|(held, id)| if let Held::Text(text) = held { Some((text, id)) } else { None })
                .collect();
            let same = there.iter().position(|(text, _)| text == was);
            let is_long = after.len() > TEXT_BYTES_MAX;
            match same.map(|at| there.swap_remove(at)).or_else(|| there.pop().filter(|_| is_long)) {
                Some((now, id)) => changed.push((id, text::carried(was, after, &now))),
                None if is_long => {}
                None => others.push(step),
            }
        }
        if changed.is_empty() {
            return Ok((Vec::new(), others));
        }
        let mut tried = base.clone();
        let made = tried.commit(self.actor, (before.stamp.number, before.time_ms, ""), |tx| {
            changed.iter().try_for_each(|(id, splices)| change_text(tx, id, splices))
        })?;
        let ops = guarded(|| Ok::<_, EngineError>(made.map(|made| made.decode().operations)))?;
        Ok((ops.unwrap_or_default(), others))
    }

    /// Beside a text that somebody else changed the whole new text stands.
    fn new_text(&self, base: &Document, before: &Before<'_>, step: &FlatStep, ops: &mut Vec<Op>) {
        let Deed::Text { before: was, after } = &step.deed else { return };
        let preds = if was.is_none() { self.seen(base, before, step) } else { Vec::new() };
        let place = base.op_max.saturating_add(1).saturating_add(ops.len() as u64);
        ops.push(leaf_op(step.section, &step.flat, OpType::Make(ObjType::Text), preds));
        let maker = OpId::new(place, &self.actor.id());
        let mut last = maker.clone();
        for (at, c) in (1_u64..).zip(after.chars()) {
            let key = if at == 1 { OpKey::head() } else { OpKey::from(last) };
            ops.push(Op {
                action: OpType::Put(ScalarValue::Str(c.to_string().into())),
                obj: ObjectId::Id(maker.clone()),
                key,
                pred: Vec::new().into(),
                insert: true,
            });
            last = maker.increment_by(at);
        }
    }
}

/// A change as it was made first.
struct Before<'a> {
    stamp: Stamp,
    hash: ChangeHash,
    deps: &'a [ChangeHash],
    /// All that its author knew.
    known: Known,
    /// What of that the base lacks.
    beyond: Known,
    /// What stood beside it when it was made the last time.
    kept: BTreeSet<Stamp>,
    author: &'a str,
    time_ms: i64,
}

/// What each change builds on, and its stamp; none has one that a base is made of.
struct Past(HashMap<ChangeHash, (Vec<ChangeHash>, Option<Stamp>)>);

impl Past {
    fn of(document: &Document) -> Self {
        let metas = document.am.get_changes_meta(&[]).into_iter();
        let each = metas.map(|meta| {
            let writer = Actor::of(&meta.actor).filter(|actor| actor.side().is_some());
            let signed = meta.message.as_deref().and_then(Signed::read);
            let stamp = writer.zip(signed).map(|(writer, signed)| signed.stamp(writer));
            (meta.hash, (meta.deps.clone(), stamp))
        });
        Self(each.collect())
    }
}

/// What a replica knew when it made its changes: each of them builds on those before.
struct Reader {
    known: Known,
    read: HashSet<ChangeHash>,
}

impl Reader {
    fn new(included: &BTreeMap<Actor, u64>) -> Self {
        Self { known: Known(included.clone()), read: HashSet::new() }
    }

    fn read(&mut self, past: &Past, deps: &[ChangeHash]) {
        let mut left = deps.to_vec();
        while let Some(hash) = left.pop() {
            let Some((deps, stamp)) = past.0.get(&hash) else { continue };
            if self.read.insert(hash) {
                stamp.iter().for_each(|stamp| self.known.note(*stamp));
                left.extend(deps);
            }
        }
    }
}

/// One step for each key: the last, and the sum of what was added.
fn last_of_each(steps: Vec<FlatStep>) -> Vec<FlatStep> {
    let mut kept: Vec<FlatStep> = Vec::new();
    for step in steps {
        let same = kept.iter_mut().find(|other| other.section == step.section && other.flat == step.flat);
        let Some(same) = same else {
            kept.push(step);
            continue;
        };
        same.replaced.extend(step.replaced);
        match (&mut same.deed, step.deed) {
            (Deed::Add(sum), Deed::Add(by)) => *sum = sum.saturating_add(by),
            (before, deed) => *before = deed,
        }
    }
    kept
}

/// The sum of a counter, and the keys that it is kept under.
fn count(
    document: &Document,
    section: Section,
    key: &Key,
    heads: Option<&[ChangeHash]>,
) -> (i128, Vec<String>) {
    let parts = document.parts(section, heads).into_iter();
    let flats: Vec<_> = parts
        .filter(|(_, of, part, _)| of == key && matches!(part, Part::Count(_)))
        .map(|(flat, ..)| flat)
        .collect();
    let held = flats.iter().flat_map(|flat| document.held(section, flat, heads));
    let sum = held.map(|(held, _)| if let Held::Count(count) = held { i128::from(count) } else { 0 }).sum();
    (sum, flats)
}
