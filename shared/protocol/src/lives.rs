//! Whether a spool is what it says: the lives of a spool, and where a copy of it parted from it.
//!
//! Seqs name batches for ever. A spool that is put back to an older copy of itself (a restored
//! image, a clone in a second device) would give the same seqs out again, for other readings, and a
//! hub that ignores duplicates would drop those. So each opening of a spool begins a *life*, with a
//! random id, at the next seq that it will give out. The agent tells its lives in the hello, the hub
//! keeps them per epoch. Where the two lists part, the seqs before are still the same batches at both:
//! they are sent and settled as ever. Then the agent goes on in a *branch*: an epoch whose id follows
//! from the old one and the life that parted, with the same seqs. So a batch that several copies hold
//! has one name, whatever becomes of them, and is stored once.
//!
//! ```text
//! the hub knows        a 1 ─────────────── holds seqs up to 600
//! the agent offers     a 1 ──── c 101 ──▶            parted at 101
//! ```
//! Both ends keep the newest [`LIVES_MAX`] only. What this cannot see is a copy that goes on within
//! one life: a machine that is put back with its memory, without a restart of the agent.

use minicbor::{Decode, Encode};

use crate::model::{Epoch, Seq};
use crate::ranges::RangeSet;

/// Most lives that are kept and told: older ones are settled long ago.
pub const LIVES_MAX: usize = 128;

/// A life of a spool: from one opening to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Life {
    /// Random.
    #[n(0)]
    pub id: u64,
    /// The first seq that it gave out, or will.
    #[n(1)]
    pub first: Seq,
}

/// Where the readings of an epoch went that could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Moved {
    /// The epoch before this one.
    #[n(0)]
    pub epoch: Epoch,
    /// How many of its readings are counted in this one.
    #[n(1)]
    pub rows: u64,
}

/// The first seq that means something else at the agent than at the hub, which knows the lives
/// `known` and holds `held`; `None` when `offered` goes on where the hub's knowledge ends.
#[must_use]
pub fn parted(known: &[Life], offered: &[Life], held: &RangeSet) -> Option<Seq> {
    let oldest = offered.first()?.first;
    let newest = held.last().unwrap_or(0);
    // A life of which nothing came leaves no trace at the agent either.
    let comparable = known.iter().filter(|life| life.first >= oldest && life.first.get() <= newest);
    let mut next = offered.iter().peekable();
    for life in comparable {
        match next.peek() {
            Some(same) if *same == life => {
                next.next();
            }
            Some(other) => return Some(other.first.min(life.first)),
            // A copy of this spool has begun that life and was here since.
            None => return Some(life.first),
        }
    }
    // With no life known, the hub has nothing to compare: it is new, or lost its knowledge.
    let begins = next.peek().filter(|_| !known.is_empty())?.first;
    held.last().filter(|last| *last >= begins.get()).map(|_| begins)
}

/// The epoch of the batches from `at` on of a spool with these lives that parted there, and the lives
/// that it has. Every copy that holds one of those batches comes to the same answer.
#[must_use]
pub fn branch(epoch: Epoch, lives: &[Life], at: Seq) -> (Epoch, Vec<Life>) {
    let parted = lives.iter().rev().find(|life| life.first <= at).or(lives.first());
    let id = parted.map_or(0, |life| life.id);
    let later = lives.iter().filter(|life| life.first > at).copied();
    let branched = std::iter::once(Life { id, first: at }).chain(later).collect();
    let (high, low) = epoch.as_bytes().split_at(8);
    let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut mixed = [0; 16];
    let seed = mix(mix(word(high) ^ id).wrapping_add(at.get()));
    let halves = mix(seed ^ word(low))
        .to_le_bytes()
        .into_iter()
        .chain(mix(seed.wrapping_add(word(low))).to_le_bytes());
    mixed.iter_mut().zip(halves).for_each(|(to, from)| *to = from);
    (Epoch::from_bytes(mixed), branched)
}

