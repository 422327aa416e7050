//! Trusted time: what an agent knows of its own clock, and how wrong the times are that it gave.
//!
//! A reading is stamped with the wall clock, and its batch remembers by how much that clock was ahead
//! of the monotonic one: (boot, monotonic time) of each reading is its time less that [`Stamp::offset_ns`].
//! Each round trip with the hub says what the offset should have been in this boot. So a device that
//! wakes in 1970 can say later when its readings were taken. The batches stay as they are; what is to
//! be added to their times travels beside them ([`crate::wire::Restamp`]).
//!
//! A boot is a start of the machine: within it the monotonic clock goes on at its own pace. Where both
//! clocks of a device run slow or fast together, that is not corrected, only shown as an offset.

use minicbor::{Decode, Encode};

/// Times that are wrong by no more than this are left as they are: a link's delay and a clock that is
/// set once a day are within it.
pub const TOLERANCE_NS: i64 = 5_000_000_000;
/// Most boots that are remembered; of more the oldest are forgotten.
pub const BOOTS_MAX: usize = 256;
/// Most measurements of one boot; of more every second one is forgotten.
pub const POINTS_MAX: usize = 32;
/// A measurement that says the same as the one before it within this is not kept.
const SAME_NS: i64 = 100_000_000;

/// The clock that stamped the readings of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The number of the boot, see [`Boots::begin`].
    pub boot: u32,
    /// Wall clock less monotonic clock, ns.
    pub offset_ns: i64,
    /// The clock was not before the floor: without a better word it is believed.
    pub believed: bool,
}

/// What is to be done with the times of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// They are right, or nothing says otherwise.
    None,
    /// Add this, ns.
    Shift(i64),
    /// They are wrong, nobody knows by how much.
    Uncertain,
}

/// What the offset should have been at a moment of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Point {
    #[n(0)]
    mono_ns: u64,
    #[n(1)]
    offset_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Boot {
    #[n(0)]
    number: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    id: [u8; 16],
    // In order of time.
    #[n(2)]
    points: Vec<Point>,
}

/// The boots that batches may still speak of, and the time that it is at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Boots {
    // The newest last.
    #[n(0)]
    boots: Vec<Boot>,
    #[n(1)]
    floor_ns: i64,
}

impl Boots {
    /// The number of the boot with this id, which is the running one from now on.
    pub fn begin(&mut self, id: [u8; 16]) -> u32 {
        if let Some(boot) = self.boots.iter().find(|boot| boot.id == id) {
            return boot.number;
        }
        let number = self.boots.last().map_or(1, |boot| boot.number.saturating_add(1));
        self.boots.push(Boot { number, id, points: Vec::new() });
        if self.boots.len() > BOOTS_MAX {
            self.boots.remove(0);
        }
        number
    }

    /// The number of the boot with this id; none when it is not remembered.
    #[must_use]
    pub fn number(&self, id: [u8; 16]) -> Option<u32> {
        self.boots.iter().find(|boot| boot.id == id).map(|boot| boot.number)
    }

    /// The id of a boot.
    #[must_use]
    pub fn id(&self, number: u32) -> Option<[u8; 16]> {
        self.find(number).map(|boot| boot.id)
    }

    /// Whether anything was measured in this boot.
    #[must_use]
    pub fn is_known(&self, number: u32) -> bool {
        self.find(number).is_some_and(|boot| !boot.points.is_empty())
    }

    /// The latest time that a hub has told, ns since 1970: it is not earlier than that.
    #[must_use]
    pub const fn floor_ns(&self) -> i64 {
        self.floor_ns
    }

    fn find(&self, number: u32) -> Option<&Boot> {
        self.boots.iter().find(|boot| boot.number == number)
    }

    /// At `mono_ns` of the boot the wall clock should have been `offset_ns` ahead of the monotonic one.
    /// False when that was known.
    pub fn learn(&mut self, number: u32, mono_ns: u64, offset_ns: i64) -> bool {
        let now_ns = offset_ns.saturating_add_unsigned(mono_ns);
        let Some(boot) = self.boots.iter_mut().find(|boot| boot.number == number) else { return false };
        let same = |point: &Point| point.offset_ns.abs_diff(offset_ns) <= SAME_NS.unsigned_abs();
        if boot.points.last().is_some_and(same) {
            return false;
        }
        // A clock never goes back (INV-8); a measurement that says so is of a restarted program.
        boot.points.retain(|point| point.mono_ns < mono_ns);
        boot.points.push(Point { mono_ns, offset_ns });
        if boot.points.len() > POINTS_MAX {
            let mut at = 0;
            let newest = boot.points.len() - 1;
            boot.points.retain(|_| {
                at += 1;
                at % 2 == 1 || at > newest
            });
        }
        self.floor_ns = self.floor_ns.max(now_ns);
        true
    }

