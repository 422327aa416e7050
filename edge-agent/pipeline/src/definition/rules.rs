//! Rules as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tideline_protocol::value::Value;

use super::schema::OneOrMore;

/// What a rule looks for, for how long, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// What it looks for.
    #[serde(flatten)]
    pub condition: Condition,
    /// Patterns of the series that it judges, as those of the pipeline's from; all others just go on. None for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<String>")]
    pub of: Vec<String>,
    /// It must hold so long before the rule fires; of an absence, the silence.
    #[serde(default)]
    pub for_ms: u64,
    /// It must not hold so long before the rule clears.
    #[serde(default)]
    pub clear_for_ms: u64,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// What people are told.
    #[serde(default)]
    pub message: String,
    /// What is written to a point when it fires and when it clears.
    pub write: Option<Writing>,
}

/// What a rule looks for. clear is where it ends to hold once it has fired (hysteresis); none for the limit itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum Condition {
    /// A number above the limit; it ends at or below clear.
    Above {
        /// The limit.
        limit: f64,
        /// Where it ends.
        clear: Option<f64>,
    },
    /// A number below the limit; it ends at or above clear.
    Below {
        /// The limit.
        limit: f64,
        /// Where it ends.
        clear: Option<f64>,
    },
    /// A value that is this one; texts and names of enumerations as they are, numbers and truth values as numbers.
    Equals {
        /// The value.
        value: Scalar,
    },
    /// An expression of the reading.
    Expression {
        /// True where the condition begins to hold.
        when: String,
        /// True where it ends; none for where when is not true.
        clear_when: Option<String>,
    },
    /// A change per second, from one number to the next, beyond the limit; it ends at or below clear.
    Rate {
        /// The limit, per second.
        limit: f64,
        /// Where it ends.
        clear: Option<f64>,
        /// Which changes count.
        #[serde(default)]
        direction: Direction,
    },
    /// No good reading for for_ms, by the clock.
    Absence {},
    /// A number further from the mean of those before it than the limit, in standard deviations; it ends at or below
    /// clear.
    ZScore {
        /// The limit in standard deviations.
        limit: f64,
        /// Where it ends.
        clear: Option<f64>,
        /// How many readings are looked back over.
        #[serde(default = "readings")]
        readings: u64,
        /// So many are learned before any is judged.
        #[serde(default = "warm_up")]
        warm_up: u64,
        /// The least standard deviation, so that a value that rested may move.
        #[serde(default)]
        deviation_min: f64,
        /// Whether times of a day are told apart.
        #[serde(default)]
        season: Season,
        /// What is added to UTC to make the hours of the day, in minutes.
        #[serde(default)]
        utc_offset_min: i64,
    },
}

pub(crate) const fn readings() -> u64 {
    1_000
}

pub(crate) const fn warm_up() -> u64 {
    30
}

impl Condition {
    /// The stable name in configuration and JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Above { .. } => "above",
            Self::Below { .. } => "below",
            Self::Equals { .. } => "equals",
            Self::Expression { .. } => "expression",
            Self::Rate { .. } => "rate",
            Self::Absence {} => "absence",
            Self::ZScore { .. } => "z_score",
        }
    }
}

/// Which changes a rate counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    #[default]
    Either,
    /// To greater numbers.
    Rise,
    /// To lesser numbers.
    Fall,
}

/// What readings a number is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// All.
    #[default]
    None,
    /// Those of the same hour of the day.
    HourOfDay,
}

/// How bad it is that a rule fires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody must act.
    Critical,
}

impl Severity {
    /// The stable name in configuration, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A local action: what is written to a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Writing {
    /// The device; {device} stands for that of the reading.
    #[serde(default = "super::device_template")]
    pub device: String,
    /// The point; {point} stands for that of the reading.
    pub point: String,
    /// What is written when the rule fires.
    pub fired: Scalar,
    /// What is written when it clears; none for nothing.
    pub cleared: Option<Scalar>,
}

/// A value as a file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// A text.
    Text(String),
}

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Bool(truth) => Self::Bool(*truth),
            Scalar::Int(integer) => Self::Int(*integer),
            Scalar::Float(number) => Self::Float(*number),
            Scalar::Text(text) => Self::Text(text.as_str().into()),
        }
    }
}
