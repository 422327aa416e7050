//! Sealed files: readings sorted by (series, time) and their rollups by minute, as Parquet.
//!
//! This file and no other knows Polars. Rows of equal (series, time) stand in order of arrival.
//! Where the rows of a series stand in a file is kept in the manifest, so that reading one series
//! decodes only the row groups that hold it. The column `batch_step` says which batch brought a row, as
//! the difference of its number (see [`crate::batches`]) from that of the row before, or from 0 at the
//! first row of a series: a series that has a reading in each batch has steps of 1, which take no room.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use minicbor::{Decode, Encode};
use polars::prelude::*;
use tideline_protocol::model::Sample;

use crate::batches::Batches;
use crate::buckets::{Aggregate, MINUTE_NS, bucket_start};
use crate::hot::{Hot, Rows, SeriesId, SeriesStats};

/// Rows of a row group: what reading one series decodes at least.
pub const ROW_GROUP_ROWS: usize = 16 * 1024;
/// Rows of a row group of a rollup, which has four times as many columns.
pub const ROLLUP_GROUP_ROWS: usize = 8 * 1024;

/// Where a series stands in a sealed file and its rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Place {
    /// The series.
    #[n(0)]
    pub series: SeriesId,
    /// Its first row in the raw file.
    #[n(1)]
    pub row: u64,
    /// Its rows in the raw file.
    #[n(2)]
    pub rows: u64,
    /// Its first row in the rollup.
    #[n(3)]
    pub minute: u64,
    /// Its rows in the rollup.
    #[n(4)]
    pub minutes: u64,
    /// Its earliest time, ns.
    #[n(5)]
    pub first_ns: i64,
    /// Its latest time, ns.
    #[n(6)]
    pub last_ns: i64,
}

impl Place {
    /// What is known of its rows, given the value of the last one.
    #[must_use]
    pub fn stats(&self, last: Option<f64>) -> SeriesStats {
        SeriesStats {
            count: self.rows,
            first_ns: Some(self.first_ns),
            last: last.map(|value| Sample { time_ns: self.last_ns, value }),
        }
    }
}

/// How sealed files are written and read.
pub trait SealedFormat: Send + Sync {
    /// Writes all rows of `hot`, which came in `batches`, to `raw` and their rollup to `rollup`. Neither
    /// is synced.
    ///
    /// # Errors
    /// Says what failed.
    fn write(&self, hot: &Hot, batches: &Batches, raw: &Path, rollup: &Path) -> Result<Vec<Place>, String>;
    /// Writes the rollup of a raw file again. It is not synced.
    ///
    /// # Errors
    /// Says what failed.
    fn roll_up(&self, raw: &Path, rollup: &Path) -> Result<(), String>;
    /// The rows `offset..offset + len` of a raw file.
    ///
    /// # Errors
    /// Says what failed.
    fn read_rows(&self, raw: &Path, offset: u64, len: u64) -> Result<Rows, String>;
    /// The series of each of these rows.
    ///
    /// # Errors
    /// Says what failed.
    fn read_series(&self, raw: &Path, offset: u64, len: u64) -> Result<Vec<SeriesId>, String>;
    /// The column `batch_step` of these rows of a raw file.
    ///
    /// # Errors
    /// Says what failed.
    fn read_batch_steps(&self, raw: &Path, offset: u64, len: u64) -> Result<Vec<i32>, String>;
    /// The rows `offset..offset + len` of a rollup, as (series, minute, aggregate).
    ///
    /// # Errors
    /// Says what failed.
    fn read_rollup(
        &self,
        rollup: &Path,
        offset: u64,
        len: u64,
    ) -> Result<Vec<(SeriesId, i64, Aggregate)>, String>;
}

/// Zstd Parquet through Polars.
#[derive(Debug, Clone, Copy)]
pub struct ParquetFormat;

/// Polars panics on some damaged files and plans; that must cost the call and not the thread.
pub fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("the columnar engine panicked".to_owned()))
}

fn text(error: PolarsError) -> String {
    error.to_string()
}

