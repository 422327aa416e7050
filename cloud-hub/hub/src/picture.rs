//! The fleet as it was a moment ago: made once for all who ask within a second.
//!
//! What each device is like takes a walk over the registry, the ledgers and the series. A page that many look at must not
//! make it once for each of them.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::api::devices::all_views;
use crate::api::shapes::{
    Device, DevicePosition, DeviceState, FleetCounts, FleetFreshness, FleetTable, Ledger, PlanSpot,
};
use crate::hub::{App, Hub};
use crate::imports::IMPORT_PREFIX;
use crate::map::{Index, Pin, Standing};
use crate::metadata::MetadataError;
use crate::position::Position;
use crate::pulse::{DEVICE_HOURS_MAX, Dropped, HOUR_MS, MINUTE_MS, Sight};

/// For how long a picture is good enough.
const FRESH_MS: u64 = 1_000;
/// How far apart two are at least: while a script changes one device after the other, whoever asks waits for that long, and not the
/// hub for one picture after the other.
const APART_MS: u64 = 200;
/// A day, for what is told of the last one.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// The spool that has the least room left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fullest {
    /// Whose.
    pub agent: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Its quota in bytes.
    pub quota_bytes: u64,
}

/// What was given up within the last day, by the times of its readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Gaps.
    pub gaps: u64,
    /// Readings in them.
    pub rows: u64,
    /// Readings by the hour in which their gap ends, the newest first.
    pub rows_by_hour: [u64; DEVICE_HOURS_MAX],
}

/// The fleet at one moment.
#[derive(Debug)]
pub struct Picture {
    mono_ms: u64,
    /// When, Unix ms.
    pub as_of_ms: i64,
    /// How many are in which state.
    pub counts: FleetCounts,
    /// How old their newest readings are.
    pub freshness: FleetFreshness,
    /// Readings pending at agents.
    pub backlog: u64,
    /// Readings a second of all devices.
    pub rate: f64,
    /// Agents whose ledgers do not balance.
    pub unbalanced: u64,
    /// Readings that were stored once and are gone.
    pub lost_rows: u64,
    /// What was given up.
    pub lost: Lost,
    /// Agents that said how full their spools are, and the fullest.
    pub spools: (u64, Option<Fullest>),
    /// All devices.
    pub table: FleetTable,
    /// Where they are on Earth, in the order of the table.
    pub positions: Vec<Option<DevicePosition>>,
    /// Where they are on the plans of their sites.
    pub spots: Vec<Option<PlanSpot>>,
    pins: Vec<Pin>,
    index: OnceLock<Arc<Index>>,
    readings: Vec<u64>,
    plain: OnceLock<Bytes>,
    packed: OnceLock<Bytes>,
}

/// The newest picture, and the turn to make another.
#[derive(Debug, Default)]
pub struct Pictures {
    // With how often something had been changed by hand when it was begun.
    newest: Mutex<Option<(Arc<Picture>, u64)>>,
    changed: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

impl Pictures {
    /// Has the next who asks see a fleet of which something was changed by hand: a second is long for who did it.
    pub fn outdate(&self) {
        self.changed.fetch_add(1, Ordering::AcqRel);
    }

    fn newest(&self) -> Option<(Arc<Picture>, u64)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest one where it is good enough.
    fn fresh(&self, mono_ms: u64) -> Option<Arc<Picture>> {
        let (picture, seen) = self.newest()?;
        let is_fresh = mono_ms.saturating_sub(picture.mono_ms) < FRESH_MS;
        (is_fresh && self.changed.load(Ordering::Acquire) == seen).then_some(picture)
    }

    /// How long the next one is put off, ms.
    fn wait_ms(&self, mono_ms: u64) -> u64 {
        let age_ms = self.newest().map(|(picture, _)| mono_ms.saturating_sub(picture.mono_ms));
        age_ms.map_or(0, |age_ms| APART_MS.saturating_sub(age_ms))
    }
}

/// The fleet as it was within the last second.
///
/// # Errors
/// The registry cannot be read.
pub async fn of(hub: &App) -> Result<Arc<Picture>, MetadataError> {
    let fresh = || hub.pictures.fresh(hub.now().mono_ms);
    if let Some(picture) = fresh() {
        return Ok(picture);
    }
    let _turn = hub.pictures.turn.lock().await;
    // Whoever had the turn before may have made it.
    if let Some(picture) = fresh() {
        return Ok(picture);
    }
    match hub.pictures.wait_ms(hub.now().mono_ms) {
        0 => {}
        ms => tokio::time::sleep(Duration::from_millis(ms)).await,
    }
    // Before it is begun: what is changed meanwhile may not be in it.
    let seen = hub.pictures.changed.load(Ordering::Acquire);
    let mut made = hub.blocking(take).await?;
    if let Some((before, _)) = hub.pictures.newest() {
        made.follow(&before);
    }
    let made = Arc::new(made);
    *hub.pictures.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&made), seen));
    Ok(made)
}

