//! Rows that become readings.

use std::collections::HashMap;

use tideline_protocol::model::{DeviceId, PointId, SERIES_PER_EPOCH_MAX, SeriesDef, UNIT_BYTES_MAX};
use tideline_protocol::value::{Quality, UnknownName, VALUE_TEXT_BYTES_MAX, Value, ValueKind};

use super::cell::{self, Cell, Linear};
use super::chunks::ChunkCount;
use super::plan::{Beside, Device, Name, Plan, Shape};
use crate::excerpt;

/// Why a reading of a row is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The number of the row or line.
    pub at: u64,
    /// The column; none where it is the row.
    pub column: Option<String>,
    /// What is wrong and what is allowed.
    pub reason: String,
}

/// What became of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Rows.
    pub rows: u64,
    /// Readings that they gave.
    pub readings: u64,
    /// Values that are not there.
    pub nulls: u64,
    /// Values that are not taken.
    pub refused: u64,
    /// The first of these.
    pub listed: Vec<Wrong>,
    /// The earliest and the latest time.
    pub span_ns: Option<(i64, i64)>,
}

/// Refused values that are told one by one.
const LISTED_MAX: usize = 20;

/// The file has more series than one import may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "row {0} brings more than {SERIES_PER_EPOCH_MAX} series, which is the limit of one file; import it in parts"
)]
pub struct TooManySeries(u64);

/// A reading of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowReading {
    /// The number of its series.
    pub series: u32,
    /// Nanoseconds since 1970.
    pub time_ns: i64,
    /// What it says.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// Why no readings of a device are taken, where none are.
pub type RefuseDevice = fn(&DeviceId) -> Option<String>;

/// Makes readings of rows, and numbers their series as they come.
#[derive(Debug)]
pub struct Rows {
    plan: Plan,
    refuse: RefuseDevice,
    series: HashMap<(DeviceId, PointId), u32>,
    defs: Vec<SeriesDef>,
    // By what the cells say, which is longer than it need be and costs no look at it.
    by_text: HashMap<Vec<u8>, u32>,
    key: Vec<u8>,
    account: Account,
    chunks: ChunkCount,
}

/// A value with its quality, none, or the column that is wrong and why.
type Found = Result<Option<(Value, Quality)>, (usize, String)>;

/// What a name is refused for.
enum Unnamed {
    Wrong(usize, String),
    TooMany,
}

