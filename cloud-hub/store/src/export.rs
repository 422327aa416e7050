//! Readings as Parquet, for others: DuckDB, pandas, Spark and whatever else reads it.
//!
//! ```text
//! device   string   the device
//! point    string   the point of the device
//! unit     string   the unit as a UCUM code, the newest that is known
//! time_ns  int64    ns since 1970, UTC
//! value    double   in that unit
//! ```
//! Rows stand by series in the order asked for, then by time, then by arrival. Pages are compressed with zstd.
//! This is the only file that knows Polars.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use polars::prelude::*;

use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::store::Store;
use crate::tables::SeriesMeta;

/// Rows of a row group, at least, but for the last.
const GROUP_ROWS: usize = 128 * 1024;

/// The rows of a row group as they gather.
#[derive(Default)]
struct Group {
    series: Vec<(Arc<SeriesMeta>, usize)>,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Group {
    fn frame(&mut self) -> PolarsResult<DataFrame> {
        let rows = self.times.len();
        let texts = |name: &'static str, of: fn(&SeriesMeta) -> &str| {
            let mut column = StringChunkedBuilder::new(name.into(), rows);
            for (meta, rows) in &self.series {
                (0..*rows).for_each(|_| column.append_value(of(meta)));
            }
            column.finish().into_column()
        };
        let columns = vec![
            texts("device", |meta| meta.device.as_str()),
            texts("point", |meta| meta.point.as_str()),
            texts("unit", |meta| &meta.unit),
            Column::new("time_ns".into(), std::mem::take(&mut self.times)),
            Column::new("value".into(), std::mem::take(&mut self.values)),
        ];
        self.series.clear();
        DataFrame::new_infer_height(columns)
    }
}

/// Polars panics on some plans and data; that must cost the export and not the thread.
fn guarded<T>(call: impl FnOnce() -> PolarsResult<T>) -> Result<T, StoreError> {
    let caught = catch_unwind(AssertUnwindSafe(call));
    let done = caught.map_err(|_| StoreError::Query("the columnar engine panicked".to_owned()))?;
    done.map_err(|error| StoreError::Query(format!("the file cannot be written: {error}")))
}

/// Writes all rows of these series in `from..to` to `out`; gives how many.
pub fn parquet(
    store: &Store,
    series: &[SeriesId],
    (from_ns, to_ns): (i64, i64),
    out: impl Write,
) -> Result<u64, StoreError> {
    let empty = guarded(|| Group::default().frame())?;
    let mut writer = guarded(|| {
        ParquetWriter::new(out)
            .with_compression(ParquetCompression::Zstd(None))
            // Encoded one after the other: an export must not take the cores of those who wait for answers.
            .set_parallel(false)
            .batched(empty.schema())
    })?;
    let (mut group, mut written) = (Group::default(), 0_u64);
    for id in series {
        let meta = store.meta(*id).ok_or_else(|| StoreError::Query(format!("there is no series {id}")))?;
        let mut after = None;
        loop {
            let page = store.query_raw(&[*id], from_ns, to_ns, after, GROUP_ROWS)?;
            for column in page.series {
                written += column.times.len() as u64;
                group.series.push((Arc::clone(&meta), column.times.len()));
                group.times.extend_from_slice(&column.times);
                group.values.extend_from_slice(&column.values);
            }
            if group.times.len() >= GROUP_ROWS {
                guarded(|| writer.write_batch(&group.frame()?))?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    if !group.times.is_empty() {
        guarded(|| writer.write_batch(&group.frame()?))?;
    }
    guarded(|| writer.finish())?;
    Ok(written)
}
