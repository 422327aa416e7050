//! A file of rows, of either format.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail, ensure};
use cloud_hub::writes::reserved;
use serde::de::DeserializeOwned;
use tideline_formats::table::{
    Cell, ColumnKind, CsvRecords, FileColumn, Mapping, Plan, Record, RowReading, Rows,
};
use tideline_protocol::model::DeviceId;
use tideline_sql::parquet::{self, End, Head, Kind, Value};

use super::ImportFormat;

/// What reading Parquet may take beside the file itself, in the process that does it.
const MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Its CPU time: a file of a terabyte takes less.
const CPU_S: u64 = 24 * 3600;
/// Longest frame of that process: rows that are decoded together.
const FRAME_BYTES_MAX: u32 = 512 * 1024 * 1024;
/// What is kept of what it says before it ends.
const LAST_WORDS_MAX: usize = 4096;

/// A file, and how it is read.
#[derive(Debug)]
pub struct Table {
    pub path: PathBuf,
    pub format: ImportFormat,
    pub mapping: Mapping,
    pub device: Option<DeviceId>,
    /// The program that reads Parquet: this one.
    pub program: PathBuf,
}

/// How much of a file is read, in bytes or rows.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub done: u64,
    pub all: u64,
}

/// What is done with the readings of each row.
pub type Each<'a> = dyn FnMut(&[RowReading], Share) -> Result<()> + 'a;

impl Table {
    /// Reads all rows, or those up to the first that cannot be taken.
    pub fn read(&self, strict: bool, each: &mut Each<'_>) -> Result<Rows> {
        match self.format {
            ImportFormat::Csv => self.csv(strict, each),
            ImportFormat::Parquet => self.parquet(strict, each),
        }
    }

    fn plan(&self, columns: &[FileColumn]) -> Result<Plan> {
        Ok(self.mapping.plan(columns, self.device.as_ref())?)
    }

    fn csv(&self, strict: bool, each: &mut Each<'_>) -> Result<Rows> {
        let delimiter = self.mapping.delimiter()?;
        let open = || -> Result<(CsvRecords<File>, u64)> {
            let file = File::open(&self.path).context("it cannot be read")?;
            let bytes = file.metadata()?.len();
            Ok((CsvRecords::new(file, delimiter), bytes))
        };
        let (mut records, all) = open()?;
        let columns = match records.next_record()? {
            Some(Record::Fields(_, cells)) => self.header(&cells)?,
            Some(Record::Refused(line, reason)) => bail!("line {line}: {reason}"),
            None => bail!("it is empty"),
        };
        if self.mapping.header == Some(false) {
            (records, _) = open()?;
        }
        let width = columns.len();
        let mut rows = Rows::new(self.plan(&columns)?).refusing(|device| reserved(device.as_str()));
        let mut out = Vec::new();
        loop {
            let share = Share { done: records.bytes(), all };
            match records.next_record()? {
                None => return Ok(rows),
                Some(Record::Fields(line, cells)) => match misfit(&cells, width) {
                    None => rows.take(line, &cells, &mut out)?,
                    Some(reason) => {
                        out.clear();
                        rows.refuse(line, reason);
                    }
                },
                Some(Record::Refused(line, reason)) => {
                    out.clear();
                    rows.refuse(line, reason);
                }
            }
            if strict && rows.account().refused > 0 {
                return Ok(rows);
            }
            each(&out, share)?;
        }
    }

    /// The columns of the first record.
    fn header(&self, cells: &[Cell<'_>]) -> Result<Vec<FileColumn>> {
        let named = self.mapping.header != Some(false);
        let column = |(at, cell): (usize, &Cell<'_>)| {
            let name = match cell {
                Cell::Text(text) if named => std::str::from_utf8(text)
                    .with_context(|| format!("line 1: the name of column {} is no UTF-8", at + 1))?
                    .trim()
                    .to_owned(),
                _ => (at + 1).to_string(),
            };
            Ok(FileColumn { name, kind: ColumnKind::Text })
        };
        cells.iter().enumerate().map(column).collect()
    }

    fn parquet(&self, strict: bool, each: &mut Each<'_>) -> Result<Rows> {
        let mut reader = Reader::start(self, &[])?;
        let head: Head = reader.json().or_else(|_| bail!("{}", reader.why()))?;
        drop(reader);
        let columns: Vec<FileColumn> = head.columns.iter().map(file_column).collect();
        let plan = self.plan(&columns)?;
        let (width, used) = (plan.width(), plan.used());
        let mut rows = Rows::new(plan).refusing(|device| reserved(device.as_str()));
        let mut reader = Reader::start(self, &used)?;
        let _head: Head = reader.json().or_else(|_| bail!("{}", reader.why()))?;
        let (mut at, mut out) = (0_u64, Vec::new());
        while let Some(part) = reader.rows(used.len())? {
            // The same ones are set for each row.
            let mut cells = vec![Cell::Null; width];
            for row in 0..part.len() {
                at += 1;
                for (no, column) in used.iter().enumerate() {
                    if let (Some(cell), Some(of)) = (cells.get_mut(*column), head.columns.get(*column)) {
                        *cell = of_value(part.cell(row, no), &of.kind);
                    }
                }
                rows.take(at, &cells, &mut out)?;
                if strict && rows.account().refused > 0 {
                    return Ok(rows);
                }
                each(&out, Share { done: at, all: head.rows })?;
            }
        }
        ensure!(at == head.rows, "it has {at} rows, and says that it has {}", head.rows);
        Ok(rows)
    }
}

/// Why a record has not as many fields as the first one, where it has not: what stands behind a bare delimiter, as that of `1,5`,
/// would be another column's. Empty ones at its end do not matter.
fn misfit(cells: &[Cell<'_>], width: usize) -> Option<String> {
    let is_empty = |cell: &Cell<'_>| matches!(cell, Cell::Null | Cell::Text([]));
    let beyond = cells.get(width..).is_some_and(|more| !more.iter().all(is_empty));
    (cells.len() < width || beyond)
        .then(|| format!("it has {} fields; the first line has {width}", cells.len()))
}

fn file_column(column: &parquet::Column) -> FileColumn {
    let kind = match &column.kind {
        // Nothing but nulls fits anywhere.
        Kind::Text | Kind::Null => ColumnKind::Text,
        Kind::Whole | Kind::Double => ColumnKind::Number,
        Kind::Bool => ColumnKind::Bool,
        Kind::LocalTime | Kind::Time => ColumnKind::Time,
        Kind::Other(name) => ColumnKind::Other(name.clone()),
    };
    FileColumn { name: column.name.clone(), kind }
}

fn of_value<'a>(value: Value<'a>, kind: &Kind) -> Cell<'a> {
    match value {
        Value::Null => Cell::Null,
        Value::Text(text) => Cell::Text(text),
        Value::Whole(whole) => Cell::Whole(whole),
        Value::Double(double) => Cell::Double(double),
        Value::Bool(yes) => Cell::Bool(yes),
        Value::Time(ns) => Cell::Time { ns, zoned: *kind == Kind::Time },
    }
}

