//! The ways into the intakes, one for each stream.

use std::collections::BTreeMap;

use tideline_spool::DEFAULT_STREAM;
use tokio::sync::mpsc;

use super::SourceError;
use crate::intake::Chunk;

/// The ways into the intakes, by stream. An intake lives as long as one of these.
#[derive(Clone)]
pub struct Outlets(BTreeMap<String, mpsc::Sender<Chunk>>);

/// The same, which keep no intake alive: a source that hangs must not hold up the agent's end.
#[derive(Clone)]
pub struct WeakOutlets(BTreeMap<String, mpsc::WeakSender<Chunk>>);

impl Outlets {
    /// Of all streams.
    #[must_use]
    pub const fn new(by_stream: BTreeMap<String, mpsc::Sender<Chunk>>) -> Self {
        Self(by_stream)
    }

    /// Those that keep no intake alive.
    #[must_use]
    pub fn weak(&self) -> WeakOutlets {
        WeakOutlets(self.0.iter().map(|(stream, out)| (stream.clone(), out.downgrade())).collect())
    }

    /// Whether there is this stream.
    #[must_use]
    pub fn has(&self, stream: &str) -> bool {
        self.0.contains_key(stream)
    }
}

impl From<mpsc::Sender<Chunk>> for Outlets {
    fn from(only: mpsc::Sender<Chunk>) -> Self {
        Self([(DEFAULT_STREAM.to_owned(), only)].into())
    }
}

impl WeakOutlets {
    /// Whether there is this stream.
    pub fn has(&self, stream: &str) -> bool {
        self.0.contains_key(stream)
    }

    /// The way to a stream.
    ///
    /// # Errors
    /// There is no such stream, or the agent ends.
    pub fn of(&self, stream: &str) -> Result<mpsc::Sender<Chunk>, SourceError> {
        match self.0.get(stream) {
            Some(out) => out.upgrade().ok_or(SourceError::Stopped),
            None => Err(no_stream(stream)),
        }
    }
}

/// What is told of a source whose stream is missing.
pub fn no_stream(stream: &str) -> SourceError {
    SourceError::failed(format!("its stream {stream:?} is there after a restart only"))
}
