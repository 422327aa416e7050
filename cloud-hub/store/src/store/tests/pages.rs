//! Pages of raw rows, and what queries read of files.

use std::sync::Arc;

use super::rig::*;
use crate::buckets::MINUTE_NS;
use crate::{RawCursor, SeriesId, Store};

fn rows_at(times: impl IntoIterator<Item = i64>, value: f64) -> Vec<Row> {
    times.into_iter().map(|time| (0, time, value)).collect()
}

/// One page as (series, time, value), and where the next begins.
fn page(
    store: &Store,
    series: &[SeriesId],
    after: Option<RawCursor>,
    limit: usize,
) -> (Vec<Row>, Option<RawCursor>) {
    let page = store.query_raw(series, i64::MIN, i64::MAX, after, limit).unwrap();
    let rows = page.series.into_iter().flat_map(|column| {
        let rows = column.times.into_iter().zip(column.values);
        rows.map(move |(time, value)| (column.id, time, value)).collect::<Vec<_>>()
    });
    (rows.collect(), page.next)
}

/// All pages from one on.
fn rest(store: &Store, series: &[SeriesId], mut after: Option<RawCursor>, limit: usize) -> Vec<Row> {
    let mut out = Vec::new();
    while let Some(at) = after {
        let (rows, next) = page(store, series, Some(at), limit);
        assert!(rows.len() == limit || next.is_none());
        out.extend(rows);
        // As it goes through a client.
        after = next.map(|next| next.to_string().parse().unwrap());
    }
    out
}

#[test]
fn readings_that_arrive_late_between_two_pages_repeat_and_hide_nothing() {
    for flush in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = ready(config(dir.path()));
        append(&store, 1, &[rows_at(1_000..1_500, 1.0)]);
        store.settle().unwrap();
        let (first, next) = page(&store, &[0], None, 300);
        append(&store, 2, &[rows_at(0..100, 2.0), rows_at(1_450..1_460, 3.0)]);
        store.settle().unwrap();
        if flush {
            store.flush().unwrap();
        }
        let mut found = first;
        found.extend(rest(&store, &[0], next, 300));
        let mut expected = rows_at(1_000..1_500, 1.0);
        expected.extend(rows_at(1_450..1_460, 3.0));
        expected.sort_by_key(|row| row.1);
        assert_eq!(found, expected);
        store.close().unwrap();
    }
}

#[test]
fn equal_times_are_paged_through_while_more_of_them_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let values = |from: i32, to: i32| (from..to).map(|value| (0, 7, f64::from(value))).collect::<Vec<Row>>();
    append(&store, 1, &[values(0, 10)]);
    store.flush().unwrap();
    append(&store, 2, &[values(10, 15)]);
    store.settle().unwrap();
    let (mut found, mut next) = page(&store, &[0], None, 4);
    let mut more = 15;
    while let Some(at) = next {
        if more < 18 {
            append(&store, u64::try_from(more).unwrap(), &[values(more, more + 1)]);
            store.flush().unwrap();
            more += 1;
        }
        let (rows, after) = page(&store, &[0], Some(at), 4);
        found.extend(rows);
        next = after;
    }
    assert_eq!(found, values(0, 18));
    store.close().unwrap();
}

#[test]
fn pages_of_any_size_give_the_same_rows_of_several_series_files_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    for seq in 1..=4_i64 {
        let rows = (0..9).map(|at| ((at % SERIES), (seq * 5 + i64::from(at)) % 13, seq as f64));
        append(&store, u64::try_from(seq).unwrap(), &[rows.collect()]);
        if seq < 4 {
            store.flush().unwrap();
        }
    }
    store.settle().unwrap();
    let (whole, next) = page(&store, &[2, 0, 1], None, usize::MAX);
    assert_eq!((whole.len(), next), (36, None));
    for limit in 1..=37 {
        let (mut found, next) = page(&store, &[2, 0, 1], None, limit);
        found.extend(rest(&store, &[2, 0, 1], next, limit));
        assert_eq!(found, whole, "{limit} a page");
    }
    let (none, next) = page(&store, &[2], None, 0);
    assert_eq!((none.len(), rest(&store, &[2], next, 12).len()), (0, 12));
    store.close().unwrap();
}

#[test]
fn a_page_reads_no_more_of_a_long_series_than_it_gives() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new([]);
    let store = open_with(config(dir.path()), Arc::clone(&gate) as _).0;
    define(&store, &agent("a"));
    let long = 5 * crate::segment::BLOCK_ROWS as i64;
    let rows: Vec<Vec<Row>> =
        (0..long / 10_000).map(|part| rows_at(part * 10_000..(part + 1) * 10_000, 1.0)).collect();
    append(&store, 1, &rows);
    store.flush().unwrap();
    let (found, next) = page(&store, &[0], None, 100);
    assert_eq!((found.len(), gate.reads()), (100, (1, 0)));
    let (found, _) = page(&store, &[0], next, 100);
    // The directory says where a block begins, and the block is kept.
    assert_eq!((found[0].1, gate.reads()), (100, (1, 0)));
    let page = store.query_raw(&[0], 35_000, i64::MAX, None, 100).unwrap();
    assert_eq!(page.series[0].times[0], 35_000);
    assert_eq!(gate.reads(), (2, 0));
    store.close().unwrap();
}

#[test]
fn each_series_costs_one_read_of_its_rollup_and_one_of_its_cut_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new([]);
    let store = open_with(config(dir.path()), Arc::clone(&gate) as _).0;
    define(&store, &agent("a"));
    let minutes: Vec<Vec<Row>> = (0..50)
        .map(|minute| (0..90).map(|at| (at % SERIES, minute * MINUTE_NS + i64::from(at), 1.0)).collect())
        .collect();
    append(&store, 1, &minutes);
    store.flush().unwrap();
    for again in [false, true] {
        let answer = store.query_buckets(&[0, 1, 2], 5, 50 * MINUTE_NS - 5, 51).unwrap();
        assert_eq!(answer.width_ns, Some(MINUTE_NS));
        let counts: Vec<u64> = answer.series.iter().map(|column| column.count.iter().sum()).collect();
        assert_eq!(counts, [1498, 1498, 1499]);
        assert_eq!(gate.reads(), (3, 3), "asked again: {again}");
    }
    store.close().unwrap();
}

#[test]
fn a_range_that_cuts_no_reading_reads_none() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new([]);
    let store = open_with(config(dir.path()), Arc::clone(&gate) as _).0;
    define(&store, &agent("a"));
    let minutes: Vec<Vec<Row>> = (0..50)
        .map(|minute| (0..90).map(|at| (at % SERIES, minute * MINUTE_NS + 7 + i64::from(at), 1.0)).collect())
        .collect();
    append(&store, 1, &minutes);
    store.flush().unwrap();
    // Both ends lie within a minute that has readings, and none of these is outside.
    let range = (5, 49 * MINUTE_NS + 500);
    let answer = store.query_buckets(&[0, 1, 2], range.0, range.1, 60).unwrap();
    let counts: Vec<u64> = answer.series.iter().map(|column| column.count.iter().sum()).collect();
    assert_eq!((counts, gate.reads()), (vec![1500; 3], (0, 3)));
    let answer = store.query_buckets(&[0], range.0 + 3, range.1, 60).unwrap();
    assert_eq!((answer.series[0].count.iter().sum::<u64>(), gate.reads()), (1499, (1, 3)));
    store.close().unwrap();
}
