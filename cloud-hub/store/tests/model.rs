//! The store against a model that is obviously right: a sorted list of readings.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::model::{
    AgentId, DeviceId, DropCause, Epoch, Gap, PointId, RowCounts, Sample, Seq, SeriesDef,
};
use tideline_protocol::time::ManualClock;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};
use tideline_store::{Figures, Parts, Quantile, Store, StoreConfig, verify};

const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
const SERIES: u32 = 3;
const MINUTE: i64 = 60_000_000_000;

fn agent() -> AgentId {
    AgentId::parse("pump-house").unwrap()
}

fn open(dir: &Path) -> (Store, tideline_store::OpenReport) {
    open_as(dir, false)
}

/// Where it is `revised`, of each time of a series the newest reading counts.
fn open_as(dir: &Path, revised: bool) -> (Store, tideline_store::OpenReport) {
    let mut config = StoreConfig::new(dir);
    config.flush_interval = Duration::from_secs(3600);
    config.check_files_on_open = true;
    config.compact = false;
    config.revised_by = revised.then(|| "pump-".to_owned());
    Store::open(config, Arc::new(ManualClock::at(0))).unwrap()
}

fn dictionary() -> Series {
    let def = |no: u32| {
        SeriesDef::new(
            DeviceId::parse("pump-7").unwrap(),
            PointId::parse(&format!("point-{no}")).unwrap(),
            "Cel".to_owned(),
        )
        .of_kind(KINDS[no as usize])
    };
    Series { first: 0, defs: (0..SERIES).map(def).collect() }
}

/// What the series are of.
const KINDS: [ValueKind; SERIES as usize] = [ValueKind::Float, ValueKind::Int, ValueKind::Text];

/// A value with its quality.
#[derive(Debug, Clone, PartialEq)]
struct Given(Value, Quality);

impl From<f64> for Given {
    fn from(value: f64) -> Self {
        Self(Value::Float(value), Quality::Good)
    }
}

impl Given {
    /// What it is to who calculates.
    fn number(&self) -> Option<f64> {
        match self {
            Self(Value::Float(number), Quality::Good) => Some(*number).filter(|number| !number.is_nan()),
            Self(Value::Int(integer), Quality::Good) => Some(*integer as f64),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        format!("{} {:?}", self.1, self.0)
    }
}

type Rows = Vec<(u32, i64, Given)>;

fn batch(first: u64, seqs: &[Rows]) -> Batch<Validated> {
    let mut builder = BlockBuilder::new();
    for rows in seqs {
        let mut boxes = Boxes::new();
        let samples: Vec<(u32, [Sample; 1])> = rows
            .iter()
            .map(|(series, time_ns, Given(value, quality))| {
                (*series, [Sample { time_ns: *time_ns, value: boxes.word(value.clone(), *quality) }])
            })
            .collect();
        let items: Vec<(u32, &[Sample])> = samples.iter().map(|(series, one)| (*series, &one[..])).collect();
        builder.push_boxed(&items, &boxes);
    }
    let block = builder.finish();
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(first),
        rows: block.rows,
        series_end: block.series_end,
        restamps: vec![],
    };
    Batch::received(agent(), Run { envelope, block: block.bytes }).validate(SERIES).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn ready(dir: &Path) -> Store {
    ready_as(dir, false)
}

fn ready_as(dir: &Path, revised: bool) -> Store {
    let (store, _) = open_as(dir, revised);
    assert_eq!(run(store.define_series(agent(), EPOCH, dictionary())).unwrap(), SERIES);
    store
}

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<Rows>),
    Repeat(usize, usize),
    Flush,
    Compact,
    Reopen,
}

fn rows() -> impl Strategy<Value = Rows> {
    // Few distinct times, so that they repeat, arrive late, and lie on both sides of 1970.
    prop::collection::vec((0..SERIES, (-40_i64..40).prop_map(|t| t * 7_500_000_000), -50_i32..50), 1..12)
        .prop_map(|rows| rows.into_iter().map(|(s, t, v)| (s, t, given(s, v))).collect())
}

/// Some readings are no numbers, some integers no doubles, and some of doubtful quality.
fn given(series: u32, n: i32) -> Given {
    let value = match KINDS[series as usize] {
        _ if n % 13 == 12 => Value::Null,
        ValueKind::Text => Value::Text(format!("state {}", n % 5).into()),
        // Their sums are exact in any order.
        ValueKind::Int if n % 7 == 5 => Value::Int(i64::from(n) << 55 | 1),
        ValueKind::Int => Value::Int(i64::from(n) << 55),
        _ if n % 11 == 10 => Value::Float(f64::NAN),
        _ => Value::Float(f64::from(n) / 4.0),
    };
    let quality = match n % 9 {
        7 => Quality::Uncertain,
        8 => Quality::Bad,
        _ => Quality::Good,
    };
    Given(value, quality)
}

