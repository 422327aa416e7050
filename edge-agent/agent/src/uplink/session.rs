//! One session over one link: a loop around the protocol's own, in a task of its own, so that a link
//! that stalls holds nothing up but itself. It may be aborted at any moment: what it tells the spool
//! is what the hub has said, and the next session asks again.

use std::time::Duration;

use tideline_link::link::{FrameReceiver, FrameSender, Link};
use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::session::{AgentAction, AgentSession, BackfillBudget};
use tideline_protocol::time::Clock;
use tideline_protocol::wire::{
    Agreement, COMMANDS_ABILITY, CONFIG_ABILITY, DEVICES_ABILITY, Frame, GROUPS_ABILITY, Health, Hello,
    KEEP_ABILITY, Message, RunEnvelope, TWIN_ABILITY, ToHub, VERSION,
};
use tideline_spool::LoadedRun;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::agreement::{Question, Questions};
use crate::cards::Following;
use crate::clock::AgentClock;
use crate::commands::Commands;
use crate::config::Followed;
use crate::spooler::{Loaded, Sending, SpoolHandle, SpoolState};
use crate::twin::Line;

/// Longest wait for room on the line: a hub that hangs must not hold the agent.
const SEND_MAX: Duration = Duration::from_secs(30);
/// How often time is given to the session when nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// A session that lived for this long was no failure, even when it had nothing to send; a hub that is heard
/// after it says so.
const LONG_NS: u64 = 10_000_000_000;

/// The session tells of a spool that is no more as it was told; the next one does. No fault of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// What it goes on with is of another epoch.
    #[error("the spool began a new epoch")]
    Epoch,
    /// It has another life, which the hub must be told before anything of it is sent; and what was
    /// settled may be forgotten, which only a welcome repeats.
    #[error("the spool was opened again")]
    Life,
}

impl Outdated {
    /// Whether a session that told of this epoch and life still tells the truth.
    fn check((epoch, life): (Epoch, Option<u64>), now: &SpoolState) -> Result<(), Self> {
        if now.epoch != epoch {
            return Err(Self::Epoch);
        }
        if now.life != life {
            return Err(Self::Life);
        }
        Ok(())
    }
}

/// How a session fares, for whoever has chosen its link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the hub has welcomed the agent.
    pub open: bool,
    /// How often it has achieved something: readings were settled, or it has lived for long.
    pub achieved: u64,
    /// The last round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// The hub's wall clock less this machine's, and by how much that may be wrong, in ns.
    pub clock: Option<(i64, u64)>,
}

/// What a session works with.
pub struct Driver {
    /// Who the agent is.
    pub agent: AgentId,
    /// A random id of this start.
    pub boot: [u8; 16],
    /// The spool.
    pub spool: SpoolHandle,
    /// The clocks.
    pub clock: AgentClock,
    /// How much of the link old readings may take.
    pub backfill: BackfillBudget,
    /// True once everything is in the spool and only the rest is to be sent.
    pub drain: watch::Receiver<bool>,
    /// How it fares.
    pub progress: watch::Sender<Progress>,
    /// What the hub is told of the ways, each time it changes.
    pub health: watch::Receiver<Health>,
    /// What the hub is told of the devices.
    pub cards: Following,
    /// The twins; none where there are none to speak of.
    pub twins: Option<Line>,
    /// What the hub is to be asked.
    pub questions: Questions,
    /// Who waits for its answer.
    pub asked: Option<oneshot::Sender<Agreement>>,
    /// Takes the hub's commands.
    pub commands: Commands,
    /// What the hub is told of them, once it has welcomed the agent.
    pub said: Option<UnboundedReceiver<ToHub>>,
    /// What the hub is told of the configuration.
    pub config: Followed,
    /// Whether anything was sent.
    pub sending: bool,
}

enum Event {
    Frame(Option<Box<Frame>>),
    Question(Question),
    Commanded(ToHub),
    Appended,
    Twins,
    Tick,
}

