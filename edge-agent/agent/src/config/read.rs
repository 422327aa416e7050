//! Reads the layers of the configuration and gathers every error.

use std::collections::BTreeMap;

use tideline_link::mqtt::BrokerUrl;
use tideline_link::quic::Congestion;
use tideline_profiles::unknown_key;
use toml::de::{DeTable, DeValue};

use tideline_protocol::session::BackfillBudget;
use tideline_spool::StreamConfig;

use super::{
    Config, ConfigError, ENV_PREFIX, Families, HUBS_MAX, HubLayer, Jobs, KEYS, Key, Kind, REPEATED,
    SourceConfig, deliveries, devices, jobs, layer, pipelines, places, sources, streams,
};

/// All sections.
const SECTIONS: [&str; 12] = [
    "agent", "spool", "stream", "batch", "uplink", "http", "commands", "source", "device", "program",
    "schedule", "pipeline",
];

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Number(u64),
    List(Vec<String>),
    /// It is given, and was told to be wrong.
    Wrong,
}

pub type Section = BTreeMap<&'static str, Value>;

/// Sections that may stand several times, each with where it begins.
#[derive(Default)]
struct Repeated {
    sources: Vec<(usize, Section)>,
    streams: Vec<(usize, Section)>,
    devices: Vec<(usize, Section)>,
    programs: Vec<(usize, Section)>,
    schedules: Vec<(usize, Section)>,
}

impl Repeated {
    fn of(&mut self, section: &str) -> &mut Vec<(usize, Section)> {
        match section {
            "source" => &mut self.sources,
            "device" => &mut self.devices,
            "program" => &mut self.programs,
            "schedule" => &mut self.schedules,
            _ => &mut self.streams,
        }
    }
}

pub struct Reader<'t> {
    pub file: &'t str,
    pub text: &'t str,
    /// What stands where, when the text is not as somebody wrote it: then its lines say nothing.
    items: Option<places::Items>,
    problems: Vec<String>,
}

impl<'t> Reader<'t> {
    /// Of a text as somebody wrote it.
    const fn of_file(file: &'t str, text: &'t str) -> Self {
        Self { file, text, items: None, problems: Vec::new() }
    }

    /// Of what the hub's layer makes of a text.
    fn of_layer(text: &'t str) -> Self {
        Self { file: places::LAYER, text, items: Some(places::Items::default()), problems: Vec::new() }
    }
}

impl Reader<'_> {
    /// Whether its lines are of something that somebody has seen.
    pub const fn has_lines(&self) -> bool {
        self.items.is_none()
    }

    pub fn problem(&mut self, at: usize, what: &str) {
        if let Some(items) = &self.items {
            return self.problems.push(format!("{}: {}", self.file, items.named(at, what)));
        }
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.problems.push(format!("{}:{line}: {what}", self.file));
    }

    /// A problem of a file that is told whole.
    pub fn told(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// An item of a section that may stand several times.
    fn note(&mut self, section: &'static str, table: &DeTable<'_>, span: std::ops::Range<usize>) {
        let Some(items) = &mut self.items else { return };
        let name = layer::named(section).and_then(|key| {
            let mut found = table.iter().filter(|(name, _)| name.get_ref().as_ref() == key);
            found.next()?.1.get_ref().as_str().map(str::to_owned)
        });
        items.note(section, &name.unwrap_or_default(), span);
    }

    fn must_repeat(&mut self, at: usize, section: &str) {
        self.problem(at, &format!("{section}: must be written as [[{section}]]"));
    }

    fn section(&mut self, section: &'static str, table: &DeTable<'_>, into: &mut Section) {
        for (name, value) in table {
            let Some(key) =
                KEYS.iter().find(|key| key.section == section && key.name == name.get_ref().as_ref())
            else {
                let known: Vec<&str> =
                    KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
                let what = format!("{section}.{}", unknown_key(name.get_ref(), &known));
                self.problem(name.span().start, &what);
                continue;
            };
            match read(value.get_ref()).and_then(|value| accept(key, value)) {
                Ok(value) => {
                    into.insert(key.name, value);
                }
                Err(what) => {
                    self.problem(value.span().start, &format!("{section}.{}: {what}", key.name));
                    into.insert(key.name, Value::Wrong);
                }
            }
        }
    }
}

