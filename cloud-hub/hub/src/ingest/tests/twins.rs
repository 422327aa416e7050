//! Twins over real sessions: the agent's end is a replica of its own.

mod groups;
mod moved;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tideline_protocol::wire::{DocumentId, GROUPS_ABILITY, TWIN_ABILITY, TwinSync, encode};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Record, Section, Side, Twin};

use super::*;
use crate::twins::{self, Patch, TwinFile};

fn document(name: &str) -> DocumentId {
    name.parse().unwrap()
}

/// An agent with twins, which takes for durable what it writes.
struct Peer {
    agent: Agent,
    twins: BTreeMap<DocumentId, (Twin, Link)>,
    // Bytes of all frames about twins, both ways.
    bytes: usize,
}

impl Peer {
    async fn connect(bench: &Bench, id: &str, identity: &KeyAndCert) -> Self {
        Self::connect_with(bench, id, identity, BTreeMap::new()).await
    }

    async fn connect_with(
        bench: &Bench,
        id: &str,
        identity: &KeyAndCert,
        twins: BTreeMap<DocumentId, Twin>,
    ) -> Self {
        Self::connect_as(bench, (id, identity), twins, &[TWIN_ABILITY, GROUPS_ABILITY]).await
    }

    async fn connect_as(
        bench: &Bench,
        (id, identity): (&str, &KeyAndCert),
        twins: BTreeMap<DocumentId, Twin>,
        abilities: &[&str],
    ) -> Self {
        let Message::Hello(hello) = hello(id, Vec::new()) else { unreachable!() };
        let capabilities = abilities.iter().copied().map(str::to_owned).collect();
        let hello = Message::Hello(Hello { capabilities, ..hello });
        let mut agent = Agent::connect_with(bench, identity, hello).await;
        assert_eq!(agent.welcome().await.capabilities, abilities);
        let twins = twins.into_iter().map(|(document, twin)| {
            let link = Link::new("hub", &twin);
            (document, (twin, link))
        });
        let mut peer = Self { agent, twins: twins.collect(), bytes: 0 };
        peer.say().await;
        peer
    }

    fn twin(&mut self, document: &DocumentId) -> &mut (Twin, Link) {
        self.twins.entry(document.clone()).or_insert_with(|| new_twin(document))
    }

    fn edit(&mut self, name: &str, section: Section, key: &str, value: Json, time_ms: i64) {
        let (twin, _) = self.twin(&document(name));
        edit(twin, section, key, value, time_ms);
    }

    /// Says all that there is to say.
    async fn say(&mut self) {
        let mut said = Vec::new();
        for (document, (twin, link)) in &mut self.twins {
            while let Some(message) = link.poll(twin) {
                said.push(TwinSync { document: document.clone(), message: message.to_bytes() });
            }
        }
        for sync in said {
            let frame = Frame::from(Message::Twin(sync));
            self.bytes += encode(&frame).len();
            self.agent.send(frame.message).await;
        }
    }

    /// Hears one message, and answers.
    async fn hear(&mut self) {
        match self.agent.next().await {
            // It is at that site no more.
            Some(Message::Twin(sync)) if sync.message.is_empty() => drop(self.twins.remove(&sync.document)),
            Some(Message::Twin(sync)) => {
                self.bytes += encode(&Frame::from(Message::Twin(sync.clone()))).len();
                let (twin, link) = self.twin(&sync.document);
                let message = tideline_twin::Message::from_bytes(&sync.message).unwrap();
                let record = link.handle(twin, &message).unwrap();
                durable(twin, record);
                self.say().await;
            }
            Some(_) => {}
            None => panic!("the session ended"),
        }
    }

    async fn until(&mut self, name: &str, enough: impl Fn(&Twin) -> bool) {
        let document = document(name);
        while !self.twins.get(&document).is_some_and(|(twin, _)| enough(twin)) {
            self.hear().await;
        }
    }

