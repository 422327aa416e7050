//! Field devices, metrics, and what queries say of readings that have not come.

use tideline_link::identity::PeerCertificate;
use tideline_link::link::Transport;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{Account, DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::session::CREDIT_BYTES;
use tideline_protocol::wire::{Lane, Report, Run, RunEnvelope, Series};

use super::*;
use crate::fleet::Came;
use crate::metadata::DeviceRecord;
use crate::presence::End;

const EPOCH: Epoch = Epoch::from_bytes([3; 16]);

fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

/// A session over MQTT with readings on their way.
fn came() -> Came {
    let came = Came {
        software: "x".to_owned(),
        transport: Transport::Mqtt,
        remote: ([192, 0, 2, 7], 8883).into(),
        certificate: Some(PeerCertificate {
            key_sha256: [7; 32],
            sha256: [10; 32],
            not_before_s: 5,
            not_after_s: 9,
        }),
        flow: Arc::default(),
    };
    came.flow.note(1 << 20, 3);
    came
}

/// The same as the API shows it.
fn session() -> Value {
    json!({
        "remote": "192.0.2.7:8883",
        "certificate": {"sha256": "0a".repeat(32), "not_before_ms": 5_000, "not_after_ms": 9_000},
        "waiting_bytes": 1 << 20,
        "waiting_batches": 3,
        "credit_bytes": CREDIT_BYTES - (1 << 20),
        "credit_most_bytes": CREDIT_BYTES,
    })
}

impl Bench {
    fn enrolled(&self, id: &str, last_seen_ms: Option<i64>) {
        let record =
            DeviceRecord { key_hash: "x".to_owned(), last_seen_ms, ..DeviceRecord::behind(id.to_owned(), 1) };
        self.hub.metadata.put(id, &record).unwrap();
    }

    /// Stores one reading of each device, which all are behind `gateway`, as batch `seq`.
    async fn store(&self, seq: u64, devices: &[&str]) {
        let def = |device: &&str| {
            SeriesDef::new(DeviceId::parse(device).unwrap(), PointId::parse("p").unwrap(), String::new())
        };
        let series = Series { first: 0, defs: devices.iter().map(def).collect() };
        let known = self.hub.store.define_series(agent("gateway"), EPOCH, series).await.unwrap();
        let sample = [Sample { time_ns: 1_000_000_000, value: 1.0 }];
        let items: Vec<_> = (0..known).map(|no| (no, &sample[..])).collect();
        let mut builder = BlockBuilder::new();
        builder.push_batch(&items);
        let envelope = RunEnvelope {
            epoch: EPOCH,
            lane: Lane::Live,
            first: Seq::new(seq),
            rows: RowCounts::one(known),
            series_end: known,
            restamps: vec![],
        };
        let run = Run { envelope, block: builder.finish().bytes };
        let batch = Batch::<Received>::received(agent("gateway"), run).validate(known).unwrap();
        self.hub.store.append(batch).await.unwrap();
        let store = self.hub.store.clone();
        tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.local("GET", path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }
}

#[tokio::test]
async fn a_field_device_is_registered_behind_an_agent() {
    let bench = Bench::new();
    bench.enrolled("gateway", None);
    let add = |id: &str, behind: &str| {
        let body = json!({"id": id, "agent": behind});
        let bench = &bench;
        async move { bench.local("POST", "/api/v1/devices", body).await }
    };
    let (status, made) = add("valve-1", "gateway").await;
    assert_eq!(
        (status, &made["agent"], &made["state"]),
        (StatusCode::CREATED, &json!("gateway"), &json!("never"))
    );
    for (id, behind, status, code) in [
        ("valve-1", "gateway", 409, "device-exists"),
        ("gateway", "gateway", 400, "bad-agent"),
        ("valve-2", "nobody", 404, "not-found"),
        ("valve-2", "valve-1", 409, "not-an-agent"),
        ("a b", "gateway", 400, "bad-device"),
        ("valve-2", "a b", 400, "bad-agent"),
    ] {
        let (got, body) = add(id, behind).await;
        assert_eq!((got.as_u16(), &body["code"]), (status, &json!(code)), "{id} behind {behind}: {body}");
    }
    // It has no key: none is made for it, and none can be shut out.
    let (_, body) = bench.local("POST", "/api/v1/enroll-tokens", json!({"device": "valve-1"})).await;
    assert_eq!(body["code"], "field-device");
    let (_, body) = bench.local("POST", "/api/v1/devices/valve-1/revoke", Value::Null).await;
    assert_eq!(body["code"], "field-device");
    assert_eq!(bench.get("/api/v1/devices/valve-1").await["revoked"], false);
    bench.local("POST", "/api/v1/devices/gateway/revoke", Value::Null).await;
    assert_eq!(bench.get("/api/v1/devices/valve-1").await["revoked"], true);
    assert_eq!(add("valve-2", "gateway").await.1["code"], "device-revoked");
}

#[tokio::test]
async fn readings_are_counted_by_device_and_the_ledger_is_the_agents() {
    let bench = Bench::new();
    bench.enrolled("gateway", None);
    bench.local("POST", "/api/v1/devices", json!({"id": "valve-1", "agent": "gateway"})).await;
    bench.store(1, &["gateway", "valve-1"]).await;
    bench.store(2, &["gateway", "valve-1"]).await;
    let page = bench.get("/api/v1/devices").await;
    for device in page["devices"].as_array().unwrap() {
        assert_eq!((&device["readings"], &device["ledger"]["stored"]), (&json!(2), &json!(4)), "{device}");
    }
    // The sum over the fleet counts each reading once.
    let fleet = bench.get("/api/v1/ledger").await;
    let counts = json!([{"device": "gateway", "readings": 2}, {"device": "valve-1", "readings": 2}]);
    assert_eq!(fleet["devices"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&fleet["devices"][0]["device"], &fleet["devices"][0]["stored"]),
        (&json!("gateway"), &json!(4))
    );
    assert_eq!(fleet["devices"][0]["devices"], counts);
    let one = bench.get("/api/v1/devices/valve-1/ledger").await;
    assert_eq!(
        (&one["agent"], &one["total"]["stored"], &one["devices"]),
        (&json!("gateway"), &json!(4), &counts)
    );
}

#[tokio::test]
async fn an_answer_is_partial_when_the_agent_may_hold_readings_of_the_range() {
    let bench = Bench::new();
    let hub = &bench.hub;
    bench.enrolled("gateway", Some(5_000));
    bench.store(1, &["gateway"]).await;
    let ask = |from: i64, to: i64| {
        let path = format!("/api/v1/query?series=gateway/p&from={from}&to={to}&buckets=5");
        let bench = &bench;
        async move {
            let body = bench.get(&path).await;
            let missing = &body["missing"][0];
            (
                body["partial"] == true,
                missing["cause"].as_str().map(str::to_owned),
                missing["after_ms"].as_i64(),
            )
        }
    };
    let whole = (false, None, None);
    // Not heard of since the hub started: until it was last seen, all is here.
    assert_eq!(ask(0, 4_000).await, whole);
    assert_eq!(ask(0, 6_000).await, (true, Some("offline".to_owned()), Some(5_000)));
    let account = Account { produced: 9, stored: 1, pending: 8, ..Account::default() };
    hub.store.report(
        &agent("gateway"),
        EPOCH,
        None,
        Report { account, head: Seq::new(9), known: Seq::default() },
    );
    assert_eq!(ask(0, 4_000).await, (true, Some("offline".to_owned()), None));
    // It is back with a backlog of eight batches.
    let now_ms = hub.now_ms();
    let (number, _told) = hub.fleet.enter(&agent("gateway"), came(), now_ms);
    let settled = || hub.store.agent_state(&agent("gateway"), EPOCH).settled.all();
    hub.arrivals.hello(&agent("gateway"), EPOCH, Seq::new(9), &settled(), Some(5_000), now_ms);
    assert_eq!(ask(0, 4_000).await, (true, Some("backlog".to_owned()), None));
    let (_, shown) = bench.local("GET", "/api/v1/devices/gateway", Value::Null).await;
    assert_eq!((&shown["transport"], &shown["connected_ms"]), (&json!("mqtt"), &json!(now_ms)));
    assert_eq!(shown["session"], session());
    for seq in 2..=9 {
        bench.store(seq, &["gateway"]).await;
    }
    assert_eq!(ask(0, now_ms + 9_000).await, whole);
    // Its line is cut: it is told as offline long before its session ends.
    hub.presences.heard(&agent("gateway"), hub.now(), None);
    assert_eq!(ask(0, now_ms + 9_000).await, whole);
    hub.presences.ended(&agent("gateway"), hub.now(), End::Goodbye);
    assert_eq!(ask(0, now_ms + 9_000).await, (true, Some("offline".to_owned()), Some(now_ms)));
    hub.presences.heard(&agent("gateway"), hub.now(), None);
    assert_eq!(ask(0, now_ms + 9_000).await, whole);
    hub.fleet.leave(&agent("gateway"), number);
    assert_eq!(ask(0, now_ms + 9_000).await, (true, Some("offline".to_owned()), Some(now_ms)));
    // Nothing more comes from an agent that was shut out.
    bench.local("POST", "/api/v1/devices/gateway/revoke", Value::Null).await;
    assert_eq!(ask(0, now_ms + 9_000).await, whole);
}

#[tokio::test]
async fn a_query_for_too_few_buckets_is_the_askers_fault_and_a_series_is_answered_once() {
    let bench = Bench::new();
    bench.enrolled("gateway", None);
    bench.store(1, &["gateway"]).await;
    for buckets in [0, 1, 10_001] {
        let path = format!("/api/v1/query?series=gateway/p&buckets={buckets}");
        let (status, body) = bench.local("GET", &path, Value::Null).await;
        assert_eq!((status.as_u16(), &body["code"]), (400, &json!("bad-buckets")), "{body}");
    }
    let body = bench.get("/api/v1/query?series=gateway/p,gateway/p&from=0&buckets=2").await;
    assert_eq!(body["series"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn metrics_take_a_viewers_token_or_are_open_when_configured() {
    let bench = Bench::new();
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "scraper", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let with = request("GET", "/metrics", &[("authorization", &bearer)], None);
    assert_eq!(bench.send(Door::Tls, with).await.0.status(), StatusCode::OK);
    let (refused, _) = bench.send(Door::Plain, request("GET", "/metrics", &[], None)).await;
    assert_eq!(
        (refused.status(), &refused.headers()[header::WWW_AUTHENTICATE]),
        (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
    );
    let open = Bench::with(Config { metrics_open: true, ..Config::default() });
    let (response, _) = open.send(Door::Plain, request("GET", "/metrics", &[], None)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let (devices, _) = open.send(Door::Plain, request("GET", "/api/v1/devices", &[], None)).await;
    assert_eq!(devices.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn operators_say_where_a_device_is_and_find_it_by_that() {
    let bench = Bench::new();
    bench.enrolled("gateway", None);
    bench.enrolled("gateway-2", None);
    for id in ["valve-1", "valve-2", "valve-3"] {
        let (status, body) =
            bench.local("POST", "/api/v1/devices", json!({"id": id, "agent": "gateway"})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let patch =
        async |id: &str, body: Value| bench.local("PATCH", &format!("/api/v1/devices/{id}"), body).await;
    let (status, made) = patch(
        "valve-1",
        json!({"title": "Inlet", "site": "north", "groups": ["water", "old"], "tags": {"floor": "2", "x": "1"}}),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_eq!((&made["title"], &made["groups"]), (&json!("Inlet"), &json!(["old", "water"])));
    // What is left out stays, null takes away.
    let (_, made) =
        patch("valve-1", json!({"groups": ["water"], "tags": {"x": null, "role": "backup"}})).await;
    assert_eq!((&made["site"], &made["tags"]), (&json!("north"), &json!({"floor": "2", "role": "backup"})));
    patch("valve-2", json!({"site": "north", "tags": {"floor": "3"}, "agent": "gateway-2"})).await;
    for (query, wanted) in [
        ("site=north", &["valve-1", "valve-2"][..]),
        ("site=north&tag=floor=2", &["valve-1"]),
        ("tag=floor", &["valve-1", "valve-2"]),
        ("tag=floor,role=backup", &["valve-1"]),
        ("group=water", &["valve-1"]),
        ("q=INLET", &["valve-1"]),
        ("agent=gateway-2", &["gateway-2", "valve-2"]),
        ("profile=none", &[]),
    ] {
        let page = bench.get(&format!("/api/v1/devices?{query}")).await;
        let ids: Vec<&str> =
            page["devices"].as_array().unwrap().iter().filter_map(|d| d["id"].as_str()).collect();
        assert_eq!(ids, wanted, "{query}");
    }
    for (id, body, status, code) in [
        ("valve-9", json!({"site": "x"}), 404, "not-found"),
        ("valve-1", json!({"agent": "nobody"}), 404, "not-found"),
        ("valve-1", json!({"agent": "valve-2"}), 409, "not-an-agent"),
        ("gateway", json!({"agent": "gateway-2"}), 409, "own-device"),
        ("valve-1", json!({"site": "x".repeat(65)}), 400, "bad-mark"),
        ("valve-1", json!({"title": "a\u{7}"}), 400, "bad-mark"),
        ("valve-1", json!({"groups": ["a,b"]}), 400, "bad-mark"),
        ("valve-1", json!({"tags": {"a=b": "1"}}), 400, "bad-mark"),
        (
            "valve-1",
            json!({"tags": (0..40).map(|n| (n.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>()}),
            400,
            "bad-mark",
        ),
    ] {
        let (got, body) = patch(id, body).await;
        assert_eq!((got.as_u16(), &body["code"]), (status, &json!(code)), "{id}: {body}");
    }
    assert_eq!(bench.get("/api/v1/devices/valve-1").await["site"], "north", "nothing of what was refused");
}

#[tokio::test]
async fn what_the_registry_says_selects_series_and_makes_groups() {
    let bench = Bench::new();
    bench.enrolled("gateway", None);
    bench.store(1, &["valve-1", "valve-2", "valve-3"]).await;
    for (id, site) in [("valve-1", "north"), ("valve-2", "north"), ("valve-3", "south"), ("valve-4", "north")]
    {
        bench.local("POST", "/api/v1/devices", json!({"id": id, "agent": "gateway"})).await;
        bench.local("PATCH", &format!("/api/v1/devices/{id}"), json!({"site": site})).await;
    }
    // Valve 4 has no readings yet, which is no error.
    let last = bench.get("/api/v1/last?device=@site=north").await;
    assert_eq!(last["series"].as_array().unwrap().len(), 2, "{last}");
    let group = |site: &str| json!({"name": site, "members": [format!("@site={site}")]});
    let question = json!({
        "select": {"devices": ["@site=north", "valve-3"]},
        "group_by": {"groups": [group("north"), group("south")]},
        "functions": ["count"], "from": "0", "to": "10000",
    });
    let (status, answer) = bench.local("POST", "/api/v1/aggregate", question).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let members: Vec<_> =
        answer["groups"].as_array().unwrap().iter().map(|g| (&g["name"], &g["members"])).collect();
    assert_eq!(members, [(&json!("north"), &json!(2)), (&json!("south"), &json!(1))]);
    for selector in ["@site=west", "@site", "@colour=red", "@tag."] {
        let path = format!("/api/v1/last?device={selector}");
        let (status, body) = bench.local("GET", &path, Value::Null).await;
        assert_eq!((status.as_u16(), &body["code"]), (400, &json!("bad-select")), "{body}");
    }
}
