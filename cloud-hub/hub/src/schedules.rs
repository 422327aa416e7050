//! Checks schedules that are wanted of devices, `desired/schedules`, before they are sent: what every agent would refuse.
//!
//! Times are read as agents read them ([`timing`]), so that what never comes is told to who writes it, and not days later by what did
//! not happen. Whether an input is right is judged by each agent, which may be newer than this hub; what it refuses it tells in
//! `reported/schedules/<name>`.

use serde_json::{Map, Value as Json, json};
use tideline_protocol::timing::{self, Timing};
use tideline_twin::{Section, Twin, escape, secret_of_request};

use crate::layer::{ERRORS_MAX, check, merge};

/// The member of `desired` with schedules.
pub const KEY: &str = "schedules";
/// How late a schedule may begin that does not say it, in ms.
const WITHIN_MS: i64 = 60_000;
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
        _ => return vec![format!("/desired/{KEY}: must be an object of schedules by name")],
    };
    let mut all = twin.json(Section::Desired).get(KEY).cloned().unwrap_or(Json::Null);
    merge(&mut all, &Json::Object(patch.clone()), 0);
    let mut errors = Vec::new();
    // What stands there already is not asked again.
    for (name, one) in patch.keys().filter_map(|name| Some((name, all.get(name)?))) {
        let place = format!("/desired/{KEY}/{}", escape(name));
        check(&schema(), one, &place, 0, &mut errors);
        if let Json::Object(options) = one {
            judge(options, &place, &mut errors);
        }
    }
    errors
}

fn judge(options: &Map<String, Json>, place: &str, errors: &mut Vec<String>) {
    if timing::OPTIONS.iter().filter(|name| options.contains_key(**name)).count() != 1 {
        let all = timing::OPTIONS.join(", ");
        errors.push(format!("{place}: exactly one of {all} is to be given"));
    }
    errors.extend(times(options).into_iter().chain(secret(options)).map(|what| format!("{place}/{what}")));
    if !options.contains_key("kind") {
        errors.push(format!("{place}/kind: is missing; it is a kind of command, as write, read, sync, run"));
    }
    for name in ELSEWHERE.iter().filter(|name| options.contains_key(**name)) {
        errors.push(format!("{place}/{name}: is said by the document that the schedule is in"));
    }
}

/// A secret in what a schedule asks for: every agent refuses it, but here it would stand in the twin and its history already.
fn secret(options: &Map<String, Json>) -> Option<String> {
    let found = options.get("input").and_then(secret_of_request)?;
    Some(format!(
        "input: {found}: is a secret or may be one, and a twin is read by many: such a schedule is set on the device"
    ))
}

/// What is wrong with the times that options say; what is no text is told elsewhere.
fn times(options: &Map<String, Json>) -> Vec<String> {
    let text = |name: &str| options.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let zone = text("zone").map(timing::zone);
    let wrong_zone = zone.as_ref().and_then(|zone| zone.as_ref().err().cloned());
    let zone = zone.and_then(Result::ok).unwrap_or(jiff::tz::TimeZone::UTC);
    let wrong = timing::OPTIONS.iter().filter_map(|name| Timing::read(name, text(name)?, zone.clone()).err());
    wrong.chain(wrong_zone).collect()
}

/// What is wrong with the times and requests of schedules in a layer of an agent's configuration, each as far as the layer says it: the
/// rest is in the agent's file.
#[must_use]
pub fn of_layer(section: &Json, place: &str) -> Vec<String> {
    let schedules = section.as_object().into_iter().flatten();
    let wrong = |(name, options): (&String, &Json)| {
        let options = options.as_object();
        let wrong = options.map(times).unwrap_or_default().into_iter().chain(options.and_then(secret));
        wrong.map(|what| format!("{place}/{}/{what}", escape(name))).collect::<Vec<_>>()
    };
    schedules.flat_map(wrong).collect()
}

/// Schedules that a patch of `desired` has written and that will not run, as their one time is over and is not made up for; one text
/// each. One that ran at its time is so too afterwards: this is told of what is written, when it is.
#[must_use]
pub fn over(desired: &Json, patch: &Json, now_ms: i64) -> Vec<String> {
    let mut told = Vec::new();
    for pointer in ["/schedules", "/config/schedule"] {
        let written = patch.pointer(pointer).and_then(Json::as_object).into_iter().flatten();
        let written = written.filter(|(_, options)| options.is_object());
        for (name, _) in written.take(ERRORS_MAX) {
            let options = desired.pointer(pointer).and_then(|all| all.get(name));
            if options.is_some_and(|options| is_over(options, now_ms)) {
                told.push(format!(
                    "/desired{pointer}/{}: its time is over, and missed is skip: it will not run",
                    escape(name)
                ));
            }
        }
    }
    told
}

/// As [`over`], of a layer that many agents get.
#[must_use]
pub fn over_of_layer(layer: &Json, now_ms: i64) -> Vec<String> {
    let desired = json!({ "config": layer });
    over(&desired, &desired, now_ms)
}

