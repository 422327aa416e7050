//! What devices tell of the points and schedules that the document of their site or group wants.
//!
//! Nobody reports in a document that several share: each device tells in its own twin what it was set to, and by which document
//! (`reported/setpoints/<point>/from`, `reported/schedules/<name>/from`). So the delta of what is shared is told by device.

use serde_json::Value as Json;
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Key, Section, Twin};

use super::super::shapes::{TwinAnswer, TwinDifference};
use crate::hub::Hub;
use crate::schedules;
use crate::twins::TwinError;

/// Most devices that are looked at for an answer, and most differences of points in it.
const DEVICES_MAX: usize = 1_000;
const DIFFERENCES_MAX: usize = 1_000;
/// Most histories that are gone through for an answer: each may have thousands of steps.
const HISTORIES_MAX: usize = 100;
/// The member of `desired` and `reported` with points, and that of `reported` with how far they are.
const POINTS: &str = "points";
const STATES: &str = "setpoints";

/// A leaf that the document wants of a point or a schedule.
struct Wanted {
    key: Key,
    // Where devices tell of it: the member of `reported`, and the name in it.
    told: (&'static str, String),
    leaf: TwinDifference,
    // Whether a device tells of it, also that another document goes before.
    is_told: bool,
}

impl Wanted {
    /// None of a leaf that is neither a point's nor a schedule's.
    fn of(leaf: &TwinDifference) -> Option<Self> {
        let key = Key::parse(&leaf.key).ok()?;
        let names: Vec<_> = key.names().collect();
        let (first, rest) = names.split_first()?;
        let told = match (first.as_str(), rest) {
            (POINTS, [_, ..]) => (STATES, rest.join("/")),
            (schedules::KEY, [name, ..]) => (schedules::KEY, name.clone()),
            _ => return None,
        };
        Some(Self { key, told, leaf: leaf.clone(), is_told: false })
    }

