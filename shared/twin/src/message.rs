//! What two ends say to each other about one twin, and its bytes.

use std::collections::BTreeMap;

use automerge::ChangeHash;
use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};

use crate::actor::{Actor, Generation};
use crate::limits::{ACTORS_MAX, CHANGES_PER_MESSAGE_MAX, HEADS_MAX, MESSAGE_BYTES_MAX};
use crate::receive::Refusal;

/// A message about one twin. Which one is said by what carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What an end has: said at a session's begin, and where something is missing.
    State {
        /// Its generation.
        generation: Generation,
        /// Its heads.
        heads: Vec<ChangeHash>,
        /// What it holds to be durable at both ends.
        shared: Vec<ChangeHash>,
    },
    /// Changes that the other end seems to lack, in an order that they can be taken in.
    Changes {
        /// Their generation.
        generation: Generation,
        /// Plain change chunks of automerge.
        changes: Vec<Vec<u8>>,
    },
    /// What is durable at the sender, said after it took something.
    Confirm {
        /// Its generation.
        generation: Generation,
        /// Its heads.
        heads: Vec<ChangeHash>,
    },
    /// The begin of a generation, for an end that is at an older one.
    Base {
        /// The generation.
        generation: Generation,
        /// Plain change chunks that build on the generation's genesis.
        changes: Vec<Vec<u8>>,
        /// The number of the last change of each replica that the base holds.
        included: BTreeMap<Actor, u64>,
    },
}

type Output = Encoder<Vec<u8>>;

impl Message {
    /// Its bytes: a CBOR array of a number for the kind and the fields in order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        let written = self.write(&mut out);
        debug_assert!(written.is_ok(), "a vector takes all bytes");
        out.into_writer()
    }

    fn write(&self, out: &mut Output) -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        match self {
            Self::State { generation, heads, shared } => {
                out.array(4)?.u8(0)?.encode(generation)?;
                hashes(out, heads)?;
                hashes(out, shared)
            }
            Self::Changes { generation, changes } => {
                out.array(3)?.u8(1)?.encode(generation)?;
                chunks(out, changes)
            }
            Self::Confirm { generation, heads } => {
                out.array(3)?.u8(2)?.encode(generation)?;
                hashes(out, heads)
            }
            Self::Base { generation, changes, included } => {
                out.array(4)?.u8(3)?.encode(generation)?;
                chunks(out, changes)?;
                out.encode(included)?;
                Ok(())
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The bytes are none, or another form of one, or beyond a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Refusal::TooMany { what: "bytes", found: bytes.len(), max: MESSAGE_BYTES_MAX });
        }
        let message = read(&mut Decoder::new(bytes)).map_err(|error| Refusal::Message(error.to_string()))?;
        // There is one form of each message.
        if message.to_bytes() == bytes {
            Ok(message)
        } else {
            Err(Refusal::Message("it is not in its one form".to_owned()))
        }
    }
}

type Written = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn hashes(out: &mut Output, hashes: &[ChangeHash]) -> Written {
    out.array(hashes.len() as u64)?;
    hashes.iter().try_for_each(|hash| out.bytes(&hash.0).map(|_| ()))
}

fn chunks(out: &mut Output, chunks: &[Vec<u8>]) -> Written {
    out.array(chunks.len() as u64)?;
    chunks.iter().try_for_each(|chunk| out.bytes(chunk).map(|_| ()))
}

fn read(input: &mut Decoder<'_>) -> Result<Message, Error> {
    input.array()?;
    let kind = input.u8()?;
    let generation = input.decode()?;
    Ok(match kind {
        0 => Message::State { generation, heads: read_hashes(input)?, shared: read_hashes(input)? },
        1 => Message::Changes { generation, changes: read_chunks(input)? },
        2 => Message::Confirm { generation, heads: read_hashes(input)? },
        3 => Message::Base { generation, changes: read_chunks(input)?, included: read_included(input)? },
        _ => return Err(Error::message("its kind is unknown")),
    })
}

fn length(found: Option<u64>, max: usize) -> Result<u64, Error> {
    found.filter(|found| *found <= max as u64).ok_or_else(|| Error::message("a list is too long"))
}

fn read_hashes(input: &mut Decoder<'_>) -> Result<Vec<ChangeHash>, Error> {
    let count = length(input.array()?, HEADS_MAX)?;
    let hash = |input: &mut Decoder<'_>| {
        let bytes = input.bytes()?.try_into().map_err(|_| Error::message("a hash has 32 bytes"))?;
        Ok(ChangeHash(bytes))
    };
    (0..count).map(|_| hash(input)).collect()
}

fn read_chunks(input: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let count = length(input.array()?, CHANGES_PER_MESSAGE_MAX)?;
    (0..count).map(|_| Ok(input.bytes()?.to_vec())).collect()
}

fn read_included(input: &mut Decoder<'_>) -> Result<BTreeMap<Actor, u64>, Error> {
    let count = length(input.map()?, ACTORS_MAX)?;
    (0..count).map(|_| Ok((input.decode()?, input.u64()?))).collect()
}
