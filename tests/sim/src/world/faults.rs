//! What goes wrong, or right, in a step.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::World;
use super::streams::Thinning;

/// Longest that a disk is slow or full, or a line parted: some sessions outlive it.
const SPELL_NS_MAX: u64 = 500_000_000;

/// What operators do in this world, beside what disks, lines and clocks do in every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    /// Nothing.
    Plain,
    /// They put disks of agents back to older images, and clone devices.
    Copies,
    /// They wipe spools.
    Wipes,
    /// They put the hub back to an older backup, and its disk damages what was durable.
    Harm,
    /// They do nothing, and disks of agents damage what was durable.
    Damage,
}

impl Character {
    pub fn drawn(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10_u32) {
            0..2 => Self::Copies,
            2..4 => Self::Wipes,
            4..6 => Self::Harm,
            6 => Self::Damage,
            _ => Self::Plain,
        }
    }

    /// Whether policies may make batches of others here.
    pub const fn thinning(self) -> Thinning {
        match self {
            Self::Copies | Self::Damage => Thinning::No,
            Self::Plain | Self::Wipes | Self::Harm => Thinning::Allowed,
        }
    }
}

impl World {
    /// Every agent reads on, and one thing happens.
    pub(super) fn disturb(&mut self) -> Result<(), String> {
        self.end_spells();
        for (agent, site) in self.sites.iter_mut().enumerate() {
            if self.rng.random_bool(0.6) && self.now_ns >= site.slow_until_ns {
                let rows = self.rng.random_range(1..6);
                let (clocks, readings) = ((&site.clocks, self.now_ns), (&mut self.readings, agent));
                site.agent.produce(&mut self.rng, clocks, readings, rows)?;
            }
        }
        let agent = self.rng.random_range(0..self.sites.len());
        match self.rng.random_range(0..200_u32) {
            0..15 => self.cut(agent),
            15..25 => self.restart_agent(agent),
            25..32 => self.restart_hub()?,
            32..62 => self.hub.flush_step()?,
            62..66 => self.hub.disk.fail_next_sync(),
            66..70 => self.hub.disk.fail_next_remove(),
            70..80 => self.jump(agent),
            80..86 => self.begin_spell(agent),
            86..94 => self.meddle(agent)?,
            94..104 => self.grow_older(agent)?,
            _ => {}
        }
        Ok(())
    }

    fn grow_older(&mut self, agent: usize) -> Result<(), String> {
        match self.sites.get_mut(agent) {
            Some(site) if self.now_ns >= site.slow_until_ns => site.agent.grow_older(),
            _ => Ok(()),
        }
    }

    fn restart_agent(&mut self, agent: usize) {
        let rng = &mut self.rng;
        if let Some(site) = self.sites.get_mut(agent) {
            site.restart(rng);
            site.fails_until_ns = 0;
        }
        self.cut(agent);
        self.outcome.restarts += 1;
    }

    fn restart_hub(&mut self) -> Result<(), String> {
        self.cut_all();
        self.outcome.restarts += 1;
        self.hub.restart(&mut self.rng)
    }

    fn jump(&mut self, agent: usize) {
        let clocks = match self.sites.get_mut(agent) {
            Some(site) if self.hub_clock_is_right || self.rng.random_bool(0.5) => &mut site.clocks,
            _ => &mut self.hub_clocks,
        };
        clocks.jump(&mut self.rng);
        self.outcome.clock_jumps += 1;
    }

    /// Something is bad for a while: a disk, or a line.
    fn begin_spell(&mut self, agent: usize) {
        let until_ns = self.now_ns + self.rng.random_range(0..SPELL_NS_MAX);
        let kind = self.rng.random_range(0..7_u32);
        if kind == 6 {
            self.outcome.partitions += 1;
            for site in &mut self.sites {
                (site.up.parted_until_ns, site.down.parted_until_ns) = (until_ns, until_ns);
            }
            return;
        }
        let Some(site) = self.sites.get_mut(agent) else { return };
        match kind {
            0 => self.hub_slow_until_ns = until_ns,
            1 => {
                self.hub.disk.fill(true);
                self.hub_full_until_ns = until_ns;
                self.outcome.full += 1;
            }
            2 => site.slow_until_ns = until_ns,
            // Of several copies only the one at work is mended.
            3 if site.other.is_none() => {
                if self.rng.random_bool(0.5) {
                    site.agent.fail_disk(&mut self.rng);
                } else {
                    site.agent.fill_disk();
                }
                site.fails_until_ns = until_ns;
                self.outcome.full += 1;
            }
            _ => {
                // One way in two cases, and the other one goes on.
                let both = self.rng.random_bool(0.5);
                if both || kind == 4 {
                    site.up.parted_until_ns = until_ns;
                }
                if both || kind != 4 {
                    site.down.parted_until_ns = until_ns;
                }
                self.outcome.partitions += 1;
            }
        }
    }

    fn end_spells(&mut self) {
        if self.now_ns >= self.hub_full_until_ns {
            self.hub.disk.fill(false);
        }
        for agent in 0..self.sites.len() {
            let now_ns = self.now_ns;
            self.cut_if(agent, |site, _| {
                let mends = site.fails_until_ns > 0 && now_ns >= site.fails_until_ns;
                if mends {
                    site.fails_until_ns = 0;
                    site.agent.mend_disk();
                }
                mends
            });
        }
    }

    /// Nothing is wrong any more.
    pub(super) fn heal(&mut self) {
        self.hub.disk.fill(false);
        self.hub_slow_until_ns = 0;
        self.sites.iter_mut().for_each(super::Site::heal);
    }

    fn meddle(&mut self, agent: usize) -> Result<(), String> {
        match self.character {
            Character::Plain => {}
            Character::Copies => {
                let Some(site) = self.sites.get_mut(agent) else { return Ok(()) };
                if site.copy(&mut self.rng, &mut self.outcome) {
                    self.cut(agent);
                }
            }
            Character::Damage => {
                let Some(site) = self.sites.get_mut(agent) else { return Ok(()) };
                site.agent.flip(&mut self.rng);
                self.outcome.flips += 1;
                self.restart_agent(agent);
            }
            Character::Wipes => self.cut_if(agent, |site, outcome| {
                site.wipe();
                outcome.wipes += 1;
                true
            }),
            Character::Harm => match (self.rng.random_range(0..4_u32), &self.backup) {
                (0..2, _) => self.backup = Some(self.hub.backup()),
                (2, Some(backup)) => {
                    self.outcome.restores += 1;
                    self.hub.restore(backup)?;
                    self.cut_all();
                }
                (3, _) => {
                    self.outcome.flips += 1;
                    self.cut_all();
                    self.hub.restart_damaged(&mut self.rng)?;
                }
                _ => {}
            },
        }
        Ok(())
    }
}
