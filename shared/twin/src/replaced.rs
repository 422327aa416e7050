//! What own changes replaced and a base does not have.
//!
//! A replica that takes a base makes its own changes again on it. One of them may have replaced a value that the base lacks:
//! its writer was away when that base was made, and will make it again. Nothing there names what is to be replaced yet, so it
//! is kept here what was known at each leaf, and the value goes when it comes.

use std::collections::{BTreeMap, BTreeSet};

use automerge::ObjId;
use automerge::legacy::{Op, OpId, OpType};

use crate::actor::Actor;
use crate::document::{Document, EngineError, leaf_op, op_id};
use crate::section::Section;
use crate::stamp::{Known, Signed, Stamp};

/// Of one leaf: who replaced it, and what they knew of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Since {
    pub known: Known,
    /// Of what was known, what stayed: it stood in conflict with what was written.
    pub kept: BTreeSet<Stamp>,
    pub author: String,
    pub time_ms: i64,
}

impl Since {
    pub fn replaces(&self, stamp: Stamp) -> bool {
        self.known.covers(stamp) && !self.kept.contains(&stamp)
    }
}

/// By section and flat key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replaced(pub BTreeMap<(Section, String), Since>);

impl Replaced {
    /// An own change wrote a leaf.
    pub fn note(&mut self, section: Section, flat: &str, since: &Since) {
        if since.known.0.is_empty() {
            return;
        }
        let here = self.0.entry((section, flat.to_owned())).or_insert_with(|| since.clone());
        let kept = here.kept.union(&since.kept).copied();
        let kept: BTreeSet<_> =
            kept.filter(|stamp| !here.replaces(*stamp) && !since.replaces(*stamp)).collect();
        here.kept = kept;
        here.known.join(&since.known);
        (here.author, here.time_ms) = (since.author.clone(), since.time_ms);
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
            since.known = since.known.beyond(included);
            let Since { known, kept, .. } = since;
            kept.retain(|stamp| known.covers(*stamp));
            !since.known.0.is_empty()
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
            let come: Vec<_> = known(document, *section, flat, |stamp| since.replaces(stamp));
            if !come.is_empty() {
                let ops = signed.entry((since.time_ms, &since.author)).or_default();
                ops.push(leaf_op(*section, flat, OpType::Delete, come));
            }
        }
        let mut made = Vec::new();
        for ((time_ms, author), ops) in signed {
            number = number.saturating_add(1);
            made.push(document.make(actor, Signed { number, author, first: None }, time_ms, ops)?);
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
