//! The writer, the decoder and the flusher.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tideline_protocol::durability::{Batch, Durable, Validated};
use tideline_protocol::model::{AgentId, Epoch, Gap};
use tideline_protocol::wire::{Series, Settlement};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Inner;
use super::flush::Cut;
use crate::config::StoreError;
use crate::decode::{self, Refusal};
use crate::log::{Checkpoint, Holding, LogCore, LogError, RealDisk, lock};
use crate::metrics::add;
use crate::tables::{LiveBatch, Shared, read, write};

/// Runs that may wait for the decoder; with blocks of 3 MiB at most they take 192 MiB.
pub const DECODE_QUEUE_MAX: usize = 64;
/// Most runs of one group commit.
const GROUP_MAX: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub enum Command {
    Define { agent: AgentId, epoch: Epoch, series: Series, reply: Reply<u32> },
    Append { batch: Batch<Validated>, reply: Reply<Batch<Durable>> },
    Gap { agent: AgentId, epoch: Epoch, gap: Gap, reply: Reply<Settlement> },
    Cut { reply: Sender<Result<Cut, StoreError>> },
    Barrier { reply: Sender<()> },
    Refusals,
    Trim { oldest_segment: u64 },
    Close,
}

/// What the decoder is asked to do, in log order.
pub enum Work {
    Batch(Box<Batch<Durable>>),
    Cut { checkpoint: Checkpoint, holdings: Vec<Holding>, reply: Sender<Result<Cut, StoreError>> },
    Barrier { reply: Sender<()> },
}

/// Refusals that the decoder found. A list beside the queues: the decoder must never wait for the
/// writer, which may be waiting for the decoder.
pub type Refusals = Arc<Mutex<Vec<Refusal>>>;

/// The writer's side of the store.
pub struct Writer {
    pub core: LogCore<RealDisk>,
    pub shared: Arc<Shared>,
    pub work: SyncSender<Work>,
    pub refusals: Refusals,
}

