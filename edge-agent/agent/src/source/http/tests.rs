//! Senders that do as they should, and others.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};
use tideline_spool::SpoolConfig;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::clock::AgentClock;
use crate::config::{CertificateFiles, Token, shipped};
use crate::intake::Chunk;
use crate::spooler::SpoolHandle;
use crate::status::Board;

struct Bench {
    address: String,
    inbox: mpsc::Receiver<Chunk>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
    board: Board,
    _folder: tempfile::TempDir,
}

/// Device, point, time in ms and value.
type Seen = (String, String, i64, Value, Quality);

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn door(token: &str, answered: Answered) -> PushDoor {
    PushDoor {
        listen: free_address(),
        token: Token::new(token.to_owned()),
        tokens: BTreeMap::new(),
        answered,
        certificate: None,
        families: Vec::new(),
    }
}

impl Bench {
    async fn start(token: &str, answered: Answered, devices: Vec<DeviceConfig>) -> Self {
        Self::open(door(token, answered), devices).await
    }

    async fn open(door: PushDoor, devices: Vec<DeviceConfig>) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let (out, inbox) = mpsc::channel(1);
        let own = DeviceId::parse("agent").unwrap();
        let (mut context, stop) = Context::alone("push", own, &out, board.clone(), spool);
        let address = door.listen.clone();
        let mut source = HttpSource::new(door, devices);
        let task = tokio::spawn(async move {
            let ended = source.run(&mut context).await;
            drop(out);
            ended
        });
        let bench = Self { address, inbox, stop, task, board, _folder: folder };
        while tokio::net::TcpStream::connect(&bench.address).await.is_err() {
            tokio::task::yield_now().await;
        }
        bench
    }

    /// Sends a request, and gives the status and the answer's text.
    fn send(&self, path: &str, headers: &str, body: &[u8]) -> tokio::task::JoinHandle<(u16, String)> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let (address, request) = (self.address.clone(), [head.as_bytes(), body].concat());
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
            (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
        })
    }

    /// The next chunk's readings, which are durable then.
    async fn take(&mut self) -> Vec<Seen> {
        let Chunk { rows, boxes, durable, .. } = self.inbox.recv().await.unwrap();
        durable.into_iter().for_each(|durable| durable.send(()).unwrap());
        let of = |(def, samples): &crate::spooler::SeriesRows| {
            let each = samples.iter().map(|sample| {
                let (value, quality) = boxes.value(sample.value, def.kind());
                (def.device.to_string(), def.point.to_string(), sample.time_ns / 1_000_000, value, quality)
            });
            each.collect::<Vec<_>>()
        };
        let mut seen: Vec<Seen> = rows.iter().flat_map(of).collect();
        seen.sort_by(|a, b| (&a.0, &a.1, a.2).cmp(&(&b.0, &b.1, b.2)));
        seen
    }
}

fn seen(device: &str, point: &str, time_ms: i64, value: Value) -> Seen {
    (device.into(), point.into(), time_ms, value, Quality::Good)
}

#[tokio::test]
async fn json_comes_as_one_entry_a_list_or_lines_and_is_answered_when_it_is_durable() {
    let mut bench = Bench::start("", Answered::Durable, Vec::new()).await;
    let one = r#"{"device":"pump-7","time":1000,"values":{"flow":1.5,"on":true,"state":"idle"}}"#;
    let two = r#"{"time":"1970-01-01T00:00:02Z","quality":"bad","values":{"flow":2}}"#;
    let first = [
        seen("pump-7", "flow", 1000, Value::Float(1.5)),
        seen("pump-7", "on", 1000, Value::Bool(true)),
        seen("pump-7", "state", 1000, Value::Text("idle".into())),
    ];
    let second = ("agent".to_owned(), "flow".to_owned(), 2000, Value::Float(2.0), Quality::Bad);
    for body in [format!("[{one},{two}]"), format!("{one}\n{two}\n")] {
        let answer = bench.send("/readings", "", body.as_bytes());
        let taken = bench.take().await;
        assert_eq!((&taken[0], &taken[1..]), (&second, &first[..]));
        assert_eq!(answer.await.unwrap(), (204, String::new()));
    }
    let answer = bench.send("/readings", "", one.as_bytes());
    let chunk = bench.inbox.recv().await.unwrap();
    // Its spool ends before the readings are durable.
    drop(chunk);
    assert_eq!(answer.await.unwrap().0, 503);
    bench.stop.send_replace(true);
    assert!(matches!(bench.task.await.unwrap(), Err(SourceError::Stopped)));
}

