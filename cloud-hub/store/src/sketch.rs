//! What is known of the distribution of numbers: how many lie in each of a few bins.
//!
//! A bin is all doubles that share their upper bits: sign, exponent, and as much of the mantissa as `shift` leaves. So its
//! width is a share of its numbers, as in DDSketch (Masson et al., VLDB 2019) with a linear mapping, and two bins of one
//! `shift` that lie beside each other are one of the next: collapsing doubles the width everywhere, as in UDDSketch
//! (Epicoco et al., 2020). Nothing is computed but a shift, so that every machine has the same bins.
//!
//! Up to [`FINE_BINS`] distinct numbers are each a bin of its own, and quantiles are exact. More of them widen the bins by a
//! factor of two at a time until so few are left: air pressures of 1013 ± 5 hPa are told to an eighth of one. What is
//! spread over magnitudes, or around zero, so that bins would be wider than a sixty-fourth of their numbers, keeps bins of
//! that width, up to [`BINS_MAX`].
//!
//! - Invariant: the bins depend on the numbers alone. `shift` is the least at which they are few enough, a part of the
//!   numbers never needs a greater one than all, and so whatever is added or merged in any order gives the same sketch.

use crate::column::{ColumnError, put_column, read_integers, take_column, write_integers};

/// Most bins that are narrower than a sixty-fourth of their numbers.
pub const FINE_BINS: usize = 64;
/// Most bins of any width.
pub const BINS_MAX: usize = 2048;
/// From here on a bin is a sixty-fourth of its numbers wide, or more: six bits of the mantissa are left.
const WIDE: u8 = MANTISSA_BITS - 6;
const MANTISSA_BITS: u8 = 52;
/// Numbers that are added at a time.
const TOGETHER: usize = 512;
/// Keys that are counted side by side where they lie so close together.
const DENSE: usize = 512;
/// Sign and exponent are no more than 4,096: no sketch needs a greater one.
const SHIFT_MAX: u8 = MANTISSA_BITS + 1;

/// Numbers in bins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    // So many of the lowest bits a bin does not tell.
    shift: u8,
    // Ascending, with how many numbers are in each.
    bins: Vec<(u64, u64)>,
}

/// Doubles in their order, as integers; both zeros are one.
const fn key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

const fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

/// Adds up what is in one bin, of bins in order.
fn tidy(bins: &mut Vec<(u64, u64)>) {
    bins.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1);
        }
        same
    });
}

/// How many there are of each key, in order.
fn binned(keys: &mut [u64]) -> Vec<(u64, u64)> {
    let (Some(low), Some(high)) = (keys.iter().min().copied(), keys.iter().max().copied()) else {
        return Vec::new();
    };
    if high - low < DENSE as u64 {
        let mut counts = [0_u64; DENSE];
        for key in keys.iter() {
            let count = usize::try_from(key - low).ok().and_then(|at| counts.get_mut(at));
            count.into_iter().for_each(|count| *count += 1);
        }
        let bins = counts.into_iter().zip(low..=high);
        return bins.filter(|(count, _)| *count > 0).map(|(count, bin)| (bin, count)).collect();
    }
    keys.sort_unstable();
    keys.chunk_by(|a, b| a == b).filter_map(|same| Some((*same.first()?, same.len() as u64))).collect()
}

impl Sketch {
    /// Adds numbers, of which none is NaN. `keys` is room to work in.
    pub fn add(&mut self, numbers: &[f64], keys: &mut Vec<u64>) {
        self.add_fine(numbers, FINE_BINS, keys);
    }

    /// As [`Self::add`], with more fine bins; what is stored must not have more.
    pub fn add_fine(&mut self, numbers: &[f64], fine: usize, keys: &mut Vec<u64>) {
        // Once some have shown how wide the bins are, the others need not be sorted.
        for some in numbers.chunks(TOGETHER) {
            keys.clear();
            keys.extend(some.iter().map(|number| key(*number) >> self.shift));
            let own = binned(keys);
            self.put(&own);
            self.narrow(fine);
        }
    }

    /// Adds what another one holds. With more `fine` bins than [`FINE_BINS`] it stays as exact as both were for longer; what
    /// is stored again must not have more.
    pub fn merge(&mut self, other: &Self, fine: usize) {
        self.widen(other.shift);
        let by = self.shift - other.shift;
        let mut own: Vec<(u64, u64)> = other.bins.iter().map(|(bin, count)| (bin >> by, *count)).collect();
        tidy(&mut own);
        self.put(&own);
        self.narrow(fine);
    }

    /// Adds bins of the same width, which are in order.
    fn put(&mut self, own: &[(u64, u64)]) {
        if self.bins.last().is_none_or(|last| own.first().is_none_or(|first| last.0 < first.0)) {
            self.bins.extend_from_slice(own);
            return;
        }
        let mut all = Vec::with_capacity(self.bins.len() + own.len());
        let (mut a, mut b) = (self.bins.iter().copied().peekable(), own.iter().copied().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let next = if x.0 <= y.0 { a.next() } else { b.next() };
            all.extend(next);
        }
        all.extend(a);
        all.extend(b);
        tidy(&mut all);
        self.bins = all;
    }

