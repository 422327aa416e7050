//! From messages to readings, and back for commands and simulated devices.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use tideline_protocol::model::PointId;
use tideline_protocol::pattern::matches;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::{DEVICE, Pointer, place};
use crate::Profile;
use crate::allowed::check_kind;
use crate::conversion::{BadValue, EncodeError, Raw, Reason};
use crate::form::protocol::{Protocol, TimeAt, TimeUnit};
use crate::modbus::{Decoded, PlanError};
use crate::names::other_id;
use crate::point::{Place, Point};

/// Longest payload in bytes. A JSON text nests 127 levels at most, as serde_json has it.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Most points that a message makes which the profile does not name, where it says nothing else.
const OTHERS_MAX: u32 = 256;
/// Seconds and milliseconds of times that a reading can have.
const NS_PER_S: f64 = 1e9;

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The device that its topic names.
    pub device: Option<String>,
    /// When it was, in ns since 1970, where it says so.
    pub time_ns: Option<i64>,
    /// Why the time that it says is none.
    pub time_problem: Option<String>,
    /// Its values; of what it does not speak there is nothing.
    pub readings: Vec<Decoded>,
}

/// Why a message is not taken at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Too long.
    #[error("the payload has {0} bytes; allowed are {PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
    /// No UTF-8.
    #[error("the payload is no UTF-8")]
    NotText,
    /// Points are pointed at, and it is no JSON.
    #[error("the payload is no JSON: {0}")]
    NotJson(String),
}

/// What messages of one topic say.
#[derive(Debug, Clone, PartialEq, Default)]
struct Topic {
    points: Vec<(PointId, Option<Pointer>)>,
    times: Vec<(Option<Pointer>, TimeUnit)>,
}

/// Where a profile's points stand in messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    profile: Profile,
    /// What topics begin with.
    root: String,
    /// By topic, in which `{device}` stands for the device.
    topics: BTreeMap<String, Topic>,
}

impl Mapping {
    /// Of a profile of MQTT, HTTP or CoAP.
    ///
    /// # Errors
    /// It is of another protocol.
    pub fn of(profile: &Profile) -> Result<Self, PlanError> {
        let (root, times): (&str, &[TimeAt]) = match profile.protocol() {
            Protocol::Mqtt(table) => (&table.root, &table.times),
            Protocol::Http(table) => (&table.root, &table.times),
            Protocol::Coap(table) => (&table.root, &table.times),
            other => {
                let (profile, found) = (profile.name().to_owned(), other.as_str());
                return Err(PlanError::OtherProtocol { profile, found, needed: "mqtt, http or coap" });
            }
        };
        let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
        if profile.others().is_some() {
            topics.entry(root.to_owned()).or_default();
        }
        for (id, point) in profile.points().filter(|(_, point)| point.access.reads()) {
            let Place::Message { topic, pointer } = &point.place else { continue };
            let Ok(id) = PointId::parse(id) else { continue };
            topics.entry(topic.clone()).or_default().points.push((id, pointer.clone()));
        }
        for time in times {
            let Ok(Place::Message { topic, pointer }) = place(&time.address, root) else { continue };
            topics.entry(topic).or_default().times.push((pointer, time.unit));
        }
        Ok(Self { profile: profile.clone(), root: root.to_owned(), topics })
    }

    /// The profile that it is of.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The topics of a device; of any, as filters of MQTT with `+`.
    #[must_use]
    pub fn topics(&self, device: Option<&str>) -> Vec<String> {
        self.topics.keys().map(|topic| topic.replace(DEVICE, device.unwrap_or("+"))).collect()
    }