fn frame(hot: &Hot, batches: &Batches) -> Result<(DataFrame, Vec<Place>), String> {
    let mut series = Vec::with_capacity(hot.rows());
    let mut all = Rows { times: Vec::with_capacity(hot.rows()), values: Vec::with_capacity(hot.rows()) };
    let (mut places, mut steps) = (Vec::new(), Vec::with_capacity(hot.rows()));
    for (id, rows, numbers) in hot.sorted(batches) {
        let mut before = 0_u32;
        steps.extend(numbers.into_iter().map(|number| {
            let step = number.wrapping_sub(before).cast_signed();
            before = number;
            step
        }));
        places.push(Place {
            series: id,
            row: series.len() as u64,
            rows: rows.times.len() as u64,
            minute: 0,
            minutes: 0,
            first_ns: rows.times.first().copied().unwrap_or(0),
            last_ns: rows.times.last().copied().unwrap_or(0),
        });
        series.resize(series.len() + rows.times.len(), id);
        all.extend(&rows.times, &rows.values);
    }
    let columns = vec![
        Column::new("series".into(), series),
        Column::new("time".into(), all.times),
        Column::new("value".into(), all.values),
        Column::new("batch_step".into(), steps),
    ];
    Ok((DataFrame::new_infer_height(columns).map_err(text)?, places))
}

/// Rows come sorted by (series, time), so that first and last of a group are those in time.
///
/// The bucket is computed here and not by an expression: Polars' floor division needs a feature
/// that nothing else here needs.
fn roll_up(mut raw: DataFrame) -> PolarsResult<DataFrame> {
    let times = raw.column("time")?.i64()?;
    let buckets: Vec<i64> = times.iter().flatten().map(|time| bucket_start(time, MINUTE_NS)).collect();
    raw.with_column(Column::new("bucket".into(), buckets))?;
    raw.lazy()
        .group_by_stable([col("series"), col("bucket")])
        .agg([
            len().cast(DataType::UInt64).alias("count"),
            col("value").min().alias("min"),
            col("value").max().alias("max"),
            col("value").sum().alias("sum"),
            col("value").first().alias("first"),
            col("value").last().alias("last"),
            col("time").first().alias("first_t"),
            col("time").last().alias("last_t"),
        ])
        .collect()
}

fn write_parquet(path: &Path, frame: &mut DataFrame, group_rows: usize) -> Result<(), String> {
    let file = File::create(path).map_err(|error| error.to_string())?;
    guarded(|| {
        let writer = ParquetWriter::new(file)
            .with_compression(ParquetCompression::Zstd(None))
            .with_row_group_size(Some(group_rows));
        writer.finish(frame).map_err(text).map(drop)
    })
}

/// All columns, or those named.
fn read_parquet(path: &Path, columns: Option<&[&str]>, offset: u64, len: u64) -> Result<DataFrame, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let at = |value: u64| usize::try_from(value).map_err(|error| error.to_string());
    let slice = Some((at(offset)?, at(len)?));
    let columns = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    guarded(|| ParquetReader::new(file).with_columns(columns).with_slice(slice).finish().map_err(text))
}

fn u32s(frame: &DataFrame, name: &str) -> Result<Vec<u32>, String> {
    let column = frame.column(name).map_err(text)?;
    let values = column.u32().map_err(text)?;
    // One piece without nulls is how blocks come.
    Ok(values.cont_slice().map_or_else(|_| values.iter().flatten().collect(), <[_]>::to_vec))
}

fn u64s(frame: &DataFrame, name: &str) -> Result<Vec<u64>, String> {
    let column = frame.column(name).map_err(text)?;
    let values = column.u64().map_err(text)?;
    // One piece without nulls is how blocks come.
    Ok(values.cont_slice().map_or_else(|_| values.iter().flatten().collect(), <[_]>::to_vec))
}

fn i64s(frame: &DataFrame, name: &str) -> Result<Vec<i64>, String> {
    let column = frame.column(name).map_err(text)?;
    let values = column.i64().map_err(text)?;
    // One piece without nulls is how blocks come.
    Ok(values.cont_slice().map_or_else(|_| values.iter().flatten().collect(), <[_]>::to_vec))
}

