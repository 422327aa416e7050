//! The spool's thread, when the disk fails it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use edge_agent::spooler::{Occasion, SpoolHandle};
use edge_agent::status::Board;
use tideline_protocol::model::Seq;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig, SpoolError};

use crate::{readings, until_shown};

#[tokio::test]
async fn after_a_failed_write_the_spool_is_opened_again_and_nothing_is_lost_or_doubled() {
    let disk = CrashBackend::new();
    let (board, shared) = (Board::default(), disk.clone());
    let mut opened = 0_u8;
    let open = move |occasion| {
        assert_eq!(occasion, Occasion::Plain);
        opened += 1;
        if opened == 3 {
            return Err(SpoolError::Storage("the disk is away".into()));
        }
        // The first time it is empty, later it is as the failure left it.
        Spool::open(shared.crash(), SpoolConfig::default(), [opened; 16])
    };
    let (spool, _) = SpoolHandle::start_with(open, board.clone()).unwrap();
    let epoch = spool.state().borrow().epoch;
    spool.append(readings(5), vec![("a".into(), vec![1])]).await.unwrap();
    disk.fail_writes();
    let failed = spool.append(readings(5), vec![("a".into(), vec![2])]).await;
    assert!(matches!(failed, Err(SpoolError::Storage(_))), "{failed:?}");
    assert!(board.read().last_error.unwrap().contains("the disk fails writes"));
    // Opening succeeds here, the next write fails, opening fails, and then all is well.
    assert_eq!(spool.cursor("a").await.unwrap(), Some(vec![1]), "what failed left nothing behind");
    disk.fail_writes();
    assert!(spool.append(readings(5), vec![("a".into(), vec![2])]).await.is_err());
    assert!(spool.append(readings(5), vec![("a".into(), vec![2])]).await.is_err());
    let appended = spool.append(readings(5), vec![("a".into(), vec![2])]).await.unwrap();
    assert_eq!(appended.head, Seq::new(2));
    let state = *spool.state().borrow();
    assert_eq!((state.epoch, state.account.produced), (epoch, 10));
    assert_eq!(spool.cursor("a").await.unwrap(), Some(vec![2]));
}

#[tokio::test]
async fn the_oldest_pending_seq_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let spool = crate::spool(folder.path(), &Board::default());
    let pending_from = || spool.state().borrow().pending_from;
    assert_eq!(pending_from(), Seq::new(1));
    for _ in 0..3 {
        spool.append(readings(2), Vec::new()).await.unwrap();
    }
    let settle = |lo, hi| {
        let stored = tideline_protocol::ranges::RangeSet::of(lo, hi);
        spool.settle(tideline_protocol::wire::Settlement { stored, ..Default::default() })
    };
    settle(2, 2).await.unwrap();
    assert_eq!(pending_from(), Seq::new(1));
    settle(1, 1).await.unwrap();
    assert_eq!(pending_from(), Seq::new(3));
    settle(3, 3).await.unwrap();
    assert_eq!(pending_from(), Seq::new(4));
}

fn modes(folder: &Path) -> [u32; 2] {
    ["spool.redb", "spool.journal"].map(|name| {
        let metadata = std::fs::metadata(folder.join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    })
}

#[tokio::test]
async fn the_spools_files_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let path = folder.path().join("spool.redb");
        SpoolHandle::start(path, SpoolConfig::default(), Board::default()).unwrap()
    };
    let (spool, thread) = start();
    assert_eq!(modes(folder.path()), [0o600; 2]);
    spool.append(readings(5), Vec::new()).await.unwrap();
    spool.close().await;
    thread.join().unwrap();
    // As an older agent left them.
    for name in ["spool.redb", "spool.journal"] {
        let wide = std::fs::Permissions::from_mode(0o664);
        std::fs::set_permissions(folder.path().join(name), wide).unwrap();
    }
    let (spool, thread) = start();
    assert_eq!(modes(folder.path()), [0o600; 2]);
    assert_eq!(spool.state().borrow().account.produced, 5);
    spool.close().await;
    thread.join().unwrap();
    // One that is put aside makes way for new files.
    std::fs::write(folder.path().join("spool.redb"), "this is no database").unwrap();
    let (spool, _) = start();
    assert_eq!(modes(folder.path()), [0o600; 2]);
    assert_eq!(spool.state().borrow().account.produced, 0);
}

#[tokio::test]
async fn what_was_given_up_is_shown_by_cause_also_after_a_restart() {
    let disk = CrashBackend::new();
    let start = |board: &Board| {
        let disk = disk.clone();
        let open = move |_| {
            Spool::open(disk.clone(), SpoolConfig { quota_bytes: 4_000, ..SpoolConfig::default() }, [1; 16])
        };
        SpoolHandle::start_with(open, board.clone()).unwrap()
    };
    let board = Board::default();
    let (spool, thread) = start(&board);
    for _ in 0..40 {
        spool.append(readings(50), Vec::new()).await.unwrap();
    }
    let status = board.read();
    assert!(status.account.dropped > 0);
    assert_eq!(status.drops, [("quota".to_owned(), status.account.dropped)].into());
    spool.close().await;
    thread.join().unwrap();
    let board = Board::default();
    let (spool, _) = start(&board);
    // It is shown by the spool's own thread.
    assert_eq!(until_shown(&board, |status| status.head > 0).await.drops, status.drops);
    // Of what the hub knows of there is no record any more.
    let mut dropped = tideline_protocol::ranges::RangeSet::new();
    for gap in spool.view().await.unwrap().gaps {
        dropped.insert(gap.first.get(), gap.last().get());
    }
    let told = tideline_protocol::wire::Settlement { dropped, ..Default::default() };
    spool.settle(told).await.unwrap();
    spool.close().await;
    let board = Board::default();
    let _spool = start(&board);
    let shown = until_shown(&board, |status| status.head > 0).await;
    assert_eq!(shown.drops, status.drops, "the spool counts by cause for good");
}
