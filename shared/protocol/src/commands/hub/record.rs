//! What a hub holds of one command.

use serde::{Deserialize, Serialize};

use super::HubChange;
use crate::commands::{ATTEMPTS_MAX, RETRY_MAX_MS, RETRY_MS, errors};
use crate::model::{AgentId, DeviceId};
use crate::wire::{Command, CommandError, CommandId, CommandState, JournalId, Progress};

/// What somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// By which device.
    pub device: DeviceId,
    /// Through which agent.
    pub agent: AgentId,
    /// What.
    pub kind: String,
    /// With what, as JSON.
    pub input: String,
    /// Higher ones go first.
    pub priority: u8,
    /// When it is too late to begin it, Unix ms.
    pub deadline_ms: i64,
    /// Most attempts; at least one, at most [`ATTEMPTS_MAX`].
    pub attempts_max: u32,
    /// Who wants it.
    pub author: String,
    /// What ties it to something of theirs.
    pub correlation: Option<String>,
}

/// A command as the hub holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubCommand {
    /// Its id.
    pub id: CommandId,
    /// The device.
    pub device: DeviceId,
    /// The agent that is to do it.
    pub agent: AgentId,
    /// What is to be done.
    pub kind: String,
    /// With what, as JSON.
    pub input: String,
    /// Higher ones go first.
    pub priority: u8,
    /// When it is too late to begin it, Unix ms.
    pub deadline_ms: i64,
    /// Who wants it.
    pub author: String,
    /// What ties it to something of theirs.
    pub correlation: Option<String>,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// When this record was last changed, Unix ms.
    pub changed_ms: i64,
    /// When it ended, Unix ms.
    pub ended_ms: Option<i64>,
    /// The attempt that it is in, from 1 on.
    pub attempt: u32,
    /// Most attempts.
    pub attempts_max: u32,
    /// When the attempt may be sent, Unix ms.
    pub not_before_ms: i64,
    /// To which journal the attempt was sent, or was about to be.
    pub sent: Option<JournalId>,
    /// Where it is.
    pub state: CommandState,
    /// The last number that the agent said of the attempt.
    pub number: u64,
    /// How much is done.
    pub percent: Option<u8>,
    /// How many bytes of the attempt's output there are.
    pub output_bytes: u64,
    /// Why it failed, or why the last attempt did.
    pub error: Option<CommandError>,
    /// What came of it, as JSON.
    pub result: Option<String>,
    /// Whether it is to end.
    pub cancel: bool,
    /// Whether the hub has concluded its end by itself: what the agent says replaces it.
    pub concluded: bool,
    /// Whose the device is since the attempt was sent: the next one goes there.
    #[serde(default)]
    pub moved_to: Option<AgentId>,
}

/// What came of what an agent said.
pub(super) struct Told {
    pub changed: bool,
    pub output: Option<HubChange>,
}

impl HubCommand {
    /// One that nobody was told of yet.
    #[must_use]
    pub fn new(id: CommandId, now_ms: i64, order: Order) -> Self {
        let Order { device, agent, kind, input, priority, deadline_ms, attempts_max, author, correlation } =
            order;
        Self {
            id,
            device,
            agent,
            kind,
            input,
            priority,
            deadline_ms,
            author,
            correlation,
            created_ms: now_ms,
            changed_ms: now_ms,
            ended_ms: None,
            attempt: 1,
            attempts_max: attempts_max.clamp(1, ATTEMPTS_MAX),
            not_before_ms: now_ms,
            sent: None,
            state: CommandState::Queued,
            number: 0,
            percent: None,
            output_bytes: 0,
            error: None,
            result: None,
            cancel: false,
            concluded: false,
            moved_to: None,
        }
    }