    /// What a device tells of it that is not so yet; `histories` are those that may still be gone through.
    fn difference(
        &mut self,
        twin: &Twin,
        reported: &Json,
        from: &str,
        histories: &mut usize,
    ) -> Option<TwinDifference> {
        let told = reported.get(self.told.0)?.get(&self.told.1)?;
        let text = |name| told.get(name).and_then(Json::as_str);
        self.is_told = true;
        if text("from") != Some(from) {
            return None;
        }
        let is = twin.leaf(Section::Reported, &self.key);
        let value = is.as_ref().map_or(Json::Null, |leaf| leaf.value.clone());
        // One that is done is of a change before this one.
        let state = text("state").filter(|state| *state != "done");
        if state.is_none() && value == self.leaf.desired {
            return None;
        }
        let written_ms = is.and_then(|leaf| leaf.origin).map(|origin| origin.time_ms);
        let since_ms = if written_ms <= self.leaf.since_ms || value == self.leaf.desired || *histories == 0 {
            written_ms.max(self.leaf.since_ms)
        } else {
            *histories -= 1;
            self.wrong_since_ms(twin).max(self.leaf.since_ms)
        };
        Some(TwinDifference {
            reported: value,
            since_ms,
            state: state.map(str::to_owned),
            reason: state.and_then(|_| text("reason")).map(str::to_owned),
            ..self.leaf.clone()
        })
    }
}

impl Wanted {
    /// Since when the device does not report what is wanted, where it did before: a wrong report after a wrong one changes nothing.
    fn wrong_since_ms(&self, twin: &Twin) -> Option<i64> {
        let steps = twin.history(&[]).unwrap_or_default();
        let reports = steps.iter().filter(|step| step.section == Section::Reported && step.key == self.key);
        let (mut was_right, mut since_ms) = (false, None);
        for step in reports {
            let is_right = step.value == self.leaf.desired;
            if was_right && !is_right {
                since_ms = Some(step.at_ms());
            }
            was_right = is_right;
        }
        since_ms
    }
}

/// Puts the differences of points and schedules by device in the place of those of the document. Waits for the disk.
///
/// # Errors
/// A twin cannot be read.
pub fn told(hub: &Hub, document: &DocumentId, mut shown: TwinAnswer) -> Result<TwinAnswer, TwinError> {
    let mut wanted: Vec<_> = shown.delta.iter().filter_map(Wanted::of).collect();
    if wanted.is_empty() {
        return Ok(shown);
    }
    shown.delta.retain(|leaf| Wanted::of(leaf).is_none());
    let devices = match document {
        DocumentId::Device(_) => Vec::new(),
        DocumentId::Site(site) => hub.metadata.devices_at(site.as_str()),
        DocumentId::Group(group) => hub.metadata.devices_in(group.as_str()),
    };
    shown.delta_cut = devices.len() > DEVICES_MAX;
    let (from, mut differences, mut histories) = (document.name(), Vec::new(), HISTORIES_MAX);
    for name in devices.iter().take(DEVICES_MAX) {
        let Ok(device) = DeviceId::parse(name) else { continue };
        let found = hub.twins.look(&DocumentId::Device(device), |twin| {
            let reported = twin.json(Section::Reported);
            let told = wanted.iter_mut();
            told.filter_map(|one| one.difference(twin, &reported, &from, &mut histories)).collect::<Vec<_>>()
        })?;
        differences.extend(found.into_iter().map(|one| TwinDifference { device: Some(name.clone()), ..one }));
    }
    let untold = wanted.into_iter().filter(|one| !one.is_told).map(|one| one.leaf);
    shown.delta_cut |= differences.len() > DIFFERENCES_MAX;
    shown.delta.extend(untold.chain(differences.into_iter().take(DIFFERENCES_MAX)));
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tideline_twin::{Actor, Change, Side, merge_patch};

    use super::*;

    #[test]
    fn a_device_tells_what_is_not_so_of_the_document_that_it_goes_by() {
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let mut time_ms = 7;
        let mut tell = |patch: Json| {
            let edits = merge_patch(Section::Reported, &twin.json(Section::Reported), &patch).unwrap();
            twin.edit(&Change { edits, author: "edge-agent".into(), time_ms }).unwrap();
            time_ms += 1;
            let leaf = TwinDifference {
                key: "points/motor/speed".to_owned(),
                desired: json!(5),
                reported: Json::Null,
                since_ms: Some(3),
                device: None,
                state: None,
                reason: None,
            };
            let mut wanted = Wanted::of(&leaf).unwrap();
            let found = wanted.difference(&twin, &twin.json(Section::Reported), "group/pumps", &mut 1);
            let told = found.map(|one| (one.reported, one.since_ms, one.state, one.reason));
            (told, wanted.is_told)
        };
        let state = |state: &str, from: &str, reason: Json| json!({"setpoints": {"motor/speed": {"state": state, "from": from, "reason": reason}}});
        assert_eq!(tell(json!({"points": {"motor": {"speed": 4}}})), (None, false));
        let refused = tell(state("refused", "group/pumps", json!("too fast")));
        let told = (json!(4), Some(3), Some("refused".to_owned()), Some("too fast".to_owned()));
        assert_eq!(refused, (Some(told), true));
        // Its own twin, or a group before this one.
        assert_eq!(tell(state("done", "group/a", Json::Null)), (None, true));
        // It has not seen yet that it is to be another now.
        let before = tell(state("done", "group/pumps", Json::Null));
        assert_eq!(before, (Some((json!(4), Some(3), None, None)), true));
        assert_eq!(tell(json!({"points": {"motor": {"speed": 5}}})), (None, true));
        // It was right, and is not since the first wrong report, however many follow.
        for wrong in [6, 7, 8] {
            let told = tell(json!({"points": {"motor": {"speed": wrong}}}));
            assert_eq!(told, (Some((json!(wrong), Some(12), None, None)), true), "{wrong}");
        }
    }

    #[test]
    fn a_device_tells_of_a_schedule_why_it_does_not_run() {
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let mut tell = |told: Json| {
            let patch = json!({ "schedules": { "night": told } });
            let edits = merge_patch(Section::Reported, &twin.json(Section::Reported), &patch).unwrap();
            twin.edit(&Change { edits, author: "edge-agent".into(), time_ms: 7 }).unwrap();
            let leaf = TwinDifference {
                key: "schedules/night/every".to_owned(),
                desired: json!("1s"),
                reported: Json::Null,
                since_ms: Some(3),
                device: None,
                state: None,
                reason: None,
            };
            let mut wanted = Wanted::of(&leaf).unwrap();
            let found = wanted.difference(&twin, &twin.json(Section::Reported), "group/pumps", &mut 1);
            found.map(|one| (one.reported, one.since_ms, one.reason))
        };
        let refused = tell(json!({ "from": "group/pumps", "state": "refused", "reason": "too often" }));
        assert_eq!(refused, Some((Json::Null, Some(3), Some("too often".to_owned()))));
        assert_eq!(tell(json!({ "state": null, "reason": null, "every": "1s" })), None);
        assert_eq!(tell(json!({ "every": "2s", "from": "site/hall" })), None);
    }

    #[test]
    fn what_is_no_point_is_none() {
        for key in ["points", "schedules", "night", "point/a", ""] {
            let leaf = TwinDifference {
                key: key.to_owned(),
                desired: json!(5),
                reported: Json::Null,
                since_ms: None,
                device: None,
                state: None,
                reason: None,
            };
            assert!(Wanted::of(&leaf).is_none(), "{key}");
        }
    }
}
