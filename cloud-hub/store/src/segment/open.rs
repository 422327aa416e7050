//! The figures of the series that is being written: those of the buckets that are not complete, and those that wait for
//! their block to be full.

use std::collections::BTreeMap;

use tideline_protocol::value::any_nan;

use super::figures::Figure;
use super::rolls::Roll;
use super::{BLOCK_ROWS, FIGURE_ROWS, FIGURED, Level};
use crate::buckets::{bucket_last, bucket_start};
use crate::held::Held;
use crate::sketch::Sketch;

/// Memory of the sketches of a block, at most; one may be larger by that of one sketch.
const SKETCH_BYTES: usize = 1024 * 1024;

/// Figures as they are made.
#[derive(Debug)]
pub struct Figures {
    level: Level,
    // Readings are not kept, so they are needed of all series.
    always: bool,
    // Whether the open series has them; known with its first block.
    wanted: Option<bool>,
    open: BTreeMap<i64, (Held, Sketch)>,
    full: Vec<Figure>,
    bytes: usize,
    keys: Vec<u64>,
}

impl Figures {
    /// Of a file whose finest level is this one.
    pub fn new(finest: Level) -> Self {
        Self {
            level: finest.figured(),
            always: finest > Level::Raw,
            wanted: None,
            open: BTreeMap::new(),
            full: Vec::new(),
            bytes: 0,
            keys: Vec::new(),
        }
    }

    /// Whose buckets they are of.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Sees the times of a block of the series before they are added; says whether they are the first, and the series
    /// gets figures.
    pub fn begin(&mut self, times: &[i64]) -> bool {
        if self.wanted.is_some() {
            return false;
        }
        let width_ns = self.level.width_ns();
        let buckets = times.chunk_by(|a, b| bucket_last(*a, width_ns) == bucket_last(*b, width_ns)).count();
        let many = times.len() == BLOCK_ROWS && buckets <= BLOCK_ROWS / FIGURED;
        *self.wanted.insert(self.always || many)
    }

    /// Adds readings that are not before those that were added; NaN is no number.
    pub fn add_rows(&mut self, times: &[i64], values: &[f64]) {
        if self.wanted != Some(true) {
            return;
        }
        if any_nan(values) {
            let numbers = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
            let (times, values): (Vec<i64>, Vec<f64>) = numbers.unzip();
            self.add_numbers(&times, &values);
        } else {
            self.add_numbers(times, values);
        }
    }

    fn add_numbers(&mut self, times: &[i64], values: &[f64]) {
        let width_ns = self.level.width_ns();
        let mut rows = (times, values);
        while let Some(first_ns) = rows.0.first() {
            let (start_ns, end_ns) = (bucket_start(*first_ns, width_ns), bucket_last(*first_ns, width_ns));
            let len = rows.0.partition_point(|time| *time <= end_ns);
            let (times, values) = (rows.0.split_at(len), rows.1.split_at(len));
            if let Some(held) = Held::of(times.0, values.0) {
                let open = self.open.entry(start_ns).and_modify(|(open, _)| open.extend(&held));
                open.or_insert_with(|| (held, Sketch::default())).1.add(values.0, &mut self.keys);
            }
            rows = (times.1, values.1);
        }
    }

    /// Takes figures of whole buckets of the open series.
    pub fn put(&mut self, figures: BTreeMap<i64, (Held, Sketch)>) {
        self.wanted = Some(true);
        self.open.extend(figures);
    }

    /// A bucket of their level is complete; says whether a block of figures is.
    pub fn complete(&mut self, done: &Roll) -> bool {
        let Some((held, sketch)) = self.open.remove(&done.start_ns) else { return false };
        self.bytes += sketch.bytes();
        self.full.push(Figure::new(done.start_ns, &done.part, &held, sketch));
        self.full.len() == FIGURE_ROWS || self.bytes >= SKETCH_BYTES
    }

    /// Those that wait for their block.
    pub fn take(&mut self) -> Vec<Figure> {
        self.bytes = 0;
        std::mem::take(&mut self.full)
    }

    /// The series is written.
    pub fn clear(&mut self) {
        self.wanted = None;
        self.open.clear();
    }
}
