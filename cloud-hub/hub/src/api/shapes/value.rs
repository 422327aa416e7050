//! Values as they are in JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind, is_boxed};
use utoipa::ToSchema;

/// A number, a truth value or a text
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ReadingValue {
    /// A number; not a number and infinities are null
    Float(f64),
    /// An integer; JavaScript reads those beyond 2^53 as the nearest double
    Int(i64),
    /// A truth value
    Bool(bool),
    /// A text
    #[schema(value_type = String)]
    Text(Arc<str>),
}

impl ReadingValue {
    /// None of null.
    #[must_use]
    pub fn of(value: Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Float(value) => Some(Self::Float(value)),
            Value::Int(value) => Some(Self::Int(value)),
            Value::Bool(value) => Some(Self::Bool(value)),
            Value::Text(value) => Some(Self::Text(value)),
        }
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + if let Self::Text(text) = self { text.len() } else { 0 }
    }
}

/// Values as a column
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ReadingValues {
    /// Of floats alone
    Numbers(Vec<f64>),
    /// Of all kinds
    Any(Vec<Option<ReadingValue>>),
}

impl ReadingValues {
    /// Which of them JSON has no number for.
    #[must_use]
    pub fn not_finite(&self) -> Option<NotFinite> {
        match self {
            Self::Numbers(numbers) => not_finite(numbers),
            Self::Any(values) => noted(values.iter().map(|value| match value {
                Some(ReadingValue::Float(number)) => Some(*number),
                _ => None,
            })),
        }
    }

    /// About how much memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len() * 8,
            Self::Any(values) => values
                .iter()
                .map(|value| value.as_ref().map_or(size_of::<ReadingValue>(), ReadingValue::bytes))
                .sum(),
        }
    }
}

/// By place, what JSON has no number for: `NaN`, `Infinity` or `-Infinity`, as SQL writes them.
pub type NotFinite = BTreeMap<usize, &'static str>;

fn noted(numbers: impl Iterator<Item = Option<f64>>) -> Option<NotFinite> {
    let found = numbers.enumerate().filter_map(|(at, number)| {
        let number = number.filter(|number| !number.is_finite())?;
        let text = match number {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        };
        Some((at, text))
    });
    Some(found.collect::<NotFinite>()).filter(|found| !found.is_empty())
}

/// Which numbers JSON has none for; none where there are none.
#[must_use]
pub fn not_finite(numbers: &[f64]) -> Option<NotFinite> {
    noted(numbers.iter().copied().map(Some))
}

/// The same of columns by name, and of those that have holes.
#[must_use]
pub fn not_finite_by_name<'a>(
    columns: &[(&str, Option<&Vec<f64>>)],
    figures: impl Iterator<Item = (&'a str, &'a Vec<Option<f64>>)>,
) -> Option<BTreeMap<String, NotFinite>> {
    let columns = columns.iter().filter_map(|(name, column)| Some((*name, not_finite((*column)?)?)));
    let figures = figures.filter_map(|(name, column)| Some((name, noted(column.iter().copied())?)));
    let found: BTreeMap<_, _> =
        columns.chain(figures).map(|(name, found)| (name.to_owned(), found)).collect();
    Some(found).filter(|found| !found.is_empty())
}

/// Values and qualities as columns; without qualities when all are good.
#[must_use]
pub fn columns(words: Vec<f64>, boxes: &Boxes, kind: ValueKind) -> (ReadingValues, Option<Vec<String>>) {
    if kind == ValueKind::Float && !words.iter().copied().any(is_boxed) {
        return (ReadingValues::Numbers(words), None);
    }
    let (mut values, mut qualities) = (Vec::with_capacity(words.len()), Vec::with_capacity(words.len()));
    for word in words {
        let (value, quality) = boxes.value(word, kind);
        values.push(ReadingValue::of(value));
        qualities.push(quality);
    }
    (ReadingValues::Any(values), shown(&qualities))
}

/// Qualities as a column; none when all are good.
#[must_use]
pub fn shown(qualities: &[Quality]) -> Option<Vec<String>> {
    let doubtful = qualities.iter().any(|quality| *quality != Quality::Good);
    doubtful.then(|| qualities.iter().map(ToString::to_string).collect())
}

/// A quality, left out when it is good.
#[must_use]
pub fn unless_good(quality: Quality) -> Option<String> {
    (quality != Quality::Good).then(|| quality.to_string())
}
