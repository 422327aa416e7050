//! The agent's end of a session.

mod next;
mod spread;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) use spread::Ahead;
use spread::Spread;

use super::{BackfillBudget, HELLO_TIMEOUT_NS, PING_IDLE_NS, SILENCE_MAX_NS, SessionError, lanes::Lanes};
use crate::check_invariant;
use crate::invariants::Invariant;
use crate::lives::{Life, Moved};
use crate::model::{Account, Gap, Seq, SeriesDef, SeriesNo};
use crate::ranges::RangeSet;
use crate::wire::{
    self, COMMANDS_ABILITY, CONFIG_ABILITY, ConfigAsked, DEVICES_ABILITY, GROUPS_ABILITY, Hello,
    KEEP_ABILITY, Lane, Message, PROFILE_ABILITY, Pong, Run, RunEnvelope, Settlement, TWIN_ABILITY, ToAgent,
    TwinSync, Welcome,
};

/// What a session needs to know of the spool when it starts.
#[derive(Debug, Clone)]
pub struct SpoolView {
    /// The newest seq; 0 when there is none.
    pub head: Seq,
    /// Seqs that need no sending: stored, refused or dropped.
    pub settled: RangeSet,
    /// Dictionary entries that are durable.
    pub series: SeriesNo,
    /// Gaps that the hub has not confirmed.
    pub gaps: Vec<Gap>,
    /// Seqs that go ahead of the others.
    pub urgent: Urgent,
    /// Whether a hub has told the time since the machine started. Otherwise nothing is sent before this
    /// one has: what is wrong with the times of a batch travels with it.
    pub knows_time: bool,
    /// The lives of the spool.
    pub lives: Vec<Life>,
    /// The epoch before this one, when its readings went on in this one.
    pub moved: Option<Moved>,
}

/// The seqs of batches that are not plain readings; settled ones may be left in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Urgent {
    /// Of class alarm.
    pub alarm: RangeSet,
    /// Of class state.
    pub state: RangeSet,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentAction {
    /// Send this message.
    Send(Message),
    /// Read dictionary entries from `from` on, at most `max`, and give them to
    /// [`AgentSession::handle_series`].
    LoadSeries {
        /// The first.
        from: SeriesNo,
        /// How many at most.
        max: usize,
    },
    /// Read some of `seqs`, from the first of them on, as one run of at most `bytes_max` stored bytes,
    /// and answer with [`AgentSession::handle_run`] or [`AgentSession::handle_gone`].
    LoadRun {
        /// The class to send it in.
        lane: Lane,
        /// The seqs that may be in it; holes between them are short.
        seqs: RangeSet,
        /// Stored bytes to pack.
        bytes_max: usize,
    },
    /// Tell the spool what became of seqs.
    Settle(Settlement),
    /// Make what the spool was told durable, and call [`AgentSession::handle_account`].
    Know,
    /// A message about a twin: hand it to the twin's link, and what that has to say to
    /// [`AgentSession::handle_twin`].
    Twin(TwinSync),
    /// What the hub says of commands: hand it to [`crate::commands::AgentCommands`], and what that has to say to
    /// [`AgentSession::handle_command`].
    Command(ToAgent),
    /// Give [`AgentSession::handle_config`] all that is in force: the hub has none of this digest.
    Config(ConfigAsked),
    /// The hub's answer to [`AgentSession::handle_audit`].
    Agreement(wire::Agreement),
    /// The spool is a copy, and all that it has in common with the other, the seqs before this one,
    /// is settled: go on in a branch, see [`crate::lives`], and end this session, which does nothing
    /// more.
    Branch(Seq),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting { since_ns: u64 },
    Open,
    Closed,
}

