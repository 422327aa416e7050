//! What the sealed files hold of each series, as the manifest has it: 40 bytes each.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_protocol::value::Boxed;

use crate::hot::{Reading, SeriesId, SeriesStats};

/// Of one series. Without readings its times and its word mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Packed {
    count: u64,
    first_ns: i64,
    last_ns: i64,
    word: f64,
    late: u64,
}

/// Of all series by number; of one beyond its end nothing is sealed.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    packed: Vec<Packed>,
    // What the last words stand for, of the few that are texts and the like.
    boxed: HashMap<SeriesId, Arc<Boxed>>,
}

impl Stats {
    /// What is known of a series.
    #[must_use]
    pub fn series(&self, id: SeriesId) -> SeriesStats {
        let Some(Packed { count, first_ns, last_ns, word, late }) = self.packed.get(id as usize).copied()
        else {
            return SeriesStats::default();
        };
        if count == 0 {
            return SeriesStats { late, ..SeriesStats::default() };
        }
        let boxed = if word.is_nan() { self.boxed.get(&id).map(Arc::clone) } else { None };
        let last = Some(Reading { time_ns: last_ns, word, boxed });
        SeriesStats { count, first_ns: Some(first_ns), last, late }
    }

    /// The latest time of a series.
    #[must_use]
    pub fn last_ns(&self, id: SeriesId) -> Option<i64> {
        self.packed.get(id as usize).filter(|packed| packed.count > 0).map(|packed| packed.last_ns)
    }

    /// Replaces what is known of a series.
    pub fn put(&mut self, id: SeriesId, stats: &SeriesStats) {
        let at = id as usize;
        if at >= self.packed.len() {
            self.packed.resize(at + 1, Packed::default());
        }
        let SeriesStats { count, first_ns, ref last, late } = *stats;
        let (last_ns, word) = last.as_ref().map_or((0, 0.0), |last| (last.time_ns, last.word));
        if let Some(packed) = self.packed.get_mut(at) {
            *packed = Packed { count, first_ns: first_ns.unwrap_or(last_ns), last_ns, word, late };
        }
        match last.as_ref().and_then(|last| last.boxed.as_ref()) {
            Some(boxed) => drop(self.boxed.insert(id, Arc::clone(boxed))),
            None if self.boxed.is_empty() => {}
            None => drop(self.boxed.remove(&id)),
        }
    }

    /// Adds what arrived later.
    pub fn merge(&mut self, id: SeriesId, later: &SeriesStats) {
        let mut stats = self.series(id);
        stats.merge(later);
        self.put(id, &stats);
    }

    /// What was counted again, of so many series. How many of all that ever came were late stays as it is: what is lost or
    /// given up does not change it.
    #[must_use]
    pub fn recounted(&self, mut counted: Self, series: usize) -> Self {
        counted.packed.resize(series.max(self.packed.len()), Packed::default());
        for (new, old) in counted.packed.iter_mut().zip(&self.packed) {
            new.late = old.late;
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use tideline_protocol::value::{Boxes, Quality, Value};

    use super::*;

    #[test]
    fn what_is_put_comes_back_and_what_is_not_there_is_nothing() {
        let mut boxes = Boxes::new();
        let text = boxes.word(Value::Text("on".into()), Quality::Good);
        // A text's word is a NaN, which equals nothing.
        let shown = |stats: &SeriesStats| format!("{stats:?}");
        let of = |count, word| SeriesStats {
            count,
            first_ns: Some(-3),
            last: Some(Reading::new(9, word, &boxes)),
            late: 2,
        };
        let mut stats = Stats::default();
        stats.put(3, &of(4, text));
        stats.put(1, &of(2, 1.5));
        stats.put(2, &SeriesStats { late: 7, ..SeriesStats::default() });
        assert_eq!((shown(&stats.series(3)), stats.series(1)), (shown(&of(4, text)), of(2, 1.5)));
        assert_eq!((stats.series(2).late, stats.series(2).last), (7, None));
        assert_eq!([0, 1, 2, 9].map(|id| stats.last_ns(id)), [None, Some(9), None, None]);
        // A number in the place of a text leaves none behind.
        stats.put(3, &of(1, 2.5));
        stats.merge(3, &of(5, 3.5));
        assert_eq!(stats.series(3), SeriesStats { late: 4, ..of(6, 3.5) });
        assert_eq!(stats.series(8), SeriesStats::default());
        let mut counted = Stats::default();
        counted.put(3, &SeriesStats { late: 0, ..of(1, text) });
        let counted = stats.recounted(counted, 5);
        assert_eq!(shown(&counted.series(3)), shown(&SeriesStats { late: 4, ..of(1, text) }));
        assert_eq!(counted.series(2).late, 7);
    }
}
