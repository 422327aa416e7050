//! Stream jobs: definitions in the registry, a task for each that runs, results as series, rows and live events.
//!
//! The engines are those of `tideline-streams`. What feeds them is the store's log, read beside its writer
//! ([`feed`]); what they give is stored as the readings of a writer of the job's own ([`delivery`]). Each job runs for
//! itself: one that is slow or fails holds up neither the others nor ingest, and without jobs nothing of this costs
//! anything. It must never show a result that a kill could make again otherwise ([`task`]).

mod author;
mod definition;
mod delivery;
mod feed;
mod history;
mod hold;
pub mod reference;
mod results;
mod saved;
mod statement;
mod task;
mod view;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::model::AgentId;
use tideline_store::LogPlace;
use tideline_streams::{Command, Job, Life, LifeError, Phase, SpecError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::task::Task;
use crate::hub::{App, Hub};
use crate::metadata::{Changes, JobRecord, MetadataError};

pub use self::author::Author;
pub use self::definition::{check, read};
pub use self::hold::{LOG_BYTES_MAX, watch};
pub use self::results::{ROWS_MAX, Row, SIDE_ROWS_MAX, SideRow};
pub use self::saved::oldest_segment;
pub use self::statement::ROWS_MAX as STATEMENT_ROWS_MAX;
pub use self::view::{DEVICES_SHOWN_MAX, View};

/// The folder of the states in the data folder.
pub const FOLDER: &str = "jobs";
/// What the ids of jobs begin with, in the place of an agent's.
pub const JOB_PREFIX: &str = "_job.";
/// Longest name of a job that runs here, in bytes: an id has 64.
pub const NAME_BYTES_MAX: usize = 59;
/// Most jobs of a hub: each reads the log for itself, and has labels of its own in the metrics.
pub const JOBS_MAX: u64 = 64;
/// Results of a job in a second, after a burst of as many: one that gives more waits, so that no window of a
/// millisecond fills the store. Nothing is lost by it.
pub const RESULTS_PER_SECOND_MAX: u64 = 50_000;
/// Whether only jobs may have this id.
#[must_use]
pub fn is_job(id: &str) -> bool {
    id.starts_with(JOB_PREFIX)
}

/// Why something was not done with a job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The definition is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is none of this name.
    #[error("there is no job {0:?}")]
    Unknown(String),
    /// It is not at what this may be asked at.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// More than there may be.
    #[error("{0}")]
    Limit(String),
    /// An agent has the id that the job would write under.
    #[error("{0}")]
    Reserved(String),
    /// The registry failed; a local fault.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The state could not be written or removed; a local fault.
    #[error("the state of the job: {0}")]
    Disk(std::io::Error),
}

/// The jobs of a hub.
#[derive(Debug, Default)]
pub struct Jobs {
    // One change of a job's life at a time.
    turn: tokio::sync::Mutex<()>,
    // One statement of all jobs at a time.
    statements: tokio::sync::Mutex<()>,
    all: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    view: Arc<Mutex<View>>,
    held: Arc<AtomicU64>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

/// A job with what is shown of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// What the registry has of it.
    pub record: JobRecord,
    /// What it does; none where its state cannot be read.
    pub view: Option<View>,
}

