//! Messages about a twin, at either end: they are taken or refused, and what was taken can be kept. Changes in them get their
//! right checksums, so that what is behind those is reached: with wrong ones a document takes nothing.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tideline_twin::{
    Action, Actor, Change, Edit, Key, Link, Message, Record, Section, Side, Twin, Write, limits,
};

use crate::input::Input;

/// Most messages of an input.
const MESSAGES_MAX: usize = 16;
/// The bit that leaves checksums alone.
const AS_IT_IS: u8 = 2;

fn put(twin: &mut Twin, section: Section, key: &str, action: Action) {
    let edit = Edit { section, key: Key::parse(key).expect("a key"), action };
    let change = Change { edits: vec![edit], author: "a".to_owned(), time_ms: 5 };
    let record = twin.edit(&change).expect("an edit that may be made");
    durable(twin, record);
}

fn durable(twin: &mut Twin, record: Option<Record>) {
    if let Some(record) = record {
        twin.handle_durable(record.ticket);
    }
}

fn hub() -> Twin {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).expect("a twin");
    put(&mut hub, Section::Desired, "a", Action::Put(json!(1)));
    put(&mut hub, Section::Notes, "t", Action::Text("text".to_owned()));
    hub
}

fn agent() -> Twin {
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).expect("a twin");
    put(&mut agent, Section::Reported, "a", Action::Put(json!([1, "x"])));
    put(&mut agent, Section::Tags, "n", Action::Add(2));
    put(&mut agent, Section::Tags, "s", Action::Insert(json!("e")));
    agent
}

/// What both ends say to each other, each with who hears it: with a base in the middle, and an end that has forgotten.
fn session() -> Vec<(u8, Vec<u8>)> {
    let (mut hub, mut agent) = (hub(), agent());
    let (mut at_hub, mut at_agent) = (Link::new("agent", &hub), Link::new("hub", &agent));
    let mut said = Vec::new();
    for round in 0..8 {
        while let Some(message) = at_hub.poll(&hub) {
            said.push((1, message.to_bytes()));
            let record = at_agent.handle(&mut agent, &message).expect("an honest message");
            durable(&mut agent, record);
        }
        while let Some(message) = at_agent.poll(&agent) {
            said.push((0, message.to_bytes()));
            let record = at_hub.handle(&mut hub, &message).expect("an honest message");
            durable(&mut hub, record);
        }
        put(&mut agent, Section::Notes, "t", Action::Text(format!("text {round}")));
        if round == 4 {
            let record = hub.rebase([5; 14]).expect("a rebase");
            durable(&mut hub, Some(record));
        }
    }
    said
}

pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a short message").to_le_bytes();
        [&length, bytes].concat()
    };
    let said = session();
    let mut all: Vec<_> = said.iter().map(|(end, bytes)| [&[*end], &frame(bytes)[..]].concat()).collect();
    for end in [0, 1] {
        let heard: Vec<_> = said.iter().filter(|(of, _)| *of == end).map(|(_, bytes)| frame(bytes)).collect();
        all.push([&[end], &heard.concat()[..]].concat());
        all.push([&[end | AS_IT_IS], &heard.concat()[..]].concat());
    }
    all
}

/// Gives each change of a message its right checksum: four bytes of the hash of all that follows them.
fn seal(message: &mut Message) {
    let (Message::Changes { changes, .. } | Message::Base { changes, .. }) = message else { return };
    for change in changes {
        let Some((head, rest)) = change.split_at_mut_checked(8) else { continue };
        let hash = Sha256::digest(&*rest);
        head.iter_mut().skip(4).zip(hash).for_each(|(byte, right)| *byte = right);
    }
}

/// The first byte says which end hears the messages, each with its length before it, and whether checksums are left alone.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let mut twin = if mode & 1 == 0 { hub() } else { agent() };
    let mut link = Link::new("peer", &twin);
    for _ in 0..MESSAGES_MAX {
        if input.is_empty() {
            break;
        }
        let length = usize::from(input.short());
        let rest = input.rest();
        let (bytes, after) = rest.split_at(length.min(rest.len()));
        input = Input::new(after);
        let Ok(mut message) = Message::from_bytes(bytes) else { continue };
        assert_eq!(message.to_bytes(), bytes, "a message has another form");
        if mode & AS_IT_IS == 0 {
            seal(&mut message);
        }
        let before = twin.heads();
        match link.handle(&mut twin, &message) {
            Ok(record) => durable(&mut twin, record),
            Err(refusal) => {
                assert!(!refusal.to_string().is_empty());
                assert_eq!(twin.heads(), before, "a refused message changed the twin");
            }
        }
        while let Some(message) = link.poll(&twin) {
            assert_eq!(Message::from_bytes(&message.to_bytes()).as_ref(), Ok(&message));
        }
    }
    let (keys, bytes) = twin.size();
    assert!(keys <= limits::KEYS_MAX * limits::MERGED_FACTOR);
    assert!(bytes <= limits::DOCUMENT_BYTES_MAX * limits::MERGED_FACTOR);
    assert!(twin.history_bytes() <= limits::HISTORY_BYTES_MAX);
    let shown = Section::ALL.map(|section| twin.json(section));
    let Write::Replace(saved) = twin.save().write else { return };
    let again = Twin::load(twin.actor(), &saved, &[] as &[&[u8]]).expect("what was saved");
    assert_eq!(again.heads(), twin.heads(), "what was saved is something else");
    assert_eq!(Section::ALL.map(|section| again.json(section)), shown);
    let (_, _, steps) = (again.conflicts(), again.delta(), again.history(&[]));
    assert!(steps.is_ok());
}
