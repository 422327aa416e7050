//! Tells the hub of schedules: `reported/schedules` of the agent's own twin, which has a history, and is kept until there is a hub.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Section, Twin, merge_patch};
use tokio::sync::watch;
use tokio::time::sleep;

use super::driver::ScheduleShown;
use crate::clock::AgentClock;
use crate::twin::{TwinError, TwinHandle, news};

/// Between two times that the hub is told: a change of a twin costs a few hundred bytes at both ends for as long as its history goes.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Where it is told.
const KEY: &str = "schedules";
/// Most schedules in one change: each has up to seven leaves, and a change holds 256 edits.
const SCHEDULES_PER_CHANGE: usize = 32;
/// How many changes of the twin may wait for the hub when it is told: the others are for edits on site.
const UNCONFIRMED_MAX: u64 = 1_000;
/// What a change of the agent's own is signed with.
const AUTHOR: &str = "edge-agent";

/// What is told of the schedules that there are.
pub type Told = watch::Receiver<BTreeMap<String, ScheduleShown>>;

/// Tells what has changed until it is dropped. Of what changes faster than it is told, the last is told.
pub async fn run(twins: TwinHandle, own: DeviceId, mut told: Told) {
    let (document, clock) = (DocumentId::Device(own), AgentClock::default());
    let mut is_behind = false;
    while is_behind || told.changed().await.is_ok() {
        let shown = told.borrow_and_update().clone();
        let time_ms = clock.wall_ns() / 1_000_000;
        match tell(&twins, &document, &shown, time_ms).await {
            Ok(is_told) => is_behind = !is_told,
            Err(error) => {
                is_behind = false;
                tracing::warn!(%error, "the hub cannot be told of schedules");
            }
        }
        sleep(TELL_EVERY).await;
    }
}

/// False where the hub has to confirm others first.
async fn tell(
    twins: &TwinHandle,
    document: &DocumentId,
    shown: &BTreeMap<String, ScheduleShown>,
    time_ms: i64,
) -> Result<bool, TwinError> {
    let look = |twin: &Twin| (twin.unconfirmed(), twin.json(Section::Reported));
    let (unconfirmed, reported) = twins.look(document.clone(), look).await?;
    if unconfirmed >= UNCONFIRMED_MAX {
        return Ok(false);
    }
    for patch in patches(&reported, shown) {
        let make = move |twin: &Twin| {
            let edits = merge_patch(Section::Reported, &twin.json(Section::Reported), &patch)?;
            Ok(Change { edits, author: AUTHOR.to_owned(), time_ms })
        };
        twins.edit(document.clone(), make).await?;
    }
    Ok(true)
}

/// What is not told already, in parts that a change holds. One that never had a schedule says nothing of them.
fn patches(reported: &Json, shown: &BTreeMap<String, ScheduleShown>) -> Vec<Json> {
    let nothing = Json::Object(Map::new());
    let told = reported.get(KEY).unwrap_or(&nothing);
    let wanted: Vec<(String, Json)> = match news(Some(told), wanted(reported, shown)) {
        Some(Json::Object(wanted)) => wanted.into_iter().collect(),
        _ => Vec::new(),
    };
    let part = |some: &[(String, Json)]| json!({ KEY: some.iter().cloned().collect::<Map<_, _>>() });
    wanted.chunks(SCHEDULES_PER_CHANGE).map(part).collect()
}

/// All that is told, whole: schedules that are there no more go.
fn wanted(reported: &Json, shown: &BTreeMap<String, ScheduleShown>) -> Json {
    let there = reported.get(KEY).and_then(Json::as_object).into_iter().flatten();
    let mut wanted: Map<String, Json> = there.map(|(name, _)| (name.clone(), Json::Null)).collect();
    for (name, ScheduleShown { kind, last, .. }) in shown {
        let last = last.as_ref().map(|run| {
            json!({
                "due_ms": run.due_ms,
                "began_ms": null,
                "ended_ms": run.ended_ms,
                "state": run.state,
                "error": run.error,
            })
        });
        // When it is due next would be a change each time, and earlier versions told it.
        wanted.insert(name.clone(), json!({"kind": kind, "next_ms": null, "last": last}));
    }
    Json::Object(wanted)
}