    fn widen(&mut self, shift: u8) {
        if let Some(by) = shift.checked_sub(self.shift).filter(|by| *by > 0) {
            self.bins.iter_mut().for_each(|bin| bin.0 >>= by);
            tidy(&mut self.bins);
            self.shift = shift;
        }
    }

    /// Widens the bins until they are few enough.
    fn narrow(&mut self, fine: usize) {
        while self.bins.len() > if self.shift < WIDE { fine } else { BINS_MAX } && self.shift < SHIFT_MAX {
            self.widen(self.shift + 1);
        }
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(bin.1))
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bins.len() * size_of::<(u64, u64)>() + size_of::<Self>()
    }

    /// By which part of itself a number may differ from the one that is told for it.
    #[must_use]
    pub fn error(&self) -> f64 {
        match self.shift {
            0 => 0.0,
            // Of two exponents that share a bin.
            SHIFT_MAX => 1.5,
            shift => f64::from(i32::from(shift) - i32::from(MANTISSA_BITS) - 1).exp2(),
        }
    }

    /// The number of this rank, from 0 on, as far as it can be told.
    #[must_use]
    pub fn at(&self, rank: u64) -> Option<f64> {
        let mut below = 0_u64;
        let holds = |bin: &&(u64, u64)| {
            below = below.saturating_add(bin.1);
            below > rank
        };
        self.bins.iter().find(holds).map(|(bin, _)| self.middle(*bin))
    }

    fn middle(&self, bin: u64) -> f64 {
        let least = bin << self.shift;
        let greatest = least | ((1 << self.shift) - 1);
        // The edge nearer to zero is a number; beyond the other one there may be none.
        let (inner, outer) = if least >> 63 == 1 { (least, greatest) } else { (greatest, least) };
        let (inner, outer) = (value(inner), value(outer));
        if inner == 0.0 || !outer.is_finite() { inner } else { inner + (outer - inner) / 2.0 }
    }

    /// Whether all numbers may lie between these two, and these may be among them.
    #[must_use]
    pub fn spans(&self, min: f64, max: f64) -> bool {
        let ends = self.bins.first().zip(self.bins.last());
        ends.is_some_and(|(first, last)| {
            (first.0, last.0) == (key(min) >> self.shift, key(max) >> self.shift)
        })
    }
}

/// Writes sketches: for each its shift and its bins; for all the first bins, the steps between the others less one, and
/// the numbers in them. Each is a column of integers with its length before it.
pub fn write(out: &mut Vec<u8>, sketches: &[&Sketch]) {
    let mut columns: [Vec<i64>; 5] = Default::default();
    let [shifts, lens, firsts, steps, counts] = &mut columns;
    for sketch in sketches {
        shifts.push(i64::from(sketch.shift));
        lens.push(i64::try_from(sketch.bins.len()).unwrap_or(i64::MAX));
        firsts.extend(sketch.bins.first().map(|bin| bin.0.cast_signed()));
        let pairs = sketch.bins.windows(2);
        steps.extend(
            pairs.filter_map(|pair| Some(pair.last()?.0 - pair.first()?.0 - 1)).map(u64::cast_signed),
        );
        counts.extend(sketch.bins.iter().map(|bin| bin.1.cast_signed()));
    }
    columns.iter().for_each(|column| put_column(out, |out| write_integers(out, column)));
}

const CONTRADICTS: ColumnError = ColumnError::Malformed("a sketch contradicts itself");

