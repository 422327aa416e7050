//! Commands from the hub: durable here before the hub is told so, and begun at most once.
//!
//! The rules are those of [`tideline_protocol::commands`]; here are the journal, the clock, the session's end of it, and what carries
//! a command out. One task has all of it; what runs, runs in tasks of its own.

pub mod address;
pub mod cli;
mod exports;
pub(crate) mod journal;
pub(crate) mod kinds;
pub mod limited;
mod program;
mod reading;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tideline_protocol::commands::{AgentChange, AgentCommands, AgentStep, Ended, Kept, Limits, errors};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;
use tideline_protocol::wire::{Command, CommandError, CommandId, ToAgent, ToHub};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use self::journal::{Journal, Looked};
pub use self::kinds::{Hands, HubAhead, Restart};
use crate::clock::AgentClock;
use crate::schedule::driver::{Planned, Scheduler, Shown};
use crate::schedule::report::Told;
use crate::schedule::shared::Plan;
use crate::status::CommandsStatus;

/// Name of the journal in the data folder.
pub const JOURNAL: &str = "commands.redb";
/// Most words of a session, and of what runs, that wait to be heard.
const EVENTS_MAX: usize = 64;
/// Longest that a session waits for the task, as when its disk fails: readings wait behind it.
const BUSY_MAX: Duration = Duration::from_secs(2);
/// How often time is given to the core.
const TICK: Duration = Duration::from_millis(500);
/// Most commands that are shown of those that have ended.
const SHOWN_MAX: usize = 200;

/// By how much the hub's clock has parted from what is on the disk before that is written again, ns.
const PARTED_NS: u64 = 5_000_000_000;

enum Event {
    Connected(UnboundedSender<ToHub>),
    Said(ToAgent),
    Time(i64),
    List(oneshot::Sender<Known>),
}

/// What something that runs says before it ends.
#[derive(Debug)]
pub(crate) enum News {
    /// More output.
    Output(CommandId, Vec<u8>),
    /// How far it is, of a hundred.
    Percent(CommandId, u8),
}

/// A command as the agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandShown {
    /// Its id.
    pub id: String,
    /// The device.
    pub device: String,
    /// What is to be done.
    pub kind: String,
    /// Where it is.
    pub state: String,
    /// Who gave it.
    pub author: String,
    /// When it is too late to begin it, Unix ms by the hub's clock.
    pub deadline_ms: i64,
    /// Why it failed.
    pub error: Option<String>,
}

impl CommandShown {
    fn of(kept: &Kept) -> Self {
        let Command { id, device, kind, author, deadline_ms, .. } = &kept.command;
        Self {
            id: id.to_string(),
            device: device.to_string(),
            kind: kind.clone(),
            state: kept.state.to_string(),
            author: author.clone(),
            deadline_ms: *deadline_ms,
            error: kept.error.as_ref().map(|error| format!("{}: {}", error.code, error.text)),
        }
    }
}

/// What is known of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Those of the hub, the newest first.
    pub commands: Vec<CommandShown>,
    /// Runs of schedules, the newest first.
    pub runs: Vec<CommandShown>,
}

/// The way to the task that has the commands; a clone is the same one. One that was not started takes none.
#[derive(Clone)]
pub struct Commands(mpsc::Sender<Event>, Told, watch::Sender<Option<Arc<Plan>>>);

impl Default for Commands {
    fn default() -> Self {
        Self::new().0
    }
}

/// What waits for the task to start.
pub struct Inbox(mpsc::Receiver<Event>, watch::Sender<Shown>, Planned);

impl Commands {
    /// The way, and what is to be started with it.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (tell, told) = watch::channel(Shown::default());
        let (plan, planned) = watch::channel(None);
        (Self(events, told, plan), Inbox(inbox, tell, planned))
    }

    /// Whether there is somebody to take commands.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        !self.0.is_closed()
    }

    /// A session with a hub that sends commands has opened; gives what that is to be told. None while the task is too busy, as
    /// with a disk that fails: readings do not wait for it, and it is asked again.
    #[must_use]
    pub fn connect(&self) -> Option<UnboundedReceiver<ToHub>> {
        let (outbox, said) = unbounded_channel();
        match self.0.try_send(Event::Connected(outbox)) {
            Ok(()) | Err(TrySendError::Closed(_)) => Some(said),
            Err(TrySendError::Full(_)) => None,
        }
    }

    /// The hub said something. False where the task is too busy for it, for longer than [`BUSY_MAX`]: the session connects
    /// again then, and the hub says again what is to be done.
    pub async fn said(&self, said: ToAgent) -> bool {
        let taken = timeout(BUSY_MAX, self.0.send(Event::Said(said))).await.is_ok();
        if !taken {
            tracing::warn!(
                "a word of the hub about a command is not taken, and will be asked for: too many wait"
            );
        }
        taken
    }

    /// By how much the hub's wall clock is ahead of the monotonic one here, ns. It is measured again and again: a task that is
    /// busy, as with a disk that fails, hears of the next one, and readings do not wait for it.
    pub fn learn_time(&self, offset_ns: i64) {
        let _later = self.0.try_send(Event::Time(offset_ns));
    }

    /// What is known of schedules, without a wait for the task.
    pub(crate) fn schedules(&self) -> Told {
        self.1.clone()
    }

    /// Where it is said which schedules there are by twins and documents.
    #[must_use]
    pub fn plan(&self) -> watch::Sender<Option<Arc<Plan>>> {
        self.2.clone()
    }

    /// What is known of commands; none where there is nobody to take them. It waits as long as the task is busy.
    pub async fn list(&self) -> Option<Known> {
        let (answer, asked) = oneshot::channel();
        self.0.send(Event::List(answer)).await.ok()?;
        asked.await.ok()
    }
}

