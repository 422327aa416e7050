//! The twins of an agent, over a real link to a hub's replicas.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use edge_agent::agreement::Auditor;
use edge_agent::cards::Cards;
use edge_agent::clock::AgentClock;
use edge_agent::spooler::SpoolHandle;
use edge_agent::status::Board;
use edge_agent::sync::Wake;
use edge_agent::twin::{Kin, Parts, TwinError, TwinHandle, file};
use edge_agent::uplink::Uplink;
use edge_agent::uplink::dial::Dialler;
use edge_agent::uplink::routes::Routes;
use serde_json::{Value as Json, json};
use tideline_link::quic::LinkOptions;
use tideline_protocol::model::DeviceId;
use tideline_protocol::session::BackfillBudget;
use tideline_protocol::wire::{DeviceCard, DocumentId};
use tideline_twin::{Action, Change, Edit, Key, Section, Twin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::hub::Hub;
use crate::process::{self, Agent, command, output};
use crate::{LONG, spool, until_shown};

pub fn start(folder: &Path, spool: &SpoolHandle, cards: &Cards, board: &Board) -> TwinHandle {
    let state = spool.state();
    let parts = Parts {
        path: file::path(folder),
        epoch: Box::new(move || state.borrow().epoch),
        kin: Kin { own: DeviceId::parse("pump-7").unwrap(), cards: cards.seen(), known: Arc::default() },
        board: board.clone(),
        clock: AgentClock::default(),
    };
    TwinHandle::start(parts).unwrap().0
}

fn document(device: &str) -> DocumentId {
    device.parse().unwrap()
}

fn change(key: &str, value: Json, author: &str) -> Change {
    let edit = Edit { section: Section::Desired, key: Key::parse(key).unwrap(), action: Action::Put(value) };
    Change { edits: vec![edit], author: author.to_owned(), time_ms: 1 }
}

pub async fn put(twins: &TwinHandle, device: &str, key: &str, value: Json) {
    let change = change(key, value, "ben");
    assert!(twins.edit(document(device), move |_| Ok(change)).await.unwrap().changed);
}

fn put_at_hub(hub: &Hub, device: &str, key: &str, value: Json) {
    hub.twin(device, |twin| {
        let record = twin.edit(&change(key, value, "anna")).unwrap().unwrap();
        twin.handle_durable(record.ticket);
    });
}

/// Waits until a twin of the agent is so.
async fn until(twins: &TwinHandle, device: &str, is: impl Fn(&Twin) -> bool + Copy + Send + 'static) {
    let mut changes = twins.changes();
    let so = async {
        while !twins.look(document(device), is).await.unwrap() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, so).await.expect("the twin is never so at the agent");
}

struct Line {
    uplink: tokio::task::JoinHandle<()>,
    _routes: watch::Sender<Routes>,
    _drain: watch::Sender<bool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.uplink.abort();
    }
}

