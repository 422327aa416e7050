//! The hub's replicas of twins: one document for each device, of which the device's agent has the other, and one for each site
//! and each group, of which all agents have one that have a device there.
//!
//! What changes a document gives a record; records that wait at the same time are one commit ([`settle`]); only then is
//! anything told to a peer, to whoever asked, or to readers of the live feed. Everything but [`settle`] and [`Inbox`] waits
//! for the disk: call it through [`Hub::blocking`]. It must never know HTTP, nor what a section means.

mod file;
mod inbox;
pub mod past;
mod queue;
mod sharing;
mod shelf;
mod talk;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, EditError, LoadError, PatchError, Section, Step, Twin, merge_patch};
use tokio::sync::Semaphore;

pub use self::file::{FileError, TWINS, TwinFile};
pub use self::inbox::{Inbox, Seat};
pub use self::queue::{Written, settle};
pub use self::sharing::documents;
pub use self::talk::{Speaker, Turn, Turned, turn};

use self::inbox::Inboxes;
use self::queue::{News, Queue, commit};
use self::sharing::speakers;
use self::shelf::{Shelf, Slot, Warm};
use crate::hub::{App, Hub};
use crate::layer;
use crate::metadata::{DeviceRecord, MetadataError};
use crate::secret::hex;
use crate::telemetry::Metric;

/// Most work of sessions on documents at a time: each takes a thread, and part of a core.
const TURNS_MAX: usize = 16;

/// Documents that are patched before others have a turn, and that are one commit.
const EACH_AT_ONCE: usize = 50;

/// Why a twin is not shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The file of twins.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registry, or the work was interrupted.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// What is on disk is no twin; a local fault.
    #[error("the twin {document} cannot be loaded")]
    Damaged {
        /// Which.
        document: DocumentId,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// A write failed, and what was made is gone; a local fault.
    #[error("the twin could not be written")]
    Unwritten,
    /// A patch is none.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Whoever looks at what it means refuses it: all that is wrong.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// The change is not allowed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// It is not what the caller has seen.
    #[error("the twin has changed: its etag is {etag}")]
    Differs {
        /// What it is now.
        etag: String,
    },
    /// More changes than the document's share.
    #[error("the twin changes too often; the next change is taken in {wait_s} s")]
    TooOften {
        /// The seconds until then.
        wait_s: u64,
    },
}

/// What is to be changed of a document.
#[derive(Debug, Clone)]
pub struct Patch {
    /// A merge patch for each section.
    pub sections: Vec<(Section, Json)>,
    /// Of these states only; of any if there is none.
    pub of: Option<Vec<String>>,
    /// Who says so.
    pub author: String,
    /// Looks at what the patches would do to the twin, and says what is wrong.
    pub check: Check,
}

/// See [`Patch::check`].
pub type Check = fn(&Twin, &[(Section, Json)]) -> Vec<String>;

impl Patch {
    /// Fails where it is not of the state that the twin is in.
    fn is_of(&self, twin: &Twin) -> Result<(), TwinError> {
        let found = etag(twin);
        match &self.of {
            Some(of) if !of.contains(&found) => Err(TwinError::Differs { etag: found }),
            _ => Ok(()),
        }
    }

    /// What it does to the twin.
    fn change(&self, twin: &Twin, now_ms: i64) -> Result<Change, TwinError> {
        let wrong = (self.check)(twin, &self.sections);
        if !wrong.is_empty() {
            return Err(TwinError::Refused(wrong.iter().map(|error| layer::told(error)).collect()));
        }
        let mut edits = Vec::new();
        for (section, json) in &self.sections {
            edits.extend(merge_patch(*section, &twin.json(*section), json)?);
        }
        Ok(Change { edits, author: self.author.clone(), time_ms: now_ms })
    }
}

/// What names the state of a twin: equal ones are equal.
#[must_use]
pub fn etag(twin: &Twin) -> String {
    let generation = twin.generation();
    let mut heads = twin.heads();
    heads.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(generation.number.to_be_bytes());
    hash.update(generation.tag);
    heads.iter().for_each(|head| hash.update(head));
    hex(hash.finalize().get(..16).unwrap_or_default())
}

/// All of them.
pub struct Twins {
    file: TwinFile,
    shelf: Shelf,
    queue: Queue,
    inboxes: Inboxes,
    /// The turns of sessions.
    pub(crate) turns: Arc<Semaphore>,
    // Documents that cannot be cut off, as each has been told of once.
    unrebased: AtomicU64,
}

/// What there is to say of all twins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Documents.
    pub documents: u64,
    /// Of them in memory.
    pub kept: u64,
    /// About how much those take.
    pub kept_bytes: u64,
    /// What the largest of them takes.
    pub largest_bytes: u64,
    /// Records that wait for a commit.
    pub waiting: u64,
}

