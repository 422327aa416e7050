//! Windows worked out by hand, each also with a restart between any two events.

use tideline_streams::spec::{
    Aggregate::{self, Count, First, Last, Max, Min, Sum, TimeWeightedMean},
    Combine, Comparison, Direction, Group, JobSpec, Late, Later, Stage, Time, Window,
};

use super::rig::{
    Series, Step, TEN, bring, engine, joined_by, line, lines, one, refill, restart, run, spec, step,
};

/// Runs the steps whole, with a restart between any two, and with a restart between each two.
fn check(spec: &JobSpec, steps: &[Step], wanted: &[&str]) {
    assert_eq!(run(&mut engine(spec), steps), wanted);
    for cut in 0..=steps.len() {
        let mut job = engine(spec);
        let mut found = run(&mut job, &steps[..cut]);
        found.extend(run(&mut restart(&job), &steps[cut..]));
        assert_eq!(found, wanted, "restarted after {cut} steps");
    }
    let mut job = engine(spec);
    let mut found = Vec::new();
    for step in steps {
        job = restart(&job);
        found.extend(lines(&mut job, step));
    }
    assert_eq!(found, wanted, "restarted before every step");
}

#[test]
fn tumbling_windows_have_all_aggregates() {
    let spec = spec(TEN, &Aggregate::ALL);
    let steps = [
        one("t", &[(0, 1.0), (2, 4.0), (7, -2.0)]),
        one("t", &[(9, 8.0)]),
        // The watermark is at the end: the window is closed.
        one("t", &[(10, 5.0)]),
        // An empty window gives nothing; the 5 of the one before holds at the start of the next.
        one("t", &[(34, 7.0)]),
        Step::Drain(0),
    ];
    check(
        &spec,
        &steps,
        &[
            // Over time: 1 for 2, 4 for 5, -2 for 2, 8 for 1 of 10.
            "pump/t [0,10) count=4 min=-2 max=8 sum=11 first=1 last=8 mean=2.75 time_weighted_mean=2.6",
            "pump/t [10,20) count=1 min=5 max=5 sum=5 first=5 last=5 mean=5 time_weighted_mean=5",
            // 5 for 4, 7 for 6.
            "pump/t [30,40) count=1 min=7 max=7 sum=7 first=7 last=7 mean=7 time_weighted_mean=6.2",
        ],
    );
}