    /// The device that a topic names, when it is one of the profile's; nothing when topics name none. Of several ways to
    /// read it the shortest name is meant: `a/availability` is the availability of `a`.
    #[must_use]
    pub fn device<'t>(&self, topic: &'t str) -> Option<&'t str> {
        self.topics.keys().filter_map(|pattern| device_of(pattern, topic)).min_by_key(|device| device.len())
    }

    /// What a message says. None when its topic is none of the profile's.
    ///
    /// # Errors
    /// It is too long, or not what the profile says of its payload.
    pub fn read(&self, topic: &str, payload: &[u8]) -> Result<Option<Message>, MessageError> {
        let device = self.device(topic);
        // A name with a slash might also be the name of another device and a part of its topic.
        let own = |pattern: &&String| {
            pattern.is_empty() || device_of(pattern, topic).is_some_and(|found| Some(found) == device)
        };
        let mut matched = self.topics.iter().filter(|(pattern, _)| own(pattern)).peekable();
        if matched.peek().is_none() {
            return Ok(None);
        }
        let device = device.filter(|device| !device.is_empty()).map(str::to_owned);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(MessageError::TooLong(payload.len()));
        }
        let text = std::str::from_utf8(payload).map_err(|_| MessageError::NotText)?;
        let json = serde_json::from_str::<Json>(text);
        let mut message = Message { device, time_ns: None, time_problem: None, readings: Vec::new() };
        for (_, topic) in matched {
            let pointed = topic.points.iter().any(|(_, pointer)| pointer.is_some());
            if let (true, Err(error)) = (pointed, &json) {
                return Err(MessageError::NotJson(error.to_string()));
            }
            // What is no JSON is a text; devices send words without quotes.
            let whole = || json.as_ref().map_or_else(|_| Json::String(text.trim().to_owned()), Json::clone);
            self.take(topic, &whole(), &mut message);
        }
        Ok(Some(message))
    }

    fn take(&self, topic: &Topic, json: &Json, message: &mut Message) {
        for (pointer, unit) in &topic.times {
            match at(json, pointer.as_ref()).map(|value| time_ns(value, *unit)) {
                Some(Ok(time_ns)) => message.time_ns = Some(time_ns),
                Some(Err(problem)) => message.time_problem = Some(problem),
                None => {}
            }
        }
        for (id, pointer) in &topic.points {
            let Some(value) = at(json, pointer.as_ref()) else { continue };
            let Some(point) = self.profile.point(id.as_str()) else { continue };
            let outcome = self.value(id, point, value);
            let bad = |reason| BadValue { reason, raw: short(&value.to_string()) };
            message.readings.push(Decoded { point: id.clone(), outcome: outcome.map_err(bad) });
        }
        self.take_others(topic, json, message);
    }

    fn value(&self, id: &PointId, point: &Point, json: &Json) -> Result<(Value, Quality), Reason> {
        let kind = point.allowed.kind();
        let value = point.conversion.value(raw(json, kind)?, kind, 0)?;
        let value =
            self.profile.check(id.as_str(), value).map_err(|error| Reason::Rejected(Box::new(error)))?;
        Ok((value, Quality::Good))
    }

    /// Leaves that no point names, under the names that they have.
    fn take_others(&self, topic: &Topic, json: &Json, message: &mut Message) {
        let Some(others) = self.profile.others() else { return };
        let named = |path: &str| {
            topic.points.iter().any(|(_, pointer)| pointer.as_ref().is_some_and(|p| p.as_str() == path))
        };
        let times = |path: &str| {
            topic.times.iter().any(|(pointer, _)| pointer.as_ref().is_some_and(|p| p.as_str() == path))
        };
        let mut leaves = Vec::new();
        let most = usize::try_from(others.points_max.unwrap_or(OTHERS_MAX)).unwrap_or(usize::MAX);
        let named_here = topic.points.len() + topic.times.len();
        gather(json, String::new(), most.saturating_add(named_here), &mut leaves);
        for (path, leaf) in leaves {
            let name = path.trim_start_matches('/');
            let wanted = others.take.iter().any(|pattern| matches(pattern, name))
                && !others.except.iter().any(|pattern| matches(pattern, name));
            if !wanted || named(&path) || times(&path) {
                continue;
            }
            let Some(id) = other_id(name) else { continue };
            // What is called as a point and stands elsewhere is not that point.
            if self.profile.points().any(|(known, _)| known == id.as_str()) {
                continue;
            }
            let bad = |reason| BadValue { reason, raw: short(&leaf.to_string()) };
            let outcome = match self.profile.point(id.as_str()) {
                Some(point) => self.value(&id, point, leaf),
                None => raw(leaf, ValueKind::Float).and_then(|_| other_value(name, leaf)),
            };
            message.readings.push(Decoded { point: id, outcome: outcome.map_err(bad) });
        }
    }

    /// The messages of a device that has these values: topic and payload. Values that no point names stand under their ids
    /// in the message of the root.
    ///
    /// # Errors
    /// A value that the profile rules out, or which nothing means.
    pub fn messages(
        &self,
        device: &str,
        values: &BTreeMap<PointId, Value>,
        now_ns: i64,
    ) -> Result<Vec<(String, Vec<u8>)>, EncodeError> {
        let mut out = Vec::new();
        for (pattern, topic) in &self.topics {
            let mut whole = Json::Null;
            for (id, pointer) in &topic.points {
                let Some(value) = values.get(id) else { continue };
                put(&mut whole, pointer.as_ref(), encode(&self.profile, id.as_str(), value)?);
            }
            let unnamed = |id: &PointId| self.profile.point(id.as_str()).is_none();
            if self.profile.others().is_some() && *pattern == self.root {
                for (id, value) in values.iter().filter(|(id, _)| unnamed(id)) {
                    put(&mut whole, Pointer::parse(&format!("/{id}")).ok().as_ref(), json_of(value));
                }
            }
            if whole.is_null() {
                continue;
            }
            for (pointer, unit) in topic.times.iter().filter(|(pointer, _)| pointer.is_some()) {
                put(&mut whole, pointer.as_ref(), time_json(now_ns, *unit));
            }
            out.push((pattern.replace(DEVICE, device), payload(whole)));
        }
        Ok(out)
    }
}

