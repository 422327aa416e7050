//! Values that are written to devices: from whoever wants it to the source that talks to the device.
//!
//! A write is judged before its source sees it (range, commands and interlocks of the device's profile), and comes to
//! one end that is told: done, not done, or that nobody knows. It is begun at most once, and not after its time.

mod newest;
mod written;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_profiles::{Profile, RefusedWrite};
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::newest::Newest;
pub use self::written::Values;
use self::written::Written;
use super::editions::Editions;
use super::reads::Reads;
use super::{Device, Readings};

/// Most writes that wait for one source.
pub const QUEUE_MAX: usize = 64;
/// Longest that a write may take where neither who writes nor the profile says anything else.
pub const TIMEOUT: Duration = Duration::from_secs(10);

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// How long a write may take: as who writes says, and never longer than the profile says of the command that takes the value.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    asked: Option<Duration>,
    most: Duration,
}

impl Patience {
    /// As long as the profile says, or [`TIMEOUT`].
    #[must_use]
    pub const fn usual() -> Self {
        Self { asked: None, most: Duration::MAX }
    }

    /// In any case no longer than this.
    #[must_use]
    pub fn at_most(self, most: Duration) -> Self {
        Self { most: self.most.min(most), ..self }
    }

    fn with(self, of_profile: Option<Duration>) -> Duration {
        let usual = of_profile.unwrap_or(TIMEOUT);
        let within = match self.asked {
            Some(asked) => asked.min(of_profile.unwrap_or(Duration::MAX)),
            None => usual,
        };
        within.min(self.most)
    }
}

impl From<Duration> for Patience {
    fn from(asked: Duration) -> Self {
        Self { asked: Some(asked), most: Duration::MAX }
    }
}

impl From<Option<Duration>> for Patience {
    fn from(asked: Option<Duration>) -> Self {
        Self { asked, most: Duration::MAX }
    }
}

/// How a write ended other than well.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// No running source writes to the device.
    #[error("no running source writes to device {0}")]
    NoDevice(DeviceId),
    /// Nothing says what may be written.
    #[error("device {0} has no profile: nothing says what may be written to it")]
    NoProfile(DeviceId),
    /// The profile rules it out.
    #[error("{0}")]
    Rejected(#[from] RefusedWrite),
    /// Too many wait.
    #[error("{QUEUE_MAX} writes wait for source {0} already")]
    Busy(Arc<str>),
    /// It was not begun in time, and is not done.
    #[error("not begun within {} ms: source {source_name} does not get to it", within.as_millis())]
    Late {
        /// The source.
        source_name: Arc<str>,
        /// How long it had.
        within: Duration,
    },
    /// The device, or the way to it, said no: it is not done.
    #[error("not done: {0}")]
    NotDone(String),
    /// It was begun and nobody has said how it ended.
    #[error("nobody knows whether it is done: {0}")]
    Unknown(String),
}

/// How a source says that a write ended.
type Outcome = Result<(), WriteError>;

/// A write that a source is to carry out. Dropped, nobody knows whether it is done.
#[derive(Debug)]
pub struct Write {
    /// To which device.
    pub device: DeviceId,
    /// To which of its points.
    pub point: PointId,
    /// What; of the point's type, within its range, and not null.
    pub value: Value,
    state: Arc<AtomicU8>,
    told: oneshot::Sender<Outcome>,
}

impl Write {
    /// The device has it.
    pub fn done(self) {
        self.tell(Ok(()));
    }

    /// The device does not have it.
    pub fn not_done(self, why: impl std::fmt::Display) {
        self.tell(Err(WriteError::NotDone(why.to_string())));
    }

    /// It was asked for, and no answer came.
    pub fn unknown(self, why: impl std::fmt::Display) {
        self.tell(Err(WriteError::Unknown(why.to_string())));
    }

