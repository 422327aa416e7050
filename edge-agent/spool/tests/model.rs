//! The spool against a model that is a plain map, with values of all kinds and random actions, power cuts among them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::block;
use tideline_protocol::model::{DeviceId, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::{Boxes, Quality, Value};
use tideline_protocol::wire::Settlement;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig, SpoolError, encode_boxed};

const CONFIG: SpoolConfig = SpoolConfig { quota_bytes: 4_000, flash_bytes_per_day: 0 };

#[derive(Debug, Clone)]
enum Action {
    Append { rows: Vec<u8>, cursor: u8, typed: bool },
    Settle { lo: u64, len: u64, fate: u8 },
    ConfirmGaps,
    Load { first: u64, bytes: usize },
    Reopen,
    PowerCut,
    TornPowerCut(u64),
    Flush,
    Kill,
    DiskFails,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (prop::collection::vec(0_u8..40, 1..4), any::<u8>(), any::<bool>())
            .prop_map(|(rows, cursor, typed)| Action::Append { rows, cursor, typed }),
        4 => (1_u64..60, 0_u64..12, 0_u8..3).prop_map(|(lo, len, fate)| Action::Settle { lo, len, fate }),
        1 => Just(Action::ConfirmGaps),
        3 => (1_u64..60, 1_usize..2000).prop_map(|(first, bytes)| Action::Load { first, bytes }),
        1 => Just(Action::Reopen),
        1 => Just(Action::PowerCut),
        1 => any::<u64>().prop_map(Action::TornPowerCut),
        1 => Just(Action::Flush),
        1 => Just(Action::Kill),
        1 => Just(Action::DiskFails),
    ]
}

fn def(n: usize) -> SeriesDef {
    let point = PointId::parse(&format!("p/{n}")).unwrap();
    SeriesDef::new(DeviceId::parse("dev").unwrap(), point, "Cel".into())
}

/// Time, value and quality.
type Reading = (i64, Value, Quality);

/// Of a few texts and of all kinds, each with its quality.
fn typed(cursor: u8, i: u8) -> (Value, Quality) {
    let of = cursor.wrapping_mul(31).wrapping_add(i);
    let value = match of % 7 {
        0 => Value::Null,
        1 => Value::Int(i64::MAX - i64::from(of)),
        2 => Value::Int(i64::from(of) - 100),
        3 => Value::Bool(of > 100),
        4 => Value::Text(format!("state {}", of % 5).into()),
        5 => Value::Text(format!("own {cursor} {i}").into()),
        _ => Value::Float(f64::from(of) / 8.0),
    };
    (value, Quality::ALL[usize::from(of / 7 % 3)])
}

struct World {
    disk: CrashBackend,
    spool: Option<Spool>,
    // Every durable batch: (series, readings) in append order.
    model: BTreeMap<u64, Vec<(u32, Vec<Reading>)>>,
    cursor: Option<u8>,
}

fn rows(batch: &[(u32, Vec<Reading>)]) -> u64 {
    batch.iter().map(|(_, readings)| readings.len() as u64).sum()
}

