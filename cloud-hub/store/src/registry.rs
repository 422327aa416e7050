//! Which series there are, and by which numbers agents call them.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::wire::Series;

use crate::hot::SeriesId;
use crate::log::{Dictionary, numbered};
use crate::names::{Age, Named, Names};
use crate::revised::Revised;
use crate::store::LogPlace;

/// Which series an epoch calls by which numbers.
#[derive(Debug, Default)]
struct Numbers {
    ids: Arc<Vec<SeriesId>>,
    // What some of them were before, the oldest first.
    were: Vec<Former>,
}

/// Numbers that stood for other series in what the log has before a place.
#[derive(Debug)]
struct Former {
    until: LogPlace,
    ids: Vec<(usize, SeriesId)>,
}

impl Numbers {
    /// As they are for what ends at a place in the log.
    fn at(&self, place: LogPlace) -> Arc<Vec<SeriesId>> {
        let since = self.were.partition_point(|former| former.until <= place);
        let later = self.were.get(since..).unwrap_or(&[]);
        if later.is_empty() {
            return Arc::clone(&self.ids);
        }
        let mut ids = self.ids.as_ref().clone();
        for (no, id) in later.iter().rev().flat_map(|former| &former.ids) {
            if let Some(known) = ids.get_mut(*no) {
                *known = *id;
            }
        }
        Arc::new(ids)
    }
}

/// The series of a store.
#[derive(Debug, Default)]
pub struct Registry {
    names: Names,
    epochs: HashMap<AgentId, HashMap<Epoch, Numbers>>,
    revised: Arc<Revised>,
    // How often entries were renamed.
    renamings: u64,
    // Those that the manifest does not have as they are here, in the order in which they became so.
    unwritten: Vec<SeriesId>,
}

impl Registry {
    /// As the manifest has it; which series are revised is noted as their agents' dictionaries become known.
    #[must_use]
    pub fn of(names: Names, revised: Revised) -> Self {
        Self { names, revised: Arc::new(revised), ..Self::default() }
    }

    /// Which series are revised.
    #[must_use]
    pub fn revised(&self) -> Arc<Revised> {
        Arc::clone(&self.revised)
    }

    /// The series.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Makes the ids of the dictionary of an epoch known. What the newest one says of a series counts. Says whether series
    /// are revised from now on that were there before and were not.
    pub fn learn(&mut self, (agent, epoch): (&AgentId, Epoch), dictionary: &Dictionary, age: Age) -> bool {
        let before = self.names.len();
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
        let turned = self.revise(agent, &ids, before);
        self.numbers_mut(agent, epoch).ids = Arc::new(ids);
        turned
    }

    /// Notes which series of an agent are revised; says whether one of those that were there `before` was not.
    fn revise(&mut self, agent: &AgentId, ids: &[SeriesId], before: usize) -> bool {
        if !self.revised.is_by(agent) {
            return false;
        }
        let mut turned = self.revised.add(ids);
        turned.retain(|id| (*id as usize) < before);
        self.unwritten.extend(&turned);
        !turned.is_empty()
    }

    /// Has entries that are known be others for what the log has behind a place. What it has before stays what it was,
    /// whenever it is read.
    pub fn rename(&mut self, (agent, epoch): (&AgentId, Epoch), series: &[Series], place: LogPlace) {
        let mut ids = self.ids(agent, epoch).as_ref().clone();
        let mut were = Vec::new();
        for (no, text) in numbered(series) {
            // Of one that is not known here the dictionary tells what it is.
            let Some(known) = ids.get_mut(no) else { continue };
            let Ok(named) = self.names.name(&text, Age::Newest) else { continue };
            let (Named::Known(id) | Named::Changed(id)) = named;
            if matches!(named, Named::Changed(_)) {
                self.unwritten.push(id);
            }
            were.push((no, std::mem::replace(known, id)));
        }
        self.revise(agent, &ids, usize::MAX);
        self.renamings = self.renamings.wrapping_add(1);
        let numbers = self.numbers_mut(agent, epoch);
        numbers.ids = Arc::new(ids);
        numbers.were.push(Former { until: place, ids: were });
    }

    /// Nothing of the log before this segment is read any more.
    pub fn forget_before(&mut self, segment: u64) {
        for numbers in self.epochs.values_mut().flat_map(HashMap::values_mut) {
            numbers.were.retain(|former| former.until.segment >= segment);
        }
    }

    /// How often entries became others; with another number what was said of any epoch may be wrong.
    #[must_use]
    pub const fn renamings(&self) -> u64 {
        self.renamings
    }

    fn numbers(&self, agent: &AgentId, epoch: Epoch) -> Option<&Numbers> {
        self.epochs.get(agent)?.get(&epoch)
    }

    fn numbers_mut(&mut self, agent: &AgentId, epoch: Epoch) -> &mut Numbers {
        self.epochs.entry(agent.clone()).or_default().entry(epoch).or_default()
    }

    /// The id of each series number of an epoch.
    #[must_use]
    pub fn ids(&self, agent: &AgentId, epoch: Epoch) -> Arc<Vec<SeriesId>> {
        self.numbers(agent, epoch).map(|numbers| Arc::clone(&numbers.ids)).unwrap_or_default()
    }

    /// The same for a batch whose record in the log ends at a place.
    #[must_use]
    pub fn ids_at(&self, agent: &AgentId, epoch: Epoch, place: LogPlace) -> Arc<Vec<SeriesId>> {
        self.numbers(agent, epoch).map(|numbers| numbers.at(place)).unwrap_or_default()
    }

    /// All that the numbers of an epoch stand for in what can be read of the log.
    pub fn ever(&self, agent: &AgentId, epoch: Epoch) -> impl Iterator<Item = SeriesId> + '_ {
        let numbers = self.numbers(agent, epoch);
        let now = numbers.into_iter().flat_map(|numbers| numbers.ids.iter().copied());
        let before = numbers.into_iter().flat_map(|numbers| &numbers.were);
        now.chain(before.flat_map(|former| former.ids.iter().map(|(_, id)| *id)))
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
