//! A thousand agents on one hub that is killed and comes back.
//!
//! The agents are real links, sessions and spools in this process, the spools in memory; the hub is the
//! real one. Each agent tries again with full jitter, as an agent does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use edge_agent::identity::Identity;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::backends::InMemoryBackend;
use tideline_e2e::{Hub, until};
use tideline_link::quic::{ALPN, ClientEndpoint, FrameSender};
use tideline_link::tls::{FloorTime, client_config};
use tideline_link::token::EnrollToken;
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_protocol::session::{AgentAction, AgentSession, BackfillBudget};
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_protocol::wire::{Frame, Hello, RUN_ROWS_MAX, RunEnvelope, VERSION};
use tideline_spool::{Files, Spool, SpoolConfig};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Figure;
use crate::store::PATIENCE;

const AGENTS: usize = 1_000;
/// Agents that share a UDP socket.
const PER_SOCKET: usize = 50;
/// Readings of an agent a second.
const SERIES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// How long all work before the hub is killed.
const STEADY: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Bounds of the first wait and of all waits between two attempts.
const WAIT_MS: (u64, u64) = (100, 1_000);

/// What all agents share.
struct Fleet {
    hub: SocketAddr,
    clock: SystemClock,
    // When the hub welcomed each agent last, on the monotonic clock.
    opened_ns: Vec<AtomicU64>,
    produce: watch::Receiver<bool>,
}

struct SimAgent {
    number: usize,
    fleet: Arc<Fleet>,
    endpoint: ClientEndpoint,
    identity: Identity,
    spool: Spool,
    random: StdRng,
}

impl SimAgent {
    fn new(
        fleet: &Arc<Fleet>,
        endpoint: &ClientEndpoint,
        identity: Identity,
        number: usize,
    ) -> anyhow::Result<Self> {
        let mut random = StdRng::seed_from_u64(number as u64);
        let files = Files::new(InMemoryBackend::new(), InMemoryBackend::new());
        let mut spool = Spool::open(
            files,
            SpoolConfig { quota_bytes: 64 << 20, ..SpoolConfig::default() },
            random.random(),
        )?;
        for i in 0..SERIES {
            let device = DeviceId::parse(identity.file.agent.as_str())?;
            let def = SeriesDef::new(device, PointId::parse(&format!("p{i}"))?, String::new());
            spool.series_no(&def)?;
        }
        Ok(Self { number, fleet: Arc::clone(fleet), endpoint: endpoint.clone(), identity, spool, random })
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let time_ns = self.fleet.clock.wall_ns();
        let value = || (self.random.random_range(0.0..100.0_f64) * 10.0).round() / 10.0;
        let samples: Vec<[Sample; 1]> = std::iter::repeat_with(value)
            .take(SERIES as usize)
            .map(|value| [Sample { time_ns, value }])
            .collect();
        let items: Vec<_> = (0..).zip(samples.iter().map(<[Sample; 1]>::as_slice)).collect();
        self.spool.append(&items, &[])?;
        Ok(())
    }

    /// Connects again and again, until all is at the hub after the end of the production.
    async fn run(mut self) -> anyhow::Result<u64> {
        let mut failures = 0_u32;
        // Why a session has ended does not matter: what was not acked goes by the next one.
        while self.session(&mut failures).await.is_err() {
            let (base_ms, max_ms) = WAIT_MS;
            let bound_ms = base_ms.saturating_mul(1 << failures.min(10)).min(max_ms);
            failures += 1;
            sleep(Duration::from_millis(self.random.random_range(0..=bound_ms))).await;
        }
        Ok(self.spool.account().produced)
    }