impl Driver {
    /// Runs until the session fails, or everything is sent after the call to drain.
    pub async fn run(mut self, link: Link) -> anyhow::Result<()> {
        let handle = link.handle();
        let (mut sender, mut receiver) = link.split();
        let mut state = self.spool.state();
        let before = state.borrow().epoch;
        let view = self.spool.view().await?;
        let seen = *state.borrow_and_update();
        let told = (before, view.lives.last().map(|life| life.id));
        Outdated::check(told, &seen)?;
        let hello = self.hello(&seen, view.head);
        let mut session = AgentSession::new(self.clock.mono_ns(), hello, view, self.backfill);
        // The view may be older than the head that the session is told of.
        session.handle_urgent(self.spool.urgent().await?);
        tell(&mut session, &seen);
        let mut learned = None;
        let (mut dropped, mut urgent) = (seen.account.dropped, seen.urgent_appends);
        let (mut heard, mut long_ns) = (false, None);
        self.health.mark_changed();
        loop {
            self.carry_out(&mut session, &mut sender, seen).await?;
            if session.is_open() {
                if self.said.is_none() && session.speaks_of_commands() {
                    self.said = self.commands.connect();
                }
                if self.tell_news(&mut session).await {
                    continue;
                }
                self.show(&session, std::mem::take(&mut heard), &mut long_ns);
                if *self.drain.borrow() && session.is_drained() {
                    sender.finish().await?;
                    handle.close(0, "bye");
                    return Ok(());
                }
            }
            let may_ask = session.is_open() && self.asked.is_none();
            let twins = self.twins.as_mut().filter(|_| session.speaks_of_twins());
            let questions = may_ask.then_some(&self.questions);
            match wait(&mut receiver, &mut state, questions, twins, self.said.as_mut()).await? {
                Event::Commanded(said) => session.handle_command(said),
                Event::Question(Question { audit, answer }) => {
                    // Dropped, it says that this session cannot ask.
                    self.asked = session.handle_audit(audit).then_some(answer);
                }
                Event::Frame(Some(frame)) => {
                    heard = true;
                    self.hear(&mut session, frame.message, &mut learned).await?;
                }
                Event::Frame(None) => anyhow::bail!("the hub ended the session"),
                Event::Tick | Event::Twins => {}
                Event::Appended => {
                    let now = *state.borrow_and_update();
                    Outdated::check(told, &now)?;
                    if now.account.dropped != dropped {
                        dropped = now.account.dropped;
                        self.spool.fresh_gaps().await?.into_iter().for_each(|gap| session.handle_gap(gap));
                    }
                    // Before the session hears of their seqs, which would be live ones to it.
                    if now.urgent_appends != urgent {
                        urgent = now.urgent_appends;
                        session.handle_urgent(self.spool.urgent().await?);
                    }
                    tell(&mut session, &now);
                }
            }
        }
    }

    /// Hands on a message of the hub; `learned` is the clock's error as it was last measured.
    async fn hear(
        &self,
        session: &mut AgentSession,
        message: Message,
        learned: &mut Option<i64>,
    ) -> anyhow::Result<()> {
        let (mono_ns, wall_ns) = (self.clock.mono_ns(), self.clock.wall_ns());
        session.handle_message(mono_ns, wall_ns, message)?;
        if let Some(error_ns) = session.clock_offset_ns()
            && *learned != Some(error_ns)
        {
            *learned = Some(error_ns);
            let offset_ns = wall_ns.saturating_add(error_ns).saturating_sub_unsigned(mono_ns);
            self.spool.learn_time(mono_ns, offset_ns).await?;
            session.handle_time();
            self.commands.learn_time(offset_ns);
            if let Some(twins) = &self.twins {
                twins.learn_time(offset_ns).await;
            }
        }
        Ok(())
    }

    /// Tells the hub what has changed of the ways, the configuration, the devices and the twins; says whether anything has.
    async fn tell_news(&mut self, session: &mut AgentSession) -> bool {
        let fares = self.health.has_changed().unwrap_or(false);
        if fares {
            session.handle_health(self.health.borrow_and_update().clone());
        }
        let config = if session.speaks_of_config() { self.config.news() } else { None };
        let differs = config.is_some();
        config.into_iter().for_each(|named| session.handle_config(named));
        let news = self.cards.news();
        session.handle_devices(&news);
        let mut said = Vec::new();
        if let Some(twins) = self.twins.as_mut().filter(|_| session.speaks_of_twins()) {
            if !news.is_empty() {
                twins.met().await;
            }
            said = twins.take().await;
        }
        let says = !said.is_empty();
        said.into_iter().for_each(|sync| session.handle_twin(sync));
        fares || differs || !news.is_empty() || says
    }

