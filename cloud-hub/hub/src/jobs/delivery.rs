//! A job's results on their way into the store, each once.
//!
//! They are saved with the state that gave them before the first of them is stored, and under seqs that are fixed
//! then. So whatever is cut off, the same batches are appended again, and those that the store has are left out.

use std::collections::HashSet;

use tideline_formats::Column;
use tideline_protocol::model::{AgentId, DeviceId, Epoch, SERIES_PER_EPOCH_MAX, Sample, Seq};
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_store::StoreError;

use super::saved::{Derived, Outbox};
use crate::hub::{App, Hub};
use crate::metadata::{Changes, DeviceRecord, MetadataError};
use crate::registry::DEVICES_MAX;
use crate::writes::{WriteError, Writer};

/// Why a job does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It may be over soon: it is tried again.
    Passing(String),
    /// It will not be over by itself.
    Lasting(String),
    /// The hub is closing.
    Closing,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closing,
            error => Self::Passing(error.to_string()),
        }
    }
}

impl From<MetadataError> for Trouble {
    fn from(error: MetadataError) -> Self {
        Self::Passing(error.to_string())
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            WriteError::Limit(_) => Self::Lasting(format!(
                "its results are of more than {SERIES_PER_EPOCH_MAX} series, which is the limit of a job"
            )),
            error => Self::Passing(error.to_string()),
        }
    }
}

/// The writer of a job's series.
#[derive(Debug)]
pub struct Delivery {
    agent: AgentId,
    // None before it is needed, and after an error.
    writer: Option<Writer>,
    registered: HashSet<DeviceId>,
    /// What was saved last and may not be in the store.
    pub outbox: Option<Outbox>,
}

impl Delivery {
    /// Goes on with what was saved.
    pub fn new(agent: AgentId, outbox: Option<Outbox>) -> Self {
        Self { agent, writer: None, registered: HashSet::new(), outbox }
    }

    /// Who writes.
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The epoch and the seq of the next batch.
    ///
    /// # Errors
    /// The writer cannot be opened.
    pub async fn place(&mut self, hub: &App) -> Result<(Epoch, Seq), Trouble> {
        Ok(self.writer(hub).await?.place())
    }

    async fn writer(&mut self, hub: &App) -> Result<&mut Writer, Trouble> {
        let open = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::open(hub, &self.agent).await?,
        };
        Ok(self.writer.insert(open))
    }

    /// Whether what was saved last can be stored as it is. When the writer has begun another epoch since, it cannot:
    /// what is left of it is addressed anew, and is to be saved before it is stored.
    ///
    /// # Errors
    /// The writer cannot be opened.
    pub async fn readdress(&mut self, hub: &App) -> Result<bool, Trouble> {
        let Some(mut outbox) = self.outbox.take() else { return Ok(true) };
        let place = match self.writer(hub).await {
            Ok(writer) => writer.place(),
            Err(trouble) => {
                self.outbox = Some(outbox);
                return Err(trouble);
            }
        };
        let same = outbox.epoch == place.0;
        if !same {
            let there = hub.store.agent_state(&self.agent, outbox.epoch).settled.all();
            let seqs = outbox.first.get()..;
            let left = seqs.zip(outbox.chunks).filter(|(seq, _)| !there.contains(*seq));
            outbox =
                Outbox { epoch: place.0, first: place.1, chunks: left.map(|(_, chunk)| chunk).collect() };
        }
        self.outbox = Some(outbox);
        Ok(same)
    }

    /// Stores what was saved last and is not stored yet; returns when it is durable.
    ///
    /// # Errors
    /// Some of it may not be stored.
    pub async fn deliver(&mut self, hub: &App) -> Result<(), Trouble> {
        let Some(outbox) = self.outbox.take() else { return Ok(()) };
        match self.store(hub, &outbox).await {
            Ok(()) => Ok(()),
            Err(trouble) => {
                // After an error the writer is of no more use.
                self.writer = None;
                self.outbox = Some(outbox);
                Err(trouble)
            }
        }
    }

    async fn store(&mut self, hub: &App, outbox: &Outbox) -> Result<(), Trouble> {
        self.register(hub, outbox).await?;
        let writer = self.writer(hub).await?;
        for (chunk, seq) in outbox.chunks.iter().zip(outbox.first.get()..) {
            let next = writer.place().1;
            if Seq::new(seq) < next {
                continue;
            }
            writer.write(hub, chunk.iter().map(column).collect()).await?;
        }
        Ok(())
    }

    /// Registers the devices of the results that are not registered, behind the job.
    async fn register(&mut self, hub: &App, outbox: &Outbox) -> Result<(), Trouble> {
        let all = outbox.chunks.iter().flatten().map(|derived| &derived.device);
        let new: HashSet<DeviceId> =
            all.filter(|device| !self.registered.contains(*device)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let (agent, devices) = (self.agent.clone(), new.clone());
        hub.blocking(move |hub| register(hub, &agent, &devices)).await?;
        self.registered.extend(new);
        Ok(())
    }
}

fn column(derived: &Derived) -> Column {
    let mut boxes = Boxes::new();
    // What is no number takes back what stands at its time.
    let mut word = |value: f64| {
        if value.is_nan() { boxes.word(Value::Null, Quality::Good) } else { value }
    };
    let samples: Vec<Sample> = derived
        .times
        .iter()
        .zip(&derived.values)
        .map(|(time_ns, value)| Sample { time_ns: *time_ns, value: word(*value) })
        .collect();
    Column {
        device: derived.device.clone(),
        point: derived.point.clone(),
        kind: ValueKind::Float,
        boxes,
        samples,
    }
}

/// The job itself stands in the registry as soon as it has results, as the writers of tokens do.
fn register(hub: &Hub, agent: &AgentId, devices: &HashSet<DeviceId>) -> Result<(), Refused> {
    let record = DeviceRecord::behind(agent.to_string(), hub.now_ms());
    let known = hub.metadata.count::<DeviceRecord>()?;
    hub.metadata.change(|changes: &mut Changes| {
        let mut made = 0_u64;
        for id in devices.iter().map(DeviceId::as_str).chain([agent.as_str()]) {
            if changes.find::<DeviceRecord>(id)?.is_none() {
                made = made.saturating_add(1);
                changes.put(id, &record)?;
            }
        }
        if made > 0 && known.saturating_add(made) > DEVICES_MAX {
            return Err(Refused::Full);
        }
        Ok(())
    })
}

enum Refused {
    Failed(MetadataError),
    Full,
}

impl From<MetadataError> for Refused {
    fn from(error: MetadataError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failed(error) => error.into(),
            Refused::Full => Self::Lasting(format!(
                "its results are of devices that are not registered, and {DEVICES_MAX} are, which is the limit"
            )),
        }
    }
}