    /// Whether it is to be sent.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        let waits = self.state == CommandState::Queued && self.sent.is_none() && !self.cancel;
        waits && self.not_before_ms <= now_ms && now_ms < self.deadline_ms
    }

    pub(super) fn wire(&self) -> Command {
        Command {
            id: self.id,
            device: self.device.clone(),
            kind: self.kind.clone(),
            input: self.input.clone().into_bytes(),
            priority: self.priority,
            deadline_ms: self.deadline_ms,
            author: self.author.clone(),
            attempt: self.attempt,
        }
    }

    /// Ends it without word of the agent.
    pub(super) fn conclude(&mut self, now_ms: i64, state: CommandState, error: Option<CommandError>) {
        self.concluded = true;
        self.end(now_ms, state);
        self.error = error;
    }

    /// It was not sent in time. One that failed before has failed; one that was never tried has expired.
    pub(super) fn give_up(&mut self, now_ms: i64) {
        let state = if self.attempt > 1 { CommandState::Failed } else { CommandState::Expired };
        let error = self.error.take();
        self.conclude(now_ms, state, error);
    }

    fn end(&mut self, now_ms: i64, state: CommandState) {
        self.state = state;
        self.changed_ms = now_ms;
        self.ended_ms = Some(now_ms);
    }

    /// Takes what the agent says.
    pub(super) fn take(&mut self, now_ms: i64, said: Progress) -> Told {
        let nothing = Told { changed: false, output: None };
        // Of an attempt that has failed, or of one that has ended, there is nothing more to learn.
        if said.attempt < self.attempt
            || (said.attempt == self.attempt && self.state.is_final() && !self.concluded)
        {
            return nothing;
        }
        if said.attempt > self.attempt {
            self.begin_attempt(said.attempt, now_ms);
        }
        let output = said.output.and_then(|chunk| {
            let known = usize::try_from(self.output_bytes.checked_sub(chunk.offset)?).ok()?;
            let bytes = chunk.bytes.get(known..).filter(|bytes| !bytes.is_empty())?.to_vec();
            let offset = self.output_bytes;
            self.output_bytes = offset.saturating_add(bytes.len() as u64);
            Some(HubChange::Output { id: self.id, attempt: self.attempt, offset, bytes })
        });
        let is_news = said.number > self.number || said.state.is_final() || self.concluded;
        if !is_news {
            return Told { changed: output.is_some(), output };
        }
        (self.concluded, self.ended_ms) = (false, None);
        self.number = self.number.max(said.number);
        (self.state, self.percent, self.changed_ms) = (said.state, said.percent, now_ms);
        if said.state.is_final() {
            self.error = said.error;
            self.result = said.result.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            if !self.retry(now_ms) {
                self.end(now_ms, said.state);
            }
        }
        Told { changed: true, output }
    }

    /// Begins another attempt where that may help, and says whether it has.
    fn retry(&mut self, now_ms: i64) -> bool {
        let failed = self.error.as_ref().filter(|_| self.state == CommandState::Failed);
        let may = failed.is_some_and(|error| errors::may_retry(&error.code));
        let wait_ms = RETRY_MS
            .checked_shl(self.attempt - 1)
            .filter(|ms| *ms > 0)
            .unwrap_or(RETRY_MAX_MS)
            .min(RETRY_MAX_MS);
        let not_before_ms = now_ms.saturating_add(wait_ms);
        if !may || self.cancel || self.attempt >= self.attempts_max || not_before_ms >= self.deadline_ms {
            return false;
        }
        self.begin_attempt(self.attempt + 1, not_before_ms);
        if let Some(agent) = self.moved_to.take() {
            self.agent = agent;
        }
        true
    }

    fn begin_attempt(&mut self, attempt: u32, not_before_ms: i64) {
        (self.attempt, self.not_before_ms) = (attempt, not_before_ms);
        (self.sent, self.state) = (None, CommandState::Queued);
        (self.number, self.percent, self.output_bytes) = (0, None, 0);
        (self.result, self.concluded, self.ended_ms) = (None, false, None);
    }
}
