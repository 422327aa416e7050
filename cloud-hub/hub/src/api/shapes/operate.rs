//! What operators look at: the hub's health, what happened, tokens that wait.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::presence::PresenceEvent;

/// What a check says
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// All is well
    Fine,
    /// An operator should look; the hub does its work
    Degraded,
    /// The hub does not do its work
    Failed,
}

/// One check of the hub
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// The stable name
    #[schema(example = "store log")]
    pub name: String,
    /// What it says
    pub state: CheckVerdict,
    /// Why, where it is not fine
    #[schema(required)]
    pub reason: Option<String>,
}

/// How the hub fares
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    /// Whether it does its work
    pub ready: bool,
    /// Its version
    pub version: String,
    /// Since when it looks after the fleet (Unix ms); null within its first moments
    #[schema(required)]
    pub since_ms: Option<i64>,
    /// The checks that `/readyz` is made of
    pub checks: Vec<HealthCheck>,
    /// Sessions that live
    pub sessions: u64,
    /// Who follows the live feed
    pub streams: u64,
    /// Where devices enrol, host:port
    pub https: String,
    /// Where agents connect by QUIC, host:port
    pub quic: String,
    /// Where they connect by MQTT over TLS, host:port
    #[schema(required)]
    pub mqtt: Option<String>,
    /// Whether devices that an agent names are registered by themselves
    pub registers_devices: bool,
}

/// What happened to an agent
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetEvent {
    /// The agent
    pub agent: String,
    /// What
    #[serde(flatten)]
    pub event: PresenceEvent,
}

/// What happened, the newest first
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetEvents {
    /// The events
    pub events: Vec<FleetEvent>,
    /// For the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// An enrolment token that was made
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollTokenInfo {
    /// Its id
    pub id: String,
    /// The device that it lets in
    pub device: String,
    /// When it ends (Unix ms)
    pub expires_ms: i64,
    /// Whether a key has used it
    pub used: bool,
}

/// The enrolment tokens that have not ended
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollTokenList {
    /// By the device
    pub tokens: Vec<EnrollTokenInfo>,
}
