//! Reads the layers of the configuration and shows the result; gathers every error.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, OptionDef, options};

/// Longest configuration file in bytes; a larger one is surely another file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const ENV_PREFIX: &str = "TIDELINE_";

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// File and line, or the variable, or the flag.
    pub place: String,
    /// What is wrong and what is allowed.
    pub text: String,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Fault>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} error(s)", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {}: {}", fault.place, fault.text))
    }
}

impl std::error::Error for ConfigErrors {}

/// Where values come from, weakest first after the defaults.
#[derive(Debug, Default)]
pub struct Layers {
    /// The file, when one is named.
    pub file: Option<PathBuf>,
    /// Environment variables; only those of the hub's own sections are looked at.
    pub env: Vec<(String, String)>,
    /// (option name, value) of command line flags.
    pub flags: Vec<(&'static str, String)>,
}

/// Reads all layers.
///
/// # Errors
/// Every fault of every layer at once.
pub fn load(layers: &Layers) -> Result<Config, ConfigErrors> {
    let mut config = Config::default();
    let mut faults = Vec::new();
    if let Some(path) = &layers.file {
        read_file(path, &mut config, &mut faults);
    }
    for (name, value) in &layers.env {
        read_variable(name, value, &mut config, &mut faults);
    }
    for (name, value) in &layers.flags {
        if let Some(option) = option(name) {
            apply(option, value, || format!("flag for {name}"), &mut config, &mut faults);
        }
    }
    if faults.is_empty() {
        faults.extend(super::retention::contradiction(&config));
    }
    if faults.is_empty() { Ok(config) } else { Err(ConfigErrors(faults)) }
}

/// The configuration as TOML, each option with its default and its meaning.
#[must_use]
pub fn render(config: &Config) -> String {
    let defaults = Config::default();
    let mut out = String::new();
    let mut section = "";
    for option in options() {
        let (part, key) = option.name.split_once('.').unwrap_or(("", option.name));
        if part != section {
            out.push_str(&format!("{}[{part}]\n", if section.is_empty() { "" } else { "\n" }));
            section = part;
        }
        let default = (option.show)(&defaults);
        out.push_str(&format!(
            "# {}\n# allowed: {}; default: {default}; variable: {}\n",
            option.meaning,
            option.allowed,
            variable(option)
        ));
        out.push_str(&format!("{key} = {}\n", (option.show)(config)));
    }
    out
}

fn option(name: &str) -> Option<&'static OptionDef> {
    options().find(|o| o.name == name)
}

fn variable(option: &OptionDef) -> String {
    format!("{ENV_PREFIX}{}", option.name.replace('.', "_").to_uppercase())
}

fn apply(
    option: &OptionDef,
    value: &str,
    place: impl Fn() -> String,
    config: &mut Config,
    faults: &mut Vec<Fault>,
) {
    if (option.set)(config, value).is_none() {
        let text = format!("{} = {value:?} is not allowed; allowed is {}", option.name, option.allowed);
        faults.push(Fault { place: place(), text });
    }
}

fn read_variable(name: &str, value: &str, config: &mut Config, faults: &mut Vec<Fault>) {
    if let Some(option) = options().find(|o| variable(o) == name) {
        apply(option, value, || format!("environment {name}"), config, faults);
        return;
    }
    // The agent and the tests have variables of their own; only a name within one of the hub's
    // sections is surely a slip.
    let ours = options().filter_map(|o| o.name.split_once('.')).map(|(section, _)| section);
    if ours.into_iter().any(|s| name.starts_with(&format!("{ENV_PREFIX}{}_", s.to_uppercase()))) {
        let known: Vec<String> = options().map(variable).collect();
        let text = format!("unknown; allowed are {}", known.join(", "));
        faults.push(Fault { place: format!("environment {name}"), text });
    }
}

