//! Answers as JSON, Arrow stream, CSV and Parquet.

use std::io::{self, Write};

use polars::prelude::*;
use serde::{Deserialize, Serialize};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Columns with names and types, then rows.
    Json,
    /// The stream of Arrow IPC.
    Arrow,
    /// RFC 4180, with a header.
    Csv,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [Self::Json, Self::Arrow, Self::Csv, Self::Parquet];

    /// The name in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// The largest whole number that every JSON reader takes as it is.
const EXACT_MAX: i128 = 1 << 53;

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Writes a frame.
pub fn write(mut frame: DataFrame, format: Format, out: &mut impl Write) -> io::Result<()> {
    in_utc(&mut frame).map_err(failed)?;
    match format {
        Format::Json => json(&frame, out),
        Format::Csv => csv(&frame, out),
        Format::Arrow => {
            // Readers of today do not all know the newest layouts of texts.
            let mut writer = IpcStreamWriter::new(out).with_compat_level(CompatLevel::oldest());
            writer.finish(&mut frame).map_err(failed)
        }
        Format::Parquet => {
            let writer = ParquetWriter::new(out).with_compression(ParquetCompression::Zstd(None));
            writer.set_parallel(false).finish(&mut frame).map(drop).map_err(failed)
        }
    }
}

/// In SQL times have no zone, so that texts compare with them; they are of UTC.
fn in_utc(frame: &mut DataFrame) -> PolarsResult<()> {
    let columns = frame.columns().to_vec();
    for column in columns {
        if let DataType::Datetime(unit, None) = column.dtype() {
            let zoned = column.cast(&DataType::Datetime(*unit, Some(TimeZone::UTC)))?;
            frame.with_column(zoned)?;
        }
    }
    Ok(())
}

/// What a type is called in JSON.
fn kind(dtype: &DataType) -> &'static str {
    match dtype {
        DataType::Boolean => "boolean",
        dtype if dtype.is_integer() => "integer",
        dtype if dtype.is_float() => "double",
        DataType::Datetime(..) => "timestamp",
        DataType::Date => "date",
        DataType::Duration(_) => "duration",
        DataType::Time => "time",
        DataType::List(_) => "list",
        DataType::Null => "null",
        _ => "string",
    }
}

fn json(frame: &DataFrame, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"columns\":[")?;
    for (at, column) in frame.columns().iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let name = serde_json::to_string(column.name().as_str())?;
        write!(out, "{comma}{{\"name\":{name},\"type\":\"{}\"}}", kind(column.dtype()))?;
    }
    out.write_all(b"],\"rows\":[")?;
    for row in 0..frame.height() {
        out.write_all(if row > 0 { b",\n[" } else { b"\n[" })?;
        for (at, column) in frame.columns().iter().enumerate() {
            if at > 0 {
                out.write_all(b",")?;
            }
            json_value(&column.get(row).map_err(failed)?, out)?;
        }
        out.write_all(b"]")?;
    }
    out.write_all(b"]}\n")
}

fn json_value(value: &AnyValue<'_>, out: &mut impl Write) -> io::Result<()> {
    match value {
        AnyValue::Null => out.write_all(b"null"),
        AnyValue::Boolean(yes) => write!(out, "{yes}"),
        AnyValue::Float64(value) => json_double(*value, out),
        AnyValue::Float32(value) => json_double(f64::from(*value), out),
        AnyValue::String(text) => Ok(serde_json::to_writer(out, text)?),
        AnyValue::StringOwned(text) => Ok(serde_json::to_writer(out, text.as_str())?),
        AnyValue::Datetime(value, unit, _) => json_ms(ns_of(*value, *unit), out),
        AnyValue::DatetimeOwned(value, unit, _) => json_ms(ns_of(*value, *unit), out),
        AnyValue::Duration(value, unit) => json_ms(ns_of(*value, *unit), out),
        AnyValue::List(items) => {
            out.write_all(b"[")?;
            for at in 0..items.len() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                json_value(&items.get(at).map_err(failed)?, out)?;
            }
            out.write_all(b"]")
        }
        other => match other.extract::<i128>() {
            Some(whole) if other.dtype().is_integer() && whole.abs() <= EXACT_MAX => write!(out, "{whole}"),
            _ => Ok(serde_json::to_writer(out, &other.to_string())?),
        },
    }
}

/// JSON has no numbers for these.
fn json_double(value: f64, out: &mut impl Write) -> io::Result<()> {
    if value.is_finite() {
        return Ok(serde_json::to_writer(out, &value)?);
    }
    write!(out, "\"{}\"", not_finite(value))
}

const fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn ns_of(value: i64, unit: TimeUnit) -> i128 {
    i128::from(value)
        * match unit {
            TimeUnit::Nanoseconds => 1,
            TimeUnit::Microseconds => 1_000,
            TimeUnit::Milliseconds => 1_000_000,
        }
}

/// Milliseconds, and what is finer behind the point.
fn json_ms(ns: i128, out: &mut impl Write) -> io::Result<()> {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let (whole, part) = (ns / 1_000_000, ns % 1_000_000);
    if part == 0 {
        return write!(out, "{sign}{whole}");
    }
    let part = format!("{part:06}");
    write!(out, "{sign}{whole}.{}", part.trim_end_matches('0'))
}

fn csv(frame: &DataFrame, out: &mut impl Write) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    let columns = frame.columns();
    writer.write_record(columns.iter().map(|column| column.name().as_str()))?;
    for row in 0..frame.height() {
        for column in columns {
            writer.write_field(csv_value(&column.get(row).map_err(failed)?)?)?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}

fn csv_value(value: &AnyValue<'_>) -> io::Result<String> {
    Ok(match value {
        AnyValue::Null => String::new(),
        AnyValue::Float64(value) if !value.is_finite() => not_finite(*value).to_owned(),
        AnyValue::Datetime(value, unit, _) => shown(ns_of(*value, *unit)),
        AnyValue::DatetimeOwned(value, unit, _) => shown(ns_of(*value, *unit)),
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        AnyValue::List(_) | AnyValue::Float64(_) | AnyValue::Float32(_) | AnyValue::Duration(..) => {
            let mut text = Vec::new();
            json_value(value, &mut text)?;
            String::from_utf8(text).map_err(failed)?
        }
        other => other.to_string(),
    })
}

/// RFC 3339.
fn shown(ns: i128) -> String {
    jiff::Timestamp::from_nanosecond(ns).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
