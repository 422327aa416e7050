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
use crate::twin::{TwinError, TwinHandle};

/// Between two times that the hub is told: a change of a twin costs a few hundred bytes at both ends for as long as its history goes.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Where it is told.
const KEY: &str = "schedules";
/// What a change of the agent's own is signed with.
const AUTHOR: &str = "edge-agent";

/// What is told of the schedules that there are.
pub type Told = watch::Receiver<BTreeMap<String, ScheduleShown>>;

/// Tells what has changed until it is dropped. What is not told for a moment is told with the next change.
pub async fn run(twins: TwinHandle, own: DeviceId, mut told: Told) {
    let (document, clock) = (DocumentId::Device(own), AgentClock::default());
    while told.changed().await.is_ok() {
        let shown = told.borrow_and_update().clone();
        let time_ms = clock.wall_ns() / 1_000_000;
        let edited = twins.edit(document.clone(), move |twin| patch(twin, &shown, time_ms)).await;
        if let Err(error) = edited {
            tracing::warn!(%error, "the hub cannot be told of schedules");
        }
        sleep(TELL_EVERY).await;
    }
}

fn patch(twin: &Twin, shown: &BTreeMap<String, ScheduleShown>, time_ms: i64) -> Result<Change, TwinError> {
    let reported = twin.json(Section::Reported);
    let wanted = wanted(&reported, shown);
    // One that never had a schedule says nothing of them.
    let is_nothing = wanted.as_object().is_some_and(Map::is_empty);
    let patch = if is_nothing { json!({}) } else { json!({ KEY: wanted }) };
    let edits = merge_patch(Section::Reported, &reported, &patch)?;
    Ok(Change { edits, author: AUTHOR.to_owned(), time_ms })
}

/// All that is told, whole: schedules that are there no more go.
fn wanted(reported: &Json, shown: &BTreeMap<String, ScheduleShown>) -> Json {
    let there = reported.get(KEY).and_then(Json::as_object).into_iter().flatten();
    let mut wanted: Map<String, Json> = there.map(|(name, _)| (name.clone(), Json::Null)).collect();
    for (name, ScheduleShown { kind, next_ms, last }) in shown {
        let last = last.as_ref().map(|run| {
            json!({
                "due_ms": run.due_ms,
                "began_ms": run.began_ms,
                "ended_ms": run.ended_ms,
                "state": run.state,
                "error": run.error,
            })
        });
        wanted.insert(name.clone(), json!({"kind": kind, "next_ms": next_ms, "last": last}));
    }
    Json::Object(wanted)
}

#[cfg(test)]
mod tests {
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
}
