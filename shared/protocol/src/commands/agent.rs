//! The agent's end of commands.

mod counts;
mod ended;
mod kept;
mod limits;

use std::collections::{BTreeMap, BTreeSet};

pub use counts::Counts;
pub use kept::{Kept, Unreadable};
pub use limits::Limits;

use self::ended::EndedIndex;
use self::kept::interrupted;
use super::barrier::Barrier;
use super::{NEVER_HAD, errors};
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
    /// Write this record among those that are open; it is not among those that have ended any more.
    Put(CommandId, Vec<u8>),
    /// Write this record among those that have ended; it is not among those that are open any more.
    End(CommandId, Vec<u8>),
    /// Remove the record of one that has ended.
    Forget(CommandId),
    /// Write up to when commands were made that may be forgotten.
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
    limits: Limits,
    // Those that are open, and those whose end is not among the others on the disk yet.
    entries: BTreeMap<CommandId, Entry>,
    ended: EndedIndex,
    orders: u64,
    dirty: BTreeSet<CommandId>,
    // In the commit that is being made, with their ends.
    settling: Vec<CommandId>,
    connected: bool,
    counts: Counts,
    steps: Barrier<AgentStep>,
}

impl AgentCommands {
    /// Those of a journal, after a start of the agent: what was begun then has been interrupted, and `repeat` says of its kind
    /// what comes of that. `forgotten_ms` is as it was last written, and the smallest number in a new journal; `ended` are those
    /// that have ended and are looked at once.
    #[must_use]
    pub fn open(
        journal: JournalId,
        forgotten_ms: i64,
        kept: impl IntoIterator<Item = Kept>,
        ended: impl IntoIterator<Item = Kept>,
        limits: Limits,
        repeat: impl Fn(&str) -> Repeat,
    ) -> Self {
        let mut core = Self {
            journal,
            limits,
            entries: BTreeMap::new(),
            ended: EndedIndex::new(forgotten_ms),
            orders: 0,
            dirty: BTreeSet::new(),
            settling: Vec::new(),
            connected: false,
            counts: Counts::default(),
            steps: Barrier::default(),
        };
        for kept in ended {
            core.orders = core.orders.max(kept.order);
            core.ended.insert(&kept);
        }
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

    /// What is known of commands that are open, the newest first; of the others the disk knows.
    #[must_use]
    pub fn list(&self) -> Vec<&Kept> {
        let mut all: Vec<&Kept> = self.entries.values().map(|entry| &entry.kept).collect();
        all.sort_by_key(|kept| std::cmp::Reverse(kept.order));
        all
    }

    /// A session with a hub that sends commands has opened, or a word of the hub was lost in it. All that is open is said, and
    /// then that this is all: the hub asks for what else it wants to know.
    pub fn handle_connected(&mut self) {
        self.handle_disconnected();
        self.connected = true;
        let ids: Vec<CommandId> = self.entries.keys().copied().collect();
        ids.into_iter().for_each(|id| self.say_all(id));
        let journal = Journal { journal: self.journal, forgotten_ms: self.ended.forgotten_ms() };
        self.say(ToHub::Journal(journal));
    }

    /// The session has ended. What was not said is said in the next one.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.steps.retain(|step| !matches!(step, AgentStep::Say(_)));
    }

    /// Whether [`AgentCommands::handle_said`] needs the record of this command from among those that have ended, if there is one.
    #[must_use]
    pub fn lacks(&self, said: &ToAgent) -> Option<CommandId> {
        let id = match said {
            ToAgent::Command(command) => command.id,
            ToAgent::Cancel(cancel) => cancel.id,
            ToAgent::Noted(_) => return None,
        };
        (!self.entries.contains_key(&id)).then_some(id)
    }

    /// The hub said something. `now_ms` is the hub's clock, `None` as long as nobody knows it; `ended` is the record that
    /// [`AgentCommands::lacks`] asked for.
    pub fn handle_said(&mut self, now_ms: Option<i64>, said: ToAgent, ended: Option<Kept>) {
        match said {
            ToAgent::Command(command) => self.accept(command, ended),
            ToAgent::Cancel(cancel) => self.cancel(&cancel, ended),
            ToAgent::Noted(noted) => self.noted(now_ms, &noted),
        }
        self.handle_time(now_ms);
    }

    fn accept(&mut self, command: Command, ended: Option<Kept>) {
        let (id, attempt) = (command.id, command.attempt);
        let kept = self.entries.get(&id).map(|entry| &entry.kept).or(ended.as_ref());
        match kept.map(|kept| (kept.command.attempt >= attempt, kept.did_nothing())) {
            None if self.ended.may_have(id) => return self.decline_forgotten(id, attempt),
            Some((false, false)) => return self.adopt(id, attempt, ended),
            Some((true, _)) => {
                let (Some(kept), false) = (&ended, self.entries.contains_key(&id)) else {
                    return self.say_all(id);
                };
                return self.say(ToHub::Progress(kept.progress(None, None)));
            }
            None | Some((false, true)) => {}
        }
        if !self.entries.contains_key(&id) && self.entries.len() >= self.limits.open_max {
            let text = format!("the agent has {} commands that are open already", self.limits.open_max);
            let error = CommandError::new(errors::BUSY, text);
            return self.decline(id, attempt, CommandState::Failed, Some(error));
        }
        ended.iter().for_each(|kept| self.ended.remove(kept));
        self.orders += 1;
        self.enter(Kept::accepted(command, self.orders));
    }

    fn enter(&mut self, kept: Kept) {
        let id = kept.command.id;
        self.entries.insert(id, Entry { kept, percent: None, cancelled: false, noted: false });
        self.dirty.insert(id);
        self.say_all(id);
    }

