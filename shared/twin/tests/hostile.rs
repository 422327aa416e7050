//! Messages that no honest end sends: each is refused, and the twin is as it was.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test says what it found"
)]

use std::num::NonZeroU64;

use automerge::legacy::{Key as OpKey, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, ChangeHash, ExpandedChange, ObjType, ScalarValue};
use proptest::prelude::*;
use serde_json::json;
use tideline_twin::{
    Action, Actor, Change, Edit, ForeignOp, Generation, Key, Link, Message, Refusal, Section, Side, Twin,
};

const DESIRED: u64 = 1;
const REPORTED: u64 = 2;
const TAGS: u64 = 3;
const NOTES: u64 = 4;
const ORIGIN: u64 = 5;

fn twin(side: Side, entropy: u8) -> Twin {
    Twin::new(Actor::new(side, [entropy; 15])).unwrap()
}

fn put(twin: &mut Twin, section: Section, key: &str, action: Action) {
    let edit = Edit { section, key: Key::parse(key).unwrap(), action };
    let record = twin.edit(&Change { edits: vec![edit], author: "a".into(), time_ms: 7 }).unwrap().unwrap();
    twin.handle_durable(record.ticket);
}

/// A hub with a value in each section that it may write.
fn hub() -> Twin {
    let mut hub = twin(Side::Hub, 1);
    put(&mut hub, Section::Desired, "a", Action::Put(json!(1)));
    put(&mut hub, Section::Tags, "n", Action::Add(1));
    put(&mut hub, Section::Notes, "t", Action::Text("text".into()));
    hub
}

fn id(bytes: [u8; 16]) -> ActorId {
    ActorId::from(bytes.as_slice())
}

fn agent() -> ActorId {
    let mut bytes = [9; 16];
    bytes[0] = 2;
    id(bytes)
}

fn op(section: u64, key: &str, action: OpType, preds: Vec<OpId>) -> Op {
    let obj = ObjectId::Id(OpId::new(section, &id([0; 16])));
    Op { action, obj, key: OpKey::Map(key.into()), pred: preds.into(), insert: false }
}

fn change(hub: &Twin, ops: Vec<Op>) -> ExpandedChange {
    ExpandedChange {
        operations: ops,
        actor_id: agent(),
        hash: None,
        seq: 1,
        start_op: NonZeroU64::new(6).unwrap(),
        time: 1,
        message: Some("1 mallory".into()),
        deps: hub.heads().into_iter().map(ChangeHash).collect(),
        extra_bytes: Vec::new(),
        author: None,
    }
}

fn send(hub: &mut Twin, bytes: Vec<u8>) -> Result<(), Refusal> {
    let mut link = Link::new("agent", hub);
    let before = (hub.heads(), hub.size());
    let message = Message::Changes { generation: hub.generation(), changes: vec![bytes] };
    let answer = link.handle(hub, &Message::from_bytes(&message.to_bytes()).unwrap());
    if answer.is_err() {
        assert_eq!((hub.heads(), hub.size()), before);
    }
    answer.map(|_| ())
}

fn try_change(change: ExpandedChange) -> Result<(), Refusal> {
    send(&mut hub(), automerge::Change::from(change).raw_bytes().to_vec())
}

fn try_op(op: Op) -> Result<(), Refusal> {
    try_change(change(&hub(), vec![op]))
}

fn is_foreign(answer: Result<(), Refusal>, wanted: fn(&ForeignOp) -> bool) {
    match answer {
        Err(Refusal::Foreign { error, .. }) if wanted(&error) => {}
        other => panic!("{other:?}"),
    }
}

fn int(value: i64) -> OpType {
    OpType::Put(ScalarValue::Int(value))
}

#[test]
fn what_an_agent_may_write_is_taken() {
    for section in [DESIRED, REPORTED, TAGS, NOTES] {
        try_op(op(section, "b/c", int(1), vec![])).unwrap();
    }
    let hub_actor = id(std::array::from_fn(|_| 1));
    try_op(op(DESIRED, "a", int(1), vec![OpId::new(6, &hub_actor)])).unwrap();
}

