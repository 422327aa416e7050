//! The short run of every target: what is kept, then mutations of it, as many as a test may take.
//! `FUZZ_SEED=` and `FUZZ_RUNS=` take other numbers. An input that breaks something is written to
//! `crashers/`, where it stays and is run first from then on.
#![allow(clippy::expect_used, clippy::print_stderr, reason = "a test says what it found")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tideline_fuzz::kept::{CORPUS, CRASHERS, folder, inputs};
use tideline_fuzz::mutate::mutated;
use tideline_fuzz::{TARGETS, Target};

const SEED: u64 = 0x7a1d_e11e;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// An input that nothing is kept of yet is kept before the test ends.
fn try_mutated(target: &Target, run: u64, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target.run(data))) {
        let folder = folder(CRASHERS, target.name);
        let path = folder.join(format!("run-{run}"));
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, data));
        eprintln!("run {run} of {} broke something; its input is {}: {kept:?}", target.name, path.display());
        std::panic::resume_unwind(panic);
    }
}

fn short(name: &str) {
    let target = Target::named(name).expect("a target");
    for (file, data) in inputs(CRASHERS, name).expect("the crashers") {
        eprintln!("crasher {file}");
        target.run(&data);
    }
    let mut pool = target.seeds();
    assert!(!pool.is_empty());
    pool.extend(inputs(CORPUS, name).expect("the corpus").into_iter().map(|(_, data)| data));
    for (at, data) in pool.iter().enumerate() {
        eprintln!("kept input {at}");
        target.run(data);
    }
    let seed = number("FUZZ_SEED", SEED);
    eprintln!("FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for run in 0..number("FUZZ_RUNS", target.short_runs.into()) {
        let data = mutated(&pool, &mut random, target.bytes_max);
        try_mutated(target, run, &data);
    }
}

#[test]
fn the_wire_decoder_takes_or_refuses_any_bytes() {
    short("wire");
}

#[test]
fn blocks_are_refused_or_come_back_the_same() {
    short("block");
}

#[test]
fn sessions_bring_everything_to_the_hub_after_any_events() {
    short("session");
}

#[test]
fn configurations_are_taken_or_refused_with_a_place() {
    short("config");
}

#[test]
fn what_clients_of_other_systems_write_is_taken_or_refused() {
    short("formats");
}

#[test]
fn registers_of_any_device_become_values_that_its_profile_allows() {
    short("registers");
}

#[test]
fn stream_jobs_take_any_definition_state_and_readings_or_refuse_them() {
    short("streams");
}

#[test]
fn messages_of_devices_are_read_within_what_their_profiles_allow() {
    short("messages");
}

#[test]
fn profiles_are_taken_or_refused_with_a_line() {
    short("profile");
}

#[test]
fn datagrams_of_coap_make_bodies_or_none() {
    short("coap");
}

#[test]
fn nodes_of_sparkplug_may_say_anything_in_any_order() {
    short("sparkplug");
}

#[test]
fn what_servers_of_opc_ua_say_becomes_readings_or_is_refused() {
    short("opcua");
}

#[test]
fn pushed_bodies_are_taken_or_refused() {
    short("push");
}

#[test]
fn rows_of_tables_are_readings_or_refused_with_a_place() {
    short("rows");
}

#[test]
fn cbor_is_json_that_can_be_read_again_or_refused() {
    short("cbor");
}

#[test]
fn serial_lines_are_the_same_wherever_bytes_are_cut() {
    short("lines");
}

#[test]
fn messages_about_twins_are_taken_or_refused_and_what_is_taken_can_be_kept() {
    short("twin_message");
}

#[test]
fn pipelines_take_any_definition_state_and_readings_or_refuse_them() {
    short("pipeline");
}

#[test]
fn a_spool_opens_after_any_damage_and_counts_what_is_gone() {
    short("spool");
}

#[test]
fn every_target_has_a_binary_for_libfuzzer() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
