//! Dead letters that can be decoded after all are stored once, whenever the process is killed.

use std::path::Path;

use tideline_protocol::ranges::RangeSet;

use super::rig::*;
use crate::dead::{self, LetterId};
use crate::files::RealFiles;
use crate::store::{LetterState, Store};
use crate::{CheckState, StoreError, verify};

fn good() -> Vec<Vec<Row>> {
    vec![vec![(0, 1_000, 1.5), (1, 1_001, 2.5)], vec![(2, 2_000, 3.5)]]
}

/// A store whose run 1..=2 was refused, and whose letter holds what today's code can decode; seq 3 is
/// stored.
fn refused(dir: &Path) -> (Store, LetterId) {
    let store = ready(config(dir));
    let run = batch(&agent("a"), 1, &good());
    let envelope = run.run().envelope.clone();
    let bad = tideline_protocol::wire::Run { envelope, block: vec![1, 2, 3] };
    let bad = tideline_protocol::durability::Batch::received(agent("a"), bad).validate(SERIES).unwrap();
    wait(store.append(bad)).unwrap();
    append(&store, 3, &[vec![(0, 3_000, 4.5)]]);
    store.settle().unwrap();
    let letters = store.dead_letters().unwrap().0;
    assert_eq!((letters.len(), letters[0].state, letters[0].rows), (1, LetterState::Refused, 3));
    assert!(!letters[0].head.reason.is_empty());
    let id = letters[0].head.id.clone();
    let error = store.replay_dead_letter(&id).unwrap_err();
    assert!(matches!(error, StoreError::Undecodable(_)), "{error}");
    assert_eq!(counts(&store), (1, 3, true), "nothing has changed");
    keep(dir);
    (store, id)
}

fn keep(dir: &Path) {
    let run = batch(&agent("a"), 1, &good());
    dead::keep((&RealFiles, &dir.join("dead")), &agent("a"), run.run(), &RangeSet::of(1, 2), "told to")
        .unwrap();
}

fn counts(store: &Store) -> (u64, u64, bool) {
    let ledger = ledger(store);
    (ledger.stored, ledger.refused, ledger.balanced)
}

fn all() -> Vec<Row> {
    vec![(0, 1_000, 1.5), (1, 1_001, 2.5), (2, 2_000, 3.5), (0, 3_000, 4.5)]
}

fn is_once(dir: &Path, case: &str) {
    let (store, report) = open(config(dir));
    assert_eq!(report.quarantined, vec![], "{case}");
    for flushed in [false, true] {
        assert_eq!(all_rows(&store), expected(&all()), "{case}, flushed: {flushed}");
        assert_eq!(counts(&store), (4, 0, true), "{case}, flushed: {flushed}");
        assert_eq!(stored(&store), [(1, 3)], "{case}");
        store.flush().unwrap();
    }
    assert_eq!(append(&store, 1, &good()), 0, "{case}: it is stored already");
    store.close().unwrap();
    assert_eq!(verify(dir).unwrap().problems, Vec::<String>::new(), "{case}");
}

#[test]
fn a_replayed_letter_is_stored_once_whatever_is_flushed_or_killed() {
    for (flush_before, flush_after) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("flush before: {flush_before}, after: {flush_after}");
        let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (store, id) = refused(dir.path());
        if flush_before {
            store.flush().unwrap();
        }
        assert_eq!(store.replay_dead_letter(&id).unwrap(), Some(3), "{case}");
        assert_eq!(store.replay_dead_letter(&id).unwrap(), None, "{case}: the letter is gone");
        if flush_after {
            store.flush().unwrap();
        }
        assert_eq!((all_rows(&store), counts(&store)), (expected(&all()), (4, 0, true)), "{case}");
        copy(dir.path(), killed.path());
        is_once(killed.path(), &case);
        store.close().unwrap();
    }
}

