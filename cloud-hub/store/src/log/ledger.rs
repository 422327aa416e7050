//! What became of every seq of every epoch, and the accounts that follow from it (INV-4).

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::check_invariant;
use tideline_protocol::invariants::Invariant;
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{Account, AgentId, DropCause, Epoch, Gap, RowCounts, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Report, Restamp, RunEnvelope, Series, Settlement};

use super::dictionary::{Dictionary, numbered};
use super::{gaps, restamps};

/// What a hub says to an agent that signs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentState {
    /// What became of the seqs of the epoch.
    pub settled: Settlement,
    /// How many dictionary entries are known.
    pub series_known: u32,
}

/// What a spool that signs on turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The one that is known, or a new one.
    Known(AgentState),
    /// A copy that gave out seqs from `at` on a second time; those before are the same.
    Parted {
        /// The first seq that means something else here.
        at: Seq,
        /// What is known of the epoch, seqs of the other copy among it.
        state: AgentState,
    },
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
    /// Of these, those that came as gaps, by cause; of the others only the agent's account tells.
    pub dropped_by: Vec<(DropCause, u64)>,
    /// Kept as dead letters.
    pub refused: u64,
    /// Rows that came again and were ignored. A statistic and no part of the balance: a run of which
    /// nothing was new writes nothing to the log, so a crash forgets those since the last flush.
    pub duplicates: u64,
    /// Stored once, lost with a damaged file or not in the backup that this hub was restored from, and
    /// not refilled so far; or held by a spool that is no
    /// more: the agent has begun a new epoch without them.
    pub lost: u64,
    /// What was given up.
    pub gaps: Vec<Gap>,
    /// Stored rows whose times were corrected: their agent did not know the time when it took them.
    pub restamped: u64,
    /// Stored rows whose times are wrong, and nobody knows by how much.
    pub uncertain: u64,
    /// The corrections, of those seqs that were stored.
    pub restamps: Vec<Restamp>,
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
    // Up to this seq dropped ones may stand among the stored ones: their agent knows all that it needs to.
    pub(crate) folded: Seq,
    pub(crate) stored_rows: u64,
    pub(crate) dropped_rows: u64,
    // Their causes: the listed gaps are bounded, these are all.
    pub(crate) dropped_by: Vec<(DropCause, u64)>,
    pub(crate) refused_rows: u64,
    pub(crate) duplicate_rows: u64,
    pub(crate) lost: RangeSet,
    pub(crate) lost_rows: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) restamps: Vec<Restamp>,
    pub(crate) restamped_rows: u64,
    pub(crate) uncertain_rows: u64,
    pub(crate) dictionary: Dictionary,
    // Numbers of entries that were others: the manifest may have those.
    pub(crate) renamed: BTreeSet<u32>,
    pub(crate) reported: Option<Report>,
    // The lives of the spool that brought the seqs, and the epoch that it went on from.
    pub(crate) lives: Vec<Life>,
    pub(crate) moved: Option<Moved>,
    // The life that reported: what another copy took along is not what this one held.
    pub(crate) reported_by: Option<u64>,
    // The agent is with the epoch that it opened last: the one with the greatest number.
    pub(crate) opened: u64,
    // Stored since the last cut: what the next sealed file will hold.
    pub(crate) since_cut: RangeSet,
    pub(crate) since_cut_rows: u64,
    // Stored between the last two cuts: what the file holds that is being sealed.
    pub(crate) cut: RangeSet,
    pub(crate) cut_rows: u64,
}

impl EpochState {
    /// What became of the seqs. Of those up to [`EpochState::folded`] dropped ones may stand among the stored
    /// ones, without rows.
    #[must_use]
    pub const fn settled(&self) -> &Settlement {
        &self.settled
    }

    /// Up to which seq dropped ones are no longer told from stored ones.
    #[must_use]
    pub const fn folded(&self) -> Seq {
        self.folded
    }

    /// What the agent knows of its seqs up to `known` it is told no more: they become one range. Those that
    /// are missing here it does not have either, but for what was lost: a session that began before the
    /// loss does not know of it.
    fn fold(&mut self, known: Seq) {
        if known <= self.folded && self.settled.dropped.within(1, known.get()).is_empty() {
            return;
        }
        self.settled.fold(known);
        let mut holes = self.settled.all().missing(1, known.get());
        holes.remove_set(&self.lost);
        self.settled.stored.insert_set(&holes);
        self.folded = self.folded.max(known);
    }

