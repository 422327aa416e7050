//! The history of windows that are to be aggregated again.

use std::collections::HashSet;

use tideline_protocol::model::{DeviceId, PointId, Sample};
use tideline_store::{SeriesInfo, StoreError};
use tideline_streams::{Column, Engine, Event, Output, Refill, Wanted};

use super::JOB_PREFIX;
use crate::hub::Hub;
use crate::metadata::WriterSeriesRecord;

/// Windows that are read at a time.
const WINDOWS_MAX: usize = 16;
/// Readings of one window: they are all in memory, at 16 bytes each.
pub const READINGS_MAX: usize = 4_000_000;
/// Rows of one page of the history.
const PAGE_ROWS: usize = 100_000;

/// What came of them.
#[derive(Debug, Default)]
pub struct Refilled {
    /// What the engine gave.
    pub outputs: Vec<Output>,
    /// Windows with too many readings; they stay as they were given.
    pub refused: u64,
    /// Whether there are more.
    pub more: bool,
}

/// Brings the engine the history of the next windows that it wants. Blocks the thread. What the engine gave is in
/// `done` also after an error: it will not give it again.
///
/// # Errors
/// The store cannot be read, or is closed.
pub fn refill(hub: &Hub, engine: &mut Engine, now_ns: i64, done: &mut Refilled) -> Result<(), StoreError> {
    let mut wanted = engine.wanted(WINDOWS_MAX + 1);
    if wanted.is_empty() {
        return Ok(());
    }
    done.more = wanted.len() > WINDOWS_MAX;
    wanted.truncate(WINDOWS_MAX);
    // What the job has read of the log can be queried from here on.
    hub.store.settle()?;
    for wanted in &wanted {
        let series = series(hub, engine, wanted)?;
        let Some(found) = read(hub, &series, wanted)? else {
            done.refused = done.refused.saturating_add(1);
            done.outputs.extend(engine.handle(now_ns, Event::Refill(Refill { wanted, columns: &[] })));
            continue;
        };
        let columns: Vec<Column<'_>> = series
            .iter()
            .zip(&found)
            .map(|(info, samples)| Column { device: &info.device, point: &info.point, samples })
            .collect();
        done.outputs.extend(engine.handle(now_ns, Event::Refill(Refill { wanted, columns: &columns })));
    }
    Ok(())
}

/// The series of the window's key, but for those that jobs write.
fn series(hub: &Hub, engine: &Engine, wanted: &Wanted) -> Result<Vec<SeriesInfo>, StoreError> {
    let key = &wanted.key;
    let mut found = hub.store.series(Some(&key.device));
    found.retain(|info| {
        key.point.as_ref().is_none_or(|point| *point == *info.point)
            && engine.job().selects(&info.device, &info.point)
    });
    if key.point.is_none() && !found.is_empty() {
        let derived = derived(hub)?;
        found.retain(|info| !derived.contains(&(DeviceId::clone(&info.device), PointId::clone(&info.point))));
    }
    Ok(found)
}

/// The series that jobs write.
///
/// # Errors
/// The registry cannot be read.
pub fn derived(hub: &Hub) -> Result<HashSet<(DeviceId, PointId)>, StoreError> {
    let records = hub.metadata.list_from::<WriterSeriesRecord>(JOB_PREFIX);
    let records = records.map_err(|error| StoreError::Query(error.to_string()))?;
    let series = records.into_iter().flat_map(|(_, record)| record.series);
    Ok(series.map(|def| (def.device, def.point)).collect())
}

/// The readings of each series in the window; none when they are too many.
fn read(hub: &Hub, series: &[SeriesInfo], wanted: &Wanted) -> Result<Option<Vec<Vec<Sample>>>, StoreError> {
    let mut out = Vec::with_capacity(series.len());
    let mut rows = 0_usize;
    for info in series {
        let (mut samples, mut after) = (Vec::new(), None);
        loop {
            let page = hub.store.query_raw(&[info.id], wanted.start_ns, wanted.end_ns, after, PAGE_ROWS)?;
            for column in page.series {
                let numbers = column.boxes.numbers(&column.values);
                let each = column.times.iter().zip(numbers.iter());
                let each = each.map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value });
                samples.extend(each.filter(|sample| !sample.value.is_nan()));
            }
            after = page.next;
            if rows.saturating_add(samples.len()) > READINGS_MAX {
                return Ok(None);
            }
            if after.is_none() {
                break;
            }
        }
        rows = rows.saturating_add(samples.len());
        out.push(samples);
    }
    Ok(Some(out))
}
