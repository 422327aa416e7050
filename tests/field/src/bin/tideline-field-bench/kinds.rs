//! An agent with one source of each of ten kinds.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_e2e::free_port;
use tideline_e2e::mosquitto::Broker;
use tokio::io::AsyncWriteExt;
use tokio_serial::{SerialPort as _, SerialStream};

use crate::agent::Agent;
use crate::devices::{self, Devices};

/// What is measured.
pub const WORKLOAD: &str = "host, replay, tail, http, modbus ×2, mqtt, …";
/// What a GPS receiver says each second.
const SENTENCE: &[u8] = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n";

/// The agent's memory after so many seconds.
pub async fn resident_mb(seconds: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let devices = Devices::start(1, 0).await?;
    let (mut gps, gps_line) = SerialStream::pair()?;
    // Nobody is at its other end: a bus whose units are silent.
    let (_bus, bus_line) = SerialStream::pair()?;
    let (gps_path, bus_path) = (
        gps_line.name().context("a line without a name")?,
        bus_line.name().context("a line without a name")?,
    );
    let (http, coap) = (free_port()?, free_port()?);
    let tail = folder.path().join("growing.csv");
    std::fs::write(&tail, "timestamp,flow\n")?;
    let address = broker.address();
    let sources = |agent: &Path| {
        let rows = agent.join("rows.csv");
        let text: String = (1..=10_000).map(|row| format!("{row},{}.5\n", row % 90)).collect();
        std::fs::write(&rows, format!("timestamp,flow\n{text}"))?;
        Ok(format!(
            "{}[[source]]\nkind = \"host\"\n\
             [[source]]\nkind = \"replay\"\npath = {rows:?}\nrate = 100\n\
             [[source]]\nkind = \"tail\"\npath = {tail:?}\n\
             [[source]]\nkind = \"http\"\nlisten = \"127.0.0.1:{http}\"\n\
             [[source]]\nkind = \"modbus-rtu\"\nname = \"bus\"\npath = {bus_path:?}\n\
             [[device]]\nid = \"meter\"\nsource = \"bus\"\nprofile = \"eastron-sdm630\"\n\
             [[source]]\nkind = \"mqtt\"\nurl = \"mqtt://{address}\"\nprofiles = [\"tasmota-plug\"]\n\
             [[source]]\nkind = \"sparkplug\"\nurl = \"mqtt://{address}\"\n\
             [[source]]\nkind = \"serial\"\nname = \"gps\"\npath = {gps_path:?}\n\
             [[device]]\nid = \"gps\"\nsource = \"gps\"\nprofile = \"nmea-gps\"\n\
             [[source]]\nkind = \"coap\"\nname = \"site\"\n\
             [[device]]\nid = \"room\"\nsource = \"site\"\nprofile = \"coap-sensor\"\naddress = \"127.0.0.1:{coap}\"\n",
            devices::config(agent, &devices.addresses)?
        ))
    };
    let agent = Agent::start(&sources).await?;
    let mut growing = std::fs::OpenOptions::new().append(true).open(&tail)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in 0..seconds {
        ticks.tick().await;
        AsyncWriteExt::write_all(&mut gps, SENTENCE).await?;
        writeln!(growing, "{second},7.25")?;
    }
    let status = agent.status().await?;
    anyhow::ensure!(status.sources.len() == 10, "{} sources run", status.sources.len());
    agent.resident_mb()
}
