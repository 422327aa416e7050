//! What can go wrong between the text of a query and its answer.

use crate::source::SourceError;

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no PromQL, or does not fit its types.
    #[error("{line}:{column}: parse error: {what}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong there, and what is allowed.
        what: String,
    },
    /// What is asked of the query cannot be done, as a step of zero.
    #[error("{0}")]
    Invalid(String),
    /// The query asks for more than a named limit.
    #[error("{0}")]
    TooMuch(String),
    /// The query is well formed and cannot be evaluated over these series.
    #[error("{0}")]
    Execution(String),
    /// The caller wants no answer any more.
    #[error("query was canceled")]
    Canceled,
    /// The source failed.
    #[error("{0}")]
    Source(#[from] SourceError),
}
