//! Opening a spool: as it was left, new, or new because the old file could not be read.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError,
};
use tideline_protocol::model::{Epoch, SeriesDef};

use crate::backend::CountingBackend;
use crate::blob::{Header, cost};
use crate::books::Books;
use crate::gaps::Gaps;
use crate::spool::{BATCHES, CURSORS, Dictionary, GAPS, META, SERIES, Spool, SpoolConfig, SpoolError};

const FORMAT: &str = "1";
/// redb's page cache: the working set is the newest batches.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Most quarantined files that are kept beside the spool; beyond them the oldest name is reused.
const QUARANTINED_MAX: u32 = 8;

/// What opening a spool's file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether a new epoch was begun.
    pub created: bool,
    /// Where an unreadable file was put aside.
    pub quarantined: Option<PathBuf>,
}

impl Spool {
    /// Opens the spool on `backend`, or begins a new epoch there, whose id is `entropy`.
    ///
    /// # Errors
    /// The storage failed, is in use, or holds no spool that this version can read.
    pub fn open(
        backend: impl StorageBackend,
        config: SpoolConfig,
        entropy: [u8; 16],
    ) -> Result<Self, SpoolError> {
        Self::open_reporting(backend, config, entropy).map(|(spool, _)| spool)
    }

    /// Opens or creates the file at `path`. A file that cannot be read as a spool is renamed and a
    /// new epoch begun: the agent works on, and the hub keeps what it had of the old epoch.
    ///
    /// # Errors
    /// The file is in use, of a newer format, or the disk fails.
    pub fn open_file(path: &Path, config: SpoolConfig) -> Result<(Self, OpenReport), SpoolError> {
        match open_path(path, config) {
            Err(SpoolError::Corrupt(reason)) => {
                let aside = quarantine(path)?;
                tracing::error!(path = %path.display(), aside = %aside.display(), reason, "spool file is unreadable; put aside");
                let (spool, _) = open_path(path, config)?;
                Ok((spool, OpenReport { created: true, quarantined: Some(aside) }))
            }
            Err(error) => Err(error),
            Ok((spool, created)) => Ok((spool, OpenReport { created, quarantined: None })),
        }
    }

    fn open_reporting(
        backend: impl StorageBackend,
        config: SpoolConfig,
        entropy: [u8; 16],
    ) -> Result<(Self, bool), SpoolError> {
        let backend = CountingBackend::new(backend);
        let written = backend.written();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let db = builder.create_with_backend(backend).map_err(opening)?;
        let created = ensure_tables(&db, entropy)?;
        let tx = db.begin_read().map_err(SpoolError::storage)?;
        let epoch = read_epoch(&tx)?;
        let books = read_books(&tx)?;
        let dictionary = read_dictionary(&tx)?;
        drop(tx);
        let spool = Self {
            db,
            config,
            epoch,
            books,
            dictionary,
            gaps: Gaps::default(),
            written,
            unsaved_settlements: 0,
            poisoned: false,
        };
        if let Some(breach) = spool.books.breach() {
            return Err(SpoolError::Corrupt(breach));
        }
        Ok((spool, created))
    }
}

fn open_path(path: &Path, config: SpoolConfig) -> Result<(Spool, bool), SpoolError> {
    let mut entropy = [0_u8; 16];
    getrandom::fill(&mut entropy).map_err(SpoolError::storage)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| SpoolError::Storage(format!("{}: {error}", path.display())))?;
    Spool::open_reporting(FileBackend::new(file).map_err(opening)?, config, entropy)
}

fn opening(error: DatabaseError) -> SpoolError {
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
        other => SpoolError::storage(other),
    }
}

fn quarantine(path: &Path) -> Result<PathBuf, SpoolError> {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".quarantined-{n}"));
        PathBuf::from(name)
    };
    let free = (1..QUARANTINED_MAX).map(name).find(|candidate| !candidate.exists());
    let aside = free.unwrap_or_else(|| name(QUARANTINED_MAX));
    std::fs::rename(path, &aside).map_err(SpoolError::storage)?;
    Ok(aside)
}

