//! What one twin, or two that talk over a good line, do with each kind of value.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it found")]

mod talk;

use serde_json::{Value as Json, json};
use talk::{deliver, talk, talk_as};
use tideline_twin::{
    Action, Actor, Change, Edit, EditError, Key, Link, Message, Record, Refusal, Section, Side, Twin, Write,
    merge_patch,
};

fn hub() -> Twin {
    Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap()
}

fn agent() -> Twin {
    Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap()
}

fn write(twin: &mut Twin, time_ms: i64, author: &str, edits: Vec<(Section, &str, Action)>) {
    let edits = edits.into_iter().map(|(section, key, action)| {
        let key = Key::parse(key).unwrap();
        Edit { section, key, action }
    });
    let change = Change { edits: edits.collect(), author: author.to_owned(), time_ms };
    let record = twin.edit(&change).unwrap().unwrap();
    twin.handle_durable(record.ticket);
}

fn put(twin: &mut Twin, time_ms: i64, key: &str, value: Json) {
    write(twin, time_ms, "anna", vec![(Section::Desired, key, Action::Put(value))]);
}

#[test]
fn both_ends_agree_and_conflicts_show_both_values_until_a_write_resolves_them() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 10, "motor/speed", json!(3));
    talk(&mut hub, &mut agent);
    put(&mut hub, 20, "motor/speed", json!(4));
    write(&mut agent, 21, "ben", vec![(Section::Desired, "motor/speed", Action::Put(json!(5)))]);
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Desired), agent.json(Section::Desired));
    let conflicts = hub.conflicts();
    assert_eq!(conflicts, agent.conflicts());
    assert_eq!(conflicts.len(), 1);
    let mut authors: Vec<_> = conflicts[0]
        .values
        .iter()
        .map(|leaf| {
            let origin = leaf.origin.as_ref().unwrap();
            (leaf.value.clone(), origin.author.clone(), origin.time_ms)
        })
        .collect();
    assert_eq!(authors[0].0, hub.json(Section::Desired)["motor"]["speed"]);
    authors.sort_by_key(|(_, _, time)| *time);
    assert_eq!(authors, [(json!(4), "anna".to_owned(), 20), (json!(5), "ben".to_owned(), 21)]);
    put(&mut hub, 30, "motor/speed", json!(6));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.conflicts(), []);
    assert_eq!(agent.json(Section::Desired), json!({"motor": {"speed": 6}}));
}

#[test]
fn counters_add_up_and_sets_keep_what_is_inserted_at_once() {
    let (mut hub, mut agent) = (hub(), agent());
    for (twin, by) in [(&mut hub, 3), (&mut agent, 4)] {
        write(twin, 1, "", vec![(Section::Tags, "starts", Action::Add(by))]);
        write(twin, 2, "", vec![(Section::Tags, "starts", Action::Add(by))]);
        write(twin, 3, "", vec![(Section::Tags, "groups", Action::Insert(json!("roof")))]);
    }
    talk(&mut hub, &mut agent);
    write(&mut hub, 4, "", vec![(Section::Tags, "groups", Action::Remove(json!("roof")))]);
    write(&mut agent, 4, "", vec![(Section::Tags, "groups", Action::Insert(json!("roof")))]);
    write(&mut agent, 4, "", vec![(Section::Tags, "groups", Action::Insert(json!(7)))]);
    talk(&mut hub, &mut agent);
    let expected = json!({"starts": {"$counter": 14}, "groups": {"$set": ["roof", 7]}});
    assert_eq!(hub.json(Section::Tags), expected);
    assert_eq!(agent.json(Section::Tags), expected);
    write(&mut hub, 5, "", vec![(Section::Tags, "groups", Action::Remove(json!("roof")))]);
    write(&mut hub, 5, "", vec![(Section::Tags, "groups", Action::Remove(json!(7)))]);
    assert_eq!(hub.json(Section::Tags)["groups"], json!({"$set": []}));
    assert_eq!(hub.conflicts(), []);
}

