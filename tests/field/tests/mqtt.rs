//! What devices publish at mosquitto.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edge_agent::profile::detect;
use edge_agent::source::WriteError;
use edge_agent::status::SourceStatus;
use tideline_e2e::mosquitto::{Broker, client};
use tideline_field::{Bench, WAIT_MAX, device_of};
use tideline_link::identity::CertificateAuthority;
use tideline_profiles::samples::Sample;
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_protocol::value::{Quality, Value};

fn config(broker: &Broker, more: &str) -> String {
    format!(
        "[[source]]\nkind = \"mqtt\"\nname = \"hall\"\nurl = \"mqtt://{}\"\n{more}\n\
         profiles = [\"shelly-plus-plug\", \"tasmota-plug\", \"zigbee2mqtt-temperature\", \"json-mqtt\"]\n",
        broker.address()
    )
}

async fn publish(broker: &Broker, topic: &str, payload: &str, more: &[&str]) -> Result<()> {
    let port = broker.address().port().to_string();
    let args = [&["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload], more].concat();
    let said = client("mosquitto_pub", &args).await?;
    anyhow::ensure!(said.code == Some(0), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn devices_of_several_makers_are_read_as_their_profiles_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    // Retained, so that they come whenever the source does.
    let shelly = "shellyplusplugs-0123456789ab";
    let power = "{\"id\":0,\"output\":true,\"apower\":12.5}";
    publish(&broker, &format!("{shelly}/status/switch:0"), power, &["-r"]).await?;
    let mut bench = Bench::new()?;
    let told = format!(
        "[[device]]\nid = \"kettle\"\nsource = \"hall\"\nprofile = \"shelly-plus-plug\"\naddress = \"{shelly}\"\n"
    );
    bench.run(&format!("{}{told}", config(&broker, ""))).await?;
    let row = bench.next_of("kettle/power").await?;
    assert_eq!((row.value, row.quality), (Value::Float(12.5), Quality::Uncertain));

    publish(&broker, "tele/heat pump/SENSOR", "{\"ENERGY\":{\"Power\":1985}}", &[]).await?;
    let row = bench.next_of("heat-pump/power").await?;
    assert_eq!((row.value, row.quality), (Value::Float(1985.0), Quality::Good));
    let firmware = "{\"Info1\":{\"Version\":\"14.2.0(tasmota)\"}}";
    publish(&broker, "tele/heat pump/INFO1", firmware, &[]).await?;
    bench.next_of("heat-pump/firmware/version").await?;
    let cards = bench.cards.news();
    let card = cards.iter().rfind(|card| card.device.as_str() == "heat-pump").context("no card")?;
    assert_eq!((card.profile.as_str(), card.firmware.as_str()), ("tasmota-plug", "14.2.0(tasmota)"));
    assert_eq!((card.vendor.as_str(), card.via.as_str()), ("Tasmota", "mqtt heat pump"));
    publish(&broker, "tele/heat pump/LWT", "Offline", &[]).await?;
    let row = bench.next_of("heat-pump/power").await?;
    assert_eq!((row.value, row.quality), (Value::Null, Quality::Bad));

    let reading = "{\"temperature\":22.75,\"last_seen\":\"2023-11-14T22:13:20.123Z\"}";
    publish(&broker, "zigbee2mqtt/window", reading, &[]).await?;
    let row = bench.next_of("window/temperature").await?;
    assert_eq!((row.value, row.time_ns), (Value::Float(22.75), 1_700_000_000_123_000_000));
    Ok(())
}

#[tokio::test]
async fn whole_messages_as_makers_document_them_are_the_readings_that_they_mean() -> Result<()> {
    for family in ["shelly-plus-plug", "tasmota-plug", "zigbee2mqtt-temperature", "json-mqtt"] {
        let shipped = tideline_profiles::shipped::named(family).context(family)?;
        for (name, text) in shipped.samples {
            let sample = Sample::parse(name, text)?;
            let folder = tempfile::tempdir()?;
            let broker = Broker::start(folder.path()).await?;
            let mut bench = Bench::new()?;
            let device = sample.device.clone().unwrap_or_else(|| "device".to_owned());
            let told = format!(
                "[[device]]\nid = \"it\"\nsource = \"hall\"\nprofile = {family:?}\naddress = {device:?}\n"
            );
            // Retained, so that they come whenever the source does.
            for came in &sample.came {
                let (topic, payload) =
                    came.topic.as_deref().zip(came.payload.as_deref()).context("a message")?;
                publish(&broker, topic, payload, &["-r"]).await?;
            }
            bench.run(&format!("{}{told}", config(&broker, ""))).await?;
            let mut wanted: BTreeMap<&str, Value> =
                sample.expected.iter().map(|(point, value)| (point.as_str(), value.value())).collect();
            wanted.extend(sample.bad.iter().map(|point| (point.as_str(), Value::Null)));
            while !wanted.is_empty() {
                let row = bench.next().await.with_context(|| format!("{family}, {name}: {wanted:?}"))?;
                let Some(value) = wanted.remove(row.point.as_str()) else { continue };
                let is_same = match (&row.value, &value) {
                    (Value::Float(found), Value::Int(whole)) => found.to_string() == whole.to_string(),
                    (found, value) => found == value,
                };
                assert!(is_same, "{family}, {name}: {} is {:?} and not {value:?}", row.point, row.value);
                assert_eq!(
                    row.quality == Quality::Bad,
                    value == Value::Null,
                    "{family}, {name}: {}",
                    row.point
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_acknowledged_only_once_its_readings_are_durable() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let mut bench = Bench::new()?;
    bench.run(&config(&broker, "")).await?;
    // A session is there once something has come of it.
    publish(&broker, "sensors/a", "{\"n\":0}", &["-r"]).await?;
    bench.next_of("a/n").await?;
    bench.keep(false);
    publish(&broker, "sensors/a", "{\"n\":1}", &[]).await?;
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(1.0));
    bench.stop().await;
    // What is published while the agent is away waits for it as well.
    publish(&broker, "sensors/a", "{\"n\":2}", &[]).await?;

    bench.keep(true);
    bench.run(&config(&broker, "")).await?;
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(1.0));
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(2.0));
    publish(&broker, "sensors/a", "{\"n\":3}", &[]).await?;
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(3.0));
    bench.stop().await;

    // The stop may have overtaken the last acknowledgement. What came before does not come again, nor does what the broker
    // has retained, as it knows the session.
    bench.run(&config(&broker, "")).await?;
    publish(&broker, "sensors/a", "{\"n\":4}", &[]).await?;
    let mut value = bench.next_of("a/n").await?.value;
    if value == Value::Float(3.0) {
        value = bench.next_of("a/n").await?.value;
    }
    assert_eq!(value, Value::Float(4.0));
    Ok(())
}

/// Beyond a thousand that wait, mosquitto as it ships gives up those for a subscriber that is slower than it.
const MESSAGES: u32 = 900;

#[tokio::test]
async fn as_many_messages_as_the_broker_keeps_come_whole_and_in_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let mut bench = Bench::new()?;
    bench.run(&config(&broker, "")).await?;
    publish(&broker, "sensors/a", "{\"n\":0}", &["-r"]).await?;
    bench.next_of("a/n").await?;
    let lines: String = (1..=MESSAGES).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let path = folder.path().join("lines");
    std::fs::write(&path, lines)?;
    let port = broker.address().port().to_string();
    let pipe = format!(
        "{} -p {port} -q 1 -t sensors/a -l < {}",
        tideline_e2e::mosquitto::program("mosquitto_pub")?.display(),
        path.display()
    );
    let args = ["-c", &pipe];
    let all = tideline_e2e::process::run_system(Path::new("/bin/sh"), &args);
    let read = async {
        for n in 1..=MESSAGES {
            assert_eq!(bench.next_of("a/n").await?.value, Value::Float(f64::from(n)));
        }
        anyhow::Ok(())
    };
    let (published, read) = tokio::join!(all, read);
    anyhow::ensure!(published?.code == Some(0));
    read
}

#[tokio::test]
async fn a_broker_that_was_killed_is_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start(folder.path()).await?;
    let mut bench = Bench::new()?;
    bench.run(&config(&broker, "")).await?;
    publish(&broker, "sensors/a", "{\"n\":1}", &["-r"]).await?;
    bench.next_of("a/n").await?;
    broker.kill_and_restart().await?;
    // It has forgotten the session: the source subscribes again, and gets what is kept.
    publish(&broker, "sensors/a", "{\"n\":2}", &["-r"]).await?;
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(2.0));
    Ok(())
}

