//! The worker by itself, against a hub's replicas and a disk that loses its power at any moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use tideline_protocol::model::{DeviceId, Epoch, SiteId};
use tideline_protocol::wire::{DeviceCard, TwinSync};
use tideline_spool::testing::CrashBackend;
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Message, Section, Side};

use super::*;
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::status::Board;
use crate::twin::Kin;

fn document(device: &str) -> DocumentId {
    DocumentId::Device(DeviceId::parse(device).unwrap())
}

fn change(key: &str, action: Action, author: &str) -> Change {
    let edit = Edit { section: Section::Desired, key: Key::parse(key).unwrap(), action };
    Change { edits: vec![edit], author: author.to_owned(), time_ms: 1 }
}

/// A hub's end: a replica of each document, in memory.
struct Hub {
    twins: BTreeMap<DocumentId, (Twin, Link)>,
    refused: u32,
}

impl Hub {
    fn new() -> Self {
        Self { twins: BTreeMap::new(), refused: 0 }
    }

    fn twin(&mut self, document: &DocumentId) -> &mut (Twin, Link) {
        self.twins.entry(document.clone()).or_insert_with(|| {
            let twin = Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap();
            let link = Link::new("agent", &twin);
            (twin, link)
        })
    }

    fn put(&mut self, document: &DocumentId, key: &str, value: Json) {
        let (twin, _) = self.twin(document);
        let record = twin.edit(&change(key, Action::Put(value), "anna")).unwrap().unwrap();
        twin.handle_durable(record.ticket);
    }

    fn rebase(&mut self, document: &DocumentId, tag: u8) {
        let (twin, _) = self.twin(document);
        let record = twin.rebase([tag; 14]).unwrap();
        twin.handle_durable(record.ticket);
    }

    fn begin(&mut self) {
        for (twin, link) in self.twins.values_mut() {
            *link = Link::new("agent", twin);
        }
    }

    fn take(&mut self, sync: &TwinSync) {
        let (twin, link) = self.twin(&sync.document);
        match link.handle(twin, &Message::from_bytes(&sync.message).unwrap()) {
            Ok(record) => record.into_iter().for_each(|record| twin.handle_durable(record.ticket)),
            Err(_) => self.refused += 1,
        }
    }

    fn say(&mut self) -> Vec<TwinSync> {
        let mut said = Vec::new();
        for (document, (twin, link)) in &mut self.twins {
            while let Some(message) = link.poll(twin) {
                said.push(TwinSync { document: document.clone(), message: message.to_bytes() });
            }
        }
        said
    }
}

/// An agent's worker with its disk.
struct Agent {
    worker: Worker,
    disk: Arc<Mutex<CrashBackend>>,
    cards: Cards,
    epoch: Arc<AtomicU8>,
    board: Board,
    session: u64,
}

impl Agent {
    fn on(disk: CrashBackend) -> Self {
        let (disk, cards) = (Arc::new(Mutex::new(disk)), Cards::default());
        let (epoch, board) = (Arc::new(AtomicU8::new(1)), Board::default());
        let now = Arc::clone(&epoch);
        let parts = Parts {
            path: "".into(),
            epoch: Box::new(move || Epoch::from_bytes([now.load(Ordering::Relaxed); 16])),
            kin: Kin { own: DeviceId::parse("pump-7").unwrap(), cards: cards.seen(), known: Arc::default() },
            board: board.clone(),
            clock: AgentClock::default(),
        };
        let from = Arc::clone(&disk);
        let open = move || {
            let backend = from.lock().unwrap().clone();
            TwinFile::of(redb::Database::builder().create_with_backend(backend)?)
        };
        let (say, change) = (watch::channel(0).0, watch::channel(0).0);
        let worker = Worker::open_with(parts, Box::new(open), say, change).unwrap();
        Self { worker, disk, cards, epoch, board, session: 0 }
    }

    fn image(&self) -> CrashBackend {
        self.disk.lock().unwrap().image()
    }

    fn edit(&mut self, document: &DocumentId, key: &str, action: Action) -> Result<Edited, TwinError> {
        let (answer, mut wait) = oneshot::channel();
        let change = change(key, action, "ben");
        self.worker.carry_out(Request::Edit(document.clone(), Box::new(|_| Ok(change)), answer));
        self.worker.finish();
        wait.try_recv().unwrap()
    }

