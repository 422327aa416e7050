//! Configuration: defaults → file → environment → flags, all errors at once.

pub mod alarms;
pub(crate) mod deliveries;
mod devices;
mod effective;
mod field;
mod in_force;
mod jobs;
mod layer;
mod opcua;
pub mod pipelines;
mod places;
mod push;
mod read;
pub mod schema;
mod sources;
mod streams;
#[cfg(test)]
mod tests;
mod wanted;

use std::path::PathBuf;

use anyhow::Context as _;
use tideline_link::mqtt::BrokerUrl;
use tideline_link::quic::Congestion;
use tideline_protocol::session::BackfillBudget;
use tideline_spool::StreamConfig;

pub use devices::{DeviceConfig, Families, shipped};
pub use effective::{Effective, Origin};
pub use in_force::{Followed, InForce};
pub use jobs::{Jobs, Program, Scheduled};
pub use layer::HubLayer;
pub use pipelines::Plan;
pub use places::{LAYER, attributed};
pub use push::{Answered, CertificateFiles, OWN_PATHS, PushDoor, Token};
pub use read::{parse, parse_layers, parse_with};
pub use sources::{Format, ModbusLine, Rows, SerialLine, SourceConfig, SourceKind, Timestamps};
pub use wanted::schedule;

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

impl Key {
    /// Its environment variable; `None` for options that may stand several times. The hub's begin
    /// with `TIDELINE_` alone, and both may run on one machine with one environment.
    fn variable(&self) -> Option<String> {
        let section = match self.section {
            section if REPEATED.contains(&section) => return None,
            "agent" => String::new(),
            section => format!("{section}_"),
        };
        Some(format!("{ENV_PREFIX}{section}{}", self.name).to_uppercase())
    }
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
/// Sections that may stand several times.
const REPEATED: [&str; 5] = ["stream", "source", "device", "program", "schedule"];
/// Most hub addresses: each has a circuit of its own and is shown.
const HUBS_MAX: usize = 8;
const ENV_PREFIX: &str = "TIDELINE_AGENT_";

keys! {
    "agent" "data_dir" Kind::Text, "./tideline-agent", "Folder of identity, spool and socket.";
    "agent" "trial_s" Kind::Number { min: 20, max: 3600 }, "120", "How long a configuration that the hub sets is on trial: if the agent is not connected and well within that time, in s, it goes back to the last good one.";
    "agent" "profile_alarms" Kind::Choice(&["on", "off"]), "on", "Whether the alarms of profiles are judged: each is a point alarm/NAME of the device, true from when it begins until it ends. They go to the first stream of class alarm that does not block, or else to that of the readings.";
    "spool" "quota_mb" Kind::Number { min: 1, max: 1_000_000 }, "256", "Most MiB of readings kept.";
    "spool" "flash_mb_per_day" Kind::Number { min: 0, max: 1_000_000 }, "0", "Most MiB written to flash in a day of the agent's running; 0 = no limit. When it is used too fast, readings become durable only every minute; when it is used up, streams that block wait and the others give new readings up, but for alarms, until the next day.";
    "stream" "name" Kind::Text, "", "Name that sources give; \"default\" is there without being named.";
    "stream" "class" Kind::Choice(&["live", "state", "alarm"]), "live", "How urgent: alarm goes ahead of state, state ahead of live.";
    "stream" "overflow" Kind::Choice(&["block", "drop-newest", "drop-oldest", "keep-latest", "downsample"]), "drop-oldest", "When a limit is reached: sources wait, new or oldest readings are given up, or only the newest of each series or a few of each bucket are kept.";
    "stream" "quota_mb" Kind::Number { min: 0, max: 1_000_000 }, "0", "Most MiB kept of this stream; 0 = only the spool's quota.";
    "stream" "keep_h" Kind::Number { min: 0, max: 1_000_000 }, "0", "Longest that a reading is kept, in hours of the agent's running; 0 = no limit.";
    "stream" "downsample_s" Kind::Number { min: 1, max: 86_400 }, "60", "downsample: width of a bucket; its first, lowest, highest and last reading are kept.";
    "batch" "flush_interval_ms" Kind::Number { min: 10, max: 60_000 }, "1000", "Longest wait before readings are made durable.";
    "batch" "rows_max" Kind::Number { min: 1, max: 500_000 }, "50000", "Most readings in one batch.";
    "uplink" "hub" Kind::Text, "", "host:port of the hub's QUIC port, or several with commas; empty = as enrolled.";
    "uplink" "hubs" Kind::List, "[]", "The same as a list: several ways to one hub, the best first; at most 8.";
    "uplink" "mqtt" Kind::Text, "", "host:port of the hub's MQTT port with TLS, or several with commas, for where UDP is blocked; empty = as enrolled, off = none.";
    "uplink" "broker" Kind::Text, "", "mqtt://host:1883 or mqtts://user:password@host:8883: a broker that the hub is at too, sealed from end to end, where nothing else gets through; empty = none.";
    "uplink" "broker_ca" Kind::Text, "", "File (PEM) with the authorities that an mqtts broker's certificate may be of, as /etc/ssl/certs/ca-certificates.crt.";
    "uplink" "congestion" Kind::Choice(&["bbr", "cubic", "newreno"]), "bbr", "How QUIC reacts to loss: bbr keeps its rate on a radio that loses packets without being full, cubic and newreno slow down.";
    "uplink" "backfill_kib_s" Kind::Number { min: 0, max: 10_000_000 }, "0", "Most KiB a second of old readings; 0 = no limit. Fresh ones go ahead of them either way.";
    "uplink" "backfill_percent" Kind::Number { min: 1, max: 100 }, "100", "Most of the time that the link may be busy with old readings, for a link that others use too.";
    "uplink" "probe_interval_s" Kind::Number { min: 1, max: 3600 }, "30", "Between two looks whether a better way than that in use works again.";
    "http" "listen" Kind::Text, "127.0.0.1:8090", "Address of the local page; empty = off.";
    "commands" "running_max" Kind::Number { min: 1, max: 64 }, "4", "Most commands of the hub that run at a time.";
    "commands" "http_allow" Kind::List, "[]", "Addresses that commands may send requests to, each with all below it, as http://192.168.1.7:8080/api/; empty = none. The hub's layer cannot set this.";
    "commands" "http_ca" Kind::Text, "", "File (PEM) with the authorities that certificates of https addresses may be of.";
    "commands" "export_dir" Kind::Text, "", "Folder that commands may export readings to; empty = none may. The hub's layer cannot set this.";
    "commands" "export_mb" Kind::Number { min: 0, max: 100_000_000 }, "2048", "Most MiB that all exports in that folder have together; then further ones are refused until some are removed. 0 = no limit. The hub's layer cannot set this.";
    "program" "name" Kind::Text, "", "What commands and schedules of kind run call it. The hub's layer can set no programs.";
    "program" "path" Kind::Text, "", "The program, as an absolute path; no shell is between. A line of its output that is a percentage, as 40 %, tells how far it is.";
    "program" "args" Kind::List, "[]", "Arguments that it is always given.";
    "program" "allow" Kind::List, "[]", "Further arguments that a command may give, each as it stands here; * stands for any one that begins with no -.";
    "program" "user" Kind::Text, "", "As whom it runs, where the agent runs as root; empty = as the agent.";
    "program" "timeout_s" Kind::Number { min: 1, max: 3_600 }, "60", "Longest that it may run; then it is killed with all that it has started.";
    "program" "output_kib" Kind::Number { min: 0, max: 256 }, "64", "Most KiB of its output that are kept.";
    "program" "memory_mb" Kind::Number { min: 0, max: 1_000_000 }, "0", "Most MiB of memory that each of its processes may have, 128 or more; 0 = no limit.";
    "schedule" "name" Kind::Text, "", "Its name.";
    "schedule" "cron" Kind::Text, "", "When, as minute, hour, day of the month, month, day of the week. Where clocks change: 02:30 is 03:30 where it is skipped, and runs once where it comes twice; where the hour is * or a step of it, runs follow the clock that really goes.";
    "schedule" "every" Kind::Text, "", "When, in place of cron: at all multiples of this time since 1970, as 15m; at least 10s.";
    "schedule" "at" Kind::Text, "", "When, in place of cron: once, as 2027-01-31T06:00:00Z.";
    "schedule" "zone" Kind::Text, "UTC", "cron: time zone, as Europe/Berlin.";
    "schedule" "missed" Kind::Choice(&["skip", "run-once", "run-all"]), "skip", "What becomes of times at which the agent was off, busy, or did not know the time: nothing, one run for all of them, or one for each of the newest 32. A time that at names is missed too where the schedule comes after it, as to an agent that was away; cron and every begin when they come.";
    "schedule" "within_s" Kind::Number { min: 1, max: 86_400 }, "60", "How late it may begin and is not missed.";
    "schedule" "device" Kind::Text, "", "Which device it is for; empty = the agent's own.";
    "schedule" "kind" Kind::Text, "", "What is done: a kind of command, as write, sync, run.";
    "schedule" "input" Kind::Text, "{}", "With what, as JSON.";
    "source" "kind" Kind::Choice(&["host", "replay", "tail", "stdin", "http", "modbus-tcp", "modbus-rtu", "mqtt", "sparkplug", "serial", "coap", "opc-ua"]), "", "What to read.";
    "source" "name" Kind::Text, "", "Name in status and of its position; default: kind and number.";
    "source" "stream" Kind::Text, "default", "Stream that its readings go to.";
    "source" "patience_s" Kind::Number { min: 1, max: 86_400 }, "30", "How long it may give no sign of life while it reads; then it is started again.";
    "source" "interval_ms" Kind::Number { min: 10, max: DAY_MS }, "1000", "host: time between two readings. tail: between two looks whether the file has grown.";
    "source" "path" Kind::Text, "", "replay, tail: the file. modbus-rtu, serial: the port, as /dev/ttyUSB0.";
    "source" "format" Kind::Choice(&["csv", "ndjson"]), "csv", "replay, tail, stdin: form of the file.";
    "source" "begin" Kind::Choice(&["start", "end"]), "start", "tail: where a file is begun that is met for the first time.";
    "source" "timestamps" Kind::Choice(&["keep", "now"]), "keep", "replay, tail, stdin: times of the file, or of the reading.";
    "source" "rate" Kind::Number { min: 0, max: 100_000_000 }, "0", "replay: rows per second; 0 = as fast as possible.";
    "source" "device" Kind::Text, "", "replay, tail, stdin: device that the readings are of; empty = the agent.";
    "source" "columns" Kind::List, "[]", "replay, tail, stdin: columns to take; empty = all of which the type is known.";
    "source" "types" Kind::List, "[]", "replay, tail, stdin: types of columns as column=type, of float, int, bool, text. Without one, a column of a CSV is of numbers, and a value of NDJSON of the type that JSON has for it.";
    "source" "quality" Kind::Text, "", "replay, tail, stdin: column with the quality of the row's values: good, uncertain or bad; empty = all are good.";
    "source" "point_prefix" Kind::Text, "", "replay, tail, stdin: put before the column's name to make the point.";
    "source" "address" Kind::Text, "", "modbus-tcp: host, or host:port where the port is not 502.";
    "source" "listen" Kind::Text, "", "http: address and port to take readings at, as 127.0.0.1:8091.";
    "source" "token" Kind::Text, "", "http: what senders must show as a bearer token; empty = nothing, which is allowed on loopback only.";
    "source" "cert_file" Kind::Text, "", "http: file (PEM) with the certificate that senders are shown, and what leads from it to its authority; empty = HTTP without TLS. A file that is renewed is taken within a minute.";
    "source" "key_file" Kind::Text, "", "http: file (PEM) with that certificate's key.";
    "source" "answer" Kind::Choice(&["durable", "accepted"]), "durable", "http: when senders are answered: when their readings are durable, or sooner, when they are on their way there.";
    "source" "timeout_ms" Kind::Number { min: 0, max: 60_000 }, "0", "modbus: longest wait for an answer; 0 = as the device's profile says.";
    "source" "baud" Kind::Number { min: 0, max: 4_000_000 }, "0", "modbus-rtu, serial: bits a second; 0 = as the profile says.";
    "source" "data_bits" Kind::Number { min: 0, max: 8 }, "0", "modbus-rtu, serial: bits of a character, 7 or 8; 0 = as the profile says.";
    "source" "parity" Kind::Choice(&["profile", "none", "even", "odd"]), "profile", "modbus-rtu, serial: parity; profile = as the profile says.";
    "source" "stop_bits" Kind::Number { min: 0, max: 2 }, "0", "modbus-rtu, serial: bits that end a character; 0 = as the profile says.";
    "source" "url" Kind::Text, "", "mqtt, sparkplug: the broker, as mqtt://host:1883 or mqtts://user:password@host:8883. opc-ua: the server, as opc.tcp://host:4840/path.";
    "source" "ca_file" Kind::Text, "", "mqtt, sparkplug: file (PEM) with the authorities that an mqtts broker's certificate may be of.";
    "source" "client_id" Kind::Text, "", "mqtt, sparkplug: name of the agent's session at the broker; empty = made of the agent's device and the source's name.";
    "source" "session" Kind::Choice(&["keep", "clean"]), "keep", "mqtt: whether the broker keeps messages of QoS 1 while the agent is away.";
    "source" "profiles" Kind::List, "[]", "mqtt, http: profiles whose devices are taken as they appear, without a [[device]] each. sparkplug: the one profile of those; empty = sparkplug-node.";
    "source" "groups" Kind::List, "[]", "sparkplug: groups whose nodes are taken; empty = all.";
    "source" "security" Kind::Choice(&["encrypt", "sign", "none"]), "encrypt", "opc-ua: whether messages are signed and encrypted, or signed; none = anybody on the way can read and change them.";
    "source" "policy" Kind::Choice(&["best", "aes256-sha256-rsapss", "aes128-sha256-rsaoaep", "basic256sha256"]), "best", "opc-ua: how they are; best = the first of these that the server offers.";
    "source" "trust" Kind::Choice(&["listed", "first"]), "listed", "opc-ua: which servers are trusted: those whose certificates are in the folder's trusted/, or the first one that this source meets, too, and no other after it.";
    "source" "certificates" Kind::Text, "", "opc-ua: folder of certificates, with own/, trusted/ and rejected/; empty = opcua in the data folder. The agent makes its own certificate at the first start.";
    "source" "user" Kind::Text, "", "opc-ua: as whom the agent logs in; empty = as nobody in particular.";
    "source" "password" Kind::Text, "", "opc-ua: the user's password.";
    "source" "password_file" Kind::Text, "", "opc-ua: file with the user's password in place of it.";
    "source" "clear_password" Kind::Choice(&["refuse", "allow"]), "refuse", "opc-ua: whether a password may be sent with security none, where others can read it.";
    "device" "id" Kind::Text, "", "The device's id at the hub.";
    "device" "source" Kind::Text, "", "Name of the source that reads it.";
    "device" "profile" Kind::Text, "", "What its points are: name of a shipped profile, or path of a profile's folder or file; empty = none.";
    "device" "address" Kind::Text, "", "Where the source finds it, in the words of its protocol.";
    "device" "firmware" Kind::Text, "", "Version of its firmware, where its profile has several.";
    "device" "hardware" Kind::Text, "", "Its hardware revision, where its profile has several.";
    "device" "stream" Kind::Text, "", "Stream that its readings go to; empty = that of the source.";
    "device" "token" Kind::Text, "", "http: what this device must show as a bearer token in place of the source's; it lets in readings of this device alone.";
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One line each: file, line, what is wrong, what is allowed.
    pub problems: Vec<String>,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of identity, spool and socket.
    pub data_dir: PathBuf,
    /// How long a configuration of the hub is on trial, in ms.
    pub trial_ms: u64,
    /// Most bytes of readings kept.
    pub quota_bytes: u64,
    /// Most bytes written to flash in a day; 0 for no limit.
    pub flash_bytes_per_day: u64,
    /// The streams; the default one is always there.
    pub streams: Vec<StreamConfig>,
    /// Longest wait before readings are durable, in ms.
    pub flush_interval_ms: u64,
    /// Most readings in a batch.
    pub rows_max: u64,
    /// The hub's QUIC addresses, the best first; none for the enrolled one.
    pub hubs: Vec<String>,
    /// The hub's MQTT addresses; none for the enrolled one, "off" for no MQTT.
    pub mqtt: Vec<String>,
    /// A broker that the hub is at.
    pub broker: Option<BrokerUrl>,
    /// The file with the authorities of the broker's certificate.
    pub broker_ca: Option<PathBuf>,
    /// How QUIC reacts to loss.
    pub congestion: Congestion,
    /// How much of the link old readings may take.
    pub backfill: BackfillBudget,
    /// Between two probes of a better way, in s.
    pub probe_interval_s: u64,
    /// Address of the local page.
    pub listen: Option<String>,
    /// Most commands of the hub that run at a time.
    pub commands_running_max: usize,
    /// What they and schedules may do, and when schedules do it.
    pub jobs: Jobs,
    /// The sources.
    pub sources: Vec<SourceConfig>,
    /// The pipelines.
    pub pipelines: Plan,
}

/// Where a configuration comes from, weakest first after the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file, when one is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The flag --data.
    pub data_dir: Option<PathBuf>,
    /// The flag --hub.
    pub hub: Option<String>,
    /// Whether a file that sets nothing is refused: an agent that runs by a file meets it empty while an editor writes it.
    pub needs_text: bool,
}

