//! Statements of SQL through the API, in processes of the real program: answers, rights, and limits that hold.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test fails where it is wrong"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use cloud_hub::api::{Door, router};
use cloud_hub::config::{Config, SqlLimits};
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::Metadata;
use cloud_hub::twins::{TWINS, Twins};
use serde_json::{Value, json};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::value::{Boxes, Quality, Value as Reading};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_sql::feed::{self, Job};
use tideline_sql::{Format, Table};
use tideline_store::buckets::DAY_NS;
use tideline_store::{Limit, Retention, Store, StoreConfig};
use tower::ServiceExt as _;

const EPOCH: Epoch = Epoch::from_bytes([3; 16]);
const T0_NS: i64 = 1_760_000_000_000_000_000;
const STEP_NS: i64 = 1_000_000_000;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_cloud-hub"))
}

struct Bench {
    hub: App,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A hub with `pump-1/temp`, `pump-1/level` and `pump-2/temp`: so many readings each, one a second.
    async fn with(rows: i64, limits: SqlLimits) -> Self {
        Self::keeping(rows, limits, Retention::default()).await
    }

    async fn keeping(rows: i64, limits: SqlLimits, retention: Retention) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sql = SqlLimits { program: program(), ..limits };
        let config = Config { data_dir: dir.path().to_owned(), sql, ..Config::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let metadata = Metadata::open(&dir.path().join("hub.redb")).unwrap();
        let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
        let kept = StoreConfig { retention, ..StoreConfig::new(dir.path().join("store")) };
        let (store, _) = Store::open(kept, Arc::clone(&clock)).unwrap();
        fill(&store, rows).await;
        let authority = CertificateAuthority::create("test", clock.wall_ns() / 1_000_000_000).unwrap();
        let hub = Hub::new(config, clock, metadata, twins, store, authority, Addresses::default()).unwrap();
        Self { hub, _dir: dir }
    }

    async fn new(rows: i64) -> Self {
        Self::with(rows, SqlLimits::default()).await
    }

    async fn send(
        &self,
        door: Door,
        body: Value,
        headers: &[(&str, &str)],
    ) -> (StatusCode, header::HeaderMap, Vec<u8>) {
        let mut request =
            Request::post("/api/v1/sql").header("host", "hub").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = router(Arc::clone(&self.hub), door).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 26).await.unwrap();
        (parts.status, parts.headers, bytes.to_vec())
    }

    async fn ask(&self, sql: &str) -> (StatusCode, Value) {
        let (status, _, bytes) = self.send(Door::Socket, json!({"sql": sql}), &[]).await;
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn rows(&self, sql: &str) -> Value {
        let (status, answer) = self.ask(sql).await;
        assert_eq!(status, StatusCode::OK, "{sql}: {answer}");
        answer["rows"].clone()
    }

    async fn refused(&self, sql: &str, status: u16, code: &str) -> String {
        let (found, answer) = self.ask(sql).await;
        assert_eq!((found.as_u16(), answer["code"].as_str().unwrap()), (status, code), "{sql}: {answer}");
        answer["detail"].as_str().unwrap().to_owned()
    }
}

async fn fill(store: &Store, rows: i64) {
    let agent = AgentId::parse("gateway").unwrap();
    let def = |device: &str, point: &str| {
        SeriesDef::new(DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap(), "Cel".to_owned())
    };
    let defs = vec![def("pump-1", "temp"), def("pump-1", "level"), def("pump-2", "temp")];
    let known = store.define_series(agent.clone(), EPOCH, Series { first: 0, defs }).await.unwrap();
    // A run has only so many rows.
    for (seq, first) in (1_u64..).zip((0..rows).step_by(10_000)) {
        let mut builder = BlockBuilder::new();
        let times = first..rows.min(first + 10_000);
        let samples = |series: u32| {
            let value = |i: i64| f64::from(series) * 1_000_000.0 + i as f64 * 0.5;
            times
                .clone()
                .map(|i| Sample { time_ns: T0_NS + i * STEP_NS, value: value(i) })
                .collect::<Vec<_>>()
        };
        let all = [0, 1, 2].map(samples);
        let items: Vec<_> =
            (0..3_u32).zip(&all).map(|(series, samples)| (series, samples.as_slice())).collect();
        builder.push_batch(&items);
        let count = u32::try_from(all.iter().map(Vec::len).sum::<usize>()).unwrap();
        let envelope = RunEnvelope {
            epoch: EPOCH,
            lane: Lane::Live,
            first: Seq::new(seq),
            rows: RowCounts::one(count),
            series_end: known,
            restamps: vec![],
        };
        let run = Run { envelope, block: builder.finish().bytes };
        let batch = Batch::<Received>::received(agent.clone(), run).validate(known).unwrap();
        store.append(batch).await.unwrap();
    }
    let settling = store.clone();
    tokio::task::spawn_blocking(move || settling.settle()).await.unwrap().unwrap();
}

