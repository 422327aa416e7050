//! What is past its retention goes, tier by tier, and nothing else: not what others still have of it, not what
//! agents were told, and not over a kill.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::ManualClock;

use super::rig::*;
use crate::buckets::{Aggregate, DAY_NS, HOUR_NS, MINUTE_NS};
use crate::calendar::Width;
use crate::query::{BucketAnswer, Figures, GroupQuestion, Parts, Tier};
use crate::retention::{EARLIEST_NS, Limit, Retention};
use crate::sealed::SegmentFormat;
use crate::store::{OpenReport, Store, open};
use crate::tables::read;
use crate::{StoreConfig, verify};

/// When the first reading is.
const T0: i64 = EARLIEST_NS + 100 * DAY_NS;
/// From one seq to the next.
const STEP: i64 = 6 * HOUR_NS;

/// Start, count, smallest, largest and last value of a bucket.
type Known = (i64, u64, f64, f64, f64);

fn days(days: i64) -> Limit {
    Limit { age_ns: Some(days * DAY_NS), bytes: None }
}

/// Readings for ten days, minutes for twenty, hours for thirty, days for forty.
fn retention() -> Retention {
    Retention { raw: days(10), minute: days(20), hour: days(30), day: days(40), ..Retention::default() }
}

fn keeping(dir: &Path, retention: Retention) -> StoreConfig {
    StoreConfig { retention, ..config(dir) }
}

/// Opens it when the hub's clock shows so many days since the first reading.
fn open_at(config: StoreConfig, day: i64) -> (Store, OpenReport) {
    let clock = Arc::new(ManualClock::at(T0 + day * DAY_NS));
    open::open(config, clock, Arc::new(SegmentFormat::default())).unwrap()
}

/// Readings of a seq: three series, every ten seconds for half an hour, with a hole, equal times and late ones.
fn rows_of(seq: u64) -> Vec<Row> {
    let base = T0 + (seq as i64 - 1) * STEP;
    let at = |n: i64| base + (n * 7 % 180) * 10_000_000_000;
    let row = |n: u32| (n % SERIES, at(i64::from(n / 3)), f64::from(n % 37).mul_add(0.25, seq as f64 * 10.0));
    (0..540).filter(|n| !(90..120).contains(n)).chain([4, 5]).map(row).collect()
}

/// A sealed file for each seq, which has no rollup of its own: it has too few readings for one to be worth it.
fn filled(config: StoreConfig, last: u64) -> Store {
    let store = open_at(config, 3).0;
    define(&store, &agent("a"));
    for seq in 1..=last {
        append(&store, seq, &[rows_of(seq)]);
        store.flush().unwrap();
    }
    store
}

