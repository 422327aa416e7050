//! The uplink: one loop around the session, and the waits between sessions.
//!
//! Whatever happens here, the spool keeps the readings: a session that ends is simply begun again
//! from what the hub says that it has.

use std::sync::Arc;
use std::time::Duration;

use tideline_link::link::{FrameReceiver, FrameSender, Link, LinkError, LinkHandle};
use tideline_link::quic::{ClientEndpoint, Congestion, LinkOptions, resolve};
use tideline_link::tls::client_config;
use tideline_protocol::model::Seq;
use tideline_protocol::session::{AgentAction, AgentSession, BackfillBudget, SessionError};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Frame, Hello, RefuseCode, RunEnvelope, VERSION};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backoff::{BackOff, LONG_SESSION_NS};
use crate::floor::floored;
use crate::identity::Identity;
use crate::spooler::{Loaded, SpoolHandle, SpoolState};
use crate::status::Board;
use crate::sync::Wake;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for room on the line: a hub that hangs must not hold the agent.
const SEND_MAX: Duration = Duration::from_secs(30);
/// How often time is given to the session when nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// Everything the uplink works with.
pub struct Uplink {
    /// Who the agent is.
    pub identity: Identity,
    /// host:port of the hub; a change ends the session, and the next one is with the new address.
    pub hub: watch::Receiver<String>,
    /// How QUIC reacts to loss.
    pub congestion: Congestion,
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
    pub clock: SystemClock,
}

enum Event {
    Frame(Option<Box<Frame>>),
    Appended,
    Tick,
}

