//! What a hub that was restored to before its last base replaces stays replaced, whoever brings it again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it found")]

mod talk;

use serde_json::{Value as Json, json};
use talk::{deliver, talk_as};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Section, Side, Twin, Write as Kept};

fn edit(twin: &mut Twin, author: &str, edits: Vec<(Section, &str, Action)>) {
    let edits = edits.into_iter().map(|(section, key, action)| {
        let key = Key::parse(key).unwrap();
        Edit { section, key, action }
    });
    let change = Change { edits: edits.collect(), author: author.to_owned(), time_ms: 1 };
    let record = twin.edit(&change).unwrap().unwrap();
    twin.handle_durable(record.ticket);
}

fn put(twin: &mut Twin, key: &str, value: Json) {
    edit(twin, "anna", vec![(Section::Desired, key, Action::Put(value))]);
}

fn rebase(hub: &mut Twin, tag: u8) {
    let record = hub.rebase([tag; 14]).unwrap();
    hub.handle_durable(record.ticket);
}

fn agent(name: u8) -> Twin {
    Twin::new(Actor::new(Side::Agent, [name; 15])).unwrap()
}

/// A session of a hub and an agent until they have nothing more to say.
fn talk(hub: &mut Twin, agent: &mut Twin) {
    let name = agent.actor().hex();
    talk_as(hub, agent, &name);
}

fn save(twin: &mut Twin) -> Vec<u8> {
    let Kept::Replace(bytes) = twin.save().write else { panic!("a whole save") };
    bytes
}

/// A hub from a copy of its file: another replica.
fn restore(copy: &[u8], name: u8) -> Twin {
    Twin::load(Actor::new(Side::Hub, [name; 15]), copy, &[] as &[&[u8]]).unwrap()
}

/// A hub whose last base only `near` has, as it was before that base, and `far`, which was away since and has written.
struct Restored {
    hub: Twin,
    near: Twin,
    far: Twin,
    /// The hub's file before it was restored, and before its last base.
    copy: Vec<u8>,
}

impl Restored {
    fn new(first: Vec<(Section, &str, Action)>) -> Self {
        let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
        let (mut near, mut far) = (agent(2), agent(3));
        put(&mut hub, "a", json!(0));
        put(&mut hub, "other", json!(0));
        talk(&mut hub, &mut near);
        talk(&mut hub, &mut far);
        let copy = save(&mut hub);
        rebase(&mut hub, 7);
        talk(&mut hub, &mut near);
        let mut hub = restore(&copy, 4);
        edit(&mut far, "ben", first);
        talk(&mut hub, &mut far);
        Self { hub, near, far, copy }
    }

    /// The hub takes its base back from the one, and then the other comes.
    fn meet(&mut self) {
        for _ in 0..2 {
            talk(&mut self.hub, &mut self.near);
            assert_eq!(self.hub.generation().number, 1);
            talk(&mut self.hub, &mut self.far);
        }
        talk(&mut self.hub, &mut self.near);
        for twin in [&self.near, &self.far] {
            assert_eq!(twin.heads(), self.hub.heads());
            assert_eq!(twin.conflicts(), self.hub.conflicts());
        }
    }

    fn desired(&self) -> Json {
        self.hub.json(Section::Desired)
    }

    /// All values of a leaf of `desired`, sorted.
    fn values(&self, key: &str) -> Vec<String> {
        let conflicts = self.hub.conflicts();
        let of = conflicts.iter().find(|conflict| conflict.key.as_str() == key).unwrap();
        let mut values: Vec<_> = of.values.iter().map(|leaf| leaf.value.to_string()).collect();
        values.sort();
        values
    }
}

#[test]
fn a_value_that_was_replaced_is_no_conflict_when_its_writer_brings_it_again() {
    let mut all = Restored::new(vec![(Section::Desired, "a", Action::Put(json!(1)))]);
    put(&mut all.hub, "a", json!(2));
    all.meet();
    assert_eq!(all.desired(), json!({"a": 2, "other": 0}));
    assert_eq!(all.hub.conflicts(), []);
    // It also stays so through the next base.
    rebase(&mut all.hub, 8);
    for agent in [&mut all.near, &mut all.far] {
        talk(&mut all.hub, agent);
    }
    assert_eq!((all.desired(), all.far.conflicts()), (json!({"a": 2, "other": 0}), vec![]));
}

