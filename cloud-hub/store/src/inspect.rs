//! Looking at a store that is not open: what it holds, and whether a sealed file is good.

use std::fmt;
use std::path::Path;

use crate::buckets::{Aggregate, Buckets, MINUTE_NS};
use crate::config::StoreError;
use crate::hot::{Rows, SeriesId};
use crate::manifest::{Contents, FileEntry, Manifest};
use crate::sealed::{ParquetFormat, SealedFormat};
use crate::tables::sealed_paths;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Agents with a ledger.
    pub agents: usize,
    /// Series.
    pub series: usize,
    /// Each sealed file: number, rows, bytes with its rollup.
    pub files: Vec<(u64, u64, u64)>,
    /// The oldest log segment that is needed.
    pub oldest_segment: u64,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} agents, {} series, log from segment {}",
            self.agents, self.series, self.oldest_segment
        )?;
        self.files.iter().try_for_each(|(number, rows, bytes)| {
            writeln!(f, "sealed file {number:08}: {rows} rows, {bytes} bytes")
        })
    }
}

/// The manifest of a closed store.
pub fn contents(dir: &Path) -> Result<Contents, StoreError> {
    let path = dir.join("manifest.redb");
    // An empty file would be made a manifest, of which the next start would think no more.
    if !std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
        return Err(StoreError::Manifest(format!("{} holds no store", dir.display())));
    }
    Ok(Manifest::open(&path)?.1)
}

/// What the manifest of a closed store says.
///
/// # Errors
/// There is no store, it is open elsewhere, or its manifest is damaged.
pub fn inspect(dir: &Path) -> Result<Inspection, StoreError> {
    let contents = contents(dir)?;
    Ok(Inspection {
        agents: contents.checkpoint.ledgers.agents().len(),
        series: contents.series.len(),
        files: contents
            .files
            .iter()
            .map(|file| (file.number, file.rows(), file.raw.0 + file.rollup.0))
            .collect(),
        oldest_segment: contents.checkpoint.oldest_segment,
    })
}

/// Whether a sealed file is what the manifest says, and its rollup that of its readings (INV-9).
pub fn verify_file(dir: &Path, file: &FileEntry) -> Result<(), String> {
    let (raw, rollup) = sealed_paths(dir, file.number);
    let rows = ParquetFormat.read_rows(&raw, 0, file.rows())?;
    let ids = ParquetFormat.read_series(&raw, 0, file.rows())?;
    let listed: Vec<SeriesId> =
        file.places.iter().flat_map(|place| (0..place.rows).map(move |_| place.series)).collect();
    if ids != listed {
        return Err("its series do not stand where the manifest says".to_owned());
    }
    let minutes = ParquetFormat.read_rollup(&rollup, 0, file.minutes())?;
    for place in &file.places {
        let span = |from: u64, len: u64| Some(usize::try_from(from).ok()?..usize::try_from(from + len).ok()?);
        let part = span(place.row, place.rows).and_then(|span| {
            Some(Rows { times: rows.times.get(span.clone())?.into(), values: rows.values.get(span)?.into() })
        });
        let Some(part) = part else { return Err("it is too short".to_owned()) };
        if !part.times.is_sorted() {
            return Err(format!("series {} is not sorted by time", place.series));
        }
        let (mut expected, mut sizes) = (Buckets::new(MINUTE_NS), Buckets::new(MINUTE_NS));
        expected.add_rows(&part.times, &part.values);
        let values: Vec<f64> = part.values.iter().map(|value| value.abs()).collect();
        sizes.add_rows(&part.times, &values);
        let found = minutes.iter().filter(|(series, ..)| *series == place.series);
        let same = expected.iter().count() as u64 == place.minutes
            && expected
                .iter()
                .zip(sizes.iter())
                .zip(found)
                .all(|(((start, a), (_, size)), (_, at, b))| start == *at && is_same(a, b, size.sum));
        if !same {
            return Err(format!("the rollup of series {} is not that of its readings", place.series));
        }
    }
    Ok(())
}

/// Sums may be taken in another order: they differ by what `size`, the sum of the sizes of the
/// values, allows, and by anything where that is not finite.
fn is_same(a: &Aggregate, b: &Aggregate, size: f64) -> bool {
    let equal = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    let near = !size.is_finite() || (a.sum - b.sum).abs() <= 1e-9 * size;
    (a.count, a.first_ns, a.last_ns) == (b.count, b.first_ns, b.last_ns)
        && [(a.min, b.min), (a.max, b.max), (a.first, b.first), (a.last, b.last)]
            .into_iter()
            .all(|(a, b)| equal(a, b))
        && near
}
