//! Both ends' sessions under an arbitrary order of events: polls, deliveries, commits, losses of the
//! line, a hub that was restored, and messages of a peer that does not mean it well.
//!
//! Spool and store are plain range sets that forget nothing. Whatever happened before, a last session
//! of two honest ends brings every seq to the hub.

use std::collections::VecDeque;

use tideline_protocol::block::{self, BlockBuilder};
use tideline_protocol::durability::{Batch, Durable, DurableLog, Validated, commit};
use tideline_protocol::model::{
    Account, AgentId, DropCause, Epoch, Gap, PointId, RowCounts, Sample, Seq, SeriesDef, SeriesNo,
};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{
    AgentAction, AgentSession, AgentState, BackfillBudget, CREDIT_BYTES, HubAction, HubSession, SpoolView,
    Urgent,
};
use tideline_protocol::wire::{self, Decoder, Hello, Lane, Message, RunEnvelope, Settlement};

use crate::input::Input;
use crate::wire::golden_frames;

/// Of the golden frames, so that those pass as this agent's.
const EPOCH: [u8; 16] = [7; 16];
const AGENT: &str = "pump-7";
/// Most batches of one input.
const HEAD_MAX: u64 = 64;
/// Most actions that one event may lead to, and most steps until all is quiet.
const STEPS_MAX: usize = 20_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Longest time until the few bytes of an input are at the hub.
const PATIENCE_S: u64 = 120;

pub fn seeds() -> Vec<Vec<u8>> {
    // Events are a byte and what they read of it: see `World::event`.
    let quiet = [5, 5, 5, 12, 0, 5, 12, 0];
    let steps: Vec<u8> = (0..40).flat_map(|_| [0, 1, 3, 4, 2]).collect();
    let broken = [5, 5, 0, 1, 3, 0, 8, 5, 0, 1, 3, 2, 0, 0, 1, 3, 8, 12, 0];
    let gaps = [5, 5, 5, 5, 6, 1, 2, 12, 5, 6, 0, 0, 8, 12, 14, 2, 8, 12];
    let evil = [5, 12, 9, 3, 1, 40, 9, 0, 10, 4, 0, 10, 1, 1, 60, 2, 12, 8, 11];
    let late = [5, 12, 7, 40, 0, 7, 11, 0, 1, 3, 2];
    [&quiet[..], &steps, &broken, &gaps, &evil, &late].into_iter().map(<[u8]>::to_vec).collect()
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        world.event(&mut input);
    }
    world.end();
}

struct Always;

