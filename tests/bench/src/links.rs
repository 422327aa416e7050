//! Links that are long, lossy or cut: what of the live readings gets through, and how late.
//!
//! Real agent and hub; between them a line of the tests that delays and loses UDP datagrams. The
//! delay of each datagram is drawn anew, so that a link with jitter also reorders.

use std::path::Path;
use std::time::Duration;

use tideline_e2e::line::{Line, Quality};
use tideline_e2e::{Agent, Hub, until};
use tideline_link::quic::Congestion;
use tideline_protocol::time::{Clock as _, SystemClock};

use crate::feed::Feed;
use crate::path::{fill, walk_csv};
use crate::store::PATIENCE;
use crate::workload::walk;
use crate::{Figure, median, quantile};

/// How long readings are taken after the first have arrived.
const LIVE: Duration = Duration::from_secs(40);
/// How long they are not looked at before that: those taken while the session began came late.
const WARM: Duration = Duration::from_secs(5);
/// How long a cut link is cut.
const CUT: Duration = Duration::from_secs(30);
/// Cuts of each kind.
const CUTS: usize = 3;
/// Series of the walk, and how often a second all are read.
const FAST: (u32, usize) = (1_000, 10);
const SLOW: (u32, usize) = (100, 20);
/// Seconds of the walk of 1,000 series that wait behind a cut link: 10 M readings.
const BACKLOG_S: usize = 10_000;

struct Kind {
    workload: &'static str,
    goal: &'static str,
    quality: Quality,
    congestion: Congestion,
}

const fn long(delay_ms: u64, jitter_ms: u64, loss: f64) -> Quality {
    let (delay, jitter) = (Duration::from_millis(delay_ms), Duration::from_millis(jitter_ms));
    Quality { loss, delay, jitter, ..Quality::GOOD }
}

/// 600 ± 50 ms round trip.
const SATELLITE: Quality = long(275, 50, 0.02);
/// 100 ± 10 ms round trip.
const THIRD_GENERATION: Quality = long(45, 10, 0.01);

const KINDS: [Kind; 6] = [
    Kind {
        workload: "satellite, 600 ± 50 ms, 2 %, cubic",
        goal: "live readings, p99 (goal 2,000)",
        quality: SATELLITE,
        congestion: Congestion::Cubic,
    },
    Kind {
        workload: "satellite, 600 ± 50 ms, 2 %, bbr",
        goal: "live readings, p99 (goal 2,000)",
        quality: SATELLITE,
        congestion: Congestion::Bbr,
    },
    Kind {
        workload: "satellite, 600 ± 50 ms, 2 %, newreno",
        goal: "live readings, p99 (goal 2,000)",
        quality: SATELLITE,
        congestion: Congestion::NewReno,
    },
    Kind {
        workload: "3G, 100 ± 10 ms, 1 %, cubic",
        goal: "live readings, p99 (goal 500)",
        quality: THIRD_GENERATION,
        congestion: Congestion::Cubic,
    },
    Kind {
        workload: "3G, 100 ± 10 ms, 1 %, bbr",
        goal: "live readings, p99 (goal 500)",
        quality: THIRD_GENERATION,
        congestion: Congestion::Bbr,
    },
    Kind {
        workload: "3G, 100 ± 10 ms, 1 %, newreno",
        goal: "live readings, p99 (goal 500)",
        quality: THIRD_GENERATION,
        congestion: Congestion::NewReno,
    },
];

fn name_of(congestion: Congestion) -> &'static str {
    Congestion::NAMES.iter().find(|(_, one)| *one == congestion).map_or("cubic", |(name, _)| name)
}

fn config(line: &Line, congestion: Congestion, csv: &Path, rate: usize) -> String {
    format!(
        "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 100\n[uplink]\nhub = \"{}\"\ncongestion = \"{}\"\n\
         [[source]]\nkind = \"replay\"\npath = \"{}\"\ntimestamps = \"now\"\nrate = {rate}\n",
        line.address(),
        name_of(congestion),
        csv.display()
    )
}

