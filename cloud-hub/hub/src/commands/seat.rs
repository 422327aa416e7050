//! The place of an agent's session among those that take commands.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{ToAgent, ToHub};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::stored;
use crate::hub::App;
use crate::metadata::MetadataError;

/// Who is there. What waits in an outbox is bounded by what the core has out with one agent.
#[derive(Debug, Default)]
pub(super) struct Seats {
    last: u64,
    outboxes: HashMap<AgentId, (u64, UnboundedSender<ToAgent>)>,
}

impl Seats {
    /// Hands it to the agent's session of that number; to nobody when that is over.
    pub fn say(&self, agent: &AgentId, number: u64, said: ToAgent) {
        if let Some((_, outbox)) = self.outboxes.get(agent).filter(|(own, _)| *own == number) {
            // A session that has just ended says so by dropping its seat.
            let _ended = outbox.send(said);
        }
    }
}

/// A session that takes commands. Dropped, it is over.
pub struct Seat {
    hub: App,
    agent: AgentId,
    number: u64,
    inbox: UnboundedReceiver<ToAgent>,
}

impl Seat {
    /// Takes the agent's seat; that of an older session is over.
    #[must_use]
    pub fn take(hub: &App, agent: &AgentId) -> Self {
        let (outbox, inbox) = unbounded_channel();
        let number = {
            let mut seats = hub.commands.seats();
            seats.last += 1;
            let number = seats.last;
            seats.outboxes.insert(agent.clone(), (number, outbox));
            number
        };
        hub.commands.core().handle_entered(agent, number);
        Self { hub: Arc::clone(hub), agent: agent.clone(), number, inbox }
    }

    /// The agent said something.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn said(&self, said: ToHub) -> Result<(), MetadataError> {
        let (agent, number) = (self.agent.clone(), self.number);
        self.hub
            .blocking(move |hub| {
                // A record is with the core until its end is on the disk, so that under this lock it is in one of them.
                let mut core = hub.commands.core();
                if let Some(id) = core.lacks(&said)
                    && let Some(command) = stored(&hub.metadata, id)?
                {
                    core.admit(command);
                }
                core.handle_said(hub.now_ms(), &agent, number, said);
                Ok::<_, MetadataError>(())
            })
            .await?;
        self.hub.commands.wake.notify_one();
        Ok(())
    }

    /// What the agent is to be told; for ever where there is no seat. Cancel safe.
    pub async fn next(seat: Option<&mut Self>) -> ToAgent {
        match seat {
            Some(seat) => match seat.inbox.recv().await {
                Some(said) => said,
                // A newer session has taken the seat.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.hub.commands.seats();
        if seats.outboxes.get(&self.agent).is_some_and(|(number, _)| *number == self.number) {
            seats.outboxes.remove(&self.agent);
        }
        drop(seats);
        self.hub.commands.core().handle_left(&self.agent, self.number);
    }
}
