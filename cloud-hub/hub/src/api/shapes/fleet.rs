//! The fleet at a glance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Device, DeviceState};
use crate::pulse::{Beats, Figures};

/// How many devices are in which state; one that was shut out is in none of the others
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetCounts {
    /// All devices
    pub devices: u64,
    /// Those that are agents
    pub agents: u64,
    /// Heard from in time
    pub online: u64,
    /// Late
    pub suspect: u64,
    /// They come and go
    pub flapping: u64,
    /// Gone
    pub offline: u64,
    /// They never had a session
    pub never: u64,
    /// Shut out for good
    pub revoked: u64,
}

/// How many devices have a newest reading of which age; without those that were shut out
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetFreshness {
    /// Within a minute
    pub minute: u64,
    /// Older, and within an hour
    pub hour: u64,
    /// Older, and within a day
    pub day: u64,
    /// Older than a day
    pub older: u64,
    /// No reading at all
    pub none: u64,
}

/// What is given up and what is wrong
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetLosses {
    /// Gaps whose readings end within the last day
    pub gaps: u64,
    /// Readings in them; of some gaps nobody knows how many
    pub dropped: u64,
    /// Readings that were stored once and are gone, over all time
    pub lost: u64,
    /// Agents whose ledgers do not balance
    pub unbalanced: u64,
}

/// The spool that has the least room left
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FullestSpool {
    /// Whose
    pub agent: String,
    /// Bytes in it
    pub bytes: u64,
    /// Its quota in bytes
    pub quota_bytes: u64,
}

/// The room that is left
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetStorage {
    /// Bytes that are free where the hub keeps its data; null when that is not known
    #[schema(required)]
    pub free_bytes: Option<u64>,
    /// Bytes in all there
    #[schema(required)]
    pub total_bytes: Option<u64>,
    /// Bytes of sealed files
    pub store_bytes: u64,
    /// Agents that told how full their spools are since this hub started
    pub spools: u64,
    /// The fullest of these by its quota
    #[schema(required)]
    pub fullest: Option<FullestSpool>,
}

/// What was noted in slots of one width, the oldest first. Of slots in which the hub did not look there is no entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetHistory {
    /// The width of a slot in ms
    pub width_ms: i64,
    /// Where each begins (Unix ms)
    pub t: Vec<i64>,
    /// Devices online, the fewest in the slot
    pub online: Vec<u64>,
    /// Devices that are late, come and go, or are gone, the most
    pub away: Vec<u64>,
    /// Devices with a reading of the last minute, the fewest
    pub fresh: Vec<u64>,
    /// Readings stored a second; null where it was not watched long enough to say
    pub rate: Vec<Option<f64>>,
    /// Readings pending at agents, the most
    pub backlog: Vec<u64>,
    /// Bytes free where the hub keeps its data, the least; null where that is not known
    pub free_bytes: Vec<Option<u64>>,
}

