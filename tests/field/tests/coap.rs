//! A server of aiocoap, a library that is not ours.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use edge_agent::source::WriteError;
use edge_agent::status::SourceStatus;
use tideline_field::{Bench, WAIT_MAX, device_of, peer, python};
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
    let is_silent = |status: &SourceStatus| device_of(status, "tank").is_some_and(|it| it.state == "silent");
    let status = bench.until("site", is_silent).await?;
    let tank = device_of(&status, "tank").context("it is shown")?;
    assert!(tank.readings >= 3 && tank.timeouts >= 1 && tank.last_reading_ms.is_some(), "{tank:?}");
    assert!(tank.last_error.as_deref().is_some_and(|error| error.contains("no answer")), "{tank:?}");
    Ok(())
}

/// As many as the server has.
const WILD: usize = 12;

#[tokio::test]
async fn what_no_sensor_means_is_never_a_number() -> Result<()> {
    let port = tideline_e2e::free_port()?;
    let Some(mut server) = serve(port).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let profile = bench.folder().join("wild.toml");
    let mut text =
        "name = \"wild\"\n[coap]\nobserve = false\n[collection.default]\ninterval_ms = 200\n[points]\n\
        temperature = { unit = \"Cel\", min = -40, max = 60, address = \"3303/0/5700\" }\n"
            .to_owned();
    for number in 0..WILD {
        text +=
            &format!("w{number} = {{ unit = \"Cel\", min = -40, max = 60, address = \"wild/{number}\" }}\n");
    }
    std::fs::write(&profile, text)?;
    let source = "[[source]]\nkind = \"coap\"\nname = \"site\"\n";
    bench.run(&format!("{source}{}", device("room", port, &profile.display().to_string()))).await?;
    // The others are asked in between.
    let mut good = 0;
    while good < 3 {
        let row = bench.next().await?;
        if row.point == "temperature" {
            assert_eq!((row.value, row.quality), (Value::Float(20.5), Quality::Good));
            good += 1;
        } else {
            assert_eq!((&row.value, row.quality), (&Value::Null, Quality::Bad), "{}", row.name());
        }
    }
    let status = bench.until("site", |status| status.rejected > 0).await?;
    let room = device_of(&status, "room").context("it is shown")?;
    assert_ne!(room.state, "silent", "{room:?}");
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_put_is_done_when_the_server_says_so_and_shows_at_once() -> Result<()> {
    let port = tideline_e2e::free_port()?;
    let Some(mut server) = serve(port).await? else { return Ok(()) };
    let mut bench = Bench::new()?;
    let profile = bench.folder().join("room.toml");
    let text = "name = \"room\"\n[coap]\nobserve = false\n[collection.default]\ninterval_ms = 600_000\n[points]\n\
        target = { unit = \"Cel\", min = 5, max = 30, address = \"3308/0/5900\", access = \"read-write\" }\n\
        mode = { type = \"text\", values = [\"auto\", \"off\"], address = \"config#/mode\", access = \"read-write\" }\n\
        humidity = { unit = \"%\", min = 0, max = 100, address = \"3304/0/5700\", access = \"read-write\" }\n";
    std::fs::write(&profile, text)?;
    let source = "[[source]]\nkind = \"coap\"\nname = \"site\"\n";
    bench.run(&format!("{source}{}", device("room", port, &profile.display().to_string()))).await?;
    assert_eq!(next(&mut bench, "room/target").await?, (Value::Float(20.0), Quality::Good));
    let writes = bench.writes.clone();
    let write = async |point: &str, value: Value| {
        let (device, point) = ("room".parse().expect("an id"), point.parse().expect("an id"));
        writes.write(&device, &point, value, WAIT_MAX).await
    };
    assert_eq!(write("target", Value::Float(22.5)).await, Ok(()));
    assert_eq!(next(&mut bench, "room/target").await?, (Value::Float(22.5), Quality::Good));
    assert_eq!(write("mode", Value::Text("off".into())).await, Ok(()));
    while next(&mut bench, "room/mode").await? != (Value::Text("off".into()), Quality::Good) {}
    let no = |what: &str| Err(WriteError::NotDone(format!("the server says {what}")));
    assert_eq!(write("target", Value::Float(27.0)).await, no("Forbidden"));
    assert_eq!(write("humidity", Value::Float(50.0)).await, no("MethodNotAllowed"));
    // What was not done is read again too: afterwards nothing is on its way.
    while next(&mut bench, "room/humidity").await? != (Value::Float(55.0), Quality::Good) {}
    let outcome = write("target", Value::Float(31.0)).await;
    assert!(matches!(outcome, Err(WriteError::Rejected(_))), "{outcome:?}");
    server.child.kill().await?;
    let outcome = write("target", Value::Float(21.0)).await;
    assert!(matches!(outcome, Err(WriteError::Unknown(_))), "{outcome:?}");
    Ok(())
}
