//! Figures of groups of series.
//!
//! A quantile is that of all readings of the group. The mean over time is that of its series, each for as long as its
//! values held in the bucket; a series without a reading in a bucket is not in that.

use std::collections::BTreeMap;

use super::{FigureColumn, READINGS_MAX, Source};
use crate::buckets::Aggregate;
use crate::config::StoreError;
use crate::hot::SeriesId;
use crate::query::GroupColumn;
use crate::sketch::{BINS_MAX, Sketch};

/// Most buckets of all groups with quantiles: a sketch may take 32 KB.
const SKETCHES_MAX: usize = 10_000;

/// One bucket of a group.
#[derive(Default)]
struct Sum {
    count: u64,
    sketch: Sketch,
    // The means of the series by how long they held.
    held: Vec<(f64, f64)>,
    near: bool,
}

impl Source<'_> {
    /// The figures of groups whose buckets are known; with `raw` of readings, however many.
    ///
    /// # Errors
    /// It is too much, a file cannot be read, or it was canceled.
    pub fn groups(
        &self,
        (groups, columns): (&[Vec<SeriesId>], &mut [GroupColumn]),
        raw: bool,
    ) -> Result<(), StoreError> {
        let cells: usize = columns.iter().map(|column| column.buckets.len()).sum();
        if !self.figures.quantiles.is_empty() && cells > SKETCHES_MAX {
            let allowed = format!("{cells} buckets with quantiles; allowed are {SKETCHES_MAX} of all groups");
            return Err(StoreError::Query(allowed));
        }
        let parts = columns.iter().flat_map(|column| &column.buckets);
        let all = parts.fold(0_u64, |sum, (_, part)| sum.saturating_add(part.count));
        let stored = !raw && self.is_stored() && all > self.figures.readings_max;
        if !stored && all > READINGS_MAX {
            return Err(StoreError::Query(format!(
                "quantiles and means over time are made of {all} readings here; allowed are {READINGS_MAX}"
            )));
        }
        for (group, column) in groups.iter().zip(columns) {
            column.figures = Some(self.group(group, &column.buckets, stored)?);
        }
        Ok(())
    }

    fn group(
        &self,
        group: &[SeriesId],
        buckets: &[(i64, Aggregate)],
        stored: bool,
    ) -> Result<FigureColumn, StoreError> {
        let mut out = FigureColumn {
            quantiles: vec![Vec::with_capacity(buckets.len()); self.figures.quantiles.len()],
            ..FigureColumn::default()
        };
        let mut sums: BTreeMap<i64, Sum> = BTreeMap::new();
        for id in group {
            let cells = self.cells(*id, stored)?;
            out.tier = out.tier.coarser(cells.tier);
            let mut before = match cells.by_start.keys().next().filter(|_| self.figures.time_weighted) {
                Some(start) => self.before(*id, self.span(*start).0)?,
                None => None,
            };
            for (start, cell) in cells.by_start {
                let sum = sums.entry(start).or_default();
                sum.count = sum.count.saturating_add(cell.count);
                sum.sketch.merge(&cell.sketch, BINS_MAX);
                if self.figures.time_weighted
                    && let Some(held) = self.held(*id, &cell)?
                {
                    let (begin_ns, end_ns) = self.span(start);
                    let mean = held.mean(begin_ns, end_ns, before);
                    sum.held.push((mean, held.length(begin_ns, end_ns, before)));
                    sum.near |= held.near;
                    before = Some(held.last);
                }
            }
        }
        for (start, part) in buckets {
            let sum = sums.get(start).filter(|sum| sum.count >= part.count);
            self.put_sum(&mut out, part, sum);
        }
        Ok(out)
    }

    /// Adds the figures of a bucket; of none where it is not known as a whole.
    fn put_sum(&self, out: &mut FigureColumn, part: &Aggregate, sum: Option<&Sum>) {
        if self.figures.time_weighted {
            // Where nothing held for any time, the last value.
            let mean = |sum: &Sum| crate::held::weighed(sum.held.iter().copied()).unwrap_or(part.last);
            out.time_weighted.push(sum.map(mean));
            out.near.push(sum.is_some_and(|sum| sum.near));
        }
        for (quantile, values) in self.figures.quantiles.iter().zip(&mut out.quantiles) {
            values.push(sum.and_then(|sum| quantile.told(&sum.sketch, (part.min, part.max))));
        }
        if !self.figures.quantiles.is_empty() {
            out.errors.push(sum.map_or(0.0, |sum| sum.sketch.error()));
        }
    }
}
