//! What of a flush goes into which file: readings that are kept for different times stand in different ones, so that what is given
//! up is always whole files.
//!
//! - Invariant: all rows of a batch are in one file. Or else the loss of one would take the seq out of what is stored, and its
//!   agent would send again what the other still has.
//! - Invariant: all rows of a series are in one file, so that its equal times stay in order of arrival.
//!
//! So series that share a batch are kept as long as the one of them that is kept longest.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::keep::Keep;
use tideline_protocol::ranges::RangeSet;

use crate::hot::{Hot, SeriesId};
use crate::manifest::HoldingEntry;

/// Most files of one flush. Of more, those that are kept shortest are kept as long as the next.
const PARTS_MAX: usize = 16;

/// What goes into one file.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// What is kept of it.
    pub keep: Keep,
    /// Its series, ascending; all when none are named.
    pub series: Option<Vec<SeriesId>>,
    // Its seqs by origin, and how many rows of these.
    seqs: HashMap<u32, (RangeSet, u64)>,
}

/// The order in which what is kept longer comes later.
fn length(keep: Keep) -> (bool, Keep) {
    (keep.days.is_none(), keep)
}

/// Sets of series that share batches.
struct Groups(Vec<usize>);

impl Groups {
    fn root(&mut self, mut at: usize) -> usize {
        while let Some(up) = self.0.get(at).copied().filter(|up| *up != at) {
            let above = self.0.get(up).copied().unwrap_or(up);
            if let Some(place) = self.0.get_mut(at) {
                *place = above;
            }
            at = above;
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(place) = self.0.get_mut(a) {
            *place = b;
        }
    }
}

/// The parts of a flush, what is kept longest first.
pub fn parts(hot: &Hot, keep_of: impl Fn(SeriesId) -> Keep) -> Vec<Part> {
    let series: Vec<(SeriesId, Keep)> = hot.series().map(|id| (id, keep_of(id))).collect();
    let first = series.first().map(|(_, keep)| *keep).unwrap_or_default();
    if series.iter().all(|(_, keep)| *keep == first) {
        return vec![Part { keep: first, ..Part::default() }];
    }
    let mut of: BTreeMap<(bool, Keep), BTreeSet<SeriesId>> = BTreeMap::new();
    for (id, keep) in joined(hot, &series) {
        of.entry(length(keep)).or_default().insert(id);
    }
    while of.len() > PARTS_MAX {
        let (Some(((_, a), mut ids)), Some(((_, b), more))) = (of.pop_first(), of.pop_first()) else { break };
        ids.extend(more);
        of.entry(length(a.or_longer(b))).or_default().extend(ids);
    }
    let part = |((_, keep), ids): ((bool, Keep), BTreeSet<SeriesId>)| {
        let mut seqs: HashMap<u32, (RangeSet, u64)> = HashMap::new();
        for id in &ids {
            hot.each_batch(*id, |origin, seq, rows| {
                let (known, count) = seqs.entry(origin).or_default();
                known.insert(seq, seq);
                *count += u64::from(rows);
            });
        }
        Part { keep, series: Some(ids.into_iter().collect()), seqs }
    };
    of.into_iter().rev().map(part).collect()
}

/// What is kept of each series, as long as of any that shares a batch with it.
fn joined(hot: &Hot, series: &[(SeriesId, Keep)]) -> Vec<(SeriesId, Keep)> {
    let mut groups = Groups((0..series.len()).collect());
    let mut batches: HashMap<(u32, u64), usize> = HashMap::new();
    for (at, (id, _)) in series.iter().enumerate() {
        hot.each_batch(*id, |origin, seq, _| match batches.entry((origin, seq)) {
            Entry::Occupied(known) => groups.join(at, *known.get()),
            Entry::Vacant(new) => drop(new.insert(at)),
        });
    }
    let mut keeps: HashMap<usize, Keep> = HashMap::new();
    for (at, (_, keep)) in series.iter().enumerate() {
        let of = keeps.entry(groups.root(at)).or_insert(*keep);
        *of = of.or_longer(*keep);
    }
    let all = series.iter().enumerate();
    all.map(|(at, (id, own))| (*id, keeps.get(&groups.root(at)).copied().unwrap_or(*own))).collect()
}

/// What each part holds of all that a flush does. What has no rows is with the first.
pub fn holdings(hot: &Hot, all: &[HoldingEntry], parts: &[(u64, Part)]) -> Vec<Vec<HoldingEntry>> {
    let mut out: Vec<Vec<HoldingEntry>> = parts.iter().map(|_| Vec::new()).collect();
    for entry in all {
        let (agent, epoch, mut left, mut rows) = entry.parts();
        let origin = hot.find_origin(agent, epoch);
        for ((_, part), out) in parts.iter().zip(&mut out).skip(1) {
            let Some((seqs, own)) = origin.and_then(|origin| part.seqs.get(&origin)) else { continue };
            let seqs = left.intersect(seqs);
            left.remove_set(&seqs);
            rows = rows.saturating_sub(*own);
            out.push(HoldingEntry::new(agent.clone(), epoch, &seqs, *own));
        }
        if let Some(first) = out.first_mut().filter(|_| !left.is_empty()) {
            first.push(HoldingEntry::new(agent.clone(), epoch, &left, rows));
        }
    }
    out
}

#[cfg(test)]
mod tests;
