//! The agent's end of commands.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

pub use kept::{Kept, Unreadable};

use super::barrier::Barrier;
use super::{KEEP_MS, KEPT_MAX, errors};
use crate::wire::{
    Cancel, Command, CommandError, CommandId, CommandState, Journal, JournalId, Noted, OUTPUT_BYTES_MAX,
    OUTPUT_CHUNK_BYTES_MAX, OutputChunk, Progress, ToAgent, ToHub,
};

/// By how much numbers go on after a kill: more than what is said of one run without being durable.
const NUMBERS_AHEAD: u64 = 1 << 20;

/// What becomes of a command that was begun when the agent was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It is not begun again, and failed.
    Never,
    /// It does the same however often it is done: it is begun again.
    Again,
    /// That the agent has started again is what it wants: it succeeded.
    Done,
}

/// How a command ended that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is done; with JSON, where something came of it.
    Succeeded(Option<Vec<u8>>),
    /// It is not, or is not known to be.
    Failed(CommandError),
    /// It was broken off.
    Aborted,
}

/// A change of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChange {
    /// Write this record.
    Put(CommandId, Vec<u8>),
    /// Remove the record, if there is one.
    Remove(CommandId),
    /// Write up to which deadline commands were forgotten.
    Forgotten(i64),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentStep {
    /// Make these changes durable together, then call [`AgentCommands::handle_committed`].
    Commit(Vec<AgentChange>),
    /// Begin it, and call [`AgentCommands::handle_ended`] once.
    Begin(Command),
    /// Break off what was begun, if it has not ended yet.
    Abort(CommandId),
    /// Tell the hub. Lost with the session, it is said again in the next.
    Say(ToHub),
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    percent: Option<u8>,
    cancelled: bool,
    // The hub has its end.
    noted: bool,
}

/// The commands of an agent. See the module's text for the call order.
#[derive(Debug)]
pub struct AgentCommands {
    journal: JournalId,
    forgotten_ms: i64,
    running_max: usize,
    entries: BTreeMap<CommandId, Entry>,
    orders: u64,
    dirty: BTreeSet<CommandId>,
    connected: bool,
    steps: Barrier<AgentStep>,
}

impl AgentCommands {
    /// Those of a journal, after a start of the agent: what was begun then has been interrupted, and `repeat` says of its kind
    /// what comes of that. `forgotten_ms` is as it was last written, and the smallest number in a new journal.
    #[must_use]
    pub fn open(
        journal: JournalId,
        forgotten_ms: i64,
        kept: impl IntoIterator<Item = Kept>,
        running_max: usize,
        repeat: impl Fn(&str) -> Repeat,
    ) -> Self {
        let mut core = Self {
            journal,
            forgotten_ms,
            running_max,
            entries: BTreeMap::new(),
            orders: 0,
            dirty: BTreeSet::new(),
            connected: false,
            steps: Barrier::default(),
        };
        for kept in kept {
            core.orders = core.orders.max(kept.order);
            let (id, was) = (kept.command.id, kept.state);
            core.entries.insert(id, Entry { kept, percent: None, cancelled: false, noted: false });
            if was == CommandState::Running {
                core.interrupted(id, &repeat);
            }
        }
        core
    }

