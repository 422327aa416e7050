//! Who writes: replicas and their incarnations, and the generations of a document.

use automerge::ActorId;
use minicbor::{Decode, Encode};

/// Which end of the line a replica is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The hub: its users write `desired`.
    Hub,
    /// The agent: the device writes `reported`, people on site write `desired`.
    Agent,
}

const BASE: u8 = 0;
const HUB: u8 = 1;
const AGENT: u8 = 2;

/// A replica in one incarnation: never a user, since one person may write at both ends. A replica that was wiped or
/// restored is a new actor, or changes that it forgot would be taken for those that it makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Actor(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Actor {
    /// An actor of a side; `entropy` must never have been one's before.
    #[must_use]
    pub const fn new(side: Side, entropy: [u8; 15]) -> Self {
        let mut bytes = [0; 16];
        let (head, tail) = bytes.split_at_mut(1);
        head.copy_from_slice(&[match side {
            Side::Hub => HUB,
            Side::Agent => AGENT,
        }]);
        tail.copy_from_slice(&entropy);
        Self(bytes)
    }

    /// The actor of a base's change. Of two values of a conflict the one of the higher rank is shown.
    pub(crate) const fn base(tag: [u8; 14], rank: u8) -> Self {
        let mut bytes = [BASE; 16];
        let (head, tail) = bytes.split_at_mut(2);
        head.copy_from_slice(&[BASE, rank]);
        tail.copy_from_slice(&tag);
        Self(bytes)
    }

    pub(crate) const GENESIS: Self = Self([0; 16]);

    /// Its side; `None` for what a base or the beginning of a document wrote.
    #[must_use]
    pub const fn side(self) -> Option<Side> {
        match self.0 {
            [HUB, ..] => Some(Side::Hub),
            [AGENT, ..] => Some(Side::Agent),
            _ => None,
        }
    }

    pub(crate) const fn rank(self) -> Option<u8> {
        match self.0 {
            [BASE, rank, ..] => Some(rank),
            _ => None,
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let actor = Self(bytes.try_into().ok()?);
        (actor.side().is_some() || actor.rank().is_some()).then_some(actor)
    }

    pub(crate) fn of(id: &ActorId) -> Option<Self> {
        Self::read(id.to_bytes())
    }

    pub(crate) fn id(self) -> ActorId {
        ActorId::from(self.0.as_slice())
    }

    /// As 32 hexadecimal digits.
    #[must_use]
    pub fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 32 || !hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        Self::read(&u128::from_str_radix(hex, 16).ok()?.to_be_bytes())
    }
}

/// How often the history of a document was cut off, and which cut that was: of two cuts at once the one of the greater
/// tag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(array)]
pub struct Generation {
    /// 0 for a document that was never cut.
    #[n(0)]
    pub number: u64,
    /// Random, zero for number 0.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub tag: [u8; 14],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_back_and_tell_their_side() {
        for side in [Side::Hub, Side::Agent] {
            let actor = Actor::new(side, [7; 15]);
            assert_eq!(actor.side(), Some(side));
            assert_eq!(Actor::parse(&actor.hex()), Some(actor));
            assert_eq!(Actor::of(&actor.id()), Some(actor));
        }
        assert_eq!(Actor::base([1; 14], 3).rank(), Some(3));
        assert_eq!(Actor::read(&[9; 16]), None);
        assert_eq!(Actor::parse("zz"), None);
    }
}
