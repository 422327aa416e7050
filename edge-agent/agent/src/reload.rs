//! Reloading the configuration while the agent runs: on SIGHUP, when the file has changed, and when the hub has set another
//! layer over it, which is on trial first, see [`crate::trial`].
//!
//! A file that is wrong changes nothing, nor does one that was emptied, as by an editor that is about to write it. What can change without a restart does; the rest is named.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, Effective, InForce, Jobs, Layers, Plan};
use crate::identity::IdentityFile;
use crate::intake::Batching;
use crate::source::Sources;
use crate::status::{Board, ConfigStatus};
use crate::supervise::notify;
use crate::trial::driver::HubConfig;
use crate::uplink::routes::Routes;

/// How often the file is looked at. A changed one is read when it has not changed since the last
/// look, as it may be half written.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What tells a file from its former self without reading it.
type Stamp = Option<(SystemTime, u64)>;

/// The parts of a running agent that a new configuration can change.
pub struct Live {
    /// To the intake.
    pub batching: watch::Sender<Batching>,
    /// To the pipelines.
    pub pipelines: watch::Sender<Arc<Plan>>,
    /// To commands and schedules.
    pub jobs: watch::Sender<Arc<Jobs>>,
    /// To the uplink.
    pub routes: watch::Sender<Routes>,
    /// What was enrolled, for when the configuration names no hub.
    pub enrolled: IdentityFile,
    /// The sources.
    pub sources: Sources,
}

/// Asks for a reload from elsewhere; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<oneshot::Sender<ConfigStatus>>);

/// Hears who asks.
pub type Asked = mpsc::Receiver<oneshot::Sender<ConfigStatus>>;

impl Asker {
    /// One, and what hears it.
    #[must_use]
    pub fn new() -> (Self, Asked) {
        let (ask, asked) = mpsc::channel(1);
        (Self(ask), asked)
    }

    /// Has the configuration read again; gives how it is then, or `None` when the agent is ending.
    pub async fn reload(&self) -> Option<ConfigStatus> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// Applies what changes.
pub struct Reloader {
    layers: Layers,
    started: Config,
    live: Live,
    board: Board,
    loaded: Stamp,
    looked: Stamp,
    hub: Option<HubConfig>,
    in_force: InForce,
    // What it runs with where a change waits for a restart; none until the hub is followed.
    began_with: Vec<Effective>,
}

impl Reloader {
    /// Starts what `config` names; it was loaded from `layers`.
    pub async fn start(mut layers: Layers, config: Config, live: Live, board: Board) -> Self {
        let loaded = layers.file.as_deref().and_then(stamp);
        let file = layers.file.as_ref().map(|path| path.display().to_string());
        board.update(|status| status.config.file = file);
        layers.needs_text = layers.has_text();
        let mut reloader = Self {
            layers,
            started: config.clone(),
            live,
            board,
            loaded,
            looked: loaded,
            hub: None,
            in_force: InForce::default(),
            began_with: Vec::new(),
        };
        reloader.apply(config).await;
        reloader
    }

    /// Takes what the hub sets from there; what `start` was given was loaded with it.
    pub fn follow_hub(&mut self, hub: HubConfig) {
        // What cannot be read is told by the note.
        self.began_with = self.layers.effective(&hub.layer()).unwrap_or_default();
        self.hub = Some(hub);
        self.note_in_force();
    }

