//! The log: what makes a batch durable, and the truth about what became of every seq.
//!
//! [`LogCore`] starts no thread and reads no clock; its disk is a small trait, so that the
//! simulation can crash it. Call order: [`LogCore::open`] replays, then any of `append`, `define_series`, `rename_series`,
//! `record_gap` and `refuse`, each of which returns only when its record would survive a power cut; [`LogCore::cut`] starts a
//! new segment, so that all older ones can be removed once what they hold is kept elsewhere; [`LogCore::reopen`] after a
//! failed write. It must never answer before the sync (INV-1), and never go on after a failed write.

mod dictionary;
pub(crate) mod disk;
mod gaps;
mod ledger;
mod limits;
mod look;
mod record;
mod rename;
mod replay;
mod restamps;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::durability::{Batch, Durable, DurableLog, Validated, commit};
use tideline_protocol::lives::{self, Life, Moved};
use tideline_protocol::model::{AgentId, Epoch, Gap};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, Series, Settlement};

pub(crate) use dictionary::{Dictionary, numbered};
pub use disk::{LogDisk, RealDisk};
pub use ledger::{AgentState, EpochLedger, EpochState, Holding, Ledgers, Opening};
pub use limits::Seqs;
pub use look::look;
pub use replay::{Renaming, Replay, ReplayedBatch};

use record::Record;
pub(crate) use record::{ReadRecord, RecordError, SEGMENT_MAGIC, read as read_record};

use crate::snapshot::LogEnd;

/// Default size at which a segment is closed: a start reads whole segments into memory.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the log did not take a record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// An earlier write failed, so that what the disk holds is unknown.
    #[error("the log stopped after a failed write")]
    Poisoned,
    /// Dictionary entries conflict with known ones or leave a hole; the agent's fault.
    #[error("series of agent {agent}, epoch {epoch}: {reason}")]
    Series {
        /// Whose entries.
        agent: AgentId,
        /// Of which epoch.
        epoch: Epoch,
        /// What does not fit.
        reason: String,
    },
    /// Another copy of the agent's spool has signed on since; the session that spoke is to end.
    #[error("another copy of the spool of agent {agent}, epoch {epoch}, has signed on since")]
    Replaced {
        /// Whose spool.
        agent: AgentId,
        /// Which epoch.
        epoch: Epoch,
    },
    /// The agent would hold more than is allowed; its fault.
    #[error("limit: {0}")]
    Limit(String),
    /// The disk failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: Arc<io::Error>,
    },
}

impl LogError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what, error: Arc::new(error) }
    }
}

/// What a log starts from: all that older segments said.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Segments below this one are not read.
    pub oldest_segment: u64,
    /// What became of every seq that they held.
    pub ledgers: Ledgers,
}

