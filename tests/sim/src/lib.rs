//! Seeded simulation: one agent's session and spool, one hub's session and store log, between them a
//! network that loses, doubles, reorders, damages and cuts, and under each a disk that forgets what
//! was not synced. The hub flushes its log to modelled files, one step at a time, and the wall clocks
//! of both ends jump. Everything is drawn from one seed, and time is virtual: a seed replays exactly.
//!
//! Checked after every step: the agent's account balances (INV-4); what the agent takes for stored is
//! in the hub's durable log (INV-1); what the hub claims is in its files or in memory, each seq once
//! (INV-1, INV-2). At the end, after quiet: every reading produced is stored once or counted as dropped
//! (INV-2, INV-3, INV-4).

mod campaign;
pub mod disk;
pub mod network;
mod outcome;
mod world;

pub use campaign::{campaign, run_caught};
pub use outcome::{Canary, CanaryError, Outcome, Violation};
pub use world::run;
