//! What holds for every history of samples; limits, and a caller that leaves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[allow(dead_code, reason = "only its series in memory are used here")]
mod script;

use std::cell::Cell;

use proptest::prelude::*;
use script::Memory;
use tideline_promql::{
    Answer, Error, Labels, Limits, NAME, NS_PER_S, Query, Range, Sample, instant, parse, range,
};

const START_NS: i64 = 1_700_000_000 * NS_PER_S;

/// What the range and the instant evaluation, and so each function and operator, are compared with.
const QUERIES: [&str; 24] = [
    "a",
    "a offset 20s",
    "-a + 1",
    "a > b",
    "a >= bool on(x) b",
    "a and on(x) b",
    "a or b",
    "a unless on(x) b",
    "sum(a) / count(a)",
    "topk(1, a)",
    "bottomk by (x) (1, {__name__=~\"a|b\"})",
    "count_values(\"v\", round(a))",
    "quantile(0.4, a)",
    "stddev by (__name__) ({x=~\".+\"})",
    "rate(a[1m])",
    "increase(a[95s])",
    "delta(a[1m] offset 10s)",
    "deriv(a[2m])",
    "predict_linear(a[2m], 30)",
    "quantile_over_time(0.3, a[1m])",
    "absent(a{x=\"0\"})",
    "max_over_time(sum by (x) (a)[2m:17s])",
    "timestamp(a) - time()",
    "label_replace(a, \"y\", \"$1\", \"x\", \"(.)\") * on(y) group_left() label_replace(b, \"y\", \"$1\", \"x\", \"(.)\")",
];

fn labels(name: &str, x: usize) -> Labels {
    Labels::new([(NAME, name.to_owned()), ("x", x.to_string())])
}

/// Series `a{x="0"}` to `a{x="2"}` and `b` of the same labels, with samples at some seconds.
fn histories() -> impl Strategy<Value = Vec<Vec<(i64, f64)>>> {
    let sample =
        (0..600_i64, prop_oneof![-50.0..50.0_f64, Just(0.0), Just(f64::NAN), (0..5_i32).prop_map(f64::from)]);
    proptest::collection::vec(proptest::collection::vec(sample, 0..40), 6)
}

fn memory(histories: &[Vec<(i64, f64)>]) -> Memory {
    let mut memory = Memory::default();
    for (at, history) in histories.iter().enumerate() {
        let mut samples: Vec<Sample> = history
            .iter()
            .map(|(s, value)| Sample { time_ns: START_NS + s * NS_PER_S, value: *value })
            .collect();
        samples.sort_by_key(|s| s.time_ns);
        samples.dedup_by_key(|s| s.time_ns);
        memory.add(labels(if at < 3 { "a" } else { "b" }, at % 3), samples);
    }
    memory
}

fn query(memory: &Memory) -> Query<'_, Memory> {
    Query { source: memory, limits: Limits::default(), canceled: &|| false }
}

