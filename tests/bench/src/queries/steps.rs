//! What is measured, step by step.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use serde_json::Value;
use tideline_e2e::{Hub, process};
use tideline_protocol::time::{Clock, SystemClock};
use tokio::sync::Mutex;

use super::asks::{Question, Span, fleet, series, walk};
use super::client::{Ask, Client};
use super::data::{Kind, Source, lines};
use super::feed::{Fed, Feed};
use super::peers::{Peer, Which, bytes_in};
use super::{Sizes, Table, kept};
use crate::path::memory_mb;

/// Readings of one request of line protocol.
const PER_REQUEST: usize = 5_000;
/// Frames that are in the log when a process is killed: as many readings as a hub takes in a second at least.
const LOGGED: u64 = 1_000;
/// Frames that a store has before a flood of older ones.
const NEWER: u64 = 1_000;
/// Connections that write at once.
const WRITERS: usize = 2;

const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Walk => "walk",
        Kind::Fleet => "fleet, 100 trucks",
        Kind::Year => "one series at 1 Hz",
        Kind::Late => "walk, a month late",
        Kind::Many => "a million series",
    }
}

/// A hub that ran once, so that all its files are there, and rests.
async fn resting() -> anyhow::Result<Hub> {
    let mut hub = Hub::start().await?;
    hub.kill().await?;
    Ok(hub)
}

fn feed(hub: &Hub, kind: Kind, frames: (u64, u64), frames_per_run: u64) -> anyhow::Result<Fed> {
    left_by_kill(hub, kind, (frames, 0), frames_per_run)
}

/// The same, and then frames that are in the log alone when the process ends.
fn left_by_kill(
    hub: &Hub,
    kind: Kind,
    (frames, logged): ((u64, u64), u64),
    frames_per_run: u64,
) -> anyhow::Result<Fed> {
    Feed { store: hub.folder().join("hub/store"), kind, frames, frames_per_run, compact: true, logged }.run()
}

fn told(table: &mut Table<'_>, fed: Fed, workload: &'static str, shape: &str) {
    let rate = fed.rows as f64 / fed.seconds / 1e6;
    table.put(
        format!("ingest by blocks, durable, sealed, rolled up: {shape} (goal 6)"),
        workload,
        rate,
        "M readings/s",
    );
    table.put("  most resident, blocks to come included", workload, fed.resident_mb, "MB");
    table.put("  of these, the blocks", workload, fed.blocks_mb, "MB");
}

async fn client(hub: &Hub) -> anyhow::Result<Client> {
    Client::connect(hub.http(), Some(hub.token())).await
}

/// Asks the hub each question: computed each time, and as it is kept.
async fn ours(hub: &Hub, questions: &[Question], span: Span, times: u64) -> anyhow::Result<Vec<[f64; 2]>> {
    let mut client = client(hub).await?;
    let mut out = Vec::new();
    for question in questions {
        let (computed, _) = client.median_ms(times, |turn| question.ours(span, turn, false)).await?;
        let (kept, _) = client.median_ms(times, |turn| question.ours(span, turn, true)).await?;
        out.push([computed, kept]);
    }
    Ok(out)
}

fn goal(ms: f64) -> String {
    if ms.is_nan() { String::new() } else { format!(" (goal {ms})") }
}

/// One workload in the hub and in the others, and all questions to each.
pub async fn workload(kind: Kind, sizes: Sizes, table: &mut Table<'_>) -> anyhow::Result<()> {
    let readings = if kind == Kind::Fleet { sizes.fleet } else { sizes.walk };
    let frames = (readings / series(kind)).max(1);
    let (span, workload) = (Span::of(kind, frames), label(kind));
    let questions = if kind == Kind::Fleet { fleet(span) } else { walk(span) };
    table.say(format!("{workload}: {} readings", frames * series(kind)));
    let mut hub = resting().await?;
    let fed = feed(&hub, kind, (0, frames), 250)?;
    told(table, fed, workload, "runs of 250 batches");
    let rows = fed.rows as f64;
    table.put(
        "disk after compaction, all included (goal 0.6)",
        workload,
        bytes_in(&hub.folder().join("hub/store")) as f64 / rows,
        "B/reading",
    );
    hub.start_again().await?;
    let ours = ours(&hub, &questions, span, sizes.times).await?;
    table.put(
        "the hub, most resident after these queries (goal 512)",
        workload,
        memory_mb(hub.pid().context("the hub has ended")?, "VmHWM")?,
        "MB",
    );
    for (question, [computed, again]) in questions.iter().zip(&ours) {
        table.put(format!("{}{}", question.name, goal(question.goal_ms)), workload, *computed, "ms p50");
        table.put("  asked again, nothing changed", workload, *again, "ms p50");
    }
    if !sizes.peers {
        return Ok(());
    }
    if let Err(error) = duck(&hub, &questions, sizes, (workload, table)).await {
        table.say(format!("DuckDB is left out: {error:#}"));
    }
    drop(hub);
    if kind == Kind::Walk {
        by_lines(frames, table).await?;
    }
    for which in [Which::Victoria, Which::Influx] {
        if let Err(error) = peer(which, kind, frames, (&questions, sizes, table)).await {
            table.say(format!("{} is left out: {error:#}", which.name()));
        }
    }
    Ok(())
}

