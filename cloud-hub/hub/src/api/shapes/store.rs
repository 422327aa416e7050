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
    /// What is kept of each tier, the finest first, and of the cold tier where there is one
    pub tiers: Vec<StoreTier>,
    /// Readings stored since the hub started
    pub appended_rows: u64,
    /// Readings that came again since the hub started
    pub duplicate_rows: u64,
    /// Runs kept as dead letters since the hub started
    pub dead_letters: u64,
    /// Whether a failed write stopped the store
    pub poisoned: bool,
}

/// What the store keeps of one tier
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreTier {
    /// `raw`, `1m`, `1h`, `1d` or `cold`
    pub tier: String,
    /// Sealed files whose finest tier it is; of `cold` Parquet files
    pub files: u64,
    /// The readings that they are of
    pub readings: u64,
    /// Their bytes, of all tiers
    pub bytes: u64,
    /// The earliest time in them (Unix ms); null when there are none
    #[schema(required)]
    pub first_ms: Option<i64>,
    /// How long the tier is kept, as `90d`, or `forever`
    pub age: String,
    /// The room that it may take, as `20GB`, or `unlimited`
    pub size: String,
}

/// What a check of the store found
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreVerification {
    /// Sealed files read
    pub files: u64,
    /// Readings in them
    pub rows: u64,
    /// Files of the cold tier read
    pub cold_files: u64,
    /// Readings in them
    pub cold_rows: u64,
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
