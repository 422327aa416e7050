//! Set-points by themselves, and through the driver to a source that writes.

use std::sync::Arc;

use serde_json::json;
use tideline_profiles::Profile;
use tideline_protocol::model::{DeviceId, Epoch};
use tideline_protocol::value::Value;
use tideline_protocol::wire::{DocumentId, TwinSync};
use tideline_twin::{Actor, Link, Message, Side, merge_patch};

use super::*;
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::source::{Device, Writes};
use crate::status::Board;
use crate::twin::{Kin, Parts, TwinHandle};

fn twin() -> Twin {
    Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap()
}

fn make(twin: &mut Twin, change: &Change) {
    if let Some(record) = twin.edit(change).unwrap() {
        twin.handle_durable(record.ticket);
    }
}

fn want(twin: &mut Twin, patch: &Json, time_ms: i64) {
    let edits = merge_patch(Section::Desired, &twin.json(Section::Desired), &json!({ "points": patch }));
    make(twin, &Change { edits: edits.unwrap(), author: "anna".into(), time_ms });
}

fn next_write(twin: &Twin) -> Setpoint {
    match next(twin, &Shared::default(), &Waiting::new()) {
        Some(Step::Write(setpoint)) => setpoint,
        other => panic!("{other:?}"),
    }
}

fn state(twin: &Twin, point: &str) -> Json {
    twin.json(Section::Reported)["setpoints"][point]["state"].clone()
}

#[test]
fn a_change_is_written_once_and_the_next_one_again() {
    let mut twin = twin();
    want(&mut twin, &json!({ "motor": { "speed": 20 } }), 1);
    let first = next_write(&twin);
    assert_eq!((first.point.as_str(), &first.value), ("motor/speed", &json!(20)));
    assert_eq!(twin.delta().len(), 1);
    make(&mut twin, &told(&first, &Ended::Begun, 2));
    make(&mut twin, &told(&first, &Ended::Done, 3));
    assert_eq!(next(&twin, &Shared::default(), &Waiting::new()), None);
    // What was done is what is desired.
    assert_eq!(twin.delta(), []);
    assert_eq!(twin.json(Section::Reported)["points"], json!({ "motor": { "speed": 20 } }));
    want(&mut twin, &json!({ "motor": { "speed": 30 } }), 4);
    assert_eq!(next_write(&twin).value, json!(30));
    // As after a restart: what was done stays done.
    let bytes = match twin.save().write {
        tideline_twin::Write::Replace(bytes) | tideline_twin::Write::Append(bytes) => bytes,
    };
    let again = Twin::load(twin.actor(), &bytes, &[] as &[Vec<u8>]).unwrap();
    assert_eq!(next_write(&again), next_write(&twin));
}

#[test]
fn a_write_that_the_agents_end_broke_off_is_told_as_unknown_and_not_repeated() {
    let mut twin = twin();
    want(&mut twin, &json!({ "speed": 20 }), 1);
    let setpoint = next_write(&twin);
    make(&mut twin, &told(&setpoint, &Ended::Begun, 2));
    let Some(Step::Settle(same, ended @ Ended::Unknown(_))) =
        next(&twin, &Shared::default(), &Waiting::new())
    else {
        panic!()
    };
    assert_eq!(same, setpoint);
    make(&mut twin, &told(&same, &ended, 3));
    assert_eq!(
        (state(&twin, "speed"), next(&twin, &Shared::default(), &Waiting::new())),
        (json!("unknown"), None)
    );
    assert_eq!(twin.delta().len(), 1);
}

