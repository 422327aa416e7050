//! Questions about many series at once, and their answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tideline_store::Quantile;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{LateRange, Missing, NotFinite, QueryGap, ReadingValue, Restamped};

/// The last reading of a series
#[derive(Debug, Serialize, ToSchema)]
pub struct LastOfSeries {
    /// device/point
    pub id: String,
    /// UCUM, may be empty
    pub unit: String,
    /// What its values are: `float`, `int`, `bool` or `text`
    #[serde(rename = "type")]
    #[schema(example = "float")]
    pub kind: String,
    /// Time (Unix ms)
    pub t: i64,
    /// Value; null is none, or no number
    #[schema(required)]
    pub v: Option<ReadingValue>,
    /// How far it can be trusted by who measured it, `uncertain` or `bad`; left out when it is good
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "bad")]
    pub quality: Option<String>,
    /// How old it is by the hub's clock (ms); negative when it is ahead
    pub age_ms: i64,
}

/// Last readings
#[derive(Debug, Serialize, ToSchema)]
pub struct LastPage {
    /// When it was answered (Unix ms, by the hub's clock)
    pub at_ms: i64,
    /// By id
    pub series: Vec<LastOfSeries>,
    /// The cursor of the next page
    #[schema(required)]
    pub next: Option<String>,
}

/// Which series: those that each list has that is given. A name may have `*` for any text
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectBody {
    /// Devices; all when left out
    pub devices: Vec<String>,
    /// Points; all when left out
    pub points: Vec<String>,
    /// Series as device/point; all when left out
    pub series: Vec<String>,
}

/// A part of a name
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameOf {
    /// The device
    Device,
    /// The point
    Point,
    /// device/point
    Series,
}

/// Groups by how names begin
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// Which name; in `then` it is the name of the group, and left out
    #[serde(default)]
    pub of: Option<NameOf>,
    /// What stands between the parts of a name
    #[schema(example = ".")]
    pub separator: String,
    /// How many parts are the group's name; all of a name that has fewer
    #[serde(default = "one")]
    pub parts: usize,
}

const fn one() -> usize {
    1
}

/// A group by its members
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedGroup {
    /// Its name in the answer
    pub name: String,
    /// Series as device/point, devices, or in `then` groups; a name may have `*` for any text, and `@site=…`, `@group=…`,
    /// `@profile=…`, `@agent=…` or `@tag.KEY=…` stands for the devices of which that is said
    pub members: Vec<String>,
}

/// What is taken together. A series is in one group at most: the first that has it
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All into one
    #[default]
    All,
    /// By device
    Device,
    /// By point
    Point,
    /// Each for itself; in `then` each group of before
    Series,
    /// By how names begin
    Prefix(Prefix),
    /// As listed; what is in none is left out
    Groups(Vec<NamedGroup>),
}

/// What is told of the readings of a group in a bucket
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Function {
    /// How many
    Count,
    /// The smallest value
    Min,
    /// The greatest value
    Max,
    /// The sum of the values
    Sum,
    /// The sum over the count: each reading counts the same, whichever series it is of
    Mean,
    /// The value with the smallest time
    First,
    /// The value with the greatest time
    Last,
    /// The mean over time of the value that held, of each series until its next reading, as in a query: each series counts for
    /// as long as its values held in the bucket, and those without a reading in it do not. Not in `then.functions`
    Twa,
}

impl Function {
    /// All of them, by their names.
    const NAMED: [(&str, Self); 8] = [
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("mean", Self::Mean),
        ("first", Self::First),
        ("last", Self::Last),
        ("twa", Self::Twa),
    ];
}

/// A function, or a quantile of all readings of a group in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Told {
    /// A function.
    Function(Function),
    /// A quantile by its name.
    Quantile(String),
}

impl PartialSchema for Told {
    fn schema() -> RefOr<Schema> {
        let quantile = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(r"^p\d{1,3}(\.\d{1,3})?$"))
            .description(Some("A quantile of all readings of a group in a bucket, as p50, p95 or p99.9"));
        let either = OneOfBuilder::new().item(Ref::from_schema_name(Function::name())).item(quantile);
        either.description(Some("A function, or a quantile by its name")).into()
    }
}

impl ToSchema for Told {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Function::name().into_owned(), Function::schema()));
    }
}

impl TryFrom<String> for Told {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let named = Function::NAMED.into_iter().find(|(name, _)| *name == text);
        match named {
            Some((_, function)) => Ok(Self::Function(function)),
            None if Quantile::parse(&text).is_some() => Ok(Self::Quantile(text)),
            None => {
                let text: String = text.chars().take(32).collect();
                Err(format!("{text:?} is no function; there are {FUNCTIONS}"))
            }
        }
    }
}

/// What there is, for people.
pub const FUNCTIONS: &str = "count, min, max, sum, mean, first, last, twa and quantiles as p50, p95 or p99.9";

