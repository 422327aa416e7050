//! Opening a spool: as it was left, new, or new because the old file could not be read.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
};
use tideline_protocol::lives;
use tideline_protocol::model::{DropCause, Epoch, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;

use crate::aside::{put_journal_aside, quarantine};
use crate::attempt::attempt;
use crate::backend::{CountingBackend, Files, Meter, was_closed, write_again};
use crate::blob::{Header, cost};
use crate::books::Books;
use crate::boots;
use crate::gaps::{Dropped, Gaps};
use crate::journal::{Journal, Record, Recovered, SEQS_MAX, Stored, spend_reserve};
use crate::spool::{
    BATCHES, CURSORS, Dictionary, GAPS, META, SERIES, Spool, SpoolConfig, SpoolError, begin_write,
};
use crate::streams::{STREAM_OF, STREAMS, Streams};
use crate::sums::{numbered, summed, without_sum};
use crate::tables::Tables;
use crate::tail::Tail;

const FORMAT: &str = "6";
/// redb's page cache: the working set is the newest batches. Half of it takes what one move of the journal
/// writes.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// What opening a spool's file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether a new epoch was begun.
    pub created: bool,
    /// Where an unreadable file was put aside.
    pub quarantined: Option<PathBuf>,
}

impl Spool {
    /// Opens the spool on `files`, or begins a new epoch there, whose id is `entropy`. Every opening
    /// needs fresh entropy: it names the life that begins.
    ///
    /// # Errors
    /// The storage failed, is in use, or holds no spool that this version can read.
    pub fn open(files: impl Into<Files>, config: SpoolConfig, entropy: [u8; 16]) -> Result<Self, SpoolError> {
        Self::open_reporting(files.into(), config, entropy, &Meter::default()).map(|(spool, _)| spool)
    }

    /// Opens or creates the file at `path`. A file that cannot be read as a spool is renamed and a
    /// new epoch begun: the agent works on, and the hub keeps what it had of the old epoch.
    ///
    /// # Errors
    /// The file is in use, of a newer format, or the disk fails.
    pub fn open_file(path: &Path, config: SpoolConfig) -> Result<(Self, OpenReport), SpoolError> {
        Self::open_files(path, config, false)
    }

    /// As [`Spool::open_file`], after [`SpoolError::Unsynced`]: both files are written again first.
    ///
    /// # Errors
    /// As [`Spool::open_file`].
    pub fn open_file_unsynced(path: &Path, config: SpoolConfig) -> Result<(Self, OpenReport), SpoolError> {
        Self::open_files(path, config, true)
    }

    fn open_files(
        path: &Path,
        config: SpoolConfig,
        unsynced: bool,
    ) -> Result<(Self, OpenReport), SpoolError> {
        match attempt(path, || open_path(path, config, unsynced)) {
            Err(SpoolError::Corrupt(reason)) => {
                let aside = quarantine(path)?;
                tracing::error!(path = %path.display(), aside = %aside.display(), reason, "spool file is unreadable; put aside");
                let (spool, _) = open_path(path, config, false)?;
                Ok((spool, OpenReport { created: true, quarantined: Some(aside) }))
            }
            Err(error) => Err(error),
            Ok((spool, created)) => Ok((spool, OpenReport { created, quarantined: None })),
        }
    }

    fn open_reporting(
        files: Files,
        config: SpoolConfig,
        entropy: [u8; 16],
        meter: &Meter,
    ) -> Result<(Self, bool), SpoolError> {
        let explain = |error| meter.explain(error);
        check_present(&files)?;
        let opened = open_database(files, meter).map_err(explain)?;
        let created = ensure_tables(&opened.db, entropy).map_err(explain)?;
        let life = entropy.first_chunk::<8>().copied().map(u64::from_le_bytes);
        Ok((Self::load(opened, config, life).map_err(explain)?, created))
    }