fn read(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Integer(number) => {
            // TOML has numbers of base 2, 8 and 16, too.
            let read = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            read.map(Value::Number).map_err(|_| format!("{number} is not a whole number of 0 or more"))
        }
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Value::List).ok_or_else(|| "must be a list of texts".into())
        }
        _ => Err("must be a text, a whole number or a list of texts".into()),
    }
}

pub(super) fn accept(key: &Key, value: Value) -> Result<Value, String> {
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
        Kind::List => Value::List(split(&text)),
        Kind::Text | Kind::Choice(_) => Value::Text(text),
    };
    accept(key, value)
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The addresses in a list with commas.
pub fn hubs(list: &str) -> Result<Vec<String>, String> {
    let hubs = split(list);
    if hubs.len() > HUBS_MAX {
        return Err(format!("{} addresses; allowed are {HUBS_MAX}", hubs.len()));
    }
    match hubs.iter().enumerate().find(|(at, hub)| hubs.iter().take(*at).any(|other| other == *hub)) {
        Some((_, twice)) => Err(format!("{twice:?} stands there twice")),
        None => Ok(hubs),
    }
}

/// Where the hub is.
#[derive(Default)]
struct Addresses {
    quic: Vec<String>,
    mqtt: Vec<String>,
}

/// The hub's addresses; those for QUIC in one of two options.
fn check_hubs(file: &str, sections: &BTreeMap<&'static str, Section>) -> Result<Addresses, String> {
    let Some(section) = sections.get("uplink") else { return Ok(Addresses::default()) };
    let list = if let Some(Value::List(list)) = section.get("hubs") { list.join(",") } else { String::new() };
    let one = text(section, "hub");
    if !list.is_empty() && !one.is_empty() {
        return Err(format!("{file}: uplink.hub and uplink.hubs are both given; allowed is one of them"));
    }
    let (name, given) = if list.is_empty() { ("hub", one) } else { ("hubs", list) };
    let quic = hubs(&given).map_err(|what| format!("{file}: uplink.{name}: {what}"))?;
    let mqtt = hubs(&text(section, "mqtt")).map_err(|what| format!("{file}: uplink.mqtt: {what}"))?;
    Ok(Addresses { quic, mqtt })
}

fn text(section: &Section, name: &str) -> String {
    let given = section
        .get(name)
        .and_then(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None });
    given.unwrap_or_else(|| {
        KEYS.iter().find(|key| key.name == name).map_or_else(String::new, |key| key.default.to_owned())
    })
}

fn judges_alarms(agent: &Section) -> bool {
    text(agent, "profile_alarms") != "off"
}

fn number(section: &Section, name: &str) -> u64 {
    match section.get(name) {
        Some(Value::Number(number)) => *number,
        _ => KEYS.iter().find(|key| key.name == name).and_then(|key| key.default.parse().ok()).unwrap_or(0),
    }
}

/// Reads a configuration, with shipped profiles only. `file` names `text` in errors; `env` is the environment, of which only
/// the agent's own variables are looked at.
///
/// # Errors
/// All problems at once.
pub fn parse(file: &str, text: &str, env: &[(String, String)]) -> Result<Config, ConfigError> {
    parse_with(file, text, env, &devices::shipped)
}

/// As [`parse`], with another way from the names of profiles to profiles.
///
/// # Errors
/// All problems at once.
pub fn parse_with(
    file: &str,
    text: &str,
    env: &[(String, String)],
    families: Families<'_>,
) -> Result<Config, ConfigError> {
    read_all(Reader::of_file(file, text), env, families)
}

