//! Pipelines as data: what a configuration or a profile says. Nothing here is checked yet; see
//! [`Pipeline::compile`](crate::Pipeline::compile).

mod read;
mod rules;
mod schema;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tideline_protocol::value::ValueKind;

pub use self::read::read;
pub use self::rules::{Condition, Direction, Rule, Scalar, Season, Severity, Writing};
pub use self::schema::schema;
use self::schema::{OneOrMore, ValueKindName};

/// The name by which stages ask for the readings as they come.
pub const SOURCE: &str = "from";
/// The port of a branch that takes what no other does.
pub const ELSE: &str = "else";

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// Its name, unique among the pipelines.
    pub name: String,
    /// Patterns of the series that it takes, as device/point, in which * stands for any text; in a profile they name points
    /// alone.
    #[schemars(with = "OneOrMore<String>")]
    pub from: Vec<String>,
    /// Whether the readings also go on as they came.
    #[serde(default)]
    pub keep: bool,
    /// Whether it only looks on: the readings go on as if it was not there, and nothing leaves it but what its rules tell and
    /// what it writes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watch: bool,
    /// A reading so far ahead of the clock is a dead letter of stages that keep times; windows have a key of their own.
    #[serde(default = "ahead_max_ms")]
    pub ahead_max_ms: u64,
    /// The stream that readings of its rules' events go to; none for that of the reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    /// Its stages.
    #[serde(default, rename = "stage")]
    pub stages: Vec<StageDefinition>,
    #[serde(skip)]
    pub(crate) lines: Lines,
}

impl Definition {
    /// A pipeline of these stages, which was not read from a file.
    #[must_use]
    pub fn new(name: &str, from: &[&str], stages: Vec<StageDefinition>) -> Self {
        let from = from.iter().map(|pattern| (*pattern).to_owned()).collect();
        let (keep, watch, ahead_max_ms, events) = (false, false, ahead_max_ms(), None);
        Self {
            name: name.to_owned(),
            from,
            keep,
            watch,
            ahead_max_ms,
            events,
            stages,
            lines: Lines::default(),
        }
    }

    /// The line that a key of the stage of this number stands in, or of the pipeline, or else where that begins; 0 when
    /// it was not read from a file.
    #[must_use]
    pub fn line(&self, stage: Option<usize>, key: &str) -> usize {
        self.lines.of(stage, key)
    }
}

/// Definitions as a text that [`read`] makes the same definitions of.
///
/// # Errors
/// They cannot be said in TOML, as a number above 2^63.
pub fn write(definitions: &[Definition]) -> Result<String, String> {
    #[derive(Serialize)]
    struct All<'d> {
        pipeline: &'d [Definition],
    }
    toml::to_string(&All { pipeline: definitions }).map_err(|error| error.to_string())
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageDefinition {
    /// Its name, unique within the pipeline.
    pub name: String,
    /// What it reads: stages by name, ports of a branch as stage.port, or "from" for what the pipeline takes; empty for the
    /// stage before it.
    #[serde(default)]
    #[schemars(with = "OneOrMore<String>")]
    pub after: Vec<String>,
    /// What it does.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Judges numbers by a range.
    Range(Range),
    /// Leaves out what differs little from what went before.
    Deadband(Deadband),
    /// value · factor + offset.
    Scale(Scale),
    /// Converts numbers to another unit.
    Unit(Unit),
    /// Computes a value from the reading.
    Expression(Computed),
    /// Leaves out readings of which an expression is not true.
    Filter(Filter),
    /// Gives readings to one of several ports.
    Branch(Branch),
    /// Puts readings together by time.
    Window(Window),
    /// Computes a point from several, of one device or of several.
    Derive(Derive),
    /// Judges readings over time and tells when it begins and ends to hold.
    Rule(Rule),
    /// Lets so many readings of a series pass in a time.
    RateLimit(RateLimit),
    /// Asks for each reading's value to be written to a point.
    Write(WriteTo),
    /// Gives readings another name or stream, and ends a path.
    Output(Output),
    /// Ends a path, and counts what came.
    Discard {},
}

impl Kind {
    /// The stable name in configuration, metrics and JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Range(_) => "range",
            Self::Deadband(_) => "deadband",
            Self::Scale(_) => "scale",
            Self::Unit(_) => "unit",
            Self::Expression(_) => "expression",
            Self::Filter(_) => "filter",
            Self::Branch(_) => "branch",
            Self::Window(_) => "window",
            Self::Derive(_) => "derive",
            Self::Rule(_) => "rule",
            Self::RateLimit(_) => "rate_limit",
            Self::Write(_) => "write",
            Self::Output(_) => "output",
            Self::Discard {} => "discard",
        }
    }
}

/// A range check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// What becomes of a number outside.
    #[serde(default)]
    pub otherwise: Otherwise,
}

/// What becomes of a number out of range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// It goes on with quality bad.
    #[default]
    Bad,
    /// It is left out and counted.
    Drop,
    /// The nearest number of the range goes on, with quality uncertain.
    Clamp,
}

/// A deadband. The wider of the two bands counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deadband {
    /// The difference that a number must exceed.
    pub absolute: Option<f64>,
    /// The same as a share of the last number that went on, in percent.
    pub percent: Option<f64>,
    /// After so long a reading goes on whatever its value; 0 = never.
    #[serde(default)]
    pub silence_max_ms: u64,
}

