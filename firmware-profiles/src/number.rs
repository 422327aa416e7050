//! Numbers as files write them: whole ones of 64 bits are kept as such.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Doubles hold whole numbers up to here exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A number of a file; never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole one.
    Whole(i64),
    /// Any other, or a great one that is shorter as 1e15.
    Real(f64),
}

impl Number {
    /// As a double, the nearest one where no double holds it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest is what is asked for")]
    pub const fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    /// As a whole number, when it is one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "exact, as is asked before")]
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Real(number) if number.trunc() == number && number.abs() <= EXACT_MAX => {
                Some(number as i64)
            }
            Self::Real(_) => None,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number::Whole(number))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "of what is beyond 64 bits with sign the nearest will do"
            )]
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(i64::try_from(number).map_or(Number::Real(number as f64), Number::Whole))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
                if number.is_nan() {
                    return Err(E::invalid_value(de::Unexpected::Float(number), &self));
                }
                Ok(Number::Real(number))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}
