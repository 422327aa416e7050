//! Values of a block as integers of few bytes, kept in memory for who adds up the same readings again: neighbours of a sensor
//! differ by little, so that what the codec needs nanoseconds a value for is there in one or two bytes.
//!
//! This is frame of reference: each value is the block's middle and an offset from it. What is made of them is exact, since
//! they are the integers of decimals.

use tideline_protocol::block::decimals::{decimal, power_of_ten};

use crate::column::ColumnError;

/// Offsets that are added up in 32 bits before the sum is taken on: none of two bytes overflows by so many.
const TOGETHER: usize = 1 << 15;

/// The values of a block: each is `middle + offset`, divided by ten to the power of `places`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrow {
    places: u8,
    middle: i64,
    offsets: Offsets,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Offsets {
    One(Box<[i8]>),
    Two(Box<[i16]>),
    Four(Box<[i32]>),
    Eight(Box<[i64]>),
}

/// What is known of the values of a block, but not which of them came when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their sum: of decimals the exact one, rounded once.
    pub sum: f64,
    /// The first.
    pub first: f64,
    /// The last.
    pub last: f64,
}

impl Narrow {
    /// Of the integers of decimals with so many places.
    #[must_use]
    pub fn new(places: u8, integers: Vec<i64>) -> Self {
        let (min, max) =
            integers.iter().fold((i64::MAX, i64::MIN), |(min, max), i| (min.min(*i), max.max(*i)));
        let middle = i64::try_from(i128::midpoint(min.into(), max.into())).unwrap_or(0);
        // The farthest lies as far from the middle as half of all, one more where that is no whole number.
        let farthest = max.abs_diff(middle).max(min.abs_diff(middle));
        let offset = |integer: &i64| integer.wrapping_sub(middle);
        #[expect(clippy::cast_possible_truncation, reason = "the farthest fits")]
        let offsets = match farthest {
            0..=0x7f => Offsets::One(integers.iter().map(|i| offset(i) as i8).collect()),
            0x80..=0x7fff => Offsets::Two(integers.iter().map(|i| offset(i) as i16).collect()),
            0x8000..=0x7fff_ffff => Offsets::Four(integers.iter().map(|i| offset(i) as i32).collect()),
            _ => return Self { places, middle: 0, offsets: Offsets::Eight(integers.into()) },
        };
        Self { places, middle, offsets }
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.offsets {
            Offsets::One(all) => all.len(),
            Offsets::Two(all) => size_of_val(&**all),
            Offsets::Four(all) => size_of_val(&**all),
            Offsets::Eight(all) => size_of_val(&**all),
        }
    }

    /// What they are in all; none of no values.
    ///
    /// # Errors
    /// Nothing has so many places.
    pub fn total(&self) -> Result<Option<Total>, ColumnError> {
        let power = power_of_ten(self.places).ok_or(ColumnError::Malformed("its form is unknown"))?;
        let (ends, sum, len) = match &self.offsets {
            Offsets::One(all) => (ends(all), sum_32(all), all.len()),
            Offsets::Two(all) => (ends(all), sum_32(all), all.len()),
            Offsets::Four(all) => {
                (ends(all), all.iter().map(|i| i64::from(*i)).sum::<i64>().into(), all.len())
            }
            Offsets::Eight(all) => (ends(all), all.iter().map(|i| i128::from(*i)).sum(), all.len()),
        };
        let Some(ends) = ends else { return Ok(None) };
        let sum = i128::from(self.middle) * i128::try_from(len).unwrap_or(0) + sum;
        #[expect(clippy::cast_precision_loss, reason = "it is rounded as every sum is")]
        let sum = sum as f64 / power;
        // Dividing keeps an order, so that the smallest is that of the integers.
        let [min, max, first, last] = ends.map(|offset| decimal(self.middle.wrapping_add(offset), power));
        Ok(Some(Total { min, max, sum, first, last }))
    }
}

/// The smallest, the largest, the first and the last.
fn ends<T: Copy + Ord + Into<i64>>(all: &[T]) -> Option<[i64; 4]> {
    let (first, last) = (*all.first()?, *all.last()?);
    let (min, max) = all.iter().fold((first, first), |(min, max), i| (min.min(*i), max.max(*i)));
    Some([min, max, first, last].map(Into::into))
}

fn sum_32<T: Copy + Into<i32>>(all: &[T]) -> i128 {
    all.chunks(TOGETHER).map(|part| i128::from(part.iter().map(|i| (*i).into()).sum::<i32>())).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Around some number, by as many bits as are told.
    fn integers() -> impl Strategy<Value = Vec<i64>> {
        let offsets = |bits: u32| {
            let most = i64::MAX >> (63 - bits);
            prop::collection::vec(-most - 1..=most, 1..300)
        };
        (any::<i64>(), 0_u32..=63).prop_flat_map(move |(middle, bits)| {
            offsets(bits).prop_map(move |all| all.iter().map(|i| middle.wrapping_add(*i)).collect())
        })
    }

    proptest! {
        #[test]
        fn the_total_is_that_of_the_values(integers in integers(), places in 0_u8..=9) {
            let power = power_of_ten(places).unwrap();
            let total = Narrow::new(places, integers.clone()).total().unwrap().unwrap();
            let sum: i128 = integers.iter().map(|i| i128::from(*i)).sum();
            let value = |integer: Option<&i64>| decimal(*integer.unwrap(), power);
            prop_assert_eq!(total.sum.to_bits(), (sum as f64 / power).to_bits());
            prop_assert_eq!(
                [total.min, total.max, total.first, total.last],
                [integers.iter().min(), integers.iter().max(), integers.first(), integers.last()].map(value)
            );
        }
    }

    #[test]
    fn what_is_near_takes_few_bytes_and_long_sums_do_not_overflow() {
        for (step, bytes) in
            [(0, 1), (254, 1), (256, 2), (65_534, 2), (65_536, 4), (1 << 40, 8), (i64::MAX, 8)]
        {
            let integers: Vec<i64> = (0..100_000).map(|n| if n % 3 == 0 { 0 } else { step }).collect();
            let narrow = Narrow::new(1, integers.clone());
            assert_eq!(narrow.bytes(), bytes * integers.len(), "by {step}");
            let sum: i128 = integers.iter().map(|i| i128::from(*i)).sum();
            assert_eq!(narrow.total().unwrap().unwrap().sum, sum as f64 / 10.0, "by {step}");
        }
        assert_eq!(Narrow::new(0, Vec::new()).total().unwrap(), None);
        let ends = vec![i64::MIN, i64::MAX, -1];
        let total = Narrow::new(0, ends).total().unwrap().unwrap();
        assert_eq!((total.min, total.max, total.sum), (i64::MIN as f64, i64::MAX as f64, -2.0));
    }
}
