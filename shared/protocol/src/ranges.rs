//! Sets of sequence numbers as inclusive ranges: what a hub has received, what is in flight.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

/// A set of `u64` kept as disjoint inclusive ranges that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    // First value of a range to its last.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: BTreeMap::new() }
    }

    /// The set of `lo..=hi`; empty when `lo > hi`.
    #[must_use]
    pub fn of(lo: u64, hi: u64) -> Self {
        let mut set = Self::new();
        set.insert(lo, hi);
        set
    }

    /// Adds `lo..=hi`; nothing when `lo > hi`.
    pub fn insert(&mut self, lo: u64, hi: u64) {
        if lo > hi {
            return;
        }
        let (mut first, mut last) = (lo, hi);
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end < first.saturating_sub(1) {
                break;
            }
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// Adds all of `other`.
    pub fn insert_set(&mut self, other: &Self) {
        other.iter().for_each(|(lo, hi)| self.insert(lo, hi));
    }

    /// Takes `lo..=hi` out.
    pub fn remove(&mut self, lo: u64, hi: u64) {
        if lo > hi {
            return;
        }
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(..=hi)
            .rev()
            .take_while(|(_, end)| **end >= lo)
            .map(|(s, e)| (*s, *e))
            .collect();
        for (start, end) in touched {
            self.ranges.remove(&start);
            if start < lo {
                self.ranges.insert(start, lo - 1);
            }
            if end > hi {
                self.ranges.insert(hi + 1, end);
            }
        }
    }

    /// Takes all of `other` out.
    pub fn remove_set(&mut self, other: &Self) {
        other.iter().for_each(|(lo, hi)| self.remove(lo, hi));
    }

    /// Whether it holds `value`.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        self.ranges.range(..=value).next_back().is_some_and(|(_, end)| *end >= value)
    }

    /// The part of `lo..=hi` that it holds.
    #[must_use]
    pub fn within(&self, lo: u64, hi: u64) -> Self {
        let mut out = Self::new();
        if lo <= hi {
            for (start, end) in self.ranges.range(..=hi).rev() {
                if *end < lo {
                    break;
                }
                out.ranges.insert((*start).max(lo), (*end).min(hi));
            }
        }
        out
    }

    /// The part of `lo..=hi` that it lacks.
    #[must_use]
    pub fn missing(&self, lo: u64, hi: u64) -> Self {
        let mut out = Self::of(lo, hi);
        out.remove_set(&self.within(lo, hi));
        out
    }

    /// What both hold.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut out = Self::new();
        for (lo, hi) in other.iter() {
            out.ranges.append(&mut self.within(lo, hi).ranges);
        }
        out
    }

    /// How many values of `lo..=hi` it holds.
    #[must_use]
    pub fn count_in(&self, lo: u64, hi: u64) -> u64 {
        self.within(lo, hi).len()
    }

    /// How many values it holds; saturates.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.iter().fold(0, |sum, (lo, hi)| sum.saturating_add((hi - lo).saturating_add(1)))
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges it is kept in.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The smallest value at or above `from` that it lacks.
    #[must_use]
    pub fn first_missing_from(&self, from: u64) -> u64 {
        match self.ranges.range(..=from).next_back() {
            Some((_, end)) if *end >= from => end.saturating_add(1),
            _ => from,
        }
    }

    /// Its smallest value.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(lo, _)| *lo)
    }

    /// Its largest value.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, end)| *end)
    }

    /// Its ranges in order, as (first, last).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(lo, hi)| (*lo, *hi))
    }
}

/// Most ranges of a set on the wire; a sender with more sends those it can and the rest later.
pub const WIRE_RANGES_MAX: usize = 65_536;

impl<C> Encode<C> for RangeSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        // Gaps and lengths instead of absolute values: most are one byte.
        e.array(self.ranges.len() as u64 * 2)?;
        let mut previous = 0_u64;
        for (lo, hi) in self.iter() {
            e.u64(lo.wrapping_sub(previous))?.u64(hi - lo)?;
            previous = hi;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for RangeSet {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bad = minicbor::decode::Error::message;
        let len = d.array()?.ok_or_else(|| bad("a range set has a definite length"))?;
        if len % 2 != 0 || len > WIRE_RANGES_MAX as u64 * 2 {
            return Err(bad("a range set has an even length within the limit"));
        }
        let mut set = Self::new();
        let mut previous = 0_u64;
        for i in 0..len / 2 {
            let lo = previous.checked_add(d.u64()?).ok_or_else(|| bad("a range overflows"))?;
            let hi = lo.checked_add(d.u64()?).ok_or_else(|| bad("a range overflows"))?;
            if i > 0 && lo < previous.saturating_add(2) {
                return Err(bad("the ranges of a set must not touch"));
            }
            set.ranges.insert(lo, hi);
            previous = hi;
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(actions in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 1..60)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (add, lo, len) in actions {
                let hi = lo + len;
                if add {
                    set.insert(lo, hi);
                    model.extend(lo..=hi);
                } else {
                    set.remove(lo, hi);
                    model.retain(|v| !(lo..=hi).contains(v));
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                for v in 0..80 {
                    prop_assert_eq!(set.contains(v), model.contains(&v));
                }
                let listed: Vec<_> = set.iter().collect();
                prop_assert!(listed.windows(2).all(|w| w[0].1 + 1 < w[1].0));
                prop_assert_eq!(set.missing(5, 40).len(), (5..=40).filter(|v| !model.contains(v)).count() as u64);
                let bytes = minicbor::to_vec(&set).unwrap();
                prop_assert_eq!(minicbor::decode::<RangeSet>(&bytes).unwrap(), set.clone());
            }
        }
    }
}