fn is_over(options: &Json, now_ms: i64) -> bool {
    let text = |name: &str| options.get(name).and_then(Json::as_str);
    let timing = text("at").and_then(|at| Timing::read("at", at, jiff::tz::TimeZone::UTC).ok());
    let within_s = options.get("within_s").and_then(Json::as_i64);
    let within_ms = within_s.map_or(WITHIN_MS, |within_s| within_s.saturating_mul(1_000));
    text("missed").is_none_or(|missed| missed == "skip")
        && timing.is_some_and(|timing| timing.is_over(now_ms, within_ms))
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

    #[test]
    fn what_is_over_and_not_made_up_for_is_told_by_its_name() {
        let at = "1970-01-01T01:00:00Z";
        let desired = json!({
            "schedules": {
                "once": { "at": at, "kind": "sync" },
                "late": { "at": at, "kind": "sync", "within_s": 120 },
                "kept": { "at": at, "kind": "sync", "missed": "run-once" },
                "night": { "cron": "0 2 * * *", "kind": "sync" },
                "odd": 1,
            },
            "config": { "schedule": { "one": { "at": at }, "off": false } },
        });
        assert_eq!(over(&desired, &desired, 3_660_000), [""; 0]);
        let told = |names: &[&str]| -> Vec<String> {
            let text = "its time is over, and missed is skip: it will not run";
            names.iter().map(|name| format!("{name}: {text}")).collect()
        };
        assert_eq!(
            over(&desired, &desired, 3_660_001),
            told(&["/desired/schedules/once", "/desired/config/schedule/one"])
        );
        assert_eq!(over(&desired, &desired, 3_720_001).len(), 3);
        // What is told is what was written, as it is then.
        let patch = json!({ "schedules": { "once": { "kind": "read" }, "late": null, "gone": { "at": at } }, "config": [] });
        assert_eq!(over(&desired, &patch, i64::MAX), told(&["/desired/schedules/once"]));
    }

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
        assert_eq!(
            told(&json!({}), json!(1)),
            ["/desired/schedules: must be an object of schedules by name"]
        );
        assert_eq!(
            told(&json!({}), json!({ "night": 1 })),
            ["/desired/schedules/night: must be of type object"]
        );
        let both =
            told(&night, json!({ "night": { "every": "1h", "within_s": 0, "device": "a", "zone": 1 } }));
        assert_eq!(
            both,
            [
                "/desired/schedules/night/within_s: must be a whole number from 1 to 86400",
                "/desired/schedules/night/zone: must be a text",
                "/desired/schedules/night: exactly one of cron, every, at is to be given",
                "/desired/schedules/night/device: is said by the document that the schedule is in",
            ]
        );
        let none = told(&json!({}), json!({ "night": { "every": "1h", "input": 1 } }));
        assert_eq!(none.len(), 2, "{none:?}");
        let never = json!({
            "feb": { "cron": "0 0 31 2 *", "kind": "sync" },
            "fast": { "every": "0s", "kind": "sync" },
            "moon": { "cron": "0 0 1 * *", "zone": "Moon", "kind": "sync" },
        });
        let mut told_of_never = told(&json!({}), never);
        told_of_never.sort();
        assert_eq!(
            told_of_never,
            [
                "/desired/schedules/fast/every: \"0s\" is none; allowed are 10s to 8784h, as 15m",
                "/desired/schedules/feb/cron: \"0 0 31 2 *\" never comes: no month of it has such a day",
                "/desired/schedules/moon/zone: \"Moon\" is none; allowed are those of the IANA, as Europe/Berlin",
            ]
        );
        let asks = |input: Json| json!({ "ask": { "every": "1h", "kind": "http", "input": input } });
        for (input, at) in [
            (json!({ "url": "http://u:p@h/" }), "url: is a secret"),
            (json!(r#"{"url":"http://u:p@h/"}"#), "url: is a secret"),
            (json!({ "url": "http://h/", "headers": { "X-Key": "k" } }), "headers.X-Key (plain ones are"),
        ] {
            let wrong = told(&json!({}), asks(input.clone()));
            let place = format!("/desired/schedules/ask/input: {at}");
            assert!(wrong.len() == 1 && wrong.iter().all(|one| one.starts_with(&place)), "{wrong:?}");
            let wrong = of_layer(&asks(input), "/desired/config/schedule");
            let place = format!("/desired/config/schedule/ask/input: {at}");
            assert!(wrong.len() == 1 && wrong.iter().all(|one| one.starts_with(&place)), "{wrong:?}");
        }
        let plain = json!({ "url": "http://h/?at=a@b", "headers": { "Accept": "text/plain" } });
        assert_eq!(told(&json!({}), asks(plain.clone())), [""; 0]);
        assert_eq!(of_layer(&asks(plain), ""), [""; 0]);
        // Whatever wrong stands there already is left to who takes it back.
        assert_eq!(told(&json!({ "old": 1 }), night), [""; 0]);
    }
}
