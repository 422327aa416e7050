//! The process is killed between any two steps of a flush. What it leaves is put together from
//! copies of the folder before and after.

use std::fs;
use std::path::Path;

use super::rig::*;
use crate::verify;

fn rows_of(seq: u64) -> Vec<Row> {
    (0..6).map(|at| (at % SERIES, seq as i64 * 1_000 + i64::from(at), seq as f64)).collect()
}

fn rows(seqs: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    seqs.flat_map(rows_of).collect()
}

/// Replaces a folder, or a file, of a store by that of another one.
fn take(from: &Path, to: &Path, what: &str) {
    let (from, to) = (from.join(what), to.join(what));
    if from.is_dir() {
        fs::remove_dir_all(&to).unwrap();
        copy(&from, &to);
    } else {
        fs::copy(&from, &to).unwrap();
    }
}

/// The store opens with all rows up to `last` once, and goes on as if nothing had happened.
fn is_whole(dir: &Path, last: u64, case: &str) {
    let (store, report) = open(config(dir));
    assert_eq!(report.quarantined, vec![], "{case}");
    for again in [false, true] {
        assert_eq!(stored(&store), [(1, last)], "{case}");
        assert_eq!(all_rows(&store), expected(&rows(1..=last)), "{case}");
        let ledger = ledger(&store);
        assert_eq!((ledger.stored, ledger.balanced), (6 * last, true), "{case}");
        let sent: Vec<_> = (1..=last).map(rows_of).collect();
        assert_eq!(append(&store, 1, &sent), 0, "{case}");
        if !again {
            store.flush().unwrap();
        }
    }
    assert_eq!(append(&store, last + 1, &[rows_of(last + 1)]), 1, "{case}");
    store.close().unwrap();
    let (store, report) = open(config(dir));
    assert_eq!((report.quarantined, all_rows(&store)), (vec![], expected(&rows(1..=last + 1))), "{case}");
    store.flush().unwrap();
    store.close().unwrap();
    assert_eq!(verify(dir).unwrap().problems, Vec::<String>::new(), "{case}");
}

/// A store after two seqs are sealed and two are not, then after the flush of these; both killed.
fn before_and_after() -> (tempfile::TempDir, tempfile::TempDir) {
    let [dir, before, after] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let store = ready(config(dir.path()));
    append(&store, 1, &[rows_of(1), rows_of(2)]);
    store.flush().unwrap();
    append(&store, 3, &[rows_of(3), rows_of(4)]);
    store.settle().unwrap();
    copy(dir.path(), before.path());
    store.flush().unwrap();
    // The writer trims the log before it carries out what comes next.
    append(&store, 3, &[rows_of(3)]);
    copy(dir.path(), after.path());
    store.close().unwrap();
    (before, after)
}

fn segments(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_kill_between_any_two_steps_of_a_flush_neither_loses_nor_doubles() {
    let (before, after) = before_and_after();
    assert_eq!(segments(after.path()).len(), 1);
    let (raw, rollup) = ("sealed/00000002.seg", "sealed/00000002.roll");
    let case = |name: &str, damage: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        damage(dir.path());
        is_whole(dir.path(), 4, name);
    };
    let cut = |dir: &Path| {
        drop(
            segments(after.path())
                .iter()
                .map(|name| take(after.path(), dir, &format!("log/{name}")))
                .collect::<Vec<_>>(),
        )
    };
    let half = |dir: &Path, from: &str, to: &str| {
        let bytes = fs::read(after.path().join(from)).unwrap();
        fs::write(dir.join(to), &bytes[..bytes.len() / 2]).unwrap();
    };
    case("nothing done", &|_| {});
    case("log cut", &cut);
    case("file half written", &|dir| {
        cut(dir);
        half(dir, raw, "sealed/00000002.tmp");
    });
    case("file written, rollup half", &|dir| {
        cut(dir);
        fs::copy(after.path().join(raw), dir.join("sealed/00000002.tmp")).unwrap();
        half(dir, rollup, "sealed/00000002.1m.tmp");
    });
    case("file renamed, rollup not", &|dir| {
        cut(dir);
        take(after.path(), dir, raw);
        fs::copy(after.path().join(rollup), dir.join("sealed/00000002.1m.tmp")).unwrap();
    });
    case("file torn by a power cut", &|dir| {
        cut(dir);
        half(dir, raw, raw);
        fs::write(dir.join(rollup), b"").unwrap();
    });
    case("both renamed", &|dir| {
        cut(dir);
        take(after.path(), dir, "sealed");
    });
    case("manifest committed", &|dir| {
        cut(dir);
        take(after.path(), dir, "sealed");
        take(after.path(), dir, "manifest.redb");
    });
    case("log trimmed", &|dir| {
        ["sealed", "manifest.redb", "log"].iter().for_each(|what| take(after.path(), dir, what))
    });
}

#[test]
fn a_kill_while_a_file_is_written_keeps_what_came_meanwhile() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let gate = Gate::new([Step::Block]);
    let (store, _) = open_with(config(dir.path()), gate.clone());
    define(&store, &agent("a"));
    append(&store, 1, &[rows_of(1), rows_of(2)]);
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| store.flush());
        gate.wait_begun(1);
        append(&store, 3, &[rows_of(3)]);
        assert_eq!(all_rows(&store), expected(&rows(1..=3)));
        copy(dir.path(), killed.path());
        gate.open();
        flush.join().unwrap().unwrap();
    });
    store.close().unwrap();
    is_whole(killed.path(), 3, "while a file is written");
    is_whole(dir.path(), 3, "when it is written");
}

#[test]
fn a_dead_letter_that_was_not_recorded_before_a_kill_is_refused_at_the_start() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = ready(config(dir.path()));
    append(&store, 1, &[rows_of(1)]);
    store.settle().unwrap();
    let decoder_waits = crate::tables::write(&store.inner.shared.tables);
    wait(store.append(undecodable(&agent("a"), 2, 40))).unwrap();
    copy(dir.path(), killed.path());
    drop(decoder_waits);
    store.close().unwrap();
    for _ in 0..2 {
        let (store, _) = open(config(killed.path()));
        let ledger = ledger(&store);
        assert_eq!((ledger.stored, ledger.refused, ledger.balanced), (6, 40, true));
        assert_eq!(all_rows(&store), expected(&rows(1..=1)));
        store.close().unwrap();
    }
}