#[test]
fn what_is_refused_is_told_with_its_reason_and_what_waits_is_tried_again() {
    let mut twin = twin();
    want(&mut twin, &json!({ "a": [1], "b": 1, "c": 2 }), 1);
    let Some(Step::Settle(list, ended @ Ended::Refused(_))) =
        next(&twin, &Shared::default(), &Waiting::new())
    else {
        panic!()
    };
    make(&mut twin, &told(&list, &ended, 2));
    let reason = twin.json(Section::Reported)["setpoints"]["a"]["reason"].to_string();
    assert!(reason.contains("allowed are true, false, numbers and texts"), "{reason}");
    let b = next_write(&twin);
    let waits = Ended::Waits("nobody".into());
    make(&mut twin, &told(&b, &waits, 3));
    assert!(b.is_told_as(&twin, &waits) && !b.is_told_as(&twin, &Ended::Done));
    let waiting = Waiting::from([b.clone().waits()]);
    let Some(Step::Write(c)) = next(&twin, &Shared::default(), &waiting) else { panic!() };
    assert_eq!(c.point, "c");
    make(&mut twin, &told(&c, &Ended::Done, 4));
    assert_eq!(next(&twin, &Shared::default(), &waiting), None);
    assert_eq!(next_write(&twin), b);
}

#[test]
fn what_nobody_wants_any_more_is_forgotten() {
    let mut twin = twin();
    want(&mut twin, &json!({ "speed": 20 }), 1);
    let setpoint = next_write(&twin);
    make(&mut twin, &told(&setpoint, &Ended::Done, 2));
    want(&mut twin, &json!({ "speed": null }), 3);
    let Some(Step::Forget(point)) = next(&twin, &Shared::default(), &Waiting::new()) else { panic!() };
    make(&mut twin, &forgotten(&point, 4));
    assert_eq!((state(&twin, "speed"), next(&twin, &Shared::default(), &Waiting::new())), (Json::Null, None));
    // Wanted again, it is another change.
    want(&mut twin, &json!({ "speed": 20 }), 5);
    assert_eq!(next_write(&twin).value, json!(20));
}

#[test]
fn more_set_points_than_a_device_may_have_are_refused() {
    let mut twin = twin();
    let many: Map<String, Json> =
        (0..=SETPOINTS_MAX).map(|at| (format!("p{at:03}"), Json::from(at))).collect();
    want(&mut twin, &Json::Object(many), 1);
    for setpoint in desired(&twin, None).iter().take(SETPOINTS_MAX) {
        make(&mut twin, &told(setpoint, &Ended::Done, 2));
    }
    let Some(Step::Settle(last, ended)) = next(&twin, &Shared::default(), &Waiting::new()) else { panic!() };
    make(&mut twin, &told(&last, &ended, 2));
    assert_eq!(state(&twin, &format!("p{SETPOINTS_MAX:03}")), json!("refused"));
}

/// Does all that is to be done, as if every write were done; gives what was written.
fn come_to_rest(twin: &mut Twin) -> Vec<Json> {
    let mut written = Vec::new();
    for at in 0..20 {
        match next(twin, &Shared::default(), &Waiting::new()) {
            None => return written,
            Some(Step::Forget(point)) => make(twin, &forgotten(&point, at)),
            Some(Step::Settle(setpoint, ended)) => make(twin, &told(&setpoint, &ended, at)),
            Some(Step::Write(setpoint)) => {
                make(twin, &told(&setpoint, &Ended::Begun, at));
                make(twin, &told(&setpoint, &Ended::Done, at));
                written.push(setpoint.value);
            }
            Some(Step::Wait(setpoint)) => panic!("{setpoint:?}"),
        }
    }
    panic!("it does not come to rest");
}

#[test]
fn a_point_that_two_leaves_name_is_refused_until_one_is_taken_back() {
    let mut twin = twin();
    want(&mut twin, &json!({ "motor": { "speed": 5 }, "motor/speed": 7, "other": 1 }), 1);
    assert_eq!(come_to_rest(&mut twin), [json!(1)]);
    assert_eq!(state(&twin, "motor/speed"), "refused");
    let reason = twin.json(Section::Reported)["setpoints"]["motor/speed"]["reason"].to_string();
    assert!(reason.contains("points/motor/speed and points/motor~1speed are both desired"), "{reason}");
    want(&mut twin, &json!({ "motor": null }), 2);
    assert_eq!((come_to_rest(&mut twin), state(&twin, "motor/speed")), (vec![json!(7)], json!("done")));
}