    /// Whether somebody still waits for its end.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.told.is_closed()
    }

    fn tell(self, outcome: Outcome) {
        // Who asked may have given up.
        let _ = self.told.send(outcome);
    }

    /// Whether it is to be begun: its time is not over.
    fn begin(&self) -> bool {
        self.state.compare_exchange(WAITS, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Who writes to a device.
#[derive(Debug)]
struct Server {
    inbox: u64,
    source: Arc<str>,
    profile: Option<Arc<Profile>>,
    queue: mpsc::Sender<Write>,
}

#[derive(Debug, Default)]
struct Table {
    servers: HashMap<DeviceId, Server>,
    newest: Newest,
    inboxes: u64,
}

/// The way to all devices that can be written to, and to those that can be asked; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    table: Arc<Mutex<Table>>,
    reads: Reads,
    editions: Editions,
    written: Written,
}

impl Writes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a value to a point of a device, and waits until that has come to an end, as long as `patience` and the profile say.
    ///
    /// Not cancel safe: when dropped, the write may be done all the same.
    ///
    /// # Errors
    /// It is not done, or nobody knows whether it is: see [`WriteError`].
    pub async fn write(
        &self,
        device: &DeviceId,
        point: &PointId,
        value: Value,
        patience: impl Into<Patience>,
    ) -> Outcome {
        let outcome = self.carry_out(device, point, value.clone(), patience.into()).await;
        if outcome.is_ok() {
            self.written.add(device, point, value);
        }
        outcome
    }

    /// What was written, whoever wanted it.
    #[must_use]
    pub const fn written(&self) -> &Written {
        &self.written
    }

    async fn carry_out(
        &self,
        device: &DeviceId,
        point: &PointId,
        value: Value,
        patience: Patience,
    ) -> Outcome {
        let (state, (told, mut outcome)) = (Arc::new(AtomicU8::new(WAITS)), oneshot::channel());
        let (source, timeout) = {
            let table = self.table();
            let server = table.servers.get(device).ok_or_else(|| WriteError::NoDevice(device.clone()))?;
            let profile = server.profile.as_ref().ok_or_else(|| WriteError::NoProfile(device.clone()))?;
            let granted = profile.check_write(point.as_str(), value, |point| {
                table.newest.value(device, point, Instant::now())
            })?;
            let barred = self.editions.bars(&server.source, device, profile, point.as_str());
            barred.map_or(Ok(()), |why| Err(WriteError::NotDone(why)))?;
            let (device, point, state) = (device.clone(), point.clone(), Arc::clone(&state));
            let write = Write { device, point, value: granted.value, state, told };
            // That of a source which is just ending is as good as none.
            server.queue.try_send(write).map_err(|_| WriteError::Busy(Arc::clone(&server.source)))?;
            (Arc::clone(&server.source), patience.with(granted.timeout))
        };
        if let Ok(outcome) = tokio::time::timeout(timeout, &mut outcome).await {
            return outcome.unwrap_or_else(|_| Err(ended(&state, &source)));
        }
        if state.compare_exchange(WAITS, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Err(WriteError::Late { source_name: source, within: timeout });
        }
        // It may have ended just now.
        let late = || Err(WriteError::Unknown(format!("no answer within {} ms", timeout.as_millis())));
        outcome.try_recv().unwrap_or_else(|_| late())
    }

    /// The way to devices that can be asked.
    #[must_use]
    pub const fn reads(&self) -> &Reads {
        &self.reads
    }

    /// What is known of the firmware of devices.
    #[must_use]
    pub const fn editions(&self) -> &Editions {
        &self.editions
    }

    /// Whether a source writes to the device now.
    #[must_use]
    pub fn serves(&self, device: &DeviceId) -> bool {
        self.table().servers.contains_key(device)
    }

    /// Whether the device's profile has the point as one that is written; none where no source writes to the device now.
    #[must_use]
    pub fn is_writable(&self, device: &DeviceId, point: &str) -> Option<bool> {
        let table = self.table();
        let profile = table.servers.get(device)?.profile.as_ref();
        Some(profile.and_then(|profile| profile.point(point)).is_some_and(|point| point.access.writes()))
    }

    /// A way for a source to get the writes of the devices that it names.
    pub(crate) fn inbox(&self, source: Arc<str>) -> Inbox {
        let (queue, received) = mpsc::channel(QUEUE_MAX);
        let mut table = self.table();
        table.inboxes += 1;
        let number = table.inboxes;
        drop(table);
        Inbox { writes: self.clone(), source, number, queue, received }
    }

    /// Notes what interlocks look at.
    pub(crate) fn see(&self, readings: &Readings) {
        self.table().newest.see(readings, Instant::now());
    }
}

