//! A device is moved from one agent to another and back while both send readings of it and the hub is killed: each reading is
//! there once, with the device when it came from its agent, and aside otherwise.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tideline_e2e::{Agent, Hub, http, until};

const ROWS: u32 = 6_000;
const RATE: u32 = 300;
const WAIT_MAX: Duration = Duration::from_secs(60);
const DEVICE: &str = "/api/v1/devices/valve-1";

/// What tells the readings of the two apart; their times are the same.
const AGENTS: [(&str, f64); 2] = [("gw-b", 0.25), ("gw-a", 0.75)];

fn source(folder: &Path, (agent, part): (&str, f64)) -> Result<String> {
    let mut text = "timestamp,value\n".to_owned();
    for row in 0..ROWS {
        let time = jiff::Timestamp::from_millisecond(1_700_000_000_000 + i64::from(row))?;
        writeln!(text, "{time},{}", f64::from(row) + part)?;
    }
    let path = folder.join(format!("{agent}.csv"));
    std::fs::write(&path, text)?;
    Ok(format!(
        "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 50\n[[source]]\nkind = \"replay\"\nname = \"rows\"\npath = {path:?}\nrate = {RATE}\ndevice = \"valve-1\"\n"
    ))
}

async fn put_behind(hub: &Hub, agent: &str) -> Result<u16> {
    let body = format!(r#"{{"agent": "{agent}"}}"#);
    let answer = http::patch(hub.http(), DEVICE, Some(hub.token()), ("application/json", body)).await?;
    Ok(answer.status)
}

async fn agent_of(hub: &Hub) -> Result<Option<Value>> {
    let shown: Value = serde_json::from_str(&hub.get(DEVICE).await?)?;
    Ok(shown.get("agent").cloned())
}

async fn stored(hub: &Hub, agent: &str, least: u64) -> Result<u64> {
    until(&format!("{least} readings of {agent}"), WAIT_MAX, || async {
        Ok(hub.ledger(agent).await?.map(|ledger| ledger.stored).filter(|stored| *stored >= least))
    })
    .await
}

/// How often each value is in a series, of one agent.
async fn values(hub: &Hub, series: &str, part: f64) -> Result<BTreeMap<i64, usize>> {
    let mut found = BTreeMap::new();
    for (time_ns, value) in hub.readings(series, 3_000).await? {
        let row = (time_ns / 1_000_000) - 1_700_000_000_000;
        if value.fract().to_bits() == part.to_bits() {
            ensure!(value.trunc().to_bits() == (row as f64).to_bits(), "{series} has {value} in row {row}");
            *found.entry(row).or_default() += 1;
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_device_that_moves_between_agents_has_each_reading_once_through_kills() -> Result<()> {
    let mut hub = Hub::start().await?;
    let configs = [source(hub.folder(), AGENTS[0])?, source(hub.folder(), AGENTS[1])?];
    let former = Agent::start(&hub, "gw-b", &configs[0]).await?;
    stored(&hub, "gw-b", 300).await?;
    let latter = Agent::start(&hub, "gw-a", &configs[1]).await?;
    stored(&hub, "gw-a", 300).await?;
    assert_eq!(agent_of(&hub).await?, Some("gw-b".into()), "who named it first has it");

    // Killed in the middle of the move, which is asked for again if nothing has come of it.
    let (at, token) = (hub.http(), hub.token().to_owned());
    let asked = tokio::spawn(async move {
        let body = ("application/json", r#"{"agent": "gw-a"}"#);
        http::patch(at, DEVICE, Some(&token), body).await.map(|answer| answer.status)
    });
    tokio::task::yield_now().await;
    hub.kill().await?;
    let _answered = asked.await?;
    hub.start_again().await?;
    if agent_of(&hub).await? != Some("gw-a".into()) {
        assert_eq!(put_behind(&hub, "gw-a").await?, 200);
    }
    let begun = stored(&hub, "gw-a", 1).await?;
    stored(&hub, "gw-a", begun + 300).await?;
    let moved = stored(&hub, "gw-b", 1).await?;
    stored(&hub, "gw-b", moved + 300).await?;

    // Back, and killed when that was answered.
    assert_eq!(put_behind(&hub, "gw-b").await?, 200);
    let taken = stored(&hub, "gw-a", 1).await?;
    hub.kill_and_restart().await?;
    for (agent, _) in AGENTS {
        let ledger = hub.settled(agent, u64::from(ROWS), Duration::from_secs(120)).await?;
        assert_eq!((ledger.dropped, ledger.refused, ledger.lost), (0, 0, 0));
    }
    let mut with_device = BTreeMap::new();
    for (agent, part) in AGENTS {
        let own = values(&hub, "valve-1/value", part).await?;
        let aside = values(&hub, &format!("{agent}/aside/valve-1/value"), part).await?;
        let mut all = own.clone();
        for (row, times) in &aside {
            *all.entry(*row).or_default() += times;
        }
        ensure!(all.len() == usize::try_from(ROWS)?, "{agent}: {} rows", all.len());
        ensure!(all.values().all(|times| *times == 1), "{agent}: a reading is there twice");
        ensure!(!own.is_empty() && !aside.is_empty(), "{agent}: {} own, {} aside", own.len(), aside.len());
        with_device.insert(agent, (own.len() as u64, aside.len() as u64));
    }
    // What came before the first move, and what came after the second, is none of the second agent's.
    let (own, aside) = with_device["gw-a"];
    ensure!(own <= taken && aside >= u64::from(ROWS) - taken, "{own} and {aside} of {taken} and more");
    ensure!(with_device["gw-b"].1 >= 300, "{:?}", with_device["gw-b"]);
    for agent in [former, latter] {
        agent.agrees(WAIT_MAX).await?;
        agent.terminate(Duration::from_secs(30)).await?;
    }
    Ok(())
}
