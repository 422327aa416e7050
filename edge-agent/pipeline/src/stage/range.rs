//! Range check. Judged are good numbers; null and what is not good go on as they are, as they were judged before.

use tideline_protocol::value::{Boxes, Quality, Value};

use super::{Io, NO_TEXT, Operator};
use crate::definition::Otherwise;
use crate::series::{Column, Content, content};

/// A range check.
pub(crate) struct RangeStage {
    pub min: f64,
    pub max: f64,
    pub otherwise: Otherwise,
}

impl RangeStage {
    /// The word that goes on in place of one that is outside.
    fn replaced(&self, number: f64, boxes: &mut Boxes) -> Option<f64> {
        match self.otherwise {
            Otherwise::Drop => None,
            Otherwise::Bad => Some(boxes.word(Value::Float(number), Quality::Bad)),
            Otherwise::Clamp => {
                let nearest = if number < self.min { self.min } else { self.max };
                Some(boxes.word(Value::Float(nearest), Quality::Uncertain))
            }
        }
    }
}

impl Operator for RangeStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let (series, before) = (column.series, column.samples.len());
        let mut dead = 0;
        column.samples.retain_mut(|sample| {
            // Most are plain numbers within the range.
            if sample.value >= self.min && sample.value <= self.max {
                return true;
            }
            match content(io.boxes, sample.value) {
                (Content::Number(number), Quality::Good) if number < self.min || number > self.max => {
                    let word = self.replaced(number, io.boxes);
                    sample.value = word.unwrap_or(number);
                    word.is_some()
                }
                (Content::Text, Quality::Good) => {
                    io.letter(series, *sample, NO_TEXT);
                    dead += 1;
                    false
                }
                _ => true,
            }
        });
        io.drop(before - column.samples.len() - dead);
        io.give(0, column);
    }
}
