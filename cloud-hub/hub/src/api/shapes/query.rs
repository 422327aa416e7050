//! Series, their readings, and what is missing of them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{NotFinite, ReadingValue, ReadingValues};

/// The newest reading
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LastReading {
    /// Time (Unix ms)
    pub t: i64,
    /// Value; null is none, or no number
    #[schema(required)]
    pub v: Option<ReadingValue>,
    /// How far it can be trusted by who measured it, `uncertain` or `bad`; left out when it is good
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "bad")]
    pub quality: Option<String>,
}

/// How long readings of a series are kept that come now; those that came before may have another time
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesKeep {
    /// The time after which readings go, as `90d`, or `forever`
    #[schema(example = "30d")]
    pub readings: String,
    /// Which rollups stay when they are gone: some of `1m`, `1h`, `1d`, each for as long as the hub keeps it
    #[schema(example = json!(["1m", "1h", "1d"]))]
    pub rollups: Vec<String>,
    /// Whether the profile of the device says something of it
    pub by_profile: bool,
}

/// One series
#[derive(Debug, Serialize, ToSchema)]
pub struct Series {
    /// device/point
    pub id: String,
    /// The device
    pub device: String,
    /// The point
    pub point: String,
    /// UCUM, may be empty
    pub unit: String,
    /// What its values are: `float`, `int`, `bool` or `text`
    #[serde(rename = "type")]
    #[schema(example = "float")]
    pub kind: String,
    /// Its name for people; empty when it has none
    pub name: String,
    /// The newest reading
    #[schema(required)]
    pub last: Option<LastReading>,
    /// Readings stored
    pub count: u64,
    /// How long they are kept
    pub keep: SeriesKeep,
}

/// A page of series
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesPage {
    /// The series by id
    pub series: Vec<Series>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// Readings of a device that will never come
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct QueryGap {
    /// The device
    pub device: String,
    /// Start (Unix ms)
    pub from_ms: i64,
    /// End (Unix ms)
    pub to_ms: i64,
    /// Readings
    pub rows: u64,
    /// Why readings were dropped
    #[schema(example = "quota")]
    pub cause: String,
}

/// Readings of a device that were taken before it knew the time
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Restamped {
    /// The device
    pub device: String,
    /// Start (Unix ms), corrected
    pub from_ms: i64,
    /// End (Unix ms), corrected
    pub to_ms: i64,
    /// What was added to their times (ms); null when the clock was wrong and nobody knows by how much
    #[schema(required)]
    pub shift_ms: Option<i64>,
}

/// Readings of a device that came late: when the same points had some of a later minute, as a backlog after an outage. Kept
/// by a hub since its start
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LateRange {
    /// The device
    pub device: String,
    /// Start (Unix ms)
    pub from_ms: i64,
    /// End (Unix ms)
    pub to_ms: i64,
    /// Readings
    pub rows: u64,
    /// How long after its time (ms) the latest of them came
    pub delay_ms: i64,
    /// When the first of them came (Unix ms)
    pub came_from_ms: i64,
    /// When the last of them came (Unix ms)
    pub came_to_ms: i64,
}

/// Why readings of a device may be missing from an answer
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingCause {
    /// The agent is not connected: what it read since is not here
    Offline,
    /// The agent is connected and still holds readings that are not here
    Backlog,
    /// A damaged file was set aside, and the agents have not refilled all of it
    Damaged,
}

/// Readings that may be missing from an answer
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Missing {
    /// The device
    pub device: String,
    /// All readings up to here have come (Unix ms, by the hub's clock); null when that is not known
    #[schema(required)]
    pub after_ms: Option<i64>,
    /// Why
    pub cause: MissingCause,
}

/// Buckets of one width as columns of equal length; empty buckets are left out. They are of numbers of good quality:
/// truth values count as 0 and 1, texts not at all
#[derive(Debug, Serialize, ToSchema)]
pub struct BucketColumns {
    /// device/point
    pub id: String,
    /// UCUM, may be empty
    pub unit: String,
    /// What its values are: `float`, `int`, `bool` or `text`
    #[serde(rename = "type")]
    #[schema(example = "float")]
    pub kind: String,
    /// The coarsest tier of which something is in the buckets of this series: `raw`, `1m`, `1h` or `1d`. What is too new to
    /// have a rollup, and a series or an edge of the range that has none, is read from finer ones or from the readings;
    /// `raw` too where there is nothing
    #[schema(example = "1m")]
    pub tier: String,
    /// Start of each bucket (Unix ms)
    pub t: Vec<i64>,
    /// Smallest values
    #[schema(value_type = Vec<Option<f64>>)]
    pub min: Vec<f64>,
    /// Largest values
    #[schema(value_type = Vec<Option<f64>>)]
    pub max: Vec<f64>,
    /// Means
    #[schema(value_type = Vec<Option<f64>>)]
    pub mean: Vec<f64>,
    /// Newest values
    #[schema(value_type = Vec<Option<f64>>)]
    pub last: Vec<f64>,
    /// Readings that are numbers
    pub count: Vec<u64>,
    /// With `twa`, means over time of the value that held: the last reading's until the next one, from the beginning of the
    /// bucket or the range (with the value of the last reading before; from the first reading where there is none before)
    /// to its end. Null where they are not known, since readings are past their retention and the buckets are not made of
    /// whole hours or days
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twa: Option<Vec<Option<f64>>>,
    /// Whether each mean over time is near and not exact: readings that came late lay between others, and are past their
    /// retention. Left out when none is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twa_near: Option<Vec<bool>>,
    /// The quantiles asked for by their names, as `p95`: between the readings beside the rank. Null as `twa` is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<BTreeMap<String, Vec<Option<f64>>>>,
    /// With quantiles, by which part of itself each reading that they lie at or between may differ from what is told: 0
    /// where they are exact, which they are when they were made of readings, or of few different values
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles_error: Option<Vec<f64>>,
    /// The coarsest tier that `twa` and quantiles were read from: `raw` where they were made of readings alone
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1h")]
    pub figures_tier: Option<String>,
    /// By column (`min`, `mean`, `twa`, `p95` and so on) and place in it (as text, from 0 on), the figures that are no JSON: `NaN`,
    /// `Infinity` or `-Infinity`; they are null there. Left out when there are none
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, BTreeMap<String, String>>>)]
    pub not_finite: Option<BTreeMap<String, NotFinite>>,
}

