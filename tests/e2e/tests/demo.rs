//! The demo as a newcomer runs it, with its simulated field devices and its outage.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tideline_e2e::process::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_ends_with_ledgers_that_balance_and_nothing_but_json_on_stdout() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().to_str().context("a folder with a plain name")?;
    let port = tideline_e2e::free_port()?.to_string();
    let args =
        ["demo", "--agents", "2", "--for", "6s", "--outage", "1s", "--json", "--data", data, "--port", &port];
    let said = run("cloud-hub", &args).await?;
    ensure!(said.err.contains(&format!("http://127.0.0.1:{port}")), "no address: {}", said.err);
    ensure!(said.err.contains("demo-1 is connected again"), "no outage that ended: {}", said.err);
    let told = said.err.clone();
    let ledger: Value = serde_json::from_str(&said.good()?).with_context(|| told.clone())?;
    ensure!(ledger["lost"] == 0 && ledger["doubled"] == 0, "{ledger}");
    let devices = ledger["devices"].as_array().context("the ledgers")?;
    ensure!(devices.len() == 2, "{ledger}");
    for device in devices {
        let of = |what: &str| device[what].as_u64();
        ensure!(of("produced") > Some(0) && of("produced") == of("stored"), "{device}: {told}");
        ensure!(["pending", "dropped", "refused"].iter().all(|what| of(what) == Some(0)), "{device}");
    }
    // What the second agent polls by Modbus is told apart from what it replays; the plug needs a broker of the system.
    let found = devices[1]["devices"].as_array().context("the devices of the second agent")?;
    let meter = found.iter().find(|found| found["device"] == "demo-meter");
    ensure!(meter.is_some_and(|meter| meter["readings"].as_u64() > Some(0)), "{ledger}: {told}");
    Ok(())
}
