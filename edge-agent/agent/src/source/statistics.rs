//! What is counted of a source, over all attempts at it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::status::{Board, DeviceStatus, JitterStatus};

/// Poll starts whose lateness is remembered: some minutes of one that polls each second.
const WINDOW: usize = 512;

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
            if let Some(device) = source.devices.iter_mut().find(|device| device.id == id) {
                return change(device);
            }
            let mut device = DeviceStatus { id: id.to_owned(), ..DeviceStatus::default() };
            change(&mut device);
            source.devices.push(device);
        });
    }

    /// Readings or lines are not taken.
    pub fn rejected(&self, readings: u64, error: &str) {
        self.board.rejected(&self.name, readings, error);
    }
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
