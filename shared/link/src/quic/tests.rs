//! Both ends over real UDP on loopback: who gets in, who does not, and what carries frames.

use std::net::Ipv4Addr;

use tideline_protocol::model::{AgentId, Epoch, RowCounts, Seq};
use tideline_protocol::time::{Clock, ManualClock, NS_PER_MS, SystemClock};
use tideline_protocol::wire::{Frame, Lane, Message, Ping, Run, RunEnvelope, WireError, encode};

mod moves;

use super::*;
use crate::identity::{AGENT_CERT_DAYS, AgentKey, CertificateAuthority, KeyAndCert};
use crate::tls::{FloorTime, client_config, pinned_client_config, server_config};

const PATIENCE: Duration = Duration::from_secs(20);
const YEAR_S: i64 = 365 * 24 * 3600;

fn now_s() -> i64 {
    SystemClock::default().wall_ns() / (1000 * NS_PER_MS)
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("test hub", now_s() - 3 * YEAR_S).unwrap()
}

fn system_time() -> FloorTime {
    FloorTime::new(Arc::new(SystemClock::default()), 0)
}

fn agent_of(authority: &CertificateAuthority, id: &str, now_s: i64) -> KeyAndCert {
    let id = AgentId::parse(id).unwrap();
    let key = AgentKey::generate().unwrap();
    let chain_pem = authority.issue_agent(&key.csr_pem(&id).unwrap(), &id, now_s, AGENT_CERT_DAYS).unwrap();
    KeyAndCert { key_pem: key.key_pem(), chain_pem, ca_pem: authority.cert_pem().to_owned() }
}

fn hub_at(authority: &CertificateAuthority, now_s: i64) -> (ServerEndpoint, SocketAddr) {
    let own = authority.issue_server(&["localhost".into()], now_s).unwrap();
    let tls = server_config(&own, authority.cert_pem(), true, &[ALPN]).unwrap();
    let hub = ServerEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), tls).unwrap();
    let addr = hub.local_addr().unwrap();
    (hub, addr)
}

fn hub(authority: &CertificateAuthority) -> (ServerEndpoint, SocketAddr) {
    hub_at(authority, now_s())
}

