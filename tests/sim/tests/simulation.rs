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
                sum.stored += outcome.stored;
                sum.sealed += outcome.sealed;
                sum.clock_jumps += outcome.clock_jumps;
                sum.put_back += outcome.put_back;
                sum.swaps += outcome.swaps;
            }
        }
    }
    println!("{sum:?}");
    // The faults must have happened, or the seeds prove nothing.
    assert!(sum.produced > 0 && sum.dropped > 0 && sum.duplicates > 0 && sum.restarts > 0, "{sum:?}");
    assert!(sum.sealed > 0 && sum.sealed < sum.stored && sum.clock_jumps > 0, "{sum:?}");
    assert!(sum.put_back > 0 && sum.swaps > 0, "{sum:?}");
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

/// The canary must die of one of these within two thousand seeds.
fn caught(canary: Canary, invariants: &[&str]) {
    let violation = (0..2_000).find_map(|seed| run(seed, canary).err()).expect("the canary lives");
    assert!(invariants.iter().any(|name| violation.what.starts_with(name)), "{violation:?}");
}

#[test]
fn a_hub_that_acks_before_it_is_durable_is_caught() {
    caught(Canary::AckBeforeDurable, &["INV-1"]);
}

#[test]
fn a_hub_that_trims_its_log_before_the_file_is_listed_is_caught() {
    caught(Canary::TrimBeforeCommit, &["INV-1"]);
}

#[test]
fn an_agent_that_takes_sent_for_stored_is_caught() {
    caught(Canary::FreeBeforeAck, &["INV-1"]);
}

#[test]
fn an_ack_of_one_seq_too_many_is_caught() {
    caught(Canary::RangeOffByOne, &["INV-1"]);
}

#[test]
fn a_flush_that_forgets_what_the_files_hold_is_caught() {
    caught(Canary::DedupeLostAtFlush, &["INV-1", "INV-2"]);
}

#[test]
fn a_hub_that_does_not_see_copies_of_a_spool_is_caught() {
    // The session of an old copy ends at once, for ever.
    caught(Canary::CopiesUnseen, &["INV-1", "INV-2", "INV-3", "after quiet"]);
}