/// Makes all tables and the epoch; says whether it was new.
fn ensure_tables(db: &Database, entropy: [u8; 16]) -> Result<bool, SpoolError> {
    if let Ok(tx) = db.begin_read()
        && tx.open_table(META).is_ok()
    {
        return Ok(false);
    }
    let mut tx = db.begin_write().map_err(SpoolError::storage)?;
    tx.set_durability(Durability::Immediate).map_err(SpoolError::storage)?;
    tx.open_table(BATCHES).map_err(SpoolError::storage)?;
    tx.open_table(SERIES).map_err(SpoolError::storage)?;
    tx.open_table(CURSORS).map_err(SpoolError::storage)?;
    tx.open_table(GAPS).map_err(SpoolError::storage)?;
    {
        let mut meta = tx.open_table(META).map_err(SpoolError::storage)?;
        meta.insert("format", FORMAT.as_bytes()).map_err(SpoolError::storage)?;
        meta.insert("epoch", entropy.as_slice()).map_err(SpoolError::storage)?;
        meta.insert("books", Books::default().to_bytes().as_slice()).map_err(SpoolError::storage)?;
    }
    tx.commit().map_err(SpoolError::storage)?;
    Ok(true)
}

fn corrupt(what: &'static str) -> impl Fn() -> SpoolError {
    move || SpoolError::Corrupt(what.to_owned())
}

fn read_epoch(tx: &ReadTransaction) -> Result<Epoch, SpoolError> {
    let meta = tx.open_table(META).map_err(reading)?;
    let format = meta.get("format").map_err(reading)?.ok_or_else(corrupt("it names no format"))?;
    if format.value() != FORMAT.as_bytes() {
        let found = String::from_utf8_lossy(format.value()).into_owned();
        return Err(SpoolError::Format { found, known: FORMAT });
    }
    let epoch = meta.get("epoch").map_err(reading)?.ok_or_else(corrupt("it names no epoch"))?;
    let bytes: [u8; 16] =
        epoch.value().try_into().map_err(|_| SpoolError::Corrupt("its epoch is cut".into()))?;
    Ok(Epoch::from_bytes(bytes))
}

/// The books as last written, brought up to the newest batch: an append does not write them.
fn read_books(tx: &ReadTransaction) -> Result<Books, SpoolError> {
    let meta = tx.open_table(META).map_err(reading)?;
    let bytes = meta.get("books").map_err(reading)?.ok_or_else(corrupt("it holds no books"))?;
    let mut books = Books::from_bytes(bytes.value()).ok_or_else(corrupt("its books are damaged"))?;
    let batches = tx.open_table(BATCHES).map_err(reading)?;
    for entry in batches.range(books.head.saturating_add(1)..).map_err(reading)? {
        let (seq, value) = entry.map_err(reading)?;
        if seq.value() != books.head.saturating_add(1) {
            return Err(SpoolError::Corrupt(format!("seq {} is missing", books.head.saturating_add(1))));
        }
        // A damaged header has no count; the next header's running total makes up for it.
        let (rows, bytes) = match Header::read(value.value()) {
            Some(header) => (
                header.rows_through.saturating_sub(books.account.produced),
                header.cost_through.saturating_sub(books.cost_in),
            ),
            None => (0, cost(value.value().len())),
        };
        books.append(rows, bytes);
    }
    Ok(books)
}

fn read_dictionary(tx: &ReadTransaction) -> Result<Dictionary, SpoolError> {
    let mut dictionary = Dictionary::default();
    let table = tx.open_table(SERIES).map_err(reading)?;
    for entry in table.iter().map_err(reading)? {
        let (number, value) = entry.map_err(reading)?;
        let def: SeriesDef = minicbor::decode(value.value())
            .map_err(|error| SpoolError::Corrupt(format!("series {}: {error}", number.value())))?;
        if dictionary.push(def)? != number.value() {
            return Err(SpoolError::Corrupt(format!("series {} is out of order", number.value())));
        }
    }
    dictionary.durable = dictionary.defs.len();
    Ok(dictionary)
}

fn reading(error: impl Into<redb::Error>) -> SpoolError {
    match error.into() {
        redb::Error::Corrupted(reason) => SpoolError::Corrupt(reason),
        redb::Error::TableDoesNotExist(name) => SpoolError::Corrupt(format!("table {name} is missing")),
        other => SpoolError::storage(other),
    }
}