impl Rows {
    /// By this plan, of all devices.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            refuse: |_| None,
            series: HashMap::new(),
            defs: Vec::new(),
            by_text: HashMap::new(),
            key: Vec::new(),
            account: Account::default(),
            chunks: ChunkCount::default(),
        }
    }

    /// Refuses the rows of some devices, as those of which the ids are.
    #[must_use]
    pub fn refusing(self, refuse: RefuseDevice) -> Self {
        Self { refuse, ..self }
    }

    /// How many chunks the readings come in.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks.get()
    }

    /// The series, by number.
    #[must_use]
    pub fn series(&self) -> &[SeriesDef] {
        &self.defs
    }

    /// What became of the rows.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Counts a row that is none: a line that is too long, say.
    pub fn refuse(&mut self, at: u64, reason: String) {
        self.account.rows += 1;
        self.wrong(at, None, reason);
    }

    /// Makes readings of a row; `out` has those of it alone afterwards.
    ///
    /// # Errors
    /// It is of more series than may be.
    pub fn take(
        &mut self,
        at: u64,
        cells: &[Cell<'_>],
        out: &mut Vec<RowReading>,
    ) -> Result<(), TooManySeries> {
        out.clear();
        self.account.rows += 1;
        let time_ns = match self.plan.times.ns(self.cell(cells, self.plan.time)) {
            Ok(Some(time_ns)) => time_ns,
            Ok(None) => {
                self.wrong(at, Some(self.plan.time), "the row has no time".to_owned());
                return Ok(());
            }
            Err(reason) => {
                self.wrong(at, Some(self.plan.time), reason);
                return Ok(());
            }
        };
        match &self.plan.shape {
            Shape::Long { value, linear, beside, .. } => {
                let (value, linear, beside) = (*value, *linear, *beside);
                let found = match beside {
                    None => self.plain(cells, value, linear),
                    Some(beside) => self.measured(cells, value, linear, beside).map(Some),
                };
                self.reading(at, cells, None, time_ns, found, out)?;
            }
            Shape::Wide(points) => {
                for no in 0..points.len() {
                    let Shape::Wide(points) = &self.plan.shape else { break };
                    let Some(point) = points.get(no) else { break };
                    let column = point.column;
                    let found = self.plain(cells, column, point.linear);
                    self.reading(at, cells, Some(no), time_ns, found, out)?;
                }
            }
        }
        if !out.is_empty() {
            let (first, last) = self.account.span_ns.unwrap_or((time_ns, time_ns));
            self.account.span_ns = Some((first.min(time_ns), last.max(time_ns)));
            self.account.readings += out.len() as u64;
            self.chunks.add(out);
        }
        Ok(())
    }

    fn reading(
        &mut self,
        at: u64,
        cells: &[Cell<'_>],
        point: Option<usize>,
        time_ns: i64,
        found: Found,
        out: &mut Vec<RowReading>,
    ) -> Result<(), TooManySeries> {
        match found {
            Ok(None) => self.account.nulls += 1,
            Err((column, reason)) => self.wrong(at, Some(column), reason),
            Ok(Some((value, quality))) => match self.number(cells, point) {
                Ok(series) => out.push(RowReading { series, time_ns, value, quality }),
                Err(Unnamed::Wrong(column, reason)) => self.wrong(at, Some(column), reason),
                Err(Unnamed::TooMany) => return Err(TooManySeries(at)),
            },
        }
        Ok(())
    }

    /// A number of good quality.
    fn plain(&self, cells: &[Cell<'_>], column: usize, linear: Linear) -> Found {
        let number = cell::value(self.cell(cells, column), self.plan.decimal_comma, linear);
        let number = number.map_err(|reason| (column, reason))?;
        Ok(number.map(|number| (Value::Float(number), Quality::Good)))
    }

    /// What was measured, of a row of an export: also that there was no value.
    fn measured(
        &self,
        cells: &[Cell<'_>],
        value: usize,
        linear: Linear,
        beside: Beside,
    ) -> Result<(Value, Quality), (usize, String)> {
        let named = |at: usize| cell::name(self.cell(cells, at)).map_err(|reason| (at, reason));
        let quality = match named(beside.quality)? {
            None => Quality::Good,
            Some(text) => text.parse().map_err(|error: UnknownName| (beside.quality, error.to_string()))?,
        };
        let text = match cells.get(beside.text) {
            // Others' programs write empty texts beside numbers.
            Some(Cell::Text([])) if self.plan.has_empty_texts && self.is_text(cells) => Some(""),
            _ => named(beside.text)?,
        };
        if let Some(text) = text {
            if text.len() > VALUE_TEXT_BYTES_MAX {
                let reason = format!("the text has {} bytes; allowed are {VALUE_TEXT_BYTES_MAX}", text.len());
                return Err((beside.text, reason));
            }
            return Ok((Value::Text(text.into()), quality));
        }
        let whole = cell::whole(self.cell(cells, beside.int)).map_err(|reason| (beside.int, reason))?;
        if let Some(whole) = whole {
            return Ok((Value::Int(whole), quality));
        }
        for column in [beside.doubtful, value] {
            if let Some((number, _)) = self.plain(cells, column, linear)? {
                return Ok((number, quality));
            }
        }
        Ok((Value::Null, quality))
    }

    /// The kind of a series, of a row of an export.
    fn kind(&self, cells: &[Cell<'_>]) -> Result<ValueKind, Unnamed> {
        let Shape::Long { beside: Some(Beside { kind, .. }), .. } = self.plan.shape else {
            return Ok(ValueKind::default());
        };
        let wrong = |reason: String| Unnamed::Wrong(kind, reason);
        match cell::name(self.cell(cells, kind)).map_err(wrong)? {
            None => Ok(ValueKind::default()),
            Some(text) => text.parse().map_err(|error: UnknownName| wrong(error.to_string())),
        }
    }

    fn is_text(&self, cells: &[Cell<'_>]) -> bool {
        matches!(self.kind(cells), Ok(ValueKind::Text))
    }

    /// A cell, which is none where it is not there or what stands in it says so.
    fn cell<'a>(&self, cells: &[Cell<'a>], at: usize) -> Cell<'a> {
        match cells.get(at) {
            None => Cell::Null,
            Some(Cell::Text(text)) if self.plan.nulls.iter().any(|null| null.as_bytes() == *text) => {
                Cell::Null
            }
            Some(cell) => *cell,
        }
    }

    fn wrong(&mut self, at: u64, column: Option<usize>, reason: String) {
        self.account.refused += 1;
        if self.account.listed.len() < LISTED_MAX {
            let column = column.and_then(|at| self.plan.columns.get(at).cloned());
            self.account.listed.push(Wrong { at, column, reason });
        }
    }

    /// The number of the series of a row, or of one of its points.
    fn number(&mut self, cells: &[Cell<'_>], point: Option<usize>) -> Result<u32, Unnamed> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let mut add = |text: &[u8]| {
            key.extend(text.len().to_le_bytes());
            key.extend(text);
        };
        if let Device::Column(at) = self.plan.device {
            add(text_of(self.cell(cells, at)));
        }
        if let Some(no) = point {
            add(&no.to_le_bytes());
        } else if let Shape::Long { point, unit, .. } = &self.plan.shape {
            if let Name::Column(at) = point {
                add(text_of(self.cell(cells, *at)));
            }
            if let Name::Column(at) = unit {
                add(text_of(self.cell(cells, *at)));
            }
        }
        let found = match self.by_text.get(&key) {
            Some(number) => Ok(*number),
            None => self.define(cells, point).inspect(|number| {
                self.by_text.insert(key.clone(), *number);
            }),
        };
        self.key = key;
        found
    }

    fn define(&mut self, cells: &[Cell<'_>], point: Option<usize>) -> Result<u32, Unnamed> {
        let (device, (point, unit), told) = self.names(cells, point)?;
        let key = (device, point);
        if let Some(number) = self.series.get(&key).copied() {
            let known = self.defs.get(number as usize).map_or("", |def| def.unit.as_str());
            if known != unit {
                let (device, point) = key;
                let reason = format!(
                    "the unit is {}, and in the rows before {device}/{point} was in {}",
                    excerpt(unit.as_bytes()),
                    excerpt(known.as_bytes())
                );
                return Err(Unnamed::Wrong(told, reason));
            }
            return Ok(number);
        }
        let number = u32::try_from(self.defs.len()).unwrap_or(u32::MAX);
        if number >= SERIES_PER_EPOCH_MAX {
            return Err(Unnamed::TooMany);
        }
        let kind = self.kind(cells)?;
        self.defs.push(SeriesDef::new(key.0.clone(), key.1.clone(), unit).of_kind(kind));
        self.series.insert(key, number);
        Ok(number)
    }

    /// Device, point and unit, and the column that the unit is of.
    fn names(
        &self,
        cells: &[Cell<'_>],
        point: Option<usize>,
    ) -> Result<(DeviceId, (PointId, String), usize), Unnamed> {
        let text = |at: usize, what: &str| match cell::name(self.cell(cells, at)) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(Unnamed::Wrong(at, format!("the row has no {what}"))),
            Err(reason) => Err(Unnamed::Wrong(at, reason)),
        };
        let device = match &self.plan.device {
            Device::One(device) => device.clone(),
            Device::Column(at) => {
                let device = DeviceId::parse(text(*at, "device")?)
                    .map_err(|error| Unnamed::Wrong(*at, error.to_string()))?;
                if let Some(reason) = (self.refuse)(&device) {
                    return Err(Unnamed::Wrong(*at, reason));
                }
                device
            }
        };
        match (&self.plan.shape, point) {
            (Shape::Wide(points), Some(no)) => {
                let point = points.get(no).ok_or(Unnamed::Wrong(0, String::new()))?;
                Ok((device, (point.point.clone(), point.unit.clone()), point.column))
            }
            (Shape::Long { point, unit, value, .. }, _) => {
                let point = match point {
                    Name::One(point) => point.clone(),
                    Name::Column(at) => PointId::parse(text(*at, "point")?)
                        .map_err(|error| Unnamed::Wrong(*at, error.to_string()))?,
                };
                let (unit, told) = match unit {
                    Name::One(unit) => (unit.clone(), *value),
                    Name::Column(at) => {
                        let found = cell::name(self.cell(cells, *at));
                        let unit = found.map_err(|reason| Unnamed::Wrong(*at, reason))?.unwrap_or_default();
                        if unit.len() > UNIT_BYTES_MAX {
                            let reason = format!(
                                "the unit {} has {} bytes; allowed are {UNIT_BYTES_MAX}",
                                excerpt(unit.as_bytes()),
                                unit.len()
                            );
                            return Err(Unnamed::Wrong(*at, reason));
                        }
                        (unit.to_owned(), *at)
                    }
                };
                Ok((device, (point, unit), told))
            }
            (Shape::Wide(_), None) => Err(Unnamed::Wrong(0, String::new())),
        }
    }
}

const fn text_of(cell: Cell<'_>) -> &[u8] {
    match cell {
        Cell::Text(text) => text,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
