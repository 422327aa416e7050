//! The uplink: chooses the way to the hub, keeps a session on it, and looks for a better one.
//!
//! Whatever happens here, the spool keeps the readings: a session that ends is simply begun again
//! from what the hub says that it has, over whatever transport.

pub mod chooser;
pub mod dial;
pub mod resolver;
pub mod routes;
mod session;
mod show;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tideline_link::link::{LinkError, LinkHandle, LinkStats};
use tideline_link::quic::ClientEndpoint;
use tideline_protocol::model::AgentId;
use tideline_protocol::session::{BackfillBudget, SessionError};
use tideline_protocol::time::Clock;
use tideline_protocol::wire::{Health, RefuseCode};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::sleep;

use self::chooser::{Advice, Chooser};
use self::dial::{Dial, Dialled};
use self::routes::Routes;
use self::session::{Driver, Outdated, Progress};
use crate::agreement::Questions;
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::commands::Commands;
use crate::config::InForce;
use crate::resilience::{Refusal, entropy};
use crate::spooler::{SpoolHandle, SpoolState};
use crate::status::Board;
use crate::sync::Wake;
use crate::twin::TwinHandle;

/// How often a session's link is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Over how many packets loss is told.
const LOSS_PACKETS: u64 = 50;
/// How often the address of this machine towards the hub is looked at.
const ADDRESS_EVERY_NS: u64 = 2_000_000_000;

/// Everything the uplink works with.
pub struct Uplink {
    /// Who the agent is.
    pub agent: AgentId,
    /// Opens links.
    pub dialler: Arc<dyn Dial>,
    /// The ways to the hub. A session whose way is no longer among them ends.
    pub routes: watch::Receiver<Routes>,
    /// The spool.
    pub spool: SpoolHandle,
    /// Where its state is shown.
    pub board: Board,
    /// True once everything is in the spool and only the rest is to be sent.
    pub drain: watch::Receiver<bool>,
    /// Ends a wait between two attempts.
    pub wake: Wake,
    /// A random id of this start.
    pub boot: [u8; 16],
    /// The clocks.
    pub clock: AgentClock,
    /// How much of the link old readings may take.
    pub backfill: BackfillBudget,
    /// What is known of the devices.
    pub cards: Cards,
    /// The twins; without them the hub is told of none.
    pub twins: Option<TwinHandle>,
    /// What the hub is to be asked.
    pub questions: Questions,
    /// Takes its commands.
    pub commands: Commands,
    /// What is in force of the configuration.
    pub in_force: InForce,
}

/// The session that there is. Dropped, it ends.
struct Live {
    handle: LinkHandle,
    endpoint: Option<ClientEndpoint>,
    progress: watch::Receiver<Progress>,
    seen: Progress,
    stats: LinkStats,
    heard_bytes: u64,
    local: Option<std::net::IpAddr>,
    local_ns: u64,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The loop's own state.
struct Loop {
    uplink: Uplink,
    chooser: Chooser,
    dials: JoinSet<anyhow::Result<Dialled>>,
    // The place of the path that each dials; none of those that were given up.
    dialling: HashMap<Id, usize>,
    links: HashMap<usize, Dialled>,
    live: Option<Live>,
    health: watch::Sender<Health>,
    health_ns: u64,
}

enum Event {
    Dialled(Box<Result<(Id, anyhow::Result<Dialled>), JoinError>>),
    Ended(Result<anyhow::Result<()>, JoinError>),
    Progress,
    Routes,
    Drain,
    Wake,
    Appended,
    Due,
}

impl Uplink {
    /// Connects again and again, until it is told to drain and all is sent, or there is no session.
    pub async fn run(mut self) {
        let routes = self.routes.borrow_and_update().clone();
        let chooser = Chooser::new(routes.paths, nanos(routes.probe_every));
        let (dials, dialling, links) = (JoinSet::new(), HashMap::new(), HashMap::new());
        let mut state = self.spool.state();
        let mut driven = Loop {
            uplink: self,
            chooser,
            dials,
            dialling,
            links,
            live: None,
            health: watch::Sender::new(show::NO_HEALTH),
            health_ns: 0,
        };
        loop {
            let now_ns = driven.now_ns();
            driven.chooser.handle_pending(now_ns, is_pending(&state.borrow_and_update()));
            driven.look(now_ns);
            while let Some(advice) = driven.chooser.poll(now_ns, entropy()) {
                driven.follow(advice).await;
            }
            driven.show();
            driven.tell_health(now_ns);
            if driven.may_end() {
                return;
            }
            let event = driven.wait(&mut state).await;
            if driven.handle(event).await {
                return driven.down(None);
            }
        }
    }
}

impl Loop {
    fn now_ns(&self) -> u64 {
        self.uplink.clock.mono_ns()
    }

