//! The uplink on several ways at once, over real sockets: one that is blocked and opened again, and one
//! that always gets through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use edge_agent::agreement::Auditor;
use edge_agent::cards::Cards;
use edge_agent::clock::AgentClock;
use edge_agent::status::{Board, Status};
use edge_agent::sync::{Syncer, Wake};
use edge_agent::uplink::Uplink;
use edge_agent::uplink::dial::{Dial, Dialler, Dialling};
use edge_agent::uplink::resolver::Resolver;
use edge_agent::uplink::routes::{Path, Routes};
use tideline_link::link::Transport;
use tideline_link::quic::LinkOptions;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::BackfillBudget;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::hub::Hub;
use crate::{LONG, readings, spool, until, until_shown};

/// Every way leads to the hub by QUIC; that of MQTT is not blocked.
struct Ways(Arc<Dialler>);

impl Dial for Ways {
    fn dial(self: Arc<Self>, path: Path, knock_every: Duration) -> Dialling {
        Arc::clone(&self.0).dial(Path { transport: Transport::Quic, ..path }, knock_every)
    }
}

/// A network that swallows everything.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(self: Arc<Self>, _: Path, _: Duration) -> Dialling {
        Box::pin(std::future::pending())
    }
}

/// Carries packets of one agent at a time to `hub`, unless blocked.
async fn relay(hub: SocketAddr, blocked: Arc<AtomicBool>) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut up, mut down, mut agent) = (vec![0; 65_536], vec![0; 65_536], address);
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut up) => {
                    agent = from;
                    if !blocked.load(Ordering::SeqCst) {
                        let _lost = back.send_to(&up[..len], hub).await;
                    }
                }
                Ok((len, _)) = back.recv_from(&mut down) => {
                    if !blocked.load(Ordering::SeqCst) {
                        let _lost = front.send_to(&down[..len], agent).await;
                    }
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_way_is_left_for_another_and_taken_again_and_nothing_is_missing() {
    let hub = Hub::start();
    let blocked = Arc::new(AtomicBool::new(false));
    let through = relay(hub.addr.parse().unwrap(), Arc::clone(&blocked)).await;
    let (folder, board, wake) = (tempfile::tempdir().unwrap(), Board::default(), Wake::default());
    let (spool, clock) = (spool(folder.path(), &board), AgentClock::default());
    let path = |hub: String, transport| Path { hub, transport };
    let paths = vec![path(through.to_string(), Transport::Quic), path(hub.addr.clone(), Transport::Mqtt)];
    let (_routes, routes) = watch::channel(Routes { paths, probe_every: Duration::from_secs(1) });
    let (drain, draining) = watch::channel(false);
    let dialler = Dialler::new(hub.identity.clone(), clock, LinkOptions::default());
    let uplink = Uplink {
        commands: Default::default(),
        in_force: Default::default(),
        agent: hub.identity.file.agent.clone(),
        dialler: Arc::new(Ways(Arc::new(dialler))),
        routes,
        spool: spool.clone(),
        board: board.clone(),
        drain: draining,
        wake: wake.clone(),
        boot: [1; 16],
        clock,
        backfill: BackfillBudget::default(),
        cards: Cards::default(),
        twins: None,
        questions: Auditor::new(spool.clone(), board.clone()).1,
    };
    let uplink = tokio::spawn(uplink.run());
    let source = spool.clone();
    let (stop, mut stopped) = watch::channel(false);
    let appends = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut batches = 0_u64;
        while !*stopped.borrow_and_update() {
            ticks.tick().await;
            source.append(readings(10), Vec::new()).await.unwrap();
            batches += 1;
        }
        batches
    });
    let on = |transport: &'static str| {
        move |status: &Status| status.connected && status.transport.as_deref() == Some(transport)
    };
    for round in 1..=2 {
        until_shown(&board, on("quic")).await;
        blocked.store(true, Ordering::SeqCst);
        let status = until_shown(&board, on("mqtt")).await;
        assert_eq!(status.switches, round * 2 - 1);
        let before = spool.state().borrow().account.stored;
        until(&spool, |state| state.account.stored > before + 100).await;
        blocked.store(false, Ordering::SeqCst);
        // A second round has to wait out the hold that leaving it in trouble brings.
        if round == 2 {
            break;
        }
        assert_eq!(until_shown(&board, on("quic")).await.switches, round * 2);
    }
    stop.send_replace(true);
    let batches = appends.await.unwrap();
    let syncer = Syncer { spool: spool.clone(), board: board.clone(), wake };
    assert!(syncer.run(LONG).await.reached);
    assert_eq!(hub.stored(), RangeSet::of(1, batches));
    let account = spool.state().borrow().account;
    assert_eq!((account.stored, account.dropped, account.refused), (batches * 10, 0, 0));
    drain.send_replace(true);
    tokio::time::timeout(LONG, uplink).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_nothing_holds_its_end_up() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, clock) = (spool(folder.path(), &board), AgentClock::default());
    spool.append(readings(10), Vec::new()).await.unwrap();
    let paths = vec![Path { hub: hub.addr.clone(), transport: Transport::Quic }];
    let (_routes, routes) = watch::channel(Routes { paths, probe_every: Duration::from_secs(1) });
    let (drain, draining) = watch::channel(false);
    let uplink = Uplink {
        commands: Default::default(),
        in_force: Default::default(),
        agent: hub.identity.file.agent.clone(),
        dialler: Arc::new(Nowhere),
        routes,
        spool: spool.clone(),
        board: board.clone(),
        drain: draining,
        wake: Wake::default(),
        boot: [1; 16],
        clock,
        backfill: BackfillBudget::default(),
        cards: Cards::default(),
        twins: None,
        questions: Auditor::new(spool.clone(), board.clone()).1,
    };
    let uplink = tokio::spawn(uplink.run());
    until_shown(&board, |status| !status.paths.is_empty()).await;
    drain.send_replace(true);
    tokio::time::timeout(LONG, uplink).await.unwrap().unwrap();
    assert_eq!(spool.state().borrow().account.pending, 10);
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_hangs_is_asked_once_and_known_addresses_are_used_meanwhile() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let resolver = Resolver::with(Arc::new(AgentClock::default()), move |name| {
        let times = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match (name.as_str(), times) {
                ("hub:1", 0) => Ok(vec!["10.0.0.1:1".parse().unwrap()]),
                ("none:1", _) => Ok(Vec::new()),
                _ => std::future::pending().await,
            }
        }
    });
    let known = vec!["10.0.0.1:1".parse().unwrap()];
    for _ in 0..4 {
        assert_eq!(resolver.resolve("hub:1").await.unwrap(), known);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2, "the look-up that hangs is waited for again");
    assert_eq!(resolver.resolve("10.9.8.7:6").await.unwrap(), ["10.9.8.7:6".parse().unwrap()]);
    let error = anyhow::Error::from(resolver.resolve("none:1").await.unwrap_err());
    assert_eq!(format!("{error:#}"), "none:1 is not resolved: the name has no address");
}
