//! Stream jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tideline_streams::{DeviceView, FailedWindow, Phase, StatementView};
use utoipa::ToSchema;

use crate::jobs::{Row, Shown, SideRow, View};
use crate::when;

/// What a job is at
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Defined and not started
    Created,
    /// It takes readings in
    Running,
    /// It takes none, and keeps its state
    Paused,
    /// It cannot go on, and keeps its state
    Failed,
    /// It has ended for good
    Stopped,
}

impl From<Phase> for JobPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Created => Self::Created,
            Phase::Running => Self::Running,
            Phase::Paused => Self::Paused,
            Phase::Failed => Self::Failed,
            Phase::Stopped => Self::Stopped,
        }
    }
}

/// A stream job
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobInfo {
    /// Its name
    pub name: String,
    /// What it is at
    pub phase: JobPhase,
    /// Since when (Unix ms)
    pub since_ms: i64,
    /// Why it failed, while it is failed
    #[schema(required)]
    pub reason: Option<String>,
    /// When it was made (Unix ms)
    pub created_ms: i64,
    /// When its definition was last changed (Unix ms)
    pub changed_ms: i64,
    /// Its definition, with all defaults; `cloud-hub job reference` describes it
    #[schema(value_type = Object)]
    pub definition: serde_json::Value,
    /// Who gave it its definition; not known of one that an earlier version made
    #[schema(required)]
    pub author: Option<String>,
    /// What it does
    pub figures: JobFigures,
    /// What it does with its statement of SQL, where it has one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<JobStatement>,
}

/// What a job did with its statement
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobStatement {
    /// Its windows are closed up to here: the least watermark of its devices (Unix ms)
    #[schema(required)]
    pub watermark_ms: Option<i64>,
    /// Windows that it is to be run for
    pub due: u64,
    /// Windows that were answered, each as often as it was
    pub answered: u64,
    /// Those of them that late readings caused
    pub again: u64,
    /// Runs that failed and after which it was, or will be, tried again
    pub retried: u64,
    /// Windows that were given up after so many runs that failed
    pub failed: u64,
    /// The oldest windows whose last run failed and for which it will be run again
    pub waiting: Vec<JobWindow>,
    /// The newest windows that were given up and have not been answered since; late readings have them tried again
    pub given_up: Vec<JobWindow>,
}

/// A window that a statement failed for
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobWindow {
    /// Its start (Unix ms)
    pub from_ms: i64,
    /// Its end (Unix ms)
    pub to_ms: i64,
    /// How often the statement was run for it
    pub attempts: u32,
    /// When it was given up, or is run again (Unix ms)
    pub at_ms: i64,
    /// Why the last run failed
    pub reason: String,
}

impl From<&FailedWindow> for JobWindow {
    fn from(window: &FailedWindow) -> Self {
        Self {
            from_ms: when::ms(window.start_ns),
            to_ms: when::ms(window.end_ns),
            attempts: window.attempts,
            at_ms: when::ms(window.at_ns),
            reason: window.reason.clone(),
        }
    }
}

impl From<&StatementView> for JobStatement {
    fn from(view: &StatementView) -> Self {
        Self {
            watermark_ms: (view.watermark_ns > i64::MIN).then(|| when::ms(view.watermark_ns)),
            due: view.due,
            answered: view.answered,
            again: view.again,
            retried: view.retried,
            failed: view.failed,
            waiting: view.waiting.iter().map(Into::into).collect(),
            given_up: view.failures.iter().map(Into::into).collect(),
        }
    }
}

