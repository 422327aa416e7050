//! Looking at a spool's file without touching it, for the commands that inspect and export.
//!
//! The file is opened for reading only. Whatever redb writes while it opens and closes, its repair
//! after a kill among it, goes into memory that is dropped with the spool. So a file that was not
//! closed cleanly is seen as the next start would see it, and stays as it is on disk.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::backend::{Files, Meter};
use crate::open::{journal_path, open_database, opening, sound};
use crate::spool::{Spool, SpoolConfig, SpoolError};

/// Bytes that are copied into memory together when one of them is written; redb's page size.
const BLOCK_BYTES: u64 = 4096;

/// What looking found beside the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookReport {
    /// Whether the file was closed in order; after a kill it was not.
    pub closed_cleanly: bool,
}

impl Spool {
    /// Opens the file at `path` for `work` to look at it. Nothing that is done with the spool
    /// reaches the file, and no file is made or renamed. Meanwhile no agent can start on it; other
    /// looks can.
    ///
    /// # Errors
    /// There is no such file, an agent has it open, it cannot be read as a spool, or `work` failed.
    pub fn look<T, E: From<SpoolError>>(
        path: &Path,
        work: impl FnOnce(&mut Self, LookReport) -> Result<T, E>,
    ) -> Result<T, E> {
        let tables = LookBackend::open(path)?;
        if tables.layer().len == 0 {
            return Err(SpoolError::Corrupt("the file is empty".into()).into());
        }
        let journal = journal_path(path);
        let journal = if journal.exists() { LookBackend::open(&journal)? } else { LookBackend::over(None)? };
        let files = Files::new(tables, journal);
        sound(|| {
            let opened = open_database(files, &Meter::default())?;
            let closed_cleanly = opened.closed_cleanly;
            let mut spool = Self::load(opened, SpoolConfig::default(), None)?;
            work(&mut spool, LookReport { closed_cleanly })
        })
    }

    /// Whether all pages are as their checksums say. Only for a look: where they are not, redb goes
    /// back to an older state, and a spool that went back would give a seq out twice.
    ///
    /// # Errors
    /// The storage failed.
    pub fn pages_are_sound(&mut self) -> Result<bool, SpoolError> {
        match self.db.check_integrity() {
            Ok(sound) => Ok(sound),
            Err(error) => match opening(error) {
                SpoolError::Corrupt(_) => Ok(false),
                other => Err(other),
            },
        }
    }
}

/// A file below, and what was written on it in memory.
#[derive(Debug)]
struct LookBackend {
    // None for a file that does not exist.
    file: Option<FileBackend>,
    layer: Mutex<Layer>,
}

#[derive(Debug)]
struct Layer {
    len: u64,
    // Bytes of the file that still shine through: it may have been cut and have grown again.
    file_len: u64,
    // Number of the block to its bytes.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl LookBackend {
    fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |error: io::Error| SpoolError::Storage(format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
        Self::over(Some(FileBackend::new(file).map_err(opening)?))
    }

    fn over(file: Option<FileBackend>) -> Result<Self, SpoolError> {
        let len = file.as_ref().map_or(Ok(0), StorageBackend::len).map_err(SpoolError::failed)?;
        Ok(Self { file, layer: Mutex::new(Layer { len, file_len: len, blocks: BTreeMap::new() }) })
    }

    fn layer(&self) -> std::sync::MutexGuard<'_, Layer> {
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked<T>(
        &self,
        lock: impl FnOnce(&FileBackend) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.file.as_ref().map_or(Err(BackendError::Unsupported), lock)
    }

    /// One block as the file has it, with zeros beyond its end.
    fn block_below(&self, layer: &Layer, number: u64) -> io::Result<Vec<u8>> {
        let start = number * BLOCK_BYTES;
        let mut block = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(0)];
        let there = layer.file_len.saturating_sub(start).min(BLOCK_BYTES);
        if let Some(part) = block.get_mut(..usize::try_from(there).unwrap_or(0))
            && let Some(file) = &self.file
            && !part.is_empty()
        {
            file.read(start, part)?;
        }
        Ok(block)
    }
}

/// The parts of `offset..offset + len` by block: number, start within it, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(len as u64);
    (offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).filter_map(move |number| {
        let start = offset.max(number * BLOCK_BYTES);
        let stop = end.min((number + 1) * BLOCK_BYTES);
        let within = usize::try_from(start % BLOCK_BYTES).ok()?;
        Some((number, within, usize::try_from(stop.checked_sub(start)?).ok()?))
    })
}

impl StorageBackend for LookBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.layer().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let layer = self.layer();
        if offset.saturating_add(out.len() as u64) > layer.len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "read beyond the end"));
        }
        let mut rest = out;
        for (number, within, len) in parts(offset, rest.len()) {
            let (part, tail) = rest.split_at_mut(len);
            let fresh;
            let block = match layer.blocks.get(&number) {
                Some(block) => block,
                None => {
                    fresh = self.block_below(&layer, number)?;
                    &fresh
                }
            };
            part.copy_from_slice(block.get(within..within + len).unwrap_or_default());
            rest = tail;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut layer = self.layer();
        if len < layer.len {
            layer.file_len = layer.file_len.min(len);
            layer.blocks.split_off(&len.div_ceil(BLOCK_BYTES));
            if let Some(block) = layer.blocks.get_mut(&(len / BLOCK_BYTES)) {
                let keep = usize::try_from(len % BLOCK_BYTES).unwrap_or(0);
                block.iter_mut().skip(keep).for_each(|byte| *byte = 0);
            }
        }
        layer.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut layer = self.layer();
        let mut rest = data;
        for (number, within, len) in parts(offset, data.len()) {
            let (part, tail) = rest.split_at(len);
            let mut block = match layer.blocks.remove(&number) {
                Some(block) => block,
                None => self.block_below(&layer, number)?,
            };
            if let Some(place) = block.get_mut(within..within + len) {
                place.copy_from_slice(part);
            }
            layer.blocks.insert(number, block);
            rest = tail;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), StorageBackend::close)
    }

    // A lock for writing excludes an agent, and so does one for reading; but that can be had on a
    // file opened for reading only, and by several looks at once.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locked(|file| file.try_lock_shared_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locked(|file| file.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locked(|file| file.lock_shared_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locked(|file| file.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locked(|file| file.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locked(|file| file.query_lock_range(start, end))
    }
}
