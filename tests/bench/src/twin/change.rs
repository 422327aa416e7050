//! A change at the hub until the device's agent has confirmed it, and what went over the wire meanwhile.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tideline_e2e::{Agent, Hub, until};
use tideline_protocol::time::{Clock as _, SystemClock};

use super::Sizes;
use crate::queries::client::{Ask, Client};
use crate::relay::Relay;
use crate::store::PATIENCE;
use crate::{Figure, median, quantile};

const DEVICE: &str = "valve";
const TWIN: &str = "/api/v1/devices/valve/twin";
const WORKLOAD: &str = "one of 50 leaves, by API, over loopback";
/// From one change to the next: a document takes one in 50 ms.
const EVERY: Duration = Duration::from_millis(60);
/// After the start both ends have things to say that are no changes of ours.
const SETTLE: Duration = Duration::from_secs(2);
/// Changes that are not counted.
const WARM: usize = 5;

async fn is_agreed(client: &mut Client) -> anyhow::Result<bool> {
    let twin: Value = serde_json::from_slice(&client.ask(&Ask::get(TWIN)).await?)?;
    Ok(twin.get("agreed") == Some(&json!(true)))
}

/// Waits until the agent has confirmed all; the answer says so only when it is durable at both ends.
async fn agreed(client: &mut Client) -> anyhow::Result<()> {
    let wait = async {
        while !is_agreed(client).await? {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, wait).await?
}

/// Milliseconds until each change was answered, and until it was confirmed.
async fn changes(client: &mut Client, count: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let clock = SystemClock::default();
    let (mut answered, mut confirmed) = (Vec::new(), Vec::new());
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0..count {
        turns.tick().await;
        let body = json!({"desired": {format!("k{}", n % 50): n}}).to_string();
        let change = Ask::patch(TWIN, "application/merge-patch+json", body);
        let start = clock.mono_ns();
        let since_ms = || (clock.mono_ns() - start) as f64 / 1e6;
        client.ask(&change).await?;
        let answer_ms = since_ms();
        agreed(client).await?;
        answered.push(answer_ms);
        confirmed.push(since_ms());
    }
    Ok((answered, confirmed))
}

pub async fn measure(sizes: Sizes, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let relay = Relay::start(hub.quic())?;
    relay.set_open(true);
    // An agent without sources would read this machine.
    let empty = hub.folder().join("empty.csv");
    std::fs::write(&empty, "timestamp,value\n")?;
    let config = format!(
        "[http]\nlisten = \"\"\n[uplink]\nhub = \"{}\"\nmqtt = \"off\"\n[[source]]\nkind = \"replay\"\npath = \"{}\"\n",
        relay.address,
        empty.display()
    );
    let agent = Agent::start(&hub, DEVICE, &config).await?;
    until("what the agent reports at its start", PATIENCE, || async {
        let twin: Value = serde_json::from_str(&hub.get(TWIN).await?)?;
        Ok(twin.pointer("/reported/config_schema").map(|_| ()))
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let mut client = Client::connect(hub.http(), Some(hub.token())).await?;
    let _warm = changes(&mut client, WARM).await?;
    tokio::time::sleep(SETTLE).await;
    let idle = Duration::from_secs(sizes.idle_s);
    let before = relay.bytes();
    tokio::time::sleep(idle).await;
    let idle_bytes_s = (relay.bytes() - before) as f64 / idle.as_secs_f64();
    // The hub has closed the one on which nothing was asked.
    let mut client = Client::connect(hub.http(), Some(hub.token())).await?;
    let clock = SystemClock::default();
    let (before, start) = (relay.bytes(), clock.mono_ns());
    let (mut answered, mut confirmed) = changes(&mut client, sizes.changes).await?;
    let (bytes, seconds) = ((relay.bytes() - before) as f64, (clock.mono_ns() - start) as f64 / 1e9);
    agent.terminate(PATIENCE).await?;
    ensure!(confirmed.len() == sizes.changes, "{} changes", confirmed.len());
    let count = sizes.changes as f64;
    let mut push = |name, value, unit| figures.push(Figure { name, workload: WORKLOAD, value, unit });
    push("change at the hub, durable there and answered, median", median(&mut answered), "ms");
    push("  p99", quantile(&mut answered, 0.99), "ms");
    push("change at the hub until durable at both ends, median", median(&mut confirmed), "ms");
    push("  p99 (goal 50)", quantile(&mut confirmed, 0.99), "ms");
    push("  most", quantile(&mut confirmed, 1.0), "ms");
    push("UDP payload of a change, both ways, all included", bytes / count, "B");
    push("  less what an idle line carries (goal 400)", (bytes - idle_bytes_s * seconds) / count, "B");
    push("UDP payload of an idle line", idle_bytes_s, "B/s");
    Ok(())
}
