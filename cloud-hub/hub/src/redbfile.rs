//! A redb file that is opened again after its disk has failed.
//!
//! After one error of the disk redb takes and reads nothing more, and a disk that was full for a moment would stop the hub
//! until somebody restarts it. Here whoever asks next opens the file again: redb finds its last whole commit in it. One that
//! was told as failed may be there or not, so what is kept in memory of the file is to be read again: `prepare` does that,
//! before anybody else gets at the file. A view that somebody has of it holds that up: views are to be short.
//!
//! Where it was a sync that failed, the system may hold bytes for written that never reached the disk. They are written again
//! then, to a copy that takes the place of the file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    BackendError, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageBackend,
    WriteTransaction,
};
use tideline_protocol::time::{Clock as _, SystemClock};

/// From one attempt to open a file that failed to the next: each may read all of it.
const RETRY_NS: u64 = 1_000_000_000;

/// Pages of a file that redb keeps in memory, at most, where nothing else is said: its own default.
const CACHE_BYTES: usize = 1 << 30;

/// What the disk has refused.
#[derive(Debug, Default)]
struct Faults {
    any: AtomicBool,
    sync: AtomicBool,
}

impl Faults {
    fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.any.store(true, Ordering::Release);
        }
        done
    }

    fn are_there(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

/// What the file is on; it notes what fails.
#[derive(Debug)]
struct Watched {
    inner: Box<dyn StorageBackend>,
    faults: Arc<Faults>,
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.faults.note(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.note(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.note(self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.faults.note(self.inner.sync_data());
        self.faults.sync.fetch_or(synced.is_err(), Ordering::AcqRel);
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.note(self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.query_lock_range(start, end)
    }
}

/// Opens what a file is on; tests put one in its place that fails.
type Opener = Box<dyn Fn(&Path) -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;
/// Makes an opened file ready, and reads what is kept in memory of it.
type Prepare<E> = Box<dyn Fn(&Database) -> Result<(), E> + Send + Sync>;

#[derive(Default)]
struct Held {
    // None while it could not be opened again.
    database: Option<Arc<Database>>,
    faults: Arc<Faults>,
    next_try_ns: u64,
}

impl Held {
    fn sound(&self) -> Option<&Arc<Database>> {
        self.database.as_ref().filter(|_| !self.faults.are_there())
    }
}

/// Why it is not opened.
enum Closed<E> {
    /// Somebody has it open.
    Held,
    Failed(E),
}

impl<E: From<redb::Error>> Closed<E> {
    fn io(error: io::Error) -> Self {
        Self::Failed(E::from(redb::Error::Io(error)))
    }
}

/// The file.
pub struct RedbFile<E> {
    path: PathBuf,
    opener: Opener,
    prepare: Prepare<E>,
    cache_bytes: usize,
    held: RwLock<Held>,
    reopened: AtomicU64,
}

impl<E> fmt::Debug for RedbFile<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn on_disk(path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Writes a file anew, byte for byte, so that all of it is on the disk.
fn write_again(path: &Path) -> io::Result<()> {
    let copy = path.with_extension("redb.rewritten");
    std::fs::copy(path, &copy)?;
    File::open(&copy)?.sync_all()?;
    std::fs::rename(&copy, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

impl<E: From<redb::Error>> RedbFile<E> {
    /// Opens the file, or makes it. `prepare` is called whenever it was opened.
    ///
    /// # Errors
    /// The file cannot be opened, another process has it open ([`redb::Error::DatabaseAlreadyOpen`]), or as `prepare`.
    pub fn open(
        path: &Path,
        prepare: impl Fn(&Database) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        Self::open_on(path, Box::new(on_disk), Box::new(prepare), CACHE_BYTES)
    }

    /// As [`Self::open`], with no more than so many bytes of pages in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_within(
        path: &Path,
        cache_bytes: usize,
        prepare: impl Fn(&Database) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        Self::open_on(path, Box::new(on_disk), Box::new(prepare), cache_bytes)
    }

    fn open_on(path: &Path, opener: Opener, prepare: Prepare<E>, cache_bytes: usize) -> Result<Self, E> {
        let file = Self {
            path: path.to_owned(),
            opener,
            prepare,
            cache_bytes,
            held: RwLock::default(),
            reopened: AtomicU64::new(0),
        };
        let (database, faults) = file.try_open().map_err(|error| match error {
            Closed::Held => E::from(redb::Error::DatabaseAlreadyOpen),
            Closed::Failed(error) => error,
        })?;
        *file.held.write().unwrap_or_else(PoisonError::into_inner) =
            Held { database: Some(Arc::new(database)), faults, next_try_ns: 0 };
        Ok(file)
    }

    /// How often it was opened again.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// A view of the file as it is now.
    ///
    /// # Errors
    /// The disk fails.
    pub fn begin_read(&self) -> Result<ReadTransaction, E> {
        self.database()?.begin_read().map_err(|error| E::from(error.into()))
    }

    /// A change of the file; it waits until no other one is made.
    ///
    /// # Errors
    /// The disk fails.
    pub fn begin_write(&self) -> Result<WriteTransaction, E> {
        // Not while the lock is held: whoever has the other change may ask for a view meanwhile.
        self.database()?.begin_write().map_err(|error| E::from(error.into()))
    }

    fn database(&self) -> Result<Arc<Database>, E> {
        if let Some(database) = self.held.read().unwrap_or_else(PoisonError::into_inner).sound() {
            return Ok(Arc::clone(database));
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = held.sound() {
            return Ok(Arc::clone(database));
        }
        let now_ns = SystemClock::default().mono_ns();
        if now_ns < held.next_try_ns {
            return Err(E::from(redb::Error::PreviousIo));
        }
        // Closed by the last that holds it; until then it cannot be opened, which is tried again.
        held.database = None;
        match self.reopen(&held.faults) {
            Ok((database, faults)) => {
                self.reopened.fetch_add(1, Ordering::Relaxed);
                tracing::info!(file = %self.path.display(), "opened again after its disk had failed");
                let database = Arc::new(database);
                *held = Held { database: Some(Arc::clone(&database)), faults, next_try_ns: 0 };
                Ok(database)
            }
            // Whoever has a view of it or a change is about to end that: nothing of it succeeds any more.
            Err(Closed::Held) => Err(E::from(redb::Error::PreviousIo)),
            Err(Closed::Failed(error)) => {
                held.next_try_ns = now_ns.saturating_add(RETRY_NS);
                Err(error)
            }
        }
    }

    fn reopen(&self, faults: &Faults) -> Result<(Database, Arc<Faults>), Closed<E>> {
        if faults.sync.load(Ordering::Acquire) {
            write_again(&self.path).map_err(Closed::io)?;
        }
        self.try_open()
    }

    fn try_open(&self) -> Result<(Database, Arc<Faults>), Closed<E>> {
        let faults = Arc::new(Faults::default());
        let inner = (self.opener)(&self.path).map_err(Closed::io)?;
        let watched = Watched { inner, faults: Arc::clone(&faults) };
        let opened = Database::builder().set_cache_size(self.cache_bytes).create_with_backend(watched);
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Closed::Held,
            error => Closed::Failed(E::from(error.into())),
        })?;
        (self.prepare)(&database).map_err(Closed::Failed)?;
        Ok((database, faults))
    }
}

#[cfg(test)]
mod tests;