    fn show(&self, session: &AgentSession, heard: bool, long_ns: &mut Option<u64>) {
        let now_ns = self.clock.mono_ns();
        let long = heard && now_ns.saturating_sub(*long_ns.get_or_insert(now_ns)) >= LONG_NS;
        if long {
            *long_ns = Some(now_ns);
        }
        self.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.open = true;
            progress.achieved += u64::from(long);
            progress.rtt_us = session.round_trip_ns().map(|ns| ns / 1_000);
            progress.clock = session.clock_offset_ns().zip(session.round_trip_ns().map(|ns| ns / 2));
            *progress != before
        });
    }

    /// What this agent can do.
    fn abilities(&self) -> Vec<String> {
        let twins = self.twins.is_some().then_some([TWIN_ABILITY, GROUPS_ABILITY]);
        let commands = self.commands.is_taken().then_some(COMMANDS_ABILITY);
        [DEVICES_ABILITY, CONFIG_ABILITY, KEEP_ABILITY]
            .into_iter()
            .chain(twins.into_iter().flatten())
            .chain(commands)
            .map(str::to_owned)
            .collect()
    }

    fn hello(&self, seen: &SpoolState, head: Seq) -> Hello {
        Hello {
            versions: vec![VERSION],
            capabilities: self.abilities(),
            agent: self.agent.clone(),
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

    /// How the spool is now, unless another one has taken its place.
    fn same_spool(&self, seen: SpoolState) -> anyhow::Result<SpoolState> {
        let now = *self.spool.state().borrow();
        Outdated::check((seen.epoch, seen.life), &now)?;
        Ok(now)
    }

    /// Does what the session asks for.
    async fn carry_out(
        &mut self,
        session: &mut AgentSession,
        sender: &mut FrameSender,
        seen: SpoolState,
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
                    // What the welcome says is settled by now.
                    let is_first = !std::mem::replace(&mut self.sending, true);
                    match self.spool.load_to_send(Sending { seqs, bytes_max, is_first }).await? {
                        Loaded::Gone(gone) => session.handle_gone(&gone),
                        Loaded::Run(run) => {
                            let LoadedRun { first, rows, series_end, block, restamps } = run;
                            let epoch = seen.epoch;
                            let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps };
                            session.handle_run(self.clock.mono_ns(), envelope, block);
                        }
                    }
                }
                AgentAction::Settle(settlement) => {
                    let before = self.spool.state().borrow().account;
                    self.spool.settle(settlement).await?;
                    let SpoolState { account, known, .. } = self.same_spool(seen)?;
                    if account.stored + account.refused > before.stored + before.refused {
                        self.progress.send_modify(|progress| progress.achieved += 1);
                    }
                    session.handle_account(account, known);
                }
                AgentAction::Know => {
                    self.spool.know().await?;
                    let SpoolState { account, known, .. } = self.same_spool(seen)?;
                    session.handle_account(account, known);
                }
                AgentAction::Twin(sync) => {
                    if let Some(twins) = &mut self.twins {
                        twins.receive(sync).await;
                    }
                }
                AgentAction::Command(said) => {
                    // Once one was not taken, all is asked for again, and no other one is waited for.
                    if self.said.is_some() && !self.commands.said(said).await {
                        self.said = None;
                    }
                }
                AgentAction::Config(_) => {
                    self.config.all().into_iter().for_each(|all| session.handle_config(all));
                }
                AgentAction::Agreement(found) => {
                    // Nobody may wait for it any more.
                    self.asked.take().map(|answer| answer.send(found));
                }
                AgentAction::Branch(at) => {
                    self.spool.branch(at).await?;
                    anyhow::bail!("this spool is a copy of another: it goes on under a new epoch");
                }
            }
        }
        Ok(())
    }
}

fn tell(session: &mut AgentSession, spool: &SpoolState) {
    session.handle_appended(spool.head, spool.series);
    session.handle_account(spool.account, spool.known);
}

async fn wait(
    receiver: &mut FrameReceiver,
    state: &mut watch::Receiver<SpoolState>,
    questions: Option<&Questions>,
    twins: Option<&mut Line>,
    commands: Option<&mut UnboundedReceiver<ToHub>>,
) -> anyhow::Result<Event> {
    tokio::select! {
        () = said(twins) => Ok(Event::Twins),
        Some(said) = hear(commands) => Ok(Event::Commanded(said)),
        Some(question) = ask(questions) => Ok(Event::Question(question)),
        frame = receiver.recv() => Ok(Event::Frame(frame?.map(Box::new))),
        changed = state.changed() => changed.map(|()| Event::Appended).map_err(|_| anyhow::anyhow!("the spool has ended")),
        () = sleep(TICK) => Ok(Event::Tick),
    }
}

async fn hear(commands: Option<&mut UnboundedReceiver<ToHub>>) -> Option<ToHub> {
    commands?.recv().await
}

async fn ask(questions: Option<&Questions>) -> Option<Question> {
    Some(questions?.next().await)
}

async fn said(twins: Option<&mut Line>) {
    match twins {
        Some(twins) => twins.said().await,
        None => std::future::pending().await,
    }
}
