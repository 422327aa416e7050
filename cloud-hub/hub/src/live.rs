//! The live feed: a ring of recent events that any number of readers follow by number.
//!
//! Readers hold a cursor and no queue: one that is slower than the ring is told to start again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_store::LiveBatch;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::api::devices::views;
use crate::api::shapes::{Device, LiveColumns, LiveReadings, QueryGap};
use crate::hub::App;
use crate::telemetry::Metric;
use crate::when;

/// Events kept for readers that come back: at ten a second about seven minutes.
pub const EVENTS_MAX: usize = 4096;
/// Most readings of one series in one event; a reader of the live feed needs the newest, and the
/// whole backlog is a query away.
const READINGS_PER_SERIES_MAX: usize = 1000;
/// How often what came in goes out.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
const TICKS_PER_DEVICE_UPDATE: u32 = 4;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// New readings of a device.
    Readings(LiveReadings),
    /// A device changed.
    Device(Box<Device>),
    /// An agent gave readings up.
    Gap(QueryGap),
}

/// One event with what it is filtered by.
#[derive(Debug)]
pub struct LiveEvent {
    /// Its number; they go up.
    pub id: u64,
    /// The device it is about.
    pub device: String,
    /// What happened.
    pub happening: Happening,
}

#[derive(Debug)]
struct Ring {
    next: u64,
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
            ring: Mutex::new(Ring { next: first, events: VecDeque::new() }),
            newest: watch::Sender::new(first),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn publish(&self, device: &str, happening: Happening) {
        let mut ring = self.ring();
        let id = ring.next;
        ring.next += 1;
        ring.events.push_back(Arc::new(LiveEvent { id, device: device.to_owned(), happening }));
        if ring.events.len() > EVENTS_MAX {
            ring.events.pop_front();
        }
        drop(ring);
        self.newest.send_replace(id);
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
    let mut gathered = BTreeMap::new();
    let mut shown: HashMap<String, Device> = HashMap::new();
    let mut tick = 0_u32;
    loop {
        tokio::select! {
            () = hub.stopped() => return,
            batch = batches.recv() => match batch {
                Ok(batch) => gather(&hub, &batch, &mut gathered),
                Err(RecvError::Lagged(skipped)) => hub.counters.add(Metric::LiveSkipped, skipped),
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                publish_readings(&hub, &mut gathered);
                tick = tick.wrapping_add(1);
                if tick.is_multiple_of(TICKS_PER_DEVICE_UPDATE) {
                    publish_devices(&hub, &mut shown);
                }
            }
        }
    }
}

type Gathered = BTreeMap<String, BTreeMap<String, LiveColumns>>;

fn gather(hub: &App, batch: &LiveBatch, gathered: &mut Gathered) {
    let now_ns = hub.clock.mono_ns();
    for column in &batch.columns {
        hub.fleet.count(&column.meta.device, column.times.len() as u64, now_ns);
        let id = format!("{}/{}", column.meta.device, column.meta.point);
        let device = gathered.entry(column.meta.device.to_string()).or_default();
        let into =
            device.entry(id.clone()).or_insert_with(|| LiveColumns { id, t: Vec::new(), v: Vec::new() });
        let skip = column.times.len().saturating_sub(READINGS_PER_SERIES_MAX);
        into.t.extend(column.times.iter().skip(skip).map(|ns| when::ms(*ns)));
        into.v.extend(column.values.iter().skip(skip));
        let surplus = into.t.len().saturating_sub(READINGS_PER_SERIES_MAX);
        into.t.drain(..surplus);
        into.v.drain(..surplus.min(into.v.len()));
    }
}

fn publish_readings(hub: &App, gathered: &mut Gathered) {
    for (device, columns) in std::mem::take(gathered) {
        let series = columns.into_values().collect();
        hub.live.publish(&device, Happening::Readings(LiveReadings { series }));
    }
}

fn publish_devices(hub: &App, shown: &mut HashMap<String, Device>) {
    let Ok(devices) = views(hub) else { return };
    for device in devices {
        if shown.get(&device.id) != Some(&device) {
            hub.live.publish(&device.id, Happening::Device(Box::new(device.clone())));
            shown.insert(device.id.clone(), device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Happening {
        Happening::Gap(QueryGap { device: "d".into(), from_ms: 1, to_ms: 2, rows: 3, cause: "quota".into() })
    }

    #[test]
    fn a_reader_resumes_where_it_was_and_is_reset_when_too_late() {
        let live = Live::starting_at(100);
        let start = live.end();
        (0..3).for_each(|_| live.publish("d", gap()));
        let Since::Events(all) = live.since(start) else { panic!("reset") };
        assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [100, 101, 102]);
        let Since::Events(rest) = live.since(101) else { panic!("reset") };
        assert_eq!(rest.len(), 1);
        (0..EVENTS_MAX).for_each(|_| live.publish("d", gap()));
        assert!(matches!(live.since(start), Since::Reset(_)));
        assert!(matches!(live.since(9_999_999), Since::Reset(_)));
    }
}
