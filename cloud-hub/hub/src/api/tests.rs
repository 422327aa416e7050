//! The API through its router, without a network.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::model::AgentId;
use tideline_protocol::time::SystemClock;
use tideline_store::{Store, StoreConfig};
use tower::ServiceExt as _;

mod aggregate;
mod boards;
mod commands;
mod devices;
mod enrol;
mod fleet;
mod imports;
mod jobs;
mod letters;
mod live;
mod map;
mod plans;
mod profiles;
mod prometheus;
mod series;
mod sites;
mod twins;
mod write;

use super::*;
use crate::config::Config;
use crate::hub::{Addresses, Hub};
use crate::metadata::Metadata;
use crate::twins::{TWINS, Twins};

struct Bench {
    hub: App,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { hub: hub_in(dir.path(), config), _dir: dir }
    }

    async fn send(&self, door: Door, request: Request<Body>) -> (Response<()>, Value) {
        let response = router(Arc::clone(&self.hub), door).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn local(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let (response, value) = self.send(Door::Socket, request(method, path, &[], Some(body))).await;
        (response.status(), value)
    }
}

/// A hub with nothing in it.
pub fn hub_in(dir: &std::path::Path, config: Config) -> App {
    hub_on(dir, config, StoreConfig::new(dir.join("store")))
}

/// As [`hub_in`], with a store of these options.
pub fn hub_on(dir: &std::path::Path, config: Config, store: StoreConfig) -> App {
    let config = Config { data_dir: dir.to_owned(), ..config };
    let clock: Arc<dyn tideline_protocol::time::Clock> = Arc::new(SystemClock::default());
    let metadata = Metadata::open(&dir.join("hub.redb")).unwrap();
    let twins = Twins::open(&dir.join(TWINS)).unwrap();
    let (store, _) = Store::open(store, Arc::clone(&clock)).unwrap();
    let authority = CertificateAuthority::create("test", clock.wall_ns() / 1_000_000_000).unwrap();
    let addresses = Addresses {
        https: "localhost:8443".into(),
        quic: "localhost:4433".into(),
        mqtt: Some("localhost:8883".into()),
        server_name: "localhost".into(),
    };
    Hub::new(config, clock, metadata, twins, store, authority, addresses).unwrap()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "hub.test:8080");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    match body {
        Some(body) => {
            builder.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
        }
        None => builder.body(Body::empty()).unwrap(),
    }
}

