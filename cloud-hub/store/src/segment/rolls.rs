//! Blocks of rollups: what is known of the readings of one series in buckets of one width.
//!
//! ```text
//! for each column: its length as a varint, then as `column` has it
//! starts, counts, first times - starts, ends - last times        integers, ns
//! then with form 16 to 25, as integers of so many decimals more than 16:
//!     first - last of the bucket before it (the first one's as it is), lesser of first and last - min,
//!     max - greater of first and last, last - first, sum - half of count * (min + max), rounded down
//! or with form 0 to 9, which was written once, as integers of so many decimals:
//!     first, min - first, max - first, last - first, sum - count * first
//! or with 255, as doubles:
//!     first, min, max, last, sum
//! ```
//! The byte of the form stands before all. Each number is told by those that it is near: a series that rises or falls
//! throughout a bucket has its ends as its extremes, and the next bucket begins where this one ends. On a truck's fields
//! every ten seconds that takes 0.41 B a reading in place of 0.53. The sum of decimals is that of the numbers as they are
//! written, of which the sum of doubles is a little off: it is rounded to as many places where that is within what the
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
// The form of blocks whose buckets are told by their neighbours is so much more than the places.
const NEAR: u8 = 16;
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

/// First, last, min, max and sum of one bucket as integers.
#[derive(Debug, Clone, Copy)]
struct Whole {
    first: i64,
    last: i64,
    min: i64,
    max: i64,
    sum: i64,
}

impl Whole {
    fn of(part: &Aggregate, power: f64) -> Option<Self> {
        let whole = |value| exact_integer(value, power);
        let (first, last) = (whole(part.first)?, whole(part.last)?);
        Some(Self { first, last, min: whole(part.min)?, max: whole(part.max)?, sum: exact_sum(part, power)? })
    }

    /// What is told of it behind a bucket that ends with `before`; the reverse of [`Whole::near`]. All are exact integers of
    /// doubles, below 2^53, so that only the product can be too great.
    fn told(&self, before: i64, count: i64) -> Option<[i64; 5]> {
        let half = count.checked_mul(self.min + self.max)? >> 1;
        Some([
            self.first - before,
            self.first.min(self.last) - self.min,
            self.max - self.first.max(self.last),
            self.last - self.first,
            self.sum.checked_sub(half)?,
        ])
    }

    /// What a damaged block tells may be beyond all integers, and is some other number then.
    fn near([first, below, above, last, sum]: [i64; 5], before: i64, count: i64) -> Self {
        let first = before.wrapping_add(first);
        let last = first.wrapping_add(last);
        let (min, max) = (first.min(last).wrapping_sub(below), first.max(last).wrapping_add(above));
        let half = count.wrapping_mul(min.wrapping_add(max)) >> 1;
        Self { first, last, min, max, sum: half.wrapping_add(sum) }
    }
}

