//! The intake: readings of all sources become batches, and a source is told once they are durable.
//!
//! What a source hands on together is durable together with its position, however many batches it
//! takes. What cannot be kept is counted as rejected and told, never left out in silence.

use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::value::Boxes;
use tideline_spool::{DEFAULT_STREAM, SpoolError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::Ahead;
use crate::config::Config;
use crate::spooler::{Appended, Portion, Position, SeriesRows, SpoolHandle};
use crate::status::Board;

/// Most chunks that wait for the intake (INV-6); a full queue makes sources wait.
pub const QUEUE_MAX: usize = 16;
/// Texts and the like with which a batch is complete, however few readings it has, in bytes: a run has room for them.
const BOXED_BYTES: usize = 1024 * 1024;
/// Wait after a failed commit before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Readings that a source hands on together, with its position after them.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The source's name in status.
    pub source: String,
    /// The readings by series; their values are words of `boxes`.
    pub rows: Vec<SeriesRows>,
    /// What values stand for that are no plain numbers.
    pub boxes: Boxes,
    /// The clock that gave the times; none when they are the source's own.
    pub clock: Option<Ahead>,
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

/// As [`run_stream`], of the default stream.
pub async fn run(
    inbox: mpsc::Receiver<Chunk>,
    spool: SpoolHandle,
    batching: watch::Receiver<Batching>,
    board: Board,
) {
    run_stream(DEFAULT_STREAM.into(), inbox, spool, batching, board).await;
}

/// Batches chunks of one stream until all sources have ended, then commits the rest and returns. A
/// change of `batching` counts from the next batch on. Each stream has an intake of its own, so that
/// one that has to wait for room holds up no other.
pub async fn run_stream(
    stream: Arc<str>,
    mut inbox: mpsc::Receiver<Chunk>,
    spool: SpoolHandle,
    batching: watch::Receiver<Batching>,
    board: Board,
) {
    while let Some(first) = inbox.recv().await {
        let Batching { flush_interval, rows_max } = *batching.borrow();
        let due = Instant::now() + spool.flush_interval(flush_interval);
        let (mut portions, mut told, mut count, mut boxed) = (Vec::new(), Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some(chunk) = next.take() {
            let Chunk { source, rows, boxes, clock, position, durable } = chunk;
            let portion = Portion { source, rows, boxes, clock, positions: position.into_iter().collect() };
            count += portion.count();
            boxed += portion.boxes.bytes();
            portions.push(Arc::new(portion));
            told.extend(durable);
            // Who waits to be told waits for nothing else.
            if count < rows_max && boxed < BOXED_BYTES && told.is_empty() {
                next = timeout_at(due, inbox.recv()).await.unwrap_or(None);
            }
        }
        commit(&stream, &spool, &board, portions, rows_max).await;
        for waiting in told {
            // Who asked may have gone.
            let _ = waiting.send(());
        }
    }
}

/// Tries until all is durable or rejected: the sources wait meanwhile, and nothing accepted is lost.
async fn commit(
    stream: &Arc<str>,
    spool: &SpoolHandle,
    board: &Board,
    portions: Vec<Arc<Portion>>,
    rows_max: u64,
) {
    let (mut todo, mut told) = (vec![portions], false);
    while let Some(mut portions) = todo.pop() {
        match spool.append_to(Arc::clone(stream), portions.clone(), rows_max).await {
            Ok(appended) => portions.iter().for_each(|portion| count(board, portion, &appended)),
            // More than the quota takes at once: one after the other, as long as they are several.
            Err(SpoolError::OverQuota { .. }) if portions.len() > 1 => {
                let later = portions.split_off(portions.len() / 2);
                todo.extend([later, portions]);
            }
            Err(error @ SpoolError::OverQuota { .. }) => {
                for portion in &mut portions {
                    board.rejected(&portion.source, portion.count(), &error.to_string());
                    // The source is beyond them all the same.
                    let (source, positions) = (portion.source.clone(), portion.positions.clone());
                    *portion = Arc::new(Portion { source, positions, ..Portion::default() });
                }
                todo.push(portions);
            }
            Err(error @ SpoolError::Full { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "sources wait for room in the spool");
                }
                for portion in &portions {
                    board.waits(&portion.source, &error.to_string());
                }
                sleep(RETRY).await;
                todo.push(portions);
            }
            Err(error) => {
                tracing::error!(%error, "commit failed; trying again");
                sleep(RETRY).await;
                todo.push(portions);
            }
        }
    }
}

/// Counts what became of a portion for its source.
fn count(board: &Board, portion: &Portion, appended: &Appended) {
    let no_room = portion.rows.iter().filter(|(def, _)| appended.rejected.contains(def));
    let rejected = no_room.clone().map(|(_, samples)| samples.len() as u64).sum();
    if let Some((def, _)) = no_room.clone().next() {
        let error = SpoolError::TooManySeries { def: Box::new(def.clone()) };
        board.rejected(&portion.source, rejected, &error.to_string());
    }
    board.accepted(&portion.source, portion.count() - rejected);
}
