//! Replay of a file of rows. Its position is committed with the rows, so that a kill neither loses
//! nor repeats any; at the end of the file it stays done over restarts. A bad line is told with its
//! number, counted and left out.

mod cells;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::time::{Clock, NS_PER_MS};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tokio::sync::oneshot;

use self::cells::{Cell, csv_cells, fields, ndjson_cells};
use self::lines::{Lines, Place};
use super::{Context, point_id};
use crate::clock::{AgentClock, Ahead};
use crate::config::{Format, SourceKind, Timestamps};
use crate::intake::Chunk;
use crate::spooler::SeriesRows;

/// Most lines that are handed on together.
const ROWS_PER_CHUNK: u64 = 2_000;
/// Readings beyond which no further line is added: a file may have thousands of columns, and the
/// intake has room for some chunks of this size (see [`crate::intake::QUEUE_MAX`]).
const READINGS_PER_CHUNK: u64 = 10_000;
/// Bytes of texts beyond which no further line is added.
const TEXT_BYTES_PER_CHUNK: usize = 1024 * 1024;
/// The column with the time.
const TIME: &str = "timestamp";

struct Replay {
    context: Context,
    device: DeviceId,
    path: PathBuf,
    format: Format,
    timestamps: Timestamps,
    columns: Vec<String>,
    types: BTreeMap<String, ValueKind>,
    quality: String,
    prefix: String,
    header: Vec<String>,
    lines: Lines,
    clock: Arc<dyn Clock>,
    // What the values of a point were before, in the spool's dictionary too: it stays so.
    kinds: BTreeMap<PointId, ValueKind>,
}

/// What a line holds.
struct Row {
    time_ns: i64,
    quality: Quality,
    values: Vec<(PointId, ValueKind, Value)>,
    // What is wrong with others of the line.
    wrong: Vec<String>,
}

/// Replays the file until its end or until stopped.
pub async fn run(context: Context, kind: SourceKind) {
    replay(context, kind, Arc::new(AgentClock::default())).await;
}

async fn replay(context: Context, kind: SourceKind, clock: Arc<dyn Clock>) {
    let SourceKind::Replay {
        path,
        format,
        timestamps,
        rate,
        device,
        columns,
        types,
        quality,
        point_prefix: prefix,
    } = kind
    else {
        return;
    };
    let key = format!("replay/{}", context.name);
    let device = if device.is_empty() { Ok(context.own_device.clone()) } else { DeviceId::parse(&device) };
    let device = match device {
        Ok(device) => device,
        Err(error) => return context.failed(&error.to_string()),
    };
    let position = match context.spool.cursor(&key).await {
        Ok(position) => position,
        Err(error) => return context.failed(&error.to_string()),
    };
    let (lines, header) = match open(&path, format, position.as_deref()) {
        Ok(opened) => opened,
        Err(error) => return context.failed(&format!("{}: {error}", path.display())),
    };
    let defs = match context.spool.series(0, usize::MAX).await {
        Ok(defs) => defs,
        Err(error) => return context.failed(&error.to_string()),
    };
    let of_device = defs.into_iter().filter(|def| def.device == device);
    let kinds = of_device.map(|def| (def.point.clone(), def.kind())).collect();
    let replay = Replay {
        context,
        device,
        path,
        format,
        timestamps,
        columns,
        types,
        quality,
        prefix,
        header,
        lines,
        clock,
        kinds,
    };
    replay.run(rate, &key).await;
}

/// Opens the file where it was left, and reads the header of a CSV.
fn open(path: &Path, format: Format, position: Option<&[u8]>) -> std::io::Result<(Lines, Vec<String>)> {
    let mut lines = Lines::open(path)?;
    let mut header = Vec::new();
    if format == Format::Csv {
        let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let line =
            lines.next()?.ok_or_else(|| invalid("it is empty; a CSV begins with its header".into()))?;
        header = fields(&line.map_err(|what| invalid(format!("header: {what}")))?);
    }
    if let Some(place) = position.and_then(Place::from_bytes) {
        lines.skip_to(place)?;
    }
    Ok((lines, header))
}

/// Lines of the file as they are handed on.
struct Read {
    rows: Vec<SeriesRows>,
    boxes: Boxes,
    lines: u64,
    ended: bool,
}

