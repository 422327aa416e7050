//! Scale and unit conversion: both are a linear function. Numbers keep their quality, null stays null.

use tideline_protocol::units::Conversion;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::{Io, NO_TEXT, NOT_FINITE, Operator};
use crate::series::{Column, Content, Outlets, Registry, SeriesNo, content};

/// A linear function.
pub(crate) struct LinearStage {
    pub function: Function,
    pub outlets: Outlets,
    /// The functions of series whose units tell them, by their numbers.
    pub conversions: Vec<Option<Conversion>>,
}

/// Which function it is.
pub(crate) enum Function {
    /// The same of all series; the unit of the result where it is another one.
    Fixed(Conversion, Option<String>),
    /// From the unit of the series to this one.
    ToUnit(String),
}

impl LinearStage {
    pub fn new(function: Function) -> Self {
        Self { function, outlets: Outlets::default(), conversions: Vec::new() }
    }

    fn conversion(&mut self, series: SeriesNo, registry: &Registry) -> Option<Conversion> {
        let to = match &self.function {
            Function::Fixed(conversion, _) => return Some(*conversion),
            Function::ToUnit(to) => to,
        };
        let at = series as usize;
        if self.conversions.len() <= at {
            self.conversions.resize(at + 1, None);
        }
        let slot = self.conversions.get_mut(at)?;
        if slot.is_none() {
            *slot = Conversion::between(&registry.def(series)?.unit, to).ok();
        }
        *slot
    }
}

impl Operator for LinearStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let from = column.series;
        let function = &self.function;
        let outlet = self.outlets.of(from, io.registry, |def| {
            let unit = match function {
                Function::Fixed(_, Some(unit)) => unit.clone(),
                Function::Fixed(_, None) => def.unit.clone(),
                // What cannot be converted is told as soon as the series is known.
                Function::ToUnit(to) if def.unit.is_empty() => {
                    return Err(format!(
                        "the unit of the series is unknown, and cannot become {to:?}; give `from`"
                    ));
                }
                Function::ToUnit(to) => Conversion::between(&def.unit, to).map(|_| to.clone())?,
            };
            let mut made = def.clone().of_kind(ValueKind::Float);
            made.unit = unit;
            Ok(made)
        });
        let conversion = self.conversion(from, io.registry);
        let (series, conversion) = match (outlet, conversion) {
            (Ok(series), Some(conversion)) => (series, conversion),
            (Err(reason), _) => return io.letters(from, &column.samples, &reason),
            (Ok(_), None) => return io.letters(from, &column.samples, "its unit cannot be converted"),
        };
        column.samples.retain_mut(|sample| {
            let number = conversion.apply(sample.value);
            if number.is_finite() {
                sample.value = number;
                return true;
            }
            let reason = match content(io.boxes, sample.value) {
                (Content::Text, Quality::Good) => NO_TEXT,
                // What a device says in words of what it has no value for stays as it is.
                (Content::Text | Content::Null, _) => return true,
                (Content::Number(number), quality) => {
                    let number = conversion.apply(number);
                    if number.is_finite() {
                        sample.value = io.boxes.word(Value::Float(number), quality);
                        return true;
                    }
                    NOT_FINITE
                }
            };
            io.letter(from, *sample, reason);
            false
        });
        column.series = series;
        io.give(0, column);
    }
}
