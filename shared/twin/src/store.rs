//! A twin as bytes: all of it, or what has come since.

use std::collections::BTreeMap;

use automerge::ChangeHash;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use crate::actor::{Actor, Generation};
use crate::document::{Document, EngineError};
use crate::key::Key;
use crate::late::{Late, Wanted};
use crate::replaced::{Replaced, Since};
use crate::section::Section;
use crate::stamp::{Beyond, Known, Stamp};
use crate::twin::Twin;

/// Version of the bytes.
const VERSION: u8 = 1;

/// Why bytes are no twin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Damaged.
    #[error("the bytes of a twin cannot be read: {0}")]
    Form(String),
    /// Of a later version.
    #[error("the bytes of a twin are of version {0}; this program knows {VERSION}")]
    Version(u8),
    /// automerge does not take them.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Saved {
    #[n(0)]
    version: u8,
    #[n(1)]
    actor: Actor,
    #[n(2)]
    former: Vec<Actor>,
    #[n(3)]
    generation: Generation,
    #[n(4)]
    number: u64,
    #[n(5)]
    included: BTreeMap<Actor, u64>,
    #[n(6)]
    shared: BTreeMap<String, Vec<ByteArray<32>>>,
    #[n(7)]
    document: ByteVec,
    /// None in files of before it was kept.
    #[n(8)]
    replaced: Option<Vec<Gone>>,
    /// When changes were taken. None in files of before it was kept.
    #[n(9)]
    taken: Option<Vec<(ByteArray<32>, i64)>>,
    /// The leaf, since when it is late, and of what it should be. None in files of before it was kept.
    #[n(10)]
    late: Option<Vec<(String, i64, u64)>>,
}

/// What was replaced at one leaf.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Gone {
    #[n(0)]
    section: u64,
    #[n(1)]
    flat: String,
    #[n(2)]
    known: BTreeMap<Actor, u64>,
    #[n(3)]
    author: String,
    #[n(4)]
    time_ms: i64,
    #[n(5)]
    kept: Vec<(Actor, u64)>,
}

fn gone(replaced: &Replaced) -> Option<Vec<Gone>> {
    let each = replaced.0.iter().map(|((section, flat), since)| Gone {
        section: section.counter(),
        flat: flat.clone(),
        known: since.beyond.known.0.clone(),
        author: since.author.clone(),
        time_ms: since.time_ms,
        kept: since.beyond.kept.iter().map(|stamp| (stamp.actor, stamp.number)).collect(),
    });
    let all: Vec<_> = each.collect();
    (!all.is_empty()).then_some(all)
}

fn replaced(gone: Vec<Gone>) -> Replaced {
    let each = gone.into_iter().filter_map(|gone| {
        let kept = gone.kept.into_iter().map(|(actor, number)| Stamp { actor, number }).collect();
        let known = Known(gone.known);
        let beyond = Beyond { known, kept };
        let since = Since { beyond, author: gone.author, time_ms: gone.time_ms };
        Some(((Section::of_counter(gone.section)?, gone.flat), since))
    });
    Replaced(each.collect())
}