#[tokio::test]
async fn line_protocol_keeps_types_and_is_taken_by_the_paths_of_influxdb() {
    let mut bench = Bench::start("", Answered::Accepted, Vec::new()).await;
    let body = b"pump,device=pump-7 flow=1.5,starts=3i,on=t 1\npump value=7 2\n";
    for path in ["/write?precision=s", "/api/v2/write?bucket=x&precision=s"] {
        let answer = bench.send(path, "", body);
        let wanted = [
            seen("agent", "pump", 2000, Value::Float(7.0)),
            seen("pump-7", "pump/flow", 1000, Value::Float(1.5)),
            seen("pump-7", "pump/on", 1000, Value::Bool(true)),
            seen("pump-7", "pump/starts", 1000, Value::Int(3)),
        ];
        assert_eq!(answer.await.unwrap().0, 204, "before it is durable");
        assert_eq!(bench.take().await, wanted);
    }
    assert_eq!(bench.send("/write?precision=year", "", body).await.unwrap().0, 400);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_the_rest_is_taken() {
    let mut bench = Bench::start("", Answered::Durable, Vec::new()).await;
    let body = r#"[{"values":{"flow":1,"of":[1]},"time":1},{"values":{"flow":"fast"},"time":2},
        {"device":"a b","values":{"flow":1}},{"time":"noon","values":{"flow":1}},{"value":{"flow":1}},7]"#;
    let answer = bench.send("/readings", "", body.as_bytes());
    assert_eq!(bench.take().await, [seen("agent", "flow", 1, Value::Float(1.0))]);
    let (status, told) = answer.await.unwrap();
    assert_eq!(status, 400);
    for part in [
        "1 readings are taken, and not: entry 1: of is neither number",
        "entry 2: agent: flow is \"fast\", of type text",
        "entry 3: device id",
        "entry 4: time \"noon\" is none of RFC 3339",
        "entry 5: unknown field `value`",
        "entry 6: ",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert_eq!(bench.board.read().sources["push"].rejected, 6);
    let answer = bench.send("/write", "", b"flow value=1 1\nflow\n");
    assert_eq!(bench.take().await.len(), 1);
    let (status, told) = answer.await.unwrap();
    assert!(status == 400 && told.contains("line 2: "), "{told}");
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_cost_nothing() {
    let bench = Bench::start("", Answered::Durable, Vec::new()).await;
    let long = vec![b' '; 3 << 20];
    for (path, headers, body, status) in [
        ("/readings", "", &b"{\"values\":"[..], 400),
        ("/readings", "", b"\xff\xfe", 400),
        ("/readings", "Content-Encoding: gzip\r\n", b"{}", 400),
        ("/readings", "Content-Encoding: br\r\n", b"{}", 415),
        ("/readings", "Origin: http://evil.example\r\n", b"{}", 403),
        ("/readings", "", &long, 413),
        ("/elsewhere", "", b"{}", 404),
    ] {
        let answered = bench.send(path, headers, body).await.unwrap();
        assert_eq!(answered.0, status, "{path} {headers}{}", answered.1);
    }
}

#[tokio::test]
async fn a_token_is_asked_for_when_there_is_one() {
    let mut bench = Bench::start("secret", Answered::Durable, Vec::new()).await;
    let body = br#"{"values":{"flow":1}}"#;
    for headers in ["", "Authorization: Bearer secre\r\n", "Authorization: secret\r\n"] {
        assert_eq!(bench.send("/readings", headers, body).await.unwrap().0, 401, "{headers}");
    }
    for scheme in ["Bearer", "Token"] {
        let answer = bench.send("/readings", &format!("Authorization: {scheme} secret\r\n"), body);
        assert_eq!(bench.take().await.len(), 1);
        assert_eq!(answer.await.unwrap().0, 204);
    }
}

#[tokio::test]
async fn devices_behind_it_are_judged_by_their_profiles_and_others_are_refused() {
    let device = |id: &str| DeviceConfig {
        id: DeviceId::parse(id).unwrap(),
        profile: "linux-host".into(),
        family: Some(Arc::new(shipped("linux-host").unwrap())),
        address: String::new(),
        firmware: None,
        hardware: None,
        stream: None,
    };
    let mut bench = Bench::start("", Answered::Durable, vec![device("box-1"), device("box-2")]).await;
    let body = r#"[{"device":"box-1","time":1,"values":{"cpu/total":12.5}},
        {"device":"box-2","time":1,"values":{"cpu/total":101,"colour":1}},{"device":"box-3","values":{"a":1}}]"#;
    let answer = bench.send("/readings", "", body.as_bytes());
    assert_eq!(bench.take().await, [seen("box-1", "cpu/total", 1, Value::Float(12.5))]);
    let (status, told) = answer.await.unwrap();
    assert_eq!(status, 400);
    for part in [
        "box-2: cpu/total is 101",
        "has no point colour",
        "device box-3 is not behind this source; allowed are box-1, box-2",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[tokio::test]
async fn a_stream_without_room_makes_senders_wait_and_too_many_are_sent_away() {
    let mut bench = Bench::start("", Answered::Accepted, Vec::new()).await;
    let body = br#"{"values":{"flow":1}}"#;
    assert_eq!(bench.send("/readings", "", body).await.unwrap().0, 204, "it stands in the queue");
    // Now none of them can be taken before somebody takes what is there, and there are as many places but one.
    let mut answers: Vec<_> = (0..=REQUESTS_MAX).map(|_| bench.send("/readings", "", body)).collect();
    let refused = loop {
        match answers.iter().position(tokio::task::JoinHandle::is_finished) {
            Some(at) => break answers.remove(at),
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(refused.await.unwrap(), (503, "too many requests at once".to_owned()));
    for _ in 0..=REQUESTS_MAX {
        assert_eq!(bench.take().await.len(), 1);
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().0, 204);
    }
}

/// A device that posts as a profile says.
fn posts(id: &str, address: &str) -> DeviceConfig {
    let profile = "name = \"station\"\n[http]\ntimes = [{ address = \"#/at\", unit = \"ms\" }]\n[points]\n\
        level = { unit = \"m\", min = 0, max = 9, address = \"#/tank/mm\", scale = 0.001 }\n\
        mode = { type = \"text\", values = [\"auto\", \"hand\"], address = \"state#/mode\" }\n";
    DeviceConfig {
        id: DeviceId::parse(id).unwrap(),
        profile: "station".into(),
        family: Some(Arc::new(tideline_profiles::Profile::parse("station.toml", profile).unwrap())),
        address: address.into(),
        firmware: None,
        hardware: None,
        stream: None,
    }
}

#[tokio::test]
async fn what_a_device_posts_is_read_by_its_profile_and_answered_when_it_is_durable() {
    let mut bench =
        Bench::start("", Answered::Durable, vec![posts("tank", "yard/tank 1"), posts("well", "")]).await;
    let answer = bench.send("/yard/tank%201", "", br#"{"at":1000,"tank":{"mm":1500},"colour":"red"}"#);
    assert_eq!(bench.take().await, [seen("tank", "level", 1000, Value::Float(1.5))]);
    assert_eq!(answer.await.unwrap(), (204, String::new()));
    let answer = bench.send("/well", "", br#"{"at":2000,"tank":{"mm":9001}}"#);
    let null = ("well".to_owned(), "level".to_owned(), 2000, Value::Null, Quality::Bad);
    assert_eq!(bench.take().await, [null]);
    let (status, told) = answer.await.unwrap();
    assert!(status == 200 && told.contains("level is 9.001 m"), "{status} {told}");
    let answer = bench.send("/well/state", "", br#"{"mode":"auto"}"#);
    assert_eq!(bench.take().await[0].3, Value::Text("auto".into()));
    assert_eq!(answer.await.unwrap().0, 204);
    assert_eq!(bench.board.read().sources["push"].failures, 0);
}

#[tokio::test]
async fn what_nobody_posts_or_what_cannot_be_read_is_refused_with_a_reason() {
    let bench = Bench::start("", Answered::Durable, vec![posts("well", "")]).await;
    let long = [&b"{\"at\":1"[..], &vec![b' '; 300_000], b"}"].concat();
    for (path, body, status, part) in [
        ("/", &b"{}"[..], 404, ""),
        ("/wel", b"{}", 404, "no device is at /wel"),
        ("/well/", b"{}", 404, "no device is at /well/"),
        ("/well", b"{", 400, "well: the payload is no JSON"),
        ("/well", b"\xff", 400, "well: the payload is no UTF-8"),
        ("/well", &long, 413, "allowed are 262144"),
        ("/%ff", b"{}", 400, ""),
    ] {
        let (found, told) = bench.send(path, "", body).await.unwrap();
        assert!(found == status && told.contains(part), "{path}: {found} {told}");
    }
}

#[tokio::test]
async fn devices_appear_by_their_paths_where_a_profile_is_wide() {
    let mut door = door("", Answered::Durable);
    door.families.push(Arc::new(shipped("json-http").unwrap()));
    let mut bench = Bench::open(door, vec![posts("well", "")]).await;
    let answer = bench.send("/pump%207", "", br#"{"ts":3000,"flow":{"now":2.5}}"#);
    assert_eq!(bench.take().await, [seen("pump-7", "flow/now", 3000, Value::Float(2.5))]);
    assert_eq!(answer.await.unwrap().0, 204);
    // Nothing in it is a reading, and a name has no levels.
    for (path, body) in [("/lamp", &b"{}"[..]), ("/hall/lamp", b"{\"on\":true}")] {
        assert_eq!(bench.send(path, "", body).await.unwrap().0, 404, "{path}");
    }
    let (status, told) = bench.send("/pump:7", "", b"{\"flow\":1}").await.unwrap();
    assert!(status == 400 && told.contains("would be pump-7, which is another device"), "{status} {told}");
}

#[tokio::test]
async fn a_device_with_a_token_of_its_own_speaks_for_itself_alone() {
    let mut door = door("all", Answered::Accepted);
    door.tokens.insert(DeviceId::parse("well").unwrap(), Token::new("own".into()).unwrap());
    let mut bench = Bench::open(door, vec![posts("well", ""), posts("tank", "")]).await;
    let body = br#"{"at":1000,"tank":{"mm":1500}}"#;
    for (token, path, status) in
        [("own", "/tank", 403), ("all", "/well", 403), ("other", "/well", 401), ("all", "/tank", 204)]
    {
        let headers = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(bench.send(path, &headers, body).await.unwrap().0, status, "{token} {path}");
    }
    assert_eq!(bench.take().await[0].0, "tank");
    let own = "Authorization: Bearer own\r\n";
    assert_eq!(bench.send("/well", own, body).await.unwrap().0, 204);
    assert_eq!(bench.take().await[0].0, "well");
    // In the other forms too, in which it need not name itself.
    let entries = br#"[{"time":1,"values":{"level":2}},{"device":"tank","values":{"level":3}}]"#;
    let (status, told) = bench.send("/readings", own, entries).await.unwrap();
    assert!(status == 400 && told.contains("the token is that of well, and not of tank"), "{told}");
    assert_eq!(bench.take().await, [seen("well", "level", 1, Value::Float(2.0))]);
}

#[tokio::test]
async fn a_door_with_a_certificate_speaks_https_alone() {
    use tideline_link::{identity::CertificateAuthority, tls};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let now_s = 1_700_000_000;
    let authority = CertificateAuthority::create("test", now_s).unwrap();
    let server = authority.issue_server(&["localhost".to_owned()], now_s).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files =
        CertificateFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
    std::fs::write(&files.certificate, &server.chain_pem).unwrap();
    std::fs::write(&files.key, &server.key_pem).unwrap();
    let mut door = door("", Answered::Accepted);
    door.certificate = Some(files);
    let mut bench = Bench::open(door, vec![posts("well", "")]).await;
    let clock = Arc::new(tideline_protocol::time::ManualClock::at(now_s * 1_000_000_000));
    let config = tls::broker_client_config(&server.ca_pem, tls::FloorTime::new(clock, 0)).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(&bench.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    let body = r#"{"at":1000,"tank":{"mm":1500}}"#;
    let head = format!(
        "POST /well HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    assert_eq!(bench.take().await[0].0, "well");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    // Somebody who speaks without TLS is told nothing.
    let mut plain = tokio::net::TcpStream::connect(&bench.address).await.unwrap();
    plain.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ends = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn times_of_senders_are_not_taken_for_those_of_the_agents_clock() {
    let sorter = Sorter::new(&[], DeviceId::parse("agent").unwrap(), &[], Arc::default());
    let readings = || super::super::Readings::now(&AgentClock::default());
    let body = br#"[{"time": 1763719200000, "values": {"a": 1}}, {"values": {"b": 2}}]"#;
    let pushed = sorter.json(body, &Sender::Any, readings()).unwrap();
    let lines = sorter
        .lines(b"m c=1 1763719200000000000\nm d=2", Precision::Nanos, &Sender::Any, readings())
        .unwrap();
    for pushed in [pushed, lines] {
        assert_eq!((pushed.theirs.count(), pushed.ours.count()), (1, 1));
        assert!(pushed.theirs.clock.is_none() && pushed.ours.clock.is_some());
        assert_eq!(pushed.theirs.rows[0].1[0].time_ns, 1_763_719_200_000_000_000);
    }
}

#[test]
fn a_body_that_is_refused_says_nothing_of_what_points_are() {
    let sorter = Sorter::new(&[], DeviceId::parse("agent").unwrap(), &[], Arc::default());
    let push = |body: &[u8]| sorter.json(body, &Sender::Any, super::super::Readings::of_own_times());
    assert!(push(br#"[{"values":{"flow":"off"}}, {oops"#).is_err());
    let many = format!("[{}0]", r#"{"values":{"level":"low"}},"#.repeat(entries::VALUES_MAX));
    assert!(push(many.as_bytes()).is_err());
    let taken = push(br#"{"values":{"flow":1.5,"level":2}}"#).unwrap();
    assert_eq!((taken.count(), taken.ours.rejected), (2, 0));
    // And one that is taken does.
    let taken =
        push(br#"[{"values":{"flow":"off"}},{"values":{"state":1}},{"values":{"state":"off"}}]"#).unwrap();
    assert_eq!((taken.count(), taken.ours.rejected), (1, 2));
}

#[test]
fn bodies_of_too_many_values_are_to_be_sent_in_parts_whatever_their_form_is() {
    let sorter = Sorter::new(&[], DeviceId::parse("agent").unwrap(), &[], Arc::default());
    let readings = super::super::Readings::of_own_times;
    let lines = |count: usize| {
        sorter.lines("m a=1 1\n".repeat(count).as_bytes(), Precision::Nanos, &Sender::Any, readings())
    };
    let json = |count: usize| {
        sorter.json(r#"{"time":1,"values":{"a":1}} "#.repeat(count).as_bytes(), &Sender::Any, readings())
    };
    let most = entries::VALUES_MAX as u64;
    assert_eq!(
        (lines(entries::VALUES_MAX).unwrap().count(), json(entries::VALUES_MAX).unwrap().count()),
        (most, most)
    );
    for refused in [lines(entries::VALUES_MAX + 1), json(entries::VALUES_MAX + 1)] {
        let Refusal { status, text } = refused.unwrap_err();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text.contains("more than 50000 ") && text.contains("smaller parts"), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_body_is_taken_or_refused(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let sorter = Sorter::new(&[], DeviceId::parse("agent").unwrap(), &[], Arc::default());
        let readings = || super::super::Readings::of_own_times();
        let _ = sorter.json(&body, &Sender::Any, readings());
        let _ = sorter.lines(&body, Precision::Nanos, &Sender::Any, readings());
    }
}
