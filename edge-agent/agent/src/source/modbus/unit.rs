//! One unit of a bus: what is to be asked of it when, and which of its points are missing. No I/O.

use std::sync::Arc;
use std::time::Duration;

use tideline_profiles::form::protocol::{Protocol, Serial};
use tideline_profiles::modbus::{Plan, Request};
use tideline_protocol::value::{Quality, Value};
use tokio::time::Instant;

use crate::config::{DeviceConfig, ModbusLine};
use crate::resilience::Retry;
use crate::source::introduction::Introduction;
use crate::source::{Device, Readings, Ticks};

/// The rests of a unit that does not answer. The bound is what its return may go unnoticed for.
const SILENT: Retry = Retry { base_ms: 1_000, factor: 2, max_ms: 60_000 };
/// How many times its time-out a silent unit is left alone at least: so it takes a fifth of the bus at most.
const REST_TIMEOUTS: u32 = 4;

/// A unit.
#[derive(Debug)]
pub struct Unit {
    /// The device that it is.
    pub device: Device,
    /// The stream that its readings go to in place of the source's.
    pub stream: Option<String>,
    /// Its number on the bus.
    pub number: u8,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Least time between an answer and the next request.
    pub pause: Duration,
    /// What the registry is told of it.
    pub introduction: Introduction,
    plan: Plan,
    groups: Vec<Polled>,
    failures: u32,
    rests_until: Option<Instant>,
}

/// A group of the plan.
#[derive(Debug)]
struct Polled {
    ticks: Ticks,
    // For each request, whether its points were told to be missing.
    missing: Vec<bool>,
}

impl Unit {
    /// As configured, on this line, with all groups due now.
    pub fn new(
        config: &DeviceConfig,
        line: &ModbusLine,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<Self, String> {
        let profile = config.family.clone().ok_or_else(|| format!("{}: it has no profile", config.id))?;
        let plan = Plan::of(&profile).map_err(|error| format!("{}: {error}", config.id))?;
        let Protocol::Modbus(table) = profile.protocol() else {
            return Err(format!("{}: profile {} is not of Modbus", config.id, profile.name()));
        };
        let number = match config.address.as_str() {
            "" => table.unit,
            text => text
                .parse()
                .map_err(|_| format!("{}: {text:?} is no unit; allowed are 0 to 255", config.id))?,
        };
        let of_group = |group: &tideline_profiles::modbus::Group| Polled {
            ticks: Ticks::new(now, Duration::from_millis(group.interval_ms.into())),
            missing: vec![false; group.requests.len()],
        };
        let device = Device::of(config.id.clone(), Arc::clone(&profile));
        let mut introduction = Introduction::new(&device, &format!("modbus {line} unit {number}"));
        introduction.learn(|card| card.firmware = config.firmware.clone().unwrap_or_default());
        Ok(Self {
            groups: plan.groups.iter().map(of_group).collect(),
            number,
            timeout: timeout.unwrap_or(Duration::from_millis(table.timeout_ms.max(1).into())),
            pause: Duration::from_millis(table.pause_ms.into()),
            stream: config.stream.clone(),
            device,
            introduction,
            plan,
            failures: 0,
            rests_until: None,
        })
    }

    /// The line that its profile is for.
    pub fn serial(&self) -> Option<Serial> {
        match self.plan.profile().protocol() {
            Protocol::Modbus(table) => table.serial.clone(),
            _ => None,
        }
    }

    /// When its next poll is due, and of which group.
    pub fn due(&self) -> (Instant, usize) {
        let due = self.groups.iter().enumerate().map(|(at, group)| (group.ticks.next(), at)).min();
        // A plan without groups asks for nothing: in a day it still does not.
        due.unwrap_or_else(|| (Instant::now() + Duration::from_secs(86_400), 0))
    }

    /// Begins a poll; gives how late it is.
    pub fn begin(&mut self, group: usize, now: Instant) -> Duration {
        self.groups.get_mut(group).map_or(Duration::ZERO, |group| group.ticks.advance(now))
    }

    /// Whether it is left alone.
    pub fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// How many requests a group takes.
    pub fn requests(&self, group: usize) -> usize {
        self.groups.get(group).map_or(0, |group| group.missing.len())
    }

    /// A request of a group.
    pub fn request(&self, group: usize, at: usize) -> Option<&Request> {
        self.plan.groups.get(group)?.requests.get(at)
    }

    /// It has answered a request: adds what that says, and gives what it says wrong.
    pub fn take(
        &mut self,
        group: usize,
        at: usize,
        words: &[u16],
        time_ns: i64,
        readings: &mut Readings,
    ) -> Vec<String> {
        (self.failures, self.rests_until) = (0, None);
        if let Some(missing) = self.groups.get_mut(group).and_then(|group| group.missing.get_mut(at)) {
            *missing = false;
        }
        let Some(request) = self.request(group, at) else { return Vec::new() };
        let mut bad = Vec::new();
        for decoded in self.plan.decode(request, words) {
            let (value, quality) = decoded.reading();
            self.introduction.hear(&self.device, &decoded.point, &value);
            readings.add_at(&self.device, decoded.point.as_str(), time_ns, value, quality);
            if let Err(error) = decoded.outcome {
                bad.push(format!("{}: {error}", decoded.point));
            }
        }
        bad
    }

    /// It refuses one request: the points of that are missing.
    pub fn refused(&mut self, group: usize, at: usize, readings: &mut Readings) {
        (self.failures, self.rests_until) = (0, None);
        self.miss_one(group, at, readings);
    }

    /// It does not answer, and is left alone for a while.
    pub fn silent(&mut self, now: Instant, entropy: u64) {
        let drawn = Duration::from_millis(SILENT.wait_ms(self.failures, entropy));
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + drawn.max(self.timeout * REST_TIMEOUTS));
    }

    /// All that a group would have asked for from this request on is missing.
    pub fn miss(&mut self, group: usize, from: usize, readings: &mut Readings) {
        (from..self.requests(group)).for_each(|at| self.miss_one(group, at, readings));
    }

    /// Says so once, and not again until it was there.
    fn miss_one(&mut self, group: usize, at: usize, readings: &mut Readings) {
        let missing = self.groups.get_mut(group).and_then(|group| group.missing.get_mut(at));
        if missing.is_none_or(|missing| std::mem::replace(missing, true)) {
            return;
        }
        let Some(request) = self.plan.groups.get(group).and_then(|group| group.requests.get(at)) else {
            return;
        };
        let time_ns = readings.time_ns();
        for point in request.points() {
            readings.add_at(&self.device, point.as_str(), time_ns, Value::Null, Quality::Bad);
        }
    }
}
