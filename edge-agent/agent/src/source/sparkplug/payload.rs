//! Payloads of Sparkplug B, written down from chapter 6 of its specification (version 3.0).
//!
//! ```text
//! Payload   1 timestamp, ms   2 metrics   3 seq 0..=255
//! Metric    1 name   2 alias   3 timestamp, ms   4 datatype   5 is_historical   7 is_null   9 properties
//!           10 int   11 long   12 float   13 double   14 boolean   15 string; the others are no readings
//! ```

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tideline_protocol::value::{Quality, VALUE_TEXT_BYTES_MAX, Value, ValueKind};

/// Longest payload in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Most metrics of a payload. Each takes two bytes at least, and hundreds once it is read.
pub const METRICS_MAX: usize = 5_000;
/// Longest name of a metric in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// The metric by which a node is told to give its births again.
pub const REBIRTH: &str = "Node Control/Rebirth";
/// The metric with the number of a node's session.
pub const BD_SEQ: &str = "bdSeq";
/// The property that says how far a metric can be trusted.
const QUALITY: &str = "Quality";
const METRICS_TAG: u32 = 2;

/// A payload.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// When it was sent, ms since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// What it says.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// Its place among the messages of its node.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// A metric.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its name; after its birth the alias may stand for it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// The number that stands for its name.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When it was measured, ms since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// What its value is; after its birth it may be left out.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// Whether it is of the past, and not what is now.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// Whether it has no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// More about it.
    #[prost(message, optional, tag = "9")]
    pub properties: Option<PropertySet>,
    /// Its value.
    #[prost(oneof = "MetricValue", tags = "10, 11, 12, 13, 14, 15")]
    pub value: Option<MetricValue>,
}

/// A metric's value as it is written.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MetricValue {
    /// Whole numbers of up to 32 bits, those with a sign as two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Whole numbers of 64 bits, and times.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// A float.
    #[prost(float, tag = "12")]
    Float(f32),
    /// A double.
    #[prost(double, tag = "13")]
    Double(f64),
    /// A truth value.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// A text.
    #[prost(string, tag = "15")]
    Text(String),
}

/// Properties, as two lists of the same length.
#[derive(Clone, PartialEq, Message)]
pub struct PropertySet {
    /// Their names.
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    /// Their values.
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PropertyValue>,
}

/// The value of a property, as far as it is of use here.
#[derive(Clone, PartialEq, Message)]
pub struct PropertyValue {
    /// A whole number of up to 32 bits.
    #[prost(uint32, optional, tag = "3")]
    pub int: Option<u32>,
}

/// Why a payload is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Too long.
    #[error("the payload has {0} bytes; allowed are {PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
    /// Too much in it.
    #[error("the payload has {0} metrics; allowed are {METRICS_MAX}")]
    TooMany(usize),
    /// Not of this form.
    #[error("the payload is none of Sparkplug B: {0}")]
    NoPayload(String),
}

impl Payload {
    /// Reads one.
    ///
    /// # Errors
    /// It is none, or more than is allowed; nothing is allocated for its metrics before that is known.
    pub fn read(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(PayloadError::TooLong(bytes.len()));
        }
        let none = |error: prost::DecodeError| PayloadError::NoPayload(error.to_string());
        let count = count_metrics(bytes).map_err(none)?;
        if count > METRICS_MAX {
            return Err(PayloadError::TooMany(count));
        }
        Self::decode(bytes).map_err(none)
    }

    /// What tells a node to give its births again.
    #[must_use]
    pub fn rebirth(now_ms: u64) -> Self {
        let metric = Metric { name: Some(REBIRTH.to_owned()), ..Metric::of(&Value::Bool(true), now_ms) };
        Self { timestamp: Some(now_ms), metrics: vec![metric], seq: None }
    }

    /// The number of its node's session.
    #[must_use]
    pub fn bd_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some(BD_SEQ))?;
        match metric.value {
            Some(MetricValue::Long(number)) => Some(number),
            Some(MetricValue::Int(number)) => Some(number.into()),
            _ => None,
        }
    }
}

fn count_metrics(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while bytes.has_remaining() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        count += usize::from(tag == METRICS_TAG);
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
    }
    Ok(count)
}

/// Times in ms as ns; none for what no reading can have.
pub fn time_ns(ms: u64) -> Option<i64> {
    i64::try_from(ms).ok()?.checked_mul(1_000_000)
}

/// What the values of a datatype are; none for those that make no reading.
#[must_use]
pub const fn kind(datatype: u32) -> Option<ValueKind> {
    match datatype {
        // Int8 to UInt64, and DateTime in ms since 1970.
        1..=8 | 13 => Some(ValueKind::Int),
        9 | 10 => Some(ValueKind::Float),
        11 => Some(ValueKind::Bool),
        // String, Text and UUID.
        12 | 14 | 15 => Some(ValueKind::Text),
        _ => None,
    }
}

impl Metric {
    /// One of a value, without a name.
    #[must_use]
    pub fn of(value: &Value, now_ms: u64) -> Self {
        let (datatype, written) = match value {
            Value::Null => (12, None),
            Value::Int(whole) => (4, Some(MetricValue::Long(u64::from_le_bytes(whole.to_le_bytes())))),
            Value::Float(real) => (10, Some(MetricValue::Double(*real))),
            Value::Bool(yes) => (11, Some(MetricValue::Boolean(*yes))),
            Value::Text(text) => (12, Some(MetricValue::Text(text.to_string()))),
        };
        let is_null = written.is_none().then_some(true);
        let (timestamp, datatype) = (Some(now_ms), Some(datatype));
        Self { timestamp, datatype, is_null, value: written, ..Self::default() }
    }

