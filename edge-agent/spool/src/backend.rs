//! A storage backend that counts the bytes handed to it, what a device's flash has to take, and notes
//! what it fails at.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

use crate::journal::{JOURNAL_BYTES, is_full};
use crate::spool::SpoolError;

/// Bytes that are read and written together when a file is written again.
const BLOCK_BYTES: usize = 64 * 1024;

/// What has been handed to the storage since it was opened, and what it failed at.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    bytes: AtomicU64,
    unsynced: AtomicBool,
    full: AtomicBool,
    // The file that says so to the next process.
    mark: Option<PathBuf>,
}

impl Meter {
    /// One that makes the file `mark` when a sync fails.
    pub fn marking(mark: Option<PathBuf>) -> Self {
        Self(Arc::new(Seen { mark, ..Seen::default() }))
    }

    /// Bytes handed to the storage.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn failed_to_sync(&self) {
        self.0.unsynced.store(true, Ordering::Relaxed);
        let marked = self.0.mark.as_ref().map(|mark| File::create(mark).and_then(|file| file.sync_all()));
        if let Some(Err(error)) = marked {
            // The error that is returned tells whoever goes on in this process.
            tracing::warn!(%error, "a failed sync cannot be noted for the next start");
        }
    }

    /// Whether the disk had no room for something.
    pub fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    fn failed(&self, error: &io::Error) {
        self.0.full.fetch_or(is_full(error), Ordering::Relaxed);
    }

    /// The same error, or what it means after a sync has failed.
    pub fn explain(&self, error: SpoolError) -> SpoolError {
        match error {
            SpoolError::Storage(reason) if self.0.unsynced.load(Ordering::Relaxed) => {
                SpoolError::Unsynced(reason)
            }
            other => other,
        }
    }
}

/// Writes all of a file again as it reads, and syncs it.
///
/// A system may drop what it could not sync, and show it to readers all the same, as if it were on the
/// disk (the "fsyncgate" of 2018). After this everything that is read is. No page of a spool is all
/// zeros: those are holes, which are to stay holes. The first block comes last, when what it names is there.
///
/// # Errors
/// The disk failed.
pub fn write_again(disk: &impl StorageBackend) -> io::Result<()> {
    let (len, mut block) = (disk.len()?, vec![0; BLOCK_BYTES]);
    let mut write_block = |at: u64| {
        let size = usize::try_from(len - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let part = block.get_mut(..size).unwrap_or_default();
        disk.read(at, part)?;
        if part.iter().any(|byte| *byte != 0) { disk.write(at, part) } else { Ok(()) }
    };
    (0..len).step_by(BLOCK_BYTES).skip(1).try_for_each(&mut write_block)?;
    disk.sync_data()?;
    if len > 0 {
        write_block(0)?;
    }
    disk.sync_data()
}

/// What a spool is kept on: the file of redb's tables and the journal in front of them.
#[derive(Debug)]
pub struct Files {
    /// Holds the tables.
    pub tables: Box<dyn StorageBackend>,
    /// Holds the journal.
    pub journal: Box<dyn StorageBackend>,
    /// Bytes of the journal, the same at every opening.
    pub journal_bytes: u64,
    /// Whether they are to be written again before anything in them is believed.
    pub unsynced: bool,
    pub(crate) mark: Option<PathBuf>,
    // Where the tables are, for what has to be put aside.
    pub(crate) path: Option<PathBuf>,
}

impl Files {
    /// The two files.
    pub fn new(tables: impl StorageBackend, journal: impl StorageBackend) -> Self {
        let (tables, journal) = (Box::new(tables), Box::new(journal));
        Self { tables, journal, journal_bytes: JOURNAL_BYTES, unsynced: false, mark: None, path: None }
    }

    /// After [`SpoolError::Unsynced`]: what reads show of them may not be on the disk.
    #[must_use]
    pub fn unsynced(self) -> Self {
        Self { unsynced: true, ..self }
    }

    /// With a journal of another size: a small one fills up soon.
    #[must_use]
    pub fn with_journal_bytes(self, bytes: u64) -> Self {
        Self { journal_bytes: bytes, ..self }
    }
}

/// Wraps a backend and counts what is written.
#[derive(Debug)]
pub struct CountingBackend {
    inner: Box<dyn StorageBackend>,
    meter: Meter,
}

impl CountingBackend {
    /// Wraps `inner` and adds to `meter`.
    pub fn new(inner: Box<dyn StorageBackend>, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl StorageBackend for CountingBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len).inspect_err(|error| self.meter.failed(error))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|error| {
            self.meter.failed(error);
            self.meter.failed_to_sync();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.meter.0.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.inner.write(offset, data).inspect_err(|error| self.meter.failed(error))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Whether redb's file says of itself that it was closed in order: one bit of its header does, behind the
/// magic number (redb's `docs/design.md`, "god byte"). redb tells only of repairs that go through all pages.
pub fn was_closed(tables: &dyn StorageBackend) -> std::io::Result<bool> {
    const AT: u64 = 9;
    const RECOVERY_REQUIRED: u8 = 2;
    let mut byte = [0];
    if tables.len()? > AT {
        tables.read(AT, &mut byte)?;
    }
    let [byte] = byte;
    Ok(byte & RECOVERY_REQUIRED == 0)
}
