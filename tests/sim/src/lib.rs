//! Seeded simulation: agents with their sessions and spools, a hub with its sessions and its log, and
//! between them networks that lose, double, reorder, damage, cut, and part one way or both; under each a
//! disk that forgets what was not synced, tears it, flips bits, is slow or full. Clocks begin in 1970,
//! drift and jump. Operators wipe, copy and put back spools, change quotas, and put the hub back to an
//! older backup. The hub flushes its log to modelled files, one step at a time. Everything is drawn from
//! one seed, and time is virtual: a seed replays exactly.
//!
//! Checked after every step, beside what the cores check of themselves (INV-1 to INV-8 as far as they
//! are theirs): the accounts of agents and hub balance (INV-4) and know all that sources were
//! acknowledged (INV-3), also after a crash; what an agent takes for stored is in the hub's durable log
//! (INV-1); what the hub claims is in its files or in memory, each seq once (INV-1, INV-2); frames encode
//! to the bytes that they came as (INV-7). At the end, after quiet: every reading produced is stored once,
//! or counted as dropped, or was lost with the hub's own disk when its agent had freed it; every stored
//! time was corrected once, as its run says, and is the true one as nearly as the clocks allow, or is
//! called uncertain.

mod campaign;
pub mod disk;
pub mod network;
mod outcome;
mod world;

pub use campaign::{campaign, run_caught};
pub use outcome::{Canary, CanaryError, Outcome, Violation};
pub use world::run;
