//! Questions in SQL and their answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A statement of SQL
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One SELECT, at most 16 KiB
    #[schema(
        example = "SELECT device, avg(value) AS mean FROM readings WHERE time >= now() - INTERVAL '1 hour' GROUP BY device"
    )]
    pub sql: String,
    /// json, arrow, csv or parquet; when left out, what `Accept` says
    #[serde(default)]
    #[schema(example = "json")]
    pub format: Option<String>,
}

/// A column of an answer
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SqlColumn {
    /// Its name
    pub name: String,
    /// boolean, integer, double, string, timestamp, date, time, duration, list or null
    #[serde(rename = "type")]
    #[schema(example = "timestamp")]
    pub kind: String,
}

/// Columns, and rows of as many values
///
/// Timestamps and durations are ms with what is finer behind the point; integers beyond 2^53, dates and times of day are
/// strings, and so are the doubles that JSON has no numbers for: "NaN", "Infinity", "-Infinity".
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SqlAnswer {
    /// The columns in order
    pub columns: Vec<SqlColumn>,
    /// The rows
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<serde_json::Value>>,
}
