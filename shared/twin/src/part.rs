//! What a replica does when it finds that another one writes by its name: both go back to one copy of its file.

use std::collections::{BTreeMap, HashSet};

use automerge::ChangeHash;

use crate::EditError;
use crate::actor::Actor;
use crate::chunk::{self, Most};
use crate::document::{Document, EngineError, guarded};
use crate::message::Message;
use crate::replay::Replay;
use crate::twin::{Record, Twin};

impl Twin {
    /// Takes another name, for ever, after [`crate::Refusal::ReusedActor`] named one of this replica's own. Own changes that
    /// the refused message has others in the place of are made again by the new name; what the two have in common stays.
    /// Tell the link by [`crate::Link::handle_parted`]. `None` if no own name is reused in the message.
    ///
    /// # Errors
    /// Nothing can be made again. The twin is as it was.
    pub fn part(&mut self, actor: Actor, message: &Message) -> Result<Option<Record>, EditError> {
        let Message::Changes { changes, .. } = message else { return Ok(None) };
        let own: Vec<Actor> = self.former.iter().copied().chain([self.actor]).collect();
        let parted = self.parted(&own, changes);
        if parted.is_empty() || own.contains(&actor) {
            return Ok(None);
        }
        let (mut document, included) = guarded(|| self.common(&own, &parted))?;
        // By new stamps: the other copy has made others by the old. What they replaced is in both or in none.
        let mut replay =
            Replay::new(&self.document, &self.included, &self.replaced, actor).with_new_stamps(0);
        replay.onto(&mut document, |actor| own.contains(&actor), &included)?;
        self.number = replay.number();
        self.late.settle(&document);
        self.document = document;
        self.former.push(self.actor);
        self.actor = actor;
        Ok(Some(self.begun()))
    }

    /// By own name, the number in its sequence of the first change that somebody else made in an own one's place.
    fn parted(&self, own: &[Actor], changes: &[Vec<u8>]) -> BTreeMap<Actor, u64> {
        let mut parted = BTreeMap::new();
        for bytes in changes {
            let Ok(head) = chunk::read(bytes, Most::CHANGE) else { continue };
            let Ok((change, _)) = crate::check::decode(bytes) else { continue };
            if own.contains(&head.actor) && !self.document.knows(&change.hash()) {
                let first = parted.entry(head.actor).or_insert(head.seq);
                *first = head.seq.min(*first);
            }
        }
        parted
    }

    /// The document without what parted, and the number of the last own change that is left, by name.
    fn common(
        &self,
        own: &[Actor],
        parted: &BTreeMap<Actor, u64>,
    ) -> Result<(Document, BTreeMap<Actor, u64>), EngineError> {
        let mut document = Document::new(self.document.generation)?;
        let mut gone: HashSet<ChangeHash> = HashSet::new();
        for change in self.document.am.get_changes(&[document.genesis]) {
            let actor = Actor::of(change.actor_id());
            let is_other =
                actor.and_then(|actor| parted.get(&actor)).is_some_and(|first| change.seq() >= *first);
            if is_other || change.deps().iter().any(|dep| gone.contains(dep)) {
                gone.insert(change.hash());
            } else {
                document.apply(change)?;
            }
        }
        let known = document.known();
        let last = |actor: &Actor| {
            let kept = known.0.get(actor).copied().unwrap_or(0);
            (*actor, kept.max(self.included.get(actor).copied().unwrap_or(0)))
        };
        let included = own.iter().map(last).collect();
        Ok((document, included))
    }
}
