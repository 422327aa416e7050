//! The question whether both ends hold the same batches, and its answer.

use minicbor::{Decode, Encode};

use super::{Settlement, WireError};
use crate::ranges::RangeSet;

/// Most seqs that one audit asks for.
pub const AUDIT_SEQS_MAX: u64 = 1 << 20;
/// Most digests in one answer.
pub const DIGESTS_MAX: usize = 1024;

/// The agent asks what the hub holds of some seqs of the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Audit {
    /// Comes back in the answer.
    #[n(0)]
    pub id: u64,
    /// Which seqs, at most [`AUDIT_SEQS_MAX`].
    #[n(1)]
    pub seqs: RangeSet,
    /// How many stored seqs there are to one digest.
    #[n(2)]
    pub per: u64,
}

/// What the hub holds of the seqs of an [`Audit`], as it reads it from its files now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Agreement {
    /// As in the question.
    #[n(0)]
    pub id: u64,
    /// What became of the seqs asked for.
    #[n(1)]
    pub settled: Settlement,
    /// The digests of those that are stored, in the order of their seqs: the first is of the first
    /// [`Audit::per`] of them, and so on, at most [`DIGESTS_MAX`].
    #[n(2)]
    pub digests: Vec<Digest>,
}

/// What some batches hold, see [`crate::digest`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Digest {
    /// Their readings.
    #[n(0)]
    pub rows: u64,
    /// The sum, little-endian.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub sum: [u8; 16],
}

pub(super) fn check_audit(asked: &Audit) -> Result<(), WireError> {
    let seqs = asked.seqs.len();
    if seqs > AUDIT_SEQS_MAX {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        return Err(WireError::TooLong {
            what: "list of seqs of an audit",
            found: number(seqs),
            max: number(AUDIT_SEQS_MAX),
        });
    }
    if asked.per == 0 || seqs.div_ceil(asked.per) > DIGESTS_MAX as u64 {
        let reason = format!("{seqs} seqs with one digest for each {}", asked.per);
        return Err(WireError::Malformed { kind: 12, reason });
    }
    Ok(())
}

pub(super) fn check_agreement(found: &Agreement) -> Result<(), WireError> {
    match found.digests.len() {
        digests if digests > DIGESTS_MAX => {
            Err(WireError::TooLong { what: "list of digests", found: digests, max: DIGESTS_MAX })
        }
        _ => Ok(()),
    }
}