async fn duck(
    hub: &Hub,
    questions: &[Question],
    sizes: Sizes,
    (workload, table): (&'static str, &mut Table<'_>),
) -> anyhow::Result<()> {
    let python = process::binary("cloud-hub")?.with_file_name("../clients/bin/python");
    anyhow::ensure!(python.is_file(), "`make influx` installs it");
    let file = hub.folder().join("all.parquet");
    hub.command(&["export", "--out", &file.display().to_string()]).await?.good()?;
    let queries = hub.folder().join("queries.json");
    let sql: Vec<&str> = questions.iter().map(|question| question.duck.as_str()).collect();
    std::fs::write(&queries, serde_json::to_string(&sql)?)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/queries/duck.py");
    let text = [file.display().to_string(), queries.display().to_string(), sizes.times.to_string()];
    let [file, queries, times] = &text;
    let said = process::run_system(&python, &[script, file, queries, times]).await?;
    let said: Value = serde_json::from_str(&said.good()?)?;
    let took = said.get("ms").and_then(Value::as_array).context("no times")?;
    for (question, ms) in questions.iter().zip(took) {
        table.put(
            format!("DuckDB, in process: {}", question.name),
            workload,
            ms.as_f64().unwrap_or(f64::NAN),
            "ms p50",
        );
    }
    let bytes = said.get("bytes").and_then(Value::as_f64).context("no bytes")?;
    table.put("DuckDB: its file, sorted by series and time", workload, bytes / 1e6, "MB");
    Ok(())
}

