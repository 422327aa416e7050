//! What a cell says of the time.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::cell::Cell;
use crate::excerpt;
use crate::when::RANGE;

/// How times are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// RFC 3339, or the same without a zone, with a space or a `T`.
    Iso,
    /// Numbers since 1970: so many ns are one.
    Since1970(i64),
    /// As in strftime.
    Pattern(String),
}

impl Written {
    /// What a mapping calls it.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, String> {
        let Some(text) = text else { return Ok(None) };
        Ok(Some(match text {
            "iso" | "rfc3339" => Self::Iso,
            "s" => Self::Since1970(1_000_000_000),
            "ms" => Self::Since1970(1_000_000),
            "us" => Self::Since1970(1_000),
            "ns" => Self::Since1970(1),
            pattern if pattern.contains('%') => Self::Pattern(pattern.to_owned()),
            other => {
                return Err(format!(
                    "{other:?} is no format of times; allowed are iso, s, ms, us, ns, and patterns as %d.%m.%Y %H:%M:%S"
                ));
            }
        }))
    }
}

/// How times are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// None where the mapping does not say.
    pub written: Option<Written>,
    /// Of those that say none themselves.
    pub zone: TimeZone,
}

impl Times {
    /// Nanoseconds since 1970.
    pub fn ns(&self, cell: Cell<'_>) -> Result<Option<i64>, String> {
        let found = match (cell, &self.written) {
            (Cell::Null, _) => return Ok(None),
            (Cell::Time { ns, zoned: true }, _) => return Ok(Some(ns)),
            (Cell::Time { ns, zoned: false }, _) => {
                let shown = jiff::Timestamp::from_nanosecond(i128::from(ns)).map_err(|e| e.to_string())?;
                self.local(shown.to_zoned(TimeZone::UTC).datetime())
            }
            (Cell::Whole(number), Some(Written::Since1970(unit))) => {
                number.checked_mul(*unit).ok_or_else(|| out_of_range(&number.to_string()))
            }
            (Cell::Double(number), Some(Written::Since1970(unit))) => since_1970(&number.to_string(), *unit),
            (Cell::Whole(number), _) => Err(format!(
                "{number} is a number, and not said is of what; say `format` of `[time]` as s, ms, us or ns"
            )),
            (Cell::Text(text), written) => {
                let text = std::str::from_utf8(text).map_err(|_| format!("{} is no UTF-8", excerpt(text)))?;
                self.text(text.trim(), written.as_ref().unwrap_or(&Written::Iso))
            }
            (Cell::Bool(_) | Cell::Double(_), _) => Err("it is no time".to_owned()),
        };
        found.map(Some)
    }

    fn text(&self, text: &str, written: &Written) -> Result<i64, String> {
        let shown = || excerpt(text.as_bytes());
        match written {
            Written::Since1970(unit) => since_1970(text, *unit),
            Written::Iso => {
                if let Ok(time) = text.parse::<jiff::Timestamp>() {
                    return in_range(&time);
                }
                let local: DateTime = text.parse().map_err(|_| {
                    format!("{} is no time; allowed are RFC 3339 as 2026-11-21T12:00:00Z, the same without zone, or what `format` of `[time]` says", shown())
                })?;
                self.local(local)
            }
            Written::Pattern(pattern) => {
                let wrong = |_| format!("{} is no time of the form {pattern}", shown());
                let parts = strtime::parse(pattern, text).map_err(wrong)?;
                if parts.offset().is_some() || parts.timestamp().is_some() {
                    return in_range(&parts.to_timestamp().map_err(wrong)?);
                }
                let midnight = || parts.to_date().map(|date| date.at(0, 0, 0, 0));
                self.local(parts.to_datetime().or_else(|_| midnight()).map_err(wrong)?)
            }
        }
    }

    /// A time of the zone. Of two the earlier; one that the clocks skipped is none.
    fn local(&self, local: DateTime) -> Result<i64, String> {
        let there = self.zone.to_ambiguous_timestamp(local);
        let skipped = matches!(there.offset(), AmbiguousOffset::Gap { .. });
        let time = if skipped { there.unambiguous() } else { there.earlier() };
        let name = self.zone.iana_name().unwrap_or("UTC");
        in_range(&time.map_err(|_| format!("{local} is no time in {name}: the clocks skipped it"))?)
    }
}

fn out_of_range(text: &str) -> String {
    format!("{text} is no time {RANGE}; is `format` of `[time]` right?")
}

fn in_range(time: &jiff::Timestamp) -> Result<i64, String> {
    i64::try_from(time.as_nanosecond()).map_err(|_| out_of_range(&time.to_string()))
}

