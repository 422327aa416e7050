//! Clocks: what time it is in a call, which clock gave a reading its time, and what becomes of the times that a stage keeps
//! when a reading by a clock that was set anew comes.
//!
//! ```text
//! time of a reading = monotonic time of that start of the machine + offset        (what a Setting is)
//!
//! kept by        comes by                                  what is kept
//! one setting    the same start, offset within STEP_NS     stays
//! one setting    the same start, another offset            moves by the difference, which is exact
//! one setting    another start, both believed, not before  stays: the machine's clock went on meanwhile
//! one setting    another start otherwise                   is cut off: nobody knows how far apart they are
//! any            the source's own clock, or the reverse    stays: the agent knows nothing of that clock
//! ```
//! A stage whose times cannot move, as windows lie where they lie, cuts off in place of moving.
//!
//! How long something lasts is told by monotonic time alone, so that a clock that is set is no time that passed.

use minicbor::{Decode, Encode};
use tideline_protocol::clocks::TOLERANCE_NS;

use crate::limits::CLOCK_SET_NS;

/// Clocks of one start of the machine that differ by no more are the same one. The hub leaves times alone that are wrong by
/// no more, and windows wait as long for disordered readings unless they are told otherwise.
pub const STEP_NS: i64 = TOLERANCE_NS;

/// How a clock of the machine is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Setting {
    /// The id of the start of the machine.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub boot: [u8; 16],
    /// Wall time less monotonic time, in ns.
    #[n(1)]
    pub offset_ns: i64,
    /// Whether the wall time may be right.
    #[n(2)]
    pub believed: bool,
}

/// The time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Now {
    /// How the clock is set.
    #[n(0)]
    pub setting: Setting,
    /// Monotonic time since some moment of this start of the machine, in ns; it never goes back (INV-8).
    #[n(1)]
    pub mono_ns: i64,
}

/// A clock that is never set: both times are one.
impl From<i64> for Now {
    fn from(wall_ns: i64) -> Self {
        Self { setting: Setting { boot: [0; 16], offset_ns: 0, believed: true }, mono_ns: wall_ns }
    }
}

impl Now {
    /// Wall time in ns since 1970.
    #[must_use]
    pub const fn wall_ns(self) -> i64 {
        self.setting.offset_ns.saturating_add(self.mono_ns)
    }

    /// What the clock that gave a reading its time would show now; of a source's own, and of another start of the machine,
    /// nobody knows better than by the wall clock.
    #[must_use]
    pub fn by(self, clock: Option<Setting>) -> i64 {
        let same = clock.filter(|clock| clock.boot == self.setting.boot);
        same.map_or(self.wall_ns(), |clock| clock.offset_ns.saturating_add(self.mono_ns))
    }

    /// Whether a time is so far ahead of the clock that it cannot be. Of a clock that was never set nothing is ahead.
    #[must_use]
    pub fn is_ahead(self, time_ns: i64, clock: Option<Setting>, ahead_max_ns: i64) -> bool {
        let is_set = self.setting.believed && self.wall_ns() >= CLOCK_SET_NS;
        is_set && time_ns > self.by(clock).max(self.wall_ns()).saturating_add(ahead_max_ns)
    }
}

/// What becomes of kept times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    /// They stay as they are.
    Stay,
    /// So much is added to each.
    Move(i64),
    /// They say nothing of what comes.
    Cut,
}

impl Carry {
    /// Of times that one clock gave, the newest of them `newest_ns`, when a reading of `time_ns` by another comes.
    pub fn of(kept: Option<Setting>, newest_ns: i64, comes: Option<Setting>, time_ns: i64) -> Self {
        let (Some(kept), Some(comes)) = (kept, comes) else { return Self::Stay };
        if kept.boot == comes.boot {
            let by = comes.offset_ns.saturating_sub(kept.offset_ns);
            return if by.saturating_abs() <= STEP_NS { Self::Stay } else { Self::Move(by) };
        }
        let went_on = time_ns >= newest_ns.saturating_sub(STEP_NS);
        if kept.believed && comes.believed && went_on { Self::Stay } else { Self::Cut }
    }

    /// A time after it; none where it is cut off.
    pub const fn moved(self, time_ns: i64) -> Option<i64> {
        match self {
            Self::Stay => Some(time_ns),
            Self::Move(by) => Some(time_ns.saturating_add(by)),
            Self::Cut => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn setting(boot: u8, offset_ns: i64, believed: bool) -> Option<Setting> {
        Some(Setting { boot: [boot; 16], offset_ns, believed })
    }

    #[test]
    fn times_of_one_start_move_by_what_the_clock_was_set() {
        let of = |from, to| Carry::of(setting(1, from, true), 0, setting(1, to, false), 0);
        assert_eq!((of(0, STEP_NS), of(STEP_NS, 0)), (Carry::Stay, Carry::Stay));
        assert_eq!((of(0, 9 * S), of(9 * S, 0)), (Carry::Move(9 * S), Carry::Move(-9 * S)));
        assert_eq!(of(i64::MIN, i64::MAX), Carry::Move(i64::MAX));
    }

    #[test]
    fn times_of_another_start_stay_when_the_clock_went_on_and_are_cut_off_otherwise() {
        let of = |one, other, time_ns| Carry::of(setting(1, 7, one), 100 * S, setting(2, 0, other), time_ns);
        assert_eq!((of(true, true, 101 * S), of(true, true, 95 * S)), (Carry::Stay, Carry::Stay));
        assert_eq!(of(true, true, 94 * S), Carry::Cut);
        assert_eq!((of(false, true, 101 * S), of(true, false, 101 * S)), (Carry::Cut, Carry::Cut));
        assert_eq!(Carry::of(None, 0, setting(1, 0, true), 5), Carry::Stay);
    }

    #[test]
    fn nothing_is_ahead_of_a_clock_that_was_never_set() {
        let now = |offset_ns, believed| Now {
            setting: Setting { boot: [1; 16], offset_ns, believed },
            mono_ns: 10 * S,
        };
        let is_ahead = |now: Now| now.is_ahead(i64::MAX - 1, None, 3_600 * S);
        assert!(!is_ahead(now(0, true)) && !is_ahead(now(CLOCK_SET_NS, false)));
        assert!(is_ahead(now(CLOCK_SET_NS, true)));
        // A clock that was ahead until a moment ago gave it its time.
        let (right, before) = (now(CLOCK_SET_NS, true), setting(1, CLOCK_SET_NS + 7_200 * S, true));
        let time_ns = CLOCK_SET_NS + 7_200 * S;
        assert!(right.is_ahead(time_ns, None, 3_600 * S) && !right.is_ahead(time_ns, before, 3_600 * S));
    }
}
