//! What a hostile peer may take of memory: it replaces long values over and over, in changes that each are within every limit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it found")]

use std::num::NonZeroU64;

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, ChangeHash, ExpandedChange, ScalarValue};
use tideline_twin::{
    Action, Actor, Change, Edit, EditError, Key, Link, Message, Refusal, Section, Side, Twin, limits,
};

const DESIRED: u64 = 1;
/// Values of a change; with them it is a little shorter than it may be.
const VALUES: u64 = 7;
const MB: usize = 1 << 20;
/// Most that a document and the work on it may take beyond what the process had.
const ROOM_BYTES: usize = 128 * MB;

/// The most that this process had resident so far.
fn most_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kb = line.trim().trim_end_matches(" kB").parse::<usize>();
    kb.map_or(0, |kb| kb * 1024)
}

/// A peer that goes by one name and writes what it likes.
struct Hostile {
    actor: ActorId,
    generation: u64,
    seq: u64,
    op: u64,
    number: u64,
}

impl Hostile {
    fn new(side: u8) -> Self {
        let mut name = [9; 16];
        name[0] = side;
        Self { actor: ActorId::from(name.as_slice()), generation: 0, seq: 0, op: 6, number: 0 }
    }

    /// The next change: some leaves get long values, all beside those that they have.
    fn change(&mut self, twin: &Twin) -> Vec<u8> {
        if self.generation != twin.generation().number {
            (self.generation, self.seq, self.op) = (twin.generation().number, 0, 6);
        }
        self.seq += 1;
        self.number += 1;
        let home = OpId::new(DESIRED, &ActorId::from([0_u8; 16].as_slice()));
        let value = |n: u64| {
            let text = format!("{:08}", self.number * VALUES + n).repeat(limits::TEXT_BYTES_MAX / 8);
            OpType::Put(ScalarValue::Str(text.into()))
        };
        let op = |n: u64| Op {
            action: value(n),
            obj: ObjectId::Id(home.clone()),
            key: OpKey::Map(format!("a{n}").into()),
            pred: Vec::new().into(),
            insert: false,
        };
        let change = ExpandedChange {
            operations: (0..VALUES).map(op).collect(),
            actor_id: self.actor.clone(),
            hash: None,
            seq: self.seq,
            start_op: NonZeroU64::new(self.op).unwrap(),
            time: 1,
            message: Some(format!("{} mallory", self.number)),
            deps: twin.heads().into_iter().map(ChangeHash).collect(),
            extra_bytes: Vec::new(),
            author: None,
        };
        self.op += VALUES;
        automerge::Change::from(change).raw_bytes().to_vec()
    }

    fn send(&mut self, twin: &mut Twin, link: &mut Link) -> Result<(), Refusal> {
        let changes = vec![self.change(twin)];
        let message = Message::Changes { generation: twin.generation(), changes };
        if let Some(record) = link.handle(twin, &message)? {
            twin.handle_durable(record.ticket);
        }
        Ok(())
    }
}

#[test]
fn a_hub_cuts_off_what_an_agent_replaces_before_it_takes_much_room() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let (mut hostile, mut link) = (Hostile::new(2), Link::new("agent", &hub));
    let before = most_bytes();
    let mut cuts = 0_u8;
    for n in 0..400_u64 {
        hostile.send(&mut hub, &mut link).unwrap();
        assert!(hub.history_bytes() <= 5 * MB, "{n}: {}", hub.history_bytes());
        if hub.is_rebase_due() {
            cuts += 1;
            let record = hub.rebase([cuts; 14]).unwrap();
            hub.handle_durable(record.ticket);
        }
    }
    assert!(cuts >= 4, "{cuts}");
    let grown = most_bytes() - before;
    assert!(grown < ROOM_BYTES, "{grown} bytes");
}

#[test]
fn an_agent_takes_no_more_from_a_hub_that_cuts_nothing_off_and_goes_on_with_what_it_has() {
    let mut agent = Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap();
    let (mut hostile, mut link) = (Hostile::new(1), Link::new("hub", &agent));
    let before = most_bytes();
    let refusal = (0..1000).find_map(|_| hostile.send(&mut agent, &mut link).err()).unwrap();
    assert!(matches!(refusal, Refusal::TooMany { what: "bytes of changes", .. }), "{refusal}");
    assert!(agent.history_bytes() <= limits::HISTORY_BYTES_MAX);
    let grown = most_bytes() - before;
    assert!(grown < ROOM_BYTES, "{grown} bytes");
    let edit =
        Edit { section: Section::Reported, key: Key::parse("a").unwrap(), action: Action::Put(1.into()) };
    let change = Change { edits: vec![edit], author: "a".into(), time_ms: 1 };
    assert_eq!(agent.edit(&change), Err(EditError::TooManyUnconfirmed));
    // A base frees it.
    let mut hub = Twin::new(Actor::new(Side::Hub, [3; 15])).unwrap();
    let record = hub.rebase([1; 14]).unwrap();
    hub.handle_durable(record.ticket);
    let mut at_hub = Link::new("agent", &hub);
    let state = link.poll(&agent).unwrap();
    at_hub.handle(&mut hub, &state).unwrap();
    while let Some(message) = at_hub.poll(&hub) {
        if let Some(record) = link.handle(&mut agent, &message).unwrap() {
            agent.handle_durable(record.ticket);
        }
    }
    assert_eq!(agent.generation(), hub.generation());
    assert!(agent.history_bytes() < MB);
    let _record = agent.edit(&change).unwrap().unwrap();
}

