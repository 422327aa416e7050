//! What a statement reads: which series and times, how many rows, and these as blocks, page by page.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tideline_protocol::value::{Quality, Value, ValueKind, is_boxed};
use tideline_sql::feed::{self, BLOCK_ROWS_MAX, Beside, Device, Job, Numbers};
use tideline_sql::{Format, Statement, Table, Use};
use tideline_store::buckets::bucket_start;
use tideline_store::{
    Aggregate, ColdRows, FigureColumn, Figures, Quantile, RawColumn, SeriesId, SeriesInfo, Tier,
};
use tokio::sync::mpsc;

use super::{Scope, SqlError};
use crate::api::devices::all_views;
use crate::hub::Hub;

/// Series whose readings are counted together.
const COUNTED_TOGETHER: usize = 256;

/// What is to be read for a statement.
#[derive(Debug)]
pub struct Plan {
    job: Job,
    reads: Vec<Read>,
    input_rows_max: u64,
}

impl Plan {
    /// Most rows that the answer may have.
    pub const fn rows_max(&self) -> u64 {
        self.job.rows_max as u64
    }
}

/// What is to be read of one table.
#[derive(Debug)]
struct Read {
    table: Table,
    series: Vec<SeriesInfo>,
    from_ns: i64,
    to_ns: i64,
    rows_max: usize,
    // Whether texts or qualities are asked for.
    beside: bool,
    // Which figures are, in the order of a block.
    figures: Vec<&'static str>,
}

/// Readings whose texts are told at a time: with the longest ones within what a frame may have.
const BESIDE_ROWS: usize = 4096;

/// Finds out what is to be read. Blocks the thread.
///
/// # Errors
/// It is too much, or the store or the registry cannot be read.
pub fn plan(
    hub: &Hub,
    statement: &Statement,
    format: Format,
    scope: Option<&Scope>,
) -> Result<Plan, SqlError> {
    let limits = &hub.config.sql;
    let rows_max = scope.map_or(limits.rows_max, |scope| scope.rows_max.min(limits.rows_max));
    let mut tables = BTreeMap::new();
    let (mut reads, mut total) = (Vec::new(), 0_u64);
    let mut devices = Vec::new();
    for (table, needed) in &statement.uses {
        if *table == Table::Devices {
            devices = devices_of(hub)?;
            total = total.saturating_add(devices.len() as u64);
            tables.insert(*table, devices.len());
            continue;
        }
        let mut read = read_of(hub, *table, needed);
        if let Some(scope) = scope {
            read.series.retain(|info| (scope.takes)(info));
        }
        read.beside = statement.texts.contains("text") || statement.texts.contains("quality");
        let figures = table.figures().iter().map(|(name, _)| *name);
        read.figures = figures.filter(|name| statement.texts.contains(name)).collect();
        let rows = if *table == Table::Cold {
            read.cold(hub).most().min(read.rows_max as u64)
        } else if needed.rows_max.is_some() || *table != Table::Readings {
            read.most()
        } else {
            count(hub, &read)?
        };
        // Of buckets and of the cold tier only the most that there can be is known; who sends them counts.
        if *table == Table::Readings {
            total = total.saturating_add(rows);
        }
        tables.insert(*table, usize::try_from(rows.min(limits.input_rows_max)).unwrap_or(usize::MAX));
        reads.push(read);
    }
    if total > limits.input_rows_max {
        return Err(SqlError::Input { rows: total.to_string(), most: limits.input_rows_max });
    }
    let job = Job {
        sql: statement.text.clone(),
        format,
        rows_max: usize::try_from(rows_max).unwrap_or(usize::MAX),
        tables,
        texts: statement.texts.iter().map(|text| (*text).to_owned()).collect(),
        devices,
    };
    Ok(Plan { job, reads, input_rows_max: limits.input_rows_max })
}

fn read_of(hub: &Hub, table: Table, needed: &Use) -> Read {
    let wanted =
        |names: &Option<BTreeSet<String>>, name: &str| names.as_ref().is_none_or(|n| n.contains(name));
    // A bucket begins before its first reading.
    let begins = |first: i64| table.width_ns().map_or(first, |width_ns| bucket_start(first, width_ns));
    let mut series = hub
        .store
        .series_where(|text| wanted(&needed.devices, text.device) && wanted(&needed.points, text.point));
    let may_have = |info: &SeriesInfo| {
        info.first_ns.is_some_and(|first| begins(first) < needed.to_ns || needed.to_ns == i64::MAX)
            // A bucket that begins in the range may hold none but later readings, and none that are earlier.
            && info.last_ns.is_some_and(|last| last >= needed.from_ns)
    };
    // What is known of a series is not of the cold tier.
    series.retain(|info| table == Table::Cold || may_have(info));
    let rows_max = needed.rows_max.unwrap_or(usize::MAX);
    Read {
        table,
        series,
        from_ns: needed.from_ns,
        to_ns: needed.to_ns,
        rows_max,
        beside: false,
        figures: Vec::new(),
    }
}

