//! The hub, the agents, the lines between them, and what happens to them.

use std::collections::VecDeque;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_twin::{Actor, Change, Edit, Key, Link, Message, Refusal, Section, Side};

use crate::choice::{choose, choose_text};
use crate::model::{Fate, Model};
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
    /// A change that is made again gets another number, and says nothing of what its author knew.
    StampForgotten,
}

/// What may happen in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardship {
    /// Agents are wiped, or the hub is restored; never both.
    Either,
    /// Both, agents come and go, and all write one text.
    All,
}

/// What came about in a history.
#[derive(Debug, Clone, Copy, Default)]
pub struct Story {
    /// How many times an agent with changes that nobody else had came back after history was cut off twice and more.
    pub late: usize,
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
    hardship: Hardship,
    restores: bool,
    /// Edits of which a copy of the hub's disk may be the last place, as somebody was wiped who had them.
    orphans: Vec<usize>,
    /// Edits that the hub has forgotten, and somebody may bring back.
    forgotten: Vec<usize>,
    /// The hub was restored and has not met all since.
    unmet: bool,
    /// Those that do not share the document for now.
    gone: Vec<bool>,
    story: Story,
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
    pub fn new(seed: u64, hardship: Hardship, broken: Break) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // A restored hub gets back what its agents have, so that none is wiped then.
        let restores = random.random_bool(0.4);
        let count = random.random_range(1..=3);
        let agents: Vec<_> =
            (0..count).map(|_| Replica::new(Actor::new(Side::Agent, random.random()), broken)).collect();
        let hub = Replica::new(Actor::new(Side::Hub, random.random()), broken);
        let lines = agents.iter().map(|_| Line::default()).collect();
        let model = Model::default();
        let away = if count > 1 && random.random_bool(0.5) {
            let from = random.random_range(0..STEPS / 2);
            from..from + random.random_range(STEPS / 4..STEPS)
        } else {
            0..0
        };
        let (backup, now_ms, token) = (None, 1000, 0);
        let (orphans, gone, story) = (Vec::new(), vec![false; count], Story::default());
        Self {
            random,
            broken,
            hub,
            agents,
            lines,
            model,
            backup,
            hardship,
            restores,
            orphans,
            forgotten: Vec::new(),
            unmet: false,
            gone,
            story,
            away,
            now_ms,
            token,
        }
    }

    pub fn run(mut self) -> Result<Story, String> {
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
        Ok(self.story)
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
            97 if self.hardship == Hardship::All => self.wipe_or_move(at),
            98 if self.hardship == Hardship::All => self.back_up(),
            99 if self.hardship == Hardship::All => self.restore()?,
            97..100 if !self.restores => self.wipe(at),
            97..99 if self.restores => self.back_up(),
            99..100 if self.restores => self.restore()?,
            _ => {}
        }
        let agreed = self.hub.twin.is_agreed(&name(0));
        self.hub.settle(agreed);
        if self.agents[at].is_as(&self.hub) {
            self.agents[at].forgotten = false;
        }
        if self.agents.iter().all(|agent| agent.is_as(&self.hub)) {
            self.forgotten.clear();
            self.unmet = false;
        }
        let agreed = self.agents[at].twin.unconfirmed() == 0;
        self.agents[at].settle(agreed);
        Ok(())
    }

    fn cut_all(&mut self) {
        for line in &mut self.lines {
            *line = Line::default();
        }
    }

    fn wipe_or_move(&mut self, at: usize) {
        if self.gone[at] {
            self.gone[at] = false;
        } else {
            self.wipe(at);
            // It lets go of the document with all that it has, and perhaps comes back.
            self.gone[at] = self.agents.len() > 1 && self.random.random_bool(0.5);
        }
    }

    fn back_up(&mut self) {
        self.backup = Some(self.hub.disk.clone());
        self.orphans.clear();
        self.hub.unbacked.clone_from(&self.forgotten);
        for agent in &mut self.agents {
            agent.unbacked.clone_from(&agent.unsure);
        }
    }

    fn wipe(&mut self, at: usize) {
        self.orphans.extend(self.agents[at].unbacked.iter().chain(&self.hub.unbacked));
        let lost = self.agents[at].kill();
        self.model.mark(lost, Fate::Lost);
        self.model.mark(self.forgotten.clone(), Fate::Unsure);
        if self.unmet {
            // A hub that was restored may yet take a base that it has forgotten, and then this agent had to make its changes again.
            let unbacked = self.agents[at].unbacked.clone();
            self.model.mark(unbacked, Fate::Unsure);
        }
        let unsure = self.agents[at].unsure.clone();
        self.model.mark(unsure, Fate::Unsure);
        let actor = match self.broken {
            Break::ActorKept => self.agents[at].twin.actor(),
            _ => Actor::new(Side::Agent, self.random.random()),
        };
        self.agents[at] = Replica::new(actor, self.broken);
        self.lines[at] = Line::default();
    }

    fn rebase(&mut self) {
        let names: Vec<_> = (0..self.agents.len()).filter(|at| !self.gone[*at]).map(name).collect();
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
        if self.hardship == Hardship::All {
            let orphans = std::mem::take(&mut self.orphans);
            self.model.mark(orphans, Fate::Unsure);
            self.forgotten.clone_from(&self.hub.unbacked);
            self.unmet = true;
            for agent in &mut self.agents {
                agent.unsure.extend(&agent.unbacked);
                agent.forgotten = true;
            }
        }
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
        if self.gone[at] {
            return;
        }
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
            Some(at) if self.gone[at] => return,
            Some(at) => (&mut self.agents[at], "site"),
        };
        let from = random.random_range(0..6_usize);
        for place in from..from + random.random_range(1..3) {
            self.token += 1;
            let is_text = self.hardship == Hardship::All && known.is_empty() && random.random_bool(0.3);
            let (section, key, action, kind) = if is_text {
                choose_text(random, &replica.twin, self.token)
            } else {
                choose(random, (&replica.twin, agent.is_some()), known.is_empty(), place, self.token)
            };
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
        self.story.late += arrive(link, replica, &bytes).map_err(|refusal| refusal.to_string())?;
        Ok(())
    }

    /// All lines are good and nothing more is written.
    fn quiet(&mut self) -> Result<(), String> {
        self.gone.fill(false);
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
                self.story.late += arrive(at_agent, agent, &spoil(self.broken, message))
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

/// Says how many agents came back by it to history that was cut off twice.
fn arrive(link: &mut Link, replica: &mut Replica, bytes: &[u8]) -> Result<usize, Refusal> {
    let message = Message::from_bytes(bytes)?;
    let (before, unconfirmed) = (replica.twin.generation().number, replica.twin.unconfirmed());
    if let Some(record) = link.handle(&mut replica.twin, &message)? {
        replica.take(record);
    }
    let is_agent = replica.twin.actor().side() == Some(Side::Agent);
    let is_late = is_agent && unconfirmed > 0 && replica.twin.generation().number >= before + 2;
    Ok(usize::from(is_late))
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
