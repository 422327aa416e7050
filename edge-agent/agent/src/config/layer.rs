//! The hub's layer: options that the hub sets, above the file and the environment.
//!
//! It comes as JSON, as `desired/config` of the device's twin holds it: `{"batch": {"flush_interval_ms": 500}}`. Of sections that
//! may stand several times each has a member by its name, and a device by its id: `{"source": {"meter": {"interval_ms": 200}}}`
//! changes the file's source of that name, or adds one; `false` in the place of one takes away that of the file, and in the place of
//! a section all that the file says there, but for one with options that only the device sets. What the hub does not name stays as it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use tideline_twin::secret_of_request;

use super::{REPEATED, pipelines, places};

/// Longest layer, as JSON: it is kept several times, and told in the twin.
pub const LAYER_BYTES_MAX: usize = 128 * 1024;
/// Options that only who has the machine may set: another folder is another agent, and a trial ends as the device says.
/// And whoever may change a configuration at the hub may not run whatever there is on the device.
pub(super) const OWN: [(&str, &str); 6] = [
    ("agent", "data_dir"),
    ("agent", "trial_s"),
    ("commands", "http_allow"),
    ("commands", "http_ca"),
    ("commands", "export_dir"),
    ("commands", "export_mb"),
];
/// Sections of which the same holds.
pub(super) const OWN_SECTIONS: [&str; 1] = ["program"];

/// A layer of the configuration that the hub sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubLayer(Map<String, Json>);

impl HubLayer {
    /// Of the JSON of `desired/config`; absent, as null, it sets nothing.
    ///
    /// # Errors
    /// Says which part is none of a configuration. Whether options and values are right is seen when it is loaded.
    pub fn read(json: &Json) -> Result<Self, String> {
        let Some(sections) = json.as_object() else {
            return if json.is_null() {
                Ok(Self::default())
            } else {
                Err("must be an object of sections".into())
            };
        };
        let bytes = json.to_string().len();
        if bytes > LAYER_BYTES_MAX {
            return Err(format!("is {bytes} bytes long; allowed are {LAYER_BYTES_MAX}"));
        }
        for (section, options) in sections {
            if OWN_SECTIONS.contains(&section.as_str()) {
                return Err(format!("{section}: is set on the device alone"));
            }
            if *options == Json::Bool(false) {
                if let Some((_, name)) = OWN.iter().find(|(of, _)| of == section) {
                    return Err(format!(
                        "{section}: cannot be taken away: {name} in it is set on the device alone"
                    ));
                }
                continue;
            }
            let Some(options) = options.as_object() else {
                return Err(format!("{section}: must be an object, or false for as if the file had none"));
            };
            if let Some((name, _)) = options.iter().find(|(name, value)| {
                OWN.contains(&(section.as_str(), name.as_str()))
                    || (named(section).is_some() && !value.is_object() && **value != Json::Bool(false))
            }) {
                return Err(if named(section).is_some() {
                    format!("{section}.{name}: must be an object of options, as each {section} has a name")
                } else {
                    format!("{section}.{name}: is set on the device alone")
                });
            }
        }
        Ok(Self(sections.clone()))
    }

    /// Reads what comes anew: it has no secret in it either, as it stands in a twin. What was kept is read without that: it was
    /// good when it came, and refused at an update, all of it would be gone.
    ///
    /// # Errors
    /// What is wrong, with where.
    pub fn read_new(json: &Json) -> Result<Self, String> {
        let layer = Self::read(json)?;
        secret(&layer.0).map_or(Ok(layer), |place| {
            Err(format!(
                "{place}: is a secret or may be one, and a twin is read by many: set it on the device, or name a file there"
            ))
        })
    }

    /// Whether it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it came.
    #[must_use]
    pub fn json(&self) -> Json {
        Json::Object(self.0.clone())
    }

    /// Names what it sets, in 16 hexadecimal digits: the same options and values have the same name.
    #[must_use]
    pub fn digest(&self) -> String {
        Self::digest_of(&self.json())
    }

