//! The live feed: a ring of recent events that any number of readers follow by number.
//!
//! Readers hold a cursor and no queue: one that is slower than the ring is told to start again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::value::Boxes;
use tideline_store::{LiveBatch, SeriesId, SeriesMeta};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::api::devices::all_views;
use crate::api::shapes::{self, CommandEvent, Device, LiveColumns, LiveResult, QueryGap, TwinEvent};
use crate::hub::App;
use crate::telemetry::Metric;
use crate::when;

/// Events kept for readers that come back: at eleven a second about six minutes.
pub const EVENTS_MAX: usize = 4096;
/// Most memory of the events that are kept; the oldest go when a large fleet fills it.
const EVENTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most devices in one update, those with another state first, then those that waited longest: a
/// fleet of ten thousand goes round in twenty seconds.
const DEVICES_PER_UPDATE_MAX: usize = 500;
/// Most readings of one series in one event; a reader of the live feed needs the newest, and the
/// whole backlog is a query away.
const READINGS_PER_SERIES_MAX: usize = 1000;
/// About what a result takes, with its names.
const RESULT_BYTES: usize = 512;
/// How often what came in goes out.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
const TICKS_PER_DEVICE_UPDATE: u64 = 10;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// New readings by device; one event for all devices, so that a large fleet does not push out
    /// the past within a moment.
    Readings(BTreeMap<String, Vec<LiveColumns>>),
    /// Devices that changed.
    Devices(Vec<Device>),
    /// An agent gave readings up.
    Gap(QueryGap),
    /// A twin changed, durably.
    Twin(TwinEvent),
    /// A command has come on, durably.
    Command(CommandEvent),
    /// A stream job gave results.
    Results(Vec<LiveResult>),
}

impl Happening {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Readings(devices) => devices
                .values()
                .flatten()
                .map(|c| {
                    size_of::<LiveColumns>()
                        + c.id.len()
                        + 8 * c.t.len()
                        + c.v.bytes()
                        + 40 * c.quality.as_ref().map_or(0, Vec::len)
                })
                .sum::<usize>(),
            Self::Devices(devices) => devices
                .iter()
                .map(|d| size_of::<Device>() + size_of_val(d.ledger.gaps.as_slice()) + 3 * d.id.len())
                .sum(),
            Self::Gap(gap) => size_of::<QueryGap>() + gap.device.len(),
            Self::Twin(twin) => {
                let texts = twin.keys.iter().chain(&twin.authors);
                size_of::<TwinEvent>() + texts.map(|text| size_of::<String>() + text.len()).sum::<usize>()
            }
            Self::Command(command) => {
                size_of::<CommandEvent>() + command.device.len() + command.id.len() + command.kind.len()
            }
            Self::Results(rows) => rows.len().saturating_mul(RESULT_BYTES),
        }
    }
}

/// One event.
#[derive(Debug)]
pub struct LiveEvent {
    /// Its number; they go up.
    pub id: u64,
    /// What happened.
    pub happening: Happening,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    bytes: usize,
    events: VecDeque<Arc<LiveEvent>>,
}

