//! Topics and addresses; links through a relay of datagrams that loses, doubles and forges them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Frame, Message, Ping};
use tokio::sync::mpsc;

use super::tunnel::{Carrier, DATAGRAM_BYTES_MAX, address_of, tunnel};
use super::*;
use crate::identity::{AGENT_CERT_DAYS, AgentKey, CertificateAuthority, KeyAndCert};
use crate::quic::{ALPN as QUIC_ALPN, ClientEndpoint, Link, LinkError, LinkOptions, ServerEndpoint};
use crate::tls::{FloorTime, client_config, server_config};

const PATIENCE: Duration = Duration::from_secs(20);

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

#[test]
fn topics_are_below_the_agents_prefix_and_nobody_elses() {
    let pump = agent("pump-7");
    for topic in [up(&pump), down(&pump), sealed_up(&pump), sealed_down(&pump)] {
        assert!(topic.starts_with(&prefix(&pump)), "{topic}");
        assert!(!topic.starts_with(&prefix(&agent("pump"))), "{topic}");
    }
    assert_eq!(agent_of_sealed_up(&sealed_up(&pump)), Some(pump.clone()));
    for other in [up(&pump), sealed_down(&pump), "tideline/v1/a/b/sealed/up".into(), "x".into()] {
        assert_eq!(agent_of_sealed_up(&other), None, "{other}");
    }
    assert_eq!(SEALED_UP_OF_ALL, sealed_up(&pump).replace("pump-7", "+"));
    assert_ne!(address_of(&pump), address_of(&agent("pump-8")));
}

#[test]
fn a_brokers_url_is_read_whole_and_shown_without_its_password() {
    for (text, shown, secure) in [
        ("mqtt://broker.example", "mqtt://broker.example:1883", false),
        ("mqtts://broker.example/", "mqtts://broker.example:8883", true),
        ("mqtts://ann:s3cr@t@10.0.0.1:99", "mqtts://ann@10.0.0.1:99", true),
        ("mqtt://[::1]:1884", "mqtt://[::1]:1884", false),
        ("mqtt://[::1]", "mqtt://[::1]:1883", false),
    ] {
        let url: BrokerUrl = text.parse().unwrap();
        assert_eq!(
            (url.to_string(), format!("{url:?}"), url.is_secure()),
            (shown.into(), shown.into(), secure)
        );
    }
    for bad in
        ["broker.example", "http://a", "mqtt://", "mqtt://a:0", "mqtt://a:b", "mqtt://a/b", "mqtt://::1"]
    {
        assert_eq!(bad.parse::<BrokerUrl>(), Err(BrokerUrlError), "{bad}");
    }
}

struct Site {
    authority: CertificateAuthority,
    hub: ServerEndpoint,
    carrier: Carrier,
}

fn now_s() -> i64 {
    SystemClock::default().wall_ns() / 1_000_000_000
}

fn site() -> Site {
    let authority = CertificateAuthority::create("test hub", now_s()).unwrap();
    let own = authority.issue_server(&["localhost".into()], now_s()).unwrap();
    let tls = server_config(&own, authority.cert_pem(), true, &[QUIC_ALPN]).unwrap();
    let (socket, carrier) = tunnel(address_of(&agent("hub")));
    let hub = ServerEndpoint::over(socket, tls, &LinkOptions::default(), DATAGRAM_BYTES_MAX).unwrap();
    Site { authority, hub, carrier }
}

fn identity(authority: &CertificateAuthority, id: &str) -> KeyAndCert {
    let (id, key) = (agent(id), AgentKey::generate().unwrap());
    let csr = key.csr_pem(&id).unwrap();
    let chain_pem = authority.issue_agent(&csr, &id, now_s(), AGENT_CERT_DAYS).unwrap();
    KeyAndCert { key_pem: key.key_pem(), chain_pem, ca_pem: authority.cert_pem().to_owned() }
}

/// An agent's endpoint, with the other end of its socket.
fn endpoint(id: &str) -> (ClientEndpoint, Carrier) {
    let (socket, carrier) = tunnel(address_of(&agent(id)));
    (ClientEndpoint::over(socket, &LinkOptions::default(), DATAGRAM_BYTES_MAX).unwrap(), carrier)
}

