//! PromQL over any source of series: parser, types, evaluator.
//!
//! Pure: no I/O, no clock, no task, and nothing of how readings are stored. The semantics are those of
//! Prometheus 3 for samples that are floats: <https://prometheus.io/docs/prometheus/latest/querying/basics/>,
//! `operators` and `functions` beside it. There are no histograms, no staleness markers (a series that
//! ends is absent after [`LOOKBACK_NS`]) and no experimental functions; what is not supported is an
//! [`Error`] that names it.
//!
//! ```text
//! text → parse::parse → Expr (its types are checked) → eval::instant, eval::range → Answer
//!                                                          ↑ Source: series by matchers, samples by time
//! ```
//! Times are nanoseconds since 1970, UTC.

pub mod ast;
mod civil;
pub mod duration;
mod error;
mod eval;
pub mod functions;
mod labels;
mod lex;
mod matcher;
pub mod number;
mod parse;
mod source;
mod text;

pub use error::Error;
pub use eval::{Answer, Limits, Query, Range, Series, instant, range};
pub use labels::{Labels, NAME};
pub use matcher::{BadRegex, MatchOp, Matcher};
pub use parse::{EXPRESSION_BYTES_MAX, parse, parse_selector};
pub use source::{Coarse, Of, Sample, Samples, Source, SourceError};

/// How far back an instant selector looks for the newest sample, as Prometheus does unless told otherwise.
pub const LOOKBACK_NS: i64 = 5 * 60 * NS_PER_S;
/// The step of a subquery that names none: Prometheus takes its evaluation interval, one minute.
pub const SUBQUERY_STEP_NS: i64 = 60 * NS_PER_S;
/// Nanoseconds of a second.
pub const NS_PER_S: i64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;
