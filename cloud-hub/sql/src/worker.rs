//! The process that runs one statement.
//!
//! It sets its own limits before it reads anything: memory, CPU time, no file that it could open, none that it could
//! write. Its tables are what comes over stdin, and it ends when stdin does.

mod errors;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use polars::prelude::udf::UserDefinedFunction;
use polars::prelude::*;
use polars::sql::{FunctionOptions, FunctionRegistry, SQLContext};
use rlimit::Resource;
use tideline_protocol::value::{Quality, any_nan};
use tideline_store::{Calendar, Width};

use crate::answer;
use crate::feed::{self, Beside, Block, Device, Frame, Head, Job};
use crate::functions::TIME_BUCKET;
use crate::table::Table;

use self::errors::of_statement;
pub(crate) use self::errors::{of_panic, without_plan};

/// What a worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bytes beyond those of the program itself.
    pub memory_bytes: u64,
    /// Seconds of all its threads together.
    pub cpu_s: u64,
}

/// How much of an answer is held back until it is said that there is one: what goes wrong before can be told.
const HELD_BYTES: usize = 1024 * 1024;
/// Room for plans that nest; it is reserved, and used only by them.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// What the program takes, where the system does not say.
const PROGRAM_BYTES: u64 = 512 * 1024 * 1024;

/// Runs one statement: from the job on stdin to the answer on stdout.
///
/// # Errors
/// The limits cannot be set, or stdin or stdout broke.
pub fn run(caps: Caps) -> io::Result<()> {
    begin()?;
    limit(caps)?;
    let mut tables = Tables::default();
    let mut input = io::stdin().lock();
    let Frame::Job(job) = feed::read(&mut input)? else { return Err(io::ErrorKind::InvalidData.into()) };
    tables.expect(&job)?;
    loop {
        match feed::read(&mut input)? {
            Frame::Block(block) => tables.add(&block)?,
            Frame::Beside(rows) => tables.add_beside(rows)?,
            Frame::End => break,
            Frame::Job(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    drop(input);
    // Nobody waits for the answer any more when stdin ends.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(|| {
        let _end = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    })?;
    let work = std::thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
    let done = work.spawn(move || answered(&job, tables, &mut io::stdout().lock()))?.join();
    done.map_err(|_| io::Error::other("the statement's thread panicked"))?
}

/// Has Polars start its threads, and open what wakes them: afterwards nothing can be opened.
pub(crate) fn begin() -> io::Result<()> {
    let small = DataFrame::new(1, vec![Column::new("a".into(), [1_i64])]);
    let summed = small.and_then(|frame| frame.lazy().select([col("a").sum()]).collect());
    summed.map(drop).map_err(|error| io::Error::other(error.to_string()))
}

pub(crate) fn limit(caps: Caps) -> io::Result<()> {
    let memory = program_bytes().saturating_add(caps.memory_bytes);
    for (what, most) in [
        (Resource::AS, memory),
        (Resource::CPU, caps.cpu_s),
        (Resource::FSIZE, 0),
        (Resource::CORE, 0),
        // There is no number left for another file than those that are open: stdin, stdout, stderr, and what Polars
        // wakes its threads with.
        (Resource::NOFILE, 3),
    ] {
        what.set(most, most)?;
    }
    Ok(())
}

/// What is mapped of the program and its libraries.
fn program_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(PROGRAM_BYTES, |kib| kib.saturating_mul(1024))
}

/// The tables as their rows come.
#[derive(Debug, Default)]
struct Tables {
    by_name: BTreeMap<Table, Rows>,
    // Which texts and figures there are.
    asked: Vec<String>,
    // Of which the last block was.
    last: Option<Table>,
}

#[derive(Debug, Default)]
struct Rows {
    // Which series each block is of, by number, and how many rows it has.
    series: Vec<([String; 3], usize)>,
    whole: Vec<Vec<i64>>,
    doubles: Vec<Vec<f64>>,
    // Where the last block begins.
    last: usize,
    // By row, ascending: those with a text, or not of good quality.
    beside: Vec<(usize, Beside)>,
}

impl Tables {
    fn add_beside(&mut self, rows: Vec<Beside>) -> io::Result<()> {
        let last = self.last.filter(|table| table.is_readings());
        let readings = last.and_then(|table| self.by_name.get_mut(&table));
        let readings = readings.ok_or(io::ErrorKind::InvalidData)?;
        let last = readings.last;
        readings.beside.extend(rows.into_iter().map(|own| (last.saturating_add(own.row as usize), own)));
        Ok(())
    }