#[cfg(test)]
mod tests {
    use tideline_twin::{Actor, Side};

    use super::super::core::{Run, RunState};
    use super::*;

    #[test]
    fn no_schedules_and_none_before_change_nothing() {
        let shown = BTreeMap::new();
        let reported = wanted(&Json::Null, &shown);
        assert_eq!(reported, json!({}));
        let (schedule, due_ms, began_ms) = ("a".to_owned(), 1, 2);
        let (ended_ms, state, error, result) =
            (None, RunState::Failed, Some("x".to_owned()), Some("long".to_owned()));
        let last = Some(Run { schedule, due_ms, began_ms, ended_ms, state, error, result });
        let one = ScheduleShown { kind: "sync".to_owned(), next_ms: Some(9), last };
        let shown = BTreeMap::from([("a".to_owned(), one)]);
        let reported = wanted(&json!({"schedules": {"gone": {}}}), &shown);
        assert_eq!(reported.get("gone"), Some(&Json::Null));
        assert_eq!(reported.pointer("/a/last/state"), Some(&json!("failed")));
        assert_eq!(reported.pointer("/a/last/result"), None, "that is not for a twin");
    }

    #[test]
    fn a_run_of_one_schedule_tells_nothing_of_the_others() {
        let run = |due_ms, error: Option<&str>| {
            let (schedule, error) = ("a".to_owned(), error.map(str::to_owned));
            let (began_ms, ended_ms, state) = (due_ms, Some(due_ms + 5), RunState::Succeeded);
            Run { schedule, due_ms, began_ms, ended_ms, state, error, result: None }
        };
        let one = |last| ScheduleShown { kind: "sync".to_owned(), next_ms: Some(9), last };
        let shown = |a, b| BTreeMap::from([("a".to_owned(), one(a)), ("b".to_owned(), one(b))]);
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let mut tell = |shown: &BTreeMap<String, ScheduleShown>| -> Vec<String> {
            let reported = twin.json(Section::Reported);
            let mut keys = Vec::new();
            for patch in patches(&reported, shown) {
                let edits = merge_patch(Section::Reported, &reported, &patch).unwrap();
                keys.extend(edits.iter().map(|edit| edit.key.to_string()));
                let change = Change { edits, author: AUTHOR.to_owned(), time_ms: 1 };
                let record = twin.edit(&change).unwrap().unwrap();
                twin.handle_durable(record.ticket);
            }
            keys.sort();
            keys
        };
        let first = shown(Some(run(10, Some("x"))), Some(run(10, None)));
        assert_eq!(tell(&first).len(), 9, "a's kind, time, end, state and error, and b's without an error");
        assert_eq!(tell(&first), [""; 0]);
        assert_eq!(
            tell(&shown(Some(run(70, None)), Some(run(10, None)))),
            ["schedules/a/last/due_ms", "schedules/a/last/ended_ms", "schedules/a/last/error"]
        );
        assert_eq!(tell(&BTreeMap::from([("a".to_owned(), one(Some(run(70, None))))])), ["schedules/b"]);
    }

    #[test]
    fn many_schedules_are_told_in_changes_that_hold_them() {
        let last = |n| {
            let (schedule, error) = (format!("s{n}"), Some("x".to_owned()));
            let (due_ms, began_ms, ended_ms, state) = (n, n, Some(n), RunState::Failed);
            Some(Run { schedule, due_ms, began_ms, ended_ms, state, error, result: None })
        };
        let one = |n| ScheduleShown { kind: "sync".to_owned(), next_ms: Some(n), last: last(n) };
        let shown: BTreeMap<_, _> = (0..200).map(|n| (format!("s{n}"), one(n))).collect();
        let patches = patches(&Json::Null, &shown);
        assert_eq!(patches.len(), 7);
        for patch in &patches {
            let edits = merge_patch(Section::Reported, &json!({}), patch).unwrap();
            assert!(!edits.is_empty() && edits.len() <= tideline_twin::limits::EDITS_PER_CHANGE_MAX);
        }
        assert!(super::patches(&Json::Null, &BTreeMap::new()).is_empty());
    }
}
