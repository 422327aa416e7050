//! Backups, and who a restored hub does not know.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a backup is to be
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// An absolute path on the hub's machine: a folder that is there, to make one in that is named by
    /// the time, or the name of a new one
    pub to: String,
}

/// A backup that was made
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BackupAnswer {
    /// Its folder
    pub path: String,
    /// How many files
    pub files: u64,
    /// Their bytes
    pub bytes: u64,
}

/// An agent that is not registered and has a certificate of this hub
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Stranger {
    /// Its id
    pub agent: String,
    /// When it last asked (Unix ms)
    pub asked_ms: i64,
}

/// Agents that are not registered
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StrangerList {
    /// By id
    pub strangers: Vec<Stranger>,
}
