//! Own changes that a base lacks, made again on it.
//!
//! Each keeps what it meant: it replaces the values that its author saw at the leaf, and no others. What somebody wrote who
//! did not know of it stands beside it as a conflict, as if history had never been cut off.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::transaction::Transactable as _;
use automerge::{ChangeHash, ExpandedChange, ObjId, ObjType, ScalarValue};

use crate::EditError;
use crate::actor::Actor;
use crate::document::{Document, EngineError, Held, guarded, read_message};
use crate::history::{Deed, FlatStep, flat_steps};
use crate::key::{self, Key, Part};
use crate::section::Section;

/// Who makes changes again, and how far the numbers have come.
pub(crate) struct Replay<'a> {
    pub old: &'a Document,
    pub actor: Actor,
    pub number: u64,
    /// New numbers of changes that were made again; one that wrote texts has several.
    renumbered: HashMap<(Actor, u64), Vec<u64>>,
}

impl<'a> Replay<'a> {
    pub fn new(old: &'a Document, actor: Actor, number: u64) -> Self {
        Self { old, actor, number, renumbered: HashMap::new() }
    }

    /// Makes those changes of `own` replicas again on `base` that `included` does not cover.
    pub fn onto(
        &mut self,
        base: &mut Document,
        own: &[Actor],
        included: &BTreeMap<Actor, u64>,
    ) -> Result<(), EditError> {
        for change in guarded(|| Ok::<_, EngineError>(self.old.am.get_changes(&self.old.base)))? {
            let Some(actor) = Actor::of(change.actor_id()).filter(|actor| own.contains(actor)) else {
                continue;
            };
            let Some((number, author)) = change.message().and_then(read_message) else { continue };
            if number > included.get(&actor).copied().unwrap_or(0) {
                let steps = guarded(|| flat_steps(self.old, &change.decode(), change.hash()))?;
                let origin =
                    Before { actor, number, author, time_ms: change.timestamp(), deps: change.deps() };
                self.again(base, &origin, steps)?;
            }
        }
        Ok(())
    }