impl Uplink {
    /// Connects again and again, until drained after being told to.
    pub async fn run(mut self) {
        let (mut back_off, mut hub) = (BackOff::default(), String::new());
        loop {
            let before = std::mem::replace(&mut hub, self.hub.borrow_and_update().clone());
            if hub != before {
                back_off.reset();
            }
            self.breaker("half-open", back_off.failures(), 0);
            self.board.update(|status| status.hub.clone_from(&hub));
            let error = match self.connect(&hub).await {
                Ok(link) => match self.session(link, &mut back_off).await {
                    Ok(()) => return self.down("closed", None),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(hub, error = %error, "no session with the hub");
            if matches!(error.downcast_ref(), Some(SessionError::OldCopy { .. }))
                && let Err(error) = self.spool.begin_life(entropy()).await
            {
                tracing::error!(%error, "no new life for a spool that is an old copy");
            }
            self.down("open", Some(format!("{error:#}")));
            if *self.drain.borrow() {
                return;
            }
            // A session that was ended for another address is no failure of either hub.
            if *self.hub.borrow() != hub {
                continue;
            }
            let wait_ms = back_off.fail(refusal(&error), entropy());
            self.breaker("open", back_off.failures(), wait_ms);
            wait_out(Duration::from_millis(wait_ms), &mut self.drain, &mut self.hub, &self.wake).await;
        }
    }

    fn breaker(&self, state: &str, failures: u32, wait_ms: u64) {
        self.board.update(|status| {
            state.clone_into(&mut status.breaker.state);
            status.breaker.failures = failures;
            status.breaker.wait_ms = wait_ms;
        });
    }

    fn down(&self, state: &str, error: Option<String>) {
        self.board.update(|status| {
            status.connected = false;
            status.transport = None;
            status.rtt_ms = None;
            state.clone_into(&mut status.breaker.state);
            if error.is_some() {
                status.last_error = error;
            }
        });
    }

    async fn connect(&self, hub: &str) -> anyhow::Result<Link> {
        let floor = floored(Arc::new(self.clock), self.identity.file.floor_s);
        let certificate = &self.identity.certificate;
        let tls = client_config(certificate, &certificate.ca_pem, floor, &[tideline_link::quic::ALPN])?;
        let endpoint = ClientEndpoint::bind_any(&LinkOptions { congestion: self.congestion })?;
        let mut last = None;
        for addr in resolve(hub, CONNECT_TIMEOUT).await? {
            let name = &self.identity.file.server_name;
            match endpoint.connect(addr, name, tls.clone(), CONNECT_TIMEOUT).await {
                Ok(link) => return Ok(link.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("{hub} has no address"), anyhow::Error::from))
    }

    /// One session, until it fails or everything is sent after the call to drain.
    async fn session(&mut self, link: Link, back_off: &mut BackOff) -> anyhow::Result<()> {
        let handle = link.handle();
        let (mut sender, mut receiver) = link.split();
        let mut state = self.spool.state();
        let before = state.borrow().epoch;
        let view = self.spool.view().await?;
        let seen = *state.borrow_and_update();
        anyhow::ensure!(seen.epoch == before, "the spool began a new epoch");
        let hello = self.hello(&seen, view.head);
        let mut session = AgentSession::new(self.clock.mono_ns(), hello, view, BackfillBudget::default());
        session.handle_appended(seen.head, seen.series, seen.account);
        let (mut dropped, mut opened_ns) = (seen.account.dropped, None);
        loop {
            self.carry_out(&mut session, &mut sender, seen, back_off).await?;
            if session.is_open() {
                let now_ns = self.clock.mono_ns();
                if now_ns.saturating_sub(*opened_ns.get_or_insert(now_ns)) >= LONG_SESSION_NS {
                    back_off.reset();
                }
                self.show_connected(&session, &handle, back_off.failures());
                if *self.drain.borrow() && session.is_drained() {
                    sender.finish().await?;
                    handle.close(0, "bye");
                    tracing::info!("everything is at the hub");
                    return Ok(());
                }
            }
            match wait(&mut receiver, &mut state, &mut self.hub).await? {
                Event::Frame(Some(frame)) => {
                    session.handle_message(self.clock.mono_ns(), self.clock.wall_ns(), frame.message)?;
                }
                Event::Frame(None) => anyhow::bail!("the hub ended the session"),
                Event::Tick => {}
                Event::Appended => {
                    let now = *state.borrow_and_update();
                    if now.epoch != seen.epoch {
                        anyhow::bail!("the spool began a new epoch");
                    }
                    if now.account.dropped != dropped {
                        dropped = now.account.dropped;
                        self.spool.fresh_gaps().await?.into_iter().for_each(|gap| session.handle_gap(gap));
                    }
                    session.handle_appended(now.head, now.series, now.account);
                }
            }
        }
    }

    fn hello(&self, seen: &SpoolState, head: Seq) -> Hello {
        Hello {
            versions: vec![VERSION],
            capabilities: Vec::new(),
            agent: self.identity.file.agent.clone(),
            epoch: seen.epoch,
            boot: self.boot,
            mono_ns: self.clock.mono_ns(),
            wall_ns: self.clock.wall_ns(),
            head,
            software: concat!("edge-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
            account: seen.account,
            // The session fills these in from the spool.
            lives: Vec::new(),
            moved: None,
        }
    }

    /// Does what the session asks for.
    async fn carry_out(
        &self,
        session: &mut AgentSession,
        sender: &mut FrameSender,
        seen: SpoolState,
        back_off: &mut BackOff,
    ) -> anyhow::Result<()> {
        while let Some(action) = session.poll(self.clock.mono_ns())? {
            match action {
                AgentAction::Send(message) => {
                    let frame = Frame::from(message);
                    let sent = tokio::time::timeout(SEND_MAX, sender.send(&frame)).await;
                    sent.map_err(|_| anyhow::anyhow!("the hub takes nothing for {} s", SEND_MAX.as_secs()))??;
                }
                AgentAction::LoadSeries { from, max } => {
                    session.handle_series(from, self.spool.series(from, max).await?);
                }
                AgentAction::LoadRun { lane, seqs, bytes_max } => {
                    match self.spool.load(seqs, bytes_max).await? {
                        Loaded::Gone(gone) => session.handle_gone(&gone),
                        Loaded::Run(run) => {
                            let (rows, series_end) = (run.rows, run.series_end);
                            let envelope =
                                RunEnvelope { epoch: seen.epoch, lane, first: run.first, rows, series_end };
                            session.handle_run(self.clock.mono_ns(), envelope, run.block);
                        }
                    }
                }
                AgentAction::Settle(settlement) => {
                    let before = self.spool.state().borrow().account;
                    self.spool.settle(settlement).await?;
                    let account = self.spool.state().borrow().account;
                    if account.stored + account.refused > before.stored + before.refused {
                        back_off.settled();
                    }
                    session.handle_account(account);
                }
                AgentAction::Branch(at) => {
                    self.spool.branch(at).await?;
                    anyhow::bail!("this spool is a copy of another: it goes on under a new epoch");
                }
            }
        }
        Ok(())
    }

    fn show_connected(&self, session: &AgentSession, handle: &LinkHandle, failures: u32) {
        let rtt_us = session.round_trip_ns().map_or_else(|| handle.stats().rtt_us, |ns| ns / 1_000);
        self.board.update(|status| {
            if !status.connected {
                tracing::info!(hub = status.hub, "connected");
            }
            status.connected = true;
            status.transport = Some(handle.transport().as_str().into());
            status.rtt_ms = Some(f64::from(u32::try_from(rtt_us).unwrap_or(u32::MAX)) / 1_000.0);
            status.last_error = None;
        });
        self.breaker("closed", failures, 0);
    }
}

/// Waits, but no longer than there is a reason to.
async fn wait_out(
    wait: Duration,
    drain: &mut watch::Receiver<bool>,
    hub: &mut watch::Receiver<String>,
    wake: &Wake,
) {
    tokio::select! {
        () = sleep(wait) => {}
        _ = drain.wait_for(|drain| *drain) => {}
        Ok(()) = hub.changed() => {}
        () = wake.woken() => {}
    }
}

async fn wait(
    receiver: &mut FrameReceiver,
    state: &mut watch::Receiver<SpoolState>,
    hub: &mut watch::Receiver<String>,
) -> anyhow::Result<Event> {
    tokio::select! {
        Ok(()) = hub.changed() => Err(anyhow::anyhow!("the hub's address was changed")),
        frame = receiver.recv() => Ok(Event::Frame(frame?.map(Box::new))),
        changed = state.changed() => changed.map(|()| Event::Appended).map_err(|_| anyhow::anyhow!("the spool has ended")),
        () = sleep(TICK) => Ok(Event::Tick),
    }
}

/// With what the hub refused, when that is how it ended.
fn refusal(error: &anyhow::Error) -> Option<RefuseCode> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(SessionError::Refused { code, .. }), _) => Some(*code),
        (_, Some(LinkError::OwnCertificate { .. })) => Some(RefuseCode::Identity),
        _ => None,
    }
}

fn entropy() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without entropy the wait is the shortest: worse for the hub, not for the readings.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_from_other_ends_of_a_session() {
        let refused =
            SessionError::Refused { code: RefuseCode::Revoked, reason: String::new(), retry_after_ms: 0 };
        assert_eq!(refusal(&refused.into()), Some(RefuseCode::Revoked));
        let own = LinkError::OwnCertificate { reason: String::new() };
        assert_eq!(refusal(&own.into()), Some(RefuseCode::Identity));
        assert_eq!(refusal(&LinkError::TimedOut.into()), None);
        assert_eq!(refusal(&SessionError::Timeout.into()), None);
        assert_eq!(refusal(&anyhow::anyhow!("the hub ended the session")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_early_for_a_sync_a_new_address_or_the_end() {
        let (drain, mut drain_now) = watch::channel(false);
        let (hub, mut hub_now) = watch::channel(String::from("a:1"));
        let (wake, hour) = (Wake::default(), Duration::from_secs(3600));
        let start = tokio::time::Instant::now();
        wake.wake();
        wait_out(hour, &mut drain_now, &mut hub_now, &wake).await;
        hub.send_replace("b:1".into());
        wait_out(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        wait_out(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert!(start.elapsed() >= hour);
        drain.send_replace(true);
        wait_out(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert!(start.elapsed() < hour * 2);
    }
}
