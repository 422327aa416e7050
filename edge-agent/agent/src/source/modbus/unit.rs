//! One unit of a bus: what is to be asked of it when, and which of its points are missing. No I/O.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tideline_profiles::form::protocol::{Protocol, Serial};
use tideline_profiles::modbus::{Decoded, Plan, Request, Scales};
use tideline_profiles::sunspec::{self, ModelAt};
use tideline_profiles::{Profile, Reason};
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value};
use tokio::time::Instant;

use super::chain::{Chain, Found};
use crate::config::{DeviceConfig, ModbusLine};
use crate::resilience::Retry;
use crate::source::introduction::Introduction;
use crate::source::{Device, Readings, Ticks};

/// The rests of a unit that does not answer. The bound is what its return may go unnoticed for.
const SILENT: Retry = Retry { base_ms: 1_000, factor: 2, max_ms: 60_000 };
/// How many times as long as it took the bus a silent unit is left alone at least: a fifth of the bus at most is its.
const REST_TOOK: u32 = 4;

/// A unit.
#[derive(Debug)]
pub struct Unit {
    /// The device that it is.
    pub device: Device,
    /// Its profile.
    pub profile: Arc<Profile>,
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
    /// Functions that it has said that it does not know.
    pub lacks: BTreeSet<u8>,
    /// Of SunSpec, how its models are found.
    pub chain: Option<Chain>,
    models: Vec<ModelAt>,
    // Those of SunSpec have none before their models are known.
    plan: Option<Plan>,
    scales: Scales,
    groups: Vec<Polled>,
    // Since when it is to be asked for its models.
    search_due: Instant,
    failures: u32,
    rests_until: Option<Instant>,
    // Whether all points of a device whose models were never known are told to be missing.
    told_unknown: bool,
}

/// What a unit is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Its models.
    Search,
    /// A group of its points.
    Poll(usize),
}

