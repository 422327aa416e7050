//! Cutting history off: what a new generation begins with, and what is replayed on it.
//!
//! A base is made of changes that all build on the genesis of the new generation and on nothing else. The one of the
//! highest rank holds every leaf as it is shown; the others hold, each, one more value of leaves in conflict, and so the
//! conflict stands. Beside each leaf the base says who wrote it and when.

use std::collections::{BTreeMap, HashMap};

use automerge::transaction::{Transactable as _, Transaction};
use automerge::{ChangeHash, ObjId, ObjType, ReadDoc as _, ScalarValue};

use crate::EditError;
use crate::actor::{Actor, Generation};
use crate::check::{self, decode};
use crate::chunk;
use crate::document::{Document, EngineError, Held, Origin, guarded, origin_key, read_message};
use crate::history::{Deed, FlatStep, flat_steps};
use crate::key::{self, Key, Part};
use crate::limits::{BASE_CHANGES_MAX, MESSAGE_BYTES_MAX, OPS_PER_BASE_MAX};
use crate::receive::{Refusal, within};
use crate::section::{ORIGIN, Section, object};
use crate::value;
use crate::write;

const RANK_SHOWN: u8 = 255;

struct Kept {
    section: Section,
    flat: String,
    // The shown one last.
    values: Vec<(Held, Option<Origin>)>,
}

/// The document of a new generation with all that is in `old`.
pub(crate) fn rebased(old: &Document, generation: Generation) -> Result<Document, EditError> {
    let mut plain = Vec::new();
    let mut contested = Vec::new();
    let mut counts: BTreeMap<(Section, Key), i64> = BTreeMap::new();
    for section in Section::ALL {
        for (flat, key, part, conflict) in old.parts(section, None) {
            let held = old.held(section, &flat, None);
            if matches!(part, Part::Count(_)) {
                let sum = counts.entry((section, key)).or_default();
                for (held, _) in held {
                    if let Held::Count(count) = held {
                        *sum = sum.wrapping_add(count);
                    }
                }
                continue;
            }
            let mut values: Vec<_> =
                held.into_iter().map(|(held, id)| (held, old.origin(section, &flat, &id))).collect();
            // An element of a set is there or not; who inserted it again tells nothing.
            let keep = if matches!(part, Part::Leaf) { BASE_CHANGES_MAX } else { 1 };
            values.drain(..values.len().saturating_sub(keep));
            let kept = Kept { section, flat, values };
            if conflict { contested.push(kept) } else { plain.push(kept) }
        }
    }
    // A value is shown when its operation has the highest number of those in conflict. Behind all other leaves, and in the
    // same order everywhere, those of the highest rank have; of texts, which are many operations, the length is free.
    contested.sort_by_key(|kept| kept.values.iter().any(|(held, _)| matches!(held, Held::Text(_))));
    lay(generation, &plain, &contested, &counts)
}

fn lay(
    generation: Generation,
    plain: &[Kept],
    contested: &[Kept],
    counts: &BTreeMap<(Section, Key), i64>,
) -> Result<Document, EditError> {
    let genesis = Document::new(generation)?;
    let mut document = genesis.clone();
    let most = contested.iter().map(|kept| kept.values.len()).max().unwrap_or(1).max(1);
    for place in 0..most {
        let rank = RANK_SHOWN.saturating_sub(u8::try_from(place).unwrap_or(RANK_SHOWN));
        let actor = Actor::base(generation.tag, rank);
        let nth = |kept: &Kept| {
            let at = kept.values.len().checked_sub(place + 1)?;
            kept.values.get(at).cloned().map(|value| (kept.section, kept.flat.clone(), value))
        };
        let shown = if place == 0 { plain } else { &[] };
        let leaves: Vec<_> = shown.iter().chain(contested).filter_map(nth).collect();
        let mut alone = genesis.clone();
        let change = alone.commit(actor, (0, 0, ""), |tx| {
            for (section, flat, (_, origin)) in &leaves {
                if let Some(origin) = origin {
                    tx.put(object(ORIGIN), origin_key(*section, flat, rank), origin.text())?;
                }
            }
            if place == 0 {
                for ((section, key), sum) in counts {
                    let flat = key::flat(key, &Part::Count(actor))?;
                    tx.put(section.object(), flat, ScalarValue::counter(*sum))?;
                }
            }
            leaves.iter().try_for_each(|(section, flat, (held, _))| put(tx, &section.object(), flat, held))
        })?;
        if let Some(change) = change {
            document.apply(change)?;
        }
    }
    Ok(document)
}