#[test]
fn texts_of_notes_merge() {
    let (mut hub, mut agent) = (hub(), agent());
    write(&mut hub, 1, "", vec![(Section::Notes, "door", Action::Text("The key hangs here.".into()))]);
    talk(&mut hub, &mut agent);
    write(&mut hub, 2, "", vec![(Section::Notes, "door", Action::Text("The red key hangs here.".into()))]);
    write(&mut agent, 2, "", vec![(Section::Notes, "door", Action::Text("The key hangs there.".into()))]);
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Notes), json!({"door": {"$text": "The red key hangs there."}}));
    assert_eq!(hub.json(Section::Notes), agent.json(Section::Notes));
    assert_eq!(hub.conflicts(), []);
}

#[test]
fn a_leaf_and_what_is_below_it_exclude_each_other() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 1, "a", json!(1));
    put(&mut hub, 2, "a/b", json!(2));
    assert_eq!(hub.json(Section::Desired), json!({"a": {"b": 2}}));
    put(&mut hub, 3, "a~0b", json!(3));
    put(&mut hub, 4, "a", json!([{"z": 1, "a": 2}]));
    assert_eq!(hub.json(Section::Desired), json!({"a": [{"z": 1, "a": 2}], "a~b": 3}));
    talk(&mut hub, &mut agent);
    put(&mut hub, 5, "a", json!("x"));
    put(&mut agent, 5, "a/c", json!("y"));
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Desired), json!({"a": {"c": "y"}, "a~b": 3}));
    assert_eq!(hub.conflicts().len(), 1);
    assert_eq!(agent.conflicts(), hub.conflicts());
    write(&mut hub, 6, "", vec![(Section::Desired, "a", Action::Delete)]);
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Desired), json!({"a~b": 3}));
    assert_eq!(agent.conflicts(), []);
}

#[test]
fn the_delta_says_what_is_not_so_and_since_when() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 10, "mode", json!("eco"));
    put(&mut hub, 20, "limit", json!(5));
    talk(&mut hub, &mut agent);
    write(&mut agent, 30, "", vec![(Section::Reported, "mode", Action::Put(json!("boost")))]);
    write(&mut agent, 40, "", vec![(Section::Reported, "limit", Action::Put(json!(5)))]);
    write(&mut agent, 40, "", vec![(Section::Reported, "other", Action::Put(json!(5)))]);
    talk(&mut hub, &mut agent);
    let delta = hub.delta();
    assert_eq!(delta.len(), 1);
    assert_eq!((delta[0].key.as_str(), delta[0].since_ms), ("mode", Some(10)));
    assert_eq!((&delta[0].desired, &delta[0].reported), (&json!("eco"), &json!("boost")));
}

#[test]
fn history_and_the_state_of_a_time_are_told() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 10, "mode", json!("eco"));
    let first = hub.heads();
    put(&mut hub, 20, "mode", json!("boost"));
    talk(&mut hub, &mut agent);
    write(&mut agent, 30, "ben", vec![(Section::Desired, "mode", Action::Delete)]);
    assert_eq!(agent.json_at(Section::Desired, 9), json!({}));
    assert_eq!(agent.json_at(Section::Desired, 19), json!({"mode": "eco"}));
    assert_eq!(agent.json_at(Section::Desired, 29), json!({"mode": "boost"}));
    assert_eq!(agent.json_at(Section::Desired, 30), json!({}));
    let steps = agent.history(&first).unwrap();
    let told: Vec<_> = steps.iter().map(|s| (s.time_ms, s.author.as_str(), s.value.clone())).collect();
    assert_eq!(told, [(20, "anna", json!("boost")), (30, "ben", Json::Null)]);
    assert_eq!(agent.history(&[]).unwrap().len(), 3);
}