    /// As [`HubLayer::digest`] of what may not read as a layer, and may have a secret in it.
    #[must_use]
    pub fn digest_of(json: &Json) -> String {
        let mut text = String::new();
        canonical(json, &mut text);
        let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A problem of the configuration with this layer over `file`, with whose word it is.
    pub(super) fn told(&self, problem: &str, file: &str) -> String {
        places::of_layer(problem, &self.0, file)
    }

    /// Whether it sets this option of a section that stands once.
    pub(super) fn sets(&self, section: &str, name: &str) -> bool {
        self.0.get(section).is_some_and(|options| options.get(name).is_some())
    }

    /// The file's text with this layer over it, as TOML.
    ///
    /// # Errors
    /// A value that no file can hold.
    pub(super) fn over(&self, file: &str) -> Result<String, String> {
        let mut merged: Map<String, Json> =
            toml::from_str(file).map_err(|error| error.message().to_owned())?;
        for (section, options) in &self.0 {
            let Some(options) = options.as_object() else {
                merged.remove(section);
                continue;
            };
            match named(section) {
                Some(key) => overlay_named(
                    merged.entry(section).or_insert_with(|| Json::Array(Vec::new())),
                    key,
                    options,
                ),
                None => overlay(merged.entry(section).or_insert_with(|| Json::Object(Map::new())), options),
            }
        }
        let mut text = String::new();
        for (section, value) in &merged {
            text.push_str(&format!(
                "{} = {}\n",
                quoted(section),
                inline(value).map_err(|what| format!("{section}: {what}"))?
            ));
        }
        Ok(text)
    }
}

/// Where a layer has a secret.
fn secret(sections: &Map<String, Json>) -> Option<String> {
    let holds = |section: &str, name: &str, value: &Json| match name {
        // An address may have a user and a password in it.
        "url" | "broker" => {
            let holds = value.as_str().is_some_and(|text| is_secret(section, name) && text.contains('@'));
            holds.then(String::new)
        }
        "input" if section == "schedule" => secret_of_request(value).map(|place| format!(".{place}")),
        _ => is_secret(section, name).then(String::new),
    };
    for (section, options) in sections {
        for (name, value) in options.as_object().into_iter().flatten() {
            if let Some(rest) = holds(section, name, value) {
                return Some(format!("{section}.{name}{rest}"));
            }
            for (option, value) in value.as_object().into_iter().flatten() {
                if let Some(rest) = holds(section, option, value) {
                    return Some(format!("{section}.{name}.{option}{rest}"));
                }
            }
        }
    }
    None
}

/// What the sections of this kind are told apart by, where there may be several.
pub(super) fn named(section: &str) -> Option<&'static str> {
    match section {
        "device" => Some("id"),
        section if REPEATED.contains(&section) || section == pipelines::SECTION => Some("name"),
        _ => None,
    }
}

fn overlay(place: &mut Json, options: &Map<String, Json>) {
    if let Json::Object(there) = place {
        there.extend(options.clone());
    }
}

fn overlay_named(place: &mut Json, key: &str, items: &Map<String, Json>) {
    let Json::Array(there) = place else { return };
    for (name, options) in items {
        let at = there.iter().position(|item| item.get(key).and_then(Json::as_str) == Some(name));
        let Some(options) = options.as_object() else {
            at.map(|at| there.remove(at));
            continue;
        };
        match at.and_then(|at| there.get_mut(at)) {
            Some(item) => overlay(item, options),
            None => {
                let mut item = options.clone();
                item.insert(key.to_owned(), Json::String(name.clone()));
                there.push(Json::Object(item));
            }
        }
    }
}

/// A text as TOML writes it: JSON's escapes are among TOML's, which only wants one more.
fn quoted(text: &str) -> String {
    Json::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007F")
}

/// A value in one line.
fn inline(value: &Json) -> Result<String, String> {
    Ok(match value {
        Json::Null => return Err("null is no value".to_owned()),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::String(text) => quoted(text),
        Json::Array(items) => {
            let items = items.iter().map(inline).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(", "))
        }
        Json::Object(members) => {
            let members =
                members.iter().map(|(name, value)| Ok(format!("{} = {}", quoted(name), inline(value)?)));
            format!("{{{}}}", members.collect::<Result<Vec<_>, String>>()?.join(", "))
        }
    })
}

