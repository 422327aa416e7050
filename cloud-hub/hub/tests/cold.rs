//! SQL over the cold tier, in processes of the real program: the same columns as those of readings, no more than asked for is
//! read, and nobody sees what is not theirs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails where it is wrong")]

use std::path::PathBuf;
use std::sync::Arc;

use cloud_hub::config::{Config, SqlLimits};
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::Metadata;
use cloud_hub::sql::{self, Scope, SqlError};
use cloud_hub::twins::{TWINS, Twins};
use serde_json::{Value, json};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::Batch;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::value::{Boxes, Quality, Value as Reading};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_sql::{Format, check};
use tideline_store::buckets::DAY_NS;
use tideline_store::{Limit, Retention, Store, StoreConfig};

const EPOCH: Epoch = Epoch::from_bytes([3; 16]);
/// Three hours before midnight.
const T0_NS: i64 = 20_370 * DAY_NS + 21 * 3_600_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

struct Bench {
    hub: App,
    _dir: tempfile::TempDir,
}

/// `pump-1/temp`, `pump-1/level` and `pump-2/temp`: each minute of so many from `begin_ns` on.
async fn fill(store: &Store, (seq, begin_ns): (u64, i64), rows: i64) {
    let agent = AgentId::parse("gateway").unwrap();
    let def = |device: &str, point: &str| {
        SeriesDef::new(DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap(), "Cel".to_owned())
    };
    let defs = vec![def("pump-1", "temp"), def("pump-1", "level"), def("pump-2", "temp")];
    let known = store.define_series(agent.clone(), EPOCH, Series { first: 0, defs }).await.unwrap();
    let mut boxes = Boxes::new();
    let mut samples = |series: u32| -> Vec<Sample> {
        let value = |i: i64| match (series, i) {
            (1, 1) => (Reading::Text("läuft".into()), Quality::Good),
            (1, 2) => (Reading::Float(7.5), Quality::Bad),
            _ => (
                Reading::Float(f64::from(series * 1000) + f64::from(i32::try_from(i).unwrap())),
                Quality::Good,
            ),
        };
        let sample = |i: i64| {
            let (value, quality) = value(i);
            Sample { time_ns: begin_ns + i * MINUTE_NS, value: boxes.word(value, quality) }
        };
        (0..rows).map(sample).collect()
    };
    let all = [0, 1, 2].map(&mut samples);
    let items: Vec<(u32, &[Sample])> = (0..).zip(all.iter().map(Vec::as_slice)).collect();
    let mut builder = BlockBuilder::new();
    builder.push_boxed(&items, &boxes);
    let block = builder.finish();
    let (epoch, lane, first, rows) = (EPOCH, Lane::Live, Seq::new(seq), block.rows);
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end: known, restamps: vec![] };
    let batch = Batch::received(agent, Run { envelope, block: block.bytes }).validate(known).unwrap();
    store.append(batch).await.unwrap();
    let flushing = store.clone();
    tokio::task::spawn_blocking(move || flushing.flush()).await.unwrap().unwrap();
}

