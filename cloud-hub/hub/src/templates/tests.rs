//! Templates laid into twins, beside what others want.

use serde_json::json;
use tideline_twin::{Change, Link, merge_patch};

use super::trial::try_out;
use super::*;

fn write(twin: &mut Twin, author: &str, patch: &Json) {
    let edits = merge_patch(Section::Desired, &twin.json(Section::Desired), patch).unwrap();
    let record = twin.edit(&Change { edits, author: author.to_owned(), time_ms: 1 }).unwrap();
    record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
}

fn wants(of: &[(&str, Json)]) -> Leaves<(Json, String)> {
    let mut wanted = BTreeMap::new();
    for (name, layer) in of {
        let name: Name = name.parse().unwrap();
        let mut leaves = BTreeMap::new();
        gather(&mut vec![CONFIG.to_owned()], layer.as_object().unwrap(), &mut leaves).unwrap();
        wanted.extend(leaves.into_iter().map(|(path, value)| (path, (value, name.author()))));
    }
    wanted
}

fn lay(twin: &mut Twin, wanted: &Leaves<(Json, String)>) {
    for (author, patch) in patches(twin, wanted) {
        write(twin, &author, &patch);
    }
    assert_eq!(patches(twin, wanted), [], "it is laid once");
}

/// Both ends tell each other all that they have.
fn meet(one: &mut Twin, other: &mut Twin) {
    let (mut to_other, mut to_one) = (Link::new("other", one), Link::new("one", other));
    for _ in 0..20 {
        while let Some(said) = to_other.poll(one) {
            let record = to_one.handle(other, &said).unwrap();
            record.into_iter().for_each(|record| other.handle_durable(record.ticket));
        }
        while let Some(said) = to_one.poll(other) {
            let record = to_other.handle(one, &said).unwrap();
            record.into_iter().for_each(|record| one.handle_durable(record.ticket));
        }
    }
}

fn config(twin: &Twin) -> Json {
    twin.json(Section::Desired)["config"].clone()
}

#[test]
fn a_template_is_laid_beside_what_others_want_and_goes_without_a_trace() {
    let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": 7 } }, "mode": "eco" }));
    let first = json!({ "batch": { "rows_max": 1, "flush_interval_ms": 20 }, "source": { "old": false } });
    lay(&mut twin, &wants(&[("group/pumps", first)]));
    let laid = json!({ "batch": { "rows_max": 7, "flush_interval_ms": 20 }, "source": { "old": false } });
    assert_eq!(config(&twin), laid);
    let found = leaves(&twin);
    let of = |path: &[&str]| {
        let path: Vec<String> = ["config"].iter().chain(path).map(|name| (*name).to_owned()).collect();
        found.get(&path).and_then(template).map(str::to_owned)
    };
    assert_eq!(of(&["batch", "flush_interval_ms"]).as_deref(), Some("group/pumps"));
    assert_eq!(of(&["batch", "rows_max"]), None);
    // Another version, and the site's word.
    let second = json!({ "batch": { "flush_interval_ms": 30 } });
    lay(&mut twin, &wants(&[("site/hall", second)]));
    assert_eq!(config(&twin), json!({ "batch": { "rows_max": 7, "flush_interval_ms": 30 } }));
    // An override that is taken back leaves room for the template.
    let third = wants(&[("group/pumps", json!({ "batch": { "rows_max": 9 } }))]);
    lay(&mut twin, &third);
    assert_eq!(config(&twin), json!({ "batch": { "rows_max": 7 } }));
    write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": null } } }));
    lay(&mut twin, &third);
    assert_eq!(config(&twin), json!({ "batch": { "rows_max": 9 } }));
    lay(&mut twin, &BTreeMap::new());
    assert!(leaves(&twin).is_empty());
    assert_eq!(twin.json(Section::Desired)["mode"], json!("eco"));
}

#[test]
fn what_somebody_wants_above_or_below_a_leaf_is_an_override_too() {
    let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    write(&mut twin, "anna", &json!({ "config": { "source": { "meter": false } } }));
    let wanted = wants(&[("group/pumps", json!({ "source": { "meter": { "interval_ms": 5 } } }))]);
    lay(&mut twin, &wanted);
    assert_eq!(config(&twin), json!({ "source": { "meter": false } }));
}

