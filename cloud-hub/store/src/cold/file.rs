//! Files of the cold tier, written and read. Beside `export` the only file of the store that knows Polars.

use std::cell::RefCell;
use std::io::{self, BufWriter, Cursor, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use polars::io::parquet::metadata::FileMetadataRef;
use polars::io::parquet::read::ParallelStrategy;
use polars::prelude::*;
use tideline_protocol::value::{Boxes, NULL, Quality, Value, is_boxed};

use super::{ColdEntry, ColdGroup, day_of};
use crate::config::StoreError;
use crate::export::{ExportFormat, Group, Muted, Sink};
use crate::files::{FileHandle, FileSystem, OpenMode};
use crate::hot::{SeriesId, is_before};
use crate::query::RawColumn;
use crate::tables::SeriesMeta;

/// Rows of a group from which on it is written.
const GROUP_ROWS: usize = 128 * 1024;
/// Bytes of texts from which on it is written sooner: some groups are in memory at once.
const GROUP_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes from which on a file is full. One is read as a whole, so that its checksum can be compared.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Rows of one series that are told together.
const COLUMN_ROWS: usize = 64 * 1024;

/// Polars panics on some data; that must cost the call and not the thread.
fn guarded<T>(call: impl FnOnce() -> PolarsResult<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(PolarsError::IO { error, .. })) => {
            Err(StoreError::Io { what: "writing a cold file".to_owned(), error })
        }
        Ok(Err(error)) => Err(StoreError::Cold(error.to_string())),
        Err(_) => Err(StoreError::Cold("the columnar engine panicked".to_owned())),
    }
}

/// What is written, with its length and checksum.
#[derive(Debug)]
struct Printed {
    // None once it is finished.
    out: Option<BufWriter<Box<dyn FileHandle>>>,
    len: u64,
    crc: u32,
}

