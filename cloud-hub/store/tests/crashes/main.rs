//! Random histories of a store whose power is cut after every single change of its disk, or whose disk fails at any
//! call: what was acknowledged is there once, every answer is that of a list of readings, and nothing is left over.
//!
//! `SEEDS=` sets how many histories, `SEED=` runs one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stderr,
    reason = "a test may speak and panic"
)]

mod actions;
mod batches;
mod changes;
mod disk;
mod history;
mod platter;
mod reference;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_store::StoreError;

use actions::Action;
use changes::{Change, Failure, Fault};
use history::World;
use platter::{Lie, Platter};
use reference::{PROFILED, REVISED, UNTOLD};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("SEED and SEEDS are whole numbers"))
}

/// Everything once, so that each change that any of it makes is cut off.
const TOUR: [Action; 38] = [
    Action::Append(0),
    Action::Append(1),
    Action::Flush,
    Action::Letter(0),
    Action::Both,
    // Between readings of which none is in a file.
    Action::Rename,
    Action::Both,
    Action::Flush,
    Action::Dense(0),
    Action::GiveUp(1),
    Action::Ahead(0),
    Action::Flush,
    Action::Late,
    Action::Rename,
    Action::Repeat(0),
    Action::Flush,
    Action::Rename,
    // Of short spans, so that they are merged.
    Action::Dense(1),
    Action::Flush,
    Action::Dense(0),
    Action::Flush,
    Action::Dense(1),
    Action::Flush,
    Action::Dense(0),
    Action::Flush,
    Action::Compact,
    Action::Append(1),
    Action::Backup,
    Action::Reopen,
    Action::Age(60),
    Action::Append(0),
    Action::Flush,
    Action::Retain,
    Action::Age(300),
    Action::Both,
    Action::Flush,
    Action::Retain,
    Action::Append(0),
];

/// All that a cold tier does: files become cold as a whole and in part, more readings of their days come, and all goes.
const COLD_TOUR: [Action; 15] = [
    Action::Append(0),
    Action::Append(1),
    Action::Flush,
    Action::Age(60),
    Action::Retain,
    Action::Append(1),
    Action::Flush,
    Action::Backup,
    // What has nothing left goes at once, with its readings.
    Action::Age(500),
    Action::Retain,
    Action::Append(0),
    Action::Flush,
    Action::Age(300),
    Action::Retain,
    Action::Append(1),
];

fn drawn(rng: &mut StdRng) -> Action {
    let no = rng.random_range(0..2);
    match rng.random_range(0..43) {
        0..8 => Action::Append(no),
        8..11 => Action::Both,
        11 => Action::Dense(no),
        12..14 => Action::Ahead(no),
        14..16 => Action::Late,
        16..18 => Action::Repeat(no),
        18 => Action::Letter(no),
        19 => Action::GiveUp(no),
        20..29 => Action::Flush,
        29..32 => Action::Compact,
        32..35 => Action::Retain,
        35..38 => Action::Age(rng.random_range(1..80)),
        38 => Action::Backup,
        39..42 => Action::Rename,
        _ => Action::Reopen,
    }
}

/// A history that ends well.
fn recorded(seed: u64, actions: &[Action]) -> World {
    played(World::new(seed), actions)
}

fn played(mut world: World, actions: &[Action]) -> World {
    world.open().unwrap();
    for action in actions {
        world.perform(*action).unwrap();
        world.check();
    }
    world.close();
    world
}

