//! Samples: what came from a device, and the readings that it means.
//!
//! A sample is a file beside its profile (`<family>/samples/<name>.toml`). With them a profile is tested without the
//! device:
//!
//! ```toml
//! about = "Constructed from the maker's register table: 230.1 V, 50 Hz"
//! constructed = true                    # not recorded from a device
//! bad = ["current/l1"]                  # points that have no value
//!
//! [[came]]
//! registers = "input:0x0000"            # and what stands there from then on
//! hex = "4366 199a"
//!
//! [expected]
//! "voltage/l1" = 230.1
//! ```
//!
//! Of messages `came` has `topic` and `payload`, of sentences `sentence`, of metrics and nodes `name` and `value`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use tideline_protocol::value::{Quality, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::form::protocol::{Function, Protocol};
use crate::form::section::Scalar;
use crate::json;
use crate::modbus::{self, Decoded, Plan, Scales};
use crate::names::Names;
use crate::nmea;
use crate::point::Place;
use crate::read::Reader;
use crate::sunspec::{self, Discovery, Step};
use crate::{Profile, ProfileError, check_kind};

/// Most steps of looking for models: more than a device can have.
const STEPS_MAX: usize = 256;
/// How far a number may be from what is expected, as part of it: what a decimal of a file cannot say.
const TOLERANCE: f64 = 1e-9;

/// A sample, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sample {
    /// What it shows, and where it is from.
    pub about: String,
    /// Whether it was made from documents, not recorded from a device.
    pub constructed: bool,
    /// The firmware of the device, for overlays.
    pub firmware: Option<String>,
    /// The hardware revision of the device, for overlays.
    pub hardware: Option<String>,
    /// What came, in this order.
    pub came: Vec<Came>,
    /// The readings that it means, by point.
    pub expected: BTreeMap<String, Scalar>,
    /// Points of which it says that there is no value.
    pub bad: Vec<String>,
    /// The device that messages name.
    pub device: Option<String>,
    /// The time that messages tell, in ms since 1970.
    pub time_ms: Option<i64>,
}

/// One thing that came.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Came {
    /// The first register, coil or input.
    pub registers: Option<String>,
    /// What stands there from then on, in hex; blanks are left out. Bits are 0000 and 0001.
    pub hex: Option<String>,
    /// The topic or the path.
    pub topic: Option<String>,
    /// The message.
    pub payload: Option<String>,
    /// The sentence, with its checksum.
    pub sentence: Option<String>,
    /// The name of a metric, of a node or of a point.
    pub name: Option<String>,
    /// What it is.
    pub value: Option<Scalar>,
}

/// What a test came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Points that were as expected.
    pub agreed: BTreeSet<String>,
    /// One line for each that was not.
    pub problems: Vec<String>,
}

impl Sample {
    /// Parses a sample; `file` names it in errors.
    ///
    /// # Errors
    /// All problems at once, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let mut reader = Reader::new(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            reader
                .problem(error.span().map_or(0, |span| span.start), &format!("no TOML: {}", error.message()));
        }
        let root = Spanned::new(0..0, DeValue::Table(table.into_inner()));
        let sample = reader.entry::<Self>("sample", &root).map(|entry| entry.form);
        reader.finish(sample)
    }
}

/// Compares what a profile makes of a sample with what is expected.
#[must_use]
pub fn test(profile: &Profile, sample: &Sample) -> Report {
    let mut report = Report::default();
    let of_hardware = profile.for_hardware(sample.hardware.as_deref());
    let profile = match of_hardware.and_then(|profile| profile.for_firmware(sample.firmware.as_deref())) {
        Ok(profile) => profile,
        Err(error) => {
            report.problems.push(error.to_string());
            return report;
        }
    };
    match decode(&profile, sample, &mut report) {
        Ok(decoded) => {
            compare(sample, &decoded, &mut report);
            report.agreed.extend(families(&profile, &report.agreed));
        }
        Err(problem) => report.problems.push(problem),
    }
    report
}

/// The points of blocks, as the profile has them, of which one was as expected.
fn families(profile: &Profile, agreed: &BTreeSet<String>) -> Vec<String> {
    let families = agreed.iter().filter_map(|id| Some(format!("{}/*", id.split_once('/')?.0)));
    families.filter(|id| profile.points().any(|(known, _)| known == id)).collect()
}

