//! `edge-agent run`: wires the parts together and takes them down in order.

mod begin;
mod builder;
mod doors;
mod twins;
mod vital;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tideline_protocol::model::{Class, DeviceId};
use tideline_spool::{DEFAULT_STREAM, Overflow, SpoolConfig, StreamConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use self::begin::begin;
pub use self::builder::Agent;
use self::twins::Twins;
use crate::cards::Cards;
use crate::clock::{self, AgentClock};
use crate::commands::{Commands, Hands, HubAhead, Restart};
use crate::config::{Config, Jobs, Layers, Plan, SourceConfig};
use crate::flow::trace::Tracer;
use crate::flow::{self, Flow};
use crate::identity::Identity;
use crate::intake::{Batching, Intake, Piped};
use crate::logs::Recent;
use crate::reload::{Asked, Asker, Live, Reloader};
use crate::schedule::report::{self, Told};
use crate::schedule::shared::driver::Planner;
use crate::source::{Make, Outlets, Sources, Writes};
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::supervise::notify;
use crate::sync::{Syncer, Wake};
use crate::twin::judge::Judge;
use crate::twin::{Kin, TwinHandle};
use crate::uplink::Uplink;
use crate::uplink::dial::Dialler;
use crate::uplink::routes::Routes;
use crate::{intake, serve, source, store};

/// Longest time for sending the rest when told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the spool is told that it has grown older.
const AGE_STEP: Duration = Duration::from_secs(10);

/// A source of the program's own.
pub type Custom = (SourceConfig, Make);

/// The process that the agent is.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Has it start again; none where the agent is a part of another program.
    pub restart: Option<Restart>,
    /// The newest lines of its log.
    pub logs: Recent,
}

impl Process {
    /// Tells the service manager that the agent ends; one that starts again in this process does not.
    fn tell_stopping(&self) {
        match &self.restart {
            Some(restart) if restart.is_asked() => notify::reloading(),
            _ => notify::stopping(),
        }
    }
}

/// Runs the agent until SIGTERM or SIGINT, and with `until_stdin_ends` until whoever started it has
/// ended and so closed the other end of its stdin. A command of the hub may have the process start again.
///
/// # Errors
/// The agent cannot start: not enrolled, spool or address in use.
pub async fn run(layers: Layers, until_stdin_ends: bool, logs: Recent) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let parent = if until_stdin_ends { Some(end_of_stdin()?) } else { None };
    let restart = Restart::default();
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = ended(parent) => {}
            () = restart.asked() => tracing::info!("a command of the hub has the agent start again"),
        }
    };
    let process = Process { restart: Some(restart.clone()), logs };
    run_until(layers, Vec::new(), process, told).await?;
    if restart.is_asked() { Err(start_again()) } else { Ok(()) }
}

/// Puts a new start of the program in the place of this process, which keeps its id, so that who watches over it sees no end.
/// Gives why that failed.
fn start_again() -> anyhow::Error {
    let program = match own_program() {
        Ok(program) => program,
        Err(error) => return anyhow::Error::from(error).context("the agent cannot start again"),
    };
    let error = std::process::Command::new(&program).args(std::env::args_os().skip(1)).exec();
    anyhow::Error::from(error).context(format!("{} cannot be started again", program.display()))
}

/// The file of this program, or what has replaced it since.
///
/// # Errors
/// The system does not tell.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // A file that was replaced by a newer one since is named so by the kernel.
    let text = program.to_string_lossy().into_owned();
    Ok(text.strip_suffix(" (deleted)").map_or(program, Into::into))
}

