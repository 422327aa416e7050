//! Who changed each text last, which who made it does not tell: a text keeps its object through all its changes.

use std::collections::BTreeMap;

use automerge::legacy::{ObjectId, OpType};
use automerge::{ActorId, ObjId, ObjType, ReadDoc as _};

use crate::actor::Actor;
use crate::document::{Document, EngineError, Origin, guarded, newer, origin_key};
use crate::section::{ORIGIN, Section, object};
use crate::stamp::{Signed, Stamp};

/// The newest change of each text, by the operation that made it. Of this generation alone: a base has the rest.
#[derive(Debug, Default)]
pub(crate) struct Touched(BTreeMap<(u64, ActorId), Origin>);

impl Touched {
    /// Reads all changes, which takes a while: it is for those who are to see it, and for a base.
    pub fn of(document: &Document) -> Result<Self, EngineError> {
        guarded(|| {
            let mut touched = Self::default();
            for change in document.am.get_changes(&document.base) {
                let Some(actor) = Actor::of(change.actor_id()).filter(|actor| actor.side().is_some()) else {
                    continue;
                };
                let Some(signed) = change.message().and_then(Signed::read) else { continue };
                let (Stamp { actor, number }, author) = (signed.stamp(actor), signed.author.to_owned());
                let time_ms = change.timestamp();
                touched.note(&change, &Origin { actor, number, time_ms, author });
            }
            Ok(touched)
        })
    }

    fn note(&mut self, change: &automerge::Change, origin: &Origin) {
        let decoded = change.decode();
        let mut last = None;
        for (at, op) in (0_u64..).zip(&decoded.operations) {
            let id = match (&op.action, &op.obj) {
                (OpType::Make(ObjType::Text), _) => {
                    (decoded.start_op.get().saturating_add(at), decoded.actor_id.clone())
                }
                (_, ObjectId::Id(id)) => (id.counter(), id.actor().clone()),
                (_, ObjectId::Root) => continue,
            };
            // A text has an operation for each character, one after the other.
            if last.as_ref() != Some(&id) {
                let before = self.0.remove(&id);
                self.0.extend(newer(before, Some(origin.clone())).map(|origin| (id.clone(), origin)));
                last = Some(id);
            }
        }
    }

    /// Who changed a text last, and when. None where a base does not tell, as an earlier version made it.
    pub fn origin(&self, document: &Document, section: Section, flat: &str, id: &ObjId) -> Option<Origin> {
        let ObjId::Id(counter, actor, _) = id else { return None };
        if let Some(origin) = self.0.get(&(*counter, actor.clone())) {
            return Some(origin.clone());
        }
        let rank = Actor::of(actor)?.rank()?;
        let kept = document.am.get(object(ORIGIN), touched_key(section, flat, rank)).ok()??.0;
        Origin::parse(kept.as_str()?)
    }
}

/// Where a base says who changed a text last. Who does not know of it takes it for one more origin, and reads it never.
pub(crate) fn touched_key(section: Section, flat: &str, rank: u8) -> String {
    let mut key = origin_key(section, flat, rank);
    if let Some(letter) = key.get_mut(..1) {
        letter.make_ascii_uppercase();
    }
    key
}