    fn put(&mut self, key: &str, value: Json) {
        self.edit(&document("pump-7"), key, Action::Put(value)).unwrap();
    }

    fn json(&mut self, document: &DocumentId) -> Json {
        let (answer, mut wait) = oneshot::channel();
        let look = move |twin: Result<&Twin, TwinError>| {
            let _ = answer.send(twin.unwrap().json(Section::Desired));
        };
        self.worker.carry_out(Request::Look(document.clone(), Box::new(look)));
        self.worker.finish();
        wait.try_recv().unwrap()
    }

    fn begin(&mut self) {
        let (answer, mut wait) = oneshot::channel();
        self.worker.carry_out(Request::Begin(answer));
        self.worker.finish();
        self.session = wait.try_recv().unwrap();
    }

    fn receive(&mut self, sync: TwinSync) {
        self.worker.carry_out(Request::Receive(self.session, sync));
    }

    fn take(&mut self) -> Vec<TwinSync> {
        let (answer, mut wait) = oneshot::channel();
        self.worker.carry_out(Request::Take(self.session, answer));
        self.worker.finish();
        wait.try_recv().unwrap()
    }

    fn finish(&mut self) {
        self.worker.finish();
    }

    fn rest(&mut self) {
        self.worker.carry_out(Request::Rest);
        self.worker.finish();
    }
}

/// A session of both, until neither has anything to say.
fn talk(hub: &mut Hub, agent: &mut Agent) {
    hub.begin();
    agent.begin();
    for _ in 0..200 {
        let said = agent.take();
        said.iter().for_each(|sync| hub.take(sync));
        let answers = hub.say();
        if said.is_empty() && answers.is_empty() {
            return;
        }
        answers.into_iter().for_each(|sync| agent.receive(sync));
        agent.finish();
    }
    panic!("they never have done");
}

#[test]
fn what_was_answered_or_told_survives_a_power_cut_at_any_moment() {
    let (mut hub, mut agent, own) = (Hub::new(), Agent::on(CrashBackend::new()), document("pump-7"));
    for n in 0..150 {
        agent.put(&format!("at/{}", n % 7), json!(n));
        let mut restored = Agent::on(agent.image());
        assert_eq!(restored.json(&own)["at"][(n % 7).to_string()], json!(n), "it was answered");
        if n % 10 == 0 {
            hub.put(&own, "hub", json!(n));
            talk(&mut hub, &mut agent);
            let mut restored = Agent::on(agent.image());
            // Whoever was told of a change need not be told of it again.
            assert_eq!(restored.json(&own), hub.twin(&own).0.json(Section::Desired));
            talk(&mut hub, &mut restored);
            assert_eq!(hub.refused, 0);
            agent = restored;
        }
        if n == 77 {
            hub.rebase(&own, 1);
        }
    }
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(&own), hub.twin(&own).0.json(Section::Desired));
    assert_eq!(agent.board.read().twins.unconfirmed, 0);
}

#[test]
fn what_cannot_be_written_is_answered_so_and_told_to_nobody() {
    let (mut hub, mut agent, own) = (Hub::new(), Agent::on(CrashBackend::new()), document("pump-7"));
    agent.put("a", json!(1));
    talk(&mut hub, &mut agent);
    agent.disk.lock().unwrap().fail_writes();
    assert!(matches!(agent.edit(&own, "a", Action::Put(json!(2))), Err(TwinError::File(_))));
    assert_eq!(agent.take(), []);
    let restarted = agent.disk.lock().unwrap().crash();
    *agent.disk.lock().unwrap() = restarted;
    assert_eq!(agent.json(&own), json!({"a": 1}));
    agent.put("a", json!(3));
    talk(&mut hub, &mut agent);
    assert_eq!((hub.twin(&own).0.json(Section::Desired), hub.refused), (json!({"a": 3}), 0));
}