fn on_disk(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("sealed")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What is known of buckets of this width, from the beginning to the last seq.
fn buckets(store: &Store, width_ns: i64, last: u64) -> BucketAnswer {
    let (from, to) = (T0 - T0 % DAY_NS, T0 + last as i64 * STEP);
    let answer = store
        .query_buckets(&[0, 1, 2], from, to, usize::try_from((to - from) / width_ns + 2).unwrap())
        .unwrap();
    assert_eq!(answer.width_ns, Some(width_ns));
    answer
}

/// Alike but for sums, which may be added in another order.
fn assert_alike(a: &BucketAnswer, b: &BucketAnswer) {
    for (a, b) in a.series.iter().zip(&b.series) {
        assert_eq!(
            (&a.t_ns, &a.min, &a.max, &a.last, &a.count),
            (&b.t_ns, &b.min, &b.max, &b.last, &b.count)
        );
        assert!(a.mean.iter().zip(&b.mean).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
    }
}

fn tiers(store: &Store) -> Vec<(u64, Tier)> {
    read(&store.inner.shared.tables).files.iter().map(|file| (file.rows, file.finest.into())).collect()
}

#[test]
fn readings_go_and_what_is_known_of_their_minutes_hours_and_days_stays_exact() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(keeping(dir.path(), retention()), 12);
    let whole: Vec<_> = [MINUTE_NS, HOUR_NS, DAY_NS].map(|width| buckets(&store, width, 12)).into();
    let all = all_rows(&store);
    store.close().unwrap();
    // The last reading is of the third day.
    for (day, raw, finest, widths) in [
        (9, 12, Tier::Raw, 0..3),
        (11, 8, Tier::Minute, 0..3),
        (14, 0, Tier::Minute, 0..3),
        (24, 0, Tier::Hour, 1..3),
        (34, 0, Tier::Day, 2..3),
    ] {
        let (store, report) = open_at(keeping(dir.path(), retention()), day);
        assert_eq!((report.quarantined, report.sealed_rows), (vec![], 12 * 512), "day {day}");
        store.retain().unwrap();
        let found = tiers(&store);
        assert_eq!(found.len(), 12, "day {day}");
        assert_eq!(found.iter().filter(|(_, tier)| *tier == Tier::Raw).count(), raw, "day {day}");
        assert_eq!(found[0], (512, finest), "day {day}");
        for (width, before) in [MINUTE_NS, HOUR_NS, DAY_NS].iter().zip(&whole).skip(widths.start) {
            assert_alike(&buckets(&store, *width, 12), before);
        }
        // No finer than what is left, whatever is asked for.
        let least = store.query_buckets(&[0], T0, T0 + 20 * MINUTE_NS, 100_000).unwrap();
        assert_eq!(
            least.width_ns,
            Some([20_000_000, MINUTE_NS, HOUR_NS, DAY_NS][finest as usize]),
            "day {day}"
        );
        assert_eq!(least.series[0].tier, finest, "day {day}");
        // The readings that are there are the newest, as they were.
        let page = store.query_raw(&[0, 1, 2], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
        let rows: usize = page.series.iter().map(|column| column.times.len()).sum();
        assert_eq!(rows, raw * 512, "day {day}");
        assert_eq!(page.thinned_to_ns.is_some(), raw < 12, "day {day}");
        assert_eq!(buckets(&store, DAY_NS, 12).thinned_to_ns, page.thinned_to_ns, "day {day}");
        let infos = store.series(None);
        assert_eq!(infos.iter().map(|info| info.count).sum::<u64>(), all.len() as u64);
        // What agents were told stays true, and nobody sends it again.
        assert_eq!(stored(&store), [(1, 12)]);
        assert_eq!(append(&store, 1, &[rows_of(1)]), 0);
        let never = AtomicBool::new(false);
        let audit = store.audit(&agent("a"), EPOCH, (&RangeSet::of(1, 12), 12), &never).unwrap();
        assert_eq!((audit.0.stored.len(), audit.0.dropped.len()), (raw as u64, 12 - raw as u64), "day {day}");
        assert_eq!(audit.1.iter().map(|digest| digest.rows).sum::<u64>(), raw as u64 * 512);
        store.close().unwrap();
        assert_eq!(on_disk(dir.path()).len(), 12 + raw, "day {day}");
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new(), "day {day}");
    }
    let (store, _) = open_at(keeping(dir.path(), retention()), 44);
    store.retain().unwrap();
    assert_eq!((tiers(&store), store.metrics().expired_files), (vec![], 12));
    let infos = store.series(None);
    assert!(infos.iter().all(|info| info.count == 0 && info.last.is_none()), "{infos:?}");
    assert_eq!(append(&store, 12, &[rows_of(12)]), 0, "it is known for ever");
    append(&store, 13, &[vec![(0, T0 + 44 * DAY_NS, 1.0)]]);
    store.flush().unwrap();
    assert_eq!(all_rows(&store), expected(&[(0, T0 + 44 * DAY_NS, 1.0)]));
    store.close().unwrap();
    assert_eq!(on_disk(dir.path()).len(), 2);
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn files_without_readings_become_fewer_and_hold_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let only_raw = Retention { raw: days(1), ..Retention::default() };
    let store = filled(keeping(dir.path(), only_raw), 0);
    // Not in the order of their times.
    for (seq, part) in (1..).zip([4, 9, 2, 7, 5, 1, 8, 3, 6]) {
        append(&store, seq, &[rows_of(part)]);
        store.flush().unwrap();
    }
    let whole: Vec<_> = [MINUTE_NS, HOUR_NS, DAY_NS].map(|width| buckets(&store, width, 9)).into();
    store.close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), only_raw), 30);
    store.retain().unwrap();
    assert_eq!(tiers(&store), [(512, Tier::Minute); 9]);
    store.compact().unwrap();
    assert_eq!(tiers(&store), [(9 * 512, Tier::Minute)]);
    // Readings that come later, and between the old ones, stand beside it.
    append(&store, 10, &[vec![(0, T0 + 5_000_000_000, -1.0), (1, T0 + 30 * DAY_NS, 2.0)]]);
    store.flush().unwrap();
    store.compact().unwrap();
    assert_eq!(tiers(&store), [(9 * 512, Tier::Minute), (2, Tier::Raw)]);
    let minutes = buckets(&store, MINUTE_NS, 9);
    assert_eq!(
        (minutes.series[0].min[0], minutes.series[0].count[0]),
        (-1.0, whole[0].series[0].count[0] + 1)
    );
    for (width, before) in [MINUTE_NS, HOUR_NS, DAY_NS].iter().zip(&whole) {
        let mut now = buckets(&store, *width, 9);
        now.series.remove(0);
        let mut before = before.clone();
        before.series.remove(0);
        assert_alike(&now, &before);
    }
    store.close().unwrap();
    assert_eq!(on_disk(dir.path()).len(), 3);
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_minute_that_lacks_readings_is_in_no_rollup() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(keeping(dir.path(), retention()), 1);
    let before = store.query_rollups(0, Tier::Hour, T0, T0 + HOUR_NS).unwrap();
    assert_eq!(store.query_stands(0, (T0, T0 + HOUR_NS)).unwrap(), []);
    store.close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), retention()), 24);
    store.retain().unwrap();
    assert_eq!(tiers(&store), [(512, Tier::Hour)]);
    // The first came late, between others; nothing else was read in the minute of the second, and the hour says so.
    append(&store, 2, &[vec![(0, T0 + 5_000_000_000, -1.0), (0, T0 + 50 * MINUTE_NS, -2.0)]]);
    store.settle().unwrap();
    let of = |tier| store.query_rollups(0, tier, T0, T0 + HOUR_NS).unwrap();
    let minutes: Vec<_> = of(Tier::Minute).into_iter().map(|(start, part)| (start, part.count)).collect();
    assert_eq!(minutes, [(T0 + 50 * MINUTE_NS, 1)]);
    let (start, hour) = of(Tier::Hour)[0];
    assert_eq!((start, hour.count, hour.min, hour.last), (T0, before[0].1.count + 2, -2.0, -2.0));
    let thinned_to = |tier| store.thinned_to(&[0], (T0, T0 + DAY_NS), tier).unwrap();
    let last = Some(before[0].1.last_ns);
    assert_eq!([Tier::Raw, Tier::Minute, Tier::Hour].map(thinned_to), [last, last, None]);
    // One bucket stands for all of them.
    let stands = store.query_stands(0, (T0 + MINUTE_NS, T0 + 2 * MINUTE_NS)).unwrap();
    let found: Vec<_> = stands.iter().map(|stand| (stand.start_ns, stand.tier, stand.part)).collect();
    assert_eq!(found, [(T0, Tier::Hour, hour)]);
    store.close().unwrap();
}

