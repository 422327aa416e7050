//! Acknowledgements come only from durability: how a batch travels from received to durable.
//!
//! `Batch<Received>` → [`Batch::validate`] → `Batch<Validated>` → [`commit`] → `Batch<Durable>`.
//! An ack can be made from the last one only, and [`commit`] makes it only after a [`DurableLog`]
//! said that the bytes are on stable storage (INV-1). Acking early does not compile.

use crate::model::{AgentId, Seq, SeriesNo};
use crate::ranges::RangeSet;
use crate::wire::Run;

/// As it came from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received(());
/// Signed on, within limits, and with a known dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validated(());
/// On stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable(());

/// A run of batches of one agent, with how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<S> {
    agent: AgentId,
    // Of the spool that sent it, where the session knows one.
    life: Option<u64>,
    run: Run,
    // The seqs that the hub lacked when it took the run; the others are duplicates.
    taken: RangeSet,
    state: S,
}

/// Why a received run is not taken; the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// It uses series that the dictionary does not have.
    #[error("run from seq {first} uses series up to {series_end}, the dictionary has {known}")]
    Dictionary {
        /// Its first seq.
        first: Seq,
        /// One more than its highest series.
        series_end: SeriesNo,
        /// Entries of the dictionary.
        known: SeriesNo,
    },
}

impl<S> Batch<S> {
    /// Whose batch it is.
    #[must_use]
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The newest life of the spool that sent it; `None` when any may have.
    #[must_use]
    pub const fn life(&self) -> Option<u64> {
        self.life
    }

    /// Envelope and block.
    #[must_use]
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// The first and the last seq of the run.
    #[must_use]
    pub fn seqs(&self) -> (Seq, Seq) {
        (self.run.envelope.first, self.run.envelope.last())
    }
}

impl Batch<Received> {
    /// A run as it came from the session of `agent`.
    #[must_use]
    pub fn received(agent: AgentId, run: Run) -> Self {
        Self { agent, life: None, run, taken: RangeSet::new(), state: Received(()) }
    }

    /// Says which life of its spool sent it: only the one that signed on last is heard, so that two
    /// copies of a spool that are both connected cannot fill one seq with two batches.
    #[must_use]
    pub const fn of_life(mut self, life: Option<u64>) -> Self {
        self.life = life;
        self
    }

    /// Checks the run against the dictionary that the hub holds of its epoch.
    ///
    /// # Errors
    /// The run names series that the dictionary lacks.
    pub fn validate(self, series_known: SeriesNo) -> Result<Batch<Validated>, InvalidBatch> {
        let envelope = &self.run.envelope;
        if envelope.series_end > series_known {
            return Err(InvalidBatch::Dictionary {
                first: envelope.first,
                series_end: envelope.series_end,
                known: series_known,
            });
        }
        let taken = envelope.seqs();
        Ok(Batch { agent: self.agent, life: self.life, run: self.run, taken, state: Validated(()) })
    }
}

impl Batch<Validated> {
    /// Leaves only the seqs that `settled` lacks to be stored (INV-2).
    #[must_use]
    pub fn without(mut self, settled: &RangeSet) -> Self {
        let (first, last) = (self.run.envelope.first.get(), self.run.envelope.last().get());
        self.taken.remove_set(&settled.within(first, last));
        self
    }

    /// The seqs to store.
    #[must_use]
    pub const fn taken(&self) -> &RangeSet {
        &self.taken
    }
}

impl Batch<Durable> {
    /// The seqs that were stored by this run.
    #[must_use]
    pub const fn taken(&self) -> &RangeSet {
        &self.taken
    }
}

/// A log that can say truthfully that bytes are on stable storage.
pub trait DurableLog {
    /// What can go wrong.
    type Error;

    /// Writes the taken seqs of all batches and returns only when they would survive a power cut.
    ///
    /// # Errors
    /// Nothing of the group may be taken for durable.
    fn append_durably(&mut self, batches: &[Batch<Validated>]) -> Result<(), Self::Error>;
}

/// The only maker of durable batches: one group commit.
///
/// # Errors
/// As the log's.
pub fn commit<L: DurableLog>(
    log: &mut L,
    batches: Vec<Batch<Validated>>,
) -> Result<Vec<Batch<Durable>>, L::Error> {
    log.append_durably(&batches)?;
    Ok(batches
        .into_iter()
        .map(|b| Batch { agent: b.agent, life: b.life, run: b.run, taken: b.taken, state: Durable(()) })
        .collect())
}