#[tokio::test]
async fn a_broker_with_tls_is_believed_by_its_authority_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let now_s = SystemClock::default().wall_ns() / 1_000_000_000;
    let [own, other] = [(); 2].map(|()| CertificateAuthority::create("broker", now_s));
    let (own, other) = (own?, other?);
    let broker = Broker::start_tls(folder.path(), &own).await?;
    for (name, authority) in [("own.pem", &own), ("other.pem", &other)] {
        std::fs::write(folder.path().join(name), authority.cert_pem())?;
    }
    let with = |name: &str| {
        let more = format!("ca_file = \"{}\"", folder.path().join(name).display());
        config(&broker, &more).replace("mqtt://", "mqtts://")
    };
    let mut bench = Bench::new()?;
    bench.run(&with("other.pem")).await?;
    let status = bench.until("hall", |status| status.last_error.is_some()).await?;
    let error = status.last_error.unwrap_or_default();
    assert!(error.contains("certificate"), "{error}");
    bench.run(&with("own.pem")).await?;
    let ca_file = folder.path().join("own.pem").display().to_string();
    publish(&broker, "sensors/a", "{\"n\":1}", &["-r", "--cafile", &ca_file]).await?;
    assert_eq!(bench.next_of("a/n").await?.value, Value::Float(1.0));
    Ok(())
}

