//! Records on their way to the disk: those that wait at the same time are one commit.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::wire::DocumentId;
use tideline_twin::{Step, Ticket};
use tokio::sync::{Mutex as Turn, oneshot};

use super::TwinError;
use super::file::Put;
use super::shelf::Slot;
use crate::api::shapes::TwinEvent;
use crate::hub::{App, Hub};
use crate::live::Happening;
use crate::telemetry::Metric;

/// Most records of one commit: a base has up to a megabyte.
const COMMIT_MAX: usize = 256;
/// Records that nobody waits for, which go with the next commit, until they have one of their own. Each keeps its document
/// in memory.
const UNHURRIED_MAX: usize = 256;
/// Most keys and authors that one event names.
const KEYS_TOLD_MAX: usize = 64;
const AUTHORS_TOLD_MAX: usize = 8;

/// What readers of the live feed are told of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    keys: BTreeSet<String>,
    is_cut: bool,
    authors: BTreeSet<String>,
    time_ms: Option<i64>,
    etag: String,
}

impl News {
    /// Of what was done to a twin, and its state since.
    pub fn of(steps: &[Step], etag: String) -> Self {
        let mut news = Self { etag, ..Self::default() };
        for step in steps {
            let key = format!("{}/{}", step.section, step.key);
            if news.keys.len() < KEYS_TOLD_MAX || news.keys.contains(&key) {
                news.keys.insert(key);
            } else {
                news.is_cut = true;
            }
            if news.authors.len() < AUTHORS_TOLD_MAX && !step.author.is_empty() {
                news.authors.insert(step.author.clone());
            }
            news.time_ms = news.time_ms.max(Some(step.at_ms()));
        }
        news
    }

    fn event(self, document: &DocumentId) -> TwinEvent {
        let (keys, authors) = (self.keys.into_iter().collect(), self.authors.into_iter().collect());
        let Self { is_cut, time_ms, etag, .. } = self;
        TwinEvent { device: document.name(), keys, more: is_cut, authors, time_ms, etag }
    }
}

#[derive(Debug)]
struct Job {
    slot: Arc<Slot>,
    ticket: Ticket,
    put: Put,
    news: Option<News>,
    // The session that it came by, which knows.
    by: Option<u64>,
    done: oneshot::Sender<bool>,
}

/// The records that wait.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    turn: Arc<Turn<()>>,
}

impl Queue {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in; call it while the document is held, so that its records stay in order.
    pub fn push(
        &self,
        slot: &Arc<Slot>,
        (ticket, put): (Ticket, Put),
        news: Option<News>,
        by: Option<u64>,
    ) -> oneshot::Receiver<bool> {
        let (done, waiting) = oneshot::channel();
        self.jobs().push_back(Job { slot: Arc::clone(slot), ticket, put, news, by, done });
        waiting
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.jobs().len()
    }

    /// Whether those that nobody waits for are to be written.
    pub fn is_long(&self) -> bool {
        self.len() >= UNHURRIED_MAX
    }
}

/// Records that are to become durable.
#[derive(Debug, Default)]
#[must_use = "what is not settled is durable only with what comes after it"]
pub struct Written(Vec<oneshot::Receiver<bool>>);

impl Written {
    /// One more.
    pub fn add(&mut self, record: oneshot::Receiver<bool>) {
        self.0.push(record);
    }

    /// Those of others.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Self>) {
        self.0.extend(others.into_iter().flat_map(|written| written.0));
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Waits until the records are durable; makes the commit if nobody else does.
///
/// # Errors
/// The write failed: what was made of the documents is gone, and they are loaded again.
pub async fn settle(hub: &App, written: Written) -> Result<(), TwinError> {
    for mut done in written.0 {
        loop {
            tokio::select! {
                biased;
                is_durable = &mut done => match is_durable {
                    Ok(true) => break,
                    Ok(false) | Err(_) => return Err(TwinError::Unwritten),
                },
                turn = Arc::clone(&hub.twins.queue.turn).lock_owned() => {
                    hub.blocking(move |hub| {
                        // Held until it is done, also when nobody waits any more.
                        let _turn = turn;
                        commit(hub);
                        Ok::<_, TwinError>(())
                    })
                    .await?;
                }
            }
        }
    }
    Ok(())
}

/// Writes what waits. Waits for the disk.
pub fn commit(hub: &Hub) {
    let queue = &hub.twins.queue;
    let jobs: Vec<Job> = {
        let mut waiting = queue.jobs();
        let count = waiting.len().min(COMMIT_MAX);
        waiting.drain(..count).collect()
    };
    // What builds on something that is not on disk must not get there.
    let (failed, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.slot.has_failed());
    drop(failed);
    if jobs.is_empty() {
        return;
    }
    let begun_ns = hub.clock.mono_ns();
    let written = hub.twins.file.write(jobs.iter().map(|job| (job.slot.document(), &job.put)));
    let took_ns = hub.clock.mono_ns().saturating_sub(begun_ns);
    hub.counters.add(Metric::TwinCommits, 1);
    hub.counters.add(Metric::TwinRecords, jobs.len() as u64);
    hub.counters.add(Metric::TwinCommitMicros, took_ns / 1000);
    if let Err(error) = written {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            records = jobs.len(),
            "twins could not be written"
        );
        // All before any is let go of: a document may have several.
        jobs.iter().for_each(|job| job.slot.fail());
        for job in jobs {
            hub.twins.shelf.forget(&job.slot);
            let _gone = job.done.send(false);
        }
        return;
    }
    jobs.iter().for_each(|job| job.slot.handle_durable(job.ticket));
    for Job { slot, news, by, done, .. } in jobs {
        let document = slot.document().clone();
        drop(slot);
        let _gone = done.send(true);
        if let Some(news) = news {
            hub.twins.wake_but(hub, &document, by);
            hub.live.publish(Happening::Twin(news.event(&document)));
        }
    }
}
