//! When the readings of which times last changed, so that an answer can be kept for as long as it is true.
//!
//! Invariant: as long as [`History::stands`] says so of a range, every question about readings in it has the answer
//! that it had. The converse does not hold: hours are told apart and nothing finer, nor series.

use std::collections::BTreeMap;

use crate::buckets::HOUR_NS;

/// Hours that are told apart; when there are more, all that was answered before counts as changed.
const HOURS_MAX: usize = 4 * 1024;
/// Hours that one change may touch, to be told apart: a file of more is a change of everything.
const SPAN_MAX: i64 = 1024;

/// The changes since the store was opened.
#[derive(Debug, Default)]
pub struct History {
    changes: u64,
    // No answer of before this change is known to be true.
    floor: u64,
    // The last change of each hour since 1970 that changed after `floor`.
    hours: BTreeMap<i64, u64>,
}

impl History {
    /// How many changes there were.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Readings of `from..=to` have come or gone.
    pub fn note(&mut self, from_ns: i64, to_ns: i64) {
        self.changes += 1;
        let (from, to) = (from_ns.div_euclid(HOUR_NS), to_ns.div_euclid(HOUR_NS));
        let few = to.checked_sub(from).is_some_and(|hours| hours < SPAN_MAX);
        if few {
            self.hours.extend((from..=to).map(|hour| (hour, self.changes)));
        }
        if !few || self.hours.len() > HOURS_MAX {
            self.floor = self.changes;
            self.hours.clear();
        }
    }

    /// Whether no reading of `from..=to` has come or gone since there were so many changes.
    #[must_use]
    pub fn stands(&self, changes: u64, from_ns: i64, to_ns: i64) -> bool {
        if changes == self.changes {
            return true;
        }
        if changes < self.floor || from_ns > to_ns {
            return changes >= self.floor;
        }
        let hours = from_ns.div_euclid(HOUR_NS)..=to_ns.div_euclid(HOUR_NS);
        self.hours.range(hours).all(|(_, last)| *last <= changes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_elsewhere_changes_nothing() {
        let mut history = History::default();
        history.note(0, HOUR_NS);
        let before = history.changes();
        history.note(10 * HOUR_NS, 10 * HOUR_NS + 5);
        assert!(history.stands(before, 0, 10 * HOUR_NS - 1));
        assert!(!history.stands(before, 0, 10 * HOUR_NS));
        assert!(history.stands(before, 11 * HOUR_NS, i64::MAX));
        assert!(!history.stands(before, i64::MIN, i64::MAX));
        history.note(i64::MIN, i64::MAX);
        assert!(!history.stands(before, 0, 1));
        assert!(history.stands(history.changes(), 0, 1));
    }

    proptest! {
        #[test]
        fn nothing_stands_over_a_change_of_it(
            changes in prop::collection::vec((-9_000_i64..9_000, 0_i64..1_100), 1..60),
            asked in (-9_000_i64..9_000, 0_i64..2_000),
            at in 0_usize..60
        ) {
            let mut history = History::default();
            let (mut since, mut touched) = (0, false);
            let asked = (asked.0, asked.0 + asked.1);
            for (turn, (from, len)) in changes.iter().enumerate() {
                if turn == at {
                    (since, touched) = (history.changes(), false);
                }
                history.note(from * HOUR_NS, (from + len) * HOUR_NS);
                touched |= *from <= asked.1 && from + len >= asked.0;
                prop_assert!(history.hours.len() <= HOURS_MAX);
            }
            if touched {
                prop_assert!(!history.stands(since, asked.0 * HOUR_NS, asked.1 * HOUR_NS));
            }
        }
    }
}
