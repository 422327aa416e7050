//! The budget of bytes that are written to flash in a day.
//!
//! A day is one of the spool's age (see `age`): the time that it was open, which no clock can set. What
//! counts is what is handed to the storage; what a crash keeps from being counted is less than one commit.
//! When the use runs ahead of the day, appends are to come less often, in larger batches. When the
//! budget is used up, a stream that blocks waits for the next day, and of the others new readings are given
//! up: to give up older ones for them would be written, too. Alarms are taken all the same.

use tideline_protocol::model::{Class, DropCause};

use crate::books::Books;
use crate::room::Verdict;
use crate::spool::{Spool, SpoolError};
use crate::streams::{Overflow, StreamNo};

const DAY_S: u64 = 86_400;

/// How the use of the day's budget compares with the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// There is no budget, or enough of it.
    #[default]
    Plenty,
    /// More than half is used, and more than of the day: appends should come less often.
    Short,
    /// All is used: streams take nothing but alarms until the next day.
    Spent,
}

impl Pace {
    fn of(used: u64, budget: u64, day_s: u64) -> Self {
        if budget == 0 || used < budget / 2 {
            Self::Plenty
        } else if used >= budget {
            Self::Spent
        } else if u128::from(used) * u128::from(DAY_S) > u128::from(budget) * u128::from(day_s) {
            Self::Short
        } else {
            Self::Plenty
        }
    }

    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plenty => "plenty",
            Self::Short => "short",
            Self::Spent => "spent",
        }
    }
}

impl Spool {
    /// What is left of the day's budget.
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace::of(self.worn(), self.config.flash_bytes_per_day, self.books.age_s % DAY_S)
    }

    /// Bytes written in this day.
    pub(crate) fn worn(&self) -> u64 {
        self.books.worn.saturating_add(self.meter.bytes().saturating_sub(self.metered))
    }

    /// Puts what was written so far into the books that a commit is to write; gives how far that is.
    pub(crate) fn count_wear(&self, books: &mut Books) -> u64 {
        books.worn = self.worn();
        self.meter.bytes()
    }

    /// Begins a new day when the spool is old enough for it.
    pub(crate) fn begin_day(&mut self) {
        let day = self.books.age_s / DAY_S;
        if day > self.books.wear_day {
            (self.books.wear_day, self.books.worn, self.metered) = (day, 0, self.meter.bytes());
        }
    }

    /// What comes of a batch of `stream` that the budget is not to be spent on.
    ///
    /// # Errors
    /// The stream blocks.
    pub(crate) fn spare_flash(&self, stream: StreamNo) -> Result<Option<Verdict>, SpoolError> {
        if self.pace() != Pace::Spent || self.streams.class(stream) == Class::Alarm {
            return Ok(None);
        }
        match self.streams.policy(stream).overflow {
            Overflow::Block => Err(self.full(stream, DropCause::Flash)),
            _ => Ok(Some(Verdict::Refused(DropCause::Flash))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_short_when_its_use_runs_ahead_of_the_day() {
        for (used, day_s, pace) in [
            (0, 0, Pace::Plenty),
            (49, 0, Pace::Plenty),
            (50, 0, Pace::Short),
            (50, DAY_S / 2, Pace::Plenty),
            (60, DAY_S / 2, Pace::Short),
            (99, DAY_S - 1, Pace::Plenty),
            (100, DAY_S - 1, Pace::Spent),
            (1_000, 0, Pace::Spent),
        ] {
            assert_eq!(Pace::of(used, 100, day_s), pace, "{used} at {day_s}");
            assert_eq!(Pace::of(used, 0, day_s), Pace::Plenty);
        }
    }
}
