//! The running sources, and how they follow the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::context::{Parts, SharedTurns};
use super::outlets::{Outlets, no_stream};
use super::statistics::Statistics;
use super::writes::Writes;
use super::{Make, maker};
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::config::SourceConfig;
use crate::config::deliveries::profiles;
use crate::spooler::SpoolHandle;
use crate::status::{Board, SourceState, SourceStatus};
use crate::supervise::{self, Remake, Supervised};

/// Longest wait for sources that were told to stop; one that hangs in a read is then left behind.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What all sources share.
#[derive(Clone)]
pub struct Shared {
    /// The agent's own device.
    pub own_device: DeviceId,
    /// Where readings go.
    pub out: Outlets,
    /// Where their state is shown.
    pub board: Board,
    /// Where their positions are kept.
    pub spool: SpoolHandle,
    /// Where they say what they know of devices.
    pub cards: Cards,
    /// The way of writes to their devices.
    pub writes: Writes,
}

struct Running {
    config: SourceConfig,
    stop: watch::Sender<bool>,
    // The supervisor, which ends soon after its source.
    task: JoinHandle<()>,
}

impl Running {
    fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }
}

/// The running sources.
pub struct Sources {
    shared: Shared,
    running: Vec<Running>,
    // Those of the program itself, by name; they run whatever the configuration says.
    custom: BTreeMap<String, (SourceConfig, Make)>,
    // By position key, also of those that are gone: one may come back.
    turns: BTreeMap<String, SharedTurns>,
    // Profiles of which was told what has no effect, by name.
    told: BTreeSet<String>,
}

impl Sources {
    /// None yet.
    #[must_use]
    pub const fn new(shared: Shared) -> Self {
        Self {
            shared,
            running: Vec::new(),
            custom: BTreeMap::new(),
            turns: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// With a source of the program's own, which starts with the next [`Self::apply`].
    #[must_use]
    pub fn with(mut self, config: SourceConfig, make: Make) -> Self {
        self.custom.insert(config.name.clone(), (config, make));
        self
    }

    /// Ends those that are not wanted as they are, and starts those that are missing. Those that did
    /// not change are not touched.
    pub async fn apply(&mut self, wanted: &[SourceConfig]) {
        let custom = self.custom.values().map(|(config, _)| config);
        let is_free = |config: &&SourceConfig| !self.custom.contains_key(&config.name);
        let wanted: Vec<SourceConfig> = custom.chain(wanted.iter().filter(is_free)).cloned().collect();
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|source| wanted.contains(&source.config));
        self.running = kept;
        if !ended.is_empty() {
            self.end(ended, &wanted).await;
        }
        for config in wanted {
            if !self.running.iter().any(|source| source.config == config) {
                let started = self.start(config);
                self.running.extend(started);
            }
        }
    }

    fn start(&mut self, config: SourceConfig) -> Option<Running> {
        let Shared { own_device, out, board, spool, cards, writes } = self.shared.clone();
        let streams = config.devices.iter().filter_map(|device| device.stream.as_ref());
        if let Some(missing) = streams.chain([&config.stream]).find(|stream| !out.has(stream)) {
            let error = no_stream(missing).to_string();
            tracing::warn!(source = config.name, error, "source does not start");
            board.source(&config.name, |source| {
                (source.state, source.last_error) = (SourceState::Degraded, Some(error));
            });
            return None;
        }
        let custom = || self.custom.get(&config.name).map(|(_, make)| Arc::clone(make));
        let editions = writes.editions().clone();
        let make = maker(&config, &editions).or_else(custom)?;
        let wanted = config.clone();
        let remake: Remake = Box::new(move || maker(&wanted, &editions));
        tracing::info!(source = config.name, stream = config.stream, "source starts");
        let position_key = format!("{}/{}", config.kind.name(), config.name);
        let turns = self.turns.entry(position_key.clone()).or_default();
        let (stop, stopped) = watch::channel(false);
        board.source(&config.name, SourceStatus::begin);
        let parts = Parts {
            name: config.name.as_str().into(),
            position_key: position_key.into(),
            own_device,
            stream: config.stream.as_str().into(),
            outlets: out.weak(),
            spool,
            cards,
            writes,
            statistics: Statistics::new(&config.name, board.clone()),
            clock: Arc::new(AgentClock::default()),
            turns: Arc::clone(turns),
            stop: stopped,
        };
        self.tell_unused(&config);
        let policy = config.policy();
        let supervised = Supervised { parts, make, remake, policy, board, outlets: out };
        Some(Running { config, stop, task: tokio::spawn(supervise::run(supervised)) })
    }

    /// Says once of each profile what of it has no effect.
    fn tell_unused(&mut self, config: &SourceConfig) {
        for profile in profiles(config) {
            if self.told.insert(profile.name().to_owned()) {
                profile.unused().iter().for_each(|what| tracing::info!(profile = profile.name(), "{what}"));
            }
        }
    }

    async fn end(&self, ended: Vec<Running>, wanted: &[SourceConfig]) {
        ended.iter().for_each(Running::tell_to_stop);
        for source in ended {
            let name = &source.config.name;
            tracing::info!(source = name, "source ends");
            // A supervisor leaves behind what does not end in time, so this is no longer than that.
            let _ = source.task.await;
            self.shared.writes.reads().forget(name);
            if !wanted.iter().any(|config| config.name == *name) {
                self.shared.board.update(|status| drop(status.sources.remove(name)));
            }
        }
    }

    /// Tells all to stop, without waiting for it.
    pub fn stop(self) {
        self.running.iter().for_each(Running::tell_to_stop);
    }
}
