//! Dead letters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the ledger says of the readings in a dead letter
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// They are counted as refused
    Refused,
    /// They are stored; only the letter's file is left
    Stored,
    /// The ledger does not have them, as after a restore
    Unknown,
}

/// A run that is durable and cannot be decoded
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its id
    pub id: String,
    /// The agent that sent it
    pub agent: String,
    /// The spool's epoch
    pub epoch: String,
    /// First batch
    pub first: u64,
    /// Last batch
    pub last: u64,
    /// How many of them were refused
    pub batches: u64,
    /// Readings in them
    pub rows: u64,
    /// Bytes of the block
    pub bytes: u64,
    /// Why it cannot be decoded
    pub reason: String,
    /// When it was put aside (Unix ms)
    #[schema(required)]
    pub kept_ms: Option<i64>,
    /// What the ledger says
    pub state: LetterState,
}

/// A page of dead letters
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterPage {
    /// By id
    pub letters: Vec<DeadLetter>,
    /// Files among them that cannot be read
    pub unreadable: Vec<String>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// A dead letter with the begin of its block
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterAnswer {
    /// What is known of it
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The first bytes of the block, in hex
    pub begin: String,
}

/// What a replay did
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterReplay {
    /// Readings that went from refused to stored; none where they were stored before
    pub rows: u64,
}
