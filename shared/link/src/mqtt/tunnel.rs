//! QUIC through an MQTT broker that nobody trusts: a socket whose datagrams are MQTT messages.
//!
//! ```text
//! quinn ── try_send ──▶ Tunnel ═ bounded channel ═▶ carrier ── publish, QoS 0 ──▶ broker
//! quinn ◀── poll_recv ── Tunnel ◀═ bounded channel ═ carrier ◀── subscription ──── broker
//! ```
//!
//! To QUIC an agent behind a broker is at an address that follows from its id, see [`address_of`], so
//! one socket of the hub serves all agents of a broker. The address proves nothing; the certificate
//! does. What finds a channel full is dropped, as a network does it. Nothing here waits for a session.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rumqttc::{Event, Packet, QoS};
use sha2::{Digest, Sha256};
use tideline_protocol::model::AgentId;
use tokio::sync::mpsc;

use super::client::{Connected, link_error, open, publish};
use super::{SEALED_UP_OF_ALL, Server, agent_of_sealed_up, sealed_down, sealed_up};
use crate::link::Link;
use crate::quic::{ClientEndpoint, LinkError, LinkOptions};

/// Longest datagram: large, because each costs the broker a message, and small enough that one that is
/// lost is soon sent again.
pub const DATAGRAM_BYTES_MAX: u16 = 16 * 1024;
/// Most datagrams between QUIC and the broker, in each direction: 1 MiB.
const QUEUE_MAX: usize = 64;
/// The port of every address; a number that is no port of anything.
const PORT: u16 = 1;
/// Unique local addresses, of which no other network of this host is (RFC 4193).
const NETWORK: u8 = 0xfd;

/// One datagram, with the address that it comes from or goes to.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// The peer.
    pub peer: SocketAddr,
    /// The bytes.
    pub bytes: Bytes,
}

/// Where an agent is, to QUIC: 120 bits of the SHA-256 of its id, so that nobody can take the address
/// of another.
#[must_use]
pub fn address_of(agent: &AgentId) -> SocketAddr {
    let mut octets = [0_u8; 16];
    for (octet, byte) in octets.iter_mut().zip(Sha256::digest(agent.as_str().as_bytes())) {
        *octet = byte;
    }
    octets[0] = NETWORK;
    (Ipv6Addr::from(octets), PORT).into()
}

/// Where the hub is, to an agent's QUIC.
fn hub_address() -> SocketAddr {
    (Ipv6Addr::from([NETWORK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), PORT).into()
}

/// The socket that QUIC gets.
pub struct Tunnel {
    local: SocketAddr,
    outgoing: mpsc::Sender<Datagram>,
    incoming: Mutex<mpsc::Receiver<Datagram>>,
}

/// The other end of the socket; once it is dropped, so are the links.
#[derive(Debug)]
pub struct Carrier {
    outgoing: mpsc::Receiver<Datagram>,
    incoming: mpsc::Sender<Datagram>,
}

/// A socket and its other end.
#[must_use]
pub fn tunnel(local: SocketAddr) -> (Arc<Tunnel>, Carrier) {
    let (outgoing, departing) = mpsc::channel(QUEUE_MAX);
    let (arriving, incoming) = mpsc::channel(QUEUE_MAX);
    let socket = Tunnel { local, outgoing, incoming: Mutex::new(incoming) };
    (Arc::new(socket), Carrier { outgoing: departing, incoming: arriving })
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("local", &self.local).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Tunnel {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { outgoing: self.outgoing.clone(), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = Bytes::copy_from_slice(transmit.contents);
        match self.outgoing.try_send(Datagram { peer: transmit.destination, bytes }) {
            // That the carrier is gone shows at the next receive, which ends all links alike.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
            let datagram = match incoming.poll_recv(cx) {
                Poll::Ready(Some(datagram)) => datagram,
                Poll::Ready(None) if count == 0 => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending if count == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            };
            // One that is too long is cut, and QUIC drops it as damaged.
            let len = datagram.bytes.len().min(buf.len());
            if let (Some(into), Some(from)) = (buf.get_mut(..len), datagram.bytes.get(..len)) {
                into.copy_from_slice(from);
            }
            *meta = RecvMeta { addr: datagram.peer, len, stride: len, ecn: None, dst_ip: None };
            count += 1;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

type Room = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

struct Poller {
    outgoing: mpsc::Sender<Datagram>,
    waiting: Option<Room>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = self.outgoing.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                // The place is given back at once; who was woken takes it by sending.
                let _room = outgoing.reserve().await;
            })
        });
        let room = waiting.as_mut().poll(cx);
        if room.is_ready() {
            self.waiting = None;
        }
        room.map(Ok)
    }
}