    /// Reads epoch, books and dictionary of open files, and what the journal holds beyond them. Only
    /// with a `life` may anything be appended.
    pub(crate) fn load(opened: Opened, config: SpoolConfig, life: Option<u64>) -> Result<Self, SpoolError> {
        let Opened { db, journal, journal_bytes, path, meter, .. } = opened;
        let tx = db.begin_read().map_err(SpoolError::storage)?;
        let epoch = read_epoch(&tx)?;
        let books = read_books(&tx)?;
        let dictionary = read_dictionary(&tx)?;
        let streams = Streams::read(&tx)?;
        let boots = boots::read(&tx)?;
        let generation = read_generation(&tx)?;
        drop(tx);
        let put_aside = |bytes: &[u8]| put_journal_aside(path.as_deref(), bytes);
        let opened = Journal::open(journal, journal_bytes, epoch, generation, put_aside);
        let (journal, recovered) = opened.map_err(SpoolError::failed)?;
        if recovered.newer {
            return Err(SpoolError::Corrupt("its tables are older than its journal".into()));
        }
        let mut spool = Self {
            db,
            config,
            epoch,
            books,
            boots,
            boot: 0,
            dictionary,
            streams,
            gaps: Gaps::default(),
            journal,
            journal_lost: false,
            tail: Tail::default(),
            sent: RangeSet::new(),
            meter,
            unsaved_settlements: 0,
            metered: 0,
            cramped: None,
            poisoned: false,
        };
        spool.books.worn = spool.books.worn.saturating_add(recovered.bytes);
        spool.recover(recovered, life)?;
        spool.journal.make_ready().map_err(SpoolError::failed)?;
        spool.sent = spool.books.pending.within(1, spool.books.sent_until);
        if life.is_some() {
            spool.look_for_room()?;
        }
        if let Some(breach) = spool.books.breach() {
            return Err(SpoolError::Corrupt(breach));
        }
        Ok(spool)
    }

    /// Takes over what the journal held, and moves it into the tables, in the commit that begins the
    /// life.
    fn recover(&mut self, recovered: Recovered, life: Option<u64>) -> Result<(), SpoolError> {
        let mut missing = Missing::default();
        for record in recovered.records {
            self.take_over(record, &mut missing)?;
        }
        // A new spool has a journal to be lost from its first commit on.
        if (!recovered.present || recovered.cut) && self.journal.generation() > 0 {
            self.journal_lost = true;
            tracing::error!(
                "the spool's journal is lost or was cut short: what was accepted since its last commit is lost, and nobody knows how much it was"
            );
            (0..SEQS_MAX).for_each(|_| self.miss(0, &mut missing));
        }
        if !recovered.used && missing.drops.is_empty() && life.is_none() {
            return Ok(());
        }
        let Missing { drops: missing, uncounted } = missing;
        self.commit(|_, tx, books, gaps| {
            for drop in &missing {
                books.give_up(drop.seq, u64::from(drop.rows), DropCause::Damaged);
                books.free(drop.seq, 0, 0);
            }
            books.uncounted += uncounted;
            if let Some(id) = life {
                lives::begin(&mut books.lives, id, Seq::new(books.head + 1));
            }
            gaps.record(tx, &missing, DropCause::Damaged)
        })
    }

    /// Takes over a record: its batches, and what it says of those that cannot be read back.
    fn take_over(&mut self, record: Record, missing: &mut Missing) -> Result<(), SpoolError> {
        let Record { news, before, batches } = record;
        let (first, next) = (news.first, self.books.head + 1);
        if first < next || first - next > SEQS_MAX {
            return Err(SpoolError::Corrupt(format!(
                "its journal goes on with seq {first} after {}",
                next - 1
            )));
        }
        // The rows of the seqs before `first` that it knows of.
        let known = before.part(before.seqs().saturating_sub(first - next), first - next);
        (next..first - known.seqs()).for_each(|_| self.miss(0, missing));
        known.iter().for_each(|rows| self.miss(rows, missing));
        for Stored { rows, value } in batches {
            let Some(value) = value else {
                self.miss(rows, missing);
                continue;
            };
            let header = Header::read(&value).ok_or_else(corrupt("its journal holds no batch"))?;
            self.make_up(&header, &value, missing);
            self.books.age_s = self.books.age_s.max(u64::from(header.at_s));
            self.take_in(value);
        }
        self.books.sent_until = self.books.sent_until.max(news.sent_until);
        let cursors = news.cursors.into_iter().map(|(name, bytes)| (name, bytes.into()));
        self.tail.cursors.extend(cursors);
        Ok(())
    }

