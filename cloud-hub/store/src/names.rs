//! The names of all series, and what else is said of them: each text once.
//!
//! ```text
//! devices   id, first series, last series   ┐
//! points    id                              ├ found by a table of numbers that hashes the texts themselves
//! traits    unit, kind, name                ┘
//! series    device, point, trait, next series of the device: 16 bytes
//! ```
//! A hub may have a million series of a few thousand devices, whose points are mostly called alike: what is kept for each
//! series is numbers. Nothing is ever taken out, so that a number stands for the same text for ever.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use tideline_protocol::model::{DeviceId, ModelError, PointId};
use tideline_protocol::value::ValueKind;

use crate::hot::SeriesId;
use crate::series::{SeriesMeta, SeriesText};

/// Stands for no series.
const NONE: SeriesId = SeriesId::MAX;

/// What of a series is mostly the same as of others.
#[derive(Debug, PartialEq, Eq)]
struct Trait {
    unit: Arc<str>,
    kind: ValueKind,
    name: Arc<str>,
}

#[derive(Debug)]
struct Device {
    id: Arc<DeviceId>,
    first: SeriesId,
    last: SeriesId,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    device: u32,
    point: u32,
    of: u32,
    // The next series of the device.
    next: SeriesId,
}

/// All series by number.
#[derive(Debug, Default)]
pub struct Names {
    hasher: RandomState,
    devices: Vec<Device>,
    devices_by_name: HashTable<u32>,
    points: Vec<Arc<PointId>>,
    points_by_name: HashTable<u32>,
    traits: Vec<Trait>,
    traits_by_text: HashTable<u32>,
    series: Vec<Entry>,
    by_name: HashTable<SeriesId>,
    // The device of the series that was named last: the next one is mostly of the same.
    recent: u32,
}

/// What became of a series that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It was as it is now.
    Known(SeriesId),
    /// It is new, or something else is said of it.
    Changed(SeriesId),
}

