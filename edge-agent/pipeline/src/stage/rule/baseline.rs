//! What a series is usually like: mean and deviation of the readings before, of all or of those of the same hour of the
//! day.
//!
//! Up to so many readings all count alike (Welford, 1962); from then on the newer ones count for more, as in the
//! incremental weighted mean and variance of Finch (2009) with a weight of one over that number. A reading far away from
//! the mean is learned as one that is at the limit: an outlier moves little, and a lasting change is what is usual
//! some time later.

use minicbor::{Decode, Encode};

/// Hours of a day, each with a baseline of its own where seasons are told apart.
pub(crate) const HOURS: usize = 24;
const HOUR_NS: i64 = 3_600_000_000_000;

/// Mean and variance of what was learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Baseline {
    #[n(0)]
    count: u64,
    #[n(1)]
    mean: f64,
    /// Of the population.
    #[n(2)]
    variance: f64,
}

/// How it is learned and asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Learning {
    /// How many readings count.
    pub readings: u64,
    /// So many are learned before any is judged.
    pub warm_up: u64,
    /// The least deviation.
    pub deviation_min: f64,
    /// How far a reading may be away at most when it is learned, in deviations.
    pub limit: f64,
    /// What is added to UTC; none where seasons are not told apart.
    pub season: Option<i64>,
}

impl Learning {
    /// Which baseline a time is of.
    pub fn hour(&self, time_ns: i64) -> usize {
        let Some(offset_ns) = self.season else { return 0 };
        let hour = time_ns.saturating_add(offset_ns).div_euclid(HOUR_NS).rem_euclid(24);
        usize::try_from(hour).unwrap_or_default()
    }
}

impl Baseline {
    /// How far a number is from the mean, in deviations; none before enough were learned, or while nothing deviates.
    pub fn score(&self, number: f64, learning: &Learning) -> Option<f64> {
        let deviation = self.deviation(learning);
        let is_known = self.count >= learning.warm_up.max(2) && deviation > 0.0;
        is_known.then(|| (number - self.mean).abs() / deviation)
    }

    fn deviation(&self, learning: &Learning) -> f64 {
        self.variance.max(0.0).sqrt().max(learning.deviation_min)
    }

    /// Learns a number.
    pub fn learn(&mut self, number: f64, learning: &Learning) {
        let mut away = number - self.mean;
        if self.score(number, learning).is_some_and(|score| score > learning.limit) {
            away = away.signum() * learning.limit * self.deviation(learning);
        }
        self.count = self.count.saturating_add(1).min(learning.readings);
        #[expect(clippy::cast_precision_loss, reason = "a million at most")]
        let weight = 1.0 / self.count as f64;
        self.mean += weight * away;
        self.variance = (1.0 - weight) * (self.variance + weight * away * away);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Learning =
        Learning { readings: 1000, warm_up: 4, deviation_min: 0.0, limit: 3.0, season: None };

    #[test]
    fn mean_and_deviation_are_those_of_the_readings() {
        let mut baseline = Baseline::default();
        let numbers = [10.0, 12.0, 9.0, 11.0, 13.0];
        numbers.iter().for_each(|number| baseline.learn(*number, &PLAIN));
        assert!((baseline.mean - 11.0).abs() < 1e-12 && (baseline.variance - 2.0).abs() < 1e-12);
        let score = baseline.score(15.0, &PLAIN).unwrap();
        assert!((score - 4.0 / 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_judged_before_enough_is_known() {
        let mut baseline = Baseline::default();
        [1.0, 2.0, 3.0].iter().for_each(|number| baseline.learn(*number, &PLAIN));
        assert_eq!(baseline.score(100.0, &PLAIN), None);
        let mut resting = Baseline::default();
        (0..10).for_each(|_| resting.learn(5.0, &PLAIN));
        assert_eq!(resting.score(5.1, &PLAIN), None);
        let tolerant = Learning { deviation_min: 0.1, ..PLAIN };
        assert!((resting.score(5.1, &tolerant).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_outlier_moves_little_and_a_lasting_change_becomes_usual() {
        let learning = Learning { readings: 50, ..PLAIN };
        let mut baseline = Baseline::default();
        (0..50).for_each(|n| baseline.learn(f64::from(n % 2), &learning));
        baseline.learn(1e9, &learning);
        assert!(baseline.mean < 1.0, "{baseline:?}");
        (0..2000).for_each(|n| baseline.learn(100.0 + f64::from(n % 2), &learning));
        assert!(baseline.score(100.0, &learning).unwrap() < 3.0, "{baseline:?}");
    }

    #[test]
    fn hours_are_those_of_the_place() {
        let of = |season| Learning { season, ..PLAIN };
        assert_eq!(of(None).hour(5 * HOUR_NS), 0);
        assert_eq!(of(Some(0)).hour(5 * HOUR_NS + 1), 5);
        assert_eq!(of(Some(-6 * HOUR_NS)).hour(5 * HOUR_NS), 23);
        assert_eq!(of(Some(0)).hour(i64::MIN) < HOURS, of(Some(HOUR_NS)).hour(i64::MAX) < HOURS);
    }
}
