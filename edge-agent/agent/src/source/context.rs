//! What a source is given: where its readings go, where it was, when it is to stop.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock;
use tideline_protocol::wire::DeviceCard;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::SourceError;
use super::deliveries::{lasts, parted};
use super::editions::Editions;
use super::introduction::Named;
use super::outlets::{Outlets, WeakOutlets};
use super::pulse::Pulse;
use super::readings::{Device, Readings};
use super::reads;
use super::statistics::Statistics;
use super::unchanged::Unchanged;
use super::writes::{Inbox, Writes};
use crate::cards::{CARDS_MAX, Cards};
use crate::clock::AgentClock;
use crate::intake::Chunk;
use crate::spooler::SpoolHandle;
use crate::status::Board;

/// What the attempts at one source share: which of them is the present one, and what it has handed on.
#[derive(Debug, Default)]
pub struct Turns {
    turn: u64,
    // Further on than what the spool knows while readings are on their way there.
    position: Option<Vec<u8>>,
    // Whether a blocking read is on its way, perhaps for ever.
    is_blocking: bool,
}

/// Shared by all attempts, and by sources that follow each other under one name.
pub type SharedTurns = Arc<Mutex<Turns>>;

fn lock(turns: &SharedTurns) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins an attempt: readings of all former ones are refused from now on.
pub fn next_turn(turns: &SharedTurns) -> u64 {
    let mut turns = lock(turns);
    turns.turn += 1;
    turns.turn
}

/// What a context is made of.
#[derive(Clone)]
pub struct Parts {
    /// The source's name.
    pub name: Arc<str>,
    /// The name under which the spool keeps its position.
    pub position_key: Arc<str>,
    /// The agent's own device.
    pub own_device: DeviceId,
    /// The stream that its readings go to.
    pub stream: Arc<str>,
    /// The ways into the intakes, as long as somebody else keeps them open.
    pub outlets: WeakOutlets,
    /// Where its position is kept.
    pub spool: SpoolHandle,
    /// Where it says what it knows of devices.
    pub cards: Cards,
    /// The way of writes to devices.
    pub writes: Writes,
    /// What is counted of it.
    pub statistics: Statistics,
    /// The clock that stamps its readings.
    pub clock: Arc<dyn Clock>,
    /// Which attempt is the present one.
    pub turns: SharedTurns,
    /// True once it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// What a source is given. Clones are for its parts that run beside each other.
#[derive(Clone)]
pub struct Context {
    parts: Parts,
    turn: u64,
    pulse: Arc<Pulse>,
    // Of this attempt alone: what was sent by a former one may be long ago.
    unchanged: Arc<Mutex<Unchanged>>,
    named: Arc<Mutex<Named>>,
    // Whether this attempt has given readings, so that it is told once.
    spoke: Arc<AtomicBool>,
}

/// Moments on a grid. Those that were missed are skipped.
#[derive(Debug)]
pub struct Ticks {
    next: Instant,
    period: Duration,
    began: Option<Instant>,
}

impl Ticks {
    /// From `first` on.
    #[must_use]
    pub fn new(first: Instant, period: Duration) -> Self {
        Self { next: first, period: period.max(Duration::from_millis(1)), began: None }
    }

    /// The next moment.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Moves on to the first moment after `now`; gives how late that which is over was.
    pub fn advance(&mut self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.next);
        let periods = late.as_nanos() / self.period.as_nanos() + 1;
        // One that was missed four billion times is not on the grid for the sake of one more.
        let step = u32::try_from(periods).ok().and_then(|periods| self.period.checked_mul(periods));
        self.next = step.and_then(|step| self.next.checked_add(step)).unwrap_or(now + self.period);
        late
    }
}

impl Context {
    /// Of an attempt; all former ones with the same turns have come to their end.
    #[must_use]
    pub fn new(parts: Parts, base: Instant) -> Self {
        let turn = next_turn(&parts.turns);
        Self {
            parts,
            turn,
            pulse: Arc::new(Pulse::new(base)),
            unchanged: Arc::default(),
            named: Arc::default(),
            spoke: Arc::default(),
        }
    }

    /// One without a supervisor, for the tests of a source: readings go to `out` as long as that is there, and
    /// true sent to the other half stops it.
    #[must_use]
    pub fn alone(
        name: &str,
        own_device: DeviceId,
        out: &mpsc::Sender<Chunk>,
        board: Board,
        spool: SpoolHandle,
    ) -> (Self, watch::Sender<bool>) {
        board.source(name, |_| {});
        let (stop, stopped) = watch::channel(false);
        let parts = Parts {
            name: name.into(),
            position_key: format!("custom/{name}").into(),
            own_device,
            stream: tideline_spool::DEFAULT_STREAM.into(),
            outlets: Outlets::from(out.clone()).weak(),
            spool,
            cards: Cards::default(),
            writes: Writes::default(),
            statistics: Statistics::new(name, board),
            clock: Arc::new(AgentClock::default()),
            turns: SharedTurns::default(),
            stop: stopped,
        };
        (Self::new(parts, Instant::now()), stop)
    }

