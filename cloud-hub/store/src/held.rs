//! What a series held over time, by the last reading carried forward: the mean over the time between the first and the last of
//! some readings. Of two spans of time that do not overlap that of both is known without their readings.

/// What is known of readings that follow each other without another one between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// The time of the first, ns.
    pub first_ns: i64,
    /// The time of the last, ns.
    pub last_ns: i64,
    /// The last value, which holds on.
    pub last: f64,
    /// The mean of what was held from the first to the last; where there is no time between them, the last value.
    pub mean: f64,
    /// Whether `mean` is no more than near: others lay between these readings, and are not known one by one any more.
    pub near: bool,
}

#[expect(clippy::cast_precision_loss, reason = "a length of time as a part of another")]
fn length(from_ns: i64, to_ns: i64) -> f64 {
    if to_ns > from_ns { to_ns.abs_diff(from_ns) as f64 } else { 0.0 }
}

/// Readings that are added up at a time.
const TOGETHER: usize = 64;

/// The mean of values by their lengths in time; none where these are all 0.
#[must_use]
pub fn weighed(parts: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let all: f64 = parts.clone().map(|part| part.1).sum();
    let held = || parts.clone().filter(|part| part.1 > 0.0);
    let base = held().next()?.0;
    // Each as a part of the mean, so that no sum is larger than the values; from the first one on, so that what does not
    // change is as it was.
    let mean = base + held().map(|part| (part.0 - base) * (part.1 / all)).sum::<f64>();
    Some(if mean.is_finite() { mean } else { held().map(|part| part.0 * (part.1 / all)).sum() })
}

impl Held {
    /// Of readings in order of time, of which none is NaN; none of none.
    #[must_use]
    pub fn of(times: &[i64], values: &[f64]) -> Option<Self> {
        let (first_ns, last_ns, last) = (*times.first()?, *times.last()?, *values.last()?);
        let mut out = Self { first_ns, last_ns, last, mean: last, near: false };
        let all = length(first_ns, last_ns);
        if all <= 0.0 {
            return Some(out);
        }
        // From the first value on, so that what does not change is as it was; and in two steps, so that fewer additions
        // follow each other.
        let base = *values.first()?;
        let (mut from_ns, mut sum) = (first_ns, 0.0);
        for (times, values) in times.get(1..)?.chunks(TOGETHER).zip(values.chunks(TOGETHER)) {
            let mut some = 0.0;
            for (time_ns, value) in times.iter().zip(values) {
                some += (value - base) * length(std::mem::replace(&mut from_ns, *time_ns), *time_ns);
            }
            sum += some;
        }
        out.mean = base + sum / all;
        if !out.mean.is_finite() {
            // Each as a part of the mean, so that no sum is larger than the values.
            let spans = times.windows(2).zip(values).filter_map(|(pair, value)| match pair {
                [from, to] => Some((*value, length(*from, *to))),
                _ => None,
            });
            out.mean = weighed(spans)?;
        }
        Some(out)
    }

    /// Whether these readings come before those of another, which arrived `later` than these, or earlier.
    const fn is_before(&self, other: &Self, later: bool) -> bool {
        self.last_ns < other.first_ns || (later && self.last_ns == other.first_ns)
    }

    /// Adds what comes after these.
    pub fn extend(&mut self, next: &Self) {
        let parts = [
            (self.mean, length(self.first_ns, self.last_ns)),
            (self.last, length(self.last_ns, next.first_ns)),
            (next.mean, length(next.first_ns, next.last_ns)),
        ];
        let mean = weighed(parts.into_iter()).unwrap_or(next.last);
        *self = Self { first_ns: self.first_ns, mean, near: self.near | next.near, ..*next };
    }

    /// Those of which one began before the others had ended, as one: none held for less than its own time.
    fn mixed(cluster: &[Self]) -> Option<Self> {
        let first_ns = cluster.iter().map(|held| held.first_ns).min()?;
        // Of equal times the one that arrived last.
        let last = cluster.iter().max_by_key(|held| held.last_ns)?;
        let spans = cluster.iter().map(|held| (held.mean, length(held.first_ns, held.last_ns)));
        let mean = weighed(spans).unwrap_or(last.last);
        Some(Self { first_ns, mean, near: true, ..*last })
    }