    fn interrupted(&mut self, id: CommandId, repeat: &impl Fn(&str) -> Repeat) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.kept.number += NUMBERS_AHEAD;
        match repeat(&entry.kept.command.kind) {
            Repeat::Again => {
                entry.kept.state = CommandState::Delivered;
                self.dirty.insert(id);
            }
            Repeat::Done => self.end(id, CommandState::Succeeded, None),
            Repeat::Never => self.end(id, CommandState::Failed, Some(interrupted())),
        }
    }

    /// Which journal it is.
    #[must_use]
    pub const fn journal(&self) -> JournalId {
        self.journal
    }

    /// What is known of commands, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<&Kept> {
        let mut all: Vec<&Kept> = self.entries.values().map(|entry| &entry.kept).collect();
        all.sort_by_key(|kept| std::cmp::Reverse(kept.order));
        all
    }

    /// How many were begun and have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.in_state(CommandState::Running)
    }

    /// How many wait to be begun.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_state(CommandState::Delivered)
    }

    fn in_state(&self, state: CommandState) -> usize {
        self.entries.values().filter(|entry| entry.kept.state == state).count()
    }

    /// A session with a hub that sends commands has opened. All that is known is said, and then that this is all.
    pub fn handle_connected(&mut self) {
        self.handle_disconnected();
        self.connected = true;
        let ids: Vec<CommandId> = self.entries.keys().copied().collect();
        ids.into_iter().for_each(|id| self.say_all(id));
        let journal = Journal { journal: self.journal, forgotten_ms: self.forgotten_ms };
        self.say(ToHub::Journal(journal));
    }

    /// The session has ended. What was not said is said in the next one.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.steps.retain(|step| !matches!(step, AgentStep::Say(_)));
    }

    /// The hub said something. `now_ms` is the hub's clock, `None` as long as nobody knows it.
    pub fn handle_said(&mut self, now_ms: Option<i64>, said: ToAgent) {
        match said {
            ToAgent::Command(command) => self.accept(now_ms, command),
            ToAgent::Cancel(cancel) => self.cancel(&cancel),
            ToAgent::Noted(noted) => self.noted(&noted),
        }
        self.handle_time(now_ms);
    }

    fn accept(&mut self, now_ms: Option<i64>, command: Command) {
        let id = command.id;
        if let Some(entry) = self.entries.get(&id)
            && (entry.kept.command.attempt >= command.attempt || !entry.kept.state.is_final())
        {
            return self.say_all(id);
        }
        // It may have been here and was forgotten.
        if command.deadline_ms <= self.forgotten_ms {
            return self.decline(&command, CommandState::Expired, None);
        }
        if !self.entries.contains_key(&id) && self.entries.len() >= KEPT_MAX && !self.make_room(now_ms) {
            let text = format!("the agent knows of {KEPT_MAX} commands, and may forget none of them yet");
            return self.decline(&command, CommandState::Failed, Some(CommandError::new(errors::BUSY, text)));
        }
        self.orders += 1;
        let kept = Kept {
            command,
            state: CommandState::Delivered,
            number: 1,
            error: None,
            result: None,
            output: Vec::new(),
            order: self.orders,
            begun: 0,
        };
        self.entries.insert(id, Entry { kept, percent: None, cancelled: false, noted: false });
        self.dirty.insert(id);
        self.say_all(id);
    }

    /// Says that a command is not taken. Nothing is kept of it: asked again, the answer may be another.
    fn decline(&mut self, command: &Command, state: CommandState, error: Option<CommandError>) {
        let (id, attempt) = (command.id, command.attempt);
        let (number, percent, output, result) = (1, None, None, None);
        self.say(ToHub::Progress(Progress { id, attempt, number, state, percent, output, error, result }));
    }

    /// Forgets the command that is of least use: its deadline is over, and the hub has its end.
    fn make_room(&mut self, now_ms: Option<i64>) -> bool {
        let may = |entry: &&Entry| {
            entry.noted && now_ms.is_some_and(|now_ms| entry.kept.command.deadline_ms <= now_ms)
        };
        let oldest = self.entries.values().filter(may).min_by_key(|entry| entry.kept.command.deadline_ms);
        let Some(id) = oldest.map(|entry| entry.kept.command.id) else { return false };
        self.forget(id);
        true
    }

    fn forget(&mut self, id: CommandId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.forgotten_ms = self.forgotten_ms.max(entry.kept.command.deadline_ms);
            self.dirty.insert(id);
        }
    }

    fn cancel(&mut self, cancel: &Cancel) {
        let Some(entry) = self.entries.get_mut(&cancel.id) else { return };
        if entry.kept.command.attempt != cancel.attempt {
            return;
        }
        match entry.kept.state {
            CommandState::Delivered => self.end(cancel.id, CommandState::Cancelled, None),
            CommandState::Running if !entry.cancelled => {
                entry.cancelled = true;
                self.push(AgentStep::Abort(cancel.id));
            }
            CommandState::Running => {}
            _ => self.say_all(cancel.id),
        }
    }

    fn noted(&mut self, noted: &Noted) {
        let Some(entry) = self.entries.get_mut(&noted.id) else { return };
        let kept = &mut entry.kept;
        if kept.command.attempt == noted.attempt && kept.state.is_final() && noted.number >= kept.number {
            entry.noted = true;
            if !kept.output.is_empty() {
                kept.output = Vec::new();
                self.dirty.insert(noted.id);
            }
        }
    }

    /// Time has passed: what is too late ends, what is over for long is forgotten, and what may begin does.
    pub fn handle_time(&mut self, now_ms: Option<i64>) {
        // Without the hub's time nobody knows what is too late.
        let Some(now_ms) = now_ms else { return };
        let (mut late, mut old) = (Vec::new(), Vec::new());
        for (id, Entry { kept, noted, .. }) in &self.entries {
            let deadline_ms = kept.command.deadline_ms;
            if kept.state == CommandState::Delivered && deadline_ms <= now_ms {
                late.push((*id, kept.begun > 0));
            } else if *noted && deadline_ms.saturating_add(KEEP_MS) <= now_ms {
                old.push(*id);
            }
        }
        for (id, begun) in late {
            let (state, error) = if begun {
                (CommandState::Failed, Some(interrupted()))
            } else {
                (CommandState::Expired, None)
            };
            self.end(id, state, error);
        }
        old.into_iter().for_each(|id| self.forget(id));
        while self.running() < self.running_max && self.begin_next() {}
    }

    fn begin_next(&mut self) -> bool {
        let waiting = self.entries.values().filter(|entry| entry.kept.state == CommandState::Delivered);
        let next =
            waiting.min_by_key(|entry| (std::cmp::Reverse(entry.kept.command.priority), entry.kept.order));
        let Some(id) = next.map(|entry| entry.kept.command.id) else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.kept.state = CommandState::Running;
        entry.kept.number += 1;
        entry.kept.begun = entry.kept.begun.saturating_add(1);
        let command = entry.kept.command.clone();
        self.dirty.insert(id);
        self.push(AgentStep::Begin(command));
        self.say_all(id);
        true
    }

    /// A command that was begun is so far done.
    pub fn handle_percent(&mut self, id: CommandId, percent: u8) {
        let percent = Some(percent.min(100));
        if let Some(entry) = self.running_entry(id)
            && entry.percent != percent
        {
            entry.percent = percent;
            entry.kept.number += 1;
            let progress = progress_of(entry, None);
            self.say(ToHub::Progress(progress));
        }
    }

    /// A command that was begun has put this out. Beyond [`OUTPUT_BYTES_MAX`] it is left out; says how much was taken.
    pub fn handle_output(&mut self, id: CommandId, bytes: &[u8]) -> usize {
        let Some(entry) = self.running_entry(id) else { return 0 };
        let from = entry.kept.output.len();
        let room = usize::try_from(OUTPUT_BYTES_MAX).unwrap_or(usize::MAX).saturating_sub(from);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        entry.kept.output.extend_from_slice(taken);
        self.say_output(id, from);
        taken.len()
    }

    /// A command that was begun has ended.
    pub fn handle_ended(&mut self, now_ms: Option<i64>, id: CommandId, ended: Ended) {
        let Some(entry) = self.running_entry(id) else { return };
        let cancelled = entry.cancelled;
        match ended {
            Ended::Succeeded(result) => {
                entry.kept.result = result;
                self.end(id, CommandState::Succeeded, None);
            }
            Ended::Failed(error) => self.end(id, CommandState::Failed, Some(error)),
            Ended::Aborted if cancelled => self.end(id, CommandState::Cancelled, None),
            Ended::Aborted => self.end(id, CommandState::Failed, Some(interrupted())),
        }
        self.handle_time(now_ms);
    }

    fn running_entry(&mut self, id: CommandId) -> Option<&mut Entry> {
        self.entries.get_mut(&id).filter(|entry| entry.kept.state == CommandState::Running)
    }

    fn end(&mut self, id: CommandId, state: CommandState, error: Option<CommandError>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.kept.state = state;
        entry.kept.error = error;
        entry.kept.number += 1;
        entry.kept.command.input = Vec::new();
        self.dirty.insert(id);
        // Its output was said as it came.
        self.say_state(id);
    }

    fn say_all(&mut self, id: CommandId) {
        self.say_output(id, 0);
        self.say_state(id);
    }

    fn say_state(&mut self, id: CommandId) {
        if let Some(entry) = self.entries.get(&id) {
            let progress = progress_of(entry, None);
            self.say(ToHub::Progress(progress));
        }
    }

    /// Says the output from there on. That of a command that has ended goes ahead of its end, as if it still ran.
    fn say_output(&mut self, id: CommandId, from: usize) {
        let Some(entry) = self.entries.get(&id) else { return };
        let rest = entry.kept.output.get(from..).unwrap_or_default();
        let mut said = Vec::new();
        let mut offset = from as u64;
        for bytes in rest.chunks(OUTPUT_CHUNK_BYTES_MAX) {
            let chunk = OutputChunk { offset, bytes: bytes.to_vec() };
            offset += bytes.len() as u64;
            let ended = entry.kept.state.is_final();
            let whole = progress_of(entry, Some(chunk));
            said.push(if ended {
                let number = whole.number - 1;
                Progress { number, state: CommandState::Running, error: None, result: None, ..whole }
            } else {
                whole
            });
        }
        said.into_iter().for_each(|progress| self.say(ToHub::Progress(progress)));
    }

    fn say(&mut self, said: ToHub) {
        if self.connected {
            self.push(AgentStep::Say(said));
        }
    }

    fn push(&mut self, step: AgentStep) {
        self.steps.push(step, !self.dirty.is_empty());
    }

    /// The last commit is durable.
    pub fn handle_committed(&mut self) {
        self.steps.done(!self.dirty.is_empty());
    }

    /// The next step.
    pub fn poll(&mut self) -> Option<AgentStep> {
        if let Some(step) = self.steps.pop() {
            return Some(step);
        }
        if self.dirty.is_empty() || !self.steps.may_commit() {
            return None;
        }
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            changes.push(match self.entries.get(&id) {
                Some(entry) => AgentChange::Put(id, entry.kept.bytes()),
                None => AgentChange::Remove(id),
            });
        }
        if changes.iter().any(|change| matches!(change, AgentChange::Remove(_))) {
            changes.push(AgentChange::Forgotten(self.forgotten_ms));
        }
        self.steps.begin();
        Some(AgentStep::Commit(changes))
    }
}

fn interrupted() -> CommandError {
    CommandError::new(errors::INTERRUPTED, "the agent ended while it ran: nobody knows how far it came")
}

fn progress_of(entry: &Entry, output: Option<OutputChunk>) -> Progress {
    let Entry { kept, percent, .. } = entry;
    Progress {
        id: kept.command.id,
        attempt: kept.command.attempt,
        number: kept.number,
        state: kept.state,
        percent: *percent,
        output,
        error: kept.error.clone(),
        result: kept.result.clone(),
    }
}
