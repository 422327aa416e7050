//! One writer: its epoch, its dictionary and its next seq.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tideline_formats::Column;
use tideline_protocol::block::{Block, BlockBuilder};
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{
    AgentId, DeviceId, Epoch, PointId, SERIES_PER_EPOCH_MAX, Sample, Seq, SeriesDef, SeriesNo,
};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::{Lane, RUN_BYTES_MAX, Run, RunEnvelope, SERIES_PER_MESSAGE_MAX, Series};
use tideline_store::{Opening, StoreError};

use super::WriteError;
use crate::hub::{App, Hub};
use crate::metadata::{Changes, DeviceRecord, MetadataError, WriterRecord, WriterSeriesRecord};
use crate::secret::SecretError;

/// Readings of one batch: at 16 bytes, which is the worst, a third of what a run may have.
pub const ROWS_PER_BATCH_MAX: usize = 65_536;
/// Bytes of texts and the like of one batch: with its other readings still within what a run may have.
const TEXT_BYTES_PER_BATCH_MAX: usize = 1024 * 1024;
/// What an entry beside its column takes besides its text.
const BOXED_BYTES: usize = 16;

/// An open writer.
#[derive(Debug)]
pub struct Writer {
    agent: AgentId,
    epoch: Epoch,
    series: HashMap<(DeviceId, PointId), SeriesNo>,
    // As the store has confirmed it.
    known: SeriesNo,
    next: Seq,
}

/// What the registry keeps of a writer.
struct Kept {
    epoch: Epoch,
    // By the number of the first.
    chunks: BTreeMap<SeriesNo, Vec<SeriesDef>>,
}

fn chunk_key(agent: &AgentId, epoch: Epoch, first: SeriesNo) -> String {
    format!("{agent}/{epoch}/{first:08}")
}

impl Kept {
    fn load(hub: &Hub, agent: &AgentId) -> Result<Option<Self>, MetadataError> {
        let Some(record) = hub.metadata.find::<WriterRecord>(agent.as_str())? else { return Ok(None) };
        let Ok(epoch) = record.epoch.parse::<Epoch>() else { return Ok(None) };
        let prefix = format!("{agent}/{epoch}/");
        let all = hub.metadata.list_from::<WriterSeriesRecord>(&prefix)?;
        let chunk = |(key, record): (String, WriterSeriesRecord)| {
            Some((key.strip_prefix(&prefix)?.parse().ok()?, record.series))
        };
        Ok(Some(Self { epoch, chunks: all.into_iter().filter_map(chunk).collect() }))
    }

    /// The dictionary up to `known`, when that is where a chunk ends; none when there is another one.
    fn dictionary(&self, known: SeriesNo) -> Option<Vec<SeriesDef>> {
        let mut defs: Vec<SeriesDef> = Vec::new();
        for (first, chunk) in self.chunks.range(..known) {
            if *first as usize != defs.len() {
                return None;
            }
            defs.extend(chunk.iter().cloned());
        }
        (defs.len() == known as usize).then_some(defs)
    }
}

impl Writer {
    /// Goes on where the store says that the writer was, or in a new epoch where that is not known.
    pub async fn open(hub: &App, agent: &AgentId) -> Result<Self, WriteError> {
        let own = agent.clone();
        let kept = hub.blocking(move |hub| Kept::load(hub, &own)).await?;
        if let Some(kept) = kept
            && let Some(writer) = Self::go_on(hub, agent, kept).await?
        {
            return Ok(writer);
        }
        Self::begin(hub, agent).await
    }

