//! Sessions over real QUIC on loopback, against a hub without its listeners for people.

mod aside;
mod commands;
mod config;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tideline_link::identity::{AGENT_CERT_DAYS, AgentKey, CertificateAuthority, KeyAndCert};
use tideline_link::quic::{ALPN, ClientEndpoint, FrameReceiver, FrameSender, ServerEndpoint};
use tideline_link::tls::{FloorTime, client_config, server_config};
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::keep::{Keep, KeepRule, Rollups};
use tideline_protocol::lives::Life;
use tideline_protocol::model::{Account, DeviceId, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{
    DEVICES_ABILITY, Devices, Lane, Ping, Run, RunEnvelope, Settlement, VERSION, Welcome,
};
use tideline_store::{Store, StoreConfig};

mod twins;

use super::*;
use crate::config::Config;
use crate::fleet::Presence;
use crate::hub::{Addresses, Hub};
use crate::metadata::{AsideRecord, Metadata};
use crate::twins::{TWINS, Twins};

const PATIENCE: Duration = Duration::from_secs(20);
const EPOCH: Epoch = Epoch::from_bytes([3; 16]);

struct Bench {
    hub: App,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let now_s = clock.wall_ns() / 1_000_000_000;
        let metadata = Metadata::open(&dir.path().join("hub.redb")).unwrap();
        let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
        let (store, _) = Store::open(StoreConfig::new(dir.path().join("store")), Arc::clone(&clock)).unwrap();
        let authority = CertificateAuthority::create("test", now_s).unwrap();
        let server = authority.issue_server(&["localhost".to_owned()], now_s).unwrap();
        let tls = server_config(&server, authority.cert_pem(), true, &[ALPN]).unwrap();
        let endpoint = Arc::new(ServerEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), tls).unwrap());
        let address = endpoint.local_addr().unwrap();
        let addresses = Addresses::default();
        let hub = Hub::new(config, clock, metadata, twins, store, authority, addresses).unwrap();
        let (_links, arrived) = tokio::sync::mpsc::channel(1);
        tokio::spawn(accept(Arc::clone(&hub), endpoint, arrived));
        tokio::spawn(watch_refused(Arc::clone(&hub)));
        Self { hub, address, _dir: dir }
    }

    /// An enrolled agent's key and certificate.
    fn enrol(&self, id: &str) -> KeyAndCert {
        let agent = AgentId::parse(id).unwrap();
        let key = AgentKey::generate().unwrap();
        let csr = key.csr_pem(&agent).unwrap();
        let now_s = self.hub.now_ms() / 1000;
        let chain_pem = self.hub.authority.issue_agent(&csr, &agent, now_s, AGENT_CERT_DAYS).unwrap();
        let key_hash = hex(&tideline_link::identity::csr_public_key_sha256(&csr).unwrap());
        self.register(id, id, &key_hash);
        KeyAndCert { key_pem: key.key_pem(), chain_pem, ca_pem: self.hub.authority.cert_pem().to_owned() }
    }

    fn register(&self, id: &str, agent: &str, key_hash: &str) {
        let record =
            DeviceRecord { key_hash: key_hash.to_owned(), ..DeviceRecord::behind(agent.to_owned(), 1) };
        self.hub.metadata.put(id, &record).unwrap();
    }

    /// All series with how many readings they have, once what was acknowledged is decoded.
    fn counts(&self) -> Vec<(String, u64)> {
        self.hub.store.flush().unwrap();
        let all = self.hub.store.series(None);
        let mut counts: Vec<_> =
            all.iter().map(|series| (format!("{}/{}", series.device, series.point), series.count)).collect();
        counts.sort();
        counts
    }

    fn presence(&self, id: &str) -> Presence {
        self.hub.fleet.presence(&AgentId::parse(id).unwrap()).unwrap()
    }
}

/// The agent's end of a session.
struct Agent {
    sender: FrameSender,
    receiver: FrameReceiver,
    _endpoint: ClientEndpoint,
}