/// A linear function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scale {
    /// The factor.
    pub factor: f64,
    /// What is added afterwards.
    #[serde(default)]
    pub offset: f64,
    /// The unit of the result; none for that of the reading.
    pub unit: Option<String>,
}

/// A conversion of units, which are UCUM codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unit {
    /// The unit of the readings; none for that of their series.
    pub from: Option<String>,
    /// The unit of the result.
    pub to: String,
}

/// A computed value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Computed {
    /// The expression.
    pub value: String,
    /// The unit of the result; none for that of the reading.
    pub unit: Option<String>,
    /// The type of the result.
    #[serde(default, rename = "type")]
    #[schemars(with = "ValueKindName")]
    pub kind: ValueKind,
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Filter {
    /// The expression that must be true.
    pub when: String,
}

/// A branch: a reading goes to the first port whose expression is true, or else to "else".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Branch {
    /// The ports in the order in which they are tried.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// A port of a branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// Its name.
    pub port: String,
    /// The expression that must be true.
    pub when: String,
}

/// Windows by the readings' own time, aligned to 1970. A window holds the times from its start up to, and
/// without, its end; its results have the time of its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// How long each is.
    pub length_ms: u64,
    /// How far apart they begin; none for beside each other (tumbling).
    pub hop_ms: Option<u64>,
    /// What is computed of each.
    #[schemars(with = "OneOrMore<Aggregate>")]
    pub aggregates: Vec<Aggregate>,
    /// How much later than the newest reading of the series another one may still come.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
    /// A series that is silent for so long has its windows closed by the clock; 0 = never.
    #[serde(default = "idle_ms")]
    pub idle_ms: u64,
    /// A reading so far ahead of the clock becomes a dead letter: it would make all after it late.
    #[serde(default = "ahead_max_ms")]
    pub ahead_max_ms: u64,
    /// The point of the results; {point} and {aggregate} stand for those.
    #[serde(default = "window_point")]
    pub point: String,
}

pub(crate) const fn wait_ms() -> u64 {
    5_000
}

pub(crate) const fn idle_ms() -> u64 {
    60_000
}

pub(crate) const fn ahead_max_ms() -> u64 {
    3_600_000
}

pub(crate) fn window_point() -> String {
    "{point}/{aggregate}".to_owned()
}

/// What is computed of a window's good numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many there are.
    Count,
    /// How many readings were left out because their quality was not good.
    Bad,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their sum in the order of arrival.
    Sum,
    /// Their mean.
    Mean,
    /// The first by (time, arrival).
    First,
    /// The last by (time, arrival).
    Last,
    /// The standard deviation of the sample; null of a single number.
    Deviation,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Count,
        Self::Bad,
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::Mean,
        Self::First,
        Self::Last,
        Self::Deviation,
    ];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bad => "bad",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::First => "first",
            Self::Last => "last",
            Self::Deviation => "deviation",
        }
    }
}

/// A point that is computed from the newest values of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Derive {
    /// The series by the names that the expression has for them: device/point, or the point alone with per_device.
    pub inputs: BTreeMap<String, String>,
    /// Whether each device has the inputs, and the point, of its own.
    #[serde(default)]
    pub per_device: bool,
    /// The expression.
    pub value: String,
    /// The device of the result; needed but with per_device.
    pub device: Option<String>,
    /// The point of the result.
    pub point: String,
    /// The unit of the result; empty when unknown.
    #[serde(default)]
    pub unit: String,
    /// The type of the result.
    #[serde(default, rename = "type")]
    #[schemars(with = "ValueKindName")]
    pub kind: ValueKind,
    /// An input that is older than the newest by more than this counts as missing; 0 = it never does.
    #[serde(default)]
    pub age_max_ms: u64,
}

/// A limit on how many readings of a series pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// So many, the first ones,
    pub readings: u64,
    /// in each span of this length of the readings' own time, aligned to 1970.
    pub per_ms: u64,
}

/// Where values are to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WriteTo {
    /// The device; {device} stands for that of the reading.
    #[serde(default = "device_template")]
    pub device: String,
    /// The point; {point} stands for that of the reading.
    pub point: String,
}

/// Where readings go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The device; {device} stands for that of the reading.
    #[serde(default = "device_template")]
    pub device: String,
    /// The point; {point} stands for that of the reading.
    #[serde(default = "point_template")]
    pub point: String,
    /// The stream; none for that of the source.
    pub stream: Option<String>,
}

pub(crate) fn device_template() -> String {
    "{device}".to_owned()
}

pub(crate) fn point_template() -> String {
    "{point}".to_owned()
}

/// The lines that the parts of a definition stand in; what was not read from a file has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(pub BTreeMap<(Option<usize>, String), usize>);

impl Lines {
    /// Of a key of a stage, or of the pipeline; or else where that begins.
    pub fn of(&self, stage: Option<usize>, key: &str) -> usize {
        let line = |key: &str| self.0.get(&(stage, key.to_owned()));
        line(key).or_else(|| line("")).copied().unwrap_or_default()
    }
}

// Where a definition stands is no part of what it says.
impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
