//! Random histories under retention against a list of readings: whatever is flushed, merged, aged or reopened,
//! nothing younger than its tier's age is missing or changed, and what is given up is gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::keep::{Keep, KeepRule, Rollups};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock as _, ManualClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::buckets::{DAY_NS, HOUR_NS, MINUTE_NS};
use tideline_store::{ColdUse, Figures, Limit, Parts, Quantile, Retention, Store, StoreConfig, Tier, verify};

const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
const SERIES: u32 = 4;
/// When the history begins: 2026-03-02.
const T0: i64 = 20_514 * DAY_NS;

/// Width of a tier's buckets, and how many days it is kept.
const TIERS: [(i64, i64); 3] = [(MINUTE_NS, 4), (HOUR_NS, 8), (DAY_NS, 16)];
const RAW_DAYS: i64 = 2;

/// How many days the readings of a series are kept, and whether what is known of their minutes is afterwards: of the last two
/// their device's profile says so.
const fn kept(no: u32) -> (i64, bool) {
    match no {
        2 => (1, true),
        3 => (1, false),
        _ => (RAW_DAYS, true),
    }
}

/// What the profile says.
fn rules() -> Vec<KeepRule> {
    let rule = |no: u32, rollups| {
        let keep = Keep { days: Some(1), rollups };
        KeepRule { points: vec![format!("point-{no}")], keep }
    };
    vec![rule(2, None), rule(3, Some(Rollups::HOUR.with(Rollups::DAY)))]
}

fn agent() -> AgentId {
    AgentId::parse("pump-house").unwrap()
}

/// With a cold tier of so many days, if there is one.
fn open(dir: &Path, clock: &Arc<ManualClock>, cold: Option<i64>) -> Store {
    let days = |days: i64| Limit { age_ns: Some(days * DAY_NS), bytes: None };
    let mut config = StoreConfig::new(dir);
    config.flush_interval = Duration::from_secs(3600);
    config.check_files_on_open = true;
    config.compact = false;
    let [(_, minute), (_, hour), (_, day)] = TIERS;
    config.retention = Retention {
        raw: days(RAW_DAYS),
        minute: days(minute),
        hour: days(hour),
        day: days(day),
        by_profile: true,
        ..Retention::default()
    };
    if let Some(kept) = cold {
        (config.retention.freezes, config.retention.cold) = (true, days(kept));
    }
    let (store, report) = Store::open(config, Arc::clone(clock) as _).unwrap();
    assert_eq!(report.quarantined, vec![]);
    store.tell_keeps(&DeviceId::parse("pump-7").unwrap(), &rules());
    store
}

type Row = (u32, i64, f64);

fn batch(seq: u64, rows: &[Row]) -> Batch<Validated> {
    let samples: Vec<(u32, [Sample; 1])> = rows
        .iter()
        .map(|(no, time_ns, value)| (*no, [Sample { time_ns: *time_ns, value: *value }]))
        .collect();
    let items: Vec<(u32, &[Sample])> = samples.iter().map(|(no, one)| (*no, &one[..])).collect();
    let mut builder = BlockBuilder::new();
    builder.push_batch(&items);
    let block = builder.finish();
    let (rows, series_end) = (block.rows, block.series_end);
    let (epoch, lane, first) = (EPOCH, Lane::Live, Seq::new(seq));
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps: vec![] };
    Batch::received(agent(), Run { envelope, block: block.bytes }).validate(SERIES).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn define(store: &Store) {
    let def = |no: u32| {
        SeriesDef::new(
            DeviceId::parse("pump-7").unwrap(),
            PointId::parse(&format!("point-{no}")).unwrap(),
            String::new(),
        )
    };
    let series = Series { first: 0, defs: (0..SERIES).map(def).collect() };
    assert_eq!(run(store.define_series(agent(), EPOCH, series)).unwrap(), SERIES);
}

