//! The spool itself: its state, its errors and what can be asked of it.

use std::collections::HashMap;

use redb::{Database, Durability, ReadableDatabase, TableDefinition, WriteTransaction};
use tideline_protocol::block::BlockError;
use tideline_protocol::check_invariant;
use tideline_protocol::clocks::Boots;
use tideline_protocol::invariants::Invariant;
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{Account, DropCause, Epoch, SERIES_PER_EPOCH_MAX, Seq, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::SpoolView;
use tideline_protocol::wire::Settlement;

use crate::backend::{CountingBackend, Meter};
use crate::books::Books;
use crate::cramped::Cramped;
use crate::cursors;
use crate::gaps::{self, Gaps};
use crate::journal::Journal;
use crate::streams::Streams;
use crate::sums::summed;
use crate::tables::Tables;
use crate::tail::Tail;

pub(crate) const BATCHES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");
pub(crate) const SERIES: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("series");
pub(crate) const CURSORS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("cursors");
pub(crate) const GAPS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("gaps");
pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// How the spool is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Most bytes of held batches. The file is about a third larger, and does not
    /// shrink; the journal takes 4 MiB beside it, most of them for when the disk is full.
    pub quota_bytes: u64,
    /// Most bytes handed to the storage in a day of the spool's age, see `flash`; 0 = no limit.
    pub flash_bytes_per_day: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { quota_bytes: 256 * 1024 * 1024, flash_bytes_per_day: 0 }
    }
}

/// What can go wrong with a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The storage failed; stop writing and open the spool again.
    #[error("spool storage failed: {0}")]
    Storage(String),
    /// A sync failed, and the system may show what is not on the disk; open the spool again on
    /// [`crate::Files::unsynced`] files.
    #[error("spool storage failed to sync: {0}")]
    Unsynced(String),
    /// An earlier write failed, and nobody knows how much of it is on disk.
    #[error("spool takes no more writes after a failed one; open it again")]
    Poisoned,
    /// Another process has it open.
    #[error("spool is in use by another process")]
    InUse,
    /// What is stored contradicts itself.
    #[error("spool is corrupt: {0}")]
    Corrupt(String),
    /// It was written by a newer version.
    #[error("spool has format {found}; this version knows format {known}")]
    Format {
        /// The format found.
        found: String,
        /// The format known.
        known: &'static str,
    },
    /// A batch alone is larger than the quota.
    #[error("batch of {bytes} bytes does not fit into the quota of {quota_bytes}")]
    OverQuota {
        /// Its size.
        bytes: u64,
        /// The quota.
        quota_bytes: u64,
    },
    /// A batch is of a stream that was never defined.
    #[error("the spool has no stream {name:?}")]
    UnknownStream {
        /// The name.
        name: String,
    },
    /// The batch's stream has no room, and blocks rather than give anything up.
    #[error("stream {stream} has no room ({}) and gives nothing up", cause.as_str())]
    Full {
        /// Its name.
        stream: String,
        /// What there is no room for.
        cause: DropCause,
    },
    /// A batch that could not travel as one run.
    #[error("batch has {found} {what}; allowed are {max}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A batch uses a series number that was never given out.
    #[error("batch uses series {series}, the dictionary has {known}")]
    UnknownSeries {
        /// The number used.
        series: SeriesNo,
        /// How many are known.
        known: SeriesNo,
    },
    /// The dictionary is full.
    #[error("an agent epoch may define {SERIES_PER_EPOCH_MAX} series; {def:?} is one too many")]
    TooManySeries {
        /// The definition that did not fit.
        def: Box<SeriesDef>,
    },
    /// A block cannot be decoded.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl SpoolError {
    /// Whether the storage failed, and the spool is to be opened again.
    #[must_use]
    pub const fn is_of_storage(&self) -> bool {
        matches!(self, Self::Storage(_) | Self::Unsynced(_) | Self::Poisoned)
    }

    /// What redb answered while the spool was open.
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Corrupted(reason) => Self::Corrupt(reason),
            // A page number that is damaged names what is not in the file.
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
                ) =>
            {
                Self::Corrupt(error.to_string())
            }
            redb::Error::TableDoesNotExist(name) => Self::Corrupt(format!("table {name} is missing")),
            // The names of types stand in the file, and may be damaged.
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Corrupt(error.to_string()),
            other => Self::failed(other),
        }
    }

    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Storage(error.to_string())
    }
}

/// The dictionary: numbers to definitions and back.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    pub defs: Vec<SeriesDef>,
    pub numbers: HashMap<SeriesDef, SeriesNo>,
    /// How many of `defs` are durable.
    pub durable: usize,
}

