//! Where UDP does not get through: the hub's MQTT endpoint, a broker that nobody trusts, and clients that
//! are not ours.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tideline_e2e::mosquitto::{Broker, client};
use tideline_e2e::{Agent, Hub, free_port, process, until};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::{Clock as _, SystemClock};

const LONG: Duration = Duration::from_secs(120);

/// A recording of so many rows, a second apart.
fn recording(folder: &Path, rows: usize) -> Result<PathBuf> {
    let mut text = String::from("timestamp,level\n");
    for row in 0..rows {
        let at = 1_760_000_000_000_u64 + 1000 * row as u64;
        writeln!(text, "{at},{}", row % 997)?;
    }
    let path = folder.join("recording.csv");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// An agent's file: a recording at `rate` rows a second, and a QUIC address that nobody answers at.
fn config(recording: &Path, rate: usize, uplink: &str) -> Result<String> {
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    Ok(format!(
        "[http]\nlisten = \"\"\n[batch]\nflush_interval_ms = 100\n[uplink]\nhub = \"{deaf}\"\n{uplink}\n[[source]]\nkind = \"replay\"\nname = \"r\"\npath = {recording:?}\nrate = {rate}\n"
    ))
}

/// Exactly the rows of the recording, in order.
async fn holds(hub: &Hub, device: &str, rows: usize) -> Result<()> {
    let ledger = hub.settled(device, rows as u64, LONG).await?;
    ensure!((ledger.dropped, ledger.refused, ledger.lost) == (0, 0, 0), "{ledger:?}");
    let found = hub.readings(&format!("{device}/level"), 5_000).await?;
    ensure!(found.len() == rows, "{} rows stored, {rows} wanted", found.len());
    for (row, (time, value)) in found.iter().enumerate() {
        let wanted = (1_760_000_000_000_000_000 + 1_000_000_000 * row as i64, (row % 997) as f64);
        ensure!((*time, *value) == wanted, "row {row} is {time} {value}");
    }
    Ok(())
}

async fn half_way(hub: &Hub, device: &str, rows: usize) -> Result<()> {
    until("half of the readings", LONG, || async {
        let ledger = hub.ledger(device).await?;
        Ok(ledger.filter(|ledger| ledger.stored * 2 >= rows as u64).map(|_| ()))
    })
    .await
}

async fn transport(hub: &Hub, device: &str) -> Result<String> {
    let data = hub.folder().join(device).join("data").display().to_string();
    process::run("edge-agent", &["status", "--json", "--data", &data]).await?.good()
}

#[tokio::test]
async fn over_the_hubs_own_mqtt_endpoint_everything_is_stored_once_through_kills() -> Result<()> {
    let port = free_port()?;
    let mut hub = Hub::start_with(vec![("TIDELINE_MQTT_LISTEN_TLS", format!("127.0.0.1:{port}"))]).await?;
    let (rows, file) = (6_000, recording(hub.folder(), 6_000)?);
    let uplink = format!("mqtt = \"127.0.0.1:{port}\"");
    let mut agent = Agent::start(&hub, "pump-7", &config(&file, 1_000, &uplink)?).await?;
    half_way(&hub, "pump-7", rows).await?;
    let status = transport(&hub, "pump-7").await?;
    ensure!(
        status.contains("\"transport\":\"mqtt\"") || status.contains("\"transport\": \"mqtt\""),
        "{status}"
    );
    hub.kill_and_restart().await?;
    agent.kill_and_restart().await?;
    holds(&hub, "pump-7", rows).await
}

/// Publishes at the broker whatever it can: what it has seen, on its own topic and on those of others,
/// damaged, and made up.
async fn attack(client: AsyncClient, mut events: EventLoop) -> usize {
    let mut seen = HashSet::new();
    let mut attacks = 0;
    let _full = client.try_subscribe("tideline/v1/#", QoS::AtMostOnce);
    loop {
        let Ok(event) = events.poll().await else { return attacks };
        let Event::Incoming(Packet::Publish(publish)) = event else { continue };
        if !seen.insert(publish.payload.clone()) {
            continue;
        }
        let mut flipped = publish.payload.to_vec();
        let at = attacks % flipped.len().max(1);
        flipped.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
        let garbage = vec![0x45_u8; 1 + attacks % 2_000];
        seen.insert(flipped.clone().into());
        seen.insert(garbage.clone().into());
        let other = publish.topic.replace("pump-7", "pump-8");
        let back = publish.topic.replace("/up", "/down");
        for (topic, payload) in [
            (&publish.topic, publish.payload.to_vec()),
            (&publish.topic, flipped),
            (&publish.topic, garbage),
            (&other, publish.payload.to_vec()),
            (&back, publish.payload.to_vec()),
        ] {
            let _full = client.try_publish(topic.clone(), QoS::AtMostOnce, false, payload);
            attacks += 1;
        }
    }
}

fn attacker(at: SocketAddr) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new("attacker", at.ip().to_string(), at.port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    AsyncClient::new(options, 64)
}

#[tokio::test]
async fn through_a_broker_that_is_attacked_and_forgets_everything_is_stored_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start(folder.path()).await?;
    let url = format!("mqtt://{}", broker.address());
    let hub = Hub::start_with(vec![("TIDELINE_MQTT_BROKER_URL", url.clone())]).await?;
    let (client, events) = attacker(broker.address());
    let first = tokio::spawn(attack(client, events));
    let (rows, file) = (6_000, recording(hub.folder(), 6_000)?);
    let _agent = Agent::start(&hub, "pump-7", &config(&file, 1_000, &format!("broker = \"{url}\""))?).await?;
    half_way(&hub, "pump-7", rows).await?;
    broker.kill_and_restart().await?;
    ensure!(first.await? > 100, "the attack has not begun");
    let (client, events) = attacker(broker.address());
    let second = tokio::spawn(attack(client, events));
    holds(&hub, "pump-7", rows).await?;
    second.abort();
    // Nobody was made to speak for another device.
    ensure!(hub.ledger("pump-8").await?.is_none(), "pump-8 was made up");
    Ok(())
}