#[derive(Debug, Clone)]
enum Action {
    /// Rows that are so many minutes old, each a series and a value.
    Append(Vec<(u32, i64, i32)>),
    /// One row each so many seconds of the last two days.
    Dense(i64),
    /// A file each of one row for each of so many minutes.
    Burst(Vec<i64>),
    Flush,
    Compact,
    Retain,
    Reopen,
    /// So many hours go by.
    Age(u64),
}

fn action() -> impl Strategy<Value = Action> {
    // Some come days late, and many at the same time.
    let late = prop_oneof![4 => 0_i64..90, 2 => 0_i64..4_000, 1 => 0_i64..40_000];
    let row = (0..SERIES, late.clone(), -50_i32..50);
    let own = (0..SERIES, prop::collection::vec((late, -50_i32..50), 1..9));
    let of_one = |(no, rows): (u32, Vec<(i64, i32)>)| rows.into_iter().map(|(ago, n)| (no, ago, n)).collect();
    prop_oneof![
        3 => prop::collection::vec(row, 1..12).prop_map(Action::Append),
        5 => own.prop_map(move |own| Action::Append(of_one(own))),
        1 => (20_i64..90).prop_map(Action::Dense),
        2 => prop::collection::vec(0_i64..1_000, 4..9).prop_map(Action::Burst),
        4 => Just(Action::Flush),
        2 => Just(Action::Compact),
        3 => Just(Action::Retain),
        1 => Just(Action::Reopen),
        4 => (1_u64..80).prop_map(Action::Age),
    ]
}

/// Some readings are no numbers.
fn number(n: i32) -> f64 {
    if n % 11 == 10 { f64::NAN } else { f64::from(n) / 4.0 }
}

/// Count, smallest, largest and last value.
type Known = (u64, f64, f64, f64);

fn known(rows: &[(i64, f64)], width_ns: i64) -> BTreeMap<i64, Known> {
    let mut out: BTreeMap<i64, Known> = BTreeMap::new();
    for (time, value) in rows.iter().filter(|row| !row.1.is_nan()) {
        let place = out.entry(time.div_euclid(width_ns) * width_ns).or_insert((0, *value, *value, *value));
        *place = (place.0 + 1, place.1.min(*value), place.2.max(*value), *value);
    }
    out
}

/// What came, by series and time; of equal times in order of arrival.
fn model(sent: &[Row], no: u32) -> Vec<(i64, f64)> {
    let mut rows: Vec<_> = sent.iter().filter(|row| row.0 == no).map(|row| (row.1, row.2)).collect();
    rows.sort_by_key(|row| row.0);
    rows
}

