//! What an engine gave, on its way to the job's sinks.

use std::collections::{BTreeMap, VecDeque};

use minicbor::{Decode, Encode};
use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_streams::spec::Sink;
use tideline_streams::{Cause, Job, Key, Output, What};

use super::JOB_PREFIX;
use super::saved::Derived;
use crate::writes::ROWS_PER_BATCH_MAX;

/// Result rows that are kept of a job: some screens full.
pub const ROWS_MAX: usize = 1_000;
/// Readings of the side output that are kept of a job: enough to see what goes wrong.
pub const SIDE_ROWS_MAX: usize = 100;

/// A result.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Row {
    /// The number of the output.
    #[n(0)]
    pub number: u64,
    /// Of which device.
    #[n(1)]
    pub device: DeviceId,
    /// Of which point; none where it is of all.
    #[n(2)]
    pub point: Option<PointId>,
    /// The window's start, ns.
    #[n(3)]
    pub start_ns: i64,
    /// The window's end, ns, exclusive.
    #[n(4)]
    pub end_ns: i64,
    /// As [`tideline_streams::WindowResult::revision`].
    #[n(5)]
    pub revision: u64,
    /// By name; none where the window was withdrawn.
    #[n(6)]
    pub values: Option<Vec<(String, f64)>>,
    /// What else the answer of a statement has, by column.
    #[n(7)]
    pub texts: Option<Vec<(String, String)>>,
}

/// A reading that was not taken in.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct SideRow {
    /// The number of the output.
    #[n(0)]
    pub number: u64,
    /// The device.
    #[n(1)]
    pub device: DeviceId,
    /// The point.
    #[n(2)]
    pub point: PointId,
    /// The time, ns.
    #[n(3)]
    pub time_ns: i64,
    /// The value before any stage.
    #[n(4)]
    pub value: f64,
    /// Why.
    #[n(5)]
    pub cause: String,
}

/// Results since the last commit, and the newest of all.
#[derive(Debug, Default)]
pub struct Results {
    derived: BTreeMap<(DeviceId, PointId), Vec<Sample>>,
    // Outputs since the last commit, and the readings of `derived`.
    outputs: usize,
    readings: usize,
    live: Vec<Row>,
    /// The newest, oldest first, where the job has a sink for rows.
    pub rows: VecDeque<Row>,
    /// The newest of the side output.
    pub side: VecDeque<SideRow>,
    /// Results that have no valid name.
    pub unnamed: u64,
}

fn push<T>(into: &mut VecDeque<T>, one: T, most: usize) {
    if into.len() >= most {
        into.pop_front();
    }
    into.push_back(one);
}

impl Results {
    /// None wait, and these are the newest.
    pub fn going_on(rows: Vec<Row>, side: Vec<SideRow>) -> Self {
        Self { rows: rows.into(), side: side.into(), ..Self::default() }
    }

    /// Takes what an engine gave.
    pub fn add(&mut self, job: &Job, outputs: Vec<Output>) {
        let sinks = &job.spec().sinks;
        let (keeps, shows) = (sinks.contains(&Sink::Rows), sinks.contains(&Sink::Live));
        self.outputs = self.outputs.saturating_add(outputs.len());
        for Output { number, what, .. } in outputs {
            let derived = match &what {
                What::Result(result) => job.derive(result).ok(),
                What::Row { start_ns, row, .. } => job.derive_row(*start_ns, row).ok(),
                What::Withdrawn { key, start_ns, .. } => {
                    // What has no valid name was counted when it was given.
                    let given = job.derived_series(key).unwrap_or_default();
                    given.into_iter().for_each(|series| self.take_back(series, *start_ns));
                    Some(Vec::new())
                }
                What::Void { .. } | What::Side(_) => Some(Vec::new()),
            };
            match derived {
                Some(derived) => derived.into_iter().for_each(|one| self.derive(one)),
                None => self.unnamed = self.unnamed.saturating_add(1),
            }
            match row(number, what, job) {
                Ok(None) => {}
                Ok(Some(row)) => {
                    // More in one moment than are kept is more than anybody reads.
                    if shows && self.live.len() < ROWS_MAX {
                        self.live.push(row.clone());
                    }
                    if keeps {
                        push(&mut self.rows, row, ROWS_MAX);
                    }
                }
                Err(side) => push(&mut self.side, side, SIDE_ROWS_MAX),
            }
        }
    }

