//! Digests of what is held: the same wherever the rows are, and other ones when a row is another.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tideline_protocol::digest::{SeriesKey, Summer};
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Digest, Restamp, Run};

use super::rig::*;
use crate::buckets::Aggregate;
use crate::files::{FileSystem, RealFiles};
use crate::hot::Rows;
use crate::sealed::{SealedFormat, SegmentFormat, Target};
use crate::segment::read::ReadError;
use crate::segment::write::{Print, SegmentWriter};
use crate::segment::{BlockEntry, Directory, Level};

fn digest(name: &str, first: u64, seqs: &[Vec<Row>]) -> Digest {
    let mut sum = Summer::default();
    for (seq, rows) in (first..).zip(seqs) {
        for (no, time_ns, value) in rows {
            sum.add(seq, SeriesKey::new(name, &format!("point-{no}")), *time_ns, value.to_bits());
        }
    }
    sum.digest()
}

fn audit(store: &crate::Store, name: &str, seqs: (u64, u64), per: u64) -> (RangeSet, Vec<Digest>) {
    let seqs = RangeSet::of(seqs.0, seqs.1);
    let (settled, digests) = store.audit(&agent(name), EPOCH, (&seqs, per), &AtomicBool::new(false)).unwrap();
    (settled.stored, digests)
}

/// Readings of three series: a steady one, one that repeats a time and goes back, a rare one.
fn rows(seq: i64) -> Vec<Row> {
    let mut rows = vec![(0, seq * 10, 0.5), (1, 1_000 - seq, -0.0), (1, 1_000 - seq, f64::NAN)];
    rows.extend((seq % 3 == 0).then_some((2, 7, 1e300)));
    rows
}

#[test]
fn the_digests_of_batches_are_the_same_hot_and_sealed_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    define(&store, &agent("b"));
    let all: Vec<Vec<Row>> = (1..=40).map(rows).collect();
    let of = |lo: usize, hi: usize| digest("a", lo as u64, &all[lo - 1..hi]);
    let check = |store: &crate::Store, step: &str| {
        let (stored, digests) = audit(store, "a", (1, 40), 16);
        assert_eq!(stored, RangeSet::of(1, 40), "{step}");
        assert_eq!(digests, [of(1, 16), of(17, 32), of(33, 40)], "{step}");
        let (stored, digests) = audit(store, "a", (38, 99), 1);
        assert_eq!(stored, RangeSet::of(38, 40), "{step}");
        assert_eq!(digests, [of(38, 38), of(39, 39), of(40, 40)], "{step}");
        // The other agent has other series, and seqs of its own.
        assert_eq!(audit(store, "b", (1, 40), 99).1, [digest("b", 1, &all[..3])], "{step}");
        assert_eq!(audit(store, "nobody", (1, 40), 99), (RangeSet::new(), vec![]), "{step}");
    };
    // The newer ones first, as lanes bring them; some twice; another agent in between.
    append(&store, 30, &all[29..]);
    append(&store, 1, &all[..10]);
    wait(store.append(batch(&agent("b"), 1, &all[..3]))).unwrap();
    append(&store, 8, &all[7..33]);
    check(&store, "hot");
    store.flush().unwrap();
    check(&store, "sealed");
    store.close().unwrap();
    let (store, _) = open(config(dir.path()));
    check(&store, "sealed and restarted");
    let more: Vec<Vec<Row>> = (41..=42).map(rows).collect();
    append(&store, 41, &more);
    assert_eq!(audit(&store, "a", (40, 42), 2).1[1], digest("a", 42, &more[1..]));
    store.close().unwrap();
    assert_eq!(crate::verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn what_was_refused_is_not_digested_and_what_was_corrected_is_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    let seqs = [vec![(0, 5, 1.0)], vec![(1, 6, 2.0), (0, 7, 3.0)]];
    let run = Run { ..batch(&agent("a"), 1, &seqs).run().clone() };
    let restamp = Restamp {
        seqs: RangeSet::of(2, 2),
        boot: [5; 16],
        shift_ns: Some(1_763_719_200_000_000_000),
        from_ns: 6,
        to_ns: 7,
    };
    let mut corrected = run;
    corrected.envelope.restamps = vec![restamp];
    let corrected: Batch<Validated> = Batch::received(agent("a"), corrected).validate(SERIES).unwrap();
    wait(store.append(corrected)).unwrap();
    wait(store.append(undecodable(&agent("a"), 3, 4))).unwrap();
    for step in ["hot", "sealed"] {
        let (settled, digests) =
            store.audit(&agent("a"), EPOCH, (&RangeSet::of(1, 9), 1), &AtomicBool::new(false)).unwrap();
        assert_eq!((settled.stored, settled.refused), (RangeSet::of(1, 2), RangeSet::of(3, 3)), "{step}");
        assert_eq!(digests, [digest("a", 1, &seqs[..1]), digest("a", 2, &seqs[1..])], "{step}");
        store.flush().unwrap();
    }
}

/// Writes one value of the last series as another, and nobody can tell by a checksum.
struct Falsifier;

impl SealedFormat for Falsifier {
    fn files(&self) -> &dyn FileSystem {
        &RealFiles
    }

    fn create(&self, target: &Target) -> io::Result<SegmentWriter> {
        SegmentFormat::default().create(target)
    }

    fn roll_up(&self, number: u64, raw: &Path, rollup: &Path) -> Result<Print, ReadError> {
        SegmentFormat::default().roll_up(number, raw, rollup)
    }

    fn directory(&self, path: &Path, number: u64) -> Result<Directory, ReadError> {
        SegmentFormat::default().directory(path, number)
    }

    fn read_rows(&self, raw: &Path, block: &BlockEntry) -> Result<Rows, ReadError> {
        let mut rows = SegmentFormat::default().read_rows(raw, block)?;
        rows.values.iter_mut().filter(|value| **value == 1e300).take(1).for_each(|value| *value = 1.0);
        Ok(rows)
    }

    fn read_numbers(&self, raw: &Path, block: &BlockEntry) -> Result<Vec<u32>, ReadError> {
        SegmentFormat::default().read_numbers(raw, block)
    }

    fn read_rolls(
        &self,
        rollup: &Path,
        block: &BlockEntry,
        level: Level,
    ) -> Result<Vec<(i64, Aggregate)>, ReadError> {
        SegmentFormat::default().read_rolls(rollup, block, level)
    }
}

#[test]
fn a_reading_that_the_files_give_otherwise_changes_the_digest_of_its_batch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open_with(config(dir.path()), Arc::new(Falsifier));
    define(&store, &agent("a"));
    let all: Vec<Vec<Row>> = (1..=9).map(rows).collect();
    append(&store, 1, &all);
    assert_eq!(audit(&store, "a", (1, 9), 9).1, [digest("a", 1, &all)], "nothing is read from a file yet");
    store.flush().unwrap();
    let found = audit(&store, "a", (1, 9), 1).1;
    let differing: Vec<usize> =
        (0..9).filter(|at| found[*at] != digest("a", *at as u64 + 1, &all[*at..=*at])).collect();
    // The rows stand by series and time; the first with that value is of seq 3.
    assert_eq!(differing, [2]);
    assert_eq!(found[2].rows, 4);
}
