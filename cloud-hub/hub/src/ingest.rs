//! The path of readings into the store: accept a link, drive its session, carry out what it asks.
//!
//! One loop per connection: wait for a frame, a finished append, or the word to end; hand it to
//! the session; carry out what the session asks. The session itself does no I/O.

mod aside;
mod audit;
mod commands;
mod config;
mod door;
mod links;
mod refused;
mod twins;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tideline_link::link::{FrameReceiver, FrameSender, Link, LinkError};
use tideline_protocol::durability::{Batch, Durable};
use tideline_protocol::model::{AgentId, Epoch, Gap, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentState, HubAction, HubSession, SessionError};
use tideline_protocol::wire::{DeviceCard, Frame, Hello, Message, RefuseCode, Report, Series, WireError};
use tideline_store::{AgentState as StoredState, Opening, StoreError};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

pub use self::aside::{Turns, moved};
use self::audit::{Audits, Cancelled};
use self::door::told;
pub use self::links::{ARRIVED_MAX, accept};
pub use self::refused::watch_refused;
use self::twins::{Talk, turned};
use crate::api::devices::{last_seen, revoked_text};
use crate::api::ledger::query_gap;
use crate::commands::Seat;
use crate::fleet::{Came, Cut};
use crate::hub::App;
use crate::live::Happening;
use crate::metadata::{Changes, DeviceRecord, MetadataError};
use crate::presence::End;
use crate::registry;
use crate::secret::hex;
use crate::telemetry::Metric;
use crate::twins::TwinError;

