//! How a session hears that there may be something to say of a document.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::model::AgentId;
use tideline_protocol::wire::DocumentId;
use tokio::sync::Notify;

/// The documents of one session of which something may be new, each once however often that is said. Those are at most the
/// documents of its agent's devices.
#[derive(Debug, Default)]
pub struct Inbox {
    documents: Mutex<BTreeSet<DocumentId>>,
    news: Notify,
}

impl Inbox {
    fn documents(&self) -> MutexGuard<'_, BTreeSet<DocumentId>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may be new of a document.
    pub fn tell(&self, document: DocumentId) {
        self.documents().insert(document);
        self.news.notify_one();
    }

    /// Takes some documents out.
    #[must_use]
    pub fn take(&self, most: usize) -> Vec<DocumentId> {
        let mut documents = self.documents();
        std::iter::from_fn(|| documents.pop_first()).take(most).collect()
    }

    /// Resolves when something was put in since it last did. Cancel safe.
    pub async fn told(&self) {
        self.news.notified().await;
    }
}

type BySession = Vec<(u64, Arc<Inbox>)>;

#[derive(Debug, Default)]
struct Open {
    by_agent: HashMap<AgentId, BySession>,
    next: u64,
}

/// The inboxes of all sessions, by agent.
#[derive(Debug, Default)]
pub struct Inboxes {
    open: Arc<Mutex<Open>>,
}

fn locked(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of one session, free again when dropped.
#[derive(Debug)]
pub struct Seat {
    open: Arc<Mutex<Open>>,
    agent: AgentId,
    number: u64,
    inbox: Arc<Inbox>,
}

impl Seat {
    /// Its inbox.
    #[must_use]
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Its number among all sessions since the hub started.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        if let Some(own) = open.by_agent.get_mut(&self.agent) {
            own.retain(|(number, _)| *number != self.number);
            if own.is_empty() {
                open.by_agent.remove(&self.agent);
            }
        }
    }
}

impl Inboxes {
    /// A session of an agent.
    pub fn enter(&self, agent: &AgentId) -> Seat {
        let inbox = Arc::new(Inbox::default());
        let mut open = locked(&self.open);
        let number = open.next;
        open.next = number.saturating_add(1);
        open.by_agent.entry(agent.clone()).or_default().push((number, Arc::clone(&inbox)));
        Seat { open: Arc::clone(&self.open), agent: agent.clone(), number, inbox }
    }

    /// Something may be new of a document; the session that made it so knows.
    pub fn tell(&self, agent: &AgentId, document: &DocumentId, but: Option<u64>) {
        for (number, inbox) in locked(&self.open).by_agent.get(agent).into_iter().flatten() {
            if Some(*number) != but {
                inbox.tell(document.clone());
            }
        }
    }
}
