//! Tideline's pure core: the model, the wire format, the sessions of both ends and time.
//!
//! Nothing here does I/O: no task is started, no clock read, no randomness drawn. `now` and
//! entropy come in as arguments, so that the simulation in `tests/sim` can run the same code.

pub mod block;
pub mod clocks;
pub mod commands;
pub mod digest;
pub mod durability;
pub mod invariants;
pub mod keep;
pub mod lives;
pub mod model;
pub mod pattern;
pub mod ranges;
pub mod ranks;
mod rows;
pub mod session;
pub mod time;
pub mod timing;
pub mod units;
pub mod value;
pub mod wire;
