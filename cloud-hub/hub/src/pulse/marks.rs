//! Whether a device was heard of, a bit for each of the newest slots.

/// Slots that fit.
const SLOTS_MAX: u32 = u64::BITS;

/// A device's slots as text, the newest last, a sign for each: `.` nobody looked, `o` it was heard of, `g` so it was, and
/// its agent was away for a part, `a` its agent was away, `s` its agent was there and nothing came from it, `x` readings
/// of that time were given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beats {
    /// By minute.
    pub minutes: String,
    /// By hour.
    pub hours: String,
}

/// What was seen in the newest slots; the lowest bit is that of the newest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    slot: i64,
    looked: u64,
    heard: u64,
    away: u64,
}

impl Marks {
    /// Notes what is seen in a slot, which is the newest.
    pub fn mark(&mut self, slot: i64, is_heard: bool, is_away: bool) {
        if slot < self.slot {
            // A clock that was set back: what was noted by it is of no time that anybody knows.
            *self = Self::default();
        }
        let moved = u32::try_from(slot.saturating_sub(self.slot)).unwrap_or(u32::MAX);
        for bits in [&mut self.looked, &mut self.heard, &mut self.away] {
            *bits = bits.checked_shl(moved).unwrap_or(0);
        }
        self.slot = slot;
        self.looked |= 1;
        self.heard |= u64::from(is_heard);
        self.away |= u64::from(is_away);
    }

    /// The slots until `now`, `count` of them, with those in which readings were given up.
    #[must_use]
    pub fn text(&self, now: i64, count: usize, dropped: u64) -> String {
        let count = u32::try_from(count).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let sign = |ago: u32| {
            let noted = i64::from(ago).saturating_sub(now.saturating_sub(self.slot));
            let bit = u32::try_from(noted).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0);
            let is = |bits: u64| bits & bit != 0;
            match ((dropped >> ago) & 1 == 1, is(self.looked), is(self.heard), is(self.away)) {
                (true, ..) => 'x',
                (_, false, ..) => '.',
                (_, _, true, true) => 'g',
                (_, _, true, false) => 'o',
                (_, _, false, true) => 'a',
                (_, _, false, false) => 's',
            }
        };
        (0..count).rev().map(sign).collect()
    }
}

/// The bits of the slots between two moments, Unix ms.
pub(super) fn between(now_ms: i64, from_ms: i64, to_ms: i64, width_ms: i64) -> u64 {
    let slot = |ms: i64| ms.div_euclid(width_ms);
    let ago = |ms: i64| slot(now_ms).saturating_sub(slot(ms));
    let Ok(oldest) = u32::try_from(ago(from_ms.min(to_ms))) else { return 0 };
    // What is ahead of the clock is of now.
    let newest = u32::try_from(ago(to_ms).max(0)).unwrap_or(u32::MAX);
    let upto = |ago: u32| u64::MAX.checked_shr(SLOTS_MAX.saturating_sub(ago.saturating_add(1))).unwrap_or(0);
    let before = newest.checked_sub(1).map_or(0, upto);
    if newest >= SLOTS_MAX { 0 } else { upto(oldest.min(SLOTS_MAX - 1)) & !before }
}