/// A decimal number of units, exactly: a double has no nanoseconds of today.
fn since_1970(text: &str, unit_ns: i64) -> Result<i64, String> {
    let wrong = || format!("{} is no number since 1970", excerpt(text.as_bytes()));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !is_digits(digits) || !is_digits(part) {
        return Err(wrong());
    }
    let ns = whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(unit_ns));
    let ns = ns.ok_or_else(|| out_of_range(text))?;
    let mut rest = 0_i64;
    let mut place = unit_ns;
    for digit in part.bytes() {
        place /= 10;
        rest += i64::from(digit - b'0') * place;
    }
    let rest = if whole.starts_with('-') { -rest } else { rest };
    ns.checked_add(rest).ok_or_else(|| out_of_range(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(written: Option<&str>, zone: &str) -> Times {
        Times { written: Written::parse(written).unwrap(), zone: TimeZone::get(zone).unwrap() }
    }

    fn text(written: Option<&str>, zone: &str, text: &str) -> Result<i64, String> {
        times(written, zone).ns(Cell::Text(text.as_bytes())).map(|ns| ns.unwrap())
    }

    const NOON: i64 = 1_763_726_400_000_000_000;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (written, zone, shown) in [
            (None, "UTC", "2025-11-21T12:00:00Z"),
            (None, "UTC", "2025-11-21 12:00:00"),
            (None, "UTC", "2025-11-21 13:00:00+01"),
            (None, "Europe/Berlin", "2025-11-21T13:00:00"),
            (Some("iso"), "America/New_York", "2025-11-21T12:00:00.000000000Z"),
            (Some("s"), "UTC", "1763726400"),
            (Some("s"), "UTC", "1763726400.000000000"),
            (Some("ms"), "UTC", "1763726400000"),
            (Some("us"), "UTC", "1763726400000000"),
            (Some("ns"), "UTC", "1763726400000000000"),
            (Some("%d.%m.%Y %H:%M:%S"), "Europe/Berlin", "21.11.2025 13:00:00"),
            (Some("%Y%m%dT%H%M%S%z"), "Europe/Berlin", "20251121T120000+0000"),
        ] {
            assert_eq!(text(written, zone, shown), Ok(NOON), "{written:?} {shown}");
        }
        assert_eq!(text(Some("s"), "UTC", "-1.5"), Ok(-1_500_000_000));
        assert_eq!(text(Some("s"), "UTC", "1763726400.123456789"), Ok(NOON + 123_456_789));
        assert_eq!(times(Some("ms"), "UTC").ns(Cell::Whole(-1)), Ok(Some(-1_000_000)));
        assert_eq!(times(None, "UTC").ns(Cell::Time { ns: 7, zoned: false }), Ok(Some(7)));
        let berlin = times(None, "Europe/Berlin");
        assert_eq!(berlin.ns(Cell::Time { ns: NOON, zoned: false }), Ok(Some(NOON - 3_600_000_000_000)));
        assert_eq!(berlin.ns(Cell::Time { ns: NOON, zoned: true }), Ok(Some(NOON)));
        assert_eq!(text(Some("%Y-%m-%d"), "UTC", "2025-11-21"), Ok(NOON - 12 * 3_600_000_000_000));
    }

    #[test]
    fn a_clock_that_is_put_back_gives_the_earlier_and_one_put_forward_none() {
        // 02:30 of 26 October 2025 was twice in Berlin, of 30 March never.
        assert_eq!(
            text(None, "Europe/Berlin", "2025-10-26 02:30:00"),
            text(None, "UTC", "2025-10-26 00:30:00")
        );
        assert!(text(None, "Europe/Berlin", "2025-03-30 02:30:00").unwrap_err().contains("skipped"));
    }

    #[test]
    fn what_is_no_time_is_told_with_what_is_allowed() {
        for (written, shown) in [
            (None, "yesterday"),
            (None, "1763726400"),
            (Some("s"), "2025-11-21"),
            (Some("s"), "1e9"),
            (Some("s"), "--1"),
            (Some("s"), "17637264000000"),
            (Some("ms"), "99999999999999999999"),
            (Some("%d.%m.%Y"), "31.02.2025"),
            (None, "9999-01-01T00:00:00Z"),
        ] {
            assert!(text(written, "UTC", shown).is_err(), "{written:?} {shown}");
        }
        assert!(times(None, "UTC").ns(Cell::Whole(7)).unwrap_err().contains("ms"));
        assert!(Written::parse(Some("seconds")).unwrap_err().contains("allowed"));
    }
}