/// A write whose source dropped it.
fn ended(state: &AtomicU8, source: &Arc<str>) -> WriteError {
    let why = format!("source {source} ended");
    if state.load(Ordering::Acquire) == BEGUN { WriteError::Unknown(why) } else { WriteError::NotDone(why) }
}

/// Where a source gets the writes of its devices. As long as it is there they can be written to.
#[derive(Debug)]
pub struct Inbox {
    writes: Writes,
    source: Arc<str>,
    number: u64,
    queue: mpsc::Sender<Write>,
    received: mpsc::Receiver<Write>,
}

impl Inbox {
    /// Takes the writes of this device from now on, in place of whoever did. One without a writable point is left out.
    pub fn serve(&self, device: &Device) {
        let profile = device.profile.clone();
        let is_writable = |profile: &Arc<Profile>| profile.points().any(|(_, point)| point.access.writes());
        if profile.as_ref().is_some_and(|profile| !is_writable(profile)) {
            return;
        }
        let mut table = self.writes.table();
        for point in profile.iter().flat_map(|profile| profile.interlock_points()) {
            let interval =
                profile.as_ref().and_then(|profile| profile.point(point)).map(|point| point.interval_ms);
            table.newest.watch(&device.id, point, interval.unwrap_or_default());
        }
        let (source, queue) = (Arc::clone(&self.source), self.queue.clone());
        table.servers.insert(device.id.clone(), Server { inbox: self.number, source, profile, queue });
    }

    /// The next write. It must be carried out, or told that it is not. Cancel safe.
    pub async fn next(&mut self) -> Write {
        loop {
            match self.received.recv().await {
                Some(write) => {
                    if let Some(write) = self.begin(write) {
                        return write;
                    }
                }
                // Its own sender is here, so that it never ends.
                None => std::future::pending().await,
            }
        }
    }

    /// The next write that waits already.
    pub fn try_next(&mut self) -> Option<Write> {
        while let Ok(write) = self.received.try_recv() {
            if let Some(write) = self.begin(write) {
                return Some(write);
            }
        }
        None
    }

    /// Begins a write that is still wanted, and judges it once more: what interlocks look at may have changed while it
    /// waited.
    fn begin(&self, write: Write) -> Option<Write> {
        if !write.begin() {
            return None;
        }
        let table = self.writes.table();
        let profile = table.servers.get(&write.device).and_then(|server| server.profile.as_ref());
        let bars = |profile: &Arc<Profile>| {
            self.writes.editions.bars(&self.source, &write.device, profile, write.point.as_str())
        };
        if let Some(why) = profile.and_then(bars) {
            write.not_done(why);
            return None;
        }
        let judged = profile.map(|profile| {
            profile.check_write(write.point.as_str(), write.value.clone(), |point| {
                table.newest.value(&write.device, point, Instant::now())
            })
        });
        match judged {
            Some(Ok(_)) => Some(write),
            Some(Err(refused)) => {
                write.tell(Err(refused.into()));
                None
            }
            // Another source has taken the device over.
            None => {
                let error = WriteError::NoDevice(write.device.clone());
                write.tell(Err(error));
                None
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut table = self.writes.table();
        let number = self.number;
        table.servers.retain(|_, server| server.inbox != number);
        let Table { servers, newest, .. } = &mut *table;
        newest.keep(|device| servers.contains_key(device));
    }
}

#[cfg(test)]
mod tests;
