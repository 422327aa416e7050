//! A node of pysparkplug, a library that is not ours, at mosquitto.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_e2e::mosquitto::Broker;
use tideline_field::{Bench, Row, peer, python};
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
