//! Hub and agent are killed again and again; every reading arrives exactly once.
#![allow(clippy::print_stderr, reason = "a test says when it kills")]

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tideline_e2e::{Agent, Hub, until};

const ROWS: u32 = 20_000;
const RATE: u32 = 600;
const KILLS: u64 = 9;
const SEED: u64 = 0x7a1d_e11e;
/// Longest wait for readings to move on after a kill; the agent waits between its attempts to connect.
const MOVE_MAX: Duration = Duration::from_secs(60);

/// Unix ms of the first row.
const START_MS: i64 = 1_700_000_000_000;

/// The row's value; no two are the same, and most need all digits.
fn value(row: u32) -> f64 {
    f64::from(row) + 1.0 / (f64::from(row) + 3.0)
}

fn csv() -> Result<String> {
    let mut text = "timestamp,value\n".to_owned();
    for row in 0..ROWS {
        let time = jiff::Timestamp::from_millisecond(START_MS + i64::from(row))?;
        writeln!(text, "{time},{}", value(row))?;
    }
    Ok(text)
}

fn next(state: &mut u64) -> u64 {
    // SplitMix64: the moments are the same in every run.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[tokio::test]
async fn kills_of_hub_and_agent_lose_and_repeat_nothing() -> Result<()> {
    let mut hub = Hub::start().await?;
    let file = hub.folder().join("rows.csv");
    std::fs::write(&file, csv()?)?;
    let config = format!(
        "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 50\n[[source]]\nkind = \"replay\"\nname = \"rows\"\npath = {file:?}\nrate = {RATE}\n"
    );
    let mut agent = Agent::start(&hub, "pump-1", &config).await?;
    let mut random = SEED;
    for round in 0..KILLS {
        let step = u64::from(ROWS) / (KILLS + 1);
        let moment = step * round + 1 + next(&mut random) % step;
        let what = format!("kill {round} at {moment} stored rows");
        let stored = until(&what, MOVE_MAX, || async {
            Ok(hub.ledger("pump-1").await?.map(|l| l.stored).filter(|n| *n >= moment))
        })
        .await?;
        // A kill after the last row would prove nothing.
        ensure!(stored < u64::from(ROWS), "{what}: all rows were stored before it");
        // Each victim comes in turn, so that every kind of kill happens.
        let victim = round % 3;
        eprintln!(
            "{what}, in fact {stored}: {}",
            ["hub", "agent", "both"].get(usize::try_from(victim)?).context("no victim")?
        );
        if victim != 0 {
            agent.kill_and_restart().await?;
        }
        if victim != 1 {
            hub.kill_and_restart().await?;
        }
    }
    let ledger = hub.settled("pump-1", u64::from(ROWS), Duration::from_secs(120)).await?;
    assert_eq!((ledger.dropped, ledger.refused, ledger.lost), (0, 0, 0));
    let found = hub.readings("pump-1/value", 3_000).await?;
    ensure!(found.len() == usize::try_from(ROWS)?, "{} rows in the hub", found.len());
    for (row, (time, got)) in (0..ROWS).zip(&found) {
        ensure!(*time == (START_MS + i64::from(row)) * 1_000_000, "row {row} has the time {time}");
        ensure!(got.to_bits() == value(row).to_bits(), "row {row} is {got}");
    }
    // And by digests of what can be read back at both ends, as a person would ask.
    let report = agent.agrees(MOVE_MAX).await?;
    assert_eq!(report["readings"].as_u64(), Some(u64::from(ROWS)), "{report}");
    agent.terminate(Duration::from_secs(30)).await
}
