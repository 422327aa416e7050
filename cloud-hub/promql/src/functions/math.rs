//! Sums, quantiles and lines through points.

use crate::duration::seconds;
use crate::source::Sample;

/// A sum that keeps what rounding lost: Kahan's, as Neumaier improved it
/// (<https://en.wikipedia.org/wiki/Kahan_summation_algorithm#Further_enhancements>).
#[derive(Debug, Clone, Copy, Default)]
pub struct Kahan {
    sum: f64,
    lost: f64,
}

impl Kahan {
    /// A sum of one value.
    pub const fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub fn total(self) -> f64 {
        self.sum + self.lost
    }

    /// Each part multiplied.
    fn scaled(self, factor: f64) -> Self {
        Self { sum: self.sum * factor, lost: self.lost * factor }
    }

    /// Each part divided.
    fn divided(self, by: f64) -> Self {
        Self { sum: self.sum / by, lost: self.lost / by }
    }
}

/// A mean that goes over from a sum to a running mean where the sum would overflow.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    count: f64,
    sum: Kahan,
    running: bool,
}

impl Mean {
    pub const fn of(value: f64) -> Self {
        Self { count: 1.0, sum: Kahan::of(value), running: false }
    }

    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.running {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.running = true;
            self.sum = self.sum.divided(self.count - 1.0);
        }
        self.sum = self.sum.scaled((self.count - 1.0) / self.count);
        self.sum.add(value / self.count);
    }

    pub fn value(self) -> f64 {
        if self.running { self.sum.total() } else { self.sum.divided(self.count).total() }
    }
}

/// The φ-quantile with linear interpolation between the two values around it; sorts the values, NaN
/// below all (<https://prometheus.io/docs/prometheus/latest/querying/operators/#aggregation-operators>).
pub fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    #[expect(clippy::cast_precision_loss, reason = "a window holds less than 2^53 samples")]
    let rank = phi * (values.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ φ ≤ 1")]
    let below = rank.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    let value = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    value(below) * (1.0 - weight) + value(above) * weight
}

/// The slope per second and the value at a time of the line of least squares; times are taken from
/// that time on, so that no digits are lost to its size.
pub fn regression(samples: &[Sample], at_ns: i64) -> (f64, f64) {
    let first = samples.first().map_or(f64::NAN, |s| s.value);
    let [mut x, mut y, mut xy, mut xx] = [Kahan::default(); 4];
    let mut n = 0.0;
    for sample in samples {
        let dx = seconds(sample.time_ns.saturating_sub(at_ns));
        n += 1.0;
        x.add(dx);
        y.add(sample.value);
        xy.add(dx * sample.value);
        xx.add(dx * dx);
    }
    #[expect(clippy::float_cmp, reason = "a level series has no slope but zero")]
    if samples.iter().skip(1).all(|s| s.value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (x, y) = (x.total(), y.total());
    let covariance = xy.total() - x * y / n;
    let variance = xx.total() - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// -1, 1, or the value itself where it is zero or NaN.
pub fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_keeps_what_a_large_value_would_swallow() {
        let mut sum = Kahan::default();
        [1e100, 1.0, -1e100, 2.0].into_iter().for_each(|v| sum.add(v));
        assert_eq!(sum.total(), 3.0);
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let mut mean = Mean::of(f64::MAX);
        [f64::MAX, f64::MAX].into_iter().for_each(|v| mean.add(v));
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-15, "{}", mean.value());
    }

    #[test]
    fn quantiles_are_interpolated() {
        let of = |phi: f64, values: &[f64]| quantile(phi, &mut values.to_vec());
        assert_eq!(of(0.5, &[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(0.25, &[0.0, 1.0, 2.0, 3.0]), 0.75);
        assert_eq!(of(1.0, &[0.0, 1.0]), 1.0);
        assert_eq!(of(-0.1, &[1.0]), f64::NEG_INFINITY);
        assert_eq!(of(1.1, &[1.0]), f64::INFINITY);
        assert!(of(f64::NAN, &[1.0]).is_nan() && of(0.5, &[]).is_nan());
        assert!(of(0.0, &[1.0, f64::NAN]).is_nan());
    }

    proptest! {
        #[test]
        fn a_sum_of_whole_numbers_is_exact(
            values in proptest::collection::vec(-1_000_000_000_i64..1_000_000_000, 0..200)
        ) {
            let mut sum = Kahan::default();
            values.iter().for_each(|v| sum.add(*v as f64));
            prop_assert_eq!(sum.total(), values.iter().sum::<i64>() as f64);
        }

        #[test]
        fn a_line_is_found_again(slope in -100.0..100.0_f64, base in -100.0..100.0_f64, n in 2..50_i64) {
            let start_ns = 1_700_000_000_000_000_000;
            let point = |i| Sample { time_ns: start_ns + i * 1_000_000_000, value: base + slope * i as f64 };
            let samples: Vec<Sample> = (0..n).map(point).collect();
            let (found, at) = regression(&samples, start_ns);
            prop_assert!((found - slope).abs() < 1e-6, "{found} {slope}");
            prop_assert!((at - base).abs() < 1e-6, "{at} {base}");
        }
    }
}
