//! The hub, the agents, the lines between them, and what happens to them.

use std::collections::VecDeque;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value as Json, json};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Message, Refusal, Section, Side, Twin};

use crate::model::{Fate, Kind, Model, visible};
use crate::replica::{Disk, Replica};

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Nothing,
    ActorKept,
    EarlyConfirm,
    ForgetfulBase,
    /// A restored hub cuts history off when it has met one of those who share the document.
    HastyBase,
}

#[derive(Default)]
struct Line {
    links: Option<(Link, Link)>,
    to_hub: VecDeque<Vec<u8>>,
    to_agent: VecDeque<Vec<u8>>,
}

pub struct World {
    random: StdRng,
    broken: Break,
    hub: Replica,
    agents: Vec<Replica>,
    lines: Vec<Line>,
    model: Model,
    backup: Option<Disk>,
    restores: bool,
    /// The steps in which the last agent is away and edits by itself, where there are others.
    away: Range<usize>,
    now_ms: i64,
    token: i64,
}

const STEPS: usize = 250;

fn name(at: usize) -> String {
    format!("agent-{at}")
}

impl World {
    pub fn new(seed: u64, broken: Break) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let early = broken == Break::EarlyConfirm;
        // A restored hub gets back what its agents have, so that none is wiped then.
        let restores = random.random_bool(0.4);
        let count = random.random_range(1..=3);
        let agents: Vec<_> =
            (0..count).map(|_| Replica::new(Actor::new(Side::Agent, random.random()), early)).collect();
        let hub = Replica::new(Actor::new(Side::Hub, random.random()), early);
        let lines = agents.iter().map(|_| Line::default()).collect();
        let model = Model::default();
        let away = if count > 1 && random.random_bool(0.5) {
            let from = random.random_range(0..STEPS / 2);
            from..from + random.random_range(STEPS / 4..STEPS)
        } else {
            0..0
        };
        let (backup, now_ms, token) = (None, 1000, 0);
        Self { random, broken, hub, agents, lines, model, backup, restores, away, now_ms, token }
    }

    pub fn run(mut self) -> Result<(), String> {
        for step in 0..STEPS {
            self.now_ms += self.random.random_range(0..50);
            self.step(step)?;
        }
        self.quiet()?;
        for agent in &self.agents {
            let (a, b) = (&agent.twin, &self.hub.twin);
            if a.generation() != b.generation() || a.heads() != b.heads() {
                return Err(format!("{:?} and {:?} differ", a.generation(), b.generation()));
            }
            if Section::ALL.iter().any(|section| a.json(*section) != b.json(*section))
                || a.conflicts() != b.conflicts()
            {
                return Err("equal heads show different values".to_owned());
            }
        }
        self.model.check(&self.hub.twin)?;
        let again = self.hub.disk.load(self.hub.twin.actor());
        if again.heads() != self.hub.twin.heads() || again.conflicts() != self.hub.twin.conflicts() {
            return Err("what was saved is something else".to_owned());
        }
        Ok(())
    }

    fn step(&mut self, step: usize) -> Result<(), String> {
        let at = self.random.random_range(0..self.agents.len());
        let last = self.agents.len() - 1;
        let near = if self.away.contains(&step) { self.random.random_range(0..last) } else { at };
        if step == self.away.start {
            self.lines[last] = Line::default();
        }
        match self.random.random_range(0..100) {
            0..15 => self.edit(None),
            15..35 => self.edit(Some(at)),
            35..50 => self.sync(at),
            50..56 => self.connect(near),
            56..58 => self.lines[at] = Line::default(),
            58..90 => self.talk(near)?,
            90..92 => self.meet(near)?,
            92..94 => {
                let lost = self.agents[at].kill();
                self.model.mark(lost, Fate::Lost);
                self.lines[at] = Line::default();
            }
            94..95 => {
                let lost = self.hub.kill();
                self.model.mark(lost, Fate::Lost);
                self.cut_all();
            }
            95..97 => {
                self.rebase();
            }
            97..100 if !self.restores => self.wipe(at),
            97..99 if self.restores => self.backup = Some(self.hub.disk.clone()),
            99..100 if self.restores => self.restore()?,
            _ => {}
        }
        let agreed = self.hub.twin.is_agreed(&name(0));
        self.hub.settle(agreed);
        let agreed = self.agents[at].twin.unconfirmed() == 0;
        self.agents[at].settle(agreed);
        Ok(())
    }

    fn cut_all(&mut self) {
        for line in &mut self.lines {
            *line = Line::default();
        }
    }

    fn wipe(&mut self, at: usize) {
        let lost = self.agents[at].kill();
        self.model.mark(lost, Fate::Lost);
        let unsure = self.agents[at].unsure.clone();
        self.model.mark(unsure, Fate::Unsure);
        let actor = match self.broken {
            Break::ActorKept => self.agents[at].twin.actor(),
            _ => Actor::new(Side::Agent, self.random.random()),
        };
        self.agents[at] = Replica::new(actor, self.broken == Break::EarlyConfirm);
        self.lines[at] = Line::default();
    }

    fn rebase(&mut self) {
        let names: Vec<_> = (0..self.agents.len()).map(name).collect();
        let peers: Vec<_> = names.iter().map(String::as_str).collect();
        let all = if self.broken == Break::HastyBase { &[][..] } else { &peers };
        // Refused while a restored hub has not met all of them.
        if let Ok(record) = self.hub.twin.rebase_among(self.random.random(), all) {
            self.hub.take(record);
        }
    }

    fn restore(&mut self) -> Result<(), String> {
        let Some(backup) = self.backup.take() else { return Ok(()) };
        let lost = self.hub.kill();
        self.model.mark(lost, Fate::Lost);
        let unsure = std::mem::take(&mut self.hub.unsure);
        self.model.mark(unsure, Fate::Unsure);
        self.hub.disk = backup;
        self.hub.restart(Actor::new(Side::Hub, self.random.random()));
        // The new name has to be on disk before anything is written by it.
        let record = self.hub.twin.save();
        self.hub.take(record);
        self.hub.sync_all();
        self.cut_all();
        if self.random.random_bool(0.5) {
            // One of them is there at once, and history is long.
            self.away = 0..0;
            self.meet(self.agents.len() - 1)?;
            self.rebase();
        }
        Ok(())
    }

    fn sync(&mut self, at: usize) {
        let count = self.random.random_range(1..4);
        let replica = if self.random.random_bool(0.5) { &mut self.hub } else { &mut self.agents[at] };
        for _ in 0..count {
            replica.sync();
        }
    }

    /// The line is good until both have said all.
    fn meet(&mut self, at: usize) -> Result<(), String> {
        self.connect(at);
        self.agents[at].sync_all();
        self.hub.sync_all();
        self.drain(at)
    }

    fn connect(&mut self, at: usize) {
        let links = (Link::new(&name(at), &self.hub.twin), Link::new("hub", &self.agents[at].twin));
        self.lines[at] = Line { links: Some(links), ..Line::default() };
    }

    /// One edit or several at the hub, or at an agent.
    fn edit(&mut self, agent: Option<usize>) {
        let mut edits = Vec::new();
        let mut known = Vec::new();
        let (random, model) = (&mut self.random, &mut self.model);
        let (replica, author) = match agent {
            None => (&mut self.hub, ["anna", "otto"][random.random_range(0..2)]),
            Some(at) => (&mut self.agents[at], "site"),
        };
        let from = random.random_range(0..6_usize);
        for place in from..from + random.random_range(1..3) {
            self.token += 1;
            let (section, key, action, kind) =
                choose(random, &replica.twin, agent.is_some(), place, self.token);
            known.push(model.add(section, &key, kind));
            edits.push(Edit { section, key: Key::parse(&key).unwrap(), action });
        }
        let change = Change { edits, author: author.to_owned(), time_ms: self.now_ms };
        match replica.twin.edit(&change).unwrap() {
            Some(record) => replica.edited(record, &known),
            // It removed what was not there, and replaced nothing.
            None => self.model.mark(known, Fate::Lost),
        }
    }

    /// Something is polled, or something arrives.
    fn talk(&mut self, at: usize) -> Result<(), String> {
        let line = &mut self.lines[at];
        let Some((at_hub, at_agent)) = &mut line.links else { return Ok(()) };
        let (hub, agent) = (&mut self.hub, &mut self.agents[at]);
        if self.random.random_bool(0.5) {
            line.to_agent.extend(at_hub.poll(&hub.twin).map(|message| spoil(self.broken, message)));
            line.to_hub.extend(at_agent.poll(&agent.twin).map(|message| message.to_bytes()));
            return Ok(());
        }
        let up = self.random.random_bool(0.5);
        let (queue, link, replica) =
            if up { (&mut line.to_hub, at_hub, hub) } else { (&mut line.to_agent, at_agent, agent) };
        if queue.is_empty() {
            return Ok(());
        }
        let index = if self.random.random_bool(0.2) { self.random.random_range(0..queue.len()) } else { 0 };
        let bytes = if self.random.random_bool(0.1) {
            queue[index].clone()
        } else {
            queue.remove(index).unwrap_or_default()
        };
        if self.random.random_bool(0.1) {
            return Ok(());
        }
        arrive(link, replica, &bytes).map_err(|refusal| refusal.to_string())
    }

    /// All lines are good and nothing more is written.
    fn quiet(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            for at in 0..self.agents.len() {
                self.meet(at)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, at: usize) -> Result<(), String> {
        let Some((at_hub, at_agent)) = &mut self.lines[at].links else { return Ok(()) };
        let (hub, agent) = (&mut self.hub, &mut self.agents[at]);
        for _ in 0..100 {
            let mut said = false;
            while let Some(message) = at_hub.poll(&hub.twin) {
                said = true;
                arrive(at_agent, agent, &spoil(self.broken, message))
                    .map_err(|refusal| refusal.to_string())?;
                agent.sync_all();
            }
            while let Some(message) = at_agent.poll(&agent.twin) {
                said = true;
                arrive(at_hub, hub, &message.to_bytes()).map_err(|refusal| refusal.to_string())?;
                hub.sync_all();
            }
            if !said {
                return Ok(());
            }
        }
        Err("they never stop talking".to_owned())
    }
}