    /// One of a value that a metric of this datatype is to have, without a name.
    ///
    /// # Errors
    /// It is none of that datatype.
    pub fn written(value: &Value, datatype: u32, now_ms: u64) -> Result<Self, String> {
        let written = written(value, datatype);
        let written = written.ok_or_else(|| format!("{value} is no value of datatype {datatype}"))?;
        let (timestamp, datatype) = (Some(now_ms), Some(datatype));
        Ok(Self { timestamp, datatype, value: Some(written), ..Self::default() })
    }

    /// Its value, of this datatype. Null when it says that it has none.
    ///
    /// # Errors
    /// It is of another datatype, or no value that a reading can have.
    pub fn read(&self, datatype: u32) -> Result<Value, String> {
        if self.is_null == Some(true) {
            return Ok(Value::Null);
        }
        let value = self.value.as_ref().ok_or("it has no value and is not null")?;
        let wrong = || format!("{value:?} is no value of datatype {datatype}");
        Ok(match (datatype, value) {
            (1, MetricValue::Int(word)) => Value::Int(i8::from_le_bytes([low(*word, 0)]).into()),
            (2, MetricValue::Int(word)) => {
                Value::Int(i16::from_le_bytes([low(*word, 0), low(*word, 1)]).into())
            }
            (3, MetricValue::Int(word)) => Value::Int(i32::from_le_bytes(word.to_le_bytes()).into()),
            (4, MetricValue::Long(word)) => Value::Int(i64::from_le_bytes(word.to_le_bytes())),
            // Not all write small numbers into the field that is meant for them.
            (4..=7, MetricValue::Int(word)) => Value::Int((*word).into()),
            (5..=8 | 13, MetricValue::Long(word)) => Value::Int(i64::try_from(*word).map_err(|_| wrong())?),
            (8 | 13, MetricValue::Int(word)) => Value::Int((*word).into()),
            // The shortest decimal that means the same float: 0.1 stays 0.1.
            (9, MetricValue::Float(real)) if real.is_finite() => {
                Value::Float(real.to_string().parse().unwrap_or_else(|_| f64::from(*real)))
            }
            (9 | 10, MetricValue::Float(real)) => Value::Float(f64::from(*real)),
            (9 | 10, MetricValue::Double(real)) => Value::Float(*real),
            (11, MetricValue::Boolean(yes)) => Value::Bool(*yes),
            (12 | 14 | 15, MetricValue::Text(text)) if text.len() <= VALUE_TEXT_BYTES_MAX => {
                Value::Text(text.as_str().into())
            }
            (12 | 14 | 15, MetricValue::Text(text)) => {
                return Err(format!("its text has {} bytes; allowed are {VALUE_TEXT_BYTES_MAX}", text.len()));
            }
            _ => return Err(wrong()),
        })
    }

    /// How far it can be trusted: the property Quality is 192 for good, 500 for stale and 0 for bad.
    #[must_use]
    pub fn quality(&self) -> Quality {
        let Some(properties) = &self.properties else { return Quality::Good };
        let found = properties.keys.iter().zip(&properties.values).find(|(key, _)| *key == QUALITY);
        match found.and_then(|(_, value)| value.int) {
            None | Some(192) => Quality::Good,
            Some(500) => Quality::Uncertain,
            Some(_) => Quality::Bad,
        }
    }
}

/// A value in the field of its datatype. Small numbers with a sign have the width of their datatype: some read no other.
fn written(value: &Value, datatype: u32) -> Option<MetricValue> {
    let whole = whole(value);
    Some(match (datatype, value) {
        (1, _) => MetricValue::Int(u8::from_le_bytes(i8::try_from(whole?).ok()?.to_le_bytes()).into()),
        (2, _) => MetricValue::Int(u16::from_le_bytes(i16::try_from(whole?).ok()?.to_le_bytes()).into()),
        (3, _) => MetricValue::Int(u32::from_le_bytes(i32::try_from(whole?).ok()?.to_le_bytes())),
        (4, _) => MetricValue::Long(u64::from_le_bytes(whole?.to_le_bytes())),
        (5, _) => MetricValue::Int(u8::try_from(whole?).ok()?.into()),
        (6, _) => MetricValue::Int(u16::try_from(whole?).ok()?.into()),
        (7, _) => MetricValue::Int(u32::try_from(whole?).ok()?),
        (8 | 13, _) => MetricValue::Long(u64::try_from(whole?).ok()?),
        (9, _) => MetricValue::Float(float(value)?),
        (10, Value::Float(real)) if real.is_finite() => MetricValue::Double(*real),
        #[expect(clippy::cast_precision_loss, reason = "the nearest is what is meant")]
        (10, Value::Int(whole)) => MetricValue::Double(*whole as f64),
        (11, Value::Bool(yes)) => MetricValue::Boolean(*yes),
        (12 | 14 | 15, Value::Text(text)) => MetricValue::Text(text.to_string()),
        _ => return None,
    })
}

/// A number as the whole one that is nearest.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(whole) => Some(*whole),
        #[expect(clippy::cast_possible_truncation, reason = "within what 64 bits hold, as is asked before")]
        Value::Float(real) if real.abs() < 9e18 => Some(real.round() as i64),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the nearest is what is meant, and one that is too great is none"
)]
fn float(value: &Value) -> Option<f32> {
    let near = match value {
        Value::Int(whole) => *whole as f32,
        Value::Float(real) => *real as f32,
        _ => return None,
    };
    near.is_finite().then_some(near)
}

fn low(word: u32, at: usize) -> u8 {
    word.to_le_bytes().get(at).copied().unwrap_or_default()
}