    /// Books a seq that cannot be read back.
    fn miss(&mut self, rows: u32, missing: &mut Missing) {
        self.books.append(0, u64::from(rows), 0);
        missing.drops.push(Dropped { seq: self.books.head, rows, t_min: 0, t_max: 0 });
        missing.uncounted += u64::from(rows == 0);
    }

    /// The running totals of a batch tell what those missed before it had, where their records did not:
    /// one of them then takes the rows of all.
    fn make_up(&mut self, header: &Header, value: &[u8], missing: &mut Missing) {
        self.books.pass_cost(header.cost_before(value));
        let rows = header.rows_before().saturating_sub(self.books.account.produced);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        missing.uncounted = 0;
        if let Some(uncounted) = missing.drops.iter_mut().rev().find(|drop| drop.rows == 0) {
            uncounted.rows = rows;
            self.books.account.produced += u64::from(rows);
            self.books.account.pending += u64::from(rows);
        }
    }
}

/// Seqs that cannot be read back, in order, and how many of them have no count of readings.
#[derive(Default)]
struct Missing {
    drops: Vec<Dropped>,
    uncounted: u64,
}

/// Files of which redb has opened its own.
pub struct Opened {
    pub db: Tables,
    pub journal: CountingBackend,
    pub journal_bytes: u64,
    /// Where the tables are, when they are a file.
    pub path: Option<PathBuf>,
    pub meter: Meter,
    /// Whether it had been closed in order.
    pub closed_cleanly: bool,
}

/// Opens redb on its file, repairing it there when it was not closed in order.
pub fn open_database(files: Files, meter: &Meter) -> Result<Opened, SpoolError> {
    let closed_cleanly = was_closed(files.tables.as_ref()).map_err(SpoolError::failed)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let tables = CountingBackend::new(files.tables, meter.clone());
    let journal = CountingBackend::new(files.journal, meter.clone());
    let journal_bytes = files.journal_bytes;
    if files.unsynced {
        believe(&tables, &journal)?;
        files
            .mark
            .map_or(Ok(()), std::fs::remove_file)
            .or_else(there_was_none)
            .map_err(SpoolError::failed)?;
    }
    let opened = builder.create_with_backend(tables).map_err(opening);
    if opened.is_err() && meter.is_full() {
        spend_reserve(&journal, journal_bytes).map_err(SpoolError::failed)?;
    }
    let db = opened?.into();
    let meter = meter.clone();
    Ok(Opened { db, journal, journal_bytes, path: files.path, meter, closed_cleanly })
}

/// A journal is made after its tables. Where they have gone it is not overwritten for new ones.
fn check_present(files: &Files) -> Result<(), SpoolError> {
    let (tables, journal) = (files.tables.len(), files.journal.len());
    if tables.map_err(SpoolError::failed)? == 0 && journal.map_err(SpoolError::failed)? > 0 {
        return Err(SpoolError::Corrupt("its tables are empty, but its journal is not".into()));
    }
    Ok(())
}

/// Makes what reads show of both files what is on the disk.
fn believe(tables: &CountingBackend, journal: &CountingBackend) -> Result<(), SpoolError> {
    // No other process may change them meanwhile, as a repair would.
    let all = (Bound::Unbounded, Bound::Unbounded);
    let locked = match tables.try_lock_range(all.0, all.1) {
        Ok(false) => return Err(SpoolError::InUse),
        locked => locked.is_ok(),
    };
    tracing::warn!(
        "a sync of the spool has failed: both of its files are written again before they are believed"
    );
    let written = write_again(tables).and_then(|()| write_again(journal)).map_err(SpoolError::failed);
    if locked {
        tables.unlock_range(all.0, all.1).map_err(|error| SpoolError::Storage(format!("{error:?}")))?;
    }
    written
}

fn there_was_none(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Runs `work` on a file that may hold anything. redb does not promise to answer a file that was
/// changed behind its back with an error, so a panic in it means a corrupt file here, not the end
/// of the agent.
pub fn sound<T, E: From<SpoolError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err(SpoolError::Corrupt("its pages contradict each other".into()).into()))
}