fn times(of: impl Iterator<Item = (ChangeHash, i64)>) -> Option<Vec<(ByteArray<32>, i64)>> {
    let times: Vec<_> = of.map(|(hash, time_ms)| (ByteArray::from(hash.0), time_ms)).collect();
    (!times.is_empty()).then_some(times)
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Appended {
    #[n(0)]
    version: u8,
    #[n(1)]
    generation: Generation,
    #[n(2)]
    changes: Vec<ByteVec>,
    #[n(3)]
    shared: Option<(String, Vec<ByteArray<32>>)>,
    /// When changes were taken. None in files of before it was kept.
    #[n(4)]
    taken: Option<Vec<(ByteArray<32>, i64)>>,
}

fn to_bytes(value: &impl Encode<()>) -> Vec<u8> {
    let bytes = minicbor::to_vec(value);
    debug_assert!(bytes.is_ok(), "a vector takes all bytes");
    bytes.unwrap_or_default()
}

fn form(error: impl std::fmt::Display) -> LoadError {
    LoadError::Form(error.to_string())
}

pub(crate) fn save(twin: &Twin) -> Vec<u8> {
    let heads = |heads: &Vec<ChangeHash>| heads.iter().map(|hash| ByteArray::from(hash.0)).collect();
    to_bytes(&Saved {
        version: VERSION,
        actor: twin.actor,
        former: twin.former.clone(),
        generation: twin.document.generation,
        number: twin.number,
        included: twin.included.clone(),
        shared: twin.shared.iter().map(|(peer, of)| (peer.clone(), heads(of))).collect(),
        document: twin.document.am.save().into(),
        replaced: gone(&twin.replaced),
        taken: times(twin.document.taken.iter().map(|(hash, time_ms)| (*hash, *time_ms))),
        late: Some(
            twin.late.0.iter().map(|(key, late)| (key.to_string(), late.since_ms, late.digest)).collect(),
        ),
    })
}

pub(crate) fn appended(
    generation: Generation,
    changes: &[&[u8]],
    shared: Option<(&str, &[ChangeHash])>,
    taken: &[(ChangeHash, i64)],
) -> Vec<u8> {
    to_bytes(&Appended {
        version: VERSION,
        generation,
        changes: changes.iter().map(|change| ByteVec::from(change.to_vec())).collect(),
        shared: shared.map(|(peer, heads)| {
            (peer.to_owned(), heads.iter().map(|hash| ByteArray::from(hash.0)).collect())
        }),
        taken: times(taken.iter().copied()),
    })
}

fn note_times(twin: &mut Twin, taken: Option<Vec<(ByteArray<32>, i64)>>) {
    let taken = taken.into_iter().flatten().map(|(hash, time_ms)| (ChangeHash(*hash), time_ms));
    twin.document.taken.extend(taken);
}

fn wanted((key, since_ms, digest): (String, i64, u64)) -> Option<(Key, Wanted)> {
    Some((Key::parse(&key).ok()?, Wanted { since_ms, digest }))
}

pub(crate) fn load(actor: Actor, saved: &[u8], records: &[impl AsRef<[u8]>]) -> Result<Twin, LoadError> {
    let saved: Saved = minicbor::decode(saved).map_err(form)?;
    if saved.version != VERSION {
        return Err(LoadError::Version(saved.version));
    }
    let hashes = |of: Vec<ByteArray<32>>| of.into_iter().map(|hash| ChangeHash(*hash)).collect::<Vec<_>>();
    let mut twin = Twin::of(Document::load(saved.generation, &saved.document)?, saved.actor);
    twin.former = saved.former;
    twin.included = saved.included;
    twin.replaced = replaced(saved.replaced.unwrap_or_default());
    twin.number = saved.number;
    note_times(&mut twin, saved.taken);
    match saved.late {
        None => twin.late.settle(&twin.document),
        Some(late) => twin.late = Late(late.into_iter().filter_map(wanted).collect()),
    }
    twin.shared = saved.shared.into_iter().map(|(peer, of)| (peer, hashes(of))).collect();
    for record in records {
        let record: Appended = minicbor::decode(record.as_ref()).map_err(form)?;
        if record.version != VERSION {
            return Err(LoadError::Version(record.version));
        }
        // Left over from before the last whole save.
        if record.generation != twin.document.generation {
            continue;
        }
        note_times(&mut twin, record.taken);
        for bytes in record.changes {
            let (change, expanded) = crate::check::decode(&bytes)?;
            if !twin.document.knows(&change.hash()) {
                let time_ms = twin.document.time_of(&change.hash(), change.timestamp());
                twin.document.apply(change)?;
                twin.late.note(&twin.document, &expanded.operations, time_ms);
            }
        }
        if let Some((peer, of)) = record.shared {
            twin.shared.insert(peer, hashes(of));
        }
    }
    let seen = twin.document.seen.get(&saved.actor).copied().unwrap_or_default();
    twin.number = twin.number.max(seen.number);
    if saved.actor != actor {
        twin.former.push(saved.actor);
        twin.actor = actor;
        twin.number = 0;
    }
    twin.learn_all()?;
    twin.count_unconfirmed();
    Ok(twin)
}
