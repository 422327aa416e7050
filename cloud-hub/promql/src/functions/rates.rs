//! How fast the samples of a window rise.

use super::Window;
use super::math::regression;
use crate::duration::seconds;

pub fn rate(window: Window) -> Option<f64> {
    let span_s = seconds(window.to_ns.saturating_sub(window.after_ns));
    extrapolated(window, Kind::Counter).map(|(rise, factor)| rise * (factor / span_s))
}

pub fn increase(window: Window) -> Option<f64> {
    extrapolated(window, Kind::Counter).map(|(rise, factor)| rise * factor)
}

pub fn delta(window: Window) -> Option<f64> {
    extrapolated(window, Kind::Gauge).map(|(rise, factor)| rise * factor)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// The rise between the first and the last sample, and what it is to be multiplied with to stand for the
/// whole span.
///
/// As Prometheus does it (<https://prometheus.io/docs/prometheus/latest/querying/functions/#rate>): the
/// rise is drawn out to an edge of the span when a sample lies within 1.1 mean distances of it, and
/// otherwise by half a mean distance; that of a counter not to below zero. A fall of a counter is a
/// reset to zero.
fn extrapolated(window: Window, kind: Kind) -> Option<(f64, f64)> {
    let Window { samples, after_ns, to_ns, .. } = window;
    let (first, last) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut rise = last.value - first.value;
    if kind == Kind::Counter {
        let falls = samples.iter().zip(samples.iter().skip(1)).filter(|(a, b)| b.value < a.value);
        falls.for_each(|(before, _)| rise += before.value);
    }
    let sampled = seconds(last.time_ns.saturating_sub(first.time_ns));
    #[expect(clippy::cast_precision_loss, reason = "a window holds less than 2^53 samples")]
    let mean_distance = sampled / (samples.len() - 1) as f64;
    let near = mean_distance * 1.1;
    let mut to_start = seconds(first.time_ns.saturating_sub(after_ns));
    if to_start >= near {
        to_start = mean_distance / 2.0;
    }
    if kind == Kind::Counter && rise > 0.0 && first.value >= 0.0 {
        to_start = to_start.min(sampled * (first.value / rise));
    }
    let mut to_end = seconds(to_ns.saturating_sub(last.time_ns));
    if to_end >= near {
        to_end = mean_distance / 2.0;
    }
    let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    Some((rise, factor))
}

pub fn irate(window: Window) -> Option<f64> {
    let (before, after, apart_s) = last_two(window)?;
    let rise = if after < before { after } else { after - before };
    Some(rise / apart_s)
}

pub fn idelta(window: Window) -> Option<f64> {
    last_two(window).map(|(before, after, _)| after - before)
}

/// The last two values, and how many seconds lie between them.
fn last_two(window: Window) -> Option<(f64, f64, f64)> {
    let [.., before, after] = window.samples else { return None };
    let apart_ns = after.time_ns.saturating_sub(before.time_ns);
    (apart_ns > 0).then(|| (before.value, after.value, seconds(apart_ns)))
}

pub fn deriv(window: Window) -> Option<f64> {
    let first = window.samples.first()?;
    (window.samples.len() > 1).then(|| regression(window.samples, first.time_ns).0)
}

pub fn predict_linear(window: Window, ahead_s: f64) -> Option<f64> {
    (window.samples.len() > 1).then(|| {
        let (slope, now) = regression(window.samples, window.now_ns);
        slope * ahead_s + now
    })
}
