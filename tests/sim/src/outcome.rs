//! What a seed came to: what it did, or what did not hold; and the canaries that must not live.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::campaign::campaign;

/// Seeds within which each canary must be caught.
const CANARY_SEEDS: u64 = 2_000;

/// A deliberately broken variant, which the simulation must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// As shipped.
    None,
    /// The hub acknowledges before its log is durable.
    AckBeforeDurable,
    /// The hub removes log segments before the manifest lists the file that holds their readings.
    TrimBeforeCommit,
    /// The agent takes for stored what it has only sent.
    FreeBeforeAck,
    /// An ack names one seq more than was stored.
    RangeOffByOne,
    /// A flush forgets which seqs the files hold.
    DedupeLostAtFlush,
    /// The hub does not look at the lives of a spool.
    CopiesUnseen,
    /// A spool that is made anew takes the id of the one before it.
    EpochReused,
    /// A hub that starts corrects the times that it reads from its log once more.
    RestampTwice,
    /// An agent says that it knows what became of its seqs before that is durable.
    KnownTooEarly,
    /// An agent stores what is no plain number without the table that says what it is.
    BoxesLost,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Replays it.
    pub seed: u64,
    /// The step, where it is known: not of a panic, and not at the end.
    pub step: Option<u64>,
    /// Which, and how.
    pub what: String,
}

/// What a seed did, so that a test can tell that the faults really happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Agents on the hub.
    pub agents: u64,
    /// Readings accepted by the spools.
    pub produced: u64,
    /// Of them stored at the hub.
    pub stored: u64,
    /// Of them dropped and counted.
    pub dropped: u64,
    /// Seqs dropped that the hub no longer tells from stored ones.
    pub folded: u64,
    /// Rows that came again and were ignored.
    pub duplicates: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Restarts of either end.
    pub restarts: u64,
    /// Of the readings stored those that are in files at the end.
    pub sealed: u64,
    /// Jumps of either end's wall clock.
    pub clock_jumps: u64,
    /// Older images of the agent's disk that were put back.
    pub put_back: u64,
    /// Changes between two devices with copies of one disk.
    pub swaps: u64,
    /// Spools wiped.
    pub wipes: u64,
    /// Older backups of the hub that were put back.
    pub restores: u64,
    /// Bits that flipped in what the hub or an agent had made durable.
    pub flips: u64,
    /// Spools that were put aside because they could not be read.
    pub quarantined: u64,
    /// Readings that a hub had and does not have any more, when their agent did not hold them either.
    pub lost: u64,
    /// Readings that a spool held which was wiped.
    pub gone: u64,
    /// Readings stored whose times were corrected.
    pub restamped: u64,
    /// Readings stored whose times are wrong by nobody knows how much.
    pub uncertain: u64,
    /// Times that a line let nothing through, one way or both, of one agent or of all.
    pub partitions: u64,
    /// Times that a disk took no writes for a while.
    pub full: u64,
}

impl Outcome {
    /// Adds what another seed did.
    pub fn add(&mut self, other: &Self) {
        self.agents += other.agents;
        self.produced += other.produced;
        self.stored += other.stored;
        self.dropped += other.dropped;
        self.folded += other.folded;
        self.duplicates += other.duplicates;
        self.sessions += other.sessions;
        self.restarts += other.restarts;
        self.sealed += other.sealed;
        self.clock_jumps += other.clock_jumps;
        self.put_back += other.put_back;
        self.swaps += other.swaps;
        self.wipes += other.wipes;
        self.restores += other.restores;
        self.flips += other.flips;
        self.quarantined += other.quarantined;
        self.lost += other.lost;
        self.gone += other.gone;
        self.restamped += other.restamped;
        self.uncertain += other.uncertain;
        self.partitions += other.partitions;
        self.full += other.full;
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        if let Some(step) = self.step {
            write!(f, ", step {step}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A canary that lives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    /// No seed caught it.
    #[error("canary {0:?} lives after {CANARY_SEEDS} seeds")]
    Lives(Canary),
    /// It was caught, but not by an invariant that it breaks.
    #[error("canary {0:?} died of something else: {1}")]
    Strange(Canary, Violation),
}

impl Canary {
    /// All broken variants.
    pub const ALL: [Self; 10] = [
        Self::AckBeforeDurable,
        Self::TrimBeforeCommit,
        Self::FreeBeforeAck,
        Self::RangeOffByOne,
        Self::DedupeLostAtFlush,
        Self::CopiesUnseen,
        Self::EpochReused,
        Self::RestampTwice,
        Self::KnownTooEarly,
        Self::BoxesLost,
    ];

    /// How what catches it begins.
    #[must_use]
    pub const fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::AckBeforeDurable | Self::TrimBeforeCommit | Self::FreeBeforeAck | Self::RangeOffByOne => {
                &["INV-1"]
            }
            Self::RestampTwice => &["TIME"],
            Self::BoxesLost => &["VALUE"],
            Self::KnownTooEarly => &["INV-1", "INV-3", "INV-4"],
            Self::DedupeLostAtFlush => &["INV-1", "INV-2"],
            // The session of an old copy ends at once, for ever.
            Self::CopiesUnseen | Self::EpochReused => &["INV-1", "INV-2", "INV-3", "INV-4", "after quiet"],
        }
    }

    /// The first seed that catches it.
    ///
    /// # Errors
    /// None does, or not for the right reason.
    pub fn caught(self, threads: usize) -> Result<Violation, CanaryError> {
        match campaign(0..CANARY_SEEDS, threads, self, |_| {}) {
            Ok(_) => Err(CanaryError::Lives(self)),
            Err(caught) if self.breaks().iter().any(|name| caught.what.starts_with(name)) => Ok(caught),
            Err(other) => Err(CanaryError::Strange(self, other)),
        }
    }
}