    fn expect(&mut self, job: &Job) -> io::Result<()> {
        for (table, rows) in &job.tables {
            let mut expected = Rows::default();
            for (_, is_whole) in table.numbers(&job.texts) {
                // One block comes on top; what was counted too high costs nothing but addresses.
                let room = rows.saturating_add(feed::BLOCK_ROWS_MAX);
                if is_whole {
                    expected.whole.push(reserved(room)?);
                } else {
                    expected.doubles.push(reserved(room)?);
                }
            }
            self.by_name.insert(*table, expected);
        }
        self.asked.clone_from(&job.texts);
        Ok(())
    }

    fn add(&mut self, block: &Block) -> io::Result<()> {
        self.last = Some(block.table);
        let rows = self.by_name.get_mut(&block.table).ok_or(io::ErrorKind::InvalidData)?;
        let numbers = block.table.numbers(&self.asked);
        let height = block.words.len() / numbers.len().max(1);
        if height.saturating_mul(numbers.len()) != block.words.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        rows.last = rows.whole.first().map_or(0, Vec::len);
        let (mut whole, mut doubles) = (rows.whole.iter_mut(), rows.doubles.iter_mut());
        for ((_, is_whole), words) in numbers.iter().zip(block.words.chunks(height.max(1))) {
            if *is_whole {
                let column = whole.next().ok_or(io::ErrorKind::InvalidData)?;
                column.extend(words.iter().map(|word| i64::from_le_bytes(*word)));
            } else {
                let column = doubles.next().ok_or(io::ErrorKind::InvalidData)?;
                column.extend(words.iter().map(|word| f64::from_le_bytes(*word)));
            }
        }
        match rows.series.last_mut() {
            Some((texts, rows)) if *texts == block.texts => *rows += height,
            _ => rows.series.push((block.texts.clone(), height)),
        }
        Ok(())
    }
}

fn reserved<T>(rows: usize) -> io::Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(rows).map_err(|_| io::ErrorKind::OutOfMemory)?;
    Ok(out)
}

impl Rows {
    fn frame(self, table: Table, texts: &[String]) -> PolarsResult<DataFrame> {
        let height: usize = self.series.iter().map(|(_, rows)| rows).sum();
        let mut columns = Vec::new();
        for (at, name) in ["device", "point", "unit"].into_iter().enumerate() {
            if texts.iter().any(|text| text == name) {
                columns.push(self.text(at, name, height)?);
            }
        }
        let (mut whole, mut doubles) = (self.whole.into_iter(), self.doubles.into_iter());
        for (name, is_whole) in table.numbers(texts) {
            let column = if is_whole {
                Column::new(name.into(), whole.next().unwrap_or_default())
            } else {
                numbers_of(name, doubles.next().unwrap_or_default())
            };
            columns.push(if name == "time" {
                column.cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))?
            } else {
                column
            });
        }
        if table.is_readings() {
            columns.extend(beside(&self.beside, texts, height));
        }
        let mut frame = DataFrame::new(height, columns)?;
        if table.width_ns().is_some() {
            let mean = (frame.column("sum")? / &frame.column("count")?.cast(&DataType::Float64)?)?;
            let at = frame.get_column_index("first").unwrap_or_else(|| frame.width());
            frame.insert_column(at, mean.with_name("mean".into()))?;
        }
        Ok(frame)
    }

    /// A text stands once, however many rows have it.
    fn text(&self, at: usize, name: &str, height: usize) -> PolarsResult<Column> {
        let of = |texts: &[String; 3]| texts.get(at).cloned().unwrap_or_default();
        let known =
            StringChunked::from_iter_values(name.into(), self.series.iter().map(|(texts, _)| of(texts)));
        let mut rows: Vec<IdxSize> = Vec::with_capacity(height);
        for (no, (_, count)) in self.series.iter().enumerate() {
            rows.extend(std::iter::repeat_n(IdxSize::try_from(no).unwrap_or(IdxSize::MAX), *count));
        }
        let rows = IdxCa::from_vec(name.into(), rows);
        Ok(known.take(&rows)?.into_column())
    }
}

