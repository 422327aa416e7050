//! The hub of a simulated world: a real log core on a simulated disk, a real session for each agent,
//! and a model of the files that the log is flushed to, which a manifest lists in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::PoisonError;

use rand::rngs::StdRng;
use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentState, HubAction, HubSession};
use tideline_protocol::wire::{Message, Report, Run, Settlement};
use tideline_store::{Checkpoint, EpochLedger, Ledgers, LogCore, LogError, Opening, Replay, readings};

use super::readings::value_of;
use super::times::Mark;
use crate::disk::SimDisk;
use crate::outcome::Canary;

/// Segments so small that a run has many.
const SEGMENT_BYTES: u64 = 2_000;

/// Seqs by the number of their agent and their epoch.
pub type Seqs = BTreeMap<(usize, Epoch), RangeSet>;

/// A stored reading.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub of: (usize, Epoch),
    pub seq: u64,
    pub value: u64,
    pub time_ns: i64,
    /// What its run says of its time.
    pub mark: Mark,
}

/// Readings in one place, and the seqs that brought them.
#[derive(Debug, Clone, Default)]
struct Held {
    readings: Vec<Stored>,
    seqs: Seqs,
}

/// How often the canary corrects a time that it reads again.
const TWICE: usize = 2;

impl Held {
    /// Takes in what is durable; times are corrected so many times.
    fn take_in(&mut self, agent: usize, run: &Run, taken: &RangeSet, times: usize) -> Result<(), String> {
        let envelope = &run.envelope;
        let mut decoded = readings(run, taken, usize::MAX)?;
        for restamp in envelope.restamps.iter().cycle().take(envelope.restamps.len() * (times - 1)) {
            decoded.restamp(envelope.first, &restamp.seqs, restamp.shift_ns.unwrap_or(0));
        }
        for column in &decoded.columns {
            let seqs = column.rows_per_seq.iter().zip(envelope.first.get()..);
            let seqs = seqs.flat_map(|(rows, seq)| iter::repeat_n(seq, *rows as usize));
            for ((value, time_ns), seq) in column.values.iter().zip(&column.times).zip(seqs) {
                let (of, mark) = ((agent, envelope.epoch), mark(run, seq));
                let value = value_of(*value, &decoded.boxes)?;
                self.readings.push(Stored { of, seq, value, time_ns: *time_ns, mark });
            }
        }
        self.add_seqs((agent, envelope.epoch), taken)
    }

    fn add_seqs(&mut self, of: (usize, Epoch), seqs: &RangeSet) -> Result<(), String> {
        if seqs.is_empty() {
            return Ok(());
        }
        let held = self.seqs.entry(of).or_default();
        let twice = held.intersect(seqs);
        held.insert_set(seqs);
        if twice.is_empty() { Ok(()) } else { Err(format!("INV-2: stored twice: {twice:?}")) }
    }

    fn add_all(&mut self, seqs: &Seqs) -> Result<(), String> {
        seqs.iter().try_for_each(|(of, seqs)| self.add_seqs(*of, seqs))
    }

    fn add(&mut self, other: Self) -> Result<(), String> {
        self.readings.extend(other.readings);
        self.add_all(&other.seqs)
    }
}

fn mark(run: &Run, seq: u64) -> Mark {
    let restamp = run.envelope.restamps.iter().find(|restamp| restamp.seqs.contains(seq));
    restamp.map_or(Mark::None, |restamp| restamp.shift_ns.map_or(Mark::Uncertain, Mark::Shift))
}

/// How far a flush has come.
enum Flush {
    None,
    Cut(Checkpoint, Held),
    Committed(u64),
}

/// A backup: all that is durable, as it was once.
pub struct Backup {
    disk: SimDisk,
    sealed: Held,
    checkpoint: Checkpoint,
}

