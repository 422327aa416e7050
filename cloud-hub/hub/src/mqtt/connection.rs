//! One client's connection: who it is, what it may do, and the link of its session.
//!
//! Reading and writing go on beside each other: a client that reads nothing can still be read, and the
//! other way round. What either does to the protocol's state it does under one lock, without waiting.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tideline_link::link::line::{self, Arrivals, Control, Departures, Line, Outgoing, Peer, Proof};
use tideline_link::link::{CLOSE_DONE, Link, LinkError, Transport};
use tideline_link::mqtt::{PIECE_BYTES_MAX, down, prefix, up};
use tideline_protocol::model::AgentId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::access::{self, Client};
use super::speech::{Broken, Fault, Heard, Speech};
use crate::hub::App;
use crate::places::{Place, Places};

/// Longest wait for the first packet.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a client that does not read; as long as a session waits.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to close its end after the hub has closed its own.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// Most bytes read at a time.
const READ_BYTES_MAX: usize = 16 * 1024;
/// Most answers and pieces of frames that wait for the writer.
const WRITES_MAX: usize = 16;
/// Most subscriptions of a client; it has one use for one.
const FILTERS_MAX: usize = 16;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client left.
    #[error("the client left")]
    Left,
    /// It was refused, or may not go on.
    #[error("{}", .0.reason())]
    Refused(Fault),
    /// It broke the protocol or a limit.
    #[error("the client broke the protocol: {0}")]
    Protocol(Broken),
    /// It was silent for longer than it may be.
    #[error("silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// It does not read.
    #[error("it has not read for {} s", WRITE_MAX.as_secs())]
    Unread,
    /// The line broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The session ended.
    #[error("its session ended")]
    Session,
}

impl Ended {
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused(fault) => Some(fault.clone()),
            Self::Session => Some(Fault::Administrative("the session ended".to_owned())),
            _ => None,
        }
    }
}

/// Who was let in. The key belongs to it: who has an older key of a device takes no place of the newer.
type Party = (AgentId, Option<[u8; 32]>);

/// The connections of each client that was let in.
pub type Clients = Arc<Places<Party>>;

/// What a connection comes in with.
pub struct Entry {
    /// From where.
    pub remote: SocketAddr,
    /// Its place among those that have not said who they are, given back when it has.
    pub stranger: Place<IpAddr>,
    /// Where it has a place from then on.
    pub clients: Clients,
}

/// Serves a client to its end. `certified` is who its certificate says it is; links go to `links`.
///
/// # Errors
/// Always: why it ended.
pub async fn serve<S: AsyncRead + AsyncWrite>(
    hub: &App,
    stream: S,
    entry: Entry,
    certified: Option<Peer>,
    links: &mpsc::Sender<Link>,
) -> Ended {
    let Entry { remote, stranger, clients } = entry;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let speech = Mutex::new(Speech::new());
    let begun = greet(hub, &speech, &mut reader, remote, certified, &clients);
    let greeted = tokio::time::timeout(CONNECT_MAX, begun).await;
    let greeted = greeted.unwrap_or(Err(Ended::Silent(CONNECT_MAX)));
    let answers = locked(&speech, Speech::answers);
    let written = write(&mut writer, &answers).await;
    let let_in = greeted.is_ok();
    // Who was refused stays a stranger until it is gone.
    let _stranger = (!let_in).then_some(stranger);
    let ended = match (greeted, written) {
        (Ok(greeted), Ok(())) => live(hub, &speech, &mut reader, &mut writer, remote, greeted, links).await,
        (Err(ended), _) | (Ok(_), Err(ended)) => ended,
    };
    let last = locked(&speech, |speech| {
        // Who was not let in has had its answer.
        if let Some(fault) = ended.fault().filter(|_| let_in) {
            speech.end(&fault);
        }
        speech.answers()
    });
    farewell(&mut reader, &mut writer, &last).await;
    ended
}