    /// What is to be done with readings that were stamped at `mono_ns` of the boot.
    #[must_use]
    pub fn correct(&self, stamp: Stamp) -> Correction {
        let unknown = if stamp.believed { Correction::None } else { Correction::Uncertain };
        let Some(boot) = self.find(stamp.boot) else { return unknown };
        let near = |point: &Point| point.offset_ns.abs_diff(stamp.offset_ns) <= TOLERANCE_NS.unsigned_abs();
        // The clock was as right as this at some time of the boot, so nobody had set it wrong.
        if boot.points.iter().any(near) {
            return Correction::None;
        }
        let Some(point) = boot.points.first() else { return unknown };
        // A clock that was set to the other end of time is wrong by more than there are numbers for.
        point.offset_ns.checked_sub(stamp.offset_ns).map_or(Correction::Uncertain, Correction::Shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const NOW: i64 = 1_763_000_000 * S;

    fn stamp(boot: u32, offset_ns: i64) -> Stamp {
        Stamp { boot, offset_ns, believed: offset_ns > NOW / 2 }
    }

    #[test]
    fn a_boot_in_1970_is_corrected_once_the_time_is_known() {
        let mut boots = Boots::default();
        let boot = boots.begin([1; 16]);
        assert_eq!(boots.correct(stamp(boot, 0)), Correction::Uncertain);
        assert!(boots.learn(boot, 60 * S as u64, NOW));
        assert_eq!(boots.correct(stamp(boot, 0)), Correction::Shift(NOW));
        assert_eq!(boots.floor_ns(), NOW + 60 * S);
        // After the clock was set it needs no correction any more, before and after a restart.
        assert_eq!(boots.correct(stamp(boot, NOW + S)), Correction::None);
        assert_eq!(boots.begin([1; 16]), boot);
    }

    #[test]
    fn a_boot_that_never_met_a_hub_is_believed_only_when_its_clock_was_plausible() {
        let mut boots = Boots::default();
        let (first, second) = (boots.begin([1; 16]), boots.begin([2; 16]));
        boots.learn(second, 5, NOW);
        assert_eq!(boots.correct(stamp(first, 0)), Correction::Uncertain);
        assert_eq!(boots.correct(stamp(first, NOW - 9 * S)), Correction::None);
        assert_eq!(boots.correct(stamp(77, 0)), Correction::Uncertain);
    }

    #[test]
    fn jumps_are_corrected_both_ways_and_a_sleeping_machine_is_none() {
        let mut boots = Boots::default();
        let boot = boots.begin([1; 16]);
        boots.learn(boot, 10, NOW);
        assert_eq!(boots.correct(stamp(boot, NOW + 3600 * S)), Correction::Shift(-3600 * S));
        assert_eq!(boots.correct(stamp(boot, NOW - 3600 * S)), Correction::Shift(3600 * S));
        // The monotonic clock stood still for an hour; both offsets were right in their time.
        boots.learn(boot, 20, NOW + 3600 * S);
        assert_eq!(boots.correct(stamp(boot, NOW)), Correction::None);
        assert_eq!(boots.correct(stamp(boot, NOW + 3600 * S)), Correction::None);
    }

    #[test]
    fn clocks_that_were_set_to_what_no_clock_should_say_break_nothing() {
        for (offset_ns, told_ns, correction) in [
            (i64::MIN, i64::MAX, Correction::Uncertain),
            (i64::MAX, i64::MIN, Correction::Uncertain),
            (0, i64::MIN, Correction::Shift(i64::MIN)),
            (i64::MAX, NOW, Correction::Shift(NOW - i64::MAX)),
        ] {
            let mut boots = Boots::default();
            let boot = boots.begin([1; 16]);
            boots.learn(boot, u64::MAX, told_ns);
            boots.learn(boot, 0, told_ns);
            assert_eq!(boots.correct(stamp(boot, offset_ns)), correction);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_read_back() {
        let mut boots = Boots::default();
        for id in 0..=u8::MAX {
            let boot = boots.begin([id; 16]);
            for hour in 1..100 {
                boots.learn(boot, hour, NOW + hour.cast_signed() * S);
            }
            assert_eq!(boots.correct(stamp(boot, NOW + 99 * S)), Correction::None, "the newest stays");
        }
        boots.begin([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(boots.boots.len(), BOOTS_MAX);
        assert!(boots.boots.iter().all(|boot| boot.points.len() <= POINTS_MAX));
        let bytes = minicbor::to_vec(&boots).unwrap();
        assert_eq!(minicbor::decode::<Boots>(&bytes).unwrap(), boots);
    }
}
