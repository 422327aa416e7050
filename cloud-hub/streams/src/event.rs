//! What goes into a job and what comes out of it.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tideline_protocol::model::{DeviceId, PointId, Sample};

use crate::spec::Aggregate;

/// What happens to a job, in the order of the store's log.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Readings that arrived together: the watermarks move at the end of them. Those of one batch of an agent
    /// must come in one event, or else its second series would be late for the watermark of the first.
    Readings(&'a [Column<'a>]),
    /// Time passes: silent devices become idle.
    Tick,
    /// The job was not running for a while, and devices that are silent since were not heard for that reason:
    /// their time-outs begin anew. Without it the first tick after a restart would make all late that comes
    /// after it.
    Resumed,
    /// The history of a window of [`Engine::wanted`](crate::Engine::wanted).
    Refill(Refill<'a>),
    /// What came of the statement of a window of [`Engine::asked`](crate::Engine::asked).
    Answered(Answered<'a>),
    /// A device is gone for good: its windows are closed and it is forgotten, as if it had never been.
    Forget(&'a DeviceId),
    /// There are no more readings: all windows are closed.
    Drain,
}

/// Readings of a series in their order of arrival.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// The point.
    pub point: &'a PointId,
    /// The readings.
    pub samples: &'a [Sample],
}

/// The history of a window.
#[derive(Debug, Clone, Copy)]
pub struct Refill<'a> {
    /// Which one, as it was asked for.
    pub wanted: &'a Wanted,
    /// All readings of the source's series of its key that the store has in it, as they arrived, before any
    /// stage; also those that were ahead of the hub's clock when they came.
    pub columns: &'a [Column<'a>],
}

/// A window that is to be aggregated again from the history, or several sliding ones beside each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Of what.
    pub key: Key,
    /// Its start in ns.
    pub start_ns: i64,
    /// Its end in ns, exclusive.
    pub end_ns: i64,
    /// The readings that came too late for it so far; the history must have these.
    pub rows: u64,
    /// What it is called while it is wanted.
    #[serde(skip)]
    pub(crate) called_ns: i64,
}

/// A window whose statement is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its start in ns.
    pub start_ns: i64,
    /// Its end in ns, exclusive.
    pub end_ns: i64,
    /// Whether late readings are the cause.
    pub again: bool,
    /// The late readings that came for it so far; the run must read these.
    pub rows: u64,
}

/// What came of a window's statement.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Which window, as it was asked for.
    pub asked: &'a Asked,
    /// What came of it.
    pub came: Came<'a>,
}

/// What comes of a statement.
#[derive(Debug, Clone, Copy)]
pub enum Came<'a> {
    /// Its answer.
    Rows(&'a [StatementRow]),
    /// It failed, and is tried again for some times.
    Failed(&'a str),
    /// It cannot be answered any more: the window is given up.
    Lost(&'a str),
}

/// A row of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatementRow {
    /// The device that it names; where it names none, whatever stands for all.
    pub device: DeviceId,
    /// The point that it names.
    pub point: Option<PointId>,
    /// Its numbers by column.
    pub numbers: Vec<(String, f64)>,
    /// Its other columns.
    pub texts: Vec<(String, String)>,
}

/// What a window is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The device.
    pub device: DeviceId,
    /// The point; the left one of a join; none where it is of all series of the device.
    pub point: Option<PointId>,
}

/// One thing that came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// The job's name.
    #[serde(serialize_with = "text")]
    pub job: Arc<str>,
    /// The number of this output within the job: from 1 on, without a hole. The same events give the same
    /// numbers, so a repetition is known by its number.
    pub number: u64,
    /// What it is.
    pub what: What,
}

/// By hand, as serde's feature for shared texts is on only where something else turns it on.
fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// What may come out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// What was computed of a window, or a reading or pair where there are no windows.
    Result(WindowResult),
    /// A session that was given is part of a longer one: its result is void.
    Withdrawn {
        /// Of what.
        key: Key,
        /// The session's start in ns.
        start_ns: i64,
        /// Its end in ns, exclusive.
        end_ns: i64,
    },
    /// A row of the answer of a window's statement.
    Row {
        /// The window's start in ns.
        start_ns: i64,
        /// Its end in ns, exclusive.
        end_ns: i64,
        /// As [`WindowResult::revision`]; that of all rows of one answer.
        revision: u64,
        /// The row.
        row: StatementRow,
    },
    /// All rows that were given of a window are void. Rows that follow with this output's number as their revision are in
    /// their place.
    Void {
        /// The window's start in ns.
        start_ns: i64,
        /// Its end in ns, exclusive.
        end_ns: i64,
    },
    /// A reading that was not taken in.
    Side(SideRow),
}

/// What was computed of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowResult {
    /// Of what.
    pub key: Key,
    /// The window's start in ns.
    pub start_ns: i64,
    /// Its end in ns, exclusive.
    pub end_ns: i64,
    /// 0 when the watermark closed the window; the number of the output when late readings are the cause. Of
    /// two results of one window that of the higher revision holds.
    pub revision: u64,
    /// The values in the order of the definition.
    pub values: Vec<(Field, f64)>,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// An aggregate of the window.
    Aggregate(Aggregate),
    /// The reading's value after all stages, or the pair's.
    Value,
    /// The left value of a pair.
    Left,
    /// The right value of a pair.
    Right,
}

impl Field {
    /// The stable name in JSON and templates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregate(aggregate) => aggregate.as_str(),
            Self::Value => "value",
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

impl Serialize for Field {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A reading that was not taken in, as it came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideRow {
    /// The device.
    pub device: DeviceId,
    /// The point.
    pub point: PointId,
    /// The time in ns.
    pub time_ns: i64,
    /// The value before any stage.
    pub value: f64,
    /// Why.
    pub cause: Cause,
}

/// Why a reading was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// All its windows are closed and no longer kept.
    Late,
    /// It is further ahead of the hub's clock than is allowed.
    Ahead,
    /// Its value is not finite or too great, or its time too far from 1970.
    Unusable,
    /// The job holds as many devices as it may.
    Devices,
    /// The job holds as many open windows as it may.
    OpenWindows,
    /// The job's state has as many bytes as it may.
    StateBytes,
    /// The name of the derived series would not be a valid one.
    Name,
}
