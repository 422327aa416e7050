//! The uplink and `sync`, against a hub's end of the protocol.

use std::sync::Arc;
use std::time::Duration;

use edge_agent::agreement::Auditor;
use edge_agent::cards::Cards;
use edge_agent::clock::{AgentClock, Ahead};
use edge_agent::serve;
use edge_agent::spooler::{Portion, SpoolHandle};
use edge_agent::status::{Board, Status};
use edge_agent::sync::{Syncer, Wake};
use edge_agent::uplink::Uplink;
use edge_agent::uplink::dial::Dialler;
use edge_agent::uplink::routes::Routes;
use tideline_link::quic::LinkOptions;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::BackfillBudget;
use tideline_protocol::time::Clock as _;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_protocol::wire::RefuseCode;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::hub::Hub;
use crate::{LONG, readings, spool, until, until_shown};

struct Agent {
    folder: tempfile::TempDir,
    spool: SpoolHandle,
    board: Board,
    routes: watch::Sender<Routes>,
    drain: watch::Sender<bool>,
    syncer: Syncer,
    auditor: Auditor,
    uplink: JoinHandle<()>,
}

impl Agent {
    fn start(hub: &Hub, addr: &str) -> Self {
        Self::start_at(hub, addr, AgentClock::default())
    }

    fn start_at(hub: &Hub, addr: &str, clock: AgentClock) -> Self {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let spool = spool(folder.path(), &board);
        Self::with_clock(hub, addr, (folder, board, spool), clock)
    }

    fn with(hub: &Hub, addr: &str, folder: tempfile::TempDir, board: Board, spool: SpoolHandle) -> Self {
        Self::with_clock(hub, addr, (folder, board, spool), AgentClock::default())
    }

    fn with_clock(
        hub: &Hub,
        addr: &str,
        (folder, board, spool): (tempfile::TempDir, Board, SpoolHandle),
        clock: AgentClock,
    ) -> Self {
        let wake = Wake::default();
        let (routes, routes_now) = watch::channel(Routes::quic(&[addr]));
        let (drain, draining) = watch::channel(false);
        let syncer = Syncer { spool: spool.clone(), board: board.clone(), wake: wake.clone() };
        let (auditor, questions) = Auditor::new(spool.clone(), board.clone());
        let uplink = Uplink {
            commands: Default::default(),
            in_force: Default::default(),
            agent: hub.identity.file.agent.clone(),
            dialler: Arc::new(Dialler::new(hub.identity.clone(), clock, LinkOptions::default())),
            routes: routes_now,
            spool: spool.clone(),
            board: board.clone(),
            drain: draining,
            wake,
            boot: [1; 16],
            clock,
            backfill: BackfillBudget::default(),
            cards: Cards::default(),
            twins: None,
            questions,
        };
        let uplink = tokio::spawn(uplink.run());
        Self { folder, spool, board, routes, drain, syncer, auditor, uplink }
    }

