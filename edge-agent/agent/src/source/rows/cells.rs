//! The cells of a line: those of a CSV are texts, those of NDJSON have the types of JSON.

use std::fmt;

use tideline_protocol::value::{Quality, Value, ValueKind};

/// What stands in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A text that may stand for anything.
    Plain(String),
    /// A value of a type of its own.
    Typed(Value),
}

impl Cell {
    /// What it says of the row's values.
    pub fn quality(&self) -> Result<Quality, String> {
        match self {
            // What nobody said anything of is good.
            Self::Plain(text) if text.is_empty() => Ok(Quality::Good),
            Self::Typed(Value::Null) => Ok(Quality::Good),
            other => other
                .to_string()
                .parse()
                .map_err(|error: tideline_protocol::value::UnknownName| error.to_string()),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Typed(value) => value.fmt(f),
        }
    }
}

/// The fields of a line of CSV.
pub fn fields(line: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    record.iter().map(|field| field.trim().to_owned()).collect()
}

/// Columns and cells of a line of CSV.
pub fn csv_cells(line: &str, header: &[String]) -> Result<Vec<(String, Cell)>, String> {
    let fields = fields(line);
    if fields.len() != header.len() {
        return Err(format!("it has {} fields, the header {}", fields.len(), header.len()));
    }
    Ok(header.iter().cloned().zip(fields.into_iter().map(Cell::Plain)).collect())
}

/// Names and values of a JSON object; lists and objects in it are left out.
pub fn ndjson_cells(line: &str) -> Result<Vec<(String, Cell)>, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).map_err(|error| format!("it is no JSON object: {error}"))?;
    let cells = object.into_iter().filter_map(|(name, value)| {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(truth) => Value::Bool(truth),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(integer) => Value::Int(integer),
                None => Value::Float(number.as_f64()?),
            },
            serde_json::Value::String(text) => Value::Text(text.into()),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
        };
        Some((name, Cell::Typed(value)))
    });
    Ok(cells.collect())
}

/// Reads a text as a value of this kind.
pub fn read(name: &str, text: &str, kind: ValueKind) -> Result<Value, String> {
    let float = || text.trim().parse().ok().map(Value::Float);
    let (value, allowed) = match kind {
        ValueKind::Float => (float(), "a number"),
        ValueKind::Int => (text.trim().parse().ok().map(Value::Int).or_else(float), "a whole number"),
        ValueKind::Bool => {
            let truth = match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            };
            (truth.map(Value::Bool), "true, false, 1 or 0")
        }
        ValueKind::Text => (Some(Value::Text(text.into())), "a text"),
    };
    let shown: String = text.chars().take(64).collect();
    value.ok_or_else(|| format!("{name} is {shown:?}, and its type is {kind}: {allowed}"))
}
