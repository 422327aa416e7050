//! What a server tells of a variable as a reading, and a reading as what is written. No I/O; any bytes that the
//! crate's decoder lets through give a value or a reason.

use opcua_types::{DataValue, DateTime, StatusCode, StatusCodeSeverity, UAString, Variant};
use tideline_formats::when::RANGE;
use tideline_protocol::value::{Quality, VALUE_TEXT_BYTES_MAX, Value, ValueKind};

/// The bits of a status that say that the server's queue was full (Part 4, "StatusCode": InfoType DataValue and
/// Overflow).
const OVERFLOW_BITS: u32 = 0x480;
/// Seconds from 1601, where OPC UA counts from, to 1970.
const EPOCH_S: i128 = 11_644_473_600;
const NS_PER_TICK: i128 = 100;
const TICKS_PER_S: i128 = 10_000_000;
/// Enumerations are Int32 on the wire (Part 6).
const INT32: u32 = 6;

/// What the values of a variable are, by its built-in type (Part 6, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Of one kind.
    Of(ValueKind),
    /// Anything; what comes first decides.
    Any,
    /// No reading is made of it.
    None(&'static str),
}

/// What a data type of the namespace of OPC UA itself is; none of those that are not built in and not abstract.
pub const fn type_of(data_type: u32) -> Option<Type> {
    Some(match data_type {
        1 => Type::Of(ValueKind::Bool),
        // Signed and unsigned integers, those that are abstract, and enumerations.
        2..=9 | 27 | 28 | 29 => Type::Of(ValueKind::Int),
        10 | 11 | 26 => Type::Of(ValueKind::Float),
        // Texts, times, UUIDs, XML, ids of nodes, statuses, names.
        12..=14 | 16..=21 => Type::Of(ValueKind::Text),
        15 | 30 => Type::None("bytes"),
        22 => Type::None("a structure"),
        23 | 25 => Type::None("a value with a status of its own"),
        24 => Type::Any,
        _ => return None,
    })
}

/// The built-in type that is written for a data type, where it is not the built-in one itself.
pub const fn written_as(data_type: u32) -> u32 {
    if data_type == 29 { INT32 } else { data_type }
}

/// How far a value can be trusted that has this status.
pub fn quality(status: StatusCode) -> Quality {
    match status.severity() {
        StatusCodeSeverity::Good => Quality::Good,
        StatusCodeSeverity::Uncertain => Quality::Uncertain,
        StatusCodeSeverity::Bad => Quality::Bad,
    }
}

/// Whether values before this one are lost, because the server had no more room for them.
pub fn follows_a_gap(status: StatusCode) -> bool {
    status.bits() & OVERFLOW_BITS == OVERFLOW_BITS
}

/// When the source says that a value was, ns since 1970; when the server says it where the source does not.
pub fn time_ns(value: &DataValue) -> Option<i64> {
    let fine = i64::from(value.source_picoseconds.unwrap_or_default().min(9_999) / 100);
    let source = value.source_timestamp.as_ref().and_then(stamp_ns);
    source.and_then(|ns| ns.checked_add(fine)).or_else(|| server_time_ns(value))
}

/// When the server says that it had a value.
pub fn server_time_ns(value: &DataValue) -> Option<i64> {
    value.server_timestamp.as_ref().and_then(stamp_ns)
}

/// A time as ns since 1970; none of what is null, or further than those ns reach.
pub fn stamp_ns(stamp: &DateTime) -> Option<i64> {
    let chrono = stamp.as_chrono();
    if stamp.is_null() { None } else { chrono.timestamp_nanos_opt() }
}

/// A time in ns since 1970 as it is told; none before 1601.
pub fn stamp(ns: i64) -> Option<DateTime> {
    of_ns(ns.into())
}

fn of_ns(ns: i128) -> Option<DateTime> {
    let ticks = ns / NS_PER_TICK + EPOCH_S * TICKS_PER_S;
    i64::try_from(ticks).ok().map(DateTime::from)
}

/// A value as it is told. Null where the server has none.
///
/// # Errors
/// No reading is made of it; says why.
pub fn value(variant: &Variant) -> Result<Value, String> {
    Ok(match variant {
        Variant::Empty => Value::Null,
        Variant::Boolean(yes) => Value::Bool(*yes),
        Variant::SByte(whole) => Value::Int((*whole).into()),
        Variant::Byte(whole) => Value::Int((*whole).into()),
        Variant::Int16(whole) => Value::Int((*whole).into()),
        Variant::UInt16(whole) => Value::Int((*whole).into()),
        Variant::Int32(whole) => Value::Int((*whole).into()),
        Variant::UInt32(whole) => Value::Int((*whole).into()),
        Variant::Int64(whole) => Value::Int(*whole),
        Variant::UInt64(whole) => {
            Value::Int(i64::try_from(*whole).map_err(|_| format!("{whole} is more than {}", i64::MAX))?)
        }
        // The shortest decimal that means it: 0.1 and not 0.10000000149.
        Variant::Float(real) => Value::Float(real.to_string().parse().unwrap_or_else(|_| f64::from(*real))),
        Variant::Double(real) => Value::Float(*real),
        Variant::String(text) => of_text(text)?,
        Variant::XmlElement(xml) => text(&xml.to_string())?,
        Variant::LocalizedText(localized) => of_text(&localized.text)?,
        Variant::QualifiedName(name) if name.is_null() => Value::Null,
        Variant::QualifiedName(name) => text(&format!("{}:{}", name.namespace_index, name.name))?,
        Variant::DateTime(stamp) => of_stamp(stamp)?,
        Variant::Guid(guid) => text(&guid.to_string())?,
        Variant::NodeId(id) => text(&id.to_string())?,
        Variant::ExpandedNodeId(id) => text(&id.to_string())?,
        Variant::StatusCode(status) => text(&status.to_string())?,
        Variant::ByteString(_) => return Err(refused("bytes")),
        Variant::ExtensionObject(_) => return Err(refused("a structure")),
        Variant::Array(array) => return Err(refused(&format!("an array of {}", array.values.len()))),
        Variant::Variant(_) | Variant::DataValue(_) | Variant::DiagnosticInfo(_) => {
            return Err(refused("a value with a status of its own"));
        }
    })
}

