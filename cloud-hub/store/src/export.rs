//! Readings for others: DuckDB, pandas, Spark, spreadsheets and whatever else reads Parquet, Arrow or CSV.
//!
//! ```text
//! device    string          the device
//! point     string          the point of the device
//! unit      string          the unit as a UCUM code, the newest that is known
//! type      string          what the series' values are: float, int, bool, text
//! time      timestamp(ns)   UTC; in CSV as RFC 3339
//! value     double          in that unit, where it is a number of good quality; true is 1
//! int       int64           an integer that no double holds exactly, of any quality
//! text      string          the text, of any quality
//! quality   string          good, uncertain, bad
//! doubtful  double          the number, where the quality is not good
//! ```
//! What is not there is null, and in CSV empty. So `value` is what calculations take, and all together is what was measured.
//! Rows stand by series in the order asked for, then by time, then by arrival. Parquet is compressed with zstd; the
//! stream of Arrow is not; CSV is that of RFC 4180, with a header.
//! Beside `cold::file` the only file of the store that knows Polars.

use std::io::{self, Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;
use polars_arrow::io::ipc::write::{StreamWriter, WriteOptions};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind, is_boxed};

use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::query::RawCursor;
use crate::store::Store;
use crate::tables::SeriesMeta;

/// Rows of a row group, at least, but for the last.
const GROUP_ROWS: usize = 128 * 1024;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Parquet file.
    Parquet,
    /// The stream of Arrow IPC.
    Arrow,
    /// RFC 4180 with a header.
    Csv,
}

/// The rows of a row group as they gather.
#[derive(Default)]
pub(crate) struct Group {
    series: Vec<(SeriesMeta, usize)>,
    times: Vec<i64>,
    // As words of `boxes`.
    values: Vec<f64>,
    boxes: Boxes,
}

/// What stands in the columns of values of one row.
#[derive(Default)]
struct Cell {
    value: Option<f64>,
    int: Option<i64>,
    text: Option<Arc<str>>,
    quality: Quality,
    doubtful: Option<f64>,
}

impl Cell {
    fn of(word: f64, boxes: &Boxes) -> Self {
        let (value, quality) = boxes.value(word, ValueKind::Float);
        let cell = Self { quality, ..Self::default() };
        match (value, quality) {
            (Value::Float(number), Quality::Good) => Self { value: Some(number), ..cell },
            (Value::Float(number), _) => Self { doubtful: Some(number), ..cell },
            #[expect(clippy::cast_precision_loss, reason = "what calculates sees doubles")]
            (Value::Int(number), Quality::Good) => {
                Self { value: Some(number as f64), int: Some(number), ..cell }
            }
            (Value::Int(number), _) => Self { int: Some(number), ..cell },
            (Value::Text(text), _) => Self { text: Some(text), ..cell },
            (Value::Null | Value::Bool(_), _) => cell,
        }
    }
}

impl Group {
    /// Adds rows of a series.
    pub(crate) fn push(&mut self, meta: &SeriesMeta, (times, words): (&[i64], &[f64]), boxes: &Boxes) {
        self.series.push((meta.clone(), times.len()));
        self.times.extend_from_slice(times);
        self.boxes.append(&mut self.values, words, boxes);
    }

