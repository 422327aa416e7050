//! What a definition may not be is told, all at once.

use crate::{Pipelines, Problems};

fn told(text: &str) -> Vec<String> {
    let problems: Problems = Pipelines::read("f", text).err().unwrap();
    problems.to_string().lines().map(str::to_owned).collect()
}

fn with(stages: &str) -> String {
    format!("[[pipeline]]\nname = \"p\"\nfrom = \"a/b\"\n{stages}")
}

#[test]
fn what_makes_no_sense_is_told_with_its_line() {
    let text = with(
        r#"[[pipeline.stage]]
name = "one"
kind = "range"
min = 3
max = 1
[[pipeline.stage]]
name = "two"
kind = "deadband"
[[pipeline.stage]]
name = "one"
kind = "unit"
from = "Cel"
to = "bar"
[[pipeline.stage]]
name = "from"
kind = "expression"
value = "vaue * 2"
[[pipeline.stage]]
name = "five"
kind = "filter"
when = "value * 2"
[[pipeline.stage]]
name = "six"
kind = "window"
length_ms = 1000
hop_ms = 300
aggregates = []
[[pipeline.stage]]
name = "seven"
kind = "rule"
condition = "above"
limit = 5
clear = 6
[[pipeline.stage]]
name = "eight"
kind = "derive"
inputs = { a = "b" }
value = "a"
point = "c"
"#,
    );
    let told = told(&text);
    let wanted = [
        "f:7: pipeline p, stage one, min: is 3, above max 1",
        "f:9: pipeline p, stage two, absolute: and percent are both missing; needed is one of them",
        "f:13: pipeline p, stage one, name: \"one\" is used twice",
        "f:16: pipeline p, stage one, to: \"Cel\" and \"bar\" measure different things",
        "f:18: pipeline p, stage from, name: is \"from\", which stands for the readings as they come",
        "f:20: pipeline p, stage from, value: the expression names \"vaue\"; allowed are value, quality, time_ms, device, point, unit; did you mean \"value\"?",
        "f:24: pipeline p, stage five, when: the expression gives no truth value, whatever the type of its values",
        "f:29: pipeline p, stage six, hop_ms: is 300; length_ms 1000 must be 1 to 64 times that",
        "f:36: pipeline p, stage seven, clear: is 6; allowed is at or below the limit, 5",
        "f:37: pipeline p, stage eight, device: is needed, but with per_device = true",
        "f:40: pipeline p, stage eight, inputs: a: \"b\" is no device/point",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn stages_that_read_what_is_not_there_or_each_other_are_told() {
    let stage = |name: &str, after: &str| {
        format!("[[pipeline.stage]]\nname = \"{name}\"\nkind = \"scale\"\nfactor = 2\nafter = {after}\n")
    };
    let branch = "[[pipeline.stage]]\nname = \"fork\"\nkind = \"branch\"\ncase = [{ port = \"hot\", when = \"value > 1\" }]\n";
    let text = with(
        &[branch, &stage("a", "\"fork\""), &stage("b", "\"fork.cold\""), &stage("c", "[\"aa\", \"b.x\"]")]
            .concat(),
    );
    let wanted = [
        "f:12: pipeline p, stage a, after: is the branch fork without a port; allowed are fork.hot, fork.else",
        "f:17: pipeline p, stage b, after: names \"fork.cold\"; allowed are fork.hot, fork.else",
        "f:22: pipeline p, stage c, after: names \"aa\"; allowed are from, fork, a, b, c",
        "f:22: pipeline p, stage c, after: names \"b.x\", and b has no ports; allowed is \"b\"",
    ];
    assert_eq!(told(&text), wanted);
    let text = with(&[stage("a", "[\"from\", \"c\"]"), stage("b", "\"a\""), stage("c", "\"b\"")].concat());
    assert_eq!(told(&text), ["f:8: pipeline p, stage a, after: stages wait for each other: a, b, c"]);
}

#[test]
fn stages_may_stand_in_any_order_and_several_may_read_one() {
    let text = with(
        r#"[[pipeline.stage]]
name = "last"
kind = "scale"
factor = 10
after = ["first", "from"]
[[pipeline.stage]]
name = "first"
kind = "scale"
factor = 2
after = "from"
"#,
    );
    let pipelines = Pipelines::read("f", &text).ok().unwrap();
    let names: Vec<String> = pipelines.status().map(|(_, status)| status.stage).collect();
    assert_eq!(names, ["first", "last"]);
}

#[test]
fn pipelines_are_told_apart_by_their_names() {
    let twice = format!("{}{}", with(""), with(""));
    assert_eq!(told(&twice), ["f:5: pipeline p, name: \"p\" is used twice"]);
    let long = "[[pipeline]]\nname = \"a b\"\nfrom = [\"x\"]\n";
    let told = told(long);
    assert!(told[0].contains("f:2: pipeline a b, name: is \"a b\"; allowed are 1 to 64"), "{told:?}");
    assert!(told[1].contains("f:3: pipeline a b, from: \"x\" is no pattern"), "{told:?}");
}

#[test]
fn limits_are_kept() {
    let stage = |n: usize| format!("[[pipeline.stage]]\nname = \"s{n}\"\nkind = \"discard\"\n");
    let many: String = (0..65).map(stage).collect();
    assert_eq!(told(&with(&many)), ["f:4: pipeline p, stage: has 65 stages; allowed are 64"]);
    let definitions: Vec<_> =
        (0..65).map(|n| crate::Definition::new(&format!("p{n}"), &["*/*"], Vec::new())).collect();
    let problems = Pipelines::compile(&definitions).err().unwrap();
    assert_eq!(problems.to_string(), "pipeline: there are 65; allowed are 64");
}
