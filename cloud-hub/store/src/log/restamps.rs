//! Corrections of times: counted and listed with the seqs that were stored.

use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Restamp, RunEnvelope};

use super::ledger::EpochState;

/// Most corrections of times that are listed of one epoch; of more the oldest are only counted.
pub const RESTAMPS_PER_EPOCH_MAX: usize = 4096;

/// Takes note of the corrections of a run of which `taken` was stored. What comes again after a loss may
/// have been corrected otherwise the first time: the last correction is the one that its times have.
pub fn note(state: &mut EpochState, run: &RunEnvelope, taken: &RangeSet) {
    if !state.lost.is_empty() {
        forget(state, run, taken);
    }
    for restamp in &run.restamps {
        let seqs = restamp.seqs.intersect(taken);
        if seqs.is_empty() {
            continue;
        }
        let rows = run.rows.total_in(run.first, &seqs);
        let known = restamp.shift_ns.is_some();
        let sum = if known { &mut state.restamped_rows } else { &mut state.uncertain_rows };
        *sum = sum.saturating_add(rows);
        match state.restamps.last_mut() {
            // One wrong clock is one correction, in however many runs its readings came.
            Some(last) if (last.boot, last.shift_ns) == (restamp.boot, restamp.shift_ns) => {
                last.seqs.insert_set(&seqs);
                last.from_ns = last.from_ns.min(restamp.from_ns);
                last.to_ns = last.to_ns.max(restamp.to_ns);
            }
            _ => state.restamps.push(Restamp { seqs, ..restamp.clone() }),
        }
        if state.restamps.len() > RESTAMPS_PER_EPOCH_MAX {
            state.restamps.remove(0);
        }
    }
}

fn forget(state: &mut EpochState, run: &RunEnvelope, taken: &RangeSet) {
    for restamp in &mut state.restamps {
        let again = restamp.seqs.intersect(taken);
        let known = restamp.shift_ns.is_some();
        let sum = if known { &mut state.restamped_rows } else { &mut state.uncertain_rows };
        *sum = sum.saturating_sub(run.rows.total_in(run.first, &again));
        restamp.seqs.remove_set(&again);
    }
    state.restamps.retain(|restamp| !restamp.seqs.is_empty());
}