impl Dictionary {
    pub fn push(&mut self, def: SeriesDef) -> Result<SeriesNo, SpoolError> {
        let number = SeriesNo::try_from(self.defs.len()).unwrap_or(SeriesNo::MAX);
        if number >= SERIES_PER_EPOCH_MAX {
            return Err(SpoolError::TooManySeries { def: Box::new(def) });
        }
        self.numbers.insert(def.clone(), number);
        self.defs.push(def);
        Ok(number)
    }

    pub fn count(&self) -> SeriesNo {
        SeriesNo::try_from(self.defs.len()).unwrap_or(SeriesNo::MAX)
    }
}

/// A durable transaction of the tables. It keeps what is free in the file beside the data, and names its
/// pages only when they are synced: after a kill redb need not go through the whole file.
pub(crate) fn begin_write(db: &Database) -> Result<WriteTransaction, SpoolError> {
    let mut tx = db.begin_write().map_err(SpoolError::storage)?;
    tx.set_durability(Durability::Immediate).map_err(SpoolError::storage)?;
    tx.set_quick_repair(true);
    Ok(tx)
}

/// The durable queue of one agent epoch.
#[derive(Debug)]
pub struct Spool {
    pub(crate) db: Tables,
    pub(crate) config: SpoolConfig,
    pub(crate) epoch: Epoch,
    pub(crate) books: Books,
    pub(crate) boots: Boots,
    // The running one; 0 until it is told.
    pub(crate) boot: u32,
    pub(crate) dictionary: Dictionary,
    pub(crate) streams: Streams,
    pub(crate) gaps: Gaps,
    pub(crate) journal: Journal<CountingBackend>,
    // Whether it was found lost, or cut short, when it was opened.
    pub(crate) journal_lost: bool,
    pub(crate) tail: Tail,
    // Seqs that may have been sent since a hub last said what it has.
    pub(crate) sent: RangeSet,
    pub(crate) meter: Meter,
    pub(crate) unsaved_settlements: u32,
    // Bytes handed to the storage that the books have counted.
    pub(crate) metered: u64,
    pub(crate) cramped: Option<Cramped>,
    pub(crate) poisoned: bool,
}

impl Spool {
    /// The id of this spool's life.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lives of the spool, for the hello.
    #[must_use]
    pub fn lives(&self) -> &[Life] {
        &self.books.lives
    }

    /// The epoch before this one, when its readings went on in this one.
    #[must_use]
    pub const fn moved(&self) -> Option<Moved> {
        self.books.moved
    }

    /// The newest seq; 0 when there is none.
    #[must_use]
    pub const fn head(&self) -> Seq {
        Seq::new(self.books.head)
    }

    /// The agent's account of this epoch, in rows; it always balances (INV-4).
    #[must_use]
    pub const fn account(&self) -> Account {
        self.books.account
    }

