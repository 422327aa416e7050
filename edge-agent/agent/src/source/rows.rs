//! Rows of a table as readings: a line of CSV or NDJSON each, with a time and values of points.

pub mod cells;
pub mod lines;

use std::collections::BTreeMap;

use tideline_formats::when::RANGE;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::time::NS_PER_MS;
use tideline_protocol::value::{Quality, Value, ValueKind};

use self::cells::{Cell, csv_cells, fields, ndjson_cells};
use super::{Context, Readings, SourceError, point_id};
use crate::config::{Format, Rows, Timestamps};

/// Readings beyond which no further line is added: a file may have thousands of columns, and the
/// intake has room for some chunks of this size (see [`crate::intake::QUEUE_MAX`]).
const READINGS_MAX: u64 = 10_000;
/// Bytes of texts beyond which no further line is added.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// The column with the time.
const TIME: &str = "timestamp";

/// What a line holds.
struct Row {
    time_ns: i64,
    quality: Quality,
    values: Vec<(PointId, ValueKind, Value)>,
    // What is wrong with others of the line.
    wrong: Vec<String>,
}

/// Reads the rows of one device.
#[derive(Debug)]
pub struct RowReader {
    rows: Rows,
    device: DeviceId,
    header: Vec<String>,
    // What the values of a point were before, in the spool's dictionary too: it stays so.
    kinds: BTreeMap<PointId, ValueKind>,
}

/// Readings of several lines.
#[derive(Debug, Default)]
pub struct Gathered {
    series: BTreeMap<PointId, (ValueKind, Vec<Sample>)>,
    readings: Readings,
    count: u64,
}

impl Gathered {
    /// None yet, to be put into these.
    #[must_use]
    pub fn into(readings: Readings) -> Self {
        Self { readings, ..Self::default() }
    }

    /// Whether no further line is to be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count >= READINGS_MAX || self.readings.boxed_bytes() >= TEXT_BYTES_MAX
    }

    /// Whether there is neither a reading nor a rejection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.readings.rejected == 0
    }

    /// Counts a line that is not taken.
    pub fn reject(&mut self, reason: String) {
        self.readings.reject(reason);
    }
}

impl RowReader {
    /// Of rows as they are described, of this device. A CSV needs its header before the first line.
    #[must_use]
    pub const fn new(rows: Rows, device: DeviceId) -> Self {
        Self { rows, device, header: Vec::new(), kinds: BTreeMap::new() }
    }

    /// As [`Self::new`], of the device that the rows name or else of the agent, with the kinds of values
    /// that its points have had. The device is known from now on, whether a row comes or not.
    ///
    /// # Errors
    /// The storage failed, or the rows name no device.
    pub async fn of(context: &Context, rows: Rows) -> Result<Self, SourceError> {
        let device = match rows.device.as_str() {
            "" => context.own_device().id,
            id => DeviceId::parse(id).map_err(SourceError::failed)?,
        };
        context.introduce(std::iter::once(&device));
        let defs = context.wait(context.spool().series(0, usize::MAX)).await?.map_err(SourceError::failed)?;
        let of_device = defs.into_iter().filter(|def| def.device == device);
        let kinds = of_device.map(|def| (def.point.clone(), def.kind())).collect();
        Ok(Self { kinds, ..Self::new(rows, device) })
    }

    /// What the rows are said to be.
    #[must_use]
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Takes the header of a CSV.
    pub fn head(&mut self, line: &str) {
        self.header = fields(line);
    }

    /// Whether lines are missing their header.
    #[must_use]
    pub fn needs_header(&self) -> bool {
        self.rows.format == Format::Csv && self.header.is_empty()
    }

    /// Adds the readings of a line, which is at `place` for who reads of a rejection. An empty line is none.
    pub fn read(
        &mut self,
        line: &Result<String, String>,
        now_ns: i64,
        place: impl Fn() -> String,
        into: &mut Gathered,
    ) {
        let parsed = match line {
            Ok(line) if line.is_empty() => return,
            Ok(line) => self.parse(line, now_ns),
            Err(what) => Err(what.clone()),
        };
        match parsed {
            Ok(Row { time_ns, quality, values, wrong }) => {
                wrong.iter().for_each(|what| into.reject(self.rejection(&place(), what)));
                into.count += values.len() as u64;
                for (point, kind, value) in values {
                    self.kinds.entry(point.clone()).or_insert(kind);
                    let value = into.readings.word(value, quality);
                    let (_, samples) = into.series.entry(point).or_insert((kind, Vec::new()));
                    samples.push(Sample { time_ns, value });
                }
            }
            Err(what) => into.reject(self.rejection(&place(), &what)),
        }
    }

