//! When something is due. Pure: nothing here reads a clock.

use jiff::tz::TimeZone;

use super::cron::Cron;

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

impl Timing {
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