pub struct Hub {
    ids: Vec<AgentId>,
    pub disk: SimDisk,
    log: LogCore<SimDisk>,
    canary: Canary,
    // What survives any crash: the files, and where the log goes on after them.
    sealed: Held,
    checkpoint: Checkpoint,
    // What a crash forgets.
    hot: Held,
    flush: Flush,
    sessions: Vec<Option<HubSession>>,
    /// What it held once, and does not after damage or an older backup.
    pub forgot: Seqs,
    pub forgot_drops: Seqs,
    /// What was dropped when it was last told from what is stored.
    pub folded: Seqs,
    /// Agents whose disks have flipped bits: how many rows a batch had may be beyond them.
    pub damaged: BTreeSet<usize>,
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

fn open(disk: &SimDisk, checkpoint: Checkpoint) -> Result<(LogCore<SimDisk>, Replay), String> {
    let (log, replay) =
        LogCore::open(disk.clone(), checkpoint).map_err(|error| format!("the log does not open: {error}"))?;
    Ok((log.with_segment_bytes_max(SEGMENT_BYTES), replay))
}

impl Hub {
    pub fn new(ids: Vec<AgentId>, canary: Canary) -> Self {
        let disk = SimDisk::new(canary == Canary::AckBeforeDurable);
        let (log, _) = open(&disk, Checkpoint::default()).unwrap_or_else(|error| panic!("{error}"));
        Self {
            sessions: ids.iter().map(|_| None).collect(),
            ids,
            disk,
            log,
            canary,
            sealed: Held::default(),
            checkpoint: Checkpoint::default(),
            hot: Held::default(),
            flush: Flush::None,
            forgot: Seqs::new(),
            forgot_drops: Seqs::new(),
            folded: Seqs::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// Cuts the power, and starts.
    pub fn restart(&mut self, rng: &mut StdRng) -> Result<(), String> {
        self.disk.crash(rng);
        self.start()
    }

    fn start(&mut self) -> Result<(), String> {
        // It starts when an operator has made room.
        self.disk.fill(false);
        self.sessions.iter_mut().for_each(|session| *session = None);
        self.flush = Flush::None;
        self.hot = Held::default();
        let (log, replay) = open(&self.disk, self.checkpoint.clone())?;
        self.log = log;
        replay.batches.iter().try_for_each(|batch| {
            let agent = self.ids.iter().position(|id| *id == batch.agent).unwrap_or(usize::MAX);
            let times = if self.canary == Canary::RestampTwice { TWICE } else { 1 };
            self.hot.take_in(agent, &batch.run, &batch.taken, times)
        })
    }

    /// As after a power cut that some durable bit did not survive.
    pub fn restart_damaged(&mut self, rng: &mut StdRng) -> Result<(), String> {
        self.disk.crash(rng);
        self.disk.flip(rng);
        self.forgetting(Self::start)
    }

    /// Takes a backup while it runs.
    pub fn backup(&self) -> Backup {
        Backup { disk: self.disk.image(), sealed: self.sealed.clone(), checkpoint: self.checkpoint.clone() }
    }

    /// Puts a backup in the place of what it has.
    pub fn restore(&mut self, backup: &Backup) -> Result<(), String> {
        self.forgetting(|hub| {
            hub.disk = backup.disk.image();
            (hub.sealed, hub.checkpoint) = (backup.sealed.clone(), backup.checkpoint.clone());
            hub.start()
        })
    }

    fn forgetting(&mut self, work: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let of = |hub: &Self| {
            let mut all = Vec::new();
            for (agent, id) in hub.ids.iter().enumerate() {
                for EpochLedger { epoch, .. } in hub.log.ledger(id) {
                    all.push(((agent, epoch), hub.settled(agent, epoch)));
                }
            }
            all
        };
        let before = of(self);
        work(self)?;
        for ((agent, epoch), mut known) in before {
            let now = self.settled(agent, epoch);
            known.stored.remove_set(&now.stored);
            known.dropped.remove_set(&now.dropped);
            self.forgot.entry((agent, epoch)).or_default().insert_set(&known.stored);
            self.forgot_drops.entry((agent, epoch)).or_default().insert_set(&known.dropped);
        }
        Ok(())
    }

    /// Whether a write failed, so that the log takes nothing.
    pub const fn is_poisoned(&self) -> bool {
        self.log.is_poisoned()
    }

    /// Takes records again after a failed write, if the disk does.
    pub fn reopen(&mut self) {
        self.sessions.iter_mut().for_each(|session| *session = None);
        let _ = self.log.reopen();
    }

    /// Takes one step of a flush, so that a crash can come between any two.
    pub fn flush_step(&mut self) -> Result<(), String> {
        let done = match std::mem::replace(&mut self.flush, Flush::None) {
            Flush::None => self.log.cut().map(|(checkpoint, holdings)| {
                let hot = std::mem::take(&mut self.hot);
                let rows: u64 = holdings.iter().map(|holding| holding.rows).sum();
                let of = |id: &AgentId| self.ids.iter().position(|own| own == id).unwrap_or(usize::MAX);
                let listed: Seqs =
                    holdings.into_iter().map(|held| ((of(&held.agent), held.epoch), held.seqs)).collect();
                let same = listed == hot.seqs && rows == hot.readings.len() as u64;
                let told = format!("the manifest would list {rows} rows of {listed:?}, the file has {hot:?}");
                self.flush = Flush::Cut(checkpoint, hot);
                if same { Ok(()) } else { Err(told) }
            }),
            Flush::Cut(checkpoint, hot)
                if self.canary == Canary::TrimBeforeCommit
                    && checkpoint.oldest_segment > self.disk.oldest().unwrap_or(u64::MAX) =>
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
        // What failed is tried again, or follows at the next start.
        done.unwrap_or(Ok(()))
    }

    /// The seqs that the log calls stored are in files or in memory, each once, and every epoch's
    /// account balances.
    pub fn check(&self) -> Result<(), String> {
        let mut all = Held { readings: vec![], seqs: self.sealed.seqs.clone() };
        if let Flush::Cut(_, hot) = &self.flush {
            all.add_all(&hot.seqs)?;
        }
        all.add_all(&self.hot.seqs)?;
        for (agent, id) in self.ids.iter().enumerate() {
            for ledger in self.log.ledger(id) {
                let (of, mut stored) = ((agent, ledger.epoch), self.settled(agent, ledger.epoch).stored);
                let held = all.seqs.remove(&of).unwrap_or_default();
                if let Some(folded) = self.folded.get(&of) {
                    let mut not_held = folded.clone();
                    not_held.remove_set(&held);
                    stored.remove_set(&not_held);
                }
                if held != stored {
                    return Err(format!("INV-1: the hub claims {stored:?} and holds {held:?}"));
                }
                self.check_balance(agent, &ledger)?;
            }
        }
        if all.seqs.is_empty() { Ok(()) } else { Err(format!("INV-1: held and not claimed: {:?}", all.seqs)) }
    }

    /// No reading is counted twice, and none is missing.
    fn check_balance(&self, agent: usize, ledger: &EpochLedger) -> Result<(), String> {
        let EpochLedger { produced, stored, pending, dropped, refused, lost, balanced, .. } = ledger;
        let balances = *balanced && *produced == stored + pending + dropped + refused + lost;
        if balances || self.damaged.contains(&agent) {
            return Ok(());
        }
        Err(format!(
            "INV-4: the hub's ledger does not balance: {:?}",
            EpochLedger { gaps: vec![], ..ledger.clone() }
        ))
    }

    pub fn settled(&self, agent: usize, epoch: Epoch) -> Settlement {
        self.ids.get(agent).map(|id| self.log.state(id, epoch).settled).unwrap_or_default()
    }

    /// The accounts of an agent, by epoch.
    pub fn ledgers(&self, agent: usize) -> Vec<EpochLedger> {
        self.ids.get(agent).map(|id| self.log.ledger(id)).unwrap_or_default()
    }

    /// Every reading in files and in memory.
    pub fn stored(&self) -> impl Iterator<Item = &Stored> {
        self.sealed.readings.iter().chain(&self.hot.readings)
    }

    /// Readings in files.
    pub fn sealed(&self) -> u64 {
        self.sealed.readings.len() as u64
    }

    /// Begins a session with an agent; `false` while it takes nothing.
    pub fn connect(&mut self, agent: usize) -> bool {
        if self.is_poisoned() {
            return false;
        }
        if let (Some(session), Some(id)) = (self.sessions.get_mut(agent), self.ids.get(agent)) {
            *session = Some(HubSession::new(id.clone()));
        }
        true
    }

    pub fn disconnect(&mut self, agent: usize) {
        if let Some(session) = self.sessions.get_mut(agent) {
            *session = None;
        }
    }

    /// False when the agent broke the protocol.
    pub fn receive(&mut self, agent: usize, wall_ns: i64, message: Message) -> bool {
        match self.sessions.get_mut(agent) {
            Some(Some(session)) => session.handle_message(wall_ns, message).is_ok(),
            _ => true,
        }
    }

    /// Carries out what the session asks; false when it has ended.
    pub fn drive(
        &mut self,
        agent: usize,
        wall_ns: i64,
        mut send: impl FnMut(Message),
    ) -> Result<bool, String> {
        let Some(mut session) = self.sessions.get_mut(agent).and_then(Option::take) else { return Ok(true) };
        while let Some(action) = session.poll() {
            match action {
                HubAction::Send(mut message) => {
                    if let (Canary::RangeOffByOne, Message::Ack(ack)) = (self.canary, &mut message)
                        && let Some(last) = ack.settled.stored.last()
                    {
                        ack.settled.stored.insert(last + 1, last + 1);
                    }
                    send(message);
                }
                // What was sent before still arrives; the agent's end of the line ends the session.
                HubAction::Close => return Ok(true),
                action => match self.act(agent, wall_ns, &mut session, action)? {
                    Ok(()) => {}
                    // A message that came out of order, or a disk that failed: the session ends.
                    Err(LogError::Series { .. } | LogError::Limit(_) | LogError::Replaced { .. }) => {
                        return Ok(false);
                    }
                    Err(LogError::Poisoned | LogError::Io { .. }) => return Ok(false),
                },
            }
        }
        if let Some(place) = self.sessions.get_mut(agent) {
            *place = Some(session);
        }
        Ok(true)
    }

    fn act(
        &mut self,
        agent: usize,
        wall_ns: i64,
        session: &mut HubSession,
        action: HubAction,
    ) -> Result<Result<(), LogError>, String> {
        let id = session.agent().clone();
        let done = match action {
            HubAction::Send(_)
            | HubAction::Health(_)
            | HubAction::Devices(_)
            | HubAction::Config(_)
            | HubAction::Twin(_)
            | HubAction::Command(_)
            | HubAction::Audit(..)
            | HubAction::Close => Ok(()),
            HubAction::Open(hello) => {
                let copies_seen = self.canary != Canary::CopiesUnseen;
                let opening = if copies_seen {
                    self.log.open_epoch(&id, hello.epoch, &hello.lives, hello.moved)
                } else {
                    Ok(Opening::Known(self.log.state(&id, hello.epoch)))
                };
                opening.map(|opening| answer(session, wall_ns, opening))
            }
            HubAction::DefineSeries(epoch, series) => {
                let known = self.log.define_series(&id, epoch, &series);
                known.map(|known| session.handle_series_durable(known))
            }
            HubAction::Append(batch) => match self
                .log
                .heard(&id, batch.run().envelope.epoch, batch.life())
                .and_then(|()| self.log.append(vec![batch]))
            {
                Ok(durable) => {
                    for batch in &durable {
                        self.hot.take_in(agent, batch.run(), batch.taken(), 1)?;
                        session.handle_durable(batch);
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            },
            HubAction::Recall(epoch, first, last) => {
                session.handle_settled(&self.log.state(&id, epoch).settled.within(first, last));
                Ok(())
            }
            HubAction::RecordGap(epoch, gap) => {
                let heard = self.log.heard(&id, epoch, session.life());
                let settled = heard.and_then(|()| self.log.record_gap(&id, epoch, &gap));
                settled.map(|settlement| session.handle_settled(&settlement))
            }
            HubAction::Report(epoch, report) => {
                self.report(&id, epoch, report);
                Ok(())
            }
        };
        Ok(done)
    }

    fn report(&mut self, agent: &AgentId, epoch: Epoch, report: Report) {
        let before = self.log.state(agent, epoch).settled.stored;
        let ledgers = self.log.ledgers();
        ledgers.lock().unwrap_or_else(PoisonError::into_inner).report(agent, epoch, report);
        let mut folded = self.log.state(agent, epoch).settled.stored;
        folded.remove_set(&before);
        if let Some(at) = self.ids.iter().position(|id| id == agent)
            && !folded.is_empty()
        {
            self.folded.entry((at, epoch)).or_default().insert_set(&folded);
        }
    }
}
