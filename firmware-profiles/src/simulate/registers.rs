//! The registers of a simulated device of Modbus or SunSpec.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::PointId;
use tideline_protocol::value::Value;

use super::{Device, has_power, range};
use crate::form::protocol::{Function, Protocol, SunSpecTable};
use crate::modbus::{Encoded, Plan, PlanError, Register, encode_at};
use crate::sunspec::{self, ModelAt, Spot};
use crate::{EncodeError, Profile};

/// "SunS", and the id after the last model.
const MARK: [u16; 2] = [0x5375, 0x6E53];
const END: [u16; 2] = [0xFFFF, 0];

/// Why a request is not answered, with its code of Modbus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exception {
    /// The function is none that it has.
    #[error("illegal function")]
    Function,
    /// It has no such registers.
    #[error("illegal data address")]
    Address,
    /// It does not take this.
    #[error("illegal data value")]
    Value,
}

impl Exception {
    /// Its code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Function => 1,
            Self::Address => 2,
            Self::Value => 3,
        }
    }
}

/// A simulated device with its registers.
#[derive(Debug, Clone)]
pub struct Registers {
    device: Device,
    /// Where its points stand.
    places: Vec<(PointId, Register)>,
    /// All registers and bits that it has.
    words: BTreeMap<(Function, u16), u16>,
}

impl Registers {
    /// Of a device of Modbus or SunSpec.
    ///
    /// # Errors
    /// It is of another protocol, or needs more registers than there are.
    pub fn new(device: Device) -> Result<Self, PlanError> {
        let profile = device.profile();
        let mut words = BTreeMap::new();
        let plan = match profile.protocol() {
            Protocol::SunSpec(table) => {
                let base = table.bases.first().copied().unwrap_or(0);
                let models = models(table, base);
                words.extend(list(table, base, &models));
                sunspec::plan(profile, &models)?.plan
            }
            _ => Plan::of(profile)?,
        };
        let mut places = Vec::new();
        for request in plan.groups.iter().flat_map(|group| &group.requests) {
            // Between points that are read in one request there is something, if nothing of use.
            for at in 0..request.count {
                words.entry((request.function, request.start.wrapping_add(at))).or_insert(0);
            }
            places.extend(request.points().cloned().zip(request.registers().copied()));
        }
        words.extend(powers(profile, &places));
        let mut registers = Self { device, places, words };
        registers.write_values();
        Ok(registers)
    }

    /// The device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Lets some time go by.
    pub fn step(&mut self) {
        self.device.step();
        self.write_values();
    }

    /// Answers a request for registers, or for bits as 0 and 1.
    ///
    /// # Errors
    /// It does not have them.
    pub fn read(&self, function: Function, start: u16, count: u16) -> Result<Vec<u16>, Exception> {
        let word = |at: u16| self.words.get(&(function, start.checked_add(at)?)).copied();
        (0..count).map(word).collect::<Option<_>>().ok_or(Exception::Address)
    }

    /// Takes registers or bits that are written. All points there have to be writable, and all of each is to be written.
    ///
    /// # Errors
    /// It does not take them; then nothing is changed.
    pub fn write(&mut self, function: Function, start: u16, words: &[u16]) -> Result<(), Exception> {
        let count = u32::try_from(words.len()).map_err(|_| Exception::Value)?;
        let (first, end) = (u32::from(start), u32::from(start) + count);
        let mut covered = BTreeSet::new();
        let mut taken = Vec::new();
        for (id, register) in self.places.iter().filter(|(_, register)| register.function == function) {
            let (own, own_end) =
                (u32::from(register.start), u32::from(register.start) + u32::from(register.count()));
            if own_end <= first || own >= end {
                continue;
            }
            let point = self.device.profile().point(id.as_str()).ok_or(Exception::Address)?;
            if !point.access.writes() || own < first || own_end > end {
                return Err(Exception::Address);
            }
            covered.extend(own..own_end);
            let at = usize::from(register.start - start);
            let own = words.get(at..at + usize::from(register.count())).ok_or(Exception::Value)?;
            let raw = register.raw(own).map_err(|_| Exception::Value)?;
            let power = self.power(register);
            let value =
                point.conversion.value(raw, point.allowed.kind(), power).map_err(|_| Exception::Value)?;
            let value = self.device.profile().check(id.as_str(), value).map_err(|_| Exception::Value)?;
            taken.push((id.clone(), value));
        }
        if !function.writes() || (first..end).any(|at| !covered.contains(&at)) || words.is_empty() {
            return Err(Exception::Address);
        }
        for (id, value) in taken {
            // It was judged above.
            let _ = self.device.set(&id, value);
        }
        self.write_values();
        Ok(())
    }