#[test]
fn a_kill_between_storing_a_letter_and_removing_it_changes_nothing() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (store, id) = refused(dir.path());
    store.replay_dead_letter(&id).unwrap();
    copy(dir.path(), killed.path());
    keep(killed.path());
    let (again, _) = open(config(killed.path()));
    let letters = again.dead_letters().unwrap().0;
    assert_eq!((letters.len(), letters[0].state), (1, LetterState::Stored));
    assert_eq!(again.replay_dead_letter(&id).unwrap(), Some(0));
    assert_eq!(again.dead_letters().unwrap().0.len(), 0);
    again.close().unwrap();
    is_once(killed.path(), "killed before the file was removed");
}

#[test]
fn a_letter_that_is_thrown_away_stays_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = refused(dir.path());
    assert!(store.remove_dead_letter(&id).unwrap());
    assert!(!store.remove_dead_letter(&id).unwrap());
    assert_eq!((store.dead_letter(&id).unwrap(), counts(&store)), (None, (1, 3, true)));
}

/// Nothing can be written to `dead` from now on.
fn obstruct(dir: &Path) {
    std::fs::create_dir(dir.join("dead/part.tmp")).unwrap();
}

fn clear(dir: &Path) {
    std::fs::remove_dir(dir.join("dead/part.tmp")).unwrap();
}

fn health(store: &Store) -> CheckState {
    store.health().checks.into_iter().find(|check| check.name == "letters").unwrap().state
}

fn is_kept_at_last(store: &Store, case: &str) {
    store.flush().unwrap();
    let letters = store.dead_letters().unwrap().0;
    assert_eq!((letters.len(), letters[0].state, letters[0].rows), (1, LetterState::Refused, 3), "{case}");
    assert_eq!(store.dead_letter(&letters[0].head.id).unwrap().unwrap().1, [1, 2, 3], "{case}");
    assert_eq!(counts(store), (1, 3, true), "{case}");
    assert!(store.health().checks.iter().all(|check| check.state == CheckState::Fine), "{case}");
}

#[test]
fn what_is_refused_is_kept_before_it_is_told_and_before_the_log_goes() {
    let [dir, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = ready(config(dir.path()));
    append(&store, 1, &[vec![(0, 1_000, 1.5)]]);
    obstruct(dir.path());
    wait(store.append(undecodable(&agent("a"), 2, 3))).unwrap();
    for _ in 0..2 {
        let error = store.flush().unwrap_err().to_string();
        assert!(error.contains("writing a dead letter"), "{error}");
        assert_eq!(counts(&store), (4, 0, true), "it is not refused yet");
    }
    assert!(matches!(health(&store), CheckState::Degraded(_)) && store.health().is_ready());
    copy(dir.path(), killed.path());
    clear(dir.path());
    is_kept_at_last(&store, "the disk is good again");
    let (again, _) = open(config(killed.path()));
    assert!(again.flush().is_err() && counts(&again) == (4, 0, true), "killed");
    clear(killed.path());
    is_kept_at_last(&again, "killed");
}

#[test]
fn letters_that_cannot_be_written_hold_ingest_up_and_not_the_memory() {
    let [dir, closed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (dir, is_closed) in [(dir.path(), false), (closed.path(), true)] {
        let mut store = ready(config(dir));
        obstruct(dir);
        for seq in 1..=6 {
            let block = vec![1; tideline_protocol::wire::RUN_BYTES_MAX];
            wait(store.append(hostile(&agent("a"), seq, 1, block))).unwrap();
        }
        while store.health().is_ready() {
            std::thread::yield_now();
        }
        assert!(matches!(health(&store), CheckState::Failed(_)), "{:?}", store.health());
        if is_closed {
            store.close().unwrap();
            let error = try_open(config(dir)).map(drop).unwrap_err().to_string();
            assert!(error.contains("writing a dead letter"), "{error}");
            clear(dir);
            store = open(config(dir)).0;
        } else {
            clear(dir);
        }
        store.settle().unwrap();
        assert_eq!((counts(&store), health(&store)), ((0, 6, true), CheckState::Fine), "{is_closed}");
        // The newest of an agent are kept, 16 MiB of them.
        let kept: Vec<u64> = store.dead_letters().unwrap().0.iter().map(|l| l.head.id.first.get()).collect();
        assert_eq!(kept, [2, 3, 4, 5, 6], "{is_closed}");
    }
}
