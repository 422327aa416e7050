//! The world of one seed: agents, a hub, the lines between them, and what may go wrong.

mod agent;
mod checks;
mod clocks;
mod faults;
mod hub;
mod made;
mod readings;
mod site;
mod streams;
mod times;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{Decoder, Frame, Message, encode};

use crate::outcome::{Canary, Outcome, Violation};
use clocks::{BEGIN_NS, Clocks};
use faults::Character;
use hub::{Backup, Hub};
use readings::Readings;
use site::Site;

/// Steps with faults; quiet follows.
const STEPS: u64 = 200;
/// Virtual time of a step.
const STEP_NS: u64 = 10_000_000;
/// A session in which nothing settles for so long is given up, as a keep-alive would.
const STALL_NS: u64 = 300_000_000;
/// Quiet steps until everything must have settled.
const QUIET_STEPS: u64 = 8_000;

struct World {
    rng: StdRng,
    now_ns: u64,
    hub: Hub,
    hub_clocks: Clocks,
    hub_slow_until_ns: u64,
    hub_full_until_ns: u64,
    backup: Option<Backup>,
    sites: Vec<Site>,
    character: Character,
    outcome: Outcome,
    readings: Readings,
    // It drifts only. Then every time that is corrected by it can be held against the true one.
    hub_clock_is_right: bool,
}

/// Runs one seed.
///
/// # Errors
/// The invariant that did not hold.
pub fn run(seed: u64, canary: Canary) -> Result<Outcome, Violation> {
    let mut world = World::new(seed, canary);
    for step in 0..STEPS + QUIET_STEPS {
        let done = world.live(step);
        if done.map_err(|what| Violation { seed, step: Some(step), what })? {
            break;
        }
    }
    world.check_end().map_err(|what| Violation { seed, step: None, what })
}

