//! Spans of samples as a grid moves over them.

use super::Grid;
use crate::ast::{At, Shift};
use crate::functions::Window;
use crate::source::Sample;

/// At which times of the source the steps of a grid look, after `offset` and `@`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    grid: Grid,
    fixed_ns: Option<i64>,
    offset_ns: i64,
}

impl Looks {
    pub fn new(shift: Shift, grid: Grid, edges: (i64, i64)) -> Self {
        let fixed_ns = shift.at.map(|at| match at {
            At::Start => edges.0,
            At::End => edges.1,
            At::Time(ns) => ns,
        });
        Self { grid, fixed_ns, offset_ns: shift.offset_ns.unwrap_or(0) }
    }

    /// The time of the source at a step; it never goes back from step to step.
    pub fn at(self, step: usize) -> i64 {
        self.fixed_ns.unwrap_or_else(|| self.grid.time(step)).saturating_sub(self.offset_ns)
    }

    pub fn first(self) -> i64 {
        self.at(0)
    }

    pub fn last(self) -> i64 {
        self.at(self.grid.steps.saturating_sub(1))
    }
}

/// The samples of one series, to be seen through a window at each step.
pub(super) struct Spans<'a> {
    pub samples: &'a [Sample],
    pub looks: Looks,
    pub range_ns: i64,
}

impl Spans<'_> {
    /// What lies in the window of a step; none when nothing does.
    pub fn window(&self, step: usize) -> Option<Window<'_>> {
        let to_ns = self.looks.at(step);
        let after_ns = to_ns.saturating_sub(self.range_ns);
        let first = self.samples.partition_point(|s| s.time_ns <= after_ns);
        let samples = self.samples.get(first..)?;
        let samples = samples.get(..samples.partition_point(|s| s.time_ns <= to_ns))?;
        let now_ns = self.looks.grid.time(step);
        (!samples.is_empty()).then_some(Window { samples, after_ns, to_ns, now_ns })
    }
}
