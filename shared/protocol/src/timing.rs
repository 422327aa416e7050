//! When something is due, as schedules say it. Both ends read it alike, so that what never comes is told where it is written.
//! Pure: nothing here reads a clock.

pub mod cron;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::cron::Cron;

/// The options that say when, of which a schedule has one.
pub const OPTIONS: [&str; 3] = ["cron", "every", "at"];
/// Shortest and longest time of `every`, in ms.
const EVERY_MS: std::ops::RangeInclusive<i64> = 10_000..=366 * 86_400_000;

/// When something is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// At the times of a calendar, in a time zone.
    Cron(Cron, TimeZone),
    /// At all multiples of so many ms since 1970.
    Every(i64),
    /// Once, at this Unix ms.
    At(i64),
}

/// The time zone of this name.
///
/// # Errors
/// There is none; says what is allowed.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("zone: {name:?} is none; allowed are those of the IANA, as Europe/Berlin"))
}

impl Timing {
    /// What one of [`OPTIONS`] says; `zone` is that of a calendar.
    ///
    /// # Errors
    /// Says which option is wrong, and what is allowed.
    pub fn read(option: &str, text: &str, zone: TimeZone) -> Result<Self, String> {
        match option {
            "cron" => Ok(Self::Cron(Cron::parse(text).map_err(|what| format!("cron: {what}"))?, zone)),
            "every" => Ok(Self::Every(every_ms(text)?)),
            "at" => {
                let wrong =
                    |_| format!("at: {text:?} is no time; allowed is RFC 3339, as 2027-01-31T06:00:00Z");
                Ok(Self::At(text.parse::<Timestamp>().map_err(wrong)?.as_millisecond()))
            }
            _ => Err(format!("{option}: says no time; allowed are {}", OPTIONS.join(", "))),
        }
    }

    /// Whether it does not come any more, where what is more than `within_ms` late is missed.
    #[must_use]
    pub fn is_over(&self, now_ms: i64, within_ms: i64) -> bool {
        matches!(self, Self::At(at_ms) if at_ms.saturating_add(within_ms) < now_ms)
    }

    /// The first time after `after_ms`, if there is one.
    #[must_use]
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        match self {
            Self::Cron(cron, zone) => cron.next(zone, after_ms),
            Self::Every(every_ms) => after_ms.div_euclid(*every_ms).checked_add(1)?.checked_mul(*every_ms),
            Self::At(at_ms) => Some(*at_ms).filter(|at_ms| *at_ms > after_ms),
        }
    }

    /// The last time up to `until_ms`, if there is one.
    #[must_use]
    pub fn last(&self, until_ms: i64) -> Option<i64> {
        match self {
            Self::Cron(cron, zone) => cron.last(zone, until_ms),
            Self::Every(every_ms) => until_ms.div_euclid(*every_ms).checked_mul(*every_ms),
            Self::At(at_ms) => Some(*at_ms).filter(|at_ms| *at_ms <= until_ms),
        }
    }
}

/// As "15m", "1h 30m" or "10s".
fn every_ms(text: &str) -> Result<i64, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().map(|span| span.as_millis());
    let ms = span.and_then(|ms| i64::try_from(ms).ok()).filter(|ms| EVERY_MS.contains(ms));
    ms.ok_or_else(|| format!("every: {text:?} is none; allowed are 10s to 8784h, as 15m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: &str, text: &str) -> Result<Timing, String> {
        Timing::read(option, text, TimeZone::UTC)
    }

    #[test]
    fn what_never_comes_is_none() {
        for (option, text, told) in [
            ("cron", "0 0 31 2 *", "cron: \"0 0 31 2 *\" never comes: no month of it has such a day"),
            ("cron", "0 0 31 4,6,9,11 *", "cron: \"0 0 31 4,6,9,11 *\" never comes"),
            ("cron", "0 0 30-31 feb *", "cron: \"0 0 30-31 feb *\" never comes"),
            ("cron", "0 25 * * *", "cron: hour: \"25\" is none"),
            ("every", "0s", "every: \"0s\" is none; allowed are 10s to 8784h, as 15m"),
            ("every", "-1h", "every: \"-1h\" is none"),
            ("at", "2027-02-30T06:00:00Z", "at: \"2027-02-30T06:00:00Z\" is no time"),
            ("when", "noon", "when: says no time; allowed are cron, every, at"),
        ] {
            let refused = read(option, text).unwrap_err();
            assert!(refused.starts_with(told), "{refused}: {told}");
        }
        assert!(zone("Moon").unwrap_err().starts_with("zone: \"Moon\" is none; allowed are"));
    }

    #[test]
    fn a_time_that_comes_once_is_over_when_it_cannot_begin_any_more() {
        let at = read("at", "1970-01-01T00:01:00Z").unwrap();
        assert!(!at.is_over(60_000, 5_000) && !at.is_over(65_000, 5_000) && at.is_over(65_001, 5_000));
        assert!(!read("every", "10s").unwrap().is_over(i64::MAX, 0));
        assert!(!read("cron", "0 0 29 2 *").unwrap().is_over(i64::MAX, 0));
    }
}
