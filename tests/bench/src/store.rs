//! The hub's store: readings a second until they are durable and can be queried, and how long answers take.
//!
//! What arrives is what the wire carries: validated runs of encoded blocks, from several agents at
//! once. The blocks are made before the clock starts; decoding them is the store's work and counts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::block::{Block, BlockBuilder, repack};
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{SeriesId, Store, StoreConfig};
use tokio::sync::Semaphore;

use crate::spool::slices;
use crate::workload::{START_NS, walk};
use crate::{Figure, RUNS, median, median_s, quantile};

const SERIES: u32 = 1_000;
const AGENTS: u8 = 4;
/// Runs of one agent on their way, as a session has them.
const RUNS_AHEAD: usize = 8;
const EPOCH: Epoch = Epoch::from_bytes([3; 16]);

/// How the same readings are cut into runs.
struct Shape {
    name: &'static str,
    seconds: usize,
    seqs_per_run: usize,
}

const SHAPES: [Shape; 2] = [
    Shape { name: "walk, 4 agents, batches of 1,000 readings", seconds: 1_500, seqs_per_run: 1 },
    Shape { name: "walk, 4 agents, runs of 250 s", seconds: 3_000, seqs_per_run: 250 },
];

fn agent(number: u8) -> anyhow::Result<AgentId> {
    Ok(AgentId::parse(&format!("bench-{number}"))?)
}

fn dictionary(number: u8) -> anyhow::Result<Series> {
    let device = DeviceId::parse(&format!("bench-{number}"))?;
    let def = |i| {
        let point = PointId::parse(&format!("p{i}"))?;
        anyhow::Ok(SeriesDef::new(device.clone(), point, String::new()))
    };
    Ok(Series { first: 0, defs: (0..SERIES).map(def).collect::<Result<_, _>>()? })
}

/// The walk as runs of `seqs_per_run` batches of one second.
fn runs(shape: &Shape) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    let (mut first, mut held): (u64, Vec<Block>) = (1, Vec::new());
    for batch in walk(SERIES, shape.seconds) {
        let mut builder = BlockBuilder::new();
        builder.push_batch(&slices(&batch));
        held.push(builder.finish());
        if held.len() < shape.seqs_per_run {
            continue;
        }
        let packed =
            repack(held.iter().map(|b| (b.bytes.as_slice(), b.rows.iter().next().unwrap_or_default())))?;
        let seqs = held.len() as u64;
        held.clear();
        let envelope = RunEnvelope {
            epoch: EPOCH,
            lane: Lane::Backfill,
            first: Seq::new(first),
            rows: packed.rows,
            series_end: packed.series_end,
            restamps: vec![],
        };
        runs.push(Run { envelope, block: packed.bytes });
        first += seqs;
    }
    Ok(runs)
}

fn batches(runs: &[Run], agent: &AgentId) -> anyhow::Result<Vec<Batch<Validated>>> {
    let one = |run: &Run| Ok(Batch::received(agent.clone(), run.clone()).validate(SERIES)?);
    runs.iter().map(one).collect()
}

fn open(dir: &Path) -> anyhow::Result<Store> {
    let (store, _) = Store::open(StoreConfig::new(dir), Arc::new(SystemClock::default()))?;
    Ok(store)
}

