//! A configuration that the hub sets: tried, kept, taken back and told.

use std::sync::Arc;
use std::time::Duration;

use edge_agent::cards::Cards;
use edge_agent::config::Layers;
use edge_agent::trial::WELL_MS;
use edge_agent::trial::driver::begin;
use edge_agent::twin::TwinHandle;
use serde_json::{Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::ManualClock;
use tideline_protocol::wire::ConfigSource;
use tideline_twin::Section;

use crate::reload::{Bench, IDLE};
use crate::twin;

const DEVICE: &str = "pump-7";
const TRIAL_MS: u64 = 120_000;

/// A running agent's reloader, with twins and a clock of the test's own.
struct Tried {
    bench: Bench,
    twins: TwinHandle,
    clock: Arc<ManualClock>,
}

impl Tried {
    async fn start() -> Self {
        let bench = Bench::start(IDLE).await;
        bench.board.update(|status| status.connected = true);
        let twins = twin::start(bench.folder.path(), &bench.spool, &Cards::default(), &bench.board);
        let mut tried = Self { bench, twins, clock: Arc::new(ManualClock::at(0)) };
        tried.begin().await;
        tried
    }

    /// As at a start of the agent, with what the data folder holds.
    async fn begin(&mut self) {
        let data_dir = Some(self.bench.folder.path().to_owned());
        let layers = Layers { file: Some(self.bench.file()), data_dir, ..Layers::default() };
        let (_, mut hub) = begin(&layers, self.clock.clone()).unwrap();
        hub.follow(&self.twins, &DeviceId::parse(DEVICE).unwrap());
        self.bench.reloader.follow_hub(hub);
        self.bench.reloader.reload().await;
        self.bench.reloader.take_from_hub().await;
    }

    async fn want(&mut self, key: &str, value: Json) {
        twin::put(&self.twins, DEVICE, &format!("config/{key}"), value).await;
        self.bench.reloader.take_from_hub().await;
    }

    async fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.bench.reloader.look_at_trial().await;
    }

    async fn reported(&self) -> Json {
        let reported = self.twins.look(DEVICE.parse().unwrap(), |twin| twin.json(Section::Reported)).await;
        reported.unwrap()["config"].clone()
    }

    /// An option as the hub is told of it: the value, and the layer that it comes from.
    fn told(&self, section: &str, name: &str) -> (String, ConfigSource) {
        let all = self.bench.reloader.in_force().follow().all().unwrap().options.unwrap();
        let found = all.into_iter().find(|option| option.section == section && option.name == name).unwrap();
        (found.value, found.source)
    }

    fn flush_ms(&self) -> u128 {
        self.bench.batching.borrow().flush_interval.as_millis()
    }
}

#[tokio::test]
async fn what_the_hub_sets_is_in_force_at_once_and_stays_when_the_agent_is_well() {
    let mut tried = Tried::start().await;
    assert_eq!(tried.reported().await, Json::Null, "nothing is set and nothing is told");
    tried.want("batch/flush_interval_ms", json!(50)).await;
    assert_eq!(tried.flush_ms(), 50);
    assert_eq!(tried.told("batch", "flush_interval_ms"), ("50".into(), ConfigSource::Hub));
    assert_eq!(tried.told("batch", "rows_max"), ("50000".into(), ConfigSource::Default));
    assert_eq!(tried.reported().await["state"], "trial");
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await["state"], "applied");
    tried.want("http/listen", json!("")).await;
    assert_eq!(tried.reported().await["needs_restart"], json!(["http.listen"]));
    let (listen, source) = tried.told("http", "listen");
    assert_eq!(source, ConfigSource::Default, "it runs with {listen} until it is started again");
    // The file may change beneath.
    tried
        .bench
        .change(&format!("[batch]\nflush_interval_ms = 70\n[uplink]\nhub = \"other:2\"\n{IDLE}"))
        .await;
    assert_eq!((tried.flush_ms(), tried.bench.hubs().as_str()), (50, "other:2"));
    assert_eq!(tried.told("uplink", "hub"), ("\"other:2\"".into(), ConfigSource::File));
    tried.begin().await;
    assert_eq!(tried.flush_ms(), 50, "after a start too");
}

#[tokio::test]
async fn what_cuts_the_agent_off_is_taken_back_and_told() {
    let mut tried = Tried::start().await;
    tried.want("uplink/hub", json!("nowhere:1")).await;
    assert_eq!(tried.bench.hubs(), "nowhere:1");
    tried.bench.board.update(|status| {
        status.connected = false;
        status.last_error = Some("nowhere:1: no such host".into());
    });
    tried.pass(TRIAL_MS - 1).await;
    assert_eq!(tried.bench.hubs(), "nowhere:1");
    // A start amid the trial does not make it good.
    tried.begin().await;
    assert_eq!(tried.bench.hubs(), "nowhere:1");
    tried.pass(TRIAL_MS).await;
    assert_eq!(tried.bench.hubs(), "enrolled:1");
    assert_eq!(tried.told("uplink", "hub"), ("\"\"".into(), ConfigSource::Default));
    let reported = tried.reported().await;
    assert_eq!(reported["state"], "applied");
    let reason = reported["refused"]["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        "within 120 s of its trial the agent was not well: no hub is connected: nowhere:1: no such host"
    );
    tried.begin().await;
    assert_eq!(tried.bench.hubs(), "enrolled:1", "the twin still wants it");
    // Another one is tried, and what was refused is told no more.
    tried.bench.board.update(|status| status.connected = true);
    tried.want("uplink/hub", json!("better:1")).await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.bench.hubs(), "better:1");
    assert_eq!(tried.reported().await.get("refused"), None);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_all_that_is_wrong() {
    let mut tried = Tried::start().await;
    tried.want("batch/rows_max", json!(0)).await;
    tried.want("cellar/light", json!("on")).await;
    let reason = tried.reported().await["refused"]["reason"].clone();
    let reason = reason.as_str().unwrap();
    assert!(reason.contains("batch.rows_max: must be a whole number from 1 to 500000"), "{reason}");
    assert!(reason.contains("cellar: unknown section"), "{reason}");
    assert_eq!(tried.reported().await["state"], "applied");
    tried.want("agent/data_dir", json!("/")).await;
    let reason = tried.reported().await["refused"]["reason"].clone();
    assert_eq!(reason, "the hub's layer: agent.data_dir: is set on the device alone");
}
