//! The definition of a job as people write it: source → stages → join → window → sinks.
//!
//! All of it is data, also the sinks: what writes results is elsewhere. Nothing here is believed before
//! [`Job::check`](crate::Job::check) has looked at it. Times are in ms, as everywhere in the API.

use serde::{Deserialize, Serialize};

/// A job's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its name; also what `{job}` in a sink's template stands for.
    pub name: String,
    /// Which series it reads.
    pub source: Source,
    /// What happens to each reading, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Pairs of readings of two series, in place of single readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// How readings are put together.
    pub window: Window,
    /// What a window is of.
    #[serde(default)]
    pub group: Group,
    /// What is computed of a window; each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<Aggregate>,
    /// What is computed of a window in their place: one statement of SQL, of all series of the source together. Whoever
    /// runs the job checks and runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// How event time passes.
    #[serde(default)]
    pub time: Time,
    /// What becomes of readings that come after their window was closed.
    #[serde(default)]
    pub late: Late,
    /// Where results go.
    pub sinks: Vec<Sink>,
    /// What the job may hold.
    #[serde(default)]
    pub limits: Limits,
}

/// Which series a job reads: those of which the device fits one of `devices` and the point one of `points`.
/// `*` stands for any text, also none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Patterns of devices.
    pub devices: Vec<String>,
    /// Patterns of points.
    pub points: Vec<String>,
}

/// One step for each reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Lets readings through whose value compares so with another.
    Filter {
        /// Only for points that fit this pattern; others pass as they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        points: Option<String>,
        /// How.
        compare: Comparison,
        /// With what.
        value: f64,
    },
    /// Makes a value `value · factor + offset`.
    Scale {
        /// Only for points that fit this pattern; others pass as they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        points: Option<String>,
        /// By what it is multiplied.
        #[serde(default = "one")]
        factor: f64,
        /// What is added then.
        #[serde(default)]
        offset: f64,
    },
}

const fn one() -> f64 {
    1.0
}

/// How a reading's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Less than.
    Lt,
    /// At most.
    Le,
    /// Greater than.
    Gt,
    /// At least.
    Ge,
    /// Equal to.
    Eq,
    /// Not equal to.
    Ne,
}

/// An as-of join: each reading of `left` with one reading of `right`, of the same device or of two that are named.
///
/// As `join_asof` of Polars, `merge_asof` of pandas and `ASOF JOIN` of Snowflake define it, inner: a left
/// reading without a match gives no pair and is counted. A left reading is paired once the watermark says
/// that no better match can come; the pair has its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The point whose readings are each paired.
    pub left: String,
    /// The point that is looked up.
    pub right: String,
    /// The device of `left`, where the two are of two devices; then both are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_device: Option<String>,
    /// The device of `right`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_device: Option<String>,
    /// How far apart the times of a pair may be at most (inclusive).
    pub tolerance_ms: u64,
    /// Where is looked.
    #[serde(default)]
    pub direction: Direction,
    /// The pair's value.
    pub combine: Combine,
}

/// Where an as-of join looks for a match. Of several readings with the same time the last that arrived
/// counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The last at or before the left one.
    #[default]
    Backward,
    /// The nearest on either side; of two that are as near the earlier.
    Nearest,
}

/// What the value of a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The left value.
    Left,
    /// The right value.
    Right,
    /// left + right.
    Sum,
    /// left − right.
    Difference,
    /// left · right.
    Product,
    /// left ∕ right; without a value where right is 0.
    Ratio,
}

/// How readings are put together. A window holds the times from its start up to, and without, its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Window {
    /// Not at all: each reading, or pair, is a result.
    Each,
    /// Windows beside each other, aligned to 1970.
    Tumbling {
        /// How long each is.
        length_ms: u64,
    },
    /// Windows that begin every `hop_ms`, aligned to 1970.
    Hopping {
        /// How long each is: a multiple of `hop_ms`.
        length_ms: u64,
        /// How far apart they begin.
        hop_ms: u64,
    },
    /// For each reading a window that looks back from it: `RANGE BETWEEN … PRECEDING AND CURRENT ROW` of SQL.
    /// Both ends are in it, and readings of one time share one window. It takes as many steps as it has
    /// readings, for each of them.
    Sliding {
        /// How far it looks back.
        length_ms: u64,
    },
    /// Readings that follow each other within less than `gap_ms`.
    Session {
        /// The silence that ends a session.
        gap_ms: u64,
    },
}

/// What a window is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// One series.
    #[default]
    Series,
    /// All series of a device that the source takes.
    Device,
}

/// What is computed of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many readings.
    Count,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The sum, exact and rounded once.
    Sum,
    /// The first value by (time, arrival).
    First,
    /// The last value by (time, arrival).
    Last,
    /// The sum over the count.
    Mean,
    /// The mean over time, where a value holds until the next reading.
    TimeWeightedMean,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::First,
        Self::Last,
        Self::Mean,
        Self::TimeWeightedMean,
    ];

    /// The stable name in JSON and templates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::First => "first",
            Self::Last => "last",
            Self::Mean => "mean",
            Self::TimeWeightedMean => "time_weighted_mean",
        }
    }
}

/// How event time passes for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// The watermark stays so far behind the newest reading of the device.
    pub out_of_orderness_ms: u64,
    /// A device that gave no reading for so long has its watermark moved on by the hub's clock. `None`: its
    /// windows wait for it.
    pub idle_timeout_ms: Option<u64>,
    /// A reading that is further ahead of the hub's clock goes to the side output: it would make all that
    /// comes after it late.
    pub ahead_max_ms: u64,
}

impl Default for Time {
    fn default() -> Self {
        Self { out_of_orderness_ms: 5_000, idle_timeout_ms: Some(60_000), ahead_max_ms: 3_600_000 }
    }
}

/// What becomes of readings that come after the watermark has passed the end of their window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Late {
    /// So long windows are kept, and given again with each late reading (late firing).
    pub allowed_ms: u64,
    /// What happens to what is later still.
    pub then: Later,
}

/// What happens to a reading that no kept window takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Later {
    /// It goes to the side output.
    #[default]
    Side,
    /// Its windows are aggregated again from the history, and given with a higher revision.
    Update,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sink {
    /// A series. `{device}`, `{point}`, `{aggregate}` and `{job}` in the templates stand for those of the
    /// result.
    Series {
        /// The device's template.
        #[serde(default = "device_template")]
        device: String,
        /// The point's template.
        point: String,
    },
    /// Rows that can be asked for.
    Rows,
    /// The live feed.
    Live,
}

fn device_template() -> String {
    "{device}".to_owned()
}

/// What a job may hold. A reading for which there is no room goes to the side output and is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Devices.
    pub devices: u64,
    /// Slices of windows and sessions.
    pub open_windows: u64,
    /// Bytes of state, by what each part can take at most.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: 10_000, open_windows: 200_000, state_bytes: 256 << 20 }
    }
}
