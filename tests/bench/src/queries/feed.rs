//! Readings as blocks into a store, in a process of its own: the memory that it takes is then the store's and the blocks'.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tideline_protocol::block::{Block, BlockBuilder, repack};
use tideline_protocol::durability::Batch;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{Store, StoreConfig};
use tokio::sync::Semaphore;

use super::data::{Kind, Source};
use super::peers::bytes_in;
use crate::path::memory_mb;

/// The argument with which this program feeds a store.
pub const FEED: &str = "queries-feed";
/// Runs on their way, as a session has them.
const RUNS_AHEAD: usize = 8;
const EPOCH: Epoch = Epoch::from_bytes([5; 16]);

/// What is fed, as arguments.
#[derive(Debug, Clone)]
pub struct Feed {
    pub store: PathBuf,
    pub kind: Kind,
    /// Frames before the first one, and how many.
    pub frames: (u64, u64),
    /// Frames of one run; each is a batch.
    pub frames_per_run: u64,
    /// Whether sealed files are merged to the end.
    pub compact: bool,
    /// So many frames more are durable in the log and not sealed when the process ends, as if it were killed; none ends the
    /// store in order.
    pub logged: u64,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub struct Fed {
    pub rows: u64,
    /// From the first append until all is durable, can be queried, and is sealed with its rollups.
    pub seconds: f64,
    /// Most that was resident: the store, and the encoded blocks.
    pub resident_mb: f64,
    /// Of these, the blocks.
    pub blocks_mb: f64,
    /// All files, when what counts in `rows` was sealed and merged.
    pub disk_bytes: u64,
}

impl Feed {
    /// Feeds in a child.
    pub fn run(&self) -> anyhow::Result<Fed> {
        let output = Command::new(std::env::current_exe()?)
            .arg(FEED)
            .arg(&self.store)
            .args([
                self.kind.name(),
                &self.frames.0.to_string(),
                &self.frames.1.to_string(),
                &self.frames_per_run.to_string(),
                if self.compact { "compact" } else { "keep" },
                &self.logged.to_string(),
            ])
            .stderr(Stdio::inherit())
            .output()?;
        anyhow::ensure!(output.status.success(), "the feed ended with {}", output.status);
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| told.get(name).and_then(Value::as_f64).with_context(|| name.to_owned());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let whole = |name: &str| anyhow::Ok(number(name)? as u64);
        Ok(Fed {
            rows: whole("rows")?,
            disk_bytes: whole("disk_bytes")?,
            seconds: number("seconds")?,
            resident_mb: number("resident_mb")?,
            blocks_mb: number("blocks_mb")?,
        })
    }

