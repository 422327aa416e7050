//! Jobs over restarts, in one process.

mod goldens;

use serde_json::{Value, json};
use std::time::Duration;
use tideline_formats::Column;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::Batch;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::value::{Boxes, ValueKind};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
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

async fn put(hub: &App, job: Job) -> Result<bool, JobError> {
    super::put(hub, job, Author::Local).await
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
    // What a blocking thread still has in hand ends by itself.
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while Arc::strong_count(&hub) > 1 {
        looks.tick().await;
    }
}

fn column(series: &str, rows: &[(i64, f64)]) -> Column {
    let (device, point) = series.split_once('/').unwrap();
    let sample = |(ms, value): &(i64, f64)| Sample { time_ns: ms * MS, value: *value };
    Column {
        device: DeviceId::parse(device).unwrap(),
        point: PointId::parse(point).unwrap(),
        kind: ValueKind::Float,
        samples: rows.iter().map(sample).collect(),
        boxes: Boxes::new(),
    }
}

async fn write(hub: &App, columns: Vec<Column>) {
    let writer = AgentId::parse("_write.rig").unwrap();
    let record = DeviceRecord::behind(writer.to_string(), 1);
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

/// What stands for a null among the readings of a series.
const NOTHING: f64 = -1e9;

/// All readings of a series, as (ms, value), by arrival among equal times.
fn readings(hub: &App, series: &str) -> Vec<(i64, f64)> {
    hub.store.settle().unwrap();
    let all = hub.store.series(None);
    let Some(info) = all.iter().find(|info| format!("{}/{}", info.device, info.point) == series) else {
        return Vec::new();
    };
    let page = hub.store.query_raw(&[info.id], i64::MIN, i64::MAX, None, 100_000).unwrap();
    let rows = |c: &tideline_store::RawColumn| -> Vec<(i64, f64)> {
        let number = |value: &f64| if value.is_nan() { NOTHING } else { *value };
        c.times.iter().map(|ns| ns / MS).zip(c.values.iter().map(number)).collect()
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
    let phase = show(&hub, "means").unwrap().record.life.phase();
    assert_eq!((phase, view.totals.results, view.totals.counts.rows), (Phase::Paused, 2, 4));
    let rows: Vec<_> =
        view.rows.iter().map(|row| (row.number, row.start_ns / MS, row.values.clone())).collect();
    let values = |mean: f64, count: f64| Some(vec![("mean".to_owned(), mean), ("count".to_owned(), count)]);
    assert_eq!(rows, [(1, 0, values(3.0, 2.0)), (2, 10, values(1.0, 1.0))]);
    // Its results stand in the ledger as what they are: the job's.
    let ledger = hub.store.ledger(&AgentId::parse("_job.means").unwrap());
    assert_eq!((ledger.len(), ledger[0].stored, ledger[0].balanced), (1, 4, true));
    close(hub).await;
}

/// Columns that are stored together.
type Columns = Vec<(&'static str, Vec<(i64, f64)>)>;

#[tokio::test]
async fn what_a_job_gives_again_or_takes_back_counts_once_in_charts_and_rollups() {
    let dir = tempfile::tempdir().unwrap();
    let data = Config { flush_interval_s: 3600, ..Config::default() };
    let options = crate::serve::store_config(&data, dir.path());
    let hub = hub_on(dir.path(), data, options);
    start(&hub).await.unwrap();
    let sessions = json!({"window": {"kind": "session", "gap_ms": 5}, "aggregates": ["count"], "late": {"then": "update"}});
    assert!(put(&hub, job("again", sessions)).await.unwrap());
    for (rows, seen) in
        [(&[(1, 2.0), (9, 4.0), (30, 1.0)][..], &[(1, 1.0), (9, 1.0)][..]), (&[(5, 1.0)], &[])]
    {
        write(&hub, vec![column("pump-1/t", rows)]).await;
        drained(&hub, "again").await;
        if !seen.is_empty() {
            assert_eq!(readings(&hub, "pump-1/t-count"), seen);
            flush(&hub).await;
            resume(&hub, "again").await.unwrap();
        }
    }
    // One session from 1 to 14: that from 9 is taken back.
    assert_eq!(readings(&hub, "pump-1/t-count"), [(1, 3.0), (9, NOTHING)]);
    let id = hub.store.series_where(|text| text.point == "t-count")[0].id;
    let day = tideline_store::buckets::DAY_NS;
    for round in ["in memory and a file", "in files"] {
        let chart = hub.store.query_buckets(&[id], 0, day, 2).unwrap().series.remove(0);
        assert_eq!((chart.count, chart.min, chart.max), (vec![1], vec![3.0], vec![3.0]), "{round}");
        let minutes = hub.store.query_rollups(id, tideline_store::Tier::Minute, 0, day).unwrap();
        assert_eq!(minutes.iter().map(|(_, part)| (part.count, part.sum)).collect::<Vec<_>>(), [(1, 3.0)]);
        flush(&hub).await;
    }
    close(hub).await;
}

const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

fn pump() -> AgentId {
    AgentId::parse("pump-1").unwrap()
}

/// The dictionary of an agent that has one series.
fn only(series: &str) -> Series {
    let (device, point) = series.split_once('/').unwrap();
    let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
    Series { first: 0, defs: vec![SeriesDef::new(device, point, String::new())] }
}

/// Stores a batch of an agent under a seq.
async fn send(hub: &App, seq: u64, rows: &[(i64, f64)]) {
    hub.store.define_series(pump(), EPOCH, only("pump-1/t")).await.unwrap();
    append(hub, seq, rows).await;
}

async fn append(hub: &App, seq: u64, rows: &[(i64, f64)]) {
    let mut builder = BlockBuilder::new();
    builder.push_batch(&[(0, &column("pump-1/t", rows).samples[..])]);
    let (block, epoch) = (builder.finish(), EPOCH);
    let (first, rows, series_end) = (Seq::new(seq), block.rows, block.series_end);
    let envelope = RunEnvelope { epoch, lane: Lane::Live, first, rows, series_end, restamps: Vec::new() };
    let batch = Batch::received(pump(), Run { envelope, block: block.bytes }).validate(1).unwrap();
    hub.store.append(batch).await.unwrap();
}

#[tokio::test]
async fn a_job_takes_in_what_an_agent_sends_from_when_it_is_one_of_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path()).await;
    put(&hub, job("means", json!({"aggregates": ["count"]}))).await.unwrap();
    hub.store.define_series(pump(), EPOCH, only("gateway/aside/pump-1/t")).await.unwrap();
    append(&hub, 1, &[(1, 1.0), (2, 1.0)]).await;
    caught_up(&hub, "means").await;
    hub.store.rename_series(pump(), EPOCH, vec![only("pump-1/t")]).await.unwrap();
    append(&hub, 2, &[(3, 1.0)]).await;
    append(&hub, 3, &[(25, 1.0)]).await;
    drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/t-count"), [(0, 1.0)]);
    kill(hub).await;
}

async fn flush(hub: &App) {
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.flush()).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_lost_and_comes_again_is_not_taken_in_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = open(dir.path()).await;
    put(&hub, job("means", json!({"aggregates": ["count"]}))).await.unwrap();
    send(&hub, 1, &[(1, 1.0)]).await;
    flush(&hub).await;
    let end = *hub.store.log_end().borrow();
    send(&hub, 2, &[(2, 1.0)]).await;
    drained(&hub, "means").await;
    close(hub).await;
    // The disk loses what came last, and the agent sends it again.
    std::fs::remove_file(dir.path().join(format!("store/log/{:08}.log", end.segment))).unwrap();
    hub = open(dir.path()).await;
    resume(&hub, "means").await.unwrap();
    assert_eq!(readings(&hub, "pump-1/t").len(), 1);
    send(&hub, 2, &[(2, 1.0)]).await;
    send(&hub, 3, &[(12, 1.0)]).await;
    drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/t").len(), 3);
    assert_eq!(readings(&hub, "pump-1/t-count"), [(0, 2.0)]);
    close(hub).await;
}

