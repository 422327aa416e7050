//! Changes from elsewhere, on their way into a document.

use std::collections::BTreeMap;

use automerge::ChangeHash;

use crate::actor::{Actor, Side};
use crate::check::{self, ForeignOp, decode};
use crate::chunk::{self, ChunkError, Most};
use crate::document::{Document, EngineError, size};
use crate::late::Late;
use crate::limits::{
    ACTORS_MAX, CHANGES_MAX, DOCUMENT_BYTES_MAX, HISTORY_BYTES_MAX, KEYS_MAX, MERGED_FACTOR, NUMBER_MAX,
};
use crate::stamp::Signed;

/// Why a message is refused. Nothing of it is taken, and the document is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no message.
    #[error("the message cannot be read: {0}")]
    Message(String),
    /// Beyond a limit.
    #[error("the message holds {found} {what}; allowed are {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes of a change.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// What a change does.
    #[error("a change of {}: {error}", actor.hex())]
    Foreign {
        /// Whose change.
        actor: Actor,
        /// What.
        error: ForeignOp,
    },
    /// Two replicas write as one: one was wiped or restored, or copied, and goes by the old name.
    #[error("two replicas write as {}; one that was wiped or restored needs a new actor", actor.hex())]
    ReusedActor {
        /// The name.
        actor: Actor,
    },
    /// Numbers of a change that cannot be.
    #[error("a change of {} has sequence numbers that do not follow from what it builds on", actor.hex())]
    Sequence {
        /// Whose change.
        actor: Actor,
    },
    /// A replica at this end, of which this one knows nothing and could have forgotten nothing.
    #[error("the other end speaks for {}, a replica at this end that never was", actor.hex())]
    NotTheirs {
        /// The name.
        actor: Actor,
    },
    /// A generation that the other end may not begin.
    #[error("the other end may not cut history off")]
    NotTheHub,
    /// A base that is none.
    #[error("the base is none: {0}")]
    Base(&'static str),
    /// The document would be too large.
    #[error("the twin would have {keys} leaves with {bytes} bytes, more than merging may bring")]
    TooLarge {
        /// Leaves.
        keys: usize,
        /// Bytes.
        bytes: usize,
    },
    /// automerge failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

pub(crate) enum Taken {
    New(ChangeHash),
    Known(ChangeHash),
    /// It builds on what is not here, and is asked for again.
    Missing,
}

/// At which end changes come in, and from whom they may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door<'a> {
    pub own: Actor,
    /// The number of its last change.
    pub number: u64,
    /// Whether this replica has forgotten changes of its side: it was restored.
    pub forgetful: bool,
    pub included: &'a BTreeMap<Actor, u64>,
    /// When it is, where that is known better than others know it.
    pub now_ms: Option<i64>,
}

/// Takes one change into a document that is dropped if this fails.
pub(crate) fn take(
    document: &mut Document,
    late: &mut Late,
    bytes: &[u8],
    door: Door<'_>,
) -> Result<Taken, Refusal> {
    let head = chunk::read(bytes, Most::CHANGE)?;
    let (change, expanded) = decode(bytes)?;
    let actor = head.actor;
    if document.knows(&change.hash()) {
        return Ok(Taken::Known(change.hash()));
    }
    let seen = document.seen.get(&actor).copied().unwrap_or_default();
    let is_new = !document.seen.contains_key(&actor);
    if actor == door.own || head.seq <= seen.seq {
        return Err(Refusal::ReusedActor { actor });
    }
    if !head.deps.iter().all(|dep| document.knows(dep)) {
        return Ok(Taken::Missing);
    }
    match actor.side() {
        None => return Err(Refusal::Base("its changes come alone")),
        Some(Side::Hub) if door.own.side() == Some(Side::Hub) && !door.forgetful => {
            return Err(Refusal::NotTheirs { actor });
        }
        Some(Side::Hub | Side::Agent) => {}
    }
    let foreign = |error| Refusal::Foreign { actor, error };
    let signed = expanded.message.as_deref().and_then(Signed::read);
    let signed = signed.ok_or(ForeignOp::Message).map_err(foreign)?;
    let stamp = signed.stamp(actor);
    let last = match signed.first {
        None => Some(seen.number),
        Some(first) => document.again.get(&(actor, first)).copied(),
    };
    let number = stamp.number;
    let included = door.included.get(&stamp.actor).copied().unwrap_or(0);
    // What this replica has not written nobody can have made again.
    let told = signed.beyond.known.0.get(&door.own).copied().unwrap_or(0);
    let is_made_up = (stamp.actor == door.own && number > door.number) || told > door.number;
    let follows = head.seq == seen.seq.saturating_add(1)
        && signed.first.is_none_or(|first| first != actor && first.side() == actor.side())
        && !is_made_up
        && number > last.unwrap_or(0).max(included)
        && number <= NUMBER_MAX
        && head.op_first > seen.op_max
        && head.op_first <= document.op_max.saturating_add(1)
        && !head.deps.is_empty()
        && head.ops > 0
        && head.ops == expanded.operations.len() as u64;
    if !follows {
        return Err(Refusal::Sequence { actor });
    }
    let replicas = document.seen.len() + document.again.len();
    if (is_new || last.is_none()) && replicas >= ACTORS_MAX {
        return Err(Refusal::TooMany { what: "replicas", found: replicas + 1, max: ACTORS_MAX });
    }
    if document.changes >= CHANGES_MAX {
        return Err(Refusal::TooMany { what: "changes", found: document.changes + 1, max: CHANGES_MAX });
    }
    let found = document.bytes.saturating_add(bytes.len());
    if found > HISTORY_BYTES_MAX {
        return Err(Refusal::TooMany { what: "bytes of changes", found, max: HISTORY_BYTES_MAX });
    }
    check::change(document, &expanded, actor).map_err(foreign)?;
    document.apply(change.clone())?;
    let time_ms = document.note_taken(&change, door.now_ms);
    late.note(document, &expanded.operations, time_ms);
    Ok(Taken::New(change.hash()))
}

/// What merging may bring at most.
pub(crate) fn within(document: &Document) -> Result<(), Refusal> {
    let (keys, bytes) = size(&document.am);
    if keys > KEYS_MAX * MERGED_FACTOR || bytes > DOCUMENT_BYTES_MAX * MERGED_FACTOR {
        return Err(Refusal::TooLarge { keys, bytes });
    }
    Ok(())
}
