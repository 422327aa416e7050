//! What the profile of a device says of how long its readings are kept, from its file at the agent to the disk of the hub.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::{Agent, Hub, free_port, http, until};

const LONG: Duration = Duration::from_secs(60);
/// 2025-10-09 09:00:00 UTC.
const BEGIN_MS: i64 = 1_760_000_400_000;
const POSTS: i64 = 40;

const BOILER: &str = r##"
name = "boiler"
[identity]
vendor = "Example"
model = "B 1"
[http]
root = "{device}"
times = [{ address = "#/ts", unit = "ms" }]
[points]
flow = { unit = "l/s", min = 0, max = 90, address = "#/flow" }
noise = { unit = "dB", min = 0, max = 190, address = "#/noise" }
pulse = { unit = "1", min = 0, max = 99, address = "#/pulse" }
[delivery.short]
points = ["noise"]
keep_days = 1
rollups = ["1h", "1d"]
[delivery.none]
points = ["pulse"]
keep_days = 1
rollups = []
"##;

async fn get(hub: &Hub, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&hub.get(path).await?)?)
}

/// How many readings of a point there are, and how many are known of all that came.
async fn known(hub: &Hub, point: &str) -> Result<(usize, Value)> {
    let range = format!("series=boiler/{point}&from={BEGIN_MS}&to={}", BEGIN_MS + 86_400_000);
    let rows = get(hub, &format!("/api/v1/query?{range}&limit=1000")).await?;
    let chart = get(hub, &format!("/api/v1/query?{range}&buckets=24")).await?;
    let counts = chart["series"][0]["count"].as_array().cloned().unwrap_or_default();
    let sum = counts.iter().filter_map(Value::as_u64).sum::<u64>();
    Ok((rows["series"][0]["t"].as_array().map_or(0, Vec::len), json!(sum)))
}

#[tokio::test]
async fn readings_go_when_their_profile_says_so_and_those_beside_them_stay() -> Result<()> {
    let hub = Hub::start_with(vec![("TIDELINE_STORE_FLUSH_INTERVAL_S", "1".to_owned())]).await?;
    let port = free_port()?;
    let profile = hub.folder().join("boiler.toml");
    std::fs::write(&profile, BOILER)?;
    let config = format!(
        "[[source]]\nkind = \"http\"\nname = \"door\"\nlisten = \"127.0.0.1:{port}\"\ntoken = \"all\"\n\
         [[device]]\nid = \"boiler\"\nsource = \"door\"\nprofile = \"{}\"\n",
        profile.display()
    );
    let agent = Agent::start(&hub, "cellar", &config).await?;
    let door = ([127, 0, 0, 1], port).into();
    for n in 0..POSTS {
        let body = json!({ "ts": BEGIN_MS + n * 60_000, "flow": n, "noise": n, "pulse": n }).to_string();
        until("the agent to take a post", LONG, || async {
            // Its door opens a moment after its start.
            let told = http::post(door, "/boiler", Some("all"), ("application/json", body.clone())).await;
            let Ok(told) = told else { return Ok(None) };
            ensure!((200..300).contains(&told.status), "{}: {}", told.status, told.body);
            Ok(Some(()))
        })
        .await?;
    }
    let all = usize::try_from(POSTS)?;
    until("readings to go", LONG, || async {
        let found = [known(&hub, "flow").await?, known(&hub, "noise").await?, known(&hub, "pulse").await?];
        Ok((found == [(all, json!(all)), (0, json!(all)), (0, json!(0))]).then_some(()))
    })
    .await?;
    let series = get(&hub, "/api/v1/series?device=boiler").await?;
    let kept: Vec<(&str, &Value)> = series["series"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (one["point"].as_str().unwrap_or_default(), &one["keep"]["readings"]))
        .collect();
    ensure!(
        kept == [("flow", &json!("forever")), ("noise", &json!("1d")), ("pulse", &json!("1d"))],
        "{series}"
    );
    // What is gone is stored by the ledger, and is not asked for again.
    let ledger = get(&hub, "/api/v1/devices/cellar/ledger").await?;
    ensure!(ledger.to_string().contains("\"balanced\":true"), "{ledger}");
    agent.terminate(LONG).await
}
