//! Blocks of rollups: what is known of the readings of one series in buckets of one width.
//!
//! ```text
//! for each column: its length as a varint, then as `column` has it
//! starts, counts, first times - starts, ends - last times        integers, ns
//! then with places 0 to 9, as integers of so many decimals:
//!     first, min - first, max - first, last - first, sum - count * first
//! or with 255, as doubles:
//!     first, min, max, last, sum
//! ```
//! The byte of places stands before all. The sum of decimals is that of the numbers as they are written, of
//! which the sum of doubles is a little off: it is rounded to as many places where that is within what the
//! additions can have cost.

use crate::buckets::Aggregate;
use crate::column::{
    ColumnError, decimals, put_column, read_integers, read_values, take_column, write_integers, write_values,
};
use tideline_protocol::block::decimals::{DECIMALS_MAX, decimal, exact_integer, power_of_ten};

use super::BLOCK_ROWS;

/// What is known of one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roll {
    /// Where it begins, ns.
    pub start_ns: i64,
    /// What is known of its readings.
    pub part: Aggregate,
    /// With how many places all its readings are decimals.
    pub places: Option<u8>,
}

const DOUBLES: u8 = 255;
const CUT: ColumnError = ColumnError::Malformed("a block of a rollup is cut");

/// The last time of a bucket; that of the last bucket that there is ends before its end.
const fn end_of(start_ns: i64, width_ns: i64) -> i64 {
    // A bucket that begins before all times starts at the first of them.
    start_ns.saturating_add(width_ns - 1)
}

/// The sum as an integer of so many places, when it can be told from its neighbours.
fn exact_sum(part: &Aggregate, power: f64) -> Option<i64> {
    let size = part.min.abs().max(part.max.abs());
    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    let count = part.count as f64;
    // Each addition rounds by half a unit in the last place of a sum that is no larger than this.
    let error = count * count * size * f64::EPSILON;
    if error * power >= 0.25 {
        return None;
    }
    let rounded = (part.sum * power).round() / power;
    exact_integer(rounded, power)
}

