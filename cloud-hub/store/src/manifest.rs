//! The manifest: one redb file that says what the other files of the store mean.
//!
//! One transaction commits a flush: it lists the new file, moves the settled ranges and counters
//! on, and lets the log segments go that the file replaces. Whatever is cut off before it never
//! happened, and the log still has it.

mod cold;
mod copy;
mod entries;
mod ranges;
mod read;

use std::collections::HashSet;
use std::io::{ErrorKind, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use minicbor::Encode;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};

use crate::cold::ColdEntry;
use crate::config::StoreError;
use crate::files::{FileSystem, Files, OpenMode};
use crate::hot::SeriesId;
use crate::log::{Checkpoint, Ledgers, lock};
use crate::names::Names;
use crate::stats::Stats;

use entries::{EpochEntry, write_def};
pub use entries::{FileEntry, HoldingEntry, gathered, write_series};
use read::read;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const EPOCHS: TableDefinition<'_, (&str, [u8; 16]), &[u8]> = TableDefinition::new("epochs");
const DICTIONARY: TableDefinition<'_, (&str, [u8; 16], u32), &[u8]> = TableDefinition::new("dictionary");
const SERIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("series");
const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("files");
// Numbers whose files are to be removed.
const GONE: TableDefinition<'_, u64, ()> = TableDefinition::new("gone");

// What retention has removed the readings of: seqs and rows by epoch. A manifest from before there was any lacks it.
const EXPIRED: TableDefinition<'_, (&str, [u8; 16]), &[u8]> = TableDefinition::new("expired");

/// The version of the layout of all files of a store.
const VERSION: u64 = 4;
/// The oldest one whose files are read as they are: it has no figures in its rollups.
const VERSION_MIN: u64 = 3;

/// All that the manifest says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Where the log goes on.
    pub checkpoint: Checkpoint,
    /// The series.
    pub names: Names,
    /// What the sealed files hold of them.
    pub stats: Stats,
    /// Those of them that are revised.
    pub revised: HashSet<SeriesId>,
    /// The sealed files in their order.
    pub files: Vec<FileEntry>,
    /// Numbers whose files are to be removed, where there still are any.
    pub gone: Vec<u64>,
    /// What retention has removed the readings of, by epoch.
    pub expired: Vec<HoldingEntry>,
    /// The files of the cold tier, by number.
    pub cold: Vec<ColdEntry>,
    /// The number of the newest file that a flush wrote, also when it is listed no more; 0 for none.
    pub flushed: u64,
}

impl Contents {
    /// The numbers of all series.
    #[must_use]
    pub fn ids(&self) -> Vec<SeriesId> {
        (0..).take(self.names.len()).collect()
    }

    /// Adds the row of a series.
    pub fn write_series(&self, id: SeriesId, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let row = (&self.stats.series(id), self.revised.contains(&id));
        self.names.text(id).map_or(Ok(()), |text| write_series(&text, row, out))
    }
}

/// Adds the row of a series.
pub type WriteRow<'a> = dyn Fn(SeriesId, &mut Vec<u8>) -> Result<(), StoreError> + 'a;

/// Rows of series, each of which is made when it is written.
pub struct SeriesRows<'a> {
    /// Which.
    pub ids: &'a [SeriesId],
    /// How.
    pub write: &'a WriteRow<'a>,
}

/// What one flush changes.
#[derive(Default)]
pub struct Change<'a> {
    /// The log before this is in files now; none when nothing has come from it.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Those series that may not stay as they are.
    pub series: Option<&'a SeriesRows<'a>>,
    /// New files.
    pub added: &'a [FileEntry],
    /// Files that are no more.
    pub removed: &'a [u64],
    /// What retention has removed the readings of, all of each epoch that is named.
    pub expired: &'a [HoldingEntry],
    /// New files of the cold tier.
    pub frozen: &'a [ColdEntry],
    /// Files of the cold tier that are no more.
    pub melted: &'a [u64],
}

/// The open manifest. After an error of the disk redb takes nothing more; whoever writes next opens the file again, and all of
/// it is written again first, since the system may hold bytes for written that a failed sync never brought to the disk.
///
/// A commit that failed may have come to the disk all the same. One of a flush is made again as it was, which changes nothing
/// then; until one has succeeded nobody reads the manifest, which may say more than is in memory.
#[derive(Debug)]
pub struct Manifest {
    held: Mutex<Held>,
    // None in one that is only looked at.
    place: Option<(Files, PathBuf)>,
    created: bool,
}

