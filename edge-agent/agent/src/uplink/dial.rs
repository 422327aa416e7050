//! Opens links: a name, its addresses, and a handshake with the hub.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tideline_link::link::{Link, LinkError, Transport};
use tideline_link::mqtt::{self, BrokerUrl, Server};
use tideline_link::quic::{ALPN, ClientEndpoint, LinkOptions};
use tideline_link::tls::{FloorTime, broker_client_config, client_config, named_client_config};
use tideline_protocol::time::Clock as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::resolver::Resolver;
use super::routes::Path;
use crate::clock::AgentClock;
use crate::config::Config;
use crate::floor::floored;
use crate::identity::Identity;
use crate::spooler::SpoolState;

/// Longest wait for a link.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Round trips until a link over MQTT stands: TCP, TLS, its own handshake, the subscription.
const MQTT_TRIPS: u64 = 4;

/// A link that was opened.
#[derive(Debug)]
pub struct Dialled {
    /// The link.
    pub link: Link,
    /// The round trip as measured on the way, in microseconds.
    pub rtt_us: u64,
    /// Its socket, where it can move to another address of this machine.
    pub endpoint: Option<ClientEndpoint>,
}

/// A dial on its way; dropped, it is given up and leaves nothing behind.
pub type Dialling = Pin<Box<dyn Future<Output = anyhow::Result<Dialled>> + Send>>;

/// Opens links.
pub trait Dial: Send + Sync {
    /// Opens one over this path, in limited time. Over UDP the first packet is sent again each
    /// `knock_every`: QUIC itself does so after 1, 3 and 7 s, and a line that comes back in between would
    /// wait for it longer than the peers take.
    fn dial(self: Arc<Self>, path: Path, knock_every: Duration) -> Dialling;
}

/// Opens them over the network.
#[derive(Debug)]
pub struct Dialler {
    identity: Identity,
    clock: AgentClock,
    resolver: Resolver,
    options: LinkOptions,
    broker: Option<Broker>,
    spool: Option<watch::Receiver<SpoolState>>,
}

/// A broker of somebody else, and whom to believe that it is the one.
#[derive(Debug, Clone)]
struct Broker {
    url: BrokerUrl,
    ca: Option<Authorities>,
}

/// Who may vouch for a broker.
#[derive(Debug, Clone)]
struct Authorities {
    path: PathBuf,
    pem: String,
}

impl std::fmt::Display for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "broker {}", self.url)?;
        match &self.ca {
            Some(ca) if self.url.is_secure() => write!(f, " (uplink.broker_ca = {})", ca.path.display()),
            _ => Ok(()),
        }
    }
}

impl Broker {
    /// As the configuration says.
    ///
    /// # Errors
    /// The file with its authorities cannot be read.
    fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(url) = config.broker.clone() else { return Ok(None) };
        let read = |path: &PathBuf| {
            let pem = std::fs::read_to_string(path);
            let pem = pem.with_context(|| format!("uplink.broker_ca = {}", path.display()))?;
            anyhow::Ok(Authorities { path: path.clone(), pem })
        };
        let ca = config.broker_ca.as_ref().map(read).transpose()?;
        Ok(Some(Self { url, ca }))
    }
}

impl Dialler {
    /// As this agent.
    #[must_use]
    pub fn new(identity: Identity, clock: AgentClock, options: LinkOptions) -> Self {
        Self { identity, clock, resolver: Resolver::new(Arc::new(clock)), options, broker: None, spool: None }
    }

    /// As this agent, and as the configuration says.
    ///
    /// # Errors
    /// The file with the authorities of the broker cannot be read.
    pub fn of(identity: Identity, clock: AgentClock, config: &Config) -> anyhow::Result<Self> {
        let broker = Broker::of(config)?;
        let options = LinkOptions { congestion: config.congestion };
        Ok(Self { broker, ..Self::new(identity, clock, options) })
    }

    /// The latest time that a hub ever told is a floor as well, also after a restart of a machine
    /// without a clock battery.
    #[must_use]
    pub fn knowing(self, spool: watch::Receiver<SpoolState>) -> Self {
        Self { spool: Some(spool), ..self }
    }

    fn floor(&self) -> FloorTime {
        let told_s = self.spool.as_ref().map_or(0, |spool| spool.borrow().time_floor_ns / 1_000_000_000);
        floored(Arc::new(self.clock), self.identity.file.floor_s.max(told_s))
    }

