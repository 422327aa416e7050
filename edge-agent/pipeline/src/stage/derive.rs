//! Derived points: a value computed from the newest values of several points, of one device or of several.
//!
//! The inputs of a chunk are taken in the order of their times, whichever series they are of; those of one time count together.
//! After them the value is computed, if every input has one and none is too old. It has the time of its newest input.
//! A reading that is older than what its input already has is left out. An input that is not good makes the result null, with the
//! worst quality of all.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::compute::of_kind;
use super::{Io, NO_ROOM, Operator};
use crate::clock::{Carry, Setting};
use crate::expression::Expression;
use crate::limits::SERIES_PER_STAGE_MAX;
use crate::series::{Column, SeriesNo, shown};
use crate::state::StateError;

/// A derived point.
pub(crate) struct DeriveStage {
    pub inputs: Vec<Input>,
    pub per_device: bool,
    pub expression: Expression,
    /// The device of the result; none for that of the inputs.
    pub device: Option<DeviceId>,
    pub point: PointId,
    pub unit: String,
    pub kind: ValueKind,
    /// 0 for never.
    pub age_max_ns: i64,
    /// What each series is to it, by its number.
    pub roles: Vec<Option<Role>>,
    pub groups: BTreeMap<Option<DeviceId>, Group>,
    /// The readings of the chunk.
    pub pending: Vec<Pending>,
}

/// An input: its point, and its device unless each device has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub device: Option<DeviceId>,
    pub point: PointId,
}

/// Which inputs a series is, and of which group.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    inputs: Vec<usize>,
    group: Option<DeviceId>,
}

/// The newest values of a group's inputs.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Group {
    #[n(0)]
    newest: Vec<Option<Newest>>,
}

/// The newest value of an input.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
struct Newest {
    #[n(0)]
    time_ns: i64,
    #[n(1)]
    held: Held,
    #[n(2)]
    quality: Quality,
    /// The clock that gave the time.
    #[n(3)]
    clock: Option<Setting>,
}

