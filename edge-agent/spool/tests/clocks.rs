//! Readings that were stamped by a clock that did not know the time: what is sent with them says so, once
//! a hub has told it, also after a kill.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tideline_protocol::model::{DeviceId, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig, encode_batch};

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_763_719_200 * S;
const FLOOR: i64 = 1_700_000_000 * S;

/// A machine with a monotonic clock, and a wall clock that somebody may have set.
struct Machine {
    boot: [u8; 16],
    mono_ns: u64,
    ahead_ns: i64,
}

fn open(disk: &CrashBackend, life: u8, machine: &Machine) -> Spool {
    let config = SpoolConfig { quota_bytes: 400_000, ..SpoolConfig::default() };
    let mut spool = Spool::open(disk.clone(), config, [life; 16]).unwrap();
    spool.begin_boot(machine.boot).unwrap();
    spool
}

fn append(spool: &mut Spool, machine: &mut Machine, own_times: bool) {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, "l/s".into())).unwrap();
    machine.mono_ns += S.unsigned_abs();
    let time_ns = machine.ahead_ns + machine.mono_ns.cast_signed();
    let batch = encode_batch(&[(series, &[Sample { time_ns, value: 1.0 }])]).unwrap();
    let stamp = spool.stamp(machine.ahead_ns, machine.ahead_ns > FLOOR);
    spool.append_encoded(&batch.stamped(stamp.filter(|_| !own_times)), &[]).unwrap();
}

/// (seqs, shift, corrected from, to) of each correction of a run of all that is held.
fn corrections(spool: &mut Spool) -> Vec<(RangeSet, Option<i64>, i64, i64)> {
    let run = spool.load_run(Seq::FIRST, spool.head(), 1 << 20, 1_000).unwrap().unwrap();
    run.restamps.into_iter().map(|r| (r.seqs, r.shift_ns, r.from_ns, r.to_ns)).collect()
}

#[test]
fn a_machine_that_wakes_in_1970_says_later_when_its_readings_were_taken() {
    let disk = CrashBackend::new();
    let mut first = Machine { boot: [1; 16], mono_ns: 0, ahead_ns: 0 };
    let mut spool = open(&disk, 1, &first);
    append(&mut spool, &mut first, false);
    append(&mut spool, &mut first, true);
    append(&mut spool, &mut first, false);
    assert!(!spool.knows_time() && !spool.view().unwrap().knows_time);
    drop(spool);
    let mut spool = open(&disk.kill(), 2, &first);
    let of_three = |lo, hi| {
        let mut seqs = RangeSet::of(lo, lo);
        seqs.insert(hi, hi);
        seqs
    };
    assert_eq!(corrections(&mut spool), [(of_three(1, 3), None, S, 3 * S)]);
    // The hub says that it is NOW when the machine has run for ten seconds.
    first.mono_ns = 10 * S.unsigned_abs();
    spool.learn_time(first.mono_ns, NOW - 10 * S).unwrap();
    assert!(spool.view().unwrap().knows_time);
    let shift = NOW - 10 * S;
    let wanted = [(of_three(1, 3), Some(shift), NOW - 9 * S, NOW - 7 * S)];
    assert_eq!(corrections(&mut spool), wanted);
    // Its clock is set; a kill, another start of the machine, in 1970 again and without a hub.
    first.ahead_ns = shift;
    append(&mut spool, &mut first, false);
    drop(spool);
    let mut second = Machine { boot: [2; 16], mono_ns: 0, ahead_ns: 0 };
    let mut spool = open(&disk.kill(), 3, &second);
    append(&mut spool, &mut second, false);
    assert!(!spool.knows_time());
    assert_eq!(spool.time_floor_ns(), NOW);
    let uncertain = (RangeSet::of(5, 5), None, S, S);
    assert_eq!(corrections(&mut spool), [wanted[0].clone(), uncertain]);
}
