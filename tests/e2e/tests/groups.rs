//! What the devices of a group share, between a real hub and two real agents: edits at all ends, also without the hub, and a device
//! that leaves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::{Agent, Hub, process, until};

const LONG: Duration = Duration::from_secs(120);
const GROUP: &str = "group/presses";
const CONFIG: &str = "[http]\nlisten = \"\"\n[uplink]\nmqtt = \"off\"\n[[source]]\nkind = \"host\"\n";

fn parsed(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// What a command says beside an agent.
async fn on_site(hub: &Hub, device: &str, args: &[&str]) -> Result<String> {
    let data = hub.folder().join(device).join("data").display().to_string();
    process::run("edge-agent", &[args, &["--data", &data]].concat()).await?.good()
}

/// Waits until the group's document has this speed at all of these devices' agents.
async fn arrives(hub: &Hub, devices: &[&str], speed: i64) -> Result<()> {
    for device in devices {
        until(&format!("speed {speed} at {device}"), LONG, || async {
            // The agent may be starting, or may not have heard of the group yet.
            let Ok(said) = on_site(hub, device, &["twin", "get", GROUP, "--json"]).await else {
                return Ok(None);
            };
            Ok((parsed(&said)?.pointer("/desired/speed") == Some(&json!(speed))).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn leaves(hub: &Hub, device: &str) -> Result<()> {
    hub.command(&["device", "set", device, "--no-group", "presses"]).await?.good().map(drop)
}

/// Waits until an agent has let go of the group's document.
async fn is_gone(hub: &Hub, device: &str) -> Result<()> {
    until(&format!("{device} without the group"), LONG, || async {
        let Ok(said) = on_site(hub, device, &["status", "--json"]).await else { return Ok(None) };
        let is_connected = parsed(&said)?.pointer("/connected") == Some(&json!(true));
        let asked = on_site(hub, device, &["twin", "get", GROUP]).await;
        Ok((is_connected && asked.is_err()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn agents_of_a_group_share_a_document_and_one_that_leaves_hears_no_more_of_it() -> Result<()> {
    let mut hub = Hub::start().await?;
    let first = Agent::start(&hub, "press-1", CONFIG).await?;
    let _second = Agent::start(&hub, "press-2", CONFIG).await?;
    for device in ["press-1", "press-2"] {
        hub.command(&["device", "set", device, "--group", "presses"]).await?.good()?;
    }
    hub.command(&["twin", "set", GROUP, "speed", "5"]).await?.good()?;
    arrives(&hub, &["press-1", "press-2"], 5).await?;
    // Without the hub, at one of them.
    hub.kill().await?;
    on_site(&hub, "press-1", &["twin", "set", "speed", "7", "--device", GROUP, "--author", "ben"]).await?;
    hub.start_again().await?;
    arrives(&hub, &["press-2"], 7).await?;
    let there = parsed(&hub.get("/api/v1/groups/presses/twin").await?)?;
    ensure!(there.pointer("/desired/speed") == Some(&json!(7)), "{there}");
    let history = hub.command(&["twin", "history", GROUP]).await?.good()?;
    ensure!(history.contains("ben"), "{history}");
    // One leaves, and what is changed from then on is the other's alone.
    leaves(&hub, "press-2").await?;
    is_gone(&hub, "press-2").await?;
    hub.command(&["twin", "set", GROUP, "speed", "9"]).await?.good()?;
    arrives(&hub, &["press-1"], 9).await?;
    ensure!(on_site(&hub, "press-2", &["twin", "get", GROUP]).await.is_err());
    // What the other one wrote that the hub has not heard is told when it finds itself outside.
    hub.kill().await?;
    on_site(&hub, "press-1", &["twin", "set", "speed", "11", "--device", GROUP, "--author", "ben"]).await?;
    first.terminate(LONG).await?;
    hub.start_again().await?;
    leaves(&hub, "press-1").await?;
    let _first = Agent::launch(hub.folder().join("press-1"))?;
    is_gone(&hub, "press-1").await?;
    let told = until("the edit that is lost", LONG, || async {
        let status = parsed(&on_site(&hub, "press-1", &["status", "--json"]).await?)?;
        let lost = status.pointer("/twins/lost") == Some(&json!(1));
        Ok(status.pointer("/twins/last_lost").filter(|_| lost).cloned())
    })
    .await?;
    ensure!(told == json!("group/presses: desired/speed by \"ben\""), "{told}");
    let there = parsed(&hub.get("/api/v1/groups/presses/twin").await?)?;
    ensure!(there.pointer("/desired/speed") == Some(&json!(9)), "{there}");
    Ok(())
}
