//! What the devices of a group share, between a real hub and real agents: edits at all ends, also without the hub, a device that
//! leaves, and set-points that are written to simulated devices.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::process::Running;
use tideline_e2e::{Agent, Hub, free_port, process, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// An oven: a simulated device of Modbus TCP with a set-point in tenths.
struct Oven {
    port: u16,
    _running: Running,
}

impl Oven {
    fn start(hub: &Hub, name: &str) -> Result<Self> {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let args = ["profile", "simulate", "modbus-template", "--listen", &listen];
        let log = hub.folder().join(format!("{name}.log"));
        Ok(Self { port, _running: Running::start("edge-agent", &args, &[], &log)? })
    }

    /// What the device itself says that it is set to.
    async fn setpoint(&self) -> Result<Option<u16>> {
        let Ok(mut device) = TcpStream::connect(("127.0.0.1", self.port)).await else { return Ok(None) };
        device.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]).await?;
        let mut answer = [0; 11];
        device.read_exact(&mut answer).await?;
        let [.., high, low] = answer;
        Ok(Some(u16::from_be_bytes([high, low])))
    }

    async fn is_set(&self, tenths: u16) -> Result<()> {
        let set = || async { Ok((self.setpoint().await? == Some(tenths)).then_some(())) };
        until(&format!("a set-point of {tenths}"), LONG, set).await
    }
}

async fn delta(hub: &Hub) -> Result<Value> {
    let shown = parsed(&hub.get("/api/v1/groups/ovens/twin").await?)?;
    shown.get("delta").cloned().context("a delta")
}

async fn hub_wants(hub: &Hub, setpoint: i64) -> Result<()> {
    until(&format!("{setpoint} at the hub"), LONG, || async {
        let shown = parsed(&hub.get("/api/v1/groups/ovens/twin").await?)?;
        Ok((shown.pointer("/desired/points/setpoint") == Some(&json!(setpoint))).then_some(()))
    })
    .await
}

async fn delta_is(hub: &Hub, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    until(what, LONG, || async { Ok(is(&delta(hub).await?).then_some(())) }).await
}

#[tokio::test]
async fn set_points_of_a_group_are_written_to_its_devices_and_told_by_each() -> Result<()> {
    let mut hub = Hub::start().await?;
    let ovens = [Oven::start(&hub, "oven-1")?, Oven::start(&hub, "oven-2")?];
    let [first, second] = &ovens;
    let device = |number: usize, port: u16| {
        format!(
            "[[source]]\nkind = \"modbus-tcp\"\nname = \"bus-{number}\"\naddress = \"127.0.0.1:{port}\"\n\
             [[device]]\nid = \"oven-{number}\"\nsource = \"bus-{number}\"\nprofile = \"modbus-template\"\naddress = \"1\"\n"
        )
    };
    let config = format!("{CONFIG}{}{}", device(1, first.port), device(2, second.port));
    let mut agent = Agent::start(&hub, "bakery", &config).await?;
    for name in ["bakery", "oven-1", "oven-2"] {
        until(&format!("{name} in the group"), LONG, || async {
            // It is registered with its first readings.
            let set = hub.command(&["device", "set", name, "--group", "ovens"]).await?;
            Ok(set.good().is_ok().then_some(()))
        })
        .await?;
    }
    let ask = ["command", "send", "@group=ovens", "sync", "--key", "k", "--attempts", "2", "--json"];
    let given = parsed(&hub.command(&ask).await?.good()?)?;
    let asked = |at: usize| given.pointer(&format!("/results/{at}/command/device")).cloned();
    let all = [Some(json!("bakery")), Some(json!("oven-1")), Some(json!("oven-2"))];
    ensure!([asked(0), asked(1), asked(2)] == all, "{given}");
    let again = parsed(&hub.command(&ask).await?.good()?)?;
    let id = |said: &Value| said.pointer("/results/2/command/id").cloned();
    ensure!(id(&again) == id(&given), "{again}");

    hub.command(&["twin", "set", "group/ovens", "points/setpoint", "29.5"]).await?.good()?;
    first.is_set(295).await?;
    second.is_set(295).await?;
    delta_is(&hub, "no difference", |delta| *delta == json!([])).await?;
    // Its own goes before.
    hub.command(&["twin", "set", "oven-2", "points/setpoint", "25"]).await?.good()?;
    second.is_set(250).await?;
    ensure!(first.setpoint().await? == Some(295));
    // Without the hub, on site, and after the agent was killed.
    hub.kill().await?;
    agent.kill_and_restart().await?;
    until("the edit on site", LONG, || async {
        let set = ["twin", "set", "points/setpoint", "28", "--device", "group/ovens", "--author", "ben"];
        Ok(on_site(&hub, "bakery", &set).await.is_ok().then_some(()))
    })
    .await?;
    first.is_set(280).await?;
    hub.start_again().await?;
    // Written by both before they have met, it would be a conflict.
    hub_wants(&hub, 28).await?;
    // Beyond what the profile allows: told by the device that goes by it, and by that alone.
    hub.command(&["twin", "set", "group/ovens", "points/setpoint", "60"]).await?.good()?;
    delta_is(&hub, "a refusal by oven-1", |delta| {
        let text = |name| delta.pointer(&format!("/0/{name}")).and_then(Value::as_str);
        text("device") == Some("oven-1")
            && text("state") == Some("refused")
            && delta.as_array().is_some_and(|all| all.len() == 1)
    })
    .await?;
    ensure!((first.setpoint().await?, second.setpoint().await?) == (Some(280), Some(250)));
    // One that leaves is set by it no more.
    hub.command(&["device", "set", "oven-1", "--no-group", "ovens"]).await?.good()?;
    delta_is(&hub, "nobody that goes by it", |delta| delta.pointer("/0/device").is_none()).await?;
    hub.command(&["twin", "set", "oven-2", "points/setpoint", "null"]).await?.good()?;
    hub.command(&["twin", "set", "group/ovens", "points/setpoint", "15"]).await?.good()?;
    second.is_set(150).await?;
    ensure!(first.setpoint().await? == Some(280));
    agent.terminate(LONG).await
}
