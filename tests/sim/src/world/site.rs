//! A device in the field: its agent, its clocks, its line to the hub, and what an operator did to it.

use rand::RngExt as _;
use rand::rngs::StdRng;
use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::BackfillBudget;

use super::agent::{Agent, Image};
use super::clocks::{BEGIN_NS, Clocks};
use super::made::Made;
use super::streams::{self, Thinning};
use crate::network::{Faults, Line};
use crate::outcome::{Canary, Outcome};

/// A spool that an operator wiped.
pub struct Wiped {
    pub epoch: Epoch,
    pub made: Made,
    /// What its agent took for stored, and for given up.
    pub stored: RangeSet,
    pub dropped: RangeSet,
    /// Up to where some of what it gave up may stand among what it took for stored.
    pub known: Seq,
}

pub struct Site {
    pub agent: Agent,
    pub clocks: Clocks,
    pub up: Line,
    pub down: Line,
    /// When something last settled; true time.
    pub progress_ns: u64,
    /// Until then it does nothing: its disk is slow.
    pub slow_until_ns: u64,
    pub fails_until_ns: u64,
    /// Whether there are, or were, several copies of its spool.
    pub copied: bool,
    /// Whether bits of its disk have flipped.
    pub damaged: bool,
    image: Option<Image>,
    pub other: Option<Agent>,
    /// Values that any copy of its disk was given, up to the last change.
    pub accepted: RangeSet,
    /// Values that went with a disk that was put aside.
    pub gone: RangeSet,
    pub wiped: Vec<Wiped>,
}

/// A third of the spools is so small that they must drop.
fn quota(rng: &mut StdRng) -> u64 {
    if rng.random_bool(0.33) { rng.random_range(800..6_000) } else { 1 << 30 }
}

impl Site {
    pub fn new(id: AgentId, canary: Canary, thinning: Thinning, rng: &mut StdRng) -> Self {
        let wall_ns = if rng.random_bool(0.5) { 0 } else { BEGIN_NS };
        let mut agent = Agent::new(id, rng.random(), quota(rng), canary);
        if rng.random_bool(0.25) {
            agent.backfill =
                BackfillBudget { bytes_per_s: 20_000, share_percent: rng.random_range(10..=100) };
        }
        agent.streams = streams::drawn(thinning, rng);
        agent.journal_bytes = rng.random_range(512..32_768);
        Self {
            agent,
            clocks: Clocks::at(wall_ns, rng),
            up: Line::new(Faults::drawn(rng)),
            down: Line::new(Faults::drawn(rng)),
            progress_ns: 0,
            slow_until_ns: 0,
            fails_until_ns: 0,
            copied: false,
            damaged: false,
            image: None,
            other: None,
            accepted: RangeSet::new(),
            gone: RangeSet::new(),
            wiped: Vec::new(),
        }
    }

    /// Ends the agent's process, and with it the session.
    pub fn restart(&mut self, rng: &mut StdRng) {
        if self.agent.stop(rng) {
            self.clocks.start(rng);
        }
        // Who starts it may have changed the quota.
        if rng.random_bool(0.2) {
            self.agent.quota = quota(rng);
        }
    }

    /// An operator puts an empty disk in, or the agent puts files aside that hold no spool.
    pub fn wipe(&mut self) {
        let epoch = self.agent.epoch.take();
        let (made, spool) = self.agent.wipe();
        let told = spool.map(|spool| (spool.settlement().clone(), spool.known()));
        let (settled, known) = told.unwrap_or_default();
        let Some(epoch) = epoch else { return };
        self.wiped.push(Wiped { epoch, made, stored: settled.stored, dropped: settled.dropped, known });
    }

    /// A start of the agent's spool, when one is due.
    pub fn open(&mut self, rng: &mut StdRng, outcome: &mut Outcome) -> Result<(), String> {
        if self.agent.corrupt {
            outcome.quarantined += 1;
            self.wipe();
        }
        self.agent.open(rng.random(), self.clocks.boot)?;
        self.damaged |= self.agent.damaged;
        let cut = std::mem::take(&mut self.agent.cut);
        // Their seqs are given out again, as by an older copy of the disk.
        self.copied |= !cut.is_empty();
        self.gone.insert_set(&cut);
        Ok(())
    }

    /// What operators do to disks: take an image, put one back, clone a device. Whether the line is cut.
    pub fn copy(&mut self, rng: &mut StdRng, outcome: &mut Outcome) -> bool {
        if self.fails_until_ns > 0 {
            return false;
        }
        self.accepted.insert_set(&self.agent.made.values);
        match (rng.random_range(0..4_u32), &self.image, &self.other) {
            (0, _, _) => self.image = Some(self.agent.image()),
            (1, Some(image), _) => {
                let mut gone = self.agent.made.values.clone();
                gone.remove_set(&image.made.values);
                self.gone.insert_set(&gone);
                self.agent.put_back(image);
                self.copied = true;
                outcome.put_back += 1;
                return true;
            }
            (2, _, None) => self.other = Some(self.agent.copy()),
            (3, _, Some(_)) => return self.swap(outcome),
            _ => {}
        }
        false
    }

    /// The other device has its turn.
    pub fn swap(&mut self, outcome: &mut Outcome) -> bool {
        let Some(other) = &mut self.other else { return false };
        self.accepted.insert_set(&self.agent.made.values);
        std::mem::swap(&mut self.agent, other);
        self.agent.session = None;
        other.session = None;
        self.copied = true;
        outcome.swaps += 1;
        true
    }

    /// All that was wrong with it is right again.
    pub fn heal(&mut self) {
        self.up.heal();
        self.down.heal();
        self.slow_until_ns = 0;
        if std::mem::take(&mut self.fails_until_ns) > 0 {
            self.agent.mend_disk();
        }
    }
}