/// Runs the agent with these sources beside those of its configuration, until `stop` resolves.
///
/// # Errors
/// The agent cannot start: not enrolled, spool or address in use.
pub async fn run_until(
    layers: Layers,
    custom: Vec<Custom>,
    process: Process,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let hangup = signal(SignalKind::hangup())?;
    let (config, mut hub, identity, doors) = begin(&layers, Identity::load).await?;
    let board = Board::of(&identity.file.agent);
    // After all that may be in use: a spool that is opened and not closed is checked at the next start.
    let (spool, spool_thread) = open_spool(&config, &board)?;
    let (wake, writes, tracer) = (Wake::default(), Writes::default(), Tracer::new(board.clone()));
    let syncer = Syncer { spool: spool.clone(), board: board.clone(), wake: wake.clone() };
    let own_device = identity.file.agent.own_device();
    let Taken { commands, asked, jobs, work } =
        take_commands(&config, &process, (&syncer, &writes), own_device.clone())?;
    let (drain, draining) = watch::channel(false);
    let (batching, now) = watch::channel(Batching::of(&config));
    let (pipelines, plan) = watch::channel(Arc::new(config.pipelines.clone()));
    let (cards, enrolled) = (Cards::default(), identity.file.clone());
    let intakes = Intakes { config: &config, spool: &spool, batching: now, board: &board, writes: &writes };
    let (out, mut intakes) = intakes.start(&plan, &cards, &tracer);
    let kin = Kin { own: own_device.clone(), cards: cards.seen(), known: twins::read_before(&spool).await? };
    let mut twins = Twins::start(&config, kin, &spool, &board, &writes)?;
    let judge = Judge::new(own_device.clone(), layers.clone());
    let (mut served, questions) =
        doors.open((&twins.handle, judge), syncer, (&writes, &tracer, &commands, &process.logs));
    let mut tasks = tend(work, &spool, planner(&twins.handle, &writes, (&commands, &jobs), &own_device));
    let shared = shared(own_device, out, &board, &spool, &cards, writes);
    let (routes, routes_now) = watch::channel(Routes::of(&config, &enrolled));
    let sources = custom.into_iter().fold(Sources::new(shared), |all, (config, make)| all.with(config, make));
    let (socket_path, agent) = (serve::socket_path(&config.data_dir), identity.file.agent.clone());
    let dialler = Dialler::of(identity, AgentClock::default(), &config)?.knowing(spool.state());
    let (live, backfill) = (Live { batching, pipelines, jobs, routes, enrolled, sources }, config.backfill);
    hub.follow(&twins.handle, &agent.own_device());
    let mut reloader = Reloader::start(layers, config, live, board.clone()).await;
    reloader.follow_hub(hub);
    let uplink = Uplink {
        agent,
        dialler: Arc::new(dialler),
        routes: routes_now,
        spool: spool.clone(),
        board,
        drain: draining,
        wake,
        boot: clock::boot().id,
        clock: AgentClock::default(),
        backfill,
        cards,
        twins: Some(twins.handle.clone()),
        questions,
        commands,
        in_force: reloader.in_force(),
    };
    let mut uplink = set_out(uplink);

    let lost = vital::lost(vital::named(&mut uplink, &mut tasks, &mut twins.tasks, &mut served));
    let outcome = until(stop, reloader.run(hangup, asked), &mut intakes, lost).await;
    tracing::info!("stopping");
    process.tell_stopping();
    reloader.stop();
    send_rest(intakes, &drain, uplink).await;
    tasks.iter().for_each(JoinHandle::abort);
    twins.close().await;
    close(&spool, spool_thread).await;
    // When another agent can start, which binds its own; and before this one is closed, so that that stays.
    let _ = std::fs::remove_file(socket_path);
    served.iter().for_each(JoinHandle::abort);
    outcome
}

/// Starts the uplink, after all others, and tells that the agent runs.
fn set_out(uplink: Uplink) -> JoinHandle<()> {
    let task = tokio::spawn(uplink.run());
    tracing::info!("agent runs");
    notify::ready();
    task
}

fn open_spool(config: &Config, board: &Board) -> anyhow::Result<(SpoolHandle, std::thread::JoinHandle<()>)> {
    let (path, streams) = (store::spool_path(&config.data_dir), config.streams.clone());
    SpoolHandle::start_streams(path, spool_config(config), streams, board.clone()).context("spool")
}

