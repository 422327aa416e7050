//! Reading the log beside its writer.

use std::fs;

use tideline_protocol::model::{DropCause, Gap, RowCounts, Seq};
use tideline_protocol::ranges::RangeSet;

use super::rig::{EPOCH, agent, append, config, define, open, ready, wait};
use crate::{LogEntry, LogPlace, Store};

/// The seqs of all batches from a place on, read in parts of this size, and where that ends.
fn read_from(store: &Store, from: LogPlace, bytes_max: u64) -> (Vec<u64>, LogPlace, bool) {
    let (mut place, mut seqs, mut missed) = (from, Vec::new(), false);
    loop {
        let part = store.read_log(place, bytes_max).unwrap();
        assert!(part.next > place || part.at_end, "it does not move on from {place:?}");
        missed |= part.missed;
        for (entry, behind) in part.entries {
            assert!(behind > place && behind <= part.next);
            let LogEntry::Batch { taken, run, agent } = entry else { continue };
            assert_eq!(store.named((&agent, behind), &run, &taken).unwrap().len(), 1);
            seqs.extend(taken.iter().flat_map(|(lo, hi)| lo..=hi));
        }
        place = part.next;
        if part.at_end {
            return (seqs, place, missed);
        }
    }
}

fn one(store: &Store, seq: u64) {
    append(store, seq, &[vec![(0, seq.try_into().unwrap(), 0.5)]]);
}

#[test]
fn every_batch_is_read_once_and_in_order_over_flushes_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = config(dir.path());
    // Some records each.
    options.log_segment_bytes_max = 300;
    let store = ready(options.clone());
    let from = LogPlace::from(*store.log_end().borrow());
    store.hold_log(from.segment);
    (1..=20).for_each(|seq| one(&store, seq));
    store.flush().unwrap();
    (21..=30).for_each(|seq| one(&store, seq));
    let (seqs, middle, missed) = read_from(&store, from, 1);
    assert_eq!((seqs, missed), ((1..=30).collect(), false));
    assert_eq!(read_from(&store, from, u64::MAX).0.len(), 30);
    store.close().unwrap();
    // The flush has sealed what the first segments hold; they stay for who reads them.
    options.keep_log_from = from.segment;
    let store = open(options.clone()).0;
    store.flush().unwrap();
    (31..=33).for_each(|seq| one(&store, seq));
    let (seqs, end, missed) = read_from(&store, from, 100);
    assert_eq!((seqs, missed), ((1..=33).collect(), false));
    assert_eq!(read_from(&store, middle, 100).0, [31, 32, 33]);
    assert_eq!(end, LogPlace::from(*store.log_end().borrow()));
    // Nobody wants the older ones any more.
    store.hold_log(end.segment);
    store.flush().unwrap();
    // The writer is told behind the flush to let the log go.
    define(&store, &agent("z"));
    assert!(store.log_segments().unwrap().iter().all(|(segment, _)| *segment >= end.segment));
    let (seqs, _, missed) = read_from(&store, from, 100);
    assert!(missed && !seqs.contains(&1), "{seqs:?}");
    store.close().unwrap();
    // Segments that nobody kept may have held something: it is told.
    let store = open(config(dir.path())).0;
    assert_eq!(read_from(&store, end, 100), (vec![], (*store.log_end().borrow()).into(), true));
}

#[test]
fn what_cannot_be_read_is_told_and_what_follows_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = config(dir.path());
    options.log_segment_bytes_max = 300;
    let store = ready(options);
    let from = LogPlace::from(*store.log_end().borrow());
    (1..=20).for_each(|seq| one(&store, seq));
    let segments = store.log_segments().unwrap();
    assert!(segments.len() > 3, "{segments:?}");
    let damaged = dir.path().join(format!("log/{:08}.log", segments[1].0));
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let (seqs, _, missed) = read_from(&store, from, 1 << 20);
    assert!(missed && seqs.len() == 19 && seqs.contains(&20), "{seqs:?}");
    // A place in another log, which had more.
    let ahead = LogPlace { segment: 1_000_000, bytes: 9 };
    assert_eq!(read_from(&store, ahead, 100), (vec![], (*store.log_end().borrow()).into(), true));
}

#[test]
fn seqs_that_were_given_up_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let from = LogPlace::from(*store.log_end().borrow());
    one(&store, 1);
    let mut rows = RowCounts::one(1);
    rows.push(1);
    let gap = Gap { first: Seq::new(2), rows, from_ns: 0, to_ns: 0, cause: DropCause::Quota };
    wait(store.record_gap(agent("a"), EPOCH, None, gap)).unwrap();
    one(&store, 4);
    define(&store, &agent("b"));
    let part = store.read_log(from, 1 << 20).unwrap();
    let dropped: Vec<&RangeSet> = part
        .entries
        .iter()
        .filter_map(|(entry, _)| match entry {
            LogEntry::Dropped { seqs, .. } => Some(seqs),
            LogEntry::Batch { .. } => None,
        })
        .collect();
    assert_eq!(dropped, [&RangeSet::of(2, 3)]);
    assert_eq!(store.dictionary(&agent("b"), EPOCH).len(), 3);
}
