//! What the store is told when it opens, and what can go wrong with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::{AgentId, Epoch};

use crate::files::{Files, RealFiles};
use crate::log::LogError;
use crate::retention::Retention;

/// Options of a store. Every one has a default from [`StoreConfig::new`].
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder of the store; created when missing.
    pub dir: PathBuf,
    /// Rows in memory at which they are sealed; 16 bytes each, and as many again while sealing. Of more than a thousand
    /// series each counts as eight rows more. What is on its way from the log when a file is begun comes on top: some
    /// hundred runs at most.
    pub hot_rows_max: usize,
    /// Bytes of what was read of sealed files that are kept in memory.
    pub cache_bytes: usize,
    /// Longest time between two flushes; bounds how much log a start replays.
    pub flush_interval: Duration,
    /// Size at which the log goes on in a new segment.
    pub log_segment_bytes_max: u64,
    /// Commands that may wait for the writer; a sender waits when it is full.
    pub queue_max: usize,
    /// Live batches that a slow subscriber may lag behind before it loses the oldest.
    pub live_queue_max: usize,
    /// Whether a start compares the checksum of every sealed file before it returns, which reads
    /// all of them. Otherwise it compares their lengths; whole files are compared in the background,
    /// and each part that a query reads is compared with its own checksum.
    pub check_files_on_open: bool,
    /// Whether sealed files are made fewer in the background.
    pub compact: bool,
    /// How long each tier is kept, and in how much room; looked at in the background with merges.
    pub retention: Retention,
    /// How the ids of those agents begin of whose series the newest reading of a time takes the place of the older ones,
    /// also for what was stored before this was said; of all others each reading counts.
    pub revised_by: Option<String>,
    /// Segments of the log from this one on are kept at the start, also where all that they hold is sealed:
    /// somebody still reads them, and says so by [`crate::Store::hold_log`] afterwards.
    pub keep_log_from: u64,
    /// How soon the log is reopened after a failed write; the pause doubles up to half a minute.
    pub log_retry_min: Duration,
    /// What its files are on.
    pub files: Files,
}

/// What a store plans with unless it is told otherwise.
const MEMORY_BYTES: usize = 512 * 1024 * 1024;
/// One row in memory for so many bytes of all: twice as many rows at 16 bytes each while a file is written take an
/// eighth, and what sorts and encodes them, or waits for them, the same again.
const HOT_ROW_SHARE: usize = 256;
/// The part of all that is kept of what was read.
const CACHE_SHARE: usize = 4;

impl StoreConfig {
    /// As it is, but made for so much memory: hot rows and what is kept of files are bounded in proportion. Series,
    /// ledgers and the answers to queries come on top.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Self {
        Self { hot_rows_max: bytes / HOT_ROW_SHARE, cache_bytes: bytes / CACHE_SHARE, ..self }
    }

    /// The defaults for a store in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            hot_rows_max: MEMORY_BYTES / HOT_ROW_SHARE,
            cache_bytes: MEMORY_BYTES / CACHE_SHARE,
            flush_interval: Duration::from_secs(60),
            log_segment_bytes_max: crate::log::SEGMENT_BYTES_MAX,
            queue_max: 1024,
            live_queue_max: 1024,
            check_files_on_open: false,
            compact: true,
            retention: Retention { by_profile: true, ..Retention::default() },
            revised_by: None,
            keep_log_from: u64::MAX,
            log_retry_min: Duration::from_secs(1),
            files: RealFiles::shared(),
        }
    }
}

/// Why the store did not do what was asked. Clonable: one failed group commit has many waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A write failed and the log is not reopened yet; what is sent again later is taken.
    #[error("the store takes nothing since a write failed; it is trying to reopen its log")]
    Poisoned,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The agent's dictionary entries do not fit those that are known; the agent's fault.
    #[error("series of agent {agent}, epoch {epoch}: {reason}")]
    Series {
        /// Whose entries.
        agent: AgentId,
        /// Of which epoch.
        epoch: Epoch,
        /// What does not fit.
        reason: String,
    },
    /// Another copy of the agent's spool has signed on since; the session that spoke is to end.
    #[error("another copy of the spool of agent {agent}, epoch {epoch}, has signed on since")]
    Replaced {
        /// Whose spool.
        agent: AgentId,
        /// Which epoch.
        epoch: Epoch,
    },
    /// The agent would hold more than is allowed; its fault.
    #[error("limit: {0}")]
    Limit(String),
    /// The disk failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// The manifest cannot be read or written.
    #[error("manifest: {0}")]
    Manifest(String),
    /// A sealed file cannot be read or written.
    #[error("sealed file: {0}")]
    Sealed(String),
    /// A file of the cold tier cannot be read or written.
    #[error("cold file: {0}")]
    Cold(String),
    /// A dead letter still cannot be decoded.
    #[error("it still cannot be decoded: {0}")]
    Undecodable(String),
    /// The query asks for what cannot be answered; the asker's fault.
    #[error("query: {0}")]
    Query(String),
}

impl StoreError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error: Arc::new(error) }
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Poisoned => Self::Poisoned,
            LogError::Series { agent, epoch, reason } => Self::Series { agent, epoch, reason },
            LogError::Replaced { agent, epoch } => Self::Replaced { agent, epoch },
            LogError::Limit(reason) => Self::Limit(reason),
            LogError::Io { what, error } => Self::Io { what: what.to_owned(), error },
        }
    }
}
