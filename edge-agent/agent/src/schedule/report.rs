//! Tells the hub of schedules: `reported/schedules` of the agent's own twin, which has a history, and is kept until there is a hub;
//! and of those of twins and documents in the twin of each device for which they hold.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Section, Twin, merge_patch};
use tokio::sync::watch;
use tokio::time::sleep;

use super::core::Run;
use super::driver::{ScheduleShown, Shown};
use super::shared::{How, KEY, Told as Wanted};
use crate::clock::AgentClock;
use crate::twin::{TwinError, TwinHandle, news};

/// Between two times that the hub is told: a change of a twin costs a few hundred bytes at both ends for as long as its history goes.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Most leaves and bytes in one change: it holds 256 edits, and 60 KiB. No schedule has as many.
const LEAVES_PER_CHANGE: usize = 128;
const BYTES_PER_CHANGE: usize = 24 * 1024;
/// How many changes of the twin may wait for the hub when it is told: the others are for edits on site.
const UNCONFIRMED_MAX: u64 = 1_000;
/// What a change of the agent's own is signed with.
const AUTHOR: &str = "edge-agent";
/// Longest reason that is told, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What is told of the schedules that there are.
pub type Told = watch::Receiver<Shown>;

/// What a twin is to tell of its schedules, by name; none of one that stays as it is told.
type Wants = BTreeMap<String, Option<Json>>;

/// Tells what has changed until it is dropped. Of what changes faster than it is told, the last is told.
pub async fn run(twins: TwinHandle, own: DeviceId, mut told: Told) {
    let clock = AgentClock::default();
    // What each twin tells by now.
    let mut known: BTreeMap<DeviceId, Wants> = BTreeMap::new();
    let mut is_behind = false;
    while is_behind || told.changed().await.is_ok() {
        let shown = told.borrow_and_update().clone();
        let mut has_told = false;
        is_behind = false;
        for (device, wants) in all(&own, &shown) {
            if known.get(&device) == Some(&wants) {
                continue;
            }
            has_told = true;
            let time_ms = clock.wall_ns() / 1_000_000;
            match tell(&twins, &DocumentId::Device(device.clone()), &wants, time_ms).await {
                Ok(true) => drop(known.insert(device, wants)),
                Ok(false) => is_behind = true,
                Err(error) => tracing::warn!(%device, %error, "the hub cannot be told of schedules"),
            }
        }
        if has_told {
            sleep(TELL_EVERY).await;
        }
    }
}

/// What each twin is to tell; nothing before twins were looked at, since what they tell of documents would be taken back.
fn all(own: &DeviceId, shown: &Shown) -> BTreeMap<DeviceId, Wants> {
    let Some(plan) = &shown.plan else { return BTreeMap::new() };
    let mut all = BTreeMap::from([(own.clone(), configured(shown))]);
    for (device, told) in &plan.told {
        let wants = all.entry(device.clone()).or_default();
        for (name, told) in told {
            // The agent's own twin tells of its configuration's by their names.
            wants.entry(name.clone()).or_insert_with(|| wanted(told, &shown.all));
        }
    }
    all
}

/// False where the hub has to confirm others first.
async fn tell(
    twins: &TwinHandle,
    document: &DocumentId,
    wants: &Wants,
    time_ms: i64,
) -> Result<bool, TwinError> {
    let look = |twin: &Twin| (twin.unconfirmed(), twin.json(Section::Reported));
    let (unconfirmed, reported) = twins.look(document.clone(), look).await?;
    if unconfirmed >= UNCONFIRMED_MAX {
        return Ok(false);
    }
    for patch in patches(&reported, wants) {
        let make = move |twin: &Twin| {
            let edits = merge_patch(Section::Reported, &twin.json(Section::Reported), &patch)?;
            Ok(Change { edits, author: AUTHOR.to_owned(), time_ms })
        };
        twins.edit(document.clone(), make).await?;
    }
    Ok(true)
}

