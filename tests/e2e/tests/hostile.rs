//! What a hostile or broken peer does to a real hub: each costs itself one session or one connection,
//! and everybody else goes on.

use std::future::Future;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tideline_e2e::{Agent, Hub, enroll, http, until};
use tideline_link::identity::{AGENT_CERT_DAYS, AgentKey, CertificateAuthority, KeyAndCert};
use tideline_link::quic::{ALPN, ClientEndpoint, Link, LinkError};
use tideline_link::tls::{FloorTime, client_config, pinned_client_config};
use tideline_link::token::EnrollToken;
use tideline_protocol::model::{Account, AgentId, Epoch, Seq};
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_protocol::wire::{FRAME_BYTES_MAX, Frame, Hello, Message, Ping, VERSION, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "[http]\nlisten = \"\"\n[[source]]\nkind = \"host\"\ninterval_ms = 200\n";

/// The identity that enrolment left in an agent's folder.
fn identity(folder: &Path) -> Result<KeyAndCert> {
    let read =
        |name: &str| std::fs::read_to_string(folder.join("data").join(name)).with_context(|| name.to_owned());
    Ok(KeyAndCert { key_pem: read("key.pem")?, chain_pem: read("chain.pem")?, ca_pem: read("ca.pem")? })
}

async fn connect(hub: &Hub, identity: &KeyAndCert) -> Result<(ClientEndpoint, Link), LinkError> {
    let endpoint = ClientEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let floor = FloorTime::new(Arc::new(SystemClock::default()), 0);
    let tls = client_config(identity, &identity.ca_pem, floor, &[ALPN])
        .map_err(|error| LinkError::Local { reason: error.to_string() })?;
    let link = endpoint.connect(hub.quic(), "127.0.0.1", tls, PATIENCE).await?;
    Ok((endpoint, link))
}

fn hello(agent: &str) -> Result<Frame> {
    Ok(Frame::from(Message::Hello(Hello {
        versions: vec![VERSION],
        capabilities: Vec::new(),
        agent: AgentId::parse(agent)?,
        epoch: Epoch::from_bytes([9; 16]),
        boot: [0; 16],
        mono_ns: 0,
        wall_ns: 0,
        head: Seq::new(0),
        software: "test 1".to_owned(),
        account: Account::default(),
        lives: Vec::new(),
        moved: None,
    })))
}

/// Says hello, sends `bytes`, and gives the text of the refusal.
async fn refusal(hub: &Hub, identity: &KeyAndCert, agent: &str, bytes: Vec<u8>) -> Result<String> {
    let (_endpoint, link) = connect(hub, identity).await?;
    let (mut sender, mut receiver) = link.split();
    sender.send(&hello(agent)?).await?;
    sender.send_bytes(bytes.into()).await?;
    loop {
        let frame = tokio::time::timeout(PATIENCE, receiver.recv()).await.context("no answer")??;
        match frame.map(|frame| frame.message) {
            Some(Message::Refuse(refuse)) => return Ok(refuse.reason),
            Some(_) => {}
            None => bail!("the line ended without a refusal"),
        }
    }
}

/// Waits until more readings of the agent are stored than now.
async fn goes_on(hub: &Hub, device: &str) -> Result<()> {
    let stored = || async { anyhow::Ok(hub.ledger(device).await?.map_or(0, |ledger| ledger.stored)) };
    let before = stored().await?;
    until("more readings", PATIENCE, || async { anyhow::Ok((stored().await? > before).then_some(())) }).await
}

#[tokio::test]
async fn bytes_that_are_no_frame_get_a_clear_refusal_and_a_good_agent_goes_on() -> Result<()> {
    let mut hub = Hub::start().await?;
    let _good = Agent::start(&hub, "pump-1", HOST).await?;
    let folder = Agent::prepare(&hub, "rogue", "").await?;
    let identity = identity(&folder)?;
    let ping = encode(&Frame::from(Message::Ping(Ping { mono_ns: 1, next_ms: 3_000 })));
    let change = |at: usize, by: &[u8]| {
        let mut bytes = ping.clone();
        bytes.iter_mut().skip(at).zip(by).for_each(|(byte, new)| *byte = *new);
        bytes
    };
    let over = u32::try_from(FRAME_BYTES_MAX)? + 1;
    for (bytes, text) in [
        (change(8, &[0; 4]), "frame checksum is 0x00000000"),
        (change(5, over.to_be_bytes().get(1..).unwrap_or_default()), "allowed are 4194304"),
        (change(2, &[77]), "frame version 77 is unknown; this end speaks version 1"),
        (b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n".to_vec(), "not a tideline frame"),
    ] {
        let said = refusal(&hub, &identity, "rogue", bytes).await?;
        ensure!(said.contains(text), "{text:?} is not in {said:?}");
        ensure!(hub.log()?.contains(text), "{text:?} is not in the hub's log");
        hub.ready().await?;
        goes_on(&hub, "pump-1").await?;
    }
    let refused = "tideline_hub_sessions_refused_total 4\n";
    ensure!(hub.get("/metrics").await?.contains(refused), "{}", hub.get("/metrics").await?);
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_let_in_and_the_log_says_so() -> Result<()> {
    let mut hub = Hub::start().await?;
    let own = identity(&Agent::prepare(&hub, "pump-1", "").await?)?;
    let now_s = SystemClock::default().wall_ns() / 1_000_000_000;
    let other = CertificateAuthority::create("another hub", now_s)?;
    let (agent, key) = (AgentId::parse("pump-1")?, AgentKey::generate()?);
    let chain_pem = other.issue_agent(&key.csr_pem(&agent)?, &agent, now_s, AGENT_CERT_DAYS)?;
    let foreign = KeyAndCert { key_pem: key.key_pem(), chain_pem, ca_pem: own.ca_pem };
    // The handshake may seem to succeed at this end: the refusal shows with the first frame received.
    let ended = match connect(&hub, &foreign).await {
        Err(error) => error,
        Ok((_endpoint, link)) => {
            let (mut sender, mut receiver) = link.split();
            let _lost = sender.send(&hello("pump-1")?).await;
            match tokio::time::timeout(PATIENCE, receiver.recv()).await.context("no answer")? {
                Err(error) => error,
                Ok(frame) => bail!("a stranger was answered: {frame:?}"),
            }
        }
    };
    ensure!(matches!(ended, LinkError::OwnCertificate { .. }), "{ended}");
    until("the hub's log", PATIENCE, || async {
        Ok(hub.log()?.contains("is it enrolled with another hub").then_some(()))
    })
    .await?;
    hub.ready().await
}

#[tokio::test]
async fn a_stolen_key_does_not_come_back_with_its_old_token() -> Result<()> {
    let hub = Hub::start().await?;
    let stolen = hub.folder().join("stolen");
    let old = hub.enroll_token("pump-3", "1h").await?;
    enroll(&stolen, &old).await?.good()?;
    let mut agent = Agent::start(&hub, "pump-3", HOST).await?;
    // As after a lost answer: the key is there, the rest is asked for again.
    std::fs::remove_file(stolen.join("data/identity.toml"))?;
    let again = enroll(&stolen, &old).await?;
    ensure!(again.code == Some(1) && again.err.contains("token"), "{again:?}");
    agent.kill_and_restart().await?;
    goes_on(&hub, "pump-3").await
}

/// A connection that sends `bytes` and no more.
fn silent(at: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nonblocking(true)?;
    // A hub that has no place for it may have closed it already.
    let _gone = stream.write_all(bytes);
    Ok(stream)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn closed(all: &mut [TcpStream]) -> usize {
    all.iter_mut().filter_map(|stream| is_closed(stream).then_some(())).count()
}

/// Half a request header over TLS; resolves when the hub has closed the connection.
async fn half_a_header(hub: &Hub) -> Result<impl Future<Output = ()>> {
    let ca_sha256 = EnrollToken::parse(&hub.enroll_token("spare", "1h").await?)?.ca_sha256;
    let floor = FloorTime::new(Arc::new(SystemClock::default()), 0);
    let connector = TlsConnector::from(Arc::new(pinned_client_config(ca_sha256, floor)?));
    let tcp = tokio::net::TcpStream::connect(hub.https()).await?;
    let mut tls = connector.connect(ServerName::try_from("127.0.0.1")?, tcp).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: hub\r\nx-slow: ").await?;
    Ok(async move {
        let mut rest = Vec::new();
        // However it ends, it ends.
        let _end = tls.read_to_end(&mut rest).await;
    })
}

#[tokio::test]
async fn half_requests_are_closed_and_one_address_leaves_room_for_others() -> Result<()> {
    let mut hub = Hub::start_with_descriptors(400).await?;
    let slow = half_a_header(&hub).await?;
    // The first bytes of a handshake that does not go on.
    let mut tls: Vec<_> =
        (0..300).map(|_| silent(hub.https(), &[0x16, 3, 1, 2, 0, 1])).collect::<Result<_>>()?;
    let mut plain: Vec<_> = (0..60)
        .map(|_| silent(hub.http(), b"GET / HTTP/1.1\r\nhost: hub\r\nx-slow: "))
        .collect::<Result<_>>()?;
    // 127.0.0.1 takes all that it gets at the TLS door; 127.0.0.2 still gets in.
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    let other = socket.connect(hub.https()).await?;
    let many = |count: usize| async move { Ok((count >= 200).then_some(())) };
    until("the surplus to be closed", Duration::from_secs(5), || many(closed(&mut tls))).await?;
    ensure!(closed(&mut tls) < 300, "all were closed at once");
    match other.try_read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        answer => bail!("a single connection of another address was closed: {answer:?}"),
    }
    hub.command(&["device", "list"]).await?.good()?;
    let open = |count: usize| async move { Ok((count == 0).then_some(())) };
    until("all to be closed", PATIENCE, || open(360 - closed(&mut tls) - closed(&mut plain))).await?;
    tokio::time::timeout(PATIENCE, slow).await.context("half a header over TLS stays open")?;
    let answer = http::get(hub.http(), "/livez", None).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    hub.ready().await
}
