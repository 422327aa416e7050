//! Sealed files become fewer, and nothing else changes: whatever is killed, damaged or asked meanwhile.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tideline_protocol::ranges::RangeSet;

use super::rig::*;
use crate::retention::Retention;
use crate::store::Store;
use crate::store::compact::plan;
use crate::tables::read;
use crate::{StoreError, verify};

/// Rows of a seq: late ones, equal times and several minutes among them.
fn rows_of(seq: u64) -> Vec<Row> {
    let at = |n: i64| (seq as i64 * 7 % 11) * 40_000_000_000 + n * 20_000_000_000;
    (0..9).map(|n| (n % SERIES, at(i64::from(n) / 3), (seq * 10) as f64 + f64::from(n) / 4.0)).collect()
}

fn all(last: u64) -> Vec<Row> {
    (1..=last).flat_map(rows_of).collect()
}

/// A store with a sealed file for each seq.
fn filled(dir: &Path, last: u64) -> Store {
    let store = ready(config(dir));
    for seq in 1..=last {
        append(&store, seq, &[rows_of(seq)]);
        store.flush().unwrap();
    }
    store
}

fn files(store: &Store) -> Vec<u64> {
    read(&store.inner.shared.tables).files.iter().map(|file| file.number).collect()
}

fn on_disk(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("sealed"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn digests(store: &Store, last: u64) -> Vec<u64> {
    let never = AtomicBool::new(false);
    let (settled, digests) = store.audit(&agent("a"), EPOCH, (&RangeSet::of(1, last), 1), &never).unwrap();
    assert_eq!(settled.stored, RangeSet::of(1, last));
    digests.iter().map(|digest| digest.rows).collect()
}

#[test]
fn many_files_become_one_and_hold_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 23);
    let never = AtomicBool::new(false);
    let audit = || store.audit(&agent("a"), EPOCH, (&RangeSet::of(1, 23), 5), &never).unwrap();
    let (before, buckets) = (audit(), store.query_buckets(&[0, 1, 2], 0, 600_000_000_000, 20).unwrap());
    assert_eq!(files(&store).len(), 23);
    store.compact().unwrap();
    assert_eq!((files(&store), store.metrics().compactions), (vec![24], 1));
    assert_eq!(on_disk(dir.path()), ["00000024.roll", "00000024.seg"]);
    assert_eq!((audit(), digests(&store, 23)), (before, vec![9; 23]));
    assert_eq!(store.query_buckets(&[0, 1, 2], 0, 600_000_000_000, 20).unwrap(), buckets);
    assert_eq!(all_rows(&store), expected(&all(23)));
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, report.sealed_files, report.sealed_rows), (vec![], 1, 9 * 23));
    assert_eq!(all_rows(&store), expected(&all(23)));
    assert_eq!(append(&store, 1, &[rows_of(1)]), 0, "what it held is known");
    for seq in 24..=26 {
        append(&store, seq, &[rows_of(seq)]);
        store.flush().unwrap();
    }
    store.compact().unwrap();
    assert_eq!((files(&store).len(), all_rows(&store)), (1, expected(&all(26))));
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_kill_between_any_two_steps_leaves_one_or_the_other() {
    let [dir, before, after] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let store = filled(dir.path(), 5);
    store.inner.manifest.note_gone(&[6]).unwrap();
    copy(dir.path(), before.path());
    store.inner.manifest.forget_gone(&[6]).unwrap();
    store.compact().unwrap();
    assert_eq!(files(&store), [6]);
    store.inner.manifest.note_gone(&[1, 2, 3, 4, 5]).unwrap();
    copy(dir.path(), after.path());
    store.close().unwrap();
    let sealed = |from: &Path, to: &Path, name: &str| {
        fs::copy(from.join("sealed").join(name), to.join("sealed").join(name)).unwrap();
    };
    let case = |name: &str, from: &Path, files: usize, change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        copy(from, dir.path());
        change(dir.path());
        let (store, report) = open(config(dir.path()));
        assert_eq!((report.quarantined, report.sealed_files), (vec![], files), "{name}");
        assert_eq!(on_disk(dir.path()).len(), 2 * files, "{name}");
        assert_eq!((stored(&store), all_rows(&store)), (vec![(1, 5)], expected(&all(5))), "{name}");
        append(&store, 6, &[rows_of(6)]);
        store.flush().unwrap();
        store.compact().unwrap();
        assert_eq!(all_rows(&store), expected(&all(6)), "{name}");
        store.close().unwrap();
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new(), "{name}");
    };
    let (before, after) = (before.path(), after.path());
    case("its number is noted", before, 5, &|_| {});
    case("half a file", before, 5, &|dir| fs::write(dir.join("sealed/00000006.seg.tmp"), b"TLSEG").unwrap());
    case("one file in place", before, 5, &|dir| sealed(after, dir, "00000006.seg"));
    case("both in place", before, 5, &|dir| {
        sealed(after, dir, "00000006.seg");
        sealed(after, dir, "00000006.roll");
    });
    case("both in place, and those of a flush beside it", before, 5, &|dir| {
        sealed(after, dir, "00000006.seg");
        sealed(after, dir, "00000006.roll");
        fs::write(dir.join("sealed/00000007.seg"), b"TLSEG").unwrap();
        fs::write(dir.join("sealed/00000007.roll"), b"TLSEG").unwrap();
    });
    case("committed", after, 1, &|dir| {
        for name in on_disk(before) {
            sealed(before, dir, &name);
        }
    });
    case("some of the old ones removed", after, 1, &|dir| sealed(before, dir, "00000003.roll"));
    case("all removed", after, 1, &|_| {});
}

