//! What devices tell of the points that the document of their site or group wants.
//!
//! Nobody reports in a document that several share: each device tells in its own twin what it was set to, and by which document
//! (`reported/setpoints/<point>/from`). So the delta of what is shared is told by device.

use serde_json::Value as Json;
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Key, Section, Twin};

use super::super::shapes::{TwinAnswer, TwinDifference};
use crate::hub::Hub;
use crate::twins::TwinError;

/// Most devices that are looked at for an answer, and most differences of points in it.
const DEVICES_MAX: usize = 1_000;
const DIFFERENCES_MAX: usize = 1_000;
/// The member of `desired` and `reported` with points, and that of `reported` with how far they are.
const POINTS: &str = "points";
const STATES: &str = "setpoints";

/// A point that the document wants.
struct Wanted {
    key: Key,
    point: String,
    leaf: TwinDifference,
    // Whether a device tells of it, also that another document goes before.
    is_told: bool,
}

impl Wanted {
    /// None of a leaf that is no point's.
    fn of(leaf: &TwinDifference) -> Option<Self> {
        let key = Key::parse(&leaf.key).ok()?;
        let names: Vec<_> = key.names().collect();
        let (first, rest) = names.split_first()?;
        let point = rest.join("/");
        (first == POINTS && !rest.is_empty()).then(|| Self { key, point, leaf: leaf.clone(), is_told: false })
    }

    /// What a device tells of it that is not so yet.
    fn difference(&mut self, twin: &Twin, reported: &Json, from: &str) -> Option<TwinDifference> {
        let told = reported.get(STATES)?.get(&self.point)?;
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
        let since_ms = is.and_then(|leaf| leaf.origin).map(|origin| origin.time_ms);
        Some(TwinDifference {
            reported: value,
            since_ms: since_ms.max(self.leaf.since_ms),
            state: state.map(str::to_owned),
            reason: state.and_then(|_| text("reason")).map(str::to_owned),
            ..self.leaf.clone()
        })
    }
}

/// Puts the differences of points by device in the place of those of the document. Waits for the disk.
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
    let (from, mut differences) = (document.name(), Vec::new());
    for name in devices.iter().take(DEVICES_MAX) {
        let Ok(device) = DeviceId::parse(name) else { continue };
        let found = hub.twins.look(&DocumentId::Device(device), |twin| {
            let reported = twin.json(Section::Reported);
            wanted.iter_mut().filter_map(|one| one.difference(twin, &reported, &from)).collect::<Vec<_>>()
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
        let mut tell = |patch: Json| {
            let edits = merge_patch(Section::Reported, &twin.json(Section::Reported), &patch).unwrap();
            twin.edit(&Change { edits, author: "edge-agent".into(), time_ms: 7 }).unwrap();
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
            let found = wanted.difference(&twin, &twin.json(Section::Reported), "group/pumps");
            let told = found.map(|one| (one.reported, one.since_ms, one.state, one.reason));
            (told, wanted.is_told)
        };
        let state = |state: &str, from: &str, reason: Json| json!({"setpoints": {"motor/speed": {"state": state, "from": from, "reason": reason}}});
        assert_eq!(tell(json!({"points": {"motor": {"speed": 4}}})), (None, false));
        let refused = tell(state("refused", "group/pumps", json!("too fast")));
        let told = (json!(4), Some(7), Some("refused".to_owned()), Some("too fast".to_owned()));
        assert_eq!(refused, (Some(told), true));
        // Its own twin, or a group before this one.
        assert_eq!(tell(state("done", "group/a", Json::Null)), (None, true));
        // It has not seen yet that it is to be another now.
        let before = tell(state("done", "group/pumps", Json::Null));
        assert_eq!(before, (Some((json!(4), Some(7), None, None)), true));
        assert_eq!(tell(json!({"points": {"motor": {"speed": 5}}})), (None, true));
    }

    #[test]
    fn what_is_no_point_is_none() {
        for key in ["points", "night", "point/a", ""] {
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