    async fn wants(&mut self, name: &str, json: Json) {
        self.until(name, |twin| twin.json(Section::Desired) == json).await;
    }
}

fn new_twin(document: &DocumentId) -> (Twin, Link) {
    let mut entropy = [7; 15];
    entropy.iter_mut().zip(document.to_string().bytes().rev()).for_each(|(to, from)| *to = from);
    let twin = Twin::new(Actor::new(Side::Agent, entropy)).unwrap();
    let link = Link::new("hub", &twin);
    (twin, link)
}

fn durable(twin: &mut Twin, record: Option<Record>) {
    if let Some(record) = record {
        twin.handle_durable(record.ticket);
    }
}

fn edit(twin: &mut Twin, section: Section, key: &str, value: Json, time_ms: i64) {
    let edit = Edit { section, key: Key::parse(key).unwrap(), action: Action::Put(value) };
    let change = Change { edits: vec![edit], author: "on site".to_owned(), time_ms };
    let record = twin.edit(&change).unwrap();
    durable(twin, record);
}

async fn patch(bench: &Bench, name: &str, json: Json) {
    let patch = Patch {
        sections: vec![(Section::Desired, json)],
        of: None,
        author: "anna".to_owned(),
        check: |_, _| Vec::new(),
    };
    twins::patch(&bench.hub, document(name), patch, |_| ()).await.unwrap();
}

async fn at_hub(bench: &Bench, name: &str, section: Section) -> Json {
    twins::look(&bench.hub, document(name), move |twin| twin.json(section)).await.unwrap()
}

/// Waits for the hub, which tells of each change of a twin.
async fn until_at_hub(bench: &Bench, name: &str, section: Section, json: Json) {
    let mut newest = bench.hub.live.watch();
    let wait = async {
        loop {
            newest.mark_unchanged();
            if at_hub(bench, name, section).await == json {
                return;
            }
            newest.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to the hub in time");
}

fn counted(bench: &Bench, name: &str) -> u64 {
    let page = crate::telemetry::page(&bench.hub.counters, 0, (0, 0), &bench.hub.store.metrics());
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("tideline_hub_twin_{name} ")));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_change_at_the_hub_reaches_a_connected_agent_and_its_confirmation_comes_back() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    patch(&bench, "pump-7", json!({"mode": "eco"})).await;
    let mut peer = Peer::connect(&bench, "pump-7", &identity).await;
    peer.wants("pump-7", json!({"mode": "eco"})).await;
    for speed in 1..=5 {
        patch(&bench, "pump-7", json!({"motor": {"speed": speed}})).await;
        peer.wants("pump-7", json!({"mode": "eco", "motor": {"speed": speed}})).await;
    }
    let before = peer.bytes;
    patch(&bench, "pump-7", json!({"motor": {"speed": 12}})).await;
    peer.wants("pump-7", json!({"mode": "eco", "motor": {"speed": 12}})).await;
    let bytes = peer.bytes - before;
    assert!(bytes <= 400, "{bytes} bytes for a small change and its confirmation");
    println!("a small change and its confirmation take {bytes} bytes of frames");
    let agreed = async {
        while !twins::look(&bench.hub, document("pump-7"), |twin| twin.is_agreed("pump-7")).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, agreed).await.expect("the hub hears that it has arrived");
}