#[test]
fn a_leaf_with_a_name_too_long_to_be_told_of_is_left_alone() {
    let mut twin = twin();
    want(&mut twin, &json!({ "x".repeat(245): 5, "speed": 7 }), 1);
    assert_eq!(come_to_rest(&mut twin), [json!(7)]);
}

#[test]
fn what_waits_is_not_tried_again_while_the_hub_has_long_seen_nothing() {
    let mut twin = twin();
    want(&mut twin, &json!({ "a": 1 }), 1);
    let a = next_write(&twin);
    make(&mut twin, &told(&a, &Ended::Waits("it says no".into()), 2));
    assert_eq!(next_write(&twin), a);
    let edit = |at: u64| put(&["at"], Action::Put(at.into())).unwrap();
    for at in 0..RETRIES_UNCONFIRMED_MAX {
        make(&mut twin, &Change { edits: vec![edit(at)], author: String::new(), time_ms: 3 });
    }
    assert_eq!(next(&twin, &Shared::default(), &Waiting::new()), Some(Step::Wait(a.clone())));
    assert_eq!(next(&twin, &Shared::default(), &Waiting::from([a.waits()])), None);
    // What is new is tried once.
    want(&mut twin, &json!({ "a": 2 }), 4);
    assert_eq!(next_write(&twin).value, json!(2));
}

#[test]
fn what_an_interlock_locks_waits() {
    let locked = RefusedWrite::Locked { command: "start".into(), why: "nobody knows mode now".into() };
    let why = "start is locked: nobody knows mode now".to_owned();
    assert_eq!(Ended::of(Err(WriteError::Rejected(locked))), Ended::Waits(why));
    let refused = RefusedWrite::Null { point: "a".into() };
    assert!(matches!(Ended::of(Err(WriteError::Rejected(refused))), Ended::Refused(_)));
}

/// What these documents want of a device that has no point but those that begin with s.
fn shared(documents: &[(&str, &Twin)]) -> Shared {
    let mut shared = Shared::default();
    for (name, twin) in documents {
        shared.add(of(twin, &name.parse().unwrap()), |point| point.starts_with('s'));
    }
    shared
}

/// As [`come_to_rest`], for a device that shares documents; gives what was written, and by which document.
fn come_to_rest_with(twin: &mut Twin, shared: &Shared) -> Vec<(Json, Option<String>)> {
    let mut written = Vec::new();
    for at in 0..20 {
        match next(twin, shared, &Waiting::new()) {
            None => return written,
            Some(Step::Forget(point)) => make(twin, &forgotten(&point, at)),
            Some(Step::Settle(setpoint, ended)) => make(twin, &told(&setpoint, &ended, at)),
            Some(Step::Write(setpoint)) => {
                make(twin, &told(&setpoint, &Ended::Done, at));
                written.push((setpoint.value, setpoint.from.map(|from| from.name())));
            }
            Some(Step::Wait(setpoint)) => panic!("{setpoint:?}"),
        }
    }
    panic!("it does not come to rest");
}

#[test]
fn a_devices_own_twin_goes_before_its_groups_by_name_and_these_before_its_site() {
    let (mut own, mut wet, mut dry, mut site) = (twin(), twin(), twin(), twin());
    want(&mut site, &json!({ "speed": 1, "step": 1, "mode": 1 }), 1);
    want(&mut wet, &json!({ "speed": 2 }), 1);
    want(&mut dry, &json!({ "speed": 3 }), 1);
    let all = |own: &mut Twin| {
        let documents = [("group/dry", &dry), ("group/wet", &wet), ("site/hall", &site)];
        come_to_rest_with(own, &shared(&documents))
    };
    let by = |value: i64, from: &str| (json!(value), Some(from.to_owned()));
    // It has no mode that can be written, and so is told of none.
    assert_eq!(all(&mut own), [by(3, "group/dry"), by(1, "site/hall")]);
    let told = own.json(Section::Reported);
    assert_eq!(
        (&told["setpoints"]["speed"]["from"], &told["points"]),
        (&json!("group/dry"), &json!({ "speed": 3, "step": 1 }))
    );
    assert_eq!(told["setpoints"]["mode"], Json::Null);
    assert_eq!(all(&mut own), []);
    // Wanted of itself, it is another change, also where it wants the same; taken back, the group's is.
    want(&mut own, &json!({ "speed": 3 }), 2);
    assert_eq!(all(&mut own), [(json!(3), None)]);
    assert_eq!(own.json(Section::Reported)["setpoints"]["speed"]["from"], Json::Null);
    want(&mut own, &json!({ "speed": null }), 3);
    assert_eq!(all(&mut own), [by(3, "group/dry")]);
    let left = shared(&[("group/wet", &wet)]);
    assert_eq!(come_to_rest_with(&mut own, &left), [by(2, "group/wet")]);
    // It leaves all of them: what it was set to stays, and nothing is told of it.
    assert_eq!(come_to_rest_with(&mut own, &Shared::default()), []);
    let told = own.json(Section::Reported);
    assert_eq!((&told["points"]["speed"], told.get("setpoints")), (&json!(2), None));
}