/// The process that reads a Parquet file; dropped, it ends.
struct Reader {
    child: Child,
    stdout: BufReader<ChildStdout>,
    last_words: Option<JoinHandle<String>>,
}

impl Reader {
    fn start(table: &Table, columns: &[usize]) -> Result<Self> {
        let file = File::open(&table.path).context("it cannot be read")?;
        ensure!(file.metadata()?.len() > 0, "it is empty");
        let columns = columns.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new(&table.program);
        command
            .args(["parquet-worker", "--memory-bytes", &MEMORY_BYTES.to_string()])
            .args(["--cpu-s", &CPU_S.to_string()]);
        if !columns.is_empty() {
            command.args(["--columns", &columns]);
        }
        let mut child = command
            .env_clear()
            .env("POLARS_MAX_THREADS", "1")
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the process that reads Parquet cannot be started")?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("the process that reads Parquet has no pipe");
        };
        let last_words = std::thread::Builder::new().name("last words".to_owned()).spawn(move || {
            let (mut said, mut stderr, mut part) = (Vec::new(), stderr, [0; 1024]);
            while let Ok(read @ 1..) = stderr.read(&mut part) {
                said.extend_from_slice(part.get(..read).unwrap_or_default());
                said.drain(..said.len().saturating_sub(LAST_WORDS_MAX));
            }
            String::from_utf8_lossy(&said).into_owned()
        })?;
        Ok(Self { child, stdout: BufReader::new(stdout), last_words: Some(last_words) })
    }

    fn frame(&mut self) -> std::io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.stdout.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len > FRAME_BYTES_MAX {
            return Err(std::io::Error::other("its rows are too long"));
        }
        let mut frame = Vec::new();
        (&mut self.stdout).take(u64::from(len)).read_to_end(&mut frame)?;
        let whole = frame.len() == usize::try_from(len).unwrap_or(usize::MAX);
        if whole { Ok(frame) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let frame = self.frame()?;
        ensure!(!frame.is_empty(), "it ended");
        Ok(serde_json::from_slice(&frame)?)
    }

    /// The next rows; none at the end of a whole file.
    fn rows(&mut self, columns: usize) -> Result<Option<parquet::Rows>> {
        let Ok(frame) = self.frame() else { bail!("{}", self.why()) };
        if frame.is_empty() {
            return match self.json() {
                Ok(End::Whole) => Ok(None),
                Ok(end) => bail!("{}", of_end(&end)),
                Err(_) => bail!("{}", self.why()),
            };
        }
        parquet::Rows::decode(&frame, columns).context("its rows cannot be read").map(Some)
    }

    /// Why it said no more.
    fn why(&mut self) -> String {
        if let Ok(end) = self.json::<End>() {
            return of_end(&end);
        }
        let said = self.last_words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        match self.child.wait() {
            Ok(status) => of_status(status, &said),
            Err(error) => format!("the process that read it: {error}"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn of_end(end: &End) -> String {
    match end {
        End::Whole => "it is no Parquet file that can be read".to_owned(),
        End::Failed(reason) => format!("it is no Parquet file that can be read: {reason}"),
        End::NoMemory => no_memory(),
    }
}

fn no_memory() -> String {
    format!(
        "it takes more than the {} MB of memory that reading may take; it is damaged, or its row groups are too long",
        MEMORY_BYTES / 1024 / 1024
    )
}

fn of_status(status: ExitStatus, said: &str) -> String {
    const SIGKILL: i32 = 9;
    let memory = ["memory", "capacity overflow"].iter().any(|word| said.contains(word));
    if memory || status.signal() == Some(SIGKILL) {
        return no_memory();
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    format!("it cannot be read: the process that did it ended with {status} and said: {last}")
}
