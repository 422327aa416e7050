//! What of the store's log a job takes in, each stored seq once and in its order.

use std::collections::{BTreeMap, HashMap};

use tideline_protocol::model::{AgentId, Epoch, Sample};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Run;
use tideline_store::{LogEntry, LogPlace, Store, StoreError};
use tideline_streams::{Column, Engine, Event, Output};

use super::is_job;

/// About how many bytes of the log are read at a time.
const PART_BYTES: u64 = 1 << 20;
/// Outputs that end a step: they wait in memory for the commit.
const OUTPUTS_MAX: usize = 50_000;

/// How far a job has read.
#[derive(Debug)]
pub struct Feed {
    place: LogPlace,
    // Of the agents that have sent something for the job: what was lost at the hub comes again, in new batches of
    // the log with the old seqs.
    seen: BTreeMap<(AgentId, Epoch), RangeSet>,
    // So many entries of the dictionary were looked at, and whether the job reads a series of them.
    known: HashMap<(AgentId, Epoch), (u32, bool)>,
    // How often entries had become others by then.
    renamings: u64,
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Step {
    /// Whether there is no more for now.
    pub at_end: bool,
    /// Whether a part of the log was gone or could not be read.
    pub missed: bool,
    /// Runs that could not be decoded.
    pub undecodable: u64,
    /// What the engine gave.
    pub outputs: Vec<Output>,
}

impl Feed {
    /// Goes on from a place, with the seqs that were taken in before.
    pub fn new(place: LogPlace, seen: Vec<(AgentId, Epoch, RangeSet)>) -> Self {
        let seen = seen.into_iter().map(|(agent, epoch, seqs)| ((agent, epoch), seqs)).collect();
        Self { place, seen, known: HashMap::new(), renamings: 0 }
    }

    /// Up to where the log was taken in.
    pub const fn place(&self) -> LogPlace {
        self.place
    }

    /// The seqs that were.
    pub fn seen(&self) -> Vec<(AgentId, Epoch, RangeSet)> {
        let each =
            |((agent, epoch), seqs): (&(AgentId, Epoch), &RangeSet)| (agent.clone(), *epoch, seqs.clone());
        self.seen.iter().map(each).collect()
    }

    /// Reads on. Blocks the thread.
    ///
    /// # Errors
    /// The disk failed; nothing was taken in.
    pub fn step(&mut self, store: &Store, engine: &mut Engine, now_ns: i64) -> Result<Step, StoreError> {
        let part = store.read_log(self.place, PART_BYTES)?;
        let mut step = Step { at_end: part.at_end, missed: part.missed, ..Step::default() };
        for (entry, behind) in part.entries {
            match entry {
                LogEntry::Dropped { agent, epoch, seqs } => {
                    if let Some(seen) = self.seen.get_mut(&(agent, epoch)) {
                        seen.insert_set(&seqs);
                    }
                }
                LogEntry::Batch { agent, taken, run } => {
                    self.take_in(store, engine, now_ns, ((agent, behind), &run, taken), &mut step);
                }
            }
            self.place = behind;
            if step.outputs.len() >= OUTPUTS_MAX {
                step.at_end = false;
                return Ok(step);
            }
        }
        self.place = part.next;
        Ok(step)
    }

    fn take_in(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        now_ns: i64,
        ((agent, behind), run, mut taken): ((AgentId, LogPlace), &Run, RangeSet),
        step: &mut Step,
    ) {
        // What jobs write is no job's source: two could feed each other for ever.
        if is_job(agent.as_str()) || !self.reads(store, engine, &agent, run) {
            return;
        }
        let source = (agent, run.envelope.epoch);
        let seen = self.seen.entry(source.clone()).or_default();
        taken.remove_set(&seen.intersect(&taken));
        if taken.is_empty() {
            return;
        }
        // One that becomes a dead letter is not seen: when it is replayed it comes again.
        let Ok(columns) = store.named((&source.0, behind), run, &taken) else {
            step.undecodable = step.undecodable.saturating_add(1);
            return;
        };
        seen.insert_set(&taken);
        let samples: Vec<Vec<Sample>> = columns
            .iter()
            .map(|column| {
                let numbers = column.boxes.numbers(&column.values);
                let rows = column.times.iter().zip(numbers.iter());
                let rows = rows.map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value });
                // Of a statement only the times are looked at here.
                rows.filter(|sample| engine.job().has_statement() || !sample.value.is_nan()).collect()
            })
            .collect();
        let columns: Vec<Column<'_>> = columns
            .iter()
            .zip(&samples)
            .map(|(column, samples)| Column {
                device: &column.meta.device,
                point: &column.meta.point,
                samples,
            })
            .collect();
        step.outputs.extend(engine.handle(now_ns, Event::Readings(&columns)));
    }

    /// Whether the job reads a series that the agent has named. Once it does, all seqs of the agent count as seen, so
    /// that they stay few ranges.
    fn reads(&mut self, store: &Store, engine: &Engine, agent: &AgentId, run: &Run) -> bool {
        let source = (agent.clone(), run.envelope.epoch);
        if self.seen.contains_key(&source) {
            return true;
        }
        // A series of the job may be among those that an entry was before, or is by now.
        let renamings = store.renamings();
        if std::mem::replace(&mut self.renamings, renamings) != renamings {
            self.known.clear();
        }
        let known = self.known.get(&source).copied().unwrap_or_default();
        if known.0 >= run.envelope.series_end {
            return known.1;
        }
        let dictionary = store.dictionary(agent, run.envelope.epoch);
        let reads = dictionary.iter().any(|meta| engine.job().selects(&meta.device, &meta.point));
        self.known.insert(source, (run.envelope.series_end, reads));
        reads
    }
}
