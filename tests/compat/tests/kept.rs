//! What earlier versions wrote is read as it was.
//!
//! A version that changes a format keeps files of its own: `KEEP=store-4 cargo nextest run -p tideline-compat` writes
//! `kept/store-4.files` and what is to be read from them. What is kept is never written again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use tideline_compat::{kept, names, pack, spool, store, unpack};

/// Keeps what `make` writes when it was asked for by name.
fn keep(prefix: &str, make: impl FnOnce(&Path), told: impl FnOnce(&Path) -> String) {
    let Some(name) = std::env::var("KEEP").ok().filter(|name| name.starts_with(prefix)) else { return };
    let path = kept().join(format!("{name}.files"));
    assert!(!path.exists(), "{} is kept already", path.display());
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let packed = pack(dir.path()).unwrap();
    // Of a copy: what is kept may be open still.
    let copy = tempfile::tempdir().unwrap();
    unpack(&packed, copy.path()).unwrap();
    fs::write(kept().join(format!("{name}.txt")), told(copy.path())).unwrap();
    fs::write(path, packed).unwrap();
}

/// A kept folder, and what it was said to hold.
fn unpacked(name: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    unpack(&fs::read(kept().join(format!("{name}.files"))).unwrap(), dir.path()).unwrap();
    (dir, fs::read_to_string(kept().join(format!("{name}.txt"))).unwrap())
}

fn same(name: &str, when: &str, told: &str, wanted: &str) {
    let differs = told.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{name}, {when}");
    assert_eq!(told.lines().count(), wanted.lines().count(), "{name}, {when}");
}

#[test]
fn stores_of_all_versions_are_read_flushed_and_merged() {
    let told = |dir: &Path| store::told(&store::open(dir).unwrap()).unwrap();
    keep("store-", |dir| store::make(dir).unwrap(), told);
    let names = names("store-").unwrap();
    assert!(!names.is_empty());
    for name in names {
        let (dir, wanted) = unpacked(&name);
        let open = store::open(dir.path()).unwrap();
        same(&name, "as it was", &store::told(&open).unwrap(), &wanted);
        open.flush().unwrap();
        open.compact().unwrap();
        same(&name, "merged", &store::told(&open).unwrap(), &wanted);
        open.close().unwrap();
        assert_eq!(tideline_store::verify(dir.path()).unwrap().problems, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn files_of_the_formats_that_are_written_now_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    store::make(dir.path()).unwrap();
    let written = store::versions(dir.path()).unwrap();
    let newest = names("store-").unwrap().pop().unwrap();
    let kept = store::versions(unpacked(&newest).0.path()).unwrap();
    assert_eq!(written, kept, "keep files of the new formats: KEEP=store-N with the next number");
}

#[test]
fn spools_of_all_versions_are_read() {
    let told = |dir: &Path| spool::told(&mut spool::open(dir).unwrap()).unwrap();
    keep("spool-", |dir| spool::make(dir).unwrap(), told);
    let names = names("spool-").unwrap();
    assert!(!names.is_empty());
    for name in names {
        let (dir, wanted) = unpacked(&name);
        same(&name, "as it was", &told(dir.path()), &wanted);
        // What was opened once is opened again.
        same(&name, "again", &told(dir.path()), &wanted);
    }
}
