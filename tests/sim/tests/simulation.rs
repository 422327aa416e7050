//! Many seeds of the simulation; `SEEDS=` sets how many, `SEED=` replays one.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "tests speak and panic")]

use tideline_sim::{Canary, Outcome, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seeds of one part of four, so that the test runner can use all cores.
fn part(index: u64) {
    if let Ok(seed) = std::env::var("SEED") {
        let seed = seed.parse().expect("SEED is a number");
        println!("SEED={seed}: {:?}", run(seed, Canary::None).unwrap());
        return;
    }
    let mut sum = Outcome::default();
    for seed in (0..number("SEEDS", 1_000)).filter(|seed| seed % 4 == index) {
        match run(seed, Canary::None) {
            Err(violation) => panic!("replay with SEED={seed}: {violation:?}"),
            Ok(outcome) => {
                sum.produced += outcome.produced;
                sum.dropped += outcome.dropped;
                sum.duplicates += outcome.duplicates;
                sum.restarts += outcome.restarts;
            }
        }
    }
    println!("{sum:?}");
    // The faults must have happened, or the seeds prove nothing.
    assert!(sum.produced > 0 && sum.dropped > 0 && sum.duplicates > 0 && sum.restarts > 0, "{sum:?}");
}

#[test]
fn nothing_is_lost_or_doubled_part_0() {
    part(0);
}

#[test]
fn nothing_is_lost_or_doubled_part_1() {
    part(1);
}

#[test]
fn nothing_is_lost_or_doubled_part_2() {
    part(2);
}

#[test]
fn nothing_is_lost_or_doubled_part_3() {
    part(3);
}

#[test]
fn a_seed_replays_exactly() {
    assert_eq!(run(7, Canary::None), run(7, Canary::None));
}

#[test]
fn a_hub_that_acks_before_it_is_durable_is_caught() {
    let caught = (0..2_000).find_map(|seed| run(seed, Canary::AckBeforeDurable).err());
    let violation = caught.expect("the canary lives");
    assert!(violation.what.starts_with("INV-1"), "{violation:?}");
}