fn put(tx: &mut Transaction<'_>, object: &ObjId, flat: &str, held: &Held) -> Result<(), EditError> {
    match held {
        Held::Leaf(json) => {
            let scalar = value::scalar(json).map_err(|error| EngineError(error.to_string()))?;
            tx.put(object, flat, scalar)?;
        }
        Held::Text(text) => {
            let id = tx.put_object(object, flat, ObjType::Text)?;
            tx.splice_text(&id, 0, 0, text)?;
        }
        Held::Count(_) => {}
    }
    Ok(())
}

/// A document of the changes of a base from elsewhere, each checked.
pub(crate) fn read(generation: Generation, changes: &[Vec<u8>]) -> Result<Document, Refusal> {
    if changes.len() > BASE_CHANGES_MAX {
        return Err(Refusal::TooMany { what: "changes", found: changes.len(), max: BASE_CHANGES_MAX });
    }
    let genesis = Document::new(generation)?;
    let mut document = genesis.clone();
    let mut ops_left = OPS_PER_BASE_MAX;
    for bytes in changes {
        let head = chunk::read(bytes, MESSAGE_BYTES_MAX, ops_left)?;
        ops_left = ops_left.saturating_sub(usize::try_from(head.ops).unwrap_or(usize::MAX));
        let right =
            head.actor.rank().is_some_and(|rank| rank > 0 && head.actor == Actor::base(generation.tag, rank));
        if !right || head.seq != 1 || head.deps != [genesis.genesis] || head.op_first != genesis.op_max + 1 {
            return Err(Refusal::Base("its changes are not those of its generation"));
        }
        let (change, expanded) = decode(bytes)?;
        if document.knows(&change.hash()) || head.ops == 0 || head.ops != expanded.operations.len() as u64 {
            return Err(Refusal::Base("a change is there twice, or does nothing"));
        }
        check::change(&genesis, &expanded, head.actor)
            .map_err(|error| Refusal::Foreign { actor: head.actor, error })?;
        document.apply(change)?;
    }
    within(&document)?;
    Ok(document)
}

/// Own changes of an older generation that a base lacks, as they are made on it.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Made beside the base: what it holds was written by somebody who did not know of these.
    beside: Vec<Commit>,
    /// Made on the base.
    upon: Vec<Commit>,
}

#[derive(Debug, Default)]
struct Commit {
    time_ms: i64,
    author: String,
    steps: Vec<FlatStep>,
}

/// Plans what becomes of the changes of `own` replicas that `included` does not cover.
pub(crate) fn plan(
    old: &Document,
    base: &Document,
    own: &[Actor],
    included: &BTreeMap<Actor, u64>,
) -> Result<Replay, EngineError> {
    guarded(|| {
        let mut replay = Replay::default();
        let mut built_upon = HashMap::new();
        for change in old.am.get_changes(&old.base) {
            let Some(actor) = Actor::of(change.actor_id()).filter(|actor| own.contains(actor)) else {
                continue;
            };
            let Some((number, author)) = change.message().and_then(read_message) else { continue };
            if number <= included.get(&actor).copied().unwrap_or(0) {
                continue;
            }
            let of = || Commit { time_ms: change.timestamp(), author: author.to_owned(), steps: Vec::new() };
            let (mut beside, mut upon) = (of(), of());
            let deps = change.deps().to_vec();
            for step in flat_steps(old, &change.decode(), change.hash())? {
                let place = (step.section, step.flat.clone());
                let has = sees(old, base, &step, &deps);
                let on_top = has || built_upon.get(&place) == Some(&true);
                let is_sum = matches!(step.deed, Deed::Add(_));
                // A removal beside the base takes back what this end put there itself, and leaves what somebody wrote who
                // did not know of it.
                let list = if is_sum || on_top { &mut upon } else { &mut beside };
                list.steps.push(step);
                built_upon.insert(place, on_top);
            }
            replay.beside.push(beside);
            replay.upon.push(upon);
        }
        Ok(replay)
    })
}

