//! Parquet files of others, read in a process of its own.
//!
//! ```text
//! stdin   the file, opened by whoever wants it read
//! stdout  ┌ len u32 ┬ Head (JSON) ┐ ┌ len u32 ┬ rows of some columns ┐ … ┌ 0 u32 ┬ len u32 ┬ End (JSON) ┐
//! ```
//! A file says how long its parts are, and a hostile one lies: the process has limited its memory before it looks, can
//! open nothing and write nothing, and what it dies of costs nobody else anything.

mod frame;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::prelude::*;
use serde::{Deserialize, Serialize};

pub use frame::{Rows, Value};

use crate::feed;
use crate::worker::{self, Caps};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text.
    Text,
    /// Whole numbers that fit into 64 bits.
    Whole,
    /// Doubles.
    Double,
    /// Yes and no.
    Bool,
    /// Times of no zone that is known.
    LocalTime,
    /// Times in UTC.
    Time,
    /// Nothing but nulls.
    Null,
    /// What is not read; its name.
    Other(String),
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many rows it says that it has.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// All was read.
    Whole,
    /// The file cannot be read; says why.
    Failed(String),
    /// It takes more memory than is allowed.
    NoMemory,
}

/// Cells that are decoded together: with texts, some 200 MB at the worst.
const CELLS_MAX: usize = 2_000_000;
/// Rows that are decoded together.
const ROWS_MAX: usize = 64 * 1024;

/// Reads the file on stdin: what it is, and the rows of these columns, if there are any.
///
/// # Errors
/// The limits cannot be set, or stdout broke.
pub fn run(caps: Caps, columns: &[usize]) -> io::Result<()> {
    worker::begin()?;
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // It is mapped, which takes addresses and no memory.
    let mapped = file.metadata()?.len();
    worker::limit(Caps { memory_bytes: caps.memory_bytes.saturating_add(mapped), ..caps })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let read = catch_unwind(AssertUnwindSafe(|| read(&mut file, columns, &mut out)));
    let end = match read {
        Ok(Ok(())) => End::Whole,
        Ok(Err(Failed::Output(error))) => return Err(error),
        Ok(Err(Failed::Input(error))) => End::Failed(worker::without_plan(&error.to_string())),
        Err(panic) => match worker::of_panic(panic.as_ref()) {
            feed::Head::NoMemory => End::NoMemory,
            feed::Head::Failed(reason) => End::Failed(reason),
            feed::Head::Rows(_) | feed::Head::TooManyRows => End::Failed("no reason".to_owned()),
        },
    };
    out.write_all(&0_u32.to_le_bytes())?;
    framed(&serde_json::to_vec(&end)?, &mut out)?;
    out.flush()
}

enum Failed {
    Input(PolarsError),
    Output(io::Error),
}

impl From<PolarsError> for Failed {
    fn from(error: PolarsError) -> Self {
        Self::Input(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn framed(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
    out.write_all(bytes)
}

fn read(file: &mut File, columns: &[usize], out: &mut impl Write) -> Result<(), Failed> {
    let mut reader = ParquetReader::new(&mut *file);
    let metadata = Arc::clone(reader.get_metadata()?);
    let schema = Schema::from_arrow_schema(reader.schema()?.as_ref());
    let column =
        |(name, dtype): (&PlSmallStr, &DataType)| Column { name: name.to_string(), kind: kind(dtype) };
    let head = Head { rows: metadata.num_rows as u64, columns: schema.iter().map(column).collect() };
    framed(&serde_json::to_vec(&head).map_err(io::Error::from)?, out)?;
    if columns.is_empty() {
        return Ok(());
    }
    let most = (CELLS_MAX / columns.len()).clamp(1, ROWS_MAX);
    let mut begin = 0_usize;
    for group in &metadata.row_groups {
        let (mut at, end) = (begin, begin.saturating_add(group.num_rows()));
        while at < end {
            let rows = most.min(end - at);
            let mut reader = ParquetReader::new(&mut *file);
            reader.set_metadata(Arc::clone(&metadata));
            let frame = reader
                .with_slice(Some((at, rows)))
                .with_projection(Some(columns.to_vec()))
                .read_parallel(ParallelStrategy::None)
                .finish()?;
            if frame.height() != rows {
                let found = frame.height();
                return Err(Failed::Input(
                    polars_err!(ComputeError: "rows {at} to {end} are {rows} by its footer, and {found} were found"),
                ));
            }
            framed(&frame::encode(&frame)?, out)?;
            at += rows;
        }
        begin = end;
    }
    Ok(())
}

fn kind(dtype: &DataType) -> Kind {
    match dtype {
        DataType::String | DataType::Categorical(..) | DataType::Enum(..) => Kind::Text,
        DataType::Boolean => Kind::Bool,
        DataType::Datetime(_, Some(_)) => Kind::Time,
        DataType::Datetime(_, None) | DataType::Date => Kind::LocalTime,
        DataType::Null => Kind::Null,
        dtype if dtype.is_integer() => Kind::Whole,
        dtype if dtype.is_float() => Kind::Double,
        other => Kind::Other(other.to_string()),
    }
}