impl Carrier {
    /// Hands a datagram to QUIC, or drops it when it does not keep up. False when QUIC is gone.
    pub fn arrive(&self, peer: SocketAddr, bytes: Bytes) -> bool {
        let sent = self.incoming.try_send(Datagram { peer, bytes });
        !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// The next datagram to carry; `None` when QUIC is gone. Cancel safe.
    pub async fn departing(&mut self) -> Option<Datagram> {
        self.outgoing.recv().await
    }
}

/// Connects `agent` with the hub `server_name` through a broker. `tls` is as for QUIC: the broker sees
/// nothing of it. `timeout` is that of each of the two handshakes.
///
/// # Errors
/// The broker does not let this end in, or as [`ClientEndpoint::connect`].
pub async fn connect_sealed(
    broker: &Server,
    agent: &AgentId,
    server_name: &str,
    tls: rustls::ClientConfig,
    options: &LinkOptions,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let (socket, carrier) = tunnel(address_of(agent));
    let endpoint = ClientEndpoint::over(socket, options, DATAGRAM_BYTES_MAX)?;
    let connected = open(broker, &sealed_down(agent), timeout).await?;
    let remote = connected.remote;
    tokio::spawn(carry(connected, carrier, sealed_up(agent)));
    let link = endpoint.connect(hub_address(), server_name, tls, timeout).await?;
    Ok(Link::through_broker(link, remote))
}

/// The agent's carrier: one topic up, all that comes down is the hub's or nobody's.
async fn carry(connected: Connected, mut carrier: Carrier, topic: String) {
    let Connected { client, mut events, remote } = connected;
    let arriving = carrier.incoming.clone();
    let pump = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let datagram = Datagram { peer: hub_address(), bytes: publish.payload };
                    let _full = arriving.try_send(datagram);
                }
                Ok(_) => {}
                Err(error) => return link_error(error),
            }
        }
    };
    let feed = async {
        while let Some(datagram) = carrier.departing().await {
            if let Err(error) = publish(&client, &topic, QoS::AtMostOnce, datagram.bytes).await {
                return error;
            }
        }
        LinkError::Closed
    };
    let ended = tokio::select! {
        ended = pump => ended,
        ended = feed => ended,
    };
    tracing::debug!(broker = %remote, error = %ended, "the connection with the broker has ended");
}

/// The hub's client at a broker.
pub struct Relay {
    connected: Connected,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("remote", &self.connected.remote).finish_non_exhaustive()
    }
}

impl Relay {
    /// Connects and subscribes to what all agents send.
    ///
    /// # Errors
    /// The broker does not answer within `timeout`, or does not let this end in.
    pub async fn connect(broker: &Server, timeout: Duration) -> Result<Self, LinkError> {
        Ok(Self { connected: open(broker, SEALED_UP_OF_ALL, timeout).await? })
    }

    /// Where the broker is.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.connected.remote
    }

    /// Carries datagrams until the connection breaks or QUIC is gone. `book` says whose an address is:
    /// it hears of each datagram's sender, and is asked for the receivers.
    pub async fn carry(self, carrier: &mut Carrier, book: &Mutex<impl Addresses>) -> LinkError {
        let Connected { client, mut events, remote: _ } = self.connected;
        let arriving = carrier.incoming.clone();
        let locked = || book.lock().unwrap_or_else(PoisonError::into_inner);
        let pump = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let Some(agent) = agent_of_sealed_up(&publish.topic) else { continue };
                        let peer = address_of(&agent);
                        locked().heard(peer, agent);
                        let _full = arriving.try_send(Datagram { peer, bytes: publish.payload });
                    }
                    Ok(_) => {}
                    Err(error) => return link_error(error),
                }
            }
        };
        let feed = async {
            while let Some(datagram) = carrier.outgoing.recv().await {
                let Some(agent) = locked().agent_at(datagram.peer) else { continue };
                let topic = sealed_down(&agent);
                if let Err(error) = publish(&client, &topic, QoS::AtMostOnce, datagram.bytes).await {
                    return error;
                }
            }
            LinkError::Closed
        };
        tokio::select! {
            ended = pump => ended,
            ended = feed => ended,
        }
    }
}

/// Which agent is at which address.
pub trait Addresses {
    /// A datagram has come from `agent`, or from who says so.
    fn heard(&mut self, address: SocketAddr, agent: AgentId);
    /// Who is at `address`.
    fn agent_at(&self, address: SocketAddr) -> Option<AgentId>;
}
