//! The agent's replicas of twins: its own host's and those of the devices behind it.
//!
//! They live on a thread of their own, since a commit must never block the runtime. What is asked at the same time is
//! carried out together and made durable by one commit; nothing is told to anybody before it. A session with the hub has
//! a [`Line`] to them.

pub mod command;
pub mod desk;
pub mod file;
pub mod judge;
mod line;
mod news;
mod touched;
mod worker;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use tideline_protocol::model::{DeviceId, Epoch};
use tideline_protocol::wire::{DocumentId, TwinSync};
use tideline_twin::{Change, EditError, PatchError, Twin};
use tokio::sync::{mpsc, oneshot, watch};

use self::file::FileError;
pub use self::line::Line;
pub use self::news::news;
pub use self::touched::{Followed, Touched};
use self::worker::Worker;
use crate::cards::CardsSeen;
use crate::clock::AgentClock;
use crate::status::Board;

/// Most requests that wait for the thread (INV-6).
const QUEUE_MAX: usize = 256;
/// How long a replica that nobody uses stays in memory, and what need not be durable waits to be written.
pub const REST_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a twin is not read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TwinError {
    /// It is no device of this agent.
    #[error("this agent neither is device {0} nor reads it")]
    NoDevice(DeviceId),
    /// The hub has not told of the site or the group.
    #[error("{0}: the hub has not told this agent that a device of it is there")]
    NotShared(DocumentId),
    /// There are too many.
    #[error("the agent keeps {max} twins already")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The edit is refused.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The patch is none.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// It changed in the meantime.
    #[error("the twin is not as it was when it was read: it is at {found}")]
    Moved {
        /// Its heads now.
        found: String,
    },
    /// It cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The agent stops.
    #[error("the agent stops")]
    Stopped,
}

/// What is known of devices, to tell those of this agent.
#[derive(Debug, Clone)]
pub struct Kin {
    /// The agent's own host.
    pub own: DeviceId,
    /// The devices that it reads.
    pub cards: CardsSeen,
    /// Those that it had readings of when it began: of some it hears nothing for days, and their twins are here all the same. The hub
    /// is not told of them again, as some may be behind another agent by now.
    pub known: Arc<HashSet<DeviceId>>,
}

impl Kin {
    fn holds(&self, device: &DeviceId) -> bool {
        *device == self.own || self.cards.holds(device) || self.known.contains(device)
    }
}

/// What replicas are made of.
pub struct Parts {
    /// Their file.
    pub path: PathBuf,
    /// The epoch that the spool is in.
    pub epoch: Box<dyn Fn() -> Epoch + Send>,
    /// Whose they are.
    pub kin: Kin,
    /// Where their state is shown.
    pub board: Board,
    /// When things are confirmed.
    pub clock: AgentClock,
}

/// What is asked of a replica, and carried out on its thread.
type Look = Box<dyn FnOnce(Result<&Twin, TwinError>) + Send>;
type Make = Box<dyn FnOnce(&Twin) -> Result<Change, TwinError> + Send>;

enum Request {
    Look(DocumentId, Look),
    Edit(DocumentId, Make, oneshot::Sender<Result<Edited, TwinError>>),
    List(oneshot::Sender<Vec<Listed>>),
    Begin(oneshot::Sender<u64>),
    Receive(u64, TwinSync),
    Take(u64, oneshot::Sender<Vec<TwinSync>>),
    Met,
    /// By how much the hub's wall clock is ahead of the monotonic one here, ns.
    Time(i64),
    Rest,
    Close(oneshot::Sender<()>),
}

/// What came of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Whether anything is other than before.
    pub changed: bool,
    /// The state that there is now, see [`etag`].
    pub etag: String,
}

/// A document that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub document: DocumentId,
    /// Changes made here that the hub has not confirmed.
    pub unconfirmed: u64,
}

