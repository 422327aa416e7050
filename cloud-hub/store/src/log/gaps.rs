//! What agents gave up, as the ledger lists and counts it. The list is bounded, the counts are of all.

use tideline_protocol::model::{DropCause, Gap, Seq};
use tideline_protocol::ranges::RangeSet;

/// Most pairs of counts in one listed gap; beyond them the next one begins.
pub const RUNS_PER_GAP_MAX: usize = 512;
/// Most gaps that are listed of one epoch; of more the oldest are only counted.
pub const GAPS_PER_EPOCH_MAX: usize = 16_384;
/// Most pairs of counts in all listed gaps of one epoch: half a megabyte.
pub const PAIRS_PER_EPOCH_MAX: usize = 65_536;
/// As that, of an epoch that the agent has left.
pub const PAIRS_PER_LEFT_EPOCH_MAX: usize = 1024;

/// Adds rows to the sum of their cause.
pub fn count(sums: &mut Vec<(DropCause, u64)>, cause: DropCause, rows: u64) {
    match sums.iter_mut().find(|(known, _)| *known == cause) {
        Some((_, sum)) => *sum = sum.saturating_add(rows),
        None if rows > 0 => sums.push((cause, rows)),
        None => {}
    }
}

/// Adds the seqs of a gap that were `dropped` to the list.
pub fn list(gaps: &mut Vec<Gap>, gap: &Gap, dropped: &RangeSet) {
    for (lo, hi) in dropped.iter() {
        for part in pieces(part_of(gap, lo, hi)) {
            match gaps.last_mut() {
                Some(last) if continues(last, &part) => join(last, &part),
                _ => gaps.push(part),
            }
        }
    }
    leave_newest(gaps, PAIRS_PER_EPOCH_MAX);
}

/// Leaves the newest gaps of a list that have no more than so many pairs of counts.
pub fn leave_newest(gaps: &mut Vec<Gap>, pairs_max: usize) {
    let mut pairs = 0_usize;
    let fits = |gap: &&Gap| {
        pairs = pairs.saturating_add(gap.rows.runs().len());
        pairs <= pairs_max
    };
    let kept = gaps.iter().rev().take_while(fits).count().min(GAPS_PER_EPOCH_MAX);
    gaps.drain(..gaps.len() - kept);
}

/// The same seqs as gaps with no more than so many pairs of counts as one may have.
fn pieces(gap: Gap) -> Vec<Gap> {
    let runs = gap.rows.runs();
    if runs.len() <= RUNS_PER_GAP_MAX {
        return vec![gap];
    }
    let mut skip = 0;
    let piece = |runs: &[(u32, u32)]| {
        let seqs = runs.iter().map(|(seqs, _)| u64::from(*seqs)).sum::<u64>();
        let first = Seq::new(gap.first.get().saturating_add(skip));
        let piece = Gap { first, rows: gap.rows.part(skip, seqs), ..gap };
        skip += seqs;
        piece
    };
    runs.chunks(RUNS_PER_GAP_MAX).map(piece).collect()
}

fn continues(last: &Gap, part: &Gap) -> bool {
    let runs = last.rows.runs().len().saturating_add(part.rows.runs().len());
    last.cause == part.cause && last.last().next() == part.first && runs <= RUNS_PER_GAP_MAX
}

fn part_of(gap: &Gap, lo: u64, hi: u64) -> Gap {
    let rows = gap.rows.part(lo.saturating_sub(gap.first.get()), hi.saturating_sub(lo).saturating_add(1));
    Gap { first: Seq::new(lo), rows, ..*gap }
}

fn join(gap: &mut Gap, next: &Gap) {
    gap.rows.append(&next.rows);
    gap.from_ns = gap.from_ns.min(next.from_ns);
    gap.to_ns = gap.to_ns.max(next.to_ns);
}
