//! From durable bytes to readings that can be queried; what cannot be decoded becomes a dead letter.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use tideline_protocol::block::{self, Decoded};
use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, RunEnvelope};

use crate::hot::SeriesId;
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

fn decode(run: &Run, taken: &RangeSet, series: usize) -> Result<Decoded, String> {
    let envelope = &run.envelope;
    let mut decoded =
        block::decode(&run.block, &envelope.rows, envelope.first).map_err(|error| error.to_string())?;
    if let Some(column) = decoded.columns.iter().find(|column| column.series as usize >= series) {
        return Err(format!("block uses series {}, the dictionary has {series}", column.series));
    }
    if taken.len() != envelope.rows.seqs() {
        decoded.retain(envelope.first, taken);
    }
    Ok(decoded)
}

/// Decodes the taken seqs of a run into the hot columns.
///
/// # Errors
/// The block is a dead letter; its bytes are in `dead/`.
pub fn take_in(
    shared: &Shared,
    agent: &AgentId,
    run: &Run,
    taken: &RangeSet,
) -> Result<Option<LiveBatch>, Refusal> {
    if taken.is_empty() {
        return Ok(None);
    }
    let ids = read(&shared.registry).ids(agent, run.envelope.epoch);
    match decode(run, taken, ids.len()) {
        Ok(decoded) => Ok(Some(push(shared, agent, decoded, &ids))),
        Err(reason) => {
            tracing::warn!(%agent, first = %run.envelope.first, reason, "a stored run cannot be decoded");
            add(&shared.counters.dead_letters, 1);
            if let Err(error) = keep_dead(&shared.dir.join("dead"), agent, run) {
                tracing::error!(%agent, %error, "a dead letter cannot be kept");
            }
            Err(Refusal { agent: agent.clone(), envelope: run.envelope.clone(), taken: taken.clone() })
        }
    }
}

fn push(shared: &Shared, agent: &AgentId, decoded: Decoded, ids: &Arc<Vec<SeriesId>>) -> LiveBatch {
    let columns: Vec<LiveColumn> = {
        let registry = read(&shared.registry);
        let named = decoded.columns.into_iter().filter_map(|column| {
            let id = *ids.get(column.series as usize)?;
            let meta = Arc::clone(registry.meta(id)?);
            Some(LiveColumn { id, meta, times: column.times, values: column.values })
        });
        named.collect()
    };
    let mut tables = write(&shared.tables);
    let before = tables.active.rows();
    for column in &columns {
        tables.active.push(column.id, &column.times, &column.values);
    }
    add(&shared.counters.decoded_rows, (tables.active.rows() - before) as u64);
    tables.live_id += 1;
    LiveBatch { id: tables.live_id, agent: agent.clone(), columns }
}

fn keep_dead(dir: &Path, agent: &AgentId, run: &Run) -> io::Result<()> {
    let envelope = &run.envelope;
    fs::create_dir_all(dir)?;
    let name = format!("{agent}-{}-{}-{}.run", envelope.epoch, envelope.first, envelope.last());
    let header = minicbor::to_vec(envelope).map_err(io::Error::other)?;
    let mut file = File::create(dir.join(name))?;
    file.write_all(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    file.write_all(&header)?;
    file.write_all(&run.block)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