/// The message that writes a value: topic, in which `{device}` stands for the device, and payload.
///
/// # Errors
/// The point is not to be written, or the profile rules the value out.
pub fn write(profile: &Profile, id: &str, value: &Value) -> Result<(String, Vec<u8>), EncodeError> {
    let not = |what| EncodeError::NotWritable { point: id.to_owned(), what };
    let unknown = || EncodeError::Unknown { point: id.to_owned(), profile: profile.name().to_owned() };
    let point = profile.point(id).ok_or_else(unknown)?;
    let Place::Message { topic, pointer } = &point.place else {
        return Err(not("stands in no message by the profile"));
    };
    if !point.access.writes() {
        return Err(not("is not writable by the profile"));
    }
    let mut whole = Json::Null;
    put(&mut whole, pointer.as_ref(), encode(profile, id, value)?);
    Ok((topic.clone(), payload(whole)))
}

/// A text alone stands without quotes, as devices write it.
fn payload(json: Json) -> Vec<u8> {
    match json {
        Json::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn encode(profile: &Profile, id: &str, value: &Value) -> Result<Json, EncodeError> {
    let value = profile.check(id, value.clone())?;
    let unknown = || EncodeError::Unknown { point: id.to_owned(), profile: profile.name().to_owned() };
    let point = profile.point(id).ok_or_else(unknown)?;
    let no_raw = |what| EncodeError::NoRaw { point: id.to_owned(), value: value.to_string(), what };
    if point.conversion.names.is_empty() {
        match value {
            Value::Bool(yes) => return Ok(Json::Bool(yes)),
            Value::Null => return Ok(Json::Null),
            _ => {}
        }
    }
    Ok(match point.conversion.raw(&value, 0, false).map_err(no_raw)? {
        Raw::Whole(whole) => i64::try_from(whole).map_or(Json::Null, Json::from),
        Raw::Real(real) => Json::from(real),
        Raw::Bool(yes) => Json::Bool(yes),
        Raw::Text(text) => text.parse().map_or(Json::String(text), Json::Bool),
    })
}

/// A value as it is, of a point that no profile knows.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(whole) => Json::from(*whole),
        Value::Float(real) => Json::from(*real),
        Value::Text(text) => Json::from(text.as_ref()),
    }
}

/// The device in a topic; nothing where the pattern names none.
fn device_of<'t>(pattern: &str, topic: &'t str) -> Option<&'t str> {
    let Some((before, after)) = pattern.split_once(DEVICE) else { return (pattern == topic).then_some("") };
    let device = topic.strip_prefix(before)?.strip_suffix(after)?;
    (!device.is_empty()).then_some(device)
}

fn at<'j>(json: &'j Json, pointer: Option<&Pointer>) -> Option<&'j Json> {
    pointer.map_or(Some(json), |pointer| json.pointer(pointer.as_str()))
}

/// What a payload says at this place, as it stands there; none where it says nothing or is none.
#[must_use]
pub fn found(payload: &[u8], pointer: Option<&Pointer>) -> Option<Raw> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(payload).ok()?;
    let json = serde_json::from_str::<Json>(text);
    let json = match pointer {
        None => json.unwrap_or_else(|_| Json::String(text.trim().to_owned())),
        Some(_) => json.ok()?,
    };
    raw(at(&json, pointer)?, ValueKind::Text).ok()
}

