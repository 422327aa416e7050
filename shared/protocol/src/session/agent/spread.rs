//! In how many ranges the hub keeps what became of the seqs: each stands in its memory, in its
//! checkpoints and in every welcome.

use crate::model::{Gap, Seq};
use crate::ranges::RangeSet;
use crate::session::{FOLDED_FROM, RANGES_AHEAD_MAX, RANGES_MAX};
use crate::wire::Settlement;

/// What may overtake older seqs. What does may make a range of its own, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// Alarms, states and fresh readings.
    All,
    /// Fresh readings, which follow each other; old readings and gaps go in the order of their seqs.
    Fresh,
    /// Fresh readings; of the others only what makes no range more goes at all, until the hub can fold some.
    Held,
}

/// What the hub has said of seqs, and what it will say of those on the way.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    at_hub: Settlement,
}

impl Spread {
    /// The hub's word.
    pub fn settled(&mut self, settlement: &Settlement) {
        self.at_hub.merge(settlement);
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
        if self.at_hub.dropped.range_count() > FOLDED_FROM { known } else { Seq::default() }
    }

    /// It was said. The hub folds what it can.
    pub fn reported(&mut self, known: Seq) {
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

    /// Whether a reading of this seq makes no range more.
    pub fn goes_on_with_reading(&self, seq: u64) -> bool {
        seq <= 1 || self.at_hub.stored.contains(seq - 1)
    }

    /// Whether a gap that begins with this seq makes no range more.
    pub fn goes_on_with_gap(&self, seq: u64) -> bool {
        seq <= 1 || self.at_hub.dropped.contains(seq - 1)
    }
}
