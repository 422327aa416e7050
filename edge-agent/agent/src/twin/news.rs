//! What a report adds to what is told already.

use serde_json::Value as Json;

/// What of a merge patch is not so already; none where all of it is. A patch that says again what is there would tell of each leaf
/// anew who wrote it and when, and grow the history by it.
#[must_use]
pub fn news(there: Option<&Json>, patch: Json) -> Option<Json> {
    match (there, patch) {
        (None, Json::Null) => None,
        (Some(Json::Object(there)), Json::Object(members))
            if !members.keys().any(|name| name.starts_with('$')) =>
        {
            // One that is empty makes an object where there was none, and there is one.
            let new = members.into_iter().filter_map(|(name, one)| {
                let new = news(there.get(&name), one)?;
                Some((name, new))
            });
            Some(Json::Object(new.collect())).filter(|new| new.as_object().is_some_and(|new| !new.is_empty()))
        }
        (Some(there), patch) if *there == patch => None,
        (_, patch) => Some(patch),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_already_is_not_told_again() {
        let there = json!({"a": {"x": 1, "y": [1, 2]}, "b": "t", "n": {"$set": [1]}});
        let new = |patch: Json| news(Some(&there), patch);
        assert_eq!(new(there.clone()), None);
        assert_eq!(new(json!({"a": {"x": 2, "y": [1, 2]}, "b": "t"})), Some(json!({"a": {"x": 2}})));
        assert_eq!(new(json!({"a": {"x": null, "z": null}, "c": null})), Some(json!({"a": {"x": null}})));
        assert_eq!(new(json!({"a": {}, "b": null, "c": {}})), Some(json!({"b": null, "c": {}})));
        assert_eq!(new(json!({"b": {"x": 1}, "a": 1})), Some(json!({"b": {"x": 1}, "a": 1})));
        assert_eq!(new(json!({"n": {"$set": [2]}})), Some(json!({"n": {"$set": [2]}})));
        assert_eq!(news(None, json!({"a": null})), Some(json!({"a": null})));
    }
}
