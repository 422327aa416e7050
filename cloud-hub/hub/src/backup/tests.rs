//! Backups come back whole, and a folder in use is not one to restore into.

use std::sync::Arc;

use tideline_protocol::time::{Clock, SystemClock};
use tideline_store::StoreConfig;

use super::*;
use crate::metadata::{
    BoardRecord, BoardShareRecord, BoardVersionRecord, DeviceRecord, EnrolRecord, Marks, PlanImageRecord,
    Role, SessionRecord, TokenRecord,
};
use crate::position::Position;

const NOW_MS: i64 = 1_763_719_200_000;

/// A data folder with something in each part.
fn data_in(dir: &Path) -> (Metadata, Store) {
    fs::create_dir_all(dir.join("pki")).unwrap();
    fs::write(dir.join("pki/ca.pem"), "certificate").unwrap();
    fs::write(dir.join("pki/ca.key"), "key").unwrap();
    let metadata = Metadata::open(&dir.join(REGISTRY)).unwrap();
    let token = TokenRecord { name: "n".into(), role: Role::Viewer, secret_hash: "h".into(), created_ms: 1 };
    metadata.put("token", &token).unwrap();
    metadata.put("session", &SessionRecord { user: "eve".into(), expires_ms: i64::MAX }).unwrap();
    let unused =
        EnrolRecord { device: "d".into(), secret_hash: "h".into(), expires_ms: i64::MAX, key_hash: None };
    metadata.put("used", &EnrolRecord { key_hash: Some("k".into()), ..unused.clone() }).unwrap();
    metadata.put("unused", &unused).unwrap();
    let marks = Marks { position: Position::new(48.1, 11.5, Some(519.0)).ok(), ..Marks::default() };
    metadata.put("gw", &DeviceRecord { marks, ..DeviceRecord::behind("gw", 1) }).unwrap();
    metadata.put("north", &PlanImageRecord { bytes: "AAAA".into() }).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (store, _) = Store::open(StoreConfig::new(dir.join(STORE)), clock).unwrap();
    (metadata, store)
}

fn backup_of(data: &Path, to: &Path) -> Backup {
    let (metadata, store) = data_in(data);
    make(Source { data, metadata: &metadata, twins: None, store: Some(&store) }, to, NOW_MS).unwrap()
}

#[test]
fn a_backup_is_private_complete_and_restores_into_an_empty_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (data, back) = (dir.path().join("data"), dir.path().join("back"));
    let made = backup_of(&data, dir.path());
    assert!(made.path.file_name().unwrap().to_str().unwrap().starts_with("tideline-hub-20251121T100000"));
    for name in ["", LIST, "pki/ca.key", REGISTRY] {
        let mode = fs::metadata(made.path.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    assert!(!data.join(SCRATCH).exists());
    let done = restore(&made.path, &back, false, NOW_MS).unwrap();
    assert_eq!((done.files, done.tokens_ended, done.aside), (made.files, 1, None));
    assert_eq!(fs::read_to_string(back.join("pki/ca.key")).unwrap(), "key");
    let metadata = Metadata::open(&back.join(REGISTRY)).unwrap();
    assert!(metadata.find::<TokenRecord>("token").unwrap().is_some());
    assert!(metadata.find::<EnrolRecord>("used").unwrap().is_some());
    assert!(metadata.find::<EnrolRecord>("unused").unwrap().is_none());
    assert!(metadata.find::<SessionRecord>("session").unwrap().is_none());
    let placed = metadata.find::<DeviceRecord>("gw").unwrap().and_then(|record| record.marks.position);
    assert_eq!(placed, Position::new(48.1, 11.5, Some(519.0)).ok());
    assert!(metadata.find::<PlanImageRecord>("north").unwrap().is_some());
    assert!(!back.join(UNFINISHED).exists());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (_, report) = Store::open(StoreConfig::new(back.join(STORE)), clock).unwrap();
    assert_eq!(report.quarantined, vec![]);
}

/// A board in its second version, with a link.
fn board_in(metadata: &Metadata) -> (BoardRecord, Vec<(String, BoardVersionRecord)>) {
    let definition = |title: &str| {
        format!(
            r#"{{"version":1,"title":"{title}","panels":[{{"id":"p","x":0,"y":0,"w":6,"h":4,"show":{{"kind":"text","text":"t"}}}}]}}"#
        )
    };
    let board = BoardRecord {
        definition: definition("Pumps"),
        version: 2,
        by: "anna".into(),
        changed_ms: 2,
        created_ms: 1,
        restored: None,
    };
    metadata.put("b1", &board).unwrap();
    for (key, title) in [("b1/000000000001", "Pump"), ("b1/000000000002", "Pumps")] {
        let (definition, by) = (definition(title), "anna".to_owned());
        metadata.put(key, &BoardVersionRecord { definition, by, at_ms: 1, restored: None }).unwrap();
    }
    let share = BoardShareRecord {
        board: "b1".into(),
        note: "wall".into(),
        secret_hash: "h".into(),
        values: [("device".to_owned(), "pump-7".to_owned())].into(),
        devices: ["pump-7".to_owned()].into(),
        expires_ms: i64::MAX,
        created_ms: 1,
        by: "anna".into(),
    };
    metadata.put("s1", &share).unwrap();
    (board, metadata.list().unwrap())
}

#[test]
fn boards_come_back_with_their_versions_and_links_to_them_are_in_the_backup_and_ended_by_the_restore() {
    let dir = tempfile::tempdir().unwrap();
    let (data, back) = (dir.path().join("data"), dir.path().join("back"));
    let (metadata, store) = data_in(&data);
    let (board, versions) = board_in(&metadata);
    let source = Source { data: &data, metadata: &metadata, twins: None, store: Some(&store) };
    let made = make(source, dir.path(), NOW_MS).unwrap();
    // A copy, since whoever opens it writes.
    let copied = dir.path().join("copied.redb");
    fs::copy(made.path.join(REGISTRY), &copied).unwrap();
    let share = Metadata::open(&copied).unwrap().find::<BoardShareRecord>("s1").unwrap().unwrap();
    assert_eq!((share.note.as_str(), share.devices.len()), ("wall", 1));
    let done = restore(&made.path, &back, false, NOW_MS).unwrap();
    assert_eq!(done.shares_ended, 1);
    let metadata = Metadata::open(&back.join(REGISTRY)).unwrap();
    assert_eq!(metadata.find::<BoardRecord>("b1").unwrap(), Some(board));
    assert_eq!(metadata.list::<BoardVersionRecord>().unwrap(), versions);
    // Who was shut out since the backup stays shut out.
    assert_eq!(metadata.count::<BoardShareRecord>().unwrap(), 0);
}

#[test]
fn without_a_running_hub_the_files_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (metadata, store) = data_in(&data);
    store.close().unwrap();
    let made = make(
        Source { data: &data, metadata: &metadata, twins: None, store: None },
        &dir.path().join("b"),
        NOW_MS,
    );
    assert_eq!(made.unwrap().path, dir.path().join("b"));
    restore(&dir.path().join("b"), &dir.path().join("back"), false, NOW_MS).unwrap();
}

