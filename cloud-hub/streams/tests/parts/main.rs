//! Stream jobs against answers worked out by hand, a reference interpreter, damage and limits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod damage;
mod golden;
mod limits;
mod model;
mod orders;
mod pairs;
mod reference;
mod rig;
mod statement;
mod updates;