/// A session of an agent with a hub. See the module's text for the call order.
#[derive(Debug)]
pub struct AgentSession {
    state: State,
    hello: Hello,
    head: u64,
    settled: RangeSet,
    in_flight: RangeSet,
    // Seqs to be sent: of an open session all but those settled or on the way.
    missing: RangeSet,
    lanes: Lanes,
    loading: bool,
    knows_time: bool,
    series: SeriesNo,
    series_sent: SeriesNo,
    series_known: SeriesNo,
    series_loading: bool,
    credit: u64,
    used: u64,
    // What the hub was last told, and what there is to tell.
    reported: (Account, Seq),
    account: Account,
    known: Seq,
    report_due_ns: u64,
    ping_due_ns: u64,
    pinged: bool,
    // What the last ping said of the next one.
    promised_ns: u64,
    // When the last frame but a report went out.
    sent_ns: u64,
    // A run went out since the last ping.
    sending: bool,
    heard_ns: u64,
    round_trip_ns: Option<u64>,
    clock_offset_ns: Option<i64>,
    // By their first seqs, and those of them on the way.
    gaps: BTreeMap<u64, Gap>,
    gaps_sent: BTreeSet<u64>,
    gaps_turn: bool,
    spread: Spread,
    // Set in the session of a copy: only the seqs before it are the hub's as well.
    parted: Option<Seq>,
    // The audit that the hub is to answer.
    audit: Option<u64>,
    // The hub can be told of devices.
    tells_devices: bool,
    tells_keeps: bool,
    tells_profiles: bool,
    // The hub knows twins.
    syncs_twins: bool,
    syncs_groups: bool,
    // The hub sends commands.
    takes_commands: bool,
    // The hub can be told of the configuration.
    tells_config: bool,
    actions: VecDeque<AgentAction>,
}

impl AgentSession {
    /// A session whose first action is to send `hello`, with the lives of the spool.
    #[must_use]
    pub fn new(now_ns: u64, mut hello: Hello, spool: SpoolView, backfill: BackfillBudget) -> Self {
        (hello.lives, hello.moved) = (spool.lives, spool.moved);
        let head = spool.head.get();
        let mut lanes = Lanes::new(now_ns, head.saturating_add(1), backfill);
        lanes.set_urgent(spool.urgent.alarm, spool.urgent.state);
        let actions = VecDeque::from([AgentAction::Send(Message::Hello(hello.clone()))]);
        Self {
            state: State::Connecting { since_ns: now_ns },
            reported: (hello.account, Seq::default()),
            account: hello.account,
            known: Seq::default(),
            hello,
            head,
            settled: spool.settled,
            in_flight: RangeSet::new(),
            missing: RangeSet::new(),
            lanes,
            loading: false,
            knows_time: spool.knows_time,
            series: spool.series,
            series_sent: 0,
            series_known: 0,
            series_loading: false,
            credit: 0,
            used: 0,
            report_due_ns: now_ns,
            ping_due_ns: now_ns,
            pinged: false,
            promised_ns: PING_IDLE_NS,
            sent_ns: now_ns,
            sending: false,
            heard_ns: now_ns,
            round_trip_ns: None,
            clock_offset_ns: None,
            gaps: spool.gaps.into_iter().map(|gap| (gap.first.get(), gap)).collect(),
            gaps_sent: BTreeSet::new(),
            gaps_turn: false,
            spread: Spread::default(),
            parted: None,
            audit: None,
            tells_devices: false,
            tells_keeps: false,
            tells_profiles: false,
            syncs_twins: false,
            syncs_groups: false,
            takes_commands: false,
            tells_config: false,
            actions,
        }
    }

