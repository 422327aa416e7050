//! `make scorecard`: the six figures that nobody publishes, of Tideline and of mosquitto's bridge, one
//! after the other on the same machine and with the same work: the walk, which mosquitto gets as JSON.
//!
//! Where mosquitto is missing its column is left out. `KILLS` sets how many kills there are. `TRIAL=1`
//! does all of it in small, also in a debug build: to see that it works, and for no figure.

mod mosquitto;
mod mqtt;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_e2e::Hub;
use tideline_e2e::mosquitto::program;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_spool::{Spool, SpoolConfig, encode_batch};

use self::mqtt::pause;
use crate::spool::slices;
use crate::workload::walk;
use crate::{Figure, accept, links, path, spool};

/// The argument with which this program plays the edge that is killed.
pub const EDGE: &str = "scorecard-edge";
/// Says that sizes are to be small.
pub const TRIAL: &str = "TRIAL";
/// How long the link is cut before the first fresh reading is waited for.
const OUTAGE: Duration = Duration::from_secs(30);
/// An edge lives between these before it is killed, in ms.
const LIFE_MS: (u64, u64) = (50, 1_500);
/// Batches of one reading that one sync makes durable.
const GROUP: usize = 32;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Kills unless `KILLS` says otherwise.
    kills: u32,
    /// Seconds of the walk that wait for the link.
    backlog_s: usize,
    /// Seconds of live work.
    live_s: usize,
    /// Readings that are accepted one at a time, and in batches.
    singles: usize,
    batched: usize,
}

const FULL: Sizes = Sizes { kills: 50, backlog_s: 1_000, live_s: 30, singles: 200_000, batched: 2_000_000 };
const SMALL: Sizes = Sizes { kills: 3, backlog_s: 20, live_s: 3, singles: 2_000, batched: 60_000 };

struct Score {
    accept_single: f64,
    accept_batch: f64,
    drained_per_s: f64,
    drained_mb_per_s: f64,
    fresh_ms: f64,
    wire: f64,
    flash: f64,
    lost_per_1000: f64,
}

impl Score {
    fn rows(&self) -> [(&'static str, f64); 8] {
        [
            ("durable readings/s at the edge, one at a time, pipelined", self.accept_single),
            ("durable readings/s at the edge, 100 at a time", self.accept_batch),
            ("readings/s drained after an outage", self.drained_per_s),
            ("MB/s drained after an outage, as JSON", self.drained_mb_per_s),
            ("ms from link-up to the first live reading at the hub", self.fresh_ms),
            ("wire bytes per reading, live, 1,000 readings/s", self.wire),
            ("flash bytes per reading at the edge, one batch a second", self.flash),
            ("acked readings lost per 1,000 kills of the edge", self.lost_per_1000),
        ]
    }
}

/// JSON bytes of one reading of the walk, as mosquitto carries it.
fn json_bytes() -> f64 {
    let batch = walk(1_000, 1);
    let values = batch.iter().flatten().flat_map(|(no, samples)| samples.iter().map(move |s| (no, s.value)));
    values.map(|(no, value)| format!("\"p{no}\":{value},").len() as f64).sum::<f64>() / 1_000.0
}

async fn tideline(sizes: Sizes, wait: impl FnMut() -> Duration) -> anyhow::Result<Score> {
    let hub = Hub::start().await?;
    let drained = path::drain(&hub, "drained", &walk(1_000, sizes.backlog_s), 1_000).await?;
    drop(hub);
    let drained_per_s = drained.rows / drained.seconds;
    let mut figures: Vec<Figure> = Vec::new();
    path::live_walk(&mut figures).await?;
    let wire = figures.first().context("no figure of the live walk")?.value;
    let encoded = walk(1_000, 300).iter().map(|b| encode_batch(&slices(b))).collect::<Result<Vec<_>, _>>()?;
    Ok(Score {
        accept_single: accept::accept(1, sizes.singles).await?,
        accept_batch: accept::accept(100, sizes.batched).await?,
        drained_per_s,
        drained_mb_per_s: drained_per_s * json_bytes() / 1e6,
        fresh_ms: links::outage(0, 1).await?.first().copied().unwrap_or(f64::NAN),
        wire,
        flash: spool::flash(&encoded)?,
        lost_per_1000: kills(sizes.kills, wait)? as f64 * 1_000.0 / f64::from(sizes.kills),
    })
}

fn open(folder: &Path) -> anyhow::Result<Spool> {
    Ok(Spool::open_file(
        &folder.join("spool.redb"),
        SpoolConfig { quota_bytes: 1 << 30, ..SpoolConfig::default() },
    )?
    .0)
}

/// Appends without end and says on stdout how many readings are durable.
pub fn edge(folder: &Path) -> anyhow::Result<()> {
    let mut spool = open(folder)?;
    let def = SeriesDef::new(DeviceId::parse("edge")?, PointId::parse("p0")?, String::new());
    let series = spool.series_no(&def)?;
    let mut out = std::io::stdout().lock();
    for time_ns in (0..).step_by(GROUP) {
        let one = |i| encode_batch(&[(series, &[Sample { time_ns: time_ns + i, value: 12.34 }])]);
        let group = (0..GROUP as i64).map(one).collect::<Result<Vec<_>, _>>()?;
        spool.append_group(&group, &[])?;
        writeln!(out, "{}", spool.account().produced)?;
        out.flush()?;
    }
    Ok(())
}

/// Readings that an edge had called durable and that were gone after kills of it.
fn kills(rounds: u32, mut wait: impl FnMut() -> Duration) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir_in(".")?;
    let mut lost = 0_u64;
    for _ in 0..rounds {
        let mut edge = Command::new(std::env::current_exe()?)
            .arg(EDGE)
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = edge.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || {
            let counts = BufReader::new(said).lines().map_while(Result::ok);
            counts.filter_map(|line| line.parse::<u64>().ok()).last().unwrap_or(0)
        });
        pause(wait());
        edge.kill()?;
        edge.wait()?;
        let acked = reader.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))?;
        lost += acked.saturating_sub(open(folder.path())?.account().produced);
    }
    Ok(lost)
}

