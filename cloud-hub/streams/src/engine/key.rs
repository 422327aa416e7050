//! The windows of one key, whatever their shape.

use minicbor::{Decode, Encode};

use super::fixed::{Fixed, Lengths};
use super::session::Sessions;
use super::sliding::Sliding;
use crate::aggregate::{Partial, Row, Span};
use crate::check::{Job, Shape};
use crate::event::Field;
use crate::limits::{CELL_BYTES, DEVICE_BYTES, KEY_BYTES, READING_BYTES, WANTED_BYTES};
use crate::spec::Later;

/// What windows are computed by.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub allowed_ns: i64,
    pub timed: bool,
    pub fields: &'a [Field],
    /// Whether what is too late is aggregated again.
    pub updates: bool,
}

impl<'a> From<&'a Job> for Plan<'a> {
    fn from(job: &'a Job) -> Self {
        Self {
            allowed_ns: job.allowed_ns,
            timed: job.is_timed(),
            fields: &job.fields,
            updates: job.spec().late.then == Later::Update,
        }
    }
}

/// What a key gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Fired {
    Window {
        start_ns: i64,
        end_ns: i64,
        late: bool,
        values: Vec<(Field, f64)>,
    },
    Withdrawn {
        start_ns: i64,
        end_ns: i64,
    },
    /// The history is wanted of what is called so, once more or not any more.
    Wanted(i64),
    Unwanted(i64),
}

/// Slices or sessions, and readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    pub cells: u64,
    pub rows: u64,
}

/// What a job holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    pub devices: u64,
    pub keys: u64,
    pub wanted: u64,
    pub held: Need,
}

impl Weight {
    pub const fn bytes(&self) -> u64 {
        let Self { devices, keys, wanted, held } = self;
        (*devices * DEVICE_BYTES)
            .saturating_add(*keys * KEY_BYTES)
            .saturating_add(*wanted * WANTED_BYTES)
            .saturating_add(held.cells * CELL_BYTES)
            .saturating_add(held.rows * READING_BYTES)
    }

    /// Puts what is held by a part now in place of what it held before.
    pub const fn replace(&mut self, before: Need, now: Need) {
        self.held.cells = (self.held.cells + now.cells).saturating_sub(before.cells);
        self.held.rows = (self.held.rows + now.rows).saturating_sub(before.rows);
    }
}

