//! Devices that are simulated as their profiles say, read by the sources of their protocols over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use edge_agent::profile::simulate::{self, Options};
use edge_agent::source::writes::TIMEOUT;
use tideline_e2e::free_port;
use tideline_e2e::mosquitto::Broker;
use tideline_field::{Bench, WAIT_MAX};
use tideline_profiles::simulate::Device;
use tideline_profiles::{Profile, shipped};
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_serial::{SerialPort as _, SerialStream};

const SEED: u64 = 7;
/// Between two steps of a device that tells its values by itself.
const INTERVAL_MS: u64 = 50;
/// Of one that is asked: it stays as it is.
const NEVER_MS: u64 = 3_600_000;
/// More than a device steps while a test runs.
const STEPS_MAX: usize = 5_000;

fn profile(name: &str) -> Result<Profile> {
    let shipped = shipped::ALL.iter().find(|shipped| shipped.name == name);
    Ok(shipped.ok_or_else(|| anyhow::anyhow!("no profile {name}"))?.profile()?)
}

fn options(port: u16, interval_ms: u64) -> Options {
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        serial: false,
        unit: None,
        broker: format!("127.0.0.1:{port}"),
        to: format!("http://127.0.0.1:{port}"),
        token: None,
        device: "simulated-1".to_owned(),
        interval_ms,
        seed: SEED,
        for_s: None,
        until_stdin_ends: false,
    }
}

/// All values that a device has in so many steps.
fn values(profile: &Profile, steps: usize) -> BTreeMap<PointId, Vec<Value>> {
    let mut device = Device::new(profile, SEED);
    let mut all: BTreeMap<PointId, Vec<Value>> = BTreeMap::new();
    for _ in 0..=steps {
        for (id, value) in device.values() {
            let values = all.entry(id.clone()).or_default();
            if values.last() != Some(value) {
                values.push(value.clone());
            }
        }
        device.step();
    }
    all
}

fn is_same(found: &Value, wanted: &Value, least: f64) -> bool {
    match (found, wanted) {
        (Value::Float(found), Value::Float(wanted)) => (found - wanted).abs() <= 1e-6 * wanted.abs() + least,
        _ => found == wanted,
    }
}

/// Reads a device until each of its points was told, and compares all that is told.
async fn agree(bench: &mut Bench, device: &str, profile: &Profile, steps: usize) -> Result<()> {
    // Points of whole numbers share powers of ten: watts are told in steps of one.
    let least = if profile.name().starts_with("sunspec") { 0.5 } else { 1e-9 };
    let wanted = values(profile, steps);
    let mut left: Vec<&PointId> = wanted.keys().collect();
    assert!(!left.is_empty(), "{}", profile.name());
    while !left.is_empty() {
        let row = bench.next().await?;
        assert_eq!(row.device, device, "{row:?}");
        let Some((id, values)) = wanted.iter().find(|(id, _)| id.as_str() == row.point) else {
            panic!("{row:?} is not simulated")
        };
        assert!(
            row.quality == Quality::Good && values.iter().any(|value| is_same(&row.value, value, least)),
            "{row:?}"
        );
        left.retain(|other| *other != id);
    }
    Ok(())
}