fn connect(hub: &Hub, spool: &SpoolHandle, twins: &TwinHandle, cards: &Cards, board: &Board) -> Line {
    let (routes, routes_now) = watch::channel(Routes::quic(&[&hub.addr]));
    let (drain, draining) = watch::channel(false);
    let clock = AgentClock::default();
    let uplink = Uplink {
        commands: Default::default(),
        in_force: Default::default(),
        agent: hub.identity.file.agent.clone(),
        dialler: Arc::new(Dialler::new(hub.identity.clone(), clock, LinkOptions::default())),
        routes: routes_now,
        spool: spool.clone(),
        board: board.clone(),
        drain: draining,
        wake: Wake::default(),
        boot: [1; 16],
        clock,
        backfill: BackfillBudget::default(),
        cards: cards.clone(),
        twins: Some(twins.clone()),
        questions: Auditor::new(spool.clone(), board.clone()).1,
    };
    Line { uplink: tokio::spawn(uplink.run()), _routes: routes, _drain: drain }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_both_ends_merge_also_those_made_apart() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let twins = start(folder.path(), &spool, &cards, &board);
    put(&twins, "pump-7", "mode", json!("eco")).await;
    put_at_hub(&hub, "pump-7", "limit", json!(5));
    let line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "limit": 5})).await;
    until(&twins, "pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "limit": 5})).await;
    // At once, in the open session.
    put_at_hub(&hub, "pump-7", "limit", json!(6));
    until(&twins, "pump-7", |twin| twin.json(Section::Desired)["limit"] == json!(6)).await;
    put(&twins, "pump-7", "mode", json!("boost")).await;
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired)["mode"] == json!("boost")).await;
    until_shown(&board, |status| status.twins.unconfirmed == 0 && status.twins.agreed_ms.is_some()).await;
    // Apart, both write one key: both see both values, with who.
    drop(line);
    put(&twins, "pump-7", "limit", json!(7)).await;
    put_at_hub(&hub, "pump-7", "limit", json!(8));
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    let shown = |twin: &Twin| {
        let conflicts = twin.conflicts();
        let values = conflicts.iter().flat_map(|conflict| conflict.values.iter());
        let mut all: Vec<_> = values
            .map(|leaf| (leaf.origin.as_ref().unwrap().author.clone(), leaf.value.to_string()))
            .collect();
        all.sort();
        all
    };
    let both = || vec![("anna".to_owned(), "8".to_owned()), ("ben".to_owned(), "7".to_owned())];
    hub.until_twin("pump-7", |twin| shown(twin) == both()).await;
    until(&twins, "pump-7", move |twin| shown(twin) == both()).await;
    assert_eq!(board.read().twins.refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_twin_of_a_device_comes_when_the_device_is_found() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let twins = start(folder.path(), &spool, &cards, &board);
    put_at_hub(&hub, "meter-1", "limit", json!(5));
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    until_shown(&board, |status| status.twins.refused == 1).await;
    let error = twins.look(document("meter-1"), |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "this agent neither is device meter-1 nor reads it");
    assert!(cards.tell(DeviceCard::new(DeviceId::parse("meter-1").unwrap())));
    until(&twins, "meter-1", |twin| twin.json(Section::Desired) == json!({"limit": 5})).await;
    let site = twins.look(document("site/hall"), |_| ()).await.unwrap_err();
    assert!(matches!(site, TwinError::NotShared(_)), "{site}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_its_owners_alone_and_a_damaged_one_is_put_aside() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let path = file::path(folder.path());
    let twins = start(folder.path(), &spool, &cards, &board);
    put(&twins, "pump-7", "mode", json!("eco")).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco"})).await;
    drop(line);
    twins.close().await;
    std::fs::write(&path, [7; 5_000]).unwrap();
    let twins = start(folder.path(), &spool, &cards, &board);
    assert!(path.with_extension("redb.quarantined-1").exists());
    put(&twins, "pump-7", "night", json!(true)).await;
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "night": true}))
        .await;
    until(&twins, "pump-7", |twin| twin.json(Section::Desired)["mode"] == json!("eco")).await;
}

