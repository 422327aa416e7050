//! The hub's end of commands, those of all agents.

mod record;

use std::collections::{BTreeMap, BTreeSet};

pub use record::{HubCommand, Order};

use super::barrier::Barrier;
use super::{HANDED_MAX, NEVER_HAD, UNANSWERED_MS, errors};
use crate::model::{AgentId, DeviceId};
use crate::wire::{
    Cancel, CommandError, CommandId, CommandState, Journal, JournalId, Noted, Progress, ToAgent, ToHub,
};

/// A change of what the hub holds.
#[derive(Debug, Clone, PartialEq)]
pub enum HubChange {
    /// Write this record.
    Put(Box<HubCommand>),
    /// Write this piece of output beside what there is of the attempt.
    Output {
        /// Of which command.
        id: CommandId,
        /// Of which of its attempts.
        attempt: u32,
        /// Where it begins.
        offset: u64,
        /// What it is.
        bytes: Vec<u8>,
    },
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum HubStep {
    /// Make these changes durable together, then call [`HubCommands::handle_committed`].
    Commit(Vec<HubChange>),
    /// Tell the agent in its session of that number. Where that is over, it is dropped: the next one begins anew.
    Say(AgentId, u64, ToAgent),
}

#[derive(Debug)]
struct Session {
    number: u64,
    // Set once the agent has said all that its journal holds.
    journal: Option<JournalId>,
    // The agent has spoken of them, or was sent them.
    known: BTreeSet<CommandId>,
    // Those of which it has spoken since it last said that this is all.
    spoken: BTreeSet<CommandId>,
}

/// The commands of a hub that have not ended. See the module's text for the call order.
#[derive(Debug, Default)]
pub struct HubCommands {
    live: BTreeMap<CommandId, HubCommand>,
    sessions: BTreeMap<AgentId, Session>,
    dirty: BTreeSet<CommandId>,
    output: Vec<HubChange>,
    // In the commit that is being made.
    committing: BTreeSet<CommandId>,
    steps: Barrier<HubStep>,
}

impl HubCommands {
    /// A command that is durable at the hub: those of a start that have not ended, and each that is made.
    pub fn handle_created(&mut self, now_ms: i64, command: HubCommand) {
        let agent = command.agent.clone();
        self.live.insert(command.id, command);
        self.hand_out(now_ms, &agent);
    }

    /// What is known of a command that has not ended.
    #[must_use]
    pub fn find(&self, id: CommandId) -> Option<&HubCommand> {
        self.live.get(&id)
    }

    /// The commands that have not ended.
    pub fn iter(&self) -> impl Iterator<Item = &HubCommand> {
        self.live.values()
    }

    /// How many wait for the agent or are with it.
    #[must_use]
    pub fn count(&self, agent: &AgentId) -> usize {
        self.live.values().filter(|command| command.agent == *agent).count()
    }

    /// Whether [`HubCommands::handle_said`] needs the record of this command, which has ended, from the disk: hand it to
    /// [`HubCommands::admit`] first, if there is one.
    #[must_use]
    pub fn lacks(&self, said: &ToHub) -> Option<CommandId> {
        match said {
            ToHub::Progress(progress) if !self.live.contains_key(&progress.id) => Some(progress.id),
            _ => None,
        }
    }

    /// Takes a record in for [`HubCommands::handle_said`].
    pub fn admit(&mut self, command: HubCommand) {
        self.live.entry(command.id).or_insert(command);
    }

    /// Ends a command, or asks its agent to. Says whether there is one that has not ended.
    pub fn cancel(&mut self, now_ms: i64, id: CommandId) -> bool {
        let Some(command) = self.live.get_mut(&id).filter(|command| !command.state.is_final()) else {
            return false;
        };
        command.cancel = true;
        command.changed_ms = now_ms;
        self.dirty.insert(id);
        let (agent, attempt) = (command.agent.clone(), command.attempt);
        match &command.sent {
            None => command.conclude(now_ms, CommandState::Cancelled, None),
            Some(_) => {
                let session = self.sessions.get(&agent).filter(|session| session.known.contains(&id));
                if let Some(number) = session.map(|session| session.number) {
                    self.say(&agent, number, ToAgent::Cancel(Cancel { id, attempt }));
                }
            }
        }
        true
    }