/// Each point's last reading.
type Readings = BTreeMap<String, Decoded>;

fn decode(profile: &Profile, sample: &Sample, report: &mut Report) -> Result<Readings, String> {
    let decoded = match profile.protocol() {
        Protocol::Modbus(_) => {
            let plan = Plan::of(profile).map_err(|error| error.to_string())?;
            from_registers(&plan, &memory(sample)?)
        }
        Protocol::SunSpec(table) => {
            let memory = memory(sample)?;
            let found = models(Discovery::new(table), &memory)?;
            let plan = sunspec::plan(profile, &found).map_err(|error| error.to_string())?.plan;
            from_registers(&plan, &memory)
        }
        Protocol::Mqtt(_) | Protocol::Http(_) | Protocol::Coap(_) => messages(profile, sample, report)?,
        Protocol::Nmea(_) => sentences(profile, sample)?,
        Protocol::None | Protocol::Host(_) | Protocol::Sparkplug(_) | Protocol::OpcUa(_) => {
            let names = Names::of(profile);
            let values =
                sample.came.iter().filter_map(|came| Some((came.name.as_deref()?, came.value.as_ref()?)));
            values.filter_map(|(name, value)| names.read(name, &value.value())).collect()
        }
    };
    Ok(decoded.into_iter().map(|decoded| (decoded.point.to_string(), decoded)).collect())
}

fn compare(sample: &Sample, decoded: &Readings, report: &mut Report) {
    for (id, expected) in &sample.expected {
        let expected = expected.value();
        let problem = match decoded.get(id).map(|decoded| &decoded.outcome) {
            None => Some(format!("{id} has no reading; expected is {expected}")),
            Some(Err(bad)) => Some(format!("{id} {bad}; expected is {expected}")),
            Some(Ok((value, Quality::Good))) if is_same(id, value, &expected) => None,
            Some(Ok((value, quality))) => {
                Some(format!("{id} is {value} ({quality}); expected is {expected}"))
            }
        };
        match problem {
            Some(problem) => report.problems.push(problem),
            None => drop(report.agreed.insert(id.clone())),
        }
    }
    for (id, decoded) in decoded {
        match (&decoded.outcome, sample.bad.contains(id)) {
            (Ok((value, _)), true) => report.problems.push(format!("{id} is {value}; expected is no value")),
            (Err(_), true) => drop(report.agreed.insert(id.clone())),
            (Err(bad), false) if !sample.expected.contains_key(id) => {
                report.problems.push(format!("{id} {bad}"))
            }
            _ => {}
        }
    }
    let silent = sample.bad.iter().filter(|id| !decoded.contains_key(*id));
    report.problems.extend(silent.map(|id| format!("{id} has no reading; expected is one without a value")));
}

/// Whether a reading is what is expected, as a value of the point's type.
fn is_same(id: &str, value: &Value, expected: &Value) -> bool {
    let kind = value.kind().unwrap_or_default();
    let expected = check_kind(id, kind, expected.clone()).unwrap_or_else(|_| expected.clone());
    match (value, &expected) {
        (Value::Float(found), Value::Float(expected)) => {
            (found - expected).abs() <= expected.abs() * TOLERANCE
        }
        (found, expected) => found == expected,
    }
}

/// Registers and bits by place.
type Memory = BTreeMap<(Function, u16), u16>;

fn memory(sample: &Sample) -> Result<Memory, String> {
    let mut memory = Memory::new();
    for came in &sample.came {
        let address = came.registers.as_deref().ok_or("came: registers and hex are needed")?;
        let (function, start) = modbus::address(address, Function::Holding)
            .map_err(|error| format!("came.registers: {error}"))?;
        let digits: Vec<char> =
            came.hex.as_deref().unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
        let wrong = || format!("came.hex of {address}: must be registers of four digits in hex each");
        let words: Option<Vec<u16>> = digits.chunks(4).map(word).collect();
        let words = words.filter(|words| !words.is_empty()).ok_or_else(wrong)?;
        for (at, word) in (u32::from(start)..).zip(words) {
            let at = u16::try_from(at)
                .map_err(|_| format!("came.hex of {address}: goes beyond register 65535"))?;
            memory.insert((function, at), word);
        }
    }
    Ok(memory)
}