fn deliver(from: &Twin, at: &mut Link, to: &mut Twin, other: &mut Link) {
    while let Some(message) = at.poll(from) {
        let message = Message::from_bytes(&message.to_bytes()).unwrap();
        if let Some(record) = other.handle(to, &message).unwrap() {
            to.handle_durable(record.ticket);
        }
    }
}

/// A session of two twins, which have the same then.
fn meet(hub: &mut Twin, agent: &mut Twin) {
    let (mut at_hub, mut at_agent) = (Link::new("agent", hub), Link::new("hub", agent));
    for _ in 0..4 {
        deliver(hub, &mut at_hub, agent, &mut at_agent);
        deliver(agent, &mut at_agent, hub, &mut at_hub);
    }
    assert_eq!((hub.heads(), hub.generation()), (agent.heads(), agent.generation()));
}

fn both() -> (Twin, Twin) {
    (Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap(), Twin::new(Actor::new(Side::Agent, [2; 15])).unwrap())
}

fn edit(
    twin: &mut Twin,
    edits: impl IntoIterator<Item = (Section, String, Action)>,
) -> Result<(), EditError> {
    let edit =
        |(section, key, action): (_, String, _)| Edit { section, key: Key::parse(&key).unwrap(), action };
    let edits = edits.into_iter().map(edit).collect();
    if let Some(record) = twin.edit(&Change { edits, author: "anna".into(), time_ms: 1 })? {
        twin.handle_durable(record.ticket);
    }
    Ok(())
}

#[test]
fn a_change_that_the_other_end_would_not_take_is_refused_as_it_is_made() {
    let (mut hub, mut agent) = both();
    let long = |n: usize| format!("a/{}/{n:03}", "k".repeat(240));
    for from in (0..500).step_by(100) {
        edit(&mut hub, (from..from + 100).map(|n| (Section::Desired, long(n), Action::Put(n.into()))))
            .unwrap();
    }
    // One edit, which removes leaves whose names are longer together than a change may be.
    let gone = (Section::Desired, "a".to_owned(), Action::Delete);
    let before = hub.heads();
    let refused = edit(&mut hub, [gone]).unwrap_err();
    assert!(matches!(refused, EditError::TooLong { bytes, .. } if bytes > 100_000), "{refused}");
    let text =
        |c: char, n: usize| (Section::Notes, format!("n{n}"), Action::Text(c.to_string().repeat(6_000)));
    let refused = edit(&mut hub, (0..3).map(|n| text('a', n))).unwrap_err();
    assert!(matches!(refused, EditError::TooLong { operations: 18_000.., .. }), "{refused}");
    assert!(refused.to_string().contains("allowed are 61440 and 16384: make it in parts"), "{refused}");
    assert_eq!(hub.heads(), before);
    // In parts it is taken, and by the other end.
    edit(&mut hub, (0..200).map(|n| (Section::Desired, long(n), Action::Delete))).unwrap();
    edit(&mut hub, (0..2).map(|n| text('a', n))).unwrap();
    meet(&mut hub, &mut agent);
}

#[test]
fn keys_of_any_length_that_is_allowed_pass_a_cut() {
    let (mut hub, mut agent) = both();
    let key = "k".repeat(limits::KEY_BYTES_MAX);
    edit(&mut hub, [(Section::Desired, key.clone(), Action::Put(1.into()))]).unwrap();
    let record = hub.rebase([3; 14]).unwrap();
    hub.handle_durable(record.ticket);
    meet(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Desired)[&key], 1);
}

#[test]
fn a_base_is_a_message_however_many_long_values_stand_in_conflict() {
    let (mut hub, mut agent) = both();
    for name in 0..16 {
        let mut other = Twin::new(Actor::new(Side::Agent, [100 + name; 15])).unwrap();
        for part in 0..4 {
            let value = |n| Action::Put(format!("{name:02}{n:06}").repeat(1000).into());
            edit(&mut other, (0..6).map(|n| (Section::Tags, format!("t{part}{n}"), value(n)))).unwrap();
        }
        meet(&mut hub, &mut other);
    }
    let shown = hub.json(Section::Tags);
    assert!(hub.history_bytes() > limits::MESSAGE_BYTES_MAX);
    let record = hub.rebase([3; 14]).unwrap();
    hub.handle_durable(record.ticket);
    assert!(hub.history_bytes() <= limits::BASE_BYTES_MAX, "{}", hub.history_bytes());
    assert!(!hub.is_rebase_due());
    meet(&mut hub, &mut agent);
    assert_eq!(agent.json(Section::Tags), shown);
    assert_eq!(agent.conflicts()[0].values.len(), 8);
}
