//! Modbus over TCP and over serial lines: one connection for each bus, whose units are asked in turn.
//!
//! What is asked, and what answers mean, is said by a profile's plan; when, by its intervals on a grid. What was
//! missed is skipped. A unit that does not answer costs the others its own time-out, and is then left alone
//! for a while. Its points get one null of bad quality, so that a chart does not draw on what was.
//!
//! A unit of SunSpec says itself where its points stand: it is asked for its models before it is polled, and again
//! wherever another device may answer. What is to be written goes before what is to be read.

mod asking;
pub(crate) mod bus;
mod chain;
mod unit;
mod version;
mod writing;

use std::time::Duration;

use tideline_profiles::modbus::Function;
use tideline_protocol::time::NS_PER_MS;
use tokio::time::{Instant, sleep_until};

use self::bus::{Bus, Call, Trouble};
use self::chain::{Chain, Wanted};
use self::unit::{Turn, Unit};
use super::reads::Ask;
use super::writes::Inbox;
use super::{Context, Readings, Source, SourceError, Write, reads};
use crate::config::{DeviceConfig, ModbusLine};
use crate::resilience::entropy;
use crate::status::DeviceStatus;

/// Reads the devices of one bus.
#[derive(Debug, Clone)]
pub struct ModbusSource {
    /// How they are reached.
    pub line: ModbusLine,
    /// Longest wait for an answer; none for what each profile says.
    pub timeout: Option<Duration>,
    /// The devices.
    pub devices: Vec<DeviceConfig>,
}

impl Source for ModbusSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let now = Instant::now();
        let units = self.devices.iter().map(|device| Unit::new(device, &self.line, self.timeout, now));
        let mut units = units.collect::<Result<Vec<_>, _>>().map_err(SourceError::Failed)?;
        if units.is_empty() {
            return Err(SourceError::failed("no [[device]] names it, so there is nothing to ask for"));
        }
        // They are in the configuration: the registry hears of those too that never answer.
        units.iter_mut().filter_map(|unit| unit.introduction.news()).for_each(|card| context.tell(card));
        let inbox = context.writes();
        let asks = context.reads();
        for unit in &units {
            inbox.serve(&unit.device);
            asks.serve(&unit.device.id);
        }
        let serial = units.iter().find_map(Unit::serial);
        let mut poller = Poller { context, bus: Bus::new(self.line.clone(), serial), units, inbox, asks };
        loop {
            poller.next().await?;
        }
    }
}

struct Poller<'c> {
    context: &'c Context,
    bus: Bus,
    units: Vec<Unit>,
    inbox: Inbox,
    asks: reads::Inbox,
}

/// What comes before what is due.
enum Wish {
    Write(Write),
    Ask(Ask),
}

