//! Texts that are written anew: what is gone of them is cut off before it weighs on each further change.
#![allow(clippy::unwrap_used, reason = "a test says what it found")]

mod talk;

use serde_json::{Value as Json, json};
use talk::talk;
use tideline_twin::{Action, Actor, Change, Edit, EditError, Key, Section, Side, Twin, limits, merge_patch};

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

fn set(twin: &mut Twin, text: &str) -> Result<bool, EditError> {
    let edit = Edit {
        section: Section::Notes,
        key: Key::parse("log").unwrap(),
        action: Action::Text(text.to_owned()),
    };
    let made = twin.edit(&Change { edits: vec![edit], author: "anna".to_owned(), time_ms: 2 })?;
    made.iter().for_each(|record| twin.handle_durable(record.ticket));
    Ok(made.is_some())
}

fn shown(twin: &Twin) -> String {
    twin.json(Section::Notes).pointer("/log/$text").and_then(Json::as_str).unwrap().to_owned()
}

/// A hub and agents whose text was written anew at each of them while they were apart.
fn apart(agents: u8) -> (Twin, Vec<Twin>) {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut agents: Vec<_> =
        (2..agents + 2).map(|name| Twin::new(Actor::new(Side::Agent, [name; 15])).unwrap()).collect();
    set(&mut hub, "begun").unwrap();
    agents.iter_mut().for_each(|agent| assert!(talk(&mut hub, agent) > 0));
    for (letter, twin) in ["A", "B", "C", "D"].iter().zip(agents.iter_mut().chain([&mut hub])) {
        set(twin, &letter.repeat(8_000)).unwrap();
    }
    for _ in 0..2 {
        agents.iter_mut().for_each(|agent| assert!(talk(&mut hub, agent) > 0));
    }
    assert_eq!(shown(&hub).len(), 8_000 * (agents.len() + 1));
    (hub, agents)
}

#[test]
fn a_text_that_merged_beyond_the_limit_is_kept_as_shown_cut_and_written_anew() {
    for at_hub in [true, false] {
        let (mut hub, mut agents) = apart(1);
        let agent = agents.first_mut().unwrap();
        let (twin, other) = if at_hub { (&mut hub, agent) } else { (agent, &mut hub) };
        let merged = shown(twin);
        assert_eq!(set(twin, &merged), Ok(false));
        let error = set(twin, &format!("{merged}.")).unwrap_err().to_string();
        assert!(error.starts_with("/notes/log: a text has 16001 bytes; allowed are 8192, and"), "{error}");
        assert!(error.ends_with("become shorter than its 16000 bytes"), "{error}");
        assert_eq!(set(twin, &merged[1..]), Ok(true));
        assert_eq!(set(twin, &merged[1..9_000]), Ok(true));
        let anew = "x".repeat(8_000);
        assert_eq!(set(twin, &anew), Ok(true));
        // Both may be the hub of the other here: only who calls differs.
        let (hub, agent) = if at_hub { (twin, other) } else { (other, twin) };
        talk(hub, agent);
        assert_eq!((shown(hub), shown(agent)), (anew.clone(), anew));
    }
}

#[test]
fn a_rewrite_of_a_long_text_is_one_change_that_the_other_end_takes() {
    let (mut hub, mut agents) = apart(3);
    // 32,000 characters that go are more than a change may have.
    let anew = "x".repeat(8_192);
    assert_eq!(set(&mut hub, &anew), Ok(true));
    agents.iter_mut().for_each(|agent| assert!(talk(&mut hub, agent) > 0));
    for twin in agents.iter().chain([&hub]) {
        assert_eq!((shown(twin), twin.conflicts().len()), (anew.clone(), 0));
    }
}

#[test]
fn several_long_texts_are_written_back_as_they_are_beside_another_leaf() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    for n in 0..3 {
        write(&mut hub, &format!("log-{n}"), n);
    }
    let now = hub.json(Section::Notes);
    let mut patch = now.clone();
    patch["other"] = json!(1);
    let edits = merge_patch(Section::Notes, &now, &patch).unwrap();
    let record = hub.edit(&Change { edits, author: String::new(), time_ms: 3 }).unwrap().unwrap();
    hub.handle_durable(record.ticket);
    assert_eq!(hub.json(Section::Notes), patch);
}

