//! Stamps: what a write is known by for ever, wherever history was cut off since.
//!
//! A change says its number and who wrote it in its message. Where a replica makes a change of another name of its side
//! again, the message says that name too, and the number is the one that the change had there.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::Actor;
use crate::document::clean;
use crate::limits::{BEYOND_MAX, NUMBER_MAX};

/// A replica, and the number of its change. It stays when the change is made again on another base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    pub actor: Actor,
    pub number: u64,
}

/// Of each replica, the number of its last change that is known. Who knows one knows those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known(pub BTreeMap<Actor, u64>);

impl Known {
    pub fn covers(&self, stamp: Stamp) -> bool {
        self.0.get(&stamp.actor).is_some_and(|number| stamp.number <= *number)
    }

    pub fn note(&mut self, stamp: Stamp) {
        let number = self.0.entry(stamp.actor).or_default();
        *number = stamp.number.max(*number);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn join(&mut self, other: &Self) {
        other.0.iter().for_each(|(actor, number)| self.note(Stamp { actor: *actor, number: *number }));
    }

    /// What is known here and not in `other`.
    pub fn beyond(&self, other: &BTreeMap<Actor, u64>) -> Self {
        let is_beyond = |(actor, number): &(&Actor, &u64)| other.get(*actor).is_none_or(|had| had < *number);
        Self(self.0.iter().filter(is_beyond).map(|(actor, number)| (*actor, *number)).collect())
    }
}

/// What the message of a change says. Behind its number and author a second line tells of one that was made again: who made it
/// first, if not who wrote it; and what its first author knew, and the base that it was made on lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signed<'a> {
    pub number: u64,
    pub author: &'a str,
    pub first: Option<Actor>,
    /// What was there twice, and is evened out by this change.
    pub evens: Option<Stamp>,
    pub beyond: Beyond,
}

/// What the author of a change knew, and a base lacks: what comes of it to a leaf that the change wrote was replaced by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub known: Known,
    /// Of what was known, what stayed: it stood in conflict with what was written.
    pub kept: BTreeSet<Stamp>,
}

impl Beyond {
    pub fn replaces(&self, stamp: Stamp) -> bool {
        self.known.covers(stamp) && !self.kept.contains(&stamp)
    }

    /// As much of it as a message may say. What is left out was replaced all the same, and is not known to others.
    fn cut(&self) -> Self {
        let known = Known(self.known.0.iter().take(BEYOND_MAX).map(|(actor, n)| (*actor, *n)).collect());
        let kept: BTreeSet<_> = self.kept.iter().copied().filter(|stamp| known.covers(*stamp)).collect();
        if kept.len() > BEYOND_MAX { Self::default() } else { Self { known, kept } }
    }
}

impl<'a> Signed<'a> {
    /// Of a change that is made for the first time.
    pub fn new(number: u64, author: &'a str) -> Self {
        Self { number, author, ..Self::default() }
    }

    /// `None` if this is not the one form of a message.
    pub fn read(message: &'a str) -> Option<Self> {
        let (signature, again) = message.split_once('\n').map_or((message, None), |(a, b)| (a, Some(b)));
        let (number, author) = signature.split_once(' ')?;
        let mut read = Self::new(number.parse().ok()?, author);
        for word in again.into_iter().flat_map(|again| again.split(' ')) {
            if let Some(hex) = word.strip_prefix('=') {
                read.first = Some(replica(hex)?);
            } else if let Some(stamp) = word.strip_prefix('-') {
                read.evens = Some(stamp_of(stamp)?);
            } else if let Some(stamp) = word.strip_prefix('!') {
                read.beyond.kept.insert(stamp_of(stamp)?);
            } else {
                read.beyond.known.note(stamp_of(word)?);
            }
        }
        let is_cut = read.beyond.known.0.len() <= BEYOND_MAX && read.beyond.kept.len() <= BEYOND_MAX;
        let is_known = read.beyond.kept.iter().all(|stamp| read.beyond.known.covers(*stamp));
        (is_cut && is_known && clean(author) == author && read.text() == message).then_some(read)
    }

    pub fn text(&self) -> String {
        let Beyond { known, kept } = self.beyond.cut();
        let first = self.first.iter().map(|first| format!("={}", first.hex()));
        let evens = self.evens.iter().map(|stamp| format!("-{}:{}", stamp.actor.hex(), stamp.number));
        let known = known.0.iter().map(|(actor, number)| format!("{}:{number}", actor.hex()));
        let kept = kept.iter().map(|stamp| format!("!{}:{}", stamp.actor.hex(), stamp.number));
        let again: Vec<_> = first.chain(evens).chain(known).chain(kept).collect();
        // No author has a line break.
        let line = if again.is_empty() { "" } else { "\n" };
        format!("{} {}{line}{}", self.number, self.author, again.join(" "))
    }

    pub fn stamp(&self, writer: Actor) -> Stamp {
        Stamp { actor: self.first.unwrap_or(writer), number: self.number }
    }
}

fn replica(hex: &str) -> Option<Actor> {
    Actor::parse(hex).filter(|actor| actor.side().is_some())
}

fn stamp_of(text: &str) -> Option<Stamp> {
    let (hex, number) = text.split_once(':')?;
    let number = number.parse().ok().filter(|number| *number <= NUMBER_MAX)?;
    Some(Stamp { actor: replica(hex)?, number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Side;

    #[test]
    fn messages_are_read_in_their_one_form() {
        let (writer, first) = (Actor::new(Side::Hub, [7; 15]), Actor::new(Side::Hub, [8; 15]));
        for (text, stamp) in [
            ("7 anna b".to_owned(), Stamp { actor: writer, number: 7 }),
            ("7 ".to_owned(), Stamp { actor: writer, number: 7 }),
            (format!("9 anna\n={}", first.hex()), Stamp { actor: first, number: 9 }),
            (format!("7 anna\n-{}:3", first.hex()), Stamp { actor: writer, number: 7 }),
            (format!("9 anna\n={0} {0}:3 !{0}:2", first.hex()), Stamp { actor: first, number: 9 }),
        ] {
            let read = Signed::read(&text).unwrap();
            assert_eq!((read.stamp(writer), read.text()), (stamp, text));
        }
        let base = Actor::base([1; 14], 3).hex();
        for text in ["", "7", "07 a", "7 a\n", "7 a\nb", &format!("7 a\n={base}"), "7 \u{7}", "-1 a"] {
            assert_eq!(Signed::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_known_joins_and_leaves_out_what_another_knows() {
        let of = |entropy| Actor::new(Side::Agent, [entropy; 15]);
        let stamp = |actor, number| Stamp { actor: of(actor), number };
        let mut known = Known::default();
        known.note(stamp(1, 3));
        known.note(stamp(1, 2));
        let mut other = Known::default();
        other.note(stamp(1, 1));
        other.note(stamp(2, 5));
        known.join(&other);
        assert!(known.covers(stamp(1, 3)) && known.covers(stamp(2, 5)));
        assert!(!known.covers(stamp(1, 4)) && !known.covers(stamp(3, 0)));
        assert_eq!(known.beyond(&BTreeMap::from([(of(1), 3), (of(2), 4)])).0, BTreeMap::from([(of(2), 5)]));
    }
}
