//! What is durable at both ends.

use std::collections::BTreeMap;

use super::super::super::*;
use crate::wire::{CommandId, JournalId};

#[derive(Debug, Clone, Default)]
pub struct HubDisk {
    pub commands: BTreeMap<CommandId, HubCommand>,
    pub output: BTreeMap<(CommandId, u32), Vec<u8>>,
}

#[derive(Debug, Clone)]
pub struct AgentDisk {
    pub journal: JournalId,
    pub forgotten_ms: i64,
    pub open: BTreeMap<CommandId, Vec<u8>>,
    pub ended: BTreeMap<CommandId, Vec<u8>>,
}

impl HubDisk {
    pub fn apply(&mut self, changes: Vec<HubChange>) {
        for change in changes {
            match change {
                HubChange::Put(command) => drop(self.commands.insert(command.id, *command)),
                HubChange::Output { id, attempt, offset, bytes } => {
                    let held = self.output.entry((id, attempt)).or_default();
                    held.truncate(usize::try_from(offset).unwrap());
                    held.extend_from_slice(&bytes);
                }
            }
        }
    }
}

impl AgentDisk {
    pub const fn new(journal: JournalId) -> Self {
        Self { journal, forgotten_ms: i64::MIN, open: BTreeMap::new(), ended: BTreeMap::new() }
    }

    pub fn apply(&mut self, changes: Vec<AgentChange>) {
        for change in changes {
            match change {
                AgentChange::Put(id, bytes) => {
                    self.ended.remove(&id);
                    self.open.insert(id, bytes);
                }
                AgentChange::End(id, bytes) => {
                    self.open.remove(&id);
                    self.ended.insert(id, bytes);
                }
                AgentChange::Forget(id) => drop(self.ended.remove(&id)),
                AgentChange::Forgotten(ms) => self.forgotten_ms = ms,
            }
        }
    }
}