pub fn open_path(path: &Path, config: SpoolConfig, unsynced: bool) -> Result<(Spool, bool), SpoolError> {
    let meter = || Meter::marking(Some(mark_path(path)));
    let first = meter();
    match open_once(path, config, unsynced, &first) {
        // The reserve has been given back meanwhile, so there may be room now.
        Err(error) if first.is_full() && error.is_of_storage() => {
            open_once(path, config, matches!(error, SpoolError::Unsynced(_)), &meter())
        }
        opened => opened,
    }
}

fn open_once(
    path: &Path,
    config: SpoolConfig,
    unsynced: bool,
    meter: &Meter,
) -> Result<(Spool, bool), SpoolError> {
    let mut entropy = [0_u8; 16];
    getrandom::fill(&mut entropy).map_err(SpoolError::failed)?;
    let files = files(path, unsynced)?;
    sync_folder(path)?;
    sound(|| Spool::open_reporting(files, config, entropy, meter))
}

/// The file that says that a sync has failed.
fn mark_path(path: &Path) -> PathBuf {
    path.with_extension("unsynced")
}

/// The files of the spool at `path`, made where they are missing. They are unsynced when they are said
/// to be, or when whoever had them before could still note it.
pub fn files(path: &Path, unsynced: bool) -> Result<Files, SpoolError> {
    let file = |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| SpoolError::Storage(format!("{}: {error}", path.display())))?;
        FileBackend::new(file).map_err(opening)
    };
    let mark = mark_path(path);
    let unsynced = unsynced || mark.exists();
    let files = Files::new(file(path)?, file(&journal_path(path))?);
    Ok(Files { unsynced, mark: Some(mark), path: Some(path.to_owned()), ..files })
}

/// Where the journal of the spool at `path` is.
#[must_use]
pub fn journal_path(path: &Path) -> PathBuf {
    path.with_extension("journal")
}

/// A file that was made is only there after a power cut when its folder was synced.
fn sync_folder(path: &Path) -> Result<(), SpoolError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or_else(|| Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).map_err(SpoolError::failed)
}

pub fn opening(error: DatabaseError) -> SpoolError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => SpoolError::InUse,
        DatabaseError::Storage(StorageError::Corrupted(reason)) => SpoolError::Corrupt(reason),
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            SpoolError::Corrupt(error.to_string())
        }
        DatabaseError::RepairAborted => SpoolError::Corrupt("its repair failed".into()),
        // No version of ours wrote redb's older formats: the byte that says so is damaged.
        DatabaseError::UpgradeRequired(found) => {
            SpoolError::Corrupt(format!("its header says that it is of format {found} of redb"))
        }
        other => SpoolError::storage(other),
    }
}

/// Makes all tables and the epoch; says whether it was new.
fn ensure_tables(db: &Database, entropy: [u8; 16]) -> Result<bool, SpoolError> {
    if let Ok(tx) = db.begin_read()
        && tx.open_table(META).is_ok()
    {
        return Ok(false);
    }
    let tx = begin_write(db)?;
    tx.open_table(BATCHES).map_err(SpoolError::storage)?;
    tx.open_table(SERIES).map_err(SpoolError::storage)?;
    tx.open_table(CURSORS).map_err(SpoolError::storage)?;
    tx.open_table(GAPS).map_err(SpoolError::storage)?;
    tx.open_table(STREAMS).map_err(SpoolError::storage)?;
    tx.open_table(STREAM_OF).map_err(SpoolError::storage)?;
    {
        let mut meta = tx.open_table(META).map_err(SpoolError::storage)?;
        meta.insert("format", summed("format", FORMAT.as_bytes()).as_slice()).map_err(SpoolError::storage)?;
        meta.insert("epoch", summed("epoch", &entropy).as_slice()).map_err(SpoolError::storage)?;
        meta.insert("books", Books::default().to_bytes().as_slice()).map_err(SpoolError::storage)?;
        meta.insert("boots", boots::none()?.as_slice()).map_err(SpoolError::storage)?;
        let generation = summed("journal", &0_u64.to_le_bytes());
        meta.insert("journal", generation.as_slice()).map_err(SpoolError::storage)?;
    }
    tx.commit().map_err(SpoolError::storage)?;
    Ok(true)
}

