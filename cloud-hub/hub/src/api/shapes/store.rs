//! What the store holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the store holds
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreInfo {
    /// Agents with a ledger
    pub agents: u64,
    /// Series
    pub series: u64,
    /// Readings in memory and in the log that are not sealed yet
    pub hot_rows: u64,
    /// Sealed files
    pub sealed_files: u64,
    /// Readings in them
    pub sealed_rows: u64,
    /// Their bytes with the rollups
    pub sealed_bytes: u64,
    /// Readings stored since the hub started
    pub appended_rows: u64,
    /// Readings that came again since the hub started
    pub duplicate_rows: u64,
    /// Runs kept as dead letters since the hub started
    pub dead_letters: u64,
    /// Whether a failed write stopped the store
    pub poisoned: bool,
}

/// What a check of the store found
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreVerification {
    /// Sealed files read
    pub files: u64,
    /// Readings in them
    pub rows: u64,
    /// Records of the log read
    pub log_records: u64,
    /// Readings in the log that are in no sealed file yet
    pub log_rows: u64,
    /// Dead letters read
    pub dead_letters: u64,
    /// What is wrong; empty when all is well
    pub problems: Vec<String>,
    /// What a kill or a hostile agent may leave and a start clears away
    pub notes: Vec<String>,
}
