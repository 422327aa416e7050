//! A node of pysparkplug, a library that is not ours, at mosquitto.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edge_agent::source::WriteError;
use edge_agent::status::SourceStatus;
use tideline_e2e::mosquitto::Broker;
use tideline_field::{Bench, Row, WAIT_MAX, device_of, peer, python};
use tideline_protocol::value::{Quality, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// How long a value is waited for before it is told again, to a source that may not be there yet.
const AGAIN: Duration = Duration::from_secs(2);

struct Node {
    child: Child,
    stdin: ChildStdin,
}

impl Node {
    /// Started and connected; none where its library is not installed.
    async fn start(broker: &Broker) -> Result<Option<Self>> {
        let Some(python) = python("pysparkplug")? else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(peer("sparkplug.py")).arg("127.0.0.1").arg(broker.address().port().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        anyhow::ensure!(lines.next_line().await?.as_deref() == Some("ready"), "the node did not start");
        Ok(Some(Self { child, stdin }))
    }

    async fn tell(&mut self, line: &str) -> Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }
}

async fn next(bench: &mut Bench, name: &str) -> Result<(Value, Quality)> {
    let Row { value, quality, .. } = bench.next_of(name).await?;
    Ok((value, quality))
}

#[tokio::test]
async fn a_node_is_asked_for_its_birth_and_then_read_until_it_dies() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let Some(mut node) = Node::start(&broker).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let url = broker.address();
    bench
        .run(&format!("[[source]]\nkind = \"sparkplug\"\nname = \"plant\"\nurl = \"mqtt://{url}\"\n"))
        .await?;
    // Its birth is over: the source asks for another once it hears of the node.
    let first = loop {
        node.tell("0.75").await?;
        if let Ok(row) = tokio::time::timeout(AGAIN, bench.next()).await {
            break row?;
        }
    };
    assert!(["plant.edge/level", "plant.edge/count"].contains(&first.name().as_str()), "{first:?}");
    if first.name() == "plant.edge/level" {
        assert_eq!(next(&mut bench, "plant.edge/count").await?, (Value::Int(-7), Quality::Good));
    }
    assert_eq!(next(&mut bench, "plant.edge/open").await?, (Value::Bool(true), Quality::Good));
    assert_eq!(next(&mut bench, "plant.edge/mode").await?, (Value::Text("auto".into()), Quality::Good));
    assert_eq!(next(&mut bench, "plant.edge.pump/speed").await?, (Value::Int(1500), Quality::Good));

    node.tell("0.25").await?;
    while next(&mut bench, "plant.edge/level").await? != (Value::Float(0.25), Quality::Good) {}
    node.tell("deregister").await?;
    assert_eq!(next(&mut bench, "plant.edge.pump/speed").await?, (Value::Null, Quality::Bad));
    node.child.kill().await?;
    assert_eq!(next(&mut bench, "plant.edge/level").await?, (Value::Null, Quality::Bad));
    Ok(())
}

const PROFILES: [(&str, &str); 2] = [
    (
        "edge",
        "level = { unit = \"m\", min = 0, max = 9, address = \"level\", access = \"read-write\" }\n\
         mode = { type = \"text\", values = [\"auto\", \"hand\"], address = \"mode\", access = \"read-write\" }\n",
    ),
    (
        "edge/pump",
        "target = { unit = \"Hz\", min = -50, max = 50, address = \"target\", scale = 0.1, access = \"read-write\" }\n\
         speed = { type = \"int\", unit = \"1\", min = 0, max = 3000, address = \"speed\" }\n",
    ),
];

#[tokio::test]
async fn commands_reach_node_and_device_and_are_done_when_these_tell_the_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(folder.path()).await?;
    let Some(mut node) = Node::start(&broker).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let url = broker.address();
    let mut config = format!("[[source]]\nkind = \"sparkplug\"\nname = \"plant\"\nurl = \"mqtt://{url}\"\n");
    for (address, points) in PROFILES {
        let id = address.replace('/', "-");
        let path = bench.folder().join(format!("{id}.toml"));
        std::fs::write(&path, format!("name = \"{id}\"\n[sparkplug]\n[points]\n{points}"))?;
        let path = path.display();
        config.push_str(&format!(
            "[[device]]\nid = \"{id}\"\nsource = \"plant\"\nprofile = \"{path}\"\naddress = \"plant/{address}\"\n"
        ));
    }
    bench.run(&config).await?;
    let writes = bench.writes.clone();
    let write = async |device: &str, point: &str, value: Value, within: Duration| {
        let (device, point) = (device.parse().expect("an id"), point.parse().expect("an id"));
        writes.write(&device, &point, value, within).await
    };
    let outcome = write("edge-pump", "target", Value::Float(2.5), WAIT_MAX).await;
    assert_eq!(outcome, Err(WriteError::NoDevice("edge-pump".parse()?)), "it has not been heard of");
    // Its birth is over: the source asks for another once it hears of the node.
    while next_in(&mut bench, AGAIN).await?.is_none_or(|row| row.name() != "edge-pump/target") {
        node.tell("0.75").await?;
    }
    assert_eq!(write("edge", "level", Value::Float(3.25), WAIT_MAX).await, Ok(()));
    while next(&mut bench, "edge/level").await? != (Value::Float(3.25), Quality::Good) {}
    assert_eq!(write("edge", "mode", Value::Text("hand".into()), WAIT_MAX).await, Ok(()));
    assert_eq!(write("edge-pump", "target", Value::Float(-2.5), WAIT_MAX).await, Ok(()));
    while next(&mut bench, "edge-pump/target").await? != (Value::Float(-2.5), Quality::Good) {}
    // What the node leaves alone, what the profile rules out, and what the device is not there for.
    let outcome = write("edge-pump", "target", Value::Float(1.3), AGAIN).await;
    assert!(matches!(outcome, Err(WriteError::Unknown(_))), "{outcome:?}");
    let outcome = write("edge-pump", "speed", Value::Int(1), WAIT_MAX).await;
    assert!(matches!(outcome, Err(WriteError::Rejected(_))), "{outcome:?}");
    node.tell("deregister").await?;
    while next(&mut bench, "edge-pump/speed").await? != (Value::Null, Quality::Bad) {}
    let outcome = write("edge-pump", "target", Value::Float(2.5), WAIT_MAX).await;
    assert!(matches!(&outcome, Err(WriteError::NotDone(why)) if why.contains("birth")), "{outcome:?}");
    let is_silent =
        |status: &SourceStatus| device_of(status, "edge-pump").is_some_and(|it| it.state == "silent");
    let status = bench.until("plant", is_silent).await?;
    let node = device_of(&status, "edge").context("it is shown")?;
    assert!(node.state == "answers" && node.readings >= 4 && node.last_error.is_none(), "{node:?}");
    Ok(())
}

/// The next reading, where one comes in this time.
async fn next_in(bench: &mut Bench, within: Duration) -> Result<Option<Row>> {
    tokio::time::timeout(within, bench.next()).await.ok().transpose()
}
