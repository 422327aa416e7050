//! What operations on counters add, and how to add so that no engine goes beyond 64 bits.
//!
//! automerge keeps a counter as the number that it began with and all that was added since. It sums up what was added by itself, and adds
//! what is new to where the counter began, so that both may overflow where the counter does not: that panics where overflows are
//! checked. So additions are made while the counter and its parts are far from the ends ([`STEP_MAX`]); beyond, a replica begins its part
//! anew, in the place of the one that it had. Nobody else adds to that part, so that nothing is lost by it.

use std::collections::HashMap;

use automerge::legacy::{Op, OpId, OpType};
use automerge::{ExpandedChange, ScalarValue};

use crate::document::{Document, Held, op_id};
use crate::section::Section;

/// How far from zero a counter may stand before and after something is added to it: then what it began with, all that was added
/// and any part of that are no more than three times as much together.
const STEP_MAX: u64 = i64::MAX.unsigned_abs() / 3;

/// How a replica's part of a counter gets from where it stands to another number: by adding this, or if `None` by beginning anew.
pub(crate) fn step(from: i64, to: i64) -> Option<i64> {
    let is_near = from.unsigned_abs() <= STEP_MAX && to.unsigned_abs() <= STEP_MAX;
    if is_near { to.checked_sub(from) } else { None }
}

/// Reads off the operations of one change, in their order, what each adds.
pub(crate) struct Added<'a> {
    document: &'a Document,
    change: &'a ExpandedChange,
    /// Where counters stand that this change began.
    begun: HashMap<OpId, i128>,
    /// What it added to counters.
    more: HashMap<OpId, i128>,
}

impl<'a> Added<'a> {
    /// Of a change whose dependencies the document has.
    pub fn new(document: &'a Document, change: &'a ExpandedChange) -> Self {
        Self { document, change, begun: HashMap::new(), more: HashMap::new() }
    }

    /// What the operation at this place of the change adds; `None` for one that is of no counter.
    pub fn by(&mut self, at: u64, op: &Op, section: Section, flat: &str) -> Option<i128> {
        match &op.action {
            OpType::Increment(by) => {
                let by = i128::from(*by);
                for pred in op.pred.iter() {
                    *self.more.entry(pred.clone()).or_default() += by;
                }
                Some(by)
            }
            OpType::Put(ScalarValue::Counter(count)) => {
                let count = i128::from(i64::from(count));
                let before: i128 = op.pred.iter().map(|pred| self.stands(section, flat, pred)).sum();
                let counter = self.change.start_op.get().saturating_add(at);
                self.begun.insert(OpId::new(counter, &self.change.actor_id), count);
                Some(count - before)
            }
            _ => None,
        }
    }

    fn stands(&self, section: Section, flat: &str, begun: &OpId) -> i128 {
        let more = self.more.get(begun).copied().unwrap_or(0);
        let there = self.begun.get(begun).copied();
        let there =
            there.or_else(|| stands(self.document, self.change, section, flat, begun).map(i128::from));
        there.unwrap_or(0) + more
    }
}

/// Where a counter stood that the writer of a change has read.
pub(crate) fn stands(
    document: &Document,
    change: &ExpandedChange,
    section: Section,
    flat: &str,
    begun: &OpId,
) -> Option<i64> {
    let held = document.held(section, flat, Some(&change.deps));
    held.into_iter().find_map(|(held, id)| match held {
        Held::Count(count) if op_id(&id).as_ref() == Some(begun) => Some(count),
        _ => None,
    })
}
