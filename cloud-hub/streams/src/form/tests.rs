//! Forms that are wrong in several places, and this form beside the types.

use proptest::prelude::*;

use super::*;

fn whole() -> Value {
    json!({
        "name": "means",
        "source": { "devices": ["pump-*"], "points": ["t", "u"] },
        "stages": [
            { "kind": "filter", "points": "t", "compare": "gt", "value": 0.5 },
            { "kind": "scale", "points": null, "factor": 2, "offset": -1 },
        ],
        "join": { "left": "t", "right": "u", "left_device": "pump-1", "right_device": "pump-2", "tolerance_ms": 5,
            "direction": "nearest", "combine": "sum" },
        "window": { "kind": "hopping", "length_ms": 60_000, "hop_ms": 20_000 },
        "group": "series",
        "aggregates": ["mean", "max"],
        "sql": null,
        "time": { "out_of_orderness_ms": 0, "idle_timeout_ms": null, "ahead_max_ms": 1 },
        "late": { "allowed_ms": 0, "then": "side" },
        "sinks": [{ "kind": "series", "device": "pairs", "point": "{aggregate}" }, { "kind": "rows" }, { "kind": "live" }],
        "limits": { "devices": 1, "open_windows": 1, "state_bytes": 65_536 },
    })
}

/// The definition with other values in these places; a place that is not there is made, and null takes it out.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut definition = whole();
    for (pointer, value) in changes {
        let (outer, name) = pointer.rsplit_once('/').unwrap();
        match definition.pointer_mut(outer).unwrap() {
            Value::Object(table) if value.is_null() => drop(table.remove(name)),
            Value::Object(table) => drop(table.insert(name.to_owned(), value.clone())),
            Value::Array(all) => all[name.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("{other}"),
        }
    }
    definition
}

fn told(definition: Value) -> Vec<String> {
    read(definition, Job::check)
        .map_or_else(|SpecError(errors)| errors.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

#[test]
fn a_good_definition_is_the_job_that_its_types_make() {
    let spec = serde_json::from_value(whole()).unwrap();
    assert_eq!(read(whole(), Job::check).unwrap(), Job::check(spec).unwrap());
}

#[test]
fn all_that_is_wrong_with_the_form_is_told_with_its_pointer_and_what_is_allowed() {
    let wrong = with(&[
        ("/name", json!(7)),
        ("/colour", json!(1)),
        ("/source/points/1", json!(false)),
        ("/source/place", json!("roof")),
        ("/stages/0/compare", json!("above")),
        ("/stages/0/value", json!("1")),
        ("/stages/1", json!({ "kind": "double", "by": 2 })),
        ("/join/tolerance_ms", json!(-5)),
        ("/join/combine", Value::Null),
        ("/window/length_ms", json!(1.5)),
        ("/window/hop_ms", Value::Null),
        ("/window/gap_ms", json!(5)),
        ("/aggregates/1", json!("median")),
        ("/time", json!([5])),
        ("/sinks/1/point", json!("t")),
    ]);
    let wanted = [
        "/colour is unknown; allowed are name, source, stages, join, window, group, aggregates, sql, time, late, sinks, \
         limits",
        "/name is 7; allowed are texts",
        "/source/place is unknown; allowed are devices, points",
        "/source/points/1 is false; allowed are texts",
        "/stages/0/compare is \"above\"; allowed are lt, le, gt, ge, eq, ne",
        "/stages/0/value is \"1\"; allowed are numbers",
        "/stages/1/kind is \"double\"; allowed are filter, scale",
        "/join/tolerance_ms is -5; allowed are whole numbers of 0 or more",
        "/join/combine is left out; allowed are left, right, sum, difference, product, ratio",
        "/window/gap_ms is unknown; allowed are kind, length_ms, hop_ms",
        "/window/length_ms is 1.5; allowed are whole numbers of 0 or more",
        "/window/hop_ms is left out; allowed are whole numbers of 0 or more",
        "/aggregates/1 is \"median\"; allowed are count, min, max, sum, first, last, mean, time_weighted_mean",
        "/time is [5]; allowed are tables with out_of_orderness_ms, idle_timeout_ms, ahead_max_ms",
        "/sinks/1/point is unknown; allowed are kind",
    ];
    assert_eq!(told(wrong), wanted);
}

#[test]
fn what_is_wrong_beyond_the_form_is_told_with_it_where_it_can_be_judged() {
    // A key too many is left out, and all else is judged.
    let wrong = [("/late/allow_ms", json!(1)), ("/limits/devices", json!(0)), ("/join/left", json!("v"))];
    let found = told(with(&wrong));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with("/join/left is \"v\"; allowed are points that fit source.points"),
        "{found:?}"
    );
    assert!(found[1].starts_with("/late/allow_ms is unknown"), "{found:?}");
    assert!(found[2].starts_with("/limits/devices is 0; allowed are 1 to"), "{found:?}");
    // Which aggregates there may be depends on the window, and which points on the source; the limits stand alone.
    let wrong = [
        ("/window/kind", json!("rolling")),
        ("/source/points", json!("t")),
        ("/join/left", json!("v")),
        ("/aggregates", json!([])),
        ("/limits/devices", json!(0)),
    ];
    let found = told(with(&wrong));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("/source/points is \"t\"; allowed are lists of texts"), "{found:?}");
    assert!(found[1].starts_with("/window/kind is \"rolling\"; allowed are each, tumbling"), "{found:?}");
    assert!(found[2].starts_with("/limits/devices is 0"), "{found:?}");
}

