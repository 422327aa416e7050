//! What the fleet at a glance costs a hub: `cargo run --release -p cloud-hub --example fleet -- 10000`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints, and stops where it cannot go on")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cloud_hub::api::{Door, router};
use cloud_hub::config::Config;
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::{Card, Changes, DeviceRecord, Marks, Metadata, MetadataError};
use cloud_hub::position::Position;
use cloud_hub::pulse;
use cloud_hub::twins::{TWINS, Twins};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{Store, StoreConfig};
use tower::ServiceExt as _;

/// Devices behind each agent, its own among them.
const BEHIND: usize = 100;
/// Series of each device.
const POINTS: usize = 5;
/// Answers of which the median is told, each of a picture of its own.
const TIMED: usize = 7;

fn hub_in(dir: &std::path::Path, clock: Arc<dyn Clock>) -> App {
    let config = Config { data_dir: dir.to_owned(), ..Config::default() };
    let metadata = Metadata::open(&dir.join("hub.redb")).unwrap();
    let all = Twins::open(&dir.join(TWINS)).unwrap();
    let (store, _) = Store::open(StoreConfig::new(dir.join("store")), Arc::clone(&clock)).unwrap();
    let authority = CertificateAuthority::create("figures", clock.wall_ns() / 1_000_000_000).unwrap();
    Hub::new(config, clock, metadata, all, store, authority, Addresses::default()).unwrap()
}

fn name(no: usize) -> String {
    format!("meter-{no:05}")
}

/// Over Europe, and the same at each run.
fn position(no: usize) -> Position {
    let share = |prime: usize| (no * prime % 10_007) as f64 / 10_007.0;
    Position::new(36.0 + 30.0 * share(7_919), -9.0 + 40.0 * share(6_007), None).unwrap()
}

fn record(no: usize) -> DeviceRecord {
    let card = Card {
        profile: "eastron-sdm630".into(),
        firmware: format!("1.{}.0", no % 4),
        vendor: "Eastron".into(),
        model: "SDM630".into(),
        via: format!("modbus 10.0.0.5:502 unit {}", no % 200),
        keeps: Vec::new(),
        digest: None,
    };
    let marks = Marks {
        title: format!("Meter {no}"),
        site: format!("site {}", no % 20),
        groups: ["power".to_owned()].into(),
        tags: [("floor".to_owned(), (no % 9).to_string())].into(),
        position: Some(position(no)),
        spot: None,
    };
    DeviceRecord { card: Some(card), marks, ..DeviceRecord::behind(name(no / BEHIND * BEHIND), 1) }
}

/// A reading of each point of the devices behind an agent.
async fn store(hub: &App, first: usize, count: usize) {
    let agent = AgentId::parse(&name(first)).unwrap();
    let epoch = Epoch::from_bytes([7; 16]);
    let points = (first..first + count).flat_map(|no| (0..POINTS).map(move |point| (no, point)));
    let def = |(no, point): (usize, usize)| {
        let point = PointId::parse(&format!("phase/{point}")).unwrap();
        SeriesDef::new(DeviceId::parse(&name(no)).unwrap(), point, "V".to_owned())
    };
    let series = Series { first: 0, defs: points.map(def).collect() };
    let known = hub.store.define_series(agent.clone(), epoch, series).await.unwrap();
    let sample = [Sample { time_ns: hub.clock.wall_ns(), value: 230.1 }];
    let items: Vec<_> = (0..known).map(|no| (no, &sample[..])).collect();
    let mut builder = BlockBuilder::new();
    builder.push_batch(&items);
    let rows = RowCounts::one(known);
    let envelope = RunEnvelope {
        epoch,
        lane: Lane::Live,
        first: Seq::new(1),
        rows,
        series_end: known,
        restamps: vec![],
    };
    let run = Run { envelope, block: builder.finish().bytes };
    let batch = Batch::<Received>::received(agent, run).validate(known).unwrap();
    hub.store.append(batch).await.unwrap();
}

/// Milliseconds and bytes of an answer.
async fn ask(hub: &App, path: &str, coding: &str) -> (f64, usize) {
    let request = Request::get(path).header("accept-encoding", coding).body(Body::empty()).unwrap();
    let began_ns = hub.clock.mono_ns();
    let response = router(Arc::clone(hub), Door::Socket).oneshot(request).await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    ((hub.clock.mono_ns() - began_ns) as f64 / 1e6, bytes.len())
}

/// Milliseconds of a change of one device.
async fn rename(hub: &App, device: &str, no: usize) -> f64 {
    let body = Body::from(format!(r#"{{"title":"Meter {no}, renamed"}}"#));
    let path = format!("/api/v1/devices/{device}");
    let request = Request::patch(path).header("content-type", "application/json").body(body).unwrap();
    let began_ns = hub.clock.mono_ns();
    let response = router(Arc::clone(hub), Door::Socket).oneshot(request).await.unwrap();
    assert!(response.status().is_success(), "{device}: {}", response.status());
    (hub.clock.mono_ns() - began_ns) as f64 / 1e6
}

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000_usize);
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let hub = hub_in(dir.path(), Arc::clone(&clock));
    let step = |changes: &mut Changes| (0..count).try_for_each(|no| changes.put(&name(no), &record(no)));
    hub.metadata.change::<_, MetadataError>(step).unwrap();
    for first in (0..count).step_by(BEHIND) {
        hub.presences.heard(&AgentId::parse(&name(first)).unwrap(), hub.now(), None);
        store(&hub, first, BEHIND.min(count - first)).await;
    }
    let settled = hub.store.clone();
    tokio::task::spawn_blocking(move || settled.settle()).await.unwrap().unwrap();
    pulse::watch::look(&hub).await.unwrap();
    println!("{count} devices, {} behind each agent, {POINTS} series each", BEHIND);
    let mut turns = tokio::time::interval(std::time::Duration::from_millis(1_500));
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    turns.tick().await;
    for (path, coding) in [
        ("/api/v1/fleet", "identity"),
        ("/api/v1/fleet/devices", "identity"),
        ("/api/v1/fleet/devices", "gzip"),
        ("/api/v1/map?zoom=3", "identity"),
        ("/api/v1/map?zoom=7&bbox=5,45,15,55", "identity"),
        ("/api/v1/map/devices?bbox=5,45,15,55", "identity"),
    ] {
        let mut took_ms = Vec::new();
        let mut size = 0;
        for _ in 0..TIMED {
            // So that each is of a picture of its own, and none of one that was there.
            turns.tick().await;
            let (ms, bytes) = ask(&hub, path, coding).await;
            took_ms.push(ms);
            size = bytes;
        }
        took_ms.sort_by(f64::total_cmp);
        let (again_ms, _) = ask(&hub, path, coding).await;
        let median = took_ms.get(TIMED / 2).copied().unwrap_or(f64::NAN);
        println!("{path} ({coding}): {median:.0} ms, of a picture that is there {again_ms:.1} ms, {size} B");
    }
    let mut took_ms = Vec::new();
    for no in 0..TIMED {
        took_ms.push(rename(&hub, &name(no * 7 + 3), no).await);
    }
    took_ms.sort_by(f64::total_cmp);
    let median = took_ms.get(TIMED / 2).copied().unwrap_or(f64::NAN);
    println!("PATCH /api/v1/devices/{{id}}: {median:.1} ms");
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}