/// The windows of one key.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Windows {
    #[n(0)]
    Each,
    #[n(1)]
    Fixed(#[n(0)] Fixed),
    #[n(2)]
    Sliding(#[n(0)] Sliding),
    #[n(3)]
    Sessions(#[n(0)] Sessions),
}

impl Windows {
    pub fn new(shape: Shape) -> Self {
        match shape {
            Shape::Each => Self::Each,
            Shape::Fixed { .. } => Self::Fixed(Fixed::default()),
            Shape::Sliding { .. } => Self::Sliding(Sliding::default()),
            Shape::Session { .. } => Self::Sessions(Sessions::default()),
        }
    }

    /// What it takes to hold a reading of this time, or that it is too late.
    pub fn need(&self, time_ns: i64, watermark_ns: i64, job: &Job) -> Option<Need> {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Fixed(fixed), Shape::Fixed { length_ns, hop_ns }) => {
                fixed.need(time_ns, watermark_ns, plan, Lengths { length_ns, hop_ns })
            }
            (Self::Sliding(_), Shape::Sliding { .. }) => Sliding::need(time_ns, watermark_ns, plan),
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => {
                sessions.need(time_ns, watermark_ns, plan, gap_ns)
            }
            _ => Some(Need::default()),
        }
    }

    /// What it takes to hold that a reading of this time came, though its windows are gone, and what is wanted then: sessions
    /// and sliding windows only.
    pub fn past_need(&self, time_ns: i64, watermark_ns: i64, job: &Job) -> Option<(Need, i64)> {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => {
                Some(sliding.past_need(time_ns, watermark_ns, plan, length_ns))
            }
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => sessions.past_need(time_ns, gap_ns),
            _ => None,
        }
    }

    /// What is wanted of the history since it was last asked, or not any more.
    pub fn take_notes(&mut self) -> Vec<Fired> {
        match self {
            Self::Sliding(sliding) => sliding.take_notes(),
            Self::Sessions(sessions) => sessions.take_notes(),
            Self::Each | Self::Fixed(_) => Vec::new(),
        }
    }

    /// Notes that such a reading came.
    pub fn insert_past(&mut self, row: Row, watermark_ns: i64, job: &Job) {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => {
                sliding.insert_past(row, watermark_ns, plan, length_ns);
            }
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => sessions.insert_past(row.0, gap_ns),
            _ => {}
        }
    }

    /// From where to where the history is wanted of what is called so.
    pub fn extent(&self, start_ns: i64, job: &Job) -> Option<(i64, i64)> {
        match (self, job.shape) {
            (Self::Fixed(_), Shape::Fixed { length_ns, .. }) => {
                Some((start_ns, start_ns.saturating_add(length_ns)))
            }
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => sliding.extent(start_ns, length_ns),
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => {
                Some((start_ns, sessions.extent(start_ns, gap_ns)?))
            }
            _ => None,
        }
    }

    /// Gives what the history says of what is called so, up to where windows are closed.
    pub fn refill(
        &mut self,
        start_ns: i64,
        found: &[Row],
        closed_to_ns: i64,
        job: &Job,
        mut fire: impl FnMut(Fired),
    ) {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Fixed(_), Shape::Fixed { length_ns, .. }) => {
                let end_ns = start_ns.saturating_add(length_ns);
                let span = Span { before: None, start_ns, end_ns };
                if let Some(partial) = Partial::of(found, false) {
                    let values = partial.values(plan.fields, span);
                    fire(Fired::Window { start_ns, end_ns, late: true, values });
                }
            }
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => {
                sliding.refill(start_ns, found, closed_to_ns, plan, length_ns, &mut fire);
            }
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => {
                sessions.refill(start_ns, found, plan, gap_ns, &mut fire);
            }
            _ => {}
        }
    }

    /// Takes a reading that is not too late.
    pub fn insert(&mut self, row: Row, watermark_ns: i64, job: &Job) {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Fixed(fixed), Shape::Fixed { length_ns, hop_ns }) => {
                fixed.insert(row, watermark_ns, plan, Lengths { length_ns, hop_ns });
            }
            (Self::Sliding(sliding), Shape::Sliding { .. }) => sliding.insert(row, watermark_ns),
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => sessions.insert(row, plan, gap_ns),
            _ => {}
        }
    }

    /// Moves the watermark from one time to another; they may be the same.
    pub fn advance(&mut self, from_to: (i64, i64), job: &Job, mut fire: impl FnMut(Fired)) {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Fixed(fixed), Shape::Fixed { length_ns, hop_ns }) => {
                fixed.advance(from_to, plan, Lengths { length_ns, hop_ns }, &mut fire);
            }
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => {
                sliding.advance(from_to, plan, length_ns, &mut fire);
            }
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => {
                sessions.advance(from_to, plan, gap_ns, &mut fire);
            }
            _ => {}
        }
    }

    pub fn held(&self) -> Need {
        match self {
            Self::Each => Need::default(),
            Self::Fixed(fixed) => fixed.held(),
            Self::Sliding(sliding) => sliding.held(),
            Self::Sessions(sessions) => sessions.held(),
        }
    }

    /// Whether this can be a state of such a job.
    pub fn check(&mut self, job: &Job) -> bool {
        let plan = Plan::from(job);
        match (self, job.shape) {
            (Self::Each, Shape::Each) => true,
            (Self::Fixed(fixed), Shape::Fixed { length_ns, hop_ns }) => {
                fixed.check(plan, Lengths { length_ns, hop_ns })
            }
            (Self::Sliding(sliding), Shape::Sliding { length_ns }) => sliding.check(plan, length_ns),
            (Self::Sessions(sessions), Shape::Session { gap_ns }) => sessions.check(plan, gap_ns),
            _ => false,
        }
    }
}