/// It computes long and needs little memory.
fn slow() -> String {
    let term = |n: usize| format!("sin(cos(sin(cos(sin(value + {n})))))");
    format!("SELECT sum({}) FROM readings", (0..120).map(term).collect::<Vec<_>>().join(" + "))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removed_is_in_no_table_and_the_answer_says_up_to_when() {
    let day = Limit { age_ns: Some(DAY_NS), bytes: None };
    let retention = Retention { raw: day, minute: day, ..Retention::default() };
    let bench = Bench::keeping(600, SqlLimits::default(), retention).await;
    let store = bench.hub.store.clone();
    let thin = move || store.flush().and_then(|()| store.retain());
    tokio::task::spawn_blocking(thin).await.unwrap().unwrap();
    let last_ms = (T0_NS + 599 * STEP_NS) / 1_000_000;
    let gone = Some(last_ms);
    for (table, rows, thinned) in [("readings", 0, gone), ("rollups_1m", 0, gone), ("rollups_1h", 6, None)] {
        let sql = format!("SELECT count(*) FROM {table}");
        let (_, headers, body) = bench.send(Door::Socket, json!({ "sql": sql }), &[]).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["rows"], json!([[rows]]), "{table}");
        let told = headers.get("tideline-thinned-to").map(|ms| ms.to_str().unwrap().parse().unwrap());
        assert_eq!(told, thinned, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_asked() {
    let bench = Bench::new(600).await;
    let day = "2025-10-09";
    for (sql, want) in [
        ("SELECT count(*) AS n FROM readings".to_owned(), json!([[1800]])),
        (
            "SELECT device, point, unit, time, value FROM readings WHERE point = 'level' LIMIT 1".to_owned(),
            json!([["pump-1", "level", "Cel", T0_NS / 1_000_000, 1_000_000.0]]),
        ),
        (
            "SELECT * FROM readings LIMIT 2".to_owned(),
            json!([
                ["pump-1", "temp", "Cel", T0_NS / 1_000_000, 0.0, null, "good"],
                ["pump-1", "temp", "Cel", T0_NS / 1_000_000 + 1000, 0.5, null, "good"]
            ]),
        ),
        (
            format!("SELECT count(*) FROM readings WHERE device = 'pump-2' AND time >= '{day} 08:55:00'"),
            json!([[500]]),
        ),
        ("SELECT count(*) FROM readings WHERE time > now() - INTERVAL '1 hour'".to_owned(), json!([[0]])),
        ("SELECT sum(count) FROM rollups_1m WHERE point = 'temp'".to_owned(), json!([[1200]])),
        (
            "SELECT count, min, max, first, last FROM rollups_1d WHERE device = 'pump-2'".to_owned(),
            json!([[600, 2_000_000.0, 2_000_299.5, 2_000_000.0, 2_000_299.5]]),
        ),
        ("SELECT count(*) FROM rollups_1h".to_owned(), json!([[6]])),
        // The day begins before the first reading in it.
        (format!("SELECT count(*) FROM rollups_1d WHERE time <= '{day}'"), json!([[3]])),
        (format!("SELECT count(*) FROM rollups_1d WHERE time < '{day}'"), json!([[0]])),
        ("SELECT id FROM devices".to_owned(), json!([])),
    ] {
        assert_eq!(bench.rows(&sql).await, want, "{sql}");
    }
    // A rollup is what the readings of its minutes give, also where the range begins within one.
    let of_readings = "SELECT device, point, time_bucket('1m', time) AS t, count(*) AS n, min(value) AS lo, max(value) AS hi, avg(value) AS mean FROM readings GROUP BY device, point, t ORDER BY device, point, t";
    let of_rollups = "SELECT device, point, time AS t, count AS n, min AS lo, max AS hi, mean FROM rollups_1m ORDER BY device, point, t";
    assert_eq!(bench.rows(of_rollups).await, bench.rows(of_readings).await);
    let cut = "SELECT count(*) AS n, sum(count) AS rows FROM rollups_1m WHERE time >= '2025-10-09 08:54:30' AND time <= '2025-10-09 08:56:00'";
    assert_eq!(bench.rows(cut).await, json!([[6, 360]]));
    assert_eq!(bench.hub.statements.available_permits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_qualities_are_asked_and_what_is_not_good_is_no_value() {
    let bench = Bench::new(3).await;
    let agent = AgentId::parse("gateway").unwrap();
    let (mut builder, mut boxes) = (BlockBuilder::new(), Boxes::new());
    let given = [
        (Reading::Text("läuft".into()), Quality::Good),
        (Reading::Float(7.5), Quality::Bad),
        (Reading::Null, Quality::Uncertain),
        (Reading::Int(i64::MAX), Quality::Good),
        (Reading::Null, Quality::Good),
    ];
    let samples: Vec<Sample> = given
        .into_iter()
        .zip(100..)
        .map(|((value, quality), i)| Sample {
            time_ns: T0_NS + i * STEP_NS,
            value: boxes.word(value, quality),
        })
        .collect();
    builder.push_boxed(&[(0, &samples)], &boxes);
    let block = builder.finish();
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(99),
        rows: block.rows,
        series_end: 3,
        restamps: vec![],
    };
    let run = Run { envelope, block: block.bytes };
    let batch = Batch::<Received>::received(agent, run).validate(3).unwrap();
    bench.hub.store.append(batch).await.unwrap();
    let settling = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || settling.settle()).await.unwrap().unwrap();
    let own = "FROM readings WHERE device = 'pump-1' AND point = 'temp'";
    for (sql, want) in [
        (
            format!("SELECT value, text, quality {own} ORDER BY time OFFSET 3"),
            json!([
                [null, "läuft", "good"],
                [null, null, "bad"],
                [null, null, "uncertain"],
                [9_223_372_036_854_775_808.0, null, "good"],
                [null, null, "good"]
            ]),
        ),
        (format!("SELECT count(value), count(*) {own}"), json!([[4, 8]])),
        (
            format!("SELECT quality, count(*) AS n {own} GROUP BY quality ORDER BY n, quality DESC"),
            json!([["uncertain", 1], ["bad", 1], ["good", 6]]),
        ),
        (
            "SELECT DISTINCT text, quality FROM readings WHERE point = 'level'".to_owned(),
            json!([[null, "good"]]),
        ),
        (
            "SELECT sum(count) FROM rollups_1d WHERE point = 'temp' AND device = 'pump-1'".to_owned(),
            json!([[4]]),
        ),
    ] {
        assert_eq!(bench.rows(&sql).await, want, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_four_formats() {
    let bench = Bench::new(3).await;
    let sql = "SELECT time, value FROM readings WHERE point = 'level'";
    let (_, headers, csv) = bench.send(Door::Socket, json!({"sql": sql}), &[("accept", "text/csv")]).await;
    assert_eq!(headers["tideline-rows"], "3");
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/csv"));
    assert_eq!(csv, b"time,value\r\n2025-10-09T08:53:20Z,1000000.0\r\n2025-10-09T08:53:21Z,1000000.5\r\n2025-10-09T08:53:22Z,1000001.0\r\n");
    let (_, headers, parquet) = bench.send(Door::Socket, json!({"sql": sql, "format": "parquet"}), &[]).await;
    assert_eq!(headers[header::CONTENT_TYPE], Format::Parquet.media_type());
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let (_, headers, arrow) = bench
        .send(Door::Socket, json!({"sql": sql}), &[("accept", "application/vnd.apache.arrow.stream")])
        .await;
    assert_eq!(headers[header::CONTENT_TYPE], Format::Arrow.media_type());
    // A message of the stream begins with these four bytes, and so does its end.
    assert!(arrow.starts_with(&[255; 4]) && arrow.ends_with(&[255, 255, 255, 255, 0, 0, 0, 0]));
    let (_, _, json) = bench.send(Door::Socket, json!({"sql": sql}), &[]).await;
    let read: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        read["columns"],
        json!([{"name": "time", "type": "timestamp"}, {"name": "value", "type": "double"}])
    );
    for (body, accept, status) in [
        (json!({"sql": sql, "format": "xml"}), "*/*", 400),
        (json!({"sql": sql}), "image/png", 406),
        (json!({"sql": sql, "limit": 1}), "*/*", 422),
        (json!({}), "*/*", 422),
    ] {
        let (found, _, problem) = bench.send(Door::Socket, body.clone(), &[("accept", accept)]).await;
        assert_eq!(found.as_u16(), status, "{body}: {}", String::from_utf8_lossy(&problem));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_query_may_ask() {
    use cloud_hub::api::auth::TOKEN_PREFIX;
    let bench = Bench::new(3).await;
    let body = json!({"sql": "SELECT count(*) FROM readings"});
    let (status, _, _) = bench.send(Door::Plain, body.clone(), &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let token = |asked: Value| {
        let hub = Arc::clone(&bench.hub);
        async move {
            let request = Request::post("/api/v1/tokens").header("content-type", "application/json");
            let request = request.body(Body::from(asked.to_string())).unwrap();
            let response = router(hub, Door::Socket).oneshot(request).await.unwrap();
            let made = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            serde_json::from_slice::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
        }
    };
    let viewer = token(json!({"name": "viewer", "role": "viewer"})).await;
    assert!(viewer.starts_with(TOKEN_PREFIX));
    let bearer = format!("Bearer {viewer}");
    let (status, _, answer) = bench.send(Door::Plain, body.clone(), &[("authorization", &bearer)]).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    let writer = token(json!({"name": "writer", "role": "writer", "devices": ["pump-1"]})).await;
    let bearer = format!("Bearer {writer}");
    let (status, _, _) = bench.send(Door::Plain, body, &[("authorization", &bearer)]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_before_anything_runs() {
    let bench = Bench::new(3).await;
    let told = bench.refused("SELECT * FROM read_csv('/etc/passwd')", 400, "sql-not-allowed").await;
    assert!(told.contains("read_csv") && told.contains("rollups_1m"), "{told}");
    let told = bench.refused("SELEC 1", 400, "sql-syntax").await;
    assert!(told.contains("SELEC"), "{told}");
    bench.refused(&" ".repeat(20_000), 400, "sql-too-long").await;
    let told = bench.refused("SELECT speed FROM readings", 400, "sql-failed").await;
    assert!(told.contains("speed") && !told.contains("plan"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_limited_on_both_sides() {
    let limits = SqlLimits { input_rows_max: 1_000, rows_max: 10, ..SqlLimits::default() };
    let bench = Bench::with(400, limits).await;
    let told = bench.refused("SELECT count(*) FROM readings", 422, "sql-input").await;
    assert!(told.contains("1200 rows") && told.contains("1000") && told.contains("rollups_1h"), "{told}");
    let told = bench
        .refused("SELECT count(*) FROM readings WHERE time >= '2025-10-09 08:54:00'", 422, "sql-input")
        .await;
    // 1200 less 3 × 39: the time is taken a second wider than it is asked.
    assert!(told.contains("1083 rows"), "{told}");
    assert_eq!(bench.rows("SELECT count(*) FROM readings WHERE device = 'pump-1'").await, json!([[800]]));
    assert_eq!(bench.rows("SELECT sum(count) FROM rollups_1m").await, json!([[1200]]));
    let told = bench.refused("SELECT value FROM readings WHERE device = 'pump-2'", 422, "sql-rows").await;
    assert!(told.contains("more than 10 rows"), "{told}");
    assert_eq!(bench.rows("SELECT value FROM readings LIMIT 10").await.as_array().unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_too_much_memory_is_ended_and_the_hub_lives_on() {
    let bench = Bench::with(20_000, SqlLimits { memory_mb: 256, ..SqlLimits::default() }).await;
    // 60,000 rows with themselves are 3.6 thousand million.
    let greedy = "SELECT a.value AS x, b.value AS y FROM readings a CROSS JOIN readings b ORDER BY x, y";
    let told = bench.refused(greedy, 422, "sql-memory").await;
    assert!(told.contains("256 MB"), "{told}");
    assert_eq!(bench.rows("SELECT count(*) FROM readings").await, json!([[60_000]]));
    assert_eq!(bench.hub.statements.available_permits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_too_long_is_ended() {
    let bench = Bench::with(300_000, SqlLimits { time_max_s: 1, ..SqlLimits::default() }).await;
    let told = bench.refused(&slow(), 422, "sql-time").await;
    assert!(told.contains("1 s"), "{told}");
    assert_eq!(bench.hub.statements.available_permits(), 2);
    until("the child has ended", || children().is_empty()).await;
}

/// The processes that this one has started for statements.
fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut after = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, parent) = (after.next(), after.next());
        parent == Some(&own) && state != Some("Z")
    };
    all.filter(is_child).collect()
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let seen = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_can_open_nothing_and_ends_with_its_client() {
    let bench = Bench::new(300_000).await;
    let sql = slow();
    let mut asking = Box::pin(bench.ask(&sql));
    let limited = || {
        let pids = children();
        let limits = pids
            .first()
            .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default());
        limits.is_some_and(|limits| {
            limits.lines().any(|l| l.starts_with("Max open files") && l.contains(" 3 "))
        })
    };
    tokio::select! {
        answer = &mut asking => panic!("it is answered: {answer:?}"),
        () = until("a child with limits", limited) => {}
    }
    let pid = children()[0];
    let of = |what: &str| PathBuf::from(format!("/proc/{pid}/{what}"));
    let limits = std::fs::read_to_string(of("limits")).unwrap();
    let limit = |name: &str| limits.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(!limit("Max address space").contains("unlimited"), "{limits}");
    assert!(limit("Max cpu time").contains(" 61 "), "{limits}");
    assert!(limit("Max file size").contains(" 0 "), "{limits}");
    for fd in 0..3 {
        let target = std::fs::read_link(of(&format!("fd/{fd}"))).unwrap();
        assert!(target.to_str().unwrap().starts_with("pipe:"), "{target:?}");
    }
    assert_eq!(std::fs::read_link(of("cwd")).unwrap(), Path::new("/"));
    let environ = std::fs::read_to_string(of("environ")).unwrap();
    let names: Vec<&str> =
        environ.split('\0').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, ["MALLOC_ARENA_MAX", "POLARS_MAX_THREADS"]);
    // The client leaves.
    drop(asking);
    until("the child has ended", || children().is_empty()).await;
    until("its turn is given back", || bench.hub.statements.available_permits() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_all_turns_taken_is_told_to_come_again() {
    let bench = Bench::with(3, SqlLimits { at_once: 1, ..SqlLimits::default() }).await;
    let turn = bench.hub.statements.acquire().await.unwrap();
    let body = json!({"sql": "SELECT count(*) FROM readings"});
    let (status, headers, problem) = bench.send(Door::Socket, body.clone(), &[]).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("sql-busy")));
    assert!(headers.contains_key(header::RETRY_AFTER));
    drop(turn);
    assert_eq!(bench.send(Door::Socket, body, &[]).await.0, StatusCode::OK);
}

#[test]
fn a_child_whose_hub_is_gone_ends() {
    let mut child = Command::new(program())
        .args(["sql-worker", "--memory-bytes", "1000000000", "--cpu-s", "3600"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let job = Job {
        sql: slow(),
        format: Format::Json,
        rows_max: 10,
        tables: [(Table::Readings, 2_000_000)].into(),
        texts: Vec::new(),
        devices: Vec::new(),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&feed::job(&job).unwrap()).unwrap();
    let (times, values) = (vec![0_i64; 50_000], vec![1.0_f64; 50_000]);
    let columns = [feed::Numbers::I64(&times), feed::Numbers::F64(&values)];
    for _ in 0..40 {
        stdin.write_all(&feed::block(Table::Readings, ["a", "b", ""], &columns).unwrap()).unwrap();
    }
    stdin.write_all(&feed::end()).unwrap();
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
