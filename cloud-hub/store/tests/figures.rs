//! Quantiles and means over time as they are stored, against a list of readings: whatever came late, was merged or given up.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::model::{AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock as _, ManualClock};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::buckets::{DAY_NS, HOUR_NS};
use tideline_store::{Figures, Limit, Parts, Quantile, Retention, Store, StoreConfig, Tier, verify};

const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
const SECOND_NS: i64 = 1_000_000_000;
/// When the history begins: 2026-03-02.
const T0: i64 = 20_514 * DAY_NS;
const RAW_DAYS: i64 = 2;
const MINUTE_DAYS: i64 = 4;

fn agent() -> AgentId {
    AgentId::parse("pump-house").unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Store {
    let days = |days: i64| Limit { age_ns: Some(days * DAY_NS), bytes: None };
    let mut config = StoreConfig::new(dir);
    config.flush_interval = Duration::from_secs(3600);
    config.check_files_on_open = true;
    config.compact = false;
    let (minute, hour) = (days(MINUTE_DAYS), days(30));
    config.retention =
        Retention { raw: days(RAW_DAYS), minute, hour, day: days(300), ..Retention::default() };
    let (store, report) = Store::open(config, Arc::clone(clock) as _).unwrap();
    assert_eq!(report.quarantined, vec![]);
    store
}

fn define(store: &Store) {
    let def =
        SeriesDef::new(DeviceId::parse("pump-7").unwrap(), PointId::parse("air").unwrap(), "hPa".to_owned());
    assert_eq!(run(store.define_series(agent(), EPOCH, Series { first: 0, defs: vec![def] })).unwrap(), 1);
}

fn batch(seq: u64, rows: &[(i64, f64)]) -> Batch<Validated> {
    let samples: Vec<Sample> =
        rows.iter().map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value }).collect();
    let mut builder = BlockBuilder::new();
    builder.push_batch(&[(0, &samples[..])]);
    let block = builder.finish();
    let (rows, series_end) = (block.rows, block.series_end);
    let (epoch, lane, first) = (EPOCH, Lane::Live, Seq::new(seq));
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps: vec![] };
    Batch::received(agent(), Run { envelope, block: block.bytes }).validate(1).unwrap()
}

#[derive(Debug, Clone)]
enum Action {
    /// From so many hours ago on so many readings, each so many milliseconds after the one before.
    Bulk {
        hours: i64,
        rows: i64,
        step_ms: i64,
    },
    /// Readings of so many minutes ago.
    Late(Vec<i64>),
    Flush,
    Compact,
}

fn action() -> impl Strategy<Value = Action> {
    let bulk = (1_i64..40, 8_300_i64..17_000, 200_i64..4_000);
    prop_oneof![
        4 => bulk.prop_map(|(hours, rows, step_ms)| Action::Bulk { hours, rows, step_ms }),
        2 => prop::collection::vec(0_i64..2_400, 1..20).prop_map(Action::Late),
        4 => Just(Action::Flush),
        2 => Just(Action::Compact),
    ]
}

/// Pressures with more different values than a sketch has bins; some readings are no numbers.
fn value(n: i64) -> f64 {
    if n % 97 == 96 { f64::NAN } else { 1013.0 + (n * n % 977) as f64 / 100.0 }
}

/// Names of quantiles, and how many thousandths they are.
const NAMES: [(&str, usize); 4] = [("p0", 0), ("p50", 500), ("p95", 950), ("p99.9", 999)];

/// What a list says of a bucket: its numbers in order, and the mean over time.
fn expected(all: &[(i64, f64)], begin: i64, end: i64) -> (Vec<f64>, f64) {
    let (lo, hi) = (all.partition_point(|row| row.0 < begin), all.partition_point(|row| row.0 < end));
    let before = all[..lo].last().map(|row| (begin, row.1));
    let held: Vec<(i64, f64)> = before.into_iter().chain(all[lo..hi].iter().copied()).collect();
    let ends = held.iter().skip(1).map(|row| row.0).chain([end]);
    let integral: f64 = held.iter().zip(ends).map(|(row, end)| row.1 * (end - row.0) as f64).sum();
    let mut sorted: Vec<f64> = all[lo..hi].iter().map(|row| row.1).collect();
    sorted.sort_by(f64::total_cmp);
    (sorted, integral / (end - held[0].0) as f64)
}

