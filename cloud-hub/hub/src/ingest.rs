//! The path of readings into the store: accept a link, drive its session, carry out what it asks.
//!
//! One loop per connection: wait for a frame, a finished append, or the word to end; hand it to
//! the session; carry out what the session asks. The session itself does no I/O.

use std::sync::Arc;
use std::time::Duration;

use tideline_link::quic::{FrameReceiver, FrameSender, IncomingLink, Link, LinkError, ServerEndpoint};
use tideline_protocol::durability::{Batch, Durable};
use tideline_protocol::model::{AgentId, Epoch, Gap};
use tideline_protocol::session::{AgentState, HubAction, HubSession, SessionError};
use tideline_protocol::wire::{Frame, Hello, RefuseCode, Series};
use tideline_store::StoreError;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use crate::api::devices::query_gap;
use crate::fleet::Cut;
use crate::hub::App;
use crate::live::Happening;
use crate::metadata::{DeviceRecord, MetadataError};
use crate::secret::hex;
use crate::telemetry::Metric;

/// Longest handshake, first frame included.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Longest silence of an agent, which pings every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Most sessions and handshakes at once; each may hold the credit's bytes of runs.
const SESSIONS_MAX: usize = 4096;
/// Most appends of one session on their way to the disk: enough to keep the group commit busy.
const APPENDS_MAX: usize = 16;
/// How long the last frames may take to leave when a session ends.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("an append was lost: {0}")]
    Append(#[from] JoinError),
    #[error("silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the link names no agent")]
    Nameless,
}

/// Takes links until the hub stops.
pub async fn accept(hub: App, endpoint: Arc<ServerEndpoint>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            () = hub.stopped() => break,
            Some(_) = sessions.join_next() => {}
            incoming = endpoint.accept(), if sessions.len() < SESSIONS_MAX => match incoming {
                Some(incoming) => { sessions.spawn(serve(Arc::clone(&hub), incoming)); }
                None => break,
            },
        }
    }
    while sessions.join_next().await.is_some() {}
}

async fn serve(hub: App, incoming: IncomingLink) {
    let remote = incoming.remote_addr();
    let link = match incoming.finish(HANDSHAKE_MAX).await {
        Ok(link) => link,
        Err(error) => {
            hub.counters.add(Metric::HandshakesFailed, 1);
            tracing::debug!(%remote, %error, "handshake failed");
            return;
        }
    };
    let agent = link.peer_agent().map(ToString::to_string).unwrap_or_default();
    match drive(&hub, link).await {
        Ok(()) => tracing::info!(agent, %remote, "session ended"),
        Err(error @ (Ended::Session(_) | Ended::Nameless)) => {
            hub.counters.add(Metric::SessionsRefused, 1);
            tracing::warn!(agent, %remote, %error, "session refused");
        }
        Err(error @ (Ended::Store(_) | Ended::Metadata(_) | Ended::Append(_))) => {
            tracing::error!(agent, %remote, %error, "session failed at the hub");
        }
        Err(error @ (Ended::Link(_) | Ended::Silent)) => {
            tracing::info!(agent, %remote, %error, "session ended")
        }
    }
}

type Appends = JoinSet<Result<Batch<Durable>, StoreError>>;

/// One connection, with all that its loop touches.
struct Driver {
    hub: App,
    agent: AgentId,
    // Of the public key in its certificate.
    key_hash: String,
    session: HubSession,
    sender: FrameSender,
    appends: Appends,
    // The session's number in the fleet, once the hello was good.
    entered: Option<u64>,
    told: Option<oneshot::Receiver<Cut>>,
}

async fn drive(hub: &App, link: Link) -> Result<(), Ended> {
    let agent = link.peer_agent().ok_or(Ended::Nameless)?.clone();
    let key_hash = link.peer_key_sha256().map(|hash| hex(&hash)).ok_or(Ended::Nameless)?;
    let handle = link.handle();
    let (sender, receiver) = link.split();
    let session = HubSession::new(agent.clone());
    let mut driver = Driver {
        hub: Arc::clone(hub),
        agent,
        key_hash,
        session,
        sender,
        appends: JoinSet::new(),
        entered: None,
        told: None,
    };
    let ended = driver.run(receiver).await;
    if matches!(ended, Err(Ended::Store(_) | Ended::Metadata(_) | Ended::Append(_))) {
        driver.session.refuse(RefuseCode::Unavailable, "the hub cannot take data now".to_owned());
        // The link may be gone as well; the agent comes back either way.
        let _closing = driver.carry_out().await;
    }
    driver.leave();
    // Lets a refusal reach the agent before the connection goes.
    let _late = tokio::time::timeout(FAREWELL_MAX, driver.sender.finish()).await;
    handle.close(0, "session ended");
    ended
}

