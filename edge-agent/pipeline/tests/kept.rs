//! States of earlier versions, which every later one takes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use tideline_pipeline::{Chunk, Outcome, Pipelines};
use tideline_protocol::model::{Sample, SeriesDef};

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * S;

/// One stage of each kind that keeps something. What it says may not change, or the state is of something else.
const DEFINITION: &str = r#"
[[pipeline]]
name = "kept"
from = "a/*"
[[pipeline.stage]]
name = "deadband"
kind = "deadband"
absolute = 1
[[pipeline.stage]]
name = "limit"
kind = "rate_limit"
readings = 1
per_ms = 100_000
after = "from"
[[pipeline.stage]]
name = "window"
kind = "window"
length_ms = 60_000
aggregates = ["count", "sum"]
after = "from"
[[pipeline.stage]]
name = "derive"
kind = "derive"
inputs = { t = "a/t", u = "a/u" }
value = "t + u"
device = "a"
point = "both"
after = "from"
[[pipeline.stage]]
name = "rule"
kind = "rule"
condition = "above"
limit = 5
for_ms = 10_000
after = "from"
[[pipeline.stage]]
name = "odd"
kind = "rule"
condition = "z_score"
limit = 3
warm_up = 3
deviation_min = 0.1
after = "from"
"#;

fn run(pipelines: &mut Pipelines, point: &str, rows: &[(i64, f64)]) -> Outcome {
    let series = SeriesDef::new("a".parse().unwrap(), point.parse().unwrap(), "Cel".into());
    let samples = rows.iter().map(|(at, value)| Sample { time_ns: NOW + at * S, value: *value }).collect();
    pipelines.run(NOW, Chunk { rows: vec![(series, samples)], ..Chunk::default() })
}

fn before() -> Pipelines {
    let mut pipelines = Pipelines::read("kept.toml", DEFINITION).unwrap();
    run(&mut pipelines, "t", &[(0, 1.0), (1, 1.1), (2, 0.9), (3, 1.0), (4, 6.0)]);
    pipelines
}

fn told(outcome: &Outcome) -> Vec<String> {
    let mut told = Vec::new();
    for row in &outcome.rows {
        for sample in &row.samples {
            told.push(format!("{} {}", row.series.point, sample.value));
        }
    }
    told.extend(outcome.events.iter().map(|event| format!("{} {}", event.rule, event.change.as_str())));
    told.sort();
    told
}

/// Those that were written, the newest last. In version 1 no clocks were known; how long something lasts by monotonic time
/// begins anew.
const KEPT: [&str; 2] = [include_str!("state-1.hex"), include_str!("state-2.hex")];

#[test]
fn states_of_all_versions_are_taken_back_with_all_that_they_know() {
    KEPT.into_iter().for_each(taken_back);
}

fn taken_back(hex: &str) {
    let hex: String = hex.split_whitespace().collect();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut taken = Pipelines::read("kept.toml", DEFINITION).unwrap();
    assert_eq!(taken.restore("kept", &bytes), Ok(Vec::new()));
    let mut pipelines = before();
    for pipelines in [&mut taken, &mut pipelines] {
        // The deadband and the limit hold it back; the rule has held since second 4.
        let first = told(&run(pipelines, "t", &[(14, 6.5)]));
        assert_eq!(first, ["rule fired", "t 6.5", "t 6.5"], "the readings that rules let pass, and no more");
        let second = told(&run(pipelines, "u", &[(15, 2.0)]));
        assert_eq!(second, ["both 8.5", "u 2", "u 2", "u 2", "u 2"]);
        let third = told(&run(pipelines, "t", &[(50, 6.4)]));
        assert_eq!(third, ["both 8.4", "t 6.4", "t 6.4", "t/count 6", "t/sum 16.5"]);
    }
}

#[test]
fn a_state_that_is_written_now_is_the_one_that_is_kept() {
    let (_, state) = before().states().remove(0);
    let hex: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
    let kept: String = KEPT[1].split_whitespace().collect();
    assert_eq!(hex, kept, "a layout that changed needs another version");
}
