//! From durable bytes to readings that can be queried; what cannot be decoded becomes a dead letter.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tideline_protocol::block::{self, Decoded};
use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, RunEnvelope};

use crate::dead;
use crate::hot::{Arrival, SeriesId};
use crate::metrics::add;
use crate::tables::{LiveBatch, LiveColumn, Shared, read, write};

/// Stored seqs whose block cannot be decoded.
#[derive(Debug)]
pub struct Refusal {
    pub agent: AgentId,
    pub envelope: RunEnvelope,
    pub taken: RangeSet,
}

impl Refusal {
    /// The rows that move from stored to refused.
    pub fn rows(&self) -> u64 {
        self.envelope.rows.total_in(self.envelope.first, &self.taken)
    }
}

/// The readings of the taken seqs of a run with their corrected times; `series` is the length of the
/// dictionary.
///
/// # Errors
/// The block is not what its envelope says.
pub fn readings(run: &Run, taken: &RangeSet, series: usize) -> Result<Decoded, String> {
    let envelope = &run.envelope;
    // Stands for whatever may be wrong with a codec.
    #[cfg(test)]
    assert_ne!(run.block, b"panic", "told to");
    let mut decoded =
        block::decode(&run.block, &envelope.rows, envelope.first).map_err(|error| error.to_string())?;
    if let Some(column) = decoded.columns.iter().find(|column| column.series as usize >= series) {
        return Err(format!("block uses series {}, the dictionary has {series}", column.series));
    }
    for restamp in &envelope.restamps {
        decoded.restamp(envelope.first, &restamp.seqs, restamp.shift_ns.unwrap_or(0));
    }
    if taken.len() != envelope.rows.seqs() {
        decoded.retain(envelope.first, taken);
    }
    Ok(decoded)
}

/// Whether the taken seqs of a run can be decoded.
///
/// # Errors
/// Why not.
pub fn probe(shared: &Shared, agent: &AgentId, run: &Run, taken: &RangeSet) -> Result<(), String> {
    let series = read(&shared.registry).ids(agent, run.envelope.epoch).len();
    guarded(run, taken, series).map(drop)
}

/// A codec that panics over one hostile block must cost that run and not the thread. It has changed
/// nothing by then: what is decoded goes into the tables afterwards, and as a whole.
///
/// # Errors
/// The block is not what its envelope says.
pub fn guarded(run: &Run, taken: &RangeSet, series: usize) -> Result<Decoded, String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| readings(run, taken, series)));
    decoded.unwrap_or_else(|_| Err("the codec panicked".to_owned()))
}

/// A run that cannot be decoded, with what its dead letter is to say.
#[derive(Debug)]
pub struct Undecodable {
    agent: AgentId,
    run: Run,
    taken: RangeSet,
    reason: String,
}

impl Undecodable {
    /// Writes the letter to `dead/`; only what is there may be refused.
    ///
    /// # Errors
    /// As the disk's.
    pub fn keep(&self, shared: &Shared) -> io::Result<Refusal> {
        let Self { agent, run, taken, reason } = self;
        let removed = dead::keep(&shared.dir.join("dead"), agent, run, taken, reason)?;
        add(&shared.counters.dead_files_removed, removed);
        Ok(Refusal { agent: agent.clone(), envelope: run.envelope.clone(), taken: taken.clone() })
    }

    /// The bytes of its block.
    pub const fn bytes(&self) -> usize {
        self.run.block.len()
    }
}

/// Decodes the taken seqs of a run into the hot columns.
///
/// # Errors
/// The block is to become a dead letter.
pub fn take_in(
    shared: &Shared,
    agent: &AgentId,
    run: &Run,
    taken: &RangeSet,
) -> Result<Option<LiveBatch>, Box<Undecodable>> {
    if taken.is_empty() {
        return Ok(None);
    }
    let ids = read(&shared.registry).ids(agent, run.envelope.epoch);
    match guarded(run, taken, ids.len()) {
        Ok(decoded) => Ok(Some(push(shared, agent, &run.envelope, decoded, &ids))),
        Err(reason) => {
            tracing::warn!(%agent, first = %run.envelope.first, reason, "a stored run cannot be decoded");
            add(&shared.counters.dead_letters, 1);
            Err(Box::new(Undecodable {
                agent: agent.clone(),
                run: run.clone(),
                taken: taken.clone(),
                reason,
            }))
        }
    }
}

fn push(
    shared: &Shared,
    agent: &AgentId,
    envelope: &RunEnvelope,
    decoded: Decoded,
    ids: &Arc<Vec<SeriesId>>,
) -> LiveBatch {
    let columns: Vec<(LiveColumn, Vec<u32>)> = {
        let registry = read(&shared.registry);
        let named = decoded.columns.into_iter().filter_map(|column| {
            let id = *ids.get(column.series as usize)?;
            let meta = Arc::clone(registry.meta(id)?);
            Some((LiveColumn { id, meta, times: column.times, values: column.values }, column.rows_per_seq))
        });
        named.collect()
    };
    let span = columns.iter().filter_map(|(column, _)| {
        let times = column.times.iter();
        Some((*times.clone().min()?, *times.max()?))
    });
    let span = span.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let mut tables = write(&shared.tables);
    let before = tables.active.rows();
    let origin = tables.active.origin(agent, envelope.epoch);
    for (column, rows_per_seq) in &columns {
        let arrival = Arrival { times: &column.times, values: &column.values, rows_per_seq };
        tables.active.push(column.id, origin, envelope.first, arrival);
    }
    add(&shared.counters.decoded_rows, (tables.active.rows() - before) as u64);
    if let Some((from_ns, to_ns)) = span {
        tables.history.note(from_ns, to_ns);
    }
    shared.weigh(&tables);
    tables.live_id += 1;
    let columns = columns.into_iter().map(|(column, _)| column).collect();
    LiveBatch { id: tables.live_id, agent: agent.clone(), columns }
}
