//! The nouns of the field: ids, readings, batches, gaps, the ledger.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use crate::rows::RowCounts;
pub use crate::value::ValueKind;

/// Longest id in bytes: it is written into certificates, paths and labels.
pub const ID_BYTES_MAX: usize = 64;
/// Longest unit in bytes; UCUM codes are short.
pub const UNIT_BYTES_MAX: usize = 32;
/// Longest name of a series for people, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 128;
/// Most series that one agent epoch may define: the hub holds the whole dictionary in memory.
pub const SERIES_PER_EPOCH_MAX: u32 = 100_000;

/// What is wrong with an id or a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The text is empty or longer than the limit.
    #[error("{what} {text:?} is {len} bytes long; allowed are 1 to {max}")]
    Length {
        /// Which kind of name.
        what: &'static str,
        /// The text, cut to the limit.
        text: String,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A character is not allowed.
    #[error("{what} {text:?} holds {found:?}; allowed are {allowed}")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The text.
        text: String,
        /// The offending character.
        found: char,
        /// What is allowed.
        allowed: &'static str,
    },
    /// It is what paths have for a folder itself, or the one above.
    #[error("{what} {text:?} means a folder in paths and addresses; allowed is any other name")]
    Dots {
        /// Which kind of name.
        what: &'static str,
        /// The text.
        text: String,
    },
}

fn check_name(what: &'static str, text: &str, slash: bool) -> Result<(), ModelError> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        let cut: String = text.chars().take(ID_BYTES_MAX).collect();
        return Err(ModelError::Length { what, text: cut, len: text.len(), max: ID_BYTES_MAX });
    }
    // A browser resolves them before it asks, so that the question would be another one.
    if !slash && matches!(text, "." | "..") {
        return Err(ModelError::Dots { what, text: text.to_owned() });
    }
    let bad = text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || (slash && *c == '/')));
    match bad {
        None => Ok(()),
        Some(found) => Err(ModelError::Character {
            what,
            text: text.to_owned(),
            found,
            allowed: if slash {
                "letters, digits, '.', '_', '-' and '/'"
            } else {
                "letters, digits, '.', '_' and '-'"
            },
        }),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $slash:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// Says what is wrong with the text and what is allowed.
            pub fn parse(text: &str) -> Result<Self, ModelError> {
                check_name($what, text, $slash)?;
                Ok(Self(text.to_owned()))
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ModelError;
            fn from_str(text: &str) -> Result<Self, ModelError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::parse(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }
    };
}

name_type!(
    /// The name of an agent; it is what its certificate says.
    AgentId, "agent id", false);
name_type!(
    /// The name of a device: the agent's own host, or a field device behind it.
    DeviceId, "device id", false);
name_type!(
    /// The name of a site: of devices that share a document.
    SiteId, "site id", false);
name_type!(
    /// The name of a group: of devices that share a document, wherever they are.
    GroupId, "group id", false);
name_type!(
    /// The name of a measured point of a device.
    PointId, "point id", true);

impl AgentId {
    /// The agent's own host as a device.
    #[must_use]
    pub fn own_device(&self) -> DeviceId {
        DeviceId(self.0.clone())
    }
}

/// A spool's life: a random id made when the spool is created, so that a wiped spool cannot
/// reuse sequence numbers that the hub has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// An epoch from 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Epoch {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let fail = || ModelError::Length { what: "epoch", text: text.to_owned(), len: text.len(), max: 32 };
        if text.len() != 32 || !text.is_ascii() {
            return Err(fail());
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| fail())?;
        Ok(Self(value.to_be_bytes()))
    }
}

impl<C> Encode<C> for Epoch {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Epoch {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        bytes.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("an epoch has 16 bytes"))
    }
}

/// The number of a batch within its epoch; the first is 1 and there are no holes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Seq(#[n(0)] u64);

impl Seq {
    /// The first of an epoch.
    pub const FIRST: Self = Self(1);

    /// A sequence number; zero means "before the first".
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a series within one agent epoch; contiguous from 0.
pub type SeriesNo = u32;

/// What a series number stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct SeriesDef {
    /// The device that is measured.
    #[n(0)]
    pub device: DeviceId,
    /// The point of the device.
    #[n(1)]
    pub point: PointId,
    /// The unit as a UCUM code; empty when unknown.
    #[n(2)]
    pub unit: String,
    // None means floats.
    #[n(3)]
    kind: Option<ValueKind>,
    // None means that it has none of its own.
    #[n(4)]
    name: Option<String>,
}

