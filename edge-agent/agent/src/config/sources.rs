//! The sources of a configuration.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::form::protocol::{Parity, Serial};
use tideline_protocol::model::DeviceId;
use tideline_protocol::value::ValueKind;
use tideline_spool::{DEFAULT_STREAM, StreamConfig};

use super::push::PushDoor;
use super::read::{Reader, Section, Value};
use super::{DeviceConfig, Families, KEYS, Kind};
use crate::source::mqtt::line::Broker;
use crate::source::opcua::line::Server;
use crate::supervise::watched::Policy;

/// The port of Modbus TCP.
const MODBUS_PORT: u16 = 502;
const NS_PER_S: u64 = 1_000_000_000;
/// What a source is patient for unless it says otherwise, in s.
const PATIENCE_S: u64 = 30;

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

/// What rows of a table are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Their form.
    pub format: Format,
    /// Whose times.
    pub timestamps: Timestamps,
    /// The device; empty for the agent's own.
    pub device: String,
    /// Columns to take; empty for all.
    pub columns: Vec<String>,
    /// Types of columns.
    pub types: BTreeMap<String, ValueKind>,
    /// The column with the quality of a row's values; empty for none.
    pub quality: String,
    /// Put before each column's name.
    pub point_prefix: String,
}

impl Rows {
    /// Of the agent's own device, with all columns and their times.
    #[must_use]
    pub const fn plain(format: Format) -> Self {
        Self {
            format,
            timestamps: Timestamps::Keep,
            device: String::new(),
            columns: Vec::new(),
            types: BTreeMap::new(),
            quality: String::new(),
            point_prefix: String::new(),
        }
    }
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// What the program around the agent brings along; never of a file.
    Custom,
    /// This machine's own metrics.
    Host {
        /// Time between two readings.
        interval_ms: u64,
    },
    /// A file.
    Replay {
        /// The file.
        path: PathBuf,
        /// Rows per second; 0 for no limit.
        rate: u64,
        /// What stands in it.
        rows: Rows,
    },
    /// A file that grows.
    Tail {
        /// The file.
        path: PathBuf,
        /// Between two looks.
        interval_ms: u64,
        /// Whether it is read from its end on when it is met first.
        from_end: bool,
        /// What stands in it.
        rows: Rows,
    },
    /// What comes on standard input.
    Stdin {
        /// What it is.
        rows: Rows,
    },
    /// What others push.
    Http(PushDoor),
    /// Devices on a Modbus bus.
    Modbus {
        /// How they are reached.
        line: ModbusLine,
        /// Longest wait for an answer, in ms; none for what each profile says.
        timeout_ms: Option<u64>,
    },
    /// What devices publish at a broker.
    Mqtt {
        /// The broker.
        broker: Broker,
        /// Whose devices are taken as they appear.
        families: Vec<Arc<Profile>>,
    },
    /// Nodes of Sparkplug B at a broker.
    Sparkplug {
        /// The broker.
        broker: Broker,
        /// Their groups; all where there are none.
        groups: Vec<String>,
        /// What nodes and devices are that are not told.
        family: Arc<Profile>,
    },
    /// Sentences of NMEA 0183 on a serial line.
    Serial {
        /// The port.
        path: PathBuf,
        /// What the configuration says of the line.
        given: SerialLine,
    },
    /// Resources of devices over CoAP.
    Coap,
    /// Variables of an OPC UA server.
    OpcUa {
        /// The server.
        server: Server,
    },
}

/// How the devices of a Modbus bus are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModbusLine {
    /// Over TCP.
    Tcp {
        /// host:port.
        address: String,
    },
    /// Over a serial line.
    Rtu {
        /// The port.
        path: PathBuf,
        /// What the configuration says of the line.
        given: SerialLine,
    },
}

/// A serial line, as far as the configuration says it; the rest is as the profile has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits a second.
    pub baud: Option<u32>,
    /// Bits of a character.
    pub data_bits: Option<u8>,
    /// Parity.
    pub parity: Option<Parity>,
    /// Bits that end a character.
    pub stop_bits: Option<u8>,
}

impl ModbusLine {
    /// Whether it is a serial line.
    #[must_use]
    pub const fn is_serial(&self) -> bool {
        matches!(self, Self::Rtu { .. })
    }

    /// The settings of a serial line that is usually so.
    #[must_use]
    pub fn serial(&self, usual: Serial) -> Serial {
        let Self::Rtu { given, .. } = self else { return usual };
        Serial {
            baud: given.baud.unwrap_or(usual.baud),
            data_bits: given.data_bits.unwrap_or(usual.data_bits),
            parity: given.parity.unwrap_or(usual.parity),
            stop_bits: given.stop_bits.unwrap_or(usual.stop_bits),
        }
    }
}

impl std::fmt::Display for ModbusLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { address } => f.write_str(address),
            Self::Rtu { path, .. } => path.display().fmt(f),
        }
    }
}

