//! How a device's family is known: what is read of it, and whether that is as the profile says.
//!
//! Nothing here speaks to a device: who does reads what [`Signs`] says and hands on what came.

use tideline_protocol::value::Value;

use crate::Profile;
use crate::conversion::Raw;
use crate::encoding::Encoding;
use crate::form::protocol::{Protocol, SunSpecTable};
use crate::form::section::Detect;
use crate::modbus::{self, Register, Request};
use crate::sunspec::{self, ModelAt};

/// What tells a family among devices that are read by registers.
#[derive(Debug, Clone, PartialEq)]
pub enum Signs {
    /// Registers that have to be there, with values that have to be right.
    Registers(Vec<Sign>),
    /// Models that have to be there: one of each of these.
    Models(SunSpecTable, Vec<Vec<u16>>),
}

/// A register that tells a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Sign {
    register: Register,
    detect: Detect,
}

impl Signs {
    /// What tells a device of this profile; none when the profile does not say, or its protocol has no registers.
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Self> {
        let rules = &profile.identity().detect;
        let found = match profile.protocol() {
            Protocol::Modbus(table) => Self::Registers(
                rules
                    .iter()
                    .map(|detect| {
                        let (function, start) = modbus::address(&detect.address, table.function).ok()?;
                        let encoding = detect.encoding.unwrap_or(Encoding::U16);
                        let (byte_order, word_order) = (table.byte_order, table.word_order);
                        let register =
                            Register { function, start, encoding, byte_order, word_order, power: None };
                        Some(Sign { register, detect: detect.clone() })
                    })
                    .collect::<Option<_>>()?,
            ),
            Protocol::SunSpec(table) => {
                let models = rules.iter().map(|detect| Some(sunspec::address(&detect.address).ok()?.0));
                Self::Models(table.clone(), models.collect::<Option<_>>()?)
            }
            _ => return None,
        };
        (found.count() > 0).then_some(found)
    }

    /// How many there are: of two families that a device may be of, the one with more is the nearer.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Registers(signs) => signs.len(),
            Self::Models(_, models) => models.len(),
        }
    }
}

impl Sign {
    /// What is to be read.
    #[must_use]
    pub fn request(&self) -> Request {
        Request::plain(self.register.function, self.register.start, self.register.count())
    }

    /// Whether these words are those of such a device.
    #[must_use]
    pub fn holds(&self, words: &[u16]) -> bool {
        let Ok(raw) = self.register.raw(words) else { return false };
        let Detect { values, min, max, .. } = &self.detect;
        let number = number(&raw);
        let is_listed = values.is_empty() || values.iter().any(|value| is_same(&value.value(), &raw));
        let is_within = |number: f64| {
            min.is_none_or(|min| number >= min.float()) && max.is_none_or(|max| number <= max.float())
        };
        let is_in_range = (min.is_none() && max.is_none()) || number.is_some_and(is_within);
        is_listed && is_in_range
    }
}

/// Whether a device with these models has one of each of those.
#[must_use]
pub fn has_models(found: &[ModelAt], wanted: &[Vec<u16>]) -> bool {
    wanted.iter().all(|ids| found.iter().any(|model| ids.contains(&model.id)))
}

#[expect(clippy::cast_precision_loss, reason = "limits are doubles: what none holds is beside them anyway")]
fn number(raw: &Raw) -> Option<f64> {
    match raw {
        Raw::Whole(whole) => Some(*whole as f64),
        Raw::Real(real) => Some(*real),
        Raw::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Raw::Text(_) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "as of number")]
fn is_same(listed: &Value, raw: &Raw) -> bool {
    match (listed, raw) {
        (Value::Text(listed), Raw::Text(text)) => **listed == **text,
        (Value::Bool(listed), raw) => number(raw) == Some(f64::from(u8::from(*listed))),
        (Value::Int(listed), Raw::Whole(whole)) => i128::from(*listed) == *whole,
        (Value::Int(listed), raw) => number(raw) == Some(*listed as f64),
        (Value::Float(listed), raw) => number(raw) == Some(*listed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    const FILE: &str = "name = \"drive\"\n[modbus]\nfunction = \"holding\"\n\
        [[identity.detect]]\naddress = \"7\"\nvalues = [17, 18]\n\
        [[identity.detect]]\naddress = \"input:0\"\nencoding = \"f32\"\nmin = 45\nmax = 66\n\
        [[identity.detect]]\naddress = \"coil:3\"\n[points]\n";

    #[test]
    fn registers_have_to_be_there_and_right() {
        let profile = Profile::parse("drive.toml", FILE).unwrap();
        let Some(Signs::Registers(signs)) = Signs::of(&profile) else { panic!("it has signs") };
        let [code, frequency, coil] = signs.as_slice() else { panic!("there are three") };
        assert_eq!((code.request().start, code.request().count, frequency.request().count), (7, 1, 2));
        assert!(code.holds(&[17]) && code.holds(&[18]) && !code.holds(&[19]));
        let words = |number: f32| {
            let [a, b, c, d] = number.to_be_bytes();
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        assert!(frequency.holds(&words(50.0)) && !frequency.holds(&words(44.0)));
        assert!(!frequency.holds(&words(f32::NAN)) && !frequency.holds(&[]));
        assert!(coil.holds(&[0]) && coil.holds(&[1]));
    }

    #[test]
    fn families_that_ship_and_have_registers_can_be_told_apart() {
        let count =
            |name: &str| Signs::of(&shipped::named(name).unwrap().profile().unwrap()).map(|s| s.count());
        assert_eq!(count("eastron-sdm120"), Some(1));
        assert_eq!(count("eastron-sdm630"), Some(2), "the second is what the smaller one does not have");
        assert_eq!(count("sunspec-inverter"), Some(1));
        assert_eq!((count("modbus-template"), count("tasmota-plug")), (None, None));
    }

    #[test]
    fn models_are_one_of_each() {
        let model = |id| ModelAt { id, start: 0, length: 0, blocks: None };
        assert!(has_models(&[model(1), model(103)], &[vec![101, 102, 103]]));
        assert!(!has_models(&[model(1), model(113)], &[vec![101, 102, 103]]));
    }
}
