//! Days, weeks and months of a time zone, as buckets of time.
//!
//! A day begins at the first moment at which a clock in the zone shows its date, whatever the clock does later: where
//! midnight is skipped it begins with the skip, and where a clock is put back over midnight, the hour that comes again
//! is part of the later day. So days follow each other without a gap, last 23 or 25 hours where the clock is changed,
//! and each time is in one of them. Weeks begin on Monday (ISO 8601).
//!
//! Nothing is stored by zone: where all edges of a question are whole hours of UTC, the rollups of an hour are exact,
//! where they are whole minutes those of a minute, and else (local mean time, before the zones) the readings.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::civil::{Date, Weekday};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::buckets::{bucket_last, bucket_start};
use crate::hot::is_before;
use crate::segment::{LEVELS, Level};

/// What a bucket of a calendar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// A date.
    Day,
    /// Monday to Sunday.
    Week,
    /// A month of the year.
    Month,
}

impl Period {
    fn first(self, date: Date) -> Date {
        match self {
            Self::Day => date,
            Self::Week => {
                let past = i64::from(date.weekday().since(Weekday::Monday));
                date.saturating_sub(past.days())
            }
            Self::Month => date.first_of_month(),
        }
    }

    fn next(self, first: Date) -> Date {
        match self {
            Self::Day => first.saturating_add(1.day()),
            Self::Week => first.saturating_add(1.week()),
            Self::Month => first.saturating_add(1.month()),
        }
    }
}

/// What is no bucket of a calendar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCalendar {
    /// The width is none.
    #[error("{0:?} is nothing that a calendar has; allowed are 1d, 1w (from Monday) and 1mo")]
    Width(String),
    /// There is no such zone.
    #[error("{0:?} is no time zone; allowed are the names of the IANA database, as Europe/Berlin or UTC")]
    Zone(String),
}

/// Days, weeks or months of a time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    name: String,
    zone: TimeZone,
    period: Period,
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.period) == (&other.name, other.period)
    }
}

impl Eq for Calendar {}

impl Hash for Calendar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.period).hash(state);
    }
}

impl Calendar {
    /// Of a width as `1d`, `1w` or `1mo`, and a zone by its IANA name.
    ///
    /// # Errors
    /// It is no such width, or there is no such zone.
    pub fn parse(width: &str, zone: &str) -> Result<Self, BadCalendar> {
        let told = |text: &str| text.chars().take(64).collect::<String>();
        let period = match width {
            "1d" => Period::Day,
            "1w" => Period::Week,
            "1mo" => Period::Month,
            _ => return Err(BadCalendar::Width(told(width))),
        };
        let found = TimeZone::get(zone).ok().filter(|zone| !zone.is_unknown());
        let found = found.ok_or_else(|| BadCalendar::Zone(told(zone)))?;
        let name = found.iana_name().unwrap_or(zone).to_owned();
        Ok(Self { name, zone: found, period })
    }

    /// The zone by its IANA name.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.name
    }

    /// The first moment at which a clock shows this date or a later one, ns.
    fn begins(&self, date: Date) -> i64 {
        let midnight = date.at(0, 0, 0, 0);
        let at = |offset: Offset| offset.to_timestamp(midnight).unwrap_or(Timestamp::MAX);
        let at = match self.zone.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } => at(before),
            // Midnight is skipped: it is in the jump, which may begin before it.
            AmbiguousOffset::Gap { before, .. } => {
                let later = at(before);
                let after = later.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(later);
                self.zone.preceding(after).next().map_or(later, |jump| jump.timestamp())
            }
        };
        i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH {
            i64::MIN
        } else {
            i64::MAX
        })
    }

    /// The first date of the bucket that holds a time.
    fn date(&self, time_ns: i64) -> Date {
        let at = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::MAX);
        let mut first = self.period.first(self.zone.to_datetime(at).date());
        // After a clock was put back over midnight it shows the date of a day that is over.
        loop {
            let next = self.period.next(first);
            if next <= first || self.begins(next) > time_ns || self.begins(next) == i64::MAX {
                return first;
            }
            first = next;
        }
    }

    /// The first and the last time of the bucket that holds a time, ns.
    #[must_use]
    pub fn span(&self, time_ns: i64) -> (i64, i64) {
        let first = self.date(time_ns);
        let end = self.begins(self.period.next(first));
        (self.begins(first), if end == i64::MAX { end } else { end - 1 })
    }

    /// Where the buckets begin that `from..to` touches, at most `most` of them; none when there are more.
    #[must_use]
    pub fn edges(&self, from_ns: i64, to_ns: i64, most: usize) -> Option<Vec<i64>> {
        let mut first = self.date(from_ns);
        let mut out = vec![self.begins(first)];
        loop {
            first = self.period.next(first);
            let begins = self.begins(first);
            if begins == i64::MAX || !is_before(begins, to_ns) {
                return Some(out);
            }
            // A date that a zone left out has no time.
            if out.last().is_none_or(|last| begins > *last) {
                if out.len() == most {
                    return None;
                }
                out.push(begins);
            }
        }
    }
}

