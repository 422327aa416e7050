//! The time that pipelines go by.

use std::sync::Arc;

use tideline_protocol::time::Clock;

/// A clock that never goes back (INV-8). When the wall clock is set back, it goes on from where it was at the pace of the
/// monotonic one: timers of rules stay right, and a start of the agent brings both together again.
pub struct Onward {
    clock: Arc<dyn Clock>,
    last: Option<(i64, u64)>,
}

impl Onward {
    pub fn of(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: None }
    }

    /// In ns since 1970.
    pub fn now_ns(&mut self) -> i64 {
        let (wall_ns, mono_ns) = (self.clock.wall_ns(), self.clock.mono_ns());
        let onward =
            self.last.map(|(now_ns, at_ns)| now_ns.saturating_add_unsigned(mono_ns.saturating_sub(at_ns)));
        let now_ns = onward.map_or(wall_ns, |onward| onward.max(wall_ns));
        self.last = Some((now_ns, mono_ns));
        now_ns
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

    use super::*;

    #[derive(Debug, Default)]
    struct Hands(AtomicI64, AtomicU64);

    impl Clock for Hands {
        fn wall_ns(&self) -> i64 {
            self.0.load(Relaxed)
        }

        fn mono_ns(&self) -> u64 {
            self.1.load(Relaxed)
        }
    }

    #[test]
    fn it_follows_the_wall_clock_forth_and_goes_on_when_that_is_set_back() {
        let hands = Arc::new(Hands::default());
        let mut onward = Onward::of(hands.clone());
        let mut at = |wall_ns, mono_ns| {
            hands.0.store(wall_ns, Relaxed);
            hands.1.store(mono_ns, Relaxed);
            onward.now_ns()
        };
        assert_eq!((at(100, 0), at(110, 10), at(1_000, 20)), (100, 110, 1_000));
        assert_eq!((at(500, 30), at(510, 40), at(2_000, 50)), (1_010, 1_020, 2_000));
    }
}
