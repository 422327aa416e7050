//! Links over QUIC: an endpoint at either end, and per link a bidirectional stream of frames, with
//! one more from the agent for its backfill.
//!
//! ```text
//! agent                                   hub
//! ClientEndpoint::connect ── TLS 1.3 ──▶  ServerEndpoint::accept → IncomingLink::finish
//! opens the stream; its first frame is what makes the link visible to the hub
//! FrameSender ───────── frames ────────▶  FrameReceiver
//! FrameReceiver ◀────── frames ─────────  FrameSender
//! ```
//!
//! A link that breaks is given up, never repaired: what was not acknowledged is sent again by the
//! session over the next one. Nothing here decides when to connect again.

mod error;
mod link;
mod over;
mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt,
};
use ring::hmac;
use rustls_pki_types::CertificateDer;
use tideline_protocol::session::SILENCE_MAX_NS;

pub use self::error::LinkError;
pub(crate) use self::error::is_certificate_alert_number;
use self::link::Peer;
pub use self::link::{Link, LinkHandle, LinkStats};
pub use self::streams::{FrameReceiver, FrameSender};
use crate::identity::{IdentityError, PeerCertificate, agent_id_of};

/// What both ends must offer in the handshake.
pub const ALPN: &str = "tideline/1";
/// After how much silence a link is dead, whoever holds it. What keeps it alive are the session's pings,
/// 15 s apart while an agent has nothing to send, below the 30 s after which networks forget a UDP flow
/// (RFC 9000, section 10.1.2), and this is longer than the silence that a session bears. Nobody who has
/// something to send waits for it: the agent looks for another way when a ping has no answer, and the hub
/// judges by when the agent said that it would be heard.
pub const IDLE_TIMEOUT: Duration = Duration::from_nanos(SILENCE_MAX_NS + 5_000_000_000);
/// Most bytes in flight to a reader that does not read: two of the longest frames, so that one can
/// arrive while the other is worked on.
pub const WINDOW_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Most of them on one stream, so that backfill which is not read leaves room for a live frame; 4 MiB
/// fill 100 ms of round trip at 300 Mbit/s.
pub const STREAM_WINDOW_BYTES_MAX: u32 = WINDOW_BYTES_MAX / 2;
/// Most handshakes waiting to be accepted; each holds one datagram or two.
pub const INCOMING_MAX: usize = 4096;
/// Most links of one hub: at about 50 KB for an idle one they take half a gigabyte.
pub const LINKS_MAX: usize = 10_000;
/// From so many links on a newcomer must first prove its address, at the cost of one round trip.
pub const RETRY_ABOVE: usize = 1000;
/// Application close code of a link that ended as it should.
pub const CLOSE_DONE: u32 = 0;

/// How a link reacts to loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Model-based; keeps its rate where a radio loses packets without being full. At 600 ms and 2 % loss
    /// each way a reading takes the time of flight with it, and seconds with the others.
    #[default]
    Bbr,
    /// RFC 8312; takes every loss for a full link.
    Cubic,
    /// RFC 9002; the plainest, for comparison.
    NewReno,
}

impl Congestion {
    /// All of them by the names that a configuration has for them, the default first.
    pub const NAMES: [(&'static str, Self); 3] =
        [("bbr", Self::Bbr), ("cubic", Self::Cubic), ("newreno", Self::NewReno)];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, congestion)| *congestion)
    }
}

/// What may be chosen about the links of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// How a link reacts to loss.
    pub congestion: Congestion,
}

/// The hub's end: one UDP socket for all agents.
#[derive(Debug, Clone)]
pub struct ServerEndpoint {
    endpoint: Endpoint,
}

impl ServerEndpoint {
    /// Binds the socket, with the default options. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the configuration cannot do QUIC.
    pub fn bind(addr: SocketAddr, tls: rustls::ServerConfig) -> Result<Self, LinkError> {
        Self::bind_with(addr, tls, &LinkOptions::default())
    }