/// Compares all buckets of a width; gives the tier, and how many means are near.
fn check(store: &Store, all: &[(i64, f64)], width: i64, now: i64, readings_max: u64) -> (Tier, usize) {
    let quantiles = NAMES.iter().map(|(name, _)| Quantile::parse(name).unwrap()).collect();
    let figures = Figures { time_weighted: true, quantiles, readings_max };
    let from = (T0 - 3 * DAY_NS).div_euclid(width) * width;
    let to = ((T0 + HOUR_NS).div_euclid(width) + 1) * width;
    let most = usize::try_from((to - from) / width + 2).unwrap();
    let answer = store.query_parts(&[0], (from, to), (&Parts::Most(most), &figures), &|| false).unwrap();
    assert_eq!(answer.width_ns, Some(width), "at {now}");
    let (column, found) = (&answer.series[0], &answer.figures[0]);
    for (at, start) in column.t_ns.iter().enumerate() {
        let (sorted, mean) = expected(all, *start, start + width);
        assert_eq!(column.count[at], sorted.len() as u64);
        let told = found.time_weighted[at].unwrap();
        assert!(found.near[at] || (told - mean).abs() <= 1e-9 * 1023.0, "{told} is not {mean}");
        assert!((1013.0..=1023.0).contains(&told));
        assert!(found.errors[at] <= 1.0 / 4096.0, "{}", found.errors[at]);
        for ((name, share), values) in NAMES.iter().zip(&found.quantiles) {
            let rank = share * (sorted.len() - 1);
            let (below, above) = (sorted[rank / 1000], sorted[rank.div_ceil(1000)]);
            let value = below + (above - below) * (rank % 1000) as f64 / 1000.0;
            let told = values[at].unwrap();
            let bound = found.errors[at] * above + 1e-6;
            assert!((told - value).abs() <= bound, "{name} from {start} on: {told} is not {value}");
        }
    }
    (found.tier, found.near.iter().filter(|near| **near).count())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_as_near_to_the_readings_as_it_says(actions in prop::collection::vec(action(), 2..12)) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(T0));
        let store = open(dir.path(), &clock);
        define(&store);
        let (mut all, mut seq, mut n) = (Vec::<(i64, f64)>::new(), 0, 0);
        for action in actions {
            let times: Vec<i64> = match action {
                Action::Flush => { store.flush().unwrap(); continue }
                Action::Compact => { store.compact().unwrap(); continue }
                Action::Bulk { hours, rows, step_ms } => {
                    let begin = T0 - hours * HOUR_NS;
                    (0..rows).map(|n| begin + n * step_ms * 1_000_000).filter(|time| *time < T0).collect()
                }
                Action::Late(minutes) => minutes.iter().map(|ago| T0 - ago * 60 * SECOND_NS - 1).collect(),
            };
            let rows: Vec<(i64, f64)> = times.into_iter().map(|time| { n += 1; (time, value(n)) }).collect();
            if !rows.is_empty() {
                seq += 1;
                run(store.append(batch(seq, &rows))).unwrap();
                all.extend(rows.iter().filter(|row| !row.1.is_nan()));
            }
        }
        store.settle().unwrap();
        all.sort_by_key(|row| row.0);
        for width in [HOUR_NS, 3 * HOUR_NS, DAY_NS] {
            prop_assert_eq!(check(&store, &all, width, T0, u64::MAX), (Tier::Raw, 0));
            prop_assert_eq!(check(&store, &all, width, T0, 0).1, 0, "readings are there to be read");
        }
        store.flush().unwrap();
        for (days, widths) in
            [(RAW_DAYS, &[HOUR_NS, 6 * HOUR_NS, DAY_NS][..]), (MINUTE_DAYS, &[HOUR_NS, DAY_NS]), (30, &[DAY_NS])]
        {
            let age = T0 + (days + 1) * DAY_NS - clock.wall_ns();
            clock.advance(Duration::from_nanos(age.unsigned_abs()));
            store.retain().unwrap();
            prop_assert!(store.query_raw(&[0], i64::MIN, i64::MAX, None, 1).unwrap().series.is_empty());
            for merged in [false, true] {
                for width in widths {
                    let (tier, _) = check(&store, &all, *width, clock.wall_ns(), 0);
                    let left = if days == 30 { Tier::Day } else { Tier::Hour };
                    prop_assert!(all.is_empty() || tier == left, "{tier:?}");
                }
                if !merged {
                    store.compact().unwrap();
                }
            }
        }
        store.close().unwrap();
        prop_assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn an_hour_of_many_readings_is_read_from_what_is_stored_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(T0));
    let store = open(dir.path(), &clock);
    define(&store);
    let rows: Vec<(i64, f64)> = (0..20_000).map(|n| (T0 - (20_000 - n) * SECOND_NS, value(n))).collect();
    run(store.append(batch(1, &rows))).unwrap();
    store.flush().unwrap();
    let numbers: Vec<(i64, f64)> = rows.into_iter().filter(|row| !row.1.is_nan()).collect();
    assert_eq!(check(&store, &numbers, HOUR_NS, T0, 0), (Tier::Hour, 0));
    assert_eq!(check(&store, &numbers, HOUR_NS, T0, 20_000), (Tier::Raw, 0));
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}