    fn write_values(&mut self) {
        for (id, register) in &self.places {
            let Some(value) = self.device.values().get(id) else { continue };
            if let Ok(encoded) = self.encoded(id, register, value) {
                for (at, (word, mask)) in (encoded.start..).zip(encoded.words.into_iter().zip(encoded.mask)) {
                    let held = self.words.entry((encoded.function, at)).or_insert(0);
                    *held = *held & !mask | word & mask;
                }
            }
        }
    }

    fn encoded(&self, id: &PointId, register: &Register, value: &Value) -> Result<Encoded, EncodeError> {
        let profile = self.device.profile();
        let unknown = || EncodeError::Unknown { point: id.to_string(), profile: profile.name().to_owned() };
        let point = profile.point(id.as_str()).ok_or_else(unknown)?;
        encode_at(profile, id.as_str(), point, register, value, self.power(register))
    }

    /// The power of ten that stands beside a point.
    fn power(&self, register: &Register) -> i16 {
        let word = register.power.and_then(|at| self.words.get(&(register.function, at)));
        word.map_or(0, |word| word.cast_signed())
    }
}

/// The models that the profile says of a simulated device.
pub(super) fn models(table: &SunSpecTable, base: u16) -> Vec<ModelAt> {
    let mut lengths: Vec<(u16, u16)> =
        table.simulated.iter().filter_map(|(id, length)| Some((id.parse().ok()?, *length))).collect();
    lengths.sort_unstable();
    let (mut models, mut next) = (Vec::new(), base.checked_add(2));
    for (id, length) in lengths {
        let Some(start) = next else { break };
        next = start.checked_add(2).and_then(|start| start.checked_add(length));
        models.push(ModelAt { id, start, length, blocks: None });
    }
    models
}

/// The registers of a list of models without what they measure.
fn list(table: &SunSpecTable, base: u16, models: &[ModelAt]) -> BTreeMap<(Function, u16), u16> {
    let mut all = MARK.to_vec();
    for model in models {
        all.extend([model.id, model.length]);
        all.resize(all.len() + usize::from(model.length), 0);
    }
    all.extend(END);
    let mut words: BTreeMap<_, _> =
        (base..).zip(all).map(|(at, word)| ((Function::Holding, at), word)).collect();
    for (id, blocks) in table.blocks() {
        let Some(Ok(Spot::Model(at))) = blocks.count_from.as_deref().map(sunspec::scale_address) else {
            continue;
        };
        let own = models.iter().filter(|model| model.id == id);
        words.extend(own.filter_map(|model| {
            Some(((Function::Holding, model.start.checked_add(at)?), blocks.count(model)))
        }));
    }
    words
}

/// The powers of ten with which all values of the points that share one fit into their registers.
fn powers(profile: &Profile, places: &[(PointId, Register)]) -> BTreeMap<(Function, u16), u16> {
    const LEAST: i16 = -3;
    let mut powers: BTreeMap<(Function, u16), i16> = BTreeMap::new();
    for (id, register) in places {
        let (Some(at), Some(point)) = (register.power, profile.point(id.as_str())) else { continue };
        debug_assert!(has_power(point), "{id}");
        let (low, high) = range(point);
        let greatest = low.abs().max(high.abs());
        // Half of what the register holds, so that no value comes near those which say that there is none.
        #[expect(clippy::cast_precision_loss, reason = "half of it is exact enough")]
        let room = register.encoding.whole_range().map_or(f64::MAX, |(_, max)| max as f64 / 2.0);
        let least =
            (LEAST..=10).find(|power| greatest / 10_f64.powi(i32::from(*power)) <= room).unwrap_or(10);
        let power = powers.entry((register.function, at)).or_insert(least);
        *power = least.max(*power);
    }
    powers.into_iter().map(|(at, power)| (at, power.cast_unsigned())).collect()
}
