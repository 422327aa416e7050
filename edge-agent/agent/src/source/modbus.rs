//! Modbus over TCP and over serial lines: one connection for each bus, whose units are asked in turn.
//!
//! What is asked, and what answers mean, is said by a profile's plan; when, by its intervals on a grid. What was
//! missed is skipped. A unit that does not answer costs the others its own time-out, and is then left alone
//! for a while. Its points get one null of bad quality, so that a chart does not draw on what was.

pub(crate) mod bus;
mod unit;

use std::time::Duration;

use tokio::time::Instant;

use self::bus::{Bus, Trouble};
use self::unit::Unit;
use super::{Context, Readings, Source, SourceError};
use crate::config::{DeviceConfig, ModbusLine};
use crate::resilience::entropy;

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
        // They are in the configuration: the registry hears of those too that never answer.
        units.iter_mut().filter_map(|unit| unit.introduction.news()).for_each(|card| context.tell(card));
        if units.is_empty() {
            return Err(SourceError::failed("no [[device]] names it, so there is nothing to ask for"));
        }
        let serial = units.iter().find_map(Unit::serial);
        let mut poller = Poller { context, bus: Bus::new(self.line.clone(), serial), units };
        loop {
            poller.poll_next().await?;
        }
    }
}

struct Poller<'c> {
    context: &'c Context,
    bus: Bus,
    units: Vec<Unit>,
}

impl Poller<'_> {
    /// Waits for what is due first and asks for it: whoever has waited longest is next.
    async fn poll_next(&mut self) -> Result<(), SourceError> {
        let due = self.units.iter().enumerate().map(|(at, unit)| (unit.due(), at)).min();
        let Some(((due, group), at)) = due else { return Ok(()) };
        self.context.sleep_until(due).await?;
        let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
        let (began, mut readings) = (Instant::now(), self.context.readings());
        let late = unit.begin(group, began);
        if self.bus.rests(began) || unit.rests(began) {
            unit.miss(group, 0, &mut readings);
        } else {
            self.context.statistics().poll_began(late);
            let asked = ask(self.context, &mut self.bus, unit, group, &mut readings).await;
            self.context.statistics().poll_ended(began.elapsed());
            asked?;
        }
        unit.introduction.news().into_iter().for_each(|card| self.context.tell(card));
        let readings = match &unit.stream {
            Some(stream) => readings.to_stream(stream),
            None => readings,
        };
        self.context.emit(readings).await
    }
}

/// Asks a unit for all of a group, as long as it answers.
async fn ask(
    context: &Context,
    bus: &mut Bus,
    unit: &mut Unit,
    group: usize,
    readings: &mut Readings,
) -> Result<(), SourceError> {
    let id = unit.device.id.to_string();
    context.statistics().device(&id, |device| device.polls += 1);
    for at in 0..unit.requests(group) {
        let Some(request) = unit.request(group, at) else { break };
        let answer = context.wait(bus.read(unit.number, request, unit.timeout, unit.pause)).await?;
        let trouble = match answer {
            Ok(words) => {
                let bad = unit.take(group, at, &words, context.clock().wall_ns(), readings);
                context.statistics().device(&id, |device| {
                    device.state = "answers".into();
                    device.bad_values += bad.len() as u64;
                    device.last_error = bad.last().cloned().or(device.last_error.take());
                });
                continue;
            }
            Err(trouble) => trouble,
        };
        let error = format!("{id} (unit {}): {trouble}", unit.number);
        tell(context, &id, &trouble, &error);
        if trouble.is_of_one_request() {
            unit.refused(group, at, readings);
            continue;
        }
        if trouble.is_of_the_bus() {
            bus.rest(Instant::now(), entropy());
        } else {
            unit.silent(Instant::now(), entropy());
        }
        unit.miss(group, at, readings);
        break;
    }
    Ok(())
}

fn tell(context: &Context, id: &str, trouble: &Trouble, error: &str) {
    let is_late = matches!(trouble, Trouble::Silent(_));
    if is_late {
        context.statistics().timed_out(error);
    } else {
        context.statistics().failed(error);
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