/// What a job did since its state began, and what it holds
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct JobFigures {
    /// Readings that came in
    pub readings: u64,
    /// Of them those that a filter held back
    pub filtered: u64,
    /// Not finite, too great, or too far from 1970
    pub unusable: u64,
    /// Further ahead of the hub's clock than is allowed
    pub ahead: u64,
    /// Behind the watermark of their device
    pub late: u64,
    /// No kept window took them
    pub too_late: u64,
    /// There was no room for them
    pub refused: u64,
    /// Left readings of a join without a match
    pub unmatched: u64,
    /// Results that were given
    pub results: u64,
    /// Those of them that late readings caused
    pub late_results: u64,
    /// Those of them that were aggregated from the history
    pub refilled: u64,
    /// Sessions that were withdrawn
    pub withdrawn: u64,
    /// Readings in the side output
    pub side: u64,
    /// Slices of windows and sessions that it holds
    pub open_windows: u64,
    /// Devices that it knows
    pub devices: u64,
    /// Its state in bytes, as its limit counts them
    pub state_bytes: u64,
    /// The least watermark of its devices (Unix ms)
    #[schema(required)]
    pub watermark_ms: Option<i64>,
    /// Bytes of the log that it has not read
    pub behind_bytes: u64,
    /// Parts of the log that were gone or damaged before it read them
    pub missed: u64,
    /// Runs that it could not decode; they are dead letters
    pub undecodable: u64,
    /// Results without a valid name, and windows too large to be aggregated again
    pub unwritten: u64,
    /// When it was last saved since the hub started (Unix ms)
    #[schema(required)]
    pub saved_ms: Option<i64>,
    /// The bytes of that
    pub saved_bytes: u64,
    /// How often it had to wait for a trouble to pass since the hub started
    pub troubles: u64,
    /// The trouble that it waits for
    #[schema(required)]
    pub trouble: Option<String>,
}

impl From<&View> for JobFigures {
    fn from(view: &View) -> Self {
        let (totals, counts) = (&view.totals, &view.totals.counts);
        Self {
            readings: counts.rows,
            filtered: counts.filtered,
            unusable: counts.unusable,
            ahead: counts.ahead,
            late: counts.late,
            too_late: counts.too_late,
            refused: counts.refused,
            unmatched: counts.unmatched,
            results: totals.results,
            late_results: totals.late_results,
            refilled: totals.refilled,
            withdrawn: totals.withdrawn,
            side: totals.side,
            open_windows: view.open_windows,
            devices: view.devices,
            state_bytes: view.state_bytes,
            watermark_ms: view.watermark_ns.map(when::ms),
            behind_bytes: view.behind_bytes,
            missed: view.tally.missed,
            undecodable: view.tally.undecodable,
            unwritten: view.tally.refused,
            saved_ms: view.saved_ms,
            saved_bytes: view.saved_bytes,
            troubles: view.troubles,
            trouble: view.trouble.clone(),
        }
    }
}

impl From<&Shown> for JobInfo {
    fn from(shown: &Shown) -> Self {
        let (record, life) = (&shown.record, &shown.record.life);
        Self {
            name: shown.name.clone(),
            phase: life.phase().into(),
            since_ms: when::ms(life.since_ns()),
            reason: life.reason().map(str::to_owned),
            created_ms: record.created_ms,
            changed_ms: record.changed_ms,
            definition: serde_json::from_str(&record.definition).unwrap_or_default(),
            author: record.author.as_ref().map(|author| author.name().to_owned()),
            figures: shown.view.as_ref().map(JobFigures::from).unwrap_or_default(),
            statement: shown.view.as_ref().and_then(|view| view.statement.as_ref()).map(Into::into),
        }
    }
}

/// All stream jobs
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// By name
    pub jobs: Vec<JobInfo>,
}

/// A stream job with its devices
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobAnswer {
    /// The job
    #[serde(flatten)]
    pub job: JobInfo,
    /// Its devices by id; of more than a thousand those with the most late readings
    pub by_device: Vec<JobDevice>,
}

