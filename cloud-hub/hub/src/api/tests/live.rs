//! The live feed over real HTTP: what a reader gets that went away and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;

use super::*;
use crate::api::shapes::QueryGap;
use crate::live::{EVENTS_MAX, Happening};
use crate::metadata::DeviceRecord;

const PATIENCE: Duration = Duration::from_secs(20);

async fn serve(hub: &App) -> SocketAddr {
    serve_at(hub, Door::Socket).await
}

async fn serve_at(hub: &App, door: Door) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, stopping) = (router(Arc::clone(hub), door), Arc::clone(hub));
    tokio::spawn(async move {
        axum::serve(listener, routes).with_graceful_shutdown(async move { stopping.stopped().await }).await
    });
    address
}

fn gap(device: &str) -> Happening {
    let device = device.to_owned();
    Happening::Gap(QueryGap { device, from_ms: 1, to_ms: 2, rows: 3, cause: "quota".into() })
}

/// One reader of the feed.
struct Reader {
    body: Incoming,
    text: String,
}

/// An event as it came: its name, its id, and its data.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    name: String,
    id: String,
    data: String,
}

impl Reader {
    async fn open(address: SocketAddr, path: &str, last: Option<&str>) -> Self {
        Self::open_with(address, path, last.map(|id| ("last-event-id", id))).await
    }

    async fn open_with(address: SocketAddr, path: &str, header: Option<(&str, &str)>) -> Self {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::get(path).header("host", "hub");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), text: String::new() }
    }

    /// Waits until the hub ends the stream.
    async fn ended(mut self) {
        let rest = async { while self.body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
        tokio::time::timeout(PATIENCE, rest).await.expect("the stream ends");
    }

    async fn next(&mut self) -> Came {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let of = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
                    event.lines().find_map(of).unwrap_or_default()
                };
                let came = Came { name: field("event"), id: field("id"), data: field("data") };
                self.text = rest.to_owned();
                return came;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time");
            let frame = frame.expect("the feed goes on").unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_reader_resumes_by_the_last_id_and_is_reset_when_it_is_too_old() {
    let bench = Bench::new();
    let address = serve(&bench.hub).await;
    let mut reader = Reader::open(address, "/api/v1/live?device=d", None).await;
    // It can resume although nothing has happened to its device yet.
    let mark = reader.next().await;
    assert_eq!((mark.name.as_str(), mark.data.as_str()), ("", ""));
    drop(reader);
    for device in ["d", "other", "d"] {
        bench.hub.live.publish(gap(device));
    }
    let mut reader = Reader::open(address, "/api/v1/live?device=d", Some(&mark.id)).await;
    let (first, second) = (reader.next().await, reader.next().await);
    assert_eq!([first.name.as_str(), second.name.as_str()], ["gap"; 2]);
    let mut reader = Reader::open(address, "/api/v1/live?device=d", Some(&first.id)).await;
    assert_eq!(reader.next().await, second);
    (0..EVENTS_MAX).for_each(|_| bench.hub.live.publish(gap("other")));
    for too_old in [&first.id, "nonsense"] {
        let mut reader = Reader::open(address, "/api/v1/live?device=d", Some(too_old)).await;
        assert_eq!(reader.next().await.name, "reset", "{too_old}");
        let mark = reader.next().await;
        bench.hub.live.publish(gap("d"));
        let next = reader.next().await;
        assert_eq!((mark.name.as_str(), next.name.as_str()), ("", "gap"));
    }
}

#[tokio::test]
async fn a_reader_of_some_kinds_of_events_gets_no_others() {
    let bench = Bench::new();
    let address = serve(&bench.hub).await;
    let mut reader = Reader::open(address, "/api/v1/live?events=command,twin", None).await;
    reader.next().await;
    bench.hub.live.publish(gap("d"));
    bench.hub.metadata.put("d", &DeviceRecord::behind("d", 1)).unwrap();
    bench.local("POST", "/api/v1/devices/d/commands", json!({"kind": "sync"})).await;
    assert_eq!(reader.next().await.name, "command");
    let (status, body) = bench.local("GET", "/api/v1/live?events=commands", Value::Null).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-events")));
}

#[tokio::test]
async fn after_a_restart_of_the_hub_a_reader_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    let address = serve(&hub).await;
    let mut reader = Reader::open(address, "/api/v1/live", None).await;
    reader.next().await;
    hub.live.publish(gap("d"));
    let last = reader.next().await;
    assert_eq!(last.name, "gap");
    hub.stopping.send_replace(true);
    drop(reader);
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    // The metadata file is free once the last request has let go of the hub.
    let weak = Arc::downgrade(&hub);
    drop(hub);
    let freed = async {
        while weak.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the hub is let go of");
    let hub = hub_in(dir.path(), Config::default());
    let address = serve(&hub).await;
    for happened in [false, true] {
        if happened {
            hub.live.publish(gap("d"));
        }
        let mut reader = Reader::open(address, "/api/v1/live", Some(&last.id)).await;
        assert_eq!(reader.next().await.name, "reset", "happened: {happened}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_login_that_opened_it() {
    let bench = Bench::new();
    let address = serve_at(&bench.hub, Door::Plain).await;
    let user = json!({"name": "eve", "password": "correct horse", "role": "viewer"});
    assert_eq!(bench.local("POST", "/api/v1/users", user).await.0, StatusCode::CREATED);
    let login = json!({"user": "eve", "password": "correct horse"});
    let (made, _) = bench.send(Door::Plain, request("POST", "/api/v1/session", &[], Some(login))).await;
    let cookie = made.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (_, token) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let mut by_cookie = Reader::open_with(address, "/api/v1/live", Some(("cookie", &cookie))).await;
    let mut by_token = Reader::open_with(address, "/api/v1/live", Some(("authorization", &bearer))).await;
    by_cookie.next().await;
    by_token.next().await;
    assert_eq!(bench.hub.streams.taken(), 2);
    let out = request("DELETE", "/api/v1/session", &[("cookie", &cookie)], None);
    assert_eq!(bench.send(Door::Plain, out).await.0.status(), StatusCode::NO_CONTENT);
    by_cookie.ended().await;
    bench.hub.live.publish(gap("d"));
    assert_eq!(by_token.next().await.name, "gap");
    let path = format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
    assert_eq!(bench.local("DELETE", &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    by_token.ended().await;
}

#[tokio::test]
async fn one_principal_cannot_take_all_streams() {
    let bench = Bench::new();
    let open = || async {
        let request = request("GET", "/api/v1/live", &[], None);
        router(Arc::clone(&bench.hub), Door::Socket).oneshot(request).await.unwrap()
    };
    let mut all = Vec::new();
    for _ in 0..crate::hub::STREAMS.each {
        let response = open().await;
        assert_eq!(response.status(), StatusCode::OK);
        all.push(response);
    }
    let refused = open().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    all.pop();
    let freed = async {
        while open().await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("a place comes back");
}