impl Poller<'_> {
    /// Waits for what is due first and asks for it: whoever has waited longest is next, and who writes before all.
    async fn next(&mut self) -> Result<(), SourceError> {
        let connection = self.bus.connection();
        let due = self.units.iter().enumerate().map(|(at, unit)| (unit.due(connection), at)).min();
        let Some(((due, turn), at)) = due else { return Ok(()) };
        let (inbox, asks) = (&mut self.inbox, &mut self.asks);
        let wish = async {
            tokio::select! {
                biased;
                write = inbox.next() => Some(Wish::Write(write)),
                ask = asks.next() => Some(Wish::Ask(ask)),
                () = sleep_until(due) => None,
            }
        };
        match self.context.wait(wish).await? {
            Some(Wish::Write(write)) => return self.write(write).await,
            Some(Wish::Ask(ask)) => return self.read_now(ask).await,
            None => {}
        }
        let mut readings = self.context.readings();
        match turn {
            Turn::Search => self.search(at, &mut readings).await?,
            Turn::Poll(group) => self.poll(at, group, &mut readings).await?,
        }
        self.hand_on(at, readings).await
    }

    /// Hands on what a unit has said, of its points and of itself.
    async fn hand_on(&mut self, at: usize, readings: Readings) -> Result<(), SourceError> {
        let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
        unit.introduction.news().into_iter().for_each(|card| self.context.tell(card));
        let readings = match &unit.stream {
            Some(stream) => readings.to_stream(stream),
            None => readings,
        };
        self.context.emit(readings).await
    }

    /// Asks a unit. What goes wrong is counted.
    async fn call(&mut self, at: usize, call: Call<'_>) -> Result<Result<Vec<u16>, Trouble>, SourceError> {
        let Some(unit) = self.units.get(at) else { return Ok(Ok(Vec::new())) };
        let answer = self.context.wait(self.bus.call(unit.number, call, unit.timeout, unit.pause)).await?;
        if let Err(trouble) = &answer {
            tell(self.context, unit, trouble);
        }
        Ok(answer)
    }

    /// Leaves alone who did not answer: the unit, or the whole bus.
    fn leave(&mut self, at: usize, trouble: &Trouble) {
        let now = Instant::now();
        if trouble.is_of_the_bus() {
            self.bus.rest(now, entropy());
        } else if !trouble.is_of_one_request()
            && let Some(unit) = self.units.get_mut(at)
        {
            // To find a connection broken took nobody's time.
            let took = if matches!(trouble, Trouble::Broken(_)) { Duration::ZERO } else { unit.timeout };
            unit.silent(now, took, entropy());
        }
    }

    /// Asks a unit for all of a group, as long as it answers.
    async fn poll(&mut self, at: usize, group: usize, readings: &mut Readings) -> Result<(), SourceError> {
        let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
        let began = Instant::now();
        let late = unit.begin(group, began);
        if self.bus.rests(began).is_some() || unit.rests(began).is_some() {
            unit.miss(group, 0, readings);
            return Ok(());
        }
        self.context.statistics().poll_began(late);
        self.context.statistics().device(unit.device.id.as_str(), |device| device.polls += 1);
        self.doubt(at, group);
        let asked = match self.ask(at, group, readings).await {
            Ok(()) => self.confirm(at, group).await,
            stopped => stopped,
        };
        self.context.statistics().poll_ended(began.elapsed());
        asked
    }

    async fn ask(&mut self, at: usize, group: usize, readings: &mut Readings) -> Result<(), SourceError> {
        let count = self.units.get(at).map_or(0, |unit| unit.requests(group));
        for request in 0..count {
            if request > 0 {
                while let Some(write) = self.inbox.try_next() {
                    self.write(write).await?;
                }
                while let Some(ask) = self.asks.try_next() {
                    self.read_now(ask).await?;
                }
            }
            // What was written to another unit may have cost the connection.
            if !self.units.get(at).is_some_and(|unit| unit.is_known(self.bus.connection())) {
                return Ok(());
            }
            let Some(trouble) = self.ask_one(at, (group, request), readings).await? else { continue };
            self.leave(at, &trouble);
            let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
            if trouble.is_of_one_request() {
                unit.refused(group, request, readings);
                continue;
            }
            if unit.chain.is_some() {
                // Its other groups are not polled before its models are known again.
                unit.miss_all(readings);
            } else {
                unit.miss(group, request, readings);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Asks a unit for one request of a group, and takes what it says; gives why it does not.
    async fn ask_one(
        &mut self,
        at: usize,
        (group, request): (usize, usize),
        readings: &mut Readings,
    ) -> Result<Option<Trouble>, SourceError> {
        let planned = self.units.get(at).and_then(|unit| unit.request(group, request));
        let Some(planned) = planned else { return Ok(None) };
        let call = Call::Read { function: planned.function, start: planned.start, count: planned.count };
        let words = match self.call(at, call).await? {
            Ok(words) => words,
            Err(trouble) => return Ok(Some(trouble)),
        };
        let Some(unit) = self.units.get_mut(at) else { return Ok(None) };
        let (now_ns, before) = (self.context.clock().wall_ns(), readings.count());
        let bad = unit.take(group, request, &words, now_ns, readings);
        let refuses = unit.refuses();
        let came = readings.count().saturating_sub(before);
        self.context.statistics().device(unit.device.id.as_str(), |device| {
            let state = if refuses { "refuses" } else { "answers" };
            if device.state != state {
                state.clone_into(&mut device.state);
            }
            (device.readings, device.last_reading_ms) =
                (device.readings + came, Some(now_ns.div_euclid(NS_PER_MS)));
            device.bad_values += bad.len() as u64;
            device.last_error = bad.last().cloned().or(device.last_error.take());
        });
        Ok(None)
    }

    /// Takes one step of the search for a unit's models; others that are due come in between.
    async fn search(&mut self, at: usize, readings: &mut Readings) -> Result<(), SourceError> {
        let now = Instant::now();
        let bus_rests = self.bus.rests(now);
        let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
        if let Some(until) = bus_rests.max(unit.rests(now)) {
            unit.search_at(until);
            unit.miss_all(readings);
            return Ok(());
        }
        unit.search_at(now);
        let Some(Wanted::Read { start, count }) = unit.chain.as_ref().map(Chain::poll) else {
            return Ok(());
        };
        let call = Call::Read { function: Function::Holding, start, count };
        // That there is nothing in a place is an answer, and no fault of the device.
        let answer = self.context.wait(self.bus.call(unit.number, call, unit.timeout, unit.pause)).await?;
        let connection = self.bus.connection();
        let words = match answer {
            Ok(words) => Some(words),
            Err(trouble) if trouble.is_of_one_request() => None,
            Err(trouble) => {
                tell(self.context, unit, &trouble);
                self.leave(at, &trouble);
                self.units.iter_mut().skip(at).take(1).for_each(|unit| unit.miss_all(readings));
                return Ok(());
            }
        };
        let Some(chain) = &mut unit.chain else { return Ok(()) };
        chain.handle(connection, words.as_deref());
        let failed = match chain.poll() {
            Wanted::Read { .. } => return Ok(()),
            Wanted::Found(found) => {
                let version = found.common.version.clone();
                let failed = unit.found(found, now, readings).err();
                self.context.editions().hear(self.context.name(), &unit.device, &version);
                failed
            }
            Wanted::Failed(error) => Some(error),
        };
        let id = unit.device.id.as_str();
        self.context.statistics().device(id, |device| match &failed {
            None => answers(device),
            Some(error) => (device.state, device.last_error) = ("refuses".to_owned(), Some(error.clone())),
        });
        if let Some(error) = failed {
            self.context.statistics().failed(&format!("{id} (unit {}): {error}", unit.number));
            unit.silent(now, unit.timeout, entropy());
            unit.miss_all(readings);
        }
        Ok(())
    }
}

fn answers(device: &mut DeviceStatus) {
    if device.state != "answers" {
        "answers".clone_into(&mut device.state);
    }
}

fn tell(context: &Context, unit: &Unit, trouble: &Trouble) {
    let id = unit.device.id.as_str();
    let error = format!("{id} (unit {}): {trouble}", unit.number);
    let is_late = matches!(trouble, Trouble::Silent(_));
    if is_late {
        context.statistics().timed_out(&error);
    } else {
        context.statistics().failed(&error);
    }
    context.statistics().device(id, |device| {
        device.state = if trouble.is_of_one_request() { "refuses" } else { "silent" }.to_owned();
        device.failures += u64::from(!is_late);
        device.timeouts += u64::from(is_late);
        device.last_error = Some(trouble.to_string());
    });
}

#[cfg(test)]
mod tests;