#[test]
fn names_are_escaped_and_no_more_is_told_than_anybody_reads() {
    assert_eq!(told(json!(true)).len(), 1);
    assert!(told(json!([]))[0].starts_with("the definition is []; allowed are tables with name, source"));
    assert!(told(with(&[("/late/a", json!(1))]))[0].starts_with("/late/a is unknown"));
    let mut odd = whole();
    odd["late"]["a/b~c"] = json!(1);
    odd["late"]["x".repeat(1_000)] = json!(1);
    odd["group"] = json!("y".repeat(1_000));
    let found = told(odd);
    assert!(
        found[0].starts_with("/group is \"yyy") && found[0].contains("…; allowed are series, device"),
        "{found:?}"
    );
    assert!(found[1].starts_with("/late/a~1b~0c is unknown"), "{found:?}");
    assert!(found[2].len() < 200, "{found:?}");
    let many: Map<String, Value> = (0..1_000).map(|at| (at.to_string(), json!(at))).collect();
    assert_eq!(told(Value::Object(many)).len(), FORM_ERRORS_MAX);
}

/// Every place of a value, as a pointer.
fn places(value: &Value, pointer: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                out.push(format!("{pointer}/{name}"));
                places(value, &format!("{pointer}/{name}"), out);
            }
        }
        Value::Array(all) => {
            for (at, value) in all.iter().enumerate() {
                out.push(format!("{pointer}/{at}"));
                places(value, &format!("{pointer}/{at}"), out);
            }
        }
        _ => {}
    }
}

#[derive(Debug, Clone)]
enum Change {
    TakeOut,
    Rename,
    Put(Value),
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let kinds =
        ["each", "tumbling", "hopping", "sliding", "session", "filter", "scale", "series", "rows", "live"];
    let words = ["lt", "backward", "device", "left", "count", "update", "side", "nothing", "5"];
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        Just(json!(2.5)),
        prop::sample::select(kinds.to_vec()).prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        Just(json!({})),
        Just(json!([])),
        prop::sample::select(kinds.to_vec()).prop_map(|kind| json!({ "kind": kind, "length_ms": 5 })),
    ];
    let change = prop_oneof![Just(Change::TakeOut), Just(Change::Rename), value.prop_map(Change::Put)];
    prop::collection::vec((any::<prop::sample::Index>(), change), 0..4)
}

/// Whether a table without keys of its own has some, which the types would leave out without a word; or a list or a table
/// stands for a structure or a name, which the types take as well.
fn is_laxer(value: &Value) -> bool {
    let bare = |sink: &Value| {
        let kind = sink.get("kind").and_then(Value::as_str);
        matches!(kind, Some("each" | "rows" | "live"))
            && sink.as_object().is_some_and(|table| table.len() > 1)
    };
    let tables = ["source", "join", "window", "time", "late", "limits"];
    let is_list = |name: &&str| value.get(*name).is_some_and(Value::is_array);
    let sinks = value.get("sinks").and_then(Value::as_array);
    let stages = value.get("stages").and_then(Value::as_array);
    value.get("window").is_some_and(bare)
        || sinks.is_some_and(|all| all.iter().any(bare))
        || tables.iter().any(is_list)
        || [sinks, stages].into_iter().flatten().flatten().any(Value::is_array)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What this form takes, the types take, and the other way round.
    #[test]
    fn the_form_is_that_of_the_types(changes in changes()) {
        let mut definition = whole();
        for (index, change) in changes {
            let mut all = Vec::new();
            places(&definition, "", &mut all);
            if all.is_empty() {
                break;
            }
            let pointer = index.get(&all);
            let (outer, name) = pointer.rsplit_once('/').unwrap();
            match (definition.pointer_mut(outer).unwrap(), change) {
                (Value::Object(table), Change::TakeOut) => drop(table.remove(name)),
                (Value::Object(table), Change::Rename) => {
                    let value = table.remove(name).unwrap();
                    table.insert(format!("{name}s"), value);
                }
                (Value::Array(all), Change::TakeOut | Change::Rename) => {
                    all.remove(name.parse().unwrap());
                }
                (_, Change::Put(value)) => *definition.pointer_mut(pointer).unwrap() = value,
                (other, _) => panic!("{other}"),
            }
        }
        let mut form = Reader::default();
        form.table("", &mut definition.clone(), &JOB, None);
        let typed = serde_json::from_value::<JobSpec>(definition.clone());
        if form.errors.is_empty() {
            prop_assert!(typed.is_ok(), "{:?}: {}", typed, definition);
        } else if !is_laxer(&definition) {
            prop_assert!(typed.is_err(), "{:?}: {}", form.errors, definition);
        }
        // And whatever is wrong, what is told of it comes from one of both.
        let told = read(definition, Job::check).err().map_or_else(Vec::new, |SpecError(errors)| errors);
        prop_assert!(told.iter().all(|error| !error.found.contains("none that can be read")), "{:?}", told);
        prop_assert_eq!(form.errors.iter().all(|error| told.contains(error)), true);
    }
}
