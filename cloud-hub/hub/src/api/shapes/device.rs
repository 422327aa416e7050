//! The devices of the fleet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ledger;
use crate::presence::{PresenceEvent, Reason};

/// Whether a device's agent is there
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Heard from in time
    Online,
    /// Not heard from when it was due
    Suspect,
    /// It comes and goes
    Flapping,
    /// Not heard from for longer, or it said goodbye
    Offline,
    /// It never had a session
    Never,
}

/// One way from an agent to this hub, as the agent sees it
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Way {
    /// The address that the agent dials
    pub address: String,
    /// By what
    #[schema(example = "quic")]
    pub transport: String,
    /// Whether the session was on it
    pub carries: bool,
    /// Its circuit breaker: closed, open (no attempts for now) or half-open (one at a time)
    #[schema(example = "closed")]
    pub breaker: String,
    /// Failures since the last success
    pub failures: u32,
    /// The back-off's last wait in ms
    pub wait_ms: u32,
    /// Smoothed round trip in ms
    #[schema(required)]
    pub rtt_ms: Option<f64>,
    /// Smoothed share of packets lost, from 0 to 1
    pub loss: f64,
}

/// How an agent fares, as it last said
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Uplink {
    /// When it said so (Unix ms)
    pub as_of_ms: i64,
    /// Its ways to this hub, the preferred one first
    pub ways: Vec<Way>,
    /// How often it moved from one way to another since it started
    pub switches: u64,
    /// Bytes in its spool
    pub spool_bytes: u64,
    /// The spool's quota in bytes
    pub spool_quota_bytes: u64,
}

impl DeviceState {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Flapping => "flapping",
            Self::Offline => "offline",
            Self::Never => "never",
        }
    }
}

/// When a device's agent came and went
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceEvents {
    /// The device
    pub device: String,
    /// The agent that speaks for it
    pub agent: String,
    /// The last hundred at most, oldest first
    pub events: Vec<PresenceEvent>,
}

/// One device of the fleet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device's id
    pub id: String,
    /// The agent that speaks for it; another id than its own for a field device behind an agent
    pub agent: String,
    /// Whether its agent is there
    pub state: DeviceState,
    /// Since when (Unix ms)
    #[schema(required = false)]
    pub state_since_ms: Option<i64>,
    /// Why it changed
    #[schema(required = false)]
    pub state_reason: Option<Reason>,
    /// Whether its agent was shut out for good
    #[schema(required = false)]
    pub revoked: bool,
    /// How it is connected
    #[schema(required, example = "quic")]
    pub transport: Option<String>,
    /// How its agent's ways to this hub and its spool fare, as last reported since this hub started
    #[serde(default)]
    #[schema(required = false)]
    pub uplink: Option<Uplink>,
    /// Name and version of the agent's software
    #[schema(required)]
    pub software: Option<String>,
    /// Connected since (Unix ms)
    #[schema(required)]
    pub connected_ms: Option<i64>,
    /// Last frame (Unix ms)
    #[schema(required)]
    pub last_seen_ms: Option<i64>,
    /// Newest reading (Unix ms)
    #[schema(required)]
    pub last_reading_ms: Option<i64>,
    /// Readings a second over the last 10 s
    pub rate: f64,
    /// Readings of this device that can be queried
    #[schema(required = false)]
    pub readings: u64,
    /// Readings of this device that came late: when the same point had one of a later minute
    #[schema(required = false)]
    #[serde(default)]
    pub late: u64,
    /// Readings pending at its agent as last reported
    pub backlog: u64,
    /// The ledger of its agent over all epochs; batches hold readings of several devices, so that
    /// there is one for all devices behind an agent
    pub ledger: Ledger,
}

/// A new field device
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// The device's id
    pub id: String,
    /// The enrolled agent that may write for it
    pub agent: String,
}

/// A page of devices
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DevicePage {
    /// The devices by id
    pub devices: Vec<Device>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}