#[test]
fn nothing_is_read_for_who_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(config(dir.path()), 2);
    let range = (T0, T0 + DAY_NS);
    let asked = (&Parts::Most(100), &Figures::default());
    let told = [
        store.query_parts(&[0], range, asked, &|| true).unwrap_err(),
        store.query_page(&[0], range, (None, 100), &|| true).unwrap_err(),
    ];
    assert!(told.iter().all(|error| error.to_string().contains("canceled")), "{told:?}");
    store.close().unwrap();
}

#[test]
fn a_limit_of_room_holds_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(config(dir.path()), 12);
    let bytes = read(&store.inner.shared.tables).files.iter().map(|file| file.raw.0).sum::<u64>();
    store.close().unwrap();
    let room = Limit { age_ns: None, bytes: Some(bytes / 3) };
    let (store, _) = open_at(keeping(dir.path(), Retention { raw: room, ..Retention::default() }), 3);
    store.retain().unwrap();
    let found = tiers(&store);
    let raw = found.iter().filter(|(_, tier)| *tier == Tier::Raw).count();
    assert!((3..=4).contains(&raw), "{found:?}");
    assert!(found[12 - raw..].iter().all(|(_, tier)| *tier == Tier::Raw), "{found:?}");
    store.close().unwrap();
    let names = on_disk(dir.path());
    let held = names
        .iter()
        .filter(|name| name.ends_with(".seg"))
        .map(|name| fs::metadata(dir.path().join("sealed").join(name)).unwrap().len());
    assert!(held.sum::<u64>() <= bytes / 3);
    // Nothing of what is known of the minutes has a limit.
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_hub_whose_clock_is_not_right_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(keeping(dir.path(), retention()), 2).close().unwrap();
    let (store, _) = open(keeping(dir.path(), retention()));
    store.retain().unwrap();
    assert_eq!(tiers(&store), [(512, Tier::Raw); 2]);
    let health = store.health();
    let told = health.checks.iter().find(|check| check.name == "retention").unwrap();
    assert!(format!("{:?}", told.state).contains("clock"), "{told:?}");
    store.close().unwrap();
}