/// Requests of line protocol, made while others are on their way; which of them counts, is the time of all.
async fn write_lines(
    kind: Kind,
    frames: u64,
    (at, path, token): (std::net::SocketAddr, &str, Option<&str>),
) -> anyhow::Result<f64> {
    let ours = token.is_some();
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(4);
    let maker = tokio::task::spawn_blocking(move || {
        let mut source = Source::new(kind);
        let per_frame = usize::try_from(series(kind)).unwrap_or(1);
        let mut text = String::new();
        for frame in 0..frames {
            let (time_ns, values) = source.frame();
            lines(kind, time_ns, &values, ours, &mut text);
            let full =
                (usize::try_from(frame).unwrap_or(0) + 1).is_multiple_of((PER_REQUEST / per_frame).max(1));
            if (full || frame + 1 == frames) && sender.blocking_send(std::mem::take(&mut text)).is_err() {
                return;
            }
        }
    });
    let receiver = Arc::new(Mutex::new(receiver));
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let mut client = Client::connect(at, token).await?;
        let (receiver, path) = (Arc::clone(&receiver), path.to_owned());
        writers.spawn(async move {
            loop {
                let next = receiver.lock().await.recv().await;
                let Some(text) = next else { return anyhow::Ok(()) };
                client.ask(&Ask::post(&path, "text/plain", text)).await?;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    maker.await?;
    Ok((clock.mono_ns() - start) as f64 / 1e9)
}

/// The hub as clients of InfluxDB write to it, and how soon it is back after it was killed.
async fn by_lines(frames: u64, table: &mut Table<'_>) -> anyhow::Result<()> {
    let mut hub = Hub::start().await?;
    let token = hub.command(&["token", "create", "bench", "--write", "*"]).await?.good()?.trim().to_owned();
    let path = "/api/v2/write?org=a&bucket=b&precision=ns";
    let seconds = write_lines(Kind::Walk, frames, (hub.http(), path, Some(&token))).await?;
    let rows = (frames * series(Kind::Walk)) as f64;
    table.put(
        "ingest by line protocol, durable, 5,000 a request",
        label(Kind::Walk),
        rows / seconds / 1e6,
        "M readings/s",
    );
    table.put(
        "  the hub, most resident",
        label(Kind::Walk),
        memory_mb(hub.pid().context("the hub has ended")?, "VmHWM")?,
        "MB",
    );
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    hub.kill_and_restart().await?;
    table.put(
        "  start to ready after kill -9",
        label(Kind::Walk),
        (clock.mono_ns() - start) as f64 / 1e9,
        "s",
    );
    Ok(())
}

async fn peer(
    which: Which,
    kind: Kind,
    frames: u64,
    (questions, sizes, table): (&[Question], Sizes, &mut Table<'_>),
) -> anyhow::Result<()> {
    let (peer, workload) = (Peer::start(which, &kept()).await?, label(kind));
    let seconds = write_lines(kind, frames, (peer.at(), peer.write_path(), None)).await?;
    let rows = (frames * series(kind)) as f64;
    let name = which.name();
    table.put(format!("{name}: ingest by line protocol"), workload, rows / seconds / 1e6, "M readings/s");
    peer.settle().await?;
    table.put(format!("{name}: disk after merges"), workload, peer.disk_bytes() as f64 / rows, "B/reading");
    let span = Span::of(kind, frames);
    let mut client = peer.client().await?;
    for question in questions {
        let asked = client.median_ms(sizes.times, |_| question.peer(which, span)).await;
        let (ms, bytes) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                table.say(format!("{name} does not answer: {error:#}"));
                client = peer.client().await?;
                continue;
            }
        };
        table.put(format!("{name}: {}", question.name), workload, ms, "ms p50");
        // An answer without anything in it was not asked for well.
        if bytes < 90 {
            table.say(format!("{name} answered with {bytes} bytes only"));
        }
    }
    table.put(format!("{name}: most resident"), workload, peer.resident_mb()?, "MB");
    drop(client);
    peer.end().await
}

/// One series of a year: any range of it in 500 buckets.
pub async fn year(sizes: Sizes, table: &mut Table<'_>) -> anyhow::Result<()> {
    let (kind, day_ms) = (Kind::Year, 86_400_000_i64);
    let frames = sizes.days * 86_400;
    let mut hub = resting().await?;
    feed(&hub, kind, (0, frames), 3_600)?;
    hub.start_again().await?;
    let mut client = client(&hub).await?;
    let end = Span::of(kind, frames).to_ms;
    for (name, ms) in [
        ("a year", 365 * day_ms),
        ("90 days", 90 * day_ms),
        ("30 days", 30 * day_ms),
        ("7 days", 7 * day_ms),
        ("a day", day_ms),
        ("8 hours", day_ms / 3),
        ("an hour", day_ms / 24),
    ] {
        // The beginning moves, so that another minute is cut each time.
        let ask = |turn: u64| {
            let from = end - ms - turn.cast_signed() * 7_919;
            Ask::get(format!("/api/v1/query?series=meter/level&from={from}&to={end}&buckets=500"))
        };
        let (took, _) = client.median_ms(sizes.times, ask).await?;
        table.put(format!("one series, {name} in 500 buckets (goal 10)"), label(kind), took, "ms p50");
    }
    Ok(())
}

/// A million series with a few readings each: what they take, and what one of them costs to be asked for.
pub async fn many(sizes: Sizes, table: &mut Table<'_>) -> anyhow::Result<()> {
    let kind = Kind::Many;
    let mut hub = resting().await?;
    let fed = feed(&hub, kind, (0, sizes.minutes), 1)?;
    told(table, fed, label(kind), "one batch for each agent and minute");
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    hub.start_again().await?;
    table.put("start to ready (goal 2)", label(kind), (clock.mono_ns() - start) as f64 / 1e9, "s");
    let mut client = client(&hub).await?;
    let end = Span::of(kind, sizes.minutes).to_ms;
    for (name, path) in [
        ("last value of one series", "/api/v1/last?series=many-7-33/p33333".to_owned()),
        (
            "one series, all in 500 buckets",
            format!(
                "/api/v1/query?series=many-7-33/p33333&from={}&to={end}&buckets=500",
                kind.begin_ns() / 1_000_000
            ),
        ),
        ("last values of a device with 1,000 series", "/api/v1/last?device=many-7-33".to_owned()),
        ("a page of the list of series", "/api/v1/series?limit=100".to_owned()),
        ("a search in the list of series", "/api/v1/series?limit=100&q=p99999".to_owned()),
    ] {
        let (took, _) = client.median_ms(sizes.times.min(31), |_| Ask::get(&path)).await?;
        table.put(name, label(kind), took, "ms p50");
    }
    table.put(
        "the hub, most resident (goal 512)",
        label(kind),
        memory_mb(hub.pid().context("the hub has ended")?, "VmHWM")?,
        "MB",
    );
    Ok(())
}

/// The same questions to more and more readings, the ingest of them all, and starts after kills.
pub async fn curve(sizes: Sizes, table: &mut Table<'_>) -> anyhow::Result<()> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let kind = Kind::Walk;
    let points = [1, 4, 10, 50, 100, 200].map(|millions| millions * 1_000_000_u64);
    let mut hub = resting().await?;
    let mut done = 0;
    let mut sizes_of_all = points.into_iter().filter(|rows| *rows < sizes.curve).collect::<Vec<_>>();
    sizes_of_all.push(sizes.curve);
    let (mut rows, mut seconds) = (0, 0.0);
    for size in sizes_of_all {
        let frames = (size / series(kind)).max(done + 2);
        let logged = LOGGED.min((frames - done) / 2);
        let fed = left_by_kill(&hub, kind, ((done, frames - done - logged), logged), 250)?;
        let sealed = frames - logged;
        (rows, seconds) = (rows + fed.rows, seconds + fed.seconds);
        done = frames;
        let (span, clock) = (Span::of(kind, frames), SystemClock::default());
        let start = clock.mono_ns();
        hub.start_again().await?;
        let ready_s = (clock.mono_ns() - start) as f64 / 1e9;
        let mut client = client(&hub).await?;
        let of = format!("{:.1} M readings", (frames * series(kind)) as f64 / 1e6);
        let log = (logged * series(kind)) as f64 / 1e6;
        let of_start =
            format!("{of}: start to ready after kill -9 with {log:.1} M of them in the log (goal 2)");
        table.put(of_start, label(kind), ready_s, "s");
        let last_hour = Span { from_ms: (span.to_ms - 3_600_000).max(span.from_ms), ..span };
        for (name, span) in [("last hour", last_hour), ("all", span)] {
            let ask = |_| {
                let to = span.to_ms + TURN.fetch_add(1, Ordering::Relaxed).cast_signed();
                Ask::get(format!(
                    "/api/v1/query?series=walk-1/p333&from={}&to={to}&buckets=500",
                    span.from_ms
                ))
            };
            let (took, _) = client.median_ms(sizes.times, ask).await?;
            table.put(format!("{of}: one series, {name} in 500 buckets"), label(kind), took, "ms p50");
        }
        let questions = walk(span);
        for at in [1, 4, 5] {
            let Some(question) = questions.get(at) else { continue };
            let (took, _) =
                client.median_ms(sizes.times.min(31), |turn| question.ours(span, turn, false)).await?;
            table.put(format!("{of}: {}", question.name), label(kind), took, "ms p50");
        }
        table.put(
            format!("{of}: the hub, most resident (goal 512)"),
            label(kind),
            memory_mb(hub.pid().context("the hub has ended")?, "VmHWM")?,
            "MB",
        );
        table.put(
            format!("{of}: disk after compaction"),
            label(kind),
            fed.disk_bytes as f64 / (sealed * series(kind)) as f64,
            "B/reading",
        );
        drop(client);
        hub.kill().await?;
    }
    table.put(
        "ingest by blocks, sustained over all of it (goal 6)",
        label(kind),
        rows as f64 / seconds / 1e6,
        "M readings/s",
    );
    Ok(())
}

/// A month of readings that comes at once, later than newer ones of the same series: in the store of a process of its own.
pub fn flood(sizes: Sizes, table: &mut Table<'_>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let store = |name: &str| Path::new(folder.path()).join(name);
    let frames = (sizes.flood / series(Kind::Late)).max(1);
    for (shape, frames_per_run, frames) in
        [("runs of 250 batches", 250, frames), ("batches of 1,000 readings", 1, frames.min(10_000))]
    {
        let newer = Feed {
            store: store(shape),
            kind: Kind::Walk,
            frames: (0, NEWER),
            frames_per_run: 250,
            compact: true,
            logged: 0,
        };
        newer.run()?;
        let late =
            Feed { kind: Kind::Late, frames: (NEWER, frames), frames_per_run, compact: false, ..newer };
        told(table, late.run()?, label(Kind::Late), shape);
    }
    Ok(())
}