/// First, min, max, last and sum as integers; the others relative to the first.
fn integers(rolls: &[Roll]) -> Option<(u8, [Vec<i64>; 5])> {
    let places = rolls.iter().try_fold(0_u8, |places, roll| Some(places.max(roll.places?)))?;
    let power = power_of_ten(places.min(DECIMALS_MAX))?;
    let mut out: [Vec<i64>; 5] = std::array::from_fn(|_| Vec::with_capacity(rolls.len()));
    for Roll { part, .. } in rolls {
        let first = exact_integer(part.first, power)?;
        let count = i64::try_from(part.count).ok()?;
        let mut row = [first; 5];
        let others = [part.min, part.max, part.last].map(|value| exact_integer(value, power));
        for (place, other) in row.iter_mut().skip(1).zip(others) {
            *place = other? - first;
        }
        if let Some(sum) = row.last_mut() {
            *sum = exact_sum(part, power)?.checked_sub(count.checked_mul(first)?)?;
        }
        out.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    Some((places, out))
}

/// Writes a block of buckets of one width.
pub fn write(out: &mut Vec<u8>, rolls: &[Roll], width_ns: i64) {
    let numbers = integers(rolls);
    out.push(numbers.as_ref().map_or(DOUBLES, |(places, _)| *places));
    let times = |of: fn(&Roll, i64) -> i64| rolls.iter().map(|roll| of(roll, width_ns)).collect::<Vec<_>>();
    for of in [
        |roll: &Roll, _| roll.start_ns,
        |roll: &Roll, _| i64::try_from(roll.part.count).unwrap_or(i64::MAX),
        |roll: &Roll, _| roll.part.first_ns.wrapping_sub(roll.start_ns),
        |roll: &Roll, width_ns| end_of(roll.start_ns, width_ns).wrapping_sub(roll.part.last_ns),
    ] {
        put_column(out, |out| write_integers(out, &times(of)));
    }
    if let Some((_, columns)) = numbers {
        columns.iter().for_each(|numbers| put_column(out, |out| write_integers(out, numbers)));
        return;
    }
    for of in [
        |part: &Aggregate| part.first,
        |part: &Aggregate| part.min,
        |part: &Aggregate| part.max,
        |part: &Aggregate| part.last,
        |part: &Aggregate| part.sum,
    ] {
        let values: Vec<f64> = rolls.iter().map(|roll| of(&roll.part)).collect();
        put_column(out, |out| {
            write_values(out, &values);
        });
    }
}

/// First, min, max, last and sum of each bucket.
fn read_numbers(columns: &mut &[u8], places: u8, counts: &[i64]) -> Result<[Vec<f64>; 5], ColumnError> {
    let len = counts.len();
    let mut out: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
    if places == DOUBLES {
        for values in &mut out {
            *values = read_values(take_column(columns)?, len)?;
        }
        return Ok(out);
    }
    let power = power_of_ten(places).ok_or(ColumnError::Malformed("a rollup's form is unknown"))?;
    let firsts = read_integers(take_column(columns)?, len)?;
    let value = |integer| decimal(integer, power);
    let [first, rest @ .., sum] = &mut out;
    *first = firsts.iter().copied().map(value).collect();
    for values in rest {
        let relative = read_integers(take_column(columns)?, len)?;
        *values = relative.iter().zip(&firsts).map(|(n, first)| value(first.wrapping_add(*n))).collect();
    }
    let relative = read_integers(take_column(columns)?, len)?;
    let sums = relative.iter().zip(&firsts).zip(counts);
    *sum = sums.map(|((n, first), count)| value(first.wrapping_mul(*count).wrapping_add(*n))).collect();
    Ok(out)
}

/// Reads a block of `len` buckets of one width, as their starts and what is known of them.
///
/// # Errors
/// It is not a block of so many.
pub fn read(block: &[u8], len: usize, width_ns: i64) -> Result<Vec<(i64, Aggregate)>, ColumnError> {
    let (places, rest) = block.split_first().ok_or(CUT)?;
    let mut columns = rest;
    if len > BLOCK_ROWS {
        return Err(ColumnError::Malformed("a block of a rollup has too many rows"));
    }
    let mut integers = || read_integers(take_column(&mut columns)?, len);
    let (starts, counts, firsts, lasts) = (integers()?, integers()?, integers()?, integers()?);
    let [first, min, max, last, sum] = read_numbers(&mut columns, *places, &counts)?;
    if !columns.is_empty() {
        return Err(CUT);
    }
    let times = starts.iter().zip(&firsts).zip(&lasts);
    let ends = first.iter().zip(&last).zip(min.iter().zip(&max));
    let rolls = times.zip(counts.iter().zip(&sum)).zip(ends);
    let rolls = rolls.map(|((((start, after), before), (count, sum)), ((first, last), (min, max)))| {
        let (first_ns, last_ns) =
            (start.wrapping_add(*after), end_of(*start, width_ns).wrapping_sub(*before));
        let count = count.cast_unsigned();
        let part = Aggregate {
            count,
            min: *min,
            max: *max,
            sum: *sum,
            first: *first,
            last: *last,
            first_ns,
            last_ns,
        };
        (*start, part)
    });
    Ok(rolls.collect())
}

/// Reads a block of `len` buckets of one width with all that writing them again needs.
///
/// # Errors
/// It is not a block of so many.
pub fn read_again(block: &[u8], len: usize, width_ns: i64) -> Result<Vec<Roll>, ColumnError> {
    let places = block.first().copied().filter(|places| *places != DOUBLES);
    let rolls = read(block, len, width_ns)?.into_iter();
    Ok(rolls.map(|(start_ns, part)| Roll { start_ns, part, places }).collect())
}

/// With how many places all numbers among these are decimals.
#[must_use]
pub fn places_of(values: &[f64]) -> Option<u8> {
    let places = |values: &[f64]| decimals(values).map(|(places, _)| places);
    if values.iter().any(|value| value.is_nan()) {
        let numbers: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        return places(&numbers);
    }
    places(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buckets::{Buckets, MINUTE_NS};

    fn rolls(rows: &[(i64, f64)]) -> Vec<Roll> {
        let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
        let mut buckets = Buckets::new(MINUTE_NS);
        buckets.add_rows(&times, &values);
        let places = places_of(&values);
        buckets.iter().map(|(start_ns, part)| Roll { start_ns, part: *part, places }).collect()
    }

    fn same(a: &Aggregate, b: &Aggregate) -> bool {
        let bits = |part: &Aggregate| [part.min, part.max, part.first, part.last].map(f64::to_bits);
        let near = (a.sum - b.sum).abs() <= 1e-9 * a.count as f64 * a.min.abs().max(a.max.abs());
        (a.count, a.first_ns, a.last_ns, bits(a)) == (b.count, b.first_ns, b.last_ns, bits(b))
            && (near || a.sum.to_bits() == b.sum.to_bits() || !b.sum.is_finite())
    }

    #[test]
    fn the_sum_of_decimals_is_the_one_that_people_write() {
        let rows: Vec<(i64, f64)> = (0..60).map(|n| (n * 1_000_000_000, 0.1)).collect();
        let rolls = rolls(&rows);
        assert_ne!(rolls[0].part.sum, 6.0, "sixty additions of a tenth are a little off");
        let mut block = Vec::new();
        write(&mut block, &rolls, MINUTE_NS);
        assert_eq!(read(&block, 1, MINUTE_NS).unwrap()[0].1.sum, 6.0);
    }

    #[test]
    fn a_sum_whose_last_place_cannot_be_told_stays_a_double() {
        let rolls = rolls(&[(0, 9e11), (1, 0.001), (2, 0.001)]);
        let mut block = Vec::new();
        write(&mut block, &rolls, MINUTE_NS);
        assert_eq!(read(&block, 1, MINUTE_NS).unwrap()[0].1, rolls[0].part);
    }

    proptest! {
        #[test]
        fn rolls_read_back(
            rows in prop::collection::vec((-2_000_i64..2_000, -9_999_i32..9_999, 0_usize..40), 1..200),
            doubles in prop::collection::vec(any::<u64>(), 40)
        ) {
            // Some are decimals throughout, others have a few doubles of any kind among them.
            for wild in [false, true] {
                let mut rows: Vec<(i64, f64)> = rows.iter().map(|(time, n, at)| {
                    let value = if wild && *at < 3 { f64::from_bits(doubles[*at]) } else { f64::from(*n) / 100.0 };
                    (time * 1_700_000_000, value)
                }).collect();
                rows.sort_by_key(|row| row.0);
                let rolls = rolls(&rows);
                let mut block = Vec::new();
                write(&mut block, &rolls, MINUTE_NS);
                let found = read(&block, rolls.len(), MINUTE_NS).unwrap();
                prop_assert_eq!(found.len(), rolls.len());
                for ((start_ns, part), roll) in found.iter().zip(&rolls) {
                    prop_assert_eq!(*start_ns, roll.start_ns);
                    prop_assert!(same(&roll.part, part), "{:?} {:?}", roll.part, part);
                }
            }
        }

        #[test]
        fn damage_is_an_error_or_other_numbers_and_no_panic(at: prop::sample::Index, with: u8) {
            let rows: Vec<(i64, f64)> = (0..500_i32).map(|n| (i64::from(n) * 1_000_000_000, f64::from(n % 7))).collect();
            let rolls = rolls(&rows);
            let mut block = Vec::new();
            write(&mut block, &rolls, MINUTE_NS);
            let at = at.index(block.len());
            block[at] ^= with;
            let _ = read(&block, rolls.len(), MINUTE_NS);
            block.truncate(at);
            let _ = read(&block, rolls.len(), MINUTE_NS);
        }
    }
}