fn f64s(frame: &DataFrame, name: &str) -> Result<Vec<f64>, String> {
    let column = frame.column(name).map_err(text)?;
    let values = column.f64().map_err(text)?;
    // One piece without nulls is how blocks come.
    Ok(values.cont_slice().map_or_else(|_| values.iter().flatten().collect(), <[_]>::to_vec))
}

impl SealedFormat for ParquetFormat {
    fn write(&self, hot: &Hot, batches: &Batches, raw: &Path, rollup: &Path) -> Result<Vec<Place>, String> {
        let (mut rows, mut places) = frame(hot, batches)?;
        write_parquet(raw, &mut rows, ROW_GROUP_ROWS)?;
        let mut minutes = guarded(|| roll_up(rows).map_err(text))?;
        let series = u32s(&minutes, "series")?;
        let mut at = 0_u64;
        let mut runs = series.chunk_by(|a, b| a == b);
        for place in &mut places {
            place.minute = at;
            place.minutes = runs.next().map_or(0, |run| run.len() as u64);
            at += place.minutes;
        }
        write_parquet(rollup, &mut minutes, ROLLUP_GROUP_ROWS)?;
        Ok(places)
    }

    fn roll_up(&self, raw: &Path, rollup: &Path) -> Result<(), String> {
        let rows = read_parquet(raw, Some(&["series", "time", "value"]), 0, u64::from(u32::MAX))?;
        let mut minutes = guarded(|| roll_up(rows).map_err(text))?;
        write_parquet(rollup, &mut minutes, ROLLUP_GROUP_ROWS)
    }

    fn read_rows(&self, raw: &Path, offset: u64, len: u64) -> Result<Rows, String> {
        let frame = read_parquet(raw, Some(&["time", "value"]), offset, len)?;
        let rows = Rows { times: i64s(&frame, "time")?, values: f64s(&frame, "value")? };
        if rows.times.len() as u64 != len || rows.values.len() as u64 != len {
            return Err(format!("{} has {} rows where {len} are listed", raw.display(), rows.times.len()));
        }
        Ok(rows)
    }

    fn read_series(&self, raw: &Path, offset: u64, len: u64) -> Result<Vec<SeriesId>, String> {
        u32s(&read_parquet(raw, Some(&["series"]), offset, len)?, "series")
    }

    fn read_batch_steps(&self, raw: &Path, offset: u64, len: u64) -> Result<Vec<i32>, String> {
        let frame = read_parquet(raw, Some(&["batch_step"]), offset, len)?;
        let column = frame.column("batch_step").map_err(text)?;
        let values = column.i32().map_err(text)?;
        Ok(values.cont_slice().map_or_else(|_| values.iter().flatten().collect(), <[_]>::to_vec))
    }

    fn read_rollup(
        &self,
        rollup: &Path,
        offset: u64,
        len: u64,
    ) -> Result<Vec<(SeriesId, i64, Aggregate)>, String> {
        let frame = read_parquet(rollup, None, offset, len)?;
        let ids = u32s(&frame, "series")?.into_iter().zip(i64s(&frame, "bucket")?);
        let counts = u64s(&frame, "count")?.into_iter().zip(f64s(&frame, "sum")?);
        let ends = f64s(&frame, "min")?.into_iter().zip(f64s(&frame, "max")?);
        let values = f64s(&frame, "first")?.into_iter().zip(f64s(&frame, "last")?);
        let times = i64s(&frame, "first_t")?.into_iter().zip(i64s(&frame, "last_t")?);
        let out: Vec<_> = ids
            .zip(counts)
            .zip(ends.zip(values.zip(times)))
            .map(|(((series, bucket), (count, sum)), ((min, max), ((first, last), (first_ns, last_ns))))| {
                (series, bucket, Aggregate { count, min, max, sum, first, last, first_ns, last_ns })
            })
            .collect();
        if out.len() as u64 != len {
            return Err(format!("{} has {} rows where {len} are listed", rollup.display(), out.len()));
        }
        Ok(out)
    }
}
