//! Late readings of sliding windows and sessions with `update`: worked out by hand, and against all readings at once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_streams::limits::PAST_SESSIONS_MAX;
use tideline_streams::spec::{
    Aggregate::{Count, First, Last, Sum},
    JobSpec, Later, Sink, Window,
};
use tideline_streams::{Engine, Job, What};

use super::rig::{MS, Series, Step, engine, line, lines, name, one, refill, restart, run, spec, step};

fn update(window: Window, allowed_ms: u64) -> JobSpec {
    let mut spec = spec(window, &[Count, Sum]);
    (spec.late.then, spec.late.allowed_ms) = (Later::Update, allowed_ms);
    spec
}

const SESSIONS: Window = Window::Session { gap_ms: 5 };

/// The history of `pump/t`.
fn history(rows: &[(i64, f64)]) -> Vec<Series> {
    vec![("pump", "t", rows.to_vec())]
}

/// What the history brings, also after a restart.
fn brought(job: &mut Engine, rows: &[(i64, f64)]) -> Vec<String> {
    *job = restart(job);
    let found: Vec<String> = refill(job, &history(rows)).iter().map(line).collect();
    assert_eq!(job.wanted(1), []);
    found
}

#[test]
fn a_late_reading_joins_sessions_that_are_gone_and_the_sink_is_told() {
    let mut job = engine(&update(SESSIONS, 0));
    let first = [(0, 1.0), (4, 2.0), (12, 4.0), (30, 8.0), (60, 16.0)];
    let found: Vec<String> = first.iter().flat_map(|row| lines(&mut job, &one("t", &[*row]))).collect();
    assert_eq!(
        found,
        ["pump/t [0,9) count=2 sum=3", "pump/t [12,17) count=1 sum=4", "pump/t [30,35) count=1 sum=8"]
    );
    // 8 is less than 5 from 4 and from 12.
    assert_eq!(lines(&mut job, &one("t", &[(8, 0.5)])), [""; 0]);
    let mut all = first.to_vec();
    all.push((8, 0.5));
    let wanted = ["withdrawn pump/t [12,17)", "late pump/t [0,17) count=4 sum=7.5"];
    assert_eq!(brought(&mut job, &all), wanted);
    // One by itself, then one before it that becomes its start, then one between.
    run(&mut restart(&job), &[one("t", &[(22, 1.0)])]);
    all.push((22, 1.0));
    assert_eq!(lines(&mut job, &one("t", &[(22, 1.0)])), [""; 0]);
    assert_eq!(brought(&mut job, &all), ["late pump/t [22,27) count=1 sum=1"]);
    all.extend([(19, 1.0), (26, 1.0)]);
    assert_eq!(lines(&mut job, &one("t", &[(19, 1.0), (26, 1.0)])), [""; 0]);
    let wanted =
        ["withdrawn pump/t [22,27)", "withdrawn pump/t [30,35)", "late pump/t [19,35) count=4 sum=11"];
    assert_eq!(brought(&mut job, &all), wanted);
    let totals = job.totals();
    assert_eq!((totals.counts.too_late, totals.withdrawn, totals.refilled), (4, 3, 3));
}

#[test]
fn a_session_that_is_open_reaches_back_into_one_that_is_gone() {
    let mut job = engine(&update(SESSIONS, 0));
    let first = [(0, 1.0), (9, 2.0)];
    let found: Vec<String> = first.iter().flat_map(|row| lines(&mut job, &one("t", &[*row]))).collect();
    assert_eq!(found, ["pump/t [0,5) count=1 sum=1"]);
    // It joins the one that is open with the one that is gone: the whole is given when it ends.
    assert_eq!(lines(&mut job, &one("t", &[(4, 4.0), (8, 8.0)])), [""; 0]);
    assert_eq!(restart(&job).wanted(9), []);
    assert_eq!(lines(&mut job, &one("t", &[(20, 0.0)])), [""; 0]);
    let mut all = vec![(0, 1.0), (9, 2.0), (4, 4.0), (8, 8.0), (20, 0.0)];
    assert_eq!(brought(&mut job, &all), ["late pump/t [0,14) count=4 sum=15"]);
    // A late one before it takes its start away.
    all.push((-3, 1.0));
    assert_eq!(lines(&mut job, &one("t", &[(-3, 1.0)])), [""; 0]);
    let wanted = ["withdrawn pump/t [0,14)", "late pump/t [-3,14) count=5 sum=16"];
    assert_eq!(brought(&mut job, &all), wanted);
}

#[test]
fn a_session_that_is_kept_and_was_given_is_withdrawn_for_a_longer_one() {
    let mut job = engine(&update(SESSIONS, 20));
    let steps = [one("t", &[(0, 1.0)]), one("t", &[(9, 2.0)]), one("t", &[(28, 4.0)])];
    assert_eq!(run(&mut job, &steps), ["pump/t [0,5) count=1 sum=1", "pump/t [9,14) count=1 sum=2"]);
    // [0,5) is gone, [9,14) is kept.
    let found = lines(&mut job, &one("t", &[(4, 8.0), (5, 16.0)]));
    assert_eq!(found, ["withdrawn pump/t [9,14)"]);
    let all = [(0, 1.0), (9, 2.0), (28, 4.0), (4, 8.0), (5, 16.0)];
    assert_eq!(brought(&mut job, &all), ["late pump/t [0,14) count=4 sum=27"]);
}