impl Twins {
    /// Opens the file of a data folder, or makes it.
    ///
    /// # Errors
    /// It cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Self::of(TwinFile::open(path)?, Shelf::default()))
    }

    fn of(file: TwinFile, shelf: Shelf) -> Self {
        Self {
            file,
            shelf,
            queue: Queue::default(),
            inboxes: Inboxes::default(),
            turns: Arc::new(Semaphore::new(TURNS_MAX)),
            unrebased: AtomicU64::new(0),
        }
    }

    /// The file, for backups.
    #[must_use]
    pub const fn file(&self) -> &TwinFile {
        &self.file
    }

    /// How often their file was opened again after its disk had failed.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.file.reopened()
    }

    /// What there is to say of all of them.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (kept, kept_bytes, largest_bytes) = self.shelf.kept();
        Standing {
            documents: self.file.count().unwrap_or(0),
            kept: kept as u64,
            kept_bytes: kept_bytes as u64,
            largest_bytes: largest_bytes as u64,
            waiting: self.queue.len() as u64,
        }
    }

    /// Looks at a document; one that nobody has written to is empty.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn look<T>(&self, document: &DocumentId, work: impl FnOnce(&Twin) -> T) -> Result<T, TwinError> {
        self.shelf.with(&self.file, document, |_, warm| work(&warm.twin))
    }

    /// Whether anything was written to a document.
    ///
    /// # Errors
    /// The file failed.
    pub fn has(&self, document: &DocumentId) -> Result<bool, TwinError> {
        Ok(self.file.has(document)?)
    }

    /// Changes a document, and has `show` look at what it is then. It is not durable before [`settle`].
    ///
    /// # Errors
    /// Nothing of the patch is made.
    pub fn patch<T>(
        &self,
        hub: &Hub,
        document: &DocumentId,
        patch: &Patch,
        show: impl FnOnce(&Twin) -> T,
    ) -> Result<(T, Written), TwinError> {
        self.shelf.with(&self.file, document, |slot, warm| {
            patch.is_of(&warm.twin)?;
            let change = patch.change(&warm.twin, hub.now_ms())?;
            warm.take_edits(hub.clock.mono_ns(), 1).map_err(|wait_s| TwinError::TooOften { wait_s })?;
            let written = self.make(hub, slot, warm, &change)?;
            Ok((show(&warm.twin), written))
        })?
    }

    /// As [`Twins::patch`], of several patches one after the other, all of them or none: they are tried out on a copy first,
    /// and have to be within the document's share together. Of which state they are is said by the first.
    ///
    /// # Errors
    /// Nothing of them is made.
    pub fn patch_all<T>(
        &self,
        hub: &Hub,
        document: &DocumentId,
        patches: &[Patch],
        show: impl FnOnce(&Twin) -> T,
    ) -> Result<(T, Written), TwinError> {
        self.shelf.with(&self.file, document, |slot, warm| {
            patches.first().map_or(Ok(()), |first| first.is_of(&warm.twin))?;
            let (mut tried, mut changes) =
                (Self::copy_to_try(hub, slot, &warm.twin), Vec::with_capacity(patches.len()));
            for patch in patches {
                let change = patch.change(&tried, hub.now_ms())?;
                tried.edit(&change)?;
                changes.push(change);
            }
            let now_ns = hub.clock.mono_ns();
            warm.take_edits(now_ns, changes.len() as u64).map_err(|wait_s| TwinError::TooOften { wait_s })?;
            let mut written = Written::default();
            for change in &changes {
                written.extend([self.make(hub, slot, warm, change)?]);
            }
            Ok((show(&warm.twin), written))
        })?
    }

    fn make(
        &self,
        hub: &Hub,
        slot: &Arc<Slot>,
        warm: &mut Warm,
        change: &Change,
    ) -> Result<Written, TwinError> {
        let mut written = Written::default();
        if warm.twin.is_full() {
            // Of an earlier version, perhaps, which cut off later. Not for what is refused, whose answer waits for no commit.
            Self::copy_to_try(hub, slot, &warm.twin).edit(change)?;
            written.extend(self.rebase_when_due(hub, slot, warm));
        }
        let before = warm.twin.heads();
        if let Some(record) = warm.twin.edit(change)? {
            hub.counters.add(Metric::TwinEdits, 1);
            let news = self.news(warm, &before);
            written.add(self.queue.push(slot, warm.put(record), news, None));
            written.extend(self.rebase_when_due(hub, slot, warm));
        }
        Ok(written)
    }

    /// What has changed since these heads, for readers of the live feed; a restored hub may not know them.
    fn news(&self, warm: &Warm, before: &[[u8; 32]]) -> Option<News> {
        match warm.twin.history(before) {
            Ok(steps) => Some(News::of(&steps, etag(&warm.twin))),
            Err(error) => {
                tracing::warn!(%error, "what has changed of a twin cannot be told");
                Some(News::of(&[] as &[Step], etag(&warm.twin)))
            }
        }
    }

    /// A device is behind another agent now, or the first: that one hears of its twin, and so offers what it has written to it, also
    /// where nothing of that was taken before; the other one hears no more of it.
    pub fn moved(&self, hub: &Hub, device: DeviceId) {
        self.wake_but(hub, &DocumentId::Device(device), None);
    }

    /// A device is behind another agent, at another site or in other groups than before: who speaks for it, or did, hears of the
    /// documents there, or that these are none of its own any more.
    pub fn placed(&self, before: &DeviceRecord, now: &DeviceRecord) {
        let of = |record: &DeviceRecord| {
            (record.agent.clone(), record.marks.site.clone(), record.marks.groups.clone())
        };
        if of(before) == of(now) {
            return;
        }
        for record in [before, now] {
            let Ok(agent) = AgentId::parse(&record.agent) else { continue };
            let documents = documents([record.marks.site.as_str()], &record.marks.groups);
            documents.for_each(|document| self.inboxes.tell(&agent, &document, None));
        }
    }

    fn wake_but(&self, hub: &Hub, document: &DocumentId, but: Option<u64>) {
        match speakers(hub, document) {
            Ok(agents) => agents.iter().for_each(|agent| self.inboxes.tell(agent, document, but)),
            Err(error) => tracing::error!(%document, %error, "the agent of a twin cannot be looked up"),
        }
    }

    /// A session of an agent begins to speak of twins; the seat's inbox holds those of its devices that are there.
    ///
    /// # Errors
    /// The registry or the file failed.
    pub fn enter(&self, hub: &Hub, agent: &AgentId) -> Result<Seat, TwinError> {
        let seat = self.inboxes.enter(agent);
        // Looked for after it is known: what is made meanwhile is told to the inbox.
        for id in hub.metadata.devices_of(agent.as_str()) {
            let Ok(device) = DeviceId::parse(&id) else { continue };
            let document = DocumentId::Device(device);
            if self.file.has(&document)? {
                seat.inbox().tell(document);
            }
        }
        // Also those that nobody has written to: so the agent learns at which sites and in which groups it is.
        let (sites, groups) = (hub.metadata.sites_of(agent.as_str()), hub.metadata.groups_of(agent.as_str()));
        documents(sites.iter().map(String::as_str), &groups).for_each(|document| seat.inbox().tell(document));
        Ok(seat)
    }
}

