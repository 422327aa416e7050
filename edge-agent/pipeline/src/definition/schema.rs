//! The JSON Schema of pipelines, for editors. It is made of the types of [`super`], whose docs are its descriptions.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use super::Definition;

/// What a file may say as one or as a list.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is here for its schema alone")]
pub enum OneOrMore<T> {
    /// One.
    One(T),
    /// Several.
    Several(Vec<T>),
}

/// The names of [`tideline_protocol::value::ValueKind`], which knows no schemas.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is here for its schema alone")]
pub enum ValueKindName {
    /// A double.
    Float,
    /// An integer.
    Int,
    /// A truth value.
    Bool,
    /// A text.
    Text,
}

/// The schema of all `[[pipeline]]` sections of a file, which refers to nothing outside itself.
#[must_use]
pub fn schema() -> Json {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut pipeline = settings.into_generator().into_root_schema_for::<Definition>().to_value();
    close(&mut pipeline);
    if let Some(members) = pipeline.as_object_mut() {
        members.remove("title");
    }
    if let Some(stage) = pipeline.pointer_mut("/properties/stage/items") {
        *stage = apart(stage);
    }
    json!({ "type": "array", "items": pipeline })
}

/// The kinds of stages apart, each with all its keys and no others: where keys that all have stand beside those of one, no
/// schema of this draft can rule others out.
fn apart(stage: &Json) -> Json {
    let empty = Map::new();
    let kinds = flat(stage.as_object().unwrap_or(&empty));
    json!({ "description": stage.get("description"), "oneOf": kinds })
}

/// What is common to all of a choice with each that there is to choose.
fn flat(schema: &Map<String, Json>) -> Vec<Json> {
    let mut common = schema.clone();
    let Some(Json::Array(choices)) = common.remove("oneOf") else {
        let mut whole = Json::Object(common);
        close(&mut whole);
        return vec![whole];
    };
    let choices = choices.iter().filter_map(Json::as_object);
    choices.flat_map(|choice| flat(&both(&common, choice))).collect()
}

/// The keys of both; where both say what they are for, the second, which is of fewer.
fn both(common: &Map<String, Json>, choice: &Map<String, Json>) -> Map<String, Json> {
    let mut all = choice.clone();
    for (key, value) in common {
        match (all.get_mut(key), value) {
            (None, value) => drop(all.insert(key.clone(), value.clone())),
            (Some(Json::Object(held)), Json::Object(more)) => {
                for (name, schema) in more {
                    held.entry(name.as_str()).or_insert_with(|| schema.clone());
                }
            }
            (Some(Json::Array(held)), Json::Array(more)) => held.extend(more.iter().cloned()),
            _ => {}
        }
    }
    all
}

/// Rules unknown keys out, as the reader does, here and in the tables within.
fn close(schema: &mut Json) {
    let Some(members) = schema.as_object_mut() else { return };
    let is_table = members.contains_key("properties") && !members.contains_key("oneOf");
    if is_table && !members.contains_key("additionalProperties") {
        members.insert("additionalProperties".to_owned(), false.into());
    }
    for (key, value) in members.iter_mut() {
        match value {
            Json::Object(tables) if key == "properties" => tables.values_mut().for_each(close),
            Json::Object(_) if key == "items" => close(value),
            Json::Array(choices) if key == "anyOf" => choices.iter_mut().for_each(close),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::read;
    use super::*;

    /// The kinds of stages in the schema, with their schemas.
    fn kinds() -> Vec<(String, Option<String>, Json)> {
        let schema = schema();
        let of = |stage: &Json, key: &str| {
            stage.pointer(&format!("/properties/{key}/const")).and_then(Json::as_str).map(str::to_owned)
        };
        let all = schema.pointer("/items/properties/stage/items/oneOf").and_then(Json::as_array).unwrap();
        all.iter().map(|stage| (of(stage, "kind").unwrap(), of(stage, "condition"), stage.clone())).collect()
    }

    /// What the reader says of a stage.
    fn told(stage: &str) -> Vec<(String, String)> {
        let text =
            format!("[[pipeline]]\nname = \"p\"\nfrom = \"*\"\n[[pipeline.stage]]\nname = \"s\"\n{stage}");
        let problems = read("a.toml", &text).unwrap_err().list;
        let key = |place: &str| place.rsplit(", ").next().unwrap_or_default().to_owned();
        problems.into_iter().map(|problem| (key(&problem.place), problem.what)).collect()
    }

    fn names(keys: &Json) -> BTreeSet<String> {
        match keys {
            Json::Object(tables) => tables.keys().cloned().collect(),
            Json::Array(names) => names.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            _ => BTreeSet::new(),
        }
    }

    #[test]
    fn each_kind_of_stage_has_the_keys_that_its_reader_takes_and_needs() {
        for (kind, condition, stage) in kinds() {
            let condition = condition.map(|name| format!("condition = {name:?}\n")).unwrap_or_default();
            let told = told(&format!("kind = {kind:?}\n{condition}unknown_key = 1\n"));
            let (_, allowed) = told.iter().find(|(key, _)| key == "unknown_key").unwrap();
            let allowed = allowed.strip_prefix("is an unknown key; allowed are ").unwrap();
            let allowed: BTreeSet<String> = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(names(&stage["properties"]), allowed, "{kind} {condition}");
            let needed = told.iter().filter(|(_, what)| what == "is needed").map(|(key, _)| key.clone());
            let mut needed: BTreeSet<String> = needed.collect();
            needed.extend(["name".to_owned(), "kind".to_owned()]);
            needed.extend((!condition.is_empty()).then(|| "condition".to_owned()));
            assert_eq!(names(&stage["required"]), needed, "{kind} {condition}");
            assert_eq!(stage["additionalProperties"], false, "{kind} {condition}");
        }
    }

    #[test]
    fn all_kinds_and_conditions_are_there_and_each_key_says_what_it_is_for() {
        let kinds = kinds();
        let found: BTreeSet<String> = kinds.iter().map(|(kind, ..)| kind.clone()).collect();
        let (_, allowed) = told("kind = \"x\"\n").remove(0);
        let allowed = allowed.split("allowed are ").nth(1).unwrap();
        assert_eq!(found, allowed.split(", ").map(str::to_owned).collect());
        assert_eq!(kinds.iter().filter(|(_, condition, _)| condition.is_some()).count(), 7);
        for (kind, _, stage) in &kinds {
            assert!(stage["description"].is_string(), "{kind}");
            for (key, schema) in stage["properties"].as_object().unwrap() {
                let says = schema["description"].is_string() || schema["const"].is_string();
                assert!(says, "{kind}, {key}");
            }
        }
        let text = schema().to_string();
        assert!(!text.contains("$ref"), "{text}");
    }
}
