//! The devices of the fleet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ledger;

/// Whether a device has a session
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// A session lives
    Online,
    /// It had one
    Offline,
    /// It never had one
    Never,
}

/// One device of the fleet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device's id
    pub id: String,
    /// The agent that speaks for it; another id than its own for a field device behind an agent
    pub agent: String,
    /// Whether its agent is connected
    pub state: DeviceState,
    /// Whether its agent was shut out for good
    #[schema(required = false)]
    pub revoked: bool,
    /// How it is connected
    #[schema(required, example = "quic")]
    pub transport: Option<String>,
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
