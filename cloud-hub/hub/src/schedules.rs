//! Checks schedules that are wanted of devices, `desired/schedules`, before they are sent: what every agent would refuse.
//!
//! Whether a time or an input is right is judged by each agent, which may be newer than this hub; what it refuses it tells in
//! `reported/schedules/<name>`.

use serde_json::{Map, Value as Json, json};
use tideline_twin::{Section, Twin};

use crate::layer::{ERRORS_MAX, check, merge};

/// The member of `desired` with schedules.
pub const KEY: &str = "schedules";
/// One of them says when.
const TIMES: [&str; 3] = ["cron", "every", "at"];
/// What the document itself says.
const ELSEWHERE: [&str; 2] = ["name", "device"];

/// What is wrong with the schedules that patches would make, one text each: where, what, and what is allowed.
#[must_use]
pub fn errors(twin: &Twin, patches: &[(Section, Json)]) -> Vec<String> {
    let desired = patches.iter().filter(|(section, _)| *section == Section::Desired);
    let mut errors: Vec<String> =
        desired.filter_map(|(_, patch)| patch.get(KEY)).flat_map(|patch| of_patch(twin, patch)).collect();
    errors.truncate(ERRORS_MAX);
    errors
}

fn of_patch(twin: &Twin, patch: &Json) -> Vec<String> {
    let patch = match patch {
        // Taken back as a whole.
        Json::Null => return Vec::new(),
        Json::Object(patch) => patch,
        _ => return vec![format!("{KEY}: must be an object of schedules by name")],
    };
    let mut all = twin.json(Section::Desired).get(KEY).cloned().unwrap_or(Json::Null);
    merge(&mut all, &Json::Object(patch.clone()), 0);
    let mut errors = Vec::new();
    // What stands there already is not asked again.
    for (name, one) in patch.keys().filter_map(|name| Some((name, all.get(name)?))) {
        let place = format!("{KEY}.{name}");
        check(&schema(), one, &place, 0, &mut errors);
        if let Json::Object(options) = one {
            judge(options, &place, &mut errors);
        }
    }
    errors
}

fn judge(options: &Map<String, Json>, place: &str, errors: &mut Vec<String>) {
    if TIMES.iter().filter(|name| options.contains_key(**name)).count() != 1 {
        errors.push(format!("{place}: exactly one of {} is to be given", TIMES.join(", ")));
    }
    if !options.contains_key("kind") {
        errors.push(format!("{place}.kind: is missing; it is a kind of command, as write, read, sync, run"));
    }
    for name in ELSEWHERE.iter().filter(|name| options.contains_key(**name)) {
        errors.push(format!("{place}.{name}: is said by the document that the schedule is in"));
    }
}

fn schema() -> Json {
    let text = json!({ "type": "string" });
    json!({ "type": "object", "properties": {
        "cron": text, "every": text, "at": text, "zone": text, "kind": text,
        "missed": { "enum": ["skip", "run-once", "run-all"] },
        "within_s": { "type": "integer", "minimum": 1, "maximum": 86_400 },
        "input": { "anyOf": [{ "type": "object" }, text] },
    }})
}

#[cfg(test)]
mod tests {
    use tideline_twin::{Actor, Change, Side, merge_patch};

    use super::*;

    fn told(there: &Json, patch: Json) -> Vec<String> {
        let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        let edits = merge_patch(Section::Desired, &json!({}), &json!({ KEY: there })).unwrap();
        twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap();
        errors(&twin, &[(Section::Desired, json!({ KEY: patch, "other": 1 }))])
    }

    #[test]
    fn what_no_agent_would_take_is_told_with_its_place() {
        let night = json!({ "night": { "cron": "0 2 * * *", "kind": "sync" } });
        assert_eq!(told(&json!({}), night.clone()), [""; 0]);
        assert_eq!(
            told(&night, json!({ "night": { "input": { "timeout_ms": 1 }, "within_s": 5 } })),
            [""; 0]
        );
        assert_eq!(told(&night, json!({ "night": null })), [""; 0]);
        assert_eq!(told(&night, Json::Null), [""; 0]);
        assert_eq!(told(&json!({}), json!(1)), ["schedules: must be an object of schedules by name"]);
        assert_eq!(told(&json!({}), json!({ "night": 1 })), ["schedules.night: must be of type object"]);
        let both =
            told(&night, json!({ "night": { "every": "1h", "within_s": 0, "device": "a", "zone": 1 } }));
        assert_eq!(
            both,
            [
                "schedules.night.within_s: must be a whole number from 1 to 86400",
                "schedules.night.zone: must be a text",
                "schedules.night: exactly one of cron, every, at is to be given",
                "schedules.night.device: is said by the document that the schedule is in",
            ]
        );
        let none = told(&json!({}), json!({ "night": { "every": "1h", "input": 1 } }));
        assert_eq!(none.len(), 2, "{none:?}");
        // Whatever wrong stands there already is left to who takes it back.
        assert_eq!(told(&json!({ "old": 1 }), night), [""; 0]);
    }
}