fn locked<T>(speech: &Mutex<Speech>, work: impl FnOnce(&mut Speech) -> T) -> T {
    work(&mut speech.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A client that was let in.
struct Greeted {
    client: Client,
    silence_max: Duration,
    // What came with the connect.
    heard: Vec<Heard>,
    place: Place<Party>,
}

async fn greet<S: AsyncRead>(
    hub: &App,
    speech: &Mutex<Speech>,
    reader: &mut ReadHalf<S>,
    remote: SocketAddr,
    certified: Option<Peer>,
    clients: &Clients,
) -> Result<Greeted, Ended> {
    let mut heard = Vec::new();
    while heard.is_empty() {
        heard = read(speech, reader).await?;
    }
    let rest = heard.split_off(1);
    // The protocol's state takes nothing else for the first packet.
    let Some(Heard::Connect { user, password, keep_alive_s }) = heard.pop() else {
        return Err(Ended::Protocol(Broken::out_of_turn()));
    };
    let admitted = access::admit(hub, certified, user.as_deref(), password.as_deref(), remote);
    let seated = admitted.and_then(|client| {
        let Peer { agent, proof } = &client.peer;
        let key = if let Proof::Certificate(shown) = proof { Some(shown.key_sha256) } else { None };
        let place = clients.take(Some((agent.clone(), key))).map_err(|_| {
            Fault::Quota(format!("device {agent} has as many connections as a client may have"))
        })?;
        Ok((client, place))
    });
    match seated {
        Ok((client, place)) => {
            locked(speech, |speech| speech.accept(keep_alive_s));
            // As MQTT says, one and a half times.
            let silence_max = Duration::from_secs(u64::from(keep_alive_s) * 3 / 2);
            Ok(Greeted { client, silence_max, heard: rest, place })
        }
        Err(fault) => {
            locked(speech, |speech| speech.refuse(&fault));
            Err(Ended::Refused(fault))
        }
    }
}

async fn read<S: AsyncRead>(speech: &Mutex<Speech>, reader: &mut ReadHalf<S>) -> Result<Vec<Heard>, Ended> {
    let mut buffer = vec![0_u8; READ_BYTES_MAX];
    let count = reader.read(&mut buffer).await?;
    let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty()).ok_or(Ended::Left)?;
    locked(speech, |speech| speech.hear(bytes)).map_err(Ended::Protocol)
}

async fn write<S: AsyncWrite>(writer: &mut WriteHalf<S>, bytes: &[u8]) -> Result<(), Ended> {
    if bytes.is_empty() {
        return Ok(());
    }
    let writing = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    Ok(tokio::time::timeout(WRITE_MAX, writing).await.map_err(|_| Ended::Unread)??)
}

/// Ends the hub's direction, and lets the client end its own: a socket that is dropped with unread
/// bytes takes back what it has just sent.
async fn farewell<S: AsyncRead + AsyncWrite>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    last: &[u8],
) {
    let goodbye = async {
        writer.write_all(last).await?;
        writer.shutdown().await?;
        let mut buffer = vec![0_u8; READ_BYTES_MAX];
        while reader.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    let _late = tokio::time::timeout(FAREWELL_MAX, goodbye).await;
}

/// Where the pieces of frames go, once there is a session.
enum Session {
    None,
    Open { arrivals: Arrivals, control: Control },
}

/// What the reading side of a connection works with.
struct Desk<'a> {
    speech: &'a Mutex<Speech>,
    client: Client,
    remote: SocketAddr,
    links: &'a mpsc::Sender<Link>,
    writes: mpsc::Sender<Bytes>,
    // Takes the other half of a session's line to who writes.
    departures: mpsc::Sender<(Departures, Control)>,
    filters: Vec<String>,
    // Whether one of them matches what the session sends.
    reads: &'a AtomicBool,
    session: Session,
}