/// Whether an option is a secret, which is not shown.
pub(super) fn is_secret(section: &str, name: &str) -> bool {
    matches!(
        (section, name),
        ("source", "token" | "password" | "url") | ("device", "token") | ("uplink", "broker")
    )
}

/// JSON with sorted members, whatever order this build's maps keep.
fn canonical(value: &Json, out: &mut String) {
    match value {
        Json::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (name, value) in sorted {
                out.push_str(&format!("{}:", Json::String(name.clone())));
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Json::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{ConfigError, Families, devices, parse_layers};
    use super::*;

    const FILE: &str = r#"
        [batch]
        flush_interval_ms = 700
        rows_max = 9
        [[stream]]
        name = "slow"
        [[source]]
        kind = "replay"
        name = "old"
        path = "/tmp/a.csv"
        [[source]]
        kind = "host"
        name = "machine"
        interval_ms = 2000
    "#;

    fn load(layer: &Json, env: &[(&str, &str)]) -> Result<super::super::Config, ConfigError> {
        let layer = HubLayer::read(layer).unwrap();
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let families: Families<'_> = &devices::shipped;
        parse_layers("agent.toml", FILE, &env, Some(&layer), families)
    }

    #[test]
    fn the_hubs_options_win_over_file_and_environment_and_leave_the_others() {
        let env =
            [("TIDELINE_AGENT_BATCH_FLUSH_INTERVAL_MS", "800"), ("TIDELINE_AGENT_BATCH_ROWS_MAX", "10")];
        let layer = json!({
            "batch": {"flush_interval_ms": 900},
            "source": {
                "machine": {"interval_ms": 500},
                "new \"one\"": {"kind": "host", "stream": "slow"},
            },
        });
        let config = load(&layer, &env).unwrap();
        assert_eq!((config.flush_interval_ms, config.rows_max), (900, 10));
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["old", "machine", "new \"one\""]);
        assert_eq!(config.sources[2].stream, "slow");
        let without = load(&Json::Null, &env).unwrap();
        assert_eq!((without.flush_interval_ms, without.sources.len()), (800, 2));
        assert_ne!(config.sources[1], without.sources[1]);
        assert_eq!(config.sources[0], without.sources[0]);
    }

    #[test]
    fn what_is_wrong_is_said_of_the_hubs_layer_all_at_once() {
        let layer = json!({
            "batch": {"flush_interval_ms": 1, "colour": "red"},
            "source": {"machine": {"interval_ms": "x"}},
            "cellar": {"a": 1},
        });
        let problems = load(&layer, &[]).unwrap_err().problems;
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(problems.iter().all(|problem| problem.starts_with("the hub's layer: ")), "{problems:#?}");
        assert!(problems.iter().any(|problem| problem.contains("batch.colour: unknown key; allowed are")));
        assert!(
            problems.contains(
                &"the hub's layer: source.machine.interval_ms: must be a whole number from 10 to 86400000"
                    .to_owned()
            )
        );
    }

    #[test]
    fn what_does_not_fit_together_is_told_with_its_item_and_whose_word_it_is() {
        let layer = json!({
            "stream": {"slow": false},
            "source": {"machine": {"stream": "slow"}, "log": {"kind": "tail"}},
            "schedule": {"night": {"kind": "sync", "cron": "0 2 * *"}},
            "pipeline": {"hot": {"from": ["pump/*"], "stage": [{"name": "only", "kind": "filter", "whem": "true"}]}},
        });
        let told = load(&layer, &[]).unwrap_err().to_string();
        let begins = [
            "the hub's layer: source.machine.stream: there is no \"slow\"; allowed are default",
            "the hub's layer: source.log.path: needed for kind \"tail\"",
            "the hub's layer: pipeline.hot, stage only, when: is needed",
            "the hub's layer: pipeline.hot, stage only, whem: is an unknown key",
            "the hub's layer: schedule.night.cron: \"0 2 * *\" has 4 fields",
        ];
        for (line, begin) in told.lines().zip(begins) {
            assert!(line.starts_with(begin), "{told}");
        }
        assert_eq!(told.lines().count(), begins.len(), "{told}");
        let layer = HubLayer::read(&json!({"source": {"machine": false}})).unwrap();
        let file = format!("{FILE}[[device]]\nid = \"m1\"\nsource = \"machine\"\n");
        let told =
            parse_layers("agent.toml", &file, &[], Some(&layer), &devices::shipped).unwrap_err().to_string();
        let begin = "the hub's layer: device.m1.source (as agent.toml has it): there is no \"machine\"";
        assert!(told.starts_with(begin), "{told}");
    }

    #[test]
    fn what_is_no_layer_and_what_is_the_devices_own_is_refused() {
        let refused = |json: Json| HubLayer::read_new(&json).unwrap_err();
        assert_eq!(refused(json!([])), "must be an object of sections");
        assert_eq!(
            refused(json!({"batch": 1})),
            "batch: must be an object, or false for as if the file had none"
        );
        assert_eq!(
            refused(json!({"agent": {"data_dir": "/"}})),
            "agent.data_dir: is set on the device alone"
        );
        assert_eq!(
            refused(json!({"agent": false})),
            "agent: cannot be taken away: data_dir in it is set on the device alone"
        );
        assert!(refused(json!({"source": {"kind": "host"}})).starts_with("source.kind: must be an object"));
        for secret in [
            json!({"source": {"push": {"token": "x"}}}),
            json!({"source": {"bus": {"url": "mqtts://u:p@host"}}}),
            json!({"uplink": {"broker": "mqtts://u:p@host"}}),
            json!({"schedule": {"open": {"input": r#"{"headers": {"Authorization": "x"}}"#}}}),
            json!({"schedule": {"open": {"input": r#"{"headers": {"a": "b", "X-AUTH-Token": "x"}}"#}}}),
            json!({"schedule": {"open": {"input": {"headers": {"cookie": "x"}}}}}),
            json!({"schedule": {"open": {"input": r#"{"headers": {"Ocp-Apim-Subscription-Key": "x"}}"#}}}),
            json!({"schedule": {"open": {"input": r#"{"url": "https://u:p@host/a"}"#}}}),
        ] {
            // What was kept before that was refused stays in force.
            assert_eq!(HubLayer::read(&secret).unwrap().json(), secret);
            assert!(refused(secret).contains(": is a secret or may be one, and a twin is read by many"));
        }
        assert!(HubLayer::read_new(&json!({"source": {"bus": {"url": "mqtts://host"}}})).is_ok());
        let plain =
            r#"{"url": "https://host/a@b", "headers": {"Idempotency-Key": "x", "accept": "text/plain"}}"#;
        assert!(HubLayer::read_new(&json!({"schedule": {"open": {"input": plain}}})).is_ok());
        assert!(refused(json!({"batch": {"x": "y".repeat(LAYER_BYTES_MAX)}})).contains("allowed are 131072"));
    }

    #[test]
    fn what_the_file_has_is_taken_away_by_false() {
        let layer = json!({ "source": { "old": false, "none": false }, "batch": false });
        let config = load(&layer, &[]).unwrap();
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!((names, config.flush_interval_ms), (vec!["machine"], 1000));
        assert!(HubLayer::read(&json!({"source": {"old": true}})).is_err());
    }

    #[test]
    fn pipelines_are_set_by_name() {
        let layer = json!({"pipeline": {"hot": {
            "from": ["pump/*"],
            "stage": [{"name": "only", "kind": "filter", "when": "value > 80.5 && unit != 'Cel\\n'"}],
        }}});
        let config = load(&layer, &[]).unwrap();
        let names: Vec<&str> =
            config.pipelines.definitions.iter().map(|definition| definition.name.as_str()).collect();
        assert_eq!(names, ["hot", "linux-host-alarms"]);
    }

    #[test]
    fn a_digest_names_what_is_set_whatever_the_order() {
        let digest = |text: &str| HubLayer::read(&serde_json::from_str(text).unwrap()).unwrap().digest();
        let one = digest(r#"{"batch": {"rows_max": 1, "flush_interval_ms": 20}}"#);
        assert_eq!(one, digest(r#"{"batch": {"flush_interval_ms": 20, "rows_max": 1}}"#));
        assert_ne!(one, digest(r#"{"batch": {"flush_interval_ms": 21, "rows_max": 1}}"#));
        assert_eq!(one.len(), 16);
    }
}