impl Read {
    /// What it has in the cold tier.
    fn cold(&self, hub: &Hub) -> ColdRows {
        let ids: Vec<SeriesId> = self.series.iter().map(|info| info.id).collect();
        hub.store.cold_rows(&ids, (self.from_ns, self.to_ns))
    }

    /// Most rows that it can have.
    fn most(&self) -> u64 {
        let of = |info: &SeriesInfo| {
            let (Some(width), Some(first), Some(last)) = (self.table.width_ns(), info.first_ns, info.last_ns)
            else {
                return info.count;
            };
            let span = last.min(self.to_ns).abs_diff(first.max(self.from_ns));
            info.count.min(span / width.unsigned_abs() + 2)
        };
        let all = self.series.iter().map(of).fold(0_u64, u64::saturating_add);
        all.min(self.rows_max as u64)
    }
}

/// How many readings: from what is known of each series, and from rollups where the range cuts it.
fn count(hub: &Hub, read: &Read) -> Result<u64, SqlError> {
    let mut total = 0_u64;
    let mut cut = Vec::new();
    for info in &read.series {
        let begins = info.first_ns.is_some_and(|first| first >= read.from_ns);
        let ends = read.to_ns == i64::MAX || info.last_ns.is_some_and(|last| last < read.to_ns);
        if begins && ends {
            total = total.saturating_add(info.count);
        } else {
            cut.push(info.id);
        }
    }
    for ids in cut.chunks(COUNTED_TOGETHER) {
        let answer = hub.store.query_buckets(ids, read.from_ns, read.to_ns, 2)?;
        let counts = answer.series.iter().flat_map(|column| &column.count);
        total = counts.fold(total, |total, count| total.saturating_add(*count));
    }
    Ok(total)
}

fn devices_of(hub: &Hub) -> Result<Vec<Device>, SqlError> {
    let ns = |ms: Option<i64>| ms.and_then(|ms| ms.checked_mul(1_000_000));
    let views = all_views(hub)?.into_iter();
    let row = |device: crate::api::shapes::Device| {
        let about = device.about.unwrap_or_default();
        Device {
            id: device.id,
            agent: device.agent,
            title: device.title,
            profile: about.profile,
            firmware: about.firmware,
            vendor: about.vendor,
            model: about.model,
            site: device.site,
            groups: device.groups.join(","),
            tags: serde_json::json!(device.tags).to_string(),
            state: device.state.as_str().to_owned(),
            revoked: device.revoked,
            transport: device.transport,
            software: device.software,
            connected_ns: ns(device.connected_ms),
            last_seen_ns: ns(device.last_seen_ms),
            last_reading_ns: ns(device.last_reading_ms),
            rate: device.rate,
            readings: i64::try_from(device.readings).unwrap_or(i64::MAX),
            backlog: i64::try_from(device.backlog).unwrap_or(i64::MAX),
        }
    };
    Ok(views.map(row).collect())
}

/// Nobody takes frames any more: the child or its client has gone.
struct Gone;

/// Reads the rows and hands them on; ends soon after nobody takes them. Gives the last time, ns, of which a table that is
/// read lacks rows, since readings are past their retention. Blocks the thread.
///
/// # Errors
/// There are more than are allowed, or the store cannot be read.
pub fn read(hub: &Hub, plan: Plan, frames: &mpsc::Sender<Vec<u8>>) -> Result<Option<i64>, SqlError> {
    let send = |frame: Vec<u8>| frames.blocking_send(frame).map_err(|_| Gone);
    let Plan { job, reads, input_rows_max } = plan;
    if send(feed::job(&job)?).is_err() {
        return Ok(None);
    }
    let mut thinned_to_ns: Option<i64> = None;
    let mut left = input_rows_max;
    for read in reads {
        let mut own = read.rows_max;
        if read.table == Table::Cold {
            match cold(hub, &read, (&mut left, &mut own), &send)? {
                Ok(()) => continue,
                Err(Gone) => return Ok(None),
            }
        }
        for info in &read.series {
            let sent = match read.table.width_ns() {
                None => readings(hub, &read, info, (&mut left, &mut own), &send)?,
                Some(width) => buckets(hub, &read, (info, width), (&mut left, &mut own), &send)?,
            };
            if sent.is_err() {
                return Ok(None);
            }
            // After the rows: what went meanwhile is lacking too.
            let range = (read.from_ns, read.to_ns);
            thinned_to_ns =
                thinned_to_ns.max(hub.store.thinned_to(&[info.id], range, tier_of(read.table))?);
            if own == 0 {
                break;
            }
        }
    }
    // Whether somebody still takes it is seen by who reads the answer.
    let _gone = send(feed::end());
    Ok(thinned_to_ns)
}

