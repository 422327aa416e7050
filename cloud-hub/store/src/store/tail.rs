//! Reading the log beside its writer, for who must have every batch once and in its order, as
//! [`Store::subscribe`] does not promise.
//!
//! Call order: [`Store::hold_log`] keeps segments that are not read yet, [`Store::log_end`] tells when there is
//! more, [`Store::read_log`] gives what is durable from a place on. A reader keeps its place together with what
//! it made of what it read. It may see a batch twice, whose file or log was lost and which came again: who must
//! not take it twice keeps the seqs. It must never hold up the writer: nothing here waits for a reader.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Run;
use tokio::sync::watch;

use super::Store;
use crate::config::StoreError;
use crate::decode;
use crate::files::{FileSystem, OpenMode};
use crate::hot::Rows;
use crate::log::disk::segment_number;
use crate::log::{ReadRecord, RecordError, SEGMENT_MAGIC, read_record};
use crate::snapshot::LogEnd;
use crate::tables::{LiveColumn, SeriesMeta, read};

/// Room for any one record.
const WHOLE_RECORD_BYTES: u64 = 9 * 1024 * 1024;

/// A place in the log between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// The segment.
    pub segment: u64,
    /// The bytes of it that are before the place.
    pub bytes: u64,
}

impl From<LogEnd> for LogPlace {
    fn from(end: LogEnd) -> Self {
        Self { segment: end.segment, bytes: end.bytes }
    }
}

/// One thing in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// Seqs of a run that were stored.
    Batch {
        /// Whose.
        agent: AgentId,
        /// Which.
        taken: RangeSet,
        /// The run as it came.
        run: Run,
    },
    /// Seqs that the agent gave up.
    Dropped {
        /// Whose.
        agent: AgentId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which.
        seqs: RangeSet,
    },
}

/// A part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPart {
    /// What it holds, in its order, each with the place behind it.
    pub entries: Vec<(LogEntry, LogPlace)>,
    /// Where to read on.
    pub next: LogPlace,
    /// Whether that was all there is.
    pub at_end: bool,
    /// Whether there was something before it that is gone or cannot be read.
    pub missed: bool,
}

/// What the writer and the readers of the log share.
#[derive(Debug)]
pub struct Tail {
    end: watch::Sender<LogEnd>,
    // The oldest segment that a reader wants; `u64::MAX` for none.
    hold: AtomicU64,
    // Segments below this one are gone.
    trimmed: AtomicU64,
}

impl Tail {
    /// A log that ends there.
    #[must_use]
    pub fn new(end: LogEnd, trimmed: u64, hold: u64) -> Self {
        Self {
            end: watch::Sender::new(end),
            hold: AtomicU64::new(hold),
            trimmed: AtomicU64::new(trimmed.min(end.segment)),
        }
    }

    /// The log is durable up to there.
    pub fn grown_to(&self, end: LogEnd) {
        self.end.send_if_modified(|known| std::mem::replace(known, end) != end);
    }

    /// The segments before `oldest` are sealed; gives the one before which all may go.
    pub fn trim_to(&self, oldest: u64) -> u64 {
        let oldest = oldest.min(self.hold.load(Ordering::Acquire));
        self.trimmed.fetch_max(oldest, Ordering::AcqRel);
        oldest
    }
}

impl Store {
    /// Up to where the log is durable, and when there is more.
    #[must_use]
    pub fn log_end(&self) -> watch::Receiver<LogEnd> {
        self.inner.shared.tail.end.subscribe()
    }

    /// Keeps the segments of the log from this one on until it is said otherwise; `u64::MAX` keeps none. Those
    /// that need not be kept any more go with the next flush.
    pub fn hold_log(&self, from_segment: u64) {
        self.inner.shared.tail.hold.store(from_segment, Ordering::Release);
    }

    /// The segments of the log with their bytes, in their order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn log_segments(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let shared = &self.inner.shared;
        segments(shared.files.as_ref(), &shared.dir.join("log")).map_err(StoreError::io("listing the log"))
    }

    /// What is durable in the log from a place on: about `bytes_max`, and at least one record, of one segment.
    /// Blocks the thread.
    ///
    /// # Errors
    /// The disk failed.
    pub fn read_log(&self, from: LogPlace, bytes_max: u64) -> Result<LogPart, StoreError> {
        let tail = &self.inner.shared.tail;
        // Before any file is looked at: all before this end is there.
        let end = *tail.end.borrow();
        let missed = from.segment < tail.trimmed.load(Ordering::Acquire);
        let dir = self.inner.shared.dir.join("log");
        let read = part((self.inner.shared.files.as_ref(), &dir), from, end, bytes_max)
            .map_err(StoreError::io("reading the log"))?;
        Ok(LogPart { missed: read.missed || missed, ..read })
    }

    /// The readings of the taken seqs of a run, with the names that their series had where its record in the log ends. Where
    /// the log before the last flush is read again after a start, they are the names of now.
    ///
    /// # Errors
    /// The block is not what its envelope says; it is a dead letter.
    pub fn named(
        &self,
        (agent, behind): (&AgentId, LogPlace),
        run: &Run,
        taken: &RangeSet,
    ) -> Result<Vec<LiveColumn>, String> {
        let ids = read(&self.inner.shared.registry).ids_at(agent, run.envelope.epoch, behind);
        let decoded = decode::guarded(run, taken, ids.len())?;
        let registry = read(&self.inner.shared.registry);
        let boxes = decoded.boxes;
        let named = decoded.columns.into_iter().filter_map(|column| {
            let id = *ids.get(column.series as usize)?;
            let meta = registry.names().meta(id)?;
            let mut rows = Rows::default();
            rows.extend(&column.times, &column.values, &boxes);
            Some(LiveColumn {
                id,
                meta,
                times: rows.times,
                values: rows.values,
                boxes: rows.boxes,
                late: None,
            })
        });
        Ok(named.collect())
    }

    /// The series of an agent's epoch by their numbers there, and those that any of these stood for before.
    #[must_use]
    pub fn dictionary(&self, agent: &AgentId, epoch: Epoch) -> Vec<SeriesMeta> {
        let registry = read(&self.inner.shared.registry);
        registry.ever(agent, epoch).filter_map(|id| registry.names().meta(id)).collect()
    }

    /// How often entries of dictionaries became others: who has looked at one looks again when it changes.
    #[must_use]
    pub fn renamings(&self) -> u64 {
        read(&self.inner.shared.registry).renamings()
    }
}