fn devices(all: &[Device]) -> PolarsResult<DataFrame> {
    let texts = |name: &str, of: fn(&Device) -> Option<&str>| {
        Column::new(name.into(), all.iter().map(of).collect::<Vec<Option<&str>>>())
    };
    let times = |name: &str, of: fn(&Device) -> Option<i64>| {
        let column = Column::new(name.into(), all.iter().map(of).collect::<Vec<_>>());
        column.cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))
    };
    let whole =
        |name: &str, of: fn(&Device) -> i64| Column::new(name.into(), all.iter().map(of).collect::<Vec<_>>());
    DataFrame::new(
        all.len(),
        vec![
            texts("id", |d| Some(&d.id)),
            texts("agent", |d| Some(&d.agent)),
            texts("title", |d| Some(&d.title)),
            texts("profile", |d| Some(&d.profile)),
            texts("firmware", |d| Some(&d.firmware)),
            texts("vendor", |d| Some(&d.vendor)),
            texts("model", |d| Some(&d.model)),
            texts("site", |d| Some(&d.site)),
            texts("groups", |d| Some(&d.groups)),
            texts("tags", |d| Some(&d.tags)),
            texts("state", |d| Some(&d.state)),
            Column::new("revoked".into(), all.iter().map(|d| d.revoked).collect::<Vec<_>>()),
            texts("transport", |d| d.transport.as_deref()),
            texts("software", |d| d.software.as_deref()),
            times("connected", |d| d.connected_ns)?,
            times("last_seen", |d| d.last_seen_ns)?,
            times("last_reading", |d| d.last_reading_ns)?,
            Column::new("rate".into(), all.iter().map(|d| d.rate).collect::<Vec<_>>()),
            whole("readings", |d| d.readings),
            whole("backlog", |d| d.backlog),
        ],
    )
}

/// Runs the statement and writes the answer, or why there is none.
fn answered(job: &Job, tables: Tables, out: &mut impl Write) -> io::Result<()> {
    let found = catch_unwind(AssertUnwindSafe(|| query(job, tables)));
    let frame = match found {
        Ok(Ok(frame)) if frame.height() > job.rows_max => return told(&Head::TooManyRows, out),
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => return told(&Head::Failed(of_statement(&error.to_string())), out),
        Err(panic) => return told(&of_panic(panic.as_ref()), out),
    };
    let mut held = Held { out, held: Some(Vec::new()), rows: frame.height() };
    match catch_unwind(AssertUnwindSafe(|| {
        answer::write(frame, job.format, &mut held).and_then(|()| held.flush())
    })) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if held.held.is_some() => told(
            &Head::Failed(format!("the answer cannot be written as {}: {error}", job.format.name())),
            held.out,
        ),
        Ok(Err(error)) => Err(error),
        Err(panic) if held.held.is_some() => told(&of_panic(panic.as_ref()), held.out),
        Err(_) => Err(io::Error::other("the columnar engine panicked")),
    }
}

fn told(head: &Head, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&feed::head(head)?)?;
    out.flush()
}

/// Doubles; what is no number is null.
fn numbers_of(name: &str, values: Vec<f64>) -> Column {
    if any_nan(&values) {
        let numbers = values.into_iter().map(|value| Some(value).filter(|value| !value.is_nan()));
        return Float64Chunked::from_iter_options(name.into(), numbers).into_column();
    }
    Column::new(name.into(), values)
}

/// The texts and qualities of readings, as far as they are asked for.
fn beside(rows: &[(usize, Beside)], asked: &[String], height: usize) -> Vec<Column> {
    let asked = |name: &str| asked.iter().any(|asked| asked == name);
    // A value for each row: those of `rows` in their places, and another one everywhere else.
    fn column<'a>(
        name: &str,
        rows: &'a [(usize, Beside)],
        height: usize,
        of: impl Fn(Option<&'a Beside>) -> Option<&'a str>,
    ) -> Column {
        let mut out = StringChunkedBuilder::new(name.into(), height);
        let mut next = rows.iter().peekable();
        for row in 0..height {
            let own = next.next_if(|(at, _)| *at == row).map(|(_, own)| own);
            out.append_option(of(own));
        }
        out.finish().into_column()
    }
    let mut columns = Vec::new();
    if asked("text") {
        columns.push(if rows.iter().any(|(_, own)| own.text.is_some()) {
            column("text", rows, height, |own| own?.text.as_deref())
        } else {
            Column::full_null("text".into(), height, &DataType::String)
        });
    }
    if asked("quality") {
        columns.push(column("quality", rows, height, |own| {
            Some(own.map_or(Quality::Good, |own| own.quality).as_str())
        }));
    }
    columns
}

