//! Many series into few
//! (<https://prometheus.io/docs/prometheus/latest/querying/operators/#aggregation-operators>).

use std::cmp::Ordering;
use std::collections::HashMap;

use super::{Error, Evaluator, Grid, Row, misplaced};
use crate::ast::{Aggregate, AggregateOp, Expr, Grouping};
use crate::functions::{Kahan, Mean, quantile};
use crate::labels::Labels;
use crate::number;
use crate::source::Source;

impl Grouping {
    /// The labels of the group that a series belongs to.
    fn of(&self, labels: &Labels) -> Labels {
        match self {
            Self::Only(names) => labels.only(names),
            Self::Without(names) => labels.nameless().without(names),
        }
    }
}

impl<S: Source> Evaluator<'_, S> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Row>, Error> {
        let number = |param: &Option<Expr>| match param {
            Some(param) => self.scalar(param, grid),
            None => Ok(vec![f64::NAN; grid.steps]),
        };
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk => {
                let wanted = number(&aggregate.param)?;
                self.extremes(aggregate, &wanted, grid)
            }
            AggregateOp::CountValues => match &aggregate.param {
                Some(Expr::Text(label)) => self.count_values(aggregate, label, grid),
                _ => Err(misplaced(&aggregate.expr)),
            },
            op => {
                let param = number(&aggregate.param)?;
                let rows = self.vector(&aggregate.expr, grid)?;
                let (groups, places) = grouped(&aggregate.grouping, &rows);
                self.spend_points(groups.len(), grid)?;
                let empty = |labels| Row { labels, values: vec![None; grid.steps] };
                let mut out: Vec<Row> = groups.into_iter().map(empty).collect();
                let mut values: Vec<Vec<f64>> = vec![Vec::new(); out.len()];
                for (step, param) in param.iter().enumerate() {
                    self.check()?;
                    for (row, place) in rows.iter().zip(&places) {
                        if let (Some(value), Some(group)) = (row.value(step), values.get_mut(*place)) {
                            group.push(value);
                        }
                    }
                    for (row, values) in out.iter_mut().zip(&mut values) {
                        if let Some(value) = folded(op, *param, values) {
                            row.set(step, value);
                        }
                        values.clear();
                    }
                }
                Ok(out)
            }
        }
    }

    /// The largest or the smallest of each group, with their own labels; at one time, in their order.
    fn extremes(&self, aggregate: &Aggregate, wanted: &[f64], grid: Grid) -> Result<Vec<Row>, Error> {
        let rows = self.vector(&aggregate.expr, grid)?;
        let (groups, places) = grouped(&aggregate.grouping, &rows);
        self.spend_points(rows.len(), grid)?;
        let order = |a: &(f64, usize), b: &(f64, usize)| {
            let nan_last = a.0.is_nan().cmp(&b.0.is_nan());
            let by_value = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
            nan_last.then(if aggregate.op == AggregateOp::Topk { by_value.reverse() } else { by_value })
        };
        let empty = |row: &Row| Row { labels: row.labels.clone(), values: vec![None; grid.steps] };
        let mut out: Vec<Row> = rows.iter().map(empty).collect();
        let mut rank: Vec<usize> = vec![usize::MAX; rows.len()];
        for (step, wanted) in wanted.iter().enumerate() {
            self.check()?;
            let wanted = Self::whole(*wanted)?;
            let mut values: Vec<Vec<(f64, usize)>> = vec![Vec::new(); groups.len()];
            for (at, (row, place)) in rows.iter().zip(&places).enumerate() {
                if let (Some(value), Some(group)) = (row.value(step), values.get_mut(*place)) {
                    group.push((value, at));
                }
            }
            let mut next = 0;
            for mut group in values {
                group.sort_by(order);
                for (value, at) in group.into_iter().take(wanted) {
                    if let Some(row) = out.get_mut(at) {
                        row.set(step, value);
                    }
                    if let Some(rank) = rank.get_mut(at) {
                        *rank = next;
                    }
                    next += 1;
                }
            }
        }
        if grid.steps == 1 {
            let mut ranked: Vec<(usize, Row)> = rank.into_iter().zip(out).collect();
            ranked.sort_by_key(|(rank, _)| *rank);
            return Ok(ranked.into_iter().map(|(_, row)| row).collect());
        }
        Ok(out)
    }

    fn count_values(&self, aggregate: &Aggregate, label: &str, grid: Grid) -> Result<Vec<Row>, Error> {
        let grouping = match &aggregate.grouping {
            Grouping::Only(names) => {
                Grouping::Only(names.iter().cloned().chain([label.to_owned()]).collect())
            }
            without @ Grouping::Without(_) => without.clone(),
        };
        let rows = self.vector(&aggregate.expr, grid)?;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Row> = Vec::new();
        for step in 0..grid.steps {
            self.check()?;
            for row in &rows {
                let Some(value) = row.value(step) else { continue };
                let labels = grouping.of(&row.labels.with(label, &number::plain(value)));
                let place = *places.entry(labels.clone()).or_insert(out.len());
                if place == out.len() {
                    self.spend_points(1, grid)?;
                    out.push(Row { labels, values: vec![None; grid.steps] });
                }
                if let Some(counted) = out.get_mut(place) {
                    let count = counted.value(step).unwrap_or(0.0);
                    counted.set(step, count + 1.0);
                }
            }
        }
        Ok(out)
    }
}

/// The labels of each group in the order in which they are met, and which group each row is of.
fn grouped(grouping: &Grouping, rows: &[Row]) -> (Vec<Labels>, Vec<usize>) {
    let mut known: HashMap<Labels, usize> = HashMap::new();
    let mut groups = Vec::new();
    let places = rows.iter().map(|row| {
        let labels = grouping.of(&row.labels);
        *known.entry(labels).or_insert_with_key(|labels| {
            groups.push(labels.clone());
            groups.len() - 1
        })
    });
    let places = places.collect();
    (groups, places)
}

/// The aggregate of the values of one group at one step.
fn folded(op: AggregateOp, param: f64, values: &mut [f64]) -> Option<f64> {
    let (first, rest) = values.split_first()?;
    let first = *first;
    let of_all = |start: f64, with: fn(f64, f64) -> f64| rest.iter().copied().fold(start, with);
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 series")]
    Some(match op {
        AggregateOp::Sum => {
            let mut sum = Kahan::of(first);
            rest.iter().for_each(|v| sum.add(*v));
            sum.total()
        }
        AggregateOp::Avg => {
            let mut mean = Mean::of(first);
            rest.iter().for_each(|v| mean.add(*v));
            mean.value()
        }
        AggregateOp::Min => of_all(first, |min, v| if v < min || min.is_nan() { v } else { min }),
        AggregateOp::Max => of_all(first, |max, v| if v > max || max.is_nan() { v } else { max }),
        AggregateOp::Stddev => variance(first, rest).sqrt(),
        AggregateOp::Stdvar => variance(first, rest),
        AggregateOp::Quantile => quantile(param, values),
        AggregateOp::Count => values.len() as f64,
        AggregateOp::Group | AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::CountValues => 1.0,
    })
}

/// Of the population, by Welford's method.
fn variance(first: f64, rest: &[f64]) -> f64 {
    if !first.is_finite() {
        return f64::NAN;
    }
    let (mut count, mut mean, mut squares) = (1.0, first, 0.0);
    for value in rest {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}
