//! A session's side of the replicas: what came goes to them, and what they have to say is fetched as fast as the session
//! sends it.

use tideline_protocol::wire::TwinSync;
use tokio::sync::watch;

use super::{Request, TwinHandle};

/// The side of one session. Dropped, the replicas wait for the next.
pub struct Line {
    twins: TwinHandle,
    said: watch::Receiver<u64>,
    session: Option<u64>,
    silent: bool,
}

impl Line {
    pub(super) fn new(twins: TwinHandle) -> Self {
        let said = twins.said.clone();
        Self { twins, said, session: None, silent: false }
    }

    /// A message came from the hub. What is wrong with it costs the message.
    pub async fn receive(&mut self, sync: TwinSync) {
        if let Some(session) = self.begun().await
            && self.twins.requests.send(Request::Receive(session, sync)).await.is_err()
        {
            self.silent = true;
        }
    }

    /// What is to be said now; more may be there after it was sent. The first call begins the session.
    pub async fn take(&mut self) -> Vec<TwinSync> {
        let is_new = self.session.is_none();
        let Some(session) = self.begun().await else { return Vec::new() };
        if !is_new && !self.said.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        self.said.mark_unchanged();
        let taken = self.twins.ask(|answer| Request::Take(session, answer)).await;
        self.silent |= taken.is_err();
        taken.unwrap_or_default()
    }

    /// The hub has told the time: by how much its wall clock is ahead of the monotonic one here.
    pub async fn learn_time(&self, ahead_ns: i64) {
        // Without the thread nobody is to be told.
        let _ = self.twins.requests.send(Request::Time(ahead_ns)).await;
    }

    /// Devices became known: the hub may have spoken of them before.
    pub async fn met(&self) {
        // Without the thread nobody is to be told.
        let _ = self.twins.requests.send(Request::Met).await;
    }

    /// Resolves when [`Self::take`] may have something; never before the session has begun. Cancel safe.
    pub async fn said(&mut self) {
        if self.session.is_none() || self.silent || self.said.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.said.mark_changed();
    }

    async fn begun(&mut self) -> Option<u64> {
        if self.session.is_none() && !self.silent {
            self.session = self.twins.ask(Request::Begin).await.ok();
            self.silent = self.session.is_none();
        }
        self.session.filter(|_| !self.silent)
    }
}