async fn live(kind: &Kind, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let line = Line::start(hub.quic(), kind.quality, 1).await?;
    let csv = hub.folder().join("walk.csv");
    let (series, rate) = FAST;
    walk_csv(&csv, series, 60 * rate)?;
    let mut feed = Feed::open(&hub, "series=far/p0").await?;
    let agent = Agent::start(&hub, "far", &config(&line, kind.congestion, &csv, rate)).await?;
    feed.next().await?;
    let clock = SystemClock::default();
    let start_ns = clock.mono_ns() + u64::try_from(WARM.as_nanos())?;
    let end_ns = start_ns + u64::try_from(LIVE.as_nanos())?;
    let mut waits = Vec::new();
    while clock.mono_ns() < end_ns {
        let arrival = feed.next().await?;
        if clock.mono_ns() < start_ns {
            continue;
        }
        waits.extend(arrival.times_ms.iter().map(|time_ms| arrival.at_ms - time_ms));
    }
    agent.terminate(PATIENCE).await?;
    let ledger = hub.ledger("far").await?;
    let (produced, stored) = ledger.map_or((0, 0), |ledger| (ledger.produced, ledger.stored));
    let mut push = |name, value, unit| figures.push(Figure { name, workload: kind.workload, value, unit });
    push("live readings, median", median(&mut waits), "ms");
    push(kind.goal, quantile(&mut waits, 0.99), "ms");
    push("readings offered", produced as f64 / 1e3, "k");
    push("  of them arrived at the agent's end (goal 100)", stored as f64 / produced as f64 * 100.0, "%");
    Ok(())
}

/// Milliseconds from the moment at which the line is whole until a reading taken after it is at the hub.
async fn first_fresh(line: &Line, feed: &mut Feed) -> anyhow::Result<f64> {
    let up_ms = SystemClock::default().wall_ns() as f64 / 1e6;
    line.set(Quality::GOOD);
    loop {
        let arrival = feed.next().await?;
        if arrival.times_ms.iter().any(|time_ms| *time_ms >= up_ms) {
            return Ok(arrival.at_ms - up_ms);
        }
    }
}

/// Milliseconds from link-up to the first fresh reading, once for each of `turns` cuts.
pub async fn outage(backlog_s: usize, turns: usize) -> anyhow::Result<Vec<f64>> {
    let hub = Hub::start().await?;
    let line = Line::start(hub.quic(), Quality::GOOD, 1).await?;
    let (series, rate) = SLOW;
    let csv = hub.folder().join("walk.csv");
    let cut_s = usize::try_from(CUT.as_secs())?;
    walk_csv(&csv, series, (cut_s + 60) * rate)?;
    let mut waits = Vec::new();
    for turn in 0..turns {
        let device = format!("cut-{turn}");
        let mut feed = Feed::open(&hub, &format!("series={device}/p0")).await?;
        let config = config(&line, Congestion::default(), &csv, rate);
        let folder = Agent::prepare(&hub, &device, &config).await?;
        let backlog = if backlog_s > 0 { fill(&folder, &device, &walk(1_000, backlog_s), 1_000)? } else { 0 };
        // With a backlog the line is cut from the start: no session has drained any of it.
        line.set(if backlog > 0 { Quality::CUT } else { Quality::GOOD });
        let agent = Agent::launch(folder)?;
        if backlog == 0 {
            feed.next().await?;
            line.set(Quality::CUT);
        }
        tokio::time::sleep(CUT).await;
        waits.push(first_fresh(&line, &mut feed).await?);
        until("the backlog", PATIENCE, || async {
            Ok(hub.ledger(&device).await?.filter(|ledger| ledger.stored > backlog))
        })
        .await?;
        agent.terminate(PATIENCE).await?;
    }
    Ok(waits)
}

async fn cuts(backlog_s: usize, workload: &'static str, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let mut waits = outage(backlog_s, CUTS).await?;
    let mut push = |name, value| figures.push(Figure { name, workload, value, unit: "ms" });
    push("link up after 30 s to the first fresh reading (goal 1,000)", median(&mut waits));
    push("  the slowest of three", quantile(&mut waits, 1.0));
    Ok(())
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for kind in &KINDS {
            live(kind, figures).await?;
        }
        cuts(0, "2,000 readings/s, loopback", figures).await?;
        cuts(BACKLOG_S, "2,000 readings/s, 10 M waiting", figures).await
    })
}