fn segments(files: &dyn FileSystem, dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for path in files.list(dir)? {
        let Some(number) = segment_number(&path) else { continue };
        match files.stat(&path) {
            Ok(stat) => found.push((number, stat.len)),
            // Removed since.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What of the log in `dir` is before `end`.
fn part(
    (files, dir): (&dyn FileSystem, &Path),
    from: LogPlace,
    end: LogEnd,
    bytes_max: u64,
) -> io::Result<LogPart> {
    let magic = SEGMENT_MAGIC.len() as u64;
    let mut place = LogPlace { bytes: from.bytes.max(magic), ..from };
    loop {
        if place >= end.into() {
            // Behind the end is only who has read another log.
            let missed = place > end.into();
            return Ok(LogPart { next: end.into(), at_end: true, missed, ..LogPart::default() });
        }
        let path = dir.join(format!("{:08}.log", place.segment));
        let (bytes, whole) = match take((files, &path), place, end, bytes_max) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), true),
            Err(error) => return Err(error),
        };
        if !bytes.is_empty() {
            let mut read = records(&bytes, whole, place);
            if read.entries.is_empty() && read.next == place && !whole {
                let (bytes, whole) = take((files, &path), place, end, WHOLE_RECORD_BYTES)?;
                read = records(&bytes, whole, place);
            }
            if read.missed {
                read.next = after(place.segment, end);
            }
            read.at_end = read.next >= LogPlace::from(end);
            return Ok(read);
        }
        // Segments that held nothing are not there.
        let next = segments(files, dir)?.into_iter().map(|(number, _)| number).find(|n| *n > place.segment);
        let segment = next.map_or(end.segment, |next| next.min(end.segment));
        if segment <= place.segment {
            return Ok(LogPart { next: end.into(), at_end: true, missed: true, ..LogPart::default() });
        }
        place = LogPlace { segment, bytes: magic };
    }
}

/// Behind all of a segment.
fn after(segment: u64, end: LogEnd) -> LogPlace {
    if segment >= end.segment { end.into() } else { LogPlace { segment: segment + 1, bytes: 0 } }
}

/// The bytes of a segment from a place on, and whether they are all that are durable.
fn take(
    (files, path): (&dyn FileSystem, &Path),
    place: LogPlace,
    end: LogEnd,
    most: u64,
) -> io::Result<(Vec<u8>, bool)> {
    let file = files.open(path, OpenMode::Read)?;
    let len = file.stat()?.len;
    let limit = if place.segment == end.segment { end.bytes } else { len };
    let left = limit.saturating_sub(place.bytes);
    // A segment that was damaged may be shorter than it was.
    let there = len.saturating_sub(place.bytes).min(left).min(most);
    let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, place.bytes)?;
    Ok((bytes, left <= most))
}

/// The records in the bytes at a place; of `whole` ones nothing follows.
fn records(bytes: &[u8], whole: bool, place: LogPlace) -> LogPart {
    let mut out = LogPart { next: place, ..LogPart::default() };
    let mut rest = bytes;
    loop {
        match read_record(rest) {
            Ok(None) => return out,
            Ok(Some((record, after))) => {
                out.next.bytes += (rest.len() - after.len()) as u64;
                rest = after;
                out.entries.extend(record.and_then(entry).map(|entry| (entry, out.next)));
            }
            Err(RecordError::Torn) if !whole => return out,
            Err(_) => {
                out.missed = true;
                return out;
            }
        }
    }
}

fn entry(record: ReadRecord) -> Option<LogEntry> {
    match record {
        ReadRecord::Batch { agent, taken, run } | ReadRecord::Revived { agent, taken, run } => {
            Some(LogEntry::Batch { agent, taken, run })
        }
        ReadRecord::Gap { agent, epoch, dropped, .. } => {
            Some(LogEntry::Dropped { agent, epoch, seqs: dropped })
        }
        ReadRecord::Series { .. }
        | ReadRecord::Renamed { .. }
        | ReadRecord::Refused { .. }
        | ReadRecord::Lives { .. } => None,
    }
}
