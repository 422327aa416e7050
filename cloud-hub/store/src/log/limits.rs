//! How much the ledgers take of one agent, and of all.

use std::collections::BTreeMap;

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;

use super::ledger::{EpochState, Ledgers};

/// Most epochs of one agent: a spool that is made anew each week for twenty years.
pub const EPOCHS_PER_AGENT_MAX: usize = 1024;
/// Most dictionary entries of one agent, over all its epochs.
pub const SERIES_PER_AGENT_MAX: usize = 250_000;
/// Most dictionary entries of all agents: at about 30 bytes each, 60 MB.
pub const DEFINITIONS_MAX: usize = 2_000_000;
/// Most ranges of seqs of one kind in one epoch; three sets of them fit into a welcome.
pub const RANGES_PER_EPOCH_MAX: usize = 16_384;

/// What becomes of seqs that an agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seqs {
    /// They are stored.
    Run,
    /// They are counted as dropped.
    Gap,
}

impl Ledgers {
    /// Why the agent may not begin this epoch, if so.
    pub(crate) fn refuses_epoch(&self, agent: &AgentId, epoch: Epoch) -> Option<String> {
        let epochs = self.agents.get(agent)?;
        let full = epochs.len() >= EPOCHS_PER_AGENT_MAX && !epochs.contains_key(&epoch);
        full.then(|| format!("agent {agent} has begun {EPOCHS_PER_AGENT_MAX} epochs, which is the limit"))
    }

    /// Why the agent may not define so many more series, if so.
    pub(crate) fn refuses_series(&self, agent: &AgentId, more: usize) -> Option<String> {
        let count = |epochs: &BTreeMap<Epoch, EpochState>| {
            epochs.values().map(|state| state.dictionary.len()).sum::<usize>()
        };
        let own = self.agents.get(agent).map_or(0, count);
        let all: usize = self.agents.values().map(count).sum();
        for (who, found, max) in [
            (format!("agent {agent}"), own, SERIES_PER_AGENT_MAX),
            ("this hub".to_owned(), all, DEFINITIONS_MAX),
        ] {
            if found.saturating_add(more) > max {
                return Some(format!("{who} has {found} series definitions of at most {max}"));
            }
        }
        None
    }

    /// Why a run or gap of these seqs is not taken, if so: what an epoch holds must stay few ranges,
    /// as they are sent in every welcome and kept in every checkpoint.
    pub(crate) fn refuses_seqs(
        &self,
        kind: Seqs,
        agent: &AgentId,
        epoch: Epoch,
        (lo, hi): (u64, u64),
    ) -> Option<String> {
        let settled = self.epoch(agent, epoch)?.settled();
        let touches = |set: &RangeSet| !set.within(lo.saturating_sub(1), hi.saturating_add(1)).is_empty();
        // A run may end among the dead letters.
        let (ranges, grows) = match kind {
            Seqs::Run => {
                let ranges = settled.stored.range_count() + settled.refused.range_count();
                (ranges, !touches(&settled.stored))
            }
            Seqs::Gap => (settled.dropped.range_count(), !touches(&settled.dropped)),
        };
        (grows && ranges >= RANGES_PER_EPOCH_MAX)
            .then(|| format!("seqs {lo} to {hi} lie apart from {RANGES_PER_EPOCH_MAX} ranges that are held"))
    }
}
