//! The file of the replicas: `twins.redb` in the data folder, its owner's alone.
//!
//! ```text
//! meta       "version" → 1, "name" → the epoch of the spool, the random part of the actor's name
//! documents  document → the last whole save
//! figures    document → the random part of its actor's name, changes that the hub has not confirmed
//! appended   (document, number) → what came since, in order
//! damaged    document → what could not be read, the last one of each
//! ```
//! A commit costs a flash device some 30 KB, whatever is in it, so what waits at the same time is committed together.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable, StorageError, TableDefinition};
use tideline_protocol::model::Epoch;
use tideline_protocol::wire::DocumentId;
use tideline_spool::{SpoolError, sound};
use tideline_twin::Write;

use crate::spooler::narrow;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const FIGURES: TableDefinition<'_, &str, (&[u8], u64)> = TableDefinition::new("figures");
const APPENDED: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("appended");
const DAMAGED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("damaged");

const VERSION: u8 = 1;
/// Pages of the file that are kept in memory, in bytes: what is read is small and read once.
const CACHE_BYTES: usize = 512 * 1024;
/// Most files put aside beside it; beyond them the last one is replaced.
const ASIDE_MAX: u32 = 4;

/// Where the file of a data folder is.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    data.join("twins.redb")
}

/// Why replicas are not read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FileError {
    /// The disk failed, or somebody else has the file.
    #[error("twins.redb: {0}")]
    Storage(String),
    /// What stands there is no such file, or of a later version.
    #[error("twins.redb cannot be read: {0}")]
    Corrupt(String),
}

impl FileError {
    fn storage(error: impl std::fmt::Display) -> Self {
        Self::Storage(error.to_string())
    }
}

// A panic of redb over what stands in a file.
impl From<SpoolError> for FileError {
    fn from(error: SpoolError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<DatabaseError> for FileError {
    fn from(error: DatabaseError) -> Self {
        match &error {
            DatabaseError::Storage(StorageError::Io(io))
                if !matches!(
                    io.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::storage(error)
            }
            DatabaseError::Storage(_) | DatabaseError::UpgradeRequired(_) => Self::Corrupt(error.to_string()),
            _ => Self::storage(error),
        }
    }
}

/// The random part of an actor's name.
pub type Entropy = [u8; 15];

/// By what name replicas write, and in which epoch of the spool it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The epoch: a spool that turns out to be a copy goes on in another.
    pub epoch: Epoch,
    /// The name.
    pub entropy: Entropy,
}

impl Name {
    fn to_bytes(self) -> [u8; 31] {
        let mut bytes = [0; 31];
        let (epoch, entropy) = bytes.split_at_mut(16);
        epoch.copy_from_slice(self.epoch.as_bytes());
        entropy.copy_from_slice(&self.entropy);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (epoch, entropy) = bytes.split_first_chunk::<16>()?;
        Some(Self { epoch: Epoch::from_bytes(*epoch), entropy: entropy.try_into().ok()? })
    }
}

/// What is known of a document without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Own changes that the hub has not confirmed.
    pub unconfirmed: u64,
    /// The name that it writes by.
    pub entropy: Entropy,
}

/// A document as it was written.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The last whole save.
    pub saved: Vec<u8>,
    /// What came since.
    pub appended: Vec<Vec<u8>>,
}

/// One write of a commit.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Of which document.
    pub document: &'a DocumentId,
    /// What.
    pub write: &'a Write,
}

/// The open file.
#[derive(Debug)]
pub struct TwinFile {
    db: Database,
}

/// What a file begins with.
#[derive(Debug, Default)]
pub struct Contents {
    /// The name; none in a new file.
    pub name: Option<Name>,
    /// The documents.
    pub documents: BTreeMap<DocumentId, Figures>,
    /// Where a file was put that could not be read.
    pub aside: Option<PathBuf>,
}

