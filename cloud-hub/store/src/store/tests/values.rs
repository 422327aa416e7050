//! Readings at the edges of their types: they must come back bit for bit, whatever is made of them.

use super::rig::*;
use crate::buckets::MINUTE_NS;
use crate::store::Store;
use crate::verify;

const DAY: i64 = 1440 * MINUTE_NS;
const TIMES: [i64; 14] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MIN + MINUTE_NS,
    -DAY * 365 * 100,
    -MINUTE_NS,
    -1,
    0,
    1,
    MINUTE_NS,
    1_763_719_200_000_000_000,
    1_763_719_200_000_000_000,
    i64::MAX - MINUTE_NS,
    i64::MAX - 1,
    i64::MAX,
];

fn values() -> Vec<f64> {
    vec![
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::from_bits(0xffff_1234_5678_9abc),
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::MAX,
        f64::MIN,
        0.1,
        23.45,
    ]
}

/// Every value at every time, so that equal times are there as well; one batch for each value.
fn everything() -> Vec<Vec<Row>> {
    values().into_iter().map(|value| TIMES.iter().map(|time| (0, *time, value)).collect()).collect()
}

/// No answer panics, no reading is in two buckets or in none.
fn ask_everything(store: &Store, rows: u64) {
    let ranges = [(i64::MIN, i64::MAX), (i64::MIN, 0), (0, i64::MAX), (-DAY, DAY), (i64::MAX - 5, i64::MAX)];
    for (from, to) in ranges {
        let raw = store.query_raw(&[0], from, to, None, usize::MAX).unwrap();
        let numbers = raw.series.iter().flat_map(|c| &c.values).filter(|value| !value.is_nan()).count();
        for buckets_max in [2, 5, 500, 100_000] {
            let answer = store.query_buckets(&[0], from, to, buckets_max).unwrap();
            let column = &answer.series[0];
            assert_eq!(column.count.iter().sum::<u64>(), numbers as u64, "{from}..{to} in {buckets_max}");
            assert!(column.t_ns.len() <= buckets_max.max(4), "{from}..{to} in {buckets_max}");
            assert!(column.t_ns.is_sorted());
        }
    }
    let all = store.query_raw(&[0], i64::MIN, i64::MAX, None, usize::MAX).unwrap();
    assert_eq!(all.series[0].times.len() as u64, rows);
}

#[test]
fn extreme_values_and_times_come_back_bit_for_bit_from_memory_file_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let sent = everything();
    let count = (values().len() * TIMES.len()) as u64;
    // One by one, so that each value stands in a block of its own; then all in one block.
    for (seq, rows) in (1..).zip(&sent) {
        assert_eq!(append(&store, seq, std::slice::from_ref(rows)), 1);
    }
    let all = expected(sent.iter().flatten());
    assert_eq!(all_rows(&store), all);
    ask_everything(&store, count);
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!(all_rows(&store), all, "from the log");
    store.flush().unwrap();
    assert_eq!(all_rows(&store), all, "from a file");
    ask_everything(&store, count);
    assert_eq!(append(&store, 1 + sent.len() as u64, &sent), sent.len() as u64);
    let twice = expected(sent.iter().flatten().chain(sent.iter().flatten()));
    assert_eq!(all_rows(&store), twice, "from a file and from memory");
    ask_everything(&store, 2 * count);
    store.flush().unwrap();
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, all_rows(&store)), (vec![], twice));
    ask_everything(&store, 2 * count);
    store.close().unwrap();
}

/// Count, min, max, mean and last of the only bucket, as bits but for NaN.
type Found = Option<(u64, [Option<u64>; 4])>;

fn bucket(store: &Store, buckets_max: usize) -> Found {
    let answer = store.query_buckets(&[0], 0, 10 * MINUTE_NS, buckets_max).unwrap();
    let column = &answer.series[0];
    assert!(column.count.len() < 2);
    let bits = |value: f64| (!value.is_nan()).then(|| value.to_bits());
    let of = |count: &u64| (*count, [column.min[0], column.max[0], column.mean[0], column.last[0]].map(bits));
    column.count.first().map(of)
}

#[test]
fn buckets_treat_nan_and_infinity_alike_in_memory_raw_files_and_rollups() {
    let (inf, nan, some) = (f64::INFINITY, f64::NAN, |value: f64| Some(value.to_bits()));
    let cases: [(&[f64], Found); 6] = [
        (&[1.0, nan, 3.0], Some((2, [some(1.0), some(3.0), some(2.0), some(3.0)]))),
        (&[nan, 2.0], Some((1, [some(2.0); 4]))),
        (&[2.0, nan], Some((1, [some(2.0); 4]))),
        (&[nan, nan], None),
        (&[1.0, inf], Some((2, [some(1.0), some(inf), some(inf), some(inf)]))),
        (&[-inf, inf], Some((2, [some(-inf), some(inf), None, some(inf)]))),
    ];
    for (values, found) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = ready(config(dir.path()));
        append(&store, 1, &[values.iter().zip(1..).map(|(value, at)| (0, at, *value)).collect()]);
        store.settle().unwrap();
        for place in ["memory", "files"] {
            // Of a minute and more the rollup answers, of less the readings.
            for buckets_max in [10, 2, 100_000] {
                assert_eq!(bucket(&store, buckets_max), found, "{values:?} in {buckets_max} from {place}");
            }
            store.flush().unwrap();
        }
        store.close().unwrap();
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn verify_allows_sums_in_another_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let cancelling = [1e17, 1.0, -1e17, 0.25, 1e308, 1e308, -1e308];
    let rows = |no: u32, of: usize| {
        let values = cancelling[..of].iter().cycle();
        (0..700).zip(values).map(|(time, value)| (no, time, *value)).collect()
    };
    append(&store, 1, &[rows(0, 7), rows(1, 4)]);
    store.flush().unwrap();
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn the_first_and_the_last_time_there_are_stand_in_buckets_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[vec![(0, i64::MIN, 1.0), (0, i64::MAX, 2.0), (0, i64::MIN + 1, 3.0)]]);
    store.settle().unwrap();
    for _ in ["memory", "files"] {
        let answer = store.query_buckets(&[0], i64::MIN, i64::MAX, 500).unwrap();
        let column = &answer.series[0];
        assert_eq!((&column.count, &column.last), (&vec![2, 1], &vec![3.0, 2.0]));
        assert_eq!(column.t_ns[0], i64::MIN);
        store.flush().unwrap();
    }
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn late_readings_are_counted_for_good() {
    const MINUTE: i64 = 60_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let late = |store: &Store| {
        store.settle().unwrap();
        store.devices().into_values().map(|info| (info.readings, info.late)).collect::<Vec<_>>()
    };
    append(&store, 1, &[vec![(0, 10 * MINUTE, 1.0), (1, MINUTE, 1.0)]]);
    append(&store, 2, &[vec![(0, MINUTE, 1.0), (0, 10 * MINUTE - 1, 1.0), (0, 10 * MINUTE + 5, 1.0)]]);
    assert_eq!(late(&store), [(5, 2)]);
    store.flush().unwrap();
    // In a file, then again in memory behind it, then from the log.
    append(&store, 3, &[vec![(0, 2 * MINUTE, 1.0), (1, 2 * MINUTE, 1.0)]]);
    assert_eq!(late(&store), [(7, 3)]);
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!(late(&store), [(7, 3)]);
    store.flush().unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!(late(&store), [(7, 3)]);
    store.close().unwrap();
}
