//! Readings that say what was said before: a profile may have them held back, by `on_change` and `deadband` of its groups
//! and points.
//!
//! All readings of a source go through one [`Unchanged`], which knows of each series the reading that was sent last. One
//! that is as that, or within the deadband of it, is not sent; at least each [`Point::heartbeat_ms`] one is all the same,
//! so that who looks at the series can tell rest from silence. An attempt at a source begins with none: what was before is
//! not known to be what is. Nulls, texts and whatever is not of good quality are held back only where they are the
//! same as before, so that the first reading after a gap or with another quality is always sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tideline_profiles::{Point, Profile};
use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::Boxes;

use crate::spooler::SeriesRows;

/// Most series of a source that are remembered (INV-6): as many as the spool's dictionary holds. Readings of others are sent.
const SERIES_MAX: usize = 100_000;

/// Devices of some readings, with what their profiles say.
pub type Profiles = BTreeMap<DeviceId, Arc<Profile>>;

/// What was sent last of the series of a source.
#[derive(Debug, Default)]
pub struct Unchanged {
    sent: HashMap<DeviceId, HashMap<PointId, Option<Sent>>>,
    series: usize,
}

/// The reading that was sent last.
#[derive(Debug, Clone, Copy)]
struct Sent {
    time_ns: i64,
    word: f64,
    // What tells values apart that are no plain numbers of good quality.
    print: u64,
}

/// What a point's profile says of readings that change little.
#[derive(Debug, Clone, Copy)]
struct Limit {
    band: f64,
    heartbeat_ns: i64,
}

impl Limit {
    /// Of a point; none when all readings of it are sent.
    fn of(point: &Point) -> Option<Self> {
        let heartbeat_ns = i64::try_from(point.heartbeat_ms()).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS);
        Some(Self { band: point.band()?, heartbeat_ns })
    }
}

impl Unchanged {
    /// Takes out of these rows what is not to be sent; gives how many readings that are. The others count as sent.
    pub fn take_out(&mut self, rows: &mut Vec<SeriesRows>, boxes: &Boxes, profiles: &Profiles) -> u64 {
        let mut held = 0;
        for (def, samples) in &mut *rows {
            let point = profiles.get(&def.device).and_then(|profile| profile.point(def.point.as_str()));
            let Some(limit) = point.and_then(Limit::of) else { continue };
            let Some(place) = self.place(&def.device, &def.point) else { continue };
            let before = samples.len();
            samples.retain(|sample| is_news(place, *sample, boxes, limit));
            held += before - samples.len();
        }
        if held > 0 {
            rows.retain(|(_, samples)| !samples.is_empty());
        }
        held as u64
    }

    /// Where the last reading of a series stands; nowhere when there are too many series.
    fn place(&mut self, device: &DeviceId, point: &PointId) -> Option<&mut Option<Sent>> {
        let is_known = self.sent.get(device).is_some_and(|points| points.contains_key(point));
        if !is_known {
            if self.series >= SERIES_MAX {
                return None;
            }
            self.series += 1;
            self.sent.entry(device.clone()).or_default().insert(point.clone(), None);
        }
        self.sent.get_mut(device)?.get_mut(point)
    }
}

/// Whether a reading is to be sent, and is the last one of its series then.
fn is_news(last: &mut Option<Sent>, sample: Sample, boxes: &Boxes, limit: Limit) -> bool {
    let Sample { time_ns, value: word } = sample;
    let print = boxes.print(word);
    let next = Some(Sent { time_ns, word, print });
    let Some(sent) = *last else {
        *last = next;
        return true;
    };
    // Of an earlier time: what was sent last is not what was said last before the next one.
    if time_ns < sent.time_ns {
        *last = None;
        return true;
    }
    let are_numbers = !word.is_nan() && !sent.word.is_nan();
    let is_near = if are_numbers { (word - sent.word).abs() <= limit.band } else { print == sent.print };
    if is_near && time_ns.saturating_sub(sent.time_ns) < limit.heartbeat_ns {
        return false;
    }
    *last = next;
    true
}

#[cfg(test)]
mod tests;