/// A value that outlives the table of its chunk.
#[derive(Debug, Clone, Encode, Decode)]
enum Held {
    #[n(0)]
    Null,
    #[n(1)]
    Float(#[n(0)] f64),
    #[n(2)]
    Int(#[n(0)] i64),
    #[n(3)]
    Bool(#[n(0)] bool),
    #[n(4)]
    Text(#[n(0)] String),
}

impl From<Value> for Held {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Float(number) => Self::Float(number),
            Value::Int(integer) => Self::Int(integer),
            Value::Bool(truth) => Self::Bool(truth),
            Value::Text(text) => Self::Text(text.to_string()),
        }
    }
}

impl From<&Held> for Value {
    fn from(held: &Held) -> Self {
        match held {
            Held::Null => Self::Null,
            Held::Float(number) => Self::Float(*number),
            Held::Int(integer) => Self::Int(*integer),
            Held::Bool(truth) => Self::Bool(*truth),
            Held::Text(text) => Self::Text(text.as_str().into()),
        }
    }
}

/// A reading that waits for the others of its chunk.
#[derive(Debug)]
pub(crate) struct Pending {
    series: SeriesNo,
    sample: Sample,
    clock: Option<Setting>,
}

impl Group {
    /// Goes over to the clock of a reading: what nobody knows the age of any more is forgotten.
    fn carry(&mut self, comes: Option<Setting>, time_ns: i64) {
        for slot in &mut self.newest {
            let Some(input) = slot.as_mut().filter(|input| input.clock != comes) else { continue };
            match Carry::of(input.clock, input.time_ns, comes, time_ns).moved(input.time_ns) {
                // That of a source's own stays what it is.
                Some(time_ns) if input.clock.is_some() && comes.is_some() => {
                    (input.time_ns, input.clock) = (time_ns, comes);
                }
                Some(_) => {}
                None => *slot = None,
            }
        }
    }
}

impl DeriveStage {
    fn role(&mut self, series: SeriesNo, def: &SeriesDef) -> Option<Role> {
        let at = series as usize;
        if self.roles.len() <= at {
            self.roles.resize(at + 1, None);
        }
        let slot = self.roles.get_mut(at)?;
        if slot.is_none() {
            let is_of = |input: &Input| {
                input.point == def.point && input.device.as_ref().is_none_or(|device| *device == def.device)
            };
            let inputs = self.inputs.iter().enumerate().filter(|(_, input)| is_of(input)).map(|(at, _)| at);
            let group = self.per_device.then(|| def.device.clone());
            *slot = Some(Role { inputs: inputs.collect(), group });
        }
        slot.clone()
    }

    /// Takes a reading as the newest of its inputs, if it is; gives its group.
    fn note(&mut self, pending: &Pending, io: &mut Io<'_>) -> Option<Option<DeviceId>> {
        let def = io.registry.def(pending.series)?.clone();
        let role = self.role(pending.series, &def)?;
        if role.inputs.is_empty() {
            io.drop(1);
            return None;
        }
        if !self.groups.contains_key(&role.group) && self.groups.len() >= SERIES_PER_STAGE_MAX {
            io.letter(pending.series, pending.sample, NO_ROOM);
            return None;
        }
        let count = self.inputs.len();
        let group = self.groups.entry(role.group.clone()).or_default();
        group.newest.resize(count, None);
        group.carry(pending.clock, pending.sample.time_ns);
        let (value, quality) = shown(io.boxes, pending.sample.value, def.kind());
        let newest =
            Newest { time_ns: pending.sample.time_ns, held: value.into(), quality, clock: pending.clock };
        let mut is_new = false;
        for at in role.inputs {
            let Some(slot) = group.newest.get_mut(at) else { continue };
            // One that cannot be, from before the clock was set, is none to wait for.
            let gives_way = |known: &Newest| {
                known.time_ns <= newest.time_ns
                    || io.now.is_ahead(known.time_ns, pending.clock, io.ahead_max_ns)
            };
            if slot.as_ref().is_none_or(gives_way) {
                *slot = Some(newest.clone());
                is_new = true;
            }
        }
        if !is_new {
            io.drop(1);
        }
        is_new.then_some(role.group)
    }

    /// The result of a group: its time, value and quality; none where an input is missing.
    fn result(&self, group: &Option<DeviceId>) -> Option<(i64, Result<Value, &'static str>, Quality)> {
        let newest: Vec<&Newest> =
            self.groups.get(group)?.newest.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let time_ns = newest.iter().map(|input| input.time_ns).max()?;
        let is_old = |input: &&Newest| time_ns.saturating_sub(input.time_ns) > self.age_max_ns;
        if newest.is_empty() || (self.age_max_ns > 0 && newest.iter().any(is_old)) {
            return None;
        }
        let quality = newest.iter().map(|input| input.quality).max().unwrap_or_default();
        if quality != Quality::Good {
            return Some((time_ns, Ok(Value::Null), quality));
        }
        let mut scope = self.expression.scope();
        newest.iter().enumerate().for_each(|(at, input)| scope.set(at, &Value::from(&input.held)));
        let value = self.expression.value(&scope).and_then(|value| of_kind(value, self.kind));
        Some((time_ns, value, quality))
    }

    fn give(&self, group: &Option<DeviceId>, last: &Pending, io: &mut Io<'_>) {
        let Some((time_ns, value, quality)) = self.result(group) else { return };
        let value = match value {
            Ok(value) => io.boxes.word(value, quality),
            Err(reason) => return io.letter(last.series, last.sample, reason),
        };
        let clock = last.clock;
        let Some(device) = self.device.clone().or_else(|| group.clone()) else { return };
        let def = SeriesDef::new(device, self.point.clone(), self.unit.clone()).of_kind(self.kind);
        match io.registry.number(&def) {
            Some(series) => io.give(0, Column { series, samples: vec![Sample { time_ns, value }], clock }),
            None => io.letter(last.series, last.sample, NO_ROOM),
        }
    }
}

impl Operator for DeriveStage {
    fn take(&mut self, column: Column, io: &mut Io<'_>) {
        let Column { series, clock, samples } = column;
        for sample in samples {
            match io.timed(sample.time_ns, clock, io.ahead_max_ns) {
                Ok(()) => self.pending.push(Pending { series, sample, clock }),
                Err(reason) => io.letter(series, sample, reason),
            }
        }
    }

    fn gather(&mut self, io: &mut Io<'_>) {
        let mut pending = std::mem::take(&mut self.pending);
        // Of one time in the order of their names, so that it does not matter how series take turns.
        let registry = &*io.registry;
        let name = |of: &Pending| registry.def(of.series).map(|def| (&def.device, &def.point));
        pending.sort_by(|a, b| a.sample.time_ns.cmp(&b.sample.time_ns).then_with(|| name(a).cmp(&name(b))));
        // Those of one time count together.
        for of_time in pending.chunk_by(|a, b| a.sample.time_ns == b.sample.time_ns) {
            let mut touched: BTreeMap<Option<DeviceId>, &Pending> = BTreeMap::new();
            for reading in of_time {
                if let Some(group) = self.note(reading, io) {
                    touched.insert(group, reading);
                }
            }
            for (group, last) in touched {
                self.give(&group, last, io);
            }
        }
    }

    fn held(&self) -> (usize, usize) {
        (self.groups.values().map(|group| group.newest.iter().flatten().count()).sum(), 0)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn save(&self) -> Vec<u8> {
        let groups: Vec<(&Option<DeviceId>, &Group)> = self.groups.iter().collect();
        // Writing to a vector cannot fail, and the types encode whatever they hold.
        minicbor::to_vec(groups).unwrap_or_default()
    }

    fn restore(&mut self, bytes: &[u8], _: &[SeriesNo]) -> Result<(), StateError> {
        let groups: Vec<(Option<DeviceId>, Group)> =
            minicbor::decode(bytes).map_err(|error| StateError::Damaged(error.to_string()))?;
        let sound = |group: &Group| group.newest.len() == self.inputs.len();
        if groups.len() > SERIES_PER_STAGE_MAX || !groups.iter().all(|(_, group)| sound(group)) {
            return Err(StateError::Damaged("inputs are none of the stage's".into()));
        }
        self.groups = groups.into_iter().collect();
        Ok(())
    }
}
