//! Aggregations over the samples of a window.

use super::Window;
use super::math::{self, Kahan, Mean};

pub fn avg(window: Window) -> Option<f64> {
    let (first, rest) = window.samples.split_first()?;
    let mut mean = Mean::of(first.value);
    rest.iter().for_each(|s| mean.add(s.value));
    Some(mean.value())
}

pub fn first(window: Window) -> Option<f64> {
    window.samples.first().map(|s| s.value)
}

pub fn last(window: Window) -> Option<f64> {
    window.samples.last().map(|s| s.value)
}

/// NaN only when all are.
pub fn max(window: Window) -> Option<f64> {
    window.samples.iter().map(|s| s.value).reduce(|max, v| if v > max || max.is_nan() { v } else { max })
}

/// NaN only when all are.
pub fn min(window: Window) -> Option<f64> {
    window.samples.iter().map(|s| s.value).reduce(|min, v| if v < min || min.is_nan() { v } else { min })
}

pub fn sum(window: Window) -> Option<f64> {
    let mut sum = Kahan::default();
    window.samples.iter().for_each(|s| sum.add(s.value));
    Some(sum.total())
}

pub fn stddev(window: Window) -> Option<f64> {
    stdvar(window).map(f64::sqrt)
}

/// The variance of the population, by Welford's method
/// (<https://en.wikipedia.org/wiki/Algorithms_for_calculating_variance#Welford's_online_algorithm>).
pub fn stdvar(window: Window) -> Option<f64> {
    let (mut count, mut mean, mut squares) = (0.0, Kahan::default(), Kahan::default());
    for sample in window.samples {
        count += 1.0;
        let delta = sample.value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (sample.value - mean.total()));
    }
    Some(squares.total() / count)
}

pub fn quantile_of(window: Window, phi: f64) -> Option<f64> {
    let mut values: Vec<f64> = window.samples.iter().map(|s| s.value).collect();
    Some(math::quantile(phi, &mut values))
}

/// How often the value differs from the one before; NaN does not differ from NaN.
#[expect(clippy::float_cmp, reason = "any other value is a change")]
pub fn changes(window: Window) -> Option<f64> {
    pairs(window, |before, after| before != after && !(before.is_nan() && after.is_nan()))
}

/// How often the value is smaller than the one before.
pub fn resets(window: Window) -> Option<f64> {
    pairs(window, |before, after| after < before)
}

#[expect(clippy::cast_precision_loss, reason = "a window holds less than 2^53 samples")]
fn pairs(window: Window, counts: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let after = window.samples.iter().skip(1);
    Some(window.samples.iter().zip(after).filter(|(a, b)| counts(a.value, b.value)).count() as f64)
}
