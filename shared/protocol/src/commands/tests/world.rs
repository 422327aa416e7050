//! A hub, an agent, their disks and the line between them, by a seed.

mod disk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::disk::{AgentDisk, HubDisk};
use super::super::*;
use crate::model::{AgentId, DeviceId};
use crate::wire::{Command, CommandError, CommandId, CommandState, JournalId, ToAgent, ToHub};

/// What may happen beside kills and cuts. A hub that was restored and an agent that was wiped are not both: nobody would know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Kills,
    Wipes,
    Restores,
}

/// What is wrong with a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    BeginsBeforeItIsDurable,
    SendsBeforeNoting,
    ForgetsAtOnce,
    ForgetsWithoutNoting,
}

const RUNNING_MAX: usize = 1;
/// So few that an agent often declines commands, and forgets the ends of others.
const LIMITS: Limits = Limits { running_max: RUNNING_MAX, open_max: 12, ended_max: 6 };

/// What somebody wants of the one agent.
pub fn order(kind: &str, deadline_ms: i64) -> Order {
    Order {
        device: DeviceId::parse("pump").unwrap(),
        agent: AgentId::parse("gate").unwrap(),
        kind: kind.to_owned(),
        input: "{}".to_owned(),
        priority: 0,
        deadline_ms,
        attempts_max: 3,
        author: "eve".to_owned(),
        correlation: None,
    }
}

#[derive(Debug)]
struct Line {
    number: u64,
    to_hub: VecDeque<ToHub>,
    to_agent: VecDeque<ToAgent>,
}

#[derive(Debug)]
struct Run {
    attempt: u32,
    aborted: bool,
    output: Vec<u8>,
}

