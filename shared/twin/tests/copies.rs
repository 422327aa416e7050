//! Two copies of one replica's file: each writes on, and neither loses anything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it found")]

use serde_json::{Value as Json, json};
use tideline_twin::{
    Action, Actor, Change, Edit, Key, Link, Message, Refusal, Section, Side, Twin, Write as Kept,
};

fn edit(twin: &mut Twin, key: &str, action: Action) {
    let edit = Edit { section: Section::Desired, key: Key::parse(key).unwrap(), action };
    let change = Change { edits: vec![edit], author: "anna".into(), time_ms: 1 };
    let record = twin.edit(&change).unwrap().unwrap();
    twin.handle_durable(record.ticket);
}

fn put(twin: &mut Twin, key: &str, value: Json) {
    edit(twin, key, Action::Put(value));
}

/// Takes a message at the agent's end; where a name is reused it parts, and begins anew.
fn take(twin: &mut Twin, link: &mut Link, message: &Message, fresh: &mut u8) {
    let record = match link.handle(twin, message) {
        Ok(record) => record,
        Err(Refusal::ReusedActor { .. }) => {
            *fresh += 1;
            let parted = twin.part(Actor::new(Side::Agent, [*fresh; 15]), message).unwrap();
            link.handle_parted(twin);
            Some(parted.unwrap())
        }
        Err(error) => panic!("{error}"),
    };
    if let Some(record) = record {
        twin.handle_durable(record.ticket);
    }
}

/// A session; the hub refuses what it will, and that costs the message.
fn talk(hub: &mut Twin, agent: &mut Twin, fresh: &mut u8) {
    let (mut at_hub, mut at_agent) = (Link::new("agent", hub), Link::new("hub", agent));
    for _ in 0..50 {
        let mut said = false;
        while let Some(message) = at_agent.poll(agent) {
            said = true;
            if let Ok(Some(record)) = at_hub.handle(hub, &message) {
                hub.handle_durable(record.ticket);
            }
        }
        while let Some(message) = at_hub.poll(hub) {
            said = true;
            take(agent, &mut at_agent, &message, fresh);
        }
        if !said {
            return;
        }
    }
    panic!("they never have done");
}

fn copy(twin: &mut Twin) -> Twin {
    let record = twin.save();
    let Kept::Replace(bytes) = record.write else { panic!("a whole save") };
    twin.handle_durable(record.ticket);
    Twin::load(twin.actor(), &bytes, &[] as &[Vec<u8>]).unwrap()
}

#[test]
fn a_copy_that_finds_its_name_reused_makes_its_own_changes_again_by_another() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut first = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    let mut fresh = 100;
    put(&mut first, "common", json!(0));
    talk(&mut hub, &mut first, &mut fresh);
    // Made before the copy, and delivered by one of them only: it must not be made twice.
    edit(&mut first, "starts", Action::Add(5));
    let mut second = copy(&mut first);
    put(&mut first, "a", json!(1));
    edit(&mut first, "starts", Action::Add(1));
    put(&mut second, "b", json!(2));
    edit(&mut second, "starts", Action::Add(2));
    put(&mut second, "b", json!(3));
    talk(&mut hub, &mut first, &mut fresh);
    talk(&mut hub, &mut second, &mut fresh);
    talk(&mut hub, &mut first, &mut fresh);
    assert_eq!(fresh, 101, "one of them took another name, once");
    let expected = json!({"common": 0, "a": 1, "b": 3, "starts": {"$counter": 8}});
    for twin in [&hub, &first, &second] {
        assert_eq!(twin.json(Section::Desired), expected);
        assert_eq!(twin.heads(), hub.heads());
        assert_eq!(twin.conflicts(), []);
    }
    assert_eq!(second.unconfirmed(), 0);
    // And both go on, also from what was saved.
    let mut second = copy(&mut second);
    put(&mut second, "b", json!(4));
    put(&mut first, "a", json!(5));
    talk(&mut hub, &mut second, &mut fresh);
    talk(&mut hub, &mut first, &mut fresh);
    assert_eq!(hub.json(Section::Desired)["a"], json!(5));
    assert_eq!(first.json(Section::Desired)["b"], json!(4));
}

#[test]
fn a_replica_that_was_put_back_takes_what_it_forgot_and_keeps_what_it_wrote_since() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    let mut fresh = 100;
    put(&mut agent, "a", json!(1));
    let mut older = copy(&mut agent);
    put(&mut agent, "b", json!(2));
    put(&mut agent, "c", json!(3));
    talk(&mut hub, &mut agent, &mut fresh);
    put(&mut older, "d", json!(4));
    talk(&mut hub, &mut older, &mut fresh);
    assert_eq!(older.heads(), hub.heads());
    assert_eq!(hub.json(Section::Desired), json!({"a": 1, "b": 2, "c": 3, "d": 4}));
}

#[test]
fn what_reuses_no_own_name_is_no_reason_to_part() {
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    put(&mut agent, "a", json!(1));
    let other = Actor::new(Side::Agent, [3; 15]);
    let message = Message::Changes { generation: agent.generation(), changes: vec![vec![1, 2, 3]] };
    assert_eq!(agent.part(other, &message).unwrap(), None);
    assert_eq!(agent.actor(), Actor::new(Side::Agent, [2; 15]));
}
