//! What somebody says of a table: which column is what.

use serde::{Deserialize, Serialize};

/// A mapping, as its file has it; see the operator's manual for an example of each shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// What parts the fields of CSV: one character, a comma when left out.
    pub delimiter: Option<String>,
    /// Whether the first line of CSV names the columns; otherwise they are called 1, 2, 3 …
    pub header: Option<bool>,
    /// Whether numbers are written as 1234,5.
    pub decimal_comma: bool,
    /// What stands for no value; the empty text when left out.
    pub nulls: Option<Vec<String>>,
    /// The time.
    pub time: TimeMap,
    /// The device.
    pub device: DeviceMap,
    /// Of a table with one value in a row.
    pub value: Option<ValueMap>,
    /// Of a table with a column for each point.
    pub point: Vec<PointMap>,
}

/// Where the time stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeMap {
    /// The column; `time` or `timestamp` when left out.
    pub column: Option<String>,
    /// `iso`, `s`, `ms`, `us`, `ns`, or a pattern as in strftime.
    pub format: Option<String>,
    /// The zone of times that say none, as `Europe/Berlin`; UTC when left out.
    pub zone: Option<String>,
}

/// Where the device stands, or which it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceMap {
    /// The column; `device` when left out.
    pub column: Option<String>,
    /// The one device of all rows.
    pub id: Option<String>,
}

/// One value in a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueMap {
    /// The column of the value; `value` when left out.
    pub column: Option<String>,
    /// The column that names the point; `point` when left out.
    pub point_column: Option<String>,
    /// The one point of all rows.
    pub point: Option<String>,
    /// The column of the unit; `unit` where there is one.
    pub unit_column: Option<String>,
    /// The one unit of all rows.
    pub unit: Option<String>,
    /// What a value is multiplied by.
    pub scale: Option<f64>,
    /// What is added afterwards.
    pub offset: Option<f64>,
}

/// A column that is a point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointMap {
    /// The column.
    pub column: String,
    /// The point; that of the column's name when left out.
    #[serde(default)]
    pub point: Option<String>,
    /// The unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// What a value is multiplied by.
    #[serde(default)]
    pub scale: Option<f64>,
    /// What is added afterwards.
    #[serde(default)]
    pub offset: Option<f64>,
}
