//! Which schedules an agent has by documents, and the way from these to runs and to what twins tell.

use std::sync::Arc;

use serde_json::json;
use tideline_profiles::Profile;
use tideline_protocol::model::Epoch;
use tideline_protocol::value::Value;
use tideline_spool::SpoolConfig;
use tideline_twin::{Actor, Change, Side, merge_patch};
use tokio::sync::watch;

use super::driver::Planner;
use super::*;
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::commands::{Commands, Hands, HubAhead};
use crate::config::Jobs;
use crate::logs::Recent;
use crate::reload::Asker;
use crate::schedule::report;
use crate::setpoints::tests::{FILE, hub, until};
use crate::source::{Device, Writes};
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::sync::{Syncer, Wake};
use crate::twin::{Kin, Parts, TwinHandle};

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn twin(desired: &Json) -> Twin {
    let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
    let edits = merge_patch(Section::Desired, &json!({}), desired).unwrap();
    if let Some(record) = twin.edit(&Change { edits, author: "anna".into(), time_ms: 1 }).unwrap() {
        twin.handle_durable(record.ticket);
    }
    twin
}

fn wants(schedules: &Json) -> Definitions {
    definitions(&twin(&json!({ "schedules": schedules })))
}

fn every(every: &str, kind: &str, input: &Json) -> Json {
    json!({ "every": every, "kind": kind, "input": input })
}

#[derive(Default)]
struct Site {
    configured: Vec<Scheduled>,
    held: BTreeMap<DeviceId, Held>,
    shared: BTreeMap<DocumentId, Definitions>,
}

impl Site {
    fn device(&mut self, name: &str, own: &Json, documents: &[&str]) {
        let documents = documents.iter().map(|name| name.parse().unwrap()).collect();
        self.held.insert(id(name), Held { own: wants(own), documents });
    }

    fn document(&mut self, name: &str, schedules: &Json) {
        self.shared.insert(name.parse().unwrap(), wants(schedules));
    }

    fn plan_with(&self, point: impl Fn(&DeviceId, &str) -> Point) -> Plan {
        let Self { configured, held, shared } = self;
        Known { agent: &id("gate"), configured, held, shared }.plan(point)
    }

    fn plan(&self) -> Plan {
        self.plan_with(|_, _| Point::There)
    }
}

/// Names, and whether it runs at each of these every so many ms.
fn runs(plan: &Plan) -> Vec<(&str, &str, Option<i64>)> {
    plan.runs
        .iter()
        .map(|run| {
            let device = run.device.as_ref().map_or("", DeviceId::as_str);
            (run.schedule.name.as_str(), device, run.schedule.timing.next(0))
        })
        .collect()
}

fn how<'p>(plan: &'p Plan, device: &str, name: &str) -> Option<&'p How> {
    Some(&plan.told.get(&id(device))?.get(name)?.how)
}

#[test]
fn a_devices_own_goes_before_its_groups_in_order_and_these_before_its_site() {
    let read = json!({ "point": "speed" });
    let mut site = Site::default();
    let documents = ["group/dry", "group/wet", "site/hall"];
    site.device("gate", &json!({}), &[]);
    site.device("pump-1", &json!({}), &documents);
    site.device("pump-2", &json!({ "look": every("10s", "read", &read) }), &documents);
    site.document("group/wet", &json!({ "look": every("20s", "read", &read) }));
    site.document(
        "site/hall",
        &json!({ "look": every("30s", "read", &read), "late": every("40s", "read", &read) }),
    );
    let all = |plan: &Plan| {
        runs(plan).into_iter().map(|(name, _, next)| (name.to_owned(), next)).collect::<Vec<_>>()
    };
    let of = |name: &str, next: i64| (name.to_owned(), Some(next));
    let late = [of("late@pump-1", 40_000), of("late@pump-2", 40_000)];
    let [late_1, late_2] = late;
    assert_eq!(
        all(&site.plan()),
        [of("look@pump-1", 20_000), late_1.clone(), of("look@pump-2", 10_000), late_2.clone()]
    );
    let told = &site.plan().told[&id("pump-1")]["look"];
    assert_eq!(told.from, Some("group/wet".parse().unwrap()));
    assert_eq!(site.plan().told[&id("pump-2")]["look"].from, None);
    // Another group, which is the first now, and the device's own, which is taken back.
    site.document("group/dry", &json!({ "look": every("50s", "read", &read) }));
    site.device("pump-2", &json!({}), &documents);
    assert_eq!(all(&site.plan()), [of("look@pump-1", 50_000), late_1, of("look@pump-2", 50_000), late_2]);
    // One of whose group the hub has not told, and one that left them all.
    site.shared.clear();
    assert_eq!((runs(&site.plan()).len(), site.plan().told.len()), (0, 3));
}