    async fn wait(&mut self, state: &mut watch::Receiver<SpoolState>) -> Event {
        let now_ns = self.now_ns();
        let due_ns = self.chooser.due_ns(now_ns).map_or(u64::MAX, |due_ns| due_ns - now_ns);
        // Rounded up, or the loop would turn once more for nothing.
        let due = Duration::from_nanos(due_ns).saturating_add(Duration::from_millis(1));
        let due = if self.live.is_some() { due.min(LOOK_EVERY) } else { due };
        let draining = *self.uplink.drain.borrow();
        let ended = async {
            match &mut self.live {
                Some(live) => tokio::select! {
                    ended = &mut live.task => Event::Ended(ended),
                    Ok(()) = live.progress.changed() => Event::Progress,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = ended => event,
            Some(done) = self.dials.join_next_with_id() => Event::Dialled(Box::new(done)),
            Ok(()) = self.uplink.routes.changed() => Event::Routes,
            Ok(_) = self.uplink.drain.wait_for(|drain| *drain), if !draining => Event::Drain,
            () = self.uplink.wake.woken() => Event::Wake,
            Ok(()) = state.changed() => Event::Appended,
            () = sleep(due) => Event::Due,
        }
    }

    /// True when all is sent.
    async fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Dialled(done) => match *done {
                Ok((id, dialled)) => self.dialled(id, dialled),
                Err(error) => self.dialled(error.id(), Err(error.into())),
            },
            Event::Progress | Event::Appended | Event::Due | Event::Drain => {}
            Event::Ended(Ok(Ok(()))) => {
                tracing::info!("everything is at the hub");
                return true;
            }
            Event::Ended(Ok(Err(error))) => self.ended(error).await,
            Event::Ended(Err(error)) => self.ended(error.into()).await,
            Event::Routes => self.reroute(),
            Event::Wake => self.chooser.hurry(),
        }
        false
    }

    fn dialled(&mut self, id: Id, dialled: anyhow::Result<Dialled>) {
        let Some(at) = self.dialling.remove(&id) else { return };
        let now_ns = self.now_ns();
        match dialled {
            Ok(dialled) => {
                self.chooser.handle_dialled(now_ns, at, dialled.rtt_us);
                self.links.insert(at, dialled);
            }
            Err(error) => {
                self.chooser.handle_dial_failed(now_ns, at, refusal(&error), entropy());
                self.tell(at, &error);
            }
        }
    }

    /// Says why a dial failed; a probe beside a session that works is of less interest.
    fn tell(&self, at: usize, error: &anyhow::Error) {
        let path = self.chooser.path(at).map(ToString::to_string).unwrap_or_default();
        if self.live.is_some() && !self.chooser.is_silent() {
            tracing::debug!(path, error = format!("{error:#}"), "no link");
            return;
        }
        tracing::warn!(path, error = format!("{error:#}"), "no link to the hub");
        self.uplink.board.update(|status| status.last_error = Some(format!("{error:#}")));
    }

    async fn ended(&mut self, error: anyhow::Error) {
        let hub = self.chooser.carries().and_then(|at| self.chooser.path(at)).map(ToString::to_string);
        self.live = None;
        tracing::warn!(path = hub, error = format!("{error:#}"), "the session has ended");
        if matches!(error.downcast_ref(), Some(SessionError::OldCopy { .. }))
            && let Err(error) = self.uplink.spool.begin_life(entropy()).await
        {
            tracing::error!(%error, "no new life for a spool that is an old copy");
        }
        if error.is::<Outdated>() {
            self.chooser.handle_left();
        } else {
            self.chooser.handle_ended(self.now_ns(), refusal(&error), entropy());
        }
        self.down(Some(format!("{error:#}")));
    }

    /// Other paths: dials are given up, the session ends unless its own is still there.
    fn reroute(&mut self) {
        let routes = self.uplink.routes.borrow_and_update().clone();
        self.dials.abort_all();
        self.dialling.clear();
        self.links.clear();
        if !self.chooser.set_paths(routes.paths, nanos(routes.probe_every)) && self.live.take().is_some() {
            self.down(Some("the hub's address was changed".to_owned()));
        }
        self.chooser.hurry();
    }

    async fn follow(&mut self, advice: Advice) {
        match advice {
            Advice::Dial(at) => {
                let Some(path) = self.chooser.path(at).cloned() else { return };
                let knock_every = Duration::from_nanos(self.chooser.knock_every_ns(self.now_ns(), at));
                let dial = Arc::clone(&self.uplink.dialler).dial(path, knock_every);
                self.dialling.insert(self.dials.spawn(dial).id(), at);
            }
            Advice::Drop(at) => drop(self.links.remove(&at)),
            Advice::Take(at) => {
                let Some(dialled) = self.links.remove(&at) else { return };
                if let Some(mut old) = self.live.take() {
                    old.task.abort();
                    // It must not tell the spool anything once the new one asks it.
                    let _aborted = (&mut old.task).await;
                    old.handle.close(0, "another path is taken");
                }
                self.live = Some(self.begin(dialled));
            }
        }
    }