/// A device as a job sees it
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobDevice {
    /// The device
    pub device: String,
    /// No reading before this time is expected (Unix ms)
    #[schema(required)]
    pub watermark_ms: Option<i64>,
    /// The newest time of its readings (Unix ms)
    #[schema(required)]
    pub newest_ms: Option<i64>,
    /// Readings that came in
    pub readings: u64,
    /// Behind the watermark
    pub late: u64,
    /// No kept window took them
    pub too_late: u64,
    /// Further ahead of the hub's clock than is allowed
    pub ahead: u64,
    /// There was no room for them
    pub refused: u64,
}

impl JobDevice {
    /// A device by its id.
    #[must_use]
    pub fn of(device: String, view: &DeviceView) -> Self {
        let known = |ns: i64| (ns > i64::MIN).then(|| when::ms(ns));
        let counts = &view.counts;
        Self {
            device,
            watermark_ms: known(view.watermark_ns),
            newest_ms: known(view.newest_ns),
            readings: counts.rows,
            late: counts.late,
            too_late: counts.too_late,
            ahead: counts.ahead,
            refused: counts.refused,
        }
    }
}

/// A result of a stream job
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobRow {
    /// The number of the output, from 1 on, without a hole between all results and rows of the side output
    pub number: u64,
    /// Of which device
    pub device: String,
    /// Of which point; of all points of the device when null
    #[schema(required)]
    pub point: Option<String>,
    /// The window's start (Unix ms)
    pub from_ms: i64,
    /// The window's end (Unix ms)
    pub to_ms: i64,
    /// The window's start, ns as text
    pub from_ns: String,
    /// The window's end, exclusive, ns as text
    pub to_ns: String,
    /// Of two results of a window that with the higher revision holds; 0 when late readings are not its cause
    pub revision: u64,
    /// By aggregate, or `value`, `left` and `right`, or the column of a statement; null for a session that was withdrawn, as
    /// it is part of a longer one, and where all that a statement gave of the window is void, of the device `_job.NAME`
    #[schema(required)]
    pub values: Option<BTreeMap<String, f64>>,
    /// What else the answer of a statement has, by column
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<String, String>,
}

impl From<Row> for JobRow {
    fn from(row: Row) -> Self {
        Self {
            number: row.number,
            device: row.device.to_string(),
            point: row.point.as_ref().map(ToString::to_string),
            from_ms: when::ms(row.start_ns),
            to_ms: when::ms(row.end_ns),
            from_ns: row.start_ns.to_string(),
            to_ns: row.end_ns.to_string(),
            revision: row.revision,
            values: row.values.map(|values| values.into_iter().collect()),
            texts: row.texts.into_iter().flatten().collect(),
        }
    }
}

/// A reading that a job did not take in
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSideRow {
    /// The number of the output
    pub number: u64,
    /// The series
    pub series: String,
    /// The time (Unix ms)
    pub t: i64,
    /// The value before any stage; null when it is no number
    #[schema(required)]
    pub v: Option<f64>,
    /// Why
    #[schema(example = "late")]
    pub cause: String,
}

impl From<&SideRow> for JobSideRow {
    fn from(row: &SideRow) -> Self {
        Self {
            number: row.number,
            series: format!("{}/{}", row.device, row.point),
            t: when::ms(row.time_ns),
            v: row.value.is_finite().then_some(row.value),
            cause: row.cause.clone(),
        }
    }
}

/// The newest results of a stream job
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobRows {
    /// Oldest first; none where the job has no sink of the kind `rows`
    pub rows: Vec<JobRow>,
    /// The newest readings that were not taken in, oldest first
    pub side: Vec<JobSideRow>,
}

/// A result on the live feed
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiveResult {
    /// The job
    pub job: String,
    /// The result
    #[serde(flatten)]
    pub row: JobRow,
}

impl LiveResult {
    /// Of this job.
    #[must_use]
    pub fn of(job: &str, row: Row) -> Self {
        Self { job: job.to_owned(), row: row.into() }
    }

    /// Of which device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.row.device
    }
}

/// Results of stream jobs, as an event of the live feed
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveResults {
    /// In their order
    pub results: Vec<LiveResult>,
}
