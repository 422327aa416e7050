//! Modbus: where points stand, which requests read them, and what the answers say.
//!
//! Nothing here speaks to a device: a source asks what [`Plan`] says and hands on what came.
//!
//! ```text
//! Plan::of(profile) ─► groups ─► requests ──(the source)──► words ─► Plan::decode ─► values
//! ```

mod plan;
mod words;

use std::fmt;

use tideline_protocol::value::Value;

use crate::Profile;
use crate::conversion::{Conversion, EncodeError, Raw, Reason};
use crate::encoding::Encoding;
pub use crate::form::protocol::{BITS_MAX, Function, Order, REGISTERS_MAX};
use crate::point::{Place, Point};
use crate::sunspec::ModelAt;

pub(crate) use self::plan::Limits;
pub use self::plan::{Decoded, Group, Plan, PlanError, Request, Scales};

/// Greatest power of ten of a scale, either way.
const POWER_MAX: u16 = 10;

/// A number, a text or a truth value in registers, or a coil or an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// What it is of.
    pub function: Function,
    /// The first register or bit, counted from 0 as in requests.
    pub start: u16,
    /// How it is written.
    pub encoding: Encoding,
    /// The order of the bytes of a register.
    pub byte_order: Order,
    /// The order of the registers.
    pub word_order: Order,
    /// The register of the same function that has the power of ten, a whole number with sign.
    pub power: Option<u16>,
}

impl Register {
    /// How many registers or bits it takes.
    #[must_use]
    pub fn count(&self) -> u16 {
        if self.function.is_bits() { 1 } else { self.encoding.registers().unwrap_or(1) }
    }

    /// What stands in these words.
    ///
    /// # Errors
    /// They are no such number or text.
    pub fn raw(&self, words: &[u16]) -> Result<Raw, Reason> {
        words::raw(self, words)
    }

    /// Of each of its words, the bits that are meant. None when all are.
    fn mask(&self, conversion: &Conversion) -> Option<Vec<u16>> {
        let bits = conversion.mask.unwrap_or(u64::MAX << conversion.shift.min(63));
        conversion.is_masked().then(|| words::masks(self, bits))
    }

    /// The words of what stands there. None when it does not fit.
    #[must_use]
    pub fn words(&self, raw: &Raw) -> Option<Vec<u16>> {
        words::words(self, raw)
    }
}

/// A text is no address of Modbus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address; allowed are input:N, holding:N, coil:N, discrete:N, with N from 0 to 65535 or 0xFFFF"
)]
pub struct WrongAddress(String);

/// Takes an address apart; one that is just a number is of `function`.
///
/// # Errors
/// It is none.
pub fn address(text: &str, function: Function) -> Result<(Function, u16), WrongAddress> {
    let wrong = || WrongAddress(text.chars().take(40).collect());
    let (function, number) = match text.split_once(':') {
        Some((name, number)) => {
            let found = Function::ALL.into_iter().find(|function| function.as_str() == name);
            (found.ok_or_else(wrong)?, number)
        }
        None => (function, text),
    };
    let digits = number.chars().next().is_some_and(|first| first.is_ascii_digit());
    let start = match number.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u16::from_str_radix(hex, 16).ok(),
        None if digits => number.parse().ok(),
        _ => None,
    };
    Ok((function, start.ok_or_else(wrong)?))
}

/// What a device has to be told, or what a simulated one answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What it is of.
    pub function: Function,
    /// The first register or bit.
    pub start: u16,
    /// Its registers; a bit as 0 or 1.
    pub words: Vec<u16>,
    /// Of each register, the bits that are meant.
    pub mask: Vec<u16>,
}

impl Encoded {
    /// Whether other points stand in the same registers, so that these have to be put together first.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.mask.iter().any(|mask| *mask != u16::MAX)
    }

    /// The registers when they held this before: all bits that are not meant stay.
    #[must_use]
    pub fn laid_over(&self, held: &[u16]) -> Vec<u16> {
        let meant = self.words.iter().zip(&self.mask);
        meant.zip(held).map(|((word, mask), held)| held & !mask | word & mask).collect()
    }
}

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} =", self.function.as_str(), self.start)?;
        self.words.iter().try_for_each(|word| write!(f, " {word:04x}"))
    }
}