fn arrive(link: &mut Link, replica: &mut Replica, bytes: &[u8]) -> Result<(), Refusal> {
    let message = Message::from_bytes(bytes)?;
    if let Some(record) = link.handle(&mut replica.twin, &message)? {
        replica.take(record);
    }
    Ok(())
}

fn spoil(broken: Break, message: Message) -> Vec<u8> {
    match message {
        Message::Base { generation, changes, mut included } if broken == Break::ForgetfulBase => {
            let agents = included.iter_mut().filter(|(actor, _)| actor.side() == Some(Side::Agent));
            agents.for_each(|(_, number)| *number = u64::from(u32::MAX));
            Message::Base { generation, changes, included }.to_bytes()
        }
        other => other.to_bytes(),
    }
}

type Choice = (Section, String, Action, Kind);

fn choose(random: &mut StdRng, twin: &Twin, is_agent: bool, place: usize, token: i64) -> Choice {
    let section =
        [Section::Desired, Section::Tags, if is_agent { Section::Reported } else { Section::Notes }]
            [random.random_range(0..3)];
    match random.random_range(0..10) {
        0..6 => {
            let key = format!("k{place}/v");
            let seen = visible(twin, section, &key);
            let value = if random.random_bool(0.2) { json!([token, "x"]) } else { json!(token) };
            (section, key, Action::Put(value.clone()), Kind::Put(value, seen))
        }
        6 => {
            let key = format!("k{place}/v");
            let seen = visible(twin, section, &key);
            (section, key, Action::Delete, Kind::Delete(seen))
        }
        7 => (Section::Tags, format!("n{place}"), Action::Add(token), Kind::Add(token)),
        8 => {
            let element = json!(token);
            (Section::Tags, "set".to_owned(), Action::Insert(element.clone()), Kind::Insert(element))
        }
        _ => {
            let there = visible(twin, Section::Tags, "set");
            let all = there.first().and_then(|value| value["$set"].as_array()).cloned().unwrap_or_default();
            let element = all.get(random.random_range(0..=all.len())).cloned().unwrap_or(Json::from(0));
            (Section::Tags, "set".to_owned(), Action::Remove(element.clone()), Kind::Remove(element))
        }
    }
}
