//! How what stands in a device becomes a value, and back.

use std::collections::BTreeMap;

use tideline_protocol::value::{Value, ValueKind};

use crate::allowed::RejectedValue;
use crate::encoding::Encoding;
use crate::number::Number;

/// What the text of a bit field is when no bit is set.
pub const NO_BIT: &str = "none";

/// What stands in a device, before it is scaled.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// A whole number of up to 64 bits, with or without sign.
    Whole(i128),
    /// A double.
    Real(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    /// The device says that it has none.
    #[error("the device has no value for it")]
    Absent,
    /// Infinite or not a number.
    #[error("is {0}; only finite numbers are allowed")]
    NotFinite(f64),
    /// A digit of BCD above 9.
    #[error("has digits above 9; it is no BCD")]
    Digits,
    /// A text that is no UTF-8.
    #[error("is no UTF-8")]
    NotText,
    /// A raw number or text that the profile has no name for.
    #[error("{0} has no name in the profile")]
    Unnamed(String),
    /// The profile rules the value out.
    #[error("{0}")]
    Rejected(Box<RejectedValue>),
    /// The answer has not the length that was asked for.
    #[error("the answer has {found} of {expected} registers")]
    Length {
        /// As asked for.
        expected: usize,
        /// As it came.
        found: usize,
    },
    /// Of another type than the point's, in a message.
    #[error("is {0}")]
    OtherType(String),
    /// Its scale factor is not known.
    #[error("its scale factor was not read")]
    Unscaled,
    /// A scale that is no power of ten from -10 to 10.
    #[error("its scale factor {0} is none; allowed are -10 to 10")]
    Scale(i16),
}

/// A reading that has no value: null of bad quality takes its place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason} (raw {raw})")]
pub struct BadValue {
    /// Why.
    pub reason: Reason,
    /// What came, as text and cut when it is long: registers in hex, or a part of the message.
    pub raw: String,
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The profile has no such point.
    #[error("profile {profile} has no point {point}")]
    Unknown {
        /// The point.
        point: String,
        /// Which profile.
        profile: String,
    },
    /// It is not of this protocol, or cannot be written.
    #[error("{point} {what}")]
    NotWritable {
        /// The point.
        point: String,
        /// What is the matter with it.
        what: &'static str,
    },
    /// The profile rules the value out.
    #[error("{0}")]
    Rejected(#[from] RejectedValue),
    /// There is no raw number or text for it.
    #[error("{point} is {value}; {what}")]
    NoRaw {
        /// The point.
        point: String,
        /// The value.
        value: String,
        /// What is the matter with it.
        what: &'static str,
    },
}

/// How what stands in a device becomes a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// How it is written, where the profile says it.
    pub encoding: Option<Encoding>,
    /// The bits that are meant.
    pub mask: Option<u64>,
    /// By how many bits they are moved down.
    pub shift: u8,
    /// How many bits the raw number has.
    pub width: u8,
    /// What it is multiplied with.
    pub scale: f64,
    /// What is added after that.
    pub offset: f64,
    /// Texts for raw numbers.
    pub names: BTreeMap<String, String>,
    /// Names for bits.
    pub bits: BTreeMap<u8, String>,
    /// Raw numbers that mean that there is no value.
    pub invalid: Vec<Number>,
}

impl Default for Conversion {
    fn default() -> Self {
        Self {
            encoding: None,
            mask: None,
            shift: 0,
            width: 64,
            scale: 1.0,
            offset: 0.0,
            names: BTreeMap::new(),
            bits: BTreeMap::new(),
            invalid: Vec::new(),
        }
    }
}