/// The words of a value of a point. Null becomes what the device says when it has no value.
///
/// Whether the point may be written is not asked here: a simulated device answers with these as well.
///
/// # Errors
/// The profile has no such point or rules the value out, or no words mean it.
pub fn encode(profile: &Profile, id: &str, value: &Value) -> Result<Encoded, EncodeError> {
    let point = known(profile, id)?;
    let Place::Register(register) = point.place else { return Err(not_modbus(id)) };
    if register.power.is_some() {
        return Err(EncodeError::NotWritable {
            point: id.to_owned(),
            what: "has a scale that only the device knows",
        });
    }
    encode_at(profile, id, point, &register, value, 0)
}

/// The words of a value that is written to a device, where the profile says all that is needed for that.
///
/// # Errors
/// As of [`encode`], or the point is not to be written.
pub fn write(profile: &Profile, id: &str, value: &Value) -> Result<Encoded, EncodeError> {
    let register = written(profile, id, &[])?;
    if register.power.is_some() {
        let what = "has a scale that only the device knows";
        return Err(EncodeError::NotWritable { point: id.to_owned(), what });
    }
    write_at(profile, id, &register, value, 0)
}

/// Where a point stands that is written to; one of SunSpec in the models that the device has.
///
/// # Errors
/// It is not to be written, or stands in none of them.
pub fn written(profile: &Profile, id: &str, models: &[ModelAt]) -> Result<Register, EncodeError> {
    let not = |what| Err(EncodeError::NotWritable { point: id.to_owned(), what });
    let point = known(profile, id)?;
    if !point.access.writes() {
        return not("is not writable by the profile");
    }
    let register = match &point.place {
        Place::Register(register) => *register,
        Place::Model(place) => match place.one(id, models) {
            Some(register) => register,
            None => return not("stands in no model that the device has"),
        },
        _ => return Err(not_modbus(id)),
    };
    if register.function.writes() { Ok(register) } else { not("stands in inputs, which cannot be written") }
}

/// The words of a value that is written to this register, of which ten to the power is what the device says.
///
/// # Errors
/// The profile rules the value out, no words mean it, or those that would mean that there is none.
pub fn write_at(
    profile: &Profile,
    id: &str,
    register: &Register,
    value: &Value,
    power: i16,
) -> Result<Encoded, EncodeError> {
    let no_raw = |what| EncodeError::NoRaw { point: id.to_owned(), value: value.to_string(), what };
    if *value == Value::Null {
        return Err(EncodeError::NotWritable { point: id.to_owned(), what: "cannot be written as null" });
    }
    if power.unsigned_abs() > POWER_MAX {
        return Err(no_raw("the device has no scale factor for it"));
    }
    let point = known(profile, id)?;
    let encoded = encode_at(profile, id, point, register, value, power)?;
    let raw = register.raw(&encoded.words).map_err(|_| no_raw("no words mean it"))?;
    match point.conversion.value(raw, point.allowed.kind(), power) {
        Err(Reason::Absent) => Err(no_raw("its raw number means that there is no value")),
        _ => Ok(encoded),
    }
}

/// The words of a value in this register, of which ten to the power is known.
pub(crate) fn encode_at(
    profile: &Profile,
    id: &str,
    point: &Point,
    register: &Register,
    value: &Value,
    power: i16,
) -> Result<Encoded, EncodeError> {
    let value = profile.check(id, value.clone())?;
    let no_raw = |what| EncodeError::NoRaw { point: id.to_owned(), value: value.to_string(), what };
    let whole = register.encoding.is_whole();
    let raw = point.conversion.raw(&value, power, whole).map_err(no_raw)?;
    let words = register.words(&raw).ok_or_else(|| no_raw("it does not fit into its registers"))?;
    let all = vec![u16::MAX; words.len()];
    let mask =
        if register.function.is_bits() { all } else { register.mask(&point.conversion).unwrap_or(all) };
    Ok(Encoded { function: register.function, start: register.start, words, mask })
}

fn known<'p>(profile: &'p Profile, id: &str) -> Result<&'p Point, EncodeError> {
    let unknown = || EncodeError::Unknown { point: id.to_owned(), profile: profile.name().to_owned() };
    profile.point(id).ok_or_else(unknown)
}

fn not_modbus(id: &str) -> EncodeError {
    EncodeError::NotWritable { point: id.to_owned(), what: "stands in no register by the profile" }
}

#[cfg(test)]
mod tests;