/// With how many places all buckets are integers, and the columns that tell them.
fn integers(rolls: &[Roll]) -> Option<(u8, [Vec<i64>; 5])> {
    let places = rolls.iter().try_fold(0_u8, |places, roll| Some(places.max(roll.places?)))?;
    let power = power_of_ten(places.min(DECIMALS_MAX))?;
    let mut out: [Vec<i64>; 5] = std::array::from_fn(|_| Vec::with_capacity(rolls.len()));
    let mut before = 0;
    for Roll { part, .. } in rolls {
        let whole = Whole::of(part, power)?;
        let row = whole.told(before, i64::try_from(part.count).ok()?)?;
        before = whole.last;
        out.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    Some((places, out))
}

/// Writes a block of buckets of one width.
pub fn write(out: &mut Vec<u8>, rolls: &[Roll], width_ns: i64) {
    let numbers = integers(rolls);
    out.push(numbers.as_ref().map_or(DOUBLES, |(places, _)| NEAR + places));
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
fn read_numbers(columns: &mut &[u8], form: u8, counts: &[i64]) -> Result<[Vec<f64>; 5], ColumnError> {
    let len = counts.len();
    let mut out: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
    if form == DOUBLES {
        for values in &mut out {
            *values = read_values(take_column(columns)?, len)?;
        }
        return Ok(out);
    }
    let places = places_of_form(form).unwrap_or(form);
    let power = power_of_ten(places).ok_or(ColumnError::Malformed("a rollup's form is unknown"))?;
    let mut integers = || read_integers(take_column(columns)?, len);
    let told = [integers()?, integers()?, integers()?, integers()?, integers()?];
    let [firsts, mins, maxes, lasts, sums] = &told;
    let columns = firsts.iter().zip(mins).zip(maxes.iter().zip(lasts)).zip(sums.iter().zip(counts));
    out.iter_mut().for_each(|values| values.reserve_exact(len));
    let mut before = 0;
    for (((first, min), (max, last)), (sum, count)) in columns {
        let row = [*first, *min, *max, *last, *sum];
        let Whole { first, last, min, max, sum } =
            if form < NEAR { by_first(row, *count) } else { Whole::near(row, before, *count) };
        before = last;
        let row = [first, min, max, last, sum].map(|integer| decimal(integer, power));
        out.iter_mut().zip(row).for_each(|(values, value)| values.push(value));
    }
    Ok(out)
}

/// A bucket of the form that was written once.
const fn by_first([first, min, max, last, sum]: [i64; 5], count: i64) -> Whole {
    Whole {
        first,
        last: first.wrapping_add(last),
        min: first.wrapping_add(min),
        max: first.wrapping_add(max),
        sum: first.wrapping_mul(count).wrapping_add(sum),
    }
}

/// How many places the integers of a block have; none where it has doubles.
fn places_of_form(form: u8) -> Option<u8> {
    (form != DOUBLES).then(|| form.checked_sub(NEAR).unwrap_or(form))
}

/// Reads a block of `len` buckets of one width, as their starts and what is known of them.
///
/// # Errors
/// It is not a block of so many.
pub fn read(block: &[u8], len: usize, width_ns: i64) -> Result<Vec<(i64, Aggregate)>, ColumnError> {
    let (form, rest) = block.split_first().ok_or(CUT)?;
    let mut columns = rest;
    if len > BLOCK_ROWS {
        return Err(ColumnError::Malformed("a block of a rollup has too many rows"));
    }
    let mut integers = || read_integers(take_column(&mut columns)?, len);
    let (starts, counts, firsts, lasts) = (integers()?, integers()?, integers()?, integers()?);
    let [first, min, max, last, sum] = read_numbers(&mut columns, *form, &counts)?;
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
    let places = block.first().copied().and_then(places_of_form);
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

    #[test]
    fn the_form_that_was_written_once_is_read() {
        let rolls = rolls(&[(0, 1.5), (1, -2.5), (2, 0.5), (MINUTE_NS, 7.0), (MINUTE_NS + 1, 9.5)]);
        let mut block = vec![1];
        let columns: [&[i64]; 9] = [
            &[0, MINUTE_NS],
            &[3, 2],
            &[0, 0],
            &[MINUTE_NS - 3, MINUTE_NS - 2],
            &[15, 70],
            &[-40, 0],
            &[0, 25],
            &[-10, 25],
            &[-50, 25],
        ];
        columns.iter().for_each(|column| put_column(&mut block, |out| write_integers(out, column)));
        assert_eq!(read_again(&block, 2, MINUTE_NS).unwrap(), rolls);
    }

    #[test]
    fn what_rises_throughout_has_nothing_but_its_ends() {
        let rows: Vec<(i64, f64)> = (0..6_000_i32)
            .map(|n| (i64::from(n) * 10_000_000_000, f64::from(n * n % 977 + n * 1_000) / 1e5))
            .collect();
        let rolls = rolls(&rows);
        let (_, [_, below, above, ..]) = integers(&rolls).unwrap();
        assert_eq!((below, above), (vec![0; rolls.len()], vec![0; rolls.len()]));
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