    async fn sealed(&self, broker: &Broker) -> anyhow::Result<Dialled> {
        let certificate = &self.identity.certificate;
        let ca_pem = broker.ca.as_ref().map_or(&certificate.ca_pem, |ca| &ca.pem);
        let server = Server::broker(&broker.url, broker_client_config(ca_pem, self.floor())?);
        let tls = client_config(certificate, &certificate.ca_pem, self.floor(), &[ALPN])?;
        let (agent, name) = (&self.identity.file.agent, &self.identity.file.server_name);
        let link = mqtt::connect_sealed(&server, agent, name, tls, &self.options, CONNECT_MAX).await;
        let link = link.with_context(|| broker.to_string())?;
        Ok(Dialled { rtt_us: link.stats().rtt_us, link, endpoint: None })
    }

    async fn quic(&self, hub: &str, every: Duration) -> anyhow::Result<Dialled> {
        let addresses = self.resolver.resolve(hub).await?;
        let certificate = &self.identity.certificate;
        let tls = client_config(certificate, &certificate.ca_pem, self.floor(), &[ALPN])?;
        let endpoint = ClientEndpoint::bind_any(&self.options)?;
        let name = self.identity.file.server_name.clone();
        let knocks = Knocks { endpoint: endpoint.clone(), tls, name, every };
        let link = timeout(CONNECT_MAX, knocks.run(&addresses)).await.map_err(|_| LinkError::TimedOut)??;
        Ok(Dialled { rtt_us: link.stats().rtt_us, link: link.into(), endpoint: Some(endpoint) })
    }
}

impl Dialler {
    /// To the hub's own endpoint.
    async fn mqtt(&self, hub: &str) -> anyhow::Result<Dialled> {
        let (certificate, name) = (&self.identity.certificate, &self.identity.file.server_name);
        let tls = named_client_config(certificate, &certificate.ca_pem, self.floor(), name, &[mqtt::ALPN])?;
        // The name is looked up here, where a name server that hangs does no harm.
        let addresses = self.resolver.resolve(hub).await?;
        let mut last = LinkError::TimedOut;
        for address in addresses {
            let (server, since_ns) = (Server::hub(&address.to_string(), tls.clone())?, self.clock.mono_ns());
            match mqtt::connect(&server, &self.identity.file.agent, CONNECT_MAX).await {
                Ok(link) => {
                    let took_us = self.clock.mono_ns().saturating_sub(since_ns) / 1_000;
                    return Ok(Dialled { link, rtt_us: took_us / MQTT_TRIPS, endpoint: None });
                }
                Err(error) if is_answer(&error) => return Err(error.into()),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

impl Dial for Dialler {
    fn dial(self: Arc<Self>, path: Path, knock_every: Duration) -> Dialling {
        Box::pin(async move {
            match path.transport {
                Transport::Quic => self.quic(&path.hub, knock_every).await,
                Transport::Mqtt => match &self.broker {
                    Some(broker) if path.hub == broker.url.to_string() => self.sealed(broker).await,
                    _ => self.mqtt(&path.hub).await,
                },
            }
        })
    }
}

/// Handshakes from one socket, one after the other while none is answered.
struct Knocks {
    endpoint: ClientEndpoint,
    tls: rustls::ClientConfig,
    name: String,
    every: Duration,
}

impl Knocks {
    /// Goes round the addresses until one answers or all that were tried have failed.
    async fn run(&self, addresses: &[SocketAddr]) -> anyhow::Result<tideline_link::quic::Link> {
        let mut next = addresses.iter().cycle();
        let (mut tried, mut knocks, mut again) = (0, JoinSet::new(), interval(self.every));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = again.tick() => {
                    let address = *next.next().context("no address")?;
                    let (endpoint, tls, name) = (self.endpoint.clone(), self.tls.clone(), self.name.clone());
                    knocks.spawn(async move { endpoint.connect(address, &name, tls, CONNECT_MAX).await });
                    tried += 1;
                }
                Some(done) = knocks.join_next() => match done? {
                    Ok(link) => return Ok(link),
                    // Another address is tried at once; the same one, after the back-off.
                    Err(LinkError::Unreachable { .. } | LinkError::Lost { .. }) if tried < addresses.len() => {
                        again.reset_immediately();
                    }
                    Err(error) if knocks.is_empty() || is_answer(&error) => return Err(error.into()),
                    Err(_) => {}
                }
            }
        }
    }
}

/// Whether the hub, or what stands in its place, has said no.
const fn is_answer(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Refused { .. } | LinkError::OwnCertificate { .. } | LinkError::PeerCertificate { .. }
    )
}