#[tokio::test]
async fn registers_and_resources_are_read_as_they_are_simulated() -> Result<()> {
    for (name, source) in [
        ("eastron-sdm120", "modbus-tcp"),
        ("eastron-sdm630", "modbus-tcp"),
        ("sunspec-inverter", "modbus-tcp"),
        ("sunspec-inverter-float", "modbus-tcp"),
        ("coap-sensor", "coap"),
    ] {
        let (port, profile) = (free_port()?, profile(name)?);
        let mut devices = JoinSet::new();
        let (simulated, given) = (profile.clone(), options(port, NEVER_MS));
        devices.spawn(async move { simulate::run(&simulated, given).await });
        let mut bench = Bench::new()?;
        let (of_source, of_device) = match source {
            "coap" => (String::new(), format!("coap://127.0.0.1:{port}")),
            _ => (format!("address = \"127.0.0.1:{port}\"\n"), String::new()),
        };
        let text = format!(
            "[[source]]\nkind = \"{source}\"\nname = \"site\"\n{of_source}\
             [[device]]\nid = \"it\"\nsource = \"site\"\nprofile = \"{name}\"\naddress = \"{of_device}\"\n"
        );
        bench.run(&text).await?;
        agree(&mut bench, "it", &profile, 0).await?;
        assert!(devices.try_join_next().is_none(), "{name} is still there");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_published_and_posted_is_read_as_it_is_simulated() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    for (name, source) in [
        ("shelly-plus-plug", "mqtt"),
        ("tasmota-plug", "mqtt"),
        ("zigbee2mqtt-temperature", "mqtt"),
        ("json-mqtt", "mqtt"),
        ("json-http", "http"),
        ("sparkplug-node", "sparkplug"),
    ] {
        let (profile, mut devices) = (profile(name)?, JoinSet::new());
        let port = if source == "http" { free_port()? } else { broker.address().port() };
        let door = match source {
            "http" => format!("listen = \"127.0.0.1:{port}\""),
            _ => format!("url = \"mqtt://127.0.0.1:{port}\""),
        };
        let (simulated, given) = (profile.clone(), options(port, INTERVAL_MS));
        devices.spawn(async move { simulate::run(&simulated, given).await });
        let mut bench = Bench::new()?;
        let text =
            format!("[[source]]\nkind = \"{source}\"\nname = \"site\"\n{door}\nprofiles = [\"{name}\"]\n");
        bench.run(&text).await?;
        let id = if source == "sparkplug" { "simulated.simulated-1" } else { "simulated-1" };
        agree(&mut bench, id, &profile, STEPS_MAX).await?;
        assert!(devices.try_join_next().is_none(), "{name} is still there");
        bench.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn sentences_are_read_as_they_are_simulated() -> Result<()> {
    let (port, profile) = (free_port()?, profile("nmea-gps")?);
    let mut devices = JoinSet::new();
    let (simulated, given) = (profile.clone(), options(port, INTERVAL_MS));
    devices.spawn(async move { simulate::run(&simulated, given).await });
    let mut bench = Bench::new()?;
    // What a simulated receiver tells over TCP goes into a serial line as it comes.
    let (mut device, line) = SerialStream::pair()?;
    let path = line.name().context("no name")?;
    let text = format!(
        "[[source]]\nkind = \"serial\"\nname = \"site\"\npath = {path:?}\n\
         [[device]]\nid = \"it\"\nsource = \"site\"\nprofile = \"nmea-gps\"\n"
    );
    bench.run(&text).await?;
    let mut lines = tideline_e2e::until("the receiver", WAIT_MAX, || async {
        Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
    })
    .await?;
    devices.spawn(async move {
        tokio::io::copy(&mut lines, &mut device).await?;
        Ok(())
    });
    agree(&mut bench, "it", &profile, STEPS_MAX).await
}

#[tokio::test]
async fn a_simulated_device_shows_its_token_and_speaks_of_itself_alone() -> Result<()> {
    let (port, profile) = (free_port()?, profile("json-http")?);
    let mut devices = JoinSet::new();
    for (device, token) in [("simulated-1", "own"), ("simulated-2", "own")] {
        let mut given = options(port, INTERVAL_MS);
        (given.device, given.token) = (device.to_owned(), Some(token.to_owned()));
        let simulated = profile.clone();
        devices.spawn(async move { simulate::run(&simulated, given).await });
    }
    let mut bench = Bench::new()?;
    let text = format!(
        "[[source]]\nkind = \"http\"\nname = \"site\"\nlisten = \"127.0.0.1:{port}\"\ntoken = \"all\"\n\
         profiles = [\"json-http\"]\n\
         [[device]]\nid = \"simulated-1\"\nsource = \"site\"\nprofile = \"json-http\"\ntoken = \"own\"\n"
    );
    bench.run(&text).await?;
    agree(&mut bench, "simulated-1", &profile, STEPS_MAX).await?;
    bench.until("site", |status| status.failures > 0).await?;
    let news = bench.cards.news();
    let cards: Vec<_> =
        news.iter().map(|card| (card.device.as_str(), card.profile.as_str(), card.via.as_str())).collect();
    assert_eq!(cards, [("simulated-1", "json-http", "http simulated-1")]);
    while devices.try_join_next().is_some_and(|ended| ended.is_err()) {}
    Ok(())
}

/// A profile that names nodes in all ways there are.
const PLANT: &str = "name = \"plant\"\n[identity]\nvendor = \"Example\"\nmodel = \"P1\"\n[opcua]\nsampling_ms = 100\n[points]\n\
    flow = { unit = \"l/s\", min = 0, max = 90, address = \"nsu=urn:maker;s=Flow\", scale = 0.1 }\n\
    level = { unit = \"m\", min = 0, max = 9, address = \"/2:Pump/4:Level\" }\n\
    running = { type = \"bool\", address = \"ns=3;s=Running\" }\n\
    count = { type = \"int\", unit = \"1\", min = 0, max = 1000, address = \"ns=3;i=7\" }\n\
    mode = { type = \"text\", enum = { 0 = \"off\", 1 = \"on\" }, address = \"/2:Pump/2:Mode\" }\n\
    name = { type = \"text\", address = \"/2:Pump/2:Name\" }\n\
    setpoint = { unit = \"Cel\", min = 0, max = 90, address = \"ns=2;s=Setpoint\", access = \"read-write\", scale = 0.5 }\n\
    reset = { type = \"bool\", address = \"ns=2;s=Reset\", access = \"write\" }\n";

#[tokio::test]
async fn variables_are_read_and_written_as_they_are_simulated() -> Result<()> {
    for (shipped, interval_ms) in [("opcua-server", INTERVAL_MS), ("", NEVER_MS)] {
        let (port, mut bench, mut devices) = (free_port()?, Bench::new()?, JoinSet::new());
        let path = bench.folder().join("plant.toml");
        std::fs::write(&path, PLANT)?;
        let (profile, name) = match shipped {
            "" => (Profile::parse("plant.toml", PLANT)?, path.display().to_string()),
            shipped => (profile(shipped)?, shipped.to_owned()),
        };
        let (simulated, given) = (profile.clone(), options(port, interval_ms));
        devices.spawn(async move { simulate::run(&simulated, given).await });
        let text = format!(
            "[[source]]\nkind = \"opc-ua\"\nname = \"site\"\nurl = \"opc.tcp://127.0.0.1:{port}/\"\n\
             security = \"none\"\n[[device]]\nid = \"it\"\nsource = \"site\"\nprofile = {name:?}\n"
        );
        bench.run(&text).await?;
        agree(&mut bench, "it", &profile, STEPS_MAX).await.with_context(|| name.clone())?;
        assert!(devices.try_join_next().is_none(), "{name} is still there");
        if shipped.is_empty() {
            write(&mut bench).await?;
            let card = bench.cards.news().pop().context("it is not introduced")?;
            assert_eq!((card.vendor.as_str(), card.model.as_str()), ("Example", "P1"));
        }
        bench.stop().await;
    }
    Ok(())
}

/// What is written is read back, and what the profile has no raw value for is refused.
async fn write(bench: &mut Bench) -> Result<()> {
    let (device, setpoint, reset) = ("it".parse()?, "setpoint".parse()?, "reset".parse()?);
    bench.writes.write(&device, &setpoint, Value::Float(21.5), TIMEOUT).await?;
    let row = bench.next_of("it/setpoint").await?;
    assert_eq!((row.value, row.quality), (Value::Float(21.5), Quality::Good));
    bench.writes.write(&device, &reset, Value::Bool(true), TIMEOUT).await?;
    let refused = bench.writes.write(&device, &"level".parse()?, Value::Float(1.0), TIMEOUT).await;
    assert!(refused.is_err(), "it is read only");
    Ok(())
}
