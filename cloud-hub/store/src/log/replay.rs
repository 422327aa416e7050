//! Reading the log again after a start. Damage costs the records behind it in its segment and
//! nothing else: their seqs are not settled, so that the agents send them again.

use std::collections::BTreeMap;

use tideline_protocol::lives::Moved;
use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, Series};

use super::dictionary::{Dictionary, fresh_entries, renameable};
use super::ledger::Ledgers;
use super::record::{self, ReadRecord, RecordError, SEGMENT_MAGIC};
use super::{Checkpoint, LogDisk, LogError};
use crate::store::LogPlace;

/// A batch that was durable before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedBatch {
    /// Whose.
    pub agent: AgentId,
    /// The seqs of the run that were stored by it.
    pub taken: RangeSet,
    /// The run as it came.
    pub run: Run,
    /// Where its record ends.
    pub place: LogPlace,
    // It was refused before, so that a batch before it may hold the same.
    revived: bool,
}

/// Entries that became others.
#[derive(Debug, Clone)]
pub struct Renaming {
    /// Whose.
    pub agent: AgentId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// What they are from here on.
    pub series: Series,
    /// What they were before, in the same order.
    pub(crate) were: Dictionary,
    /// Where its record ends.
    pub place: LogPlace,
}

/// What a start found in the log.
#[derive(Debug, Default)]
pub struct Replay {
    /// The batches since the checkpoint, oldest first.
    pub batches: Vec<ReplayedBatch>,
    /// What was renamed since the checkpoint, oldest first.
    pub renamings: Vec<Renaming>,
    /// Records read.
    pub records: u64,
    /// The newest segment.
    pub newest: u64,
    /// What was cut off or skipped, for people: segment and reason.
    pub problems: Vec<(u64, String)>,
    // Whose lives became uncertain by the problems.
    pub(super) forgotten: Vec<(AgentId, Epoch, Option<Moved>)>,
}

/// The ledgers after the replay, what was found, and the newest segment number ever used. Of the segments
/// before the checkpoint those from `keep_from` on stay where they are.
pub fn replay<D: LogDisk>(
    disk: &mut D,
    from: Checkpoint,
    keep_from: u64,
) -> Result<(Ledgers, Replay, u64), LogError> {
    let mut ledgers = from.ledgers;
    let mut found = Replay::default();
    let mut segments = disk.list().map_err(LogError::io("listing the log"))?;
    segments.sort_unstable();
    let newest = segments.last().copied().unwrap_or(0).max(from.oldest_segment);
    found.newest = newest;
    for segment in segments {
        if segment < from.oldest_segment && segment >= keep_from {
            continue;
        }
        if segment < from.oldest_segment {
            disk.remove(segment).map_err(LogError::io("removing an old log segment"))?;
            continue;
        }
        match disk.read(segment) {
            Ok(bytes) => {
                let kept = replay_segment(segment, &bytes, &mut ledgers, &mut found);
                tidy(disk, segment, kept, bytes.len())?;
            }
            // Neither damaged nor empty: what it holds was acknowledged, and the next flush would remove it.
            Err(error) => {
                return Err(LogError::io("reading a log segment, which nothing may replace")(error));
            }
        }
    }
    // The lives of a spool may be among what was cut off, and what they brought behind it: without
    // them an honest spool would be taken for a copy of itself.
    if found.problems.iter().any(|(segment, _)| *segment < newest) {
        found.forgotten = ledgers.forget_lives();
    }
    leave_newest(&mut found.batches, &ledgers);
    found.batches.retain(|batch| !batch.taken.is_empty());
    Ok((ledgers, found, newest))
}

/// A refusal comes after its batch, and what was revived after its refusal: of each seq the newest
/// stays, unless it is refused.
fn leave_newest(batches: &mut [ReplayedBatch], ledgers: &Ledgers) {
    let mut revived: BTreeMap<(AgentId, Epoch), RangeSet> = BTreeMap::new();
    for batch in batches.iter_mut().rev() {
        let epoch = batch.run.envelope.epoch;
        if batch.revived {
            let newer = revived.entry((batch.agent.clone(), epoch)).or_default();
            let own = batch.taken.clone();
            batch.taken.remove_set(&newer.intersect(&own));
            newer.insert_set(&own);
        } else if !revived.is_empty()
            && let Some(newer) = revived.get(&(batch.agent.clone(), epoch))
        {
            batch.taken.remove_set(&newer.intersect(&batch.taken));
        }
        if let Some(state) = ledgers.epoch(&batch.agent, epoch) {
            batch.taken.remove_set(&state.settled().refused.intersect(&batch.taken));
        }
    }
}

