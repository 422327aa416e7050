//! The intake: readings of all sources go through the pipelines and become batches, and a source is told once they are durable.
//!
//! All streams that never block have one intake, so that pipelines put together what comes on any of them; each stream that
//! blocks has one of its own, so that its waiting holds up no other. What a source hands on together is durable together with its position, however many batches it
//! takes. What cannot be kept is counted as rejected and told, never left out in silence.

mod commit;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tideline_pipeline::Action;
use tideline_protocol::value::Boxes;
use tideline_spool::{DEFAULT_STREAM, SpoolError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep, sleep_until};

use self::commit::{Batch, commit};
use crate::clock::Ahead;
use crate::config::Config;
use crate::flow::actions::Actions;
use crate::flow::{Flow, part_names};
use crate::source::Writes;
use crate::spooler::{Portion, Position, SeriesRows, SpoolHandle};
use crate::status::Board;

/// Most chunks that wait for the intake (INV-6); a full queue makes sources wait.
pub const QUEUE_MAX: usize = 16;
/// Wait after a failed commit before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often pipelines are told that time has passed.
const TICK: Duration = Duration::from_secs(1);

/// Readings that a source hands on together, with its position after them.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The source's name in status.
    pub source: String,
    /// The stream that they go to; none for that of the intake.
    pub stream: Option<Arc<str>>,
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

impl Chunk {
    fn count(&self) -> u64 {
        self.rows.iter().map(|(_, samples)| samples.len() as u64).sum()
    }

