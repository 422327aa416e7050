//! The tables that a statement may read.

use serde::{Deserialize, Serialize};

/// A table, as SQL knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// The readings: device, point, unit, time, value, text, quality.
    Readings,
    /// Aggregates of a minute: device, point, unit, time, count, min, max, sum, mean, first, last.
    Minute,
    /// The same of an hour, and the figures that are named.
    Hour,
    /// The same of a day, and the figures that are named.
    Day,
    /// The devices.
    Devices,
    /// Readings that retention took from the others: the same columns.
    Cold,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Readings, Self::Minute, Self::Hour, Self::Day, Self::Devices, Self::Cold];

    /// The name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Minute => "rollups_1m",
            Self::Hour => "rollups_1h",
            Self::Day => "rollups_1d",
            Self::Devices => "devices",
            Self::Cold => "cold",
        }
    }

    /// The table of a name; names are in lower case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// How wide a bucket is, ns, where the table has buckets.
    #[must_use]
    pub const fn width_ns(self) -> Option<i64> {
        match self {
            Self::Minute => Some(60_000_000_000),
            Self::Hour => Some(3_600_000_000_000),
            Self::Day => Some(86_400_000_000_000),
            Self::Readings | Self::Devices | Self::Cold => None,
        }
    }

    /// Whether its rows are readings.
    #[must_use]
    pub const fn is_readings(self) -> bool {
        matches!(self, Self::Readings | Self::Cold)
    }

    /// The columns of numbers after device, point and unit, in the order of a block; `i64` where true. Figures are there
    /// where they are `asked` for.
    pub(crate) fn numbers(self, asked: &[String]) -> Vec<(&'static str, bool)> {
        let named = |(name, _): &&(&str, bool)| asked.iter().any(|asked| asked == name);
        self.always().iter().chain(self.figures().iter().filter(named)).copied().collect()
    }

    /// The columns that are there only for statements that name them, in the order of a block: reading them costs more
    /// than all others do, so a star does not mean them.
    #[must_use]
    pub const fn figures(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Hour | Self::Day => &FIGURES,
            Self::Readings | Self::Cold | Self::Minute | Self::Devices => &[],
        }
    }

    const fn always(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Readings | Self::Cold => &[("time", true), ("value", false)],
            Self::Minute | Self::Hour | Self::Day => &[
                ("time", true),
                ("count", true),
                ("min", false),
                ("max", false),
                ("sum", false),
                ("first", false),
                ("last", false),
            ],
            Self::Devices => &[],
        }
    }
}

/// Means over time and quantiles, and how near they are.
pub(crate) const FIGURES: [(&str, bool); 7] = [
    ("twa", false),
    ("twa_near", true),
    ("p50", false),
    ("p90", false),
    ("p95", false),
    ("p99", false),
    ("p_error", false),
];
