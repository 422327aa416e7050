//! Stamps: what a write is known by for ever, wherever history was cut off since.
//!
//! A change says its number and who wrote it in its message. Where a replica makes a change of another name of its side
//! again, the message says that name too, and the number is the one that the change had there.

use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::document::clean;

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

    pub fn join(&mut self, other: &Self) {
        other.0.iter().for_each(|(actor, number)| self.note(Stamp { actor: *actor, number: *number }));
    }

    /// What is known here and not in `other`.
    pub fn beyond(&self, other: &BTreeMap<Actor, u64>) -> Self {
        let is_beyond = |(actor, number): &(&Actor, &u64)| other.get(*actor).is_none_or(|had| had < *number);
        Self(self.0.iter().filter(is_beyond).map(|(actor, number)| (*actor, *number)).collect())
    }
}

/// What the message of a change says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed<'a> {
    pub number: u64,
    pub author: &'a str,
    /// Who made the change first, if not who wrote this one.
    pub first: Option<Actor>,
}

impl<'a> Signed<'a> {
    /// `None` if this is not the one form of a message.
    pub fn read(message: &'a str) -> Option<Self> {
        let (signature, first) = match message.split_once('\n') {
            Some((signature, hex)) => {
                (signature, Some(Actor::parse(hex).filter(|first| first.side().is_some())?))
            }
            None => (message, None),
        };
        let (number, author) = signature.split_once(' ')?;
        let number = number.parse().ok()?;
        let read = Self { number, author, first };
        (clean(author) == author && read.text() == message).then_some(read)
    }

    pub fn text(&self) -> String {
        match self.first {
            None => format!("{} {}", self.number, self.author),
            // No author has a line break.
            Some(first) => format!("{} {}\n{}", self.number, self.author, first.hex()),
        }
    }

    pub fn stamp(&self, writer: Actor) -> Stamp {
        Stamp { actor: self.first.unwrap_or(writer), number: self.number }
    }
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
            (format!("9 anna\n{}", first.hex()), Stamp { actor: first, number: 9 }),
        ] {
            let read = Signed::read(&text).unwrap();
            assert_eq!((read.stamp(writer), read.text()), (stamp, text));
        }
        let base = Actor::base([1; 14], 3).hex();
        for text in ["", "7", "07 a", "7 a\n", "7 a\nb", &format!("7 a\n{base}"), "7 \u{7}", "-1 a"] {
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
