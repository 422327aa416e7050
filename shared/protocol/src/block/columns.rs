//! Columns of a block: how times and values become bytes.
//!
//! Values go in groups of consecutive series, long enough that the codec's table of bins pays.
//! Each group begins with a form byte:
//!
//! ```text
//! 0..=9   decimals: each value is an integer divided by 10^form. One chunk of the series' first
//!         integers, and one of the differences that follow them, series after series.
//! 16      doubles as they are: one chunk.
//! ```
//! Decimals are taken only where dividing gives back the very same bits, so that a value survives
//! bit for bit (NaN payloads and negative zero included, by the second form).

use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::{BlockError, Column, Input, varint};

/// A group is closed once it has so many rows.
const GROUP_ROWS: usize = 8192;
/// Most decimal places that are tried.
pub(super) const DECIMALS_MAX: u8 = 9;
/// Doubles hold integers up to here exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const FORM_DOUBLES: u8 = 16;
/// A level above costs time and was measured to gain under one percent on sensor data.
const LEVEL: usize = 8;

const POWERS: [f64; DECIMALS_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// 10 to the `places`, up to [`DECIMALS_MAX`].
pub(super) fn power_of_ten(places: u8) -> Option<f64> {
    POWERS.get(usize::from(places)).copied()
}

/// What is known of a chunk's numbers, so that the codec need not search.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Row counts.
    Counts,
    /// Times: mostly constant steps.
    Times,
    /// Integers that neighbours say nothing of, or differences already taken.
    Residuals,
    /// Doubles.
    Doubles,
}

impl Shape {
    fn config(self) -> ChunkConfig {
        let config = ChunkConfig::default().with_compression_level(LEVEL);
        match self {
            Self::Counts => config.with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::NoOp),
            Self::Residuals => config.with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::NoOp),
            Self::Times => config,
            Self::Doubles => config,
        }
    }
}

/// Writes numbers as a chunk.
#[expect(
    clippy::expect_used,
    reason = "our own settings are within the codec's limits, and a Vec takes all bytes"
)]
pub(super) fn write_chunk<T: Number>(out: &mut Vec<u8>, numbers: &[T], shape: Shape) {
    if numbers.is_empty() {
        return varint(out, 0);
    }
    let bytes = simple_compress(numbers, &shape.config()).expect("valid settings");
    varint(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
}

/// Reads a chunk of exactly `len` numbers; what it allocates is bounded by `len`, not by the bytes.
pub(super) fn read_chunk<T: Number + Default>(
    input: &mut Input<'_>,
    len: usize,
) -> Result<Vec<T>, BlockError> {
    let bytes = input.chunk()?;
    let mut numbers = vec![T::default(); len];
    if len == 0 {
        return if bytes.is_empty() {
            Ok(numbers)
        } else {
            Err(BlockError::Malformed("an empty column has bytes"))
        };
    }
    let progress =
        simple_decompress_into(bytes, &mut numbers).map_err(|e| BlockError::Column(e.to_string()))?;
    if progress.n_processed != len {
        return Err(BlockError::Malformed("a column is shorter than its rows"));
    }
    Ok(numbers)
}

/// Writes each different time column once.
pub(super) fn write_times(out: &mut Vec<u8>, columns: &[&Column]) {
    let mut distinct: Vec<&[i64]> = Vec::new();
    let mut index = std::collections::HashMap::new();
    let refs: Vec<usize> = columns
        .iter()
        .map(|column| {
            *index.entry(column.times.as_slice()).or_insert_with(|| {
                distinct.push(&column.times);
                distinct.len() - 1
            })
        })
        .collect();
    varint(out, distinct.len() as u64);
    if distinct.len() > 1 {
        refs.iter().for_each(|r| varint(out, *r as u64));
    }
    write_chunk(out, &distinct.concat(), Shape::Times);
}

/// Reads the times of each series.
pub(super) fn read_times(input: &mut Input<'_>, lengths: &[usize]) -> Result<Vec<Vec<i64>>, BlockError> {
    let distinct = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
    if distinct > lengths.len() {
        return Err(BlockError::Malformed("there are more time columns than series"));
    }
    let mut refs = vec![0_usize; lengths.len()];
    if distinct > 1 {
        for r in &mut refs {
            *r = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
        }
    }
    let mut sizes = vec![None; distinct];
    for (r, len) in refs.iter().zip(lengths) {
        let size = sizes
            .get_mut(*r)
            .ok_or(BlockError::Malformed("a series names a time column that is not there"))?;
        if *size.get_or_insert(*len) != *len {
            return Err(BlockError::Malformed("series of different lengths share a time column"));
        }
    }
    let total: usize = sizes.iter().flatten().sum();
    let all: Vec<i64> = read_chunk(input, total)?;
    let mut rest = all.as_slice();
    let mut parts = Vec::with_capacity(distinct);
    for size in sizes {
        let (part, after) =
            rest.split_at_checked(size.unwrap_or(0)).ok_or(BlockError::Malformed("times end early"))?;
        parts.push(part);
        rest = after;
    }
    Ok(refs.iter().map(|r| parts.get(*r).map_or_else(Vec::new, |part| part.to_vec())).collect())
}

/// Consecutive series whose rows reach [`GROUP_ROWS`] together; both ends cut alike.
fn groups(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut out, mut count, mut rows) = (Vec::new(), 0, 0);
    for len in lengths {
        count += 1;
        rows += len;
        if rows >= GROUP_ROWS {
            out.push(count);
            (count, rows) = (0, 0);
        }
    }
    if count > 0 {
        out.push(count);
    }
    out
}

