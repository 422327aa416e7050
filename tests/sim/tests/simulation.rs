//! Many seeds of the simulation; `SEEDS=` sets how many, `SEED=` replays one.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "tests speak and panic")]

use tideline_sim::{Canary, Outcome, campaign, run, run_caught};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("SEED and SEEDS are whole numbers"))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn the_program_says_how_it_is_used() {
    let said = |arg: &str| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_tideline-sim")).arg(arg).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (good, help) = said("--help");
    assert!(good && help.contains("SEEDS=1000") && help.contains("Usage: tideline-sim"), "{help}");
    assert_eq!(said("--hlep"), (false, "--hlep: unknown; allowed is --help\n".to_owned()));
}

#[test]
fn nothing_is_lost_or_doubled() {
    if let Some(seed) = number("SEED") {
        println!("SEED={seed}: {:?}", run_caught(seed, Canary::None).unwrap());
        return;
    }
    let seeds = number("SEEDS").unwrap_or(1_000);
    match campaign(0..seeds, threads(), Canary::None, |_| {}) {
        Err(violation) => panic!("{violation}; to run it again: make sim SEED={}", violation.seed),
        Ok(sum) => the_faults_happened(seeds, &sum),
    }
}

/// Or else the seeds prove nothing.
fn the_faults_happened(seeds: u64, sum: &Outcome) {
    println!("{sum:#?}");
    assert!(sum.folded > 0 && sum.folded < sum.dropped, "{sum:?}");
    assert!(sum.produced > 0 && sum.dropped > 0 && sum.duplicates > 0 && sum.restarts > 0, "{sum:?}");
    assert!(sum.sealed > 0 && sum.sealed < sum.stored && sum.clock_jumps > 0, "{sum:?}");
    assert!(sum.put_back > 0 && sum.swaps > 0 && sum.wipes > 0 && sum.restores > 0, "{sum:?}");
    assert!(sum.flips > 0 && sum.lost > 0 && sum.gone > 0 && sum.partitions > 0 && sum.full > 0, "{sum:?}");
    assert!(sum.quarantined > 0 && sum.restamped > 0 && sum.uncertain > 0, "{sum:?}");
    assert!(sum.agents > seeds, "some hubs have several agents: {sum:?}");
}

#[test]
fn a_seed_replays_exactly() {
    assert_eq!(run(7, Canary::None), run(7, Canary::None));
}

/// Seeds that failed once, each with what it found.
#[test]
fn an_honest_spool_is_no_copy_after_a_damaged_log_was_started_twice() {
    assert_eq!(run_caught(510, Canary::None).err(), None);
}

#[test]
fn a_spool_whose_pages_are_damaged_can_be_closed() {
    assert_eq!(run_caught(14_233, Canary::None).err(), None);
}

#[test]
fn what_was_sent_while_the_disk_was_full_is_in_no_batch_that_a_policy_makes_after_a_kill() {
    assert_eq!(run_caught(28_326, Canary::None).err(), None);
}

#[test]
fn a_spool_whose_epoch_has_a_flipped_bit_is_not_the_spool_of_another_one() {
    assert_eq!(run_caught(38_780, Canary::None).err(), None);
}

#[test]
fn a_flipped_bit_in_the_key_of_a_batch_does_not_make_it_another_seq() {
    assert_eq!(run_caught(53_183, Canary::None).err(), None);
}

#[test]
fn a_flipped_bit_in_the_format_of_a_spool_does_not_make_it_one_of_a_newer_version() {
    assert_eq!(run_caught(58_553, Canary::None).err(), None);
}

#[test]
fn every_canary_is_caught() {
    for canary in Canary::ALL {
        match canary.caught(threads()) {
            Ok(caught) => println!("{canary:?}: caught at {caught}"),
            Err(lives) => panic!("{lives}"),
        }
    }
}