    async fn go_on(hub: &App, agent: &AgentId, kept: Kept) -> Result<Option<Self>, WriteError> {
        let epoch = kept.epoch;
        // Which seqs a lost file had, only the ledger says, and not to us: none must be given out again.
        if hub.store.ledger(agent).iter().any(|account| account.epoch == epoch && account.lost > 0) {
            return Ok(None);
        }
        let opening = hub.store.open_epoch(agent.clone(), epoch, Vec::new(), None).await?;
        let Opening::Known(state) = opening else { return Ok(None) };
        let known = state.series_known;
        let Some(defs) = kept.dictionary(known) else { return Ok(None) };
        let mut first = 0;
        for chunk in defs.chunks(SERIES_PER_MESSAGE_MAX) {
            let series = Series { first, defs: chunk.to_vec() };
            match hub.store.define_series(agent.clone(), epoch, series).await {
                Ok(_) => first = first.saturating_add(u32::try_from(chunk.len()).unwrap_or(u32::MAX)),
                // Another dictionary than the registry knows: of a backup, say.
                Err(StoreError::Series { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        // What the registry has and the store does not, was never used.
        let surplus: Vec<String> =
            kept.chunks.range(known..).map(|(no, _)| chunk_key(agent, epoch, *no)).collect();
        if !surplus.is_empty() {
            let step = move |changes: &mut Changes| {
                surplus.iter().try_for_each(|key| changes.remove::<WriterSeriesRecord>(key).map(drop))
            };
            hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
        }
        let next = Seq::new(state.settled.all().last().unwrap_or(0)).next();
        let series = defs.into_iter().map(|def| (def.device, def.point)).zip(0..).collect();
        Ok(Some(Self { agent: agent.clone(), epoch, series, known, next }))
    }

    async fn begin(hub: &App, agent: &AgentId) -> Result<Self, WriteError> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
        let epoch = Epoch::from_bytes(bytes);
        let own = agent.clone();
        let step = move |changes: &mut Changes| {
            let prefix = format!("{own}/");
            changes.remove_where::<WriterSeriesRecord>(|key, _| key.starts_with(&prefix))?;
            changes.put(own.as_str(), &WriterRecord { epoch: epoch.to_string() })
        };
        hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
        hub.store.open_epoch(agent.clone(), epoch, Vec::new(), None).await?;
        tracing::info!(%agent, %epoch, "a writer has begun an epoch");
        Ok(Self { agent: agent.clone(), epoch, series: HashMap::new(), known: 0, next: Seq::FIRST })
    }

    /// Its epoch, and the seq of the next batch.
    #[must_use]
    pub const fn place(&self) -> (Epoch, Seq) {
        (self.epoch, self.next)
    }

    /// Stores readings; returns when they are durable. After an error the writer is of no more use.
    pub async fn write(&mut self, hub: &App, columns: Vec<Column>) -> Result<(), WriteError> {
        self.define(hub, &columns).await?;
        let mut numbered = Vec::with_capacity(columns.len());
        for Column { device, point, samples, boxes, .. } in columns {
            let number = self.series.get(&(device, point)).copied();
            let number = number.ok_or_else(|| WriteError::Numbered("a series has no number".to_owned()))?;
            numbered.push((number, samples, boxes));
        }
        let blocks = tokio::task::spawn_blocking(move || blocks(&numbered)).await?;
        for block in blocks {
            self.append(hub, block).await?;
        }
        Ok(())
    }

    /// Gives series their numbers, durably, that have none.
    async fn define(&mut self, hub: &App, columns: &[Column]) -> Result<(), WriteError> {
        let def = |column: &Column| {
            let def = SeriesDef::new(column.device.clone(), column.point.clone(), String::new());
            def.of_kind(column.kind)
        };
        let known = |def: &SeriesDef| self.series.contains_key(&(def.device.clone(), def.point.clone()));
        let fresh: Vec<SeriesDef> = columns.iter().map(def).filter(|def| !known(def)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let known = self.series.len();
        if known.saturating_add(fresh.len()) > SERIES_PER_EPOCH_MAX as usize {
            return Err(WriteError::Limit(format!(
                "this token has written {known} series, and {} are new; allowed are {SERIES_PER_EPOCH_MAX} for each token",
                fresh.len()
            )));
        }
        let own = self.agent.clone();
        let defs = hub.blocking(move |hub| as_known(hub, &own, fresh)).await?;
        for chunk in defs.chunks(SERIES_PER_MESSAGE_MAX) {
            let first = self.known;
            let (key, record) =
                (chunk_key(&self.agent, self.epoch, first), WriterSeriesRecord { series: chunk.to_vec() });
            hub.blocking(move |hub| hub.metadata.put(&key, &record)).await?;
            let series = Series { first, defs: chunk.to_vec() };
            self.known = hub.store.define_series(self.agent.clone(), self.epoch, series).await?;
            for (def, number) in chunk.iter().zip(first..) {
                self.series.insert((def.device.clone(), def.point.clone()), number);
            }
        }
        Ok(())
    }

    async fn append(&mut self, hub: &App, block: Block) -> Result<(), WriteError> {
        if block.bytes.len() > RUN_BYTES_MAX {
            let reason = format!("a block has {} bytes; allowed are {RUN_BYTES_MAX}", block.bytes.len());
            return Err(WriteError::Numbered(reason));
        }
        let envelope = RunEnvelope {
            epoch: self.epoch,
            lane: Lane::Live,
            first: self.next,
            rows: block.rows,
            series_end: block.series_end,
            restamps: Vec::new(),
        };
        let seqs = envelope.seqs();
        let run = Run { envelope, block: block.bytes };
        let batch = Batch::<Received>::received(self.agent.clone(), run)
            .validate(self.known)
            .map_err(|invalid| WriteError::Numbered(invalid.to_string()))?;
        let durable = hub.store.append(batch).await?;
        if *durable.taken() != seqs {
            return Err(WriteError::Numbered(format!("seq {} of {} was in use", self.next, self.agent)));
        }
        self.next = self.next.next();
        Ok(())
    }
}

/// Series as they are defined. One that an agent has defined stays as it is: the newest definition counts.
fn as_known(hub: &Hub, own: &AgentId, fresh: Vec<SeriesDef>) -> Result<Vec<SeriesDef>, MetadataError> {
    let mut known: HashMap<(DeviceId, PointId), SeriesDef> = HashMap::new();
    let devices: BTreeSet<&DeviceId> = fresh.iter().map(|def| &def.device).collect();
    for device in devices {
        let record = hub.metadata.find::<DeviceRecord>(device.as_str())?;
        if record.is_some_and(|record| record.agent != own.as_str()) {
            for info in hub.store.series(Some(device)) {
                let (device, point) = (DeviceId::clone(&info.device), PointId::clone(&info.point));
                let def = SeriesDef::new(device, point, info.unit.to_string());
                let def = def.of_kind(info.kind).named(&info.name);
                known.insert((def.device.clone(), def.point.clone()), def);
            }
        }
    }
    let fresh = fresh.into_iter();
    Ok(fresh.map(|def| known.remove(&(def.device.clone(), def.point.clone())).unwrap_or(def)).collect())
}

/// The blocks of batches that hold these readings, in their order.
fn blocks(columns: &[(SeriesNo, Vec<Sample>, Boxes)]) -> Vec<Block> {
    let (mut out, mut batch, mut room) = (Vec::new(), Vec::new(), ROWS_PER_BATCH_MAX);
    let mut text_room = TEXT_BYTES_PER_BATCH_MAX;
    for (series, samples, boxes) in columns {
        let mut rest = samples.as_slice();
        while !rest.is_empty() {
            let within = rest.get(..room.min(rest.len())).unwrap_or_default();
            let fit = fitting(within, boxes, &mut text_room);
            let (now, later) = rest.split_at(fit);
            if !now.is_empty() {
                batch.push((*series, now, boxes));
            }
            room -= now.len();
            rest = later;
            if room == 0 || !rest.is_empty() {
                out.push(block(std::mem::take(&mut batch)));
                (room, text_room) = (ROWS_PER_BATCH_MAX, TEXT_BYTES_PER_BATCH_MAX);
            }
        }
    }
    if !batch.is_empty() {
        out.push(block(batch));
    }
    out
}

/// How many of these readings fit by what their texts take, and takes it from the room.
fn fitting(samples: &[Sample], boxes: &Boxes, room: &mut usize) -> usize {
    if boxes.is_empty() {
        return samples.len();
    }
    let fits = |sample: &&Sample| {
        let bytes = boxes.get(sample.value).map_or(0, |boxed| boxed.text_bytes() + BOXED_BYTES);
        let left = room.checked_sub(bytes);
        *room = left.unwrap_or(*room);
        left.is_some()
    };
    samples.iter().take_while(fits).count()
}

fn block(batch: Vec<(SeriesNo, &[Sample], &Boxes)>) -> Block {
    let mut builder = BlockBuilder::new();
    builder.push_each(batch);
    builder.finish()
}

#[cfg(test)]
mod tests {
    use tideline_protocol::value::{Quality, Value};

    use super::*;

    #[test]
    fn many_readings_become_batches_within_their_limits_and_in_order() {
        let samples = |n: i64| (0..n).map(|at| Sample { time_ns: at, value: 0.5 }).collect::<Vec<_>>();
        let plain = |no: SeriesNo, n: i64| (no, samples(n), Boxes::new());
        let mut columns = vec![plain(0, 10), plain(1, 150_000), plain(2, 1)];
        let made = blocks(&columns);
        let rows: Vec<u64> = made.iter().map(|block| block.rows.total()).collect();
        assert_eq!(rows, [65_536, 65_536, 18_939]);
        // Texts take their room in bytes.
        let mut boxes = Boxes::new();
        let text =
            |n: i64, boxes: &mut Boxes| boxes.word(Value::Text(format!("{n:4000}").into()), Quality::Good);
        let long = (0..2_000).map(|n| Sample { time_ns: n, value: text(n, &mut boxes) }).collect();
        columns.push((3, long, boxes));
        let made = blocks(&columns);
        assert_eq!(made.iter().map(|block| block.rows.total()).sum::<u64>(), 150_011 + 2_000);
        assert!(made.iter().all(|block| block.bytes.len() < RUN_BYTES_MAX));
        let mut found: BTreeMap<SeriesNo, Vec<i64>> = BTreeMap::new();
        for block in &made {
            let decoded = tideline_protocol::block::decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
            for column in decoded.columns {
                found.entry(column.series).or_default().extend(column.times);
            }
        }
        for (series, samples, _) in columns {
            assert_eq!(found[&series], samples.iter().map(|s| s.time_ns).collect::<Vec<_>>());
        }
        assert!(blocks(&[]).is_empty());
    }
}
