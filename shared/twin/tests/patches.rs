//! What patches do to a twin: whatever is shown of a leaf can be written, and is kept so with its kind.
#![allow(clippy::unwrap_used, reason = "a test says what it found")]

mod talk;

use serde_json::{Value as Json, json};
use talk::talk;
use tideline_twin::{Actor, Change, Section, Side, Twin, Write, merge_patch};

fn ends() -> (Twin, Twin) {
    let of = |side, id| Twin::new(Actor::new(side, [id; 15])).unwrap();
    (of(Side::Hub, 1), of(Side::Agent, 2))
}

/// Makes a patch of notes, where all kinds of values may be. Says whether it changed anything.
fn patch(twin: &mut Twin, patch: &Json) -> bool {
    let edits = merge_patch(Section::Notes, &twin.json(Section::Notes), patch).unwrap();
    let change = Change { edits, author: "anna".into(), time_ms: 1 };
    let record = twin.edit(&change).unwrap();
    record.iter().for_each(|record| twin.handle_durable(record.ticket));
    record.is_some()
}

/// A leaf of each kind, and an object.
fn kinds() -> Vec<Json> {
    vec![
        json!(5),
        json!("x"),
        json!([1, {"c": null}]),
        json!({}),
        json!({"$add": 3}),
        json!({"$set": [1, "x"]}),
        json!({"$set": []}),
        json!({"$text": "one"}),
        json!({"$text": "two"}),
        json!({"b": 2}),
        json!({"b": {"$add": 1}}),
        json!({"b": {}}),
    ]
}

/// Whether two of them exclude each other.
fn excludes(one: &Json, other: &Json) -> bool {
    let is_set = |value: &Json| value.get("$set").is_some();
    let is_object = |value: &Json| *value == json!({}) || value.get("b").is_some();
    let in_object = |value: &Json| value.get("b").cloned();
    if let (Some(one), Some(other)) = (in_object(one), in_object(other)) {
        return one != other;
    }
    !(one == other || (is_set(one) && is_set(other)) || (is_object(one) && is_object(other)))
}

#[test]
fn each_value_of_a_conflict_is_kept_with_its_kind_by_writing_what_is_shown() {
    for (at_hub, at_agent) in
        kinds().into_iter().flat_map(|one| kinds().into_iter().map(move |other| (one.clone(), other)))
    {
        let (mut hub, mut agent) = ends();
        patch(&mut hub, &json!({ "a": at_hub }));
        patch(&mut agent, &json!({ "a": at_agent }));
        talk(&mut hub, &mut agent);
        let conflicts = hub.conflicts();
        assert_eq!(conflicts, agent.conflicts());
        assert_eq!(!conflicts.is_empty(), excludes(&at_hub, &at_agent), "{at_hub} beside {at_agent}");
        let shown = hub.json(Section::Notes);
        for conflict in conflicts {
            let here = |json: Json| json.pointer(&format!("/{}", conflict.key)).cloned();
            assert_eq!(
                here(shown.clone()).as_ref(),
                Some(&conflict.values[0].value),
                "the shown one is first"
            );
            for (kept, by_hub, rebased) in conflict.values.iter().flat_map(|leaf| {
                [(true, false), (false, false), (true, true), (false, true)]
                    .map(|(by_hub, rebased)| (leaf.value.clone(), by_hub, rebased))
            }) {
                let (mut hub, mut agent) = (hub.clone(), agent.clone());
                if rebased {
                    let record = hub.rebase([7; 14]).unwrap();
                    hub.handle_durable(record.ticket);
                    talk(&mut hub, &mut agent);
                }
                let nested = conflict.key.names().collect::<Vec<_>>().into_iter().rev();
                let wanted = nested.fold(kept.clone(), |inner, name| json!({ name: inner }));
                assert!(patch(if by_hub { &mut hub } else { &mut agent }, &wanted));
                talk(&mut hub, &mut agent);
                for twin in [&hub, &agent] {
                    let found = here(twin.json(Section::Notes));
                    assert_eq!(found, Some(kept.clone()), "{at_hub} beside {at_agent}");
                    assert_eq!(twin.conflicts(), [], "{kept} of {at_hub} beside {at_agent}");
                }
            }
        }
    }
}

#[test]
fn what_is_shown_of_values_that_merge_changes_nothing_when_it_is_written() {
    let (mut hub, mut agent) = ends();
    patch(
        &mut hub,
        &json!({"n": {"$add": 3}, "s": {"$set": [1, "x"]}, "e": {"$set": []}, "o": {}, "t": {"$text": "é"}}),
    );
    talk(&mut hub, &mut agent);
    patch(&mut agent, &json!({"n": {"$add": -5}}));
    talk(&mut hub, &mut agent);
    let shown = hub.json(Section::Notes);
    let expected = json!({"n": {"$counter": -2}, "s": {"$set": ["x", 1]}, "e": {"$set": []}, "o": {}, "t": {"$text": "é"}});
    assert_eq!(shown, expected);
    assert!(!patch(&mut hub, &shown));
    assert!(!patch(&mut agent, &shown));
}

#[test]
fn a_counter_that_is_written_stands_there_and_others_still_add_to_it() {
    let (mut hub, mut agent) = ends();
    patch(&mut hub, &json!({"n": {"$add": 3}}));
    talk(&mut hub, &mut agent);
    patch(&mut hub, &json!({"n": {"$counter": 10}}));
    patch(&mut agent, &json!({"n": {"$add": 5}}));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Notes), json!({"n": {"$counter": 15}}));
    patch(&mut agent, &json!({"n": {"$counter": 0}}));
    assert_eq!(agent.json(Section::Notes), json!({"n": {"$counter": 0}}));
    patch(&mut agent, &json!({"m": {"$counter": 0}}));
    assert_eq!(agent.json(Section::Notes), json!({"m": {"$counter": 0}, "n": {"$counter": 0}}));
}