fn word(digits: &[char]) -> Option<u16> {
    let digits: String = digits.iter().filter(|c| c.is_ascii_hexdigit()).collect();
    if digits.len() == 4 { u16::from_str_radix(&digits, 16).ok() } else { None }
}

fn words(memory: &Memory, function: Function, start: u16, count: u16) -> Option<Vec<u16>> {
    (0..count).map(|at| memory.get(&(function, start.checked_add(at)?)).copied()).collect()
}

fn models(mut discovery: Discovery, memory: &Memory) -> Result<Vec<sunspec::ModelAt>, String> {
    for _ in 0..STEPS_MAX {
        match discovery.poll() {
            Step::Read { start, count } => {
                discovery.handle(words(memory, Function::Holding, start, count).as_deref())
            }
            Step::Done(models) => return Ok(models),
            Step::Failed(error) => return Err(error.to_string()),
        }
    }
    Err("the list of models does not end".to_owned())
}

/// Of a request's points those of which the sample has all registers.
fn from_registers(plan: &Plan, memory: &Memory) -> Vec<Decoded> {
    let (mut out, mut scales) = (Vec::new(), Scales::default());
    for request in plan.groups.iter().flat_map(|group| &group.requests) {
        let at = |at: u16| memory.get(&(request.function, request.start.wrapping_add(at))).copied();
        let all: Vec<u16> = (0..request.count).map(|n| at(n).unwrap_or(0)).collect();
        let given = |register: &modbus::Register| {
            words(memory, register.function, register.start, register.count()).is_some()
                && register.power.is_none_or(|power| memory.contains_key(&(register.function, power)))
        };
        plan.note_scales(request, Some(&all), &mut scales);
        let decoded = plan.decode_scaled(request, &all, &scales).into_iter().zip(request.registers());
        out.extend(decoded.filter(|(_, register)| given(register)).map(|(decoded, _)| decoded));
    }
    out
}

fn messages(profile: &Profile, sample: &Sample, report: &mut Report) -> Result<Vec<Decoded>, String> {
    let mapping = json::Mapping::of(profile).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let mut time_ms = None;
    for came in &sample.came {
        let topic = came.topic.as_deref().unwrap_or_default();
        let payload = came.payload.as_deref().ok_or("came: topic and payload are needed")?;
        let message = mapping.read(topic, payload.as_bytes()).map_err(|error| format!("{topic}: {error}"))?;
        let message = message.ok_or_else(|| format!("{topic}: none of the profile's topics"))?;
        if sample.device.is_some() && message.device != sample.device {
            let (found, expected) =
                (message.device.unwrap_or_default(), sample.device.as_deref().unwrap_or_default());
            report.problems.push(format!("{topic} is of device {found:?}; expected is {expected:?}"));
        }
        report.problems.extend(message.time_problem.map(|problem| format!("{topic}: {problem}")));
        time_ms = message.time_ns.map(|ns| ns.div_euclid(1_000_000)).or(time_ms);
        out.extend(message.readings);
    }
    if time_ms != sample.time_ms {
        let said = |ms: Option<i64>| ms.map_or_else(|| "none".to_owned(), |ms| ms.to_string());
        report.problems.push(format!("the time is {}; expected is {}", said(time_ms), said(sample.time_ms)));
    }
    Ok(out)
}

fn sentences(profile: &Profile, sample: &Sample) -> Result<Vec<Decoded>, String> {
    let mapping = nmea::Mapping::of(profile).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    for came in &sample.came {
        let sentence = came.sentence.as_deref().ok_or("came: sentence is needed")?;
        out.extend(mapping.read(sentence.as_bytes()).map_err(|error| format!("{sentence}: {error}"))?);
    }
    Ok(out)
}

/// The points of a profile that can be read, for which there ought to be samples.
#[must_use]
pub fn points(profile: &Profile) -> BTreeSet<String> {
    let read = profile.points().filter(|(_, point)| point.access.reads() && point.place != Place::Id);
    read.map(|(id, _)| id.to_owned()).collect()
}

#[cfg(test)]
mod tests;