#[test]
fn what_somebody_else_wrote_is_told_where_the_twin_tells_of_the_point_and_is_not_undone() {
    let mut twin = twin();
    want(&mut twin, &json!({ "motor": { "speed": 20 } }), 1);
    assert_eq!(come_to_rest(&mut twin), [json!(20)]);
    assert_eq!(written(&twin, "motor/speed", &json!(20.0), 2), None);
    assert_eq!(written(&twin, "mode", &json!(3), 2), None);
    let change = written(&twin, "motor/speed", &json!(25.0), 2).unwrap();
    make(&mut twin, &change);
    assert_eq!(twin.json(Section::Reported)["points"]["motor"]["speed"], 25.0);
    assert_eq!(twin.delta().len(), 1);
    assert!(come_to_rest(&mut twin).is_empty(), "it is no new wish");
    want(&mut twin, &json!({ "motor": { "speed": 20 } }), 3);
    assert_eq!(come_to_rest(&mut twin), [json!(20)]);
}

#[test]
fn what_waited_is_tried_at_once_when_what_took_its_place_is_taken_back() {
    let (mut own, mut group) = (twin(), twin());
    want(&mut group, &json!({ "speed": 2 }), 1);
    let documents = [("group/g", &group)];
    let mut waiting = Waiting::new();
    let mut wait = |own: &mut Twin| {
        let Some(Step::Write(setpoint)) = next(own, &shared(&documents), &waiting) else { panic!() };
        make(own, &told(&setpoint, &Ended::Waits("locked".into()), 2));
        waiting.insert(setpoint.clone().waits());
        assert_eq!(next(own, &shared(&documents), &waiting), None);
        setpoint
    };
    assert_eq!(wait(&mut own).value, json!(2));
    want(&mut own, &json!({ "speed": 7 }), 3);
    assert_eq!(wait(&mut own).value, json!(7));
    want(&mut own, &json!({ "speed": null }), 4);
    assert_eq!(wait(&mut own).value, json!(2));
    assert_eq!(own.json(Section::Reported)["setpoints"]["speed"]["from"], "group/g");
}

#[test]
fn of_a_device_that_no_source_speaks_to_nothing_is_taken_back_and_what_is_new_waits() {
    let (mut own, mut group) = (twin(), twin());
    want(&mut group, &json!({ "speed": 2 }), 1);
    come_to_rest_with(&mut own, &shared(&[("group/g", &group)]));
    let away = |group: &Twin| {
        let mut shared = Shared::of(true);
        shared.add(of(group, &"group/g".parse().unwrap()), |_| true);
        shared
    };
    assert_eq!(next(&own, &away(&group), &Waiting::new()), None);
    want(&mut group, &json!({ "speed": 4 }), 2);
    let Some(Step::Wait(setpoint)) = next(&own, &away(&group), &Waiting::new()) else { panic!() };
    let waiting = Waiting::from([setpoint.waits()]);
    assert_eq!(next(&own, &away(&group), &waiting), None);
    assert_eq!(state(&own, "speed"), "done");
}