#[test]
fn a_key_that_no_terminal_shows_is_not_written_and_one_of_an_earlier_version_can_be_taken_away() {
    let mut hub = hub();
    let sent = change(&hub, vec![op(TAGS, "a\u{0}b", int(3), vec![])]);
    let bytes = automerge::Change::from(sent).raw_bytes().to_vec();
    send(&mut hub, bytes).unwrap();
    assert_eq!(hub.json(Section::Tags).get("a\u{0}b"), Some(&json!(3)));
    let edit = |action| {
        let key = Key::parse("a\u{0}b").unwrap();
        Change { edits: vec![Edit { section: Section::Tags, key, action }], author: "a".into(), time_ms: 8 }
    };
    for action in [Action::Put(json!(1)), Action::Add(1), Action::Object, Action::Insert(json!(1))] {
        let refused = hub.edit(&edit(action)).unwrap_err().to_string();
        assert!(
            refused.starts_with("/tags/a\\u{0}b: a name in the key \"a\\0b\" holds a control"),
            "{refused}"
        );
    }
    let record = hub.edit(&edit(Action::Delete)).unwrap().unwrap();
    hub.handle_durable(record.ticket);
    assert_eq!(hub.json(Section::Tags), json!({ "n": { "$counter": 1 } }));
}

#[test]
fn what_adds_to_no_counter_or_beyond_what_one_holds_is_refused() {
    let own = "n~c02090909090909090909090909090909";
    let begun = |count| op(TAGS, own, OpType::Put(ScalarValue::counter(count)), vec![]);
    let more = |by, at| op(TAGS, own, OpType::Increment(by), vec![OpId::new(at, &agent())]);
    let first = u64::from(change(&hub(), vec![]).start_op);
    try_change(change(&hub(), vec![begun(i64::MAX - 1), more(1, first)])).unwrap();
    for ops in [
        vec![begun(i64::MAX), more(1, first)],
        vec![begun(i64::MAX - 1), more(1, first), more(1, first)],
        vec![begun(i64::MIN), more(-1, first)],
        // The counter is gone when it is added to.
        vec![
            begun(1),
            op(TAGS, own, OpType::Delete, vec![OpId::new(first, &agent())]),
            more(i64::MAX, first),
        ],
    ] {
        is_foreign(try_change(change(&hub(), ops)), |error| {
            matches!(error, ForeignOp::Counter(_) | ForeignOp::Predecessor(_))
        });
    }
    // In changes that follow each other.
    let mut hub = hub();
    let sent = change(&hub, vec![begun(i64::MAX - 1)]);
    send(&mut hub, automerge::Change::from(sent).raw_bytes().to_vec()).unwrap();
    for (by, is_taken) in [(2, false), (1, true)] {
        let start_op = NonZeroU64::new(first + 1).unwrap();
        let sent = ExpandedChange {
            seq: 2,
            start_op,
            message: Some("2 mallory".into()),
            ..change(&hub, vec![more(by, first)])
        };
        let answer = send(&mut hub, automerge::Change::from(sent).raw_bytes().to_vec());
        assert_eq!(answer.is_ok(), is_taken, "{answer:?}");
    }
    assert_eq!(hub.json(Section::Tags)["n"], json!({"$counter": i64::MAX}));
}

