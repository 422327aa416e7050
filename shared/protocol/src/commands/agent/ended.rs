//! Which commands an agent knows the end of. Their records are on its disk; here is what tells the oldest.

use std::collections::BTreeMap;

use super::{AgentChange, Kept};
use crate::commands::ENDED_KEEP_MS;
use crate::wire::CommandId;

/// The ids of what the disk has, in the order in which they were accepted, which no clock changes.
#[derive(Debug)]
pub(super) struct EndedIndex {
    // Commands that were made up to here may have been forgotten.
    forgotten_ms: i64,
    // With when they ended.
    oldest_first: BTreeMap<u64, (CommandId, i64)>,
    forgotten: Vec<CommandId>,
}

impl EndedIndex {
    pub const fn new(forgotten_ms: i64) -> Self {
        Self { forgotten_ms, oldest_first: BTreeMap::new(), forgotten: Vec::new() }
    }

    pub const fn forgotten_ms(&self) -> i64 {
        self.forgotten_ms
    }

    /// Whether a command of which the disk knows nothing may have been there.
    pub fn may_have(&self, id: CommandId) -> bool {
        id.made_ms() <= self.forgotten_ms
    }

    pub fn insert(&mut self, kept: &Kept) {
        let id = kept.command.id;
        self.oldest_first.insert(kept.order, (id, kept.ended_ms.unwrap_or_else(|| id.made_ms())));
    }

    pub fn remove(&mut self, kept: &Kept) {
        self.oldest_first.remove(&kept.order);
    }

    /// Forgets what is too much, and where the time is known what is too old. What was made while the hub's clock was ahead
    /// stays until that time has come: forgotten, it would bar all that are made until then.
    pub fn prune(&mut self, max: usize, now_ms: Option<i64>) {
        let Some(now_ms) = now_ms else {
            // Nobody knows which those are; what bars the least is right whichever they are.
            while self.oldest_first.len() > max {
                let ids = self.oldest_first.iter().map(|(order, (id, _))| (id.made_ms(), *order));
                ids.min().into_iter().for_each(|(_, order)| self.forget(order));
            }
            return;
        };
        let is_ahead = |id: CommandId, ended_ms: i64| id.made_ms() > now_ms || ended_ms > now_ms;
        let is_old = |ended_ms: i64| ended_ms.saturating_add(ENDED_KEEP_MS) <= now_ms;
        let at_the_front = (self.oldest_first.iter())
            .take_while(|(_, (id, ended_ms))| is_ahead(*id, *ended_ms) || is_old(*ended_ms))
            .filter(|(_, (id, ended_ms))| !is_ahead(*id, *ended_ms));
        let old: Vec<u64> = at_the_front.map(|(order, _)| *order).collect();
        old.into_iter().for_each(|order| self.forget(order));
        while self.oldest_first.len() > max
            && (self.forget_one(|id| id.made_ms() <= now_ms) || self.forget_one(|_| true))
        {}
    }

    /// Forgets the oldest of this sort; false where there is none.
    fn forget_one(&mut self, may: impl Fn(&CommandId) -> bool) -> bool {
        let oldest = self.oldest_first.iter().find(|(_, (id, _))| may(id)).map(|(order, _)| *order);
        oldest.into_iter().for_each(|order| self.forget(order));
        oldest.is_some()
    }

    fn forget(&mut self, order: u64) {
        if let Some((id, _)) = self.oldest_first.remove(&order) {
            self.forgotten_ms = self.forgotten_ms.max(id.made_ms());
            self.forgotten.push(id);
        }
    }

    /// Whether something was forgotten that the disk still has.
    pub const fn has_changed(&self) -> bool {
        !self.forgotten.is_empty()
    }

    pub fn take_changes(&mut self) -> Vec<AgentChange> {
        if self.forgotten.is_empty() {
            return Vec::new();
        }
        let mut changes: Vec<_> = self.forgotten.drain(..).map(AgentChange::Forget).collect();
        changes.push(AgentChange::Forgotten(self.forgotten_ms));
        changes
    }
}