impl Layers {
    /// Whether the file is there and sets something.
    #[must_use]
    pub fn has_text(&self) -> bool {
        let text = self.file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        text.is_some_and(|text| !sets_nothing(&text))
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong with the configuration.
    pub fn load(&self) -> anyhow::Result<Config> {
        self.load_under(None)
    }

    /// Reads all layers, with the hub's above file and environment, and below the flags.
    ///
    /// # Errors
    /// As [`Layers::load`].
    pub fn load_under(&self, layer: Option<&HubLayer>) -> anyhow::Result<Config> {
        let (name, text) = match &self.file {
            Some(path) => {
                let name = path.display().to_string();
                let text = crate::files::written(path).with_context(|| name.clone())?;
                anyhow::ensure!(
                    !self.needs_text || !sets_nothing(&text),
                    "{name}: sets nothing, and the running agent was told something by it; allowed is an option or more, or a \
                     restart for one without any"
                );
                (name, text)
            }
            None => ("defaults".to_owned(), String::new()),
        };
        let mut config = parse_layers(&name, &text, &self.env, layer, &devices::of_files)?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        for source in &mut config.sources {
            source.kind.settle(&config.data_dir);
        }
        if let Some(hub) = &self.hub {
            config.hubs = read::hubs(hub).map_err(|what| anyhow::anyhow!("--hub: {what}"))?;
        }
        Ok(config)
    }
}

/// Whether there is nothing in it but comments and white space.
fn sets_nothing(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok_and(|table| table.is_empty())
}

/// Every option with its default and meaning, as a file.
#[must_use]
pub fn reference() -> String {
    let mut out =
        String::from("# Every option with its default. Flags win over variables, variables over the file.\n");
    let mut section = "";
    for key in KEYS {
        let repeated = REPEATED.contains(&key.section);
        if key.section != section {
            section = key.section;
            let header = if repeated { format!("# [[{section}]]") } else { format!("[{section}]") };
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
        let comment = if repeated { "# " } else { "" };
        let variable = key.variable().map_or_else(String::new, |name| format!("# Variable: {name}\n"));
        out.push_str(&format!("# {}{allowed}\n{variable}{comment}{} = {default}\n", key.doc, key.name));
    }
    out + pipelines::REFERENCE
}
