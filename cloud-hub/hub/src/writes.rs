//! Readings that come without an agent: by a token that may write for some devices.
//!
//! Each such token has a *writer* in the place of an agent: an id that begins with [`WRITER_PREFIX`], which
//! nothing can enrol under, with one epoch, a dictionary and seqs without holes, so that what it brings
//! takes the way of all batches and stands in its ledger. The store knows what became of each seq, the registry
//! keeps the dictionary. One request of a writer is stored after the other. After anything went wrong the
//! writer is dropped, and the next one begins with what the store holds; it must never give a seq out twice.

mod admission;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tideline_formats::Column;
use tideline_protocol::model::AgentId;
use tideline_store::StoreError;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinError;

pub use self::admission::{Admission, DEVICES_PER_TOKEN_MAX, DevicePattern, only_device};
pub use self::writer::{ROWS_PER_BATCH_MAX, Writer};
use crate::hub::App;
use crate::imports::IMPORT_PREFIX;
use crate::jobs::{JOB_PREFIX, is_job};
use crate::metadata::{Changes, DeviceRecord, MetadataError};
use crate::places::{Limits, Place, Places};
use crate::secret::SecretError;

/// What the ids of writers begin with; no device or agent of another kind may be called so.
pub const WRITER_PREFIX: &str = "_write.";
/// Requests that are read and stored at once: each may take some 40 MB.
const PLACES: Limits = Limits { all: 12, each: 6 };
/// Longest wait for the requests before, and then for the store.
const TURN_MAX: Duration = Duration::from_secs(10);
/// See [`TURN_MAX`].
const STORE_MAX: Duration = Duration::from_secs(30);
/// When a client is expected to write again: most do each ten seconds, and few once in five minutes.
const NEXT_MS: u32 = 300_000;
/// How often it is noted in the registry that a writer was heard of.
const NOTE_EVERY_MS: i64 = 60_000;

/// Whether only writers may have this id, those of tokens, of jobs and of imports.
#[must_use]
pub fn is_writer(id: &str) -> bool {
    id.starts_with(WRITER_PREFIX) || is_job(id) || id.starts_with(IMPORT_PREFIX)
}

/// Why no device may have this id, where only writers may.
#[must_use]
pub fn reserved(id: &str) -> Option<String> {
    is_writer(id).then(|| {
        format!(
            "{id:?}: ids that begin with {WRITER_PREFIX:?} are those of tokens that write, with {JOB_PREFIX:?} those of jobs, and with {IMPORT_PREFIX:?} those of imports"
        )
    })
}

/// Why readings were not stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store takes nothing now, or no more of this.
    #[error("the store does not take the readings now: {0}")]
    Store(#[from] StoreError),
    /// The registry failed; a local fault.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The system gives no randomness.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Those before take too long, or the store does.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// More than one token may have.
    #[error("{0}")]
    Limit(String),
    /// The work did not come to its end; a local fault.
    #[error("storing was interrupted: {0}")]
    Interrupted(#[from] JoinError),
    /// A bug: it would have been stored under a number that is in use.
    #[error("a batch could not be numbered: {0}")]
    Numbered(String),
}

/// All writers.
#[derive(Debug)]
pub struct Writers {
    slots: Mutex<HashMap<AgentId, Arc<Slot>>>,
    /// The requests that are read and stored, by token.
    pub places: Places<String>,
}

#[derive(Debug, Default)]
struct Slot {
    // None before the first request, and after one that failed.
    writer: Arc<tokio::sync::Mutex<Option<Writer>>>,
    // When it last stored something, and when that was last noted, Unix ms; 0 for never.
    stored_ms: AtomicI64,
    noted_ms: AtomicI64,
}

impl Default for Writers {
    fn default() -> Self {
        Self { slots: Mutex::default(), places: Places::new(PLACES) }
    }
}

impl Writers {
    fn slot(&self, agent: &AgentId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(agent.clone()).or_default())
    }

    /// When the writer last stored something since the hub started, Unix ms.
    #[must_use]
    pub fn last_seen_ms(&self, agent: &AgentId) -> Option<i64> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(agent).map(|slot| slot.stored_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }
}

/// Stores readings of a writer; returns when they are durable. It ends in any case, and what it has begun
/// may still be stored after it has given up; until then it keeps the request's place.
///
/// # Errors
/// Some of the readings may not be stored; others may be.
pub async fn store(
    hub: &App,
    agent: &AgentId,
    columns: Vec<Column>,
    place: Option<Arc<Place<String>>>,
) -> Result<(), WriteError> {
    let slot = hub.writers.slot(agent);
    let turn = tokio::time::timeout(TURN_MAX, Arc::clone(&slot.writer).lock_owned()).await;
    let turn = turn.map_err(|_| WriteError::Busy("other requests of this token wait before this one"))?;
    // A client that goes away must not cancel an append, whose seq would be in doubt then.
    let work = write(Arc::clone(hub), agent.clone(), turn, columns);
    let work = tokio::spawn(async move {
        let done = work.await;
        drop(place);
        done
    });
    let done = tokio::time::timeout(STORE_MAX, work).await;
    done.map_err(|_| WriteError::Busy("it has not stored the readings in time, and may still do so"))???;
    heard(hub, agent, &slot).await;
    Ok(())
}

async fn write(
    hub: App,
    agent: AgentId,
    mut turn: OwnedMutexGuard<Option<Writer>>,
    columns: Vec<Column>,
) -> Result<(), WriteError> {
    let mut writer = match turn.take() {
        Some(writer) => writer,
        None => Writer::open(&hub, &agent).await?,
    };
    writer.write(&hub, columns).await?;
    *turn = Some(writer);
    Ok(())
}

/// Notes that the writer is there.
async fn heard(hub: &App, agent: &AgentId, slot: &Slot) {
    hub.presences.heard(agent, hub.now(), Some(NEXT_MS));
    let now_ms = hub.now_ms();
    slot.stored_ms.store(now_ms, Ordering::Relaxed);
    let noted_ms = slot.noted_ms.load(Ordering::Relaxed);
    let due = now_ms.saturating_sub(noted_ms) >= NOTE_EVERY_MS;
    if !due || slot.noted_ms.compare_exchange(noted_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_err()
    {
        return;
    }
    let id = agent.to_string();
    let step = move |changes: &mut Changes| match changes.find::<DeviceRecord>(&id)? {
        Some(mut record) => {
            record.last_seen_ms = Some(now_ms);
            changes.put(&id, &record)
        }
        None => Ok(()),
    };
    // The readings are stored all the same.
    if let Err(error) = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await {
        tracing::error!(%agent, %error, "it could not be noted when a writer was last heard of");
    }
}

#[cfg(test)]
mod tests;
