//! The MQTT endpoint's doors: TLS, and plain for programs on the same machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tideline_link::identity::{KeyAndCert, agent_id_of, cert_public_key_sha256};
use tideline_link::link::Link;
use tideline_link::link::line::{Peer, Proof};
use tideline_link::mqtt::ALPN;
use tideline_link::tls::{Clients, server_config_for};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{Ended, serve};
use crate::bucket::party;
use crate::hub::App;
use crate::places::{Limits, Place, Places};
use crate::telemetry::Metric;

/// Longest TLS handshake: three round trips, also of a bad radio.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Most connections of one door; a quiet one takes about 60 KB. A site's devices may come from one
/// address.
const CONNECTIONS: Limits = Limits { all: 4096, each: 1024 };
/// How long a door rests after an accept that failed, as when no descriptor is left.
const REST: Duration = Duration::from_millis(100);

/// A bound door.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// Binds the TLS door, and the plain one, which must be on loopback: a token must not travel in the
/// clear.
///
/// # Errors
/// An address cannot be bound or is not allowed.
pub async fn listen(
    tls: Option<SocketAddr>,
    plain: Option<SocketAddr>,
    own: &KeyAndCert,
) -> Result<Vec<Door>> {
    let mut doors = Vec::new();
    if let Some(address) = tls {
        let config = server_config_for(own, &own.ca_pem, Clients::CertifiedOrAny, &[ALPN])?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("mqtt.listen_tls = {address} cannot be bound"))?;
        doors.push(Door { listener, tls: Some(TlsAcceptor::from(Arc::new(config))) });
    }
    if let Some(address) = plain {
        ensure!(
            address.ip().is_loopback(),
            "mqtt.listen_plain = {address} is not on loopback: without TLS tokens can be read on the way; use mqtt.listen_tls"
        );
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("mqtt.listen_plain = {address} cannot be bound"))?;
        doors.push(Door { listener, tls: None });
    }
    Ok(doors)
}

impl Door {
    /// Whether it is the one with TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Takes connections until the hub stops; their links go to `links`.
    pub async fn open(self, hub: App, links: mpsc::Sender<Link>) {
        let places = Places::new(CONNECTIONS);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = hub.stopped() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no MQTT connection can be taken");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            // Behind a proxy on this machine all come from loopback.
            let address = Some(party(remote.ip())).filter(|address| !address.is_loopback());
            let Ok(place) = places.take(address) else {
                hub.counters.add(Metric::ConnectionsRefused, 1);
                if hub.complaints.take(remote.ip(), hub.clock.mono_ns()).is_ok() {
                    tracing::warn!(%remote, "MQTT connection closed: as many as there may be");
                }
                continue;
            };
            let (hub, links, tls) = (Arc::clone(&hub), links.clone(), self.tls.clone());
            connections.spawn(async move { connection(hub, stream, remote, tls, links, place).await });
        }
        while connections.join_next().await.is_some() {}
    }
}

async fn connection(
    hub: App,
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
    links: mpsc::Sender<Link>,
    _place: Place<IpAddr>,
) {
    // Acks are small and waited for; without it the system gathers them.
    let _refused = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return report(&hub, remote, &serve(&hub, stream, remote, None, &links).await);
    };
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(&hub, remote, &error.to_string()),
        Err(_) => return failed(&hub, remote, "it took too long"),
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certified = match leaf.map(|leaf| (agent_id_of(leaf), cert_public_key_sha256(leaf))) {
        None => None,
        Some((Ok(agent), Ok(key))) => Some(Peer { agent, proof: Proof::Key(key) }),
        Some((Err(error), _) | (_, Err(error))) => return failed(&hub, remote, &error.to_string()),
    };
    report(&hub, remote, &serve(&hub, stream, remote, certified, &links).await);
}

fn failed(hub: &App, remote: SocketAddr, error: &str) {
    hub.counters.add(Metric::HandshakesFailed, 1);
    tracing::debug!(%remote, error, "TLS handshake failed");
}

fn report(hub: &App, remote: SocketAddr, ended: &Ended) {
    match ended {
        Ended::Refused(_) | Ended::Protocol(_)
            if hub.complaints.take(remote.ip(), hub.clock.mono_ns()).is_ok() =>
        {
            tracing::warn!(%remote, reason = %ended, "MQTT client refused");
        }
        _ => tracing::debug!(%remote, reason = %ended, "MQTT connection ended"),
    }
}