/// Reads `len` sketches from the beginning of `bytes`.
///
/// # Errors
/// They are not what [`write`] wrote of so many.
pub fn read(bytes: &mut &[u8], len: usize) -> Result<Vec<Sketch>, ColumnError> {
    let mut integers = |len: usize| read_integers(take_column(bytes)?, len);
    let (shifts, lens) = (integers(len)?, integers(len)?);
    let bins_of = |len: &i64| usize::try_from(*len).ok().filter(|len| (1..=BINS_MAX).contains(len));
    let lens = lens.iter().map(|len| bins_of(len).ok_or(CONTRADICTS)).collect::<Result<Vec<_>, _>>()?;
    let all: usize = lens.iter().sum();
    let (firsts, steps, counts) = (integers(len)?, integers(all - len)?, integers(all)?);
    let (mut steps, mut counts) = (steps.into_iter(), counts.into_iter());
    let sketches = shifts.iter().zip(&lens).zip(firsts).map(|((shift, len), first)| {
        let shift = u8::try_from(*shift).ok().filter(|shift| *shift <= SHIFT_MAX).ok_or(CONTRADICTS)?;
        let (mut bin, mut bins) = (first.cast_unsigned(), Vec::with_capacity(*len));
        for (at, count) in counts.by_ref().take(*len).enumerate() {
            if at > 0 {
                let step = steps.next().ok_or(CONTRADICTS)?.cast_unsigned();
                bin = step.checked_add(1).and_then(|step| bin.checked_add(step)).ok_or(CONTRADICTS)?;
            }
            let count = u64::try_from(count).ok().filter(|count| *count > 0).ok_or(CONTRADICTS)?;
            bins.push((bin, count));
        }
        if bin > u64::MAX >> shift { Err(CONTRADICTS) } else { Ok(Sketch { shift, bins }) }
    });
    sketches.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(numbers: &[f64]) -> Sketch {
        let mut out = Sketch::default();
        out.add(numbers, &mut Vec::new());
        out
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-5_000_i32..5_000).prop_map(|n| 1013.0 + f64::from(n) / 1000.0),
            2 => (-9_i32..9).prop_map(f64::from),
            2 => any::<f64>().prop_filter("a number", |number| !number.is_nan()),
            1 => prop::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE]),
        ]
    }

    proptest! {
        #[test]
        fn any_order_and_any_parts_give_the_same_sketch(
            mut numbers in prop::collection::vec(number(), 1..400),
            cuts in prop::collection::vec(1_usize..60, 1..8),
            spread in 0_usize..3,
        ) {
            if spread == 0 {
                numbers.truncate(50);
            }
            let whole = sketch(&numbers);
            let (mut merged, mut added) = (Sketch::default(), Sketch::default());
            let mut rest = numbers.as_slice();
            for len in cuts.iter().cycle() {
                let (part, after) = rest.split_at((*len).min(rest.len()));
                merged.merge(&sketch(part), FINE_BINS);
                added.add(part, &mut Vec::new());
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(&added, &whole);
            let mut sorted = numbers.clone();
            sorted.sort_by(f64::total_cmp);
            let mut backwards = Sketch::default();
            sorted.rchunks(7).for_each(|part| backwards.merge(&sketch(part), FINE_BINS));
            prop_assert_eq!(&backwards, &whole);
            prop_assert_eq!(whole.count(), numbers.len() as u64);
            prop_assert!(whole.spans(sorted[0], sorted[sorted.len() - 1]));
        }

        #[test]
        fn a_number_is_told_within_the_error(mut numbers in prop::collection::vec(number(), 1..600)) {
            let sketch = sketch(&numbers);
            numbers.sort_by(f64::total_cmp);
            for (rank, number) in (0_u64..).zip(&numbers) {
                let told = sketch.at(rank).unwrap();
                let near = (told - number).abs() <= sketch.error() * number.abs() || told == *number;
                // Below the least normal number nothing is a share of anything.
                prop_assert!(near || (number.abs() < 1e-300 && told.abs() < 1e-300), "{told} for {number}, {}", sketch.error());
            }
            prop_assert_eq!(sketch.at(numbers.len() as u64), None);
        }

        #[test]
        fn sketches_read_back_and_no_damage_is_a_panic(
            all in prop::collection::vec(prop::collection::vec(number(), 1..200), 1..20),
            at: prop::sample::Index, with: u8, other in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let sketches: Vec<Sketch> = all.iter().map(|numbers| sketch(numbers)).collect();
            let mut out = Vec::new();
            write(&mut out, &sketches.iter().collect::<Vec<_>>());
            let mut rest = out.as_slice();
            prop_assert_eq!(&read(&mut rest, sketches.len()).unwrap(), &sketches);
            prop_assert!(rest.is_empty());
            let at = at.index(out.len());
            out[at] ^= with;
            let _ = read(&mut out.as_slice(), sketches.len());
            out.truncate(at);
            let _ = read(&mut out.as_slice(), sketches.len());
            let _ = read(&mut other.as_slice(), 3);
        }
    }

    #[test]
    fn few_numbers_are_exact_and_many_as_near_as_their_spread_allows() {
        let few: Vec<f64> = (0..3_600).map(|n| f64::from(n % 60) / 100.0 + 20.0).collect();
        let few = sketch(&few);
        assert_eq!((few.error(), few.at(59), few.at(60)), (0.0, Some(20.0), Some(20.01)));
        // Ten thousand numbers within 1013 ± 5.
        let many: Vec<f64> = (0..10_000).map(|n| 1008.0 + f64::from(n) / 1000.0).collect();
        let many = sketch(&many);
        let bins = many.bins.len();
        assert!((FINE_BINS / 2..=FINE_BINS).contains(&bins), "{bins} bins");
        assert!(many.error() * 1013.0 < 0.25, "{}", many.error());
        // Over many orders of magnitude.
        let wide: Vec<f64> = (0..10_000).map(|n| (f64::from(n) / 400.0).exp2()).collect();
        assert_eq!(sketch(&wide).error(), 1.0 / 128.0);
        // And over all that there are.
        let all: Vec<f64> = (0..200_000_u64)
            .map(|n| f64::from_bits(n * 92_000_000_000_017))
            .filter(|n| !n.is_nan())
            .collect();
        assert!(sketch(&all).bins.len() <= BINS_MAX);
    }
}