fn query(job: &Job, tables: Tables) -> PolarsResult<DataFrame> {
    let mut context = SQLContext::new().with_function_registry(Arc::new(OwnFunctions));
    for (table, rows) in tables.by_name {
        let frame =
            if table == Table::Devices { devices(&job.devices)? } else { rows.frame(table, &job.texts)? };
        context.register(table.name(), frame.lazy());
    }
    let most = IdxSize::try_from(job.rows_max.saturating_add(1)).unwrap_or(IdxSize::MAX);
    countable(context.execute(&job.sql)?.limit(most))?.collect()
}

/// Where `count(*)` is all that is asked of a UNION, Polars adds up the counts of its parts as integers of 128 bits, which the
/// program is built without: the rows are put together there instead, and counted.
fn countable(frame: LazyFrame) -> PolarsResult<LazyFrame> {
    let plan = frame.describe_optimized_plan()?;
    Ok(if plan.contains("cast(UInt128)") { frame.with_projection_pushdown(false) } else { frame })
}

/// Holds the beginning of the answer back.
struct Held<'a, W: Write> {
    out: &'a mut W,
    held: Option<Vec<u8>>,
    rows: usize,
}

impl<W: Write> Held<'_, W> {
    fn begin(&mut self) -> io::Result<()> {
        if let Some(held) = self.held.take() {
            self.out.write_all(&feed::head(&Head::Rows(self.rows))?)?;
            self.out.write_all(&held)?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Held<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.held {
            Some(held) if held.len() + bytes.len() <= HELD_BYTES => {
                held.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Some(_) => {
                self.begin()?;
                self.out.write(bytes)
            }
            None => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.begin()?;
        self.out.flush()
    }
}

/// What Polars' SQL lacks.
struct OwnFunctions;

impl FunctionRegistry for OwnFunctions {
    fn register(&mut self, _: &str, _: UserDefinedFunction) -> PolarsResult<()> {
        polars_bail!(SQLInterface: "functions cannot be added")
    }

    fn get_udf(&self, name: &str) -> PolarsResult<Option<UserDefinedFunction>> {
        Ok(self.contains(name).then(|| UserDefinedFunction {
            name: name.into(),
            fun: new_column_udf(BaseColumnUdf::new(time_bucket, |_: &Schema, fields: &[Field]| {
                bucket_field(fields)
            })),
            options: FunctionOptions::elementwise(),
        }))
    }

    fn contains(&self, name: &str) -> bool {
        name == TIME_BUCKET
    }
}

fn bucket_field(fields: &[Field]) -> PolarsResult<Field> {
    let name = fields.get(1).map_or(PlSmallStr::from_static(TIME_BUCKET), |field| field.name.clone());
    Ok(Field::new(name, DataType::Datetime(TimeUnit::Nanoseconds, None)))
}

/// The start of the bucket of a width that each time is in; buckets are aligned to 1970, or are those of a zone.
fn time_bucket(columns: &mut [Column]) -> PolarsResult<Column> {
    let wrong = || polars_err!(SQLSyntax: "time_bucket takes a width as '10m' or '1h' (ms, s, m, h, d or w) and a time; or '1d', '1w' or '1mo', a time and a time zone, as 'Europe/Berlin'");
    let text = |column: &Column| column.str().ok().and_then(|texts| texts.get(0)).map(str::to_owned);
    let (width, times, zone) = match columns {
        [width, times] => (width, times, None),
        [width, times, zone] => (width, times, Some(text(zone).ok_or_else(wrong)?)),
        _ => return Err(wrong()),
    };
    let width = text(width).ok_or_else(wrong)?;
    let width = match zone {
        None => Width::Fixed(span_ns(&width).ok_or_else(wrong)?),
        Some(zone) => {
            let calendar = Calendar::parse(&width, &zone);
            Width::Calendar(calendar.map_err(|error| polars_err!(SQLSyntax: "time_bucket: {error}"))?)
        }
    };
    if !matches!(times.dtype(), DataType::Datetime(_, None)) {
        return Err(wrong());
    }
    let times = times.cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))?;
    let ns = times.datetime()?.physical();
    // Times of one bucket often stand together.
    let bucket = Cell::new((1, 0));
    let starts: Int64Chunked = ns.apply_values(|ns| {
        let (start, last) = bucket.get();
        if start <= ns && ns <= last {
            return start;
        }
        bucket.set((width.start(ns), width.last(ns)));
        bucket.get().0
    });
    starts.into_column().cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))
}

fn span_ns(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let unit: i64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit).filter(|ns| *ns > 0)
}

#[cfg(test)]
mod tests;
