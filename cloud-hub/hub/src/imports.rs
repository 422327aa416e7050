//! Readings out of files.
//!
//! ```text
//! a file and how it is read ──▶ identity ──▶ agent `_import.…` and epoch
//! its readings, in chunks   ──▶ seqs 1, 2, 3 …
//! ```
//! A file is to the hub what an agent's spool is: its content says what it is called and what each seq holds, so the
//! store itself knows what it has of it ([`Store::append`](tideline_store::Store::append) leaves out what is settled),
//! whoever was killed in the middle, and what a lost sealed file held comes back by importing the file again. The hub
//! never opens the file: whoever reads it sends chunks of plain numbers.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{
    AgentId, DeviceId, Epoch, ModelError, PointId, SERIES_PER_EPOCH_MAX, Sample, Seq, SeriesDef, SeriesNo,
    UNIT_BYTES_MAX,
};
use tideline_protocol::value::{Boxed, Boxes, UnknownName, ValueKind};
use tideline_protocol::wire::{Lane, RUN_BYTES_MAX, Run, RunEnvelope, SERIES_PER_MESSAGE_MAX, Series};
use tideline_store::{Opening, StoreError};

use crate::api::shapes::{ImportRequest, ImportState};
use crate::hub::{App, Hub};
use crate::metadata::{Changes, DeviceRecord, ImportRecord, MetadataError, WriteTokenRecord};
use crate::secret;
use crate::writes::{Admission, ROWS_PER_BATCH_MAX};

/// What the ids of imports begin with; nothing of another kind may be called so.
pub const IMPORT_PREFIX: &str = "_import.";
/// Longest name of a file that is kept.
const NAME_CHARS_MAX: usize = 200;
/// Most chunks of an import: seqs of a hundred billion readings.
const CHUNKS_MAX: u64 = 10_000_000;
/// Refusals that are told one by one.
const TOLD_MAX: usize = 10;

/// Why an import does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// What was asked is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The hub does not take it.
    #[error("{0}")]
    Refused(String),
    /// It was not begun.
    #[error("there is no import {0}")]
    Unknown(String),
    /// The store takes nothing now, or no more of this.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed; a local fault.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl From<ModelError> for ImportError {
    fn from(error: ModelError) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// Who imports, and for which devices they may.
#[derive(Debug, Clone)]
pub struct Importer {
    /// A name for people and the log.
    pub by: String,
    /// Whose imports these are: the same file of another is another import.
    pub key: String,
    /// The devices.
    pub devices: WriteTokenRecord,
}

impl Importer {
    /// Somebody who may write for every device.
    #[must_use]
    pub fn admin(by: String) -> Self {
        let devices = WriteTokenRecord {
            name: by.clone(),
            devices: vec!["*".to_owned()],
            registered_only: false,
            secret_hash: String::new(),
            created_ms: 0,
        };
        Self { by, key: "admin".to_owned(), devices }
    }

    fn record_key(&self, identity: &str) -> String {
        format!("{}/{identity}", self.key)
    }
}

/// Readings of a chunk, as CBOR.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkBody {
    /// By series.
    #[n(0)]
    pub columns: Vec<ChunkColumn>,
    /// What the boxed words among the values stand for, one entry behind the other, as in blocks.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub table: Vec<u8>,
}

/// The readings of a series.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkColumn {
    /// The place of the series in the list that the import was begun with.
    #[n(0)]
    pub series: SeriesNo,
    /// Nanoseconds since 1970, eight bytes each, little-endian.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub times: Vec<u8>,
    /// As many doubles, eight bytes each, little-endian; boxed words name an entry of the table.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub values: Vec<u8>,
}

/// What the store calls an import.
fn place_of(importer: &Importer, identity: &str, generation: u32) -> Result<(AgentId, Epoch), ImportError> {
    let text = format!("{}\n{identity}\n{generation}", importer.key);
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let (name, rest) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let epoch = rest.first_chunk::<16>().copied().unwrap_or_default();
    Ok((AgentId::parse(&format!("{IMPORT_PREFIX}{}", secret::hex(name)))?, Epoch::from_bytes(epoch)))
}

/// What was asked, checked.
struct Asked {
    record: ImportRecord,
    series: Vec<SeriesDef>,
}