    /// As [`Self::bind`], with options.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_with(
        addr: SocketAddr,
        tls: rustls::ServerConfig,
        options: &LinkOptions,
    ) -> Result<Self, LinkError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(LinkError::config)?;
        Self::bind_known(addr, tls, options, &secret)
    }

    /// As [`Self::bind_with`], with a secret that outlives the process: agents whose links a killed hub
    /// has left behind are told by the next one, with their next packet, instead of finding out by
    /// silence (RFC 9000, section 10.3).
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_known(
        addr: SocketAddr,
        tls: rustls::ServerConfig,
        options: &LinkOptions,
        secret: &[u8; 32],
    ) -> Result<Self, LinkError> {
        let crypto = QuicServerConfig::try_from(tls).map_err(LinkError::config)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport(options, 1)?));
        config.max_incoming(INCOMING_MAX);
        let bind = || {
            let runtime = Arc::new(TokioRuntime);
            Endpoint::new(known_by(secret), Some(config), UdpSocket::bind(addr)?, runtime)
        };
        let endpoint = bind().map_err(|error| LinkError::bind(addr, &error))?;
        Ok(Self { endpoint })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.endpoint.local_addr().map_err(LinkError::config)
    }

    /// The next agent that knocks, or `None` after [`Self::close`]. Cancel safe.
    pub async fn accept(&self) -> Option<IncomingLink> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let open = self.endpoint.open_connections();
            if open >= LINKS_MAX {
                tracing::warn!(remote = %incoming.remote_address(), open, "link refused: the hub is full");
                incoming.refuse();
            } else if open >= RETRY_ABOVE && incoming.may_retry() && !incoming.remote_address_validated() {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            } else {
                return Some(IncomingLink { incoming });
            }
        }
    }

    /// Closes all links and accepts no more. `reason` is for people.
    pub fn close(&self, code: u32, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the peers were told that their links are closed.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// Least time between two words to agents that their links are gone: a thousand of them hear it within
/// a second or two, and nobody can have the hub sign for its whole time.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

fn known_by(secret: &[u8; 32]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
    config.min_reset_interval(RESET_INTERVAL).cid_generator(|| Box::new(ConnectionIds));
    config
}

/// Ids of connections, random and without a mark of this process: a hub that comes back is to answer
/// packets for those that it had before.
#[derive(Debug)]
struct ConnectionIds;

impl ConnectionIds {
    /// Enough for [`LINKS_MAX`] links without two alike.
    const BYTES: usize = 8;
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; Self::BYTES];
        // Without entropy ids repeat, and quinn asks for another one.
        let _ = getrandom::fill(&mut bytes);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// An agent that knocks. Dropping it refuses.
#[derive(Debug)]
pub struct IncomingLink {
    incoming: quinn::Incoming,
}

impl IncomingLink {
    /// Where it comes from; not proven yet.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Gives the link back when its address is proven, and else asks for the proof, at the cost of one
    /// round trip; the agent then knocks again.
    #[must_use]
    pub fn prove_address(self) -> Option<Self> {
        if self.incoming.remote_address_validated() || !self.incoming.may_retry() {
            return Some(self);
        }
        if let Err(error) = self.incoming.retry() {
            error.into_incoming().refuse();
        }
        None
    }

    /// Does the handshake, reads the agent's id and waits for its stream, which shows with the first
    /// frame. Run it in a task of its own: a slow agent must not hold up the others.
    ///
    /// # Errors
    /// The certificate is not accepted or names no agent, or `timeout` passed.
    pub async fn finish(self, timeout: Duration) -> Result<Link, LinkError> {
        tokio::time::timeout(timeout, self.established()).await.map_err(|_| LinkError::TimedOut)?
    }

    async fn established(self) -> Result<Link, LinkError> {
        let connection = self.incoming.accept()?.await?;
        let peer = peer_agent(&connection);
        if let Err(error) = &peer {
            connection.close(VarInt::from_u32(CLOSE_IDENTITY), error.to_string().as_bytes());
        }
        let peer = peer?;
        let (send, recv) = connection.accept_bi().await?;
        Ok(Link::new(connection, send, recv, Some(peer)))
    }
}

/// Application close code of a link whose certificate names no agent.
pub const CLOSE_IDENTITY: u32 = 1;
/// Application close code of a link whose agent has opened newer ones.
pub const CLOSE_REPLACED: u32 = 2;
/// Application close code of a link that a hub has no room for.
pub const CLOSE_FULL: u32 = 3;

fn peer_agent(connection: &quinn::Connection) -> Result<Peer, LinkError> {
    let missing = || LinkError::PeerCertificate { reason: "there is none".into() };
    let chain = connection.peer_identity().ok_or_else(missing)?;
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| missing())?;
    let leaf = chain.first().ok_or_else(missing)?;
    let unfit = |error: IdentityError| LinkError::PeerCertificate { reason: error.to_string() };
    Ok(Peer {
        agent: agent_id_of(leaf).map_err(unfit)?,
        certificate: PeerCertificate::of(leaf).map_err(unfit)?,
    })
}