impl TwinFile {
    /// Opens the file or makes it. One that cannot be read is put aside: an agent without its replicas gets those of
    /// the hub, and one that does not start gets nothing.
    ///
    /// # Errors
    /// The disk failed, or another process has the file.
    pub fn open(path: &Path) -> Result<(Self, Contents), FileError> {
        match sound(|| Self::open_once(path)) {
            Err(FileError::Corrupt(reason)) => {
                let aside = put_aside(path).map_err(FileError::storage)?;
                tracing::error!(reason, aside = %aside.display(), "the file of the twins cannot be read; put aside");
                let (file, contents) = sound(|| Self::open_once(path))?;
                Ok((file, Contents { aside: Some(aside), ..contents }))
            }
            opened => opened,
        }
    }

    fn open_once(path: &Path) -> Result<(Self, Contents), FileError> {
        // Made by redb it would be readable by all.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(FileError::storage(error));
            }
            _ => narrow(path).map_err(FileError::storage)?,
        }
        Self::of(Database::builder().set_cache_size(CACHE_BYTES).create(path)?)
    }

    pub(crate) fn of(db: Database) -> Result<(Self, Contents), FileError> {
        let tx = db.begin_write().map_err(FileError::storage)?;
        let contents = {
            let mut meta = tx.open_table(META).map_err(FileError::storage)?;
            let figures = tx.open_table(FIGURES).map_err(FileError::storage)?;
            tx.open_table(DOCUMENTS).map_err(FileError::storage)?;
            tx.open_table(APPENDED).map_err(FileError::storage)?;
            let version = meta.get("version").map_err(FileError::storage)?.map(|kept| kept.value().to_vec());
            if let Some(found) = version.filter(|version| *version != [VERSION]) {
                return Err(FileError::Corrupt(format!(
                    "it is of version {found:?}; this program knows {VERSION}"
                )));
            }
            meta.insert("version", [VERSION].as_slice()).map_err(FileError::storage)?;
            let name = meta.get("name").map_err(FileError::storage)?.map(|kept| kept.value().to_vec());
            Contents { name: name.as_deref().and_then(Name::read), documents: list(&figures)?, aside: None }
        };
        // An opening that changes nothing is not written.
        if contents.name.is_none() {
            tx.commit().map_err(FileError::storage)?;
        } else {
            tx.abort().map_err(FileError::storage)?;
        }
        Ok((Self { db }, contents))
    }

    /// A document as it was written last.
    ///
    /// # Errors
    /// The disk failed.
    pub fn read(&self, document: &DocumentId) -> Result<Option<Stored>, FileError> {
        let name = document.to_string();
        let tx = self.db.begin_read().map_err(FileError::storage)?;
        let documents = tx.open_table(DOCUMENTS).map_err(FileError::storage)?;
        let saved = documents.get(name.as_str()).map_err(FileError::storage)?;
        let Some(saved) = saved.map(|kept| kept.value().to_vec()) else { return Ok(None) };
        let appended = tx.open_table(APPENDED).map_err(FileError::storage)?;
        let range = appended.range((name.as_str(), 0)..=(name.as_str(), u64::MAX));
        let appended = range
            .map_err(FileError::storage)?
            .map(|entry| entry.map(|(_, kept)| kept.value().to_vec()).map_err(FileError::storage))
            .collect::<Result<_, _>>()?;
        Ok(Some(Stored { saved, appended }))
    }

    /// Makes writes durable, all or none, in their order, with what is known of the documents afterwards.
    ///
    /// # Errors
    /// None is, as far as anybody knows: open the file again.
    pub fn commit(
        &self,
        name: Name,
        entries: &[Entry<'_>],
        figures: &BTreeMap<DocumentId, Figures>,
    ) -> Result<(), FileError> {
        let tx = self.db.begin_write().map_err(FileError::storage)?;
        {
            let mut meta = tx.open_table(META).map_err(FileError::storage)?;
            meta.insert("name", name.to_bytes().as_slice()).map_err(FileError::storage)?;
            let mut documents = tx.open_table(DOCUMENTS).map_err(FileError::storage)?;
            let mut appended = tx.open_table(APPENDED).map_err(FileError::storage)?;
            let mut told = tx.open_table(FIGURES).map_err(FileError::storage)?;
            for (at, Entry { document, write }) in entries.iter().enumerate() {
                let name = document.to_string();
                let of = figures.get(document).copied().unwrap_or_default();
                let row = (of.entropy.as_slice(), of.unconfirmed);
                told.insert(name.as_str(), row).map_err(FileError::storage)?;
                let rest = entries.get(at + 1..).unwrap_or_default();
                let is_whole = |entry: &Entry<'_>| {
                    entry.document == *document && matches!(entry.write, Write::Replace(_))
                };
                if rest.iter().any(is_whole) {
                    continue;
                }
                match write {
                    Write::Replace(bytes) => {
                        documents.insert(name.as_str(), bytes.as_slice()).map_err(FileError::storage)?;
                        let range = (name.as_str(), 0)..=(name.as_str(), u64::MAX);
                        appended.retain_in(range, |_, _| false).map_err(FileError::storage)?;
                    }
                    Write::Append(bytes) => {
                        let last = appended.range((name.as_str(), 0)..=(name.as_str(), u64::MAX));
                        let last = last.map_err(FileError::storage)?.next_back().transpose();
                        let last = last.map_err(FileError::storage)?.map_or(0, |(key, _)| key.value().1);
                        appended
                            .insert((name.as_str(), last + 1), bytes.as_slice())
                            .map_err(FileError::storage)?;
                    }
                }
            }
        }
        tx.commit().map_err(FileError::storage)
    }

    /// Puts a document aside that cannot be read: it is none of the documents any more.
    ///
    /// # Errors
    /// The disk failed.
    pub fn put_aside(&self, document: &DocumentId) -> Result<(), FileError> {
        self.take_out(document, true)
    }

    /// Lets go of a document.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove(&self, document: &DocumentId) -> Result<(), FileError> {
        self.take_out(document, false)
    }

    fn take_out(&self, document: &DocumentId, keeps: bool) -> Result<(), FileError> {
        let name = document.to_string();
        let tx = self.db.begin_write().map_err(FileError::storage)?;
        {
            let mut documents = tx.open_table(DOCUMENTS).map_err(FileError::storage)?;
            let mut appended = tx.open_table(APPENDED).map_err(FileError::storage)?;
            let mut damaged = tx.open_table(DAMAGED).map_err(FileError::storage)?;
            if let Some(kept) = documents.remove(name.as_str()).map_err(FileError::storage)?
                && keeps
            {
                damaged.insert(name.as_str(), kept.value()).map_err(FileError::storage)?;
            }
            tx.open_table(FIGURES)
                .and_then(|mut figures| Ok(figures.remove(name.as_str())?.map(drop)))
                .map_err(FileError::storage)?;
            let range = (name.as_str(), 0)..=(name.as_str(), u64::MAX);
            appended.retain_in(range, |_, _| false).map_err(FileError::storage)?;
        }
        tx.commit().map_err(FileError::storage)
    }
}

fn list(
    figures: &impl ReadableTable<&'static str, (&'static [u8], u64)>,
) -> Result<BTreeMap<DocumentId, Figures>, FileError> {
    let mut all = BTreeMap::new();
    for entry in figures.iter().map_err(FileError::storage)? {
        let (name, kept) = entry.map_err(FileError::storage)?;
        let (entropy, unconfirmed) = kept.value();
        let (Ok(document), Ok(entropy)) = (name.value().parse(), entropy.try_into()) else {
            return Err(FileError::Corrupt(format!("{:?} is no document", name.value())));
        };
        all.insert(document, Figures { unconfirmed, entropy });
    }
    Ok(all)
}

fn put_aside(path: &Path) -> std::io::Result<PathBuf> {
    let with = |n: u32| path.with_extension(format!("redb.quarantined-{n}"));
    let aside = (1..ASIDE_MAX).map(with).find(|aside| !aside.exists()).unwrap_or_else(|| with(ASIDE_MAX));
    std::fs::rename(path, &aside)?;
    Ok(aside)
}
