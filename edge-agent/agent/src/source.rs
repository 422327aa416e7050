//! Sources: where readings come from.

pub mod host;
pub mod replay;

use tideline_protocol::model::{DeviceId, PointId};
use tokio::sync::{mpsc, watch};

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
        tracing::debug!(source = self.name, error, "reading rejected");
        self.board.source(&self.name, |source| {
            source.rejected += 1;
            source.last_error = Some(error.to_owned());
        });
    }
}

/// Runs a source until it ends or is stopped.
pub async fn run(config: SourceConfig, context: Context) {
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