/// Whether who made a step knew all that the base holds at its place.
fn sees(old: &Document, base: &Document, step: &FlatStep, deps: &[ChangeHash]) -> bool {
    let Some((key, part)) = key::read(&step.flat) else { return false };
    if matches!(part, Part::Count(_)) {
        return count(base, step.section, &key, None) == count(old, step.section, &key, Some(deps));
    }
    let there = base.held(step.section, &step.flat, None);
    if let Deed::Text { before, .. } = &step.deed {
        return there
            .iter()
            .all(|(held, _)| matches!(held, Held::Text(text) if Some(text) == before.as_ref()));
    }
    let known: Vec<_> = old
        .held(step.section, &step.flat, Some(deps))
        .iter()
        .filter_map(|(_, id)| old.origin(step.section, &step.flat, id))
        .map(|origin| (origin.actor, origin.number))
        .collect();
    there.iter().all(|(_, id)| {
        let origin = base.origin(step.section, &step.flat, id);
        origin.is_some_and(|origin| known.contains(&(origin.actor, origin.number)))
    })
}

fn counts(document: &Document, section: Section, key: &Key, heads: Option<&[ChangeHash]>) -> Vec<String> {
    let parts = document.parts(section, heads).into_iter();
    parts
        .filter(|(_, of, part, _)| of == key && matches!(part, Part::Count(_)))
        .map(|(flat, ..)| flat)
        .collect()
}

fn count(document: &Document, section: Section, key: &Key, heads: Option<&[ChangeHash]>) -> i64 {
    let flats = counts(document, section, key, heads);
    let held = flats.iter().flat_map(|flat| document.held(section, flat, heads));
    held.fold(0, |sum, (held, _)| match held {
        Held::Count(count) => sum.wrapping_add(count),
        _ => sum,
    })
}

impl Replay {
    /// The base with the replayed changes, numbered after `number`.
    pub fn onto(self, base: Document, actor: Actor, number: &mut u64) -> Result<Document, EditError> {
        let mut document = if self.beside.iter().all(|commit| commit.steps.is_empty()) {
            base
        } else {
            let mut document = Document::new(base.generation)?;
            for commit in &self.beside {
                commit.make(&mut document, actor, number)?;
            }
            for hash in &base.base {
                if *hash != base.genesis {
                    document.apply(base.change(hash)?)?;
                }
            }
            document
        };
        for commit in &self.upon {
            commit.make(&mut document, actor, number)?;
        }
        Ok(document)
    }
}

impl Commit {
    fn make(&self, document: &mut Document, actor: Actor, number: &mut u64) -> Result<(), EditError> {
        let next = number.saturating_add(1);
        let made = document.commit(actor, (next, self.time_ms, &self.author), |tx| {
            self.steps.iter().try_for_each(|step| again(tx, actor, step))
        })?;
        if made.is_some() {
            *number = next;
        }
        Ok(())
    }
}

fn again(tx: &mut Transaction<'_>, actor: Actor, step: &FlatStep) -> Result<(), EditError> {
    let object = step.section.object();
    let Some((key, part)) = key::read(&step.flat) else { return Ok(()) };
    match &step.deed {
        Deed::Put(scalar) => write::put(tx, &object, &step.flat, scalar.clone())?,
        Deed::Add(by) => write::add(tx, &object, &key::flat(&key, &Part::Count(actor))?, *by)?,
        Deed::Text { after, .. } => write::set_text(tx, &object, &step.flat, after)?,
        Deed::Delete if matches!(part, Part::Count(_)) => {
            let (from, to) = (format!("{key}~c"), format!("{key}~d"));
            let flats: Vec<_> = tx.map_range(&object, from..to).map(|item| item.key.to_string()).collect();
            for flat in flats {
                tx.delete(&object, flat)?;
            }
        }
        Deed::Delete => write::remove(tx, &object, &step.flat)?,
    }
    Ok(())
}