impl Agent {
    /// Connects and says hello.
    async fn connect(bench: &Bench, id: &str, identity: &KeyAndCert) -> Self {
        Self::connect_with(bench, identity, hello(id, Vec::new())).await
    }

    async fn connect_with(bench: &Bench, identity: &KeyAndCert, hello: Message) -> Self {
        let endpoint = ClientEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let floor = FloorTime::new(Arc::new(SystemClock::default()), 0);
        let tls = client_config(identity, &identity.ca_pem, floor, &[ALPN]).unwrap();
        let link = endpoint.connect(bench.address, "localhost", tls, PATIENCE).await.unwrap();
        let (sender, receiver) = link.split();
        let mut agent = Self { sender, receiver, _endpoint: endpoint };
        agent.send(hello).await;
        agent
    }

    async fn send(&mut self, message: Message) {
        self.sender.send(&Frame { corr: 0, trace: None, message }).await.unwrap();
    }

    async fn next(&mut self) -> Option<Message> {
        let frame = tokio::time::timeout(PATIENCE, self.receiver.recv()).await.expect("an answer in time");
        frame.ok().flatten().map(|frame| frame.message)
    }

    async fn welcome(&mut self) -> Welcome {
        match self.next().await {
            Some(Message::Welcome(welcome)) => welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    async fn refusal(&mut self) -> RefuseCode {
        self.refusal_text().await.0
    }

    async fn refusal_text(&mut self) -> (RefuseCode, String) {
        loop {
            match self.next().await {
                Some(Message::Refuse(refuse)) => return (refuse.code, refuse.reason),
                Some(_) => {}
                None => panic!("the line ended without a refusal"),
            }
        }
    }

    /// The acks until `enough` of their sum.
    async fn settled(&mut self, enough: impl Fn(&Settlement) -> bool) -> Settlement {
        let mut sum = Settlement::default();
        while !enough(&sum) {
            match self.next().await {
                Some(Message::Ack(ack)) => sum.merge(&ack.settled),
                other => panic!("no ack but {other:?}"),
            }
        }
        sum
    }
}

fn hello(id: &str, lives: Vec<Life>) -> Message {
    Message::Hello(Hello {
        versions: vec![VERSION],
        capabilities: Vec::new(),
        agent: AgentId::parse(id).unwrap(),
        epoch: EPOCH,
        boot: [0; 16],
        mono_ns: 0,
        wall_ns: 0,
        head: Seq::new(0),
        software: "test 1".to_owned(),
        account: Account::default(),
        lives,
        moved: None,
    })
}

fn defs(devices: &[&str]) -> Message {
    let def = |device: &&str| {
        SeriesDef::new(DeviceId::parse(device).unwrap(), PointId::parse("p").unwrap(), String::new())
    };
    Message::Series(Series { first: 0, defs: devices.iter().map(def).collect() })
}

fn run(seq: u64, block: Vec<u8>) -> Message {
    Message::Run(Run {
        envelope: RunEnvelope {
            epoch: EPOCH,
            lane: Lane::Live,
            first: Seq::new(seq),
            rows: RowCounts::one(1),
            series_end: 1,
            restamps: vec![],
        },
        block,
    })
}

fn block() -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    builder.push_batch(&[(0, &[Sample { time_ns: 5_000_000_000, value: 1.0 }])]);
    builder.finish().bytes
}

#[tokio::test]
async fn revoking_cuts_the_live_session_and_the_agent_does_not_get_back_in() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
    agent.welcome().await;
    assert!(bench.presence("pump-7").online);
    let revoked = crate::api::devices::revoke(
        axum::extract::State(Arc::clone(&bench.hub)),
        axum::extract::Path("pump-7".to_owned()),
    );
    assert_eq!(revoked.await.unwrap(), axum::http::StatusCode::NO_CONTENT);
    assert_eq!(agent.refusal().await, RefuseCode::Revoked);
    assert_eq!(agent.next().await, None, "the hub closes the line");
    assert!(!bench.presence("pump-7").online);
    let mut again = Agent::connect(&bench, "pump-7", &identity).await;
    let (code, text) = again.refusal_text().await;
    assert_eq!(code, RefuseCode::Revoked);
    assert!(text.contains("pump-7") && text.contains("enroll-token create"), "{text}");
    assert!(!bench.presence("pump-7").online);
}

