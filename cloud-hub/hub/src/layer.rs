//! Checks what is wanted of an agent's configuration before it is sent, by the schema that the agent itself reports.
//!
//! The agent may be older or newer than this hub, so that its word counts: `reported/config_schema` of its twin has a JSON Schema
//! for each section. Of JSON Schema this knows what agents use; what it does not know it lets pass, as the agent judges last. The
//! schema comes from outside, so that nothing of it is followed deeper than [`DEPTH_MAX`].

use serde_json::{Map, Value as Json};
use tideline_twin::{Section, Twin, escape, shortened};

use crate::{belonging, schedules};

/// The member of `desired` that is the layer, and that of `reported` with the schemas.
const CONFIG: &str = "config";
const SCHEMAS: &str = "config_schema";
/// The section of the layer with schedules.
const SCHEDULE: &str = "schedule";
/// Where the layer is, as a JSON pointer into the twin.
const PLACE: &str = "/desired/config";
/// Most errors that are told at once.
pub const ERRORS_MAX: usize = 100;
/// How deep a layer is looked into.
const DEPTH_MAX: usize = 8;
/// The pattern of an address without a user, which agents give.
const PLAIN: &str = "^[^@]*$";
/// Most names that an error lists.
const NAMED_MAX: usize = 64;

/// What is wrong with a layer that a patch of `desired` would make, one text each: where, as a JSON pointer, what, and what is
/// allowed. None for a patch that leaves the configuration alone; where the agent has reported no schema, only times that never come.
#[must_use]
pub fn errors(twin: &Twin, patch: &Json) -> Vec<String> {
    let Some(patch) = patch.get(CONFIG) else { return Vec::new() };
    let mut layer = there(twin);
    merge(&mut layer, patch, 0);
    judge(twin, &layer)
}

fn there(twin: &Twin) -> Json {
    twin.json(Section::Desired).get(CONFIG).cloned().unwrap_or(Json::Null)
}

/// What is wrong with a layer of the agent of a twin.
fn judge(twin: &Twin, layer: &Json) -> Vec<String> {
    let mut errors = Vec::new();
    let reported = twin.json(Section::Reported);
    if let Some(schemas) = reported.get(SCHEMAS).and_then(Json::as_object).filter(|all| !all.is_empty()) {
        match layer {
            // Taken back as a whole.
            Json::Null => {}
            Json::Object(sections) => check_sections(schemas, sections, &mut errors),
            _ => errors.push(format!("{PLACE}: must be an object of sections")),
        }
    }
    // No schema says which times never come.
    let schedules = layer.get(SCHEDULE).map(|all| schedules::of_layer(all, &format!("{PLACE}/{SCHEDULE}")));
    errors.extend(schedules.into_iter().flatten());
    errors.truncate(ERRORS_MAX);
    errors
}

/// What is wrong with the configuration and the schedules that patches of a device's twin would make.
#[must_use]
pub fn of_patches(twin: &Twin, patches: &[(Section, Json)]) -> Vec<String> {
    let desired = patches.iter().filter(|(section, _)| *section == Section::Desired);
    let layers = desired.flat_map(|(_, patch)| errors(twin, patch));
    layers.chain(schedules::errors(twin, patches)).chain(belonging::errors(patches)).collect()
}

/// An error as it is told: of a long place the begin and the end. Before that its place tells which leaf it is of.
#[must_use]
pub fn told(error: &str) -> String {
    match error.split_once(": ") {
        Some((place, what)) if place.starts_with('/') => format!("{}: {what}", shortened(place)),
        _ => error.to_owned(),
    }
}

/// Whose document it is.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// An agent's own.
    Agent,
    /// That of a device which this agent reads.
    Behind(&'a str),
    /// A group's or a site's.
    Shared,
}

impl Whose<'_> {
    /// Why a configuration is of no use there.
    fn told(self) -> Option<String> {
        match self {
            Self::Agent => None,
            Self::Behind(agent) => Some(format!(
                "/desired/config: this device has none, as it is read by the agent {agent}: set it in the twin of that"
            )),
            Self::Shared => Some(
                "/desired/config: nobody reads it here; what the agents of a group or site are to have in common goes into its template of \
                 configuration: PUT /api/v1/config-templates/group/NAME or …/site/NAME, or cloud-hub config-template set"
                    .to_owned(),
            ),
        }
    }
}

/// What is wrong with the configuration that stands in a document, as somebody on site may have left it: no reason to refuse what
/// else is wanted.
#[must_use]
pub fn standing(twin: &Twin, whose: Whose<'_>) -> Vec<String> {
    let layer = there(twin);
    if layer.is_null() {
        Vec::new()
    } else {
        whose.told().map_or_else(|| judge(twin, &layer), |told| vec![told])
    }
}

