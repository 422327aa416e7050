//! `import`: the readings of files.
//!
//! ```text
//! hash ──▶ is it stored? ──▶ read all, store nothing: series, errors ──▶ begin ──▶ read again, chunk by chunk
//! ```
//! The file is read on this side of the socket, so that whatever is in it costs the hub nothing; what is Parquet in
//! a process with limits ([`tideline_sql::parquet`]). The hub says which chunk comes next.

mod table;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tideline_formats::table::{Account, Chunk, Chunks, Mapping, Rows, VERSION};
use tideline_link::{errln, outln};
use tideline_protocol::model::DeviceId;
use tokio::sync::mpsc;

use cloud_hub::api::shapes::{ImportSeries, ImportState};
use cloud_hub::config::Config;
use cloud_hub::imports::{ChunkBody, ChunkColumn};
use cloud_hub::secret;
use cloud_hub::when::{show_ms, show_ns};

use super::progress::{Progress, megabytes, percent, rate};
use super::socket::{HubSocket, Refusal};
use table::Table;

/// Chunks that are read ahead of the one that is sent.
const AHEAD: usize = 2;
/// How often a hub that is busy is asked again, and how long after.
const TRIES_MAX: u32 = 60;
const TRY_AFTER: Duration = Duration::from_secs(2);
/// Longest mapping.
const MAP_BYTES_MAX: u64 = 1024 * 1024;

/// What files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    Parquet,
    Csv,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The files. Each is stored once, whatever it is called and whoever was killed in the middle.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are; as their ending says when left out: .csv, .tsv or .txt, and Parquet otherwise.
    #[arg(long, value_enum)]
    format: Option<ImportFormat>,
    /// Which column is what (TOML); needed where that does not follow from their names.
    #[arg(long, value_name = "MAP.toml")]
    map: Option<PathBuf>,
    /// The device of all readings.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Read all of it, ask the hub, and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Store nothing of a file that has a row which cannot be taken.
    #[arg(long)]
    strict: bool,
    /// Store a file once more that is stored already.
    #[arg(long)]
    again: bool,
}

/// `import`.
pub async fn import(config: &Config, args: ImportArgs) -> Result<()> {
    let hub = HubSocket::of(config);
    let mapping = args.map.as_deref().map(mapping).transpose()?.unwrap_or_default();
    let device = args.device.as_deref().map(DeviceId::parse).transpose().context("--device")?;
    for path in &args.files {
        let table = Table {
            path: path.clone(),
            format: args.format.unwrap_or_else(|| of_ending(path)),
            mapping: mapping.clone(),
            device: device.clone(),
            program: config.sql.program.clone(),
        };
        one(&hub, Arc::new(table), &args).await.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn of_ending(path: &Path) -> ImportFormat {
    match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv" | "tsv" | "txt") => ImportFormat::Csv,
        _ => ImportFormat::Parquet,
    }
}

fn mapping(path: &Path) -> Result<Mapping> {
    let shown = path.display();
    let mut text = String::new();
    let opened = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    opened
        .take(MAP_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} cannot be read"))?;
    toml::from_str(&text).map_err(|error| anyhow!("{shown}: {error}"))
}

/// What says whether a file is still the one that it was.
#[derive(PartialEq)]
struct Stamp(u64, std::time::SystemTime);

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = std::fs::metadata(path).context("it cannot be read")?;
    ensure!(metadata.is_file(), "it is no file; allowed are files that can be read more than once");
    Ok(Stamp(metadata.len(), metadata.modified()?))
}

