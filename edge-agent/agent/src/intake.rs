//! The intake: readings of all sources become batches, and a source is told once they are durable.

use std::collections::HashMap;
use std::time::Duration;

use tideline_protocol::model::{Sample, SeriesDef};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;
use crate::spooler::{Position, SeriesRows, SpoolHandle};

/// Most chunks that wait for the intake (INV-6); a full queue makes sources wait.
pub const QUEUE_MAX: usize = 16;
/// Wait after a failed commit before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Readings that a source hands on together, with its position after them.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The readings by series.
    pub rows: Vec<SeriesRows>,
    /// The source's position once these are durable.
    pub position: Option<Position>,
    /// Told once these and all that came before are durable.
    pub durable: Option<oneshot::Sender<()>>,
}

/// When a batch is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// This long after its first reading.
    pub flush_interval: Duration,
    /// With this many readings.
    pub rows_max: u64,
}

impl Batching {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let flush_interval = Duration::from_millis(config.flush_interval_ms);
        Self { flush_interval, rows_max: config.rows_max }
    }
}

#[derive(Default)]
struct Gathered {
    series: HashMap<SeriesDef, usize>,
    rows: Vec<SeriesRows>,
    positions: HashMap<String, Vec<u8>>,
    told: Vec<oneshot::Sender<()>>,
    count: u64,
}

impl Gathered {
    fn add(&mut self, chunk: Chunk) {
        for (def, samples) in chunk.rows {
            self.count += samples.len() as u64;
            self.add_series(def, samples);
        }
        self.positions.extend(chunk.position);
        self.told.extend(chunk.durable);
    }

    fn add_series(&mut self, def: SeriesDef, samples: Vec<Sample>) {
        let known = self.series.get(&def).and_then(|index| self.rows.get_mut(*index));
        match known {
            Some((_, all)) => all.extend(samples),
            None => {
                self.series.insert(def.clone(), self.rows.len());
                self.rows.push((def, samples));
            }
        }
    }
}

/// Batches chunks until all sources have ended, then commits the rest and returns. A change of
/// `batching` counts from the next batch on.
pub async fn run(mut inbox: mpsc::Receiver<Chunk>, spool: SpoolHandle, batching: watch::Receiver<Batching>) {
    while let Some(first) = inbox.recv().await {
        let Batching { flush_interval, rows_max } = *batching.borrow();
        let due = Instant::now() + flush_interval;
        let mut gathered = Gathered::default();
        gathered.add(first);
        // Who waits to be told waits for nothing else.
        while gathered.count < rows_max && gathered.told.is_empty() {
            match timeout_at(due, inbox.recv()).await {
                Ok(Some(chunk)) => gathered.add(chunk),
                Ok(None) | Err(_) => break,
            }
        }
        let told = std::mem::take(&mut gathered.told);
        commit(&spool, gathered).await;
        for waiting in told {
            // Who asked may have gone.
            let _ = waiting.send(());
        }
    }
}

/// Tries until it is durable: the sources wait meanwhile, and nothing accepted is lost.
async fn commit(spool: &SpoolHandle, gathered: Gathered) {
    let positions: Vec<Position> = gathered.positions.into_iter().collect();
    let mut rows = gathered.rows;
    loop {
        match spool.append(rows.clone(), positions.clone()).await {
            Ok(_) => return,
            Err(tideline_spool::SpoolError::TooManySeries { def }) => {
                tracing::error!(series = ?def, "the dictionary is full; readings of new series are rejected");
                rows.retain(|(known, _)| known != &*def);
            }
            Err(
                error @ (tideline_spool::SpoolError::OverQuota { .. }
                | tideline_spool::SpoolError::TooLarge { .. }),
            ) => {
                tracing::error!(%error, "a batch cannot be stored and is rejected");
                rows.clear();
            }
            Err(error) => {
                tracing::error!(%error, "commit failed; trying again");
                sleep(RETRY).await;
            }
        }
    }
}