#[test]
fn a_devices_twin_names_the_documents_that_hold_for_it() {
    let mut twin = twin();
    assert_eq!(documents(&twin), []);
    let names = json!(["site/hall", "group/wet", "pump", 7, "group/dry", "group/dry", "group/ "]);
    let edits = merge_patch(Section::Tags, &json!({}), &json!({ "belongs_to": names })).unwrap();
    make(&mut twin, &Change { edits, author: "registry".into(), time_ms: 1 });
    let found: Vec<_> = documents(&twin).iter().map(DocumentId::name).collect();
    assert_eq!(found, ["group/dry", "group/wet", "site/hall"]);
}

pub(crate) const FILE: &str = "name = \"pump\"\n[modbus]\nfunction = \"holding\"\n[points]\n\
    speed = { unit = \"Hz\", min = 0, max = 50, address = \"0\", encoding = \"u16\", access = \"read-write\" }\n\
    mode = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"1\", encoding = \"u16\" }\n";

pub(crate) async fn until(
    twins: &TwinHandle,
    document: &DocumentId,
    is: impl Fn(&Twin) -> bool + Copy + Send + 'static,
) {
    let mut changes = twins.changes();
    let so = async {
        while !twins.look(document.clone(), is).await.unwrap() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), so).await.expect("the twin is never so");
}

async fn desire(twins: &TwinHandle, document: &DocumentId, patch: Json) {
    let edited = twins.edit(document.clone(), move |twin| {
        let now = twin.json(Section::Desired);
        let edits = merge_patch(Section::Desired, &now, &json!({ "points": patch }))?;
        Ok(Change { edits, author: "anna".into(), time_ms: 7 })
    });
    assert!(edited.await.unwrap().changed);
}

#[tokio::test]
async fn a_set_point_waits_for_its_device_is_written_and_judged_by_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    let pump = DeviceId::parse("pump").unwrap();
    let parts = Parts {
        path: folder.path().join("twins.redb"),
        epoch: Box::new(|| Epoch::from_bytes([1; 16])),
        kin: Kin { own: pump.clone(), cards: Cards::default().seen(), known: Arc::default() },
        board: Board::default(),
        clock: AgentClock::default(),
    };
    let (twins, _) = TwinHandle::start(parts).unwrap();
    let (writes, document) = (Writes::default(), DocumentId::Device(pump.clone()));
    desire(&twins, &document, json!({ "speed": 20 })).await;
    let driver = tokio::spawn(driver::run(twins.clone(), writes.clone()));
    until(&twins, &document, |twin| state(twin, "speed") == json!("waiting")).await;
    let mut inbox = writes.inbox("bus".into());
    let profile = Profile::parse("pump.toml", FILE).unwrap();
    inbox.serve(&Device::of(pump, Arc::new(profile)));
    let write = inbox.next().await;
    assert_eq!((write.point.as_str(), &write.value), ("speed", &Value::Float(20.0)));
    write.done();
    until(&twins, &document, |twin| state(twin, "speed") == json!("done") && twin.delta().is_empty()).await;
    // A command writes it, and the twin says so.
    let (by_command, at) = (writes.clone(), PointId::parse("speed").unwrap());
    let given = tokio::spawn(async move {
        by_command
            .write(&DeviceId::parse("pump").unwrap(), &at, Value::Float(30.0), crate::source::WRITE_TIMEOUT)
            .await
    });
    inbox.next().await.done();
    given.await.unwrap().unwrap();
    until(&twins, &document, |twin| twin.json(Section::Reported)["points"]["speed"] == json!(30.0)).await;
    desire(&twins, &document, json!({ "speed": 21 })).await;
    inbox.next().await.done();
    // Out of its range, and none that may be written: no source sees them.
    desire(&twins, &document, json!({ "speed": 51, "mode": 1 })).await;
    until(&twins, &document, |twin| {
        state(twin, "speed") == json!("refused") && state(twin, "mode") == json!("refused")
    })
    .await;
    let told = twins.look(document.clone(), |twin| twin.json(Section::Reported)).await.unwrap();
    assert_eq!(told["setpoints"]["mode"]["reason"], "mode is not writable by profile pump");
    assert_eq!(told["points"]["speed"], 21);
    assert!(inbox.try_next().is_none());
    driver.abort();
}