/// What takes commands.
struct Taken {
    commands: Commands,
    // Those that ask for a reload.
    asked: Asked,
    jobs: watch::Sender<Arc<Jobs>>,
    // The task, and what it tells of schedules.
    work: (JoinHandle<()>, Told),
}

/// Takes commands of the hub and runs schedules, and hears those that ask for a reload.
fn take_commands(
    config: &Config,
    process: &Process,
    (syncer, writes): (&Syncer, &Writes),
    own: DeviceId,
) -> anyhow::Result<Taken> {
    let ((commands, inbox), (reload, asked)) = (Commands::new(), Asker::new());
    let (jobs, jobs_now) = watch::channel(Arc::new(config.jobs.clone()));
    let Process { restart, logs } = process.clone();
    let (writes, syncer) = (writes.clone(), syncer.clone());
    let hub_ahead = HubAhead::default();
    let hands = Hands { writes, syncer, reload, restart, logs, jobs: jobs_now, hub_ahead };
    let work = inbox.start(&config.data_dir, hands, config.commands_running_max, own)?;
    Ok(Taken { commands, asked, jobs, work })
}

/// What runs beside sources and uplink, as [`vital::TENDED`] names it.
fn tend(
    (keeper, told): (JoinHandle<()>, Told),
    spool: &SpoolHandle,
    planner: Planner,
) -> [JoinHandle<()>; 5] {
    let telling = tokio::spawn(report::run(planner.twins.clone(), planner.agent.clone(), told));
    let aging = tokio::spawn(count_age(spool.clone()));
    let watching = tokio::spawn(notify::keep_alive(spool.clone()));
    [keeper, telling, aging, watching, tokio::spawn(planner.run())]
}

/// Who says which schedules there are by twins and documents.
fn planner(
    twins: &TwinHandle,
    writes: &Writes,
    (commands, jobs): (&Commands, &watch::Sender<Arc<Jobs>>),
    agent: &DeviceId,
) -> Planner {
    Planner {
        agent: agent.clone(),
        twins: twins.clone(),
        writes: writes.clone(),
        jobs: jobs.subscribe(),
        plan: commands.plan(),
    }
}

/// Waits for what ends an agent. Without an intake nothing is kept any more, so that it is no agent; nor is it without
/// one of its other tasks.
async fn until(
    stop: impl Future<Output = ()>,
    reload: impl Future<Output = ()>,
    intakes: &mut JoinSet<()>,
    lost: impl Future<Output = anyhow::Error>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop => Ok(()),
        () = reload => Ok(()),
        error = lost => Err(error),
        Some(ended) = intakes.join_next() => match ended {
            Ok(()) => Err(anyhow::anyhow!("an intake has ended")),
            Err(error) => Err(error).context("an intake has ended"),
        }
    }
}

async fn close(spool: &SpoolHandle, thread: std::thread::JoinHandle<()>) {
    spool.close().await;
    let _ = tokio::task::spawn_blocking(|| thread.join()).await;
}

const fn spool_config(config: &Config) -> SpoolConfig {
    SpoolConfig { quota_bytes: config.quota_bytes, flash_bytes_per_day: config.flash_bytes_per_day }
}

fn shared(
    own_device: DeviceId,
    out: Outlets,
    board: &Board,
    spool: &SpoolHandle,
    cards: &Cards,
    writes: Writes,
) -> source::Shared {
    let (board, spool, cards) = (board.clone(), spool.clone(), cards.clone());
    source::Shared { own_device, out, board, spool, cards, writes }
}