pub struct World {
    random: u64,
    trouble: Trouble,
    fault: Fault,
    now_ms: i64,
    hub: HubCommands,
    hub_disk: HubDisk,
    // Commits that are on the way to the disk; with a fault, the core takes them for durable.
    hub_commits: VecDeque<Vec<HubChange>>,
    backups: Vec<HubDisk>,
    agent: AgentCommands,
    agent_disk: AgentDisk,
    agent_commits: VecDeque<Vec<AgentChange>>,
    knows_time: bool,
    // It has lost a word of the hub, and has not asked for it yet.
    deaf: bool,
    line: Option<Line>,
    sessions: u64,
    journals: u8,
    running: BTreeMap<CommandId, Run>,
    // Runs less those that did nothing.
    effects: BTreeMap<CommandId, i32>,
    outputs: BTreeMap<(CommandId, u32), Vec<u8>>,
    made: Vec<CommandId>,
    kinds: BTreeMap<CommandId, &'static str>,
    pub killed: BTreeSet<(CommandState, &'static str)>,
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn repeat(kind: &str) -> Repeat {
    match kind {
        "again" => Repeat::Again,
        "restart" => Repeat::Done,
        _ => Repeat::Never,
    }
}

impl World {
    pub fn new(seed: u64, trouble: Trouble, fault: Fault) -> Self {
        let journal = JournalId::from_bytes([0; 16]);
        Self {
            // Mixed, or the draws of one seed would be those of the next but for the first.
            random: mix(seed),
            trouble,
            fault,
            now_ms: 1_000_000,
            hub: HubCommands::default(),
            hub_disk: HubDisk::default(),
            hub_commits: VecDeque::new(),
            backups: vec![HubDisk::default()],
            agent: AgentCommands::open(journal, i64::MIN, [], [], LIMITS, repeat),
            agent_disk: AgentDisk::new(journal),
            agent_commits: VecDeque::new(),
            knows_time: false,
            deaf: false,
            line: None,
            sessions: 0,
            journals: 0,
            running: BTreeMap::new(),
            effects: BTreeMap::new(),
            outputs: BTreeMap::new(),
            made: Vec::new(),
            kinds: BTreeMap::new(),
            killed: BTreeSet::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random) % below
    }

    fn pick(&mut self, ids: &[CommandId]) -> Option<CommandId> {
        let at = self.draw(ids.len().max(1) as u64);
        ids.get(usize::try_from(at).unwrap()).copied()
    }

    /// One thing happens.
    pub fn step(&mut self) -> Result<(), String> {
        match self.draw(100) {
            0..10 => self.create(),
            10..38 => self.deliver(),
            38..62 => self.commit(),
            62..73 => self.run_on(),
            73..75 => self.cancel(),
            75..81 => self.pass_time(),
            81..83 => self.kill_hub(),
            83..85 => self.kill_agent("agent"),
            85..87 => self.cut(),
            87 if self.line.is_some() => self.hear_nothing(),
            87 => self.connect(),
            88..96 if self.line.is_none() => self.connect(),
            88..96 => self.deliver(),
            _ => self.trouble(),
        }
        self.drive()
    }

    fn create(&mut self) {
        let kind = ["once", "once", "again", "restart"][usize::try_from(self.draw(4)).unwrap()];
        let random = self.draw(u64::MAX).to_be_bytes();
        let id = CommandId::made(self.now_ms, [&random[..], &[1, 1]].concat().try_into().unwrap());
        let within_ms = 3_000 + i64::try_from(self.draw(120_000)).unwrap();
        let command = HubCommand::new(id, self.now_ms, order(kind, self.now_ms + within_ms));
        // As the driver does: durable first.
        self.hub_disk.commands.insert(id, command.clone());
        self.made.push(id);
        self.kinds.insert(id, kind);
        self.hub.handle_created(self.now_ms, command);
    }

    fn agent_now(&self) -> Option<i64> {
        self.knows_time.then_some(self.now_ms)
    }

    fn deliver(&mut self) {
        let (to_hub, many) = (self.draw(2) == 0, 1 + self.draw(4));
        for _ in 0..many {
            let Some(line) = &mut self.line else { return };
            if to_hub {
                let number = line.number;
                let Some(said) = line.to_hub.pop_front() else { return };
                if let Some(id) = self.hub.lacks(&said)
                    && let Some(command) = self.hub_disk.commands.get(&id)
                {
                    self.hub.admit(command.clone());
                }
                self.hub.handle_said(self.now_ms, &order("", 0).agent, number, said);
            } else {
                let Some(said) = line.to_agent.pop_front() else { return };
                if self.deaf {
                    continue;
                }
                self.knows_time = true;
                let (now_ms, disk) = (self.agent_now(), &self.agent_disk.ended);
                let ended = self.agent.lacks(&said).and_then(|id| Some(Kept::read(disk.get(&id)?).unwrap()));
                self.agent.handle_said(now_ms, said, ended);
            }
        }
    }

    /// The agent loses words of the hub, and asks for them.
    fn hear_nothing(&mut self) {
        self.deaf = !self.deaf;
        if !self.deaf {
            self.agent.handle_connected();
        }
    }

    /// The oldest commit of one end reaches its disk.
    fn commit(&mut self) {
        if self.draw(2) == 0 {
            // What was never waited for reaches the disk at its leisure.
            if self.fault == Fault::SendsBeforeNoting && self.draw(16) > 0 {
                return;
            }
            let Some(changes) = self.hub_commits.pop_front() else { return };
            self.hub_disk.apply(changes);
            if self.fault != Fault::SendsBeforeNoting {
                self.hub.handle_committed();
            }
        } else {
            let Some(changes) = self.agent_commits.pop_front() else { return };
            self.agent_disk.apply(changes);
            if self.fault != Fault::BeginsBeforeItIsDurable {
                self.agent.handle_committed();
            }
        }
    }

    /// Something that runs says something, or ends.
    fn run_on(&mut self) {
        let ids: Vec<CommandId> = self.running.keys().copied().collect();
        let Some(id) = self.pick(&ids) else { return };
        let (how, now_ms) = (self.draw(8), self.agent_now());
        let Some(run) = self.running.get_mut(&id) else { return };
        let ended = match how {
            0 => return self.agent.handle_percent(id, 50),
            1 | 2 => {
                let piece = vec![u8::try_from(run.output.len() % 251).unwrap(); 20_000];
                let taken = self.agent.handle_output(id, &piece);
                run.output.extend_from_slice(&piece[..taken]);
                return;
            }
            3 => {
                *self.effects.entry(id).or_default() -= 1;
                Ended::Failed(CommandError::new(errors::UNAVAILABLE, "not there"))
            }
            4 => Ended::Failed(CommandError::new(errors::FAILED, "it would not")),
            _ if run.aborted => Ended::Aborted,
            _ => Ended::Succeeded(Some(b"{}".to_vec())),
        };
        if let Some(run) = self.running.remove(&id) {
            self.outputs.insert((id, run.attempt), run.output);
        }
        self.agent.handle_ended(now_ms, id, ended);
    }

    fn cancel(&mut self) {
        let ids = self.made.clone();
        if let Some(id) = self.pick(&ids) {
            self.hub.cancel(self.now_ms, id);
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.draw(120) {
            0 => ENDED_KEEP_MS / 2,
            1..4 => 60_000,
            _ => 1 + i64::try_from(self.draw(3_000)).unwrap(),
        };
        self.now_ms += ms;
        self.hub.handle_time(self.now_ms);
        let now_ms = self.agent_now();
        self.agent.handle_time(now_ms);
    }

    fn note(&mut self, whom: &'static str) {
        self.killed.extend(self.hub_disk.commands.values().map(|command| (command.state, whom)));
    }

    fn cut(&mut self) {
        let Some(line) = self.line.take() else { return };
        self.note("line");
        self.hub.handle_left(&order("", 0).agent, line.number);
        self.agent.handle_disconnected();
    }

    fn connect(&mut self) {
        self.sessions += 1;
        let number = self.sessions;
        self.line = Some(Line { number, to_hub: VecDeque::new(), to_agent: VecDeque::new() });
        self.hub.handle_entered(&order("", 0).agent, number);
        self.deaf = false;
        self.agent.handle_connected();
    }

    fn kill_hub(&mut self) {
        self.note("hub");
        self.start_hub();
    }

    fn start_hub(&mut self) {
        self.line = None;
        self.agent.handle_disconnected();
        self.hub_commits.clear();
        self.hub = HubCommands::default();
        let waiting = self.hub_disk.commands.values().filter(|command| !command.state.is_final());
        for command in waiting.cloned().collect::<Vec<_>>() {
            self.hub.handle_created(self.now_ms, command);
        }
    }

    fn kill_agent(&mut self, whom: &'static str) {
        self.note(whom);
        if let Some(line) = self.line.take() {
            self.hub.handle_left(&order("", 0).agent, line.number);
        }
        self.agent_commits.clear();
        self.running.clear();
        self.knows_time = false;
        match self.fault {
            Fault::ForgetsAtOnce => self.agent_disk.ended.clear(),
            Fault::ForgetsWithoutNoting => self.agent_disk.forgotten_ms = i64::MIN,
            _ => {}
        }
        let read = |records: &BTreeMap<_, Vec<u8>>| -> Vec<Kept> {
            records.values().map(|bytes| Kept::read(bytes).unwrap()).collect()
        };
        let (open, ended) = (read(&self.agent_disk.open), read(&self.agent_disk.ended));
        let AgentDisk { journal, forgotten_ms, .. } = self.agent_disk;
        self.agent = AgentCommands::open(journal, forgotten_ms, open, ended, LIMITS, repeat);
    }

    fn trouble(&mut self) {
        let first = self.draw(2) == 0;
        match self.trouble {
            Trouble::Kills => {}
            Trouble::Wipes if first => {}
            Trouble::Wipes => {
                self.journals += 1;
                let journal = JournalId::from_bytes([self.journals; 16]);
                self.agent_disk = AgentDisk::new(journal);
                self.kill_agent("wipe");
            }
            Trouble::Restores if first => self.backups.push(self.hub_disk.clone()),
            Trouble::Restores => {
                self.note("restore");
                let at = usize::try_from(self.draw(self.backups.len() as u64)).unwrap();
                self.hub_disk = self.backups[at].clone();
                self.start_hub();
            }
        }
    }

    /// Carries out what both cores ask for.
    fn drive(&mut self) -> Result<(), String> {
        while let Some(step) = self.hub.poll() {
            match step {
                HubStep::Commit(changes) => {
                    self.hub_commits.push_back(changes);
                    if self.fault == Fault::SendsBeforeNoting {
                        self.hub.handle_committed();
                    }
                }
                HubStep::Say(_, number, said) => {
                    if let Some(line) = self.line.as_mut().filter(|line| line.number == number) {
                        line.to_agent.push_back(said);
                    }
                }
            }
        }
        while let Some(step) = self.agent.poll() {
            match step {
                AgentStep::Commit(changes) => {
                    self.agent_commits.push_back(changes);
                    if self.fault == Fault::BeginsBeforeItIsDurable {
                        self.agent.handle_committed();
                    }
                }
                AgentStep::Begin(command) => self.begin(&command)?,
                AgentStep::Abort(id) => {
                    if let Some(run) = self.running.get_mut(&id) {
                        run.aborted = true;
                    }
                }
                AgentStep::Say(said) => {
                    let line = self.line.as_mut().ok_or("said to nobody")?;
                    line.to_hub.push_back(said);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, command: &Command) -> Result<(), String> {
        let (id, attempt) = (command.id, command.attempt);
        // What was decided in time may be durable a little later.
        if command.deadline_ms + 2 * ENDED_KEEP_MS <= self.now_ms {
            return Err(format!("{id} was begun long after its deadline"));
        }
        let run = Run { attempt, aborted: false, output: Vec::new() };
        if self.running.insert(id, run).is_some() {
            return Err(format!("{id} was begun while it ran"));
        }
        if self.running.len() > RUNNING_MAX {
            return Err("more run than may".to_owned());
        }
        let effects = self.effects.entry(id).or_default();
        *effects += 1;
        if *effects > 1 && command.kind == "once" {
            return Err(format!("{id} ran {effects} times"));
        }
        Ok(())
    }

    /// All is well again, for long enough.
    pub fn settle(&mut self) -> Result<(), String> {
        for round in 0..40 {
            if self.line.is_none() || round % 10 == 0 {
                self.cut();
                self.connect();
                self.drive()?;
            }
            for _ in 0..60 {
                (0..4).for_each(|_| self.deliver());
                self.commit();
                self.run_on();
                self.drive()?;
            }
            self.now_ms += 4_000;
            self.hub.handle_time(self.now_ms);
            let now_ms = self.agent_now();
            self.agent.handle_time(now_ms);
            self.drive()?;
        }
        Ok(())
    }

    /// What has to hold in the end.
    pub fn check(&self) -> Result<(), String> {
        if self.agent_disk.ended.len() > LIMITS.ended_max {
            return Err(format!("{} ended commands are kept", self.agent_disk.ended.len()));
        }
        for id in &self.made {
            let Some(command) = self.hub_disk.commands.get(id) else {
                if self.trouble == Trouble::Restores {
                    continue;
                } else {
                    return Err(format!("{id} is lost"));
                }
            };
            let (state, attempt) = (command.state, command.attempt);
            if !state.is_final() {
                return Err(format!("{id} is {state} for ever: {command:?}"));
            }
            let once = self.kinds.get(id) == Some(&"once");
            let ran = once && self.effects.get(id).is_some_and(|effects| *effects > 0);
            if ran && state == CommandState::Expired && self.trouble != Trouble::Restores {
                return Err(format!("{id} ran and is said to have expired"));
            }
            // A hub that was restored to before it sent one gives up what is too late to send, and asks nobody.
            if command.concluded && state == CommandState::Expired && self.trouble == Trouble::Restores {
                continue;
            }
            let AgentDisk { open, ended, .. } = &self.agent_disk;
            let Some(bytes) = open.get(id).or_else(|| ended.get(id)) else { continue };
            let kept = Kept::read(bytes).map_err(|error| error.to_string())?;
            if kept.command.attempt == attempt && kept.state != state {
                return Err(format!("{id} is {state} at the hub and {} at the agent", kept.state));
            }
            let code = command.error.as_ref().map(|error| error.code.as_str());
            let whole = self.trouble != Trouble::Restores
                && once
                && state != CommandState::Cancelled
                && code != Some(errors::INTERRUPTED);
            let held = self.hub_disk.output.get(&(*id, attempt)).cloned().unwrap_or_default();
            if whole && self.outputs.get(&(*id, attempt)).is_some_and(|output| *output != held) {
                return Err(format!("{id}: the hub has {} bytes of its output, not all", held.len()));
            }
        }
        Ok(())
    }
}
