//! Schedules that twins and the documents of groups and sites desire: their options are those of `[[schedule]]`.

use serde_json::{Map, Value as Json};
use tideline_twin::secret_of_request;

use super::read::{Section, Value, accept};
use super::{KEYS, Key, Scheduled, jobs};
use crate::commands::kinds::KINDS;

/// The section of the configuration that has the same options.
const SECTION: &str = "schedule";
/// Options that the document itself says: the member's name, and for which devices it holds.
const ELSEWHERE: [&str; 2] = ["name", "device"];
/// Most bytes of one, as JSON: it is told again in the twin of each device.
const BYTES_MAX: usize = 8 * 1024;
/// Most options, with what its input holds.
const OPTIONS_MAX: usize = 64;

/// Reads the schedule of this name; its input may be an object as well as a text.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn schedule(name: &str, options: &Json) -> Result<Scheduled, String> {
    let Json::Object(options) = options else {
        return Err(format!("must be an object with {}", allowed()));
    };
    let bytes = Json::Object(options.clone()).to_string().len();
    let count = leaves(options);
    if bytes > BYTES_MAX || count > OPTIONS_MAX {
        return Err(format!(
            "has {bytes} bytes and {count} options with those of its input; allowed are {BYTES_MAX} and {OPTIONS_MAX}"
        ));
    }
    let mut section = Section::from([("name", Value::Text(name.to_owned()))]);
    for (option, value) in options {
        let key =
            key(option).ok_or_else(|| format!("{option}: unknown option; allowed are {}", allowed()))?;
        let value = accept(key, read(option, value)).map_err(|what| format!("{option}: {what}"))?;
        section.insert(key.name, value);
    }
    let scheduled = jobs::scheduled(&section, &[]).map_err(|what| format!("{SECTION}.{what}"))?;
    judge(&scheduled)?;
    Ok(scheduled)
}

/// What is refused of a schedule that many may read and that many devices are to carry out.
fn judge(scheduled: &Scheduled) -> Result<(), String> {
    if !KINDS.contains(&scheduled.kind.as_str()) {
        return Err(format!("kind: {:?} is none; allowed are {}", scheduled.kind, KINDS.join(", ")));
    }
    if let Some(place) = secret_of_request(&Json::String(scheduled.input.clone())) {
        return Err(format!(
            "input.{place}: is a secret or may be one, and a twin is read by many: such a schedule is set on the device"
        ));
    }
    if matches!(scheduled.kind.as_str(), "write" | "read") && scheduled.point().is_none() {
        return Err(format!(
            "input: of a {} has to name a point, as {{\"point\": \"speed\"}}",
            scheduled.kind
        ));
    }
    Ok(())
}

fn key(option: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == SECTION && key.name == option && !ELSEWHERE.contains(&key.name))
}

fn allowed() -> String {
    let keys = KEYS.iter().filter(|key| key.section == SECTION && !ELSEWHERE.contains(&key.name));
    keys.map(|key| key.name).collect::<Vec<_>>().join(", ")
}

fn read(option: &str, value: &Json) -> Value {
    match value {
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => number.as_u64().map_or(Value::Wrong, Value::Number),
        Json::Object(_) if option == "input" => Value::Text(value.to_string()),
        _ => Value::Wrong,
    }
}

fn leaves(members: &Map<String, Json>) -> usize {
    members.values().map(|value| value.as_object().map_or(1, leaves)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_of_a_document_is_one_of_the_configuration_and_its_input_may_be_an_object() {
        let input = json!({"point": "speed", "value": 3});
        let read = schedule("night", &json!({"cron": "0 2 * * *", "kind": "write", "input": input})).unwrap();
        assert_eq!(
            (read.schedule.name.as_str(), read.kind.as_str(), &read.device),
            ("night", "write", &None)
        );
        assert_eq!(serde_json::from_str::<Json>(&read.input).unwrap(), input);
        assert_eq!(read.point().as_deref(), Some("speed"));
        let text =
            json!({"every": "15m", "kind": "sync", "input": "{}", "within_s": 5, "missed": "run-once"});
        assert_eq!(schedule("a", &text).unwrap().schedule.within_ms, 5_000);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let long = "x".repeat(BYTES_MAX);
        let many: Map<String, Json> = (0..=OPTIONS_MAX).map(|at| (format!("o{at}"), 1.into())).collect();
        for (options, told) in [
            (json!(1), "must be an object with cron, every, at, zone"),
            (json!({"device": "a"}), "device: unknown option; allowed are cron,"),
            (json!({"kind": "sync"}), "schedule.cron, schedule.every and schedule.at: exactly one"),
            (json!({"every": "1s", "kind": "sync"}), "schedule.every: \"1s\" is none; allowed are 10s"),
            (json!({"every": 1, "kind": "sync"}), "every: must be a text"),
            (
                json!({"every": "1h", "kind": "sync", "within_s": -1}),
                "within_s: must be a whole number from 1",
            ),
            (json!({"every": "1h", "kind": "sing"}), "kind: \"sing\" is none; allowed are write, read"),
            (json!({"every": "1h", "kind": "write", "input": {"value": 1}}), "input: of a write has to name"),
            (
                json!({"every": "1h", "kind": "http", "input": {"headers": {"X-Key": "s"}}}),
                "input.headers.X-Key",
            ),
            (json!({"every": "1h", "kind": "sync", "input": {"a": long}}), "has 8"),
            (json!({"every": "1h", "kind": "sync", "input": many}), "has "),
        ] {
            let refused = schedule("a", &options).unwrap_err();
            assert!(refused.starts_with(told), "{refused}: {told}");
        }
        let name = schedule("a b", &json!({"every": "1h", "kind": "sync"})).unwrap_err();
        assert!(name.starts_with("schedule.name: \"a b\" is none"), "{name}");
    }

    proptest! {
        #[test]
        fn whatever_is_there_is_read_or_refused(
            option in "[a-z_$]{0,9}", text in "\\PC{0,60}", number in any::<i64>(), name in "\\PC{0,80}"
        ) {
            for value in [json!(text), json!(number), json!([text]), json!({ text.clone(): number }), json!(null)] {
                for option in [option.as_str(), "cron", "every", "at", "zone", "input", "within_s"] {
                    let _ = schedule(&name, &json!({ "kind": "sync", option: value }));
                }
            }
        }
    }
}
