//! A server of asyncua, a library that is not ours.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edge_agent::source::writes::TIMEOUT;
use tideline_field::{Bench, Row, WAIT_MAX, peer, python};
use tideline_protocol::value::{Quality, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// 2026-01-31 12:00, as the peer has it for its first values.
const START_NS: i64 = 1_769_860_800_000_000_000;

struct Server {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Started; none where the library is not installed. `client` is the one certificate that it trusts.
    async fn start(port: u16, folder: &Path, client: Option<&str>) -> Result<Option<Self>> {
        let Some(mut server) = Self::load(port, folder, client).await? else { return Ok(None) };
        server.listen().await?;
        Ok(Some(server))
    }

    /// As [`Self::start`], but that it does not listen yet: the library takes seconds to load.
    async fn load(port: u16, folder: &Path, client: Option<&str>) -> Result<Option<Self>> {
        let Some(python) = python("asyncua")? else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(peer("opcua.py")).arg(port.to_string());
        match client {
            None => command.arg("open").arg(folder),
            Some(client) => command.arg("sealed").arg(folder).arg(client),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        anyhow::ensure!(lines.next_line().await?.as_deref() == Some("loaded"), "the server did not start");
        Ok(Some(Self { child, stdin, lines }))
    }

    async fn listen(&mut self) -> Result<()> {
        anyhow::ensure!(self.ask("listen").await? == "ready", "the server does not listen");
        Ok(())
    }

    async fn tell(&mut self, line: &str) -> Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    async fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line).await?;
        self.lines.next_line().await?.context("the server has ended")
    }
}

fn source(port: u16, keys: &str) -> String {
    let url = format!("opc.tcp://localhost:{port}/pump");
    format!("[[source]]\nkind = \"opc-ua\"\nname = \"plc\"\nurl = {url:?}\n{keys}")
}

fn device(profile: &str, address: &str) -> String {
    format!("[[device]]\nid = \"pump\"\nsource = \"plc\"\nprofile = {profile:?}\naddress = {address:?}\n")
}