    /// Whether the hub has welcomed the agent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the hub has settled everything up to the newest seq, and the spool was told.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_open()
            && self.actions.is_empty()
            && self.settled.first_missing_from(1) > self.head
            && self.gaps.is_empty()
    }

    /// The last measured round trip.
    #[must_use]
    pub const fn round_trip_ns(&self) -> Option<u64> {
        self.round_trip_ns
    }

    /// The hub's wall clock less the agent's, as last measured by a round trip.
    #[must_use]
    pub const fn clock_offset_ns(&self) -> Option<i64> {
        self.clock_offset_ns
    }

    /// The spool has appended up to `head` and holds `series` dictionary entries.
    pub fn handle_appended(&mut self, head: Seq, series: SeriesNo) {
        let before = self.end();
        self.head = self.head.max(head.get());
        if self.is_open() && self.end() > before {
            self.missing.insert_set(&self.settled.missing(before + 1, self.end()));
        }
        if self.parted.is_none() {
            self.series = self.series.max(series);
        }
    }

    /// The spool holds these alarms and states.
    pub fn handle_urgent(&mut self, urgent: Urgent) {
        self.lanes.set_urgent(urgent.alarm, urgent.state);
    }

    /// The spool knows the time: by how much its clock was wrong goes with what is sent from now on.
    pub const fn handle_time(&mut self) {
        self.knows_time = true;
    }

    /// The spool's account, and the seq up to which it knows durably what became of each: the hub is told
    /// to fold what comes before.
    pub const fn handle_account(&mut self, account: Account, known: Seq) {
        (self.account, self.known) = (account, known);
    }

    /// The spool has given up seqs.
    pub fn handle_gap(&mut self, gap: Gap) {
        let (first, last) = (gap.first.get(), gap.last().get());
        self.settled.insert(first, last);
        self.missing.remove(first, last);
        self.push_gap(gap);
    }

    /// The dictionary entries asked for.
    pub fn handle_series(&mut self, first: SeriesNo, defs: Vec<SeriesDef>) {
        self.series_loading = false;
        if !defs.is_empty() {
            self.series_sent = first.saturating_add(SeriesNo::try_from(defs.len()).unwrap_or(SeriesNo::MAX));
            self.actions.push_back(AgentAction::Send(Message::Series(wire::Series { first, defs })));
        }
    }

    /// The run asked for.
    pub fn handle_run(&mut self, now_ns: u64, run: RunEnvelope, block: Vec<u8>) {
        self.loading = false;
        if run.series_end > self.series {
            // Only in a session that parted: the entries go first, then the run is asked for again.
            self.series = run.series_end;
            return;
        }
        let bytes = block.len() as u64;
        let seqs = run.seqs();
        self.spread.run(&seqs);
        self.in_flight.insert_set(&seqs);
        self.missing.remove_set(&seqs);
        self.lanes.sent(now_ns, run.lane, run.first.get(), bytes);
        self.sending = true;
        self.sent_ns = now_ns;
        self.used = self.used.saturating_add(bytes);
        self.actions.push_back(AgentAction::Send(Message::Run(Run { envelope: run, block })));
    }

    /// The spool no longer holds these seqs: they were settled or given up in the meantime.
    pub fn handle_gone(&mut self, seqs: &RangeSet) {
        self.loading = false;
        self.settled.insert_set(seqs);
        self.missing.remove_set(seqs);
    }

    /// A frame came from the hub.
    ///
    /// # Errors
    /// The hub refused or broke the protocol: the session is over.
    pub fn handle_message(
        &mut self,
        now_ns: u64,
        wall_ns: i64,
        message: Message,
    ) -> Result<(), SessionError> {
        self.heard_ns = now_ns;
        match (self.state, message) {
            (_, Message::Refuse(refuse)) => {
                self.state = State::Closed;
                Err(refuse.into())
            }
            (State::Connecting { .. }, Message::Welcome(welcome)) => self.welcome(now_ns, welcome),
            (State::Open, Message::Ack(ack)) => {
                self.check_head(&ack.settled)?;
                self.series_known = self.series_known.max(ack.series_known);
                self.credit = self.credit.max(ack.credit);
                self.take_settlement(now_ns, ack.settled);
                Ok(())
            }
            (State::Open, Message::Pong(pong)) => {
                let trip = now_ns.saturating_sub(pong.mono_ns);
                self.round_trip_ns = Some(trip);
                self.lanes.round_trip(trip);
                let half = i64::try_from(trip / 2).unwrap_or(i64::MAX);
                self.clock_offset_ns = Some(pong.wall_ns.saturating_add(half).saturating_sub(wall_ns));
                Ok(())
            }
            (State::Open, Message::Twin(sync)) if self.speaks_of(&sync.document) => {
                self.actions.push_back(AgentAction::Twin(sync));
                Ok(())
            }
            (State::Open, Message::Command(command)) if self.takes_commands => {
                self.command(ToAgent::Command(command))
            }
            (State::Open, Message::Cancel(cancel)) if self.takes_commands => {
                self.command(ToAgent::Cancel(cancel))
            }
            (State::Open, Message::Noted(noted)) if self.takes_commands => {
                self.command(ToAgent::Noted(noted))
            }
            (State::Open, Message::ConfigAsked(asked)) if self.tells_config => {
                self.actions.push_back(AgentAction::Config(asked));
                Ok(())
            }
            (State::Open, Message::Agreement(found)) if self.audit == Some(found.id) => {
                self.audit = None;
                self.actions.push_back(AgentAction::Agreement(found));
                Ok(())
            }
            (State::Open, Message::Ping(ping)) => {
                self.actions
                    .push_back(AgentAction::Send(Message::Pong(Pong { mono_ns: ping.mono_ns, wall_ns })));
                Ok(())
            }
            (_, other) => {
                Err(SessionError::Protocol(format!("message of kind {} is out of place", other.kind())))
            }
        }
    }

    fn welcome(&mut self, now_ns: u64, welcome: Welcome) -> Result<(), SessionError> {
        if !self.hello.versions.contains(&welcome.version) {
            return Err(SessionError::Protocol(format!("version {} was not offered", welcome.version)));
        }
        self.check_head(&welcome.settled)?;
        self.state = State::Open;
        self.series_known = welcome.series_known;
        self.series_sent = welcome.series_known;
        let can = |ability| welcome.capabilities.iter().any(|name| name == ability);
        (self.tells_devices, self.syncs_twins) = (can(DEVICES_ABILITY), can(TWIN_ABILITY));
        (self.syncs_groups, self.tells_keeps) = (can(GROUPS_ABILITY), can(KEEP_ABILITY));
        self.tells_profiles = can(PROFILE_ABILITY);
        (self.takes_commands, self.tells_config) = (can(COMMANDS_ABILITY), can(CONFIG_ABILITY));
        if let Some(at) = welcome.parted {
            self.part(at);
        }
        self.credit = welcome.credit;
        // The hub is the authority: a restored hub lacks seqs that were acknowledged once.
        self.settled = self.dropped_here();
        self.take_settlement(now_ns, welcome.settled);
        self.missing = self.settled.missing(1, self.end());
        Ok(())
    }

    /// Leaves only what comes before `at`. Of the dictionary no more is sent than those seqs need: what
    /// was defined after the copies parted is another series at the hub.
    fn part(&mut self, at: Seq) {
        self.parted = Some(at);
        self.series = self.series_known;
        let gaps = std::mem::take(&mut self.gaps);
        gaps.into_values().for_each(|gap| self.push_gap(gap));
    }

    fn push_gap(&mut self, gap: Gap) {
        let gap = match self.parted {
            Some(at) if gap.first >= at => return,
            Some(at) if gap.last() >= at => {
                let rows = gap.rows.part(0, at.get() - gap.first.get());
                Gap { rows, ..gap }
            }
            _ => gap,
        };
        self.gaps.insert(gap.first.get(), gap);
    }

    /// The newest seq of this session.
    fn end(&self) -> u64 {
        self.parted.map_or(self.head, |at| self.head.min(at.get().saturating_sub(1)))
    }

    /// What was never given out here cannot have been settled (INV-2: a seq names one batch).
    fn check_head(&mut self, settled: &Settlement) -> Result<(), SessionError> {
        match settled.all().last() {
            Some(held) if held > self.head => {
                self.state = State::Closed;
                Err(SessionError::OldCopy { held: Seq::new(held), head: Seq::new(self.head) })
            }
            _ => Ok(()),
        }
    }

    fn dropped_here(&self) -> RangeSet {
        let mut dropped = RangeSet::new();
        self.gaps.values().for_each(|gap| dropped.insert(gap.first.get(), gap.last().get()));
        dropped
    }

    fn take_settlement(&mut self, now_ns: u64, settlement: Settlement) {
        let all = settlement.all();
        if all.is_empty() {
            return;
        }
        self.settled.insert_set(&all);
        self.missing.remove_set(&all);
        self.in_flight.remove_set(&all);
        let in_flight = &self.in_flight;
        self.lanes.settled(now_ns, |first| !in_flight.contains(first));
        self.spread.settled(&settlement);
        for (lo, hi) in all.iter() {
            let done = self.gaps.range(lo..=hi).filter(|(_, gap)| gap.last().get() <= hi);
            for first in done.map(|(first, _)| *first).collect::<Vec<u64>>() {
                self.gaps.remove(&first);
                self.gaps_sent.remove(&first);
            }
        }
        self.actions.push_back(AgentAction::Settle(settlement));
    }

    /// The next thing to do, or `None` until something happens or time passes.
    ///
    /// # Errors
    /// The hub did not answer the hello in time, or has fallen silent.
    pub fn poll(&mut self, now_ns: u64) -> Result<Option<AgentAction>, SessionError> {
        check_invariant!(Invariant::TimeForward, now_ns >= self.heard_ns, "{now_ns} after {}", self.heard_ns);
        if let Some(action) = self.actions.pop_front() {
            return Ok(Some(action));
        }
        match self.state {
            State::Connecting { since_ns } if now_ns.saturating_sub(since_ns) > HELLO_TIMEOUT_NS => {
                self.state = State::Closed;
                Err(SessionError::Timeout)
            }
            State::Connecting { .. } | State::Closed => Ok(None),
            State::Open if now_ns.saturating_sub(self.heard_ns) > SILENCE_MAX_NS => {
                self.state = State::Closed;
                Err(SessionError::Silent)
            }
            State::Open => Ok(self.poll_open(now_ns)),
        }
    }
}
