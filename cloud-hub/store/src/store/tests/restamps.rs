//! Readings that were stamped by a clock that did not know the time: corrected once, whatever happens.

use std::sync::atomic::AtomicBool;

use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Restamp, Run};

use super::rig::*;

const NOW: i64 = 1_763_719_200_000_000_000;

fn restamped(first: u64, seqs: &[Vec<Row>], restamp: (u64, u64), shift_ns: Option<i64>) -> Batch<Validated> {
    let plain = batch(&agent("a"), first, seqs);
    let (lo, hi) = restamp;
    let restamp =
        Restamp { seqs: RangeSet::of(lo, hi), boot: [5; 16], shift_ns, from_ns: NOW, to_ns: NOW + 9 };
    let mut run = Run { ..plain.run().clone() };
    run.envelope.restamps = vec![restamp];
    Batch::received(agent("a"), run).validate(SERIES).unwrap()
}

#[test]
fn times_are_corrected_once_and_marked_also_after_duplicates_a_restart_and_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let rows: Vec<Vec<Row>> = (1..=4).map(|seq| vec![(0, seq, seq as f64), (1, seq, 0.5)]).collect();
    let send = |store: &crate::Store, shift| {
        wait(store.append(restamped(1, &rows, (2, 3), Some(shift)))).unwrap();
        wait(store.append(restamped(4, &rows[3..], (4, 4), None))).unwrap();
        store.settle().unwrap();
    };
    send(&store, NOW);
    // Again, and with another opinion: what is stored stays as it is.
    send(&store, NOW * 2);
    let wanted: Vec<Row> = [(1, 1), (NOW + 2, 2), (NOW + 3, 3), (4, 4)]
        .into_iter()
        .flat_map(|(time, seq)| [(0, time, f64::from(seq)), (1, time, 0.5)])
        .collect();
    let check = |store: &crate::Store, step: &str| {
        assert_eq!(all_rows(store), expected(&wanted), "{step}");
        let ledger = ledger(store);
        assert_eq!((ledger.stored, ledger.restamped, ledger.uncertain), (8, 4, 0), "{step}");
        let seqs: Vec<_> = ledger.restamps.iter().map(|r| (r.seqs.clone(), r.shift_ns)).collect();
        assert_eq!(seqs, [(RangeSet::of(2, 3), Some(NOW))], "{step}");
    };
    check(&store, "as it came");
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    check(&store, "after a restart");
    store.flush().unwrap();
    check(&store, "sealed");
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    check(&store, "sealed and restarted");
}

#[test]
fn times_that_nobody_can_correct_are_counted_as_uncertain() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    wait(store.append(restamped(1, &[vec![(0, 7, 1.0)]], (1, 1), None))).unwrap();
    store.settle().unwrap();
    let ledger = ledger(&store);
    assert_eq!((ledger.stored, ledger.restamped, ledger.uncertain), (1, 0, 1));
    assert_eq!(all_rows(&store), expected(&[(0, 7, 1.0)]));
}

#[test]
fn what_comes_again_after_a_loss_has_the_correction_that_came_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let rows: Vec<Vec<Row>> = (1..=4).map(|seq| vec![(0, seq, seq as f64), (1, seq, 0.5)]).collect();
    wait(store.append(restamped(1, &rows, (2, 3), Some(NOW)))).unwrap();
    let seqs = RangeSet::of(1, 4);
    let sent = store.audit(&agent("a"), EPOCH, (&seqs, 1), &AtomicBool::new(false)).unwrap();
    store.flush().unwrap();
    store.close().unwrap();
    let raw = dir.path().join("sealed/00000001.seg");
    std::fs::OpenOptions::new().write(true).open(raw).unwrap().set_len(9).unwrap();
    let (store, _) = open(config(dir.path()));
    assert_eq!((ledger(&store).stored, ledger(&store).lost), (0, 8));
    // The agent knows its clock better by now.
    wait(store.append(restamped(1, &rows, (2, 2), Some(NOW + 5)))).unwrap();
    store.settle().unwrap();
    let ledger = ledger(&store);
    assert_eq!((ledger.stored, ledger.lost, ledger.restamped), (8, 0, 2));
    let listed: Vec<_> = ledger.restamps.iter().map(|r| (r.seqs.clone(), r.shift_ns)).collect();
    assert_eq!(listed, [(RangeSet::of(2, 2), Some(NOW + 5))]);
    assert_eq!(
        store.audit(&agent("a"), EPOCH, (&seqs, 1), &AtomicBool::new(false)).unwrap(),
        sent,
        "as it was sent, both times"
    );
}
