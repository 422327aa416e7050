//! Times and texts as a statement writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Interval, TimezoneInfo, TypedString, Value, ValueWithSpan,
};

/// All of these years is within what nanoseconds since 1970 tell.
const EXACT_YEARS: (i16, i16) = (1678, 2261);

/// A text in quotes.
pub fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => quoted(value),
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
}

fn quoted(value: &ValueWithSpan) -> Option<&str> {
    if let Value::SingleQuotedString(text) = &value.value { Some(text) } else { None }
}

/// A whole number that is not negative.
pub fn whole(expr: &Expr) -> Option<usize> {
    let Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) = expr else { return None };
    digits.parse().ok()
}

/// The time that an expression stands for, ns since 1970, when it is surely one: a text as
/// `'2026-11-21 10:00'`, the same as `TIMESTAMP`, `DATE` or a cast, plus or minus intervals. What is not understood
/// is none, which reads more and is never wrong.
pub fn time_ns(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Nested(inner) => time_ns(inner),
        Expr::Value(value) => civil_ns(quoted(value)?),
        Expr::TypedString(TypedString { data_type, value, .. }) => typed_ns(data_type, quoted(value)?),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
            array: false,
        } => match (data_type, expr.as_ref()) {
            // What `now()` became.
            (
                DataType::Timestamp(Some(9), TimezoneInfo::None),
                Expr::Value(ValueWithSpan { value: Value::Number(ns, _), .. }),
            ) => ns.parse().ok(),
            _ => typed_ns(data_type, text(expr)?),
        },
        Expr::BinaryOp { left, op, right } => {
            let Expr::Interval(interval) = right.as_ref() else { return None };
            let (start, span) = (time_ns(left)?, span_ns(interval)?);
            match op {
                BinaryOperator::Plus => start.checked_add(span),
                BinaryOperator::Minus => start.checked_sub(span),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The time that a text stands for which Polars would not take for it: RFC 3339, and a day or a time of a day beyond the years
/// of nanoseconds, of which the nearest of these is given, so that it is before or after all readings. None of any other text.
pub fn instant_ns(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let is_day = |at: usize, b: u8| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() };
    if !day.bytes().enumerate().all(|(at, b)| is_day(at, b)) {
        return None;
    }
    // Where the text is cut, its time of day does not matter: so far away it is cut anyway.
    let civil: DateTime = text.get(..19).and_then(|text| text.parse().ok()).or_else(|| day.parse().ok())?;
    if civil.year() < EXACT_YEARS.0 {
        return Some(i64::MIN);
    }
    if civil.year() > EXACT_YEARS.1 {
        return Some(i64::MAX);
    }
    let is_zoned = rest.ends_with(['Z', 'z']) || rest.get(1..).is_some_and(|rest| rest.contains(['+', '-']));
    let timestamp: Timestamp = text.parse().ok().filter(|_| is_zoned)?;
    i64::try_from(timestamp.as_nanosecond()).ok()
}

fn typed_ns(data_type: &DataType, text: &str) -> Option<i64> {
    match data_type {
        DataType::Timestamp(_, TimezoneInfo::None) | DataType::Datetime(_) => civil_ns(text),
        // A day is taken from a longer text, too; that is left to who runs the statement.
        DataType::Date if text.len() == 10 => civil_ns(text),
        _ => None,
    }
}

/// `2026-11-21`, `2026-11-21 10:00`, `2026-11-21T10:00:00.5`, in UTC.
fn civil_ns(text: &str) -> Option<i64> {
    let (day, time) = text.split_at_checked(10)?;
    let is_day = day
        .bytes()
        .enumerate()
        .all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    let is_time = time.is_empty()
        || time.strip_prefix(['T', ' ']).is_some_and(|time| {
            time.len() >= 5 && time.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.')
        });
    if !is_day || !is_time {
        return None;
    }
    let civil: DateTime = text.parse().ok()?;
    let timestamp = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    i64::try_from(timestamp.as_nanosecond()).ok()
}

/// `INTERVAL '90 minutes'`: one whole number and one unit of a fixed length.
fn span_ns(interval: &Interval) -> Option<i64> {
    if interval.leading_field.is_some() || interval.last_field.is_some() {
        return None;
    }
    let (number, unit) = text(&interval.value)?.split_once(' ')?;
    let seconds: i64 = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        "week" | "weeks" => 604_800,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    i64::from(number).checked_mul(seconds)?.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_a_time_is_one() {
        let day = 1_763_683_200_000_000_000;
        for (text, want) in [
            ("2025-11-21", Some(day)),
            ("2025-11-21 10:00", Some(day + 36_000_000_000_000)),
            ("2025-11-21T10:00:00.5", Some(day + 36_000_500_000_000)),
            ("2025-11-21T10:00:00Z", None),
            ("2025-11-21T10:00:00+02:00", None),
            ("2025-11-21T10:00-05", None),
            ("2025-11-21x10:00", None),
            ("2025-13-21", None),
            ("9999-01-01", None),
            ("today", None),
            ("é025-11-21", None),
            ("", None),
        ] {
            assert_eq!(civil_ns(text), want, "{text}");
        }
    }

    #[test]
    fn what_polars_would_not_read_is_an_instant() {
        let noon = 1_763_683_200_000_000_000 + 43_200_000_000_000;
        for (text, want) in [
            ("2025-11-21T12:00:00Z", Some(noon)),
            ("2025-11-21 14:00:00.000000001+02:00", Some(noon + 1)),
            ("2025-11-21T07:00-05", Some(noon)),
            ("9999-12-31", Some(i64::MAX)),
            ("9999-12-31T23:59:59.999Z", Some(i64::MAX)),
            ("2262-01-01 00:00", Some(i64::MAX)),
            ("0001-01-01 00:00:00", Some(i64::MIN)),
            ("1677-12-31", Some(i64::MIN)),
            ("2025-11-21", None),
            ("2025-11-21 12:00:00.5", None),
            ("9999-99-99", None),
            ("2025-11-21T12:00:00 noon-ish", None),
            ("pump-1", None),
            ("99999999999", None),
            ("é999-12-31", None),
            ("", None),
        ] {
            assert_eq!(instant_ns(text), want, "{text}");
        }
    }
}
