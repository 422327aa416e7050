//! What is known of the readings of one window.

use minicbor::{Decode, Encode};
use tideline_protocol::value::{Boxes, Quality, Value};

use crate::definition::Aggregate;

/// Sums over good numbers, in the order of arrival, and a count of what was left out.
#[derive(Debug, Clone, Copy, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Sums {
    #[n(0)]
    count: u64,
    #[n(1)]
    bad: u64,
    #[n(2)]
    min: f64,
    #[n(3)]
    max: f64,
    #[n(4)]
    sum: f64,
    /// Mean and sum of squared differences from it, by Welford's recurrence (1962).
    #[n(5)]
    mean: f64,
    #[n(6)]
    squares: f64,
    /// Time in ns and value.
    #[n(7)]
    first: (i64, f64),
    #[n(8)]
    last: (i64, f64),
}

impl Sums {
    /// Adds a good number.
    pub fn add(&mut self, (time_ns, number): (i64, f64)) {
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            (self.min, self.max) = (number, number);
            (self.first, self.last) = ((time_ns, number), (time_ns, number));
        }
        (self.min, self.max) = (self.min.min(number), self.max.max(number));
        self.sum += number;
        let away = number - self.mean;
        self.mean += away / self.counted();
        self.squares += away * (number - self.mean);
        if time_ns < self.first.0 {
            self.first = (time_ns, number);
        }
        if time_ns >= self.last.0 {
            self.last = (time_ns, number);
        }
    }

    /// Counts a reading that is not good.
    pub fn add_bad(&mut self) {
        self.bad = self.bad.saturating_add(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "no window has 2^53 readings")]
    const fn counted(&self) -> f64 {
        self.count as f64
    }

    /// The word of a result; what is no count of a window that was `cut` off is uncertain.
    #[expect(clippy::cast_precision_loss, reason = "no window has 2^53 readings")]
    pub fn result(&self, aggregate: Aggregate, cut: bool, boxes: &mut Boxes) -> f64 {
        let quality = if self.bad == 0 && !cut { Quality::Good } else { Quality::Uncertain };
        let number = match aggregate {
            Aggregate::Count => return self.counted(),
            Aggregate::Bad => return self.bad as f64,
            _ if self.count == 0 => return boxes.word(Value::Null, Quality::Bad),
            Aggregate::Deviation if self.count == 1 => return boxes.word(Value::Null, quality),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Sum => self.sum,
            Aggregate::Mean => self.sum / self.counted(),
            Aggregate::First => self.first.1,
            Aggregate::Last => self.last.1,
            Aggregate::Deviation => (self.squares / (self.counted() - 1.0)).max(0.0).sqrt(),
        };
        if number.is_finite() {
            boxes.word(Value::Float(number), quality)
        } else {
            // Numbers near the greatest double have a sum that is none.
            boxes.word(Value::Null, Quality::Bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_the_good_numbers() {
        let mut sums = Sums::default();
        [(3, 2.0), (1, 4.0), (2, 9.0), (3, 5.0)].into_iter().for_each(|row| sums.add(row));
        let mut boxes = Boxes::new();
        let results = Aggregate::ALL.map(|aggregate| sums.result(aggregate, false, &mut boxes));
        let deviation = (26.0_f64 / 3.0).sqrt();
        assert_eq!(results, [4.0, 0.0, 2.0, 9.0, 20.0, 5.0, 4.0, 5.0, deviation]);
    }

    #[test]
    fn what_was_left_out_shows_in_the_quality() {
        let (mut sums, mut boxes) = (Sums::default(), Boxes::new());
        sums.add_bad();
        let none = sums.result(Aggregate::Mean, false, &mut boxes);
        assert_eq!(boxes.value(none, Default::default()), (Value::Null, Quality::Bad));
        assert_eq!(
            (
                sums.result(Aggregate::Count, false, &mut boxes),
                sums.result(Aggregate::Bad, false, &mut boxes)
            ),
            (0.0, 1.0)
        );
        sums.add((0, 7.0));
        let mean = sums.result(Aggregate::Mean, false, &mut boxes);
        assert_eq!(boxes.value(mean, Default::default()), (Value::Float(7.0), Quality::Uncertain));
        let deviation = sums.result(Aggregate::Deviation, false, &mut boxes);
        assert_eq!(boxes.value(deviation, Default::default()), (Value::Null, Quality::Uncertain));
        sums.add((1, f64::MAX));
        sums.add((2, f64::MAX));
        let min = sums.result(Aggregate::Min, true, &mut boxes);
        assert_eq!(boxes.value(min, Default::default()), (Value::Float(7.0), Quality::Uncertain));
        let sum = sums.result(Aggregate::Sum, false, &mut boxes);
        assert_eq!(boxes.value(sum, Default::default()), (Value::Null, Quality::Bad));
    }
}
