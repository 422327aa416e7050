//! A server of aiocoap, a library that is not ours.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tideline_field::{Bench, peer, python};
use tideline_protocol::value::{Quality, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

struct Server {
    child: Child,
    stdin: ChildStdin,
}

/// Listens on a port; none where the library is not installed.
async fn serve(port: u16) -> Result<Option<Server>> {
    let Some(python) = python("aiocoap")? else { return Ok(None) };
    let mut command = Command::new(python);
    command.arg(peer("coap.py")).arg("127.0.0.1").arg(port.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().context("no stdin")?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    anyhow::ensure!(lines.next_line().await?.as_deref() == Some("ready"), "the server did not start");
    Ok(Some(Server { child, stdin }))
}

async fn next(bench: &mut Bench, name: &str) -> Result<(Value, Quality)> {
    let row = bench.next_of(name).await?;
    Ok((row.value, row.quality))
}

fn device(id: &str, port: u16, profile: &str) -> String {
    format!(
        "[[device]]\nid = \"{id}\"\nsource = \"site\"\nprofile = {profile:?}\naddress = \"coap://127.0.0.1:{port}\"\n"
    )
}

#[tokio::test]
async fn changes_come_by_themselves_and_a_silent_device_is_null() -> Result<()> {
    let port = tideline_e2e::free_port()?;
    let Some(mut server) = serve(port).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let source = "[[source]]\nkind = \"coap\"\nname = \"site\"\n";
    bench.run(&format!("{source}{}", device("room", port, "coap-sensor"))).await?;
    assert_eq!(next(&mut bench, "room/temperature").await?, (Value::Float(20.5), Quality::Good));
    server.stdin.write_all(b"21.25\n").await?;
    assert_eq!(next(&mut bench, "room/temperature").await?, (Value::Float(21.25), Quality::Good));
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn long_bodies_and_cbor_are_read_by_a_profile_and_a_device_that_dies_is_null_once() -> Result<()> {
    let port = tideline_e2e::free_port()?;
    let Some(mut server) = serve(port).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let profile = bench.folder().join("tank.toml");
    let text = "name = \"tank\"\n[coap]\nobserve = false\n[collection.default]\ninterval_ms = 500\n[points]\n\
        level = { unit = \"m\", min = 0, max = 9, address = \"long#/level\" }\n\
        pressure = { unit = \"hPa\", min = 300, max = 1100, address = \"cbor#/pressure\" }\n\
        door = { type = \"bool\", address = \"cbor#/door\" }\n";
    std::fs::write(&profile, text)?;
    let source = "[[source]]\nkind = \"coap\"\nname = \"site\"\n";
    bench.run(&format!("{source}{}", device("tank", port, &profile.display().to_string()))).await?;
    assert_eq!(next(&mut bench, "tank/level").await?, (Value::Float(7.25), Quality::Good));
    assert_eq!(next(&mut bench, "tank/pressure").await?, (Value::Float(1013.25), Quality::Good));
    assert_eq!(next(&mut bench, "tank/door").await?, (Value::Bool(true), Quality::Good));
    server.child.kill().await?;
    while next(&mut bench, "tank/level").await? != (Value::Null, Quality::Bad) {}
    Ok(())
}
