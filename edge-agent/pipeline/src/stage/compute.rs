//! Expressions: a value computed from the reading. A reading that is not good goes on as null with its quality: what
//! would be computed of it would look as good as any other.

use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Boxes, NULL, Quality, Value, ValueKind};

use super::{Io, Operator};
use crate::expression::{Expression, Scope};
use crate::series::{Column, Outlets, shown};

/// The names that an expression of a reading may have.
pub(crate) const NAMES: [&str; 6] = ["value", "quality", "time_ms", "device", "point", "unit"];

/// A computed value.
pub(crate) struct ComputeStage {
    pub expression: Expression,
    pub unit: Option<String>,
    pub kind: ValueKind,
    pub outlets: Outlets,
}

/// An expression with what its names stand for, for the readings of one series.
pub(crate) struct OfSeries<'e> {
    expression: &'e Expression,
    scope: Scope,
    kind: ValueKind,
    quality: Option<Quality>,
}

impl<'e> OfSeries<'e> {
    pub fn new(expression: &'e Expression, def: Option<&SeriesDef>) -> Self {
        let mut scope = expression.scope();
        if let Some(def) = def.filter(|_| (3..=5).any(|at| expression.uses(at))) {
            let texts = [(3, def.device.as_str()), (4, def.point.as_str()), (5, def.unit.as_str())];
            texts.iter().for_each(|(at, text)| scope.set(*at, &Value::Text((*text).into())));
        }
        Self { expression, scope, kind: def.map(SeriesDef::kind).unwrap_or_default(), quality: None }
    }

    /// Sets the reading; gives its quality.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of 300,000 years are exact")]
    fn set(&mut self, boxes: &Boxes, time_ns: i64, word: f64) -> Quality {
        let mut quality = Quality::Good;
        if word.is_nan() || self.kind == ValueKind::Bool {
            let (value, of) = shown(boxes, word, self.kind);
            self.scope.set(0, &value);
            quality = of;
        } else {
            self.scope.set_number(0, word);
        }
        if self.expression.uses(1) && self.quality != Some(quality) {
            self.scope.set(1, &Value::Text(quality.as_str().into()));
            self.quality = Some(quality);
        }
        self.scope.set_number(2, (time_ns / tideline_protocol::time::NS_PER_MS) as f64);
        quality
    }

    /// Its value for a reading, and the quality of that.
    pub fn value(
        &mut self,
        boxes: &Boxes,
        time_ns: i64,
        word: f64,
    ) -> (Result<Value, &'static str>, Quality) {
        let quality = self.set(boxes, time_ns, word);
        (self.expression.value(&self.scope), quality)
    }

    /// Whether it is true of a reading.
    pub fn truth(&mut self, boxes: &Boxes, time_ns: i64, word: f64) -> Result<bool, &'static str> {
        self.set(boxes, time_ns, word);
        self.expression.truth(&self.scope)
    }
}

/// A value as one of this kind.
pub(crate) fn of_kind(value: Value, kind: ValueKind) -> Result<Value, &'static str> {
    #[expect(clippy::cast_possible_truncation, reason = "exact, as is asked before")]
    match (kind, value) {
        (_, Value::Null) => Ok(Value::Null),
        (ValueKind::Float, Value::Float(number)) if number.is_finite() => Ok(Value::Float(number)),
        #[expect(clippy::cast_precision_loss, reason = "calculations are those of doubles")]
        (ValueKind::Float, Value::Int(integer)) => Ok(Value::Float(integer as f64)),
        (ValueKind::Int, Value::Int(integer)) => Ok(Value::Int(integer)),
        (ValueKind::Int, Value::Float(number)) if number.trunc() == number && number.abs() <= 9e15 => {
            Ok(Value::Int(number as i64))
        }
        (ValueKind::Bool, Value::Bool(truth)) => Ok(Value::Bool(truth)),
        (ValueKind::Text, Value::Text(text))
            if text.len() <= tideline_protocol::value::VALUE_TEXT_BYTES_MAX =>
        {
            Ok(Value::Text(text))
        }
        (ValueKind::Text, Value::Text(_)) => Err("the expression gives too long a text"),
        (ValueKind::Float, Value::Float(_)) => Err(super::NOT_FINITE),
        (ValueKind::Int, Value::Float(_)) => Err("the expression gives a number that is not whole"),
        _ => Err("the expression gives a value of another type than the stage says"),
    }
}

impl Operator for ComputeStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let from = column.series;
        let (unit, kind) = (&self.unit, self.kind);
        let outlet = self.outlets.of(from, io.registry, |def| {
            let unit = unit.clone().unwrap_or_else(|| def.unit.clone());
            let mut made = def.clone().of_kind(kind);
            made.unit = unit;
            Ok(made)
        });
        let series = match outlet {
            Ok(series) => series,
            Err(reason) => return io.letters(from, &column.samples, &reason),
        };
        let mut of = OfSeries::new(&self.expression, io.registry.def(from));
        column.samples.retain_mut(|sample| {
            let (value, quality) = of.value(io.boxes, sample.time_ns, sample.value);
            if quality != Quality::Good {
                sample.value = io.boxes.word(Value::Null, quality);
                return true;
            }
            match value.and_then(|value| of_kind(value, kind)) {
                Ok(Value::Null) => sample.value = NULL,
                Ok(value) => sample.value = io.boxes.word(value, Quality::Good),
                Err(reason) => {
                    io.letter(from, *sample, reason);
                    return false;
                }
            }
            true
        });
        column.series = series;
        io.give(0, column);
    }
}
