//! The JSON Schema of profiles, for editors. It is made of the types of [`crate::form`], whose docs are its
//! descriptions, and committed as `profile.schema.json`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::form::File;

/// The schema as JSON. What `[[pipeline]]` sections hold is known to who runs them, and given: a schema that refers to nothing
/// outside itself.
#[must_use]
pub fn schema(pipelines: Value) -> Value {
    let mut whole = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>().to_value();
    if let (Some(own), Value::Object(given)) = (whole.pointer_mut(PIPELINES), pipelines)
        && let Some(members) = own.as_object_mut()
    {
        members.extend(given);
    }
    whole
}

const PIPELINES: &str = "/properties/pipeline";

/// The schema as text, as it is committed.
#[must_use]
pub fn text(pipelines: Value) -> String {
    // A map of maps of texts has nothing that JSON cannot hold.
    serde_json::to_string_pretty(&schema(pipelines)).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `edge-agent profile schema` writes it, and the agent's test of that by `UPDATE_SCHEMA=1`.
    #[test]
    fn the_committed_schema_is_what_the_types_say_but_for_pipelines() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/profile.schema.json");
        let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let pipelines = committed.pointer(PIPELINES).unwrap().clone();
        assert!(
            committed == schema(pipelines),
            "profile.schema.json is not as the types are; UPDATE_SCHEMA=1 in the agent's tests writes it anew"
        );
    }

    #[test]
    fn every_key_has_a_description() {
        let schema = schema(Value::Null);
        let definitions = schema.get("definitions").and_then(Value::as_object).unwrap();
        let point = definitions.get("PointForm").and_then(|point| point.get("properties")).unwrap();
        for tables in [schema.get("properties").unwrap(), point] {
            for (key, property) in tables.as_object().unwrap() {
                assert!(property.get("description").is_some(), "{key}");
            }
        }
    }
}