#[tokio::test]
async fn what_a_device_reports_is_confirmed_when_it_is_on_the_hubs_disk() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut peer = Peer::connect(&bench, "pump-7", &identity).await;
    peer.edit("pump-7", Section::Reported, "motor/speed", json!(3), 5);
    // A field device that the hub has not heard of yet.
    peer.edit("valve-1", Section::Tags, "floor", json!("2"), 6);
    peer.say().await;
    for name in ["pump-7", "valve-1"] {
        peer.until(name, |twin| twin.unconfirmed() == 0).await;
    }
    // As a kill would leave the file.
    let copy = bench._dir.path().join("copy.redb");
    bench.hub.twins.file().copy_to(&copy).unwrap();
    let copy = TwinFile::open(&copy).unwrap();
    let found = copy.find(&document("pump-7")).unwrap().unwrap();
    let twin = Twin::load(Actor::new(Side::Hub, copy.actor()), &found.whole, &found.since).unwrap();
    assert_eq!(twin.json(Section::Reported), json!({"motor": {"speed": 3}}));
    assert_eq!(at_hub(&bench, "valve-1", Section::Tags).await, json!({"floor": "2"}));
    let record = bench.hub.metadata.find::<DeviceRecord>("valve-1").unwrap().unwrap();
    assert_eq!(record.agent, "pump-7");
    assert_eq!(bench.hub.metadata.devices_of("pump-7"), ["pump-7", "valve-1"]);
}

#[tokio::test]
async fn writes_of_both_ends_at_once_are_a_conflict_with_its_authors_at_both() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let (mut away, _) = new_twin(&document("pump-7"));
    edit(&mut away, Section::Desired, "speed", json!(3), 5);
    edit(&mut away, Section::Notes, "site", json!("wet"), 6);
    patch(&bench, "pump-7", json!({"speed": 4})).await;
    let away = [(document("pump-7"), away)].into();
    let mut peer = Peer::connect_with(&bench, "pump-7", &identity, away).await;
    peer.until("pump-7", |twin| !twin.conflicts().is_empty()).await;
    until_at_hub(&bench, "pump-7", Section::Notes, json!({"site": "wet"})).await;
    let found = twins::look(&bench.hub, document("pump-7"), Twin::conflicts).await.unwrap();
    let (there, _) = &peer.twins[&document("pump-7")];
    assert_eq!(found, there.conflicts());
    let mut authors: Vec<_> =
        found[0].values.iter().map(|leaf| leaf.origin.as_ref().unwrap().author.clone()).collect();
    authors.sort();
    assert_eq!(authors, ["anna", "on site"]);
    patch(&bench, "pump-7", json!({"speed": 5})).await;
    peer.until("pump-7", |twin| twin.conflicts().is_empty()).await;
    assert_eq!(at_hub(&bench, "pump-7", Section::Desired).await, json!({"speed": 5}));
}

#[tokio::test]
async fn what_an_agent_may_not_say_costs_the_message_until_it_is_too_much() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    bench.register("valve-9", "other", "");
    let mut peer = Peer::connect(&bench, "pump-7", &identity).await;
    let (mut foreign, mut link) = new_twin(&document("valve-9"));
    edit(&mut foreign, Section::Reported, "a", json!(1), 5);
    let state = link.poll(&foreign).unwrap().to_bytes();
    let (_, mut honest) = new_twin(&document("pump-7"));
    let (other, _) = new_twin(&document("pump-7"));
    let good = honest.poll(&other).unwrap().to_bytes();
    for (name, message) in [
        ("pump-7", b"garbage".to_vec()),
        ("pump-7", Vec::new()),
        ("valve-9", state.clone()),
        ("site/hall", state.clone()),
        ("_write.x", state.clone()),
        ("pump-7", vec![0xff; 1 << 20]),
    ] {
        peer.agent.send(Message::Twin(TwinSync { document: document(name), message })).await;
    }
    // The session goes on.
    peer.agent.send(Message::Twin(TwinSync { document: document("pump-7"), message: good })).await;
    peer.edit("pump-7", Section::Reported, "a", json!(1), 5);
    peer.say().await;
    peer.until("pump-7", |twin| twin.unconfirmed() == 0).await;
    assert_eq!(counted(&bench, "messages_refused_total"), 5);
    assert!(!bench.hub.twins.file().has(&document("site/hall")).unwrap());
    assert_eq!(at_hub(&bench, "valve-9", Section::Reported).await, json!({}));
    assert!(!bench.hub.twins.file().has(&document("valve-9")).unwrap());
    for n in 0..400_u32 {
        let message = n.to_be_bytes().to_vec();
        let frame = Frame::from(Message::Twin(TwinSync { document: document("pump-7"), message }));
        if peer.agent.sender.send(&frame).await.is_err() {
            break;
        }
    }
    let (code, text) = peer.agent.refusal_text().await;
    assert_eq!(code, RefuseCode::Protocol);
    assert!(text.contains("200 messages about twins"), "{text}");
    Peer::connect(&bench, "pump-7", &identity).await;
}

