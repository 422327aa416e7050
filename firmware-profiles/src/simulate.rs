//! Simulated devices: values that move as the profile says, and registers that have them.
//!
//! A seed gives the same device again. Nothing here listens anywhere: a server asks [`registers::Registers`], and a
//! publisher takes [`Device::values`] to [`crate::json::Mapping::messages`], [`crate::nmea::Mapping::lines`] or
//! [`crate::names::Names::write`]. A device whose profile names no point and takes any has a few that nobody named.

pub mod pdu;
pub mod registers;

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::PointId;
use tideline_protocol::pattern::matches;
use tideline_protocol::value::{Value, ValueKind};

use crate::allowed::{Allowed, Whose};
use crate::conversion::NO_BIT;
use crate::encoding::Encoding;
use crate::form::protocol::Protocol;
use crate::point::{Place, Point};
use crate::{Profile, RejectedValue, sunspec};

/// How far a number moves in a step, as part of its span.
const STEP: f64 = 0.02;
/// How far what counts goes on in a step, as part of its span.
const COUNT_STEP: f64 = 1e-5;
/// In how many steps a state changes once.
const STATE_STEPS: u64 = 20;
/// The span of a number of which the profile says none that is of use.
const SPAN_MAX: f64 = 1e6;
/// What a text is that may be any.
const TEXT: &str = "simulated";
/// What a text is that tells the firmware.
const VERSION: &str = "1.0.0";
/// What a device measures whose profile names no point and takes any: each with its span, or with its words.
const OTHERS: [(&str, Other); 3] = [
    ("temperature", Other::Number(19.0, 24.0)),
    ("running", Other::Truth),
    ("mode", Other::Words(&["auto", "hand", "off"])),
];

/// What a point is that no profile names.
#[derive(Debug, Clone, Copy)]
enum Other {
    Number(f64, f64),
    Truth,
    Words(&'static [&'static str]),
}

/// A device of a family.
#[derive(Debug, Clone)]
pub struct Device {
    profile: Profile,
    random: Random,
    values: BTreeMap<PointId, Value>,
    /// Points that were written stay as they are.
    written: BTreeSet<PointId>,
}

impl Device {
    /// One with values from the middle of what the profile allows.
    #[must_use]
    pub fn new(profile: &Profile, seed: u64) -> Self {
        let mut random = Random(seed);
        let readable = profile.points().filter(|(_, point)| point.access.reads());
        let named = readable.flat_map(|(id, point)| names(profile, id, point).map(move |id| (id, point)));
        let named: Vec<_> = named.collect();
        let first = named.iter().map(|(id, point)| (id.as_str(), *point)).filter_map(|(id, point)| {
            let version = profile.identity().firmware_point.as_deref() == Some(id);
            let value = match point.allowed.kind() {
                ValueKind::Text if version => Value::Text(fitting(point, VERSION).into()),
                _ => moved(point, None, &mut random),
            };
            Some((PointId::parse(id).ok()?, value))
        });
        let mut values: BTreeMap<PointId, Value> = first.collect();
        if values.is_empty() {
            values.extend(others(profile).map(|(id, other)| (id, other.moved(None, &mut random))));
        }
        Self { profile: profile.clone(), random, values, written: BTreeSet::new() }
    }

    /// The profile that it is of.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What it measures.
    #[must_use]
    pub const fn values(&self) -> &BTreeMap<PointId, Value> {
        &self.values
    }

    /// Lets some time go by.
    pub fn step(&mut self) {
        for (id, other) in others(&self.profile) {
            if let Some(value) = self.values.get_mut(&id) {
                *value = other.moved(Some(value), &mut self.random);
            }
        }
        for (id, value) in &mut self.values {
            let Some(point) = self.profile.point(id.as_str()).filter(|_| !self.written.contains(id)) else {
                continue;
            };
            if self.profile.identity().firmware_point.as_deref() != Some(id.as_str()) {
                *value = moved(point, Some(value), &mut self.random);
            }
        }
    }

