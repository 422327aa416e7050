//! The world of one seed: both ends, the line between them, and what may go wrong.

mod agent;
mod hub;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{Decoder, Frame, Message, encode};

use crate::network::{Faults, Line};
use crate::outcome::{Canary, Outcome, Violation};
use agent::{Agent, Image};
use hub::Hub;

/// Steps with faults; quiet follows.
const STEPS: u64 = 250;
/// Virtual time of a step.
const STEP_NS: u64 = 10_000_000;
/// A session in which nothing settles for so long is given up, as a keep-alive would.
const STALL_NS: u64 = 300_000_000;
/// Quiet steps until everything must have settled.
const QUIET_STEPS: u64 = 4_000;

struct World {
    rng: StdRng,
    now_ns: u64,
    // The wall clocks of both ends.
    agent_wall_ns: i64,
    hub_wall_ns: i64,
    agent: Agent,
    hub: Hub,
    up: Line,
    down: Line,
    faults: Faults,
    outcome: Outcome,
    progress_ns: u64,
    // Every reading has a value of its own, so that a copy or a loss can be told.
    next_value: u64,
    // What an operator does in a third of the seeds: an image of the disk; a second device with a copy
    // of the disk; the values that went with a disk that was put aside.
    meddles: bool,
    image: Option<Image>,
    other: Option<Agent>,
    gone: RangeSet,
}

