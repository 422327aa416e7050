//! How a number, a truth value or a text stands in bytes or registers.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};

/// Longest text in bytes: what one Modbus request can hold.
const TEXT_BYTES_MAX: u16 = 250;

/// The names of those of a fixed size.
const NAMES: [(&str, Encoding); 13] = [
    ("bool", Encoding::Bool),
    ("u16", Encoding::U16),
    ("i16", Encoding::I16),
    ("u32", Encoding::U32),
    ("i32", Encoding::I32),
    ("u64", Encoding::U64),
    ("i64", Encoding::I64),
    ("f32", Encoding::F32),
    ("f64", Encoding::F64),
    ("bcd16", Encoding::Bcd16),
    ("bcd32", Encoding::Bcd32),
    ("latitude", Encoding::Latitude),
    ("longitude", Encoding::Longitude),
];

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One coil or input; in a register, whether it is other than 0.
    Bool,
    /// 16 bits without sign.
    U16,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits, two's complement.
    I32,
    /// 64 bits without sign.
    U64,
    /// 64 bits, two's complement.
    I64,
    /// IEEE 754, 32 bits. The value is that of its shortest decimal: what a meter writes as 230.1 is read as 230.1.
    F32,
    /// IEEE 754, 64 bits.
    F64,
    /// Four decimal digits of four bits each.
    Bcd16,
    /// Eight decimal digits of four bits each.
    Bcd32,
    /// UTF-8 of this many bytes, which ends at the first zero; blanks at its end are left out.
    Text {
        /// How many bytes.
        bytes: u16,
    },
    /// A latitude of NMEA 0183, degrees and minutes, with N or S in the field after it.
    Latitude,
    /// A longitude of NMEA 0183, degrees and minutes, with E or W in the field after it.
    Longitude,
}

impl Encoding {
    /// How many registers of 16 bits it takes; none when it cannot stand in registers.
    #[must_use]
    pub const fn registers(self) -> Option<u16> {
        match self {
            Self::Bool | Self::U16 | Self::I16 | Self::Bcd16 => Some(1),
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => Some(2),
            Self::U64 | Self::I64 | Self::F64 => Some(4),
            Self::Text { bytes } => Some(bytes.div_ceil(2)),
            Self::Latitude | Self::Longitude => None,
        }
    }

    /// Whether it is a number without a fraction, so that bits and names of it make sense.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        !matches!(self, Self::F32 | Self::F64 | Self::Text { .. } | Self::Latitude | Self::Longitude)
    }

    /// The least and the greatest whole number that it holds.
    #[must_use]
    pub const fn whole_range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Bool => (0, 1),
            Self::U16 => (0, u16::MAX as i128),
            Self::I16 => (i16::MIN as i128, i16::MAX as i128),
            Self::U32 => (0, u32::MAX as i128),
            Self::I32 => (i32::MIN as i128, i32::MAX as i128),
            Self::U64 => (0, u64::MAX as i128),
            Self::I64 => (i64::MIN as i128, i64::MAX as i128),
            Self::Bcd16 => (0, 9_999),
            Self::Bcd32 => (0, 99_999_999),
            Self::F32 | Self::F64 | Self::Text { .. } | Self::Latitude | Self::Longitude => return None,
        })
    }
}

/// A text names no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is unknown; allowed are {list}, string:N of 1 to {TEXT_BYTES_MAX} bytes", list = names())]
pub struct UnknownEncoding(String);

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(text: &str) -> Result<Self, UnknownEncoding> {
        let unknown = || UnknownEncoding(text.chars().take(40).collect());
        if let Some((_, encoding)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*encoding);
        }
        let bytes = text.strip_prefix("string:").and_then(|bytes| bytes.parse().ok()).ok_or_else(unknown)?;
        if (1..=TEXT_BYTES_MAX).contains(&bytes) { Ok(Self::Text { bytes }) } else { Err(unknown()) }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Text { bytes } = self {
            return write!(f, "string:{bytes}");
        }
        f.write_str(NAMES.iter().find(|(_, encoding)| encoding == self).map_or("", |(name, _)| name))
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Encoding {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Encoding".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How a value stands in bytes or registers; string:N is a text of N bytes.",
            "anyOf": [
                { "enum": NAMES.map(|(name, _)| name) },
                { "type": "string", "pattern": "^string:[1-9][0-9]{0,2}$" }
            ]
        })
    }
}
