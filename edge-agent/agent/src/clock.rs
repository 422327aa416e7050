//! The agent's clocks: the machine's, but never before this program was built, and monotonic time that
//! goes on over restarts of the agent as long as the machine runs.

use std::path::Path;
use std::sync::OnceLock;

use tideline_pipeline::Setting;
use tideline_protocol::time::{Clock, SystemClock};

use crate::floor::BUILD_S;

const NS_PER_S: i64 = 1_000_000_000;

/// How far the wall clock is ahead of the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// In ns.
    pub offset_ns: i64,
    /// Whether the wall clock could be right: it is not before the floor.
    pub believed: bool,
    /// The id of an earlier start of the machine; none for the running one.
    pub earlier: Option<[u8; 16]>,
}

/// A start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's id of it; a random one where there is none.
    pub id: [u8; 16],
    /// How long it lasted when this program's monotonic clock began, ns.
    base_ns: u64,
}

/// The running start of the machine.
pub fn boot() -> Boot {
    static BOOT: OnceLock<Boot> = OnceLock::new();
    *BOOT.get_or_init(|| Boot::read(Path::new("/proc")).unwrap_or_else(Boot::unknown))
}

impl Boot {
    fn read(proc: &Path) -> Option<Self> {
        let id = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id")).ok()?;
        let id = u128::from_str_radix(&id.trim().replace('-', ""), 16).ok()?.to_be_bytes();
        let uptime = std::fs::read_to_string(proc.join("uptime")).ok()?;
        let (seconds, parts) = uptime.split_whitespace().next()?.split_once('.')?;
        // In hundredths.
        let ns = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
        let ns = ns.checked_add(parts.parse::<u64>().ok()?.checked_mul(10_000_000)?)?;
        Some(Self { id, base_ns: ns.saturating_sub(SystemClock::default().mono_ns()) })
    }

    /// Each start of this program is a start of the machine then.
    fn unknown() -> Self {
        let mut id = [0; 16];
        // Without entropy all such starts are one, and their readings are corrected alike.
        let _ = getrandom::fill(&mut id);
        Self { id, base_ns: 0 }
    }
}

/// The clocks that everything in the agent uses.
#[derive(Debug, Clone, Copy)]
pub struct AgentClock {
    system: SystemClock,
    base_ns: u64,
    floor_ns: i64,
    // By how much a test makes it wrong.
    skew_ns: i64,
}

impl Default for AgentClock {
    fn default() -> Self {
        let floor_ns = BUILD_S.saturating_mul(NS_PER_S);
        Self { system: SystemClock::default(), base_ns: boot().base_ns, floor_ns, skew_ns: 0 }
    }
}

impl AgentClock {
    /// A wall clock that is wrong by so much, for tests.
    #[must_use]
    pub const fn skewed(mut self, skew_ns: i64) -> Self {
        self.skew_ns = skew_ns;
        self
    }

    fn raw_ns(&self) -> i64 {
        self.system.wall_ns().saturating_add(self.skew_ns)
    }
}

impl Ahead {
    /// How far this clock is ahead now.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        let offset_ns = clock.wall_ns().saturating_sub_unsigned(clock.mono_ns());
        Self { offset_ns, believed: clock.is_believed(), earlier: None }
    }

    /// As pipelines know it, `running` being the start of the machine.
    #[must_use]
    pub fn setting(self, running: [u8; 16]) -> Setting {
        let Self { offset_ns, believed, earlier } = self;
        Setting { boot: earlier.unwrap_or(running), offset_ns, believed }
    }

    /// The reverse of [`Self::setting`].
    #[must_use]
    pub fn from_setting(setting: Setting, running: [u8; 16]) -> Self {
        let Setting { boot, offset_ns, believed } = setting;
        Self { offset_ns, believed, earlier: (boot != running).then_some(boot) }
    }
}

impl Clock for AgentClock {
    fn wall_ns(&self) -> i64 {
        let raw_ns = self.raw_ns();
        if raw_ns >= self.floor_ns { raw_ns } else { self.floor_ns.saturating_add_unsigned(self.mono_ns()) }
    }

    fn mono_ns(&self) -> u64 {
        self.base_ns.saturating_add(self.system.mono_ns())
    }

    fn is_believed(&self) -> bool {
        self.raw_ns() >= self.floor_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_what_the_kernel_says() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(Boot::read(proc.path()), None);
        std::fs::create_dir_all(proc.path().join("sys/kernel/random")).unwrap();
        let id = "0c2f1f1e-7d3b-4f5a-9d76-9f6f0d6f4a11\n";
        std::fs::write(proc.path().join("sys/kernel/random/boot_id"), id).unwrap();
        std::fs::write(proc.path().join("uptime"), "7200.25 1.00\n").unwrap();
        let boot = Boot::read(proc.path()).unwrap();
        assert_eq!(boot.id.first(), Some(&0x0c));
        assert!(boot.base_ns <= 7_200_250_000_000);
        std::fs::write(proc.path().join("uptime"), "soon\n").unwrap();
        assert_eq!(Boot::read(proc.path()), None);
    }

    #[test]
    fn a_clock_in_1970_starts_at_the_build_and_is_not_believed() {
        let right = AgentClock::default();
        assert!(right.is_believed());
        let wrong = right.skewed(-right.wall_ns());
        let ahead = Ahead::of(&wrong);
        assert!(!ahead.believed);
        // The two clocks are read one after the other.
        assert!((ahead.offset_ns - BUILD_S * NS_PER_S).abs() < NS_PER_S, "{ahead:?}");
        assert!(wrong.wall_ns() >= BUILD_S * NS_PER_S);
    }
}
