//! Random histories, compared with the reference after every event: late, repeated and disordered readings, silent
//! devices, ticks, restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_streams::spec::{
    Aggregate, Combine, Comparison, Direction, Group, JobSpec, Join, Late, Later, Stage, Time, Window,
};
use tideline_streams::{Output, What};

use super::reference::{Reference, Said, starts};
use super::rig::{MS, Series, Step, engine, name, refill, restart, spec, step};

fn windows() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_u64..20).prop_map(|length_ms| Window::Tumbling { length_ms }),
        (1_u64..8, 1_u64..6)
            .prop_map(|(hop_ms, times)| Window::Hopping { length_ms: hop_ms * times, hop_ms }),
        (0_u64..20).prop_map(|length_ms| Window::Sliding { length_ms }),
        (1_u64..12).prop_map(|gap_ms| Window::Session { gap_ms }),
        Just(Window::Each),
    ]
}

fn joins() -> impl Strategy<Value = Join> {
    // No ratio: the plain sums of the reference are exact only for what has few digits.
    let combine = prop_oneof![Just(Combine::Difference), Just(Combine::Product), Just(Combine::Right)];
    (0_u64..9, any::<bool>(), combine).prop_map(|(tolerance_ms, nearest, combine)| Join {
        left: "t".to_owned(),
        right: "u".to_owned(),
        tolerance_ms,
        direction: if nearest { Direction::Nearest } else { Direction::Backward },
        combine,
        left_device: None,
        right_device: None,
    })
}

fn stages() -> impl Strategy<Value = Vec<Stage>> {
    let points = || prop::option::of(Just("u".to_owned()));
    let stage = prop_oneof![
        points().prop_map(|points| Stage::Scale { points, factor: 0.5, offset: 1.0 }),
        points().prop_map(|points| Stage::Filter { points, compare: Comparison::Ge, value: -4.0 }),
    ];
    prop::collection::vec(stage, 0..3)
}

fn specs() -> impl Strategy<Value = JobSpec> {
    let time = (0_u64..12, prop::option::of(1_u64..40), 5_u64..60);
    let more = (any::<bool>(), any::<bool>(), 0_u64..25, any::<bool>());
    (windows(), prop::option::weighted(0.3, joins()), stages(), time, more).prop_map(
        |(window, join, stages, (bound, idle, ahead), (grouped, update, allowed_ms, timed))| {
            let fixed = matches!(window, Window::Tumbling { .. } | Window::Hopping { .. });
            let update = update && fixed && join.is_none();
            let grouped = grouped && window != Window::Each && join.is_none();
            let timed = timed && !update && !grouped;
            let aggregates = if window == Window::Each {
                vec![]
            } else {
                let all = Aggregate::ALL.into_iter();
                all.filter(|aggregate| timed || *aggregate != Aggregate::TimeWeightedMean).collect()
            };
            let allowed_ms = if join.is_some() { 0 } else { allowed_ms };
            JobSpec {
                sql: None,
                group: if grouped { Group::Device } else { Group::Series },
                late: Late { allowed_ms, then: if update { Later::Update } else { Later::Side } },
                time: Time { out_of_orderness_ms: bound, idle_timeout_ms: idle, ahead_max_ms: ahead },
                stages,
                join,
                ..spec(window, &aggregates)
            }
        },
    )
}

/// Which device, which point, and readings by time from now on.
type Drawn = (bool, bool, Vec<(i64, i8)>);

/// What happens, with times relative to a clock that goes on.
#[derive(Debug, Clone)]
enum Act {
    Readings(Vec<Drawn>),
    Pass(i64),
    Tick,
    Resumed,
    Restart,
    Refill,
    Forget(bool),
    Drain,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // Few times and values, so that they repeat; most are about now, and some far behind or ahead.
    let time = prop_oneof![8 => -12_i64..3, 2 => -60_i64..0, 1 => 0_i64..80];
    let rows = prop::collection::vec((time, any::<i8>()), 0..6);
    let column = (any::<bool>(), any::<bool>(), rows);
    let act = prop_oneof![
        12 => prop::collection::vec(column, 1..4).prop_map(Act::Readings),
        6 => (1_i64..15).prop_map(Act::Pass),
        3 => Just(Act::Tick),
        1 => Just(Act::Resumed),
        3 => Just(Act::Restart),
        2 => Just(Act::Refill),
        1 => any::<bool>().prop_map(Act::Forget),
    ];
    // A drain makes all that follows late.
    (prop::collection::vec(act, 1..40), any::<bool>()).prop_map(|(mut acts, drain)| {
        acts.extend(drain.then_some(Act::Drain));
        acts
    })
}

const DEVICES: [&str; 2] = ["a", "b"];
const POINTS: [&str; 2] = ["t", "u"];

fn series(columns: &[Drawn], now: i64) -> Vec<Series> {
    let value = |value: &i8| if *value == i8::MIN { f64::NAN } else { f64::from(*value) / 4.0 };
    columns
        .iter()
        .map(|(device, point, rows)| {
            let rows = rows.iter().map(|(time, of)| (now + time, value(of))).collect();
            (DEVICES[usize::from(*device)], POINTS[usize::from(*point)], rows)
        })
        .collect()
}