impl FleetHistory {
    /// Of noted figures.
    #[must_use]
    pub fn of(width_ms: i64, slots: &[Figures]) -> Self {
        let mut all = Self { width_ms, ..Self::default() };
        for slot in slots {
            all.t.push(slot.from_ms);
            all.online.push(slot.online);
            all.away.push(slot.away);
            all.fresh.push(slot.fresh);
            all.rate.push(rate(slot.stored, slot.watched_ms));
            all.backlog.push(slot.backlog);
            all.free_bytes.push(slot.free_bytes);
        }
        all
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
fn rate(stored: u64, watched_ms: u64) -> Option<f64> {
    (watched_ms > 0).then(|| (stored as f64 / watched_ms as f64 * 1e4).round() / 10.0)
}

/// The fleet at a glance
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetAnswer {
    /// When (Unix ms)
    pub as_of_ms: i64,
    /// Since when this hub has looked (Unix ms): the histories are kept in memory, and begin anew when it does
    #[schema(required)]
    pub since_ms: Option<i64>,
    /// By state
    pub counts: FleetCounts,
    /// By the age of their newest readings
    pub freshness: FleetFreshness,
    /// Readings a second over the last 10 s
    pub rate: f64,
    /// Readings pending at agents as last reported
    pub backlog: u64,
    /// What was given up, by the times of its readings
    pub losses: FleetLosses,
    /// Readings given up by hour, the newest last: the 24 hours until now
    pub dropped_by_hour: Vec<u64>,
    /// The room that is left
    pub storage: FleetStorage,
    /// The last hour by minute
    pub minutes: FleetHistory,
    /// The last week by hour
    pub hours: FleetHistory,
    /// The first devices by id, as many as were asked for with `rows`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub first: Option<FleetTable>,
}

/// All devices with what a list of them shows, by columns of one length, in the order of their ids
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetTable {
    /// When (Unix ms)
    pub as_of_ms: i64,
    /// Their ids
    pub id: Vec<String>,
    /// Names for people; empty for none
    pub title: Vec<String>,
    /// The agents that they are behind
    pub agent: Vec<String>,
    /// Where they are; empty when nobody said
    pub site: Vec<String>,
    /// The groups that they are in
    pub groups: Vec<Vec<String>>,
    /// Their tags
    pub tags: Vec<BTreeMap<String, String>>,
    /// The names of their profiles; empty when not known
    pub profile: Vec<String>,
    /// Makers and models; empty when not known
    pub model: Vec<String>,
    /// Versions of their firmware; empty when not known
    pub firmware: Vec<String>,
    /// Names and versions of their agents' software; empty when not known
    pub software: Vec<String>,
    /// Whether their agents are there
    pub state: Vec<DeviceState>,
    /// Whether their agents were shut out
    pub revoked: Vec<bool>,
    /// Their newest readings (Unix ms)
    pub last_reading_ms: Vec<Option<i64>>,
    /// Readings a second over the last 10 s
    pub rate: Vec<f64>,
    /// Readings pending at their agents
    pub backlog: Vec<u64>,
    /// Readings that their agents produced
    pub produced: Vec<u64>,
    /// Of these, stored here
    pub stored: Vec<u64>,
    /// Of these, given up
    pub dropped: Vec<u64>,
    /// Of these, refused here
    pub refused: Vec<u64>,
    /// Gaps that are listed
    pub gaps: Vec<u64>,
    /// Whether their agents' ledgers balance
    pub balanced: Vec<bool>,
    /// The last 24 hours, the newest last, a sign for each: `.` the hub did not look, `o` the device was heard of, `g` so
    /// it was, and its agent was away for a part, `a` its agent was away, `s` its agent was there and nothing came from it,
    /// `x` its agent gave readings of that time up
    pub hours: Vec<String>,
    /// The last 60 minutes likewise
    pub minutes: Vec<String>,
}

/// The first so many of a column.
fn head<T: Clone>(column: &[T], most: usize) -> Vec<T> {
    column.iter().take(most).cloned().collect()
}

impl FleetTable {
    /// The same of the first so many devices.
    #[must_use]
    pub fn first(&self, most: usize) -> Self {
        Self {
            as_of_ms: self.as_of_ms,
            id: head(&self.id, most),
            title: head(&self.title, most),
            agent: head(&self.agent, most),
            site: head(&self.site, most),
            groups: head(&self.groups, most),
            tags: head(&self.tags, most),
            profile: head(&self.profile, most),
            model: head(&self.model, most),
            firmware: head(&self.firmware, most),
            software: head(&self.software, most),
            state: head(&self.state, most),
            revoked: head(&self.revoked, most),
            last_reading_ms: head(&self.last_reading_ms, most),
            rate: head(&self.rate, most),
            backlog: head(&self.backlog, most),
            produced: head(&self.produced, most),
            stored: head(&self.stored, most),
            dropped: head(&self.dropped, most),
            refused: head(&self.refused, most),
            gaps: head(&self.gaps, most),
            balanced: head(&self.balanced, most),
            hours: head(&self.hours, most),
            minutes: head(&self.minutes, most),
        }
    }

    /// Adds a device.
    pub fn push(&mut self, device: Device, beats: Beats) {
        let about = device.about.unwrap_or_default();
        self.id.push(device.id);
        self.title.push(device.title);
        self.agent.push(device.agent);
        self.site.push(device.site);
        self.groups.push(device.groups);
        self.tags.push(device.tags);
        self.profile.push(about.profile);
        self.model.push(format!("{} {}", about.vendor, about.model).trim().to_owned());
        self.firmware.push(about.firmware);
        self.software.push(device.software.unwrap_or_default());
        self.state.push(device.state);
        self.revoked.push(device.revoked);
        self.last_reading_ms.push(device.last_reading_ms);
        self.rate.push(device.rate);
        self.backlog.push(device.backlog);
        self.produced.push(device.ledger.produced);
        self.stored.push(device.ledger.stored);
        self.dropped.push(device.ledger.dropped);
        self.refused.push(device.ledger.refused);
        self.gaps.push(device.ledger.gaps.len() as u64);
        self.balanced.push(device.ledger.balanced);
        self.hours.push(beats.hours);
        self.minutes.push(beats.minutes);
    }
}