impl World {
    fn new(seed: u64, canary: Canary) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = match rng.random_range(0..10_u32) {
            0..6 => 1,
            6..9 => 2,
            _ => 3,
        };
        let ids: Vec<AgentId> = (0..count)
            .map(|n| AgentId::parse(&format!("sim-{n}")).unwrap_or_else(|_| unreachable!("a valid id")))
            .collect();
        let character = Character::drawn(&mut rng);
        let thinning = character.thinning();
        Self {
            character,
            sites: ids.iter().map(|id| Site::new(id.clone(), canary, thinning, &mut rng)).collect(),
            hub: Hub::new(ids, canary),
            hub_clocks: Clocks::at(BEGIN_NS, &mut rng),
            hub_slow_until_ns: 0,
            hub_full_until_ns: 0,
            backup: None,
            now_ns: 0,
            outcome: Outcome { agents: count, ..Outcome::default() },
            readings: Readings::default(),
            hub_clock_is_right: rng.random_bool(0.7),
            rng,
        }
    }

    /// One step; whether all is said and done.
    fn live(&mut self, step: u64) -> Result<bool, String> {
        let quiet = step >= STEPS;
        if quiet {
            self.heal();
        } else {
            self.disturb()?;
        }
        self.step()?;
        self.check()?;
        Ok(quiet && self.sites.iter().all(|site| site.agent.is_drained()) && !self.others_drain())
    }

    /// In quiet, after one device has drained the other one has its turn.
    fn others_drain(&mut self) -> bool {
        let mut swapped = false;
        for agent in 0..self.sites.len() {
            self.cut_if(agent, |site, outcome| {
                let swaps = site.swap(outcome);
                site.other = None;
                swapped |= swaps;
                swaps
            });
        }
        swapped
    }

    /// Ends the session of an agent at both ends.
    fn cut(&mut self, agent: usize) {
        self.hub.disconnect(agent);
        if let Some(site) = self.sites.get_mut(agent) {
            site.up.cut();
            site.down.cut();
            site.agent.session = None;
        }
    }

    fn cut_all(&mut self) {
        (0..self.sites.len()).for_each(|agent| self.cut(agent));
    }

    /// Cuts the line when the work asks for it.
    fn cut_if(&mut self, agent: usize, work: impl FnOnce(&mut Site, &mut Outcome) -> bool) {
        let Some(site) = self.sites.get_mut(agent) else { return };
        if work(site, &mut self.outcome) {
            self.cut(agent);
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ns += STEP_NS;
        self.hub_clocks.pass(STEP_NS);
        if self.hub.is_poisoned() {
            self.cut_all();
            self.hub.reopen();
        }
        for agent in 0..self.sites.len() {
            if !self.step_site(agent)? {
                self.cut(agent);
            }
        }
        Ok(())
    }

    /// False when the session is over.
    fn step_site(&mut self, agent: usize) -> Result<bool, String> {
        let now_ns = self.now_ns;
        let Some(site) = self.sites.get_mut(agent) else { return Ok(true) };
        site.clocks.pass(STEP_NS);
        if now_ns < site.slow_until_ns {
            return Ok(true);
        }
        site.open(&mut self.rng, &mut self.outcome)?;
        if site.damaged {
            self.hub.damaged.insert(agent);
        }
        let stalls = now_ns - site.progress_ns > STALL_NS && !site.agent.is_drained();
        if site.agent.session.is_some() && stalls {
            return Ok(false);
        }
        if site.agent.session.is_none() {
            site.up.cut();
            site.down.cut();
            site.progress_ns = now_ns;
            if !(self.hub.connect(agent) && site.agent.connect(&site.clocks)?) {
                return Ok(false);
            }
            self.outcome.sessions += 1;
        }
        let up = &mut site.up;
        let alive = site.agent.drive(site.clocks.mono_ns, &mut self.rng, |message, rng| {
            up.send(now_ns, encode(&message.into()), rng);
        })?;
        Ok(alive && self.deliver_up(agent)? && self.drive_hub(agent)? && self.deliver_down(agent)?)
    }

    fn deliver_up(&mut self, agent: usize) -> Result<bool, String> {
        let (now_ns, wall_ns) = (self.now_ns, self.hub_clocks.wall_ns);
        let Some(site) = self.sites.get_mut(agent) else { return Ok(false) };
        while now_ns >= self.hub_slow_until_ns
            && let Some(bytes) = site.up.receive(now_ns)
        {
            let Some(message) = decode(&bytes)? else { return Ok(false) };
            if !self.hub.receive(agent, wall_ns, message) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn drive_hub(&mut self, agent: usize) -> Result<bool, String> {
        let (now_ns, rng) = (self.now_ns, &mut self.rng);
        let Some(site) = self.sites.get_mut(agent) else { return Ok(false) };
        self.hub.drive(agent, self.hub_clocks.wall_ns, |message| {
            site.down.send(now_ns, encode(&message.into()), rng);
        })
    }

    fn deliver_down(&mut self, agent: usize) -> Result<bool, String> {
        let now_ns = self.now_ns;
        let Some(site) = self.sites.get_mut(agent) else { return Ok(false) };
        while let Some(bytes) = site.down.receive(now_ns) {
            let Some(message) = decode(&bytes)? else { return Ok(false) };
            if matches!(&message, Message::Ack(ack) if !ack.settled.all().is_empty()) {
                site.progress_ns = now_ns;
            }
            if !site.agent.receive(&site.clocks, message) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The message, unless it is damaged. What can be read encodes to the same bytes (INV-7).
fn decode(bytes: &[u8]) -> Result<Option<Message>, String> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let Ok(Some(frame)) = decoder.next_frame() else { return Ok(None) };
    if encode(&frame) != bytes {
        return Err(format!("INV-7: a frame of kind {} encodes to other bytes", frame.message.kind()));
    }
    let Frame { message, .. } = frame;
    Ok(Some(message))
}
