//! Jobs with a statement of SQL: each window's in a process of the real program, by the rights of who defined the job.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test fails where it is wrong"
)]

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cloud_hub::api::{Door, router};
use cloud_hub::config::{Config, SqlLimits};
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::{DeviceRecord, Metadata};
use cloud_hub::twins::{TWINS, Twins};
use cloud_hub::{jobs, writes};
use serde_json::{Value, json};
use tideline_formats::Column;
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::model::{AgentId, DeviceId, PointId, Sample};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::value::{Boxes, ValueKind};
use tideline_store::{Store, StoreConfig};
use tower::ServiceExt as _;

const MS: i64 = 1_000_000;

struct Bench {
    hub: App,
    dir: tempfile::TempDir,
    limits: SqlLimits,
}

fn open(dir: &tempfile::TempDir, limits: &SqlLimits) -> App {
    let sql = SqlLimits { program: PathBuf::from(env!("CARGO_BIN_EXE_cloud-hub")), ..limits.clone() };
    let config = Config { data_dir: dir.path().to_owned(), sql, ..Config::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let metadata = Metadata::open(&dir.path().join("hub.redb")).unwrap();
    let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
    let mut kept = StoreConfig::new(dir.path().join("store"));
    kept.keep_log_from = jobs::oldest_segment(&dir.path().join(jobs::FOLDER)).unwrap();
    let (store, _) = Store::open(kept, Arc::clone(&clock)).unwrap();
    let authority = CertificateAuthority::create("test", clock.wall_ns() / 1_000_000_000).unwrap();
    Hub::new(config, clock, metadata, twins, store, authority, Addresses::default()).unwrap()
}

impl Bench {
    async fn new(limits: SqlLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = open(&dir, &limits);
        jobs::start(&hub).await.unwrap();
        Self { hub, dir, limits }
    }

    /// The hub ends, and starts again on what it has kept.
    async fn again(self) -> Self {
        let Self { hub, dir, limits } = self;
        jobs::stop(&hub).await;
        let store = hub.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(2));
        while Arc::strong_count(&hub) > 1 {
            looks.tick().await;
        }
        drop(hub);
        let hub = open(&dir, &limits);
        jobs::start(&hub).await.unwrap();
        Self { hub, dir, limits }
    }

    async fn ask(&self, bearer: Option<&str>, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "hub");
        request = request.header("content-type", "application/json");
        if let Some(token) = bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let door = if bearer.is_some() { Door::Plain } else { Door::Socket };
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = router(Arc::clone(&self.hub), door).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 26).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn put(&self, name: &str, definition: Value) -> Value {
        let (status, made) = self.ask(None, "PUT", &format!("/api/v1/jobs/{name}"), definition).await;
        assert!(status < 300, "{made}");
        made
    }

    async fn shown(&self, name: &str) -> Value {
        self.ask(None, "GET", &format!("/api/v1/jobs/{name}"), Value::Null).await.1
    }

    /// The job as it is once this holds of it.
    async fn once(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(10));
        loop {
            looks.tick().await;
            let shown = self.shown(name).await;
            if holds(&shown) {
                return shown;
            }
        }
    }

    /// Returns once so many windows were answered and all of it is saved.
    async fn answered(&self, name: &str, windows: u64) {
        self.once(name, |shown| shown["statement"]["answered"] == windows).await;
        for command in ["pause", "resume"] {
            let (status, found) =
                self.ask(None, "POST", &format!("/api/v1/jobs/{name}/{command}"), Value::Null).await;
            assert_eq!(status, 200, "{found}");
        }
    }

    async fn write(&self, columns: &[(&str, &[(i64, f64)])]) {
        let writer = AgentId::parse("_write.rig").unwrap();
        self.hub.metadata.put(writer.as_str(), &DeviceRecord::behind(writer.to_string(), 1)).unwrap();
        let column = |(series, rows): &(&str, &[(i64, f64)])| {
            let (device, point) = series.split_once('/').unwrap();
            let sample = |(ms, value): &(i64, f64)| Sample { time_ns: ms * MS, value: *value };
            Column {
                device: DeviceId::parse(device).unwrap(),
                point: PointId::parse(point).unwrap(),
                kind: ValueKind::Float,
                samples: rows.iter().map(sample).collect(),
                boxes: Boxes::new(),
            }
        };
        writes::store(&self.hub, &writer, columns.iter().map(column).collect(), None).await.unwrap();
    }

    /// All readings of a series by time, and by arrival among equal ones; none for what is no number.
    fn readings(&self, series: &str) -> Vec<(i64, Option<f64>)> {
        self.hub.store.settle().unwrap();
        let all = self.hub.store.series(None);
        let Some(info) = all.iter().find(|info| format!("{}/{}", info.device, info.point) == series) else {
            return Vec::new();
        };
        let page = self.hub.store.query_raw(&[info.id], i64::MIN, i64::MAX, None, 100_000).unwrap();
        let column = &page.series[0];
        let number = |value: &f64| Some(*value).filter(|value| !value.is_nan());
        column.times.iter().map(|ns| ns / MS).zip(column.values.iter().map(number)).collect()
    }
}

