//! Points that somebody wants to know now: from whoever asks to the source that talks to the device.
//!
//! Only a source that asks its devices can do that. What it hears is a reading as any other, and is told besides. To ask does
//! nothing to a device, so that one that nobody waits for any more is left out, and one may be asked again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::clocks::TOLERANCE_NS;
use tideline_protocol::model::{DeviceId, PointId};
use tideline_protocol::value::{Quality, Value};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Ahead;

/// Most questions that wait for one source.
pub const QUEUE_MAX: usize = 64;
/// Longest that an answer may take where nobody says anything else.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What a point is.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its value.
    pub value: Value,
    /// How good that is.
    pub quality: Quality,
    /// When it was so, ns since 1970.
    pub time_ns: i64,
    /// The clock here that says so, which may be wrong; none where the device or its server gave the time.
    pub clock: Option<Ahead>,
}

impl Found {
    /// When it was so by the clock of the hub, which is `hub_ahead_ns` ahead of the monotonic one here: as the readings of such a
    /// clock are corrected. Times of others are taken as they are, and so are those of a clock that is right, or of which nobody
    /// has heard.
    #[must_use]
    pub fn corrected_ns(&self, hub_ahead_ns: Option<i64>) -> i64 {
        let wrong_by = |(clock, hub_ns): (Ahead, i64)| hub_ns.saturating_sub(clock.offset_ns);
        let by_ns = self.clock.zip(hub_ahead_ns).map(wrong_by);
        let by_ns = by_ns.filter(|by_ns| by_ns.unsigned_abs() > TOLERANCE_NS.unsigned_abs());
        self.time_ns.saturating_add(by_ns.unwrap_or(0))
    }
}

/// Why nobody knows what a point is now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No running source has to do with the device.
    #[error("no running source reads device {0}")]
    NoDevice(DeviceId),
    /// Its source cannot ask for anything.
    #[error("source {source_name} cannot ask device {device}: what it says comes by itself")]
    Speaks {
        /// The source.
        source_name: Arc<str>,
        /// The device.
        device: DeviceId,
    },
    /// Its source can ask, but not now.
    #[error("source {source_name} cannot ask device {device} now: it is not connected to it")]
    Away {
        /// The source.
        source_name: Arc<str>,
        /// The device.
        device: DeviceId,
    },
    /// Too many wait.
    #[error("{QUEUE_MAX} questions wait for source {0} already")]
    Busy(Arc<str>),
    /// There is no such point to be asked for.
    #[error("{0}")]
    NoPoint(String),
    /// The device, or the way to it, gave no answer.
    #[error("not read: {0}")]
    NotRead(String),
    /// It took too long.
    #[error("no answer of source {source_name} within {} ms", within.as_millis())]
    Late {
        /// The source.
        source_name: Arc<str>,
        /// How long it had.
        within: Duration,
    },
}

type Outcome = Result<Found, ReadError>;

/// A point that a source is to ask for. Dropped, it says that the source has ended.
#[derive(Debug)]
pub struct Ask {
    /// Of which device.
    pub device: DeviceId,
    /// Which of its points.
    pub point: PointId,
    told: oneshot::Sender<Outcome>,
}

impl Ask {
    /// The point is this; none says that the answer has nothing of it.
    pub fn answer(self, found: Option<Found>) {
        match found {
            Some(found) => self.tell(Ok(found)),
            None => self.failed("the answer has nothing of it"),
        }
    }

    /// There is no such point to be asked for.
    pub fn no_point(self) {
        let text = format!("device {} has no point {} that is asked for", self.device, self.point);
        self.tell(Err(ReadError::NoPoint(text)));
    }

    /// It was asked for, or could not be, and there is no answer.
    pub fn failed(self, why: impl std::fmt::Display) {
        self.tell(Err(ReadError::NotRead(why.to_string())));
    }

    fn tell(self, outcome: Outcome) {
        // Who asked may have given up.
        let _ = self.told.send(outcome);
    }
}

