//! What other systems write, as readings: InfluxDB line protocol, Prometheus remote write, and tables.
//!
//! Bytes come in and columns go out: [`body`] decompresses, [`line`] and [`remote`] parse, [`names`] says
//! which device and point a reading is of, [`table`] does it for files, [`when`] reads times. It opens nothing, reads no clock, and takes no more memory than the
//! limits named here allow, whatever the bytes say.

pub mod body;
mod gather;
pub mod line;
pub mod names;
pub mod remote;
pub mod table;
pub mod when;

pub use gather::{Column, Problem, Problems, Taken};
pub use names::Mapping;

/// Most bytes of a request once it is decompressed: 100,000 lines of 160 bytes.
pub const PLAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most lines of a request, comments and blank ones among them; a client sends some thousand at once.
pub const LINES_MAX: u64 = 500_000;
/// Most readings of a request: 8 MB of them.
pub const READINGS_MAX: usize = 500_000;
/// Most series of a request: each takes a column of its own.
pub const SERIES_MAX: usize = 50_000;
/// Most bytes of one time series of a remote write request: its labels, and some ten thousand samples.
pub const SERIES_BYTES_MAX: usize = 1024 * 1024;
/// Most labels of one time series, and most tags of a line.
pub const LABELS_MAX: usize = 128;
/// Most strings of a table of symbols.
pub const SYMBOLS_MAX: usize = 200_000;
/// Problems of a request that are told one by one; the others are counted.
pub const PROBLEMS_LISTED_MAX: usize = 20;
/// Longest excerpt of a request in a text about it, in characters.
const EXCERPT_CHARS_MAX: usize = 40;

/// Why a request is refused as a whole; its sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// More than a limit allows.
    #[error("the request has more than {max} {what}; send it in smaller parts")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The bytes are not what was announced.
    #[error("{0}")]
    Malformed(String),
}

impl FormatError {
    fn too_much(what: &'static str, max: usize) -> Self {
        Self::TooMuch { what, max: max as u64 }
    }
}

/// A part of a request as a text may show it.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(EXCERPT_CHARS_MAX * 4)).unwrap_or(bytes));
    let cut: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
