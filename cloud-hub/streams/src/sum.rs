//! Sums that do not depend on the order in which the values came.
//!
//! The sum is kept as numbers that do not overlap, by the expansions of Shewchuk, "Adaptive Precision
//! Floating-Point Arithmetic" (1997), and is rounded once, when it is asked for. So a window has the same
//! sum whatever the order of arrival, whichever sessions were merged, and from slices or readings alike.

use minicbor::{Decode, Encode};

use crate::limits::VALUE_ABS_MAX;

/// More parts than numbers that do not overlap can have between the least and the greatest exponent.
const PARTS_MAX: usize = 64;

/// An exact sum of finite numbers whose magnitudes are within
/// [`VALUE_ABS_MAX`](crate::limits::VALUE_ABS_MAX).
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub struct ExactSum(#[n(0)] Vec<f64>);

impl ExactSum {
    /// Adds a number.
    pub fn add(&mut self, value: f64) {
        let mut carry = value;
        self.0.retain_mut(|part| {
            let (sum, error) = two_sum(carry, *part);
            (carry, *part) = (sum, error);
            error != 0.0
        });
        if carry != 0.0 {
            self.0.push(carry);
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|part| self.add(*part));
    }

    /// The sum, rounded to the nearest number, and to the even one of two that are as near.
    #[must_use]
    pub fn value(&self) -> f64 {
        // The greatest comes last. What follows a remainder decides ties only.
        let mut parts = self.0.iter().rev();
        let Some(mut sum) = parts.next().copied() else { return 0.0 };
        while let Some(part) = parts.next() {
            let (next, rest) = two_sum(sum, *part);
            sum = next;
            if rest == 0.0 {
                continue;
            }
            let below = parts.next().copied().unwrap_or(0.0);
            let away = sum + 2.0 * rest;
            // Half a unit was rounded to even, and what is below it says that it was the wrong way.
            if below * rest.signum() > 0.0 && away - sum == 2.0 * rest {
                sum = away;
            }
            break;
        }
        sum
    }

    /// Whether it can be the sum of so many values: adding more to it then ends in no infinity.
    pub(crate) fn is_sound(&self, count: u64) -> bool {
        let most = 2.0 * VALUE_ABS_MAX * count as f64;
        self.0.len() <= PARTS_MAX && self.0.iter().map(|part| part.abs()).sum::<f64>() <= most
    }
}

/// The rounded sum and what was rounded off (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    (sum, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn a_sum_that_so_many_values_cannot_have_is_not_sound() {
        let of = |parts: &[f64]| ExactSum(parts.to_vec());
        assert!(of(&[1e280, 1e280]).is_sound(1) && !of(&[1e280, -2e280]).is_sound(1));
        assert!(!of(&[f64::NAN]).is_sound(1) && !of(&[f64::INFINITY]).is_sound(u64::MAX));
        assert!(of(&[]).is_sound(0) && !of(&[0.5; 65]).is_sound(100));
    }

    #[test]
    fn what_plain_addition_loses_is_kept() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        // Halves between two numbers, and what decides them.
        let big = 9_007_199_254_740_992.0;
        assert_eq!(sum(&[big, 1.0]), big);
        assert_eq!(sum(&[big, 1.0, 1e-30]), big + 2.0);
        assert_eq!(sum(&[big, 1.0, -1e-30]), big);
        assert_eq!(sum(&[big + 2.0, 1.0, -1e-30]), big + 2.0);
        assert_eq!(sum(&[-big, -1.0, -1e-30]), -big - 2.0);
    }

    /// Numbers of all sizes that are multiples of 2^-40 below 2^60, so that their sum is an `i128`.
    fn number() -> impl Strategy<Value = i128> {
        (any::<i32>(), 0_u32..68).prop_map(|(mantissa, shift)| i128::from(mantissa) << shift)
    }

    fn scaled(number: i128) -> f64 {
        // Exact: 32 bits of mantissa and a power of two.
        number as f64 * 2_f64.powi(-40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_the_exact_sum_rounded_once_in_any_order(
            numbers in prop::collection::vec(number(), 0..60), cut in 0_usize..60,
        ) {
            let exact: i128 = numbers.iter().sum();
            // `as` rounds to the nearest, ties to even.
            let wanted = exact as f64 * 2_f64.powi(-40);
            let values: Vec<f64> = numbers.iter().map(|number| scaled(*number)).collect();
            prop_assert_eq!(sum(&values), wanted);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            prop_assert_eq!(sum(&sorted), wanted);
            let (left, right) = values.split_at(cut.min(values.len()));
            let (mut a, mut b) = (ExactSum::default(), ExactSum::default());
            left.iter().for_each(|value| a.add(*value));
            right.iter().for_each(|value| b.add(*value));
            a.merge(&b);
            prop_assert_eq!(a.value(), wanted);
            prop_assert!(a.is_sound(values.len() as u64));
        }
    }
}
