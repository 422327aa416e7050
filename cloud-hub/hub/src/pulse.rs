//! How the fleet fared of late: figures by minute and by hour, and for each device whether it was heard of.
//!
//! A core without I/O: what was seen comes in by [`Pulse::note`], and rings of a fixed length are kept. All of it is in
//! memory: a hub that starts again begins anew, and tells since when it has looked. It must never say of a time at which
//! nobody looked that nothing happened.

mod marks;
pub mod watch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use marks::{Beats, Marks};

use crate::presence::Now;

/// Width of a minute's slot in ms.
pub const MINUTE_MS: i64 = 60_000;
/// Width of an hour's slot in ms.
pub const HOUR_MS: i64 = 3_600_000;
/// Minutes that are kept of the fleet, and of each device.
pub const MINUTES_MAX: usize = 60;
/// Hours that are kept of the fleet: a week.
pub const HOURS_MAX: usize = 168;
/// Hours that are kept of each device.
pub const DEVICE_HOURS_MAX: usize = 24;

/// What the fleet was like at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Devices whose agents are there.
    pub online: u64,
    /// Devices whose agents were there once and are not, or come and go.
    pub away: u64,
    /// Devices with a reading of the last minute.
    pub fresh: u64,
    /// Readings pending at agents.
    pub backlog: u64,
    /// Readings stored since this hub started.
    pub stored: u64,
    /// Bytes that are free where the hub keeps its data.
    pub free_bytes: Option<u64>,
}

/// What was seen of a device at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight<'a> {
    /// Its id.
    pub device: &'a str,
    /// Whether it is an agent's own device, which is heard of whenever its agent is there.
    pub is_agent: bool,
    /// Whether its agent is there.
    pub is_there: bool,
    /// Its readings that can be queried.
    pub readings: u64,
    /// Its newest reading, Unix ms.
    pub last_ms: Option<i64>,
}

/// What the fleet was like in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Where it begins, Unix ms.
    pub from_ms: i64,
    /// Devices online, the fewest.
    pub online: u64,
    /// Devices away, the most.
    pub away: u64,
    /// Devices with a reading of the last minute, the fewest.
    pub fresh: u64,
    /// Readings pending at agents, the most.
    pub backlog: u64,
    /// Readings that were stored.
    pub stored: u64,
    /// For how long that was watched, in ms.
    pub watched_ms: u64,
    /// Bytes free, the least.
    pub free_bytes: Option<u64>,
}

impl Figures {
    fn of(from_ms: i64, sample: &Sample, came: Came) -> Self {
        let Sample { online, away, fresh, backlog, free_bytes, .. } = *sample;
        let Came { stored, watched_ms } = came;
        Self { from_ms, online, away, fresh, backlog, stored, watched_ms, free_bytes }
    }

    fn add(&mut self, sample: &Sample, came: Came) {
        self.online = self.online.min(sample.online);
        self.away = self.away.max(sample.away);
        self.fresh = self.fresh.min(sample.fresh);
        self.backlog = self.backlog.max(sample.backlog);
        self.stored = self.stored.saturating_add(came.stored);
        self.watched_ms = self.watched_ms.saturating_add(came.watched_ms);
        self.free_bytes = match (self.free_bytes, sample.free_bytes) {
            (Some(least), Some(now)) => Some(least.min(now)),
            (known, None) | (None, known) => known,
        };
    }
}

/// What came between two samples.
#[derive(Debug, Clone, Copy)]
struct Came {
    stored: u64,
    watched_ms: u64,
}

/// The newest slots of one width, the oldest first.
#[derive(Debug)]
struct Ring {
    width_ms: i64,
    slots_max: usize,
    slots: VecDeque<Figures>,
}

impl Ring {
    const fn new(width_ms: i64, slots_max: usize) -> Self {
        Self { width_ms, slots_max, slots: VecDeque::new() }
    }

    fn note(&mut self, now_ms: i64, sample: &Sample, came: Came) {
        let from_ms = now_ms.div_euclid(self.width_ms).saturating_mul(self.width_ms);
        match self.slots.back_mut() {
            Some(newest) if newest.from_ms == from_ms => return newest.add(sample, came),
            // A clock that was set back: what stands beyond it was noted at times that never were.
            Some(newest) if newest.from_ms > from_ms => self.slots.retain(|slot| slot.from_ms < from_ms),
            _ => {}
        }
        self.slots.push_back(Figures::of(from_ms, sample, came));
        let oldest_ms = from_ms - self.width_ms.saturating_mul(i64::try_from(self.slots_max).unwrap_or(0));
        self.slots.retain(|slot| slot.from_ms > oldest_ms);
    }
}

/// What was last known of a device, and when it was heard of.
#[derive(Debug, Clone, Copy, Default)]
struct Beat {
    readings: u64,
    last_ms: Option<i64>,
    minutes: Marks,
    hours: Marks,
}

