//! One direction of the network between two ends.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// How bad the line is; probabilities per frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The frame never arrives.
    pub loss: f64,
    /// It arrives twice.
    pub duplication: f64,
    /// One of its bits is flipped.
    pub corruption: f64,
    /// Longest delay in ns; frames overtake one another when it is above zero.
    pub delay_ns: u64,
}

impl Faults {
    /// Each fault is there in half of the cases.
    pub fn drawn(rng: &mut StdRng) -> Self {
        let chance =
            |rng: &mut StdRng, max: f64| if rng.random_bool(0.5) { rng.random_range(0.0..max) } else { 0.0 };
        Self {
            loss: chance(rng, 0.2),
            duplication: chance(rng, 0.2),
            corruption: chance(rng, 0.02),
            delay_ns: if rng.random_bool(0.5) { rng.random_range(0..100_000_000) } else { 0 },
        }
    }
}

/// Frames on their way.
#[derive(Debug, Default)]
pub struct Line {
    /// What may happen to a frame.
    pub faults: Faults,
    /// Until then nothing that is sent arrives, and nobody is told.
    pub parted_until_ns: u64,
    // By time of arrival, then in the order sent.
    frames: BTreeMap<(u64, u64), Vec<u8>>,
    sent: u64,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// Takes a frame.
    pub fn send(&mut self, now_ns: u64, mut bytes: Vec<u8>, rng: &mut StdRng) {
        let faults = self.faults;
        if now_ns < self.parted_until_ns || rng.random_bool(faults.loss) {
            return;
        }
        if rng.random_bool(faults.corruption) {
            let at = rng.random_range(0..bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        let copies = 1 + u64::from(rng.random_bool(faults.duplication));
        for _ in 0..copies {
            let delay = if faults.delay_ns > 0 { rng.random_range(0..=faults.delay_ns) } else { 0 };
            self.sent += 1;
            self.frames.insert((now_ns + delay, self.sent), bytes.clone());
        }
    }

    /// The next frame that has arrived by `now_ns`.
    pub fn receive(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let first = self.frames.first_entry()?;
        if first.key().0 > now_ns { None } else { Some(first.remove()) }
    }

    /// Cuts the line: everything on it is lost.
    pub fn cut(&mut self) {
        self.frames.clear();
    }

    /// From now on everything arrives at once.
    pub fn heal(&mut self) {
        (self.faults, self.parted_until_ns) = (Faults::default(), 0);
    }
}
