//! The hub's client at a broker of somebody else: QUIC, sealed, through MQTT messages.
//!
//! The broker comes and goes; the QUIC endpoint stays, and to it a broker that is away is a network
//! that loses everything.

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tideline_link::link::{Link, LinkError};
use tideline_link::mqtt::tunnel::{Addresses, Carrier, DATAGRAM_BYTES_MAX, Relay, address_of, tunnel};
use tideline_link::mqtt::{BrokerUrl, Server};
use tideline_link::quic::{IncomingLink, LinkOptions, ServerEndpoint};
use tideline_protocol::model::AgentId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::hub::App;
use crate::telemetry::Metric;

/// Longest wait for the broker's answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest handshake of an agent, first frame included: it may wait for a message to be sent again.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Most handshakes at once. Whoever may publish at the broker can begin them, and takes places from
/// agents that connect, but none from those that are connected.
const HANDSHAKES_MAX: usize = 256;
/// Most agents of one broker; beyond it the one that was silent for the longest is forgotten until it
/// sends again.
const AGENTS_MAX: usize = 10_000;
/// First and longest wait before the broker is tried again, each drawn anew between half and all of it.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Who is where.
#[derive(Default)]
struct Book {
    by_address: HashMap<SocketAddr, (AgentId, u64)>,
    // Counts datagrams; the least number is the longest silence.
    now: u64,
}

impl Addresses for Book {
    fn heard(&mut self, address: SocketAddr, agent: AgentId) {
        self.now += 1;
        if self.by_address.len() >= AGENTS_MAX && !self.by_address.contains_key(&address) {
            let silent = self.by_address.iter().min_by_key(|(_, (_, at))| *at).map(|(at, _)| *at);
            silent.map(|silent| self.by_address.remove(&silent));
        }
        self.by_address.insert(address, (agent, self.now));
    }

    fn agent_at(&self, address: SocketAddr) -> Option<AgentId> {
        self.by_address.get(&address).map(|(agent, _)| agent.clone())
    }
}

/// Serves the agents behind a broker until the hub stops; their links go to `links`. `quic` is the
/// TLS of QUIC links, `tls` that of the broker.
///
/// # Errors
/// The configuration cannot do QUIC.
pub async fn run(
    hub: App,
    url: BrokerUrl,
    tls: rustls::ClientConfig,
    quic: rustls::ServerConfig,
    links: mpsc::Sender<Link>,
) -> Result<()> {
    let (socket, mut carrier) = tunnel((Ipv6Addr::UNSPECIFIED, 0).into());
    let endpoint = ServerEndpoint::over(socket, quic, &LinkOptions::default(), DATAGRAM_BYTES_MAX)?;
    let server = Server::broker(&url, tls);
    // What the agents' links show as their address.
    let broker = Mutex::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    tokio::select! {
        () = attend(&hub, &url, &server, &mut carrier, &broker) => {}
        () = accept(&hub, &endpoint, &links, &broker) => {}
    }
    endpoint.close(0, "the hub is shutting down");
    Ok(())
}

/// Keeps a connection with the broker.
async fn attend(hub: &App, url: &BrokerUrl, server: &Server, carrier: &mut Carrier, at: &Mutex<SocketAddr>) {
    let book = Mutex::new(Book::default());
    let mut wait = WAITS.0;
    loop {
        match Relay::connect(server, CONNECT_MAX).await {
            Ok(relay) => {
                tracing::info!(broker = %url, "connected with the MQTT broker");
                wait = WAITS.0;
                *at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = relay.remote_addr();
                let error = relay.carry(carrier, &book).await;
                tracing::warn!(broker = %url, %error, "the MQTT broker is lost");
            }
            Err(error @ LinkError::PeerCertificate { .. }) => {
                tracing::warn!(broker = %url, %error, "no authority in mqtt.broker_ca vouches for the MQTT broker");
            }
            Err(error) => tracing::warn!(broker = %url, %error, "no connection with the MQTT broker"),
        }
        if *hub.stopping.borrow() {
            return;
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

fn jittered(wait: Duration) -> Duration {
    let mut random = [0_u8; 4];
    // Without entropy all hubs wait equally long, which harms nobody here.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    wait.div_f64(2.0) + wait.mul_f64(part / 2.0)
}

async fn accept(
    hub: &App,
    endpoint: &ServerEndpoint,
    links: &mpsc::Sender<Link>,
    broker: &Mutex<SocketAddr>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = hub.stopped() => {
                // The sessions of this endpoint say goodbye first.
                links.closed().await;
                return;
            }
            Some(_) = handshakes.join_next() => {}
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if handshakes.len() < HANDSHAKES_MAX {
                    let at = *broker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    handshakes.spawn(handshake(Arc::clone(hub), incoming, at, links.clone()));
                } else {
                    hub.counters.add(Metric::HandshakesFailed, 1);
                }
            }
        }
    }
}

async fn handshake(hub: App, incoming: IncomingLink, broker: SocketAddr, links: mpsc::Sender<Link>) {
    match incoming.finish(HANDSHAKE_MAX).await {
        Ok(link) => {
            // What it sends must come by its own topic, or its answers would go to another's.
            if link.peer_agent().map(address_of) != Some(link.handle().remote_addr()) {
                link.close(tideline_link::link::CLOSE_IDENTITY, "this topic is another agent's");
                return;
            }
            let _stopping = links.try_send(Link::through_broker(link, broker));
        }
        Err(error) => {
            hub.counters.add(Metric::HandshakesFailed, 1);
            tracing::debug!(%error, "handshake through the MQTT broker failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_keeps_who_was_heard_last_within_its_limit() {
        let mut book = Book::default();
        let agent = |n: usize| AgentId::parse(&format!("a-{n}")).unwrap();
        let at = |n: usize| address_of(&agent(n));
        for n in 0..AGENTS_MAX {
            book.heard(at(n), agent(n));
        }
        book.heard(at(0), agent(0));
        book.heard(at(AGENTS_MAX), agent(AGENTS_MAX));
        assert_eq!(book.by_address.len(), AGENTS_MAX);
        assert_eq!(book.agent_at(at(0)), Some(agent(0)));
        assert_eq!(book.agent_at(at(1)), None);
        assert_eq!(book.agent_at(at(AGENTS_MAX)), Some(agent(AGENTS_MAX)));
    }
}
