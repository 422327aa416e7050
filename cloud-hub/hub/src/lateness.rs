//! Which ranges of a device came late, since this hub was started.
//!
//! The store tells what came when the same point had a reading of a later minute: a backlog after an outage mostly. Times of
//! points that lie close together, and came close together, are one range. A device has so many; beyond that the two whose
//! times lie closest become one, so that none is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tideline_protocol::model::DeviceId;
use tideline_store::Late;

use crate::when;

/// Most ranges of a device.
const RANGES_MAX: usize = 16;
/// Times closer than this are one range.
const NEAR_MS: i64 = 60_000;
/// And what came within this.
const CAME_NEAR_MS: i64 = 600_000;

/// Readings that came when newer ones of the same points were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateSpan {
    /// The earliest of their times, Unix ms.
    pub from_ms: i64,
    /// The latest of their times, Unix ms.
    pub to_ms: i64,
    /// How many.
    pub rows: u64,
    /// How long after its time the latest of them came.
    pub delay_ms: i64,
    /// When the first of them came, Unix ms.
    pub came_from_ms: i64,
    /// When the last of them came, Unix ms.
    pub came_to_ms: i64,
}

impl LateSpan {
    fn touches(&self, other: &Self) -> bool {
        let near = |a: (i64, i64), b: (i64, i64), ms: i64| {
            a.0 <= b.1.saturating_add(ms) && b.0 <= a.1.saturating_add(ms)
        };
        near((self.from_ms, self.to_ms), (other.from_ms, other.to_ms), NEAR_MS)
            && near(
                (self.came_from_ms, self.came_to_ms),
                (other.came_from_ms, other.came_to_ms),
                CAME_NEAR_MS,
            )
    }

    fn joined(self, other: Self) -> Self {
        Self {
            from_ms: self.from_ms.min(other.from_ms),
            to_ms: self.to_ms.max(other.to_ms),
            rows: self.rows.saturating_add(other.rows),
            delay_ms: self.delay_ms.max(other.delay_ms),
            came_from_ms: self.came_from_ms.min(other.came_from_ms),
            came_to_ms: self.came_to_ms.max(other.came_to_ms),
        }
    }
}

/// What came late of every device.
#[derive(Debug, Default)]
pub struct Lateness {
    devices: Mutex<HashMap<DeviceId, Vec<LateSpan>>>,
}

impl Lateness {
    /// Readings of a point of this device came late, at `now_ms`.
    pub fn note(&self, device: &DeviceId, late: Late, now_ms: i64) {
        let (from_ms, to_ms) = (when::ms(late.from_ns), when::ms(late.to_ns));
        let delay_ms = now_ms.saturating_sub(from_ms).max(0);
        let mut span =
            LateSpan { from_ms, to_ms, rows: late.rows, delay_ms, came_from_ms: now_ms, came_to_ms: now_ms };
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = devices.entry(device.clone()).or_default();
        while let Some(at) = spans.iter().position(|one| one.touches(&span)) {
            span = span.joined(spans.swap_remove(at));
        }
        spans.push(span);
        if spans.len() > RANGES_MAX {
            join_closest(spans);
        }
    }

    /// What came late of a device's times between these two, in order of time.
    #[must_use]
    pub fn within(&self, device: &str, from_ms: i64, to_ms: i64) -> Vec<LateSpan> {
        let Ok(device) = DeviceId::parse(device) else { return Vec::new() };
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = devices.get(&device).into_iter().flatten();
        let mut found: Vec<LateSpan> =
            spans.filter(|span| span.from_ms <= to_ms && span.to_ms >= from_ms).copied().collect();
        found.sort_by_key(|span| (span.from_ms, span.to_ms));
        found
    }
}

/// Makes one of the two spans with the least time between them.
fn join_closest(spans: &mut Vec<LateSpan>) {
    spans.sort_by_key(|span| span.from_ms);
    let between = spans.windows(2).map(|pair| match pair {
        [a, b] => b.from_ms.saturating_sub(a.to_ms),
        _ => i64::MAX,
    });
    let Some((at, _)) = between.enumerate().min_by_key(|(_, ms)| *ms) else { return };
    let next = spans.remove(at + 1);
    if let Some(span) = spans.get_mut(at) {
        *span = span.joined(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(from_s: i64, to_s: i64, rows: u64) -> Late {
        Late { rows, from_ns: from_s * 1_000_000_000, to_ns: to_s * 1_000_000_000 }
    }

    #[test]
    fn a_backlog_is_one_range_however_many_batches_it_came_in() {
        let (lateness, device) = (Lateness::default(), DeviceId::parse("d").unwrap());
        // The newest first, of two points, with one batch out of its turn.
        for (at, from_s) in [(0, 300), (1, 100), (2, 200), (3, 200)] {
            lateness.note(&device, late(from_s, from_s + 99, 10), 7_300_000 + at);
        }
        let all = LateSpan {
            from_ms: 100_000,
            to_ms: 399_000,
            rows: 40,
            delay_ms: 7_200_001,
            came_from_ms: 7_300_000,
            came_to_ms: 7_300_003,
        };
        assert_eq!(lateness.within("d", 0, i64::MAX), [all]);
        assert_eq!(lateness.within("d", 399_000, i64::MAX), [all]);
        assert_eq!(lateness.within("d", 0, 99_999), []);
        assert_eq!(lateness.within("e", 0, i64::MAX), []);
        // What comes for the same time much later is told by itself.
        lateness.note(&device, late(150, 150, 1), 9_000_000);
        let rows = |spans: &[LateSpan]| spans.iter().map(|span| span.rows).collect::<Vec<_>>();
        assert_eq!(rows(&lateness.within("d", 0, i64::MAX)), [40, 1]);
    }

    #[test]
    fn ranges_beyond_the_most_become_one_with_their_nearest_and_no_reading_is_forgotten() {
        let (lateness, device) = (Lateness::default(), DeviceId::parse("d").unwrap());
        for hour in 0..100 {
            lateness.note(&device, late(hour * 3600, hour * 3600 + 1, 2), 400_000_000);
        }
        let spans = lateness.within("d", 0, i64::MAX);
        assert_eq!((spans.len(), spans.iter().map(|span| span.rows).sum::<u64>()), (RANGES_MAX, 200));
        assert!(spans.is_sorted_by(|a, b| a.to_ms < b.from_ms));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_delay_below_none() {
        let (lateness, device) = (Lateness::default(), DeviceId::parse("d").unwrap());
        lateness.note(&device, late(100, 100, 1), 5);
        lateness.note(&device, Late { rows: 1, from_ns: i64::MIN, to_ns: i64::MIN }, i64::MAX);
        let delays: Vec<i64> =
            lateness.within("d", i64::MIN, i64::MAX).iter().map(|span| span.delay_ms).collect();
        assert_eq!(delays, [i64::MAX, 0]);
    }
}
