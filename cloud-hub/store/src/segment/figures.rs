//! Blocks of figures: of each bucket of a rollup the mean over time, and how its readings are distributed. They stand
//! apart from the other columns, so that only who asks for them reads them.
//!
//! ```text
//! starts                                  integers, ns
//! whether the mean is near (see `held`)   integers, 0 or 1
//! means over time - what regular readings would give, (sum - last) / (count - 1)      doubles
//! sketches                                as `sketch` has them
//! ```
//! Each column has its length before it as a varint. The difference of the means is 0 where it is within what the additions
//! can have cost, and the mean itself where nothing can be subtracted. Sum, last and count are those of the bucket in
//! the columns of its level, without which a figure says nothing.

use super::FIGURE_ROWS;
use crate::buckets::Aggregate;
use crate::column::{
    ColumnError, put_column, read_integers, read_values, take_column, write_integers, write_values,
};
use crate::held::Held;
use crate::sketch::{self, Sketch};

/// What is known of one bucket besides its aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Where it begins, ns.
    pub start_ns: i64,
    // As the file has it.
    difference: f64,
    near: bool,
    /// How its readings are distributed; empty when that was not asked for.
    pub sketch: Sketch,
}

/// The mean over time of readings at a steady pace.
fn steady(part: &Aggregate) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no bucket holds 2^53 readings")]
    let others = part.count.saturating_sub(1) as f64;
    if others > 0.0 { (part.sum - part.last) / others } else { part.last }
}

impl Figure {
    /// Of a bucket.
    #[must_use]
    pub fn new(start_ns: i64, part: &Aggregate, held: &Held, sketch: Sketch) -> Self {
        let steady = steady(part);
        let difference = held.mean - steady;
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        let lost = part.count as f64 * f64::EPSILON * part.min.abs().max(part.max.abs());
        let difference = match difference {
            _ if !steady.is_finite() => held.mean,
            difference if difference.abs() <= lost => 0.0,
            difference => difference,
        };
        Self { start_ns, difference, near: held.near, sketch }
    }

    /// What was held in its bucket.
    #[must_use]
    pub fn held(&self, part: &Aggregate) -> Held {
        let steady = steady(part);
        let mean = if steady.is_finite() { steady + self.difference } else { self.difference };
        // Never beyond the readings.
        let mean = if mean.is_nan() { mean } else { mean.max(part.min).min(part.max) };
        Held { first_ns: part.first_ns, last_ns: part.last_ns, last: part.last, mean, near: self.near }
    }
}

/// Writes a block.
pub fn write(out: &mut Vec<u8>, figures: &[Figure]) {
    let starts: Vec<i64> = figures.iter().map(|figure| figure.start_ns).collect();
    let near: Vec<i64> = figures.iter().map(|figure| i64::from(figure.near)).collect();
    let differences: Vec<f64> = figures.iter().map(|figure| figure.difference).collect();
    put_column(out, |out| write_integers(out, &starts));
    put_column(out, |out| write_integers(out, &near));
    put_column(out, |out| {
        write_values(out, &differences);
    });
    let sketches: Vec<&Sketch> = figures.iter().map(|figure| &figure.sketch).collect();
    sketch::write(out, &sketches);
}

/// Reads a block of `len` figures, with their sketches where these are asked for.
///
/// # Errors
/// It is not a block of so many.
pub fn read(block: &[u8], len: usize, sketched: bool) -> Result<Vec<Figure>, ColumnError> {
    if len > FIGURE_ROWS {
        return Err(ColumnError::Malformed("a block of figures has too many rows"));
    }
    let mut columns = block;
    let starts = read_integers(take_column(&mut columns)?, len)?;
    let near = read_integers(take_column(&mut columns)?, len)?;
    let differences = read_values(take_column(&mut columns)?, len)?;
    let mut sketches = Vec::new();
    if sketched {
        sketches = sketch::read(&mut columns, len)?;
        if !columns.is_empty() {
            return Err(ColumnError::Malformed("a block of figures goes on behind its end"));
        }
    }
    let mut sketches = sketches.into_iter();
    let rows = starts.into_iter().zip(near).zip(differences);
    let figures = rows.map(|((start_ns, near), difference)| {
        let sketch = sketches.next().unwrap_or_default();
        Figure { start_ns, difference, near: near != 0, sketch }
    });
    Ok(figures.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A figure of each hundred rows, as a writer makes them.
    fn figures(rows: &[(i64, f64)]) -> (Vec<Figure>, Vec<(Aggregate, Held)>) {
        let of = |rows: &[(i64, f64)]| {
            let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
            let (part, held) = (Aggregate::of_rows(&times, &values)?, Held::of(&times, &values)?);
            let mut sketch = Sketch::default();
            sketch.add(&values, &mut Vec::new());
            Some((Figure::new(times[0], &part, &held, sketch), (part, held)))
        };
        rows.chunks(100).filter_map(of).unzip()
    }

    fn written(figures: &[Figure]) -> Vec<u8> {
        let mut block = Vec::new();
        write(&mut block, figures);
        block
    }

    #[test]
    fn means_of_steady_readings_take_no_room() {
        let rows: Vec<(i64, f64)> =
            (0..10_000_i32).map(|n| (i64::from(n) * 1_000_000_000, f64::from(n % 5) / 100.0)).collect();
        let (figures, _) = figures(&rows);
        assert!(figures.iter().all(|figure| figure.difference == 0.0));
        let len = written(&figures).len();
        assert!(len < figures.len() * 3 + 100, "{len} bytes of {}", figures.len());
    }

    proptest! {
        #[test]
        fn figures_read_back(
            rows in prop::collection::vec((1_i64..5_000_000_000, prop_oneof![
                (-9_999_i32..9_999).prop_map(|n| f64::from(n) / 100.0),
                any::<f64>().prop_filter("a number", |value| !value.is_nan()),
            ]), 1..900),
        ) {
            let mut at = -90_000_000_000_i64;
            let rows: Vec<(i64, f64)> = rows.iter().map(|(step, value)| { at += step; (at, *value) }).collect();
            let (figures, parts) = figures(&rows);
            let block = written(&figures);
            prop_assert_eq!(read(&block, figures.len(), true).unwrap(), figures.clone());
            for ((found, figure), (part, held)) in read(&block, figures.len(), false).unwrap().iter().zip(&figures).zip(&parts) {
                prop_assert_eq!(found.start_ns, figure.start_ns);
                let size = part.count as f64 * part.min.abs().max(part.max.abs());
                let mean = found.held(part).mean;
                let near = (mean - held.mean).abs() <= 1e-12 * size || mean == held.mean;
                prop_assert!(near || !size.is_finite(), "{mean} for {}", held.mean);
            }
        }

        #[test]
        fn damage_is_an_error_or_other_figures_and_no_panic(at: prop::sample::Index, with: u8) {
            let rows: Vec<(i64, f64)> = (0..900_i32).map(|n| (i64::from(n * n), f64::from(n % 77) / 8.0)).collect();
            let (figures, _) = figures(&rows);
            let mut block = written(&figures);
            let at = at.index(block.len());
            block[at] ^= with;
            let _ = read(&block, figures.len(), true);
            block.truncate(at);
            let _ = read(&block, figures.len(), true);
        }
    }
}
