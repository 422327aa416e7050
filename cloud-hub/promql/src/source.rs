//! What the evaluator needs of whoever holds the series.

use crate::labels::Labels;
use crate::matcher::Matcher;

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, ns since 1970.
    pub time_ns: i64,
    /// The value.
    pub value: f64,
}

/// What a sample says of the readings that it stands for: where a source no longer has some of a series one by one, one
/// sample stands for all of a stretch of time. A sample that is a reading says its value, whatever is asked, but for
/// `Count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Their mean; asked where the newest sample at a time counts.
    Newest,
    /// Their mean.
    Mean,
    /// The smallest.
    Least,
    /// The largest.
    Greatest,
    /// All added up.
    Sum,
    /// How many; 1 for a reading.
    Count,
    /// The last one as it was: what a counter had come to.
    Last,
}

/// A sample that stands for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coarse {
    /// The time of the sample.
    pub time_ns: i64,
    /// Until when, ns, no newer one need follow: up to then it is the newest value of its series.
    pub until_ns: i64,
}

/// Samples of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// By time, each time once.
    pub all: Vec<Sample>,
    /// Which of them stand for others, by time.
    pub coarse: Vec<Coarse>,
}

impl From<Vec<Sample>> for Samples {
    /// All of them are readings.
    fn from(all: Vec<Sample>) -> Self {
        Self { all, coarse: Vec::new() }
    }
}

impl Samples {
    /// The longest time for which one of them is the newest value, when that of a reading is so long.
    pub(crate) fn look_back_ns(&self, of_reading_ns: i64) -> i64 {
        // The span is open where it begins.
        let spans = self.coarse.iter().map(|one| one.until_ns.saturating_sub(one.time_ns).saturating_add(1));
        spans.fold(of_reading_ns, i64::max)
    }

    /// Whether a sample is the newest value at a later time still.
    pub(crate) fn holds(&self, sample: &Sample, at_ns: i64, of_reading_ns: i64) -> bool {
        if at_ns.saturating_sub(sample.time_ns) < of_reading_ns {
            return true;
        }
        let at = self.coarse.binary_search_by_key(&sample.time_ns, |one| one.time_ns);
        at.is_ok_and(|at| self.coarse.get(at).is_some_and(|one| at_ns <= one.until_ns))
    }
}

/// The source's own fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Holds series and their samples.
pub trait Source {
    /// What the source knows a series by.
    type Id: Clone;

    /// The series that fulfil all matchers, each with its labels; no two have the same labels. A
    /// matcher of a label that a series does not have sees the empty text.
    ///
    /// # Errors
    /// The source failed.
    fn select(&self, matchers: &[Matcher]) -> Result<Vec<(Self::Id, Labels)>, SourceError>;

    /// The samples of a series with `after_ns < time ≤ to_ns`, by time, each time once, and at most `most`
    /// of them: the oldest where there are more. For [`Of::Newest`] also older ones that stand for others until after
    /// `after_ns`.
    ///
    /// # Errors
    /// The source failed.
    fn samples(
        &self,
        id: &Self::Id,
        range_ns: (i64, i64),
        most: usize,
        of: Of,
    ) -> Result<Samples, SourceError>;
}
