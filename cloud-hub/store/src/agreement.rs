//! What the store holds of an agent's batches, as digests: read from the hot columns and the sealed
//! files as they are now, and not from what was noted when the batches came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tideline_protocol::digest::{SeriesKey, Summer};
use tideline_protocol::model::{AgentId, Epoch, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::ranks::Ranks;
use tideline_protocol::wire::{Digest, Restamp, Settlement};

use crate::batches::Batches;
use crate::blocks::SealedFile;
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::log::lock;
use crate::sealed::SealedFormat;
use crate::segment::Level;
use crate::tables::{Shared, read};

/// Whose batches are digested, and what is known of them.
struct Subject<'a> {
    agent: &'a AgentId,
    epoch: Epoch,
    stored: Ranks,
    per: u64,
    // Disjoint and ascending: first and last seq, and what was added to their times.
    shifts: Vec<(u64, u64, i64)>,
    keys: Vec<SeriesKey>,
    sums: Vec<Summer>,
}

impl Subject<'_> {
    fn add(&mut self, series: SeriesId, seq: u64, time_ns: i64, print: u64) {
        let Some(place) = self.stored.place(seq) else { return };
        let Some(key) = self.keys.get(series as usize).copied() else { return };
        let at = usize::try_from(place / self.per).unwrap_or(usize::MAX);
        let at_or_after = self.shifts.partition_point(|(_, last, _)| *last < seq);
        let shift = self.shifts.get(at_or_after).filter(|(first, ..)| *first <= seq);
        let shift_ns = shift.map_or(0, |(.., shift_ns)| *shift_ns);
        if let Some(sum) = self.sums.get_mut(at) {
            sum.add(seq, key, time_ns.saturating_sub(shift_ns), print);
        }
    }
}

/// What became of `seqs`, and a digest for each `per` of those that are stored. Readings of a series that the agent calls
/// `otherwise` than it is stored count as its own.
///
/// All that was acknowledged before must be decoded.
///
/// # Errors
/// A file cannot be read.
pub fn digest(
    shared: &Shared,
    format: &dyn SealedFormat,
    (agent, epoch): (&AgentId, Epoch),
    (seqs, per): (&RangeSet, u64),
    otherwise: &[(SeriesDef, SeriesDef)],
    cancelled: &AtomicBool,
) -> Result<(Settlement, Vec<Digest>), StoreError> {
    let (settled, restamps) = {
        let ledgers = lock(&shared.ledgers);
        let known = ledgers.epoch(agent, epoch);
        let settled = known.map(|state| state.settled().clone()).unwrap_or_default();
        (settled, known.map(|state| state.restamps.clone()).unwrap_or_default())
    };
    let mut settled = Settlement {
        stored: settled.stored.intersect(seqs),
        refused: settled.refused.intersect(seqs),
        dropped: settled.dropped.intersect(seqs),
    };
    // What is past its retention was given up here, and cannot be digested any more.
    let expired_before = lock(&shared.expired).seqs(agent, epoch).intersect(seqs);
    let expired = expired_before.intersect(&settled.stored);
    settled.stored.remove_set(&expired);
    settled.dropped.insert_set(&expired);
    let (stored, per) = (Ranks::new(&settled.stored), per.max(1));
    let shifts = shifts(&restamps, &settled.stored);
    let registry = read(&shared.registry);
    let keys = registry.names().iter().map(|(_, text)| SeriesKey::new(text.device, text.point));
    let mut keys: Vec<SeriesKey> = keys.collect();
    for (stored, called) in otherwise {
        let id = registry.names().find(&stored.device, &stored.point);
        if let Some(key) = id.and_then(|id| keys.get_mut(id as usize)) {
            *key = called.into();
        }
    }
    let count = usize::try_from(stored.len().div_ceil(per)).unwrap_or(usize::MAX);
    drop(registry);
    let sums = vec![Summer::default(); count];
    let mut subject = Subject { agent, epoch, stored, per, shifts, keys, sums };
    let files = {
        let tables = read(&shared.tables);
        for hot in [tables.flushing.as_deref(), Some(&tables.active)].into_iter().flatten() {
            hot.each_of(agent, epoch, |series, seq, time, print| subject.add(series, seq, time, print));
        }
        Arc::clone(&tables.files)
    };
    if lock(&shared.expired).seqs(agent, epoch).intersect(seqs) != expired_before {
        // Files that were to be read have lost their readings since: it is asked again.
        return Err(StoreError::Sealed("readings expired meanwhile".to_owned()));
    }
    for file in files.iter() {
        let holds = file.holdings.iter().any(|holding| {
            let (of, held, seqs, _) = holding.parts();
            of == agent && held == epoch && !seqs.intersect(&settled.stored).is_empty()
        });
        if holds {
            if cancelled.load(Ordering::Relaxed) {
                return Err(StoreError::Query("it was cancelled".to_owned()));
            }
            sealed(SealedFile { shared, format, file }, &mut subject)?;
        }
    }
    Ok((settled, subject.sums.iter().map(Summer::digest).collect()))
}

/// What was added to the times of the stored seqs. No seq is in two corrections: the one that came with
/// lost readings was forgotten when they came again.
fn shifts(restamps: &[Restamp], stored: &RangeSet) -> Vec<(u64, u64, i64)> {
    let known = restamps.iter().filter_map(|restamp| Some((&restamp.seqs, restamp.shift_ns?)));
    let mut out: Vec<(u64, u64, i64)> = Vec::new();
    for (seqs, shift_ns) in known {
        out.extend(seqs.intersect(stored).iter().map(|(lo, hi)| (lo, hi, shift_ns)));
    }
    out.sort_unstable();
    out
}

fn sealed(file: SealedFile<'_>, subject: &mut Subject<'_>) -> Result<(), StoreError> {
    let batches = Batches::new(&file.file.holdings);
    let directory = file.directory()?;
    for entry in directory.series() {
        for block in directory.blocks(&entry, Level::Raw) {
            file.each_numbered(&block, |number, time, print| {
                if let Some((agent, epoch, seq)) = batches.find(number)
                    && agent == subject.agent
                    && epoch == subject.epoch
                {
                    subject.add(entry.series, seq, time, print);
                }
            })?;
        }
    }
    Ok(())
}
