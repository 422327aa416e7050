//! Schedules: work that begins at its times, with or without a hub.
//!
//! What is due is decided by a core without I/O ([`core`]), by times that are pure as well
//! ([`tideline_protocol::timing`]). The task that has
//! the commands carries it out ([`driver`]), with the same kinds and in the same journal.

pub mod core;
pub(crate) mod driver;
pub(crate) mod report;
pub mod shared;
