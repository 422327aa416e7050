//! `make bench`: every figure that the project names, in release, medians of several runs.
//!
//! Parts, each with a file of its figures: `edge` (spool, block codec, frames), `hub` (the store),
//! `path` (the real processes over QUIC), `links` (the same over bad links), `fleet` (a thousand
//! agents), `twin` (changes of state) and `queries` (beside DuckDB, VictoriaMetrics and InfluxDB). Every figure names its workload and batch shape. It asserts nothing but that there was something to measure.

#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

mod accept;
mod feed;
mod fleet;
mod links;
mod path;
mod queries;
mod relay;
mod scorecard;
mod spool;
mod store;
mod twin;
mod wire;
mod workload;

use std::process::Command;

use anyhow::Context as _;
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

/// The value below which the share `q` of `values` lies; NaN when there are none.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the values")]
    let at = (values.len().saturating_sub(1) as f64 * q).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Seconds that `work` takes: the median of [`RUNS`].
fn median_s(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    median_of(|| Ok(()), |_| work())
}

/// Seconds that `work` takes on what `prepare` makes, which is not counted; nor is its end.
fn median_of<T>(
    mut prepare: impl FnMut() -> anyhow::Result<T>,
    mut work: impl FnMut(&mut T) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let clock = SystemClock::default();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut made = prepare()?;
        let start = clock.mono_ns();
        work(&mut made)?;
        times.push((clock.mono_ns() - start) as f64 / 1e9);
    }
    Ok(median(&mut times))
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

/// A part that is run by its name only.
const SCORECARD: &str = "scorecard";

type Measure = fn(&mut Vec<Figure>) -> anyhow::Result<()>;

const PARTS: [(&str, Measure); 7] = [
    ("edge", |figures| {
        spool::measure(figures)?;
        accept::measure(figures)?;
        wire::measure(figures)
    }),
    ("hub", store::measure),
    ("path", path::measure),
    ("links", links::measure),
    ("fleet", fleet::measure),
    ("twin", twin::measure),
    ("queries", queries::measure),
];

/// Parts that can be done in small.
const TRIALS: [&str; 3] = [SCORECARD, "queries", "twin"];

/// Plays a role of a part in a process of its own; `None` if the arguments name none.
fn role(args: &[String]) -> Option<anyhow::Result<()>> {
    let (role, args) = args.split_first()?;
    let count = || Ok::<usize, anyhow::Error>(args.first().context("a count")?.parse()?);
    let said = match role.as_str() {
        scorecard::EDGE => return Some(scorecard::edge(args.first()?.as_ref())),
        twin::agent::OTHER_END => return Some(twin::agent::other_end()),
        queries::feed::FEED => queries::feed::child(args),
        twin::agent::ROLE => count().and_then(twin::agent::play),
        twin::hub::ROLE => count().and_then(twin::hub::play),
        _ => return None,
    };
    Some(said.map(|said| println!("{said}")))
}

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(played) = role(&wanted) {
        return played;
    }
    let trial = matches!(wanted.as_slice(), [one] if TRIALS.contains(&one.as_str())) && scorecard::is_trial();
    if cfg!(debug_assertions) && !trial {
        anyhow::bail!("figures of a debug build mean nothing; use `make bench`");
    }
    if let Some(unknown) =
        wanted.iter().find(|name| *name != SCORECARD && !PARTS.iter().any(|(part, _)| part == name))
    {
        anyhow::bail!(
            "there is no part {unknown:?}; the parts are edge, hub, path, links, fleet, twin, queries and scorecard"
        );
    }
    let (machine, commit) = (machine(), said("git", &["describe", "--always", "--dirty"]));
    println!("machine {machine}\ncommit  {commit}\nmedians of {RUNS} runs, unless a line says otherwise\n");
    let folder = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into()) + "/bench";
    std::fs::create_dir_all(&folder)?;
    if wanted.iter().any(|name| name == SCORECARD) {
        return scorecard::run(&folder);
    }
    for (part, measure) in
        PARTS.iter().filter(|(part, _)| wanted.is_empty() || wanted.iter().any(|w| w == part))
    {
        let mut figures = Vec::new();
        measure(&mut figures)?;
        // It tells each as soon as it has it.
        for f in figures.iter().filter(|_| *part != "queries") {
            println!("{:<62} {:<42} {:>12.2} {}", f.name, f.workload, f.value, f.unit);
        }
        let row = |f: &Figure| serde_json::json!({"name": f.name.trim(), "workload": f.workload, "value": f.value, "unit": f.unit});
        let rows: Vec<_> = figures.iter().map(row).collect();
        let text = serde_json::json!({"machine": machine, "commit": commit, "runs": RUNS, "figures": rows});
        std::fs::write(format!("{folder}/{part}.json"), serde_json::to_string_pretty(&text)?)?;
        println!("written to {folder}/{part}.json\n");
    }
    Ok(())
}
