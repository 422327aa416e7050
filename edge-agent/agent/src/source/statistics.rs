//! What is counted of a source, over all attempts at it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tideline_protocol::time::NS_PER_MS;

use crate::status::{Board, DeviceStatus, JitterStatus};

/// Poll starts whose lateness is remembered: some minutes of one that polls each second.
const WINDOW: usize = 512;

/// What was heard of a device since that was noted last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Values that came of it.
    pub readings: u64,
    /// Those of them that are ruled out.
    pub bad_values: u64,
    /// What else was wrong, but for time-outs.
    pub failures: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// Whether it is known to have fallen silent, after all values that came.
    pub is_silent: bool,
}

/// Counters of one source, shown on the board.
#[derive(Debug, Clone)]
pub struct Statistics {
    name: Arc<str>,
    board: Board,
    late_us: Arc<Mutex<VecDeque<u64>>>,
}

impl Statistics {
    /// Of the source of that name.
    #[must_use]
    pub fn new(name: &str, board: Board) -> Self {
        Self { name: name.into(), board, late_us: Arc::default() }
    }

    /// A poll has begun this late.
    pub fn poll_began(&self, late: Duration) {
        let jitter = {
            let mut window = self.late_us.lock().unwrap_or_else(PoisonError::into_inner);
            if window.len() == WINDOW {
                window.pop_front();
            }
            window.push_back(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
            jitter(&window)
        };
        self.board.known_source(&self.name, |source| {
            source.polls += 1;
            source.jitter = Some(jitter);
        });
    }

    /// A poll took so long.
    pub fn poll_ended(&self, took: Duration) {
        self.board.known_source(&self.name, |source| source.last_poll_ms = Some(ms(took)));
    }

    /// Something did not answer in time.
    pub fn timed_out(&self, error: &str) {
        tracing::debug!(source = &*self.name, error, "time-out");
        self.board.known_source(&self.name, |source| {
            source.timeouts += 1;
            source.last_error = Some(error.to_owned());
        });
    }

    /// Something failed that the source itself tries again.
    pub fn failed(&self, error: &str) {
        tracing::debug!(source = &*self.name, error, "failed");
        self.board.known_source(&self.name, |source| {
            source.failures += 1;
            source.last_error = Some(error.to_owned());
        });
    }

    /// Changes what is shown of a device behind it.
    pub fn device(&self, id: &str, change: impl FnOnce(&mut DeviceStatus)) {
        self.board.known_source(&self.name, |source| {
            if let Some(device) = source.device(id) {
                change(device);
            }
        });
    }

    /// Notes what was heard of devices up to now.
    pub fn heard(&self, now_ns: i64, all: BTreeMap<DeviceId, Heard>) {
        if all.is_empty() {
            return;
        }
        self.board.known_source(&self.name, |source| {
            for (id, heard) in all {
                match source.device(id.as_str()) {
                    Some(device) => note(device, heard, now_ns.div_euclid(NS_PER_MS)),
                    None => source.readings_of_others += heard.readings,
                }
            }
        });
    }

    /// It gives readings.
    pub fn spoke(&self) {
        self.board.known_source(&self.name, |source| source.spoke = true);
    }

    /// Readings say what was said before, and are not sent.
    pub fn unchanged(&self, readings: u64) {
        if readings > 0 {
            self.board.known_source(&self.name, |source| source.unchanged += readings);
        }
    }

    /// Readings or lines are not taken.
    pub fn rejected(&self, readings: u64, error: &str) {
        self.board.rejected(&self.name, readings, error);
    }
}

fn note(device: &mut DeviceStatus, heard: Heard, now_ms: i64) {
    device.readings += heard.readings;
    device.bad_values += heard.bad_values;
    device.failures += heard.failures;
    device.timeouts += heard.timeouts;
    if heard.readings > 0 {
        device.last_reading_ms = Some(now_ms);
    }
    let state = match heard {
        Heard { is_silent: true, .. } => "silent",
        Heard { readings: 1.., .. } => "answers",
        _ => "",
    };
    if !state.is_empty() && device.state != state {
        state.clone_into(&mut device.state);
    }
    device.last_error = heard.last_error.or(device.last_error.take());
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn jitter(window: &VecDeque<u64>) -> JitterStatus {
    let mut sorted: Vec<u64> = window.iter().copied().collect();
    sorted.sort_unstable();
    // The least one that 99 % are not above.
    let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    let of = |us: Option<&u64>| us.map_or(0.0, |us| ms(Duration::from_micros(*us)));
    JitterStatus { max_ms: of(sorted.last()), p99_ms: of(sorted.get(rank)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::DEVICES_SHOWN_MAX;

    #[test]
    fn devices_are_shown_up_to_a_limit_and_what_others_say_is_counted() {
        let board = Board::default();
        board.source("a", |_| {});
        let statistics = Statistics::new("a", board.clone());
        let said = |readings, is_silent| Heard { readings, is_silent, ..Heard::default() };
        let id = |n: usize| DeviceId::parse(&format!("d{n}")).unwrap();
        let all = (0..DEVICES_SHOWN_MAX + 2).map(|n| (id(n), said(2, false))).collect();
        statistics.heard(5_000_000, all);
        statistics.heard(9_000_000, [(id(7), said(0, true))].into());
        statistics.heard(9_000_000, [(id(8), said(1, false))].into());
        let source = board.read().sources.get("a").cloned().unwrap();
        assert_eq!((source.devices.len(), source.readings_of_others), (DEVICES_SHOWN_MAX, 4));
        let shown = |id: &str| source.devices.iter().find(|device| device.id == id).unwrap();
        let of = |id: &str| (shown(id).state.as_str(), shown(id).readings, shown(id).last_reading_ms);
        assert_eq!(of("d7"), ("silent", 2, Some(5)));
        assert_eq!(of("d8"), ("answers", 3, Some(9)));
    }

    #[test]
    fn jitter_is_of_the_last_polls_only() {
        let board = Board::default();
        board.source("a", |_| {});
        let statistics = Statistics::new("a", board.clone());
        statistics.poll_began(Duration::from_secs(9));
        let shown = || board.read().sources.get("a").and_then(|source| source.jitter).unwrap();
        assert_eq!(shown(), JitterStatus { max_ms: 9_000.0, p99_ms: 9_000.0 });
        for n in 1..=100 {
            statistics.poll_began(Duration::from_millis(n));
        }
        assert_eq!(shown(), JitterStatus { max_ms: 9_000.0, p99_ms: 99.0 + 1.0 });
        (0..WINDOW).for_each(|_| statistics.poll_began(Duration::from_millis(2)));
        assert_eq!(shown(), JitterStatus { max_ms: 2.0, p99_ms: 2.0 });
        assert_eq!(board.read().sources.get("a").unwrap().polls, 101 + WINDOW as u64);
    }
}