fn corrupt(what: &'static str) -> impl Fn() -> SpoolError {
    move || SpoolError::Corrupt(what.to_owned())
}

fn read_epoch(tx: &ReadTransaction) -> Result<Epoch, SpoolError> {
    let meta = tx.open_table(META).map_err(SpoolError::storage)?;
    let format =
        meta.get("format").map_err(SpoolError::storage)?.ok_or_else(corrupt("it names no format"))?;
    let value = format.value();
    // The format before had no key in its sum, and those before it no sum.
    let found = without_sum("format", value).or_else(|| without_sum("", value));
    let found = found.or_else(|| (value.len() == 1).then_some(value));
    let found = found.ok_or_else(corrupt("its format is damaged"))?;
    if found != FORMAT.as_bytes() {
        let found = String::from_utf8_lossy(found).into_owned();
        return Err(SpoolError::Format { found, known: FORMAT });
    }
    let epoch = meta.get("epoch").map_err(SpoolError::storage)?.ok_or_else(corrupt("it names no epoch"))?;
    let id = without_sum("epoch", epoch.value()).and_then(|id| id.try_into().ok());
    Ok(Epoch::from_bytes(id.ok_or_else(corrupt("its epoch is damaged"))?))
}

/// Which records of the journal the tables lack; 0 before the first commit.
fn read_generation(tx: &ReadTransaction) -> Result<u64, SpoolError> {
    let meta = tx.open_table(META).map_err(SpoolError::storage)?;
    let value = meta.get("journal").map_err(SpoolError::storage)?;
    let bytes = value.as_ref().and_then(|value| without_sum("journal", value.value())?.try_into().ok());
    Ok(u64::from_le_bytes(bytes.ok_or_else(corrupt("its journal's number is damaged"))?))
}

/// The books as last written, brought up to the newest batch: an append does not write them.
fn read_books(tx: &ReadTransaction) -> Result<Books, SpoolError> {
    let meta = tx.open_table(META).map_err(SpoolError::storage)?;
    let bytes = meta.get("books").map_err(SpoolError::storage)?.ok_or_else(corrupt("it holds no books"))?;
    let mut books = Books::from_bytes(bytes.value()).ok_or_else(corrupt("its books are damaged"))?;
    let batches = tx.open_table(BATCHES).map_err(SpoolError::storage)?;
    for entry in batches.range(books.head.saturating_add(1)..).map_err(SpoolError::storage)? {
        let (seq, value) = entry.map_err(SpoolError::storage)?;
        if seq.value() != books.head.saturating_add(1) {
            return Err(SpoolError::Corrupt(format!("seq {} is missing", books.head.saturating_add(1))));
        }
        // A damaged header has no count; the next header's running total makes up for it.
        let (stream, rows, bytes) = match Header::read(value.value()) {
            Some(header) => (
                header.stream,
                header.rows_through.saturating_sub(books.account.produced),
                header.cost_through.saturating_sub(books.cost_in),
            ),
            None => (0, 0, cost(value.value().len())),
        };
        books.append(stream, rows, bytes);
    }
    Ok(books)
}

fn read_dictionary(tx: &ReadTransaction) -> Result<Dictionary, SpoolError> {
    let mut dictionary = Dictionary::default();
    let table = tx.open_table(SERIES).map_err(SpoolError::storage)?;
    for entry in table.iter().map_err(SpoolError::storage)? {
        let (number, value) = entry.map_err(SpoolError::storage)?;
        let bytes = numbered("series", number.value().into(), value.value())?;
        let def: SeriesDef = minicbor::decode(&bytes)
            .map_err(|error| SpoolError::Corrupt(format!("series {}: {error}", number.value())))?;
        if dictionary.push(def)? != number.value() {
            return Err(SpoolError::Corrupt(format!("series {} is out of order", number.value())));
        }
    }
    dictionary.durable = dictionary.defs.len();
    Ok(dictionary)
}