    async fn session(&mut self, failures: &mut u32) -> anyhow::Result<()> {
        let fleet = Arc::clone(&self.fleet);
        let certificate = &self.identity.certificate;
        let floor = FloorTime::new(Arc::new(fleet.clock), self.identity.file.floor_s);
        let tls = client_config(certificate, &certificate.ca_pem, floor, &[ALPN])?;
        let name = &self.identity.file.server_name;
        let link = self.endpoint.connect(fleet.hub, name, tls, CONNECT_MAX).await?;
        let (mut sender, mut receiver) = link.split();
        let mut session = AgentSession::new(
            fleet.clock.mono_ns(),
            self.hello(),
            self.spool.view()?,
            BackfillBudget::default(),
        );
        let mut welcomed = false;
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.carry_out(&mut session, &mut sender).await?;
            if session.is_open() {
                *failures = 0;
                if !std::mem::replace(&mut welcomed, true) {
                    self.note_welcome();
                }
                if !*fleet.produce.borrow() && session.is_drained() {
                    return Ok(sender.finish().await?);
                }
            }
            tokio::select! {
                frame = receiver.recv() => {
                    let frame = frame?.context("the hub ended the session")?;
                    session.handle_message(fleet.clock.mono_ns(), fleet.clock.wall_ns(), frame.message)?;
                    if session.clock_offset_ns().is_some() {
                        session.handle_time();
                    }
                }
                _ = seconds.tick() => {
                    if *fleet.produce.borrow() {
                        self.read()?;
                    }
                    session.handle_appended(self.spool.head(), self.spool.series_count());
                    session.handle_account(self.spool.account(), self.spool.known());
                }
            }
        }
    }

    fn note_welcome(&self) {
        if let Some(opened_ns) = self.fleet.opened_ns.get(self.number) {
            opened_ns.store(self.fleet.clock.mono_ns(), Ordering::Release);
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: vec![VERSION],
            capabilities: Vec::new(),
            agent: self.identity.file.agent.clone(),
            epoch: self.spool.epoch(),
            boot: [1; 16],
            mono_ns: self.fleet.clock.mono_ns(),
            wall_ns: self.fleet.clock.wall_ns(),
            head: self.spool.head(),
            software: "tideline-bench".into(),
            account: self.spool.account(),
            lives: Vec::new(),
            moved: None,
        }
    }

    async fn carry_out(
        &mut self,
        session: &mut AgentSession,
        sender: &mut FrameSender,
    ) -> anyhow::Result<()> {
        while let Some(action) = session.poll(self.fleet.clock.mono_ns())? {
            match action {
                AgentAction::Send(message) => sender.send(&Frame::from(message)).await?,
                AgentAction::LoadSeries { from, max } => {
                    session.handle_series(from, self.spool.series_defs(from, max));
                }
                AgentAction::LoadRun { lane, seqs, bytes_max } => {
                    match self.spool.load_seqs(&seqs, bytes_max, RUN_ROWS_MAX)? {
                        None => session.handle_gone(&self.spool.gone(&seqs)),
                        Some(run) => {
                            let (epoch, first) = (self.spool.epoch(), run.first);
                            let (rows, series_end) = (run.rows, run.series_end);
                            let envelope =
                                RunEnvelope { epoch, lane, first, rows, series_end, restamps: vec![] };
                            session.handle_run(self.fleet.clock.mono_ns(), envelope, run.block);
                        }
                    }
                }
                AgentAction::Settle(settlement) => {
                    self.spool.settle(&settlement)?;
                    session.handle_account(self.spool.account(), self.spool.known());
                }
                AgentAction::Know => {
                    self.spool.flush()?;
                    session.handle_account(self.spool.account(), self.spool.known());
                }
                AgentAction::Agreement(_)
                | AgentAction::Twin(_)
                | AgentAction::Command(_)
                | AgentAction::Config(_) => {}
                AgentAction::Branch(_) => anyhow::bail!("a new spool is taken for a copy"),
            }
        }
        Ok(())
    }
}

fn device(number: usize) -> String {
    format!("fleet-{number}")
}