fn client() -> ClientEndpoint {
    ClientEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

fn tls_of(agent: &KeyAndCert, time: FloorTime) -> rustls::ClientConfig {
    client_config(agent, &agent.ca_pem, time, &[ALPN]).unwrap()
}

fn ping(corr: u64) -> Frame {
    Frame { corr, trace: None, message: Message::Ping(Ping { mono_ns: corr, next_ms: 3_000 }) }
}

/// The hub's end of the next link.
async fn next_link(hub: &ServerEndpoint) -> Result<Link, LinkError> {
    hub.accept().await.unwrap().finish(PATIENCE).await
}

/// Connects, sends one frame and says how that ended at either end.
async fn meet(
    hub: &ServerEndpoint,
    addr: SocketAddr,
    client: &ClientEndpoint,
    tls: rustls::ClientConfig,
) -> (Result<Link, LinkError>, Result<Option<Frame>, LinkError>) {
    let agent = async {
        let (mut sender, mut receiver) = client.connect(addr, "localhost", tls, PATIENCE).await?.split();
        sender.send(&ping(1)).await?;
        receiver.recv().await
    };
    tokio::join!(next_link(hub), agent)
}

/// A working link of `pump-7`: its own end and the hub's, which has read the first frame.
async fn pair(
    hub: &ServerEndpoint,
    addr: SocketAddr,
    client: &ClientEndpoint,
    tls: rustls::ClientConfig,
) -> [Halves; 2] {
    let agent = async {
        let link = client.connect(addr, "localhost", tls, PATIENCE).await.unwrap();
        assert_eq!(link.peer_agent(), None);
        let handle = link.handle();
        let (mut sender, receiver) = link.split();
        sender.send(&ping(1)).await.unwrap();
        (sender, receiver, handle)
    };
    let (near, far) = tokio::join!(agent, next_link(hub));
    let far = far.unwrap();
    assert_eq!(far.peer_agent().map(AgentId::as_str), Some("pump-7"));
    let far_handle = far.handle();
    let (far_sender, mut far_receiver) = far.split();
    assert_eq!(far_receiver.recv().await, Ok(Some(ping(1))));
    [near, (far_sender, far_receiver, far_handle)]
}

type Halves = (FrameSender, FrameReceiver, LinkHandle);

#[tokio::test]
async fn an_agent_of_the_hub_exchanges_frames_both_ways() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, mut receiver, handle), (mut far_sender, mut far_receiver, _)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    let uplink = async {
        for corr in 2..500 {
            sender.send(&ping(corr)).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let downlink = async {
        let mut corr = 2;
        while let Some(frame) = far_receiver.recv().await.unwrap() {
            assert_eq!(frame, ping(corr));
            far_sender.send(&frame).await.unwrap();
            corr += 1;
        }
        far_sender.finish().await.unwrap();
        corr
    };
    let echo = async {
        let mut seen = 0;
        while receiver.recv().await.unwrap().is_some() {
            seen += 1;
        }
        seen
    };
    let ((), corr, seen) = tokio::join!(uplink, downlink, echo);
    assert_eq!((corr, seen), (500, 498));
    let stats = handle.stats();
    assert!(stats.rtt_us > 0 && stats.sent_bytes > 498 * 24 && stats.recv_bytes > 498 * 24, "{stats:?}");
}

#[tokio::test]
async fn an_agent_of_another_authority_is_refused() {
    let (ours, other) = (authority(), authority());
    let (hub, addr) = hub(&ours);
    let stranger = KeyAndCert { ca_pem: ours.cert_pem().to_owned(), ..agent_of(&other, "pump-7", now_s()) };
    let (at_hub, at_agent) = meet(&hub, addr, &client(), tls_of(&stranger, system_time())).await;
    assert!(matches!(at_hub, Err(LinkError::PeerCertificate { .. })), "{at_hub:?}");
    assert!(matches!(at_agent, Err(LinkError::OwnCertificate { .. })), "{at_agent:?}");
}

#[tokio::test]
async fn an_expired_agent_and_one_without_certificate_are_refused() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let expired = agent_of(&authority, "pump-7", now_s() - 2 * YEAR_S);
    let (at_hub, at_agent) = meet(&hub, addr, &client(), tls_of(&expired, system_time())).await;
    assert!(matches!(at_hub, Err(LinkError::PeerCertificate { .. })), "{at_hub:?}");
    assert!(matches!(at_agent, Err(LinkError::OwnCertificate { .. })), "{at_agent:?}");
    let mut bare = pinned_client_config(authority.fingerprint(), system_time()).unwrap();
    bare.alpn_protocols = vec![ALPN.into()];
    let (at_hub, at_agent) = meet(&hub, addr, &client(), bare).await;
    assert!(at_hub.is_err());
    assert!(matches!(at_agent, Err(LinkError::OwnCertificate { .. })), "{at_agent:?}");
}

#[tokio::test]
async fn a_server_certificate_lets_nobody_in_as_an_agent() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let server = authority.issue_server(&["localhost".into()], now_s()).unwrap();
    let (at_hub, at_agent) = meet(&hub, addr, &client(), tls_of(&server, system_time())).await;
    assert!(matches!(at_hub, Err(LinkError::PeerCertificate { .. })), "{at_hub:?}");
    assert!(at_agent.is_err());
}

#[tokio::test]
async fn a_hub_of_another_authority_is_refused() {
    let (ours, other) = (authority(), authority());
    let (hub, addr) = hub(&other);
    let agent = agent_of(&ours, "pump-7", now_s());
    let (at_hub, at_agent) = meet(&hub, addr, &client(), tls_of(&agent, system_time())).await;
    assert!(matches!(at_agent, Err(LinkError::PeerCertificate { .. })), "{at_agent:?}");
    assert!(matches!(at_hub, Err(LinkError::OwnCertificate { .. })), "{at_hub:?}");
}