    /// The series that have a value at a time among the readings that wait for a commit.
    pub fn given_at(&self, time_ns: i64) -> Vec<(DeviceId, PointId)> {
        let has = |samples: &[Sample]| {
            let last = samples.iter().rev().find(|sample| sample.time_ns == time_ns);
            last.is_some_and(|sample| !sample.value.is_nan())
        };
        self.derived.iter().filter(|(_, samples)| has(samples)).map(|(series, _)| series.clone()).collect()
    }

    /// Has a series say nothing any more at a time: of two readings of one time the last to arrive counts.
    pub fn take_back(&mut self, (device, point): (DeviceId, PointId), time_ns: i64) {
        let sample = Sample { time_ns, value: f64::NAN };
        self.derive(tideline_streams::Derived { device, point, sample });
    }

    fn derive(&mut self, one: tideline_streams::Derived) {
        self.derived.entry((one.device, one.point)).or_default().push(one.sample);
        self.readings = self.readings.saturating_add(1);
    }

    /// How many outputs wait for a commit.
    pub const fn waiting(&self) -> usize {
        self.outputs
    }

    /// How many readings of series wait for one.
    pub const fn readings(&self) -> usize {
        self.readings
    }

    /// The readings of series, as what one batch may hold each, and the rows for the live feed; they no longer wait.
    pub fn take(&mut self) -> (Vec<Vec<Derived>>, Vec<Row>) {
        (self.outputs, self.readings) = (0, 0);
        (chunks(std::mem::take(&mut self.derived)), std::mem::take(&mut self.live))
    }
}

/// A row, or one of the side output.
fn row(number: u64, what: What, job: &Job) -> Result<Option<Row>, SideRow> {
    let (key, start_ns, end_ns, revision, values, texts) = match what {
        What::Result(result) => {
            let named = |(field, value): (tideline_streams::Field, f64)| (field.as_str().to_owned(), value);
            let values = Some(result.values.into_iter().map(named).collect());
            (result.key, result.start_ns, result.end_ns, result.revision, values, None)
        }
        What::Row { start_ns, end_ns, revision, row } => {
            let texts = Some(row.texts).filter(|texts| !texts.is_empty());
            (
                Key { device: row.device, point: row.point },
                start_ns,
                end_ns,
                revision,
                Some(row.numbers),
                texts,
            )
        }
        What::Withdrawn { key, start_ns, end_ns } => (key, start_ns, end_ns, number, None, None),
        What::Void { start_ns, end_ns } => {
            let Ok(device) = DeviceId::parse(&format!("{JOB_PREFIX}{}", job.spec().name)) else {
                return Ok(None);
            };
            (Key { device, point: None }, start_ns, end_ns, number, None, None)
        }
        What::Side(side) => {
            let cause = cause(side.cause).to_owned();
            let (device, point, time_ns, value) = (side.device, side.point, side.time_ns, side.value);
            return Err(SideRow { number, device, point, time_ns, value, cause });
        }
    };
    let Key { device, point } = key;
    Ok(Some(Row { number, device, point, start_ns, end_ns, revision, values, texts }))
}

const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Late => "late",
        Cause::Ahead => "ahead",
        Cause::Unusable => "unusable",
        Cause::Devices => "devices",
        Cause::OpenWindows => "open_windows",
        Cause::StateBytes => "state_bytes",
        Cause::Name => "name",
    }
}

fn chunks(all: BTreeMap<(DeviceId, PointId), Vec<Sample>>) -> Vec<Vec<Derived>> {
    let (mut out, mut chunk, mut room) = (Vec::new(), Vec::new(), ROWS_PER_BATCH_MAX);
    for ((device, point), samples) in all {
        let mut rest = samples.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(room.min(rest.len()));
            chunk.push(Derived {
                device: device.clone(),
                point: point.clone(),
                times: now.iter().map(|sample| sample.time_ns).collect(),
                values: now.iter().map(|sample| sample.value).collect(),
            });
            room -= now.len();
            rest = later;
            if room == 0 {
                out.push(std::mem::take(&mut chunk));
                room = ROWS_PER_BATCH_MAX;
            }
        }
    }
    if !chunk.is_empty() {
        out.push(chunk);
    }
    out
}
