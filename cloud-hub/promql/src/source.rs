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
    /// of them: the oldest where there are more.
    ///
    /// # Errors
    /// The source failed.
    fn samples(
        &self,
        id: &Self::Id,
        after_ns: i64,
        to_ns: i64,
        most: usize,
    ) -> Result<Vec<Sample>, SourceError>;
}