#[tokio::test]
async fn where_operators_register_devices_an_agent_writes_for_none_before() {
    let bench = Bench::with(Config { register_devices: false, ..Config::default() });
    let identity = bench.enrol("gateway");
    let mut agent = Agent::connect(&bench, "gateway", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["valve-1"])).await;
    agent.send(run(1, block())).await;
    assert!(agent.settled(|s| !s.stored.is_empty()).await.stored.contains(1));
    assert_eq!(bench.counts(), [("gateway/aside/valve-1/p".to_owned(), 1)]);
    let aside = bench.hub.metadata.list::<AsideRecord>().unwrap();
    assert!(aside[0].1.reason.contains("device add valve-1 --behind gateway"), "{aside:?}");
    bench.register("valve-1", "gateway", "");
    let mut agent = Agent::connect(&bench, "gateway", &identity).await;
    agent.welcome().await;
    agent.send(run(2, block())).await;
    assert!(agent.settled(|s| !s.stored.is_empty()).await.stored.contains(2));
    assert_eq!(bench.counts(), [("gateway/aside/valve-1/p".to_owned(), 1), ("valve-1/p".to_owned(), 1)]);
    // A device behind an agent has no session of its own, whatever certificate it has.
    let thief = bench.enrol("valve-2");
    bench.register("valve-2", "gateway", "");
    let mut device = Agent::connect(&bench, "valve-2", &thief).await;
    assert_eq!(device.refusal().await, RefuseCode::Revoked);
}

#[tokio::test]
async fn devices_behind_an_agent_register_themselves_with_what_it_says_of_them() {
    let bench = Bench::start();
    let identity = bench.enrol("gateway");
    let Message::Hello(hello) = hello("gateway", Vec::new()) else { unreachable!() };
    let capabilities = vec![DEVICES_ABILITY.to_owned(), "unheard-of".to_owned()];
    let hello = Message::Hello(Hello { capabilities, ..hello });
    let mut agent = Agent::connect_with(&bench, &identity, hello).await;
    assert_eq!(agent.welcome().await.capabilities, [DEVICES_ABILITY]);
    let card = |device: &str, firmware: &str| DeviceCard {
        profile: "valve".into(),
        firmware: firmware.into(),
        ..DeviceCard::new(DeviceId::parse(device).unwrap())
    };
    bench.register("valve-9", "other", "");
    // One of them is not the agent's, which costs it nothing.
    let cards = vec![card("valve-1", "1.0"), card("valve-9", "1.0"), card("gateway", "6.1\u{1b}[2J")];
    agent.send(Message::Devices(Devices { cards })).await;
    agent.send(Message::Devices(Devices { cards: vec![card("valve-1", "1.1")] })).await;
    // Valve 2 is written for without a word of it.
    agent.send(defs(&["valve-1", "valve-2"])).await;
    agent.send(run(1, block())).await;
    assert!(agent.settled(|s| !s.stored.is_empty()).await.stored.contains(1));
    let record = |id: &str| bench.hub.metadata.find::<DeviceRecord>(id).unwrap().unwrap();
    let firmware = |id: &str| record(id).card.map(|card| card.firmware);
    assert_eq!(firmware("valve-1").as_deref(), Some("1.1"));
    assert_eq!(firmware("gateway").as_deref(), Some("6.1[2J"), "nothing that a terminal obeys");
    assert_eq!((firmware("valve-2"), firmware("valve-9")), (None, None));
    for id in ["valve-1", "valve-2"] {
        assert_eq!((record(id).agent.as_str(), record(id).key_hash.as_str()), ("gateway", ""));
    }
    assert_eq!(record("valve-9").agent, "other");
}

