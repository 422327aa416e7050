//! What is in force, and where each value comes from.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use tideline_twin::has_user;

use super::layer::{is_secret, named};
use super::{HubLayer, KEYS, Kind, Layers, REPEATED};

/// One option in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The section, with the item's name where there may be several: `source/meter`.
    pub section: String,
    /// The option.
    pub name: String,
    /// Its value; of a secret only that it is set.
    pub value: Json,
    /// Which layer it comes from.
    pub source: Origin,
}

/// Which layer a value comes from; as a text "default", "file", "hub", or the environment's variable or the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// The file.
    File,
    /// This variable of the environment.
    Environment(String),
    /// The hub.
    Hub,
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment(variable) => variable,
            Self::Hub => "hub",
            Self::Flag(flag) => flag,
        })
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Layers {
    /// All options that stand once, and of the others those that are set, as far as the layers are right: check them by
    /// [`Layers::load_under`] first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn effective(&self, layer: &HubLayer) -> anyhow::Result<Vec<Effective>> {
        let text = self.file.as_ref().map_or_else(|| Ok(String::new()), std::fs::read_to_string)?;
        let file: Map<String, Json> = toml::from_str(&text)?;
        let hub = layer.json();
        let mut all: Vec<_> = KEYS
            .iter()
            .filter(|key| !REPEATED.contains(&key.section))
            .map(|key| {
                let at = |layer: Option<&Json>| Some(layer?.get(key.name)?.clone());
                let variable = key.variable();
                let env = || {
                    let (name, value) = self.env.iter().find(|(name, _)| Some(name) == variable.as_ref())?;
                    Some((Json::String(value.clone()), Origin::Environment(name.clone())))
                };
                // Taken away by the hub, the section is as if the file had none.
                let in_file =
                    file.get(key.section).filter(|_| hub.get(key.section) != Some(&Json::Bool(false)));
                let (value, source) = (self.flag(key.section, key.name))
                    .or_else(|| Some((at(hub.get(key.section))?, Origin::Hub)))
                    .or_else(env)
                    .or_else(|| Some((at(in_file)?, Origin::File)))
                    .unwrap_or_else(|| (default(key.kind, key.default), Origin::Default));
                one(key.section, key.section, key.name, value, source)
            })
            .collect();
        let merged: Map<String, Json> = toml::from_str(&layer.over(&text).unwrap_or(text))?;
        for (section, items) in &merged {
            let (Some(key), Some(items)) = (named(section), items.as_array()) else { continue };
            for item in items.iter().filter_map(Json::as_object) {
                let name = item.get(key).and_then(Json::as_str).unwrap_or_default();
                let by_hub = hub.get(section).and_then(|items| items.get(name));
                all.extend(item.iter().filter(|(option, _)| option.as_str() != key).map(
                    |(option, value)| {
                        let is_hubs = by_hub.is_some_and(|options| options.get(option).is_some());
                        let source = if is_hubs { Origin::Hub } else { Origin::File };
                        one(section, &format!("{section}/{name}"), option, value.clone(), source)
                    },
                ));
            }
        }
        Ok(all)
    }

    fn flag(&self, section: &str, name: &str) -> Option<(Json, Origin)> {
        match (section, name) {
            ("agent", "data_dir") => {
                let path: &PathBuf = self.data_dir.as_ref()?;
                Some((path.display().to_string().into(), Origin::Flag("--data")))
            }
            ("uplink", "hub") => Some((self.hub.clone()?.into(), Origin::Flag("--hub"))),
            _ => None,
        }
    }
}

fn one(kind: &str, section: &str, name: &str, value: Json, source: Origin) -> Effective {
    let value = match (kind, name) {
        _ if is_secret(kind, name) => hidden(value),
        // Whoever set them may have put a password among them.
        ("program", "args" | "allow") => hidden(value),
        ("commands", "http_allow") => without_users(value),
        ("schedule", "input") => without_secrets(value),
        _ => value,
    };
    Effective { section: section.to_owned(), name: name.to_owned(), value, source }
}

/// Only whether it is set.
fn hidden(value: Json) -> Json {
    let is_empty = match &value {
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        _ => false,
    };
    if is_empty { value } else { Json::String("(set)".to_owned()) }
}

/// Addresses as they are, but for one with a user in it.
fn without_users(value: Json) -> Json {
    let without = |one: Json| if one.as_str().is_some_and(has_user) { hidden(one) } else { one };
    match value {
        Json::Array(items) => items.into_iter().map(without).collect(),
        other => without(other),
    }
}

