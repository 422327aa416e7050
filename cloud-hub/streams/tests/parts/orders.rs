//! Orders of arrival within the bound: all of them give the same answers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tideline_streams::spec::{
    Aggregate::{self, Count, First, Last, Mean, Sum},
    Combine, Direction, Group, JobSpec, Join, Window,
};
use tideline_streams::{Engine, What};

use super::rig::{Step, TEN, engine, joined_by, line, name, restart, spec, step};

/// What was said of each window, which is never late and so is said once.
type Answers = BTreeMap<(String, i64), String>;

fn answers(job: &mut Engine, each: &Step) -> Answers {
    let mut all = Answers::new();
    for output in step(job, each) {
        let What::Result(result) = &output.what else { panic!("{output:?}") };
        assert_eq!(result.revision, 0);
        let before = all.insert((name(&result.key), result.start_ns), line(&output));
        assert_eq!(before, None);
    }
    all
}

/// All orders of arrival that the bound allows give the same answers, with restarts at random places.
fn reorder(spec: JobSpec, rows: &[(&'static str, i64, f64)], bound: i64) {
    let rows: Vec<Row> = rows.iter().map(|(point, ms, value)| ("pump", *point, *ms, *value)).collect();
    reorder_of(spec, &rows, bound);
}

/// Device, point, time in ms, value.
type Row = (&'static str, &'static str, i64, f64);

/// The same of several devices.
fn reorder_of(mut spec: JobSpec, rows: &[Row], bound: i64) {
    spec.time.out_of_orderness_ms = u64::try_from(bound).unwrap();
    let single =
        |(device, point, ms, value): Row| Step::Readings(0, vec![(device, point, vec![(ms, value)])]);
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|row| row.2);
    let mut in_order = engine(&spec);
    let mut wanted = Answers::new();
    for each in sorted.iter().copied().map(single).chain([Step::Drain(0)]) {
        wanted.extend(answers(&mut in_order, &each));
    }
    assert!(wanted.len() > 1);
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let delays = prop::collection::vec((0..=bound, any::<bool>()), sorted.len());
    let checked = runner.run(&delays, |delays| {
        let mut order: Vec<_> = sorted.iter().copied().zip(delays).collect();
        order.sort_by_key(|(row, (delay, _))| row.2 + delay);
        let mut job = engine(&spec);
        let mut found = Answers::new();
        for (row, (_, restarted)) in order {
            if restarted {
                job = restart(&job);
            }
            found.extend(answers(&mut job, &single(row)));
        }
        found.extend(answers(&mut job, &Step::Drain(0)));
        prop_assert_eq!(&found, &wanted);
        Ok(())
    });
    checked.unwrap();
}

const SPREAD: [(&str, i64, f64); 14] = [
    ("t", -21, 2.0),
    ("t", -3, 6.0),
    ("t", 0, 1.0),
    ("u", 1, 100.0),
    ("t", 2, 4.0),
    ("t", 7, -2.0),
    ("u", 9, 50.0),
    ("t", 10, 5.0),
    ("t", 16, 0.5),
    ("t", 34, 7.0),
    ("u", 35, 0.25),
    ("t", 36, 0.1),
    ("t", 37, 0.2),
    ("t", 38, 1e16),
];

#[test]
fn the_order_of_arrival_within_the_bound_changes_nothing() {
    let windows = [
        TEN,
        Window::Hopping { length_ms: 15, hop_ms: 5 },
        Window::Sliding { length_ms: 8 },
        Window::Session { gap_ms: 6 },
    ];
    for window in windows {
        for allowed_ms in [0, 7] {
            let mut spec = spec(window.clone(), &Aggregate::ALL);
            spec.late.allowed_ms = allowed_ms;
            reorder(spec, &SPREAD, 12);
        }
    }
    let mut grouped = spec(TEN, &[Count, Sum, Mean, First, Last]);
    grouped.group = Group::Device;
    reorder(grouped, &SPREAD, 12);
    for direction in [Direction::Backward, Direction::Nearest] {
        for window in [Window::Each, TEN] {
            let aggregates: &[Aggregate] = if window == Window::Each { &[] } else { &[Count, Sum] };
            let mut joined = spec(window, aggregates);
            joined.join = Some(joined_by(direction, Combine::Difference, 5));
            reorder(joined, &SPREAD, 12);
        }
    }
}

#[test]
fn nor_does_it_to_pairs_of_two_devices() {
    let rows =
        SPREAD.map(|(point, ms, value)| (if point == "t" { "pump-1" } else { "tank-2" }, point, ms, value));
    for direction in [Direction::Backward, Direction::Nearest] {
        for window in [Window::Each, TEN, Window::Session { gap_ms: 6 }] {
            let aggregates: &[Aggregate] = if window == Window::Each { &[] } else { &[Count, Sum] };
            let mut joined = spec(window, aggregates);
            let join = joined_by(direction, Combine::Difference, 8);
            joined.join = Some(Join {
                left_device: Some("pump-1".to_owned()),
                right_device: Some("tank-2".to_owned()),
                ..join
            });
            reorder_of(joined, &rows, 12);
        }
    }
}
