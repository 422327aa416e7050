//! Queries over HTTP, ingest, disk, starts and memory, beside DuckDB, VictoriaMetrics and InfluxDB on the same readings.
//!
//! `READINGS` is how many readings of the walk there are (10 million), `FLEET_READINGS` those of the fleet (8.64), `COUNT` how
//! far the curve and the sustained ingest go (200), `FLOOD` those that come a month late (100), all in millions, `YEAR` the days
//! of one series (365), `MINUTES` those of a million series (10), and `TIMES` how often each question is asked (101). `PEERS=none` leaves the others out. With `TRIAL=1` all of it is
//! small, also in a debug build: to see that it works, and for no figure.

mod asks;
pub mod client;
mod data;
pub mod feed;
mod peers;
mod steps;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::Figure;
use crate::scorecard::is_trial;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Readings of the walk, and of the fleet.
    pub walk: u64,
    pub fleet: u64,
    /// Readings at the end of the curve.
    pub curve: u64,
    /// Readings that come late.
    pub flood: u64,
    /// Days of the one series.
    pub days: u64,
    /// How often each question is asked.
    pub times: u64,
    /// Minutes of the many series.
    pub minutes: u64,
    pub peers: bool,
}

fn number(name: &str, full: f64, small: f64) -> anyhow::Result<f64> {
    let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) else {
        return Ok(if is_trial() { small } else { full });
    };
    let found = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    found.with_context(|| format!("{name}={text}: it must be a number above 0"))
}

impl Sizes {
    fn of_environment() -> anyhow::Result<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of millions")]
        let millions = |name, full, small| Ok::<_, anyhow::Error>((number(name, full, small)? * 1e6) as u64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = |name, full, small| Ok::<_, anyhow::Error>(number(name, full, small)? as u64);
        Ok(Self {
            walk: millions("READINGS", 10.0, 0.2)?,
            fleet: millions("FLEET_READINGS", 8.64, 0.36)?,
            curve: millions("COUNT", 200.0, 0.8)?,
            flood: millions("FLOOD", 100.0, 0.5)?,
            days: count("YEAR", 365.0, 2.0)?.max(1),
            times: count("TIMES", 101.0, 5.0)?.max(1),
            minutes: count("MINUTES", 10.0, 1.0)?.max(1),
            peers: std::env::var("PEERS").map_or(true, |text| text != "none"),
        })
    }
}

/// Prints a figure as soon as it is there, and keeps it.
pub struct Table<'a> {
    figures: &'a mut Vec<Figure>,
}

impl Table<'_> {
    /// A figure; one of something that is missing is not a number.
    pub fn put(&mut self, name: impl Into<String>, workload: &'static str, value: f64, unit: &'static str) {
        // They live as long as the program, and are few.
        let name: &'static str = name.into().leak();
        println!("{name:<64} {workload:<28} {value:>10.2} {unit}");
        self.figures.push(Figure { name, workload, value, unit });
    }

    /// Something that is to be known beside the figures.
    pub fn say(&self, text: impl std::fmt::Display) {
        println!("  {text}");
    }
}

/// Where what is unpacked, and the figures, are kept.
fn kept() -> PathBuf {
    Path::new(&std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into())).join("bench")
}

/// One part after the other; one that fails is told and does not keep the others from their turn.
pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let sizes = Sizes::of_environment()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table { figures };
    if is_trial() {
        table.say("a trial: everything in small, its figures mean nothing");
    }
    let wanted = std::env::var("STEPS").unwrap_or_default();
    let mut failed = Vec::new();
    let mut step = |name: &'static str, done: &mut dyn FnMut(&mut Table<'_>) -> anyhow::Result<()>| {
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
            return;
        }
        if let Err(error) = done(&mut table) {
            table.say(format!("{name} failed: {error:#}"));
            failed.push(name);
        }
    };
    step("walk", &mut |table| runtime.block_on(steps::workload(data::Kind::Walk, sizes, table)));
    step("fleet", &mut |table| runtime.block_on(steps::workload(data::Kind::Fleet, sizes, table)));
    step("year", &mut |table| runtime.block_on(steps::year(sizes, table)));
    step("curve", &mut |table| runtime.block_on(steps::curve(sizes, table)));
    step("many", &mut |table| runtime.block_on(steps::many(sizes, table)));
    step("flood", &mut |table| steps::flood(sizes, table));
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