#[test]
fn what_the_configuration_has_for_a_device_goes_before_all() {
    let mut site = Site::default();
    let mut own = config::schedule("night", &every("1h", "sync", &json!({}))).unwrap();
    own.device = Some(id("pump-1"));
    site.configured.push(own);
    for name in ["gate", "pump-1", "pump-2"] {
        site.device(name, &json!({}), &["group/pumps"]);
    }
    site.document("group/pumps", &json!({ "night": every("10s", "read", &json!({ "point": "speed" })) }));
    let plan = site.plan();
    assert_eq!(runs(&plan), [("night@pump-2", "pump-2", Some(10_000))]);
    // The agent's own twin tells of the configuration's by its name.
    for device in ["gate", "pump-1"] {
        assert_eq!(how(&plan, device, "night"), Some(&How::Configured), "{device}");
    }
}

#[test]
fn what_the_agent_does_is_done_once_and_told_by_each_device() {
    let mut site = Site::default();
    for name in ["gate", "pump-1", "pump-2"] {
        site.device(name, &json!({}), &["group/pumps"]);
    }
    let all = json!({ "look": every("10s", "read", &json!({ "point": "a" })), "up": every("1h", "restart", &json!({})) });
    site.document("group/pumps", &all);
    let plan = site.plan();
    let looks = ["gate", "pump-1", "pump-2"].map(|device| format!("look@{device}"));
    let names: Vec<_> = runs(&plan).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [&looks[0], "up@group/pumps", &looks[1], &looks[2]]);
    assert_eq!(runs(&plan)[1].1, "gate");
    for device in ["gate", "pump-1", "pump-2"] {
        assert_eq!(how(&plan, device, "up"), Some(&How::Runs("up@group/pumps".to_owned())));
    }
}

#[test]
fn a_write_is_for_devices_that_have_the_point_and_of_others_nothing_is_told() {
    let mut site = Site::default();
    for name in ["gate", "pump-1", "pump-2", "pump-3"] {
        site.device(name, &json!({}), &["group/pumps", "site/hall"]);
    }
    let write = |every_s: &str, point: &str| every(every_s, "write", &json!({ "point": point, "value": 1 }));
    site.document("group/pumps", &json!({ "slow": write("10s", "speed") }));
    site.document("site/hall", &json!({ "slow": write("20s", "step") }));
    let plan = site.plan_with(|device, point| match (device.as_str(), point) {
        ("pump-1", "speed") | ("pump-2", "step") => Point::There,
        ("pump-3", _) => Point::Unknown,
        _ => Point::None,
    });
    // What the group has not for it does not stand in the way of the site's.
    assert_eq!(
        runs(&plan),
        [("slow@pump-1", "pump-1", Some(10_000)), ("slow@pump-2", "pump-2", Some(20_000))]
    );
    assert_eq!((how(&plan, "gate", "slow"), how(&plan, "pump-3", "slow")), (None, Some(&How::Away)));
    assert!(plan.is_waiting() && !site.plan().is_waiting());
}