#[tokio::test]
async fn everything_but_the_open_paths_needs_a_login_and_errors_are_problems() {
    let bench = Bench::new();
    for path in [
        "/api/v1/session",
        "/api/v1/devices",
        "/api/v1/devices/x/ledger",
        "/api/v1/ledger",
        "/api/v1/series",
        "/api/v1/query?series=a/b",
        "/api/v1/last",
        "/api/v1/live",
        "/api/v1/users",
        "/api/v1/tokens",
        "/metrics",
    ] {
        let (response, body) = bench.send(Door::Plain, request("GET", path, &[], None)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{path}");
        assert_eq!(body["code"], "unauthenticated", "{path}");
    }
    for path in ["/livez", "/readyz", "/api/v1/openapi.json", "/"] {
        let (response, _) = bench.send(Door::Plain, request("GET", path, &[], None)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    for (method, path, status, code) in [
        ("GET", "/api/v1/none", 404, "not-found"),
        ("PUT", "/api/v1/session", 405, "method-not-allowed"),
        ("POST", "/enroll/v1", 403, "https-only"),
    ] {
        let (response, body) = bench.send(Door::Plain, request(method, path, &[], Some(json!({})))).await;
        assert_eq!((response.status().as_u16(), &body["code"]), (status, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn a_hub_without_its_store_is_not_ready_and_says_why() {
    let bench = Bench::new();
    let store = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    let asked = request("GET", "/readyz", &[], None);
    let response = router(Arc::clone(&bench.hub), Door::Plain).oneshot(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(body.contains("writer") && body.contains("ended"), "{body}");
    let (response, _) = bench.send(Door::Plain, request("GET", "/livez", &[], None)).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_user_signs_in_is_known_by_the_cookie_and_out() {
    let bench = Bench::new();
    let made = bench
        .local("POST", "/api/v1/users", json!({"name": "eve", "password": "correct horse", "role": "viewer"}))
        .await;
    assert_eq!(made.0, StatusCode::CREATED);
    let again = bench
        .local("POST", "/api/v1/users", json!({"name": "eve", "password": "correct horse", "role": "admin"}))
        .await;
    assert_eq!((again.0, &again.1["code"]), (StatusCode::CONFLICT, &json!("user-exists")));
    let wrong = bench
        .send(
            Door::Plain,
            request("POST", "/api/v1/session", &[], Some(json!({"user": "eve", "password": "wrong horse"}))),
        )
        .await;
    assert_eq!((wrong.0.status(), &wrong.1["code"]), (StatusCode::UNAUTHORIZED, &json!("bad-credentials")));
    let (response, body) = bench
        .send(
            Door::Plain,
            request(
                "POST",
                "/api/v1/session",
                &[],
                Some(json!({"user": "eve", "password": "correct horse"})),
            ),
        )
        .await;
    assert_eq!(body, json!({"user": "eve", "role": "viewer"}));
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.contains("HttpOnly; SameSite=Strict; Path=/"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let me = bench.send(Door::Plain, request("GET", "/api/v1/session", &[("cookie", cookie)], None)).await;
    assert_eq!(me.1["user"], "eve");
    let forbidden =
        bench.send(Door::Plain, request("GET", "/api/v1/users", &[("cookie", cookie)], None)).await;
    assert_eq!((forbidden.0.status(), &forbidden.1["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    let foreign = bench
        .send(
            Door::Plain,
            request("DELETE", "/api/v1/session", &[("cookie", cookie), ("origin", "http://evil.test")], None),
        )
        .await;
    assert_eq!(foreign.1["code"], "foreign-origin");
    let out = bench
        .send(
            Door::Plain,
            request(
                "DELETE",
                "/api/v1/session",
                &[("cookie", cookie), ("origin", "http://hub.test:8080")],
                None,
            ),
        )
        .await;
    assert_eq!(out.0.status(), StatusCode::NO_CONTENT);
    let gone = bench.send(Door::Plain, request("GET", "/api/v1/session", &[("cookie", cookie)], None)).await;
    assert_eq!(gone.0.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let bench = Bench::new();
    let guess = async || {
        let body = json!({"user": "x", "password": "y"});
        bench.send(Door::Plain, request("POST", "/api/v1/session", &[], Some(body))).await
    };
    assert_ne!(guess().await.1["code"], "too-many-logins");
    // What there is was taken for an hour: how fast they come is no part of it.
    let in_an_hour_ns = bench.hub.clock.mono_ns() + 3_600_000_000_000;
    bench.hub.logins.take(std::net::Ipv4Addr::LOCALHOST.into(), in_an_hour_ns).unwrap();
    let (response, body) = guess().await;
    assert_eq!(
        (response.status(), &body["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("too-many-logins"))
    );
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let bench = Bench::new();
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "ci", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let ask = || request("GET", "/api/v1/devices", &[("authorization", &bearer)], None);
    assert_eq!(bench.send(Door::Plain, ask()).await.0.status(), StatusCode::OK);
    let (status, _) =
        bench.local("DELETE", &format!("/api/v1/tokens/{}", made["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(bench.send(Door::Plain, ask()).await.0.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_requests_name_what_is_allowed() {
    let bench = Bench::new();
    for (path, code) in [
        ("/api/v1/query?series=a/b&from=yesterday", "bad-time"),
        ("/api/v1/query?series=a/b&from=now&to=-1h", "bad-range"),
        ("/api/v1/query?series=nodevice", "bad-series"),
        ("/api/v1/query?series=", "bad-series"),
        ("/api/v1/query?series=a/b&cursor=x", "bad-cursor"),
        ("/api/v1/query?series=a/b", "not-found"),
        ("/api/v1/query?series=a/b&nonsense=1", "bad-request"),
        ("/api/v1/devices?limit=0", "bad-limit"),
        ("/api/v1/devices/none", "not-found"),
    ] {
        let (status, body) = bench.local("GET", path, Value::Null).await;
        assert!(status.is_client_error(), "{path}");
        assert_eq!(body["code"], code, "{path}: {body}");
    }
    let (status, body) = bench.local("POST", "/api/v1/users", json!({"nmae": "x"})).await;
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("bad-body")));
}

#[test]
fn the_description_in_the_repository_is_that_of_the_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/openapi.json");
    let text = openapi().unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let made: Value = serde_json::from_str(&text).unwrap();
    assert!(kept == made, "run the test again with UPDATE_OPENAPI=1");
}
