//! Appends that the storage failed at, and of which nobody knows whether they are in the spool: a
//! write may be there although its sync failed. They are whole in it or not at all, and which of
//! the two its account says once it is open again. Whoever tries again then must not double them.

use std::sync::Arc;

use tideline_protocol::model::Epoch;
use tideline_spool::Spool;

use super::appends::{Append, Portion};

/// An append is known by its portions: who tries again hands in the same ones.
type Portions = Vec<Arc<Portion>>;

#[derive(Debug)]
struct Doubt {
    epoch: Epoch,
    // Rows accepted before them, and how many they have.
    accepted: u64,
    rows: u64,
    appends: Vec<Portions>,
}

/// What is in doubt, and what was found in the spool when it was opened again.
#[derive(Debug, Default)]
pub struct Doubts {
    open: Option<Doubt>,
    landed: Vec<Portions>,
}

impl Doubts {
    /// The storage failed at these, when `accepted` rows were in the spool.
    pub fn failed(&mut self, epoch: Epoch, accepted: u64, group: &[Append]) {
        let appends = group.iter().map(|append| append.portions.clone()).collect();
        let rows = group.iter().map(Append::count).sum();
        self.open = Some(Doubt { epoch, accepted, rows, appends });
    }

    /// The spool was opened again.
    pub fn resolve(&mut self, spool: &Spool) {
        // What nobody else holds nobody will hand in again.
        self.landed.retain(|portions| portions.iter().any(|portion| Arc::strong_count(portion) > 1));
        let accepted = spool.accepted();
        let landed = self.open.take().filter(|doubt| {
            // Not all of their rows are there when the dictionary had no room for some.
            let more = accepted.saturating_sub(doubt.accepted);
            doubt.epoch == spool.epoch() && (1..=doubt.rows).contains(&more)
        });
        self.landed.extend(landed.into_iter().flat_map(|doubt| doubt.appends));
    }

    /// Whether this one is in the spool already; asked once.
    pub fn take_landed(&mut self, append: &Append) -> bool {
        let same = |portions: &Portions| {
            let (one, other) = (portions, &append.portions);
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let found = self.landed.iter().position(same);
        found.map(|at| self.landed.swap_remove(at)).is_some()
    }
}
