//! What is allowed of a point's values, and how values are judged by it.

use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, Value, ValueKind};

/// Doubles hold integers of less than this exactly.
pub(crate) const INT_END: f64 = 9_223_372_036_854_775_808.0;

/// What is allowed of a point's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Allowed {
    /// Doubles in this range; an integer counts as one when a double holds it.
    Float {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// Integers in this range; a double counts as one when it is whole.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Truth values; the numbers 0 and 1 count as such.
    Bool,
    /// Texts.
    Text {
        /// These only; any when there are none.
        values: Vec<String>,
        /// Most bytes of UTF-8.
        bytes_max: usize,
    },
}

impl Allowed {
    /// All values of a kind.
    #[must_use]
    pub const fn all(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Float => Self::Float { min: f64::MIN, max: f64::MAX },
            ValueKind::Int => Self::Int { min: i64::MIN, max: i64::MAX },
            ValueKind::Bool => Self::Bool,
            ValueKind::Text => Self::Text { values: Vec::new(), bytes_max: VALUE_TEXT_BYTES_MAX },
        }
    }

    /// Of which kind they are.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::Float { .. } => ValueKind::Float,
            Self::Int { .. } => ValueKind::Int,
            Self::Bool => ValueKind::Bool,
            Self::Text { .. } => ValueKind::Text,
        }
    }
}

/// Why a value is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RejectedValue {
    /// Infinite or not a number.
    #[error("{point} is {value}; only finite numbers are allowed")]
    NotFinite {
        /// The point.
        point: String,
        /// The value.
        value: f64,
    },
    /// Out of the range that the profile allows.
    #[error("{point} is {value} {unit}; profile {profile} allows {range}")]
    OutOfRange {
        /// The point.
        point: String,
        /// The value.
        value: String,
        /// Its unit.
        unit: String,
        /// Which profile.
        profile: String,
        /// What it allows.
        range: String,
    },
    /// Of another type than the point's values.
    #[error("{point} is {value:?}, of type {found}; profile {profile} allows {allowed}")]
    OtherType {
        /// The point.
        point: String,
        /// The value, cut when it is long.
        value: String,
        /// Its type.
        found: ValueKind,
        /// Which profile.
        profile: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A text of too many bytes.
    #[error("{point} is a text of {found} bytes; profile {profile} allows {max}")]
    TooLong {
        /// The point.
        point: String,
        /// How many.
        found: usize,
        /// Which profile.
        profile: String,
        /// How many are allowed.
        max: usize,
    },
    /// A text that is none of those that the profile lists.
    #[error("{point} is {value:?}; profile {profile} allows {}", allowed.join(", "))]
    NotListed {
        /// The point.
        point: String,
        /// The text, cut when it is long.
        value: String,
        /// Which profile.
        profile: String,
        /// Those that it lists.
        allowed: Vec<String>,
    },
    /// The profile has no such point.
    #[error("profile {profile} has no point {point}")]
    Unknown {
        /// The point.
        point: String,
        /// Which profile.
        profile: String,
    },
}

/// Whose value is judged, for what is said of it.
pub(crate) struct Whose<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The point's id.
    pub point: &'a str,
    /// The point's unit.
    pub unit: &'a str,
}

impl Allowed {
    /// Judges a value, and gives it as one of this kind.
    pub(crate) fn judge(&self, whose: &Whose<'_>, value: Value) -> Result<Value, RejectedValue> {
        if let Value::Float(number) = value
            && !number.is_finite()
        {
            return Err(RejectedValue::NotFinite { point: whose.point.to_owned(), value: number });
        }
        let Some(found) = value.kind() else { return Ok(value) };
        let Some(value) = as_kind(&value, self.kind()) else {
            let (value, allowed) = (short(&value.to_string()), takes(self.kind()));
            let (point, profile) = (whose.point.to_owned(), whose.profile.to_owned());
            return Err(RejectedValue::OtherType { point, value, found, profile, allowed });
        };
        let (id, profile) = (|| whose.point.to_owned(), || whose.profile.to_owned());
        let out_of_range = |range| RejectedValue::OutOfRange {
            point: id(),
            value: value.to_string(),
            unit: whose.unit.to_owned(),
            profile: profile(),
            range,
        };
        match (self, &value) {
            (Allowed::Float { min, max }, Value::Float(number)) if number < min || number > max => {
                Err(out_of_range(format!("{min} to {max}")))
            }
            (Allowed::Int { min, max }, Value::Int(number)) if number < min || number > max => {
                Err(out_of_range(format!("{min} to {max}")))
            }
            (Allowed::Text { bytes_max, .. }, Value::Text(text)) if text.len() > *bytes_max => {
                Err(RejectedValue::TooLong {
                    point: id(),
                    found: text.len(),
                    profile: profile(),
                    max: *bytes_max,
                })
            }
            (Allowed::Text { values, .. }, Value::Text(text))
                if !values.is_empty() && !values.iter().any(|value| **value == **text) =>
            {
                let (value, allowed) = (short(text), values.clone());
                Err(RejectedValue::NotListed { point: id(), value, profile: profile(), allowed })
            }
            _ => Ok(value),
        }
    }
}
/// Judges a value of a row that no profile knows: any of this kind is allowed.
///
/// # Errors
/// It is not finite, too long, or of another type.
pub fn check_kind(name: &str, kind: ValueKind, value: Value) -> Result<Value, RejectedValue> {
    Allowed::all(kind).judge(&Whose { profile: "rows", point: name, unit: "" }, value)
}

/// The value as one of this kind, when it is the same.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "exact, as is asked before")]
fn as_kind(value: &Value, kind: ValueKind) -> Option<Value> {
    Some(match (kind, value) {
        (ValueKind::Float, Value::Int(int)) => {
            let number = *int as f64;
            return (number < INT_END && number as i64 == *int).then_some(Value::Float(number));
        }
        (ValueKind::Int, Value::Float(number)) => {
            let is_whole = number.trunc() == *number && (-INT_END..INT_END).contains(number);
            return is_whole.then_some(Value::Int(*number as i64));
        }
        (ValueKind::Bool, Value::Int(int @ (0 | 1))) => Value::Bool(*int == 1),
        (ValueKind::Bool, Value::Float(number)) if *number == 0.0 || *number == 1.0 => {
            Value::Bool(*number == 1.0)
        }
        (_, same) => return (same.kind() == Some(kind)).then(|| same.clone()),
    })
}

const fn takes(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Float => "numbers that a double holds",
        ValueKind::Int => "whole numbers of 64 bits",
        ValueKind::Bool => "true, false, 1 and 0",
        ValueKind::Text => "texts",
    }
}

/// As much of a text as a message has room for.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    text.chars().take(CHARS_MAX).collect()
}
