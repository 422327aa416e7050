//! The durable local queue of an agent: what the agent accepted stays here until the hub has it.
//!
//! Pure logic over redb. It starts no task, reads no clock and draws no randomness (except
//! [`Spool::open_file`], the rim's door). It must never free a batch that is neither settled by
//! the hub nor recorded as a gap (INV-3), and its account always balances (INV-4).
//!
//! ```text
//! batches  seq      -> header (see `blob`) + columnar block of that one seq
//! series   number   -> CBOR of the definition
//! cursors  name     -> bytes of a source's position
//! gaps     first    -> CBOR of a gap that the hub has not confirmed
//! meta     "format" | "epoch" | "books"
//! ```
//! An append without news writes the table `batches` only: totals run along in each header. What
//! the hub settled is written lazily, as the hub's welcome repeats it.

mod append;
mod backend;
mod blob;
mod books;
mod check;
mod gaps;
mod load;
mod open;
mod settle;
mod spool;
pub mod testing;

pub use append::{EncodedBatch, encode_batch};
pub use backend::{CountingBackend, WrittenBytes};
pub use check::{Stats, VerifyReport};
pub use load::LoadedRun;
pub use open::OpenReport;
pub use spool::{Spool, SpoolConfig, SpoolError};