fn tidy<D: LogDisk>(disk: &mut D, segment: u64, kept: usize, len: usize) -> Result<(), LogError> {
    if kept < len {
        disk.truncate(segment, kept as u64).map_err(LogError::io("cutting a damaged log segment"))?;
    } else {
        // Agents are told that it is stored.
        disk.settle(segment).map_err(LogError::io("syncing a log segment"))?;
    }
    if kept <= SEGMENT_MAGIC.len() {
        disk.remove(segment).map_err(LogError::io("removing an empty log segment"))?;
    }
    Ok(())
}

/// How many bytes of the segment are good.
fn replay_segment(segment: u64, bytes: &[u8], ledgers: &mut Ledgers, found: &mut Replay) -> usize {
    let Some(mut rest) = bytes.strip_prefix(&SEGMENT_MAGIC) else {
        if !bytes.is_empty() {
            found.problems.push((segment, "it does not begin as a log segment".to_owned()));
        }
        return 0;
    };
    loop {
        match record::read(rest) {
            Ok(None) => return bytes.len(),
            Ok(Some((record, after))) => {
                found.records += 1;
                let place = LogPlace { segment, bytes: (bytes.len() - after.len()) as u64 };
                let malformed = || Err("a record with a good checksum is malformed; skipped".to_owned());
                let applied = record.map_or_else(malformed, |record| apply(record, place, ledgers, found));
                if let Err(reason) = applied {
                    found.problems.push((segment, reason));
                }
                rest = after;
            }
            Err(error) => {
                let lost = rest.len();
                let torn = if error == RecordError::Torn { "torn" } else { "damaged" };
                found.problems.push((segment, format!("{torn}, {lost} bytes cut off: {error}")));
                return bytes.len() - lost;
            }
        }
    }
}

fn apply(
    record: ReadRecord,
    place: LogPlace,
    ledgers: &mut Ledgers,
    found: &mut Replay,
) -> Result<(), String> {
    match record {
        ReadRecord::Series { agent, epoch, series } => {
            let state = ledgers.epoch_mut(&agent, epoch);
            let fresh = fresh_entries(state.dictionary(), &series)
                .map_err(|reason| format!("series of agent {agent} skipped: {reason}"))?;
            if let Some(fresh) = fresh {
                state.define(&fresh);
            }
        }
        ReadRecord::Renamed { agent, epoch, series } => {
            let state = ledgers.epoch_mut(&agent, epoch);
            renameable(state.dictionary(), &series)
                .map_err(|reason| format!("names of agent {agent} skipped: {reason}"))?;
            let mut were = Dictionary::default();
            let known = state.dictionary().entries_from(series.first as usize);
            known.take(series.defs.len()).for_each(|text| were.push(&text));
            state.rename(std::slice::from_ref(&series));
            found.renamings.push(Renaming { agent, epoch, series, were, place });
        }
        ReadRecord::Batch { agent, mut taken, run } => {
            let state = ledgers.epoch_mut(&agent, run.envelope.epoch);
            if run.envelope.series_end as usize > state.dictionary().len() {
                return Err(format!(
                    "run {} of agent {agent} skipped: its series are lost",
                    run.envelope.first
                ));
            }
            taken.remove_set(&state.settled().all().intersect(&taken));
            state.store(&run.envelope, &taken);
            found.batches.push(ReplayedBatch { agent, taken, run, place, revived: false });
        }
        ReadRecord::Revived { agent, taken, run } => {
            let state = ledgers.epoch_mut(&agent, run.envelope.epoch);
            if run.envelope.series_end as usize > state.dictionary().len() {
                return Err(format!(
                    "run {} of agent {agent} skipped: its series are lost",
                    run.envelope.first
                ));
            }
            let taken = state.revivable(&taken);
            state.revive(run.envelope.first, &run.envelope.rows, &taken);
            found.batches.push(ReplayedBatch { agent, taken, run, place, revived: true });
        }
        ReadRecord::Gap { agent, epoch, gap, mut dropped } => {
            let state = ledgers.epoch_mut(&agent, epoch);
            dropped.remove_set(&state.settled().all().intersect(&dropped));
            state.give_up(&gap, &dropped);
        }
        ReadRecord::Refused { agent, epoch, seqs, rows } => {
            let state = ledgers.epoch_mut(&agent, epoch);
            let moved = state.settled().stored.intersect(&seqs);
            if moved != seqs {
                return Err(format!("a refusal of agent {agent} skipped: its seqs are not stored"));
            }
            state.refuse(&seqs, rows);
        }
        ReadRecord::Lives { agent, epoch, lives, moved } => ledgers.go_on(&agent, epoch, &lives, moved),
    }
    Ok(())
}