/// The log over a disk.
#[derive(Debug)]
pub struct LogCore<D: LogDisk> {
    disk: D,
    // Shared with readers: the writer holds it only before and after a sync, never during one.
    ledgers: Arc<Mutex<Ledgers>>,
    segment: u64,
    segment_bytes: u64,
    segment_bytes_max: u64,
    bytes_written: u64,
    poisoned: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: LogDisk> LogCore<D> {
    /// Replays the segments after the checkpoint and starts a new one. Damage is cut off and
    /// listed in the replay; it is never an error.
    ///
    /// # Errors
    /// The disk cannot be read or written at all.
    pub fn open(disk: D, checkpoint: Checkpoint) -> Result<(Self, Replay), LogError> {
        Self::open_keeping(disk, checkpoint, u64::MAX)
    }

    /// As [`LogCore::open`]; older segments from this one on are not replayed and stay, for who reads them.
    ///
    /// # Errors
    /// As [`LogCore::open`].
    pub fn open_keeping(mut disk: D, from: Checkpoint, keep: u64) -> Result<(Self, Replay), LogError> {
        let (ledgers, replay, newest) = replay::replay(&mut disk, from, keep)?;
        let segment = newest + 1;
        let mut core = Self {
            disk,
            ledgers: Arc::new(Mutex::new(ledgers)),
            segment,
            segment_bytes: 0,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            bytes_written: 0,
            poisoned: false,
        };
        core.start_segment(segment)?;
        // The next start finds no damage any more, only what it has left of the lives.
        let forgotten = replay.forgotten.iter();
        let records = forgotten.map(|(agent, epoch, moved)| Record::Lives {
            agent,
            epoch: *epoch,
            lives: &[],
            moved: *moved,
        });
        core.write(&records.collect::<Vec<_>>())?;
        Ok((core, replay))
    }

    /// The same log with segments of another size.
    #[must_use]
    pub fn with_segment_bytes_max(mut self, bytes: u64) -> Self {
        self.segment_bytes_max = bytes.max(1);
        self
    }

    /// One group commit: stores of each batch the seqs that were not settled before it.
    ///
    /// # Errors
    /// Nothing of the group may be taken for durable, and the log takes no more.
    pub fn append(&mut self, batches: Vec<Batch<Validated>>) -> Result<Vec<Batch<Durable>>, LogError> {
        let batches = self.leave_unsettled(batches);
        let durable = commit(self, batches)?;
        let mut ledgers = lock(&self.ledgers);
        for batch in &durable {
            let envelope = &batch.run().envelope;
            ledgers.epoch_mut(batch.agent(), envelope.epoch).store(envelope, batch.taken());
        }
        Ok(durable)
    }

    fn leave_unsettled(&self, batches: Vec<Batch<Validated>>) -> Vec<Batch<Validated>> {
        let ledgers = lock(&self.ledgers);
        // What earlier batches of the same group take is a duplicate for the later ones.
        let mut staged: std::collections::BTreeMap<(AgentId, Epoch), RangeSet> = Default::default();
        let mut out = Vec::with_capacity(batches.len());
        for mut batch in batches {
            let epoch = batch.run().envelope.epoch;
            if let Some(state) = ledgers.epoch(batch.agent(), epoch) {
                let (first, last) = batch.seqs();
                batch = batch.without(&state.settled().within(first, last).all());
            }
            let earlier = staged.entry((batch.agent().clone(), epoch)).or_default();
            batch = batch.without(earlier);
            earlier.insert_set(batch.taken());
            out.push(batch);
        }
        out
    }

    /// Says what is known of the epoch of a spool that signs on, and keeps its lives durably: only
    /// once they are may anything of theirs be stored.
    ///
    /// # Errors
    /// The agent has too many epochs; or the disk failed.
    pub fn open_epoch(
        &mut self,
        agent: &AgentId,
        epoch: Epoch,
        lives: &[Life],
        moved: Option<Moved>,
    ) -> Result<Opening, LogError> {
        let goes_on = {
            let ledgers = lock(&self.ledgers);
            if let Some(reason) = ledgers.refuses_epoch(agent, epoch) {
                return Err(LogError::Limit(reason));
            }
            if let Some(state) = ledgers.epoch(agent, epoch)
                && let Some(at) = lives::parted(&state.lives, lives, &state.settled().all())
            {
                return Ok(Opening::Parted { at, state: ledgers.state(agent, epoch) });
            }
            ledgers.goes_on(agent, epoch, lives, moved)
        };
        if !goes_on {
            self.write(&[Record::Lives { agent, epoch, lives, moved }])?;
            lock(&self.ledgers).go_on(agent, epoch, lives, moved);
        }
        Ok(Opening::Known(self.state(agent, epoch)))
    }

    /// Whether the copy of the spool whose newest life is `life` is the one that signed on last; asked
    /// before anything of it is taken.
    ///
    /// # Errors
    /// Another copy has signed on since.
    pub fn heard(&self, agent: &AgentId, epoch: Epoch, life: Option<u64>) -> Result<(), LogError> {
        if lock(&self.ledgers).is_replaced(agent, epoch, life) {
            return Err(LogError::Replaced { agent: agent.clone(), epoch });
        }
        Ok(())
    }

    /// Adds dictionary entries durably and returns how many are known. Entries that are known
    /// already must be the same.
    ///
    /// # Errors
    /// The entries conflict or leave a hole; or the disk failed.
    pub fn define_series(&mut self, agent: &AgentId, epoch: Epoch, series: &Series) -> Result<u32, LogError> {
        let (fresh, known) = {
            let known = lock(&self.ledgers).dictionary(agent, epoch);
            let fresh = dictionary::fresh_entries(&known, series).map_err(|reason| LogError::Series {
                agent: agent.clone(),
                epoch,
                reason,
            })?;
            (fresh, known.len())
        };
        if let Some(fresh) = fresh {
            if let Some(reason) = lock(&self.ledgers).refuses_series(agent, fresh.defs.len()) {
                return Err(LogError::Limit(reason));
            }
            self.write(&[Record::Series { agent, epoch, series: &fresh }])?;
            return Ok(lock(&self.ledgers).epoch_mut(agent, epoch).define(&fresh));
        }
        Ok(u32::try_from(known).unwrap_or(u32::MAX))
    }

    /// Records durably that the agent gave seqs up, and says what became of all seqs of the gap;
    /// only those that the log lacks count as dropped.
    ///
    /// # Errors
    /// The disk failed.
    pub fn record_gap(&mut self, agent: &AgentId, epoch: Epoch, gap: &Gap) -> Result<Settlement, LogError> {
        let (lo, hi) = (gap.first.get(), gap.last().get());
        let dropped = {
            let ledgers = lock(&self.ledgers);
            if let Some(reason) = ledgers.refuses_seqs(Seqs::Gap, agent, epoch, (lo, hi)) {
                return Err(LogError::Limit(reason));
            }
            let mut missing = RangeSet::of(lo, hi);
            if let Some(state) = ledgers.epoch(agent, epoch) {
                missing.remove_set(&state.settled().within(gap.first, gap.last()).all());
            }
            missing
        };
        if !dropped.is_empty() {
            self.write(&[Record::Gap { agent, epoch, gap, dropped: &dropped }])?;
        }
        let mut ledgers = lock(&self.ledgers);
        let state = ledgers.epoch_mut(agent, epoch);
        state.give_up(gap, &dropped);
        Ok(state.settled().within(gap.first, gap.last()))
    }

    /// Moves stored seqs to the dead letters, durably: their block could not be decoded.
    ///
    /// # Errors
    /// The disk failed.
    pub fn refuse(
        &mut self,
        agent: &AgentId,
        epoch: Epoch,
        seqs: &RangeSet,
        rows: u64,
    ) -> Result<(), LogError> {
        self.write(&[Record::Refused { agent, epoch, seqs, rows }])?;
        lock(&self.ledgers).epoch_mut(agent, epoch).refuse(seqs, rows);
        Ok(())
    }

    /// Stores seqs of a run that were refused, durably and once; gives the batch and its rows. Those that
    /// are stored already, or given up, are left out.
    ///
    /// # Errors
    /// The run does not fit the dictionary; or the disk failed.
    pub fn revive(
        &mut self,
        agent: &AgentId,
        taken: &RangeSet,
        run: Run,
    ) -> Result<(Batch<Durable>, u64), LogError> {
        let (epoch, first, rows) = (run.envelope.epoch, run.envelope.first, run.envelope.rows.clone());
        let batch = {
            let ledgers = lock(&self.ledgers);
            let none = EpochState::default();
            let state = ledgers.epoch(agent, epoch).unwrap_or(&none);
            let known = u32::try_from(state.dictionary().len()).unwrap_or(u32::MAX);
            let batch = Batch::received(agent.clone(), run).validate(known).map_err(|invalid| {
                LogError::Series { agent: agent.clone(), epoch, reason: invalid.to_string() }
            })?;
            let mut others = batch.taken().clone();
            others.remove_set(&state.revivable(taken).intersect(&others));
            batch.without(&others)
        };
        let mut durable = commit(&mut Reviving(self), vec![batch])?;
        let Some(batch) = durable.pop() else { return Err(LogError::Poisoned) };
        let mut ledgers = lock(&self.ledgers);
        let revived = ledgers.epoch_mut(agent, epoch).revive(first, &rows, batch.taken());
        Ok((batch, revived))
    }

    /// Starts a new segment and returns it as a checkpoint: everything before is in older ones.
    /// With it come the seqs that were stored since the last cut.
    ///
    /// # Errors
    /// The disk failed.
    pub fn cut(&mut self) -> Result<(Checkpoint, Vec<Holding>), LogError> {
        self.start_segment(self.segment + 1)?;
        let mut ledgers = lock(&self.ledgers);
        ledgers.cut();
        let holdings = ledgers.cut_holdings();
        Ok((Checkpoint { oldest_segment: self.segment, ledgers: ledgers.clone() }, holdings))
    }

    /// Removes the segments below `oldest`.
    ///
    /// # Errors
    /// The disk failed; what is left is removed at the next start.
    pub fn remove_before(&mut self, oldest: u64) -> Result<(), LogError> {
        let old = self.disk.list().map_err(LogError::io("listing the log"))?;
        for segment in old.into_iter().filter(|segment| *segment < oldest && *segment < self.segment) {
            self.disk.remove(segment).map_err(LogError::io("removing a log segment"))?;
        }
        Ok(())
    }

    /// Takes records again after a failed write. What that write may have left behind the last record
    /// that was synced is cut off, and a new segment begins.
    ///
    /// It is not read back: after a failed sync the system may show bytes that are on no disk. What
    /// is cut off was never acknowledged and stands in no ledger, so that the agents send it again;
    /// all that was acknowledged stands in the ledgers and before the cut.
    ///
    /// # Errors
    /// The disk still fails; the log takes no more.
    pub fn reopen(&mut self) -> Result<(), LogError> {
        if !self.poisoned {
            return Ok(());
        }
        for segment in self.disk.list().map_err(LogError::io("listing the log"))? {
            if segment > self.segment {
                self.disk.remove(segment).map_err(LogError::io("removing an unfinished log segment"))?;
            }
        }
        let cut = self.disk.truncate(self.segment, self.segment_bytes);
        cut.map_err(LogError::io("cutting an unfinished record off"))?;
        self.poisoned = false;
        let started = self.start_segment(self.segment + 1);
        self.poisoned = started.is_err();
        started
    }

    /// What it holds of an epoch.
    #[must_use]
    pub fn state(&self, agent: &AgentId, epoch: Epoch) -> AgentState {
        lock(&self.ledgers).state(agent, epoch)
    }

    /// The accounts of all epochs of an agent.
    #[must_use]
    pub fn ledger(&self, agent: &AgentId) -> Vec<EpochLedger> {
        lock(&self.ledgers).ledger(agent)
    }

    /// The ledgers, for readers beside the writer.
    #[must_use]
    pub fn ledgers(&self) -> Arc<Mutex<Ledgers>> {
        Arc::clone(&self.ledgers)
    }

    /// Bytes handed to the disk since the log was opened.
    #[must_use]
    pub const fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Up to where all that it wrote would survive a power cut.
    #[must_use]
    pub const fn end(&self) -> LogEnd {
        LogEnd { segment: self.segment, bytes: self.segment_bytes }
    }

    /// Whether a write failed.
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The disk, for a test that makes it fail.
    pub const fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The disk, for a test that opens it again.
    #[must_use]
    pub fn into_disk(self) -> D {
        self.disk
    }

    fn write(&mut self, records: &[Record<'_>]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        if bytes.is_empty() {
            return Ok(());
        }
        if self.segment_bytes >= self.segment_bytes_max {
            let started = self.start_segment(self.segment + 1);
            // Where no segment can be made, the one that is written goes on, up to twice its size.
            let full = self.segment_bytes >= self.segment_bytes_max.saturating_mul(2);
            started.or_else(|error| if self.poisoned || full { Err(error) } else { Ok(()) })?;
        }
        let written = self.disk.append(&bytes).and_then(|()| self.disk.sync());
        self.poisoned = written.is_err();
        written.map_err(LogError::io("writing the log"))?;
        self.segment_bytes += bytes.len() as u64;
        self.bytes_written += bytes.len() as u64;
        Ok(())
    }

    fn start_segment(&mut self, segment: u64) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        // No byte was written: the old segment is still good, and still the one that is written.
        self.disk.create(segment).map_err(LogError::io("making a log segment"))?;
        let started = self.disk.append(&record::SEGMENT_MAGIC).and_then(|()| self.disk.sync());
        self.poisoned = started.is_err();
        started.map_err(LogError::io("starting a log segment"))?;
        self.segment = segment;
        self.segment_bytes = record::SEGMENT_MAGIC.len() as u64;
        Ok(())
    }
}

impl<D: LogDisk> DurableLog for LogCore<D> {
    type Error = LogError;

    fn append_durably(&mut self, batches: &[Batch<Validated>]) -> Result<(), LogError> {
        let records: Vec<Record<'_>> = batches
            .iter()
            .filter(|batch| !batch.taken().is_empty())
            .map(|batch| Record::Batch { agent: batch.agent(), taken: batch.taken(), run: batch.run() })
            .collect();
        self.write(&records)
    }
}

/// The log, as it takes what was refused before.
struct Reviving<'a, D: LogDisk>(&'a mut LogCore<D>);

impl<D: LogDisk> DurableLog for Reviving<'_, D> {
    type Error = LogError;

    fn append_durably(&mut self, batches: &[Batch<Validated>]) -> Result<(), LogError> {
        let taken = batches.iter().filter(|batch| !batch.taken().is_empty());
        let records: Vec<Record<'_>> = taken
            .map(|batch| Record::Revived { agent: batch.agent(), taken: batch.taken(), run: batch.run() })
            .collect();
        self.0.write(&records)
    }
}

#[cfg(test)]
mod tests;
