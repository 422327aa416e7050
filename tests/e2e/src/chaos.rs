//! Chaos: hub and agents as real processes under what the field does to them. `make chaos` runs all of
//! it, `tests/chaos.rs` a short form.
//!
//! Every scenario but [`twins`] has agents replay files whose every row is known, does its harm while they do, and
//! then proves that nothing is lost or doubled: by the hub's ledger, by the agents' own books, and by
//! reading every single row back through `/query` ([`fleet::Fleet::prove`]). A scenario that this machine
//! does not allow says so and is not counted as passed.

pub mod broker;
pub mod cuts;
pub mod fleet;
pub mod kills;
pub mod lines;
pub mod namespace;
pub mod rooms;
pub mod stops;
pub mod transports;
pub mod twins;

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// For moments, victims and packets.
    pub seed: u64,
    /// Rounds of kills.
    pub rounds: u32,
    /// How long a process stands still.
    pub stopped: Duration,
    /// How long a state of a line or of a disk lasts.
    pub hold: Duration,
}

impl Scale {
    /// The full form.
    #[must_use]
    pub const fn full(seed: u64, rounds: u32) -> Self {
        Self { seed, rounds, stopped: Duration::from_secs(30), hold: Duration::from_secs(8) }
    }

    /// For `make test`.
    #[must_use]
    pub const fn short(seed: u64) -> Self {
        Self { seed, rounds: 6, stopped: Duration::from_secs(2), hold: Duration::from_millis(700) }
    }
}

/// What became of a scenario.
#[derive(Debug)]
pub enum Outcome {
    /// What was done, and what it proved.
    Proved(String),
    /// What this machine does not allow.
    NotAllowed(String),
}

/// The scenarios by name.
pub const SCENARIOS: [&str; 10] = [
    "kills",
    "twins",
    "stops",
    "lines",
    "cuts",
    "transports",
    "broker",
    "namespace",
    "agent-full",
    "hub-full",
];

/// Runs a scenario of [`SCENARIOS`].
///
/// # Errors
/// Something was lost or doubled, or a process did not do what it must; or there is no such scenario.
pub async fn run(name: &str, scale: Scale) -> Result<Outcome> {
    match name {
        "kills" => kills::run(scale).await,
        "twins" => twins::run(scale).await,
        "stops" => stops::run(scale).await,
        "lines" => lines::run(scale).await,
        "cuts" => cuts::run(scale).await,
        "transports" => transports::run(scale).await,
        "broker" => broker::run(scale).await,
        "namespace" => namespace::run(scale).await,
        "agent-full" => rooms::agent(scale).await,
        "hub-full" => rooms::hub(scale).await,
        _ => anyhow::bail!("{name}: unknown scenario; allowed are {}", SCENARIOS.join(", ")),
    }
}

/// Lets time pass: here it is the event that is waited for.
pub async fn pass(time: Duration) {
    let _over = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// Seconds since `start`, for people.
#[must_use]
pub fn seconds(start: Instant) -> String {
    format!("{:.0} s", start.elapsed().as_secs_f64())
}
