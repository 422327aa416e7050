//! Senders that do as they should, and others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};
use tideline_spool::SpoolConfig;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::config::shipped;
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

impl Bench {
    async fn start(token: &str, answered: Answered, devices: Vec<DeviceConfig>) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let (out, inbox) = mpsc::channel(1);
        let own = DeviceId::parse("agent").unwrap();
        let (mut context, stop) = Context::alone("push", own, &out, board.clone(), spool);
        let address = free_address();
        let mut source = HttpSource { listen: address.clone(), token: token.to_owned(), answered, devices };
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

proptest::proptest! {
    #[test]
    fn any_body_is_taken_or_refused(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let sorter = Sorter::new(&[], DeviceId::parse("agent").unwrap(), &[]);
        let readings = || super::super::Readings::of_own_times();
        let _ = sorter.json(&body, readings());
        let _ = sorter.lines(&body, Precision::Nanos, readings());
    }
}
