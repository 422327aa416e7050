//! In how many ranges the hub keeps what became of the seqs: each stands in its memory, in its
//! checkpoints and in every welcome.

use crate::model::{Gap, Seq};
use crate::ranges::RangeSet;
use crate::session::{FOLDED_FROM, RANGES_AHEAD_MAX, RANGES_MAX};
use crate::wire::Settlement;

/// Seqs behind those that are folded that may go while all others are held back.
const UNFOLDED_MAX: u64 = 512;

/// What may overtake older seqs. What does may make a range of its own, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// Alarms, states and fresh readings.
    All,
    /// Fresh readings, which follow each other; old readings and gaps go in the order of their seqs.
    Fresh,
    /// Only what makes no range more, and what is the oldest of all: that goes into one range with those
    /// before it as soon as the hub has folded them.
    Held,
}

/// What the hub has said of seqs, and what it will say of those on the way.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    at_hub: Settlement,
    // Up to here the hub was told to fold.
    folded: u64,
}

impl Spread {
    /// The hub's word.
    pub fn settled(&mut self, said: &Settlement) {
        // A run that was taken for stored may turn out to be a dead letter.
        for (own, others) in [
            (&mut self.at_hub.stored, [&said.refused, &said.dropped]),
            (&mut self.at_hub.refused, [&said.stored, &said.dropped]),
            (&mut self.at_hub.dropped, [&said.stored, &said.refused]),
        ] {
            others.into_iter().for_each(|other| own.remove_set(other));
        }
        self.at_hub.merge(said);
    }

    /// A run of these seqs went out.
    pub fn run(&mut self, seqs: &RangeSet) {
        self.at_hub.stored.insert_set(seqs);
    }

    /// A gap went out.
    pub fn gap(&mut self, gap: &Gap) {
        self.at_hub.dropped.insert(gap.first.get(), gap.last().get());
    }

    /// What there is to say of the seqs whose fate the agent knows, which end with `known`.
    pub fn report(&self, known: Seq) -> Seq {
        let many = self.at_hub.dropped.range_count() > FOLDED_FROM || self.ahead() != Ahead::All;
        if many { known } else { Seq::default() }
    }

    /// It was said, and the hub folds them.
    pub fn reported(&mut self, known: Seq) {
        self.folded = self.folded.max(known.get());
        self.at_hub.fold(known);
    }

    /// What may go ahead now.
    pub fn ahead(&self) -> Ahead {
        let Settlement { stored, refused, dropped } = &self.at_hub;
        let ranges = dropped.range_count().max(stored.range_count() + refused.range_count());
        if ranges < RANGES_AHEAD_MAX {
            Ahead::All
        } else if ranges < RANGES_MAX {
            Ahead::Fresh
        } else {
            Ahead::Held
        }
    }

    /// Whether what begins with `seq`, the oldest of all, may go: there is little that is not folded before it.
    pub const fn is_next(&self, seq: u64) -> bool {
        seq <= self.folded + UNFOLDED_MAX
    }

    /// How far of fresh readings from `lo` on those may go that make no range more.
    pub fn follows(&self, lo: u64) -> Option<u64> {
        self.at_hub.stored.contains(lo.saturating_sub(1)).then_some(lo.saturating_add(UNFOLDED_MAX))
    }

    /// How far the oldest readings of all may go, which begin with `lo`.
    pub fn oldest(&self, lo: u64) -> Option<u64> {
        self.is_next(lo).then_some(self.folded + UNFOLDED_MAX)
    }
}