    fn of(args: &[String]) -> anyhow::Result<Self> {
        let [store, kind, first, count, per_run, compact, logged] = args else {
            anyhow::bail!("seven arguments")
        };
        Ok(Self {
            store: store.into(),
            kind: Kind::of(kind)?,
            frames: (first.parse()?, count.parse()?),
            frames_per_run: per_run.parse()?,
            compact: compact == "compact",
            logged: logged.parse()?,
        })
    }
}

/// Frames before the first one, and how many, as runs.
fn runs(feed: &Feed, (before, frames): (u64, u64)) -> anyhow::Result<Vec<Run>> {
    let mut source = Source::new(feed.kind);
    source.skip(before);
    let (mut runs, mut held): (Vec<Run>, Vec<Block>) = (Vec::new(), Vec::new());
    let mut first = before + 1;
    for frame in 0..frames {
        let (time_ns, values) = source.frame();
        let samples: Vec<(SeriesNo, [Sample; 1])> =
            (0..).zip(values).map(|(no, value)| (no, [Sample { time_ns, value }])).collect();
        let slices: Vec<(SeriesNo, &[Sample])> = samples.iter().map(|(no, one)| (*no, &one[..])).collect();
        let mut builder = BlockBuilder::new();
        builder.push_batch(&slices);
        held.push(builder.finish());
        if (held.len() as u64) < feed.frames_per_run && frame + 1 < frames {
            continue;
        }
        let packed =
            repack(held.iter().map(|b| (b.bytes.as_slice(), b.rows.iter().next().unwrap_or_default())))?;
        let envelope = RunEnvelope {
            epoch: EPOCH,
            lane: Lane::Backfill,
            first: Seq::new(first),
            rows: packed.rows,
            series_end: packed.series_end,
            restamps: vec![],
        };
        first += held.len() as u64;
        held.clear();
        runs.push(Run { envelope, block: packed.bytes });
    }
    Ok(runs)
}

/// What is resident at most, in MB.
fn resident_mb() -> anyhow::Result<f64> {
    memory_mb(std::process::id(), "VmHWM")
}

async fn append(store: &Store, agent: &AgentId, runs: Vec<Run>, series: u32) -> anyhow::Result<()> {
    let ahead = Arc::new(Semaphore::new(RUNS_AHEAD));
    let mut appends = tokio::task::JoinSet::new();
    for run in runs {
        let batch = Batch::received(agent.clone(), run).validate(series)?;
        let permit = Arc::clone(&ahead).acquire_owned().await?;
        let store = store.clone();
        appends.spawn(async move {
            let done = store.append(batch).await;
            drop(permit);
            done.map(drop)
        });
        while let Some(done) = appends.try_join_next() {
            done??;
        }
    }
    while let Some(done) = appends.join_next().await {
        done??;
    }
    Ok(())
}

fn dictionary(kind: Kind, agent: u32) -> anyhow::Result<Series> {
    let def = |(device, point): (String, String)| {
        let (device, point) = (DeviceId::parse(&device)?, PointId::parse(&point)?);
        anyhow::Ok(SeriesDef::new(device, point, String::new()))
    };
    Ok(Series { first: 0, defs: kind.series(agent).into_iter().map(def).collect::<Result<_, _>>()? })
}

/// What the child does.
pub fn child(args: &[String]) -> anyhow::Result<Value> {
    let feed = Feed::of(args)?;
    let mut runs = runs(&feed, feed.frames)?;
    let blocks_mb = runs.iter().map(|run| run.block.len()).sum::<usize>() as f64 / 1e6;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (store, _) = Store::open(config(&feed.store), Arc::new(SystemClock::default()))?;
    let clock = SystemClock::default();
    let (mut rows, mut took_ns) = (0, 0);
    for no in 0..feed.kind.agents() {
        let agent = AgentId::parse(&if no == 0 { "bench".to_owned() } else { format!("bench-{no}") })?;
        let dictionary = dictionary(feed.kind, no)?;
        let series = u32::try_from(dictionary.defs.len())?;
        // The last one's go as they are stored, as a session's do: twice in memory they would be counted as the store's.
        let own = if no + 1 == feed.kind.agents() { std::mem::take(&mut runs) } else { runs.clone() };
        took_ns += runtime.block_on(async {
            store.define_series(agent.clone(), EPOCH, dictionary).await?;
            let start = clock.mono_ns();
            append(&store, &agent, own, series).await?;
            let settled = store.clone();
            tokio::task::spawn_blocking(move || settled.flush()).await??;
            anyhow::Ok(clock.mono_ns() - start)
        })?;
        rows += feed.frames.1 * u64::from(series);
    }
    let seconds = took_ns as f64 / 1e9;
    if feed.compact {
        store.compact()?;
    }
    let (resident_mb, disk_bytes) = (resident_mb()?, bytes_in(&feed.store));
    if feed.logged == 0 {
        store.close()?;
    } else {
        let runs = self::runs(&feed, (feed.frames.0 + feed.frames.1, feed.logged))?;
        let series = u32::try_from(dictionary(feed.kind, 0)?.defs.len())?;
        runtime.block_on(append(&store, &AgentId::parse("bench")?, runs, series))?;
        // Neither flushed nor closed: the process ends in the midst of it.
        std::mem::forget(store);
    }
    Ok(serde_json::json!({
        "rows": rows, "seconds": seconds, "resident_mb": resident_mb, "blocks_mb": blocks_mb, "disk_bytes": disk_bytes,
    }))
}

/// As the hub has it unless it is told otherwise.
fn config(store: &Path) -> StoreConfig {
    StoreConfig::new(store)
}
