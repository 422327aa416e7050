//! Files that were damaged while the store was closed, or while it was open. The rule for all: the
//! store opens, it holds exactly the rows of the seqs that it claims, it says what is missing, and
//! what the agents send again makes it whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tideline_protocol::model::Epoch;

use super::rig::*;
use crate::log::lock;
use crate::store::{OpenReport, Store};
use crate::tables::write;
use crate::{StoreConfig, verify};

const SEQS: u64 = 7;
const KINDS: [Damage; 7] = [
    Damage::Flip(0),
    Damage::Flip(500),
    Damage::Flip(999),
    Damage::Empty,
    Damage::Half,
    Damage::Absent,
    Damage::Noise,
];

#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One bit, so many thousandths into the file.
    Flip(usize),
    Empty,
    Half,
    Absent,
    /// The right length, and nothing of what was written.
    Noise,
}

fn damage(path: &Path, kind: Damage) {
    let mut bytes = fs::read(path).unwrap();
    match kind {
        Damage::Flip(at) => {
            let at = (bytes.len() * at / 1000).min(bytes.len() - 1);
            bytes[at] ^= 0x10;
        }
        Damage::Empty => bytes.clear(),
        Damage::Half => bytes.truncate(bytes.len() / 2),
        Damage::Absent => return fs::remove_file(path).unwrap(),
        Damage::Noise => bytes.iter_mut().zip((0_u8..=255).cycle()).for_each(|(byte, noise)| *byte = noise),
    }
    fs::write(path, bytes).unwrap();
}

/// The rows of a seq: over several minutes and series.
fn rows_of(seq: u64) -> Vec<Row> {
    let start = seq as i64 * 100_000_000_000;
    (0..12_u32)
        .map(|at| (at % SERIES, start + i64::from(at) * 20_000_000_000, (seq * 100) as f64 + f64::from(at)))
        .collect()
}

fn rows(seqs: impl IntoIterator<Item = u64>) -> Vec<Row> {
    seqs.into_iter().flat_map(rows_of).collect()
}

/// Seqs 1 and 2 in the first file, 3 and 4 in the second, 5 to 7 in the log.
fn filled(dir: &Path) {
    let store = ready(config(dir));
    for seqs in [1..=2, 3..=4, 5..=SEQS] {
        seqs.for_each(|seq| assert_eq!(append(&store, seq, &[rows_of(seq)]), 1));
        store.settle().unwrap();
        if store.metrics().hot_rows < 30 {
            store.flush().unwrap();
        }
    }
    assert_eq!(store.metrics().sealed_files, 2);
    store.close().unwrap();
}

fn sealed(dir: &Path, name: &str) -> PathBuf {
    dir.join("sealed").join(name)
}