/// The agent's end: one UDP socket, kept over reconnects.
#[derive(Debug, Clone)]
pub struct ClientEndpoint {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
}

impl ClientEndpoint {
    /// Binds the socket, with the default options. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(local: SocketAddr) -> Result<Self, LinkError> {
        Self::bind_with(local, &LinkOptions::default())
    }

    /// As [`Self::bind`], with options.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_with(local: SocketAddr, options: &LinkOptions) -> Result<Self, LinkError> {
        let endpoint = Endpoint::client(local).map_err(|error| LinkError::bind(local, &error))?;
        Ok(Self { endpoint, transport: Arc::new(transport(options, 0)?) })
    }

    /// Binds any port, for both families where the host has IPv6 and for IPv4 where it has not.
    ///
    /// # Errors
    /// Neither family can be bound.
    pub fn bind_any(options: &LinkOptions) -> Result<Self, LinkError> {
        Self::bind_with((Ipv6Addr::UNSPECIFIED, 0).into(), options)
            .or_else(|_| Self::bind_with((Ipv4Addr::UNSPECIFIED, 0).into(), options))
    }

    /// Connects and opens the stream. The hub sees the link with the first frame sent, and only then
    /// judges this end's certificate: a refusal of it shows at the first receive.
    ///
    /// # Errors
    /// Nobody answers within `timeout`, the hub refuses, or its certificate is not accepted.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        server_name: &str,
        tls: rustls::ClientConfig,
        timeout: Duration,
    ) -> Result<Link, LinkError> {
        let crypto = QuicClientConfig::try_from(tls).map_err(LinkError::config)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        let connecting = self
            .endpoint
            .connect_with(config, addr, server_name)
            .map_err(|error| LinkError::Unreachable { reason: format!("{addr}: {error}") })?;
        let opened = async {
            let connection = connecting.await?;
            let (send, recv) = connection.open_bi().await?;
            Ok(Link::new(connection, send, recv, None))
        };
        tokio::time::timeout(timeout, opened).await.map_err(|_| LinkError::TimedOut)?
    }

    /// Moves all links of this endpoint to a new socket, on any port, for when the address that the old
    /// one used is gone. They go on without a new handshake: the hub asks the new address for a proof
    /// and then answers there.
    ///
    /// # Errors
    /// No socket can be bound.
    pub fn rebind(&self) -> Result<(), LinkError> {
        let any: IpAddr = match self.endpoint.local_addr().map_err(LinkError::config)? {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.rebind_to((any, 0).into())
    }

    /// As [`Self::rebind`], to this local address.
    ///
    /// # Errors
    /// It cannot be bound.
    pub fn rebind_to(&self, local: SocketAddr) -> Result<(), LinkError> {
        let socket = UdpSocket::bind(local).map_err(|error| LinkError::bind(local, &error))?;
        self.endpoint.rebind(socket).map_err(LinkError::config)
    }

    /// Waits until the hub was told that the links are closed; call it before the process ends.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// The addresses of a `host:port`, in the system's order of preference.
///
/// # Errors
/// The name is not known, or the answer took longer than `timeout`.
pub async fn resolve(host_port: &str, timeout: Duration) -> Result<Vec<SocketAddr>, LinkError> {
    let unreachable = |reason: String| LinkError::Unreachable { reason: format!("{host_port}: {reason}") };
    let found = tokio::time::timeout(timeout, tokio::net::lookup_host(host_port))
        .await
        .map_err(|_| LinkError::TimedOut)?
        .map_err(|error| unreachable(error.to_string()))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() { Err(unreachable("the name has no address".into())) } else { Ok(addresses) }
}

/// `streams` is how many streams of each direction the peer may open: the agent opens the first, which
/// is bidirectional, and that of its backfill.
fn transport(options: &LinkOptions, streams: u32) -> Result<TransportConfig, LinkError> {
    let mut config = TransportConfig::default();
    config
        // The session's pings do that, and say when the next one comes.
        .keep_alive_interval(None)
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().map_err(LinkError::config)?))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES_MAX))
        .receive_window(VarInt::from_u32(WINDOW_BYTES_MAX))
        .send_window(u64::from(WINDOW_BYTES_MAX))
        // Datagrams of 1,200 bytes pass everywhere. The probes for longer ones take 7 KB a connection,
        // and what they find saves half a percent of a long drain.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None);
    match options.congestion {
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        Congestion::NewReno => config.congestion_controller_factory(Arc::new(NewRenoConfig::default())),
    };
    Ok(config)
}

#[cfg(test)]
mod tests;
