//! Judges what somebody on site wants of a twin, before it is written: as the hub does, what nobody would read and what the agent would
//! refuse is told to who writes it, and not by what does not happen later.

use std::sync::Arc;

use serde_json::{Value, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Section, Twin, escape, shortened};

use super::TwinError;
use crate::config::{self, HubLayer, Layers};
use crate::schedule::shared::KEY;
use crate::setpoints::BELONGS;

/// The member of `desired` that is a layer of the agent's configuration.
const CONFIG: &str = "config";
/// Schedules of a patch that are looked at for what will not run.
const OVER_MAX: usize = 100;

/// Says what is wrong with a layer of the configuration, a line each.
type Tries = Arc<dyn Fn(&HubLayer) -> Result<(), String> + Send + Sync>;

/// What judges.
#[derive(Clone)]
pub struct Judge {
    own: DeviceId,
    tries: Tries,
}

impl Judge {
    /// Of an agent that is this device, and has what these layers say below what is desired. They are read again for each
    /// configuration that is judged, as they are when it is tried.
    #[must_use]
    pub fn new(own: DeviceId, layers: Layers) -> Self {
        let tries = move |layer: &HubLayer| {
            layers.load_under(Some(layer)).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        Self { own, tries: Arc::new(tries) }
    }

    /// Judges a merge patch of a document.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn judge(&self, document: &DocumentId, twin: &Twin, patch: &Value) -> Result<(), TwinError> {
        self.configuration(document, twin, patch)?;
        if matches!(document, DocumentId::Device(_)) {
            says_nothing_of_the_registry(patch)?;
        }
        has_schedules(twin, patch)
    }

    /// What is no configuration of an agent can be taken back, and not be set.
    fn configuration(&self, document: &DocumentId, twin: &Twin, patch: &Value) -> Result<(), TwinError> {
        let Some(patch) = patch.get("desired").and_then(|desired| desired.get(CONFIG)) else { return Ok(()) };
        let there = twin.json(Section::Desired).get(CONFIG).cloned().unwrap_or(Value::Null);
        let mut layer = there.clone();
        merge(&mut layer, patch);
        if layer == there {
            return Ok(());
        }
        let told = match document {
            DocumentId::Device(device) if *device == self.own => self.layer(&layer).err(),
            DocumentId::Device(_) if adds(patch) => Some(format!(
                "this device has none, as it is read by the agent {}: set it in the twin of that",
                self.own
            )),
            DocumentId::Site(_) | DocumentId::Group(_) if adds(patch) => Some(
                "of a group or site it is read by nobody: what its agents are to have in common goes into its template of \
                 configuration at the hub, and what this one is to have into its own twin"
                    .to_owned(),
            ),
            _ => None,
        };
        told.map_or(Ok(()), |told| Err(TwinError::Wrong(format!("/desired/{CONFIG}: {told}"))))
    }

    fn layer(&self, json: &Value) -> Result<(), String> {
        let told = (self.tries)(&HubLayer::read_new(json)?);
        let plain = |line: &str| {
            let of_layer = line.strip_prefix(config::LAYER).and_then(|rest| rest.strip_prefix(": "));
            of_layer.unwrap_or(line).to_owned()
        };
        told.map_err(|problems| problems.lines().map(plain).collect::<Vec<_>>().join("; "))
    }
}

/// Whether a patch has anything but what it takes back. An empty object is something too.
fn adds(patch: &Value) -> bool {
    patch.as_object().map_or(!patch.is_null(), |members| members.is_empty() || members.values().any(adds))
}

/// Fails where somebody wants a schedule that the agent would refuse.
fn has_schedules(twin: &Twin, patch: &Value) -> Result<(), TwinError> {
    let wanted = patch.get("desired").and_then(|desired| desired.get(KEY)).and_then(Value::as_object);
    let there = twin.json(Section::Desired);
    for (name, patch) in wanted.into_iter().flatten().filter(|(_, patch)| !patch.is_null()) {
        let mut wanted = there.get(KEY).and_then(|all| all.get(name)).cloned().unwrap_or_default();
        merge(&mut wanted, patch);
        if let Err(why) = config::schedule(name, &wanted) {
            return Err(TwinError::Wrong(format!("/desired/{KEY}/{}: {why}", shortened(&escape(name)))));
        }
    }
    Ok(())
}

/// Schedules that a patch has written, in a twin as it is now, and that will not run, as their one time is over and not made up for: one
/// text each, as the hub tells them.
pub fn over(twin: &Twin, patch: &Value, now_ms: i64) -> Vec<String> {
    let desired = twin.json(Section::Desired);
    let mut told = Vec::new();
    for pointer in [format!("/{KEY}"), format!("/{CONFIG}/schedule")] {
        let written = patch.pointer(&format!("/desired{pointer}")).and_then(Value::as_object);
        for (name, _) in written.into_iter().flatten().take(OVER_MAX) {
            let options = desired.pointer(&pointer).and_then(|all| all.get(name));
            let scheduled = options.and_then(|options| config::schedule(name, options).ok());
            if scheduled.is_some_and(|scheduled| scheduled.is_over(now_ms)) {
                let name = shortened(&escape(name));
                told.push(format!(
                    "/desired{pointer}/{name}: its time is over, and missed is skip: it will not run"
                ));
            }
        }
    }
    told
}