/// Cuts the power after each change that is `chosen`, and lets the store start on what is left; in some of these
/// starts it is cut again.
fn cut(world: &World, rng: &mut StdRng, lie: Option<Lie>, chosen: &dyn Fn(usize) -> bool) -> usize {
    let changes = world.disk.changes();
    let mut platter = Platter::of(&world.before, lie);
    let mut cuts = 0;
    for (at, change) in changes.iter().enumerate() {
        platter.take(change);
        if !chosen(at) {
            continue;
        }
        cuts += 1;
        let (killed, again, seed) = (rng.random_bool(0.15), rng.random_bool(0.3), rng.random());
        let image = if killed { platter.kill() } else { platter.cut(rng) };
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let mut next = World::after(image, &world.items, world.promised(at + 1), seed);
            next.finish();
            if again {
                let (changes, mut rng) = (next.disk.changed(), StdRng::seed_from_u64(seed));
                let once = rng.random_range(0..changes);
                // What was broken is repaired: or else a canary dies of its own cure.
                cut(&next, &mut rng, None, &|at| at == once);
            }
        }));
        if let Err(panic) = tried {
            eprintln!("the power was cut after change {at} of {}: {change:?}", changes.len());
            resume_unwind(panic);
        }
    }
    cuts
}

/// Runs the cases of a test, or the one that is asked for, and says which one fails.
fn seeds(most: u64, case: impl Fn(u64)) {
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(most), |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
            eprintln!("to run it again: SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_left_wherever_the_power_is_cut() {
    seeds(1, |seed| {
        let world = recorded(seed, &TOUR);
        let cuts = cut(&world, &mut StdRng::seed_from_u64(seed), None, &|_| true);
        assert!(cuts > 400, "{cuts} changes");
    });
}

#[test]
fn nothing_is_lost_or_doubled_where_a_flush_has_a_file_for_each_time_that_readings_are_kept() {
    let world = recorded(PROFILED, &TOUR);
    let cuts = cut(&world, &mut StdRng::seed_from_u64(PROFILED), None, &|_| true);
    assert!(cuts > 400, "{cuts} changes");
}

#[test]
fn of_revised_series_the_newest_of_a_time_counts_wherever_the_power_is_cut() {
    let world = recorded(REVISED, &TOUR);
    let cuts = cut(&world, &mut StdRng::seed_from_u64(REVISED), None, &|_| true);
    assert!(cuts > 400, "{cuts} changes");
}

#[test]
fn readings_are_sealed_or_cold_and_never_both_wherever_the_power_is_cut() {
    seeds(2, |seed| {
        let world = played(World::keeping(seed, true), &COLD_TOUR);
        let cuts = cut(&world, &mut StdRng::seed_from_u64(seed), None, &|_| true);
        assert!(cuts > 200, "{cuts} changes");
    });
}

#[test]
fn readings_are_sealed_or_cold_in_long_histories() {
    seeds(4, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let actions: Vec<Action> = (0..rng.random_range(20..60)).map(|_| drawn(&mut rng)).collect();
        let world = played(World::keeping(seed, true), &actions);
        let changes = world.disk.changed();
        let chosen: BTreeSet<usize> = (0..20).map(|_| rng.random_range(0..changes)).collect();
        cut(&world, &mut rng, None, &|at| chosen.contains(&at));
    });
}

#[test]
fn nothing_is_lost_doubled_or_left_by_power_cuts_in_long_histories() {
    seeds(12, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let actions: Vec<Action> = (0..rng.random_range(20..90)).map(|_| drawn(&mut rng)).collect();
        let world = recorded(seed, &actions);
        let changes = world.disk.changed();
        let chosen: BTreeSet<usize> = (0..40).map(|_| rng.random_range(0..changes)).collect();
        cut(&world, &mut rng, None, &|at| chosen.contains(&at));
    });
}

/// The calls of a close, more or less.
const CLOSING_CALLS: usize = 20;