/// Longest silence of an agent, which pings every fifteen seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Longest wait for an agent that does not read; its window takes megabytes of small messages.
const SEND_MAX: Duration = Duration::from_secs(30);
/// Most appends of one session on their way to the disk: enough to keep the group commit busy.
const APPENDS_MAX: usize = 16;
/// How long the last frames may take to leave when a session ends.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
const STOPPING: &str = "the hub is shutting down";

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
    #[error(transparent)]
    Twins(#[from] TwinError),
    #[error("an append was lost: {0}")]
    Append(#[from] JoinError),
    #[error("silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("it has not read for {} s", SEND_MAX.as_secs())]
    Unread,
    #[error("the agent sent bad bytes: {0}")]
    Wire(WireError),
    #[error("the link names no agent")]
    Nameless,
}

async fn serve(hub: App, link: Link) {
    let (remote, transport) = (link.handle().remote_addr(), link.transport());
    let agent = link.peer_agent().map(ToString::to_string).unwrap_or_default();
    match drive(&hub, link).await {
        Ok(()) => tracing::info!(agent, %remote, %transport, "session ended"),
        Err(error @ (Ended::Session(_) | Ended::Nameless)) => {
            hub.counters.add(Metric::SessionsRefused, 1);
            tracing::warn!(agent, %remote, %transport, %error, "session refused");
        }
        Err(error @ (Ended::Store(_) | Ended::Metadata(_) | Ended::Twins(_) | Ended::Append(_))) => {
            tracing::error!(agent, %remote, %transport, %error, "session failed at the hub");
        }
        Err(error @ (Ended::Link(_) | Ended::Wire(_) | Ended::Silent | Ended::Unread)) => {
            tracing::info!(agent, %remote, %transport, %error, "session ended")
        }
    }
}

type Appends = JoinSet<Result<Batch<Durable>, StoreError>>;

/// One connection, with all that its loop touches.
struct Driver {
    hub: App,
    agent: AgentId,
    came: Came,
    session: HubSession,
    sender: FrameSender,
    appends: Appends,
    audits: Audits,
    audit_cancelled: Cancelled,
    talk: Talk,
    // What the agent was told is stored here.
    claimed: RangeSet,
    // The session's number in the fleet, once the hello was good.
    entered: Option<u64>,
    told: Option<oneshot::Receiver<Cut>>,
    // Taken when the agent first speaks of commands.
    seat: Option<Seat>,
    // Set once the session is to end and its last frames are only tried.
    ending: bool,
    // What its end says of the agent.
    end: End,
}

async fn drive(hub: &App, link: Link) -> Result<(), Ended> {
    let agent = link.peer_agent().ok_or(Ended::Nameless)?.clone();
    let handle = link.handle();
    let came = door::came(&link);
    let (sender, mut receiver) = link.split();
    let session = HubSession::new(agent.clone());
    let mut driver = Driver {
        hub: Arc::clone(hub),
        agent,
        came,
        session,
        sender,
        appends: JoinSet::new(),
        audits: JoinSet::new(),
        audit_cancelled: Cancelled::default(),
        talk: Talk::default(),
        claimed: RangeSet::new(),
        entered: None,
        told: None,
        seat: None,
        ending: false,
        end: End::Broken,
    };
    // The receiver lives until the end: an agent that is told not to send may miss why.
    let ended = driver.run(&mut receiver).await;
    if matches!(ended, Err(Ended::Store(_) | Ended::Metadata(_) | Ended::Twins(_) | Ended::Append(_))) {
        driver.session.refuse(RefuseCode::Unavailable, "the hub cannot take data now".to_owned());
        // The link may be gone as well; the agent comes back either way.
        let _closing = driver.carry_out().await;
    }
    driver.leave().await;
    // Lets a refusal reach the agent before the connection goes.
    let _late = tokio::time::timeout(FAREWELL_MAX, driver.sender.finish()).await;
    handle.close(0, "session ended");
    ended
}

impl Driver {
    /// The loop: an event, the session, what the session asks.
    async fn run(&mut self, receiver: &mut FrameReceiver) -> Result<(), Ended> {
        let hub = Arc::clone(&self.hub);
        let mut stopped = pin!(hub.stopped());
        let mut refused = hub.refused.subscribe();
        let mut changes = hub.store.changes();
        let mut silence = pin!(tokio::time::sleep(SILENCE_MAX));
        loop {
            let may_receive = self.appends.len() < APPENDS_MAX && self.talk.has_room();
            let is_idle = self.talk.turn.is_none();
            tokio::select! {
                // The word to end comes first, or an agent that sends without a pause would not hear it.
                biased;
                cut = told(&mut self.told) => self.cut(cut),
                () = &mut stopped => self.session.refuse(RefuseCode::Unavailable, STOPPING.to_owned()),
                Some(done) = self.appends.join_next() => match done? {
                    Ok(batch) => {
                        self.claimed.insert_set(batch.taken());
                        self.session.handle_durable(&batch);
                    }
                    Err(error @ StoreError::Replaced { .. }) => {
                        self.refuse(RefuseCode::Replaced, error.to_string());
                    }
                    // What the agent sent is too much; the store is well.
                    Err(error @ StoreError::Limit(_)) => self.refuse(RefuseCode::Protocol, error.to_string()),
                    Err(error) => return Err(error.into()),
                },
                said = Seat::next(self.seat.as_mut()) => self.session.handle_command(said),
                Some(done) = self.audits.join_next() => self.session.handle_audited(done??),
                done = turned(&mut self.talk.turn) => self.twins_turned(done?),
                // An error means that nobody looks for refusals any more: the hub stops.
                Ok(()) = refused.changed() => self.tell_refused(),
                Ok(()) = changes.changed() => self.look_for_losses(),
                () = Talk::told(self.talk.seat.as_ref(), is_idle) => {}
                frame = receiver.recv(), if may_receive => {
                    silence.set(tokio::time::sleep(SILENCE_MAX));
                    match frame {
                        Ok(Some(frame)) => self.frame(frame).await?,
                        Ok(None) => {
                            self.end = End::Goodbye;
                            return Ok(());
                        }
                        Err(LinkError::Wire(error)) => return Err(self.bad_bytes(error).await),
                        Err(error) => return Err(error.into()),
                    }
                }
                () = &mut silence, if may_receive => return Err(Ended::Silent),
            }
            if self.carry_out().await? {
                return Ok(());
            }
            self.came.flow.note(self.session.unsettled_bytes(), self.appends.len() as u64);
            self.turn_twins();
        }
    }

    /// Ends the session as it was told to.
    fn cut(&mut self, (code, reason): Cut) {
        if code == RefuseCode::Revoked {
            self.end = End::ShutOut;
        }
        self.session.refuse(code, reason);
    }

    /// Tells the agent what was wrong with its bytes; nothing after them can be read.
    async fn bad_bytes(&mut self, error: WireError) -> Ended {
        let code = match error {
            WireError::Version { .. } => RefuseCode::Version,
            _ => RefuseCode::Protocol,
        };
        self.refuse(code, error.to_string());
        let _closing = self.carry_out().await;
        Ended::Wire(error)
    }

    /// Sends, but does not wait long for an agent that does not read, and not at all when the session
    /// is to end.
    async fn send(&mut self, message: Message) -> Result<(), Ended> {
        let frame = Frame::from(message);
        if self.ending {
            let sent = tokio::time::timeout(FAREWELL_MAX, self.sender.send(&frame)).await;
            return Ok(sent.map_err(|_| Ended::Unread)??);
        }
        let hub = Arc::clone(&self.hub);
        tokio::select! {
            biased;
            sent = tokio::time::timeout(SEND_MAX, self.sender.send(&frame)) => {
                return Ok(sent.map_err(|_| Ended::Unread)??);
            }
            cut = told(&mut self.told) => self.cut(cut),
            () = hub.stopped() => self.session.refuse(RefuseCode::Unavailable, STOPPING.to_owned()),
        }
        // What was broken off goes out before the refusal, if anything does.
        self.ending = true;
        Ok(())
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Ended> {
        if let Some(number) = self.entered {
            let next_ms = match &frame.message {
                Message::Ping(ping) => Some(ping.next_ms),
                _ => None,
            };
            if self.hub.fleet.seen(&self.agent, number, self.hub.now_ms()) {
                self.hub.presences.heard(&self.agent, self.hub.now(), next_ms);
            }
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
                HubAction::Send(message) => self.send(message).await?,
                HubAction::Open(hello) => {
                    self.open(hello).await?;
                    self.begin_twins().await?;
                }
                HubAction::DefineSeries(epoch, series) => self.define(epoch, series).await?,
                HubAction::Append(batch) => {
                    let store = self.hub.store.clone();
                    self.appends.spawn(async move { store.append(batch).await });
                }
                HubAction::Recall(epoch, first, last) => {
                    let state = self.hub.store.agent_state(&self.agent, epoch);
                    self.session.handle_settled(&state.settled.within(first, last));
                }
                HubAction::RecordGap(epoch, gap) => self.record_gap(epoch, gap).await?,
                HubAction::Report(epoch, report) => self.report(epoch, report),
                HubAction::Health(health) => {
                    let (number, now_ms) = (self.entered.unwrap_or_default(), self.hub.now_ms());
                    self.hub.fleet.fares(&self.agent, number, health, now_ms);
                }
                HubAction::Devices(cards) => self.devices(cards).await?,
                HubAction::Config(told) => self.config(told).await?,
                HubAction::Twin(sync) => self.twin(sync),
                HubAction::Command(said) => self.commanded(said).await?,
                HubAction::Audit(epoch, asked) => self.audit(epoch, asked),
                HubAction::Close => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn open(&mut self, hello: Hello) -> Result<(), Ended> {
        if self.put_off() {
            return Ok(());
        }
        // A field device has a record too, and no right to a session.
        let registered = self.hub.metadata.find::<DeviceRecord>(self.agent.as_str())?;
        let registered = registered.filter(|own| !own.revoked && own.agent == self.agent.as_str());
        let Some(own) = registered else {
            let reason = self.stranger()?;
            self.refuse(RefuseCode::Revoked, reason);
            return Ok(());
        };
        // A certificate outlives a re-enrolment; the key that enrolled last is the one that counts.
        if self.came.certificate.is_some_and(|shown| own.key_hash != hex(&shown.key_sha256)) {
            let agent = &self.agent;
            let reason = format!(
                "agent {agent} has enrolled with another key since; a token of `cloud-hub enroll-token create --device {agent}` lets this one in instead"
            );
            self.refuse(RefuseCode::Identity, reason);
            return Ok(());
        }
        let seen_ms = last_seen(&self.hub, &self.agent, &own);
        self.came.software.clone_from(&hello.software);
        let (number, told) = self.hub.fleet.enter(&self.agent, self.came.clone(), self.hub.now_ms());
        self.entered = Some(number);
        self.hub.presences.heard(&self.agent, self.hub.now(), None);
        self.told = Some(told);
        // Revoked between the look-up and the entry, nobody would have told this session.
        let revoked = self.hub.metadata.find::<DeviceRecord>(self.agent.as_str())?.is_none_or(|d| d.revoked);
        if revoked {
            self.end = End::ShutOut;
            self.refuse(RefuseCode::Revoked, revoked_text(&self.agent));
            return Ok(());
        }
        self.hub.counters.add(Metric::Sessions, 1);
        tracing::info!(agent = %self.agent, epoch = %hello.epoch, head = hello.head.get(), "session opened");
        let Some(held) = self.opening(&hello).await? else { return Ok(()) };
        self.claimed = held.settled.stored.clone();
        let now_ms = self.hub.now_ms();
        // A restored hub learns what it lacks also from an agent that produces nothing more. An old copy
        // of a spool, which the session is about to end over, has nothing to say of it.
        if held.settled.all().last().is_none_or(|last| last <= hello.head.get()) {
            self.hub.store.report(
                &self.agent,
                hello.epoch,
                self.session.life(),
                Report { account: hello.account, head: hello.head, known: Seq::default() },
            );
        }
        self.hub.arrivals.hello(&self.agent, hello.epoch, hello.head, &held.settled.all(), seen_ms, now_ms);
        let state = AgentState { settled: held.settled, series_known: held.series_known };
        self.session.handle_opened(self.hub.clock.wall_ns(), state);
        Ok(())
    }

    /// Opens the epoch in the store; none where the session ends by it.
    async fn opening(&mut self, hello: &Hello) -> Result<Option<StoredState>, Ended> {
        let store = self.hub.store.clone();
        let opening =
            store.open_epoch(self.agent.clone(), hello.epoch, hello.lives.clone(), hello.moved).await;
        let held = match opening {
            Ok(Opening::Known(held)) => held,
            Ok(Opening::Parted { at, state }) => {
                tracing::warn!(agent = %self.agent, epoch = %hello.epoch, at = at.get(), "the agent's spool is a copy of another; it is told to begin a new epoch");
                let state = AgentState { settled: state.settled, series_known: state.series_known };
                self.session.handle_parted(self.hub.clock.wall_ns(), state, at);
                return Ok(None);
            }
            Err(error @ StoreError::Limit(_)) => {
                self.refuse(RefuseCode::Protocol, error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(barred) = aside::settle(&self.hub, &self.agent, hello.epoch).await? {
            self.refuse(RefuseCode::Identity, barred.to_string());
            return Ok(None);
        }
        Ok(Some(held))
    }

    fn report(&mut self, epoch: Epoch, report: Report) {
        let settled = self.hub.store.agent_state(&self.agent, epoch).settled.all();
        self.hub.arrivals.report(&self.agent, epoch, report.head, &settled, self.hub.now_ms());
        self.hub.store.report(&self.agent, epoch, self.session.life(), report);
    }

    /// Ends the session when the store no longer holds what the agent was told: the next one begins
    /// with what it does hold, and the agent sends the rest again.
    fn look_for_losses(&mut self) {
        let Some(epoch) = self.session.epoch() else { return };
        let mut lost = self.claimed.clone();
        lost.remove_set(&self.hub.store.agent_state(&self.agent, epoch).settled.all());
        if !lost.is_empty() {
            let reason =
                format!("the hub lost {} batches that it had; sign on again to refill it", lost.len());
            self.refuse(RefuseCode::Unavailable, reason);
        }
    }

    /// Refuses what the agent asks for; the log says why, so that an operator need not ask the agent.
    fn refuse(&mut self, code: RefuseCode, reason: String) {
        self.hub.counters.add(Metric::SessionsRefused, 1);
        tracing::warn!(agent = %self.agent, ?code, reason, "session refused");
        self.session.refuse(code, reason);
    }

    /// Notes what the agent says of its devices. One that it may not speak for costs it nothing here: readings of
    /// it would.
    async fn devices(&mut self, cards: Vec<DeviceCard>) -> Result<(), Ended> {
        let agent = self.agent.clone();
        let told = self.hub.blocking(move |hub| registry::tell(hub, &agent, cards)).await?;
        if told.registered + told.changed > 0 {
            tracing::info!(agent = %self.agent, registered = told.registered, changed = told.changed, "devices told of");
        }
        if let Some(first) = told.barred.first() {
            tracing::warn!(agent = %self.agent, devices = told.barred.len(), first = %first, "devices are not the agent's");
        }
        Ok(())
    }

    async fn define(&mut self, epoch: Epoch, series: Series) -> Result<(), Ended> {
        let (hub, agent) = (Arc::clone(&self.hub), self.agent.clone());
        let _turn = hub.asides.of(&self.agent).await;
        let admitted = hub.blocking(move |hub| aside::admit(hub, &agent, epoch, series)).await?;
        let series = match admitted {
            Ok(series) => series,
            Err(barred) => {
                self.refuse(RefuseCode::Identity, barred.to_string());
                return Ok(());
            }
        };
        match self.hub.store.define_series(self.agent.clone(), epoch, series).await {
            Ok(known) => self.session.handle_series_durable(known),
            // What the agent sent is wrong; the store is well.
            Err(error @ (StoreError::Series { .. } | StoreError::Limit(_))) => {
                self.refuse(RefuseCode::Protocol, error.to_string())
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn record_gap(&mut self, epoch: Epoch, gap: Gap) -> Result<(), Ended> {
        let shown = query_gap(self.agent.as_str(), &gap);
        let settlement =
            match self.hub.store.record_gap(self.agent.clone(), epoch, self.session.life(), gap).await {
                Err(error @ StoreError::Replaced { .. }) => {
                    self.refuse(RefuseCode::Replaced, error.to_string());
                    return Ok(());
                }
                Err(error @ StoreError::Limit(_)) => {
                    self.refuse(RefuseCode::Protocol, error.to_string());
                    return Ok(());
                }
                settled => settled?,
            };
        self.session.handle_settled(&settlement);
        self.hub.live.publish(Happening::Gap(shown));
        Ok(())
    }

    async fn leave(&mut self) {
        let Some(number) = self.entered.take() else { return };
        if self.hub.fleet.leave(&self.agent, number) {
            self.hub.presences.ended(&self.agent, self.hub.now(), self.end);
        }
        // When its last frame came, and not when a dead line was noticed.
        let seen_ms = self.hub.fleet.presence(&self.agent).map(|p| p.last_seen_ms);
        let id = self.agent.to_string();
        let note = move |changes: &mut Changes| match changes.find::<DeviceRecord>(&id)? {
            Some(mut record) if record.last_seen_ms < seen_ms => {
                record.last_seen_ms = seen_ms;
                changes.put(&id, &record)
            }
            _ => Ok(()),
        };
        let noted = self.hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(note)).await;
        if let Err(error) = noted {
            tracing::error!(agent = %self.agent, %error, "the end of a session could not be noted");
        }
    }
}

#[cfg(test)]
mod tests;