impl Replay {
    async fn run(mut self, rate: u64, key: &str) {
        // With a rate: twenty chunks a second, or one row at a time.
        let lines_max = if rate == 0 { ROWS_PER_CHUNK } else { (rate / 20).clamp(1, ROWS_PER_CHUNK) };
        let mut next = tokio::time::Instant::now();
        loop {
            let Read { rows, boxes, lines, ended } = match self.read(lines_max) {
                Ok(read) => read,
                Err(error) => return self.context.failed(&format!("{}: {error}", self.path.display())),
            };
            let (durable, told) = oneshot::channel();
            let position = Some((key.to_owned(), self.lines.place().to_bytes()));
            let (source, durable) = (self.context.name.clone(), ended.then_some(durable));
            // The file's own times are no business of this clock.
            let clock = (self.timestamps == Timestamps::Now).then(|| Ahead::of(self.clock.as_ref()));
            let chunk = Chunk { source, rows, boxes, clock, position, durable };
            tokio::select! {
                sent = self.context.out.send(chunk) => if sent.is_err() { return },
                _ = self.context.stop.wait_for(|stop| *stop) => return,
            }
            if ended {
                return self.end(told).await;
            }
            if rate > 0 {
                next += Duration::from_secs(lines) / u32::try_from(rate).unwrap_or(u32::MAX);
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = self.context.stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// The end is only shown when it would be the same after a kill.
    async fn end(mut self, told: oneshot::Receiver<()>) {
        tokio::select! {
            told = told => if told.is_err() { return },
            _ = self.context.stop.wait_for(|stop| *stop) => return,
        }
        self.context.board.source(&self.context.name, |source| source.done = true);
        tracing::info!(source = self.context.name, "replay has come to its end");
    }

    /// Up to `lines_max` lines, by series.
    fn read(&mut self, lines_max: u64) -> std::io::Result<Read> {
        let mut series: BTreeMap<PointId, (ValueKind, Vec<Sample>)> = BTreeMap::new();
        let (mut lines, mut readings, mut ended) = (0, 0, false);
        let mut boxes = Boxes::new();
        while lines < lines_max && readings < READINGS_PER_CHUNK && boxes.bytes() < TEXT_BYTES_PER_CHUNK {
            let Some(line) = self.lines.next()? else {
                ended = true;
                break;
            };
            lines += 1;
            let parsed = match &line {
                Ok(line) if line.is_empty() => continue,
                Ok(line) => self.parse(line),
                Err(what) => Err(what.clone()),
            };
            match parsed {
                Ok(Row { time_ns, quality, values, wrong }) => {
                    wrong.iter().for_each(|what| self.rejected(what));
                    readings += values.len() as u64;
                    for (point, kind, value) in values {
                        self.kinds.entry(point.clone()).or_insert(kind);
                        let value = boxes.word(value, quality);
                        let (_, samples) = series.entry(point).or_insert((kind, Vec::new()));
                        samples.push(Sample { time_ns, value });
                    }
                }
                Err(what) => self.rejected(&what),
            }
        }
        let def = |point, kind| SeriesDef::new(self.device.clone(), point, String::new()).of_kind(kind);
        let rows = series.into_iter().map(|(point, (kind, samples))| (def(point, kind), samples)).collect();
        Ok(Read { rows, boxes, lines, ended })
    }

    fn rejected(&self, what: &str) {
        let allowed = match self.format {
            Format::Csv => {
                "a line with the header's fields, at least one of them a value of its column's type"
            }
            Format::Ndjson => {
                "one JSON object a line, with at least one number, true, false, text or null of its point's type"
            }
        };
        let (path, line) = (self.path.display(), self.lines.place().line);
        self.context.rejected(&format!("{path}:{line}: {what}; allowed is {allowed}"));
    }

    fn parse(&self, line: &str) -> Result<Row, String> {
        let cells = match self.format {
            Format::Csv => csv_cells(line, &self.header)?,
            Format::Ndjson => ndjson_cells(line)?,
        };
        let (mut time, mut quality, mut values, mut wrong) = (None, Quality::Good, Vec::new(), Vec::new());
        for (name, cell) in cells {
            if name == TIME {
                time = Some(cell.to_string());
            } else if !self.quality.is_empty() && name == self.quality {
                quality = cell.quality().map_err(|error| format!("{name}: {error}"))?;
            } else if self.columns.is_empty() || self.columns.contains(&name) {
                match self.value(&name, cell) {
                    Ok(value) => values.extend(value),
                    Err(what) => wrong.push(what),
                }
            }
        }
        if values.is_empty() {
            return Err(if wrong.is_empty() { "it has no value".into() } else { wrong.join("; ") });
        }
        let time_ns = match self.timestamps {
            Timestamps::Now => self.clock.wall_ns(),
            Timestamps::Keep => time_of(&time.ok_or_else(|| format!("it has no {TIME:?}"))?)?,
        };
        Ok(Row { time_ns, quality, values, wrong })
    }

    /// The value of a cell, unless it has none that is known what to make of.
    fn value(&self, name: &str, cell: Cell) -> Result<Option<(PointId, ValueKind, Value)>, String> {
        let given = self.types.get(name).copied();
        let point = || {
            point_id(&format!("{}{name}", self.prefix))
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
fn time_of(text: &str) -> Result<i64, String> {
    let outside = || format!("time {text:?} is outside 1678 to 2262");
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