#[test]
fn a_damaged_file_is_wanted_again_and_the_others_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 9);
    let path = dir.path().join("sealed/00000003.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    store.compact().unwrap();
    assert_eq!(stored(&store), [(1, 2), (4, 9)]);
    assert_eq!(ledger(&store).lost, 9);
    assert_eq!(files(&store).len(), 1);
    assert_eq!(append(&store, 3, &[rows_of(3)]), 1);
    let others = (1..=9).filter(|seq| *seq != 3).chain([3]).flat_map(rows_of);
    assert_eq!(all_rows(&store), expected(&others.collect::<Vec<_>>()));
    store.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_replaced_file_stays_while_somebody_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 5);
    let reader = std::sync::Arc::clone(&read(&store.inner.shared.tables).files);
    store.compact().unwrap();
    assert_eq!((files(&store), on_disk(dir.path()).len()), (vec![6], 12));
    assert_eq!(store.inner.manifest.read().unwrap().gone, [1, 2, 3, 4, 5]);
    drop(reader);
    store.compact().unwrap();
    assert_eq!((on_disk(dir.path()).len(), store.inner.manifest.read().unwrap().gone), (2, vec![]));
    assert_eq!(all_rows(&store), expected(&all(5)));
    store.close().unwrap();
}

#[test]
fn a_merge_that_fails_leaves_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5).close().unwrap();
    let gate = Gate::new([]);
    let (store, _) = open_with(config(dir.path()), std::sync::Arc::clone(&gate) as _);
    gate.fail_merges(2);
    for _ in 0..2 {
        assert!(matches!(store.compact(), Err(StoreError::Io { .. })));
        assert_eq!((on_disk(dir.path()).len(), files(&store)), (10, vec![1, 2, 3, 4, 5]));
        assert_eq!(store.inner.manifest.read().unwrap().gone, Vec::<u64>::new());
    }
    store.compact().unwrap();
    assert_eq!((files(&store).len(), all_rows(&store)), (1, expected(&all(5))));
    store.close().unwrap();
}

#[test]
fn a_flush_that_fails_takes_the_same_number_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open_with(config(dir.path()), Gate::new([Step::Fail, Step::Panic]));
    define(&store, &agent("a"));
    append(&store, 1, &[rows_of(1)]);
    assert!(store.flush().is_err() && store.flush().is_err());
    store.flush().unwrap();
    assert_eq!((files(&store), on_disk(dir.path()).len()), (vec![1], 2));
    store.close().unwrap();
}

#[test]
fn who_asks_meanwhile_gets_all_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 12);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) || asked == 0 {
                assert_eq!(all_rows(&store), expected(&all(12)));
                asked += 1;
            }
        });
        store.compact().unwrap();
        done.store(true, Ordering::Relaxed);
        asked.join().unwrap();
    });
    assert_eq!((files(&store).len(), ledger(&store).lost), (1, 0));
    store.close().unwrap();
}

#[test]
fn files_of_one_size_are_merged_when_they_are_four_and_large_ones_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), 1);
    let one = read(&store.inner.shared.tables).files[0].as_ref().clone();
    store.close().unwrap();
    let planned = |rows: &[u64]| {
        let files: Vec<_> = (1..)
            .zip(rows)
            .map(|(number, rows)| {
                std::sync::Arc::new(crate::manifest::FileEntry {
                    number,
                    order: number,
                    rows: *rows,
                    ..one.clone()
                })
            })
            .collect();
        plan(&files, &Retention::default())
            .map(|run| run.iter().map(|file| file.number).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    const M: u64 = 1024 * 1024;
    assert_eq!(planned(&[]), Vec::<u64>::new());
    assert_eq!(planned(&[9, 8, 700]), Vec::<u64>::new());
    assert_eq!(planned(&[9, 8, 700, 1]), vec![1, 2, 3, 4]);
    assert_eq!(planned(&[4 * M, 4 * M, 4 * M, 9, 8, 7]), Vec::<u64>::new());
    assert_eq!(planned(&[4 * M, 4 * M, 4 * M, 9, 8, 7, 6]), [4, 5, 6, 7], "small ones first");
    assert_eq!(planned(&[4 * M, 9, 4 * M, 8, 4 * M, 5 * M]), [1, 2, 3, 4, 5, 6], "small ones go along");
    assert_eq!(planned(&[64 * M, 64 * M, 64 * M, 64 * M, 64 * M]), Vec::<u64>::new());
    assert_eq!(planned(&[30 * M, 30 * M, 30 * M, 30 * M]), [1, 2], "as many as fit");
}
