//! What must always hold, by name: checked in debug builds and in the simulation, where a breach is a
//! panic, and counted in production, where the process lives on and the count is a metric.
//!
//! A breach is a bug of ours, never a peer's fault: what a peer does wrong is an error with a text.

use std::sync::atomic::{AtomicU64, Ordering};

/// The invariants of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// The hub acknowledges only what is durable.
    AckedIsDurable,
    /// An (agent, epoch, seq) is stored at most once.
    StoredOnce,
    /// The spool frees only what is acknowledged or counted as dropped.
    FreedIsSettled,
    /// produced = stored + pending + dropped + refused, for every (agent, epoch).
    AccountsBalance,
    /// After quiet, twins converge.
    TwinsConverge,
    /// Every queue is within its named limit.
    QueuesBounded,
    /// A decoded envelope encodes to the same bytes.
    FramesCanonical,
    /// Time never goes back for a core.
    TimeForward,
    /// A rollup equals the aggregate of the readings in its window.
    RollupsExact,
    /// No reading is seen by who has no right to its device.
    RightsHold,
}

static BREACHES: [AtomicU64; Invariant::ALL.len()] = [const { AtomicU64::new(0) }; Invariant::ALL.len()];

impl Invariant {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::AckedIsDurable,
        Self::StoredOnce,
        Self::FreedIsSettled,
        Self::AccountsBalance,
        Self::TwinsConverge,
        Self::QueuesBounded,
        Self::FramesCanonical,
        Self::TimeForward,
        Self::RollupsExact,
        Self::RightsHold,
    ];

    /// The name in texts and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckedIsDurable => "INV-1",
            Self::StoredOnce => "INV-2",
            Self::FreedIsSettled => "INV-3",
            Self::AccountsBalance => "INV-4",
            Self::TwinsConverge => "INV-5",
            Self::QueuesBounded => "INV-6",
            Self::FramesCanonical => "INV-7",
            Self::TimeForward => "INV-8",
            Self::RollupsExact => "INV-9",
            Self::RightsHold => "INV-10",
        }
    }

    fn counter(self) -> Option<&'static AtomicU64> {
        BREACHES.get(self as usize)
    }

    /// How often it was found broken since the process started.
    #[must_use]
    pub fn breaches(self) -> u64 {
        self.counter().map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts a breach; use [`crate::check_invariant`].
    ///
    /// # Panics
    /// In builds with debug assertions, always.
    pub fn breached(self, what: &str) {
        if let Some(count) = self.counter() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(debug_assertions)]
        panic!("{}: {what}", self.name());
        #[cfg(not(debug_assertions))]
        let _ = what;
    }
}

/// Checks that an [`invariants::Invariant`](crate::invariants::Invariant) holds: the invariant, the
/// condition, and what is told of a breach, as for `format!`.
#[macro_export]
macro_rules! check_invariant {
    ($invariant:expr, $holds:expr, $($what:tt)+) => {
        if !$holds {
            $crate::invariants::Invariant::breached($invariant, &format!($($what)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_in_order_and_a_breach_is_counted() {
        for (number, invariant) in (1..).zip(Invariant::ALL) {
            assert_eq!(invariant.name(), format!("INV-{number}"));
        }
        let before = Invariant::TwinsConverge.breaches();
        let caught = std::panic::catch_unwind(|| {
            check_invariant!(Invariant::TwinsConverge, 1 + 1 == 3, "{} is not three", 2);
        });
        assert!(caught.is_err());
        assert_eq!(Invariant::TwinsConverge.breaches(), before + 1);
        check_invariant!(Invariant::TwinsConverge, true, "never told");
        assert_eq!(Invariant::TwinsConverge.breaches(), before + 1);
    }
}
