//! The writer and the decoder.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tideline_protocol::durability::{Batch, Durable, Validated};
use tideline_protocol::lives::{Life, Moved};
use tideline_protocol::model::{AgentId, Epoch, Gap};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Run, Series, Settlement};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Inner;
use super::flush::Cut;
use super::letters::Revival;
use super::tail::LogPlace;
use super::unkept::{LETTER_RETRY, Unkept};
use crate::config::StoreError;
use crate::decode::{self, Refusal};
use crate::log::{Checkpoint, LogCore, LogDisk, LogError, Opening, Seqs, lock};
use crate::metrics::add;
use crate::snapshot::LogEnd;
use crate::tables::{LiveBatch, Load, Shared, read, write};

/// Runs that may wait for the decoder.
pub const DECODE_QUEUE_MAX: usize = 64;
/// Bytes of the blocks that are on their way to the decoder, the one that it has in hand included; a
/// longer block goes alone.
pub const DECODE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most runs of one group commit.
pub const GROUP_MAX: usize = 256;
/// A group that has so many bytes takes no more runs: it is written from one buffer of that size.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often a writer that waits for a cut looks whether it still has to.
const CUT_WAIT: Duration = Duration::from_millis(1);

/// The log on whatever disk it was opened on.
pub type Core = LogCore<Box<dyn LogDisk + Send>>;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub enum Command {
    Open {
        agent: AgentId,
        epoch: Epoch,
        lives: Vec<Life>,
        moved: Option<Moved>,
        reply: Reply<Opening>,
    },
    Define {
        agent: AgentId,
        epoch: Epoch,
        series: Series,
        reply: Reply<u32>,
    },
    Rename {
        agent: AgentId,
        epoch: Epoch,
        series: Vec<Series>,
        reply: Reply<()>,
    },
    Append {
        batch: Batch<Validated>,
        reply: Reply<Batch<Durable>>,
    },
    Gap {
        agent: AgentId,
        epoch: Epoch,
        life: Option<u64>,
        gap: Gap,
        reply: Reply<Settlement>,
    },
    Cut {
        reply: Sender<Result<Cut, StoreError>>,
    },
    Barrier {
        reply: Sender<Result<(), StoreError>>,
    },
    End {
        reply: Sender<Result<LogEnd, StoreError>>,
    },
    Refusals,
    Revive(Box<Revival>),
    Reopen {
        reply: Sender<Result<(), StoreError>>,
    },
    /// There is something in the urgent queue.
    Wake,
    Trim {
        oldest_segment: u64,
    },
    Close,
}

/// What the decoder is asked to do, in log order.
pub enum Work {
    /// With the place in the log behind which nothing of it stands.
    Batch(Box<Batch<Durable>>, LogPlace),
    Cut {
        checkpoint: Checkpoint,
        reply: Sender<Result<Cut, StoreError>>,
    },
    Barrier {
        reply: Sender<Result<(), StoreError>>,
    },
}

/// Refusals that the decoder found. A list beside the queues: the decoder must never wait for the
/// writer, which may be waiting for the decoder.
pub type Refusals = Arc<Mutex<Vec<Refusal>>>;

/// The writer's side of the store.
pub struct Writer {
    pub core: Core,
    pub shared: Arc<Shared>,
    /// What must not wait behind the runs that queue up: a cut, which bounds what is hot.
    pub urgent: Receiver<Command>,
    pub work: SyncSender<Work>,
    pub refusals: Refusals,
}