    /// The readings that were gathered.
    #[must_use]
    pub fn finish(&self, gathered: Gathered) -> Readings {
        let Gathered { series, mut readings, .. } = gathered;
        for (point, (kind, samples)) in series {
            let def = SeriesDef::new(self.device.clone(), point, String::new()).of_kind(kind);
            readings.push_samples(def, samples);
        }
        readings
    }

    fn rejection(&self, place: &str, what: &str) -> String {
        let allowed = match self.rows.format {
            Format::Csv => {
                "a line with the header's fields, at least one of them a value of its column's type"
            }
            Format::Ndjson => {
                "one JSON object a line, with at least one number, true, false, text or null of its point's type"
            }
        };
        format!("{place}: {what}; allowed is {allowed}")
    }

    fn parse(&self, line: &str, now_ns: i64) -> Result<Row, String> {
        let cells = match self.rows.format {
            Format::Csv => csv_cells(line, &self.header)?,
            Format::Ndjson => ndjson_cells(line)?,
        };
        let (mut time, mut quality, mut values, mut wrong) = (None, Quality::Good, Vec::new(), Vec::new());
        for (name, cell) in cells {
            if name == TIME {
                time = Some(cell.to_string());
            } else if !self.rows.quality.is_empty() && name == self.rows.quality {
                quality = cell.quality().map_err(|error| format!("{name}: {error}"))?;
            } else if self.rows.columns.is_empty() || self.rows.columns.contains(&name) {
                match self.value(&name, cell) {
                    Ok(value) => values.extend(value),
                    Err(what) => wrong.push(what),
                }
            }
        }
        if values.is_empty() {
            return Err(if wrong.is_empty() { "it has no value".into() } else { wrong.join("; ") });
        }
        let time_ns = match self.rows.timestamps {
            Timestamps::Now => now_ns,
            Timestamps::Keep => time_of(&time.ok_or_else(|| format!("it has no {TIME:?}"))?)?,
        };
        Ok(Row { time_ns, quality, values, wrong })
    }

    /// The value of a cell, unless it has none that is known what to make of.
    fn value(&self, name: &str, cell: Cell) -> Result<Option<(PointId, ValueKind, Value)>, String> {
        let given = self.rows.types.get(name).copied();
        let point = || {
            point_id(&format!("{}{name}", self.rows.point_prefix))
                .ok_or_else(|| format!("{name:?} makes no name of a point"))
        };
        let (point, kind, value) = match cell {
            // A cell of which nothing was said is a number, or it is none of ours.
            Cell::Plain(text) if given.is_none() => {
                let Ok(number) = text.parse() else { return Ok(None) };
                (point()?, ValueKind::Float, Value::Float(number))
            }
            Cell::Plain(text) if text.is_empty() => return Ok(None),
            Cell::Plain(text) => {
                let kind = given.unwrap_or_default();
                (point()?, kind, cells::read(name, &text, kind)?)
            }
            Cell::Typed(value) => {
                let point = point()?;
                let kind = given.or_else(|| self.kinds.get(&point).copied()).or(match value.kind() {
                    // JSON does not tell 5 from 5.0.
                    Some(ValueKind::Int) => Some(ValueKind::Float),
                    other => other,
                });
                // Null alone does not say of what.
                let Some(kind) = kind else { return Ok(None) };
                match value {
                    // Some write numbers as texts.
                    Value::Text(text) => (point, kind, cells::read(name, &text, kind)?),
                    value => (point, kind, value),
                }
            }
        };
        let value = tideline_profiles::check_kind(name, kind, value).map_err(|error| error.to_string())?;
        Ok(Some((point, kind, value)))
    }
}

/// RFC 3339, `YYYY-MM-DD HH:MM:SS` taken as UTC, or Unix milliseconds, in ns since 1970.
pub fn time_of(text: &str) -> Result<i64, String> {
    let outside = || format!("time {text:?} is not {RANGE}");
    if let Ok(unix_ms) = text.parse::<i64>() {
        return unix_ms.checked_mul(NS_PER_MS).ok_or_else(outside);
    }
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => {
            let forms = "RFC 3339, YYYY-MM-DD HH:MM:SS or Unix milliseconds";
            let civil: jiff::civil::DateTime =
                text.parse().map_err(|_| format!("time {text:?} is none of {forms}"))?;
            civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?.timestamp()
        }
    };
    i64::try_from(stamp.as_nanosecond()).map_err(|_| outside())
}
