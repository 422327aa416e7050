//! The world of one seed: both ends, the line between them, and what may go wrong.

mod agent;
mod hub;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{Decoder, Frame, Message, encode};

use crate::network::{Faults, Line};
use agent::Agent;
use hub::Hub;

/// Steps with faults; quiet follows.
const STEPS: u64 = 250;
/// Virtual time of a step.
const STEP_NS: u64 = 10_000_000;
/// A session in which nothing settles for so long is given up, as a keep-alive would.
const STALL_NS: u64 = 300_000_000;
/// Quiet steps until everything must have settled.
const QUIET_STEPS: u64 = 4_000;

/// A deliberately broken variant, which the simulation must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// As shipped.
    None,
    /// The hub acknowledges before its log is durable.
    AckBeforeDurable,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Replays it.
    pub seed: u64,
    /// The step.
    pub step: u64,
    /// Which, and how.
    pub what: String,
}

/// What a seed did, so that a test can tell that the faults really happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Readings accepted by the spool.
    pub produced: u64,
    /// Of them stored at the hub.
    pub stored: u64,
    /// Of them dropped and counted.
    pub dropped: u64,
    /// Rows that came again and were ignored.
    pub duplicates: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Restarts of either end.
    pub restarts: u64,
}

struct World {
    rng: StdRng,
    now_ns: u64,
    agent: Agent,
    hub: Hub,
    up: Line,
    down: Line,
    faults: Faults,
    outcome: Outcome,
    progress_ns: u64,
    // Every reading has a value of its own, so that a copy or a loss can be told.
    next_value: u64,
}

/// Runs one seed.
///
/// # Errors
/// The invariant that did not hold.
pub fn run(seed: u64, canary: Canary) -> Result<Outcome, Violation> {
    let mut world = World::new(seed, canary);
    for step in 0..STEPS + QUIET_STEPS {
        let quiet = step >= STEPS;
        if quiet {
            world.faults = Faults::default();
        } else {
            world.disturb();
        }
        world.step().and_then(|()| world.check()).map_err(|what| Violation { seed, step, what })?;
        if quiet && world.agent.is_drained() {
            break;
        }
    }
    world.check_end().map_err(|what| Violation { seed, step: STEPS, what })
}

