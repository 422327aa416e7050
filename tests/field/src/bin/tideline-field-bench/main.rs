//! `make bench PART=field`: what sources cost, measured on the agent's own process, in release.
//!
//! - points: 50 devices of Modbus TCP with 300 registers each, read once a second and spooled: processor time of the agent
//! - hang: the same with one of them that takes requests and never answers: how late the polls of the others begin
//! - memory: an agent with ten sources of ten kinds
//!
//! The devices are simulated in a process of their own. No hub is there: all goes to the spool. `RUNS=1` and `SECONDS=5`
//! do less.

#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

mod agent;
mod devices;
mod kinds;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use self::agent::{Agent, Load};
use self::devices::Devices;

/// How many devices there are.
const DEVICES: usize = 50;
/// How many registers each has, all of them read once a second.
const REGISTERS: usize = 300;
/// The role of the process that simulates devices.
const ROLE: &str = "devices";

/// What a run has shown.
struct Seen {
    load: Load,
    late_p99_ms: f64,
    late_max_ms: f64,
}

fn setting(name: &str, usual: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}: must be a number")),
        Err(_) => Ok(usual),
    }
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One run with all devices, of which some hang.
async fn run(hanging: usize, seconds: usize) -> Result<Seen> {
    let devices = Devices::start(DEVICES, hanging).await?;
    let agent = Agent::start(&|folder| devices::config(folder, &devices.addresses)).await?;
    let load = agent.measure(seconds).await?;
    let sources = agent.status().await?.sources;
    // The device that hangs is the last one; its own polls are not those of the others.
    let last = format!("line-{}", DEVICES - 1);
    let others = sources.values().filter(|source| hanging == 0 || source.name != last);
    let late: Vec<_> = others.filter_map(|source| source.jitter).collect();
    anyhow::ensure!(late.len() >= DEVICES - hanging, "only {} sources have polled", late.len());
    let most = |of: fn(&edge_agent::status::JitterStatus) -> f64| late.iter().map(of).fold(0.0, f64::max);
    let mut p99: Vec<f64> = late.iter().map(|late| late.p99_ms).collect();
    p99.sort_by(f64::total_cmp);
    let late_p99_ms = median(p99.into_iter());
    Ok(Seen { load, late_p99_ms, late_max_ms: most(|late| late.max_ms) })
}

fn tell(name: &str, workload: &str, value: f64, unit: &str) {
    println!("{name:<52} {workload:<44} {value:>10.2} {unit}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [role, count, hanging] = wanted.as_slice()
        && role == ROLE
    {
        return devices::serve(count.parse()?, hanging.parse()?).await;
    }
    if !wanted.is_empty() {
        bail!("it takes no arguments; RUNS and SECONDS say how much is done");
    }
    if cfg!(debug_assertions) {
        bail!("figures of a debug build mean nothing; use `make bench PART=field`");
    }
    let (runs, seconds) = (setting("RUNS", 3)?.max(1), setting("SECONDS", 30)?.max(1));
    println!("machine {}\ncommit  {}", machine(), said("git", &["describe", "--always", "--dirty"]));
    println!("medians of {runs} runs of {seconds} s each\n");
    let (mut calm, mut hung) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        calm.push(run(0, seconds).await?);
        hung.push(run(1, seconds).await?);
    }
    let workload = format!("{DEVICES} devices × {REGISTERS} registers × 1 Hz, spooled");
    tell("points read", &workload, median(calm.iter().map(|seen| seen.load.readings_s)), "/s");
    tell(
        "agent's processor time",
        &workload,
        median(calm.iter().map(|seen| seen.load.cpu_percent)),
        "% of a core",
    );
    tell("agent's memory", &workload, median(calm.iter().map(|seen| seen.load.resident_mb)), "MB resident");
    for (name, seen) in [("all answer", &calm), ("one hangs", &hung)] {
        let p99 = median(seen.iter().map(|seen| seen.late_p99_ms));
        tell(&format!("polls of the others begin late, p99, {name}"), &workload, p99, "ms");
        let max = median(seen.iter().map(|seen| seen.late_max_ms));
        tell(&format!("polls of the others begin late, most, {name}"), &workload, max, "ms");
    }
    let mut memory = Vec::new();
    for _ in 0..runs {
        memory.push(kinds::resident_mb(seconds).await?);
    }
    tell("agent's memory, ten sources", kinds::WORKLOAD, median(memory.into_iter()), "MB resident");
    Ok(())
}
