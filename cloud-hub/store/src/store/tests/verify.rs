//! A check finds what is wrong, says where, and changes nothing.

use std::fs;
use std::path::Path;

use tideline_protocol::ranges::RangeSet;

use super::rig::*;
use crate::files::RealFiles;
use crate::manifest::{Change, Manifest};
use crate::{Verification, snapshot, verify};

fn row(seq: u64) -> Vec<Row> {
    vec![(0, seq as i64 * 1_000, seq as f64)]
}

/// Two seqs in a sealed file, two in the log.
fn filled(dir: &Path) {
    let store = ready(config(dir));
    append(&store, 1, &[row(1), row(2)]);
    store.flush().unwrap();
    append(&store, 3, &[row(3)]);
    append(&store, 4, &[row(4)]);
    store.settle().unwrap();
    store.close().unwrap();
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let mut paths: Vec<_> =
        fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.pop().unwrap()
}

fn has(list: &[String], part: &str) {
    assert!(list.iter().any(|text| text.contains(part)), "{part:?} is not in {list:?}");
}

#[test]
fn a_good_store_is_read_whole_also_while_it_is_open() {
    let [dir, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    filled(dir.path());
    let good = Verification { files: 1, rows: 2, log_records: 2, log_rows: 2, ..Verification::default() };
    assert_eq!(verify(dir.path()).unwrap(), good);
    assert_eq!(verify(dir.path()).unwrap(), good, "it has changed nothing");
    snapshot(dir.path(), &to.path().join("closed")).unwrap();
    assert_eq!(verify(&to.path().join("closed")).unwrap(), good);
    let (store, _) = open(config(dir.path()));
    append(&store, 5, &[row(5)]);
    store.snapshot(&to.path().join("open")).unwrap();
    append(&store, 6, &[row(6)]);
    store.flush().unwrap();
    let found = verify(&to.path().join("open")).unwrap();
    assert_eq!((found.rows, found.log_rows, found.problems), (2, 3, vec![]));
    let (copy, report) = open(config(&to.path().join("open")));
    assert_eq!((stored(&copy), report.quarantined), (vec![(1, 5)], vec![]));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let check = |damage: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        damage(dir.path());
        verify(dir.path()).unwrap()
    };
    for (name, said) in [("00000001.seg", "its readings"), ("00000001.roll", "its rollup")] {
        let found = check(&|dir| flip(&dir.join("sealed").join(name), 40));
        has(&found.problems, &format!("sealed file 00000001: {said}: its checksum does not match"));
        let found = check(&|dir| fs::remove_file(dir.join("sealed").join(name)).unwrap());
        has(&found.problems, "No such file");
    }
    let found = check(&|dir| flip(&newest_segment(dir), 30));
    has(&found.problems, "the checksum of a record does not match");
    let found = check(&|dir| {
        let path = newest_segment(dir);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    });
    assert_eq!((found.problems, found.log_rows), (vec![], 1));
    has(&found.notes, "torn");
    let found = check(&|dir| fs::write(dir.join("dead/some.run"), "x").unwrap());
    has(&found.problems, "dead letter some.run");
    let found = check(&|dir| fs::write(dir.join("sealed/00000007.tmp"), "x").unwrap());
    has(&found.notes, "is not listed");
}

#[test]
fn ranges_that_are_not_those_of_the_rows_are_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (manifest, mut contents) = Manifest::open(&RealFiles, &dir.path().join("manifest.redb")).unwrap();
    let state = contents.checkpoint.ledgers.epoch_mut(&agent("a"), EPOCH);
    let five = batch(&agent("a"), 9, &[(0..5).map(|_| (0, 9, 9.0)).collect()]);
    state.store(&five.run().envelope, &RangeSet::of(9, 9));
    let mut file = contents.files[0].clone();
    file.holdings.clear();
    let checkpoint = &contents.checkpoint;
    manifest.commit(&Change { checkpoint: Some(checkpoint), added: &[file], ..Change::default() }).unwrap();
    drop(manifest);
    let problems = verify(dir.path()).unwrap().problems;
    has(&problems, "sealed file 00000001 has 2 rows, its ranges are of 0");
    has(&problems, "seqs 1–2, 9–9 are acknowledged and nowhere");
    has(&problems, "9 rows are acknowledged, 2 are held");
}