/// Runs one seed.
///
/// # Errors
/// The invariant that did not hold.
pub fn run(seed: u64, canary: Canary) -> Result<Outcome, Violation> {
    let mut world = World::new(seed, canary);
    for step in 0..STEPS + 2 * QUIET_STEPS {
        let quiet = step >= STEPS;
        if quiet {
            world.faults = Faults::default();
        } else {
            world.disturb().map_err(|what| Violation { seed, step: Some(step), what })?;
        }
        world.step().and_then(|()| world.check()).map_err(|what| Violation {
            seed,
            step: Some(step),
            what,
        })?;
        if quiet && world.agent.is_drained() && !world.other_drains() {
            break;
        }
    }
    world.check_end().map_err(|what| Violation { seed, step: None, what })
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
            agent: Agent::new(id.clone(), rng.random(), quota, canary),
            meddles: rng.random_bool(0.33),
            hub: Hub::new(id, canary),
            rng,
            now_ns: 0,
            agent_wall_ns: 0,
            hub_wall_ns: 1_763_719_200_000_000_000,
            up: Line::default(),
            down: Line::default(),
            faults,
            outcome: Outcome::default(),
            progress_ns: 0,
            next_value: 0,
            image: None,
            other: None,
            gone: RangeSet::new(),
        }
    }

    /// Draws what goes wrong, or right, in this step.
    fn disturb(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100_u32) {
            0..60 => {
                let rows = self.rng.random_range(1..6);
                let wall_ns = self.agent_wall_ns;
                self.outcome.produced +=
                    self.agent.produce(&mut self.rng, wall_ns, &mut self.next_value, rows);
            }
            60..63 => self.cut(),
            63 => self.hub.disk.fail_next_sync(),
            64..66 => {
                self.cut();
                self.agent.restart(&mut self.rng);
                self.outcome.restarts += 1;
            }
            66..69 => self.restart_hub()?,
            69..81 => self.hub.flush_step()?,
            81 => self.hub.disk.fail_next_remove(),
            82..84 => self.jump(),
            84..88 if self.meddles => self.meddle(),
            _ => {}
        }
        if self.hub.poisoned { self.restart_hub() } else { Ok(()) }
    }

    /// A wall clock is set: a little, by a lot, to 1970, or to what no clock should say.
    fn jump(&mut self) {
        let to = match self.rng.random_range(0..5_u32) {
            0 => self.hub_wall_ns.saturating_add(self.rng.random_range(-10_000_000_000..10_000_000_000)),
            1 => self.rng.random(),
            2 => 0,
            3 => i64::MIN,
            _ => i64::MAX,
        };
        let clock = if self.rng.random_bool(0.5) { &mut self.agent_wall_ns } else { &mut self.hub_wall_ns };
        *clock = to;
        self.outcome.clock_jumps += 1;
    }

    /// What operators do to disks: take an image, put one back, clone a device.
    fn meddle(&mut self) {
        match (self.rng.random_range(0..4_u32), &self.image, &self.other) {
            (0, _, _) => self.image = Some(self.agent.image()),
            (1, Some(image), _) => {
                let mut gone = self.agent.values.clone();
                gone.remove_set(&image.values);
                self.gone.insert_set(&gone);
                self.agent.put_back(image, self.rng.random());
                self.outcome.put_back += 1;
                self.cut();
            }
            (2, _, None) => self.other = Some(self.agent.copy(self.rng.random())),
            (3, _, Some(_)) => self.swap(),
            _ => {}
        }
    }

    fn swap(&mut self) {
        self.cut();
        if let Some(other) = &mut self.other {
            std::mem::swap(&mut self.agent, other);
            self.outcome.swaps += 1;
        }
    }

    /// In quiet, after one device has drained the other one has its turn.
    fn other_drains(&mut self) -> bool {
        if self.other.is_none() {
            return false;
        }
        self.swap();
        self.other = None;
        true
    }

    fn restart_hub(&mut self) -> Result<(), String> {
        self.cut();
        self.hub.disk.crash(&mut self.rng);
        self.outcome.restarts += 1;
        self.hub.restart()
    }

    fn cut(&mut self) {
        self.up.cut();
        self.down.cut();
        self.agent.session = None;
        self.hub.session = None;
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ns += STEP_NS;
        for clock in [&mut self.agent_wall_ns, &mut self.hub_wall_ns] {
            *clock = clock.saturating_add_unsigned(STEP_NS);
        }
        if self.agent.session.is_some()
            && self.now_ns - self.progress_ns > STALL_NS
            && !self.agent.is_drained()
        {
            self.cut();
        }
        if self.agent.session.is_none() {
            self.agent.connect(self.now_ns, self.agent_wall_ns);
            self.hub.connect();
            self.progress_ns = self.now_ns;
            self.outcome.sessions += 1;
        }
        let alive = self.agent.drive(self.now_ns, &mut self.rng, |message, rng| {
            self.up.send(self.now_ns, encode(&message.into()), self.faults, rng);
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
            if !self.hub.receive(self.hub_wall_ns, message) {
                return false;
            }
        }
        true
    }

    fn drive_hub(&mut self) -> Result<bool, String> {
        let alive = self.hub.drive(self.hub_wall_ns, |message| {
            self.down.send(self.now_ns, encode(&message.into()), self.faults, &mut self.rng);
        })?;
        if self.hub.poisoned {
            self.restart_hub()?;
        }
        Ok(alive)
    }

    fn deliver_down(&mut self) -> Result<bool, String> {
        while let Some(bytes) = self.down.receive(self.now_ns) {
            let Some(message) = decode(&bytes) else { return Ok(false) };
            if matches!(&message, Message::Ack(ack) if !ack.settled.all().is_empty()) {
                self.progress_ns = self.now_ns;
            }
            if !self.agent.receive(self.now_ns, self.agent_wall_ns, message) {
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
        // A copy knows its own part only.
        if !self.meddled() && account.produced != self.outcome.produced {
            return Err(format!(
                "INV-3: {} readings were accepted, the spool knows {}",
                self.outcome.produced, account.produced
            ));
        }
        let held = self.hub.settled(self.agent.spool().epoch());
        // What is before a branch belongs to another epoch.
        let begins = self.agent.spool().lives().first().map_or(1, |life| life.first.get());
        let claimed = self.agent.spool().settlement().stored.within(begins, u64::MAX);
        for (lo, hi) in claimed.iter() {
            let missing = held.stored.missing(lo, hi);
            if !missing.is_empty() {
                return Err(format!("INV-1: acknowledged as stored, but not in the hub's log: {missing:?}"));
            }
        }
        self.hub.check()
    }

    fn check_end(mut self) -> Result<Outcome, String> {
        if !self.agent.is_drained() {
            return Err(format!("after quiet the agent still holds {:?}", self.agent.spool().account()));
        }
        // Duplicates are counted in memory, so they are read before the restart forgets them.
        self.outcome.duplicates = self.hub.ledger().2;
        // A last power cut: only what is durable counts.
        self.restart_hub()?;
        self.check()?;
        let account = self.agent.spool().account();
        let mut values = self.hub.stored_values();
        self.outcome.sealed = self.hub.sealed();
        values.sort_unstable();
        self.outcome.stored = values.len() as u64;
        self.outcome.dropped = account.dropped;
        if let Some(pair) = values.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(format!("INV-2: the reading with value {pair:?} is stored twice"));
        }
        if self.meddled() {
            return self.check_values(&values);
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

impl World {
    fn meddled(&self) -> bool {
        self.outcome.put_back + self.outcome.swaps > 0
    }

    /// With several copies of a spool no single account tells the whole; the values do.
    fn check_values(self, values: &[u64]) -> Result<Outcome, String> {
        let stored: BTreeSet<u64> = values.iter().copied().collect();
        let value = |n: u64| (n as f64).to_bits();
        let missing =
            (1..=self.next_value).filter(|n| !stored.contains(&value(*n)) && !self.gone.contains(*n));
        let (missing, dropped) = (missing.count() as u64, self.hub.ledger().1);
        if missing > dropped {
            return Err(format!("INV-3: {missing} readings are missing, {dropped} were dropped and counted"));
        }
        Ok(self.outcome)
    }
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame().ok().flatten().map(|Frame { message, .. }| message)
}