impl World {
    fn new(seed: u64, canary: Canary) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let chance =
            |rng: &mut StdRng, max: f64| if rng.random_bool(0.5) { rng.random_range(0.0..max) } else { 0.0 };
        let faults = Faults {
            loss: chance(&mut rng, 0.2),
            duplication: chance(&mut rng, 0.2),
            corruption: chance(&mut rng, 0.02),
            delay_ns: if rng.random_bool(0.5) { rng.random_range(0..100_000_000) } else { 0 },
        };
        let id = AgentId::parse("sim").unwrap_or_else(|_| unreachable!("a valid id"));
        // A third of the seeds have a quota so small that the spool must drop.
        let quota = if rng.random_bool(0.33) { rng.random_range(800..6_000) } else { 1 << 30 };
        Self {
            agent: Agent::new(id.clone(), rng.random(), quota),
            hub: Hub::new(id, canary == Canary::AckBeforeDurable),
            rng,
            now_ns: 0,
            up: Line::default(),
            down: Line::default(),
            faults,
            outcome: Outcome::default(),
            progress_ns: 0,
            next_value: 0,
        }
    }

    /// Draws what goes wrong, or right, in this step.
    fn disturb(&mut self) {
        match self.rng.random_range(0..100_u32) {
            0..60 => {
                let rows = self.rng.random_range(1..6);
                self.outcome.produced += self.agent.produce(&mut self.rng, &mut self.next_value, rows);
            }
            60..63 => self.cut(),
            63 => self.hub.disk.fail_next_sync(),
            64..66 => {
                self.cut();
                self.agent.restart(self.rng.random_bool(0.5));
                self.outcome.restarts += 1;
            }
            66..69 => self.restart_hub(),
            _ => {}
        }
    }

    fn restart_hub(&mut self) {
        self.cut();
        self.hub.disk.crash(&mut self.rng);
        self.hub.restart();
        self.outcome.restarts += 1;
    }

    fn cut(&mut self) {
        self.up.cut();
        self.down.cut();
        self.agent.session = None;
        self.hub.session = None;
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ns += STEP_NS;
        if self.agent.session.is_some()
            && self.now_ns - self.progress_ns > STALL_NS
            && !self.agent.is_drained()
        {
            self.cut();
        }
        if self.agent.session.is_none() {
            self.agent.connect(self.now_ns);
            self.hub.connect();
            self.progress_ns = self.now_ns;
            self.outcome.sessions += 1;
        }
        let alive = self.agent.drive(self.now_ns, |message| {
            self.up.send(self.now_ns, encode(&message.into()), self.faults, &mut self.rng);
        })?;
        let alive = alive && self.deliver_up() && self.drive_hub()? && self.deliver_down()?;
        if !alive {
            self.cut();
        }
        Ok(())
    }

    fn deliver_up(&mut self) -> bool {
        while let Some(bytes) = self.up.receive(self.now_ns) {
            let Some(message) = decode(&bytes) else { return false };
            if !self.hub.receive(message) {
                return false;
            }
        }
        true
    }

    fn drive_hub(&mut self) -> Result<bool, String> {
        let alive = self.hub.drive(|message| {
            self.down.send(self.now_ns, encode(&message.into()), self.faults, &mut self.rng);
        })?;
        if self.hub.poisoned {
            self.restart_hub();
        }
        Ok(alive)
    }

    fn deliver_down(&mut self) -> Result<bool, String> {
        while let Some(bytes) = self.down.receive(self.now_ns) {
            let Some(message) = decode(&bytes) else { return Ok(false) };
            if matches!(&message, Message::Ack(ack) if !ack.settled.all().is_empty()) {
                self.progress_ns = self.now_ns;
            }
            if !self.agent.receive(self.now_ns, message) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), String> {
        let account = self.agent.spool().account();
        if !account.balances() {
            return Err(format!("INV-4: the agent's account does not balance: {account:?}"));
        }
        if account.produced != self.outcome.produced {
            return Err(format!(
                "INV-3: {} readings were accepted, the spool knows {}",
                self.outcome.produced, account.produced
            ));
        }
        let held = self.hub.settled(self.agent.spool().epoch());
        let claimed = &self.agent.spool().settlement().stored;
        for (lo, hi) in claimed.iter() {
            let missing = held.stored.missing(lo, hi);
            if !missing.is_empty() {
                return Err(format!("INV-1: acknowledged as stored, but not in the hub's log: {missing:?}"));
            }
        }
        Ok(())
    }

    fn check_end(mut self) -> Result<Outcome, String> {
        if !self.agent.is_drained() {
            return Err(format!("after quiet the agent still holds {:?}", self.agent.spool().account()));
        }
        // Duplicates are counted in memory, so they are read before the restart forgets them.
        self.outcome.duplicates = self.hub.ledger().2;
        // A last power cut: only what is durable counts.
        self.restart_hub();
        let account = self.agent.spool().account();
        let mut values = self.hub.stored_values()?;
        values.sort_unstable();
        self.outcome.stored = values.len() as u64;
        self.outcome.dropped = account.dropped;
        if let Some(pair) = values.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(format!("INV-2: the reading with value {pair:?} is stored twice"));
        }
        if account.stored != self.outcome.stored || account.stored + account.dropped != self.outcome.produced
        {
            return Err(format!(
                "INV-4: {} readings were produced, {} are stored, and the agent says {account:?}",
                self.outcome.produced, self.outcome.stored
            ));
        }
        let ledger = self.hub.ledger();
        if ledger.0 != account.stored || ledger.1 != account.dropped {
            return Err(format!(
                "INV-4: the hub's ledger says (stored, dropped) {ledger:?}, the agent {account:?}"
            ));
        }
        Ok(self.outcome)
    }
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame().ok().flatten().map(|Frame { message, .. }| message)
}
