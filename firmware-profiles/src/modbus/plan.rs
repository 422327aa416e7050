//! Which requests read the points of a profile.
//!
//! Points of one group whose registers stand beside each other are read by one request: a request costs a device far
//! more time than a register. A scale factor is read with what it scales, so that both are of one moment; one that is too
//! far away for that is read before it.

use std::collections::BTreeMap;

use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value};

use super::{Function, Register};
use crate::Profile;
use crate::conversion::{BadValue, Raw, Reason};
use crate::form::protocol::Protocol;
use crate::point::Place;

/// Most words that are shown of a value that is bad.
const WORDS_SHOWN_MAX: usize = 16;

/// What is read together, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name in the profile.
    pub name: String,
    /// How often.
    pub interval_ms: u32,
    /// What is asked, in this order.
    pub requests: Vec<Request>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is read.
    pub function: Function,
    /// The first register or bit, counted from 0.
    pub start: u16,
    /// How many.
    pub count: u16,
    points: Vec<(PointId, Register)>,
}

impl Request {
    /// One that is of no point.
    #[must_use]
    pub const fn plain(function: Function, start: u16, count: u16) -> Self {
        Self { function, start, count, points: Vec::new() }
    }

    /// What it tells.
    pub fn points(&self) -> impl Iterator<Item = &PointId> {
        self.points.iter().map(|(id, _)| id)
    }

    /// Where these stand, in the same order.
    pub(crate) fn registers(&self) -> impl Iterator<Item = &Register> {
        self.points.iter().map(|(_, register)| register)
    }
}

/// What an answer, or a message, says of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The point.
    pub point: PointId,
    /// Its value, or why it has none.
    pub outcome: Result<(Value, Quality), BadValue>,
}

impl Decoded {
    /// As a reading: what has no value is null of bad quality.
    #[must_use]
    pub fn reading(&self) -> (Value, Quality) {
        match &self.outcome {
            Ok((value, quality)) => (value.clone(), *quality),
            Err(_) => (Value::Null, Quality::Bad),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The profile is of another protocol.
    #[error("profile {profile} is of {found}; needed is {needed}")]
    OtherProtocol {
        /// Which profile.
        profile: String,
        /// Its protocol.
        found: &'static str,
        /// What is needed.
        needed: &'static str,
    },
    /// A point takes more than one request.
    #[error("{point} takes {registers} registers; one request reads {max}")]
    TooWide {
        /// The point.
        point: String,
        /// How many.
        registers: u32,
        /// How many are allowed.
        max: u16,
    },
}

/// Scale factors that are read by other requests than what they scale, as they came last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scales(BTreeMap<(Function, u16), u16>);

/// What a planned request may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub registers_max: u16,
    pub bits_max: u16,
    pub gap_max: u16,
}

/// The requests that read a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    profile: Profile,
    /// What is read together, the most frequent first.
    pub groups: Vec<Group>,
}

impl Plan {
    /// The requests that read all points of a profile which can be read.
    ///
    /// # Errors
    /// The profile is not of Modbus.
    pub fn of(profile: &Profile) -> Result<Self, PlanError> {
        let Protocol::Modbus(table) = profile.protocol() else {
            let (profile, found) = (profile.name().to_owned(), profile.protocol().as_str());
            return Err(PlanError::OtherProtocol { profile, found, needed: "modbus" });
        };
        let limits =
            Limits { registers_max: table.registers_max, bits_max: table.bits_max, gap_max: table.gap_max };
        let registers = profile.points().filter_map(|(id, point)| match &point.place {
            Place::Register(register) => Some((PointId::parse(id).ok()?, *register)),
            _ => None,
        });
        Self::from_registers(profile, registers, limits)
    }