#[test]
fn two_agents_on_one_image_both_keep_what_they_wrote() {
    let (mut hub, mut first, own) = (Hub::new(), Agent::on(CrashBackend::new()), document("pump-7"));
    first.put("common", json!(1));
    talk(&mut hub, &mut first);
    first.edit(&own, "starts", Action::Add(5)).unwrap();
    let mut second = Agent::on(first.image());
    for (agent, key) in [(&mut first, "first"), (&mut second, "second")] {
        agent.put(key, json!(key));
        agent.edit(&own, "starts", Action::Add(1)).unwrap();
    }
    talk(&mut hub, &mut first);
    talk(&mut hub, &mut second);
    talk(&mut hub, &mut first);
    let expected = json!({"common": 1, "first": "first", "second": "second", "starts": {"$counter": 7}});
    assert_eq!(hub.twin(&own).0.json(Section::Desired), expected);
    assert_eq!((first.json(&own), second.json(&own)), (expected.clone(), expected));
    assert_eq!((first.board.read().twins.renamed, second.board.read().twins.renamed), (0, 1));
    // Also after a restart it goes by its own name.
    let mut second = Agent::on(second.image());
    second.put("second", json!(2));
    first.put("first", json!(2));
    let refused = hub.refused;
    talk(&mut hub, &mut second);
    talk(&mut hub, &mut first);
    assert_eq!(hub.refused, refused);
    assert_eq!(hub.twin(&own).0.json(Section::Desired)["second"], json!(2));
}

#[test]
fn a_spool_that_begins_another_epoch_gives_the_replicas_another_name() {
    let (mut hub, mut agent, own) = (Hub::new(), Agent::on(CrashBackend::new()), document("pump-7"));
    agent.put("a", json!(1));
    let name = |agent: &mut Agent| agent.worker.replicas.twin(&own, &mut Round::default()).unwrap().actor();
    let before = name(&mut agent);
    assert_eq!(name(&mut Agent::on(agent.image())), before);
    agent.epoch.store(2, Ordering::Relaxed);
    agent.put("b", json!(2));
    let after = name(&mut agent);
    assert_ne!(after, before);
    let mut later = Agent::on(agent.image());
    later.epoch.store(2, Ordering::Relaxed);
    assert_ne!(name(&mut later), before);
    talk(&mut hub, &mut agent);
    assert_eq!(hub.twin(&own).0.json(Section::Desired), json!({"a": 1, "b": 2}));
    assert_eq!(hub.refused, 0);
}

#[test]
fn a_name_is_kept_over_restarts_within_an_epoch() {
    let (agent, own) = (Agent::on(CrashBackend::new()), document("pump-7"));
    let mut agent = agent;
    let mut names = std::collections::BTreeSet::new();
    for n in 0..5 {
        agent.put("n", json!(n));
        names.insert(agent.worker.replicas.twin(&own, &mut Round::default()).unwrap().actor().hex());
        agent = Agent::on(agent.image());
    }
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_message_about_what_is_not_here_costs_the_message_until_the_device_is_known() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let meter = document("meter-1");
    hub.put(&meter, "limit", json!(5));
    talk(&mut hub, &mut agent);
    let site = DocumentId::Site(SiteId::parse("hall").unwrap());
    for sync in [
        TwinSync { document: site, message: vec![] },
        TwinSync { document: document("pump-7"), message: vec![0xff; 100] },
        TwinSync { document: document("pump-7"), message: vec![] },
    ] {
        agent.receive(sync);
    }
    agent.finish();
    let shown = agent.board.read().twins;
    assert_eq!((shown.documents, shown.refused), (0, 3));
    assert!(matches!(agent.edit(&meter, "a", Action::Put(json!(1))), Err(TwinError::NoDevice(_))));

    assert!(agent.cards.tell(DeviceCard::new(DeviceId::parse("meter-1").unwrap())));
    agent.worker.carry_out(Request::Met);
    agent.finish();
    for _ in 0..10 {
        agent.take().iter().for_each(|sync| hub.take(sync));
        hub.say().into_iter().for_each(|sync| agent.receive(sync));
        agent.finish();
    }
    assert_eq!(agent.json(&meter), json!({"limit": 5}));
}