/// What is wrong with patches of a document that devices share: a group's or a site's.
#[must_use]
pub fn of_shared(twin: &Twin, patches: &[(Section, Json)]) -> Vec<String> {
    Some(Whose::Shared)
        .filter(|_| wants_config(twin, patches))
        .and_then(Whose::told)
        .into_iter()
        .chain(schedules::errors(twin, patches))
        .collect()
}

/// What is wrong with patches of the twin of a device that `agent` reads: it has no configuration of its own.
#[must_use]
pub fn of_device_behind(agent: &str, twin: &Twin, patches: &[(Section, Json)]) -> Option<String> {
    if wants_config(twin, patches) { Whose::Behind(agent).told() } else { None }
}

/// Whether there would be more of a configuration by a patch than none. What stands there already can be taken back.
fn wants_config(twin: &Twin, patches: &[(Section, Json)]) -> bool {
    let desired = patches.iter().filter(|(section, _)| *section == Section::Desired);
    let wanted = desired.filter_map(|(_, patch)| patch.get(CONFIG));
    let there = there(twin);
    wanted.into_iter().any(|patch| {
        let mut layer = there.clone();
        merge(&mut layer, patch, 0);
        layer != there && adds(patch)
    })
}

/// Whether a patch has anything but what it takes back. An empty object is something too.
fn adds(patch: &Json) -> bool {
    match patch {
        Json::Null => false,
        Json::Object(members) => members.is_empty() || members.values().any(adds),
        _ => true,
    }
}

/// Whether patches say anything of the configuration.
#[must_use]
pub fn is_of_config(patches: &[(Section, Json)]) -> bool {
    patches.iter().any(|(section, patch)| *section == Section::Desired && patch.get(CONFIG).is_some())
}

fn check_sections(schemas: &Map<String, Json>, sections: &Map<String, Json>, errors: &mut Vec<String>) {
    for (name, value) in sections {
        let place = format!("{PLACE}/{}", escape(name));
        match schemas.get(name).and_then(Json::as_str).map(serde_json::from_str::<Json>) {
            None => errors.push(format!("{place}: unknown section; allowed are {}", names(schemas))),
            // As if the file had none.
            Some(Ok(schema)) if *value == Json::Bool(false) && schema.get("readOnly").is_none() => {
                errors.extend(own(&schema).map(|own| {
                    format!("{place}: cannot be taken away: {own} in it is set on the device alone")
                }));
            }
            Some(Ok(schema)) => check(&schema, value, &place, 0, errors),
            // An agent that reports nonsense judges alone.
            Some(Err(_)) => {}
        }
    }
}

/// An option that only the device sets: without its section it would be another.
fn own(schema: &Json) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    let is_own = |schema: &Json| schema.get("readOnly") == Some(&Json::Bool(true));
    properties.iter().find(|(_, schema)| is_own(schema)).map(|(name, _)| name.as_str())
}

/// As RFC 7396 has it.
pub(crate) fn merge(into: &mut Json, patch: &Json, depth: usize) {
    let Json::Object(members) = patch else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = Json::Object(Map::new());
    }
    let Some(there) = into.as_object_mut().filter(|_| depth <= DEPTH_MAX) else { return };
    for (name, value) in members {
        if value.is_null() {
            there.remove(name);
        } else {
            merge(there.entry(name.clone()).or_insert(Json::Null), value, depth + 1);
        }
    }
}

fn names(of: &Map<String, Json>) -> String {
    of.keys().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ")
}

pub(crate) fn check(schema: &Json, value: &Json, place: &str, depth: usize, errors: &mut Vec<String>) {
    if depth > DEPTH_MAX || errors.len() >= ERRORS_MAX {
        return;
    }
    let is = |name: &str| schema.get(name) == Some(&Json::Bool(true));
    if is("readOnly") {
        return errors.push(format!("{place}: is set on the device alone"));
    }
    if is("writeOnly") {
        return errors
            .push(format!("{place}: is a secret, and a twin is read by many: set it on the device"));
    }
    if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
        return any_of(branches, value, place, depth, errors);
    }
    if let Some(allowed) = schema.get("enum").and_then(Json::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().take(NAMED_MAX).map(plain).collect();
        return errors.push(format!("{place}: must be one of {}", allowed.join(", ")));
    }
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != value) {
        return errors.push(format!("{place}: must be {}", plain(wanted)));
    }
    let Some(kind) = schema.get("type").and_then(Json::as_str) else { return };
    match (kind, value) {
        ("object", Json::Object(members)) => object(schema, members, place, depth, errors),
        ("array", Json::Array(items)) => {
            for (at, item) in items.iter().enumerate().take(NAMED_MAX) {
                let schema = schema.get("items").unwrap_or(&Json::Null);
                check(schema, item, &format!("{place}/{at}"), depth + 1, errors);
            }
        }
        ("integer", Json::Number(number)) if number.is_u64() || number.is_i64() => {
            if let Some(allowed) = out_of_range(schema, value) {
                errors.push(format!("{place}: must be a whole number{allowed}"));
            }
        }
        ("string", Json::String(text))
            if text.contains('@') && schema.get("pattern") == Some(&PLAIN.into()) =>
        {
            errors.push(format!(
                "{place}: has an @, as before a host with a user, and a twin is read by many: set it on the device"
            ));
        }
        ("string", Json::String(_)) | ("boolean", Json::Bool(_)) | ("number", Json::Number(_)) => {}
        ("integer", _) => errors.push(format!("{place}: must be a whole number{}", range(schema))),
        ("string", _) => errors.push(format!("{place}: must be a text")),
        ("array", _) => errors.push(format!("{place}: must be a list")),
        ("boolean" | "number" | "object", _) => errors.push(format!("{place}: must be of type {kind}")),
        _ => {}
    }
}