impl SeriesDef {
    /// A series of floats without a name for people.
    #[must_use]
    pub const fn new(device: DeviceId, point: PointId, unit: String) -> Self {
        Self { device, point, unit, kind: None, name: None }
    }

    /// The same with values of this kind.
    #[must_use]
    pub fn of_kind(self, kind: ValueKind) -> Self {
        Self { kind: (kind != ValueKind::Float).then_some(kind), ..self }
    }

    /// The same with a name for people, of at most [`NAME_BYTES_MAX`] bytes; an empty one is none.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: (!name.is_empty()).then(|| name.to_owned()), ..self }
    }

    /// What its values are.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        self.kind.unwrap_or_default()
    }

    /// The name for people; empty when it has none of its own.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// One reading of a series that the context names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: i64,
    /// The value in the series' unit, as a word: see [`crate::value`].
    pub value: f64,
}

/// How urgent the readings of a stream are.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Ahead of all others.
    #[n(0)]
    Alarm,
    /// Ahead of plain readings.
    #[n(1)]
    State,
    /// Plain readings.
    #[n(2)]
    #[default]
    Live,
}

impl Class {
    /// The stable name in configuration, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::State => "state",
            Self::Live => "live",
        }
    }
}

/// Why accepted readings were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum DropCause {
    /// The spool's quota needed the room.
    #[n(0)]
    Quota,
    /// The readings outlived their expiry.
    #[n(1)]
    Expired,
    /// A stored batch could no longer be read back.
    #[n(2)]
    Damaged,
    /// The day's budget of bytes written to flash was used up.
    #[n(3)]
    Flash,
    /// The disk had no room.
    #[n(4)]
    DiskFull,
    /// A batch of fewer readings took their place.
    #[n(5)]
    Downsampled,
    /// Newer readings of the same series took their place.
    #[n(6)]
    Superseded,
}

impl DropCause {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 7] = [
        Self::Quota,
        Self::Expired,
        Self::Damaged,
        Self::Flash,
        Self::DiskFull,
        Self::Downsampled,
        Self::Superseded,
    ];

    /// The stable name in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::Flash => "flash",
            Self::DiskFull => "disk_full",
            Self::Downsampled => "downsampled",
            Self::Superseded => "superseded",
        }
    }
}

/// A run of accepted batches that the agent had to give up before the hub had them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Gap {
    /// The first seq given up.
    #[n(0)]
    pub first: Seq,
    /// The rows of each seq from `first` on.
    #[n(1)]
    pub rows: RowCounts,
    /// The earliest time among the readings, in ns.
    #[n(2)]
    pub from_ns: i64,
    /// The latest time among the readings, in ns.
    #[n(3)]
    pub to_ns: i64,
    /// Why.
    #[n(4)]
    pub cause: DropCause,
}

impl Gap {
    /// The last seq given up.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq::new(self.first.get().saturating_add(self.rows.seqs()).saturating_sub(1))
    }
}

/// An agent's own account of one epoch, in rows:
/// produced = stored + pending + dropped + refused (INV-4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Account {
    /// Accepted from sources.
    #[n(0)]
    pub produced: u64,
    /// Acknowledged by the hub as stored.
    #[n(1)]
    pub stored: u64,
    /// Held, and not yet acknowledged.
    #[n(2)]
    pub pending: u64,
    /// Given up.
    #[n(3)]
    pub dropped: u64,
    /// Refused by the hub, which keeps them as dead letters.
    #[n(4)]
    pub refused: u64,
}

impl Account {
    /// Whether INV-4 holds.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.stored
            .checked_add(self.pending)
            .and_then(|s| s.checked_add(self.dropped))
            .and_then(|s| s.checked_add(self.refused))
            == Some(self.produced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_path_would_resolve_are_refused() {
        for text in [".", ".."] {
            let refused = DeviceId::parse(text).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("device id {text:?} means a folder")), "{refused}");
            assert!(AgentId::parse(text).is_err() && SiteId::parse(text).is_err());
            // A point stands in no path.
            assert!(PointId::parse(text).is_ok());
        }
        assert!(
            DeviceId::parse("...").is_ok() && DeviceId::parse(".a").is_ok() && PointId::parse("./a").is_ok()
        );
    }
}
