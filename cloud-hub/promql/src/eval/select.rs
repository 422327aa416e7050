//! Series and samples from the source, and from subqueries.

use super::shift::{Looks, Spans};
use super::{Error, Evaluator, Grid, Row, misplaced, steps_of};
use crate::ast::{Expr, Selector, Subquery};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::source::{Of, Sample, Samples, Source};
use crate::{LOOKBACK_NS, SUBQUERY_STEP_NS};

impl<S: Source> Evaluator<'_, S> {
    fn series(&self, matchers: &[Matcher]) -> Result<Vec<(S::Id, Labels)>, Error> {
        self.check()?;
        let mut found = self.query.source.select(matchers)?;
        if found.len() > self.query.limits.series {
            return Err(Error::TooMuch(format!(
                "the selector finds {} series; allowed are {}: name the metric or the device",
                found.len(),
                self.query.limits.series
            )));
        }
        found.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(found)
    }

    fn samples(&self, id: &S::Id, range_ns: (i64, i64), of: Of) -> Result<Samples, Error> {
        self.check()?;
        let left = self.query.limits.samples.saturating_sub(self.samples.get());
        // One more than allowed tells too many from just enough.
        let samples = self.query.source.samples(id, range_ns, left.saturating_add(1), of)?;
        if samples.all.len() > left {
            return Err(Error::TooMuch(format!(
                "the query would read more than {} samples; take fewer series or a shorter range",
                self.query.limits.samples
            )));
        }
        self.samples.set(self.samples.get() + samples.all.len());
        Ok(samples)
    }

    /// The newest value of each series at each step, not older than the look-back.
    pub(super) fn selected(&self, selector: &Selector, grid: Grid) -> Result<Vec<Row>, Error> {
        self.newest(selector, grid, |sample| sample.value)
    }

    /// The same with something else of the newest samples than their values.
    pub(super) fn newest(
        &self,
        selector: &Selector,
        grid: Grid,
        of: impl Fn(&Sample) -> f64,
    ) -> Result<Vec<Row>, Error> {
        let looks = Looks::new(selector.shift, grid, self.edges);
        let mut out = Vec::new();
        for (id, labels) in self.series(&selector.matchers)? {
            let range_ns = (looks.first().saturating_sub(LOOKBACK_NS), looks.last());
            let samples = self.samples(&id, range_ns, Of::Newest)?;
            if samples.all.is_empty() {
                continue;
            }
            self.spend_points(1, grid)?;
            let spans = Spans { samples: &samples.all, looks, range_ns: samples.look_back_ns(LOOKBACK_NS) };
            let newest = |step| {
                let window = spans.window(step)?;
                let newest = window.samples.last()?;
                samples.holds(newest, window.to_ns, LOOKBACK_NS).then(|| of(newest))
            };
            out.push(Row { labels, values: (0..grid.steps).map(newest).collect() });
        }
        Ok(out)
    }

    /// Hands each series that has samples somewhere in the spans of a range selector or a subquery, one
    /// after the other; of says what samples that stand for others say.
    pub(super) fn each_span(
        &self,
        expr: &Expr,
        grid: Grid,
        of: Of,
        mut take: impl FnMut(Labels, &Spans<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match expr {
            Expr::Range(range) => {
                let looks = Looks::new(range.selector.shift, grid, self.edges);
                let after_ns = looks.first().saturating_sub(range.range_ns);
                for (id, labels) in self.series(&range.selector.matchers)? {
                    let samples = self.samples(&id, (after_ns, looks.last()), of)?.all;
                    if !samples.is_empty() {
                        take(labels, &Spans { samples: &samples, looks, range_ns: range.range_ns })?;
                    }
                }
                Ok(())
            }
            Expr::Subquery(subquery) => {
                let looks = Looks::new(subquery.shift, grid, self.edges);
                let inner = inner_grid(subquery, looks);
                for row in self.vector(&subquery.expr, inner)? {
                    self.check()?;
                    let series = row.series(inner);
                    let spans = Spans { samples: &series.samples, looks, range_ns: subquery.range_ns };
                    take(series.labels, &spans)?;
                }
                Ok(())
            }
            _ => Err(misplaced(expr)),
        }
    }
}

/// A subquery is evaluated at the multiples of its step since 1970 that lie in its spans.
fn inner_grid(subquery: &Subquery, looks: Looks) -> Grid {
    let step_ns = subquery.step_ns.unwrap_or(SUBQUERY_STEP_NS).max(1);
    let after_ns = looks.first().saturating_sub(subquery.range_ns);
    let start_ns = after_ns.div_euclid(step_ns).saturating_add(1).saturating_mul(step_ns);
    Grid { start_ns, step_ns, steps: steps_of(start_ns, looks.last(), step_ns) }
}