impl World {
    fn new() -> Self {
        let disk = CrashBackend::new();
        let spool = Spool::open(disk.clone(), CONFIG, [7; 16]).unwrap();
        Self { disk, spool: Some(spool), model: BTreeMap::new(), cursor: None }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn restart(&mut self, disk: CrashBackend) {
        self.disk = disk;
        self.spool = None;
        self.spool = Some(Spool::open(self.disk.clone(), CONFIG, [8; 16]).unwrap());
    }

    fn append(&mut self, counts: &[u8], cursor: u8) {
        self.append_values(counts, cursor, |i| {
            (Value::Float(f64::from(cursor) + f64::from(i)), Quality::Good)
        });
    }

    fn append_values(&mut self, counts: &[u8], cursor: u8, value: impl Fn(u8) -> (Value, Quality)) {
        let spool = self.spool.as_mut().unwrap();
        let reading = |i| {
            let (value, quality) = value(i);
            (i64::from(i) * 1_000, value, quality)
        };
        let of = counts.iter().enumerate();
        let batch: Vec<(u32, Vec<Reading>)> = of
            .map(|(n, count)| (spool.series_no(&def(n)).unwrap(), (0..*count).map(reading).collect()))
            .collect();
        let mut boxes = Boxes::new();
        let mut sample = |(time_ns, value, quality): &Reading| Sample {
            time_ns: *time_ns,
            value: boxes.word(value.clone(), *quality),
        };
        let samples: Vec<(u32, Vec<Sample>)> =
            batch.iter().map(|(no, readings)| (*no, readings.iter().map(&mut sample).collect())).collect();
        let items: Vec<(u32, &[Sample])> = samples.iter().map(|(no, samples)| (*no, &samples[..])).collect();
        match spool.append_encoded(&encode_boxed(&items, &boxes).unwrap(), &[("source", &[cursor])]) {
            Ok(seq) if rows(&batch) > 0 => {
                assert_eq!(seq.get(), self.model.len() as u64 + 1);
                self.model.insert(seq.get(), batch);
                self.cursor = Some(cursor);
            }
            Ok(_) => self.cursor = Some(cursor),
            Err(SpoolError::Storage(_) | SpoolError::Unsynced(_) | SpoolError::Poisoned) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn settle(&mut self, lo: u64, hi: u64, fate: u8) {
        let head = self.spool().head().get();
        let mut set = RangeSet::of(lo.min(head + 1), hi.min(head));
        let other =
            if fate == 0 { &self.spool().settlement().refused } else { &self.spool().settlement().stored };
        let other = other.clone();
        set.remove_set(&other);
        let settlement = match fate {
            0 => Settlement { stored: set, ..Settlement::default() },
            1 => Settlement { refused: set, ..Settlement::default() },
            // A hub confirms only what was declared.
            _ => Settlement {
                dropped: set.intersect(&self.spool().settlement().dropped),
                ..Settlement::default()
            },
        };
        match self.spool().settle(&settlement) {
            Ok(()) | Err(SpoolError::Storage(_) | SpoolError::Unsynced(_) | SpoolError::Poisoned) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn load(&mut self, first: u64, bytes: usize) {
        let head = self.spool().head();
        let held = self.spool().held().clone();
        let Some(run) = self.spool().load_run(Seq::new(first), head, bytes, 1_000).unwrap() else {
            assert!(first > head.get() || !held.contains(first));
            let gone = self.spool().gone_through(Seq::new(first), head).get();
            assert!(first > head.get() || held.within(first, gone).is_empty());
            return;
        };
        let decoded = block::decode(&run.block, &run.rows, run.first).unwrap();
        for (seq, count) in (first..).zip(run.rows.iter()) {
            let one = RangeSet::of(seq, seq);
            let mut mine = decoded.clone();
            mine.retain(run.first, &one);
            let batch = &self.model[&seq];
            assert_eq!(u64::from(count), rows(batch));
            for column in &mine.columns {
                let (_, readings) = batch.iter().find(|(no, _)| *no == column.series).unwrap();
                assert_eq!(column.values.len(), readings.len());
                let words = column.times.iter().zip(&column.values);
                for ((time_ns, word), (time, value, quality)) in words.zip(readings) {
                    let found = decoded.boxes.value(*word, value.kind().unwrap_or_default());
                    assert_eq!((time_ns, &found), (time, &(value.clone(), *quality)));
                }
            }
        }
    }

    fn step(&mut self, action: &Action) {
        match action {
            Action::Append { rows, cursor, typed: false } => self.append(rows, *cursor),
            Action::Append { rows, cursor, typed: true } => {
                self.append_values(rows, *cursor, |i| typed(*cursor, i));
            }
            Action::Settle { lo, len, fate } => self.settle(*lo, lo + len, *fate),
            Action::ConfirmGaps => {
                let gaps = self.spool().gaps_unconfirmed().unwrap();
                gaps.iter().for_each(|gap| self.settle(gap.first.get(), gap.last().get(), 2));
            }
            Action::Load { first, bytes } => self.load(*first, *bytes),
            Action::Reopen => {
                let disk = self.disk.clone();
                self.restart(disk);
            }
            Action::PowerCut => {
                let disk = self.disk.crash();
                self.restart(disk);
            }
            Action::TornPowerCut(seed) => {
                let disk = self.disk.crash_torn(*seed);
                self.restart(disk);
            }
            Action::Flush => self.spool().flush().unwrap(),
            Action::Kill => {
                let disk = self.disk.kill();
                self.restart(disk);
            }
            Action::DiskFails => {
                self.disk.fail_writes();
                self.append(&[5], 250);
                let disk = self.disk.crash();
                self.restart(disk);
            }
        }
    }

    fn check(&mut self) {
        let model = self.model.clone();
        let cursor = self.cursor;
        let spool = self.spool();
        let account = spool.account();
        let sum = |set: &RangeSet| {
            model.iter().filter(|(seq, _)| set.contains(**seq)).map(|(_, b)| rows(b)).sum::<u64>()
        };
        assert!(account.balances(), "{account:?}");
        assert_eq!(spool.head().get(), model.len() as u64);
        assert_eq!(account.produced, model.values().map(|batch| rows(batch)).sum::<u64>());
        assert_eq!(account.stored, sum(&spool.settlement().stored));
        assert_eq!(account.refused, sum(&spool.settlement().refused));
        assert_eq!(account.dropped, sum(&spool.settlement().dropped));
        assert_eq!(account.pending, sum(spool.pending()));
        assert_eq!(spool.epoch().as_bytes(), &[7; 16]);
        assert_eq!(spool.cursor("source").unwrap(), cursor.map(|c| vec![c]));
        assert!(spool.stats().bytes <= CONFIG.quota_bytes);
        assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_a_plain_map_through_crashes(actions in prop::collection::vec(action(), 1..50)) {
        let mut world = World::new();
        for action in &actions {
            world.step(action);
            world.check();
        }
    }
}

fn filled() -> World {
    let mut world = World::new();
    for cursor in 0..6 {
        world.append(&[4, 3], cursor);
    }
    world
}

#[test]
fn gaps_cover_exactly_what_the_quota_cost() {
    let mut world = World::new();
    for cursor in 0..60 {
        world.append(&[30, 30], cursor);
    }
    let gaps = world.spool().gaps_unconfirmed().unwrap();
    let rows: u64 = gaps.iter().map(|gap| gap.rows.total()).sum();
    assert_eq!(gaps.len(), 1, "consecutive drops are one gap");
    assert_eq!(rows, world.spool().account().dropped);
    assert!(rows > 0);
}

#[test]
fn what_the_hub_has_is_stored_even_if_it_was_dropped_here() {
    let mut world = World::new();
    for cursor in 0..60 {
        world.append(&[30, 30], cursor);
    }
    let dropped = world.spool().settlement().dropped.clone();
    assert!(dropped.contains(2));
    world.settle(2, 2, 0);
    world.check();
    assert!(world.spool().settlement().stored.contains(2));
    let gaps = world.spool().gaps_unconfirmed().unwrap();
    assert!(gaps.iter().all(|gap| !(gap.first.get()..=gap.last().get()).contains(&2)));
}

#[test]
fn acknowledged_batches_stay_until_the_quota_needs_the_room() {
    let mut world = filled();
    world.settle(1, 6, 0);
    assert!(world.spool().load_run(Seq::new(1), Seq::new(6), 1 << 20, 1_000).unwrap().is_some());
    for cursor in 0..40 {
        world.append(&[30, 30], cursor);
    }
    assert!(!world.spool().held().contains(1));
    world.check();
}

#[test]
fn opening_after_a_kill_does_not_read_what_is_held() {
    let disk = CrashBackend::new();
    let config = SpoolConfig { quota_bytes: 1 << 30, ..SpoolConfig::default() };
    let mut spool = Spool::open(disk.clone(), config, [7; 16]).unwrap();
    let series = spool.series_no(&def(0)).unwrap();
    let mut random = 1_u64;
    for _ in 0..200 {
        let samples = (0..5_000).map(|time_ns| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Sample { time_ns, value: f64::from_bits(random >> 2) }
        });
        spool.append(&[(series, &samples.collect::<Vec<_>>())], &[]).unwrap();
    }
    let held = spool.account();
    let disk = disk.kill();
    let before = disk.bytes_read();
    let spool = Spool::open(disk.clone(), config, [8; 16]).unwrap();
    let read = disk.bytes_read() - before;
    assert!(read * 20 < disk.file_bytes(), "{read} of {} bytes", disk.file_bytes());
    assert_eq!(spool.account(), held);
    assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_damaged_batch_becomes_a_gap_and_no_more() {
    for killed in [false, true] {
        damaged_batch(killed);
    }
}

fn damaged_batch(killed: bool) {
    let mut world = filled();
    let run = world.spool().load_run(Seq::new(3), Seq::new(3), 1 << 20, 1_000).unwrap().unwrap();
    world.spool().flush().unwrap();
    let places = world.disk.find(&run.block);
    if !killed {
        world.spool = None;
    }
    let disk = world.disk.kill();
    places.iter().for_each(|at| disk.flip(at + run.block.len() / 2));
    let mut spool = Spool::open(disk, CONFIG, [8; 16]).unwrap();
    let head = spool.head();
    let before = spool.load_run(Seq::new(1), head, 1 << 20, 1_000).unwrap().unwrap();
    assert_eq!(before.rows.seqs(), 2);
    assert!(spool.load_run(Seq::new(3), head, 1 << 20, 1_000).unwrap().is_none());
    let gaps = spool.fresh_gaps().unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].first.get(), gaps[0].rows.total()), (3, 7));
    assert_eq!(spool.load_run(Seq::new(4), head, 1 << 20, 1_000).unwrap().unwrap().rows.seqs(), 3);
    assert!(spool.account().balances());
}

#[test]
fn an_unreadable_file_is_put_aside_and_a_new_epoch_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.redb");
    let (first, report) = Spool::open_file(&path, CONFIG).unwrap();
    assert!(report.created);
    assert!(matches!(Spool::open_file(&path, CONFIG), Err(SpoolError::InUse)));
    let epoch = first.epoch();
    drop(first);
    let (again, report) = Spool::open_file(&path, CONFIG).unwrap();
    assert_eq!((again.epoch(), report.created), (epoch, false));
    drop(again);
    std::fs::write(&path, b"this is no database").unwrap();
    let (fresh, report) = Spool::open_file(&path, CONFIG).unwrap();
    assert_ne!(fresh.epoch(), epoch);
    assert!(report.quarantined.unwrap().exists());
}

#[test]
fn what_the_hub_confirms_of_many_gaps_is_written_at_once_and_not_again_after_a_crash() {
    let mut world = World::new();
    for cursor in 0..200 {
        world.append(&[30, 30], cursor);
    }
    world.spool().flush().unwrap();
    let dropped = world.spool().settlement().dropped.clone();
    assert!(dropped.len() > 20, "{dropped:?}");
    let before = world.spool().bytes_written();
    // One by one, as the hub answers gaps that lie apart.
    for seq in dropped.iter().flat_map(|(lo, hi)| lo..=hi) {
        let dropped = RangeSet::of(seq, seq);
        world.spool().settle(&Settlement { dropped, ..Settlement::default() }).unwrap();
    }
    assert_eq!(world.spool().bytes_written(), before, "nothing is written for each");
    world.check();
    assert_eq!(world.spool().gaps_unconfirmed().unwrap(), vec![]);
    assert_eq!(world.spool().settlement().dropped, dropped, "they stay dropped");
    world.check();
}
