//! A connection to a broker. It is made for one attempt: after any trouble the client is dropped with all that it
//! remembers, because it is known to wedge once a broker has lost the session.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tideline_link::mqtt::BrokerUrl;
use tideline_link::tls::broker_client_config;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::clock::AgentClock;
use crate::files;
use crate::floor::floored;
use crate::source::{SourceError, Write};

/// Longest packet that is taken: the longest payload that a mapping reads, its topic and its header.
const PACKET_BYTES_MAX: usize = tideline_profiles::json::PAYLOAD_BYTES_MAX + 64 * 1024;
/// How often a silent connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest wait until the broker lets this end in and knows what it wants.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// Most messages between the connection and its source (INV-6); when it is full nothing is read from the broker.
const INBOX_MAX: usize = 512;
/// Most bytes of them, whose payloads may each be long: the agent has little memory.
const INBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most messages that a source takes before it acknowledges them.
pub const BATCH_MAX: usize = 512;
/// Bytes of them beyond which it takes no more.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most requests, acknowledgements among them, that wait for the connection (INV-6).
const REQUESTS_MAX: usize = 1024;
/// Most messages that may come before the broker has answered: retained ones of many filters.
const EARLY_MAX: usize = 16_384;
/// Most bytes of them.
const EARLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most filters in one packet: all together may be longer than a packet that the broker takes.
const FILTERS_MAX: usize = 64;

/// Most writes that the broker has not taken over (INV-6).
const WRITES_MAX: usize = 64;

/// A broker, and how this end speaks to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Where it is.
    pub url: BrokerUrl,
    /// The file with the authorities that its certificate may be of.
    pub ca_file: Option<PathBuf>,
    /// The name of this end's session; made of device and source when it is empty.
    pub client_id: String,
    /// Whether the broker keeps messages while this end is away.
    pub keeps_session: bool,
}

/// What a connection is opened with.
pub struct Opening<'o> {
    /// The broker.
    pub broker: &'o Broker,
    /// The name of the session where the broker's has none.
    pub client_id: String,
    /// What is wanted.
    pub filters: &'o [String],
    /// What an earlier session wanted.
    pub former: &'o [String],
}

/// Writes that are on their way to the broker, in their order. Those that are left when the connection is lost are
/// dropped: nobody knows whether it has them.
type Sent = Arc<Mutex<VecDeque<Write>>>;

/// A message, and the room that it takes in the inbox.
struct Came {
    message: Publish,
    _room: OwnedSemaphorePermit,
}

/// An open connection.
pub struct Line {
    client: AsyncClient,
    inbox: mpsc::Receiver<Came>,
    // Taken out of the inbox to make room.
    spilled: VecDeque<Publish>,
    writes: Sent,
    pump: JoinHandle<String>,
    // Why it did.
    ended: Option<String>,
    name: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Line {
    /// Connects, and says what is wanted unless the broker knows that already.
    ///
    /// # Errors
    /// The broker is not reached, or refuses.
    pub async fn open(opening: Opening<'_>) -> Result<Self, SourceError> {
        let name = format!("broker {}", opening.broker.url);
        let failed = |error: &dyn std::fmt::Display| SourceError::failed(format!("{name}: {error}"));
        let (client, mut events) = AsyncClient::new(options(&opening)?, REQUESTS_MAX);
        events.network_options.set_connection_timeout(OPEN_MAX.as_secs()).set_tcp_nodelay(true);
        let opened = tokio::time::timeout(OPEN_MAX, begin(&client, &mut events, &opening)).await;
        let early = opened.map_err(|_| failed(&"no answer in time"))?.map_err(|error| failed(&error))?;
        let (out, inbox) = mpsc::channel(INBOX_MAX);
        let writes = Sent::default();
        let pump = tokio::spawn(pump(events, early, out, writes.clone()));
        Ok(Self { client, inbox, spilled: VecDeque::new(), writes, pump, ended: None, name })
    }

    /// The next message. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn next(&mut self) -> Result<Publish, SourceError> {
        if let Some(message) = self.spilled.pop_front() {
            return Ok(message);
        }
        if let Some(came) = self.inbox.recv().await {
            return Ok(came.message);
        }
        if self.ended.is_none() {
            self.ended = Some((&mut self.pump).await.unwrap_or_else(|error| error.to_string()));
        }
        let reason = self.ended.as_deref().unwrap_or_default();
        Err(SourceError::failed(format!("{}: {reason}", self.name)))
    }

    /// A message that has come already.
    pub fn at_hand(&mut self) -> Option<Publish> {
        self.spilled.pop_front().or_else(|| self.inbox.try_recv().ok().map(|came| came.message))
    }

    /// Tells the broker that a message need not be sent again.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn acknowledge(&mut self, message: &Publish) -> Result<(), SourceError> {
        loop {
            // While the connection waits for room in the inbox it takes no acknowledgement.
            tokio::select! {
                biased;
                sent = self.client.ack(message) => {
                    return sent.map_err(|error| SourceError::failed(format!("{}: {error}", self.name)));
                }
                Some(came) = self.inbox.recv() => self.spilled.push_back(came.message),
            }
        }
    }

    /// Publishes what is written to a device; done when the broker has taken it over.
    pub fn write(&self, topic: &str, payload: Vec<u8>, write: Write) {
        // Locked until the message stands in its place among the others.
        let mut sent = lock(&self.writes);
        if sent.len() >= WRITES_MAX {
            return write.not_done(format!("{}: {WRITES_MAX} are on their way already", self.name));
        }
        match self.client.try_publish(topic, QoS::AtLeastOnce, false, payload) {
            Ok(()) => sent.push_back(write),
            Err(error) => write.not_done(format!("{}: {error}", self.name)),
        }
    }

    /// Publishes a message, with nothing to show that it arrived.
    ///
    /// # Errors
    /// The connection is lost, or so slow that there is no room.
    pub fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), SourceError> {
        let published = self.client.try_publish(topic, QoS::AtMostOnce, false, payload);
        published.map_err(|error| SourceError::failed(format!("{}: {error}", self.name)))
    }
}