fn newest_segment(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

fn claimed(store: &Store) -> Vec<u64> {
    stored(store).into_iter().flat_map(|(lo, hi)| lo..=hi).collect()
}

/// Checks the rule above, up to the reopened store.
fn heals(store: Store, dir: &Path, case: &str) {
    let held = claimed(&store);
    assert_eq!(all_rows(&store), expected(&rows(held.clone())), "{case}: it holds what it claims");
    for ledger in store.ledger(&agent("a")) {
        assert!(ledger.balanced, "{case}: {ledger:?}");
        assert_eq!(ledger.stored, 12 * held.len() as u64, "{case}");
    }
    // As an agent does after a new start: its dictionary, then what the hub lacks; here, all.
    define(&store, &agent("a"));
    let all: Vec<Vec<Row>> = (1..=SEQS).map(rows_of).collect();
    assert_eq!(append(&store, 1, &all), SEQS - held.len() as u64, "{case}: just the lost seqs are taken");
    assert_eq!(stored(&store), [(1, SEQS)], "{case}");
    assert_eq!(all_rows(&store), expected(&rows(1..=SEQS)), "{case}: whole again");
    let healed = ledger(&store);
    assert_eq!((healed.stored, healed.lost, healed.balanced), (12 * SEQS, 0, true), "{case}");
    store.flush().unwrap();
    store.close().unwrap();
    assert_eq!(verify(dir).unwrap().problems, Vec::<String>::new(), "{case}");
    let (store, report) = open(config(dir));
    assert_eq!(
        (report.quarantined, all_rows(&store)),
        (vec![], expected(&rows(1..=SEQS))),
        "{case}: reopened"
    );
    assert_eq!((stored(&store), ledger(&store).lost), (vec![(1, SEQS)], 0), "{case}: reopened");
    store.close().unwrap();
}

fn names(report: &OpenReport) -> Vec<&str> {
    report.quarantined.iter().map(|entry| entry.path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn readings_that_are_damaged_are_wanted_again_and_nothing_else_is() {
    for (number, left) in [(1, vec![3, 4, 5, 6, 7]), (2, vec![1, 2, 5, 6, 7])] {
        for kind in KINDS {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            damage(&sealed(dir.path(), &format!("0000000{number}.seg")), kind);
            let (store, report) = open(config(dir.path()));
            let both = [format!("0000000{number}.seg"), format!("0000000{number}.roll")];
            assert_eq!(names(&report), both, "{kind:?}");
            assert_eq!((claimed(&store), report.sealed_rows), (left.clone(), 24), "{kind:?}");
            let ledger = ledger(&store);
            assert_eq!((ledger.stored, ledger.lost, ledger.balanced), (60, 24, true), "{kind:?}");
            let kept = fs::read_dir(dir.path().join("quarantine")).unwrap().count();
            assert_eq!(kept, if matches!(kind, Damage::Absent) { 1 } else { 2 }, "{kind:?}");
            heals(store, dir.path(), &format!("file {number}, {kind:?}"));
        }
    }
}

#[test]
fn all_files_damaged_at_once_leave_the_log() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    damage(&sealed(dir.path(), "00000001.seg"), Damage::Empty);
    damage(&sealed(dir.path(), "00000002.seg"), Damage::Absent);
    damage(&sealed(dir.path(), "00000002.roll"), Damage::Flip(500));
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined.len(), claimed(&store)), (4, vec![5, 6, 7]));
    heals(store, dir.path(), "all files");
}

#[test]
fn a_damaged_rollup_is_computed_again_and_costs_no_reading() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let buckets = |store: &Store| store.query_buckets(&[0, 1, 2], 0, 900_000_000_000, 20).unwrap();
        let (store, _) = open(config(dir.path()));
        let before = buckets(&store);
        store.close().unwrap();
        let path = sealed(dir.path(), "00000001.roll");
        damage(&path, kind);
        let (store, report) = open(config(dir.path()));
        assert_eq!(names(&report), ["00000001.roll"], "{kind:?}");
        assert_eq!((claimed(&store), ledger(&store).lost), ((1..=SEQS).collect(), 0), "{kind:?}");
        assert_eq!(buckets(&store), before, "{kind:?}");
        store.close().unwrap();
        // It is not done again at each start.
        let (store, report) = open(config(dir.path()));
        assert_eq!((names(&report).len(), buckets(&store)), (0, before), "{kind:?}");
        heals(store, dir.path(), &format!("rollup, {kind:?}"));
    }
}

#[test]
fn a_damaged_manifest_claims_nothing_that_is_not_there() {
    let kinds = (0..50).map(|part| Damage::Flip(part * 20 + 3)).chain(KINDS);
    let mut losses = 0;
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    for kind in kinds {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        damage(&dir.path().join("manifest.redb"), kind);
        let (store, report) = open(config(dir.path()));
        if (claimed(&store).len() as u64) < SEQS {
            losses += 1;
            assert!(!report.quarantined.is_empty(), "{kind:?} is reported");
        }
        heals(store, dir.path(), &format!("manifest, {kind:?}"));
    }
    assert!(losses > KINDS.len() / 2, "{losses} manifests were found damaged");
}

#[test]
fn sealed_files_without_a_manifest_are_put_aside_and_not_deleted() {
    for kind in [Damage::Absent, Damage::Empty, Damage::Half] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let before = fs::read(sealed(dir.path(), "00000001.seg")).unwrap();
        damage(&dir.path().join("manifest.redb"), kind);
        let (store, report) = open(config(dir.path()));
        assert!(names(&report).contains(&"00000002.seg"), "{report:?}");
        assert_eq!(fs::read(dir.path().join("quarantine/00000001.seg")).unwrap(), before);
        heals(store, dir.path(), &format!("{kind:?}"));
    }
}

#[test]
fn a_store_in_use_or_of_another_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    append(&store, 1, &[rows_of(1)]);
    store.flush().unwrap();
    let clock = Arc::new(tideline_protocol::time::ManualClock::at(0));
    let refused = Store::open(config(dir.path()), clock).unwrap_err().to_string();
    assert!(refused.contains("already open"), "{refused}");
    assert_eq!(all_rows(&store), expected(&rows([1])));
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, claimed(&store)), (vec![], vec![1]));
    store.close().unwrap();
}

