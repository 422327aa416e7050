//! The newest values of the points that interlocks look at.

use std::collections::HashMap;
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tideline_protocol::value::{Quality, Value};
use tokio::time::Instant;

use crate::source::Readings;

/// How old a value may be, in intervals of its point, and still say how things are now.
const INTERVALS_MAX: u32 = 3;
/// What is not older than this is new whatever its interval.
const AGE_MIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Watched {
    age_max: Duration,
    // When it came, and what: none when that was not good.
    seen: Option<(Instant, Value)>,
}

/// The newest values of some points.
#[derive(Debug, Default)]
pub struct Newest(HashMap<DeviceId, HashMap<String, Watched>>);

impl Newest {
    /// Looks at a point from now on, which is expected this often.
    pub fn watch(&mut self, device: &DeviceId, point: &str, interval_ms: u32) {
        let age_max = (Duration::from_millis(interval_ms.into()) * INTERVALS_MAX).max(AGE_MIN);
        let points = self.0.entry(device.clone()).or_default();
        points.entry(point.to_owned()).or_insert(Watched { age_max, seen: None }).age_max = age_max;
    }

    /// Forgets the devices of which this is not true.
    pub fn keep(&mut self, is_kept: impl Fn(&DeviceId) -> bool) {
        self.0.retain(|device, _| is_kept(device));
    }

    /// Notes what came `now`. The last of a point counts, as its device said it last.
    pub fn see(&mut self, readings: &Readings, now: Instant) {
        if self.0.is_empty() {
            return;
        }
        for (def, samples) in &readings.rows {
            let points = self.0.get_mut(&def.device);
            let Some(watched) = points.and_then(|points| points.get_mut(def.point.as_str())) else {
                continue;
            };
            if let Some(sample) = samples.last() {
                let (value, quality) = readings.boxes.value(sample.value, def.kind());
                let is_good = quality == Quality::Good && value != Value::Null;
                watched.seen = is_good.then_some((now, value));
            }
        }
    }

    /// What a point is now; none when nobody knows.
    pub fn value(&self, device: &DeviceId, point: &str, now: Instant) -> Option<Value> {
        let watched = self.0.get(device)?.get(point)?;
        let (at, value) = watched.seen.as_ref()?;
        (now.saturating_duration_since(*at) <= watched.age_max).then(|| value.clone())
    }
}