#[test]
fn a_sites_document_is_kept_as_long_as_the_hub_says_that_the_agent_is_there() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let site = DocumentId::Site(SiteId::parse("hall").unwrap());
    let put = Action::Put(json!(1));
    assert!(matches!(agent.edit(&site, "a", put.clone()), Err(TwinError::NotShared(_))));
    hub.put(&site, "heating", json!(20));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(&site), json!({"heating": 20}));
    agent.edit(&site, "night", put.clone()).unwrap();
    talk(&mut hub, &mut agent);
    assert_eq!(hub.twin(&site).0.json(Section::Desired), json!({"heating": 20, "night": 1}));
    // Left, it is gone from the file too, with what nobody has heard of.
    agent.edit(&site, "late", put.clone()).unwrap();
    agent.begin();
    agent.receive(TwinSync { document: site.clone(), message: vec![] });
    agent.finish();
    assert!(matches!(agent.edit(&site, "a", put.clone()), Err(TwinError::NotShared(_))));
    assert!(agent.take().is_empty());
    let mut agent = Agent::on(agent.image());
    assert!(matches!(agent.edit(&site, "a", put), Err(TwinError::NotShared(_))));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(&site), json!({"heating": 20, "night": 1}));
    assert_eq!(agent.board.read().twins.refused, 0);
}

#[test]
fn what_is_written_to_a_site_that_the_agent_comes_back_to_arrives() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let site = DocumentId::Site(SiteId::parse("hall").unwrap());
    hub.put(&site, "heating", json!(20));
    talk(&mut hub, &mut agent);
    agent.edit(&site, "night", Action::Put(json!(1))).unwrap();
    talk(&mut hub, &mut agent);
    // An edit and the word that the site is left come at once: it was made, and is answered so.
    let (answer, mut wait) = oneshot::channel();
    let make = |_: &Twin| Ok(change("late", Action::Put(json!(1)), "ben"));
    agent.worker.carry_out(Request::Edit(site.clone(), Box::new(make), answer));
    agent.receive(TwinSync { document: site.clone(), message: vec![] });
    assert!(wait.try_recv().unwrap().unwrap().changed);
    // Also after a power cut.
    let mut agent = Agent::on(agent.image());
    hub.begin();
    agent.begin();
    // It writes as soon as it may, before it has heard what it wrote the last time.
    agent.receive(hub.say().remove(0));
    agent.edit(&site, "again", Action::Put(json!(2))).unwrap();
    talk(&mut hub, &mut agent);
    let all = json!({"heating": 20, "night": 1, "again": 2});
    assert_eq!((hub.twin(&site).0.json(Section::Desired), agent.json(&site)), (all.clone(), all));
    assert_eq!((hub.refused, agent.board.read().twins.refused), (0, 0));
}

#[test]
fn a_groups_document_is_kept_while_a_device_is_in_it_and_what_goes_unsent_with_it_is_told() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let (site, group) = ("site/hall".parse().unwrap(), "group/hall".parse().unwrap());
    let put = |value| Action::Put(json!(value));
    assert!(matches!(agent.edit(&group, "speed", put(1)), Err(TwinError::NotShared(_))));
    hub.put(&group, "speed", json!(5));
    hub.put(&site, "speed", json!(6));
    talk(&mut hub, &mut agent);
    // A site and a group of one name are two documents, and neither hides the other.
    assert_eq!((agent.json(&group), agent.json(&site)), (json!({"speed": 5}), json!({"speed": 6})));
    agent.edit(&group, "night", put(1)).unwrap();
    talk(&mut hub, &mut agent);
    assert_eq!(hub.twin(&group).0.json(Section::Desired), json!({"speed": 5, "night": 1}));
    assert_eq!(agent.board.read().twins.lost, 0);
    agent.edit(&group, "late", put(1)).unwrap();
    agent.edit(&group, "later", put(2)).unwrap();
    agent.begin();
    agent.receive(TwinSync { document: group.clone(), message: vec![] });
    agent.finish();
    let shown = agent.board.read().twins;
    let told = "group/hall: desired/later by \"ben\", desired/late by \"ben\"";
    assert_eq!((shown.lost, shown.last_lost.as_deref()), (2, Some(told)));
    assert!(matches!(agent.edit(&group, "speed", put(1)), Err(TwinError::NotShared(_))));
    assert_eq!(agent.json(&site), json!({"speed": 6}));
}

