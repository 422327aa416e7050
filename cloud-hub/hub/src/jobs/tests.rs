//! Jobs over restarts, in one process.

use serde_json::{Value, json};
use tideline_formats::Column;
use tideline_protocol::model::{AgentId, DeviceId, PointId, Sample};
use tideline_store::StoreConfig;

use super::*;
use crate::api::tests::hub_on;
use crate::config::Config;
use crate::metadata::DeviceRecord;
use crate::writes;

const MS: i64 = 1_000_000;

fn options(dir: &Path) -> StoreConfig {
    let mut options = StoreConfig::new(dir.join("store"));
    options.keep_log_from = oldest_segment(&dir.join(FOLDER)).unwrap();
    // A segment holds some batches, so that the log is read over many.
    options.log_segment_bytes_max = 2_000;
    options.flush_interval = Duration::from_secs(3600);
    options
}

/// A hub whose jobs are started, as at its start.
async fn open(dir: &Path) -> App {
    let hub = hub_on(dir, Config::default(), options(dir));
    start(&hub).await.unwrap();
    hub
}

/// As a kill would end it: nothing is saved but what was.
async fn kill(hub: App) {
    let running: Vec<_> = hub.jobs.all().values_mut().filter_map(|entry| entry.running.take()).collect();
    for (_, work) in running {
        work.abort();
        let _aborted = work.await;
    }
    close(hub).await;
}

async fn close(hub: App) {
    stop(&hub).await;
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}

fn column(series: &str, rows: &[(i64, f64)]) -> Column {
    let (device, point) = series.split_once('/').unwrap();
    let sample = |(ms, value): &(i64, f64)| Sample { time_ns: ms * MS, value: *value };
    Column {
        device: DeviceId::parse(device).unwrap(),
        point: PointId::parse(point).unwrap(),
        samples: rows.iter().map(sample).collect(),
    }
}

async fn write(hub: &App, columns: Vec<Column>) {
    let writer = AgentId::parse("_write.rig").unwrap();
    let record = DeviceRecord {
        agent: writer.to_string(),
        key_hash: String::new(),
        enrolled_ms: 1,
        revoked: false,
        last_seen_ms: None,
    };
    hub.metadata.put(writer.as_str(), &record).unwrap();
    writes::store(hub, &writer, columns, None).await.unwrap();
}

/// A job with the defaults of these tests: no idle devices, no bound.
fn job(name: &str, more: Value) -> Job {
    let mut all = json!({
        "name": name,
        "source": {"devices": ["pump-*"], "points": ["t"]},
        "window": {"kind": "tumbling", "length_ms": 10},
        "aggregates": ["mean", "count"],
        "time": {"out_of_orderness_ms": 0, "idle_timeout_ms": null},
        "sinks": [{"kind": "series", "point": "{point}-{aggregate}"}, {"kind": "rows"}],
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    check(serde_json::from_value(all).unwrap()).unwrap()
}

/// Returns when a job has taken in all that was stored before.
async fn caught_up(hub: &App, name: &str) -> View {
    let end = LogPlace::from(*hub.store.log_end().borrow());
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    loop {
        looks.tick().await;
        let shown = show(hub, name).unwrap();
        assert_eq!(shown.record.life.reason(), None);
        let view = shown.view.unwrap();
        if view.place >= end {
            return view;
        }
    }
}

/// As [`caught_up`], and has it save what follows.
async fn drained(hub: &App, name: &str) -> View {
    caught_up(hub, name).await;
    pause(hub, name).await.unwrap();
    show(hub, name).unwrap().view.unwrap()
}

/// All readings of a series, as (ms, value), by arrival among equal times.
fn readings(hub: &App, series: &str) -> Vec<(i64, f64)> {
    hub.store.settle().unwrap();
    let all = hub.store.series(None);
    let Some(info) = all.iter().find(|info| format!("{}/{}", info.device, info.point) == series) else {
        return Vec::new();
    };
    let page = hub.store.query_raw(&[info.id], i64::MIN, i64::MAX, None, 100_000).unwrap();
    let rows = |c: &tideline_store::RawColumn| -> Vec<(i64, f64)> {
        c.times.iter().map(|ns| ns / MS).zip(c.values.iter().copied()).collect()
    };
    page.series.first().map(rows).unwrap_or_default()
}

#[tokio::test]
async fn a_job_gives_its_results_as_a_series_and_as_rows() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path()).await;
    assert!(put(&hub, job("means", json!({}))).await.unwrap());
    write(&hub, vec![column("pump-1/t", &[(1, 2.0), (4, 4.0), (12, 1.0)]), column("fan/t", &[(1, 9.0)])])
        .await;
    write(&hub, vec![column("pump-1/t", &[(25, 7.0)]), column("pump-1/u", &[(1, 9.0)])]).await;
    let view = drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/t-mean"), [(0, 3.0), (10, 1.0)]);
    assert_eq!(readings(&hub, "pump-1/t-count"), [(0, 2.0), (10, 1.0)]);
    assert_eq!(hub.store.series(None).len(), 5);
    let shown = show(&hub, "means").unwrap();
    let view = shown.view.unwrap();
    assert_eq!(
        (shown.record.life.phase(), view.totals.results, view.totals.counts.rows),
        (Phase::Paused, 2, 4)
    );
    let rows: Vec<_> =
        view.rows.iter().map(|row| (row.number, row.start_ns / MS, row.values.clone())).collect();
    let values = |mean: f64, count: f64| Some(vec![("mean".to_owned(), mean), ("count".to_owned(), count)]);
    assert_eq!(rows, [(1, 0, values(3.0, 2.0)), (2, 10, values(1.0, 1.0))]);
    // Its results stand in the ledger as what they are: the job's.
    let ledger = hub.store.ledger(&AgentId::parse("_job.means").unwrap());
    assert_eq!((ledger.len(), ledger[0].stored, ledger[0].balanced), (1, 4, true));
    close(hub).await;
}