#[test]
fn a_saved_twin_comes_back_with_what_was_appended() {
    let mut twin = agent();
    put(&mut twin, 1, "a", json!(1));
    let Record { write: Write::Replace(saved), ticket } = twin.save() else { panic!("a whole save") };
    twin.handle_durable(ticket);
    let key = Key::parse("b").unwrap();
    let edit = Edit { section: Section::Reported, key, action: Action::Put(json!(2)) };
    let change = Change { edits: vec![edit], author: "x".into(), time_ms: 2 };
    let Some(Record { write: Write::Append(appended), .. }) = twin.edit(&change).unwrap() else {
        panic!("an append")
    };
    let mut loaded = Twin::load(twin.actor(), &saved, &[&appended]).unwrap();
    assert_eq!(loaded.heads(), twin.heads());
    assert_eq!(loaded.unconfirmed(), 2);
    put(&mut loaded, 3, "c", json!(3));
    assert_eq!(loaded.leaf(Section::Desired, &Key::parse("c").unwrap()).unwrap().origin.unwrap().number, 3);
    assert!(Twin::load(twin.actor(), &saved[..saved.len() / 2], &[&appended]).is_err());
}

#[test]
fn sections_have_their_writers_and_limits_are_named() {
    let mut hub = hub();
    let change = |section, key: &str, action| Change {
        edits: vec![Edit { section, key: Key::parse(key).unwrap(), action }],
        author: String::new(),
        time_ms: 0,
    };
    let error = hub.edit(&change(Section::Reported, "a", Action::Put(json!(1)))).unwrap_err();
    assert_eq!(error, EditError::NotYours { section: Section::Reported, side: Side::Hub });
    let error = hub.edit(&change(Section::Desired, "a", Action::Text("x".into()))).unwrap_err();
    assert!(matches!(error, EditError::TextElsewhere { .. }));
    let error = hub.edit(&change(Section::Desired, "a", Action::Put(json!("x".repeat(9000))))).unwrap_err();
    assert_eq!(error.to_string(), "/desired/a: a value has 9000 bytes; allowed are 8192");
    let edit = |n: usize| Edit {
        section: Section::Desired,
        key: Key::parse(&n.to_string()).unwrap(),
        action: Action::Put(json!(1)),
    };
    let many = |from: usize, to: usize| Change {
        edits: (from..to).map(edit).collect(),
        author: String::new(),
        time_ms: 0,
    };
    assert_eq!(hub.edit(&many(0, 257)).unwrap_err(), EditError::TooManyEdits { found: 257 });
    for from in (0..1000).step_by(250) {
        let _record = hub.edit(&many(from, from + 250)).unwrap();
    }
    let before = hub.heads();
    assert!(matches!(hub.edit(&many(1000, 1001)), Err(EditError::TooLarge { keys: 1001, .. })));
    assert_eq!(hub.heads(), before);
    assert_eq!(hub.size().0, 1000);
}

#[test]
fn a_merge_patch_makes_the_section_what_the_patch_says() {
    let mut hub = hub();
    for (patch, expected) in [
        (json!({"a": {"b": 1, "c": [1, 2]}, "d": true}), json!({"a": {"b": 1, "c": [1, 2]}, "d": true})),
        (json!({"a": {"b": null}, "d": {"e": 1.5}}), json!({"a": {"c": [1, 2]}, "d": {"e": 1.5}})),
        (json!({"a": 3, "s": {"$set": [1, "x"]}}), json!({"a": 3, "d": {"e": 1.5}, "s": {"$set": ["x", 1]}})),
        (
            json!({"a": null, "d": {}, "s": {"$set": [1]}, "n": {"$add": 2}}),
            json!({"d": {"e": 1.5}, "s": {"$set": [1]}, "n": {"$counter": 2}}),
        ),
    ] {
        let edits = merge_patch(Section::Desired, &hub.json(Section::Desired), &patch).unwrap();
        let _record = hub.edit(&Change { edits, author: "anna".into(), time_ms: 1 }).unwrap();
        assert_eq!(hub.json(Section::Desired), expected);
    }
}