/// As [`parse_with`], with the hub's layer above the file and the environment.
///
/// # Errors
/// All problems at once: of the file, or if that is right, of the hub's layer.
pub fn parse_layers(
    file: &str,
    text: &str,
    env: &[(String, String)],
    layer: Option<&HubLayer>,
    families: Families<'_>,
) -> Result<Config, ConfigError> {
    let without = parse_with(file, text, env, families)?;
    let Some(layer) = layer.filter(|layer| !layer.is_empty()) else { return Ok(without) };
    let wrong = |what| ConfigError { problems: vec![format!("{}: {what}", places::LAYER)] };
    let merged = layer.over(text).map_err(wrong)?;
    let is_set = |variable: &str| {
        let key = KEYS.iter().find(|key| key.variable().as_deref() == Some(variable));
        key.is_some_and(|key| layer.sets(key.section, key.name))
    };
    let env: Vec<_> = env.iter().filter(|(variable, _)| !is_set(variable)).cloned().collect();
    let told = |error: ConfigError| ConfigError {
        problems: error.problems.iter().map(|problem| layer.told(problem, file)).collect(),
    };
    read_all(Reader::of_layer(&merged), &env, families).map_err(told)
}

fn read_all(
    mut reader: Reader<'_>,
    env: &[(String, String)],
    families: Families<'_>,
) -> Result<Config, ConfigError> {
    let (file, text) = (reader.file, reader.text);
    let mut sections: BTreeMap<&'static str, Section> = BTreeMap::new();
    let mut repeated = Repeated::default();
    match DeTable::parse(text) {
        Err(error) => reader.problem(error.span().map_or(0, |span| span.start), error.message()),
        Ok(table) => read_sections(&mut reader, table.get_ref(), &mut sections, &mut repeated),
    }
    for (variable, given) in env.iter().filter(|(variable, _)| variable.starts_with(ENV_PREFIX)) {
        if let Err(what) = read_variable(variable, given, &mut sections) {
            reader.problems.push(format!("environment {variable}: {what}"));
        }
    }
    let mut streams = streams::check(&mut reader, repeated.streams);
    let (mut sources, wrong) = sources::check(&mut reader, repeated.sources, &streams, families);
    devices::check(&mut reader, repeated.devices, &streams, families, (&mut sources, &wrong));
    if let Err(problem) = deliveries::add(&mut streams, &sources) {
        reader.problems.push(problem);
    }
    let of_agent = sections.get("agent").cloned().unwrap_or_default();
    let has_alarms = judges_alarms(&of_agent);
    let pipelines = pipelines::check(&mut reader, &streams, &sources, has_alarms);
    let commands = sections.get("commands").cloned().unwrap_or_default();
    let jobs = jobs::check(&mut reader, &commands, repeated.programs, repeated.schedules);
    let addresses = check_hubs(file, &sections).unwrap_or_else(|problem| {
        reader.problems.push(problem);
        Addresses::default()
    });
    reader.problems.extend(check_listen(file, &sections).err());
    let broker = check_broker(file, &sections).unwrap_or_else(|problem| {
        reader.problems.push(problem);
        None
    });
    if !reader.problems.is_empty() {
        return Err(ConfigError { problems: reader.problems });
    }
    Ok(Config { pipelines, jobs, ..build(&sections, streams, sources, addresses, broker) })
}

fn read_variable(
    variable: &str,
    given: &str,
    sections: &mut BTreeMap<&'static str, Section>,
) -> Result<(), String> {
    let Some(key) = KEYS.iter().find(|key| key.variable().as_deref() == Some(variable)) else {
        let known: Vec<String> = KEYS.iter().filter_map(Key::variable).collect();
        return Err(format!("unknown variable; allowed are {}", known.join(", ")));
    };
    let value = from_env(key, given.to_owned())?;
    sections.entry(key.section).or_default().insert(key.name, value);
    Ok(())
}

