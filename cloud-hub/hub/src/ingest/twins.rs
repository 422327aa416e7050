//! The session's part in twins: what comes is queued, worked on off the loop a turn at a time, and answered. There is one turn
//! at a time, and none while its answers leave: a peer that does not read has no more made for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tideline_protocol::wire::{DocumentId, RefuseCode, TwinSync};
use tideline_twin::Link;
use tokio::task::JoinHandle;

use super::{Driver, Ended};
use crate::belonging;
use crate::telemetry::Metric;
use crate::twins::{Seat, Speaker, Turn, Turned, TwinError, turn};

/// Most messages that wait for a turn, and most bytes of them; beyond it the session reads nothing more.
const HEARD_MAX: usize = 64;
const HEARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most messages and documents of one turn.
const TURN_MAX: usize = 16;
/// Messages of one session that may be refused: an agent that is of another mind than the hub about some devices is well, one
/// that goes on is not.
const REFUSED_MAX: u32 = 200;
/// Of them those that are logged.
const LOGGED_MAX: u32 = 10;

/// What a session knows of twins.
#[derive(Default)]
pub(super) struct Talk {
    pub(super) seat: Option<Seat>,
    links: BTreeMap<DocumentId, Link>,
    // As many as messages may be refused.
    barred: BTreeSet<DocumentId>,
    heard: VecDeque<TwinSync>,
    heard_bytes: usize,
    refused: u32,
    pub(super) turn: Option<JoinHandle<Result<Turned, TwinError>>>,
}

impl Talk {
    /// Whether another message can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.heard.len() < HEARD_MAX && self.heard_bytes < HEARD_BYTES_MAX
    }

    /// Resolves when there may be something to say, once the last turn is over. Cancel safe.
    pub(super) async fn told(seat: Option<&Seat>, is_idle: bool) {
        match seat.filter(|_| is_idle) {
            Some(seat) => seat.inbox().told().await,
            None => std::future::pending().await,
        }
    }

    fn next(&mut self) -> Option<Turn> {
        let seat = self.seat.as_ref()?;
        let mut heard = Vec::new();
        while heard.len() < TURN_MAX
            && let Some(sync) = self.heard.pop_front()
        {
            self.heard_bytes = self.heard_bytes.saturating_sub(sync.message.len());
            heard.push(sync);
        }
        let told = seat.inbox().take(TURN_MAX).into_iter().collect();
        let turn = Turn { heard, told, ..Turn::default() };
        if turn.heard.is_empty() && turn.told.is_empty() {
            return None;
        }
        let (links, barred) = (std::mem::take(&mut self.links), std::mem::take(&mut self.barred));
        Some(Turn { links, barred, ..turn })
    }
}

/// The end of a turn; for ever when there is none. Cancel safe.
pub(super) async fn turned(
    turn: &mut Option<JoinHandle<Result<Turned, TwinError>>>,
) -> Result<Turned, Ended> {
    let Some(running) = turn else { return std::future::pending().await };
    let done = running.await;
    *turn = None;
    Ok(done??)
}

impl Driver {
    /// Begins to speak of twins, if the agent does.
    pub(super) async fn begin_twins(&mut self) -> Result<(), Ended> {
        if self.session.speaks_of_twins() {
            let agent = self.agent.clone();
            self.talk.seat = Some(self.hub.blocking(move |hub| hub.twins.enter(hub, &agent)).await?);
            // Each change of a twin wakes the session; it waits for none.
            tokio::spawn(belonging::note_all(Arc::clone(&self.hub), self.agent.clone()));
        }
        Ok(())
    }

    /// A message came.
    pub(super) fn twin(&mut self, sync: TwinSync) {
        self.hub.counters.add(Metric::TwinMessagesHeard, 1);
        self.hub.counters.add(Metric::TwinBytesHeard, sync.message.len() as u64);
        self.talk.heard_bytes = self.talk.heard_bytes.saturating_add(sync.message.len());
        self.talk.heard.push_back(sync);
    }

    /// Begins the next turn, if the last one is over and there is something to do. It comes to its end even when the
    /// session does not wait for it: what was taken is made durable.
    pub(super) fn turn_twins(&mut self) {
        if self.talk.turn.is_some() {
            return;
        }
        let Some(work) = self.talk.next() else { return };
        let Some(seat) = &self.talk.seat else { return };
        let who = Speaker { agent: self.agent.clone(), number: seat.number() };
        self.talk.turn = Some(tokio::spawn(turn(Arc::clone(&self.hub), who, work)));
    }

    /// Takes what a turn gives.
    pub(super) fn twins_turned(&mut self, turned: Turned) {
        let Turned { links, barred, say, again, refused } = turned;
        (self.talk.links, self.talk.barred) = (links, barred);
        say.into_iter().for_each(|sync| self.session.handle_twin(sync));
        if let Some(seat) = &self.talk.seat {
            again.into_iter().for_each(|document| seat.inbox().tell(document));
        }
        self.hub.counters.add(Metric::TwinMessagesRefused, refused.len() as u64);
        for reason in refused {
            self.talk.refused = self.talk.refused.saturating_add(1);
            if self.talk.refused <= LOGGED_MAX {
                tracing::warn!(agent = %self.agent, reason, "a message about a twin was refused");
            }
        }
        if self.talk.refused > REFUSED_MAX {
            let reason = format!(
                "more than {REFUSED_MAX} messages about twins were refused; the hub's log names the first"
            );
            self.refuse(RefuseCode::Protocol, reason);
        }
    }
}