#[test]
fn more_than_a_counter_holds_is_refused_and_names_the_leaf() {
    let (mut hub, _) = ends();
    patch(&mut hub, &json!({"n": {"$add": i64::MAX - 1}}));
    for (patch, expected) in [
        (json!({"n": {"$add": 2}}), "/notes/n: the counter stands at 9223372036854775806"),
        (json!({"m": {"$add": i64::MIN}, "n": {"$add": i64::MAX}}), "/notes/n: the counter stands at"),
    ] {
        let edits = merge_patch(Section::Notes, &hub.json(Section::Notes), &patch).unwrap();
        let error = hub.edit(&Change { edits, author: "anna".into(), time_ms: 1 }).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert_eq!(hub.json(Section::Notes), json!({"n": {"$counter": i64::MAX - 1}}));
    patch(&mut hub, &json!({"n": {"$add": 1}}));
    patch(&mut hub, &json!({"n": {"$add": -5}, "m": {"$counter": i64::MIN}}));
    assert_eq!(
        hub.json(Section::Notes),
        json!({"m": {"$counter": i64::MIN}, "n": {"$counter": i64::MAX - 5}})
    );
}

#[test]
fn counters_that_ends_add_too_much_to_at_once_stand_at_their_end_at_all_replicas() {
    for sign in [1, -1] {
        let (mut hub, mut agent) = ends();
        let (end, less) = if sign > 0 { (i64::MAX, -10) } else { (i64::MIN, 10) };
        for twin in [&mut hub, &mut agent] {
            patch(twin, &json!({"n": {"$add": end}}));
        }
        talk(&mut hub, &mut agent);
        let expected = json!({"n": {"$counter": end}});
        for twin in [&hub, &agent] {
            assert_eq!(twin.json(Section::Notes), expected);
        }
        // What leads back is taken, and is not seen before what is beyond is used up.
        assert!(patch(&mut agent, &json!({"n": {"$add": less}})));
        let edits = merge_patch(Section::Notes, &json!({}), &json!({"n": {"$add": -less}})).unwrap();
        assert!(hub.edit(&Change { edits, author: "anna".into(), time_ms: 1 }).is_err());
        talk(&mut hub, &mut agent);
        assert_eq!(
            (hub.json(Section::Notes), agent.json(Section::Notes)),
            (expected.clone(), expected.clone())
        );
        let Write::Replace(saved) = hub.save().write else { unreachable!() };
        let again = Twin::load(hub.actor(), &saved, &[] as &[&[u8]]).unwrap();
        assert_eq!(again.json(Section::Notes), expected);
        // A base has what is shown, and what an agent adds that was away goes from there.
        let record = hub.save();
        hub.handle_durable(record.ticket);
        let record = hub.rebase([7; 14]).unwrap();
        hub.handle_durable(record.ticket);
        patch(&mut agent, &json!({"n": {"$add": less}}));
        talk(&mut hub, &mut agent);
        let expected = json!({"n": {"$counter": end + less}});
        assert_eq!((hub.json(Section::Notes), agent.json(Section::Notes)), (expected.clone(), expected));
    }
}

#[test]
fn an_empty_set_is_kept_is_told_in_history_and_merges() {
    let (mut hub, mut agent) = ends();
    assert!(patch(&mut hub, &json!({"s": {"$set": []}})));
    assert!(!patch(&mut hub, &json!({"s": {"$set": []}})));
    talk(&mut hub, &mut agent);
    let record = hub.rebase([7; 14]).unwrap();
    hub.handle_durable(record.ticket);
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Notes), json!({"s": {"$set": []}}));
    patch(&mut hub, &json!({"s": {"$set": [1]}}));
    patch(&mut agent, &json!({"s": {"$set": ["x"]}}));
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Notes), json!({"s": {"$set": ["x", 1]}}));
    patch(&mut agent, &json!({"s": {"$set": []}, "e": {"$set": []}}));
    let told: Vec<_> =
        agent.history(&[]).unwrap().into_iter().map(|step| (step.key.to_string(), step.value)).collect();
    for step in [("s", json!({"$insert": 1})), ("s", json!({"$remove": 1})), ("e", json!({"$set": []}))] {
        let told = told.iter().filter(|(key, value)| (key.as_str(), value) == (step.0, &step.1));
        assert_eq!(told.count(), 1, "{step:?}");
    }
    assert_eq!(agent.json(Section::Notes), json!({"e": {"$set": []}, "s": {"$set": []}}));
}

#[test]
fn elements_that_a_hidden_set_has_are_gone_where_a_smaller_set_is_written() {
    let (mut hub, mut agent) = ends();
    patch(&mut hub, &json!({"s": 1}));
    patch(&mut agent, &json!({"s": {"$set": [1, 2]}}));
    talk(&mut hub, &mut agent);
    patch(&mut hub, &json!({"s": {"$set": [2]}}));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Notes), json!({"s": {"$set": [2]}}));
}

#[test]
fn an_object_hides_no_wish_for_an_object() {
    let (mut hub, mut agent) = ends();
    patch(&mut hub, &json!({"a": {}}));
    patch(&mut agent, &json!({"a": {"b": 1}}));
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Notes), json!({"a": {"b": 1}}));
    assert_eq!(hub.conflicts(), []);
    patch(&mut agent, &json!({"a": {"b": null}}));
    assert_eq!(agent.json(Section::Notes), json!({"a": {}}));
}