/// Waits for the intakes and then for the uplink to send the rest, but not for long. An intake lives as long as a source may
/// send, and so it lives on when all have come to their end.
async fn send_rest(mut intakes: JoinSet<()>, drain: &watch::Sender<bool>, uplink: JoinHandle<()>) {
    let ending = async {
        while intakes.join_next().await.is_some() {}
        drain.send_replace(true);
        // One that has panicked has told so, and is not to be asked again.
        if !uplink.is_finished() {
            let _ = uplink.await;
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, ending).await.is_err() {
        tracing::warn!("not everything could be sent in time; the spool keeps it");
    }
}

/// Tells the spool its age, until it has ended.
async fn count_age(spool: SpoolHandle) {
    let mut ticks = interval(AGE_STEP);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        // One that failed has been told of, and the spool is opened again by whoever asks next.
        let _ = spool.grow_older(AGE_STEP.as_secs()).await;
    }
}

/// What intakes are made of.
struct Intakes<'a> {
    config: &'a Config,
    spool: &'a SpoolHandle,
    batching: watch::Receiver<Batching>,
    board: &'a Board,
    writes: &'a Writes,
}

impl Intakes<'_> {
    /// One for each stream that blocks, and one for all others.
    fn start(
        &self,
        plan: &watch::Receiver<Arc<Plan>>,
        cards: &Cards,
        tracer: &Tracer,
    ) -> (Outlets, JoinSet<()>) {
        let (mut outlets, mut intakes) = (BTreeMap::new(), JoinSet::new());
        let default = StreamConfig::default();
        let has_default = self.config.streams.iter().any(|stream| stream.name == DEFAULT_STREAM);
        let all: Vec<&StreamConfig> =
            self.config.streams.iter().chain((!has_default).then_some(&default)).collect();
        let (block, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|stream| stream.policy.overflow == Overflow::Block);
        let open: BTreeSet<Arc<str>> = others.iter().map(|stream| Arc::from(stream.name.as_str())).collect();
        let groups = block.into_iter().map(|stream| (format!("pipelines/{}", stream.name), vec![stream]));
        for (key, streams) in groups.chain([("pipelines".to_owned(), others)]) {
            // The default stream is that of what comes from no source, where it is among them.
            let Some(home) = streams.iter().max_by_key(|stream| stream.name == DEFAULT_STREAM) else {
                continue;
            };
            let home: Arc<str> = home.name.as_str().into();
            let (out, inbox) = mpsc::channel(intake::QUEUE_MAX);
            let parts = flow::Parts {
                key,
                home: Arc::clone(&home),
                // A stream that blocks would hold up the others, whatever a new configuration says of it.
                streams: open.iter().chain([&home]).cloned().collect(),
                clock: Arc::new(AgentClock::default()),
                boot: clock::boot().id,
                plan: plan.clone(),
                cards: cards.seen(),
                traced: tracer.follow(),
                board: self.board.clone(),
            };
            let urgent = streams.iter().filter(|stream| stream.class == Class::Alarm);
            let piped = Piped { flow: Flow::new(parts), writes: self.writes.clone() };
            let intake = Intake {
                stream: home,
                urgent: urgent.map(|stream| stream.name.as_str().into()).collect(),
                inbox,
                spool: self.spool.clone(),
                batching: self.batching.clone(),
                board: self.board.clone(),
                piped: Some(piped),
            };
            intakes.spawn(intake.run());
            outlets.extend(streams.iter().map(|stream| (stream.name.clone(), out.clone())));
        }
        (Outlets::new(outlets), intakes)
    }
}

/// Resolves, with an error, when stdin has ended.
pub(crate) fn end_of_stdin() -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, parent) = oneshot::channel();
    // A thread of its own: the runtime would wait for a read of stdin when it ends.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // What is written there is of no interest, and an error is an end as well.
        let _end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    })?;
    Ok(parent)
}

/// Waits for it; for ever without a parent.
pub(crate) async fn ended(parent: Option<oneshot::Receiver<()>>) {
    match parent {
        Some(receiver) => {
            let _ended = receiver.await;
        }
        None => std::future::pending().await,
    }
}
