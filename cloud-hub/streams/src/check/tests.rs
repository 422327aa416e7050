//! What definitions are told.

use super::*;
use crate::JobSpec;

fn spec(text: &str) -> JobSpec {
    serde_json::from_str(text).unwrap()
}

const PLAIN: &str = r#"{
    "name": "means",
    "source": { "devices": ["pump-*"], "points": ["temperature", "motor/*"] },
    "window": { "kind": "tumbling", "length_ms": 60000 },
    "aggregates": ["mean", "max"],
    "sinks": [{ "kind": "series", "point": "{point}/{aggregate}-1m" }, { "kind": "rows" }, { "kind": "live" }]
}"#;

fn device(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn point(text: &str) -> PointId {
    PointId::parse(text).unwrap()
}

#[test]
fn a_plain_definition_is_a_job_with_the_defaults() {
    let job = Job::check(spec(PLAIN)).unwrap();
    assert_eq!(
        (job.bound_ns, job.idle_ns, job.ahead_ns, job.allowed_ns),
        (5_000_000_000, Some(60_000_000_000), 3_600_000_000_000, 0)
    );
    assert!(job.selects(&device("pump-7"), &point("motor/rpm")));
    assert!(!job.selects(&device("valve-1"), &point("motor/rpm")));
    assert!(!job.selects(&device("pump-7"), &point("pressure")));
    let text = serde_json::to_string(job.spec()).unwrap();
    assert_eq!(spec(&text), *job.spec());
    let key = Key { device: device("pump-7"), point: Some(point("motor/rpm")) };
    let values = job.fields.iter().zip([1.5, 2.0]).map(|(field, value)| (*field, value)).collect();
    let result = WindowResult { key, start_ns: 60, end_ns: 120, revision: 0, values };
    let names: Vec<(String, i64, f64)> = job
        .derive(&result)
        .unwrap()
        .into_iter()
        .map(|d| (format!("{}/{}", d.device, d.point), d.sample.time_ns, d.sample.value))
        .collect();
    let wanted =
        [("pump-7/motor/rpm/mean-1m".to_owned(), 60, 1.5), ("pump-7/motor/rpm/max-1m".to_owned(), 60, 2.0)];
    assert_eq!(names, wanted);
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place_and_what_is_allowed() {
    let bad = spec(
        r#"{
        "name": "a job",
        "source": { "devices": [], "points": ["a b"] },
        "stages": [{ "kind": "scale", "factor": 1e300 }, { "kind": "filter", "points": "", "compare": "lt", "value": 1 }],
        "window": { "kind": "hopping", "length_ms": 70000, "hop_ms": 20000 },
        "group": "device",
        "aggregates": ["mean", "time_weighted_mean", "mean"],
        "time": { "out_of_orderness_ms": 99999999999, "idle_timeout_ms": 0 },
        "late": { "allowed_ms": 99999999999, "then": "update" },
        "sinks": [{ "kind": "series", "device": "all", "point": "{point}-{unit}" }, { "kind": "series", "device": "x", "point": "{point}" }],
        "limits": { "devices": 0, "open_windows": 0, "state_bytes": 1 }
    }"#,
    );
    let error = Job::check(bad).unwrap_err();
    let fields: Vec<&str> = error.0.iter().map(|error| error.field.as_str()).collect();
    let wanted = [
        "/name",
        "/source/devices",
        "/source/points/0",
        "/stages/0/factor",
        "/stages/1/points",
        "/window/length_ms",
        "/group",
        "/aggregates/2",
        "/time/out_of_orderness_ms",
        "/time/idle_timeout_ms",
        "/late/allowed_ms",
        "/late/then",
        "/sinks/0/point",
        "/sinks/1",
        "/sinks/1",
        "/limits/devices",
        "/limits/open_windows",
        "/limits/state_bytes",
    ];
    assert_eq!(fields, wanted);
    let text = error.to_string();
    assert!(
        text.contains("/name is \"a job\"; allowed are 1 to 64 letters, digits, '.', '_' and '-'"),
        "{text}"
    );
    assert!(
        text.contains("/window/length_ms is 70000; allowed are 1 to 1000 times window.hop_ms, 20000"),
        "{text}"
    );
    assert!(text.contains("/limits/devices is 0; allowed are 1 to 1000000"), "{text}");
    assert_eq!(text.lines().count(), wanted.len());
}

/// The plain definition with some JSON in place of other.
fn told(changes: &[(&str, &str)]) -> Vec<String> {
    let mut text = PLAIN.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    Job::check(spec(&text)).map_or_else(|e| e.0.iter().map(|e| e.field.clone()).collect(), |_| vec![])
}

#[test]
fn joins_are_of_two_points_of_the_source_and_final() {
    let window = "\"window\": {";
    let join = |left: &str, right: &str, rest: &str| {
        format!(
            "\"join\": {{ \"left\": \"{left}\", \"right\": \"{right}\", \"tolerance_ms\": 5, \"combine\": \"ratio\" }}, {rest} {window}"
        )
    };
    let good = join("temperature", "motor/rpm", "");
    assert_eq!(told(&[(window, &good)]), Vec::<String>::new());
    assert_eq!(told(&[(window, &join("temperature", "temperature", ""))]), ["/join/right"]);
    assert_eq!(told(&[(window, &join("pressure", "a b", ""))]), ["/join/left", "/join/right"]);
    let late = join(
        "temperature",
        "motor/rpm",
        "\"late\": { \"allowed_ms\": 1, \"then\": \"update\" }, \"group\": \"device\",",
    );
    assert_eq!(told(&[(window, &late)]), ["/group", "/late/allowed_ms", "/late/then", "/sinks/0"]);
}

#[test]
fn windows_have_the_aggregates_and_policies_that_they_can_keep() {
    let tumbling = r#""window": { "kind": "tumbling", "length_ms": 60000 }"#;
    let aggregates = r#""aggregates": ["mean", "max"]"#;
    let with = |window: &str, rest: &str| format!("\"window\": {window}{rest}");
    assert_eq!(told(&[(tumbling, &with(r#"{ "kind": "each" }"#, ""))]), ["/aggregates"]);
    let each = with(r#"{ "kind": "each" }"#, "");
    assert_eq!(told(&[(tumbling, &each), (aggregates, "\"aggregates\": []")]), Vec::<String>::new());
    assert_eq!(told(&[(aggregates, "\"aggregates\": []")]), ["/aggregates"]);
    let update = r#", "late": { "then": "update" }"#;
    let timed = r#""aggregates": ["time_weighted_mean"]"#;
    let sliding = r#"{ "kind": "sliding", "length_ms": 0 }"#;
    assert_eq!(told(&[(tumbling, &with(sliding, ""))]), Vec::<String>::new());
    assert_eq!(told(&[(tumbling, &with(sliding, update))]), Vec::<String>::new());
    assert_eq!(told(&[(tumbling, &with(sliding, update)), (aggregates, timed)]), ["/late/then"]);
    let session = r#"{ "kind": "session", "gap_ms": 5 }"#;
    assert_eq!(told(&[(tumbling, &with(session, ""))]), Vec::<String>::new());
    assert_eq!(told(&[(tumbling, &with(session, update))]), Vec::<String>::new());
    assert_eq!(
        told(&[(tumbling, &format!("{each}{update}")), (aggregates, "\"aggregates\": []")]),
        ["/late/then"]
    );
    let hopping = |length: u64, hop: u64| {
        told(&[(
            tumbling,
            &with(&format!(r#"{{ "kind": "hopping", "length_ms": {length}, "hop_ms": {hop} }}"#), update),
        )])
    };
    assert_eq!(hopping(60, 20), Vec::<String>::new());
    assert_eq!(hopping(1000, 1), Vec::<String>::new());
    assert_eq!(hopping(1001, 1), ["/window/length_ms"]);
    assert_eq!(hopping(20, 60), ["/window/length_ms"]);
    assert_eq!(hopping(20, 0), ["/window/hop_ms"]);
    // Without {aggregate} two aggregates would be one series.
    assert_eq!(told(&[("{aggregate}-", "")]), ["/sinks/0"]);
    assert_eq!(told(&[("{point}/", "")]), ["/sinks/0"]);
}

#[test]
fn results_of_one_series_need_no_template() {
    let named = |devices: &str, points: &str, device: &str, point: &str| {
        told(&[
            (r#"["pump-*"]"#, devices),
            (r#"["temperature", "motor/*"]"#, points),
            (r#""aggregates": ["mean", "max"]"#, r#""aggregates": ["mean"]"#),
            (r#""point": "{point}/{aggregate}-1m""#, &format!(r#""device": "{device}", "point": "{point}""#)),
        ])
    };
    let (pump, all, heat, both) =
        (r#"["pump-1"]"#, r#"["pump-*"]"#, r#"["temperature"]"#, r#"["temperature", "motor/rpm"]"#);
    let fine = Vec::<String>::new();
    assert_eq!(named(pump, heat, "hall", "mean"), fine);
    assert_eq!(named(pump, both, "hall", "{point}/mean"), fine);
    assert_eq!(named(all, heat, "{device}", "mean"), fine);
    // Of several there must be as many names.
    assert_eq!(named(pump, both, "hall", "mean"), ["/sinks/0"]);
    assert_eq!(named(all, heat, "hall", "mean"), ["/sinks/0"]);
    assert_eq!(named(r#"["pump-1", "pump-2"]"#, heat, "hall", "mean"), ["/sinks/0"]);
    assert_eq!(named(pump, r#"["motor/*"]"#, "hall", "mean"), ["/sinks/0"]);
}

#[test]
fn unknown_fields_and_kinds_are_refused_with_what_is_allowed() {
    let error = |from: &str, to: &str| {
        serde_json::from_str::<JobSpec>(&PLAIN.replace(from, to)).unwrap_err().to_string()
    };
    assert!(error("length_ms", "length").contains("unknown field `length`"));
    assert!(error("\"tumbling\"", "\"rolling\"").contains("expected one of `each`, `tumbling`"));
    assert!(error("\"mean\"", "\"median\"").contains("expected one of `count`"));
    assert!(error("\"name\"", "\"title\"").contains("unknown field `title`"));
}