#[tokio::test]
async fn what_a_card_leaves_empty_stays_known_of_a_device_until_its_profile_is_another() {
    let bench = Bench::start();
    bench.enrol("gateway");
    let agent = AgentId::parse("gateway").unwrap();
    let device = DeviceId::parse("plug-1").unwrap();
    let tell = |profile: &str, texts: [&str; 3]| {
        let [firmware, vendor, model] = texts.map(str::to_owned);
        let (profile, card) = (profile.to_owned(), DeviceCard::new(device.clone()));
        let card = DeviceCard { profile, firmware, vendor, model, ..card };
        let changed = registry::tell(&bench.hub, &agent, vec![card]).unwrap().changed;
        let record = bench.hub.metadata.find::<DeviceRecord>("plug-1").unwrap().unwrap();
        let card = record.card.unwrap();
        (changed, [card.firmware, card.vendor, card.model])
    };
    let known = |texts: [&str; 3]| texts.map(str::to_owned);
    assert_eq!(tell("plug", ["1.2", "Maker", "P 7"]), (0, known(["1.2", "Maker", "P 7"])));
    // The agent starts again, and has heard nothing of the device yet.
    assert_eq!(tell("plug", ["", "", ""]), (0, known(["1.2", "Maker", "P 7"])));
    assert_eq!(tell("plug", ["1.3", "", ""]), (1, known(["1.3", "Maker", "P 7"])));
    assert_eq!(tell("meter", ["", "", "M 1"]), (1, known(["", "", "M 1"])));
}

#[tokio::test]
async fn what_a_profile_keeps_of_points_is_told_to_the_store_and_known_after_a_start() {
    let bench = Bench::start();
    bench.enrol("gateway");
    bench.register("valve-9", "other", "");
    let agent = AgentId::parse("gateway").unwrap();
    let tell = |device: &str, days: Option<u32>| {
        let keep = Keep { days, rollups: Some(Rollups::NONE) };
        let rules = days.map(|_| vec![KeepRule { points: vec!["raw/*".into()], keep }]);
        let card = DeviceCard { keeps: rules, ..DeviceCard::new(DeviceId::parse(device).unwrap()) };
        registry::tell(&bench.hub, &agent, vec![card]).unwrap()
    };
    let days = |store: &Store, device: &str, point: &str| store.keep(device, point).days;
    let store = &bench.hub.store;
    assert_eq!(tell("valve-1", Some(30)).registered, 1);
    assert_eq!((days(store, "valve-1", "raw/a"), days(store, "valve-1", "flow")), (Some(30), None));
    assert_eq!(tell("valve-1", Some(7)).changed, 1, "the last word counts");
    assert_eq!(days(store, "valve-1", "raw/a"), Some(7));
    assert_eq!(tell("valve-9", Some(1)).barred.len(), 1);
    assert_eq!(days(store, "valve-9", "raw/a"), None, "a device of another agent");
    // A store that was just opened knows nothing.
    store.tell_keeps(&DeviceId::parse("valve-1").unwrap(), &[]);
    registry::tell_keeps(&bench.hub.metadata, store).unwrap();
    assert_eq!(days(store, "valve-1", "raw/a"), Some(7));
    assert_eq!(tell("valve-1", None).changed, 1);
    assert_eq!(days(store, "valve-1", "raw/a"), None);
}

#[tokio::test]
async fn no_more_devices_register_themselves_behind_an_agent_than_its_share() {
    let bench = Bench::start();
    let agent = AgentId::parse("gateway").unwrap();
    bench.enrol("gateway");
    let ids = |from: usize, to: usize| -> Vec<DeviceId> {
        (from..to).map(|n| DeviceId::parse(&format!("d{n}")).unwrap()).collect()
    };
    // With the agent's own.
    let share = registry::DEVICES_PER_AGENT_MAX - 1;
    assert_eq!(registry::admit(&bench.hub, &agent, &ids(0, share)).unwrap(), Ok(share));
    let full = registry::admit(&bench.hub, &agent, &ids(share, share + 1)).unwrap().unwrap_err();
    assert!(full.to_string().contains("10000 are behind agent gateway"), "{full}");
    assert_eq!(registry::admit(&bench.hub, &agent, &ids(0, share)).unwrap(), Ok(0));
    for (id, text) in [("_write.x", "begin with _"), ("other", "an agent of its own")] {
        bench.enrol("other");
        let barred =
            registry::admit(&bench.hub, &agent, &[DeviceId::parse(id).unwrap()]).unwrap().unwrap_err();
        assert!(barred.to_string().contains(text), "{barred}");
    }
}

