//! A storage backend that counts the bytes handed to it: what a device's flash has to take.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

use crate::journal::JOURNAL_BYTES;

/// How many bytes have been handed to the storage since it was opened.
#[derive(Debug, Clone, Default)]
pub struct WrittenBytes(Arc<AtomicU64>);

impl WrittenBytes {
    /// The count in bytes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
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
}

impl Files {
    /// The two files.
    pub fn new(tables: impl StorageBackend, journal: impl StorageBackend) -> Self {
        Self { tables: Box::new(tables), journal: Box::new(journal), journal_bytes: JOURNAL_BYTES }
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
    written: WrittenBytes,
}

impl CountingBackend {
    /// Wraps `inner` and adds to `written`.
    pub fn new(inner: Box<dyn StorageBackend>, written: WrittenBytes) -> Self {
        Self { inner, written }
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
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.0.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.inner.write(offset, data)
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
