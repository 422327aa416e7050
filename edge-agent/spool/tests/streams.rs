//! Streams against a model that counts rows: every policy, with settlements, closes and power cuts
//! between the appends. Whatever happens, the account balances and nothing pending is gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::block;
use tideline_protocol::model::{Class, DeviceId, DropCause, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::Settlement;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Overflow, Policy, Spool, SpoolConfig, SpoolError, StreamConfig, encode_batch};

const QUOTA: u64 = 12_000;
const NS: i64 = 1_000_000_000;

fn stream(name: &str, class: Class, overflow: Overflow) -> StreamConfig {
    StreamConfig { name: name.into(), class, policy: Policy { overflow, ..Policy::default() } }
}

fn streams() -> Vec<StreamConfig> {
    vec![
        stream("default", Class::Live, Overflow::DropOldest),
        stream("blocking", Class::Live, Overflow::Block),
        stream("newest", Class::Live, Overflow::DropNewest),
        stream("thin", Class::Live, Overflow::Downsample { bucket_s: 60 }),
        stream("latest", Class::State, Overflow::KeepLatest),
        stream("alarms", Class::Alarm, Overflow::Block),
    ]
}

struct World {
    disk: CrashBackend,
    spool: Option<Spool>,
    config: Vec<StreamConfig>,
    // Rows that sources were told to be durable, and the time of the newest.
    accepted: u64,
    now: i64,
}