/// The writer's end of it.
#[derive(Debug, Clone)]
pub struct Shared(Rc<RefCell<Printed>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut printed = self.0.borrow_mut();
        let Some(out) = &mut printed.out else { return Err(io::ErrorKind::BrokenPipe.into()) };
        out.write_all(bytes)?;
        printed.crc = crc32c::crc32c_append(printed.crc, bytes);
        printed.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file as it is written. Nothing of it counts before [`ColdWriter::finish`].
pub struct ColdWriter {
    out: Rc<RefCell<Printed>>,
    sink: Sink<Muted<Shared>>,
    group: Group,
    // What the open group has.
    ends: Option<ColdGroup>,
    entry: ColdEntry,
}

impl ColdWriter {
    /// Begins a file at `path`, of which that is known.
    ///
    /// # Errors
    /// As the disk's.
    pub fn create(
        files: &dyn FileSystem,
        path: &Path,
        (number, day): (u64, Option<i64>),
        (order, sealed_ns): (u64, Option<i64>),
    ) -> Result<Self, StoreError> {
        let file = files.open(path, OpenMode::Create).map_err(StoreError::io("writing a cold file"))?;
        let out = Printed { out: Some(BufWriter::new(file)), len: 0, crc: 0 };
        let out = Rc::new(RefCell::new(out));
        let shared = Shared(Rc::clone(&out));
        let sink = guarded(|| Sink::begin(ExportFormat::Parquet, shared, false))?;
        let (first_ns, last_ns, groups) = (i64::MAX, i64::MIN, Vec::new());
        let (print, rows, order) = ((0, 0), 0, Some(order));
        let entry = ColdEntry { number, day, print, rows, first_ns, last_ns, sealed_ns, groups, order };
        Ok(Self { out, sink, group: Group::default(), ends: None, entry })
    }

    /// Adds readings of a series, of which none is before those that were added of it; series come by their numbers.
    ///
    /// # Errors
    /// As the disk's.
    pub fn push(
        &mut self,
        (id, meta): (SeriesId, &SeriesMeta),
        (times, words): (&[i64], &[f64]),
        boxes: &Boxes,
    ) -> Result<(), StoreError> {
        let (Some(first_ns), Some(last_ns)) = (times.first().copied(), times.last().copied()) else {
            return Ok(());
        };
        self.group.push(meta, (times, words), boxes);
        let none = ColdGroup { rows: 0, first: id, last: id, first_ns, last_ns };
        let ends = self.ends.get_or_insert(none);
        ends.rows += times.len() as u64;
        ends.last = id;
        (ends.first_ns, ends.last_ns) = (ends.first_ns.min(first_ns), ends.last_ns.max(last_ns));
        if self.group.rows() >= GROUP_ROWS || self.group.text_bytes() >= GROUP_TEXT_BYTES {
            self.close_group()?;
        }
        Ok(())
    }

    /// Whether the rest belongs into another one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.borrow().len >= FILE_BYTES
    }

    fn close_group(&mut self) -> Result<(), StoreError> {
        let Some(ends) = self.ends.take() else { return Ok(()) };
        guarded(|| self.sink.write(&self.group))?;
        self.group.clear();
        let entry = &mut self.entry;
        entry.rows += ends.rows;
        (entry.first_ns, entry.last_ns) =
            (entry.first_ns.min(ends.first_ns), entry.last_ns.max(ends.last_ns));
        entry.groups.push(ends);
        Ok(())
    }

    /// Writes the rest and syncs the file; gives what it is.
    ///
    /// # Errors
    /// As the disk's.
    pub fn finish(mut self) -> Result<ColdEntry, StoreError> {
        self.close_group()?;
        guarded(|| self.sink.finish())?;
        let mut printed = self.out.borrow_mut();
        let out = printed.out.take();
        let synced =
            out.map_or(Ok(()), |out| out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
        synced.map_err(StoreError::io("writing a cold file"))?;
        Ok(ColdEntry { print: (printed.len, printed.crc), ..self.entry })
    }
}

/// A file as it is read: all of it, compared with its checksum.
pub struct ColdFile {
    bytes: Vec<u8>,
    metadata: FileMetadataRef,
}

/// The columns that are read, by their places: unit and type are those of the series.
const COLUMNS: [usize; 8] = [0, 1, 4, 5, 6, 7, 8, 9];

impl ColdFile {
    /// Opens a file of the store `dir`.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    pub fn open((files, dir): (&dyn FileSystem, &Path), entry: &ColdEntry) -> Result<Self, StoreError> {
        let shown = entry.name().display().to_string();
        let bytes = files
            .read(&entry.path(dir))
            .map_err(|error| StoreError::Cold(format!("{shown} cannot be read: {error}")))?;
        if (bytes.len() as u64, crc32c::crc32c(&bytes)) != entry.print {
            return Err(StoreError::Cold(format!("{shown} is damaged: it is not as it was written")));
        }
        let read = || ParquetReader::new(Cursor::new(bytes.as_slice())).get_metadata().cloned();
        let metadata = guarded(read)?;
        Ok(Self { bytes, metadata })
    }

    /// Whether it has the rows that it is listed with: of known series in their order, each sorted by time, and of its day.
    ///
    /// # Errors
    /// It has not; says why.
    pub fn verify(
        &self,
        entry: &ColdEntry,
        find: &dyn Fn(&str, &str) -> Option<SeriesId>,
    ) -> Result<(), StoreError> {
        let wrong = |text: String| Err(StoreError::Cold(text));
        let (mut begin, mut before) = (0, None::<(SeriesId, i64)>);
        for group in &entry.groups {
            let end = begin + usize::try_from(group.rows).unwrap_or(usize::MAX);
            let mut rows = 0;
            for column in self.columns(begin..end, (i64::MIN, i64::MAX), find)? {
                rows += column.times.len() as u64;
                for time_ns in column.times {
                    let at = (column.id, time_ns);
                    let listed = (group.first..=group.last).contains(&at.0)
                        && (group.first_ns..=group.last_ns).contains(&time_ns)
                        && entry.day.is_none_or(|day| day == day_of(time_ns));
                    if !listed || before.is_some_and(|before| before > at) {
                        return wrong(format!("a row of series {} at {time_ns} is out of place", at.0));
                    }
                    before = Some(at);
                }
            }
            if rows != group.rows {
                return wrong(format!("a group has {rows} rows of known series, listed are {}", group.rows));
            }
            begin = end;
        }
        if begin as u64 == entry.rows && self.metadata.num_rows as u64 == entry.rows {
            return Ok(());
        }
        wrong(format!("it has {} rows, listed are {}", self.metadata.num_rows, entry.rows))
    }

    /// The rows of a group in `from..to`, series by series; `find` says of which series of which device and point.
    ///
    /// # Errors
    /// It has not the rows that it is listed with.
    pub fn columns(
        &self,
        rows: Range<usize>,
        range: (i64, i64),
        find: &dyn Fn(&str, &str) -> Option<SeriesId>,
    ) -> Result<Vec<RawColumn>, StoreError> {
        let wanted = rows.len();
        let frame = guarded(|| {
            let mut reader = ParquetReader::new(Cursor::new(self.bytes.as_slice()));
            reader.set_metadata(Arc::clone(&self.metadata));
            reader
                .with_slice(Some((rows.start, wanted)))
                .with_projection(Some(COLUMNS.to_vec()))
                .read_parallel(ParallelStrategy::None)
                .set_rechunk(true)
                .finish()
        })?;
        if frame.height() != wanted {
            let found = frame.height();
            return Err(StoreError::Cold(format!("a group has {found} rows, listed are {wanted}")));
        }
        guarded(|| columns_of(&frame, range, find))
    }
}