#[test]
fn a_value_that_was_deleted_stays_so_when_its_writer_brings_it_again() {
    let mut all = Restored::new(vec![
        (Section::Desired, "new", Action::Put(json!(1))),
        (Section::Tags, "groups", Action::Insert(json!("roof"))),
    ]);
    edit(&mut all.hub, "anna", vec![(Section::Desired, "new", Action::Delete)]);
    edit(&mut all.hub, "anna", vec![(Section::Tags, "groups", Action::Remove(json!("roof")))]);
    // What is kept of it survives a restart.
    talk(&mut all.hub, &mut all.near);
    let file = save(&mut all.hub);
    all.hub = Twin::load(all.hub.actor(), &file, &[] as &[&[u8]]).unwrap();
    all.meet();
    assert_eq!(all.desired(), json!({"a": 0, "other": 0}));
    assert_eq!(all.hub.json(Section::Tags), json!({"groups": {"$set": []}}));
    let told: Vec<_> =
        all.hub.history(&[]).unwrap().into_iter().map(|step| (step.author, step.value)).collect();
    assert!(told.contains(&("anna".to_owned(), Json::Null)), "{told:?}");
}

#[test]
fn a_value_that_was_written_at_once_stands_beside_the_one_that_replaced_an_older() {
    let mut all = Restored::new(vec![(Section::Desired, "a", Action::Put(json!(1)))]);
    put(&mut all.hub, "a", json!(2));
    put(&mut all.far, "a", json!(3));
    put(&mut all.far, "other", json!(1));
    all.meet();
    assert_eq!(all.values("a"), ["2", "3"]);
    assert_eq!(all.desired()["other"], json!(1));
    // A write resolves it, for good.
    put(&mut all.near, "a", json!(4));
    all.meet();
    assert_eq!((all.desired()["a"].clone(), all.hub.conflicts()), (json!(4), vec![]));
}

#[test]
fn what_an_agent_replaced_of_a_restored_hub_stays_replaced_too() {
    let mut all = Restored::new(vec![(Section::Desired, "x", Action::Put(json!(0)))]);
    put(&mut all.hub, "a", json!(1));
    talk(&mut all.hub, &mut all.far);
    put(&mut all.far, "a", json!(2));
    all.meet();
    assert_eq!(all.desired(), json!({"a": 2, "other": 0, "x": 0}));
    assert_eq!(all.far.conflicts(), []);
}

#[test]
fn what_was_replaced_by_one_who_is_away_goes_with_what_replaced_that() {
    let mut all = Restored::new(vec![(Section::Desired, "a", Action::Put(json!(1)))]);
    let mut third = agent(5);
    talk(&mut all.hub, &mut third);
    put(&mut third, "a", json!(2));
    talk(&mut all.hub, &mut third);
    put(&mut all.hub, "a", json!(3));
    all.meet();
    assert_eq!((all.desired()["a"].clone(), all.hub.conflicts()), (json!(3), vec![]));
    talk(&mut all.hub, &mut third);
    all.meet();
    assert_eq!((all.desired()["a"].clone(), all.hub.conflicts()), (json!(3), vec![]));
}

#[test]
fn a_change_that_is_made_again_keeps_its_number_and_is_one_change() {
    let text = |text: &str| Action::Text(text.to_owned());
    let mut all = Restored::new(vec![
        (Section::Notes, "door", text("the key hangs here")),
        (Section::Notes, "roof", text("slippery")),
        (Section::Desired, "a", Action::Put(json!(1))),
    ]);
    edit(
        &mut all.far,
        "ben",
        vec![
            (Section::Notes, "door", text("the red key hangs here")),
            (Section::Notes, "cellar", text("wet")),
            (Section::Desired, "a", Action::Put(json!(2))),
        ],
    );
    talk(&mut all.hub, &mut all.near);
    let before = all.hub.changes();
    talk(&mut all.hub, &mut all.far);
    assert_eq!(all.hub.changes(), before + 2);
    let leaf = all.hub.leaf(Section::Desired, &Key::parse("a").unwrap()).unwrap();
    let origin = leaf.origin.unwrap();
    assert_eq!((leaf.value, origin.actor, origin.number), (json!(2), all.far.actor(), 2));
    let notes = json!({"door": {"$text": "the red key hangs here"}, "roof": {"$text": "slippery"},
        "cellar": {"$text": "wet"}});
    assert_eq!(all.hub.json(Section::Notes), notes);
    put(&mut all.far, "a", json!(3));
    let leaf = all.far.leaf(Section::Desired, &Key::parse("a").unwrap()).unwrap();
    assert_eq!(leaf.origin.unwrap().number, 3);
}