    /// The requests that read these registers of a profile's points.
    pub(crate) fn from_registers(
        profile: &Profile,
        registers: impl Iterator<Item = (PointId, Register)>,
        limits: Limits,
    ) -> Result<Self, PlanError> {
        let mut groups: BTreeMap<(u32, &str), BTreeMap<Function, Vec<Span>>> = BTreeMap::new();
        for (id, register) in registers {
            let Some(point) = profile.point(id.as_str()).filter(|point| point.access.reads()) else {
                continue;
            };
            let spans = Span::of(id, register, limits)?;
            let group = groups.entry((point.interval_ms, &point.group)).or_default();
            group.entry(register.function).or_default().extend(spans);
        }
        let groups = groups.into_iter().map(|((interval_ms, name), functions)| {
            let requests =
                functions.into_iter().flat_map(|(function, spans)| requests(function, spans, limits));
            Group { name: name.to_owned(), interval_ms, requests: requests.collect() }
        });
        Ok(Self { groups: groups.collect(), profile: profile.clone() })
    }

    /// The profile that it is of.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the answer to a request says: its registers, or its bits as 0 and 1.
    #[must_use]
    pub fn decode(&self, request: &Request, words: &[u16]) -> Vec<Decoded> {
        self.decode_scaled(request, words, &Scales::default())
    }

    /// As [`Plan::decode`], with scale factors of other requests.
    #[must_use]
    pub fn decode_scaled(&self, request: &Request, words: &[u16], scales: &Scales) -> Vec<Decoded> {
        let decoded = request.points.iter().map(|(id, register)| {
            let bad = |reason| BadValue { reason, raw: hex(own(request, register, words).unwrap_or(words)) };
            let outcome = self.value(request, (id, register), words, scales).map_err(bad);
            Decoded { point: id.clone(), outcome }
        });
        decoded.collect()
    }

    /// Notes the scale factors that the answer to a request has for others; without an answer they are known no more.
    pub fn note_scales(&self, request: &Request, words: Option<&[u16]>, scales: &mut Scales) {
        for (function, at) in self.far_scales().filter(|(function, _)| *function == request.function) {
            let Some(place) = at.checked_sub(request.start).filter(|place| *place < request.count) else {
                continue;
            };
            match words.and_then(|words| words.get(usize::from(place))) {
                Some(word) => scales.0.insert((function, at), *word),
                None => scales.0.remove(&(function, at)),
            };
        }
    }

    /// Scale factors that are not read with what they scale.
    fn far_scales(&self) -> impl Iterator<Item = (Function, u16)> {
        let requests = self.groups.iter().flat_map(|group| &group.requests);
        requests.flat_map(|request| {
            let is_far = |at: &u16| at.checked_sub(request.start).is_none_or(|place| place >= request.count);
            let powers = request.registers().filter_map(|register| register.power);
            powers.filter(is_far).map(|at| (request.function, at))
        })
    }

    /// As [`Plan::decode`], for an answer of bits.
    #[must_use]
    pub fn decode_bits(&self, request: &Request, bits: &[bool]) -> Vec<Decoded> {
        let words: Vec<u16> = bits.iter().map(|bit| u16::from(*bit)).collect();
        self.decode(request, &words)
    }

    fn value(
        &self,
        request: &Request,
        (id, register): (&PointId, &Register),
        words: &[u16],
        scales: &Scales,
    ) -> Result<(Value, Quality), Reason> {
        let expected = usize::from(request.count);
        let length = || Reason::Length { expected, found: words.len() };
        if words.len() != expected {
            return Err(length());
        }
        let point = self.profile.point(id.as_str()).ok_or(Reason::Absent)?;
        let power = match register.power {
            Some(at) => {
                let own = words.get(usize::from(at.wrapping_sub(request.start)));
                let word = own.or_else(|| scales.0.get(&(register.function, at)));
                word.ok_or(Reason::Unscaled)?.cast_signed()
            }
            None => 0,
        };
        // The number of SunSpec that no scale factor is.
        if power == i16::MIN {
            return Err(Reason::Absent);
        }
        let raw = self.raw(register, own(request, register, words).ok_or_else(length)?)?;
        let value = point.conversion.value(raw, point.allowed.kind(), power)?;
        let value =
            self.profile.check(id.as_str(), value).map_err(|error| Reason::Rejected(Box::new(error)))?;
        Ok((value, Quality::Good))
    }