    /// Takes a value that is written; it stays until another one is.
    ///
    /// # Errors
    /// The profile rules it out.
    pub fn set(&mut self, id: &PointId, value: Value) -> Result<(), RejectedValue> {
        let value = self.profile.check(id.as_str(), value)?;
        self.values.insert(id.clone(), value);
        self.written.insert(id.clone());
        Ok(())
    }
}

/// The points that stand for a point of a profile: those of each of its blocks; none where nobody knows them all.
fn names<'p>(profile: &'p Profile, id: &'p str, point: &'p Point) -> impl Iterator<Item = String> + use<'p> {
    let count = match (&point.place, profile.protocol()) {
        (Place::Model(place), Protocol::SunSpec(table)) if place.repeats() => {
            place.count(&registers::models(table, 0))
        }
        _ => u16::from(!id.contains('*')),
    };
    (1..=count).map(move |number| sunspec::numbered(id, number))
}

/// What a device measures that its profile takes and does not name.
fn others(profile: &Profile) -> impl Iterator<Item = (PointId, Other)> {
    let taken = |id: &str| {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, id));
        profile.point(id).is_none()
            && profile.others().is_some_and(|others| any(&others.take) && !any(&others.except))
    };
    OTHERS
        .into_iter()
        .filter(move |(id, _)| taken(id))
        .filter_map(|(id, other)| Some((PointId::parse(id).ok()?, other)))
}

impl Other {
    fn moved(self, last: Option<&Value>, random: &mut Random) -> Value {
        let changes = last.is_none() || random.below(STATE_STEPS) == 0;
        match (self, last) {
            (Self::Number(low, high), last) => {
                let last = if let Some(Value::Float(last)) = last { *last } else { f64::midpoint(low, high) };
                let next = last + (high - low) * STEP * (2.0 * random.unit() - 1.0);
                Value::Float(decimals(next.clamp(low, high), 0.01))
            }
            (_, Some(last)) if !changes => last.clone(),
            (Self::Truth, Some(Value::Bool(yes))) => Value::Bool(!yes),
            (Self::Truth, _) => Value::Bool(random.below(2) == 0),
            (Self::Words(words), _) => {
                let at = random.below(u64::try_from(words.len()).unwrap_or(1));
                let word = words.get(usize::try_from(at).unwrap_or(0)).copied();
                Value::Text(word.unwrap_or(TEXT).into())
            }
        }
    }
}

/// The value after this one.
fn moved(point: &Point, last: Option<&Value>, random: &mut Random) -> Value {
    if let Some(value) = &point.simulate.value {
        // As one of the point's type: 5 of a float is 5.0.
        let whose = Whose { profile: "", point: "", unit: "" };
        return point.allowed.judge(&whose, value.value()).unwrap_or(Value::Null);
    }
    let changes = last.is_none() || random.below(STATE_STEPS) == 0;
    match (&point.allowed, last) {
        (Allowed::Float { .. } | Allowed::Int { .. }, _) => number(point, last, random),
        (_, Some(last)) if !changes => last.clone(),
        (Allowed::Bool, Some(Value::Bool(yes))) => Value::Bool(!yes),
        (Allowed::Bool, _) => Value::Bool(random.below(2) == 0),
        (Allowed::Text { values, .. }, _) => Value::Text(text(point, values, random).into()),
    }
}

fn text(point: &Point, values: &[String], random: &mut Random) -> String {
    let bits = &point.conversion.bits;
    if !bits.is_empty() {
        let set: Vec<&str> = bits.values().filter(|_| random.below(8) == 0).map(String::as_str).collect();
        return if set.is_empty() { NO_BIT.to_owned() } else { set.join(", ") };
    }
    let at = random.below(u64::try_from(values.len()).unwrap_or(u64::MAX).max(1));
    let chosen = values.get(usize::try_from(at).unwrap_or(0));
    chosen.cloned().unwrap_or_else(|| fitting(point, TEXT))
}

/// As much of a text as there is room for.
fn fitting(point: &Point, text: &str) -> String {
    let room = match (&point.conversion.encoding, &point.allowed) {
        (Some(Encoding::Text { bytes }), _) => usize::from(*bytes),
        (_, Allowed::Text { bytes_max, .. }) => *bytes_max,
        _ => text.len(),
    };
    text.chars().take(room).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "within the range of a point of whole numbers")]
