//! What profiles say of how long readings are kept: they go when they are to, and nobody else's with them.

use std::path::Path;
use std::sync::Arc;

use tideline_protocol::keep::{Keep, KeepRule, Rollups};
use tideline_protocol::model::DeviceId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::ManualClock;

use super::rig::*;
use crate::StoreConfig;
use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use crate::retention::{EARLIEST_NS, Limit, Retention};
use crate::sealed::SegmentFormat;
use crate::store::{Store, open};
use crate::tables::read;
use crate::verify;

const T0: i64 = EARLIEST_NS + 100 * DAY_NS;

fn kept(days: u32, rollups: Option<Rollups>) -> Keep {
    Keep { days: Some(days), rollups }
}

/// Of `a/point-1` three days, of `a/point-2` three days and nothing afterwards; of `a/point-0` nothing is said.
fn rules() -> Vec<KeepRule> {
    let rule = |point: &str, keep| KeepRule { points: vec![point.to_owned()], keep };
    vec![rule("point-1", kept(3, None)), rule("point-2", kept(3, Some(Rollups::NONE)))]
}

fn going_by_profiles(dir: &Path) -> StoreConfig {
    StoreConfig { retention: Retention { by_profile: true, ..Retention::default() }, ..config(dir) }
}

/// When so many days have gone by.
fn open_at(config: StoreConfig, day: i64) -> Store {
    let clock = Arc::new(ManualClock::at(T0 + day * DAY_NS));
    let (store, report) = open::open(config, clock, Arc::new(SegmentFormat::default())).unwrap();
    assert_eq!(report.quarantined, vec![]);
    store.tell_keeps(&DeviceId::parse("a").unwrap(), &rules());
    store
}

/// A batch of each series alone, with half an hour of readings.
fn rows_of(seq: u64) -> Vec<Row> {
    let no = u32::try_from((seq - 1) % 3).unwrap();
    (0..180).map(|n| (no, T0 + n * 10_000_000_000 + seq as i64, n as f64)).collect()
}

fn filled(dir: &Path, seqs: u64) -> Store {
    let store = open_at(going_by_profiles(dir), 0);
    define(&store, &agent("a"));
    for seq in 1..=seqs {
        append(&store, seq, &[rows_of(seq)]);
    }
    store.flush().unwrap();
    store
}

fn files(store: &Store) -> Vec<(u64, Keep)> {
    read(&store.inner.shared.tables).files.iter().map(|file| (file.rows, file.keep())).collect()
}

fn counts(store: &Store) -> Vec<u64> {
    store.settle().unwrap();
    store.series(None).iter().map(|info| info.count).collect()
}

fn on_disk(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("sealed")).unwrap().count()
}

#[test]
fn what_is_kept_shorter_goes_from_the_disk_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 6).close().unwrap();
    let store = open_at(going_by_profiles(dir.path()), 4);
    let all = all_rows(&store);
    assert_eq!(files(&store), [(360, Keep::HUB), (360, kept(3, Some(Rollups::NONE))), (360, kept(3, None))]);
    store.retain().unwrap();
    assert_eq!([0, 1, 2].map(|no| all_rows_of(&store, no).len()), [360, 0, 0]);
    // The rollups of one are left, and of the other nothing.
    assert_eq!(counts(&store), [360, 360, 0]);
    assert_eq!(on_disk(dir.path()), 3, "readings with their rollup, and a rollup");
    for (id, left) in [(0, 360), (1, 360), (2, 0)] {
        let answer = store.query_buckets(&[id], T0, T0 + HOUR_NS, 120).unwrap();
        assert_eq!((answer.width_ns, answer.series[0].count.iter().sum::<u64>()), (Some(MINUTE_NS), left));
    }
    let seqs: RangeSet = RangeSet::of(1, 6);
    assert_eq!(stored(&store), seqs.iter().collect::<Vec<_>>(), "no agent is asked for what is gone");
    assert_eq!(append(&store, 2, &[rows_of(2)]), 0);
    store.close().unwrap();
    let store = open_at(going_by_profiles(dir.path()), 4);
    assert_eq!(
        all_rows_of(&store, 0),
        all.into_iter().filter(|row| row.0 == "a/point-0").collect::<Vec<_>>()
    );
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