#[tokio::test]
async fn a_paused_job_takes_in_later_what_came_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = open(dir.path()).await;
    put(&hub, job("means", json!({}))).await.unwrap();
    write(&hub, vec![column("pump-1/t", &[(1, 1.0)])]).await;
    drained(&hub, "means").await;
    write(&hub, vec![column("pump-1/t", &[(3, 3.0), (11, 5.0)])]).await;
    flush(&hub).await;
    close(hub).await;
    hub = open(dir.path()).await;
    assert_eq!(show(&hub, "means").unwrap().record.life.phase(), Phase::Paused);
    assert!(readings(&hub, "pump-1/t-mean").is_empty());
    assert!(pause(&hub, "means").await.unwrap_err().to_string().contains("paused cannot pause"));
    resume(&hub, "means").await.unwrap();
    let view = drained(&hub, "means").await;
    assert_eq!((readings(&hub, "pump-1/t-mean"), view.tally.missed), (vec![(0, 2.0)], 0));
    close(hub).await;
}

#[tokio::test]
async fn a_changed_definition_keeps_the_state_where_it_fits_and_begins_anew_where_not() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path()).await;
    put(&hub, job("means", json!({}))).await.unwrap();
    assert!(!put(&hub, job("means", json!({}))).await.unwrap());
    write(&hub, vec![column("pump-1/t", &[(1, 1.0)])]).await;
    caught_up(&hub, "means").await;
    let sinks = json!([{"kind": "series", "point": "new-{aggregate}-{point}"}]);
    assert!(!put(&hub, job("means", json!({"sinks": sinks.clone()}))).await.unwrap());
    write(&hub, vec![column("pump-1/t", &[(3, 3.0), (11, 5.0)])]).await;
    caught_up(&hub, "means").await;
    // What the old windows hold is gone, and what comes goes into the new ones.
    let window = json!({"kind": "tumbling", "length_ms": 20});
    put(&hub, job("means", json!({"sinks": sinks, "window": window}))).await.unwrap();
    write(&hub, vec![column("pump-1/t", &[(13, 7.0), (41, 5.0)])]).await;
    drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/new-mean-t"), [(0, 2.0), (0, 7.0)]);
    delete(&hub, "means").await.unwrap();
    assert!(matches!(show(&hub, "means"), Err(JobError::Unknown(_))));
    assert!(!saved::path_of(&dir.path().join(FOLDER), "means").exists());
    assert_eq!(readings(&hub, "pump-1/new-mean-t").len(), 2);
    // One of the same name goes on with the writer of the first.
    put(&hub, job("means", json!({}))).await.unwrap();
    write(&hub, vec![column("pump-1/t", &[(101, 1.0), (111, 5.0)])]).await;
    drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/t-mean"), [(100, 1.0)]);
    close(hub).await;
}