/// What differs from the defaults of agent and hub, and what of them matters here.
const SETTINGS: &str = "QUIC with BBR and TLS 1.3; every reading is on the disk, synced, before it is acked, at \
    the edge and at the hub; one batch a second live; spool quota 1 GiB where a backlog waits";

/// Whether this is for no figure.
pub fn is_trial() -> bool {
    std::env::var_os(TRIAL).is_some_and(|value| !value.is_empty())
}

/// Measures both and prints them side by side.
pub fn run(folder: &str) -> anyhow::Result<()> {
    let mut sizes = if is_trial() { SMALL } else { FULL };
    if let Some(kills) = std::env::var("KILLS").ok().filter(|text| !text.is_empty()) {
        let allowed = || format!("KILLS={kills}: it must be a whole number from 1");
        sizes.kills = kills.parse().ok().filter(|kills| *kills > 0).with_context(allowed)?;
    }
    let wait = || {
        let mut random = StdRng::seed_from_u64(3);
        move || Duration::from_millis(random.random_range(LIFE_MS.0..LIFE_MS.1))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ours = runtime.block_on(tideline(sizes, wait()))?;
    let peer = match program("mosquitto") {
        Err(error) => Err(format!("{error:#}")),
        Ok(_) => Ok(mosquitto::score(sizes, wait())?),
    };
    if is_trial() {
        println!("a trial: everything in small, its figures mean nothing");
    }
    println!("{:<60} {:>14} {:>14}", "", "Tideline", "mosquitto");
    let mut rows = Vec::new();
    for (at, (name, value)) in ours.rows().into_iter().enumerate() {
        let other = peer.as_ref().ok().and_then(|peer| peer.rows().get(at).map(|(_, value)| *value));
        let shown = other.map_or_else(|| "-".to_owned(), |other| format!("{other:.2}"));
        println!("{name:<60} {value:>14.2} {shown:>14}");
        rows.push(serde_json::json!({"name": name, "tideline": value, "mosquitto": other}));
    }
    println!(
        "{} kills each; wire: Tideline with TLS and all acks, UDP payload; mosquitto without TLS, TCP payload",
        sizes.kills
    );
    println!("Tideline: {SETTINGS}");
    match &peer {
        Ok(_) => println!("mosquitto: {}", mosquitto::settings()),
        Err(missing) => println!("{missing}"),
    }
    std::fs::write(format!("{folder}/scorecard.json"), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}
