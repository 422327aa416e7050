//! Sources: where readings come from.

pub mod host;
pub mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use tideline_protocol::model::{DeviceId, PointId};
use tideline_spool::DEFAULT_STREAM;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{SourceConfig, SourceKind};
use crate::intake::Chunk;
use crate::spooler::SpoolHandle;
use crate::status::Board;

/// What every source is given.
#[derive(Clone)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// The agent's own device.
    pub own_device: DeviceId,
    /// Where readings go.
    pub out: mpsc::Sender<Chunk>,
    /// Where its state is shown.
    pub board: Board,
    /// True once it is to stop.
    pub stop: watch::Receiver<bool>,
    /// Where its position is kept.
    pub spool: SpoolHandle,
}

impl Context {
    /// Notes a failure in the status and the log.
    pub fn failed(&self, error: &str) {
        tracing::warn!(source = self.name, error, "source failed");
        self.board.source(&self.name, |source| source.last_error = Some(error.to_owned()));
    }

    /// Notes a rejected reading or line.
    pub fn rejected(&self, error: &str) {
        self.board.rejected(&self.name, 1, error);
    }
}

/// Longest wait for sources that were told to stop; one that hangs in a read is then left behind.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The ways into the intakes, by stream.
#[derive(Clone)]
pub struct Outlets(BTreeMap<String, mpsc::Sender<Chunk>>);

impl Outlets {
    /// Of all streams.
    #[must_use]
    pub const fn new(by_stream: BTreeMap<String, mpsc::Sender<Chunk>>) -> Self {
        Self(by_stream)
    }
}

impl From<mpsc::Sender<Chunk>> for Outlets {
    fn from(only: mpsc::Sender<Chunk>) -> Self {
        Self([(DEFAULT_STREAM.to_owned(), only)].into())
    }
}

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
}

struct Running {
    config: SourceConfig,
    stop: watch::Sender<bool>,
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
}

impl Sources {
    /// None yet.
    #[must_use]
    pub const fn new(shared: Shared) -> Self {
        Self { shared, running: Vec::new() }
    }

    /// Ends those that are not wanted as they are, and starts those that are missing.
    pub async fn apply(&mut self, wanted: &[SourceConfig]) {
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|source| wanted.contains(&source.config));
        self.running = kept;
        if !ended.is_empty() {
            self.end(ended, wanted).await;
        }
        for config in wanted {
            if !self.running.iter().any(|source| source.config == *config) {
                self.running.extend(self.start(config.clone()));
            }
        }
    }

    fn start(&self, config: SourceConfig) -> Option<Running> {
        let Some(out) = self.shared.out.0.get(&config.stream).cloned() else {
            let error = format!("its stream {:?} is there after a restart only", config.stream);
            tracing::warn!(source = config.name, error, "source does not start");
            self.shared.board.source(&config.name, |source| source.last_error = Some(error));
            return None;
        };
        tracing::info!(source = config.name, stream = config.stream, "source starts");
        let (stop, stopped) = watch::channel(false);
        let Shared { own_device, board, spool, .. } = self.shared.clone();
        let context = Context { name: config.name.clone(), own_device, out, board, stop: stopped, spool };
        let task = tokio::spawn(run(config.clone(), context));
        Some(Running { config, stop, task })
    }

    async fn end(&self, ended: Vec<Running>, wanted: &[SourceConfig]) {
        let due = tokio::time::Instant::now() + STOP_TIMEOUT;
        ended.iter().for_each(Running::tell_to_stop);
        for mut source in ended {
            let name = &source.config.name;
            tracing::info!(source = name, "source ends");
            if tokio::time::timeout_at(due, &mut source.task).await.is_err() {
                source.task.abort();
                tracing::warn!(source = name, "the source did not end in time and is left behind");
            }
            if !wanted.iter().any(|config| config.name == *name) {
                self.shared.board.update(|status| drop(status.sources.remove(name)));
            }
        }
        // One that starts again under its name begins where the spool says that it was.
        for out in self.shared.out.0.values() {
            let (durable, told) = oneshot::channel();
            let last = Chunk { durable: Some(durable), ..Chunk::default() };
            // One whose stream waits for room begins where it was by what the spool holds.
            let flushed = async {
                if out.send(last).await.is_ok() {
                    let _ = told.await;
                }
            };
            let _ = tokio::time::timeout_at(due, flushed).await;
        }
    }

    /// Tells all to stop, without waiting for it.
    pub fn stop(self) {
        self.running.iter().for_each(Running::tell_to_stop);
    }
}

/// Runs a source until it ends or is stopped.
async fn run(config: SourceConfig, context: Context) {
    context.board.source(&config.name, |_| {});
    match config.kind {
        SourceKind::Host { interval_ms } => host::run(context, interval_ms).await,
        SourceKind::Replay { .. } => replay::run(context, config.kind).await,
    }
}

/// A point id made of free text: what is not allowed becomes '-'.
#[must_use]
pub fn point_id(text: &str) -> Option<PointId> {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '-' };
    let text: String = text.trim().chars().map(clean).take(64).collect();
    PointId::parse(&text).ok()
}