    /// The device is another agent's now: what was not sent yet goes to that one, and so does the next attempt of what was.
    pub fn handle_moved(&mut self, now_ms: i64, device: &DeviceId, agent: &AgentId) {
        for command in self.live.values_mut().filter(|command| command.device == *device) {
            let moved_to = (command.agent != *agent).then(|| agent.clone());
            if command.sent.is_some() {
                if command.moved_to != moved_to {
                    command.moved_to = moved_to;
                    self.dirty.insert(command.id);
                }
            } else if let Some(agent) = moved_to {
                command.agent = agent;
                self.dirty.insert(command.id);
            }
        }
        self.hand_out(now_ms, agent);
    }

    /// A session with an agent that takes commands has opened; an older one of it is over.
    pub fn handle_entered(&mut self, agent: &AgentId, number: u64) {
        self.sessions.insert(
            agent.clone(),
            Session { number, journal: None, known: BTreeSet::new(), spoken: BTreeSet::new() },
        );
    }

    /// The session of that number is over.
    pub fn handle_left(&mut self, agent: &AgentId, number: u64) {
        if self.sessions.get(agent).is_some_and(|session| session.number == number) {
            self.sessions.remove(agent);
        }
    }

    /// The agent said something in its session of that number.
    pub fn handle_said(&mut self, now_ms: i64, agent: &AgentId, number: u64, said: ToHub) {
        if self.sessions.get(agent).is_none_or(|session| session.number != number) {
            return;
        }
        match said {
            ToHub::Progress(progress) => self.progress(now_ms, agent, number, progress),
            ToHub::Journal(journal) => self.journal(now_ms, agent, &journal),
        }
    }

    fn progress(&mut self, now_ms: i64, agent: &AgentId, number: u64, mut progress: Progress) {
        let Progress { id, attempt, number: said, .. } = progress;
        let mut next = None;
        // What another agent's device was told is none of this one's business.
        if let Some(command) = self.live.get_mut(&id).filter(|command| command.agent == *agent) {
            // It was asked what became of it, and lacks what it once had.
            let lacks_it = progress.state == CommandState::Cancelled && said == NEVER_HAD;
            if lacks_it && !command.cancel {
                (progress.state, progress.error) = (CommandState::Failed, Some(lost()));
            }
            let told = command.take(now_ms, progress);
            if told.changed {
                self.dirty.insert(id);
            }
            self.output.extend(told.output);
            if let Some(Session { known, spoken, .. }) = self.sessions.get_mut(agent) {
                // What it says of an attempt that is over says nothing of the one that was sent since.
                let of_this = command.attempt == attempt && command.agent == *agent;
                for ids in [known, spoken] {
                    if of_this {
                        ids.insert(id)
                    } else {
                        ids.remove(&id)
                    };
                }
            }
            next = Some(command.agent.clone()).filter(|next| next != agent);
        }
        self.say(agent, number, ToAgent::Noted(Noted { id, attempt, number: said }));
        self.drop_ended(id);
        self.hand_out(now_ms, agent);
        next.iter().for_each(|next| self.hand_out(now_ms, next));
    }

    fn drop_ended(&mut self, id: CommandId) {
        let ended = self.live.get(&id).is_some_and(|command| command.state.is_final());
        // Until its end is on the disk, a look there would find an older record.
        if ended && !self.dirty.contains(&id) && !self.committing.contains(&id) {
            self.live.remove(&id);
        }
    }

    /// All that is open at the agent was said: it is asked for the rest, which it has ended, never had, or lost. Once more in a
    /// session, what was sent before and not spoken of since is asked for as well: it may not have been heard.
    fn journal(&mut self, now_ms: i64, agent: &AgentId, said: &Journal) {
        let Some(session) = self.sessions.get_mut(agent) else { return };
        let number = session.number;
        session.journal = Some(said.journal);
        session.known = std::mem::take(&mut session.spoken);
        let mut again = Vec::new();
        for command in
            self.live.values_mut().filter(|command| command.agent == *agent && !command.state.is_final())
        {
            let (id, cancel) = (command.id, Cancel { id: command.id, attempt: command.attempt });
            if session.known.contains(&id) {
                // A hub that was restored learns that it has sent it.
                if command.sent != Some(said.journal) {
                    command.sent = Some(said.journal);
                    self.dirty.insert(id);
                }
                if command.cancel {
                    again.push((id, ToAgent::Cancel(cancel)));
                }
                continue;
            }
            let Some(sent) = command.sent else { continue };
            if sent != said.journal {
                command.conclude(now_ms, CommandState::Failed, Some(lost()));
                self.dirty.insert(id);
            } else if command.cancel || command.state != CommandState::Queued {
                // What it once had is not to begin, whatever its journal lacks.
                again.push((id, ToAgent::Cancel(cancel)));
            } else {
                again.push((id, ToAgent::Command(command.wire())));
            }
        }
        for (id, said) in again {
            if let Some(session) = self.sessions.get_mut(agent) {
                session.known.insert(id);
            }
            self.say(agent, number, said);
        }
        self.hand_out(now_ms, agent);
    }