/// A job over seconds, which gives series and rows.
fn definition(sql: &str, point: &str) -> Value {
    json!({
        "source": {"devices": ["pump-*"], "points": ["t", "note"]},
        "window": {"kind": "tumbling", "length_ms": 1_000},
        "sql": sql,
        "time": {"out_of_orderness_ms": 0, "idle_timeout_ms": 31_000_000_000_u64},
        "late": {"allowed_ms": 60_000},
        "sinks": [{"kind": "series", "point": point}, {"kind": "rows"}, {"kind": "live"}],
    })
}

const MEANS: &str = "SELECT device, point, avg(value) AS mean, count(*) AS n, max(time) AS last FROM readings \
    WHERE value < 100 GROUP BY device, point ORDER BY device";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_run_for_each_window_and_its_rows_are_series_and_rows() {
    let bench = Bench::new(SqlLimits::default()).await;
    bench.put("means", definition(MEANS, "{point}-{aggregate}")).await;
    bench.write(&[("pump-1/t", &[(100, 1.0), (900, 3.0)]), ("pump-2/t", &[(500, 8.0)])]).await;
    // Not of the source, and not of the window.
    bench.write(&[("fan/t", &[(300, 50.0)]), ("pump-1/other", &[(300, 50.0)])]).await;
    bench.write(&[("pump-1/t", &[(1_200, 7.0)]), ("pump-2/t", &[(2_500, 9.0)])]).await;
    bench.answered("means", 1).await;
    assert_eq!(bench.readings("pump-1/t-mean"), [(0, Some(2.0))]);
    assert_eq!(bench.readings("pump-2/t-n"), [(0, Some(1.0))]);
    assert_eq!(bench.hub.store.series(None).len(), 8);
    let (_, rows) = bench.ask(None, "GET", "/api/v1/jobs/means/rows", Value::Null).await;
    let row = json!({"number": 1, "device": "pump-1", "point": "t", "from_ms": 0, "to_ms": 1_000, "from_ns": "0",
        "to_ns": "1000000000", "revision": 0, "values": {"mean": 2.0, "n": 2.0},
        "texts": {"last": "1970-01-01T00:00:00.9Z"}});
    assert_eq!((&rows["rows"][0], rows["rows"].as_array().unwrap().len()), (&row, 2));
    // What the job has given survives a restart, and so does what it has not: the window that closes afterwards.
    let bench = bench.again().await;
    bench.write(&[("pump-1/t", &[(3_000, 1.0)])]).await;
    bench.answered("means", 2).await;
    assert_eq!(bench.readings("pump-1/t-mean"), [(0, Some(2.0)), (1_000, Some(7.0))]);
    let shown = bench.shown("means").await;
    assert_eq!((&shown["author"], &shown["statement"]["watermark_ms"]), (&json!("local"), &json!(2_500)));
    assert_eq!(shown["figures"]["results"], 3);
    jobs::stop(&bench.hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_readings_run_just_their_windows_again_and_what_is_void_is_taken_back() {
    let bench = Bench::new(SqlLimits::default()).await;
    let quiet =
        "SELECT device, point, max(value) AS peak FROM readings GROUP BY device, point HAVING max(value) < 5";
    bench.put("quiet", definition(quiet, "{point}.{aggregate}")).await;
    bench.write(&[("pump-1/t", &[(100, 1.0)]), ("pump-2/t", &[(200, 2.0)])]).await;
    bench.write(&[("pump-1/t", &[(1_100, 3.0), (2_000, 0.0)]), ("pump-2/t", &[(2_000, 0.0)])]).await;
    bench.answered("quiet", 2).await;
    bench.write(&[("pump-1/t", &[(300, 9.0)])]).await;
    bench.answered("quiet", 3).await;
    assert_eq!(bench.readings("pump-1/t.peak"), [(0, Some(1.0)), (0, None), (1_000, Some(3.0))]);
    assert_eq!(bench.readings("pump-2/t.peak"), [(0, Some(2.0)), (0, Some(2.0))]);
    let (_, rows) = bench.ask(None, "GET", "/api/v1/jobs/quiet/rows", Value::Null).await;
    let of = |row: &Value| (row["device"].clone(), row["revision"].clone(), row["values"].clone());
    let told: Vec<_> = rows["rows"].as_array().unwrap()[3..].iter().map(of).collect();
    assert_eq!(
        told,
        [(json!("_job.quiet"), json!(4), Value::Null), (json!("pump-2"), json!(4), json!({"peak": 2.0}))]
    );
    jobs::stop(&bench.hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_run_fails_is_told_and_holds_up_no_other() {
    let bench = Bench::new(SqlLimits { input_rows_max: 3, ..SqlLimits::default() }).await;
    bench
        .put("sums", definition("SELECT device, sum(value) AS sum FROM readings GROUP BY device", "sum"))
        .await;
    bench.write(&[("pump-1/t", &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)])]).await;
    bench.write(&[("pump-1/t", &[(1_001, 1.0), (2_000, 1.0)])]).await;
    let shown = bench.once("sums", |shown| shown["statement"]["answered"] == 1).await;
    assert_eq!(shown["statement"]["due"], 1);
    let waiting = &shown["statement"]["waiting"][0];
    assert_eq!((&waiting["from_ms"], &waiting["to_ms"]), (&json!(0), &json!(1_000)));
    assert!(waiting["reason"].as_str().unwrap().contains("allowed are 3"), "{waiting}");
    assert!(waiting["attempts"].as_u64().unwrap() > 0);
    let page = cloud_hub::telemetry::jobs(&bench.hub.jobs.views());
    assert!(page.contains("tideline_job_statement_runs_total{job=\"sums\"} 1"), "{page}");
    jobs::stop(&bench.hub).await;
    assert_eq!(bench.readings("pump-1/sum"), [(1_000, Some(1.0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_author_has_lost_the_right_fails_and_says_so() {
    let bench = Bench::new(SqlLimits::default()).await;
    let (_, made) = bench.ask(None, "POST", "/api/v1/tokens", json!({"name": "rig", "role": "admin"})).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let sums = definition("SELECT device, sum(value) AS sum FROM readings GROUP BY device", "sum");
    let (status, made) = bench.ask(Some(&token), "PUT", "/api/v1/jobs/sums", sums.clone()).await;
    assert_eq!((status, &made["author"]), (201, &json!("token rig")), "{made}");
    bench.write(&[("pump-1/t", &[(1, 1.0), (1_000, 1.0)])]).await;
    bench.answered("sums", 1).await;
    let (_, tokens) = bench.ask(None, "GET", "/api/v1/tokens", Value::Null).await;
    let id = tokens["tokens"][0]["id"].as_str().unwrap();
    assert_eq!(bench.ask(None, "DELETE", &format!("/api/v1/tokens/{id}"), Value::Null).await.0, 204);
    bench.write(&[("pump-1/t", &[(2_000, 1.0)])]).await;
    let shown = bench.once("sums", |shown| shown["phase"] == "failed").await;
    let reason = "token rig, who defined it, is no more; whoever may run its statement can define it again";
    assert_eq!(shown["reason"], reason);
    assert_eq!(bench.readings("pump-1/sum"), [(0, Some(1.0))]);
    // It goes on where it was for who may.
    assert_eq!(bench.put("sums", sums).await["author"], "local");
    bench.answered("sums", 2).await;
    assert_eq!(bench.readings("pump-1/sum"), [(0, Some(1.0)), (1_000, Some(1.0))]);
    jobs::stop(&bench.hub).await;
}