/// Medians and means over time are those of all numbers of a bucket, as near as they say to be; of minutes there are none
/// where some of the readings are gone.
fn check_figures(store: &Store, (id, raw): (u32, i64), all: &[(i64, f64)], range: (i64, i64), most: usize) {
    let quantiles = vec![Quantile::parse("p50").unwrap()];
    let figures = Figures { time_weighted: true, quantiles, ..Figures::default() };
    let answer = store.query_parts(&[id], range, (&Parts::Most(most), &figures), &|| false).unwrap();
    let (column, width) = (&answer.series[0], answer.width_ns.unwrap());
    let young = range.1 - raw * DAY_NS;
    let numbers: Vec<(i64, f64)> = all.iter().filter(|row| !row.1.is_nan()).copied().collect();
    for (at, start) in column.t_ns.iter().enumerate() {
        let (begin, end) = ((*start).max(range.0), (start + width).min(range.1));
        let rows: Vec<_> = numbers.iter().filter(|row| (begin..end).contains(&row.0)).copied().collect();
        let mut own: Vec<f64> = rows.iter().map(|row| row.1).collect();
        own.sort_by(f64::total_cmp);
        let (below, above) = (own[(own.len() - 1) / 2], own[own.len() / 2]);
        let middle = (below + above) / 2.0;
        let found = &answer.figures[0];
        let bound = 1e-9 + found.errors[at] * below.abs().max(above.abs());
        match found.quantiles[0][at] {
            Some(median) => assert!((median - middle).abs() <= bound, "{median} is not {middle}"),
            None => assert!(begin < young && width < HOUR_NS, "what is known from {begin} on is not told"),
        }
        assert_eq!(found.time_weighted[at].is_some(), found.quantiles[0][at].is_some());
        let Some(mean) = found.time_weighted[at] else { continue };
        // What was before the range may be gone, and what came late lay between what is gone.
        if at == 0 || found.near[at] {
            assert!(!found.near[at] || begin < young);
            assert!((-15.0..=15.0).contains(&mean));
            continue;
        }
        let before = numbers.iter().rfind(|row| row.0 < begin).map(|row| (begin, row.1));
        let held: Vec<(i64, f64)> = before.into_iter().chain(rows).collect();
        let ends = held.iter().skip(1).map(|row| row.0).chain([end]);
        let integral: f64 = held.iter().zip(ends).map(|(row, end)| row.1 * (end - row.0) as f64).sum();
        let expected = integral / (end - held[0].0) as f64;
        assert!((mean - expected).abs() <= 1e-9, "{mean} over time from {begin} on is not {expected}");
    }
}

/// Of what is not gone for good, a rollup is the aggregate of all readings or is not there (INV-9); and each reading is
/// there itself, or in one bucket that stands for it.
fn check_rollups(store: &Store, id: u32, all: &[(i64, f64)], (now, (raw, has_minutes)): (i64, (i64, bool))) {
    let kept = now - TIERS[2].1 * DAY_NS;
    for ((width, days), tier) in TIERS.into_iter().zip([Tier::Minute, Tier::Hour, Tier::Day]) {
        let days = if width == MINUTE_NS && !has_minutes { raw } else { days };
        let expected = known(all, width);
        let found = store.query_rollups(id, tier, kept, now + DAY_NS).unwrap();
        let found: BTreeMap<i64, Known> =
            found.iter().map(|(start, a)| (*start, (a.count, a.min, a.max, a.last))).collect();
        for (start, known) in &found {
            assert_eq!(expected.get(start), Some(known), "series {id} at {start}, {}", tier.as_str());
        }
        let lacks = expected.range(kept..).any(|(start, _)| !found.contains_key(start) && *start >= kept);
        let thinned_to = store.thinned_to(&[id], (kept, now + 1), tier).unwrap();
        assert!(!lacks || thinned_to.is_some(), "what is left out is told");
        assert!(thinned_to.is_none_or(|last| last < now - days * DAY_NS), "nothing young is thinned");
    }
    let stands = store.query_stands(id, (kept, now + 1)).unwrap();
    assert!(stands.windows(2).all(|two| two[0].end_ns() < two[1].start_ns), "{stands:?}");
    let covers = |time: i64| stands.iter().any(|stand| (stand.start_ns..=stand.end_ns()).contains(&time));
    for (width, _) in TIERS {
        let expected = known(all, width);
        for stand in stands.iter().filter(|stand| stand.width_ns == width && stand.start_ns >= kept) {
            let part = stand.part;
            assert_eq!(expected[&stand.start_ns], (part.count, part.min, part.max, part.last), "{stand:?}");
        }
    }
    let page = store.query_raw(&[id], kept, now + 1, None, usize::MAX).unwrap();
    let found = page.series.into_iter().flat_map(|column| column.times.into_iter().zip(column.values));
    let numbers = |row: &(i64, f64)| row.0 >= kept && !row.1.is_nan() && !covers(row.0);
    let expected: Vec<_> = all.iter().filter(|row| numbers(row)).copied().collect();
    assert_eq!(found.filter(numbers).collect::<Vec<_>>(), expected, "the readings beside the stands of {id}");
}