/// Appends the runs of all agents at once and returns the seconds until the last is queryable.
async fn ingest(store: &Store, runs: &[Run]) -> anyhow::Result<f64> {
    let mut work = Vec::new();
    for number in 0..AGENTS {
        store.define_series(agent(number)?, EPOCH, dictionary(number)?).await?;
        work.push(batches(runs, &agent(number)?)?);
    }
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    let mut agents = tokio::task::JoinSet::new();
    for batches in work {
        let store = store.clone();
        agents.spawn(async move {
            let ahead = Arc::new(Semaphore::new(RUNS_AHEAD));
            let mut appends = tokio::task::JoinSet::new();
            for batch in batches {
                let permit = Arc::clone(&ahead).acquire_owned().await?;
                let store = store.clone();
                appends.spawn(async move {
                    let done = store.append(batch).await;
                    drop(permit);
                    done.map(|_| ())
                });
            }
            while let Some(done) = appends.join_next().await {
                done??;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = agents.join_next().await {
        done??;
    }
    let settled = store.clone();
    tokio::task::spawn_blocking(move || settled.settle()).await??;
    Ok((clock.mono_ns() - start) as f64 / 1e9)
}

/// What is asked of the store, with the name of the question.
struct Question {
    name: &'static str,
    span_s: i64,
    series: usize,
    // No buckets asks for raw rows.
    buckets: Option<usize>,
}

const QUESTIONS: [Question; 4] = [
    Question {
        name: "query, 1 series, all 50 min, 500 buckets",
        span_s: 3_000,
        series: 1,
        buckets: Some(500),
    },
    Question {
        name: "query, 10 series, all 50 min, 50 buckets",
        span_s: 3_000,
        series: 10,
        buckets: Some(50),
    },
    Question { name: "query, 1 series, last 5 min, 300 buckets", span_s: 300, series: 1, buckets: Some(300) },
    Question { name: "query, 1 series, last 5 min, raw rows", span_s: 300, series: 1, buckets: None },
];
/// Answers of which the quantiles are taken.
const ANSWERS: usize = 200;

fn questions(store: &Store, figures: &mut Vec<Figure>, state: &'static str) -> anyhow::Result<()> {
    let ids: Vec<SeriesId> = store.series(None).iter().map(|info| info.id).collect();
    let end = START_NS + 3_000 * 1_000_000_000;
    let clock = SystemClock::default();
    for question in QUESTIONS {
        let from = end - question.span_s * 1_000_000_000;
        let mut times = Vec::with_capacity(ANSWERS);
        for turn in 0..ANSWERS {
            let asked: Vec<SeriesId> =
                ids.iter().copied().cycle().skip(turn * 17).take(question.series).collect();
            let start = clock.mono_ns();
            let rows = match question.buckets {
                Some(buckets) => store.query_buckets(&asked, from, end, buckets)?.series.len(),
                None => store.query_raw(&asked, from, end, None, 50_000)?.series.len(),
            };
            times.push((clock.mono_ns() - start) as f64 / 1e6);
            anyhow::ensure!(rows == question.series, "{} found nothing", question.name);
        }
        figures.push(Figure {
            name: question.name,
            workload: state,
            value: median(&mut times),
            unit: "ms, median",
        });
        figures.push(Figure {
            name: "  the slowest of a hundred",
            workload: state,
            value: quantile(&mut times, 0.99),
            unit: "ms, p99",
        });
    }
    Ok(())
}

/// The readings as Parquet where the environment names a file, for `parquet.py`.
fn export(store: &Store) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("EXPORT") else { return Ok(()) };
    let ids: Vec<SeriesId> = store.series(None).iter().map(|info| info.id).collect();
    store.export(
        tideline_store::ExportFormat::Parquet,
        &ids,
        i64::MIN,
        i64::MAX,
        std::fs::File::create(path)?,
    )?;
    Ok(())
}

/// The bare log that everything durable is measured against: the same records, appended and synced.
fn bare(runs: &[Run], group: usize) -> anyhow::Result<()> {
    use std::io::Write as _;
    let dir = tempfile::tempdir_in(".")?;
    let mut file = std::fs::File::create(dir.path().join("log"))?;
    for group in runs.chunks(group) {
        for run in group {
            for _ in 0..AGENTS {
                file.write_all(&run.block)?;
            }
        }
        file.sync_data()?;
    }
    Ok(())
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for shape in SHAPES {
        let runs = runs(&shape)?;
        let rows = f64::from(SERIES) * f64::from(AGENTS) * shape.seconds as f64;
        let bare_s = median_s(|| bare(&runs, RUNS_AHEAD))?;
        let mut times = Vec::new();
        let (mut bytes, mut sealed) = (0, 0);
        for turn in 0..RUNS {
            let dir = tempfile::tempdir_in(".")?;
            let store = open(dir.path())?;
            times.push(runtime.block_on(ingest(&store, &runs))?);
            bytes = store.metrics().log_bytes;
            if turn + 1 == RUNS && shape.seqs_per_run > 1 {
                store.flush()?;
                questions(&store, figures, "12 M readings, sealed")?;
                store.compact()?;
                questions(&store, figures, "12 M readings, compacted")?;
            }
            if turn + 1 == RUNS {
                store.flush()?;
                store.compact()?;
                sealed = store.metrics().sealed_bytes;
                export(&store)?;
            }
            store.close()?;
        }
        let mut push = |name, value, unit| figures.push(Figure { name, workload: shape.name, value, unit });
        push("hub ingest, durable and queryable (goal 1)", rows / median(&mut times) / 1e6, "M readings/s");
        push("  a bare log of the same blocks, synced every 8", rows / bare_s / 1e6, "M readings/s");
        push("  log bytes", bytes as f64 / rows, "B/reading");
        push(
            "  on the disk after compaction, rollups included (goal 0.6)",
            sealed as f64 / rows,
            "B/reading",
        );
    }
    Ok(())
}

/// How long is waited for anything, before the benchmark gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);
