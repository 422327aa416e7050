//! The JSON Schema of profiles, for editors. It is made of the types of [`crate::form`], whose docs are its
//! descriptions, and committed as `profile.schema.json`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::form::File;

/// The schema as JSON.
#[must_use]
pub fn schema() -> Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<File>().to_value()
}

/// The schema as text, as it is committed.
#[must_use]
pub fn text() -> String {
    // A map of maps of texts has nothing that JSON cannot hold.
    serde_json::to_string_pretty(&schema()).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_SCHEMA=1` writes it anew.
    #[test]
    fn the_committed_schema_is_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/profile.schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "profile.schema.json is not as the types are; UPDATE_SCHEMA=1 writes it anew"
        );
    }

    #[test]
    fn every_key_has_a_description() {
        let schema = schema();
        let definitions = schema.get("definitions").and_then(Value::as_object).unwrap();
        let point = definitions.get("PointForm").and_then(|point| point.get("properties")).unwrap();
        for tables in [schema.get("properties").unwrap(), point] {
            for (key, property) in tables.as_object().unwrap() {
                assert!(property.get("description").is_some(), "{key}");
            }
        }
    }
}