/// A group of the plan.
#[derive(Debug)]
struct Polled {
    ticks: Ticks,
    // For each request, whether its points were told to be missing.
    missing: Vec<bool>,
    // The requests that it refused when they were sent last.
    refused: BTreeSet<usize>,
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
        let (usual, timeout_ms, pause_ms, chain) = match profile.protocol() {
            Protocol::Modbus(table) => (table.unit, table.timeout_ms, table.pause_ms, None),
            Protocol::SunSpec(table) => (table.unit, table.timeout_ms, 0, Some(Chain::new(table))),
            _ => return Err(format!("{}: profile {} is not of Modbus", config.id, profile.name())),
        };
        let plan = match &chain {
            None => Some(Plan::of(&profile).map_err(|error| format!("{}: {error}", config.id))?),
            Some(_) => None,
        };
        let number = match config.address.as_str() {
            "" => usual,
            text => text
                .parse()
                .map_err(|_| format!("{}: {text:?} is no unit; allowed are 0 to 255", config.id))?,
        };
        let device = Device::of(config.id.clone(), Arc::clone(&profile));
        let mut introduction = Introduction::new(&device, &format!("modbus {line} unit {number}"));
        introduction.learn(|card| card.firmware = config.firmware.clone().unwrap_or_default());
        Ok(Self {
            groups: plan.as_ref().map(|plan| polled(plan, now)).unwrap_or_default(),
            number,
            timeout: timeout.unwrap_or(Duration::from_millis(timeout_ms.max(1).into())),
            pause: Duration::from_millis(pause_ms.into()),
            stream: config.stream.clone(),
            device,
            profile,
            introduction,
            lacks: BTreeSet::new(),
            chain,
            models: Vec::new(),
            plan,
            scales: Scales::default(),
            search_due: now,
            failures: 0,
            rests_until: None,
            told_unknown: false,
        })
    }

    /// The line that its profile is for.
    pub fn serial(&self) -> Option<Serial> {
        match self.profile.protocol() {
            Protocol::Modbus(table) => table.serial.clone(),
            _ => None,
        }
    }

    /// Whether it is known where its points stand, in the device that answers on this connection.
    pub fn is_known(&self, connection: Option<u64>) -> bool {
        self.chain.as_ref().is_none_or(|chain| chain.is_known(connection))
    }

    /// When it is to be asked next, and for what, on this connection.
    pub fn due(&self, connection: Option<u64>) -> (Instant, Turn) {
        if !self.is_known(connection) {
            return (self.search_due, Turn::Search);
        }
        let groups = self.groups.iter().enumerate();
        let due = groups.map(|(at, group)| (group.ticks.next(), Turn::Poll(at))).min();
        // A plan without groups asks for nothing: in a day it still does not.
        due.unwrap_or_else(|| (Instant::now() + Duration::from_secs(86_400), Turn::Poll(0)))
    }

    /// Begins a poll; gives how late it is.
    pub fn begin(&mut self, group: usize, now: Instant) -> Duration {
        self.groups.get_mut(group).map_or(Duration::ZERO, |group| group.ticks.advance(now))
    }

    /// The next step of the search for its models is for this moment.
    pub const fn search_at(&mut self, due: Instant) {
        self.search_due = due;
    }

    /// Until when it is left alone; none when it is not.
    pub fn rests(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// Whether it answers, and refuses some of what it is asked.
    pub fn refuses(&self) -> bool {
        self.groups.iter().any(|group| !group.refused.is_empty())
    }

    /// How many requests a group takes.
    pub fn requests(&self, group: usize) -> usize {
        self.groups.get(group).map_or(0, |group| group.missing.len())
    }

    /// A request of a group.
    pub fn request(&self, group: usize, at: usize) -> Option<&Request> {
        self.plan.as_ref()?.groups.get(group)?.requests.get(at)
    }

    /// The request that reads a point: its group, and which of that.
    pub fn request_of(&self, point: &PointId) -> Option<(usize, usize)> {
        let groups = self.plan.iter().flat_map(|plan| &plan.groups).enumerate();
        groups.into_iter().find_map(|(group, planned)| {
            let at = planned.requests.iter().position(|request| request.points().any(|id| id == point))?;
            Some((group, at))
        })
    }

    /// The request that reads its version, when what a group says hangs on that.
    pub fn version_request(&self, group: usize) -> Option<(usize, usize)> {
        let varying = self.profile.varying();
        if varying.is_nothing() {
            return None;
        }
        let group = self.plan.as_ref()?.groups.get(group)?;
        let mut points = group.requests.iter().flat_map(Request::points);
        let hangs = points.any(|point| varying.has(point.as_str()));
        let point = self.profile.identity().firmware_point.as_deref().filter(|_| hangs)?;
        self.request_of(&PointId::parse(point).ok()?)
    }

    /// The version that an answer to that tells.
    pub fn version(&mut self, place: (usize, usize), words: &[u16]) -> Option<Value> {
        let decoded = self.decode(place.0, place.1, words);
        let point = self.profile.identity().firmware_point.as_deref();
        let said = decoded.into_iter().find(|said| Some(said.point.as_str()) == point)?;
        let (value, _) = said.reading();
        self.introduction.hear(&self.device, &said.point, &value);
        Some(value)
    }

    /// The models that it has, of SunSpec.
    pub fn models(&self) -> &[ModelAt] {
        &self.models
    }

    /// Its models are found: what it has no longer is missing, and what it has now is due.
    pub fn found(&mut self, found: Found, now: Instant, readings: &mut Readings) -> Result<(), String> {
        let Found { models, common } = found;
        let is_same = self.plan.is_some() && models == self.models;
        if !is_same {
            let planned = sunspec::plan(&self.profile, &models).map_err(|error| error.to_string())?;
            (0..self.groups.len()).for_each(|group| self.miss(group, 0, readings));
            tracing::info!(
                device = %self.device.id,
                models = ?models.iter().map(|model| model.id).collect::<Vec<_>>(),
                points_missing = planned.missing.len(),
                "models found"
            );
            self.groups = polled(&planned.plan, now);
            (self.models, self.plan, self.scales) = (models, Some(planned.plan), Scales::default());
        }
        self.introduction.learn(|card| {
            let texts = [common.maker, common.model, common.version];
            let known = [&mut card.vendor, &mut card.model, &mut card.firmware];
            for (known, text) in known.into_iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
                *known = text;
            }
        });
        (self.failures, self.rests_until) = (0, None);
        self.chain.iter_mut().for_each(Chain::keep);
        Ok(())
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
        if let Some(group) = self.groups.get_mut(group) {
            group.missing.iter_mut().skip(at).take(1).for_each(|missing| *missing = false);
            group.refused.remove(&at);
        }
        let decoded = self.decode(group, at, words);
        let mut bad = Vec::new();
        for Decoded { point, outcome } in &decoded {
            let (value, quality) = match outcome {
                Ok((value, quality)) => (value.clone(), *quality),
                Err(_) => (Value::Null, Quality::Bad),
            };
            self.introduction.hear(&self.device, point, &value);
            readings.add_at(&self.device, point.as_str(), time_ns, value, quality);
            // To have none of something is no fault.
            if let Err(error) = outcome
                && error.reason != Reason::Absent
            {
                bad.push(format!("{point}: {error}"));
            }
        }
        bad
    }

    /// What an answer says, and for others the scale factors in it.
    fn decode(&mut self, group: usize, at: usize, words: &[u16]) -> Vec<Decoded> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let request = plan.groups.get(group).and_then(|group| group.requests.get(at));
        let Some(request) = request else { return Vec::new() };
        plan.note_scales(request, Some(words), &mut self.scales);
        plan.decode_scaled(request, words, &self.scales)
    }

    /// It refuses one request: the points of that are missing.
    pub fn refused(&mut self, group: usize, at: usize, readings: &mut Readings) {
        (self.failures, self.rests_until) = (0, None);
        let mut scales = std::mem::take(&mut self.scales);
        if let (Some(plan), Some(request)) = (&self.plan, self.request(group, at)) {
            plan.note_scales(request, None, &mut scales);
        }
        self.scales = scales;
        self.groups.iter_mut().skip(group).take(1).for_each(|group| group.refused.extend([at]));
        let is_new = self.miss_one(group, at, readings);
        if is_new && let Some(chain) = &mut self.chain {
            // It had these registers: its models may be others by now.
            chain.forget();
            self.search_due = Instant::now();
        }
    }

    /// It does not answer, which took the bus this long, and is left alone for a while.
    pub fn silent(&mut self, now: Instant, took: Duration, entropy: u64) {
        let drawn = Duration::from_millis(SILENT.wait_ms(self.failures, entropy));
        self.failures = self.failures.saturating_add(1);
        let until = now + drawn.max(took * REST_TOOK);
        (self.rests_until, self.search_due) = (Some(until), until);
        self.chain.iter_mut().for_each(Chain::forget);
    }

    /// All that a group would have asked for from this request on is missing.
    pub fn miss(&mut self, group: usize, from: usize, readings: &mut Readings) {
        for at in from..self.requests(group) {
            self.miss_one(group, at, readings);
        }
    }

    /// Nobody knows where its points stand: all are missing.
    pub fn miss_all(&mut self, readings: &mut Readings) {
        (0..self.groups.len()).for_each(|group| self.miss(group, 0, readings));
        if self.plan.is_some() || std::mem::replace(&mut self.told_unknown, true) {
            return;
        }
        let time_ns = readings.time_ns();
        // How many blocks there are is not known either.
        let named = |id: &str| !id.contains('*');
        let points = self.profile.points().filter(|(id, point)| point.access.reads() && named(id));
        for (id, _) in points {
            readings.add_at(&self.device, id, time_ns, Value::Null, Quality::Bad);
        }
    }

    /// Says so once, and not again until it was there. Gives whether it did.
    fn miss_one(&mut self, group: usize, at: usize, readings: &mut Readings) -> bool {
        let missing = self.groups.get_mut(group).and_then(|group| group.missing.get_mut(at));
        if missing.is_none_or(|missing| std::mem::replace(missing, true)) {
            return false;
        }
        let Some(request) = self.request(group, at) else { return false };
        let time_ns = readings.time_ns();
        for point in request.points() {
            readings.add_at(&self.device, point.as_str(), time_ns, Value::Null, Quality::Bad);
        }
        true
    }
}

/// All groups of a plan, due now.
fn polled(plan: &Plan, now: Instant) -> Vec<Polled> {
    let of_group = |group: &tideline_profiles::modbus::Group| Polled {
        ticks: Ticks::new(now, Duration::from_millis(group.interval_ms.into())),
        missing: vec![false; group.requests.len()],
        refused: BTreeSet::new(),
    };
    plan.groups.iter().map(of_group).collect()
}