    /// Rows that sources gave: those produced, but for what was made in place of older ones.
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.books.account.produced.saturating_sub(self.books.made)
    }

    /// Rows given up in this epoch by cause. Their sum falls short of the account's where the hub knew of
    /// drops that the spool did not.
    pub fn drops(&self) -> impl Iterator<Item = (DropCause, u64)> {
        DropCause::ALL.into_iter().zip(self.books.drops)
    }

    /// Seqs given up, at most, of which nobody knows how many readings they had: a journal was lost. They
    /// count as none in the account.
    #[must_use]
    pub const fn uncounted(&self) -> u64 {
        self.books.uncounted
    }

    /// What became of seqs so far. Of those up to [`Spool::known`] dropped ones may stand among the stored
    /// ones, without rows.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.books.settled
    }

    /// Up to this seq the spool knows durably what became of each: none is pending, and the hub has
    /// confirmed all gaps.
    #[must_use]
    pub const fn known(&self) -> Seq {
        Seq::new(self.books.known)
    }

    /// The seqs whose batches are on disk, settled ones that still fit into the quota among them.
    #[must_use]
    pub const fn held(&self) -> &RangeSet {
        &self.books.held
    }

    /// The seqs that are neither settled nor given up.
    #[must_use]
    pub const fn pending(&self) -> &RangeSet {
        &self.books.pending
    }

    /// How many dictionary entries are durable.
    #[must_use]
    pub fn series_count(&self) -> SeriesNo {
        SeriesNo::try_from(self.dictionary.durable).unwrap_or(SeriesNo::MAX)
    }

    /// The number of a series; a new one becomes durable with the next append.
    ///
    /// # Errors
    /// The dictionary is full.
    pub fn series_no(&mut self, def: &SeriesDef) -> Result<SeriesNo, SpoolError> {
        match self.dictionary.numbers.get(def) {
            Some(number) => Ok(*number),
            None => self.dictionary.push(def.clone()),
        }
    }

    /// Durable dictionary entries from `from` on, at most `max`.
    #[must_use]
    pub fn series_defs(&self, from: SeriesNo, max: usize) -> Vec<SeriesDef> {
        let durable = self.dictionary.defs.iter().take(self.dictionary.durable);
        durable.skip(from as usize).take(max).cloned().collect()
    }

    /// The position that a source last committed under `name`.
    ///
    /// # Errors
    /// The storage failed.
    pub fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, SpoolError> {
        if let Some(bytes) = self.tail.cursors.get(name) {
            return Ok(Some(bytes.clone()));
        }
        let tx = self.db.begin_read().map_err(SpoolError::storage)?;
        let table = tx.open_table(CURSORS).map_err(SpoolError::storage)?;
        cursors::read(&table, name)
    }

    /// What a session needs to know when it starts.
    ///
    /// # Errors
    /// The storage failed.
    pub fn view(&mut self) -> Result<SpoolView, SpoolError> {
        let gaps = self.gaps_unconfirmed()?;
        let settled = self.books.settled.all();
        let (lives, moved) = (self.books.lives.clone(), self.books.moved);
        let urgent = self.urgent();
        let (head, series, knows_time) = (self.head(), self.series_count(), self.knows_time());
        Ok(SpoolView { head, settled, series, gaps, urgent, knows_time, lives, moved })
    }

    /// Bytes handed to the storage since it was opened.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.meter.bytes()
    }

    /// Makes settlements durable that were kept for later, and moves what the journal holds into
    /// the tables: what a clean stop does, so that the next start has nothing to read again.
    ///
    /// # Errors
    /// The storage failed.
    pub fn flush(&mut self) -> Result<(), SpoolError> {
        if self.unsaved_settlements == 0 && self.tail.is_empty() {
            return Ok(());
        }
        self.commit(|_, _, _, _| Ok(()))
    }

    /// Runs one durable transaction of the tables: what the journal holds, then `work` on copies of
    /// the books and gaps, which it may change, then the books. After any failure the spool takes no
    /// more writes.
    pub(crate) fn commit(
        &mut self,
        work: impl FnOnce(&Self, &WriteTransaction, &mut Books, &mut Gaps) -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        if self.poisoned {
            return Err(SpoolError::Poisoned);
        }
        let (mut books, mut gaps) = (self.books.clone(), self.gaps.clone());
        let generation = self.journal.generation() + 1;
        let metered = self.count_wear(&mut books);
        let done = self.transact(generation, &mut books, &mut gaps, work);
        if matches!(done, Err(SpoolError::Storage(_) | SpoolError::Corrupt(_))) {
            self.poisoned = true;
            self.give_way();
        }
        done.map_err(|error| self.meter.explain(error))?;
        self.journal.restart(generation);
        self.tail.clear();
        self.streams.written(&mut books);
        (self.books, self.gaps) = (books, gaps);
        self.unsaved_settlements = 0;
        self.metered = metered;
        Ok(())
    }

    fn transact(
        &self,
        generation: u64,
        books: &mut Books,
        gaps: &mut Gaps,
        work: impl FnOnce(&Self, &WriteTransaction, &mut Books, &mut Gaps) -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        let tx = begin_write(&self.db)?;
        if !self.tail.is_empty() {
            let mut table = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
            for (seq, value) in self.tail.iter() {
                table.insert(seq, value).map_err(SpoolError::storage)?;
            }
            let cursors = self.tail.cursors.iter();
            cursors::write(&tx, cursors.map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
            drop(table);
            gaps.record_each(&tx, &self.tail.refused)?;
        }
        gaps.forget_confirmed(&tx)?;
        work(self, &tx, books, gaps)?;
        books.know(gaps::first(&tx)?);
        self.streams.write(&tx, books)?;
        {
            let mut meta = tx.open_table(META).map_err(SpoolError::storage)?;
            meta.insert("books", books.to_bytes().as_slice()).map_err(SpoolError::storage)?;
            let generation = summed("journal", &generation.to_le_bytes());
            meta.insert("journal", generation.as_slice()).map_err(SpoolError::storage)?;
        }
        tx.commit().map_err(SpoolError::storage)
    }

    /// After each step.
    pub(crate) fn check(&self) {
        let account = &self.books.account;
        check_invariant!(
            Invariant::AccountsBalance,
            account.balances(),
            "the spool's account does not balance: {account:?}"
        );
        // Compares whole range sets, which is too much for every append in production.
        if cfg!(debug_assertions) {
            let breach = self.books.breach();
            check_invariant!(Invariant::FreedIsSettled, breach.is_none(), "{breach:?}");
        }
    }
}