impl Inbox {
    /// Opens the journal in `data` and takes commands and runs schedules until the task is dropped; what runs then is broken
    /// off. Commands without a device are for `own`.
    ///
    /// # Errors
    /// The journal can neither be opened nor made.
    pub fn start(
        self,
        data: &Path,
        hands: Hands,
        running_max: usize,
        own: DeviceId,
    ) -> anyhow::Result<(JoinHandle<()>, Told)> {
        let exports = hands.jobs.borrow().export_dir.clone();
        if let Some(folder) = exports {
            tokio::task::spawn_blocking(move || exports::clear(&folder));
        }
        let clock = AgentClock::default();
        let (journal, held) = Journal::open(&data.join(JOURNAL)).context("the journal of commands")?;
        let limits = Limits::running(running_max);
        let core =
            AgentCommands::open(held.id, held.forgotten_ms, held.kept, held.ended, limits, kinds::repeat);
        let (news, heard) = mpsc::channel(EVENTS_MAX);
        let Self(events, tell, planned) = self;
        let told = tell.subscribe();
        held.offset_ns.into_iter().for_each(|ahead_ns| hands.hub_ahead.learn(ahead_ns));
        let (journal, hands) = (Arc::new(journal), Arc::new(hands));
        let (for_them, scheduled) = ((Arc::clone(&journal), Arc::clone(&hands)), held.scheduled);
        let keeper = Keeper {
            core,
            journal,
            clock,
            noted_ns: held.offset_ns,
            outbox: None,
            running: HashMap::new(),
            run_ns: 0,
            shown: CommandsStatus::default(),
            aborts: BTreeMap::new(),
            runs: JoinSet::new(),
            news,
            hands,
        };
        let task = tokio::spawn(async move {
            let (journal, hands) = for_them;
            let schedules = Scheduler::open(journal, scheduled, hands, own, tell, planned).await;
            keeper.run(events, heard, schedules).await;
        });
        Ok((task, told))
    }
}

struct Keeper {
    core: AgentCommands,
    journal: Arc<Journal>,
    clock: AgentClock,
    // By how much the hub's clock is ahead, as it is on the disk.
    noted_ns: Option<i64>,
    outbox: Option<UnboundedSender<ToHub>>,
    // With when they began, on the monotonic clock.
    running: HashMap<Id, (CommandId, u64)>,
    run_ns: u64,
    shown: CommandsStatus,
    aborts: BTreeMap<CommandId, oneshot::Sender<()>>,
    runs: JoinSet<Ended>,
    news: mpsc::Sender<News>,
    hands: Arc<Hands>,
}