    /// What stands in these words. Of SunSpec, no number and no letter say that the device has not implemented it.
    fn raw(&self, register: &Register, words: &[u16]) -> Result<Raw, Reason> {
        let raw = register.raw(words);
        match (self.profile.protocol(), raw) {
            (Protocol::SunSpec(_), Err(Reason::NotFinite(number))) if number.is_nan() => Err(Reason::Absent),
            (Protocol::SunSpec(_), Ok(Raw::Text(text))) if text.is_empty() => Err(Reason::Absent),
            (_, raw) => raw,
        }
    }
}

/// The words of a register within those of a request.
fn own<'w>(request: &Request, register: &Register, words: &'w [u16]) -> Option<&'w [u16]> {
    let at = usize::from(register.start.checked_sub(request.start)?);
    words.get(at..at + usize::from(register.count()))
}

fn hex(words: &[u16]) -> String {
    let shown: Vec<String> = words.iter().take(WORDS_SHOWN_MAX).map(|word| format!("{word:04x}")).collect();
    shown.join(" ")
}

/// What has to be read at once, and the point that it is of; none when it is just a scale factor.
struct Span {
    start: u32,
    end: u32,
    of: Option<(PointId, Register)>,
}

impl Span {
    fn of(id: PointId, register: Register, limits: Limits) -> Result<Vec<Self>, PlanError> {
        let max = if register.function.is_bits() { limits.bits_max } else { limits.registers_max };
        let (own, count) = (u32::from(register.start), u32::from(register.count()));
        let power = register.power.map_or(own, u32::from);
        let (start, end) = (own.min(power), (own + count).max(power + 1));
        if end - start <= u32::from(max) {
            return Ok(vec![Self { start, end, of: Some((id, register)) }]);
        }
        if count > u32::from(max) {
            return Err(PlanError::TooWide { point: id.to_string(), registers: count, max });
        }
        let scale = Self { start: power, end: power + 1, of: None };
        Ok(vec![scale, Self { start: own, end: own + count, of: Some((id, register)) }])
    }
}

fn requests(function: Function, mut spans: Vec<Span>, limits: Limits) -> Vec<Request> {
    let max = if function.is_bits() { limits.bits_max } else { limits.registers_max };
    spans.sort_by_key(|span| (span.start, span.end));
    let mut runs: Vec<(u32, u32, Vec<Span>)> = Vec::new();
    for span in spans {
        match runs.last_mut() {
            Some((start, end, run))
                if span.start <= *end + u32::from(limits.gap_max)
                    && span.end.max(*end) - *start <= u32::from(max) =>
            {
                *end = span.end.max(*end);
                run.push(span);
            }
            _ => runs.push((span.start, span.end, vec![span])),
        }
    }
    // What only has a scale factor that another request has as well is left out.
    let has = |at: u32, (start, end, run): &(u32, u32, Vec<Span>)| {
        (*start..*end).contains(&at) && run.iter().any(|span| span.of.is_some())
    };
    let is_needed = |run: &(u32, u32, Vec<Span>)| {
        let spans = &run.2;
        spans.iter().any(|span| span.of.is_some())
            || !spans.iter().all(|span| runs.iter().any(|it| has(span.start, it)))
    };
    let request = |(start, end, run): &(u32, u32, Vec<Span>)| {
        let points = run.iter().filter_map(|span| span.of.clone()).collect();
        let (start, count) = (u16::try_from(*start).ok()?, u16::try_from(end - start).ok()?);
        Some(Request { function, start, count, points })
    };
    runs.iter().filter(|run| is_needed(run)).filter_map(request).collect()
}
