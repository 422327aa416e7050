//! The clocks of one machine, neither of which is right.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// When the worlds begin: a clock that is right says so.
pub const BEGIN_NS: i64 = 1_763_719_200_000_000_000;
/// When the agent's program was built: it believes no clock that is before this.
const BUILD_NS: i64 = BEGIN_NS - 86_400_000_000_000;
/// Parts per million that a bad quartz is off, either way.
const DRIFT_PPM_MAX: i64 = 500;

/// A start of a machine.
pub type BootId = [u8; 16];

/// A wall clock that drifts and may be set, and a monotonic one that begins at each boot.
#[derive(Debug, Clone)]
pub struct Clocks {
    /// Wall time.
    pub wall_ns: i64,
    /// Time since the boot.
    pub mono_ns: u64,
    /// The start of the machine.
    pub boot: BootId,
    drift_ppm: i64,
}

impl Clocks {
    /// Clocks at `wall_ns`.
    pub fn at(wall_ns: i64, rng: &mut StdRng) -> Self {
        let drift_ppm = rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX);
        Self { wall_ns, mono_ns: 0, boot: rng.random(), drift_ppm }
    }

    /// True time moves on.
    pub fn pass(&mut self, ns: u64) {
        let off = i64::try_from(ns).unwrap_or(i64::MAX) / 1_000_000 * self.drift_ppm;
        let ns = ns.saturating_add_signed(off);
        self.wall_ns = self.wall_ns.saturating_add_unsigned(ns);
        self.mono_ns = self.mono_ns.saturating_add(ns);
    }

    /// The time that the agent's program shows: as in the field it is never before its build.
    pub fn shown_ns(&self) -> i64 {
        if self.is_believed() { self.wall_ns } else { BUILD_NS.saturating_add_unsigned(self.mono_ns) }
    }

    /// Whether the wall clock could be right, for all that the device knows.
    pub const fn is_believed(&self) -> bool {
        self.wall_ns >= BUILD_NS
    }

    /// The machine boots.
    pub fn start(&mut self, rng: &mut StdRng) {
        (self.mono_ns, self.boot) = (0, rng.random());
    }

    /// The wall clock is set: a little off, to 1970, or to what no clock should say.
    pub fn jump(&mut self, rng: &mut StdRng) {
        self.wall_ns = match rng.random_range(0..6_u32) {
            0 => BEGIN_NS.saturating_add(rng.random_range(-10_000_000_000..10_000_000_000)),
            1 => self.wall_ns.saturating_add(rng.random_range(-3_600_000_000_000..3_600_000_000_000)),
            2 => rng.random(),
            3 => 0,
            4 => i64::MIN,
            _ => i64::MAX,
        };
    }
}