fn take(hub: &Hub) -> Result<Picture, MetadataError> {
    let now = hub.now();
    // A file that was imported has a ledger as agents have, and is none: nobody can bring it online.
    let (files, devices): (Vec<_>, Vec<_>) =
        all_views(hub)?.into_iter().partition(|device| device.id.starts_with(IMPORT_PREFIX));
    let mut picture = Picture {
        mono_ms: now.mono_ms,
        as_of_ms: now.wall_ms,
        counts: FleetCounts::default(),
        freshness: FleetFreshness::default(),
        backlog: 0,
        rate: 0.0,
        unbalanced: 0,
        lost_rows: 0,
        lost: Lost::default(),
        spools: (0, None),
        table: FleetTable { as_of_ms: now.wall_ms, ..FleetTable::default() },
        positions: Vec::with_capacity(devices.len()),
        spots: Vec::with_capacity(devices.len()),
        pins: Vec::new(),
        index: OnceLock::new(),
        readings: Vec::with_capacity(devices.len()),
        plain: OnceLock::new(),
        packed: OnceLock::new(),
    };
    // A ledger is the agent's, and stands with each device behind it.
    let mut dropped: HashMap<String, Dropped> = HashMap::new();
    files.iter().for_each(|file| picture.add_ledger(file));
    for device in &devices {
        if !dropped.contains_key(&device.agent) {
            dropped.insert(device.agent.clone(), dropped_of(now.wall_ms, &device.ledger));
        }
        if device.id == device.agent {
            picture.counts.agents += 1;
            picture.add_ledger(device);
        }
    }
    let drops = |device: &Device| dropped.get(&device.agent).copied().unwrap_or_default();
    let asked = devices.iter().map(|device| (device.id.as_str(), drops(device)));
    for (beats, device) in hub.pulse.beats(now.wall_ms, asked).into_iter().zip(devices) {
        picture.add(&device);
        picture.readings.push(device.readings);
        picture.place(&device);
        picture.table.push(device, beats);
    }
    Ok(picture)
}

fn dropped_of(now_ms: i64, ledger: &Ledger) -> Dropped {
    let mut dropped = Dropped::default();
    ledger.gaps.iter().for_each(|gap| dropped.add(now_ms, gap.from_ms, gap.to_ms));
    dropped
}

/// How a device stands on the map.
#[must_use]
pub fn standing(state: DeviceState, revoked: bool) -> Standing {
    match state {
        _ if revoked => Standing::Revoked,
        DeviceState::Online => Standing::Online,
        DeviceState::Never => Standing::Never,
        DeviceState::Suspect => Standing::Suspect,
        DeviceState::Flapping => Standing::Flapping,
        DeviceState::Offline => Standing::Offline,
    }
}

impl Picture {
    fn add_ledger(&mut self, own: &Device) {
        self.backlog = self.backlog.saturating_add(own.backlog);
        self.unbalanced += u64::from(!own.ledger.balanced);
        self.lost_rows = self.lost_rows.saturating_add(own.ledger.lost);
        for gap in &own.ledger.gaps {
            let ago_ms = self.as_of_ms.saturating_sub(gap.to_ms);
            if ago_ms >= DAY_MS {
                continue;
            }
            self.lost.gaps += 1;
            self.lost.rows = self.lost.rows.saturating_add(gap.rows);
            let hour = self.as_of_ms.div_euclid(HOUR_MS).saturating_sub(gap.to_ms.div_euclid(HOUR_MS));
            let hour = usize::try_from(hour.max(0)).unwrap_or(usize::MAX).min(DEVICE_HOURS_MAX - 1);
            if let Some(rows) = self.lost.rows_by_hour.get_mut(hour) {
                *rows = rows.saturating_add(gap.rows);
            }
        }
        let Some(uplink) = own.uplink.as_ref().filter(|uplink| uplink.spool_quota_bytes > 0) else { return };
        self.spools.0 += 1;
        let (bytes, quota_bytes) = (uplink.spool_bytes, uplink.spool_quota_bytes);
        // a/b > c/d, in integers.
        let is_fuller = self.spools.1.as_ref().is_none_or(|known| {
            u128::from(bytes) * u128::from(known.quota_bytes)
                > u128::from(known.bytes) * u128::from(quota_bytes)
        });
        if is_fuller {
            self.spools.1 = Some(Fullest { agent: own.id.clone(), bytes, quota_bytes });
        }
    }

