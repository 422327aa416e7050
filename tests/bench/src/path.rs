//! The whole path with the real processes: agent, QUIC, hub, and a reader of the live feed.
//!
//! Bytes on the wire are the UDP payload of both directions, counted by a relay between the two:
//! handshake, TLS, QUIC's and our own acks, keep-alives and reports are all in them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tideline_e2e::{Agent, Hub, until};
use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_spool::{Spool, SpoolConfig};

use crate::feed::Feed;
use crate::relay::Relay;
use crate::spool::slices;
use crate::store::PATIENCE;
use crate::workload::{Batch, host, nab, walk};
use crate::{Figure, median, quantile};

const SERIES: u32 = 1_000;
/// Seconds of the walk that are waiting when the line opens.
const BACKLOG_S: usize = 500;
/// The same for the throughput, which needs more to drain.
const DRAIN_S: usize = 10_000;
/// How long the live workloads run.
const LIVE: Duration = Duration::from_secs(30);
/// Times that a drain is repeated.
const DRAINS: usize = 3;

const QUIET: &str = "[http]\nlisten = \"\"\n";

fn config(hub: SocketAddr, rest: &str) -> String {
    format!("{QUIET}[uplink]\nhub = \"{hub}\"\n{rest}")
}

/// Puts batches into the spool of an agent that is not running.
pub fn fill(folder: &Path, device: &str, batches: &[Batch], series: u32) -> anyhow::Result<u64> {
    let (mut spool, _) = Spool::open_file(
        &folder.join("data/spool.redb"),
        SpoolConfig { quota_bytes: 1 << 30, ..SpoolConfig::default() },
    )?;
    for i in 0..series {
        let (device, point) = (DeviceId::parse(device)?, PointId::parse(&format!("p{i}"))?);
        spool.series_no(&SeriesDef::new(device, point, String::new()))?;
    }
    for batch in batches {
        spool.append(&slices(batch), &[])?;
    }
    spool.flush()?;
    Ok(spool.account().produced)
}

/// A backlog that went from an agent's spool to the hub.
pub struct Drained {
    /// From the start of the agent until all is durable at the hub.
    pub seconds: f64,
    /// On the wire.
    pub bytes: f64,
    pub rows: f64,
    /// Most that the agent had resident, in MB.
    pub resident_mb: f64,
}

/// Starts an agent with a full spool and waits until all of it is durable at the hub.
pub async fn drain(hub: &Hub, device: &str, batches: &[Batch], series: u32) -> anyhow::Result<Drained> {
    let relay = Relay::start(hub.quic())?;
    relay.set_open(true);
    // An agent without sources would read this machine.
    let empty = hub.folder().join("empty.csv");
    std::fs::write(&empty, "timestamp,value\n")?;
    let source = format!("[[source]]\nkind = \"replay\"\npath = \"{}\"\n", empty.display());
    let folder = Agent::prepare(hub, device, &config(relay.address, &source)).await?;
    let rows = fill(&folder, device, batches, series)?;
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    let agent = Agent::launch(folder)?;
    hub.settled(device, rows, PATIENCE).await?;
    let seconds = (clock.mono_ns() - start) as f64 / 1e9;
    let bytes = relay.bytes() as f64;
    let resident_mb = memory_mb(agent.pid().context("the agent has ended")?, "VmHWM")?;
    agent.terminate(PATIENCE).await?;
    Ok(Drained { seconds, bytes, rows: rows as f64, resident_mb })
}

async fn backlogs(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let goal = |name, workload, value| Figure { name, workload, value, unit: "B/reading" };
    let drained = drain(&hub, "walk", &walk(SERIES, BACKLOG_S), SERIES).await?;
    figures.push(goal(
        "wire bytes, backlog, all included (goal 0.7)",
        "walk, 500 s, over QUIC",
        drained.bytes / drained.rows,
    ));
    for (name, label, file) in [
        (
            "wire bytes, backlog, all included (goal 4.5)",
            "machine_temperature, over QUIC",
            "machine_temperature_system_failure.csv",
        ),
        (
            "wire bytes, backlog, all included",
            "ambient_temperature, over QUIC",
            "ambient_temperature_system_failure.csv",
        ),
        ("wire bytes, backlog, all included", "occupancy, over QUIC", "occupancy_6005.csv"),
    ] {
        let Some(batches) = nab(file, 100) else { continue };
        let device = file.split('_').next().unwrap_or("nab");
        let drained = drain(&hub, device, &batches, 1).await?;
        figures.push(goal(name, label, drained.bytes / drained.rows));
    }
    Ok(())
}

async fn throughput(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let backlog = walk(SERIES, DRAIN_S);
    let (mut rates, mut resident) = (Vec::new(), Vec::new());
    for turn in 0..DRAINS {
        let hub = Hub::start().await?;
        let drained = drain(&hub, &format!("drain-{turn}"), &backlog, SERIES).await?;
        rates.push(drained.rows / drained.seconds / 1e6);
        resident.push(drained.resident_mb);
    }
    let workload = "walk, 10 M readings, one agent, over QUIC";
    let mut push = |name, value, unit| figures.push(Figure { name, workload, value, unit });
    push("spool to hub, agent's start included (goal 2)", median(&mut rates), "M readings/s");
    push("  most that the agent had resident (goal 20)", median(&mut resident), "MB");
    Ok(())
}

/// The walk as a CSV with one column per series and `rows` rows.
pub fn walk_csv(path: &Path, series: u32, rows: usize) -> anyhow::Result<()> {
    let names: Vec<String> = (0..series).map(|i| format!("p{i}")).collect();
    csv(path, &names, &walk(series, rows))
}

