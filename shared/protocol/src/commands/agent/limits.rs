//! How much an agent has.

use crate::commands::{ENDED_MAX, OPEN_MAX};

/// How much an agent has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most commands that run.
    pub running_max: usize,
    /// Most that are open, as [`OPEN_MAX`].
    pub open_max: usize,
    /// Most that it knows the end of, as [`ENDED_MAX`].
    pub ended_max: usize,
}

impl Limits {
    /// The usual ones, with so many that run.
    #[must_use]
    pub const fn running(running_max: usize) -> Self {
        Self { running_max, open_max: OPEN_MAX, ended_max: ENDED_MAX }
    }
}
