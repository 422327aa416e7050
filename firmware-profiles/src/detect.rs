//! How a device's family is known: what is read of it, and whether that is as the profile says.
//!
//! Nothing here speaks to a device: who does reads what [`Signs`] says and hands on what came.

use tideline_protocol::value::Value;

use crate::Profile;
use crate::conversion::Raw;
use crate::encoding::Encoding;
use crate::form::protocol::{Protocol, SunSpecTable};
use crate::form::section::Detect;
use crate::json::{self, DEVICE, Pointer};
use crate::modbus::{self, Register, Request};
use crate::point::Place;
use crate::sunspec::{self, ModelAt};

/// What tells a family among devices of its protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Signs {
    /// Registers that have to be there, with values that have to be right.
    Registers(Vec<Sign>),
    /// Models that have to be there: one of each of these.
    Models(SunSpecTable, Vec<Vec<u16>>),
    /// What has to stand in messages, or in resources.
    Messages(Vec<Said>),
}

/// A register that tells a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Sign {
    register: Register,
    detect: Detect,
}

/// What a message, or a resource, has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    topic: String,
    pointer: Option<Pointer>,
    detect: Detect,
}

impl Signs {
    /// What tells a device of this profile; none when the profile does not say, or its protocol is not searched.
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
            Protocol::Mqtt(table) => Self::Messages(said(rules, &table.root)?),
            Protocol::Coap(table) => Self::Messages(said(rules, &table.root)?),
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
            Self::Messages(said) => said.len(),
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
        self.register.raw(words).is_ok_and(|raw| is_right(&self.detect, &raw))
    }
}

impl Said {
    /// Where it stands: a topic or a path, in which `{device}` stands for the device.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The name of the device whose message shows it; an empty one where topics name none.
    #[must_use]
    pub fn shown<'t>(&self, topic: &'t str, payload: &[u8]) -> Option<&'t str> {
        let device = match self.topic.split_once(DEVICE) {
            None => (self.topic == topic).then_some("")?,
            Some((before, after)) => {
                let device = topic.strip_prefix(before)?.strip_suffix(after)?;
                (!device.is_empty() && !device.contains('/')).then_some(device)?
            }
        };
        let raw = json::found(payload, self.pointer.as_ref())?;
        is_right(&self.detect, &raw).then_some(device)
    }
}

/// The rules of messages; none when one of them cannot be meant.
fn said(rules: &[Detect], root: &str) -> Option<Vec<Said>> {
    let of = |detect: &Detect| match json::place(&detect.address, root) {
        Ok(Place::Message { topic, pointer }) => Some(Said { topic, pointer, detect: detect.clone() }),
        _ => None,
    };
    rules.iter().map(of).collect()
}

/// Whether what stands there is as a rule wants it.
fn is_right(detect: &Detect, raw: &Raw) -> bool {
    let Detect { values, min, max, .. } = detect;
    let is_listed = values.is_empty() || values.iter().any(|value| is_same(&value.value(), raw));
    let is_within = |number: f64| {
        min.is_none_or(|min| number >= min.float()) && max.is_none_or(|max| number <= max.float())
    };
    let is_in_range = (min.is_none() && max.is_none()) || number(raw).is_some_and(is_within);
    is_listed && is_in_range
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
        assert_eq!((count("modbus-template"), count("json-mqtt")), (None, None));
        assert_eq!(
            (count("tasmota-plug"), count("shelly-plus-plug"), count("coap-sensor")),
            (Some(1), Some(2), Some(1))
        );
    }

    #[test]
    fn messages_have_to_say_it_and_name_their_device() {
        let text = "name = \"plug\"\n[mqtt]\nroot = \"home/{device}\"\n[[identity.detect]]\naddress = \"info#/model\"\n\
            values = [\"P7\", \"P8\"]\n[[identity.detect]]\naddress = \"state#/power\"\nmin = 0\nmax = 4000\n[points]\n";
        let profile = Profile::parse("plug.toml", text).unwrap();
        let Some(Signs::Messages(said)) = Signs::of(&profile) else { panic!("it has signs") };
        let [model, power] = said.as_slice() else { panic!("there are two") };
        assert_eq!(model.topic(), "home/{device}/info");
        assert_eq!(model.shown("home/kettle/info", b"{\"model\":\"P8\"}"), Some("kettle"));
        for (topic, payload) in [
            ("home/kettle/info", "{\"model\":\"P9\"}"),
            ("home/kettle/info", "{}"),
            ("home/kettle/info", "no JSON"),
            ("home/a/b/info", "{\"model\":\"P8\"}"),
            ("home//info", "{\"model\":\"P8\"}"),
        ] {
            assert_eq!(model.shown(topic, payload.as_bytes()), None, "{topic} {payload}");
        }
        assert_eq!(power.shown("home/kettle/state", b"{\"power\":230.5}"), Some("kettle"));
        assert_eq!(power.shown("home/kettle/state", b"{\"power\":-1}"), None);
        assert_eq!(power.shown("home/kettle/state", &[0xff]), None);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_told_with_their_line() {
        for (table, address, what) in [
            ("[mqtt]", "a/+#/x", "is no topic"),
            ("[coap]", "a#x", "is no JSON pointer"),
            ("[modbus]", "input:x", "is no address"),
            ("[sunspec]", "x", ""),
            ("[nmea]", "GGA", ""),
            ("[opcua]", "ns=x;i=1", ""),
        ] {
            let text =
                format!("name = \"a\"\n{table}\n[[identity.detect]]\naddress = \"{address}\"\n[points]\n");
            let error = Profile::parse("a.toml", &text).unwrap_err().to_string();
            assert!(
                error.starts_with("a.toml:3: identity.detect: ") && error.contains(what),
                "{table}: {error}"
            );
        }
        let text = "name = \"a\"\n[mqtt]\n[[identity.detect]]\naddress = \"a\"\nmin = 5\nmax = 4\n[points]\n";
        let error = Profile::parse("a.toml", text).unwrap_err().to_string();
        assert!(error.contains("min 5 is above max 4"), "{error}");
    }

    #[test]
    fn models_are_one_of_each() {
        let model = |id| ModelAt { id, start: 0, length: 0, blocks: None };
        assert!(has_models(&[model(1), model(103)], &[vec![101, 102, 103]]));
        assert!(!has_models(&[model(1), model(113)], &[vec![101, 102, 103]]));
    }
}
