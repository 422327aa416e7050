//! Imports of files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file that is to be stored
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// A SHA-256 in hex of all that its readings follow from: its bytes and how they are read. A file is stored once.
    pub identity: String,
    /// What it is called
    pub name: String,
    /// Its rows
    pub rows: u64,
    /// The readings that they are
    pub readings: u64,
    /// Values that are not there
    #[serde(default)]
    pub nulls: u64,
    /// Values that cannot be taken
    #[serde(default)]
    pub refused: u64,
    /// How many chunks it will come in, at most 65536 readings in each
    pub chunks: u64,
    /// Its series; chunks call them by their place in this list, from 0
    pub series: Vec<ImportSeries>,
    /// Store it once more when it is stored already
    #[serde(default)]
    pub again: bool,
    /// Only say what would be
    #[serde(default)]
    pub dry_run: bool,
}

/// A series of a file
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportSeries {
    /// The device
    pub device: String,
    /// The point
    pub point: String,
    /// The unit as a UCUM code; empty for that which the hub knows
    #[serde(default)]
    pub unit: String,
    /// What its values are: `float`, `int`, `bool` or `text`
    #[serde(rename = "type", default = "float")]
    #[schema(example = "float")]
    pub kind: String,
}

fn float() -> String {
    "float".to_owned()
}

/// How far an import is
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportState {
    /// See the request
    pub identity: String,
    /// What the file was called
    pub name: String,
    /// Who began it
    pub by: String,
    /// The agent that it has a ledger as
    pub agent: String,
    /// When it was begun (Unix ms)
    pub begun_ms: i64,
    /// How often the file was stored before
    pub generation: u32,
    /// Its series
    pub series: u64,
    /// Its rows
    pub rows: u64,
    /// The readings that they are
    pub readings: u64,
    /// Values that are not there
    pub nulls: u64,
    /// Values that were not taken
    pub refused: u64,
    /// The chunks that it comes in
    pub chunks: u64,
    /// Readings that are durable, by the ledger
    pub stored: u64,
    /// The first chunk that is not stored; null when all are
    #[schema(required)]
    pub next: Option<u64>,
    /// Series that the hub did not have; only in the answer to a request
    pub new_series: u64,
    /// Devices that the hub did not have; only in the answer to a request
    pub new_devices: u64,
    /// Stream jobs that run: older readings than they wait for are late there
    pub jobs: Vec<String>,
}

/// What became of a chunk
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImportedChunk {
    /// Whether it was stored by this request; otherwise it was before
    pub stored: bool,
}