    fn add(&mut self, device: &Device) {
        let counts = &mut self.counts;
        counts.devices += 1;
        if device.revoked {
            counts.revoked += 1;
            return;
        }
        *match device.state {
            DeviceState::Online => &mut counts.online,
            DeviceState::Suspect => &mut counts.suspect,
            DeviceState::Flapping => &mut counts.flapping,
            DeviceState::Offline => &mut counts.offline,
            DeviceState::Never => &mut counts.never,
        } += 1;
        self.rate += device.rate;
        let freshness = &mut self.freshness;
        *match device.last_reading_ms.map(|last_ms| self.as_of_ms.saturating_sub(last_ms)) {
            None => &mut freshness.none,
            Some(age_ms) if age_ms < MINUTE_MS => &mut freshness.minute,
            Some(age_ms) if age_ms < HOUR_MS => &mut freshness.hour,
            Some(age_ms) if age_ms < DAY_MS => &mut freshness.day,
            Some(_) => &mut freshness.older,
        } += 1;
    }

    fn place(&mut self, device: &Device) {
        let row = self.positions.len();
        self.positions.push(device.position);
        self.spots.push(device.spot);
        let Some(DevicePosition { lat, lon, alt_m, .. }) = device.position else { return };
        // It was one before it was written in degrees.
        if let Ok(position) = Position::new(lat, lon, alt_m) {
            self.pins.push(Pin { row, position, standing: standing(device.state, device.revoked) });
        }
    }

    /// Takes over what the picture before had made, where no device moved and all stand as they did.
    fn follow(&mut self, before: &Self) {
        if before.pins == self.pins {
            self.index = before.index.clone();
        }
    }

    /// The devices by their places; made when it is first asked for.
    #[must_use]
    pub fn index(&self) -> Arc<Index> {
        Arc::clone(self.index.get_or_init(|| Arc::new(Index::of(self.pins.iter().copied()))))
    }

    /// What is seen of each device.
    pub fn sights(&self) -> impl Iterator<Item = Sight<'_>> {
        let FleetTable { id, agent, state, last_reading_ms, .. } = &self.table;
        let columns = id.iter().zip(agent).zip(state).zip(last_reading_ms).zip(&self.readings);
        columns.map(|((((id, agent), state), last_ms), readings)| Sight {
            device: id,
            is_agent: id == agent,
            is_there: *state == DeviceState::Online,
            readings: *readings,
            last_ms: *last_ms,
        })
    }

    /// The table as JSON, packed by gzip for who takes that. It is written once for all who ask.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn json(&self, is_packed: bool) -> std::io::Result<Bytes> {
        let kept = if is_packed { &self.packed } else { &self.plain };
        if let Some(bytes) = kept.get() {
            return Ok(bytes.clone());
        }
        let bytes = if is_packed { packed(&self.json(false)?)? } else { serde_json::to_vec(&self.table)? };
        Ok(kept.get_or_init(|| bytes.into()).clone())
    }
}

/// As gzip has it, soon rather than small.
///
/// # Errors
/// It cannot be written.
pub fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{DeviceRecord, Marks};

    #[tokio::test]
    async fn a_picture_that_was_begun_before_a_change_is_not_good_enough_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let hub = crate::api::tests::hub_in(dir.path(), crate::config::Config::default());
        let first = of(&hub).await.unwrap();
        let fresh = |mono_ms| hub.pictures.fresh(mono_ms);
        assert!(fresh(first.mono_ms).is_some_and(|kept| Arc::ptr_eq(&kept, &first)));
        // Changed while the next one is being made: by the time that it is there it is of before.
        let (_, seen) = hub.pictures.newest().unwrap();
        hub.pictures.outdate();
        let late = Arc::new(take(&hub).unwrap());
        *hub.pictures.newest.lock().unwrap() = Some((Arc::clone(&late), seen));
        assert!(fresh(late.mono_ms).is_none());
        let after = of(&hub).await.unwrap();
        assert!(!Arc::ptr_eq(&late, &after));
        assert!(fresh(after.mono_ms).is_some_and(|kept| Arc::ptr_eq(&kept, &after)));
        assert!(fresh(after.mono_ms + FRESH_MS).is_none());
    }

    #[test]
    fn the_places_of_devices_are_kept_while_none_of_them_moves() {
        let dir = tempfile::tempdir().unwrap();
        let hub = crate::api::tests::hub_in(dir.path(), crate::config::Config::default());
        let put = |lon: f64| {
            let marks = Marks { position: Position::new(48.0, lon, None).ok(), ..Marks::default() };
            let record = DeviceRecord { marks, ..DeviceRecord::behind("gw", 1) };
            hub.metadata.put("gw", &record).unwrap();
        };
        put(11.0);
        let first = take(&hub).unwrap();
        let index = first.index();
        let mut second = take(&hub).unwrap();
        second.follow(&first);
        assert!(Arc::ptr_eq(&index, &second.index()));
        put(12.0);
        let mut third = take(&hub).unwrap();
        third.follow(&second);
        assert!(!Arc::ptr_eq(&index, &third.index()));
        assert_eq!(third.index().pins().next().map(|pin| pin.position.lon()), Some(12.0));
    }
}
