//! What own changes replaced and a base does not have.
//!
//! A replica that takes a base makes its own changes again on it. One of them may have replaced a value that the base lacks:
//! its writer was away when that base was made, and will make it again. Nothing there names what is to be replaced yet, so it
//! is kept here what was known at each leaf, and the value goes when it comes. The hub learns it of the changes of others too: one who
//! was restored has forgotten it.

use std::collections::BTreeMap;

use automerge::ObjId;
use automerge::legacy::{Key as OpKey, Op, OpId, OpType};

use crate::actor::Actor;
use crate::check::section_of;
use crate::document::{Document, EngineError, guarded, leaf_op, op_id};
use crate::key::{self, Part};
use crate::section::Section;
use crate::stamp::{Beyond, Signed, Stamp};

/// Of one leaf: who replaced it, and what they knew of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Since {
    pub beyond: Beyond,
    pub author: String,
    pub time_ms: i64,
}

/// By section and flat key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replaced(pub BTreeMap<(Section, String), Since>);

impl Replaced {
    /// A change wrote a leaf.
    pub fn note(&mut self, section: Section, flat: &str, since: &Since) {
        if since.beyond.known.is_empty() {
            return;
        }
        let here = self.0.entry((section, flat.to_owned())).or_insert_with(|| since.clone());
        let (was, is) = (&mut here.beyond, &since.beyond);
        let kept = was.kept.union(&is.kept).copied();
        was.kept = kept.filter(|stamp| !was.replaces(*stamp) && !is.replaces(*stamp)).collect();
        was.known.join(&is.known);
        (here.author, here.time_ms) = (since.author.clone(), since.time_ms);
    }

    /// Notes what somebody else's change says that it replaced, so that one who lost this by a restore need not know it.
    pub fn learn(
        &mut self,
        change: &automerge::Change,
        included: &BTreeMap<Actor, u64>,
    ) -> Result<(), EngineError> {
        let Some(signed) = change.message().and_then(Signed::read) else { return Ok(()) };
        let known = signed.beyond.known.beyond(included);
        if known.is_empty() {
            return Ok(());
        }
        let (beyond, author) = (Beyond { known, kept: signed.beyond.kept }, signed.author.to_owned());
        let since = Since { beyond, author, time_ms: change.timestamp() };
        for op in guarded(|| Ok::<_, EngineError>(change.decode().operations))? {
            if let (Some(section), OpKey::Map(flat)) = (section_of(&op.obj), &op.key)
                && !matches!(key::read(flat), None | Some((_, Part::Count(_))))
            {
                self.note(section, flat, &since);
            }
        }
        Ok(())
    }

    pub fn at(&self, section: Section, flat: &str) -> Option<&Since> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(section, flat.to_owned()))
    }

    /// Forgets what a base has: it cannot come again.
    pub fn forget(&mut self, included: &BTreeMap<Actor, u64>) {
        self.0.retain(|_, since| {
            let Beyond { known, kept } = &mut since.beyond;
            *known = known.beyond(included);
            kept.retain(|stamp| known.covers(*stamp));
            !known.is_empty()
        });
    }

    /// Removes what has come, by changes with numbers behind `number`. They are signed by who replaced it.
    pub fn remove(
        &self,
        document: &mut Document,
        actor: Actor,
        mut number: u64,
    ) -> Result<Vec<automerge::Change>, EngineError> {
        let mut signed: BTreeMap<(i64, &str), Vec<Op>> = BTreeMap::new();
        for ((section, flat), since) in &self.0 {
            if actor.side().is_none_or(|side| !section.is_written_by(side)) {
                continue;
            }
            let come: Vec<_> = known(document, *section, flat, |stamp| since.beyond.replaces(stamp));
            if !come.is_empty() {
                let ops = signed.entry((since.time_ms, &since.author)).or_default();
                ops.push(leaf_op(*section, flat, OpType::Delete, come));
            }
        }
        let mut made = Vec::new();
        for ((time_ms, author), ops) in signed {
            number = number.saturating_add(1);
            made.push(document.make(actor, &Signed::new(number, author), time_ms, ops)?);
        }
        Ok(made)
    }
}

/// The values at a leaf whose stamps somebody knows.
pub(crate) fn known(
    document: &Document,
    section: Section,
    flat: &str,
    knows: impl Fn(Stamp) -> bool,
) -> Vec<OpId> {
    let is_known = |id: &ObjId| {
        let origin = document.origin(section, flat, id);
        origin.is_some_and(|origin| knows(Stamp { actor: origin.actor, number: origin.number }))
    };
    let held = document.held(section, flat, None).into_iter();
    held.filter(|(_, id)| is_known(id)).filter_map(|(_, id)| op_id(&id)).collect()
}
