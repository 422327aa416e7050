//! MQTT: what devices publish at a broker.
//!
//! A message is acknowledged to the broker only once its readings are durable, so with QoS 1 and a session that the
//! broker keeps, none is lost while the agent is away; one whose acknowledgement was lost comes twice.
//!
//! What is written to a device is done when the broker has taken it over, as MQTT tells no more, or when the device shows
//! it, as those of Sparkplug do. A device that is known to be offline is not written to, as the message would be lost.

pub mod line;
mod topics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{Publish, QoS};
use tokio::time::{Instant, timeout_at};

use self::line::{BATCH_BYTES_MAX, BATCH_MAX, Broker, Line, Opening};
use super::directory::Message;
use super::sheets::Sheets;
use super::writes::Inbox;
use super::{Context, Device, Source, SourceError, Write};

/// Longest that a message waits for others that are made durable with it: a commit costs flash.
const GATHER: Duration = Duration::from_millis(250);
/// As many are not waited for: some brokers send no more before they are acknowledged.
const UNACKNOWLEDGED: usize = 10;
/// How often one who has something to say of its own is asked for it.
const TURN: Duration = Duration::from_secs(1);

/// What those behind a broker speak: a core without I/O. Times are monotonic, in ns.
pub trait Speech: Send + 'static {
    /// What is to be asked of the broker.
    fn filters(&self) -> Vec<String>;

    /// A connection begins: what was said since the last one is lost, but for what the broker has kept.
    fn begin(&mut self, now_ns: u64);

    /// Adds what a message says.
    fn take(&mut self, now_ns: u64, message: Message<'_>, sheets: &mut Sheets<'_>);

    /// What is to be told, as topics and payloads, after messages and each second; none when nothing ever is.
    fn turn(&mut self, now_ns: u64, sheets: &mut Sheets<'_>) -> Option<Vec<(String, Vec<u8>)>>;

    /// Devices that were not given since the connection began.
    fn news(&mut self) -> Vec<Device> {
        Vec::new()
    }

    /// The message that writes a value; `now_ms` is since 1970.
    ///
    /// # Errors
    /// There is none, or the device cannot get it now.
    fn command(&mut self, write: &Write, now_ms: u64) -> Result<Command, String>;

    /// The message of a write was sent whose end its device is to show: it is kept until then.
    fn sent(&mut self, write: Write) {
        write.unknown("nothing shows whether it is done");
    }
}

/// A message that writes a value.
#[derive(Debug)]
pub struct Command {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// By what it is known to be done.
    pub proof: Proof,
}

/// By what a write is known to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The broker has taken its message over.
    Broker,
    /// The device tells the value; the message itself has no acknowledgement.
    Device,
}

/// What a source of MQTT waits for.
enum Wake {
    Message(Result<Publish, SourceError>),
    Write(Write),
    Turn,
}

/// Reads what those behind a broker publish.
pub struct MqttSource<S> {
    broker: Broker,
    // Outlives an attempt: what a device has said becomes null when it is offline, whatever the connection did meanwhile.
    speech: Arc<Mutex<Result<S, String>>>,
}

impl<S: Speech> MqttSource<S> {
    /// Of a broker; without a speech it fails with the reason.
    #[must_use]
    pub fn new(broker: Broker, speech: Result<S, String>) -> Self {
        Self { broker, speech: Arc::new(Mutex::new(speech)) }
    }