impl SourceKind {
    /// As it stands in files, and before the name of its position.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Host { .. } => "host",
            Self::Replay { .. } => "replay",
            Self::Tail { .. } => "tail",
            Self::Stdin { .. } => "stdin",
            Self::Http(_) => "http",
            Self::Modbus { line: ModbusLine::Tcp { .. }, .. } => "modbus-tcp",
            Self::Modbus { line: ModbusLine::Rtu { .. }, .. } => "modbus-rtu",
            Self::Mqtt { .. } => "mqtt",
            Self::Sparkplug { .. } => "sparkplug",
            Self::Serial { .. } => "serial",
            Self::Coap => "coap",
            Self::OpcUa { .. } => "opc-ua",
        }
    }

    /// Gives what has no folder of its own one in the data folder.
    pub fn settle(&mut self, data_dir: &Path) {
        if let Self::OpcUa { server } = self
            && server.certificates.as_os_str().is_empty()
        {
            server.certificates = data_dir.join("opcua");
        }
    }
}

/// A source with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Unique among the sources.
    pub name: String,
    /// The stream that its readings go to.
    pub stream: String,
    /// How long it may give no sign of life, in s.
    pub patience_s: u64,
    /// What it reads.
    pub kind: SourceKind,
    /// The devices behind it.
    pub devices: Vec<DeviceConfig>,
}

impl SourceConfig {
    /// One with nothing but a name and what it reads.
    #[must_use]
    pub fn plain(name: &str, kind: SourceKind) -> Self {
        let (name, stream) = (name.to_owned(), DEFAULT_STREAM.to_owned());
        Self { name, stream, patience_s: PATIENCE_S, kind, devices: Vec::new() }
    }

    /// What an agent reads that was told nothing.
    #[must_use]
    pub fn host() -> Self {
        Self::plain("host", SourceKind::Host { interval_ms: 1000 })
    }

    /// How it is looked after.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { patience_ns: self.patience_s.saturating_mul(NS_PER_S), ..Policy::default() }
    }
}

fn kinds() -> String {
    let kind = KEYS.iter().find(|key| key.section == "source" && key.name == "kind").map(|key| key.kind);
    if let Some(Kind::Choice(allowed)) = kind { allowed.join(", ") } else { String::new() }
}

/// Checks all `[[source]]` sections. Gives the names of those that are wrong, too.
pub fn check(
    reader: &mut Reader<'_>,
    sources: Vec<(usize, Section)>,
    streams: &[StreamConfig],
    families: Families<'_>,
) -> (Vec<SourceConfig>, BTreeSet<String>) {
    let (mut out, mut wrong): (Vec<SourceConfig>, _) = (Vec::new(), BTreeSet::new());
    for (index, (at, section)) in sources.into_iter().enumerate() {
        let mut check = Check::of(reader, "source", at, &section);
        let (found, given) = (check.kind(families), check.text("name"));
        let Some(kind) = found else {
            wrong.insert(given);
            continue;
        };
        let name = if given.is_empty() { format!("{}-{}", kind.name(), index + 1) } else { given };
        if out.iter().any(|other| other.name == name) {
            check.problem(&format!("source.name: {name:?} is used twice"));
        }
        let is_stdin = |kind: &SourceKind| matches!(kind, SourceKind::Stdin { .. });
        if is_stdin(&kind) && out.iter().any(|other| is_stdin(&other.kind)) {
            check.problem("source.kind: \"stdin\" is there twice; allowed is one source of it");
        }
        let stream = check.text("stream");
        check.stream("source.stream", &stream, streams);
        let patience_s = check.number("patience_s");
        check.meant_for(&kind);
        out.push(SourceConfig { name, stream, patience_s, kind, devices: Vec::new() });
    }
    (out, wrong)
}

/// One section that is checked.
pub struct Check<'c, 'r, 't> {
    pub reader: &'c mut Reader<'t>,
    /// Which of them.
    pub name: &'static str,
    pub at: usize,
    pub section: &'r Section,
    /// The keys that somebody has looked at.
    asked: RefCell<BTreeSet<String>>,
}

impl<'c, 'r, 't> Check<'c, 'r, 't> {
    pub fn of(reader: &'c mut Reader<'t>, name: &'static str, at: usize, section: &'r Section) -> Self {
        Self { reader, name, at, section, asked: RefCell::default() }
    }
}