/// The disk fails once, or for a while; afterwards the power is cut, and what was never synced is gone.
#[test]
fn nothing_is_lost_doubled_or_left_on_a_disk_that_fails() {
    let calls = recorded(0, &TOUR).disk.calls();
    seeds(100, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let error = if rng.random_bool(0.5) { ErrorKind::StorageFull } else { ErrorKind::Other };
        // A small step between the places, so that all of them come in turn.
        let at = usize::try_from(seed).unwrap() * 61 % (calls - CLOSING_CALLS);
        let calls = if rng.random_bool(0.5) { 1 } else { rng.random_range(2..40) };
        let mut world = World::new(0);
        world.disk.fail(Fault { at, calls, failure: Failure::Disk(error) });
        for action in TOUR {
            world.endure(action);
        }
        world.check();
        assert!(world.disk.failed() > 0);
        let mut platter = Platter::of(&world.before, None);
        world.disk.changes().iter().for_each(|change| platter.take(change));
        let image = platter.cut(&mut rng);
        World::after(image, &world.items, world.promise(), seed).finish();
        world.kill();
        world.endure(Action::Flush);
        world.finish();
    });
}

/// An action fails at each of its calls, is made again by the same process after what comes between, and the power is cut
/// after that.
fn made_again(
    (seed, freezes, before): (u64, bool, &[Action]),
    action: Action,
    between: &[Action],
    ended: impl Fn(&World),
) {
    let until = || {
        let mut world = World::keeping(seed, freezes);
        world.open().unwrap();
        before.iter().for_each(|action| world.perform(*action).unwrap());
        world
    };
    let mut whole = until();
    let first = whole.disk.calls();
    whole.perform(action).unwrap();
    let calls = whole.disk.calls() - first;
    assert!(calls > 8, "{calls} calls of {action:?}");
    whole.close();
    let again = std::cell::Cell::new(0);
    seeds(2 * calls as u64, |seed| {
        let error = if seed % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let mut world = until();
        let at = world.disk.calls() + usize::try_from(seed / 2).unwrap() % calls;
        world.disk.fail(Fault { at, calls: 1, failure: Failure::Disk(error) });
        let mut tries = 1;
        while let Err(error) = world.perform(action) {
            // The log comes back after a pause, and at the next start.
            if matches!(error, StoreError::Poisoned) {
                world.kill();
                world.endure(action);
                break;
            }
            tries += 1;
            assert!(tries < 5, "it fails for ever: {error}");
            between.iter().for_each(|action| world.perform(*action).unwrap());
        }
        again.set(again.get() + usize::from(tries > 1));
        ended(&world);
        world.check();
        let mut platter = Platter::of(&world.before, None);
        world.disk.changes().iter().for_each(|change| platter.take(change));
        let image = platter.cut(&mut StdRng::seed_from_u64(seed));
        World::after(image, &world.items, world.promise(), seed).finish();
        world.finish();
    });
    assert!(again.get() > calls / 2, "{} of {calls} faults were felt", again.get());
}

#[test]
fn a_flush_that_fails_anywhere_succeeds_when_the_disk_is_well_again() {
    let before = [Action::Append(0), Action::Both, Action::Flush, Action::Append(1), Action::Append(0)];
    for seed in [0, PROFILED] {
        made_again((seed, false, &before), Action::Flush, &[], |_| {});
    }
}

#[test]
fn a_merge_that_fails_anywhere_is_made_when_the_disk_is_well_again() {
    // What comes late makes files of long spans, which are not merged.
    let before: Vec<Action> = [Action::Dense(0), Action::Flush].into_iter().cycle().take(8).collect();
    let ended = |world: &World| assert_eq!(world.store().metrics().sealed_files, 1);
    made_again((0, false, &before), Action::Compact, &[], ended);
}

#[test]
fn giving_up_old_readings_that_fails_anywhere_is_done_when_the_disk_is_well_again() {
    let before = [Action::Dense(0), Action::Flush, Action::Age(200), Action::Append(0), Action::Flush];
    // What is counted is what the files hold.
    let ended = |world: &World| {
        let store = world.store();
        store.flush().unwrap();
        let counted: u64 = store.series(None).iter().map(|series| series.count).sum();
        assert_eq!(counted, store.tiers().iter().map(|tier| tier.rows).sum::<u64>());
    };
    for seed in [0, PROFILED] {
        made_again((seed, false, &before), Action::Retain, &[Action::Append(1), Action::Flush], ended);
    }
}

