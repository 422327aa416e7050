//! Changes that are there twice: as they were made, and made again by a replica that had forgotten that they are.
//!
//! Both have one stamp, and so they are one write: what was replaced in the one is in the other.

use std::collections::{BTreeMap, BTreeSet};

use automerge::ObjType;
use automerge::legacy::{Key as OpKey, Op, OpId, OpType};
use automerge::{Change, ScalarValue};

use crate::actor::{Actor, Side};
use crate::check::section_of;
use crate::count::Added;
use crate::document::{Document, EngineError, add_op, guarded, leaf_op, op_id};
use crate::key::{self, Key, Part};
use crate::section::Section;
use crate::stamp::{Signed, Stamp};

/// The changes of one stamp, and those that even them out.
#[derive(Default)]
struct Twins {
    made: Vec<Change>,
    evened: Vec<Change>,
}

/// Removes the values of which the other one was replaced, and takes off what was added twice, by changes of the hub with
/// numbers behind `number`.
pub(crate) fn even_out(
    document: &mut Document,
    actor: Actor,
    mut number: u64,
) -> Result<Vec<Change>, EngineError> {
    let mut made = Vec::new();
    for (stamp, twins) in twice(document)? {
        let mut ops = halves(document, &twins.made)?;
        ops.extend(surplus(document, actor, &twins)?);
        let Some(first) = twins.made.first().filter(|_| !ops.is_empty()) else { continue };
        let author = first.message().and_then(Signed::read).map_or("", |signed| signed.author);
        number = number.saturating_add(1);
        let signed = Signed { evens: Some(stamp), ..Signed::new(number, author) };
        made.push(document.make(actor, &signed, first.timestamp(), ops)?);
    }
    Ok(made)
}

fn twice(document: &Document) -> Result<BTreeMap<Stamp, Twins>, EngineError> {
    let mut by_stamp: BTreeMap<Stamp, (Vec<_>, Vec<_>)> = BTreeMap::new();
    if document.again.is_empty() {
        return Ok(BTreeMap::new());
    }
    for meta in document.am.get_changes_meta(&document.base) {
        let signed = meta.message.as_deref().and_then(Signed::read);
        let (Some(writer), Some(signed)) = (Actor::of(&meta.actor), signed) else { continue };
        by_stamp.entry(signed.stamp(writer)).or_default().0.push(meta.hash);
        if let Some(stamp) = signed.evens {
            by_stamp.entry(stamp).or_default().1.push(meta.hash);
        }
    }
    let changes = |of: Vec<_>| of.iter().map(|hash| document.change(hash)).collect::<Result<_, _>>();
    let twins = by_stamp.into_iter().filter(|(_, (made, _))| made.len() > 1);
    twins
        .map(|(stamp, (made, evened))| Ok((stamp, Twins { made: changes(made)?, evened: changes(evened)? })))
        .collect()
}

/// What counters have too much.
fn surplus(document: &Document, actor: Actor, twins: &Twins) -> Result<Vec<Op>, EngineError> {
    let mut wanted: BTreeMap<(Section, Key), i128> = BTreeMap::new();
    let mut found: BTreeMap<(Section, Key), i128> = BTreeMap::new();
    for (at, change) in twins.made.iter().chain(&twins.evened).enumerate() {
        for (place, by) in added(document, change)? {
            let sum = found.entry(place.clone()).or_default();
            *sum += by;
            if at == 0 {
                wanted.insert(place, by);
            }
        }
    }
    let mut ops = Vec::new();
    for ((section, key), sum) in found {
        let by = wanted.get(&(section, key.clone())).copied().unwrap_or(0) - sum;
        let Ok(flat) = key::flat(&key, &Part::Count(actor)) else { continue };
        if by == 0 || !section.is_written_by(Side::Hub) {
            continue;
        }
        ops.push(add_op(document, section, &flat, by));
    }
    Ok(ops)
}

/// What a change adds to counters.
fn added(document: &Document, change: &Change) -> Result<BTreeMap<(Section, Key), i128>, EngineError> {
    let change = guarded(|| Ok::<_, EngineError>(change.decode()))?;
    let mut each = Added::new(document, &change);
    let mut added: BTreeMap<_, i128> = BTreeMap::new();
    for (at, op) in (0_u64..).zip(&change.operations) {
        if let (Some(section), OpKey::Map(flat)) = (section_of(&op.obj), &op.key)
            && let Some((key, Part::Count(_))) = key::read(flat)
            && let Some(by) = each.by(at, op, section, flat)
        {
            let sum = added.entry((section, key)).or_default();
            *sum += by;
        }
    }
    Ok(added)
}

/// Removals of what stands of one of the changes and not of another.
fn halves(document: &Document, twins: &[Change]) -> Result<Vec<Op>, EngineError> {
    let mut written: BTreeMap<(Section, String), Vec<OpId>> = BTreeMap::new();
    for change in twins {
        let decoded = guarded(|| Ok::<_, EngineError>(change.decode()))?;
        // The last value of each leaf: one that the change itself replaced says nothing.
        let mut last = BTreeMap::new();
        for (at, op) in (0_u64..).zip(&decoded.operations) {
            let is_value = match &op.action {
                OpType::Put(scalar) => !matches!(scalar, ScalarValue::Counter(_)),
                OpType::Make(kind) => *kind == ObjType::Text,
                _ => false,
            };
            if let (true, Some(section), OpKey::Map(flat)) = (is_value, section_of(&op.obj), &op.key) {
                let id = OpId::new(decoded.start_op.get().saturating_add(at), &decoded.actor_id);
                last.insert((section, flat.to_string()), id);
            }
        }
        last.into_iter().for_each(|(leaf, id)| written.entry(leaf).or_default().push(id));
    }
    let mut ops = Vec::new();
    for ((section, flat), ids) in written {
        // Reports are their devices' alone.
        if !section.is_written_by(Side::Hub) {
            continue;
        }
        let held = document.held(section, &flat, None);
        let held: BTreeSet<_> = held.iter().filter_map(|(_, id)| op_id(id)).collect();
        let (standing, gone): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| held.contains(id));
        if !standing.is_empty() && !gone.is_empty() {
            ops.push(leaf_op(section, &flat, OpType::Delete, standing));
        }
    }
    Ok(ops)
}