#[test]
fn what_somebody_wrote_on_site_at_the_same_time_is_left_to_be_decided_on() {
    let hub = || Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let wanted = wants(&[("group/pumps", json!({ "batch": { "rows_max": 5 }, "source": { "a": false } }))]);
    // Whichever of the two is shown.
    for site in [Actor::new(Side::Agent, [0; 15]), Actor::new(Side::Agent, [9; 15])] {
        let (mut twin, mut site) = (hub(), Twin::new(site).unwrap());
        lay(&mut twin, &wanted);
        let edits = json!({ "config": { "batch": { "rows_max": 7 }, "source": { "a": { "b": 1 } } } });
        write(&mut site, "ben", &edits);
        meet(&mut twin, &mut site);
        let conflicts = twin.conflicts();
        assert!(!conflicts.is_empty());
        for wanted in
            [&wanted, &BTreeMap::new(), &wants(&[("site/x", json!({ "batch": { "rows_max": 9 } }))])]
        {
            for (author, patch) in patches(&twin, wanted) {
                write(&mut twin, &author, &patch);
            }
            let is = |conflict: &&Conflict| conflict.key.as_str() == "config/batch/rows_max";
            assert_eq!(twin.conflicts().iter().find(is), conflicts.iter().find(is));
            assert_eq!(config(&twin)["source"], json!({ "a": { "b": 1 } }));
        }
    }
}

#[test]
fn an_override_that_is_wrong_is_told_with_its_device_and_key_and_a_template_that_is_wrong_is_not_called_one()
{
    let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
    let batch = json!({ "type": "object", "additionalProperties": false, "properties": {
        "rows_max": { "type": "integer", "minimum": 1, "maximum": 500 },
        "flush_interval_ms": { "type": "integer", "minimum": 10 },
    } });
    let edits = json!({ "config_schema": { "batch": batch.to_string() } });
    let edits = merge_patch(Section::Reported, &json!({}), &edits).unwrap();
    let record = twin.edit(&Change { edits, author: String::new(), time_ms: 1 }).unwrap();
    record.into_iter().for_each(|record| twin.handle_durable(record.ticket));
    write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": 501 } } }));
    let told = |twin: &Twin, layer: Json| match try_out(
        twin,
        &patches(twin, &wants(&[("group/pumps", layer)])),
        "pump-1",
    ) {
        Err(TwinError::Refused(told)) => told,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        told(&twin, json!({ "batch": { "rows_max": 7, "flush_interval_ms": 20 } })),
        [
            "/desired/config/batch/rows_max: must be a whole number from 1 to 500: this is an override of pump-1, set by anna, and of no \
             template; take it back or set another"
        ]
    );
    assert_eq!(
        told(&twin, json!({ "batch": { "flush_interval_ms": 1 }, "cellar": { "a": 1 } }))
            .iter()
            .filter(|one| one.contains("override"))
            .count(),
        1
    );
    write(&mut twin, "anna", &json!({ "config": { "batch": { "rows_max": 7 } } }));
    assert_eq!(
        told(&twin, json!({ "batch": { "flush_interval_ms": 1 } })),
        ["/desired/config/batch/flush_interval_ms: must be a whole number of 10 or more"]
    );
}

#[test]
fn what_no_twin_takes_whole_is_not_laid_in_part() {
    let mut twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let many: Map<String, Json> = (0..999).map(|at| (format!("k{at:03}"), json!(at))).collect();
    for part in many.iter().collect::<Vec<_>>().chunks(200) {
        let part: Map<String, Json> =
            part.iter().map(|(name, at)| ((*name).clone(), (*at).clone())).collect();
        write(&mut twin, "anna", &Json::Object(part));
    }
    let wanted =
        wants(&[("group/pumps", json!({ "a": { "x": 1 } })), ("site/hall", json!({ "b": { "x": 1 } }))]);
    let refused = try_out(&twin, &patches(&twin, &wanted), "pump-1");
    assert!(matches!(refused, Err(TwinError::Edit(_))), "{refused:?}");
    let leaves: Map<String, Json> = (0..300).map(|at| (format!("k{at}"), json!(at))).collect();
    for layer in [
        json!({ "a": leaves }),
        json!({ "a": { "x".repeat(300): 1 } }),
        json!({ "a": { "b": "x".repeat(9000) } }),
    ] {
        assert!(matches!(check(&layer), Err(TemplateError::Layer(_))));
    }
}

#[test]
fn names_and_layers_that_are_none_are_refused() {
    for name in ["pumps", "group/", "room/1", &format!("site/{}", "x".repeat(65))] {
        assert!(name.parse::<Name>().is_err(), "{name}");
    }
    for layer in [json!([]), json!({ "batch": { "rows_max": null } }), json!({ "a": { "$set": [] } })] {
        assert!(check(&layer).is_err(), "{layer}");
    }
    assert!(check(&json!({ "a": "x".repeat(LAYER_BYTES_MAX) })).is_err());
    assert!(check(&json!({ "source": { "old": false } })).is_ok());
    let empty = check(&json!({ "batch": { "rows_max": 1 }, "source": { "a": {} } })).unwrap_err();
    assert_eq!(empty.to_string(), "config.source.a: an empty object sets nothing; leave it out");
}
