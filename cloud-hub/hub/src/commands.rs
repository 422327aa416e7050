//! Commands for devices: durable here before anybody is told of them, and handed out when their agents are there.
//!
//! The rules are those of [`tideline_protocol::commands`]; here are the disk, the sessions and the clock. One task carries out what
//! the core asks for, one commit at a time, so that what comes meanwhile shares the next.

mod history;
mod orders;
mod search;
mod seat;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::commands::{HubChange, HubCommand, HubCommands, HubStep};
use tideline_protocol::model::{AgentId, DeviceId};
use tideline_protocol::wire::{CommandId, CommandState};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

pub use history::{find, list, output};
pub use orders::{given_before, order, order_each};
pub use search::{Among, Found, Made, search};
pub use seat::Seat;
use seat::Seats;

use crate::api::shapes::CommandEvent;
use crate::hub::{App, Hub};
use crate::live::Happening;
use crate::metadata::{CommandRecord, Metadata, MetadataError};

/// Most commands of all devices that have not ended: each takes memory.
pub const QUEUED_MAX: usize = 100_000;
/// How often time is given to the core.
const TICK: Duration = Duration::from_millis(500);
/// Wait before a commit that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the history is looked through for what is too old.
const PRUNE_TICKS: u64 = 7_200;
/// Days that a command which has ended is kept where nothing else is configured.
pub const KEEP_DAYS: u64 = 30;

/// The commands that have not ended, and who is there to take them.
#[derive(Debug, Default)]
pub struct Commands {
    core: Mutex<HubCommands>,
    seats: Mutex<Seats>,
    last: Mutex<orders::LastId>,
    wake: Notify,
    commits: watch::Sender<u64>,
}

/// Why a command is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Too many wait already.
    #[error("{0} commands wait for {1} already; allowed are {2}")]
    Full(usize, String, usize),
    /// The same key was used for something else.
    #[error("the key {0:?} was used for another command of this device, {1}")]
    Key(String, String),
    /// The metadata failed, or randomness did.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Commands {
    fn core(&self) -> MutexGuard<'_, HubCommands> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are in each state that is none of an end.
    #[must_use]
    pub fn counts(&self) -> [(CommandState, u64); 3] {
        let mut counts =
            [CommandState::Queued, CommandState::Delivered, CommandState::Running].map(|state| (state, 0));
        let core = self.core();
        for command in core.iter() {
            if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == command.state) {
                *count += 1;
            }
        }
        counts
    }

    /// The device is behind another agent now.
    pub fn moved(&self, now_ms: i64, device: &str, agent: &str) {
        if let (Ok(device), Ok(agent)) = (DeviceId::parse(device), AgentId::parse(agent)) {
            self.core().handle_moved(now_ms, &device, &agent);
            self.wake.notify_one();
        }
    }

    /// Returns once what was done before is durable.
    async fn durable(&self) {
        let mut commits = self.commits.subscribe();
        // What was done is in the commit after that which is being made, at the latest.
        let enough = commits.borrow_and_update().saturating_add(2);
        self.wake.notify_one();
        while !self.core().is_durable() && *commits.borrow_and_update() < enough {
            if commits.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Takes up the commands that had not ended when the hub did.
///
/// # Errors
/// The metadata cannot be read.
pub async fn start(hub: &App) -> Result<(), MetadataError> {
    let now_ms = hub.now_ms();
    let records = hub.blocking(|hub| hub.metadata.list::<CommandRecord>()).await?;
    let mut core = hub.commands.core();
    for (_, CommandRecord { command }) in records {
        if !command.state.is_final() {
            core.handle_created(now_ms, command);
        }
    }
    Ok(())
}

/// As [`start`], and goes on with them in a task of its own until the hub stops.
///
/// # Errors
/// The metadata cannot be read.
pub async fn begin(hub: &App) -> Result<JoinHandle<()>, MetadataError> {
    start(hub).await?;
    Ok(tokio::spawn(run(Arc::clone(hub))))
}

/// Carries out what the core asks for until the hub stops.
pub async fn run(hub: App) {
    let (mut ticks, mut count) = (interval(TICK), 0_u64);
    loop {
        carry_out(&hub).await;
        tokio::select! {
            () = hub.stopped() => return carry_out(&hub).await,
            () = hub.commands.wake.notified() => {}
            _ = ticks.tick() => {
                hub.commands.core().handle_time(hub.now_ms());
                if count.is_multiple_of(PRUNE_TICKS) {
                    prune(&hub).await;
                }
                count += 1;
            }
        }
    }
}

async fn prune(hub: &App) {
    match hub.blocking(history::prune).await {
        Ok(0) => {}
        Ok(gone) => tracing::info!(commands = gone, "commands that ended long ago are forgotten"),
        Err(error) => tracing::error!(%error, "the history of commands could not be looked through"),
    }
}

async fn carry_out(hub: &App) {
    loop {
        let step = hub.commands.core().poll();
        match step {
            None => return,
            Some(HubStep::Say(agent, number, said)) => hub.commands.seats().say(&agent, number, said),
            Some(HubStep::Commit(changes)) => {
                let changes = Arc::new(changes);
                while let Err(error) = write(hub, &changes).await {
                    tracing::error!(%error, "commands could not be noted; it is tried again");
                    tokio::select! {
                        () = sleep(AGAIN) => {}
                        () = hub.stopped() => return,
                    }
                }
                hub.commands.core().handle_committed();
                hub.commands.commits.send_modify(|count| *count += 1);
                tell(hub, &changes);
            }
        }
    }
}

async fn write(hub: &App, changes: &Arc<Vec<HubChange>>) -> Result<(), MetadataError> {
    let changes = Arc::clone(changes);
    hub.blocking(move |hub| history::write(&hub.metadata, &changes)).await
}

fn tell(hub: &App, changes: &[HubChange]) {
    for change in changes {
        if let HubChange::Put(command) = change {
            hub.live.publish(Happening::Command(CommandEvent::from(command.as_ref())));
        }
        if let HubChange::Put(command) = change
            && command.state.is_final()
        {
            let (id, device, kind, state) = (command.id, &command.device, &command.kind, command.state);
            let code = command.error.as_ref().map(|error| error.code.as_str());
            tracing::info!(%id, %device, kind, %state, code, "a command has ended");
        }
    }
}

/// Ends a command, or asks its agent to; gives it as it is then, durably. One that has ended stays as it is.
///
/// # Errors
/// The metadata failed.
pub async fn cancel(hub: &App, id: CommandId) -> Result<Option<HubCommand>, MetadataError> {
    if hub.commands.core().cancel(hub.now_ms(), id) {
        hub.commands.durable().await;
    }
    hub.blocking(move |hub| find(hub, id)).await
}

/// For how long commands that have ended are kept, ms.
fn keep_ms(hub: &Hub) -> i64 {
    i64::try_from(hub.config.command_keep_days).unwrap_or(i64::MAX).saturating_mul(86_400_000)
}

/// Whether the metadata holds this command.
fn stored(metadata: &Metadata, id: CommandId) -> Result<Option<HubCommand>, MetadataError> {
    Ok(metadata.find::<CommandRecord>(&id.to_string())?.map(|record| record.command))
}