async fn enrol(hub: &Hub) -> anyhow::Result<Vec<Identity>> {
    let through = many_addresses(hub.https()).await?;
    let mut identities = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        let mut token = EnrollToken::parse(hub.enroll_token(&device(number), "1h").await?.trim())?;
        token.hub_https = through.to_string();
        let folder = hub.folder().join(device(number));
        identities.push(edge_agent::enroll::enroll(&token.encode(), &folder).await?);
    }
    Ok(identities)
}

/// A way to the hub's HTTPS on which a few connections at a time come from one address: a hub enrols
/// sixty devices of one site at once, and then one a second.
async fn many_addresses(hub: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        for number in 0..AGENTS {
            let Ok((mut near, _)) = listener.accept().await else { return };
            let site = u8::try_from(number / PER_SOCKET).unwrap_or(0);
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind((Ipv4Addr::new(127, 0, 1, site + 1), 0).into())?;
                let mut far = socket.connect(hub).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Ok(address)
}

/// Waits until every agent has a session that began after `after_ns`, and gives the moment of the last.
async fn all_open(fleet: &Fleet, after_ns: u64) -> anyhow::Result<u64> {
    let moments = || fleet.opened_ns.iter().map(|opened| opened.load(Ordering::Acquire));
    let open = || async { Ok(moments().all(|opened_ns| opened_ns > after_ns).then_some(())) };
    until("a session of every agent", PATIENCE, open).await?;
    Ok(moments().max().unwrap_or(0))
}

/// Readings that were produced, and of them those that the hub's ledgers lack.
async fn lost(hub: &Hub, agents: JoinSet<anyhow::Result<(usize, u64)>>) -> anyhow::Result<(f64, f64)> {
    let (mut produced_all, mut lost) = (0_u64, 0_u64);
    for done in agents.join_all().await {
        let (number, produced) = done?;
        let stored = hub.ledger(&device(number)).await?.map_or(0, |ledger| ledger.stored);
        produced_all += produced;
        lost += produced.abs_diff(stored);
    }
    Ok((produced_all as f64, lost as f64))
}

async fn restart(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let mut hub = Hub::start().await?;
    let identities = enrol(&hub).await?;
    let (produce, producing) = watch::channel(true);
    let fleet = Arc::new(Fleet {
        hub: hub.quic(),
        clock: SystemClock::default(),
        opened_ns: std::iter::repeat_with(|| AtomicU64::new(0)).take(AGENTS).collect(),
        produce: producing,
    });
    let mut agents = JoinSet::new();
    let mut endpoint = None;
    for (number, identity) in identities.into_iter().enumerate() {
        if number % PER_SOCKET == 0 {
            endpoint = Some(ClientEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into())?);
        }
        let endpoint = endpoint.as_ref().context("a socket")?;
        let agent = SimAgent::new(&fleet, endpoint, identity, number)?;
        agents.spawn(async move { anyhow::Ok((number, agent.run().await?)) });
    }
    all_open(&fleet, 0).await?;
    sleep(STEADY).await;
    let killed_ns = fleet.clock.mono_ns();
    hub.kill_and_restart().await?;
    let ready_ns = fleet.clock.mono_ns();
    let opened_ns = all_open(&fleet, killed_ns).await?;
    sleep(STEADY).await;
    produce.send_replace(false);
    let (produced, lost) = lost(&hub, agents).await?;
    let since = |start_ns: u64| opened_ns.saturating_sub(start_ns) as f64 / 1e9;
    let workload = "1,000 agents, 10 readings/s each";
    let mut push = |name, value, unit| figures.push(Figure { name, workload, value, unit });
    push("hub killed to the last agent's new session", since(killed_ns), "s");
    push("hub ready again to the last agent's new session (goal 15)", since(ready_ns), "s");
    push("readings produced", produced / 1e3, "k");
    push("  of them not stored once (goal 0)", lost, "readings");
    Ok(())
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(restart(figures))
}
