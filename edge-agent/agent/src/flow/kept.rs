//! The states of a flow's pipelines as the bytes of one position in the spool.
//!
//! ```text
//! nothing, where there is nothing to be known
//! "TLPK"  version u16  length u32  zstd of so many bytes of CBOR: each pipeline's name and state
//!  4       2            4           (numbers are little-endian)
//! ```
//! The spool keeps a checksum of each position, and each state has one of its own.

use minicbor::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: [u8; 4] = *b"TLPK";
const VERSION: u16 = 1;
/// Most bytes of all states together before they are packed: many times what the limits of pipelines allow.
const BYTES_MAX: usize = 1 << 30;
/// Names of series repeat themselves; the fastest level finds that.
const ZSTD_LEVEL: i32 = 1;

#[derive(Debug, Encode, Decode)]
#[cbor(array)]
struct Named {
    #[n(0)]
    name: String,
    #[cbor(n(1), with = "minicbor::bytes")]
    state: Vec<u8>,
}

/// Why bytes are no states.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// A later version wrote them.
    #[error("it has version {0}; allowed is {VERSION}")]
    Version(u16),
    /// They are something else.
    #[error("it is damaged")]
    Damaged,
}

fn pack(payload: &[u8]) -> Vec<u8> {
    // What is too long was never allowed to grow so, and what cannot be packed is kept by no version.
    let (Ok(length), Ok(packed)) = (u32::try_from(payload.len()), zstd::bulk::compress(payload, ZSTD_LEVEL))
    else {
        return Vec::new();
    };
    [&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes(), &packed].concat()
}

/// The states by name.
///
/// # Errors
/// They are none of this version.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, KeptError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let damaged = || KeptError::Damaged;
    let rest = bytes.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    match u16::from_le_bytes(*version) {
        VERSION => {}
        other => return Err(KeptError::Version(other)),
    }
    let (length, packed) = rest.split_first_chunk().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
    let payload = zstd::bulk::decompress(packed, length.min(BYTES_MAX)).map_err(|_| damaged())?;
    if payload.len() != length {
        return Err(damaged());
    }
    let all: Vec<Named> = minicbor::decode(&payload).map_err(|_| damaged())?;
    Ok(all.into_iter().map(|Named { name, state }| (name, state)).collect())
}

/// What of the states is durable.
#[derive(Debug, Default)]
pub struct Keeper {
    saved: Option<u128>,
    handed: Option<u128>,
}

impl Keeper {
    /// These bytes are durable.
    pub fn begin(&mut self, bytes: &[u8]) {
        // Anything else is written anew with the next batch.
        self.saved = bytes.is_empty().then_some(digest(&[]));
    }

    /// The bytes of states that are other than those that are durable.
    pub fn news(&mut self, states: impl FnOnce() -> Vec<(String, Vec<u8>)>) -> Option<Vec<u8>> {
        let named = states().into_iter().map(|(name, state)| Named { name, state });
        let named: Vec<Named> = named.collect();
        // Writing to a vector cannot fail.
        let payload =
            if named.is_empty() { Vec::new() } else { minicbor::to_vec(&named).unwrap_or_default() };
        let digest = digest(&payload);
        if self.saved == Some(digest) {
            return None;
        }
        self.handed = Some(digest);
        Some(if payload.is_empty() { payload } else { pack(&payload) })
    }

    /// The last news is durable.
    pub fn saved(&mut self) {
        self.saved = self.handed.take().or(self.saved);
    }
}

fn digest(payload: &[u8]) -> u128 {
    xxh3_128(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_come_back_and_are_news_once() {
        let states = || vec![("a".to_owned(), vec![7; 5_000]), ("b".to_owned(), Vec::new())];
        let mut keeper = Keeper::default();
        keeper.begin(&[]);
        assert_eq!(keeper.news(Vec::new), None);
        let bytes = keeper.news(states).unwrap();
        assert!(bytes.len() < 200);
        assert_eq!(read(&bytes), Ok(states()));
        assert_eq!(keeper.news(states).as_ref(), Some(&bytes), "it is not durable yet");
        keeper.saved();
        assert_eq!(keeper.news(states), None);
        assert_eq!(keeper.news(Vec::new), Some(Vec::new()), "what is no longer there is written, too");
        let mut later = bytes.clone();
        later[4] = 9;
        assert_eq!(read(&later), Err(KeptError::Version(9)));
        // Nothing is known of what an agent wrote before this start.
        keeper.begin(&bytes);
        assert_eq!(keeper.news(Vec::new), Some(Vec::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..60_usize) {
            let _ = read(&bytes);
            let _ = read(&[&MAGIC[..], &[1, 0], &bytes].concat());
            let whole = pack(&minicbor::to_vec([Named { name: "a".into(), state: bytes }]).unwrap());
            let _ = read(whole.get(..cut).unwrap_or_default());
        }
    }
}
