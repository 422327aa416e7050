//! Texts that are written anew: what is gone of them is cut off before it weighs on each further change.
#![allow(clippy::unwrap_used, reason = "a test says what it found")]

use serde_json::json;
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Section, Side, Twin, limits};

const CHARACTERS: usize = limits::TEXT_BYTES_MAX;

/// A text of which nothing is in the one before it.
fn text(n: usize) -> String {
    let first = if n.is_multiple_of(2) { b'a' } else { b'n' };
    (0..CHARACTERS).map(|at| char::from(first + u8::try_from((at * 7919 + n) % 13).unwrap())).collect()
}

fn write(twin: &mut Twin, key: &str, n: usize) {
    let edit = Edit { section: Section::Notes, key: Key::parse(key).unwrap(), action: Action::Text(text(n)) };
    let change = Change { edits: vec![edit], author: "anna".to_owned(), time_ms: 1 };
    let record = twin.edit(&change).unwrap().unwrap();
    twin.handle_durable(record.ticket);
}

#[test]
fn a_text_that_is_written_anew_over_and_over_has_its_history_cut_off() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    // What a base holds is none of its history, however much that is.
    for n in 0..4 {
        write(&mut hub, &format!("other-{n}"), n);
    }
    let mut cut = 0;
    for n in 0..36 {
        write(&mut hub, "log", n);
        if hub.is_rebase_due() {
            cut += 1;
            let record = hub.rebase([cut; 14]).unwrap();
            hub.handle_durable(record.ticket);
            assert!(!hub.is_rebase_due(), "a base of {} bytes", hub.history_bytes());
        }
    }
    assert!((2..=3).contains(&cut), "{cut} times");
    assert_eq!(hub.json(Section::Notes).get("log"), Some(&json!({ "$text": text(35) })));
    // So is that of one that came from the file.
    for n in 0..17 {
        write(&mut hub, "log", n);
    }
    let saved = match hub.save().write {
        tideline_twin::Write::Replace(saved) | tideline_twin::Write::Append(saved) => saved,
    };
    let loaded = Twin::load(hub.actor(), &saved, &[] as &[&[u8]]).unwrap();
    assert!(loaded.is_rebase_due() && hub.is_rebase_due());
}

#[test]
fn what_an_agent_writes_anew_while_it_is_away_is_there_after_history_was_cut_off() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    write(&mut hub, "log", 0);
    talk(&mut hub, &mut agent);
    for n in 1..4 {
        write(&mut agent, "log", n);
    }
    let record = hub.rebase([1; 14]).unwrap();
    hub.handle_durable(record.ticket);
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Notes), json!({ "log": { "$text": text(3) } }));
    assert_eq!((hub.heads(), hub.conflicts().len()), (agent.heads(), 0));
}

fn talk(hub: &mut Twin, agent: &mut Twin) {
    let (mut up, mut down) = (Link::new("hub", agent), Link::new("agent", hub));
    loop {
        let said = (up.poll(agent), down.poll(hub));
        if said == (None, None) {
            return;
        }
        for (message, link, twin) in [(said.0, &mut down, &mut *hub), (said.1, &mut up, &mut *agent)] {
            if let Some(record) = message.and_then(|message| link.handle(twin, &message).unwrap()) {
                twin.handle_durable(record.ticket);
            }
        }
    }
}
