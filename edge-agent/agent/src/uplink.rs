//! The uplink: one loop around the session, and the waits between sessions.
//!
//! Whatever happens here, the spool keeps the readings: a session that ends is simply begun again
//! from what the hub says that it has.

use std::sync::Arc;
use std::time::Duration;

use tideline_link::quic::{
    ClientEndpoint, FrameReceiver, FrameSender, Link, LinkHandle, LinkOptions, resolve,
};
use tideline_link::tls::client_config;
use tideline_protocol::model::Seq;
use tideline_protocol::session::{AgentAction, AgentSession};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Frame, Hello, RunEnvelope, VERSION};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::floor::floored;
use crate::identity::Identity;
use crate::spooler::{Loaded, SpoolHandle, SpoolState};
use crate::status::Board;
use crate::sync::Wake;

/// The least upper bound of a wait between two attempts.
const WAIT_BASE_MS: u64 = 100;
/// The greatest, so that a hub that is back sees its agents within a second.
const WAIT_MAX_MS: u64 = 1_000;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often time is given to the session when nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// Everything the uplink works with.
pub struct Uplink {
    /// Who the agent is.
    pub identity: Identity,
    /// host:port of the hub; a change ends the session, and the next one is with the new address.
    pub hub: watch::Receiver<String>,
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
        let mut failures = 0_u32;
        loop {
            self.breaker("half-open", failures, 0);
            let hub = self.hub.borrow_and_update().clone();
            self.board.update(|status| status.hub.clone_from(&hub));
            let error = match self.connect(&hub).await {
                Ok(link) => match self.session(link, &mut failures).await {
                    Ok(()) => return self.down("closed", None),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(hub, error = %error, "no session with the hub");
            self.down("open", Some(format!("{error:#}")));
            if *self.drain.borrow() {
                return;
            }
            let wait_ms = wait_ms(failures, entropy());
            failures = failures.saturating_add(1);
            self.breaker("open", failures, wait_ms);
            let wait = Duration::from_millis(wait_ms);
            back_off(wait, &mut self.drain, &mut self.hub, &self.wake).await;
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
        let endpoint = ClientEndpoint::bind_any(&LinkOptions::default())?;
        let mut last = None;
        for addr in resolve(hub, CONNECT_TIMEOUT).await? {
            let name = &self.identity.file.server_name;
            match endpoint.connect(addr, name, tls.clone(), CONNECT_TIMEOUT).await {
                Ok(link) => return Ok(link),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("{hub} has no address"), anyhow::Error::from))
    }

    /// One session, until it fails or everything is sent after the call to drain.
    async fn session(&mut self, link: Link, failures: &mut u32) -> anyhow::Result<()> {
        let handle = link.handle();
        let (mut sender, mut receiver) = link.split();
        let mut state = self.spool.state();
        let view = self.spool.view().await?;
        let seen = *state.borrow_and_update();
        let mut session = AgentSession::new(self.clock.mono_ns(), self.hello(&seen, view.head), view);
        session.handle_appended(seen.head, seen.series, seen.account);
        let mut dropped = seen.account.dropped;
        loop {
            self.carry_out(&mut session, &mut sender, seen).await?;
            if session.is_open() {
                self.show_connected(&session, &handle, failures);
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
        }
    }

    async fn carry_out(
        &self,
        session: &mut AgentSession,
        sender: &mut FrameSender,
        seen: SpoolState,
    ) -> anyhow::Result<()> {
        while let Some(action) = session.poll(self.clock.mono_ns())? {
            match action {
                AgentAction::Send(message) => sender.send(&Frame::from(message)).await?,
                AgentAction::LoadSeries { from, max } => {
                    session.handle_series(from, self.spool.series(from, max).await?);
                }
                AgentAction::LoadRun { lane, first, last, bytes_max } => {
                    match self.spool.load(first, last, bytes_max).await? {
                        Loaded::Gone(end) => session.handle_gone(first, end),
                        Loaded::Run(run) => {
                            let (rows, series_end) = (run.rows, run.series_end);
                            let envelope =
                                RunEnvelope { epoch: seen.epoch, lane, first: run.first, rows, series_end };
                            session.handle_run(envelope, run.block);
                        }
                    }
                }
                AgentAction::Settle(settlement) => {
                    self.spool.settle(settlement).await?;
                    session.handle_account(self.spool.state().borrow().account);
                }
            }
        }
        Ok(())
    }

    fn show_connected(&self, session: &AgentSession, handle: &LinkHandle, failures: &mut u32) {
        *failures = 0;
        let rtt_us = session.round_trip_ns().map_or_else(|| handle.stats().rtt_us, |ns| ns / 1_000);
        self.board.update(|status| {
            if !status.connected {
                tracing::info!(hub = status.hub, "connected");
            }
            status.connected = true;
            status.transport = Some("quic".into());
            status.rtt_ms = Some(f64::from(u32::try_from(rtt_us).unwrap_or(u32::MAX)) / 1_000.0);
            status.last_error = None;
        });
        self.breaker("closed", 0, 0);
    }
}

/// Waits, but no longer than there is a reason to.
async fn back_off(
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

/// Full jitter over an exponentially growing bound, clamped after the jitter.
fn wait_ms(failures: u32, entropy: u64) -> u64 {
    let bound = WAIT_BASE_MS.saturating_mul(1_u64 << failures.min(20));
    (entropy % bound.saturating_add(1)).min(WAIT_MAX_MS)
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
    fn waits_never_exceed_their_maximum_and_begin_short() {
        for entropy in [0, 1, 77, u64::MAX, u64::MAX / 3] {
            assert!(wait_ms(0, entropy) <= WAIT_BASE_MS);
            assert!((0..100).all(|failures| wait_ms(failures, entropy) <= WAIT_MAX_MS));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_early_for_a_sync_a_new_address_or_the_end() {
        let (drain, mut drain_now) = watch::channel(false);
        let (hub, mut hub_now) = watch::channel(String::from("a:1"));
        let (wake, hour) = (Wake::default(), Duration::from_secs(3600));
        let start = tokio::time::Instant::now();
        wake.wake();
        back_off(hour, &mut drain_now, &mut hub_now, &wake).await;
        hub.send_replace("b:1".into());
        back_off(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        back_off(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert!(start.elapsed() >= hour);
        drain.send_replace(true);
        back_off(hour, &mut drain_now, &mut hub_now, &wake).await;
        assert!(start.elapsed() < hour * 2);
    }
}
