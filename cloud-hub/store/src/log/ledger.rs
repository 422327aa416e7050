//! What became of every seq of every epoch, and the accounts that follow from it (INV-4).

use std::collections::BTreeMap;

use tideline_protocol::model::{
    Account, AgentId, Epoch, Gap, RowCounts, SERIES_PER_EPOCH_MAX, Seq, SeriesDef,
};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Report, Series, Settlement};

/// What a hub says to an agent that signs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentState {
    /// What became of the seqs of the epoch.
    pub settled: Settlement,
    /// How many dictionary entries are known.
    pub series_known: u32,
}

/// The account of one epoch, in rows.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochLedger {
    /// The epoch.
    pub epoch: Epoch,
    /// Accepted by the agent: what it reported, or what is settled when that is more.
    pub produced: u64,
    /// Durable here.
    pub stored: u64,
    /// Held by the agent as it last reported, less what arrived since.
    pub pending: u64,
    /// Given up by the agent.
    pub dropped: u64,
    /// Kept as dead letters.
    pub refused: u64,
    /// Rows that came again and were ignored.
    pub duplicates: u64,
    /// Stored once, lost with a damaged file, and not refilled so far.
    pub lost: u64,
    /// What was given up.
    pub gaps: Vec<Gap>,
    /// The agent's own last account.
    pub reported: Option<Account>,
    /// Whether produced = stored + pending + dropped + refused + lost.
    pub balanced: bool,
}

/// The seqs of one epoch that a sealed file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub agent: AgentId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Which seqs.
    pub seqs: RangeSet,
    /// Their rows.
    pub rows: u64,
}

/// All that is known of one epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpochState {
    pub(crate) settled: Settlement,
    pub(crate) stored_rows: u64,
    pub(crate) dropped_rows: u64,
    pub(crate) refused_rows: u64,
    pub(crate) duplicate_rows: u64,
    pub(crate) lost: RangeSet,
    pub(crate) lost_rows: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) dictionary: Vec<SeriesDef>,
    pub(crate) reported: Option<Report>,
    // Stored since the last cut: what the next sealed file will hold.
    pub(crate) since_cut: RangeSet,
    pub(crate) since_cut_rows: u64,
}

impl EpochState {
    /// What became of the seqs.
    #[must_use]
    pub const fn settled(&self) -> &Settlement {
        &self.settled
    }

    /// The series of the epoch, by number.
    #[must_use]
    pub fn dictionary(&self) -> &[SeriesDef] {
        &self.dictionary
    }

    /// The rows of a run of which `taken` was stored.
    pub(crate) fn store(&mut self, first: Seq, rows: &RowCounts, taken: &RangeSet) {
        let stored = rows.total_in(first, taken);
        self.settled.stored.insert_set(taken);
        self.stored_rows += stored;
        self.duplicate_rows += rows.total().saturating_sub(stored);
        self.since_cut.insert_set(taken);
        self.since_cut_rows += stored;
        self.found_again(first, rows, taken);
    }

    fn found_again(&mut self, first: Seq, rows: &RowCounts, seqs: &RangeSet) {
        if self.lost.is_empty() {
            return;
        }
        let found = self.lost.intersect(seqs);
        self.lost_rows = self.lost_rows.saturating_sub(rows.total_in(first, &found));
        self.lost.remove_set(&found);
        if self.lost.is_empty() {
            self.lost_rows = 0;
        }
    }