fn read_file(path: &Path, config: &mut Config, faults: &mut Vec<Fault>) {
    let whole = |text: String| Fault { place: path.display().to_string(), text };
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            faults.push(whole(format!("has {} bytes; allowed are {FILE_BYTES_MAX}", meta.len())));
            return;
        }
        _ => {}
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            faults.push(whole(format!("cannot be read: {error}")));
            return;
        }
    };
    let at = |offset: usize| format!("{}:{}", path.display(), line_of(&text, offset));
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let place = at(error.span().map_or(0, |s| s.start));
        faults.push(Fault { place, text: error.message().to_owned() });
    }
    let mut sections_in: Vec<_> = table.get_ref().iter().collect();
    sections_in.sort_by_key(|(section, _)| section.span().start);
    for (section, value) in sections_in {
        let DeValue::Table(keys) = value.get_ref() else {
            let text = format!("unknown key {:?}; allowed are sections {}", section.get_ref(), sections());
            faults.push(Fault { place: at(section.span().start), text });
            continue;
        };
        read_section(section, keys, &at, config, faults);
    }
}

fn read_section(
    section: &Spanned<std::borrow::Cow<'_, str>>,
    keys: &DeTable<'_>,
    at: &impl Fn(usize) -> String,
    config: &mut Config,
    faults: &mut Vec<Fault>,
) {
    let known: Vec<&str> = options()
        .filter_map(|o| o.name.split_once('.'))
        .filter(|(s, _)| *s == section.get_ref())
        .map(|(_, key)| key)
        .collect();
    if known.is_empty() {
        let text = format!("unknown section [{}]; allowed are {}", section.get_ref(), sections());
        faults.push(Fault { place: at(section.span().start), text });
        return;
    }
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in keys {
        let name = format!("{}.{}", section.get_ref(), key.get_ref());
        match (option(&name), plain(value.get_ref())) {
            (None, _) => {
                let text = format!(
                    "unknown key {:?} in [{}]; allowed are {}",
                    key.get_ref(),
                    section.get_ref(),
                    known.join(", ")
                );
                faults.push(Fault { place: at(key.span().start), text });
            }
            (Some(option), None) => {
                let text = format!("{name} has the wrong type; allowed is {}", option.allowed);
                faults.push(Fault { place: at(value.span().start), text });
            }
            (Some(option), Some(text)) => apply(option, &text, || at(value.span().start), config, faults),
        }
    }
}

fn sections() -> String {
    let mut names: Vec<&str> = options().filter_map(|o| o.name.split_once('.')).map(|(s, _)| s).collect();
    names.dedup();
    names.iter().map(|n| format!("[{n}]")).collect::<Vec<_>>().join(", ")
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|t| t.join(","))
        }
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(&Layers { file: Some(path), env, flags: Vec::new() })
    }

    #[test]
    fn what_print_shows_reads_back_as_the_same() {
        let config = Config {
            names: vec!["a.example".into(), "10.0.0.1".into()],
            memory_mb: 200,
            hot_rows_max: 50_000,
            ..Config::default()
        };
        assert_eq!(from_text(&render(&config), &[]).unwrap(), config);
    }

    #[test]
    fn later_layers_win() {
        let got = from_text("[http]\nlisten = \"127.0.0.1:1\"\n", &[("TIDELINE_HTTP_LISTEN", "127.0.0.1:2")])
            .unwrap();
        assert_eq!(got.http_listen.port(), 2);
    }

    #[test]
    fn all_errors_are_reported_at_once_with_line_and_what_is_allowed() {
        let text =
            "[http]\nlisten = \"nowhere\"\nlisden = 1\n\n[store]\nflush_interval_s = 0\n[sotre]\nx = 1\n";
        let faults = from_text(text, &[("TIDELINE_HTTP_LISTE", "x"), ("TIDELINE_OTHER", "x")]).unwrap_err().0;
        let lines: Vec<&str> = faults.iter().map(|f| f.place.rsplit(':').next().unwrap()).collect();
        assert_eq!(faults.len(), 5, "{faults:?}");
        for line in ["2", "3", "6", "7"] {
            assert!(lines.contains(&line), "{faults:?}");
        }
        assert!(faults.iter().all(|f| f.text.contains("allowed")), "{faults:?}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let faults = from_text("[http]\nlisten = \n", &[]).unwrap_err().0;
        assert!(faults.iter().any(|f| f.place.ends_with(":2")), "{faults:?}");
    }
}