#[test]
fn what_fits_a_counter_and_not_the_sums_that_the_engine_makes_of_it_is_refused() {
    let own = "n~c02090909090909090909090909090909";
    let begun = |count| op(TAGS, own, OpType::Put(ScalarValue::counter(count)), vec![]);
    for (from, wrong) in [(i64::MAX, -2), (i64::MAX, 5), (i64::MIN, 2), (i64::MIN, -5)] {
        let mut hub = hub();
        let first = u64::from(change(&hub, vec![]).start_op);
        let more = |by| op(TAGS, own, OpType::Increment(by), vec![OpId::new(first, &agent())]);
        let sent = change(&hub, vec![begun(from)]);
        send(&mut hub, automerge::Change::from(sent).raw_bytes().to_vec()).unwrap();
        // To about zero, and from there beyond what was added may be, or beyond what there was at the begin.
        let back = if from > 0 { -i64::MAX } else { i64::MAX };
        for (seq, by, is_taken) in [(2, back, true), (3, wrong, false)] {
            let sent = change(&hub, vec![more(by)]);
            let start_op = NonZeroU64::new(first + seq - 1).unwrap();
            let message = Some(format!("{seq} mallory"));
            let sent = ExpandedChange { seq, start_op, message, ..sent };
            let answer = send(&mut hub, automerge::Change::from(sent).raw_bytes().to_vec());
            assert_eq!(answer.is_ok(), is_taken, "{from} {wrong}: {answer:?}");
            if let Err(error) = answer {
                assert!(error.to_string().contains("beyond 64 bits"), "{error}");
            }
        }
    }
}

#[test]
fn operations_that_no_twin_makes_are_refused() {
    let text = |s: &str| OpType::Put(ScalarValue::Str(s.into()));
    for action in [
        OpType::Put(ScalarValue::Null),
        OpType::Put(ScalarValue::Uint(1)),
        OpType::Put(ScalarValue::F64(f64::INFINITY)),
        OpType::Put(ScalarValue::Bytes(b"{\"a\":1}".to_vec())),
        OpType::Put(ScalarValue::counter(1)),
        OpType::Make(ObjType::Map),
        OpType::Make(ObjType::List),
        OpType::Make(ObjType::Text),
        OpType::Increment(1),
        text(&"x".repeat(8193)),
    ] {
        is_foreign(try_op(op(DESIRED, "b", action, vec![])), |error| matches!(error, ForeignOp::Value(_)));
    }
    for key in ["", "a//b", "$set", "a~x", "a~s[1]", "a~czz"] {
        is_foreign(try_op(op(DESIRED, key, int(1), vec![])), |error| matches!(error, ForeignOp::Key(_)));
    }
    let long = try_op(op(DESIRED, &"k".repeat(257), int(1), vec![]));
    assert!(matches!(long, Err(Refusal::Chunk(_))), "{long:?}");
    for section in [ORIGIN, 6, 77] {
        is_foreign(try_op(op(section, "a", int(1), vec![])), |error| matches!(error, ForeignOp::Place(_)));
    }
    let mut root = op(DESIRED, "desired", OpType::Make(ObjType::Map), vec![]);
    root.obj = ObjectId::Root;
    is_foreign(try_op(root), |error| matches!(error, ForeignOp::Place(_)));
    let count = format!("n~c{}", "01".repeat(16));
    is_foreign(try_op(op(TAGS, &count, OpType::Increment(5), vec![])), |error| {
        matches!(error, ForeignOp::Value(_))
    });
}

#[test]
fn what_is_not_of_the_leaf_cannot_be_replaced() {
    let hub_actor = id([1; 16]);
    for (section, key, pred) in [
        (TAGS, "a", OpId::new(6, &hub_actor)),
        (DESIRED, "b", OpId::new(6, &hub_actor)),
        (DESIRED, "a", OpId::new(7, &hub_actor)),
        (DESIRED, "a", OpId::new(1, &id([0; 16]))),
    ] {
        is_foreign(try_op(op(section, key, int(1), vec![pred])), |e| matches!(e, ForeignOp::Predecessor(_)));
    }
}

