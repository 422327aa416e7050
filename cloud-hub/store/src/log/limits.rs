//! How much the ledgers take of one agent, and of all.

use std::collections::BTreeMap;

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;

use super::ledger::{EpochState, Ledgers};

/// Most epochs of one agent: a spool that is made anew each week for twenty years.
pub const EPOCHS_PER_AGENT_MAX: usize = 1024;
/// Most dictionary entries of one agent, of the epoch that it is with.
pub const SERIES_PER_AGENT_MAX: usize = 250_000;
/// Most dictionary entries of all agents, of the epochs that they are with: at about 30 bytes each, 60 MB.
pub const DEFINITIONS_MAX: usize = 2_000_000;
/// Most dictionary entries with those of epochs whose spools are gone, which what they brought is still told by: 180 MB.
pub const DEFINITIONS_HELD_MAX: usize = 6_000_000;
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
        self.over((SERIES_PER_AGENT_MAX, DEFINITIONS_MAX, DEFINITIONS_HELD_MAX), agent, more)
    }

    /// The same with other limits: of one agent, of all, and of all with what is no more in use.
    fn over(
        &self,
        (own_max, all_max, held_max): (usize, usize, usize),
        agent: &AgentId,
        more: usize,
    ) -> Option<String> {
        let count = |epochs: &BTreeMap<Epoch, EpochState>| {
            epochs.values().map(|state| state.dictionary.len()).sum::<usize>()
        };
        // An agent whose spool is made anew begins its dictionary anew: the one before is nobody's any more.
        let in_use = |epochs: &BTreeMap<Epoch, EpochState>| {
            let newest = epochs.values().map(|state| state.opened).max().unwrap_or(0);
            let current = epochs.values().filter(|state| state.opened == newest);
            current.map(|state| state.dictionary.len()).sum::<usize>()
        };
        let own = self.agents.get(agent).map_or(0, in_use);
        let all: usize = self.agents.values().map(in_use).sum();
        let held: usize = self.agents.values().map(count).sum();
        for (who, found, max) in [
            (format!("agent {agent}"), own, own_max),
            ("this hub".to_owned(), all, all_max),
            ("this hub, with what agents had before they began anew,".to_owned(), held, held_max),
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

#[cfg(test)]
mod tests {
    use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
    use tideline_protocol::wire::Series;

    use super::*;

    fn define(ledgers: &mut Ledgers, agent: &AgentId, epoch: u8, points: u32) {
        let def = |no: u32| {
            let point = PointId::parse(&format!("point-{no}")).unwrap();
            SeriesDef::new(DeviceId::parse("pump-7").unwrap(), point, String::new())
        };
        let epoch = Epoch::from_bytes([epoch; 16]);
        ledgers.go_on(agent, epoch, &[], None);
        let known =
            ledgers.epoch(agent, epoch).map_or(0, |state| u32::try_from(state.dictionary.len()).unwrap());
        let defs = (known..known + points).map(def).collect();
        ledgers.epoch_mut(agent, epoch).define(&Series { first: known, defs });
    }

    #[test]
    fn definitions_of_spools_that_are_gone_count_for_no_agent() {
        let (a, b) = (AgentId::parse("a").unwrap(), AgentId::parse("b").unwrap());
        let mut ledgers = Ledgers::default();
        let over = |ledgers: &Ledgers, agent, more| ledgers.over((10, 15, 40), agent, more);
        define(&mut ledgers, &a, 1, 8);
        assert_eq!(over(&ledgers, &a, 2), None);
        let told = over(&ledgers, &a, 3).unwrap();
        assert_eq!(told, "agent a has 8 series definitions of at most 10");
        // Its spool is made anew, and again.
        for epoch in 2..5 {
            define(&mut ledgers, &a, epoch, 0);
            assert_eq!(over(&ledgers, &a, 10), None, "epoch {epoch}");
            define(&mut ledgers, &a, epoch, 8);
            assert!(over(&ledgers, &a, 3).is_some(), "epoch {epoch}");
        }
        assert_eq!(over(&ledgers, &b, 7), None);
        assert_eq!(over(&ledgers, &b, 8).unwrap(), "this hub has 8 series definitions of at most 15");
        // What they leave behind has a bound too.
        define(&mut ledgers, &a, 5, 0);
        assert_eq!(over(&ledgers, &a, 8), None);
        assert!(over(&ledgers, &a, 9).unwrap().starts_with("this hub, with what agents had before"));
        // A spool that comes back is in use again.
        define(&mut ledgers, &a, 1, 0);
        assert!(over(&ledgers, &a, 3).unwrap().starts_with("agent a has 8"));
    }
}
