//! The hub's configuration: one table of options, read in layers (defaults, file, environment,
//! flags). All errors are reported at once, each with its place and what is allowed.

mod load;
mod retention;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use tideline_link::mqtt::BrokerUrl;
use tideline_store::Retention;

pub use load::{ConfigErrors, Fault, Layers, load, render};
pub use retention::{shown_age, shown_room};

/// The checked configuration; every value is explicit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Plain HTTP: API and web app.
    pub http_listen: SocketAddr,
    /// Whether `/metrics` is answered without a token.
    pub metrics_open: bool,
    /// HTTPS: API, web app and enrolment.
    pub https_listen: SocketAddr,
    /// QUIC: agents.
    pub quic_listen: SocketAddr,
    /// MQTT over TLS: agents and devices.
    pub mqtt_listen_tls: Option<SocketAddr>,
    /// MQTT without TLS, on loopback.
    pub mqtt_listen_plain: Option<SocketAddr>,
    /// The broker that agents may come through.
    pub mqtt_broker: Option<BrokerUrl>,
    /// The file with the authorities of the broker's certificate.
    pub mqtt_broker_ca: Option<PathBuf>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Names and addresses in the hub's certificate.
    pub names: Vec<String>,
    /// Tags of line protocol that name the device, the first that is there.
    pub influx_device_tags: Vec<String>,
    /// Labels of remote write that name the device, the first that is there.
    pub prometheus_device_labels: Vec<String>,
    /// Whether devices that an agent names are registered behind it.
    pub register_devices: bool,
    /// Days that the history of twins is kept beyond where it is cut off.
    pub twin_history_days: u64,
    /// Days that a command which has ended is kept.
    pub command_keep_days: u64,
    /// The host name or address that enrol tokens and agents are told.
    pub public_address: String,
    /// Seconds between sealing the hot rows into files.
    pub flush_interval_s: u64,
    /// Memory that the store plans with, MiB.
    pub memory_mb: u64,
    /// Rows held in memory before they are sealed early; 0 for what the memory allows.
    pub hot_rows_max: u64,
    /// How long each tier is kept, and in how much room.
    pub retention: Retention,
    /// What a statement of SQL may take.
    pub sql: SqlLimits,
}

/// What a statement of SQL may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlLimits {
    /// Rows of the answer.
    pub rows_max: u64,
    /// Rows of all tables that it reads.
    pub input_rows_max: u64,
    /// Megabytes of its process, beyond those of the program.
    pub memory_mb: u64,
    /// Seconds from when it is its turn until its answer begins.
    pub time_max_s: u64,
    /// How many run at once.
    pub at_once: u64,
    /// The program that runs it: this one, which `/proc/self/exe` is even when its file was replaced.
    pub program: PathBuf,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            rows_max: 1_000_000,
            input_rows_max: 4_000_000,
            memory_mb: 512,
            time_max_s: 30,
            at_once: 2,
            program: PathBuf::from("/proc/self/exe"),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_open: false,
            https_listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            quic_listen: SocketAddr::from(([0, 0, 0, 0], 4433)),
            mqtt_listen_tls: Some(SocketAddr::from(([0, 0, 0, 0], 8883))),
            mqtt_listen_plain: None,
            mqtt_broker: None,
            mqtt_broker_ca: None,
            data_dir: PathBuf::from("tideline-data"),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            influx_device_tags: vec!["host".to_owned(), "device".to_owned()],
            prometheus_device_labels: vec!["instance".to_owned()],
            register_devices: true,
            twin_history_days: 90,
            command_keep_days: crate::commands::KEEP_DAYS,
            public_address: "localhost".to_owned(),
            flush_interval_s: 10,
            memory_mb: 512,
            hot_rows_max: 0,
            sql: SqlLimits::default(),
            retention: Retention { by_profile: true, ..Retention::default() },
        }
    }
}

/// One option: its name, its meaning, and how it is read from and shown as text.
pub struct OptionDef {
    /// Section and key, as `http.listen`.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Which values are allowed.
    pub allowed: &'static str,
    set: fn(&mut Config, &str) -> Option<()>,
    show: fn(&Config) -> String,
}

const ADDRESS_OR_OFF: &str =
    "an address with a port, as 0.0.0.0:8883 or [::]:8883; port 0 takes a free one; or nothing";
const KEYS: &str = "names of 1 to 128 bytes; a list in the file, commas in the environment";
/// Longest name of a tag or label.
const KEY_BYTES_MAX: usize = 128;
const ADDRESS: &str = "an address with a port, as 127.0.0.1:8080 or [::]:8080; port 0 takes a free one";

/// What may be left out: an empty text is off.
fn off_or<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

fn shown<T: ToString>(value: Option<&T>) -> String {
    quoted(&value.map_or_else(String::new, ToString::to_string))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn number_in(text: &str, lo: u64, hi: u64) -> Option<u64> {
    text.replace('_', "").parse().ok().filter(|n| (lo..=hi).contains(n))
}

fn names_in(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|n| n.trim().to_owned()).collect();
    names.iter().all(|n| host_is_sound(n)).then_some(names)
}