#[test]
fn all_that_is_wrong_with_a_backup_is_said_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let back = dir.path().join("back");
    let path = backup_of(&dir.path().join("data"), dir.path()).path;
    fs::write(path.join("pki/ca.key"), "kez").unwrap();
    fs::write(path.join("pki/ca.pem"), "short").unwrap();
    fs::remove_file(path.join(REGISTRY)).unwrap();
    let error = restore(&path, &back, false, NOW_MS).unwrap_err().to_string();
    for part in ["ca.key has another SHA-256", "ca.pem has 5 bytes, listed are 11", "hub.redb: No such file"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!back.exists());
    let list = fs::read_to_string(path.join(LIST)).unwrap();
    for (from, to, said) in [
        ("pki/ca.key", "../ca.key", "no path within a backup"),
        ("\"format\": 1", "\"format\": 7", "has format 7; this cloud-hub reads format 1"),
        ("\"format\": 1,", "", "names no format"),
        ("{", "", "backup.json"),
    ] {
        fs::write(path.join(LIST), list.replacen(from, to, 1)).unwrap();
        let error = restore(&path, &back, false, NOW_MS).unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    let error = restore(dir.path(), &back, false, NOW_MS).unwrap_err().to_string();
    assert!(error.contains("is no backup"), "{error}");
}

#[test]
fn a_folder_that_holds_something_is_moved_aside_only_by_force_and_never_under_a_hub() {
    let dir = tempfile::tempdir().unwrap();
    let (data, from) = (dir.path().join("data"), dir.path().join("from"));
    let path = backup_of(&from, dir.path()).path;
    let (running, _store) = data_in(&data);
    let error = restore(&path, &data, false, NOW_MS).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--force"), "{error}");
    let error = restore(&path, &data, true, NOW_MS).unwrap_err().to_string();
    assert!(error.contains("a hub runs on"), "{error}");
    drop(running);
    fs::write(data.join("pki/ca.pem"), "the older one").unwrap();
    let aside = restore(&path, &data, true, NOW_MS).unwrap().aside.unwrap();
    assert_eq!(fs::read_to_string(aside.join("pki/ca.pem")).unwrap(), "the older one");
    assert_eq!(fs::read_to_string(data.join("pki/ca.pem")).unwrap(), "certificate");
}

#[test]
fn a_restore_that_was_cut_off_is_run_again_and_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let path = backup_of(&dir.path().join("from"), dir.path()).path;
    // As if it had stopped between two moves: one part is in, one is not.
    fs::create_dir_all(data.join(UNFINISHED).join("store")).unwrap();
    fs::create_dir_all(data.join("pki")).unwrap();
    fs::write(data.join("pki/ca.pem"), "certificate").unwrap();
    let done = restore(&path, &data, false, NOW_MS).unwrap();
    assert!(done.aside.unwrap().join("pki/ca.pem").exists());
    assert!(data.join("store/manifest.redb").exists() && !data.join(UNFINISHED).exists());
}

#[test]
fn a_name_that_is_taken_or_has_no_folder_is_refused_and_a_cut_off_backup_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (metadata, store) = data_in(&data);
    let source = Source { data: &data, metadata: &metadata, twins: None, store: Some(&store) };
    fs::write(dir.path().join("taken"), "").unwrap();
    for (name, said) in [("taken", "is there already"), ("none/b", "in no folder that exists")] {
        let error = make(source, &dir.path().join(name), NOW_MS).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for left in [dir.path().join("b.part"), data.join(SCRATCH)] {
        fs::create_dir_all(left.join("store")).unwrap();
    }
    assert!(make(source, &dir.path().join("b"), NOW_MS).unwrap().path.join(LIST).exists());
    assert!(!dir.path().join("b.part").exists());
}
