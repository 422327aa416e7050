//! Series of which one reading of a time counts: the newest to arrive.
//!
//! What a sensor says twice at one time are two readings. What a stream job gives again of a window is the same result, put
//! right, and what it takes back is a null of its time. So each series that an agent of such a kind ever had in a dictionary
//! is *revised*: who reads it sees the newest of each time alone, and nothing is made of its rollups as long as its readings
//! are there, since a file's rollup does not know what later files have of its times.
//!
//! Files hold all that came, of these series too: the ledger counts every reading, a batch is refilled as it was, and a merge
//! changes nothing of what is known. Which series are revised follows from the dictionaries, and so holds for what was stored
//! before there was this rule as well; the manifest keeps it, since an entry of a dictionary may become another.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use tideline_protocol::model::AgentId;

use crate::hot::{Rows, SeriesId};

/// The series that are revised.
#[derive(Debug, Default)]
pub struct Revised {
    // How the ids of the agents begin that revise; none do without it.
    by: Option<String>,
    // A store without any asks no further.
    any: AtomicBool,
    ids: RwLock<HashSet<SeriesId>>,
}

impl Revised {
    /// Those that are known to be, and from now on those of agents whose ids begin so.
    #[must_use]
    pub fn by(by: Option<String>, known: HashSet<SeriesId>) -> Self {
        Self { by, any: AtomicBool::new(!known.is_empty()), ids: RwLock::new(known) }
    }

    /// Whether the series of an agent are.
    #[must_use]
    pub fn is_by(&self, agent: &AgentId) -> bool {
        self.by.as_deref().is_some_and(|by| agent.as_str().starts_with(by))
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Whether a series is.
    #[must_use]
    pub fn has(&self, id: SeriesId) -> bool {
        self.any.load(Ordering::Acquire)
            && self.ids.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// These are, from now on; gives those that were not before.
    pub fn add(&self, ids: &[SeriesId]) -> Vec<SeriesId> {
        let mut known = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        let added = ids.iter().copied().filter(|id| known.insert(*id)).collect();
        self.any.store(!known.is_empty(), Ordering::Release);
        added
    }
}

/// The newest of each time, of rows that are sorted by time and, among equal times, by arrival. Of those before `from` it is known
/// that each has a time of its own.
pub fn keep_newest(rows: &mut Rows, from: usize) {
    let from = from.saturating_sub(1);
    let Rows { times, values, .. } = rows;
    let fresh = times.get(from..).unwrap_or(&[]);
    if fresh.is_sorted_by(|a, b| a < b) {
        return;
    }
    let last: Vec<bool> = fresh.chunk_by(|a, b| a == b).flat_map(lasts).collect();
    retain(times, from, &last);
    retain(values, from, &last);
}

/// Of equal times the last.
fn lasts(run: &[i64]) -> impl Iterator<Item = bool> + use<> {
    let len = run.len();
    (1..=len).map(move |at| at == len)
}

/// Leaves the items before `from` and those behind it that are to be kept.
fn retain<T>(items: &mut Vec<T>, from: usize, kept: &[bool]) {
    let mut kept = std::iter::repeat_n(&true, from).chain(kept);
    items.retain(|_| kept.next().is_none_or(|kept| *kept));
}

#[cfg(test)]
mod tests {
    use tideline_protocol::value::Boxes;

    use super::*;

    #[test]
    fn series_of_agents_that_revise_are_revised() {
        let agent = |text: &str| AgentId::parse(text).unwrap();
        let revised = Revised::by(Some("_job.".to_owned()), HashSet::new());
        assert!(revised.is_by(&agent("_job.means")) && !revised.is_by(&agent("gate")));
        assert!(!Revised::default().is_by(&agent("gate")));
        assert!(!revised.has(3));
        assert_eq!((revised.add(&[3, 5]), revised.add(&[5, 7])), (vec![3, 5], vec![7]));
        assert!(revised.has(3) && revised.has(5) && !revised.has(4));
        assert!(Revised::by(None, HashSet::from([4])).has(4));
    }

    #[test]
    fn of_equal_times_the_last_stays() {
        for (times, expected) in [
            (vec![], vec![]),
            (vec![1], vec![0.0]),
            (vec![1, 2, 3], vec![0.0, 1.0, 2.0]),
            (vec![1, 1, 2, 3, 3, 3], vec![1.0, 2.0, 5.0]),
        ] {
            let values = (0..times.len()).map(|at| at as f64).collect();
            let mut rows = Rows { times, values, boxes: Boxes::new() };
            keep_newest(&mut rows, 0);
            assert_eq!(rows.values, expected);
            assert!(rows.times.is_sorted_by(|a, b| a < b) && rows.times.len() == expected.len());
            let known = rows.times.len();
            if let Some(last) = rows.times.last().copied() {
                rows.times.extend([last, last + 1, last + 1]);
                rows.values.extend([10.0, 11.0, 12.0]);
                keep_newest(&mut rows, known);
                assert_eq!(rows.values, [&expected[..known - 1], &[10.0, 12.0]].concat());
                assert_eq!(rows.times.len(), known + 1);
            }
        }
    }
}