#[test]
fn a_rebase_keeps_values_conflicts_counters_and_who_wrote_them() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 5, "z", json!(0));
    talk(&mut hub, &mut agent);
    for (twin, value) in [(&mut hub, 1), (&mut agent, 2)] {
        put(twin, 10 + value, "a", json!(value));
        put(twin, 20 + value, "plain", json!("same"));
        write(twin, 30, "", vec![(Section::Tags, "n", Action::Add(value))]);
        write(twin, 30, "", vec![(Section::Tags, "s", Action::Insert(json!(value)))]);
        write(twin, 30, "", vec![(Section::Notes, "t", Action::Text(format!("text {value}")))]);
    }
    talk(&mut hub, &mut agent);
    let before: Vec<_> = Section::ALL.map(|section| hub.json(section)).into();
    let (conflicts, delta) = (hub.conflicts(), hub.delta());
    let record = hub.rebase([9; 14]).unwrap();
    hub.handle_durable(record.ticket);
    assert_eq!(Vec::from(Section::ALL.map(|section| hub.json(section))), before);
    assert_eq!(hub.conflicts(), conflicts);
    assert_eq!(hub.delta(), delta);
    put(&mut agent, 40, "z", json!(1));
    put(&mut agent, 41, "new", json!(1));
    write(&mut agent, 42, "", vec![(Section::Tags, "n", Action::Add(10))]);
    talk(&mut hub, &mut agent);
    assert_eq!(hub.generation().number, 1);
    assert_eq!(agent.generation(), hub.generation());
    assert_eq!(hub.json(Section::Desired)["z"], json!(1));
    assert_eq!(hub.json(Section::Tags)["n"], json!({"$counter": 13}));
    assert_eq!(hub.conflicts(), conflicts);
    assert_eq!(agent.unconfirmed(), 0);
}

#[test]
fn what_was_written_beside_a_base_stands_in_conflict_with_it() {
    let (mut hub, mut agent) = (hub(), agent());
    for key in ["both", "gone", "kept", "read"] {
        put(&mut hub, 1, key, json!(0));
    }
    talk(&mut hub, &mut agent);
    put(&mut hub, 2, "both", json!("hub"));
    put(&mut hub, 2, "kept", json!("hub"));
    write(&mut hub, 2, "", vec![(Section::Desired, "gone", Action::Delete)]);
    let record = hub.rebase([3; 14]).unwrap();
    hub.handle_durable(record.ticket);
    let record = hub.rebase([4; 14]).unwrap();
    hub.handle_durable(record.ticket);
    put(&mut agent, 3, "both", json!("early"));
    put(&mut agent, 3, "both", json!("agent"));
    put(&mut agent, 3, "read", json!("agent"));
    write(&mut agent, 3, "", vec![(Section::Desired, "kept", Action::Delete)]);
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Desired)["kept"], json!("hub"));
    assert_eq!(hub.json(Section::Desired)["read"], json!("agent"));
    assert_eq!(hub.json(Section::Desired).get("gone"), None);
    let conflicts = hub.conflicts();
    assert_eq!(conflicts.len(), 1);
    let mut values: Vec<_> = conflicts[0].values.iter().map(|leaf| leaf.value.clone()).collect();
    values.sort_by_key(Json::to_string);
    assert_eq!(values, [json!("agent"), json!("hub")]);
}

#[test]
fn a_replica_that_was_wiped_and_kept_its_name_is_found_out() {
    let (mut hub, mut first) = (hub(), agent());
    put(&mut first, 1, "a", json!(1));
    talk(&mut hub, &mut first);
    let mut wiped = agent();
    put(&mut wiped, 2, "b", json!(2));
    let (mut at_hub, mut at_wiped) = (Link::new("agent", &hub), Link::new("hub", &wiped));
    let state = at_wiped.poll(&wiped).unwrap();
    at_hub.handle(&mut hub, &state).unwrap();
    let state = at_hub.poll(&hub).unwrap();
    at_wiped.handle(&mut wiped, &state).unwrap();
    let changes = at_wiped.poll(&wiped).unwrap();
    let error = at_hub.handle(&mut hub, &changes).unwrap_err();
    assert_eq!(error, Refusal::ReusedActor { actor: wiped.actor() });
    let changes = at_hub.poll(&hub).unwrap();
    let error = at_wiped.handle(&mut wiped, &changes).unwrap_err();
    assert_eq!(error, Refusal::ReusedActor { actor: wiped.actor() });
}

