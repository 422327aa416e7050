//! Where every reading is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A range of batches that was dropped and counted
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerGap {
    /// The spool's epoch
    pub epoch: String,
    /// First batch
    pub first: u64,
    /// Last batch
    pub last: u64,
    /// Readings; 0 when nobody knows how many
    pub rows: u64,
    /// First reading (Unix ms)
    pub from_ms: i64,
    /// Last reading (Unix ms)
    pub to_ms: i64,
    /// Why readings were dropped
    #[schema(example = "quota")]
    pub cause: String,
}

/// Where every reading is that an agent produced, for itself and for the devices behind it: produced =
/// stored + pending + dropped + refused + lost
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Accepted from sources by the agent
    pub produced: u64,
    /// Durable at the hub
    pub stored: u64,
    /// Held by the agent and not yet at the hub
    pub pending: u64,
    /// Given up by the agent, see the gaps
    pub dropped: u64,
    /// The dropped readings by cause, also those of gaps that are no longer listed: `quota`, `expired`,
    /// `damaged`, `flash`, `disk_full`, `downsampled`, `superseded`; and `unknown` for those that the
    /// agent counts and of which this hub has no gap, as after a restore
    pub dropped_by: BTreeMap<String, u64>,
    /// Refused by the hub and kept as dead letters
    pub refused: u64,
    /// Received again and ignored
    pub duplicates: u64,
    /// Stored once and gone after a restore
    pub lost: u64,
    /// Stored with a corrected time: the agent did not know the time when it took them
    pub restamped: u64,
    /// Stored with a time that is wrong, nobody knows by how much
    pub uncertain: u64,
    /// What was dropped, and when
    pub gaps: Vec<LedgerGap>,
    /// Whether the equation holds
    pub balanced: bool,
    /// When the agent last reported (Unix ms)
    #[schema(required)]
    pub as_of_ms: Option<i64>,
}

/// The ledger of one epoch
#[derive(Debug, Serialize, ToSchema)]
pub struct EpochLedger {
    /// The spool's epoch
    pub epoch: String,
    /// Its account
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// How many readings of a device are here
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceReadings {
    /// The device
    pub device: String,
    /// Its readings that can be queried, whichever agent has sent them: of a device that was moved also those of before, and so all
    /// of an agent's devices are not its `stored`
    pub readings: u64,
}

/// The ledger of a device's agent by epoch
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceLedger {
    /// The device
    pub device: String,
    /// The agent that speaks for it, and whose ledger this is
    pub agent: String,
    /// What is here of each device that the agent speaks for
    pub devices: Vec<DeviceReadings>,
    /// By epoch
    pub epochs: Vec<EpochLedger>,
    /// Their sum
    pub total: Ledger,
}

/// The ledger of an agent
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetEntry {
    /// The agent's own device
    pub device: String,
    /// What is here of each device that the agent speaks for
    pub devices: Vec<DeviceReadings>,
    /// Its account
    #[serde(flatten)]
    pub ledger: Ledger,
}

/// The ledger of every agent
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetLedger {
    /// By the agent's own device; field devices stand in the entry of their agent
    pub devices: Vec<FleetEntry>,
}
