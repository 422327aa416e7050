//! A disk that others fill: the spool tells, loses nothing that it accepted, and goes on once there is
//! room.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig, SpoolError};

const ROWS: u32 = 2_000;

fn open(disk: &CrashBackend) -> Result<Spool, SpoolError> {
    Spool::open(disk.clone(), SpoolConfig::default(), [7; 16])
}

/// Appends values that nothing packs.
fn append(spool: &mut Spool, round: u32) -> Result<(), SpoolError> {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef { device, point, unit: String::new() })?;
    let value = |row: u32| f64::from(row.wrapping_mul(2_654_435_761) ^ round).sin();
    let samples = (0..ROWS).map(|row| Sample { time_ns: i64::from(row), value: value(row) });
    spool.append(&[(series, &samples.collect::<Vec<_>>())], &[("source", &round.to_le_bytes())]).map(drop)
}

#[test]
fn nothing_accepted_is_lost_to_a_full_disk_and_the_spool_goes_on_once_there_is_room() {
    let disk = CrashBackend::new();
    let mut spool = open(&disk).unwrap();
    let mut accepted = 0;
    for _ in 0..3 {
        append(&mut spool, accepted).unwrap();
        accepted += 1;
    }
    disk.set_room(Some(disk.bytes()));
    let told = loop {
        match append(&mut spool, accepted) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(told, SpoolError::Storage(_)), "{told}");
    assert!(matches!(append(&mut spool, accepted), Err(SpoolError::Poisoned)), "it is to be opened again");
    drop(spool);
    let rows = |batches: u32| u64::from(batches) * u64::from(ROWS);
    // As long as the disk is full it cannot be opened, and says so; or it can, with everything.
    for _ in 0..3 {
        match open(&disk) {
            Ok(spool) => assert_eq!(spool.account().produced, rows(accepted)),
            Err(error) => assert!(matches!(error, SpoolError::Storage(_)), "{error}"),
        }
    }
    disk.set_room(None);
    // After a power cut as well.
    let mut spool = open(&disk.crash()).unwrap();
    assert_eq!(spool.account().pending, rows(accepted));
    assert_eq!(spool.cursor("source").unwrap(), Some((accepted - 1).to_le_bytes().to_vec()));
    assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
    append(&mut spool, accepted).unwrap();
    assert_eq!(spool.account().pending, rows(accepted + 1));
}