fn check(hub: &Hub, importer: &Importer, request: &ImportRequest) -> Result<Asked, ImportError> {
    let wrong = |text: String| Err(ImportError::Wrong(text));
    check_identity(&request.identity)?;
    if request.series.len() > SERIES_PER_EPOCH_MAX as usize {
        let found = request.series.len();
        return wrong(format!("{found} series; allowed are {SERIES_PER_EPOCH_MAX} in one file"));
    }
    let least = request.readings.div_ceil(ROWS_PER_BATCH_MAX as u64);
    if request.chunks < least || request.chunks > request.readings.min(CHUNKS_MAX) {
        return wrong(format!(
            "{} chunks of {} readings; allowed are {least} to {}",
            request.chunks,
            request.readings,
            request.readings.min(CHUNKS_MAX)
        ));
    }
    let def = |one: &crate::api::shapes::ImportSeries| {
        if one.unit.len() > UNIT_BYTES_MAX {
            return Err(ImportError::Wrong(format!(
                "unit {:?}; allowed are {UNIT_BYTES_MAX} bytes",
                one.unit
            )));
        }
        let (device, point) = (DeviceId::parse(&one.device)?, PointId::parse(&one.point)?);
        let kind: ValueKind =
            one.kind.parse().map_err(|error: UnknownName| ImportError::Wrong(error.to_string()))?;
        Ok(SeriesDef::new(device, point, one.unit.clone()).of_kind(kind))
    };
    let series = request.series.iter().map(def).collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = series.iter().find(|def| !seen.insert((&def.device, &def.point))) {
        return wrong(format!("series {}/{} is listed twice", twice.device, twice.point));
    }
    let record = ImportRecord {
        name: request.name.chars().take(NAME_CHARS_MAX).collect(),
        by: importer.by.clone(),
        generation: 0,
        series: series.len() as u64,
        rows: request.rows,
        readings: request.readings,
        nulls: request.nulls,
        refused: request.refused,
        chunks: request.chunks,
        begun_ms: hub.now_ms(),
    };
    Ok(Asked { record, series })
}

fn check_identity(identity: &str) -> Result<(), ImportError> {
    let good = identity.len() == 64 && identity.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let wrong = || ImportError::Wrong("identity: allowed is a SHA-256 as 64 digits in hex".to_owned());
    good.then_some(()).ok_or_else(wrong)
}

/// What the hub has of the series: gives those without a unit the one that is known, and counts what is new.
fn meet(hub: &Hub, series: &mut [SeriesDef]) -> Result<(u64, u64), ImportError> {
    let (mut new_series, mut told, mut others) = (0_u64, Vec::new(), 0_usize);
    let mut devices = BTreeSet::new();
    for def in series.iter_mut() {
        devices.insert(def.device.clone());
        let Some(known) = hub.store.state(&def.device, &def.point) else {
            new_series += 1;
            continue;
        };
        // A file says nothing of names, and of kinds only an export does.
        let kind = if def.kind() == ValueKind::Float { known.meta.kind } else { def.kind() };
        *def = def.clone().of_kind(kind).named(&known.meta.name);
        if def.unit.is_empty() {
            known.meta.unit.as_ref().clone_into(&mut def.unit);
        } else if !known.meta.unit.is_empty() && *known.meta.unit != *def.unit {
            if told.len() < TOLD_MAX {
                told.push(format!(
                    "{}/{} is in {:?} here and in {:?} in the file",
                    def.device, def.point, known.meta.unit, def.unit
                ));
            } else {
                others += 1;
            }
        }
    }
    if !told.is_empty() {
        let more = if others > 0 { format!("; and {others} more") } else { String::new() };
        return Err(ImportError::Refused(format!(
            "{}{more}; a mapping converts it with scale, offset and unit, or leaves the unit out",
            told.join("; ")
        )));
    }
    let mut new_devices = 0;
    for device in &devices {
        new_devices += u64::from(hub.metadata.find::<DeviceRecord>(device.as_str())?.is_none());
    }
    Ok((new_series, new_devices))
}

/// Begins an import, or says how far it is when it was begun.
///
/// # Errors
/// It is wrong, or the hub does not take it.
pub async fn begin(
    hub: &App,
    importer: &Importer,
    request: ImportRequest,
) -> Result<ImportState, ImportError> {
    let own = importer.clone();
    let (again, dry_run, identity) = (request.again, request.dry_run, request.identity.clone());
    let step = move |hub: &Hub| -> Result<_, ImportError> {
        let Asked { mut record, mut series } = check(hub, &own, &request)?;
        let known = hub.metadata.find::<ImportRecord>(&own.record_key(&request.identity))?;
        if let Some(known) = known {
            let counts = |r: &ImportRecord| (r.series, r.rows, r.readings, r.chunks);
            if counts(&known) != counts(&record) {
                let text = "it was begun with other counts of series, rows, readings or chunks";
                return Err(ImportError::Refused(format!("import {}: {text}", request.identity)));
            }
            record = known;
            let (agent, epoch) = place_of(&own, &request.identity, record.generation)?;
            if again && next(hub, &agent, epoch, record.chunks).is_none() {
                record.generation = record.generation.saturating_add(1);
                record.begun_ms = hub.now_ms();
            }
        }
        let (agent, epoch) = place_of(&own, &request.identity, record.generation)?;
        let new = meet(hub, &mut series)?;
        let mut admission = Admission::new(hub, &own.devices, &agent);
        admit(&mut admission, &series)?;
        if !dry_run {
            register(hub, &own, &request.identity, (&agent, &record))?;
            admission.register(|_| true)?;
        }
        Ok((record, agent, epoch, series, new))
    };
    let (record, agent, epoch, series, (new_series, new_devices)) = hub.blocking(step).await?;
    if !dry_run {
        define(hub, &agent, epoch, series).await?;
        tracing::info!(%agent, by = importer.by, name = record.name, readings = record.readings, "an import begins or goes on");
    }
    let state = shown(hub, identity, &record, (&agent, epoch));
    Ok(ImportState { new_series, new_devices, ..state })
}

