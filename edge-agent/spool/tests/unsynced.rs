//! A disk that fails a sync and drops what it was to write, while the system goes on showing it: nothing
//! is believed that is only shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tideline_protocol::model::{DeviceId, PointId, Sample, Seq, SeriesDef};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Files, Spool, SpoolConfig, SpoolError};

const ROWS: u32 = 400;

fn open(files: impl Into<Files>) -> Result<Spool, SpoolError> {
    Spool::open(files, SpoolConfig::default(), [7; 16])
}

/// Appends values that nothing packs.
fn append(spool: &mut Spool, round: u32) -> Result<Seq, SpoolError> {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, String::new()))?;
    let value = |row: u32| f64::from(row.wrapping_mul(2_654_435_761) ^ round).sin();
    let samples = (0..ROWS).map(|row| Sample { time_ns: i64::from(row), value: value(row) });
    spool.append(&[(series, &samples.collect::<Vec<_>>())], &[("source", &round.to_le_bytes())])
}

/// A spool of six batches, three of them in the journal.
fn filled() -> (CrashBackend, Spool) {
    let disk = CrashBackend::new();
    let mut spool = open(disk.clone()).unwrap();
    (0..3).for_each(|round| assert!(append(&mut spool, round).is_ok()));
    spool.flush().unwrap();
    (3..6).for_each(|round| assert!(append(&mut spool, round).is_ok()));
    (disk, spool)
}

/// After a failed sync: whatever is acknowledged from then on outlives a power cut.
fn goes_on_after(disk: &CrashBackend, error: &SpoolError) {
    assert!(matches!(error, SpoolError::Unsynced(_)), "{error}");
    let mut spool = open(Files::from(disk.clone()).unsynced()).unwrap();
    let accepted = spool.account().produced;
    assert!(accepted >= 6 * u64::from(ROWS));
    append(&mut spool, 100).unwrap();
    let (account, held) = (spool.account(), spool.held().clone());
    let disk = disk.crash();
    drop(spool);
    let spool = open(disk).unwrap();
    assert_eq!((spool.account(), spool.held()), (account, &held));
    assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
    assert_eq!(spool.cursor("source").unwrap(), Some(100_u32.to_le_bytes().to_vec()));
}

#[test]
fn what_a_failed_commit_of_the_tables_left_to_be_read_is_written_again() {
    let (disk, mut spool) = filled();
    disk.lose_next_sync();
    let error = spool.flush().unwrap_err();
    assert!(matches!(append(&mut spool, 6), Err(SpoolError::Poisoned)));
    drop(spool);
    goes_on_after(&disk, &error);
}

#[test]
fn what_a_failed_sync_of_the_journal_left_to_be_read_is_written_again() {
    let (disk, mut spool) = filled();
    disk.lose_next_sync();
    let error = append(&mut spool, 6).unwrap_err();
    drop(spool);
    goes_on_after(&disk, &error);
}

#[test]
fn a_sync_that_fails_while_a_spool_is_opened_leaves_one_that_goes_on() {
    let mut failed = 0;
    for left in 0..12 {
        let (disk, spool) = filled();
        drop(spool);
        let disk = disk.kill();
        // One more sync gets through each time.
        let counted = Counted { disk: disk.clone(), left: left.into() };
        match open(Files::new(counted, disk.journal())) {
            Ok(spool) => assert!(spool.verify().unwrap().problems.is_empty()),
            Err(error) => {
                failed += 1;
                goes_on_after(&disk, &error);
            }
        }
    }
    assert!((2..12).contains(&failed), "{failed}");
}

#[test]
fn a_sync_that_failed_before_a_kill_is_noted_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mark) = (dir.path().join("spool.redb"), dir.path().join("spool.unsynced"));
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    append(&mut spool, 1).unwrap();
    drop(spool);
    let bytes = |spool: &Spool| spool.bytes_written();
    let plain = bytes(&Spool::open_file(&path, SpoolConfig::default()).unwrap().0);
    std::fs::write(&mark, b"").unwrap();
    let (spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    assert!(!mark.exists() && spool.account().pending == u64::from(ROWS));
    assert!(bytes(&spool) > plain + 16 * 1024, "{} {plain}", bytes(&spool));
}

#[derive(Debug)]
struct Counted {
    disk: CrashBackend,
    left: std::sync::atomic::AtomicU32,
}

impl redb::StorageBackend for Counted {
    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.disk.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            self.disk.lose_next_sync();
        }
        self.disk.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.write(offset, data)
    }
}