#[tokio::test]
async fn a_hub_is_refused_under_another_name_and_after_expiry() {
    let authority = authority();
    let agent = agent_of(&authority, "pump-7", now_s());
    let client = client();
    let (current, addr) = hub(&authority);
    let wrong_name = client.connect(addr, "elsewhere", tls_of(&agent, system_time()), PATIENCE);
    let (_, refused) = tokio::join!(next_link(&current), wrong_name);
    assert!(matches!(refused, Err(LinkError::PeerCertificate { .. })), "{refused:?}");
    let (expired, addr) = hub_at(&authority, now_s() - 2 * YEAR_S);
    let (_, refused) = meet(&expired, addr, &client, tls_of(&agent, system_time())).await;
    let Err(LinkError::PeerCertificate { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn a_clock_floor_saves_a_device_that_boots_in_1970() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let agent = agent_of(&authority, "pump-7", now_s());
    let boot = || Arc::new(ManualClock::at(0));
    let (_, refused) = meet(&hub, addr, &client(), tls_of(&agent, FloorTime::new(boot(), 0))).await;
    assert!(matches!(refused, Err(LinkError::PeerCertificate { .. })), "{refused:?}");
    // A token of two years ago is enough, although the hub's certificate is newer.
    let floor = FloorTime::new(boot(), now_s() - 2 * YEAR_S);
    let _link = pair(&hub, addr, &client(), tls_of(&agent, floor)).await;
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_refused() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let agent = agent_of(&authority, "pump-7", now_s());
    let tls = client_config(&agent, &agent.ca_pem, system_time(), &["tideline/99"]).unwrap();
    let (at_hub, at_agent) = meet(&hub, addr, &client(), tls).await;
    assert!(at_hub.is_err());
    assert!(matches!(at_agent, Err(LinkError::Refused { .. })), "{at_agent:?}");
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_link_at_the_reader() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, _), (_far_sender, mut far_receiver, _)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    sender.send_bytes(bytes::Bytes::from(vec![0x55; 64])).await.unwrap();
    let found = far_receiver.recv().await;
    assert_eq!(found, Err(LinkError::Wire(WireError::Magic { found: [0x55; 2] })));
}

#[tokio::test]
async fn a_receive_that_was_broken_off_keeps_what_had_arrived() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, _), (_far_sender, mut far_receiver, far)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    let frame = bytes::Bytes::from(encode(&ping(2)));
    let before = far.stats().recv_bytes;
    sender.send_bytes(frame.slice(..10)).await.unwrap();
    // Many receives are begun and broken off until something, as a rule the half frame, came in.
    while far.stats().recv_bytes == before {
        tokio::select! {
            biased;
            got = far_receiver.recv() => panic!("{got:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    sender.send_bytes(frame.slice(10..)).await.unwrap();
    assert_eq!(far_receiver.recv().await, Ok(Some(ping(2))));
}

#[tokio::test]
async fn a_send_that_was_broken_off_goes_out_whole_with_the_next() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, _), (_far_sender, mut far_receiver, _)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    let mut begun = 1;
    // The hub does not read, so that a send must stop in the middle of a frame once the windows are full.
    let many = bytes::Bytes::from((0..1024).flat_map(|_| encode(&ping(7))).collect::<Vec<_>>());
    loop {
        begun += 1;
        tokio::select! {
            biased;
            sent = sender.send_bytes(many.clone()) => sent.unwrap(),
            () = tokio::task::yield_now() => break,
        }
    }
    let sending = async {
        sender.send(&ping(9)).await.unwrap();
        sender.finish().await.unwrap();
    };
    let reading = async {
        let (mut sevens, mut nines) = (0, 0);
        while let Some(frame) = far_receiver.recv().await.unwrap() {
            if frame == ping(7) { sevens += 1 } else { nines += 1 }
        }
        (sevens, nines)
    };
    let ((), counts) = tokio::join!(sending, reading);
    assert_eq!(counts, ((begun - 1) * 1024, 1));
}

#[tokio::test]
async fn a_close_tells_the_peer_why() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    for (code, expected) in [
        (CLOSE_DONE, LinkError::Closed),
        (42, LinkError::Refused { code: 42, reason: "device revoked".into() }),
    ] {
        let [(_sender, mut receiver, near), (_far_sender, _far_receiver, far)] =
            pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
        far.close(code, "device revoked");
        assert_eq!(receiver.recv().await, Err(expected.clone()));
        assert_eq!(near.closed().await, expected);
    }
}

#[tokio::test]
async fn nobody_listening_is_a_time_out_and_a_bad_address_unreachable() {
    let authority = authority();
    let agent = agent_of(&authority, "pump-7", now_s());
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tls = tls_of(&agent, system_time());
    let client = client();
    let short = Duration::from_millis(50);
    let found = client.connect(silent.local_addr().unwrap(), "localhost", tls.clone(), short).await;
    assert!(matches!(found, Err(LinkError::TimedOut)), "{found:?}");
    let found = client.connect((Ipv4Addr::LOCALHOST, 0).into(), "localhost", tls, short).await;
    assert!(matches!(found, Err(LinkError::Unreachable { .. })), "{found:?}");
    assert!(resolve("127.0.0.1:4433", PATIENCE).await.is_ok());
    let found = resolve("no port", PATIENCE).await;
    assert!(matches!(found, Err(LinkError::Unreachable { .. })), "{found:?}");
}

fn run(lane: Lane, seq: u64, bytes: usize) -> Frame {
    let envelope = RunEnvelope {
        epoch: Epoch::from_bytes([7; 16]),
        lane,
        first: Seq::new(seq),
        rows: RowCounts::one(1),
        series_end: 1,
        restamps: vec![],
    };
    Message::Run(Run { envelope, block: vec![0; bytes] }).into()
}