#[test]
fn what_a_hub_makes_again_that_was_restored_twice_is_known_by_who_made_it_first() {
    let mut all = Restored::new(vec![(Section::Desired, "x", Action::Put(json!(0)))]);
    put(&mut all.hub, "a", json!(1));
    edit(&mut all.hub, "anna", vec![(Section::Tags, "n", Action::Add(5))]);
    let first = all.hub.actor();
    talk(&mut all.hub, &mut all.far);
    put(&mut all.far, "a", json!(2));
    let copy = save(&mut all.hub);
    all.hub = restore(&copy, 6);
    put(&mut all.hub, "b", json!(1));
    talk(&mut all.hub, &mut all.near);
    let leaf = all.hub.leaf(Section::Desired, &Key::parse("a").unwrap()).unwrap();
    assert_eq!(leaf.origin.unwrap().actor, first);
    all.meet();
    assert_eq!(all.desired(), json!({"a": 2, "b": 1, "other": 0, "x": 0}));
    assert_eq!(all.hub.conflicts(), []);
    assert_eq!(all.hub.json(Section::Tags), json!({"n": {"$counter": 5}}));
    // One who has forgotten that it was made again does not add it once more.
    let older = std::mem::take(&mut all.copy);
    assert!(older != copy);
    rebase(&mut all.hub, 9);
    talk(&mut all.hub, &mut all.near);
    all.hub = restore(&copy, 8);
    talk(&mut all.hub, &mut all.near);
    assert_eq!(all.hub.json(Section::Tags), json!({"n": {"$counter": 5}}));
}

#[test]
fn an_element_that_two_inserted_outlives_a_removal_by_who_knew_of_one() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let (mut near, mut far) = (agent(2), agent(3));
    let insert = || vec![(Section::Tags, "s", Action::Insert(json!("e")))];
    edit(&mut hub, "", insert());
    talk(&mut hub, &mut far);
    edit(&mut near, "", insert());
    edit(&mut far, "", vec![(Section::Tags, "s", Action::Remove(json!("e")))]);
    talk(&mut hub, &mut near);
    rebase(&mut hub, 1);
    talk(&mut hub, &mut far);
    assert_eq!(hub.json(Section::Tags), json!({"s": {"$set": ["e"]}}));
}

#[test]
fn what_stands_in_conflict_with_a_change_still_does_when_that_is_made_again_twice() {
    let mut hub = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
    let mut far = agent(3);
    put(&mut hub, "a", json!(1));
    put(&mut far, "a", json!(2));
    rebase(&mut hub, 1);
    // It makes its change again, and the hub does not hear of it.
    let (mut at_hub, mut at_far) = (Link::new("far", &hub), Link::new("hub", &far));
    deliver(&at_far.poll(&far).unwrap(), &mut at_hub, &mut hub);
    while let Some(message) = at_hub.poll(&hub) {
        deliver(&message, &mut at_far, &mut far);
    }
    assert_eq!((far.generation().number, far.conflicts().len()), (1, 1));
    rebase(&mut hub, 2);
    talk(&mut hub, &mut far);
    let values: Vec<_> = hub.conflicts()[0].values.iter().map(|leaf| leaf.value.clone()).collect();
    assert!(values.contains(&json!(1)) && values.contains(&json!(2)), "{values:?}");
}

#[test]
fn what_a_hub_replaced_and_forgot_by_one_more_restore_stays_replaced() {
    let mut all = Restored::new(vec![(Section::Desired, "a", Action::Put(json!(1)))]);
    let copy = save(&mut all.hub);
    put(&mut all.hub, "a", json!(2));
    edit(&mut all.hub, "anna", vec![(Section::Desired, "other", Action::Delete)]);
    talk(&mut all.hub, &mut all.near);
    put(&mut all.near, "a", json!(3));
    all.hub = restore(&copy, 6);
    all.meet();
    assert_eq!((all.desired(), all.hub.conflicts()), (json!({"a": 3}), vec![]));
}

#[test]
fn a_change_that_is_there_twice_counts_once() {
    let mut all = Restored::new(vec![(Section::Desired, "x", Action::Put(json!(0)))]);
    put(&mut all.hub, "a", json!(5));
    edit(&mut all.hub, "anna", vec![(Section::Tags, "n", Action::Add(5))]);
    let copy = save(&mut all.hub);
    talk(&mut all.hub, &mut all.near);
    put(&mut all.near, "a", json!(7));
    // It makes again what it does not know to be there.
    all.hub = restore(&copy, 6);
    all.meet();
    assert_eq!(all.hub.json(Section::Tags), json!({"n": {"$counter": 5}}));
    assert_eq!((all.desired(), all.hub.conflicts()), (json!({"a": 7, "other": 0, "x": 0}), vec![]));
    // Also where all of that has to be made again.
    let again = save(&mut all.hub);
    rebase(&mut all.hub, 9);
    talk(&mut all.hub, &mut all.near);
    all.hub = restore(&again, 8);
    talk(&mut all.hub, &mut all.near);
    assert_eq!(all.hub.json(Section::Tags), json!({"n": {"$counter": 5}}));
}
