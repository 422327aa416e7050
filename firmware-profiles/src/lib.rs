//! Firmware profiles: what the agent needs to know of a device family.
//!
//! A profile is data (`<family>/profile.toml`): points with a type and what is allowed of it. This crate parses it
//! and judges values by it; it must never let a value pass that the profile rules out.
//!
//! ```toml
//! name = "pump"
//!
//! [points]
//! flow = { unit = "l/s", min = 0, max = 90.5, name = "Flow" }      # a float, unless it says otherwise
//! starts = { type = "int", unit = "1", min = 0, max = 1_000_000 }
//! running = { type = "bool", name = "Running" }
//! state = { type = "text", values = ["off", "on", "fault"] }       # of these only
//! firmware = { type = "text", bytes_max = 40 }                     # at most 4096
//! "valve/*" = { unit = "%", min = 0, max = 100, name = "Valve *" } # all below it; `*` is what follows
//! ```

mod read;

use std::collections::BTreeMap;

use tideline_protocol::model::{DeviceId, NAME_BYTES_MAX, PointId, SeriesDef};
use tideline_protocol::value::{VALUE_TEXT_BYTES_MAX, Value, ValueKind};

/// The profile of a Linux host's own metrics.
pub const LINUX_HOST: &str = include_str!("../linux-host/profile.toml");

/// Doubles hold integers of less than this exactly.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

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

/// One point of a device family. A name that ends in `/*` stands for all points below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The unit as a UCUM code; empty when it has none.
    pub unit: String,
    /// The name for people, in which `*` stands for what the point's id has in its place; empty when it has none.
    pub name: String,
    /// What is allowed of its values.
    pub allowed: Allowed,
}

/// A device family.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    name: String,
    points: BTreeMap<String, Point>,
}

/// Why a profile is not taken: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ProfileError {
    /// One line each, with the line of the file.
    pub problems: Vec<String>,
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

impl Profile {
    /// Parses a profile; `file` names it in errors.
    ///
    /// # Errors
    /// All problems at once, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let (name, points) = read::profile(file, text)?;
        Ok(Self { name, points })
    }

    /// The profile of a Linux host.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub fn linux_host() -> Result<Self, ProfileError> {
        Self::parse("linux-host/profile.toml", LINUX_HOST)
    }

    /// The point of that name, or the family of points that it belongs to.
    #[must_use]
    pub fn point(&self, name: &str) -> Option<&Point> {
        self.points.get(name).or_else(|| {
            let family = name.split_once('/').map(|(family, _)| format!("{family}/*"))?;
            self.points.get(&family)
        })
    }

    /// The unit of a point; empty when unknown.
    #[must_use]
    pub fn unit(&self, name: &str) -> &str {
        self.point(name).map_or("", |point| &point.unit)
    }

    /// A series of this point of a device, with its unit, its kind and its name for people.
    #[must_use]
    pub fn series(&self, device: DeviceId, id: PointId) -> SeriesDef {
        let Some(point) = self.point(id.as_str()) else {
            return SeriesDef::new(device, id, String::new());
        };
        let rest = id.as_str().split_once('/').map_or("", |(_, rest)| rest);
        let name = point.name.replacen('*', rest, 1);
        // Its parts are not too long by themselves; cut between characters it still says what it is.
        let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
        let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
        SeriesDef::new(device, id, point.unit.clone()).of_kind(point.allowed.kind()).named(name)
    }

    /// Judges a value, and gives it as one of the point's type. Null is allowed of every point.
    ///
    /// # Errors
    /// It is not finite, out of range, of another type, or of a point that the profile lacks.
    pub fn check(&self, name: &str, value: Value) -> Result<Value, RejectedValue> {
        match self.point(name) {
            Some(point) => self.judge(name, point, value),
            None => Err(RejectedValue::Unknown { point: name.to_owned(), profile: self.name.clone() }),
        }
    }

    fn judge(&self, name: &str, point: &Point, value: Value) -> Result<Value, RejectedValue> {
        if let Value::Float(number) = value
            && !number.is_finite()
        {
            return Err(RejectedValue::NotFinite { point: name.to_owned(), value: number });
        }
        let Some(found) = value.kind() else { return Ok(value) };
        let Some(value) = as_kind(&value, point.allowed.kind()) else {
            let (value, allowed) = (short(&value.to_string()), takes(point.allowed.kind()));
            let (point, profile) = (name.to_owned(), self.name.clone());
            return Err(RejectedValue::OtherType { point, value, found, profile, allowed });
        };
        let (id, profile) = (|| name.to_owned(), || self.name.clone());
        let out_of_range = |range| RejectedValue::OutOfRange {
            point: id(),
            value: value.to_string(),
            unit: point.unit.clone(),
            profile: profile(),
            range,
        };
        match (&point.allowed, &value) {
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
    let rows = Profile { name: "rows".into(), points: BTreeMap::new() };
    let point = Point { unit: String::new(), name: String::new(), allowed: Allowed::all(kind) };
    rows.judge(name, &point, value)
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

#[cfg(test)]
mod tests;
