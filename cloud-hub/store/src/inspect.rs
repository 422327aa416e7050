//! Looking at a store that is not open: what it holds, and whether a sealed file is good.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::buckets::{Aggregate, Buckets};
use crate::config::StoreError;
use crate::files::{FileSystem, RealFiles};
use crate::held::Held;
use crate::hot::{Rows, SeriesId};
use crate::manifest::{Contents, FileEntry, Manifest};
use crate::query::Tier;
use crate::sealed::SealedFormat;
use crate::segment::figures::Figure;
use crate::segment::read::ReadError;
use crate::segment::{Directory, LEVELS, Level, SeriesEntry};
use crate::sketch::Sketch;
use crate::tables::sealed_paths;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Agents with a ledger.
    pub agents: usize,
    /// Series.
    pub series: usize,
    /// Each sealed file: number, readings, bytes with its rollup, and the finest tier that is left of it.
    pub files: Vec<(u64, u64, u64, Tier)>,
    /// Each file of the cold tier: where it is in the folder of the store, readings, and bytes.
    pub cold: Vec<(PathBuf, u64, u64)>,
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
        self.files.iter().try_for_each(|(number, rows, bytes, finest)| {
            write!(f, "sealed file {number:08}: {rows} rows, {bytes} bytes")?;
            match finest {
                Tier::Raw => writeln!(f),
                finest => writeln!(f, ", rollups from {} on", finest.as_str()),
            }
        })?;
        self.cold
            .iter()
            .try_for_each(|(path, rows, bytes)| writeln!(f, "{}: {rows} rows, {bytes} bytes", path.display()))
    }
}

/// The manifest of a closed store.
pub fn contents(files: &dyn FileSystem, dir: &Path) -> Result<Contents, StoreError> {
    Ok(Manifest::open_existing(files, dir)?.1)
}

/// What the manifest of a closed store says.
///
/// # Errors
/// There is no store, it is open elsewhere, or its manifest is damaged.
pub fn inspect(dir: &Path) -> Result<Inspection, StoreError> {
    let contents = contents(&RealFiles, dir)?;
    Ok(Inspection {
        agents: contents.checkpoint.ledgers.agents().len(),
        series: contents.names.len(),
        files: contents
            .files
            .iter()
            .map(|file| (file.number, file.rows, file.bytes(), Tier::from(file.finest)))
            .collect(),
        cold: contents.cold.iter().map(|entry| (entry.name(), entry.rows, entry.print.0)).collect(),
        oldest_segment: contents.checkpoint.oldest_segment,
    })
}

/// Whether a sealed file is what the manifest says, and its rollup that of its readings (INV-9).
pub fn verify_file(format: &dyn SealedFormat, dir: &Path, file: &FileEntry) -> Result<(), String> {
    let (raw, rollup) = sealed_paths(dir, file.number);
    let text = |error: ReadError| error.to_string();
    if !file.is_whole() {
        return verify_thinned(format, &rollup, file);
    }
    let directory = format.directory(&raw, file.number).map_err(text)?;
    let rollups = format.directory(&rollup, file.number).map_err(text)?;
    if directory.rows() != file.rows {
        return Err(format!("it has {} rows, listed are {}", directory.rows(), file.rows));
    }
    let known = |directory: &Directory| -> Vec<(SeriesId, u64)> {
        directory.series().map(|entry| (entry.series, entry.rows)).collect()
    };
    if known(&directory) != known(&rollups) {
        return Err("its rollup is of other readings".to_owned());
    }
    for (entry, rolled) in directory.series().zip(rollups.series()) {
        let mut rows = Rows::default();
        for block in directory.blocks(&entry, Level::Raw) {
            let part = format.read_rows(&raw, &block).map_err(text)?;
            rows.extend(&part.times, &part.values, &part.boxes);
        }
        let series = entry.series;
        if rows.times.len() as u64 != entry.rows {
            return Err(format!("series {series} has {} rows, listed are {}", rows.times.len(), entry.rows));
        }
        if !rows.times.is_sorted() {
            return Err(format!("series {series} is not sorted by time"));
        }
        for level in LEVELS.into_iter().filter(|level| rolled.has(*level)) {
            let mut found = Vec::new();
            for block in rollups.blocks(&rolled, level) {
                found.extend(format.read_rolls(&rollup, &block, level).map_err(text)?);
            }
            if !is_rollup(&found, &rows, level.width_ns()) {
                return Err(format!("the rollup of series {series} is not that of its readings"));
            }
            if level == Level::Raw.figured() && rolled.is_figured() {
                let figures = figures_of(format, &rollup, (&rollups, &rolled)).map_err(text)?;
                if !are_figures(&figures, &found, &rows) {
                    return Err(format!("the figures of series {series} are not those of its readings"));
                }
            }
        }
        if rolled.is_figured() && !rolled.has(Level::Raw.figured()) {
            return Err(format!("the figures of series {series} are of no buckets"));
        }
    }
    Ok(())
}

fn figures_of(
    format: &dyn SealedFormat,
    rollup: &Path,
    (directory, entry): (&Directory, &SeriesEntry),
) -> Result<Vec<Figure>, ReadError> {
    let mut found = Vec::new();
    for block in directory.figures(entry) {
        found.extend(format.read_figures(rollup, &block, true)?);
    }
    Ok(found)
}

