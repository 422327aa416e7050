//! Where a rule stands for a series: a core that knows nothing of what is judged.

use minicbor::{Decode, Encode};

use crate::clock::Carry;
use crate::outcome::Change;

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Phase {
    /// It does not hold.
    #[n(0)]
    Clear,
    /// It holds, not yet for long enough.
    #[n(1)]
    Firing(#[n(0)] Since),
    /// It holds, and that was told.
    #[n(2)]
    Fired,
    /// It ended to hold, not yet for long enough.
    #[n(3)]
    Clearing(#[n(0)] Since),
}

/// Since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Since {
    /// By the time of the reading.
    #[n(0)]
    time_ns: i64,
    /// By monotonic time; none where that began anew, until it is asked. Version 1 of the state had wall time as 1.
    #[n(2)]
    mono_ns: Option<i64>,
}

impl Since {
    fn is_over(&mut self, time_ns: i64, mono_ns: i64, length_ns: i64) -> bool {
        let since_ns = *self.mono_ns.get_or_insert(mono_ns);
        let passed = time_ns.saturating_sub(self.time_ns).max(mono_ns.saturating_sub(since_ns));
        passed >= length_ns
    }
}

/// A change that is to be told, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub change: Change,
    pub time_ns: i64,
}

impl Phase {
    /// Whether it was told that it holds, and not that it ended to.
    pub const fn has_fired(self) -> bool {
        matches!(self, Self::Fired | Self::Clearing(_))
    }

    fn since(&mut self) -> Option<&mut Since> {
        match self {
            Self::Firing(since) | Self::Clearing(since) => Some(since),
            Self::Clear | Self::Fired => None,
        }
    }

    /// Times of readings go over to another clock; after a cut they begin with a reading of `time_ns`.
    pub fn carry(&mut self, carry: Carry, time_ns: i64) {
        if let Some(since) = self.since() {
            since.time_ns = carry.moved(since.time_ns).unwrap_or(time_ns);
        }
    }

    /// Monotonic time has begun anew: nobody knows how long the machine was off, and that does not count.
    pub fn begin_boot(&mut self) {
        self.since().into_iter().for_each(|since| since.mono_ns = None);
    }

    /// A reading says whether it holds; `lengths` are how long it must hold to fire, and not hold to clear.
    pub fn judge(&mut self, holds: bool, time_ns: i64, mono_ns: i64, lengths: (i64, i64)) -> Option<Turn> {
        let since = Since { time_ns, mono_ns: Some(mono_ns) };
        match (*self, holds) {
            (Self::Clear, true) => *self = Self::Firing(since),
            (Self::Firing(_), false) => *self = Self::Clear,
            (Self::Fired, false) => *self = Self::Clearing(since),
            (Self::Clearing(_), true) => *self = Self::Fired,
            _ => {}
        }
        self.over(Some(time_ns), mono_ns, lengths)?;
        self.turn(time_ns)
    }

    /// Time has passed without a reading.
    pub fn pass(&mut self, mono_ns: i64, lengths: (i64, i64)) -> Option<Turn> {
        let time_ns = self.over(None, mono_ns, lengths)?;
        self.turn(time_ns)
    }

    /// When it was over that it is otherwise than was told, if it is: by the time of a reading, or of none.
    fn over(&mut self, time_ns: Option<i64>, mono_ns: i64, lengths: (i64, i64)) -> Option<i64> {
        let length_ns = if self.has_fired() { lengths.1 } else { lengths.0 };
        let since = self.since()?;
        let is_over = since.is_over(time_ns.unwrap_or(since.time_ns), mono_ns, length_ns);
        is_over.then(|| since.time_ns.saturating_add(length_ns))
    }

    fn turn(&mut self, time_ns: i64) -> Option<Turn> {
        if self.has_fired() { self.clear(time_ns) } else { self.fire(time_ns) }
    }

    /// It fires, unless it has.
    pub fn fire(&mut self, time_ns: i64) -> Option<Turn> {
        let is_new = !self.has_fired();
        *self = Self::Fired;
        is_new.then_some(Turn { change: Change::Fired, time_ns })
    }

    fn clear(&mut self, time_ns: i64) -> Option<Turn> {
        *self = Self::Clear;
        Some(Turn { change: Change::Cleared, time_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRED: Change = Change::Fired;
    const CLEARED: Change = Change::Cleared;

    #[test]
    fn without_durations_it_turns_with_the_reading() {
        let mut phase = Phase::Clear;
        assert_eq!(phase.judge(false, 1, 1, (0, 0)), None);
        assert_eq!(phase.judge(true, 2, 2, (0, 0)), Some(Turn { change: FIRED, time_ns: 2 }));
        assert_eq!(phase.judge(true, 3, 3, (0, 0)), None);
        assert_eq!(phase.judge(false, 4, 4, (0, 0)), Some(Turn { change: CLEARED, time_ns: 4 }));
    }

    #[test]
    fn it_fires_once_it_held_by_the_readings_or_by_the_clock() {
        let mut phase = Phase::Clear;
        assert_eq!(phase.judge(true, 100, 0, (10, 5)), None);
        assert_eq!(phase.judge(true, 109, 0, (10, 5)), None);
        assert_eq!(phase.judge(true, 110, 0, (10, 5)), Some(Turn { change: FIRED, time_ns: 110 }));
        assert_eq!(phase.judge(false, 111, 1, (10, 5)), None);
        assert_eq!(phase.pass(5, (10, 5)), None);
        assert_eq!(phase.pass(6, (10, 5)), Some(Turn { change: CLEARED, time_ns: 116 }));
        assert_eq!(phase.pass(1000, (10, 5)), None);
    }

    #[test]
    fn neither_a_clock_that_is_set_nor_a_machine_that_is_off_is_time_that_passed() {
        let mut phase = Phase::Clear;
        phase.judge(true, 100, 1_000, (10, 0));
        phase.carry(Carry::Move(5_000), 0);
        assert_eq!(phase.judge(true, 5_109, 1_009, (10, 0)), None);
        phase.begin_boot();
        phase.carry(Carry::Cut, 7);
        assert_eq!(
            (phase.pass(3, (10, 0)), phase.judge(true, 8, 4, (10, 0)), phase.pass(12, (10, 0))),
            (None, None, None)
        );
        assert_eq!(phase.pass(13, (10, 0)), Some(Turn { change: FIRED, time_ns: 17 }));
    }

    #[test]
    fn what_ends_to_hold_too_early_begins_anew() {
        let mut phase = Phase::Clear;
        phase.judge(true, 0, 0, (10, 10));
        phase.judge(false, 9, 9, (10, 10));
        assert_eq!(phase.judge(true, 11, 11, (10, 10)), None);
        assert_eq!(phase.judge(true, 21, 21, (10, 10)).map(|turn| turn.change), Some(FIRED));
        phase.judge(false, 22, 22, (10, 10));
        phase.judge(true, 31, 31, (10, 10));
        assert_eq!(phase, Phase::Fired);
        assert_eq!(phase.judge(false, 33, 33, (10, 10)), None);
    }
}
