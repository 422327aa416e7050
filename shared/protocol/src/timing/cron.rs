//! Times of a calendar: the five fields of cron, in a time zone. Pure: nothing here reads a clock.
//!
//! Minutes, hours, days of the month, months and days of the week, each as `*`, numbers, ranges, lists and steps; months and days
//! of the week by name too. Where both days are restricted, either is enough, as in every cron.
//!
//! Where clocks change: a time that is skipped runs as long after midnight as it would have, so that 02:30 becomes 03:30; a time
//! that comes twice runs the first time. Where the hour is `*` or a step of it, runs follow the clock that really goes: nothing in
//! the hour that is skipped, and each time of the hour that comes twice.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _, civil};

/// Days that are looked through: the 29th of February is away for eight years at most, and a day of a month that is to be some day of
/// the week for twelve.
const DAYS_MAX: usize = 12 * 366 + 2;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The five fields, each as the bits of what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    // Its hours are a pattern, not times of a day.
    any_hour: bool,
    // Both days are restricted, so that either is enough.
    either_day: bool,
}

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

impl Field {
    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok());
        let number = named.map(|at| at + self.min).or_else(|| text.parse().ok());
        number.filter(|number| (self.min..=self.max).contains(number)).ok_or_else(|| {
            format!("{}: {text:?} is none; allowed are {} to {}", self.name, self.min, self.max)
        })
    }

    /// The bits of a field.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').map(|item| self.item(item)).try_fold(0, |all, bits| Ok(all | bits?))
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| (1..=self.max).contains(step));
                let wrong = || format!("{}: {item:?} has no step of 1 to {}", self.name, self.max);
                (range, Some(step.ok_or_else(wrong)?))
            }
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None => {
                let from = self.number(range)?;
                // A step from a number on goes to the end.
                (from, if step.is_some() { self.max } else { from })
            }
        };
        if from > to {
            return Err(format!("{}: {item:?} ends before it begins", self.name));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        Ok((from..=to).step_by(step).fold(0, |bits, at| bits | 1 << at))
    }
}

const fn has(bits: u64, at: i8) -> bool {
    bits >> at & 1 == 1
}

impl Cron {
    /// Of a text with five fields.
    ///
    /// # Errors
    /// Says which field is wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = fields.len();
            return Err(format!(
                "{text:?} has {count} fields; allowed are five: minute, hour, day of the month, month, day of the week"
            ));
        };
        let field = |name, min, max, names| Field { name, min, max, names };
        let weekdays = field("day of the week", 0, 7, &WEEKDAYS).read(weekday)?;
        let (days_of_month, days_of_week) = (!day.starts_with('*'), !weekday.starts_with('*'));
        let cron = Self {
            minutes: field("minute", 0, 59, &[]).read(minute)?,
            hours: field("hour", 0, 23, &[]).read(hour)?,
            days: field("day of the month", 1, 31, &[]).read(day)?,
            months: field("month", 1, 12, &MONTHS).read(month)?,
            // Sunday is 0 and 7.
            weekdays: weekdays | weekdays >> 7 & 1,
            any_hour: hour.starts_with('*'),
            either_day: days_of_month && days_of_week,
        };
        // The years from a leap year on have every day that there is on every day of the week that it can be, but for the 29th of
        // February, which no pattern of `*` has alone.
        let all = Date::constant(2024, 1, 1).series(1.day()).take(DAYS_MAX);
        if !all.into_iter().any(|date| cron.has_date(date)) {
            return Err(format!("{text:?} never comes: no month of it has such a day"));
        }
        Ok(cron)
    }

    fn has_date(&self, date: Date) -> bool {
        let of_month = has(self.days, date.day());
        let of_week = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let day = if self.either_day { of_month || of_week } else { of_month && of_week };
        day && has(self.months, date.month())
    }

    /// Its times of a date, as instants in Unix ms, in no order.
    fn times(&self, date: Date, zone: &TimeZone) -> Vec<i64> {
        let mut times = Vec::new();
        if !self.has_date(date) {
            return times;
        }
        for hour in (0..24).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                self.instants(date.at(hour, minute, 0, 0), zone, &mut times);
            }
        }
        times
    }

    fn instants(&self, time: DateTime, zone: &TimeZone, into: &mut Vec<i64>) {
        let found = zone.to_ambiguous_timestamp(time);
        let mut take = |instant: Result<Timestamp, jiff::Error>| {
            into.extend(instant.ok().map(Timestamp::as_millisecond));
        };
        match found.offset() {
            AmbiguousOffset::Gap { .. } if self.any_hour => {}
            AmbiguousOffset::Fold { .. } if self.any_hour => {
                take(found.earlier());
                take(found.later());
            }
            _ => take(found.compatible()),
        }
    }

    /// The first time after `after_ms`.
    #[must_use]
    pub fn next(&self, zone: &TimeZone, after_ms: i64) -> Option<i64> {
        self.search(zone, after_ms, Date::tomorrow, |times| {
            times.iter().copied().filter(|time| *time > after_ms).min()
        })
        .into_iter()
        .min()
    }

    /// The last time up to `until_ms`.
    #[must_use]
    pub fn last(&self, zone: &TimeZone, until_ms: i64) -> Option<i64> {
        self.search(zone, until_ms, Date::yesterday, |times| {
            times.iter().copied().filter(|time| *time <= until_ms).max()
        })
        .into_iter()
        .max()
    }

    /// What days hold, from one that is far enough on the other side to the first one that has something, and the one beyond:
    /// where clocks change at midnight, times of two dates may be in another order than the dates.
    fn search(
        &self,
        zone: &TimeZone,
        from_ms: i64,
        step: fn(Date) -> Result<Date, jiff::Error>,
        pick: impl Fn(&[i64]) -> Option<i64>,
    ) -> Vec<i64> {
        let Ok(from) = Timestamp::from_millisecond(from_ms) else { return Vec::new() };
        let here: civil::Date = zone.to_datetime(from).date();
        let forward = step(here).is_ok_and(|next| next > here);
        let start = if forward { here.yesterday() } else { here.tomorrow() };
        let (mut found, mut date) = (Vec::new(), start.unwrap_or(here));
        for _ in 0..DAYS_MAX {
            let had = !found.is_empty();
            found.extend(pick(&self.times(date, zone)));
            match step(date) {
                Ok(next) if !had => date = next,
                _ => break,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