/// Whether what is said of a series that is known counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is the newest.
    Newest,
    /// Something newer may be known.
    Older,
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Names {
    /// How many series there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.series.len()
    }

    /// The number of a series, which is made when it is new.
    ///
    /// # Errors
    /// Its device or its point is none.
    pub fn name(&mut self, text: &SeriesText<'_>, age: Age) -> Result<Named, ModelError> {
        let device = self.device(text.device)?;
        let point = self.point(text.point)?;
        if let Some(id) = self.find_entry(device, point) {
            if age == Age::Older || self.text(id).is_some_and(|known| known == *text) {
                return Ok(Named::Known(id));
            }
            let of = self.traits(text);
            if let Some(entry) = self.series.get_mut(id as usize) {
                entry.of = of;
            }
            return Ok(Named::Changed(id));
        }
        let (id, of) = (number(self.series.len()), self.traits(text));
        self.series.push(Entry { device, point, of, next: NONE });
        let Self { hasher, series, by_name, .. } = self;
        by_name.insert_unique(hasher.hash_one((device, point)), id, |id| {
            series.get(*id as usize).map_or(0, |entry| hasher.hash_one((entry.device, entry.point)))
        });
        if let Some(device) = self.devices.get_mut(device as usize) {
            let before = std::mem::replace(&mut device.last, id);
            match self.series.get_mut(before as usize) {
                Some(before) => before.next = id,
                None => device.first = id,
            }
        }
        Ok(Named::Changed(id))
    }

    fn device(&mut self, text: &str) -> Result<u32, ModelError> {
        if self.devices.get(self.recent as usize).is_some_and(|device| device.id.as_str() == text) {
            return Ok(self.recent);
        }
        let found = self.find_device(text);
        self.recent = match found {
            Some(found) => found,
            None => {
                let new = number(self.devices.len());
                self.devices.push(Device { id: Arc::new(DeviceId::parse(text)?), first: NONE, last: NONE });
                let Self { hasher, devices, devices_by_name, .. } = self;
                devices_by_name.insert_unique(hasher.hash_one(text), new, |at| {
                    devices.get(*at as usize).map_or(0, |device| hasher.hash_one(device.id.as_str()))
                });
                new
            }
        };
        Ok(self.recent)
    }

    fn point(&mut self, text: &str) -> Result<u32, ModelError> {
        if let Some(found) = self.find_point(text) {
            return Ok(found);
        }
        let new = number(self.points.len());
        self.points.push(Arc::new(PointId::parse(text)?));
        let Self { hasher, points, points_by_name, .. } = self;
        points_by_name.insert_unique(hasher.hash_one(text), new, |at| {
            points.get(*at as usize).map_or(0, |point| hasher.hash_one(point.as_str()))
        });
        Ok(new)
    }

    fn traits(&mut self, SeriesText { unit, kind, name, .. }: &SeriesText<'_>) -> u32 {
        let Self { hasher, traits, traits_by_text, .. } = self;
        let hash = hasher.hash_one((unit, kind.as_str(), name));
        let same = |at: &u32| {
            traits
                .get(*at as usize)
                .is_some_and(|known| (&*known.unit, known.kind, &*known.name) == (*unit, *kind, *name))
        };
        if let Some(found) = traits_by_text.find(hash, same) {
            return *found;
        }
        let new = number(traits.len());
        traits.push(Trait { unit: (*unit).into(), kind: *kind, name: (*name).into() });
        traits_by_text.insert_unique(hash, new, |at| {
            traits
                .get(*at as usize)
                .map_or(0, |known| hasher.hash_one((&*known.unit, known.kind.as_str(), &*known.name)))
        });
        new
    }

    fn find_device(&self, text: &str) -> Option<u32> {
        let is = |at: &u32| self.devices.get(*at as usize).is_some_and(|device| device.id.as_str() == text);
        self.devices_by_name.find(self.hasher.hash_one(text), is).copied()
    }

    fn find_point(&self, text: &str) -> Option<u32> {
        let is = |at: &u32| self.points.get(*at as usize).is_some_and(|point| point.as_str() == text);
        self.points_by_name.find(self.hasher.hash_one(text), is).copied()
    }

    fn find_entry(&self, device: u32, point: u32) -> Option<SeriesId> {
        let is = |id: &SeriesId| {
            self.series.get(*id as usize).is_some_and(|entry| (entry.device, entry.point) == (device, point))
        };
        self.by_name.find(self.hasher.hash_one((device, point)), is).copied()
    }

    /// The number of the series of this name.
    #[must_use]
    pub fn find(&self, device: &DeviceId, point: &PointId) -> Option<SeriesId> {
        self.find_entry(self.find_device(device.as_str())?, self.find_point(point.as_str())?)
    }

    fn text_of(&self, entry: &Entry) -> Option<SeriesText<'_>> {
        let of = self.traits.get(entry.of as usize)?;
        Some(SeriesText {
            device: self.devices.get(entry.device as usize)?.id.as_str(),
            point: self.points.get(entry.point as usize)?.as_str(),
            unit: &of.unit,
            kind: of.kind,
            name: &of.name,
        })
    }

    /// What is said of a series.
    #[must_use]
    pub fn text(&self, id: SeriesId) -> Option<SeriesText<'_>> {
        self.series.get(id as usize).and_then(|entry| self.text_of(entry))
    }

    /// The same, to be kept.
    #[must_use]
    pub fn meta(&self, id: SeriesId) -> Option<SeriesMeta> {
        let entry = self.series.get(id as usize)?;
        let of = self.traits.get(entry.of as usize)?;
        Some(SeriesMeta {
            device: Arc::clone(&self.devices.get(entry.device as usize)?.id),
            point: Arc::clone(self.points.get(entry.point as usize)?),
            unit: Arc::clone(&of.unit),
            kind: of.kind,
            name: Arc::clone(&of.name),
        })
    }

    /// All series by number.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, SeriesText<'_>)> {
        (0..).zip(&self.series).filter_map(|(id, entry)| Some((id, self.text_of(entry)?)))
    }

    fn following(&self, first: SeriesId) -> impl Iterator<Item = SeriesId> + '_ {
        let next = |id: &SeriesId| self.series.get(*id as usize).map(|entry| entry.next);
        let all = std::iter::successors(Some(first), next);
        all.take_while(|id| *id != NONE)
    }

    /// All devices that have a series, with the numbers of these, ascending.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, impl Iterator<Item = SeriesId> + '_)> {
        self.devices.iter().map(|device| (&*device.id, self.following(device.first)))
    }

    /// The series of a device by number.
    pub fn of_device(&self, device: &DeviceId) -> impl Iterator<Item = SeriesId> + '_ {
        let found = self.find_device(device.as_str()).and_then(|at| self.devices.get(at as usize));
        self.following(found.map_or(NONE, |device| device.first))
    }

    /// The first of the series that are wanted, of one device or of all, by their names as device/point: `most` of those
    /// behind `after`, which need not be the name of one.
    #[must_use]
    pub fn first(
        &self,
        device: Option<&DeviceId>,
        after: Option<&str>,
        most: usize,
        mut wanted: impl FnMut(&SeriesText<'_>) -> bool,
    ) -> Vec<SeriesId> {
        let mut heap: BinaryHeap<Ranked<'_>> = BinaryHeap::new();
        let one = device.map(|device| self.find_device(device.as_str()).unwrap_or(NONE) as usize);
        // A name has a slash, and what stands before it is looked at once for each device.
        let behind = after.and_then(|after| after.split_once('/'));
        let devices = match one {
            None => self.devices.as_slice(),
            Some(at) => self.devices.get(at..).and_then(|from| from.get(..1)).unwrap_or(&[]),
        };
        for device in devices {
            let full = heap.len() >= most;
            let last = heap.peek().map(|last| last.device);
            let own = (device.id.as_str(), "");
            // All of its series come later than those that are there, or are not behind.
            if full && last.is_none_or(|last| by_name(own, (last, "")).is_gt())
                || behind.is_some_and(|(behind, _)| by_name(own, (behind, "")).is_lt())
            {
                continue;
            }
            for id in self.following(device.first) {
                let Some(text) = self.text(id) else { continue };
                let ranked = Ranked { device: text.device, point: text.point, id };
                let is_behind = match (behind, after) {
                    (Some(behind), _) => by_name((text.device, text.point), behind).is_gt(),
                    (None, Some(after)) => ranked.bytes().gt(after.bytes()),
                    (None, None) => true,
                };
                let among = heap.len() < most || heap.peek().is_some_and(|last| ranked < *last);
                if is_behind && among && wanted(&text) {
                    heap.push(ranked);
                    if heap.len() > most {
                        heap.pop();
                    }
                }
            }
        }
        heap.into_sorted_vec().into_iter().map(|ranked| ranked.id).collect()
    }
}

/// The order of names as device/point. No device has a slash, so that one which another begins with comes before that one
/// where a slash does.
fn by_name(a: (&str, &str), b: (&str, &str)) -> Ordering {
    let (x, y) = (a.0.as_bytes(), b.0.as_bytes());
    let shared = x.len().min(y.len());
    let begun = x.iter().take(shared).cmp(y.iter().take(shared));
    // Of the longer one the byte where the slash stands in the shorter.
    let slashed = || match (x.get(shared), y.get(shared)) {
        (Some(byte), _) => byte.cmp(&b'/'),
        (None, Some(byte)) => b'/'.cmp(byte),
        (None, None) => a.1.cmp(b.1),
    };
    begun.then_with(slashed)
}

/// A series in the order of names.
struct Ranked<'a> {
    device: &'a str,
    point: &'a str,
    id: SeriesId,
}

impl Ranked<'_> {
    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.device.bytes().chain(*b"/").chain(self.point.bytes())
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        by_name((self.device, self.point), (other.device, other.point))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

#[cfg(test)]
mod tests;
