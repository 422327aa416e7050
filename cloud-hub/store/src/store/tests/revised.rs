//! Series of which the newest reading of a time takes the place of the older ones: whatever is asked, wherever they lie.

use std::sync::Arc;

use tideline_protocol::time::ManualClock;
use tideline_protocol::value::NULL;

use super::rig::*;
use crate::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use crate::calendar::Width;
use crate::hot::SeriesId;
use crate::query::{Figures, GroupQuestion, Parts, Quantile, Tier};
use crate::retention::{EARLIEST_NS, Limit, Retention};
use crate::sealed::SegmentFormat;
use crate::store::{Store, open};
use crate::{StoreConfig, verify};

const T0: i64 = EARLIEST_NS + 100 * DAY_NS;

fn revising(config: StoreConfig) -> StoreConfig {
    StoreConfig { revised_by: Some("a".to_owned()), ..config }
}

fn open_at(config: StoreConfig, day: i64) -> Store {
    let clock = Arc::new(ManualClock::at(T0 + day * DAY_NS));
    open::open(config, clock, Arc::new(SegmentFormat::default())).unwrap().0
}

/// One series: at a minute of the first day this value.
fn at(rows: &[(i64, f64)]) -> Vec<Row> {
    rows.iter().map(|(minute, value)| (0, T0 + minute * MINUTE_NS, *value)).collect()
}

/// What each question makes of a series: readings; count, sum and last of its hours by charts, by rollups and by groups; and
/// mean over time and median of the day.
type Told = (Vec<(i64, u64)>, [Vec<(u64, f64, f64)>; 3], (f64, f64));

fn told(store: &Store, id: SeriesId) -> Told {
    store.settle().unwrap();
    let (range, hours) = ((T0, T0 + DAY_NS), Parts::Most(25));
    let page = store.query_raw(&[id], range.0, range.1, None, 100).unwrap();
    let rows = page.series.iter().flat_map(|column| column.times.iter().zip(&column.values));
    let rows = rows.map(|(time, word)| ((time - T0) / MINUTE_NS, word.to_bits())).collect();
    let figures =
        Figures { time_weighted: true, quantiles: vec![Quantile::parse("p50").unwrap()], readings_max: 0 };
    let plain = store.query_parts(&[id], range, (&hours, &Figures::default()), &|| false).unwrap();
    let column = &plain.series[0];
    let charts = (0..column.t_ns.len())
        .map(|at| (column.count[at], column.mean[at] * column.count[at] as f64, column.last[at]));
    let rollups = store.query_rollups(id, Tier::Hour, range.0, range.1).unwrap();
    let question = GroupQuestion {
        groups: vec![vec![id]],
        from_ns: range.0,
        to_ns: range.1,
        width: Some(Width::Fixed(HOUR_NS)),
        raw: false,
        figures: Figures::default(),
    };
    let groups = store.query_groups(&question, &|| false).unwrap().groups.remove(0).buckets;
    let parts = |parts: Vec<(i64, crate::Aggregate)>| {
        parts.iter().map(|(_, part)| (part.count, part.sum, part.last)).collect()
    };
    let day = GroupQuestion { width: Some(Width::Fixed(DAY_NS)), figures, ..question };
    let day = store.query_groups(&day, &|| false).unwrap().groups.remove(0).figures.unwrap();
    let day = (day.time_weighted[0].unwrap(), day.quantiles[0][0].unwrap());
    (rows, [charts.collect(), parts(rollups), parts(groups)], day)
}

/// Three results, of which the first is put right and the second taken back; what became of them.
fn given(store: &Store, between: impl Fn(&Store)) -> Told {
    append(store, 1, &[at(&[(0, 1.0), (10, 2.0), (70, 3.0)])]);
    between(store);
    append(store, 2, &[at(&[(10, NULL), (0, 5.0), (0, 6.0)])]);
    between(store);
    append(store, 3, &[at(&[(0, 7.0), (80, 4.0)])]);
    told(store, 0)
}

fn expected() -> Told {
    let rows =
        [(0, 7.0), (10, NULL), (70, 3.0), (80, 4.0)].map(|(at, value): (i64, f64)| (at, value.to_bits()));
    let hours = || vec![(1, 7.0, 7.0), (2, 7.0, 4.0)];
    let held = (7.0 * 70.0 + 3.0 * 10.0 + 4.0 * (24.0 * 60.0 - 80.0)) / (24.0 * 60.0);
    (rows.to_vec(), [hours(), hours(), hours()], (held, 4.0))
}