/// The hub's end of the documents, which speaks to the agent until the test ends.
pub(crate) fn hub(twins: TwinHandle, patches: &[(&str, Section, Json)]) -> tokio::task::JoinHandle<()> {
    let mut ends: Vec<(DocumentId, Twin, Link)> = Vec::new();
    for (name, section, patch) in patches {
        let mut twin = Twin::new(Actor::new(Side::Hub, [2; 15])).unwrap();
        let edits = merge_patch(*section, &json!({}), patch).unwrap();
        make(&mut twin, &Change { edits, author: "anna".into(), time_ms: 5 });
        let link = Link::new("agent", &twin);
        ends.push((name.parse().unwrap(), twin, link));
    }
    tokio::spawn(async move {
        let mut line = twins.line();
        loop {
            for sync in line.take().await {
                let Some((_, twin, link)) = ends.iter_mut().find(|end| end.0 == sync.document) else {
                    continue;
                };
                let record = link.handle(twin, &Message::from_bytes(&sync.message).unwrap()).unwrap();
                record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
            }
            for (document, twin, link) in &mut ends {
                while let Some(message) = link.poll(twin) {
                    line.receive(TwinSync { document: document.clone(), message: message.to_bytes() }).await;
                }
            }
            line.said().await;
        }
    })
}

#[tokio::test]
async fn what_a_group_wants_is_written_to_its_devices_that_have_such_a_point_and_told_by_each() {
    let folder = tempfile::tempdir().unwrap();
    let (pump, cards) = (DeviceId::parse("pump").unwrap(), Cards::default());
    let parts = Parts {
        path: folder.path().join("twins.redb"),
        epoch: Box::new(|| Epoch::from_bytes([1; 16])),
        kin: Kin { own: pump.clone(), cards: cards.seen(), known: Arc::default() },
        board: Board::default(),
        clock: AgentClock::default(),
    };
    let (twins, _) = TwinHandle::start(parts).unwrap();
    let (writes, document) = (Writes::default(), DocumentId::Device(pump.clone()));
    let mut inbox = writes.inbox("bus".into());
    let profile = Profile::parse("pump.toml", FILE).unwrap();
    inbox.serve(&Device::of(pump, Arc::new(profile)));
    let driver = tokio::spawn(driver::run(twins.clone(), writes.clone()));
    let belongs = json!({ "belongs_to": ["group/pumps", "site/hall"] });
    let points = |speed: i64| json!({ "points": { "speed": speed, "mode": 1, "none": 1 } });
    let ends = [
        ("pump", Section::Tags, belongs),
        ("group/pumps", Section::Desired, points(20)),
        ("site/hall", Section::Desired, points(51)),
    ];
    let hub = hub(twins.clone(), &ends);
    let write = inbox.next().await;
    assert_eq!(write.value, Value::Float(20.0));
    assert_eq!(write.point.as_str(), "speed");
    write.done();
    until(&twins, &document, |twin| twin.json(Section::Reported)["points"]["speed"] == json!(20)).await;
    let told = twins.look(document.clone(), |twin| twin.json(Section::Reported)).await.unwrap();
    assert_eq!(told["setpoints"]["speed"]["from"], "group/pumps");
    assert_eq!(told["setpoints"].as_object().unwrap().len(), 1, "{told}");
    // On site, in the document itself: also that is judged by the profile.
    desire(&twins, &"group/pumps".parse().unwrap(), json!({ "speed": 52 })).await;
    until(&twins, &document, |twin| state(twin, "speed") == json!("refused")).await;
    desire(&twins, &document, json!({ "speed": 7 })).await;
    let own = inbox.next().await;
    assert_eq!(own.value, Value::Float(7.0));
    own.done();
    until(&twins, &document, |twin| twin.json(Section::Reported)["points"]["speed"] == json!(7)).await;
    assert!(inbox.try_next().is_none());
    driver.abort();
    hub.abort();
}