#[test]
fn outputs_are_json_that_names_what_they_are() {
    let mut job = engine(&spec(TEN, &[Count, Sum]));
    let first = step(&mut job, &one("t", &[(1, 0.5), (10, 1.0)]));
    let json = serde_json::to_string(&first).unwrap();
    let window = r#""key":{"device":"pump","point":"t"},"start_ns":0,"end_ns":10000000,"revision":0"#;
    let wanted = format!(
        r#"[{{"job":"job","number":1,"what":{{"kind":"result",{window},"values":[["count",1.0],["sum",0.5]]}}}}]"#
    );
    assert_eq!(json, wanted);
    let aside = step(&mut job, &one("t", &[(2, f64::NAN)]));
    let json = serde_json::to_string(&aside).unwrap();
    let row = r#""device":"pump","point":"t","time_ns":2000000,"value":null,"cause":"unusable""#;
    assert_eq!(json, format!(r#"[{{"job":"job","number":2,"what":{{"kind":"side",{row}}}}}]"#));
}

#[test]
fn times_before_1970_are_in_windows_that_begin_before_them() {
    let steps = [one("t", &[(-11, 1.0), (-10, 2.0), (-1, 3.0), (0, 4.0)]), Step::Drain(0)];
    let wanted = ["pump/t [-20,-10) sum=1", "pump/t [-10,0) sum=5", "pump/t [0,10) sum=4"];
    check(&spec(TEN, &[Sum]), &steps, &wanted);
}

#[test]
fn a_reading_is_in_each_hopping_window_that_holds_it() {
    let steps = [one("t", &[(3, 1.0), (12, 2.0)]), one("t", &[(20, 4.0)]), Step::Drain(0)];
    let wanted = [
        "pump/t [-10,5) sum=1 time_weighted_mean=1",
        "pump/t [-5,10) sum=1 time_weighted_mean=1",
        // 1 for 9, 2 for 3 of the 12 since the first reading.
        "pump/t [0,15) sum=3 time_weighted_mean=1.25",
        "pump/t [5,20) sum=2 time_weighted_mean=1.5333333333333334",
        "pump/t [10,25) sum=6 time_weighted_mean=2.533333333333333",
        "pump/t [15,30) sum=4 time_weighted_mean=3.3333333333333335",
        "pump/t [20,35) sum=4 time_weighted_mean=4",
    ];
    check(&spec(Window::Hopping { length_ms: 15, hop_ms: 5 }, &[Sum, TimeWeightedMean]), &steps, &wanted);
}

#[test]
fn a_sliding_window_looks_back_from_each_reading_with_both_ends_in_it() {
    let steps =
        [one("t", &[(0, 1.0), (4, 2.0), (4, 3.0), (10, 4.0)]), one("t", &[(15, 9.0)]), Step::Drain(0)];
    let wanted = [
        "pump/t [-10,0] count=1 sum=1 last=1 time_weighted_mean=1",
        // Two readings of one time share a window.
        "pump/t [-6,4] count=3 sum=6 last=3 time_weighted_mean=1",
        // 1 for 4, 3 for 6.
        "pump/t [0,10] count=4 sum=10 last=4 time_weighted_mean=2.2",
        // 3 for 5 and 4 for 5; what held at 5 came before.
        "pump/t [5,15] count=2 sum=13 last=9 time_weighted_mean=3.5",
    ];
    check(&spec(Window::Sliding { length_ms: 10 }, &[Count, Sum, Last, TimeWeightedMean]), &steps, &wanted);
}

#[test]
fn a_session_ends_with_silence_and_starts_anew_exactly_the_gap_later() {
    let steps = [
        one("t", &[(0, 1.0), (4, 3.0)]),
        one("t", &[(9, 5.0)]),
        one("t", &[(13, 2.0), (17, 2.0)]),
        Step::Drain(0),
    ];
    let wanted = [
        // From the first reading to the last: 1 for 4.
        "pump/t [0,9) count=2 min=1 max=3 time_weighted_mean=1",
        "pump/t [9,22) count=3 min=2 max=5 time_weighted_mean=3.5",
    ];
    check(&spec(Window::Session { gap_ms: 5 }, &[Count, Min, Max, TimeWeightedMean]), &steps, &wanted);
}

#[test]
fn a_kept_window_is_given_again_with_a_late_reading_and_what_is_later_goes_aside() {
    let mut spec = spec(TEN, &[Count, Sum]);
    spec.late.allowed_ms = 5;
    let steps = [
        one("t", &[(1, 1.0), (11, 10.0)]),
        one("t", &[(2, 2.0), (3, 3.0)]),
        // A late reading for a window that had none.
        one("u", &[(5, 7.0)]),
        one("t", &[(14, 20.0)]),
        one("t", &[(4, 4.0)]),
        one("t", &[(15, 30.0)]),
        one("t", &[(6, 6.0), (12, 1.0)]),
        Step::Drain(0),
    ];
    let wanted = [
        "pump/t [0,10) count=1 sum=1",
        "late pump/t [0,10) count=3 sum=6",
        "late pump/u [0,10) count=1 sum=7",
        "late pump/t [0,10) count=4 sum=10",
        "side pump/t 6=6 late",
        "pump/t [10,20) count=4 sum=61",
    ];
    check(&spec, &steps, &wanted);
    let mut job = engine(&spec);
    run(&mut job, &steps);
    let counts = job.device(&super::rig::device("pump")).unwrap().counts;
    assert_eq!((counts.rows, counts.late, counts.too_late), (10, 6, 1));
    assert_eq!(counts, job.totals().counts);
    assert_eq!((job.totals().results, job.totals().late_results, job.totals().side), (5, 3, 1));
}

#[test]
fn a_late_reading_changes_the_mean_over_time_of_the_next_window_too() {
    let mut spec = spec(TEN, &[TimeWeightedMean]);
    spec.late.allowed_ms = 100;
    let steps = [
        one("t", &[(0, 10.0), (25, 30.0)]),
        one("t", &[(40, 0.0)]),
        one("t", &[(12, 20.0)]),
        // It holds from 4 on, but the reading at 12 is before the windows after it.
        one("t", &[(4, 40.0)]),
    ];
    let wanted = [
        "pump/t [0,10) time_weighted_mean=10",
        // 10 for 5, 30 for 5.
        "pump/t [20,30) time_weighted_mean=20",
        // 10 for 2, 20 for 8.
        "late pump/t [10,20) time_weighted_mean=18",
        "late pump/t [20,30) time_weighted_mean=25",
        "late pump/t [0,10) time_weighted_mean=28",
        "late pump/t [10,20) time_weighted_mean=24",
    ];
    check(&spec, &steps, &wanted);
}

#[test]
fn a_late_reading_joins_sessions_and_the_later_one_is_withdrawn() {
    let mut spec = spec(Window::Session { gap_ms: 5 }, &[Count, Sum]);
    spec.late.allowed_ms = 20;
    let steps = [
        one("t", &[(0, 1.0), (8, 2.0), (20, 3.0)]),
        one("t", &[(4, 10.0)]),
        // One that begins earlier is another session.
        one("t", &[(-2, 100.0)]),
        one("t", &[(24, 4.0)]),
        one("t", &[(32, 5.0)]),
        // One that was given is open again, and given again when it is closed.
        one("t", &[(28, 20.0)]),
        one("t", &[(40, 6.0)]),
        one("t", &[(8, 1.0)]),
        Step::Drain(0),
    ];
    let wanted = [
        "pump/t [0,5) count=1 sum=1",
        "pump/t [8,13) count=1 sum=2",
        "withdrawn pump/t [8,13)",
        "late pump/t [0,13) count=3 sum=13",
        "withdrawn pump/t [0,13)",
        "late pump/t [-2,13) count=4 sum=113",
        "pump/t [20,29) count=2 sum=7",
        "late pump/t [20,37) count=4 sum=32",
        // The session at -2 is no longer kept, and this one alone would have ended long ago.
        "side pump/t 8=1 late",
        "pump/t [40,45) count=1 sum=6",
    ];
    check(&spec, &steps, &wanted);
}

#[test]
fn a_late_reading_changes_all_that_look_back_on_it() {
    let mut spec = spec(Window::Sliding { length_ms: 5 }, &[Sum]);
    spec.late.allowed_ms = 10;
    let steps =
        [one("t", &[(0, 1.0), (3, 2.0), (9, 4.0), (12, 8.0)]), one("t", &[(2, 16.0)]), one("t", &[(1, 0.0)])];
    let wanted = [
        "pump/t [-5,0] sum=1",
        "pump/t [-2,3] sum=3",
        "pump/t [4,9] sum=4",
        "late pump/t [-3,2] sum=17",
        "late pump/t [-2,3] sum=19",
        "side pump/t 1=0 late",
    ];
    check(&spec, &steps, &wanted);
}

#[test]
fn what_is_too_late_is_aggregated_again_from_the_history() {
    let mut spec = spec(Window::Hopping { length_ms: 20, hop_ms: 10 }, &[Count, Sum]);
    spec.late = Late { allowed_ms: 0, then: Later::Update };
    spec.stages = vec![Stage::Scale { points: None, factor: 2.0, offset: 0.0 }];
    let mut job = engine(&spec);
    let first = vec![("pump", "t", vec![(1, 1.0), (11, 2.0), (21, 4.0)])];
    let late = vec![("pump", "t", vec![(12, 8.0), (2, 16.0)])];
    let found = run(&mut job, &[Step::Readings(0, first.clone()), Step::Readings(0, late.clone())]);
    assert_eq!(found, ["pump/t [-10,10) count=1 sum=2", "pump/t [0,20) count=2 sum=6"]);
    let wanted: Vec<(i64, u64)> =
        job.wanted(9).iter().map(|wanted| (wanted.start_ns / 1_000_000, wanted.rows)).collect();
    assert_eq!(wanted, [(-10, 1), (0, 2)]);
    // The window from 10 on is open still, and has the reading at 12.
    let history: Vec<Series> = first.into_iter().chain(late).collect();
    let mut job = restart(&job);
    let again: Vec<String> = refill(&mut job, &history).iter().map(line).collect();
    assert_eq!(again, ["late pump/t [-10,10) count=2 sum=34", "late pump/t [0,20) count=4 sum=54"]);
    assert_eq!(job.wanted(9), []);
    assert_eq!(
        run(&mut job, &[Step::Drain(0)]),
        ["pump/t [10,30) count=3 sum=28", "pump/t [20,40) count=1 sum=8"]
    );
    assert_eq!(job.totals().counts.too_late, 1);
    assert_eq!(job.totals().refilled, 2);
}

#[test]
fn a_window_is_wanted_until_the_history_has_all_that_came_too_late_for_it() {
    let mut spec = spec(TEN, &[Count]);
    spec.late.then = Later::Update;
    let mut job = engine(&spec);
    run(&mut job, &[one("t", &[(1, 1.0), (10, 1.0)]), one("t", &[(2, 1.0)])]);
    let asked = job.wanted(1).remove(0);
    let early: Vec<Series> = vec![("pump", "t", vec![(1, 1.0), (2, 1.0)])];
    // The history was read before this one was in it.
    run(&mut job, &[one("t", &[(3, 1.0)])]);
    assert_eq!(bring(&mut job, &asked, &early), ["late pump/t [0,10) count=2"]);
    let again = job.wanted(1).remove(0);
    assert_eq!((asked.rows, again.rows), (1, 2));
    let whole: Vec<Series> = vec![("pump", "t", vec![(1, 1.0), (2, 1.0), (3, 1.0)])];
    assert_eq!(bring(&mut job, &again, &whole), ["late pump/t [0,10) count=3"]);
    assert_eq!(job.wanted(1), []);
    assert_eq!(bring(&mut job, &again, &whole), Vec::<String>::new(), "nobody asked");
}

#[test]
fn an_as_of_join_pairs_each_left_reading_with_the_last_right_one() {
    let rows = [
        ("pump", "u", vec![(0, 1.0), (4, 2.0), (4, 3.0), (13, 5.0)]),
        ("pump", "t", vec![(0, 10.0), (5, 20.0), (9, 30.0), (10, 40.0), (12, 50.0)]),
    ];
    let mut spec = spec(Window::Each, &[]);
    spec.join = Some(joined_by(Direction::Backward, Combine::Sum, 5));
    let steps = [Step::Readings(0, rows.to_vec()), one("t", &[(3, 1.0)]), Step::Drain(0)];
    let wanted = [
        "pump/t [0,0] left=10 right=1 value=11",
        // Of two right readings of one time the later one to arrive.
        "pump/t [5,5] left=20 right=3 value=23",
        "pump/t [9,9] left=30 right=3 value=33",
        // 10 and 12 are more than 5 away from 4.
        "side pump/t 3=1 late",
    ];
    check(&spec, &steps, &wanted);
    let mut job = engine(&spec);
    run(&mut job, &steps);
    assert_eq!(job.totals().counts.unmatched, 2);
    // The nearest on either side: 9 is 4 from 13 and 5 from 4. A pair waits until nothing nearer can come.
    spec.join = Some(joined_by(Direction::Nearest, Combine::Right, 5));
    let wanted = [
        "pump/t [0,0] left=10 right=1 value=1",
        "pump/t [5,5] left=20 right=3 value=3",
        "side pump/t 3=1 late",
        "pump/t [9,9] left=30 right=5 value=5",
        "pump/t [10,10] left=40 right=5 value=5",
        "pump/t [12,12] left=50 right=5 value=5",
    ];
    check(&spec, &steps, &wanted);
    // In windows.
    spec.window = TEN;
    spec.aggregates = vec![Count, Sum];
    let wanted = ["side pump/t 3=1 late", "pump/t [0,10) count=3 sum=9", "pump/t [10,20) count=2 sum=10"];
    check(&spec, &steps, &wanted);
}

#[test]
fn a_pair_without_a_value_is_put_aside() {
    let mut spec = spec(Window::Each, &[]);
    spec.join = Some(joined_by(Direction::Backward, Combine::Ratio, 5));
    let rows = vec![("pump", "u", vec![(0, 0.0), (2, 4.0)]), ("pump", "t", vec![(1, 7.0), (3, 1.0)])];
    let steps = [Step::Readings(0, rows), Step::Drain(0)];
    let wanted = ["side pump/t 1=7 unusable", "pump/t [3,3] left=1 right=4 value=0.25"];
    check(&spec, &steps, &wanted);
}

#[test]
fn stages_filter_and_scale_and_the_watermark_moves_all_the_same() {
    let mut spec = spec(TEN, &[Count, Sum]);
    spec.stages = vec![
        Stage::Scale { points: Some("t*".to_owned()), factor: 0.5, offset: 1.0 },
        Stage::Filter { points: None, compare: Comparison::Ge, value: 3.0 },
    ];
    let steps = [
        Step::Readings(
            0,
            vec![("pump", "t1", vec![(1, 4.0), (2, 3.0)]), ("pump", "u", vec![(1, 4.0), (2, 3.0)])],
        ),
        one("t1", &[(10, 0.0)]),
    ];
    check(&spec, &steps, &["pump/t1 [0,10) count=1 sum=3", "pump/u [0,10) count=2 sum=7"]);
    let mut job = engine(&spec);
    run(&mut job, &steps);
    assert_eq!(job.totals().counts.filtered, 2);
}

#[test]
fn a_group_of_series_has_one_window_per_device() {
    let mut spec = spec(TEN, &[Count, Max, First, Last]);
    spec.group = Group::Device;
    let steps = [
        Step::Readings(
            0,
            vec![("a", "t", vec![(1, 4.0)]), ("b", "t", vec![(2, 5.0)]), ("a", "u", vec![(3, 7.0)])],
        ),
        Step::Drain(0),
    ];
    check(&spec, &steps, &["a [0,10) count=2 max=7 first=4 last=7", "b [0,10) count=1 max=5 first=5 last=5"]);
}

#[test]
fn a_silent_device_stalls_nobody_and_is_closed_by_the_hubs_clock() {
    let mut spec = spec(TEN, &[Count]);
    spec.time = Time { out_of_orderness_ms: 2, idle_timeout_ms: Some(30), ahead_max_ms: 50 };
    let at =
        |now: i64, device: &'static str, ms: i64| Step::Readings(now, vec![(device, "t", vec![(ms, 1.0)])]);
    let steps = [
        at(5, "a", 5),
        at(6, "b", 6),
        at(14, "b", 14),
        // b has its own watermark; a is silent for 34 and its clock is taken to be at 39 - 30 - 2.
        Step::Tick(39),
        Step::Tick(41),
        Step::Tick(42),
        // Back with what it had: its window is closed.
        at(43, "a", 8),
        // Far ahead of the hub's clock.
        at(44, "b", 95),
        at(44, "b", 94),
    ];
    let wanted = [
        "b/t [0,10) count=1",
        "a/t [0,10) count=1",
        "side a/t 8=1 late",
        "side b/t 95=1 ahead",
        "b/t [10,20) count=1",
    ];
    check(&spec, &steps, &wanted);
}

#[test]
fn devices_that_could_not_be_heard_are_not_silent() {
    let mut spec = spec(TEN, &[Count]);
    spec.time.idle_timeout_ms = Some(30);
    let at = |now: i64, ms: i64| Step::Readings(now, vec![("a", "t", vec![(ms, 1.0)])]);
    let resumed = [
        at(5, 5),
        Step::Resumed(1_000),
        Step::Tick(1_029),
        at(1_029, 7),
        Step::Tick(1_058),
        Step::Tick(1_059),
    ];
    check(&spec, &resumed, &["a/t [0,10) count=2"]);
    let silent = [at(5, 5), Step::Tick(1_000), at(1_000, 7)];
    check(&spec, &silent, &["a/t [0,10) count=1", "side a/t 7=1 late"]);
}

#[test]
fn without_a_time_out_a_device_is_waited_for_until_it_is_forgotten() {
    let steps = [
        one("t", &[(5, 1.0)]),
        Step::Tick(1_000_000),
        one("t", &[(7, 2.0)]),
        Step::Forget(1_000_000, "pump"),
        one("t", &[(1, 9.0)]),
        Step::Drain(0),
    ];
    check(&spec(TEN, &[Sum]), &steps, &["pump/t [0,10) sum=3", "pump/t [0,10) sum=9"]);
}

#[test]
fn readings_that_come_together_are_not_late_for_each_other() {
    let together = vec![("pump", "t", vec![(1, 1.0), (25, 1.0)]), ("pump", "u", vec![(2, 1.0), (25, 1.0)])];
    let wanted = ["pump/t [0,10) count=1", "pump/u [0,10) count=1"];
    check(&spec(TEN, &[Count]), &[Step::Readings(0, together)], &wanted);
}

#[test]
fn readings_that_repeat_a_time_all_count() {
    let steps = [one("t", &[(1, 5.0), (1, 5.0), (1, 2.0)]), one("t", &[(1, 9.0)]), Step::Drain(0)];
    check(&spec(TEN, &[Count, First, Last]), &steps, &["pump/t [0,10) count=4 first=5 last=9"]);
}

#[test]
fn what_is_not_a_number_or_out_of_range_is_put_aside() {
    let mut spec = spec(TEN, &[Sum]);
    spec.stages = vec![Stage::Scale { points: None, factor: 10.0, offset: 0.0 }];
    let steps = [one("t", &[(1, f64::NAN), (1, f64::INFINITY), (1, 1e280), (i64::MIN, 0.0), (1, 1e279)])];
    let found = run(&mut engine(&spec), &steps);
    let causes: Vec<&str> = found.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(causes, ["unusable"; 4]);
    let last = run(&mut engine(&spec), &[steps[0].clone(), Step::Drain(0)]).pop().unwrap();
    assert_eq!(last, format!("pump/t [0,10) sum={}", 1e280));
}
