//! The place of each value in a set of sequence numbers.

use crate::ranges::RangeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    lo: u64,
    hi: u64,
    // How many values come before `lo`.
    before: u64,
}

/// A [`RangeSet`] as an ascending list that knows the place of each value in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranks {
    spans: Vec<Span>,
}

impl Ranks {
    /// Of all values of a set.
    #[must_use]
    pub fn new(set: &RangeSet) -> Self {
        let mut before = 0_u64;
        let spans = set.iter().map(|(lo, hi)| {
            let span = Span { lo, hi, before };
            before = before.saturating_add((hi - lo).saturating_add(1));
            span
        });
        Self { spans: spans.collect() }
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.before.saturating_add((span.hi - span.lo).saturating_add(1)))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The ranges of the set, ascending, both ends included.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.spans.iter().map(|span| (span.lo, span.hi))
    }

    /// How many values of the set come before this one; `None` when it is not in the set.
    #[must_use]
    pub fn place(&self, value: u64) -> Option<u64> {
        let span = self.spans.get(self.spans.partition_point(|span| span.hi < value))?;
        (span.lo <= value).then(|| span.before + (value - span.lo))
    }

    /// The value that so many others come before.
    #[must_use]
    pub fn value(&self, place: u64) -> Option<u64> {
        let at = self.spans.partition_point(|span| span.before <= place).checked_sub(1)?;
        let span = self.spans.get(at)?;
        let value = span.lo.checked_add(place - span.before)?;
        (value <= span.hi).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_a_sorted_list(ranges in prop::collection::vec((0_u64..200, 0_u64..20), 0..12)) {
            let mut set = RangeSet::new();
            ranges.iter().for_each(|(lo, len)| set.insert(*lo, lo + len));
            let all: Vec<u64> = set.iter().flat_map(|(lo, hi)| lo..=hi).collect();
            let ranks = Ranks::new(&set);
            prop_assert_eq!(ranks.len(), all.len() as u64);
            prop_assert_eq!(ranks.is_empty(), all.is_empty());
            prop_assert!(ranks.ranges().eq(set.iter()));
            for value in 0..240 {
                let expected = all.iter().position(|found| *found == value).map(|at| at as u64);
                prop_assert_eq!(ranks.place(value), expected);
                let at = usize::try_from(value).unwrap();
                prop_assert_eq!(ranks.value(value), all.get(at).copied());
            }
        }
    }
}
