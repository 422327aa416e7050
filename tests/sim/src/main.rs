//! Runs the simulation from a shell: `SEEDS=100000` seeds on all cores after all canaries, or one, with
//! `SEED=…`. It ends with status 1 when a seed fails, and says how to run that one again.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

mod workers;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;

use mimalloc::MiMalloc;
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_sim::{Canary, Violation, run_caught};

/// A quarter of the time went into the system's allocator: simulated disks are made of small pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Time between two lines of progress.
const PROGRESS_INTERVAL_NS: u64 = 10_000_000_000;
const NS_PER_S: f64 = 1e9;

const HELP: &str = "\
Runs agent and hub over a lossy network and crashing disks, from seeds: nothing may be lost or doubled.

Usage: tideline-sim [--help]

All seeds run on all cores, after the canaries: mistakes that have to be caught. Environment:
  SEEDS=1000  how many seeds
  FROM=0      the first of them
  SEED=       this one alone, with all that came of it; without canaries

It ends with status 1 when a seed fails, and says how to run that one again.";

fn number(name: &str) -> Result<Option<u64>, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).map_err(|_| format!("{name}={text}: it must be a whole number from 0"))
        }
        _ => Ok(None),
    }
}

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    let done = match asked.as_deref() {
        Some(workers::WORKER) => quiet(workers::work),
        Some("-h" | "--help") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("{other}: unknown; allowed is --help")),
        None => simulate(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Without a word of panics: a canary that dies panics where the invariant is checked, and redb where a
/// flipped bit meets it. That is no news; a seed alone tells all.
fn quiet<T>(work: impl FnOnce() -> T) -> T {
    std::panic::set_hook(Box::new(|_| {}));
    work()
}

fn simulate() -> Result<(), String> {
    let failed = |violation: Violation| {
        format!("FAILED: {violation}\nto run it again: make sim SEED={}", violation.seed)
    };
    if let Some(seed) = number("SEED")? {
        println!("seed {seed}: {:#?}", run_caught(seed, Canary::None).map_err(failed)?);
        return Ok(());
    }
    let (from, seeds) = (number("FROM")?.unwrap_or(0), number("SEEDS")?.unwrap_or(1_000));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    quiet(|| canaries(threads))?;
    let clock = SystemClock::default();
    let told = Mutex::new((0_u64, 0_u64));
    let rate = |done: u64, now_ns: u64| done as f64 / (now_ns as f64 / NS_PER_S).max(1e-9);
    let workers::Sum { outcome, ended } = workers::run(from, seeds, threads, |more| {
        let now_ns = clock.mono_ns();
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.1 += more;
        if now_ns >= told.0 + PROGRESS_INTERVAL_NS {
            told.0 = now_ns;
            println!("{} of {seeds} seeds, {:.0} seeds/s", told.1, rate(told.1, now_ns));
        }
    })?;
    let took_ns = clock.mono_ns();
    println!("{outcome:#?}");
    if !ended.is_empty() {
        println!(
            "{} seeds ended their process, as redb panicked twice over a flipped bit: {ended:?}",
            ended.len()
        );
        println!("an agent looks at all pages before it opens such a spool once more, and puts it aside");
    }
    println!(
        "{seeds} seeds from {from} in {:.0} s on {threads} threads, {:.0} seeds/s: nothing lost, nothing doubled",
        took_ns as f64 / NS_PER_S,
        rate(seeds, took_ns)
    );
    Ok(())
}

fn canaries(threads: usize) -> Result<(), String> {
    for canary in Canary::ALL {
        let caught = canary.caught(threads).map_err(|lives| lives.to_string())?;
        println!("canary {canary:?}: caught at {caught}");
    }
    Ok(())
}
