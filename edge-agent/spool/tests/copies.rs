//! A spool that is a copy of another goes on in a branch, with what is its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tideline_protocol::block;
use tideline_protocol::lives::{LIVES_MAX, branch, parted};
use tideline_protocol::model::{DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig};

fn open(disk: &CrashBackend, life: u8) -> Spool {
    Spool::open(disk.clone(), SpoolConfig { quota_bytes: 40_000, ..SpoolConfig::default() }, [life; 16])
        .unwrap()
}

fn append(spool: &mut Spool, value: u32) {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, "l/s".into())).unwrap();
    let samples = [Sample { time_ns: i64::from(value), value: f64::from(value) }];
    spool.append(&[(series, &samples)], &[("source", &value.to_le_bytes())]).unwrap();
}

fn stored(hi: u64) -> Settlement {
    Settlement { stored: RangeSet::of(1, hi), ..Settlement::default() }
}

/// The values that are pending, in seq order.
fn pending(spool: &mut Spool) -> Vec<f64> {
    let ranges: Vec<(u64, u64)> = spool.pending().iter().collect();
    let mut values = Vec::new();
    for seq in ranges.into_iter().flat_map(|(lo, hi)| lo..=hi) {
        let run = spool.load_run(Seq::new(seq), Seq::new(seq), 1 << 20, 1_000).unwrap().unwrap();
        let decoded = block::decode(&run.block, &run.rows, run.first).unwrap();
        values.extend(decoded.columns.into_iter().flat_map(|column| column.values));
    }
    values
}

#[test]
fn each_opening_begins_a_life_at_the_next_seq() {
    let disk = CrashBackend::new();
    let mut spool = open(&disk, 1);
    append(&mut spool, 1);
    drop(spool);
    let mut spool = open(&disk.kill(), 2);
    let firsts: Vec<u64> = spool.lives().iter().map(|life| life.first.get()).collect();
    assert_eq!(firsts, [1, 2]);
    append(&mut spool, 2);
    for life in 3..=u8::MAX {
        drop(spool);
        spool = open(&disk.kill(), life);
        append(&mut spool, u32::from(life));
    }
    assert_eq!(spool.lives().len(), LIVES_MAX);
}

#[test]
fn a_copy_goes_on_in_a_branch_with_what_is_its_own() {
    let disk = CrashBackend::new();
    let mut first = open(&disk, 1);
    (1..=10).for_each(|value| append(&mut first, value));
    first.settle(&stored(4)).unwrap();
    first.flush().unwrap();
    let image = disk.image();
    (11..=20).for_each(|value| append(&mut first, value));
    let known = first.lives().to_vec();
    drop(first);
    let mut copy = open(&image, 2);
    (101..=130).for_each(|value| append(&mut copy, value));
    // The hub has 1 to 8 of the first ten, and more that this copy never knew.
    let held = RangeSet::of(1, 8);
    let mut at = parted(&known, copy.lives(), &held);
    assert_eq!(at, None, "so far it could be the same one");
    let held = RangeSet::of(1, 12);
    at = parted(&known, copy.lives(), &held);
    assert_eq!(at, Some(Seq::new(11)));
    // What is common is settled before.
    copy.settle(&stored(10)).unwrap();
    copy.branch(Seq::new(11)).unwrap();
    let (branch, _) = branch(Epoch::from_bytes([1; 16]), &known, Seq::new(11));
    let wanted: Vec<f64> = (101..=130).map(f64::from).collect();
    for _ in 0..2 {
        assert_ne!(copy.epoch(), Epoch::from_bytes([1; 16]));
        assert_ne!(copy.epoch(), branch, "the other one would go on in its own");
        assert_eq!(copy.head(), Seq::new(40));
        assert_eq!((copy.account().produced, copy.account().pending), (30, 30));
        assert_eq!(pending(&mut copy), wanted);
        assert_eq!(copy.cursor("source").unwrap(), Some(130_u32.to_le_bytes().to_vec()));
        assert_eq!(copy.verify().unwrap().problems, Vec::<String>::new());
        let moved = copy.moved().unwrap();
        assert_eq!((moved.epoch, moved.rows), (Epoch::from_bytes([1; 16]), 30));
        assert_eq!(copy.lives()[0].first, Seq::new(11));
        drop(copy);
        copy = open(&image.kill(), 3);
    }
    append(&mut copy, 131);
    assert_eq!(copy.head(), Seq::new(41));
}

#[test]
fn gaps_that_the_hub_does_not_know_move_with_their_rows() {
    let disk = CrashBackend::new();
    let mut spool = open(&disk, 1);
    (1..=600).for_each(|value| append(&mut spool, value));
    let before = spool.account();
    assert!(before.dropped > 0);
    let kept = pending(&mut spool);
    spool.branch(Seq::FIRST).unwrap();
    let mut spool = open(&disk.crash(), 2);
    let after = spool.account();
    assert_eq!((after.produced, after.dropped, after.pending), (600, before.dropped, before.pending));
    let gaps = spool.gaps_unconfirmed().unwrap();
    assert_eq!(gaps.iter().map(|gap| gap.rows.total()).sum::<u64>(), before.dropped);
    assert_eq!(pending(&mut spool), kept);
    assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
}
