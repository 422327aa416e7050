//! Which batch brought each row: while rows are hot as stretches of seqs, in a sealed file as numbers.
//!
//! The batches of a file are numbered from 0 in the order of its holdings (see
//! [`crate::manifest::HoldingEntry`]) and of their seqs. So what an agent sent can be found again among
//! rows that stand by series and time, and both ends can prove that they hold the same.

use std::collections::HashMap;

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranks::Ranks;

use crate::manifest::HoldingEntry;

/// The number of a row whose batch is not among those of its file; there should be none.
const UNKNOWN: u32 = u32::MAX;

/// Epochs of agents by numbers that are good for one table.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    numbers: HashMap<AgentId, Vec<(Epoch, u32)>>,
    count: u32,
}

impl Origins {
    /// The number of an epoch, which is made when it is new.
    pub fn number(&mut self, agent: &AgentId, epoch: Epoch) -> u32 {
        if let Some(known) = self.find(agent, epoch) {
            return known;
        }
        let number = self.count;
        self.count += 1;
        self.numbers.entry(agent.clone()).or_default().push((epoch, number));
        number
    }

    /// The number of an epoch.
    #[must_use]
    pub fn find(&self, agent: &AgentId, epoch: Epoch) -> Option<u32> {
        let epochs = self.numbers.get(agent)?;
        epochs.iter().find_map(|(known, number)| (*known == epoch).then_some(*number))
    }
}

/// Seqs at equal distances, each with as many rows of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    origin: u32,
    rows_each: u32,
    first: u64,
    step: u64,
    seqs: u64,
}

/// Where the rows of a series come from, in their order. Readings that come at a steady pace take no
/// room here, whatever their number.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    stretches: Vec<Stretch>,
}

impl Trail {
    /// Adds so many rows of a seq.
    pub fn add(&mut self, origin: u32, seq: u64, rows: u32) {
        if rows == 0 {
            return;
        }
        if let Some(last) = self.stretches.last_mut()
            && (last.origin, last.rows_each) == (origin, rows)
            && seq > last.first
        {
            if last.seqs == 1 {
                (last.step, last.seqs) = (seq - last.first, 2);
                return;
            }
            if last.step.checked_mul(last.seqs).and_then(|far| last.first.checked_add(far)) == Some(seq) {
                last.seqs += 1;
                return;
            }
        }
        if self.stretches.is_empty() {
            // Most series of a hub with many have one.
            self.stretches.reserve_exact(1);
        }
        self.stretches.push(Stretch { origin, rows_each: rows, first: seq, step: 0, seqs: 1 });
    }

    /// The number of the batch of each row.
    #[must_use]
    pub fn numbers(&self, batches: &BatchesOf<'_>) -> Vec<u32> {
        let mut out = Vec::new();
        for Stretch { origin, rows_each, first, step, seqs } in &self.stretches {
            let seq = |n: u64| first + n * step;
            let (lo, hi) =
                (batches.number(*origin, *first), batches.number(*origin, seq(seqs.saturating_sub(1))));
            // Of seqs without a hole the numbers are as far apart as they are.
            let steady = lo != UNKNOWN
                && hi != UNKNOWN
                && u64::from(hi.wrapping_sub(lo)) == seq(seqs.saturating_sub(1)) - first;
            let mut number = lo;
            for n in 0..*seqs {
                if !steady {
                    number = batches.number(*origin, seq(n));
                }
                out.extend(std::iter::repeat_n(number, *rows_each as usize));
                number = number.wrapping_add(u32::try_from(*step).unwrap_or(u32::MAX));
            }
        }
        out
    }

    /// The origin, the seq and the rows of each batch; one that came in turns with others more than once.
    pub fn each(&self, mut visit: impl FnMut(u32, u64, u32)) {
        for Stretch { origin, rows_each, first, step, seqs } in &self.stretches {
            (0..*seqs).for_each(|n| visit(*origin, first + n * step, *rows_each));
        }
    }

    /// The origin and the seq of each row.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.stretches.iter().flat_map(|stretch| {
            let Stretch { origin, rows_each, first, step, seqs } = *stretch;
            (0..seqs).flat_map(move |n| std::iter::repeat_n((origin, first + n * step), rows_each as usize))
        })
    }
}

/// The batches of a file and their numbers.
#[derive(Debug, Default)]
pub struct Batches {
    holdings: Vec<Holding>,
}

#[derive(Debug)]
struct Holding {
    agent: AgentId,
    epoch: Epoch,
    seqs: Ranks,
    // The number of the first.
    base: u64,
}

impl Batches {
    /// Of the holdings of a file.
    #[must_use]
    pub fn new(holdings: &[HoldingEntry]) -> Self {
        let mut base = 0;
        let holdings = holdings.iter().map(|entry| {
            let (agent, epoch, seqs, _) = entry.parts();
            let holding = Holding { agent: agent.clone(), epoch, seqs: Ranks::new(&seqs), base };
            base += holding.seqs.len();
            holding
        });
        Self { holdings: holdings.collect() }
    }