#[derive(Debug)]
struct Held {
    // None from a failure until it is opened again.
    db: Option<Database>,
    // Whether the last flush, or what came after it, may be there or not.
    unsure: bool,
}

impl Held {
    const fn of(db: Database) -> Mutex<Self> {
        Mutex::new(Self { db: Some(db), unsure: false })
    }
}

/// Why a manifest cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Its bytes cannot be trusted; another start with the same file ends the same way.
    Damaged(String),
    /// It may well be good: it is open elsewhere, of another version, or cannot be read now.
    Refused(String),
}

impl From<OpenError> for StoreError {
    fn from((OpenError::Damaged(reason) | OpenError::Refused(reason)): OpenError) -> Self {
        Self::Manifest(reason)
    }
}

/// A full or failing disk says nothing about the bytes that are there.
fn judge(error: impl Into<redb::Error>) -> OpenError {
    let error = error.into();
    let refused = match &error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => true,
        // These a file gives that is too short, or that is no file.
        redb::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::IsADirectory
        ),
        _ => false,
    };
    if refused { OpenError::Refused(error.to_string()) } else { OpenError::Damaged(error.to_string()) }
}

fn fail(error: impl std::fmt::Display) -> StoreError {
    StoreError::Manifest(error.to_string())
}

fn cbor(body: impl Encode<()>) -> Result<Vec<u8>, StoreError> {
    minicbor::to_vec(body).map_err(fail)
}

impl Manifest {
    /// Opens the manifest and reads everything, or makes an empty one. All checksums are compared:
    /// the file is small, and a flipped bit in a range would cost readings without a word.
    ///
    /// # Errors
    /// The file is not a manifest of this version, is damaged, or is open elsewhere.
    pub fn open(files: &dyn FileSystem, path: &Path) -> Result<(Self, Contents), OpenError> {
        // What cannot be looked at now may well be there.
        let is_new = match files.stat(path) {
            Ok(found) => found.len == 0,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if is_new {
            Self::create(files, path)?;
        } else {
            Self::tidy(files, path)?;
        }
        let (manifest, contents) = Self::open_with(|builder| files.database(path, builder))?;
        Ok((Self { created: is_new || manifest.created, ..manifest }, contents))
    }

    /// Makes an empty one under another name first: one that was cut off meanwhile would be taken for a damaged one.
    fn create(files: &dyn FileSystem, path: &Path) -> Result<(), OpenError> {
        Self::tidy(files, path)?;
        let unfinished = unfinished(path);
        drop(Self::open_with(|builder| files.database(&unfinished, builder))?);
        files.rename(&unfinished, path).map_err(refused)
    }

    /// Removes one that was cut off while it was written.
    fn tidy(files: &dyn FileSystem, path: &Path) -> Result<(), OpenError> {
        match files.remove(&unfinished(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(refused(error)),
            _ => Ok(()),
        }
    }

    /// Has it opened again after a failure.
    #[must_use]
    pub fn healing(self, files: &Files, path: &Path) -> Self {
        Self { place: Some((Arc::clone(files), path.to_owned())), ..self }
    }

    /// Does work on the open file, which is opened again where the last work failed.
    fn work<T>(
        &self,
        held: &mut Held,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = match (held.db.take(), &self.place) {
            (Some(db), _) => db,
            (None, Some((files, path))) => reopened(files.as_ref(), path)?,
            (None, None) => return Err(fail("it failed before")),
        };
        let done = work(&db);
        // One that failed is closed, so that the next work can open it.
        if done.is_ok() {
            held.db = Some(db);
        }
        done
    }

    /// Opens the manifest of the store in `dir`, which is to be there.
    ///
    /// # Errors
    /// As for [`Manifest::open`], or there is no store.
    pub fn open_existing(files: &dyn FileSystem, dir: &Path) -> Result<(Self, Contents), StoreError> {
        let path = dir.join("manifest.redb");
        // An empty file would be made a manifest, of which the next start would think no more.
        if !files.stat(&path).is_ok_and(|found| found.len > 0) {
            return Err(StoreError::Manifest(format!("{} holds no store", dir.display())));
        }
        Ok(Self::open(files, &path)?)
    }

    fn open_with(
        create: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<(Self, Contents), OpenError> {
        // redb may panic where the checksums are right and the pages make no sense.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = create(copy::builder().set_check_integrity_on_open(true)).map_err(judge)?;
            let created = Self::prepare(&db)?;
            let manifest = Self { held: Held::of(db), place: None, created };
            let contents = manifest.read().map_err(|error| OpenError::Damaged(error.to_string()))?;
            Ok((manifest, contents))
        }));
        opened.unwrap_or_else(|_| Err(OpenError::Damaged("the database engine panicked".to_owned())))
    }