/// How wide buckets are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Width {
    /// So many ns; they begin at multiples of it since 1970.
    Fixed(i64),
    /// As a calendar has them.
    Calendar(Calendar),
}

impl Width {
    /// Where the bucket begins that holds a time.
    #[must_use]
    pub fn start(&self, time_ns: i64) -> i64 {
        match self {
            Self::Fixed(width_ns) => bucket_start(time_ns, *width_ns),
            Self::Calendar(calendar) => calendar.span(time_ns).0,
        }
    }

    /// The last time of that bucket.
    #[must_use]
    pub fn last(&self, time_ns: i64) -> i64 {
        match self {
            Self::Fixed(width_ns) => bucket_last(time_ns, *width_ns),
            Self::Calendar(calendar) => calendar.span(time_ns).1,
        }
    }
}

/// How the time of a question is parted.
#[derive(Debug, Clone)]
pub enum Grid {
    /// At multiples of a width.
    Fixed(i64),
    /// At these times, ascending; the last bucket has no end.
    Edges(Arc<[i64]>),
    /// Not at all; the one bucket is told to begin here.
    Whole(i64),
}

impl Grid {
    /// Where the bucket begins that holds a time; of edges the first one holds what is before them.
    #[must_use]
    pub fn start(&self, time_ns: i64) -> i64 {
        match self {
            Self::Fixed(width_ns) => bucket_start(time_ns, *width_ns),
            Self::Edges(edges) => {
                let at = edges.partition_point(|edge| *edge <= time_ns).saturating_sub(1);
                edges.get(at).copied().unwrap_or(time_ns)
            }
            Self::Whole(start_ns) => *start_ns,
        }
    }

    /// Where the bucket ends that holds a time: the end itself is the next one's, but for `i64::MAX`.
    #[must_use]
    pub fn end(&self, time_ns: i64) -> i64 {
        match self {
            // A bucket that begins before all times begins at the first of them.
            Self::Fixed(width_ns) => bucket_last(time_ns, *width_ns).saturating_add(1),
            Self::Edges(edges) => {
                edges.get(edges.partition_point(|edge| *edge <= time_ns)).copied().unwrap_or(i64::MAX)
            }
            Self::Whole(_) => i64::MAX,
        }
    }

    /// The coarsest level whose buckets lie within these.
    #[must_use]
    pub fn level(&self) -> Level {
        let within = |level: Level| match self {
            Self::Fixed(width_ns) => width_ns % level.width_ns() == 0,
            // What begins before all times is cut by no bucket.
            Self::Edges(edges) => {
                edges.iter().all(|edge| *edge == i64::MIN || edge.rem_euclid(level.width_ns()) == 0)
            }
            Self::Whole(_) => true,
        };
        LEVELS.into_iter().rev().find(|level| within(*level)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};

    /// Zones that change their clocks by hours, by half an hour, at midnight and one minute after it, that have left
    /// out a day, and that lie half or a quarter of an hour beside.
    pub const ZONES: [&str; 10] = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "America/St_Johns",
        "America/Sao_Paulo",
        "America/Toronto",
        "Pacific/Apia",
        "UTC",
    ];

