//! The rows of consecutive batches, counted without holding a number for each.

use minicbor::{Decode, Encode};

use crate::model::Seq;
use crate::ranges::RangeSet;

/// Rows per batch over consecutive seqs, run-length coded: (number of seqs, rows of each).
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct RowCounts(#[n(0)] Vec<(u32, u32)>);

impl RowCounts {
    /// One seq with so many rows.
    #[must_use]
    pub fn one(rows: u32) -> Self {
        Self(vec![(1, rows)])
    }

    /// Adds the next seq.
    pub fn push(&mut self, rows: u32) {
        match self.0.last_mut() {
            Some((count, each)) if *each == rows && *count < u32::MAX => *count += 1,
            _ => self.0.push((1, rows)),
        }
    }

    /// Adds the seqs of `next`, in time that does not depend on how many they are.
    pub fn append(&mut self, next: &Self) {
        for (count, each) in &next.0 {
            match self.0.last_mut() {
                Some((more, rows)) if rows == each && more.checked_add(*count).is_some() => *more += count,
                _ => self.0.push((*count, *each)),
            }
        }
    }

    /// The counts of `count` seqs after the first `skip`, in time that does not depend on how many
    /// they are.
    #[must_use]
    pub fn part(&self, skip: u64, count: u64) -> Self {
        let (mut at, end) = (0_u64, skip.saturating_add(count));
        let mut part = Self::default();
        for (seqs, each) in &self.0 {
            let (from, to) = (at.max(skip), at.saturating_add(u64::from(*seqs)).min(end));
            at = at.saturating_add(u64::from(*seqs));
            // At most the `seqs` of this run, so it fits.
            if let Ok(within @ 1..) = u32::try_from(to.saturating_sub(from)) {
                part.append(&Self(vec![(within, *each)]));
            }
        }
        part
    }

    /// The runs: (number of seqs, rows of each).
    #[must_use]
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// The seqs that have rows, where the first of these counts is `first`'s.
    #[must_use]
    pub fn present(&self, first: Seq) -> RangeSet {
        let mut lo = first.get();
        let mut present = RangeSet::new();
        for (count, each) in &self.0 {
            let hi = lo.saturating_add(u64::from(*count)).saturating_sub(1);
            if *count > 0 && *each > 0 {
                present.insert(lo, hi);
            }
            lo = lo.saturating_add(u64::from(*count));
        }
        present
    }

    /// How many seqs.
    #[must_use]
    pub fn seqs(&self) -> u64 {
        self.0.iter().map(|(count, _)| u64::from(*count)).sum()
    }

    /// How many rows in all; saturates.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, (count, each)| sum.saturating_add(u64::from(*count) * u64::from(*each)))
    }

    /// The rows of each seq in turn.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(count, each)| std::iter::repeat_n(*each, *count as usize))
    }

    /// The rows of the seqs that `set` holds, where the first of these counts is `first`'s.
    #[must_use]
    pub fn total_in(&self, first: Seq, set: &RangeSet) -> u64 {
        let mut lo = first.get();
        let mut sum = 0_u64;
        for (count, each) in &self.0 {
            let hi = lo.saturating_add(u64::from(*count)).saturating_sub(1);
            if *count > 0 {
                sum = sum.saturating_add(set.count_in(lo, hi).saturating_mul(u64::from(*each)));
            }
            lo = hi.saturating_add(1);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_of_counts_are_those_of_the_plain_list(
            pairs in prop::collection::vec((0_u32..9, 0_u32..4), 0..8),
            skip in 0_u64..30,
            count in 0_u64..30,
        ) {
            let counts = RowCounts(pairs);
            let plain: Vec<u32> = counts.iter().collect();
            let wanted: Vec<u32> =
                plain.iter().copied().skip(usize::try_from(skip).unwrap()).take(usize::try_from(count).unwrap()).collect();
            let part = counts.part(skip, count);
            prop_assert_eq!(part.iter().collect::<Vec<_>>(), wanted.clone());
            let mut joined = part;
            joined.append(&counts);
            prop_assert_eq!(joined.iter().collect::<Vec<_>>(), [wanted, plain].concat());
            prop_assert_eq!(joined.seqs(), joined.iter().count() as u64);
        }
    }
}