    /// The same by the numbers that a table has for the epochs.
    #[must_use]
    pub fn of(&self, origins: &Origins) -> BatchesOf<'_> {
        let mut holdings: Vec<Option<&Holding>> = vec![None; origins.count as usize];
        for holding in &self.holdings {
            let at = origins.find(&holding.agent, holding.epoch).and_then(|at| usize::try_from(at).ok());
            if let Some(slot) = at.and_then(|at| holdings.get_mut(at)) {
                *slot = Some(holding);
            }
        }
        BatchesOf { holdings }
    }

    /// How the numbers of these are those of `all`, which has these among others.
    #[must_use]
    pub fn renumbered(&self, all: &Self) -> Renumbering {
        let mut stretches = Vec::new();
        let by_epoch: HashMap<_, _> =
            all.holdings.iter().map(|holding| ((&holding.agent, holding.epoch), holding)).collect();
        for holding in &self.holdings {
            let Some(there) = by_epoch.get(&(&holding.agent, holding.epoch)) else { continue };
            let mut here = holding.base;
            for (lo, hi) in holding.seqs.ranges() {
                let len = hi - lo + 1;
                // A range here is within one range there.
                if let Some(place) = there.seqs.place(lo)
                    && let (Ok(first), Ok(last)) = (u32::try_from(here), u32::try_from(here + len - 1))
                    && let Ok(to) = u32::try_from(there.base + place)
                {
                    stretches.push((first, last, to));
                }
                here += len;
            }
        }
        Renumbering { stretches, at: 0 }
    }

    /// The agent, the epoch and the seq of a number.
    #[must_use]
    pub fn find(&self, number: u32) -> Option<(&AgentId, Epoch, u64)> {
        let number = u64::from(number);
        let at = self.holdings.partition_point(|holding| holding.base <= number).checked_sub(1)?;
        let holding = self.holdings.get(at)?;
        Some((&holding.agent, holding.epoch, holding.seqs.value(number - holding.base)?))
    }
}

/// Numbers of one file as those of another, which holds all batches of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renumbering {
    // First and last number here, first number there; ascending.
    stretches: Vec<(u32, u32, u32)>,
    at: usize,
}

impl Renumbering {
    /// The number there; rows that stand together mostly come from batches that do.
    pub fn number(&mut self, here: u32) -> u32 {
        let within = |stretch: &&(u32, u32, u32)| (stretch.0..=stretch.1).contains(&here);
        let found = match self.stretches.get(self.at).filter(within) {
            Some(stretch) => Some(stretch),
            None => {
                self.at = self.stretches.partition_point(|stretch| stretch.1 < here);
                self.stretches.get(self.at).filter(within)
            }
        };
        found.map_or(UNKNOWN, |(first, _, there)| there.wrapping_add(here - first))
    }
}

/// The batches of a file by the epoch numbers of a table.
#[derive(Debug)]
pub struct BatchesOf<'a> {
    holdings: Vec<Option<&'a Holding>>,
}

impl BatchesOf<'_> {
    /// The number of a batch.
    #[must_use]
    pub fn number(&self, origin: u32, seq: u64) -> u32 {
        let holding = usize::try_from(origin).ok().and_then(|at| self.holdings.get(at).copied().flatten());
        let number = holding.and_then(|holding| Some(holding.base + holding.seqs.place(seq)?));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use tideline_protocol::ranges::RangeSet;

    use super::*;
    use crate::log::Holding;

    #[test]
    fn a_trail_says_what_was_added() {
        let mut trail = Trail::default();
        let steady = (1..=500).map(|seq| (0, seq * 2, 3));
        let odd = [(0, 1_001, 3), (1, 1_002, 3), (1, 1_003, 3), (1, 7, 1), (1, 7, 1), (1, 3, 2), (1, 4, 0)];
        let all: Vec<(u32, u64, u32)> = steady.chain(odd).collect();
        all.iter().for_each(|(origin, seq, rows)| trail.add(*origin, *seq, *rows));
        let expected: Vec<(u32, u64)> = all
            .iter()
            .flat_map(|(origin, seq, rows)| std::iter::repeat_n((*origin, *seq), *rows as usize))
            .collect();
        assert_eq!(trail.rows().collect::<Vec<_>>(), expected);
        assert_eq!(trail.stretches.len(), 6, "{:?}", trail.stretches);
    }

    #[test]
    fn numbers_lead_back_to_their_batches() {
        let agent = |name| AgentId::parse(name).unwrap();
        let epoch = |n| Epoch::from_bytes([n; 16]);
        let mut seqs = RangeSet::of(3, 5);
        seqs.insert(9, 9);
        let holding = |name, n, seqs: &RangeSet| {
            HoldingEntry::from(&Holding { agent: agent(name), epoch: epoch(n), seqs: seqs.clone(), rows: 1 })
        };
        let batches = Batches::new(&[holding("a", 1, &seqs), holding("a", 2, &RangeSet::of(1, 2))]);
        let mut origins = Origins::default();
        assert_eq!(origins.number(&agent("a"), epoch(2)), 0);
        assert_eq!(origins.number(&agent("b"), epoch(1)), 1);
        assert_eq!(origins.number(&agent("a"), epoch(1)), 2);
        let of = batches.of(&origins);
        assert_eq!((of.number(2, 3), of.number(2, 9), of.number(0, 1), of.number(0, 2)), (0, 3, 4, 5));
        assert_eq!([of.number(2, 6), of.number(1, 3), of.number(9, 3)], [UNKNOWN; 3]);
        let mut trail = Trail::default();
        for (origin, seq, rows) in
            [(2, 3, 2), (2, 4, 2), (2, 5, 2), (2, 9, 2), (1, 3, 1), (0, 2, 1), (2, 6, 1), (2, 7, 1)]
        {
            trail.add(origin, seq, rows);
        }
        let each: Vec<u32> = trail.rows().map(|(origin, seq)| of.number(origin, seq)).collect();
        assert_eq!(trail.numbers(&of), each);
        assert_eq!(each, [0, 0, 1, 1, 2, 2, 3, 3, UNKNOWN, 5, UNKNOWN, UNKNOWN]);
        for (number, seq) in [(0, 3), (2, 5), (3, 9)] {
            assert_eq!(batches.find(number), Some((&agent("a"), epoch(1), seq)));
        }
        assert_eq!(batches.find(5), Some((&agent("a"), epoch(2), 2)));
        assert_eq!((batches.find(6), batches.find(UNKNOWN)), (None, None));
    }
}
