//! `tideline-chaos [SCENARIO…]`: all scenarios, or those named, and the exit status says whether all
//! proved that nothing is lost or doubled. `ROUNDS=` of kills (200), `SEED=`, `STOP=` seconds of a stop (30).

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_e2e::chaos::{Outcome, SCENARIOS, Scale, run};
use tideline_protocol::time::Clock as _;

const HELP: &str = "\
Kills, stops and starves agent and hub as processes, and proves that nothing is lost or doubled.

Usage: tideline-chaos [--help] [SCENARIO]...

All scenarios, or those named. Environment:
  ROUNDS=200  kills of a scenario
  SEED=       what chance begins with; another one each time when it is not set
  STOP=30     seconds that a process is stopped";

fn number(name: &str, default: u64) -> Result<u64> {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(default);
    }
    text.parse().with_context(|| format!("{name}={text} is not allowed; allowed is a whole number"))
}

async fn all() -> Result<bool> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if named.iter().any(|arg| arg == "-h" || arg == "--help") {
        writeln!(std::io::stdout(), "{HELP}\n\nScenarios: {}", SCENARIOS.join(", "))?;
        return Ok(true);
    }
    let clock = tideline_protocol::time::SystemClock::default();
    let seed = number("SEED", clock.mono_ns())?;
    let mut scale = Scale::full(seed, u32::try_from(number("ROUNDS", 200)?)?);
    scale.stopped = Duration::from_secs(number("STOP", 30)?);
    let chosen: Vec<&str> =
        if named.is_empty() { SCENARIOS.to_vec() } else { named.iter().map(String::as_str).collect() };
    let mut out = std::io::stdout();
    writeln!(out, "SEED={seed} ROUNDS={}", scale.rounds)?;
    let mut good = true;
    for name in chosen {
        match run(name, scale).await {
            Ok(Outcome::Proved(what)) => writeln!(out, "{name:<11} ok       {what}")?,
            Ok(Outcome::NotAllowed(why)) => writeln!(out, "{name:<11} not run  {why}")?,
            Err(error) => {
                good = false;
                writeln!(out, "{name:<11} FAILED   {error:#}")?;
            }
        }
        out.flush()?;
    }
    Ok(good)
}

#[tokio::main]
async fn main() -> ExitCode {
    match all().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _unheard = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}