#[test]
fn an_agent_keeps_the_documents_of_so_many_groups_and_refuses_more() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    for n in 0..70 {
        hub.put(&format!("group/g{n:02}").parse().unwrap(), "a", json!(n));
    }
    hub.put(&"site/hall".parse().unwrap(), "a", json!(1));
    talk(&mut hub, &mut agent);
    assert_eq!(agent.json(&"group/g63".parse().unwrap()), json!({"a": 63}));
    assert_eq!(agent.json(&"site/hall".parse().unwrap()), json!({"a": 1}));
    let refused = agent.edit(&"group/g64".parse().unwrap(), "a", Action::Put(json!(1)));
    assert!(matches!(refused, Err(TwinError::NotShared(_))));
    let shown = agent.board.read().twins;
    assert_eq!(shown.documents, 65);
    let last = shown.last_refusal.unwrap();
    assert!(last.ends_with("the agent keeps the documents of 64 groups already"), "{last}");
}

#[test]
fn few_replicas_are_in_memory_and_output_is_bounded() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let devices: Vec<_> = (0..100).map(|n| format!("meter-{n}")).collect();
    for device in &devices {
        assert!(agent.cards.tell(DeviceCard::new(DeviceId::parse(device).unwrap())));
        agent.edit(&document(device), "a", Action::Put(json!(device))).unwrap();
    }
    agent.begin();
    let said = agent.take();
    assert!(said.len() < devices.len(), "{}", said.len());
    talk(&mut hub, &mut agent);
    for device in &devices {
        assert_eq!(hub.twin(&document(device)).0.json(Section::Desired), json!({"a": device}));
    }
    let shown = agent.board.read().twins;
    assert!(shown.in_memory <= 16 && shown.documents == 100, "{shown:?}");
    assert!(shown.agreed_ms.is_some() && shown.unconfirmed == 0, "{shown:?}");
    agent.rest();
    agent.rest();
    assert_eq!(agent.board.read().twins.in_memory, 0);
}

#[test]
fn what_waits_together_costs_one_commit_and_confirmations_none() {
    let (mut hub, mut agent, own) = (Hub::new(), Agent::on(CrashBackend::new()), document("pump-7"));
    let mut waits = Vec::new();
    for n in 0..50 {
        let (answer, wait) = oneshot::channel();
        let make = move |_: &Twin| Ok(change(&format!("k{n}"), Action::Put(json!(n)), ""));
        agent.worker.carry_out(Request::Edit(own.clone(), Box::new(make), answer));
        waits.push(wait);
    }
    assert!(
        waits.iter_mut().all(|wait| wait.try_recv().is_err()),
        "nothing is answered before it is durable"
    );
    agent.finish();
    assert!(waits.iter_mut().all(|wait| wait.try_recv().unwrap().unwrap().changed));
    assert_eq!(agent.board.read().twins.commits, 1);
    talk(&mut hub, &mut agent);
    assert_eq!((agent.board.read().twins.commits, agent.board.read().twins.unconfirmed), (1, 0));
}

#[test]
fn edits_have_the_time_of_the_hub_once_it_is_known() {
    let (mut hub, mut agent) = (Hub::new(), Agent::on(CrashBackend::new()));
    let device = document("pump-7");
    let mut written_ms = |agent: &mut Agent, n: i64| {
        agent.put("a", json!(n));
        talk(&mut hub, agent);
        let leaf = hub.twin(&device).0.leaf(Section::Desired, &Key::parse("a").unwrap()).unwrap();
        leaf.origin.unwrap().time_ms
    };
    assert_eq!(written_ms(&mut agent, 1), 1);
    // The hub's clock is an hour ahead of the one here.
    let clock = agent.worker.parts.clock;
    let ahead_ns = clock.wall_ns().saturating_sub_unsigned(clock.mono_ns()) + 3_600_000_000_000;
    agent.worker.carry_out(Request::Time(ahead_ns));
    let later_ms = written_ms(&mut agent, 2);
    assert!((3_599_000..=3_601_000).contains(&later_ms), "{later_ms}");
    let shown = agent.board.read().twins;
    assert!(shown.bytes_in > 0 && shown.bytes_out > 0, "{shown:?}");
    assert!(shown.largest_bytes > 0 && shown.largest_bytes <= shown.bytes_in_memory, "{shown:?}");
}
