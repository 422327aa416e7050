//! Readings as a source hands them on, each checked by the profile of its device.

use std::sync::Arc;

use tideline_profiles::{Profile, check_kind};
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::time::Clock;
use tideline_protocol::value::{Boxes, Quality, Value};

use super::point_id;
use super::reads::Found;
use super::unchanged::Profiles;
use crate::clock::Ahead;
use crate::spooler::SeriesRows;

/// Most rejections that are told in words; the others are counted.
const REASONS_MAX: usize = 16;

/// A device that readings are of.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its id at the hub.
    pub id: DeviceId,
    /// What its points are and what is allowed of them; without one all values are.
    pub profile: Option<Arc<Profile>>,
}

impl Device {
    /// One of which nothing is known but its id.
    #[must_use]
    pub const fn plain(id: DeviceId) -> Self {
        Self { id, profile: None }
    }

    /// One of a family.
    #[must_use]
    pub const fn of(id: DeviceId, profile: Arc<Profile>) -> Self {
        Self { id, profile: Some(profile) }
    }

    /// Judges a value, and says which series it is of.
    fn judge(&self, point: &str, value: Value) -> Result<(SeriesDef, Value), String> {
        let id = point_id(point).ok_or_else(|| format!("{point:?} makes no name of a point"))?;
        let Some(profile) = &self.profile else {
            let kind = value.kind().unwrap_or_default();
            let value = check_kind(id.as_str(), kind, value).map_err(|error| error.to_string())?;
            return Ok((SeriesDef::new(self.id.clone(), id, String::new()).of_kind(kind), value));
        };
        let value = profile.check(id.as_str(), value).map_err(|error| error.to_string())?;
        Ok((profile.series(self.id.clone(), id), value))
    }
}

/// Readings that are durable together, with what was rejected of them.
#[derive(Debug, Default)]
pub struct Readings {
    pub(crate) rows: Vec<SeriesRows>,
    pub(crate) boxes: Boxes,
    pub(crate) clock: Option<Ahead>,
    pub(crate) position: Option<Vec<u8>>,
    pub(crate) stream: Option<String>,
    pub(crate) rejected: u64,
    pub(crate) reasons: Vec<String>,
    pub(crate) profiles: Profiles,
    time_ns: i64,
}

impl Readings {
    /// None yet, to be stamped with this clock's time.
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        Self { time_ns: clock.wall_ns(), clock: Some(Ahead::of(clock)), ..Self::default() }
    }

    /// None yet, with times that somebody else gave: they are taken as they are.
    #[must_use]
    pub fn of_own_times() -> Self {
        Self::default()
    }

    /// Adds a good value of the time that all have. One that the profile rules out is counted as rejected.
    pub fn add(&mut self, device: &Device, point: &str, value: impl Into<Reading>) {
        let Reading(value, quality) = value.into();
        self.add_at(device, point, self.time_ns, value, quality);
    }

    /// As [`Self::add`], with everything given.
    pub fn add_at(&mut self, device: &Device, point: &str, time_ns: i64, value: Value, quality: Quality) {
        match device.judge(point, value) {
            Ok((def, value)) => {
                if let Some(profile) = &device.profile
                    && !self.profiles.contains_key(&device.id)
                {
                    self.profiles.insert(device.id.clone(), Arc::clone(profile));
                }
                self.push(def, time_ns, value, quality);
            }
            Err(reason) => self.reject(format!("{}: {reason}", device.id)),
        }
    }

    /// Adds one that is checked.
    pub fn push(&mut self, def: SeriesDef, time_ns: i64, value: Value, quality: Quality) {
        let sample = Sample { time_ns, value: self.word(value, quality) };
        match self.rows.last_mut() {
            Some((last, samples)) if *last == def => samples.push(sample),
            _ => self.rows.push((def, vec![sample])),
        }
    }

    /// Adds readings of one series that are checked; their values are of [`Self::word`].
    pub fn push_samples(&mut self, def: SeriesDef, samples: Vec<Sample>) {
        self.rows.push((def, samples));
    }

    /// A value as it stands in a sample of these readings.
    pub fn word(&mut self, value: Value, quality: Quality) -> f64 {
        self.boxes.word(value, quality)
    }

    /// Counts something that makes no reading, and says why.
    pub fn reject(&mut self, reason: String) {
        self.rejected += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }

    /// Where the source is once these are durable.
    #[must_use]
    pub fn at(mut self, position: Vec<u8>) -> Self {
        self.position = Some(position);
        self
    }

    /// The stream that they go to in place of the source's own.
    #[must_use]
    pub fn to_stream(mut self, stream: &str) -> Self {
        self.stream = Some(stream.to_owned());
        self
    }

    /// The time that readings are stamped with, ns since 1970.
    #[must_use]
    pub const fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The last one of a point.
    #[must_use]
    pub fn newest(&self, device: &DeviceId, point: &PointId) -> Option<Found> {
        let is_meant = |(def, _): &&(SeriesDef, Vec<Sample>)| def.device == *device && def.point == *point;
        let (def, samples) = self.rows.iter().rfind(is_meant)?;
        let last = samples.last()?;
        let (value, quality) = self.boxes.value(last.value, def.kind());
        Some(Found { value, quality, time_ns: last.time_ns, clock: self.clock })
    }

    /// Whose they are.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.rows.iter().map(|(def, _)| &def.device)
    }

    /// Why some are rejected; the first of them.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|(_, samples)| samples.len() as u64).sum()
    }

    /// Bytes of texts and the like.
    #[must_use]
    pub fn boxed_bytes(&self) -> usize {
        self.boxes.bytes()
    }

    /// Whether there is nothing to hand on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.position.is_none()
    }
}

/// A value with its quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading(pub Value, pub Quality);

impl Reading {
    /// There should be a value, and there is none.
    #[must_use]
    pub const fn missing() -> Self {
        Self(Value::Null, Quality::Bad)
    }
}

impl From<Value> for Reading {
    fn from(value: Value) -> Self {
        Self(value, Quality::Good)
    }
}

impl From<f64> for Reading {
    fn from(value: f64) -> Self {
        Value::Float(value).into()
    }
}

impl From<i64> for Reading {
    fn from(value: i64) -> Self {
        Value::Int(value).into()
    }
}

impl From<bool> for Reading {
    fn from(value: bool) -> Self {
        Value::Bool(value).into()
    }
}

impl From<&str> for Reading {
    fn from(value: &str) -> Self {
        Value::Text(value.into()).into()
    }
}