async fn live<S: AsyncRead + AsyncWrite>(
    hub: &App,
    speech: &Mutex<Speech>,
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    remote: SocketAddr,
    greeted: Greeted,
    links: &mpsc::Sender<Link>,
) -> Ended {
    let (writes, written) = mpsc::channel(WRITES_MAX);
    let (departures, departing) = mpsc::channel(1);
    let (topic, reads) = (down(&greeted.client.peer.agent), AtomicBool::new(false));
    let (client, _place) = (greeted.client.clone(), greeted.place);
    let mut desk = Desk {
        speech,
        client: greeted.client,
        remote,
        links,
        writes: writes.clone(),
        departures,
        filters: Vec::new(),
        reads: &reads,
        session: Session::None,
    };
    let reading = async {
        let worked = desk.work(reader, greeted.heard, greeted.silence_max).await;
        worked.err().unwrap_or(Ended::Left)
    };
    let mut drain = std::pin::pin!(drain(writer, written));
    let ended = tokio::select! {
        ended = reading => ended,
        ended = &mut drain => ended,
        ended = depart(speech, departing, &topic, &reads, &writes) => ended,
        ended = watch(hub, &client) => ended,
    };
    if let Session::Open { control, .. } = &desk.session {
        control.end(match &ended {
            Ended::Session => LinkError::Closed,
            other => LinkError::Lost { reason: other.to_string() },
        });
    }
    drop((desk, writes));
    if !matches!(ended, Ended::Unread | Ended::Io(_) | Ended::Left) {
        // The last frames of a session are often why it ends.
        let _late = tokio::time::timeout(FAREWELL_MAX, drain).await;
    }
    ended
}

impl Desk<'_> {
    async fn work<S: AsyncRead>(
        &mut self,
        reader: &mut ReadHalf<S>,
        mut heard: Vec<Heard>,
        silence_max: Duration,
    ) -> Result<(), Ended> {
        loop {
            for said in heard.drain(..) {
                if matches!(said, Heard::Disconnect) {
                    return Ok(());
                }
                self.take(said).await?;
                self.answer().await?;
            }
            // Of a ping nothing is heard but its answer.
            self.answer().await?;
            let more = tokio::time::timeout(silence_max, read(self.speech, reader)).await;
            heard = more.map_err(|_| Ended::Silent(silence_max))??;
        }
    }

    async fn answer(&self) -> Result<(), Ended> {
        let answers = locked(self.speech, Speech::answers);
        if answers.is_empty() {
            return Ok(());
        }
        self.writes.send(answers).await.map_err(|_| Ended::Unread)
    }

    async fn take(&mut self, said: Heard) -> Result<(), Ended> {
        match said {
            Heard::Publish { topic, payload, id } => match self.publish(&topic, payload).await {
                Ok(()) => {
                    if let Some(id) = id {
                        locked(self.speech, |speech| speech.taken(id));
                    }
                    Ok(())
                }
                Err(Ended::Refused(fault)) => {
                    tracing::debug!(agent = %self.client.peer.agent, remote = %self.remote, topic, reason = fault.reason(), "publish refused");
                    let told = locked(self.speech, |speech| speech.not_taken(id, &fault));
                    if told { Ok(()) } else { Err(Ended::Refused(fault)) }
                }
                Err(ended) => Err(ended),
            },
            Heard::Subscribe { id, filters } => {
                let granted: Vec<bool> = filters.iter().map(|filter| self.subscribe(filter)).collect();
                locked(self.speech, |speech| speech.subscribed(id, &granted));
                Ok(())
            }
            Heard::Unsubscribe { id, filters } => {
                self.filters.retain(|own| !filters.contains(own));
                self.note_filters();
                locked(self.speech, |speech| speech.unsubscribed(id, filters.len()));
                Ok(())
            }
            Heard::Connect { .. } => Err(Ended::Protocol(Broken::out_of_turn())),
            Heard::Disconnect => Err(Ended::Left),
        }
    }

    fn subscribe(&mut self, filter: &str) -> bool {
        let known = self.filters.iter().any(|own| own == filter);
        let room = known || self.filters.len() < FILTERS_MAX;
        let granted = room && access::may_read(&self.client.peer.agent, filter);
        if granted && !known {
            self.filters.push(filter.to_owned());
            self.note_filters();
        }
        granted
    }

    fn note_filters(&self) {
        let agent = &self.client.peer.agent;
        let topic = down(agent);
        let reads = self.filters.iter().any(|filter| access::matches(agent, filter, &topic));
        self.reads.store(reads, Ordering::Relaxed);
    }

    async fn publish(&mut self, topic: &str, payload: Bytes) -> Result<(), Ended> {
        let agent = &self.client.peer.agent;
        let own = prefix(agent);
        if !topic.starts_with(&own) {
            let reason = format!("device {agent} may publish below {own} only");
            return Err(Ended::Refused(Fault::NotAuthorized(reason)));
        }
        if topic != up(agent) {
            let reason = format!("nothing takes this topic; frames of a session go to {}", up(agent));
            return Err(Ended::Refused(Fault::TopicUnknown(reason)));
        }
        if matches!(self.session, Session::None) {
            self.open().await?;
        }
        let Session::Open { arrivals, control } = &self.session else { return Ok(()) };
        control.count(0, payload.len());
        if payload.is_empty() {
            return Ok(());
        }
        arrivals.deliver(payload).await.map_err(|_| Ended::Session)
    }

    /// Begins the session with its first piece.
    async fn open(&mut self) -> Result<(), Ended> {
        let (link, line) = line::link(Transport::Mqtt, self.remote, Some(self.client.peer.clone()));
        let Line { departures, arrivals, control } = line;
        if self.links.try_send(link).is_err() {
            return Err(Ended::Refused(Fault::Quota("the hub takes no more sessions now".to_owned())));
        }
        // There is one session and so one place, which is free.
        let _gone = self.departures.send((departures, control.clone())).await;
        self.session = Session::Open { arrivals, control };
        Ok(())
    }
}

