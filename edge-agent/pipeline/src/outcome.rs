//! What goes into a pipeline and what comes out.

use std::sync::Arc;

use serde::Serialize;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::value::{Boxes, Quality, Value};

use crate::clock::Setting;
use crate::definition::Severity;
use crate::limits::{LETTERS_MAX, TRACE_STEPS_MAX};

/// The readings of one series in the order of arrival; their values are words of a table beside them.
pub type SeriesRows = (SeriesDef, Vec<Sample>);

/// Readings by series.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The readings.
    pub rows: Vec<SeriesRows>,
    /// What values stand for that are no plain numbers.
    pub boxes: Boxes,
    /// The clock that gave the times; none when they are the source's own.
    pub clock: Option<Setting>,
}

/// Readings that leave a pipeline. A series may stand there more than once.
#[derive(Debug, Clone)]
pub struct Row {
    /// The stream that they go to; none for that of their source.
    pub stream: Option<Arc<str>>,
    /// The series.
    pub series: SeriesDef,
    /// The readings, whose values are words of [`Outcome::boxes`].
    pub samples: Vec<Sample>,
    /// The clock that gave the times; none when they are the source's own.
    pub clock: Option<Setting>,
}

/// What became of a chunk, or followed from time.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The readings that go on.
    pub rows: Vec<Row>,
    /// What their values stand for that are no plain numbers.
    pub boxes: Boxes,
    /// What stages could not take, put together by stage, series and reason.
    pub letters: Vec<DeadLetter>,
    /// Dead letters of more kinds than are told apart.
    pub letters_more: u64,
    /// Rules that fired and cleared, in the order in which they did.
    pub events: Vec<Event>,
    /// What is to be written to points.
    pub actions: Vec<Action>,
    /// What became of each reading of the traced device.
    pub trace: Vec<Step>,
    /// Steps beyond what one run tells.
    pub trace_more: u64,
}

/// Readings that a stage could not take. Those of a rule and of a write go on all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The stage.
    pub stage: Arc<str>,
    /// The device.
    pub device: DeviceId,
    /// The point.
    pub point: PointId,
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The time of the first, in ns since 1970.
    pub first_ns: i64,
    /// The value of the first.
    pub value: Value,
    /// Its quality.
    pub quality: Quality,
}

/// A rule began or ended to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The rule.
    pub rule: Arc<str>,
    /// The device.
    pub device: DeviceId,
    /// The point.
    pub point: PointId,
    /// Which of both.
    pub change: Change,
    /// When, in ns since 1970: the time of the reading, or when the time was up.
    pub time_ns: i64,
    /// The last value that was judged.
    pub value: Value,
    /// How bad it is.
    pub severity: Severity,
    /// What people are told.
    pub message: Arc<str>,
    /// The clock that gave the time; none when it is the source's own.
    pub clock: Option<Setting>,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It holds now.
    Fired,
    /// It no longer holds.
    Cleared,
}

impl Change {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Cleared => "cleared",
        }
    }
}

/// A value that is to be written to a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The stage.
    pub stage: Arc<str>,
    /// The device.
    pub device: DeviceId,
    /// The point.
    pub point: PointId,
    /// The value.
    pub value: Value,
    /// The time of the reading that asks for it, in ns since 1970.
    pub time_ns: i64,
    /// The clock that gave the time; none when it is the source's own.
    pub clock: Option<Setting>,
}

/// What a stage did with a reading of the traced device.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The stage.
    pub stage: Arc<str>,
    /// The series.
    pub series: SeriesDef,
    /// The reading's time in ns since 1970.
    pub time_ns: i64,
    /// The reading's value.
    pub value: Value,
    /// Its quality.
    pub quality: Quality,
    /// What became of it.
    pub became: Became,
}

/// What became of a reading at a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Became {
    /// These readings came out: port, series, time in ns, value and quality.
    Out(Vec<(String, SeriesDef, i64, Value, Quality)>),
    /// It was left out, or is kept in a window or as an input.
    Nothing,
    /// It became a dead letter.
    Dead(String),
}

/// What a stage did since the pipeline was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Readings that came.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Readings that went on, to however many stages.
    #[serde(rename = "out")]
    pub given: u64,
    /// Readings that were left out, as the definition says.
    pub dropped: u64,
    /// Readings that it could not take.
    pub dead_letters: u64,
    /// Times that a rule fired or cleared.
    pub events: u64,
    /// Values that were to be written.
    pub actions: u64,
    /// Readings that went on without being judged, as they are older than those of their series that were.
    pub skipped: u64,
    /// Windows that were closed before their end, as the clock was set.
    pub cut: u64,
}

/// A stage as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageStatus {
    /// The stage.
    pub stage: String,
    /// Its kind.
    pub kind: &'static str,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
    /// Series for which it keeps a state.
    pub series: u64,
    /// Windows that are open.
    pub open_windows: u64,
}

impl Outcome {
    /// Adds a dead letter to those of its kind.
    pub(crate) fn letter(&mut self, letter: DeadLetter) {
        let same = |known: &&mut DeadLetter| {
            known.reason == letter.reason
                && Arc::ptr_eq(&known.stage, &letter.stage)
                && known.point == letter.point
                && known.device == letter.device
        };
        // The newest are the likeliest.
        if let Some(known) = self.letters.iter_mut().rev().find(same) {
            known.count = known.count.saturating_add(letter.count);
        } else if self.letters.len() < LETTERS_MAX {
            self.letters.push(letter);
        } else {
            self.letters_more = self.letters_more.saturating_add(letter.count);
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        if self.trace.len() < TRACE_STEPS_MAX {
            self.trace.push(step);
        } else {
            self.trace_more += 1;
        }
    }

    /// How many readings go on.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|row| row.samples.len() as u64).sum()
    }

    /// Adds what came of another pipeline.
    pub(crate) fn append(&mut self, mut other: Self) {
        for mut row in other.rows {
            if !other.boxes.is_empty() {
                let mut words: Vec<f64> = row.samples.iter().map(|sample| sample.value).collect();
                self.boxes.adopt(&mut words, &other.boxes);
                row.samples.iter_mut().zip(words).for_each(|(sample, word)| sample.value = word);
            }
            self.rows.push(row);
        }
        self.letters.append(&mut other.letters);
        self.letters_more = self.letters_more.saturating_add(other.letters_more);
        self.events.append(&mut other.events);
        self.actions.append(&mut other.actions);
        self.trace.append(&mut other.trace);
        self.trace_more = self.trace_more.saturating_add(other.trace_more);
    }
}