    fn again(
        &mut self,
        base: &mut Document,
        before: &Before<'_>,
        steps: Vec<FlatStep>,
    ) -> Result<(), EditError> {
        let (texts, plain): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| matches!(step.deed, Deed::Text { .. }));
        let mut ops = Vec::new();
        for step in last_of_each(plain) {
            ops.extend(self.operation(base, before, &step)?);
        }
        if !ops.is_empty() {
            self.make(base, before, ops)?;
        }
        for step in texts {
            self.text(base, before, &step)?;
        }
        Ok(())
    }

    /// The values at a leaf of the base that the author of a change saw.
    fn seen(&self, base: &Document, step: &FlatStep) -> Vec<OpId> {
        let known: Vec<_> = step
            .replaced
            .iter()
            .map(|id| ObjId::Id(id.counter(), id.actor().clone(), 0))
            .filter_map(|id| self.old.origin(step.section, &step.flat, &id))
            .flat_map(|origin| {
                let made = (origin.actor, origin.number);
                let again = self.renumbered.get(&made).into_iter().flatten();
                again.map(|number| (self.actor, *number)).chain([made]).collect::<Vec<_>>()
            })
            .collect();
        let held = base.held(step.section, &step.flat, None).into_iter();
        held.filter(|(_, id)| {
            let origin = base.origin(step.section, &step.flat, id);
            origin.is_some_and(|origin| known.contains(&(origin.actor, origin.number)))
        })
        .filter_map(|(_, id)| op_id(&id))
        .collect()
    }

    fn operation(&self, base: &Document, before: &Before<'_>, step: &FlatStep) -> Result<Vec<Op>, EditError> {
        let Some((key, part)) = key::read(&step.flat) else { return Ok(Vec::new()) };
        let one = |flat: &str, action, preds| op(step.section, flat, action, preds);
        Ok(match &step.deed {
            Deed::Put(scalar) => {
                vec![one(&step.flat, OpType::Put(scalar.clone()), self.seen(base, step))]
            }
            Deed::Delete if matches!(part, Part::Count(_)) => self.reset(base, before, step.section, &key),
            Deed::Delete => {
                let seen = self.seen(base, step);
                if seen.is_empty() { Vec::new() } else { vec![one(&step.flat, OpType::Delete, seen)] }
            }
            Deed::Add(by) => {
                let flat = key::flat(&key, &Part::Count(self.actor))?;
                let there: Vec<_> =
                    base.held(step.section, &flat, None).iter().filter_map(|(_, id)| op_id(id)).collect();
                let action = if there.is_empty() {
                    OpType::Put(ScalarValue::counter(*by))
                } else {
                    OpType::Increment(*by)
                };
                vec![one(&flat, action, there)]
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
            op(section, &flat, OpType::Delete, ids.iter().filter_map(|(_, id)| op_id(id)).collect())
        });
        ops.collect()
    }

    /// Makes a change of operations that replace just what they name.
    fn make(
        &mut self,
        base: &mut Document,
        before: &Before<'_>,
        operations: Vec<Op>,
    ) -> Result<(), EditError> {
        let number = self.number.saturating_add(1);
        let seen = base.seen.get(&self.actor).copied().unwrap_or_default();
        let start_op = NonZeroU64::MIN.saturating_add(base.op_max);
        let expanded = ExpandedChange {
            operations,
            actor_id: self.actor.id(),
            hash: None,
            seq: seen.seq.saturating_add(1),
            start_op,
            time: before.time_ms,
            message: Some(format!("{number} {}", before.author)),
            deps: base.am.get_heads(),
            extra_bytes: Vec::new(),
            author: None,
        };
        let change = guarded(|| Ok::<_, EngineError>(automerge::Change::from(expanded)))?;
        base.apply(change)?;
        self.count_on(before, number);
        Ok(())
    }

    fn count_on(&mut self, before: &Before<'_>, number: u64) {
        self.number = number;
        self.renumbered.entry((before.actor, before.number)).or_default().push(number);
    }

    /// A text that is as it was before the change is changed in it; beside one that somebody else changed the whole
    /// new text stands.
    fn text(&mut self, base: &mut Document, before: &Before<'_>, step: &FlatStep) -> Result<(), EditError> {
        let Deed::Text { before: was, after } = &step.deed else { return Ok(()) };
        let held = base.held(step.section, &step.flat, None);
        let same =
            held.iter().find(|(held, _)| matches!(held, Held::Text(text) if Some(text) == was.as_ref()));
        if let Some((_, id)) = same {
            let number = self.number.saturating_add(1);
            let origin = (number, before.time_ms, before.author);
            let made = base.commit(self.actor, origin, |tx| Ok(tx.update_text(id, after)?))?;
            if made.is_some() {
                self.count_on(before, number);
            }
            return Ok(());
        }
        let preds = if was.is_none() { self.seen(base, step) } else { Vec::new() };
        let mut ops = vec![op(step.section, &step.flat, OpType::Make(ObjType::Text), preds)];
        let maker = OpId::new(base.op_max.saturating_add(1), &self.actor.id());
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
        self.make(base, before, ops)
    }
}

/// A change as it was made first.
struct Before<'a> {
    actor: Actor,
    number: u64,
    author: &'a str,
    time_ms: i64,
    deps: &'a [ChangeHash],
}

fn op_id(id: &ObjId) -> Option<OpId> {
    match id {
        ObjId::Id(counter, actor, _) => Some(OpId::new(*counter, actor)),
        ObjId::Root => None,
    }
}

fn op(section: Section, flat: &str, action: OpType, preds: Vec<OpId>) -> Op {
    let home = OpId::new(section.counter(), &Actor::GENESIS.id());
    Op { action, obj: ObjectId::Id(home), key: OpKey::Map(flat.into()), pred: preds.into(), insert: false }
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
            (Deed::Add(sum), Deed::Add(by)) => *sum = sum.wrapping_add(by),
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
) -> (i64, Vec<String>) {
    let parts = document.parts(section, heads).into_iter();
    let flats: Vec<_> = parts
        .filter(|(_, of, part, _)| of == key && matches!(part, Part::Count(_)))
        .map(|(flat, ..)| flat)
        .collect();
    let held = flats.iter().flat_map(|flat| document.held(section, flat, heads));
    let sum = held.fold(0_i64, |sum, (held, _)| match held {
        Held::Count(count) => sum.wrapping_add(count),
        _ => sum,
    });
    (sum, flats)
}