fn number(point: &Point, last: Option<&Value>, random: &mut Random) -> Value {
    let (low, high) = range(point);
    let span = high - low;
    let last = match last {
        Some(Value::Float(last)) => Some(*last),
        #[expect(clippy::cast_precision_loss, reason = "a simulated number need not be exact")]
        Some(Value::Int(last)) => Some(*last as f64),
        _ => None,
    };
    let next = match last {
        None if point.simulate.counts => low + span * 0.1 * random.unit(),
        None => low + span * (0.25 + 0.5 * random.unit()),
        Some(last) if point.simulate.counts => {
            last + span * COUNT_STEP * random.unit() + unit_of(point, span)
        }
        Some(last) => {
            let next = last + span * STEP * (2.0 * random.unit() - 1.0);
            // Back from the edge.
            if next > high { 2.0 * high - next } else { (2.0 * low - next).max(next) }
        }
    };
    let unit = unit_of(point, span);
    let rounded = ((next.clamp(low, high) / unit).round() * unit).clamp(low, high);
    match point.allowed {
        Allowed::Int { .. } => Value::Int(rounded as i64),
        // Decimals as they are written, not as sums of powers of two.
        _ => Value::Float(decimals(rounded, unit)),
    }
}

/// Between what a number moves: what the profile says of simulated devices, within what it allows and registers hold.
#[expect(clippy::cast_precision_loss, reason = "a simulated number need not be exact")]
fn range(point: &Point) -> (f64, f64) {
    let (min, max) = match point.allowed {
        Allowed::Float { min, max } => (min, max),
        Allowed::Int { min, max } => (min as f64, max as f64),
        _ => (0.0, 0.0),
    };
    let conversion = &point.conversion;
    let held = conversion.encoding.and_then(Encoding::whole_range).filter(|_| !has_power(point));
    let (held_min, held_max) = held.map_or((f64::NEG_INFINITY, f64::INFINITY), |(least, greatest)| {
        let mask = conversion.mask.map_or(f64::INFINITY, |mask| (mask >> conversion.shift.min(63)) as f64);
        let ends =
            [least as f64, (greatest as f64).min(mask)].map(|raw| raw * conversion.scale + conversion.offset);
        (ends[0].min(ends[1]), ends[0].max(ends[1]))
    });
    let (min, max) = (min.max(held_min), max.min(held_max));
    let low = point.simulate.low.unwrap_or(min).clamp(min, max);
    let high = point.simulate.high.unwrap_or(max).clamp(low, max);
    if high - low <= SPAN_MAX || point.simulate.high.is_some() {
        return (low, high);
    }
    let low = if (low..=high).contains(&0.0) { 0.0 } else { low };
    (low, (low + SPAN_MAX).min(high))
}

/// Whether a power of ten stands beside a point.
const fn has_power(point: &Point) -> bool {
    match &point.place {
        Place::Register(register) => register.power.is_some(),
        Place::Model(register) => register.power.is_some(),
        _ => false,
    }
}

/// The steps in which a number moves: those of its raw number, or four digits of its span.
fn unit_of(point: &Point, span: f64) -> f64 {
    let whole = point.conversion.encoding.is_some_and(Encoding::is_whole) && !has_power(point);
    if whole {
        return point.conversion.scale.abs();
    }
    let digits = if matches!(point.conversion.encoding, Some(Encoding::Latitude | Encoding::Longitude)) {
        5
    } else {
        4
    };
    if matches!(point.allowed, Allowed::Int { .. }) {
        return 1.0;
    }
    if span > 0.0 { 10_f64.powi(exponent(span) - digits) } else { 1.0 }
}

/// Of ten, by which a number is greater than one.
#[expect(clippy::cast_possible_truncation, reason = "a double has at most 308")]
fn exponent(number: f64) -> i32 {
    number.log10().floor() as i32
}

fn decimals(number: f64, unit: f64) -> f64 {
    let places = usize::try_from(-exponent(unit * 1.000_001)).unwrap_or(0);
    format!("{number:.places$}").parse().unwrap_or(number)
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 0 up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