/// What is not told already, in parts that a change holds. One that never had a schedule says nothing of them.
fn patches(reported: &Json, wants: &Wants) -> Vec<Json> {
    let nothing = Map::new();
    let told = reported.get(KEY).and_then(Json::as_object).unwrap_or(&nothing);
    // Schedules that are there no more go.
    let gone = told.keys().filter(|name| !wants.contains_key(*name)).map(|name| (name.clone(), Json::Null));
    let stay = wants.iter().filter_map(|(name, wanted)| {
        let (wanted, is) = (wanted.clone()?, told.get(name));
        Some((name.clone(), is.map_or(wanted.clone(), |is| in_place_of(is, wanted))))
    });
    let mut parts: Vec<Map<String, Json>> = vec![Map::new()];
    let (mut leaves, mut bytes) = (0, 0);
    for (name, patch) in gone.chain(stay) {
        let Some(new) = news(told.get(&name), patch) else { continue };
        let (its_leaves, its_bytes) = (count(&new), new.to_string().len());
        if leaves + its_leaves > LEAVES_PER_CHANGE || bytes + its_bytes > BYTES_PER_CHANGE {
            (leaves, bytes) = (0, 0);
            parts.push(Map::new());
        }
        (leaves, bytes) = (leaves + its_leaves, bytes + its_bytes);
        parts.last_mut().into_iter().for_each(|part| drop(part.insert(name.clone(), new.clone())));
    }
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| json!({ KEY: part })).collect()
}

/// The merge patch that makes this of what is there.
fn in_place_of(is: &Json, wanted: Json) -> Json {
    match (is, wanted) {
        (Json::Object(is), Json::Object(mut wanted)) => {
            for (name, one) in is {
                let new = wanted.remove(name).map_or(Json::Null, |wanted| in_place_of(one, wanted));
                wanted.insert(name.clone(), new);
            }
            Json::Object(wanted)
        }
        (_, wanted) => wanted,
    }
}

fn count(value: &Json) -> usize {
    value.as_object().map_or(1, |members| members.values().map(count).sum())
}

/// What is told of the configuration's schedules.
fn configured(shown: &Shown) -> Wants {
    let planned = shown.plan.iter().flat_map(|plan| &plan.runs).map(|run| run.schedule.name.as_str());
    let planned: std::collections::BTreeSet<&str> = planned.collect();
    let own = shown.all.iter().filter(|(name, _)| !planned.contains(name.as_str()));
    own.map(|(name, one)| (name.clone(), Some(json!({ "kind": one.kind, "last": last(one).map(ended) }))))
        .collect()
}

/// The run to tell of: the last that has ended. One that runs each ten seconds runs whenever it is looked at, and would be told as
/// running for ever.
fn last(shown: &ScheduleShown) -> Option<&Run> {
    shown.ended.as_ref().or(shown.last.as_ref())
}

/// How a run ended. When a schedule is due next would be a change each time.
fn ended(run: &Run) -> Json {
    json!({ "due_ms": run.due_ms, "ended_ms": run.ended_ms, "state": run.state, "error": run.error })
}

/// What is told of a schedule of a twin or a document; none where it stays as it is told.
fn wanted(told: &Wanted, shown: &BTreeMap<String, ScheduleShown>) -> Option<Json> {
    let from = told.from.as_ref().map(DocumentId::name);
    match &told.how {
        How::Away => None,
        How::Configured => Some(json!({ "from": "config" })),
        How::Refused(why) => {
            let why = why.get(..why.floor_char_boundary(REASON_BYTES_MAX));
            Some(json!({ "from": from, "state": "refused", "reason": why }))
        }
        How::Runs(key) => {
            // As it stands there, so that nothing differs any more from what is desired.
            let mut one = told.json.as_object().cloned().unwrap_or_default();
            one.insert("from".to_owned(), from.into());
            one.insert("last".to_owned(), last(shown.get(key)?).map(ended).into());
            Some(Json::Object(one))
        }
    }
}

#[cfg(test)]
mod tests {
    use tideline_twin::{Actor, Side};

    use super::super::core::{Run, RunState};
    use super::*;

    fn own(all: &BTreeMap<String, ScheduleShown>) -> Wants {
        configured(&Shown { all: all.clone(), plan: None })
    }