/// The values at one time, bit for bit, by labels.
fn at(memory: &Memory, text: &str, time_ns: i64) -> Result<Vec<(Labels, u64)>, String> {
    match instant(&query(memory), &parse(text).unwrap(), time_ns).map_err(|e| e.to_string())? {
        Answer::Vector(all) => {
            let mut out: Vec<_> = all.into_iter().map(|(labels, v)| (labels, v.to_bits())).collect();
            out.sort();
            Ok(out)
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A range query is the instant query at each step.
    #[test]
    fn a_range_is_its_instants(histories in histories(), start in 0..300_i64, step in 9..90_i64) {
        let memory = memory(&histories);
        let asked = Range {
            start_ns: START_NS + start * NS_PER_S,
            end_ns: START_NS + (start + 400) * NS_PER_S,
            step_ns: step * NS_PER_S,
        };
        for text in QUERIES {
            let whole = range(&query(&memory), &parse(text).unwrap(), asked);
            let times = (0..).map(|i| asked.start_ns + i * asked.step_ns).take_while(|t| *t <= asked.end_ns);
            let instants: Vec<_> = times.map(|t| (t, at(&memory, text, t))).collect();
            let Ok(Answer::Matrix(series)) = whole else {
                // One step fails, and so the whole does.
                prop_assert!(instants.iter().any(|(_, answer)| answer.is_err()), "{text}: {whole:?}");
                continue;
            };
            for (time, answer) in instants {
                let values = series.iter().filter_map(|s| {
                    let sample = s.samples.iter().find(|sample| sample.time_ns == time)?;
                    Some((s.labels.clone(), sample.value.to_bits()))
                });
                prop_assert_eq!(Ok(values.collect::<Vec<_>>()), answer, "{} at {}", text, time);
            }
        }
    }

    /// Windows are left-open: counted here sample by sample.
    #[test]
    fn a_window_holds_what_lies_in_it(histories in histories(), time in 0..700_i64, span in 1..400_i64) {
        let memory = memory(&histories);
        let counted = at(&memory, &format!("count_over_time(a[{span}s])"), START_NS + time * NS_PER_S).unwrap();
        for (x, history) in histories.iter().take(3).enumerate() {
            let mut seconds: Vec<i64> = history.iter().map(|(s, _)| *s).collect();
            seconds.sort_unstable();
            seconds.dedup();
            let inside = seconds.iter().filter(|s| **s > time - span && **s <= time).count();
            let labels = labels("a", x).without(&[NAME.to_owned()]);
            let found = counted.iter().find(|(l, _)| *l == labels).map(|(_, v)| f64::from_bits(*v));
            prop_assert_eq!(found, (inside > 0).then_some(inside as f64));
        }
    }

    /// What is in a set and what is not are the set, and no aggregate depends on how it is grouped first.
    #[test]
    fn sets_and_groups_add_up(histories in histories(), time in 0..700_i64) {
        let memory = memory(&histories);
        let at = |text: &str| at(&memory, text, START_NS + time * NS_PER_S).unwrap();
        prop_assert_eq!(at("(a and on(x) b) or (a unless on(x) b)"), at("a"));
        prop_assert_eq!(at("count(a)"), at("sum(count by (x) (a))"));
        prop_assert_eq!(at("max({x=~\".+\"})"), at("max(max by (x) ({x=~\".+\"}))"));
        prop_assert_eq!(at("a == a or a != a"), at("a"));
    }
}

#[test]
fn a_caller_that_leaves_ends_the_evaluation_between_two_steps() {
    let memory = memory(&vec![vec![(0, 1.0), (10, 2.0)]; 6]);
    let asked = Range { start_ns: START_NS, end_ns: START_NS + 900 * NS_PER_S, step_ns: NS_PER_S };
    for text in ["rate(a[1m])", "a + on(x) b", "sum(a)", "topk(1, a)", "a", "max_over_time(a[5m:1s])"] {
        let asks = Cell::new(0);
        let count = || {
            asks.set(asks.get() + 1);
            false
        };
        let expr = parse(text).unwrap();
        let counting = Query { source: &memory, limits: Limits::default(), canceled: &count };
        assert!(range(&counting, &expr, asked).is_ok(), "{text}");
        let all = asks.get();
        for leaves_at in [1, all / 2, all] {
            asks.set(0);
            let leaves = || {
                asks.set(asks.get() + 1);
                asks.get() >= leaves_at
            };
            let leaving = Query { source: &memory, limits: Limits::default(), canceled: &leaves };
            assert_eq!(range(&leaving, &expr, asked), Err(Error::Canceled), "{text}");
            assert_eq!(asks.get(), leaves_at, "{text} went on");
        }
    }
}

#[test]
fn each_limit_is_refused_by_name_and_just_below_it_is_not() {
    let memory = memory(&vec![vec![(0, 1.0), (10, 2.0), (20, 3.0), (30, 4.0)]; 6]);
    let run = |limits: Limits, text: &str| {
        let query = Query { source: &memory, limits, canceled: &|| false };
        let asked = Range { start_ns: START_NS, end_ns: START_NS + 60 * NS_PER_S, step_ns: NS_PER_S };
        range(&query, &parse(text).unwrap(), asked).map(|_| ()).map_err(|e| e.to_string())
    };
    let most = Limits { series: 3, samples: 12, points: 200, steps: 60 };
    assert_eq!(run(most, "a"), Ok(()));
    let refused = |limits: Limits, text: &str| run(limits, text).unwrap_err();
    assert_eq!(
        refused(Limits { series: 2, ..most }, "a"),
        "the selector finds 3 series; allowed are 2: name the metric or the device"
    );
    assert!(refused(Limits { samples: 11, ..most }, "a").contains("read more than 11 samples"));
    assert!(refused(Limits { points: 182, ..most }, "a").contains("compute more than 182 values"));
    assert!(refused(Limits { steps: 59, ..most }, "a").contains("maximum resolution of 59 points"));
    assert!(refused(most, "a[1y:1s]").contains("invalid expression type"));
    assert!(refused(most, "max_over_time(vector(1)[90y:1ms])").contains("compute more than 200 values"));
}