impl Conversion {
    /// The value, before the profile's limits are looked at. `power` is that of ten that the device tells.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, raw: Raw, kind: ValueKind, power: i16) -> Result<Value, Reason> {
        if self.is_invalid(&raw) {
            return Err(Reason::Absent);
        }
        let raw = match raw {
            Raw::Whole(whole) if self.is_masked() => Raw::Whole(self.masked(whole)),
            raw => raw,
        };
        if !self.names.is_empty() {
            let text = match &raw {
                Raw::Whole(whole) => whole.to_string(),
                Raw::Real(real) => real.to_string(),
                Raw::Bool(yes) => yes.to_string(),
                Raw::Text(text) => text.clone(),
            };
            let named = self.names.get(&text);
            return named.map(|name| named_value(name, kind)).ok_or(Reason::Unnamed(short(&text)));
        }
        match raw {
            Raw::Whole(whole) if !self.bits.is_empty() => Ok(Value::Text(self.bit_names(whole).into())),
            Raw::Whole(whole) if kind == ValueKind::Bool && self.is_masked() => Ok(Value::Bool(whole != 0)),
            Raw::Whole(whole) if self.is_plain(power) => Ok(whole_value(whole)),
            #[expect(clippy::cast_precision_loss, reason = "what is scaled is a double")]
            Raw::Whole(whole) => self.linear(whole as f64, power),
            Raw::Real(real) => self.linear(real, power),
            Raw::Bool(yes) => Ok(Value::Bool(yes)),
            Raw::Text(text) => Ok(Value::Text(text.into())),
        }
    }

    /// What stands in a device that has this value; null is the first of what is invalid.
    ///
    /// # Errors
    /// There is nothing that means it.
    pub fn raw(&self, value: &Value, power: i16, whole: bool) -> Result<Raw, &'static str> {
        if let Some(name) = name_of(value)
            && !self.names.is_empty()
        {
            let found = self.names.iter().find(|(_, known)| **known == name);
            let (raw, _) = found.ok_or("the profile has no raw number for it")?;
            return raw.parse().map_or_else(|_| Ok(Raw::Text(raw.clone())), |raw| self.placed(raw));
        }
        match value {
            Value::Null => match self.invalid.first() {
                Some(Number::Whole(raw)) => Ok(Raw::Whole(i128::from(*raw))),
                Some(Number::Real(raw)) => Ok(Raw::Real(*raw)),
                None => Err("the profile has no raw number for null"),
            },
            Value::Text(text) if !self.bits.is_empty() => self.bits_of(text),
            Value::Text(text) => Ok(Raw::Text(text.to_string())),
            Value::Bool(yes) => {
                let set = self.mask.map_or_else(|| 1 << self.shift.min(63), i128::from);
                Ok(Raw::Whole(if *yes { set } else { 0 }))
            }
            Value::Int(int) if self.is_plain(power) => self.placed(i128::from(*int)),
            #[expect(clippy::cast_precision_loss, reason = "what is scaled is a double")]
            Value::Int(int) => self.inverse(*int as f64, power, whole),
            Value::Float(float) => self.inverse(*float, power, whole),
        }
    }

    /// Whether only some bits are meant, so that others have to be left alone.
    #[must_use]
    pub const fn is_masked(&self) -> bool {
        self.mask.is_some() || self.shift > 0
    }

    #[expect(clippy::float_cmp, reason = "as it was written")]
    fn is_plain(&self, power: i16) -> bool {
        self.scale == 1.0 && self.offset == 0.0 && power == 0
    }

    fn is_invalid(&self, raw: &Raw) -> bool {
        self.invalid.iter().any(|invalid| match (raw, invalid) {
            (Raw::Whole(raw), Number::Whole(invalid)) => *raw == i128::from(*invalid),
            // A great one without sign is written as a double.
            #[expect(
                clippy::cast_precision_loss,
                clippy::float_cmp,
                reason = "the nearest is what was written"
            )]
            (Raw::Whole(raw), Number::Real(invalid)) => *raw as f64 == *invalid,
            #[expect(clippy::float_cmp, reason = "as it was written")]
            (Raw::Real(raw), invalid) => *raw == invalid.float(),
            (Raw::Bool(_) | Raw::Text(_), _) => false,
        })
    }

    fn masked(&self, whole: i128) -> i128 {
        let bits = whole & ((1 << self.width.min(64)) - 1);
        (bits & self.mask.map_or(i128::MAX, i128::from)) >> self.shift.min(63)
    }

    fn placed(&self, whole: i128) -> Result<Raw, &'static str> {
        let placed = whole << self.shift.min(63);
        let others = self.mask.map_or(0, |mask| placed & !i128::from(mask));
        if others == 0 { Ok(Raw::Whole(placed)) } else { Err("it does not fit into its bits") }
    }

    fn linear(&self, raw: f64, power: i16) -> Result<Value, Reason> {
        let scaled = times(raw, self.scale);
        let value = ten(scaled, power).ok_or(Reason::Scale(power))? + self.offset;
        if value.is_finite() { Ok(Value::Float(value)) } else { Err(Reason::NotFinite(value)) }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "it saturates, and what is too great is refused after"
    )]
    fn inverse(&self, value: f64, power: i16, whole: bool) -> Result<Raw, &'static str> {
        let raw = ten((value - self.offset) / self.scale, power.saturating_neg()).unwrap_or(f64::NAN);
        if whole { self.placed(raw.round() as i128) } else { Ok(Raw::Real(raw)) }
    }

    fn bit_names(&self, whole: i128) -> String {
        let set = self.bits.iter().filter(|(bit, _)| whole >> **bit & 1 == 1);
        let names: Vec<&str> = set.map(|(_, name)| name.as_str()).collect();
        if names.is_empty() { NO_BIT.to_owned() } else { names.join(", ") }
    }

    fn bits_of(&self, text: &str) -> Result<Raw, &'static str> {
        let mut whole = 0;
        for name in text.split(", ").filter(|name| *name != NO_BIT) {
            let found = self.bits.iter().find(|(_, known)| *known == name);
            whole |= 1 << found.ok_or("the profile has no such bit")?.0;
        }
        self.placed(whole)
    }
}

/// A product. Times 0.1 is by 10 in decimals: 234 is 23.4 and not 23.400000000000002.
#[expect(clippy::float_cmp, reason = "only what is exactly the inverse is divided by")]
fn times(raw: f64, scale: f64) -> f64 {
    let inverse = (1.0 / scale).round();
    if 1.0 / inverse == scale { raw / inverse } else { raw * scale }
}

/// A number moved by decimal places. None beyond what SunSpec knows.
fn ten(number: f64, power: i16) -> Option<f64> {
    const POWERS_MAX: i16 = 10;
    if power.unsigned_abs() > POWERS_MAX.unsigned_abs() {
        return None;
    }
    let factor = 10_f64.powi(i32::from(power.abs()));
    Some(if power < 0 { number / factor } else { number * factor })
}

#[expect(clippy::cast_precision_loss, reason = "what no integer of 64 bits with sign holds is a double")]
fn whole_value(whole: i128) -> Value {
    i64::try_from(whole).map_or(Value::Float(whole as f64), Value::Int)
}

/// What a name stands for: it is read as a value of the point's type.
fn named_value(name: &str, kind: ValueKind) -> Value {
    let value = match kind {
        ValueKind::Bool => name.parse().ok().map(Value::Bool),
        ValueKind::Int => name.parse().ok().map(Value::Int),
        ValueKind::Float => name.parse().ok().map(Value::Float),
        ValueKind::Text => None,
    };
    value.unwrap_or_else(|| Value::Text(name.into()))
}

fn name_of(value: &Value) -> Option<String> {
    if *value == Value::Null { None } else { Some(value.to_string()) }
}

/// As much of a text as a message has room for.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