    #[test]
    fn no_schedules_and_none_before_change_nothing() {
        assert_eq!(patches(&Json::Null, &own(&BTreeMap::new())), Vec::<Json>::new());
        let (schedule, due_ms, began_ms) = ("a".to_owned(), 1, 2);
        let (ended_ms, state, error, result) =
            (None, RunState::Failed, Some("x".to_owned()), Some("long".to_owned()));
        let kind = "sync".to_owned();
        let last = Some(Run { schedule, kind, due_ms, began_ms, ended_ms, state, error, result });
        let one = ScheduleShown { kind: "sync".to_owned(), next_ms: Some(9), last, ended: None };
        let shown = BTreeMap::from([("a".to_owned(), one)]);
        // When it is due next would be a change each time, and earlier versions told it.
        let reported =
            json!({"schedules": {"gone": {"kind": "x"}, "a": {"next_ms": 9, "last": {"began_ms": 1}}}});
        let told = patches(&reported, &own(&shown));
        let [patch] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(patch.pointer("/schedules/gone"), Some(&Json::Null));
        assert_eq!(patch.pointer("/schedules/a/last/state"), Some(&json!("failed")));
        assert_eq!(patch.pointer("/schedules/a/last/result"), None, "that is not for a twin");
        let of_earlier = ["/schedules/a/next_ms", "/schedules/a/last/began_ms"];
        assert_eq!(of_earlier.map(|place| patch.pointer(place)), [Some(&Json::Null); 2]);
    }

    #[test]
    fn a_schedule_that_runs_whenever_it_is_looked_at_tells_of_the_run_that_has_ended() {
        let run = |due_ms, state| {
            let (schedule, kind) = ("a".to_owned(), "sync".to_owned());
            Run { schedule, kind, due_ms, began_ms: due_ms, ended_ms: None, state, error: None, result: None }
        };
        let told = |last, ended| {
            let one = ScheduleShown { kind: "sync".to_owned(), next_ms: None, last, ended };
            let shown = own(&BTreeMap::from([("a".to_owned(), one)]));
            shown.get("a").cloned().flatten().and_then(|one| one.pointer("/last/state").cloned())
        };
        let (running, ended) = (run(20, RunState::Running), run(10, RunState::Succeeded));
        assert_eq!(told(Some(running.clone()), Some(ended)), Some(json!("succeeded")));
        // Of the first it is told that it runs.
        assert_eq!(told(Some(running), None), Some(json!("running")));
        assert_eq!(told(None, None), None);
    }

    #[test]
    fn a_run_of_one_schedule_tells_nothing_of_the_others() {
        let run = |due_ms, error: Option<&str>| {
            let (schedule, kind, error) = ("a".to_owned(), "sync".to_owned(), error.map(str::to_owned));
            let (began_ms, ended_ms, state) = (due_ms, Some(due_ms + 5), RunState::Succeeded);
            Run { schedule, kind, due_ms, began_ms, ended_ms, state, error, result: None }
        };
        let one = |last| ScheduleShown { kind: "sync".to_owned(), next_ms: Some(9), last, ended: None };
        let shown = |a, b| BTreeMap::from([("a".to_owned(), one(a)), ("b".to_owned(), one(b))]);
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let mut tell = |shown: &BTreeMap<String, ScheduleShown>| -> Vec<String> {
            let reported = twin.json(Section::Reported);
            let mut keys = Vec::new();
            for patch in patches(&reported, &own(shown)) {
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
            let (schedule, kind, error) = (format!("s{n}"), "sync".to_owned(), Some("x".to_owned()));
            let (due_ms, began_ms, ended_ms, state) = (n, n, Some(n), RunState::Failed);
            Some(Run { schedule, kind, due_ms, began_ms, ended_ms, state, error, result: None })
        };
        let one = |n| ScheduleShown { kind: "sync".to_owned(), next_ms: Some(n), last: last(n), ended: None };
        let shown: BTreeMap<_, _> = (0..200).map(|n| (format!("s{n}"), one(n))).collect();
        let patches = patches(&Json::Null, &own(&shown));
        assert_eq!(patches.len(), 8);
        for patch in &patches {
            let edits = merge_patch(Section::Reported, &json!({}), patch).unwrap();
            assert!(!edits.is_empty() && edits.len() <= tideline_twin::limits::EDITS_PER_CHANGE_MAX);
        }
    }
}