fn keys_in(text: &str) -> Option<Vec<String>> {
    let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).collect();
    keys.iter().all(|key| (1..=KEY_BYTES_MAX).contains(&key.len())).then_some(keys)
}

fn listed(all: &[String]) -> String {
    format!("[{}]", all.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", "))
}

fn host_is_sound(name: &str) -> bool {
    // A colon is in an IPv6 address or begins a port, which has no business here.
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    (1..=253).contains(&name.len()) && (plain || name.parse::<Ipv6Addr>().is_ok())
}

/// Every option there is; the reference page and `config print` are made from it.
pub fn options() -> impl Iterator<Item = &'static OptionDef> {
    OPTIONS.iter().chain(&retention::OPTIONS)
}

const OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: "http.listen",
        meaning: "where the API and the web app are served without TLS; keep it on loopback",
        allowed: ADDRESS,
        set: |c, t| t.parse().ok().map(|v| c.http_listen = v),
        show: |c| quoted(&c.http_listen.to_string()),
    },
    OptionDef {
        name: "http.metrics_open",
        meaning: "whether /metrics is answered without a token, over HTTP and HTTPS; with false a scraper sends a bearer token of role viewer",
        allowed: "true or false",
        set: |c, t| t.parse().ok().map(|v| c.metrics_open = v),
        show: |c| c.metrics_open.to_string(),
    },
    OptionDef {
        name: "https.listen",
        meaning: "where the API, the web app and enrolment are served over TLS",
        allowed: ADDRESS,
        set: |c, t| t.parse().ok().map(|v| c.https_listen = v),
        show: |c| quoted(&c.https_listen.to_string()),
    },
    OptionDef {
        name: "quic.listen",
        meaning: "where agents connect, over UDP",
        allowed: ADDRESS,
        set: |c, t| t.parse().ok().map(|v| c.quic_listen = v),
        show: |c| quoted(&c.quic_listen.to_string()),
    },
    OptionDef {
        name: "mqtt.listen_tls",
        meaning: "where agents and devices connect by MQTT over TLS, with their certificate or a device token; agents are told the port when they enrol, for where UDP is blocked; empty for not at all",
        allowed: ADDRESS_OR_OFF,
        set: |c, t| off_or(t).map(|v| c.mqtt_listen_tls = v),
        show: |c| shown(c.mqtt_listen_tls.as_ref()),
    },
    OptionDef {
        name: "mqtt.listen_plain",
        meaning: "where programs on this machine connect by MQTT without TLS, usually 127.0.0.1:1883, with a device token; empty for not at all",
        allowed: "an address on loopback with a port, as 127.0.0.1:1883, or nothing",
        set: |c, t| {
            off_or::<SocketAddr>(t)
                .filter(|a| a.is_none_or(|a| a.ip().is_loopback()))
                .map(|v| c.mqtt_listen_plain = v)
        },
        show: |c| shown(c.mqtt_listen_plain.as_ref()),
    },
    OptionDef {
        name: "mqtt.broker_url",
        meaning: "a broker that agents may come through, sealed from end to end; a password is not shown; empty for none",
        allowed: "mqtt://host:1883 or mqtts://user:password@host:8883, or nothing",
        set: |c, t| off_or(t).map(|v| c.mqtt_broker = v),
        show: |c| shown(c.mqtt_broker.as_ref()),
    },
    OptionDef {
        name: "mqtt.broker_ca",
        meaning: "the file (PEM) with the authorities that an mqtts broker's certificate may be of",
        allowed: "a path, as /etc/ssl/certs/ca-certificates.crt; needed for mqtts",
        set: |c, t| {
            c.mqtt_broker_ca = Some(PathBuf::from(t)).filter(|_| !t.is_empty());
            Some(())
        },
        show: |c| quoted(&c.mqtt_broker_ca.as_ref().map_or_else(String::new, |p| p.display().to_string())),
    },
    OptionDef {
        name: "influx.device_tags",
        meaning: "tags of InfluxDB line protocol that name the device; of several in a line the first of this list counts",
        allowed: KEYS,
        set: |c, t| keys_in(t).map(|v| c.influx_device_tags = v),
        show: |c| listed(&c.influx_device_tags),
    },
    OptionDef {
        name: "prometheus.device_labels",
        meaning: "labels of Prometheus remote write that name the device, less a :port; of several the first of this list counts",
        allowed: KEYS,
        set: |c, t| keys_in(t).map(|v| c.prometheus_device_labels = v),
        show: |c| listed(&c.prometheus_device_labels),
    },
    OptionDef {
        name: "hub.data_dir",
        meaning: "the folder of the store, the registry, the keys and the command socket",
        allowed: "a path",
        set: |c, t| (!t.is_empty()).then(|| c.data_dir = PathBuf::from(t)),
        show: |c| quoted(&c.data_dir.display().to_string()),
    },
    OptionDef {
        name: "hub.names",
        meaning: "the names and addresses in the hub's certificate",
        allowed: "host names and IP addresses; a list in the file, commas in the environment",
        set: |c, t| names_in(t).map(|v| c.names = v),
        show: |c| listed(&c.names),
    },
    OptionDef {
        name: "hub.public_address",
        meaning: "the host that agents are told to connect to; it is in the hub's certificate too",
        allowed: "a host name or an IP address without a port",
        set: |c, t| host_is_sound(t).then(|| c.public_address = t.to_owned()),
        show: |c| quoted(&c.public_address),
    },
    OptionDef {
        name: "devices.register",
        meaning: "whether a device that an enrolled agent names for the first time is registered behind it; with false an operator does that with `cloud-hub device add`, and until then its readings are points `aside/DEVICE/POINT` of the agent",
        allowed: "true or false",
        set: |c, t| t.parse().ok().map(|v| c.register_devices = v),
        show: |c| c.register_devices.to_string(),
    },
    OptionDef {
        name: "twins.history_days",
        meaning: "days that the history of a twin is kept after it was cut off, which happens every two thousand changes; at most 64 such parts of each twin; 0 for not at all",
        allowed: "a whole number from 0 to 3650",
        set: |c, t| number_in(t, 0, 3650).map(|v| c.twin_history_days = v),
        show: |c| c.twin_history_days.to_string(),
    },
    OptionDef {
        name: "commands.keep_days",
        meaning: "days that a command which has ended is kept with its output",
        allowed: "a whole number from 1 to 3650",
        set: |c, t| number_in(t, 1, 3650).map(|v| c.command_keep_days = v),
        show: |c| c.command_keep_days.to_string(),
    },
    OptionDef {
        name: "store.flush_interval_s",
        meaning: "seconds between sealing the rows in memory into files; they are durable before",
        allowed: "a whole number from 1 to 3600",
        set: |c, t| number_in(t, 1, 3600).map(|v| c.flush_interval_s = v),
        show: |c| c.flush_interval_s.to_string(),
    },
    OptionDef {
        name: "store.memory_mb",
        meaning: "memory that the store plans with, in MiB: rows that are not sealed yet, whatever comes in, and what is kept of files; a process of SQL has its own",
        allowed: "a whole number from 128 to 65536",
        set: |c, t| number_in(t, 128, 65_536).map(|v| c.memory_mb = v),
        show: |c| c.memory_mb.to_string(),
    },
    OptionDef {
        name: "store.hot_rows_max",
        meaning: "rows in memory that make the store seal early; 0 for what store.memory_mb allows, which is 4096 for each MiB",
        allowed: "0, or a whole number from 10000 to 100000000",
        set: |c, t| {
            number_in(t, 0, 100_000_000).filter(|v| *v == 0 || *v >= 10_000).map(|v| c.hot_rows_max = v)
        },
        show: |c| c.hot_rows_max.to_string(),
    },
    OptionDef {
        name: "sql.rows_max",
        meaning: "rows that the answer to a statement of SQL may have",
        allowed: "a whole number from 1 to 10000000",
        set: |c, t| number_in(t, 1, 10_000_000).map(|v| c.sql.rows_max = v),
        show: |c| c.sql.rows_max.to_string(),
    },
    OptionDef {
        name: "sql.input_rows_max",
        meaning: "rows that a statement of SQL may read; each takes some 20 to 70 bytes of sql.memory_mb",
        allowed: "a whole number from 1 to 1000000000",
        set: |c, t| number_in(t, 1, 1_000_000_000).map(|v| c.sql.input_rows_max = v),
        show: |c| c.sql.input_rows_max.to_string(),
    },
    OptionDef {
        name: "sql.memory_mb",
        meaning: "megabytes that a statement of SQL may take, in a process of its own",
        allowed: "a whole number from 64 to 1048576",
        set: |c, t| number_in(t, 64, 1_048_576).map(|v| c.sql.memory_mb = v),
        show: |c| c.sql.memory_mb.to_string(),
    },
    OptionDef {
        name: "sql.time_max_s",
        meaning: "seconds that a statement of SQL may take until its answer begins",
        allowed: "a whole number from 1 to 3600",
        set: |c, t| number_in(t, 1, 3600).map(|v| c.sql.time_max_s = v),
        show: |c| c.sql.time_max_s.to_string(),
    },
    OptionDef {
        name: "sql.at_once",
        meaning: "statements of SQL that run at once; others wait a few seconds for their turn",
        allowed: "a whole number from 1 to 64",
        set: |c, t| number_in(t, 1, 64).map(|v| c.sql.at_once = v),
        show: |c| c.sql.at_once.to_string(),
    },
];
