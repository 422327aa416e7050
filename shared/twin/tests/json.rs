//! JSON and what a twin keeps of it: any patch does what RFC 7396 says of it, and the same is shown after a save, at the other end,
//! and after history was cut off.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it found")]

mod talk;

use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use talk::talk;
use tideline_twin::{Actor, Change, Section, Side, Twin, Write, merge_patch};

/// What may stand in a list: all that JSON has.
fn item() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        double(),
        text(),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("\\PC{0,3}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Any double, those that take seventeen digits and those near the ends among them.
fn double() -> impl Strategy<Value = Json> {
    let any = any::<f64>().prop_filter("JSON has no other", |value| value.is_finite());
    prop_oneof![any, -1000.0..1000.0_f64].prop_map(Json::from)
}

fn text() -> impl Strategy<Value = Json> {
    prop_oneof![any::<String>(), "[ -~]{0,8}"].prop_map(Json::from)
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        double(),
        text(),
        proptest::collection::vec(item(), 0..4).prop_map(Json::from),
    ]
}

/// A patch: few names, so that patches meet, among them some that are escaped in a key.
fn patch() -> impl Strategy<Value = Json> {
    let name = prop_oneof!["[a-c]", Just("a/b".to_owned()), Just("~1".to_owned()), Just("é ".to_owned())];
    let inner = prop_oneof![4 => leaf(), 1 => Just(Json::Null)];
    let members = |inner: BoxedStrategy<Json>| {
        proptest::collection::btree_map(name.clone(), inner, 0..4)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
    };
    let nested = inner.prop_recursive(3, 24, 4, {
        let name = name.clone();
        move |inner| {
            proptest::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect()))
        }
    });
    members(nested.boxed())
}

/// RFC 7396. A twin holds leaves: an object goes with the last of them, unless it was written as an empty one.
fn merged(target: Option<Json>, patch: &Json) -> Option<Json> {
    let Json::Object(members) = patch else { return Some(patch.clone()) };
    let (mut object, was) = match target {
        Some(Json::Object(object)) => {
            let was = object.len();
            (object, was)
        }
        _ => (Map::new(), 0),
    };
    for (name, member) in members {
        let before = object.remove(name);
        if !member.is_null() {
            object.extend(merged(before, member).map(|after| (name.clone(), after)));
        }
    }
    (was == 0 || !object.is_empty()).then_some(Json::Object(object))
}

fn edit(twin: &mut Twin, patch: &Json) {
    let edits = merge_patch(Section::Desired, &twin.json(Section::Desired), patch).unwrap();
    let change = Change { edits, author: "anna".into(), time_ms: 1 };
    if let Some(record) = twin.edit(&change).unwrap() {
        twin.handle_durable(record.ticket);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn patches_do_what_the_standard_says_and_all_replicas_show_it(
        patches in proptest::collection::vec((patch(), any::<bool>()), 1..6),
    ) {
        let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
        let mut expected = Json::Object(Map::new());
        for (patch, is_hub) in &patches {
            edit(if *is_hub { &mut hub } else { &mut agent }, patch);
            expected = merged(Some(expected), patch).unwrap_or_else(|| Json::Object(Map::new()));
            talk(&mut hub, &mut agent);
            prop_assert_eq!(&hub.json(Section::Desired), &expected);
            prop_assert_eq!(&agent.json(Section::Desired), &expected);
        }
        prop_assert_eq!(hub.conflicts(), vec![]);
        let Write::Replace(saved) = hub.save().write else { panic!("a whole save") };
        let again = Twin::load(hub.actor(), &saved, &[] as &[&[u8]]).unwrap();
        prop_assert_eq!(&again.json(Section::Desired), &expected);
        let record = hub.rebase([5; 14]).unwrap();
        hub.handle_durable(record.ticket);
        talk(&mut hub, &mut agent);
        prop_assert_eq!(&agent.json(Section::Desired), &expected);
        // What is shown, written once more, changes nothing.
        edit(&mut agent, &expected);
        prop_assert_eq!(&agent.json(Section::Desired), &expected);
    }
}