#[tokio::test]
async fn a_dead_letter_found_after_the_ack_is_told_in_the_running_session() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["pump-7"])).await;
    agent.send(run(1, b"no block at all".to_vec())).await;
    agent.send(run(2, block())).await;
    let settled = agent.settled(|s| !s.refused.is_empty()).await;
    assert!(settled.refused.contains(1) && !settled.refused.contains(2), "{settled:?}");
    let ledger = bench.hub.store.ledger(&AgentId::parse("pump-7").unwrap());
    assert_eq!(ledger.iter().map(|e| (e.stored, e.refused)).collect::<Vec<_>>(), [(1, 1)]);
}

#[tokio::test]
async fn bytes_that_are_no_frame_are_refused_with_what_is_wrong_and_counted() {
    use tideline_protocol::wire::{FRAME_BYTES_MAX, encode};
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let good = encode(&Frame::from(Message::Ping(Ping { mono_ns: 1, next_ms: 3_000 })));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut long = good.clone();
    long[5..8].copy_from_slice(&(u32::try_from(FRAME_BYTES_MAX).unwrap() + 1).to_be_bytes()[1..]);
    for (bytes, code, text) in [
        (with(13, !good[13]), RefuseCode::Protocol, "checksum"),
        (with(2, 9), RefuseCode::Version, "version 9 is unknown"),
        (long, RefuseCode::Protocol, "allowed are"),
        (b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n".to_vec(), RefuseCode::Protocol, "not a tideline frame"),
    ] {
        let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
        agent.welcome().await;
        agent.sender.send_bytes(bytes.into()).await.unwrap();
        let (found, said) = agent.refusal_text().await;
        assert_eq!(found, code, "{said}");
        assert!(said.contains(text), "{said}");
        assert_eq!(agent.next().await, None, "the hub closes the line");
    }
    let page = crate::telemetry::page(&bench.hub.counters, 0, (0, 0), &bench.hub.store.metrics());
    assert!(page.contains("tideline_hub_sessions_refused_total 4\n"), "{page}");
    Agent::connect(&bench, "pump-7", &identity).await.welcome().await;
}

#[tokio::test]
async fn beyond_the_pace_a_session_is_told_when_to_come_again() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    // As if a storm would go on for the next ten seconds.
    let later = bench.hub.clock.mono_ns() + 10_000_000_000;
    while bench.hub.openings.take(later, 0).is_ok() {}
    let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
    let Some(Message::Refuse(refuse)) = agent.next().await else { panic!("no refusal") };
    assert_eq!(refuse.code, RefuseCode::Unavailable);
    assert!((1..=20_000).contains(&refuse.retry_after_ms), "{refuse:?}");
    assert!(bench.hub.fleet.presence(&AgentId::parse("pump-7").unwrap()).is_none());
}

#[tokio::test]
async fn an_agent_has_two_sessions_and_the_newest_win() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
        agent.welcome().await;
        all.push(agent);
    }
    // The first was told of the second, and the second of the third; none of them is left hanging.
    for agent in all.iter_mut().take(2) {
        while agent.next().await.is_some() {}
    }
    all[2].send(defs(&["pump-7"])).await;
    assert!(matches!(all[2].next().await, Some(Message::Ack(_))));
    assert!(bench.presence("pump-7").online);
}