    /// What is in force, for who tells the hub.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// Looks and reloads for ever. Dropped on the way, it leaves a change half done: only for the
    /// end of the agent, which must not wait for sources or for the disk.
    pub async fn run(&mut self, mut hangup: Signal, mut asked: Asked) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        // What came while the agent did not run, or what it has not told.
        self.take_from_hub().await;
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload().await,
                Some(answer) = asked.recv() => {
                    self.reload().await;
                    // Who asked may have gone.
                    let _gone = answer.send(self.board.read().config);
                }
                _ = looks.tick() => {
                    self.look().await;
                    self.look_at_trial().await;
                    if self.hub.as_ref().is_some_and(HubConfig::is_due) {
                        self.take_from_hub().await;
                    }
                }
                () = changed(&mut self.hub) => self.take_from_hub().await,
            }
        }
    }

    /// Looks whether the file has changed, and reloads it then.
    pub async fn look(&mut self) {
        let now = self.layers.file.as_deref().and_then(stamp);
        if now != self.loaded && now == self.looked {
            self.reload().await;
        }
        self.looked = now;
    }

    /// Reads the configuration again and applies it, or shows what is wrong with it.
    pub async fn reload(&mut self) {
        notify::reloading();
        self.loaded = self.layers.file.as_deref().and_then(stamp);
        let loaded = self.layers.load().and_then(|own| match &mut self.hub {
            Some(hub) => hub.load(&self.layers, own),
            None => Ok(own),
        });
        match loaded {
            Ok(config) => {
                // One that the agent began without may be emptied again only before it said something.
                self.layers.needs_text = self.layers.needs_text || self.layers.has_text();
                self.board.update(|status| status.config.error = None);
                self.apply(config).await;
                self.note_in_force();
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the new configuration is wrong; the old one stays");
                self.board.update(|status| status.config.error = Some(error));
            }
        }
        notify::ready();
    }

    /// Looks what the hub wants, and applies it.
    pub async fn take_from_hub(&mut self) {
        let Some(hub) = &mut self.hub else { return };
        match hub.want(&self.layers, &self.board.read()).await {
            Ok(true) => {
                tracing::info!("the hub has set another configuration");
                self.reload().await;
            }
            Ok(false) => {}
            // It is not in force: what is not durable is not tried.
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the hub's configuration is not taken")
            }
        }
        self.tell_hub().await;
    }

    /// Looks how a configuration of the hub does that is on trial, and goes back where it does not do.
    pub async fn look_at_trial(&mut self) {
        let Some(hub) = &mut self.hub else { return };
        if hub.look(&self.board.read()) {
            tracing::warn!("the hub's configuration is taken back");
            self.reload().await;
        }
        self.tell_hub().await;
    }

    async fn tell_hub(&mut self) {
        let needs_restart = self.board.read().config.needs_restart;
        if let Some(hub) = &mut self.hub {
            hub.tell(&needs_restart).await;
        }
    }

    /// For the hub, which shows all values with where they come from.
    fn note_in_force(&self) {
        let layer = self.hub.as_ref().map(HubConfig::layer).unwrap_or_default();
        match self.layers.effective(&layer) {
            Ok(all) => {
                let waiting = self.board.read().config.needs_restart;
                self.in_force.set(&running(all, &self.began_with, &waiting));
            }
            // It was read just now; what is told is older until it can be read again.
            Err(error) => tracing::warn!(error = format!("{error:#}"), "what is in force cannot be told"),
        }
    }

    async fn apply(&mut self, config: Config) {
        let batching = Batching::of(&config);
        let routes = Routes::of(&config, &self.live.enrolled);
        if self.live.batching.send_if_modified(|old| std::mem::replace(old, batching) != batching) {
            tracing::info!(?batching, "batching has changed");
        }
        if self.live.routes.send_if_modified(|old| std::mem::replace(old, routes.clone()) != routes) {
            tracing::info!(paths = ?routes.paths, "the ways to the hub have changed");
        }
        let jobs = Arc::new(config.jobs.clone());
        if self.live.jobs.send_if_modified(|old| std::mem::replace(old, Arc::clone(&jobs)) != jobs) {
            tracing::info!("what commands may do, or schedules, have changed");
        }
        // Before the sources, so that what new ones read meets them.
        let plan = Arc::new(config.pipelines.clone());
        if self.live.pipelines.send_if_modified(|old| std::mem::replace(old, Arc::clone(&plan)) != plan) {
            tracing::info!(count = plan.definitions.len(), "pipelines have changed");
        }
        self.live.sources.apply(&config.sources).await;
        let needs_restart = needs_restart(&self.started, &config);
        if !needs_restart.is_empty() {
            tracing::warn!(options = ?needs_restart, "these options need a restart to change");
        }
        self.board.update(|status| status.config.needs_restart = needs_restart);
    }

    /// Ends the sources.
    pub fn stop(self) {
        self.live.sources.stop();
    }
}

/// Resolves when what the hub wants may have changed.
async fn changed(hub: &mut Option<HubConfig>) {
    match hub {
        Some(hub) => hub.changed().await,
        None => std::future::pending().await,
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The values that the agent runs with: of those that wait for a restart, as [`needs_restart`] names them, what they were at
/// the start.
fn running(all: Vec<Effective>, began_with: &[Effective], waiting: &[String]) -> Vec<Effective> {
    let waits = |one: &Effective| {
        let section = one.section.split('/').next().unwrap_or_default();
        // Both stand for one thing.
        let name = if one.name == "broker_ca" { "broker" } else { &one.name };
        let full = format!("{section}.{name}");
        let mut names = waiting.iter().flat_map(|names| names.split(" and "));
        names.any(|wanted| wanted == section || wanted == full)
    };
    let before = began_with.iter().filter(|one| waits(one)).cloned();
    let now = all.into_iter().filter(|one| !waits(one));
    now.chain(before).collect()
}

/// The options that differ and cannot change while the agent runs.
fn needs_restart(running: &Config, wanted: &Config) -> Vec<String> {
    let differ = [
        ("agent.data_dir", running.data_dir != wanted.data_dir),
        ("spool.quota_mb", running.quota_bytes != wanted.quota_bytes),
        ("spool.flash_mb_per_day", running.flash_bytes_per_day != wanted.flash_bytes_per_day),
        ("uplink.broker", running.broker != wanted.broker || running.broker_ca != wanted.broker_ca),
        ("uplink.congestion", running.congestion != wanted.congestion),
        ("uplink.backfill_kib_s and uplink.backfill_percent", running.backfill != wanted.backfill),
        ("stream", running.streams != wanted.streams),
        ("http.listen", running.listen != wanted.listen),
        ("commands.running_max", running.commands_running_max != wanted.commands_running_max),
    ];
    differ.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect()
}