fn read_sections(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    sections: &mut BTreeMap<&'static str, Section>,
    repeated: &mut Repeated,
) {
    for (name, value) in table {
        if name.get_ref() == pipelines::SECTION {
            continue;
        }
        let known = KEYS.iter().map(|key| key.section).find(|section| *section == name.get_ref().as_ref());
        match (known, value.get_ref()) {
            (Some(section), DeValue::Array(items)) if REPEATED.contains(&section) => {
                for item in items {
                    let mut keys = Section::new();
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            reader.note(section, table, item.span());
                            reader.section(section, table, &mut keys);
                        }
                        _ => reader.must_repeat(item.span().start, section),
                    }
                    repeated.of(section).push((item.span().start, keys));
                }
            }
            (Some(section), _) if REPEATED.contains(&section) => {
                reader.must_repeat(name.span().start, section)
            }
            (Some(section), DeValue::Table(table)) => {
                reader.section(section, table, sections.entry(section).or_default());
            }
            (Some(section), _) => {
                reader.problem(name.span().start, &format!("{section}: must be a section [{section}]"))
            }
            (None, _) => {
                let what =
                    unknown_key(name.get_ref(), &SECTIONS).replacen("unknown key", "unknown section", 1);
                reader.problem(name.span().start, &what);
            }
        }
    }
}

/// The address of the local page: a bad one would end the agent at its next start.
fn check_listen(file: &str, sections: &BTreeMap<&'static str, Section>) -> Result<(), String> {
    let listen = text(sections.get("http").unwrap_or(&Section::new()), "listen");
    let is_address = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    if listen.is_empty() || listen.rsplit_once(':').is_some_and(is_address) {
        return Ok(());
    }
    Err(format!(
        "{file}: http.listen: {listen:?} is none; allowed is an address and a port, as 127.0.0.1:8090, or nothing for no page"
    ))
}

/// The broker, which must be a URL, and name its authorities where it is to be trusted by them.
fn check_broker(file: &str, sections: &BTreeMap<&'static str, Section>) -> Result<Option<BrokerUrl>, String> {
    let empty = Section::new();
    let section = sections.get("uplink").unwrap_or(&empty);
    let (given, ca) = (text(section, "broker"), text(section, "broker_ca"));
    if given.is_empty() {
        return Ok(None);
    }
    let url: BrokerUrl = given.parse().map_err(|error| format!("{file}: uplink.broker: {error}"))?;
    if url.is_secure() && ca.is_empty() {
        return Err(format!(
            "{file}: uplink.broker: mqtts needs uplink.broker_ca, the file with the authorities of its certificate"
        ));
    }
    Ok(Some(url))
}

fn build(
    sections: &BTreeMap<&'static str, Section>,
    streams: Vec<StreamConfig>,
    mut sources: Vec<SourceConfig>,
    addresses: Addresses,
    broker: Option<BrokerUrl>,
) -> Config {
    let empty = Section::new();
    let section = |name: &str| sections.get(name).unwrap_or(&empty);
    let some = |text: String| if text.is_empty() { None } else { Some(text) };
    if sources.is_empty() {
        sources.push(SourceConfig::host());
    }
    Config {
        data_dir: text(section("agent"), "data_dir").into(),
        trial_ms: number(section("agent"), "trial_s") * 1000,
        quota_bytes: number(section("spool"), "quota_mb") * 1024 * 1024,
        flash_bytes_per_day: number(section("spool"), "flash_mb_per_day") * 1024 * 1024,
        streams,
        flush_interval_ms: number(section("batch"), "flush_interval_ms"),
        rows_max: number(section("batch"), "rows_max"),
        hubs: addresses.quic,
        mqtt: addresses.mqtt,
        broker,
        broker_ca: some(text(section("uplink"), "broker_ca")).map(Into::into),
        congestion: Congestion::named(&text(section("uplink"), "congestion")).unwrap_or_default(),
        backfill: BackfillBudget {
            bytes_per_s: number(section("uplink"), "backfill_kib_s") * 1024,
            share_percent: u8::try_from(number(section("uplink"), "backfill_percent")).unwrap_or(100),
        },
        probe_interval_s: number(section("uplink"), "probe_interval_s"),
        listen: some(text(section("http"), "listen")),
        commands_running_max: usize::try_from(number(section("commands"), "running_max")).unwrap_or(1),
        sources,
        jobs: Jobs::default(),
        pipelines: pipelines::Plan::default(),
    }
}