    async fn append(&self, batches: u32) {
        for _ in 0..batches {
            self.spool.append(readings(10), Vec::new()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_pending_reaches_the_hub() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, &hub.addr);
    agent.append(5).await;
    let report = agent.syncer.run(LONG).await;
    assert!(report.reached, "{report}");
    assert_eq!(report.pending, 0);
    assert_eq!(hub.stored(), RangeSet::of(1, 5));
    assert_eq!(agent.board.read().account.stored, 50);
    let again = agent.syncer.run(LONG).await;
    assert_eq!((again.reached, again.sent), (true, 0));
    agent.drain.send_replace(true);
    tokio::time::timeout(LONG, agent.uplink).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_hub_it_tells_the_last_error_and_the_breaker() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, "an address without a port");
    agent.append(2).await;
    until_shown(&agent.board, |status| status.breaker.failures > 0).await;
    let report = agent.syncer.run(Duration::from_millis(1)).await;
    assert!(!report.reached && !report.connected);
    assert_eq!((report.sent, report.pending), (0, 20));
    let text = report.to_string();
    for part in ["0 rows sent, 20 pending", "not connected to hub an address", "breaker ", "last error: "] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(report.last_error.is_some() && report.breaker.failures > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_hub_address_is_taken_at_once_and_while_connected() {
    let (first, second) = (Hub::start(), Hub::start());
    let agent = Agent::start(&first, "an address without a port");
    agent.append(2).await;
    until_shown(&agent.board, |status| status.breaker.failures > 0).await;
    agent.routes.send_replace(Routes::quic(&[&first.addr]));
    assert!(agent.syncer.run(LONG).await.reached);
    assert_eq!(agent.board.read().hub, first.addr);
    // The second hub has an authority of its own, so that the agent cannot get in; but it tries.
    agent.routes.send_replace(Routes::quic(&[&second.addr]));
    let status = until_shown(&agent.board, |status| !status.connected && status.breaker.failures > 0).await;
    assert_eq!(status.hub, second.addr);
    agent.append(1).await;
    agent.routes.send_replace(Routes::quic(&[&first.addr]));
    assert!(agent.syncer.run(LONG).await.reached);
    assert_eq!(first.stored(), RangeSet::of(1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_for_over_the_socket() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, &hub.addr);
    agent.append(3).await;
    let data = agent.folder.path();
    let nobody = serve::ask_sync(data, LONG).await.unwrap_err();
    assert!(format!("{nobody:#}").contains("no agent runs on"), "{nobody:#}");
    let server = serve::socket(
        serve::bind_socket(data).await.unwrap(),
        agent.syncer.clone(),
        agent.auditor.clone(),
        Default::default(),
        Default::default(),
        Default::default(),
    );
    let report = serve::ask_sync(data, LONG).await.unwrap();
    assert!(report.reached, "{report}");
    assert_eq!(serve::ask_status(data).await.unwrap().account.stored, 30);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_that_is_not_the_same_at_the_hub_is_named() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, &hub.addr);
    let unconnected = agent.auditor.run().await;
    if let Err(error) = unconnected {
        assert!(error.to_string().contains("not connected to a hub"), "{error}");
    }
    // More than the digests of one answer, so that a difference has to be narrowed down.
    agent.append(2_500).await;
    assert!(agent.syncer.run(LONG).await.reached);
    let report = agent.auditor.run().await.unwrap();
    assert!(report.ok, "{report}");
    assert_eq!((report.batches, report.readings, report.pending), (2_500, 25_000, 0));
    hub.falsify(1_777);
    hub.falsify(1_776);
    let report = agent.auditor.run().await.unwrap();
    assert!(!report.ok);
    assert_eq!((report.batches, report.differing, report.lacking), (2_500, 2, 0));
    let first = report.first.clone().unwrap();
    assert_eq!((first.seq, first.readings_here, first.readings_at_hub), (1_776, 10, Some(11)));
    assert_eq!(first.devices, ["pump-7"]);
    assert!(first.from_ns <= first.to_ns);
    assert!(
        report.to_string().contains("the first is seq 1776: 10 readings here, 11 at the hub"),
        "{report}"
    );
    hub.forget(5);
    let report = agent.auditor.run().await.unwrap();
    assert_eq!((report.batches, report.differing, report.lacking), (2_499, 2, 1));
    let first = report.first.unwrap();
    assert_eq!((first.seq, first.readings_at_hub), (5, None));
    // Over the socket, as the command asks.
    let data = agent.folder.path();
    let socket = serve::bind_socket(data).await.unwrap();
    let server = serve::socket(
        socket,
        agent.syncer.clone(),
        agent.auditor.clone(),
        Default::default(),
        Default::default(),
        Default::default(),
    );
    assert!(!serve::ask_agreement(data).await.unwrap().ok);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_the_welcome_is_a_failure_and_the_waits_grow() {
    let hub = Hub::start();
    hub.refuse_dictionaries(Some(RefuseCode::Unavailable));
    let agent = Agent::start(&hub, &hub.addr);
    agent.append(2).await;
    let status = until_shown(&agent.board, |status| status.breaker.failures >= 4).await;
    assert!(status.last_error.unwrap().contains("as told"));
    hub.refuse_dictionaries(None);
    assert!(agent.syncer.run(LONG).await.reached);
    let healed = |status: &Status| status.connected && status.breaker.failures == 0;
    assert_ne!(until_shown(&agent.board, healed).await.breaker.state, "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_the_first_that_answers_is_taken_and_each_has_its_breaker() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, "an address without a port");
    agent.routes.send_replace(Routes::quic(&["an address without a port", &hub.addr]));
    agent.append(3).await;
    assert!(agent.syncer.run(LONG).await.reached);
    let status = until_shown(&agent.board, |status| status.connected).await;
    assert_eq!((status.hub.as_str(), status.transport.as_deref()), (hub.addr.as_str(), Some("quic")));
    let shown: Vec<_> = status.paths.iter().map(|path| (path.carries, path.breaker.failures > 0)).collect();
    assert_eq!(shown, [(false, true), (true, false)]);
    let text = status.metrics();
    for part in [
        "path_breaker_state{hub=\"an address without a port\",transport=\"quic\",state=\"closed\"}",
        &format!("tideline_agent_path_carries{{hub=\"{}\",transport=\"quic\"}} 1", hub.addr),
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_opened_again_is_told_to_the_hub_in_a_new_session_at_once() {
    let hub = Hub::start();
    let (disk, board) = (CrashBackend::new(), Board::default());
    let shared = disk.clone();
    let mut openings = 0_u8;
    // It comes back as the failure left it: without the settlements, which were in memory only.
    let open = move |_| {
        openings += 1;
        Spool::open(shared.crash(), SpoolConfig::default(), [openings; 16])
    };
    let (spool, _) = SpoolHandle::start_with(open, board.clone()).unwrap();
    let agent = Agent::with(&hub, &hub.addr, tempfile::tempdir().unwrap(), board, spool);
    agent.append(3).await;
    until(&agent.spool, |state| state.account.stored == 30).await;
    let before = *agent.spool.state().borrow();
    disk.fail_writes();
    assert!(agent.spool.append(readings(10), Vec::new()).await.is_err());
    agent.append(1).await;
    let after = until(&agent.spool, |state| state.account.stored == 40).await;
    assert_eq!((after.epoch, after.account.pending), (before.epoch, 0), "it was taken for a copy of itself");
    assert_ne!(after.life, before.life);
    assert_eq!(hub.stored(), RangeSet::of(1, 4));
    assert_eq!(hub.lives(), [before.life.unwrap(), after.life.unwrap()]);
    let status = until_shown(&agent.board, |status| status.connected).await;
    assert_eq!(status.breaker.failures, 0, "the way was blamed: {:?}", status.last_error);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_of_a_clock_in_1970_arrive_with_what_their_times_lack() {
    let hub = Hub::start();
    let right = AgentClock::default();
    let wrong = right.skewed(-right.wall_ns());
    let agent = Agent::start_at(&hub, &hub.addr, wrong);
    let stamped = |clock: &AgentClock| {
        let mut rows = readings(1);
        rows[0].1[0].time_ns = clock.wall_ns();
        Portion { rows, clock: Some(Ahead::of(clock)), ..Portion::default() }
    };
    for clock in [&wrong, &right] {
        agent.spool.append_portions(vec![Arc::new(stamped(clock))], 100).await.unwrap();
    }
    agent.append(1).await;
    assert!(agent.syncer.run(LONG).await.reached);
    assert_eq!(hub.stored(), RangeSet::of(1, 3));
    let restamps = hub.restamps();
    let [restamp] = restamps.as_slice() else { panic!("{restamps:?}") };
    assert_eq!(restamp.seqs, RangeSet::of(1, 1), "the others have right times, or such of their source");
    let late_ns = right.wall_ns() - restamp.from_ns;
    assert!(
        (0..i64::try_from(LONG.as_nanos()).unwrap()).contains(&late_ns),
        "it is corrected to {late_ns} ns ago"
    );
    assert!(agent.spool.state().borrow().time_floor_ns > 0);
    let status = until_shown(&agent.board, |status| status.clock.offset_ms.is_some()).await;
    let (offset_ms, ahead_ms) =
        (status.clock.offset_ms.unwrap(), (right.wall_ns() - wrong.wall_ns()) as f64 / 1e6);
    assert!(!status.clock.trusted && status.clock.uncertainty_ms.is_some(), "{:?}", status.clock);
    assert!((offset_ms - ahead_ms).abs() < LONG.as_millis() as f64, "{offset_ms} is not {ahead_ms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_all_kinds_arrive_as_they_were_sent() {
    let hub = Hub::start();
    let agent = Agent::start(&hub, &hub.addr);
    let def = |point: &str, kind| {
        let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse(point).unwrap());
        SeriesDef::new(device, point, String::new()).of_kind(kind).named("For people")
    };
    let text = |text: &str| Value::Text(text.into());
    let wanted = [
        (def("count", ValueKind::Int), 1, Value::Int(7), Quality::Good),
        (def("count", ValueKind::Int), 2, Value::Int(i64::MIN), Quality::Good),
        (def("count", ValueKind::Int), 3, Value::Int(-8), Quality::Bad),
        (def("on", ValueKind::Bool), 1, Value::Bool(true), Quality::Good),
        (def("on", ValueKind::Bool), 2, Value::Null, Quality::Uncertain),
        (def("on", ValueKind::Bool), 3, Value::Bool(false), Quality::Uncertain),
        (def("state", ValueKind::Text), 1, text("idle"), Quality::Good),
        (def("state", ValueKind::Text), 2, text("läuft"), Quality::Good),
        (def("state", ValueKind::Text), 3, text("idle"), Quality::Bad),
        (def("flow", ValueKind::Float), 1, Value::Float(1.5), Quality::Good),
        (def("flow", ValueKind::Float), 2, Value::Float(99.5), Quality::Bad),
        (def("flow", ValueKind::Float), 3, Value::Null, Quality::Good),
    ];
    // Portions of one moment each: every one has a table of its own, and all become one run.
    for time in 1..=3 {
        let mut boxes = Boxes::new();
        let of_time = wanted.iter().filter(|(_, time_ns, ..)| *time_ns == time);
        let rows = of_time.map(|(def, time_ns, value, quality)| {
            let value = boxes.word(value.clone(), *quality);
            (def.clone(), vec![Sample { time_ns: *time_ns, value }])
        });
        let rows = rows.collect();
        let portion = Arc::new(Portion { rows, boxes, ..Portion::default() });
        agent.spool.append_portions(vec![portion], 100).await.unwrap();
    }
    assert!(agent.syncer.run(LONG).await.reached);
    let mut came = hub.readings();
    let place = |of: &SeriesDef| wanted.iter().position(|(def, ..)| def == of);
    came.sort_by_key(|(def, time_ns, ..)| (place(def), *time_ns));
    assert_eq!(came, wanted);
    let agreed = agent.auditor.run().await.unwrap();
    assert!(agreed.ok, "{agreed}");
}
