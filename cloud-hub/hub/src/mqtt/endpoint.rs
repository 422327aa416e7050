//! The MQTT endpoint's doors: TLS, and plain for programs on the same machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tideline_link::identity::{KeyAndCert, PeerCertificate, agent_id_of};
use tideline_link::link::Link;
use tideline_link::link::line::{Peer, Proof};
use tideline_link::mqtt::ALPN;
use tideline_link::tls::{self, server_config_for};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{Clients, Ended, Entry, serve};
use crate::bucket::party;
use crate::descriptors::Descriptors;
use crate::hub::App;
use crate::places::{Limits, Places};
use crate::telemetry::Metric;

/// Longest TLS handshake: three round trips, also of a bad radio.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Most connections of one client: its own, one that it opens beside it to compare the ways, and two
/// that it has left and the hub still waits for.
const CLIENT_CONNECTIONS_MAX: usize = 4;
/// How long a door rests after an accept that failed, as when no descriptor is left.
const REST: Duration = Duration::from_millis(100);

/// A bound door.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Places<IpAddr>,
    // The part of them that has not said who it is.
    strangers: Places<IpAddr>,
    // Of both doors.
    clients: Clients,
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
    descriptors: Descriptors,
) -> Result<Vec<Door>> {
    let each = CLIENT_CONNECTIONS_MAX;
    let clients = Arc::new(Places::new(Limits { all: 2 * descriptors.mqtt().all, each }));
    let door = |listener, tls| Door {
        listener,
        tls,
        connections: Places::new(descriptors.mqtt()),
        strangers: Places::new(descriptors.mqtt_strangers()),
        clients: Arc::clone(&clients),
    };
    let mut doors = Vec::new();
    if let Some(address) = tls {
        let config = server_config_for(own, &own.ca_pem, tls::Clients::CertifiedOrAny, &[ALPN])?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("mqtt.listen_tls = {address} cannot be bound"))?;
        doors.push(door(listener, Some(TlsAcceptor::from(Arc::new(config)))));
    }
    if let Some(address) = plain {
        ensure!(
            address.ip().is_loopback(),
            "mqtt.listen_plain = {address} is not on loopback: without TLS tokens can be read on the way; use mqtt.listen_tls"
        );
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("mqtt.listen_plain = {address} cannot be bound"))?;
        doors.push(door(listener, None));
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
            let places =
                self.connections.take(address).and_then(|own| Ok((own, self.strangers.take(address)?)));
            let Ok((place, stranger)) = places else {
                hub.counters.add(Metric::ConnectionsRefused, 1);
                if hub.complaints.take(remote.ip(), hub.clock.mono_ns()).is_ok() {
                    tracing::warn!(%remote, "MQTT connection closed: as many as there may be");
                }
                continue;
            };
            let entry = Entry { remote, stranger, clients: Arc::clone(&self.clients) };
            let (hub, links, tls) = (Arc::clone(&hub), links.clone(), self.tls.clone());
            connections.spawn(async move {
                connection(hub, stream, tls, links, entry).await;
                drop(place);
            });
        }
        while connections.join_next().await.is_some() {}
    }
}

async fn connection(
    hub: App,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    links: mpsc::Sender<Link>,
    entry: Entry,
) {
    let remote = entry.remote;
    // Acks are small and waited for; without it the system gathers them.
    let _refused = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return report(&hub, remote, &serve(&hub, stream, entry, None, &links).await);
    };
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(&hub, remote, &error.to_string()),
        Err(_) => return failed(&hub, remote, "it took too long"),
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certified = match leaf.map(|leaf| (agent_id_of(leaf), PeerCertificate::of(leaf))) {
        None => None,
        Some((Ok(agent), Ok(shown))) => Some(Peer { agent, proof: Proof::Certificate(shown) }),
        Some((Err(error), _) | (_, Err(error))) => return failed(&hub, remote, &error.to_string()),
    };
    report(&hub, remote, &serve(&hub, stream, entry, certified, &links).await);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::api::tests::hub_in;
    use crate::metadata::{DeviceRecord, DeviceTokenRecord};
    use crate::secret;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Opens the plain door of a hub that may have so many files open.
    async fn open(hub: &App, most: usize) -> SocketAddr {
        let now_s = hub.clock.wall_ns() / 1_000_000_000;
        let own = hub.authority.issue_server(&["localhost".to_owned()], now_s).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut doors = listen(None, Some(any), &own, Descriptors::of(most)).await.unwrap();
        let door = doors.remove(0);
        let at = door.local_addr().unwrap();
        tokio::spawn(door.open(Arc::clone(hub), mpsc::channel(1).0));
        at
    }

    fn registered(hub: &App, device: &str) {
        let own = DeviceRecord::behind(device.to_owned(), 0);
        hub.metadata.put(device, &own).unwrap();
        let secret_hash = secret::sha256_hex(b"secret");
        let token = DeviceTokenRecord { device: device.to_owned(), secret_hash, created_ms: 0 };
        hub.metadata.put(device, &token).unwrap();
    }

    /// A connect of MQTT 3.1.1, and the code that answers it; none when there was no place.
    async fn greet(at: SocketAddr, device: &str) -> Option<(TcpStream, u8)> {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0, 30];
        for text in ["", device, &format!("tld_{device}_secret")] {
            body.extend([0, u8::try_from(text.len()).unwrap()]);
            body.extend(text.as_bytes());
        }
        let packet = [vec![0x10, u8::try_from(body.len()).unwrap()], body].concat();
        let mut answer = [0; 4];
        let asked = async {
            stream.write_all(&packet).await?;
            stream.read_exact(&mut answer).await
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap().ok()?;
        Some((stream, answer[3]))
    }

    async fn let_in(at: SocketAddr, device: &str) -> TcpStream {
        let tried = async {
            loop {
                if let Some((stream, 0)) = greet(at, device).await {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, tried).await.unwrap()
    }

    #[tokio::test]
    async fn few_may_stay_unknown_and_each_client_has_few_connections() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub_in(dir.path(), crate::config::Config::default());
        ["a", "b"].into_iter().for_each(|device| registered(&hub, device));
        let at = open(&hub, 256).await;
        let mut closed = JoinSet::new();
        for _ in 0..40 {
            let mut silent = TcpStream::connect(at).await.unwrap();
            closed.spawn(async move { silent.read(&mut [0; 8]).await.is_ok_and(|count| count > 0) });
        }
        let surplus = async {
            for _ in 0..36 {
                assert!(!closed.join_next().await.unwrap().unwrap(), "a silent client was answered");
            }
        };
        tokio::time::timeout(PATIENCE, surplus).await.unwrap();
        closed.abort_all();
        // Four that are known take no place of those that are not, and then the client has all of its own.
        let mut own = Vec::new();
        for _ in 0..CLIENT_CONNECTIONS_MAX {
            own.push(let_in(at, "a").await);
        }
        let (_refused, code) = greet(at, "a").await.unwrap();
        assert_eq!(code, 3, "not the answer for a busy server");
        let _other = let_in(at, "b").await;
        drop(own.pop());
        let _again = let_in(at, "a").await;
    }
}
