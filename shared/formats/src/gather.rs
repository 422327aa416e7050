//! Readings of a request by series, and what is wrong with the rest of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};

use crate::{FormatError, PROBLEMS_LISTED_MAX, READINGS_MAX, SERIES_MAX};

/// The readings of one series, in the order of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The device.
    pub device: DeviceId,
    /// The point of the device.
    pub point: PointId,
    /// What its first value is.
    pub kind: ValueKind,
    /// At least one reading, the values as words of `boxes`.
    pub samples: Vec<Sample>,
    /// What the boxed words stand for.
    pub boxes: Boxes,
}

/// What is wrong with one line or time series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which one, counted from 1.
    pub at: u64,
    /// What is wrong and what is allowed.
    pub reason: String,
}

/// What is wrong with a request, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first ones.
    pub listed: Vec<Problem>,
    /// How many there are.
    pub all: u64,
    /// How many of them are no line protocol at all.
    pub malformed: u64,
}

impl Problems {
    pub(crate) fn refused(&mut self, at: u64, reason: impl FnOnce() -> String) {
        self.all += 1;
        if self.listed.len() < PROBLEMS_LISTED_MAX {
            self.listed.push(Problem { at, reason: reason() });
        }
    }

    pub(crate) fn malformed(&mut self, at: u64, reason: impl FnOnce() -> String) {
        self.malformed += 1;
        self.refused(at, reason);
    }

    /// All that is told, as one text; `what` is a line or a time series.
    #[must_use]
    pub fn told(&self, what: &str) -> String {
        let mut text = self
            .listed
            .iter()
            .map(|p| format!("{what} {}: {}", p.at, p.reason))
            .collect::<Vec<_>>()
            .join("; ");
        let more = self.all.saturating_sub(self.listed.len() as u64);
        if more > 0 {
            text += &format!("; and {more} more");
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told("entry"))
    }
}

/// What a request comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// Its readings.
    pub columns: Vec<Column>,
    /// What is not among them, and why.
    pub problems: Problems,
    /// Marks of the end of a series, which are no readings.
    pub stale_markers: u64,
}

impl Taken {
    /// How many readings there are.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.columns.iter().map(|column| column.samples.len()).sum()
    }
}

/// The number of a column while readings are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnNo(usize);

/// Gathers readings, within the limits.
#[derive(Debug)]
pub struct Gather {
    pub taken: Taken,
    by_name: HashMap<(DeviceId, PointId), ColumnNo>,
    readings: usize,
    readings_max: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self::within(READINGS_MAX)
    }
}

impl Gather {
    /// Of no more than so many readings.
    pub fn within(readings_max: usize) -> Self {
        Self { taken: Taken::default(), by_name: HashMap::new(), readings: 0, readings_max }
    }

    /// The column of a series.
    pub fn column(
        &mut self,
        device: &DeviceId,
        point: PointId,
        kind: ValueKind,
    ) -> Result<ColumnNo, FormatError> {
        let next = ColumnNo(self.taken.columns.len());
        match self.by_name.entry((device.clone(), point.clone())) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(_) if next.0 >= SERIES_MAX => Err(FormatError::too_much("series", SERIES_MAX)),
            Entry::Vacant(entry) => {
                let (samples, boxes) = (Vec::new(), Boxes::new());
                self.taken.columns.push(Column { device: device.clone(), point, kind, samples, boxes });
                Ok(*entry.insert(next))
            }
        }
    }

    /// Adds a reading.
    pub fn push(&mut self, column: ColumnNo, time_ns: i64, value: Value) -> Result<(), FormatError> {
        if self.readings >= self.readings_max {
            return Err(FormatError::too_much("readings", self.readings_max));
        }
        self.readings += 1;
        if let Some(column) = self.taken.columns.get_mut(column.0) {
            let value = column.boxes.word(value, Quality::Good);
            column.samples.push(Sample { time_ns, value });
        }
        Ok(())
    }

    /// What was gathered.
    pub fn finish(mut self) -> Taken {
        self.taken.columns.retain(|column| !column.samples.is_empty());
        self.taken
    }
}