/// So many that rollups are worth while, over some minutes.
fn dense() -> impl Strategy<Value = Rows> {
    (0..SERIES, -300_i64..300, 1_i64..300, 1_200_i64..2_500).prop_map(|(series, from_s, step_ms, rows)| {
        let row = |n: i64| {
            (series, from_s * 1_000_000_000 + n * step_ms * 1_000_000, given(series, (n % 41) as i32))
        };
        (0..rows).map(row).collect()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec(rows(), 1..4).prop_map(Action::Append),
        2 => dense().prop_map(|rows| Action::Append(vec![rows])),
        2 => (any::<usize>(), 1_usize..4).prop_map(|(at, len)| Action::Repeat(at, len)),
        4 => Just(Action::Flush),
        2 => Just(Action::Compact),
        1 => Just(Action::Reopen),
    ]
}

/// Names of quantiles, and how many thousandths they are.
const QUANTILES: [(&str, usize); 4] = [("p0", 0), ("p50", 500), ("p95", 950), ("p99.9", 999)];

/// Quantiles and means over time, one bucket after the other from a plain list of all numbers.
fn check_figures(
    store: &Store,
    id: u32,
    arrived: &[(u32, i64, Given)],
    no: u32,
    range: (i64, i64),
    most: usize,
) {
    let quantiles = QUANTILES.iter().map(|(name, _)| Quantile::parse(name).unwrap()).collect();
    let figures = Figures { time_weighted: true, quantiles, ..Figures::default() };
    let answer = store.query_parts(&[id], range, (&Parts::Most(most), &figures), &|| false).unwrap();
    let (column, found, width) = (&answer.series[0], &answer.figures[0], answer.width_ns.unwrap());
    let mut all: Vec<(i64, f64)> =
        arrived.iter().filter(|row| row.0 == no).filter_map(|row| Some((row.1, row.2.number()?))).collect();
    all.sort_by_key(|row| row.0);
    assert_eq!(found.time_weighted.len(), column.t_ns.len());
    for (at, start) in column.t_ns.iter().enumerate() {
        let (begin, end) = ((*start).max(range.0), (start + width).min(range.1));
        let own: Vec<(i64, f64)> = all.iter().filter(|row| (begin..end).contains(&row.0)).copied().collect();
        let before = all.iter().rfind(|row| row.0 < begin).map(|row| (begin, row.1));
        let held: Vec<(i64, f64)> = before.into_iter().chain(own.iter().copied()).collect();
        let ends = held.iter().skip(1).map(|row| row.0).chain([end]);
        let integral: f64 = held.iter().zip(ends).map(|(row, end)| row.1 * (end - row.0) as f64).sum();
        let mean = integral / (end - held[0].0) as f64;
        let size = held.iter().map(|row| row.1.abs()).fold(0.0, f64::max);
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() <= 1e-9 * size;
        assert!(near(found.time_weighted[at], mean), "{:?} is not {mean}", found.time_weighted[at]);
        let mut sorted: Vec<f64> = own.iter().map(|row| row.1).collect();
        sorted.sort_by(f64::total_cmp);
        for ((name, share), values) in QUANTILES.iter().zip(&found.quantiles) {
            let rank = share * (sorted.len() - 1);
            let (below, above) = (sorted[rank / 1000], sorted[rank.div_ceil(1000)]);
            let value = below + (above - below) * (rank % 1000) as f64 / 1000.0;
            assert!(near(values[at], value), "{name}: {:?} is not {value}", values[at]);
        }
    }
}

/// Of each time of a series the last to arrive.
fn newest(arrived: &[(u32, i64, Given)]) -> Rows {
    let mut last = std::collections::BTreeMap::new();
    for (at, row) in arrived.iter().enumerate() {
        last.insert((row.0, row.1), at);
    }
    arrived
        .iter()
        .enumerate()
        .filter(|(at, row)| last[&(row.0, row.1)] == *at)
        .map(|(_, row)| row.clone())
        .collect()
}

fn check(store: &Store, sent: &[Rows], (from, to): (i64, i64), revised: bool) {
    let came: Rows = sent.iter().flatten().cloned().collect();
    let arrived = if revised { newest(&came) } else { came.clone() };
    for info in store.series(None) {
        let no: u32 = info.point.as_str().strip_prefix("point-").unwrap().parse().unwrap();
        let all = came.iter().filter(|row| row.0 == no);
        assert_eq!(info.count, all.clone().count() as u64);
        assert_eq!(info.last_ns, all.clone().map(|row| row.1).max());
        assert_eq!((info.kind, &*info.unit), (KINDS[no as usize], "Cel"));
        // Of equal times the one that arrived last.
        let last = all.clone().max_by_key(|row| row.1).map(|row| (row.1, row.2.shown()));
        let found = info.last.as_ref().map(|last| {
            let (value, quality) = last.value(info.kind);
            (last.time_ns, Given(value, quality).shown())
        });
        assert_eq!(found, last);
        let mut expected: Vec<(i64, Given)> = arrived
            .iter()
            .filter(|row| row.0 == no && (from..to).contains(&row.1))
            .map(|row| (row.1, row.2.clone()))
            .collect();
        expected.sort_by_key(|row| row.0);
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = store.query_raw(&[info.id], from, to, cursor, 7).unwrap();
            for column in page.series {
                let value = |word: &f64| {
                    let (value, quality) = column.boxes.value(*word, info.kind);
                    Given(value, quality)
                };
                found.extend(column.times.iter().copied().zip(column.values.iter().map(value)));
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let shown = |rows: &[(i64, Given)]| rows.iter().map(|row| (row.0, row.1.shown())).collect::<Vec<_>>();
        assert_eq!(shown(&found), shown(&expected));
        for buckets_max in [3, 12, 200] {
            let answer = store.query_buckets(&[info.id], from, to, buckets_max).unwrap();
            check_figures(store, info.id, &arrived, no, (from, to), buckets_max);
            let (column, width) = (&answer.series[0], answer.width_ns.unwrap());
            assert!(column.t_ns.len() <= buckets_max);
            let mut groups: std::collections::BTreeMap<i64, Vec<f64>> = Default::default();
            for (time, number) in expected.iter().filter_map(|row| Some((row.0, row.1.number()?))) {
                groups.entry(time.div_euclid(width) * width).or_default().push(number);
            }
            assert_eq!(column.t_ns, groups.keys().copied().collect::<Vec<_>>());
            for (at, values) in groups.values().enumerate() {
                assert_eq!(column.count[at], values.len() as u64);
                assert_eq!(column.min[at], values.iter().copied().fold(f64::INFINITY, f64::min));
                assert_eq!(column.max[at], values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                assert_eq!(column.last[at], *values.last().unwrap());
                assert_eq!(column.mean[at], values.iter().sum::<f64>() / values.len() as f64);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queries_equal_the_model_whatever_is_repeated_flushed_or_reopened(
        actions in prop::collection::vec(action(), 1..14),
        from in -320_i64..320, len in 1_i64..640, revised: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = ready_as(dir.path(), revised);
        let mut sent: Vec<Rows> = Vec::new();
        for action in actions {
            match action {
                Action::Append(seqs) => {
                    let durable = run(store.append(batch(sent.len() as u64 + 1, &seqs))).unwrap();
                    prop_assert_eq!(durable.taken().len(), seqs.len() as u64);
                    sent.extend(seqs);
                }
                Action::Repeat(at, len) if !sent.is_empty() => {
                    let at = at % sent.len();
                    let end = (at + len).min(sent.len());
                    let durable = run(store.append(batch(at as u64 + 1, &sent[at..end]))).unwrap();
                    prop_assert!(durable.taken().is_empty());
                }
                Action::Repeat(..) => {}
                Action::Flush => store.flush().unwrap(),
                Action::Compact => store.compact().unwrap(),
                Action::Reopen => {
                    store.close().unwrap();
                    let (again, report) = open_as(dir.path(), revised);
                    prop_assert_eq!(report.quarantined, vec![]);
                    store = again;
                }
            }
            store.settle().unwrap();
            check(&store, &sent, (from * 1_000_000_000, (from + len) * 1_000_000_000), revised);
        }
        check(&store, &sent, (-10 * MINUTE, 10 * MINUTE), revised);
        let ledger = store.ledger(&agent());
        prop_assert_eq!(ledger[0].stored, sent.iter().map(Vec::len).sum::<usize>() as u64);
        prop_assert!(ledger[0].balanced);
        store.close().unwrap();
        prop_assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn a_torn_tail_costs_only_what_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(dir.path());
    run(store.append(batch(1, &[vec![(0, 1, 1.0.into())]]))).unwrap();
    run(store.append(batch(2, &[vec![(0, 2, 2.0.into())]]))).unwrap();
    store.close().unwrap();
    let newest = std::fs::read_dir(dir.path().join("log")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() - 3]).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.quarantined.len(), report.replayed_rows), (1, 1));
    let state = store.agent_state(&agent(), EPOCH);
    assert!(state.settled.stored.contains(1) && !state.settled.stored.contains(2));
    assert_eq!(run(store.append(batch(2, &[vec![(0, 2, 2.0.into())]]))).unwrap().taken().len(), 1);
    store.close().unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.quarantined.len(), report.replayed_rows), (0, 2));
    store.close().unwrap();
}

#[test]
fn a_gap_drops_only_what_the_store_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(dir.path());
    run(store.append(batch(2, &[vec![(0, 1, 1.0.into()), (1, 1, 1.0.into())]]))).unwrap();
    let mut rows = RowCounts::one(2);
    rows.push(2);
    rows.push(5);
    let gap = Gap { first: Seq::FIRST, rows, from_ns: 0, to_ns: 9, cause: DropCause::Quota };
    let settled = run(store.record_gap(agent(), EPOCH, None, gap)).unwrap();
    assert!(settled.stored.contains(2) && settled.dropped.contains(1) && settled.dropped.contains(3));
    for _ in 0..2 {
        let ledger = store.ledger(&agent()).remove(0);
        assert_eq!((ledger.stored, ledger.dropped, ledger.produced, ledger.balanced), (2, 7, 9, true));
        assert_eq!(ledger.gaps.len(), 2);
        store.flush().unwrap();
    }
    store.close().unwrap();
    let (store, _) = open(dir.path());
    let ledger = store.ledger(&agent()).remove(0);
    assert_eq!((ledger.dropped, ledger.dropped_by), (7, vec![(DropCause::Quota, 7)]));
    let gap = |seq, cause| Gap { first: Seq::new(seq), rows: RowCounts::one(4), from_ns: 0, to_ns: 9, cause };
    // What was dropped before is not counted again, whatever the cause that it comes with.
    for (seq, cause) in [(3, DropCause::Expired), (4, DropCause::Expired), (5, DropCause::Quota)] {
        run(store.record_gap(agent(), EPOCH, None, gap(seq, cause))).unwrap();
    }
    store.close().unwrap();
    let (store, _) = open(dir.path());
    let ledger = store.ledger(&agent()).remove(0);
    let causes = vec![(DropCause::Quota, 11), (DropCause::Expired, 4)];
    assert_eq!((ledger.dropped, ledger.dropped_by), (15, causes));
    store.close().unwrap();
}

#[test]
fn a_block_that_cannot_be_decoded_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(dir.path());
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::FIRST,
        rows: RowCounts::one(4),
        series_end: 1,
        restamps: vec![],
    };
    let bad = Batch::received(agent(), Run { envelope, block: vec![1, 2, 3] }).validate(SERIES).unwrap();
    run(store.append(bad)).unwrap();
    store.settle().unwrap();
    store.settle().unwrap();
    let ledger = store.ledger(&agent()).remove(0);
    assert_eq!((ledger.stored, ledger.refused, ledger.balanced), (0, 4, true));
    assert_eq!(std::fs::read_dir(dir.path().join("dead")).unwrap().count(), 1);
    store.flush().unwrap();
    store.close().unwrap();
    let (store, _) = open(dir.path());
    assert_eq!(store.ledger(&agent()).remove(0).refused, 4);
    assert!(store.agent_state(&agent(), EPOCH).settled.refused.contains(1));
    store.close().unwrap();
}