impl Bench {
    /// A hub with six hours of readings that are cold, and one hour of them from now.
    async fn new(limits: SqlLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sql = SqlLimits { program: PathBuf::from(env!("CARGO_BIN_EXE_cloud-hub")), ..limits };
        let config = Config { data_dir: dir.path().to_owned(), sql, ..Config::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let metadata = Metadata::open(&dir.path().join("hub.redb")).unwrap();
        let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
        let raw = Limit { age_ns: Some(DAY_NS), bytes: None };
        let retention = Retention { raw, freezes: true, ..Retention::default() };
        let kept = StoreConfig { retention, compact: false, ..StoreConfig::new(dir.path().join("store")) };
        let (store, _) = Store::open(kept, Arc::clone(&clock)).unwrap();
        fill(&store, (1, T0_NS), 360).await;
        fill(&store, (2, clock.wall_ns() - 60 * MINUTE_NS), 60).await;
        let retaining = store.clone();
        tokio::task::spawn_blocking(move || retaining.retain()).await.unwrap().unwrap();
        assert_eq!((store.cold().rows, store.cold().files), (3 * 360, 2));
        let authority = CertificateAuthority::create("test", clock.wall_ns() / 1_000_000_000).unwrap();
        let hub = Hub::new(config, clock, metadata, twins, store, authority, Addresses::default()).unwrap();
        Self { hub, _dir: dir }
    }

    async fn ask(&self, text: &str, scope: Option<Scope>) -> Result<Value, SqlError> {
        let statement = check(text, self.hub.clock.wall_ns()).unwrap();
        let mut answer = sql::run_in(&self.hub, statement, Format::Json, scope).await?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.next(1 << 16).await.unwrap() {
            bytes.extend(part);
        }
        Ok(serde_json::from_slice::<Value>(&bytes).unwrap()["rows"].take())
    }

    async fn rows(&self, text: &str) -> Value {
        self.ask(text, None).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cold_tier_is_a_table_beside_the_readings() {
    let bench = Bench::new(SqlLimits::default()).await;
    let ms = |minutes: i64| (T0_NS + minutes * MINUTE_NS) / 1_000_000;
    for (text, want) in [
        ("SELECT count(*) FROM cold", json!([[1080]])),
        ("SELECT count(*) FROM readings", json!([[180]])),
        (
            "SELECT count(time) FROM (SELECT time FROM readings UNION ALL SELECT time FROM cold) AS r",
            json!([[1260]]),
        ),
        ("SELECT count(*) FROM (SELECT * FROM readings UNION ALL SELECT * FROM cold) AS r", json!([[1260]])),
        (
            "SELECT * FROM cold WHERE point = 'level' ORDER BY time LIMIT 4",
            json!([
                ["pump-1", "level", "Cel", ms(0), 1000.0, null, "good"],
                ["pump-1", "level", "Cel", ms(1), null, "läuft", "good"],
                ["pump-1", "level", "Cel", ms(2), null, null, "bad"],
                ["pump-1", "level", "Cel", ms(3), 1003.0, null, "good"],
            ]),
        ),
        // Texts of one table are not those of the other.
        (
            "SELECT text, count(*) FROM (SELECT text FROM cold UNION ALL SELECT text FROM readings) AS r WHERE text IS NOT NULL GROUP BY text",
            json!([["läuft", 2]]),
        ),
        ("SELECT count(*) FROM cold WHERE time >= '2025-10-10'", json!([[540]])),
        (
            "SELECT count(*), max(value) FROM cold WHERE device = 'pump-2' AND time < '2025-10-10'",
            json!([[180, 2179.0]]),
        ),
        ("SELECT count(*) FROM (SELECT value FROM cold LIMIT 7) AS r", json!([[7]])),
        ("SELECT count(*) FROM cold WHERE device = 'pump-3'", json!([[0]])),
    ] {
        assert_eq!(bench.rows(text).await, want, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_devices_that_the_asker_may_not_see_are_in_no_answer() {
    let bench = Bench::new(SqlLimits::default()).await;
    let scope = |device: &'static str| {
        let takes = Arc::new(move |info: &tideline_store::SeriesInfo| info.device.as_str() == device);
        Some(Scope { takes, rows_max: 1000 })
    };
    let text = "SELECT device, count(*) FROM cold GROUP BY device ORDER BY device";
    assert_eq!(bench.rows(text).await, json!([["pump-1", 720], ["pump-2", 360]]));
    assert_eq!(bench.ask(text, scope("pump-2")).await.unwrap(), json!([["pump-2", 360]]));
    assert_eq!(bench.ask(text, scope("pump-3")).await.unwrap(), json!([]));
    let named = "SELECT count(*) FROM cold WHERE device = 'pump-1'";
    assert_eq!(bench.ask(named, scope("pump-2")).await.unwrap(), json!([[0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_rows_counts_what_is_read_of_the_cold_tier() {
    let bench = Bench::new(SqlLimits { input_rows_max: 500, ..SqlLimits::default() }).await;
    let refused = bench.ask("SELECT count(*) FROM cold", None).await.unwrap_err();
    assert!(matches!(refused, SqlError::Input { most: 500, .. }), "{refused}");
    // What is not sent does not count, though it stands in the same files.
    assert_eq!(bench.rows("SELECT count(*) FROM cold WHERE device = 'pump-2'").await, json!([[360]]));
    assert_eq!(bench.rows("SELECT count(*) FROM cold WHERE time < '2025-10-09 22:00'").await, json!([[180]]));
}