#[tokio::test]
async fn backfill_that_is_not_read_holds_up_neither_its_sender_nor_a_live_frame() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, _), (_far_sender, mut far_receiver, _)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    // Twice what the stream of the backfill takes unread.
    let old = run(Lane::Backfill, 1, STREAM_WINDOW_BYTES_MAX as usize / 4);
    for _ in 0..8 {
        sender.send(&old).await.unwrap();
    }
    let live = run(Lane::Live, 2, 100);
    sender.send(&live).await.unwrap();
    // Read as a hub does that works on one frame at a time: the live one is not behind all eight.
    let mut before = 0;
    while far_receiver.recv().await.unwrap().unwrap() != live {
        before += 1;
    }
    assert!(before < 8, "all of the backfill came first");
    for _ in before..8 {
        assert_eq!(far_receiver.recv().await, Ok(Some(old.clone())));
    }
}

#[tokio::test]
async fn a_link_that_is_finished_has_delivered_the_frames_of_both_streams() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    for backfill in [0, 1, 50] {
        let [(mut sender, _receiver, _), (_far_sender, mut far_receiver, _)] =
            pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
        let sending = async {
            for seq in 1..=backfill {
                sender.send(&run(Lane::Backfill, seq, 10_000)).await.unwrap();
                sender.send(&ping(seq)).await.unwrap();
            }
            sender.finish().await.unwrap();
            sender.finish().await.unwrap();
        };
        let reading = async {
            let (mut runs, mut pings) = (Vec::new(), Vec::new());
            while let Some(frame) = far_receiver.recv().await.unwrap() {
                match frame.message {
                    Message::Run(run) => runs.push(run.envelope.first.get()),
                    _ => pings.push(frame.corr),
                }
            }
            (runs, pings)
        };
        let ((), (runs, pings)) = tokio::join!(sending, reading);
        let all: Vec<u64> = (1..=backfill).collect();
        assert_eq!((runs, pings), (all.clone(), all), "each stream keeps its order");
        // Nothing follows a finish on either stream.
        assert!(sender.send(&run(Lane::Backfill, 1, 10)).await.is_err());
        assert!(sender.send(&ping(1)).await.is_err());
    }
}

#[tokio::test]
async fn backfill_on_a_link_that_is_gone_is_an_error() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, near), (_far_sender, _far_receiver, far)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    sender.send(&run(Lane::Backfill, 1, 10)).await.unwrap();
    far.close(42, "device revoked");
    near.closed().await;
    let refused = LinkError::Refused { code: 42, reason: "device revoked".into() };
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = sender.send(&run(Lane::Backfill, 2, 10)).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(ended.await.unwrap(), refused);
    assert_eq!(sender.finish().await, Err(refused));
}

#[tokio::test]
async fn a_hub_that_was_killed_and_comes_back_tells_that_its_links_are_gone() {
    let authority = authority();
    let own = authority.issue_server(&["localhost".into()], now_s()).unwrap();
    let tls = server_config(&own, authority.cert_pem(), true, &[ALPN]).unwrap();
    let secret = authority.secret("quic");
    let bind = |addr| ServerEndpoint::bind_known(addr, tls.clone(), &LinkOptions::default(), &secret);
    // Its own runtime, which ends without a word to anybody.
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (addr, knocked) = {
        let _inside = killed.enter();
        let hub = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (said, knocked) = tokio::sync::oneshot::channel();
        let addr = hub.local_addr().unwrap();
        killed.spawn(async move {
            let (sender, mut receiver) = next_link(&hub).await.unwrap().split();
            receiver.recv().await.unwrap();
            said.send(()).unwrap();
            std::future::pending::<()>().await;
            drop((hub, sender));
        });
        (addr, knocked)
    };
    let agent = agent_of(&authority, "pump-7", now_s());
    let link = client().connect(addr, "localhost", tls_of(&agent, system_time()), PATIENCE).await.unwrap();
    let near = link.handle();
    let (mut sender, _receiver) = link.split();
    sender.send(&ping(1)).await.unwrap();
    knocked.await.unwrap();
    killed.shutdown_background();
    let back = loop {
        match bind(addr) {
            Ok(hub) => break hub,
            // The old socket is not closed yet.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    sender.send(&ping(2)).await.unwrap();
    let found = near.closed().await;
    assert!(matches!(&found, LinkError::Lost { reason } if reason.contains("reset")), "{found:?}");
    drop(back);
}
