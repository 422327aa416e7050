//! The hub's end of a session.

use std::collections::VecDeque;

use super::{CREDIT_BYTES, SessionError};
use crate::check_invariant;
use crate::durability::{Batch, Durable, Received, Validated};
use crate::invariants::Invariant;
use crate::model::{AgentId, Epoch, Gap, Seq, SeriesNo};
use crate::wire::{
    self, ABILITIES, Ack, COMMANDS_ABILITY, CONFIG_ABILITY, ConfigAsked, ConfigInForce, DeviceCard,
    DocumentId, GROUPS_ABILITY, Health, Hello, Message, Pong, Refuse, RefuseCode, Report, Settlement,
    TWIN_ABILITY, ToAgent, ToHub, TwinSync, VERSION, Welcome,
};

/// What the store holds of an agent's epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentState {
    /// What became of its seqs.
    pub settled: Settlement,
    /// Dictionary entries.
    pub series_known: SeriesNo,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum HubAction {
    /// Send this message.
    Send(Message),
    /// Look the epoch up and call [`HubSession::handle_opened`], [`HubSession::handle_parted`] or
    /// [`HubSession::refuse`].
    Open(Hello),
    /// Make the entries durable, then call [`HubSession::handle_series_durable`].
    DefineSeries(Epoch, wire::Series),
    /// Make the batch durable, then call [`HubSession::handle_durable`].
    Append(Batch<Validated>),
    /// A run held seqs that were settled before: give [`HubSession::handle_settled`] what the store
    /// durably holds of these seqs of the epoch, so that the ack says what became of them.
    Recall(Epoch, Seq, Seq),
    /// Make the gap durable, then call [`HubSession::handle_settled`].
    RecordGap(Epoch, Gap),
    /// The agent's account of its epoch.
    Report(Epoch, Report),
    /// How the agent fares.
    Health(Health),
    /// What the agent knows of its devices.
    Devices(Vec<DeviceCard>),
    /// What is in force at the agent, or what names it: call [`HubSession::handle_config_lacked`] where that is not known here.
    Config(ConfigInForce),
    /// A message about a twin: hand it to the twin's link, and what that has to say to
    /// [`HubSession::handle_twin`]. Whether the agent may speak of the document is not checked yet.
    Twin(TwinSync),
    /// What the agent says of commands: hand it to [`crate::commands::HubCommands`], and what that has to say to
    /// [`HubSession::handle_command`].
    Command(ToHub),
    /// Read what is stored of these seqs of the epoch, and call [`HubSession::handle_audited`].
    Audit(Epoch, wire::Audit),
    /// Close the connection, after what was polled before it is sent.
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Opening(Epoch),
    Open(Epoch),
    Closed,
}

/// A session of the hub with one agent. See the module's text for the call order.
#[derive(Debug)]
pub struct HubSession {
    state: State,
    // As the certificate says; a hello of anybody else is refused.
    agent: AgentId,
    // The newest in the hello.
    life: Option<u64>,
    // Of those in the hello, what this end can do too.
    abilities: Vec<String>,
    series_known: SeriesNo,
    parted: Option<Seq>,
    // Run bytes received and made durable, in all.
    received: u64,
    settled: u64,
    unacked: Settlement,
    ack_due: bool,
    auditing: bool,
    actions: VecDeque<HubAction>,
}