/// The tier whose rows a table has.
const fn tier_of(table: Table) -> Tier {
    match table {
        Table::Hour => Tier::Hour,
        Table::Day => Tier::Day,
        Table::Minute => Tier::Minute,
        Table::Readings | Table::Devices | Table::Cold => Tier::Raw,
    }
}

/// Takes rows from what may still be read, or says that it is too much.
fn take(hub: &Hub, left: &mut u64, rows: usize) -> Result<(), SqlError> {
    let most = hub.config.sql.input_rows_max;
    *left = left
        .checked_sub(rows as u64)
        .ok_or_else(|| SqlError::Input { rows: format!("more than {most}"), most })?;
    Ok(())
}

type Sent = Result<(), Gone>;

fn readings(
    hub: &Hub,
    read: &Read,
    info: &SeriesInfo,
    (left, own): (&mut u64, &mut usize),
    send: &impl Fn(Vec<u8>) -> Sent,
) -> Result<Sent, SqlError> {
    let mut after = None;
    loop {
        let most = BLOCK_ROWS_MAX.min(*own);
        let page = hub.store.query_raw(&[info.id], read.from_ns, read.to_ns, after, most)?;
        for column in &page.series {
            take(hub, left, column.times.len())?;
            *own = own.saturating_sub(column.times.len());
            if send_column(read, info, column, send)?.is_err() {
                return Ok(Err(Gone));
            }
        }
        after = page.next;
        if after.is_none() || *own == 0 {
            return Ok(Ok(()));
        }
    }
}

/// The readings of the cold tier come file by file, and so those of a series from several.
fn cold(
    hub: &Hub,
    read: &Read,
    (left, own): (&mut u64, &mut usize),
    send: &impl Fn(Vec<u8>) -> Sent,
) -> Result<Sent, SqlError> {
    let by_id: HashMap<SeriesId, &SeriesInfo> = read.series.iter().map(|info| (info.id, info)).collect();
    let mut rows = read.cold(hub);
    while *own > 0 {
        let Some(columns) = rows.next_columns()? else { break };
        for mut column in columns {
            column.times.truncate(*own);
            column.values.truncate(*own);
            // What is not the statement's to see is not asked for.
            let Some(info) = by_id.get(&column.id).filter(|_| *own > 0) else { continue };
            take(hub, left, column.times.len())?;
            *own = own.saturating_sub(column.times.len());
            if send_column(read, info, &column, send)?.is_err() {
                return Ok(Err(Gone));
            }
        }
    }
    Ok(Ok(()))
}

fn send_column(
    read: &Read,
    info: &SeriesInfo,
    column: &RawColumn,
    send: &impl Fn(Vec<u8>) -> Sent,
) -> Result<Sent, SqlError> {
    let numbers = column.boxes.numbers(&column.values);
    let columns = [Numbers::I64(&column.times), Numbers::F64(&numbers)];
    let texts = [info.device.as_str(), info.point.as_str(), &info.unit];
    if send(feed::block(read.table, texts, &columns)?).is_err() {
        return Ok(Err(Gone));
    }
    if !read.beside {
        return Ok(Ok(()));
    }
    for part in beside(column).chunks(BESIDE_ROWS) {
        if send(feed::beside(part)?).is_err() {
            return Ok(Err(Gone));
        }
    }
    Ok(Ok(()))
}

/// What the numbers of a column do not say.
fn beside(column: &RawColumn) -> Vec<Beside> {
    let boxed = column.values.iter().zip(0_u32..).filter(|(word, _)| is_boxed(**word));
    let rows = boxed.map(|(word, row)| {
        let (value, quality) = column.boxes.value(*word, ValueKind::Float);
        let text = if let Value::Text(text) = value { Some(text) } else { None };
        Beside { row, quality, text }
    });
    rows.filter(|own| own.text.is_some() || own.quality != Quality::Good).collect()
}

