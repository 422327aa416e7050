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
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::reload::{Bench, IDLE};
use crate::{twin, until_shown};

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
        Self::with(IDLE).await
    }

    async fn with(config: &str) -> Self {
        let bench = Bench::start(config).await;
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

    async fn until_device(&self, id: &str, state: &str) {
        let is_so = |device: &edge_agent::status::DeviceStatus| device.id == id && device.state == state;
        until_shown(&self.bench.board, |status| {
            status.sources.values().flat_map(|source| &source.devices).any(is_so)
        })
        .await;
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
    assert!(
        reason.contains("batch.rows_max (set by ben): must be a whole number from 1 to 500000"),
        "{reason}"
    );
    assert!(reason.contains("cellar (set by ben): unknown section"), "{reason}");
    assert_eq!(tried.reported().await["state"], "applied");
    tried.want("agent/data_dir", json!("/")).await;
    let reason = tried.reported().await["refused"]["reason"].clone();
    assert_eq!(reason, "the hub's layer: agent.data_dir (set by ben): is set on the device alone");
}

/// A device of Modbus that answers whatever it is asked, on a port of its own.
async fn meter() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn(async move {
                let mut asked = [0; 12];
                while stream.read_exact(&mut asked).await.is_ok() {
                    let (function, count) = (asked[7], u16::from_be_bytes([asked[10], asked[11]]));
                    let bytes = if function < 3 { count.div_ceil(8) } else { count * 2 };
                    let data = [0, 100].into_iter().cycle().take(bytes.into());
                    let length = (bytes + 3).to_be_bytes();
                    let head = [
                        asked[0],
                        asked[1],
                        0,
                        0,
                        length[0],
                        length[1],
                        asked[6],
                        function,
                        bytes.to_be_bytes()[1],
                    ];
                    let answer: Vec<u8> = head.into_iter().chain(data).collect();
                    if stream.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    };
    (address, tokio::spawn(serve))
}

/// Where nobody listens.
async fn nowhere() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

fn bus(address: &str) -> String {
    format!(
        "[[source]]\nkind = \"modbus-tcp\"\nname = \"bus\"\naddress = {address:?}\n\
         [[device]]\nid = \"m1\"\nsource = \"bus\"\nprofile = \"modbus-template\"\n"
    )
}

#[tokio::test]
async fn what_makes_a_source_fail_that_worked_is_taken_back_with_the_source_and_its_error() {
    let (address, _meter) = meter().await;
    let mut tried = Tried::with(&bus(&address)).await;
    tried.until_device("m1", "answers").await;
    let nowhere = nowhere().await;
    tried.want("source/bus/address", json!(nowhere)).await;
    tried.until_device("m1", "silent").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await["state"], "trial", "the agent is connected, and not as well as before");
    tried.pass(TRIAL_MS).await;
    let refused = tried.reported().await["refused"]["reason"].clone();
    let begins = format!(
        "within 120 s of its trial the agent was not well: device m1 of source bus answered before and does not do now: \
         {nowhere} cannot be reached: "
    );
    assert!(refused.as_str().unwrap().starts_with(&begins), "{refused}");
    tried.until_device("m1", "answers").await;
    // One that finds it is taken.
    let (other, _other) = meter().await;
    tried.want("source/bus/address", json!(other)).await;
    tried.until_device("m1", "answers").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await["state"], "applied");
    assert_eq!(tried.told("source/bus", "address").0, format!("{other:?}"));
}

#[tokio::test]
async fn what_fails_by_itself_or_did_before_is_no_fault_of_the_layer() {
    // It is switched off before anything is set.
    let nowhere = nowhere().await;
    let mut tried = Tried::with(&bus(&nowhere)).await;
    tried.until_device("m1", "silent").await;
    tried.want("source/bus/timeout_ms", json!(700)).await;
    tried.until_device("m1", "silent").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    let reported = tried.reported().await;
    assert_eq!((&reported["state"], reported.get("refused")), (&json!("applied"), None));
    let unwell = reported["unwell"][0].as_str().unwrap();
    assert!(unwell.starts_with(&format!("device m1 of source bus: {nowhere} cannot be reached")), "{unwell}");
    // It is switched off while something else is tried.
    let (address, meter) = meter().await;
    tried.want("source/bus/address", json!(address)).await;
    tried.until_device("m1", "answers").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await.get("unwell"), None);
    tried.want("batch/flush_interval_ms", json!(50)).await;
    meter.abort();
    tried.until_device("m1", "silent").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await["state"], "applied");
    assert_eq!(tried.flush_ms(), 50);
}

#[tokio::test]
async fn what_is_new_and_never_works_is_told_by_its_name_and_stays_for_when_it_does() {
    // One of its profile is there already: the streams of a profile that is new wait for a restart.
    let (address, _meter) = meter().await;
    let mut tried = Tried::with(&bus(&address)).await;
    tried.until_device("m1", "answers").await;
    let nowhere = nowhere().await;
    for (key, value) in [("kind", "modbus-tcp"), ("address", nowhere.as_str())] {
        twin::put(&tried.twins, DEVICE, &format!("config/source/new/{key}"), json!(value)).await;
    }
    twin::put(&tried.twins, DEVICE, "config/device/m2/source", json!("new")).await;
    tried.want("device/m2/profile", json!("modbus-template")).await;
    tried.until_device("m2", "silent").await;
    tried.pass(1).await;
    tried.pass(WELL_MS).await;
    assert_eq!(tried.reported().await["state"], "trial", "it has the time of the trial");
    tried.pass(TRIAL_MS).await;
    let reported = tried.reported().await;
    assert_eq!((&reported["state"], reported.get("refused")), (&json!("applied"), None));
    let unwell = reported["unwell"][0].as_str().unwrap();
    assert!(unwell.starts_with(&format!("device m2 of source new: {nowhere} cannot be reached")), "{unwell}");
    tried.begin().await;
    assert!(tried.reported().await["unwell"].is_array(), "after a start too");
    tried.bench.board.source("new", |source| source.device("m2").unwrap().state = "answers".to_owned());
    tried.pass(1).await;
    assert_eq!(tried.reported().await.get("unwell"), None);
}