#[tokio::test]
async fn a_job_that_fails_says_why_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path()).await;
    put(&hub, job("panics", json!({}))).await.unwrap();
    put(&hub, job("means", json!({}))).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while show(&hub, "panics").unwrap().record.life.phase() != Phase::Failed {
        looks.tick().await;
    }
    let reason = show(&hub, "panics").unwrap().record.life.reason().unwrap().to_owned();
    assert!(reason.contains("it panicked") && reason.contains("told to"), "{reason}");
    write(&hub, vec![column("pump-1/t", &[(1, 1.0), (11, 5.0)])]).await;
    drained(&hub, "means").await;
    assert_eq!(readings(&hub, "pump-1/t-mean"), [(0, 1.0)]);
    // A state that is damaged is a failure of its job alone, and ends no start.
    close(hub).await;
    let path = saved::path_of(&dir.path().join(FOLDER), "means");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let hub = open(dir.path()).await;
    resume(&hub, "means").await.unwrap();
    let shown = show(&hub, "means").unwrap();
    assert_eq!(shown.record.life.phase(), Phase::Failed);
    assert!(shown.record.life.reason().unwrap().contains("damaged: its checksum is wrong"));
    close(hub).await;
}

#[tokio::test]
async fn a_log_that_is_gone_is_counted_and_jobs_do_not_read_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path()).await;
    let all = json!({"source": {"devices": ["*"], "points": ["*"]}, "aggregates": ["count"],
        "sinks": [{"kind": "series", "point": "n-{point}"}]});
    put(&hub, job("a", all.clone())).await.unwrap();
    put(&hub, job("b", all)).await.unwrap();
    write(&hub, vec![column("pump-1/t", &[(1, 1.0), (11, 5.0), (21, 5.0)])]).await;
    drained(&hub, "a").await;
    drained(&hub, "b").await;
    resume(&hub, "a").await.unwrap();
    assert_eq!(drained(&hub, "a").await.totals.counts.rows, 3);
    // Paused for longer than the log is kept.
    write(&hub, vec![column("pump-1/t", &[(31, 1.0)])]).await;
    flush(&hub).await;
    hub.store.hold_log(u64::MAX);
    write(&hub, vec![column("pump-1/t", &[(41, 1.0)])]).await;
    flush(&hub).await;
    // The writer lets the log go before it takes this.
    write(&hub, vec![column("pump-1/t", &[(51, 1.0)])]).await;
    resume(&hub, "a").await.unwrap();
    let view = drained(&hub, "a").await;
    assert_eq!((view.tally.missed, view.totals.counts.rows), (1, 4));
    close(hub).await;
}

#[test]
fn what_a_hub_asks_of_a_definition_is_told_with_all_the_rest() {
    let wrong = json!({
        "name": "n".repeat(60),
        "source": {"devices": ["*"], "points": ["t"]},
        "window": {"kind": "tumbling", "length_ms": 0},
        "aggregates": ["mean"],
        "sinks": [{"kind": "series", "point": "t"}, {"kind": "series", "point": "{point}"}],
    });
    let error = check(serde_json::from_value(wrong).unwrap()).unwrap_err().to_string();
    for part in
        ["/name is 60 bytes", "/window/length_ms is 0", "/sinks/0/point is \"t\"", "/sinks/1/point is"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
}