/// A text that is a number counts as one where the point is of numbers.
fn raw(json: &Json, kind: ValueKind) -> Result<Raw, Reason> {
    let number = matches!(kind, ValueKind::Float | ValueKind::Int);
    match json {
        Json::Null => Err(Reason::Absent),
        Json::Bool(yes) => Ok(Raw::Bool(*yes)),
        Json::Number(found) => {
            let whole = found.as_i64().map(i128::from).or_else(|| found.as_u64().map(i128::from));
            whole.map(Raw::Whole).or_else(|| found.as_f64().map(Raw::Real)).ok_or(Reason::NotFinite(f64::NAN))
        }
        Json::String(text) if number => Ok(match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Raw::Whole(i128::from(whole)),
            (_, Ok(real)) => Raw::Real(real),
            _ => Raw::Text(text.clone()),
        }),
        Json::String(text) => Ok(Raw::Text(text.clone())),
        Json::Array(_) => Err(Reason::OtherType("a list".into())),
        Json::Object(_) => Err(Reason::OtherType("an object".into())),
    }
}

/// A leaf that no point names, of the kind that it is: a number is a float, so that 20 and 20.5 are of one series.
fn other_value(name: &str, json: &Json) -> Result<(Value, Quality), Reason> {
    let value = match json {
        Json::Bool(yes) => Value::Bool(*yes),
        Json::String(text) => Value::Text(text.as_str().into()),
        other => Value::Float(other.as_f64().ok_or(Reason::Absent)?),
    };
    let kind = value.kind().unwrap_or_default();
    let value = check_kind(name, kind, value).map_err(|error| Reason::Rejected(Box::new(error)))?;
    Ok((value, Quality::Good))
}

fn gather<'j>(json: &'j Json, path: String, most: usize, out: &mut Vec<(String, &'j Json)>) {
    let key = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match json {
        Json::Object(map) => map.iter().for_each(|(name, value)| gather(value, key(name), most, out)),
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| gather(value, key(&index.to_string()), most, out));
        }
        leaf if out.len() < most => out.push((path, leaf)),
        _ => {}
    }
}

/// Puts a value where the pointer says, and makes what is missing on the way.
fn put(whole: &mut Json, pointer: Option<&Pointer>, value: Json) {
    const ITEMS_MAX: usize = 64;
    let mut place = whole;
    let tokens = pointer.map_or("", Pointer::as_str).split('/').skip(1);
    for token in tokens.map(|token| token.replace("~1", "/").replace("~0", "~")) {
        let index = token.parse::<usize>().ok().filter(|index| *index < ITEMS_MAX);
        if place.is_null() {
            *place = if index.is_some() { Json::Array(Vec::new()) } else { Json::Object(Map::new()) };
        }
        let inner = match (place, index) {
            (Json::Array(items), Some(index)) => {
                if items.len() <= index {
                    items.resize(index + 1, Json::Null);
                }
                items.get_mut(index)
            }
            (Json::Object(map), _) => Some(map.entry(token).or_insert(Json::Null)),
            _ => None,
        };
        let Some(inner) = inner else { return };
        place = inner;
    }
    *place = value;
}

fn time_ns(json: &Json, unit: TimeUnit) -> Result<i64, String> {
    let wrong = || format!("{} is no time in {unit:?}", short(&json.to_string()));
    if unit == TimeUnit::Rfc3339 {
        let stamp: jiff::Timestamp = json.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        return i64::try_from(stamp.as_nanosecond()).map_err(|_| wrong());
    }
    let per_ns = if unit == TimeUnit::S { 1_000_000_000 } else { 1_000_000 };
    if let Some(whole) = json.as_i64() {
        return whole.checked_mul(per_ns).ok_or_else(wrong);
    }
    let number = json.as_f64().ok_or_else(wrong)?;
    let seconds = if unit == TimeUnit::S { number } else { number / 1e3 };
    // Within what 64 bits of ns hold; a double of seconds tells microseconds.
    if seconds.abs() > 9e9 {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "within 64 bits, as is asked before")]
    let (whole, part) = (seconds.trunc() as i64, (seconds.fract() * NS_PER_S / 1e3).round() as i64 * 1000);
    Ok(whole * 1_000_000_000 + part)
}

fn time_json(now_ns: i64, unit: TimeUnit) -> Json {
    match unit {
        TimeUnit::S => Json::from(now_ns / 1_000_000_000),
        TimeUnit::Ms => Json::from(now_ns / 1_000_000),
        TimeUnit::Rfc3339 => jiff::Timestamp::from_nanosecond(i128::from(now_ns))
            .map_or(Json::Null, |stamp| Json::from(stamp.to_string())),
    }
}

/// As much of a text as a message has room for.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
