//! Cutting history off: what a new generation begins with.
//!
//! A base is made of changes that all build on the genesis of the new generation and on nothing else. The one of the
//! highest rank holds every leaf as it is shown; the others hold, each, one more value of leaves in conflict, and so the
//! conflict stands. Beside each leaf the base says who wrote it and when.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use automerge::transaction::{Transactable as _, Transaction};
use automerge::{ObjId, ObjType, ScalarValue};

use crate::EditError;
use crate::actor::{Actor, Generation};
use crate::check::{self, decode};
use crate::chunk::{self, Most};
use crate::document::{Document, EngineError, Held, ORIGIN_KEY_BYTES, Origin, origin_key};
use crate::key::{self, Key, Part};
use crate::limits::{BASE_BYTES_MAX, BASE_CHANGES_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, OPS_PER_BASE_MAX};
use crate::receive::{Refusal, within};
use crate::section::{ORIGIN, Section, object};
use crate::touched::{Touched, touched_key};
use crate::value;

const RANK_SHOWN: u8 = 255;

/// A value with who wrote it, and of a text with who changed it last.
#[derive(Clone)]
struct Value {
    held: Held,
    origin: Option<Origin>,
    last: Option<Origin>,
}

struct Kept {
    section: Section,
    flat: String,
    // The shown one last.
    values: Vec<Value>,
}

/// The document of a new generation with all that is in `old`. Of a leaf with many long values in conflict only the last ones are
/// kept, if the base were no message otherwise.
pub(crate) fn rebased(old: &Document, generation: Generation) -> Result<Document, EditError> {
    let mut keep = BASE_CHANGES_MAX;
    loop {
        let document = with_values(old, generation, keep)?;
        if document.bytes <= BASE_BYTES_MAX || keep == 1 {
            return Ok(document);
        }
        keep /= 2;
    }
}

fn with_values(old: &Document, generation: Generation, keep: usize) -> Result<Document, EditError> {
    let mut plain = Vec::new();
    let mut contested = Vec::new();
    let mut counts: BTreeMap<(Section, Key), i128> = BTreeMap::new();
    let touched = OnceCell::new();
    for section in Section::ALL {
        for (flat, key, part, conflict) in old.parts(section, None) {
            let held = old.held(section, &flat, None);
            if matches!(part, Part::Count(_)) {
                let sum = counts.entry((section, key)).or_default();
                for (held, _) in held {
                    if let Held::Count(count) = held {
                        *sum += i128::from(count);
                    }
                }
                continue;
            }
            let value = |(held, id)| {
                let last = if let Held::Text(_) = held {
                    let touched = touched.get_or_init(|| Touched::of(old).unwrap_or_default());
                    touched.origin(old, section, &flat, &id)
                } else {
                    None
                };
                Value { held, origin: old.origin(section, &flat, &id), last }
            };
            let mut values: Vec<_> = held.into_iter().map(value).collect();
            // Of an element too, which outlives that one who knew of one insertion removes it.
            values.drain(..values.len().saturating_sub(keep));
            let kept = Kept { section, flat, values };
            if conflict { contested.push(kept) } else { plain.push(kept) }
        }
    }
    // A value is shown when its operation has the highest number of those in conflict. Behind all other leaves, and in the
    // same order everywhere, those of the highest rank have; of texts, which are many operations, the length is free.
    contested.sort_by_key(|kept| kept.values.iter().any(|value| matches!(value.held, Held::Text(_))));
    lay(generation, &plain, &contested, &counts)
}

fn lay(
    generation: Generation,
    plain: &[Kept],
    contested: &[Kept],
    counts: &BTreeMap<(Section, Key), i128>,
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
            for (section, flat, value) in &leaves {
                if let Some(origin) = &value.origin {
                    tx.put(object(ORIGIN), origin_key(*section, flat, rank), origin.text())?;
                }
                if let Some(last) = &value.last {
                    tx.put(object(ORIGIN), touched_key(*section, flat, rank), last.text())?;
                }
            }
            if place == 0 {
                for ((section, key), sum) in counts {
                    let flat = key::flat(key, &Part::Count(actor))?;
                    tx.put(section.object(), flat, ScalarValue::counter(value::clamped(*sum)))?;
                }
            }
            leaves.iter().try_for_each(|(section, flat, value)| put(tx, &section.object(), flat, &value.held))
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
    let mut most =
        Most { bytes: MESSAGE_BYTES_MAX, ops: OPS_PER_BASE_MAX, key_bytes: KEY_BYTES_MAX + ORIGIN_KEY_BYTES };
    for bytes in changes {
        let head = chunk::read(bytes, most)?;
        most.ops = most.ops.saturating_sub(usize::try_from(head.ops).unwrap_or(usize::MAX));
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