#[test]
fn a_restored_hub_gets_its_changes_back_and_cuts_nothing_off_before() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 1, "a", json!(1));
    let Record { write: Write::Replace(backup), ticket } = hub.save() else { panic!("a whole save") };
    hub.handle_durable(ticket);
    put(&mut hub, 2, "b", json!(2));
    talk(&mut hub, &mut agent);
    let actor = Actor::new(Side::Hub, [8; 15]);
    let mut restored = Twin::load(actor, &backup, &[] as &[&[u8]]).unwrap();
    assert_eq!(restored.rebase([1; 14]), Err(EditError::NotMet));
    put(&mut restored, 3, "c", json!(3));
    talk(&mut restored, &mut agent);
    assert_eq!(restored.json(Section::Desired), json!({"a": 1, "b": 2, "c": 3}));
    let _record = restored.rebase([1; 14]).unwrap();
}

#[test]
fn a_restored_hub_that_takes_a_base_cuts_nothing_off_before_it_has_what_stands_beside_it() {
    let (mut hub, mut agent) = (hub(), agent());
    let Record { write: Write::Replace(backup), ticket } = hub.save() else { panic!("a whole save") };
    hub.handle_durable(ticket);
    put(&mut hub, 1, "a", json!(1));
    let record = hub.rebase([1; 14]).unwrap();
    hub.handle_durable(record.ticket);
    put(&mut hub, 2, "forgotten", json!(2));
    talk(&mut hub, &mut agent);
    let mut restored = Twin::load(Actor::new(Side::Hub, [8; 15]), &backup, &[] as &[&[u8]]).unwrap();
    let (mut at_hub, mut at_agent) = (Link::new("b", &restored), Link::new("a", &agent));
    let mut early = None;
    for _ in 0..9 {
        while let Some(message) = at_agent.poll(&agent) {
            deliver(&message, &mut at_hub, &mut restored);
            if matches!(message, Message::Base { .. }) {
                early = Some(restored.rebase([2; 14]));
            }
        }
        while let Some(message) = at_hub.poll(&restored) {
            deliver(&message, &mut at_agent, &mut agent);
        }
    }
    assert_eq!(early, Some(Err(EditError::NotMet)));
    assert_eq!(restored.json(Section::Desired), json!({"a": 1, "forgotten": 2}));
    let _record = restored.rebase([2; 14]).unwrap();
}

/// A hub that is restored meets one of two agents that share a document, cuts history off when `peers` allow it, and meets the other,
/// which alone has what the hub forgot. What is there then.
fn cut_off_among(peers: &[&str]) -> Json {
    let (mut hub, mut near) = (hub(), agent());
    let mut far = Twin::new(Actor::new(Side::Agent, [3; 15])).unwrap();
    put(&mut hub, 1, "a", json!(1));
    let Record { write: Write::Replace(backup), ticket } = hub.save() else { panic!("a whole save") };
    hub.handle_durable(ticket);
    put(&mut hub, 2, "forgotten", json!(2));
    talk_as(&mut hub, &mut near, "near");
    let mut restored = Twin::load(Actor::new(Side::Hub, [8; 15]), &backup, &[] as &[&[u8]]).unwrap();
    talk_as(&mut restored, &mut far, "far");
    if let Ok(record) = restored.rebase_among([1; 14], peers) {
        restored.handle_durable(record.ticket);
    }
    talk_as(&mut restored, &mut near, "near");
    talk_as(&mut restored, &mut far, "far");
    assert_eq!(far.json(Section::Desired), restored.json(Section::Desired));
    // It has met who says nothing new at a session's begin.
    talk_as(&mut restored, &mut near, "near");
    let record = restored.rebase_among([2; 14], peers).unwrap();
    restored.handle_durable(record.ticket);
    restored.json(Section::Desired)
}