async fn connect(endpoint: &ClientEndpoint, own: &KeyAndCert) -> Result<Link, LinkError> {
    let floor = FloorTime::new(Arc::new(SystemClock::default()), 0);
    let tls = client_config(own, &own.ca_pem, floor, &[QUIC_ALPN]).unwrap();
    endpoint.connect(address_of(&agent("hub")), "localhost", tls, PATIENCE).await
}

/// What a broker does with one payload: the payloads that it passes on, with the agent whose topic each
/// is then on.
type Broker = Box<dyn FnMut(SocketAddr, Bytes) -> Vec<(SocketAddr, Bytes)> + Send>;

/// Carries datagrams between a hub and agents. `broker` sees those to the hub.
fn carry(mut hub: Carrier, agents: Vec<(&str, Carrier)>, mut broker: Broker) {
    let (inbox, mut arriving) = mpsc::channel::<(SocketAddr, Bytes)>(64);
    let mut outboxes: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    for (id, mut carrier) in agents {
        let (outbox, mut to_agent) = mpsc::channel(64);
        let at = address_of(&agent(id));
        outboxes.insert(at, outbox);
        let inbox = inbox.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(bytes) = to_agent.recv() => {
                        carrier.arrive(address_of(&agent("hub")), bytes);
                    }
                    datagram = carrier.departing() => match datagram {
                        Some(datagram) => inbox.send((at, datagram.bytes)).await.unwrap_or(()),
                        None => return,
                    },
                }
            }
        });
    }
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some((from, bytes)) = arriving.recv() => {
                    for (from, bytes) in broker(from, bytes) {
                        hub.arrive(from, bytes);
                    }
                }
                datagram = hub.departing() => match datagram {
                    Some(datagram) => match outboxes.get(&datagram.peer) {
                        Some(outbox) => outbox.send(datagram.bytes).await.unwrap_or(()),
                        None => continue,
                    },
                    None => return,
                },
            }
        }
    });
}

fn ping(corr: u64) -> Frame {
    Frame { corr, trace: None, message: Message::Ping(Ping { mono_ns: corr, next_ms: 0 }) }
}

/// Sends `count` frames, which must all arrive in order, once, and as the agent's own.
async fn converse(hub: &ServerEndpoint, endpoint: &ClientEndpoint, own: &KeyAndCert, id: &str, count: u64) {
    let near = async {
        let (mut sender, mut receiver) = connect(endpoint, own).await.unwrap().split();
        for corr in 0..count {
            sender.send(&ping(corr)).await.unwrap();
        }
        sender.finish().await.unwrap();
        assert_eq!(receiver.recv().await, Ok(Some(ping(count))));
    };
    let far = async {
        // Whoever else knocks has nothing to say.
        let link = loop {
            if let Ok(link) = hub.accept().await.unwrap().finish(PATIENCE).await {
                break link;
            }
        };
        assert_eq!(link.peer_agent(), Some(&agent(id)));
        assert_eq!(link.handle().remote_addr(), address_of(&agent(id)));
        let (mut sender, mut receiver) = link.split();
        for corr in 0..count {
            assert_eq!(receiver.recv().await, Ok(Some(ping(corr))));
        }
        assert_eq!(receiver.recv().await, Ok(None));
        sender.send(&ping(count)).await.unwrap();
        sender.finish().await.unwrap();
    };
    tokio::time::timeout(PATIENCE * 2, async { tokio::join!(near, far) }).await.expect("it must not stall");
}

#[tokio::test]
async fn sealed_frames_arrive_once_whatever_a_broker_replays_loses_or_makes_up() {
    let Site { authority, hub, carrier } = site();
    let own = identity(&authority, "pump-7");
    let (endpoint, near) = endpoint("pump-7");
    let mut seen: Vec<Bytes> = Vec::new();
    let mut n = 0_usize;
    let broker = move |from: SocketAddr, bytes: Bytes| {
        n += 1;
        seen.push(bytes.clone());
        let mut flipped = bytes.to_vec();
        let at = n % flipped.len();
        flipped[at] ^= 0x40;
        let mut out = vec![
            // What was sent long ago, by this agent or on another agent's topic.
            (from, seen[n * 7 % seen.len()].clone()),
            (address_of(&agent("eve")), seen[n * 3 % seen.len()].clone()),
            (from, Bytes::from(flipped)),
            (from, Bytes::from_static(b"hello? is this thing on?")),
            (from, Bytes::from(vec![0x40 | u8::try_from(n % 0x40).unwrap(); 1200])),
        ];
        if n % 11 != 10 {
            out.push((from, bytes.clone()));
            out.push((from, bytes));
        }
        out
    };
    carry(carrier, vec![("pump-7", near)], Box::new(broker));
    converse(&hub, &endpoint, &own, "pump-7", 2000).await;
}

