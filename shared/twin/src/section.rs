//! The sections of a twin and who may write which.

use automerge::ObjId;

use crate::actor::{Actor, Side};

/// A part of a twin with its own writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What is wanted: written at the hub and on site.
    Desired,
    /// What is: written by the device alone.
    Reported,
    /// What the device is known by: written at both ends.
    Tags,
    /// What people say of it: written at both ends.
    Notes,
}

impl Section {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Desired, Self::Reported, Self::Tags, Self::Notes];

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
            Self::Tags => "tags",
            Self::Notes => "notes",
        }
    }

    /// The section of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.name() == name)
    }

    /// Whether replicas of a side may write it.
    #[must_use]
    pub const fn is_written_by(self, side: Side) -> bool {
        !matches!((self, side), (Self::Reported, Side::Hub))
    }

    pub(crate) const fn letter(self) -> char {
        match self {
            Self::Desired => 'd',
            Self::Reported => 'r',
            Self::Tags => 't',
            Self::Notes => 'n',
        }
    }

    /// The operation of the genesis that made its map.
    pub(crate) const fn counter(self) -> u64 {
        match self {
            Self::Desired => 1,
            Self::Reported => 2,
            Self::Tags => 3,
            Self::Notes => 4,
        }
    }

    pub(crate) fn object(self) -> ObjId {
        object(self.counter())
    }

    pub(crate) fn of_counter(counter: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.counter() == counter)
    }
}

/// The operation that made the map of origins.
pub(crate) const ORIGIN: u64 = 5;

/// The map that an operation of the genesis made.
pub(crate) fn object(counter: u64) -> ObjId {
    ObjId::Id(counter, Actor::GENESIS.id(), 0)
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
