//! Counters at the ends of what 64 bits hold: whatever was added before, what fits is taken by all replicas, and nothing panics.
#![allow(clippy::unwrap_used, reason = "a test says what it found")]

mod talk;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use talk::talk;
use tideline_twin::Action::{Add, Count};
use tideline_twin::{Actor, Change, Edit, Key, Section, Side, Twin, Write, merge_patch};

fn ends() -> (Twin, Twin) {
    let of = |side, id| Twin::new(Actor::new(side, [id; 15])).unwrap();
    (of(Side::Hub, 1), of(Side::Agent, 2))
}

fn patch(twin: &mut Twin, patch: &Json) -> Result<Option<Write>, String> {
    let edits = merge_patch(Section::Notes, &twin.json(Section::Notes), patch).unwrap();
    let change = Change { edits, author: "anna".into(), time_ms: 1 };
    let record = twin.edit(&change).map_err(|error| error.to_string())?;
    Ok(record.map(|record| {
        twin.handle_durable(record.ticket);
        record.write
    }))
}

/// What was added by the history, in order.
fn added(twin: &Twin) -> Vec<i64> {
    let steps = twin.history(&[]).unwrap().into_iter();
    steps.filter_map(|step| step.value.get("$add")?.as_i64()).collect()
}

#[test]
fn a_counter_goes_from_any_number_to_any_other_and_stands_so_at_all_replicas() {
    let ways: [&[i64]; 6] = [
        &[i64::MAX, 0, -2, 5],
        &[i64::MAX, 0, 5, i64::MIN],
        &[i64::MIN, 0, 7, -7, i64::MAX, 0, i64::MAX],
        &[i64::MAX, -2, i64::MIN, i64::MAX],
        &[1 << 62, 0, -(1 << 62), 0, i64::MIN, -1, 1],
        &[3, i64::MAX, 3, 0, i64::MIN, i64::MIN + 1, 3],
    ];
    for way in ways {
        let (mut hub, mut agent) = ends();
        let mut kept = Vec::new();
        let Write::Replace(saved) = hub.save().write else { unreachable!() };
        for to in way {
            let record = patch(&mut hub, &json!({"n": {"$counter": to}, "at": to})).unwrap().unwrap();
            let Write::Append(record) = record else { unreachable!() };
            kept.push(record);
            talk(&mut hub, &mut agent);
            for twin in [&hub, &agent] {
                assert_eq!(twin.json(Section::Notes)["n"], json!({"$counter": to}), "{way:?}");
            }
        }
        // As it is read from the disk, and where all of it comes at once.
        let again = Twin::load(hub.actor(), &saved, &kept).unwrap();
        assert_eq!(again.json(Section::Notes), hub.json(Section::Notes), "{way:?}");
        let Write::Replace(saved) = hub.save().write else { unreachable!() };
        let again = Twin::load(hub.actor(), &saved, &[] as &[&[u8]]).unwrap();
        assert_eq!(again.json(Section::Notes), hub.json(Section::Notes), "{way:?}");
        let (_, mut late) = ends();
        talk(&mut hub, &mut late);
        assert_eq!(late.json(Section::Notes), hub.json(Section::Notes), "{way:?}");
        let told = added(&agent).into_iter().map(i128::from).sum::<i128>();
        assert_eq!(told, i128::from(*way.last().unwrap()), "{way:?}: {:?}", added(&agent));
    }
}

#[test]
fn several_steps_of_one_change_go_to_the_ends_too() {
    let (mut hub, mut agent) = ends();
    patch(&mut hub, &json!({"n": {"$counter": i64::MAX}})).unwrap();
    let key = Key::parse("n").unwrap();
    let edit = |action| Edit { section: Section::Notes, key: key.clone(), action };
    let edits =
        [Count(0), Add(5), Add(i64::MIN), Count(-2), Add(i64::MAX), Count(i64::MIN)].map(edit).to_vec();
    let record = hub.edit(&Change { edits, author: "anna".into(), time_ms: 2 }).unwrap().unwrap();
    hub.handle_durable(record.ticket);
    talk(&mut hub, &mut agent);
    for twin in [&hub, &agent] {
        assert_eq!(twin.json(Section::Notes), json!({"n": {"$counter": i64::MIN}}));
    }
}

#[test]
fn what_was_added_at_the_ends_of_numbers_is_made_again_on_a_base() {
    for way in [[i64::MAX, 0, -2], [i64::MIN, 0, i64::MAX], [5, i64::MAX, 7]] {
        let (mut hub, mut agent) = ends();
        for to in way {
            patch(&mut agent, &json!({"n": {"$counter": to}})).unwrap();
        }
        patch(&mut hub, &json!({"other": 1})).unwrap();
        let record = hub.rebase([7; 14]).unwrap();
        hub.handle_durable(record.ticket);
        talk(&mut hub, &mut agent);
        for twin in [&hub, &agent] {
            assert_eq!(twin.json(Section::Notes)["n"], json!({"$counter": way[2]}), "{way:?}");
        }
        patch(&mut agent, &json!({"n": {"$counter": 1}})).unwrap();
        talk(&mut hub, &mut agent);
        assert_eq!(hub.json(Section::Notes)["n"], json!({"$counter": 1}), "{way:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_added_at_two_ends_both_show_the_same(
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), prop_oneof![
            Just(i64::MAX), Just(i64::MIN), Just(i64::MAX / 2), Just(1 << 61), Just(-1 << 62), -3_i64..4, any::<i64>(),
        ]), 1..24)
    ) {
        let (mut hub, mut agent) = ends();
        for (is_hub, is_add, meets, by) in steps {
            let twin = if is_hub { &mut hub } else { &mut agent };
            let wish = if is_add { json!({"$add": by}) } else { json!({"$counter": by}) };
            if patch(twin, &json!({ "n": wish })).is_ok() && !is_add {
                prop_assert_eq!(twin.json(Section::Notes), json!({"n": {"$counter": by}}));
            }
            if meets {
                talk(&mut hub, &mut agent);
                prop_assert_eq!(hub.json(Section::Notes), agent.json(Section::Notes));
            }
        }
        talk(&mut hub, &mut agent);
        prop_assert_eq!(hub.json(Section::Notes), agent.json(Section::Notes));
        let (of_hub, of_agent) = (added(&hub), added(&agent));
        prop_assert_eq!(of_hub.into_iter().map(i128::from).sum::<i128>(), of_agent.into_iter().map(i128::from).sum());
        let record = hub.rebase([7; 14]).unwrap();
        hub.handle_durable(record.ticket);
        talk(&mut hub, &mut agent);
        prop_assert_eq!(hub.json(Section::Notes), agent.json(Section::Notes));
    }
}