/// Leaves only those buckets for which it holds
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Having {
    /// Of what
    pub function: Told,
    /// It is less
    #[serde(default)]
    pub below: Option<f64>,
    /// It is greater
    #[serde(default)]
    pub above: Option<f64>,
}

/// Aggregates the buckets that are left once more: each bucket is one value at the time at which it begins
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// Which function gives the value
    pub of: Told,
    /// What is taken together: `all`, `series` for each group as it is, a prefix, or groups of groups
    #[serde(default)]
    pub group_by: GroupBy,
    /// Width of the buckets, as `1d`; one bucket when left out
    #[serde(default)]
    pub width: Option<String>,
    /// What is told of the values of a bucket
    pub functions: Vec<Told>,
}

/// What is read
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// Rollups where they are exact, and readings where not
    #[default]
    Best,
    /// Readings only
    Raw,
}

/// A question about groups of series
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregateRequest {
    /// Which series
    #[serde(default)]
    pub select: SelectBody,
    /// What is taken together
    #[serde(default)]
    pub group_by: GroupBy,
    /// RFC 3339, Unix ms as text, or relative as `-6h`; `-1h` when left out
    #[serde(default)]
    pub from: Option<String>,
    /// As from; `now` when left out
    #[serde(default)]
    pub to: Option<String>,
    /// Width of the buckets, as `10m`, which begin at multiples of it since 1970 (UTC); one bucket when left out
    #[serde(default)]
    pub width: Option<String>,
    /// The time zone of widths of `1d`, `1w` (from Monday on) and `1mo`, by its IANA name as `Europe/Berlin`: they last from
    /// one local midnight to another, so that a day has 23 or 25 hours where the clock is changed. `1mo` is there
    /// without it as well
    #[serde(default)]
    pub tz: Option<String>,
    /// What is told of the readings of a bucket
    pub functions: Vec<Told>,
    /// What is read
    #[serde(default)]
    pub tier: ReadFrom,
    /// Leaves only some buckets, and only groups that have one left
    #[serde(default)]
    pub having: Option<Having>,
    /// Aggregates what is left once more
    #[serde(default)]
    pub then: Option<Then>,
}

/// A group as columns of equal length, one for each function asked for; empty buckets are left out
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct GroupColumns {
    /// Its name
    pub name: String,
    /// Its series; with `then` the groups that are taken together
    pub members: usize,
    /// Start of each bucket (Unix ms)
    pub t: Vec<i64>,
    /// Readings; with `then` buckets
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Vec<u64>>,
    /// Smallest values
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub min: Option<Vec<f64>>,
    /// Greatest values
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub max: Option<Vec<f64>>,
    /// Sums
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub sum: Option<Vec<f64>>,
    /// Sums over counts
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub mean: Option<Vec<f64>>,
    /// Oldest values
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub first: Option<Vec<f64>>,
    /// Newest values
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    pub last: Option<Vec<f64>>,
    /// Means over time; null where they are not known, since readings are past their retention
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twa: Option<Vec<Option<f64>>>,
    /// Whether each mean over time is near and not exact, as in the answer of a query; left out when none is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twa_near: Option<Vec<bool>>,
    /// The quantiles asked for by their names; null where they are not known, since readings are past their retention
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<BTreeMap<String, Vec<Option<f64>>>>,
    /// By which part of itself each reading that a quantile lies at or between may differ from what is told, as in the
    /// answer of a query
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles_error: Option<Vec<f64>>,
    /// By column and place in it, the figures that are no JSON, as in the answer of a query
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, BTreeMap<String, String>>>)]
    pub not_finite: Option<BTreeMap<String, NotFinite>>,
}

/// The answer to a question about groups
#[derive(Debug, Serialize, ToSchema)]
pub struct AggregateAnswer {
    /// The coarsest tier of which something was read; `raw` where nothing was. Of some series finer ones may have been, or
    /// their readings
    #[schema(example = "1m")]
    pub tier: String,
    /// The coarsest tier that `twa` and quantiles were read from; left out when they were not asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1h")]
    pub figures_tier: Option<String>,
    /// Width of the buckets (ms); null where there is one, and where a calendar has them
    #[schema(required)]
    pub width_ms: Option<i64>,
    /// By name, or in the order of the groups asked for
    pub groups: Vec<GroupColumns>,
    /// Whether readings of the range may be missing, as in the answer of a query
    pub partial: bool,
    /// Which, and why; left out when nothing is missing
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Up to here (Unix ms) readings of the range are past their retention, as in the answer of a query: what is known of
    /// their minutes, hours or days answered, whole where the range cuts it. Left out when none are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinned_to: Option<i64>,
    /// What was dropped within the range
    pub gaps: Vec<QueryGap>,
    /// Readings whose times were corrected, or are uncertain
    pub restamped: Vec<Restamped>,
    /// Readings that came late, as far as this hub knows since its start
    pub late: Vec<LateRange>,
}