    /// The rows of the seqs that are stored.
    #[must_use]
    pub const fn stored_rows(&self) -> u64 {
        self.stored_rows
    }

    /// The series of the epoch, by number.
    #[must_use]
    pub const fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// A run of which `taken` was stored.
    pub(crate) fn store(&mut self, run: &RunEnvelope, taken: &RangeSet) {
        // Before what was lost is found again.
        restamps::note(self, run, taken);
        self.take(run.first, &run.rows, taken);
    }

    fn take(&mut self, first: Seq, rows: &RowCounts, taken: &RangeSet) {
        let stored = rows.total_in(first, taken);
        let twice = self.settled.stored.intersect(taken);
        check_invariant!(Invariant::StoredOnce, twice.is_empty(), "stored a second time: {twice:?}");
        self.settled.stored.insert_set(taken);
        self.stored_rows = self.stored_rows.saturating_add(stored);
        self.duplicate_rows = self.duplicate_rows.saturating_add(rows.total().saturating_sub(stored));
        self.since_cut.insert_set(taken);
        self.since_cut_rows = self.since_cut_rows.saturating_add(stored);
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
        self.dictionary.extend(&fresh.defs);
        u32::try_from(self.dictionary.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn rename(&mut self, series: &[Series]) {
        self.dictionary.replace(&numbered(series));
        self.renamed.extend(series.iter().flat_map(|run| (run.first..).zip(&run.defs).map(|(no, _)| no)));
    }

    pub(crate) fn give_up(&mut self, gap: &Gap, dropped: &RangeSet) {
        self.settled.dropped.insert_set(dropped);
        let rows = gap.rows.total_in(gap.first, dropped);
        self.dropped_rows = self.dropped_rows.saturating_add(rows);
        gaps::count(&mut self.dropped_by, gap.cause, rows);
        self.found_again(gap.first, &gap.rows, dropped);
        gaps::list(&mut self.gaps, gap, dropped);
    }

    pub(crate) fn refuse(&mut self, seqs: &RangeSet, rows: u64) {
        self.settled.stored.remove_set(seqs);
        self.settled.refused.insert_set(seqs);
        self.stored_rows = self.stored_rows.saturating_sub(rows);
        self.refused_rows = self.refused_rows.saturating_add(rows);
        // A run is on one side of a cut as a whole.
        for (held, held_rows) in
            [(&mut self.since_cut, &mut self.since_cut_rows), (&mut self.cut, &mut self.cut_rows)]
        {
            if !held.intersect(seqs).is_empty() {
                held.remove_set(seqs);
                *held_rows = held_rows.saturating_sub(rows);
            }
        }
    }

    /// Those of a dead letter's seqs that can be stored: what is stored already, or was given up, is not
    /// theirs to change.
    pub(crate) fn revivable(&self, seqs: &RangeSet) -> RangeSet {
        let mut left = seqs.clone();
        left.remove_set(&self.settled.stored.intersect(seqs));
        left.remove_set(&self.settled.dropped.intersect(seqs));
        left
    }

    /// Seqs that were refused are stored after all.
    pub(crate) fn revive(&mut self, first: Seq, rows: &RowCounts, taken: &RangeSet) -> u64 {
        let refused = self.settled.refused.intersect(taken);
        self.refused_rows = self.refused_rows.saturating_sub(rows.total_in(first, &refused));
        self.settled.refused.remove_set(&refused);
        let (stored, duplicates) = (self.stored_rows, self.duplicate_rows);
        self.take(first, rows, taken);
        // The rest of its run never came a second time.
        self.duplicate_rows = duplicates;
        self.stored_rows.saturating_sub(stored)
    }

    /// A file with these seqs was lost: they are wanted again from the agent.
    pub(crate) fn lose(&mut self, seqs: &RangeSet, rows: u64) {
        let gone = self.settled.stored.intersect(seqs);
        let rows = if gone.is_empty() { 0 } else { rows.min(self.stored_rows) };
        self.settled.stored.remove_set(&gone);
        self.stored_rows -= rows;
        self.lost.insert_set(&gone);
        self.lost_rows = self.lost_rows.saturating_add(rows);
    }

    /// Of rows that the agent has settled and this hub lacks, how many it was told are here, and how
    /// many it gave up. A hub that was restored from a backup lacks what came after it, until the agent
    /// has sent again what it still holds.
    fn missing(&self, rows: u64) -> (u64, u64) {
        let Some(Report { account, .. }) = self.reported else { return (0, 0) };
        let here = [self.stored_rows, self.refused_rows, self.lost_rows].iter().sum::<u64>();
        let gone = account.stored.saturating_add(account.refused).saturating_sub(here).min(rows);
        (gone, account.dropped.saturating_sub(self.dropped_rows).min(rows - gone))
    }

    /// The account. Of an epoch that the agent has left nothing is pending any more: what it did not
    /// take along to the next one, `moved` rows, is lost.
    fn ledger(&self, epoch: Epoch, left: bool, moved: u64) -> EpochLedger {
        let reported = self.reported.map(|report| report.account);
        let known = [self.stored_rows, self.dropped_rows, self.refused_rows, self.lost_rows];
        let settled = known.iter().fold(0_u64, |sum, rows| sum.saturating_add(*rows));
        let mut produced = settled.max(reported.map_or(0, |account| account.produced));
        // Rows that came after the report are pending in it; they must not be counted twice.
        let mut pending = reported.map_or(0, |account| account.pending).min(produced - settled);
        let (gone, given_up) = self.missing(produced - settled - pending);
        let balanced = [pending, gone, given_up].iter().sum::<u64>() == produced - settled;
        let mut lost = self.lost_rows.saturating_add(gone);
        if left {
            let moved = moved.min(pending);
            produced -= moved;
            lost = lost.saturating_add(pending - moved);
            pending = 0;
        }
        EpochLedger {
            epoch,
            produced,
            stored: self.stored_rows,
            pending,
            dropped: self.dropped_rows.saturating_add(given_up),
            dropped_by: self.dropped_by.clone(),
            refused: self.refused_rows,
            duplicates: self.duplicate_rows,
            lost,
            gaps: self.gaps.clone(),
            restamped: self.restamped_rows,
            uncertain: self.uncertain_rows,
            restamps: self.restamps.clone(),
            reported,
            balanced,
        }
    }
}

/// The epochs of all agents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledgers {
    pub(super) agents: BTreeMap<AgentId, BTreeMap<Epoch, EpochState>>,
}

impl Ledgers {
    /// What is known of an epoch.
    #[must_use]
    pub fn epoch(&self, agent: &AgentId, epoch: Epoch) -> Option<&EpochState> {
        self.agents.get(agent)?.get(&epoch)
    }