    /// Its rows.
    pub(crate) const fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes of its texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.boxes.bytes()
    }

    fn frame(&self) -> PolarsResult<DataFrame> {
        let rows = self.times.len();
        let texts = |name: &'static str, of: fn(&SeriesMeta) -> &str| {
            let mut column = StringChunkedBuilder::new(name.into(), rows);
            for (meta, rows) in &self.series {
                (0..*rows).for_each(|_| column.append_value(of(meta)));
            }
            column.finish().into_column()
        };
        let times = Column::new("time".into(), self.times.as_slice());
        let [value, int, text, quality, doubtful] = self.cells();
        let columns = vec![
            texts("device", |meta| meta.device.as_str()),
            texts("point", |meta| meta.point.as_str()),
            texts("unit", |meta| &meta.unit),
            texts("type", |meta| meta.kind.as_str()),
            times.cast(&DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC)))?,
            value,
            int,
            text,
            quality,
            doubtful,
        ];
        DataFrame::new_infer_height(columns)
    }

    /// Value, int, text, quality and doubtful.
    fn cells(&self) -> [Column; 5] {
        let rows = self.values.len();
        if !self.values.iter().copied().any(is_boxed) {
            return [
                Column::new("value".into(), self.values.as_slice()),
                Column::full_null("int".into(), rows, &DataType::Int64),
                Column::full_null("text".into(), rows, &DataType::String),
                Column::new_scalar(
                    "quality".into(),
                    PlSmallStr::from_static(Quality::Good.as_str()).into(),
                    rows,
                ),
                Column::full_null("doubtful".into(), rows, &DataType::Float64),
            ];
        }
        let cells: Vec<Cell> = self.values.iter().map(|word| Cell::of(*word, &self.boxes)).collect();
        let numbers = |name: &'static str, of: fn(&Cell) -> Option<f64>| {
            Column::new(name.into(), cells.iter().map(of).collect::<Vec<_>>())
        };
        [
            numbers("value", |cell| cell.value),
            Column::new("int".into(), cells.iter().map(|cell| cell.int).collect::<Vec<_>>()),
            Column::new("text".into(), cells.iter().map(|cell| cell.text.as_deref()).collect::<Vec<_>>()),
            Column::new("quality".into(), cells.iter().map(|cell| cell.quality.as_str()).collect::<Vec<_>>()),
            numbers("doubtful", |cell| cell.doubtful),
        ]
    }

    fn csv(&self, out: &mut impl Write) -> io::Result<()> {
        fn shown<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let mut rows = self.times.iter().zip(&self.values);
        for (meta, count) in &self.series {
            let named = [meta.device.as_str(), meta.point.as_str(), &meta.unit, meta.kind.as_str()];
            let named = named.map(quoted).join(",");
            for (time, value) in rows.by_ref().take(*count) {
                let time = jiff::Timestamp::from_nanosecond(i128::from(*time)).map_err(io::Error::other)?;
                let Cell { value, int, text, quality, doubtful } = Cell::of(*value, &self.boxes);
                let text = text.map(|text| quoted(&text)).unwrap_or_default();
                let (value, int, doubtful) = (shown(value), shown(int), shown(doubtful));
                write!(out, "{named},{time},{value},{int},{text},{quality},{doubtful}\r\n")?;
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.boxes = Boxes::new();
    }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes nothing while it is muted.
pub(crate) struct Muted<W> {
    out: W,
    muted: Rc<std::cell::Cell<bool>>,
}

impl<W: Write> Write for Muted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.muted.get() { Ok(bytes.len()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What rows are written to.
pub(crate) enum Sink<W: Write> {
    Parquet(Box<BatchedWriter<W>>),
    Arrow(StreamWriter<W>),
    Csv(W),
}

impl<W: Write> Sink<Muted<W>> {
    /// One that goes on writes no beginning: what it writes belongs behind what was written before.
    pub(crate) fn begin(format: ExportFormat, out: W, goes_on: bool) -> PolarsResult<Self> {
        let muted = Rc::new(std::cell::Cell::new(goes_on));
        let sink = Self::start(format, Muted { out, muted: Rc::clone(&muted) })?;
        muted.set(false);
        Ok(sink)
    }

    fn start(format: ExportFormat, mut out: Muted<W>) -> PolarsResult<Self> {
        let empty = Group::default().frame()?;
        match format {
            ExportFormat::Parquet => {
                let writer = ParquetWriter::new(out)
                    .with_compression(ParquetCompression::Zstd(None))
                    // Encoded one after the other: an export must not take the cores of those who wait for answers.
                    .set_parallel(false)
                    .batched(empty.schema())?;
                Ok(Self::Parquet(Box::new(writer)))
            }
            ExportFormat::Arrow => {
                let mut writer = StreamWriter::new(out, WriteOptions { compression: None });
                writer.start(&empty.schema().to_arrow(ARROW), None)?;
                Ok(Self::Arrow(writer))
            }
            ExportFormat::Csv => {
                out.write_all(b"device,point,unit,type,time,value,int,text,quality,doubtful\r\n")?;
                Ok(Self::Csv(out))
            }
        }
    }

    pub(crate) fn write(&mut self, group: &Group) -> PolarsResult<()> {
        match self {
            Self::Parquet(writer) => writer.write_batch(&group.frame()?),
            Self::Arrow(writer) => {
                let frame = group.frame()?;
                frame.iter_chunks(ARROW, false).try_for_each(|batch| writer.write(&batch, None))
            }
            Self::Csv(out) => Ok(group.csv(out)?),
        }
    }

    pub(crate) fn finish(&mut self) -> PolarsResult<()> {
        match self {
            Self::Parquet(writer) => writer.finish().map(drop),
            Self::Arrow(writer) => writer.finish(),
            Self::Csv(_) => Ok(()),
        }
    }
}

/// Readers of today do not all know the newest layouts of texts.
const ARROW: CompatLevel = CompatLevel::oldest();

/// Polars panics on some plans and data; that must cost the export and not the thread.
fn guarded<T>(call: impl FnOnce() -> PolarsResult<T>) -> Result<T, StoreError> {
    let caught = catch_unwind(AssertUnwindSafe(call));
    let done = caught.map_err(|_| StoreError::Query("the columnar engine panicked".to_owned()))?;
    done.map_err(|error| StoreError::Query(format!("the file cannot be written: {error}")))
}

/// Writes all rows of these series in `from..to` to `out`; gives how many.
pub fn export(
    store: &Store,
    format: ExportFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    out: impl Write,
) -> Result<u64, StoreError> {
    let mut sink = guarded(|| Sink::begin(format, out, false))?;
    let (mut group, mut written) = (Group::default(), 0_u64);
    for id in series {
        let meta = store.meta(*id).ok_or_else(|| StoreError::Query(format!("there is no series {id}")))?;
        let mut after = None;
        loop {
            let page = store.query_page(&[*id], (from_ns, to_ns), (after, GROUP_ROWS), &|| false)?;
            for column in page.series {
                written += column.times.len() as u64;
                group.push(&meta, (&column.times, &column.values), &column.boxes);
            }
            if group.times.len() >= GROUP_ROWS {
                guarded(|| sink.write(&group))?;
                group.clear();
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    if !group.times.is_empty() {
        guarded(|| sink.write(&group))?;
    }
    guarded(|| sink.finish())?;
    Ok(written)
}

/// A part of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportPart {
    /// Its rows.
    pub rows: u64,
    /// Where the next part begins; none where this was the last.
    pub next: Option<RawCursor>,
}

/// Writes about `rows` rows of these series in `from..to`, from `after` on, to `out`. All parts of an export one behind
/// the other are the export; but each part of Parquet is a file, see [`join`].
pub fn part(
    store: &Store,
    format: ExportFormat,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    (after, rows): (Option<RawCursor>, usize),
    out: impl Write,
) -> Result<ExportPart, StoreError> {
    let goes_on = after.is_some() && format != ExportFormat::Parquet;
    let mut sink = guarded(|| Sink::begin(format, out, goes_on))?;
    let (mut group, mut written, mut after) = (Group::default(), 0_usize, after);
    loop {
        let most = GROUP_ROWS.min(rows.saturating_sub(written)).max(1);
        let page = store.query_page(series, (from_ns, to_ns), (after, most), &|| false)?;
        for column in page.series {
            let meta = store
                .meta(column.id)
                .ok_or_else(|| StoreError::Query(format!("there is no series {}", column.id)))?;
            written += column.times.len();
            group.push(&meta, (&column.times, &column.values), &column.boxes);
        }
        if !group.times.is_empty() {
            guarded(|| sink.write(&group))?;
            group.clear();
        }
        after = page.next;
        if after.is_none() || written >= rows {
            break;
        }
    }
    if after.is_none() || format == ExportFormat::Parquet {
        guarded(|| sink.finish())?;
    }
    Ok(ExportPart { rows: written as u64, next: after })
}

/// Writes the rows of Parquet files of one schema as one file.
///
/// # Errors
/// One cannot be read, or `out` not written.
pub fn join<R: Read + Seek>(
    parts: impl IntoIterator<Item = io::Result<R>>,
    out: impl Write,
) -> Result<(), StoreError> {
    let (mut out, mut writer) = (Some(out), None);
    for part in parts {
        let mut bytes = Vec::new();
        part.and_then(|mut part| part.read_to_end(&mut bytes))
            .map_err(|error| StoreError::Query(format!("a part cannot be read: {error}")))?;
        let frame = guarded(|| ParquetReader::new(io::Cursor::new(bytes)).finish())?;
        if let Some(out) = out.take() {
            let begun = || {
                ParquetWriter::new(out)
                    .with_compression(ParquetCompression::Zstd(None))
                    .set_parallel(false)
                    .batched(frame.schema())
            };
            writer = Some(guarded(begun)?);
        }
        if let Some(writer) = writer.as_mut().filter(|_| frame.height() > 0) {
            guarded(|| writer.write_batch(&frame))?;
        }
    }
    writer.map_or(Ok(()), |writer| guarded(|| writer.finish().map(drop)))
}