fn all_rows_of(store: &Store, no: u32) -> Vec<(String, i64, u64)> {
    let page = store.query_raw(&[no], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
    let rows = page.series.into_iter().flat_map(|column| column.times.into_iter().zip(column.values));
    rows.map(|(time, value)| (format!("a/point-{no}"), time, value.to_bits())).collect()
}

#[test]
fn the_operator_may_keep_less_than_a_profile_asks_for_and_may_go_by_none() {
    let limit = |days: i64| Limit { age_ns: Some(days * DAY_NS), bytes: None };
    let by_profile = true;
    for (retention, day, left) in [
        (Retention { by_profile, raw: limit(2), ..Retention::default() }, 3, 0),
        (Retention { by_profile, raw: limit(9), ..Retention::default() }, 4, 2),
        (Retention { raw: limit(9), ..Retention::default() }, 4, 4),
        (Retention::default(), 900, 4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), 6);
        // What comes in one batch is kept as long as any of it.
        append(&store, 7, &[rows_of(1).into_iter().chain(rows_of(2)).collect()]);
        store.flush().unwrap();
        assert_eq!(files(&store).last(), Some(&(360, Keep::HUB)));
        store.close().unwrap();
        let store = open_at(StoreConfig { retention, ..config(dir.path()) }, day);
        store.retain().unwrap();
        let tables = read(&store.inner.shared.tables);
        let whole = tables.files.iter().filter(|file| file.is_whole()).count();
        drop(tables);
        assert_eq!(whole, left, "{retention:?}");
        store.close().unwrap();
    }
}

#[test]
fn a_store_that_goes_by_no_profile_writes_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_at(StoreConfig { retention: Retention::default(), ..config(dir.path()) }, 0);
    define(&store, &agent("a"));
    for seq in 1..=3 {
        append(&store, seq, &[rows_of(seq)]);
    }
    store.flush().unwrap();
    assert_eq!(files(&store), [(540, Keep::HUB)]);
    assert_eq!(store.keep("a", "point-1"), Keep::HUB);
    store.close().unwrap();
}

#[test]
fn files_that_are_kept_alike_are_merged_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 3);
    for round in 1..4 {
        for seq in round * 3 + 1..=round * 3 + 3 {
            append(&store, seq, &[rows_of(seq)]);
        }
        store.flush().unwrap();
    }
    assert_eq!(files(&store).len(), 12);
    let all = all_rows(&store);
    store.compact().unwrap();
    assert_eq!(files(&store), [(720, Keep::HUB), (720, kept(3, Some(Rollups::NONE))), (720, kept(3, None))]);
    assert_eq!(all_rows(&store), all);
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

/// Of readings of one time the last to arrive stays the last, whatever their files are kept for.
#[test]
fn equal_times_stay_in_order_of_arrival_when_what_is_kept_of_a_series_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_at(going_by_profiles(dir.path()), 0);
    define(&store, &agent("a"));
    let mut sent = Vec::new();
    for seq in 1..=12 {
        let rows = vec![(1, T0, seq as f64), (0, T0 + 1, 0.0)];
        // Alone it is kept for three days, with another one for as long as that.
        let rows = if seq % 2 == 0 { rows } else { rows[..1].to_vec() };
        append(&store, seq, std::slice::from_ref(&rows));
        store.flush().unwrap();
        sent.extend(rows);
    }
    store.compact().unwrap();
    assert_eq!(all_rows(&store), expected(&sent));
    store.close().unwrap();
}

#[test]
fn a_lost_file_is_asked_for_again_and_what_came_with_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 6).close().unwrap();
    let all = {
        let store = open_at(going_by_profiles(dir.path()), 0);
        let all = all_rows(&store);
        store.close().unwrap();
        all
    };
    let mut raw: Vec<_> =
        std::fs::read_dir(dir.path().join("sealed")).unwrap().map(|e| e.unwrap().path()).collect();
    raw.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    raw.sort();
    // The last one is of point-1, which came with the second seq and the fifth.
    std::fs::write(raw.last().unwrap(), b"torn").unwrap();
    let clock = Arc::new(ManualClock::at(T0));
    let (store, report) =
        open::open(going_by_profiles(dir.path()), clock, Arc::new(SegmentFormat::default())).unwrap();
    assert_eq!(report.quarantined.len(), 2);
    assert_eq!(stored(&store), [(1, 1), (3, 4), (6, 6)]);
    let again: u64 = (1..=6).map(|seq| append(&store, seq, &[rows_of(seq)])).sum();
    assert_eq!(again, 2);
    assert_eq!(all_rows(&store), all);
    store.close().unwrap();
}