/// Writes the values, group after group.
pub(super) fn write_values(out: &mut Vec<u8>, columns: &[&Column]) {
    let mut rest = columns;
    for count in groups(columns.iter().map(|column| column.values.len())) {
        let (group, after) = rest.split_at(count);
        rest = after;
        write_group(out, group);
    }
}

fn write_group(out: &mut Vec<u8>, group: &[&Column]) {
    match (0..=DECIMALS_MAX).find_map(|places| integers(group, places)) {
        Some((places, firsts, differences)) => {
            out.push(places);
            write_chunk(out, &firsts, Shape::Residuals);
            write_chunk(out, &differences, Shape::Residuals);
        }
        None => {
            out.push(FORM_DOUBLES);
            let all: Vec<f64> = group.iter().flat_map(|column| column.values.iter().copied()).collect();
            write_chunk(out, &all, Shape::Doubles);
        }
    }
}

/// The group's values as integers of `places` decimals: the firsts and the differences.
fn integers(group: &[&Column], places: u8) -> Option<(u8, Vec<i64>, Vec<i64>)> {
    let power = power_of_ten(places)?;
    let (mut firsts, mut differences) = (Vec::with_capacity(group.len()), Vec::new());
    for column in group {
        let mut previous = None;
        for value in &column.values {
            let integer = exact_integer(*value, power)?;
            match previous {
                None => firsts.push(integer),
                Some(previous) => differences.push(integer - previous),
            }
            previous = Some(integer);
        }
    }
    Some((places, firsts, differences))
}

/// The integer that divided by `power` gives the very same bits.
pub(super) fn exact_integer(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round();
    if !(-EXACT_MAX..=EXACT_MAX).contains(&scaled) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the exact range")]
    let integer = scaled as i64;
    (decimal(integer, power).to_bits() == value.to_bits()).then_some(integer)
}

/// Reads the values of each series.
pub(super) fn read_values(input: &mut Input<'_>, lengths: &[usize]) -> Result<Vec<Vec<f64>>, BlockError> {
    let mut out = Vec::with_capacity(lengths.len());
    let mut rest = lengths;
    for count in groups(lengths.iter().copied()) {
        let (group, after) = rest.split_at_checked(count).ok_or(BlockError::Malformed("a group overruns"))?;
        rest = after;
        read_group(input, group, &mut out)?;
    }
    Ok(out)
}

fn read_group(input: &mut Input<'_>, lengths: &[usize], out: &mut Vec<Vec<f64>>) -> Result<(), BlockError> {
    let form = input.byte()?;
    if form == FORM_DOUBLES {
        let all: Vec<f64> = read_chunk(input, lengths.iter().sum())?;
        let mut rest = all.into_iter();
        out.extend(lengths.iter().map(|len| rest.by_ref().take(*len).collect::<Vec<_>>()));
        return Ok(());
    }
    let power = power_of_ten(form).ok_or(BlockError::Malformed("a group has an unknown form"))?;
    let filled = lengths.iter().filter(|len| **len > 0).count();
    let firsts: Vec<i64> = read_chunk(input, filled)?;
    let differences: Vec<i64> = read_chunk(input, lengths.iter().map(|len| len.saturating_sub(1)).sum())?;
    let (mut firsts, mut differences) = (firsts.into_iter(), differences.into_iter());
    for len in lengths {
        let mut values = Vec::with_capacity(*len);
        if *len > 0 {
            let mut integer = firsts.next().unwrap_or(0);
            values.push(decimal(integer, power));
            for difference in differences.by_ref().take(len - 1) {
                // A hostile block may overflow; it then holds wrong numbers, which is its right.
                integer = integer.wrapping_add(difference);
                values.push(decimal(integer, power));
            }
        }
        out.push(values);
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a well-formed block holds integers within the exact range only"
)]
pub(super) fn decimal(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}
