//! A hub that is restored from an older backup, with real processes: agents refill it, what they no
//! longer hold is shown as lost, nothing is doubled, and who enrolled since is let in again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tideline_e2e::{Agent, Hub, Ledger, until};

const LONGEST: Duration = Duration::from_secs(90);
const ROWS: u64 = 2_000;
/// More than fits into a spool of 1 MiB, as the values cannot be compressed.
const MANY: u64 = 400_000;
const PAGE: &str = "[http]\nlisten = \"\"\n";

fn source(folder: &Path, name: &str, from: u64, rows: u64, value: impl Fn(u64) -> f64) -> Result<String> {
    let path = folder.join(format!("{name}.csv"));
    let mut text = "timestamp,value\n".to_owned();
    for row in from..from + rows {
        writeln!(text, "2025-11-21 10:00:00,{}", value(row))?;
    }
    std::fs::write(&path, text)?;
    let source = "[[source]]\nkind = \"replay\"\ntimestamps = \"keep\"\nrate = 0\n";
    Ok(format!("{source}name = \"{name}\"\npath = \"{}\"\n", path.display()))
}

/// No two are near each other, and all bits of the fraction are used.
fn noise(row: u64) -> f64 {
    let mixed = row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from_bits(0x3ff0_0000_0000_0000 | (mixed ^ (mixed >> 29)) >> 12)
}

/// Starts an agent that has run before with another configuration.
async fn goes_on(hub: &Hub, agent: Agent, device: &str, config: &str) -> Result<Agent> {
    agent.terminate(LONGEST).await?;
    let folder = hub.folder().join(device);
    std::fs::write(folder.join("agent.toml"), config)?;
    Agent::launch(folder)
}

/// Waits until nothing of a device is pending and its ledger balances, with all that was produced.
async fn quiet(hub: &Hub, device: &str, produced: u64) -> Result<Ledger> {
    let done = |l: &Ledger| l.produced == produced && l.pending == 0 && l.balanced;
    let waited = until("quiet", LONGEST, || async { Ok(hub.ledger(device).await?.filter(done)) }).await;
    waited.with_context(|| format!("{device}: {produced} rows"))
}

#[tokio::test]
async fn a_restored_hub_is_refilled_by_its_agents_and_shows_what_they_no_longer_hold() -> Result<()> {
    let mut hub = Hub::start().await?;
    let first = source(hub.folder(), "first", 0, ROWS, |row| row as f64)?;
    let press = Agent::start(&hub, "press-1", &format!("{PAGE}{first}")).await?;
    let small = format!("{PAGE}[spool]\nquota_mb = 1\n{first}");
    let mixer = Agent::start(&hub, "mixer-1", &small).await?;
    hub.settled("press-1", ROWS, LONGEST).await?;
    hub.settled("mixer-1", ROWS, LONGEST).await?;
    let backup = hub.folder().join("backup").display().to_string();
    let said = hub.command(&["backup", "--to", &backup]).await?.good()?;
    ensure!(said.starts_with(&backup), "{said}");
    // All of this comes after the backup; a spool as small as the mixer's does not keep it.
    let second = source(hub.folder(), "second", ROWS, ROWS, |row| row as f64)?;
    let press = goes_on(&hub, press, "press-1", &format!("{PAGE}{first}{second}")).await?;
    let many = source(hub.folder(), "many", 0, MANY, noise)?;
    let mixer = goes_on(&hub, mixer, "mixer-1", &format!("{small}{many}")).await?;
    let late = Agent::start(&hub, "late-1", &format!("{PAGE}{first}")).await?;
    hub.settled("press-1", 2 * ROWS, LONGEST).await?;
    hub.settled("late-1", ROWS, LONGEST).await?;
    let before = quiet(&hub, "mixer-1", ROWS + MANY).await?;
    ensure!(before.lost == 0, "{before:?}");
    hub.kill().await?;
    let refused = hub.command(&["restore", &backup]).await?;
    ensure!(refused.code == Some(1) && refused.err.contains("is not empty"), "{refused:?}");
    hub.command(&["restore", &backup, "--force"]).await?.good()?;
    hub.start_again().await?;
    // What the agents still hold is there again, once.
    let ledger = hub.settled("press-1", 2 * ROWS, LONGEST).await?;
    ensure!((ledger.lost, ledger.dropped, ledger.refused) == (0, 0, 0), "{ledger:?}");
    let mut values: Vec<f64> =
        hub.readings("press-1/value", 5_000).await?.into_iter().map(|(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    ensure!(values == (0..2 * ROWS).map(|value| value as f64).collect::<Vec<_>>(), "{} values", values.len());
    // What they do not is lost, and shown.
    let held = |l: &Ledger| l.stored + l.lost + l.dropped == ROWS + MANY && l.stored > ROWS && l.balanced;
    let ledger =
        until("the mixer's refill", LONGEST, || async { Ok(hub.ledger("mixer-1").await?.filter(held)) })
            .await;
    let Ok(ledger) = ledger else {
        bail!("the mixer is not refilled: {:?} after {before:?}", hub.ledger("mixer-1").await?)
    };
    ensure!(ledger.lost > 0 && ledger.dropped == before.dropped, "{ledger:?} after {before:?}");
    // Who enrolled since is told how to come back.
    ensure!(hub.ledger("late-1").await?.is_none(), "the backup is older than late-1");
    until("the adoption", LONGEST, || async {
        let said = hub.command(&["device", "adopt", "late-1"]).await?;
        Ok((said.code == Some(0)).then_some(()))
    })
    .await?;
    hub.settled("late-1", ROWS, LONGEST).await?;
    ensure!(hub.log()?.contains("`cloud-hub device adopt late-1`"), "the log does not say how");
    let report = press.agrees(LONGEST).await?;
    ensure!(report["readings"] == 2 * ROWS && report["not_held"] == 0, "{report}");
    // The mixer has given up most of what it sent: nobody can compare that, and it says so.
    let report = mixer.agrees(LONGEST).await?;
    ensure!(report["batches"].as_u64() > Some(0) && report["not_held"].as_u64() > Some(0), "{report}");
    for agent in [press, mixer, late] {
        agent.terminate(LONGEST).await?;
    }
    // Quiet now: no row was stored twice.
    let ledger = hub.ledger("mixer-1").await?.context("no ledger")?;
    let rows = hub.readings("mixer-1/value", 50_000).await?.len();
    ensure!(u64::try_from(rows)? == ledger.stored, "{rows} rows, {ledger:?}");
    Ok(())
}