/// Looks at a document, off the threads that serve everybody.
///
/// # Errors
/// It cannot be loaded.
pub async fn look<T: Send + 'static>(
    hub: &App,
    document: DocumentId,
    work: impl FnOnce(&Twin) -> T + Send + 'static,
) -> Result<T, TwinError> {
    hub.blocking(move |hub| hub.twins.look(&document, work)).await
}

/// Writes all that waits, also what nobody waits for: at the end. Waits for the disk.
pub fn flush(hub: &Hub) {
    while hub.twins.queue.len() > 0 {
        commit(hub);
    }
}

/// Changes a document durably, and has `show` look at what it is then.
///
/// # Errors
/// Nothing of the patch is made; or the write failed.
pub async fn patch<T: Send + 'static>(
    hub: &App,
    document: DocumentId,
    patch: Patch,
    show: impl FnOnce(&Twin) -> T + Send + 'static,
) -> Result<T, TwinError> {
    let hub = Arc::clone(hub);
    // What was made becomes durable even when nobody waits for the answer any more.
    let made = tokio::spawn(async move {
        let (shown, written) = hub.blocking(move |hub| hub.twins.patch(hub, &document, &patch, show)).await?;
        settle(&hub, written).await?;
        Ok(shown)
    });
    made.await.map_err(MetadataError::interrupted)?
}

/// Changes many documents durably, each by itself; says what names their states then. None may stand twice.
///
/// # Errors
/// A document could not be written; those after it are not changed.
pub async fn patch_each(
    hub: &App,
    documents: Vec<DocumentId>,
    patch: Patch,
) -> Result<Vec<Result<String, TwinError>>, TwinError> {
    let hub = Arc::clone(hub);
    let made = tokio::spawn(async move {
        let mut all = Vec::with_capacity(documents.len());
        for part in documents.chunks(EACH_AT_ONCE) {
            let (part, patch) = (part.to_vec(), patch.clone());
            let work = move |hub: &Hub| {
                let mut settled = Written::default();
                let mut made = Vec::with_capacity(part.len());
                for document in part {
                    made.push(hub.twins.patch(hub, &document, &patch, etag).map(|(etag, written)| {
                        settled.extend([written]);
                        etag
                    }));
                }
                Ok::<_, TwinError>((made, settled))
            };
            let (made, written) = hub.blocking(work).await?;
            settle(&hub, written).await?;
            all.extend(made);
        }
        Ok(all)
    });
    made.await.map_err(MetadataError::interrupted)?
}

#[cfg(test)]
mod tests;