#[test]
fn names_and_numbers_that_do_not_follow_are_refused() {
    let with = |spoil: fn(&mut ExpandedChange)| {
        let mut change = change(&hub(), vec![op(TAGS, "x", int(1), vec![])]);
        spoil(&mut change);
        try_change(change)
    };
    assert!(with(|_| {}).is_ok());
    for spoil in [
        (|c| c.seq = 2) as fn(&mut ExpandedChange),
        |c| c.start_op = NonZeroU64::new(100).unwrap(),
        |c| c.deps.clear(),
        |c| c.operations.clear(),
    ] {
        assert!(matches!(with(spoil), Err(Refusal::Sequence { .. })), "{:?}", with(spoil));
    }
    is_foreign(with(|c| c.message = None), |error| *error == ForeignOp::Message);
    is_foreign(with(|c| c.message = Some("01 x".into())), |error| *error == ForeignOp::Message);
    assert!(matches!(with(|c| c.extra_bytes = vec![1]), Err(Refusal::Chunk(_))));
    assert!(matches!(with(|c| c.actor_id = id([7; 16])), Err(Refusal::Chunk(_))));
    assert!(matches!(with(|c| c.actor_id = ActorId::from([2_u8; 3].as_slice())), Err(Refusal::Chunk(_))));
    // The hub's own name, another hub's, and that of a base.
    assert!(matches!(with(|c| c.actor_id = id([1; 16])), Err(Refusal::ReusedActor { .. })));
    let other = |c: &mut ExpandedChange| c.actor_id = id([1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    assert!(matches!(with(other), Err(Refusal::NotTheirs { .. })));
    let base = |c: &mut ExpandedChange| c.actor_id = id([0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    assert!(matches!(with(base), Err(Refusal::Base(_))));
    // What it builds on is unknown: it is not kept, and asked for again.
    let mut hub = hub();
    let mut lost = change(&hub, vec![op(TAGS, "x", int(1), vec![])]);
    lost.deps = vec![ChangeHash([5; 32])];
    let before = hub.heads();
    send(&mut hub, automerge::Change::from(lost).raw_bytes().to_vec()).unwrap();
    assert_eq!(hub.heads(), before);
}

#[test]
fn a_hub_that_was_never_restored_takes_no_base() {
    let mut hub = hub();
    let mut link = Link::new("agent", &hub);
    let generation = Generation { number: 1, tag: [1; 14] };
    let base = Message::Base { generation, changes: vec![], included: [].into() };
    assert_eq!(link.handle(&mut hub, &base), Err(Refusal::NotTheHub));
}

fn leb(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A change of columns that nobody's automerge wrote.
fn chunk(kind: u8, columns: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![0, 16];
    body.extend_from_slice(agent().to_bytes());
    body.extend([1, 6, 0, 3]);
    body.extend(b"1 x");
    body.push(0);
    body.extend(leb(columns.len() as u64));
    for (kind, bytes) in columns {
        body.extend(leb(*kind));
        body.extend(leb(bytes.len() as u64));
    }
    columns.iter().for_each(|(_, bytes)| body.extend(bytes));
    let mut out = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, kind];
    out.extend(leb(body.len() as u64));
    out.extend(body);
    out
}

#[test]
fn runs_that_stand_for_more_than_they_say_are_refused_unread() {
    let bomb = |value: u8| [leb(1 << 40), vec![value]].concat();
    for column in [0x01, 0x02, 0x11, 0x13, 0x34, 0x42, 0x56, 0x70, 0x71, 0x73] {
        let answer = send(&mut hub(), chunk(1, &[(column, bomb(1))]));
        assert!(matches!(answer, Err(Refusal::Chunk(_))), "{column:x}: {answer:?}");
    }
    // One operation that replaces very many.
    let answer = send(&mut hub(), chunk(1, &[(0x42, vec![1, 1]), (0x70, [vec![1], leb(1 << 40)].concat())]));
    assert!(matches!(answer, Err(Refusal::Chunk(_))), "{answer:?}");
    // Compressed columns, columns of other kinds, and other chunks.
    for (kind, column) in [(1, 0x4a), (1, 0x94), (1, 0xa5), (0, 0x42), (2, 0x42), (3, 0x42)] {
        let answer = send(&mut hub(), chunk(kind, &[(column, vec![1, 1])]));
        assert!(matches!(answer, Err(Refusal::Chunk(_))), "{answer:?}");
    }
    let answer = send(&mut hub(), vec![0; 70_000]);
    assert!(matches!(answer, Err(Refusal::Chunk(_))), "{answer:?}");
}

/// All messages of a session in which both ends have something to say, and a base at the end.
fn session() -> Vec<Vec<u8>> {
    let (mut hub, mut agent) = (hub(), twin(Side::Agent, 2));
    put(&mut agent, Section::Reported, "a", Action::Put(json!([1, "x"])));
    put(&mut agent, Section::Tags, "s", Action::Insert(json!("e")));
    let (mut at_hub, mut at_agent) = (Link::new("agent", &hub), Link::new("hub", &agent));
    let mut all = Vec::new();
    for round in 0..6 {
        while let Some(message) = at_hub.poll(&hub) {
            all.push(message.to_bytes());
            if let Some(record) = at_agent.handle(&mut agent, &message).unwrap() {
                agent.handle_durable(record.ticket);
            }
        }
        while let Some(message) = at_agent.poll(&agent) {
            all.push(message.to_bytes());
            if let Some(record) = at_hub.handle(&mut hub, &message).unwrap() {
                hub.handle_durable(record.ticket);
            }
        }
        if round == 3 {
            let record = hub.rebase([5; 14]).unwrap();
            hub.handle_durable(record.ticket);
        }
    }
    assert_eq!(hub.heads(), agent.heads());
    all
}

#[test]
fn messages_keep_their_bytes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found: Vec<_> = session().iter().map(|bytes| hex(bytes)).collect();
    let golden: Vec<_> = include_str!("golden_messages_v2.hex").lines().map(str::to_owned).collect();
    assert_eq!(found, golden);
}

/// An earlier version's base says of a text who made it and not who changed it last.
#[test]
fn a_base_of_an_earlier_version_is_read_and_tells_nobody_for_its_texts() {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let golden = include_str!("golden_messages_v1.hex").lines();
    let golden: Vec<Vec<u8>> = golden.map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect();
    // Until history is cut off both versions say the same.
    let same = session().iter().zip(&golden).take_while(|(now, then)| now == then).count();
    let base = golden.iter().find(|bytes| bytes.starts_with(&[0x84, 3, 0x82, 1])).unwrap();
    assert!(golden.iter().position(|bytes| bytes == base).unwrap() <= same + 1);
    let mut agent = twin(Side::Agent, 3);
    let mut link = Link::new("hub", &agent);
    let record = link.handle(&mut agent, &Message::from_bytes(base).unwrap()).unwrap().unwrap();
    agent.handle_durable(record.ticket);
    let leaf = |twin: &Twin, section, key: &str| twin.leaf(section, &Key::parse(key).unwrap()).unwrap();
    let text = leaf(&agent, Section::Notes, "t");
    assert_eq!((text.value, text.origin), (json!({ "$text": "text" }), None));
    assert!(leaf(&agent, Section::Reported, "a").origin.is_some());
    put(&mut agent, Section::Notes, "t", Action::Text("text of now".into()));
    assert_eq!(leaf(&agent, Section::Notes, "t").origin.unwrap().actor, agent.actor());
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }

    #[test]
    fn spoilt_messages_change_nothing_or_what_can_be_kept(
        which in any::<prop::sample::Index>(),
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        at_hub in any::<bool>(),
    ) {
        let all = session();
        let mut bytes = all[which.index(all.len())].clone();
        for (at, byte) in spoils {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut twin = if at_hub { hub() } else { twin(Side::Agent, 3) };
        let mut link = Link::new("peer", &twin);
        let before = twin.heads();
        if let Ok(message) = Message::from_bytes(&bytes) {
            match link.handle(&mut twin, &message) {
                Err(_) => prop_assert_eq!(twin.heads(), before),
                Ok(_) => {
                    let record = twin.save();
                    let tideline_twin::Write::Replace(saved) = record.write else { panic!("a whole save") };
                    let again = Twin::load(twin.actor(), &saved, &[] as &[&[u8]]).unwrap();
                    prop_assert_eq!(again.heads(), twin.heads());
                }
            }
        }
    }
}
