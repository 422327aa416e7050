//! Configuration: defaults → file → environment → flags, all errors at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

/// One option of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number { min: u64, max: u64 },
    Choice(&'static [&'static str]),
    List,
}

macro_rules! keys {
    ($($section:literal $name:literal $kind:expr, $default:literal, $doc:literal;)*) => {
        /// All options, in the order in which they are printed.
        pub const KEYS: &[Key] = &[$(Key { section: $section, name: $name, kind: $kind, default: $default, doc: $doc }),*];
    };
}

const DAY_MS: u64 = 86_400_000;

keys! {
    "agent" "data_dir" Kind::Text, "./tideline-agent", "Folder of identity, spool and socket.";
    "spool" "quota_mb" Kind::Number { min: 1, max: 1_000_000 }, "256", "Most MiB of readings kept.";
    "batch" "flush_interval_ms" Kind::Number { min: 10, max: 60_000 }, "1000", "Longest wait before readings are made durable.";
    "batch" "rows_max" Kind::Number { min: 1, max: 500_000 }, "50000", "Most readings in one batch.";
    "uplink" "hub" Kind::Text, "", "host:port of the hub's QUIC port; empty = as enrolled.";
    "http" "listen" Kind::Text, "127.0.0.1:8090", "Address of the local page; empty = off.";
    "source" "kind" Kind::Choice(&["host", "replay"]), "", "What to read.";
    "source" "name" Kind::Text, "", "Name in status and of its position; default: kind and number.";
    "source" "interval_ms" Kind::Number { min: 10, max: DAY_MS }, "1000", "host: time between two readings.";
    "source" "path" Kind::Text, "", "replay: the file.";
    "source" "format" Kind::Choice(&["csv", "ndjson"]), "csv", "replay: form of the file.";
    "source" "timestamps" Kind::Choice(&["keep", "now"]), "keep", "replay: times of the file, or of the reading.";
    "source" "rate" Kind::Number { min: 0, max: 100_000_000 }, "0", "replay: rows per second; 0 = as fast as possible.";
    "source" "device" Kind::Text, "", "replay: device that the readings are of; empty = the agent.";
    "source" "columns" Kind::List, "[]", "replay: columns to take; empty = all numeric ones.";
    "source" "point_prefix" Kind::Text, "", "replay: put before the column's name to make the point.";
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One line each: file, line, what is wrong, what is allowed.
    pub problems: Vec<String>,
}

/// Where a replayed reading gets its time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// From the file.
    Keep,
    /// From the clock.
    Now,
}

/// How a replayed file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// This machine's own metrics.
    Host {
        /// Time between two readings.
        interval_ms: u64,
    },
    /// A file.
    Replay {
        /// The file.
        path: PathBuf,
        /// Its form.
        format: Format,
        /// Whose times.
        timestamps: Timestamps,
        /// Rows per second; 0 for no limit.
        rate: u64,
        /// The device; empty for the agent's own.
        device: String,
        /// Columns to take; empty for all.
        columns: Vec<String>,
        /// Put before each column's name.
        point_prefix: String,
    },
}

/// A source with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Unique among the sources.
    pub name: String,
    /// What it reads.
    pub kind: SourceKind,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of identity, spool and socket.
    pub data_dir: PathBuf,
    /// Most bytes of readings kept.
    pub quota_bytes: u64,
    /// Longest wait before readings are durable, in ms.
    pub flush_interval_ms: u64,
    /// Most readings in a batch.
    pub rows_max: u64,
    /// The hub's QUIC address, when it is not the enrolled one.
    pub hub: Option<String>,
    /// Address of the local page.
    pub listen: Option<String>,
    /// The sources.
    pub sources: Vec<SourceConfig>,
}

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(u64),
    List(Vec<String>),
}

type Section = BTreeMap<&'static str, Value>;

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, at: usize, what: &str) {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.problems.push(format!("{}:{line}: {what}", self.file));
    }

    fn section(&mut self, section: &'static str, table: &DeTable<'_>, into: &mut Section) {
        for (name, value) in table {
            let Some(key) =
                KEYS.iter().find(|key| key.section == section && key.name == name.get_ref().as_ref())
            else {
                let allowed = names(section);
                self.problem(
                    name.span().start,
                    &format!("{section}.{}: unknown key; allowed are {allowed}", name.get_ref()),
                );
                continue;
            };
            match read(value.get_ref()).and_then(|value| accept(key, value)) {
                Ok(value) => {
                    into.insert(key.name, value);
                }
                Err(what) => self.problem(value.span().start, &format!("{section}.{}: {what}", key.name)),
            }
        }
    }
}

