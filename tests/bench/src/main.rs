//! `make bench`: the figures of spool, block codec and frames, in release, medians of five runs.
//!
//! Every figure names its workload and batch shape. Bytes "on the wire" here are those of our frames;
//! UDP, TLS and acks come on top and are not in these figures. It asserts nothing.

#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

mod spool;
mod wire;
mod workload;

use std::process::Command;

use tideline_protocol::time::{Clock, SystemClock};

/// Runs of each measurement; the median is printed.
const RUNS: usize = 5;

/// One measured figure.
struct Figure {
    name: &'static str,
    workload: &'static str,
    value: f64,
    unit: &'static str,
}

/// Seconds that `work` takes: the median of [`RUNS`].
fn median_s(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let clock = SystemClock::default();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = clock.mono_ns();
        work()?;
        times.push((clock.mono_ns() - start) as f64 / 1e9);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(RUNS / 2).copied().unwrap_or(f64::NAN))
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok();
    output.map_or_else(|| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} × {cores}", model.trim_start_matches([' ', '\t', ':']))
}

fn main() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        anyhow::bail!("figures of a debug build mean nothing; use `make bench`");
    }
    let mut figures = Vec::new();
    spool::measure(&mut figures)?;
    wire::measure(&mut figures)?;
    let (machine, commit) = (machine(), said("git", &["describe", "--always", "--dirty"]));
    println!("machine {machine}\ncommit  {commit}\nmedians of {RUNS} runs\n");
    for f in &figures {
        println!("{:<58} {:<34} {:>14.2} {}", f.name, f.workload, f.value, f.unit);
    }
    let rows: Vec<_> = figures
        .iter()
        .map(
            |f| serde_json::json!({"name": f.name, "workload": f.workload, "value": f.value, "unit": f.unit}),
        )
        .collect();
    let text = serde_json::json!({"machine": machine, "commit": commit, "runs": RUNS, "figures": rows});
    let folder = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into()) + "/bench";
    std::fs::create_dir_all(&folder)?;
    std::fs::write(format!("{folder}/edge.json"), serde_json::to_string_pretty(&text)?)?;
    println!("\nwritten to {folder}/edge.json");
    Ok(())
}