impl DurableLog for Always {
    type Error = std::convert::Infallible;
    fn append_durably(&mut self, _: &[Batch<Validated>]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// What the hub has on its disk.
#[derive(Clone, Default)]
struct Store {
    settled: Settlement,
    series: SeriesNo,
}

struct World {
    now_ns: u64,
    agent: AgentSession,
    hub: HubSession,
    to_hub: VecDeque<Message>,
    to_agent: VecDeque<Message>,
    appends: VecDeque<Batch<Validated>>,
    // Of this session: nobody lied, and it has not ended.
    honest: bool,
    agent_ended: bool,
    hub_ended: bool,
    head: u64,
    gaps: Vec<Gap>,
    store: Store,
    // The store before a liar spoke to it, and an older backup.
    before_lies: Option<Store>,
    backup: Store,
}

fn agent_id() -> AgentId {
    AgentId::parse(AGENT).expect("a sound id")
}

fn def() -> SeriesDef {
    let point = PointId::parse("p").expect("a sound id");
    SeriesDef::new(agent_id().own_device(), point, String::new())
}

fn batch_of(seq: u64) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    builder.push_batch(&[(0, &[Sample { time_ns: 1, value: seq as f64 }])]);
    builder.finish().bytes
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now_ns: SECOND_NS,
            agent: AgentSession::new(
                0,
                hello(0),
                view(0, &[], &Settlement::default()),
                BackfillBudget::default(),
            ),
            hub: HubSession::new(agent_id()),
            to_hub: VecDeque::new(),
            to_agent: VecDeque::new(),
            appends: VecDeque::new(),
            honest: true,
            agent_ended: false,
            hub_ended: false,
            head: 0,
            gaps: Vec::new(),
            store: Store::default(),
            before_lies: None,
            backup: Store::default(),
        };
        world.connect();
        world
    }

    fn account(&self) -> Account {
        let dropped = self.gaps.iter().map(|gap| gap.rows.total()).sum();
        Account { produced: self.head, pending: self.head - dropped, dropped, ..Account::default() }
    }

    fn connect(&mut self) {
        if let Some(store) = self.before_lies.take() {
            self.store = store;
        }
        let hello = Hello { account: self.account(), ..hello(self.head) };
        self.agent = AgentSession::new(
            self.now_ns,
            hello,
            view(self.head, &self.gaps, &self.store.settled),
            BackfillBudget::default(),
        );
        self.hub = HubSession::new(agent_id());
        self.to_hub.clear();
        self.to_agent.clear();
        self.appends.clear();
        (self.honest, self.agent_ended, self.hub_ended) = (true, false, false);
    }

    fn event(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => drop(self.poll_agent()),
            1 => drop(self.deliver_to_hub()),
            2 => drop(self.deliver_to_agent()),
            3 => drop(self.poll_hub()),
            4 => drop(self.commit()),
            5 => self.append(),
            6 => self.give_up(input.byte(), input.byte()),
            7 => self.now_ns += u64::from(input.byte()) * SECOND_NS,
            8 => self.connect(),
            9 => self.lie(input, true),
            10 => self.lie(input, false),
            // Of what honest agents brought.
            11 => self.backup = self.before_lies.as_ref().unwrap_or(&self.store).clone(),
            12 | 13 => self.quiet(),
            14 => {
                // A hub that comes back with less than it had; what it gave up on stays given up.
                self.store = self.backup.clone();
                self.before_lies = None;
                self.connect();
            }
            _ => self.deliver_of_a_broken_line(input),
        }
        assert!(self.hub.unsettled_bytes() <= CREDIT_BYTES * 2, "INV-6: run bytes of one session wait");
    }

    fn append(&mut self) {
        if self.head < HEAD_MAX {
            self.head += 1;
            self.agent.handle_urgent(urgent(self.head));
            self.agent.handle_appended(Seq::new(self.head), 1);
            self.agent.handle_account(self.account(), Seq::default());
        }
    }

    /// The spool gives up some seqs that the hub does not have.
    fn give_up(&mut self, from: u8, count: u8) {
        let first = u64::from(from) % (self.head + 1);
        let last = (first + u64::from(count % 8)).min(self.head);
        let mut open = RangeSet::of(1, self.head);
        open.remove_set(&self.store.settled.all());
        self.gaps.iter().for_each(|gap| open.remove(gap.first.get(), gap.last().get()));
        let Some((lo, hi)) = open.within(first.max(1), last).iter().next() else { return };
        let mut rows = RowCounts::default();
        (lo..=hi).for_each(|_| rows.push(1));
        let gap = Gap { first: Seq::new(lo), rows, from_ns: 0, to_ns: 1, cause: DropCause::Damaged };
        self.gaps.push(gap.clone());
        self.agent.handle_gap(gap);
        self.agent.handle_account(self.account(), Seq::default());
    }

    /// A message that its sender did not send. Every end must live with it or end the session.
    fn lie(&mut self, input: &mut Input<'_>, to_hub: bool) {
        let frames = golden_frames();
        let mut frame = frames.get(input.below(frames.len())).cloned().unwrap_or_default();
        for _ in 0..input.byte() % 5 {
            let at = wire::HEADER_LEN + input.below(frame.len().saturating_sub(wire::HEADER_LEN));
            let value = input.byte();
            frame.get_mut(at).into_iter().for_each(|byte| *byte = value);
        }
        wire::seal(&mut frame);
        let mut decoder = Decoder::new();
        decoder.push(&frame);
        let Ok(Some(frame)) = decoder.next_frame() else { return };
        self.honest = false;
        if to_hub {
            self.before_lies.get_or_insert_with(|| self.store.clone());
            self.to_hub.push_front(frame.message);
            self.deliver_to_hub();
        } else {
            self.to_agent.push_front(frame.message);
            self.deliver_to_agent();
        }
    }

    /// A line that does not keep the order of its messages is none of ours, but must do no harm.
    fn deliver_of_a_broken_line(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        self.before_lies.get_or_insert_with(|| self.store.clone());
        let queue = if input.byte() & 1 == 0 { &mut self.to_hub } else { &mut self.to_agent };
        if let (Some(first), Some(last)) = (queue.front().cloned(), queue.pop_back()) {
            queue.push_front(last);
            queue.push_back(first);
        }
    }

    fn deliver_to_hub(&mut self) -> bool {
        let Some(message) = self.to_hub.pop_front() else { return false };
        if self.hub_ended {
            return true;
        }
        if let Err(error) = self.hub.handle_message(0, message) {
            assert!(!self.honest || self.agent_ended, "the hub refused an honest agent: {error}");
            self.drain_hub();
            self.hub_ended = true;
        }
        true
    }

    fn deliver_to_agent(&mut self) -> bool {
        let Some(message) = self.to_agent.pop_front() else { return false };
        if self.agent_ended {
            return true;
        }
        if let Err(error) = self.agent.handle_message(self.now_ns, 0, message) {
            assert!(!self.honest, "the agent refused an honest hub: {error}");
            self.agent_ended = true;
        }
        true
    }

    fn poll_agent(&mut self) -> bool {
        if self.agent_ended {
            return false;
        }
        let action = match self.agent.poll(self.now_ns) {
            // The hello, or the line, took too long.
            Err(_) => {
                self.agent_ended = true;
                return false;
            }
            Ok(None) => return false,
            Ok(Some(action)) => action,
        };
        match action {
            AgentAction::Send(message) => self.to_hub.push_back(message),
            AgentAction::LoadSeries { from, .. } => {
                let defs = if from == 0 && self.head > 0 { vec![def()] } else { vec![] };
                self.agent.handle_series(from, defs);
            }
            AgentAction::LoadRun { lane, seqs, .. } => self.load(lane, &seqs),
            AgentAction::Settle(settlement) if self.honest => {
                // INV-1, from the agent's side: the store never holds less than it says.
                let missing = |said: &RangeSet, held: &RangeSet| said.intersect(held) != *said;
                let held = &self.store.settled;
                assert!(!missing(&settlement.stored, &held.stored), "{settlement:?} of {held:?}");
                assert!(!missing(&settlement.dropped, &held.dropped), "{settlement:?} of {held:?}");
            }
            AgentAction::Settle(_)
            | AgentAction::Know
            | AgentAction::Agreement(_)
            | AgentAction::Twin(_)
            | AgentAction::Command(_)
            | AgentAction::Config(_) => {}
            // The session of a copy; only a liar made it one.
            _ => {
                assert!(!self.honest, "an honest hub knows of no copy");
                self.agent_ended = true;
            }
        }
        true
    }

    /// Some of the seqs as a run, three at most, so that there are several; those between are holes.
    fn load(&mut self, lane: Lane, seqs: &RangeSet) {
        let inside = seqs.intersect(&RangeSet::of(1, self.head));
        assert!(!seqs.is_empty() && inside == *seqs, "{seqs:?} of {}", self.head);
        let taken: Vec<u64> = seqs.iter().flat_map(|(lo, hi)| lo..=hi).take(3).collect();
        let (first, last) = (taken[0], taken[taken.len() - 1]);
        let blocks: Vec<_> = (first..=last).map(|seq| taken.contains(&seq).then(|| batch_of(seq))).collect();
        let parts = blocks.iter().map(|block| block.as_ref().map_or((&[][..], 0), |block| (&block[..], 1)));
        let packed = block::repack(parts).expect("own blocks");
        let (epoch, first) = (Epoch::from_bytes(EPOCH), Seq::new(first));
        let envelope = RunEnvelope { epoch, lane, first, rows: packed.rows, series_end: 1, restamps: vec![] };
        self.agent.handle_run(self.now_ns, envelope, packed.bytes);
    }

    fn poll_hub(&mut self) -> bool {
        let Some(action) = self.hub.poll() else { return false };
        match action {
            HubAction::Send(message) => self.to_agent.push_back(message),
            HubAction::Open(_) => {
                let settled = self.store.settled.clone();
                self.hub.handle_opened(0, AgentState { settled, series_known: self.store.series });
            }
            HubAction::DefineSeries(_, series) => {
                let end = series.first + SeriesNo::try_from(series.defs.len()).expect("few entries");
                self.store.series = self.store.series.max(end);
                self.hub.handle_series_durable(self.store.series);
            }
            HubAction::Append(batch) => self.appends.push_back(batch),
            HubAction::Recall(_, first, last) => {
                self.hub.handle_settled(&self.store.settled.within(first, last));
            }
            HubAction::RecordGap(_, gap) => {
                let (first, last) = (gap.first.get(), gap.last().get());
                let new = self.store.settled.all().missing(first, last);
                self.store.settled.dropped.insert_set(&new);
                self.hub.handle_settled(&self.store.settled.within(gap.first, gap.last()));
            }
            HubAction::Close => self.hub_ended = true,
            _ => {}
        }
        true
    }

    fn drain_hub(&mut self) {
        let steps = (0..STEPS_MAX).take_while(|_| self.poll_hub()).count();
        assert!(steps < STEPS_MAX, "the hub's session never stops");
    }

    /// One group commit of all that waits.
    fn commit(&mut self) -> bool {
        if self.appends.is_empty() {
            return false;
        }
        let mut batches: Vec<Batch<Validated>> = Vec::new();
        let mut taken = self.store.settled.all();
        for batch in self.appends.drain(..) {
            let batch = batch.without(&taken);
            taken.insert_set(batch.taken());
            batches.push(batch);
        }
        let Ok(durable): Result<Vec<Batch<Durable>>, _> = commit(&mut Always, batches);
        for batch in durable {
            // INV-2
            assert!(batch.taken().intersect(&self.store.settled.all()).is_empty(), "a seq is stored twice");
            self.store.settled.stored.insert_set(batch.taken());
            self.hub.handle_durable(&batch);
        }
        true
    }

    /// Everything that can happen without time passing happens.
    fn quiet(&mut self) {
        for _ in 0..STEPS_MAX {
            let agent = self.poll_agent() || self.deliver_to_hub();
            let hub = self.poll_hub() || self.commit() || self.deliver_to_agent();
            if !(agent || hub) {
                return;
            }
        }
        panic!("the sessions never fall silent");
    }

    /// After all that, two honest ends.
    fn end(&mut self) {
        self.connect();
        for _ in 0..PATIENCE_S {
            self.quiet();
            if self.agent.is_drained() {
                break;
            }
            // Old readings go within a budget, which grows with time.
            self.now_ns += SECOND_NS;
        }
        assert!(self.agent.is_drained(), "not drained: {:?}", self.agent);
        let settled = &self.store.settled;
        assert_eq!(settled.all(), RangeSet::of(1, self.head), "the hub lacks seqs");
        assert!(settled.stored.intersect(&settled.dropped).is_empty());
        let mut given_up = RangeSet::new();
        self.gaps.iter().for_each(|gap| given_up.insert(gap.first.get(), gap.last().get()));
        assert_eq!(settled.dropped.intersect(&given_up), settled.dropped, "what was not given up is dropped");
    }
}