    /// The same for the next attempt.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { broker: self.broker.clone(), speech: Arc::clone(&self.speech) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut S) -> T) -> Result<T, SourceError> {
        // A panic leaves no more behind than a device whose points are not all known.
        let mut speech = self.speech.lock().unwrap_or_else(PoisonError::into_inner);
        speech.as_mut().map(f).map_err(|error| SourceError::failed(&*error))
    }

    /// Takes the first message and those that come soon after it.
    async fn gather(
        &self,
        first: Publish,
        line: &mut Line,
        context: &Context,
        sheets: &mut Sheets<'_>,
    ) -> Result<Vec<Publish>, SourceError> {
        let (mut owed, mut count, mut bytes) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        let deadline = Instant::now() + GATHER;
        while let Some(message) = next.take() {
            let Publish { topic, payload, retain, .. } = &message;
            let read = Message { topic, payload, retained: *retain };
            self.with(|speech| speech.take(context.clock().mono_ns(), read, sheets))?;
            count += 1;
            bytes += payload.len();
            if message.qos != QoS::AtMostOnce {
                owed.push(message);
            }
            if count >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = line.at_hand();
            if next.is_none() && (1..UNACKNOWLEDGED).contains(&owed.len()) {
                // That the connection is lost is told again when these are taken.
                next = context.wait(timeout_at(deadline, line.next())).await?.ok().and_then(Result::ok);
            }
        }
        Ok(owed)
    }

    /// Sends what writes a value.
    fn write(&self, line: &Line, write: Write, now_ns: i64) -> Result<(), SourceError> {
        let now_ms = u64::try_from(now_ns / 1_000_000).unwrap_or_default();
        match self.with(|speech| speech.command(&write, now_ms))? {
            Err(why) => write.not_done(why),
            Ok(Command { topic, payload, proof: Proof::Broker }) => line.write(&topic, payload, write),
            Ok(Command { topic, payload, proof: Proof::Device }) => match line.publish(&topic, payload) {
                Ok(()) => self.with(|speech| speech.sent(write))?,
                Err(why) => write.not_done(why),
            },
        }
        Ok(())
    }

    /// Connects and says what is wanted.
    async fn open(&self, context: &Context) -> Result<Line, SourceError> {
        let filters = self.with(|speech| speech.filters())?;
        let position = context.position().await?.unwrap_or_default();
        let former: Vec<String> = serde_json::from_slice(&position).unwrap_or_default();
        let client_id = format!("tideline-{}-{}", context.own_device().id, context.name());
        let opening = Opening { broker: &self.broker, client_id, filters: &filters, former: &former };
        let line = context.wait(Line::open(opening)).await??;
        if filters != former {
            let position = serde_json::to_vec(&filters).map_err(SourceError::failed)?;
            context.emit_durable(context.readings().at(position)).await?;
        }
        tracing::info!(source = context.name(), broker = %self.broker.url, filters = filters.len(), "subscribed");
        Ok(line)
    }
}

fn serve(speech: &mut impl Speech, writes: &Inbox) {
    speech.news().iter().for_each(|device| writes.serve(device));
}

impl<S: Speech> Source for MqttSource<S> {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let mut line = self.open(context).await?;
        let mut writes = context.writes();
        self.with(|speech| speech.begin(context.clock().mono_ns()))?;
        self.with(|speech| serve(speech, &writes))?;
        loop {
            let mut sheets = Sheets::new(context);
            let said = self.with(|speech| speech.turn(context.clock().mono_ns(), &mut sheets))?;
            for (topic, payload) in said.iter().flatten() {
                line.publish(topic, payload.clone())?;
            }
            let wait = async {
                tokio::select! {
                    first = line.next() => Wake::Message(first),
                    write = writes.next() => Wake::Write(write),
                    () = tokio::time::sleep(TURN), if said.is_some() => Wake::Turn,
                }
            };
            let first = match context.wait(wait).await? {
                Wake::Message(first) => Some(first?),
                Wake::Write(write) => {
                    self.write(&line, write, context.clock().wall_ns())?;
                    None
                }
                Wake::Turn => None,
            };
            let owed = match first {
                Some(first) => self.gather(first, &mut line, context, &mut sheets).await?,
                None => Vec::new(),
            };
            // Whoever sees a reading of a device can write to it.
            self.with(|speech| serve(speech, &writes))?;
            sheets.hand_on(context, !owed.is_empty()).await?;
            for message in owed {
                context.wait(line.acknowledge(&message)).await??;
            }
        }
    }
}