async fn one(hub: &HubSocket, table: Arc<Table>, args: &ImportArgs) -> Result<()> {
    let shown = table.path.display().to_string();
    let before = stamp(&table.path)?;
    let hashing = Arc::clone(&table);
    let identity = tokio::task::spawn_blocking(move || identity(&hashing)).await??;
    let known = known(hub, &identity).await?;
    if let Some(known) = known.filter(|known| known.next.is_none() && !args.again && !args.dry_run) {
        outln!(
            "{shown}: stored already, as {} on {}: {} of {} readings; --again stores them once more",
            known.name,
            show_ms(known.begun_ms),
            known.stored,
            known.readings
        );
        return Ok(());
    }
    let (checking, strict) = (Arc::clone(&table), args.strict);
    let rows = tokio::task::spawn_blocking(move || check(&checking, strict)).await??;
    let account = rows.account();
    tell(&shown, table.format, &rows);
    ensure!(
        !strict || account.refused == 0,
        "nothing was stored: a value cannot be taken, and --strict is said"
    );
    ensure!(
        account.readings > 0 || account.refused == 0,
        "nothing was stored: not one of its readings can be taken"
    );
    let state = begin(hub, &identity, &table, &rows, args).await?;
    if args.dry_run {
        let (series, devices) = (state.new_series, state.new_devices);
        outln!("{shown}: nothing was stored; {series} series and {devices} devices would be new to the hub");
        return Ok(());
    }
    jobs(&state);
    let readings = send(hub, &table, &state, account.rows).await?;
    ensure!(
        stamp(&table.path)? == before && readings == account.readings,
        "the file changed while it was read; what it is now, is another file"
    );
    settle(hub, &shown, &identity).await
}

