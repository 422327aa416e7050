//! What happens when there is no room: it is counted and told, and what is held goes on.

use proptest::prelude::*;
use tideline_streams::limits::{
    CELL_BYTES, DEVICE_BYTES, KEY_BYTES, READING_BYTES, STATE_BYTES_MIN, WANTED_BYTES,
};
use tideline_streams::spec::{Aggregate, Group, Later, Sink, Window};

use super::rig::{Step, TEN, device, engine, restart, run, spec};

fn at(device: &'static str, point: &'static str, rows: &[(i64, f64)]) -> Step {
    Step::Readings(0, vec![(device, point, rows.to_vec())])
}

#[test]
fn a_device_too_many_is_refused_until_another_is_forgotten() {
    let mut spec = spec(TEN, &[Aggregate::Sum]);
    spec.limits.devices = 2;
    let mut job = engine(&spec);
    let steps = [
        at("a", "t", &[(1, 1.0)]),
        at("b", "t", &[(1, 1.0)]),
        at("c", "t", &[(1, 1.0), (2, 2.0)]),
        at("a", "t", &[(3, 1.0)]),
        Step::Forget(0, "b"),
        at("c", "t", &[(3, 4.0)]),
        Step::Drain(0),
    ];
    let wanted = [
        "side c/t 1=1 devices",
        "side c/t 2=2 devices",
        "b/t [0,10) sum=1",
        "a/t [0,10) sum=2",
        "c/t [0,10) sum=4",
    ];
    assert_eq!(run(&mut job, &steps), wanted);
    assert_eq!((job.totals().counts.rows, job.totals().counts.refused, job.totals().side), (6, 2, 2));
}

#[test]
fn an_open_window_too_many_is_refused_until_one_is_closed() {
    let mut spec = spec(TEN, &[Aggregate::Sum]);
    spec.limits.open_windows = 2;
    let mut job = engine(&spec);
    let steps = [
        at("a", "t", &[(1, 1.0)]),
        at("a", "u", &[(1, 1.0)]),
        // The windows that are held take more.
        at("a", "v", &[(1, 1.0)]),
        at("a", "t", &[(2, 5.0)]),
        // There is no room for it, but it says what time it is.
        at("a", "t", &[(11, 1.0)]),
        at("a", "t", &[(12, 2.0)]),
    ];
    let wanted =
        ["side a/v 1=1 open_windows", "side a/t 11=1 open_windows", "a/t [0,10) sum=6", "a/u [0,10) sum=1"];
    assert_eq!(run(&mut job, &steps), wanted);
    assert_eq!(job.open_windows(), 1);
    assert_eq!(job.device(&device("a")).unwrap().counts.refused, 2);
    assert_eq!(restart(&job).open_windows(), 1);
}

#[test]
fn the_bytes_of_state_are_limited_whatever_they_are_of() {
    let mut sliding = spec(Window::Sliding { length_ms: 1_000_000 }, &[Aggregate::Count]);
    sliding.limits.state_bytes = STATE_BYTES_MIN;
    let mut job = engine(&sliding);
    let most = (STATE_BYTES_MIN - DEVICE_BYTES - KEY_BYTES) / READING_BYTES;
    let rows: Vec<(i64, f64)> = (0..5_000).map(|ms| (ms, 1.0)).collect();
    let found = run(&mut job, &[at("a", "t", &rows)]);
    assert_eq!(job.state_bytes(), STATE_BYTES_MIN);
    assert_eq!(job.totals().counts.refused, 5_000 - most);
    assert_eq!(found.iter().filter(|line| line.ends_with("state_bytes")).count() as u64, 5_000 - most);
    assert_eq!(job.totals().results, most, "those that were taken");
    // Another device needs more than a reading.
    assert_eq!(run(&mut job, &[at("b", "t", &[(1, 1.0)])]), ["side b/t 1=1 state_bytes"]);

    let mut tumbling = spec(TEN, &[Aggregate::Count]);
    tumbling.limits.state_bytes = STATE_BYTES_MIN;
    tumbling.late.then = Later::Update;
    let mut job = engine(&tumbling);
    let rows: Vec<(i64, f64)> = (0..1_000).map(|n| (n * 10, 1.0)).collect();
    run(&mut job, &[at("a", "t", &[(20_000, 1.0)]), at("a", "t", &rows)]);
    let most = (STATE_BYTES_MIN - DEVICE_BYTES - KEY_BYTES - CELL_BYTES) / WANTED_BYTES;
    assert_eq!((job.wanted(9_999).len() as u64, job.totals().counts.too_late), (most, most));
    assert_eq!((job.totals().counts.refused, job.totals().side), (1_000 - most, 1_000 - most));
    assert_eq!(job.wanted(3).len(), 3);
    assert_eq!(restart(&job).state_bytes(), job.state_bytes());
}