#[test]
fn a_damaged_log_segment_costs_at_most_what_stands_behind_the_damage() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        damage(&newest_segment(dir.path()), kind);
        let (store, report) = open(config(dir.path()));
        let held = claimed(&store);
        assert!(held.starts_with(&[1, 2, 3, 4]) && held.len() < 7, "{kind:?}: {held:?}");
        if !matches!(kind, Damage::Absent | Damage::Empty) {
            assert_eq!(report.quarantined.len(), 1, "{kind:?}");
            assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1, "{kind:?}");
        }
        heals(store, dir.path(), &format!("log, {kind:?}"));
    }
}

#[test]
fn every_cut_and_every_flipped_byte_of_the_log_is_survived() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    let name = newest_segment(original.path());
    let bytes = fs::read(&name).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 25) {
        for flip in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let mut bytes = bytes.clone();
            if flip {
                bytes[at] ^= 1;
            } else {
                bytes.truncate(at);
            }
            fs::write(dir.path().join("log").join(name.file_name().unwrap()), bytes).unwrap();
            let (store, _) = open(config(dir.path()));
            heals(store, dir.path(), &format!("byte {at} of the log, flipped: {flip}"));
        }
    }
}

#[test]
fn damage_in_the_middle_of_many_segments_costs_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let small = || StoreConfig { log_segment_bytes_max: 1, ..config(dir.path()) };
    let store = ready(small());
    (1..=SEQS).for_each(|seq| assert_eq!(append(&store, seq, &[rows_of(seq)]), 1));
    store.close().unwrap();
    let mut segments: Vec<_> =
        fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    damage(&segments[segments.len() / 2], Damage::Flip(600));
    let (store, report) = open(small());
    assert_eq!((report.quarantined.len(), claimed(&store).len()), (1, 6));
    heals(store, dir.path(), "a middle segment");
}

/// Queries compare the checksums of what they read, and the check in the background those of whole files; who
/// comes first makes no difference.
#[test]
fn damage_that_a_start_did_not_look_for_is_mended_while_the_store_is_open() {
    for (name, lost) in [("00000001.seg", vec![1, 2]), ("00000001.roll", vec![])] {
        for kind in KINDS {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            let lazy = StoreConfig { check_files_on_open: false, ..config(dir.path()) };
            let while_closed = matches!(kind, Damage::Flip(_) | Damage::Noise);
            if while_closed {
                damage(&sealed(dir.path(), name), kind);
            }
            let (store, report) = open(lazy);
            assert_eq!(report.quarantined, vec![], "a start compares lengths");
            let checked = || {
                while !lock(&store.inner.shared.unchecked).is_empty() {
                    std::thread::yield_now();
                }
            };
            if while_closed {
                // It may be in a part that is not asked for.
                store.query_buckets(&[0], 0, 900_000_000_000, 20).unwrap();
                checked();
            } else {
                checked();
                damage(&sealed(dir.path(), name), kind);
                lock(&store.inner.shared.unchecked).insert(1);
            }
            let buckets = store.query_buckets(&[0], 0, 900_000_000_000, 20).unwrap();
            let left = 7 - lost.len() as u64;
            assert_eq!(buckets.series[0].count.iter().sum::<u64>(), 4 * left, "{name}, {kind:?}");
            assert_eq!(claimed(&store), (1..=SEQS).filter(|seq| !lost.contains(seq)).collect::<Vec<_>>());
            assert_eq!(ledger(&store).lost, 12 * lost.len() as u64);
            assert_eq!(store.metrics().damaged_files, 1, "{name}, {kind:?}");
            heals(store, dir.path(), &format!("{name}, {kind:?}"));
        }
    }
}

#[test]
fn damage_found_while_a_flush_is_unfinished_is_not_undone_by_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open_with(config(dir.path()), Gate::new([Step::Fail]));
    assert!(store.flush().is_err());
    damage(&sealed(dir.path(), "00000001.seg"), Damage::Empty);
    store.query_raw(&[0], 0, i64::MAX, None, 1).unwrap();
    assert_eq!(all_rows(&store), expected(&rows(3..=SEQS)));
    store.flush().unwrap();
    assert_eq!(claimed(&store), [3, 4, 5, 6, 7]);
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined.len(), claimed(&store)), (0, vec![3, 4, 5, 6, 7]));
    heals(store, dir.path(), "damage beside a flush");
}