#[test]
fn what_is_none_is_refused_and_told_and_so_is_what_is_too_much() {
    let mut site = Site::default();
    let read = |at: usize| (format!("s{at:03}"), every("10s", "read", &json!({ "point": "a" })));
    let many: Json = Json::Object((0..=DEVICE_MAX).map(read).collect());
    site.device("gate", &json!({ "wrong": 1, "worse": { "every": "1s", "kind": "sync" } }), &[]);
    site.device("pump", &many, &[]);
    let plan = site.plan();
    let Some(How::Refused(why)) = how(&plan, "gate", "worse") else { panic!() };
    assert!(why.starts_with("schedule.every: \"1s\" is none; allowed are 10s"), "{why}");
    assert!(matches!(how(&plan, "gate", "wrong"), Some(How::Refused(_))));
    let Some(How::Refused(why)) = how(&plan, "pump", &format!("s{DEVICE_MAX:03}")) else { panic!() };
    assert!(why.starts_with("the device has 32 schedules"), "{why}");
    for at in 0..AGENT_MAX {
        site.device(
            &format!("pump-{at:03}"),
            &json!({ "a": every("10s", "read", &json!({ "point": "a" })) }),
            &[],
        );
    }
    let plan = site.plan();
    assert_eq!(plan.runs.len(), AGENT_MAX);
    let last = how(&plan, &format!("pump-{:03}", AGENT_MAX - 1), "a");
    let Some(How::Refused(why)) = last else { panic!() };
    assert!(why.starts_with("the agent has 256 schedules"), "{why}");
}

#[test]
fn a_schedule_whose_name_no_twin_could_tell_is_none() {
    let name = "n".repeat(240);
    let all = json!({ name: every("10s", "sync", &json!({})), "a b": every("10s", "sync", &json!({})) });
    let found = wants(&all);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a b"]);
    assert!(found["a b"].read.is_err());
    for other in [json!(7), json!([1]), json!("x")] {
        assert!(definitions(&twin(&json!({ "schedules": other }))).is_empty());
    }
}