    /// The dictionary of an epoch; who defines more of it lets go of this one before.
    pub(crate) fn dictionary(&self, agent: &AgentId, epoch: Epoch) -> Dictionary {
        self.epoch(agent, epoch).map(|state| state.dictionary.clone()).unwrap_or_default()
    }

    pub(crate) fn epoch_mut(&mut self, agent: &AgentId, epoch: Epoch) -> &mut EpochState {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.clone(), BTreeMap::new());
        }
        self.agents.entry(agent.clone()).or_default().entry(epoch).or_default()
    }

    /// The lives of all spools are uncertain: each is believed when it comes again. Gives the epochs that
    /// had some, in the order in which they were opened.
    pub(crate) fn forget_lives(&mut self) -> Vec<(AgentId, Epoch, Option<Moved>)> {
        let mut forgotten = Vec::new();
        for (agent, epochs) in &mut self.agents {
            for (epoch, state) in epochs.iter_mut().filter(|(_, state)| !state.lives.is_empty()) {
                state.lives.clear();
                forgotten.push((state.opened, (agent.clone(), *epoch, state.moved)));
            }
        }
        forgotten.sort_by_key(|(opened, _)| *opened);
        forgotten.into_iter().map(|(_, epoch)| epoch).collect()
    }

    /// Takes over an agent's own account of an epoch that it has opened.
    pub fn report(&mut self, agent: &AgentId, epoch: Epoch, report: Report) {
        if let Some(state) = self.agents.get_mut(agent).and_then(|epochs| epochs.get_mut(&epoch)) {
            state.fold(report.known.min(report.head));
            state.reported = Some(report);
            state.reported_by = state.lives.last().map(|life| life.id);
        }
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
        let Some(epochs) = self.agents.get(agent) else { return Vec::new() };
        let newest = epochs.values().map(|state| state.opened).max().unwrap_or(0);
        // Of a branch only, and only what the life that parted had reported itself.
        let mut moved: BTreeMap<Epoch, u64> = BTreeMap::new();
        for branch in epochs.values() {
            let Some(from) = branch.moved else { continue };
            let reported_by = epochs.get(&from.epoch).and_then(|state| state.reported_by);
            if reported_by.is_some() && branch.lives.first().map(|life| life.id) == reported_by {
                let rows = moved.entry(from.epoch).or_default();
                *rows = from.rows.max(*rows);
            }
        }
        let account = |(epoch, state): (&Epoch, &EpochState)| {
            state.ledger(*epoch, state.opened < newest, moved.get(epoch).copied().unwrap_or(0))
        };
        epochs.iter().map(account).collect()
    }

    /// Whether a session of this epoch would change nothing.
    pub(crate) fn goes_on(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        lives: &[Life],
        moved: Option<Moved>,
    ) -> bool {
        let Some(epochs) = self.agents.get(agent) else { return false };
        let newest = epochs.values().map(|state| state.opened).max().unwrap_or(0);
        epochs.get(&epoch).is_some_and(|state| {
            state.opened == newest && newest > 0 && state.lives == lives && state.moved == moved
        })
    }

    /// The agent goes on with this epoch and leaves the others.
    pub(crate) fn go_on(&mut self, agent: &AgentId, epoch: Epoch, lives: &[Life], moved: Option<Moved>) {
        let epochs = self.agents.get(agent);
        let newest = epochs.and_then(|epochs| epochs.values().map(|state| state.opened).max()).unwrap_or(0);
        let others = self.agents.get_mut(agent).into_iter().flatten().filter(|(other, _)| **other != epoch);
        others.for_each(|(_, left)| gaps::leave_newest(&mut left.gaps, gaps::PAIRS_PER_LEFT_EPOCH_MAX));
        let state = self.epoch_mut(agent, epoch);
        if state.opened < newest || newest == 0 {
            state.opened = newest.saturating_add(1);
        }
        state.lives = lives.to_vec();
        state.moved = moved;
    }

    /// Whether another copy of the spool has signed on since the one that speaks.
    #[must_use]
    pub fn is_replaced(&self, agent: &AgentId, epoch: Epoch, life: Option<u64>) -> bool {
        let newest = self.epoch(agent, epoch).and_then(|state| state.lives.last());
        matches!((newest, life), (Some(newest), Some(life)) if newest.id != life)
    }

    /// All agents.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.agents.keys().cloned().collect()
    }

    /// The epoch that an agent is with.
    #[must_use]
    pub fn newest_epoch(&self, agent: &AgentId) -> Option<Epoch> {
        let opened = self.agents.get(agent)?.iter().filter(|(_, state)| state.opened > 0);
        opened.max_by_key(|(_, state)| state.opened).map(|(epoch, _)| *epoch)
    }

    /// Every epoch of every agent.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, Epoch, &EpochState)> {
        self.agents
            .iter()
            .flat_map(|(agent, epochs)| epochs.iter().map(move |(epoch, state)| (agent, *epoch, state)))
    }

    pub(crate) fn cut(&mut self) {
        for state in self.agents.values_mut().flat_map(BTreeMap::values_mut) {
            state.cut = std::mem::take(&mut state.since_cut);
            state.cut_rows = std::mem::take(&mut state.since_cut_rows);
        }
    }

    /// What was stored between the last two cuts and not refused since.
    #[must_use]
    pub fn cut_holdings(&self) -> Vec<Holding> {
        let held = self.iter().filter(|(_, _, state)| !state.cut.is_empty());
        held.map(|(agent, epoch, state)| Holding {
            agent: agent.clone(),
            epoch,
            seqs: state.cut.clone(),
            rows: state.cut_rows,
        })
        .collect()
    }
}