#[test]
fn the_background_check_finds_damage_that_no_query_meets() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open(config(dir.path()));
    damage(&sealed(dir.path(), "00000002.seg"), Damage::Flip(500));
    lock(&store.inner.shared.unchecked).extend([1, 2]);
    store.inner.check(1).unwrap();
    assert_eq!(claimed(&store).len(), 7);
    store.inner.check(2).unwrap();
    assert_eq!(claimed(&store), [1, 2, 5, 6, 7]);
    assert!(lock(&store.inner.shared.unchecked).is_empty());
    heals(store, dir.path(), "background check");
}

#[test]
fn what_was_refused_while_its_file_was_sealed_is_not_among_what_the_file_held() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let decoder_waits = write(&store.inner.shared.tables);
    let bad = undecodable(&agent("a"), 1, 40);
    wait(store.append(bad)).unwrap();
    append(&store, 2, &[rows_of(2)]);
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| store.flush());
        while lock(&store.inner.shared.ledgers).cut_holdings().is_empty() {
            std::thread::yield_now();
        }
        drop(decoder_waits);
        flush.join().unwrap().unwrap();
    });
    append(&store, 3, &[rows(3..=7)]);
    let before = ledger(&store);
    assert_eq!((before.stored, before.refused, before.balanced), (72, 40, true));
    store.close().unwrap();
    // One more start, so that the refusal stands in the manifest and not only in the log.
    let (store, _) = open(config(dir.path()));
    store.flush().unwrap();
    store.close().unwrap();
    damage(&sealed(dir.path(), "00000001.seg"), Damage::Flip(500));
    let (store, _) = open(config(dir.path()));
    let after = ledger(&store);
    assert_eq!((after.stored, after.refused, after.lost, after.balanced), (60, 40, 12, true));
    assert_eq!(append(&store, 1, &[rows_of(1), rows_of(2)]), 1);
    assert_eq!((ledger(&store).stored, ledger(&store).lost), (72, 0));
    store.close().unwrap();
}

#[test]
fn the_newest_unit_of_a_series_counts_after_a_start_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let newer = Epoch::from_bytes([1; 16]);
    assert!(newer < EPOCH, "the older epoch is read last");
    let mut series = dictionary(&agent("a"));
    series.defs.iter_mut().for_each(|def| def.unit = "K".to_owned());
    wait(store.define_series(agent("a"), newer, series)).unwrap();
    let units =
        |store: &Store| store.series(None).into_iter().map(|info| info.unit.to_string()).collect::<Vec<_>>();
    let ids =
        |store: &Store| store.series(None).into_iter().map(|info| (info.id, info.point)).collect::<Vec<_>>();
    let before = ids(&store);
    assert_eq!(units(&store), ["K", "K", "K"]);
    append(&store, 1, &[rows_of(1)]);
    store.flush().unwrap();
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!((units(&store), ids(&store)), (vec!["K".to_owned(); 3], before));
    store.close().unwrap();
}

#[test]
fn a_file_that_cannot_be_read_for_now_stays_listed_and_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = sealed(dir.path(), "00000001.seg");
    let aside = dir.path().join("kept.seg");
    // The system answers neither with bytes nor that there are none, as without a free descriptor.
    let unreadable = |yes: bool| {
        if yes {
            fs::rename(&raw, &aside).unwrap();
            std::os::unix::fs::symlink(&raw, &raw).unwrap();
        } else {
            fs::remove_file(&raw).unwrap();
            fs::rename(&aside, &raw).unwrap();
        }
    };
    let whole = (vec![(1, SEQS)], 0);
    let (store, _) = open(config(dir.path()));
    unreadable(true);
    let ids: Vec<_> = store.series(None).iter().map(|series| series.id).collect();
    let error = store.query_raw(&ids, i64::MIN, i64::MAX, None, 1000).unwrap_err();
    assert!(matches!(error, crate::StoreError::Io { .. }), "{error}");
    assert_eq!((stored(&store), ledger(&store).lost), whole, "the query failed and no more");
    store.close().unwrap();
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.quarantined, stored(&store), ledger(&store).lost), (vec![], whole.0.clone(), 0));
    unreadable(false);
    assert_eq!(all_rows(&store), expected(&rows(1..=SEQS)), "it can be read again");
    store.close().unwrap();
}