impl World {
    fn new(config: Vec<StreamConfig>) -> Self {
        let mut world = Self { disk: CrashBackend::new(), spool: None, config, accepted: 0, now: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        self.spool = None;
        let config = SpoolConfig { quota_bytes: QUOTA, ..SpoolConfig::default() };
        let mut spool = Spool::open(self.disk.clone(), config, [7; 16]).unwrap();
        for stream in &self.config {
            spool.stream(stream).unwrap();
        }
        self.spool = Some(spool);
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    /// Appends `rows` readings of two series, a second apart; says whether there was room.
    fn append(&mut self, stream: &str, rows: u32) -> bool {
        self.now += i64::from(rows) * NS;
        let now = self.now;
        let spool = self.spool.as_mut().unwrap();
        let items: Vec<(u32, Vec<Sample>)> = ["a", "b"]
            .map(|point| {
                let (device, point) = (DeviceId::parse("d").unwrap(), PointId::parse(point).unwrap());
                let series = spool.series_no(&SeriesDef::new(device, point, String::new())).unwrap();
                let sample = |row: u32| Sample {
                    time_ns: now + i64::from(row) * NS,
                    // Nothing packs it.
                    value: f64::from(row.wrapping_mul(2_654_435_761) ^ series).sin() + now as f64,
                };
                (series, (0..rows).map(sample).collect())
            })
            .into();
        let items: Vec<(u32, &[Sample])> = items.iter().map(|(no, samples)| (*no, &samples[..])).collect();
        let batch = encode_batch(&items).unwrap().on(spool.stream_named(stream).unwrap());
        match spool.append_encoded(&batch, &[("source", &now.to_le_bytes())]) {
            Ok(_) => {
                self.accepted += u64::from(rows) * 2;
                true
            }
            Err(SpoolError::Full { stream: found, .. }) => {
                assert_eq!(found, stream);
                false
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn settle(&mut self, lo: u64, hi: u64) {
        let stored = RangeSet::of(lo, hi.min(self.spool().head().get()));
        self.spool().settle(&Settlement { stored, ..Settlement::default() }).unwrap();
    }

    fn drops(&mut self) -> BTreeMap<&'static str, u64> {
        self.spool()
            .drops()
            .filter(|(_, rows)| *rows > 0)
            .map(|(cause, rows)| (cause.as_str(), rows))
            .collect()
    }

    fn check(&mut self) {
        let accepted = self.accepted;
        let spool = self.spool();
        let account = spool.account();
        assert!(account.balances(), "{account:?}");
        assert_eq!(spool.accepted(), accepted, "{account:?}");
        assert_eq!(spool.drops().map(|(_, rows)| rows).sum::<u64>(), account.dropped);
        assert_eq!(spool.held().intersect(spool.pending()), *spool.pending(), "INV-3");
        assert!(spool.stats().bytes <= QUOTA);
        assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
        let in_gaps: u64 = spool.gaps_unconfirmed().unwrap().iter().map(|gap| gap.rows.total()).sum();
        // What was given up and is at the hub all the same has no gap any more.
        assert_eq!(in_gaps, account.dropped);
    }

    /// The pending readings: (stream's class is urgent, series, time).
    fn pending(&mut self) -> Vec<(u32, i64)> {
        let seqs: Vec<u64> = self.spool().pending().iter().flat_map(|(lo, hi)| lo..=hi).collect();
        let mut out = Vec::new();
        for seq in seqs {
            let seq = Seq::new(seq);
            let run = self.spool().load_run(seq, seq, 1 << 20, 1_000_000).unwrap().unwrap();
            for column in block::decode(&run.block, &run.rows, seq).unwrap().columns {
                out.extend(column.times.iter().map(|time| (column.series, *time)));
            }
        }
        out
    }
}

#[derive(Debug, Clone)]
enum Action {
    Append(usize, u32),
    Settle(u64, u64),
    Reopen,
    Kill,
    PowerCut(Option<u64>),
    Flush,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0_usize..6, 1_u32..80).prop_map(|(stream, rows)| Action::Append(stream, rows)),
        2 => (1_u64..60, 0_u64..6).prop_map(|(lo, len)| Action::Settle(lo, lo + len)),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
        1 => prop::option::of(any::<u64>()).prop_map(Action::PowerCut),
        1 => Just(Action::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_policy_keeps_the_account_through_crashes(actions in prop::collection::vec(action(), 1..70)) {
        let mut world = World::new(streams());
        for action in &actions {
            match action {
                Action::Append(stream, rows) => {
                    let name = world.config[*stream].name.clone();
                    world.append(&name, *rows);
                }
                Action::Settle(lo, hi) => world.settle(*lo, *hi),
                Action::Flush => world.spool().flush().unwrap(),
                Action::Reopen => world.open(),
                Action::Kill => {
                    world.disk = world.disk.kill();
                    world.open();
                }
                Action::PowerCut(torn) => {
                    world.disk = torn.map_or_else(|| world.disk.crash(), |seed| world.disk.crash_torn(seed));
                    world.open();
                }
            }
            world.check();
        }
    }
}

#[test]
fn a_stream_that_blocks_gives_nothing_up_and_takes_more_once_the_hub_has_some() {
    let mut world = World::new(streams());
    while world.append("blocking", 40) {}
    let head = world.spool().head().get();
    assert!(!world.append("blocking", 40));
    assert_eq!((world.spool().head().get(), world.drops()), (head, BTreeMap::new()));
    world.settle(1, 3);
    assert!(world.append("blocking", 40));
    assert!(world.spool().held().contains(4) && !world.spool().held().contains(1), "the settled go first");
    world.check();
}

#[test]
fn new_readings_are_the_ones_to_go_where_that_is_the_policy() {
    let mut world = World::new(streams());
    while world.drops().is_empty() {
        assert!(world.append("newest", 40));
    }
    assert!(world.append("newest", 40));
    assert_eq!(world.drops(), BTreeMap::from([("quota", 160)]));
    assert!(world.spool().pending().contains(1));
    // What was refused stands in the journal until it is asked for.
    world.disk = world.disk.crash();
    world.open();
    world.check();
    let head = world.spool().head();
    let gaps = world.spool().gaps_unconfirmed().unwrap();
    assert_eq!((gaps.len(), gaps[0].last(), gaps[0].rows.seqs()), (1, head, 2));
}

#[test]
fn of_a_state_only_the_newest_unsent_reading_of_each_series_is_left() {
    let mut world = World::new(vec![StreamConfig {
        policy: Policy { quota_bytes: 4_000, ..streams()[4].policy },
        ..streams()[4].clone()
    }]);
    while world.drops().is_empty() {
        assert!(world.append("latest", 20));
    }
    assert_eq!(world.drops().into_keys().collect::<Vec<_>>(), ["superseded"]);
    let newest = world.now;
    let pending = world.pending();
    // One of each series from before, and the batch that needed the room.
    assert_eq!(pending.iter().filter(|(_, time)| *time < newest).count(), 2);
    assert_eq!(pending.len(), 2 + 40);
    let before = pending.iter().map(|(_, time)| *time).filter(|time| *time < newest).max();
    assert_eq!(before, Some(newest - NS), "the newest of those before");
    world.check();
}

#[test]
fn thinned_batches_stand_for_the_oldest_and_go_when_that_is_not_enough() {
    let mut world = World::new(streams());
    let first = NS * 40;
    while !world.drops().contains_key("downsampled") {
        assert!(world.append("thin", 40));
    }
    assert_eq!(world.drops().len(), 1, "nothing else was given up");
    assert!(world.pending().contains(&(0, first)), "the first reading of a bucket is kept");
    let made = world.spool().account().produced - world.accepted;
    assert!(made > 0 && made < world.drops()["downsampled"] / 2);
    for _ in 0..400 {
        world.append("thin", 40);
    }
    assert!(world.drops().contains_key("quota"), "{:?}", world.drops());
    world.check();
}

#[test]
fn weaker_streams_make_room_for_stronger_ones_and_not_the_reverse() {
    let mut world = World::new(streams());
    for _ in 0..30 {
        world.append("default", 40);
    }
    while world.append("alarms", 40) {}
    assert_eq!(world.spool().stream_stats()[0].bytes, 0, "its own are not given up, but all of the weaker");
    assert!(world.append("default", 40), "but it is refused in favour of them");
    let urgent = world.spool().urgent();
    assert_eq!(urgent.alarm, *world.spool().pending());
    assert!(urgent.state.is_empty());
    let (appends, before) = (world.spool().urgent_appends(), urgent.alarm.len());
    world.disk = world.disk.kill();
    world.open();
    assert_eq!(world.spool().urgent().alarm.len(), before);
    world.settle(1, u64::MAX);
    assert!(world.spool().urgent().alarm.is_empty() && appends > 0);
    world.check();
}

#[test]
fn a_stream_has_a_quota_of_its_own_below_that_of_the_spool() {
    let own = StreamConfig {
        policy: Policy { quota_bytes: 3_000, ..Policy::default() },
        ..stream("small", Class::Live, Overflow::DropOldest)
    };
    let mut world = World::new(vec![own]);
    world.append("default", 40);
    for _ in 0..20 {
        assert!(world.append("small", 40));
    }
    let stats = world.spool().stream_stats();
    assert!(stats[1].bytes <= 3_000 && stats[1].quota_bytes == 3_000);
    assert!(world.spool().pending().contains(1), "the other stream's are not touched");
    world.check();
}

#[test]
fn where_drops_and_readings_take_turns_the_books_stay_small() {
    let own = StreamConfig {
        policy: Policy { quota_bytes: 2_000, ..Policy::default() },
        ..stream("small", Class::Live, Overflow::DropOldest)
    };
    let mut world = World::new(vec![own]);
    let (mut most, mut seqs) = (0, 0);
    for round in 0..1_000 {
        // The hub takes those of one stream only.
        assert!(world.append("small", 4) && world.append("default", 4));
        seqs += 2;
        world.settle(seqs, seqs);
        let mut dropped = RangeSet::new();
        for gap in world.spool().fresh_gaps().unwrap() {
            dropped.insert(gap.first.get(), gap.last().get());
        }
        world.spool().settle(&Settlement { dropped, ..Settlement::default() }).unwrap();
        if round % 20 == 0 {
            world.spool().flush().unwrap();
        }
        most = most.max(world.spool().settlement().dropped.range_count());
        most = most.max(world.spool().settlement().stored.range_count());
    }
    assert!(most < 100, "{most} ranges");
    world.spool().flush().unwrap();
    let (known, account) = (world.spool().known(), world.spool().account());
    assert!(known.get() > 1_900 && known.get() + 1 == world.spool().pending().first().unwrap(), "{known}");
    assert_eq!(world.drops(), BTreeMap::from([("quota", account.dropped)]));
    assert!(account.dropped > 7_000 && account.stored == 8_000, "{account:?}");
    world.disk = world.disk.crash();
    world.open();
    assert_eq!((world.spool().known(), world.spool().account()), (known, account));
}

#[test]
fn readings_expire_by_the_age_of_the_spool() {
    let policy = Policy { keep_s: 640, ..Policy::default() };
    let mut world = World::new(vec![StreamConfig { policy, ..streams()[0].clone() }]);
    world.append("default", 5);
    world.append("default", 6);
    world.spool().grow_older(300).unwrap();
    world.settle(1, 1);
    world.append("default", 7);
    world.spool().flush().unwrap();
    world.open();
    assert_eq!(world.spool().age_s(), 300);
    world.spool().grow_older(300).unwrap();
    assert_eq!(world.spool().held().len(), 3);
    world.spool().grow_older(50).unwrap();
    assert_eq!((world.spool().held().clone(), world.drops()), (RangeSet::of(3, 3), [("expired", 12)].into()));
    let gaps = world.spool().gaps_unconfirmed().unwrap();
    assert_eq!((gaps.len(), gaps[0].cause, gaps[0].first), (1, DropCause::Expired, Seq::new(2)));
    world.check();
}

#[test]
fn what_may_be_at_a_hub_is_not_in_what_a_policy_makes() {
    for restarted in [false, true] {
        let mut world = World::new(streams());
        (0..3).for_each(|_| assert!(world.append("thin", 40)));
        let sent: Vec<(u32, i64)> = world.pending();
        let run = world.spool().load_to_send(&RangeSet::of(1, 3), 1 << 20, 1_000).unwrap().unwrap();
        assert_eq!(run.rows.seqs(), 3);
        if restarted {
            world.disk = world.disk.kill();
            world.open();
            // What may have been sent, and was not, is noted ahead: a welcome tells.
            let later = RangeSet::of(4, 5_000);
            (0..3).for_each(|_| assert!(world.append("thin", 40)));
            assert!(world.spool().load_to_send(&later, 1 << 20, 1_000).unwrap().is_some());
        }
        while !world.drops().contains_key("downsampled") {
            assert!(world.append("thin", 40));
        }
        // The hub has stored them, and says so only now.
        world.settle(1, 3);
        assert!(!world.pending().iter().any(|reading| sent.contains(reading)), "restarted: {restarted}");
        world.check();
    }
}

#[test]
fn a_state_that_may_be_at_a_hub_is_superseded_only_when_it_says_that_it_has_not() {
    let policy = Policy { quota_bytes: 4_000, ..streams()[4].policy };
    let mut world = World::new(vec![StreamConfig { policy, ..streams()[4].clone() }]);
    while world.drops().is_empty() {
        let unsent = world.spool().pending().clone();
        world.spool().load_to_send(&unsent, 1 << 20, 10_000).unwrap();
        assert!(world.append("latest", 20));
    }
    assert_eq!(world.drops().into_keys().collect::<Vec<_>>(), ["quota"]);
    assert_eq!(world.spool().account().produced, world.accepted);
    world.spool().forget_sent();
    while !world.drops().contains_key("superseded") {
        assert!(world.append("latest", 20));
    }
    world.check();
}
