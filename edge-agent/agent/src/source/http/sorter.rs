//! Which device and point a pushed reading is of, and whether it is taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use tideline_formats::line::{self, Precision};
use tideline_formats::when::RANGE;
use tideline_formats::{FormatError, Mapping, Taken};
use tideline_profiles::check_kind;
use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::body::Refusal;
use super::entries::{self, Entry, Leaf, VALUES_MAX};
use super::rights::{Rights, Sender};
use crate::config::DeviceConfig;
use crate::source::rows::time_of;
use crate::source::statistics::Heard;
use crate::source::{Device, Readings, point_id};

/// Most points whose kind is remembered: as many as a spool's dictionary holds.
const KINDS_MAX: usize = 100_000;

/// What a device's readings are judged by.
pub struct Sorter {
    known: BTreeMap<DeviceId, Device>,
    own: DeviceId,
    rights: Arc<Rights>,
    // What the values of a point were before: it stays so.
    kinds: Mutex<HashMap<Key, ValueKind>>,
}

/// A point of a device.
type Key = (DeviceId, PointId);

/// The kinds of points while a body is read: what it says of new ones is so once the whole body is taken.
struct Kinds<'k> {
    known: MutexGuard<'k, HashMap<Key, ValueKind>>,
    new: HashMap<Key, ValueKind>,
}

impl Kinds<'_> {
    fn of(&self, key: &Key) -> Option<ValueKind> {
        self.known.get(key).or_else(|| self.new.get(key)).copied()
    }

    /// The body is taken.
    fn keep(mut self) {
        for (key, kind) in self.new {
            if self.known.len() >= KINDS_MAX {
                return;
            }
            self.known.insert(key, kind);
        }
    }
}

/// Readings of a body, parted by whose times they have: the agent's clock may be corrected later, and the sender's times
/// with it if they were not told apart.
#[derive(Debug)]
pub struct Pushed {
    /// Those with the agent's times, and all that is rejected.
    pub ours: Readings,
    /// Those with the sender's.
    pub theirs: Readings,
}

impl Pushed {
    /// None yet; `ours` says what the time is.
    pub fn new(ours: Readings) -> Self {
        Self { ours, theirs: Readings::of_own_times() }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.ours.count() + self.theirs.count()
    }

    /// What that is of each device.
    pub fn heard(&self) -> BTreeMap<DeviceId, Heard> {
        let mut heard: BTreeMap<DeviceId, Heard> = BTreeMap::new();
        for (def, samples) in self.ours.rows.iter().chain(&self.theirs.rows) {
            heard.entry(def.device.clone()).or_default().readings += samples.len() as u64;
        }
        heard
    }

    fn reject(&mut self, reason: String) {
        self.ours.reject(reason);
    }
}

impl Sorter {
    /// Of these devices, or of any when there are none.
    #[must_use]
    pub fn new(devices: &[DeviceConfig], own: DeviceId, defs: &[SeriesDef], rights: Arc<Rights>) -> Self {
        let known = devices.iter().map(|config| {
            let device = Device { id: config.id.clone(), profile: config.family.clone() };
            (config.id.clone(), device)
        });
        let kinds = defs.iter().map(|def| ((def.device.clone(), def.point.clone()), def.kind())).collect();
        Self { known: known.collect(), own, rights, kinds: Mutex::new(kinds) }
    }

    /// Entries of JSON: one, a list, or one a line.
    ///
    /// # Errors
    /// The body is no JSON. What is wrong with an entry is among what the readings reject.
    pub fn json(&self, body: &[u8], sender: &Sender, readings: Readings) -> Result<Pushed, Refusal> {
        let (mut readings, mut kinds, mut at) = (Pushed::new(readings), self.kinds(), 0);
        let read = entries::read(body, &mut |entry| {
            at += 1;
            match entry {
                Ok(entry) => self.entry(at, entry, sender, &mut kinds, &mut readings),
                Err(error) => readings.reject(format!("entry {at}: {error}")),
            }
        });
        match read {
            Ok(()) => {
                kinds.keep();
                Ok(readings)
            }
            Err(FormatError::Malformed(error)) => {
                let text = format!(
                    "the body is no JSON of entries as {{\"device\": \"pump-7\", \"time\": 1763719200000, \
                     \"values\": {{\"flow\": 1.5}}}}, {VALUES_MAX} values at most: {error}"
                );
                Err(Refusal::new(StatusCode::BAD_REQUEST, text))
            }
            Err(too_much) => Err(too_much.into()),
        }
    }