impl Writer {
    /// Carries commands out until the store is closed.
    pub fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            while let Ok(urgent) = self.urgent.try_recv() {
                self.handle(urgent);
            }
            if let Command::Append { batch, reply } = command {
                let mut bytes = batch.run().block.len();
                let (mut batches, mut replies) = (vec![batch], vec![reply]);
                while batches.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                    match commands.try_recv() {
                        Ok(Command::Append { batch, reply }) => {
                            bytes += batch.run().block.len();
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
        self.shared.tail.grown_to(self.core.end());
        let poisoned = self.core.is_poisoned();
        if self.shared.counters.poisoned.swap(poisoned, Ordering::Relaxed) != poisoned {
            add(&self.shared.counters.log_failures, u64::from(poisoned));
            lock(&self.shared.signal.state).poisoned = poisoned;
            self.shared.signal.changed.notify_all();
        }
    }

    /// The runs whose seqs are within the limits; the others get their answer.
    fn admit(
        &self,
        batches: Vec<Batch<Validated>>,
        replies: Vec<Reply<Batch<Durable>>>,
    ) -> (Vec<Batch<Validated>>, Vec<Reply<Batch<Durable>>>) {
        let heard = |(batch, reply): (Batch<Validated>, Reply<Batch<Durable>>)| {
            let epoch = batch.run().envelope.epoch;
            match self.core.heard(batch.agent(), epoch, batch.life()) {
                Ok(()) => Some((batch, reply)),
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                    None
                }
            }
        };
        let heard: Vec<_> = batches.into_iter().zip(replies).filter_map(heard).collect();
        let ledgers = lock(&self.shared.ledgers);
        let within = |(batch, reply): (Batch<Validated>, Reply<Batch<Durable>>)| {
            let ((first, last), epoch) = (batch.seqs(), batch.run().envelope.epoch);
            match ledgers.refuses_seqs(Seqs::Run, batch.agent(), epoch, (first.get(), last.get())) {
                None => Some((batch, reply)),
                Some(reason) => {
                    let _ = reply.send(Err(StoreError::Limit(reason)));
                    None
                }
            }
        };
        heard.into_iter().filter_map(within).unzip()
    }

    /// From when the hot columns have twice their size until a file of them is being written nothing
    /// is taken, but what is urgent is done, a cut above all. The decoder cannot be what waits here: the
    /// cut comes to it behind the runs that are on their way.
    fn wait_for_cut(&mut self) {
        while self.is_full() {
            match self.urgent.recv_timeout(CUT_WAIT) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for no lock unless it is: the tables may be in the hands of a query.
    fn is_full(&self) -> bool {
        let Load { hot_rows, on_the_way, sealing } = &self.shared.load;
        let rows = hot_rows.load(Ordering::Acquire).saturating_add(on_the_way.load(Ordering::Acquire));
        if sealing.load(Ordering::Acquire) || rows < self.shared.hot_rows_max.saturating_mul(2) {
            return false;
        }
        // Otherwise nobody would cut.
        let ends = lock(&self.shared.signal.state).stop || self.shared.on_the_way.is_closed();
        !ends && !self.core.is_poisoned()
    }

    /// Has the decoder take a batch in.
    fn send(&self, batch: Box<Batch<Durable>>) {
        self.shared.on_the_way.take(batch.run().block.len());
        self.shared.load.on_the_way.fetch_add(rows_taken(&batch), Ordering::AcqRel);
        let _ = self.work.send(Work::Batch(batch, self.core.end().into()));
    }

    fn append(&mut self, batches: Vec<Batch<Validated>>, replies: Vec<Reply<Batch<Durable>>>) {
        self.wait_for_cut();
        let (batches, replies) = self.admit(batches, replies);
        match self.core.append(batches) {
            Ok(durable) => {
                add(&self.shared.counters.commits, 1);
                // Before the answers: who has one finds the batch in the log.
                self.shared.tail.grown_to(self.core.end());
                for (batch, reply) in durable.into_iter().zip(replies) {
                    let envelope = &batch.run().envelope;
                    let rows = envelope.rows.total_in(envelope.first, batch.taken());
                    add(&self.shared.counters.appended_batches, 1);
                    add(&self.shared.counters.appended_rows, rows);
                    add(&self.shared.counters.duplicate_rows, envelope.rows.total().saturating_sub(rows));
                    let work = Box::new(batch.clone());
                    let _ = reply.send(Ok(batch));
                    self.send(work);
                }
            }
            Err(error) => {
                if !matches!(error, LogError::Poisoned) {
                    tracing::error!(%error, "the log cannot be written");
                }
                let error = StoreError::from(error);
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { agent, epoch, lives, moved, reply } => {
                let opening = self.core.open_epoch(&agent, epoch, &lives, moved);
                let _ = reply.send(opening.map_err(StoreError::from));
            }
            Command::Define { agent, epoch, series, reply } => {
                let known = self.core.define_series(&agent, epoch, &series);
                if known.is_ok() {
                    self.shared.learn(&agent, epoch);
                }
                let _ = reply.send(known.map_err(StoreError::from));
            }
            Command::Rename { agent, epoch, series, reply } => {
                let renamed = self.core.rename_series(&agent, epoch, &series);
                if renamed.is_ok() {
                    // Before anything else of the epoch is in the log.
                    let place = self.core.end().into();
                    write(&self.shared.registry).rename((&agent, epoch), &series, place);
                }
                let _ = reply.send(renamed.map_err(StoreError::from));
            }
            Command::Gap { agent, epoch, life, gap, reply } => {
                let heard = self.core.heard(&agent, epoch, life);
                let settled = heard.and_then(|()| self.core.record_gap(&agent, epoch, &gap));
                let _ = reply.send(settled.map_err(StoreError::from));
            }
            Command::Cut { reply } => match self.core.cut() {
                Ok((checkpoint, _)) => drop(self.work.send(Work::Cut { checkpoint, reply })),
                Err(error) => drop(reply.send(Err(error.into()))),
            },
            // A flush must not go on when a refusal is not in the log: it would trim the run away
            // and count it as stored.
            Command::Barrier { reply } => match self.refuse() {
                Ok(()) => drop(self.work.send(Work::Barrier { reply })),
                Err(error) => {
                    tracing::error!(%error, "a refusal cannot be recorded");
                    let _ = reply.send(Err(error.into()));
                }
            },
            Command::End { reply } => drop(reply.send(Ok(self.core.end()))),
            Command::Refusals => self.refuse_now(),
            Command::Revive(revival) => {
                let Revival { agent, taken, run, reply } = *revival;
                let _ = reply.send(self.revive(&agent, &taken, run).map_err(StoreError::from));
            }
            Command::Reopen { reply } => {
                let reopened = self.core.reopen();
                if reopened.is_ok() {
                    add(&self.shared.counters.log_reopenings, 1);
                    self.refuse_now();
                }
                // Whoever waits for the answer looks at the state next.
                self.count();
                let _ = reply.send(reopened.map_err(StoreError::from));
            }
            Command::Trim { oldest_segment } => {
                let oldest = self.shared.tail.trim_to(oldest_segment);
                write(&self.shared.registry).forget_before(oldest);
                if let Err(error) = self.core.remove_before(oldest) {
                    tracing::warn!(%error, "old log segments stay until the next start");
                }
            }
            Command::Append { .. } | Command::Close | Command::Wake => {}
        }
    }

    /// Refusals that are not in the log yet come first: one of the same seqs would undo this.
    fn revive(&mut self, agent: &AgentId, taken: &RangeSet, run: Run) -> Result<u64, LogError> {
        self.refuse()?;
        let (batch, rows) = self.core.revive(agent, taken, run)?;
        add(&self.shared.counters.revived_rows, rows);
        self.send(Box::new(batch));
        Ok(rows)
    }

    fn refuse_now(&mut self) {
        if let Err(error) = self.refuse() {
            tracing::error!(%error, "a refusal cannot be recorded; it will be tried again");
        }
    }

    /// A refusal leaves the list when it is in the log and not before: until then its run counts as
    /// stored.
    fn refuse(&mut self) -> Result<(), LogError> {
        let mut found = std::mem::take(&mut *lock(&self.refusals)).into_iter();
        while let Some(refusal) = found.next() {
            let (agent, epoch) = (&refusal.agent, refusal.envelope.epoch);
            if let Err(error) = self.core.refuse(agent, epoch, &refusal.taken, refusal.rows()) {
                lock(&self.refusals).splice(..0, std::iter::once(refusal).chain(found));
                return Err(error);
            }
            self.shared.note_change();
        }
        Ok(())
    }
}

fn rows_taken(batch: &Batch<Durable>) -> usize {
    let envelope = &batch.run().envelope;
    usize::try_from(envelope.rows.total_in(envelope.first, batch.taken())).unwrap_or(usize::MAX)
}

/// The decoder's side of the store.
pub struct Decoder {
    pub shared: Arc<Shared>,
    pub live: broadcast::Sender<Arc<LiveBatch>>,
    pub commands: mpsc::WeakUnboundedSender<Command>,
    pub refusals: Refusals,
    pub unkept: Unkept,
}

impl Drop for Decoder {
    // Also when it panics: the writer must not wait for it then.
    fn drop(&mut self) {
        self.shared.on_the_way.close();
    }
}

impl Decoder {
    /// Takes durable runs in until the writer is gone.
    pub fn run(mut self, work: &Receiver<Work>) {
        loop {
            // What cannot be written is tried again also when nothing comes.
            let pause = if self.unkept.is_empty() { Duration::MAX } else { LETTER_RETRY };
            let work = match work.recv_timeout(pause) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => {
                    let _told = self.keep();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match work {
                Work::Batch(batch, place) => {
                    self.take_in(&batch, place);
                    self.shared.load.on_the_way.fetch_sub(rows_taken(&batch), Ordering::AcqRel);
                    self.shared.on_the_way.give_back(batch.run().block.len());
                }
                Work::Cut { checkpoint, reply } => {
                    let mut tables = write(&self.shared.tables);
                    let hot = Arc::new(std::mem::take(&mut tables.active));
                    tables.flushing = Some(Arc::clone(&hot));
                    drop(tables);
                    let _ = reply.send(Ok(Cut { checkpoint, hot, settled: false, parts: Vec::new() }));
                }
                Work::Barrier { reply } => drop(reply.send(self.keep())),
            }
        }
    }

    fn take_in(&mut self, batch: &Batch<Durable>, place: LogPlace) {
        self.wait_for_room();
        let heard = self.live.receiver_count() > 0;
        let (agent, run) = ((batch.agent(), place), batch.run());
        match decode::take_in(&self.shared, agent, run, batch.taken(), heard) {
            Ok(None) => {}
            // Nobody listening is no error.
            Ok(Some(live)) => drop(self.live.send(Arc::new(live))),
            Err(letter) => {
                self.unkept.add(letter);
                let _told = self.keep();
                self.wait_for_letters();
            }
        }
        if read(&self.shared.tables).active.weight() >= self.shared.hot_rows_max {
            lock(&self.shared.signal.state).full = true;
            self.shared.signal.changed.notify_all();
        }
    }

    /// Writes the dead letters that there are, and has the writer record their refusals.
    fn keep(&mut self) -> Result<(), StoreError> {
        let mut refusals = Vec::new();
        let kept = self.unkept.keep(&self.shared, &mut refusals);
        if !refusals.is_empty() {
            lock(&self.refusals).append(&mut refusals);
            if let Some(commands) = self.commands.upgrade() {
                let _ = commands.send(Command::Refusals);
            }
        }
        kept
    }

    /// Dead letters that cannot be written hold ingest up, and not the memory.
    fn wait_for_letters(&mut self) {
        while self.unkept.is_full() {
            let signal = &self.shared.signal;
            let waited = signal.changed.wait_timeout_while(lock(&signal.state), LETTER_RETRY, |s| !s.stop);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                return;
            }
            let _told = self.keep();
        }
    }

    /// The hot columns, those being sealed included, grow to twice their size at most (INV-6), and by
    /// one group: a file that cannot be written holds ingest up, and not the memory. This is the bound
    /// from when a file is being written until it is listed; before that, [`Writer::wait_for_cut`] is.
    fn wait_for_room(&self) {
        let full = || {
            let tables = read(&self.shared.tables);
            tables.sealing && tables.hot_weight() >= self.shared.hot_rows_max.saturating_mul(2)
        };
        let signal = &self.shared.signal;
        let mut state = lock(&signal.state);
        while !state.stop && full() {
            let waited = signal.changed.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Compares the checksums of the files that nobody has read since the start.
pub fn run_checker(shared: &Arc<Shared>, inner: &Weak<Inner>) {
    let numbers: Vec<u64> = lock(&shared.unchecked).iter().copied().collect();
    for number in numbers {
        let Some(inner) = inner.upgrade() else { return };
        if lock(&shared.signal.state).stop {
            return;
        }
        if let Err(error) = inner.check(number) {
            tracing::error!(%error, number, "a damaged file cannot be mended");
        }
    }
}