/// Writes what is to be written, in its order.
async fn drain<S: AsyncWrite>(writer: &mut WriteHalf<S>, mut writes: mpsc::Receiver<Bytes>) -> Ended {
    while let Some(bytes) = writes.recv().await {
        if let Err(ended) = write(writer, &bytes).await {
            return ended;
        }
    }
    Ended::Left
}

/// Publishes what the session sends, until the session ends.
async fn depart(
    speech: &Mutex<Speech>,
    mut departing: mpsc::Receiver<(Departures, Control)>,
    topic: &str,
    reads: &AtomicBool,
    writes: &mpsc::Sender<Bytes>,
) -> Ended {
    let Some((mut departures, control)) = departing.recv().await else { return std::future::pending().await };
    let mut closing = std::pin::pin!(departures.watch_closing());
    loop {
        let outgoing = tokio::select! {
            biased;
            outgoing = departures.next() => outgoing,
            closing = &mut closing => {
                return if closing.code == CLOSE_DONE {
                    Ended::Session
                } else {
                    Ended::Refused(Fault::Administrative(closing.reason))
                };
            }
        };
        match outgoing {
            // As with any publish that nobody has subscribed to.
            Some(Outgoing::Frame(_)) if !reads.load(Ordering::Relaxed) => {}
            Some(Outgoing::Frame(frame)) => {
                let mut frame = frame;
                while !frame.is_empty() {
                    let piece = frame.split_to(frame.len().min(PIECE_BYTES_MAX));
                    let bytes = locked(speech, |speech| {
                        speech.publish(topic, piece);
                        speech.answers()
                    });
                    control.count(bytes.len(), 0);
                    if writes.send(bytes).await.is_err() {
                        return Ended::Left;
                    }
                }
            }
            // What is before it in the channel is written before the connection is closed, and the
            // client reads it unless its line breaks; more than that QoS 0 does not tell.
            Some(Outgoing::Finish(answer)) => {
                let room = writes.reserve_many(WRITES_MAX).await;
                let _gone = answer.send(());
                drop(room);
            }
            None => return Ended::Session,
        }
    }
}

/// Ends a connection when the hub stops, or when its client may no longer be here.
async fn watch(hub: &App, client: &Client) -> Ended {
    let mut signed_out = hub.signed_out.subscribe();
    loop {
        tokio::select! {
            () = hub.stopped() => {
                // A session says goodbye itself before.
                tokio::time::sleep(FAREWELL_MAX * 2).await;
                return Ended::Refused(Fault::Stopping);
            }
            changed = signed_out.changed() => {
                if changed.is_err() {
                    return Ended::Refused(Fault::Stopping);
                }
                if let Err(fault) = access::still_good(hub, client) {
                    return Ended::Refused(fault);
                }
            }
        }
    }
}
