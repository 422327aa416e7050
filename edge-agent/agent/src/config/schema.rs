//! The configuration as a JSON Schema: of what the hub may set in `desired/config`, made of the options' definition.
//!
//! The hub checks a layer by it before it is sent. It says what this agent knows, which may be older or newer than the hub; what
//! needs a look at the device, as whether a file is there, no schema says.

use serde_json::{Map, Value as Json, json};

use super::layer::{OWN, OWN_SECTIONS, is_secret, named};
use super::{KEYS, Key, Kind, pipelines};

/// What an address is without a user and a password.
const PLAIN_ADDRESS: &str = "^[^@]*$";

/// Schemas of the sections, by their names; with `described`, also what each option means and its default.
#[must_use]
pub fn sections(described: bool) -> Map<String, Json> {
    let mut all: Map<String, Json> = Map::new();
    for key in KEYS {
        let section = all.entry(key.section).or_insert_with(|| json!({}));
        if let Json::Object(options) = section {
            options.insert(key.name.to_owned(), option(key, described));
        }
    }
    let mut all: Map<String, Json> =
        all.into_iter().map(|(name, options)| (name.clone(), section(&name, &options))).collect();
    // What a pipeline holds is checked by the agent alone.
    all.insert(pipelines::SECTION.to_owned(), items(json!({ "type": "object" })));
    all
}

/// The schema of a whole layer.
#[must_use]
pub fn layer() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What a hub may set of an edge-agent's configuration",
        "type": "object",
        "properties": sections(true),
        "additionalProperties": false,
    })
}

/// A section that stands once, or items of one that may stand several times, by their names.
fn section(name: &str, options: &Json) -> Json {
    let mut options = options.clone();
    if let (Some(key), Some(members)) = (named(name), options.as_object_mut()) {
        members.remove(key);
    }
    let object = json!({ "type": "object", "properties": options, "additionalProperties": false });
    match named(name) {
        // Nobody but the device says which there are.
        Some(_) if OWN_SECTIONS.contains(&name) => json!({ "type": "object", "readOnly": true }),
        Some(_) => items(object),
        None => object,
    }
}

/// Items by name; false in the place of one takes away that of the file.
fn items(item: Json) -> Json {
    json!({ "type": "object", "additionalProperties": { "anyOf": [{ "const": false }, item] } })
}

fn option(key: &Key, described: bool) -> Json {
    let mut schema = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Choice(allowed) => json!({ "enum": allowed }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
    };
    let Some(members) = schema.as_object_mut() else { return schema };
    if OWN.contains(&(key.section, key.name)) || OWN_SECTIONS.contains(&key.section) {
        members.insert("readOnly".to_owned(), true.into());
    }
    match key.name {
        // An address is a secret only with a user in it.
        "url" | "broker" if is_secret(key.section, key.name) => {
            members.insert("pattern".to_owned(), PLAIN_ADDRESS.into());
        }
        _ if is_secret(key.section, key.name) => drop(members.insert("writeOnly".to_owned(), true.into())),
        _ => {}
    }
    if described {
        members.insert("description".to_owned(), key.doc.into());
        if let Kind::Text | Kind::Choice(_) = key.kind {
            members.insert("default".to_owned(), key.default.into());
        } else if let Ok(default) = serde_json::from_str::<Json>(key.default) {
            members.insert("default".to_owned(), default);
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_in_the_schema_with_what_is_allowed() {
        let all = sections(false);
        let own = |key: &&Key| OWN_SECTIONS.contains(&key.section);
        for key in KEYS.iter().filter(|key| named(key.section) != Some(key.name) && !own(key)) {
            let at = if named(key.section).is_some() {
                format!("/additionalProperties/anyOf/1/properties/{}", key.name)
            } else {
                format!("/properties/{}", key.name)
            };
            assert!(all[key.section].pointer(&at).is_some(), "{}.{}", key.section, key.name);
        }
        let rows = json!({ "type": "integer", "minimum": 1, "maximum": 500_000 });
        assert_eq!(all["batch"]["properties"]["rows_max"], rows);
        assert_eq!(all["agent"]["properties"]["data_dir"]["readOnly"], true);
        let source = &all["source"]["additionalProperties"]["anyOf"][1]["properties"];
        assert_eq!(
            (&source["password"]["writeOnly"], &source["url"]),
            (&json!(true), &json!({"type": "string", "pattern": PLAIN_ADDRESS}))
        );
        assert_eq!(all["program"], json!({"type": "object", "readOnly": true}));
        assert!(layer()["properties"]["spool"]["properties"]["quota_mb"]["description"].is_string());
    }

    #[test]
    fn each_section_fits_into_a_leaf_of_the_twin() {
        for (name, schema) in sections(false) {
            let bytes = schema.to_string().len();
            assert!(bytes < tideline_twin::limits::TEXT_BYTES_MAX, "{name} takes {bytes} bytes");
        }
    }
}
