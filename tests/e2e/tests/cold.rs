//! The cold tier of a hub as others see it: DuckDB reads the folder of a running hub, and finds each reading that retention
//! has taken, once, under its day.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::{Hub, absent, http, process, until};

const LONG: Duration = Duration::from_secs(60);
/// 2025-10-09 09:00:00 UTC.
const BEGIN_NS: i64 = 1_760_000_400_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Series, ns and value of so many readings of two devices, ten minutes apart, over two and a half days.
fn readings(shift_ns: i64) -> Vec<(String, i64, f64)> {
    let row = |n: i64| {
        let series = ["north/fuel", "north/load", "south/fuel"][usize::try_from(n % 3).unwrap_or(0)];
        let quarters = f64::from(i32::try_from(n).unwrap_or(0)) / 4.0;
        (series.to_owned(), BEGIN_NS + shift_ns + n / 3 * 10 * MINUTE_NS, quarters)
    };
    (0..1080).map(row).collect()
}

async fn send(hub: &Hub, token: &str, rows: &[(String, i64, f64)]) -> Result<()> {
    let line = |(series, time, value): &(String, i64, f64)| {
        let (host, point) = series.split_once('/').unwrap_or_default();
        format!("{point},host={host} value={value} {time}\n")
    };
    let path = "/api/v2/write?org=a&bucket=b&precision=ns";
    let lines: String = rows.iter().map(line).collect();
    let told = http::post(hub.http(), path, Some(token), ("text/plain", lines)).await?;
    ensure!(told.status == 204, "{}: {}", told.status, told.body);
    Ok(())
}

async fn cold_rows(hub: &Hub, rows: usize) -> Result<Value> {
    until("cold readings", LONG, || async {
        let store: Value = serde_json::from_str(&hub.get("/api/v1/store").await?)?;
        let tiers = store["tiers"].as_array().context("no tiers")?;
        let cold = tiers.iter().find(|tier| tier["tier"] == "cold").context("no cold tier")?;
        Ok((cold["readings"] == rows).then(|| cold.clone()))
    })
    .await
}

async fn sql(hub: &Hub, sql: &str) -> Result<Value> {
    let body = ("application/json", json!({ "sql": sql }).to_string());
    let told = http::post(hub.http(), "/api/v1/sql", Some(hub.token()), body).await?;
    ensure!(told.status == 200, "{sql}: {}", told.body);
    Ok(serde_json::from_str::<Value>(&told.body)?["rows"].take())
}

#[tokio::test]
async fn duckdb_reads_the_cold_tier_of_a_running_hub() -> Result<()> {
    let Some(python) = absent::python("duckdb")? else { return Ok(()) };
    let hub = Hub::start_with(vec![
        ("TIDELINE_STORE_FLUSH_INTERVAL_S", "1".to_owned()),
        ("TIDELINE_RETENTION_RAW_AGE", "1d".to_owned()),
        ("TIDELINE_RETENTION_COLD", "true".to_owned()),
    ])
    .await?;
    let token = hub.command(&["token", "create", "cold", "--write", "*"]).await?.good()?.trim().to_owned();
    let mut sent = readings(0);
    send(&hub, &token, &sent).await?;
    cold_rows(&hub, sent.len()).await?;
    // What comes late for days that are cold is cold as well.
    let late = readings(MINUTE_NS);
    send(&hub, &token, &late).await?;
    sent.extend(late);
    let tier = cold_rows(&hub, sent.len()).await?;
    ensure!(tier["files"].as_u64().is_some_and(|files| files >= 6), "{tier}");
    sent.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/cold.py");
    let folder = hub.folder().join("hub/store/cold").display().to_string();
    let said = process::run_system(&python, &[script, &folder]).await?;
    let found: Value = serde_json::from_str(&said.good()?)?;
    ensure!(found["elsewhere"] == 0, "{} readings are in another day's folder", found["elsewhere"]);
    ensure!(found["rows"] == json!(sent), "DuckDB finds other readings");

    let asked = sql(&hub, "SELECT device, point, time, value FROM cold ORDER BY device, point, time").await?;
    let row = |row: &(String, i64, f64)| {
        let (device, point) = row.0.split_once('/').unwrap_or_default();
        json!([device, point, row.1 / 1_000_000, row.2])
    };
    ensure!(asked == json!(sent.iter().map(row).collect::<Vec<_>>()), "SQL finds other readings");
    let both = "SELECT count(time) FROM (SELECT time FROM readings UNION ALL SELECT time FROM cold) AS r";
    ensure!(sql(&hub, both).await? == json!([[sent.len()]]), "a union has other readings");
    let verified = hub.command(&["store", "verify"]).await?.good()?;
    ensure!(verified.contains(&format!("cold files with {} rows", sent.len())), "{verified}");
    Ok(())
}