/// What a schedule does, without what a request or a program is told of who asks: names of headers are shown, and no values.
fn without_secrets(value: Json) -> Json {
    let Some(text) = value.as_str() else { return value };
    let Ok(Json::Object(mut input)) = serde_json::from_str(text) else { return hidden(value) };
    let before = input.clone();
    for (name, value) in &mut input {
        match (name.as_str(), &mut *value) {
            ("headers", Json::Object(headers)) => {
                headers.values_mut().for_each(|value| *value = "(set)".into());
            }
            ("headers" | "body" | "args", _) => *value = "(set)".into(),
            ("url", Json::String(url)) if has_user(url) => *value = "(set)".into(),
            ("url", Json::String(url)) => {
                if let Some((place, _)) = url.split_once('?') {
                    *url = format!("{place}?(set)");
                }
            }
            _ => {}
        }
    }
    if input == before { value } else { Json::Object(input).to_string().into() }
}

fn default(kind: Kind, text: &str) -> Json {
    match kind {
        Kind::Number { .. } => text.parse::<u64>().map_or(Json::Null, Json::from),
        Kind::List => Json::Array(Vec::new()),
        Kind::Text | Kind::Choice(_) => Json::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_is_shown_with_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let text = "[batch]\nflush_interval_ms = 700\nrows_max = 9\n[spool]\nquota_mb = 5\n[[source]]\nname = \"push\"\nkind = \"http\"\ntoken = \"secret\"\n[[program]]\nname = \"p\"\npath = \"/bin/p\"\nargs = [\"secret\"]\n[[schedule]]\nname = \"s\"\nevery = \"1h\"\nkind = \"http\"\ninput = '{\"url\": \"http://a/\", \"headers\": {\"X-Key\": \"secret\"}, \"body\": \"secret\"}'\n[[schedule]]\nname = \"plain\"\nevery = \"1h\"\nkind = \"sync\"\ninput = '{ \"timeout_ms\": 5 }'\n[[schedule]]\nname = \"asks\"\nevery = \"1h\"\nkind = \"http\"\ninput = '{\"url\": \"http://a/b?token=secret\"}'\n[[schedule]]\nname = \"runs\"\nevery = \"1h\"\nkind = \"run\"\ninput = '{\"program\": \"p\", \"args\": [\"secret\"]}'\n[commands]\nhttp_allow = [\"http://u:secret@a/\", \"http://b/\"]\n";
        std::fs::write(&file, text).unwrap();
        let env = vec![
            ("TIDELINE_AGENT_BATCH_ROWS_MAX".to_owned(), "10".to_owned()),
            ("TIDELINE_AGENT_BATCH_FLUSH_INTERVAL_MS".to_owned(), "20".to_owned()),
        ];
        let layers = Layers { file: Some(file), env, data_dir: Some("/data".into()), ..Layers::default() };
        let layer = json!({"batch": {"flush_interval_ms": 900}, "source": {"push": {"patience_s": 5}}});
        let all = layers.effective(&HubLayer::read(&layer).unwrap()).unwrap();
        let find = |section: &str, name: &str| {
            let found = all.iter().find(|one| one.section == section && one.name == name).unwrap();
            (found.value.clone(), found.source.to_string())
        };
        assert_eq!(find("batch", "flush_interval_ms"), (json!(900), "hub".into()));
        assert_eq!(find("batch", "rows_max"), (json!("10"), "TIDELINE_AGENT_BATCH_ROWS_MAX".into()));
        assert_eq!(find("spool", "quota_mb"), (json!(5), "file".into()));
        assert_eq!(find("spool", "flash_mb_per_day"), (json!(0), "default".into()));
        assert_eq!(find("agent", "data_dir"), (json!("/data"), "--data".into()));
        assert_eq!(find("source/push", "token"), (json!("(set)"), "file".into()));
        assert_eq!(find("source/push", "patience_s"), (json!(5), "hub".into()));
        assert_eq!(find("program/p", "args"), (json!("(set)"), "file".into()));
        let input = find("schedule/s", "input").0;
        let input: Json = serde_json::from_str(input.as_str().unwrap()).unwrap();
        assert_eq!(input, json!({"url": "http://a/", "headers": {"X-Key": "(set)"}, "body": "(set)"}));
        assert_eq!(find("schedule/asks", "input").0, json!(r#"{"url":"http://a/b?(set)"}"#));
        assert_eq!(
            serde_json::from_str::<Json>(find("schedule/runs", "input").0.as_str().unwrap()).unwrap(),
            json!({"program": "p", "args": "(set)"})
        );
        assert_eq!(find("commands", "http_allow").0, json!(["(set)", "http://b/"]));
        assert_eq!(find("schedule/plain", "input").0, json!("{ \"timeout_ms\": 5 }"));
        assert!(!serde_json::to_string(&all).unwrap().contains("secret"));
        let without = layers.effective(&HubLayer::read(&json!({"spool": false})).unwrap()).unwrap();
        let quota =
            without.iter().find(|one| (one.section.as_str(), one.name.as_str()) == ("spool", "quota_mb"));
        assert_eq!(quota.unwrap().source, Origin::Default, "as if the file had no such section");
    }
}
