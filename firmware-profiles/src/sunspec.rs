//! SunSpec: models of registers one after the other, which a device lists itself.
//!
//! [`Discovery`] finds them, [`plan`] says which requests read a profile's points where their models stand.

mod common;
mod discovery;

use tideline_protocol::model::PointId;

use crate::Profile;
use crate::encoding::Encoding;
use crate::form::protocol::{BITS_MAX, Function, Order, Protocol};
use crate::modbus::{Limits, Plan, PlanError, Register};
use crate::number::Number;
use crate::point::Place;

pub use self::common::Common;
pub use self::discovery::{Discovery, DiscoveryError, ModelAt, Step};

/// Longest model in registers, without id and length.
const LENGTH_MAX: u16 = 1024;

/// A number or a text in a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRegister {
    /// The models that have it there; a device has one of them.
    pub models: Vec<u16>,
    /// Counted from the model's id, which is 0; its length is 1.
    pub offset: u16,
    /// How it is written.
    pub encoding: Encoding,
    /// Where in the model its scale factor stands.
    pub power: Option<u16>,
}

/// Takes an address apart: `101|102|103:14`.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(text: &str) -> Result<(Vec<u16>, u16), String> {
    let wrong = || format!("{text:?} is no address; allowed are for example 103:14 and 101|102|103:14");
    let (models, offset) = text.split_once(':').ok_or_else(wrong)?;
    let models: Option<Vec<u16>> =
        models.split('|').map(|model| model.parse().ok().filter(|id| *id > 0)).collect();
    let offset = offset.parse().ok().filter(|offset| *offset <= LENGTH_MAX + 1);
    Ok((models.ok_or_else(wrong)?, offset.ok_or_else(wrong)?))
}

/// Takes the address of a scale factor apart: `:15`, in the same model.
///
/// # Errors
/// It is none; says what is allowed.
pub fn scale_address(text: &str) -> Result<u16, String> {
    let offset = text.strip_prefix(':').and_then(|offset| offset.parse().ok());
    offset
        .filter(|offset| (2..=LENGTH_MAX + 1).contains(offset))
        .ok_or_else(|| format!("{text:?} is no scale factor; allowed is its place in the same model, as :15"))
}

/// Which raw numbers say that a device has not implemented a point.
#[must_use]
pub fn invalid(encoding: Encoding) -> Vec<Number> {
    match encoding {
        Encoding::U16 => vec![Number::Whole(0xFFFF)],
        Encoding::I16 => vec![Number::Whole(i64::from(i16::MIN))],
        Encoding::U32 => vec![Number::Whole(0xFFFF_FFFF)],
        Encoding::I32 => vec![Number::Whole(i64::from(i32::MIN))],
        // All bits set is more than an integer with sign holds; the nearest double is compared.
        Encoding::U64 => vec![Number::Real(18_446_744_073_709_551_615.0)],
        Encoding::I64 => vec![Number::Whole(i64::MIN)],
        _ => Vec::new(),
    }
}

/// The requests that read a device with certain models.
#[derive(Debug, Clone, PartialEq)]
pub struct SunSpecPlan {
    /// Its requests.
    pub plan: Plan,
    /// Points whose models it has not.
    pub missing: Vec<PointId>,
}

/// The requests that read a profile's points where their models stand.
///
/// # Errors
/// The profile is not of SunSpec.
pub fn plan(profile: &Profile, models: &[ModelAt]) -> Result<SunSpecPlan, PlanError> {
    let Protocol::SunSpec(table) = profile.protocol() else {
        let (profile, found) = (profile.name().to_owned(), profile.protocol().as_str());
        return Err(PlanError::OtherProtocol { profile, found, needed: "sunspec" });
    };
    let (mut registers, mut missing) = (Vec::new(), Vec::new());
    for (id, point) in profile.points().filter(|(_, point)| point.access.reads()) {
        let (Place::Model(place), Ok(id)) = (&point.place, PointId::parse(id)) else { continue };
        match models.iter().find_map(|model| place.at(model)) {
            Some(register) => registers.push((id, register)),
            None => missing.push(id),
        }
    }
    // All registers of a model are there, so that gaps are read along.
    let limits = Limits { registers_max: table.registers_max, bits_max: BITS_MAX, gap_max: 32 };
    Ok(SunSpecPlan { plan: Plan::from_registers(profile, registers.into_iter(), limits)?, missing })
}

impl ModelRegister {
    /// The registers in a model; none when it is another, or ends before.
    #[must_use]
    pub fn at(&self, model: &ModelAt) -> Option<Register> {
        let count = self.encoding.registers()?;
        let end = u32::from(model.length) + 2;
        let has = |offset: u16, count: u16| u32::from(offset) + u32::from(count) <= end;
        if !self.models.contains(&model.id)
            || !has(self.offset, count)
            || self.power.is_some_and(|at| !has(at, 1))
        {
            return None;
        }
        let power = match self.power {
            Some(offset) => Some(model.start.checked_add(offset)?),
            None => None,
        };
        Some(Register {
            function: Function::Holding,
            start: model.start.checked_add(self.offset)?,
            encoding: self.encoding,
            byte_order: Order::Big,
            word_order: Order::Big,
            power,
        })
    }
}

#[cfg(test)]
mod tests;
