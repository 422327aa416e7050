//! Entries of a dictionary that become other series.

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::wire::Series;

use super::rig::*;
use crate::{LogEntry, LogPlace, Store, StoreError};

fn renamed(first: u32) -> Series {
    let (device, point) = (DeviceId::parse("b").unwrap(), PointId::parse("other").unwrap());
    Series { first, defs: vec![SeriesDef::new(device, point, "Cel".to_owned())] }
}

fn times(store: &Store, series: &str) -> Vec<i64> {
    all_rows(store).into_iter().filter(|row| row.0 == series).map(|row| row.1).collect()
}

#[test]
fn what_comes_after_a_rename_is_the_other_series_also_after_kills_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = ready(config(&at("store")));
    let rows = |from: u64| -> Vec<Vec<Row>> {
        let time = i64::try_from(from).unwrap();
        vec![vec![(0, time, 1.0), (1, time, 2.0)], vec![(0, time + 1, 3.0)]]
    };
    append(&store, 1, &rows(1));
    store.flush().unwrap();
    append(&store, 3, &rows(3));
    store.settle().unwrap();
    wait(store.rename_series(agent("a"), EPOCH, vec![renamed(0)])).unwrap();
    append(&store, 5, &rows(5));
    assert_eq!((times(&store, "a/point-0"), times(&store, "b/other")), (vec![1, 2, 3, 4], vec![5, 6]));
    // Killed now: what is read again from the log is what it was when it came.
    copy(&at("store"), &at("killed"));
    let killed = open(config(&at("killed"))).0;
    assert_eq!((times(&killed, "a/point-0"), times(&killed, "b/other")), (vec![1, 2, 3, 4], vec![5, 6]));
    assert_eq!(times(&killed, "a/point-1"), [1, 3, 5]);
    // In the manifest as well, and the log is gone.
    store.flush().unwrap();
    drop(store);
    let store = open(config(&at("store"))).0;
    assert_eq!(append(&store, 5, &rows(5)), 0, "duplicates are known as before");
    append(&store, 7, &rows(7));
    assert_eq!((times(&store, "a/point-0"), times(&store, "b/other")), (vec![1, 2, 3, 4], vec![5, 6, 7, 8]));
    assert_eq!(ledger(&store).stored, 12);
}

/// The series of each batch of the log, as who reads it there is told them.
fn logged(store: &Store, from: LogPlace) -> Vec<Vec<String>> {
    let entries = store.read_log(from, 1 << 20).unwrap().entries.into_iter();
    let batches = entries.filter_map(|(entry, behind)| match entry {
        LogEntry::Batch { agent, taken, run } => Some((agent, behind, taken, run)),
        LogEntry::Dropped { .. } => None,
    });
    let names = batches.map(|(agent, behind, taken, run)| {
        let columns = store.named((&agent, behind), &run, &taken).unwrap();
        columns.iter().map(|column| format!("{}/{}", column.meta.device, column.meta.point)).collect()
    });
    names.collect()
}

#[test]
fn who_reads_the_log_is_told_each_series_as_it_was_when_its_batch_came() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = ready(config(&at("store")));
    let from = LogPlace::from(*store.log_end().borrow());
    let own = dictionary(&agent("a"));
    let first = |defs: &[SeriesDef]| vec![Series { first: 0, defs: defs.to_vec() }];
    append(&store, 1, &[vec![(0, 1, 1.0), (1, 1, 2.0)]]);
    wait(store.rename_series(agent("a"), EPOCH, vec![renamed(0)])).unwrap();
    append(&store, 2, &[vec![(0, 2, 1.0), (1, 2, 2.0)]]);
    wait(store.rename_series(agent("a"), EPOCH, first(&own.defs[..1]))).unwrap();
    append(&store, 3, &[vec![(0, 3, 1.0)]]);
    assert_eq!(store.renamings(), 2);
    let expected = [vec!["a/point-0", "a/point-1"], vec!["b/other", "a/point-1"], vec!["a/point-0"]];
    assert_eq!(logged(&store, from), expected);
    let ever: Vec<String> = store
        .dictionary(&agent("a"), EPOCH)
        .iter()
        .map(|meta| format!("{}/{}", meta.device, meta.point))
        .collect();
    assert!(
        ever.contains(&"b/other".to_owned()),
        "a job of it may have to read what came meanwhile: {ever:?}"
    );
    copy(&at("store"), &at("killed"));
    assert_eq!(logged(&open(config(&at("killed"))).0, from), expected);
}

#[test]
fn an_entry_that_is_not_known_cannot_be_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    for first in [SERIES, u32::MAX] {
        let error = wait(store.rename_series(agent("a"), EPOCH, vec![renamed(first)])).unwrap_err();
        assert!(matches!(error, StoreError::Series { .. }), "{error}");
        assert!(error.to_string().contains("only 3 are known"), "{error}");
    }
}
