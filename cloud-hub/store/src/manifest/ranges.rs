//! Ranges of seqs as a manifest keeps them, and the corrections that are of some.

use minicbor::{Decode, Encode};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Restamp;

// Range sets of the wire are limited in length; these must never fail to be read again.
pub(super) type Ranges = Vec<(u64, u64)>;

#[derive(Debug, Encode, Decode)]
#[cbor(array)]
pub(super) struct RestampEntry {
    #[n(0)]
    seqs: Ranges,
    #[cbor(n(1), with = "minicbor::bytes")]
    boot: [u8; 16],
    #[n(2)]
    shift_ns: Option<i64>,
    #[n(3)]
    from_ns: i64,
    #[n(4)]
    to_ns: i64,
}

impl From<&Restamp> for RestampEntry {
    fn from(restamp: &Restamp) -> Self {
        let Restamp { boot, shift_ns, from_ns, to_ns, .. } = *restamp;
        Self { seqs: ranges(&restamp.seqs), boot, shift_ns, from_ns, to_ns }
    }
}

impl From<RestampEntry> for Restamp {
    fn from(entry: RestampEntry) -> Self {
        let RestampEntry { boot, shift_ns, from_ns, to_ns, .. } = entry;
        Self { seqs: set_of(&entry.seqs), boot, shift_ns, from_ns, to_ns }
    }
}

pub(super) fn ranges(set: &RangeSet) -> Ranges {
    set.iter().collect()
}

pub(super) fn set_of(ranges: &[(u64, u64)]) -> RangeSet {
    let mut set = RangeSet::new();
    ranges.iter().for_each(|(lo, hi)| set.insert(*lo, *hi));
    set
}