/// The finaliser of splitmix64: ids are random already, they only have to stay apart.
const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds a life that begins at `first`; one that gave nothing out leaves no trace.
pub fn begin(lives: &mut Vec<Life>, id: u64, first: Seq) {
    lives.retain(|life| life.first < first);
    lives.push(Life { id, first });
    let surplus = lives.len().saturating_sub(LIVES_MAX);
    lives.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(list: &[(u64, u64)]) -> Vec<Life> {
        list.iter().map(|(id, first)| Life { id: *id, first: Seq::new(*first) }).collect()
    }

    fn at(known: &[(u64, u64)], offered: &[(u64, u64)], held: u64) -> Option<u64> {
        let held = if held == 0 { RangeSet::new() } else { RangeSet::of(1, held) };
        parted(&lives(known), &lives(offered), &held).map(Seq::get)
    }

    #[test]
    fn a_spool_that_goes_on_has_not_parted() {
        assert_eq!(at(&[], &[(1, 1)], 0), None);
        assert_eq!(at(&[(1, 1)], &[(1, 1)], 50), None);
        assert_eq!(at(&[(1, 1)], &[(1, 1), (2, 51)], 50), None);
        assert_eq!(at(&[(1, 1)], &[(1, 1), (2, 51), (3, 90)], 50), None);
    }

    #[test]
    fn a_hub_that_lost_its_knowledge_takes_what_comes() {
        assert_eq!(at(&[], &[(1, 1), (2, 51)], 0), None);
        assert_eq!(at(&[], &[(1, 1), (2, 51)], 80), None);
    }

    #[test]
    fn an_older_copy_parts_where_it_was_opened_again() {
        assert_eq!(at(&[(1, 1)], &[(1, 1), (2, 101)], 600), Some(101));
        assert_eq!(at(&[(1, 1), (3, 301)], &[(1, 1), (2, 101)], 600), Some(101));
        assert_eq!(at(&[(1, 1), (3, 301)], &[(1, 1), (2, 101)], 300), Some(101));
    }

    #[test]
    fn a_life_that_brought_nothing_is_forgotten() {
        assert_eq!(at(&[(1, 1), (2, 51)], &[(1, 1), (3, 51)], 50), None);
        assert_eq!(at(&[(1, 1), (2, 51)], &[(1, 1), (3, 51)], 51), Some(51));
        assert_eq!(at(&[(1, 1)], &[(2, 1)], 0), None);
    }

    #[test]
    fn of_two_copies_the_second_to_come_has_parted() {
        assert_eq!(at(&[(1, 1)], &[(1, 1), (2, 101)], 100), None);
        assert_eq!(at(&[(1, 1), (2, 101)], &[(1, 1), (3, 101)], 101), Some(101));
        assert_eq!(at(&[(1, 1), (2, 101)], &[(1, 1), (3, 90)], 110), Some(90));
    }

    #[test]
    fn a_spool_that_goes_on_while_its_copy_was_here_parts_where_the_copy_began() {
        assert_eq!(at(&[(1, 1), (2, 101)], &[(1, 1)], 300), Some(101));
    }

    #[test]
    fn copies_of_one_branch_come_to_the_same_epoch() {
        let epoch = Epoch::from_bytes([7; 16]);
        let (first, own) = branch(epoch, &lives(&[(1, 1)]), Seq::new(11));
        let (copy, copied) = branch(epoch, &lives(&[(1, 1), (4, 15)]), Seq::new(11));
        assert_eq!((first, own), (copy, lives(&[(1, 11)])));
        assert_eq!(copied, lives(&[(1, 11), (4, 15)]));
        assert_ne!(first, epoch);
        assert_ne!(first, branch(epoch, &lives(&[(1, 1)]), Seq::new(12)).0);
        assert_ne!(first, branch(epoch, &lives(&[(2, 1)]), Seq::new(11)).0);
    }

    #[test]
    fn more_lives_than_are_kept_are_compared_as_far_as_they_go() {
        assert_eq!(at(&[(1, 1)], &[(5, 300), (6, 400)], 200), None);
        assert_eq!(at(&[(1, 1)], &[(5, 300), (6, 400)], 350), Some(300));
        assert_eq!(at(&[(1, 1), (5, 300)], &[(5, 300), (6, 400)], 350), None);
    }

    #[test]
    fn a_life_that_gave_nothing_out_is_replaced() {
        let mut list = lives(&[(1, 1), (2, 7)]);
        begin(&mut list, 3, Seq::new(7));
        assert_eq!(list, lives(&[(1, 1), (3, 7)]));
        (8..900).for_each(|first| begin(&mut list, first, Seq::new(first)));
        assert_eq!((list.len(), list.last().map(|life| life.id)), (LIVES_MAX, Some(899)));
    }
}