#[test]
fn a_restored_hub_cuts_off_what_agents_share_only_when_it_has_met_all_of_them() {
    assert_eq!(cut_off_among(&["near", "far"]), json!({"a": 1, "forgotten": 2}));
    // What would be lost otherwise.
    assert_eq!(cut_off_among(&[]), json!({"a": 1}));
}

#[test]
fn a_small_change_takes_few_bytes() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 1_790_000_000_000, "motor/speed", json!(3));
    talk(&mut hub, &mut agent);
    let (mut at_hub, mut at_agent) = (Link::new("agent", &hub), Link::new("hub", &agent));
    for _ in 0..2 {
        while let Some(message) = at_hub.poll(&hub) {
            deliver(&message, &mut at_agent, &mut agent);
        }
        while let Some(message) = at_agent.poll(&agent) {
            deliver(&message, &mut at_hub, &mut hub);
        }
    }
    put(&mut hub, 1_790_000_001_000, "motor/speed", json!(4));
    let mut bytes = 0;
    while let Some(message) = at_hub.poll(&hub) {
        bytes += deliver(&message, &mut at_agent, &mut agent);
    }
    while let Some(message) = at_agent.poll(&agent) {
        bytes += deliver(&message, &mut at_hub, &mut hub);
    }
    assert_eq!(agent.heads(), hub.heads());
    assert!(bytes <= 340, "{bytes} bytes for a change and its confirmation");
}

#[test]
fn a_confirmation_that_is_ahead_of_its_changes_is_made_good() {
    let (mut hub, mut agent) = (hub(), agent());
    talk(&mut hub, &mut agent);
    let (mut at_hub, mut at_agent) = (Link::new("a", &hub), Link::new("b", &agent));
    let mut exchange = |hub: &mut Twin, agent: &mut Twin, confirms: bool| {
        for _ in 0..20 {
            while let Some(message) = at_agent.poll(agent) {
                deliver(&message, &mut at_hub, hub);
            }
            // Written between taking the agent's change and confirming it, once.
            if confirms && hub.json(Section::Desired).get("late").is_none() {
                put(hub, 3, "late", json!(1));
            }
            while let Some(message) = at_hub.poll(hub) {
                deliver(&message, &mut at_agent, agent);
            }
        }
    };
    exchange(&mut hub, &mut agent, false);
    put(&mut agent, 2, "mode", json!("eco"));
    exchange(&mut hub, &mut agent, true);
    assert_eq!((agent.unconfirmed(), agent.is_agreed("b")), (0, true));
}

#[test]
fn what_an_agent_reports_last_is_agreed_without_another_word_of_the_hub() {
    let (mut hub, mut agent) = (hub(), agent());
    put(&mut hub, 1, "speed", json!(5));
    talk(&mut hub, &mut agent);
    let (mut at_hub, mut at_agent) = (Link::new("agent", &hub), Link::new("hub", &agent));
    let Record { write: Write::Replace(saved), .. } = hub.save() else { panic!("a whole save") };
    let mut appended = Vec::new();
    for n in 0..3 {
        write(&mut agent, 2, "agent", vec![(Section::Reported, "speed", Action::Put(json!(n)))]);
        for _ in 0..4 {
            while let Some(message) = at_agent.poll(&agent) {
                let Some(record) = at_hub.handle(&mut hub, &message).unwrap() else { continue };
                // What is here alone may be gone after a kill.
                assert!(!hub.is_agreed("agent"));
                hub.handle_durable(record.ticket);
                let Write::Append(bytes) = record.write else { panic!("a change is appended") };
                appended.push(bytes);
            }
            while let Some(message) = at_hub.poll(&hub) {
                deliver(&message, &mut at_agent, &mut agent);
            }
        }
        assert_eq!((hub.is_agreed("agent"), agent.unconfirmed()), (true, 0), "{n}");
        assert!(!hub.is_agreed("other"));
    }
    let again = Twin::load(hub.actor(), &saved, &appended).unwrap();
    assert!(again.is_agreed("agent"));
    put(&mut hub, 3, "speed", json!(6));
    assert!(!hub.is_agreed("agent"));
}
