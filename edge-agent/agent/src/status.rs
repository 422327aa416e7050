//! What the agent shows of itself: one JSON document, shared by all its parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tideline_protocol::model::Account;

/// State of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Readings handed on.
    pub accepted: u64,
    /// Readings or lines rejected.
    pub rejected: u64,
    /// Whether it has come to its end.
    pub done: bool,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// State of the spool.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Bytes held.
    pub bytes: u64,
    /// The quota in bytes.
    pub quota_bytes: u64,
    /// Bytes handed to the storage since the start.
    pub flash_bytes: u64,
}

/// State of the circuit breaker towards the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerStatus {
    /// "closed" (connected), "open" (waiting) or "half-open" (trying).
    pub state: String,
    /// Failures since the last success.
    pub failures: u32,
    /// The wait that was last drawn, in ms.
    pub wait_ms: u64,
}

/// State of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file, when one is named.
    pub file: Option<String>,
    /// What is wrong with the file as it is now; an older state of it is in force.
    pub error: Option<String>,
    /// Options whose change in the file needs a restart.
    pub needs_restart: Vec<String>,
}

/// The whole status.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// The agent's id.
    pub agent: String,
    /// The spool's epoch.
    pub epoch: String,
    /// Whether the hub has welcomed it.
    pub connected: bool,
    /// The transport in use.
    pub transport: Option<String>,
    /// The hub's address.
    pub hub: String,
    /// Last round trip in ms.
    pub rtt_ms: Option<f64>,
    /// The account of the epoch, in rows.
    pub account: Account,
    /// The newest seq.
    pub head: u64,
    /// Rows that the hub has not settled.
    pub backlog_rows: u64,
    /// The circuit breaker.
    pub breaker: BreakerStatus,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// The sources by name.
    #[serde(with = "as_list")]
    pub sources: BTreeMap<String, SourceStatus>,
    /// The spool.
    pub spool: SpoolStatus,
    /// The configuration.
    #[serde(default)]
    pub config: ConfigStatus,
}

mod as_list {
    use super::{BTreeMap, SourceStatus};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(map: &BTreeMap<String, SourceStatus>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(map.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, SourceStatus>, D::Error> {
        let list = Vec::<SourceStatus>::deserialize(d)?;
        Ok(list.into_iter().map(|source| (source.name.clone(), source)).collect())
    }
}

/// The status as all parts share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Status>>);

impl Board {
    /// A copy.
    #[must_use]
    pub fn read(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it; `change` must be short.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes the state of one source.
    pub fn source(&self, name: &str, change: impl FnOnce(&mut SourceStatus)) {
        self.update(|status| {
            let fresh = || SourceStatus { name: name.to_owned(), ..SourceStatus::default() };
            change(status.sources.entry(name.to_owned()).or_insert_with(fresh));
        });
    }
}

impl Status {
    /// The figures in Prometheus' text form.
    #[must_use]
    pub fn metrics(&self) -> String {
        let a = &self.account;
        let figures = [
            ("tideline_agent_rows_produced_total", a.produced),
            ("tideline_agent_rows_stored_total", a.stored),
            ("tideline_agent_rows_dropped_total", a.dropped),
            ("tideline_agent_rows_refused_total", a.refused),
            ("tideline_agent_rows_pending", a.pending),
            ("tideline_agent_connected", u64::from(self.connected)),
            ("tideline_agent_spool_bytes", self.spool.bytes),
            ("tideline_agent_flash_written_bytes_total", self.spool.flash_bytes),
        ];
        let line = |(name, value): &(&str, u64)| format!("# TYPE {name} {}\n{name} {value}\n", kind_of(name));
        figures.iter().map(line).collect()
    }
}

fn kind_of(name: &str) -> &'static str {
    if name.ends_with("_total") { "counter" } else { "gauge" }
}
