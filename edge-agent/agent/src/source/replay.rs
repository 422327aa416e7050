//! Replay of a file of rows. Its position is committed with the rows, so that a kill neither loses
//! nor repeats any; at the end of the file it stays done over restarts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use tideline_profiles::Profile;
use tideline_protocol::model::{DeviceId, Sample, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};

use super::{Context, point_id};
use crate::config::{Format, SourceKind, Timestamps};
use crate::intake::Chunk;
use crate::spooler::SeriesRows;

/// Rows handed on together when there is no rate.
const ROWS_PER_CHUNK: u64 = 2_000;
/// Longest line in bytes; a longer one is a bad line.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

struct Replay {
    context: Context,
    device: DeviceId,
    format: Format,
    timestamps: Timestamps,
    columns: Vec<String>,
    prefix: String,
    header: Vec<String>,
    file: BufReader<File>,
    offset: u64,
    clock: SystemClock,
    profile: Profile,
}

/// Replays the file until its end or until stopped.
pub async fn run(context: Context, kind: SourceKind) {
    let SourceKind::Replay { path, format, timestamps, rate, device, columns, point_prefix } = kind else {
        return;
    };
    let key = format!("replay/{}", context.name);
    let device = if device.is_empty() { Ok(context.own_device.clone()) } else { DeviceId::parse(&device) };
    let device = match device {
        Ok(device) => device,
        Err(error) => return context.failed(&error.to_string()),
    };
    let offset = match context.spool.cursor(&key).await {
        Ok(bytes) => bytes.and_then(|b| b.as_slice().try_into().ok()).map_or(0, u64::from_le_bytes),
        Err(error) => return context.failed(&error.to_string()),
    };
    let opened = open(&path, format, offset);
    let (file, header, offset) = match opened {
        Ok(opened) => opened,
        Err(error) => return context.failed(&format!("{}: {error}", path.display())),
    };
    let (clock, profile) = (SystemClock::default(), Profile::csv());
    let replay = Replay {
        context,
        device,
        format,
        timestamps,
        columns,
        prefix: point_prefix,
        header,
        file,
        offset,
        clock,
        profile,
    };
    replay.run(rate, &key).await;
}

/// Opens the file behind `offset`, and reads the header of a CSV.
fn open(path: &Path, format: Format, offset: u64) -> std::io::Result<(BufReader<File>, Vec<String>, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut header, mut start) = (Vec::new(), 0);
    if format == Format::Csv {
        let mut line = String::new();
        start = file.read_line(&mut line)? as u64;
        header = fields(&line);
    }
    let offset = offset.max(start);
    file.seek(SeekFrom::Start(offset))?;
    Ok((file, header, offset))
}

fn fields(line: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    record.iter().map(|field| field.trim().to_owned()).collect()
}

impl Replay {
    async fn run(mut self, rate: u64, key: &str) {
        // With a rate: twenty chunks a second, or one row at a time.
        let rows = if rate == 0 { ROWS_PER_CHUNK } else { (rate / 20).clamp(1, ROWS_PER_CHUNK) };
        let pause = if rate == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(rows) / u32::try_from(rate).unwrap_or(u32::MAX)
        };
        let mut next = tokio::time::Instant::now();
        loop {
            let (rows, ended) = match self.read(rows) {
                Ok(read) => read,
                Err(error) => return self.context.failed(&error.to_string()),
            };
            let accepted: u64 = rows.iter().map(|(_, samples)| samples.len() as u64).sum();
            let chunk = Chunk { rows, position: Some((key.to_owned(), self.offset.to_le_bytes().to_vec())) };
            tokio::select! {
                sent = self.context.out.send(chunk) => if sent.is_err() { return },
                _ = self.context.stop.wait_for(|stop| *stop) => return,
            }
            self.context.board.source(&self.context.name, |source| {
                source.accepted += accepted;
                source.done = ended;
            });
            if ended {
                tracing::info!(source = self.context.name, "replay has come to its end");
                return;
            }
            next += pause;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = self.context.stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Up to `rows` lines, by series, and whether the file has ended.
    fn read(&mut self, rows: u64) -> std::io::Result<(Vec<SeriesRows>, bool)> {
        let mut series: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        let mut ended = false;
        for _ in 0..rows {
            let mut line = Vec::new();
            let read = std::io::Read::take(&mut self.file, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                ended = true;
                break;
            }
            self.offset += read as u64;
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            match self.parse(text.trim()) {
                Ok((time_ns, values)) => {
                    for (name, value) in values {
                        series.entry(name).or_default().push(Sample { time_ns, value });
                    }
                }
                Err(error) => self.context.rejected(&format!("line before byte {}: {error}", self.offset)),
            }
        }
        let rows = series.into_iter().filter_map(|(name, samples)| {
            let point = point_id(&name)?;
            Some((SeriesDef { device: self.device.clone(), point, unit: String::new() }, samples))
        });
        Ok((rows.collect(), ended))
    }

    fn parse(&self, line: &str) -> Result<(i64, Vec<(String, f64)>), String> {
        let cells: Vec<(String, String)> = match self.format {
            Format::Csv => self.header.iter().cloned().zip(fields(line)).collect(),
            Format::Ndjson => {
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(line).map_err(|error| error.to_string())?;
                let text = |value: serde_json::Value| {
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                };
                object.into_iter().map(|(name, value)| (name, text(value))).collect()
            }
        };
        let mut time_ns = None;
        let mut values = Vec::new();
        for (name, text) in cells {
            if name == "timestamp" {
                time_ns = Some(time_of(&text)?);
            } else if self.columns.is_empty() || self.columns.contains(&name) {
                let Ok(value) = text.parse::<f64>() else { continue };
                self.profile.check(&name, value).map_err(|error| error.to_string())?;
                values.push((format!("{}{name}", self.prefix), value));
            }
        }
        if values.is_empty() {
            return Err("it has no numeric column".into());
        }
        match self.timestamps {
            Timestamps::Now => Ok((self.clock.wall_ns(), values)),
            Timestamps::Keep => Ok((time_ns.ok_or("it has no column \"timestamp\"")?, values)),
        }
    }
}

/// RFC 3339, or `YYYY-MM-DD HH:MM:SS` taken as UTC, in ns since 1970.
fn time_of(text: &str) -> Result<i64, String> {
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => {
            let civil: jiff::civil::DateTime =
                text.parse().map_err(|_| format!("time {text:?} is not RFC 3339 nor YYYY-MM-DD HH:MM:SS"))?;
            civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?.timestamp()
        }
    };
    i64::try_from(stamp.as_nanosecond()).map_err(|_| format!("time {text:?} is outside 1678 to 2262"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time_of("1970-01-01 00:00:01").unwrap(), 1_000_000_000);
        assert_eq!(time_of("1970-01-01T01:00:01+01:00").unwrap(), 1_000_000_000);
        assert!(time_of("yesterday").is_err());
    }
}