/// Whether these are the figures of these buckets, of which each has one: sketches to the last number, means as near
/// as additions are.
fn are_figures(found: &[Figure], parts: &[(i64, Aggregate)], rows: &Rows) -> bool {
    let numbers = rows.boxes.numbers(&rows.values);
    let (times, values): (Vec<i64>, Vec<f64>) =
        rows.times.iter().zip(numbers.iter()).filter(|(_, value)| !value.is_nan()).unzip();
    let (mut keys, mut at) = (Vec::new(), 0);
    found.len() == parts.len()
        && found.iter().zip(parts).all(|(figure, (start, part))| {
            let end = at + usize::try_from(part.count).unwrap_or(usize::MAX);
            let (times, values) = (times.get(at..end), values.get(at..end).unwrap_or_default());
            at = end;
            let Some(expected) = times.and_then(|times| Held::of(times, values)) else { return false };
            let mut sketch = Sketch::default();
            sketch.add(values, &mut keys);
            let size = part.min.abs().max(part.max.abs());
            #[expect(clippy::cast_precision_loss, reason = "a bound")]
            let bound = 1e-12 * size * part.count as f64;
            let held = figure.held(part);
            let near = (held.mean - expected.mean).abs() <= bound || !bound.is_finite();
            figure.start_ns == *start && figure.sketch == sketch && near && !held.near
        })
}

/// Whether the coarser levels of a file without readings are those of its finest, and that has all readings.
fn verify_thinned(format: &dyn SealedFormat, rollup: &Path, file: &FileEntry) -> Result<(), String> {
    let text = |error: ReadError| error.to_string();
    let directory = format.directory(rollup, file.number).map_err(text)?;
    if directory.rows() != file.rows {
        return Err(format!("it is of {} readings, listed are {}", directory.rows(), file.rows));
    }
    for entry in directory.series() {
        let series = entry.series;
        let level_of = |level: Level| {
            let mut found = Vec::new();
            for block in directory.blocks(&entry, level) {
                found.extend(format.read_rolls(rollup, &block, level).map_err(text)?);
            }
            Ok::<_, String>(found)
        };
        let finest = level_of(file.finest)?;
        if !finest.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(format!("the buckets of series {series} are not in order"));
        }
        let rows: u64 = finest.iter().map(|(_, part)| part.count).sum();
        // Readings that are no numbers are in no bucket.
        if rows > entry.rows {
            return Err(format!("series {series} is of {rows} readings, listed are {}", entry.rows));
        }
        if LEVELS.into_iter().any(|level| level < file.finest && entry.has(level)) {
            return Err(format!("series {series} has a finer level than the file is listed with"));
        }
        for level in LEVELS.into_iter().filter(|level| *level > file.finest && entry.has(*level)) {
            let mut expected = Buckets::new(level.width_ns());
            finest.iter().for_each(|(start, part)| expected.add(*start, part));
            let found = level_of(level)?;
            #[expect(clippy::cast_precision_loss, reason = "a bound")]
            let size = |part: &Aggregate| part.count as f64 * part.min.abs().max(part.max.abs());
            let same = expected.iter().count() == found.len()
                && expected
                    .iter()
                    .zip(&found)
                    .all(|((at, a), (start, b))| at == *start && is_same(a, b, size(a)));
            if !same {
                return Err(format!("the levels of series {series} contradict each other"));
            }
        }
        let parts: BTreeMap<i64, Aggregate> = level_of(file.finest.figured())?.into_iter().collect();
        let figures = figures_of(format, rollup, (&directory, &entry)).map_err(text)?;
        // Of what is of a file of an older version there is none.
        let good = |figure: &Figure| parts.get(&figure.start_ns).is_some_and(|part| is_of(figure, part));
        if !figures.iter().all(good) || !figures.is_sorted_by(|a, b| a.start_ns < b.start_ns) {
            return Err(format!("the figures of series {series} are not those of its buckets"));
        }
    }
    Ok(())
}

/// Whether a figure can be that of a bucket whose readings are gone.
fn is_of(figure: &Figure, part: &Aggregate) -> bool {
    let mean = figure.held(part).mean;
    figure.sketch.count() == part.count
        && figure.sketch.spans(part.min, part.max)
        && (mean.is_nan() || (part.min..=part.max).contains(&mean))
}

fn is_rollup(found: &[(i64, Aggregate)], rows: &Rows, width_ns: i64) -> bool {
    let (mut expected, mut sizes) = (Buckets::new(width_ns), Buckets::new(width_ns));
    let numbers = rows.boxes.numbers(&rows.values);
    expected.add_rows(&rows.times, &numbers);
    let values: Vec<f64> = numbers.iter().map(|value| value.abs()).collect();
    sizes.add_rows(&rows.times, &values);
    expected.iter().count() == found.len()
        && expected
            .iter()
            .zip(sizes.iter())
            .zip(found)
            .all(|(((start, a), (_, size)), (at, b))| start == *at && is_same(a, b, size.sum))
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