/// The hash of all that the readings of a file follow from.
fn identity(table: &Table) -> Result<String> {
    let mapping = serde_json::to_string(&table.mapping)?;
    let device = table.device.as_ref().map_or("", DeviceId::as_str);
    let mut hash = Sha256::new();
    hash.update(format!("tideline import {VERSION}\n{:?}\n{device}\n{mapping}\n", table.format));
    let mut file = File::open(&table.path).context("it cannot be read")?;
    let (all, mut done) = (file.metadata()?.len(), 0_u64);
    let (mut buffer, mut progress) = (vec![0; 1024 * 1024], Progress::new());
    loop {
        let read = file.read(&mut buffer).context("it cannot be read")?;
        if read == 0 {
            return Ok(secret::hex(&hash.finalize()));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        done += read as u64;
        progress.tell(|_| format!("hashing: {} of {}", megabytes(done), megabytes(all)));
    }
}

async fn known(hub: &HubSocket, identity: &str) -> Result<Option<ImportState>> {
    match hub.get_as(&format!("/api/v1/imports/{identity}")).await {
        Ok(state) => Ok(Some(state)),
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == 404) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads all of it and stores nothing.
fn check(table: &Table, strict: bool) -> Result<Rows> {
    let mut progress = Progress::new();
    let mut rows = 0_u64;
    table.read(strict, &mut |_, share| {
        rows += 1;
        progress.tell(|seconds| {
            let rate = rate(rows, seconds);
            format!("reading: {rows} rows, {} %, {rate} rows/s", percent(share.done, share.all))
        });
        Ok(())
    })
}

fn tell(shown: &str, format: ImportFormat, rows: &Rows) {
    let Account { rows: all, readings, nulls, refused, listed, span_ns } = rows.account();
    let span = span_ns
        .map_or_else(String::new, |(first, last)| format!(" from {} to {}", show_ns(first), show_ns(last)));
    let series = rows.series().len();
    outln!("{shown}: {all} rows: {readings} readings of {series} series{span}");
    if *nulls > 0 {
        outln!("{shown}: {nulls} values are null, which is no reading");
    }
    if *refused > 0 {
        outln!("{shown}: {refused} values or rows cannot be taken:");
        for wrong in listed {
            let column = wrong.column.as_ref().map_or_else(String::new, |name| format!(", column {name:?}"));
            let what = if format == ImportFormat::Csv { "line" } else { "row" };
            outln!("  {what} {}{column}: {}", wrong.at, wrong.reason);
        }
        let more = refused.saturating_sub(listed.len() as u64);
        if more > 0 {
            outln!("  and {more} more");
        }
    }
}

async fn begin(
    hub: &HubSocket,
    identity: &str,
    table: &Table,
    rows: &Rows,
    args: &ImportArgs,
) -> Result<ImportState> {
    let account = rows.account();
    let series = rows.series().iter().map(|def| ImportSeries {
        device: def.device.to_string(),
        point: def.point.to_string(),
        unit: def.unit.clone(),
        kind: def.kind().to_string(),
    });
    let name = table.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let body = json!({
        "identity": identity, "name": name, "rows": account.rows, "readings": account.readings,
        "nulls": account.nulls, "refused": account.refused, "chunks": rows.chunks(),
        "series": series.collect::<Vec<_>>(), "again": args.again, "dry_run": args.dry_run,
    });
    let state = hub.post("/api/v1/imports", &body).await?;
    serde_json::from_value(state).context("the hub's answer is not understood; is it another version?")
}

fn jobs(state: &ImportState) {
    if !state.jobs.is_empty() && state.next.is_some() {
        errln!(
            "{} stream jobs run and see these readings too ({}): what is older than they wait for is late there, and counted as that",
            state.jobs.len(),
            state.jobs.join(", ")
        );
    }
}

/// A chunk on its way, with the rows and the share of the file that were read for it.
struct Step {
    chunk: Chunk,
    rows: u64,
}

/// Sends what the hub has not; gives how many readings the file has.
async fn send(hub: &HubSocket, table: &Arc<Table>, state: &ImportState, all_rows: u64) -> Result<u64> {
    let Some(next) = state.next else { return Ok(state.readings) };
    let (steps, mut coming) = mpsc::channel(AHEAD);
    let reading = Arc::clone(table);
    let reader = tokio::task::spawn_blocking(move || chunks(&reading, next, &steps));
    let (mut progress, mut sent, mut bytes) = (Progress::new(), 0_u64, 0_u64);
    while let Some(Step { chunk, rows }) = coming.recv().await {
        let path = format!("/api/v1/imports/{}/chunks/{}", state.identity, chunk.number);
        let readings = chunk.readings() as u64;
        let body = Bytes::from(minicbor::to_vec(body(chunk))?);
        bytes += body.len() as u64;
        put(hub, &path, body).await?;
        sent += readings;
        progress.tell(|seconds| {
            let (share, rate) = (percent(rows, all_rows), rate(sent, seconds));
            format!("storing: {rows} rows, {share} %, {} sent, {rate} readings/s", megabytes(bytes))
        });
    }
    let rows = reader.await??;
    ensure!(rows.chunks() == state.chunks, "the file changed while it was read");
    Ok(rows.account().readings)
}

/// Reads the file from its beginning, which is what numbers series and chunks, and gives the chunks from `next` on.
fn chunks(table: &Table, next: u64, steps: &mpsc::Sender<Step>) -> Result<Rows> {
    let (mut chunks, mut read) = (Chunks::default(), 0_u64);
    let give = |chunk: Chunk, rows: u64| {
        if chunk.number < next {
            return Ok(());
        }
        steps.blocking_send(Step { chunk, rows }).map_err(|_| anyhow!("it was not stored"))
    };
    let rows = table.read(false, &mut |row, _| {
        read += 1;
        chunks.add(row).map_or(Ok(()), |chunk| give(chunk, read))
    })?;
    if let Some(chunk) = chunks.finish() {
        give(chunk, read)?;
    }
    Ok(rows)
}

fn body(chunk: Chunk) -> ChunkBody {
    let column = |(series, samples): (u32, Vec<tideline_protocol::model::Sample>)| ChunkColumn {
        series,
        times: samples.iter().flat_map(|sample| sample.time_ns.to_le_bytes()).collect(),
        values: samples.iter().flat_map(|sample| sample.value.to_le_bytes()).collect(),
    };
    let mut table = Vec::new();
    chunk.boxes.entries().iter().for_each(|boxed| boxed.write(&mut table));
    ChunkBody { columns: chunk.columns.into_iter().map(column).collect(), table }
}

/// Asks a hub again that is busy.
async fn put(hub: &HubSocket, path: &str, body: Bytes) -> Result<()> {
    for _ in 0..TRIES_MAX {
        match hub.put_cbor(path, body.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == 503) => {
                tokio::time::sleep(TRY_AFTER).await;
            }
            Err(error) => {
                return Err(error.context("not all is stored; the same command goes on where it was"));
            }
        }
    }
    bail!("the hub takes nothing now, its log says why; the same command goes on where it was")
}

/// What the ledger says at the end.
async fn settle(hub: &HubSocket, shown: &str, identity: &str) -> Result<()> {
    let state = known(hub, identity).await?.context("the hub has forgotten the import")?;
    let ImportState { stored, readings, agent, .. } = &state;
    ensure!(
        state.next.is_none() && stored == readings,
        "{stored} of {readings} readings are stored by the ledger of {agent}; the same command goes on where it was"
    );
    outln!("{shown}: {stored} readings are stored; the ledger of {agent} says the same");
    Ok(())
}
