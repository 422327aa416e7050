//! The series that a pipeline knows, each with a number, and what a stage keeps for each.

use std::collections::HashMap;

use minicbor::{Decode, Encode};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind, is_boxed};

use crate::clock::Setting;
use crate::limits::{SERIES_MAX, SERIES_PER_STAGE_MAX};

/// The number of a series within a pipeline.
pub(crate) type SeriesNo = u32;

/// Readings of one series in the order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub series: SeriesNo,
    pub samples: Vec<Sample>,
    /// The clock that gave the times; none when they are the source's own.
    pub clock: Option<Setting>,
}

/// What is known of a series.
#[derive(Debug)]
pub(crate) struct Known {
    pub def: SeriesDef,
    /// Whether the pipeline takes it from the sources; none before that was asked.
    pub is_taken: Option<bool>,
    /// A copy of the definition that came with readings, for those that leave: a copy less to make.
    pub spare: Option<SeriesDef>,
}

/// All series that a pipeline knows.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: Vec<Known>,
    numbers: HashMap<SeriesDef, SeriesNo>,
}

impl Registry {
    /// The number of a series; none when there are too many.
    pub fn number(&mut self, def: &SeriesDef) -> Option<SeriesNo> {
        if let Some(number) = self.numbers.get(def) {
            return Some(*number);
        }
        let number = SeriesNo::try_from(self.known.len()).ok().filter(|_| self.known.len() < SERIES_MAX)?;
        self.numbers.insert(def.clone(), number);
        self.known.push(Known { def: def.clone(), is_taken: None, spare: None });
        Some(number)
    }

    pub fn known(&self, series: SeriesNo) -> Option<&Known> {
        self.known.get(at(series))
    }

    pub fn known_mut(&mut self, series: SeriesNo) -> Option<&mut Known> {
        self.known.get_mut(at(series))
    }

    /// Forgets which series the pipeline takes.
    pub fn ask_again(&mut self) {
        self.known.iter_mut().for_each(|known| known.is_taken = None);
    }

    pub fn def(&self, series: SeriesNo) -> Option<&SeriesDef> {
        self.known(series).map(|known| &known.def)
    }

    /// The definition, to be given away.
    pub fn leaving(&mut self, series: SeriesNo) -> Option<SeriesDef> {
        let known = self.known_mut(series)?;
        Some(known.spare.take().unwrap_or_else(|| known.def.clone()))
    }
}

/// A number as an index: 32 bits fit.
const fn at(series: SeriesNo) -> usize {
    series as usize
}

/// What a stage keeps for each series, up to [`SERIES_PER_STAGE_MAX`].
#[derive(Debug)]
pub(crate) struct States<S> {
    slots: Vec<Option<S>>,
    held: usize,
}

impl<S> Default for States<S> {
    fn default() -> Self {
        Self { slots: Vec::new(), held: 0 }
    }
}

impl<S> States<S> {
    /// The state of a series, made when there is none; none when there are too many.
    pub fn of(&mut self, series: SeriesNo, make: impl FnOnce() -> S) -> Option<&mut S> {
        let at = at(series);
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        let slot = self.slots.get_mut(at)?;
        if slot.is_none() {
            if self.held >= SERIES_PER_STAGE_MAX {
                return None;
            }
            self.held += 1;
            *slot = Some(make());
        }
        slot.as_mut()
    }

    pub fn held(&self) -> usize {
        self.held
    }

    pub fn iter(&self) -> impl Iterator<Item = (SeriesNo, &S)> {
        (0..).zip(&self.slots).filter_map(|(series, slot)| Some((series, slot.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SeriesNo, &mut S)> {
        (0..).zip(&mut self.slots).filter_map(|(series, slot)| Some((series, slot.as_mut()?)))
    }
}

impl<S: Encode<()>> States<S> {
    /// All of them as bytes; see [`States::read`].
    pub fn write(&self) -> Vec<u8> {
        let states: Vec<(SeriesNo, &S)> = self.iter().collect();
        // Writing to a vector cannot fail, and the types encode whatever they hold.
        minicbor::to_vec(states).unwrap_or_default()
    }
}

impl<S> States<S>
where
    S: for<'b> Decode<'b, ()>,
{
    /// The states of bytes, under the numbers that their series have now.
    ///
    /// # Errors
    /// They are not what [`States::write`] wrote.
    pub fn read(bytes: &[u8], numbers: &[SeriesNo]) -> Result<Self, String> {
        let read: Vec<(SeriesNo, S)> = minicbor::decode(bytes).map_err(|error| error.to_string())?;
        let mut states = Self::default();
        for (old, state) in read {
            let now = numbers.get(at(old)).ok_or_else(|| format!("there is no series {old}"))?;
            states.of(*now, || state).ok_or("there are too many series")?;
        }
        Ok(states)
    }
}

/// What a reading is to a stage that calculates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Content {
    /// A number, which a truth value is too.
    Number(f64),
    /// There is none.
    Null,
    /// A text, which no stage that calculates takes.
    Text,
}

/// The content of a word, and its quality.
pub(crate) fn content(boxes: &Boxes, word: f64) -> (Content, Quality) {
    if !word.is_nan() {
        return (Content::Number(word), Quality::Good);
    }
    let (value, quality) = boxes.value(word, ValueKind::Float);
    let content = match value {
        Value::Float(number) if !number.is_nan() => Content::Number(number),
        Value::Float(_) | Value::Null => Content::Null,
        #[expect(clippy::cast_precision_loss, reason = "calculations are those of doubles")]
        Value::Int(integer) => Content::Number(integer as f64),
        Value::Bool(truth) => Content::Number(f64::from(u8::from(truth))),
        Value::Text(_) => Content::Text,
    };
    (content, quality)
}

/// The value of a word as it is shown: a NaN that stands for nothing is null.
pub(crate) fn shown(boxes: &Boxes, word: f64, kind: ValueKind) -> (Value, Quality) {
    match boxes.value(word, kind) {
        (Value::Float(number), quality) if number.is_nan() && !is_boxed(word) => (Value::Null, quality),
        other => other,
    }
}

/// Numbers that a stage gives the series of its results, found once for each series that it reads.
#[derive(Debug, Default)]
pub(crate) struct Outlets(Vec<Option<Result<SeriesNo, String>>>);

impl Outlets {
    /// The series that results of this one have.
    ///
    /// # Errors
    /// It cannot have one, with the reason.
    pub fn of(
        &mut self,
        series: SeriesNo,
        registry: &mut Registry,
        make: impl FnOnce(&SeriesDef) -> Result<SeriesDef, String>,
    ) -> Result<SeriesNo, String> {
        let at = at(series);
        if let Some(Some(known)) = self.0.get(at) {
            return known.clone();
        }
        let unknown = || "the series is unknown".to_owned();
        let made = registry.def(series).ok_or_else(unknown).and_then(make);
        let number = made.and_then(|def| {
            registry.number(&def).ok_or_else(|| format!("there are more than {SERIES_MAX} series"))
        });
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(at) {
            *slot = Some(number.clone());
        }
        number
    }
}