/// What is told of something that makes no reading.
pub fn refused(what: &str) -> String {
    format!("it is {what}; allowed are numbers, truth values, texts and times")
}

/// The same as a value of that kind, where it is one.
///
/// # Errors
/// It is not.
#[expect(clippy::cast_precision_loss, reason = "a number of any type is told as a double")]
pub fn of_kind(value: Value, kind: ValueKind) -> Result<Value, String> {
    match (value, kind) {
        (Value::Int(whole), ValueKind::Float) => Ok(Value::Float(whole as f64)),
        (value, kind) if value.kind().is_none_or(|own| own == kind) => Ok(value),
        (value, kind) => {
            let shown: String = value.to_string().chars().take(40).collect();
            Err(format!("it is {shown:?}, and was of type {kind} before"))
        }
    }
}

fn of_text(told: &UAString) -> Result<Value, String> {
    told.value().as_ref().map_or(Ok(Value::Null), |told| text(told))
}

fn text(text: &str) -> Result<Value, String> {
    let len = text.len();
    if len > VALUE_TEXT_BYTES_MAX {
        return Err(format!("it is a text of {len} bytes; allowed are {VALUE_TEXT_BYTES_MAX}"));
    }
    Ok(Value::Text(text.into()))
}

fn of_stamp(stamp: &DateTime) -> Result<Value, String> {
    if stamp.is_null() {
        return Ok(Value::Null);
    }
    let ns = stamp_ns(stamp).ok_or_else(|| format!("it is a time that is not {RANGE}"))?;
    Ok(Value::Text(
        jiff::Timestamp::from_nanosecond(ns.into()).map_err(|error| error.to_string())?.to_string().into(),
    ))
}

/// Whether values of this built-in type are whole numbers.
pub const fn is_whole(data_type: u32) -> bool {
    matches!(data_type, 2..=9)
}

/// What is written to a variable of this built-in type.
///
/// # Errors
/// A variable of this type cannot have it; says what is allowed.
pub fn written(value: &Value, data_type: u32) -> Result<Variant, String> {
    let wrong = |what: &str| format!("{value} cannot be written: the server's variable is {what}");
    match (value, data_type) {
        (Value::Bool(yes), 1) => Ok(Variant::Boolean(*yes)),
        (Value::Int(bit @ (0 | 1)), 1) => Ok(Variant::Boolean(*bit == 1)),
        (_, 1) => Err(wrong("true or false")),
        (Value::Int(_) | Value::Float(_), 2..=9) => {
            let whole = whole(value).ok_or_else(|| wrong("a whole number"))?;
            integer(whole, data_type).ok_or_else(|| wrong("an integer of fewer bits"))
        }
        (Value::Int(_) | Value::Float(_), 10 | 11) => {
            let real = real(value);
            #[expect(clippy::cast_possible_truncation, reason = "the nearest is what the server can hold")]
            let variant = if data_type == 10 { Variant::Float(real as f32) } else { Variant::Double(real) };
            match variant {
                // Rounded to infinity it would be another value, and told as done.
                Variant::Float(rounded) if !rounded.is_finite() => Err(wrong("a number of 32 bits")),
                Variant::Double(real) if !real.is_finite() => Err(wrong("a number")),
                variant => Ok(variant),
            }
        }
        (_, 2..=11) => Err(wrong("a number")),
        (Value::Text(text), 12) => Ok(Variant::String(UAString::from(&**text))),
        (Value::Text(text), 21) => Ok(Variant::from(opcua_types::LocalizedText::from(&**text))),
        (Value::Text(text), 13) => {
            let stamp: jiff::Timestamp =
                text.parse().map_err(|_| wrong("a time; allowed are texts as 2026-01-31T12:00:00Z"))?;
            let stamp = of_ns(stamp.as_nanosecond()).ok_or_else(|| wrong("a time in 1601 to 9999"))?;
            Ok(Variant::from(stamp))
        }
        (_, 12 | 13 | 21) => Err(wrong("a text")),
        _ => Err(wrong("of a type that is not written")),
    }
}

/// A number that is whole.
#[expect(clippy::cast_possible_truncation, reason = "that it is whole and within is looked at")]
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(whole) => Some((*whole).into()),
        Value::Float(real) if real.fract() == 0.0 && real.abs() < 1e20 => Some(*real as i128),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "the variable is a double")]
fn real(value: &Value) -> f64 {
    match value {
        Value::Int(whole) => *whole as f64,
        Value::Float(real) => *real,
        _ => f64::NAN,
    }
}

fn integer(whole: i128, data_type: u32) -> Option<Variant> {
    Some(match data_type {
        2 => Variant::SByte(i8::try_from(whole).ok()?),
        3 => Variant::Byte(u8::try_from(whole).ok()?),
        4 => Variant::Int16(i16::try_from(whole).ok()?),
        5 => Variant::UInt16(u16::try_from(whole).ok()?),
        6 => Variant::Int32(i32::try_from(whole).ok()?),
        7 => Variant::UInt32(u32::try_from(whole).ok()?),
        8 => Variant::Int64(i64::try_from(whole).ok()?),
        // What is beyond could not be read back.
        9 => Variant::UInt64(i64::try_from(whole).ok().and_then(|whole| u64::try_from(whole).ok())?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