#[tokio::test]
async fn a_device_that_moves_takes_its_twin_to_the_other_agent() {
    let bench = Bench::start();
    let (old, new) = (bench.enrol("old"), bench.enrol("new"));
    bench.register("valve-1", "old", "");
    patch(&bench, "valve-1", json!({"open": 1})).await;
    let mut first = Peer::connect(&bench, "old", &old).await;
    first.wants("valve-1", json!({"open": 1})).await;
    let mut second = Peer::connect(&bench, "new", &new).await;
    put_behind(&bench, "valve-1", "new").await;
    // Nobody has written since.
    second.wants("valve-1", json!({"open": 1})).await;
    patch(&bench, "valve-1", json!({"open": 2})).await;
    second.wants("valve-1", json!({"open": 2})).await;
    // The old one is told nothing of it, and may say nothing.
    first.edit("valve-1", Section::Reported, "open", json!(1), 5);
    first.edit("old", Section::Reported, "up", json!(true), 6);
    first.say().await;
    first.until("old", |twin| twin.unconfirmed() == 0).await;
    let (there, _) = &first.twins[&document("valve-1")];
    assert_eq!((there.json(Section::Desired), there.unconfirmed()), (json!({"open": 1}), 1));
    assert_eq!(at_hub(&bench, "valve-1", Section::Reported).await, json!({}));
    assert_eq!(bench.hub.metadata.devices_of("old"), ["old"]);
}

async fn put_behind(bench: &Bench, device: &str, agent: &str) {
    let marks = axum::Json(serde_json::from_value(json!({ "agent": agent })).unwrap());
    let path = axum::extract::Path(device.to_owned());
    let moved =
        crate::api::marks::patch(axum::extract::State(Arc::clone(&bench.hub)), path, marks).await.unwrap();
    assert_eq!(moved.0.agent, agent);
}

/// Says of an agent's own twin what the hub confirms when it has heard all that was said before.
async fn until_heard(peer: &mut Peer, own: &str, time_ms: i64) {
    peer.edit(own, Section::Reported, "at", json!(time_ms), time_ms);
    peer.say().await;
    peer.until(own, |twin| twin.unconfirmed() == 0).await;
}

#[tokio::test]
async fn what_was_written_on_site_goes_by_itself_when_the_device_is_its_agents_again() {
    let bench = Bench::start();
    let identity = bench.enrol("old");
    bench.enrol("new");
    // Of one the hub knows nothing, the other it has spoken of.
    bench.register("valve-1", "old", "");
    bench.register("valve-2", "new", "");
    patch(&bench, "valve-1", json!({"open": 1})).await;
    let mut peer = Peer::connect(&bench, "old", &identity).await;
    peer.wants("valve-1", json!({"open": 1})).await;
    until_heard(&mut peer, "old", 1).await;
    put_behind(&bench, "valve-1", "new").await;
    for name in ["valve-1", "valve-2"] {
        peer.edit(name, Section::Desired, "open", json!(2), 5);
    }
    until_heard(&mut peer, "old", 6).await;
    assert_eq!(at_hub(&bench, "valve-1", Section::Desired).await, json!({"open": 1}));
    assert_eq!(at_hub(&bench, "valve-2", Section::Desired).await, json!({}));
    for name in ["valve-1", "valve-2"] {
        put_behind(&bench, name, "old").await;
        // Nobody has written since.
        peer.until(name, |twin| twin.unconfirmed() == 0).await;
        assert_eq!(at_hub(&bench, name, Section::Desired).await, json!({"open": 2}));
    }
}

