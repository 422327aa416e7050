//! Values: numbers of several kinds, truth values, texts and their absence, each with a quality.
//!
//! Columns hold doubles throughout. A good value that a double holds exactly stands in them as it is: numbers,
//! integers up to 2^53, truth values as 0 and 1. Everything else is *boxed*: a NaN of its own whose lower half is
//! the number of an entry in a small table beside the column ([`Boxes`]). So whoever calculates needs to know one
//! rule only: a NaN is no number and is left out.
//!
//! | word | stands for |
//! |---|---|
//! | any double but these | itself |
//! | `0xFFFD_CE11_FFFF_FFFF` | null of good quality, without an entry |
//! | `0xFFFD_CE11_nnnn_nnnn` | entry n |
//!
//! A NaN that a source gave with bits of such a word is no entry, and read as null. Quality has the three severities of
//! OPC UA (Part 8, status codes). Readings of bad or uncertain quality are left out of calculations, as they are
//! by the defaults of its aggregates (Part 13, TreatUncertainAsBad).

mod boxes;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use self::boxes::{Boxed, Boxes};

/// Longest text of a reading in bytes of UTF-8; a longer one is refused where it comes in.
pub const VALUE_TEXT_BYTES_MAX: usize = 4096;
/// Doubles hold integers up to here exactly.
const EXACT_MAX: u64 = 1 << 53;
/// The upper half of a word that stands for something else.
const MARK: u64 = 0xFFFD_CE11;
const NULL_INDEX: u32 = u32::MAX;

/// Null of good quality as a word.
pub const NULL: f64 = f64::from_bits(MARK << 32 | NULL_INDEX as u64);

/// What a series' values are.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// Doubles.
    #[n(0)]
    #[default]
    Float,
    /// Integers of 64 bits with sign.
    #[n(1)]
    Int,
    /// Truth values.
    #[n(2)]
    Bool,
    /// Texts of up to [`VALUE_TEXT_BYTES_MAX`] bytes.
    #[n(3)]
    Text,
}

impl ValueKind {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 4] = [Self::Float, Self::Int, Self::Bool, Self::Text];

    /// The stable name in configuration, JSON and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no kind or quality.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is unknown; allowed are {allowed}")]
pub struct UnknownName {
    text: String,
    allowed: &'static str,
}

impl FromStr for ValueKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownName { text: text.to_owned(), allowed: "float, int, bool, text" })
    }
}

/// How far a reading can be trusted, by who measured it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// As it should be.
    #[n(0)]
    #[default]
    Good,
    /// Stale, substituted, out of calibration: it may be right.
    #[n(1)]
    Uncertain,
    /// Not to be used.
    #[n(2)]
    Bad,
}

impl Quality {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Good, Self::Uncertain, Self::Bad];

    /// The stable name in JSON and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Quality {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|quality| quality.as_str() == text)
            .ok_or_else(|| UnknownName { text: text.to_owned(), allowed: "good, uncertain, bad" })
    }
}

/// A value as people and programs see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none.
    Null,
    /// A double.
    Float(f64),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(Arc<str>),
}

impl Value {
    /// Its kind; null has none.
    #[must_use]
    pub const fn kind(&self) -> Option<ValueKind> {
        match self {
            Self::Null => None,
            Self::Float(_) => Some(ValueKind::Float),
            Self::Int(_) => Some(ValueKind::Int),
            Self::Bool(_) => Some(ValueKind::Bool),
            Self::Text(_) => Some(ValueKind::Text),
        }
    }
}

impl fmt::Display for Value {
    /// As in CSV: null is empty, and a text stands without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Float(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// A number that stands in a column as it is, as a value of this kind; one that the kind has not stays a double.
#[expect(clippy::cast_possible_truncation, clippy::float_cmp, reason = "exact, as is asked before")]
fn plain(number: f64, kind: ValueKind) -> Value {
    match kind {
        ValueKind::Bool if number == 0.0 || number == 1.0 => Value::Bool(number == 1.0),
        ValueKind::Int if number.trunc() == number && number.abs() <= EXACT_MAX as f64 => {
            Value::Int(number as i64)
        }
        _ => Value::Float(number),
    }
}

/// The number of the entry that a word stands for, null included.
const fn index_of(word: f64) -> Option<u32> {
    let bits = word.to_bits();
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    if bits >> 32 == MARK { Some(bits as u32) } else { None }
}

/// Whether a word stands for something else than itself.
#[must_use]
pub const fn is_boxed(word: f64) -> bool {
    index_of(word).is_some()
}

const fn word_of(index: u32) -> f64 {
    f64::from_bits(MARK << 32 | index as u64)
}

/// Whether one of these is a NaN; a loop without branches.
#[must_use]
pub fn any_nan(words: &[f64]) -> bool {
    let (chunks, rest) = words.as_chunks::<16>();
    chunks.iter().any(|chunk| chunk.iter().fold(false, |any, word| any | word.is_nan()))
        || rest.iter().any(|word| word.is_nan())
}
