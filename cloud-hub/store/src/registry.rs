//! Which series there are, and by which numbers agents call them.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_protocol::model::{AgentId, Epoch};

use crate::hot::SeriesId;
use crate::log::Dictionary;
use crate::names::{Age, Named, Names};

/// The series of a store.
#[derive(Debug, Default)]
pub struct Registry {
    names: Names,
    epochs: HashMap<AgentId, HashMap<Epoch, Arc<Vec<SeriesId>>>>,
    // Those that the manifest does not have as they are here, in the order in which they became so.
    unwritten: Vec<SeriesId>,
}

impl Registry {
    /// As the manifest has it.
    #[must_use]
    pub fn of(names: Names) -> Self {
        Self { names, ..Self::default() }
    }

    /// The series.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Makes the ids of the dictionary of an epoch known. What the newest one says of a series counts.
    pub fn learn(&mut self, (agent, epoch): (&AgentId, Epoch), dictionary: &Dictionary, age: Age) {
        let known = self.ids(agent, epoch);
        let mut ids = Vec::with_capacity(dictionary.len());
        ids.extend_from_slice(&known);
        for text in dictionary.entries_from(known.len()) {
            // A run that has a series behind one that is none becomes a dead letter.
            let Ok(named) = self.names.name(&text, age) else { break };
            let (Named::Known(id) | Named::Changed(id)) = named;
            if matches!(named, Named::Changed(_)) {
                self.unwritten.push(id);
            }
            ids.push(id);
        }
        self.epochs.entry(agent.clone()).or_default().insert(epoch, Arc::new(ids));
    }

    /// Takes what a dictionary says now of entries that are known.
    pub fn relearn(&mut self, (agent, epoch): (&AgentId, Epoch), dictionary: &Dictionary, first: usize) {
        let mut ids = self.ids(agent, epoch).as_ref().clone();
        ids.truncate(first);
        self.epochs.entry(agent.clone()).or_default().insert(epoch, Arc::new(ids));
        self.learn((agent, epoch), dictionary, Age::Newest);
    }

    /// The id of each series number of an epoch.
    #[must_use]
    pub fn ids(&self, agent: &AgentId, epoch: Epoch) -> Arc<Vec<SeriesId>> {
        self.epochs.get(agent).and_then(|epochs| epochs.get(&epoch)).cloned().unwrap_or_default()
    }

    /// Those that the manifest does not have as they are.
    #[must_use]
    pub fn unwritten(&self) -> &[SeriesId] {
        &self.unwritten
    }

    /// The manifest has the first of these now.
    pub fn written(&mut self, first: usize) {
        self.unwritten.drain(..first.min(self.unwritten.len()));
        self.unwritten.shrink_to(self.unwritten.len().saturating_mul(2));
    }

    /// The manifest may have something else of any of them.
    pub fn distrust(&mut self) {
        self.unwritten.extend((0..).zip(self.names.iter()).map(|(id, _)| id));
    }
}