impl Driver {
    /// The loop: an event, the session, what the session asks.
    async fn run(&mut self, mut receiver: FrameReceiver) -> Result<(), Ended> {
        let hub = Arc::clone(&self.hub);
        let stopped = hub.stopped();
        tokio::pin!(stopped);
        loop {
            let may_receive = self.appends.len() < APPENDS_MAX;
            tokio::select! {
                Some(done) = self.appends.join_next() => self.session.handle_durable(&done??),
                frame = silent_max(receiver.recv()), if may_receive => match frame? {
                    Some(frame) => self.frame(frame).await?,
                    None => return Ok(()),
                },
                cut = told(&mut self.told) => self.session.refuse(cut.0, cut.1.to_owned()),
                () = &mut stopped => self.session.refuse(RefuseCode::Unavailable, "the hub is shutting down".to_owned()),
            }
            if self.carry_out().await? {
                return Ok(());
            }
        }
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Ended> {
        if let Some(number) = self.entered {
            self.hub.fleet.seen(&self.agent, number, self.hub.now_ms());
        }
        let result = self.session.handle_message(self.hub.clock.wall_ns(), frame.message);
        if result.is_err() {
            // The refusal is among the actions and goes out before the error ends the loop.
            let _closing = self.carry_out().await;
        }
        Ok(result?)
    }

    /// Does all that the session asks; true when the connection is to close.
    async fn carry_out(&mut self) -> Result<bool, Ended> {
        while let Some(action) = self.session.poll() {
            match action {
                HubAction::Send(message) => {
                    self.sender.send(&Frame { corr: 0, trace: None, message }).await?
                }
                HubAction::Open(hello) => self.open(hello)?,
                HubAction::DefineSeries(epoch, series) => self.define(epoch, series).await?,
                HubAction::Append(batch) => {
                    let store = self.hub.store.clone();
                    self.appends.spawn(async move { store.append(batch).await });
                }
                HubAction::Recall(epoch) => {
                    let state = self.hub.store.agent_state(&self.agent, epoch);
                    self.session.handle_settled(&state.settled);
                }
                HubAction::RecordGap(epoch, gap) => self.record_gap(epoch, gap).await?,
                HubAction::Report(epoch, report) => self.hub.store.report(&self.agent, epoch, report),
                HubAction::Close => return Ok(true),
            }
        }
        Ok(false)
    }

    fn open(&mut self, hello: Hello) -> Result<(), Ended> {
        let registered: Option<DeviceRecord> = self.hub.metadata.find(self.agent.as_str())?;
        // A certificate outlives a re-enrolment; the key that enrolled last is the one that counts.
        let same_key = registered.as_ref().is_some_and(|device| device.key_hash == self.key_hash);
        if registered.is_none_or(|device| device.revoked) {
            self.session.refuse(
                RefuseCode::Revoked,
                format!("agent {} is not registered, or was revoked", self.agent),
            );
            return Ok(());
        }
        if !same_key {
            let reason = format!("agent {} has enrolled with another key since", self.agent);
            self.session.refuse(RefuseCode::Identity, reason);
            return Ok(());
        }
        let (number, told) = self.hub.fleet.enter(&self.agent, hello.software, self.hub.now_ms());
        self.entered = Some(number);
        self.told = Some(told);
        // Revoked between the look-up and the entry, nobody would have told this session.
        let revoked = self.hub.metadata.find::<DeviceRecord>(self.agent.as_str())?.is_none_or(|d| d.revoked);
        if revoked {
            self.session.refuse(RefuseCode::Revoked, "the device was revoked".to_owned());
            return Ok(());
        }
        self.hub.counters.add(Metric::Sessions, 1);
        tracing::info!(agent = %self.agent, epoch = %hello.epoch, head = hello.head.get(), "session opened");
        let held = self.hub.store.agent_state(&self.agent, hello.epoch);
        let state = AgentState { settled: held.settled, series_known: held.series_known };
        self.session.handle_opened(self.hub.clock.wall_ns(), state);
        Ok(())
    }

    async fn define(&mut self, epoch: Epoch, series: Series) -> Result<(), Ended> {
        for def in &series.defs {
            if def.device != self.agent.own_device() {
                let record: Option<DeviceRecord> = self.hub.metadata.find(def.device.as_str())?;
                if record.is_none_or(|r| r.agent != self.agent.as_str() || r.revoked) {
                    let reason =
                        format!("device {} is not registered behind agent {}", def.device, self.agent);
                    self.session.refuse(RefuseCode::Identity, reason);
                    return Ok(());
                }
            }
        }
        match self.hub.store.define_series(self.agent.clone(), epoch, series).await {
            Ok(known) => self.session.handle_series_durable(known),
            // What the agent sent is wrong; the store is well.
            Err(error @ StoreError::Series { .. }) => {
                self.session.refuse(RefuseCode::Protocol, error.to_string())
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn record_gap(&mut self, epoch: Epoch, gap: Gap) -> Result<(), Ended> {
        let shown = query_gap(self.agent.as_str(), &gap);
        let settlement = self.hub.store.record_gap(self.agent.clone(), epoch, gap).await?;
        self.session.handle_settled(&settlement);
        self.hub.live.publish(self.agent.as_str(), Happening::Gap(shown));
        Ok(())
    }

    fn leave(&mut self) {
        let Some(number) = self.entered.take() else { return };
        self.hub.fleet.leave(&self.agent, number);
        let now_ms = self.hub.now_ms();
        let noted = self.hub.metadata.change::<DeviceRecord, _>(self.agent.as_str(), |old| {
            (
                old.map(|mut record| {
                    record.last_seen_ms = Some(now_ms);
                    record
                }),
                (),
            )
        });
        if let Err(error) = noted {
            tracing::error!(agent = %self.agent, %error, "the end of a session could not be noted");
        }
    }
}

async fn silent_max(
    frame: impl Future<Output = Result<Option<Frame>, LinkError>>,
) -> Result<Option<Frame>, Ended> {
    Ok(tokio::time::timeout(SILENCE_MAX, frame).await.map_err(|_| Ended::Silent)??)
}

/// The word to end; for ever when there is nobody who could say it.
async fn told(cut: &mut Option<oneshot::Receiver<Cut>>) -> Cut {
    match cut {
        Some(receiver) => match receiver.await {
            Ok(said) => {
                *cut = None;
                said
            }
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