#[test]
fn what_is_cut_of_a_long_text_while_away_is_cut_after_history_was_cut_off() {
    let (mut hub, mut agents) = apart(2);
    let agent = agents.first_mut().unwrap();
    let merged = shown(agent);
    assert_eq!(set(agent, &merged[100..]), Ok(true));
    // The hub writes into it meanwhile, so that the text of the base is another than the agent knew.
    assert_eq!(set(&mut hub, &format!("{}the end", &merged[..20_000])), Ok(true));
    let record = hub.rebase([1; 14]).unwrap();
    hub.handle_durable(record.ticket);
    talk(&mut hub, agent);
    assert_eq!(shown(&hub), format!("{}the end", &merged[100..20_000]));
    assert_eq!((hub.heads(), hub.conflicts().len()), (agent.heads(), 0));
    // Of one that is gone nothing is left to be cut.
    let cut = shown(agent);
    assert_eq!(set(agent, &cut[100..]), Ok(true));
    assert_eq!(set(&mut hub, "short"), Ok(true));
    let edit =
        Edit { section: Section::Notes, key: Key::parse("log").unwrap(), action: Action::Put(json!(1)) };
    let record = hub.edit(&Change { edits: vec![edit], author: String::new(), time_ms: 4 }).unwrap().unwrap();
    hub.handle_durable(record.ticket);
    let record = hub.rebase([2; 14]).unwrap();
    hub.handle_durable(record.ticket);
    talk(&mut hub, agent);
    assert_eq!(hub.json(Section::Notes), json!({ "log": 1 }));
    assert_eq!(hub.heads(), agent.heads());
}

/// The author and the time of each value of the only conflict.
fn who(twin: &Twin) -> Vec<(String, i64)> {
    let conflict = twin.conflicts().remove(0);
    let origins = conflict.values.into_iter().map(|leaf| leaf.origin.unwrap());
    let mut who: Vec<_> = origins.map(|origin| (origin.author, origin.time_ms)).collect();
    who.sort();
    who
}

#[test]
fn a_text_in_conflict_is_told_with_who_changed_it_last_also_after_history_was_cut_off() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    let by = |twin: &mut Twin, author: &str, time_ms: i64, action: Action| {
        let edit = Edit { section: Section::Notes, key: Key::parse("log").unwrap(), action };
        let change = Change { edits: vec![edit], author: author.to_owned(), time_ms };
        let record = twin.edit(&change).unwrap().unwrap();
        twin.handle_durable(record.ticket);
    };
    let text = |text: &str| Action::Text(text.to_owned());
    by(&mut hub, "anna", 10, text("begun"));
    talk(&mut hub, &mut agent);
    by(&mut agent, "site", 30, Action::Put(json!("dry")));
    // Two who did not know of each other: the later of both counts.
    by(&mut hub, "bert", 20, text("begun and gone on"));
    by(&mut hub, "carl", 25, text("begun, gone"));
    let leaf = |twin: &Twin| twin.leaf(Section::Notes, &Key::parse("log").unwrap()).unwrap().origin.unwrap();
    assert_eq!((leaf(&hub).author, leaf(&hub).time_ms), ("carl".to_owned(), 25));
    by(&mut agent, "site", 31, text("wet"));
    by(&mut agent, "dora", 32, text("wetter"));
    talk(&mut hub, &mut agent);
    // What an author replaced is gone with what was written into it; a new one at both ends stands twice.
    by(&mut hub, "anna", 40, Action::Put(json!(1)));
    talk(&mut hub, &mut agent);
    by(&mut hub, "bert", 50, text("one"));
    by(&mut agent, "site", 51, text("two"));
    by(&mut hub, "carl", 60, text("one of the hub"));
    by(&mut agent, "dora", 61, text("two of the site"));
    talk(&mut hub, &mut agent);
    let last = [("carl".to_owned(), 60), ("dora".to_owned(), 61)];
    assert_eq!((who(&hub), who(&agent)), (last.to_vec(), last.to_vec()));
    for tag in 1..3 {
        let record = hub.rebase([tag; 14]).unwrap();
        hub.handle_durable(record.ticket);
        talk(&mut hub, &mut agent);
        assert_eq!((who(&hub), who(&agent)), (last.to_vec(), last.to_vec()), "cut {tag} times");
    }
    assert_eq!(hub.conflicts(), agent.conflicts());
}

#[test]
fn a_document_that_merged_beyond_the_limit_may_become_smaller() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    let put = |twin: &mut Twin, key: String, action: Action| {
        let edit = Edit { section: Section::Tags, key: Key::parse(&key).unwrap(), action };
        let made = twin.edit(&Change { edits: vec![edit], author: String::new(), time_ms: 1 });
        made.map(|made| made.iter().for_each(|record| twin.handle_durable(record.ticket)))
    };
    let long = || Action::Put(json!("v".repeat(8_000)));
    for (twin, of) in [(&mut hub, "a"), (&mut agent, "b")] {
        for n in 0..20 {
            put(twin, format!("{of}{n}"), long()).unwrap();
        }
    }
    talk(&mut hub, &mut agent);
    for twin in [&mut hub, &mut agent] {
        assert!(twin.size().1 > limits::DOCUMENT_BYTES_MAX);
        assert!(matches!(put(twin, "c".to_owned(), long()), Err(EditError::TooLarge { .. })));
    }
    put(&mut hub, "a0".to_owned(), Action::Delete).unwrap();
    put(&mut agent, "b0".to_owned(), Action::Put(json!("short"))).unwrap();
    talk(&mut hub, &mut agent);
    assert_eq!(hub.json(Section::Tags), agent.json(Section::Tags));
}