/// Each reading that is young enough for the cold tier is there or among the readings, once; and no older one twice.
fn check_cold(store: &Store, sent: &[Row], (now, kept_cold): (i64, i64)) {
    for info in store.series(None) {
        let no: u32 = info.point.as_str().strip_prefix("point-").unwrap().parse().unwrap();
        let mut left: BTreeMap<(i64, u64), i64> = BTreeMap::new();
        for (time, value) in model(sent, no) {
            *left.entry((time, value.to_bits())).or_default() += 1;
        }
        let mut columns = store.query_raw(&[info.id], i64::MIN, i64::MAX, None, usize::MAX).unwrap().series;
        let mut cold = store.cold_rows(&[info.id], (i64::MIN, i64::MAX));
        while let Some(found) = cold.next_columns().unwrap() {
            assert!(found.iter().all(|column| column.id == info.id && column.times.is_sorted()));
            columns.extend(found);
        }
        let found = columns.iter().flat_map(|column| column.times.iter().zip(&column.values));
        found.for_each(|(time, value)| *left.entry((*time, value.to_bits())).or_default() -= 1);
        assert!(left.values().all(|count| *count >= 0), "series {no} has readings twice, or others");
        // What a profile says of days goes for good.
        let days = if no < 2 { kept_cold } else { kept(no).0 };
        left.retain(|(time, _), count| *count > 0 && *time >= now - days * DAY_NS);
        assert!(left.is_empty(), "series {no} lacks {left:?}");
    }
}