/// A profile that names nodes in all ways there are.
fn profile(bench: &Bench) -> Result<String> {
    let path = bench.folder().join("pump.toml");
    let text = "name = \"pump\"\n[opcua]\nsampling_ms = 100\n[points]\n\
        flow = { unit = \"l/s\", min = 0, max = 90, address = \"nsu=urn:tideline:test;s=Flow\", scale = 0.1 }\n\
        level = { unit = \"m\", min = 0, max = 9, address = \"/2:Pump/2:Level\" }\n\
        running = { type = \"bool\", address = \"ns=2;s=Running\" }\n\
        raw = { type = \"int\", unit = \"1\", min = 0, max = 1000, address = \"ns=2;s=Raw\" }\n\
        setpoint = { unit = \"Cel\", min = 0, max = 90, address = \"ns=2;s=Setpoint\", access = \"read-write\", scale = 0.5 }\n\
        gone = { unit = \"m\", min = 0, max = 9, address = \"/2:Pump/2:Gone\" }\n\
        curve = { unit = \"m\", min = 0, max = 9, address = \"ns=2;s=Curve\" }\n";
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

async fn next(bench: &mut Bench, point: &str) -> Result<(Value, Quality)> {
    let Row { value, quality, .. } = bench.next_of(&format!("pump/{point}")).await?;
    Ok((value, quality))
}

async fn until(bench: &mut Bench, point: &str, wanted: (Value, Quality)) -> Result<Row> {
    loop {
        let row = bench
            .next_of(&format!("pump/{point}"))
            .await
            .with_context(|| format!("waiting for {wanted:?}"))?;
        if (&row.value, row.quality) == (&wanted.0, wanted.1) {
            return Ok(row);
        }
    }
}

fn good(value: Value) -> (Value, Quality) {
    (value, Quality::Good)
}

const NULL: (Value, Quality) = (Value::Null, Quality::Bad);

#[tokio::test]
async fn variables_are_found_by_browsing_with_their_types_and_times() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device("opcua-server", ""))).await?;
    let wanted = [
        ("Flow", Value::Int(234)),
        ("Level", Value::Float(0.75)),
        ("Ratio", Value::Float(0.1)),
        ("Running", Value::Bool(true)),
        ("Small", Value::Int(-7)),
        ("Total", Value::Int(1 << 62)),
        ("Count", Value::Int(-(1 << 62))),
        ("Name", Value::Text("pump é".into())),
        ("Label", Value::Text("Pumpe".into())),
        ("Since", Value::Text("2026-01-31T12:00:00Z".into())),
        ("Setpoint", Value::Int(20)),
        ("Raw", Value::Int(1)),
    ];
    let mut found = std::collections::BTreeMap::new();
    while found.len() < wanted.len() + 1 {
        let row = bench.next().await?;
        assert_eq!(row.time_ns, START_NS, "{row:?}");
        found.insert(row.point.clone(), (row.value, row.quality));
    }
    for (name, value) in wanted {
        assert_eq!(found.remove(&format!("Pump/{name}")), Some(good(value)), "{name}");
    }
    let rest: Vec<_> = found.into_iter().collect();
    assert_eq!(
        rest,
        [("Pump/Huge".to_owned(), NULL)],
        "what no integer holds is null, and arrays and bytes are left out"
    );
    let status = bench.until("plc", |status| status.rejected > 0).await?;
    assert!(status.last_error.unwrap_or_default().contains("18446744073709551615 is more than"));
    server.tell("set Level 0.5").await?;
    let row = until(&mut bench, "Pump/Level", good(Value::Float(0.5))).await?;
    assert!(row.time_ns > START_NS);
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn points_are_named_by_ids_uris_and_paths_and_statuses_are_qualities() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    let profile = profile(&bench)?;
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device(&profile, ""))).await?;
    let mut found = std::collections::BTreeMap::new();
    while found.len() < 7 {
        let row = bench.next().await?;
        found.insert(row.point.clone(), (row.value, row.quality));
    }
    let wanted = [
        ("curve", NULL),
        ("flow", good(Value::Float(23.4))),
        ("gone", NULL),
        ("level", good(Value::Float(0.75))),
        ("raw", good(Value::Int(1))),
        ("running", good(Value::Bool(true))),
        ("setpoint", good(Value::Float(10.0))),
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), wanted.map(|(point, row)| (point.to_owned(), row)));
    // Bad_SensorFailure, Uncertain_LastUsableValue, and a value that the profile rules out.
    server.tell("status Level 80880000 0.5").await?;
    assert_eq!(next(&mut bench, "level").await?, NULL);
    server.tell("status Level 40900000 0.75").await?;
    assert_eq!(next(&mut bench, "level").await?, (Value::Float(0.75), Quality::Uncertain));
    server.tell("set Level 0.25").await?;
    assert_eq!(next(&mut bench, "level").await?, good(Value::Float(0.25)));
    server.tell("set Level 99").await?;
    assert_eq!(next(&mut bench, "level").await?, NULL);
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_device_may_begin_below_a_node_of_the_server() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    bench
        .run(&format!("{}{}", source(port, "security = \"none\"\n"), device("opcua-server", "/2:Pump")))
        .await?;
    assert_eq!(next(&mut bench, "Level").await?, good(Value::Float(0.75)));
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_point_may_tell_the_firmware_of_its_device() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    let path = bench.folder().join("versioned.toml");
    let text = "name = \"versioned\"\n[identity]\nvendor = \"Example\"\nfirmware_point = \"version\"\n\
        [opcua]\nsampling_ms = 100\n[points]\nversion = { type = \"text\", address = \"/2:Pump/2:Name\" }\n";
    std::fs::write(&path, text)?;
    let profile = path.display().to_string();
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device(&profile, ""))).await?;
    for version in ["pump é", "2.0"] {
        assert_eq!(next(&mut bench, "version").await?, good(Value::Text(version.into())));
        let card = tideline_e2e::until("what is told", WAIT_MAX, || {
            let card = bench.cards.news().pop().filter(|card| card.firmware == version);
            async { Ok(card) }
        })
        .await?;
        assert_eq!((card.vendor.as_str(), card.profile.as_str()), ("Example", "versioned"));
        server.tell("set Name 2.0").await?;
    }
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn of_a_hundred_quick_changes_each_comes_in_its_order() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    let profile = profile(&bench)?;
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device(&profile, ""))).await?;
    assert_eq!(next(&mut bench, "raw").await?, good(Value::Int(1)));
    server.tell("burst Raw 100").await?;
    for number in 2..=100 {
        assert_eq!(next(&mut bench, "raw").await?, good(Value::Int(number)));
    }
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_goes_is_null_once_and_comes_anew_after_that() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    let profile = profile(&bench)?;
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device(&profile, ""))).await?;
    assert_eq!(next(&mut bench, "level").await?, good(Value::Float(0.75)));
    let Some(mut second) = Server::load(port, bench.folder(), None).await? else { return Ok(()) };
    server.child.kill().await?;
    let null = bench.next_of("pump/level").await?;
    assert_eq!((null.value, null.quality), NULL);
    second.listen().await?;
    // The server has set its value long before it was lost; here it is of when it is told again.
    let row = bench.next_of("pump/level").await?;
    assert_eq!((row.value, row.quality), good(Value::Float(0.75)));
    assert!(row.time_ns > null.time_ns, "{} is not after {}", row.time_ns, null.time_ns);
    second.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn writes_are_of_the_type_of_the_variable_and_what_cannot_be_is_told() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(port, bench.folder(), None).await? else { return Ok(()) };
    let profile = profile(&bench)?;
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device(&profile, ""))).await?;
    assert_eq!(next(&mut bench, "setpoint").await?, good(Value::Float(10.0)));
    let (device, point) = ("pump".parse()?, "setpoint".parse()?);
    bench.writes.write(&device, &point, Value::Float(21.5), TIMEOUT).await?;
    assert_eq!(server.ask("get Setpoint x").await?, "43");
    assert_eq!(next(&mut bench, "setpoint").await?, good(Value::Float(21.5)));
    let refused = bench.writes.write(&device, &point, Value::Float(91.0), TIMEOUT).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("allows 0 to 90")));
    server.child.kill().await?;
    Ok(())
}