#[test]
fn a_series_that_cannot_be_named_is_refused() {
    let mut spec = spec(TEN, &[Aggregate::Sum]);
    let point = format!("{{point}}/{}", "x".repeat(60));
    spec.sinks = vec![Sink::Series { device: "{device}".to_owned(), point }];
    let steps = [at("a", "t", &[(1, 1.0)]), at("a", "temp", &[(1, 1.0)]), Step::Drain(0)];
    assert_eq!(run(&mut engine(&spec), &steps), ["side a/temp 1=1 name", "a/t [0,10) sum=1"]);
}

#[test]
fn what_is_no_longer_kept_takes_no_room() {
    for window in [TEN, Window::Sliding { length_ms: 10 }, Window::Session { gap_ms: 5 }] {
        let mut job = engine(&spec(window, &Aggregate::ALL));
        let mut most = 0;
        for now in 0..500 {
            run(&mut job, &[at("a", "t", &[(now * 7, 1.0), (now * 7 + 1, 2.0)])]);
            most = most.max(job.state_bytes());
        }
        assert!(most <= DEVICE_BYTES + KEY_BYTES + 3 * CELL_BYTES + 20 * READING_BYTES, "{most}");
        run(&mut job, &[Step::Forget(0, "a")]);
        assert_eq!((job.state_bytes(), job.open_windows()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// rows = held, or in windows once, or counted.
    #[test]
    fn no_reading_is_lost_without_a_count_and_a_word(
        rows in prop::collection::vec((0_usize..4, 0_usize..3, -50_i64..400), 1..400),
        cells in 1_u64..6, devices in 1_u64..4, session in any::<bool>(), grouped in any::<bool>(),
    ) {
        let window = if session { Window::Session { gap_ms: 7 } } else { TEN };
        let mut spec = spec(window, &[Aggregate::Count]);
        spec.limits.open_windows = cells;
        spec.limits.devices = devices;
        spec.group = if grouped { Group::Device } else { Group::Series };
        let mut job = engine(&spec);
        let mut said = Vec::new();
        for (device, point, ms) in &rows {
            said.extend(run(&mut job, &[at(["a", "b", "c", "d"][*device], ["t", "u", "v"][*point], &[(*ms, 1.0)])]));
            prop_assert!(job.open_windows() <= cells);
        }
        said.extend(run(&mut job, &[Step::Drain(0)]));
        let in_windows: u64 =
            said.iter().filter_map(|line| line.split_once("count=")).map(|(_, n)| n.parse::<u64>().unwrap()).sum();
        let aside = said.iter().filter(|line| line.starts_with("side")).count() as u64;
        prop_assert_eq!(in_windows + aside, rows.len() as u64);
        let counts = job.totals().counts;
        prop_assert_eq!(counts.rows, rows.len() as u64);
        prop_assert_eq!(counts.too_late + counts.refused, aside);
        prop_assert_eq!(job.open_windows(), 0);
    }
}