#[tokio::test]
async fn nothing_that_passes_a_broker_can_be_read() {
    let Site { authority, hub, carrier } = site();
    let own = identity(&authority, "pump-7");
    let (endpoint, near) = endpoint("pump-7");
    let (tap, mut tapped) = mpsc::unbounded_channel();
    let broker = move |from, bytes: Bytes| {
        tap.send(bytes.clone()).unwrap();
        vec![(from, bytes)]
    };
    carry(carrier, vec![("pump-7", near)], Box::new(broker));
    converse(&hub, &endpoint, &own, "pump-7", 50).await;
    let mut all = Vec::new();
    while let Ok(bytes) = tapped.try_recv() {
        all.extend_from_slice(&bytes);
    }
    let has = |needle: &[u8]| all.windows(needle.len()).any(|window| window == needle);
    assert!(all.len() > 50 * 20);
    // The frames' magic with version and kind of a ping, and who the agent is.
    assert!(!has(b"TL\x01\x08\x00\x00") && !has(b"pump-7"));
}

#[tokio::test]
async fn one_agent_cannot_speak_on_the_topic_of_another() {
    let Site { authority, hub, carrier } = site();
    let eve = identity(&authority, "eve");
    let (endpoint, near) = endpoint("eve");
    // Eve publishes on the topic of pump-7, and reads its answers there.
    let broker = |_, bytes| vec![(address_of(&agent("pump-7")), bytes)];
    carry(carrier, vec![("pump-7", near)], Box::new(broker));
    let near = async {
        let (mut sender, mut receiver) = connect(&endpoint, &eve).await?.split();
        sender.send(&ping(1)).await?;
        receiver.recv().await
    };
    let far = async {
        let link = hub.accept().await.unwrap().finish(PATIENCE).await.unwrap();
        // She is known for what she is, and not by the topic.
        assert_eq!(link.peer_agent(), Some(&agent("eve")));
        assert_ne!(link.peer_agent().map(address_of), Some(link.handle().remote_addr()));
        link.close(crate::link::CLOSE_IDENTITY, "this topic is another agent's");
    };
    let met = async { tokio::join!(near, far) };
    let (found, ()) = tokio::time::timeout(PATIENCE * 2, met).await.expect("it must not stall");
    assert!(matches!(found, Err(LinkError::Refused { code: 1, .. })), "{found:?}");
}

#[tokio::test]
async fn a_broker_that_is_lost_ends_the_link_at_once() {
    let Site { authority, hub, carrier } = site();
    let own = identity(&authority, "pump-7");
    let (endpoint, mut near) = endpoint("pump-7");
    let (stop, mut stopped) = mpsc::channel::<()>(1);
    let (up, mut arriving) = mpsc::channel::<Bytes>(64);
    let mut carrier = carrier;
    let (down, mut to_agent) = mpsc::channel::<Bytes>(64);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = stopped.recv() => return,
                Some(datagram) = near.departing() => up.send(datagram.bytes).await.unwrap_or(()),
                Some(bytes) = to_agent.recv() => { near.arrive(address_of(&agent("hub")), bytes); }
            }
        }
    });
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(bytes) = arriving.recv() => { carrier.arrive(address_of(&agent("pump-7")), bytes); }
                datagram = carrier.departing() => match datagram {
                    Some(datagram) => down.send(datagram.bytes).await.unwrap_or(()),
                    None => return,
                },
            }
        }
    });
    let near = async {
        let link = connect(&endpoint, &own).await.unwrap();
        let handle = link.handle();
        let (mut sender, receiver) = link.split();
        sender.send(&ping(1)).await.unwrap();
        (sender, receiver, handle)
    };
    let far = async { hub.accept().await.unwrap().finish(PATIENCE).await.unwrap().split() };
    let ((_sender, mut receiver, handle), (_far_sender, mut far_receiver)) = tokio::join!(near, far);
    assert_eq!(far_receiver.recv().await, Ok(Some(ping(1))));
    stop.send(()).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, receiver.recv()).await.expect("at once").unwrap_err();
    assert!(matches!(error, LinkError::Lost { .. }), "{error:?}");
    assert_eq!(handle.closed().await, error);
}
