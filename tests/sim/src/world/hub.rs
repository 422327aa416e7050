//! The hub of a simulated world: a real log core on a simulated disk, and a real session.

use tideline_protocol::block;
use tideline_protocol::model::{AgentId, Epoch};
use tideline_protocol::session::{AgentState, HubAction, HubSession};
use tideline_protocol::wire::{Message, Settlement};
use tideline_store::{Checkpoint, LogCore, LogError, Replay};

use crate::disk::SimDisk;

/// Segments so small that a run has many.
const SEGMENT_BYTES: u64 = 2_000;

pub struct Hub {
    id: AgentId,
    pub disk: SimDisk,
    log: LogCore<SimDisk>,
    replay: Replay,
    pub session: Option<HubSession>,
    // A failed sync leaves the log closed until it is opened again.
    pub poisoned: bool,
}

fn open(disk: &SimDisk) -> (LogCore<SimDisk>, Replay) {
    let (log, replay) = LogCore::open(disk.clone(), Checkpoint::default())
        .unwrap_or_else(|error| panic!("the log does not open: {error}"));
    (log.with_segment_bytes_max(SEGMENT_BYTES), replay)
}

impl Hub {
    pub fn new(id: AgentId, lies: bool) -> Self {
        let disk = SimDisk::new(lies);
        let (log, replay) = open(&disk);
        Self { id, disk, log, replay, session: None, poisoned: false }
    }

    pub fn restart(&mut self) {
        self.session = None;
        (self.log, self.replay) = open(&self.disk);
        self.poisoned = false;
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

    /// The value of every reading that the log holds, as its own replay gives them.
    pub fn stored_values(&self) -> Result<Vec<u64>, String> {
        let mut values = Vec::new();
        for batch in &self.replay.batches {
            let envelope = &batch.run.envelope;
            let mut decoded =
                block::decode(&batch.run.block, &envelope.rows, envelope.first).map_err(|e| e.to_string())?;
            decoded.retain(envelope.first, &batch.taken);
            values.extend(
                decoded.columns.iter().flat_map(|column| column.values.iter().map(|value| value.to_bits())),
            );
        }
        Ok(values)
    }

    /// False when the agent broke the protocol.
    pub fn receive(&mut self, message: Message) -> bool {
        self.session.as_mut().is_some_and(|session| session.handle_message(0, message).is_ok())
    }

    /// Carries out what the session asks; false when it has ended.
    pub fn drive(&mut self, mut send: impl FnMut(Message)) -> Result<bool, String> {
        let Some(session) = &mut self.session else { return Ok(false) };
        while let Some(action) = session.poll() {
            let done = match action {
                HubAction::Send(message) => {
                    send(message);
                    Ok(())
                }
                HubAction::Open(hello) => {
                    let state = self.log.state(&self.id, hello.epoch);
                    let state = AgentState { settled: state.settled, series_known: state.series_known };
                    session.handle_opened(0, state);
                    Ok(())
                }
                HubAction::DefineSeries(epoch, series) => self
                    .log
                    .define_series(&self.id, epoch, &series)
                    .map(|known| session.handle_series_durable(known)),
                HubAction::Append(batch) => self
                    .log
                    .append(vec![batch])
                    .map(|durable| durable.iter().for_each(|batch| session.handle_durable(batch))),
                HubAction::Recall(epoch) => {
                    session.handle_settled(&self.log.state(&self.id, epoch).settled);
                    Ok(())
                }
                HubAction::RecordGap(epoch, gap) => self
                    .log
                    .record_gap(&self.id, epoch, &gap)
                    .map(|settlement| session.handle_settled(&settlement)),
                HubAction::Report(..) => Ok(()),
                HubAction::Close => return Ok(false),
            };
            match done {
                Ok(()) => {}
                // A message that came out of order: the session ends, the log goes on.
                Err(LogError::Series { .. }) => return Ok(false),
                Err(LogError::Poisoned | LogError::Io { .. }) => {
                    self.poisoned = true;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
