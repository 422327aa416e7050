//! The hub of a simulated world: a real log core on a simulated disk, a real session, and a model of
//! the files that the log is flushed to, which a manifest lists in one step.

use std::collections::BTreeMap;

use tideline_protocol::block;
use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentState, HubAction, HubSession};
use tideline_protocol::wire::{Message, Run, Settlement};
use tideline_store::{Checkpoint, Ledgers, LogCore, LogError, Opening, Replay};

use crate::disk::SimDisk;
use crate::outcome::Canary;

/// Segments so small that a run has many.
const SEGMENT_BYTES: u64 = 2_000;

type Seqs = BTreeMap<Epoch, RangeSet>;

/// Readings in one place, by their values, and the seqs that brought them.
#[derive(Debug, Clone, Default)]
struct Held {
    values: Vec<u64>,
    seqs: Seqs,
}

impl Held {
    fn take_in(&mut self, run: &Run, taken: &RangeSet) -> Result<(), String> {
        let envelope = &run.envelope;
        let mut decoded =
            block::decode(&run.block, &envelope.rows, envelope.first).map_err(|e| e.to_string())?;
        decoded.retain(envelope.first, taken);
        let values = decoded.columns.iter().flat_map(|column| column.values.iter().map(|v| v.to_bits()));
        self.values.extend(values);
        self.add_seqs(envelope.epoch, taken)
    }

    fn add_seqs(&mut self, epoch: Epoch, seqs: &RangeSet) -> Result<(), String> {
        if seqs.is_empty() {
            return Ok(());
        }
        let held = self.seqs.entry(epoch).or_default();
        let twice = held.intersect(seqs);
        held.insert_set(seqs);
        if twice.is_empty() { Ok(()) } else { Err(format!("INV-2: stored twice: {twice:?}")) }
    }

    fn add_all(&mut self, seqs: &Seqs) -> Result<(), String> {
        seqs.iter().try_for_each(|(epoch, seqs)| self.add_seqs(*epoch, seqs))
    }

    fn add(&mut self, other: Self) -> Result<(), String> {
        self.values.extend(other.values);
        self.add_all(&other.seqs)
    }
}

/// How far a flush has come.
enum Flush {
    None,
    Cut(Checkpoint, Held),
    Committed(u64),
}

pub struct Hub {
    id: AgentId,
    pub disk: SimDisk,
    log: LogCore<SimDisk>,
    canary: Canary,
    // What survives any crash: the files, and where the log goes on after them.
    sealed: Held,
    checkpoint: Checkpoint,
    // What a crash forgets.
    hot: Held,
    flush: Flush,
    pub session: Option<HubSession>,
    // A failed sync leaves the log closed until it is opened again.
    pub poisoned: bool,
}

fn answer(session: &mut HubSession, wall_ns: i64, opening: Opening) {
    let state = |known: tideline_store::AgentState| AgentState {
        settled: known.settled,
        series_known: known.series_known,
    };
    match opening {
        Opening::Known(known) => session.handle_opened(wall_ns, state(known)),
        Opening::Parted { at, state: known } => session.handle_parted(wall_ns, state(known), at),
    }
}

fn open(disk: &SimDisk, checkpoint: Checkpoint) -> (LogCore<SimDisk>, Replay) {
    let (log, replay) = LogCore::open(disk.clone(), checkpoint)
        .unwrap_or_else(|error| panic!("the log does not open: {error}"));
    (log.with_segment_bytes_max(SEGMENT_BYTES), replay)
}

impl Hub {
    pub fn new(id: AgentId, canary: Canary) -> Self {
        let disk = SimDisk::new(canary == Canary::AckBeforeDurable);
        let (log, _) = open(&disk, Checkpoint::default());
        Self {
            id,
            disk,
            log,
            canary,
            sealed: Held::default(),
            checkpoint: Checkpoint::default(),
            hot: Held::default(),
            flush: Flush::None,
            session: None,
            poisoned: false,
        }
    }

    pub fn restart(&mut self) -> Result<(), String> {
        self.session = None;
        self.flush = Flush::None;
        self.hot = Held::default();
        let (log, replay) = open(&self.disk, self.checkpoint.clone());
        self.log = log;
        self.poisoned = false;
        replay.batches.iter().try_for_each(|batch| self.hot.take_in(&batch.run, &batch.taken))
    }

    /// Takes one step of a flush, so that a crash can come between any two.
    pub fn flush_step(&mut self) -> Result<(), String> {
        let done = match std::mem::replace(&mut self.flush, Flush::None) {
            Flush::None => self.log.cut().map(|(checkpoint, holdings)| {
                let hot = std::mem::take(&mut self.hot);
                let rows: u64 = holdings.iter().map(|holding| holding.rows).sum();
                let listed: Seqs =
                    holdings.into_iter().map(|holding| (holding.epoch, holding.seqs)).collect();
                let same = listed == hot.seqs && rows == hot.values.len() as u64;
                let told = format!("the manifest would list {rows} rows of {listed:?}, the file has {hot:?}");
                self.flush = Flush::Cut(checkpoint, hot);
                if same { Ok(()) } else { Err(told) }
            }),
            Flush::Cut(checkpoint, hot)
                if self.canary == Canary::TrimBeforeCommit && checkpoint.oldest_segment > self.trimmed() =>
            {
                let trimmed = self.log.remove_before(checkpoint.oldest_segment);
                self.flush = Flush::Cut(checkpoint, hot);
                trimmed.map(Ok)
            }
            Flush::Cut(checkpoint, hot) => {
                self.flush = Flush::Committed(checkpoint.oldest_segment);
                self.checkpoint = checkpoint;
                if self.canary == Canary::DedupeLostAtFlush {
                    self.checkpoint.ledgers = Ledgers::default();
                }
                Ok(self.sealed.add(hot))
            }
            Flush::Committed(oldest_segment) => self.log.remove_before(oldest_segment).map(Ok),
        };
        match done {
            Ok(checked) => checked,
            Err(_) => {
                self.poisoned = true;
                Ok(())
            }
        }
    }

