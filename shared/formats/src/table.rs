//! Rows of a table, as CSV and Parquet have them, as readings.
//!
//! ```text
//! header ──▶ Mapping::plan ──▶ Plan: which column is what
//! cells of a row ──▶ Rows::take ──▶ readings of numbered series, or why not ──▶ Chunks: at most 65,536 readings each
//! ```
//! Numbers of series and chunks follow from the bytes of the file and from the mapping alone, whoever reads it and
//! when: that a chunk which comes again is the same is what an import that was cut off goes on by. Whoever changes
//! what rows become changes [`VERSION`].

mod cell;
mod chunks;
mod csv;
mod mapping;
mod plan;
mod rows;
mod times;

pub use cell::Cell;
pub use chunks::{CHUNK_READINGS_MAX, CHUNK_TEXT_BYTES_MAX, Chunk, Chunks};
pub use csv::{COLUMNS_MAX, CsvRecords, LINE_BYTES_MAX, Record};
pub use mapping::{DeviceMap, Mapping, PointMap, TimeMap, ValueMap};
pub use plan::{ColumnKind, FileColumn, Plan, PlanError};
pub use rows::{Account, RowReading, Rows, TooManySeries, Wrong};

/// Changes with whatever changes the readings, the series or the chunks that some file becomes.
pub const VERSION: u32 = 2;
