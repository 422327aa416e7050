//! Twins: how soon a change at the hub is in force on a device, what it takes on the wire, and what twins take of memory at both
//! ends.
//!
//! Changes go by the API of a real hub to a real agent over QUIC and loopback. Memory is that of processes with nothing else in
//! them: [`hub`] and [`agent`]. `TRIAL=1` does all of it in small, also in a debug build.

pub mod agent;
mod change;
pub mod hub;

use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::Figure;
use crate::scorecard::is_trial;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Changes that are waited for one by one.
    changes: usize,
    /// Seconds in which nothing is changed.
    idle_s: u64,
    /// Twins at one hub.
    twins: usize,
    /// Changes of one twin.
    history: usize,
}

const FULL: Sizes = Sizes { changes: 600, idle_s: 20, twins: 100_000, history: 100_000 };
const SMALL: Sizes = Sizes { changes: 20, idle_s: 2, twins: 300, history: 3_000 };

/// Measures all of it.
pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let sizes = if is_trial() { SMALL } else { FULL };
    if is_trial() {
        println!("a trial: everything in small, its figures mean nothing");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(change::measure(sizes, figures))?;
    agent::measure(sizes.history, figures)?;
    hub::measure(sizes.twins, figures)
}

/// What this program says when it plays `role` in a process of its own.
fn child(role: &str, count: usize) -> anyhow::Result<Value> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.args([role, &count.to_string()]).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "{role} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(told: &Value, name: &str) -> anyhow::Result<f64> {
    told.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {told}"))
}