fn options(opening: &Opening<'_>) -> Result<MqttOptions, SourceError> {
    let broker = opening.broker;
    let id = if broker.client_id.is_empty() { &opening.client_id } else { &broker.client_id };
    let mut options = MqttOptions::new(id, broker.url.host(), broker.url.port());
    options
        .set_clean_session(!broker.keeps_session)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some((user, password)) = broker.url.login() {
        options.set_credentials(user, password);
    }
    if broker.url.is_secure() {
        let path = broker.ca_file.as_deref().unwrap_or(Path::new(""));
        let at = |error: &dyn std::fmt::Display| {
            SourceError::failed(format!("source.ca_file = {}: {error}", path.display()))
        };
        let pem = files::text(path).map_err(|error| at(&error))?;
        let floor = floored(Arc::new(AgentClock::default()), 0);
        let tls = Arc::new(broker_client_config(&pem, floor).map_err(|error| at(&error))?);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    Ok(options)
}

/// Begins a session; gives the messages that came before the broker answered.
async fn begin(
    client: &AsyncClient,
    events: &mut EventLoop,
    opening: &Opening<'_>,
) -> Result<Vec<Publish>, String> {
    let mut early = Vec::new();
    let known = wait_for(events, &mut early, |packet| match packet {
        Packet::ConnAck(ack) => Some(ack.session_present),
        _ => None,
    })
    .await?;
    // A session keeps its subscriptions; to subscribe again would have all retained messages come again.
    if known && opening.filters == opening.former {
        return Ok(early);
    }
    let gone = |error: rumqttc::ClientError| error.to_string();
    for filter in opening.former.iter().filter(|filter| known && !opening.filters.contains(filter)) {
        client.unsubscribe(filter).await.map_err(gone)?;
        wait_for(events, &mut early, |packet| matches!(packet, Packet::UnsubAck(_)).then_some(())).await?;
    }
    for filters in opening.filters.chunks(FILTERS_MAX) {
        let wanted = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        client.subscribe_many(wanted).await.map_err(gone)?;
        let codes = wait_for(events, &mut early, |packet| match packet {
            Packet::SubAck(ack) => Some(ack.return_codes.clone()),
            _ => None,
        });
        let codes = codes.await?;
        let refused = |(_, code): &(&String, &SubscribeReasonCode)| **code == SubscribeReasonCode::Failure;
        if let Some((filter, _)) = filters.iter().zip(&codes).find(refused) {
            return Err(format!("it does not let this end read {filter}"));
        }
    }
    Ok(early)
}

async fn wait_for<T>(
    events: &mut EventLoop,
    early: &mut Vec<Publish>,
    wanted: impl Fn(&Packet) -> Option<T>,
) -> Result<T, String> {
    let mut bytes: usize = early.iter().map(|message| message.payload.len()).sum();
    loop {
        match events.poll().await.map_err(|error| error.to_string())? {
            // Retained messages of one filter come while the next is asked for.
            Event::Incoming(Packet::Publish(message)) => {
                bytes = bytes.saturating_add(message.payload.len());
                if early.len() >= EARLY_MAX || bytes > EARLY_BYTES_MAX {
                    return Err(format!(
                        "it sends more than {EARLY_MAX} messages or {EARLY_BYTES_MAX} bytes before it answers"
                    ));
                }
                early.push(message);
            }
            Event::Incoming(packet) => {
                if let Some(found) = wanted(&packet) {
                    return Ok(found);
                }
            }
            Event::Outgoing(_) => {}
        }
    }
}

fn lock(sent: &Sent) -> MutexGuard<'_, VecDeque<Write>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands a message on when there is room for it; false when nobody takes it.
async fn hand(out: &mpsc::Sender<Came>, room: &Arc<Semaphore>, message: Publish) -> bool {
    // A packet is no longer than a small part of the room.
    let bytes = u32::try_from(message.payload.len() + message.topic.len()).unwrap_or(u32::MAX);
    let Ok(room) = Arc::clone(room).acquire_many_owned(bytes).await else { return false };
    out.send(Came { message, _room: room }).await.is_ok()
}

/// Hands messages on until the connection is lost; gives why.
async fn pump(mut events: EventLoop, early: Vec<Publish>, out: mpsc::Sender<Came>, sent: Sent) -> String {
    let room = Arc::new(Semaphore::new(INBOX_BYTES_MAX));
    for message in early {
        if !hand(&out, &room, message).await {
            return "closed".to_owned();
        }
    }
    // By the number of its packet.
    let mut owed: HashMap<u16, Write> = HashMap::new();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(message))) => {
                if !hand(&out, &room, message).await {
                    return "closed".to_owned();
                }
            }
            // With QoS 1 nothing but writes is published, and without it packets have no number.
            Ok(Event::Outgoing(Outgoing::Publish(number @ 1..))) => {
                owed.extend(lock(&sent).pop_front().map(|write| (number, write)));
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                owed.remove(&ack.pkid).into_iter().for_each(Write::done);
            }
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}