/// As RFC 7396 has it. A patch that was read is nested no deeper than its reader allows.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(into) = into.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            into.remove(name);
        } else {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Fails where somebody says to which groups and site a device belongs: the hub would write over it.
fn says_nothing_of_the_registry(patch: &Value) -> Result<(), TwinError> {
    match patch.get("tags").and_then(|tags| tags.get(BELONGS)) {
        None => Ok(()),
        Some(_) => Err(TwinError::Wrong(format!(
            "/tags/{BELONGS}: is what the hub's registry says; allowed is to set the device's groups and site there"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use tideline_twin::{Actor, Change, Side, merge_patch};

    use super::*;

    /// Of the agent `pump`, and of documents in which that stands already.
    fn judged(document: &str, there: &Value, patch: &Value) -> Result<(), TwinError> {
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let edits = merge_patch(Section::Desired, &json!({}), there).unwrap();
        let record = twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap();
        record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
        let judge = Judge::new(DeviceId::parse("pump").unwrap(), Layers::default());
        judge.judge(&document.parse().unwrap(), &twin, &json!({ "desired": patch }))
    }

    #[test]
    fn a_schedule_whose_time_is_over_is_told_when_it_is_written() {
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let once = |at: &str, missed: &str| json!({ "kind": "sync", "at": at, "missed": missed });
        let past = "2020-01-01T00:00:00Z";
        let schedules = json!({
            "gone": once(past, "skip"), "made-up": once(past, "run-once"), "to-come": once("2100-01-01T00:00:00Z", "skip"),
            "odd": 5,
        });
        let patch = json!({ "schedules": schedules, "config": { "schedule": { "ab": once(past, "skip") } } });
        let edits = merge_patch(Section::Desired, &json!({}), &patch).unwrap();
        let record = twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap();
        record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
        let told = over(&twin, &json!({ "desired": patch }), 1_800_000_000_000);
        let why = "its time is over, and missed is skip: it will not run";
        let places = ["/desired/schedules/gone", "/desired/config/schedule/ab"];
        assert_eq!(told, places.map(|place| format!("{place}: {why}")));
        // Of what somebody wrote before nothing is said.
        assert_eq!(over(&twin, &json!({ "desired": { "speed": 3 } }), 1_800_000_000_000), [""; 0]);
    }

    #[test]
    fn a_configuration_is_of_agents_alone_and_one_that_is_there_can_go() {
        for (document, told) in [
            ("site/hall", "of a group or site it is read by nobody: what its agents"),
            ("group/pumps", "goes into its template of configuration at the hub"),
            ("valve", "this device has none, as it is read by the agent pump"),
        ] {
            for config in [json!({ "batch": { "rows_max": 7 } }), json!({}), json!({ "batch": {} }), json!(5)]
            {
                let refused =
                    judged(document, &json!({}), &json!({ "config": config, "speed": 3 })).unwrap_err();
                let text = refused.to_string();
                assert!(text.starts_with("/desired/config: ") && text.contains(told), "{text}");
                assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
            }
            let there = json!({ "config": { "batch": { "rows_max": 7, "flush_interval_ms": 9 } } });
            for fine in [
                json!({ "speed": 3 }),
                json!({ "config": null }),
                json!({ "config": { "batch": { "rows_max": null } } }),
                there.clone(),
            ] {
                assert!(judged(document, &there, &fine).is_ok(), "{fine}");
            }
        }
    }

    #[test]
    fn a_configuration_of_its_own_that_the_agent_would_refuse_is_not_written() {
        let batch = |rows: Value| json!({ "config": { "batch": { "rows_max": rows } } });
        for (there, patch, told) in [
            (json!({}), json!({ "config": 5 }), "must be an object of sections"),
            (json!({}), batch(json!(0)), "batch.rows_max: must be"),
            (json!({}), batch(json!("x")), "batch.rows_max: must be"),
            (json!({}), json!({ "config": { "cellar": { "a": 1 } } }), "cellar"),
            (json!({}), json!({ "config": { "agent": { "data_dir": "/" } } }), "set on the device alone"),
            // What stands there already is tried with what comes.
            (
                batch(json!(0)),
                json!({ "config": { "batch": { "flush_interval_ms": 20 } } }),
                "batch.rows_max",
            ),
        ] {
            let text = judged("pump", &there, &patch).unwrap_err().to_string();
            assert!(text.starts_with("/desired/config: ") && text.contains(told), "{text}");
        }
        let wrong = batch(json!(0));
        for (there, fine) in [
            (&json!({}), batch(json!(7))),
            (&json!({}), json!({ "config": {} })),
            (&wrong, json!({ "speed": 3 })),
            (&wrong, json!({ "config": null })),
            (&wrong, batch(json!(7))),
            (&wrong, wrong.clone()),
        ] {
            judged("pump", there, &fine).unwrap();
        }
    }
}
