//! What the devices of a group share, between a real hub and real agents: edits at all ends, also without the hub, a device that
//! leaves, and set-points that are written to simulated devices.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::http::patch;
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

/// An agent with two ovens, all three in a group.
async fn bakery(hub: &Hub) -> Result<([Oven; 2], Agent)> {
    let ovens = [Oven::start(hub, "oven-1")?, Oven::start(hub, "oven-2")?];
    let device = |number: usize, port: u16| {
        format!(
            "[[source]]\nkind = \"modbus-tcp\"\nname = \"bus-{number}\"\naddress = \"127.0.0.1:{port}\"\n\
             [[device]]\nid = \"oven-{number}\"\nsource = \"bus-{number}\"\nprofile = \"modbus-template\"\naddress = \"1\"\n"
        )
    };
    let [first, second] = &ovens;
    let config = format!("{CONFIG}{}{}", device(1, first.port), device(2, second.port));
    let agent = Agent::start(hub, "bakery", &config).await?;
    for name in ["bakery", "oven-1", "oven-2"] {
        until(&format!("{name} in the group"), LONG, || async {
            // It is registered with its first readings.
            let set = hub.command(&["device", "set", name, "--group", "ovens"]).await?;
            Ok(set.good().is_ok().then_some(()))
        })
        .await?;
    }
    Ok((ovens, agent))
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

/// What a device tells of a schedule.
async fn told(hub: &Hub, device: &str, schedule: &str) -> Result<Value> {
    let twin = parsed(&hub.get(&format!("/api/v1/devices/{device}/twin")).await?)?;
    Ok(twin.pointer(&format!("/reported/schedules/{schedule}")).cloned().unwrap_or_default())
}

async fn succeeds(hub: &Hub, device: &str, schedule: &str) -> Result<Value> {
    until(&format!("{schedule} at {device}"), LONG, || async {
        let told = told(hub, device, schedule).await?;
        Ok((told.pointer("/last/state") == Some(&json!("succeeded"))).then_some(told))
    })
    .await
}

/// A schedule whose time is over, and that is made up for once.
fn once(setpoint: f64) -> Value {
    json!({
        "at": "2020-01-31T06:00:00Z",
        "missed": "run-once",
        "kind": "write",
        "input": { "point": "setpoint", "value": setpoint },
    })
}

#[tokio::test]
async fn schedules_of_a_group_run_for_its_devices_also_without_the_hub_and_each_tells_of_them() -> Result<()>
{
    let mut hub = Hub::start().await?;
    let ([first, second], mut agent) = bakery(&hub).await?;
    let path = "/api/v1/groups/ovens/twin";
    let wanted = json!({ "desired": { "schedules": {
        "warm": once(26.5),
        "bring": { "every": "10s", "kind": "sync" },
        "wrong": { "every": "10s", "kind": "bake" },
    } } });
    let never = json!({ "desired": { "schedules": { "never": { "cron": "61 * * * *", "kind": "sync" } } } });
    let refused = patch(hub.http(), path, Some(hub.token()), ("application/json", never.to_string())).await?;
    ensure!(refused.status == 400 && refused.body.contains("/desired/schedules/never/cron"), "{refused:?}");
    let body = ("application/json", wanted.to_string());
    let taken = patch(hub.http(), path, Some(hub.token()), body).await?;
    ensure!(taken.status == 200, "{taken:?}");
    first.is_set(265).await?;
    second.is_set(265).await?;
    for device in ["oven-1", "oven-2"] {
        let told = succeeds(&hub, device, "warm").await?;
        ensure!(told.get("from") == Some(&json!("group/ovens")), "{told}");
    }
    // The agent brings what all of its devices have at once, and each tells of it.
    for device in ["bakery", "oven-1", "oven-2"] {
        succeeds(&hub, device, "bring").await?;
    }
    ensure!(told(&hub, "bakery", "warm").await? == Value::Null, "it has no such point");
    delta_is(&hub, "what is refused, by each device", |delta| {
        let all: Vec<_> = delta.as_array().into_iter().flatten().collect();
        let is_refused = |one: &&Value| one.get("state") == Some(&json!("refused"));
        all.len() == 6 && all.iter().all(is_refused)
    })
    .await?;
    // Without the hub, on site, and after the agent was killed; oven-2 has one of its own.
    hub.kill().await?;
    agent.kill_and_restart().await?;
    for (device, setpoint) in [("oven-2", 27.5), ("group/ovens", 28.5)] {
        let edit = json!({ "schedules": { "late": once(setpoint) } }).to_string();
        let set = ["twin", "set", "--patch", &edit, "--device", device, "--author", "ben"];
        let is_set = || async { Ok(on_site(&hub, "bakery", &set).await.is_ok().then_some(())) };
        until("an edit on site", LONG, is_set).await?;
    }
    first.is_set(285).await?;
    second.is_set(275).await?;
    let wrong = json!({ "schedules": { "late": { "every": "1s" } } }).to_string();
    let refused =
        on_site(&hub, "bakery", &["twin", "set", "--patch", &wrong, "--device", "group/ovens"]).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("desired/schedules/late")));
    hub.start_again().await?;
    let told = succeeds(&hub, "oven-1", "late").await?;
    ensure!(told.get("from") == Some(&json!("group/ovens")), "{told}");
    let told = succeeds(&hub, "oven-2", "late").await?;
    ensure!(told.get("from").is_none(), "{told}");
    // What was done before the kill is not done again.
    ensure!((first.setpoint().await?, second.setpoint().await?) == (Some(285), Some(275)));
    agent.terminate(LONG).await
}

#[tokio::test]
async fn set_points_of_a_group_are_written_to_its_devices_and_told_by_each() -> Result<()> {
    let mut hub = Hub::start().await?;
    let ([first, second], mut agent) = bakery(&hub).await?;
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