/// Moves the certificates that were met to those that are trusted, once there is one.
async fn trust(bench: &Bench, pki: &Path) -> Result<()> {
    bench
        .until("plc", |status| {
            status.last_error.as_deref().is_some_and(|error| error.contains("is not trusted; its SHA-256 is"))
        })
        .await?;
    for file in std::fs::read_dir(pki.join("rejected"))? {
        let path = file?.path();
        std::fs::rename(&path, pki.join("trusted").join(path.file_name().context("no name")?))?;
    }
    Ok(())
}

#[tokio::test]
async fn messages_are_sealed_between_ends_that_trust_each_other_and_no_others() -> Result<()> {
    let (mut bench, port) = (Bench::new()?, tideline_e2e::free_port()?);
    let pki: PathBuf = bench.folder().join("pki");
    let own = pki.join("own/certificate.der").display().to_string();
    let Some(mut server) = Server::start(port, bench.folder(), Some(&own)).await? else { return Ok(()) };
    let profile = profile(&bench)?;
    let keys = |more: &str| format!("certificates = \"{}\"\nuser = \"reader\"\n{more}", pki.display());
    let run = |more: &str| format!("{}{}", source(port, &keys(more)), device(&profile, ""));
    bench.run(&run("password = \"s3cret\"\n")).await?;
    trust(&bench, &pki).await?;
    assert_eq!(next(&mut bench, "level").await?, good(Value::Float(0.75)));
    for policy in ["basic256sha256", "aes128-sha256-rsaoaep", "aes256-sha256-rsapss"] {
        bench.run(&run(&format!("password = \"s3cret\"\npolicy = {policy:?}\n"))).await?;
        until(&mut bench, "level", good(Value::Float(0.75))).await.context(policy)?;
    }
    bench.run(&run("password = \"s3cret\"\nsecurity = \"sign\"\n")).await?;
    until(&mut bench, "level", good(Value::Float(0.75))).await.context("signed")?;

    bench.run(&run("password = \"wrong\"\n")).await?;
    let is_refused = |error: &str| error.contains("the server refuses the login");
    bench.until("plc", |status| status.last_error.as_deref().is_some_and(is_refused)).await?;
    bench.run(&run("password = \"s3cret\"\nsecurity = \"none\"\nclear_password = \"allow\"\n")).await?;
    let offers = |error: &str| error.contains("it offers encrypt (Basic256Sha256), sign (Basic256Sha256)");
    bench.until("plc", |status| status.last_error.as_deref().is_some_and(offers)).await?;

    // A server that does not know this end: it is said which file it has to be given.
    server.child.kill().await?;
    let (other, elsewhere) =
        (bench.folder().join("server.der").display().to_string(), tideline_e2e::free_port()?);
    let Some(mut server) = Server::start(elsewhere, bench.folder(), Some(&other)).await? else {
        return Ok(());
    };
    bench.run(&run("password = \"s3cret\"\n").replace(&port.to_string(), &elsewhere.to_string())).await?;
    let names = |error: &str| error.contains("it is to trust") && error.contains(&own);
    bench.until("plc", |status| status.last_error.as_deref().is_some_and(names)).await?;
    server.child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_peer_that_claims_a_message_without_end_is_left() -> Result<()> {
    let mut bench = Bench::new()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let peer = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let header = [b"ACKF".as_slice(), &u32::MAX.to_le_bytes(), &[0; 64]].concat();
            if stream.write_all(&header).await.is_ok() {
                held.push(stream);
            }
        }
    });
    bench.run(&format!("{}{}", source(port, "security = \"none\"\n"), device("opcua-server", ""))).await?;
    let is_told =
        |error: &str| error.contains("the server sends a message of 4294967295 bytes; allowed are 8 to");
    bench.until("plc", |status| status.last_error.as_deref().is_some_and(is_told)).await?;
    peer.abort();
    let _ = tokio::time::timeout(Duration::from_secs(1), peer).await;
    Ok(())
}
