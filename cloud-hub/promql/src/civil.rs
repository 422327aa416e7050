//! Days and hours of a time, in the proleptic Gregorian calendar, UTC.

/// A time, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// The year.
    pub year: i64,
    /// The month, from 1.
    pub month: i64,
    /// The day of the month, from 1.
    pub day: i64,
    /// Days since 1970.
    pub days: i64,
    /// The second of the day.
    pub second: i64,
}

impl Civil {
    /// Takes seconds since 1970 apart: Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
    #[must_use]
    pub fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * shifted_month + 2) / 5 + 1,
            days,
            second: seconds.rem_euclid(86_400),
        }
    }

    /// Sunday is 0.
    #[must_use]
    pub fn weekday(&self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    /// From 1.
    #[must_use]
    pub fn day_of_year(&self) -> i64 {
        let before = (1..self.month).map(|month| days_in(self.year, month));
        before.sum::<i64>() + self.day
    }

    /// How many days the month has.
    #[must_use]
    pub fn days_in_month(&self) -> i64 {
        days_in(self.year, self.month)
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_are_told_right() {
        // (seconds, year, month, day, weekday, day of year, days of month): checked with `date -u -d @…`.
        let cases = [
            (0, 1970, 1, 1, 4, 1, 31),
            (951_782_400, 2000, 2, 29, 2, 60, 29),
            (1_763_769_600, 2025, 11, 22, 6, 326, 30),
            (-1, 1969, 12, 31, 3, 365, 31),
            (4_107_542_400, 2100, 3, 1, 1, 60, 31),
        ];
        for (seconds, year, month, day, weekday, of_year, in_month) in cases {
            let civil = Civil::of(seconds);
            assert_eq!((civil.year, civil.month, civil.day), (year, month, day), "{seconds}");
            assert_eq!(civil.weekday(), weekday, "{seconds}");
            assert_eq!(civil.day_of_year(), of_year, "{seconds}");
            assert_eq!(civil.days_in_month(), in_month, "{seconds}");
        }
    }
}
