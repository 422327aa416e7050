//! A disk that others fill: the spool tells, loses nothing that it accepted, and goes on once there is
//! room.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tideline_protocol::model::{Class, DeviceId, DropCause, PointId, Sample, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{
    DEFAULT_STREAM, Overflow, Policy, Spool, SpoolConfig, SpoolError, StreamConfig, encode_batch,
};

const ROWS: u32 = 2_000;

fn open(disk: &CrashBackend) -> Result<Spool, SpoolError> {
    Spool::open(disk.clone(), SpoolConfig::default(), [7; 16])
}

/// Appends values that nothing packs.
fn append(spool: &mut Spool, round: u32) -> Result<(), SpoolError> {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, String::new()))?;
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

/// The default stream with another policy.
fn stream(overflow: Overflow) -> StreamConfig {
    let policy = Policy { overflow, ..Policy::default() };
    StreamConfig { name: DEFAULT_STREAM.into(), class: Class::Live, policy }
}

/// A spool that runs and is opened again whenever its storage failed, as an agent does.
struct Running {
    disk: CrashBackend,
    overflow: Overflow,
    spool: Option<Spool>,
    failures: u32,
}

impl Running {
    fn new(overflow: Overflow) -> Self {
        Self { disk: CrashBackend::new(), overflow, spool: None, failures: 0 }
    }

    fn open(&mut self) -> Result<&mut Spool, SpoolError> {
        if self.spool.is_none() {
            let mut spool = open(&self.disk)?;
            spool.stream(&stream(self.overflow))?;
            self.spool = Some(spool);
        }
        Ok(self.spool.as_mut().unwrap())
    }

    /// Tries as often as a source would, within reason.
    fn append(&mut self, round: u32) -> Result<(), SpoolError> {
        let mut tries = 0;
        loop {
            let done = self.open().and_then(|spool| append(spool, round));
            match done {
                Err(error) if error.is_of_storage() && tries < 5 => {
                    self.failures += 1;
                    self.spool = None;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// So much that the journal has been full several times, none of it settled.
    fn fill(&mut self, rounds: std::ops::Range<u32>) {
        rounds.for_each(|round| self.append(round).unwrap());
    }
}

fn rows(batches: u32) -> u64 {
    u64::from(batches) * u64::from(ROWS)
}

#[test]
fn streams_give_up_by_their_policies_on_a_full_disk_and_stop_when_there_is_room() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::KeepLatest] {
        let mut running = Running::new(overflow);
        running.fill(0..300);
        running.disk.set_room(Some(running.disk.bytes()));
        running.fill(300..1_000);
        assert!(running.failures >= 1, "{overflow:?}: it was told");
        let spool = running.open().unwrap();
        assert!(spool.stats().disk_full);
        let (account, drops) = (spool.account(), spool.drops().collect::<Vec<_>>());
        assert_eq!(spool.accepted(), rows(1_000), "{overflow:?}");
        assert!(account.dropped > 0 && account.balances(), "{overflow:?}: {account:?}");
        let caused = |cause| drops.iter().find(|(one, _)| *one == cause).unwrap().1;
        let expected =
            if overflow == Overflow::KeepLatest { DropCause::Superseded } else { DropCause::DiskFull };
        assert_eq!(caused(expected), account.dropped, "{overflow:?}: {drops:?}");
        let gaps = spool.gaps_unconfirmed().unwrap();
        assert_eq!(gaps.iter().map(|gap| gap.rows.total()).sum::<u64>(), account.dropped);
        // All of it is on the disk.
        running.disk = running.disk.crash();
        running.spool = None;
        let spool = running.open().unwrap();
        assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new(), "{overflow:?}");
        assert_eq!(spool.account().produced, account.produced);
        running.disk.set_room(None);
        let spool = running.open().unwrap();
        spool.grow_older(60).unwrap();
        assert!(!spool.stats().disk_full);
        let dropped = spool.account().dropped;
        running.fill(1_000..1_200);
        assert_eq!(running.open().unwrap().account().dropped, dropped, "{overflow:?}: there is room");
    }
}

#[test]
fn a_stream_that_blocks_waits_on_a_full_disk_and_gives_nothing_up() {
    let mut running = Running::new(Overflow::Block);
    running.fill(0..300);
    running.disk.set_room(Some(running.disk.bytes()));
    let mut accepted = 300;
    let told = loop {
        match running.append(accepted) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&told, SpoolError::Full { cause: DropCause::DiskFull, .. }), "{told}");
    assert!(running.append(accepted).is_err());
    let spool = running.open().unwrap();
    assert_eq!((spool.account().pending, spool.account().dropped), (rows(accepted), 0));
    // What the hub has makes way for what it has not.
    let stored = RangeSet::of(1, spool.head().get());
    spool.settle(&Settlement { stored, ..Settlement::default() }).unwrap();
    running.append(accepted).unwrap();
    running.disk.set_room(None);
    running.open().unwrap().grow_older(60).unwrap();
    running.fill(accepted + 1..accepted + 300);
    let account = running.open().unwrap().account();
    assert_eq!((account.produced, account.dropped), (rows(accepted + 300), 0));
}

#[test]
fn an_alarm_finds_room_on_a_full_disk_where_live_readings_make_way() {
    let mut running = Running::new(Overflow::DropOldest);
    running.fill(0..300);
    running.disk.set_room(Some(running.disk.bytes()));
    running.fill(300..700);
    let spool = running.open().unwrap();
    let policy = Policy { overflow: Overflow::Block, ..Policy::default() };
    let alarms = StreamConfig { name: "alarms".into(), class: Class::Alarm, policy };
    let alarms = spool.stream(&alarms).unwrap();
    let sample = Sample { time_ns: 1, value: 1.0 };
    let batch = encode_batch(&[(0, &[sample])]).unwrap().on(alarms);
    let seq = spool.append_encoded(&batch, &[]).unwrap();
    assert!(spool.pending().contains(seq.get()));
}
