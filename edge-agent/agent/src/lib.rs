//! The Tideline agent: sources, spool, uplink, status.
//!
//! The data path: `source` yields readings → `intake` batches them → `spooler` makes them durable
//! → `uplink` sends what the session picks. A source's position moves in the same commit as its
//! readings, so that a kill neither loses nor repeats any.

pub mod agreement;
pub mod cards;
pub mod clock;
pub mod commands;
pub mod config;
pub mod enroll;
pub mod export;
mod files;
pub mod floor;
pub mod flow;
pub mod identity;
pub mod intake;
pub mod logs;
pub mod newest;
pub mod page;
pub mod pipeline;
pub mod profile;
pub mod reload;
pub mod resilience;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod setpoints;
pub mod source;
pub mod spooler;
pub mod status;
pub mod store;
pub mod supervise;
pub mod sync;
mod token;
pub mod trial;
pub mod twin;
pub mod uplink;
pub mod write;

pub use crate::run::Agent;