fn authority(folder: &Path, name: &str) -> Result<(CertificateAuthority, PathBuf)> {
    let made = CertificateAuthority::create(name, SystemClock::default().wall_ns() / 1_000_000_000)?;
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, made.cert_pem())?;
    Ok((made, path))
}

#[tokio::test]
async fn a_broker_with_tls_is_believed_by_its_own_authority_and_by_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (own, own_pem) = authority(folder.path(), "broker")?;
    let (_, other_pem) = authority(folder.path(), "other")?;
    let mut broker = Broker::start_tls(folder.path(), &own).await?;
    let url = format!("mqtts://{}", broker.address());
    let settings = |ca: &Path| {
        vec![("TIDELINE_MQTT_BROKER_URL", url.clone()), ("TIDELINE_MQTT_BROKER_CA", ca.display().to_string())]
    };
    let uplink = |ca: &Path| format!("broker = \"{url}\"\nbroker_ca = {ca:?}");
    let hub = Hub::start_with(settings(&own_pem)).await?;
    let (rows, file) = (4_000, recording(hub.folder(), 4_000)?);
    let _wary = Agent::start(&hub, "pump-8", &config(&file, 1_000, &uplink(&other_pem))?).await?;
    let _agent = Agent::start(&hub, "pump-7", &config(&file, 1_000, &uplink(&own_pem))?).await?;
    half_way(&hub, "pump-7", rows).await?;
    broker.kill_and_restart().await?;
    holds(&hub, "pump-7", rows).await?;
    // The one that believes another authority says which, and why it sends nothing.
    let said = until("an error", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&transport(&hub, "pump-8").await?)?;
        let error = status.get("last_error").and_then(serde_json::Value::as_str).unwrap_or_default();
        Ok(error.contains("not accepted").then(|| error.to_owned()))
    })
    .await?;
    for part in [&url, &format!("uplink.broker_ca = {}", other_pem.display()), "UnknownIssuer"] {
        ensure!(said.contains(part), "{part} is not in {said:?}");
    }
    ensure!(hub.ledger("pump-8").await?.is_none_or(|ledger| ledger.stored == 0), "it sent readings");
    // So does a hub.
    let wary = Hub::start_with(settings(&other_pem)).await?;
    until("the hub's word", LONG, || async {
        Ok(wary.log()?.contains("no authority in mqtt.broker_ca vouches for the MQTT broker").then_some(()))
    })
    .await
}

#[tokio::test]
async fn clients_of_others_use_their_own_prefix_only_with_mqtt_3_and_5() -> Result<()> {
    let port = free_port()?.to_string();
    let hub = Hub::start_with(vec![("TIDELINE_MQTT_LISTEN_PLAIN", format!("127.0.0.1:{port}"))]).await?;
    let token = hub.command(&["device-token", "create", "--device", "probe-1"]).await?.good()?;
    let token = token.trim();
    for version in ["311", "5"] {
        let base = ["-V", version, "-h", "127.0.0.1", "-p", &port, "-u", "probe-1", "-P", token, "-q", "1"];
        let subscribe = |filter| [&base[..], &["-t", filter, "-E", "-d"]].concat();
        for (filter, granted) in [
            ("tideline/v1/probe-1/down", true),
            ("tideline/v1/probe-1/#", true),
            ("tideline/v1/probe-2/down", false),
            ("tideline/v1/+/down", false),
            ("#", false),
        ] {
            let said = client("mosquitto_sub", &subscribe(filter)).await?;
            let denied = format!("{}{}", said.out, said.err).contains("denied");
            ensure!(denied != granted, "{version} {filter}: {said:?}");
        }
        let publish = |topic| [&base[..], &["-t", topic, "-m", "hello", "-d"]].concat();
        let own = client("mosquitto_pub", &publish("tideline/v1/probe-1/up")).await?;
        ensure!(own.out.contains("PUBACK") && own.code == Some(0), "{version}: {own:?}");
        for topic in ["tideline/v1/probe-2/up", "tideline/v1/probe-1/elsewhere", "anything"] {
            let said = client("mosquitto_pub", &publish(topic)).await?;
            let all = format!("{}{}", said.out, said.err);
            if version == "5" {
                ensure!(
                    all.contains("(Mid: 1, RC:135)") || all.contains("(Mid: 1, RC:144)"),
                    "{topic}: {all}"
                );
            } else {
                ensure!(!all.contains("PUBACK"), "{topic}: {all}");
            }
        }
        let stranger = ["-V", version, "-h", "127.0.0.1", "-p", &port, "-u", "probe-1", "-P", "wrong"];
        let said = client("mosquitto_pub", &[&stranger[..], &["-t", "a", "-m", "b"]].concat()).await?;
        ensure!(said.code != Some(0), "{version}: {said:?}");
    }
    // A token that is revoked lets nobody in any more.
    let list = hub.command(&["device-token", "list"]).await?.good()?;
    let id = list.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    hub.command(&["device-token", "revoke", id]).await?.good()?;
    let gone = ["-h", "127.0.0.1", "-p", &port, "-u", "probe-1", "-P", token, "-t", "a", "-m", "b"];
    ensure!(client("mosquitto_pub", &gone).await?.code != Some(0), "a revoked token was taken");
    Ok(())
}