/// The answer to a query with buckets
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryAnswer {
    /// The series asked for
    pub series: Vec<BucketColumns>,
    /// Whether readings of the range may be missing, as far as the hub can know: an agent that speaks
    /// for one of the devices is not connected or still holds readings, or a damaged file is not
    /// refilled. What an agent dropped is in `gaps` and does not make an answer partial
    pub partial: bool,
    /// Which, and why; left out when nothing is missing
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Up to here (Unix ms) readings of the range are past their retention: buckets are as wide as the minutes, hours or days
    /// that are known of them, and what is gone with these is in none. Left out when none are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinned_to: Option<i64>,
    /// What was dropped within the range
    pub gaps: Vec<QueryGap>,
    /// Readings whose times were corrected, or are uncertain
    pub restamped: Vec<Restamped>,
    /// Readings that came late, as far as this hub knows since its start
    pub late: Vec<LateRange>,
}

/// Raw readings as columns of equal length
#[derive(Debug, Serialize, ToSchema)]
pub struct RawColumns {
    /// device/point
    pub id: String,
    /// UCUM, may be empty
    pub unit: String,
    /// What its values are: `float`, `int`, `bool` or `text`
    #[serde(rename = "type")]
    #[schema(example = "float")]
    pub kind: String,
    /// Always `raw`
    pub tier: String,
    /// Times (Unix ms)
    pub t: Vec<i64>,
    /// Times in full, nanoseconds since 1970 as text
    pub t_ns: Vec<String>,
    /// Values; null is none, or no number
    #[schema(value_type = Vec<Option<ReadingValue>>)]
    pub v: ReadingValues,
    /// By place in `v` (as text, from 0 on), the values that are no JSON: `NaN`, `Infinity` or `-Infinity`; they are null there. Left
    /// out when there are none
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub not_finite: Option<NotFinite>,
    /// `good`, `uncertain` or `bad` for each reading; left out when all are good
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Vec<String>>,
}

/// The answer to a query without buckets
#[derive(Debug, Serialize, ToSchema)]
pub struct RawAnswer {
    /// The series asked for, as far as the page goes
    pub series: Vec<RawColumns>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
    /// Whether readings of the range may be missing, as far as the hub can know: an agent that speaks
    /// for one of the devices is not connected or still holds readings, or a damaged file is not
    /// refilled. What an agent dropped is in `gaps` and does not make an answer partial
    pub partial: bool,
    /// Which, and why; left out when nothing is missing
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Up to here (Unix ms) readings of the range may be gone since they are past their retention; what is known
    /// of their minutes, hours or days is there with buckets, and the table `cold` of SQL has them where they are
    /// kept. Null when none are
    #[schema(required)]
    pub thinned_to: Option<i64>,
    /// What was dropped within the range
    pub gaps: Vec<QueryGap>,
    /// Readings whose times were corrected, or are uncertain
    pub restamped: Vec<Restamped>,
    /// Readings that came late, as far as this hub knows since its start
    pub late: Vec<LateRange>,
}

/// Either answer of a query
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AnyAnswer {
    /// With buckets
    Buckets(QueryAnswer),
    /// Without
    Raw(RawAnswer),
}

/// New readings of one series
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LiveColumns {
    /// device/point
    pub id: String,
    /// Times (Unix ms)
    pub t: Vec<i64>,
    /// Values; null is none, or no number
    #[schema(value_type = Vec<Option<ReadingValue>>)]
    pub v: ReadingValues,
    /// `good`, `uncertain` or `bad` for each reading; left out when all are good
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Vec<String>>,
}

/// Data of the SSE event `readings`
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LiveReadings {
    /// By series
    pub series: Vec<LiveColumns>,
}
