//! SunSpec against models that pysunspec2 lays out, behind a server of pymodbus.
#![allow(clippy::unwrap_used, reason = "a test")]

use anyhow::{Context as _, Result};
use edge_agent::source::WriteError;
use tideline_field::{Bench, Peer, WAIT_MAX};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Quality, Value};

/// The port of the device, or any; then its models.
async fn peer(args: &[&str]) -> Result<Option<Peer>> {
    // pymodbus has to be there as well: they are installed together.
    Peer::start("sunspec.py", "sunspec2, pymodbus", args).await
}

fn config(peer: &Peer, profile: &str) -> String {
    format!(
        "[[source]]\nkind = \"modbus-tcp\"\nname = \"roof\"\naddress = {:?}\ntimeout_ms = 5000\n\
         [[device]]\nid = \"inverter\"\nsource = \"roof\"\nprofile = {profile:?}\n",
        peer.address
    )
}

/// A profile of the inverter's power and of the limit that it can be told, often.
fn fast(bench: &Bench) -> Result<String> {
    let path = bench.folder().join("inverter.toml");
    let text = "name = \"inverter\"\n[sunspec]\n[collection.default]\ninterval_ms = 50\n[points]\n\
        power = { unit = \"W\", min = -1e6, max = 1e6, address = \"103:14\", encoding = \"i16\", scale_from = \":15\" }\n\
        limit = { unit = \"%\", min = 0, max = 100, address = \"123:5\", encoding = \"u16\", scale_from = \":23\", access = \"read-write\" }\n";
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

async fn next(bench: &mut Bench, name: &str) -> Result<(Value, Quality)> {
    let row = bench.next_of(name).await?;
    Ok((row.value, row.quality))
}

#[tokio::test]
async fn a_device_is_read_where_its_models_stand_and_says_who_it_is() -> Result<()> {
    let Some(peer) = peer(&["0", "1", "123", "103"]).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    bench.run(&config(&peer, "sunspec-inverter")).await?;
    let good = |value| (value, Quality::Good);
    // In the order of their registers, as they come.
    for (point, value) in [
        ("voltage/l1", good(Value::Float(230.1))),
        ("voltage/l2", (Value::Null, Quality::Bad)),
        ("power", good(Value::Float(-1234.5))),
        ("frequency", good(Value::Float(50.01))),
        ("dc/power", (Value::Null, Quality::Bad)),
        ("temperature/cabinet", good(Value::Float(41.0))),
        ("temperature/other", (Value::Null, Quality::Bad)),
        ("state", good(Value::Text("mppt".into()))),
        ("events", good(Value::Text("over temperature".into()))),
        ("energy", good(Value::Float(12_345_670.0))),
        ("serial", good(Value::Text("0001".into()))),
    ] {
        assert_eq!(next(&mut bench, &format!("inverter/{point}")).await?, value, "{point}");
    }
    let status = bench.board.read().sources.get("roof").cloned().unwrap_or_default();
    assert_eq!((status.failures, status.last_error), (0, None));
    let card = bench.cards.news().pop().context("nothing is told of it")?;
    let told = [&card.profile, &card.vendor, &card.model, &card.firmware, &card.via];
    let via = format!("modbus {} unit 1", peer.address);
    assert_eq!(told, ["sunspec-inverter", "Example Solar", "EX-5000", "1.4.2", &via]);
    Ok(())
}

#[tokio::test]
async fn blocks_are_read_as_many_as_the_device_says_however_far_their_scale_factor_is() -> Result<()> {
    let Some(peer) = peer(&["0", "1", "103", "160"]).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    bench.run(&config(&peer, "sunspec-inverter")).await?;
    let mut powers = Vec::new();
    loop {
        let row = bench.next().await?;
        match row.point.split_once('/') {
            Some(("module-power", number)) => powers.push((number.to_owned(), row.value, row.quality)),
            Some(("module-current", "9")) => assert_eq!(row.value, Value::Float(4.5)),
            Some(("module-temperature", _)) => {
                assert_eq!((row.value, row.quality), (Value::Null, Quality::Bad));
            }
            Some(("module-name", number)) => {
                assert_eq!(row.value, Value::Text(format!("string {number}").into()));
                // Theirs is the group that is asked last.
                if number == "11" {
                    break;
                }
            }
            _ => {}
        }
    }
    let expected: Vec<_> = (1..=11_u32)
        .map(|number| (number.to_string(), Value::Float(f64::from(200 * number)), Quality::Good))
        .collect();
    assert_eq!(powers, expected);
    let status = bench.board.read().sources.get("roof").cloned().unwrap_or_default();
    assert_eq!((status.failures, status.last_error), (0, None));
    peer.kill().await
}

#[tokio::test]
async fn models_that_stand_elsewhere_after_a_restart_are_found_again() -> Result<()> {
    let Some(first) = peer(&["0", "1", "103", "123"]).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let profile = fast(&bench)?;
    bench.run(&config(&first, &profile)).await?;
    assert_eq!(next(&mut bench, "inverter/limit").await?, (Value::Float(100.0), Quality::Good));
    let port = first.address.rsplit_once(':').context("no port")?.1.to_owned();
    first.kill().await?;
    while next(&mut bench, "inverter/power").await? != (Value::Null, Quality::Bad) {}
    let second = peer(&[&port, "1", "123", "103"]).await?;
    // Never what stands there now, where the power was.
    for _ in 0..3 {
        assert_eq!(next(&mut bench, "inverter/power").await?, (Value::Float(-1234.5), Quality::Good));
    }
    second.context("it was there")?.kill().await?;
    while next(&mut bench, "inverter/limit").await? != (Value::Null, Quality::Bad) {}
    let third = peer(&[&port, "1", "103"]).await?;
    assert_eq!(next(&mut bench, "inverter/power").await?, (Value::Null, Quality::Bad));
    assert_eq!(next(&mut bench, "inverter/power").await?, (Value::Float(-1234.5), Quality::Good));
    let limit = (DeviceId::parse("inverter")?, PointId::parse("limit")?);
    let outcome = bench.writes.write(&limit.0, &limit.1, Value::Float(50.0), WAIT_MAX).await;
    let why = "limit stands in no model that the device has".to_owned();
    assert_eq!(outcome, Err(WriteError::NotDone(why)));
    third.context("it was there")?.kill().await
}

#[tokio::test]
async fn a_limit_is_written_with_the_scale_that_the_device_has_for_it() -> Result<()> {
    let Some(peer) = peer(&["0", "1", "103", "123"]).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let profile = fast(&bench)?;
    bench.run(&config(&peer, &profile)).await?;
    assert_eq!(next(&mut bench, "inverter/limit").await?, (Value::Float(100.0), Quality::Good));
    let (device, limit) = (DeviceId::parse("inverter")?, PointId::parse("limit")?);
    bench.writes.write(&device, &limit, Value::Float(75.5), WAIT_MAX).await?;
    while next(&mut bench, "inverter/limit").await? != (Value::Float(75.5), Quality::Good) {}
    peer.kill().await
}