    fn into_portion(self) -> Portion {
        let Self { source, stream, rows, boxes, clock, position, durable: _ } = self;
        Portion { source, rows, boxes, clock, positions: position.into_iter().collect(), stream }
    }
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

/// Batches chunks of one stream, without pipelines; see [`Intake::run`].
pub async fn run_stream(
    stream: Arc<str>,
    inbox: mpsc::Receiver<Chunk>,
    spool: SpoolHandle,
    batching: watch::Receiver<Batching>,
    board: Board,
) {
    Intake { stream, urgent: BTreeSet::new(), inbox, spool, batching, board, piped: None }.run().await;
}

/// The pipelines of an intake, and the way of what they write to devices.
pub struct Piped {
    /// The pipelines.
    pub flow: Flow,
    /// The way to devices.
    pub writes: Writes,
}

/// An intake.
pub struct Intake {
    /// The stream of chunks that name none.
    pub stream: Arc<str>,
    /// Streams whose readings do not wait for others to spare the flash.
    pub urgent: BTreeSet<Arc<str>>,
    /// What sources hand on.
    pub inbox: mpsc::Receiver<Chunk>,
    /// Where it goes.
    pub spool: SpoolHandle,
    /// When a batch is complete.
    pub batching: watch::Receiver<Batching>,
    /// Where it is shown.
    pub board: Board,
    /// The pipelines.
    pub piped: Option<Piped>,
}

/// What an intake waits for.
enum Event {
    Chunk(Box<Chunk>),
    /// All sources have ended.
    Ended,
    /// The batch is complete by time.
    Due,
    /// Time has passed.
    Tick,
    /// Other pipelines are wanted, or somebody else traced.
    Changed,
    /// A write did not come to a good end.
    Failed(Action, String),
}

impl Intake {
    /// Batches chunks until all sources have ended, then commits the rest and returns. A change of `batching` counts from
    /// the next batch on.
    pub async fn run(mut self) {
        let (mut flow, writes) = match self.piped.take() {
            Some(Piped { flow, writes }) => (Some(begin(&self.spool, flow).await), writes),
            None => (None, Writes::default()),
        };
        let (mut actions, mut ticks) = (Actions::new(writes), tokio::time::interval(TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Batch::default();
        loop {
            match self.next(&batch, flow.as_mut(), &mut actions, &mut ticks).await {
                Event::Chunk(chunk) => self.take(*chunk, flow.as_mut(), &mut batch),
                Event::Ended => break,
                Event::Due => {}
                Event::Tick => {
                    let portions = flow.as_mut().map(Flow::tick).unwrap_or_default();
                    self.gather(portions, &mut batch);
                }
                Event::Changed => flow.iter_mut().for_each(Flow::apply),
                Event::Failed(action, reason) => {
                    flow.iter_mut().for_each(|flow| flow.failed(&action, &reason));
                }
            }
            flow.iter_mut().for_each(|flow| ask(flow, &mut actions));
            if batch.is_complete() {
                commit(&self.stream, &self.spool, &self.board, &mut batch, flow.as_mut()).await;
            }
        }
        flow.iter_mut().for_each(Flow::rest);
        commit(&self.stream, &self.spool, &self.board, &mut batch, flow.as_mut()).await;
    }

    /// What happens next. Cancel safe.
    async fn next(
        &mut self,
        batch: &Batch,
        flow: Option<&mut Flow>,
        actions: &mut Actions,
        ticks: &mut Interval,
    ) -> Event {
        let is_active = flow.as_ref().is_some_and(|flow| flow.is_active());
        let due = async {
            match batch.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            match flow {
                Some(flow) => flow.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = self.inbox.recv() => chunk.map_or(Event::Ended, |chunk| Event::Chunk(Box::new(chunk))),
            () = due => Event::Due,
            _ = ticks.tick(), if is_active => Event::Tick,
            () = changed => Event::Changed,
            (action, reason) = actions.failed() => Event::Failed(action, reason),
        }
    }

    fn take(&self, mut chunk: Chunk, flow: Option<&mut Flow>, batch: &mut Batch) {
        batch.told.extend(chunk.durable.take());
        batch.handed.push((chunk.source.clone(), chunk.count()));
        match flow {
            Some(flow) => {
                let portions = flow.run(chunk);
                self.gather(portions, batch);
            }
            None => self.gather(vec![chunk.into_portion()], batch),
        }
    }

    /// Adds to a batch, which begins with the first that it gets.
    fn gather(&self, portions: Vec<Portion>, batch: &mut Batch) {
        if portions.is_empty() {
            return;
        }
        self.board.newest().take(&portions);
        let batching = *self.batching.borrow();
        let is_urgent = portions.iter().any(|portion| {
            let stream = portion.stream.as_ref().unwrap_or(&self.stream);
            !portion.rows.is_empty() && self.urgent.contains(stream)
        });
        let spool = if is_urgent { self.spool.clone().unhindered() } else { self.spool.clone() };
        let due = Instant::now() + spool.flush_interval(batching.flush_interval);
        batch.gather(portions, batching.rows_max, due);
    }
}

/// Gives the pipelines the state that is durable. Without it nothing may run: what is open in it was acknowledged.
async fn begin(spool: &SpoolHandle, mut flow: Flow) -> Flow {
    let key = flow.key().to_owned();
    loop {
        match durable(spool, &key).await {
            Ok((state, parts)) => {
                flow.begin(state.as_deref(), &parts);
                return flow;
            }
            Err(error) => {
                tracing::error!(%error, "the state of pipelines cannot be read; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

/// What is durable under the name of a flow: its state, and the parts beside it.
async fn durable(spool: &SpoolHandle, key: &str) -> Result<(Option<Vec<u8>>, Vec<Vec<u8>>), SpoolError> {
    let state = spool.cursor(key).await?;
    let mut parts = Vec::new();
    for name in part_names(key) {
        match spool.cursor(&name).await {
            Ok(part) => parts.extend(part),
            // It costs what it told, and nobody can read it later.
            Err(SpoolError::Corrupt(error)) => tracing::error!(name, error, "a part of a state is damaged"),
            Err(error) => return Err(error),
        }
    }
    Ok((state, parts))
}

/// Has done what stages ask for.
fn ask(flow: &mut Flow, actions: &mut Actions) {
    for action in flow.actions() {
        let now_ns = flow.time_by(&action);
        if let Err(reason) = actions.ask(&action, now_ns) {
            flow.failed(&action, &reason);
        }
    }
}