impl HubSession {
    /// A session with the agent that the connection's certificate names.
    #[must_use]
    pub fn new(agent: AgentId) -> Self {
        Self {
            state: State::Waiting,
            agent,
            life: None,
            abilities: Vec::new(),
            series_known: 0,
            parted: None,
            received: 0,
            settled: 0,
            unacked: Settlement::default(),
            ack_due: false,
            auditing: false,
            actions: VecDeque::new(),
        }
    }

    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The epoch, once the agent has said hello.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        match self.state {
            State::Opening(epoch) | State::Open(epoch) => Some(epoch),
            State::Waiting | State::Closed => None,
        }
    }

    /// The newest life of the spool at the other end; `None` when any may be.
    #[must_use]
    pub const fn life(&self) -> Option<u64> {
        self.life
    }

    /// Run bytes that came and are not yet durable.
    #[must_use]
    pub const fn unsettled_bytes(&self) -> u64 {
        self.received - self.settled
    }

    /// A message came from the agent.
    ///
    /// # Errors
    /// The agent broke the protocol. The refusal is among the actions: poll them, then close.
    pub fn handle_message(&mut self, wall_ns: i64, message: Message) -> Result<(), SessionError> {
        let result = self.dispatch(wall_ns, message);
        if let Err(SessionError::Protocol(reason)) = &result {
            self.refuse(RefuseCode::Protocol, reason.clone());
        }
        result
    }

    fn dispatch(&mut self, wall_ns: i64, message: Message) -> Result<(), SessionError> {
        match (self.state.clone(), message) {
            (State::Waiting, Message::Hello(hello)) => {
                self.hello(hello);
                Ok(())
            }
            (State::Open(epoch), Message::Series(series)) => {
                self.actions.push_back(HubAction::DefineSeries(epoch, series));
                Ok(())
            }
            (State::Open(epoch), Message::Run(run)) => self.run(epoch, run),
            (State::Open(epoch), Message::Gap(gap)) => {
                self.check_parted(gap.last())?;
                self.actions.push_back(HubAction::RecordGap(epoch, gap));
                Ok(())
            }
            // The account of a copy says nothing of the epoch as a whole.
            (State::Open(_), Message::Report(_)) if self.parted.is_some() => Ok(()),
            (State::Open(epoch), Message::Report(report)) => {
                self.actions.push_back(HubAction::Report(epoch, report));
                Ok(())
            }
            (State::Open(_), Message::Health(health)) => self.told(HubAction::Health(health)),
            (State::Open(_), Message::Devices(told)) => self.told(HubAction::Devices(told.cards)),
            (State::Open(_), Message::Config(told)) if self.can(CONFIG_ABILITY) => {
                self.told(HubAction::Config(told))
            }
            (State::Open(_), Message::Twin(sync)) if self.speaks_of(&sync.document) => {
                self.actions.push_back(HubAction::Twin(sync));
                Ok(())
            }
            (State::Open(_), Message::Progress(progress)) if self.speaks_of_commands() => {
                self.actions.push_back(HubAction::Command(ToHub::Progress(progress)));
                Ok(())
            }
            (State::Open(_), Message::Journal(journal)) if self.speaks_of_commands() => {
                self.actions.push_back(HubAction::Command(ToHub::Journal(journal)));
                Ok(())
            }
            (State::Open(epoch), Message::Audit(asked)) => {
                if let Some(last) = asked.seqs.last() {
                    self.check_parted(Seq::new(last))?;
                }
                if std::mem::replace(&mut self.auditing, true) {
                    return Err(SessionError::Protocol(
                        "a second audit before the answer to the first".into(),
                    ));
                }
                self.actions.push_back(HubAction::Audit(epoch, asked));
                Ok(())
            }
            (State::Open(_), Message::Ping(ping)) => {
                self.actions
                    .push_back(HubAction::Send(Message::Pong(Pong { mono_ns: ping.mono_ns, wall_ns })));
                Ok(())
            }
            (State::Open(_), Message::Pong(_)) | (State::Closed, _) => Ok(()),
            (_, Message::Refuse(refuse)) => {
                self.state = State::Closed;
                self.actions.push_back(HubAction::Close);
                Err(refuse.into())
            }
            (_, other) => {
                Err(SessionError::Protocol(format!("message of kind {} is out of place", other.kind())))
            }
        }
    }

    /// What the agent says of itself.
    fn told(&mut self, action: HubAction) -> Result<(), SessionError> {
        self.actions.push_back(action);
        Ok(())
    }

    fn hello(&mut self, hello: Hello) {
        if !hello.versions.contains(&VERSION) {
            let reason = format!("agent speaks versions {:?}, this hub speaks {VERSION}", hello.versions);
            return self.refuse(RefuseCode::Version, reason);
        }
        if hello.agent != self.agent {
            let reason = format!("the certificate is for agent {}, not for {}", self.agent, hello.agent);
            return self.refuse(RefuseCode::Identity, reason);
        }
        self.state = State::Opening(hello.epoch);
        let can = |name: &&String| ABILITIES.contains(&name.as_str());
        self.abilities = hello.capabilities.iter().filter(can).cloned().collect();
        self.life = hello.lives.last().map(|life| life.id);
        self.actions.push_back(HubAction::Open(hello));
    }

    fn run(&mut self, epoch: Epoch, run: wire::Run) -> Result<(), SessionError> {
        if run.envelope.epoch != epoch {
            return Err(SessionError::Protocol("a run of another epoch than the hello's".into()));
        }
        self.check_parted(run.envelope.last())?;
        self.received = self.received.saturating_add(run.block.len() as u64);
        // Twice the grant: an agent may pack its last run a little over what is left.
        if self.received - self.settled > CREDIT_BYTES * 2 {
            return Err(SessionError::Protocol("more run bytes than the credit allows".into()));
        }
        check_invariant!(
            Invariant::QueuesBounded,
            self.unsettled_bytes() <= CREDIT_BYTES * 2,
            "{} run bytes of one session wait",
            self.unsettled_bytes()
        );
        let batch = Batch::<Received>::received(self.agent.clone(), run)
            .of_life(self.life)
            .validate(self.series_known)
            .map_err(|invalid| SessionError::Protocol(invalid.to_string()))?;
        self.actions.push_back(HubAction::Append(batch));
        Ok(())
    }

    /// The store holds `state` of the epoch.
    pub fn handle_opened(&mut self, wall_ns: i64, state: AgentState) {
        let State::Opening(epoch) = self.state else { return };
        self.state = State::Open(epoch);
        self.series_known = state.series_known;
        self.actions.push_back(HubAction::Send(Message::Welcome(Welcome {
            version: VERSION,
            capabilities: self.abilities.clone(),
            settled: self.common(state.settled),
            series_known: state.series_known,
            credit: CREDIT_BYTES,
            wall_ns,
            config_version: 0,
            parted: self.parted,
        })));
    }

    /// The store holds `state` of the epoch, but the spool is a copy that parted from it at `at`: the
    /// session goes on with the seqs before.
    pub fn handle_parted(&mut self, wall_ns: i64, state: AgentState, at: Seq) {
        if matches!(self.state, State::Opening(_)) {
            // What it has in common with the other copy may come from either.
            (self.parted, self.life) = (Some(at), None);
            self.handle_opened(wall_ns, state);
        }
    }

    /// What may be said to this copy of the spool.
    fn common(&self, settlement: Settlement) -> Settlement {
        match self.parted {
            Some(at) => settlement.before(at),
            None => settlement,
        }
    }

    fn check_parted(&self, last: Seq) -> Result<(), SessionError> {
        match self.parted {
            Some(at) if last >= at => Err(SessionError::Protocol(format!(
                "seq {last} in a session for those before {at}, where this copy of the spool parted"
            ))),
            _ => Ok(()),
        }
    }

    /// The dictionary is durable up to `known` entries.
    pub fn handle_series_durable(&mut self, known: SeriesNo) {
        self.series_known = self.series_known.max(known);
        self.ack_due = true;
    }

    /// A batch is durable. Only what this run brought is acknowledged as stored: its duplicates may
    /// have been refused or given up before, which the store's ranges tell.
    pub fn handle_durable(&mut self, batch: &Batch<Durable>) {
        let (first, last) = batch.seqs();
        self.unacked.stored.insert_set(batch.taken());
        if let State::Open(epoch) = &self.state
            && *batch.taken() != batch.run().envelope.seqs()
        {
            self.actions.push_back(HubAction::Recall(*epoch, first, last));
        }
        self.settled = self.settled.saturating_add(batch.run().block.len() as u64);
        self.ack_due = true;
    }

    /// What became of the seqs of a gap or of a refused batch; durable at the hub.
    pub fn handle_settled(&mut self, settlement: &Settlement) {
        self.unacked.merge(settlement);
        self.ack_due = true;
    }

    /// Whether the session is open and the agent knows twins.
    #[must_use]
    pub fn speaks_of_twins(&self) -> bool {
        self.can(TWIN_ABILITY)
    }

    /// Whether the agent knows documents of this kind; of a group it is told nothing where it does not.
    fn speaks_of(&self, document: &DocumentId) -> bool {
        let knows = !matches!(document, DocumentId::Group(_)) || self.can(GROUPS_ABILITY);
        self.speaks_of_twins() && knows
    }

    fn can(&self, ability: &str) -> bool {
        matches!(self.state, State::Open(_)) && self.abilities.iter().any(|name| name == ability)
    }

    /// Whether the session is open and the agent takes commands.
    #[must_use]
    pub fn speaks_of_commands(&self) -> bool {
        self.can(COMMANDS_ABILITY)
    }

    /// What there is to say about commands; it is dropped where [`HubSession::speaks_of_commands`] is false. It goes ahead of
    /// acks.
    pub fn handle_command(&mut self, said: ToAgent) {
        if self.speaks_of_commands() {
            self.actions.push_back(HubAction::Send(said.into()));
        }
    }

    /// The agent has named values that are not known here: it is asked for them.
    pub fn handle_config_lacked(&mut self, digest: [u8; 16]) {
        if self.can(CONFIG_ABILITY) {
            self.actions.push_back(HubAction::Send(Message::ConfigAsked(ConfigAsked { digest })));
        }
    }

    /// What there is to say about a twin; it is dropped where [`HubSession::speaks_of_twins`] is false, or the agent does not know
    /// documents of its kind. It goes ahead of acks.
    pub fn handle_twin(&mut self, sync: TwinSync) {
        if self.speaks_of(&sync.document) {
            self.actions.push_back(HubAction::Send(Message::Twin(sync)));
        }
    }

    /// The answer to an audit.
    pub fn handle_audited(&mut self, found: wire::Agreement) {
        self.auditing = false;
        if self.state != State::Closed {
            self.actions.push_back(HubAction::Send(Message::Agreement(found)));
        }
    }

    /// Ends the session with a reason.
    pub fn refuse(&mut self, code: RefuseCode, reason: String) {
        self.refuse_for(code, reason, 0);
    }

    /// Ends the session with a reason, and asks for no other one within `retry_after_ms`.
    pub fn refuse_for(&mut self, code: RefuseCode, reason: String, retry_after_ms: u32) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.actions.push_back(HubAction::Send(Message::Refuse(Refuse { code, reason, retry_after_ms })));
        self.actions.push_back(HubAction::Close);
    }

    /// The next thing to do. Acks of all that became durable since the last poll go out as one.
    pub fn poll(&mut self) -> Option<HubAction> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if !self.ack_due || self.state == State::Closed {
            return None;
        }
        self.ack_due = false;
        let unacked = std::mem::take(&mut self.unacked);
        Some(HubAction::Send(Message::Ack(Ack {
            settled: self.common(unacked),
            series_known: self.series_known,
            credit: self.settled.saturating_add(CREDIT_BYTES),
        })))
    }
}
