//! From durable bytes to readings that can be queried; what cannot be decoded becomes a dead letter.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tideline_protocol::block::{self, Decoded, Whole, WholeColumn};
use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::{Run, RunEnvelope};

use crate::dead;
use crate::hot::{self, Arrival, Late, SeriesId};
use crate::metrics::add;
use crate::store::LogPlace;
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
        return Err(unknown(column.series, series));
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
    unpanicked(|| readings(run, taken, series))
}

fn unpanicked<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err("the codec panicked".to_owned()))
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
        let removed =
            dead::keep((shared.files.as_ref(), &shared.dir.join("dead")), agent, run, taken, reason)?;
        add(&shared.counters.dead_files_removed, removed);
        Ok(Refusal { agent: agent.clone(), envelope: run.envelope.clone(), taken: taken.clone() })
    }

    /// The bytes of its block.
    pub const fn bytes(&self) -> usize {
        self.run.block.len()
    }
}

/// What is decoded, series by series.
enum Rows {
    /// All of the run as it came.
    Whole(Whole),
    /// What was taken of it, or with other times.
    Some(Decoded),
}

impl Rows {
    fn of(run: &Run, taken: &RangeSet, series: usize) -> Result<Self, String> {
        let envelope = &run.envelope;
        if !envelope.restamps.is_empty() || taken.len() != envelope.rows.seqs() {
            return readings(run, taken, series).map(Self::Some);
        }
        #[cfg(test)]
        assert_ne!(run.block, b"panic", "told to");
        let whole = Whole::decode(&run.block, &envelope.rows, envelope.first);
        let whole = whole.map_err(|error| error.to_string())?;
        match whole.last_series().filter(|last| *last as usize >= series) {
            Some(last) => Err(unknown(last, series)),
            None => Ok(Self::Whole(whole)),
        }
    }

    /// What the boxed words among the values stand for.
    const fn boxes(&self) -> &Boxes {
        match self {
            Self::Whole(whole) => whole.boxes(),
            Self::Some(decoded) => &decoded.boxes,
        }
    }

    fn columns(&self) -> impl Iterator<Item = WholeColumn<'_>> {
        let (whole, some) = match self {
            Self::Whole(whole) => (Some(whole), None),
            Self::Some(some) => (None, Some(some)),
        };
        let some = some.into_iter().flat_map(|decoded| &decoded.columns).map(|column| WholeColumn {
            series: column.series,
            times: &column.times,
            values: &column.values,
            rows_per_seq: &column.rows_per_seq,
        });
        whole.into_iter().flat_map(Whole::columns).chain(some)
    }
}

fn unknown(series: u32, known: usize) -> String {
    format!("block uses series {series}, the dictionary has {known}")
}

/// Decodes the taken seqs of a run, whose record in the log ends at `place`, into the hot columns. What the live feed gets is made only when it is `heard`.
///
/// # Errors
/// The block is to become a dead letter.
pub fn take_in(
    shared: &Shared,
    (agent, place): (&AgentId, LogPlace),
    run: &Run,
    taken: &RangeSet,
    heard: bool,
) -> Result<Option<LiveBatch>, Box<Undecodable>> {
    if taken.is_empty() {
        return Ok(None);
    }
    let ids = read(&shared.registry).ids_at(agent, run.envelope.epoch, place);
    match unpanicked(|| Rows::of(run, taken, ids.len())) {
        Ok(rows) => {
            let (number, late) = push(shared, agent, &run.envelope, &rows, &ids);
            Ok(heard.then(|| live(shared, agent, (number, late), &rows, &ids)))
        }
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

/// Puts the rows into the hot columns; gives the number of the live batch that they make, and what came late in the order
/// of the columns.
fn push(
    shared: &Shared,
    agent: &AgentId,
    envelope: &RunEnvelope,
    rows: &Rows,
    ids: &[SeriesId],
) -> (u64, Vec<(u32, Late)>) {
    let span = rows.columns().filter_map(|column| {
        let times = column.times.iter();
        Some((*times.clone().min()?, *times.max()?))
    });
    let span = span.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let mut tables = write(&shared.tables);
    let before = tables.active.rows();
    let origin = tables.active.origin(agent, envelope.epoch);
    let mut late = Vec::new();
    for WholeColumn { series, times, values, rows_per_seq } in rows.columns() {
        if let Some(id) = ids.get(series as usize) {
            let newest_ns = tables.newest_ns(*id);
            let arrival = Arrival { times, values, boxes: rows.boxes(), rows_per_seq };
            let found = tables.active.push(*id, origin, envelope.first, newest_ns, arrival);
            late.extend(found.map(|found| (series, found)));
        }
    }
    add(&shared.counters.decoded_rows, (tables.active.rows() - before) as u64);
    if let Some((from_ns, to_ns)) = span {
        tables.history.note(from_ns, to_ns);
    }
    shared.weigh(&tables);
    tables.live_id += 1;
    (tables.live_id, late)
}

fn live(
    shared: &Shared,
    agent: &AgentId,
    (id, late): (u64, Vec<(u32, Late)>),
    rows: &Rows,
    ids: &[SeriesId],
) -> LiveBatch {
    let registry = read(&shared.registry);
    let mut late = late.into_iter().peekable();
    let columns = rows.columns().filter_map(|column| {
        let late = late.next_if(|(series, _)| *series == column.series).map(|(_, late)| late);
        let id = *ids.get(column.series as usize)?;
        let meta = registry.names().meta(id)?;
        let mut own = hot::Rows::default();
        own.extend(column.times, column.values, rows.boxes());
        Some(LiveColumn { id, meta, times: own.times, values: own.values, boxes: own.boxes, late })
    });
    LiveBatch { id, agent: agent.clone(), columns: columns.collect() }
}