    /// Whether there was none before.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.created
    }

    /// Checks the version, or makes the tables; says whether there were none.
    fn prepare(db: &Database) -> Result<bool, OpenError> {
        let found = match db.begin_read().map_err(judge)?.open_table(META) {
            Ok(meta) => meta.get("version").map_err(judge)?.map(|value| value.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(judge(error)),
        };
        match found {
            Some(VERSION) => return Ok(false),
            Some(VERSION_MIN..VERSION) => {
                // From here on files of this version may come: an older hub would take them for damaged ones.
                let txn = db.begin_write().map_err(judge)?;
                txn.open_table(META).map_err(judge)?.insert("version", VERSION).map_err(judge)?;
                txn.commit().map_err(judge)?;
                return Ok(false);
            }
            Some(found) => {
                let reason =
                    format!("version {found} is unknown; this code knows {VERSION_MIN} to {VERSION}");
                return Err(OpenError::Refused(reason));
            }
            None => {}
        }
        let txn = db.begin_write().map_err(judge)?;
        txn.open_table(META).map_err(judge)?.insert("version", VERSION).map_err(judge)?;
        txn.open_table(EPOCHS).map_err(judge)?;
        txn.open_table(DICTIONARY).map_err(judge)?;
        txn.open_table(SERIES).map_err(judge)?;
        txn.open_table(FILES).map_err(judge)?;
        txn.open_table(GONE).map_err(judge)?;
        txn.open_table(EXPIRED).map_err(judge)?;
        txn.commit().map_err(judge)?;
        Ok(true)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(&self) -> Result<Contents, StoreError> {
        self.look(read)
    }

    /// Does work that only reads.
    fn look<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut held = lock(&self.held);
        if held.unsure {
            return Err(fail("its last change failed; it is read after the next flush"));
        }
        self.work(&mut held, work)
    }

    /// Commits a flush, durably and at once.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn commit(&self, change: &Change<'_>) -> Result<(), StoreError> {
        let mut held = lock(&self.held);
        let committed = self.work(&mut held, |db| write(db, change));
        held.unsure = match &committed {
            // How an exchange of files ended is told by the file that is opened again.
            Err(_) => held.unsure || change.checkpoint.is_some(),
            // A merge says nothing of what a flush before it has left.
            Ok(()) => held.unsure && change.checkpoint.is_none(),
        };
        committed
    }

    /// Notes that whatever stands under these numbers is to be removed.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn note_gone(&self, numbers: &[u64]) -> Result<(), StoreError> {
        self.change_gone(|gone| {
            numbers.iter().try_for_each(|number| gone.insert(number, ()).map(drop)).map_err(fail)
        })
    }

    /// Notes that nothing stands under these numbers any more.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn forget_gone(&self, numbers: &[u64]) -> Result<(), StoreError> {
        self.change_gone(|gone| {
            numbers.iter().try_for_each(|number| gone.remove(number).map(drop)).map_err(fail)
        })
    }

    fn change_gone(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, u64, ()>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.work(&mut lock(&self.held), |db| {
            let txn = db.begin_write().map_err(fail)?;
            change(&mut txn.open_table(GONE).map_err(fail)?)?;
            txn.commit().map_err(fail)
        })
    }
}

fn refused(error: std::io::Error) -> OpenError {
    OpenError::Refused(error.to_string())
}

/// What a manifest is called until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("redb.tmp")
}