impl Check<'_, '_, '_> {
    fn given(&self, key: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.section.get(key)
    }

    /// Tells keys that mean nothing to a source of this kind: whoever wrote them believes in them.
    fn meant_for(&mut self, kind: &SourceKind) {
        let asked = self.asked.take();
        let keys = || KEYS.iter().filter(|key| key.section == "source").map(|key| key.name);
        let allowed: Vec<&str> = keys().filter(|key| asked.contains(*key)).collect();
        for key in self.section.keys().filter(|key| !asked.contains(**key)) {
            let (kind, allowed) = (kind.name(), allowed.join(", "));
            self.problem(&format!(
                "source.{key}: means nothing to kind {kind:?}; allowed there are {allowed}"
            ));
        }
    }

    pub fn problem(&mut self, what: &str) {
        self.reader.problem(self.at, what);
    }

    pub fn text(&self, key: &str) -> String {
        match self.given(key) {
            Some(Value::Text(text)) => text.clone(),
            _ => default(self.name, key).to_owned(),
        }
    }

    pub fn number(&self, key: &str) -> u64 {
        match self.given(key) {
            Some(Value::Number(number)) => *number,
            _ => default(self.name, key).parse().unwrap_or(0),
        }
    }

    pub fn list(&self, key: &str) -> Vec<String> {
        match self.given(key) {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        }
    }

    /// A stream must be there before anything is sent to it.
    pub fn stream(&mut self, option: &str, stream: &str, streams: &[StreamConfig]) {
        if stream != DEFAULT_STREAM && !streams.iter().any(|known| known.name == stream) {
            let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
            let allowed = [&[DEFAULT_STREAM], &names[..]].concat().join(", ");
            self.problem(&format!("{option}: there is no {stream:?}; allowed are {allowed}"));
        }
    }

    fn kind(&mut self, families: Families<'_>) -> Option<SourceKind> {
        Some(match self.text("kind").as_str() {
            "host" => SourceKind::Host { interval_ms: self.number("interval_ms") },
            "replay" => {
                SourceKind::Replay { path: self.path("replay"), rate: self.number("rate"), rows: self.rows() }
            }
            "tail" => SourceKind::Tail {
                path: self.path("tail"),
                interval_ms: self.number("interval_ms"),
                from_end: self.text("begin") == "end",
                rows: self.rows(),
            },
            "stdin" => SourceKind::Stdin { rows: self.rows() },
            "http" => SourceKind::Http(self.push_door(families)),
            "modbus-tcp" => {
                let address = self.tcp_address(MODBUS_PORT);
                self.modbus(ModbusLine::Tcp { address })
            }
            "modbus-rtu" => {
                let (path, given) = (self.path("modbus-rtu"), self.serial());
                self.modbus(ModbusLine::Rtu { path, given })
            }
            "mqtt" => {
                let (broker, families) = (self.broker("mqtt")?, self.families("mqtt", families));
                SourceKind::Mqtt { broker, families }
            }
            "sparkplug" => self.sparkplug(families)?,
            "coap" => SourceKind::Coap,
            "opc-ua" => SourceKind::OpcUa { server: self.server()? },
            "serial" => SourceKind::Serial { path: self.path("serial"), given: self.serial() },
            _ => {
                // One that is wrong has been told.
                if !self.section.contains_key("kind") {
                    self.problem(&format!("source.kind: needed; allowed are {}", kinds()));
                }
                return None;
            }
        })
    }

    fn modbus(&self, line: ModbusLine) -> SourceKind {
        SourceKind::Modbus { line, timeout_ms: Some(self.number("timeout_ms")).filter(|ms| *ms > 0) }
    }

    fn path(&mut self, kind: &str) -> PathBuf {
        let path = self.text("path");
        if path.is_empty() {
            self.problem(&format!("source.path: needed for kind {kind:?}"));
        }
        path.into()
    }

    fn rows(&mut self) -> Rows {
        let device = self.text("device");
        if !device.is_empty()
            && let Err(error) = DeviceId::parse(&device)
        {
            self.problem(&format!("source.device: {error}"));
        }
        Rows {
            format: if self.text("format") == "ndjson" { Format::Ndjson } else { Format::Csv },
            timestamps: if self.text("timestamps") == "now" { Timestamps::Now } else { Timestamps::Keep },
            device,
            columns: self.list("columns"),
            types: self.types(),
            quality: self.text("quality"),
            point_prefix: self.text("point_prefix"),
        }
    }

    /// The types of columns, each as column=type.
    fn types(&mut self) -> BTreeMap<String, ValueKind> {
        let mut types = BTreeMap::new();
        for entry in self.list("types") {
            let read = entry.rsplit_once('=').map(|(column, kind)| (column.trim(), kind.trim().parse()));
            match read {
                Some((column, Ok(kind))) if !column.is_empty() => {
                    if types.insert(column.to_owned(), kind).is_some() {
                        self.problem(&format!("source.types: {column:?} stands there twice"));
                    }
                }
                Some((_, Err(error))) => self.problem(&format!("source.types: {entry:?}: {error}")),
                _ => self.problem(&format!("source.types: {entry:?}; allowed is column=type")),
            }
        }
        types
    }
}

fn default(section: &str, name: &str) -> &'static str {
    KEYS.iter().find(|key| key.section == section && key.name == name).map_or("", |key| key.default)
}
