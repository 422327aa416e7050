//! Both ends against each other, with plain maps for spool and store.

mod config;
mod gaps;
mod twins;

use std::collections::BTreeMap;

use super::*;
use crate::block::BlockBuilder;
use crate::durability::{Batch, DurableLog, Validated, commit};
use crate::keep::{Keep, KeepRule};
use crate::model::{Account, AgentId, DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use crate::ranges::RangeSet;
use crate::wire::{
    Agreement, Audit, COMMANDS_ABILITY, CommandId, ConfigInForce, DEVICES_ABILITY, DeviceCard, Hello,
    Journal, JournalId, KEEP_ABILITY, Lane, Message, Noted, PROFILE_ABILITY, RunEnvelope, Settlement,
    ToAgent, ToHub, TwinSync,
};

struct AlwaysDurable;

impl DurableLog for AlwaysDurable {
    type Error = std::convert::Infallible;
    fn append_durably(&mut self, _: &[Batch<Validated>]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A spool of one series and one row per batch, and a store of ranges.
struct Pair {
    agent: AgentSession,
    hub: HubSession,
    blocks: BTreeMap<u64, Vec<u8>>,
    stored: Settlement,
    settled: Settlement,
    lanes: Vec<(Lane, u64, u64)>,
    parted: Option<Seq>,
    branched: Option<Seq>,
    agreements: Vec<Agreement>,
    twins: Vec<TwinSync>,
    to_agent: Vec<ToAgent>,
    to_hub: Vec<ToHub>,
    duplicates: u64,
    seqs_per_run: usize,
    ranges: usize,
    fates: RangeSet,
    cards: Vec<DeviceCard>,
    configs: Vec<ConfigInForce>,
    now_ns: u64,
}

fn agent_id() -> AgentId {
    AgentId::parse("a").unwrap()
}

fn hello(head: u64) -> Hello {
    Hello {
        versions: vec![1],
        capabilities: vec![],
        agent: agent_id(),
        epoch: Epoch::from_bytes([1; 16]),
        boot: [0; 16],
        mono_ns: 0,
        wall_ns: 0,
        head: Seq::new(head),
        software: "test".into(),
        account: Account::default(),
        lives: vec![],
        moved: None,
    }
}

fn block(value: u64) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    builder.push_batch(&[(0, &[Sample { time_ns: 1, value: value as f64 }])]);
    builder.finish().bytes
}

fn empty_spool() -> SpoolView {
    SpoolView {
        head: Seq::default(),
        settled: crate::ranges::RangeSet::new(),
        series: 0,
        gaps: vec![],
        urgent: Urgent::default(),
        knows_time: true,
        lives: vec![],
        moved: None,
    }
}

impl Pair {
    fn new(head: u64, stored: Settlement) -> Self {
        let spool = SpoolView { head: Seq::new(head), series: u32::from(head > 0), ..empty_spool() };
        Self {
            agent: AgentSession::new(0, hello(head), spool, BackfillBudget::default()),
            hub: HubSession::new(agent_id()),
            blocks: (1..=head).map(|seq| (seq, block(seq))).collect(),
            stored,
            settled: Settlement::default(),
            lanes: vec![],
            parted: None,
            branched: None,
            agreements: vec![],
            twins: vec![],
            to_agent: vec![],
            to_hub: vec![],
            duplicates: 0,
            seqs_per_run: 3,
            ranges: 0,
            fates: RangeSet::new(),
            cards: vec![],
            configs: vec![],
            now_ns: 0,
        }
    }

    fn account(&self) -> Account {
        Account { produced: self.blocks.len() as u64, ..Account::default() }
    }

    fn append(&mut self) {
        let head = self.blocks.len() as u64 + 1;
        self.blocks.insert(head, block(head));
        self.agent.handle_appended(Seq::new(head), 1);
        self.agent.handle_account(self.account(), Seq::default());
    }

    fn agent_step(&mut self, now_ns: u64) -> bool {
        self.now_ns = now_ns;
        let Some(action) = self.agent.poll(now_ns).unwrap() else { return false };
        match action {
            AgentAction::Send(message) => {
                if let Message::Run(run) = &message {
                    self.lanes.push((run.envelope.lane, run.envelope.first.get(), run.envelope.last().get()));
                }
                self.hub.handle_message(0, message).unwrap();
            }
            AgentAction::LoadSeries { from, .. } => {
                let def = SeriesDef::new(
                    DeviceId::parse("a").unwrap(),
                    PointId::parse("p").unwrap(),
                    String::new(),
                );
                self.agent.handle_series(from, vec![def]);
            }
            AgentAction::LoadRun { lane, seqs, .. } => {
                // Few seqs a run, so that there are several.
                let held =
                    seqs.iter().flat_map(|(lo, hi)| lo..=hi).filter(|seq| self.blocks.contains_key(seq));
                let held: Vec<u64> = held.take(self.seqs_per_run).collect();
                let Some(first) = held.first().copied() else {
                    self.agent.handle_gone(&seqs);
                    return true;
                };
                let seqs = held;
                let last = *seqs.last().unwrap();
                let parts: Vec<(&[u8], u32)> =
                    (first..=last)
                        .map(|seq| {
                            if seqs.contains(&seq) { (self.blocks[&seq].as_slice(), 1) } else { (&[][..], 0) }
                        })
                        .collect();
                let packed = crate::block::repack(parts).unwrap();
                let (epoch, first) = (Epoch::from_bytes([1; 16]), Seq::new(first));
                let run =
                    RunEnvelope { epoch, lane, first, rows: packed.rows, series_end: 1, restamps: vec![] };
                self.agent.handle_run(1, run, packed.bytes);
            }
            AgentAction::Settle(settlement) => {
                self.settled.merge(&settlement);
                self.fates.insert_set(&settlement.all());
                let known = self.fates.first_missing_from(1) - 1;
                self.agent.handle_account(self.account(), Seq::new(known));
            }
            AgentAction::Know => {}
            AgentAction::Agreement(found) => self.agreements.push(found),
            AgentAction::Twin(sync) => self.twins.push(sync),
            AgentAction::Command(said) => self.to_agent.push(said),
            AgentAction::Config(_) => self.agent.handle_config(config::in_force()),
            AgentAction::Branch(at) => self.branched = Some(at),
        }
        true
    }

    fn hub_step(&mut self) -> bool {
        let Some(action) = self.hub.poll() else { return false };
        match action {
            HubAction::Open(_) => {
                let state = AgentState { settled: self.stored.clone(), series_known: 0 };
                match self.parted {
                    Some(at) => self.hub.handle_parted(0, state, at),
                    None => self.hub.handle_opened(0, state),
                }
            }
            HubAction::Send(message) => self.agent.handle_message(self.now_ns, 0, message).unwrap(),
            HubAction::DefineSeries(_, series) => {
                self.hub.handle_series_durable(u32::try_from(series.defs.len()).unwrap())
            }
            HubAction::Append(batch) => {
                let sent = batch.taken().len();
                let (first, last) = batch.seqs();
                let batch = batch.without(&self.stored.within(first, last).all());
                self.duplicates += sent - batch.taken().len();
                for durable in commit(&mut AlwaysDurable, vec![batch]).unwrap() {
                    self.stored.stored.insert_set(durable.taken());
                    self.hub.handle_durable(&durable);
                }
            }
            HubAction::Recall(_, first, last) => self.hub.handle_settled(&self.stored.within(first, last)),
            HubAction::RecordGap(_, gap) => {
                let known = self.stored.within(gap.first, gap.last()).all();
                self.stored.dropped.insert_set(&known.missing(gap.first.get(), gap.last().get()));
                self.hub.handle_settled(&self.stored.within(gap.first, gap.last()));
            }
            HubAction::Audit(_, Audit { id, seqs, .. }) => {
                let stored = self.stored.stored.intersect(&seqs);
                let settled = Settlement { stored, ..Settlement::default() };
                self.hub.handle_audited(Agreement { id, settled, digests: vec![] });
            }
            HubAction::Report(_, report) => {
                self.stored.fold(report.known);
                let holes = self.stored.all().missing(1, report.known.get());
                self.stored.stored.insert_set(&holes);
            }
            HubAction::Command(said) => self.to_hub.push(said),
            HubAction::Devices(cards) => self.cards.extend(cards),
            HubAction::Config(told) => self.configs.extend(config::hear(&mut self.hub, told)),
            // A hub that says back what it hears.
            HubAction::Twin(sync) => self.hub.handle_twin(sync),
            HubAction::Health(_) | HubAction::Close => {}
        }
        let Settlement { stored, dropped, .. } = &self.stored;
        self.ranges = self.ranges.max(stored.range_count()).max(dropped.range_count());
        true
    }

    fn settle_down(&mut self) {
        while self.agent_step(1) || self.hub_step() {}
    }
}

#[test]
fn everything_arrives_and_is_settled() {
    let mut pair = Pair::new(10, Settlement::default());
    pair.settle_down();
    assert!(pair.agent.is_drained());
    assert_eq!(pair.stored.stored.iter().collect::<Vec<_>>(), [(1, 10)]);
    assert_eq!(pair.settled, pair.stored);
}

#[test]
fn readings_taken_since_the_hello_overtake_the_backlog() {
    let mut pair = Pair::new(30, Settlement::default());
    pair.append();
    pair.append();
    pair.settle_down();
    assert_eq!(pair.lanes[0], (Lane::Live, 31, 32));
    assert!(pair.lanes[1..].iter().all(|(lane, ..)| *lane == Lane::Backfill));
    assert!(pair.agent.is_drained());
}

#[test]
fn only_what_the_hub_lacks_is_sent() {
    let stored = crate::ranges::RangeSet::of(3, 8);
    let mut pair = Pair::new(10, Settlement { stored, ..Settlement::default() });
    pair.settle_down();
    // The first run leaves out 3 to 8, and takes no more than three seqs.
    assert_eq!(pair.lanes.iter().map(|(_, lo, hi)| (*lo, *hi)).collect::<Vec<_>>(), [(1, 9), (10, 10)]);
    assert_eq!(pair.duplicates, 0);
}

#[test]
fn an_ack_tells_what_was_dropped_before_a_late_duplicate_came() {
    let mut pair = Pair::new(4, Settlement::default());
    pair.stored.dropped.insert(2, 3);
    // The welcome is made from an older view, so that the agent sends all.
    while pair.agent_step(1) {}
    pair.hub.poll();
    pair.hub.handle_opened(0, AgentState::default());
    pair.settle_down();
    assert_eq!(pair.settled.dropped, crate::ranges::RangeSet::of(2, 3));
    assert!(!pair.settled.stored.contains(2));
}

#[test]
fn another_name_than_the_certificates_is_refused() {
    let mut hub = HubSession::new(AgentId::parse("other").unwrap());
    hub.handle_message(0, Message::Hello(hello(0))).unwrap();
    let Some(HubAction::Send(Message::Refuse(refuse))) = hub.poll() else { panic!("no refusal") };
    assert_eq!(refuse.code, crate::wire::RefuseCode::Identity);
    assert_eq!(hub.poll(), Some(HubAction::Close));
}

#[test]
fn a_version_that_the_hub_lacks_is_refused_politely() {
    let mut hub = HubSession::new(agent_id());
    hub.handle_message(0, Message::Hello(Hello { versions: vec![8, 9], ..hello(0) })).unwrap();
    let Some(HubAction::Send(Message::Refuse(refuse))) = hub.poll() else { panic!("no refusal") };
    assert_eq!(refuse.reason, "agent speaks versions [8, 9], this hub speaks 1");
}

#[test]
fn data_before_the_hello_ends_the_session() {
    let mut hub = HubSession::new(agent_id());
    let ping = Message::Ping(crate::wire::Ping { mono_ns: 1, next_ms: 3_000 });
    assert!(matches!(hub.handle_message(0, ping), Err(SessionError::Protocol(_))));
    assert!(matches!(hub.poll(), Some(HubAction::Send(Message::Refuse(_)))));
}

#[test]
fn without_an_answer_the_session_times_out() {
    let mut pair = Pair::new(0, Settlement::default());
    while pair.agent.poll(1).unwrap().is_some() {}
    assert_eq!(pair.agent.poll(HELLO_TIMEOUT_NS + 1), Err(SessionError::Timeout));
}

#[test]
fn a_hub_that_holds_what_was_never_given_out_ends_the_session_of_an_old_copy() {
    let stored = Settlement { stored: crate::ranges::RangeSet::of(1, 9), ..Settlement::default() };
    let mut pair = Pair::new(5, stored);
    let mut ended = None;
    while ended.is_none() {
        if let Some(AgentAction::Send(message)) = pair.agent.poll(0).unwrap() {
            pair.hub.handle_message(0, message).unwrap();
        }
        match pair.hub.poll().unwrap() {
            HubAction::Open(_) => {
                pair.hub.handle_opened(0, AgentState { settled: pair.stored.clone(), series_known: 0 });
            }
            HubAction::Send(message) => ended = pair.agent.handle_message(0, 0, message).err(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, Some(SessionError::OldCopy { held: Seq::new(9), head: Seq::new(5) }));
    assert_eq!(pair.agent.poll(0), Ok(None), "nothing was settled, nothing is sent");
}

#[test]
fn a_hub_that_falls_silent_ends_the_session() {
    let mut pair = Pair::new(3, Settlement::default());
    while pair.agent_step(0) || pair.hub_step() {}
    assert!(pair.agent.is_open());
    assert!(pair.agent.poll(SILENCE_MAX_NS).is_ok());
    let ended = (0..3).find_map(|_| pair.agent.poll(SILENCE_MAX_NS + 1).err());
    assert_eq!(ended, Some(SessionError::Silent));
}

/// The promises of the pings that a session sends in so many seconds; the hub answers nothing else.
fn promises(agent: &mut AgentSession, from_s: u64, seconds: u64) -> Vec<(u64, u32)> {
    let mut out = Vec::new();
    for now_s in from_s..from_s + seconds {
        while let Some(action) = agent.poll(now_s * 1_000_000_000).unwrap() {
            if let AgentAction::Send(Message::Ping(ping)) = action {
                out.push((now_s, ping.next_ms));
                let pong = Message::Pong(crate::wire::Pong { mono_ns: ping.mono_ns, wall_ns: 0 });
                agent.handle_message(now_s * 1_000_000_000, 0, pong).unwrap();
            }
        }
    }
    out
}

#[test]
fn pings_are_far_apart_with_nothing_to_send_and_close_while_anything_waits() {
    let mut idle = Pair::new(0, Settlement::default());
    idle.settle_down();
    assert_eq!(promises(&mut idle.agent, 1, 31), [(16, 15_000), (31, 15_000)]);
    // A batch waits for a dictionary that is not durable at the hub yet: nothing else is said.
    idle.agent.handle_appended(Seq::new(1), 1);
    let waiting = promises(&mut idle.agent, 32, 10);
    assert_eq!(waiting, [(32, 3_000), (35, 3_000), (38, 3_000), (41, 3_000)]);
}

#[test]
fn a_spool_that_has_parted_sends_what_is_common_and_branches() {
    let stored = Settlement { stored: crate::ranges::RangeSet::of(2, 9), ..Settlement::default() };
    let mut pair = Pair::new(7, stored);
    pair.parted = Some(Seq::new(5));
    pair.append();
    while pair.agent_step(0) || pair.hub_step() {}
    assert!(pair.branched == Some(Seq::new(5)) && !pair.agent.is_open());
    assert_eq!(pair.lanes.iter().map(|(_, first, last)| (*first, *last)).collect::<Vec<_>>(), [(1, 1)]);
    let common = crate::ranges::RangeSet::of(1, 4);
    assert_eq!(pair.settled.stored, common, "what the hub has of the other copy is not this one's");
}

#[test]
fn alarms_and_states_go_ahead_and_the_runs_after_them_leave_holes() {
    let mut pair = Pair::new(9, Settlement::default());
    let alarm = crate::ranges::RangeSet::of(8, 8);
    let state = crate::ranges::RangeSet::of(2, 2);
    pair.agent.handle_urgent(Urgent { alarm, state });
    pair.append();
    pair.settle_down();
    let lanes: Vec<_> = pair.lanes.iter().map(|(lane, lo, hi)| (*lane, *lo, *hi)).collect();
    assert_eq!(
        lanes[..4],
        [(Lane::Alarm, 8, 8), (Lane::State, 2, 2), (Lane::Live, 10, 10), (Lane::Backfill, 1, 4),]
    );
    assert_eq!(pair.stored.stored, crate::ranges::RangeSet::of(1, 10));
    assert_eq!(pair.duplicates, 0, "a hole is no duplicate");
}

#[test]
fn the_hub_answers_one_audit_at_a_time_and_the_agent_takes_no_other_answer() {
    let mut pair = Pair::new(5, Settlement { stored: RangeSet::of(1, 2), ..Settlement::default() });
    let audit = |id| Audit { id, seqs: RangeSet::of(2, 9), per: 1 };
    assert!(!pair.agent.handle_audit(audit(1)), "there is no session yet");
    pair.settle_down();
    assert!(pair.agent.handle_audit(audit(7)));
    assert!(!pair.agent.handle_audit(audit(8)), "one is under way");
    pair.settle_down();
    let answers: Vec<_> = pair.agreements.iter().map(|a| (a.id, a.settled.stored.clone())).collect();
    assert_eq!(answers, [(7, RangeSet::of(2, 5))]);
    assert!(pair.agent.handle_audit(audit(9)), "the next one");
    let unasked = Agreement { id: 7, settled: Settlement::default(), digests: vec![] };
    let error = pair.agent.handle_message(0, 0, Message::Agreement(unasked)).unwrap_err();
    assert!(error.to_string().contains("kind 13 is out of place"), "{error}");
    // A hub does not let an agent have many read at once.
    pair.hub.handle_message(0, Message::Audit(audit(1))).unwrap();
    let error = pair.hub.handle_message(0, Message::Audit(audit(2))).unwrap_err();
    assert!(error.to_string().contains("second audit"), "{error}");
}

#[test]
fn devices_are_told_in_parts_to_a_hub_that_asks_for_them_and_to_no_other() {
    let cards: Vec<DeviceCard> =
        (0..300).map(|n| DeviceCard::new(DeviceId::parse(&format!("meter-{n}")).unwrap())).collect();
    for (abilities, wanted) in
        [(vec![], vec![]), (vec![DEVICES_ABILITY.to_owned(), "x".into()], cards.clone())]
    {
        let mut pair = Pair::new(0, Settlement::default());
        let hello = Hello { capabilities: abilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.agent.handle_devices(&cards);
        pair.settle_down();
        assert!(pair.cards.is_empty(), "not before the welcome");
        pair.agent.handle_devices(&cards);
        pair.settle_down();
        assert_eq!(pair.cards, wanted);
    }
}

#[test]
fn what_is_kept_of_devices_is_told_to_a_hub_that_knows_of_it_and_left_out_for_any_other() {
    let keep = Keep { days: Some(9), rollups: None };
    let rules = vec![KeepRule { points: vec!["raw/*".into()], keep }];
    let device = DeviceId::parse("meter-1").unwrap();
    let card = DeviceCard { keeps: Some(rules), ..DeviceCard::new(device.clone()) };
    let plain = DeviceCard::new(device);
    for (more, wanted) in [(None, plain), (Some(KEEP_ABILITY), card.clone())] {
        let mut pair = Pair::new(0, Settlement::default());
        let capabilities = [DEVICES_ABILITY].into_iter().chain(more).map(str::to_owned).collect();
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.settle_down();
        pair.agent.handle_devices(std::slice::from_ref(&card));
        pair.settle_down();
        assert_eq!(pair.cards, [wanted]);
    }
}

#[test]
fn which_version_of_a_profile_is_meant_is_told_to_a_hub_that_knows_of_it_and_left_out_for_any_other() {
    let plain = DeviceCard::new(DeviceId::parse("meter-1").unwrap());
    let card = DeviceCard { profile_digest: Some([7; 16]), ..plain.clone() };
    for (more, wanted) in [(None, plain), (Some(PROFILE_ABILITY), card.clone())] {
        let mut pair = Pair::new(0, Settlement::default());
        let capabilities = [DEVICES_ABILITY].into_iter().chain(more).map(str::to_owned).collect();
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.settle_down();
        pair.agent.handle_devices(std::slice::from_ref(&card));
        pair.settle_down();
        assert_eq!(pair.cards, [wanted]);
    }
}

#[test]
fn commands_and_what_is_said_of_them_travel_where_both_ends_know_them() {
    let id = CommandId::from_bytes([1; 16]);
    let noted = ToAgent::Noted(Noted { id, attempt: 1, number: 2 });
    let journal = ToHub::Journal(Journal { journal: JournalId::from_bytes([2; 16]), forgotten_ms: 0 });
    for knows in [false, true] {
        let mut pair = Pair::new(3, Settlement::default());
        let capabilities = if knows { vec![COMMANDS_ABILITY.to_owned()] } else { vec![] };
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.agent.handle_command(journal.clone());
        pair.hub.handle_command(noted.clone());
        pair.settle_down();
        assert!(pair.to_hub.is_empty() && pair.to_agent.is_empty(), "not before the welcome");
        pair.agent.handle_command(journal.clone());
        pair.hub.handle_command(noted.clone());
        pair.settle_down();
        let expected = if knows { (vec![journal.clone()], vec![noted.clone()]) } else { (vec![], vec![]) };
        assert_eq!((pair.to_hub, pair.to_agent), expected);
        if !knows {
            // From an end that did not name the ability they are out of place.
            assert!(pair.agent.handle_message(pair.now_ns, 0, noted.clone().into()).is_err());
            assert!(pair.hub.handle_message(0, journal.clone().into()).is_err());
        }
    }
}