fn assert_told(found: &Told, why: &str) {
    let expected = expected();
    assert_eq!((&found.0, &found.1, found.2.1), (&expected.0, &expected.1, expected.2.1), "{why}");
    assert!((found.2.0 - expected.2.0).abs() < 1e-9, "{why}: {} is not {}", found.2.0, expected.2.0);
}

#[test]
fn the_newest_of_a_time_counts_in_memory_in_files_merged_and_after_a_start() {
    let flush = |store: &Store| store.flush().unwrap();
    for (why, flushes) in [("in memory", false), ("in files", true)] {
        let dir = tempfile::tempdir().unwrap();
        let store = ready(revising(config(dir.path())));
        let found = given(&store, |store| {
            if flushes {
                flush(store)
            }
        });
        assert_told(&found, why);
        assert_eq!(store.series(None)[0].count, 8, "each that came is counted");
        flush(&store);
        append(&store, 4, &[at(&[(80, 4.0)])]);
        flush(&store);
        assert_told(&told(&store, 0), "all in files");
        store.compact().unwrap();
        assert_told(&told(&store, 0), "merged");
        store.close().unwrap();
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
        // The manifest knows it, whatever a dictionary says.
        let store = open(config(dir.path())).0;
        assert_told(&told(&store, 0), "after a start");
        let ledger = store.ledger(&agent("a")).remove(0);
        assert_eq!((ledger.stored, ledger.balanced), (9, true));
        store.close().unwrap();
    }
}

#[test]
fn series_that_were_there_before_are_revised_from_the_next_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let both = given(&store, |store| store.flush().unwrap());
    assert_eq!(both.1[0], [(5, 21.0, 2.0), (2, 7.0, 4.0)]);
    store.flush().unwrap();
    store.close().unwrap();
    let store = open(revising(config(dir.path()))).0;
    assert_told(&told(&store, 0), "told afterwards");
    store.close().unwrap();
}

#[test]
fn a_series_that_a_second_agent_revises_is_answered_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { revised_by: Some("b".to_owned()), ..config(dir.path()) }).0;
    define(&store, &agent("a"));
    append(&store, 1, &[at(&[(0, 1.0), (0, 2.0)])]);
    store.settle().unwrap();
    let version = store.version();
    assert_eq!(told(&store, 0).0.len(), 2);
    wait(store.define_series(agent("b"), EPOCH, dictionary(&agent("a")))).unwrap();
    assert!(!store.stands(version, T0, T0), "an answer from before does not stand");
    assert_eq!(told(&store, 0).0, [(0, 2.0_f64.to_bits())]);
    store.close().unwrap();
}

#[test]
fn what_is_left_of_readings_past_their_retention_has_the_newest_alone() {
    let days = |days: i64| Limit { age_ns: Some(days * DAY_NS), bytes: None };
    let retention = Retention { raw: days(5), ..Retention::default() };
    let dir = tempfile::tempdir().unwrap();
    let kept = || StoreConfig { retention, ..revising(config(dir.path())) };
    let store = open_at(kept(), 1);
    define(&store, &agent("a"));
    // The second file puts right what the first has, which is younger than it.
    append(&store, 1, &[at(&[(0, 1.0), (10, 2.0), (70, 3.0), (3 * 24 * 60, 9.0)])]);
    store.flush().unwrap();
    append(&store, 2, &[at(&[(10, NULL), (0, 5.0), (0, 6.0), (0, 7.0), (80, 4.0)])]);
    store.flush().unwrap();
    store.close().unwrap();
    let hours = vec![(1, 7.0, 7.0), (2, 7.0, 4.0)];
    for (day, whole) in [(7, 2), (9, 0)] {
        let store = open_at(kept(), day);
        store.retain().unwrap();
        let tiers = store.tiers();
        assert_eq!(tiers.iter().find(|tier| tier.tier == Tier::Raw).unwrap().files, whole, "day {day}");
        assert_eq!(tiers.iter().map(|tier| tier.rows).sum::<u64>(), 9);
        let found = told(&store, 0);
        assert_eq!(found.1, [hours.clone(), hours.clone(), hours.clone()], "day {day}");
        store.close().unwrap();
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}