#[test]
fn sessions_are_remembered_up_to_a_limit_and_what_is_older_goes_aside() {
    let mut job = engine(&update(SESSIONS, 0));
    let count = i64::try_from(PAST_SESSIONS_MAX).unwrap();
    let rows: Vec<(i64, f64)> = (0..count + 2).map(|at| (at * 10, 1.0)).collect();
    let given: Vec<String> = rows.iter().flat_map(|row| lines(&mut job, &one("t", &[*row]))).collect();
    assert_eq!(given.len(), PAST_SESSIONS_MAX + 1);
    job = restart(&job);
    assert_eq!(lines(&mut job, &one("t", &[(4, 1.0)])), ["side pump/t 4=1 late"]);
    assert_eq!(lines(&mut job, &one("t", &[(7, 1.0)])), [""; 0]);
    assert_eq!(
        brought(&mut job, &[(7, 1.0), (10, 1.0)]),
        ["withdrawn pump/t [10,15)", "late pump/t [7,15) count=2 sum=2"]
    );
}

#[test]
fn a_late_reading_has_just_the_sliding_windows_that_look_back_on_it_given_again() {
    let mut job = engine(&update(Window::Sliding { length_ms: 10 }, 0));
    let first = [(0, 1.0), (8, 2.0), (11, 4.0), (16, 8.0), (30, 16.0)];
    let found: Vec<String> = first.iter().flat_map(|row| lines(&mut job, &one("t", &[*row]))).collect();
    assert_eq!(found.len(), 4);
    // Windows of 8, 11 and 30 are closed; those of 0 and 16 do not have 3 or 7 in them, but 16 has 7.
    assert_eq!(lines(&mut job, &one("t", &[(3, 0.5)])), [""; 0]);
    let mut all = first.to_vec();
    all.push((3, 0.5));
    let wanted = [
        "late pump/t [-7,3] count=2 sum=1.5",
        "late pump/t [-2,8] count=3 sum=3.5",
        "late pump/t [1,11] count=3 sum=6.5",
    ];
    assert_eq!(brought(&mut job, &all), wanted);
    // One that an open window looks back on, too.
    all.extend([(22, 0.25), (32, 1.0)]);
    assert_eq!(lines(&mut job, &one("t", &[(22, 0.25)])), [""; 0]);
    assert_eq!(brought(&mut job, &all), ["late pump/t [12,22] count=2 sum=8.25"]);
    assert_eq!(lines(&mut job, &one("t", &[(32, 1.0)])), ["pump/t [20,30] count=2 sum=16.25"]);
    assert_eq!(run(&mut job, &[Step::Drain(0)]), ["pump/t [22,32] count=3 sum=17.25"]);
}

/// What a sink has at the end: the values by start of each window that was given and not withdrawn.
type Table = BTreeMap<(String, i64), (i64, Vec<f64>)>;

/// What the series of a sink have at the end: of the readings of one time the last to arrive, where it is not a null.
type Readings = BTreeMap<(String, i64), f64>;