#[tokio::test]
async fn what_was_written_on_site_goes_by_itself_when_the_device_is_registered() {
    let config = Config { register_devices: false, ..Config::default() };
    let bench = Bench::with(config);
    let identity = bench.enrol("gate");
    let mut peer = Peer::connect(&bench, "gate", &identity).await;
    peer.edit("valve-1", Section::Desired, "open", json!(2), 5);
    until_heard(&mut peer, "gate", 6).await;
    assert_eq!(at_hub(&bench, "valve-1", Section::Desired).await, json!({}));
    let wanted = axum::Json(serde_json::from_value(json!({"id": "valve-1", "agent": "gate"})).unwrap());
    let added = crate::api::devices::add(axum::extract::State(Arc::clone(&bench.hub)), wanted).await;
    assert_eq!(added.unwrap().0, axum::http::StatusCode::CREATED);
    peer.until("valve-1", |twin| twin.unconfirmed() == 0).await;
    assert_eq!(at_hub(&bench, "valve-1", Section::Desired).await, json!({"open": 2}));
}

async fn place(bench: &Bench, device: &str, site: &str) {
    let marks = axum::Json(serde_json::from_value(json!({ "site": site })).unwrap());
    let path = axum::extract::Path(device.to_owned());
    let _placed =
        crate::api::marks::patch(axum::extract::State(Arc::clone(&bench.hub)), path, marks).await.unwrap();
}