#[test]
fn a_flipped_file_is_put_aside_and_its_seqs_are_wanted_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(dir.path());
    run(store.append(batch(1, &[vec![(0, 1, 1.0.into())], vec![(1, 5, 2.0.into())]]))).unwrap();
    store.flush().unwrap();
    store.close().unwrap();
    let path = dir.path().join("sealed/00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.quarantined.len(), 2);
    let ledger = store.ledger(&agent()).remove(0);
    assert_eq!((ledger.stored, ledger.lost, ledger.balanced), (0, 2, true));
    assert_eq!(
        run(store.append(batch(1, &[vec![(0, 1, 1.0.into())], vec![(1, 5, 2.0.into())]])))
            .unwrap()
            .taken()
            .len(),
        2
    );
    let ledger = store.ledger(&agent()).remove(0);
    assert_eq!((ledger.stored, ledger.lost, ledger.balanced), (2, 0, true));
    store.close().unwrap();
}

#[test]
fn dictionary_entries_may_repeat_and_may_not_conflict_or_leave_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(dir.path());
    assert_eq!(run(store.define_series(agent(), EPOCH, dictionary())).unwrap(), SERIES);
    let hole = Series { first: SERIES + 1, ..dictionary() };
    assert!(run(store.define_series(agent(), EPOCH, hole)).is_err());
    let mut other = dictionary();
    other.defs.reverse();
    assert!(run(store.define_series(agent(), EPOCH, other)).is_err());
    store.close().unwrap();
}
