//! What the agent shows of itself: one JSON document, shared by all its parts.

mod commands;
mod metrics;
mod pipelines;
mod sources;
mod twins;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tideline_protocol::clocks::TOLERANCE_NS;
use tideline_protocol::model::{Account, AgentId};
use tideline_spool::StreamStats;

use crate::newest::Newest;

pub use self::commands::CommandsStatus;
pub use self::pipelines::{DeadLetterStatus, PipelineStatus, StageFigures};
pub use self::sources::{DEVICES_SHOWN_MAX, DeviceStatus, JitterStatus, SourceState, SourceStatus};
pub use self::twins::TwinStatus;

/// State of the spool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Bytes held.
    pub bytes: u64,
    /// The quota in bytes.
    pub quota_bytes: u64,
    /// Bytes handed to the storage since the start.
    pub flash_bytes: u64,
    /// Bytes handed to the storage in this day of the spool's age.
    #[serde(default)]
    pub flash_day_bytes: u64,
    /// Most of them that are wanted; 0 = no limit.
    #[serde(default)]
    pub flash_bytes_per_day: u64,
    /// What is left of them: "plenty", "short" (readings become durable less often) or "spent" (only
    /// alarms are taken).
    #[serde(default)]
    pub flash_pace: String,
    /// Whether the disk was full, so that less is kept than the quota allows.
    #[serde(default)]
    pub disk_full: bool,
}

/// State of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Its delivery class.
    pub class: String,
    /// Bytes held of it.
    pub bytes: u64,
    /// Its own quota in bytes; 0 = the spool's alone.
    pub quota_bytes: u64,
}

impl StreamStatus {
    /// As the spool has it.
    #[must_use]
    pub fn of(stats: &StreamStats) -> Self {
        let StreamStats { name, class, bytes, quota_bytes } = stats;
        let class = class.as_str().to_owned();
        Self { name: name.clone(), class, bytes: *bytes, quota_bytes: *quota_bytes }
    }
}

/// State of a circuit breaker and of the back-off with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerStatus {
    /// "closed" (attempts are made as needed), "open" (none are made for now) or "half-open" (one at a
    /// time is made).
    pub state: String,
    /// Failures since the last success.
    pub failures: u32,
    /// The wait that was last drawn, in ms.
    pub wait_ms: u64,
}

/// State of a way to the hub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The hub's address.
    pub hub: String,
    /// "quic" or "mqtt".
    pub transport: String,
    /// Whether the session is on it.
    pub carries: bool,
    /// Its circuit breaker.
    pub breaker: BreakerStatus,
    /// Smoothed round trip in ms.
    pub rtt_ms: Option<f64>,
    /// Smoothed share of packets lost, from 0 to 1.
    pub loss: f64,
}

/// What is known of the clock of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Whether the times of readings are taken as they are: a hub has told the time, and this clock says
    /// nearly the same. Others are corrected by what the hub tells.
    pub trusted: bool,
    /// How far the hub's clock was ahead of this one when they were last compared, in ms.
    pub offset_ms: Option<f64>,
    /// By how much that may be wrong: half of the round trip, in ms.
    pub uncertainty_ms: Option<f64>,
}

impl ClockStatus {
    /// As a round trip of a session has measured it; both in ns.
    #[must_use]
    pub fn measured(offset_ns: i64, uncertainty_ns: u64) -> Self {
        let ms = |ns: i64| ns as f64 / 1e6;
        Self {
            trusted: offset_ns.unsigned_abs() <= TOLERANCE_NS.unsigned_abs(),
            offset_ms: Some(ms(offset_ns)),
            uncertainty_ms: Some(ms(i64::try_from(uncertainty_ns).unwrap_or(i64::MAX))),
        }
    }
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
    /// Rows given up in this epoch, by cause; as `earlier` those of which the hub alone knows why.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// Batches given up, at most, of which nobody knows how many readings they had; they are in no count of
    /// rows. The spool's journal was lost.
    #[serde(default)]
    pub uncounted_batches: u64,
    /// The circuit breaker of the way in use, or else of the preferred one.
    pub breaker: BreakerStatus,
    /// All ways to the hub, the preferred one first.
    #[serde(default)]
    pub paths: Vec<PathStatus>,
    /// How often the session moved from one way to another.
    #[serde(default)]
    pub switches: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// The sources by name.
    #[serde(with = "as_list")]
    pub sources: BTreeMap<String, SourceStatus>,
    /// The pipelines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<PipelineStatus>,
    /// What their stages could not take or do, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<DeadLetterStatus>,
    /// The clock.
    #[serde(default)]
    pub clock: ClockStatus,
    /// The spool.
    pub spool: SpoolStatus,
    /// Its streams, former ones among them.
    #[serde(default)]
    pub streams: Vec<StreamStatus>,
    /// The configuration.
    #[serde(default)]
    pub config: ConfigStatus,
    /// The twins.
    #[serde(default)]
    pub twins: TwinStatus,
    /// The hub's commands.
    #[serde(default)]
    pub commands: CommandsStatus,
    /// The pipelines by flow, of which those shown are put together.
    #[serde(skip)]
    flows: BTreeMap<String, Vec<PipelineStatus>>,
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
pub struct Board {
    status: Arc<Mutex<Status>>,
    newest: Newest,
}

impl Board {
    /// Of an agent that has shown nothing yet.
    #[must_use]
    pub fn of(agent: &AgentId) -> Self {
        let board = Self::default();
        board.update(|status| status.agent = agent.to_string());
        board
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest readings, which are no part of the document: there may be many of them.
    #[must_use]
    pub const fn newest(&self) -> &Newest {
        &self.newest
    }

    /// Changes it; `change` must be short.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Status {
    /// The figures in Prometheus' text form.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::text(self)
    }
}
