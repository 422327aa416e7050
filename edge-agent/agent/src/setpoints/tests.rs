//! Set-points by themselves, and through the driver to a source that writes.

use std::sync::Arc;

use serde_json::json;
use tideline_profiles::Profile;
use tideline_protocol::model::{DeviceId, Epoch};
use tideline_protocol::value::Value;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Actor, Side, merge_patch};

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
    match next(twin, &Waiting::new()) {
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
    assert_eq!(next(&twin, &Waiting::new()), None);
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
    let Some(Step::Settle(same, ended @ Ended::Unknown(_))) = next(&twin, &Waiting::new()) else { panic!() };
    assert_eq!(same, setpoint);
    make(&mut twin, &told(&same, &ended, 3));
    assert_eq!((state(&twin, "speed"), next(&twin, &Waiting::new())), (json!("unknown"), None));
    assert_eq!(twin.delta().len(), 1);
}

#[test]
fn what_is_refused_is_told_with_its_reason_and_what_waits_is_tried_again() {
    let mut twin = twin();
    want(&mut twin, &json!({ "a": [1], "b": 1, "c": 2 }), 1);
    let Some(Step::Settle(list, ended @ Ended::Refused(_))) = next(&twin, &Waiting::new()) else { panic!() };
    make(&mut twin, &told(&list, &ended, 2));
    let reason = twin.json(Section::Reported)["setpoints"]["a"]["reason"].to_string();
    assert!(reason.contains("allowed are true, false, numbers and texts"), "{reason}");
    let b = next_write(&twin);
    let waits = Ended::Waits("nobody".into());
    make(&mut twin, &told(&b, &waits, 3));
    assert!(b.is_told_as(&twin, &waits) && !b.is_told_as(&twin, &Ended::Done));
    let waiting = Waiting::from([b.clone().waits()]);
    let Some(Step::Write(c)) = next(&twin, &waiting) else { panic!() };
    assert_eq!(c.point, "c");
    make(&mut twin, &told(&c, &Ended::Done, 4));
    assert_eq!(next(&twin, &waiting), None);
    assert_eq!(next_write(&twin), b);
}

#[test]
fn what_nobody_wants_any_more_is_forgotten() {
    let mut twin = twin();
    want(&mut twin, &json!({ "speed": 20 }), 1);
    let setpoint = next_write(&twin);
    make(&mut twin, &told(&setpoint, &Ended::Done, 2));
    want(&mut twin, &json!({ "speed": null }), 3);
    let Some(Step::Forget(point)) = next(&twin, &Waiting::new()) else { panic!() };
    make(&mut twin, &forgotten(&point, 4));
    assert_eq!((state(&twin, "speed"), next(&twin, &Waiting::new())), (Json::Null, None));
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
    for setpoint in desired(&twin).iter().take(SETPOINTS_MAX) {
        make(&mut twin, &told(setpoint, &Ended::Done, 2));
    }
    let Some(Step::Settle(last, ended)) = next(&twin, &Waiting::new()) else { panic!() };
    make(&mut twin, &told(&last, &ended, 2));
    assert_eq!(state(&twin, &format!("p{SETPOINTS_MAX:03}")), json!("refused"));
}

/// Does all that is to be done, as if every write were done; gives what was written.
fn come_to_rest(twin: &mut Twin) -> Vec<Json> {
    let mut written = Vec::new();
    for at in 0..20 {
        match next(twin, &Waiting::new()) {
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
    assert_eq!(next(&twin, &Waiting::new()), Some(Step::Wait(a.clone())));
    assert_eq!(next(&twin, &Waiting::from([a.waits()])), None);
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

const FILE: &str = "name = \"pump\"\n[modbus]\nfunction = \"holding\"\n[points]\n\
    speed = { unit = \"Hz\", min = 0, max = 50, address = \"0\", encoding = \"u16\", access = \"read-write\" }\n\
    mode = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"1\", encoding = \"u16\" }\n";

async fn until(
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
        kin: Kin { own: pump.clone(), cards: Cards::default().seen() },
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
    // Out of its range, and none that may be written: no source sees them.
    desire(&twins, &document, json!({ "speed": 51, "mode": 1 })).await;
    until(&twins, &document, |twin| {
        state(twin, "speed") == json!("refused") && state(twin, "mode") == json!("refused")
    })
    .await;
    let told = twins.look(document.clone(), |twin| twin.json(Section::Reported)).await.unwrap();
    assert_eq!(told["setpoints"]["mode"]["reason"], "mode is not writable by profile pump");
    assert_eq!(told["points"]["speed"], 20);
    assert!(inbox.try_next().is_none());
    driver.abort();
}
