//! Times as people and programs write them, the same at hub and agent: RFC 3339, Unix milliseconds, or relative to now.

/// The times that there are, in words: those that 64 bits of nanoseconds since 1970 can say.
pub const RANGE: &str = "from 1677-09-21 to 2262-04-11";

/// A time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no time; allowed are RFC 3339 as 2026-11-21T12:00:00Z, Unix milliseconds, now, and relative times as -90s, -15m, -6h, -7d, {}",
    RANGE
)]
pub struct BadTime {
    text: String,
}

/// A length of time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no length of time; allowed are whole numbers with ms, s, m, h, d or w, as 90s or 24h")]
pub struct BadSpan {
    text: String,
}

/// Nanoseconds since 1970 of `text`, where `now_ns` is the present.
///
/// # Errors
/// The text is none of the allowed forms, or is not within [`RANGE`].
pub fn parse_time(text: &str, now_ns: i64) -> Result<i64, BadTime> {
    let fail = || BadTime { text: text.chars().take(64).collect() };
    let trimmed = text.trim();
    if trimmed == "now" {
        return Ok(now_ns);
    }
    if let Some(span) = trimmed.strip_prefix("now-").or_else(|| trimmed.strip_prefix('-')) {
        if span.bytes().all(|b| b.is_ascii_digit()) {
            return trimmed.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000_000)).ok_or_else(fail);
        }
        let back = parse_span_ns(span).map_err(|_| fail())?;
        return now_ns.checked_sub(back).ok_or_else(fail);
    }
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return trimmed.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000_000)).ok_or_else(fail);
    }
    let timestamp: jiff::Timestamp = trimmed.parse().map_err(|_| fail())?;
    i64::try_from(timestamp.as_nanosecond()).map_err(|_| fail())
}

/// Nanoseconds of a length of time as `90s` or `24h`.
///
/// # Errors
/// The text is not a whole number with a unit, or is longer than 292 years.
pub fn parse_span_ns(text: &str) -> Result<i64, BadSpan> {
    let fail = || BadSpan { text: text.chars().take(64).collect() };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
    let (number, unit) = text.split_at_checked(split).ok_or_else(fail)?;
    let unit_ns: i64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        _ => return Err(fail()),
    };
    number.parse::<i64>().ok().and_then(|n| n.checked_mul(unit_ns)).ok_or_else(fail)
}

/// Seconds of a length of time, for the command line.
///
/// # Errors
/// As [`parse_span_ns`].
pub fn parse_span(text: &str) -> Result<std::time::Duration, BadSpan> {
    let ns = parse_span_ns(text)?;
    Ok(std::time::Duration::from_nanos(u64::try_from(ns).unwrap_or(0)))
}

/// A time in RFC 3339, for people.
#[must_use]
pub fn show_ms(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
}

/// A time in RFC 3339 to the nanosecond.
#[must_use]
pub fn show_ns(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |t| t.to_string())
}

/// Unix milliseconds of a time in nanoseconds, rounded down.
#[must_use]
pub const fn ms(ns: i64) -> i64 {
    ns.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_719_200_000_000_000;

    #[test]
    fn all_allowed_forms_are_read() {
        for (text, want) in [
            ("now", NOW),
            ("-6h", NOW - 6 * 3_600_000_000_000),
            ("now-90s", NOW - 90_000_000_000),
            ("1763719200000", NOW),
            ("-1000", -1_000_000_000),
            ("2025-11-21T10:00:00Z", NOW),
            ("2025-11-21T11:00:00.5+01:00", NOW + 500_000_000),
        ] {
            assert_eq!(parse_time(text, NOW), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_named_with_what_is_allowed() {
        for text in
            ["", "-", "6h", "-6x", "-h", "yesterday", "99999999999999999999", "-9999999999w", "é", "-é"]
        {
            let error = parse_time(text, NOW).unwrap_err().to_string();
            assert!(error.contains("allowed"), "{text}: {error}");
        }
    }

    #[test]
    fn spans_are_read() {
        assert_eq!(parse_span("24h").unwrap().as_secs(), 86_400);
        assert!(parse_span("24").is_err());
    }
}