    /// The attempt after this one: readings of this one are refused from now on.
    #[cfg(test)]
    pub fn next_attempt(&self) -> Self {
        Self::new(self.parts.clone(), Instant::now())
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.parts.clock = clock;
        self
    }

    /// The same with its position under another key.
    #[must_use]
    pub fn with_position_key(mut self, key: &str) -> Self {
        self.parts.position_key = key.into();
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The agent's own device, without a profile.
    #[must_use]
    pub fn own_device(&self) -> Device {
        Device::plain(self.parts.own_device.clone())
    }

    /// The clock that stamps readings.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.parts.clock.as_ref()
    }

    /// Where to count.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.parts.statistics
    }

    /// Says what is known of a device, for the hub's registry.
    pub fn tell(&self, card: DeviceCard) {
        let device = card.device.clone();
        if !self.parts.cards.tell(card) {
            tracing::warn!(source = self.name(), %device, max = CARDS_MAX, "too many devices: the registry is not told of this one");
            return;
        }
        self.parts.writes.reads().know(&device, &self.parts.name);
    }

    /// Says that the source has to do with these devices, of which it knows no more than that: their twins are kept here then. Done
    /// with all that is handed on; who knows a device before its first reading says so.
    pub fn introduce<'d>(&self, devices: impl Iterator<Item = &'d DeviceId>) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = named.name(devices, &self.parts.own_device, &self.parts.cards) {
            tracing::warn!(source = self.name(), %device, max = CARDS_MAX, "too many devices: this one and others have no twin here");
        }
    }

    /// What is known of the firmware of devices.
    #[must_use]
    pub const fn editions(&self) -> &Editions {
        self.parts.writes.editions()
    }

    /// Hears what readings say of firmware, and makes of those that hang on it what can be believed; done with all that is
    /// handed on, and before where a question is answered with it.
    pub fn judge(&self, readings: &mut Readings) {
        self.editions().hear_all(self.name(), readings);
        self.editions().judge(self.name(), readings);
    }

    /// Where the source gets what is to be written to the devices that it names there.
    #[must_use]
    pub fn writes(&self) -> Inbox {
        self.parts.writes.inbox(Arc::clone(&self.parts.name))
    }

    /// Where the source gets what is asked of the devices that it names there.
    #[must_use]
    pub fn reads(&self) -> reads::Inbox {
        self.parts.writes.reads().inbox(Arc::clone(&self.parts.name))
    }

    /// Notes that the source asks its devices, before it is connected to any.
    pub fn can_ask(&self) {
        self.parts.writes.reads().can_ask(&self.parts.name);
    }

    /// The way of writes to all devices, for one that is read and written to by others.
    #[must_use]
    pub const fn writer(&self) -> &Writes {
        &self.parts.writes
    }

    /// The spool, for what it knows of series.
    #[must_use]
    pub const fn spool(&self) -> &SpoolHandle {
        &self.parts.spool
    }

    pub(crate) const fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Readings that are stamped with the time that it is now.
    #[must_use]
    pub fn readings(&self) -> Readings {
        Readings::now(self.clock())
    }

    /// A sign of life. A source that gives none for its patience, and does not wait through one of the
    /// functions here, is stalled and started again.
    pub fn beat(&self) {
        self.pulse.beat();
    }

    /// Whether it is to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.parts.stop.borrow() || lock(&self.parts.turns).turn != self.turn
    }

    /// Resolves when it is to stop. Cancel safe.
    pub async fn stopped(&self) {
        // Who could tell it to stop has gone: nobody waits for it any more.
        let _ = self.parts.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Waits for input, however long that takes. Cancel safe if `input` is.
    ///
    /// # Errors
    /// [`SourceError::Stopped`].
    pub async fn wait<T>(&self, input: impl Future<Output = T>) -> Result<T, SourceError> {
        let _waits = self.pulse.waits();
        tokio::select! {
            biased;
            () = self.stopped() => Err(SourceError::Stopped),
            input = input => Ok(input),
        }
    }

    /// Waits until then. Cancel safe.
    ///
    /// # Errors
    /// [`SourceError::Stopped`].
    pub async fn sleep_until(&self, then: Instant) -> Result<(), SourceError> {
        self.wait(tokio::time::sleep_until(then)).await
    }

    /// Moments a `period` apart, the first of them a period from now.
    #[must_use]
    pub fn every(&self, period: Duration) -> Ticks {
        Ticks::new(Instant::now() + period, period)
    }

    /// Waits for the next moment, and counts the poll that begins with it and ends with the next call.
    ///
    /// # Errors
    /// [`SourceError::Stopped`].
    pub async fn tick(&self, ticks: &mut Ticks) -> Result<(), SourceError> {
        if let Some(began) = ticks.began.take() {
            self.parts.statistics.poll_ended(began.elapsed());
        }
        self.sleep_until(ticks.next()).await?;
        let now = Instant::now();
        ticks.began = Some(now);
        self.parts.statistics.poll_began(ticks.advance(now));
        Ok(())
    }

    /// Where the source was when it last handed on readings with a position: what the spool holds of
    /// those is durable, and the rest on its way there.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn position(&self) -> Result<Option<Vec<u8>>, SourceError> {
        if let Some(position) = lock(&self.parts.turns).position.clone() {
            return Ok(Some(position));
        }
        let cursor = self.wait(self.parts.spool.cursor(&self.parts.position_key)).await?;
        cursor.map_err(SourceError::failed)
    }

    /// Hands readings on, but for those that say what was said before and that their device's profile has held back
    /// ([`Unchanged`]). Waits as long as the stream has no room for them; they are durable soon, and
    /// nothing but a kill loses them until then.
    ///
    /// # Errors
    /// [`SourceError::Stopped`]: none of them was taken, and nothing was counted of what is rejected; or, where profiles want
    /// them on several streams, those of the first ones were.
    pub async fn emit(&self, readings: Readings) -> Result<(), SourceError> {
        for part in self.parted(readings) {
            self.hand_on(part, None).await?;
        }
        Ok(())
    }

    /// As [`Self::emit`], and waits until all of them, and all that came before, are durable.
    ///
    /// # Errors
    /// [`SourceError::Stopped`]: nobody knows whether they were taken.
    pub async fn emit_durable(&self, readings: Readings) -> Result<(), SourceError> {
        let parts = self.parted(readings);
        let lasts = lasts(&parts, &self.parts.stream, &self.parts.outlets)?;
        let mut all = Vec::new();
        for (part, is_last) in parts.into_iter().zip(lasts) {
            let (durable, told) = oneshot::channel();
            self.hand_on(part, is_last.then_some(durable)).await?;
            all.extend(is_last.then_some(told));
        }
        for told in all {
            self.wait(told).await?.map_err(|_| SourceError::Stopped)?;
        }
        Ok(())
    }

    fn parted(&self, mut readings: Readings) -> Vec<Readings> {
        self.introduce(readings.devices());
        self.judge(&mut readings);
        parted(readings, &self.parts.stream, &self.parts.outlets)
    }

    async fn hand_on(
        &self,
        readings: Readings,
        durable: Option<oneshot::Sender<()>>,
    ) -> Result<(), SourceError> {
        self.parts.writes.see(&readings);
        let Readings { mut rows, boxes, clock, position, stream, rejected, reasons, profiles, .. } = readings;
        if rows.is_empty() && position.is_none() && durable.is_none() {
            self.tell_rejected(rejected, &reasons);
            self.beat();
            return Ok(());
        }
        let stream = stream.map_or_else(|| Arc::clone(&self.parts.stream), Arc::from);
        let out = self.parts.outlets.of(&stream)?;
        let Ok(place) = self.wait(out.reserve()).await? else { return Err(SourceError::Stopped) };
        let mut turns = lock(&self.parts.turns);
        // What a former attempt still hands on would stand before or behind what this one reads again.
        if turns.turn != self.turn {
            return Err(SourceError::Stopped);
        }
        // Not before they are sure to be taken: the next attempt reads them again, and what is rejected of them.
        self.tell_rejected(rejected, &reasons);
        if !rows.is_empty() && !self.spoke.swap(true, Ordering::Relaxed) {
            self.parts.statistics.spoke();
        }
        // They go now: what is held back is so beside what is sent.
        let held = self
            .unchanged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_out(&mut rows, &boxes, &profiles);
        self.parts.statistics.unchanged(held);
        if rows.is_empty() && position.is_none() && durable.is_none() {
            return Ok(());
        }
        turns.position = position.clone().or(turns.position.take());
        let position = position.map(|bytes| (self.parts.position_key.to_string(), bytes));
        let (source, stream) = (self.parts.name.to_string(), Some(stream));
        place.send(Chunk { source, stream, rows, boxes, clock, position, durable });
        Ok(())
    }

    fn tell_rejected(&self, rejected: u64, reasons: &[String]) {
        reasons.iter().for_each(|reason| self.rejected(reason));
        if let (rest @ 1.., Some(last)) = (rejected.saturating_sub(reasons.len() as u64), reasons.last()) {
            self.parts.statistics.rejected(rest, last);
        }
    }

    /// Counts a reading or line that is not taken, and says why.
    pub fn rejected(&self, error: &str) {
        self.parts.statistics.rejected(1, error);
    }

    /// Does what blocks, on a thread of its own: one that hangs holds up neither the runtime nor its end.
    /// It counts as work and not as a wait.
    ///
    /// # Errors
    /// It panicked, or the last one still hangs.
    pub async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        if std::mem::replace(&mut lock(&self.parts.turns).is_blocking, true) {
            return Err(SourceError::failed(format!("{what}: the last one still hangs")));
        }
        let (done, told) = oneshot::channel();
        let guard = Blocking(Arc::clone(&self.parts.turns));
        let body = move || {
            let result = work();
            drop(guard);
            // The attempt may have been given up.
            let _ = done.send(result);
        };
        std::thread::Builder::new().name(what.to_owned()).spawn(body).map_err(SourceError::failed)?;
        let result = told.await.map_err(|_| SourceError::failed(format!("{what}: panicked")))?;
        self.beat();
        Ok(result)
    }
}

