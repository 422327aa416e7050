//! A link to the hub's own MQTT endpoint: the payloads are the stream of frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing as Sent, Packet, QoS};
use tideline_protocol::model::AgentId;
use tokio::sync::{mpsc, watch};

use super::client::{Connected, link_error, open, publish};
use super::{PIECE_BYTES_MAX, Server, down, up};
use crate::link::line::{self, Arrivals, Control, Departures, Line, Outgoing};
use crate::link::{Link, Transport};
use crate::quic::{LinkError, WINDOW_BYTES_MAX};

/// Most bytes that have arrived and were not read: as with QUIC. They wait here, because a client that
/// waits for its reader cannot send either.
const UNREAD_BYTES_MAX: usize = WINDOW_BYTES_MAX as usize;
/// How long the goodbye may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Connects to the hub's endpoint as `agent`.
///
/// # Errors
/// Nobody answers within `timeout`, the hub refuses, or its certificate is not accepted.
pub async fn connect(server: &Server, agent: &AgentId, timeout: Duration) -> Result<Link, LinkError> {
    let connected = open(server, &down(agent), timeout).await?;
    let (link, line) = line::link(Transport::Mqtt, connected.remote, None);
    tokio::spawn(drive(connected, line, agent.clone()));
    Ok(link)
}

/// Runs until either end closes the link.
async fn drive(connected: Connected, line: Line, agent: AgentId) {
    let Connected { client, mut events, remote: _ } = connected;
    let Line { departures, arrivals, control } = line;
    let closing = departures.watch_closing();
    let (unread, pieces) = mpsc::unbounded_channel();
    let (acknowledged, acks) = watch::channel(0_u64);
    let inbox = Inbox { unread, waiting: Arc::default() };
    let mut hand_over = std::pin::pin!(hand_over(pieces, arrivals, Arc::clone(&inbox.waiting)));
    let ended = tokio::select! {
        ended = pump(&mut events, inbox, acknowledged, &control) => ended,
        ended = feed(&client, departures, acks, up(&agent), &control) => ended,
        () = &mut hand_over => LinkError::Closed,
        _ = closing => LinkError::Closed,
    };
    if ended == LinkError::Closed {
        farewell(&client, &mut events).await;
    }
    control.end(ended.clone());
    if ended != LinkError::Closed {
        // What has arrived before the end is read before it.
        hand_over.await;
    }
}

/// Says goodbye, so that the server need not find out. After it the client is of no more use.
async fn farewell(client: &AsyncClient, events: &mut EventLoop) {
    let _full = client.try_disconnect();
    let goodbye =
        async { while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(Sent::Disconnect))) {} };
    let _late = tokio::time::timeout(FAREWELL_MAX, goodbye).await;
}

/// What has arrived and was not read.
struct Inbox {
    unread: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Inbox {
    fn take(&self, piece: Bytes) -> Result<(), LinkError> {
        let waiting = self.waiting.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        if waiting > UNREAD_BYTES_MAX {
            let reason = format!("the peer has sent more than {UNREAD_BYTES_MAX} bytes that nobody reads");
            return Err(LinkError::Lost { reason });
        }
        self.unread.send(piece).map_err(|_| LinkError::Closed)
    }
}

async fn hand_over(
    mut pieces: mpsc::UnboundedReceiver<Bytes>,
    arrivals: Arrivals,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(piece) = pieces.recv().await {
        let len = piece.len();
        if arrivals.deliver(piece).await.is_err() {
            return;
        }
        waiting.fetch_sub(len, Ordering::Relaxed);
    }
}

/// Moves the client on and sorts what comes; it must never wait for the session. A client that had an
/// error is not touched again: it would connect by itself and go on from where it thinks it was.
async fn pump(
    events: &mut EventLoop,
    inbox: Inbox,
    acknowledged: watch::Sender<u64>,
    control: &Control,
) -> LinkError {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                control.count(0, publish.payload.len());
                if let Err(error) = inbox.take(publish.payload) {
                    return error;
                }
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => acknowledged.send_modify(|acks| *acks += 1),
            Ok(Event::Incoming(Packet::Disconnect)) => {
                return LinkError::Lost { reason: "the hub closed the connection".into() };
            }
            Ok(_) => {}
            Err(error) => return link_error(error),
        }
    }
}

/// Publishes what the session sends.
async fn feed(
    client: &AsyncClient,
    mut departures: Departures,
    mut acks: watch::Receiver<u64>,
    topic: String,
    control: &Control,
) -> LinkError {
    let mut published = 0_u64;
    while let Some(outgoing) = departures.next().await {
        match outgoing {
            Outgoing::Frame(mut frame) => {
                while !frame.is_empty() {
                    let piece = frame.split_to(frame.len().min(PIECE_BYTES_MAX));
                    control.count(piece.len(), 0);
                    if let Err(error) = publish(client, &topic, QoS::AtLeastOnce, piece).await {
                        return error;
                    }
                    published += 1;
                }
            }
            Outgoing::Finish(answer) => {
                // An error means that the pump has ended, which says why.
                if acks.wait_for(|acks| *acks >= published).await.is_ok() {
                    let _gone = answer.send(());
                }
            }
        }
    }
    LinkError::Closed
}
