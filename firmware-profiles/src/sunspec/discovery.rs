//! Which models a device has, and where.
//!
//! A device has the mark "SunS" in one of a few places. After it stand models, each with its id, its length and as many
//! registers, until an id that says that there are no more. Then those with blocks are asked how many they have. Call
//! order: [`Discovery::poll`] says what to read, [`Discovery::handle`] takes the answer, until the former says that it is
//! done.

use std::collections::BTreeMap;

use super::LENGTH_MAX;
use super::place::{Spot, scale_address};
use crate::form::protocol::SunSpecTable;

/// "SunS".
const MARK: [u16; 2] = [0x5375, 0x6E53];
/// The id after the last model, and the number that none is.
const END: u16 = 0xFFFF;
/// Most models of a device.
const MODELS_MAX: usize = 64;

/// A model of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelAt {
    /// Its id.
    pub id: u16,
    /// The holding register of its id.
    pub start: u16,
    /// How many registers follow its id and length.
    pub length: u16,
    /// How many blocks it says that it has; none when it does not say, or nobody has asked.
    pub blocks: Option<u16>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These holding registers are to be read.
    Read {
        /// The first.
        start: u16,
        /// How many.
        count: u16,
    },
    /// All models are known, in their order.
    Done(Vec<ModelAt>),
    /// There are none to be known.
    Failed(DiscoveryError),
}

/// Why the models are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// It has no mark in any of these places.
    #[error("no \"SunS\" at holding registers {}", .0.iter().map(u16::to_string).collect::<Vec<_>>().join(", "))]
    NoMark(Vec<u16>),
    /// The list of models breaks off.
    #[error("the list of models breaks off at holding register {0}, which cannot be read")]
    BreaksOff(u16),
    /// A model that goes beyond what there is.
    #[error(
        "model {id} at holding register {start} says that it has {length} registers; allowed are {LENGTH_MAX}, up to 65535"
    )]
    Length {
        /// Its id.
        id: u16,
        /// Where it stands.
        start: u16,
        /// What it says.
        length: u16,
    },
    /// More than any device has.
    #[error("more than {MODELS_MAX} models")]
    TooMany,
}

/// Finds the models of a device.
#[derive(Debug, Clone)]
pub struct Discovery {
    bases: Vec<u16>,
    /// Which of them is next.
    base: usize,
    /// Where the next model stands, once the mark is found.
    next: Option<u16>,
    models: Vec<ModelAt>,
    /// By model, where it says how many blocks it has.
    counts: BTreeMap<u16, u16>,
    end: Option<Result<(), DiscoveryError>>,
    /// Which models have been asked for that, once the list has ended.
    counted: usize,
}

impl Discovery {
    /// Of a device as the profile says it.
    #[must_use]
    pub fn new(table: &SunSpecTable) -> Self {
        let count = |(id, blocks): (u16, &crate::form::protocol::Blocks)| {
            let Ok(Spot::Model(offset)) = scale_address(blocks.count_from.as_deref()?) else { return None };
            Some((id, offset))
        };
        let counts = table.blocks().filter_map(count).collect();
        let (bases, models) = (table.bases.clone(), Vec::new());
        Self { bases, base: 0, next: None, models, counts, end: None, counted: 0 }
    }

    /// What is to be done next.
    #[must_use]
    pub fn poll(&self) -> Step {
        match (&self.end, self.next, self.bases.get(self.base)) {
            (Some(Ok(())), ..) => match self.uncounted() {
                Some((_, start)) => Step::Read { start, count: 1 },
                None => Step::Done(self.models.clone()),
            },
            (Some(Err(error)), ..) => Step::Failed(error.clone()),
            (None, Some(start), _) | (None, None, Some(&start)) => Step::Read { start, count: 2 },
            (None, None, None) => Step::Failed(DiscoveryError::NoMark(self.bases.clone())),
        }
    }

    /// Takes the answer to what was to be read; none when the device refused, as it does where it has no registers.
    pub fn handle(&mut self, words: Option<&[u16]>) {
        if self.end.is_some() {
            return self.count(words);
        }
        match (self.next, words) {
            (None, Some(words)) if words == MARK => {
                let after = self.bases.get(self.base).and_then(|base| base.checked_add(2));
                self.next = after;
                if after.is_none() {
                    self.base += 1;
                }
            }
            (None, _) => self.base += 1,
            (Some(_), Some(&[END, _])) => self.end = Some(Ok(())),
            (Some(start), Some(&[id, length])) => self.model(id, start, length),
            (Some(start), _) => self.end = Some(Err(DiscoveryError::BreaksOff(start))),
        }
    }

    /// The next model that is to be asked how many blocks it has, and where.
    fn uncounted(&self) -> Option<(usize, u16)> {
        let left = self.models.iter().enumerate().skip(self.counted);
        left.filter_map(|(at, model)| {
            let offset = self.counts.get(&model.id).filter(|offset| **offset <= model.length + 1)?;
            Some((at, model.start.checked_add(*offset)?))
        })
        .next()
    }

    /// Takes how many blocks a model has. One that does not say has as many as there is room for.
    fn count(&mut self, words: Option<&[u16]>) {
        let Some((at, _)) = self.uncounted() else { return };
        self.counted = at + 1;
        if let (Some(model), Some(&[count])) = (self.models.get_mut(at), words) {
            model.blocks = Some(count).filter(|count| *count != END && *count > 0);
        }
    }

    fn model(&mut self, id: u16, start: u16, length: u16) {
        let after = start.checked_add(2).and_then(|start| start.checked_add(length));
        match after.filter(|_| length <= LENGTH_MAX) {
            None => self.end = Some(Err(DiscoveryError::Length { id, start, length })),
            Some(_) if self.models.len() >= MODELS_MAX => self.end = Some(Err(DiscoveryError::TooMany)),
            Some(after) => {
                self.models.push(ModelAt { id, start, length, blocks: None });
                self.next = Some(after);
            }
        }
    }
}
