//! The devices of the fleet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DevicePosition, Ledger, PlanSpot, PositionPatch};
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

/// A certificate that an agent has shown
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Certificate)]
pub struct CertificateView {
    /// SHA-256 of its DER, in hex, as tools show a fingerprint
    pub sha256: String,
    /// Valid from then on (Unix ms)
    pub not_before_ms: i64,
    /// Valid until then (Unix ms); a new enrolment token gives the agent another
    pub not_after_ms: i64,
}

/// The session of an agent, as this hub sees it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentSession)]
pub struct SessionView {
    /// Where it comes from; over a broker the broker's address
    pub remote: String,
    /// What it proved itself with; left out when that was a token
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub certificate: Option<CertificateView>,
    /// Bytes of readings that came and are not durable here yet
    pub waiting_bytes: u64,
    /// Batches that the disk is asked for
    pub waiting_batches: u64,
    /// Bytes of readings that it may send before earlier ones are durable
    pub credit_bytes: u64,
    /// The same when nothing waits
    pub credit_most_bytes: u64,
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

/// What an agent says of a device; an empty text is not known
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct About {
    /// The name of its profile
    #[schema(example = "eastron-sdm630")]
    pub profile: String,
    /// The version of its firmware
    pub firmware: String,
    /// Who made it
    pub vendor: String,
    /// What the maker calls it
    pub model: String,
    /// How the agent reads it
    #[schema(example = "modbus 10.0.0.5:502 unit 1")]
    pub via: String,
}

/// What changes of a device (RFC 7396): what is left out stays, null takes away
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DevicePatch {
    /// A name for people, at most 128 bytes
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub title: Option<Option<String>>,
    /// Where it is, at most 64 bytes
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub site: Option<Option<String>>,
    /// All groups that it is in, at most 16
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    pub groups: Option<Option<Vec<String>>>,
    /// Tags that change, by their keys; null takes one away, or all of them; at most 32
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub tags: Option<Option<BTreeMap<String, Option<String>>>>,
    /// Where it is on Earth; null leaves that to its own readings
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<PositionPatch>)]
    pub position: Option<Option<PositionPatch>>,
    /// Where it is on the plan of its site; another site takes it away
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<PlanSpot>)]
    pub spot: Option<Option<PlanSpot>>,
    /// The enrolled agent that it is behind from now on; its history stays
    #[schema(required = false)]
    pub agent: Option<String>,
}

/// Tells null from what is left out.
pub(super) fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One device of the fleet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device's id
    pub id: String,
    /// The agent that speaks for it; another id than its own for a field device behind an agent
    pub agent: String,
    /// A name for people, as operators gave it
    #[serde(default)]
    #[schema(required)]
    pub title: String,
    /// What its agent says of it
    #[serde(default)]
    #[schema(required = false)]
    pub about: Option<About>,
    /// Where it is, as operators say
    #[serde(default)]
    #[schema(required)]
    pub site: String,
    /// The groups that it is in
    #[serde(default)]
    #[schema(required)]
    pub groups: Vec<String>,
    /// Its tags by their keys
    #[serde(default)]
    #[schema(required)]
    pub tags: BTreeMap<String, String>,
    /// Where it is on Earth; left out when that is not known
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub position: Option<DevicePosition>,
    /// Where it is on the plan of its site; left out when nobody said
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub spot: Option<PlanSpot>,
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
    /// By what its agent's session came, `quic` or `mqtt`, until that session ends: of an agent that is offline it is the last one
    #[schema(required, example = "quic")]
    pub transport: Option<String>,
    /// How its agent's ways to this hub and its spool fare, as last reported since this hub started
    #[serde(default)]
    #[schema(required = false)]
    pub uplink: Option<Uplink>,
    /// The session of its agent until that ends
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub session: Option<SessionView>,
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
