//! A disk that fails for a while, and what stands in the file afterwards.

use redb::{ReadableTable as _, TableDefinition};

use super::*;

const TABLE: TableDefinition<'static, u64, u64> = TableDefinition::new("t");

/// What of the disk fails.
#[derive(Debug, Default)]
struct Disk {
    write: AtomicBool,
    sync: AtomicBool,
}

#[derive(Debug)]
struct Failing {
    inner: Box<dyn StorageBackend>,
    disk: Arc<Disk>,
}

fn unless(fails: &AtomicBool) -> io::Result<()> {
    if fails.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        unless(&self.disk.write)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        unless(&self.disk.sync)?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        unless(&self.disk.write)?;
        self.inner.write(offset, data)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.query_lock_range(start, end)
    }
}

/// A file with what its disk does, and how often it was prepared.
fn file(path: &Path) -> (RedbFile<redb::Error>, Arc<Disk>, Arc<AtomicU64>) {
    let (disk, prepared) = (Arc::new(Disk::default()), Arc::new(AtomicU64::new(0)));
    let (of_file, counted) = (Arc::clone(&disk), Arc::clone(&prepared));
    let opener: Opener =
        Box::new(move |path| Ok(Box::new(Failing { inner: on_disk(path)?, disk: Arc::clone(&of_file) })));
    let prepare: Prepare<redb::Error> = Box::new(move |database| {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (RedbFile::open_on(path, opener, prepare, CACHE_BYTES).unwrap(), disk, prepared)
}

fn put(file: &RedbFile<redb::Error>, key: u64) -> Result<(), redb::Error> {
    let transaction = file.begin_write()?;
    transaction.open_table(TABLE)?.insert(key, key)?;
    Ok(transaction.commit()?)
}

fn keys(file: &RedbFile<redb::Error>) -> Result<Vec<u64>, redb::Error> {
    let table = file.begin_read()?.open_table(TABLE)?;
    table.iter()?.map(|entry| Ok(entry?.0.value())).collect()
}

#[test]
fn a_file_whose_disk_was_full_takes_writes_again_when_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let (file, disk, prepared) = file(&dir.path().join("t.redb"));
    put(&file, 1).unwrap();
    disk.write.store(true, Ordering::SeqCst);
    assert!(put(&file, 2).is_err());
    disk.write.store(false, Ordering::SeqCst);
    assert_eq!(keys(&file).unwrap(), [1], "readers are served again");
    put(&file, 3).unwrap();
    assert_eq!(keys(&file).unwrap(), [1, 3]);
    assert_eq!((file.reopened(), prepared.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn after_a_sync_that_failed_all_of_the_file_is_written_again() {
    use std::os::unix::fs::MetadataExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.redb");
    let (file, disk, _) = file(&path);
    put(&file, 1).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    disk.sync.store(true, Ordering::SeqCst);
    assert!(put(&file, 2).is_err());
    disk.sync.store(false, Ordering::SeqCst);
    put(&file, 3).unwrap();
    let found = keys(&file).unwrap();
    // What failed may be there: it was written, and only not known to be on the disk.
    assert!(found == [1, 3] || found == [1, 2, 3], "{found:?}");
    assert_ne!(std::fs::metadata(&path).unwrap().ino(), inode);
    drop(file);
    let other = RedbFile::<redb::Error>::open(&path, |_| Ok(())).unwrap();
    assert_eq!(keys(&other).unwrap(), found);
}

#[test]
fn a_view_that_is_held_keeps_the_file_from_being_opened_again_no_longer_than_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (file, disk, _) = file(&dir.path().join("t.redb"));
    put(&file, 1).unwrap();
    let view = file.begin_read().unwrap();
    disk.write.store(true, Ordering::SeqCst);
    assert!(put(&file, 2).is_err());
    disk.write.store(false, Ordering::SeqCst);
    assert!(matches!(put(&file, 3), Err(redb::Error::PreviousIo)));
    drop(view);
    put(&file, 4).unwrap();
    assert_eq!(keys(&file).unwrap(), [1, 4]);
}

#[test]
fn a_file_that_somebody_else_has_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.redb");
    let _held = file(&path);
    let other = RedbFile::<redb::Error>::open(&path, |_| Ok(()));
    assert!(matches!(other, Err(redb::Error::DatabaseAlreadyOpen)));
}