    fn begin(&self, dialled: Dialled) -> Live {
        let (uplink, handle) = (&self.uplink, dialled.link.handle());
        let (sender, progress) = watch::channel(Progress::default());
        let driver = Driver {
            agent: uplink.agent.clone(),
            boot: uplink.boot,
            spool: uplink.spool.clone(),
            clock: uplink.clock,
            backfill: uplink.backfill,
            drain: uplink.drain.clone(),
            progress: sender,
            health: self.health.subscribe(),
            cards: uplink.cards.follow(),
            twins: uplink.twins.as_ref().map(TwinHandle::line),
            questions: uplink.questions.clone(),
            asked: None,
            commands: uplink.commands.clone(),
            said: None,
            config: uplink.in_force.follow(),
            sending: false,
        };
        Live {
            endpoint: dialled.endpoint,
            progress,
            seen: Progress::default(),
            stats: handle.stats(),
            heard_bytes: 0,
            local: local_towards(handle.remote_addr()),
            local_ns: self.now_ns(),
            task: tokio::spawn(driver.run(dialled.link)),
            handle,
        }
    }

    /// Looks at the session's link and tells the chooser.
    fn look(&mut self, now_ns: u64) {
        let Some(live) = &mut self.live else { return };
        let (stats, progress) = (live.handle.stats(), *live.progress.borrow_and_update());
        if stats.recv_bytes != live.heard_bytes {
            live.heard_bytes = stats.recv_bytes;
            self.chooser.handle_heard(now_ns);
        }
        (live.seen.achieved..progress.achieved).for_each(|_| self.chooser.handle_achieved());
        let rtt_us = progress.rtt_us.filter(|_| progress.rtt_us != live.seen.rtt_us);
        let sent = stats.sent_packets.saturating_sub(live.stats.sent_packets);
        let lost = stats.lost_packets.saturating_sub(live.stats.lost_packets);
        let loss_ppm = (sent >= LOSS_PACKETS).then(|| {
            live.stats = stats;
            u32::try_from(lost.saturating_mul(1_000_000) / sent).unwrap_or(u32::MAX).min(1_000_000)
        });
        self.chooser.handle_measured(rtt_us, loss_ppm);
        live.seen = progress;
        live.follow_address(now_ns);
    }

    /// After the call to drain: whether no hub takes anything now. The spool keeps it.
    fn may_end(&self) -> bool {
        let is_open = self.live.as_ref().is_some_and(|live| live.seen.open) && !self.chooser.is_silent();
        *self.uplink.drain.borrow() && !is_open
    }
}

impl Live {
    /// Moves the link when this machine reaches the hub from another address than before. The
    /// connection goes on: the hub sees it come from elsewhere and proves that.
    fn follow_address(&mut self, now_ns: u64) {
        let Some(endpoint) = &self.endpoint else { return };
        if now_ns.saturating_sub(self.local_ns) < ADDRESS_EVERY_NS {
            return;
        }
        self.local_ns = now_ns;
        let local = local_towards(self.handle.remote_addr());
        if local.is_none() || local == self.local {
            return;
        }
        self.local = local;
        match endpoint.rebind() {
            Ok(()) => tracing::info!(?local, "this machine has another address; the link moves to it"),
            Err(error) => tracing::warn!(?local, %error, "the link cannot move to the new address"),
        }
    }
}

/// The address of this machine that packets to the hub are sent from. Nothing is sent for it.
fn local_towards(hub: std::net::SocketAddr) -> Option<std::net::IpAddr> {
    let any: std::net::IpAddr = match hub {
        std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(hub).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

fn is_pending(state: &SpoolState) -> bool {
    state.pending_from <= state.head
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// With what the hub refused, when that is how it ended.
fn refusal(error: &anyhow::Error) -> Option<Refusal> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(SessionError::Refused { code, retry_after_ms, .. }), _) => {
            Some(Refusal { code: *code, retry_after_ms: *retry_after_ms })
        }
        (_, Some(LinkError::OwnCertificate { .. })) => Some(RefuseCode::Identity.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_from_other_ends_of_a_session() {
        let (code, retry_after_ms) = (RefuseCode::Revoked, 7);
        let refused = SessionError::Refused { code, reason: String::new(), retry_after_ms };
        assert_eq!(refusal(&refused.into()), Some(Refusal { code, retry_after_ms }));
        let own = LinkError::OwnCertificate { reason: String::new() };
        assert_eq!(refusal(&own.into()), Some(RefuseCode::Identity.into()));
        assert_eq!(refusal(&LinkError::TimedOut.into()), None);
        assert_eq!(refusal(&SessionError::Timeout.into()), None);
        assert_eq!(refusal(&anyhow::anyhow!("the hub ended the session")), None);
    }
}