    pub(crate) fn define(&mut self, fresh: &Series) -> u32 {
        self.dictionary.extend(fresh.defs.iter().cloned());
        u32::try_from(self.dictionary.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn give_up(&mut self, gap: &Gap, dropped: &RangeSet) {
        self.settled.dropped.insert_set(dropped);
        self.dropped_rows += gap.rows.total_in(gap.first, dropped);
        self.found_again(gap.first, &gap.rows, dropped);
        for (lo, hi) in dropped.iter() {
            let part = part_of(gap, lo, hi);
            match self.gaps.last_mut() {
                Some(last) if last.cause == part.cause && last.last().next() == part.first => {
                    join(last, &part)
                }
                _ => self.gaps.push(part),
            }
        }
    }

    pub(crate) fn refuse(&mut self, seqs: &RangeSet, rows: u64) {
        self.settled.stored.remove_set(seqs);
        self.settled.refused.insert_set(seqs);
        self.stored_rows = self.stored_rows.saturating_sub(rows);
        self.refused_rows += rows;
        if !self.since_cut.intersect(seqs).is_empty() {
            self.since_cut.remove_set(seqs);
            self.since_cut_rows = self.since_cut_rows.saturating_sub(rows);
        }
    }

    /// A file with these seqs was lost: they are wanted again from the agent.
    pub(crate) fn lose(&mut self, seqs: &RangeSet, rows: u64) {
        let gone = self.settled.stored.intersect(seqs);
        let rows = if gone.is_empty() { 0 } else { rows.min(self.stored_rows) };
        self.settled.stored.remove_set(&gone);
        self.stored_rows -= rows;
        self.lost.insert_set(&gone);
        self.lost_rows += rows;
    }

    fn ledger(&self, epoch: Epoch) -> EpochLedger {
        let reported = self.reported.map(|report| report.account);
        let settled = self.stored_rows + self.dropped_rows + self.refused_rows + self.lost_rows;
        let produced = settled.max(reported.map_or(0, |account| account.produced));
        // Rows that came after the report are pending in it; they must not be counted twice.
        let pending = reported.map_or(0, |account| account.pending).min(produced - settled);
        EpochLedger {
            epoch,
            produced,
            stored: self.stored_rows,
            pending,
            dropped: self.dropped_rows,
            refused: self.refused_rows,
            duplicates: self.duplicate_rows,
            lost: self.lost_rows,
            gaps: self.gaps.clone(),
            reported,
            balanced: settled + pending == produced,
        }
    }
}

fn part_of(gap: &Gap, lo: u64, hi: u64) -> Gap {
    if (lo, hi) == (gap.first.get(), gap.last().get()) {
        return gap.clone();
    }
    let mut rows = RowCounts::default();
    for (seq, each) in (gap.first.get()..).zip(gap.rows.iter()) {
        if (lo..=hi).contains(&seq) {
            rows.push(each);
        }
    }
    Gap { first: Seq::new(lo), rows, ..*gap }
}

fn join(gap: &mut Gap, next: &Gap) {
    next.rows.iter().for_each(|rows| gap.rows.push(rows));
    gap.from_ns = gap.from_ns.min(next.from_ns);
    gap.to_ns = gap.to_ns.max(next.to_ns);
}

/// The entries of `series` that `known` lacks, or what does not fit.
pub fn fresh_entries(known: &[SeriesDef], series: &Series) -> Result<Option<Series>, String> {
    let first = series.first as usize;
    if first > known.len() {
        return Err(format!("the entries begin at {first}, but only {} are known before them", known.len()));
    }
    if first.saturating_add(series.defs.len()) > SERIES_PER_EPOCH_MAX as usize {
        return Err(format!("an epoch has at most {SERIES_PER_EPOCH_MAX} series"));
    }
    let overlap = known.get(first..).unwrap_or(&[]);
    if let Some(at) = overlap.iter().zip(&series.defs).position(|(old, new)| old != new) {
        return Err(format!("entry {} is already another series", first + at));
    }
    let fresh = series.defs.get(overlap.len()..).unwrap_or(&[]);
    let first = u32::try_from(known.len()).unwrap_or(u32::MAX);
    Ok((!fresh.is_empty()).then(|| Series { first, defs: fresh.to_vec() }))
}

/// The epochs of all agents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledgers {
    agents: BTreeMap<AgentId, BTreeMap<Epoch, EpochState>>,
}

impl Ledgers {
    /// What is known of an epoch.
    #[must_use]
    pub fn epoch(&self, agent: &AgentId, epoch: Epoch) -> Option<&EpochState> {
        self.agents.get(agent)?.get(&epoch)
    }

    pub(crate) fn epoch_mut(&mut self, agent: &AgentId, epoch: Epoch) -> &mut EpochState {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.clone(), BTreeMap::new());
        }
        self.agents.entry(agent.clone()).or_default().entry(epoch).or_default()
    }

    /// What a session is told.
    #[must_use]
    pub fn state(&self, agent: &AgentId, epoch: Epoch) -> AgentState {
        self.epoch(agent, epoch).map_or_else(AgentState::default, |state| AgentState {
            settled: state.settled.clone(),
            series_known: u32::try_from(state.dictionary.len()).unwrap_or(u32::MAX),
        })
    }

    /// The accounts of an agent, by epoch.
    #[must_use]
    pub fn ledger(&self, agent: &AgentId) -> Vec<EpochLedger> {
        self.agents.get(agent).into_iter().flatten().map(|(epoch, state)| state.ledger(*epoch)).collect()
    }

    /// All agents.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.agents.keys().cloned().collect()
    }

    /// Every epoch of every agent.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, Epoch, &EpochState)> {
        self.agents
            .iter()
            .flat_map(|(agent, epochs)| epochs.iter().map(move |(epoch, state)| (agent, *epoch, state)))
    }

    pub(crate) fn take_since_cut(&mut self) -> Vec<Holding> {
        let mut out = Vec::new();
        for (agent, epochs) in &mut self.agents {
            for (epoch, state) in epochs {
                let seqs = std::mem::take(&mut state.since_cut);
                let rows = std::mem::take(&mut state.since_cut_rows);
                if !seqs.is_empty() {
                    out.push(Holding { agent: agent.clone(), epoch: *epoch, seqs, rows });
                }
            }
        }
        out
    }
}
