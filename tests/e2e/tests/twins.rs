//! Twins between a real hub and a real agent: edits at both ends, kills, conflicts, a device that is only in a file, and
//! configurations that would cut the agent off or silence a source.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::{Agent, Hub, process, until};

const LONG: Duration = Duration::from_secs(120);
const DEVICE: &str = "valve-1";
const CONFIG: &str =
    "[agent]\ntrial_s = 20\n[http]\nlisten = \"\"\n[uplink]\nmqtt = \"off\"\n[[source]]\nkind = \"host\"\n";

/// What `twin …` says beside the hub.
async fn at_hub(hub: &Hub, args: &[&str]) -> Result<String> {
    hub.command(&[&["twin"], args].concat()).await?.good()
}

/// What `twin …` says beside the agent.
async fn on_site(hub: &Hub, args: &[&str]) -> Result<String> {
    let data = hub.folder().join(DEVICE).join("data").display().to_string();
    process::run("edge-agent", &[&["twin"], args, &["--data", &data]].concat()).await?.good()
}

fn parsed(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

async fn hub_is(hub: &Hub, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    until(what, LONG, || async {
        // The agent may not have spoken of its twin yet.
        let found = parsed(&at_hub(hub, &["get", DEVICE, "--json"]).await?)?;
        Ok(is(&found).then_some(found))
    })
    .await
}

async fn agent_is(hub: &Hub, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    until(what, LONG, || async {
        // The agent may be starting.
        let Ok(said) = on_site(hub, &["get", "--json"]).await else { return Ok(None) };
        let found = parsed(&said)?;
        Ok(is(&found).then_some(found))
    })
    .await
}

fn opened(value: i64) -> impl Fn(&Value) -> bool {
    move |twin| twin.pointer("/desired/valve/open") == Some(&json!(value))
}

/// The values of the one conflict, and who wrote them.
fn contested(conflicts: &str) -> Result<Option<(Vec<i64>, Vec<String>)>> {
    let found = parsed(conflicts)?;
    let Some(values) = found.pointer("/conflicts/0/values").and_then(Value::as_array) else {
        return Ok(None);
    };
    let mut numbers: Vec<_> = values.iter().filter_map(|one| one.get("value")?.as_i64()).collect();
    numbers.sort_unstable();
    let authors = values.iter().filter_map(|one| Some(one.get("author")?.as_str()?.to_owned())).collect();
    Ok(Some((numbers, authors)))
}

#[tokio::test]
async fn what_is_written_at_the_hub_and_on_site_merges_through_kills_and_conflicts_are_shown_at_both()
-> Result<()> {
    let mut hub = Hub::start().await?;
    let mut agent = Agent::start(&hub, DEVICE, CONFIG).await?;
    at_hub(&hub, &["set", DEVICE, "valve/open", "40"]).await?;
    agent_is(&hub, "the hub's edit at the agent", opened(40)).await?;
    // Without a hub, and through a kill: what was answered is durable.
    hub.kill().await?;
    on_site(&hub, &["set", "valve/open", "70", "--author", "ben"]).await?;
    on_site(&hub, &["set", "shift", "night", "--section", "tags", "--author", "ben"]).await?;
    agent.kill_and_restart().await?;
    agent_is(&hub, "the edit on site after a kill", opened(70)).await?;
    agent.terminate(LONG).await?;
    hub.start_again().await?;
    at_hub(&hub, &["set", DEVICE, "valve/open", "55"]).await?;
    hub.kill_and_restart().await?;
    hub_is(&hub, "the hub's edit after a kill", opened(55)).await?;
    let _agent = Agent::launch(hub.folder().join(DEVICE))?;
    let at_both = until("the conflict at both ends", LONG, || async {
        let there = contested(&at_hub(&hub, &["conflicts", DEVICE, "--json"]).await?)?;
        let Ok(said) = on_site(&hub, &["conflicts", "--json"]).await else { return Ok(None) };
        Ok(there.zip(contested(&said)?))
    })
    .await?;
    for (values, authors) in [&at_both.0, &at_both.1] {
        ensure!(
            *values == [55, 70] && authors.iter().any(|author| author == "ben"),
            "{values:?} {authors:?}"
        );
    }
    let found = hub_is(&hub, "the tag at the hub", |twin| twin.pointer("/tags/shift").is_some()).await?;
    ensure!(found.pointer("/tags/shift") == Some(&json!("night")), "{found}");
    at_hub(&hub, &["set", DEVICE, "valve/open", "60"]).await?;
    agent_is(&hub, "the value that resolves it", opened(60)).await?;
    ensure!(contested(&on_site(&hub, &["conflicts", "--json"]).await?)?.is_none());
    ensure!(contested(&at_hub(&hub, &["conflicts", DEVICE, "--json"]).await?)?.is_none());
    Ok(())
}

async fn on_line(hub: &Hub) -> Result<()> {
    until("the agent's session", LONG, || async {
        let device = parsed(&hub.get(&format!("/api/v1/devices/{DEVICE}")).await?)?;
        Ok((device.get("state") == Some(&json!("online"))).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_configuration_that_cuts_the_agent_off_heals_itself_and_is_told() -> Result<()> {
    let hub = Hub::start().await?;
    let _agent = Agent::start(&hub, DEVICE, CONFIG).await?;
    // A configuration is tried by an agent that is there.
    on_line(&hub).await?;
    // What the agent cannot be is refused before it is sent, by the schema that it has told.
    hub_is(&hub, "the agent's schema", |twin| twin.pointer("/reported/config_schema/batch").is_some())
        .await?;
    let args = ["twin", "set", DEVICE, "config/batch/flush_interval_ms", "1"];
    let said = hub.command(&args).await?.good().map_err(|error| format!("{error:#}"));
    ensure!(
        said.as_ref()
            .is_err_and(|error| error.contains("flush_interval_ms: must be a whole number from 10 to 60000")),
        "{said:?}"
    );
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.to_string();
    at_hub(&hub, &["set", DEVICE, "config/uplink/hub", &deaf]).await?;
    let refused = hub_is(&hub, "the agent's way back", |twin| {
        twin.pointer("/reported/config/refused/reason").is_some()
    })
    .await?;
    let reason = refused.pointer("/reported/config/refused/reason").and_then(Value::as_str);
    let reason = reason.unwrap_or_default();
    ensure!(
        reason.starts_with("within 20 s of its trial the agent was not well: no hub is connected"),
        "{reason}"
    );
    ensure!(refused.pointer("/reported/config/state") == Some(&json!("applied")), "{refused}");
    // What is right is taken, and stays.
    let patch = r#"{"config": {"uplink": null, "batch": {"flush_interval_ms": 50}}}"#;
    at_hub(&hub, &["set", DEVICE, "--patch", patch]).await?;
    hub_is(&hub, "the better configuration in force", |twin| {
        twin.pointer("/reported/config/state") == Some(&json!("applied"))
            && twin.pointer("/reported/config/refused").is_none()
    })
    .await?;
    let data = hub.folder().join(DEVICE).join("data").display().to_string();
    let said =
        process::run("edge-agent", &["config", "print", "--effective", "--data", &data]).await?.good()?;
    ensure!(said.contains("batch.flush_interval_ms = 50  # hub"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_twin_of_a_device_that_is_only_in_a_file_arrives_on_site_and_is_confirmed() -> Result<()> {
    let hub = Hub::start().await?;
    // No row of it has come yet.
    let rows = hub.folder().join("oven.csv");
    let sources = format!(
        "{CONFIG}[[source]]\nkind = \"tail\"\nname = \"log\"\npath = \"{}\"\ndevice = \"oven\"\n",
        rows.display()
    );
    let _agent = Agent::start(&hub, DEVICE, &sources).await?;
    on_line(&hub).await?;
    until("the device at the hub", LONG, || async {
        Ok(hub.get("/api/v1/devices/oven").await.is_ok_and(|said| said.contains("oven")).then_some(()))
    })
    .await?;
    at_hub(&hub, &["set", "oven", "door", "shut"]).await?;
    until("the hub's edit on site", LONG, || async {
        let Ok(said) = on_site(&hub, &["get", "oven", "--json"]).await else { return Ok(None) };
        Ok((parsed(&said)?.pointer("/desired/door") == Some(&json!("shut"))).then_some(()))
    })
    .await?;
    on_site(&hub, &["set", "lining", "new", "--device", "oven", "--section", "notes", "--author", "ben"])
        .await?;
    until("the edit on site at the hub, and confirmed there", LONG, || async {
        let there = parsed(&at_hub(&hub, &["get", "oven", "--json"]).await?)?;
        let here = parsed(&on_site(&hub, &["get", "oven", "--json"]).await?)?;
        let is_confirmed = here.get("unconfirmed") == Some(&json!(0));
        Ok((there.pointer("/notes/lining") == Some(&json!("new")) && is_confirmed).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_silences_a_file_that_grew_is_taken_back() -> Result<()> {
    let hub = Hub::start().await?;
    let rows = hub.folder().join("oven.csv");
    std::fs::write(&rows, "timestamp,heat\n")?;
    let sources = format!(
        "{CONFIG}[[source]]\nkind = \"tail\"\nname = \"log\"\npath = \"{}\"\ndevice = \"oven\"\n",
        rows.display()
    );
    let _agent = Agent::start(&hub, DEVICE, &sources).await?;
    on_line(&hub).await?;
    hub_is(&hub, "the agent's schema", |twin| twin.pointer("/reported/config_schema/batch").is_some())
        .await?;
    let grow = |minute: u32| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&rows)?;
        writeln!(file, "2026-01-05T10:{minute:02}:00Z,{minute}")
    };
    let heat = |value: u32| {
        let hub = &hub;
        async move {
            until("the heat at the hub", LONG, || async {
                // There may be no such series yet.
                let Ok(said) = hub.get("/api/v1/last?series=oven/heat").await else { return Ok(None) };
                let there = parsed(&said)?.pointer("/series/0/v").and_then(Value::as_f64);
                Ok((there == Some(f64::from(value))).then_some(()))
            })
            .await
        }
    };
    grow(1)?;
    heat(1).await?;
    let elsewhere = hub.folder().join("nothing.csv").display().to_string();
    at_hub(&hub, &["set", DEVICE, "config/source/log/path", &elsewhere]).await?;
    let refused = hub_is(&hub, "the agent's way back", |twin| {
        twin.pointer("/reported/config/refused/reason").is_some()
    })
    .await?;
    let reason = refused.pointer("/reported/config/refused/reason").and_then(Value::as_str);
    ensure!(
        reason.is_some_and(|reason| reason.contains("source log gives no reading, and did before")),
        "{refused}"
    );
    grow(2)?;
    heat(2).await
}