fn put(job: &Job, (table, readings): (&mut Table, &mut Readings), outputs: Vec<tideline_streams::Output>) {
    for output in outputs {
        match output.what {
            What::Result(result) => {
                for one in job.derive(&result).unwrap() {
                    readings.insert((one.point.to_string(), one.sample.time_ns), one.sample.value);
                }
                let values = result.values.iter().map(|(_, value)| *value).collect();
                table.insert((name(&result.key), result.start_ns / MS), (result.end_ns, values));
            }
            What::Withdrawn { key, start_ns, end_ns } => {
                for (_, point) in job.derived_series(&key).unwrap() {
                    assert!(readings.remove(&(point.to_string(), start_ns)).is_some(), "{point} {start_ns}");
                }
                let gone = table.remove(&(name(&key), start_ns / MS));
                assert_eq!(gone.map(|(end, _)| end), Some(end_ns), "{start_ns}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The same from all readings at once.
fn batch(window: &Window, rows: &[(i64, f64)]) -> Table {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.0);
    let values = |rows: &[(i64, f64)]| {
        let sum: f64 = rows.iter().map(|row| row.1).sum();
        vec![rows.len() as f64, sum, rows[0].1, rows[rows.len() - 1].1]
    };
    let mut table = Table::new();
    match *window {
        Window::Session { gap_ms } => {
            let gap = i64::try_from(gap_ms).unwrap();
            for session in rows.chunk_by(|a, b| b.0 - a.0 < gap) {
                let end = (session[session.len() - 1].0 + gap) * MS;
                table.insert(("pump/t".to_owned(), session[0].0), (end, values(session)));
            }
        }
        Window::Sliding { length_ms } => {
            let length = i64::try_from(length_ms).unwrap();
            for (time, _) in &rows {
                let inside: Vec<_> =
                    rows.iter().copied().filter(|row| (time - length..=*time).contains(&row.0)).collect();
                table.insert(("pump/t".to_owned(), time - length), (time * MS + 1, values(&inside)));
            }
        }
        _ => unreachable!(),
    }
    table
}

/// The readings that a table makes.
fn readings_of(window: &Window, table: &Table) -> Readings {
    let mut out = Readings::new();
    for ((_, start_ms), (end_ns, values)) in table {
        // A sliding window ends with the reading that it looks back from.
        let time_ns = if matches!(window, Window::Sliding { .. }) { end_ns - 1 } else { start_ms * MS };
        for (name, value) in ["count", "sum", "first", "last"].iter().zip(values) {
            out.insert((format!("t.{name}"), time_ns), *value);
        }
    }
    out
}

#[derive(Debug, Clone)]
enum Act {
    Readings(Vec<i64>),
    Restart,
    Refill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // About a time that goes on, with some far behind it.
    let back = prop_oneof![4 => 0_i64..12, 3 => 0_i64..90];
    let act = prop_oneof![
        8 => prop::collection::vec(back, 1..4).prop_map(Act::Readings),
        1 => Just(Act::Restart),
        2 => Just(Act::Refill),
    ];
    prop::collection::vec(act, 1..60)
}

fn windows() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_u64..14).prop_map(|gap_ms| Window::Session { gap_ms }),
        (0_u64..14).prop_map(|length_ms| Window::Sliding { length_ms }),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Small(u64, u64);

fn small() -> impl Strategy<Value = Small> {
    (2_u64..8, 64_u64..70).prop_map(|(open, kib)| Small(open, kib << 10))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes when, and whenever it is looked at: in the end a sink has what all readings give at once.
    #[test]
    fn in_the_end_a_sink_has_what_all_readings_give_at_once(
        window in windows(),
        (allowed_ms, bound) in (0_u64..30, 0_u64..6),
        acts in acts(),
    ) {
        let mut spec = spec(window.clone(), &[Count, Sum, First, Last]);
        spec.late.then = Later::Update;
        spec.late.allowed_ms = allowed_ms;
        spec.time.out_of_orderness_ms = bound;
        spec.sinks = vec![Sink::Series { device: "{device}".to_owned(), point: "{point}.{aggregate}".to_owned() }];
        let mut job = engine(&spec);
        let (mut table, mut readings) = (Table::new(), Readings::new());
        let (mut rows, mut now) = (Vec::new(), 0);
        for act in acts {
            match act {
                Act::Readings(backs) => {
                    now += 7;
                    let first = rows.len();
                    // Values are small whole numbers, so that plain sums are exact.
                    let number = |at: usize| f64::from(u32::try_from(first + at).unwrap());
                    let new: Vec<(i64, f64)> =
                        backs.iter().enumerate().map(|(at, back)| (now - back, number(at))).collect();
                    rows.extend(new.iter().copied());
                    let outputs = step(&mut job, &one("t", &new));
                    put(job.job(), (&mut table, &mut readings), outputs);
                }
                Act::Restart => job = restart(&job),
                Act::Refill => {
                    let outputs = refill(&mut job, &history(&rows));
                    put(job.job(), (&mut table, &mut readings), outputs);
                }
            }
        }
        let outputs = step(&mut job, &Step::Drain(0));
        put(job.job(), (&mut table, &mut readings), outputs);
        let outputs = refill(&mut job, &history(&rows));
        put(job.job(), (&mut table, &mut readings), outputs);
        prop_assert_eq!(job.wanted(1), vec![]);
        prop_assert_eq!(&table, &batch(&window, &rows));
        prop_assert_eq!(&readings, &readings_of(&window, &table));
        prop_assert_eq!(restart(&job).state_bytes(), job.state_bytes());
    }

    /// What is held, and what waits for the history, never comes to more than the limits.
    #[test]
    fn what_waits_for_the_history_is_within_the_limits(
        window in windows(),
        allowed_ms in 0_u64..30,
        Small(open_windows, state_bytes) in small(),
        acts in acts(),
    ) {
        let mut spec = spec(window, &[Count]);
        (spec.late.then, spec.late.allowed_ms) = (Later::Update, allowed_ms);
        (spec.limits.open_windows, spec.limits.state_bytes) = (open_windows, state_bytes);
        let mut job = engine(&spec);
        let (mut rows, mut now) = (Vec::new(), 0);
        for act in acts {
            match act {
                Act::Readings(backs) => {
                    now += 7;
                    let new: Vec<(i64, f64)> = backs.iter().map(|back| (now - back, 1.0)).collect();
                    rows.extend(new.iter().copied());
                    step(&mut job, &one("t", &new));
                }
                Act::Restart => job = restart(&job),
                Act::Refill => drop(refill(&mut job, &history(&rows))),
            }
            prop_assert!(job.open_windows() <= open_windows && job.state_bytes() <= state_bytes);
            prop_assert_eq!(restart(&job).state_bytes(), job.state_bytes());
        }
    }
}