/// An agent's twins, commands and schedules, whose own device is a pump.
struct Agent {
    folder: tempfile::TempDir,
    twins: TwinHandle,
    thread: std::thread::JoinHandle<()>,
    writes: Writes,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Agent {
    fn start(folder: tempfile::TempDir) -> Self {
        let (pump, cards, board) = (id("pump"), Cards::default(), Board::default());
        let parts = Parts {
            path: folder.path().join("twins.redb"),
            epoch: Box::new(|| Epoch::from_bytes([1; 16])),
            kin: Kin { own: pump.clone(), cards: cards.seen(), known: Arc::default() },
            board: board.clone(),
            clock: AgentClock::default(),
        };
        let (twins, thread) = TwinHandle::start(parts).unwrap();
        let config = SpoolConfig { quota_bytes: 1 << 20, flash_bytes_per_day: 0 };
        // Each start has a spool of its own; schedules do not look into it.
        let spool =
            folder.path().join(format!("spool-{}", std::fs::read_dir(folder.path()).unwrap().count()));
        let (spool, _) = SpoolHandle::start_streams(spool, config, Vec::new(), board.clone()).unwrap();
        let syncer = Syncer { spool, board, wake: Wake::default() };
        let (writes, (jobs, jobs_now)) = (Writes::default(), watch::channel(Arc::new(Jobs::default())));
        let hands = Hands {
            writes: writes.clone(),
            syncer,
            reload: Asker::new().0,
            restart: None,
            logs: Recent::default(),
            jobs: jobs_now,
            hub_ahead: HubAhead::default(),
        };
        let (commands, inbox) = Commands::new();
        let (keeper, told) = inbox.start(folder.path(), hands, 4, pump.clone()).unwrap();
        let planner = Planner {
            agent: pump.clone(),
            twins: twins.clone(),
            writes: writes.clone(),
            jobs: jobs.subscribe(),
            plan: commands.plan(),
        };
        let telling = tokio::spawn(report::run(twins.clone(), pump, told));
        let tasks = vec![keeper, tokio::spawn(planner.run()), telling];
        Self { folder, twins, thread, writes, tasks }
    }

    async fn end(self) -> tempfile::TempDir {
        for task in self.tasks {
            task.abort();
            let _ended = task.await;
        }
        self.twins.close().await;
        tokio::task::spawn_blocking(|| self.thread.join()).await.unwrap().unwrap();
        self.folder
    }
}

#[tokio::test]
async fn what_a_group_wants_runs_also_without_the_hub_and_is_told_by_the_device() {
    let agent = Agent::start(tempfile::tempdir().unwrap());
    let profile = Arc::new(Profile::parse("pump.toml", FILE).unwrap());
    let mut inbox = agent.writes.inbox("bus".into());
    inbox.serve(&Device::of(id("pump"), Arc::clone(&profile)));
    let once = |speed: i64| {
        let input = json!({ "point": "speed", "value": speed });
        json!({ "at": "2020-01-31T06:00:00Z", "missed": "run-once", "kind": "write", "input": input })
    };
    let none = json!({ "every": "10s", "kind": "write", "input": { "point": "none", "value": 1 } });
    let belongs = json!({ "belongs_to": ["group/pumps", "site/hall"] });
    let ends = [
        ("pump", Section::Tags, belongs),
        ("group/pumps", Section::Desired, json!({ "schedules": { "slow": once(20), "none": none } })),
        (
            "site/hall",
            Section::Desired,
            json!({ "schedules": { "slow": once(51), "wrong": { "every": "1h" } } }),
        ),
    ];
    let hub = hub(agent.twins.clone(), &ends);
    let write = inbox.next().await;
    assert_eq!((write.point.as_str(), &write.value), ("speed", &Value::Float(20.0)));
    write.done();
    let document = DocumentId::Device(id("pump"));
    let is_told = |twin: &Twin| {
        let told = twin.json(Section::Reported);
        told.pointer("/schedules/slow/last/state") == Some(&json!("succeeded"))
    };
    until(&agent.twins, &document, is_told).await;
    let told = agent.twins.look(document.clone(), |twin| twin.json(Section::Reported)["schedules"].clone());
    let told = told.await.unwrap();
    assert_eq!((&told["slow"]["from"], &told["slow"]["input"]["value"]), (&json!("group/pumps"), &json!(20)));
    assert_eq!((&told["wrong"]["from"], &told["wrong"]["state"]), (&json!("site/hall"), &json!("refused")));
    assert_eq!(told.as_object().unwrap().len(), 2, "{told}");
    // Alone from now on, and after a kill: what it did stays done, and what somebody wants on site is done.
    hub.abort();
    let agent = Agent::start(agent.end().await);
    let mut inbox = agent.writes.inbox("bus".into());
    inbox.serve(&Device::of(id("pump"), profile));
    let group: DocumentId = "group/pumps".parse().unwrap();
    let later = json!({ "schedules": { "later": once(7) } });
    let edited = agent.twins.edit(group, move |twin| {
        let edits = merge_patch(Section::Desired, &twin.json(Section::Desired), &later)?;
        Ok(Change { edits, author: "ben".into(), time_ms: 7 })
    });
    assert!(edited.await.unwrap().changed);
    let write = inbox.next().await;
    assert_eq!(write.value, Value::Float(7.0));
    write.done();
    until(&agent.twins, &document, |twin| {
        let told = twin.json(Section::Reported);
        let state = |name: &str| told.pointer(&format!("/schedules/{name}/last/state")).cloned();
        state("later") == Some(json!("succeeded")) && state("slow") == state("later")
    })
    .await;
    assert!(inbox.try_next().is_none());
    agent.end().await;
}
