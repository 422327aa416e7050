//! Readings of a file: rows as `edge-agent store export` writes them, or as a replay reads them.
//!
//! A file whose rows name `device`, `point` and `value` has a reading in each, with `time_ns` or `timestamp`, and perhaps
//! `unit` and `quality`. In any other the columns are points of one device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tideline_pipeline::Chunk;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef, UNIT_BYTES_MAX};
use tideline_protocol::value::{Quality, Value, ValueKind};

use crate::config::{Format, Rows};
use crate::source::Readings;
use crate::source::rows::cells::{Cell, csv_cells, fields, ndjson_cells};
use crate::source::rows::lines::Lines;
use crate::source::rows::{Gathered, RowReader, time_of};

/// Most readings that are run together.
const READINGS_MAX: u64 = 2_000;
/// Readings that are further apart than this are not run together: time passes between them.
const SPAN_NS: i64 = 1_000_000_000;
/// Most lines that are told to be wrong; the others are counted.
const TOLD_MAX: usize = 20;

/// Readings that are run together.
pub struct Part {
    pub chunk: Chunk,
    pub readings: u64,
    /// The newest time that was read so far.
    pub now_ns: i64,
    /// The time just before these, when it is later than all that was read before.
    pub before_ns: Option<i64>,
}

/// What rows are.
enum Shape {
    /// Each is a reading; the kinds of the series so far.
    Long(HashMap<(DeviceId, PointId), ValueKind>),
    /// Each has several points of one device.
    Wide(Box<RowReader>),
}

/// A line with its readings and their times.
struct Line {
    readings: Readings,
    time_ns: i64,
}

/// A file that is being read.
pub struct Input {
    path: PathBuf,
    lines: Lines,
    format: Format,
    header: Vec<String>,
    device: Option<DeviceId>,
    shape: Option<Shape>,
    /// One that was read and is not of the part before it.
    next: Option<Line>,
    now_ns: Option<i64>,
    rejected: u64,
    told: Vec<String>,
}

impl Input {
    /// Opens a file; rows that name no device are of this one.
    pub fn open(path: &Path, format: Format, device: Option<DeviceId>) -> anyhow::Result<Self> {
        let mut lines = Lines::open(path).with_context(|| path.display().to_string())?;
        let mut header = Vec::new();
        if format == Format::Csv {
            let line = lines.next_line()?.with_context(|| format!("{}: it is empty", path.display()))?;
            header = fields(&line.map_err(|what| anyhow::anyhow!("{}:1: {what}", path.display()))?);
        }
        let path = path.to_owned();
        Ok(Self {
            path,
            lines,
            format,
            header,
            device,
            shape: None,
            next: None,
            now_ns: None,
            rejected: 0,
            told: Vec::new(),
        })
    }

    /// How many rows or values made no reading, and what is wrong with the first of them.
    pub fn rejected(self) -> (u64, Vec<String>) {
        (self.rejected, self.told)
    }

    /// The next readings that are run together; none at the end of the file.
    pub fn next_part(&mut self) -> anyhow::Result<Option<Part>> {
        let Some(first) = self.next_line()? else { return Ok(None) };
        let (begin_ns, before_ns) = (first.time_ns, first.time_ns.saturating_sub(1));
        let before_ns = self.now_ns.is_none_or(|now_ns| before_ns > now_ns).then_some(before_ns);
        let mut all = Readings::of_own_times();
        let mut next = Some(first);
        while let Some(line) = next {
            let apart = line.time_ns.saturating_sub(begin_ns);
            if all.count() >= READINGS_MAX || !(-SPAN_NS..SPAN_NS).contains(&apart) {
                self.next = Some(line);
                break;
            }
            self.now_ns = self.now_ns.max(Some(line.time_ns));
            append(&mut all, line.readings);
            next = self.next_line()?;
        }
        let (readings, now_ns) = (all.count(), self.now_ns.unwrap_or_default());
        Ok(Some(Part {
            chunk: Chunk { rows: all.rows, boxes: all.boxes, clock: None },
            readings,
            now_ns,
            before_ns,
        }))
    }