fn check(store: &Store, sent: &[Row], now: i64) {
    for info in store.series(None) {
        let no: u32 = info.point.as_str().strip_prefix("point-").unwrap().parse().unwrap();
        let all = model(sent, no);
        let (raw, has_minutes) = kept(no);
        let young = now - raw * DAY_NS;
        let page = store.query_raw(&[info.id], young, now + 1, None, usize::MAX).unwrap();
        let found: Vec<(i64, f64)> =
            page.series.into_iter().flat_map(|column| column.times.into_iter().zip(column.values)).collect();
        let expected: Vec<(i64, f64)> = all.iter().filter(|row| row.0 >= young).copied().collect();
        let bits = |rows: &[(i64, f64)]| rows.iter().map(|row| (row.0, row.1.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "young readings of series {no}");
        assert_eq!(page.thinned_to_ns, None, "nothing young is thinned");
        for (width, days) in TIERS {
            let days = if width == MINUTE_NS && !has_minutes { raw } else { days };
            let from = (now - days * DAY_NS + width - 1).div_euclid(width) * width;
            let most = usize::try_from((now - from) / width + 2).unwrap();
            let answer = store.query_buckets(&[info.id], from, now + 1, most).unwrap();
            assert_eq!(answer.width_ns, Some(width));
            let column = &answer.series[0];
            let found: BTreeMap<i64, Known> = (0..column.t_ns.len())
                .map(|at| {
                    (column.t_ns[at], (column.count[at], column.min[at], column.max[at], column.last[at]))
                })
                .collect();
            let young: Vec<(i64, f64)> = all.iter().filter(|row| row.0 >= from).copied().collect();
            assert_eq!(found, known(&young, width), "series {no} by {} s", width / 1_000_000_000);
            check_figures(store, (info.id, raw), &all, (from, now + 1), most);
        }
        check_rollups(store, info.id, &all, (now, kept(no)));
        if !has_minutes {
            continue;
        }
        // What is cut has its buckets whole where no finer level is left, and all readings of the range.
        let (from, to) = (now - 3 * DAY_NS - 17_000_000_000, now - 5 * DAY_NS / 2 - 29_000_000_000);
        let answer = store.query_buckets(&[info.id], from, to, 1_000).unwrap();
        assert_eq!(answer.width_ns, Some(MINUTE_NS));
        let within = |from: i64, to: i64| {
            let rows: Vec<_> = all.iter().filter(|row| (from..to).contains(&row.0)).copied().collect();
            known(&rows, MINUTE_NS)
        };
        let column = &answer.series[0];
        let found: BTreeMap<i64, u64> =
            column.t_ns.iter().copied().zip(column.count.iter().copied()).collect();
        let floor = |time: i64| time.div_euclid(MINUTE_NS) * MINUTE_NS;
        let (least, most) = (within(from, to), within(floor(from), floor(to) + MINUTE_NS));
        assert!(least.iter().all(|(start, known)| found.get(start).is_some_and(|count| *count >= known.0)));
        assert!(found.iter().all(|(start, count)| most.get(start).is_some_and(|known| known.0 >= *count)));
        // What is older is there or gone, and never more than it was.
        let answer = store.query_buckets(&[info.id], T0 - 60 * DAY_NS, now + 1, 400).unwrap();
        let before = known(&all, answer.width_ns.unwrap());
        for (start, count) in answer.series[0].t_ns.iter().zip(&answer.series[0].count) {
            assert!(*count <= before[start].0, "series {no} has too many at {start}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_young_is_missing_and_what_is_old_goes(
        actions in prop::collection::vec(action(), 1..24),
        cold in prop::option::of(3_i64..25),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(T0));
        let mut store = open(dir.path(), &clock, cold);
        define(&store);
        let (mut sent, mut seq) = (Vec::<Row>::new(), 0);
        for action in actions {
            let now = clock.wall_ns();
            if let Action::Burst(ages) = &action {
                for (n, ago) in (0_i32..).zip(ages) {
                    seq += 1;
                    let rows = [(0, now - ago * MINUTE_NS, f64::from(n)), (1, now - 17_000_000_000, f64::from(n))];
                    run(store.append(batch(seq, &rows))).unwrap();
                    store.flush().unwrap();
                    sent.extend(rows);
                }
            }
            let rows: Vec<Row> = match &action {
                Action::Append(rows) => {
                    rows.iter().map(|(no, ago, n)| (*no, now - ago * MINUTE_NS, number(*n))).collect()
                }
                Action::Dense(step) => (0..2 * DAY_NS / (step * 1_000_000_000))
                    .map(|n| (0, now - n * step * 1_000_000_000, number((n % 41) as i32)))
                    .collect(),
                _ => Vec::new(),
            };
            match action {
                Action::Append(_) | Action::Dense(_) => {
                    seq += 1;
                    prop_assert_eq!(run(store.append(batch(seq, &rows))).unwrap().taken().len(), 1);
                    sent.extend(rows);
                }
                Action::Burst(_) => {}
                Action::Flush => store.flush().unwrap(),
                Action::Compact => store.compact().unwrap(),
                Action::Retain => store.retain().unwrap(),
                Action::Reopen => {
                    store.close().unwrap();
                    store = open(dir.path(), &clock, cold);
                }
                Action::Age(hours) => clock.advance(Duration::from_secs(hours * 3600)),
            }
            store.settle().unwrap();
            check(&store, &sent, clock.wall_ns());
            if let Some(kept) = cold {
                check_cold(&store, &sent, (clock.wall_ns(), kept));
            }
        }
        let ledger = store.ledger(&agent());
        prop_assert_eq!(ledger.first().map_or(0, |epoch| epoch.stored), sent.len() as u64);
        store.flush().unwrap();
        clock.advance(Duration::from_secs(40 * 24 * 3600));
        store.retain().unwrap();
        prop_assert_eq!(store.series(None).iter().map(|info| info.count).sum::<u64>(), 0);
        prop_assert_eq!(store.metrics().sealed_files, 0);
        prop_assert_eq!(store.cold(), ColdUse::default());
        if seq > 0 {
            prop_assert!(run(store.append(batch(seq, &[(0, 1, 1.0)]))).unwrap().taken().is_empty());
        }
        store.close().unwrap();
        prop_assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}
