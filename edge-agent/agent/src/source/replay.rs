//! Replay of a file of rows. Its position is committed with the rows, so that a kill neither loses
//! nor repeats any; at the end of the file it stays done over restarts. A bad line is told with its
//! number, counted and left out.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::rows::lines::{Lines, Place};
use super::rows::{Gathered, RowReader};
use super::{Context, Readings, Source, SourceError};
use crate::config::{Rows, Timestamps};

/// Most lines that are handed on together.
const ROWS_PER_CHUNK: u64 = 2_000;
/// What is done on a thread of its own: a disk that hangs holds up nobody else.
const READING: &str = "reading a file";

/// Replays a file.
#[derive(Debug, Clone)]
pub struct ReplaySource {
    /// The file.
    pub path: PathBuf,
    /// Rows per second; 0 for no limit.
    pub rate: u64,
    /// What its rows are.
    pub rows: Rows,
}

impl Source for ReplaySource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let reader = RowReader::of(context, self.rows.clone()).await?;
        let position = context.position().await?;
        let path = self.path.clone();
        let opened = context.blocking(READING, move || Replay::open(path, reader, position.as_deref()));
        let mut replay = opened.await?.map_err(|error| self.at(&error))?;
        // With a rate: twenty chunks a second, or one row at a time.
        let lines_max =
            if self.rate == 0 { ROWS_PER_CHUNK } else { (self.rate / 20).clamp(1, ROWS_PER_CHUNK) };
        let mut next = Instant::now();
        loop {
            let own = context.clone();
            let read = context.blocking(READING, move || {
                let read = replay.read(&own, lines_max);
                (replay, read)
            });
            let (further, read) = read.await?;
            replay = further;
            let (readings, lines) = read.map_err(|error| self.at(&error))?;
            let readings = readings.at(replay.lines.place().to_bytes());
            let Some(lines) = lines else {
                // The end is only shown when it would be the same after a kill.
                return context.emit_durable(readings).await;
            };
            context.emit(readings).await?;
            if self.rate > 0 {
                next += Duration::from_secs(lines) / u32::try_from(self.rate).unwrap_or(u32::MAX);
            }
            context.sleep_until(next).await?;
        }
    }
}

impl ReplaySource {
    fn at(&self, error: &std::io::Error) -> SourceError {
        SourceError::failed(format!("{}: {error}", self.path.display()))
    }
}

struct Replay {
    path: PathBuf,
    lines: Lines,
    reader: RowReader,
}

impl Replay {
    fn open(path: PathBuf, reader: RowReader, position: Option<&[u8]>) -> std::io::Result<Self> {
        let mut replay = Self { lines: Lines::open(&path)?, path, reader };
        replay.begin(position)?;
        Ok(replay)
    }

    /// Reads the header of a CSV, and goes on where the file was left.
    fn begin(&mut self, position: Option<&[u8]>) -> std::io::Result<()> {
        if self.reader.needs_header() {
            let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
            let line = self.lines.next_line()?;
            let line = line.ok_or_else(|| invalid("it is empty; a CSV begins with its header".into()))?;
            self.reader.head(&line.map_err(|what| invalid(format!("header: {what}")))?);
        }
        match position.and_then(Place::from_bytes) {
            Some(place) => self.lines.skip_to(place),
            None => Ok(()),
        }
    }

    /// The readings of up to `lines_max` lines, and of how many; `None` at the end of the file.
    fn read(&mut self, context: &Context, lines_max: u64) -> std::io::Result<(Readings, Option<u64>)> {
        // The file's own times are no business of this clock.
        let is_stamped = self.reader.rows().timestamps == Timestamps::Now;
        let mut gathered =
            Gathered::into(if is_stamped { context.readings() } else { Readings::of_own_times() });
        let mut lines = 0;
        while lines < lines_max && !gathered.is_full() {
            let Some(line) = self.lines.next_line()? else { return Ok((self.reader.finish(gathered), None)) };
            lines += 1;
            let number = self.lines.place().line;
            let place = || format!("{}:{number}", self.path.display());
            self.reader.read(&line, context.clock().wall_ns(), place, &mut gathered);
        }
        Ok((self.reader.finish(gathered), Some(lines)))
    }
}