#[tokio::test]
async fn agents_with_devices_at_a_site_share_its_document_until_they_leave() {
    let bench = Bench::start();
    let (a, b, c) = (bench.enrol("a"), bench.enrol("b"), bench.enrol("c"));
    bench.register("a1", "a", "");
    place(&bench, "a1", "hall").await;
    patch(&bench, "site/hall", json!({"heating": 20})).await;
    let mut first = Peer::connect(&bench, "a", &a).await;
    first.wants("site/hall", json!({"heating": 20})).await;
    // Into the site while it is connected.
    let mut second = Peer::connect(&bench, "b", &b).await;
    place(&bench, "b", "hall").await;
    let own = Twin::new(Actor::new(Side::Agent, [9; 15])).unwrap();
    let link = Link::new("hub", &own);
    second.twins.insert(document("site/hall"), (own, link));
    second.wants("site/hall", json!({"heating": 20})).await;
    // What one writes the others get, as what the hub writes.
    first.edit("site/hall", Section::Notes, "key", json!("at the gate"), 5);
    first.say().await;
    second.until("site/hall", |twin| twin.json(Section::Notes) == json!({"key": "at the gate"})).await;
    patch(&bench, "site/hall", json!({"night": true})).await;
    for peer in [&mut first, &mut second] {
        peer.wants("site/hall", json!({"heating": 20, "night": true})).await;
    }
    let agreed = async {
        let both = |twin: &Twin| twin.is_agreed("a") && twin.is_agreed("b");
        while !twins::look(&bench.hub, document("site/hall"), both).await.unwrap() {
            first.say().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, agreed).await.expect("the hub hears that it has arrived at both");
    // The last device leaves, and with it the agent; what it writes then is not taken.
    place(&bench, "a1", "").await;
    while first.twins.contains_key(&document("site/hall")) {
        first.hear().await;
    }
    first.edit("site/hall", Section::Desired, "heating", json!(30), 6);
    first.say().await;
    while first.twins.contains_key(&document("site/hall")) {
        first.hear().await;
    }
    // One that was never there is told nothing.
    let mut third = Peer::connect(&bench, "c", &c).await;
    third.edit("c", Section::Reported, "up", json!(true), 6);
    third.say().await;
    third.until("c", |twin| twin.unconfirmed() == 0).await;
    assert!(!third.twins.contains_key(&document("site/hall")));
    let there = at_hub(&bench, "site/hall", Section::Desired).await;
    assert_eq!(there, json!({"heating": 20, "night": true}));
}

#[tokio::test]
async fn an_agent_that_was_away_during_a_rebase_keeps_what_it_wrote() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut peer = Peer::connect(&bench, "pump-7", &identity).await;
    peer.edit("pump-7", Section::Reported, "n", json!(0), 5);
    peer.say().await;
    peer.until("pump-7", |twin| twin.unconfirmed() == 0).await;
    let Peer { agent, twins, .. } = peer;
    drop(agent);
    let mut twins: BTreeMap<_, _> = twins.into_iter().map(|(document, (twin, _))| (document, twin)).collect();
    edit(twins.get_mut(&document("pump-7")).unwrap(), Section::Reported, "n", json!(1), 6);
    // Another replica of the device makes the document long within few messages.
    let other = Twin::new(Actor::new(Side::Agent, [9; 15])).unwrap();
    let other = [(document("pump-7"), other)].into();
    let mut peer = Peer::connect_with(&bench, "pump-7", &identity, other).await;
    peer.until("pump-7", |twin| twin.json(Section::Reported) == json!({"n": 0})).await;
    let many = i64::try_from(tideline_twin::limits::REBASE_AFTER).unwrap() + 100;
    for n in 0..many {
        peer.edit("pump-7", Section::Tags, "t", json!(n), 7 + n);
    }
    peer.say().await;
    peer.until("pump-7", |twin| twin.generation().number == 1).await;
    peer.until("pump-7", |twin| twin.unconfirmed() == 0).await;
    assert_eq!(counted(&bench, "rebases_total"), 1);
    drop(peer);
    let mut peer = Peer::connect_with(&bench, "pump-7", &identity, twins).await;
    peer.until("pump-7", |twin| twin.generation().number == 1 && twin.unconfirmed() == 0).await;
    until_at_hub(&bench, "pump-7", Section::Reported, json!({"n": 1})).await;
    assert_eq!(at_hub(&bench, "pump-7", Section::Tags).await, json!({"t": many - 1}));
    // What was before is kept.
    let (hub, document) = (&bench.hub, document("pump-7"));
    assert_eq!(hub.twins.chapters(&document, 0).unwrap(), [0, 1]);
    let before = hub.twins.chapter(&document, 0).unwrap().unwrap();
    assert!(before.steps.len() > tideline_twin::limits::REBASE_AFTER, "{}", before.steps.len());
    let then = hub.twins.look_at(&document, 12, |twin| twin.json_at(Section::Tags, 12)).unwrap();
    assert_eq!(then, json!({"t": 5}));
    assert_eq!(hub.twins.chapters(&document, hub.now_ms() + 1).unwrap(), [1]);
}

#[tokio::test]
async fn what_a_clock_wrote_that_is_a_year_ahead_is_of_when_the_hub_took_it() {
    const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut peer = Peer::connect(&bench, "pump-7", &identity).await;
    let began_ms = bench.hub.now_ms();
    let ahead_ms = began_ms + YEAR_MS;
    peer.edit("pump-7", Section::Reported, "n", json!(1), ahead_ms);
    peer.say().await;
    peer.until("pump-7", |twin| twin.unconfirmed() == 0).await;
    let (hub, document) = (&bench.hub, document("pump-7"));
    let now_ms = hub.now_ms();
    let now = hub.twins.look_at(&document, now_ms, |twin| twin.json_at(Section::Reported, now_ms)).unwrap();
    assert_eq!(now, json!({"n": 1}));
    let chapter = hub.twins.chapter(&document, 0).unwrap().unwrap();
    let step = chapter.steps.first().unwrap();
    assert_eq!(step.time_ms, ahead_ms);
    assert!((began_ms..=now_ms).contains(&step.taken_ms.unwrap()), "{step:?}");
    assert!(counted(&bench, "bytes_in_total") > 0 && counted(&bench, "bytes_out_total") > 0);
}