/// Who asks a device.
#[derive(Debug)]
struct Server {
    inbox: u64,
    source: Arc<str>,
    queue: mpsc::Sender<Ask>,
}

#[derive(Debug, Default)]
struct Table {
    servers: HashMap<DeviceId, Server>,
    // Whose source they are, also of those that cannot be asked. As many as there are cards of devices.
    known: HashMap<DeviceId, Arc<str>>,
    // Sources that ask, also while they are not connected.
    asking: HashSet<Arc<str>>,
    inboxes: u64,
}

/// The way to all devices that can be asked; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Reads(Arc<Mutex<Table>>);

impl Reads {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a point of a device read now, and gives what it is. Cancel safe.
    ///
    /// # Errors
    /// Nobody knows: see [`ReadError`].
    pub async fn read(&self, device: &DeviceId, point: &PointId, timeout: Duration) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let source = {
            let table = self.table();
            let Some(server) = table.servers.get(device) else {
                let device = device.clone();
                return Err(match table.known.get(&device).cloned() {
                    Some(source_name) if table.asking.contains(&source_name) => {
                        ReadError::Away { source_name, device }
                    }
                    Some(source_name) => ReadError::Speaks { source_name, device },
                    None => ReadError::NoDevice(device),
                });
            };
            let ask = Ask { device: device.clone(), point: point.clone(), told };
            // That of a source which is just ending is as good as none.
            server.queue.try_send(ask).map_err(|_| ReadError::Busy(Arc::clone(&server.source)))?;
            Arc::clone(&server.source)
        };
        match tokio::time::timeout(timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ReadError::NotRead(format!("source {source} ended"))),
            Err(_) => Err(ReadError::Late { source_name: source, within: timeout }),
        }
    }

    /// Notes that the source has to do with the device.
    pub(crate) fn know(&self, device: &DeviceId, source: &Arc<str>) {
        let mut table = self.table();
        if table.known.get(device) != Some(source) {
            table.known.insert(device.clone(), Arc::clone(source));
        }
    }

    /// Notes that the source asks its devices while it is connected to them.
    pub(crate) fn can_ask(&self, source: &Arc<str>) {
        self.table().asking.insert(Arc::clone(source));
    }

    /// The source has to do with no device any more.
    pub(crate) fn forget(&self, source: &str) {
        let mut table = self.table();
        table.known.retain(|_, name| **name != *source);
        table.asking.remove(source);
    }

    /// A way for a source to get what is asked of the devices that it names.
    pub(crate) fn inbox(&self, source: Arc<str>) -> Inbox {
        let (queue, received) = mpsc::channel(QUEUE_MAX);
        let mut table = self.table();
        table.asking.insert(Arc::clone(&source));
        table.inboxes += 1;
        let number = table.inboxes;
        drop(table);
        Inbox { reads: self.clone(), source, number, queue, received }
    }
}

/// Where a source gets what is asked of its devices. As long as it is there they can be asked.
#[derive(Debug)]
pub struct Inbox {
    reads: Reads,
    source: Arc<str>,
    number: u64,
    queue: mpsc::Sender<Ask>,
    received: mpsc::Receiver<Ask>,
}

impl Inbox {
    /// Takes what is asked of this device from now on, in place of whoever did.
    pub fn serve(&self, device: &DeviceId) {
        let (source, queue) = (Arc::clone(&self.source), self.queue.clone());
        self.reads.table().servers.insert(device.clone(), Server { inbox: self.number, source, queue });
    }

    /// The next question that somebody still waits for. Cancel safe.
    pub async fn next(&mut self) -> Ask {
        loop {
            match self.received.recv().await {
                Some(ask) if ask.told.is_closed() => {}
                Some(ask) => return ask,
                // Its own sender is here, so that it never ends.
                None => std::future::pending().await,
            }
        }
    }

