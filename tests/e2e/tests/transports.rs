//! The line changes under an agent that sends: its address.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_e2e::line::{Line, Quality};
use tideline_e2e::{Agent, Hub, until};

const ROWS: u64 = 4_000;
const RATE: u64 = 400;
/// Readings after which what was on its way before has long arrived.
const STEP: u64 = 500;
const LONG: Duration = Duration::from_secs(120);

async fn beyond(hub: &Hub, rows: u64) -> Result<u64> {
    until("readings", LONG, || async {
        Ok(hub.ledger("pump-7").await?.map(|ledger| ledger.stored).filter(|stored| *stored > rows))
    })
    .await
}

#[tokio::test]
async fn a_new_address_in_mid_run_costs_neither_handshake_nor_session_nor_a_reading() -> Result<()> {
    let hub = Hub::start().await?;
    let line = Line::start(hub.quic(), Quality::GOOD, 7).await?;
    let file = hub.folder().join("rows.csv");
    let mut text = String::from("timestamp,level\n");
    for row in 0..ROWS {
        writeln!(text, "{},{}", 1_760_000_000_000_u64 + 1_000 * row, row % 997)?;
    }
    std::fs::write(&file, text)?;
    let config = format!(
        "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 50\n[uplink]\nhub = \"{}\"\n[[source]]\nkind = \"replay\"\npath = {file:?}\nrate = {RATE}\n",
        line.address()
    );
    let _agent = Agent::start(&hub, "pump-7", &config).await?;
    let mut stored = beyond(&hub, 0).await?;
    for _ in 0..3 {
        line.rebind();
        stored = beyond(&hub, stored + STEP).await?;
    }
    ensure!(stored < ROWS, "all was at the hub before the last change");
    let log = hub.log()?;
    let times = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    ensure!(times("session opened") == 1 && times("session ended") == 0, "another session:\n{log}");
    let ledger = hub.settled("pump-7", ROWS, LONG).await?;
    ensure!((ledger.dropped, ledger.refused, ledger.lost) == (0, 0, 0), "{ledger:?}");
    let found = hub.readings("pump-7/level", 5_000).await?;
    ensure!(found.len() as u64 == ROWS, "{} rows stored", found.len());
    let metrics = hub.get("/metrics").await?;
    ensure!(metrics.contains("\ntideline_hub_sessions_total 1\n"), "{metrics}");
    Ok(())
}