#[test]
fn readings_that_fail_to_become_cold_anywhere_are_cold_once_when_the_disk_is_well_again() {
    let before = [Action::Append(0), Action::Flush, Action::Age(60)];
    let ended = |world: &World| assert!(world.store().cold().rows > 0);
    made_again((0, true, &before), Action::Retain, &[Action::Append(1), Action::Flush], ended);
}

/// What a start shows to agents must survive, also what was only on its way to the disk when the process was killed.
#[test]
fn what_is_found_after_a_kill_survives_a_power_cut() {
    let calls = recorded(0, &TOUR).disk.calls();
    seeds(40, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(0);
        let at = usize::try_from(seed).unwrap() * 61 % (calls - CLOSING_CALLS);
        world.disk.fail(Fault { at, calls: usize::MAX, failure: Failure::Killed });
        let done = world.open().and_then(|()| TOUR.into_iter().try_for_each(|action| world.perform(action)));
        assert!(done.is_err());
        let (items, mark, killed) = (world.items.clone(), world.promise(), world.disk.changed());
        world.kill();
        world.open().unwrap();
        world.recognize();
        let found = world.disk.changed();
        for action in [Action::Late, Action::Append(0), Action::Flush, Action::Both] {
            world.perform(action).unwrap();
        }
        let mut platter = Platter::of(&world.before, None);
        for (at, change) in (1..).zip(&world.disk.changes()) {
            platter.take(change);
            if at >= killed && rng.random_bool(0.2) {
                let image = platter.cut(&mut rng);
                let (items, mark) =
                    if at < found { (&items, mark) } else { (&world.items, world.promised(at)) };
                World::after(image, items, mark, seed).finish();
            }
        }
    });
}

/// How a disk that lies so is found out.
fn found(lie: Lie) -> String {
    found_by(&recorded(0, &TOUR), lie)
}

fn found_by(world: &World, lie: Lie) -> String {
    let cuts = || cut(world, &mut StdRng::seed_from_u64(0), Some(lie), &|_| true);
    let panic = catch_unwind(AssertUnwindSafe(cuts)).expect_err("nobody noticed");
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[test]
fn a_file_that_is_listed_before_it_is_synced_is_found() {
    for end in [".seg", ".roll"] {
        let lie = if end == ".seg" { ".seg.tmp" } else { ".roll.tmp" };
        let found = found(Lie::NoSync(lie));
        assert!(found.contains("put aside") && found.contains(end), "{found}");
    }
}

#[test]
fn a_cold_file_that_is_listed_before_it_is_synced_is_found() {
    let world = played(World::keeping(0, true), &COLD_TOUR);
    let found = found_by(&world, Lie::NoSync(".parquet.tmp"));
    assert!(found.contains("cold/day=") && found.contains("damaged"), "{found}");
}

#[test]
fn a_log_that_goes_before_the_manifest_is_synced_is_found() {
    let found = found(Lie::NoSync("manifest.redb.tmp"));
    assert!(found.contains("manifest") || found.contains("acknowledged"), "{found}");
}

#[test]
fn an_acknowledgement_before_the_log_is_synced_is_found() {
    let found = found(Lie::NoSync(".log"));
    assert!(found.contains("acknowledged") || found.contains("the dictionary is gone"), "{found}");
}

#[test]
fn a_folder_that_is_not_synced_is_found() {
    let found = found(Lie::NoSyncDir);
    assert!(found.contains("acknowledged") || found.contains("is gone"), "{found}");
}

#[test]
fn readings_that_count_twice_are_found() {
    let panic = catch_unwind(|| recorded(UNTOLD, &TOUR)).err().expect("nobody noticed");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains("the readings of"), "{text}");
}

#[test]
fn a_seed_replays_exactly() {
    let [one, other] = [(), ()].map(|()| recorded(0, &TOUR).disk.changes());
    let of = |changes: &[Change]| changes.iter().map(|change| format!("{change:?}")).collect::<Vec<_>>();
    assert_eq!(of(&one), of(&other));
}
