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

use super::decimals::{DECIMALS_MAX, decimal, exact_integer, power_of_ten};
use super::{BlockError, Input, varint};

/// A group is closed once it has so many rows.
const GROUP_ROWS: usize = 8192;
const FORM_DOUBLES: u8 = 16;
/// A level above costs time and was measured to gain under one percent on sensor data.
const LEVEL: usize = 8;

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

/// Writes each different time column once. A series has the one of `columns` that `refs` names, and they
/// stand in the order in which the series need them.
pub(super) fn write_times(out: &mut Vec<u8>, columns: &[&[i64]], refs: &[usize]) {
    let mut distinct: Vec<&[i64]> = Vec::new();
    let mut index = std::collections::HashMap::new();
    let places: Vec<usize> = columns
        .iter()
        .map(|times| {
            *index.entry(*times).or_insert_with(|| {
                distinct.push(times);
                distinct.len() - 1
            })
        })
        .collect();
    varint(out, distinct.len() as u64);
    if distinct.len() > 1 {
        let places = refs.iter().map(|r| places.get(*r).copied().unwrap_or(0));
        places.for_each(|place| varint(out, place as u64));
    }
    match distinct.as_slice() {
        [one] => write_chunk(out, one, Shape::Times),
        all => write_chunk(out, &all.concat(), Shape::Times),
    }
}

/// The times of a block's series, each different column once.
#[derive(Debug)]
pub(super) struct Times {
    all: Vec<i64>,
    // Where each column ends.
    ends: Vec<usize>,
    // Which column each series has; empty when there is but one.
    refs: Vec<usize>,
}

impl Times {
    /// All series have this time and no other.
    pub(super) fn of_all(time_ns: i64) -> Self {
        Self { all: vec![time_ns], ends: vec![1], refs: Vec::new() }
    }

    /// Whether all series have the same times.
    pub(super) const fn are_shared(&self) -> bool {
        self.refs.is_empty()
    }

    /// The times of the series at this place.
    pub(super) fn of(&self, series: usize) -> &[i64] {
        let at = self.refs.get(series).copied().unwrap_or(0);
        let from = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let to = self.ends.get(at).copied().unwrap_or(0);
        self.all.get(from..to).unwrap_or_default()
    }
}

/// Reads the times of series that have so many rows.
pub(super) fn read_times(input: &mut Input<'_>, lengths: &[usize]) -> Result<Times, BlockError> {
    let distinct = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
    if distinct > lengths.len() {
        return Err(BlockError::Malformed("there are more time columns than series"));
    }
    let mut refs = Vec::new();
    if distinct > 1 {
        refs.reserve_exact(lengths.len());
        for _ in lengths {
            refs.push(usize::try_from(input.varint()?).unwrap_or(usize::MAX));
        }
    }
    let mut sizes = vec![None; distinct];
    for (at, len) in lengths.iter().enumerate() {
        let size = sizes
            .get_mut(refs.get(at).copied().unwrap_or(0))
            .ok_or(BlockError::Malformed("a series names a time column that is not there"))?;
        if *size.get_or_insert(*len) != *len {
            return Err(BlockError::Malformed("series of different lengths share a time column"));
        }
    }
    let mut total = 0;
    let ends = sizes.into_iter().map(|size| {
        total += size.unwrap_or(0);
        total
    });
    let ends = ends.collect();
    Ok(Times { all: read_chunk(input, total)?, ends, refs })
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

/// Writes the values of series that have so many rows, group after group; `fill` adds those of the series
/// at a place.
pub(super) fn write_values(out: &mut Vec<u8>, lengths: &[usize], mut fill: impl FnMut(usize, &mut Vec<f64>)) {
    let (mut values, mut next, mut rest) = (Vec::new(), 0, lengths);
    for count in groups(lengths.iter().copied()) {
        values.clear();
        (next..next + count).for_each(|at| fill(at, &mut values));
        let (group, after) = rest.split_at(count);
        write_group(out, &values, group);
        (next, rest) = (next + count, after);
    }
}

fn write_group(out: &mut Vec<u8>, values: &[f64], lengths: &[usize]) {
    match (0..=DECIMALS_MAX).find_map(|places| integers(values, lengths, places)) {
        Some((places, firsts, differences)) => {
            out.push(places);
            write_chunk(out, &firsts, Shape::Residuals);
            write_chunk(out, &differences, Shape::Residuals);
        }
        None => {
            out.push(FORM_DOUBLES);
            write_chunk(out, values, Shape::Doubles);
        }
    }
}

/// The group's values as integers of `places` decimals: the firsts and the differences.
fn integers(values: &[f64], lengths: &[usize], places: u8) -> Option<(u8, Vec<i64>, Vec<i64>)> {
    let power = power_of_ten(places)?;
    let (mut firsts, mut differences) = (Vec::with_capacity(lengths.len()), Vec::new());
    let mut rest = values;
    for len in lengths {
        let (column, after) = rest.split_at_checked(*len)?;
        rest = after;
        let Some((first, others)) = column.split_first() else { continue };
        let mut previous = exact_integer(*first, power)?;
        firsts.push(previous);
        for value in others {
            let integer = exact_integer(*value, power)?;
            differences.push(integer - previous);
            previous = integer;
        }
    }
    Some((places, firsts, differences))
}

/// Reads the values of series that have so many rows; `take` gets those of one after the other.
pub(super) fn read_values(
    input: &mut Input<'_>,
    lengths: &[usize],
    take: &mut impl FnMut(&[f64]),
) -> Result<(), BlockError> {
    let mut rest = lengths;
    for count in groups(lengths.iter().copied()) {
        let (group, after) = rest.split_at_checked(count).ok_or(BlockError::Malformed("a group overruns"))?;
        rest = after;
        read_group(input, group, take)?;
    }
    Ok(())
}

fn read_group(
    input: &mut Input<'_>,
    lengths: &[usize],
    take: &mut impl FnMut(&[f64]),
) -> Result<(), BlockError> {
    let overrun = BlockError::Malformed("a group overruns");
    let form = input.byte()?;
    if form == FORM_DOUBLES {
        let all: Vec<f64> = read_chunk(input, lengths.iter().sum())?;
        let mut rest = all.as_slice();
        for len in lengths {
            let (own, after) = rest.split_at_checked(*len).ok_or_else(|| overrun.clone())?;
            rest = after;
            take(own);
        }
        return Ok(());
    }
    let power = power_of_ten(form).ok_or(BlockError::Malformed("a group has an unknown form"))?;
    let filled = lengths.iter().filter(|len| **len > 0).count();
    let firsts: Vec<i64> = read_chunk(input, filled)?;
    let differences: Vec<i64> = read_chunk(input, lengths.iter().map(|len| len.saturating_sub(1)).sum())?;
    let (mut firsts, mut rest, mut values) = (firsts.into_iter(), differences.as_slice(), Vec::new());
    for len in lengths {
        values.clear();
        if *len > 0 {
            let mut integer = firsts.next().unwrap_or(0);
            let (own, after) = rest.split_at_checked(len - 1).ok_or_else(|| overrun.clone())?;
            rest = after;
            values.push(decimal(integer, power));
            values.extend(own.iter().map(|difference| {
                // A hostile block may overflow; it then holds wrong numbers, which is its right.
                integer = integer.wrapping_add(*difference);
                decimal(integer, power)
            }));
        }
        take(&values);
    }
    Ok(())
}
