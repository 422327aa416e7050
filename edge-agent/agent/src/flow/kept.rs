//! The states of a flow's pipelines as the bytes of one position in the spool.
//!
//! ```text
//! nothing, where there is nothing to be known
//! "TLPK"  version u16  length u32  zstd of so many bytes of CBOR: states by name, definitions, devices, when it was written
//!  4       2            4           (numbers are little-endian)
//! ```
//! The spool keeps a checksum of each position, and each state has one of its own. Version 1 had names and states alone. What
//! was asked of the pipelines since stands beside it, see [`super::calls`]: of those pipelines, so it says which they were.

use minicbor::{Decode, Encode};
use tideline_pipeline::Now;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"TLPK";
const VERSION: u16 = 2;
/// The first, which has names and states alone.
const VERSION_BARE: u16 = 1;
/// Most bytes of all states together before they are packed: many times what the limits of pipelines allow.
const BYTES_MAX: usize = 1 << 30;
/// Names of series repeat themselves; the fastest level finds that.
const ZSTD_LEVEL: i32 = 1;

/// The state of a pipeline.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Named {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// The state.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub state: Vec<u8>,
}

/// Why bytes are no states.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// A later version wrote them.
    #[error("it has version {found}; allowed is {version}")]
    Version {
        /// Which.
        found: u16,
        /// The one that is known.
        version: u16,
    },
    /// They are something else.
    #[error("it is damaged")]
    Damaged,
}

/// All that is kept of a flow's pipelines, as of a moment.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Whole {
    /// The states.
    #[n(0)]
    pub states: Vec<Named>,
    /// What the pipelines are, as a text.
    #[n(1)]
    pub definitions: String,
    /// The devices that pipelines of a profile take readings of.
    #[n(2)]
    pub devices: Vec<(String, Vec<String>)>,
    /// When it was written: none is the same as an earlier one.
    #[n(3)]
    pub now: Option<Now>,
}

impl Whole {
    /// As bytes, and what tells them from those of others.
    #[must_use]
    pub fn write(&self) -> (u64, Vec<u8>) {
        // Writing to a vector cannot fail.
        let bytes = pack(MAGIC, VERSION, &minicbor::to_vec(self).unwrap_or_default());
        (xxh3_64(&bytes), bytes)
    }

    /// From bytes, with what tells them from those of others.
    ///
    /// # Errors
    /// They are of no version that is known.
    pub fn read(bytes: &[u8]) -> Result<(u64, Self), KeptError> {
        let whole = match unpack(MAGIC, VERSION, bytes) {
            Ok(payload) => minicbor::decode(&payload).map_err(|_| KeptError::Damaged)?,
            Err(KeptError::Version { found: VERSION_BARE, .. }) => {
                let payload = unpack(MAGIC, VERSION_BARE, bytes)?;
                let states = minicbor::decode(&payload).map_err(|_| KeptError::Damaged)?;
                Self { states, definitions: String::new(), devices: Vec::new(), now: None }
            }
            Err(error) => return Err(error),
        };
        Ok((xxh3_64(bytes), whole))
    }
}

/// A payload behind its header.
pub fn pack(magic: [u8; 4], version: u16, payload: &[u8]) -> Vec<u8> {
    // What is too long was never allowed to grow so, and what cannot be packed is kept by no version.
    let (Ok(length), Ok(packed)) = (u32::try_from(payload.len()), zstd::bulk::compress(payload, ZSTD_LEVEL))
    else {
        return Vec::new();
    };
    [&magic[..], &version.to_le_bytes(), &length.to_le_bytes(), &packed].concat()
}

/// The reverse.
///
/// # Errors
/// They are none of this version.
pub fn unpack(magic: [u8; 4], version: u16, bytes: &[u8]) -> Result<Vec<u8>, KeptError> {
    let damaged = || KeptError::Damaged;
    let rest = bytes.strip_prefix(&magic).ok_or_else(damaged)?;
    let (found, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let found = u16::from_le_bytes(*found);
    if found != version {
        return Err(KeptError::Version { found, version });
    }
    let (length, packed) = rest.split_first_chunk().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
    let payload = zstd::bulk::decompress(packed, length.min(BYTES_MAX)).map_err(|_| damaged())?;
    if payload.len() == length { Ok(payload) } else { Err(damaged()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states() -> Vec<Named> {
        vec![Named { name: "a".into(), state: vec![7; 5_000] }, Named { name: "b".into(), state: Vec::new() }]
    }

    #[test]
    fn what_is_kept_comes_back_and_is_told_from_what_is_written_later() {
        let devices = vec![("a".to_owned(), vec!["pump".to_owned()])];
        let whole = |now: i64| Whole {
            states: states(),
            definitions: "text".into(),
            devices: devices.clone(),
            now: Some(now.into()),
        };
        let (of, bytes) = whole(1).write();
        assert!(bytes.len() < 200);
        assert_eq!(Whole::read(&bytes), Ok((of, whole(1))));
        assert_ne!(whole(2).write().0, of);
        let mut later = bytes;
        later[4] = 9;
        let error = Whole::read(&later).unwrap_err();
        assert_eq!(error.to_string(), "it has version 9; allowed is 2");
    }

    #[test]
    fn states_of_version_1_are_read() {
        let bytes = pack(MAGIC, VERSION_BARE, &minicbor::to_vec(states()).unwrap());
        assert_eq!(Whole::read(&bytes).unwrap().1.states, states());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..3_u16, cut in 0..60_usize) {
            let _ = Whole::read(&bytes);
            let _ = Whole::read(&[&MAGIC[..], &version.to_le_bytes(), &bytes].concat());
            let _ = Whole::read(&pack(MAGIC, version, &bytes));
            let whole = pack(MAGIC, VERSION_BARE, &minicbor::to_vec([Named { name: "a".into(), state: bytes }]).unwrap());
            let _ = Whole::read(whole.get(..cut).unwrap_or_default());
        }
    }
}