fn names(section: &str) -> String {
    let names: Vec<&str> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
    names.join(", ")
}

fn read(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Integer(number) => {
            let text = number.as_str().replace('_', "");
            text.parse().map(Value::Number).map_err(|_| format!("{text} is not a whole number of 0 or more"))
        }
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Value::List).ok_or_else(|| "must be a list of texts".into())
        }
        _ => Err("must be a text, a whole number or a list of texts".into()),
    }
}

fn accept(key: &Key, value: Value) -> Result<Value, String> {
    match (key.kind, value) {
        (Kind::Number { min, max }, Value::Number(number)) if (min..=max).contains(&number) => {
            Ok(Value::Number(number))
        }
        (Kind::Number { min, max }, _) => Err(format!("must be a whole number from {min} to {max}")),
        (Kind::Choice(allowed), Value::Text(text)) if allowed.contains(&text.as_str()) => {
            Ok(Value::Text(text))
        }
        (Kind::Choice(allowed), _) => Err(format!("must be one of {}", allowed.join(", "))),
        (Kind::Text, Value::Text(text)) => Ok(Value::Text(text)),
        (Kind::Text, _) => Err("must be a text".into()),
        (Kind::List, Value::List(list)) => Ok(Value::List(list)),
        (Kind::List, _) => Err("must be a list of texts".into()),
    }
}

fn from_env(key: &Key, text: String) -> Result<Value, String> {
    let value = match key.kind {
        Kind::Number { min, max } => {
            Value::Number(text.parse().map_err(|_| format!("must be a whole number from {min} to {max}"))?)
        }
        Kind::Text | Kind::Choice(_) | Kind::List => Value::Text(text),
    };
    accept(key, value)
}

fn text(section: &Section, name: &str) -> String {
    let given = section
        .get(name)
        .and_then(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None });
    given.unwrap_or_else(|| {
        KEYS.iter().find(|key| key.name == name).map_or_else(String::new, |key| key.default.to_owned())
    })
}

fn number(section: &Section, name: &str) -> u64 {
    match section.get(name) {
        Some(Value::Number(number)) => *number,
        _ => KEYS.iter().find(|key| key.name == name).and_then(|key| key.default.parse().ok()).unwrap_or(0),
    }
}

/// Reads a configuration. `file` names `text` in errors; `env` looks up a variable.
///
/// # Errors
/// All problems at once.
pub fn parse(file: &str, text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let mut reader = Reader { file, text, problems: Vec::new() };
    let mut sections: BTreeMap<&'static str, Section> = BTreeMap::new();
    let mut sources = Vec::new();
    match DeTable::parse(text) {
        Err(error) => reader.problem(error.span().map_or(0, |span| span.start), error.message()),
        Ok(table) => read_sections(&mut reader, table.get_ref(), &mut sections, &mut sources),
    }
    for key in KEYS.iter().filter(|key| key.section != "source") {
        let variable = format!("TIDELINE_{}_{}", key.section, key.name).to_uppercase();
        if let Some(given) = env(&variable) {
            match from_env(key, given) {
                Ok(value) => {
                    sections.entry(key.section).or_default().insert(key.name, value);
                }
                Err(what) => reader.problems.push(format!("environment {variable}: {what}")),
            }
        }
    }
    let checked = check_sources(&mut reader, sources);
    if !reader.problems.is_empty() {
        return Err(ConfigError { problems: reader.problems });
    }
    Ok(build(&sections, checked, env("TIDELINE_DATA")))
}

fn read_sections(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    sections: &mut BTreeMap<&'static str, Section>,
    sources: &mut Vec<(usize, Section)>,
) {
    for (name, value) in table {
        let known = KEYS.iter().map(|key| key.section).find(|section| *section == name.get_ref().as_ref());
        match (known, value.get_ref()) {
            (Some("source"), DeValue::Array(items)) => {
                for item in items {
                    let mut section = Section::new();
                    match item.get_ref() {
                        DeValue::Table(table) => reader.section("source", table, &mut section),
                        _ => reader.problem(item.span().start, "source: must be written as [[source]]"),
                    }
                    sources.push((item.span().start, section));
                }
            }
            (Some("source"), _) => reader.problem(name.span().start, "source: must be written as [[source]]"),
            (Some(section), DeValue::Table(table)) => {
                reader.section(section, table, sections.entry(section).or_default());
            }
            (Some(section), _) => {
                reader.problem(name.span().start, &format!("{section}: must be a section [{section}]"))
            }
            (None, _) => reader.problem(
                name.span().start,
                &format!(
                    "{}: unknown section; allowed are agent, spool, batch, uplink, http, source",
                    name.get_ref()
                ),
            ),
        }
    }
}

