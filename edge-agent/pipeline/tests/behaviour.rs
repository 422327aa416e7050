//! What pipelines do, one behaviour each, from the text of a file to what comes out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use tideline_pipeline::{Became, Change, Chunk, Outcome, Pipelines};
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::value::{Boxes, Quality, Value};

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * S;

fn pipelines(text: &str) -> Pipelines {
    Pipelines::read("test.toml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A pipeline of `a/*` and `b/*` with these stages.
fn with(stages: &str) -> Pipelines {
    pipelines(&format!("[[pipeline]]\nname = \"p\"\nfrom = [\"a/*\", \"b/*\"]\n{stages}"))
}

fn series(name: &str) -> SeriesDef {
    let (device, point) = name.split_once('/').unwrap();
    SeriesDef::new(device.parse().unwrap(), point.parse().unwrap(), "Cel".into())
}

/// Readings of a series: seconds after `NOW` and values.
fn chunk(name: &str, rows: &[(i64, f64)]) -> Chunk {
    let samples = rows.iter().map(|(at, value)| Sample { time_ns: NOW + at * S, value: *value }).collect();
    Chunk { rows: vec![(series(name), samples)], ..Chunk::default() }
}

fn one(name: &str, at: i64, value: Value, quality: Quality) -> Chunk {
    let mut boxes = Boxes::new();
    let value = boxes.word(value, quality);
    Chunk { rows: vec![(series(name), vec![Sample { time_ns: NOW + at * S, value }])], boxes, clock: None }
}

/// What came out: `device/point unit second value quality`.
fn out(outcome: &Outcome) -> Vec<String> {
    let mut told = Vec::new();
    for row in &outcome.rows {
        let stream = row.stream.as_ref().map(|stream| format!("[{stream}] ")).unwrap_or_default();
        for sample in &row.samples {
            let (value, quality) = outcome.boxes.value(sample.value, row.series.kind());
            let SeriesDef { device, point, unit, .. } = &row.series;
            let at = (sample.time_ns - NOW) / S;
            told.push(format!("{stream}{device}/{point} {unit} {at} {value} {quality}"));
        }
    }
    told
}

fn events(outcome: &Outcome) -> Vec<(Change, i64)> {
    outcome.events.iter().map(|event| (event.change, (event.time_ns - NOW) / S)).collect()
}

#[test]
fn what_no_pipeline_takes_goes_on_as_it_is() {
    let mut pipelines = with("[[pipeline.stage]]\nname = \"none\"\nkind = \"discard\"\n");
    assert_eq!(out(&pipelines.run(NOW, chunk("z/t", &[(0, 1.0)]))), ["z/t Cel 0 1 good"]);
    assert!(out(&pipelines.run(NOW, chunk("a/t", &[(0, 1.0)]))).is_empty());
    assert_eq!(out(&Pipelines::default().run(NOW, chunk("a/t", &[(0, 1.0)]))), ["a/t Cel 0 1 good"]);
}

#[test]
fn a_dead_letter_names_stage_device_point_and_reason_and_costs_one_reading() {
    let mut pipelines = with("[[pipeline.stage]]\nname = \"double\"\nkind = \"scale\"\nfactor = 2\n");
    let mut given = one("a/t", 0, Value::Text("broken".into()), Quality::Good);
    let more = chunk("a/t", &[(1, 5.0)]);
    given.rows[0].1.extend(&more.rows[0].1);
    let outcome = pipelines.run(NOW, given);
    assert_eq!(out(&outcome), ["a/t Cel 1 10 good"]);
    let [letter] = outcome.letters.as_slice() else { panic!("{:?}", outcome.letters) };
    let names = (&*letter.pipeline, &*letter.stage, letter.device.as_str(), letter.point.as_str());
    assert_eq!(names, ("p", "double", "a", "t"));
    assert_eq!((letter.reason.as_str(), letter.count), ("a text is no number", 1));
    assert_eq!((&letter.value, letter.first_ns), (&Value::Text("broken".into()), NOW));
    let (_, status) = pipelines.status().next().unwrap();
    assert_eq!((status.counts.taken, status.counts.given, status.counts.dead_letters), (2, 1, 1));
}

#[test]
fn a_division_by_zero_is_a_dead_letter_and_nothing_more() {
    let text = "[[pipeline.stage]]\nname = \"inverse\"\nkind = \"expression\"\nvalue = \"1 / value\"\nunit = \"Hz\"\n";
    let outcome = with(text).run(NOW, chunk("a/t", &[(0, 4.0), (1, 0.0), (2, 5.0)]));
    assert_eq!(out(&outcome), ["a/t Hz 0 0.25 good", "a/t Hz 2 0.2 good"]);
    assert_eq!(outcome.letters[0].reason, "the result is no finite number");
}

#[test]
fn a_unit_comes_from_the_series_and_one_that_does_not_fit_is_told() {
    let mut fahrenheit = with("[[pipeline.stage]]\nname = \"f\"\nkind = \"unit\"\nto = \"[degF]\"\n");
    let outcome = fahrenheit.run(NOW, chunk("a/t", &[(0, 100.0)]));
    assert_eq!(out(&outcome), ["a/t [degF] 0 212 good"]);
    let mut bar = with("[[pipeline.stage]]\nname = \"bar\"\nkind = \"unit\"\nto = \"bar\"\n");
    let outcome = bar.run(NOW, chunk("a/t", &[(0, 100.0), (1, 101.0)]));
    assert_eq!(outcome.letters[0].reason, "\"Cel\" and \"bar\" measure different things");
    assert_eq!((outcome.letters.len(), outcome.letters[0].count), (1, 2));
}

#[test]
fn a_deadband_passes_what_differs_and_what_was_silent_for_too_long() {
    let text =
        "[[pipeline.stage]]\nname = \"d\"\nkind = \"deadband\"\nabsolute = 0.5\nsilence_max_ms = 60_000\n";
    let mut pipelines = with(text);
    let rows = [(0, 20.0), (1, 20.5), (2, 20.51), (30, 20.4), (62, 20.4)];
    let passed = out(&pipelines.run(NOW, chunk("a/t", &rows)));
    assert_eq!(passed, ["a/t Cel 0 20 good", "a/t Cel 2 20.51 good", "a/t Cel 62 20.4 good"]);
    // A change of quality goes on, a repetition of it does not, and neither does the end of it get lost.
    let bad = |at| one("a/t", at, Value::Null, Quality::Bad);
    assert_eq!(pipelines.run(NOW, bad(63)).count() + pipelines.run(NOW, bad(64)).count(), 1);
    assert_eq!(out(&pipelines.run(NOW, chunk("a/t", &[(65, 20.4)]))), ["a/t Cel 65 20.4 good"]);
}

#[test]
fn a_branch_sends_each_reading_one_way_and_an_output_names_the_stream() {
    let text = r#"
[[pipeline.stage]]
name = "side"
kind = "branch"
case = [{ port = "hot", when = "value > 80" }, { port = "warm", when = "value > 40" }]
[[pipeline.stage]]
name = "alarm"
kind = "output"
after = "side.hot"
point = "{point}/hot"
stream = "alarms"
[[pipeline.stage]]
name = "gone"
kind = "discard"
after = "side.else"
"#;
    let outcome = with(text).run(NOW, chunk("a/t", &[(0, 90.0), (1, 50.0), (2, 10.0)]));
    let mut told = out(&outcome);
    told.sort();
    assert_eq!(told, ["[alarms] a/t/hot Cel 0 90 good", "a/t Cel 1 50 good"]);
}

const MINUTES: &str = "[[pipeline.stage]]\nname = \"m\"\nkind = \"window\"\nlength_ms = 60_000\naggregates = [\"mean\", \"count\"]\nwait_ms = 5_000\nidle_ms = 60_000\n";

#[test]
fn a_window_waits_for_disordered_readings_and_closes_once() {
    let mut pipelines = with(MINUTES);
    // NOW is 20 s into a minute.
    let outcome = pipelines.run(NOW, chunk("a/t", &[(0, 1.0), (39, 3.0), (44, 9.0), (38, 5.0)]));
    assert_eq!((outcome.count(), pipelines.iter().next().unwrap().open_windows()), (0, 2));
    let outcome = pipelines.run(NOW, chunk("a/t", &[(45, 9.0), (39, 7.0)]));
    assert_eq!(out(&outcome), ["a/t/mean Cel -20 3 good", "a/t/count 1 -20 3 good"]);
    assert_eq!(outcome.letters[0].reason, "the reading is late: its windows are closed");
}

#[test]
fn a_window_of_a_silent_device_is_closed_by_the_clock() {
    let mut pipelines = with(MINUTES);
    pipelines.run(NOW, chunk("a/t", &[(0, 1.0)]));
    assert_eq!(pipelines.tick(NOW + 59 * S).count(), 0);
    // The clock less idle and wait is at the window's end.
    assert_eq!(pipelines.tick(NOW + 104 * S).count(), 0);
    assert_eq!(out(&pipelines.tick(NOW + 105 * S)), ["a/t/mean Cel -20 1 good", "a/t/count 1 -20 1 good"]);
    assert_eq!(pipelines.tick(NOW + 1_000 * S).count(), 0);
}

#[test]
fn a_window_leaves_out_what_is_not_good_and_says_so() {
    let mut pipelines = with(MINUTES);
    pipelines.run(NOW, chunk("a/t", &[(0, 4.0)]));
    pipelines.run(NOW, one("a/t", 1, Value::Float(1000.0), Quality::Bad));
    let outcome = pipelines.run(NOW, chunk("a/t", &[(50, 0.0)]));
    assert_eq!(out(&outcome), ["a/t/mean Cel -20 4 uncertain", "a/t/count 1 -20 1 good"]);
}

#[test]
fn an_open_window_survives_a_restart() {
    let mut before = with(MINUTES);
    before.run(NOW, chunk("a/t", &[(0, 1.0), (1, 2.0)]));
    let states = before.states();
    let mut after = with(MINUTES);
    for (name, state) in &states {
        assert_eq!(after.restore(name, state), Ok(Vec::new()));
    }
    let outcome = after.run(NOW, chunk("a/t", &[(2, 6.0), (50, 0.0)]));
    assert_eq!(out(&outcome), ["a/t/mean Cel -20 3 good", "a/t/count 1 -20 3 good"]);
    // A stage that was changed begins anew, and is named.
    let mut changed = with(&MINUTES.replace("wait_ms = 5_000", "wait_ms = 6_000"));
    assert_eq!(changed.restore("p", &states[0].1), Ok(vec!["m".to_owned()]));
    assert_eq!(changed.restore("gone", &states[0].1), Ok(Vec::new()));
}

#[test]
fn derived_points_join_devices_by_time() {
    let text = r#"
[[pipeline.stage]]
name = "lift"
kind = "derive"
inputs = { supply = "a/t", back = "b/t" }
value = "supply - back"
device = "plant"
point = "lift"
unit = "K"
age_max_ms = 10_000
"#;
    let mut pipelines = with(text);
    let mut both = chunk("a/t", &[(0, 50.0), (2, 52.0), (20, 60.0)]);
    both.rows.extend(chunk("b/t", &[(0, 30.0), (1, 31.0)]).rows);
    let outcome = pipelines.run(NOW, both);
    // Of second 20 the other input is too old.
    let wanted = ["plant/lift K 0 20 good", "plant/lift K 1 19 good", "plant/lift K 2 21 good"];
    assert_eq!(out(&outcome), wanted);
    let outcome = pipelines.run(NOW, one("b/t", 20, Value::Null, Quality::Bad));
    assert_eq!(out(&outcome), ["plant/lift K 20  bad"]);
}

#[test]
fn each_device_has_derived_points_of_its_own() {
    let text = "[[pipeline.stage]]\nname = \"power\"\nkind = \"derive\"\ninputs = { u = \"u\", i = \"i\" }\nper_device = true\nvalue = \"u * i\"\npoint = \"p\"\nunit = \"W\"\n";
    let mut pipelines = with(text);
    let mut chunk_of = chunk("a/u", &[(0, 230.0)]);
    for other in [chunk("b/u", &[(0, 10.0)]), chunk("a/i", &[(0, 2.0)]), chunk("b/i", &[(0, 3.0)])] {
        chunk_of.rows.extend(other.rows);
    }
    assert_eq!(out(&pipelines.run(NOW, chunk_of)), ["a/p W 0 460 good", "b/p W 0 30 good"]);
}

#[test]
fn a_rule_has_hysteresis_and_durations_and_writes_to_a_point() {
    let text = r#"
[[pipeline.stage]]
name = "hot"
kind = "rule"
condition = "above"
limit = 90
clear = 80
for_ms = 10_000
severity = "critical"
message = "too hot"
write = { device = "valve", point = "open", fired = true, cleared = false }
"#;
    let mut pipelines = with(text);
    let outcome = pipelines
        .run(NOW, chunk("a/t", &[(0, 91.0), (9, 95.0), (10, 91.0), (11, 85.0), (12, 79.0), (13, 91.0)]));
    assert_eq!(events(&outcome), [(Change::Fired, 10), (Change::Cleared, 12)]);
    assert_eq!((outcome.count(), &*outcome.events[0].message), (6, "too hot"));
    let written: Vec<_> =
        outcome.actions.iter().map(|action| (action.device.as_str(), &action.value)).collect();
    assert_eq!(written, [("valve", &Value::Bool(true)), ("valve", &Value::Bool(false))]);
    // No further reading comes: the value holds, and time does the rest.
    assert_eq!(events(&pipelines.tick(NOW + 9 * S)), []);
    assert_eq!(events(&pipelines.tick(NOW + 10 * S)), [(Change::Fired, 23)]);
}

#[test]
fn an_onlooker_judges_what_another_takes_and_changes_nothing_of_it() {
    let watch = "[[pipeline]]\nname = \"w\"\nfrom = [\"*/*\"]\nwatch = true\n\
        [[pipeline.stage]]\nname = \"hot\"\nkind = \"rule\"\nof = \"*/t\"\ncondition = \"above\"\nlimit = 5\n\
        [[pipeline.stage]]\nname = \"fault\"\nkind = \"rule\"\nof = \"*/state\"\ncondition = \"equals\"\n\
        value = \"fault\"\n";
    let double = "[[pipeline]]\nname = \"p\"\nfrom = [\"a/*\"]\n\
        [[pipeline.stage]]\nname = \"double\"\nkind = \"scale\"\nfactor = 2\n";
    for (text, expected) in [
        (watch.to_owned(), ["a/t Cel 0 7 good", "b/t Cel 0 8 good"]),
        (format!("{watch}{double}"), ["a/t Cel 0 14 good", "b/t Cel 0 8 good"]),
        (format!("{watch}{}", double.replace("a/*", "c/*")), ["a/t Cel 0 7 good", "b/t Cel 0 8 good"]),
    ] {
        let mut pipelines = pipelines(&text);
        let mut found = Vec::new();
        for (series, value) in [("a/t", 7.0), ("b/t", 8.0)] {
            let outcome = pipelines.run(NOW, chunk(series, &[(0, value)]));
            assert_eq!(events(&outcome), [(Change::Fired, 0)], "{text}");
            found.extend(out(&outcome));
        }
        assert_eq!(found, expected, "{text}");
        let state = |value: &str| one("b/state", 0, Value::Text(value.into()), Quality::Good);
        let mut turned = |value| events(&pipelines.run(NOW, state(value))).len();
        assert_eq!([turned("on"), turned("fault"), turned("fault"), turned("on")], [0, 1, 0, 1]);
    }
}

#[test]
fn silence_is_told_and_ends_with_the_next_good_reading() {
    let text =
        "[[pipeline.stage]]\nname = \"away\"\nkind = \"rule\"\ncondition = \"absence\"\nfor_ms = 30_000\n";
    let mut pipelines = with(text);
    pipelines.run(NOW, chunk("a/t", &[(0, 1.0)]));
    // A device that says that it has no value is silent all the same.
    pipelines.run(NOW + 20 * S, one("a/t", 20, Value::Null, Quality::Bad));
    assert_eq!(events(&pipelines.tick(NOW + 29 * S)), []);
    assert_eq!(events(&pipelines.tick(NOW + 31 * S)), [(Change::Fired, 30)]);
    assert_eq!(events(&pipelines.tick(NOW + 99 * S)), []);
    let outcome = pipelines.run(NOW + 100 * S, chunk("a/t", &[(100, 1.0)]));
    assert_eq!(events(&outcome), [(Change::Cleared, 100)]);
}

#[test]
fn a_rate_of_change_is_per_second_and_has_a_direction() {
    let text = "[[pipeline.stage]]\nname = \"drop\"\nkind = \"rule\"\ncondition = \"rate\"\nlimit = 2\ndirection = \"fall\"\n";
    let outcome =
        with(text).run(NOW, chunk("a/t", &[(0, 50.0), (10, 80.0), (20, 61.0), (30, 30.0), (31, 30.0)]));
    assert_eq!(events(&outcome), [(Change::Fired, 30), (Change::Cleared, 31)]);
}

#[test]
fn what_is_usual_at_night_is_an_anomaly_at_noon() {
    let rule = |season: &str| {
        format!(
            "[[pipeline.stage]]\nname = \"odd\"\nkind = \"rule\"\ncondition = \"z_score\"\nlimit = 6\nreadings = 500\nwarm_up = 20\ndeviation_min = 0.5\nseason = \"{season}\"\n"
        )
    };
    let later = NOW + 12 * 86_400 * S;
    // Ten days, a reading each ten minutes: 10 at night and 100 by day, give or take one.
    let day = |at: i64| {
        let second = 1_700_006_400 + at * 600;
        let base = if (second / 3_600).rem_euclid(24) < 12 { 10.0 } else { 100.0 };
        (second - NOW / S, base + (at % 3) as f64 - 1.0)
    };
    let usual: Vec<(i64, f64)> = (0..1_440).map(day).collect();
    let (noon, _) = day(1_440 + 75);
    for (season, found) in [("hour_of_day", 1), ("none", 0)] {
        let mut pipelines = with(&rule(season));
        let learned = events(&pipelines.run(later, chunk("a/t", &usual)));
        // Without seasons the first day comes as a surprise.
        assert_eq!(learned.is_empty(), found == 1, "{season}: {learned:?}");
        // 10 is nothing unusual, but not at that hour.
        let outcome = pipelines.run(later, chunk("a/t", &[(noon, 10.0)]));
        assert_eq!(events(&outcome).len(), found, "{season}");
    }
}

#[test]
fn a_rate_limit_lets_the_first_ones_of_each_span_pass() {
    let text = "[[pipeline.stage]]\nname = \"l\"\nkind = \"rate_limit\"\nreadings = 2\nper_ms = 10_000\n";
    let outcome =
        with(text).run(NOW, chunk("a/t", &[(0, 1.0), (1, 2.0), (2, 3.0), (10, 4.0), (9, 5.0), (11, 6.0)]));
    let wanted = ["a/t Cel 0 1 good", "a/t Cel 1 2 good", "a/t Cel 10 4 good", "a/t Cel 9 5 good"];
    assert_eq!(out(&outcome), wanted);
}

#[test]
fn one_device_is_traced_from_the_moment_it_is_asked_for() {
    let text = "[[pipeline.stage]]\nname = \"r\"\nkind = \"range\"\nmax = 10\notherwise = \"drop\"\n[[pipeline.stage]]\nname = \"s\"\nkind = \"scale\"\nfactor = 2\n";
    let mut pipelines = with(text);
    assert!(pipelines.run(NOW, chunk("a/t", &[(0, 1.0)])).trace.is_empty());
    pipelines.trace(Some(&"a".parse().unwrap()));
    assert!(pipelines.run(NOW, chunk("b/t", &[(0, 1.0)])).trace.is_empty());
    let outcome = pipelines.run(NOW, chunk("a/t", &[(1, 3.0), (2, 11.0)]));
    let steps: Vec<(&str, String)> = outcome
        .trace
        .iter()
        .map(|step| {
            let became = match &step.became {
                Became::Out(came) => format!("{} {}", came[0].1.point, came[0].3),
                Became::Nothing => "nothing".to_owned(),
                Became::Dead(reason) => reason.clone(),
            };
            (&*step.stage, format!("{} -> {became}", step.value))
        })
        .collect();
    let told = |stage, text: &str| (stage, text.to_owned());
    assert_eq!(steps, [told("r", "3 -> t 3"), told("r", "11 -> nothing"), told("s", "3 -> t 6")]);
    pipelines.trace(None);
    assert!(pipelines.run(NOW, chunk("a/t", &[(3, 1.0)])).trace.is_empty());
}

#[test]
fn a_series_goes_to_each_pipeline_that_takes_it() {
    let text = r#"
[[pipeline]]
name = "one"
from = "a/*"
keep = true
[[pipeline.stage]]
name = "s"
kind = "output"
point = "{point}/copy"
[[pipeline]]
name = "two"
from = "a/t"
[[pipeline.stage]]
name = "e"
kind = "expression"
value = "value + '!'"
type = "text"
"#;
    let mut pipelines = pipelines(text);
    let mut given = one("a/t", 0, Value::Text("on".into()), Quality::Good);
    given.rows.push((series("z/t"), given.rows[0].1.clone()));
    let mut told = out(&pipelines.run(NOW, given));
    told.sort();
    assert_eq!(
        told,
        ["a/t Cel 0 on good", "a/t Cel 0 on! good", "a/t/copy Cel 0 on good", "z/t Cel 0 on good"]
    );
}

#[test]
fn no_more_windows_are_open_than_may_be() {
    let text = "[[pipeline.stage]]\nname = \"m\"\nkind = \"window\"\nlength_ms = 1000\naggregates = [\"count\"]\nwait_ms = 3_600_000\nidle_ms = 0\nahead_max_ms = 100_000_000\n";
    let mut pipelines = with(text);
    let rows: Vec<(i64, f64)> = (0..1_030).map(|at| (at, 1.0)).collect();
    let outcome = pipelines.run(NOW, chunk("a/t", &rows));
    assert_eq!(
        (outcome.letters[0].reason.as_str(), outcome.letters[0].count),
        ("as many windows are open as may be", 6)
    );
}
