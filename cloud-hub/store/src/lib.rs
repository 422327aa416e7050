//! The hub's time-series store: log, hot columns, sealed files, rollups, queries.
//!
//! ```text
//! dir/manifest.redb          what all the rest means
//! dir/log/NNNNNNNN.log       what is durable and not yet sealed
//! dir/sealed/NNNNNNNN.seg    readings by (series, time); NNNNNNNN.roll their rollups
//! dir/cold/day=…/*.parquet  readings that retention took from the sealed files, see `cold`
//! dir/dead/                  runs that are durable and cannot be decoded, the newest of each agent
//! dir/quarantine/            files, or ends of files, that could not be trusted
//! ```
//! A batch is appended to the log and acknowledged; then decoded into the hot columns, where it
//! can be queried; then sealed with its rollup, upon which one transaction of the manifest lists
//! the file and lets the log go. What a query sees is files, then hot columns, in order of
//! arrival. A file is never changed, and the log never decodes.

mod agreement;
mod batches;
mod blocks;
pub mod buckets;
pub mod calendar;
mod cold;
mod column;
mod config;
mod dead;
mod decode;
mod export;
mod files;
mod held;
mod history;
mod hot;
mod inspect;
mod keeps;
pub mod log;
mod manifest;
mod metrics;
mod names;
mod narrow;
mod parts;
mod query;
mod registry;
mod retention;
mod revised;
mod sealed;
mod segment;
mod series;
mod sketch;
mod snapshot;
mod stats;
mod store;
mod tables;
mod verify;
#[cfg(test)]
mod weights;

pub use buckets::Aggregate;
pub use calendar::{BadCalendar, Calendar, Width};
pub use cold::ColdUse;
pub use config::{StoreConfig, StoreError};
pub use dead::{Head as DeadLetterHead, LetterId};
pub use decode::readings;
pub use export::{ExportFormat, ExportPart, join as join_exports};
pub use files::{FileHandle, FileSystem, Files, OpenMode, RealFiles, Stat};
pub use hot::{Late, Reading, SeriesId};
pub use inspect::{Inspection, inspect};
pub use log::{
    AgentState, Checkpoint, EpochLedger, Ledgers, LogCore, LogDisk, LogError, Opening, RealDisk, Replay,
    ReplayedBatch,
};
pub use metrics::StoreMetrics;
pub use query::{
    BadCursor, BucketAnswer, BucketColumn, FigureColumn, Figures, GroupAnswer, GroupColumn, GroupQuestion,
    Parts, Quantile, RawColumn, RawCursor, RawPage, Rollups, Stand, Tier,
};
pub use retention::{Limit, Retention};
pub use snapshot::{LogEnd, snapshot};
pub use store::{
    Check, CheckState, ColdRows, DeadLetter, Health, LetterState, LogEntry, LogPart, LogPlace, OpenReport,
    Quarantined, Store,
};
pub use tables::{
    DeviceInfo, LiveBatch, LiveColumn, SeriesInfo, SeriesMeta, SeriesState, SeriesText, TierUse,
};
pub use verify::{Verification, verify, verify_on};
