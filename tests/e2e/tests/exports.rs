//! Exports that are cut off and go on: what they write is what one in one go writes.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tideline_e2e::process::{Running, Said};
use tideline_e2e::{Hub, until};

const LONG: Duration = Duration::from_secs(120);
const ROWS: u64 = 900_000;

/// A hub with readings of three series.
async fn filled() -> Result<Hub> {
    let hub = Hub::start().await?;
    let mut text = String::from("device,point,unit,time,value\n");
    for at in 0..ROWS {
        let (series, time) = (at * 3 / ROWS, 1_700_000_000_000 + at * 100);
        writeln!(text, "d{series},t,Cel,{time},{}.{:02}", at % 977 / 10, at % 100)?;
    }
    let (file, map) = (at(&hub, "in.csv"), at(&hub, "map.toml"));
    std::fs::write(&file, text)?;
    std::fs::write(&map, "time.format = \"ms\"\n")?;
    hub.command(&["import", "--map", &map, &file]).await?.good()?;
    Ok(hub)
}

fn at(hub: &Hub, name: &str) -> String {
    hub.folder().join(name).display().to_string()
}

fn start(hub: &Hub, out: &str) -> Result<Running> {
    let data = hub.folder().join("hub").display().to_string();
    let args = ["export", "--data", &data, "--out", out, "--to", "2026-01-01T00:00:00Z"];
    Running::start("cloud-hub", &args, &[], &hub.folder().join("export.log"))
}

async fn export(hub: &Hub, out: &str, more: &[&str]) -> Result<Said> {
    hub.command(&[&["export", "--out", out, "--to", "2026-01-01T00:00:00Z"], more].concat()).await
}

/// Waits until some parts are whole, and not all.
async fn begun(out: &str) -> Result<Value> {
    let state = format!("{out}.part.json");
    until("a part of the export", LONG, || async {
        let Ok(text) = std::fs::read_to_string(&state) else { return Ok(None) };
        let state: Value = serde_json::from_str(&text)?;
        Ok(state["parts"].as_array().is_some_and(|parts| !parts.is_empty()).then_some(state))
    })
    .await
}

#[tokio::test]
async fn an_export_that_was_cut_off_goes_on_and_is_the_same_as_in_one_go() -> Result<()> {
    let mut hub = filled().await?;
    for ending in ["parquet", "csv", "arrow"] {
        let (whole, cut) = (at(&hub, &format!("whole.{ending}")), at(&hub, &format!("cut.{ending}")));
        let told = export(&hub, &whole, &[]).await?.good()?;
        ensure!(told.contains("900000 rows"), "{told}");
        // The client is killed in the middle, then the hub.
        let mut client = start(&hub, &cut)?;
        let state = begun(&cut).await?;
        client.kill().await.context("the export was over too soon")?;
        ensure!(state["whole"] == false && !Path::new(&cut).exists(), "{state}");
        hub.kill().await?;
        let Said { code, err, .. } = export(&hub, &cut, &[]).await?;
        ensure!(code == Some(1) && err.contains("the same command goes on there"), "{code:?} {err}");
        hub.start_again().await?;
        // Other arguments are no continuation.
        let Said { code, err, .. } = export(&hub, &cut, &["--device", "d1"]).await?;
        ensure!(code == Some(1) && err.contains("--fresh"), "{code:?} {err}");
        let Said { code, err, .. } = export(&hub, &cut, &[]).await?;
        ensure!(code == Some(0) && err.contains("goes on after"), "{code:?} {err}");
        ensure!(std::fs::read(&cut)? == std::fs::read(&whole)?, "{ending}: another content");
        for rest in [".part", ".part.json", ".part.joined"] {
            ensure!(!Path::new(&format!("{cut}{rest}")).exists(), "{cut}{rest} is left");
        }
    }
    // What is one file is also one to those who read it in one go.
    let answer = hub.get("/api/v1/export?format=csv&to=2026-01-01T00:00:00Z").await?;
    ensure!(answer == std::fs::read_to_string(at(&hub, "whole.csv"))?, "another content");
    // And to an import: nothing is lost between parts.
    let second = Hub::start().await?;
    second.command(&["import", &at(&hub, "cut.parquet")]).await?.good()?;
    let again = at(&second, "again.csv");
    export(&second, &again, &[]).await?.good()?;
    ensure!(std::fs::read(again)? == std::fs::read(at(&hub, "whole.csv"))?, "another content");
    // An export of nothing leaves nothing.
    let none = at(&hub, "none.csv");
    let Said { code, err, .. } = export(&hub, &none, &["--device", "nobody"]).await?;
    ensure!(code == Some(1) && err.contains("nothing was written"), "{err}");
    ensure!(!Path::new(&format!("{none}.part")).exists(), "the unfinished file is left");
    Ok(())
}
