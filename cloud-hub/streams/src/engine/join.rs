//! The as-of join of two series.

use minicbor::{Decode, Encode};

use super::key::Need;
use super::sliding::is_sorted;
use crate::aggregate::{Row, insert};
use crate::check::{JoinPlan, unsigned_zero};
use crate::spec::{Combine, Direction};

/// The readings of both sides by (time, arrival).
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Join {
    /// Those that wait for the watermark.
    #[n(0)]
    left: Vec<Row>,
    /// Those that one of `left`, or one yet to come, may be paired with.
    #[n(1)]
    right: Vec<Row>,
    /// All left readings before this time have been paired.
    #[n(2)]
    paired_to: i64,
}

impl Default for Join {
    fn default() -> Self {
        Self { left: Vec::new(), right: Vec::new(), paired_to: i64::MIN }
    }
}

/// A left reading that is final.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub left: Row,
    pub right: Option<f64>,
}

impl JoinPlan {
    /// What the pair's value is; not finite where there is none.
    pub fn value(&self, left: f64, right: f64) -> f64 {
        unsigned_zero(match self.combine {
            Combine::Left => left,
            Combine::Right => right,
            Combine::Sum => left + right,
            Combine::Difference => left - right,
            Combine::Product => left * right,
            Combine::Ratio => left / right,
        })
    }

    /// Up to where left readings are final: no reading can come that would be a better match.
    const fn final_to(&self, watermark_ns: i64) -> i64 {
        match self.direction {
            Direction::Backward => watermark_ns,
            Direction::Nearest => watermark_ns.saturating_sub(self.tolerance_ns),
        }
    }

    fn matching(&self, right: &[Row], time_ns: i64) -> Option<f64> {
        let after = right.partition_point(|row| row.0 <= time_ns);
        let earlier = after.checked_sub(1).and_then(|at| right.get(at));
        let later = match self.direction {
            Direction::Backward => None,
            Direction::Nearest => right.get(after).and_then(|next| {
                // Of several with that time the last to arrive.
                let end = right.partition_point(|row| row.0 <= next.0);
                end.checked_sub(1).and_then(|at| right.get(at))
            }),
        };
        let near = |row: &&Row| row.0.abs_diff(time_ns) <= self.tolerance_ns.unsigned_abs();
        let both = earlier.into_iter().chain(later).filter(near);
        // Of two that are as near the first, which is the earlier.
        both.min_by_key(|row| row.0.abs_diff(time_ns)).map(|row| row.1)
    }
}

impl Join {
    pub fn insert(&mut self, row: Row, is_left: bool) {
        insert(if is_left { &mut self.left } else { &mut self.right }, row);
    }

    /// The left readings that have become final, in order, and from where to where they have.
    pub fn advance(&mut self, plan: &JoinPlan, watermark_ns: i64) -> (Vec<Pair>, (i64, i64)) {
        let from = self.paired_to;
        let to = plan.final_to(watermark_ns).max(from);
        let end = self.left.partition_point(|row| row.0 < to);
        let ready = self.left.drain(..end);
        let right = &self.right;
        let pairs = ready.map(|left| Pair { left, right: plan.matching(right, left.0) }).collect();
        let useless = to.saturating_sub(plan.tolerance_ns);
        let gone = self.right.partition_point(|row| row.0 < useless);
        self.right.drain(..gone);
        self.paired_to = to;
        (pairs, (from, to))
    }

    pub fn held(&self) -> Need {
        Need { cells: 0, rows: (self.left.len() + self.right.len()) as u64 }
    }

    /// Whether this can be a state.
    pub fn check(&self) -> bool {
        is_sorted(&self.left)
            && is_sorted(&self.right)
            && self.left.first().is_none_or(|row| row.0 >= self.paired_to)
    }
}
