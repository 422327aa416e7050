//! A day's budget of bytes written to flash: what it costs, and when it is there again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tideline_protocol::model::{Class, DeviceId, DropCause, PointId, Sample, SeriesDef};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{
    DEFAULT_STREAM, Overflow, Pace, Policy, Spool, SpoolConfig, SpoolError, StreamConfig, encode_batch,
};

const ROWS: u32 = 1_000;
/// More than it takes to open a spool several times.
const BUDGET: u64 = 8 << 20;
const DAY_S: u64 = 86_400;

fn open(disk: &CrashBackend, overflow: Overflow) -> Spool {
    let config = SpoolConfig { flash_bytes_per_day: BUDGET, ..SpoolConfig::default() };
    let mut spool = Spool::open(disk.clone(), config, [7; 16]).unwrap();
    let policy = Policy { overflow, ..Policy::default() };
    spool.stream(&StreamConfig { name: DEFAULT_STREAM.into(), class: Class::Live, policy }).unwrap();
    spool
}

/// Appends values that nothing packs.
fn append(spool: &mut Spool, round: u32) -> Result<(), SpoolError> {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, String::new()))?;
    let value = |row: u32| f64::from(row.wrapping_mul(2_654_435_761) ^ round).sin();
    let samples = (0..ROWS).map(|row| Sample { time_ns: i64::from(row), value: value(row) });
    spool.append(&[(series, &samples.collect::<Vec<_>>())], &[("source", &round.to_le_bytes())]).map(drop)
}

fn dropped_for_flash(spool: &Spool) -> u64 {
    spool.drops().find(|(cause, _)| *cause == DropCause::Flash).unwrap().1
}

/// Appends until the budget is used up; gives how many rounds it took.
fn spend(spool: &mut Spool) -> u32 {
    let mut rounds = 0;
    while spool.pace() != Pace::Spent {
        append(spool, rounds).unwrap();
        rounds += 1;
        let stats = spool.stats();
        assert!(stats.pace != Pace::Plenty || stats.flash_day_bytes < BUDGET / 2);
    }
    rounds
}

#[test]
fn what_comes_after_the_budget_is_a_gap_and_the_next_day_there_is_another() {
    let disk = CrashBackend::new();
    let mut spool = open(&disk, Overflow::DropOldest);
    let rounds = spend(&mut spool);
    assert_eq!(spool.account().dropped, 0);
    spool.flush().unwrap();
    let before = spool.stats().flash_day_bytes;
    for round in 0..100 {
        append(&mut spool, rounds + round).unwrap();
    }
    assert_eq!((dropped_for_flash(&spool), spool.account().dropped), (100_000, 100_000));
    assert_eq!(spool.account().pending, u64::from(rounds) * u64::from(ROWS));
    // A gap costs next to nothing.
    assert!(spool.stats().flash_day_bytes - before < 100 * 400);
    let gaps = spool.gaps_unconfirmed().unwrap();
    assert_eq!(
        gaps.iter().map(|gap| (gap.cause, gap.rows.total())).collect::<Vec<_>>(),
        [(DropCause::Flash, 100_000)]
    );
    spool.grow_older(DAY_S).unwrap();
    assert_eq!(spool.pace(), Pace::Plenty);
    append(&mut spool, 0).unwrap();
    assert_eq!((dropped_for_flash(&spool), spool.verify().unwrap().problems.len()), (100_000, 0));
}

#[test]
fn a_stream_that_blocks_waits_for_the_next_day_and_alarms_do_not() {
    let disk = CrashBackend::new();
    let mut spool = open(&disk, Overflow::Block);
    spend(&mut spool);
    let error = append(&mut spool, 1).unwrap_err();
    assert!(matches!(&error, SpoolError::Full { cause: DropCause::Flash, .. }), "{error}");
    let alarms = StreamConfig { name: "alarms".into(), class: Class::Alarm, ..StreamConfig::default() };
    let alarms = spool.stream(&alarms).unwrap();
    let batch = encode_batch(&[(0, &[Sample { time_ns: 1, value: 1.0 }])]).unwrap().on(alarms);
    let seq = spool.append_encoded(&batch, &[]).unwrap();
    assert!(spool.pending().contains(seq.get()));
    spool.grow_older(DAY_S).unwrap();
    append(&mut spool, 1).unwrap();
    assert_eq!(spool.account().dropped, 0);
}

#[test]
fn neither_a_restart_nor_a_power_cut_brings_the_budget_back() {
    let mut disk = CrashBackend::new();
    let mut spool = open(&disk, Overflow::DropOldest);
    spool.grow_older(100).unwrap();
    while spool.stats().flash_day_bytes < BUDGET / 4 * 3 {
        append(&mut spool, 1).unwrap();
    }
    for _ in 0..10 {
        append(&mut spool, 2).unwrap();
        disk = disk.crash();
        spool = open(&disk, Overflow::DropOldest);
        assert!(spool.stats().flash_day_bytes > BUDGET / 2);
    }
    drop(spool);
    assert!(open(&disk, Overflow::DropOldest).stats().flash_day_bytes > BUDGET / 2);
}