/// Writes the file again, byte for byte, and opens it.
fn reopened(files: &dyn FileSystem, path: &Path) -> Result<Database, StoreError> {
    let again = || {
        let (bytes, unfinished) = (files.read(path)?, unfinished(path));
        match files.remove(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = files.open(&unfinished, OpenMode::Create)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        files.rename(&unfinished, path)?;
        files.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    again().map_err(fail)?;
    let (manifest, _) = Manifest::open_with(|builder| files.database(path, builder))?;
    let db = manifest.held.into_inner().unwrap_or_else(PoisonError::into_inner).db;
    tracing::info!("the manifest was opened again after its disk had failed");
    db.ok_or_else(|| fail("it was not opened"))
}

fn write(db: &Database, change: &Change<'_>) -> Result<(), StoreError> {
    let txn = db.begin_write().map_err(fail)?;
    if let Some(checkpoint) = change.checkpoint {
        write_checkpoint(&txn, checkpoint)?;
    }
    // A merge gives its file the place of an older one.
    let by_flush = change.added.iter().filter(|file| file.number == file.order);
    if let Some(number) = by_flush.map(|file| file.number).max() {
        let mut meta = txn.open_table(META).map_err(fail)?;
        let known = meta.get("flushed").map_err(fail)?.map_or(0, |value| value.value());
        meta.insert("flushed", known.max(number)).map_err(fail)?;
    }
    {
        let mut series = txn.open_table(SERIES).map_err(fail)?;
        let mut row = Vec::new();
        if let Some(rows) = change.series {
            for id in rows.ids {
                row.clear();
                (rows.write)(*id, &mut row)?;
                // What stays is not written again.
                let same = series.get(id).map_err(fail)?.is_some_and(|known| known.value() == row);
                if !same {
                    series.insert(id, row.as_slice()).map_err(fail)?;
                }
            }
        }
        let mut files = txn.open_table(FILES).map_err(fail)?;
        for file in change.added {
            files.insert(file.number, cbor(file)?.as_slice()).map_err(fail)?;
        }
        let mut gone = txn.open_table(GONE).map_err(fail)?;
        for file in change.added {
            gone.remove(file.number).map_err(fail)?;
        }
        for number in change.removed {
            files.remove(number).map_err(fail)?;
            gone.insert(number, ()).map_err(fail)?;
        }
        let mut expired = txn.open_table(EXPIRED).map_err(fail)?;
        for entry in change.expired {
            let (agent, epoch, ..) = entry.parts();
            let key = (agent.as_str(), *epoch.as_bytes());
            expired.insert(key, cbor(entry)?.as_slice()).map_err(fail)?;
        }
    }
    cold::write(&txn, change)?;
    txn.commit().map_err(fail)
}

fn write_checkpoint(txn: &redb::WriteTransaction, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META).map_err(fail)?;
    meta.insert("oldest_segment", checkpoint.oldest_segment).map_err(fail)?;
    let mut epochs = txn.open_table(EPOCHS).map_err(fail)?;
    let mut dictionary = txn.open_table(DICTIONARY).map_err(fail)?;
    for (agent, epoch, state) in checkpoint.ledgers.iter() {
        let (name, id) = (agent.as_str(), *epoch.as_bytes());
        epochs.insert((name, id), cbor(EpochEntry::from(state))?.as_slice()).map_err(fail)?;
        let last = dictionary.range((name, id, 0)..=(name, id, u32::MAX)).map_err(fail)?.next_back();
        let known = last.transpose().map_err(fail)?.map_or(0, |(key, _)| key.value().2 as usize + 1);
        let first = u32::try_from(known).map_err(fail)?;
        for (text, no) in state.dictionary.entries_from(known).zip(first..) {
            dictionary.insert((name, id, no), write_def(&text)?.as_slice()).map_err(fail)?;
        }
        for no in state.renamed.range(..first) {
            let text = state.dictionary.entries_from(*no as usize).next();
            let text = text.ok_or_else(|| fail("a dictionary has a hole"))?;
            dictionary.insert((name, id, *no), write_def(&text)?.as_slice()).map_err(fail)?;
        }
    }
    Ok(())
}

/// Takes the seqs of a lost file out of what is stored; gives their rows.
pub fn lose(ledgers: &mut Ledgers, file: &FileEntry) -> u64 {
    for holding in &file.holdings {
        let (agent, epoch, seqs, rows) = holding.parts();
        ledgers.epoch_mut(agent, epoch).lose(&seqs, rows);
    }
    file.holdings.iter().map(|holding| holding.parts().3).sum()
}

#[cfg(test)]
mod tests;
