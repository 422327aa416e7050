//! Durations: `1h30m`, each unit once, the larger first
//! (<https://prometheus.io/docs/prometheus/latest/querying/basics/#float-literals-and-time-durations>).

use crate::{NS_PER_MS, NS_PER_S};

/// Longest duration, a little over 100 years.
pub const DURATION_NS_MAX: i64 = 36_600 * DAY_NS;

const DAY_NS: i64 = 86_400 * NS_PER_S;
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * DAY_NS),
    ("w", 7 * DAY_NS),
    ("d", DAY_NS),
    ("h", 3600 * NS_PER_S),
    ("m", 60 * NS_PER_S),
    ("s", NS_PER_S),
    ("ms", NS_PER_MS),
];

/// Reads a duration; `None` when it is none or longer than [`DURATION_NS_MAX`].
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    let mut units = UNITS.iter();
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, ns) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*ns)?)?;
        rest = tail;
    }
    (total <= DURATION_NS_MAX).then_some(total)
}

/// Seconds as nanoseconds, to the millisecond as in Prometheus; `None` when it is no number, or more than
/// the 292 years either side of 1970 that 64 bits hold.
#[must_use]
pub fn from_seconds(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    #[expect(clippy::cast_precision_loss, reason = "a limit")]
    let most = (i64::MAX / NS_PER_MS) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "within the limit")]
    (ms.abs() < most).then(|| ms as i64 * NS_PER_MS)
}

/// A duration in seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of a span are exact to far below a nanosecond")]
pub fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// A time in seconds since 1970. Whole milliseconds are divided as such, so that the nearest float to
/// what Prometheus knows comes out.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a float holds a time of today to a quarter of a microsecond")]
pub fn time_seconds(ns: i64) -> f64 {
    if ns % NS_PER_MS == 0 { (ns / NS_PER_MS) as f64 / 1e3 } else { ns as f64 / 1e9 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_units_in_order() {
        let cases = [
            ("5m", Some(300 * NS_PER_S)),
            ("1h30m", Some(5400 * NS_PER_S)),
            ("1y2w3d4h5m6s7ms", Some((((365 + 14 + 3) * 86_400 + 4 * 3600 + 306) * 1000 + 7) * NS_PER_MS)),
            ("0s", Some(0)),
            ("100y", Some(36_500 * DAY_NS)),
            ("101y", None),
            ("99999999999999999999y", None),
            ("30m1h", None),
            ("1m1m", None),
            ("5", None),
            ("m", None),
            ("1x", None),
            ("", None),
            ("1.5h", None),
        ];
        for (text, ns) in cases {
            assert_eq!(parse(text), ns, "{text}");
        }
    }

    #[test]
    fn seconds_are_rounded_to_milliseconds_and_bounded() {
        assert_eq!(from_seconds(1.0004), Some(NS_PER_S));
        assert_eq!(from_seconds(-2.5), Some(-2500 * NS_PER_MS));
        for seconds in [f64::NAN, f64::INFINITY, 1e300, -1e12] {
            assert_eq!(from_seconds(seconds), None, "{seconds}");
        }
    }
}