/// Names the state of a twin: its generation and heads.
#[must_use]
pub fn etag(twin: &Twin) -> String {
    let hex = |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut heads: Vec<_> = twin.heads().iter().map(|head| hex(head)).collect();
    heads.sort_unstable();
    format!("{}-{}", twin.generation().number, heads.join("-"))
}

/// A handle to the replicas' thread. Clones share it; the thread ends with the last.
#[derive(Clone)]
pub struct TwinHandle {
    requests: mpsc::Sender<Request>,
    said: watch::Receiver<u64>,
    changes: watch::Receiver<u64>,
    touched: Touched,
}

impl TwinHandle {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn start(parts: Parts) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let (requests, inbox) = mpsc::channel(QUEUE_MAX);
        let (say, said) = watch::channel(0);
        let (change, changes) = watch::channel(0);
        let worker = Worker::open(parts, say, change)?;
        let touched = worker.touched();
        let thread = std::thread::Builder::new().name("twins".into()).spawn(move || worker.run(inbox))?;
        Ok((Self { requests, said, changes, touched }, thread))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, TwinError> {
        let (answer, wait) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| TwinError::Stopped)?;
        wait.await.map_err(|_| TwinError::Stopped)
    }

    /// Looks at a twin; one that was never written is empty.
    ///
    /// # Errors
    /// It is none of this agent, or cannot be read.
    pub async fn look<T: Send + 'static>(
        &self,
        document: DocumentId,
        look: impl FnOnce(&Twin) -> T + Send + 'static,
    ) -> Result<T, TwinError> {
        let (answer, wait) = oneshot::channel();
        let told = move |twin: Result<&Twin, TwinError>| {
            // Who asked may have gone.
            let _ = answer.send(twin.map(look));
        };
        let request = Request::Look(document, Box::new(told));
        self.requests.send(request).await.map_err(|_| TwinError::Stopped)?;
        wait.await.map_err(|_| TwinError::Stopped)?
    }

    /// Changes a twin; the answer comes when that is durable. `make` sees it as it is then.
    ///
    /// # Errors
    /// Nothing is changed.
    pub async fn edit(
        &self,
        document: DocumentId,
        make: impl FnOnce(&Twin) -> Result<Change, TwinError> + Send + 'static,
    ) -> Result<Edited, TwinError> {
        self.ask(|answer| Request::Edit(document, Box::new(make), answer)).await?
    }

    /// The twins that there are, and the documents of sites and groups.
    ///
    /// # Errors
    /// The agent stops.
    pub async fn list(&self) -> Result<Vec<Listed>, TwinError> {
        self.ask(Request::List).await
    }

    /// Counts changes of all twins, of whatever end.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Which twins change from now on, of whatever end.
    #[must_use]
    pub fn follow(&self) -> Followed {
        self.touched.follow()
    }

    /// A session's side.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::new(self.clone())
    }

    /// Writes what waits, and leaves what nobody uses to the file.
    pub async fn rest(&self) {
        // Without the thread there is nothing to be left.
        let _ = self.requests.send(Request::Rest).await;
    }

    /// Closes the file in order and ends the thread.
    pub async fn close(&self) {
        // It may have ended by itself.
        let _ = self.ask(Request::Close).await;
    }
}

/// A leaf as answers show it: its value and who wrote it when.
#[must_use]
pub fn shown(leaf: &tideline_twin::Leaf) -> Json {
    let mut shown = serde_json::json!({ "value": leaf.value });
    if let (Some(origin), Json::Object(members)) = (&leaf.origin, &mut shown) {
        members.insert("author".to_owned(), origin.author.clone().into());
        members.insert("time".to_owned(), origin.time_ms.into());
        members.insert("replica".to_owned(), origin.actor.hex().into());
        members.insert("side".to_owned(), side(origin.actor).into());
    }
    shown
}

/// At which end a replica is: "hub" or "agent".
#[must_use]
pub const fn side(actor: tideline_twin::Actor) -> &'static str {
    match actor.side() {
        Some(tideline_twin::Side::Hub) => "hub",
        Some(tideline_twin::Side::Agent) => "agent",
        None => "",
    }
}
