//! The state of a pipeline as bytes.
//!
//! ```text
//! "TLPS"  version u16  length u64  CRC-32C u32  payload
//!  4       2            8           4            CBOR, so many bytes
//! ```
//! Numbers are little-endian. The payload has the series that states are of, and of each stage its name, a fingerprint of
//! its definition and what it keeps. A stage takes its state back when its definition is the same; one that was changed, or is
//! new, begins without, and is named. A field that a later version adds to a definition must be left out of its JSON where it
//! has its default, so that fingerprints stay what they are.
//!
//! Damage that a checksum does not show is an error or a state that could have been, and no panic.

use minicbor::{Decode, Encode};
use tideline_protocol::model::SeriesDef;
use xxhash_rust::xxh3::xxh3_64;

use crate::definition::Kind;
use crate::limits::SERIES_MAX;

const STATE_MAGIC: [u8; 4] = *b"TLPS";
/// The version of the layout.
const STATE_VERSION: u16 = 2;
/// The first one that is still read: it lacks the clocks that gave times, and what lasts begins anew.
const STATE_VERSION_MIN: u16 = 1;
const STATE_HEADER_BYTES: usize = 18;

/// Why bytes are not the state of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They do not begin as a state does.
    #[error("these are not the bytes of a pipeline's state")]
    Foreign,
    /// A later version wrote them.
    #[error("the state has version {found}; allowed are {STATE_VERSION_MIN} to {STATE_VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// They are not as many as they say.
    #[error("the state has {found} bytes behind its header in place of {wanted}")]
    Length {
        /// What they say.
        wanted: u64,
        /// How many there are.
        found: u64,
    },
    /// The checksum is not theirs.
    #[error("the state's checksum is wrong")]
    Checksum,
    /// They are no state.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// They are of another pipeline.
    #[error("the state is of the pipeline {found:?}")]
    OtherPipeline {
        /// Which.
        found: String,
    },
}

/// What a pipeline keeps.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Saved {
    #[n(0)]
    pub pipeline: String,
    /// By the numbers that they had.
    #[n(1)]
    pub series: Vec<SeriesDef>,
    #[n(2)]
    pub stages: Vec<SavedStage>,
    /// The start of the machine that monotonic times are of.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub boot: Option<[u8; 16]>,
}

/// What a stage keeps.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct SavedStage {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub fingerprint: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub state: Vec<u8>,
}

/// What tells definitions of a stage apart.
pub(crate) fn fingerprint(kind: &Kind) -> u64 {
    // Definitions are plain data, which always has a JSON.
    xxh3_64(serde_json::to_string(kind).unwrap_or_default().as_bytes())
}

impl Saved {
    pub fn write(&self) -> Vec<u8> {
        // Writing to a vector cannot fail.
        let payload = minicbor::to_vec(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(STATE_HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&STATE_MAGIC);
        bytes.extend_from_slice(&STATE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    }

    pub fn read(bytes: &[u8]) -> Result<Self, StateError> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(StateError::Foreign)?;
        if *magic != STATE_MAGIC {
            return Err(StateError::Foreign);
        }
        let (version, rest) = rest.split_first_chunk().ok_or(StateError::Foreign)?;
        let found = u16::from_le_bytes(*version);
        if !(STATE_VERSION_MIN..=STATE_VERSION).contains(&found) {
            return Err(StateError::Version { found });
        }
        let (length, rest) = rest.split_first_chunk().ok_or(StateError::Foreign)?;
        let (checksum, payload) = rest.split_first_chunk().ok_or(StateError::Foreign)?;
        let (wanted, found) = (u64::from_le_bytes(*length), payload.len() as u64);
        if wanted != found {
            return Err(StateError::Length { wanted, found });
        }
        if crc32c::crc32c(payload) != u32::from_le_bytes(*checksum) {
            return Err(StateError::Checksum);
        }
        let saved: Self =
            minicbor::decode(payload).map_err(|error| StateError::Damaged(error.to_string()))?;
        if saved.series.len() > SERIES_MAX {
            return Err(StateError::Damaged("it has more series than there may be".into()));
        }
        Ok(saved)
    }
}