impl Jobs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, name: &str) -> Option<View> {
        let all = self.all();
        all.get(name).map(|entry| entry.view.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// All by name, and whether each runs.
    #[must_use]
    pub fn views(&self) -> Vec<(String, bool, View)> {
        let all = self.all();
        let each = |(name, entry): (&String, &Entry)| {
            let runs = entry.running.as_ref().is_some_and(|(_, work)| !work.is_finished());
            (name.clone(), runs, entry.view.lock().unwrap_or_else(PoisonError::into_inner).clone())
        };
        all.iter().map(each).collect()
    }
}

fn agent_of(name: &str) -> Result<AgentId, JobError> {
    AgentId::parse(&format!("{JOB_PREFIX}{name}")).map_err(|_| JobError::Unknown(name.to_owned()))
}

fn folder(hub: &Hub) -> PathBuf {
    hub.config.data_dir.join(FOLDER)
}

/// Starts the jobs that ran when the hub ended, and shows the others. Blocks the thread while it reads states.
///
/// # Errors
/// The registry or the folder of the states fails.
pub async fn start(hub: &App) -> Result<(), JobError> {
    let _turn = hub.jobs.turn.lock().await;
    let records = hub
        .blocking(|hub| {
            let records = hub.metadata.list::<JobRecord>()?;
            tidy(&folder(hub), &records).map_err(JobError::Disk)?;
            Ok::<_, JobError>(records)
        })
        .await?;
    for (name, record) in records {
        launch(hub, &name, &record).await?;
    }
    hub.jobs.hold(&hub.store);
    Ok(())
}

/// Removes what a kill has left of jobs that are no more.
fn tidy(folder: &Path, records: &[(String, JobRecord)]) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !records.iter().any(|(name, _)| saved::path_of(folder, name) == path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes the job's entry, and its task where it is to run. What stands in its way becomes its failure.
async fn launch(hub: &App, name: &str, record: &JobRecord) -> Result<(), JobError> {
    let agent = agent_of(name)?;
    let path = saved::path_of(&folder(hub), name);
    let runs = record.life.takes_events();
    let (owned, job) = (name.to_owned(), definition::of(record));
    let opened = hub
        .blocking(move |hub| {
            let opened = job.and_then(|job| {
                if path.exists() {
                    return Task::open(hub, path, agent, job);
                }
                // A hub that was restored has definitions and no states.
                tracing::warn!(job = owned, "a job has no state and begins anew");
                let place = LogPlace::from(*hub.store.log_end().borrow());
                let mut task = Task::begin(hub, path, agent, job, place);
                task.save_now().map_err(|error| error.to_string())?;
                Ok(task)
            });
            Ok::<_, JobError>(opened)
        })
        .await?;
    let task = match opened {
        Ok(task) => task,
        Err(reason) => {
            let rest =
                Entry { view: Arc::default(), held: Arc::new(AtomicU64::new(u64::MAX)), running: None };
            hub.jobs.all().insert(name.to_owned(), rest);
            return fail(hub, name, reason).await;
        }
    };
    let (view, held) = task.shared();
    let running = runs.then(|| {
        let (stop, stopping) = watch::channel(false);
        let (app, name) = (Arc::clone(hub), name.to_owned());
        let work = tokio::spawn(async move {
            let Err(reason) = task::run(Arc::clone(&app), task, stopping).await else { return };
            if let Err(error) = fail(&app, &name, reason).await {
                tracing::error!(job = name, %error, "it cannot be noted that a job failed");
            }
        });
        (stop, work)
    });
    hub.jobs.all().insert(name.to_owned(), Entry { view, held, running });
    Ok(())
}

/// Ends a job's task, if it has one; all that it took in is saved then.
async fn halt(hub: &App, name: &str) {
    let running = hub.jobs.all().get_mut(name).and_then(|entry| entry.running.take());
    if let Some((stop, work)) = running {
        stop.send_replace(true);
        // It panics nowhere but in its own blocking threads.
        let _ended = work.await;
    }
}

/// Notes that a job cannot go on.
async fn fail(hub: &App, name: &str, reason: String) -> Result<(), JobError> {
    tracing::error!(job = name, reason, "a job failed");
    let (name, now_ns) = (name.to_owned(), hub.clock.wall_ns());
    let step = move |changes: &mut Changes| {
        let Some(mut record) = changes.find::<JobRecord>(&name)? else { return Ok(()) };
        match record.life.handle(now_ns, Command::Fail(reason)) {
            Ok(_) => changes.put(&name, &record),
            // It has failed, or was stopped, meanwhile.
            Err(_) => Ok(()),
        }
    };
    Ok(hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?)
}

fn find(hub: &Hub, name: &str) -> Result<JobRecord, JobError> {
    hub.metadata.find::<JobRecord>(name)?.ok_or_else(|| JobError::Unknown(name.to_owned()))
}

/// Makes a job of this definition and starts it, or gives one of its name this definition; says whether it is new.
/// With another source, stages, join, window, group, aggregates or statement it begins anew where it was; else it goes
/// on with its state. One that is paused stays so, and one that has failed is started again.
///
/// # Errors
/// The definition is wrong, or there is no room for another job.
pub async fn put(hub: &App, job: Job, author: Author) -> Result<bool, JobError> {
    let app = Arc::clone(hub);
    whole(async move { put_now(&app, job, author).await }).await
}

/// Goes on when who asked for it leaves: half a change would leave a job without its task.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, JobError>> + Send + 'static,
) -> Result<T, JobError> {
    let ended = tokio::spawn(change).await;
    ended.unwrap_or_else(|error| Err(JobError::Disk(std::io::Error::other(error))))
}

async fn put_now(hub: &App, job: Job, author: Author) -> Result<bool, JobError> {
    let name = job.spec().name.clone();
    let agent = agent_of(&name)?;
    let definition =
        serde_json::to_string(job.spec()).map_err(std::io::Error::other).map_err(JobError::Disk)?;
    let _turn = hub.jobs.turn.lock().await;
    let known = hub.metadata.find::<JobRecord>(&name)?;
    let (now_ms, now_ns) = (hub.now_ms(), hub.clock.wall_ns());
    let is_new = known.is_none();
    let author = Some(author);
    let mut record = match known {
        Some(record) if record.definition == definition && record.life.phase() != Phase::Failed => {
            return Ok(false);
        }
        Some(record) => JobRecord { definition, changed_ms: now_ms, author, ..record },
        None => {
            room(hub, &agent)?;
            let (created_ms, changed_ms) = (now_ms, now_ms);
            JobRecord { definition, life: Life::created(now_ns), created_ms, changed_ms, author }
        }
    };
    match record.life.phase() {
        Phase::Created => drop(record.life.handle(now_ns, Command::Start)?),
        Phase::Failed => drop(record.life.handle(now_ns, Command::Resume)?),
        Phase::Running | Phase::Paused | Phase::Stopped => {}
    }
    halt(hub, &name).await;
    if is_new {
        create(hub, &name, agent, job).await?;
    }
    let (key, kept) = (name.clone(), record.clone());
    hub.blocking(move |hub| hub.metadata.put(&key, &kept)).await?;
    launch(hub, &name, &record).await?;
    hub.jobs.hold(&hub.store);
    tracing::info!(job = name, is_new, "job defined");
    Ok(is_new)
}

fn room(hub: &Hub, agent: &AgentId) -> Result<(), JobError> {
    if hub.metadata.count::<JobRecord>()? >= JOBS_MAX {
        return Err(JobError::Limit(format!("jobs per hub: {JOBS_MAX} are defined, which is the limit")));
    }
    let own = hub.metadata.find::<crate::metadata::DeviceRecord>(agent.as_str())?;
    if own.is_some_and(|own| !own.key_hash.is_empty()) {
        return Err(JobError::Reserved(format!("an agent has enrolled as {agent}; choose another name")));
    }
    Ok(())
}

/// Fixes durably where in the log a new job begins, before anybody is told that there is one.
async fn create(hub: &App, name: &str, agent: AgentId, job: Job) -> Result<(), JobError> {
    let name = name.to_owned();
    hub.blocking(move |hub| {
        let folder = folder(hub);
        fs::create_dir_all(&folder).map_err(JobError::Disk)?;
        // Held from before its end is read, so that nothing behind it goes.
        hub.store.hold_log(0);
        let place = LogPlace::from(*hub.store.log_end().borrow());
        let mut task = Task::begin(hub, saved::path_of(&folder, &name), agent, job, place);
        let (view, held) = task.shared();
        hub.jobs.all().insert(name, Entry { view, held, running: None });
        task.save_now().map_err(JobError::Disk)
    })
    .await
}

async fn turn_to(hub: &App, name: &str, command: Command) -> Result<(), JobError> {
    let (app, name) = (Arc::clone(hub), name.to_owned());
    whole(async move { turn_to_now(&app, &name, command).await }).await
}

async fn turn_to_now(hub: &App, name: &str, command: Command) -> Result<(), JobError> {
    let _turn = hub.jobs.turn.lock().await;
    // Refused before anything is stopped.
    let mut trial = find(hub, name)?.life;
    trial.handle(hub.clock.wall_ns(), command.clone())?;
    halt(hub, name).await;
    let (key, now_ns) = (name.to_owned(), hub.clock.wall_ns());
    let step = move |changes: &mut Changes| {
        let found = changes.find::<JobRecord>(&key)?;
        let mut record = found.ok_or_else(|| JobError::Unknown(key.clone()))?;
        record.life.handle(now_ns, command)?;
        changes.put(&key, &record)?;
        Ok(record)
    };
    let record: JobRecord = hub.blocking(move |hub| hub.metadata.change::<_, JobError>(step)).await?;
    launch(hub, name, &record).await?;
    hub.jobs.hold(&hub.store);
    tracing::info!(job = name, phase = ?record.life.phase(), "job changed");
    Ok(())
}

/// Has a job take no more; its state is kept, and the log from where it is, up to [`LOG_BYTES_MAX`].
///
/// # Errors
/// There is none, or it does not run.
pub async fn pause(hub: &App, name: &str) -> Result<(), JobError> {
    turn_to(hub, name, Command::Pause).await
}

/// Has a job go on where it was; what came meanwhile it takes in first.
///
/// # Errors
/// There is none, or it is not paused and has not failed.
pub async fn resume(hub: &App, name: &str) -> Result<(), JobError> {
    turn_to(hub, name, Command::Resume).await
}

/// Removes a job with its state; its series stay.
///
/// # Errors
/// There is none.
pub async fn delete(hub: &App, name: &str) -> Result<(), JobError> {
    let (app, name) = (Arc::clone(hub), name.to_owned());
    whole(async move { delete_now(&app, &name).await }).await
}

async fn delete_now(hub: &App, name: &str) -> Result<(), JobError> {
    let _turn = hub.jobs.turn.lock().await;
    find(hub, name)?;
    halt(hub, name).await;
    let key = name.to_owned();
    hub.blocking(move |hub| {
        hub.metadata.remove::<JobRecord>(&key)?;
        match fs::remove_file(saved::path_of(&folder(hub), &key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(JobError::Disk(error)),
            _ => Ok(()),
        }
    })
    .await?;
    hub.jobs.all().remove(name);
    hub.jobs.hold(&hub.store);
    tracing::info!(job = name, "job removed");
    Ok(())
}

/// All jobs, by name.
///
/// # Errors
/// The registry fails.
pub fn list(hub: &Hub) -> Result<Vec<Shown>, MetadataError> {
    let records = hub.metadata.list::<JobRecord>()?;
    Ok(records.into_iter().map(|(name, record)| Shown { view: hub.jobs.view(&name), name, record }).collect())
}

/// One job.
///
/// # Errors
/// There is none.
pub fn show(hub: &Hub, name: &str) -> Result<Shown, JobError> {
    let record = find(hub, name)?;
    Ok(Shown { name: name.to_owned(), record, view: hub.jobs.view(name) })
}

/// Ends all tasks; what they took in is saved.
pub async fn stop(hub: &App) {
    let _turn = hub.jobs.turn.lock().await;
    let names: Vec<String> = hub.jobs.all().keys().cloned().collect();
    for name in names {
        halt(hub, &name).await;
    }
}

#[cfg(test)]
mod tests;
