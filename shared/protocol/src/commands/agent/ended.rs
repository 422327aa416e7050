//! Which commands an agent knows the end of. Their records are on its disk; here is what tells the oldest.

use std::collections::BTreeSet;

use super::{AgentChange, Kept};
use crate::commands::ENDED_KEEP_MS;
use crate::wire::CommandId;

/// The ids of what the disk has, by when it ended.
#[derive(Debug)]
pub(super) struct EndedIndex {
    // Commands that were made up to here may have been forgotten.
    forgotten_ms: i64,
    oldest_first: BTreeSet<(i64, CommandId)>,
    forgotten: Vec<CommandId>,
}

impl EndedIndex {
    pub const fn new(forgotten_ms: i64) -> Self {
        Self { forgotten_ms, oldest_first: BTreeSet::new(), forgotten: Vec::new() }
    }

    pub const fn forgotten_ms(&self) -> i64 {
        self.forgotten_ms
    }

    /// Whether a command of which the disk knows nothing may have been there.
    pub fn may_have(&self, id: CommandId) -> bool {
        id.made_ms() <= self.forgotten_ms
    }

    pub fn insert(&mut self, kept: &Kept) {
        self.oldest_first.insert(Self::place(kept));
    }

    pub fn remove(&mut self, kept: &Kept) {
        self.oldest_first.remove(&Self::place(kept));
    }

    fn place(kept: &Kept) -> (i64, CommandId) {
        let id = kept.command.id;
        (kept.ended_ms.unwrap_or_else(|| id.made_ms()), id)
    }

    /// Forgets what is too much, and where the time is known what is too old.
    pub fn prune(&mut self, max: usize, now_ms: Option<i64>) {
        let is_old =
            |ended_ms: i64| now_ms.is_some_and(|now_ms| ended_ms.saturating_add(ENDED_KEEP_MS) <= now_ms);
        while let Some((ended_ms, id)) = self.oldest_first.first().copied()
            && (self.oldest_first.len() > max || is_old(ended_ms))
        {
            self.oldest_first.remove(&(ended_ms, id));
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