/// A blocking read that is on its way.
struct Blocking(SharedTurns);

impl Drop for Blocking {
    fn drop(&mut self) {
        lock(&self.0).is_blocking = false;
    }
}

#[cfg(test)]
mod tests {
    use tideline_spool::SpoolConfig;

    use super::*;
    use crate::config::{Format, Rows};
    use crate::source::rows::RowReader;

    #[tokio::test]
    async fn what_is_rejected_counts_once_the_readings_beside_it_are_taken() {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let own = DeviceId::parse("pump-7").unwrap();
        let (out, mut inbox) = mpsc::channel(1);
        let (context, _stop) = Context::alone("a", own.clone(), &out, board.clone(), spool);
        let readings = || {
            let mut readings = Readings::of_own_times();
            readings.add(&Device::plain(own.clone()), "flow", 1.5);
            readings.reject("line 2: odd".to_owned());
            readings
        };
        let rejected = || board.read().sources.get("a").map(|source| source.rejected);
        let next = {
            // There is no room until another attempt has begun.
            let place = out.reserve().await.unwrap();
            let emit = context.emit(readings());
            tokio::pin!(emit);
            tokio::select! {
                biased;
                ended = &mut emit => panic!("{ended:?}"),
                () = std::future::ready(()) => {}
            }
            let next = context.next_attempt();
            drop(place);
            assert!(matches!(emit.await, Err(SourceError::Stopped)));
            next
        };
        assert_eq!(rejected(), Some(0));
        next.emit(readings()).await.unwrap();
        assert_eq!((rejected(), inbox.recv().await.map(|chunk| chunk.rows.len())), (Some(1), Some(1)));
    }
    #[tokio::test]
    async fn a_device_that_a_source_names_or_has_readings_of_is_introduced() {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let id = |device: &str| DeviceId::parse(device).unwrap();
        let (out, _inbox) = mpsc::channel(4);
        let (context, _stop) = Context::alone("a", id("pump-7"), &out, board, spool);
        let known = || {
            let cards = context.parts.cards.follow().news();
            cards.into_iter().map(|card| (card.device.to_string(), card.model)).collect::<Vec<_>>()
        };
        let rows = Rows { device: "oven".to_owned(), ..Rows::plain(Format::Csv) };
        RowReader::of(&context, rows).await.unwrap();
        RowReader::of(&context, Rows::plain(Format::Csv)).await.unwrap();
        assert_eq!(known(), [("oven".to_owned(), String::new())]);
        context.tell(DeviceCard { model: "M7".to_owned(), ..DeviceCard::new(id("fan")) });
        for emitted in [["pump-7", "kiln", "fan"], ["kiln", "mill", "kiln"]] {
            let mut readings = Readings::of_own_times();
            emitted.iter().for_each(|device| readings.add(&Device::plain(id(device)), "flow", 1.5));
            context.emit(readings).await.unwrap();
        }
        let found = known();
        let names: Vec<_> = found.iter().map(|(device, model)| (device.as_str(), model.as_str())).collect();
        // The agent's own is known without.
        assert_eq!(names, [("fan", "M7"), ("kiln", ""), ("mill", ""), ("oven", "")]);
    }
}