/// The first that fits, or what is wrong by the last, which says most.
fn any_of(branches: &[Json], value: &Json, place: &str, depth: usize, errors: &mut Vec<String>) {
    let mut of_last = Vec::new();
    for branch in branches.iter().take(DEPTH_MAX) {
        of_last.clear();
        check(branch, value, place, depth + 1, &mut of_last);
        if of_last.is_empty() {
            return;
        }
    }
    errors.append(&mut of_last);
}

fn object(schema: &Json, members: &Map<String, Json>, place: &str, depth: usize, errors: &mut Vec<String>) {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
    for (name, value) in members {
        let place = format!("{place}/{}", escape(name));
        match (properties.get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => check(schema, value, &place, depth + 1, errors),
            (None, Some(Json::Bool(false))) => {
                errors.push(format!("{place}: unknown key; allowed are {}", names(properties)));
            }
            (None, Some(schema)) => check(schema, value, &place, depth + 1, errors),
            (None, None) => {}
        }
    }
}

fn out_of_range(schema: &Json, value: &Json) -> Option<String> {
    // Limits of options are far from where doubles are coarse.
    let (value, at) = (value.as_f64()?, |name: &str| schema.get(name).and_then(Json::as_f64));
    let is_out = at("minimum").is_some_and(|min| value < min) || at("maximum").is_some_and(|max| value > max);
    is_out.then(|| range(schema))
}

