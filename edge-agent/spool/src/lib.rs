//! The durable local queue of an agent: what the agent accepted stays here until the hub has it.
//!
//! Pure logic over redb. It starts no task, reads no clock and draws no randomness (except
//! [`Spool::open_file`], the rim's door). It must never free a batch that is neither settled by
//! the hub nor recorded as a gap (INV-3), and its account always balances (INV-4).
//!
//! Two files. An append goes to the journal (see `journal`) with one small write and sync; when that
//! is full, its batches go into redb's tables in one commit.
//!
//! ```text
//! batches  seq      -> header (see `blob`) + columnar block of that one seq
//! series   number   -> CBOR of the definition
//! cursors  name     -> bytes of a source's position
//! gaps     first    -> CBOR of a gap that the hub has not confirmed
//! streams  number   -> class and name
//! stream_of chunk   -> the streams of 4,096 seqs, unless all are of the default one
//! meta     "format" | "epoch" | "books" | "boots" | "journal", the generation of the records that count
//! ```
//! Each of these carries its checksum, most of them over the key too (see `sums`).
//!
//! The tables alone are a whole spool as of their last commit; the journal only adds batches and
//! positions to it. New series, gaps and settlements are written to the tables only. What the hub
//! settled is written lazily, as the hub's welcome repeats it.

mod age;
mod append;
mod aside;
mod attempt;
mod backend;
mod blob;
mod books;
mod boots;
mod check;
mod cramped;
mod cursors;
mod flash;
mod gaps;
mod journal;
mod lives;
mod load;
mod look;
mod open;
mod repair;
mod room;
mod settle;
mod spool;
mod streams;
mod sums;
mod tables;
mod tail;
pub mod testing;
mod thin;

pub use append::{EncodedBatch, encode_batch, encode_boxed};
pub use backend::Files;
pub use check::{Stats, VerifyReport};
pub use flash::Pace;
pub use load::LoadedRun;
pub use look::LookReport;
pub use open::{OpenReport, journal_path, sound};
pub use repair::RepairReport;
pub use spool::{Spool, SpoolConfig, SpoolError};
pub use streams::{
    DEFAULT_STREAM, Overflow, Policy, STREAM_NAME_BYTES_MAX, STREAMS_MAX, StreamConfig, StreamNo, StreamStats,
};