#[test]
fn a_kill_while_readings_go_leaves_all_or_none_of_a_file() {
    let [before, after] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let only_raw = Retention { raw: days(1), ..Retention::default() };
    let store = filled(keeping(before.path(), only_raw), 1);
    let whole = buckets(&store, MINUTE_NS, 1);
    store.inner.manifest.note_gone(&[2]).unwrap();
    store.close().unwrap();
    copy(before.path(), after.path());
    let (store, _) = open_at(keeping(after.path(), only_raw), 30);
    store.retain().unwrap();
    store.inner.manifest.note_gone(&[1]).unwrap();
    store.close().unwrap();
    let made = on_disk(after.path());
    assert_eq!(made.len(), 1, "{made:?}");
    let case = |name: &str, from: &Path, change: &dyn Fn(&Path), tier: Tier| {
        let dir = tempfile::tempdir().unwrap();
        copy(from, dir.path());
        change(&dir.path().join("sealed"));
        let (store, report) = open_at(keeping(dir.path(), only_raw), 30);
        assert_eq!((report.quarantined, tiers(&store)), (vec![], vec![(512, tier)]), "{name}");
        store.retain().unwrap();
        assert_eq!(tiers(&store), [(512, Tier::Minute)], "{name}");
        assert_alike(&buckets(&store, MINUTE_NS, 1), &whole);
        assert_eq!(stored(&store), [(1, 1)], "{name}");
        store.close().unwrap();
        assert_eq!(on_disk(dir.path()).len(), 1, "{name}");
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new(), "{name}");
    };
    let (before, after) = (before.path(), after.path());
    case("its number is noted", before, &|_| {}, Tier::Raw);
    case(
        "half a file",
        before,
        &|sealed| fs::write(sealed.join("00000002.roll.tmp"), b"TL").unwrap(),
        Tier::Raw,
    );
    let written = fs::read(after.join("sealed").join(&made[0])).unwrap();
    case(
        "in place and not listed",
        before,
        &|sealed| fs::write(sealed.join("00000002.roll"), &written).unwrap(),
        Tier::Raw,
    );
    case(
        "the old ones are still there",
        after,
        &|sealed| {
            for name in ["00000001.seg", "00000001.roll"] {
                fs::copy(before.join("sealed").join(name), sealed.join(name)).unwrap();
            }
        },
        Tier::Minute,
    );
}

#[test]
fn what_is_left_of_a_file_and_damaged_is_put_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let only_raw = Retention { raw: days(1), ..Retention::default() };
    filled(keeping(dir.path(), only_raw), 2).close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), only_raw), 30);
    store.retain().unwrap();
    store.close().unwrap();
    let path = dir.path().join("sealed").join(&on_disk(dir.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems.len(), 1);
    let (store, report) = open_at(keeping(dir.path(), only_raw), 30);
    assert_eq!(report.quarantined.len(), 1);
    assert!(report.quarantined[0].reason.contains("512 readings past their retention"), "{report:?}");
    assert_eq!((tiers(&store), stored(&store)), (vec![(512, Tier::Minute)], vec![(1, 2)]));
    assert_eq!(store.series(None).iter().map(|info| info.count).sum::<u64>(), 512);
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn groups_are_answered_from_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let only_raw = Retention { raw: days(1), ..Retention::default() };
    filled(keeping(dir.path(), only_raw), 4).close().unwrap();
    let (store, _) = open_at(keeping(dir.path(), only_raw), 3);
    let ask = |from_ns: i64, width_ns: i64| {
        let to_ns = T0 + DAY_NS;
        let groups = vec![vec![0, 1], vec![2]];
        let question = GroupQuestion {
            groups,
            from_ns,
            to_ns,
            width: Some(Width::Fixed(width_ns)),
            raw: false,
            figures: Figures::default(),
        };
        let answer = store.query_groups(&question, &|| false).unwrap();
        let known = |(start, part): &(i64, Aggregate)| (*start, part.count, part.min, part.max, part.last);
        let groups = answer.groups.iter().map(|group| group.buckets.iter().map(known).collect::<Vec<_>>());
        (answer.tier, groups.collect::<Vec<_>>())
    };
    let whole = ask(T0, HOUR_NS);
    let fine = ask(T0, 10_000_000_000);
    store.retain().unwrap();
    // What is told is what was read: of readings this few to the hour there was no rollup while they were there.
    assert_eq!((whole.0, fine.0), (Tier::Raw, Tier::Raw));
    assert_eq!(ask(T0, HOUR_NS), (Tier::Hour, whole.1));
    // What is finer than a minute stands at the beginning of its minute, also where the range cuts that.
    let (tier, groups) = ask(T0 + 17_000_000_000, 10_000_000_000);
    assert_eq!((tier, groups[0][0].0, groups[0][1].0), (Tier::Minute, T0 + 10_000_000_000, T0 + MINUTE_NS));
    let counts = |groups: &[Vec<Known>]| -> Vec<u64> {
        groups.iter().map(|group| group.iter().map(|bucket| bucket.1).sum()).collect()
    };
    assert_eq!(counts(&groups), counts(&fine.1));
    store.close().unwrap();
}
