//! What the agent shows of its twins.

use serde::{Deserialize, Serialize};

/// State of the twins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinStatus {
    /// Twins that are kept.
    pub documents: u64,
    /// Those of them that are in memory.
    pub in_memory: u64,
    /// Changes made here that the hub has not confirmed.
    pub unconfirmed: u64,
    /// When the hub last confirmed all that was changed here, in ms since 1970; not since the start.
    pub agreed_ms: Option<i64>,
    /// Messages from the hub.
    pub messages_in: u64,
    /// Messages to the hub.
    pub messages_out: u64,
    /// Bytes of those from the hub.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of those to the hub.
    #[serde(default)]
    pub bytes_out: u64,
    /// Bytes of the changes of all that are in memory.
    #[serde(default)]
    pub bytes_in_memory: u64,
    /// Bytes of the changes of the largest of them.
    #[serde(default)]
    pub largest_bytes: u64,
    /// Messages of the hub that were not taken.
    pub refused: u64,
    /// Why the last of them was not.
    pub last_refusal: Option<String>,
    /// How often the replicas took another name: a copy of the agent's data is in use elsewhere, or was put back here.
    pub renamed: u64,
    /// Changes made here that went with a document that the agent shares no more, before the hub had confirmed them.
    #[serde(default)]
    pub lost: u64,
    /// What the last of them wrote, and who.
    #[serde(default)]
    pub last_lost: Option<String>,
    /// Commits to flash since the start.
    pub commits: u64,
}

impl TwinStatus {
    /// The figures of the metrics.
    #[must_use]
    pub const fn figures(&self) -> [(&'static str, u64); 13] {
        [
            ("documents", self.documents),
            ("documents_in_memory", self.in_memory),
            ("unconfirmed_changes", self.unconfirmed),
            ("messages_in_total", self.messages_in),
            ("messages_out_total", self.messages_out),
            ("bytes_in_total", self.bytes_in),
            ("bytes_out_total", self.bytes_out),
            ("in_memory_bytes", self.bytes_in_memory),
            ("in_memory_largest_bytes", self.largest_bytes),
            ("messages_refused_total", self.refused),
            ("renames_total", self.renamed),
            ("changes_lost_total", self.lost),
            ("commits_total", self.commits),
        ]
    }
}
