//! Where a point stands: in a model, or in each of a model's blocks, which repeat.

use std::collections::BTreeMap;

use super::{LENGTH_MAX, ModelAt};
use crate::encoding::Encoding;
use crate::form::protocol::{Blocks, Function, Order};
use crate::modbus::Register;

/// Most blocks of a model that are read.
pub const BLOCKS_MAX: u16 = 64;
/// What points of blocks end with: each block's number, from 1 on, stands in its place.
pub const NUMBERED: &str = "/*";

/// A place in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// Counted from the model's id, which is 0; its length is 1.
    Model(u16),
    /// Counted from the first register of each block, which is 0.
    Block(u16),
}

/// A number or a text in a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRegister {
    /// The models that have it there; a device has one of them.
    pub models: Vec<u16>,
    /// The blocks of these models, when it stands in those.
    pub blocks: BTreeMap<u16, Blocks>,
    /// Where it stands.
    pub spot: Spot,
    /// How it is written.
    pub encoding: Encoding,
    /// Where its scale factor stands.
    pub power: Option<Spot>,
}

/// Takes an address apart: `101|102|103:14`, or `160:*:11` in each block.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(text: &str) -> Result<(Vec<u16>, Spot), String> {
    let wrong =
        || format!("{text:?} is no address; allowed are for example 103:14, 101|102|103:14 and 160:*:11");
    let (models, spot) = text.split_once(':').ok_or_else(wrong)?;
    let models: Option<Vec<u16>> =
        models.split('|').map(|model| model.parse().ok().filter(|id| *id > 0)).collect();
    Ok((models.ok_or_else(wrong)?, spot_of(spot).ok_or_else(wrong)?))
}

/// Takes the address of a scale factor apart: `:15` in the same model, or `*:15` in the same block.
///
/// # Errors
/// It is none; says what is allowed.
pub fn scale_address(text: &str) -> Result<Spot, String> {
    let spot = text.strip_prefix(':').and_then(spot_of).or_else(|| spot_of(text));
    let is_placed = |spot: &Spot| match spot {
        Spot::Model(offset) => text.starts_with(':') && *offset >= 2,
        Spot::Block(_) => text.starts_with('*'),
    };
    spot.filter(is_placed).ok_or_else(|| {
        format!(
            "{text:?} is no scale factor; allowed is its place in the same model, as :15, or in the same block, as *:5"
        )
    })
}

fn spot_of(text: &str) -> Option<Spot> {
    let (text, make): (&str, fn(u16) -> Spot) = match text.strip_prefix("*:") {
        Some(rest) => (rest, Spot::Block),
        None => (text, Spot::Model),
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = text.parse().ok().filter(|offset| is_number && *offset <= LENGTH_MAX + 1);
    offset.map(make)
}

/// The point of a block: `mppt-power/*` of the second is `mppt-power/2`.
#[must_use]
pub fn numbered(id: &str, number: u16) -> String {
    id.strip_suffix('*').map_or_else(|| id.to_owned(), |root| format!("{root}{number}"))
}

/// The block that a point is of.
fn number_of(id: &str) -> Option<u16> {
    let (_, digits) = id.split_once('/')?;
    let number: u16 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

impl Blocks {
    /// How many a model has: as many as it says, and never more than there is room for.
    #[must_use]
    pub fn count(&self, model: &ModelAt) -> u16 {
        let room = (model.length.saturating_add(2)).saturating_sub(self.first);
        let room = room.checked_div(self.length).unwrap_or(0);
        model.blocks.unwrap_or(room).min(room).min(BLOCKS_MAX)
    }
}

impl ModelRegister {
    /// Whether it stands in blocks.
    #[must_use]
    pub const fn repeats(&self) -> bool {
        matches!(self.spot, Spot::Block(_))
    }

    /// How many blocks a device with these models has.
    #[must_use]
    pub fn count(&self, models: &[ModelAt]) -> u16 {
        let counts = models.iter().filter_map(|model| Some(self.blocks.get(&model.id)?.count(model)));
        counts.into_iter().find(|count| *count > 0).unwrap_or(0)
    }

    /// The points of this id, or of this pattern in blocks, and where each stands in a device with these models.
    pub fn all(&self, id: &str, models: &[ModelAt]) -> Vec<(String, Register)> {
        if !self.repeats() {
            let found = models.iter().find_map(|model| self.at(model, 1));
            return found.map(|register| (id.to_owned(), register)).into_iter().collect();
        }
        let of = |model: &ModelAt| -> Vec<_> {
            let count = self.blocks.get(&model.id).map_or(0, |blocks| blocks.count(model));
            let place = |number| Some((numbered(id, number), self.at(model, number)?));
            (1..=count).filter_map(place).collect()
        };
        models.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Where the point of this id stands in a device with these models; none when it has no such.
    #[must_use]
    pub fn one(&self, id: &str, models: &[ModelAt]) -> Option<Register> {
        let number = if self.repeats() { number_of(id)? } else { 1 };
        models.iter().find_map(|model| self.at(model, number))
    }

    /// The registers in a model, of this block; none when it is another, or ends before.
    fn at(&self, model: &ModelAt, number: u16) -> Option<Register> {
        if !self.models.contains(&model.id) {
            return None;
        }
        let power = match self.power {
            Some(spot) => Some(self.register(model, spot, number, 1)?),
            None => None,
        };
        Some(Register {
            function: Function::Holding,
            start: self.register(model, self.spot, number, self.encoding.registers()?)?,
            encoding: self.encoding,
            byte_order: Order::Big,
            word_order: Order::Big,
            power,
        })
    }

    /// The first of some registers, when all of them are within the model.
    fn register(&self, model: &ModelAt, spot: Spot, number: u16, count: u16) -> Option<u16> {
        let offset = match spot {
            Spot::Model(offset) => offset,
            Spot::Block(offset) => {
                let blocks = self.blocks.get(&model.id)?;
                let before = number.checked_sub(1).filter(|_| number <= blocks.count(model))?;
                blocks.first.checked_add(blocks.length.checked_mul(before)?)?.checked_add(offset)?
            }
        };
        let end = u32::from(model.length) + 2;
        let is_within = u32::from(offset) + u32::from(count) <= end;
        model.start.checked_add(offset).filter(|_| is_within)
    }
}