    /// The next question that waits already.
    pub fn try_next(&mut self) -> Option<Ask> {
        std::iter::from_fn(|| self.received.try_recv().ok()).find(|ask| !ask.told.is_closed())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let number = self.number;
        self.reads.table().servers.retain(|_, server| server.inbox != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (DeviceId, PointId) {
        (DeviceId::parse("pump").unwrap(), PointId::parse("speed").unwrap())
    }

    #[tokio::test]
    async fn a_question_comes_to_its_source_and_the_answer_to_whoever_asked() {
        let (reads, (device, point)) = (Reads::default(), ids());
        let read = || reads.read(&device, &point, TIMEOUT);
        assert_eq!(read().await, Err(ReadError::NoDevice(device.clone())));
        reads.know(&device, &"broker".into());
        let speaks = ReadError::Speaks { source_name: "broker".into(), device: device.clone() };
        assert_eq!(read().await, Err(speaks));
        reads.forget("broker");
        assert_eq!(read().await, Err(ReadError::NoDevice(device.clone())));
        let mut inbox = reads.inbox("bus".into());
        inbox.serve(&device);
        let found = Found { value: Value::Int(7), quality: Quality::Good, time_ns: 5, clock: None };
        let answers = async { inbox.next().await.answer(Some(found.clone())) };
        assert_eq!(tokio::join!(read(), answers).0, Ok(found));
        let refuses = async { inbox.next().await.failed("silence") };
        assert_eq!(tokio::join!(read(), refuses).0, Err(ReadError::NotRead("silence".into())));
        let none = async { inbox.next().await.no_point() };
        assert!(matches!(tokio::join!(read(), none).0, Err(ReadError::NoPoint(_))));
        let ended = async { drop(inbox.next().await) };
        assert_eq!(tokio::join!(read(), ended).0, Err(ReadError::NotRead("source bus ended".into())));
        drop(inbox);
        assert_eq!(read().await, Err(ReadError::NoDevice(device.clone())));
        reads.know(&device, &"bus".into());
        let away = ReadError::Away { source_name: "bus".into(), device: device.clone() };
        assert_eq!(read().await, Err(away), "it was connected, and will be again");
        reads.forget("bus");
        assert_eq!(read().await, Err(ReadError::NoDevice(device.clone())));
    }

    #[test]
    fn a_time_by_a_clock_that_is_wrong_is_told_as_the_hub_has_it() {
        let clock = |offset_ns| Some(Ahead { offset_ns, believed: true, earlier: None });
        let found = |clock| Found { value: Value::Int(7), quality: Quality::Good, time_ns: 100, clock };
        let wrong = TOLERANCE_NS + 1;
        assert_eq!(found(clock(50)).corrected_ns(Some(50 + wrong)), 100 + wrong);
        assert_eq!(found(clock(50 + wrong)).corrected_ns(Some(50)), 100 - wrong);
        assert_eq!(found(clock(50)).corrected_ns(Some(50 + TOLERANCE_NS)), 100, "it is right");
        assert_eq!(found(clock(50)).corrected_ns(None), 100, "nobody knows");
        assert_eq!(found(None).corrected_ns(Some(wrong)), 100, "it is another's");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_not_asked_and_the_queue_is_bounded() {
        let (reads, (device, point)) = (Reads::default(), ids());
        let mut inbox = reads.inbox("bus".into());
        inbox.serve(&device);
        let within = Duration::from_millis(5);
        let late = ReadError::Late { source_name: "bus".into(), within };
        assert_eq!(reads.read(&device, &point, within).await, Err(late));
        assert!(inbox.try_next().is_none());
        let waiting = (0..QUEUE_MAX).map(|_| {
            let (reads, (device, point)) = (reads.clone(), ids());
            tokio::spawn(async move { reads.read(&device, &point, TIMEOUT).await })
        });
        let waiting: Vec<_> = waiting.collect();
        // All have asked after as many turns.
        for _ in 0..QUEUE_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(reads.read(&device, &point, TIMEOUT).await, Err(ReadError::Busy("bus".into())));
        assert!(inbox.try_next().is_some());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