    /// A further attempt was sent of what may have had effects, or still may: the hub was told of an end that was none, as by an
    /// agent that was too busy for it once and not when it came a second time. It is that attempt from now on.
    fn adopt(&mut self, id: CommandId, attempt: u32, ended: Option<Kept>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.kept.command.attempt, entry.noted) = (attempt, false);
            self.dirty.insert(id);
            self.say_all(id);
        } else if let Some(mut kept) = ended {
            self.ended.remove(&kept);
            kept.command.attempt = attempt;
            self.enter(kept);
        }
    }

    /// Says that a command is not taken. Nothing is kept of it: asked again, the answer may be another.
    fn decline(&mut self, id: CommandId, attempt: u32, state: CommandState, error: Option<CommandError>) {
        self.counts.declined += u64::from(state == CommandState::Failed);
        let (number, percent, output, result) = (NEVER_HAD, None, None, None);
        self.say(ToHub::Progress(Progress { id, attempt, number, state, percent, output, error, result }));
    }

    fn decline_forgotten(&mut self, id: CommandId, attempt: u32) {
        let text = "the agent has forgotten commands that were made after this one: it may have run";
        let error = CommandError::new(errors::FORGOTTEN, text);
        self.decline(id, attempt, CommandState::Failed, Some(error));
    }

    /// As [`AgentCommands::handle_said`], where there is a record of the command that does not read back: nobody knows what became
    /// of it, and it is not begun.
    pub fn handle_unreadable(&mut self, said: &ToAgent) {
        let (id, attempt) = match said {
            ToAgent::Command(command) => (command.id, command.attempt),
            ToAgent::Cancel(cancel) => (cancel.id, cancel.attempt),
            ToAgent::Noted(_) => return,
        };
        let text = "the agent's record of it does not read back: it may have run";
        self.decline(id, attempt, CommandState::Failed, Some(CommandError::new(errors::UNKNOWN, text)));
    }

    fn cancel(&mut self, cancel: &Cancel, ended: Option<Kept>) {
        let Cancel { id, attempt } = *cancel;
        let Some(entry) = self.entries.get_mut(&id) else {
            return match ended {
                Some(kept) => self.say(ToHub::Progress(kept.progress(None, None))),
                None if self.ended.may_have(id) => self.decline_forgotten(id, attempt),
                // It never came, and the hub does not send it again.
                None => self.decline(id, attempt, CommandState::Cancelled, None),
            };
        };
        if entry.kept.command.attempt != attempt {
            return;
        }
        match entry.kept.state {
            CommandState::Delivered => self.end(id, CommandState::Cancelled, None),
            CommandState::Running if !entry.cancelled => {
                entry.cancelled = true;
                self.push(AgentStep::Abort(id));
            }
            CommandState::Running => {}
            _ => self.say_all(id),
        }
    }

    fn noted(&mut self, now_ms: Option<i64>, noted: &Noted) {
        let Some(entry) = self.entries.get_mut(&noted.id) else { return };
        let kept = &mut entry.kept;
        if kept.command.attempt == noted.attempt
            && kept.state.is_final()
            && noted.number >= kept.number
            && !entry.noted
        {
            entry.noted = true;
            kept.settle(now_ms.unwrap_or_else(|| noted.id.made_ms()));
            self.dirty.insert(noted.id);
        }
    }

    /// Time has passed: what is too late ends, what is over for long is forgotten, and what may begin does.
    pub fn handle_time(&mut self, now_ms: Option<i64>) {
        self.ended.prune(self.limits.ended_max, now_ms);
        // Without the hub's time nobody knows what is too late.
        let Some(now_ms) = now_ms else { return };
        let is_late =
            |kept: &Kept| kept.state == CommandState::Delivered && kept.command.deadline_ms <= now_ms;
        let late = self.entries.values().map(|entry| &entry.kept).filter(|kept| is_late(kept));
        let late: Vec<_> = late.map(|kept| (kept.command.id, kept.begun > 0)).collect();
        for (id, begun) in late {
            let (state, error) = if begun {
                (CommandState::Failed, Some(interrupted()))
            } else {
                (CommandState::Expired, None)
            };
            self.end(id, state, error);
        }
        while self.running() < self.limits.running_max && self.begin_next() {}
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
            let progress = entry.kept.progress(entry.percent, None);
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
        self.counts.end(state);
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
            let progress = entry.kept.progress(entry.percent, None);
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
            let whole = entry.kept.progress(entry.percent, Some(chunk));
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
        let dirty = self.is_dirty();
        self.steps.push(step, dirty);
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.ended.has_changed()
    }

    /// The last commit is durable.
    pub fn handle_committed(&mut self) {
        let dirty = self.is_dirty();
        self.steps.done(dirty);
        // Until its end was on the disk, a look there would have found nothing.
        for id in std::mem::take(&mut self.settling) {
            if !self.dirty.contains(&id)
                && let Some(entry) = self.entries.remove(&id)
            {
                self.ended.insert(&entry.kept);
            }
        }
    }

    /// The next step.
    pub fn poll(&mut self) -> Option<AgentStep> {
        if let Some(step) = self.steps.pop() {
            return Some(step);
        }
        if !self.is_dirty() || !self.steps.may_commit() {
            return None;
        }
        let mut changes = self.ended.take_changes();
        for id in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get(&id) else { continue };
            changes.push(if entry.noted {
                self.settling.push(id);
                AgentChange::End(id, entry.kept.bytes())
            } else {
                AgentChange::Put(id, entry.kept.bytes())
            });
        }
        self.steps.begin();
        Some(AgentStep::Commit(changes))
    }
}