fn hello(head: u64) -> Hello {
    // As a frame of the protocol's own tests, so that a new field of it is no concern here.
    let mut decoder = Decoder::new();
    golden_frames().iter().for_each(|frame| decoder.push(frame));
    let Ok(Some(Message::Hello(golden))) = decoder.next_frame().map(|frame| frame.map(|f| f.message)) else {
        panic!("the first golden frame is no hello");
    };
    Hello { agent: agent_id(), epoch: Epoch::from_bytes(EPOCH), head: Seq::new(head), moved: None, ..golden }
}

/// Every seventh batch is an alarm, every fifth a state.
fn urgent(head: u64) -> Urgent {
    let every = |step: usize| {
        let mut set = RangeSet::new();
        (1..=head).step_by(step).for_each(|seq| set.insert(seq, seq));
        set
    };
    Urgent { alarm: every(7), state: every(5) }
}

/// The spool as it knows itself: it may have missed the last acks, but has not here.
fn view(head: u64, gaps: &[Gap], settled: &Settlement) -> SpoolView {
    let unconfirmed = gaps.iter().filter(|gap| {
        let (first, last) = (gap.first.get(), gap.last().get());
        !settled.all().missing(first, last).is_empty()
    });
    SpoolView {
        head: Seq::new(head),
        settled: RangeSet::new(),
        series: SeriesNo::from(head > 0),
        gaps: unconfirmed.cloned().collect(),
        urgent: urgent(head),
        knows_time: true,
        lives: Vec::new(),
        moved: None,
    }
}
