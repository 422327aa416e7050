//! Definitions are read as a whole, and what is wrong is told with its line.

use super::*;

const WHOLE: &str = r#"
[agent]
data_dir = "elsewhere"

[[pipeline]]
name = "boiler"
from = ["boiler-*/temperature", "boiler-*/pressure"]
keep = true

[[pipeline.stage]]
name = "sane"
kind = "range"
min = -40
max = 150.5
otherwise = "drop"

[[pipeline.stage]]
name = "side"
kind = "branch"
after = "sane"
case = [{ port = "hot", when = "value > 80.0" }]

[[pipeline.stage]]
name = "minutes"
kind = "window"
after = ["side.hot", "side.else"]
length_ms = 60_000
aggregates = ["mean", "max"]

[[pipeline.stage]]
name = "alarm"
kind = "rule"
after = "sane"
condition = "above"
limit = 90
clear = 85
for_ms = 10_000
severity = "critical"
write = { device = "valve-1", point = "open", fired = true, cleared = false }
"#;

#[test]
fn a_whole_definition_is_read_and_the_rest_of_the_file_left_alone() {
    let definitions = read("a.toml", WHOLE).unwrap();
    let [boiler] = definitions.as_slice() else { panic!("{definitions:?}") };
    assert_eq!((boiler.name.as_str(), boiler.keep, boiler.from.len()), ("boiler", true, 2));
    let names: Vec<(&str, &str)> =
        boiler.stages.iter().map(|stage| (stage.name.as_str(), stage.kind.as_str())).collect();
    assert_eq!(names, [("sane", "range"), ("side", "branch"), ("minutes", "window"), ("alarm", "rule")]);
    let range = Range { min: Some(-40.0), max: Some(150.5), otherwise: Otherwise::Drop };
    assert_eq!(boiler.stages[0].kind, Kind::Range(range));
    assert_eq!(boiler.stages[2].after, ["side.hot", "side.else"]);
    let Kind::Rule(rule) = &boiler.stages[3].kind else { panic!("no rule") };
    assert_eq!(rule.write.as_ref().unwrap().cleared, Some(Scalar::Bool(false)));
    assert_eq!(boiler.lines.of(Some(0), "max"), 14);
    assert_eq!(read("a.toml", "[agent]\n").unwrap(), []);
}

#[test]
fn a_definition_is_the_same_by_way_of_json() {
    let definitions = read("a.toml", WHOLE).unwrap();
    let json = serde_json::to_string(&definitions).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Definition>>(&json).unwrap(), definitions);
}

#[test]
fn all_problems_are_told_at_once_with_line_and_hint() {
    let text = r#"[[pipeline]]
from = "a/b"
kep = true
[[pipeline.stage]]
name = "one"
kind = "rang"
[[pipeline.stage]]
name = "two"
kind = "range"
mim = 3
max = "much"
otherwise = "dorp"
[[pipeline.stage]]
name = "three"
kind = "rule"
condition = "above"
write = { point = "x" }
[[pipeline.stage]]
kind = "window"
aggregates = ["mean", "median"]
[[pipeline.stage]]
name = "five"
kind = "branch"
case = [{ port = "a" }]
"#;
    let told = read("f.toml", text).unwrap_err().to_string();
    let wanted = [
        "f.toml:1: pipeline 1, name: is needed",
        "f.toml:3: pipeline 1, kep: is an unknown key; allowed are name, from, keep, watch, ahead_max_ms, events, stage; did you mean \"keep\"?",
        "f.toml:6: pipeline 1, stage one, kind: is \"rang\"; allowed are range, deadband, scale, unit, expression, filter, branch, window, derive, rule, rate_limit, write, output, discard; did you mean \"range\"?",
        "f.toml:10: pipeline 1, stage two, mim: is an unknown key; allowed are name, after, kind, min, max, otherwise; did you mean \"min\"?",
        "f.toml:11: pipeline 1, stage two, max: must be a finite number",
        "f.toml:12: pipeline 1, stage two, otherwise: is \"dorp\"; allowed are bad, drop, clamp; did you mean \"drop\"?",
        "f.toml:13: pipeline 1, stage three, limit: is needed",
        "f.toml:17: pipeline 1, stage three, write, fired: is needed",
        "f.toml:18: pipeline 1, stage 4, name: is needed",
        "f.toml:18: pipeline 1, stage 4, length_ms: is needed",
        "f.toml:20: pipeline 1, stage 4, aggregates: holds \"median\"; allowed are count, bad, min, max, sum, mean, first, last, deviation; did you mean \"mean\"?",
        "f.toml:24: pipeline 1, stage five, case: must be a list such as [{ port = \"hot\", when = \"value > 80\" }]",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn what_is_no_toml_or_no_section_is_told() {
    assert!(read("f.toml", "[[pipeline]\n").unwrap_err().to_string().starts_with("f.toml:1: file: "));
    let told = read("f.toml", "pipeline = 3\n").unwrap_err().to_string();
    assert_eq!(told, "f.toml:1: pipeline: must be sections [[pipeline]]");
    let told =
        read("f.toml", "pipeline = [{ name = \"a\", from = [], stage = 3 }, 4]\n").unwrap_err().to_string();
    assert!(
        told.contains("stage: must be sections [[pipeline.stage]]") && told.contains("pipeline 2: must be")
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}", cut in 0_usize..WHOLE.len(), put in ".{0,6}") {
        let _ = read("f", &text);
        if let (Some(before), Some(after)) = (WHOLE.get(..cut), WHOLE.get(cut..)) {
            let _ = read("f", &format!("{before}{put}{after}"));
            let _ = read("f", before);
        }
    }
}
