//! Stored times against the true ones: what is corrected is right, once and told; what is not, is right
//! within what a clock may be wrong without anybody's saying so, or called uncertain.

use tideline_protocol::clocks::TOLERANCE_NS;

use super::World;
use super::hub::Stored;
use super::readings::Reading;

/// What a correction may be off by: half of the longest round trip that a session outlives, and what
/// clocks drift until the end of a world.
const MEASURED_NS: u64 = 1_000_000_000;

/// What may have been done with a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// This was added to it.
    Shift(i64),
    /// It was left as it was: nobody knows by how much it is wrong.
    Uncertain,
}

impl World {
    pub(super) fn check_times(&self) -> Result<(), String> {
        for stored in self.hub.stored() {
            let Some(reading) = self.readings.of(stored.value) else {
                return Err(format!("INV-2: {stored:?} was never taken"));
            };
            self.check_time(stored, reading)
                .map_err(|what| format!("TIME: {what}: {stored:?}, {reading:?}"))?;
        }
        for agent in 0..self.sites.len() {
            let of = |mark: fn(Mark) -> bool| {
                let own = |stored: &&Stored| {
                    mark(stored.mark) && self.readings.of(stored.value).is_some_and(|r| r.agent == agent)
                };
                self.hub.stored().filter(own).count() as u64
            };
            let marked = (of(|mark| matches!(mark, Mark::Shift(_))), of(|mark| mark == Mark::Uncertain));
            let ledgers = self.hub.ledgers(agent);
            let told = ledgers.iter().fold((0, 0), |sum, l| (sum.0 + l.restamped, sum.1 + l.uncertain));
            if marked != told {
                return Err(format!("TIME: (restamped, uncertain) are {marked:?}, the ledger says {told:?}"));
            }
        }
        Ok(())
    }

    fn check_time(&self, stored: &Stored, reading: &Reading) -> Result<(), &'static str> {
        let shift_ns = if let Mark::Shift(shift_ns) = stored.mark { shift_ns } else { 0 };
        if stored.time_ns != reading.stamped_ns.saturating_add(shift_ns) {
            return Err("it was not corrected as it is told, once");
        }
        let Some(site) = self.sites.get(reading.agent) else { return Ok(()) };
        // A copy of a disk does not know what was learned after it was made, and no clock is better than
        // the hub's.
        if !self.hub_clock_is_right || site.copied || site.damaged {
            return Ok(());
        }
        let error_ns = reading.true_ns.abs_diff(reading.stamped_ns);
        let tolerance_ns = TOLERANCE_NS.unsigned_abs();
        match (site.agent.learned_in(stored.of.1, reading.boot), stored.mark) {
            // The disk failed while it learned.
            (None, _) => Ok(()),
            (Some(false), Mark::Shift(_)) => Err("nobody can know by how much it is wrong"),
            (Some(false), mark) if (mark == Mark::Uncertain) == reading.believed => {
                Err("a clock is uncertain when it was before the time at which its program was built")
            }
            (Some(false), _) => Ok(()),
            (Some(true), Mark::Uncertain) => Err("it could be corrected"),
            (Some(true), Mark::None) if error_ns > tolerance_ns + MEASURED_NS => Err("it is wrong"),
            (Some(true), Mark::None) => Ok(()),
            (Some(true), Mark::Shift(_)) if error_ns < tolerance_ns - MEASURED_NS => Err("it was right"),
            (Some(true), Mark::Shift(_)) if stored.time_ns.abs_diff(reading.true_ns) > MEASURED_NS => {
                Err("it is corrected and wrong")
            }
            (Some(true), Mark::Shift(_)) => Ok(()),
        }
    }
}