fn buckets(
    hub: &Hub,
    read: &Read,
    (info, width): (&SeriesInfo, i64),
    (left, own): (&mut u64, &mut usize),
    send: &impl Fn(Vec<u8>) -> Sent,
) -> Result<Sent, SqlError> {
    let tier = tier_of(read.table);
    let (Some(first), Some(last)) = (info.first_ns, info.last_ns) else { return Ok(Ok(())) };
    // The bucket that the first reading is in begins before it.
    let mut from = first.saturating_sub(width).max(read.from_ns);
    let end = if read.to_ns > last { last.saturating_add(1) } else { read.to_ns };
    let step = width.saturating_mul(i64::try_from(BLOCK_ROWS_MAX).unwrap_or(i64::MAX));
    while from < end {
        let to = from.saturating_add(step).min(end);
        let figures = figures_of(&read.figures);
        let (mut found, figures) = hub.store.query_figured_rollups(info.id, tier, (from, to), &figures)?;
        found.truncate(*own);
        from = to;
        if found.is_empty() {
            continue;
        }
        take(hub, left, found.len())?;
        *own = own.saturating_sub(found.len());
        if send(block_of(read, info, &found, &figures)?).is_err() {
            return Ok(Err(Gone));
        }
        if *own == 0 {
            break;
        }
    }
    Ok(Ok(()))
}

/// The quantiles that there are.
const QUANTILES: [&str; 4] = ["p50", "p90", "p95", "p99"];

/// What is stored does: a statement may read thousands of series.
fn figures_of(names: &[&str]) -> Figures {
    // One sketch tells them all.
    let quantiles = if names.iter().any(|name| name.starts_with('p')) { &QUANTILES[..] } else { &[] };
    Figures {
        time_weighted: names.iter().any(|name| name.starts_with("twa")),
        quantiles: quantiles.iter().filter_map(|name| Quantile::parse(name)).collect(),
        readings_max: 0,
    }
}

/// A figure as a column of so many rows; what is not known is NaN, which SQL has as null.
fn figure(name: &str, figures: &FigureColumn, rows: usize) -> Figure {
    let doubles = |values: &[Option<f64>]| {
        let known = |at: usize| values.get(at).copied().flatten().unwrap_or(f64::NAN);
        Figure::Doubles((0..rows).map(known).collect())
    };
    match name {
        "twa" => doubles(&figures.time_weighted),
        "twa_near" => {
            Figure::Whole((0..rows).map(|at| i64::from(figures.near.get(at) == Some(&true))).collect())
        }
        "p_error" => {
            Figure::Doubles((0..rows).map(|at| figures.errors.get(at).copied().unwrap_or(f64::NAN)).collect())
        }
        // All are read where one is, in this order.
        _ => {
            let at = QUANTILES.iter().position(|quantile| *quantile == name);
            doubles(at.and_then(|at| figures.quantiles.get(at)).map_or(&[], Vec::as_slice))
        }
    }
}

enum Figure {
    Whole(Vec<i64>),
    Doubles(Vec<f64>),
}

fn block_of(
    read: &Read,
    info: &SeriesInfo,
    found: &[(i64, Aggregate)],
    figures: &FigureColumn,
) -> Result<Vec<u8>, SqlError> {
    let whole = |of: fn(&(i64, Aggregate)) -> i64| found.iter().map(of).collect::<Vec<i64>>();
    let double = |of: fn(&Aggregate) -> f64| found.iter().map(|(_, part)| of(part)).collect::<Vec<f64>>();
    let (starts, counts) = (whole(|b| b.0), whole(|b| i64::try_from(b.1.count).unwrap_or(i64::MAX)));
    let (min, max, sum) = (double(|a| a.min), double(|a| a.max), double(|a| a.sum));
    let (first, last) = (double(|a| a.first), double(|a| a.last));
    let mut columns = vec![Numbers::I64(&starts), Numbers::I64(&counts)];
    columns.extend([&min, &max, &sum, &first, &last].map(|column| Numbers::F64(column)));
    let figures: Vec<Figure> = read.figures.iter().map(|name| figure(name, figures, found.len())).collect();
    columns.extend(figures.iter().map(|figure| match figure {
        Figure::Whole(column) => Numbers::I64(column),
        Figure::Doubles(column) => Numbers::F64(column),
    }));
    Ok(feed::block(read.table, [info.device.as_str(), info.point.as_str(), &info.unit], &columns)?)
}
