//! SQL over the hub's tables: what a statement may say, what it needs to read, and the process that runs it. A process of
//! the same kind reads Parquet files of others ([`parquet`]).
//!
//! ```text
//! hub      check(text) ──▶ Statement: the text, and per table the times, devices and points that it can need
//!          feed: Job, blocks of rows ──stdin──▶ worker: own limits, tables, Polars, answer ──stdout──▶ hub
//! ```
//! A statement never runs in the hub's own process: only there that it is taken apart, bounded in length and depth
//! before, and compared with a list of what is allowed ([`check`]). The worker ([`worker::run`]) is a process of the
//! same program that sets its own limits before it reads anything, can open no file, and ends with its hub.

mod answer;
mod bounds;
mod check;
pub mod feed;
mod functions;
mod literals;
pub mod parquet;
mod table;
pub mod worker;

pub use answer::Format;
pub use bounds::Use;
pub use check::{Refusal, Statement, TEXT_BYTES_MAX, check};
pub use table::Table;
