//! What sources measured and when that truly was: the model that stored times are held against.

use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};

use super::clocks::{BEGIN_NS, BootId, Clocks};

/// A reading as its agent took it.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The number of its agent.
    pub agent: usize,
    /// The start of the machine.
    pub boot: BootId,
    /// The time that the device's clock gave.
    pub stamped_ns: i64,
    /// The time that it was.
    pub true_ns: i64,
    /// Whether the clock could be right, for all that the device knew.
    pub believed: bool,
}

/// All readings by their values: each has one of its own, so that a copy or a loss can be told.
#[derive(Debug, Default)]
pub struct Readings(Vec<Reading>);

impl Readings {
    /// The value of the next reading.
    pub fn next_value(&self) -> u64 {
        self.0.len() as u64 + 1
    }

    /// A reading is taken now, `late_ns` after what the clocks say.
    pub fn take(&mut self, agent: usize, clocks: &Clocks, now_ns: u64, late_ns: i64) -> Reading {
        let reading = Reading {
            agent,
            boot: clocks.boot,
            stamped_ns: clocks.shown_ns().saturating_add(late_ns),
            true_ns: BEGIN_NS.saturating_add_unsigned(now_ns).saturating_add(late_ns),
            believed: clocks.is_believed(),
        };
        self.0.push(reading);
        reading
    }

    /// The reading with a value.
    pub fn of(&self, value: u64) -> Option<&Reading> {
        self.0.get(usize::try_from(value.checked_sub(1)?).ok()?)
    }
}

/// What a reading is measured as: some are no plain numbers, or not to be trusted.
#[expect(clippy::cast_precision_loss, reason = "values are counted up")]
pub fn measured(value: u64) -> (Value, Quality) {
    let text = || Value::Text(format!("reading {value}").into());
    match value % 16 {
        3 => (text(), Quality::Good),
        7 => (Value::Int(i64::MAX.saturating_sub_unsigned(value)), Quality::Good),
        11 => (Value::Float(value as f64), Quality::Bad),
        15 => (text(), Quality::Uncertain),
        _ => (Value::Float(value as f64), Quality::Good),
    }
}

/// Which reading a word of a column is of: all of it must be as it was measured.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "values are counted up")]
pub fn value_of(word: f64, boxes: &Boxes) -> Result<u64, String> {
    let found = boxes.value(word, ValueKind::Float);
    let value = match &found.0 {
        Value::Float(number) => Some(*number as u64),
        Value::Int(integer) => Some(i64::MAX.abs_diff(*integer)),
        Value::Text(text) => text.strip_prefix("reading ").and_then(|text| text.parse().ok()),
        Value::Null | Value::Bool(_) => None,
    };
    let (given, quality) = &found;
    value
        .filter(|value| measured(*value) == found)
        .ok_or_else(|| format!("VALUE: a reading is {given:?} of {quality} quality, which nobody measured"))
}