    fn kinds(&self) -> Kinds<'_> {
        Kinds { known: self.kinds.lock().unwrap_or_else(PoisonError::into_inner), new: HashMap::new() }
    }

    fn entry(&self, at: usize, entry: Entry, sender: &Sender, kinds: &mut Kinds<'_>, readings: &mut Pushed) {
        let device = match entry.device.as_deref().map_or(Ok(self.default_device(sender)), DeviceId::parse) {
            Ok(device) => device,
            Err(error) => return readings.reject(format!("entry {at}: {error}")),
        };
        if let Err(reason) = self.admit(sender, &device) {
            return readings.reject(format!("entry {at}: {reason}"));
        }
        let is_ours = entry.time.is_none();
        let time_ns = match entry.time {
            None => Ok(readings.ours.time_ns()),
            Some(Leaf::Text(text)) => time_of(&text),
            Some(Leaf::Whole(ms)) => {
                ms.checked_mul(NS_PER_MS).ok_or_else(|| format!("time {ms} is no Unix milliseconds {RANGE}"))
            }
            Some(Leaf::Real(number)) => Err(format!("time {number} is no Unix milliseconds {RANGE}")),
            Some(other) => Err(format!("time {other} is neither RFC 3339 nor Unix milliseconds")),
        };
        let time_ns = match time_ns {
            Ok(time_ns) => time_ns,
            Err(reason) => return readings.reject(format!("entry {at}: {reason}")),
        };
        for (point, value) in entry.values {
            let value = match value {
                Leaf::Null => Value::Null,
                Leaf::Bool(truth) => Value::Bool(truth),
                // JSON does not tell 5 from 5.0.
                #[expect(clippy::cast_precision_loss, reason = "as any JSON")]
                Leaf::Whole(number) => Value::Float(number as f64),
                Leaf::Real(number) => Value::Float(number),
                Leaf::Text(text) => Value::Text(text.into()),
                Leaf::Other => {
                    readings
                        .reject(format!("entry {at}: {point} is neither number, text, true, false nor null"));
                    continue;
                }
            };
            let quality = entry.quality;
            let into = if is_ours { &mut readings.ours } else { &mut readings.theirs };
            if let Err(reason) = self.add(into, kinds, (&device, point.as_str()), time_ns, value, quality) {
                readings.reject(format!("entry {at}: {reason}"));
            }
        }
    }

    /// Lines of line protocol.
    ///
    /// # Errors
    /// The body is none, or has too much in it.
    pub fn lines(
        &self,
        body: &[u8],
        precision: Precision,
        sender: &Sender,
        readings: Readings,
    ) -> Result<Pushed, Refusal> {
        let now_ns = readings.time_ns();
        let mut readings = Pushed::new(readings);
        let (keys, mut admit) = (["device".to_owned()], |device: &DeviceId| self.admit(sender, device));
        let mut mapping =
            Mapping { device_keys: &keys, only_device: Some(self.default_device(sender)), admit: &mut admit };
        let Taken { columns, problems, .. } =
            line::parse_within(body, precision, now_ns, VALUES_MAX, &mut mapping)?;
        let mut kinds = self.kinds();
        for column in columns {
            for sample in column.samples {
                let (value, quality) = column.boxes.value(sample.value, column.kind);
                let of = (&column.device, column.point.as_str());
                // A line without a time has that of now.
                let is_ours = sample.time_ns == now_ns;
                let into = if is_ours { &mut readings.ours } else { &mut readings.theirs };
                if let Err(reason) = self.add(into, &mut kinds, of, sample.time_ns, value, quality) {
                    readings.reject(reason);
                }
            }
        }
        kinds.keep();
        for problem in &problems.listed {
            readings.reject(format!("line {}: {}", problem.at, problem.reason));
        }
        (problems.listed.len() as u64..problems.all).for_each(|_| readings.reject("another line".to_owned()));
        Ok(readings)
    }

    /// The device of what names none: the sender, the only one there is, or else the agent.
    fn default_device(&self, sender: &Sender) -> DeviceId {
        if let Sender::Device(device) = sender {
            return device.clone();
        }
        match self.known.keys().next() {
            Some(only) if self.known.len() == 1 => only.clone(),
            _ => self.own.clone(),
        }
    }

    fn admit(&self, sender: &Sender, device: &DeviceId) -> Result<(), String> {
        self.rights.may(sender, device)?;
        if self.known.is_empty() || self.known.contains_key(device) {
            return Ok(());
        }
        let names: Vec<&str> = self.known.keys().map(DeviceId::as_str).take(10).collect();
        Err(format!("device {device} is not behind this source; allowed are {}", names.join(", ")))
    }

    fn add(
        &self,
        readings: &mut Readings,
        kinds: &mut Kinds<'_>,
        (device, point): (&DeviceId, &str),
        time_ns: i64,
        value: Value,
        quality: Quality,
    ) -> Result<(), String> {
        if let Some(device) = self.known.get(device).filter(|device| device.profile.is_some()) {
            readings.add_at(device, point, time_ns, value, quality);
            return Ok(());
        }
        let id = point_id(point).ok_or_else(|| format!("{point:?} makes no name of a point"))?;
        let key = (device.clone(), id.clone());
        // Null alone does not say of what.
        let Some(kind) = kinds.of(&key).or(value.kind()) else { return Ok(()) };
        let value = check_kind(point, kind, value).map_err(|error| format!("{device}: {error}"))?;
        if !kinds.known.contains_key(&key) {
            kinds.new.insert(key, kind);
        }
        readings.push(
            SeriesDef::new(device.clone(), id, String::new()).of_kind(kind),
            time_ns,
            value,
            quality,
        );
        Ok(())
    }
}