    /// Sends what is due to an agent that has said what it holds.
    fn hand_out(&mut self, now_ms: i64, agent: &AgentId) {
        let Some(session) = self.sessions.get_mut(agent) else { return };
        let (Some(journal), number) = (session.journal, session.number) else { return };
        let own =
            || self.live.values().filter(|command| command.agent == *agent && !command.state.is_final());
        let with_agent = own().filter(|command| command.sent.is_some()).count();
        let mut due: Vec<_> = own()
            .filter(|command| command.is_due(now_ms))
            .map(|command| (std::cmp::Reverse(command.priority), command.created_ms, command.id))
            .collect();
        due.sort_unstable();
        due.truncate(HANDED_MAX.saturating_sub(with_agent));
        for (_, _, id) in due {
            let Some(command) = self.live.get_mut(&id) else { continue };
            command.sent = Some(journal);
            command.changed_ms = now_ms;
            let wire = command.wire();
            self.dirty.insert(id);
            if let Some(session) = self.sessions.get_mut(agent) {
                session.known.insert(id);
            }
            self.say(agent, number, ToAgent::Command(wire));
        }
    }

    /// Time has passed: what is too late ends, and what waited is sent.
    pub fn handle_time(&mut self, now_ms: i64) {
        let mut agents = BTreeSet::new();
        for command in self.live.values_mut().filter(|command| !command.state.is_final()) {
            let is_known =
                self.sessions.get(&command.agent).is_some_and(|session| session.known.contains(&command.id));
            if command.sent.is_none() && command.deadline_ms <= now_ms {
                command.give_up(now_ms);
                self.dirty.insert(command.id);
            } else if command.is_due(now_ms) {
                agents.insert(command.agent.clone());
            } else if !is_known && command.deadline_ms.saturating_add(UNANSWERED_MS) <= now_ms {
                command.conclude(now_ms, CommandState::Failed, Some(unanswered()));
                self.dirty.insert(command.id);
            }
        }
        agents.iter().for_each(|agent| self.hand_out(now_ms, agent));
    }

    fn say(&mut self, agent: &AgentId, number: u64, said: ToAgent) {
        let dirty = self.is_dirty();
        self.steps.push(HubStep::Say(agent.clone(), number, said), dirty);
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.output.is_empty()
    }

    /// The last commit is durable.
    pub fn handle_committed(&mut self) {
        let dirty = self.is_dirty();
        self.steps.done(dirty);
        // Who asks for one that has ended reads the disk.
        std::mem::take(&mut self.committing).into_iter().for_each(|id| self.drop_ended(id));
    }

    /// Whether all that was done is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.is_dirty() && self.steps.may_commit()
    }

    /// The next step.
    pub fn poll(&mut self) -> Option<HubStep> {
        if let Some(step) = self.steps.pop() {
            return Some(step);
        }
        if !self.is_dirty() || !self.steps.may_commit() {
            return None;
        }
        let mut changes = std::mem::take(&mut self.output);
        self.committing = std::mem::take(&mut self.dirty);
        let records = self.committing.iter().filter_map(|id| self.live.get(id));
        changes.extend(records.map(|command| HubChange::Put(Box::new(command.clone()))));
        self.steps.begin();
        Some(HubStep::Commit(changes))
    }
}

fn lost() -> CommandError {
    let text = "the agent has lost its journal since this was sent: it may have run";
    CommandError::new(errors::FORGOTTEN, text)
}

fn unanswered() -> CommandError {
    CommandError::new(errors::UNANSWERED, "no word of it has come since it was sent: it may have run")
}