    /// The oldest segment on the disk.
    fn trimmed(&mut self) -> u64 {
        self.log.disk_mut().oldest().unwrap_or(u64::MAX)
    }

    /// The seqs that the log calls stored are in files or in memory, each once.
    pub fn check(&self) -> Result<(), String> {
        let mut all = Held { values: vec![], seqs: self.sealed.seqs.clone() };
        if let Flush::Cut(_, hot) = &self.flush {
            all.add_all(&hot.seqs)?;
        }
        all.add_all(&self.hot.seqs)?;
        for ledger in self.log.ledger(&self.id) {
            let stored = self.settled(ledger.epoch).stored;
            let held = all.seqs.remove(&ledger.epoch).unwrap_or_default();
            if held != stored {
                return Err(format!("INV-1: the hub claims {stored:?} and holds {held:?}"));
            }
        }
        if all.seqs.is_empty() { Ok(()) } else { Err(format!("INV-1: held and not claimed: {:?}", all.seqs)) }
    }

    pub fn connect(&mut self) {
        self.session = Some(HubSession::new(self.id.clone()));
    }

    pub fn settled(&self, epoch: Epoch) -> Settlement {
        self.log.state(&self.id, epoch).settled
    }

    /// Stored, dropped and duplicate rows, over all epochs.
    pub fn ledger(&self) -> (u64, u64, u64) {
        let ledgers = self.log.ledger(&self.id);
        let sum = |field: fn(&tideline_store::EpochLedger) -> u64| ledgers.iter().map(field).sum();
        (sum(|l| l.stored), sum(|l| l.dropped), sum(|l| l.duplicates))
    }

    /// The value of every reading in files and in memory.
    pub fn stored_values(&self) -> Vec<u64> {
        self.sealed.values.iter().chain(&self.hot.values).copied().collect()
    }

    /// Readings in files.
    pub fn sealed(&self) -> u64 {
        self.sealed.values.len() as u64
    }

    /// False when the agent broke the protocol.
    pub fn receive(&mut self, wall_ns: i64, message: Message) -> bool {
        match &mut self.session {
            Some(session) => session.handle_message(wall_ns, message).is_ok(),
            None => true,
        }
    }

    /// Carries out what the session asks; false when it has ended.
    pub fn drive(&mut self, wall_ns: i64, mut send: impl FnMut(Message)) -> Result<bool, String> {
        let Some(session) = &mut self.session else { return Ok(true) };
        while let Some(action) = session.poll() {
            let done = match action {
                HubAction::Send(mut message) => {
                    if let (Canary::RangeOffByOne, Message::Ack(ack)) = (self.canary, &mut message)
                        && let Some(last) = ack.settled.stored.last()
                    {
                        ack.settled.stored.insert(last + 1, last + 1);
                    }
                    send(message);
                    Ok(())
                }
                HubAction::Open(hello) => {
                    let copies_seen = self.canary != Canary::CopiesUnseen;
                    let opening = if copies_seen {
                        self.log.open_epoch(&self.id, hello.epoch, &hello.lives, hello.moved)
                    } else {
                        Ok(Opening::Known(self.log.state(&self.id, hello.epoch)))
                    };
                    opening.map(|opening| answer(session, wall_ns, opening))
                }
                HubAction::DefineSeries(epoch, series) => self
                    .log
                    .define_series(&self.id, epoch, &series)
                    .map(|known| session.handle_series_durable(known)),
                HubAction::Append(batch) => match self.log.append(vec![batch]) {
                    Ok(durable) => {
                        for batch in &durable {
                            self.hot.take_in(batch.run(), batch.taken())?;
                            session.handle_durable(batch);
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                HubAction::Recall(epoch, first, last) => {
                    session.handle_settled(&self.log.state(&self.id, epoch).settled.within(first, last));
                    Ok(())
                }
                HubAction::RecordGap(epoch, gap) => self
                    .log
                    .record_gap(&self.id, epoch, &gap)
                    .map(|settlement| session.handle_settled(&settlement)),
                HubAction::Report(..) => Ok(()),
                // What was sent before still arrives; the agent's end of the line ends the session.
                HubAction::Close => {
                    self.session = None;
                    return Ok(true);
                }
            };
            match done {
                Ok(()) => {}
                // A message that came out of order: the session ends, the log goes on.
                Err(LogError::Series { .. } | LogError::Limit(_)) => return Ok(false),
                Err(LogError::Poisoned | LogError::Io { .. }) => {
                    self.poisoned = true;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
