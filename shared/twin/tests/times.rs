//! When things were: as of a time, and since when, also where clocks of agents are wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it found")]

use serde_json::{Value as Json, json};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Section, Side, Twin, Write};

const HOUR: i64 = 60 * 60 * 1000;
const YEAR: i64 = 365 * 24 * HOUR;
/// When the tests are.
const NOW: i64 = 57 * YEAR;

/// A replica and its file.
struct End {
    twin: Twin,
    whole: Vec<u8>,
    appended: Vec<Vec<u8>>,
}

impl End {
    fn new(side: Side) -> Self {
        let mut twin = Twin::new(Actor::new(side, [7; 15])).unwrap();
        let Write::Replace(whole) = twin.save().write else { panic!("a whole save") };
        twin = Twin::load(twin.actor(), &whole, &[] as &[&[u8]]).unwrap();
        Self { twin, whole, appended: Vec::new() }
    }

    fn take(&mut self, record: tideline_twin::Record) {
        self.twin.handle_durable(record.ticket);
        match record.write {
            Write::Append(bytes) => self.appended.push(bytes),
            Write::Replace(bytes) => (self.whole, self.appended) = (bytes, Vec::new()),
        }
    }

    fn put(&mut self, section: Section, key: &str, value: Json, time_ms: i64) {
        let edit = Edit { section, key: Key::parse(key).unwrap(), action: Action::Put(value) };
        let change = Change { edits: vec![edit], author: "anna".to_owned(), time_ms };
        let record = self.twin.edit(&change).unwrap().unwrap();
        self.take(record);
    }

    fn again(&self) -> Twin {
        Twin::load(self.twin.actor(), &self.whole, &self.appended).unwrap()
    }

    fn since(&self, key: &str) -> Option<i64> {
        let of = |twin: &Twin| {
            let found = twin.delta().into_iter().find(|late| late.key.to_string() == key);
            found.map(|late| late.since_ms.unwrap())
        };
        assert_eq!(of(&self.twin), of(&self.again()), "it is the same after a restart");
        of(&self.twin)
    }
}

/// A session, in which the hub's clock says `now_ms`.
fn talk(hub: &mut End, agent: &mut End, now_ms: i64) {
    let (mut at_hub, mut at_agent) = (Link::new("agent", &hub.twin), Link::new("hub", &agent.twin));
    loop {
        let mut said = false;
        while let Some(message) = at_hub.poll(&hub.twin) {
            said = true;
            let record = at_agent.handle(&mut agent.twin, &message).unwrap();
            record.into_iter().for_each(|record| agent.take(record));
        }
        while let Some(message) = at_agent.poll(&agent.twin) {
            said = true;
            let record = at_hub.handle_at(&mut hub.twin, &message, Some(now_ms)).unwrap();
            record.into_iter().for_each(|record| hub.take(record));
        }
        if !said {
            return;
        }
    }
}

fn at(hub: &End, time_ms: i64) -> Json {
    let found = hub.twin.json_at(Section::Desired, time_ms);
    assert_eq!(found, hub.again().json_at(Section::Desired, time_ms), "it is the same after a restart");
    found
}

#[test]
fn a_clock_that_is_a_year_ahead_hides_nothing_for_a_year() {
    let (mut hub, mut agent) = (End::new(Side::Hub), End::new(Side::Agent));
    hub.put(Section::Desired, "a", json!(1), NOW);
    talk(&mut hub, &mut agent, NOW + 1000);
    agent.put(Section::Desired, "a", json!(2), NOW + YEAR);
    talk(&mut hub, &mut agent, NOW + 3000);
    hub.put(Section::Desired, "b", json!(3), NOW + 4000);
    assert_eq!(at(&hub, NOW + 2999), json!({"a": 1}));
    assert_eq!(at(&hub, NOW + 3000), json!({"a": 2}));
    assert_eq!(at(&hub, NOW + 4000), json!({"a": 2, "b": 3}));
    let steps = hub.twin.history(&[]).unwrap();
    let times: Vec<_> = steps.iter().map(|step| (step.time_ms, step.taken_ms, step.at_ms())).collect();
    let ahead = (NOW + YEAR, Some(NOW + 3000), NOW + 3000);
    assert_eq!(times, [(NOW, None, NOW), ahead, (NOW + 4000, None, NOW + 4000)]);
}