fn csv(path: &Path, names: &[String], batches: &[Batch]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    write!(out, "timestamp")?;
    names.iter().try_for_each(|name| write!(out, ",{name}"))?;
    for (second, batch) in batches.iter().enumerate() {
        write!(out, "\n{}", 1_763_719_200_000_i64 + i64::try_from(second)? * 1_000)?;
        for value in batch.iter().flat_map(|(_, samples)| samples).map(|sample| sample.value) {
            write!(out, ",{value}")?;
        }
    }
    writeln!(out)?;
    Ok(out.flush()?)
}

/// A line of the process' status in /proc, in MB.
pub fn memory_mb(pid: u32, line: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = text.lines().find_map(|l| l.strip_prefix(line)).context("no such line in /proc")?;
    let kib: f64 = found.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

async fn stored(hub: &Hub, device: &str) -> anyhow::Result<f64> {
    Ok(hub.ledger(device).await?.map_or(0, |ledger| ledger.stored) as f64)
}

/// Runs an agent for [`LIVE`]: bytes per reading after the first second, and its memory.
async fn live(
    device: &'static str,
    source: &str,
    figures: &mut Vec<Figure>,
    (goal, workload): (&'static str, &'static str),
) -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let relay = Relay::start(hub.quic())?;
    relay.set_open(true);
    let csv = hub.folder().join("walk.csv");
    walk_csv(&csv, SERIES, 120)?;
    let metrics = hub.folder().join("host.csv");
    let (names, batches) = host(120);
    self::csv(&metrics, &names, &batches)?;
    let source =
        source.replace("WALK", &csv.display().to_string()).replace("HOST", &metrics.display().to_string());
    let agent = Agent::start(&hub, device, &config(relay.address, &source)).await?;
    let begun = |n: f64| (n > 0.0).then_some(n);
    let first =
        until("the first reading", PATIENCE, || async { Ok(begun(stored(&hub, device).await?)) }).await?;
    let bytes = relay.bytes();
    tokio::time::sleep(LIVE).await;
    let (last, bytes) = (stored(&hub, device).await?, relay.bytes() - bytes);
    let pid = agent.pid().context("the agent has ended")?;
    let mut push = |name, value, unit| figures.push(Figure { name, workload, value, unit });
    push(goal, bytes as f64 / (last - first), "B/reading");
    push("agent, resident (goal 20)", memory_mb(pid, "VmRSS")?, "MB");
    push("agent, most resident since its start", memory_mb(pid, "VmHWM")?, "MB");
    agent.terminate(PATIENCE).await
}

async fn latency(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let csv = hub.folder().join("steps.csv");
    let steps: String = (0..60_000).map(|i| format!("2025-11-21 10:00:00,{}\n", i % 977)).collect();
    std::fs::write(&csv, format!("timestamp,value\n{steps}"))?;
    let source = format!(
        "[batch]\nflush_interval_ms = 50\n[[source]]\nkind = \"replay\"\npath = \"{}\"\ntimestamps = \"now\"\nrate = 1000\n",
        csv.display()
    );
    let agent = Agent::start(&hub, "latency", &config(hub.quic(), &source)).await?;
    let mut feed = Feed::open(&hub, "device=latency").await?;
    let clock = SystemClock::default();
    let mut waits = Vec::new();
    let start = clock.mono_ns();
    let warm = Duration::from_secs(2);
    let since = |now: u64| Duration::from_nanos(now - start);
    while since(clock.mono_ns()) < warm + LIVE {
        let arrival = feed.next().await?;
        if since(clock.mono_ns()) > warm {
            waits.extend(arrival.times_ms.iter().map(|time_ms| arrival.at_ms - time_ms));
        }
    }
    agent.terminate(PATIENCE).await?;
    anyhow::ensure!(waits.len() > 10_000, "the live feed carried only {} readings", waits.len());
    let workload = "1,000 readings/s, flush 50 ms, loopback";
    let mut push = |name, value| figures.push(Figure { name, workload, value, unit: "ms" });
    push("source to live feed, durable at both ends, median", median(&mut waits));
    push("source to live feed, durable at both ends, p99 (goal 250)", quantile(&mut waits, 0.99));
    Ok(())
}

fn replay(file: &str) -> String {
    format!("[[source]]\nkind = \"replay\"\npath = \"{file}\"\ntimestamps = \"now\"\nrate = 1\n")
}

/// The walk live; its first figure is the bytes on the wire.
pub async fn live_walk(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let names = ("wire bytes, live, all included (goal 3)", "walk, 1,000 readings/s, one frame a second");
    live("live-walk", &replay("WALK"), figures, names).await
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let agent = tideline_e2e::process::binary("edge-agent")?;
    let size = std::fs::metadata(agent)?.len() as f64 / 1e6;
    figures.push(Figure {
        name: "agent, stripped release binary (goal 12)",
        workload: "-",
        value: size,
        unit: "MB",
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        backlogs(figures).await?;
        throughput(figures).await?;
        let all = "wire bytes, live, all included";
        live_walk(figures).await?;
        let host = ("wire bytes, live, all included (goal 8)", "64 host metrics at 1 Hz");
        live("live-host", &replay("HOST"), figures, host).await?;
        live(
            "live-own",
            "[[source]]\nkind = \"host\"\n",
            figures,
            (all, "this machine's own metrics at 1 Hz"),
        )
        .await?;
        latency(figures).await
    })
}
