//! The reference of definitions, and definitions as text.

use serde_json::Value;

/// What a definition may say, with an example for each kind of window.
pub const REFERENCE: &str = include_str!("reference.txt");

/// A definition in TOML or JSON, as JSON. TOML has no null: an idle time-out of -1 stands for none.
///
/// # Errors
/// It is neither; the text says where.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"));
    }
    let mut value: Value = toml::from_str(text).map_err(|error| format!("it is no TOML: {error}"))?;
    if let Some(idle) = value.pointer_mut("/time/idle_timeout_ms")
        && idle.as_i64() == Some(-1)
    {
        *idle = Value::Null;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::check;

    #[test]
    fn every_example_of_the_reference_is_a_good_definition_and_each_kind_has_one() {
        let mut kinds = Vec::new();
        for example in REFERENCE.split("# Example: ").skip(1) {
            let (title, text) = example.split_once('\n').unwrap();
            let value = parse(text).unwrap();
            let kind = value["window"]["kind"].as_str().unwrap().to_owned();
            assert!(title.starts_with(&kind), "{title}");
            let job = check(serde_json::from_value(value.clone()).unwrap()).unwrap();
            assert_eq!(
                parse(&serde_json::to_string(job.spec()).unwrap()).unwrap()["window"],
                value["window"]
            );
            kinds.push(kind);
        }
        assert_eq!(kinds, ["tumbling", "hopping", "sliding", "session", "each", "each", "tumbling"]);
    }

    #[test]
    fn a_text_that_is_neither_is_told_with_its_place() {
        assert!(parse("{\"a\": }").unwrap_err().contains("line 1 column 7"));
        assert!(parse("a = \nb").unwrap_err().contains("line "));
        assert_eq!(parse("time = { idle_timeout_ms = -1 }").unwrap()["time"]["idle_timeout_ms"], Value::Null);
    }
}