impl Writer {
    /// Carries commands out until the store is closed.
    pub fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            if let Command::Append { batch, reply } = command {
                let (mut batches, mut replies) = (vec![batch], vec![reply]);
                while batches.len() < GROUP_MAX {
                    match commands.try_recv() {
                        Ok(Command::Append { batch, reply }) => {
                            batches.push(batch);
                            replies.push(reply);
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                self.append(batches, replies);
            } else if matches!(command, Command::Close) {
                return;
            } else {
                self.handle(command);
            }
            self.count();
            if next.is_none() {
                next = commands.blocking_recv();
            }
        }
    }

    fn count(&self) {
        self.shared.counters.log_bytes.store(self.core.bytes_written(), Ordering::Relaxed);
        self.shared.counters.poisoned.store(self.core.is_poisoned(), Ordering::Relaxed);
    }

    fn append(&mut self, batches: Vec<Batch<Validated>>, replies: Vec<Reply<Batch<Durable>>>) {
        match self.core.append(batches) {
            Ok(durable) => {
                add(&self.shared.counters.commits, 1);
                for (batch, reply) in durable.into_iter().zip(replies) {
                    let envelope = &batch.run().envelope;
                    let rows = envelope.rows.total_in(envelope.first, batch.taken());
                    add(&self.shared.counters.appended_batches, 1);
                    add(&self.shared.counters.appended_rows, rows);
                    add(&self.shared.counters.duplicate_rows, envelope.rows.total().saturating_sub(rows));
                    let work = Work::Batch(Box::new(batch.clone()));
                    let _ = reply.send(Ok(batch));
                    let _ = self.work.send(work);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the log cannot be written");
                let error = StoreError::from(error);
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Define { agent, epoch, series, reply } => {
                let known = self.core.define_series(&agent, epoch, &series);
                if known.is_ok() {
                    let ledgers = lock(&self.shared.ledgers);
                    if let Some(state) = ledgers.epoch(&agent, epoch) {
                        write(&self.shared.registry).learn(&agent, epoch, state.dictionary());
                    }
                }
                let _ = reply.send(known.map_err(StoreError::from));
            }
            Command::Gap { agent, epoch, gap, reply } => {
                let _ = reply.send(self.core.record_gap(&agent, epoch, &gap).map_err(StoreError::from));
            }
            Command::Cut { reply } => match self.core.cut() {
                Ok((checkpoint, holdings)) => drop(self.work.send(Work::Cut { checkpoint, holdings, reply })),
                Err(error) => drop(reply.send(Err(error.into()))),
            },
            Command::Barrier { reply } => {
                if let Err(error) = self.refuse() {
                    tracing::error!(%error, "a refusal cannot be recorded");
                }
                let _ = self.work.send(Work::Barrier { reply });
            }
            Command::Refusals => {
                if let Err(error) = self.refuse() {
                    tracing::error!(%error, "a refusal cannot be recorded");
                }
            }
            Command::Trim { oldest_segment } => {
                if let Err(error) = self.core.remove_before(oldest_segment) {
                    tracing::warn!(%error, "old log segments stay until the next start");
                }
            }
            Command::Append { .. } | Command::Close => {}
        }
    }

    fn refuse(&mut self) -> Result<(), LogError> {
        for refusal in std::mem::take(&mut *lock(&self.refusals)) {
            self.core.refuse(&refusal.agent, refusal.envelope.epoch, &refusal.taken, refusal.rows())?;
        }
        Ok(())
    }
}

/// The decoder's side of the store.
pub struct Decoder {
    pub shared: Arc<Shared>,
    pub live: broadcast::Sender<Arc<LiveBatch>>,
    pub commands: mpsc::WeakUnboundedSender<Command>,
    pub refusals: Refusals,
}

impl Decoder {
    /// Takes durable runs in until the writer is gone.
    pub fn run(self, work: &Receiver<Work>) {
        while let Ok(work) = work.recv() {
            match work {
                Work::Batch(batch) => self.take_in(&batch),
                Work::Cut { checkpoint, holdings, reply } => {
                    let mut tables = write(&self.shared.tables);
                    let hot = Arc::new(std::mem::take(&mut tables.active));
                    tables.flushing = Some(Arc::clone(&hot));
                    drop(tables);
                    let _ = reply.send(Ok(Cut { checkpoint, holdings, hot }));
                }
                Work::Barrier { reply } => drop(reply.send(())),
            }
        }
    }

    fn take_in(&self, batch: &Batch<Durable>) {
        self.wait_for_room();
        match decode::take_in(&self.shared, batch.agent(), batch.run(), batch.taken()) {
            Ok(None) => {}
            // Nobody listening is no error.
            Ok(Some(live)) => drop(self.live.send(Arc::new(live))),
            Err(refusal) => {
                lock(&self.refusals).push(refusal);
                if let Some(commands) = self.commands.upgrade() {
                    let _ = commands.send(Command::Refusals);
                }
            }
        }
        if read(&self.shared.tables).active.rows() >= self.shared.hot_rows_max {
            lock(&self.shared.signal.state).full = true;
            self.shared.signal.changed.notify_all();
        }
    }

    /// While a file is being written the hot columns grow to twice their size at most (INV-6).
    fn wait_for_room(&self) {
        let full = || {
            let tables = read(&self.shared.tables);
            tables.sealing && tables.active.rows() >= self.shared.hot_rows_max.saturating_mul(2)
        };
        let signal = &self.shared.signal;
        let mut state = lock(&signal.state);
        while !state.stop && full() {
            let waited = signal.changed.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Flushes when the hot columns are full, and after `interval` at the latest.
pub fn run_flusher(shared: &Arc<Shared>, inner: &Weak<Inner>, interval: Duration) {
    let mut flushed_at = u64::MAX;
    loop {
        {
            let state = lock(&shared.signal.state);
            let wait = shared.signal.changed.wait_timeout_while(state, interval, |s| !s.stop && !s.full);
            let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if state.stop {
                return;
            }
            state.full = false;
        }
        let written = shared.counters.log_bytes.load(Ordering::Relaxed);
        let Some(inner) = inner.upgrade() else { return };
        if written == flushed_at || shared.counters.poisoned.load(Ordering::Relaxed) {
            continue;
        }
        match inner.flush() {
            Ok(()) => flushed_at = written,
            Err(StoreError::Closed) => return,
            Err(error) => {
                add(&shared.counters.flush_failures, 1);
                tracing::error!(%error, "a flush failed; it will be tried again");
            }
        }
    }
}