fn said(output: &Output) -> Said {
    match &output.what {
        What::Result(result) => {
            assert!(result.revision == 0 || result.revision == output.number);
            Said::Result {
                key: name(&result.key),
                start: result.start_ns,
                end: result.end_ns,
                late: result.revision > 0,
                values: result.values.iter().map(|(_, value)| *value).collect(),
            }
        }
        What::Withdrawn { key, start_ns, end_ns } => {
            Said::Withdrawn { key: name(key), start: *start_ns, end: *end_ns }
        }
        What::Row { .. } | What::Void { .. } => panic!("the job has no statement: {output:?}"),
        What::Side(row) => Said::Side {
            series: format!("{}/{}", row.device, row.point),
            time: row.time_ns,
            value: row.value,
            cause: match row.cause {
                tideline_streams::Cause::Late => "late",
                tideline_streams::Cause::Ahead => "ahead",
                tideline_streams::Cause::Unusable => "unusable",
                _ => "refused",
            },
        },
    }
}

/// In one order, and with what is not a number as text.
fn sorted(mut all: Vec<Said>) -> Vec<String> {
    let mut lines: Vec<String> = all.drain(..).map(|said| format!("{said:?}")).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn jobs_say_what_the_reference_says_after_every_event(spec in specs(), acts in acts()) {
        let mut job = engine(&spec);
        let mut reference = Reference::new(&spec);
        let mut now = 1_000;
        let mut history: Vec<Series> = Vec::new();
        let mut newest: BTreeMap<(String, i64), (u64, Vec<f64>)> = BTreeMap::new();
        let mut number = 0;
        for act in acts {
            let each = match act {
                Act::Readings(columns) => Step::Readings(now, series(&columns, now)),
                Act::Pass(ms) => { now += ms; continue }
                Act::Tick => Step::Tick(now),
                Act::Resumed => Step::Resumed(now),
                Act::Forget(which) => Step::Forget(now, DEVICES[usize::from(which)]),
                Act::Drain => Step::Drain(now),
                Act::Restart => { job = restart(&job); continue }
                Act::Refill => {
                    let asked: BTreeMap<(String, i64), u64> =
                        job.wanted(usize::MAX).iter().map(|w| ((name(&w.key), w.start_ns), w.rows)).collect();
                    prop_assert_eq!(&asked, &reference.wanted);
                    reference.wanted.clear();
                    for output in refill(&mut job, &history) {
                        number += 1;
                        prop_assert_eq!(output.number, number);
                        let Said::Result { key, start, end, late, values } = said(&output) else { panic!("{output:?}") };
                        prop_assert!(late && asked.contains_key(&(key.clone(), start)));
                        prop_assert_eq!(&values, &reference.by_history(&key, start, end));
                        newest.insert((key, start), (number, values));
                    }
                    prop_assert_eq!(job.wanted(1), vec![]);
                    continue
                }
            };
            if let Step::Readings(at, series) = &each {
                let usable = |(ms, _): &(i64, f64)| *ms <= at + i64::try_from(spec.time.ahead_max_ms).unwrap();
                history.extend(series.iter().map(|(d, p, rows)| (*d, *p, rows.iter().copied().filter(usable).collect())));
            }
            let outputs = step(&mut job, &each);
            let wanted = sorted(reference.step(&each));
            prop_assert_eq!(sorted(outputs.iter().map(said).collect()), wanted, "{:?}", each);
            for output in &outputs {
                number += 1;
                prop_assert_eq!(output.number, number);
                if let What::Result(result) = &output.what {
                    let values = result.values.iter().map(|(_, value)| *value).collect();
                    newest.insert((name(&result.key), result.start_ns), (result.revision, values));
                }
            }
            let counts = job.totals().counts;
            let known = job.devices().fold(0, |sum, (_, view)| sum + view.counts.rows);
            prop_assert!(known <= counts.rows);
        }
        if spec.late.then == Later::Update {
            every_window_is_that_of_all_readings(&spec, job, &reference, &history, newest);
        }
    }
}

/// With `update`, once all is closed and the history was brought, whatever came when.
fn every_window_is_that_of_all_readings(
    spec: &JobSpec,
    mut job: tideline_streams::Engine,
    reference: &Reference,
    history: &[Series],
    mut newest: BTreeMap<(String, i64), (u64, Vec<f64>)>,
) {
    let ends = step(&mut job, &Step::Drain(0)).into_iter().collect::<Vec<_>>();
    for output in ends.into_iter().chain(refill(&mut job, history)) {
        if let What::Result(result) = &output.what {
            let values = result.values.iter().map(|(_, value)| *value).collect();
            newest.insert((name(&result.key), result.start_ns), (result.revision, values));
        }
    }
    if reference.forgotten {
        return;
    }
    for (key, rows) in &reference.history {
        for (start, end) in rows.iter().flat_map(|row| starts(&spec.window, row.0)) {
            let given = newest.get(&(key.clone(), start)).map(|(_, values)| values.clone());
            assert_eq!(given, Some(reference.by_history(key, start, end)), "{key} {}", start / MS);
        }
    }
}