    /// Of several, in order of arrival. Where some overlap, `exact` is asked for what was held from the first to the last
    /// time of these, and may not know: then it is near.
    ///
    /// # Errors
    /// As `exact`.
    pub fn all<E>(
        parts: &[Self],
        mut exact: impl FnMut(i64, i64) -> Result<Option<Self>, E>,
    ) -> Result<Option<Self>, E> {
        let mut order: Vec<(usize, &Self)> = parts.iter().enumerate().collect();
        order.sort_by_key(|(_, held)| held.first_ns);
        let (mut out, mut rest) = (None::<Self>, order.as_slice());
        while let Some(((no, first), _)) = rest.split_first() {
            let (mut end, mut len) = ((*no, **first), 1);
            for (no, next) in rest.iter().skip(1) {
                if end.1.is_before(next, end.0 < *no) {
                    break;
                }
                len += 1;
                if next.last_ns > end.1.last_ns || (next.last_ns == end.1.last_ns && *no > end.0) {
                    end = (*no, **next);
                }
            }
            let (cluster, after) = rest.split_at(len);
            let mut found = **first;
            if len > 1 {
                let known = exact(first.first_ns, end.1.last_ns)?;
                let mut arrived: Vec<(usize, &Self)> = cluster.to_vec();
                arrived.sort_by_key(|(no, _)| *no);
                let arrived: Vec<Self> = arrived.into_iter().map(|(_, held)| *held).collect();
                found = known.or_else(|| Self::mixed(&arrived)).unwrap_or(found);
            }
            match &mut out {
                Some(out) => out.extend(&found),
                None => out = Some(found),
            }
            rest = after;
        }
        Ok(out)
    }

    /// The mean from `begin_ns` to `end_ns`, with the value that was held `before`; from the first reading on where
    /// there was none.
    #[must_use]
    pub fn mean(&self, begin_ns: i64, end_ns: i64, before: Option<f64>) -> f64 {
        weighed(self.parts(begin_ns, end_ns, before).into_iter()).unwrap_or(self.last)
    }

    /// Of how long that is the mean, ns.
    #[must_use]
    pub fn length(&self, begin_ns: i64, end_ns: i64, before: Option<f64>) -> f64 {
        self.parts(begin_ns, end_ns, before).iter().map(|part| part.1).sum()
    }

    fn parts(&self, begin_ns: i64, end_ns: i64, before: Option<f64>) -> [(f64, f64); 3] {
        let head = before.map_or((self.last, 0.0), |before| (before, length(begin_ns, self.first_ns)));
        let own = (self.mean, length(self.first_ns, self.last_ns));
        let tail = (self.last, length(self.last_ns, end_ns));
        [head, own, tail]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn of(rows: &[(i64, f64)]) -> Held {
        let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
        Held::of(&times, &values).unwrap()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * 20.0
    }

    #[test]
    fn a_value_holds_until_the_next_reading() {
        let held = of(&[(0, 10.0), (2, 20.0), (5, 40.0)]);
        assert_eq!((held.mean, held.last), (16.0, 40.0));
        assert_eq!(held.mean(0, 10, None), 28.0);
        assert_eq!(held.mean(-10, 10, Some(2.0)), 15.0);
        let one = of(&[(7, 3.0)]);
        assert_eq!(
            (one.mean(0, 7, None), one.mean(7, 7, Some(1.0)), one.mean(3, 11, Some(1.0))),
            (3.0, 3.0, 2.0)
        );
        let ends = of(&[(i64::MIN, f64::MAX), (i64::MAX, 1.0)]);
        assert_eq!(ends.mean(i64::MIN, i64::MAX, None), f64::MAX);
    }

    proptest! {
        #[test]
        fn parts_are_as_good_as_their_readings_or_say_that_they_are_not(
            mut rows in prop::collection::vec((0_i64..200, -9_i32..9, 0_usize..4), 1..60),
            mixed: bool,
        ) {
            if !mixed {
                // Each part is of a time of its own.
                rows.sort_by_key(|row| row.0);
                let len = rows.len();
                rows.iter_mut().zip(0..).for_each(|(row, at)| row.2 = at * 4 / len);
            }
            // What is of one part arrived together.
            rows.sort_by_key(|row| row.2);
            let part = |no: usize| {
                let mut own: Vec<(i64, f64)> =
                    rows.iter().filter(|row| row.2 == no).map(|row| (row.0, f64::from(row.1))).collect();
                own.sort_by_key(|row| row.0);
                (!own.is_empty()).then(|| of(&own))
            };
            let parts: Vec<Held> = (0..4).filter_map(part).collect();
            let mut all: Vec<(i64, f64)> = rows.iter().map(|row| (row.0, f64::from(row.1))).collect();
            all.sort_by_key(|row| row.0);
            let whole = of(&all);
            let read = |from: i64, to: i64| {
                let own: Vec<_> = all.iter().filter(|row| (from..=to).contains(&row.0)).copied().collect();
                Ok::<_, Infallible>(Some(of(&own)))
            };
            let exact = Held::all(&parts, read).unwrap().unwrap();
            let blind = Held::all(&parts, |_, _| Ok::<_, Infallible>(None)).unwrap().unwrap();
            for held in [exact, blind] {
                prop_assert_eq!((held.first_ns, held.last_ns, held.last), (whole.first_ns, whole.last_ns, whole.last));
                prop_assert!(held.near || near(held.mean, whole.mean), "{held:?} {whole:?}");
                prop_assert!(held.mean.abs() <= 9.0 + 1e-9);
            }
            prop_assert!(!exact.near && (mixed || !blind.near));
        }
    }
}