impl Keeper {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut news: mpsc::Receiver<News>,
        mut schedules: Scheduler,
    ) {
        let mut ticks = interval(TICK);
        loop {
            self.carry_out().await;
            self.show();
            tokio::select! {
                Some(event) = events.recv() => self.handle(event, &schedules).await,
                ended = schedules.ended() => schedules.handle_ended(ended).await,
                Some(done) = self.runs.join_next_with_id() => {
                    // All that it said before it ended is here by now.
                    while let Ok(said) = news.try_recv() {
                        self.hear(&said);
                    }
                    let (task, ended) = match done {
                        Ok((task, ended)) => (task, ended),
                        Err(error) => (error.id(), Ended::Failed(CommandError::new(errors::FAILED, &error))),
                    };
                    if let Some((id, began_ns)) = self.running.remove(&task) {
                        let took_ns = self.clock.mono_ns().saturating_sub(began_ns);
                        self.run_ns = self.run_ns.saturating_add(took_ns);
                        self.aborts.remove(&id);
                        self.core.handle_ended(self.now_ms(), id, ended);
                    }
                }
                Some(said) = news.recv() => self.hear(&said),
                _ = ticks.tick() => {
                    self.core.handle_time(self.now_ms());
                    schedules.look(self.now_ms()).await;
                }
            }
        }
    }

    fn now_ms(&self) -> Option<i64> {
        Some(self.hands.hub_ahead.ns()?.saturating_add_unsigned(self.clock.mono_ns()) / 1_000_000)
    }

    async fn handle(&mut self, event: Event, schedules: &Scheduler) {
        match event {
            Event::Connected(outbox) => {
                self.outbox = Some(outbox);
                self.core.handle_connected();
            }
            Event::Said(said) => {
                let ended = match self.core.lacks(&said) {
                    // Nothing else is done until that is known: one of which nothing is found is begun.
                    Some(id) => {
                        self.journal.until_done("commands cannot be read", move |it| it.ended(id)).await
                    }
                    None => Looked::None,
                };
                match ended {
                    Looked::None => self.core.handle_said(self.now_ms(), said, None),
                    Looked::Found(kept) => self.core.handle_said(self.now_ms(), said, Some(*kept)),
                    Looked::Unreadable => self.core.handle_unreadable(&said),
                }
            }
            Event::Time(offset_ns) => {
                self.hands.hub_ahead.learn(offset_ns);
                // For a restart of the agent without a hub; not each time, since clocks part slowly.
                if self.noted_ns.is_none_or(|noted_ns| noted_ns.abs_diff(offset_ns) > PARTED_NS) {
                    let noted = self.journal.on_thread(move |journal| journal.note_time(offset_ns)).await;
                    match noted {
                        Ok(()) => self.noted_ns = Some(offset_ns),
                        Err(error) => {
                            tracing::warn!(error = format!("{error:#}"), "the hub's time could not be noted");
                        }
                    }
                }
                self.core.handle_time(self.now_ms());
            }
            // Who asked has gone, as while the disk failed.
            Event::List(answer) if answer.is_closed() => {}
            Event::List(answer) => {
                let mut commands: Vec<_> = self.core.list().into_iter().map(CommandShown::of).collect();
                // Once: who asks to see them does not hold up what is to be done.
                match self.journal.on_thread(|journal| journal.newest_ended(SHOWN_MAX)).await {
                    Ok(ended) => commands.extend(ended.iter().map(CommandShown::of)),
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "commands that have ended cannot be read, and are not shown");
                    }
                }
                // Who asked may have gone.
                drop(answer.send(Known { commands, runs: schedules.list().collect() }));
            }
        }
    }

    fn show(&mut self) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let open = CommandsStatus {
            waiting: count(self.core.waiting()),
            running: count(self.core.running()),
            untold: count(self.core.untold()),
            run_ms: self.run_ns / 1_000_000,
            ..CommandsStatus::default()
        };
        let now = open.with(self.core.counts());
        if now != self.shown {
            self.shown = now.clone();
            self.hands.syncer.board.update(|status| status.commands = now);
        }
    }

    fn hear(&mut self, said: &News) {
        match said {
            News::Output(id, bytes) => drop(self.core.handle_output(*id, bytes)),
            News::Percent(id, percent) => self.core.handle_percent(*id, *percent),
        }
    }

    async fn carry_out(&mut self) {
        while let Some(step) = self.core.poll() {
            match step {
                AgentStep::Commit(changes) => self.commit(changes).await,
                AgentStep::Begin(command) => self.begin(command),
                AgentStep::Abort(id) => drop(self.aborts.remove(&id).map(|abort| abort.send(()))),
                // A session that has ended has dropped its end; it is said again in the next.
                AgentStep::Say(said) => {
                    if let Some(outbox) = &self.outbox {
                        let _ended = outbox.send(said);
                    }
                }
            }
        }
    }

    async fn commit(&mut self, changes: Vec<AgentChange>) {
        let changes = Arc::new(changes);
        self.journal.until_done("commands could not be noted", move |it| it.commit(&changes)).await;
        self.core.handle_committed();
    }

    fn begin(&mut self, command: Command) {
        let id = command.id;
        let (kind, device, author) = (command.kind.clone(), command.device.clone(), command.author.clone());
        tracing::info!(%id, kind, %device, author, "a command of the hub begins");
        let left_ms = self.now_ms().map_or(0, |now_ms| command.deadline_ms.saturating_sub(now_ms));
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or_default());
        let (abort, aborted) = oneshot::channel();
        self.aborts.insert(id, abort);
        let (hands, news) = (Arc::clone(&self.hands), self.news.clone());
        let run = kinds::Run { command, left, aborted: Some(aborted), news };
        let task = self.runs.spawn(async move { run.carry_out(&hands).await });
        self.running.insert(task.id(), (id, self.clock.mono_ns()));
    }
}