    fn ns(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    fn day(zone: &str) -> Calendar {
        Calendar::parse("1d", zone).unwrap()
    }

    fn hours(zone: &str, at: &str) -> (String, i64) {
        let (start, last) = day(zone).span(ns(at));
        let shown = Timestamp::from_nanosecond(i128::from(start)).unwrap().to_string();
        (shown, (last + 1 - start) / MINUTE_NS)
    }

    #[test]
    fn days_are_as_long_as_the_clock_makes_them() {
        for (zone, at, start, minutes) in [
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", 23 * 60),
            ("Europe/Berlin", "2026-10-25T22:59:59.999999999Z", "2026-10-24T22:00:00Z", 25 * 60),
            ("Europe/Berlin", "1890-06-01T12:00:00Z", "1890-05-31T23:06:32Z", 24 * 60),
            ("Asia/Kolkata", "2026-07-01T00:00:00Z", "2026-06-30T18:30:00Z", 24 * 60),
            ("Australia/Lord_Howe", "2026-04-05T00:00:00Z", "2026-04-04T13:00:00Z", 24 * 60 + 30),
            // Midnight is skipped, in the second case from half an hour before it on.
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", 23 * 60),
            ("America/Toronto", "1919-03-31T12:00:00Z", "1919-03-31T04:30:00Z", 23 * 60 + 30),
            // At one minute past midnight the clock is put back to 23:01: that hour comes again in the new day.
            ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", 25 * 60),
            // There was no 30 December.
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", 24 * 60),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24 * 60),
        ] {
            assert_eq!(hours(zone, at), (start.to_owned(), minutes), "{zone} at {at}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first() {
        let at = ns("2026-11-22T12:00:00Z");
        let week = Calendar::parse("1w", "Europe/Berlin").unwrap().span(at);
        assert_eq!(week, (ns("2026-11-15T23:00:00Z"), ns("2026-11-22T23:00:00Z") - 1));
        let month = Calendar::parse("1mo", "Europe/Berlin").unwrap();
        assert_eq!(month.span(at), (ns("2026-10-31T23:00:00Z"), ns("2026-11-30T23:00:00Z") - 1));
        let year = month.edges(ns("2025-12-31T23:00:00Z"), ns("2026-12-31T23:00:00Z"), 12).unwrap();
        assert_eq!((year.len(), year[3]), (12, ns("2026-03-31T22:00:00Z")));
        assert_eq!(month.edges(ns("2025-12-31T22:59:59Z"), ns("2026-12-31T23:00:00Z"), 12), None);
    }

    #[test]
    fn what_is_no_calendar_is_named_with_what_is_allowed() {
        for (width, zone) in
            [("2d", "UTC"), ("1h", "UTC"), ("1d", "Europe/Bonn"), ("1d", ""), ("1d", "CET-1")]
        {
            let error = Calendar::parse(width, zone).unwrap_err().to_string();
            assert!(error.contains("allowed are"), "{error}");
        }
        assert_eq!(day("europe/berlin"), day("Europe/Berlin"));
    }

    #[test]
    fn the_coarsest_level_is_that_of_the_edges() {
        let level = |zone: &str, from: &str, to: &str| {
            Grid::Edges(day(zone).edges(ns(from), ns(to), 4_000).unwrap().into()).level()
        };
        let (from, to) = ("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
        assert_eq!(level("UTC", from, to), Level::Day);
        assert_eq!(level("Europe/Berlin", from, to), Level::Hour);
        assert_eq!(level("Asia/Kolkata", from, to), Level::Minute);
        assert_eq!(level("Europe/Berlin", "1890-01-01T00:00:00Z", "1890-02-01T00:00:00Z"), Level::Raw);
        assert_eq!(Grid::Fixed(7 * HOUR_NS).level(), Level::Hour);
        assert_eq!(Grid::Whole(3).level(), Level::Day);
    }

    #[test]
    fn the_ends_of_time_have_buckets() {
        for zone in ZONES {
            for width in ["1d", "1w", "1mo"] {
                let calendar = Calendar::parse(width, zone).unwrap();
                for at in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                    let (start, last) = calendar.span(at);
                    assert!(start <= at && at <= last, "{zone} {width} {at}");
                }
                assert!(calendar.edges(i64::MAX - DAY_NS, i64::MAX, 3).is_some());
            }
        }
    }

    proptest! {
        /// The date of a time is the greatest that a clock has shown up to then.
        #[test]
        fn a_time_is_in_the_day_that_a_clock_shows(
            zone in prop::sample::select(&ZONES[..]),
            at in -2_500_000_000_i64..2_500_000_000,
            near in prop::option::of(-200_i64..200),
        ) {
            let calendar = day(zone);
            let mut at = at * 1_000_000_000;
            if let Some(minutes) = near {
                // Beside a change of the clock.
                let after = Timestamp::from_nanosecond(i128::from(at)).unwrap();
                let change = calendar.zone.following(after).next();
                at = change.map_or(at, |change| change.timestamp().as_second() * 1_000_000_000) + minutes * MINUTE_NS;
            }
            let shown = |ns: i64| {
                calendar.zone.to_datetime(Timestamp::from_nanosecond(i128::from(ns)).unwrap()).date()
            };
            // No clock was put back by more than a day.
            let so_far = |ns: i64| (0..200).map(|n| shown(ns - n * 10 * MINUTE_NS)).max().unwrap();
            let (start, last) = calendar.span(at);
            prop_assert!(start <= at && at <= last);
            prop_assert_eq!(shown(start), so_far(at).max(shown(start)));
            prop_assert!(so_far(start - 1) < shown(start));
            prop_assert_eq!(calendar.span(last).0, start);
            prop_assert_eq!(calendar.span(last.saturating_add(1)).0, last + 1);
            prop_assert!(shown(last + 1) > shown(start));
            prop_assert_eq!(calendar.edges(start, last + 1, 1), Some(vec![start]));
        }
    }
}
