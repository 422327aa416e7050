//! The one place for time: what a clock is, and the only reads of the system's clocks.
//!
//! Cores never hold a [`Clock`]; they take `now` as an argument. Drivers hold one, so that a test
//! can put a clock of its own in its place.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;

/// A source of wall time and of time since some fixed moment of this boot.
pub trait Clock: Send + Sync {
    /// Wall time in nanoseconds since 1970-01-01 UTC. It may jump either way.
    fn wall_ns(&self) -> i64;
    /// Monotonic nanoseconds since an arbitrary start. It never goes back (INV-8).
    fn mono_ns(&self) -> u64;
    /// Whether the wall time may be right: a clock that knows that it is not says so.
    fn is_believed(&self) -> bool {
        true
    }
}

/// The clocks of the machine; the monotonic one begins with the first of them that the program makes,
/// and is the same for all.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place for time")]
    fn default() -> Self {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Self { start: *START.get_or_init(std::time::Instant::now) }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place for time")]
    fn wall_ns(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        }
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to; for tests and the simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    mono: AtomicU64,
}

impl ManualClock {
    /// A clock at this wall time, with its monotonic part at zero.
    #[must_use]
    pub fn at(wall_ns: i64) -> Self {
        Self { wall: AtomicI64::new(wall_ns), mono: AtomicU64::new(0) }
    }

    /// Moves both parts on.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.mono.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ns(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono.load(Ordering::SeqCst)
    }
}