#[derive(Debug)]
struct Inner {
    since_ms: Option<i64>,
    before: Option<(Now, u64)>,
    minutes: Ring,
    hours: Ring,
    devices: HashMap<String, Beat>,
    disk: Option<Disk>,
}

/// The room where the hub keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// What was noted of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// Since when this hub has looked, Unix ms.
    pub since_ms: Option<i64>,
    /// By minute, the oldest first; of minutes in which nobody looked there is none.
    pub minutes: Vec<Figures>,
    /// By hour, likewise.
    pub hours: Vec<Figures>,
    /// The room where the hub keeps its data, where that is known.
    pub disk: Option<Disk>,
}

/// The rings.
#[derive(Debug)]
pub struct Pulse {
    inner: Mutex<Inner>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                since_ms: None,
                before: None,
                minutes: Ring::new(MINUTE_MS, MINUTES_MAX),
                hours: Ring::new(HOUR_MS, HOURS_MAX),
                devices: HashMap::new(),
                disk: None,
            }),
        }
    }
}

impl Pulse {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is seen now: of the fleet, and of each device that there is.
    pub fn note<'a>(&self, now: Now, sample: &Sample, sights: impl IntoIterator<Item = Sight<'a>>) {
        let mut inner = self.inner();
        let came = match inner.before {
            Some((at, stored)) => Came {
                stored: sample.stored.saturating_sub(stored),
                watched_ms: now.mono_ms.saturating_sub(at.mono_ms),
            },
            None => Came { stored: 0, watched_ms: 0 },
        };
        inner.since_ms.get_or_insert(now.wall_ms);
        inner.before = Some((now, sample.stored));
        inner.minutes.note(now.wall_ms, sample, came);
        inner.hours.note(now.wall_ms, sample, came);
        let mut there = HashSet::with_capacity(inner.devices.len());
        for sight in sights {
            inner.see(now.wall_ms, sight);
            there.insert(sight.device);
        }
        inner.devices.retain(|device, _| there.contains(device.as_str()));
    }

    /// The room where the hub keeps its data was looked at.
    pub fn note_disk(&self, disk: Option<Disk>) {
        self.inner().disk = disk;
    }

    /// What was noted of the fleet.
    #[must_use]
    pub fn noted(&self) -> Noted {
        let inner = self.inner();
        Noted {
            since_ms: inner.since_ms,
            minutes: inner.minutes.slots.iter().copied().collect(),
            hours: inner.hours.slots.iter().copied().collect(),
            disk: inner.disk,
        }
    }

    /// What was noted of devices, in the order asked for, with the times of readings that were given up.
    pub fn beats<'a>(
        &self,
        now_ms: i64,
        devices: impl IntoIterator<Item = (&'a str, Dropped)>,
    ) -> Vec<Beats> {
        let inner = self.inner();
        let of = |(device, dropped): (&str, Dropped)| {
            let beat = inner.devices.get(device).copied().unwrap_or_default();
            Beats {
                minutes: beat.minutes.text(now_ms.div_euclid(MINUTE_MS), MINUTES_MAX, dropped.minutes),
                hours: beat.hours.text(now_ms.div_euclid(HOUR_MS), DEVICE_HOURS_MAX, dropped.hours),
            }
        };
        devices.into_iter().map(of).collect()
    }
}

/// In which of the newest slots readings were given up: the lowest bit is that of the slot of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// By minute.
    pub minutes: u64,
    /// By hour.
    pub hours: u64,
}

impl Dropped {
    /// Adds a gap, by the times of its readings in Unix ms.
    pub fn add(&mut self, now_ms: i64, from_ms: i64, to_ms: i64) {
        self.minutes |= marks::between(now_ms, from_ms, to_ms, MINUTE_MS);
        self.hours |= marks::between(now_ms, from_ms, to_ms, HOUR_MS);
    }
}

impl Inner {
    fn see(&mut self, now_ms: i64, sight: Sight<'_>) {
        let known = self.devices.get(sight.device).copied();
        let came = |old: &Beat| sight.last_ms > old.last_ms || sight.readings > old.readings;
        let is_heard = known.as_ref().is_some_and(came) || (sight.is_agent && sight.is_there);
        let mut beat = known.unwrap_or_default();
        beat.readings = sight.readings;
        beat.last_ms = sight.last_ms;
        beat.minutes.mark(now_ms.div_euclid(MINUTE_MS), is_heard, !sight.is_there);
        beat.hours.mark(now_ms.div_euclid(HOUR_MS), is_heard, !sight.is_there);
        match self.devices.get_mut(sight.device) {
            Some(kept) => *kept = beat,
            None => {
                self.devices.insert(sight.device.to_owned(), beat);
            }
        }
    }
}

#[cfg(test)]
mod tests;