fn quality_of(text: &str) -> Option<Quality> {
    Quality::ALL.into_iter().find(|quality| quality.as_str() == text)
}

fn columns_of(
    frame: &DataFrame,
    (from_ns, to_ns): (i64, i64),
    find: &dyn Fn(&str, &str) -> Option<SeriesId>,
) -> PolarsResult<Vec<RawColumn>> {
    let text = |name: &str| frame.column(name)?.str();
    let (devices, points, texts, qualities) =
        (text("device")?, text("point")?, text("text")?, text("quality")?);
    let (values, doubtful) = (frame.column("value")?.f64()?, frame.column("doubtful")?.f64()?);
    let (times, ints) = (frame.column("time")?.datetime()?.physical(), frame.column("int")?.i64()?);
    let cell = |row: usize, boxes: &mut Boxes| {
        let int = ints.get(row);
        if let (Some(value), None) = (values.get(row), int) {
            // No file of ours has others.
            return if is_boxed(value) { NULL } else { value };
        }
        let quality = qualities.get(row).and_then(quality_of).unwrap_or(Quality::Bad);
        let value = match (int, texts.get(row), doubtful.get(row)) {
            (Some(int), ..) => Value::Int(int),
            (_, Some(text), _) => Value::Text(text.into()),
            (_, _, Some(number)) => Value::Float(number),
            (None, None, None) => Value::Null,
        };
        boxes.word(value, quality)
    };
    let mut out: Vec<RawColumn> = Vec::new();
    // The series of the row before, and which of those asked for it is.
    let mut open: Option<(&str, &str, Option<SeriesId>)> = None;
    for row in 0..frame.height() {
        let (Some(device), Some(point), Some(time_ns)) = (devices.get(row), points.get(row), times.get(row))
        else {
            polars_bail!(ComputeError: "row {row} of a group is of no series or has no time");
        };
        let id = match open {
            Some((of, at, id)) if of == device && at == point => id,
            _ => {
                let id = find(device, point);
                open = Some((device, point, id));
                id
            }
        };
        let Some(id) = id.filter(|_| time_ns >= from_ns && is_before(time_ns, to_ns)) else { continue };
        let begun = out.last().is_some_and(|column| column.id == id && column.times.len() < COLUMN_ROWS);
        if !begun {
            out.push(RawColumn { id, times: Vec::new(), values: Vec::new(), boxes: Boxes::new() });
        }
        if let Some(column) = out.last_mut() {
            column.times.push(time_ns);
            let word = cell(row, &mut column.boxes);
            column.values.push(word);
        }
    }
    Ok(out)
}