fn check_sources(reader: &mut Reader<'_>, sources: Vec<(usize, Section)>) -> Vec<SourceConfig> {
    let mut out: Vec<SourceConfig> = Vec::new();
    for (index, (at, section)) in sources.into_iter().enumerate() {
        let kind = match text(&section, "kind").as_str() {
            "host" => SourceKind::Host { interval_ms: number(&section, "interval_ms") },
            "replay" => {
                let path = text(&section, "path");
                if path.is_empty() {
                    reader.problem(at, "source.path: needed for kind \"replay\"");
                }
                let device = text(&section, "device");
                if !device.is_empty()
                    && let Err(error) = tideline_protocol::model::DeviceId::parse(&device)
                {
                    reader.problem(at, &format!("source.device: {error}"));
                }
                let columns = if let Some(Value::List(list)) = section.get("columns") {
                    list.clone()
                } else {
                    Vec::new()
                };
                SourceKind::Replay {
                    path: path.into(),
                    format: if text(&section, "format") == "ndjson" { Format::Ndjson } else { Format::Csv },
                    timestamps: if text(&section, "timestamps") == "now" {
                        Timestamps::Now
                    } else {
                        Timestamps::Keep
                    },
                    rate: number(&section, "rate"),
                    device,
                    columns,
                    point_prefix: text(&section, "point_prefix"),
                }
            }
            _ => {
                reader.problem(at, "source.kind: needed; allowed are host, replay");
                continue;
            }
        };
        let given = text(&section, "name");
        let name = if given.is_empty() { format!("{}-{}", text(&section, "kind"), index + 1) } else { given };
        if out.iter().any(|other| other.name == name) {
            reader.problem(at, &format!("source.name: {name:?} is used twice"));
        }
        out.push(SourceConfig { name, kind });
    }
    out
}

fn build(
    sections: &BTreeMap<&'static str, Section>,
    mut sources: Vec<SourceConfig>,
    data: Option<String>,
) -> Config {
    let empty = Section::new();
    let section = |name: &str| sections.get(name).unwrap_or(&empty);
    let some = |text: String| if text.is_empty() { None } else { Some(text) };
    if sources.is_empty() {
        sources.push(SourceConfig { name: "host".into(), kind: SourceKind::Host { interval_ms: 1000 } });
    }
    Config {
        data_dir: data.unwrap_or_else(|| text(section("agent"), "data_dir")).into(),
        quota_bytes: number(section("spool"), "quota_mb") * 1024 * 1024,
        flush_interval_ms: number(section("batch"), "flush_interval_ms"),
        rows_max: number(section("batch"), "rows_max"),
        hub: some(text(section("uplink"), "hub")),
        listen: some(text(section("http"), "listen")),
        sources,
    }
}

/// Every option with its default and meaning, as a file.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from("# Every option with its default. Environment: TIDELINE_<SECTION>_<NAME>.\n");
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let header = if section == "source" { "# [[source]]".to_owned() } else { format!("[{section}]") };
            out.push_str(&format!("\n{header}\n"));
        }
        let (default, allowed) = match key.kind {
            Kind::Text => (format!("{:?}", key.default), String::new()),
            Kind::Choice(allowed) => {
                (format!("{:?}", key.default), format!(" One of {}.", allowed.join(", ")))
            }
            Kind::Number { min, max } => (key.default.to_owned(), format!(" {min} to {max}.")),
            Kind::List => (key.default.to_owned(), String::new()),
        };
        let comment = if section == "source" { "# " } else { "" };
        out.push_str(&format!("# {}{allowed}\n{comment}{} = {default}\n", key.doc, key.name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_come_at_once_with_file_line_and_what_is_allowed() {
        let text = "[spool]\nquota_mb = 0\ncolour = 1\n[nonsense]\n[[source]]\nkind = \"replay\"\n[[source]]\nkind = \"x\"\n";
        let all = parse("a.toml", text, |_| None).unwrap_err().to_string();
        for part in [
            "a.toml:2: spool.quota_mb",
            "a.toml:3: spool.colour",
            "a.toml:4: nonsense",
            "source.path",
            "a.toml:8: source.kind",
        ] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let env = |name: &str| (name == "TIDELINE_SPOOL_QUOTA_MB").then(|| "7".to_owned());
        let config = parse("a.toml", "[spool]\nquota_mb = 9\n", env).unwrap();
        assert_eq!(config.quota_bytes, 7 * 1024 * 1024);
        assert_eq!(config.sources.len(), 1);
    }

    #[test]
    fn the_reference_is_a_valid_configuration() {
        assert!(parse("reference", &reference(), |_| None).is_ok());
    }
}
