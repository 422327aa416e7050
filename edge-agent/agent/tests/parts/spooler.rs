//! The spool's thread, when the disk fails it.

use edge_agent::spooler::{Occasion, SpoolHandle};
use edge_agent::status::Board;
use tideline_protocol::model::Seq;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig, SpoolError};

use crate::readings;

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
    let seq = spool.append(readings(5), vec![("a".into(), vec![2])]).await.unwrap();
    assert_eq!(seq, Seq::new(2));
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