/// The ring.
#[derive(Debug)]
pub struct Live {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Since {
    /// The events after the cursor, maybe none.
    Events(Vec<Arc<LiveEvent>>),
    /// The cursor is not in the ring: start again after this number.
    Reset(u64),
}

impl Live {
    /// An empty ring whose first event has this number. It should be above that of an earlier run
    /// of the hub, so that no old cursor is taken for a new one.
    #[must_use]
    pub fn starting_at(first: u64) -> Self {
        Self {
            ring: Mutex::new(Ring { next: first, bytes: 0, events: VecDeque::new() }),
            newest: watch::Sender::new(first),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn publish(&self, happening: Happening) {
        let mut ring = self.ring();
        let id = ring.next;
        ring.next += 1;
        ring.bytes += happening.bytes();
        ring.events.push_back(Arc::new(LiveEvent { id, happening }));
        while ring.events.len() > EVENTS_MAX || (ring.bytes > EVENTS_BYTES_MAX && ring.events.len() > 1) {
            let gone = ring.events.pop_front().map_or(0, |event| event.happening.bytes());
            ring.bytes = ring.bytes.saturating_sub(gone);
        }
        drop(ring);
        self.newest.send_replace(id);
    }

    /// How many readers follow.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Tells when there are newer events.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The cursor of a reader that wants only what comes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ring().next.saturating_sub(1)
    }

    /// The events after `cursor`.
    #[must_use]
    pub fn since(&self, cursor: u64) -> Since {
        let ring = self.ring();
        let oldest = ring.events.front().map_or(ring.next, |e| e.id);
        if cursor.saturating_add(1) < oldest || cursor >= ring.next {
            return Since::Reset(ring.next.saturating_sub(1));
        }
        let skip = usize::try_from(cursor.saturating_add(1) - oldest).unwrap_or(usize::MAX);
        Since::Events(ring.events.iter().skip(skip).cloned().collect())
    }
}

/// Feeds the ring from the store until the hub stops: readings a few times a second, devices once
/// a second when they changed.
pub async fn feed(hub: App) {
    let mut batches = hub.store.subscribe();
    let mut ticks = tokio::time::interval(PUBLISH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut gathered = Gathered::new();
    let mut shown = Shown::new();
    let mut tick = 0_u64;
    loop {
        tokio::select! {
            () = hub.stopped() => return,
            batch = batches.recv() => match batch {
                Ok(batch) => {
                    note_late(&hub, &batch);
                    gather(&hub, &batch, &mut gathered);
                }
                Err(RecvError::Lagged(skipped)) => hub.counters.add(Metric::LiveSkipped, skipped),
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                publish_readings(&hub, &mut gathered);
                tick = tick.wrapping_add(1);
                if tick.is_multiple_of(TICKS_PER_DEVICE_UPDATE) {
                    publish_devices(&hub, &mut shown, tick).await;
                }
            }
        }
    }
}

/// By number: names are made when something is published, and not for each batch.
type Gathered = HashMap<SeriesId, Column>;

/// The newest readings of a series.
struct Column {
    meta: SeriesMeta,
    t: Vec<i64>,
    // As words of `boxes`.
    v: Vec<f64>,
    boxes: Boxes,
}

/// Notes what of a batch came late.
pub fn note_late(hub: &App, batch: &LiveBatch) {
    for column in &batch.columns {
        if let Some(late) = column.late {
            hub.lateness.note(&column.meta.device, late, hub.now_ms());
        }
    }
}

fn gather(hub: &App, batch: &LiveBatch, gathered: &mut Gathered) {
    let now_ns = hub.clock.mono_ns();
    // The series of a device mostly stand together.
    for columns in batch.columns.chunk_by(|a, b| a.meta.device == b.meta.device) {
        let rows = columns.iter().map(|column| column.times.len() as u64).sum();
        if let Some(first) = columns.first() {
            hub.fleet.count(&first.meta.device, rows, now_ns);
        }
    }
    for column in &batch.columns {
        let into = gathered.entry(column.id).or_insert_with(|| Column {
            meta: column.meta.clone(),
            t: Vec::new(),
            v: Vec::new(),
            boxes: Boxes::new(),
        });
        let skip = column.times.len().saturating_sub(READINGS_PER_SERIES_MAX);
        into.t.extend(column.times.iter().skip(skip).map(|ns| when::ms(*ns)));
        let words = column.values.get(skip..).unwrap_or_default();
        into.boxes.append(&mut into.v, words, &column.boxes);
        let surplus = into.t.len().saturating_sub(READINGS_PER_SERIES_MAX);
        into.t.drain(..surplus);
        into.v.drain(..surplus.min(into.v.len()));
        if surplus > 0 && !into.boxes.is_empty() {
            // What is gone leaves no text behind.
            let mut left = Boxes::new();
            left.adopt(&mut into.v, &into.boxes);
            into.boxes = left;
        }
    }
}

fn publish_readings(hub: &App, gathered: &mut Gathered) {
    if gathered.is_empty() {
        return;
    }
    let mut readings: BTreeMap<String, Vec<LiveColumns>> = BTreeMap::new();
    for Column { meta, t, v, boxes } in std::mem::take(gathered).into_values() {
        let columns = readings.entry(meta.device.to_string()).or_default();
        let (v, quality) = shapes::columns(v, &boxes, meta.kind);
        columns.push(LiveColumns { id: format!("{}/{}", meta.device, meta.point), t, v, quality });
    }
    readings.values_mut().for_each(|columns| columns.sort_by(|a, b| a.id.cmp(&b.id)));
    hub.live.publish(Happening::Readings(readings));
}

/// The devices as they were last published, with when.
type Shown = HashMap<String, (Device, u64)>;

async fn publish_devices(hub: &App, shown: &mut Shown, now: u64) {
    // What changes while nobody looks is published with the first look.
    if hub.live.readers() == 0 {
        return;
    }
    // A walk over the whole fleet: others are served meanwhile.
    let devices = match hub.blocking(all_views).await {
        Ok(devices) => devices,
        Err(error) => {
            tracing::error!(%error, "the live feed cannot read the registry");
            return;
        }
    };
    let mut changed: Vec<(bool, u64, Device)> = devices
        .into_iter()
        .filter_map(|device| match shown.get(&device.id) {
            None => Some((false, 0, device)),
            Some((old, _)) if *old == device => None,
            Some((old, at)) => {
                let same =
                    (old.state, old.revoked, &old.agent) == (device.state, device.revoked, &device.agent);
                Some((same, *at, device))
            }
        })
        .collect();
    changed.sort_by_key(|(same, at, _)| (*same, *at));
    changed.truncate(DEVICES_PER_UPDATE_MAX);
    if changed.is_empty() {
        return;
    }
    let devices: Vec<Device> = changed.into_iter().map(|(_, _, device)| device).collect();
    for device in &devices {
        shown.insert(device.id.clone(), (device.clone(), now));
    }
    hub.live.publish(Happening::Devices(devices));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::shapes::ReadingValues;

    fn gap() -> Happening {
        Happening::Gap(QueryGap { device: "d".into(), from_ms: 1, to_ms: 2, rows: 3, cause: "quota".into() })
    }

    #[test]
    fn a_reader_resumes_where_it_was_and_is_reset_when_too_late() {
        let live = Live::starting_at(100);
        let start = live.end();
        (0..3).for_each(|_| live.publish(gap()));
        let Since::Events(all) = live.since(start) else { panic!("reset") };
        assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [100, 101, 102]);
        let Since::Events(rest) = live.since(101) else { panic!("reset") };
        assert_eq!(rest.len(), 1);
        (0..EVENTS_MAX).for_each(|_| live.publish(gap()));
        assert!(matches!(live.since(start), Since::Reset(_)));
        assert!(matches!(live.since(9_999_999), Since::Reset(_)));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_too() {
        let live = Live::starting_at(1);
        let columns = || LiveColumns {
            id: "d/p".into(),
            t: vec![0; 1_000_000],
            v: ReadingValues::Numbers(vec![0.0; 1_000_000]),
            quality: None,
        };
        (0..8).for_each(|_| live.publish(Happening::Readings([("d".to_owned(), vec![columns()])].into())));
        assert!(matches!(live.since(0), Since::Reset(8)));
        let Since::Events(kept) = live.since(5) else { panic!("reset") };
        assert_eq!(kept.len(), 3);
    }
}