    /// The next line that has readings.
    fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        if let Some(line) = self.next.take() {
            return Ok(Some(line));
        }
        loop {
            let line = self.lines.next_line().with_context(|| self.path.display().to_string())?;
            let Some(line) = line else { return Ok(None) };
            if line.as_ref().is_ok_and(String::is_empty) {
                continue;
            }
            let mut readings = self.readings(&line)?;
            let reasons = std::mem::take(&mut readings.reasons);
            self.rejected += readings.rejected;
            let room = TOLD_MAX.saturating_sub(self.told.len());
            self.told.extend(reasons.into_iter().take(room));
            let first = readings.rows.first().and_then(|(_, samples)| samples.first());
            if let Some(time_ns) = first.map(|sample| sample.time_ns) {
                return Ok(Some(Line { readings, time_ns }));
            }
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.lines.place().line)
    }

    /// The readings of a line, by what the first one shows that rows are.
    fn readings(&mut self, line: &Result<String, String>) -> anyhow::Result<Readings> {
        let place = self.place();
        if self.shape.is_none() {
            self.shape = Some(self.shape_of(line)?);
        }
        let (format, header) = (self.format, &self.header);
        match &mut self.shape {
            Some(Shape::Wide(reader)) => {
                let mut gathered = Gathered::default();
                reader.read(line, 0, || place.clone(), &mut gathered);
                Ok(reader.finish(gathered))
            }
            Some(Shape::Long(kinds)) => {
                let mut readings = Readings::of_own_times();
                let cells = line.clone().and_then(|line| match format {
                    Format::Csv => csv_cells(&line, header),
                    Format::Ndjson => ndjson_cells(&line),
                });
                if let Err(what) = cells.and_then(|cells| long(&cells, kinds, &mut readings)) {
                    readings.reject(format!("{place}: {what}"));
                }
                Ok(readings)
            }
            None => Ok(Readings::of_own_times()),
        }
    }

    fn shape_of(&self, line: &Result<String, String>) -> anyhow::Result<Shape> {
        let names: Vec<String> = match self.format {
            Format::Csv => self.header.clone(),
            Format::Ndjson => {
                let cells = line.clone().and_then(|line| ndjson_cells(&line)).unwrap_or_default();
                cells.into_iter().map(|(name, _)| name).collect()
            }
        };
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has("device") && has("point") && has("value") {
            return Ok(Shape::Long(HashMap::new()));
        }
        let device = self.device.clone().with_context(|| {
            format!("{}: its rows name no device, point and value; give --device", self.path.display())
        })?;
        let mut reader = RowReader::new(Rows::plain(self.format), device);
        if self.format == Format::Csv {
            reader.head(&self.header.join(","));
        }
        Ok(Shape::Wide(Box::new(reader)))
    }
}

/// Adds readings to others, series by series.
fn append(all: &mut Readings, more: Readings) {
    let Readings { rows, boxes, .. } = more;
    for (def, mut samples) in rows {
        if !boxes.is_empty() {
            for sample in &mut samples {
                all.boxes.adopt(std::slice::from_mut(&mut sample.value), &boxes);
            }
        }
        match all.rows.iter_mut().find(|(known, _)| *known == def) {
            Some((_, known)) => known.append(&mut samples),
            None => all.rows.push((def, samples)),
        }
    }
}

/// The reading of a row that names its series.
fn long(
    cells: &[(String, Cell)],
    kinds: &mut HashMap<(DeviceId, PointId), ValueKind>,
    into: &mut Readings,
) -> Result<(), String> {
    let cell = |name: &str| cells.iter().find(|(known, _)| known == name).map(|(_, cell)| cell);
    let text = |name: &str| cell(name).map(ToString::to_string).unwrap_or_default();
    let device = DeviceId::parse(&text("device")).map_err(|error| error.to_string())?;
    let point = PointId::parse(&text("point")).map_err(|error| error.to_string())?;
    let unit = text("unit");
    if unit.len() > UNIT_BYTES_MAX {
        return Err(format!("its unit has {} bytes; allowed are {UNIT_BYTES_MAX}", unit.len()));
    }
    let time_ns = match cell("time_ns") {
        Some(cell) => cell.to_string().parse().map_err(|_| format!("time_ns {cell} is no whole number"))?,
        None => time_of(&text("timestamp"))?,
    };
    let quality = cell("quality").map_or(Ok(Quality::Good), Cell::quality)?;
    let value = match cell("value") {
        Some(Cell::Typed(Value::Int(integer))) => number(*integer),
        Some(Cell::Typed(value)) => value.clone(),
        Some(Cell::Plain(text)) => plain(text),
        None => Value::Null,
    };
    let kind = match (kinds.get(&(device.clone(), point.clone())), value.kind()) {
        (Some(known), _) => *known,
        (None, None) => ValueKind::Float,
        (None, Some(kind)) => {
            kinds.insert((device.clone(), point.clone()), kind);
            kind
        }
    };
    let def = SeriesDef::new(device, point, unit).of_kind(kind);
    let value = into.word(value, quality);
    into.push_samples(def, vec![Sample { time_ns, value }]);
    Ok(())
}

/// Neither CSV nor JSON tells 5 from 5.0.
fn number(integer: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "it is exact up to there")]
    if integer.unsigned_abs() <= 1 << 53 { Value::Float(integer as f64) } else { Value::Int(integer) }
}

/// A value of which nothing is said but its text.
fn plain(text: &str) -> Value {
    match text {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(integer), _) => number(integer),
            (_, Ok(float)) => Value::Float(float),
            _ => Value::Text(text.into()),
        },
    }
}
