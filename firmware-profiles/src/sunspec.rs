//! SunSpec: models of registers one after the other, which a device lists itself.
//!
//! [`Discovery`] finds them, [`plan`] says which requests read a profile's points where their models stand.

mod common;
mod discovery;
mod place;

use tideline_protocol::model::PointId;

use crate::Profile;
use crate::encoding::Encoding;
use crate::form::protocol::{BITS_MAX, Protocol};
use crate::modbus::{Limits, Plan, PlanError};
use crate::number::Number;
use crate::point::Place;

pub use self::common::Common;
pub use self::discovery::{Discovery, DiscoveryError, ModelAt, Step};
pub use self::place::{BLOCKS_MAX, ModelRegister, NUMBERED, Spot, address, numbered, scale_address};

/// Longest model in registers, without id and length.
pub(crate) const LENGTH_MAX: u16 = 1024;

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
    /// Points whose models, or blocks, it has not.
    pub missing: Vec<String>,
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
        let Place::Model(place) = &point.place else { continue };
        let found = place.all(id, models).into_iter();
        let before = registers.len();
        registers.extend(found.filter_map(|(id, register)| Some((PointId::parse(&id).ok()?, register))));
        if registers.len() == before {
            missing.push(id.to_owned());
        }
    }
    // All registers of a model are there, so that gaps are read along.
    let limits = Limits { registers_max: table.registers_max, bits_max: BITS_MAX, gap_max: 32 };
    Ok(SunSpecPlan { plan: Plan::from_registers(profile, registers.into_iter(), limits)?, missing })
}

#[cfg(test)]
mod tests;