#[tokio::test]
async fn what_is_written_reaches_the_device_and_nothing_is_written_to_one_that_is_away() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let mut bench = Bench::new()?;
    bench.run(&config(&broker, "")).await?;
    let (plug, point) = ("boiler".parse()?, "switch/set".parse()?);
    let on = || bench.writes.write(&plug, &point, Value::Text("ON".into()), WAIT_MAX);
    assert_eq!(on().await, Err(WriteError::NoDevice(plug.clone())));
    publish(&broker, "tele/boiler/SENSOR", "{\"ENERGY\":{\"Power\":1}}", &["-r"]).await?;
    bench.next_of("boiler/power").await?;
    let port = broker.address().port().to_string();
    let args = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "cmnd/#", "-C", "1", "-v", "-W", "60"];
    let heard = client("mosquitto_sub", &args);
    tokio::pin!(heard);
    // The listener may not be there yet: it is written until it hears of it.
    let said = loop {
        let on = || bench.writes.write(&plug, &point, Value::Text("ON".into()), WAIT_MAX);
        tokio::select! {
            said = &mut heard => break said?,
            outcome = on() => outcome?,
        }
    };
    assert_eq!(said.out.trim(), "cmnd/boiler/POWER ON");
    let outcome = bench.writes.write(&plug, &point, Value::Text("DIM".into()), WAIT_MAX).await;
    assert!(matches!(outcome, Err(WriteError::Rejected(_))), "{outcome:?}");
    publish(&broker, "tele/boiler/LWT", "Offline", &[]).await?;
    while bench.next_of("boiler/power").await?.value != Value::Null {}
    let outcome = bench.writes.write(&plug, &point, Value::Text("ON".into()), WAIT_MAX).await;
    assert_eq!(outcome, Err(WriteError::NotDone("boiler is offline".to_owned())));
    let is_silent =
        |status: &SourceStatus| device_of(status, "boiler").is_some_and(|it| it.state == "silent");
    bench.until("hall", is_silent).await?;
    publish(&broker, "tele/boiler/SENSOR", "{\"ENERGY\":{\"Power\":1", &["-r"]).await?;
    let failed = |status: &SourceStatus| device_of(status, "boiler").is_some_and(|it| it.failures == 1);
    let status = bench.until("hall", failed).await?;
    let plug = device_of(&status, "boiler").context("it is shown")?;
    assert!(plug.readings >= 2 && plug.last_reading_ms.is_some(), "{plug:?}");
    assert!(plug.last_error.as_deref().is_some_and(|error| error.contains("no JSON")), "{plug:?}");
    Ok(())
}

#[tokio::test]
async fn families_of_devices_at_a_broker_are_found_by_what_they_publish() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    publish(&broker, "tele/boiler/SENSOR", "{\"ENERGY\":{\"Power\":1}}", &["-r"]).await?;
    publish(&broker, "zigbee2mqtt/window", "{\"temperature\":22.75,\"linkquality\":90}", &["-r"]).await?;
    // It can be read as one of these, and does not show all that tells one.
    publish(&broker, "zigbee2mqtt/lamp 1", "{\"temperature\":22.75}", &["-r"]).await?;
    let families = ["json-mqtt", "tasmota-plug", "zigbee2mqtt-temperature"].map(|name| {
        let shipped = tideline_profiles::shipped::named(name).with_context(|| name.to_owned())?;
        anyhow::Ok(shipped.profile()?)
    });
    let families = families.into_iter().collect::<Result<Vec<_>>>()?;
    let url = format!("mqtt://{}", broker.address());
    // What a broker keeps comes as soon as somebody listens.
    let found = detect::mqtt::look(&url, None, Duration::from_secs(3), &families).await?;
    let found: Vec<_> = found.iter().map(|one| (one.address.as_str(), one.families.join(","))).collect();
    assert_eq!(
        found,
        [
            ("boiler", "tasmota-plug".to_owned()),
            ("lamp 1", String::new()),
            ("window", "zigbee2mqtt-temperature".to_owned())
        ]
    );
    Ok(())
}
