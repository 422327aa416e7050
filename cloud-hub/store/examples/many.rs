//! What many series cost a store: `cargo run --release -p tideline-store --example many -- 1000000`. They are written by one
//! process, in batches of a reading of each, and asked for in a second one, whose memory is then that of a start.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints, and stops where it cannot go on"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::Batch;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{Store, StoreConfig};

const EPOCH: Epoch = Epoch::from_bytes([5; 16]);
/// Series of an agent, and of a device.
const PER_AGENT: u32 = 100_000;
const PER_DEVICE: u32 = 1_000;
const MINUTE_NS: i64 = 60_000_000_000;

fn memory_mb(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    found.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn told(what: &str, took_ns: u64) {
    let (now, most) = (memory_mb("VmRSS"), memory_mb("VmHWM"));
    println!("{what:<40} {:>9.1} ms {now:>6} MiB resident, {most} MiB at most", took_ns as f64 / 1e6);
}

fn timed<T>(clock: &SystemClock, what: &str, work: impl FnOnce() -> T) -> T {
    let start = clock.mono_ns();
    let made = work();
    told(what, clock.mono_ns() - start);
    made
}

fn dictionary(agent: u32, series: u32) -> Series {
    let def = |no: u32| {
        let device = DeviceId::parse(&format!("many-{agent}-{}", no / PER_DEVICE)).unwrap();
        SeriesDef::new(device, PointId::parse(&format!("p{no}")).unwrap(), String::new())
    };
    Series { first: 0, defs: (0..series).map(def).collect() }
}

/// A reading of each series.
fn run(series: u32, minute: u64) -> Run {
    let time_ns = 1_800_000_000_000_000_000 + minute.cast_signed() * MINUTE_NS;
    let samples: Vec<(u32, [Sample; 1])> =
        (0..series).map(|no| (no, [Sample { time_ns, value: f64::from(no % 977) / 10.0 }])).collect();
    let slices: Vec<(u32, &[Sample])> = samples.iter().map(|(no, one)| (*no, &one[..])).collect();
    let mut builder = BlockBuilder::new();
    builder.push_batch(&slices);
    let block = builder.finish();
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(minute + 1),
        rows: block.rows,
        series_end: series,
        restamps: vec![],
    };
    Run { envelope, block: block.bytes }
}

fn feed(dir: &Path, all: u32) {
    let clock = SystemClock::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (store, _) = Store::open(StoreConfig::new(dir), Arc::new(SystemClock::default())).unwrap();
    let agents: Vec<(u32, u32)> =
        (0..all.div_ceil(PER_AGENT)).map(|no| (no, (all - no * PER_AGENT).min(PER_AGENT))).collect();
    for minute in 0..2 {
        timed(&clock, &format!("minute {minute} of all series"), || {
            for (no, series) in &agents {
                let agent = AgentId::parse(&format!("bench-{no}")).unwrap();
                runtime.block_on(async {
                    store.define_series(agent.clone(), EPOCH, dictionary(*no, *series)).await.unwrap();
                    let batch = Batch::received(agent, run(*series, minute)).validate(*series).unwrap();
                    store.append(batch).await.unwrap();
                });
            }
        });
        timed(&clock, "  and sealed", || store.flush().unwrap());
    }
    timed(&clock, "merged", || store.compact().unwrap());
    store.close().unwrap();
}

fn ask(dir: &Path) {
    let clock = SystemClock::default();
    told("nothing", 0);
    let (store, _) = timed(&clock, "opened", || {
        Store::open(StoreConfig::new(dir), Arc::new(SystemClock::default())).unwrap()
    });
    timed(&clock, "a flush of nothing", || store.flush().unwrap());
    for _ in 0..2 {
        timed(&clock, "a page of all series", || {
            assert_eq!(store.first_series(None, Some("many-0-5/p5"), 101, |_| true).len(), 101);
        });
    }
    timed(&clock, "a search of all series", || {
        assert!(!store.first_series(None, None, 101, |text| text.point.contains("99999")).is_empty());
    });
    timed(&clock, "the devices", || store.devices().len());
    for point in ["p0", "p77", "p78"] {
        let device = DeviceId::parse("many-0-0").unwrap();
        timed(&clock, "one series in 500 buckets", || {
            let info = store.info(&device, &PointId::parse(point).unwrap()).unwrap();
            store.query_buckets(&[info.id], info.first_ns.unwrap(), info.last_ns.unwrap(), 500).unwrap();
        });
    }
    store.close().unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--ask") => ask(Path::new(&args[2])),
        all => {
            let all = all.map_or(1_000_000, |all| all.parse().unwrap());
            let dir = tempfile::tempdir_in(".").unwrap();
            feed(dir.path(), all);
            let own = std::env::current_exe().unwrap();
            assert!(Command::new(own).arg("--ask").arg(dir.path()).status().unwrap().success());
        }
    }
}