#[test]
fn a_clock_that_has_stopped_in_1970_changes_nothing_of_before() {
    let (mut hub, mut agent) = (End::new(Side::Hub), End::new(Side::Agent));
    hub.put(Section::Desired, "a", json!(1), NOW);
    talk(&mut hub, &mut agent, NOW + 1000);
    agent.put(Section::Desired, "a", json!(2), 5);
    talk(&mut hub, &mut agent, NOW + 2 * HOUR);
    assert_eq!(at(&hub, NOW + HOUR), json!({"a": 1}));
    assert_eq!(at(&hub, NOW + 2 * HOUR), json!({"a": 2}));
    // One that is right, and was away, is believed.
    agent.put(Section::Desired, "a", json!(3), NOW + 3 * HOUR);
    talk(&mut hub, &mut agent, NOW + 9 * HOUR);
    assert_eq!(at(&hub, NOW + 3 * HOUR), json!({"a": 3}));
    // Clocks that differ a little are clocks.
    hub.put(Section::Desired, "a", json!(4), NOW + 10 * HOUR);
    talk(&mut hub, &mut agent, NOW + 10 * HOUR);
    agent.put(Section::Desired, "b", json!(5), NOW + 10 * HOUR - 500);
    talk(&mut hub, &mut agent, NOW + 11 * HOUR);
    assert_eq!(at(&hub, NOW + 10 * HOUR), json!({"a": 4, "b": 5}));
}

#[test]
fn a_difference_is_as_old_as_what_is_wanted_however_often_something_else_is_reported() {
    let (mut hub, mut agent) = (End::new(Side::Hub), End::new(Side::Agent));
    hub.put(Section::Desired, "speed", json!(5), NOW);
    for n in 0..4 {
        agent.put(Section::Reported, "speed", json!(4.8 + f64::from(n) / 100.0), NOW + HOUR + i64::from(n));
        talk(&mut hub, &mut agent, NOW + HOUR + i64::from(n));
        assert_eq!((hub.since("speed"), agent.since("speed")), (Some(NOW), Some(NOW)));
    }
    // What is wanted once more is no newer, nor after history was cut off.
    hub.put(Section::Desired, "speed", json!(5), NOW + 2 * HOUR);
    let record = hub.twin.rebase([3; 14]).unwrap();
    hub.take(record);
    assert_eq!(hub.since("speed"), Some(NOW));
    talk(&mut hub, &mut agent, NOW + 2 * HOUR);
    assert_eq!(agent.since("speed"), Some(NOW));
    agent.put(Section::Reported, "speed", json!(5), NOW + 3 * HOUR);
    talk(&mut hub, &mut agent, NOW + 3 * HOUR);
    assert_eq!((hub.since("speed"), agent.since("speed")), (None, None));
    for n in 4..6 {
        agent.put(Section::Reported, "speed", json!(4), NOW + n * HOUR);
        talk(&mut hub, &mut agent, NOW + n * HOUR);
        assert_eq!((hub.since("speed"), agent.since("speed")), (Some(NOW + 4 * HOUR), Some(NOW + 4 * HOUR)));
    }
    hub.put(Section::Desired, "speed", json!(6), NOW + 6 * HOUR);
    assert_eq!(hub.since("speed"), Some(NOW + 6 * HOUR));
}

#[test]
fn files_of_before_times_were_kept_are_read() {
    let mut hub = End::new(Side::Hub);
    hub.put(Section::Desired, "a", json!(1), NOW);
    let Write::Replace(whole) = hub.twin.save().write else { panic!("a whole save") };
    hub.put(Section::Desired, "b", json!(2), NOW + 1);
    let part = |bytes: &[u8], parts: u64| {
        let mut decoder = minicbor::Decoder::new(bytes);
        // What is none at the end is left out.
        let parts = parts.min(decoder.array().unwrap().unwrap());
        (0..parts).for_each(|_| decoder.skip().unwrap());
        let mut older = bytes[..decoder.position()].to_vec();
        older[0] = 0x80 | u8::try_from(parts).unwrap();
        older
    };
    let last = hub.appended.last().unwrap();
    for (whole_parts, appended_parts) in [(8, 4), (9, 4)] {
        let (whole, appended) = (part(&whole, whole_parts), part(last, appended_parts));
        let twin = Twin::load(hub.twin.actor(), &whole, &[appended]).unwrap();
        assert_eq!(twin.json(Section::Desired), json!({"a": 1, "b": 2}));
        let since: Vec<_> = twin.delta().iter().map(|late| late.since_ms).collect();
        assert_eq!(since, [Some(NOW), Some(NOW + 1)]);
    }
}