fn said(folder: &Path, args: &[&str]) -> (bool, String, String) {
    let said = output(folder, &[&["twin"], args].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (said.status.success(), text(said.stdout), text(said.stderr))
}

fn told(folder: &Path, args: &[&str]) -> Json {
    let (good, out, err) = said(folder, &[args, &["--json"]].concat());
    assert!(good, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_read_and_change_twins_without_a_hub_and_the_hub_gets_it_later() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let path = folder.path();
    hub.enrol(path);
    let config = |hub: &str| format!("[http]\nlisten = \"\"\n[uplink]\nhub = \"{hub}\"\n");
    std::fs::write(path.join("agent.toml"), config("an address without a port")).unwrap();
    let agent = Agent(command(path, &["run"]).spawn().unwrap());
    // It has told of its start.
    process::until(path, |status| status.twins.unconfirmed == 1).await;

    assert!(said(path, &["set", "motor/speed", "-3", "--author", "ben"]).0);
    assert!(said(path, &["set", "--patch", r#"{"groups": {"$set": ["roof"]}}"#, "--section", "tags"]).0);
    let found = told(path, &["get"]);
    assert_eq!(found["desired"], json!({"motor": {"speed": -3}}));
    assert_eq!((&found["tags"], &found["unconfirmed"]), (&json!({"groups": {"$set": ["roof"]}}), &json!(3)));
    let steps = told(path, &["history", "--key", "motor/speed"]);
    assert_eq!((&steps["steps"][0]["author"], &steps["steps"][0]["value"]), (&json!("ben"), &json!(-3)));
    assert_eq!(told(path, &["conflicts"]), json!({"conflicts": []}));
    for (args, expected) in [
        (vec!["set", "a//b", "1"], "/desired/a//b: a name in the key \"a//b\" is empty"),
        (vec!["set", "a/n", r#"{"$add": 0.5}"#], "/desired/a/n: a counter takes whole numbers of 64 bits"),
        (
            vec!["set", "belongs_to", "[]", "--section", "tags"],
            "/tags/belongs_to: is what the hub's registry says",
        ),
        (vec!["set", "a", "1", "--section", "reported"], "allowed are desired, tags and notes"),
        (vec!["set", "--patch", "[1]"], "/desired: a merge patch of a section is an object"),
        (vec!["set", "config/batch/rows_max", "0"], "/desired/config: batch.rows_max: must be"),
        (vec!["set", "a", "18446744073709551616"], "/desired/a: the number 18446744073709551616 is no"),
        (vec!["get", "meter-9"], "this agent neither is device meter-9 nor reads it"),
    ] {
        let (good, _, err) = said(path, &args);
        assert!(!good && err.contains(expected), "{args:?}: {err}");
    }
    let shown = told_status(path);
    assert_eq!((&shown["twins"]["documents"], &shown["twins"]["unconfirmed"]), (&json!(1), &json!(3)));

    // Killed, it has all of it, and at last a hub.
    agent.signal("-KILL");
    drop(agent);
    std::fs::write(path.join("agent.toml"), config(&hub.addr)).unwrap();
    let _agent = Agent(command(path, &["run"]).spawn().unwrap());
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"motor": {"speed": -3}})).await;
    put_at_hub(&hub, "pump-7", "motor/speed", json!(4));
    process::until(path, |status| status.twins.unconfirmed == 0 && status.twins.agreed_ms.is_some()).await;
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    let so = async {
        while told(path, &["get"])["desired"] != json!({"motor": {"speed": 4}}) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LONG, so).await.expect("the hub's edit never comes");
    let (_, out, _) = said(path, &["get"]);
    assert!(
        out.contains("desired  motor/speed = 4\n") && out.contains("delta    motor/speed: 4 is desired"),
        "{out}"
    );
    let (_, out, _) = said(path, &["history"]);
    assert!(out.contains("anna (hub): desired/motor/speed = 4\n"), "{out}");
}

fn told_status(path: &Path) -> Json {
    serde_json::from_slice(&output(path, &["status", "--json"]).stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_page_shows_twins_and_changes_them_for_who_knows_the_token() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let path = folder.path();
    hub.enrol(path);
    std::fs::write(
        path.join("agent.toml"),
        "[http]\nlisten = \"127.0.0.1:0\"\n[uplink]\nhub = \"nowhere\"\n",
    )
    .unwrap();
    let _agent = Agent(command(path, &["run"]).spawn().unwrap());
    process::until(path, |status| status.twins.unconfirmed == 1).await;
    let page = told_status(path)["page"].clone();
    let addr = page["address"].as_str().unwrap().parse().unwrap();
    let bearer = format!("Bearer {}", page["token"].as_str().unwrap());
    let (host, patch) = (("Host", "localhost"), r#"{"desired": {"mode": "eco"}}"#);
    let length = patch.len().to_string();
    let body = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    let (_, text) = send(addr, "GET /twin/pump-7", &[host], "").await;
    let now = serde_json::from_str::<Json>(&text).unwrap()["etag"].as_str().unwrap().to_owned();
    let (weak, among) = (format!("W/\"{now}\""), format!("\"9-00\", \"{now}\""));
    let evil = ("Origin", "http://evil.example");
    let wrong = ("Authorization", "Bearer 00000000000000000000000000000000");
    for (more, expected) in [
        (vec![host], 401),
        (vec![host, wrong], 401),
        (vec![host, ("Authorization", &bearer), evil], 403),
        (vec![("Host", "evil.example"), ("Authorization", &bearer)], 403),
        (vec![host, ("Authorization", &bearer), ("If-Match", "\"9-00\"")], 412),
        (vec![host, ("Authorization", &bearer), ("If-Match", "\"9-00\", \"9-01\"")], 412),
        (vec![host, ("Authorization", &bearer), ("If-Match", &weak)], 412),
        (vec![host, ("Authorization", &bearer), ("If-Match", "9-00")], 400),
        (vec![host, ("Authorization", &bearer), ("If-Match", &among)], 200),
        (vec![host, ("Authorization", &bearer), ("If-Match", "*")], 200),
        (vec![host, ("Authorization", &bearer)], 200),
    ] {
        let headers = [&body[..], &more].concat();
        let (status, text) = send(addr, "PATCH /twin/pump-7?author=carla", &headers, patch).await;
        assert_eq!(status, expected, "{more:?}: {text}");
    }
    let (status, text) = send(addr, "GET /twin/pump-7", &[host], "").await;
    let found: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &found["desired"]), (200, &json!({"mode": "eco"})));
    let (_, text) = send(addr, "GET /twin/pump-7/history", &[host], "").await;
    assert!(text.contains("\"author\":\"carla\""), "{text}");
    assert_eq!(send(addr, "GET /twin/pump-7", &[host, evil], "").await.0, 403);
    assert_eq!(send(addr, "GET /twin/meter-9", &[host], "").await.0, 404);
    assert_eq!(send(addr, "GET /page", &[host], "").await.0, 404, "the token is the owner's alone");
    for path in ["/status", "/twin", "/metrics", "/"] {
        let (_, text) = send(addr, &format!("GET {path}"), &[host], "").await;
        assert!(!text.contains(page["token"].as_str().unwrap()), "{path}");
    }
    let (_, text) = send(addr, "GET /metrics", &[host], "").await;
    assert!(text.contains("tideline_agent_twin_unconfirmed_changes 4\n"), "{text}");
    let over = r#"{"desired": {"schedules": {"once": {"kind": "sync", "at": "2020-01-01T00:00:00Z"}}}}"#;
    let length = over.len().to_string();
    let headers = [
        host,
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
    ];
    let (status, text) = send(addr, "PATCH /twin/pump-7", &headers, over).await;
    let told = serde_json::from_str::<Json>(&text).unwrap()["warnings"].clone();
    let expected = "/desired/schedules/once: its time is over, and missed is skip: it will not run";
    assert_eq!((status, told), (200, json!([expected])), "{text}");
}

/// The status line and the body of an answer.
async fn send(addr: SocketAddr, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Sends readings as who pushes them does, and waits until they are durable.
fn push(port: u16, device: &str) {
    use std::io::{Read as _, Write as _};
    let body = r#"{"v":3.5}"#;
    let head = format!(
        "POST /{device} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Bearer sesame\r\n"
    );
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 204"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_pushes_seldom_has_its_twin_after_a_kill() {
    let hub = Hub::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    hub.enrol(path);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[http]\nlisten = \"\"\n[uplink]\nhub = \"no port\"\n[[source]]\nkind = \"http\"\nname = \"door\"\nlisten = \"127.0.0.1:{port}\"\n\
         token = \"sesame\"\nprofiles = [\"json-http\"]\n[[device]]\nid = \"named\"\nsource = \"door\"\nprofile = \"json-http\"\n"
    );
    std::fs::write(path.join("agent.toml"), config).unwrap();
    let set = |device: &str| output(path, &["twin", "set", "onsite/v", "7", "--device", device]);
    let open = |status: &edge_agent::status::Status| {
        !status.epoch.is_empty() && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    };

    let mut agent = Agent(command(path, &["run"]).spawn().unwrap());
    process::until(path, open).await;
    assert!(set("named").status.success(), "it is named before it has said anything");
    let refused = String::from_utf8(set("seldom").stderr).unwrap();
    assert!(refused.contains("this agent neither is device seldom nor reads it"), "{refused}");
    push(port, "seldom");
    agent.0.kill().unwrap();
    agent.0.wait().unwrap();

    agent = Agent(command(path, &["run"]).spawn().unwrap());
    process::until(path, open).await;
    for (device, good) in [("named", true), ("seldom", true), ("other", false)] {
        let said = set(device);
        assert_eq!(said.status.success(), good, "{device}: {said:?}");
    }
    agent.signal("-TERM");
    agent.ended().await;
}