fn range(schema: &Json) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of {min} or more"),
        (None, Some(max)) => format!(" up to {max}"),
        (None, None) => String::new(),
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tideline_twin::{Actor, Change, Side, merge_patch};

    use super::*;

    /// A twin as an agent reports it.
    fn twin(schemas: &Json, config: &Json) -> Twin {
        let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
        let parts =
            [(Section::Reported, json!({ SCHEMAS: schemas })), (Section::Desired, json!({ CONFIG: config }))];
        for (section, patch) in parts {
            let edits = merge_patch(section, &json!({}), &patch).unwrap();
            let record = twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap();
            record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
        }
        twin
    }

    fn schemas() -> Json {
        let batch = json!({ "type": "object", "additionalProperties": false, "properties": {
            "rows_max": { "type": "integer", "minimum": 1, "maximum": 500 },
            "mode": { "enum": ["a", "b"] },
            "data_dir": { "type": "string", "readOnly": true },
        }});
        let source = json!({ "type": "object", "additionalProperties": { "anyOf": [{ "const": false }, {
            "type": "object", "additionalProperties": false, "properties": {
                "path": { "type": "string" },
                "columns": { "type": "array", "items": { "type": "string" } },
                "token": { "type": "string", "writeOnly": true },
                "url": { "type": "string", "pattern": "^[^@]*$" },
            },
        }]}});
        let program = json!({ "type": "object", "readOnly": true }).to_string();
        json!({ "batch": batch.to_string(), "program": program, "source": source.to_string() })
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_place_and_what_is_allowed() {
        let twin = twin(&schemas(), &json!({}));
        let patch = json!({ "config": {
            "batch": { "rows_max": 0, "mode": "c", "data_dir": "/", "colour": 1 },
            "source": {
                "a": { "path": 1, "columns": ["x", 2], "token": "s", "url": "mqtt://u:p@host" },
                "b": true,
                "c": false,
            },
            "cellar": {},
            "program": false,
        }, "other": 5 });
        let mut told = errors(&twin, &patch);
        told.sort();
        assert_eq!(
            told,
            [
                "/desired/config/batch/colour: unknown key; allowed are data_dir, mode, rows_max",
                "/desired/config/batch/data_dir: is set on the device alone",
                "/desired/config/batch/mode: must be one of a, b",
                "/desired/config/batch/rows_max: must be a whole number from 1 to 500",
                "/desired/config/cellar: unknown section; allowed are batch, program, source",
                "/desired/config/program: is set on the device alone",
                "/desired/config/source/a/columns/1: must be a text",
                "/desired/config/source/a/path: must be a text",
                "/desired/config/source/a/token: is a secret, and a twin is read by many: set it on the device",
                "/desired/config/source/a/url: has an @, as before a host with a user, and a twin is read by many: set it on the device",
                "/desired/config/source/b: must be of type object",
            ]
        );
    }

    #[test]
    fn what_is_right_and_what_is_taken_back_passes_also_over_what_is_there() {
        let twin_of = |config: Json| twin(&schemas(), &config);
        let good = json!({ "config": { "batch": { "rows_max": 7 }, "source": { "a": false } } });
        assert_eq!(errors(&twin_of(json!({})), &good), Vec::<String>::new());
        // What was wrong before is found until it is taken back.
        let wrong = twin_of(json!({ "batch": { "rows_max": 0 } }));
        assert_eq!(errors(&wrong, &json!({ "config": { "source": { "a": {} } } })).len(), 1);
        for patch in [json!({ "config": { "batch": { "rows_max": null } } }), json!({ "config": null })] {
            assert_eq!(errors(&wrong, &patch), Vec::<String>::new());
        }
        assert_eq!(errors(&wrong, &json!({ "mode": "eco" })), Vec::<String>::new());
        let taken = json!({ "config": { "batch": false, "source": false } });
        let told = "/desired/config/batch: cannot be taken away: data_dir in it is set on the device alone";
        assert_eq!(errors(&twin_of(json!({})), &taken), [told]);
        // A time that never comes is wrong whoever reads it.
        let never = json!({ "config": { "schedule": {
            "late": { "cron": "0 0 31 2 *" }, "night": { "zone": "UTC" }, "off": false
        } } });
        assert_eq!(
            errors(&twin(&json!({}), &json!({})), &never),
            ["/desired/config/schedule/late/cron: \"0 0 31 2 *\" never comes: no month of it has such a day"]
        );
        // Nobody has said what is right.
        assert!(errors(&twin(&json!({}), &json!({})), &json!({ "config": { "cellar": 1 } })).is_empty());
    }

    #[test]
    fn a_configuration_is_wanted_of_agents_and_not_of_documents_or_devices_behind_them() {
        let wanted = |config: Json| [(Section::Desired, json!({ "config": config, "speed": 4 }))];
        let (empty, left) =
            (twin(&json!({}), &json!({})), twin(&json!({}), &json!({ "batch": { "rows_max": 1 } })));
        let set = wanted(json!({ "batch": { "rows_max": 2 } }));
        let [told]: [String; 1] = of_shared(&empty, &set).try_into().unwrap();
        assert!(
            told.contains("template of configuration: PUT /api/v1/config-templates/group/NAME"),
            "{told}"
        );
        let told = of_device_behind("gate-1", &empty, &set).unwrap();
        assert!(
            told.starts_with("/desired/config: this device has none, as it is read by the agent gate-1"),
            "{told}"
        );
        // What stands there from before can go.
        for config in [Json::Null, json!({ "batch": null }), json!({ "batch": { "rows_max": null } })] {
            assert_eq!(of_shared(&left, &wanted(config.clone())), [""; 0]);
            assert_eq!(of_device_behind("gate-1", &left, &wanted(config)), None);
        }
        assert_eq!(of_shared(&left, &wanted(json!({ "batch": { "rows_max": 1 } }))), [""; 0], "as it is");
        let both = [(Section::Desired, json!({ "config": { "a": 1 }, "schedules": 1 }))];
        assert_eq!(of_shared(&empty, &both).len(), 2, "all at once");
        assert_eq!(of_shared(&empty, &[(Section::Notes, json!({ "config": 1 }))]), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_schema_and_any_layer_end(schema in "[ -~]{0,200}", depth in 0_usize..200) {
            let mut layer = json!(1);
            let mut nested = json!({ "type": "integer" });
            for _ in 0..depth {
                layer = json!({ "a": layer });
                nested = json!({ "type": "object", "additionalProperties": nested });
            }
            let mut errors = Vec::new();
            check(&nested, &layer, "config", 0, &mut errors);
            let all = json!({ "a": schema });
            check_sections(all.as_object().unwrap(), json!({ "a": layer }).as_object().unwrap(), &mut errors);
            prop_assert!(errors.len() <= ERRORS_MAX);
        }
    }
}