/// A client that takes no byte of what the hub sends, and keeps its line alive.
async fn reads_nothing(
    bench: &Bench,
    identity: &KeyAndCert,
) -> (quinn::Endpoint, quinn::Connection, quinn::SendStream, quinn::RecvStream) {
    let floor = FloorTime::new(Arc::new(SystemClock::default()), 0);
    let tls = client_config(identity, &identity.ca_pem, floor, &[ALPN]).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(0_u32.into()).keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = endpoint.connect_with(config, bench.address, "localhost").unwrap().await.unwrap();
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let hello = tideline_protocol::wire::encode(&Frame::from(hello("pump-7", Vec::new())));
    send.write_all(&hello).await.unwrap();
    (endpoint, connection, send, receive)
}

#[tokio::test]
async fn an_agent_that_reads_nothing_can_be_cut() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let (_endpoint, connection, _send, _receive) = reads_nothing(&bench, &identity).await;
    let agent = AgentId::parse("pump-7").unwrap();
    let online = async {
        while bench.hub.fleet.presence(&agent).is_none_or(|p| !p.online) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, online).await.expect("the hello came");
    bench.hub.fleet.cut(&agent, (RefuseCode::Revoked, "out".to_owned()));
    tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the hub lets go of it");
    assert!(!bench.presence("pump-7").online);
}

#[tokio::test]
async fn of_two_copies_of_a_spool_that_sign_on_at_once_only_the_later_is_heard() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let lives =
        |second: u64| vec![Life { id: 1, first: Seq::new(1) }, Life { id: second, first: Seq::new(2) }];
    let mut first = Agent::connect_with(&bench, &identity, hello("pump-7", lives(20))).await;
    first.welcome().await;
    first.send(defs(&["pump-7"])).await;
    first.send(run(1, block())).await;
    first.settled(|s| s.stored.contains(1)).await;
    let mut second = Agent::connect_with(&bench, &identity, hello("pump-7", lives(30))).await;
    assert_eq!(second.welcome().await.parted, None, "seq 2 means nothing yet");
    // The hub may have closed the line by now.
    let _late = first.sender.send(&Frame { corr: 0, trace: None, message: run(2, block()) }).await;
    assert_eq!(first.refusal().await, RefuseCode::Replaced);
    second.send(run(2, block())).await;
    second.settled(|s| s.stored.contains(2)).await;
    let mut again = Agent::connect_with(&bench, &identity, hello("pump-7", lives(20))).await;
    assert_eq!(again.welcome().await.parted, Some(Seq::new(2)));
}

#[tokio::test]
async fn a_loss_found_while_the_hub_runs_ends_the_session_and_the_next_refills_it() {
    let bench = Bench::start();
    let identity = bench.enrol("pump-7");
    let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["pump-7"])).await;
    agent.send(run(1, block())).await;
    agent.settled(|s| s.stored.contains(1)).await;
    let store = bench.hub.store.clone();
    let sealed = bench._dir.path().join("store/sealed");
    let query = move || {
        store.flush().unwrap();
        for file in std::fs::read_dir(sealed).unwrap() {
            std::fs::write(file.unwrap().path(), b"no longer what it was").unwrap();
        }
        store.query_raw(&[0], 0, i64::MAX, None, 10)
    };
    let rows = tokio::task::spawn_blocking(query).await.unwrap();
    assert!(rows.is_ok_and(|page| page.series.iter().all(|column| column.times.is_empty())));
    let (code, reason) = agent.refusal_text().await;
    assert_eq!(code, RefuseCode::Unavailable, "{reason}");
    let mut agent = Agent::connect(&bench, "pump-7", &identity).await;
    assert!(agent.welcome().await.settled.all().is_empty());
    agent.send(run(1, block())).await;
    agent.settled(|s| s.stored.contains(1)).await;
    let ledger = bench.hub.store.ledger(&AgentId::parse("pump-7").unwrap());
    assert_eq!(ledger.iter().map(|e| (e.stored, e.lost)).collect::<Vec<_>>(), [(1, 0)]);
}