fn admit(admission: &mut Admission<'_>, series: &[SeriesDef]) -> Result<(), ImportError> {
    let devices: BTreeSet<&DeviceId> = series.iter().map(|def| &def.device).collect();
    let refused: Vec<String> =
        devices.into_iter().filter_map(|device| admission.admit(device).err()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let more = refused.len().saturating_sub(TOLD_MAX);
    let told = refused.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(ImportError::Refused(format!("{told}{more}")))
}

/// Keeps what the import is, and registers it as the agent that it is in the ledger.
fn register(
    hub: &Hub,
    importer: &Importer,
    identity: &str,
    (agent, record): (&AgentId, &ImportRecord),
) -> Result<(), ImportError> {
    let own = DeviceRecord::behind(agent.to_string(), hub.now_ms());
    hub.metadata.change(|changes: &mut Changes| {
        changes.put(&importer.record_key(identity), record)?;
        match changes.find::<DeviceRecord>(agent.as_str())? {
            Some(known) if known.revoked => Err(ImportError::Refused(format!("{agent} was revoked"))),
            Some(_) => Ok(()),
            None => Ok(changes.put(agent.as_str(), &own)?),
        }
    })
}

async fn define(hub: &App, agent: &AgentId, epoch: Epoch, series: Vec<SeriesDef>) -> Result<(), ImportError> {
    let opening = hub.store.open_epoch(agent.clone(), epoch, Vec::new(), None).await?;
    let (Opening::Known(state) | Opening::Parted { state, .. }) = opening;
    // What is known was of the same file.
    let mut first = state.series_known;
    for defs in series.get(first as usize..).unwrap_or_default().chunks(SERIES_PER_MESSAGE_MAX) {
        let part = Series { first, defs: defs.to_vec() };
        first = hub.store.define_series(agent.clone(), epoch, part).await?;
    }
    Ok(())
}

/// The first chunk that is not settled.
fn next(hub: &Hub, agent: &AgentId, epoch: Epoch, chunks: u64) -> Option<u64> {
    let first = hub.store.agent_state(agent, epoch).settled.all().first_missing_from(1);
    (first <= chunks).then_some(first)
}

fn shown(hub: &Hub, identity: String, record: &ImportRecord, at: (&AgentId, Epoch)) -> ImportState {
    let (agent, epoch) = at;
    let ledger = hub.store.ledger(agent).into_iter().find(|ledger| ledger.epoch == epoch);
    let running = hub.jobs.views().into_iter().filter(|(_, runs, _)| *runs);
    ImportState {
        identity,
        name: record.name.clone(),
        by: record.by.clone(),
        agent: agent.to_string(),
        begun_ms: record.begun_ms,
        generation: record.generation,
        series: record.series,
        rows: record.rows,
        readings: record.readings,
        nulls: record.nulls,
        refused: record.refused,
        chunks: record.chunks,
        stored: ledger.map_or(0, |ledger| ledger.stored),
        next: next(hub, agent, epoch, record.chunks),
        new_series: 0,
        new_devices: 0,
        jobs: running.map(|(name, _, _)| name).collect(),
    }
}

async fn find(hub: &App, importer: &Importer, identity: &str) -> Result<ImportRecord, ImportError> {
    check_identity(identity)?;
    let key = importer.record_key(identity);
    let found = hub.blocking(move |hub| hub.metadata.find::<ImportRecord>(&key)).await?;
    found.ok_or_else(|| ImportError::Unknown(identity.to_owned()))
}

/// How far an import is.
///
/// # Errors
/// It was not begun.
pub async fn state(hub: &App, importer: &Importer, identity: &str) -> Result<ImportState, ImportError> {
    let record = find(hub, importer, identity).await?;
    let (agent, epoch) = place_of(importer, identity, record.generation)?;
    Ok(shown(hub, identity.to_owned(), &record, (&agent, epoch)))
}

/// Stores a chunk; returns when it is durable. Says whether it was not before.
///
/// # Errors
/// It is wrong, or the store takes nothing now.
pub async fn store_chunk(
    hub: &App,
    importer: &Importer,
    (identity, number): (&str, u64),
    body: &[u8],
) -> Result<bool, ImportError> {
    let record = find(hub, importer, identity).await?;
    let (agent, epoch) = place_of(importer, identity, record.generation)?;
    if !(1..=record.chunks).contains(&number) {
        let last = record.chunks;
        return Err(ImportError::Wrong(format!("chunk {number}; allowed are 1 to {last}")));
    }
    let own = agent.clone();
    let revoked = move |hub: &Hub| hub.metadata.find::<DeviceRecord>(own.as_str());
    if hub.blocking(revoked).await?.is_none_or(|own| own.revoked) {
        return Err(ImportError::Refused(format!("{agent} was revoked")));
    }
    let columns = columns(body, record.series)?;
    let run = tokio::task::spawn_blocking(move || run(epoch, number, &columns));
    let run = run.await.map_err(MetadataError::interrupted)??;
    let known = hub.store.agent_state(&agent, epoch).series_known;
    let batch = Batch::<Received>::received(agent, run);
    let batch = batch.validate(known).map_err(|invalid| {
        ImportError::Refused(format!("{invalid}; begin the import again, it goes on where it was"))
    })?;
    Ok(!hub.store.append(batch).await?.taken().is_empty())
}

/// The readings of a chunk.
fn columns(body: &[u8], series: u64) -> Result<Readings, ImportError> {
    let wrong = |text: String| ImportError::Wrong(format!("the chunk: {text}"));
    let body: ChunkBody = minicbor::decode(body).map_err(|error| wrong(error.to_string()))?;
    let (mut table, mut entries) = (body.table.as_slice(), Vec::new());
    while !table.is_empty() {
        entries.push(Boxed::read(&mut table).ok_or_else(|| wrong("its table is malformed".to_owned()))?);
    }
    let boxes = Boxes::of(entries);
    let (mut out, mut readings, mut seen) = (Vec::new(), 0_usize, BTreeSet::new());
    for column in body.columns {
        if u64::from(column.series) >= series || !seen.insert(column.series) {
            return Err(wrong(format!(
                "series {}; allowed are 0 to {}, each once",
                column.series,
                series.saturating_sub(1)
            )));
        }
        let ((times, no_time), (values, no_value)) =
            (column.times.as_chunks::<8>(), column.values.as_chunks::<8>());
        let even = no_time.is_empty() && no_value.is_empty() && times.len() == values.len();
        if !even || times.is_empty() {
            return Err(wrong(format!(
                "series {}: {} bytes of times and {} of values; allowed are eight of each for a reading",
                column.series,
                column.times.len(),
                column.values.len()
            )));
        }
        readings = readings.saturating_add(times.len());
        let sample = |(time, value): (&[u8; 8], &[u8; 8])| Sample {
            time_ns: i64::from_le_bytes(*time),
            value: f64::from_le_bytes(*value),
        };
        out.push((column.series, times.iter().zip(values).map(sample).collect()));
    }
    if readings == 0 || readings > ROWS_PER_BATCH_MAX {
        return Err(wrong(format!("{readings} readings; allowed are 1 to {ROWS_PER_BATCH_MAX}")));
    }
    Ok(Readings { columns: out, boxes })
}

/// Readings by series, as words of a table.
struct Readings {
    columns: Vec<(SeriesNo, Vec<Sample>)>,
    boxes: Boxes,
}

fn run(epoch: Epoch, number: u64, readings: &Readings) -> Result<Run, ImportError> {
    let batch: Vec<(SeriesNo, &[Sample])> =
        readings.columns.iter().map(|(series, samples)| (*series, samples.as_slice())).collect();
    let mut builder = BlockBuilder::new();
    builder.push_boxed(&batch, &readings.boxes);
    let block = builder.finish();
    if block.bytes.len() > RUN_BYTES_MAX {
        let bytes = block.bytes.len();
        return Err(ImportError::Wrong(format!(
            "the chunk takes {bytes} bytes; allowed are {RUN_BYTES_MAX}"
        )));
    }
    let envelope = RunEnvelope {
        epoch,
        lane: Lane::Backfill,
        first: Seq::new(number),
        rows: block.rows,
        series_end: block.series_end,
        restamps: Vec::new(),
    };
    Ok(Run { envelope, block: block.bytes })
}
